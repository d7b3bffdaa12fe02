//! Frames made by hand.

use hal::net::MacAddr;
use hal::net::checksum::{fold, sum};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;

/// Of the network's card.
pub const MAC: MacAddr = [2, 0, 0, 0, 0, 1];
/// The network's addresses.
pub const V4: Ipv4Address = Ipv4Address::new(10, 0, 0, 2);
pub const V6: Ipv6Address = Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
/// Of whoever sends frames made by hand.
pub const PEER: Ipv4Address = Ipv4Address::new(10, 0, 0, 77);
pub const PEER6: Ipv6Address = Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, 77);
/// Where frames made by hand come from.
pub const STRANGER: MacAddr = [2, 0, 0, 0, 9, 9];

pub fn ethernet(ethertype: EthernetProtocol, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 14 + payload.len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    frame.set_dst_addr(EthernetAddress(MAC));
    frame.set_src_addr(EthernetAddress(STRANGER));
    frame.set_ethertype(ethertype);
    frame.payload_mut().copy_from_slice(payload);
    bytes
}

/// An IP datagram in a frame to the network's card.
pub fn ip(src: IpAddress, dst: IpAddress, next_header: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let repr = match (src, dst) {
        (IpAddress::Ipv4(src_addr), IpAddress::Ipv4(dst_addr)) => IpRepr::Ipv4(Ipv4Repr {
            src_addr,
            dst_addr,
            next_header,
            payload_len: payload.len(),
            hop_limit: 64,
        }),
        (IpAddress::Ipv6(src_addr), IpAddress::Ipv6(dst_addr)) => IpRepr::Ipv6(Ipv6Repr {
            src_addr,
            dst_addr,
            next_header,
            payload_len: payload.len(),
            hop_limit: 255,
        }),
        _ => panic!("two kinds of addresses"),
    };
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(&mut bytes[..], &ChecksumCapabilities::default());
    bytes[repr.header_len()..].copy_from_slice(payload);
    let ethertype = match src {
        IpAddress::Ipv4(_) => EthernetProtocol::Ipv4,
        IpAddress::Ipv6(_) => EthernetProtocol::Ipv6,
    };
    ethernet(ethertype, &bytes)
}

pub fn udp(
    src: impl Into<IpAddress>,
    src_port: u16,
    dst: impl Into<IpAddress>,
    dst_port: u16,
    payload: &[u8],
) -> Vec<u8> {
    let (src, dst) = (src.into(), dst.into());
    let mut bytes = vec![0; 8 + payload.len()];
    UdpRepr { src_port, dst_port }.emit(
        &mut UdpPacket::new_unchecked(&mut bytes),
        &src,
        &dst,
        payload.len(),
        |to| to.copy_from_slice(payload),
        &ChecksumCapabilities::default(),
    );
    ip(src, dst, IpProtocol::Udp, &bytes)
}

pub fn ping(src: Ipv4Address, dst: Ipv4Address, data: &[u8]) -> Vec<u8> {
    let repr = Icmpv4Repr::EchoRequest {
        ident: 1,
        seq_no: 2,
        data,
    };
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(
        &mut Icmpv4Packet::new_unchecked(&mut bytes),
        &ChecksumCapabilities::default(),
    );
    ip(src.into(), dst.into(), IpProtocol::Icmp, &bytes)
}

pub fn ping6(src: Ipv6Address, dst: Ipv6Address, data: &[u8]) -> Vec<u8> {
    let repr = Icmpv6Repr::EchoRequest {
        ident: 1,
        seq_no: 2,
        data,
    };
    icmp6(src, dst, &repr)
}

pub fn icmp6(src: Ipv6Address, dst: Ipv6Address, repr: &Icmpv6Repr) -> Vec<u8> {
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(
        &src,
        &dst,
        &mut Icmpv6Packet::new_unchecked(&mut bytes),
        &ChecksumCapabilities::default(),
    );
    ip(src.into(), dst.into(), IpProtocol::Icmpv6, &bytes)
}

/// A TCP segment with nothing special about it.
pub fn segment(src_port: u16, dst_port: u16) -> TcpRepr<'static> {
    TcpRepr {
        src_port,
        dst_port,
        control: TcpControl::None,
        seq_number: TcpSeqNumber(1000),
        ack_number: None,
        window_len: 65_000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    }
}

pub fn syn(src_port: u16, dst_port: u16) -> TcpRepr<'static> {
    TcpRepr {
        control: TcpControl::Syn,
        max_seg_size: Some(1460),
        ..segment(src_port, dst_port)
    }
}

pub fn tcp(src: impl Into<IpAddress>, dst: impl Into<IpAddress>, repr: &TcpRepr) -> Vec<u8> {
    let (src, dst) = (src.into(), dst.into());
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(
        &mut TcpPacket::new_unchecked(&mut bytes),
        &src,
        &dst,
        &ChecksumCapabilities::default(),
    );
    ip(src, dst, IpProtocol::Tcp, &bytes)
}

pub fn arp(
    operation: ArpOperation,
    from: (MacAddr, Ipv4Address),
    to: (MacAddr, Ipv4Address),
) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: EthernetAddress(from.0),
        source_protocol_addr: from.1,
        target_hardware_addr: EthernetAddress(to.0),
        target_protocol_addr: to.1,
    };
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(&mut ArpPacket::new_unchecked(&mut bytes));
    ethernet(EthernetProtocol::Arp, &bytes)
}

/// The TCP segment in a frame that the network sent over IPv4: its header's flags (FIN 1, SYN 2, RST 4, ACK 16),
/// sequence number, acknowledgement, payload.
pub fn parse(frame: &[u8]) -> Option<(u8, u32, u32, &[u8])> {
    if frame.get(12..14)? != [8, 0] || frame[23] != 6 {
        return None;
    }
    let packet = TcpPacket::new_checked(
        &frame[34..14 + usize::from(frame[17]) + usize::from(frame[16]) * 256],
    )
    .ok()?;
    let flags = u8::from(packet.fin())
        | u8::from(packet.syn()) << 1
        | u8::from(packet.rst()) << 2
        | u8::from(packet.ack()) << 4;
    let (seq, ack) = (packet.seq_number().0 as u32, packet.ack_number().0 as u32);
    Some((
        flags,
        seq,
        ack,
        &frame[34 + usize::from(packet.header_len())
            ..14 + usize::from(frame[17]) + usize::from(frame[16]) * 256],
    ))
}

/// Real frames of all kinds, for mutation.
pub fn corpus() -> Vec<Vec<u8>> {
    let router = Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let mut tcp_data = segment(5000, 80);
    tcp_data.payload = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    tcp_data.ack_number = Some(TcpSeqNumber(1));
    let mut frames = vec![
        udp(PEER, 5000, V4, 7, b"hello"),
        udp(PEER, 5353, Ipv4Address::new(224, 0, 0, 251), 5353, &[0; 30]),
        udp(PEER, 67, V4, 68, &[2; 300]),
        udp(PEER6, 5000, V6, 7, b"hello"),
        ping(PEER, V4, b"hello"),
        ping6(PEER6, V6, b"hello"),
        tcp(PEER, V4, &syn(5000, 80)),
        tcp(PEER6, V6, &syn(5000, 7)),
        tcp(PEER, V4, &tcp_data),
        arp(ArpOperation::Request, (STRANGER, PEER), ([0; 6], V4)),
        arp(ArpOperation::Reply, (STRANGER, PEER), (MAC, V4)),
        ip(
            PEER.into(),
            Ipv4Address::new(224, 0, 0, 1).into(),
            IpProtocol::Igmp,
            &[0x11, 100, 0xee, 0x9b, 0, 0, 0, 0],
        ),
    ];
    let solicit = NdiscRepr::NeighborSolicit {
        target_addr: V6,
        lladdr: Some(EthernetAddress(STRANGER).into()),
    };
    let advert = NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::OVERRIDE,
        target_addr: PEER6,
        lladdr: Some(EthernetAddress(STRANGER).into()),
    };
    frames.push(icmp6(PEER6, V6, &Icmpv6Repr::Ndisc(solicit)));
    frames.push(icmp6(PEER6, V6, &Icmpv6Repr::Ndisc(advert)));
    let mld = [
        130, 0, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 60, 0, 0,
    ];
    let mut hop_by_hop = vec![58, 0, 5, 2, 0, 0, 1, 0];
    hop_by_hop.extend(mld);
    frames.push(ip(
        router.into(),
        Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into(),
        IpProtocol::HopByHop,
        &hop_by_hop,
    ));
    frames
}

/// Repairs checksums, so that a damaged frame gets past them.
pub fn repair(frame: &mut [u8]) {
    if frame.len() < 54 {
        return;
    }
    let (start, pseudo, protocol, end) = match frame[12..14] {
        [8, 0] => {
            let header = 14 + usize::from(frame[14] & 15) * 4;
            let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            if header > frame.len() || end > frame.len() || end < header {
                return;
            }
            frame[24..26].fill(0);
            let checksum = !fold(sum(&frame[14..header]));
            frame[24..26].copy_from_slice(&checksum.to_ne_bytes());
            (header, sum(&frame[26..34]), frame[23], end)
        }
        [0x86, 0xdd] => {
            let end = 54 + usize::from(u16::from_be_bytes([frame[18], frame[19]]));
            let (start, protocol) = match frame[20] {
                0 if frame.len() >= 62 => (54 + 8 + usize::from(frame[55]) * 8, frame[54]),
                other => (54, other),
            };
            if end > frame.len() || start > end {
                return;
            }
            (start, sum(&frame[22..54]), protocol, end)
        }
        _ => return,
    };
    let at = match protocol {
        1 | 2 | 58 => 2,
        6 => 16,
        17 => 6,
        _ => return,
    };
    if end - start < at + 2 {
        return;
    }
    frame[start + at..start + at + 2].fill(0);
    let len = u64::from(((end - start) as u32).swap_bytes())
        + u64::from(u32::from(protocol).swap_bytes());
    let pseudo = if matches!(protocol, 1 | 2) {
        0
    } else {
        pseudo + len
    };
    let checksum = !fold(sum(&frame[start..end]) + pseudo);
    frame[start + at..start + at + 2].copy_from_slice(&checksum.to_ne_bytes());
}
