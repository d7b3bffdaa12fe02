//! The raw Ethernet frames that address configuration sends around the stack.
//!
//! smoltcp neither probes nor announces addresses, so ARP probes, announcements and defences, router
//! solicitations and answers to IPv6 duplicate address detection are built here.

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Ipv4Address, Ipv6Address,
};

use crate::neighbours::icmpv6_sum;

const ALL_NODES: Ipv6Address = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Address = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Type, flags and kind of option. Spec: RFC 4861, 4.1, 4.3 and 4.4; the flag is "override".
const ROUTER_SOLICITATION: (u8, u8, u8) = (133, 0, 1);
const SOLICITATION: (u8, u8, u8) = (135, 0, 1);
const ADVERTISEMENT: (u8, u8, u8) = (136, 0x20, 2);

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
                emit_ndisc(mac, from, ALL_ROUTERS, ROUTER_SOLICITATION, None, out)
            }
            Self::NeighborDefend(ours) => {
                emit_ndisc(mac, ours, ALL_NODES, ADVERTISEMENT, Some(ours), out)
            }
            Self::ArpAsk { ours, whom } => emit_arp(
                mac,
                EthernetAddress::BROADCAST,
                request(mac, ours, whom),
                out,
            ),
            Self::NeighborAsk { ours, whom } => {
                // Its solicited-node group: RFC 4291, 2.7.1.
                let [.., a, b, c] = whom.octets();
                let low = [u16::from(a) | 0xff00, u16::from_be_bytes([b, c])];
                let group = Ipv6Address::new(0xff02, 0, 0, 0, 0, 1, low[0], low[1]);
                emit_ndisc(mac, ours, group, SOLICITATION, Some(whom), out)
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

/// A message of neighbour discovery to a group, with our hardware address as its one option. `flags` are those of an
/// advertisement. smoltcp could write it, with code for all messages there are.
fn emit_ndisc(
    mac: EthernetAddress,
    source: Ipv6Address,
    group: Ipv6Address,
    (kind, flags, option): (u8, u8, u8),
    target: Option<Ipv6Address>,
    out: &mut [u8],
) -> Option<usize> {
    let mut message = [0; 32];
    (message[0], message[4]) = (kind, flags);
    let at = match target {
        Some(target) => {
            message[8..24].copy_from_slice(&target.octets());
            24
        }
        None => 8,
    };
    // Options count in units of eight bytes.
    let (option_head, rest) = message.get_mut(at..)?.split_first_chunk_mut::<2>()?;
    *option_head = [option, 1];
    rest.get_mut(..6)?.copy_from_slice(&mac.0);
    let len = at + 8;
    let mut head = [0; 54];
    let [.., a, b, c, d] = group.octets();
    head[..6].copy_from_slice(&[0x33, 0x33, a, b, c, d]);
    head[6..12].copy_from_slice(&mac.0);
    head[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
    head[19] = len as u8;
    (head[20], head[21]) = (58, 255);
    head[22..38].copy_from_slice(&source.octets());
    head[38..54].copy_from_slice(&group.octets());
    let checksum = !icmpv6_sum(&head, message.get(..len)?);
    message[2..4].copy_from_slice(&checksum.to_ne_bytes());
    let (to_head, to_message) = out.get_mut(..54 + len)?.split_at_mut_checked(54)?;
    to_head.copy_from_slice(&head);
    to_message.copy_from_slice(message.get(..len)?);
    Some(54 + len)
}
