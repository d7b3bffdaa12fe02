//! Multicast DNS (RFC 6762): answers for `HOSTNAME.local`, and names the web server (RFC 6763).
//!
//! Here is the socket; `responder.rs` judges messages and writes answers, `wire.rs` knows their bytes.

mod responder;
mod wire;

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec;

use heapless::Vec;
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::udp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{IpAddress, IpCidr, IpEndpoint, IpVersion, Ipv4Address, Ipv6Address};

use super::event::Event;
use super::random::Random;
use super::take_due;
pub use responder::HostLabel;
#[doc(hidden)]
pub use responder::fuzz;
use responder::{Due, MAX_MESSAGE_LEN, Message, Responder};

/// Spec: RFC 6762, section 3.
pub const PORT: u16 = 5353;
/// Spec: RFC 6762, section 3.
pub const GROUP_V4: Ipv4Address = Ipv4Address::new(224, 0, 0, 251);
/// Spec: RFC 6762, section 3.
pub const GROUP_V6: Ipv6Address = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);

/// How long a unicast answer may wait for the neighbour's hardware address before it is dropped:
/// smoltcp would ask for a neighbour that is gone for ever, and hold up the answers behind it.
const UNICAST_PATIENCE: Duration = Duration::from_secs(2);
/// Spec: RFC 6762, section 11.
const HOP_LIMIT: u8 = 255;
/// Datagrams in each direction between two polls; what comes on top is dropped by the socket.
const QUEUE_LEN: usize = 8;
const QUEUE_BYTES: usize = 8192;
/// As many as an interface holds.
const MAX_ADDRS: usize = 8;

/// The responder of one interface and its socket.
#[derive(Debug)]
pub(super) struct Service {
    responder: Responder,
    socket: SocketHandle,
    /// The addresses that were last announced.
    addrs: Vec<IpCidr, MAX_ADDRS>,
    /// When an answer that still waits for its neighbour is dropped.
    drain_at: Option<Instant>,
    dropped: u32,
}

impl Service {
    /// Adds the socket to the set and joins the groups. Allocates once, for good.
    pub(super) fn attach(
        label: HostLabel,
        iface: &mut Interface,
        sockets: &mut SocketSet<'static>,
    ) -> Self {
        let mut socket = udp::Socket::new(packet_buffer(), packet_buffer());
        socket.set_hop_limit(Some(HOP_LIMIT));
        // None of these can fail: the socket is new, the port is not zero, and the groups are the
        // first of sixteen.
        let _ = socket.bind(PORT);
        let _ = iface.join_multicast_group(GROUP_V4);
        let _ = iface.join_multicast_group(GROUP_V6);
        Self {
            responder: Responder::new(label),
            socket: sockets.add(socket),
            addrs: Vec::new(),
            drain_at: None,
            dropped: 0,
        }
    }

    /// The name as it stands, without `.local`.
    pub(super) fn label(&self) -> &HostLabel {
        self.responder.label()
    }

    /// Answers that were lost because the queue was full or a neighbour did not answer.
    pub(super) fn dropped(&self) -> u32 {
        self.dropped
    }

    /// The link came up: probes for the name.
    pub(super) fn start(&mut self, now: Instant, random: &mut Random) {
        self.responder.start(now, random);
    }

    /// The link went down.
    pub(super) fn stop(&mut self) {
        self.responder.stop();
    }

    /// Whether datagrams wait.
    pub(super) fn is_asked(&self, sockets: &SocketSet<'static>) -> bool {
        sockets.get::<udp::Socket>(self.socket).can_recv()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.responder.deadline(), self.drain_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Reads what came, and sends what is due, into the socket.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        addrs: &[IpCidr],
        random: &mut Random,
        sockets: &mut SocketSet<'static>,
        events: &mut dyn FnMut(Event),
    ) {
        let socket = sockets.get_mut::<udp::Socket>(self.socket);
        if socket.send_queue() == 0 {
            self.drain_at = None;
        } else if take_due(&mut self.drain_at, now) {
            self.dropped = self.dropped.wrapping_add(1);
            socket.close();
            let _ = socket.bind(PORT);
        }
        self.update_addrs(now, addrs, random);
        // Bounded: what arrives later is for the next call.
        for _ in 0..QUEUE_LEN {
            let Ok((datagram, from)) = socket.recv() else {
                break;
            };
            let from = from.endpoint;
            let label = self.responder.label().clone();
            let reaction = self
                .responder
                .receive(now, datagram, from.addr, from.port, addrs);
            if reaction.conflict {
                events(Event::NameConflict {
                    label,
                    with: from.addr,
                });
            }
            if let Some(message) = reaction.multicast {
                self.send(socket, &message, group(from.addr.version()));
            }
            if let Some(message) = reaction.unicast {
                self.send(socket, &message, from);
                self.drain_at.get_or_insert(now + UNICAST_PATIENCE);
            }
        }
        let (message, claimed) = match self.responder.poll(now) {
            Some(Due::Multicast(message)) => (message, false),
            Some(Due::Claimed(message)) => (message, true),
            None => return,
        };
        for version in [IpVersion::Ipv4, IpVersion::Ipv6] {
            if has_version(addrs, version) {
                self.send(socket, &message, group(version));
            }
        }
        if claimed {
            events(Event::NameClaimed {
                label: self.label().clone(),
            });
        }
    }

    fn update_addrs(&mut self, now: Instant, addrs: &[IpCidr], random: &mut Random) {
        if self.addrs == addrs {
            return;
        }
        let gained = |version| has_version(addrs, version) && !has_version(&self.addrs, version);
        if gained(IpVersion::Ipv4) || gained(IpVersion::Ipv6) {
            // Hosts that speak only this IP version have not heard the probes.
            self.responder.probe_again(now, random);
        } else {
            self.responder.announce_again(now);
        }
        self.addrs = addrs.iter().take(MAX_ADDRS).copied().collect();
    }

    /// Queues one message.
    fn send(&mut self, socket: &mut udp::Socket<'static>, message: &Message, to: IpEndpoint) {
        let addrs = &self.addrs;
        let from = addrs
            .iter()
            .filter(|cidr| cidr.address().version() == to.addr.version())
            // The address closest to the receiver; for ff02::fb that is fe80::/64.
            .max_by_key(|cidr| {
                (
                    cidr.contains_addr(&to.addr),
                    is_link_local_v6(&cidr.address()),
                )
            })
            .map(IpCidr::address);
        let meta = udp::UdpMetadata {
            endpoint: to,
            local_address: from,
            meta: Default::default(),
        };
        let write = |out: &mut [u8]| self.responder.write(message, addrs, out);
        if socket.send_with(MAX_MESSAGE_LEN, meta, write).is_err() {
            self.dropped = self.dropped.wrapping_add(1);
        }
    }
}

fn group(version: IpVersion) -> IpEndpoint {
    let addr = match version {
        IpVersion::Ipv4 => IpAddress::Ipv4(GROUP_V4),
        IpVersion::Ipv6 => IpAddress::Ipv6(GROUP_V6),
    };
    IpEndpoint { addr, port: PORT }
}

fn has_version(addrs: &[IpCidr], version: IpVersion) -> bool {
    addrs.iter().any(|cidr| cidr.address().version() == version)
}

fn is_link_local_v6(addr: &IpAddress) -> bool {
    matches!(addr, IpAddress::Ipv6(addr) if addr.is_unicast_link_local())
}

fn packet_buffer() -> udp::PacketBuffer<'static> {
    let metadata: &'static mut [_] =
        Box::leak(vec![udp::PacketMetadata::EMPTY; QUEUE_LEN].into_boxed_slice());
    let payload: &'static mut [u8] = Box::leak(vec![0; QUEUE_BYTES].into_boxed_slice());
    udp::PacketBuffer::new(metadata, payload)
}
