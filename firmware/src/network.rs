//! The network as the poll loop drives it: interfaces, connections, services.
//!
//! [`Network::poll`] does a bounded round of work and says when it wants to be called again:
//!
//! ```text
//!  interrupt flag ──► for each interface, up to BUDGET frames:
//!                       frame ─► fast path ─► answered in place
//!                         │        └─► TCP ─► its connection's socket set ─┐
//!                         │        └─► else ─► the interface's own set ─────┤ (smoltcp)
//!                     ──► each connection touched: service, then send       │
//!                     ──► each interface touched: addresses, UDP echo, send ┘
//!                     ──► doorbells
//!  nothing left ──► sleep until the earliest deadline
//! ```

mod errands;
mod tools;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use hal::net::capture::Tapped;
use hal::net::drops::Tally;
use hal::net::smoltcp::{Lent, is_damaged_segment};
use hal::net::{Frame, Link, Nic, Pool};
use heapless::String;
use log::{info, warn};
use smoltcp::iface::{
    Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet, SocketStorage,
};
use smoltcp::socket::tcp::State;
use smoltcp::socket::udp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress};

use crate::addressing::{self, Addressing, Event};
use crate::admission;
use crate::capture::Capture;
use crate::connections::{
    Class, Connections, RECEIVE_BYTES, Segment, Service, TRANSMIT_BYTES, classify,
};
use crate::drops::{self, Fate, Outcome, Reason};
use crate::echo;
use crate::fast_path::{self, Flows, Verdict};
use crate::http;
use crate::latency::{Answers, InPlace, Kind, Latency, clock};
use crate::neighbours::Neighbours;
use crate::ping;
use crate::services::{self, Services};
use crate::shell::errand::Errand;
use crate::snapshot::{Snapshot, System};
use crate::trace::{Event as Traced, address, trace};

/// Frames one interface may have handled before the others, the timers and the services get their turn.
const BUDGET: usize = 64;
/// Places in the transmit ring that one answer in place takes at most: one for each port of a bridge.
const COPIES: usize = 8;
/// Segments one connection may send in one round.
const SEGMENTS: usize = 16;
/// The same for the one that carries a capture: others may be in more of a hurry.
const CAPTURE_SEGMENTS: usize = 4;
/// Requests one connection may have answered in one round.
const REQUESTS: usize = 16;
/// When the stack wants to be polled at once although it could not do anything, it waits this long.
const RETRY_US: u64 = 1_000;
/// The same if the transmit ring is full, which interrupts when it has room.
const RETRY_BLOCKED_US: u64 = 1_000_000;
/// smoltcp answers queries for group memberships after a delay that it tells nobody. So long, and so often, it is asked.
const REPORTS_LAST_US: u64 = 12_000_000;
const REPORTS_EVERY_US: u64 = 1_000_000;
/// A request must be complete this long after its first byte. Spec: RFC 9110, 15.5.9.
const REQUEST_LIMIT_US: u64 = 10_000_000;
/// A connection without a request is closed after this long. Less than the 60 s after which the stack forgets the MAC
/// address of a silent peer: the farewell is to be a FIN that arrives.
const IDLE_LIMIT_US: u64 = 50_000_000;
/// A neighbour that has not answered for this long is given up: on a LAN, one that exists takes a millisecond.
const NEIGHBOUR_LIMIT_US: u64 = 500_000;
/// The stack asks for neighbours once in so long, whoever they are.
const ASK_PAUSE_US: u64 = 1_000_000;
/// Datagrams that wait for the UDP echo service, of interfaces where the fast path does not know the way.
const UDP_DATAGRAMS: usize = 16;

/// Longest name of an interface.
pub type Name = String<15>;

/// Frames an interface counted above its driver.
#[derive(Clone, Debug, Default)]
pub struct StackCounters {
    /// Echo requests answered in place.
    pub icmp_echoes: u64,
    /// UDP echoes answered in place.
    pub udp_echoes: u64,
    /// UDP echoes answered through the stack.
    pub udp_echoes_slow: u64,
    /// Times that UDP echoes were given up because their neighbour did not answer.
    pub udp_echoes_undeliverable: u64,
    /// Other frames that somebody had use for, see [`Outcome::Delivered`].
    pub delivered: u64,
    /// Frames that nobody had use for.
    pub drops: Tally,
}

impl StackCounters {
    /// Frames that the driver handed up and somebody had use for. With those in [`Self::drops`]: all.
    pub fn taken(&self) -> u64 {
        self.icmp_echoes + self.udp_echoes + self.delivered
    }

    /// Frames that the stack was not to see, see [`admission`].
    pub fn refused(&self) -> u64 {
        admission::REASONS
            .iter()
            .map(|reason| self.drops.get(*reason))
            .sum()
    }

    /// Name, help text and value of each counter; the drops are shown on their own.
    pub fn each(&self) -> [(&'static str, &'static str, u64); 6] {
        [
            (
                "rx_delivered",
                "Received frames that somebody had use for",
                self.taken(),
            ),
            (
                "icmp_echoes_in_place",
                "ICMP echo requests answered in the receive buffer",
                self.icmp_echoes,
            ),
            (
                "udp_echoes_in_place",
                "UDP echoes answered in the receive buffer",
                self.udp_echoes,
            ),
            (
                "udp_echoes_by_stack",
                "UDP echoes answered through the stack",
                self.udp_echoes_slow,
            ),
            (
                "udp_echoes_undeliverable",
                "Times that UDP echoes were given up for want of a neighbour",
                self.udp_echoes_undeliverable,
            ),
            (
                "rx_fragments_dropped",
                "IP fragments dropped: nothing here reassembles",
                self.drops.get(Reason::Fragment),
            ),
        ]
    }
}

/// One network interface.
pub struct Port<N: Nic> {
    /// `eth0`, `wan` ...
    pub name: Name,
    /// Its driver.
    pub nic: Tapped<N>,
    /// Its bit in the sets of interrupts that [`Network::poll`] takes and gives.
    pub interrupt: u32,
    /// The stack on it.
    pub iface: Interface,
    /// How it gets its addresses.
    pub addressing: Addressing,
    /// What was counted above the driver.
    pub counters: StackCounters,
    answers: Answers,
    sockets: SocketSet<'static>,
    udp_echo: SocketHandle,
    /// Since when the UDP echo service has an answer that cannot leave, in microseconds.
    udp_stuck_us: Option<u64>,
    flows: Flows,
    neighbours: Neighbours,
    /// Whether services answer here; pings and addresses are no service.
    serves: bool,
    /// Whether frames of the experimental EtherType are sent back.
    reflects: bool,
    link: Option<Link>,
    /// Frames may be waiting.
    backlog: bool,
    /// The interface's own sockets, or its addresses, have something to do.
    touched: bool,
    /// The driver was at work in this round: it may have something to flush.
    unflushed: bool,
    /// The transmit ring was full; it interrupts when there is room.
    blocked: bool,
    /// Reports of group memberships may be due until then, in microseconds.
    reports_until_us: u64,
    deadline_us: u64,
}

impl<N: Nic> Port<N> {
    /// An interface without addresses yet. Allocates.
    pub fn new(
        name: Name,
        nic: N,
        interrupt: u32,
        addressing: Addressing,
        seed: u64,
        pool: &mut Pool,
    ) -> Self {
        let mut nic = Tapped::new(nic);
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(nic.mac())));
        config.random_seed = seed;
        let mut flows = Flows::default();
        let mut lent = Lent {
            nic: &mut nic,
            pool,
            observer: &mut flows,
            frame: None,
        };
        let mut iface = Interface::new(config, &mut lent, Instant::ZERO);
        let buffer = || {
            let metadata = vec![udp::PacketMetadata::EMPTY; UDP_DATAGRAMS].leak();
            udp::PacketBuffer::new(metadata, vec![0; TRANSMIT_BYTES].leak())
        };
        let mut socket = udp::Socket::new(buffer(), buffer());
        // Cannot fail: the socket is new, the port is not 0.
        let _ = socket.bind(7);
        let mut sockets = SocketSet::new(
            vec![
                SocketStorage::EMPTY,
                SocketStorage::EMPTY,
                SocketStorage::EMPTY,
            ]
            .leak(),
        );
        let udp_echo = sockets.add(socket);
        let mut addressing = addressing;
        addressing.attach(&mut iface, &mut sockets);
        Port {
            name,
            nic,
            interrupt,
            iface,
            addressing,
            counters: StackCounters::default(),
            answers: Answers::default(),
            sockets,
            udp_echo,
            udp_stuck_us: None,
            flows,
            neighbours: Neighbours::default(),
            serves: true,
            reflects: false,
            link: None,
            backlog: true,
            touched: true,
            unflushed: false,
            blocked: false,
            reports_until_us: 0,
            deadline_us: 0,
        }
    }

    /// Whether services answer here (they do unless told otherwise), and whether the reflector does.
    pub fn bind(&mut self, serves: bool, reflects: bool) {
        (self.serves, self.reflects) = (serves, reflects);
        if !serves {
            self.sockets.get_mut::<udp::Socket>(self.udp_echo).close();
        }
    }

    /// When to go on, in microseconds, after the stack did all it could and wants to be polled at `at`.
    fn deadline(&mut self, at: Option<Instant>, now_us: u64, pool: &mut Pool) -> u64 {
        let Some(at) = at else { return u64::MAX };
        let at_us = at.total_micros().max(0) as u64;
        if at_us > now_us {
            return at_us;
        }
        if self.nic.transmit_space(pool) > 0 {
            return now_us + RETRY_US;
        }
        self.block();
        now_us + RETRY_BLOCKED_US
    }

    /// Whether received frames wait for their turn.
    pub(crate) fn is_behind(&self) -> bool {
        self.backlog
    }

    /// Whether every frame that the driver handed up is in the books once, and none for an unknown reason.
    pub fn books_balance(&self) -> bool {
        let received = self.nic.counters().rx_frames;
        let drops = &self.counters.drops;
        received == self.counters.taken() + drops.sum() && drops.get(Reason::StackUnknown) == 0
    }

    /// What shows what became of a frame.
    #[inline(never)]
    fn evidence(&self) -> Evidence {
        let counters = self.nic.counters();
        Evidence {
            sent: self.flows.sent,
            asks: self.flows.asks,
            queued: drops::queued(&self.sockets),
            unsent: counters.tx_no_buffer,
        }
    }

    /// What became of a frame that the stack has seen, but no connection.
    #[inline(never)]
    fn judge(
        &self,
        frame: &[u8],
        seen: PollIngressSingleResult,
        before: Evidence,
        after: Evidence,
        now_us: u64,
    ) -> Outcome {
        let shown = before.sent != after.sent
            || before.unsent != after.unsent
            || before.queued != after.queued;
        if shown && cfg!(not(debug_assertions)) {
            return Outcome::Delivered;
        }
        if seen == PollIngressSingleResult::None {
            return Outcome::Dropped(Reason::TcpChecksum);
        }
        let fate = drops::fate(frame, self.nic.mac(), &self.iface, &self.sockets);
        let answer_to = match fate {
            Fate::Dropped(reason) => {
                debug_assert!(!shown, "{reason:?}, but taken: {frame:02x?}");
                return Outcome::Dropped(reason);
            }
            Fate::Segment { resets: true, .. } => return Outcome::Dropped(Reason::TcpReset),
            _ if shown => return Outcome::Delivered,
            Fate::Taken => return Outcome::Delivered,
            Fate::Queued => return Outcome::Dropped(Reason::SocketFull),
            Fate::Answered(peer) | Fate::Segment { source: peer, .. } => peer,
        };
        // Asked for the neighbour just now, or so lately that the stack does not do it again.
        let asked = before.asks != after.asks || now_us < self.flows.asked_us + ASK_PAUSE_US;
        Outcome::Dropped(
            match asked || drops::is_unreachable(&self.iface, answer_to) {
                true => Reason::NoWayBack,
                false => Reason::StackUnknown,
            },
        )
    }

    /// What became of a segment that nothing showed of.
    #[cold]
    #[inline(never)]
    fn judge_segment(&self, frame: &[u8], seen: PollIngressSingleResult) -> Outcome {
        if seen == PollIngressSingleResult::None {
            return Outcome::Dropped(Reason::TcpChecksum);
        }
        match drops::fate(frame, self.nic.mac(), &self.iface, &self.sockets) {
            Fate::Dropped(reason) => Outcome::Dropped(reason),
            // It may have told of a window, or counted as one of three.
            Fate::Segment { bare: true, .. } => Outcome::Delivered,
            Fate::Segment { resets: true, .. } => Outcome::Dropped(Reason::TcpReset),
            _ => Outcome::Dropped(Reason::TcpUnexpected),
        }
    }

    fn block(&mut self) {
        self.blocked = true;
        self.nic.interrupt_on_space(true);
    }
}

/// See [`Port::evidence`].
#[derive(Clone, Copy)]
struct Evidence {
    /// Frames sent, but for questions.
    sent: u32,
    /// Questions for neighbours.
    asks: u32,
    /// Datagrams that wait in sockets.
    queued: usize,
    /// Frames that found no buffer to be sent in.
    unsent: u64,
}

/// When [`Network::poll`] wants to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At once: a budget ended before the work did.
    Again,
    /// On an interrupt, or at this time in microseconds.
    At(u64),
    /// On an interrupt.
    Idle,
}

/// All interfaces, their connections and services.
pub struct Network<N: Nic> {
    /// The interfaces.
    pub ports: Vec<Port<N>>,
    /// Free buffers.
    pub pool: Pool,
    /// TCP.
    pub connections: Connections,
    /// What does not change: board, versions.
    pub system: System,
    /// What HTTP answered.
    pub answers: http::AnswerCounters,
    /// The measuring services.
    pub services: Services,
    /// Who may change something by HTTP.
    pub access: http::Access,
    /// How long answers take.
    pub latency: Latency,
    /// Where frames may be captured.
    pub capture: Option<&'static Capture>,
    /// The connection that carries the capture there is.
    pub(crate) capturing: Option<usize>,
    /// When it has to be looked after, in microseconds.
    pub(crate) capture_due_us: u64,
    ping: Option<ping::Run>,
    /// The command being run for a connection. Taken while it runs.
    pub errand: Option<Box<Errand>>,
    /// The connection whose page is being written, a step in each round, and what there is of it.
    writing: Option<usize>,
    page: Box<[u8; TRANSMIT_BYTES]>,
    /// In this round a page was written, which takes long: who comes next waits for the next round.
    wrote_page: bool,
    /// The first connection whose turn it is in the next round.
    resume_at: usize,
    /// When to see whether the machine may start anew, and when it does in any case, in microseconds.
    reboot_us: (u64, u64),
    input: Box<[u8; RECEIVE_BYTES]>,
    pub(crate) output: Box<[u8; TRANSMIT_BYTES]>,
}

fn instant(now_us: u64) -> Instant {
    Instant::from_micros(now_us as i64)
}

impl<N: Nic> Network<N> {
    /// A network of these interfaces. Allocates everything that will ever be needed.
    pub fn new(ports: Vec<Port<N>>, pool: Pool, system: System) -> Self {
        Network {
            ports,
            pool,
            connections: Connections::new(),
            system,
            answers: http::AnswerCounters::default(),
            services: Services::default(),
            access: http::Access::default(),
            latency: Latency::off(),
            capture: None,
            capturing: None,
            capture_due_us: u64::MAX,
            ping: None,
            errand: Some(Errand::new()),
            writing: None,
            page: Box::new([0; TRANSMIT_BYTES]),
            wrote_page: false,
            resume_at: 0,
            reboot_us: (u64::MAX, u64::MAX),
            input: Box::new([0; RECEIVE_BYTES]),
            output: Box::new([0; TRANSMIT_BYTES]),
        }
    }

    /// One bounded round. `pending` are the interrupts taken since the last round; `done` gets each that may fire again.
    pub fn poll(&mut self, now_us: u64, pending: u32, mut done: impl FnMut(u32)) -> Next {
        // In a register, so that who measures nothing pays for a few branches that never change.
        let stamped = self.latency.is_on() && {
            if let Some(port) = self.latency.awaits() {
                self.latency
                    .look(&mut self.ports[port].nic, &mut self.pool, now_us);
            }
            self.latency.begin(now_us)
        };
        // Bit by bit the interfaces that have answered.
        let mut answered = 0;
        // Only who receives can leave frames for others of the same device.
        let mut aside = false;
        for index in 0..self.ports.len() {
            let port = &self.ports[index];
            if pending & port.interrupt != 0 || port.backlog || aside && port.nic.waiting() {
                self.poll_port(index, now_us, pending, stamped, &mut done);
                let port = &self.ports[index];
                aside |= port.nic.has_set_aside();
                answered |= u32::from(!port.answers.is_empty()) << index;
            }
        }
        if self.capture_due_us <= now_us
            && let Some(index) = self.capturing
        {
            self.tend_capture(index, now_us);
        }
        self.connections.expire(now_us);
        let mut again = false;
        if self.writing.is_some() {
            // What is answered is not to wait for a page.
            for index in 0..self.ports.len() {
                if self.ports[index].unflushed {
                    again |= self.finish_port(index, now_us, answered >> index & 1 != 0);
                    answered &= !(1 << index);
                }
            }
        }
        if self.connections.any_touched() {
            let mut from = core::mem::take(&mut self.resume_at);
            while let Some(index) = self.connections.next_touched(from) {
                self.poll_connection(index, now_us);
                from = index + 1;
                if self.wrote_page {
                    // Frames come first, then the next connection.
                    (self.wrote_page, self.resume_at) = (false, from);
                    break;
                }
            }
            again |= self.connections.any_touched();
        }
        let mut next_us = self.connections.earliest_us().min(self.capture_due_us);
        if self.services.iperf3.sends_datagrams() {
            let due_us = self.send_datagrams(now_us);
            again |= due_us <= now_us;
            next_us = next_us.min(due_us);
        }
        answered |= self.latency.replied();
        for index in 0..self.ports.len() {
            let port = &mut self.ports[index];
            port.backlog |= aside && port.nic.waiting();
            let stirs = port.unflushed | port.touched | port.backlog | port.blocked;
            if stirs || port.deadline_us <= now_us {
                again |= self.finish_port(index, now_us, answered >> index & 1 != 0);
            }
            next_us = next_us.min(self.ports[index].deadline_us);
        }
        match next_us {
            _ if again => Next::Again,
            u64::MAX => Next::Idle,
            at_us => Next::At(at_us),
        }
    }

    /// The end of a round for an interface that had one: its own sockets, then the doorbells. Whether it wants another one
    /// at once.
    #[inline(never)]
    fn finish_port(&mut self, index: usize, now_us: u64, answered: bool) -> bool {
        let port = &mut self.ports[index];
        if port.touched || port.deadline_us <= now_us {
            poll_sockets(index, port, &mut self.pool, &mut self.input[..], now_us);
        }
        if port.unflushed {
            port.unflushed = false;
            port.nic.flush();
        }
        if answered {
            let (answers, nic) = (&mut port.answers, &mut port.nic);
            self.latency.rang(answers, index, nic, &mut self.pool);
        }
        if port.blocked && port.nic.transmit_space(&mut self.pool) > 0 {
            // There was room before there could be an interrupt for it.
            port.backlog = true;
            return true;
        }
        port.backlog && !port.blocked
    }

    /// Takes frames from one interface that interrupted, or had more than its budget last time.
    #[inline(never)]
    fn poll_port(
        &mut self,
        index: usize,
        now_us: u64,
        pending: u32,
        stamped: bool,
        done: &mut impl FnMut(u32),
    ) {
        let port = &mut self.ports[index];
        let interrupted = pending & port.interrupt != 0;
        if stamped {
            self.latency.start(&mut port.answers, interrupted);
        }
        if interrupted || port.link.is_none() {
            port.nic.acknowledge();
            port.backlog = true;
            let link = port.nic.link();
            if port.link != Some(link) {
                info!("{}: {}", port.name, LinkLine(link));
                match link {
                    Link::Down => trace(Traced::LinkDown, (index as u8, 0)),
                    Link::Up { speed_mbps, .. } => trace(Traced::LinkUp, (index as u8, speed_mbps)),
                }
                port.link = Some(link);
                port.flows.clear();
                port.neighbours.clear();
                port.touched = true;
            }
        }
        port.flows.now_us = now_us;
        port.unflushed = true;
        self.pool.samples.turn_to(index, now_us);
        let mut budget = BUDGET;
        // Frames that may be received before the transmit ring is asked for room again.
        let mut room = 0;
        loop {
            let port = &mut self.ports[index];
            if budget == 0 {
                break; // the rest in the next round, after everybody else
            }
            if room == 0 {
                let space = port.nic.transmit_space(&mut self.pool);
                if space == 0 {
                    // Answers have no place to go: the frames wait in the ring, and the ring tells when there is room.
                    port.block();
                    break;
                }
                room = (space / COPIES).max(1);
            }
            let Some(frame) = port.nic.receive(&mut self.pool) else {
                port.backlog = false;
                break;
            };
            budget -= 1;
            room = match self.receive(index, frame, now_us, stamped) {
                true => room - 1,
                // The stack may have sent anything.
                false => 0,
            };
        }
        let port = &mut self.ports[index];
        if port.blocked && port.nic.transmit_space(&mut self.pool) > 0 {
            port.nic.interrupt_on_space(false);
            port.blocked = false;
            // Whoever could not send may do so now.
            port.touched = true;
            self.connections.touch_all(index);
        }
        let port = &mut self.ports[index];
        if !port.backlog || port.blocked {
            done(port.interrupt);
        }
    }

    /// One received frame: answered in place, or handed on. Whether the former.
    #[inline]
    fn receive(&mut self, index: usize, mut frame: Frame, now_us: u64, stamped: bool) -> bool {
        let harvest = if stamped { clock::cycles() } else { 0 };
        let port = &mut self.ports[index];
        let verdict = match port.serves {
            true => fast_path::answer(frame.bytes_mut(), port.nic.mac(), &port.flows),
            false => Verdict::Pass,
        };
        let answered = match verdict {
            Verdict::Icmp(len) => {
                port.counters.icmp_echoes += 1;
                Some((len, Kind::Icmp))
            }
            Verdict::Udp(len) => {
                port.counters.udp_echoes += 1;
                Some((len, Kind::Udp))
            }
            Verdict::Pass
                if port.reflects && services::reflect(frame.bytes_mut(), port.nic.mac()) =>
            {
                self.services.reflected += 1;
                port.counters.delivered += 1;
                Some((frame.bytes().len(), Kind::Reflected))
            }
            Verdict::Pass => None,
        };
        if let Some((len, kind)) = answered {
            frame.set_len(len);
            self.answer_in_place(index, frame, kind, stamped.then_some(harvest));
            return true;
        }
        let class = classify(frame.bytes(), index as u8);
        let connection = match &class {
            Class::Tcp(segment) => self.connections.find(&segment.key).filter(|old| {
                // A new connection may follow an old one with the same ports (RFC 1122, 4.2.2.13).
                !segment.opens || self.connections.get(*old).socket().state() != State::TimeWait
            }),
            _ => None,
        };
        let outcome = match connection {
            Some(connection) => self.receive_for(connection, index, &frame, harvest, now_us),
            None => self.receive_unconnected(index, &mut frame, &class, harvest, now_us),
        };
        // The one place where a frame that was not answered in place ends: each counts once.
        let counters = &mut self.ports[index].counters;
        match outcome {
            Outcome::Answer => {
                counters.delivered += 1;
                self.answer_in_place(index, frame, Kind::Udp, stamped.then_some(harvest));
            }
            Outcome::Delivered => {
                counters.delivered += 1;
                self.pool.put(frame);
            }
            Outcome::Dropped(reason) => {
                counters.drops.count(reason);
                self.pool.discard(frame, reason);
            }
        }
        false
    }

    /// Sends a received frame back as its own answer, and notes when, if it was stamped at harvest.
    #[inline(always)]
    fn answer_in_place(&mut self, index: usize, frame: Frame, kind: Kind, harvest: Option<u32>) {
        let port = &mut self.ports[index];
        port.nic.transmit(frame, &mut self.pool);
        if let Some(harvest) = harvest {
            let reply = clock::cycles();
            port.answers.push(InPlace {
                harvest,
                reply,
                kind,
            });
        }
    }

    /// A frame for a connection.
    #[inline]
    fn receive_for(
        &mut self,
        connection: usize,
        index: usize,
        frame: &Frame,
        harvest: u32,
        now_us: u64,
    ) -> Outcome {
        let stack = self.latency.stamp();
        let port = &mut self.ports[index];
        let place = self.connections.get(connection);
        let (sent, standing) = (port.flows.sent, place.standing());
        let mut lent = Lent {
            nic: &mut port.nic,
            pool: &mut self.pool,
            observer: &mut port.flows,
            frame: Some(frame),
        };
        let seen = port
            .iface
            .poll_ingress_single(instant(now_us), &mut lent, place.sockets());
        // The others stream: no segment of theirs is the answer to another.
        if let Some(stack) = stack
            && matches!(place.service, Some(Service::Echo | Service::Http))
            && place.socket().recv_queue() > 0
        {
            let answers = &self.ports[index].answers;
            self.latency.asked(connection, answers, harvest, stack);
        }
        self.connections.touch(connection);
        let moved = self.connections.get(connection).standing() != standing;
        let port = &mut self.ports[index];
        match moved || port.flows.sent != sent {
            true => Outcome::Delivered,
            false => port.judge_segment(frame.bytes(), seen),
        }
    }

    /// A frame that belongs to no connection: it opens one, or is for the interface itself, or for nobody.
    #[inline(never)]
    fn receive_unconnected(
        &mut self,
        index: usize,
        frame: &mut Frame,
        class: &Class,
        harvest: u32,
        now_us: u64,
    ) -> Outcome {
        let port = &mut self.ports[index];
        let now = instant(now_us);
        let mut used = false;
        if addressing::concerns(frame.bytes()) {
            used = port.addressing.on_frame(now, frame.bytes());
            port.touched = true;
        }
        match self.receive_admitted(index, frame, class, harvest, now_us) {
            Outcome::Dropped(_) if used => Outcome::Delivered,
            outcome => outcome,
        }
    }

    /// The same once addressing has seen it.
    #[inline(always)]
    fn receive_admitted(
        &mut self,
        index: usize,
        frame: &mut Frame,
        class: &Class,
        harvest: u32,
        now_us: u64,
    ) -> Outcome {
        let port = &mut self.ports[index];
        let now = instant(now_us);
        if let Err(reason) = admission::admit(frame.bytes(), port.nic.mac(), &port.iface) {
            return Outcome::Dropped(reason);
        }
        if addressing::concerns(frame.bytes()) || is_neighbour_answer(frame.bytes()) {
            let Port {
                neighbours, iface, ..
            } = port;
            neighbours.hear(frame.bytes(), now_us, &|address| iface.has_ip_addr(address));
        }
        if let Some(ping) = &mut self.ping
            && ping.hear(index, frame.bytes(), self.services.now_us(now_us))
        {
            return Outcome::Delivered;
        }
        match class {
            Class::Tcp(segment) if segment.opens && port.serves && segment.service().is_some() => {
                return match self.open(index, segment, frame.bytes(), now_us) {
                    Ok(connection) => {
                        self.latency.forget(connection);
                        self.receive_for(connection, index, frame, harvest, now_us)
                    }
                    Err(reason) => Outcome::Dropped(reason),
                };
            }
            _ if may_be_group_query(frame.bytes()) => {
                port.reports_until_us = now_us + REPORTS_LAST_US;
            }
            Class::Other if port.serves => {
                let mac = port.nic.mac();
                let outcome = self
                    .services
                    .datagram(frame, index as u8, mac, &port.iface, now_us);
                if outcome != services::Outcome::Pass && self.services.iperf3.is_complete() {
                    self.connections.touch(self.services.iperf3.control_place());
                }
                match outcome {
                    services::Outcome::Pass => {}
                    services::Outcome::Answer => return Outcome::Answer,
                    services::Outcome::Done => return Outcome::Delivered,
                    services::Outcome::Guarded => return Outcome::Dropped(Reason::UdpGuard),
                }
            }
            _ => {}
        }
        let before = port.evidence();
        let stack = self.latency.stamp();
        let mut lent = Lent {
            nic: &mut port.nic,
            pool: &mut self.pool,
            observer: &mut port.flows,
            frame: Some(frame),
        };
        let seen = port
            .iface
            .poll_ingress_single(now, &mut lent, &mut port.sockets);
        port.touched = true;
        let after = port.evidence();
        let mut outcome = match class {
            // An ICMP error may say so; the datagram is lost all the same.
            Class::Fragment => Outcome::Dropped(Reason::Fragment),
            _ => port.judge(frame.bytes(), seen, before, after, now_us),
        };
        let mut service = 0;
        if port.sockets.get::<udp::Socket>(port.udp_echo).can_recv() {
            service = self.latency.stamp().unwrap_or(0);
            let echoes = port.counters.udp_echoes_slow;
            let queued = before.queued != after.queued;
            // At once: the answer teaches the fast path the way, and the rest of a burst does not pile up here.
            poll_sockets(index, port, &mut self.pool, &mut self.input[..], now_us);
            let left = port.sockets.get::<udp::Socket>(port.udp_echo).can_recv();
            if !left && queued && port.counters.udp_echoes_slow == echoes {
                outcome = Outcome::Dropped(Reason::UdpGuard);
            }
        }
        if let Some(stack) = stack
            && port.flows.sent != before.sent
            && let Some(kind) = Kind::of(frame.bytes())
        {
            let stamps = [harvest, stack, service];
            self.latency
                .answered_by_stack(&port.answers, kind, index, stamps);
        }
        let port = &mut self.ports[index];
        if port.flows.asked && is_neighbour_answer(frame.bytes()) {
            port.flows.asked = false;
            self.connections.touch_all(index);
        }
        outcome
    }

    /// A place for a new connection, its socket listening for the SYN in `frame`; or why there is none.
    #[inline(never)]
    fn open(
        &mut self,
        index: usize,
        segment: &Segment,
        frame: &[u8],
        now_us: u64,
    ) -> Result<usize, Reason> {
        if let Some(old) = self.connections.find(&segment.key) {
            self.connections.release(old);
        }
        if self.connections.is_full() {
            // Nobody goes for what is no sound segment.
            let port = &self.ports[index];
            match drops::fate(frame, port.nic.mac(), &port.iface, &port.sockets) {
                Fate::Dropped(reason) => return Err(reason),
                _ if is_damaged_segment(frame) => return Err(Reason::TcpChecksum),
                _ => {}
            }
        }
        let (ports, pool, services) = (&mut self.ports, &mut self.pool, &mut self.services);
        let place = self.connections.open_for(segment, now_us, |victim| {
            services.iperf3.gone(victim.iperf3);
            if let Some(port) = ports.get_mut(victim.interface()) {
                port.unflushed = true;
                let mut lent = Lent {
                    nic: &mut port.nic,
                    pool,
                    observer: &mut port.flows,
                    frame: None,
                };
                port.iface
                    .poll_egress(instant(now_us), &mut lent, victim.sockets());
            }
        });
        // No reset either: the peer asks again in a second, and by then somebody is idle.
        place.ok_or(Reason::TableFull)
    }

    /// Lets the service of a connection read and write, sends what there is, and sets the next deadline.
    #[inline(never)] // keeps the registers of the loops around it for the loops
    fn poll_connection(&mut self, index: usize, now_us: u64) {
        let now = instant(now_us);
        let mut service_deadline_us = self.connections.patience_us(index, now_us);
        let connection = self.connections.get(index);
        let interface = connection.interface();
        let began = match self.latency.is_asked(index) {
            true => Some((clock::cycles(), connection.socket().send_queue())),
            false => None,
        };
        let service = connection.service;
        let mut segments = SEGMENTS;
        match service {
            None => return,
            Some(Service::Echo) => {
                if echo::serve_tcp(connection.socket(), &mut self.input[..]) {
                    connection.active_us = now_us;
                }
            }
            Some(Service::Http) if connection.captures => {
                segments = CAPTURE_SEGMENTS;
                self.serve_capture(index, now_us);
            }
            Some(Service::Http) => {
                service_deadline_us = service_deadline_us.min(self.serve_http(index, now_us));
            }
            Some(Service::Iperf3) => {
                service_deadline_us = service_deadline_us.min(self.serve_iperf3(index, now_us));
            }
            Some(Service::Discard) => {
                if services::discard(connection.socket()) {
                    connection.active_us = now_us;
                }
            }
            Some(Service::Chargen) => {
                let mut position = connection.chargen_at;
                if services::generate(connection.socket(), &mut position) {
                    connection.active_us = now_us;
                }
                connection.chargen_at = position;
            }
        }
        let port = &mut self.ports[interface];
        let connection = self.connections.get(index);
        // Only what the service wrote is an answer: an acknowledgement is none.
        let answers = began.filter(|(_, queued)| connection.socket().send_queue() > *queued);
        port.unflushed = true;
        port.flows.now_us = now_us;
        let mut lent = Lent {
            nic: &mut port.nic,
            pool: &mut self.pool,
            observer: &mut port.flows,
            frame: None,
        };
        // Asking the stack when it wants to go on is much cheaper than letting it try.
        let mut budget = segments;
        let at = loop {
            budget -= 1;
            let sent = port.iface.poll_egress(now, &mut lent, connection.sockets());
            if budget == segments - 1
                && sent != PollResult::None
                && let Some((began, _)) = answers
            {
                let kind = match service {
                    Some(Service::Http) => Some(Kind::Http),
                    Some(Service::Echo) => Some(Kind::TcpEcho),
                    _ => None,
                };
                if let Some(kind) = kind {
                    self.latency.answered(index, kind, interface, began);
                }
            }
            let at = port.iface.poll_at(now, connection.sockets());
            if sent == PollResult::None || budget == 0 || at.is_none_or(|at| at > now) {
                break at;
            }
        };
        if matches!(connection.note_progress(), State::Closed | State::Listen) {
            let role = connection.iperf3;
            self.connections.release(index);
            if self.services.iperf3.gone(role) {
                self.touch_streams();
            }
            return;
        }
        if budget == 0 {
            self.connections.touch(index);
        }
        let stack_us = port.deadline(at, now_us, &mut self.pool);
        self.connections
            .set_deadline(index, stack_us.min(service_deadline_us));
    }

    /// Lets a connection of iperf3 read and write. Returns when it wants to go on, in microseconds.
    #[inline(never)]
    fn serve_iperf3(&mut self, index: usize, now_us: u64) -> u64 {
        let turn = services::iperf3::tcp::serve(
            &mut self.services.iperf3,
            index,
            self.connections.get(index),
            &mut self.input[..],
            &mut self.output[..],
            now_us,
        );
        if turn.others {
            self.touch_streams();
            self.connections.touch(self.services.iperf3.control_place());
        }
        turn.deadline_us
    }

    fn touch_streams(&mut self) {
        for place in self.services.iperf3.places() {
            self.connections.touch(place);
        }
    }

    /// Sends the datagrams of an iperf3 test that are due. Returns when the next one is, in microseconds.
    #[inline(never)]
    fn send_datagrams(&mut self, now_us: u64) -> u64 {
        let iperf3 = &mut self.services.iperf3;
        for _ in 0..SEGMENTS {
            let Some(datagram) = iperf3.next_datagram(now_us) else {
                break;
            };
            let Some(port) = self.ports.get_mut(datagram.interface()) else {
                break;
            };
            port.unflushed = true;
            let space = port.nic.transmit_space(&mut self.pool);
            let frame = if space > 0 { self.pool.take() } else { None };
            let Some(mut frame) = frame else {
                port.block();
                return now_us + RETRY_BLOCKED_US;
            };
            datagram.write(&mut frame);
            port.nic.transmit(frame, &mut self.pool);
        }
        iperf3.datagrams_due_us()
    }

    /// Answers the requests that have arrived. Returns when patience with the peer ends, in microseconds.
    #[inline(never)]
    fn serve_http(&mut self, index: usize, now_us: u64) -> u64 {
        if self.connections.get(index).errand_since_us.is_some()
            && let Some(limit_us) = self.attend(index, now_us)
        {
            return limit_us;
        }
        let (open, counters) = Snapshot::<N>::counts(&self.connections);
        // There is one place for a page that is being written: who wants to write another waits.
        let other = self.writing.take_if(|writing| *writing != index);
        let other = other.filter(|other| self.connections.get(*other).http.is_writing());
        let mut is_own = self.writing.take().is_some();
        self.writing = other;
        let connection = self.connections.get(index);
        if connection.socket().state() == State::SynReceived {
            return u64::MAX;
        }
        let system = &self.system;
        let mut steps = REQUESTS;
        let mut waits_for_room = false;
        let mut waits_for_turn = false;
        while steps > 0 {
            steps -= 1;
            let (socket, http) = connection.http_parts();
            if !socket.may_send() {
                // Closed on our side: what still comes is of no interest, but must not fill the window.
                while socket.recv(|data| (data.len(), !data.is_empty())) == Ok(true) {}
                break;
            }
            // Not `!may_recv()`: that waits until everything was taken, and half a request is not taken before the end.
            let at_eof = socket.state() == State::CloseWait;
            let waiting = socket.recv_queue();
            if waiting == 0 && !at_eof {
                break;
            }
            let mut room = (socket.send_capacity() - socket.send_queue()).min(self.output.len());
            if other.is_some() {
                room = room.min(http::SMALL_ANSWER);
            }
            if core::mem::take(&mut is_own) {
                core::mem::swap(&mut self.output, &mut self.page);
            }
            let output = &mut self.output[..room];
            let status = Snapshot {
                ports: &self.ports,
                open,
                connections: counters,
                answers: &self.answers,
                services: &self.services,
                system,
                access: &self.access,
                latency: &self.latency,
                capture: self.capture,
                samples: &self.pool.samples,
                now_us,
            };
            let contiguous = socket.peek(waiting).map_or(0, <[u8]>::len);
            let step = if contiguous == waiting {
                let step = socket.recv(|input| {
                    let step = http.step(input, at_eof, output, &status);
                    (step.consumed, step)
                });
                // At the end of the stream there is nothing to receive, but something to decide.
                step.unwrap_or_else(|_| http.step(&[], true, output, &status))
            } else {
                // The receive buffer wraps inside a request: HTTP wants it in one piece.
                let len = socket.peek_slice(&mut self.input[..]).unwrap_or(0);
                let step = http.step(&self.input[..len], at_eof, output, &status);
                let mut left = step.consumed;
                while left > 0 {
                    left -= socket
                        .recv(|data| (data.len().min(left), data.len().min(left)))
                        .unwrap_or(left);
                }
                step
            };
            // There is room for what was written: `output` is as long as the free part of the send buffer.
            let _ = socket.send_slice(&self.output[..step.written]);
            if let Some(code) = step.answered {
                self.answers.count(code);
            }
            self.wrote_page |= step.written > http::SMALL_ANSWER;
            match step.action {
                Some(http::Action::ResetLatency) => self.latency.reset(now_us),
                Some(http::Action::Capture) => {
                    self.begin_capture(index, now_us);
                    return u64::MAX;
                }
                None => {}
            }
            if step.consumed > 0 || step.written > 0 {
                connection.active_us = now_us;
                connection.request_since_us = None;
            }
            match step.next {
                http::Next::Step if self.wrote_page => steps = 0,
                http::Next::Step => {}
                http::Next::Input | http::Next::Stream => break,
                http::Next::Errand => {
                    connection.errand_since_us = Some(now_us);
                    self.latency.forget(index);
                    return self.attend(index, now_us).unwrap_or(u64::MAX);
                }
                http::Next::Room(_) => {
                    waits_for_room = true;
                    waits_for_turn = other.is_some();
                    break;
                }
                http::Next::Again => {
                    core::mem::swap(&mut self.output, &mut self.page);
                    self.writing = Some(index);
                    self.wrote_page = true;
                    (waits_for_room, waits_for_turn) = (true, true);
                    break;
                }
                http::Next::Close => {
                    connection.socket().close();
                    break;
                }
            }
        }
        if steps == 0 || waits_for_turn {
            self.connections.touch(index);
        }
        let connection = self.connections.get(index);
        let (socket, http) = connection.http_parts();
        if !socket.may_send() {
            return u64::MAX;
        }
        // Who waits for room has a complete request: it is the peer's reading that is slow, not its request.
        let limit_us = match waits_for_room || http.is_idle() && socket.recv_queue() == 0 {
            true => connection.active_us + IDLE_LIMIT_US,
            false => *connection.request_since_us.get_or_insert(now_us) + REQUEST_LIMIT_US,
        };
        if now_us < limit_us {
            return limit_us;
        }
        let (socket, http) = connection.http_parts();
        let room = (socket.send_capacity() - socket.send_queue()).min(self.output.len());
        let len = http.timeout(&mut self.output[..room]);
        let _ = socket.send_slice(&self.output[..len]);
        if len > 0 {
            self.answers.count(http::Code::RequestTimeout);
        }
        socket.close();
        u64::MAX
    }
}

/// The sockets of an interface that are not connections: DHCP, mDNS, UDP echo; and its addresses.
#[inline(never)]
fn poll_sockets<N: Nic>(
    index: usize,
    port: &mut Port<N>,
    pool: &mut Pool,
    scratch: &mut [u8],
    now_us: u64,
) {
    let now = instant(now_us);
    port.touched = false;
    port.unflushed = true;
    port.flows.now_us = now_us;
    let up = port.link.is_some_and(Link::is_up);
    let (name, flows, serves) = (&port.name, &mut port.flows, port.serves);
    port.addressing
        .poll(now, up, &mut port.iface, &mut port.sockets, &mut |event| {
            if event.changes_routing() {
                // What was learnt about flows came from the addresses and routes that were.
                flows.clear();
            }
            match &event {
                Event::AddressAdded { cidr, .. } => {
                    trace(Traced::AddressAdded, address(index, cidr.address()));
                }
                Event::AddressRemoved { cidr, .. } => {
                    trace(Traced::AddressRemoved, address(index, cidr.address()));
                }
                _ => {}
            }
            report(name, &event, serves);
        });
    while pool.available() > 0 {
        let Some(mut frame) = pool.take() else { break };
        let mut raw = [0; 128];
        let Some(len) = port.addressing.take_frame(&mut raw) else {
            pool.put(frame);
            break;
        };
        // Ethernet's shortest frame has 60 bytes before the FCS.
        frame.set_len(len.max(60));
        frame.bytes_mut().copy_from_slice(&raw[..len.max(60)]);
        port.nic.transmit(frame, pool);
    }
    let socket = port.sockets.get_mut::<udp::Socket>(port.udp_echo);
    port.counters.udp_echoes_slow += echo::serve_udp(socket, &port.iface, scratch);
    port.iface.poll_maintenance(now);
    let mut lent = Lent {
        nic: &mut port.nic,
        pool,
        observer: &mut port.flows,
        frame: None,
    };
    let mut budget = SEGMENTS;
    while port.iface.poll_egress(now, &mut lent, &mut port.sockets) != PollResult::None
        && budget > 0
    {
        budget -= 1;
    }
    let stuck_us = drop_undeliverable_echoes(port, now_us);
    let own = port.addressing.next_deadline();
    let stack = port.iface.poll_at(now, &port.sockets);
    let reports_us = match now_us < port.reports_until_us {
        true => now_us + REPORTS_EVERY_US,
        false => u64::MAX,
    };
    port.deadline_us = port
        .deadline(stack, now_us, pool)
        .min(port.deadline(own, now_us, pool))
        .min(stuck_us)
        .min(reports_us);
}

/// An answer to a neighbour that does not exist (a forged source) would wait for ever, and all others behind it: smoltcp
/// sends a socket's datagrams in order. Returns when to look again, in microseconds.
fn drop_undeliverable_echoes<N: Nic>(port: &mut Port<N>, now_us: u64) -> u64 {
    let socket = port.sockets.get_mut::<udp::Socket>(port.udp_echo);
    if socket.send_queue() == 0 {
        port.udp_stuck_us = None;
        return u64::MAX;
    }
    let limit_us = *port.udp_stuck_us.get_or_insert(now_us) + NEIGHBOUR_LIMIT_US;
    if now_us < limit_us {
        return limit_us;
    }
    socket.close();
    // Cannot fail: the socket was just closed, the port is not 0.
    let _ = socket.bind(7);
    port.udp_stuck_us = None;
    port.counters.udp_echoes_undeliverable += 1;
    u64::MAX
}

fn report(name: &Name, event: &Event, serves: bool) {
    match event {
        Event::Conflict { .. }
        | Event::NameConflict { .. }
        | Event::AddressRefused { .. }
        | Event::LeaseLost => {
            warn!("{name}: {event}");
        }
        _ => info!("{name}: {event}"),
    }
    if !serves {
        return;
    }
    if let Event::AddressAdded { cidr, .. } = event {
        match cidr.address() {
            IpAddress::Ipv4(address) => info!("{name}: http://{address}/"),
            // A browser cannot name the interface that a link-local address needs.
            IpAddress::Ipv6(address) if !address.is_unicast_link_local() => {
                info!("{name}: http://[{address}]/")
            }
            IpAddress::Ipv6(_) => {}
        }
    }
    if let Event::NameClaimed { label } = event {
        info!("{name}: http://{label}.local/");
    }
}

/// An ARP reply or a neighbour advertisement: connections that wait for a neighbour can go on. smoltcp looks after the
/// sockets of the set it is given; those of the connections are in other sets.
fn is_neighbour_answer(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x06]) => frame.get(20..22) == Some(&[0, 2]),
        Some([0x86, 0xdd]) => frame.get(20) == Some(&58) && frame.get(54) == Some(&136),
        _ => false,
    }
}

/// IGMP, or what may be MLD: it costs a few rounds to be wrong.
fn may_be_group_query(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(23) == Some(&2),
        Some([0x86, 0xdd]) => frame.get(20) == Some(&0),
        _ => false,
    }
}

/// A link as a log line says it.
pub(crate) struct LinkLine(pub(crate) Link);

impl fmt::Display for LinkLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Link::Down => f.write_str("link down"),
            Link::Up { speed_mbps: 0, .. } => f.write_str("link up"),
            Link::Up {
                speed_mbps,
                full_duplex,
                pause,
            } => {
                let duplex = if full_duplex { "full" } else { "half" };
                write!(f, "link up, {speed_mbps} Mb/s {duplex} duplex{pause}")
            }
        }
    }
}
