//! What commands see of the network beyond what its [`Status`](crate::status::Status) tells.

use core::net::{IpAddr, Ipv4Addr};

use hal::net::MacAddr;
use smoltcp::iface::Interface;
use smoltcp::socket::tcp::State;

use crate::addressing::Addressing;
use crate::neighbours::Neighbours;
use crate::ping::Run;

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
