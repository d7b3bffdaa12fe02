//! Address configuration of one interface: static, DHCP, link-local, SLAAC, mDNS.
//!
//! Sits on top of smoltcp's `Interface` and `SocketSet` and owns every address and default route in
//! them. The poll loop belongs to the caller, who for every interface
//!
//! 1. shows each received frame that [`concerns`] us to [`Addressing::on_frame`], ahead of the stack,
//! 2. calls [`Addressing::poll`] after ingress, at [`Addressing::next_deadline`], and when the link
//!    changed,
//! 3. sends what [`Addressing::take_frame`] has, then lets the stack do its egress,
//! 4. keeps accepting frames (and drops them) while the link is down, and leaves `Config::slaac` of
//!    the interface false (why: see `slaac.rs`).
//!
//! IPv4, when nothing is configured by hand:
//!
//! ```text
//! link up ── DISCOVER at 0, 3, 6, 9 s ──► lease ──► address, gateway; announced twice by ARP
//!   │                                       ▲  └── expired or refused ──► as after link up
//!   └ 10 s without a lease ──► three probes ─┼──► 169.254/16 address, no gateway (14 to 17 s after link
//!                              in 4 to 7 s  │     up, if nobody contests it)
//!                                           └──── DISCOVER every 15 s; a lease retires the link-local
//!                                                 address 10 s later, so that requests under way finish
//! ```
//!
//! A lost link changes nothing for 4 s (a switch that restarts its port, a cable pushed home): open
//! connections survive. After that all addresses but static ones and fe80::/64 go, since a cable that
//! stayed out that long may come back elsewhere. When the link returns sooner, DHCP and router discovery
//! start over at once and must confirm what was kept, within 10 and 15 s.

mod claims;
mod dhcp;
mod frames;
mod link_local;
pub mod mdns;
mod random;
mod slaac;
#[cfg(test)]
mod tests;

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec;
use core::fmt;

use heapless::{Deque, Vec};
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::udp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress, IpCidr,
    IpEndpoint, Ipv4Address, Ipv4Cidr, Ipv6Address, Ipv6Cidr,
};

use claims::{Claims, Verdict};
use frames::Frame;
use link_local::{Prober, Step};
use mdns::{Due, Family, HostLabel, Responder};
use random::Random;
use slaac::Slaac;

/// How long DHCP may take before a link-local address is sought.
const FALLBACK_AFTER: Duration = Duration::from_secs(10);
/// How long the link-local address outlives the arrival of a lease.
const OVERLAP: Duration = Duration::from_secs(10);
/// How long the link may be down before its addresses go.
const LINK_LOSS_TOLERANCE: Duration = Duration::from_secs(4);
/// How long a unicast mDNS answer may wait for the neighbour's hardware address before it is dropped:
/// smoltcp would ask for a neighbour that is gone for ever, and hold up the answers behind it.
const UNICAST_PATIENCE: Duration = Duration::from_secs(2);

const OUTBOX_LEN: usize = 8;
const NOTICES_LEN: usize = 4;
const MDNS_PACKETS: usize = 4;
const MDNS_BUFFER_LEN: usize = 4096;
const DEFAULT_HOSTNAME: &str = "ristretto";

/// What the command line wants of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config<'a> {
    /// Told to the DHCP server and answered for as `HOSTNAME.local`. Only the first label counts, and
    /// characters a host name cannot have become hyphens.
    pub hostname: &'a str,
    /// IPv4 addresses.
    pub ipv4: Ipv4Config,
    /// IPv6 addresses.
    pub ipv6: Ipv6Config,
}

/// Where IPv4 addresses come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv4Config {
    /// No IPv4.
    Off,
    /// DHCP, with a link-local address while no server answers.
    Automatic,
    /// One address given by hand.
    Static {
        /// The address with its prefix length.
        cidr: Ipv4Cidr,
        /// The default router.
        gateway: Option<Ipv4Address>,
    },
}

/// Where IPv6 addresses come from, besides fe80::/64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv6Config {
    /// No IPv6, not even fe80::/64.
    Off,
    /// Router advertisements (SLAAC).
    Automatic,
    /// One address given by hand; router advertisements are ignored.
    Static {
        /// The address with its prefix length.
        cidr: Ipv6Cidr,
        /// The default router.
        gateway: Option<Ipv6Address>,
    },
}

/// Where an address or route came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Static,
    /// A DHCP server.
    Dhcp,
    /// 169.254/16 or fe80::/64.
    LinkLocal,
    /// A router advertisement.
    Slaac,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Static => "static",
            Self::Dhcp => "DHCP",
            Self::LinkLocal => "link-local",
            Self::Slaac => "SLAAC",
        })
    }
}

/// A change worth a line on the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The address works from now on.
    AddressAdded {
        /// The address with its prefix length.
        cidr: IpCidr,
        /// Where it came from.
        origin: Origin,
    },
    /// The address is gone.
    AddressRemoved {
        /// The address with its prefix length.
        cidr: IpCidr,
        /// Where it came from.
        origin: Origin,
    },
    /// The address is not one a host can have, or there is no room for it.
    AddressRefused {
        /// The address with its prefix length.
        cidr: IpCidr,
        /// Where it came from.
        origin: Origin,
    },
    /// There is a default router.
    GatewayAdded {
        /// The router.
        router: IpAddress,
        /// Where it came from.
        origin: Origin,
    },
    /// The default router is gone.
    GatewayRemoved {
        /// The router.
        router: IpAddress,
    },
    /// A DHCP server gave a lease, or changed it. Unchanged renewals are not reported.
    Lease {
        /// The server's identifier.
        server: Ipv4Address,
        /// How long the lease lasts, if the server said so.
        duration: Option<Duration>,
        /// The first name server.
        dns: Option<Ipv4Address>,
    },
    /// The lease ran out or was refused.
    LeaseLost,
    /// No lease for ten seconds: a link-local address is sought.
    NoLease,
    /// Somebody else uses, or wants, this address of ours.
    Conflict {
        /// The address.
        addr: Ipv4Address,
        /// Who.
        with: EthernetAddress,
    },
    /// `label.local` is ours and answered for.
    NameClaimed {
        /// The name without `.local`.
        label: HostLabel,
    },
    /// Somebody else has `label.local`.
    NameConflict {
        /// The name without `.local`.
        label: HostLabel,
        /// Who.
        with: IpAddress,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressAdded { cidr, origin } => write!(f, "address {cidr} ({origin})"),
            Self::AddressRemoved { cidr, origin } => write!(f, "address {cidr} ({origin}) removed"),
            Self::AddressRefused { cidr, origin } => write!(f, "address {cidr} ({origin}) refused"),
            Self::GatewayAdded { router, origin } => {
                write!(f, "default route via {router} ({origin})")
            }
            Self::GatewayRemoved { router } => write!(f, "default route via {router} removed"),
            Self::Lease {
                server,
                duration,
                dns,
            } => {
                write!(f, "lease from {server}")?;
                match duration {
                    Some(duration) => write!(f, " for {} s", duration.secs())?,
                    None => f.write_str(" of unknown length")?,
                }
                dns.map_or(Ok(()), |dns| write!(f, ", name server {dns}"))
            }
            Self::LeaseLost => f.write_str("DHCP lease lost"),
            Self::NoLease => {
                write!(
                    f,
                    "no DHCP lease within {} s, seeking a link-local address",
                    FALLBACK_AFTER.secs()
                )
            }
            Self::Conflict { addr, with } => write!(f, "address {addr} is also claimed by {with}"),
            Self::NameClaimed { label } => write!(f, "name {label}.local"),
            Self::NameConflict { label, with } => {
                write!(f, "name {label}.local is also claimed by {with}")
            }
        }
    }
}

/// Whether [`Addressing::on_frame`] wants to see this received frame: ARP, router advertisements and
/// duplicate address detection. Cheap, for the path of every packet; checks nothing else.
#[inline]
pub fn concerns(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x06]) => true,
        Some([0x86, 0xdd]) => {
            frame.get(20) == Some(&58) && matches!(frame.get(54), Some(134 | 135))
        }
        _ => false,
    }
}

/// The interface and the listener, as every step needs them.
struct Host<'a> {
    iface: &'a mut Interface,
    events: &'a mut dyn FnMut(Event),
}

impl Host<'_> {
    fn add_address(&mut self, cidr: IpCidr, origin: Origin) -> bool {
        let mut added = false;
        let addr = cidr.address();
        // smoltcp panics on an address that is not unicast.
        if addr.is_unicast() && !is_loopback(&addr) && !self.iface.ip_addrs().contains(&cidr) {
            self.iface.update_ip_addrs(|addrs| {
                // smoltcp takes the first IPv4 address as source towards the gateway.
                added = match origin {
                    Origin::LinkLocal => addrs.push(cidr),
                    _ => addrs.insert(0, cidr),
                }
                .is_ok();
            });
        }
        (self.events)(if added {
            Event::AddressAdded { cidr, origin }
        } else {
            Event::AddressRefused { cidr, origin }
        });
        added
    }

    fn remove_address(&mut self, cidr: IpCidr, origin: Origin) {
        self.iface
            .update_ip_addrs(|addrs| addrs.retain(|known| *known != cidr));
        (self.events)(Event::AddressRemoved { cidr, origin });
    }

    fn set_gateway_v4(&mut self, router: Option<Ipv4Address>, origin: Origin) {
        let old = self
            .iface
            .routes_mut()
            .remove_default_ipv4_route()
            .map(|route| route.via_router);
        let added = router.is_some_and(|router| {
            self.iface
                .routes_mut()
                .add_default_ipv4_route(router)
                .is_ok()
        });
        self.report_gateway(old, router.filter(|_| added).map(IpAddress::Ipv4), origin);
    }

    fn set_gateway_v6(&mut self, router: Option<Ipv6Address>, origin: Origin) {
        let old = self
            .iface
            .routes_mut()
            .remove_default_ipv6_route()
            .map(|route| route.via_router);
        let added = router.is_some_and(|router| {
            self.iface
                .routes_mut()
                .add_default_ipv6_route(router)
                .is_ok()
        });
        self.report_gateway(old, router.filter(|_| added).map(IpAddress::Ipv6), origin);
    }

    fn report_gateway(&mut self, old: Option<IpAddress>, new: Option<IpAddress>, origin: Origin) {
        if old == new {
            return;
        }
        if let Some(router) = old {
            (self.events)(Event::GatewayRemoved { router });
        }
        if let Some(router) = new {
            (self.events)(Event::GatewayAdded { router, origin });
        }
    }
}

fn is_loopback(addr: &IpAddress) -> bool {
    match addr {
        IpAddress::Ipv4(addr) => addr.is_loopback(),
        IpAddress::Ipv6(addr) => addr.is_loopback(),
    }
}

/// The addresses of one interface.
#[derive(Debug)]
pub struct Addressing {
    mac: EthernetAddress,
    ipv4: Ipv4Config,
    ipv6: Ipv6Config,
    random: Random,
    started: bool,
    link_up: bool,
    /// When the link has been down for too long.
    link_lost_at: Option<Instant>,

    dhcp: Option<dhcp::Client>,
    lease: Option<dhcp::Lease>,
    /// The lease is from before the link was lost, and DHCP has not confirmed it yet.
    lease_unconfirmed: bool,
    fallback_at: Option<Instant>,
    prober: Prober,
    claims: Claims,
    /// The link-local address was contested and must go.
    link_local_lost: bool,

    slaac: Slaac,
    /// The addresses from router advertisements that the interface has.
    slaac_addrs: Vec<Ipv6Cidr, { slaac::MAX_PREFIXES }>,
    slaac_router: Option<Ipv6Address>,

    mdns: Responder,
    mdns_socket: Option<SocketHandle>,
    /// The addresses that were last announced.
    mdns_addrs: Vec<IpCidr, 8>,
    mdns_drain_at: Option<Instant>,

    outbox: Deque<Frame, OUTBOX_LEN>,
    notices: Deque<Event, NOTICES_LEN>,
    dropped: u32,
    deadline: Option<Instant>,
}

impl Addressing {
    /// Plans the addresses; touches nothing. `random` spaces probes and may be any number that differs
    /// from boot to boot.
    pub fn new(config: Config<'_>, mac: EthernetAddress, random: u64) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        Self {
            mac,
            ipv4: config.ipv4,
            ipv6: config.ipv6,
            random: Random::new(random ^ u64::from_be_bytes([a, b, c, d, e, f, 0, 0])),
            started: false,
            link_up: false,
            link_lost_at: None,
            dhcp: None,
            lease: None,
            lease_unconfirmed: false,
            fallback_at: None,
            prober: Prober::new(mac),
            claims: Claims::default(),
            link_local_lost: false,
            slaac: Slaac::new(mac),
            slaac_addrs: Vec::new(),
            slaac_router: None,
            mdns: Responder::new(host_label(config.hostname)),
            mdns_socket: None,
            mdns_addrs: Vec::new(),
            mdns_drain_at: None,
            outbox: Deque::new(),
            notices: Deque::new(),
            dropped: 0,
            deadline: Some(Instant::ZERO),
        }
    }

    /// Adds the sockets for DHCP and mDNS to the set and joins the mDNS groups. The only function that
    /// allocates; what it allocates lives as long as the image.
    pub fn attach(&mut self, iface: &mut Interface, sockets: &mut SocketSet<'static>) {
        if self.ipv4 == Ipv4Config::Automatic {
            self.dhcp = Some(dhcp::Client::attach(sockets, self.mdns.label()));
        }
        let mut socket = udp::Socket::new(mdns_buffer(), mdns_buffer());
        socket.set_hop_limit(Some(255));
        // Cannot fail: the socket is new and the port is not zero.
        let _ = socket.bind(mdns::PORT);
        self.mdns_socket = Some(sockets.add(socket));
        // Cannot fail either: these are the first of sixteen groups.
        if self.ipv4 != Ipv4Config::Off {
            let _ = iface.join_multicast_group(mdns::GROUP_V4);
        }
        if self.ipv6 != Ipv6Config::Off {
            let _ = iface.join_multicast_group(mdns::GROUP_V6);
        }
    }

    /// The host name as it is answered for, without `.local`.
    pub fn hostname(&self) -> &str {
        self.mdns.label()
    }

    /// The lease's first name server.
    pub fn dns_server(&self) -> Option<Ipv4Address> {
        self.lease.and_then(|lease| lease.dns)
    }

    /// Frames and datagrams that were lost because a queue was full, or a neighbour did not answer.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    /// When [`Self::poll`] has something to do by itself; `None` if only the network can bring work.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The next raw Ethernet frame to send, written to `out` (90 bytes are enough). Returns its length,
    /// which may be less than the 60 bytes of the shortest Ethernet frame.
    pub fn take_frame(&mut self, out: &mut [u8]) -> Option<usize> {
        let len = self.outbox.pop_front()?.emit(self.mac, out);
        if len.is_none() {
            self.dropped = self.dropped.wrapping_add(1);
        }
        len
    }

    /// Sees a received frame ahead of the stack; those that [`concerns`] is false for are not needed.
    pub fn on_frame(&mut self, now: Instant, frame: &[u8]) {
        let Ok(ethernet) = EthernetFrame::new_checked(frame) else {
            return;
        };
        match ethernet.ethertype() {
            EthernetProtocol::Arp => self.on_arp(now, ethernet.payload()),
            EthernetProtocol::Ipv6 => self.on_ipv6(now, ethernet.payload()),
            _ => {}
        }
    }

    fn on_arp(&mut self, now: Instant, packet: &[u8]) {
        let Ok(arp) = ArpPacket::new_checked(packet).and_then(|packet| ArpRepr::parse(&packet))
        else {
            return;
        };
        if let Some((addr, with)) = self.prober.conflicts_with(&arp) {
            self.prober.conflict(now, &mut self.random);
            self.notice(now, Event::Conflict { addr, with });
        }
        match self.claims.on_arp(now, self.mac, &arp) {
            Verdict::Ignore => {}
            Verdict::Answer(frame) => self.send(frame),
            Verdict::Defended(addr, with) => {
                self.send(Frame::ArpAnnounce(addr));
                self.notice(now, Event::Conflict { addr, with });
            }
            Verdict::Lost(addr, with) => {
                self.link_local_lost = true;
                self.notice(now, Event::Conflict { addr, with });
            }
        }
    }

    fn on_ipv6(&mut self, now: Instant, packet: &[u8]) {
        match slaac::read(packet) {
            Some(slaac::Message::Advert { router, body }) if self.ipv6 == Ipv6Config::Automatic => {
                self.slaac.on_advert(now, router, body);
                self.deadline = Some(now);
            }
            // smoltcp drops what comes from `::`, so that the asker would take our address for free.
            Some(slaac::Message::DuplicateCheck(addr)) if self.has_ipv6(addr) => {
                self.send(Frame::NeighborDefend(addr));
            }
            _ => {}
        }
    }

    fn has_ipv6(&self, addr: Ipv6Address) -> bool {
        self.mdns_addrs
            .iter()
            .any(|cidr| cidr.address() == IpAddress::Ipv6(addr))
    }

    fn notice(&mut self, now: Instant, event: Event) {
        if self.notices.push_back(event).is_err() {
            self.dropped = self.dropped.wrapping_add(1);
        }
        self.deadline = Some(now);
    }

    fn send(&mut self, frame: Frame) {
        if self.outbox.push_back(frame).is_err() {
            self.dropped = self.dropped.wrapping_add(1);
        }
    }

    /// Does what is due. Never waits; cheap when nothing is due.
    pub fn poll(
        &mut self,
        now: Instant,
        link_up: bool,
        iface: &mut Interface,
        sockets: &mut SocketSet<'static>,
        events: &mut impl FnMut(Event),
    ) {
        let lease_change = self.dhcp.as_ref().and_then(|dhcp| dhcp.poll(sockets));
        let asked = self
            .mdns_socket
            .is_some_and(|handle| sockets.get::<udp::Socket>(handle).can_recv());
        let due = self.deadline.is_some_and(|deadline| deadline <= now);
        if self.started && link_up == self.link_up && lease_change.is_none() && !asked && !due {
            return;
        }
        let host = &mut Host { iface, events };
        while let Some(event) = self.notices.pop_front() {
            (host.events)(event);
        }
        if !self.started {
            self.started = true;
            self.add_fixed_addresses(now, host);
        }
        match (self.link_up, link_up) {
            (false, true) => self.link_came(now, sockets),
            (true, false) => self.link_went(now, sockets),
            _ => {}
        }
        self.link_up = link_up;
        if take_due(&mut self.link_lost_at, now) {
            self.forget_network(sockets, host);
        }
        if let Some(change) = lease_change {
            self.poll_lease(now, change, sockets, host);
        }
        self.poll_link_local(now, sockets, host);
        self.poll_slaac(now, host);
        self.poll_mdns(now, sockets, host);
        self.deadline = [
            self.link_lost_at,
            self.fallback_at,
            self.prober.deadline(),
            self.claims.deadline(),
            self.slaac.deadline(),
            self.mdns.deadline(),
            self.mdns_drain_at,
        ]
        .into_iter()
        .flatten()
        .min();
    }

    fn add_fixed_addresses(&mut self, now: Instant, host: &mut Host) {
        if self.ipv6 != Ipv6Config::Off {
            host.add_address(slaac::link_local(self.mac).into(), Origin::LinkLocal);
        }
        if let Ipv6Config::Static { cidr, gateway } = self.ipv6
            && host.add_address(cidr.into(), Origin::Static)
        {
            host.set_gateway_v6(gateway, Origin::Static);
        }
        if let Ipv4Config::Static { cidr, gateway } = self.ipv4
            && host.add_address(cidr.into(), Origin::Static)
        {
            self.claims.add(now, cidr, Origin::Static);
            self.claims.be_quiet();
            host.set_gateway_v4(gateway, Origin::Static);
        }
    }

    fn link_came(&mut self, now: Instant, sockets: &mut SocketSet<'static>) {
        self.link_lost_at = None;
        self.claims.announce_again(now);
        if let Some(dhcp) = &self.dhcp {
            dhcp.restart(sockets, dhcp::Pace::Quick);
            self.lease_unconfirmed = self.lease.is_some();
            self.fallback_at = Some(now + FALLBACK_AFTER);
            self.prober.forget_conflicts();
        }
        if self.ipv6 == Ipv6Config::Automatic {
            self.slaac.start(now);
        }
        self.mdns.start(now, &mut self.random);
    }

    fn link_went(&mut self, now: Instant, sockets: &mut SocketSet<'static>) {
        self.link_lost_at = Some(now + LINK_LOSS_TOLERANCE);
        self.fallback_at = None;
        self.claims.be_quiet();
        self.prober.stop();
        self.slaac.stop();
        self.mdns.stop();
        self.outbox.clear();
        if let Some(dhcp) = &self.dhcp {
            dhcp.set_pace(sockets, dhcp::Pace::Silent);
        }
    }

    fn forget_network(&mut self, sockets: &mut SocketSet<'static>, host: &mut Host) {
        self.drop_lease(host);
        self.drop_claim(Origin::LinkLocal, host);
        self.slaac.forget();
        if let Some(dhcp) = &self.dhcp {
            dhcp.restart(sockets, dhcp::Pace::Silent);
        }
    }

    fn poll_lease(
        &mut self,
        now: Instant,
        change: dhcp::Change,
        sockets: &mut SocketSet<'static>,
        host: &mut Host,
    ) {
        match change {
            dhcp::Change::Bound(lease) => {
                self.fallback_at = None;
                self.lease_unconfirmed = false;
                self.prober.stop();
                if let Some(claim) = self.claims.find(Origin::LinkLocal) {
                    claim.retire_at.get_or_insert(now + OVERLAP);
                }
                let old = self.lease.replace(lease);
                if old == Some(lease) {
                    return;
                }
                (host.events)(Event::Lease {
                    server: lease.server,
                    duration: lease.duration,
                    dns: lease.dns,
                });
                if old.is_none_or(|old| old.cidr != lease.cidr) {
                    self.drop_claim(Origin::Dhcp, host);
                    if host.add_address(lease.cidr.into(), Origin::Dhcp) {
                        self.claims.add(now, lease.cidr, Origin::Dhcp);
                    }
                }
                host.set_gateway_v4(lease.router, Origin::Dhcp);
            }
            // The socket was restarted because the link came back; the lease has ten seconds to return.
            dhcp::Change::Unbound if self.lease_unconfirmed => {}
            dhcp::Change::Unbound if self.lease.is_some() => {
                self.drop_lease(host);
                self.fallback_at = self.link_up.then_some(now + FALLBACK_AFTER);
                if let Some(dhcp) = &self.dhcp {
                    dhcp.set_pace(sockets, dhcp::Pace::Quick);
                }
            }
            dhcp::Change::Unbound => {}
        }
    }

    fn drop_lease(&mut self, host: &mut Host) {
        self.lease_unconfirmed = false;
        if self.lease.take().is_some() {
            (host.events)(Event::LeaseLost);
            self.drop_claim(Origin::Dhcp, host);
            host.set_gateway_v4(None, Origin::Dhcp);
        }
        // With no lease to replace it, the link-local address stays.
        if let Some(claim) = self.claims.find(Origin::LinkLocal) {
            claim.retire_at = None;
        }
    }

    fn drop_claim(&mut self, origin: Origin, host: &mut Host) {
        if let Some(cidr) = self.claims.remove(origin) {
            host.remove_address(cidr.into(), origin);
        }
    }

    /// The fallback, the search, and what ARP has to say about addresses in use.
    fn poll_link_local(&mut self, now: Instant, sockets: &mut SocketSet<'static>, host: &mut Host) {
        if take_due(&mut self.fallback_at, now) {
            self.drop_lease(host);
            if let Some(dhcp) = &self.dhcp {
                dhcp.set_pace(sockets, dhcp::Pace::Slow);
            }
            if self.claims.find(Origin::LinkLocal).is_none() {
                (host.events)(Event::NoLease);
                self.prober.start(now, &mut self.random);
            }
        }
        if core::mem::take(&mut self.link_local_lost) {
            self.drop_claim(Origin::LinkLocal, host);
            if self.lease.is_none() && self.link_up {
                self.prober.conflict(now, &mut self.random);
            }
        }
        match self.prober.poll(now, &mut self.random) {
            Some(Step::Probe(addr)) => self.send(Frame::ArpProbe(addr)),
            Some(Step::Claim(addr)) => {
                let cidr = Ipv4Cidr::new(addr, 16);
                if host.add_address(cidr.into(), Origin::LinkLocal) {
                    self.claims.add(now, cidr, Origin::LinkLocal);
                }
            }
            None => {}
        }
        if self
            .claims
            .find(Origin::LinkLocal)
            .is_some_and(|claim| claim.retire_at.is_some_and(|at| at <= now))
        {
            self.drop_claim(Origin::LinkLocal, host);
        }
        while let Some(frame) = self.claims.poll(now) {
            self.send(frame);
        }
    }

    fn poll_slaac(&mut self, now: Instant, host: &mut Host) {
        self.slaac.expire(now);
        let slaac = &self.slaac;
        self.slaac_addrs.retain(|cidr| {
            let stays = slaac.addresses().any(|valid| valid == *cidr);
            if !stays {
                host.remove_address((*cidr).into(), Origin::Slaac);
            }
            stays
        });
        for cidr in slaac.addresses() {
            // Both lists have the same size, so there is always room.
            if !self.slaac_addrs.contains(&cidr) && self.slaac_addrs.push(cidr).is_ok() {
                host.add_address(cidr.into(), Origin::Slaac);
            }
        }
        if slaac.router() != self.slaac_router {
            self.slaac_router = slaac.router();
            host.set_gateway_v6(self.slaac_router, Origin::Slaac);
        }
        if self.slaac.solicit(now) {
            self.send(Frame::RouterSolicit {
                from: slaac::link_local(self.mac).address(),
            });
        }
    }

    fn poll_mdns(&mut self, now: Instant, sockets: &mut SocketSet<'static>, host: &mut Host) {
        let Some(handle) = self.mdns_socket else {
            return;
        };
        let socket = sockets.get_mut::<udp::Socket>(handle);
        if take_due(&mut self.mdns_drain_at, now) && socket.send_queue() > 0 {
            self.dropped = self.dropped.wrapping_add(1);
            socket.close();
            let _ = socket.bind(mdns::PORT);
        }
        let addrs = host.iface.ip_addrs();
        if self.mdns_addrs != addrs {
            let gained = |v6: bool| {
                let has = |addrs: &[IpCidr]| {
                    addrs
                        .iter()
                        .any(|cidr| matches!(cidr, IpCidr::Ipv6(_)) == v6)
                };
                has(addrs) && !has(&self.mdns_addrs)
            };
            let new_family = gained(false) || gained(true);
            self.mdns_addrs.clear();
            // The interface holds eight, and so does this.
            let _ = self.mdns_addrs.extend_from_slice(addrs);
            if self.link_up && new_family {
                // Hosts that speak only this IP version have not heard the probes.
                self.mdns.start(now, &mut self.random);
            } else {
                self.mdns.announce(now);
            }
        }
        // Bounded by the socket's queue; what arrives later is for the next call.
        for _ in 0..MDNS_PACKETS {
            let Ok((datagram, from)) = socket.recv() else {
                break;
            };
            let source = from.endpoint;
            let label = self.mdns.label().clone();
            let reaction = self
                .mdns
                .receive(now, datagram, source.addr, source.port, addrs);
            if reaction.conflict {
                (host.events)(Event::NameConflict {
                    label,
                    with: source.addr,
                });
            }
            if let Some(message) = reaction.multicast {
                let sent = send_mdns(
                    &self.mdns,
                    socket,
                    addrs,
                    &message,
                    group(mdns::family(&source.addr)),
                );
                self.dropped = self.dropped.wrapping_add(u32::from(!sent));
            }
            if let Some(message) = reaction.unicast {
                let sent = send_mdns(&self.mdns, socket, addrs, &message, source);
                self.dropped = self.dropped.wrapping_add(u32::from(!sent));
                self.mdns_drain_at.get_or_insert(now + UNICAST_PATIENCE);
            }
        }
        let (due, claimed) = match self.mdns.poll(now) {
            Some(Due::Multicast(message)) => (message, false),
            Some(Due::Claimed(message)) => (message, true),
            None => return,
        };
        for family in [Family::V4, Family::V6] {
            // Not an error if there is no address of this family to send from.
            if addrs
                .iter()
                .any(|cidr| mdns::family(&cidr.address()) == family)
            {
                let sent = send_mdns(&self.mdns, socket, addrs, &due, group(family));
                self.dropped = self.dropped.wrapping_add(u32::from(!sent));
            }
        }
        if claimed {
            (host.events)(Event::NameClaimed {
                label: self.mdns.label().clone(),
            });
        }
    }
}

fn group(family: Family) -> IpEndpoint {
    let addr = match family {
        Family::V4 => IpAddress::Ipv4(mdns::GROUP_V4),
        Family::V6 => IpAddress::Ipv6(mdns::GROUP_V6),
    };
    IpEndpoint {
        addr,
        port: mdns::PORT,
    }
}

/// Queues one message; `false` if the queue is full.
fn send_mdns(
    responder: &Responder,
    socket: &mut udp::Socket<'static>,
    addrs: &[IpCidr],
    message: &mdns::Message,
    to: IpEndpoint,
) -> bool {
    let family = mdns::family(&to.addr);
    let from = addrs
        .iter()
        .filter(|cidr| mdns::family(&cidr.address()) == family)
        // The address closest to the receiver; for ff02::fb that is fe80::/64.
        .max_by_key(|cidr| {
            (
                cidr.contains_addr(&to.addr),
                is_link_local_v6(&cidr.address()),
            )
        })
        .map(|cidr| cidr.address());
    let meta = udp::UdpMetadata {
        endpoint: to,
        local_address: from,
        meta: Default::default(),
    };
    socket
        .send_with(mdns::MAX_MESSAGE_LEN, meta, |out| {
            responder.write(message, addrs, out)
        })
        .is_ok()
}

fn is_link_local_v6(addr: &IpAddress) -> bool {
    matches!(addr, IpAddress::Ipv6(addr) if addr.is_unicast_link_local())
}

fn mdns_buffer() -> udp::PacketBuffer<'static> {
    let metadata: &'static mut [_] =
        Box::leak(vec![udp::PacketMetadata::EMPTY; MDNS_PACKETS].into_boxed_slice());
    let payload: &'static mut [u8] = Box::leak(vec![0; MDNS_BUFFER_LEN].into_boxed_slice());
    udp::PacketBuffer::new(metadata, payload)
}

/// Whether `deadline` has passed; if so, clears it.
fn take_due(deadline: &mut Option<Instant>, now: Instant) -> bool {
    deadline.take_if(|at| *at <= now).is_some()
}

/// The first label of a host name, made of letters, digits and hyphens.
fn host_label(hostname: &str) -> HostLabel {
    let mut label = HostLabel::new();
    for character in hostname.split('.').next().unwrap_or_default().chars() {
        let character = if character.is_ascii_alphanumeric() {
            character.to_ascii_lowercase()
        } else {
            '-'
        };
        if label.push(character).is_err() {
            break;
        }
    }
    let trimmed = label.trim_matches('-');
    HostLabel::try_from(if trimmed.is_empty() {
        DEFAULT_HOSTNAME
    } else {
        trimmed
    })
    .unwrap_or_default()
}
