//! What commands see of the network beyond what its [`Status`](crate::status::Status) tells.

use core::net::{IpAddr, Ipv4Addr};

use hal::net::MacAddr;
use smoltcp::iface::Interface;
use smoltcp::socket::tcp::State;
use smoltcp::wire::EthernetAddress;

use super::Refusal;
use crate::addressing::{Addressing, solicitation};
use crate::neighbours::Neighbours;
use crate::ping::{Request, Run, Step};

/// The network.
pub trait Net {
    /// The interface of this number, from 0 on, in the order of the status.
    fn port(&self, index: usize) -> Option<Port<'_>>;
    /// The peers that the fast path of an interface answers: address, next hop, and for how many microseconds it is
    /// known.
    fn flows(&self, index: usize, show: &mut dyn FnMut(Ipv4Addr, MacAddr, u64));
    /// What listens on all interfaces that serve: protocol, port, service.
    fn served(&self) -> &'static [Served];
    /// All TCP connections.
    fn connections(&self, show: &mut dyn FnMut(&Socket));
    /// Begins to send echo requests: [`begin_ping`].
    ///
    /// # Errors
    ///
    /// Why there is no way, or that another one is under way.
    fn begin_ping(&mut self, ask: &Ask, now_us: u64) -> Result<(), Refusal>;
    /// Does what is due of that: [`go_on_with_ping`]. Returns when to go on, in microseconds; nothing when it is over.
    fn go_on_with_ping(&mut self, now_us: u64) -> Option<u64>;
    /// The echo requests under way.
    fn ping(&mut self) -> &mut Option<Run>;
    /// Sends a frame of our own that `write` makes. What finds no room is counted.
    fn send(&mut self, index: usize, write: &dyn Fn(&mut [u8]) -> Option<usize>);
    /// Forgets all that was measured of latency.
    fn reset_latency(&mut self, now_us: u64);
}

/// Protocol, port, service.
pub type Served = (&'static str, u16, &'static str);

/// An interface.
pub struct Port<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its hardware address.
    pub mac: MacAddr,
    /// The stack on it.
    pub iface: &'a Interface,
    /// How it gets its addresses.
    pub addressing: &'a Addressing,
    /// Who was heard there.
    pub neighbours: &'a Neighbours,
    /// It has a link.
    pub up: bool,
    /// Services answer there.
    pub serves: bool,
    /// Bytes that wait in the UDP echo service: received, to be sent.
    pub echo: [usize; 2],
}

impl Port<'_> {
    /// The default router of a family, that of this address.
    pub fn router(&self, family: &IpAddr) -> Option<IpAddr> {
        let routes = self.iface.routes();
        let route = match family {
            IpAddr::V4(_) => routes.get_default_ipv4_route(),
            IpAddr::V6(_) => routes.get_default_ipv6_route(),
        };
        route.map(|route| route.via_router.into())
    }
}

/// A socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Socket<'a> {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Its interface; none for what listens on all of them.
    pub interface: Option<&'a str>,
    /// Our end; without an address it is any of ours.
    pub local: (Option<IpAddr>, u16),
    /// The other end.
    pub peer: Option<(IpAddr, u16)>,
    /// Of TCP.
    pub state: Option<State>,
    /// Bytes that the service has not read, and such that the peer has not acknowledged.
    pub queued: Option<[usize; 2]>,
    /// What is at our end.
    pub service: &'static str,
    /// When it was opened, in microseconds; none for what is always there.
    pub opened_us: Option<u64>,
}

/// What `ping` was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask<'a> {
    /// Whom.
    pub target: IpAddr,
    /// By this interface only.
    pub interface: Option<&'a str>,
    /// How many.
    pub count: usize,
    /// How far apart, in microseconds.
    pub interval_us: u64,
    /// Payload in bytes.
    pub size: usize,
}

/// What [`Net::begin_ping`] is for whoever has the rest.
///
/// # Errors
///
/// Why there is no way, or that another one is under way.
pub fn begin_ping(net: &mut dyn Net, ask: &Ask, now_us: u64) -> Result<(), Refusal> {
    let abandoned = |run: &Run| run.is_abandoned(now_us);
    if !net.ping().as_ref().is_none_or(abandoned) {
        return Err(Refusal::Failed("another ping is on its way"));
    }
    let request = way(net, ask)?;
    *net.ping() = Some(Run::new(request, now_us));
    Ok(())
}

/// The way to an address: interface, our address, next hop.
fn way(net: &dyn Net, ask: &Ask) -> Result<Request, Refusal> {
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
    for (index, port) in (0..).map_while(|index| Some((index, net.port(index)?))) {
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
                near.get_or_insert((index, port.up, ours, target));
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
            far.get_or_insert((index, port.up, source, router));
        }
    }
    if !found {
        return Err(Refusal::Absent("interface of that name; `link` lists them"));
    }
    if ambiguous {
        return Err(Refusal::Failed("that address needs an interface"));
    }
    match near.or(far) {
        None => Err(Refusal::Failed("there is no route to that address")),
        Some((_, false, ..)) => Err(Refusal::Failed("the link on the way there is down")),
        Some((port, _, source, next_hop)) => Ok(Request {
            port,
            target,
            source,
            next_hop,
            count: ask.count,
            interval_us: ask.interval_us,
            size: ask.size,
        }),
    }
}

/// What [`Net::go_on_with_ping`] is for whoever has the rest.
pub fn go_on_with_ping(net: &mut dyn Net, now_us: u64) -> Option<u64> {
    loop {
        let request = *net.ping().as_ref()?.request();
        let port = net.port(request.port)?;
        let to = port.neighbours.mac_of(request.next_hop, now_us);
        let from = port.mac;
        // Out of its place while its frame is being written.
        let mut run = net.ping().take()?;
        let step = run.step(now_us, to.is_some());
        match step {
            Step::Ask => net.send(request.port, &|out| {
                let mac = EthernetAddress(from);
                solicitation(mac, request.source, request.next_hop, out)
            }),
            Step::Send(sequence) => {
                run.sent(now_us);
                let to = to.unwrap_or_default();
                net.send(request.port, &|out| run.write(sequence, from, to, out));
            }
            Step::Wait(_) | Step::Done => {}
        }
        *net.ping() = Some(run);
        match step {
            Step::Wait(at_us) if at_us > now_us => return Some(at_us),
            Step::Done => return None,
            _ => {}
        }
    }
}
