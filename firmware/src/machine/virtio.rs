//! Virtual machines' network cards, and what the crate `virtio-drivers` asks of its platform for them: DMA memory and
//! cache upkeep.

use core::alloc::Layout;
use core::fmt::Write;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use hal::arch::cache;
use hal::arch::irq::Gic;
use hal::devicetree::{Node, Trigger};
use hal::net::virtio::{BUFFERS, VirtioNic};
use log::info;
use virtio_drivers::transport::mmio::{MmioError, MmioTransport, VirtIOHeader};
use virtio_drivers::transport::{DeviceType, Transport};
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

use super::card::Card;
use super::{
    Block, HEAP_AFTER_PORTS, HEAP_PER_PORT, Interfaces, MAX_INTERFACES, Machine, dma, heap,
    left_out,
};
use crate::network::Name;

/// The magic number. Spec: virtio 1.2, 4.2.2.
const VIRTIO: Block = Block {
    least: size_of::<VirtIOHeader>(),
    probe: 0,
};

const PAGE: usize = 4096;

/// Whether every virtio device sees the caches (`dma-coherent`). One that does not makes all of them use uncached rings.
static COHERENT: AtomicBool = AtomicBool::new(true);

/// Starts every card there is.
pub(super) fn start(machine: &mut Machine, gic: &mut Gic, interfaces: &mut Interfaces) {
    let tree = machine.tree;
    let coherent = tree
        .compatible("virtio,mmio")
        .all(|node| node.dma_coherent());
    COHERENT.store(coherent, Ordering::Relaxed);
    for node in tree.compatible("virtio,mmio") {
        start_one(machine, &node, gic, interfaces);
    }
}

/// Starts the card of a node, or says why not. An empty place is none and nothing to speak of.
fn start_one(
    machine: &mut Machine,
    node: &Node,
    gic: &mut Gic,
    interfaces: &mut Interfaces,
) -> Option<()> {
    let (address, len) = machine.registers(node, 0, &VIRTIO)?;
    let header = NonNull::new(address as *mut VirtIOHeader)?;
    // SAFETY: the tree says that virtio registers are there; they were just mapped, and nobody else uses them.
    let transport = match unsafe { MmioTransport::new(header, len) } {
        Ok(transport) => transport,
        // An empty place has device type 0; of `virt`'s 32 places most are empty.
        Err(MmioError::InvalidDeviceID(_)) => return None,
        Err(error) => {
            left_out(node, error);
            return None;
        }
    };
    if transport.device_type() != DeviceType::Network {
        let kind = transport.device_type();
        info!("{}: {kind:?} device, not used", node.path());
        return None;
    }
    if interfaces.is_full() {
        let full = format_args!("there are {MAX_INTERFACES} interfaces already");
        left_out(node, full);
        return None;
    }
    if heap::free() < HEAP_PER_PORT + HEAP_AFTER_PORTS {
        left_out(node, "no memory left for its buffers");
        return None;
    }
    interfaces.pool.grow(BUFFERS);
    let nic = VirtioNic::bring_up(transport, &mut interfaces.pool)
        .map_err(|error| left_out(node, error))
        .ok()?;
    let line = node.interrupt(0).and_then(|interrupt| interrupt.gic());
    let line = line.map_err(|error| left_out(node, error)).ok()?;
    let slot = gic
        .enable(line.intid(), line.trigger == Trigger::Level)
        .map_err(|error| left_out(node, error))
        .ok()?;
    let mut name = Name::new();
    // Three characters and one digit always fit.
    let _ = write!(name, "eth{}", interfaces.ports.len());
    interfaces.add(name, Card::Virtio(nic), slot.mask());
    Some(())
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
