//! IPv6 stateless address configuration (RFC 4862) and router discovery (RFC 4861).
//!
//! smoltcp 0.14 has its own, which stays switched off (`Config::slaac = false`): one router
//! advertisement with a prefix length over 128, or with a multicast prefix, panics it; when no router
//! answers, its `poll_at` stays in the past and the idle loop would spin; and it neither solicits again
//! nor forgets when the link comes back on another network. (All three observed with 0.14.0.)
//!
//! Not here: duplicate address detection of our own addresses (their lower half is the MAC), privacy
//! addresses, and the on-link flag (a prefix with an address of ours counts as on-link).

use heapless::Vec;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    EthernetAddress, Icmpv6Message, Icmpv6Packet, IpProtocol, Ipv6Address, Ipv6Cidr, Ipv6Packet,
};

/// Spec: RFC 4861, section 10.
const MAX_SOLICITS: u8 = 3;
const SOLICIT_INTERVAL: Duration = Duration::from_secs(4);
/// Spec: RFC 4862, section 5.5.3 (e): what an advertisement cannot shorten a lifetime below.
const TWO_HOURS: Duration = Duration::from_secs(2 * 60 * 60);
/// After a short loss of link, what no router confirms within this time is forgotten.
const CONFIRM_WITHIN: Duration = Duration::from_secs(15);
const PREFIX_LEN: u8 = 64;
pub(super) const MAX_PREFIXES: usize = 4;
const MAX_ROUTERS: usize = 2;

/// Spec: RFC 4861, sections 4.2 and 4.6.
const ADVERT_HEADER_LEN: usize = 16;
const OPTION_PREFIX: u8 = 3;
const OPTION_PREFIX_LEN: usize = 32;
const FLAG_AUTONOMOUS: u8 = 0x40;

/// An ICMPv6 message that concerns address configuration, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// A router advertisement: the router and the body from the ICMP type on.
    Advert { router: Ipv6Address, body: &'a [u8] },
    /// Somebody is about to use this address and asks whether it is free.
    DuplicateCheck(Ipv6Address),
}

/// Reads an IPv6 packet. `None` for anything else, and for what RFC 4861 tells to ignore.
pub(super) fn read(packet: &[u8]) -> Option<Message<'_>> {
    let packet = Ipv6Packet::new_checked(packet).ok()?;
    if packet.next_header() != IpProtocol::Icmpv6 || packet.hop_limit() != 255 {
        return None;
    }
    let (source, destination) = (packet.src_addr(), packet.dst_addr());
    let body = packet.payload();
    let icmp = Icmpv6Packet::new_checked(body).ok()?;
    if icmp.msg_code() != 0 || !checksum_ok(&icmp, &source, &destination) {
        return None;
    }
    match icmp.msg_type() {
        Icmpv6Message::RouterAdvert
            if source.is_unicast_link_local() && body.len() >= ADVERT_HEADER_LEN =>
        {
            Some(Message::Advert {
                router: source,
                body,
            })
        }
        Icmpv6Message::NeighborSolicit if source.is_unspecified() => {
            let target: [u8; 16] = *body.get(8..)?.first_chunk()?;
            Some(Message::DuplicateCheck(Ipv6Address::from(target)))
        }
        _ => None,
    }
}

fn checksum_ok(
    icmp: &Icmpv6Packet<&[u8]>,
    source: &Ipv6Address,
    destination: &Ipv6Address,
) -> bool {
    !ChecksumCapabilities::default().icmpv6.rx() || icmp.verify_checksum(source, destination)
}

#[derive(Debug)]
struct Prefix {
    cidr: Ipv6Cidr,
    valid_until: Instant,
}

#[derive(Debug)]
struct Router {
    addr: Ipv6Address,
    valid_until: Instant,
}

/// Prefixes and routers heard of, and the solicitations that ask for them.
#[derive(Debug)]
pub(super) struct Slaac {
    mac: EthernetAddress,
    solicits_left: u8,
    solicit_at: Instant,
    prefixes: Vec<Prefix, MAX_PREFIXES>,
    routers: Vec<Router, MAX_ROUTERS>,
}

impl Slaac {
    pub(super) fn new(mac: EthernetAddress) -> Self {
        Self {
            mac,
            solicits_left: 0,
            solicit_at: Instant::ZERO,
            prefixes: Vec::new(),
            routers: Vec::new(),
        }
    }

    /// The link came up: asks for routers at once, and doubts what it knew before.
    pub(super) fn start(&mut self, now: Instant) {
        self.solicits_left = MAX_SOLICITS;
        self.solicit_at = now;
        for prefix in &mut self.prefixes {
            prefix.valid_until = prefix.valid_until.min(now + CONFIRM_WITHIN);
        }
        for router in &mut self.routers {
            router.valid_until = router.valid_until.min(now + CONFIRM_WITHIN);
        }
    }

    pub(super) fn stop(&mut self) {
        self.solicits_left = 0;
    }

    /// Lets every prefix and router run out with the next [`Self::expire`].
    pub(super) fn forget(&mut self) {
        for prefix in &mut self.prefixes {
            prefix.valid_until = Instant::ZERO;
        }
        for router in &mut self.routers {
            router.valid_until = Instant::ZERO;
        }
    }

    /// Whether a router solicitation is due now.
    pub(super) fn solicit(&mut self, now: Instant) -> bool {
        let due = self.solicits_left > 0 && self.solicit_at <= now;
        if due {
            self.solicits_left -= 1;
            self.solicit_at = now + SOLICIT_INTERVAL;
        }
        due
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let solicit = (self.solicits_left > 0).then_some(self.solicit_at);
        let prefixes = self.prefixes.iter().map(|prefix| prefix.valid_until);
        let routers = self.routers.iter().map(|router| router.valid_until);
        solicit.into_iter().chain(prefixes).chain(routers).min()
    }

    /// Takes in a router advertisement; `body` starts at the ICMP type.
    pub(super) fn on_advert(&mut self, now: Instant, router: Ipv6Address, body: &[u8]) {
        let Some((header, mut options)) = body.split_at_checked(ADVERT_HEADER_LEN) else {
            return;
        };
        if !options_well_formed(options) {
            return;
        }
        self.solicits_left = 0;
        let lifetime_s = u16::from_be_bytes([header[6], header[7]]);
        self.on_router(now, router, Duration::from_secs(lifetime_s.into()));
        while let Some((option, rest)) = next_option(options) {
            if option.first() == Some(&OPTION_PREFIX) {
                self.on_prefix(now, option);
            }
            options = rest;
        }
    }

    fn on_router(&mut self, now: Instant, addr: Ipv6Address, lifetime: Duration) {
        let valid_until = now + lifetime;
        if let Some(router) = self.routers.iter_mut().find(|router| router.addr == addr) {
            router.valid_until = valid_until;
        } else if lifetime > Duration::ZERO {
            // A third router is not needed; the first that runs out makes room.
            let _ = self.routers.push(Router { addr, valid_until });
        }
    }

    fn on_prefix(&mut self, now: Instant, option: &[u8]) {
        let Some(option) = option.first_chunk::<OPTION_PREFIX_LEN>() else {
            return;
        };
        let lifetime = |at: usize| {
            u32::from_be_bytes([option[at], option[at + 1], option[at + 2], option[at + 3]])
        };
        let (valid_s, preferred_s) = (lifetime(4), lifetime(8));
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(&option[16..24]);
        let prefix = Ipv6Address::from(octets);
        if option[2] != PREFIX_LEN
            || option[3] & FLAG_AUTONOMOUS == 0
            || preferred_s > valid_s
            || prefix.is_multicast()
            || prefix.is_unicast_link_local()
            || prefix.is_unspecified()
        {
            return;
        }
        octets[8..].copy_from_slice(&interface_id(self.mac));
        let cidr = Ipv6Cidr::new(Ipv6Address::from(octets), PREFIX_LEN);
        let valid_until = now + Duration::from_secs(valid_s.into());
        if let Some(known) = self.prefixes.iter_mut().find(|prefix| prefix.cidr == cidr) {
            // A forged advertisement must not be able to take an address away at once.
            known.valid_until = valid_until.max(known.valid_until.min(now + TWO_HOURS));
        } else if valid_s > 0 {
            // A fifth prefix has no room and is left alone.
            let _ = self.prefixes.push(Prefix { cidr, valid_until });
        }
    }

    /// Forgets what has run out.
    pub(super) fn expire(&mut self, now: Instant) {
        self.routers.retain(|router| router.valid_until > now);
        self.prefixes.retain(|prefix| prefix.valid_until > now);
    }

    /// The addresses to use.
    pub(super) fn addresses(&self) -> impl Iterator<Item = Ipv6Cidr> {
        self.prefixes.iter().map(|prefix| prefix.cidr)
    }

    /// The default router to use.
    pub(super) fn router(&self) -> Option<Ipv6Address> {
        self.routers.first().map(|router| router.addr)
    }
}

/// The lower half of every address of ours (RFC 4291, appendix A).
fn interface_id(mac: EthernetAddress) -> [u8; 8] {
    let [a, b, c, d, e, f] = mac.0;
    [a ^ 2, b, c, 0xff, 0xfe, d, e, f]
}

/// The address every IPv6 interface has: fe80::/64 with the MAC.
pub(super) fn link_local(mac: EthernetAddress) -> Ipv6Cidr {
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0xfe, 0x80]);
    octets[8..].copy_from_slice(&interface_id(mac));
    Ipv6Cidr::new(Ipv6Address::from(octets), PREFIX_LEN)
}

/// The first option, and what follows. Lengths count units of eight bytes; zero is malformed.
fn next_option(options: &[u8]) -> Option<(&[u8], &[u8])> {
    let units = usize::from(*options.get(1)?);
    if units == 0 {
        None
    } else {
        options.split_at_checked(units * 8)
    }
}

fn options_well_formed(mut options: &[u8]) -> bool {
    while let Some((_, rest)) = next_option(options) {
        options = rest;
    }
    options.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
    const ROUTER: Ipv6Address = Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

    /// An advertisement with one prefix option.
    fn advert(
        router_lifetime_s: u16,
        prefix: [u8; 8],
        prefix_len: u8,
        valid_s: u32,
        preferred_s: u32,
    ) -> [u8; 48] {
        let mut body = [0; 48];
        body[0] = 134;
        body[6..8].copy_from_slice(&router_lifetime_s.to_be_bytes());
        body[16..20].copy_from_slice(&[3, 4, prefix_len, 0xc0]);
        body[20..24].copy_from_slice(&valid_s.to_be_bytes());
        body[24..28].copy_from_slice(&preferred_s.to_be_bytes());
        body[32..40].copy_from_slice(&prefix);
        body
    }

    const DOCUMENTATION: [u8; 8] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 7];

    #[test]
    fn prefixes_that_cannot_make_an_address_are_ignored() {
        let mut slaac = Slaac::new(MAC);
        let now = Instant::from_secs(5);
        for body in [
            advert(0, DOCUMENTATION, 65, 100, 100),
            advert(0, DOCUMENTATION, 255, 100, 100),
            advert(0, DOCUMENTATION, 64, 100, 101),
            advert(0, DOCUMENTATION, 64, 0, 0),
            advert(0, [0xff, 2, 0, 0, 0, 0, 0, 0], 64, 100, 100),
            advert(0, [0xfe, 0x80, 0, 0, 0, 0, 0, 0], 64, 100, 100),
            advert(0, [0; 8], 64, 100, 100),
        ] {
            slaac.on_advert(now, ROUTER, &body);
            assert_eq!(slaac.addresses().count(), 0, "{body:?}");
        }
        slaac.on_advert(now, ROUTER, &advert(0, DOCUMENTATION, 64, 100, 100));
        let expected = Ipv6Address::new(0x2001, 0xdb8, 0, 7, 0, 0xff, 0xfe00, 1);
        assert_eq!(
            slaac.addresses().collect::<std::vec::Vec<_>>(),
            [Ipv6Cidr::new(expected, 64)]
        );
    }

    #[test]
    fn a_damaged_option_spoils_the_whole_advertisement() {
        let mut slaac = Slaac::new(MAC);
        for len in [0, 3, 5] {
            let mut body = advert(1800, DOCUMENTATION, 64, 100, 100);
            body[17] = len;
            slaac.on_advert(Instant::ZERO, ROUTER, &body);
            assert_eq!((slaac.addresses().count(), slaac.router()), (0, None));
        }
    }

    #[test]
    fn a_forged_short_lifetime_leaves_two_hours() {
        let mut slaac = Slaac::new(MAC);
        let now = Instant::from_secs(5);
        slaac.on_advert(now, ROUTER, &advert(0, DOCUMENTATION, 64, 86_400, 86_400));
        slaac.on_advert(now, ROUTER, &advert(0, DOCUMENTATION, 64, 0, 0));
        assert_eq!(slaac.deadline(), Some(now + TWO_HOURS));
        slaac.on_advert(now, ROUTER, &advert(0, DOCUMENTATION, 64, 86_400, 86_400));
        assert_eq!(slaac.deadline(), Some(now + Duration::from_secs(86_400)));
    }

    #[test]
    fn a_router_that_resigns_is_replaced_by_the_next() {
        let mut slaac = Slaac::new(MAC);
        let other = Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
        let now = Instant::from_secs(5);
        let body = |lifetime| advert(lifetime, DOCUMENTATION, 0, 0, 0);
        slaac.on_advert(now, ROUTER, &body(1800));
        slaac.on_advert(now, other, &body(1800));
        assert_eq!(slaac.router(), Some(ROUTER));
        slaac.on_advert(now, ROUTER, &body(0));
        slaac.expire(now);
        assert_eq!(slaac.router(), Some(other));
    }

    #[test]
    fn three_solicitations_then_silence() {
        let mut slaac = Slaac::new(MAC);
        slaac.start(Instant::ZERO);
        for second in [0, 4, 8] {
            let at = Instant::from_secs(second);
            assert_eq!(slaac.deadline(), Some(at));
            assert!(slaac.solicit(at));
            assert!(!slaac.solicit(at));
        }
        assert_eq!(slaac.deadline(), None);
    }
}
