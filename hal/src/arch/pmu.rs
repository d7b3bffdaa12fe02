//! The cycle counter of the performance monitors, as a clock for short intervals.
//!
//! One instruction reads it, at the core's own rate. It does not count while the core sleeps in WFI (Cortex-A53 TRM,
//! 2.4: the clock is stopped), so an interval that may span a sleep takes the generic timer ([`super::timer::ticks`]).
//! Boot code at EL2 has already left the counters to EL1 (`MDCR_EL2`); what firmware at EL3 forbids shows as a counter
//! that stands still, which [`start`] notices.
//!
//! **Emulated or not** cannot be asked for: an emulator gives the same `MIDR_EL1` as the part it plays, and the
//! devicetree of an emulated board is the board's. But an emulator has no caches to count: QEMU's Cortex-A53 offers the
//! cycle event and hardly another (`target/arm`, `pmu_init`), where the Cortex-A53 always offers accesses to its data
//! cache (TRM 12.4.2: event 0x04 is implemented). Under KVM the guest sees the host's counters, and real time. So a core
//! whose monitors know no event of the data cache is taken for software: [`Facts::has_cache_events`]. The rate proves
//! nothing: both QEMU's 1 GHz and an Armada's come out at round numbers.

use core::arch::asm;

/// `PMCR_EL0`: enable, reset the cycle counter, all 64 bits of it. `D` stays 0: every cycle counts.
const PMCR_START: u64 = 1 | 1 << 2 | 1 << 6;
/// The cycle counter's bit in `PMCNTENSET_EL0`.
const CYCLE_COUNTER: u64 = 1 << 31;
/// `L1D_CACHE`, an access to the data cache, in `PMCEID0_EL0`.
const DATA_CACHE_EVENT: u64 = 1 << 4;
/// Reads after which a counter that has not moved does not count.
const STILL_READS: u32 = 1_000;

/// What is known of the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The monitors can count accesses to a data cache, as those of silicon can.
    pub has_cache_events: bool,
}

/// Starts the counter. `None` if the core has no performance monitors that we know, or they do not count for EL1.
pub fn start() -> Option<Facts> {
    let (features, events): (u64, u64);
    // SAFETY: the first register exists on every core; the others where it says so. They only count.
    unsafe {
        asm!("mrs {}, id_aa64dfr0_el1", out(reg) features, options(nomem, nostack));
        // Spec: Arm ARM, ID_AA64DFR0_EL1.PMUVer: 0 is none, 15 is not the architecture's.
        if matches!(features >> 8 & 0xf, 0 | 0xf) {
            return None;
        }
        asm!(
            "msr pmccfiltr_el0, xzr",
            "msr pmcntenset_el0, {counter}",
            "msr pmcr_el0, {start}",
            "isb",
            "mrs {events}, pmceid0_el0",
            counter = in(reg) CYCLE_COUNTER, start = in(reg) PMCR_START, events = out(reg) events,
            options(nomem, nostack)
        );
    }
    let first = total();
    (0..STILL_READS).any(|_| total() != first).then_some(Facts {
        has_cache_events: events & DATA_CACHE_EVENT != 0,
    })
}

/// Cycles since [`start`], sleep not counted. Only after it succeeded: elsewhere the register may not exist.
#[inline(always)]
pub fn total() -> u64 {
    let cycles: u64;
    // SAFETY: reads a counter. No barrier: what is measured is longer than what may be reordered.
    unsafe { asm!("mrs {}, pmccntr_el0", out(reg) cycles, options(nomem, nostack)) };
    cycles
}

/// The lower half of [`total`]: wraps after some seconds.
#[inline(always)]
pub fn cycles() -> u32 {
    total() as u32
}
