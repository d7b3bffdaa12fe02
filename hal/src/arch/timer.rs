//! The generic timer's virtual counter: time since power-up, and the one alarm of the poll loop.

use core::sync::atomic::{AtomicU64, Ordering};

/// Microseconds per tick, as a 64-bit binary fraction.
static US_PER_TICK: AtomicU64 = AtomicU64::new(0);
static START: AtomicU64 = AtomicU64::new(0);
/// Ticks per microsecond, 32 bits of it fraction.
static TICKS_PER_US: AtomicU64 = AtomicU64::new(1 << 32);

/// Sets the rate from `CNTFRQ_EL0`, or from the devicetree's `clock-frequency` where firmware left that register
/// empty, and takes now as time zero. Returns the rate in Hz, `None` if neither makes sense (1 MHz to 4 GHz).
pub fn init(devicetree_hz: Option<u32>) -> Option<u64> {
    let register: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mrs {}, cntfrq_el0", out(reg) register, options(nomem, nostack)) };
    let hz = devicetree_hz.map_or(register & 0xffff_ffff, u64::from);
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
    let ticks: u64;
    // SAFETY: reads a register; the ISB keeps the read from being made early.
    unsafe {
        core::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack))
    };
    ticks
}

/// Microseconds since [`init`].
#[inline]
pub fn now_us() -> u64 {
    let ticks = ticks().wrapping_sub(START.load(Ordering::Relaxed));
    ((u128::from(ticks) * u128::from(US_PER_TICK.load(Ordering::Relaxed))) >> 64) as u64
}

/// Raises the timer interrupt at `deadline_us`; `None` turns it off.
#[inline]
pub fn set_alarm(deadline_us: Option<u64>) {
    let Some(deadline_us) = deadline_us else {
        // SAFETY: turns the timer off.
        unsafe { core::arch::asm!("msr cntv_ctl_el0, xzr", options(nomem, nostack)) };
        return;
    };
    let ticks = (u128::from(deadline_us) * u128::from(TICKS_PER_US.load(Ordering::Relaxed))) >> 32;
    // Two ticks more, for what `now_us` rounds down.
    let at = START
        .load(Ordering::Relaxed)
        .saturating_add(ticks as u64)
        .saturating_add(2);
    // SAFETY: sets the compare value, then enables the timer unmasked.
    unsafe {
        core::arch::asm!(
            "msr cntv_cval_el0, {at}", "msr cntv_ctl_el0, {on}",
            at = in(reg) at, on = in(reg) 1u64, options(nomem, nostack)
        )
    };
}

/// Raises the timer interrupt in so many ticks of the counter.
pub fn set_alarm_in(ticks: u32) {
    // SAFETY: sets the distance, then enables the timer unmasked.
    unsafe {
        core::arch::asm!(
            "msr cntv_tval_el0, {ticks}", "msr cntv_ctl_el0, {on}",
            ticks = in(reg) u64::from(ticks & 0x7fff_ffff), on = in(reg) 1u64, options(nomem, nostack)
        )
    };
}

/// The clock that drivers wait on.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl crate::time::Clock for SystemClock {
    fn now_us(&mut self) -> u64 {
        now_us()
    }
}
