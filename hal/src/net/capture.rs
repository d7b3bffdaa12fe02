//! Seeing frames pass: a tap on a driver, which shows what it receives and sends to a recorder while there is one.
//!
//! ```text
//!   poll loop ── Tapped ── driver        wan, lan0 ...: frames as an interface has them
//!                   └──► Recorder
//!   a driver that shares one device among several interfaces may have a tap of its own, below the tags
//! ```
//!
//! Without a recorder a frame costs one branch.

use super::tag::Protocol;
use super::{Coalescing, Count, Counters, Frame, Link, MacAddr, Nic, Pool};

/// Which way a frame goes. Spec: the numbers are those of pcapng's `epb_flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To us.
    Received = 1,
    /// From us.
    Sent = 2,
}

/// Sees frames.
pub trait Recorder {
    /// A whole frame to us, seen at the tap of this number.
    fn received(&self, tap: u32, frame: &[u8]);
    /// A whole frame from us.
    fn sent(&self, tap: u32, frame: &[u8]);
}

/// Where frames are shown.
#[derive(Clone, Copy)]
pub struct Tap {
    /// To whom.
    pub recorder: &'static dyn Recorder,
    /// Its number.
    pub number: u32,
}

impl Tap {
    /// Shows a frame.
    #[inline(always)] // a call through a table: nothing is gained by another one
    pub fn show(&self, direction: Direction, frame: &[u8]) {
        match direction {
            Direction::Received => self.recorder.received(self.number, frame),
            Direction::Sent => self.recorder.sent(self.number, frame),
        }
    }
}

/// A driver with a tap.
pub struct Tapped<N: Nic> {
    nic: N,
    tap: Option<Tap>,
}

impl<N: Nic> Tapped<N> {
    /// A driver nobody listens to.
    pub fn new(nic: N) -> Self {
        Tapped { nic, tap: None }
    }

    /// The driver itself.
    pub fn driver_mut(&mut self) -> &mut N {
        &mut self.nic
    }

    /// Shows all frames from now on, or no more.
    pub fn tap(&mut self, tap: Option<Tap>) {
        self.tap = tap;
    }
}

impl<N: Nic> Nic for Tapped<N> {
    #[inline(always)] // one caller
    fn receive(&mut self, pool: &mut Pool) -> Option<Frame> {
        let frame = self.nic.receive(pool)?;
        if let Some(tap) = &self.tap {
            tap.show(Direction::Received, frame.bytes());
        }
        Some(frame)
    }

    #[inline]
    fn transmit(&mut self, frame: Frame, pool: &mut Pool) {
        if let Some(tap) = &self.tap {
            tap.show(Direction::Sent, frame.bytes());
        }
        self.nic.transmit(frame, pool);
    }

    fn driver(&self) -> &'static str {
        self.nic.driver()
    }

    #[inline]
    fn mac(&self) -> MacAddr {
        self.nic.mac()
    }

    #[inline]
    fn link(&self) -> Link {
        self.nic.link()
    }

    #[inline]
    fn acknowledge(&mut self) {
        self.nic.acknowledge();
    }

    #[inline]
    fn waiting(&self) -> bool {
        self.nic.waiting()
    }

    #[inline]
    fn has_set_aside(&self) -> bool {
        self.nic.has_set_aside()
    }

    #[inline]
    fn transmit_space(&mut self, pool: &mut Pool) -> usize {
        self.nic.transmit_space(pool)
    }

    #[inline]
    fn sent(&mut self, pool: &mut Pool) -> Option<(u64, u64)> {
        self.nic.sent(pool)
    }

    #[inline]
    fn flush(&mut self) {
        self.nic.flush();
    }

    fn interrupt_on_space(&mut self, wanted: bool) {
        self.nic.interrupt_on_space(wanted);
    }

    fn set_coalescing(&mut self, coalescing: Coalescing) -> bool {
        self.nic.set_coalescing(coalescing)
    }

    #[inline]
    fn counters(&self) -> &Counters {
        self.nic.counters()
    }

    #[inline]
    fn counters_mut(&mut self) -> &mut Counters {
        self.nic.counters_mut()
    }

    fn port_counter(&self, index: usize) -> Option<Count> {
        self.nic.port_counter(index)
    }

    fn port_counters_at_us(&self) -> Option<u64> {
        self.nic.port_counters_at_us()
    }

    fn device(&self, number: usize) -> Option<&'static str> {
        self.nic.device(number)
    }

    fn device_counter(&self, number: usize, index: usize) -> Option<Count> {
        self.nic.device_counter(number, index)
    }

    fn refresh_counters(&self) {
        self.nic.refresh_counters();
    }

    fn tap_conduit(&mut self, tap: Option<Tap>) -> Option<Protocol> {
        self.nic.tap_conduit(tap)
    }
}
