//! The raw Ethernet frames that address configuration sends around the stack.
//!
//! smoltcp neither probes nor announces addresses, so ARP probes, announcements and defences, router
//! solicitations and answers to IPv6 duplicate address detection are built here.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Address, Ipv6Address, Ipv6Packet, Ipv6Repr,
    NdiscNeighborFlags, NdiscRepr,
};

const ALL_NODES: Ipv6Address = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Address = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// A frame waiting to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// "Does anybody use this address?", without claiming it (RFC 5227, 2.1.1).
    ArpProbe(Ipv4Address),
    /// "This address is mine" (RFC 5227, 2.3).
    ArpAnnounce(Ipv4Address),
    /// The answer to somebody else's ARP probe for our address.
    ArpDefend {
        ours: Ipv4Address,
        prober: EthernetAddress,
    },
    /// "Routers, tell me the prefixes" (RFC 4861, 4.1).
    RouterSolicit { from: Ipv6Address },
    /// The answer to somebody else's duplicate address detection for our address (RFC 4862, 5.4.3).
    NeighborDefend(Ipv6Address),
    /// "Who has this address?" (RFC 826).
    ArpAsk {
        ours: Ipv4Address,
        whom: Ipv4Address,
    },
    /// The same of an IPv6 address (RFC 4861, 4.3).
    NeighborAsk {
        ours: Ipv6Address,
        whom: Ipv6Address,
    },
}

impl Frame {
    /// Writes the frame; `None` if `out` is too short.
    pub(super) fn emit(self, mac: EthernetAddress, out: &mut [u8]) -> Option<usize> {
        match self {
            Self::ArpProbe(addr) => emit_arp(
                mac,
                EthernetAddress::BROADCAST,
                request(mac, Ipv4Address::UNSPECIFIED, addr),
                out,
            ),
            Self::ArpAnnounce(addr) => emit_arp(
                mac,
                EthernetAddress::BROADCAST,
                request(mac, addr, addr),
                out,
            ),
            Self::ArpDefend { ours, prober } => {
                // RFC 3927, 2.5: whatever carries a link-local sender address is broadcast.
                let destination = if ours.is_link_local() {
                    EthernetAddress::BROADCAST
                } else {
                    prober
                };
                let reply = ArpRepr::EthernetIpv4 {
                    operation: ArpOperation::Reply,
                    source_hardware_addr: mac,
                    source_protocol_addr: ours,
                    target_hardware_addr: prober,
                    target_protocol_addr: Ipv4Address::UNSPECIFIED,
                };
                emit_arp(mac, destination, reply, out)
            }
            Self::RouterSolicit { from } => {
                let solicit = NdiscRepr::RouterSolicit {
                    lladdr: Some(mac.into()),
                };
                emit_ndisc(mac, from, ALL_ROUTERS, solicit, out)
            }
            Self::NeighborDefend(target_addr) => {
                let advert = NdiscRepr::NeighborAdvert {
                    flags: NdiscNeighborFlags::OVERRIDE,
                    target_addr,
                    lladdr: Some(mac.into()),
                };
                emit_ndisc(mac, target_addr, ALL_NODES, advert, out)
            }
            Self::ArpAsk { ours, whom } => emit_arp(
                mac,
                EthernetAddress::BROADCAST,
                request(mac, ours, whom),
                out,
            ),
            Self::NeighborAsk { ours, whom } => {
                let solicit = NdiscRepr::NeighborSolicit {
                    target_addr: whom,
                    lladdr: Some(mac.into()),
                };
                // Its solicited-node group: RFC 4291, 2.7.1.
                let [.., a, b, c] = whom.octets();
                let low = [u16::from(a) | 0xff00, u16::from_be_bytes([b, c])];
                let group = Ipv6Address::new(0xff02, 0, 0, 0, 0, 1, low[0], low[1]);
                emit_ndisc(mac, ours, group, solicit, out)
            }
        }
    }
}

fn request(mac: EthernetAddress, sender: Ipv4Address, target: Ipv4Address) -> ArpRepr {
    ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: mac,
        source_protocol_addr: sender,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target,
    }
}

fn emit_arp(
    mac: EthernetAddress,
    destination: EthernetAddress,
    arp: ArpRepr,
    out: &mut [u8],
) -> Option<usize> {
    let len = EthernetFrame::<&[u8]>::header_len() + arp.buffer_len();
    let mut frame = EthernetFrame::new_unchecked(out.get_mut(..len)?);
    frame.set_src_addr(mac);
    frame.set_dst_addr(destination);
    frame.set_ethertype(EthernetProtocol::Arp);
    arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    Some(len)
}

fn emit_ndisc(
    mac: EthernetAddress,
    source: Ipv6Address,
    group: Ipv6Address,
    message: NdiscRepr,
    out: &mut [u8],
) -> Option<usize> {
    let message = Icmpv6Repr::Ndisc(message);
    let header = Ipv6Repr {
        src_addr: source,
        dst_addr: group,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.buffer_len(),
        hop_limit: 255,
    };
    let len = EthernetFrame::<&[u8]>::header_len() + header.buffer_len() + message.buffer_len();
    let mut frame = EthernetFrame::new_unchecked(out.get_mut(..len)?);
    let [.., a, b, c, d] = group.octets();
    frame.set_src_addr(mac);
    frame.set_dst_addr(EthernetAddress([0x33, 0x33, a, b, c, d]));
    frame.set_ethertype(EthernetProtocol::Ipv6);
    let mut packet = Ipv6Packet::new_unchecked(frame.payload_mut());
    header.emit(&mut packet);
    let mut icmp = Icmpv6Packet::new_unchecked(packet.payload_mut());
    message.emit(&source, &group, &mut icmp, &ChecksumCapabilities::default());
    Some(len)
}
