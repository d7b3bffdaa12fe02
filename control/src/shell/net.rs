//! What commands see of the network beyond what its [`Status`](crate::status::Status) tells.

use core::net::IpAddr;

use smoltcp::socket::tcp::State;

use super::Refusal;
use crate::addressing::Origin;
use crate::ping::Run;
use hal::net::MacAddr;

/// The network.
pub trait Net {
    /// Neighbours by interface.
    fn neighbours(&self, show: &mut dyn FnMut(&str, &Known));
    /// Routes by interface.
    fn routes(&self, show: &mut dyn FnMut(&str, &Route));
    /// All sockets.
    fn sockets(&self, show: &mut dyn FnMut(&Socket));
    /// Begins to send echo requests.
    ///
    /// # Errors
    ///
    /// Why there is no way, or that somebody else does so already.
    fn ping(&mut self, ask: &Ask) -> Result<(), Refusal>;
    /// Goes on with that: what came of it, and when to go on, in microseconds; nothing if it is done, and then the next
    /// one may begin.
    fn pinged(&mut self, show: &mut dyn FnMut(&Run)) -> Option<u64>;
    /// Forgets all that was measured of latency.
    fn reset_latency(&mut self);
}

/// A hardware address that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Of whom it is known.
    pub address: IpAddr,
    /// What is known: its own, or for a peer of the fast path that of the next hop.
    pub mac: MacAddr,
    /// For how long, in microseconds.
    pub age_us: u64,
    /// From what: `arp`, `nd`, `flow`.
    pub source: &'static str,
}

/// Where packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// To these addresses.
    pub network: (IpAddr, u8),
    /// By way of this router; without one they are neighbours.
    pub via: Option<IpAddr>,
    /// How it came to be.
    pub origin: Origin,
}

/// A socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Since it was opened, in microseconds; none for what is always there.
    pub age_us: Option<u64>,
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
