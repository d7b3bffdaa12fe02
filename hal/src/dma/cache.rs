//! What a device that does not see the caches needs of them.
//!
//! ```text
//!   to the device      CPU writes -> clean ------------------> publish -> doorbell -> device reads
//!   from the device    clean_invalidate -> publish -> doorbell -> device writes -> observe -> invalidate -> CPU reads
//! ```
//!
//! Both ends of the second row are needed. Before: a line that the CPU left dirty could be written back over what the
//! device wrote. After: the core fetches lines on speculation at any time, and may have fetched the old content while
//! the device was still writing.
//!
//! Descriptors take no part: they live in uncached memory, because two of them share a line.

/// Bytes of a cache line. Spec: Cortex-A53 TRM 6.1.
pub const LINE: usize = 64;

/// The way between the memory of this program and a device with 32-bit addresses.
///
/// Cache operations take whole lines: a line that is only partly meant is a bug of the caller, because something else
/// may live in its other part.
pub trait Dma {
    /// Where the device finds the `bytes` bytes from `start` on, `None` if they are out of its reach.
    fn bus_addr(&mut self, start: *const u8, bytes: usize) -> Option<u32>;
    /// Writes back what the CPU wrote. Complete at the next [`Dma::publish`].
    fn clean(&mut self, memory: &[u8]);
    /// Writes back what the CPU wrote and drops the lines. Complete at the next [`Dma::publish`].
    fn clean_invalidate(&mut self, memory: &mut [u8]);
    /// Drops the lines, of which the CPU wrote none. Complete on return.
    fn invalidate(&mut self, memory: &mut [u8]);
    /// Orders stores and cache operations before the register write that follows.
    fn publish(&mut self);
    /// Orders the register read before it and the loads from DMA memory that follow.
    fn observe(&mut self);
}

/// The whole lines that cover bytes `start..end` of a buffer that begins with a line.
#[inline]
pub fn lines(range: core::ops::Range<usize>) -> core::ops::Range<usize> {
    range.start & !(LINE - 1)..range.end.next_multiple_of(LINE)
}

/// A device that snoops nothing, on a machine whose addresses are the same on both sides.
#[cfg(target_os = "none")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Noncoherent;

#[cfg(target_os = "none")]
mod arm {
    #![expect(
        unsafe_code,
        reason = "cache maintenance and barriers are instructions"
    )]

    use super::{Dma, LINE, Noncoherent};

    /// Writes back and drops every line. Eight a round: a receive buffer has two dozen, for every frame.
    #[inline]
    fn each_line(memory: &[u8]) {
        let (eights, rest) = memory.as_chunks::<{ 8 * LINE }>();
        for eight in eights {
            // SAFETY: cleans and drops lines of memory that we hold, which loses nothing, dirty or not.
            unsafe {
                core::arch::asm!(
                    "dc civac, {line}",
                    ".rept 7",
                    "add {line}, {line}, #64",
                    "dc civac, {line}",
                    ".endr",
                    line = inout(reg) eight.as_ptr() => _, options(nostack, preserves_flags)
                );
            }
        }
        let core::ops::Range { start: mut at, end } = rest.as_ptr_range();
        while at < end {
            // SAFETY: the same.
            unsafe {
                core::arch::asm!("dc civac, {}", in(reg) at, options(nostack, preserves_flags));
            }
            at = at.wrapping_add(LINE);
        }
    }

    impl Dma for Noncoherent {
        #[inline]
        fn bus_addr(&mut self, start: *const u8, bytes: usize) -> Option<u32> {
            let start = start.addr();
            u32::try_from(start.checked_add(bytes)?).ok()?;
            u32::try_from(start).ok()
        }

        #[inline]
        fn clean(&mut self, memory: &[u8]) {
            // Not `cvac`, which errata of the Cortex-A53 make unsafe, see `arch::cache`.
            each_line(memory);
        }

        #[inline]
        fn clean_invalidate(&mut self, memory: &mut [u8]) {
            each_line(memory);
        }

        #[inline]
        fn invalidate(&mut self, memory: &mut [u8]) {
            // Not `ivac`: under a hypervisor, and by erratum on some cores, it is the same; and it never loses data.
            each_line(memory);
            // SAFETY: a barrier.
            unsafe { core::arch::asm!("dsb sy", options(nostack, preserves_flags)) };
        }

        #[inline]
        fn publish(&mut self) {
            // `st` orders stores only, and cache maintenance is not one.
            // SAFETY: a barrier.
            unsafe { core::arch::asm!("dsb sy", options(nostack, preserves_flags)) };
        }

        #[inline]
        fn observe(&mut self) {
            // SAFETY: a barrier.
            unsafe { core::arch::asm!("dmb oshld", options(nostack, preserves_flags)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_to_whole_lines() {
        assert_eq!(lines(66..128), 64..128);
        assert_eq!(lines(66..129), 64..192);
        assert_eq!(lines(0..1), 0..64);
        assert_eq!(lines(64..64), 64..64);
    }
}
