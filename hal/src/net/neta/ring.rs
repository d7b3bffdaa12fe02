//! One receive and one transmit queue: descriptors, the frames the MAC owns, and the counters between the two sides.
//!
//! ```text
//!   receive    give: buffer -> slot ... update: +given, -released      status: occupied    harvest: slot -> frame
//!   transmit   send: frame -> slot .... update: +added                 status: sent        collect: slot -> buffer
//! ```
//!
//! The MAC knows what it owns by counts alone and guards none of them: a count that it reports is bounded by what we
//! gave, a count that we report never exceeds what it did.

use super::Counters;
use super::desc::{
    Damage, Descriptor, ETHERNET_HEADER_BYTES, FCS_BYTES, MARVELL_HEADER_BYTES, WORDS,
};
use super::regs::*;
use crate::dma::cache::lines;
use crate::dma::{Dma, Ring};
use crate::net::drops::SAMPLE_BYTES;
use crate::net::frame::HEADROOM;
use crate::net::{Frame, Pool};
use crate::regs::Bus;

/// Where the MAC starts to write in a buffer: the first byte of a line.
pub(super) const RX_START: usize = HEADROOM - MARVELL_HEADER_BYTES;

/// What a queue looked like when it stopped, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingDump {
    /// `"rx"` or `"tx"`.
    pub direction: &'static str,
    /// Queue number.
    pub queue: usize,
    /// Places in the ring.
    pub size: usize,
    /// Frames that the MAC owns, by our account.
    pub in_flight: usize,
    /// The place that we expect to be done next.
    pub oldest: usize,
    /// The place that the MAC works on.
    pub current: u32,
    /// Status register: occupied or pending in 13:0, free or sent in 29:16.
    pub status: u32,
    /// The descriptors from `oldest` on.
    pub descriptors: [[u32; WORDS]; 4],
}

impl core::fmt::Display for RingDump {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "{} queue {}: {} of {} in flight, oldest {}, current {}, status {:#010x}",
            self.direction,
            self.queue,
            self.in_flight,
            self.size,
            self.oldest,
            self.current,
            self.status
        )?;
        self.descriptors
            .iter()
            .try_for_each(|[a, b, c, d, ..]| write!(f, "; {a:08x} {b:08x} {c:08x} {d:08x}"))
    }
}

/// The part that both directions share.
#[derive(Debug)]
struct Queue<const SIZE: usize> {
    number: usize,
    base: u32,
    descriptors: &'static [Descriptor; SIZE],
    frames: Ring<Frame, SIZE>,
}

impl<const SIZE: usize> Queue<SIZE> {
    fn dump(&self, direction: &'static str, current: u32, status: u32) -> RingDump {
        let oldest = self.frames.indices().oldest();
        RingDump {
            direction,
            queue: self.number,
            size: SIZE,
            in_flight: self.frames.indices().in_flight(),
            oldest,
            current,
            status,
            descriptors: core::array::from_fn(|n| self.descriptors[(oldest + n) % SIZE].words()),
        }
    }

    /// Takes everything back from a MAC that no longer works on it. Returns how many there were.
    fn empty(&mut self, pool: &mut Pool) -> u64 {
        let mut count = 0;
        while let Some(frame) = self.frames.rewind() {
            pool.put(frame);
            count += 1;
        }
        count
    }
}

/// A receive queue.
#[derive(Debug)]
pub(super) struct RxQueue<const SIZE: usize> {
    queue: Queue<SIZE>,
    /// Bytes of a buffer that the MAC may write.
    room: usize,
    /// Frames that the MAC reported and nobody took.
    seen: usize,
    /// Frames taken, of which the MAC does not know.
    released: u32,
    /// Buffers given, of which the MAC does not know.
    given: u32,
    /// Descriptors taken since start.
    taken: u64,
}

impl<const SIZE: usize> RxQueue<SIZE> {
    pub fn new(
        number: usize,
        base: u32,
        descriptors: &'static [Descriptor; SIZE],
        room: usize,
    ) -> Self {
        RxQueue {
            queue: Queue {
                number,
                base,
                descriptors,
                frames: Ring::default(),
            },
            room,
            seen: 0,
            released: 0,
            given: 0,
            taken: 0,
        }
    }

    /// Writes base and size; the queue is off.
    pub fn configure(&self, bus: &mut impl Bus) {
        let number = self.queue.number;
        RXQ_CONFIG.nth(number).set(bus, 0);
        RXQ_BASE.nth(number).set(bus, self.queue.base);
        RXQ_SIZE.nth(number).write(
            bus,
            RxqSize::DESCRIPTORS.val(SIZE as u32) + RxqSize::BUFFER_SIZE.val(self.room as u32 / 8),
        );
    }

    /// Fills every place. False if the pool has not enough buffers, or one is out of the MAC's reach.
    pub fn fill(&mut self, bus: &mut impl Bus, dma: &mut impl Dma, pool: &mut Pool) -> bool {
        while self.queue.frames.indices().space() > 0 {
            let Some(frame) = pool.take() else {
                return false;
            };
            if let Err(frame) = self.give(frame, dma) {
                pool.put(frame);
                return false;
            }
        }
        self.update(bus, dma);
        true
    }

    /// Hands a buffer to the MAC, which learns of it at the next [`RxQueue::update`].
    #[inline]
    fn give(&mut self, mut frame: Frame, dma: &mut impl Dma) -> Result<(), Frame> {
        let (buffer, _, dirty) = frame.cached_parts();
        let area = &buffer.0[RX_START..RX_START + self.room];
        let Some(addr) = dma.bus_addr(area.as_ptr(), area.len()) else {
            return Err(frame);
        };
        // A line that whoever held the frame left dirty must not be written back over the next one. Lines that are clean
        // may stay: the core drops them without a word or fetches more of them at any time, now or while the MAC writes,
        // which is why those that it wrote are dropped on arrival.
        if dirty > RX_START {
            dma.clean_invalidate(&mut buffer.0[lines(RX_START..dirty)]);
            frame.note_clean();
        }
        let slot = self.queue.frames.push(frame)?;
        self.queue.descriptors[slot].describe_buffer(addr);
        self.given += 1;
        Ok(())
    }

    /// Tells the MAC what was taken and given.
    #[inline]
    pub fn update(&mut self, bus: &mut impl Bus, dma: &mut impl Dma) {
        if self.released | self.given == 0 {
            return;
        }
        // Orders the lines cleaned and the descriptors written before the MAC may use them.
        dma.publish();
        while self.released | self.given != 0 {
            let (released, given) = (self.released.min(UPDATE_MAX), self.given.min(UPDATE_MAX));
            RXQ_UPDATE.nth(self.queue.number).write(
                bus,
                RxqUpdate::RELEASED.val(released) + RxqUpdate::GIVEN.val(given),
            );
            self.released -= released;
            self.given -= given;
        }
    }

    /// Whether there are frames to be taken.
    #[inline(always)]
    pub fn look(
        &mut self,
        bus: &mut impl Bus,
        dma: &mut impl Dma,
        counters: &mut Counters,
    ) -> bool {
        // A burst as long as the ring must not starve the MAC until its end.
        if self.seen > 0 && self.released < SIZE as u32 / 2 {
            return true;
        }
        self.look_anew(bus, dma, counters)
    }

    #[inline(never)]
    fn look_anew(
        &mut self,
        bus: &mut impl Bus,
        dma: &mut impl Dma,
        counters: &mut Counters,
    ) -> bool {
        // The status counts what was taken but not yet released.
        self.update(bus, dma);
        let occupied = self.occupied(bus);
        self.seen = occupied.min(self.queue.frames.indices().in_flight());
        if self.seen != occupied {
            counters.rx_bad_status += 1;
        }
        if self.seen > 0 {
            // Orders the count read before the descriptors that it covers.
            dma.observe();
        }
        self.seen > 0
    }

    /// The next good frame. Damaged ones are counted, and their buffers given back at once.
    #[inline]
    pub fn harvest(
        &mut self,
        bus: &mut impl Bus,
        dma: &mut impl Dma,
        pool: &mut Pool,
        counters: &mut Counters,
    ) -> Harvest {
        // Bounded: a MAC whose count never falls must not hold us.
        for _ in 0..SIZE {
            if !self.look(bus, dma, counters) {
                return Harvest::Empty;
            }
            let Some(fresh) = pool.take() else {
                return Harvest::NoBuffer;
            };
            let oldest = self.queue.frames.indices().oldest();
            let received = self.queue.descriptors[oldest].received(self.room);
            let Some(mut frame) = self.queue.frames.pop() else {
                pool.put(fresh);
                return Harvest::Empty;
            };
            self.seen -= 1;
            self.released += 1;
            self.taken += 1;
            match received {
                Ok(bytes) => {
                    let (buffer, ..) = frame.cached_parts();
                    // The core may have fetched lines on speculation while the MAC was writing them.
                    dma.invalidate(&mut buffer.0[lines(RX_START..RX_START + bytes)]);
                    // Always fits: the MAC wrote into this very buffer.
                    frame.set_len(bytes - MARVELL_HEADER_BYTES - FCS_BYTES);
                    self.replace(fresh, dma, pool, counters);
                    return Harvest::Frame(frame);
                }
                Err(damage) => {
                    pool.put(fresh);
                    self.give_back(frame, damage, dma, pool, counters);
                }
            }
        }
        Harvest::Empty
    }

    #[cold]
    #[inline(never)]
    fn give_back(
        &mut self,
        mut frame: Frame,
        damage: Damage,
        dma: &mut impl Dma,
        pool: &mut Pool,
        counters: &mut Counters,
    ) {
        counters.note(damage);
        let (buffer, ..) = frame.cached_parts();
        // The length is not to be trusted; but the beginning is what the MAC wrote, if it wrote anything.
        let sample = HEADROOM..HEADROOM + SAMPLE_BYTES;
        dma.invalidate(&mut buffer.0[lines(RX_START..sample.end)]);
        pool.samples.keep(damage.into(), &buffer.0[sample]);
        self.replace(frame, dma, pool, counters);
    }

    #[inline(always)]
    fn replace(
        &mut self,
        frame: Frame,
        dma: &mut impl Dma,
        pool: &mut Pool,
        counters: &mut Counters,
    ) {
        if let Err(frame) = self.give(frame, dma) {
            // The place stays empty until the port is restarted.
            counters.rx_unreachable += 1;
            pool.put(frame);
        }
    }

    /// Frames that wait to be taken, and how many were taken since start.
    pub fn progress(&self, bus: &mut impl Bus) -> (usize, u64) {
        let waiting = self.occupied(bus).saturating_sub(self.released as usize);
        (waiting, self.taken)
    }

    /// Frames that the MAC says it has delivered and was not told are taken.
    #[inline]
    fn occupied(&self, bus: &mut impl Bus) -> usize {
        let status = RXQ_STATUS.nth(self.queue.number).read(bus);
        status.read(RxqStatus::OCCUPIED) as usize
    }

    /// Takes all buffers back from a MAC whose DMA engine is in reset.
    pub fn empty(&mut self, pool: &mut Pool) {
        self.queue.empty(pool);
        (self.seen, self.released, self.given) = (0, 0, 0);
    }

    pub fn dump(&self, bus: &mut impl Bus) -> RingDump {
        let current = RXQ_CURRENT.nth(self.queue.number).read(bus).get();
        let status = RXQ_STATUS.nth(self.queue.number).read(bus).get();
        self.queue.dump("rx", current, status)
    }
}

/// What [`RxQueue::harvest`] found.
pub(super) enum Harvest {
    /// A good frame.
    Frame(Frame),
    /// Nothing.
    Empty,
    /// Something, but nothing to put in its place.
    NoBuffer,
}

/// A transmit queue.
#[derive(Debug)]
pub(super) struct TxQueue<const SIZE: usize> {
    queue: Queue<SIZE>,
    /// Longest frame, without FCS.
    max_bytes: usize,
    /// Frames in the ring of which the MAC does not know.
    queued: u32,
    /// Frames sent and taken back since start.
    collected: u64,
}

impl<const SIZE: usize> TxQueue<SIZE> {
    pub fn new(
        number: usize,
        base: u32,
        descriptors: &'static [Descriptor; SIZE],
        max_bytes: usize,
    ) -> Self {
        TxQueue {
            queue: Queue {
                number,
                base,
                descriptors,
                frames: Ring::default(),
            },
            max_bytes,
            queued: 0,
            collected: 0,
        }
    }

    /// Writes base and size; the queue is off.
    pub fn configure(&self, bus: &mut impl Bus) {
        let number = self.queue.number;
        TXQ_BASE.nth(number).set(bus, self.queue.base);
        // Whoever waits for room is woken when a quarter of the ring has been sent, not by every frame.
        TXQ_SIZE.nth(number).write(
            bus,
            TxqSize::DESCRIPTORS.val(SIZE as u32) + TxqSize::SENT_THRESHOLD.val(SIZE as u32 / 4),
        );
    }

    /// Free places. One is kept free: the MAC does not guard its counts.
    #[inline]
    pub fn space(&self) -> usize {
        self.queue.frames.indices().space().saturating_sub(1)
    }

    /// Puts a frame into the ring; the MAC learns of it at the next [`TxQueue::update`].
    #[inline]
    pub fn send(
        &mut self,
        mut frame: Frame,
        dma: &mut impl Dma,
        counters: &mut Counters,
    ) -> Result<(), Frame> {
        let (buffer, range, dirty) = frame.cached_parts();
        let bytes = range.len();
        if !(ETHERNET_HEADER_BYTES..=self.max_bytes).contains(&bytes) {
            counters.tx_bad_length += 1;
            return Err(frame);
        }
        let Some(addr) = dma.bus_addr(buffer.0[range.clone()].as_ptr(), bytes) else {
            counters.tx_unreachable += 1;
            return Err(frame);
        };
        // The MAC reads memory, not the cache. What else was written goes along: the buffer comes back clean.
        dma.clean(&buffer.0[lines(range.start.min(RX_START)..range.end.max(dirty))]);
        frame.note_clean();
        let slot = self.queue.frames.push(frame)?;
        self.queue.descriptors[slot].describe_frame(addr, bytes);
        self.queued += 1;
        Ok(())
    }

    /// Tells the MAC what was queued.
    #[inline]
    pub fn update(&mut self, bus: &mut impl Bus, dma: &mut impl Dma) {
        if self.queued == 0 {
            return;
        }
        // Orders the lines cleaned and the descriptors written before the MAC may read them.
        dma.publish();
        while self.queued != 0 {
            let added = self.queued.min(UPDATE_MAX);
            TXQ_UPDATE
                .nth(self.queue.number)
                .write(bus, TxqUpdate::ADDED.val(added));
            self.queued -= added;
        }
    }

    /// Takes back what was sent.
    pub fn collect(&mut self, bus: &mut impl Bus, pool: &mut Pool, counters: &mut Counters) {
        let status = TXQ_STATUS.nth(self.queue.number).read(bus);
        let told = self.queue.frames.indices().in_flight() as u32 - self.queued;
        let sent = status.read(TxqStatus::SENT).min(told);
        if sent != status.read(TxqStatus::SENT) {
            counters.tx_bad_status += 1;
        }
        let mut left = sent;
        while left != 0 {
            let released = left.min(UPDATE_MAX);
            TXQ_UPDATE
                .nth(self.queue.number)
                .write(bus, TxqUpdate::RELEASED.val(released));
            left -= released;
        }
        for _ in 0..sent {
            if let Some(frame) = self.queue.frames.pop() {
                pool.put(frame);
            }
        }
        self.collected += u64::from(sent);
    }

    /// Frames that the MAC was told of and has not sent, and how many it has sent since start.
    pub fn progress(&self, bus: &mut impl Bus) -> (u32, u64) {
        let status = TXQ_STATUS.nth(self.queue.number).read(bus);
        let sent = self.collected + u64::from(status.read(TxqStatus::SENT));
        (status.read(TxqStatus::PENDING), sent)
    }

    /// Frames queued since start, and how many of them were taken back.
    pub fn totals(&self) -> (u64, u64) {
        let in_flight = self.queue.frames.indices().in_flight() as u64;
        (self.collected + in_flight, self.collected)
    }

    /// Takes all frames back from a MAC whose DMA engine is in reset. Returns how many were not known to be sent.
    pub fn empty(&mut self, pool: &mut Pool) -> u64 {
        self.queued = 0;
        self.queue.empty(pool)
    }

    pub fn dump(&self, bus: &mut impl Bus) -> RingDump {
        let current = TXQ_CURRENT.nth(self.queue.number).read(bus).get();
        let status = TXQ_STATUS.nth(self.queue.number).read(bus).get();
        self.queue.dump("tx", current, status)
    }
}
