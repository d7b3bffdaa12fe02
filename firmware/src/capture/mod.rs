//! Packet capture: frames as they pass, streamed as pcapng over HTTP.
//!
//! ```text
//!   Tapped driver, conduit ──► record ──► Ring ──► finish ──► HTTP connection
//!                                │ ▲       no room: counted
//!    like others before? no: ask └─┴─ Sieve: own connection? filter?
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
use hal::net::bpf::HEAD;
use hal::net::capture::{Direction, Recorder};
use hal::net::tag::Protocol;

use crate::connections::Key;
use crate::network::Name;
use crate::random::Random;
use crate::status::MAX_INTERFACES;
use pcapng::{LinkType, Seen};
use ring::Ring;
use sieve::{OWN, Sieve};

#[cfg(target_os = "none")]
use hal::arch::timer::{ns_at, ticks_about_now};
#[cfg(not(target_os = "none"))]
use host::{ns_at, ticks_about_now};

pub use control::capture::*;

/// Memory for frames that wait to be sent, in bytes.
pub const MEMORY: usize = 256 * 1024;
/// Longest block but those of frames.
const MAX_BLOCK: usize = 512;

/// One tap of a capture, an interface of the file.
#[derive(Clone, Copy, Default)]
struct TapState {
    refused: u64,
    /// Taken from the ring, for the file.
    delivered: u64,
    dropped: u64,
    /// Of these, since the last frame that was not.
    lost: u32,
}

impl TapState {
    fn counts(&self) -> Counts {
        let accepted = self.delivered + self.dropped;
        Counts {
            seen: self.refused + accepted,
            accepted,
            dropped: self.dropped,
        }
    }
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
    /// Frames that were put into the ring.
    kept: u64,
    taps: [TapState; MAX_INTERFACES],
    /// So many of them are in the file.
    tap_count: usize,
    ring: Ring,
    sieve: Sieve,
    has_conduit: bool,
    phase: Phase,
    order: Order,
    /// Frames still to be delivered.
    left: u64,
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
            kept: 0,
            tap_count: 0,
            taps: Default::default(),
            ring: Ring::new(memory),
            sieve: Sieve::default(),
            has_conduit,
            phase: Phase::Off,
            order: Order::default(),
            left: 0,
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

    /// Begins what was ordered, for the connection `own` to carry. The file's head is ready to be sent. `taps` is called
    /// with a function that takes name and kind of each tap and returns its number.
    pub fn begin(
        &self,
        own: Key,
        board: &str,
        taps: &mut dyn FnMut(&mut dyn FnMut(&str, Option<Protocol>) -> u32),
    ) {
        let inner = &mut *self.0.borrow_mut();
        let Inner { ring, order, .. } = inner;
        ring.clear();
        let (mut count, mut tag_len) = (0, 0);
        put(ring, |out| pcapng::section_header(out, board));
        taps(&mut |name, protocol| {
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
            count += 1;
            count - 1
        });
        inner.ready = ring.len();
        inner.taps = Default::default();
        inner.tap_count = count as usize;
        // Good once.
        inner.tickets.admits(&order.ticket, 0, true);
        let filter = core::mem::take(&mut order.filter);
        inner.sieve = Sieve::new(filter, order.snaplen, own, tag_len);
        (inner.kept, inner.left) = (0, order.count);
        inner.phase = Phase::Recording;
        inner.begun_ns = ns_at(ticks_about_now());
        inner.sessions += 1;
    }

    /// No more frames: what is left is to be sent.
    pub fn finish(&self) {
        let mut inner = self.0.borrow_mut();
        if inner.phase == Phase::Recording {
            inner.phase = Phase::Ending;
            inner.sieve.forget();
        }
    }

    /// It is over, whatever was not sent.
    pub fn end(&self) {
        let mut inner = self.0.borrow_mut();
        inner.phase = Phase::Off;
        inner.sieve.forget();
        inner.ring.clear();
    }

    /// Moves what waits of the file into `out`, as much as fits: how many bytes. `None` once that was all.
    pub fn fill(&self, out: &mut [u8]) -> Option<usize> {
        let inner = &mut *self.0.borrow_mut();
        let mut len = 0;
        while len < out.len() {
            let ready = inner.finish_blocks(out.len() - len);
            let taken = ready.min(out.len() - len);
            match (taken, inner.phase) {
                (0, Phase::Last) if len == 0 => return None,
                (0, Phase::Last) => break,
                // What is left in the ring came too late to be counted.
                (0, _) if inner.left == 0 || inner.phase == Phase::Ending => {
                    inner.phase = Phase::Last;
                    inner.sieve.forget();
                    inner.ring.clear();
                    inner.kept = inner.taps.iter().map(|tap| tap.delivered).sum();
                    inner.put_statistics();
                }
                (0, _) => break,
                _ => {
                    out[len..len + taken].copy_from_slice(&inner.ring.oldest()[..taken]);
                    inner.ring.forget(taken);
                    inner.ready -= taken;
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
            counts.seen += tap.refused + tap.dropped;
            counts.dropped += tap.dropped;
        }
        counts.seen += inner.kept;
        counts.accepted = inner.kept + counts.dropped;
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
    // Two functions, in each of which the direction is known.
    fn received(&self, tap: u32, frame: &[u8]) {
        self.record(tap, Direction::Received, frame);
    }

    fn sent(&self, tap: u32, frame: &[u8]) {
        self.record(tap, Direction::Sent, frame);
    }
}

impl Capture {
    #[inline(always)]
    fn record(&self, tap: u32, direction: Direction, frame: &[u8]) {
        if self.record_known(tap, direction, frame).is_none() {
            self.record_any(tap, frame, direction);
        }
    }

    /// Records a frame like others before it: an echo waits for this. Nothing that could be done later is done here.
    /// `None` if it is to be done by [`Capture::record_any`].
    #[inline(always)]
    fn record_known(&self, tap: u32, direction: Direction, frame: &[u8]) -> Option<()> {
        let head = frame.first_chunk::<HEAD>()?;
        let mut inner = self.0.try_borrow_mut().ok()?;
        let inner = &mut *inner;
        let wanted = inner.sieve.known(head, direction)?;
        let len = frame.len();
        let kept = len.min(wanted as usize);
        if kept < HEAD {
            if wanted != OWN {
                inner.taps.get_mut(tap as usize)?.refused += 1;
            }
            return Some(());
        }
        let block = inner.ring.place(pcapng::packet_len(kept))?;
        let seen = Seen {
            interface: tap,
            at_ticks: ticks_about_now(),
            direction,
            original_len: len as u32,
        };
        let place = pcapng::note(block, seen, kept)?;
        inner.kept += 1;
        let (first, rest) = place.split_first_chunk_mut::<HEAD>()?;
        *first = *head;
        if kept > HEAD {
            rest.get_mut(..kept - HEAD)?
                .copy_from_slice(frame.get(HEAD..kept)?);
        }
        Some(())
    }

    /// Records any frame, or not.
    #[cold]
    #[inline(never)]
    fn record_any(&self, tap: u32, frame: &[u8], direction: Direction) {
        if let Ok(mut inner) = self.0.try_borrow_mut() {
            inner.record(tap, direction, frame);
        }
    }
}

impl Inner {
    fn record(&mut self, tap: u32, direction: Direction, frame: &[u8]) -> Option<()> {
        if self.phase != Phase::Recording {
            return None;
        }
        let wanted = self.sieve.judge(frame, direction)? as usize;
        let state = self.taps.get_mut(tap as usize)?;
        if wanted == 0 {
            state.refused += 1;
            return None;
        }
        let kept = frame.get(..wanted).unwrap_or(frame);
        let drops = if state.lost > 0 {
            pcapng::DROP_COUNT
        } else {
            0
        };
        let len = pcapng::packet_len(kept.len()) + drops;
        self.ring.close(false);
        if let Some(block) = self.ring.place_anywhere(len) {
            let seen = Seen {
                interface: tap,
                at_ticks: ticks_about_now(),
                direction,
                original_len: frame.len() as u32,
            };
            let place = pcapng::note(block, seen, kept.len())?;
            place.get_mut(..kept.len())?.copy_from_slice(kept);
            pcapng::note_loss(block, state.lost);
            state.lost = 0;
            self.kept += 1;
        } else {
            state.dropped += 1;
            state.lost += 1;
        }
        // Until everybody was told of his losses, all frames come this way.
        let lossy = self.taps.iter().any(|tap| tap.lost > 0);
        self.ring.close(lossy);
        Some(())
    }

    /// Makes blocks of the oldest notes, until there are so many bytes of blocks: how many are in one piece.
    fn finish_blocks(&mut self, wanted: usize) -> usize {
        let blocks = self.ring.oldest();
        while self.ready < wanted
            && self.left > 0
            && let Some(rest) = blocks.get_mut(self.ready..)
            && let Some((len, tap)) = pcapng::finish(rest, ns_at)
        {
            self.ready += len;
            self.left -= 1;
            if let Some(tap) = self.taps.get_mut(tap) {
                tap.delivered += 1;
            }
        }
        self.ready
    }

    fn put_statistics(&mut self) {
        let span_ns = (self.begun_ns, ns_at(ticks_about_now()));
        for (id, tap) in (0..).zip(&self.taps).take(self.tap_count) {
            put(&mut self.ring, |out| {
                pcapng::statistics(out, id, span_ns, &tap.counts())
            });
        }
        self.ready = self.ring.len();
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
