//! Uncached memory for the rings of devices that do not snoop: handed out once, never taken back.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use hal::arch::mmu;

const PAGE: usize = 4096;

static USED: AtomicUsize = AtomicUsize::new(0);

/// `bytes` of zeroed memory, aligned to a page; `None` when there is no more.
pub(super) fn take(bytes: usize) -> Option<NonNull<u8>> {
    let (start, len) = mmu::dma_region();
    let used = USED.load(Ordering::Relaxed);
    let end = used.checked_add(bytes.next_multiple_of(PAGE))?;
    if end > len {
        return None;
    }
    USED.store(end, Ordering::Relaxed);
    // SAFETY: inside the region, which nobody else touches, and handed out once: start-up runs on one core.
    unsafe {
        let memory = start.add(used);
        memory.write_bytes(0, bytes);
        NonNull::new(memory)
    }
}
