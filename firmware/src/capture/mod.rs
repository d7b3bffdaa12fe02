//! Packet capture: frames as they pass, streamed as pcapng over HTTP.
//!
//! ```text
//!   Tapped driver, conduit ──► record ──► Ring ──► finish ──► HTTP connection
//!                                │ ▲       no room: counted
//!               known: no or yes └─┴─ Sieve: own connection? filter?
//!   └────── while an echo waits ──────────────┘   └── when none does ──────┘
//! ```
//!
//! There is one capture at a time. Its memory is set aside at start, if there is a token (`admin=`) that could order one.
//! What it costs an echo is a look at what is known of frames like it, and a copy; blocks are made what the format wants,
//! and sent, when no received frame waits. The connection that carries
//! the file is not captured: each of its segments would make another one.
//!
//! | file | is about |
//! | --- | --- |
//! | `control::capture` | what is wanted, and who may |
//! | `hal::net::bpf`, `verdicts` | filters, and what they said of frames like this one |
//! | `sieve` | which frames are wanted |
//! | `ring` | frames between the tap and the connection |
//! | `pcapng` | the file |
//! | `stream` | the network's part: taps on and off, the connection |

pub mod pcapng;
mod ring;
mod sieve;
mod stream;

use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use hal::net::capture::{Direction, Recorder};
use hal::net::tag::Protocol;

use crate::connections::Key;
use crate::network::Name;
use crate::random::Random;
use crate::status::MAX_INTERFACES;
use pcapng::{LinkType, Seen};
use ring::Ring;
use sieve::Sieve;

#[cfg(target_os = "none")]
use hal::arch::timer::{ns_at, ticks_about_now};
#[cfg(not(target_os = "none"))]
use host::{ns_at, ticks_about_now};

pub use control::capture::*;

/// Memory for frames that wait to be sent, in bytes.
pub const MEMORY: usize = 256 * 1024;
/// The tap of the conduit; those before it are the interfaces'.
pub const CONDUIT_TAP: u8 = MAX_INTERFACES as u8;
const TAPS: usize = MAX_INTERFACES + 1;
/// Longest block but those of frames.
const MAX_BLOCK: usize = 512;

/// One tap of a capture.
#[derive(Clone, Copy, Default)]
struct TapState {
    /// Its number in the file.
    id: u16,
    in_file: bool,
    counts: Counts,
    /// Frames lost since the last one that was not.
    lost: u64,
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
    /// Frames still to be recorded; 0: none any more, or not yet.
    left: u64,
    taps: [TapState; TAPS],
    ring: Ring,
    sieve: Sieve,
    has_conduit: bool,
    phase: Phase,
    order: Order,
    /// So many of the ring's oldest bytes are blocks as they are to be sent.
    ready: usize,
    begun_ns: u64,
    sessions: u64,
    tickets: Tickets,
}

/// The capture there may be.
pub struct Capture(RefCell<Inner>);

impl Capture {
    /// None yet, but memory for one; `None` if there is not so much.
    pub fn new(random: &mut Random, has_conduit: bool) -> Option<Self> {
        let mut memory = Vec::new();
        memory.try_reserve_exact(MEMORY).ok()?;
        memory.resize(MEMORY, 0);
        Some(Capture(RefCell::new(Inner {
            left: 0,
            taps: Default::default(),
            ring: Ring::new(memory),
            sieve: Sieve::default(),
            has_conduit,
            phase: Phase::Off,
            order: Order::default(),
            ready: 0,
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
    /// with a function that takes number, name and kind of each tap; false if one was too many.
    pub fn begin(
        &self,
        own: Key,
        board: &str,
        taps: &mut dyn FnMut(&mut dyn FnMut(u8, &str, Option<Protocol>)),
    ) {
        let inner = &mut *self.0.borrow_mut();
        let Inner {
            ring,
            order,
            taps: states,
            sieve,
            ready,
            tickets,
            ..
        } = inner;
        ring.clear();
        *ready = 0;
        *states = Default::default();
        let mut tag_len = 0;
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
            tag_len = protocol.map_or(0, Protocol::bytes);
            let (snaplen, text) = (order.snaplen, &order.text);
            put(ring, |out| {
                pcapng::interface(out, name, link_type, snaplen, text)
            });
        });
        // Good once.
        tickets.admits(&order.ticket, 0, true);
        *sieve = Sieve::new(
            core::mem::take(&mut order.filter),
            order.snaplen,
            own,
            tag_len,
        );
        inner.left = order.count;
        inner.phase = Phase::Recording;
        inner.begun_ns = ns_at(ticks_about_now());
        inner.sessions += 1;
    }

    /// No more frames: what is left is to be sent.
    pub fn finish(&self) {
        let mut inner = self.0.borrow_mut();
        inner.finish();
    }

    /// It is over, whatever was not sent.
    pub fn end(&self) {
        let mut inner = self.0.borrow_mut();
        (inner.phase, inner.left) = (Phase::Off, 0);
        inner.ring.clear();
        inner.ready = 0;
    }

    /// Moves what waits of the file into `out`, as much as fits: how many bytes. `None` once that was all.
    pub fn fill(&self, out: &mut [u8]) -> Option<usize> {
        let inner = &mut *self.0.borrow_mut();
        let mut len = 0;
        while len < out.len() {
            let ready = inner.finish_blocks(out.len() - len);
            let taken = ready.min(out.len() - len);
            match (taken, inner.phase) {
                (0, Phase::Recording) => break,
                (0, Phase::Ending) => {
                    inner.phase = Phase::Last;
                    inner.put_statistics();
                }
                (0, _) if len == 0 => return None,
                (0, _) => break,
                _ => {
                    out[len..len + taken].copy_from_slice(&inner.ring.oldest()[..taken]);
                    inner.ring.forget(taken);
                    inner.ready = ready - taken;
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
        if let Ok(mut inner) = self.0.try_borrow_mut() {
            inner.record(tap, direction, frame);
        }
    }
}

impl Inner {
    /// The path of every frame: nothing is called, nothing is multiplied, and what can wait does.
    #[inline(always)]
    fn record(&mut self, tap: u8, direction: Direction, frame: &[u8]) {
        if self.left == 0 {
            return;
        }
        let sent = direction == Direction::Sent;
        let Some(wanted) = self.sieve.wanted(frame, sent) else {
            return;
        };
        let Some(state) = self.taps.get_mut(usize::from(tap)) else {
            return;
        };
        state.counts.seen += 1;
        if wanted == 0 {
            return;
        }
        state.counts.accepted += 1;
        let kept = frame.get(..wanted as usize).unwrap_or(frame);
        let seen = Seen {
            interface: state.id,
            at_ticks: ticks_about_now(),
            direction,
            original_len: frame.len() as u32,
        };
        if state.lost == 0
            && let Some(place) = self.ring.place(pcapng::packet_len(kept.len()))
        {
            // The room is as long as the block.
            let _ = pcapng::packet(place, seen, kept);
            self.left -= 1;
            if self.left == 0 {
                self.finish();
            }
        } else {
            self.record_after_loss(tap, seen, kept);
        }
    }

    /// A frame for which there is no room, or the first one after those.
    #[cold]
    #[inline(never)]
    fn record_after_loss(&mut self, tap: u8, seen: Seen, kept: &[u8]) {
        let Some(state) = self.taps.get_mut(usize::from(tap)) else {
            return;
        };
        let place = self.ring.place(pcapng::packet_len_after_loss(kept.len()));
        let Some(place) = place else {
            state.counts.dropped += 1;
            state.lost += 1;
            return;
        };
        // The room is as long as the block.
        let _ = pcapng::packet(place, seen, kept);
        pcapng::tell_loss(place, state.lost);
        state.lost = 0;
        self.left -= 1;
        if self.left == 0 {
            self.finish();
        }
    }

    #[cold]
    fn finish(&mut self) {
        self.left = 0;
        if self.phase == Phase::Recording {
            self.phase = Phase::Ending;
        }
    }

    /// Makes the oldest blocks what they have to be, until so many bytes are: how many are in one piece.
    fn finish_blocks(&mut self, wanted: usize) -> usize {
        let blocks = self.ring.oldest();
        while self.ready < wanted
            && let Some(rest) = blocks.get_mut(self.ready..)
            && let Some(len) = pcapng::finish(rest, ns_at)
        {
            self.ready += len;
        }
        self.ready
    }

    fn put_statistics(&mut self) {
        let span_ns = (self.begun_ns, ns_at(ticks_about_now()));
        for tap in self.taps.iter().filter(|tap| tap.in_file) {
            put(&mut self.ring, |out| {
                pcapng::statistics(out, tap.id.into(), span_ns, &tap.counts)
            });
        }
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

/// Off the machine there is no counter: each look at it is a tick.
#[cfg(not(target_os = "none"))]
mod host {
    use core::sync::atomic::{AtomicU64, Ordering};

    static TICKS: AtomicU64 = AtomicU64::new(0);

    pub fn ticks_about_now() -> u64 {
        TICKS.fetch_add(1, Ordering::Relaxed)
    }

    pub fn ns_at(ticks: u64) -> u64 {
        ticks * 1000
    }
}

#[cfg(test)]
mod tests;
