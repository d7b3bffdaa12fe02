//! Who has said what its hardware address is: answers and questions of ARP and neighbour discovery that concern us.
//!
//! The stack has a cache of its own, of 64 entries that last a minute, which it shows to nobody. What fills that passes
//! here, too; so this is what it knows, but for what it learnt and forgot again.

use core::net::IpAddr;

use hal::net::MacAddr;
use hal::net::checksum::{fold, sum};
use heapless::Vec;

/// How many are remembered on an interface. The one that was silent for longest goes for a newcomer.
pub const NEIGHBOURS: usize = 32;
/// A neighbour that was silent for longer is asked again. Spec: what smoltcp 0.14 does.
const LIFETIME_US: u64 = 60_000_000;

const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
/// Spec: RFC 4861, 4.3, 4.4 and 4.6.1.
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_OPTION: u8 = 1;
const TARGET_OPTION: u8 = 2;

/// A neighbour that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Its hardware address.
    pub mac: MacAddr,
    /// When it last said so, in microseconds since start.
    pub heard_us: u64,
}

/// The neighbours of one interface.
#[derive(Debug, Default)]
pub struct Neighbours(Vec<Neighbour, NEIGHBOURS>);

impl Neighbours {
    /// All of them, in no order.
    pub fn each(&self) -> impl Iterator<Item = &Neighbour> {
        self.0.iter()
    }

    /// Forgets them: the cable may lead elsewhere.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The hardware address of a neighbour that was heard lately.
    pub fn mac_of(&self, address: IpAddr, now_us: u64) -> Option<MacAddr> {
        let known = self.0.iter().find(|known| known.address == address)?;
        (now_us.saturating_sub(known.heard_us) < LIFETIME_US).then_some(known.mac)
    }

    /// Learns from a received frame, whatever it is. What is not meant for us only confirms what is known.
    #[inline(never)]
    pub fn hear(&mut self, frame: &[u8], now_us: u64, is_ours: &dyn Fn(IpAddr) -> bool) {
        let Some((address, mac, to)) = said(frame) else {
            return;
        };
        let usable = match address {
            IpAddr::V4(v4) => !matches!(v4.octets()[0], 0 | 127 | 224..),
            IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast() && !v6.is_loopback(),
        };
        if !usable || mac[0] & 1 != 0 || mac == [0; 6] || is_ours(address) {
            return;
        }
        let neighbour = Neighbour {
            address,
            mac,
            heard_us: now_us,
        };
        if let Some(known) = self.0.iter_mut().find(|known| known.address == address) {
            *known = neighbour;
        } else if is_ours(to) {
            if self.0.is_full() {
                let oldest = self.0.iter().enumerate().min_by_key(|(_, n)| n.heard_us);
                let at = oldest.map_or(0, |(at, _)| at);
                self.0.swap_remove(at);
            }
            // There is room.
            let _ = self.0.push(neighbour);
        }
    }
}

/// Who says so: address, hardware address, and whom it wants to reach.
fn said(frame: &[u8]) -> Option<(IpAddr, MacAddr, IpAddr)> {
    let head = frame.first_chunk::<42>()?;
    if head[12..14] == ARP {
        // Ethernet, IPv4, lengths; question or answer. Spec: RFC 826.
        let known = head[14..21] == [0, 1, 8, 0, 6, 4, 0] && matches!(head[21], 1 | 2);
        let v4 = |at: usize| IpAddr::from([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let mac = [head[22], head[23], head[24], head[25], head[26], head[27]];
        return known.then_some((v4(28), mac, v4(38)));
    }
    // The hardware address is the first option, as everybody sends it.
    let head = frame.first_chunk::<86>()?;
    if head[12..14] != IPV6 || head[20..22] != [ICMPV6, 255] || head[55] != 0 || head[79] != 1 {
        return None;
    }
    let message = frame.get(54..54 + usize::from(u16::from_be_bytes([head[18], head[19]])))?;
    if message.len() < 32 || icmpv6_sum(frame, message) != 0xffff {
        return None;
    }
    let v6 = |at: usize| {
        let octets = head.get(at..).and_then(|bytes| bytes.first_chunk::<16>());
        octets.map(|octets| IpAddr::from(*octets))
    };
    let mac = [head[80], head[81], head[82], head[83], head[84], head[85]];
    match [head[54], head[78]] {
        [SOLICITATION, SOURCE_OPTION] => Some((v6(22)?, mac, v6(62)?)),
        [ADVERTISEMENT, TARGET_OPTION] => Some((v6(62)?, mac, v6(38)?)),
        _ => None,
    }
}

/// The sum that a checksum makes all ones, of an ICMPv6 message in a frame. Spec: RFC 8200, 8.1.
pub(crate) fn icmpv6_sum(frame: &[u8], message: &[u8]) -> u16 {
    let addresses = frame.get(22..54).unwrap_or_default();
    let pseudo = u64::from((message.len() as u16).to_be()) + u64::from(u16::from(ICMPV6).to_be());
    fold(sum(addresses) + sum(message) + pseudo)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addressing::solicitation;
    use smoltcp::wire::EthernetAddress;

    const PEER: MacAddr = [2, 0, 0, 0, 0, 9];

    fn question(from: &str, to: &str) -> std::vec::Vec<u8> {
        let mut out = [0; 128];
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        let len = solicitation(EthernetAddress(PEER), from, to, &mut out).unwrap();
        out[..len].to_vec()
    }

    fn heard(frames: &[std::vec::Vec<u8>]) -> Neighbours {
        let ours = |address: IpAddr| {
            address == "10.0.0.1".parse::<IpAddr>().unwrap()
                || address == "fe80::1".parse::<IpAddr>().unwrap()
        };
        let mut neighbours = Neighbours::default();
        for (at, frame) in frames.iter().enumerate() {
            neighbours.hear(frame, at as u64, &ours);
        }
        neighbours
    }

    #[test]
    fn who_asks_us_is_known_and_who_asks_others_is_not() {
        let frames = [
            question("10.0.0.9", "10.0.0.1"),
            question("10.0.0.8", "10.0.0.7"),
            question("fe80::9", "fe80::1"),
            question("fe80::8", "fe80::7"),
            question("0.0.0.0", "10.0.0.1"),
            question("::", "fe80::1"),
            question("10.0.0.1", "10.0.0.1"),
        ];
        let neighbours = heard(&frames);
        let all: std::vec::Vec<_> = neighbours
            .each()
            .map(|n| (n.address.to_string(), n.mac))
            .collect();
        assert_eq!(all, [("10.0.0.9".into(), PEER), ("fe80::9".into(), PEER)]);
        let address = "10.0.0.9".parse().unwrap();
        assert_eq!(neighbours.mac_of(address, LIFETIME_US - 1), Some(PEER));
        assert_eq!(neighbours.mac_of(address, LIFETIME_US), None);
    }

    #[test]
    fn what_is_damaged_or_cut_off_says_nothing() {
        let sound = question("fe80::9", "fe80::1");
        for at in 20..sound.len() {
            let mut frame = sound.clone();
            frame[at] ^= 0x40;
            assert_eq!(heard(&[frame]).each().count(), 0, "byte {at}");
        }
        for frame in [sound, question("10.0.0.9", "10.0.0.1")] {
            for len in 0..frame.len() {
                assert_eq!(heard(&[frame[..len].to_vec()]).each().count(), 0, "{len}");
            }
        }
    }

    #[test]
    fn the_silent_ones_go_first() {
        let mut frames: std::vec::Vec<_> = (2..2 + NEIGHBOURS)
            .map(|host| question(&format!("10.0.0.{host}"), "10.0.0.1"))
            .collect();
        // The first one, again; and a newcomer.
        frames.push(question("10.0.0.2", "10.0.0.3"));
        frames.push(question("10.0.0.200", "10.0.0.1"));
        let neighbours = heard(&frames);
        let knows = |address: &str| neighbours.mac_of(address.parse().unwrap(), 50).is_some();
        assert!(knows("10.0.0.2") && !knows("10.0.0.3") && knows("10.0.0.200"));
        assert_eq!(neighbours.each().count(), NEIGHBOURS);
    }
}
