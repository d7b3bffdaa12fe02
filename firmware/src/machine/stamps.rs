//! The clock that stamps come from, and what is known of it, for [`Latency`].

use hal::arch::{irq, pmu, timer};
use hal::devicetree::Tree;
use log::info;

use crate::latency::{Facts, Latency, Mode};

/// A cycle counter that counts, and the timer's ticks when it was started.
pub(super) struct Started {
    counter: Option<pmu::Facts>,
    /// Both counters at the same time; the first is 0 if there is none.
    cycles: u64,
    ticks: u64,
}

/// Starts the cycle counter. Early, because its rate is known from what passes until [`Started::latency`].
pub(super) fn start() -> Started {
    let counter = pmu::start();
    Started {
        counter,
        ticks: timer::ticks(),
        cycles: counter.map_or(0, |_| pmu::total()),
    }
}

impl Started {
    /// Whether there is a cycle counter that counts.
    pub(super) fn counts(&self) -> bool {
        self.counter.is_some()
    }

    /// The accounts, if there is a clock for them. The core has not slept since [`start`].
    #[inline(never)]
    pub(super) fn latency(&self, mode: Mode, ticks_hz: u64, tree: &Tree<'_>) -> Latency {
        let (mode, emulated) = match self.counter {
            None => (Mode::Off, Some("there is no cycle counter that counts")),
            Some(facts) if !facts.has_cache_events => {
                let why = "the core's monitors know no cache, as those of silicon do";
                (mode, Some(why))
            }
            // Real time on a borrowed core, but no real device.
            Some(_) if tree.root().is_compatible("linux,dummy-virt") => {
                (mode, Some("the devicetree is a virtual machine's"))
            }
            Some(_) => (mode, None),
        };
        if mode == Mode::Off {
            info!("latency: not measured");
            let facts = Facts {
                emulated: emulated.filter(|_| self.counter.is_none()),
                ..Facts::default()
            };
            return Latency::new(mode, facts);
        }
        irq::stamp();
        let ticks = (timer::ticks() - self.ticks).max(1);
        // In kHz: 64 bits are enough for minutes then.
        let cycles_khz = (pmu::total() - self.cycles) * (ticks_hz / 1_000) / ticks;
        let time = emulated.map_or("silicon's", |_| "emulated");
        info!(
            "latency: measured by a counter of {} MHz, {time} time",
            cycles_khz / 1_000
        );
        let facts = Facts {
            cycles_hz: cycles_khz * 1_000,
            ticks_hz,
            emulated,
        };
        Latency::new(mode, facts)
    }
}
