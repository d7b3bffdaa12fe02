//! Between the driver's sequence and the rest of the program: news one way, [errands](super::errand) the other.

use super::errand::Errand;
use super::{BringUpError, Canary, PORTS, PortIndex, PortSet, mib};
use crate::net::phy::{self, Up};
use crate::net::steps;
use core::cell::{Cell, RefCell};
use core::fmt;
use heapless::Deque;

/// Why the chip has to be brought up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A port does not read as it was written: the chip was reset, or (all ones) is not there.
    Canary {
        /// The port.
        port: PortIndex,
        /// What it should read.
        expected: Canary,
        /// What it reads.
        found: Canary,
    },
    /// The chip's watchdog saw its queues stuck: bit 3 cut-through, 2 queue controller, 1 egress.
    Watchdog {
        /// The bits.
        events: u8,
    },
    /// An access failed.
    Access(steps::Error),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Canary {
                port,
                expected,
                found,
            } => write!(
                f,
                "port {} reads {found}, not {expected}: reset or lost",
                port.get()
            ),
            Trouble::Watchdog { events } => {
                write!(f, "its watchdog saw stuck queues, events {events:#04x}")
            }
            Trouble::Access(error) => error.fmt(f),
        }
    }
}

/// News for the rest of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The chip is up, its ports are open, its PHYs look for partners.
    Ready {
        /// 0x341 or 0x340.
        product: u16,
        /// Of the chip.
        revision: u8,
    },
    /// It could not be brought up; its ports are stopped, if it listens. It is tried again every [`RETRY_US`](super::RETRY_US), and told
    /// again when the reason changes.
    BringUpFailed(BringUpError),
    /// A link has changed.
    Link {
        /// Its port.
        port: PortIndex,
        /// What happened.
        event: phy::Event,
    },
    /// A PHY does not do what it should, said once; it is set up again with each look.
    PhyFailed {
        /// Its port.
        port: PortIndex,
        /// How.
        cause: phy::Error,
    },
    /// All links are down, all ports are stopped, and the chip is brought up anew.
    Repair(Trouble),
    /// The counters of a port could not be read.
    CountersFailed(steps::Error),
}

/// Between [`supervise`](super::supervise) and the rest of the program.
#[derive(Debug, Default)]
pub struct Mailbox {
    events: RefCell<Deque<Event, 32>>,
    lost_events: Cell<u32>,
    pub(super) errand: RefCell<Errand>,
    pub(super) held: Cell<PortSet>,
    totals: RefCell<[mib::Totals; PORTS]>,
    totals_wanted: Cell<PortSet>,
    links: Cell<[Option<Up>; PORTS]>,
    rounds: Cell<u32>,
    repairs: Cell<u32>,
    failures: Cell<u32>,
}

impl Mailbox {
    /// The oldest event nobody has taken.
    pub fn take_event(&self) -> Option<Event> {
        self.events.try_borrow_mut().ok()?.pop_front()
    }

    /// The link of a port.
    pub fn link(&self, port: PortIndex) -> Option<Up> {
        self.links.get()[port.index()]
    }

    /// Asks for fresh [`Mailbox::total`]s of a port. They come within some rounds, and asking again meanwhile is nothing.
    pub fn want_totals(&self, port: PortIndex) {
        self.totals_wanted.set(self.totals_wanted.get().with(port));
    }

    /// A counter of a port by its place in the table, over all resets of the chip, as of [`Mailbox::totals_read_us`].
    pub fn total(&self, port: PortIndex, index: usize) -> Option<(&'static str, u64)> {
        self.totals.borrow()[port.index()].get(index)
    }

    /// When the counters of a port were read, in microseconds since start.
    pub fn totals_read_us(&self, port: PortIndex) -> Option<u64> {
        self.totals.borrow()[port.index()].read_us()
    }

    /// Events that nobody took in time.
    pub fn lost_events(&self) -> u32 {
        self.lost_events.get()
    }

    /// Rounds over all links that have ended, for the watchdog that wants to see life. Counts while bring-up fails,
    /// too: a switch that is gone is no reason to reset the machine.
    pub fn rounds(&self) -> u32 {
        self.rounds.get()
    }

    /// Times the chip had to be brought up again.
    pub fn repairs(&self) -> u32 {
        self.repairs.get()
    }

    /// Times it could not be brought up.
    pub fn failures(&self) -> u32 {
        self.failures.get()
    }

    pub(super) fn tell(&self, event: Event) {
        if self.events.borrow_mut().push_back(event).is_err() {
            self.lost_events.set(self.lost_events.get().wrapping_add(1));
        }
    }

    pub(super) fn set_link(&self, port: PortIndex, up: Option<Up>) {
        let mut links = self.links.get();
        links[port.index()] = up;
        self.links.set(links);
    }

    pub(super) fn end_round(&self) {
        self.rounds.set(self.rounds.get().wrapping_add(1));
    }

    /// The chip is in trouble: nobody knows about its links any more.
    pub(super) fn note_repair(&self, trouble: Trouble) {
        self.repairs.set(self.repairs.get().wrapping_add(1));
        self.links.set([None; PORTS]);
        self.held.set(PortSet::EMPTY);
        self.tell(Event::Repair(trouble));
    }

    pub(super) fn note_failure(&self) {
        self.failures.set(self.failures.get().wrapping_add(1));
    }

    /// The next port whose totals are wanted, of those after `last` first.
    pub(super) fn next_wanted(&self, last: PortIndex) -> Option<PortIndex> {
        let wanted = self.totals_wanted.get();
        let next = wanted
            .iter()
            .find(|port| *port > last)
            .or(wanted.iter().next())?;
        self.totals_wanted.set(wanted.without(next));
        Some(next)
    }

    pub(super) fn add_totals(&self, port: PortIndex, snapshot: mib::Snapshot, now_us: u64) {
        self.totals.borrow_mut()[port.index()].add(snapshot, now_us);
    }

    /// The chip's counters have been set to 0.
    pub(super) fn totals_cleared(&self) {
        self.totals
            .borrow_mut()
            .iter_mut()
            .for_each(mib::Totals::cleared);
    }
}
