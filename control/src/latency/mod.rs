//! How long answers take, from the interrupt to the wire: stamps, histograms, and the worst cases in full.
//!
//! ```text
//!  interrupt ─ poll ─ harvest ──────────────────── reply ─ doorbell ┄┄ sent      in place
//!  interrupt ─ poll ─ harvest ─ stack ─ (service) ─ reply ─ doorbell ┄┄ sent     through the stack
//! ```
//!
//! Every frame that ends in a reply carries these stamps. A stage is called after the stamp that ends it, and begins at
//! the stamp before it that exists. `total` goes from the interrupt, or for frames that a round found without one from
//! the round's start, to the doorbell. TCP counts from the segment that made the socket readable to the first segment of
//! the answer.
//!
//! Owns the accounts and what goes into them. The poll loop  takes the stamps, `report` shows the
//! accounts. Replies made in place are so cheap that accounts of each would cost a good part of them: unless the bootargs
//! want it all, one round in [`ONE_IN`] is stamped, with everything that it answers.

pub mod clock;
mod histogram;
mod report;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use hal::net::{Nic, Pool};

pub use histogram::{Histogram, MAX, PERCENTILES, Percentile, Summary};
pub use report::{json, prometheus, show};

/// TCP connections at once, of all services together: 64 for each of two, and a few that are just closing.
pub const CONNECTIONS: usize = 136;

/// Of so many rounds one is stamped, chosen by the low bits of the time it begins at.
pub const ONE_IN: u32 = 16;
/// Worst cases that are kept.
pub const WORST: usize = 16;
/// Replies made in place in one round, by one interface: all that it may take from its ring.
pub const IN_PLACE: usize = 64;
/// Replies through the stack in one round: one for each connection, and some of the interfaces' own sockets.
const THROUGH_STACK: usize = CONNECTIONS + 64;
/// A frame that is not known to be sent after this long is forgotten: its ring was emptied by a restart.
const SENT_LIMIT_US: u64 = 1_000_000;

/// How much is measured: `latency=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Off,
    /// One round in [`ONE_IN`].
    #[default]
    On,
    /// Every frame; and the timer is tried a thousand times a second.
    Full,
}

/// What the stamps mean on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Cycles of the core in a second.
    pub cycles_hz: u64,
    /// Ticks of the generic timer in a second.
    pub ticks_hz: u64,
    /// Why the time is not that of silicon, in words.
    pub emulated: Option<&'static str>,
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Ping, and whatever else ICMP answers.
    Icmp,
    /// Datagrams.
    Udp,
    /// Echo by TCP.
    TcpEcho,
    /// A request.
    Http,
    /// Frames of the reflector.
    Reflected,
}

impl Kind {
    /// What a frame without a connection is answered by.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let protocol = match frame.get(12..14)? {
            [0x08, 0x00] => frame.get(23)?,
            [0x86, 0xdd] => frame.get(20)?,
            _ => return None,
        };
        match protocol {
            1 | 58 => Some(Kind::Icmp),
            17 => Some(Kind::Udp),
            _ => None,
        }
    }
}

/// What ends at a stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// From the interrupt's entry to the poll loop.
    Poll,
    /// To the frame's descriptor.
    Harvest,
    /// To the stack.
    Stack,
    /// To the service.
    Service,
    /// To the finished reply.
    Reply,
    /// To the doorbell.
    Doorbell,
    /// To the first look at the ring that showed it as sent.
    Sent,
    /// From the interrupt to the doorbell.
    Total,
}

const KINDS: usize = 5;
const STAGES: usize = 8;

/// The names of [`Kind`]s, as a report has them.
pub const KIND_NAMES: [&str; KINDS] = ["icmp", "udp", "tcp_echo", "http", "reflected"];
/// The names of [`Stage`]s.
pub const STAGE_NAMES: [&str; STAGES] = [
    "poll", "harvest", "stack", "service", "reply", "doorbell", "sent", "total",
];

/// A reply made in place.
#[derive(Clone, Copy, Debug)]
pub struct InPlace {
    /// When its request was taken from the ring.
    pub harvest: u32,
    /// When it was finished.
    pub reply: u32,
    /// What it is.
    pub kind: Kind,
}

/// What an interface has answered since its last doorbell.
#[derive(Debug, Default)]
pub struct Answers {
    /// When the round's work for this interface was announced.
    start: u32,
    in_place: heapless::Vec<InPlace, IN_PLACE>,
}

impl Answers {
    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.in_place.is_empty()
    }

    /// One more. There is room for as many as a round takes frames.
    #[inline]
    pub fn push(&mut self, answer: InPlace) {
        let _ = self.in_place.push(answer);
    }
}

/// All stamps of a reply, in cycles: interrupt, poll, harvest, stack, service, reply. A zero was not passed.
type Stamps = [u32; 6];
const POLL: usize = 1;
const HARVEST: usize = 2;
const STACK: usize = 3;
const REPLY: usize = 5;

#[derive(Clone, Copy, Debug)]
struct ThroughStack {
    stamps: Stamps,
    kind: Kind,
    port: u8,
}

/// What made a socket readable.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    /// The last one is that of the stack; 0 if nothing is asked.
    stamps: Stamps,
    ticks: u64,
}

/// One of the worst cases.
#[derive(Clone, Copy, Debug, Default)]
pub struct Event {
    /// When its doorbell rang, in microseconds since start.
    pub at_us: u64,
    /// Cycles from interrupt to doorbell.
    pub total: u32,
    /// Cycles from the interrupt to each stamp, in the order of [`Stage`] without the last; absent ones are `None`.
    pub stamps: [Option<u32>; STAGES - 1],
    /// Index of [`KIND_NAMES`].
    pub kind: u8,
    /// Number of the interface.
    pub port: u8,
    /// Frames that were answered by the same doorbell.
    pub batch: u16,
    /// Frames in the transmit ring at its doorbell; `None` if the device does not tell.
    pub transmit_ring: Option<u16>,
    /// Interrupts taken between the round's start and its doorbell.
    pub interrupts: u32,
}

/// The round in progress.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    is_stamped: bool,
    entered: u32,
    poll: u32,
    interrupts: u32,
    now_us: u64,
}

/// A reply whose end is awaited.
#[derive(Clone, Copy, Debug)]
struct Sending {
    kind: Kind,
    port: u8,
    /// Its number among all frames of the device.
    number: u64,
    ticks: u64,
    since_us: u64,
    /// Its place among the worst, and cycles from its interrupt to its doorbell.
    worst: Option<(usize, u32)>,
}

/// The accounts.
#[derive(Debug, Default)]
pub struct Latency {
    mode: Mode,
    facts: Facts,
    round: Round,
    /// Of the bits of the time at which a round begins, those that are all zero if it is stamped.
    chosen: u32,
    /// Of each kind, all stages; empty if nothing is measured.
    stages: Vec<Histogram>,
    /// How late the timer was: asleep, and at work.
    timer: Vec<Histogram>,
    replies: heapless::Vec<ThroughStack, THROUGH_STACK>,
    /// Bit by bit the interfaces that `replies` has some of.
    replied: u32,
    asked: Box<[Asked]>,
    worst: [Event; WORST],
    /// What is not above this is not among the worst.
    least: u32,
    sending: Option<Sending>,
    since_us: u64,
}

impl Latency {
    /// Accounts for this mode. Allocates them, unless it is [`Mode::Off`].
    #[inline(never)]
    pub fn new(mode: Mode, facts: Facts) -> Self {
        let mut latency = Latency {
            mode,
            facts,
            chosen: if mode == Mode::Full { 0 } else { ONE_IN - 1 },
            ..Latency::default()
        };
        if mode != Mode::Off {
            latency
                .stages
                .resize_with(KINDS * STAGES, Histogram::default);
            latency.timer.resize_with(2, Histogram::default);
            latency.asked = vec![Asked::default(); CONNECTIONS].into_boxed_slice();
        }
        latency
    }

    /// What [`Latency::new`] takes of the heap at most, in bytes.
    pub const HEAP: usize =
        (KINDS * STAGES + 2) * size_of::<Histogram>() + CONNECTIONS * size_of::<Asked>();

    /// Nothing measured.
    pub fn off() -> Self {
        Latency {
            mode: Mode::Off,
            ..Latency::default()
        }
    }

    /// Whether anything is measured.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.mode != Mode::Off
    }

    /// Forgets all that was measured so far.
    #[inline(never)]
    pub fn reset(&mut self, now_us: u64) {
        self.stages.iter_mut().for_each(Histogram::clear);
        self.timer.iter_mut().for_each(Histogram::clear);
        self.worst = Default::default();
        self.least = 0;
        self.sending = None;
        self.since_us = now_us;
    }

    /// The time in cycles, if the round is stamped.
    #[inline]
    pub fn stamp(&self) -> Option<u32> {
        self.round.is_stamped.then(clock::cycles)
    }

    /// A round begins. Whether it is stamped.
    #[inline]
    pub fn begin(&mut self, now_us: u64) -> bool {
        // In this order: an interrupt that comes in between must not seem to have come later than its round.
        let entered = clock::entered();
        let poll = clock::cycles();
        let is_stamped = poll & self.chosen == 0;
        if is_stamped || self.round.is_stamped {
            self.round = Round {
                is_stamped,
                entered,
                poll,
                interrupts: clock::taken(),
                now_us,
            };
        }
        is_stamped
    }

    /// The work of an interface begins; `interrupted` if its interrupt is why.
    #[inline]
    pub fn start(&self, answers: &mut Answers, interrupted: bool) {
        answers.start = match interrupted {
            true => self.round.entered,
            false => self.round.poll,
        };
    }

    /// The timer went off, so many ticks after it was due; `asleep` if the core slept until then.
    #[inline(never)]
    pub fn timer_was_late(&mut self, ticks: u64, asleep: bool) {
        // As seen at the interrupt, not at the poll loop. Both counters were read a moment ago: a pair.
        let since_entry = clock::cycles().wrapping_sub(clock::entered());
        let late = self.in_cycles(ticks).saturating_sub(since_entry);
        if let Some(histogram) = self.timer.get_mut(usize::from(!asleep)) {
            histogram.record(late);
        }
    }

    /// When the timer is to be tried next, in microseconds.
    pub fn trial_us(&self, now_us: u64) -> u64 {
        match self.mode {
            Mode::Full => now_us + 1_000,
            _ => u64::MAX,
        }
    }

    /// A socket became readable by a segment; nothing happens if it is still owed an answer.
    #[inline(never)]
    pub fn asked(&mut self, connection: usize, answers: &Answers, harvest: u32, stack: u32) {
        let poll = self.round.poll;
        if let Some(asked) = self.asked.get_mut(connection)
            && asked.stamps[HARVEST] == 0
        {
            *asked = Asked {
                stamps: [answers.start, poll, harvest, stack, 0, 0],
                ticks: clock::ticks(),
            };
        }
    }

    /// Whether a connection is owed an answer.
    pub fn is_asked(&self, connection: usize) -> bool {
        self.asked
            .get(connection)
            .is_some_and(|asked| asked.stamps[HARVEST] != 0)
    }

    /// The connection's place has a new owner.
    pub fn forget(&mut self, connection: usize) {
        if let Some(asked) = self.asked.get_mut(connection) {
            *asked = Asked::default();
        }
    }

    /// The first segment of an answer is in the ring of interface `port`; the service had begun at `service`.
    #[inline(never)]
    pub fn answered(&mut self, connection: usize, kind: Kind, port: usize, service: u32) {
        let Some(asked) = self.asked.get_mut(connection) else {
            return;
        };
        let Asked { mut stamps, ticks } = core::mem::take(asked);
        let reply = clock::cycles();
        if stamps[POLL] != self.round.poll {
            // The core may have slept since: the old stamps are moved to where the generic timer says they were.
            let moved = reply
                .wrapping_sub(self.in_cycles(clock::ticks().saturating_sub(ticks)))
                .wrapping_sub(stamps[STACK]);
            stamps[..=STACK]
                .iter_mut()
                .for_each(|stamp| *stamp = stamp.wrapping_add(moved));
        }
        (stamps[4], stamps[REPLY]) = (service, reply);
        self.push(stamps, kind, port);
    }

    /// The stack answered a frame that belongs to no connection.
    #[inline(never)]
    pub fn answered_by_stack(
        &mut self,
        answers: &Answers,
        kind: Kind,
        port: usize,
        [harvest, stack, service]: [u32; 3],
    ) {
        let stamps = [
            answers.start,
            self.round.poll,
            harvest,
            stack,
            service,
            clock::cycles(),
        ];
        self.push(stamps, kind, port);
    }

    fn push(&mut self, stamps: Stamps, kind: Kind, port: usize) {
        let port = port as u8;
        // More than fit are not worth more code: each frame of a round's budget would have to be one.
        let _ = self.replies.push(ThroughStack { stamps, kind, port });
        self.replied |= 1 << port;
    }

    /// Bit by bit the interfaces on which the stack has answered something.
    #[inline]
    pub fn replied(&self) -> u32 {
        self.replied
    }

    /// The interface has just rung its doorbell.
    #[inline]
    pub fn rang(
        &mut self,
        answers: &mut Answers,
        port: usize,
        nic: &mut impl Nic,
        pool: &mut Pool,
    ) {
        let doorbell = clock::cycles();
        let batch = answers.in_place.len();
        for answer in &answers.in_place {
            let InPlace {
                harvest,
                reply,
                kind,
            } = *answer;
            let stamps = [answers.start, self.round.poll, harvest, 0, 0, reply];
            self.account(stamps, kind, port, doorbell, batch, nic, pool);
        }
        answers.in_place.clear();
        if self.replied >> port & 1 != 0 {
            self.rang_for_stack(port, doorbell, nic, pool);
        }
    }

    #[inline(never)]
    fn rang_for_stack(&mut self, port: usize, doorbell: u32, nic: &mut impl Nic, pool: &mut Pool) {
        self.replied &= !(1 << port);
        let is_own = |reply: &ThroughStack| usize::from(reply.port) == port;
        let batch = self.replies.iter().filter(|reply| is_own(reply)).count();
        for at in 0..self.replies.len() {
            if is_own(&self.replies[at]) {
                let ThroughStack { stamps, kind, .. } = self.replies[at];
                self.account(stamps, kind, port, doorbell, batch, nic, pool);
            }
        }
        // Those of other interfaces ring in the same round.
        if self.replied == 0 {
            self.replies.clear();
        }
    }

    /// One reply, into the histograms, and among the worst if it is one of them.
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "one caller, kept out of its way")]
    fn account(
        &mut self,
        stamps: Stamps,
        kind: Kind,
        port: usize,
        doorbell: u32,
        batch: usize,
        nic: &mut impl Nic,
        pool: &mut Pool,
    ) {
        let [start, poll, harvest, stack, service, reply] = stamps;
        let total = doorbell.wrapping_sub(start);
        if let Some(stages) = self
            .stages
            .as_chunks_mut::<STAGES>()
            .0
            .get_mut(kind as usize)
        {
            let mut last = start;
            let mut passed = |stage: Stage, stamp: u32| {
                stages[stage as usize].record(stamp.wrapping_sub(last));
                last = stamp;
            };
            // Found without an interrupt: the first stage does not exist.
            if poll != start {
                passed(Stage::Poll, poll);
            }
            passed(Stage::Harvest, harvest);
            if stack != 0 {
                passed(Stage::Stack, stack);
            }
            if service != 0 {
                passed(Stage::Service, service);
            }
            passed(Stage::Reply, reply);
            passed(Stage::Doorbell, doorbell);
            stages[Stage::Total as usize].record(total);
        }
        let place = (total > self.least).then(|| self.place());
        if place.is_none() && self.sending.is_some() {
            return;
        }
        let sent = nic.sent(pool);
        if let Some(place) = place {
            let passed = |stamp: u32| (stamp != 0).then(|| stamp.wrapping_sub(stamps[0]));
            let [_, poll, harvest, stack, service, reply] = stamps.map(passed);
            let in_ring = |(queued, sent): (u64, u64)| queued.saturating_sub(sent) as u16;
            self.worst[place] = Event {
                at_us: self.round.now_us,
                total,
                stamps: [poll, harvest, stack, service, reply, Some(total), None],
                kind: kind as u8,
                port: port as u8,
                batch: batch as u16,
                transmit_ring: sent.map(in_ring),
                interrupts: clock::taken().wrapping_sub(self.round.interrupts),
            };
            self.least = self
                .worst
                .iter()
                .map(|event| event.total)
                .min()
                .unwrap_or(0);
        }
        if let Some((number, _)) = sent
            && self.sending.is_none()
        {
            self.sending = Some(Sending {
                kind,
                port: port as u8,
                number,
                ticks: clock::ticks(),
                since_us: self.round.now_us,
                worst: place.map(|place| (place, total)),
            });
        }
    }

    /// The place of the least of the worst. Whose end is awaited there is awaited for nothing.
    fn place(&mut self) -> usize {
        let least = self
            .worst
            .iter()
            .enumerate()
            .min_by_key(|(_, event)| event.total);
        let place = least.map_or(0, |(place, _)| place);
        if let Some(sending) = &mut self.sending {
            sending.worst = sending.worst.filter(|(other, _)| *other != place);
        }
        place
    }

    /// The interface whose ring is to be looked at, for a frame that may have been sent.
    #[inline]
    pub fn awaits(&self) -> Option<usize> {
        self.sending.map(|sending| usize::from(sending.port))
    }

    /// Looks whether the awaited frame was sent.
    #[inline(never)]
    pub fn look(&mut self, nic: &mut impl Nic, pool: &mut Pool, now_us: u64) {
        let Some(sending) = self.sending else { return };
        let is_sent = nic
            .sent(pool)
            .is_some_and(|(_, sent)| sent >= sending.number);
        if is_sent {
            // The core may have slept.
            let cycles = self.in_cycles(clock::ticks().saturating_sub(sending.ticks));
            self.record(sending.kind, Stage::Sent, cycles);
            if let Some((place, total)) = sending.worst {
                self.worst[place].stamps[Stage::Sent as usize] = Some(total.saturating_add(cycles));
            }
        }
        if is_sent || now_us > sending.since_us + SENT_LIMIT_US {
            self.sending = None;
        }
    }

    #[inline]
    fn record(&mut self, kind: Kind, stage: Stage, cycles: u32) {
        let index = kind as usize * STAGES + stage as usize;
        if let Some(histogram) = self.stages.get_mut(index) {
            histogram.record(cycles);
        }
    }

    /// Ticks of the generic timer as cycles, up to what a histogram holds.
    #[inline(never)]
    fn in_cycles(&self, ticks: u64) -> u32 {
        // A histogram's end is reached long before the product's.
        let ticks = ticks.min(u64::from(MAX));
        let cycles = ticks.saturating_mul(self.facts.cycles_hz) / self.facts.ticks_hz.max(1);
        cycles.min(u64::from(MAX)) as u32
    }
}
