//! The heap, for start-up only.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use linked_list_allocator::Heap;
use spin::Mutex;

struct StartupHeap {
    heap: Mutex<Heap>,
    sealed: AtomicBool,
    used: AtomicUsize,
}

#[global_allocator]
static HEAP: StartupHeap = StartupHeap {
    heap: Mutex::new(Heap::empty()),
    sealed: AtomicBool::new(false),
    used: AtomicUsize::new(0),
};

// SAFETY: the crate's heap hands out memory as the trait asks; handlers of interrupts never allocate, so that the
// lock is never waited for.
unsafe impl GlobalAlloc for StartupHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.sealed.load(Ordering::Relaxed) {
            panic!("allocation of {} bytes after start-up", layout.size());
        }
        let allocated = self.heap.lock().allocate_first_fit(layout);
        allocated.map_or(core::ptr::null_mut(), |memory| {
            self.used.fetch_add(layout.size(), Ordering::Relaxed);
            memory.as_ptr()
        })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let Some(memory) = NonNull::new(memory) else {
            return;
        };
        self.used.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller returns what `alloc` gave for this layout.
        unsafe { self.heap.lock().deallocate(memory, layout) };
    }
}

/// Gives the image's heap region to the allocator.
///
/// # Safety
///
/// Called once, before the first allocation.
pub(super) unsafe fn init() {
    let (start, len) = hal::arch::mmu::heap_region();
    // SAFETY: the region is mapped, ours alone, and lives as long as the image.
    unsafe { HEAP.heap.lock().init(start, len) };
}

/// From here on an allocation is a bug, and says so.
pub(super) fn seal() {
    HEAP.sealed.store(true, Ordering::Relaxed);
}

/// Bytes in use, and bytes there are.
pub(super) fn usage() -> (usize, usize) {
    (
        HEAP.used.load(Ordering::Relaxed),
        hal::arch::mmu::heap_region().1,
    )
}

/// Bytes that can still be had at start-up.
pub(super) fn free() -> usize {
    HEAP.heap.lock().free()
}
