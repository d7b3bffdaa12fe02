//! Where stamps come from: the core's counters, or on the host a counter that goes up whenever it is read.

#[cfg(target_os = "none")]
mod source {
    pub use hal::arch::irq::{entered, taken};
    pub use hal::arch::pmu::cycles;
    pub use hal::arch::timer::ticks;
}

#[cfg(not(target_os = "none"))]
mod source {
    use core::sync::atomic::{AtomicU32, Ordering};

    static NOW: AtomicU32 = AtomicU32::new(1);

    /// One more each time.
    pub fn cycles() -> u32 {
        NOW.fetch_add(1, Ordering::Relaxed)
    }

    /// As many as cycles.
    pub fn ticks() -> u64 {
        u64::from(cycles())
    }

    /// Just now.
    pub fn entered() -> u32 {
        cycles()
    }

    /// None.
    pub fn taken() -> u32 {
        0
    }
}

pub use source::*;
