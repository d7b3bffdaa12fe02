//! Frames that the stack must not see, because it would answer what nobody may answer.
//!
//! Only frames that belong to no open connection come by here. What is merely damaged goes on: the stack drops it.

use hal::net::MacAddr;
use hal::net::drops::Reason;
use hal::net::smoltcp::MAX_FRAME;
use smoltcp::iface::Interface;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, IpCidr, Ipv4Address, Ipv4Packet, Ipv6Address,
    Ipv6Packet, TcpPacket, TcpRepr,
};

const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// Of all groups, only mDNS has datagrams for us.
const MDNS: [u8; 2] = [0x14, 0xe9];

/// Why it may not.
pub const REASONS: [Reason; 6] = [
    Reason::Oversize,
    Reason::SourceMac,
    Reason::OtherStation,
    Reason::SourceAddress,
    Reason::ToGroup,
    Reason::Ipv6Malformed,
];

/// Whether the stack may see a frame.
///
/// Not if it is longer than what may be answered, for somebody else, or has a source that nobody can have or that is
/// ours. And nothing sent to a group may be answered by a reset or an ICMP error (RFC 1122, 3.2.2 and 4.2.3.10;
/// RFC 4443, 2.4).
///
/// # Errors
///
/// Why not.
pub fn admit(frame: &[u8], mac: MacAddr, iface: &Interface) -> Result<(), Reason> {
    let Some(head) = frame.first_chunk::<34>() else {
        return Ok(());
    };
    let to_group = head[0] & 1 != 0;
    if frame.len() > MAX_FRAME {
        return Err(Reason::Oversize);
    }
    if head[6] & 1 != 0 {
        return Err(Reason::SourceMac);
    }
    if !to_group && head[..6] != mac {
        return Err(Reason::OtherStation);
    }
    let (forged, welcome) = match [head[12], head[13]] {
        [0x08, 0x00] => {
            let source = Ipv4Address::new(head[26], head[27], head[28], head[29]);
            let to = Ipv4Address::new(head[30], head[31], head[32], head[33]);
            let forged = matches!(head[26], 0 | 127 | 224..)
                || iface.ip_addrs().iter().any(|cidr| match cidr {
                    IpCidr::Ipv4(cidr) => {
                        cidr.address() == source || cidr.broadcast() == Some(source)
                    }
                    IpCidr::Ipv6(_) => false,
                });
            let welcome = match iface.has_ip_addr(to) {
                true => !to_group,
                false => head[23] != TCP,
            };
            (forged, welcome)
        }
        [0x86, 0xdd] => match frame.first_chunk::<58>() {
            Some(head) => {
                let address = |at: usize| {
                    let octets = head.get(at..).and_then(|bytes| bytes.first_chunk::<16>());
                    octets.map_or(Ipv6Address::UNSPECIFIED, |octets| (*octets).into())
                };
                let (source, to) = (address(22), address(38));
                let forged =
                    source.is_loopback() || source.is_multicast() || iface.has_ip_addr(source);
                let welcome = match head[20] {
                    _ if to.is_loopback() => false,
                    _ if !to_group && !to.is_multicast() => true,
                    ICMPV6 => true,
                    HOP_BY_HOP => head[54] == ICMPV6,
                    UDP => head[56..58] == MDNS,
                    _ => false,
                };
                (forged, welcome)
            }
            None => return Err(Reason::Ipv6Malformed),
        },
        _ => return Ok(()),
    };
    match (forged, welcome) {
        (true, _) => Err(Reason::SourceAddress),
        (false, false) => Err(Reason::ToGroup),
        (false, true) => Ok(()),
    }
}

/// Whether the stack would take a TCP segment for one. For the rare case that somebody must go for it.
pub fn is_sound_segment(frame: &[u8]) -> bool {
    let checksums = ChecksumCapabilities::default();
    let sound = |source: IpAddress, to: IpAddress, segment: &[u8]| {
        TcpPacket::new_checked(segment)
            .is_ok_and(|packet| TcpRepr::parse(&packet, &source, &to, &checksums).is_ok())
    };
    let Ok(frame) = EthernetFrame::new_checked(frame) else {
        return false;
    };
    match frame.ethertype() {
        EthernetProtocol::Ipv4 => Ipv4Packet::new_checked(frame.payload()).is_ok_and(|packet| {
            let (source, to) = (packet.src_addr(), packet.dst_addr());
            packet.verify_checksum() && sound(source.into(), to.into(), packet.payload())
        }),
        EthernetProtocol::Ipv6 => Ipv6Packet::new_checked(frame.payload()).is_ok_and(|packet| {
            let (source, to) = (packet.src_addr(), packet.dst_addr());
            sound(source.into(), to.into(), packet.payload())
        }),
        _ => false,
    }
}
