//! Why the stack drops a frame, which it tells nobody.
//!
//! Every received frame has one [`Outcome`]. Most show it: something was sent, or a socket has more than before. Of the
//! others, [`fate`] tells what smoltcp 0.14 makes of them, by the same checks in the same order. In debug builds it is
//! asked about every frame, and must agree with what was seen. It is written out because smoltcp's own parsers, a
//! second time in the image, are four times as long.

use hal::net::MacAddr;
use hal::net::checksum::{fold, sum};
pub use hal::net::drops::Reason;
use smoltcp::iface::{Interface, SocketSet};
use smoltcp::socket::Socket;
use smoltcp::wire::{IpAddress, IpCidr, Ipv4Address, Ipv6Address, TcpOption};

/// What became of a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is its own answer now, and goes back.
    Answer,
    /// Somebody here had use for it: a service, a connection, the addresses, the stack itself. Also what the stack
    /// refused aloud, by a reset or an ICMP error.
    Delivered,
    /// Nobody.
    Dropped(Reason),
}

/// What the stack does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It drops it without a word.
    Dropped(Reason),
    /// It learns from it, and shows nothing.
    Taken,
    /// It puts it into the queue of a UDP socket, if there is room.
    Queued,
    /// It answers to this address, if there is a way.
    Answered(IpAddress),
    /// It is a segment for a connection; without one, a reset is the answer.
    Segment {
        /// Who sent it.
        source: IpAddress,
        /// It is a reset itself, which nobody answers.
        resets: bool,
        /// It acknowledges and does nothing else: a connection may take it without showing it.
        bare: bool,
    },
}

/// UDP datagrams that wait in sockets: differs after one more has come.
pub fn queued(sockets: &SocketSet<'static>) -> usize {
    let waiting = sockets.iter().map(|(_, socket)| match socket {
        // An empty datagram has no bytes; that it is there, shows only if it is the first.
        Socket::Udp(socket) => socket.recv_queue() + usize::from(socket.can_recv()),
        _ => 0,
    });
    waiting.sum()
}

fn is_near(iface: &Interface, address: IpAddress) -> bool {
    iface
        .ip_addrs()
        .iter()
        .any(|cidr| cidr.contains_addr(&address))
}

/// Whether an answer to this address has neither a network nor a router to go by.
pub fn is_unreachable(iface: &Interface, to: IpAddress) -> bool {
    let router = match to {
        IpAddress::Ipv4(_) => iface.routes().get_default_ipv4_route(),
        IpAddress::Ipv6(_) => iface.routes().get_default_ipv6_route(),
    };
    router.is_none() && !is_near(iface, to)
}

/// What the stack does with this frame, as far as it depends on frame and addresses. Where [`admission`] or the table of
/// connections have decided already, it is not asked again.
///
/// [`admission`]: crate::admission
#[inline(never)]
pub fn fate(frame: &[u8], mac: MacAddr, iface: &Interface, sockets: &SocketSet<'static>) -> Fate {
    let place = Place { iface, sockets };
    place.look(frame, mac).unwrap_or_else(Fate::Dropped)
}

const HOP_BY_HOP: u8 = 0;
const ICMP: u8 = 1;
const IGMP: u8 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Options of a hop-by-hop header that smoltcp looks at.
const MAX_OPTIONS: usize = 4;

/// Two bytes of a slice that has them.
fn half(bytes: &[u8], at: usize) -> usize {
    let half = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    half.map_or(0, |half| usize::from(u16::from_be_bytes(*half)))
}

fn v4(bytes: &[u8], at: usize) -> IpAddress {
    let octets = bytes.get(at..).and_then(|bytes| bytes.first_chunk::<4>());
    IpAddress::Ipv4(octets.map_or(Ipv4Address::UNSPECIFIED, |octets| (*octets).into()))
}

fn v6(bytes: &[u8], at: usize) -> IpAddress {
    let octets = bytes.get(at..).and_then(|bytes| bytes.first_chunk::<16>());
    IpAddress::Ipv6(octets.map_or(Ipv6Address::UNSPECIFIED, |octets| (*octets).into()))
}

/// What an IP header says, and what stands behind it.
struct Packet<'f> {
    source: IpAddress,
    to: IpAddress,
    /// Both, as they stand in the header.
    addresses: &'f [u8],
    hop_limit: u8,
    protocol: u8,
    payload: &'f [u8],
}

impl Packet<'_> {
    /// Whether the checksum of `message` is right, which covers the addresses.
    fn is_sound(&self, message: &[u8]) -> bool {
        let len = (message.len() as u16).to_be();
        let protocol = u16::from(self.protocol).to_be();
        let pseudo = sum(self.addresses) + u64::from(protocol) + u64::from(len);
        fold(sum(message) + pseudo) == 0xffff
    }
}

struct Place<'a> {
    iface: &'a Interface,
    sockets: &'a SocketSet<'static>,
}

impl Place<'_> {
    fn look(&self, frame: &[u8], mac: MacAddr) -> Result<Fate, Reason> {
        let (head, packet) = frame.split_first_chunk::<14>().ok_or(Reason::Runt)?;
        if head[0] & 1 == 0 && head[..6] != mac {
            return Err(Reason::OtherStation);
        }
        match [head[12], head[13]] {
            [0x08, 0x06] => self.arp(packet),
            [0x08, 0x00] => self.ip(&self.ipv4(packet)?),
            [0x86, 0xdd] => match ipv6(packet)? {
                Ok(packet) => self.ip(&packet),
                Err(answered) => Ok(answered),
            },
            _ => Err(Reason::EtherType),
        }
    }

    fn arp(&self, packet: &[u8]) -> Result<Fate, Reason> {
        let packet = packet.first_chunk::<28>().ok_or(Reason::Arp)?;
        if packet[..6] != [0, 1, 8, 0, 6, 4] {
            return Err(Reason::Arp);
        }
        if !self.iface.has_ip_addr(v4(packet, 24)) {
            return Err(Reason::ArpNotOurs);
        }
        let source = v4(packet, 14);
        let sound = source.is_unicast() && packet[8] & 1 == 0 && is_near(self.iface, source);
        match half(packet, 6) {
            1 if sound => Ok(Fate::Answered(source)),
            2 if sound => Ok(Fate::Taken),
            _ => Err(Reason::Arp),
        }
    }

    /// Whether everybody on the network is meant.
    fn is_broadcast(&self, address: IpAddress) -> bool {
        let IpAddress::Ipv4(address) = address else {
            return false;
        };
        address.is_broadcast()
            || self.iface.ip_addrs().iter().any(|cidr| match cidr {
                IpCidr::Ipv4(cidr) => cidr.broadcast() == Some(address),
                IpCidr::Ipv6(_) => false,
            })
    }

    fn ipv4<'f>(&self, packet: &'f [u8]) -> Result<Packet<'f>, Reason> {
        let fixed = packet.first_chunk::<20>().ok_or(Reason::Ipv4Malformed)?;
        let (header, total) = (usize::from(fixed[0] & 15) * 4, half(fixed, 2));
        if fixed[0] >> 4 != 4 || header < 20 || header > total || total > packet.len() {
            return Err(Reason::Ipv4Malformed);
        }
        if fold(sum(&packet[..header])) != 0xffff {
            return Err(Reason::Ipv4Checksum);
        }
        if half(fixed, 6) & 0x3fff != 0 {
            return Err(Reason::Fragment);
        }
        let (source, to) = (v4(fixed, 12), v4(fixed, 16));
        if self.is_broadcast(source) || source.is_multicast() {
            return Err(Reason::SourceAddress);
        }
        Ok(Packet {
            source,
            to,
            addresses: &fixed[12..],
            hop_limit: fixed[8],
            protocol: fixed[9],
            payload: &packet[header..total],
        })
    }

    fn ip(&self, packet: &Packet) -> Result<Fate, Reason> {
        let is_v4 = packet.addresses.len() == 8;
        if is_v4 && packet.protocol == UDP {
            // DHCP takes its datagrams whatever address they are to.
            let datagram = whole_datagram(packet.payload)?;
            let is_dhcp = |(_, socket)| matches!(socket, &Socket::Dhcpv4(_));
            if datagram[..4] == [0, 67, 0, 68] && self.sockets.iter().any(is_dhcp) {
                sound_datagram(packet, datagram)?;
                return Ok(Fate::Taken);
            }
        }
        let (ours, broadcast) = (
            self.iface.has_ip_addr(packet.to),
            self.is_broadcast(packet.to),
        );
        if !ours && !broadcast && !self.iface.has_multicast_group(packet.to) {
            return Err(Reason::Address);
        }
        let silence = match packet.protocol {
            ICMP if is_v4 => match packet.payload {
                message if message.len() < 8 => return Err(Reason::Icmp),
                message if fold(sum(message)) != 0xffff => return Err(Reason::IcmpChecksum),
                // The one thing that may be answered to everybody.
                [8, 0, ..] if broadcast => return Ok(Fate::Answered(packet.source)),
                [8, 0, ..] => Reason::ToGroup,
                _ => return Err(Reason::IcmpUnwanted),
            },
            IGMP if is_v4 => {
                let group = v4(packet.payload, 4);
                let sound =
                    packet.payload.len() >= 8 && (group.is_unspecified() || group.is_multicast());
                return match packet.payload.first() {
                    Some(0x11) if sound => Ok(Fate::Taken),
                    Some(0x12 | 0x16 | 0x17) if sound => Err(Reason::IcmpUnwanted),
                    _ => Err(Reason::Icmp),
                };
            }
            ICMPV6 if !is_v4 => return self.icmpv6(packet),
            TCP => return segment(packet),
            UDP => match self.udp(packet)? {
                Fate::Answered(_) => Reason::UdpPort,
                taken => return Ok(taken),
            },
            _ => Reason::ToGroup,
        };
        // Of what IPv6 sends to groups, admission lets nothing through that would be answered so.
        match is_v4 && (broadcast || !ours) {
            true => Err(silence),
            false => Ok(Fate::Answered(packet.source)),
        }
    }

    fn icmpv6(&self, packet: &Packet) -> Result<Fate, Reason> {
        let message = packet.payload;
        let head = message.first_chunk::<4>().ok_or(Reason::Icmp)?;
        let least = match head[0] {
            1..=4 | 128 | 129 | 133 | 143 => 8,
            134 => 16,
            135 | 136 => 24,
            137 => 40,
            130 => 28,
            _ => 4,
        };
        if message.len() < least {
            return Err(Reason::Icmp);
        }
        if !packet.is_sound(message) {
            return Err(Reason::IcmpChecksum);
        }
        match (head[0], head[1]) {
            (128, 0) => return Ok(Fate::Answered(packet.source)),
            (130, 0) if packet.hop_limit == 1 && packet.addresses[..2] == [0xfe, 0x80] => {
                return Ok(Fate::Taken);
            }
            (130, 0) => return Err(Reason::HopLimit),
            (135 | 136, 0) => {}
            _ => return Err(Reason::IcmpUnwanted),
        }
        let advertises = head[0] == 136;
        let link_layer = link_layer(&message[24..], 1 + u8::from(advertises))?;
        if packet.hop_limit != 255 {
            return Err(Reason::HopLimit);
        }
        let target = v6(message, 8);
        if link_layer.is_some_and(|first| first & 1 != 0 || !target.is_unicast()) {
            return Err(Reason::Icmp);
        }
        // As smoltcp compares a solicited-node address: by its last two bytes.
        let solicited = |cidr: &IpCidr| match cidr {
            IpCidr::Ipv6(cidr) => cidr.address().octets()[14..] == packet.addresses[30..],
            IpCidr::Ipv4(_) => false,
        };
        match advertises {
            true => Ok(Fate::Taken),
            false
                if self.iface.has_ip_addr(target)
                    && self.iface.ip_addrs().iter().any(solicited) =>
            {
                Ok(Fate::Answered(packet.source))
            }
            false => Err(Reason::NeighbourNotOurs),
        }
    }

    /// Queued, or answered by an error.
    fn udp(&self, packet: &Packet) -> Result<Fate, Reason> {
        let datagram = whole_datagram(packet.payload)?;
        sound_datagram(packet, datagram)?;
        let port = half(datagram, 2);
        let hears = |(_, socket): (_, &Socket)| match socket {
            Socket::Udp(socket) => usize::from(socket.endpoint().port) == port,
            _ => false,
        };
        Ok(match self.sockets.iter().any(hears) {
            // That an empty one was queued behind others cannot be seen.
            true if datagram.len() == 8 => Fate::Taken,
            true => Fate::Queued,
            false => Fate::Answered(packet.source),
        })
    }
}

/// `Err`: one of its options is answered by an error.
fn ipv6(packet: &[u8]) -> Result<Result<Packet<'_>, Fate>, Reason> {
    let fixed = packet.first_chunk::<40>().ok_or(Reason::Ipv6Malformed)?;
    let payload = packet.get(40..40 + half(fixed, 4));
    let payload = payload.ok_or(Reason::Ipv6Malformed)?;
    if fixed[0] >> 4 != 6 {
        return Err(Reason::Ipv6Malformed);
    }
    let mut packet = Packet {
        source: v6(fixed, 8),
        to: v6(fixed, 24),
        addresses: &fixed[8..],
        hop_limit: fixed[7],
        protocol: fixed[6],
        payload,
    };
    if !packet.source.is_unicast() {
        return Err(Reason::SourceAddress);
    }
    if packet.protocol == HOP_BY_HOP {
        match options(payload, packet.to.is_multicast())? {
            Some((header, rest)) => (packet.protocol, packet.payload) = (header, rest),
            None => return Ok(Err(Fate::Answered(packet.source))),
        }
    }
    Ok(Ok(packet))
}

/// A datagram without what may stand behind it.
fn whole_datagram(payload: &[u8]) -> Result<&[u8], Reason> {
    match half(payload, 4) {
        len @ 8.. => payload.get(..len).ok_or(Reason::Udp),
        _ => Err(Reason::Udp),
    }
}

fn sound_datagram(packet: &Packet, datagram: &[u8]) -> Result<(), Reason> {
    let unchecked = half(datagram, 6) == 0 && packet.addresses.len() == 8;
    match half(datagram, 2) {
        0 => Err(Reason::Udp),
        _ if unchecked || packet.is_sound(datagram) => Ok(()),
        _ => Err(Reason::UdpChecksum),
    }
}

/// The checksum was seen to already.
fn segment(packet: &Packet) -> Result<Fate, Reason> {
    let head = packet.payload.first_chunk::<20>().ok_or(Reason::Tcp)?;
    let header = usize::from(head[12] >> 4) * 4;
    let mut options = packet.payload.get(20..header).ok_or(Reason::Tcp)?;
    let flags = head[13];
    let one_at_most = matches!(flags & 7, 0 | 1 | 2 | 4);
    if half(head, 0) == 0 || half(head, 2) == 0 || !one_at_most {
        return Err(Reason::Tcp);
    }
    while !options.is_empty() {
        match TcpOption::parse(options) {
            Ok((_, TcpOption::EndOfList)) => break,
            Ok((rest, _)) => options = rest,
            Err(_) => return Err(Reason::Tcp),
        }
    }
    Ok(Fate::Segment {
        source: packet.source,
        resets: flags & 4 != 0,
        bare: flags & 0x17 == 0x10 && packet.payload.len() == header,
    })
}

/// The first byte of the address in the last option of this kind.
fn link_layer(mut options: &[u8], kind: u8) -> Result<Option<u8>, Reason> {
    let mut found = None;
    while !options.is_empty() {
        let head = options.first_chunk::<8>().ok_or(Reason::Icmp)?;
        let len = usize::from(head[1]) * 8;
        let least = match head[0] {
            3 => 32,
            4 => 48,
            _ => 8,
        };
        if len < least {
            return Err(Reason::Icmp);
        }
        if head[0] == kind {
            found = Some(head[2]);
        }
        options = options.get(len..).ok_or(Reason::Icmp)?;
    }
    Ok(found)
}

/// What stands behind hop-by-hop options; `None` if one of them is answered by an error.
fn options(payload: &[u8], to_group: bool) -> Result<Option<(u8, &[u8])>, Reason> {
    let head = payload.first_chunk::<8>().ok_or(Reason::Ipv6Malformed)?;
    let len = 8 + usize::from(head[1]) * 8;
    let mut options = payload.get(2..len).ok_or(Reason::Ipv6Malformed)?;
    let mut outcome = Ok(Some((head[0], &payload[len..])));
    for number in 0.. {
        let len = match *options {
            [] => break,
            [0, ..] => 1,
            [5, len, ..] if len != 2 => return Err(Reason::Ipv6Malformed),
            [_, len, ..] => 2 + usize::from(len),
            [_] => return Err(Reason::Ipv6Malformed),
        };
        let option = options[0];
        options = options.get(len..).ok_or(Reason::Ipv6Malformed)?;
        if number == MAX_OPTIONS {
            break;
        }
        // The first that is unknown decides, but only if all can be read.
        if outcome.is_ok_and(|rest| rest.is_some()) && !matches!(option, 0 | 1 | 5) {
            match option >> 6 {
                0 => {}
                2 => outcome = Ok(None),
                3 if !to_group => outcome = Ok(None),
                _ => outcome = Err(Reason::Ipv6Option),
            }
        }
    }
    outcome
}
