//! From the devicetree to a running system: which drivers start, in which order, with what.
//!
//! Everything about the machine comes from the tree. A device whose node makes no sense is named in one line and left
//! out; the others start.
#![expect(unsafe_code, reason = "start-up turns addresses of the devicetree into drivers")]

mod console;
mod fatal;
mod heap;
mod virtio;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt::Display;
use hal::arch::boot::{Park, park};
use hal::arch::irq::{Gic, Slot};
use hal::arch::mmu::{self, Kind, Mapper};
use hal::arch::{exceptions, irq, psci, timer};
use hal::devicetree::{HEADER_BYTES, Node, Tree, Trigger};
use hal::net::virtio::VirtioNic;
use hal::net::{Nic, Pool};
use log::{error, info, warn};
use virtio_drivers::transport::mmio::{MmioError, MmioTransport, VirtIOHeader};

/// The network card of this machine.
type Card = VirtioNic<virtio::Platform, MmioTransport<'static>>;

/// What start-up has in hand.
struct Machine {
    mapper: Mapper,
    tree: &'static Tree<'static>,
}

/// Starts the system. Never returns: stops with a [`Park`] code if there is not even a console.
pub fn start(devicetree: usize) -> ! {
    // SAFETY: the boot code calls this once.
    let mapper = unsafe { Mapper::take_over() };
    let Ok(mut mapper) = mapper else { park(Park::NoTables) };
    // SAFETY: nothing was allocated before.
    unsafe { heap::init() };
    exceptions::on_fatal(fatal::exception);
    let blob = map_devicetree(&mut mapper, devicetree);
    let Ok(tree) = Tree::new(blob) else { park(Park::BadDevicetree) };
    let tree: &'static Tree<'static> = Box::leak(Box::new(tree));
    let mut machine = Machine { mapper, tree };
    machine.forbid_reserved();
    machine.run()
}

/// Maps the blob: its first page tells how long it is.
fn map_devicetree(mapper: &mut Mapper, address: usize) -> &'static [u8] {
    if address == 0 || address % 8 != 0 {
        park(Park::NoDevicetree);
    }
    let mut map = |len: usize| -> &'static [u8] {
        if mapper.map(address as u64, len as u64, Kind::ReadOnly).is_err() {
            park(Park::NoDevicetree);
        }
        // SAFETY: just mapped, read-only, and nobody else writes there.
        unsafe { core::slice::from_raw_parts(address as *const u8, len) }
    };
    match Tree::blob_len(map(HEADER_BYTES)) {
        Ok(len) => map(len),
        Err(hal::devicetree::Error::Magic(_)) => park(Park::NoDevicetree),
        Err(_) => park(Park::BadDevicetree),
    }
}

/// Reports a device that is left out.
fn left_out(node: &Node, why: impl Display) {
    warn!("{}: not used: {why}", node.path());
}

impl Machine {
    /// Memory that belongs to somebody else is never mapped.
    fn forbid_reserved(&mut self) {
        for region in self.tree.reservations() {
            self.mapper.forbid(region.address, region.size);
        }
        for reserved in self.tree.reserved_memory().flatten() {
            if reserved.no_map {
                self.mapper.forbid(reserved.region.address, reserved.region.size);
            }
        }
    }

    /// Maps register block `index` of a node. Returns its address and length in bytes.
    fn registers(&mut self, node: &Node, index: usize) -> Option<(usize, usize)> {
        let region = match node.reg(index) {
            Ok(region) => region,
            Err(error) => {
                left_out(node, error);
                return None;
            }
        };
        match self.mapper.map(region.address, region.size, Kind::Device) {
            Ok(()) => Some((region.address as usize, region.size as usize)),
            Err(error) => {
                left_out(node, error);
                None
            }
        }
    }

    fn start_console(&mut self) {
        let chosen = self.tree.stdout().ok().map(|(node, _)| node).filter(|node| node.is_compatible("arm,pl011"));
        let Some(node) = chosen.or_else(|| self.tree.compatible("arm,pl011").next()) else { return };
        let Some((address, _)) = self.registers(&node, 0) else { return };
        // SAFETY: the tree says that a PL011 is there; it was just mapped, and nobody else uses it.
        if let Some(uart) = unsafe { hal::uart::pl011::Pl011::new(address) } {
            console::init(uart);
        }
    }

    fn run(mut self) -> ! {
        self.start_console();
        info!("hello");
        fatal::succeed()
    }
}
