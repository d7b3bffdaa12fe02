//! What the bench's commands ask of the network: neighbours, routes, sockets, and echo requests of our own.

use core::net::IpAddr;

use hal::net::{Link, Nic};
use smoltcp::socket::tcp::State;
use smoltcp::socket::udp;
use smoltcp::wire::{EthernetAddress, IpCidr};

use super::{Network, Port};
use crate::addressing::solicitation;
use crate::connections::Service;
use crate::neighbours::Neighbour;
use crate::ping::{Request, Run, Step};
use crate::services::{iperf3, irtt};
use crate::shell::Refusal;
use crate::shell::net::{Ask, Net, Route, Socket};

const MDNS: u16 = 5353;
const DHCP: u16 = 68;
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

    fn is_neighbour(&self, target: &IpAddr) -> bool {
        self.iface
            .ip_addrs()
            .iter()
            .any(|cidr| cidr.contains_addr(&(*target).into()))
    }

    /// The address that the stack would send from.
    fn source(&self, target: &IpAddr) -> Option<IpAddr> {
        match target {
            IpAddr::V4(to) => self.iface.get_source_address_ipv4(to).map(IpAddr::V4),
            IpAddr::V6(to) => Some(IpAddr::V6(self.iface.get_source_address_ipv6(to))),
        }
        .filter(|source| self.iface.has_ip_addr(*source))
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
        let meant = |port: &Port<N>| ask.interface.is_none_or(|name| name == port.name);
        let mut ports = self
            .ports
            .iter()
            .enumerate()
            .filter(|(_, port)| meant(port));
        if ports.clone().next().is_none() {
            return Err(Refusal::Absent("interface of that name; `link` lists them"));
        }
        if self.ports.iter().any(|port| port.iface.has_ip_addr(target)) {
            return Err(Refusal::Failed("that address is our own"));
        }
        let mut near = ports.clone().filter(|(_, port)| port.is_neighbour(&target));
        let (index, port, next_hop) = match (near.next(), near.next()) {
            (Some(_), Some(_)) if local => {
                return Err(Refusal::Failed("that address needs an interface"));
            }
            (Some((index, port)), _) => (index, port, target),
            (None, _) => {
                let far = |(index, port): (usize, &'_ Port<N>)| {
                    let router = port.router(&target).filter(|_| !local)?;
                    Some((index, router))
                };
                let (index, router) = ports
                    .find_map(far)
                    .ok_or(Refusal::Failed("there is no route to that address"))?;
                (index, &self.ports[index], router)
            }
        };
        if !port.link.is_some_and(Link::is_up) {
            return Err(Refusal::Failed("the link on the way there is down"));
        }
        let source = port
            .source(&target)
            .ok_or(Refusal::Failed("we have no address to send from"))?;
        Ok((index, source, next_hop))
    }

    /// Sends a frame that `write` makes; what finds no place is counted.
    fn send_raw(&mut self, index: usize, write: &dyn Fn(&mut [u8]) -> Option<usize>) {
        let port = &mut self.ports[index];
        if port.nic.transmit_space(&mut self.pool) == 0 {
            port.nic.counters_mut().tx_ring_full += 1;
            return;
        }
        let Some(mut frame) = self.pool.take() else {
            port.nic.counters_mut().tx_no_buffer += 1;
            return;
        };
        frame.set_len(hal::net::smoltcp::MAX_FRAME);
        frame.bytes_mut()[..SHORTEST].fill(0);
        let Some(len) = write(frame.bytes_mut()) else {
            self.pool.put(frame);
            return;
        };
        frame.set_len(len.max(SHORTEST));
        port.nic.transmit(frame, &mut self.pool);
        port.nic.flush();
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
    fn neighbours(&self, show: &mut dyn FnMut(&str, &Neighbour)) {
        for port in &self.ports {
            port.neighbours
                .each()
                .for_each(|neighbour| show(&port.name, neighbour));
        }
    }

    fn flows(&self, show: &mut dyn FnMut(&str, &[IpAddr; 2], [u8; 6], u64)) {
        for port in &self.ports {
            let now_us = self.services.now_us(port.flows.now_us);
            for (local, remote, mac, left_us) in port.flows.each(now_us) {
                show(&port.name, &[local.into(), remote.into()], mac, left_us);
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
        let listening = Socket {
            protocol: "tcp",
            interface: None,
            local: (None, 0),
            peer: None,
            state: Some(State::Listen),
            queued: None,
            service: "",
            age_us: None,
        };
        let served = self.ports.iter().any(|port| port.serves);
        if served {
            for port in [7, 9, 19, 80, iperf3::PORT] {
                let service = Service::at(port).map_or("", Service::word);
                show(&Socket {
                    local: (None, port),
                    service,
                    ..listening
                });
            }
            let udp = [
                (9, "discard"),
                (19, "chargen"),
                (irtt::PORT, "irtt"),
                (iperf3::PORT, "iperf3"),
            ];
            for (port, service) in udp {
                if port != 19 || self.services.chargen {
                    show(&Socket {
                        protocol: "udp",
                        local: (None, port),
                        state: None,
                        service,
                        ..listening
                    });
                }
            }
        }
        for port in &self.ports {
            let (dhcp, mdns) = port.addressing.sockets();
            let echo = port.sockets.get::<udp::Socket>(port.udp_echo);
            let echo = echo
                .is_open()
                .then_some([echo.recv_queue(), echo.send_queue()]);
            let own = [
                (7, "echo", echo.is_some(), echo),
                (DHCP, "dhcp", dhcp, None),
                (MDNS, "mdns", mdns, None),
            ];
            for (number, service, _, queued) in own.into_iter().filter(|own| own.2) {
                show(&Socket {
                    protocol: "udp",
                    interface: Some(&port.name),
                    local: (None, number),
                    state: None,
                    queued,
                    service,
                    ..listening
                });
            }
        }
        for (interface, service, socket, opened_us) in self.connections.each() {
            let port = self.ports.get(interface);
            let end = |end: smoltcp::wire::IpEndpoint| (end.addr.into(), end.port);
            let local = socket.local_endpoint().map(end);
            show(&Socket {
                interface: port.map(|port| port.name.as_str()),
                local: local.map_or((None, 0), |(address, port)| (Some(address), port)),
                peer: socket.remote_endpoint().map(end),
                state: Some(socket.state()),
                queued: Some([socket.recv_queue(), socket.send_queue()]),
                service: service.word(),
                age_us: Some(now_us.saturating_sub(opened_us)),
                ..listening
            });
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
                    self.send_raw(index, &|out| solicitation(mac, ours, whom, out));
                }
                Step::Send(sequence) => {
                    let to = to.unwrap_or_default();
                    run.sent(now_us);
                    self.send_raw(index, &|out| run.write(sequence, from, to, out));
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
