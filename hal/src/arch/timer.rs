//! The generic timer's virtual counter: time since power-up, and the one alarm of the poll loop.

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{
    CNTFRQ_EL0, CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTV_TVAL_EL0, CNTVCT_EL0, Readable, Writeable,
};
use core::sync::atomic::{AtomicU64, Ordering};

/// Microseconds per tick, as a 64-bit binary fraction.
static US_PER_TICK: AtomicU64 = AtomicU64::new(0);
static START: AtomicU64 = AtomicU64::new(0);
/// Ticks per microsecond, 32 bits of it fraction.
static TICKS_PER_US: AtomicU64 = AtomicU64::new(1 << 32);

/// Sets the rate from `CNTFRQ_EL0`, or from the devicetree's `clock-frequency` where firmware left that register
/// empty, and takes now as time zero. Returns the rate in Hz, `None` if neither makes sense (1 MHz to 4 GHz).
pub fn init(devicetree_hz: Option<u32>) -> Option<u64> {
    let hz = devicetree_hz.map_or(CNTFRQ_EL0.get() & 0xffff_ffff, u64::from);
    if !(1_000_001..=4_000_000_000).contains(&hz) {
        return None;
    }
    // At or below 1 MHz the fraction would not fit; no Arm system has such a counter.
    let fraction = (1_000_000u128 << 64) / u128::from(hz);
    US_PER_TICK.store(u64::try_from(fraction).ok()?, Ordering::Relaxed);
    // Rounded up: an alarm that is early by its rounding wakes again and again until it is due.
    TICKS_PER_US.store((hz << 32).div_ceil(1_000_000), Ordering::Relaxed);
    START.store(ticks(), Ordering::Relaxed);
    Some(hz)
}

/// The raw counter.
#[inline]
pub fn ticks() -> u64 {
    // The counter may otherwise be read early.
    barrier::isb(barrier::SY);
    CNTVCT_EL0.get()
}

/// The raw counter, which may be read before what comes before: by no more than the core runs ahead.
#[inline(always)]
pub fn ticks_about_now() -> u64 {
    CNTVCT_EL0.get()
}

/// Microseconds since [`init`].
#[inline]
pub fn now_us() -> u64 {
    let ticks = ticks().wrapping_sub(START.load(Ordering::Relaxed));
    ((u128::from(ticks) * u128::from(US_PER_TICK.load(Ordering::Relaxed))) >> 64) as u64
}

/// Nanoseconds since [`init`]: as fine as the counter, which is not as fine as that.
pub fn now_ns() -> u64 {
    ns_at(ticks())
}

/// Nanoseconds since [`init`] when the counter was at `ticks`.
pub fn ns_at(ticks: u64) -> u64 {
    let ticks = ticks.wrapping_sub(START.load(Ordering::Relaxed));
    let fraction = u128::from(US_PER_TICK.load(Ordering::Relaxed));
    ((((u128::from(ticks) * fraction) >> 32) * 1000) >> 32) as u64
}

/// Raises the timer interrupt at `deadline_us`; `None` turns it off.
#[inline]
pub fn set_alarm(deadline_us: Option<u64>) {
    let Some(deadline_us) = deadline_us else {
        CNTV_CTL_EL0.set(0);
        return;
    };
    let ticks = (u128::from(deadline_us) * u128::from(TICKS_PER_US.load(Ordering::Relaxed))) >> 32;
    // Two ticks more, for what `now_us` rounds down.
    let at = START
        .load(Ordering::Relaxed)
        .saturating_add(ticks as u64)
        .saturating_add(2);
    CNTV_CVAL_EL0.set(at);
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET);
}

/// Ticks since the alarm that was set last was due; 0 before.
pub fn overdue() -> u64 {
    ticks().saturating_sub(CNTV_CVAL_EL0.get())
}

/// Raises the timer interrupt in so many ticks of the counter.
pub fn set_alarm_in(ticks: u32) {
    CNTV_TVAL_EL0.set(u64::from(ticks & 0x7fff_ffff));
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET);
}

/// The clock that drivers wait on.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl crate::time::Clock for SystemClock {
    fn now_us(&mut self) -> u64 {
        now_us()
    }
}
