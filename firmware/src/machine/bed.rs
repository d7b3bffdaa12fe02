//! The machine as the board's self-test sees it.

use super::armada::Watch;
use super::card::Card;
use crate::network::Network;
use crate::selftest::{self, BLOCK_BYTES, Clocks, Way};
use crate::shell::hardware::Hardware;
use hal::arch::exceptions::{self, Attempt};
use hal::arch::mmu::{BLOCK, Mapper};
use hal::arch::{cache, pmu, timer};
use hal::devicetree::Tree;
use hal::net::{Link, Nic};
use hal::soc::armada37xx;

/// Bytes of both addresses of a frame.
const ADDRESSES: usize = 12;
/// Blocks of memory that are looked at, at most: 8 GiB. A damaged tree may claim any number.
const MOST_BLOCKS: usize = 4096;
/// Reserved regions; where there are more, no memory counts as free.
const MOST_RESERVED: usize = 32;

const _: () = assert!(BLOCK_BYTES == BLOCK);

pub(super) struct Bed<'a> {
    pub(super) network: &'a mut Network<Card>,
    pub(super) tree: &'static Tree<'static>,
    pub(super) watch: Option<&'a mut Watch>,
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
    fn each_free_block(&self, show: &mut dyn FnMut(u64)) {
        let mut reserved: heapless::Vec<(u64, u64), MOST_RESERVED> = heapless::Vec::new();
        if self.tree.root().is_compatible("marvell,armada3710") {
            let secure = armada37xx::SECURE_MEMORY;
            let _ = reserved.push((secure.start, secure.end));
        }
        for region in self.tree.reserved_memory().flatten() {
            let region = region.region;
            let end = region.address.saturating_add(region.size);
            if reserved.push((region.address, end)).is_err() {
                return;
            }
        }
        let mut looks = 0..MOST_BLOCKS;
        for region in self.tree.memory().flatten() {
            let mut block = region.address.checked_next_multiple_of(BLOCK);
            let last = region
                .address
                .saturating_add(region.size)
                .checked_sub(BLOCK);
            while let (Some(at), Some(last)) = (block, last)
                && at <= last
                && looks.next().is_some()
            {
                let taken = |(start, end): &(u64, u64)| at < *end && *start < at + BLOCK;
                if !reserved.iter().any(taken) && self.mapper.is_free_block(at) {
                    show(at);
                }
                block = at.checked_add(BLOCK);
            }
        }
    }
}

impl selftest::Bed for Bed<'_> {
    fn now_us(&self) -> u64 {
        timer::now_us()
    }

    fn hardware(&mut self) -> Option<&mut dyn Hardware> {
        Some(self.watch.as_deref_mut()?)
    }

    fn clocks(&mut self) -> Clocks {
        Clocks {
            ticks: timer::ticks(),
            ticks_hz: self.counters.ticks_hz,
            cycles: self.counters.cycles.then(pmu::total),
        }
    }

    fn links(&self, show: &mut dyn FnMut(&str, Link)) {
        for port in &self.network.ports {
            show(&port.name, port.nic.link());
        }
    }

    fn set_loop(&mut self, way: Option<Way>) -> bool {
        let Some(watch) = &mut self.watch else {
            return false;
        };
        watch.set_loop(way, &mut self.network.pool);
        true
    }

    fn send(&mut self, bytes: usize, fill: &mut dyn FnMut(&mut [u8])) -> bool {
        let watch = self.watch.as_deref_mut();
        watch.is_some_and(|watch| watch.send_looped(bytes, fill, &mut self.network.pool))
    }

    fn take(&mut self, look: &mut dyn FnMut(&[u8])) -> bool {
        let frame = self.watch.as_deref_mut().and_then(Watch::take_looped);
        let Some(frame) = frame else {
            return false;
        };
        look(frame.bytes().get(ADDRESSES..).unwrap_or_default());
        self.network.pool.put(frame);
        true
    }

    fn mac_interrupts(&self) -> u64 {
        self.watch.as_deref().map_or(0, Watch::interrupts)
    }

    fn free_memory(&mut self, found: &mut [u64]) -> usize {
        let mut free = 0;
        self.each_free_block(&mut |_| free += 1);
        // Whichever begins another share of them: from the first to near the last.
        let (mut index, shares) = (0, found.len().min(free));
        let mut places = found.iter_mut();
        self.each_free_block(&mut |block| {
            let begins = index * shares / free.max(1) != (index + 1) * shares / free.max(1);
            if begins && let Some(place) = places.next() {
                *place = block;
            }
            index += 1;
        });
        free
    }

    fn with_memory(
        &mut self,
        address: u64,
        bytes: usize,
        work: &mut dyn FnMut(&mut [u64]),
    ) -> bool {
        let block = address & !(BLOCK - 1);
        if address + bytes as u64 > block + BLOCK {
            return false;
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
        mapped.is_ok() && !aborted
    }
}
