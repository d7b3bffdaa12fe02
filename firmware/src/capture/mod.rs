//! Packet capture: frames as they pass, streamed as pcapng over HTTP.
//!
//! ```text
//!   Tapped driver, conduit ──► record: own connection? filter? ──► Ring ──► HTTP connection, when nobody waits for an
//!                                                       no room: counted     echo
//! ```
//!
//! There is one capture at a time. Its memory is set aside at start, if there is a token (`admin=`) that could order one.
//! What it costs an echo is a copy; what it sends, it sends when no received frame waits. The connection that carries
//! the file is not captured: each of its segments would make another one.
//!
//! | file | is about |
//! | --- | --- |
//! | `control::capture` | what is wanted, and who may |
//! | `hal::net::bpf` | filters |
//! | `ring` | frames between the tap and the connection |
//! | `pcapng` | the file |
//! | `stream` | the network's part: taps on and off, the connection |

pub mod pcapng;
mod ring;
mod stream;

use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use hal::net::bpf::Program;
use hal::net::capture::{Direction, Recorder};
use hal::net::tag::Protocol;

use crate::connections::{Class, Key, classify};
use crate::network::Name;
use crate::random::Random;
use crate::status::MAX_INTERFACES;
use pcapng::{LinkType, Seen};
use ring::Ring;

pub use control::capture::*;

/// Memory for frames that wait to be sent, in bytes.
pub const MEMORY: usize = 256 * 1024;
/// The tap of the conduit; those before it are the interfaces'.
pub const CONDUIT_TAP: u8 = MAX_INTERFACES as u8;
const TAPS: usize = MAX_INTERFACES + 1;
/// Longest block but those of frames.
const MAX_BLOCK: usize = 512;

/// Takes number, name and tags of a tap.
pub type AddTap<'a> = dyn FnMut(u8, &str, Option<Protocol>) + 'a;

/// One tap of a capture.
#[derive(Clone, Copy, Default)]
struct TapState {
    /// Its number in the file.
    id: u32,
    in_file: bool,
    counts: Counts,
    /// Frames lost since the last one that was not.
    lost: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is no capture, or it is over.
    Off,
    /// Frames are recorded.
    Recording,
    /// Enough: what is in the ring is to be sent, and the statistics after it.
    Ending,
    /// The statistics are in the ring: after it, nothing.
    Last,
}

struct Inner {
    ring: Ring,
    clock: fn() -> u64,
    has_conduit: bool,
    phase: Phase,
    taps: [TapState; TAPS],
    order: Order,
    /// Bytes before the payload's place in an Ethernet frame: the switch tag's.
    tag_len: usize,
    /// The connection that carries the file.
    own: Key,
    begun_ns: u64,
    sessions: u64,
    tickets: Tickets,
}

/// The capture there may be.
pub struct Capture(RefCell<Inner>);

impl Capture {
    /// None yet, but memory for one; `None` if there is not so much. `clock` tells nanoseconds since start.
    pub fn new(random: &mut Random, clock: fn() -> u64, has_conduit: bool) -> Option<Self> {
        let mut memory = Vec::new();
        memory.try_reserve_exact(MEMORY).ok()?;
        memory.resize(MEMORY, 0);
        Some(Capture(RefCell::new(Inner {
            ring: Ring::new(memory),
            clock,
            has_conduit,
            phase: Phase::Off,
            taps: Default::default(),
            order: Order::default(),
            tag_len: 0,
            own: Key::default(),
            begun_ns: 0,
            sessions: 0,
            tickets: Tickets::new(random),
        })))
    }

    /// Whether the query has a ticket that is good.
    pub fn admits(&self, query: &str, now_us: u64) -> bool {
        let ticket = order::ticket(query);
        ticket.is_some_and(|ticket| self.0.borrow_mut().tickets.admits(ticket, now_us, false))
    }

    /// Keeps an order for [`Capture::begin`].
    ///
    /// # Errors
    ///
    /// [`Refusal::Busy`], [`Refusal::Interface`], and what [`Order::parse`] says.
    pub fn order(&self, query: &str, is_interface: impl Fn(&str) -> bool) -> Result<(), Refusal> {
        let mut inner = self.0.borrow_mut();
        if inner.phase != Phase::Off {
            return Err(Refusal::Busy);
        }
        let order = Order::parse(query)?;
        let known = match order.interface.as_str() {
            "" => true,
            CONDUIT => inner.has_conduit,
            name => is_interface(name),
        };
        if !known {
            return Err(Refusal::Interface);
        }
        inner.order = order;
        Ok(())
    }

    /// The interface that the order names; empty for all.
    pub fn ordered(&self) -> Name {
        self.0.borrow().order.interface.clone()
    }

    /// Begins what was ordered, for the connection `own` to carry. The file's head is ready to be sent. `add` is called
    /// with a function that takes each tap.
    pub fn begin(&self, own: Key, board: &str, taps: &mut dyn FnMut(&mut AddTap)) {
        let inner = &mut *self.0.borrow_mut();
        let Inner {
            ring,
            order,
            taps: states,
            tag_len,
            tickets,
            ..
        } = inner;
        ring.clear();
        *states = Default::default();
        *tag_len = 0;
        put(ring, |out| pcapng::section_header(out, board));
        let mut id = 0;
        taps(&mut |tap, name, protocol| {
            let Some(state) = states.get_mut(usize::from(tap)) else {
                return;
            };
            (state.id, state.in_file) = (id, true);
            id += 1;
            let link_type = match protocol {
                None => LinkType::Ethernet,
                Some(Protocol::Dsa) => LinkType::Dsa,
                Some(Protocol::EtherTypeDsa) => LinkType::EtherTypeDsa,
            };
            *tag_len = protocol.map_or(0, Protocol::bytes);
            let (snaplen, text) = (order.snaplen, &order.text);
            put(ring, |out| {
                pcapng::interface(out, name, link_type, snaplen, text)
            });
        });
        // Good once.
        tickets.admits(&order.ticket, 0, true);
        order.filter.skip(*tag_len);
        inner.own = own;
        inner.phase = Phase::Recording;
        inner.begun_ns = (inner.clock)();
        inner.sessions += 1;
    }

    /// No more frames: what is left is to be sent.
    pub fn finish(&self) {
        let mut inner = self.0.borrow_mut();
        if inner.phase == Phase::Recording {
            inner.phase = Phase::Ending;
        }
    }

    /// It is over, whatever was not sent.
    pub fn end(&self) {
        let mut inner = self.0.borrow_mut();
        inner.phase = Phase::Off;
        inner.ring.clear();
        // It may be long.
        inner.order.filter = Program::default();
    }

    /// Moves what waits of the file into `out`, as much as fits: how many bytes. `None` once that was all.
    pub fn fill(&self, out: &mut [u8]) -> Option<usize> {
        let inner = &mut *self.0.borrow_mut();
        let mut len = 0;
        while len < out.len() {
            let piece = inner.ring.oldest();
            let taken = piece.len().min(out.len() - len);
            match (taken, inner.phase) {
                (0, Phase::Recording) => break,
                (0, Phase::Ending) => {
                    inner.phase = Phase::Last;
                    inner.put_statistics();
                }
                (0, _) if len == 0 => return None,
                (0, _) => break,
                _ => {
                    out[len..len + taken].copy_from_slice(&piece[..taken]);
                    inner.ring.forget(taken);
                    len += taken;
                }
            }
        }
        Some(len)
    }

    /// Bytes that wait to be sent; as many as can be if it is complete.
    pub fn waiting(&self) -> usize {
        let inner = self.0.borrow();
        match inner.phase {
            Phase::Recording => inner.ring.len(),
            _ => usize::MAX,
        }
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.state())
    }
}

impl Captures for Capture {
    fn state(&self) -> State {
        let inner = self.0.borrow();
        let mut counts = Counts::default();
        for tap in &inner.taps {
            counts.seen += tap.counts.seen;
            counts.accepted += tap.counts.accepted;
            counts.dropped += tap.counts.dropped;
        }
        State {
            active: inner.phase != Phase::Off,
            sessions: inner.sessions,
            counts,
            waiting: inner.ring.len(),
        }
    }

    fn issue_ticket(&self, now_us: u64) -> ticket::Digits {
        self.0.borrow_mut().tickets.issue(now_us)
    }
}

impl Recorder for Capture {
    fn record(&self, tap: u8, direction: Direction, frame: &[u8]) {
        self.0.borrow_mut().record(tap, direction, frame);
    }
}

impl Inner {
    fn record(&mut self, tap: u8, direction: Direction, frame: &[u8]) {
        if self.phase != Phase::Recording || may_be_tcp(frame, self.tag_len) && self.is_own(frame) {
            return;
        }
        let Some(state) = self.taps.get_mut(usize::from(tap)) else {
            return;
        };
        state.counts.seen += 1;
        let sent = direction == Direction::Sent;
        let wanted = self.order.filter.run(frame, sent).min(self.order.snaplen);
        if wanted == 0 {
            return;
        }
        state.counts.accepted += 1;
        let kept = frame.get(..wanted as usize).unwrap_or(frame);
        let at_ns = (self.clock)();
        let seen = Seen {
            interface: state.id,
            at_ns,
            direction,
            original_len: frame.len() as u32,
            dropped: state.lost,
        };
        let place = self.ring.place(pcapng::packet_len(kept.len(), state.lost));
        let Some(place) = place else {
            state.counts.dropped += 1;
            state.lost += 1;
            return;
        };
        // The room is as long as the block.
        let _ = pcapng::packet(place, seen, kept);
        state.lost = 0;
        self.order.count -= 1;
        if self.order.count == 0 {
            self.phase = Phase::Ending;
        }
    }

    /// Whether a frame is of the connection that carries the file.
    #[cold]
    #[inline(never)]
    fn is_own(&self, frame: &[u8]) -> bool {
        let of_own = |frame: &[u8]| match classify(frame, 0) {
            Class::Tcp(segment) => segment.key.has_ends_of(&self.own),
            _ => false,
        };
        match self.tag_len {
            0 => of_own(frame),
            tag_len => {
                // As it is without its tag, as far as that matters.
                let mut plain = [0; 80];
                let behind = frame.get(12 + tag_len..).unwrap_or_default();
                let len = behind.len().min(plain.len() - 12);
                plain[12..12 + len].copy_from_slice(&behind[..len]);
                of_own(&plain[..12 + len])
            }
        }
    }

    fn put_statistics(&mut self) {
        let span_ns = (self.begun_ns, (self.clock)());
        for tap in self.taps.iter().filter(|tap| tap.in_file) {
            put(&mut self.ring, |out| {
                pcapng::statistics(out, tap.id, span_ns, &tap.counts)
            });
        }
    }
}

/// Whether a frame may be a TCP segment: most are not, and need not be looked at closer.
#[inline]
fn may_be_tcp(frame: &[u8], tag_len: usize) -> bool {
    let behind = frame.get(tag_len..).and_then(|frame| frame.first_chunk());
    let Some::<&[u8; 24]>(head) = behind else {
        return false;
    };
    match [head[12], head[13]] {
        [0x08, 0x00] => head[23] == 6,
        [0x86, 0xdd] => head[20] == 6,
        _ => false,
    }
}

/// Writes a block whose length is not known before.
fn put(ring: &mut Ring, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
    let mut block = [0; MAX_BLOCK];
    let written = write(&mut block).and_then(|len| block.get(..len));
    if let Some(written) = written
        && let Some(place) = ring.place(written.len())
    {
        place.copy_from_slice(written);
    }
}

#[cfg(test)]
mod tests;
