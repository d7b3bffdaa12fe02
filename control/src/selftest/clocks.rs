//! The generic timer against the core's cycle counter: both count, forwards, and at one ratio.

use super::Bed;
use super::lab::{Answer, Lab, Op, Outcome, Trouble, detail};

/// What the counters read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// The generic timer.
    pub ticks: u64,
    /// Its rate.
    pub ticks_hz: u64,
    /// The cycle counter, if there is one that counts.
    pub cycles: Option<u64>,
}

/// Intervals measured.
const INTERVALS: usize = 16;
/// Of this length: the cycle counter stands still while the core sleeps, so the core must not.
const INTERVAL_US: u64 = 100;
/// Looks at a counter after which it counts as stuck.
const STUCK_LOOKS: u32 = 1_000_000;
/// So many thousandths may two intervals differ.
const TOLERANCE: u64 = 10;

/// What both counters advanced by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    ticks: u64,
    ticks_hz: u64,
    /// `None` if there is no such counter; that it ran backwards shows as a number beyond belief.
    cycles: Option<u64>,
}

/// Watches the counters for a while. `None` if the timer stands still.
pub(super) fn watch(bed: &mut dyn Bed, for_us: u64) -> Option<Interval> {
    let start = bed.clocks();
    let wanted = (start.ticks_hz * for_us / 1_000_000).max(1);
    for _ in 0..STUCK_LOOKS {
        let end = bed.clocks();
        let ticks = end.ticks.wrapping_sub(start.ticks);
        if ticks >= wanted {
            let cycles = start.cycles.zip(end.cycles);
            return Some(Interval {
                ticks,
                ticks_hz: start.ticks_hz,
                cycles: cycles.map(|(start, end)| end.wrapping_sub(start)),
            });
        }
    }
    None
}

pub(super) async fn test(lab: &Lab) -> Outcome {
    let mut khz = [0; INTERVALS];
    let mut hz = 0;
    for khz in &mut khz {
        let op = Op::Clocks {
            for_us: INTERVAL_US,
        };
        let Answer::Clocks(Some(interval)) = lab.ask(op).await else {
            return Err(Trouble::wrong(format_args!("the timer stands still")));
        };
        let Some(cycles) = interval.cycles else {
            return Err(Trouble::Absent("the core has no cycle counter that counts"));
        };
        hz = interval.ticks_hz;
        *khz = cycles.saturating_mul(hz / 1_000) / interval.ticks.max(1);
    }
    khz.sort_unstable();
    let median = khz[INTERVALS / 2];
    let near = |khz: &&u64| khz.abs_diff(median) <= median / 1_000 * TOLERANCE;
    let agree = khz.iter().filter(near).count();
    let measured = detail(format_args!(
        "timer {}.{:03} MHz, core {}.{:03} MHz, {}.{:02} cycles a tick, {agree} of {INTERVALS} intervals within {} %",
        hz / 1_000_000,
        hz / 1_000 % 1_000,
        median / 1_000,
        median % 1_000,
        median * 1_000 / hz.max(1),
        median * 100_000 / hz.max(1) % 100,
        TOLERANCE / 10
    ));
    // An emulator may take a while off between the two readings; most of the time it does not.
    let plausible = (10_000..=10_000_000).contains(&median);
    match plausible && agree > INTERVALS / 2 {
        true => Ok(measured),
        false => Err(Trouble::Wrong(measured)),
    }
}
