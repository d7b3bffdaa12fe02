//! What the receive parser makes of a frame.

use super::checksum;

/// Tag between the source address and the EtherType that the parser was told to expect (0x2454 bits 11:10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwitchTag {
    /// None: an EtherType follows the source address.
    None,
    /// Four bytes of DSA tag.
    Dsa,
    /// Eight bytes of extended DSA tag.
    Extended,
}

/// Network layer as the status word tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum L3 {
    /// Neither IPv4 nor IPv6.
    Unknown,
    /// IPv4.
    Ipv4 {
        /// The header is sound.
        good: bool,
        /// Part of a datagram.
        fragment: bool,
        /// Type of service.
        tos: u8,
    },
    /// IPv6.
    Ipv6,
}

/// Transport layer as the status word tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum L4 {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Anything else.
    Other,
}

/// The parser's findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// An 802.1Q tag was seen; its priority.
    pub vlan_priority: Option<u8>,
    /// The EtherType behind all tags, or the length field of an 802.3 frame.
    pub ether_type: u16,
    /// Network layer.
    pub l3: L3,
    /// Transport layer.
    pub l4: L4,
    /// The transport checksum is right.
    pub l4_good: bool,
}

impl Parsed {
    /// Parses `frame` (without FCS); with `pseudo` the L4 check includes the pseudo header (0x2400 bit 25).
    #[must_use]
    pub fn new(frame: &[u8], tag: SwitchTag, vlan_ether_type: u16, pseudo: bool) -> Self {
        let mut at = 12
            + match tag {
                SwitchTag::None => 0,
                SwitchTag::Dsa => 4,
                SwitchTag::Extended => 8,
            };
        let mut vlan_priority = None;
        if word(frame, at) == Some(vlan_ether_type) {
            vlan_priority = frame.get(at + 2).map(|tci| tci >> 5);
            at += 4;
        }
        let ether_type = word(frame, at).unwrap_or(0);
        let packet = frame.get(at + 2..).unwrap_or(&[]);
        let (l3, l4, l4_good) = match ether_type {
            0x0800 => ipv4(packet, pseudo),
            0x86dd => ipv6(packet, pseudo),
            _ => (L3::Unknown, L4::Other, false),
        };
        Self {
            vlan_priority,
            ether_type,
            l3,
            l4,
            l4_good,
        }
    }
}

fn word(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]))
}

fn ipv4(packet: &[u8], pseudo: bool) -> (L3, L4, bool) {
    let header_len = packet
        .first()
        .map_or(0, |first| usize::from(first & 15) * 4);
    let total = usize::from(word(packet, 2).unwrap_or(0));
    let sound = packet.first().is_some_and(|first| first >> 4 == 4)
        && header_len >= 20
        && total >= header_len
        && packet.len() >= total
        && checksum::internet(&packet[..header_len]) == 0;
    let fragment = word(packet, 6).unwrap_or(0) & 0x3fff != 0;
    let l3 = L3::Ipv4 {
        good: sound,
        fragment,
        tos: packet.get(1).copied().unwrap_or(0),
    };
    if !sound {
        return (l3, L4::Other, false);
    }
    let (l4, good) = transport(
        &packet[12..20],
        packet[9],
        &packet[header_len..total],
        pseudo,
    );
    (l3, l4, good && !fragment)
}

fn ipv6(packet: &[u8], pseudo: bool) -> (L3, L4, bool) {
    let payload = usize::from(word(packet, 4).unwrap_or(0));
    let Some(segment) = packet.get(40..40 + payload) else {
        return (L3::Ipv6, L4::Other, false);
    };
    let (l4, good) = transport(&packet[8..40], packet[6], segment, pseudo);
    (L3::Ipv6, l4, good)
}

fn transport(addresses: &[u8], protocol: u8, segment: &[u8], pseudo: bool) -> (L4, bool) {
    let seed = if pseudo {
        checksum::pseudo_header(addresses, protocol, segment.len())
    } else {
        0
    };
    match protocol {
        6 => (
            L4::Tcp,
            segment.len() >= 20 && checksum::verifies(seed, segment),
        ),
        17 => (
            L4::Udp,
            segment.len() >= 8 && checksum::verifies(seed, segment),
        ),
        _ => (L4::Other, false),
    }
}
