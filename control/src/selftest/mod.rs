//! The board's self-test, for bring-up: is this piece of hardware sound, and what did it measure?
//!
//! Not to be confused with `machine/self_test.rs`, which is what `test=` of the bootargs asks for: there our own
//! exception handling is provoked, in CI, and the machine is switched off at the end.
//!
//! ```text
//!   shell, HTTP ── start, results ──► SelfTest ──► lab ◄── tests: memory, clocks, management, frames, links
//!                                        │          │      one `async` sequence, a step per poll
//!   poll loop ────── poll ──────────────►│          │ asks
//!                                        └── Bed ◄──┘      the machine: fakes in tests
//! ```
//!
//! A test is a straight `async` function that asks the machine for one small thing at a time and gives the processor
//! back in between, so that the network is served meanwhile. One run at a time; its results are kept until the next.

mod checksum;
mod clocks;
mod frames;
mod lab;
mod links;
mod management;
mod memory;
mod registers;
pub mod report;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use core::convert::Infallible;
use core::future::Future;
use core::pin::Pin;
use hal::net::Link;
use hal::net::mv88e6xxx::PortIndex;
use heapless::{String, Vec};

use crate::shell::hardware::Hardware;

pub use clocks::Clocks;
use lab::Lab;

/// Longest text of one result, in bytes.
pub const DETAIL: usize = 160;
/// Most results of one run: every test of the machine, and every test of a port for each port.
pub const RESULTS: usize = 48;
/// Time after which an answer that was not there is asked for again.
const ASK_AGAIN_US: u64 = 500;

/// A test of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test {
    /// Its name on the command line and in results.
    pub name: &'static str,
    /// The ports of the switch carry no traffic for a while.
    pub cuts: bool,
    which: Which,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Memory,
    Timer,
    Checksum,
    Mdio,
    PhyId,
    Link,
    MacLoopback,
    Ring,
    Interrupts,
    PhyLoopback,
    Negotiation,
    Cable,
}

const fn test(name: &'static str, cuts: bool, which: Which) -> Test {
    Test { name, cuts, which }
}

/// All tests, in the order in which they run: what others build on first, what disturbs most last.
pub static TESTS: &[Test] = &[
    test("memory", false, Which::Memory),
    test("timer", false, Which::Timer),
    test("checksum", false, Which::Checksum),
    test("mdio", false, Which::Mdio),
    test("phy-id", false, Which::PhyId),
    test("link", false, Which::Link),
    test("mac-loopback", true, Which::MacLoopback),
    test("ring", true, Which::Ring),
    test("interrupts", true, Which::Interrupts),
    test("phy-loopback", true, Which::PhyLoopback),
    test("negotiation", true, Which::Negotiation),
    test("cable", true, Which::Cable),
];

/// How far frames go before they come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through the MAC only.
    Mac,
    /// Through the switch and the PHY of a port, which the test has put into loopback.
    Port(PortIndex),
}

/// What the tests may touch. What a machine does not have, it says so.
pub trait Bed {
    /// Time since entry, in microseconds.
    fn now_us(&self) -> u64;
    /// The board's buses, switch and MAC, if it is one that has them.
    fn hardware(&mut self) -> Option<&mut dyn Hardware>;
    /// The counters, read one after the other.
    fn clocks(&mut self) -> Clocks;
    /// Shows the links as the drivers know them.
    fn links(&self, show: &mut dyn FnMut(&str, Link));
    /// Has frames come back and keeps them apart, or ends that. False if there is nothing to do it with.
    fn set_loop(&mut self, way: Option<Way>) -> bool;
    /// Sends a frame with so many bytes behind the addresses, which `fill` makes. False if there is no room.
    fn send(&mut self, bytes: usize, fill: &mut dyn FnMut(&mut [u8])) -> bool;
    /// Takes a frame that came back, and shows what is behind the addresses. False if there is none.
    fn take(&mut self, look: &mut dyn FnMut(&[u8])) -> bool;
    /// Interrupts of the MAC so far.
    fn mac_interrupts(&self) -> u64;
    /// Finds memory that nobody uses: blocks of [`BLOCK_BYTES`], as many as there is room for in
    /// `found`, spread over all of it. Returns how many there are.
    fn free_memory(&mut self, found: &mut [u64]) -> usize;
    /// Lends a piece of free memory, whose content comes from memory and goes there, not only to a cache. False if it
    /// cannot be had, or read.
    fn with_memory(&mut self, address: u64, bytes: usize, work: &mut dyn FnMut(&mut [u64]))
    -> bool;
}

pub use memory::BLOCK_BYTES;

/// What became of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Passed,
    /// Not so.
    Failed,
    /// Not tried: there is nothing to try.
    Skipped,
}

impl Verdict {
    /// `ok`, `not ok`, `skip`.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Passed => "ok",
            Verdict::Failed => "not ok",
            Verdict::Skipped => "skip",
        }
    }
}

/// One result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The test.
    pub test: &'static str,
    /// The port that it was for, if for one.
    pub port: String<15>,
    /// What became of it.
    pub verdict: Verdict,
    /// What was measured, or why not.
    pub detail: String<DETAIL>,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// A run and its results so far.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Counts runs, from 1; 0 before the first.
    pub id: u32,
    /// The test at work; `None` once all is done.
    pub at_work: Option<&'static str>,
    /// The results.
    pub entries: Vec<Entry, RESULTS>,
}

impl Run {
    /// Results with this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        let same = |entry: &&Entry| entry.verdict == verdict;
        self.entries.iter().filter(same).count()
    }
}

/// Why no run was started: one is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// All tests, as a set for [`SelfTest::start`].
pub const ALL: u32 = (1 << (Which::Cable as u32 + 1)) - 1;

/// The set of the test of this name.
pub fn named(name: &str) -> Option<u32> {
    let at = TESTS.iter().position(|test| test.name == name)?;
    Some(1 << at)
}

/// Whether one of these tests cuts the switch's ports.
pub fn cuts(set: u32) -> bool {
    let mut tests = TESTS.iter().enumerate();
    tests.any(|(at, test)| test.cuts && set >> at & 1 != 0)
}

/// The tests, and the run at work or the last one.
pub struct SelfTest {
    lab: &'static Lab,
    sequence: Pin<Box<dyn Future<Output = Infallible>>>,
}

impl Default for SelfTest {
    fn default() -> Self {
        SelfTest::new()
    }
}

impl SelfTest {
    /// Nothing is at work. Allocates all it will ever need.
    pub fn new() -> Self {
        let lab: &'static Lab = Box::leak(Box::default());
        lab.rest();
        SelfTest {
            lab,
            sequence: Box::pin(lab::work(lab)),
        }
    }

    /// Starts a run of these tests; [`SelfTest::poll`] does the work. Returns its number.
    ///
    /// # Errors
    ///
    /// [`Busy`].
    pub fn start(&mut self, set: u32) -> Result<u32, Busy> {
        self.lab.start(set).ok_or(Busy)
    }

    /// The run at work, or the last one.
    pub fn show(&self, show: &mut dyn FnMut(&Run)) {
        show(&self.lab.run());
    }

    /// Does the next small thing. Returns when it wants to be called again, in microseconds.
    pub fn poll(&mut self, bed: &mut dyn Bed) -> u64 {
        let lab = self.lab;
        let now_us = bed.now_us();
        lab.set_now(now_us);
        if let Some(op) = lab.asked() {
            if lab.perform(op, bed).is_pending() {
                return now_us + ASK_AGAIN_US;
            }
        } else if lab.due_us() > now_us {
            return lab.due_us();
        }
        // It never ends.
        let _ = hal::net::steps::step(self.sequence.as_mut());
        match lab.asked() {
            Some(_) => now_us,
            None => lab.due_us(),
        }
    }
}
