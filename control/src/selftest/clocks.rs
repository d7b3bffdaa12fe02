//! The generic timer against the core's cycle counter: both count, forwards, and at one ratio.

use super::Bed;
use super::Verdict;
use super::lab::{Lab, NOT_DONE, Op, Outcome, Trouble};

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
/// So many hundredths may two intervals differ.
const TOLERANCE: u64 = 1;

/// What both counters advanced by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interval {
    ticks: u64,
    ticks_hz: u64,
    /// `None` if there is no such counter; that it ran backwards shows as a number beyond belief.
    cycles: Option<u64>,
}

/// Watches the counters for [`INTERVAL_US`]; what was seen is in the lab. [`NOT_DONE`] if the timer stands still.
pub(super) fn watch(lab: &Lab, bed: &mut dyn Bed) -> u64 {
    let start = bed.clocks();
    let wanted = (start.ticks_hz * INTERVAL_US / 1_000_000).max(1);
    for _ in 0..STUCK_LOOKS {
        let end = bed.clocks();
        let ticks = end.ticks.wrapping_sub(start.ticks);
        if ticks >= wanted {
            let cycles = start.cycles.zip(end.cycles);
            lab.interval.set(Interval {
                ticks,
                ticks_hz: start.ticks_hz,
                cycles: cycles.map(|(start, end)| end.wrapping_sub(start)),
            });
            return 0;
        }
    }
    NOT_DONE
}

pub(super) async fn test(lab: &Lab) -> Outcome {
    let mut khz = [0; INTERVALS];
    for khz in &mut khz {
        if lab.ask(Op::Clocks).await == NOT_DONE {
            return Err(Trouble::Wrong("the timer stands still"));
        }
        let Interval {
            ticks,
            ticks_hz,
            cycles: Some(cycles),
        } = lab.interval.get()
        else {
            return Err(Trouble::Absent("the core has no cycle counter that counts"));
        };
        *khz = cycles.saturating_mul(ticks_hz / 1_000) / ticks.max(1);
    }
    // The middle one: an emulator may take a while off between two readings.
    khz.sort_unstable();
    let median = khz[INTERVALS / 2];
    let near = |khz: &&u64| khz.abs_diff(median) <= median / 100 * TOLERANCE;
    let agree = khz.iter().filter(near).count();
    let timer = lab.interval.get().ticks_hz / 1_000;
    let hundredths = median * 100 / timer.max(1);
    lab.say(0, format_args!(
        "timer {}.{:03} MHz, core {}.{:03} MHz, {}.{:02} cycles a tick, {agree} of {INTERVALS} intervals within {TOLERANCE} %",
        timer / 1_000,
        timer % 1_000,
        median / 1_000,
        median % 1_000,
        hundredths / 100,
        hundredths % 100,
    ));
    if !(10_000..=10_000_000).contains(&median) || agree <= INTERVALS / 2 {
        lab.judge(0, Verdict::Failed);
    }
    Ok(())
}
