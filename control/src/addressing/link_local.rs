//! Choosing a 169.254/16 address nobody else uses (RFC 3927).
//!
//! This is the part before the address is in use: candidates, probes, conflicts while probing. Once
//! claimed, the address is announced and defended like any other (see [`super::claims`]).
//!
//! ```text
//! start   0..1 s   probe   1..2 s   probe   1..2 s   probe   2 s   claim       4 to 7 s in all
//! ```

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{ArpRepr, EthernetAddress, Ipv4Address};

use super::random::Random;

/// Spec: RFC 3927, section 9.
const PROBE_WAIT_MS: u32 = 1000;
const PROBE_NUM: u8 = 3;
const PROBE_MIN_MS: u32 = 1000;
const PROBE_MAX_MS: u32 = 2000;
const ANNOUNCE_WAIT: Duration = Duration::from_secs(2);
const MAX_CONFLICTS: u8 = 10;
const RATE_LIMIT_INTERVAL: Duration = Duration::from_secs(60);

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Send an ARP probe for this address.
    Probe(Ipv4Address),
    /// The address is free: take it.
    Claim(Ipv4Address),
}

/// Finds a free address.
#[derive(Debug)]
pub(super) struct Prober {
    mac: EthernetAddress,
    /// Seeded by the MAC alone: the same board prefers the same address after every reset.
    candidates: Random,
    candidate: Ipv4Address,
    conflicts: u8,
    probing: Option<Probing>,
}

#[derive(Debug, Clone, Copy)]
struct Probing {
    sent: u8,
    at: Instant,
}

impl Prober {
    pub(super) fn new(mac: EthernetAddress) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        let mut candidates = Random::new(u64::from_be_bytes([0, 0, a, b, c, d, e, f]));
        let candidate = next_candidate(&mut candidates);
        Self {
            mac,
            candidates,
            candidate,
            conflicts: 0,
            probing: None,
        }
    }

    pub(super) fn is_probing(&self) -> bool {
        self.probing.is_some()
    }

    pub(super) fn start(&mut self, now: Instant, random: &mut Random) {
        let mut wait = random.between_ms(0, PROBE_WAIT_MS);
        if self.conflicts >= MAX_CONFLICTS {
            wait += RATE_LIMIT_INTERVAL;
        }
        self.probing = Some(Probing {
            sent: 0,
            at: now + wait,
        });
    }

    pub(super) fn stop(&mut self) {
        self.probing = None;
    }

    /// The network changed: what conflicted before need not conflict now.
    pub(super) fn forget_conflicts(&mut self) {
        self.conflicts = 0;
    }

    /// Somebody else has the candidate: on to the next one, slowly after [`MAX_CONFLICTS`].
    pub(super) fn conflict(&mut self, now: Instant, random: &mut Random) {
        self.conflicts = self.conflicts.saturating_add(1);
        self.candidate = next_candidate(&mut self.candidates);
        self.start(now, random);
    }

    /// Whether `arp` says that the address being probed is taken, or about to be taken, and by whom.
    pub(super) fn conflicts_with(&self, arp: &ArpRepr) -> Option<(Ipv4Address, EthernetAddress)> {
        let ArpRepr::EthernetIpv4 {
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = *arp
        else {
            return None;
        };
        let taken = source_protocol_addr == self.candidate;
        let wanted =
            source_protocol_addr.is_unspecified() && target_protocol_addr == self.candidate;
        (self.is_probing() && source_hardware_addr != self.mac && (taken || wanted))
            .then_some((self.candidate, source_hardware_addr))
    }

    pub(super) fn poll(&mut self, now: Instant, random: &mut Random) -> Option<Step> {
        let probing = self.probing.as_mut().filter(|probing| probing.at <= now)?;
        if probing.sent == PROBE_NUM {
            self.probing = None;
            return Some(Step::Claim(self.candidate));
        }
        probing.sent += 1;
        let last = probing.sent == PROBE_NUM;
        probing.at = now
            + if last {
                ANNOUNCE_WAIT
            } else {
                random.between_ms(PROBE_MIN_MS, PROBE_MAX_MS)
            };
        Some(Step::Probe(self.candidate))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.probing.map(|probing| probing.at)
    }
}

/// 169.254.1.0 to 169.254.254.255, evenly (RFC 3927, 2.1: the first and last 256 are reserved).
fn next_candidate(random: &mut Random) -> Ipv4Address {
    let [_, _, high, low] = (256 + random.below(254 * 256)).to_be_bytes();
    Ipv4Address::new(169, 254, high, low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_avoid_the_reserved_ends_and_reach_both_sides() {
        let mut random = Random::new(1);
        let (mut low, mut high) = (255, 0);
        for _ in 0..100_000 {
            let [a, b, third, _] = next_candidate(&mut random).octets();
            assert_eq!((a, b), (169, 254));
            assert!((1..=254).contains(&third));
            (low, high) = (low.min(third), high.max(third));
        }
        assert_eq!((low, high), (1, 254));
    }

    #[test]
    fn a_board_prefers_the_same_address_after_every_reset() {
        let (one, two) = (
            EthernetAddress([2, 0, 0, 0, 0, 1]),
            EthernetAddress([2, 0, 0, 0, 0, 2]),
        );
        assert_eq!(Prober::new(one).candidate, Prober::new(one).candidate);
        assert_ne!(Prober::new(one).candidate, Prober::new(two).candidate);
    }

    #[test]
    fn ten_conflicts_slow_the_search_down() {
        let mut random = Random::new(7);
        let mut prober = Prober::new(EthernetAddress([2, 0, 0, 0, 0, 1]));
        let now = Instant::from_secs(100);
        for _ in 0..9 {
            prober.conflict(now, &mut random);
            assert!(prober.deadline() <= Some(now + Duration::from_secs(1)));
        }
        prober.conflict(now, &mut random);
        assert!(prober.deadline() >= Some(now + RATE_LIMIT_INTERVAL));
    }
}
