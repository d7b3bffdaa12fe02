//! What the crate `virtio-drivers` asks of its platform: DMA memory and cache upkeep.

use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use hal::arch::cache;
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

use super::dma;

const PAGE: usize = 4096;

/// Whether every virtio device sees the caches (`dma-coherent`). One that does not makes all of them use uncached rings.
static COHERENT: AtomicBool = AtomicBool::new(true);

/// Says, before the first device starts, that the devices do not see the caches.
pub(super) fn not_coherent() {
    COHERENT.store(false, Ordering::Relaxed);
}

/// This machine: physical addresses are virtual addresses.
pub(super) struct Platform;

// SAFETY: memory comes zeroed from the heap or from the uncached region, page-aligned, and is never handed out twice.
unsafe impl Hal for Platform {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let failed = (0, NonNull::dangling());
        let Ok(layout) = Layout::from_size_align(pages * PAGE, PAGE) else {
            return failed;
        };
        let memory = if COHERENT.load(Ordering::Relaxed) {
            // SAFETY: the size is not zero: the crate never asks for no pages.
            NonNull::new(unsafe { alloc::alloc::alloc_zeroed(layout) })
        } else {
            dma::take(layout.size())
        };
        memory.map_or(failed, |memory| (memory.addr().get() as PhysAddr, memory))
    }

    unsafe fn dma_dealloc(_: PhysAddr, memory: NonNull<u8>, pages: usize) -> i32 {
        if COHERENT.load(Ordering::Relaxed)
            && let Ok(layout) = Layout::from_size_align(pages * PAGE, PAGE)
        {
            // SAFETY: the caller returns what `dma_alloc` gave.
            unsafe { alloc::alloc::dealloc(memory.as_ptr(), layout) };
        }
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _size: usize) -> NonNull<u8> {
        // Asked by the PCI transport only, which is not in use.
        NonNull::new(address as *mut u8).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        if !COHERENT.load(Ordering::Relaxed) {
            cache::clean_invalidate(buffer.addr().get(), buffer.len());
        }
        buffer.addr().get() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, buffer: NonNull<[u8]>, direction: BufferDirection) {
        if !COHERENT.load(Ordering::Relaxed) && direction != BufferDirection::DriverToDevice {
            // Lines fetched while the device wrote are clean, so nothing is written back over its data.
            cache::clean_invalidate(buffer.addr().get(), buffer.len());
        }
    }
}
