//! Data cache maintenance by address, to the point of coherency.

/// Bytes in a cache line of the Cortex-A53. Spec: Cortex-A53 TRM 6.1; `CTR_EL0` says the same.
pub const LINE: usize = 64;

macro_rules! by_line {
    ($(#[$doc:meta])* $name:ident, $op:literal) => {
        $(#[$doc])*
        pub fn $name(address: usize, len: usize) {
            let end = address.saturating_add(len);
            let mut line = address & !(LINE - 1);
            while line < end {
                // SAFETY: cleaning and clean-invalidating change no value that memory shows to this core.
                unsafe { core::arch::asm!(concat!("dc ", $op, ", {}"), in(reg) line, options(nostack, preserves_flags)) };
                line += LINE;
            }
            // SAFETY: a barrier.
            unsafe { core::arch::asm!("dsb sy", options(nostack, preserves_flags)) };
        }
    };
}

by_line!(
    /// Writes dirty lines of the range back, so that a device that does not snoop reads what the core wrote.
    clean, "cvac"
);
by_line!(
    /// Writes dirty lines back and drops the lines, so that the core next reads what a device wrote.
    clean_invalidate, "civac"
);
