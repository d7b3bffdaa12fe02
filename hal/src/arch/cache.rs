//! Data cache maintenance by address, to the point of coherency.

/// Bytes in a cache line of the Cortex-A53. Spec: Cortex-A53 TRM 6.1; `CTR_EL0` says the same.
pub const LINE: usize = 64;

/// Writes dirty lines back and drops the lines, so that a device that does not snoop reads what the core wrote, and the
/// core next reads what a device wrote.
///
/// There is no cleaning without dropping: errata of the Cortex-A53 (855873 at r0p4, four more before r0p3) make
/// `DC CVAC` unsafe where the firmware has not set the chicken bit.
pub fn clean_invalidate(address: usize, len: usize) {
    let end = address.saturating_add(len);
    let mut line = address & !(LINE - 1);
    while line < end {
        // SAFETY: changes no value that memory shows to this core.
        unsafe {
            core::arch::asm!("dc civac, {}", in(reg) line, options(nostack, preserves_flags));
        }
        line += LINE;
    }
    // SAFETY: a barrier.
    unsafe { core::arch::asm!("dsb sy", options(nostack, preserves_flags)) };
}
