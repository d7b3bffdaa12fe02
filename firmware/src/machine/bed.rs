//! The machine as the board's self-test sees it.

use super::armada;
use super::card::Card;
use crate::network::Network;
use crate::selftest::{self, BLOCK_BYTES, Clocks};
use hal::arch::exceptions::{self, Attempt};
use hal::arch::mmu::{BLOCK, Mapper};
use hal::arch::{cache, pmu, timer};
use hal::devicetree::{Region, Tree};
use hal::soc::armada37xx;

/// Blocks of memory that are looked at, at most: 16 GiB.
const MOST_BLOCKS: usize = 8192;

const _: () = assert!(BLOCK_BYTES == BLOCK);

pub(super) struct Bed<'a> {
    pub(super) network: &'a mut Network<Card>,
    pub(super) tree: &'static Tree<'static>,
    pub(super) watch: Option<&'a mut armada::Watch>,
    pub(super) mapper: &'a mut Mapper,
    pub(super) counters: Counters,
}

/// The counters that there are.
#[derive(Clone, Copy)]
pub(super) struct Counters {
    pub(super) ticks_hz: u64,
    /// There is a cycle counter, and it counts.
    pub(super) cycles: bool,
}

impl Bed<'_> {
    /// Memory that is nobody's: what the tree reserves is not, nor what is mapped, which is all that we use.
    fn free_blocks(&self) -> impl Iterator<Item = u64> + '_ {
        let blocks = self.tree.memory().flatten().flat_map(|region| {
            let first = region.address.div_ceil(BLOCK);
            let end = region.address.saturating_add(region.size) / BLOCK;
            (first..end).map(|number| number * BLOCK)
        });
        let secure = self.tree.root().is_compatible("marvell,armada3710");
        let secure = secure.then_some(armada37xx::SECURE_MEMORY);
        let span = |region: Region| region.address..region.address.saturating_add(region.size);
        blocks.take(MOST_BLOCKS).filter(move |block| {
            let reserved = self.tree.reserved_memory().flatten();
            let mut reserved = reserved
                .map(|reserved| span(reserved.region))
                .chain(secure.clone());
            self.mapper.is_free_block(*block)
                && !reserved.any(|span| *block < span.end && span.start < *block + BLOCK)
        })
    }
}

impl selftest::Bed for Bed<'_> {
    fn now_us(&self) -> u64 {
        timer::now_us()
    }

    fn clocks(&mut self) -> Clocks {
        Clocks {
            ticks: timer::ticks(),
            ticks_hz: self.counters.ticks_hz,
            cycles: self.counters.cycles.then(pmu::total),
        }
    }

    fn free_memory(&mut self, found: &mut [u64]) -> usize {
        let free = self.free_blocks().count();
        let stride = (free / found.len().max(1)).max(1);
        for (found, block) in found.iter_mut().zip(self.free_blocks().step_by(stride)) {
            *found = block;
        }
        free
    }

    fn with_memory(
        &mut self,
        address: u64,
        bytes: usize,
        work: &mut dyn FnMut(&mut [u64]),
    ) -> Result<(), &'static str> {
        let block = address & !(BLOCK - 1);
        if address + bytes as u64 > block + BLOCK {
            return Err("not in one block");
        }
        let mut aborted = false;
        let mapped = self.mapper.with_block(block, || {
            let at = address as usize;
            // SAFETY: mapped, and memory by the tree.
            if unsafe { exceptions::attempt(Attempt::Read(at)) }.is_some() {
                aborted = true;
                return;
            }
            // Whatever was left in a cache must not come back over what is written here.
            cache::clean_invalidate(at, bytes);
            // SAFETY: mapped, nobody else's, aligned, and any content is a number.
            work(unsafe { core::slice::from_raw_parts_mut(at as *mut u64, bytes / 8) });
            cache::clean_invalidate(at, bytes);
        });
        match (mapped, aborted) {
            (Err(_), _) => Err("cannot be mapped"),
            (Ok(()), true) => Err("reading it aborts"),
            (Ok(()), false) => Ok(()),
        }
    }
}
