//! A server for iperf3: port 5201, TCP and UDP, one test at a time.
//!
//! One connection controls a test; the data flows in others (or in datagrams), which name the test by its cookie.
//!
//! ```text
//!  client                                server
//!    cookie, 37 bytes               ->            busy: ACCESS_DENIED, and closed
//!                                   <-  PARAM_EXCHANGE
//!    length, JSON                   ->            no good: SERVER_ERROR, code, 0
//!                                   <-  CREATE_STREAMS
//!    a connection or datagram each  ->
//!                                   <-  TEST_START, TEST_RUNNING
//!    ... data, either way ...
//!    TEST_END                       ->
//!                                   <-  EXCHANGE_RESULTS
//!    length, JSON                   ->
//!                                   <-  length, JSON, DISPLAY_RESULTS
//!    IPERF_DONE                     ->
//! ```
//!
//! A test that stands still for [`STAGE_LIMIT_US`] outside of its run is over, so is one whose client is gone.
//!
//! Spec: the behaviour of iperf 3.12 (github.com/esnet/iperf), client and server.

pub mod json;
pub mod tcp;

use alloc::boxed::Box;
use alloc::vec;
use core::fmt::{self, Write};

use super::datagram::{Source, Way};
use json::Value;
use smoltcp::wire::IpAddress;

/// The port, of TCP and UDP.
pub const PORT: u16 = 5201;
/// What every connection says first.
pub const COOKIE: usize = 37;
/// Streams of one test, both directions together.
pub const MAX_STREAMS: usize = 32;
/// Longest message of the client's that we read; its results, which nobody here needs, may be longer.
const MAX_PARAMS: u32 = 4096;
const MAX_RESULTS: u32 = 65_536;
/// The next message, or the next stream, must come within this time.
const STAGE_LIMIT_US: u64 = 4_000_000;
/// A test may last this much longer than was agreed.
const GRACE_US: u64 = 10_000_000;
/// The end of a test of a number of bytes may overtake the last of them, which come in other connections: so long it waits.
const OVERTAKEN_US: u64 = 500_000;
/// Spec: iperf_api.h.
const MAX_TIME_S: i64 = 86_400;
const MAX_OMIT_S: i64 = 600;
const MAX_BLOCK: i64 = 1 << 20;
/// Seconds, microseconds and a number of eight bytes.
const MIN_DATAGRAM: i64 = 16;
/// What fits a frame, behind IPv4 and UDP headers: nothing here reassembles.
const MAX_DATAGRAM: i64 = 1472;
/// Who fell behind its rate may make up for so much.
const CATCH_UP_NS: u64 = 100_000_000;
/// Faster than this is as fast as possible.
const MAX_RATE: u64 = 100_000_000_000;

/// States, as they go over the control connection.
mod state {
    pub const TEST_START: u8 = 1;
    pub const TEST_RUNNING: u8 = 2;
    pub const TEST_END: u8 = 4;
    pub const PARAM_EXCHANGE: u8 = 9;
    pub const CREATE_STREAMS: u8 = 10;
    pub const CLIENT_TERMINATE: u8 = 12;
    pub const EXCHANGE_RESULTS: u8 = 13;
    pub const DISPLAY_RESULTS: u8 = 14;
    pub const IPERF_DONE: u8 = 16;
    pub const ACCESS_DENIED: u8 = 0xff;
    pub const SERVER_ERROR: u8 = 0xfe;
}

/// Why a test is not done, as the client words it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Refusal {
    /// Too long.
    Duration = 5,
    /// Too many streams.
    Streams = 6,
    /// Blocks of an impossible size.
    Block = 7,
    /// Too much to be left out at the start.
    Omit = 12,
    /// Datagrams of an impossible size.
    Datagram = 20,
    /// Not a message, or not now.
    Message = 110,
    /// Parameters that cannot be read.
    Params = 114,
    /// Results that cannot be read.
    Results = 117,
    /// Neither TCP nor UDP.
    Protocol = 131,
    /// No message for too long, or the streams did not come.
    Silent = 144,
}

/// What happened since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Tests that ended with results.
    pub completed: u64,
    /// Tests given up: refused parameters, a client that was gone or silent.
    pub aborted: u64,
    /// Connections turned away while a test was on.
    pub denied: u64,
}

/// What a test is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params {
    udp: bool,
    /// How many streams the client sends, and how many we send.
    receive: u8,
    send: u8,
    wide_counters: bool,
    time_s: u32,
    omit_s: u32,
    /// Bytes to send, 0 for as many as time allows.
    bytes: u64,
    /// Bytes of a block, or of a datagram.
    len: u32,
    /// Bits per second of each stream, 0 for no limit.
    rate: u64,
}

impl Params {
    /// Reads what the client sent.
    ///
    /// # Errors
    ///
    /// See [`Refusal`].
    pub fn read(text: &[u8]) -> Result<Self, Refusal> {
        let (mut tcp, mut udp, mut reverse, mut both) = (false, false, false, false);
        let (mut time, mut omit, mut bytes, mut blocks) = (0, 0, 0, 0);
        let (mut parallel, mut len, mut rate, mut paced, mut wide) = (1, 0, 0, 0, 0);
        json::members(text, |name, value| {
            let is = value == Value::True;
            if let Value::Number(number) = value {
                match name {
                    b"time" => time = number,
                    b"omit" => omit = number,
                    b"num" => bytes = number,
                    b"blockcount" => blocks = number,
                    b"parallel" => parallel = number,
                    b"len" => len = number,
                    b"bandwidth" => rate = number,
                    b"fqrate" => paced = number,
                    b"udp_counters_64bit" => wide = number,
                    _ => {}
                }
            }
            match name {
                b"tcp" => tcp = is,
                b"udp" => udp = is,
                b"reverse" => reverse = is,
                b"bidirectional" => both = is,
                _ => {}
            }
        })
        .ok_or(Refusal::Params)?;
        let ways = 1 + i64::from(both);
        if tcp == udp {
            return Err(Refusal::Protocol);
        }
        if !(0..=MAX_TIME_S).contains(&time) {
            return Err(Refusal::Duration);
        }
        if !(0..=MAX_OMIT_S).contains(&omit) {
            return Err(Refusal::Omit);
        }
        if !(1..=MAX_STREAMS as i64 / ways).contains(&parallel) {
            return Err(Refusal::Streams);
        }
        if udp && !(MIN_DATAGRAM..=MAX_DATAGRAM).contains(&len) {
            return Err(Refusal::Datagram);
        }
        if !(1..=MAX_BLOCK).contains(&len) {
            return Err(Refusal::Block);
        }
        if bytes.min(blocks).min(rate).min(paced) < 0 || reverse && both {
            return Err(Refusal::Params);
        }
        if rate == 0 {
            rate = paced;
        }
        let parallel = parallel as u8;
        Ok(Params {
            udp,
            receive: if reverse { 0 } else { parallel },
            send: if reverse || both { parallel } else { 0 },
            wide_counters: wide != 0,
            time_s: time as u32,
            omit_s: omit as u32,
            bytes: bytes.max(blocks.saturating_mul(len)) as u64,
            len: len as u32,
            rate: Some(rate as u64)
                .filter(|rate| *rate <= MAX_RATE)
                .unwrap_or(0),
        })
    }

    fn streams(&self) -> u8 {
        self.receive + self.send
    }
}

/// One stream: a connection, or datagrams from one port.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    /// Of TCP: the connection's place.
    place: u8,
    /// Of UDP: who, and how to reach them.
    source: Option<Source>,
    way: Way,
    bytes: u64,
    /// Of UDP: the highest number seen, or the last one sent; and what was before the run counted.
    packets: u64,
    omitted: u64,
    lost: u64,
    /// In microseconds, sixteen times.
    jitter: u64,
    transit_us: Option<i64>,
    /// When the next block may go.
    next_ns: u64,
    /// Bytes of the send buffer that are known to be zero.
    clean: usize,
}

impl Stream {
    /// Whether it is time to send, and when else.
    fn due(&self, now_ns: u64) -> Result<(), u64> {
        match self.next_ns <= now_ns {
            true => Ok(()),
            false => Err(self.next_ns.div_ceil(1000)),
        }
    }

    /// Notes that so many bytes went.
    fn sent(&mut self, len: usize, rate: u64, now_ns: u64) {
        self.bytes += len as u64;
        if let Some(ns) = (len as u64 * 8_000_000_000).checked_div(rate) {
            self.next_ns = self.next_ns.max(now_ns.saturating_sub(CATCH_UP_NS)) + ns;
        }
    }

    /// Takes account of a datagram. Spec: RFC 1889, A.8, for the jitter.
    fn receive(&mut self, payload: &[u8], wide: bool, now_us: u64) {
        self.bytes += payload.len() as u64;
        let field = |at: usize| {
            let bytes = payload.get(at..).and_then(|bytes| bytes.first_chunk::<4>());
            bytes.map(|bytes| u64::from(u32::from_be_bytes(*bytes)))
        };
        let (Some(s), Some(us), Some(mut number)) = (field(0), field(4), field(8)) else {
            return;
        };
        if wide {
            let Some(low) = field(12) else { return };
            number = number << 32 | low;
        }
        if number > self.packets {
            // A number that is far ahead is the sender's doing; the sum must not overflow.
            self.lost = self.lost.saturating_add(number - self.packets - 1);
            self.packets = number;
        } else {
            // Late after all: it had been taken for lost.
            self.lost = self.lost.saturating_sub(1);
        }
        let transit_us = (now_us as i64).wrapping_sub((s * 1_000_000 + us) as i64);
        let change = transit_us.abs_diff(self.transit_us.unwrap_or(transit_us));
        self.transit_us = Some(transit_us);
        self.jitter = self.jitter - self.jitter / 16 + change;
    }

    /// The start of the test was not the test.
    fn begin(&mut self) {
        self.bytes = 0;
        self.omitted = self.packets;
        self.lost = 0;
        self.jitter = 0;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Params,
    Streams,
    Running,
    /// Results; so many bytes of the client's are still to come, if it has said how many.
    Results(Option<u32>),
    Farewell,
}

/// What a connection has to do with the tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It has not said yet.
    #[default]
    Fresh,
    /// It controls the test with this number.
    Control(u32),
    /// It carries a stream of the test with this number.
    Stream(u32, u8),
    /// It has no business here any more.
    Leaving,
}

/// The server: the one test that is on, and its streams.
pub struct Server {
    stage: Stage,
    /// Number of the test.
    test: u32,
    cookie: [u8; COOKIE],
    /// Place of the connection that controls it, and who that is: nobody else gets datagrams.
    control: u8,
    peer: Option<IpAddress>,
    params: Params,
    streams: Box<[Stream]>,
    /// Streams that have come.
    came: u8,
    /// When the stage began; of the run, when what counts began.
    since_us: u64,
    ended_us: u64,
    /// When the end that was asked for comes at the latest.
    ending_us: u64,
    omitting: bool,
    /// Counted events.
    pub counters: Counters,
}

/// What is to be done after a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// Bytes of the output to be sent.
    pub written: usize,
    /// Whether the connection is to be closed after that.
    pub close: bool,
    /// Whether the streams have something to do: to begin, or to end.
    pub streams: bool,
}

impl Default for Server {
    /// Allocates the streams.
    fn default() -> Self {
        Server {
            stage: Stage::Idle,
            test: 0,
            cookie: [0; COOKIE],
            control: 0,
            peer: None,
            params: Params::default(),
            streams: vec![Stream::default(); MAX_STREAMS].into_boxed_slice(),
            came: 0,
            since_us: 0,
            ended_us: 0,
            ending_us: u64::MAX,
            omitting: false,
            counters: Counters::default(),
        }
    }
}

impl Server {
    /// Whether a test is on.
    pub fn is_busy(&self) -> bool {
        self.stage != Stage::Idle
    }

    fn enter(&mut self, stage: Stage, now_us: u64) {
        self.stage = stage;
        self.since_us = now_us;
    }

    /// Whether a connection that has said nothing yet may go on to do so.
    fn is_welcome(&self) -> bool {
        matches!(self.stage, Stage::Idle | Stage::Streams)
    }

    /// What a connection is that begins with `cookie`.
    fn admit(
        &mut self,
        place: u8,
        peer: Option<IpAddress>,
        cookie: &[u8; COOKIE],
        now_us: u64,
    ) -> Role {
        match self.stage {
            Stage::Idle => {
                self.test = self.test.wrapping_add(1);
                self.cookie = *cookie;
                (self.control, self.peer) = (place, peer);
                self.came = 0;
                self.streams.fill(Stream::default());
                self.enter(Stage::Params, now_us);
                Role::Control(self.test)
            }
            Stage::Streams if *cookie == self.cookie && !self.params.udp => {
                let number = self.came;
                self.streams[usize::from(number)].place = place;
                self.came += 1;
                Role::Stream(self.test, number)
            }
            _ => {
                self.counters.denied += 1;
                Role::Leaving
            }
        }
    }

    /// The test is over, whatever it was doing.
    fn end(&mut self) {
        if self.stage != Stage::Farewell {
            self.counters.aborted += 1;
        }
        self.stage = Stage::Idle;
    }

    /// The connection of `role` is gone. Whether it took the test with it.
    pub fn gone(&mut self, role: Role) -> bool {
        let over = role == Role::Control(self.test) && self.is_busy();
        if over {
            self.end();
        }
        over
    }

    /// The places of the streams that are connections.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        let came = if self.params.udp { 0 } else { self.came };
        self.streams
            .iter()
            .take(came.into())
            .map(|stream| stream.place.into())
    }

    /// The place of the connection that controls the test.
    pub fn control_place(&self) -> usize {
        self.control.into()
    }

    /// Does what the control connection asks for, whose unread bytes are `input`; `at_eof`, if nothing will follow them.
    pub fn control(&mut self, input: &[u8], at_eof: bool, output: &mut [u8], now_us: u64) -> Step {
        let mut step = Step::default();
        let outcome = self.advance(input, output, now_us, &mut step);
        let outcome = match outcome {
            Ok(()) if at_eof && step.consumed == 0 && self.is_busy() => {
                self.end();
                (step.close, step.streams) = (true, true);
                Ok(())
            }
            Ok(()) if now_us >= self.deadline_us() => Err(Refusal::Silent),
            outcome => outcome,
        };
        if let Err(refusal) = outcome {
            let mut message = [0; 9];
            message[0] = state::SERVER_ERROR;
            message[1..5].copy_from_slice(&(refusal as u32).to_be_bytes());
            step = Step {
                consumed: input.len(),
                close: true,
                streams: true,
                ..step
            };
            send(output, &mut step.written, &message);
            self.end();
        }
        step
    }

    fn advance(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        now_us: u64,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        match self.stage {
            Stage::Idle => step.close = true,
            Stage::Params => {
                let Some(len) = input.first_chunk() else {
                    return Ok(());
                };
                let len = u32::from_be_bytes(*len);
                if !(1..=MAX_PARAMS).contains(&len) {
                    return Err(Refusal::Params);
                }
                let Some(text) = input.get(4..4 + len as usize) else {
                    return Ok(());
                };
                self.params = Params::read(text)?;
                step.consumed = 4 + text.len();
                send(output, &mut step.written, &[state::CREATE_STREAMS]);
                self.enter(Stage::Streams, now_us);
            }
            Stage::Streams if self.came == self.params.streams() => {
                send(
                    output,
                    &mut step.written,
                    &[state::TEST_START, state::TEST_RUNNING],
                );
                self.omitting = self.params.omit_s > 0;
                self.ending_us = u64::MAX;
                self.enter(Stage::Running, now_us);
                for stream in &mut self.streams {
                    stream.next_ns = now_us * 1000;
                }
                step.streams = true;
            }
            Stage::Streams | Stage::Running => match input.first() {
                None => {}
                Some(&state::TEST_END) if self.stage == Stage::Running => {
                    self.ending_us = self.ending_us.min(now_us + OVERTAKEN_US);
                    if now_us < self.ending_us && self.is_owed() {
                        return Ok(());
                    }
                    step.consumed = 1;
                    step.streams = true;
                    self.ended_us = now_us.saturating_sub(self.since_us);
                    send(output, &mut step.written, &[state::EXCHANGE_RESULTS]);
                    self.enter(Stage::Results(None), now_us);
                }
                Some(&(state::CLIENT_TERMINATE | state::IPERF_DONE)) => {
                    *step = Step {
                        consumed: 1,
                        close: true,
                        streams: true,
                        ..*step
                    };
                    self.end();
                }
                Some(_) => return Err(Refusal::Message),
            },
            Stage::Results(None) => {
                let Some(len) = input.first_chunk() else {
                    return Ok(());
                };
                let len = u32::from_be_bytes(*len);
                if !(2..=MAX_RESULTS).contains(&len)
                    || input.get(4).is_some_and(|byte| *byte != b'{')
                {
                    return Err(Refusal::Results);
                }
                step.consumed = 4;
                self.enter(Stage::Results(Some(len)), now_us);
            }
            Stage::Results(Some(left)) => {
                let part = input.len().min(left as usize);
                step.consumed = part;
                let left = left - part as u32;
                if part > 0 {
                    self.enter(Stage::Results(Some(left)), now_us);
                }
                if left == 0 {
                    self.write_results(output, &mut step.written);
                    send(output, &mut step.written, &[state::DISPLAY_RESULTS]);
                    self.counters.completed += 1;
                    self.enter(Stage::Farewell, now_us);
                }
            }
            Stage::Farewell => {
                // The client says IPERF_DONE, or just goes.
                if !input.is_empty() {
                    step.consumed = input.len();
                    (step.close, step.streams) = (true, true);
                    self.end();
                }
            }
        }
        Ok(())
    }

    /// When the control connection must be looked at although nothing has come, in microseconds.
    pub fn wake_us(&self) -> u64 {
        match self.stage {
            Stage::Running => self.ending_us.min(self.deadline_us()),
            _ => self.deadline_us(),
        }
    }

    /// When the patience with the client ends, in microseconds.
    fn deadline_us(&self) -> u64 {
        match self.stage {
            Stage::Idle => u64::MAX,
            Stage::Running if self.params.time_s == 0 => u64::MAX,
            Stage::Running => {
                let agreed_us = u64::from(self.params.time_s + self.params.omit_s) * 1_000_000;
                self.since_us + agreed_us + GRACE_US
            }
            _ => self.since_us + STAGE_LIMIT_US,
        }
    }

    /// Leaves out what was before the time that counts.
    fn omit(&mut self, now_us: u64) {
        if self.omitting && now_us - self.since_us >= u64::from(self.params.omit_s) * 1_000_000 {
            self.omitting = false;
            self.since_us = now_us;
            self.streams.iter_mut().for_each(Stream::begin);
        }
    }

    /// The stream with this number of the test with that, if it is running.
    fn running(&mut self, test: u32, number: u8, now_us: u64) -> Option<&mut Stream> {
        if test != self.test || self.stage != Stage::Running {
            return None;
        }
        self.omit(now_us);
        self.streams.get_mut(usize::from(number))
    }

    /// Whether streams with this number are ours to send.
    fn sends(&self, number: u8) -> bool {
        number >= self.params.receive
    }

    /// Whether not all has come of what the client said it would send.
    fn is_owed(&self) -> bool {
        let received = self.streams.iter().take(self.params.receive.into());
        self.params.send == 0
            && self.params.omit_s == 0
            && received.fold(0, |sum: u64, stream| sum.saturating_add(stream.bytes))
                < self.params.bytes
    }

    /// Whether enough was sent. (Not if some of it did not count, for then the client has counted from another moment.)
    fn has_sent_all(&self) -> bool {
        let sent = || {
            self.streams
                .iter()
                .skip(self.params.receive.into())
                .map(|stream| stream.bytes)
        };
        self.params.bytes > 0 && self.params.omit_s == 0 && sent().sum::<u64>() >= self.params.bytes
    }

    /// A datagram from `source`. Returns whether it asks to be a stream, and is one now; its headers, once turned, are to be
    /// given to [`Self::set_way`].
    pub fn datagram(&mut self, source: Source, payload: &[u8], now_us: u64) -> Option<usize> {
        if !self.params.udp || !matches!(self.stage, Stage::Streams | Stage::Running) {
            return None;
        }
        let came = self.streams.iter().take(self.came.into());
        let number = came
            .clone()
            .position(|stream| stream.source == Some(source));
        match (number, self.stage) {
            // Said again, because our answer was lost.
            (Some(number), _) if payload.len() == 4 => Some(number),
            (Some(number), Stage::Running) => {
                let wide = self.params.wide_counters;
                if let Some(stream) = self.running(self.test, number as u8, now_us) {
                    stream.receive(payload, wide, now_us);
                }
                None
            }
            (None, Stage::Streams)
                if payload.len() == 4
                    && self.came < self.params.streams()
                    && self.peer == Some(source.address) =>
            {
                let number = usize::from(self.came);
                self.came += 1;
                self.streams[number].source = Some(source);
                Some(number)
            }
            _ => None,
        }
    }

    /// What answers the four bytes that ask to be a stream: the other constant of the pair, in the client's byte order.
    pub fn welcome(request: [u8; 4]) -> [u8; 4] {
        const LEGACY_REQUEST: u32 = 123_456_789;
        const LEGACY_ANSWER: u32 = 987_654_321;
        match u32::from_le_bytes(request) {
            LEGACY_REQUEST => LEGACY_ANSWER.to_le_bytes(),
            // 6789 and 9876.
            _ => {
                let [a, b, c, d] = request;
                [d, c, b, a]
            }
        }
    }

    /// How a stream is reached.
    pub fn set_way(&mut self, number: usize, way: Way) {
        if let Some(stream) = self.streams.get_mut(number) {
            stream.way = way;
        }
    }

    /// Whether all streams have come, or all that was to come in them, and the control connection should be told so.
    pub fn is_complete(&self) -> bool {
        match self.stage {
            Stage::Streams => self.came == self.params.streams(),
            Stage::Running => self.ending_us != u64::MAX && !self.is_owed(),
            _ => false,
        }
    }

    /// Whether [`Self::datagrams_due_us`] may be worth asking.
    #[inline]
    pub fn sends_datagrams(&self) -> bool {
        self.stage == Stage::Running && self.params.udp && self.params.send > 0
    }

    /// When the next datagram is due, in microseconds; now, if it is late.
    pub fn datagrams_due_us(&self) -> u64 {
        if !self.sends_datagrams() || self.has_sent_all() {
            return u64::MAX;
        }
        let sending = self
            .streams
            .iter()
            .take(self.came.into())
            .skip(self.params.receive.into());
        sending
            .map(|stream| stream.next_ns.div_ceil(1000))
            .min()
            .unwrap_or(u64::MAX)
    }

    /// The interface of the next datagram.
    pub fn next_datagram(&mut self, now_us: u64) -> Option<Outgoing<'_>> {
        if self.datagrams_due_us() > now_us {
            return None;
        }
        self.omit(now_us);
        let params = self.params;
        let sending = self
            .streams
            .iter_mut()
            .take(self.came.into())
            .skip(params.receive.into());
        let stream = sending.min_by_key(|stream| stream.next_ns)?;
        Some(Outgoing {
            params,
            now_us,
            stream,
        })
    }

    fn write_results(&self, output: &mut [u8], at: &mut usize) {
        let start = *at;
        let mut text = Text(output, start + 4);
        // Does not fail: whoever calls has room for 32 streams.
        let _ = self.results(&mut text);
        let end = text.1;
        *at = start;
        send(output, at, &((end - start - 4) as u32).to_be_bytes());
        *at = end;
    }

    fn results(&self, out: &mut Text<'_>) -> fmt::Result {
        out.write_str(
            "{\"cpu_util_total\":0,\"cpu_util_user\":0,\"cpu_util_system\":0,\"sender_has_retransmits\":0,\"streams\":[",
        )?;
        let us = self.ended_us;
        for (index, stream) in self.streams.iter().take(self.came.into()).enumerate() {
            // The first is 1, the second 3: so iperf3 counts.
            let (comma, id) = if index == 0 {
                ("", 1)
            } else {
                (",", index + 2)
            };
            let jitter_ns = stream.jitter * 1000 / 16;
            write!(
                out,
                "{comma}{{\"id\":{id},\"bytes\":{},\"retransmits\":-1,\"jitter\":{}.{:09},\"errors\":{},\"packets\":{},\
                 \"omitted_errors\":0,\"omitted_packets\":{},\"start_time\":0,\"end_time\":{}.{:06}}}",
                stream.bytes,
                jitter_ns / 1_000_000_000,
                jitter_ns % 1_000_000_000,
                stream.lost,
                stream.packets,
                stream.omitted,
                us / 1_000_000,
                us % 1_000_000,
            )?;
        }
        out.write_str("]}")
    }
}

/// A datagram that is to be sent.
pub struct Outgoing<'s> {
    params: Params,
    now_us: u64,
    stream: &'s mut Stream,
}

impl Outgoing<'_> {
    /// The number of its interface.
    pub fn interface(&self) -> usize {
        self.stream
            .source
            .map_or(0, |source| source.interface.into())
    }

    /// Writes it into a frame.
    pub fn write(self, frame: &mut hal::net::Frame) {
        let len = (self.params.len as usize).min(self.stream.way.room());
        let now_ns = self.now_us * 1000;
        self.stream.packets += 1;
        self.stream.sent(len, self.params.rate, now_ns);
        let number = self.stream.packets;
        self.stream.way.send(frame, len, |payload| {
            let mut put = |at: usize, value: u64| {
                let value = (value as u32).to_be_bytes();
                if let Some(to) = payload.get_mut(at..at + 4) {
                    to.copy_from_slice(&value);
                }
            };
            put(0, self.now_us / 1_000_000);
            put(4, self.now_us % 1_000_000);
            if self.params.wide_counters {
                put(8, number >> 32);
                put(12, number);
            } else {
                put(8, number);
            }
        });
    }
}

/// Appends to `output` at `at`, as far as there is room.
fn send(output: &mut [u8], at: &mut usize, bytes: &[u8]) {
    if let Some(to) = output.get_mut(*at..*at + bytes.len()) {
        to.copy_from_slice(bytes);
        *at += bytes.len();
    }
}

/// Text into a slice, from a place on.
struct Text<'o>(&'o mut [u8], usize);

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let before = self.1;
        send(self.0, &mut self.1, text.as_bytes());
        match self.1 - before == text.len() {
            true => Ok(()),
            false => Err(fmt::Error),
        }
    }
}

#[cfg(test)]
mod tests;
