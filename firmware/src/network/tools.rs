//! What the bench's commands ask of the network: neighbours, routes, sockets, and echo requests of our own.

use core::net::IpAddr;

use hal::net::smoltcp::MAX_FRAME;
use hal::net::{Link, Nic};
use smoltcp::socket::tcp::State;
use smoltcp::socket::udp;
use smoltcp::wire::{EthernetAddress, IpCidr};

use super::{Network, Port};
use crate::addressing::solicitation;
use crate::ping::{Request, Run, Step};
use crate::services::{iperf3, irtt};
use crate::shell::Refusal;
use crate::shell::net::{Ask, Known, Net, Route, Socket};

const CHARGEN: u16 = 19;
/// What listens on all interfaces.
static SERVED: [(&str, u16, &str); 9] = [
    ("tcp", 7, "echo"),
    ("tcp", 9, "discard"),
    ("tcp", CHARGEN, "chargen"),
    ("tcp", 80, "http"),
    ("tcp", iperf3::PORT, "iperf3"),
    ("udp", 9, "discard"),
    ("udp", CHARGEN, "chargen"),
    ("udp", irtt::PORT, "irtt"),
    ("udp", iperf3::PORT, "iperf3"),
];
/// Ethernet's shortest frame without the FCS.
const SHORTEST: usize = 60;

impl<N: Nic> Port<N> {
    fn router(&self, target: &IpAddr) -> Option<IpAddr> {
        let routes = self.iface.routes();
        let route = match target {
            IpAddr::V4(_) => routes.get_default_ipv4_route(),
            IpAddr::V6(_) => routes.get_default_ipv6_route(),
        };
        route.map(|route| route.via_router.into())
    }
}

impl<N: Nic> Network<N> {
    /// The way to an address: interface, our address, next hop.
    fn way(&self, ask: &Ask) -> Result<(usize, IpAddr, IpAddr), Refusal> {
        let target = ask.target;
        let (usable, local) = match target {
            IpAddr::V4(v4) => (
                !matches!(v4.octets()[0], 0 | 127 | 224..),
                v4.is_link_local(),
            ),
            IpAddr::V6(v6) => (
                !(v6.is_unspecified() || v6.is_loopback() || v6.is_multicast()),
                v6.is_unicast_link_local(),
            ),
        };
        if !usable {
            return Err(Refusal::Failed("that is nobody's address"));
        }
        let (mut near, mut far, mut found, mut ambiguous) = (None, None, false, false);
        for (index, port) in self.ports.iter().enumerate() {
            let meant = ask.interface.is_none_or(|name| name == port.name);
            found |= meant;
            // From an address in the target's network, or else from the first one of its family.
            let mut source = None;
            for cidr in port.iface.ip_addrs() {
                let ours: IpAddr = cidr.address().into();
                if ours == target {
                    return Err(Refusal::Failed("that address is our own"));
                }
                if meant && cidr.contains_addr(&target.into()) {
                    ambiguous |= local && near.is_some();
                    near.get_or_insert((index, ours, target));
                }
                if ours.is_ipv4() == target.is_ipv4() {
                    source.get_or_insert(ours);
                }
            }
            if let Some(router) = port.router(&target)
                && let Some(source) = source
                && meant
                && !local
            {
                far.get_or_insert((index, source, router));
            }
        }
        if !found {
            return Err(Refusal::Absent("interface of that name; `link` lists them"));
        }
        if ambiguous {
            return Err(Refusal::Failed("that address needs an interface"));
        }
        let no_route = Refusal::Failed("there is no route to that address");
        let way = near.or(far).ok_or(no_route)?;
        match self.ports[way.0].link.is_some_and(Link::is_up) {
            true => Ok(way),
            false => Err(Refusal::Failed("the link on the way there is down")),
        }
    }

    /// Sends a frame of our own that `write` makes. What finds no room is counted.
    #[inline(never)]
    fn send_own(&mut self, index: usize, write: &dyn Fn(&mut [u8]) -> Option<usize>) {
        let nic = &mut self.ports[index].nic;
        let Some(mut frame) = self.pool.take() else {
            nic.counters_mut().tx_no_buffer += 1;
            return;
        };
        frame.set_len(MAX_FRAME);
        frame.bytes_mut()[..SHORTEST].fill(0);
        let len = write(frame.bytes_mut()).unwrap_or(0);
        frame.set_len(len.max(SHORTEST));
        nic.transmit(frame, &mut self.pool);
        nic.flush();
    }
}

/// The first address of a network.
fn network(cidr: &IpCidr) -> IpAddr {
    let len = u32::from(cidr.prefix_len());
    match cidr.address().into() {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - len).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

impl<N: Nic> Net for Network<N> {
    fn neighbours(&self, show: &mut dyn FnMut(&str, &Known)) {
        let now_us = self.services.now_us(0);
        for port in &self.ports {
            for heard in port.neighbours.each() {
                let known = Known {
                    address: heard.address,
                    mac: heard.mac,
                    age_us: now_us.saturating_sub(heard.heard_us),
                    source: if heard.address.is_ipv4() { "arp" } else { "nd" },
                };
                show(&port.name, &known);
            }
            for (peer, mac, age_us) in port.flows.each(now_us) {
                let known = Known {
                    address: peer.into(),
                    mac,
                    age_us,
                    source: "flow",
                };
                show(&port.name, &known);
            }
        }
    }

    fn routes(&self, show: &mut dyn FnMut(&str, &Route)) {
        for port in &self.ports {
            for cidr in port.iface.ip_addrs() {
                let route = Route {
                    network: (network(cidr), cidr.prefix_len()),
                    via: None,
                    origin: port.addressing.origin(cidr),
                };
                show(&port.name, &route);
            }
            let anywhere = [
                IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(core::net::Ipv6Addr::UNSPECIFIED),
            ];
            for network in anywhere {
                if let Some(router) = port.router(&network) {
                    let route = Route {
                        network: (network, 0),
                        via: Some(router),
                        origin: port.addressing.origin_of_router(&router),
                    };
                    show(&port.name, &route);
                }
            }
        }
    }

    fn sockets(&self, show: &mut dyn FnMut(&Socket)) {
        let now_us = self.services.now_us(0);
        let mut socket = Socket {
            protocol: "",
            interface: None,
            local: (None, 0),
            peer: None,
            state: None,
            queued: None,
            service: "",
            age_us: None,
        };
        let serves = self.ports.iter().any(|port| port.serves);
        for &(protocol, number, service) in SERVED.iter().filter(|_| serves) {
            let tcp = protocol == "tcp";
            if tcp || number != CHARGEN || self.services.chargen {
                socket.state = tcp.then_some(State::Listen);
                (socket.protocol, socket.local.1, socket.service) = (protocol, number, service);
                show(&socket);
            }
        }
        (socket.protocol, socket.state) = ("udp", None);
        for port in &self.ports {
            let (dhcp, mdns) = port.addressing.sockets();
            let echo = port.sockets.get::<udp::Socket>(port.udp_echo);
            let own = [
                (7, "echo", echo.is_open()),
                (68, "dhcp", dhcp),
                (5353, "mdns", mdns),
            ];
            socket.interface = Some(&port.name);
            for (number, service, _) in own.into_iter().filter(|own| own.2) {
                let queued = [echo.recv_queue(), echo.send_queue()];
                socket.queued = (number == 7).then_some(queued);
                (socket.local.1, socket.service) = (number, service);
                show(&socket);
            }
        }
        socket.protocol = "tcp";
        for (interface, service, tcp, opened_us) in self.connections.each() {
            let port = self.ports.get(interface);
            socket.interface = port.map(|port| port.name.as_str());
            if let Some(end) = tcp.local_endpoint() {
                socket.local = (Some(end.addr.into()), end.port);
            }
            let peer = tcp.remote_endpoint();
            socket.peer = peer.map(|end| (end.addr.into(), end.port));
            socket.state = Some(tcp.state());
            socket.queued = Some([tcp.recv_queue(), tcp.send_queue()]);
            socket.service = service.word();
            socket.age_us = Some(now_us.saturating_sub(opened_us));
            show(&socket);
        }
    }

    fn ping(&mut self, ask: &Ask) -> Result<(), Refusal> {
        let now_us = self.services.now_us(0);
        if self
            .ping
            .as_ref()
            .is_some_and(|run| !run.is_abandoned(now_us))
        {
            return Err(Refusal::Failed("another ping is on its way"));
        }
        let (port, source, next_hop) = self.way(ask)?;
        let request = Request {
            port,
            target: ask.target,
            source,
            next_hop,
            count: ask.count,
            interval_us: ask.interval_us,
            size: ask.size,
        };
        self.ping = Some(Run::new(request, now_us));
        Ok(())
    }

    fn pinged(&mut self, show: &mut dyn FnMut(&Run)) -> Option<u64> {
        let mut run = self.ping.take()?;
        let request = *run.request();
        let index = request.port;
        let at_us = loop {
            let now_us = self.services.now_us(0);
            let port = self.ports.get(index)?;
            let (from, to) = (
                port.nic.mac(),
                port.neighbours.mac_of(request.next_hop, now_us),
            );
            match run.step(now_us, to.is_some()) {
                Step::Ask => {
                    let (ours, whom) = (request.source, request.next_hop);
                    let mac = EthernetAddress(from);
                    self.send_own(index, &|out| solicitation(mac, ours, whom, out));
                }
                Step::Send(sequence) => {
                    run.sent(now_us);
                    let to = to.unwrap_or_default();
                    self.send_own(index, &|out| run.write(sequence, from, to, out));
                }
                Step::Wait(at_us) if at_us > now_us => break Some(at_us),
                Step::Wait(_) => {}
                Step::Done => break None,
            }
        };
        show(&run);
        self.ping = at_us.is_some().then_some(run);
        at_us
    }

    fn reset_latency(&mut self) {
        self.latency.reset(self.services.now_us(0));
    }
}
