//! TCP connections of all services: one pool, found by their addresses and ports.
//!
//! Every connection has a socket set of its own, with one socket in it. smoltcp looks at every socket of a set for
//! every segment and after every poll; with one set per interface, 64 clients would each pay for the other 63. Here a
//! hash table finds the one socket a segment is for, and the stack sees that one only. The price is a
//! table of deadlines of our own.
//!
//! There are no listening sockets either. A SYN for a port that is served takes a socket from the pool, which listens for
//! just that segment: the backlog is the pool, and an idle service costs nothing.

use alloc::vec;
use alloc::vec::Vec;
use smoltcp::iface::{SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Duration;
use smoltcp::wire::IpAddress;

use crate::http;
use crate::services::iperf3;
use crate::trace::{Event, peer, trace};

pub use crate::latency::CONNECTIONS;

/// What a service can count on while others want more than their share.
const SHARE: usize = 64;
/// Receive window in bytes.
pub const RECEIVE_BYTES: usize = 8 * 1024;
/// Bytes under way to the peer: the largest HTTP answer must fit.
pub const TRANSMIT_BYTES: usize = 16 * 1024;

/// A peer that owes us an acknowledgement, or an answer to a keep-alive, for this long is gone. Spec: RFC 1122, 4.2.3.5:
/// at least 100 s. The pauses between retransmissions double up to a minute: a link that comes and goes can swallow six.
const PEER_TIMEOUT: Duration = Duration::from_secs(120);
/// Keep-alive interval of connections that may be silent for as long as they like.
const KEEP_ALIVE: Duration = Duration::from_secs(25);
/// A handshake, or a farewell, without progress for this long is given up: smoltcp would wait for ever.
const HANDSHAKE_LIMIT_US: u64 = 10_000_000;
/// The same for a farewell with data on its way: somebody may read slowly.
const DRAIN_LIMIT_US: u64 = 60_000_000;
/// Nobody is evicted who moved this recently: a SYN that finds no place is dropped, and comes again after a second.
const EVICTABLE_AFTER_US: u64 = 500_000;
/// The same for handshakes: a few round trips of a local network, so that a flood of forged SYNs leaves real clients
/// the time to complete theirs.
const HALF_OPEN_EVICTABLE_AFTER_US: u64 = 20_000;
/// With so many handshakes open, newcomers take the place of those only, not of clients that have proved to exist.
const HALF_OPEN: usize = 64;

const BUCKETS: usize = 256;
const NONE: u8 = u8::MAX;
const _: () = assert!(CONNECTIONS < NONE as usize);

/// The TCP services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Port 7, RFC 862.
    Echo,
    /// Port 80.
    Http,
    /// Port 5201.
    Iperf3,
    /// Port 9, RFC 863.
    Discard,
    /// Port 19, RFC 864.
    Chargen,
}

/// How many services there are.
pub const SERVICES: usize = 5;

impl Service {
    /// The service at a port, if any.
    pub fn at(port: u16) -> Option<Self> {
        match port {
            7 => Some(Service::Echo),
            9 => Some(Service::Discard),
            19 => Some(Service::Chargen),
            80 => Some(Service::Http),
            iperf3::PORT => Some(Service::Iperf3),
            _ => None,
        }
    }

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Service::Echo => "echo",
            Service::Http => "http",
            Service::Iperf3 => "iperf3",
            Service::Discard => "discard",
            Service::Chargen => "chargen",
        }
    }
}

/// What identifies a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// An IPv4 address comes in the lower half, behind ones: no IPv6 address that is unicast begins like that.
    local: [u64; 2],
    remote: [u64; 2],
    local_port: u16,
    remote_port: u16,
    interface: u8,
}

impl Key {
    /// Whether both are between the same ends, whichever of them is ours and whatever the interface.
    pub fn has_ends_of(&self, other: &Key) -> bool {
        let mine = (self.local, self.local_port, self.remote, self.remote_port);
        let ends = (other.local, other.local_port);
        let others = (other.remote, other.remote_port);
        mine == (ends.0, ends.1, others.0, others.1) || mine == (others.0, others.1, ends.0, ends.1)
    }

    fn bucket(&self) -> usize {
        let mixed = self.remote[0] ^ self.remote[1] ^ self.local[1].rotate_left(7);
        let mixed = mixed ^ u64::from(self.remote_port) << 20 ^ u64::from(self.local_port) << 40;
        // The golden ratio spreads neighbouring ports and addresses over the buckets.
        ((mixed ^ u64::from(self.interface)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
            % BUCKETS
    }
}

/// What of a TCP segment decides where it goes. Nothing here is checked beyond being inside the frame: the stack does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The connection it belongs to.
    pub key: Key,
    /// Asks for a new connection: SYN, neither ACK nor RST nor FIN.
    pub opens: bool,
    /// Our address.
    pub local: IpAddress,
}

impl Segment {
    /// The service it is for, if its port has one.
    pub fn service(&self) -> Option<Service> {
        Service::at(self.key.local_port)
    }
}

/// What a frame is, as far as the poll loop cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A TCP segment in one piece.
    Tcp(Segment),
    /// A fragment of an IP datagram. The stack drops them; they are counted.
    Fragment,
    /// All else.
    Other,
}

/// Looks where a frame received on interface number `interface` should go.
#[inline]
pub fn classify(frame: &[u8], interface: u8) -> Class {
    match frame.first_chunk::<54>() {
        Some(head) if head[12..14] == [0x08, 0x00] => {
            if head[20] & 0x3f != 0 || head[21] != 0 {
                return Class::Fragment;
            }
            let words = |at: usize| {
                [
                    u64::MAX,
                    u64::from(u32::from_be_bytes([
                        head[at],
                        head[at + 1],
                        head[at + 2],
                        head[at + 3],
                    ])),
                ]
            };
            let local = IpAddress::v4(head[30], head[31], head[32], head[33]);
            let header = usize::from(head[14] & 0xf) * 4;
            if head[23] != 6 || header < 20 {
                return Class::Other;
            }
            segment(frame, 14 + header, words(30), words(26), local, interface)
        }
        Some(head) if head[12..14] == [0x86, 0xdd] => match head[20] {
            6 => {
                let half = |at: usize| {
                    head.get(at..)
                        .and_then(|b| b.first_chunk())
                        .map_or(0, |b| u64::from_be_bytes(*b))
                };
                let octets = head
                    .get(38..54)
                    .and_then(|b| b.first_chunk::<16>())
                    .copied()
                    .unwrap_or_default();
                let local = IpAddress::Ipv6(octets.into());
                segment(
                    frame,
                    54,
                    [half(38), half(46)],
                    [half(22), half(30)],
                    local,
                    interface,
                )
            }
            44 => Class::Fragment,
            _ => Class::Other,
        },
        _ => Class::Other,
    }
}

#[inline]
fn segment(
    frame: &[u8],
    at: usize,
    local: [u64; 2],
    remote: [u64; 2],
    address: IpAddress,
    interface: u8,
) -> Class {
    let Some(tcp) = frame.get(at..).and_then(|bytes| bytes.first_chunk::<20>()) else {
        return Class::Other;
    };
    Class::Tcp(Segment {
        key: Key {
            local,
            remote,
            local_port: u16::from_be_bytes([tcp[2], tcp[3]]),
            remote_port: u16::from_be_bytes([tcp[0], tcp[1]]),
            interface,
        },
        opens: tcp[13] & 0x17 == 0x02,
        local: address,
    })
}

/// One connection, or a free place for one.
pub struct Connection {
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    key: Key,
    next: u8,
    /// `None`: the place is free.
    pub service: Option<Service>,
    /// State of the HTTP service.
    pub http: http::Connection,
    /// What it is to the iperf3 service.
    pub iperf3: iperf3::Role,
    /// Where the characters of the chargen service go on.
    pub chargen_at: u32,
    /// It carries the capture.
    pub captures: bool,
    /// When it was opened, in microseconds.
    opened_us: u64,
    /// When the connection last made progress, in microseconds: data moved, or its state changed.
    pub active_us: u64,
    /// State and bytes under way when it was last looked at: what tells progress.
    seen: (State, usize),
    /// When the request that is still incomplete began, in microseconds.
    pub request_since_us: Option<u64>,
    /// Since when it waits for the result of a command, in microseconds.
    pub errand_since_us: Option<u64>,
    /// When to look at it next; `u64::MAX` for never.
    deadline_us: u64,
}

impl Connection {
    /// Its socket.
    pub fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Its socket set, for the stack.
    pub fn sockets(&mut self) -> &mut SocketSet<'static> {
        &mut self.sockets
    }

    /// Its socket, and what the HTTP service remembers.
    pub fn http_parts(&mut self) -> (&mut Socket<'static>, &mut http::Connection) {
        (self.sockets.get_mut(self.handle), &mut self.http)
    }

    fn progress(&mut self) -> (State, usize) {
        let socket = self.socket();
        (socket.state(), socket.send_queue())
    }

    /// To be called when everything was done that can be: what differs the next time is the peer's doing.
    #[inline]
    pub fn note_progress(&mut self) -> State {
        self.seen = self.progress();
        self.seen.0
    }

    /// What identifies it.
    pub fn key(&self) -> Key {
        self.key
    }

    /// What nearly every segment that is of use changes: state, bytes received, bytes under way.
    #[inline]
    pub fn standing(&self) -> (State, usize, usize) {
        let socket = self.sockets.get::<Socket>(self.handle);
        (socket.state(), socket.recv_queue(), socket.send_queue())
    }

    /// The number of its interface.
    pub fn interface(&self) -> usize {
        usize::from(self.key.interface)
    }
}

/// What happened to connections since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounters {
    /// Handshakes begun.
    pub opened: u64,
    /// Connections reset to make room for newer ones.
    pub evicted: u64,
    /// SYNs dropped because every place was taken by somebody active.
    pub refused: u64,
}

/// The pool.
pub struct Connections {
    places: Vec<Connection>,
    buckets: [u8; BUCKETS],
    dirty: [u64; CONNECTIONS.div_ceil(64)],
    open: [usize; SERVICES],
    /// No deadline is earlier than this.
    earliest_us: u64,
    /// Counted events.
    pub counters: ConnectionCounters,
}

impl Connections {
    /// Allocates all places and their buffers.
    pub fn new() -> Self {
        let place = || {
            let mut socket = Socket::new(
                SocketBuffer::new(vec![0; RECEIVE_BYTES].leak()),
                SocketBuffer::new(vec![0; TRANSMIT_BYTES].leak()),
            );
            socket.set_nagle_enabled(false);
            socket.set_ack_delay(None);
            socket.set_timeout(Some(PEER_TIMEOUT));
            let mut sockets = SocketSet::new(vec![SocketStorage::EMPTY].leak());
            let handle = sockets.add(socket);
            Connection {
                sockets,
                handle,
                key: Key::default(),
                next: NONE,
                service: None,
                http: http::Connection::default(),
                iperf3: iperf3::Role::Fresh,
                chargen_at: 0,
                captures: false,
                opened_us: 0,
                active_us: 0,
                seen: (State::Closed, 0),
                request_since_us: None,
                errand_since_us: None,
                deadline_us: u64::MAX,
            }
        };
        Connections {
            places: core::iter::repeat_with(place).take(CONNECTIONS).collect(),
            buckets: [NONE; BUCKETS],
            dirty: [0; CONNECTIONS.div_ceil(64)],
            open: [0; SERVICES],
            earliest_us: u64::MAX,
            counters: ConnectionCounters::default(),
        }
    }

    /// The place with this number.
    pub fn get(&mut self, index: usize) -> &mut Connection {
        &mut self.places[index]
    }

    /// Those that are open: their interface, service, socket, and when they were opened, in microseconds.
    pub fn each(&self) -> impl Iterator<Item = (usize, Service, &Socket<'static>, u64)> {
        self.places.iter().filter_map(|place| {
            let socket = place.sockets.get::<Socket>(place.handle);
            Some((place.interface(), place.service?, socket, place.opened_us))
        })
    }

    /// Connections that each service has now.
    pub fn open_by_service(&self) -> [usize; SERVICES] {
        self.open
    }

    /// Connections a service has now.
    pub fn open(&self, service: Service) -> usize {
        self.open[service as usize]
    }

    /// The connection a segment belongs to.
    #[inline]
    pub fn find(&self, key: &Key) -> Option<usize> {
        let mut index = self.buckets[key.bucket()];
        while index != NONE {
            let place = &self.places[usize::from(index)];
            if place.key == *key {
                return Some(usize::from(index));
            }
            index = place.next;
        }
        None
    }

    /// A place for a new connection, its socket listening for the segment at hand. `None` if the port is not served, or
    /// everybody is busy. An evicted connection is reset through `reset` first.
    pub fn open_for(
        &mut self,
        segment: &Segment,
        now_us: u64,
        reset: impl FnOnce(&mut Connection),
    ) -> Option<usize> {
        let service = segment.service()?;
        let index = match self.free() {
            Some(index) => index,
            None => {
                let Some(victim) = self.victim(now_us) else {
                    self.counters.refused += 1;
                    return None;
                };
                match self.places[victim].socket().state() {
                    State::TimeWait => {}
                    // Probably forged: a reset would hit somebody else.
                    State::SynReceived => self.counters.evicted += 1,
                    _ => {
                        self.counters.evicted += 1;
                        self.places[victim].socket().abort();
                        reset(&mut self.places[victim]);
                    }
                }
                self.release(victim);
                victim
            }
        };
        let place = &mut self.places[index];
        let socket = place.sockets.get_mut::<Socket>(place.handle);
        let may_be_silent = !matches!(service, Service::Http | Service::Iperf3);
        socket.set_keep_alive(may_be_silent.then_some(KEEP_ALIVE));
        socket.set_timeout(Some(PEER_TIMEOUT));
        // Fails only for port 0, which is not served, or an open socket, which a free place has not.
        socket
            .listen((segment.local, segment.key.local_port))
            .ok()?;
        place.key = segment.key;
        place.service = Some(service);
        place.http = http::Connection::default();
        place.iperf3 = iperf3::Role::Fresh;
        place.chargen_at = 0;
        place.captures = false;
        place.opened_us = now_us;
        place.active_us = now_us;
        place.request_since_us = None;
        place.errand_since_us = None;
        place.deadline_us = u64::MAX;
        let bucket = segment.key.bucket();
        place.next = self.buckets[bucket];
        self.buckets[bucket] = index as u8;
        self.open[service as usize] += 1;
        self.counters.opened += 1;
        trace(Event::Opened, peer(service as u8, segment.key.remote));
        Some(index)
    }

    fn free(&self) -> Option<usize> {
        let taken = self.open.iter().sum::<usize>();
        match taken < CONNECTIONS {
            true => self.places.iter().position(|place| place.service.is_none()),
            false => None,
        }
    }

    /// Whether somebody must go for a newcomer.
    pub fn is_full(&self) -> bool {
        self.free().is_none()
    }

    /// Who must go for a newcomer: who has finished, then who never got going or will not go, then who has been silent
    /// for longest, a service that has more than its share first.
    fn victim(&mut self, now_us: u64) -> Option<usize> {
        let open = self.open;
        let mut half_open = 0;
        for place in &mut self.places {
            half_open += usize::from(place.socket().state() == State::SynReceived);
        }
        let mut best = None;
        for (index, place) in self.places.iter_mut().enumerate() {
            let Some(service) = place.service else {
                continue;
            };
            let silent_us = now_us.saturating_sub(place.active_us);
            let silent = silent_us >= EVICTABLE_AFTER_US;
            let rank = match place.socket().state() {
                State::TimeWait | State::Closed => 0,
                State::SynReceived if silent_us >= HALF_OPEN_EVICTABLE_AFTER_US => 1,
                State::SynReceived => continue,
                _ if !silent => continue,
                State::Established | State::CloseWait if half_open >= HALF_OPEN => continue,
                State::Established if open[service as usize] > SHARE => 2,
                State::Established => 3,
                _ => 1,
            };
            let candidate = (rank, place.active_us, index);
            if best.is_none_or(|best| candidate < best) {
                best = Some(candidate);
            }
        }
        best.map(|(_, _, index)| index)
    }

    /// Frees a place.
    pub fn release(&mut self, index: usize) {
        let place = &mut self.places[index];
        let Some(service) = place.service.take() else {
            return;
        };
        self.open[service as usize] -= 1;
        place.captures = false;
        trace(Event::Closed, peer(service as u8, place.key.remote));
        // A socket that did not end by itself must not remember anything when it listens again.
        place.sockets.get_mut::<Socket>(place.handle).abort();
        place.deadline_us = u64::MAX;
        let (bucket, after) = (place.key.bucket(), place.next);
        self.dirty[index / 64] &= !(1 << (index % 64));
        let mut at = self.buckets[bucket];
        if usize::from(at) == index {
            self.buckets[bucket] = after;
            return;
        }
        while at != NONE {
            let next = self.places[usize::from(at)].next;
            if usize::from(next) == index {
                self.places[usize::from(at)].next = after;
                return;
            }
            at = next;
        }
    }

    /// Notes that a connection has something to do.
    #[inline]
    pub fn touch(&mut self, index: usize) {
        self.dirty[index / 64] |= 1 << (index % 64);
    }

    /// Notes all connections of an interface.
    pub fn touch_all(&mut self, interface: usize) {
        for index in 0..CONNECTIONS {
            if self.places[index].service.is_some() && self.places[index].interface() == interface {
                self.touch(index);
            }
        }
    }

    /// Whether any is noted.
    #[inline(always)]
    pub fn any_touched(&self) -> bool {
        self.dirty.iter().fold(0, |all, word| all | word) != 0
    }

    /// The next connection noted by [`Self::touch`], in the order of places from `from` on.
    #[inline(always)]
    pub fn next_touched(&mut self, from: usize) -> Option<usize> {
        let mut from = from;
        while from < CONNECTIONS {
            let word = self.dirty[from / 64] >> (from % 64);
            if word != 0 {
                let index = from + word.trailing_zeros() as usize;
                self.dirty[index / 64] &= !(1 << (index % 64));
                return Some(index);
            }
            from = (from / 64 + 1) * 64;
        }
        None
    }

    /// Notes the connection that has waited longest for a command to be run.
    pub fn touch_longest_waiting(&mut self) {
        let waiting = self.places.iter().enumerate();
        let waiting = waiting.filter(|(_, place)| place.service.is_some());
        let since = waiting.filter_map(|(index, place)| Some((place.errand_since_us?, index)));
        if let Some((_, index)) = since.min() {
            self.touch(index);
        }
    }

    /// Sets when a connection must be looked at again.
    #[inline]
    pub fn set_deadline(&mut self, index: usize, deadline_us: u64) {
        self.places[index].deadline_us = deadline_us;
        self.earliest_us = self.earliest_us.min(deadline_us);
    }

    /// The earliest deadline, or one that was the earliest until its connection moved it: waking for that once is
    /// cheaper than looking at all of them after each packet.
    #[inline]
    pub fn earliest_us(&self) -> u64 {
        self.earliest_us
    }

    /// Notes all connections whose deadline has passed.
    pub fn expire(&mut self, now_us: u64) {
        if now_us < self.earliest_us {
            return;
        }
        self.earliest_us = u64::MAX;
        for index in 0..CONNECTIONS {
            let deadline_us = self.places[index].deadline_us;
            if deadline_us <= now_us {
                self.touch(index);
            } else {
                self.earliest_us = self.earliest_us.min(deadline_us);
            }
        }
    }

    /// Notes progress, and ends handshakes and farewells without any. Returns when to look again, `u64::MAX` while the
    /// connection is established.
    #[inline]
    pub fn patience_us(&mut self, index: usize, now_us: u64) -> u64 {
        let place = &mut self.places[index];
        let (state, queued) = place.progress();
        if (state, queued) != place.seen {
            place.active_us = now_us;
        }
        match state {
            State::SynReceived
            | State::FinWait1
            | State::FinWait2
            | State::Closing
            | State::LastAck => {
                let limit_us = match queued {
                    0 => place.active_us + HANDSHAKE_LIMIT_US,
                    _ => place.active_us + DRAIN_LIMIT_US,
                };
                if now_us >= limit_us {
                    place.socket().abort();
                }
                limit_us
            }
            _ => u64::MAX,
        }
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// A SYN from one of few addresses, so that keys share buckets, over either family and two interfaces.
    fn segment(number: u64) -> Segment {
        let port = 1024 + (number % 50) as u16;
        let interface = (number / 50 % 2) as u8;
        let mut frame = vec![0; 74];
        let tcp = match number / 100 % 2 {
            0 => {
                frame[12..15].copy_from_slice(&[8, 0, 0x45]);
                frame[23] = 6;
                frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
                34
            }
            _ => {
                frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
                frame[20] = 6;
                // The same addresses, as the lower half of IPv6 ones.
                frame[34..38].copy_from_slice(&[10, 0, 0, 1]);
                frame[50..54].copy_from_slice(&[10, 0, 0, 2]);
                54
            }
        };
        frame[tcp..tcp + 2].copy_from_slice(&port.to_be_bytes());
        frame[tcp + 3] = 80;
        frame[tcp + 13] = 2;
        match classify(&frame, interface) {
            Class::Tcp(segment) => segment,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_connection_is_found_whatever_came_and_went_before() {
        let mut connections = Connections::new();
        let mut known = HashMap::new();
        let mut random = crate::random::Random::new(Some(b"seed"));
        for _ in 0..20_000 {
            let number = random.draw() % 200;
            let segment = segment(number);
            match known.remove(&number) {
                Some(index) => connections.release(index),
                None if known.len() < CONNECTIONS => {
                    let index = connections.open_for(&segment, 0, |_| panic!("there is room"));
                    known.insert(number, index.unwrap());
                }
                None => assert!(connections.is_full()),
            }
            assert_eq!(connections.find(&segment.key), known.get(&number).copied());
            let probe = random.draw() % 200;
            assert_eq!(
                connections.find(&self::segment(probe).key),
                known.get(&probe).copied()
            );
            assert_eq!(connections.open(Service::Http), known.len());
        }
    }

    #[test]
    fn the_trace_knows_the_services_by_their_numbers() {
        for port in [7, 9, 19, 80, iperf3::PORT] {
            let service = Service::at(port).unwrap();
            let name = crate::trace::SERVICES[service as usize];
            assert_eq!(name, format!("{service:?}").to_lowercase());
        }
    }

    #[test]
    fn a_header_with_options_does_not_move_the_ports() {
        let mut frame = vec![0; 14 + 60 + 20];
        frame[12..15].copy_from_slice(&[8, 0, 0x4f]);
        frame[23] = 6;
        frame[14 + 60..14 + 64].copy_from_slice(&[0x12, 0x34, 0, 80]);
        let Class::Tcp(segment) = classify(&frame, 0) else {
            panic!("not TCP")
        };
        assert_eq!(
            (segment.key.remote_port, segment.key.local_port),
            (0x1234, 80)
        );
        frame.truncate(14 + 60 + 19);
        assert_eq!(classify(&frame, 0), Class::Other);
        frame[20] = 0x20;
        assert_eq!(classify(&frame, 0), Class::Fragment);
    }
}
