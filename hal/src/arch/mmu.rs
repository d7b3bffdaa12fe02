//! Page tables: identity map, 4 KiB granule, 48-bit addresses, EL1 only.
//!
//! Owns what is mapped and how. The rule is: nothing that was not asked for. The image with exact
//! permissions (W^X, unmapped guard pages), the devicetree read-only, each device's registers as
//! Device-nGnRE. The rest of DRAM, `no-map` regions and secure memory are simply never there, so that
//! neither a stray pointer nor the core's speculation can touch them.

use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// How a region may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Code: readable and executable.
    Text,
    /// Constants: readable.
    ReadOnly,
    /// Data: readable and writable, cached.
    Data,
    /// DMA memory shared with a device that does not snoop: readable and writable, not cached.
    Uncached,
    /// Registers: Device-nGnRE.
    Device,
}

impl Kind {
    /// Lower and upper attributes of a block or page descriptor.
    ///
    /// Spec: Arm ARM D8.3, stage 1 descriptors; the attribute indices are those of `MAIR_EL1` in `boot.rs`.
    const fn attributes(self) -> u64 {
        const AF: u64 = 1 << 10;
        const INNER_SHAREABLE: u64 = 3 << 8;
        const READ_ONLY: u64 = 1 << 7;
        const PXN: u64 = 1 << 53;
        const UXN: u64 = 1 << 54;
        const fn index(i: u64) -> u64 {
            i << 2
        }
        match self {
            Kind::Text => AF | INNER_SHAREABLE | index(1) | READ_ONLY | UXN,
            Kind::ReadOnly => AF | INNER_SHAREABLE | index(1) | READ_ONLY | PXN | UXN,
            Kind::Data => AF | INNER_SHAREABLE | index(1) | PXN | UXN,
            Kind::Uncached => AF | INNER_SHAREABLE | index(2) | PXN | UXN,
            Kind::Device => AF | index(0) | PXN | UXN,
        }
    }
}

/// Why a region could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The static pool of page tables is used up.
    NoTables,
    /// The region is empty, wraps around or lies above the core's physical addresses.
    OutOfRange {
        /// First address.
        base: u64,
        /// Bytes.
        len: u64,
    },
    /// A page of the region is mapped already, for another use.
    Conflict {
        /// Address of the page.
        page: u64,
    },
    /// The region touches memory that the devicetree reserves.
    Forbidden {
        /// First address.
        base: u64,
        /// Bytes.
        len: u64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::NoTables => f.write_str("page tables used up"),
            Error::OutOfRange { base, len } => {
                write!(f, "{base:#x}+{len:#x} is not an address range")
            }
            Error::Conflict { page } => write!(f, "page {page:#x} is mapped for another use"),
            Error::Forbidden { base, len } => {
                write!(f, "{base:#x}+{len:#x} touches reserved memory")
            }
        }
    }
}

const PAGE: u64 = 4096;
/// What one entry of the last level but one maps.
pub const BLOCK: u64 = 2 << 20;
const ENTRIES: usize = 512;
const TABLE_COUNT: usize = 48;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 0b11;
const BLOCK_ENTRY: u64 = 0b01;
/// Where `TTBR0_EL1` holds the address space identifier.
const ASID_SHIFT: u32 = 48;
/// Regions that can be kept apart from what gets mapped.
const FORBIDDEN_REGIONS: usize = 64;

#[repr(C, align(4096))]
struct Tables(UnsafeCell<[[AtomicU64; ENTRIES]; TABLE_COUNT]>);

// SAFETY: only the one `Mapper` hands out references, each table is made of atomics.
unsafe impl Sync for Tables {}

#[unsafe(link_section = ".noinit.tables")]
static TABLES: Tables = Tables(UnsafeCell::new(
    [const { [const { AtomicU64::new(0) }; ENTRIES] }; TABLE_COUNT],
));

/// The boundaries of the image, as the linker script sets them.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// First byte: the arm64 Image header.
    pub start: u64,
    /// First byte after text.
    pub rodata: u64,
    /// First byte of writable data.
    pub data: u64,
    /// The unmapped page below the stack.
    pub stack_guard: u64,
    /// The unmapped page below the exception stack.
    pub exception_guard: u64,
    /// Uncached DMA memory.
    pub dma: u64,
    /// The heap.
    pub heap: u64,
    /// First byte after the image, on a 2 MiB boundary.
    pub end: u64,
}

unsafe extern "C" {
    static __image_start: u8;
    static __rodata_start: u8;
    static __data_start: u8;
    static __stack_guard: u8;
    static __exception_guard: u8;
    static __dma_start: u8;
    static __dma_end: u8;
    static __heap_start: u8;
    static __heap_end: u8;
}

impl Image {
    /// Where this image was loaded.
    pub fn here() -> Self {
        Image {
            start: (&raw const __image_start).addr() as u64,
            rodata: (&raw const __rodata_start).addr() as u64,
            data: (&raw const __data_start).addr() as u64,
            stack_guard: (&raw const __stack_guard).addr() as u64,
            exception_guard: (&raw const __exception_guard).addr() as u64,
            dma: (&raw const __dma_start).addr() as u64,
            heap: (&raw const __heap_start).addr() as u64,
            end: (&raw const __heap_end).addr() as u64,
        }
    }
}

/// Start and length in bytes of the heap. Taken once, by whoever sets up the allocator.
pub fn heap_region() -> (*mut u8, usize) {
    let start = (&raw const __heap_start).cast_mut();
    (start, (&raw const __heap_end).addr() - start.addr())
}

/// Start and length in bytes of the uncached DMA memory.
pub fn dma_region() -> (*mut u8, usize) {
    let start = (&raw const __dma_start).cast_mut();
    (start, (&raw const __dma_end).addr() - start.addr())
}

/// Bits of a physical address that this core has, as the boot code told the MMU. Spec: Arm ARM, `ID_AA64MMFR0_EL1`.
fn physical_bits() -> u32 {
    let features: u64;
    // SAFETY: reads a register.
    unsafe {
        core::arch::asm!("mrs {}, id_aa64mmfr0_el1", out(reg) features, options(nomem, nostack, pure))
    };
    match features & 0xf {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        _ => 48,
    }
}

/// The page tables in use.
pub struct Mapper {
    used: usize,
    /// First and last addresses. One that ends with the address space could not be told by its end.
    forbidden: heapless::Vec<(u64, u64), FORBIDDEN_REGIONS>,
}

impl Mapper {
    /// Replaces the boot code's blocks by page tables with exact permissions for the image.
    ///
    /// # Errors
    ///
    /// [`Error::NoTables`] if the static pool is too small for this load address.
    ///
    /// # Safety
    ///
    /// Called once, on the boot core, by the code that the boot assembly called.
    pub unsafe fn take_over() -> Result<Self, Error> {
        let mut mapper = Mapper {
            used: 0,
            forbidden: heapless::Vec::new(),
        };
        let root = mapper.new_table()?;
        let image = Image::here();
        let mut map = |from: u64, to: u64, kind| mapper.map(from, to - from, kind);
        map(image.start, image.rodata, Kind::Text)?;
        map(image.rodata, image.data, Kind::ReadOnly)?;
        map(image.data, image.stack_guard, Kind::Data)?;
        map(image.stack_guard + PAGE, image.exception_guard, Kind::Data)?;
        map(image.exception_guard + PAGE, image.dma, Kind::Data)?;
        map(image.dma, image.heap, Kind::Uncached)?;
        map(image.heap, image.end, Kind::Data)?;
        // Pages replace blocks that are in use, which nobody may do in one address space (break before make): the boot
        // code's blocks belong to ASID 0 and match no more under ASID 1.
        // SAFETY: the new tables map the running code, its data and this stack at the same addresses.
        unsafe {
            core::arch::asm!(
                "dsb ish", "msr ttbr0_el1, {root}", "isb",
                "tlbi vmalle1", "dsb nsh", "isb",
                root = in(reg) root | 1 << ASID_SHIFT, options(nostack)
            );
        }
        // No cacheable alias of uncached memory: lines that the core fetched ahead through the old blocks leave now.
        super::cache::clean_invalidate(image.dma as usize, (image.heap - image.dma) as usize);
        Ok(mapper)
    }

    /// Adds memory that must never be mapped. When the list is full, the region and the one nearest to it become one,
    /// with all between them.
    pub fn forbid(&mut self, base: u64, len: u64) {
        let Some(last) = len.checked_sub(1).map(|rest| base.saturating_add(rest)) else {
            return;
        };
        if self.forbidden.push((base, last)).is_err() {
            let around = |&(b, l): &(u64, u64)| (b.min(base), l.max(last));
            let grows = |&(b, l): &(u64, u64)| {
                let (from, to) = around(&(b, l));
                (to - from) - (l - b)
            };
            if let Some(nearest) = self.forbidden.iter_mut().min_by_key(|region| grows(region)) {
                *nearest = around(nearest);
            }
        }
    }

    /// Maps the pages that `base..base + len` touches at their own addresses. Mapping a page again for the
    /// same use is allowed: devices share pages.
    ///
    /// # Errors
    ///
    /// See [`Error`]. Pages before the failing one stay mapped.
    pub fn map(&mut self, base: u64, len: u64, kind: Kind) -> Result<(), Error> {
        let out_of_range = Error::OutOfRange { base, len };
        let end = base
            .checked_add(len)
            .filter(|&end| len > 0 && end <= 1 << physical_bits())
            .ok_or(out_of_range)?;
        // Whole pages get mapped, so whole pages must be free.
        let (first, last) = (base & !(PAGE - 1), (end - 1) | (PAGE - 1));
        if self.forbidden.iter().any(|&(b, l)| first <= l && b <= last) {
            return Err(Error::Forbidden { base, len });
        }
        let mut page = first;
        while page < end {
            page += self.map_one(page, end, kind)?;
        }
        // SAFETY: barriers only: the walker sees the new entries before the next access.
        unsafe { core::arch::asm!("dsb ishst", "isb", options(nostack)) };
        Ok(())
    }

    /// Whether nothing of the block at `base` is mapped, and all of it may be.
    pub fn is_free_block(&self, base: u64) -> bool {
        let last = base | (BLOCK - 1);
        let apart = |&(b, l): &(u64, u64)| last < b || l < base;
        base.is_multiple_of(BLOCK)
            && last < 1 << physical_bits()
            && self.forbidden.iter().all(apart)
            && Self::block_entry(base).is_none_or(|entry| entry.load(Ordering::Relaxed) == 0)
    }

    /// Maps a free block as cached data for as long as `work` runs. Its lines are the caller's to clean and drop.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn with_block(&mut self, base: u64, work: impl FnOnce()) -> Result<(), Error> {
        if !self.is_free_block(base) {
            return Err(Error::Conflict { page: base });
        }
        self.map(base, BLOCK, Kind::Data)?;
        work();
        if let Some(entry) = Self::block_entry(base) {
            entry.store(0, Ordering::Relaxed);
        }
        // SAFETY: no reference into the block is left, and nobody else maps it.
        unsafe {
            core::arch::asm!(
                "dsb ishst", "tlbi vaae1, {page}", "dsb nsh", "isb",
                page = in(reg) base >> 12, options(nostack)
            );
        }
        Ok(())
    }

    /// The entry for the block at `base`, if there is a table for it.
    fn block_entry(base: u64) -> Option<&'static AtomicU64> {
        let mut table = Self::table(0);
        for level in 0..2 {
            let value =
                table[(base >> (39 - 9 * level)) as usize % ENTRIES].load(Ordering::Relaxed);
            if value & TABLE_OR_PAGE != TABLE_OR_PAGE {
                return None;
            }
            table = Self::table_at(value & ADDRESS);
        }
        Some(&table[(base >> 21) as usize % ENTRIES])
    }

    /// Maps one page, or one block where a whole one fits. Returns the bytes mapped.
    fn map_one(&mut self, page: u64, end: u64, kind: Kind) -> Result<u64, Error> {
        let mut table = Self::table(0);
        for level in 0..3 {
            let entry = &table[(page >> (39 - 9 * level)) as usize % ENTRIES];
            let mut value = entry.load(Ordering::Relaxed);
            if level == 2 && page.is_multiple_of(BLOCK) && end - page >= BLOCK && value == 0 {
                entry.store(page | kind.attributes() | BLOCK_ENTRY, Ordering::Relaxed);
                return Ok(BLOCK);
            }
            if value & TABLE_OR_PAGE == BLOCK_ENTRY {
                return if value & !ADDRESS == kind.attributes() | BLOCK_ENTRY {
                    Ok(BLOCK - page % BLOCK)
                } else {
                    Err(Error::Conflict { page })
                };
            }
            if value & VALID == 0 {
                value = self.new_table()? | TABLE_OR_PAGE;
                entry.store(value, Ordering::Relaxed);
            }
            table = Self::table_at(value & ADDRESS);
        }
        let entry = &table[(page >> 12) as usize % ENTRIES];
        let wanted = page | kind.attributes() | TABLE_OR_PAGE;
        match entry.load(Ordering::Relaxed) {
            0 => entry.store(wanted, Ordering::Relaxed),
            found if found == wanted => {}
            _ => return Err(Error::Conflict { page }),
        }
        Ok(PAGE)
    }

    /// Takes a zeroed table from the pool. Returns its physical address.
    fn new_table(&mut self) -> Result<u64, Error> {
        if self.used == TABLE_COUNT {
            return Err(Error::NoTables);
        }
        let table = Self::table(self.used);
        self.used += 1;
        for entry in table {
            entry.store(0, Ordering::Relaxed);
        }
        Ok(table.as_ptr().addr() as u64)
    }

    fn table(index: usize) -> &'static [AtomicU64; ENTRIES] {
        // SAFETY: the pool is static and made of atomics; shared references to it are always valid.
        let tables = unsafe { &*TABLES.0.get() };
        &tables[index]
    }

    fn table_at(address: u64) -> &'static [AtomicU64; ENTRIES] {
        Self::table((address as usize - TABLES.0.get().addr()) / PAGE as usize)
    }
}
