//! Counts what is allocated while the network runs: nothing may be.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static WATCHING: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note() {
    if WATCHING.get() {
        COUNT.set(COUNT.get() + 1);
    }
}

// SAFETY: every call goes on to the system's allocator as it came; counting touches constant-initialised cells only.
#[expect(unsafe_code, reason = "there is no other way to see what is allocated")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promises are the ones wanted.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Allocations of this thread during `work`.
pub fn during<R>(work: impl FnOnce() -> R) -> (R, usize) {
    let before = COUNT.get();
    WATCHING.set(true);
    let result = work();
    WATCHING.set(false);
    (result, COUNT.get() - before)
}
