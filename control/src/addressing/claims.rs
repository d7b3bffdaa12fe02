//! The IPv4 addresses in use: announcing and defending them by ARP (RFC 5227).
//!
//! Works for every origin alike. A link-local address is given up when it is contested twice within
//! ten seconds; a static or leased one is kept, since nobody here could choose another.

use heapless::Vec;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{ArpOperation, ArpRepr, EthernetAddress, Ipv4Address, Ipv4Cidr};

use super::Origin;
use super::frames::Frame;

/// Spec: RFC 5227, section 1.1.
const ANNOUNCE_NUM: u8 = 2;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// The most IPv4 addresses at one time: a lease, and a link-local address on its way out.
pub(super) const MAX_CLAIMS: usize = 2;

/// One IPv4 address of ours.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) cidr: Ipv4Cidr,
    pub(super) origin: Origin,
    /// When the address is to be removed, if that is settled already.
    pub(super) retire_at: Option<Instant>,
    announcements_left: u8,
    announce_at: Instant,
    defended_at: Option<Instant>,
}

/// What an ARP packet means for our addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Ignore,
    /// Send this and go on.
    Answer(Frame),
    /// Somebody else uses our address. We told everybody that it is ours.
    Defended(Ipv4Address, EthernetAddress),
    /// Contested again so soon that the address must go.
    Lost(Ipv4Address, EthernetAddress),
}

/// All IPv4 addresses of the interface.
#[derive(Debug, Default)]
pub(super) struct Claims(Vec<Claim, MAX_CLAIMS>);

impl Claims {
    pub(super) fn find(&mut self, origin: Origin) -> Option<&mut Claim> {
        self.0.iter_mut().find(|claim| claim.origin == origin)
    }

    /// Takes the address into use; it is announced from `now` on. `false` if there is no room.
    pub(super) fn add(&mut self, now: Instant, cidr: Ipv4Cidr, origin: Origin) -> bool {
        let claim = Claim {
            cidr,
            origin,
            retire_at: None,
            announcements_left: ANNOUNCE_NUM,
            announce_at: now,
            defended_at: None,
        };
        self.0.push(claim).is_ok()
    }

    pub(super) fn remove(&mut self, origin: Origin) -> Option<Ipv4Cidr> {
        let index = self.0.iter().position(|claim| claim.origin == origin)?;
        Some(self.0.swap_remove(index).cidr)
    }

    /// Announces everything again: the link came up, perhaps elsewhere.
    pub(super) fn announce_again(&mut self, now: Instant) {
        for claim in &mut self.0 {
            claim.announcements_left = ANNOUNCE_NUM;
            claim.announce_at = now;
        }
    }

    /// The next announcement that is due.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Frame> {
        let claim = self
            .0
            .iter_mut()
            .find(|claim| claim.announcements_left > 0 && claim.announce_at <= now)?;
        claim.announcements_left -= 1;
        claim.announce_at = now + ANNOUNCE_INTERVAL;
        Some(Frame::ArpAnnounce(claim.cidr.address()))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let announce = self
            .0
            .iter()
            .filter(|claim| claim.announcements_left > 0)
            .map(|claim| claim.announce_at);
        announce
            .chain(self.0.iter().filter_map(|claim| claim.retire_at))
            .min()
    }

    pub(super) fn on_arp(&mut self, now: Instant, mac: EthernetAddress, arp: &ArpRepr) -> Verdict {
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: sender,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = *arp
        else {
            return Verdict::Ignore;
        };
        if sender == mac || !sender.is_unicast() {
            return Verdict::Ignore;
        }
        // smoltcp drops requests from 0.0.0.0, so that a prober would take our address for free.
        if source_protocol_addr.is_unspecified() {
            let asked = self
                .0
                .iter()
                .any(|claim| claim.cidr.address() == target_protocol_addr);
            return if asked && operation == ArpOperation::Request {
                Verdict::Answer(Frame::ArpDefend {
                    ours: target_protocol_addr,
                    prober: sender,
                })
            } else {
                Verdict::Ignore
            };
        }
        let Some(claim) = self
            .0
            .iter_mut()
            .find(|claim| claim.cidr.address() == source_protocol_addr)
        else {
            return Verdict::Ignore;
        };
        let contested_lately = claim
            .defended_at
            .is_some_and(|at| now < at + DEFEND_INTERVAL);
        match (contested_lately, claim.origin) {
            (true, Origin::LinkLocal) => Verdict::Lost(source_protocol_addr, sender),
            // Two hosts that answer each other's defence would never stop: once per interval is enough.
            (true, _) => Verdict::Ignore,
            (false, _) => {
                claim.defended_at = Some(now);
                Verdict::Defended(source_protocol_addr, sender)
            }
        }
    }
}
