//! Echoes without the stack: ICMP echo requests and UDP datagrams to port 7 leave from the buffer they came in.
//!
//! Only where the stack would have done the same: the flow (our address, the peer's address) must be one for which the
//! stack itself sent a packet lately. [`Flows`] remembers, from those packets, the MAC address that the stack's
//! own routing and neighbour cache had chosen. Whatever is unusual (options, fragments, wrong checksums, an unknown
//! peer, IPv6) goes the ordinary way.
//!
//! ```text
//!  0      6      12    14              34                42
//!  | dst  | src  | 0800 | IPv4, 20 bytes | UDP or ICMP, 8  | payload
//!    swap MACs           swap addresses    swap ports or type 8 -> 0
//! ```

use core::net::Ipv4Addr;

use hal::net::MacAddr;
use hal::net::checksum::{fold, sum, sum_header};
use hal::net::smoltcp::{MAX_FRAME, Observer};

/// How long a remembered flow may be used: half of what smoltcp keeps a neighbour for.
const LIFETIME_US: u64 = 30_000_000;
const FLOWS: usize = 64;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const HEADERS: usize = ETHERNET + IPV4 + 8;
const ICMP: u8 = 1;
const UDP: u8 = 17;
const TTL: u8 = 64;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Now an answer, to be sent with this length in bytes.
    Icmp(usize),
    /// The same, of the UDP echo service.
    Udp(usize),
    /// Untouched: for the stack.
    Pass,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    local: u32,
    remote: u32,
    expires_us: u64,
    mac: MacAddr,
}

/// The IPv4 flows that the stack has lately sent to, and their next hops.
#[derive(Debug)]
pub struct Flows {
    /// When the frames now passing are sent, in microseconds.
    pub now_us: u64,
    /// The stack asked for a neighbour (ARP, neighbour solicitation): somebody waits for the answer.
    pub asked: bool,
    /// When it last asked, in microseconds.
    pub asked_us: u64,
    /// How often it did.
    pub asks: u32,
    /// Frames that the stack sent but for those.
    pub sent: u32,
    flows: [Flow; FLOWS],
}

impl Default for Flows {
    fn default() -> Self {
        Flows {
            now_us: 0,
            asked: false,
            asked_us: 0,
            asks: 0,
            sent: 0,
            flows: [Flow::default(); FLOWS],
        }
    }
}

impl Flows {
    /// Forgets everything: addresses, routes or the link changed.
    pub fn clear(&mut self) {
        self.flows = [Flow::default(); FLOWS];
    }

    /// Those that are still of use: the peer's address, its next hop, and for how many microseconds it is known.
    pub fn each(&self, now_us: u64) -> impl Iterator<Item = (Ipv4Addr, MacAddr, u64)> {
        self.flows.iter().filter_map(move |flow| {
            let left_us = flow.expires_us.checked_sub(now_us + 1)?;
            Some((
                flow.remote.into(),
                flow.mac,
                LIFETIME_US.saturating_sub(left_us),
            ))
        })
    }

    fn slot(remote: u32) -> usize {
        (remote ^ remote >> 8 ^ remote >> 16) as usize % FLOWS
    }

    #[inline(always)]
    fn next_hop(&self, local: u32, remote: u32) -> Option<MacAddr> {
        let flow = &self.flows[Self::slot(remote)];
        let known = flow.remote == remote && flow.local == local && flow.expires_us > self.now_us;
        known.then_some(flow.mac)
    }
}

impl Observer for Flows {
    #[inline]
    fn sent(&mut self, frame: &[u8]) {
        let Some(head) = frame.first_chunk::<{ ETHERNET + IPV4 }>() else {
            return;
        };
        if head[12..14] != [0x08, 0x00] || head[0] & 1 != 0 {
            // Anything else is rare; that it asks for a neighbour need not be told apart from what else it may be.
            let asks = head[12..14] != [0x08, 0x00] && head[0] & 1 != 0;
            self.asked |= asks;
            if asks {
                self.asked_us = self.now_us;
            }
            self.asks = self.asks.wrapping_add(asks.into());
            self.sent = self.sent.wrapping_add((!asks).into());
            return;
        }
        self.sent = self.sent.wrapping_add(1);
        let remote = word(head, 30);
        let mut mac = MacAddr::default();
        mac.copy_from_slice(&head[..6]);
        self.flows[Self::slot(remote)] = Flow {
            local: word(head, 26),
            remote,
            expires_us: self.now_us + LIFETIME_US,
            mac,
        };
    }
}

/// UDP ports that answer on their own, or that we use ourselves: two of them must never talk to each other.
/// Spec: RFC 862, 863, 864, 865, 867, 868; ours are echo, DHCP and mDNS.
#[inline(always)]
pub fn may_answer_port(port: u16) -> bool {
    !matches!(port, 0 | 7 | 9 | 13 | 17 | 19 | 37 | 67 | 68 | 5353)
}

/// The sum of the IPv4 header, which has no options.
#[inline(always)]
fn header_sum(head: &[u8; HEADERS]) -> u64 {
    head[ETHERNET..].first_chunk().map_or(0, sum_header)
}

/// Turns `frame` into its own answer, if it asks for an echo and `flows` knows the way back.
#[inline]
pub fn answer(frame: &mut [u8], mac: MacAddr, flows: &Flows) -> Verdict {
    let available = frame.len();
    let Some(head) = frame.first_chunk::<HEADERS>() else {
        return Verdict::Pass;
    };
    // EtherType IPv4, no options; not a fragment (bit 14 is "don't fragment").
    let ordinary = head[12..15] == [0x08, 0x00, 0x45] && head[20] & 0xbf == 0 && head[21] == 0;
    if !ordinary || head[..6] != mac {
        return Verdict::Pass;
    }
    let total = usize::from(u16::from_be_bytes([head[16], head[17]]));
    let (local, remote) = (word(head, 30), word(head, 26));
    if total < IPV4 + 8 || ETHERNET + total > available.min(MAX_FRAME) {
        return Verdict::Pass;
    }
    let len = ETHERNET + total;
    let protocol = head[23];
    let asks = match protocol {
        ICMP => head[34..36] == [8, 0],
        UDP => {
            let source = u16::from_be_bytes([head[34], head[35]]);
            head[36..38] == [0, 7]
                && may_answer_port(source)
                && usize::from(u16::from_be_bytes([head[38], head[39]])) == total - IPV4
                && head[40..42] != [0, 0]
        }
        _ => false,
    };
    if !asks {
        return Verdict::Pass;
    }
    let Some(next_hop) = flows.next_hop(local, remote) else {
        return Verdict::Pass;
    };
    let pseudo = match protocol {
        UDP => {
            let addresses = u64::from(local) + u64::from(remote);
            // Added as native words below, so in wire order here.
            u64::from((addresses as u32).swap_bytes())
                + u64::from(((addresses >> 32) as u32).swap_bytes())
                + u64::from((u32::from(UDP) + total as u32 - IPV4 as u32).swap_bytes())
        }
        _ => 0,
    };
    let payload = &frame[ETHERNET + IPV4..len];
    if fold(header_sum(head)) != 0xffff || fold(sum(payload) + pseudo) != 0xffff {
        return Verdict::Pass;
    }

    let Some(head) = frame.first_chunk_mut::<HEADERS>() else {
        return Verdict::Pass;
    };
    head[..6].copy_from_slice(&next_hop);
    head[6..12].copy_from_slice(&mac);
    head[15] = 0; // no DSCP, no ECN
    [head[18], head[19]] = [0, 0]; // an atomic datagram needs no identification (RFC 6864)
    head[20] = 0x40; // don't fragment
    head[22] = TTL;
    [head[24], head[25]] = [0, 0];
    head[26..30].copy_from_slice(&local.to_be_bytes());
    head[30..34].copy_from_slice(&remote.to_be_bytes());
    let checksum = !fold(header_sum(head));
    head[24..26].copy_from_slice(&checksum.to_ne_bytes());
    if protocol == UDP {
        // Swapped ports and addresses leave the sum, and so the checksum, as it is.
        let source = [head[34], head[35]];
        head[34..36].copy_from_slice(&[0, 7]);
        head[36..38].copy_from_slice(&source);
        Verdict::Udp(len)
    } else {
        // RFC 1624: the checksum grows by what the type lost.
        head[34] = 0;
        let sum = u32::from(u16::from_be_bytes([head[36], head[37]])) + 0x0800;
        let checksum = (sum + (sum >> 16)) as u16;
        head[36..38].copy_from_slice(&checksum.to_be_bytes());
        Verdict::Icmp(len)
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    word.map_or(0, |word| u32::from_be_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::*;

    const OURS: MacAddr = [2, 0, 0, 0, 0, 1];
    const PEER: MacAddr = [2, 0, 0, 0, 0, 2];
    const ROUTER: MacAddr = [2, 0, 0, 0, 0, 3];
    const LOCAL: Ipv4Address = Ipv4Address::new(10, 0, 0, 2);
    const REMOTE: Ipv4Address = Ipv4Address::new(192, 0, 2, 99);

    fn ip(protocol: IpProtocol, payload_len: usize) -> (Vec<u8>, Ipv4Repr) {
        let repr = Ipv4Repr {
            src_addr: REMOTE,
            dst_addr: LOCAL,
            next_header: protocol,
            payload_len,
            hop_limit: 55,
        };
        let mut frame = vec![0; ETHERNET + IPV4 + payload_len];
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame);
        ethernet.set_dst_addr(EthernetAddress(OURS));
        ethernet.set_src_addr(EthernetAddress(PEER));
        ethernet.set_ethertype(EthernetProtocol::Ipv4);
        repr.emit(
            &mut Ipv4Packet::new_unchecked(ethernet.payload_mut()),
            &ChecksumCapabilities::default(),
        );
        (frame, repr)
    }

    fn udp(src_port: u16, dst_port: u16, payload: &[u8]) -> Vec<u8> {
        let (mut frame, _) = ip(IpProtocol::Udp, 8 + payload.len());
        UdpRepr { src_port, dst_port }.emit(
            &mut UdpPacket::new_unchecked(&mut frame[ETHERNET + IPV4..]),
            &REMOTE.into(),
            &LOCAL.into(),
            payload.len(),
            |buffer| buffer.copy_from_slice(payload),
            &ChecksumCapabilities::default(),
        );
        frame
    }

    fn ping(data: &[u8]) -> Vec<u8> {
        let repr = Icmpv4Repr::EchoRequest {
            ident: 0xbeef,
            seq_no: 7,
            data,
        };
        let (mut frame, _) = ip(IpProtocol::Icmp, repr.buffer_len());
        repr.emit(
            &mut Icmpv4Packet::new_unchecked(&mut frame[ETHERNET + IPV4..]),
            &ChecksumCapabilities::default(),
        );
        frame
    }

    /// The stack sent something to REMOTE through ROUTER a moment ago.
    fn flows() -> Flows {
        let (mut sent, _) = ip(IpProtocol::Udp, 8);
        sent[..6].copy_from_slice(&ROUTER);
        sent[26..30].copy_from_slice(&LOCAL.octets());
        sent[30..34].copy_from_slice(&REMOTE.octets());
        let mut flows = Flows {
            now_us: 5,
            ..Flows::default()
        };
        flows.sent(&sent);
        flows
    }

    #[test]
    fn udp_of_every_length_comes_back_valid_by_smoltcps_own_measure() {
        let payload: Vec<u8> = (0..1472).map(|i| (i * 7 + i / 256) as u8).collect();
        for len in (0..130).chain([1400, 1471, 1472]) {
            let mut frame = udp(40000, 7, &payload[..len]);
            frame.extend([0xaa; 5]); // Ethernet padding is not part of the datagram
            let Verdict::Udp(sent) = answer(&mut frame, OURS, &flows()) else {
                panic!("{len} passed")
            };
            assert_eq!(sent, HEADERS + len);
            let ethernet = EthernetFrame::new_checked(&frame[..sent]).unwrap();
            assert_eq!(
                (ethernet.dst_addr().0, ethernet.src_addr().0),
                (ROUTER, OURS)
            );
            let ipv4 = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
            let repr = Ipv4Repr::parse(&ipv4, &ChecksumCapabilities::default()).unwrap();
            assert_eq!(
                (repr.src_addr, repr.dst_addr, repr.hop_limit),
                (LOCAL, REMOTE, 64)
            );
            let udp = UdpPacket::new_checked(ipv4.payload()).unwrap();
            let ports = UdpRepr::parse(
                &udp,
                &LOCAL.into(),
                &REMOTE.into(),
                &ChecksumCapabilities::default(),
            )
            .unwrap();
            assert_eq!((ports.src_port, ports.dst_port), (7, 40000));
            assert_eq!(udp.payload(), &payload[..len]);
        }
    }

    #[test]
    fn a_ping_comes_back_valid() {
        for len in [0, 1, 56, 1472] {
            let data = vec![0xf0; len];
            let mut frame = ping(&data);
            let Verdict::Icmp(sent) = answer(&mut frame, OURS, &flows()) else {
                panic!("{len} passed")
            };
            let packet = Icmpv4Packet::new_checked(&frame[ETHERNET + IPV4..sent]).unwrap();
            let repr = Icmpv4Repr::parse(&packet, &ChecksumCapabilities::default()).unwrap();
            assert_eq!(
                repr,
                Icmpv4Repr::EchoReply {
                    ident: 0xbeef,
                    seq_no: 7,
                    data: &data
                }
            );
        }
    }

    #[test]
    fn anything_unusual_is_left_to_the_stack_untouched() {
        let change = |at: usize, value: u8| {
            let mut frame = udp(40000, 7, b"hello, unusual");
            frame[at] = value;
            frame
        };
        let cases = [
            ("other port", udp(40000, 8, b"x")),
            ("from echo", udp(7, 7, b"x")),
            ("from chargen", udp(19, 7, b"x")),
            ("payload damaged", change(50, 0)),
            ("header checksum", change(24, 1)),
            ("fragment", change(20, 0x20)),
            ("fragment offset", change(21, 3)),
            ("options", change(14, 0x46)),
            ("other MAC", change(5, 9)),
            ("broadcast MAC", change(0, 0xff)),
            ("IPv6", change(12, 0x86)),
            ("total length beyond the frame", change(17, 200)),
            ("total length below the headers", change(17, 27)),
            ("UDP length", change(39, 9)),
            ("short frame", udp(40000, 7, b"")[..41].to_vec()),
            ("unknown peer", change(29, 98)),
        ];
        for (what, mut frame) in cases {
            let before = frame.clone();
            assert_eq!(answer(&mut frame, OURS, &flows()), Verdict::Pass, "{what}");
            assert_eq!(frame, before, "{what}");
        }
    }

    #[test]
    fn a_flow_is_forgotten_in_time() {
        let mut flows = flows();
        flows.now_us += LIFETIME_US;
        assert_eq!(answer(&mut ping(b"x"), OURS, &flows), Verdict::Pass);
    }
}
