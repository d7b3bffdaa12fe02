//! Why the stack drops a frame, which it tells nobody.
//!
//! Every received frame has one [`Outcome`]. Most show it: something was sent, or a socket has more than before. Of the
//! others, [`fate`] tells what smoltcp 0.14 makes of them, by the same checks in the same order with its own parsers. In
//! debug builds it is asked about every frame, and must agree with what was seen.

use core::result::Result;
use hal::net::MacAddr;
pub use hal::net::drops::Reason;
use smoltcp::iface::{Interface, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities};
use smoltcp::socket::Socket;
use smoltcp::wire::*;

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

/// Whether an answer to this address has neither a network nor a router to go by.
pub fn is_unreachable(iface: &Interface, to: IpAddress) -> bool {
    let near = iface.ip_addrs().iter().any(|cidr| cidr.contains_addr(&to));
    let router = match to {
        IpAddress::Ipv4(_) => iface.routes().get_default_ipv4_route(),
        IpAddress::Ipv6(_) => iface.routes().get_default_ipv6_route(),
    };
    !near && router.is_none()
}

/// Whether everybody on the network is meant.
fn is_broadcast(iface: &Interface, address: Ipv4Address) -> bool {
    address.is_broadcast()
        || iface.ip_addrs().iter().any(|cidr| match cidr {
            IpCidr::Ipv4(cidr) => cidr.broadcast() == Some(address),
            IpCidr::Ipv6(_) => false,
        })
}

/// Whether everybody is meant, or everybody in a group that we are in.
pub fn is_for_all(iface: &Interface, address: IpAddress) -> bool {
    let broadcast = matches!(address, IpAddress::Ipv4(address) if is_broadcast(iface, address));
    broadcast || iface.has_multicast_group(address)
}

/// What the stack does with this frame, as far as it depends on frame and addresses.
#[inline(never)]
pub fn fate(frame: &[u8], mac: MacAddr, iface: &Interface, sockets: &SocketSet<'static>) -> Fate {
    look(frame, mac, iface, sockets).unwrap_or_else(Fate::Dropped)
}

fn look(
    frame: &[u8],
    mac: MacAddr,
    iface: &Interface,
    sockets: &SocketSet<'static>,
) -> Result<Fate, Reason> {
    let frame = EthernetFrame::new_checked(frame).map_err(|_| Reason::Runt)?;
    let to = frame.dst_addr();
    if to.is_unicast() && to.0 != mac {
        return Err(Reason::OtherStation);
    }
    let place = Place { iface, sockets };
    match frame.ethertype() {
        EthernetProtocol::Arp => place.arp(frame.payload()),
        EthernetProtocol::Ipv4 => place.ipv4(frame.payload()),
        EthernetProtocol::Ipv6 => place.ipv6(frame.payload()),
        _ => Err(Reason::EtherType),
    }
}

struct Place<'a> {
    iface: &'a Interface,
    sockets: &'a SocketSet<'static>,
}

impl Place<'_> {
    fn arp(&self, packet: &[u8]) -> Result<Fate, Reason> {
        let arp = ArpPacket::new_checked(packet).and_then(|packet| ArpRepr::parse(&packet));
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr: source,
            target_protocol_addr: target,
            ..
        } = arp.map_err(|_| Reason::Arp)?
        else {
            return Err(Reason::Arp);
        };
        if !self.iface.has_ip_addr(target) {
            return Err(Reason::ArpNotOurs);
        }
        let source = IpAddress::Ipv4(source);
        let near = self.iface.ip_addrs().iter();
        let near = near.into_iter().any(|cidr| cidr.contains_addr(&source));
        if !source.is_unicast() || !source_hardware_addr.is_unicast() || !near {
            return Err(Reason::Arp);
        }
        match operation {
            ArpOperation::Request => Ok(Fate::Answered(source)),
            ArpOperation::Reply => Ok(Fate::Taken),
            _ => Err(Reason::Arp),
        }
    }

    fn ipv4(&self, packet: &[u8]) -> Result<Fate, Reason> {
        let packet = Ipv4Packet::new_checked(packet).map_err(|_| Reason::Ipv4Malformed)?;
        if packet.version() != 4 {
            return Err(Reason::Ipv4Malformed);
        }
        if !packet.verify_checksum() {
            return Err(Reason::Ipv4Checksum);
        }
        if packet.more_frags() || packet.frag_offset() != 0 {
            return Err(Reason::Fragment);
        }
        let (source, to) = (packet.src_addr(), packet.dst_addr());
        let payload = packet.payload();
        if is_broadcast(self.iface, source) || source.is_multicast() {
            return Err(Reason::SourceAddress);
        }
        let protocol = packet.next_header();
        if protocol == IpProtocol::Udp {
            // DHCP takes its datagrams whatever address they are to.
            let udp = UdpPacket::new_checked(payload).map_err(|_| Reason::Udp)?;
            let mut sockets = self.sockets.iter();
            if (udp.src_port(), udp.dst_port()) == (67, 68)
                && sockets.any(|(_, socket)| matches!(socket, Socket::Dhcpv4(_)))
            {
                sound_datagram(&udp, source.into(), to.into())?;
                return Ok(Fate::Taken);
            }
        }
        let everybody = is_broadcast(self.iface, to);
        if !self.iface.has_ip_addr(to) && !self.iface.has_multicast_group(to) && !everybody {
            return Err(Reason::Address);
        }
        let answered = Fate::Answered(source.into());
        let one = !everybody && IpAddress::Ipv4(to).is_unicast();
        let answerable = !source.is_unspecified();
        match protocol {
            IpProtocol::Icmp => {
                let icmp = Icmpv4Packet::new_checked(payload).map_err(|_| Reason::Icmp)?;
                if !icmp.verify_checksum() {
                    return Err(Reason::IcmpChecksum);
                }
                match (icmp.msg_type(), icmp.msg_code()) {
                    (Icmpv4Message::EchoRequest, 0) if !answerable => Err(Reason::SourceAddress),
                    (Icmpv4Message::EchoRequest, 0) if one || everybody => Ok(answered),
                    (Icmpv4Message::EchoRequest, 0) => Err(Reason::ToGroup),
                    _ => Err(Reason::IcmpUnwanted),
                }
            }
            IpProtocol::Igmp => {
                let igmp = IgmpPacket::new_checked(payload);
                match igmp.and_then(|packet| IgmpRepr::parse(&packet)) {
                    Ok(IgmpRepr::MembershipQuery { .. }) => Ok(Fate::Taken),
                    Ok(_) => Err(Reason::IcmpUnwanted),
                    Err(_) => Err(Reason::Icmp),
                }
            }
            IpProtocol::Udp => match self.udp(source.into(), to.into(), payload)? {
                Fate::Queued => Ok(Fate::Queued),
                _ if !answerable => Err(Reason::SourceAddress),
                _ if one => Ok(answered),
                _ => Err(Reason::UdpPort),
            },
            IpProtocol::Tcp => self.tcp(source.into(), to.into(), payload),
            _ if !answerable => Err(Reason::SourceAddress),
            _ if one => Ok(answered),
            _ => Err(Reason::ToGroup),
        }
    }

    fn ipv6(&self, packet: &[u8]) -> Result<Fate, Reason> {
        let packet = Ipv6Packet::new_checked(packet).map_err(|_| Reason::Ipv6Malformed)?;
        if packet.version() != 6 {
            return Err(Reason::Ipv6Malformed);
        }
        let (source, to) = (packet.src_addr(), packet.dst_addr());
        if source.is_multicast() || source.is_unspecified() {
            return Err(Reason::SourceAddress);
        }
        let (mut next, mut payload) = (packet.next_header(), packet.payload());
        if next == IpProtocol::HopByHop {
            match options(payload, to.is_multicast())? {
                Some((header, rest)) => (next, payload) = (header, rest),
                None => return Ok(Fate::Answered(source.into())),
            }
        }
        let ours = self.iface.has_ip_addr(to) || self.iface.has_multicast_group(to);
        if !ours && !to.is_loopback() {
            return Err(Reason::Address);
        }
        match next {
            IpProtocol::Icmpv6 => self.icmpv6(source, to, packet.hop_limit(), payload),
            IpProtocol::Udp => self.udp(source.into(), to.into(), payload),
            IpProtocol::Tcp => self.tcp(source.into(), to.into(), payload),
            _ => Ok(Fate::Answered(source.into())),
        }
    }

    fn icmpv6(
        &self,
        source: Ipv6Address,
        to: Ipv6Address,
        hop_limit: u8,
        message: &[u8],
    ) -> Result<Fate, Reason> {
        let icmp = Icmpv6Packet::new_checked(message).map_err(|_| Reason::Icmp)?;
        if !icmp.verify_checksum(&source, &to) {
            return Err(Reason::IcmpChecksum);
        }
        let mut ignore = ChecksumCapabilities::default();
        ignore.icmpv6 = Checksum::None;
        let parsed = Icmpv6Repr::parse(&source, &to, &icmp, &ignore).map_err(|_| Reason::Icmp)?;
        let link_layer = |address: Option<RawHardwareAddress>| match address {
            None => true,
            Some(address) => address
                .parse(smoltcp::phy::Medium::Ethernet)
                .is_ok_and(|address| address.is_unicast()),
        };
        match parsed {
            Icmpv6Repr::EchoRequest { .. } => Ok(Fate::Answered(source.into())),
            Icmpv6Repr::Ndisc(_) if hop_limit != 255 => Err(Reason::HopLimit),
            Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
                lladdr,
                target_addr,
                ..
            }) => match link_layer(lladdr) && IpAddress::Ipv6(target_addr).is_unicast() {
                true => Ok(Fate::Taken),
                // Without an address of the link, nothing about the target is looked at.
                false if lladdr.is_none() => Ok(Fate::Taken),
                false => Err(Reason::Icmp),
            },
            Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
                target_addr,
                lladdr,
            }) => {
                if lladdr.is_some()
                    && !(link_layer(lladdr) && IpAddress::Ipv6(target_addr).is_unicast())
                {
                    return Err(Reason::Icmp);
                }
                let ours = self.iface.has_ip_addr(target_addr);
                // As smoltcp compares a solicited-node address: by its last two bytes.
                let solicited = self.iface.ip_addrs().iter().any(|cidr| match cidr {
                    IpCidr::Ipv6(cidr) => cidr.address().octets()[14..] == to.octets()[14..],
                    IpCidr::Ipv4(_) => false,
                });
                match ours && solicited {
                    true => Ok(Fate::Answered(source.into())),
                    false => Err(Reason::NeighbourNotOurs),
                }
            }
            Icmpv6Repr::Mld(MldRepr::Query { .. }) => {
                match hop_limit == 1 && source.is_unicast_link_local() {
                    true => Ok(Fate::Taken),
                    false => Err(Reason::HopLimit),
                }
            }
            _ => Err(Reason::IcmpUnwanted),
        }
    }

    /// Queued, or answered by an error.
    fn udp(&self, source: IpAddress, to: IpAddress, datagram: &[u8]) -> Result<Fate, Reason> {
        let udp = UdpPacket::new_checked(datagram).map_err(|_| Reason::Udp)?;
        sound_datagram(&udp, source, to)?;
        let mut sockets = self.sockets.iter();
        let heard = sockets.any(|(_, socket)| match socket {
            Socket::Udp(socket) => socket.endpoint().port == udp.dst_port(),
            _ => false,
        });
        Ok(match heard {
            // That an empty one was queued behind others cannot be seen.
            true if udp.payload().is_empty() => Fate::Taken,
            true => Fate::Queued,
            false => Fate::Answered(source),
        })
    }

    fn tcp(&self, source: IpAddress, to: IpAddress, segment: &[u8]) -> Result<Fate, Reason> {
        if source.is_unspecified() || to.is_unspecified() {
            return Err(Reason::SourceAddress);
        }
        let mut ignore = ChecksumCapabilities::default();
        ignore.tcp = Checksum::None;
        let packet = TcpPacket::new_checked(segment).map_err(|_| Reason::Tcp)?;
        let tcp = TcpRepr::parse(&packet, &source, &to, &ignore).map_err(|_| Reason::Tcp)?;
        let quiet = matches!(tcp.control, TcpControl::None | TcpControl::Psh);
        Ok(Fate::Segment {
            source,
            resets: tcp.control == TcpControl::Rst,
            bare: quiet && tcp.ack_number.is_some() && tcp.payload.is_empty(),
        })
    }
}

fn sound_datagram(udp: &UdpPacket<&[u8]>, source: IpAddress, to: IpAddress) -> Result<(), Reason> {
    if udp.dst_port() == 0 {
        return Err(Reason::Udp);
    }
    UdpRepr::parse(udp, &source, &to, &ChecksumCapabilities::default())
        .map(|_| ())
        .map_err(|_| Reason::UdpChecksum)
}

/// What stands behind hop-by-hop options; `None` if one of them is answered by an error.
fn options(payload: &[u8], to_group: bool) -> Result<Option<(IpProtocol, &[u8])>, Reason> {
    let malformed = |_| Reason::Ipv6Malformed;
    let header = Ipv6ExtHeader::new_checked(payload).map_err(malformed)?;
    let extension = Ipv6ExtHeaderRepr::parse(&header).map_err(malformed)?;
    let hops = Ipv6HopByHopHeader::new_checked(extension.data).map_err(malformed)?;
    let hops = Ipv6HopByHopRepr::parse(&hops).map_err(malformed)?;
    for option in &hops.options {
        if let Ipv6OptionRepr::Unknown { type_, .. } = option {
            match Ipv6OptionFailureType::from(u8::from(*type_)) {
                Ipv6OptionFailureType::Skip => {}
                Ipv6OptionFailureType::DiscardSendAll => return Ok(None),
                Ipv6OptionFailureType::DiscardSendUnicast if !to_group => return Ok(None),
                _ => return Err(Reason::Ipv6Option),
            }
        }
    }
    let rest = payload.get(extension.header_len() + extension.data.len()..);
    Ok(Some((extension.next_header, rest.unwrap_or_default())))
}
