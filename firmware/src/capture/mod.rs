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

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use hal::net::bpf::HEAD;
use hal::net::capture::{Direction, Recorder};
use hal::net::tag::Protocol;
use hal::net::verdicts::Head;

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

/// Memory for frames that wait to be sent, in bytes, if there is so much: else a half or a quarter.
pub const MEMORY: usize = 256 * 1024;
/// What has to be left for the rest of a capture, and others.
const REST: usize = size_of::<Inner>() + 16 * 1024;
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

/// Takes name and kind of a tap, returns its number.
pub type AddTap<'a> = &'a mut dyn FnMut(&str, Option<Protocol>) -> u32;

/// The capture there may be: taken out while something is done to it, which costs a frame less than a `RefCell`.
pub struct Capture(Cell<Option<Box<Inner>>>);

impl Capture {
    /// `None` from within itself, which does not happen.
    #[inline(always)] // in the path of every frame
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> Option<T> {
        let mut inner = self.0.take()?;
        let outcome = act(&mut inner);
        // Nothing is there to be dropped.
        core::mem::forget(self.0.replace(Some(inner)));
        Some(outcome)
    }

    /// None yet, but memory for one; `None` if there is not so much.
    pub fn new(random: &mut Random, has_conduit: bool) -> Option<Self> {
        // With as many interfaces as there may be, less is left.
        let with_rest = |size: &usize| Vec::<u8>::new().try_reserve_exact(size + REST).is_ok();
        let mut sizes = [MEMORY, MEMORY / 2, MEMORY / 4].into_iter();
        let memory = vec![0; sizes.find(with_rest)?];
        Some(Capture(Cell::new(Some(Box::new(Inner {
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
        })))))
    }

    /// Whether the query has a ticket that is good.
    pub fn admits(&self, query: &str, now_us: u64) -> bool {
        let ticket = order::ticket(query);
        let admits = |ticket| self.with(|inner| inner.tickets.admits(ticket, now_us, false));
        ticket.and_then(admits).unwrap_or(false)
    }

    /// Keeps an order for [`Capture::begin`].
    ///
    /// # Errors
    ///
    /// [`Refusal::Busy`], [`Refusal::Interface`], and what [`Order::parse`] says.
    pub fn order(&self, query: &str, is_interface: impl Fn(&str) -> bool) -> Result<(), Refusal> {
        let take_order = |inner: &mut Inner| {
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
        };
        self.with(take_order).unwrap_or(Err(Refusal::Busy))
    }

    /// The interface that the order names; empty for all.
    pub fn ordered(&self) -> Name {
        self.with(|inner| inner.order.interface.clone())
            .unwrap_or_default()
    }

    /// Begins what was ordered, for the connection `own` to carry. The file's head is ready to be sent. `taps` is called
    /// with what is to be called for each tap.
    pub fn begin(&self, own: Key, board: &str, taps: &mut dyn FnMut(AddTap<'_>)) {
        self.with(|inner| inner.begin(own, board, taps));
    }

    /// No more frames: what is left is to be sent.
    pub fn finish(&self) {
        self.with(|inner| {
            if inner.phase == Phase::Recording {
                inner.phase = Phase::Ending;
                inner.sieve.forget();
            }
        });
    }

    /// It is over, whatever was not sent.
    pub fn end(&self) {
        self.with(|inner| {
            inner.phase = Phase::Off;
            inner.sieve.forget();
            inner.ring.clear();
        });
    }

    /// Moves what waits of the file into `out`, as much as fits: how many bytes. `None` once that was all.
    pub fn fill(&self, out: &mut [u8]) -> Option<usize> {
        self.with(|inner| inner.fill(out)).flatten()
    }

    /// Bytes that wait to be sent; as many as can be if it is complete.
    pub fn waiting(&self) -> usize {
        let waiting = |inner: &mut Inner| match inner.phase {
            Phase::Recording => inner.ring.len(),
            _ => usize::MAX,
        };
        self.with(waiting).unwrap_or(0)
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.state())
    }
}

impl Captures for Capture {
    fn state(&self) -> State {
        self.with(|inner| inner.state()).unwrap_or_default()
    }

    fn issue_ticket(&self, now_us: u64) -> ticket::Digits {
        self.with(|inner| inner.tickets.issue(now_us))
            .unwrap_or_default()
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
        let known = frame
            .first_chunk()
            .and_then(|head| self.with(|inner| inner.record_known(tap, direction, frame, head)));
        if known.flatten().is_none() {
            self.record_any(tap, frame, direction);
        }
    }

    /// Records any frame, or not.
    #[cold]
    #[inline(never)]
    fn record_any(&self, tap: u32, frame: &[u8], direction: Direction) {
        self.with(|inner| inner.record(tap, direction, frame));
    }
}

impl Inner {
    /// Records a frame like others before it: an echo waits for this. Nothing that could be done later is done here.
    /// `None` if it is to be done by [`Inner::record`].
    #[inline(always)]
    fn record_known(
        &mut self,
        tap: u32,
        direction: Direction,
        frame: &[u8],
        head: &[u8; HEAD],
    ) -> Option<()> {
        let loaded = Head::load(head);
        let wanted = self.sieve.known(head, loaded, direction)?;
        let len = frame.len();
        let kept = len.min(wanted as usize);
        if kept < HEAD {
            self.taps.get_mut(tap as usize)?.refused += 1;
            return Some(());
        }
        let block = self.ring.place(pcapng::packet_len(kept))?;
        let seen = Seen {
            interface: tap,
            at_ticks: ticks_about_now(),
            direction,
            original_len: len as u32,
        };
        let place = pcapng::note(block, seen, kept)?;
        let (first, rest) = place.split_first_chunk_mut::<HEAD>()?;
        loaded.store(first);
        if kept > HEAD {
            rest.get_mut(..kept - HEAD)?
                .copy_from_slice(frame.get(HEAD..kept)?);
        }
        Some(())
    }

    /// Records any frame, or not.
    fn record(&mut self, tap: u32, direction: Direction, frame: &[u8]) -> Option<()> {
        if self.phase != Phase::Recording {
            return None;
        }
        // It may only be that there is no room.
        let head = frame.first_chunk().filter(|_| self.ring.is_closed());
        let known = head.and_then(|head| self.sieve.known(head, Head::load(head), direction));
        let wanted = known.or_else(|| self.sieve.judge(frame, direction))? as usize;
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

    fn begin(&mut self, own: Key, board: &str, taps: &mut dyn FnMut(AddTap<'_>)) {
        let Inner { ring, order, .. } = self;
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
        self.ready = ring.len();
        self.taps = Default::default();
        self.tap_count = count as usize;
        // Good once.
        self.tickets.admits(&order.ticket, 0, true);
        let filter = core::mem::take(&mut order.filter);
        self.sieve = Sieve::new(filter, order.snaplen, own, tag_len);
        self.left = order.count;
        self.phase = Phase::Recording;
        self.begun_ns = ns_at(ticks_about_now());
        self.sessions += 1;
    }

    fn fill(&mut self, out: &mut [u8]) -> Option<usize> {
        let mut len = 0;
        while len < out.len() {
            let ready = self.finish_blocks(out.len() - len);
            let taken = ready.min(out.len() - len);
            match (taken, self.phase) {
                (0, Phase::Last) if len == 0 => return None,
                (0, Phase::Last) => break,
                // What is left in the ring came too late to be counted.
                (0, _) if self.left == 0 || self.phase == Phase::Ending => {
                    self.phase = Phase::Last;
                    self.sieve.forget();
                    self.ring.clear();
                    self.put_statistics();
                }
                (0, _) => break,
                _ => {
                    out[len..len + taken].copy_from_slice(&self.ring.oldest()[..taken]);
                    self.ring.forget(taken);
                    self.ready -= taken;
                    len += taken;
                }
            }
        }
        Some(len)
    }

    fn state(&mut self) -> State {
        let mut counts = Counts::default();
        for tap in self.taps.iter().map(TapState::counts) {
            counts.seen += tap.seen;
            counts.accepted += tap.accepted;
            counts.dropped += tap.dropped;
        }
        // What is still to be delivered is not counted when it comes: that would cost each frame.
        let [older, newer] = self.ring.pieces();
        for mut notes in [older.get(self.ready..).unwrap_or_default(), newer] {
            while let Some(rest) = pcapng::behind_note(notes) {
                notes = rest;
                counts.seen += 1;
                counts.accepted += 1;
            }
        }
        State {
            active: self.phase != Phase::Off,
            sessions: self.sessions,
            counts,
            waiting: self.ring.len(),
        }
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
