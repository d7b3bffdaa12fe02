//! A network card without hardware: two rings, an interrupt line that is level-triggered and can be masked, and every
//! way for them to be full, empty or slow.

use std::collections::VecDeque;

use hal::net::{Counters, Frame, Link, MacAddr, Nic, Pool};

/// Places in each ring.
pub const RING: usize = 128;
/// Buffers that a card needs: both rings, a frame in hand and its answer.
pub const BUFFERS: usize = 2 * RING + 2;

pub struct Card {
    mac: MacAddr,
    carrier: Link,
    noted: Link,
    /// Buffers the device may fill, and those it has filled.
    empty: VecDeque<Frame>,
    filled: VecDeque<Frame>,
    /// Frames the driver queued, then rang for, then the device has sent.
    queued: VecDeque<Frame>,
    rung: usize,
    sent: VecDeque<Frame>,
    /// The device takes nothing from the transmit ring.
    pub stuck: bool,
    wants_space: bool,
    /// The interrupt line.
    pub raised: bool,
    /// Arrived when the receive ring had no buffer left.
    pub overruns: u64,
    counters: Counters,
}

impl Card {
    pub fn new(mac: MacAddr, pool: &mut Pool) -> Self {
        let mut empty = VecDeque::with_capacity(RING);
        empty.extend(std::iter::from_fn(|| pool.take()).take(RING));
        Card {
            mac,
            carrier: Link::Up {
                speed_mbps: 0,
                full_duplex: true,
                pause: Default::default(),
            },
            noted: Link::Down,
            empty,
            filled: VecDeque::with_capacity(RING),
            queued: VecDeque::with_capacity(RING),
            rung: 0,
            sent: VecDeque::with_capacity(RING),
            stuck: false,
            wants_space: false,
            raised: true,
            overruns: 0,
            counters: Counters::default(),
        }
    }

    /// A frame comes in from the wire.
    pub fn arrive(&mut self, bytes: &[u8]) {
        let Some(mut frame) = self.empty.pop_front() else {
            self.overruns += 1;
            return;
        };
        assert!(frame.set_len(bytes.len()));
        frame.bytes_mut().copy_from_slice(bytes);
        self.filled.push_back(frame);
        self.raised = true;
    }

    /// The device sends one frame of those it was told of.
    pub fn send_one(&mut self) -> Option<Vec<u8>> {
        if self.stuck || self.rung == 0 {
            return None;
        }
        self.rung -= 1;
        let frame = self.queued.pop_front()?;
        let bytes = frame.bytes().to_vec();
        self.sent.push_back(frame);
        self.raised |= self.wants_space;
        Some(bytes)
    }

    pub fn change_link(&mut self, up: bool) {
        self.carrier = match up {
            true => Link::Up {
                speed_mbps: 0,
                full_duplex: true,
                pause: Default::default(),
            },
            false => Link::Down,
        };
        self.raised = true;
    }

    /// Buffers in its rings.
    pub fn held(&self) -> usize {
        self.empty.len() + self.filled.len() + self.queued.len() + self.sent.len()
    }

    /// Everything queued was rung for.
    pub fn is_flushed(&self) -> bool {
        self.rung == self.queued.len()
    }
}

impl Nic for Card {
    fn driver(&self) -> &'static str {
        "model"
    }

    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn link(&self) -> Link {
        self.noted
    }

    fn acknowledge(&mut self) {
        self.raised = false;
        self.noted = self.carrier;
    }

    fn receive(&mut self, pool: &mut Pool) -> Option<Frame> {
        if self.filled.is_empty() {
            return None;
        }
        self.empty.push_back(pool.take()?);
        let frame = self.filled.pop_front()?;
        self.counters.rx_frames += 1;
        Some(frame)
    }

    fn transmit_space(&mut self, pool: &mut Pool) -> usize {
        // Lazily, as the real drivers do.
        if self.queued.len() + self.sent.len() > RING / 2 {
            while let Some(frame) = self.sent.pop_front() {
                pool.put(frame);
            }
        }
        RING - self.queued.len() - self.sent.len()
    }

    fn transmit(&mut self, frame: Frame, pool: &mut Pool) {
        assert!(
            (14..=1514).contains(&frame.bytes().len()),
            "{} bytes",
            frame.bytes().len()
        );
        if self.transmit_space(pool) == 0 {
            self.counters.tx_ring_full += 1;
            pool.put(frame);
            return;
        }
        self.counters.tx_frames += 1;
        self.queued.push_back(frame);
    }

    fn flush(&mut self) {
        self.rung = self.queued.len();
    }

    fn interrupt_on_space(&mut self, wanted: bool) {
        self.wants_space = wanted;
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }
}
