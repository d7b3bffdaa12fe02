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
//! link up ─── DISCOVER every 3 s ─────────► lease: address, gateway; announced twice by ARP
//!    │                                        │  ▲
//!    │ 10 s without a lease                   │  └─ a link-local address goes 10 s later, so that
//!    ▼                                        │     requests under way finish
//! three ARP probes, 4 to 7 s in all ◄─────────┘
//!    │          ▲                    expired or refused: again 10 s, then the probes
//!    ▼          └─ contested: another candidate
//! 169.254/16 address, no gateway: 14 to 17 s after link up. DISCOVER every 15 s goes on.
//! ```
//!
//! A lost link changes nothing for 4 s (a switch that restarts its port, a cable pushed home): open
//! connections survive. After that all addresses but static ones and fe80::/64 go, since a cable that
//! stayed out that long may come back elsewhere. When the link returns sooner, DHCP and router discovery
//! start over at once and must confirm what was kept, within 10 and 15 s.

mod claims;
mod config;
mod dhcp;
mod event;
mod frames;
mod link_local;
pub mod mdns;
mod random;
mod slaac;
#[cfg(test)]
mod tests;

use core::net::IpAddr;

use heapless::{Deque, Vec};
use smoltcp::iface::{Interface, SocketSet};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress, IpCidr,
    Ipv4Address, Ipv4Cidr, Ipv6Address, Ipv6Cidr,
};

use claims::{Claims, Verdict};
use config::host_label;
pub use config::{Config, Ipv4Config, Ipv6Config};
pub use event::{Event, Origin};
use frames::Frame;
use link_local::{Prober, Step};
use mdns::HostLabel;
use random::Random;
use slaac::Slaac;

/// How long DHCP may take before a link-local address is sought.
const FALLBACK_AFTER: Duration = Duration::from_secs(10);
/// How long the link-local address outlives the arrival of a lease.
const OVERLAP: Duration = Duration::from_secs(10);
/// How long the link may be down before its addresses go.
const LINK_LOSS_TOLERANCE: Duration = Duration::from_secs(4);

const OUTBOX_LEN: usize = 8;
const NOTICES_LEN: usize = 4;

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

/// Writes the frame that asks where `whom` is, by ARP or neighbour solicitation, from an address of ours of the same
/// family. Returns its length, which may be less than that of the shortest Ethernet frame.
pub fn solicitation(
    mac: EthernetAddress,
    ours: IpAddr,
    whom: IpAddr,
    out: &mut [u8],
) -> Option<usize> {
    let frame = match (ours, whom) {
        (IpAddr::V4(ours), IpAddr::V4(whom)) => Frame::ArpAsk { ours, whom },
        (IpAddr::V6(ours), IpAddr::V6(whom)) => Frame::NeighborAsk { ours, whom },
        _ => return None,
    };
    frame.emit(mac, out)
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
        let router = router.filter(|router| IpAddress::Ipv4(*router).is_unicast());
        let routes = self.iface.routes_mut();
        let old = routes
            .remove_default_ipv4_route()
            .map(|route| route.via_router);
        let new = router.filter(|router| routes.add_default_ipv4_route(*router).is_ok());
        self.report_gateway(old, new.map(IpAddress::Ipv4), origin);
    }

    fn set_gateway_v6(&mut self, router: Option<Ipv6Address>, origin: Origin) {
        let router = router.filter(|router| IpAddress::Ipv6(*router).is_unicast());
        let routes = self.iface.routes_mut();
        let old = routes
            .remove_default_ipv6_route()
            .map(|route| route.via_router);
        let new = router.filter(|router| routes.add_default_ipv6_route(*router).is_ok());
        self.report_gateway(old, new.map(IpAddress::Ipv6), origin);
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

    hostname: HostLabel,
    mdns: Option<mdns::Service>,

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
            hostname: host_label(config.hostname),
            mdns: None,
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
            self.dhcp = Some(dhcp::Client::attach(sockets, &self.hostname));
        }
        // Without an address there is nothing to find under the name.
        if self.ipv4 != Ipv4Config::Off || self.ipv6 != Ipv6Config::Off {
            self.mdns = Some(mdns::Service::attach(self.hostname.clone(), iface, sockets));
        }
    }

    /// The host name as it is answered for, without `.local`.
    pub fn hostname(&self) -> &str {
        self.mdns
            .as_ref()
            .map_or(&self.hostname, |mdns| mdns.label())
    }

    /// Where an address of the interface came from.
    pub fn origin(&self, cidr: &IpCidr) -> Origin {
        match cidr {
            IpCidr::Ipv4(cidr) if cidr.address().is_link_local() => Origin::LinkLocal,
            IpCidr::Ipv6(cidr) if cidr.address().is_unicast_link_local() => Origin::LinkLocal,
            IpCidr::Ipv4(_) if self.ipv4 == Ipv4Config::Automatic => Origin::Dhcp,
            IpCidr::Ipv6(_) if self.ipv6 == Ipv6Config::Automatic => Origin::Slaac,
            _ => Origin::Static,
        }
    }

    /// Where a default route of the interface came from.
    pub fn origin_of_router(&self, router: &IpAddr) -> Origin {
        match router {
            IpAddr::V4(_) if self.ipv4 == Ipv4Config::Automatic => Origin::Dhcp,
            IpAddr::V6(_) if self.ipv6 == Ipv6Config::Automatic => Origin::Slaac,
            _ => Origin::Static,
        }
    }

    /// Whether there is a socket for DHCP, and one for mDNS.
    pub fn sockets(&self) -> (bool, bool) {
        (self.dhcp.is_some(), self.mdns.is_some())
    }

    /// Whether addresses are to come by themselves: by DHCP, and from router advertisements.
    pub fn is_automatic(&self) -> (bool, bool) {
        (
            self.ipv4 == Ipv4Config::Automatic,
            self.ipv6 == Ipv6Config::Automatic,
        )
    }

    /// The lease's first name server.
    pub fn dns_server(&self) -> Option<Ipv4Address> {
        self.lease.and_then(|lease| lease.dns)
    }

    /// Frames and datagrams that were lost because a queue was full, or a neighbour did not answer.
    pub fn dropped(&self) -> u32 {
        self.dropped
            .wrapping_add(self.mdns.as_ref().map_or(0, mdns::Service::dropped))
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

    /// Sees a received frame ahead of the stack; those that [`concerns`] is false for are not needed. Whether it was
    /// of use.
    pub fn on_frame(&mut self, now: Instant, frame: &[u8]) -> bool {
        let Ok(ethernet) = EthernetFrame::new_checked(frame) else {
            return false;
        };
        match ethernet.ethertype() {
            EthernetProtocol::Arp => self.on_arp(now, ethernet.payload()),
            EthernetProtocol::Ipv6 => self.on_ipv6(now, ethernet.payload()),
            _ => false,
        }
    }

    fn on_arp(&mut self, now: Instant, packet: &[u8]) -> bool {
        let Ok(arp) = ArpPacket::new_checked(packet).and_then(|packet| ArpRepr::parse(&packet))
        else {
            return false;
        };
        let conflict = self.prober.conflicts_with(&arp);
        if let Some((addr, with)) = conflict {
            self.prober.conflict(now, &mut self.random);
            self.notice(now, Event::Conflict { addr, with });
        }
        match self.claims.on_arp(now, self.mac, &arp) {
            Verdict::Ignore => return conflict.is_some(),
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
        true
    }

    fn on_ipv6(&mut self, now: Instant, packet: &[u8]) -> bool {
        match slaac::read(packet) {
            Some(slaac::Message::Advert { router, body }) if self.ipv6 == Ipv6Config::Automatic => {
                self.slaac.on_advert(now, router, body);
                self.deadline = Some(now);
            }
            // smoltcp drops what comes from `::`, so that the asker would take our address for free.
            Some(slaac::Message::DuplicateCheck(addr)) if self.has_ipv6(addr) => {
                self.send(Frame::NeighborDefend(addr));
            }
            _ => return false,
        }
        true
    }

    fn has_ipv6(&self, addr: Ipv6Address) -> bool {
        let fixed = match self.ipv6 {
            Ipv6Config::Off => return false,
            Ipv6Config::Automatic => None,
            Ipv6Config::Static { cidr, .. } => Some(cidr),
        };
        let link_local = slaac::link_local(self.mac);
        let ours = self.slaac_addrs.iter().chain(&fixed).chain([&link_local]);
        ours.map(Ipv6Cidr::address).any(|ours| ours == addr)
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
            .mdns
            .as_ref()
            .is_some_and(|mdns| mdns.is_asked(sockets));
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
        if let Some(mdns) = &mut self.mdns {
            mdns.poll(
                now,
                host.iface.ip_addrs(),
                &mut self.random,
                sockets,
                host.events,
            );
        }
        self.deadline = [
            self.link_lost_at,
            self.fallback_at,
            self.prober.deadline(),
            self.claims.deadline(),
            self.slaac.deadline(),
            self.mdns.as_ref().and_then(mdns::Service::deadline),
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
            host.set_gateway_v4(gateway, Origin::Static);
        }
    }

    fn link_came(&mut self, now: Instant, sockets: &mut SocketSet<'static>) {
        self.link_lost_at = None;
        self.claims.announce_again(now);
        if let Some(dhcp) = &self.dhcp {
            dhcp.restart(sockets, dhcp::Pace::Quick, &mut self.random);
            self.lease_unconfirmed = self.lease.is_some();
            self.fallback_at = Some(now + FALLBACK_AFTER);
            self.prober.forget_conflicts();
        }
        if self.ipv6 == Ipv6Config::Automatic {
            self.slaac.start(now);
        }
        if let Some(mdns) = &mut self.mdns {
            mdns.start(now, &mut self.random);
        }
    }

    fn link_went(&mut self, now: Instant, sockets: &mut SocketSet<'static>) {
        self.link_lost_at = Some(now + LINK_LOSS_TOLERANCE);
        self.fallback_at = None;
        self.prober.stop();
        self.slaac.stop();
        if let Some(mdns) = &mut self.mdns {
            mdns.stop();
        }
        if let Some(dhcp) = &self.dhcp {
            dhcp.set_pace(sockets, dhcp::Pace::Silent, &mut self.random);
        }
    }

    fn forget_network(&mut self, sockets: &mut SocketSet<'static>, host: &mut Host) {
        self.drop_lease(host);
        self.drop_claim(Origin::LinkLocal, host);
        self.slaac.forget();
        if let Some(dhcp) = &self.dhcp {
            dhcp.restart(sockets, dhcp::Pace::Silent, &mut self.random);
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
                let router = lease
                    .router
                    .filter(|_| self.claims.find(Origin::Dhcp).is_some());
                host.set_gateway_v4(router, Origin::Dhcp);
            }
            // The socket was restarted because the link came back; the lease has ten seconds to return.
            dhcp::Change::Unbound if self.lease_unconfirmed => {}
            dhcp::Change::Unbound if self.lease.is_some() => {
                self.drop_lease(host);
                self.fallback_at = self.link_up.then_some(now + FALLBACK_AFTER);
                if let Some(dhcp) = &self.dhcp {
                    dhcp.set_pace(sockets, dhcp::Pace::Quick, &mut self.random);
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
                dhcp.set_pace(sockets, dhcp::Pace::Slow, &mut self.random);
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
}

/// Whether `deadline` has passed; if so, clears it.
fn take_due(deadline: &mut Option<Instant>, now: Instant) -> bool {
    deadline.take_if(|at| *at <= now).is_some()
}
