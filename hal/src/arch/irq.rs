//! Interrupts: the GICv3's CPU interface, and the flags that the poll loop reads.
//!
//! The handler acknowledges, flags and drops priority, nothing else. The interrupt stays *active*
//! (`ICC_CTLR_EL1.EOImode` = 1), which masks it exactly until [`done`] deactivates it: mask, poll, unmask
//! without touching the distributor or the device. A level that is still raised, or an edge that came
//! meanwhile, fires again right after `done`.
//!
//! The distributor and the redistributor are set up by the crate `arm-gic`, one redistributor only: that of this core,
//! which [`redistributor`] finds by its affinity. Whatever a boot loader left enabled, pending or active is cleared
//! first, because an interrupt that is active already would never be signalled again.

use super::pmu;
use arm_gic::gicv3::registers::{Gicd, GicdCtlr, GicrSgi};
use arm_gic::gicv3::{GicCpuInterface, GicDistributor, GicRedistributor, Group};
use arm_gic::{IntId, Trigger, UniqueMmioPointer};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

/// Interrupt sources that can be told apart: the low bits of [`take`]. Those above are free for whoever tells apart what
/// shares a source.
pub const SLOTS: usize = 24;
/// The first INTID that is special and not an interrupt; four there are. Spec: GICv3 2.2.1.
const FIRST_SPECIAL: u32 = 1020;
const LAST_SPECIAL: u64 = 1023;

/// Bytes of a distributor.
pub const DISTRIBUTOR_BYTES: usize = 0x1_0000;
/// Bytes of a redistributor: two frames of 64 KiB; two more follow where virtual LPIs are supported.
pub const REDISTRIBUTOR_BYTES: usize = 0x2_0000;

// Registers that the crate has no function for. Spec: GICv3 12.9 and 12.11.
const ICPENDR: usize = 0x280;
const ICACTIVER: usize = 0x380;
/// Identifies distributor and redistributor.
pub const PIDR2: usize = 0xffe8;
const GICR_TYPER: usize = 0x8;
const GICR_TYPER_VLPIS: u32 = 1 << 1;
const GICR_TYPER_LAST: u32 = 1 << 4;
const GICR_WAKER: usize = 0x14;
const PROCESSOR_SLEEP: u32 = 1 << 1;
const CHILDREN_ASLEEP: u32 = 1 << 2;
/// Where the frame of private interrupts starts.
const SGI_FRAME: usize = 0x1_0000;
/// Reads of `GICR_WAKER` before a redistributor counts as dead; each takes some 100 ns on silicon.
const WAKE_POLLS: u32 = 1_000_000;

const UNUSED: u8 = 0xff;

static SLOT_OF: [AtomicU8; FIRST_SPECIAL as usize] =
    [const { AtomicU8::new(UNUSED) }; FIRST_SPECIAL as usize];
static INTID_OF: [AtomicU32; SLOTS] = [const { AtomicU32::new(0) }; SLOTS];
static PENDING: AtomicU32 = AtomicU32::new(0);
static TAKEN: AtomicU32 = AtomicU32::new(0);
static TAKEN_FROM: [AtomicU32; SLOTS] = [const { AtomicU32::new(0) }; SLOTS];
static UNEXPECTED: AtomicU32 = AtomicU32::new(0);
static STAMPED: AtomicBool = AtomicBool::new(false);
static ENTERED: AtomicU32 = AtomicU32::new(0);

/// Why an interrupt could not be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The registers do not identify themselves as those of a GICv3 or v4.
    NotGicV3,
    /// This core's redistributor does not wake up.
    Asleep,
    /// No such private or shared interrupt.
    BadNumber {
        /// As the GIC counts: SPI + 32, PPI + 16.
        intid: u32,
    },
    /// All slots are in use.
    NoSlot,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Error::NotGicV3 => f.write_str("these are not the registers of a GICv3"),
            Error::Asleep => f.write_str("the redistributor does not wake up"),
            Error::BadNumber { intid } => write!(f, "no such interrupt: INTID {intid}"),
            Error::NoSlot => f.write_str("more interrupt sources than slots"),
        }
    }
}

/// One routed interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u8);

impl Slot {
    /// This slot's bit in what [`take`] returns.
    pub const fn mask(self) -> u32 {
        1 << self.0
    }
}

/// This core as the GIC names it: affinity levels 3, 2, 1, 0, one byte each.
fn affinity() -> u32 {
    let mpidr: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mrs {}, mpidr_el1", out(reg) mpidr, options(nomem, nostack)) };
    (mpidr >> 8) as u32 & 0xff00_0000 | mpidr as u32 & 0x00ff_ffff
}

/// # Safety
///
/// `address` is that of a 32-bit register, mapped as device memory.
unsafe fn read(address: usize) -> u32 {
    let value: u32;
    // SAFETY: as promised. Assembly, because a hypervisor cannot emulate every load that a compiler may choose.
    unsafe {
        core::arch::asm!("ldr {:w}, [{}]", out(reg) value, in(reg) address, options(nostack))
    };
    value
}

/// # Safety
///
/// As for [`read`], and the value makes the device do nothing that memory safety rests on.
unsafe fn write(address: usize, value: u32) {
    // SAFETY: as promised.
    unsafe { core::arch::asm!("str {:w}, [{}]", in(reg) value, in(reg) address, options(nostack)) };
}

/// # Safety
///
/// `base` is that of a block of at least 64 KiB, mapped as device memory.
unsafe fn is_gicv3(base: usize) -> bool {
    // SAFETY: as promised.
    matches!(unsafe { read(base + PIDR2) } >> 4 & 0xf, 3 | 4)
}

/// Finds this core's redistributor in a region of them, of `len` bytes at `base`. The cores' order there is nobody's
/// promise. `stride` is that of the devicetree in bytes, 0 if it has none.
///
/// # Safety
///
/// The region is mapped as device memory.
pub unsafe fn redistributor(base: usize, len: usize, stride: usize) -> Option<usize> {
    let mut offset = 0usize;
    while offset.checked_add(REDISTRIBUTOR_BYTES)? <= len {
        let frame = base + offset;
        // SAFETY: inside the region.
        let (low, high) = unsafe {
            if !is_gicv3(frame) {
                return None;
            }
            (read(frame + GICR_TYPER), read(frame + GICR_TYPER + 4))
        };
        if high == affinity() {
            return Some(frame);
        }
        if low & GICR_TYPER_LAST != 0 {
            return None;
        }
        offset = offset.checked_add(match stride {
            0 if low & GICR_TYPER_VLPIS != 0 => 2 * REDISTRIBUTOR_BYTES,
            0 => REDISTRIBUTOR_BYTES,
            given => given,
        })?;
    }
    None
}

/// The interrupt controller.
pub struct Gic {
    distributor: GicDistributor<'static>,
    redistributor: GicRedistributor<'static>,
    next: u8,
}

impl Gic {
    /// Sets up distributor, redistributor and this core's interface; all interrupts off, none pending or active.
    ///
    /// # Errors
    ///
    /// [`Error::NotGicV3`], [`Error::Asleep`].
    ///
    /// # Safety
    ///
    /// The distributor's address is that of the devicetree, the redistributor's comes from [`redistributor`]; both are
    /// mapped as device memory in full length, and used by nobody else.
    pub unsafe fn new(distributor: usize, redistributor: usize) -> Result<Self, Error> {
        let gicd = NonNull::new(distributor as *mut Gicd).ok_or(Error::NotGicV3)?;
        let gicr = NonNull::new(redistributor as *mut GicrSgi).ok_or(Error::NotGicV3)?;
        // SAFETY: as promised by our caller. Nothing is enabled, so nothing is missed by clearing it.
        unsafe {
            if !is_gicv3(distributor) || !is_gicv3(redistributor) {
                return Err(Error::NotGicV3);
            }
            wake(redistributor)?;
            let mut gic = Gic {
                distributor: GicDistributor::new(UniqueMmioPointer::new(gicd)),
                redistributor: GicRedistributor::new(UniqueMmioPointer::new(gicr)),
                next: 0,
            };
            let groups = GicdCtlr::EnableGrp0 | GicdCtlr::EnableGrp1S | GicdCtlr::EnableGrp1NS;
            gic.distributor.modify_control(groups, false);
            gic.distributor.enable_all_interrupts(false);
            gic.distributor.wait_for_pending_write();
            let spis = gic.distributor.typer().num_spis() as usize;
            for register in 1..=spis.div_ceil(32) {
                write(distributor + ICACTIVER + 4 * register, u32::MAX);
                write(distributor + ICPENDR + 4 * register, u32::MAX);
            }
            gic.redistributor.configure_default_settings();
            write(redistributor + SGI_FRAME + ICACTIVER, u32::MAX);
            write(redistributor + SGI_FRAME + ICPENDR, u32::MAX);
            gic.distributor.configure_default_settings();
            start_interface();
            Ok(gic)
        }
    }

    /// Routes interrupt `intid` to this core and enables it. Devices may share one: they get the same slot.
    ///
    /// # Errors
    ///
    /// [`Error::BadNumber`], [`Error::NoSlot`].
    pub fn enable(&mut self, intid: u32, level: bool) -> Result<Slot, Error> {
        let bad = Error::BadNumber { intid };
        let id = match intid {
            16..32 => IntId::ppi(intid - 16),
            32..FIRST_SPECIAL if intid - 32 < self.distributor.typer().num_spis() => {
                IntId::spi(intid - 32)
            }
            _ => return Err(bad),
        };
        let slot_of = &SLOT_OF[intid as usize];
        match slot_of.load(Ordering::Relaxed) {
            UNUSED => {}
            shared => return Ok(Slot(shared)),
        }
        if usize::from(self.next) == SLOTS {
            return Err(Error::NoSlot);
        }
        let slot = self.next;
        INTID_OF[usize::from(slot)].store(intid, Ordering::Relaxed);
        slot_of.store(slot, Ordering::Relaxed);
        let trigger = if level { Trigger::Level } else { Trigger::Edge };
        // A macro, because the two have the same functions and no trait.
        macro_rules! enable_at {
            ($place:expr) => {{
                let place = &mut $place;
                place.set_group(id, Group::Group1NS)?;
                place.set_interrupt_priority(id, 0x80)?;
                place.set_trigger(id, trigger)?;
                place.enable_interrupt(id, true)
            }};
        }
        (|| {
            if id.is_private() {
                enable_at!(self.redistributor)
            } else {
                let core = affinity();
                let core = u64::from(core & 0xff00_0000) << 8 | u64::from(core & 0x00ff_ffff);
                self.distributor.set_routing(id, Some(core))?;
                enable_at!(self.distributor)
            }
        })()
        .map_err(|_| {
            slot_of.store(UNUSED, Ordering::Relaxed);
            bad
        })?;
        self.next += 1;
        Ok(Slot(slot))
    }
}

/// Tells the redistributor that its core is awake. Where that is the firmware's business, it has been done.
///
/// # Safety
///
/// As for [`Gic::new`].
unsafe fn wake(redistributor: usize) -> Result<(), Error> {
    let waker = redistributor + GICR_WAKER;
    // SAFETY: as promised by our caller.
    unsafe {
        if read(waker) & CHILDREN_ASLEEP == 0 {
            return Ok(());
        }
        write(waker, read(waker) & !PROCESSOR_SLEEP);
        let awake = (0..WAKE_POLLS).any(|_| read(waker) & CHILDREN_ASLEEP == 0);
        awake.then_some(()).ok_or(Error::Asleep)
    }
}

/// This core's interface: system registers, `EOImode` 1 (EOIR drops priority, DIR deactivates), all priorities pass.
///
/// # Safety
///
/// Interrupts are masked.
unsafe fn start_interface() {
    GicCpuInterface::enable_system_register_el1();
    // SAFETY: no interrupt is in progress. A priority that a boot loader left active would hold back ours for ever;
    // there are 1, 2 or 4 registers of them, for 5, 6 or 7 bits of preemption. Spec: GICv3 12.2.2, `ICC_AP1R<n>_EL1`.
    unsafe {
        core::arch::asm!(
            "isb",
            "mrs {bits}, S3_0_C12_C12_4",     // ICC_CTLR_EL1
            "ubfx {bits}, {bits}, #8, #3",    // PRIbits, one less
            "cmp {bits}, #5",
            "b.lo 2f",
            "msr S3_0_C12_C9_1, xzr",         // ICC_AP1R1_EL1
            "b.eq 2f",
            "msr S3_0_C12_C9_2, xzr",
            "msr S3_0_C12_C9_3, xzr",
            "2:",
            "msr S3_0_C12_C9_0, xzr",
            "msr S3_0_C12_C12_4, {ctlr}",
            "msr S3_0_C4_C6_0, {pmr}",        // ICC_PMR_EL1
            "isb",
            bits = out(reg) _, ctlr = in(reg) 2u64, pmr = in(reg) 0xffu64, options(nostack)
        );
    }
    GicCpuInterface::enable_group1(true);
}

/// Claims all pending interrupts: called by the vector, and by [`wait`] right after waking.
#[inline]
pub(super) fn service() {
    // The first of those that will be taken together: the others have not waited longer.
    if STAMPED.load(Ordering::Relaxed) && PENDING.load(Ordering::Relaxed) == 0 {
        ENTERED.store(pmu::cycles(), Ordering::Relaxed);
    }
    loop {
        let intid: u64;
        // SAFETY: acknowledging has no effect on memory.
        unsafe { core::arch::asm!("mrs {}, S3_0_C12_C12_0", out(reg) intid, options(nostack)) };
        let slot = match SLOT_OF.get(intid as usize) {
            Some(slot) => slot.load(Ordering::Relaxed),
            None if intid <= LAST_SPECIAL => return,
            None => UNUSED,
        };
        if slot == UNUSED {
            // Stays active, hence masked: it was never asked for.
            UNEXPECTED.fetch_add(1, Ordering::Relaxed);
        } else {
            PENDING.store(
                PENDING.load(Ordering::Relaxed) | 1 << slot,
                Ordering::Relaxed,
            );
            TAKEN.store(
                TAKEN.load(Ordering::Relaxed).wrapping_add(1),
                Ordering::Relaxed,
            );
            if let Some(taken) = TAKEN_FROM.get(usize::from(slot)) {
                taken.store(
                    taken.load(Ordering::Relaxed).wrapping_add(1),
                    Ordering::Relaxed,
                );
            }
        }
        // SAFETY: priority drop of the interrupt just acknowledged.
        unsafe {
            core::arch::asm!("msr S3_0_C12_C12_1, {}", "isb", in(reg) intid, options(nostack))
        };
    }
}

/// From now on each interrupt's entry is stamped by the cycle counter, which [`pmu::start`] has started.
pub fn stamp() {
    STAMPED.store(true, Ordering::Relaxed);
}

/// When the first interrupt came in of those that the last [`take`] returned, or of those since. In cycles; 0 without
/// [`stamp`].
#[inline]
pub fn entered() -> u32 {
    ENTERED.load(Ordering::Relaxed)
}

/// Reads and clears the set of sources that fired.
#[inline]
pub fn take() -> u32 {
    if PENDING.load(Ordering::Relaxed) == 0 {
        return 0;
    }
    masked(|| {
        let pending = PENDING.load(Ordering::Relaxed);
        PENDING.store(0, Ordering::Relaxed);
        pending
    })
}

/// Lets a source interrupt again, after its work is done.
#[inline]
pub fn done(slot: Slot) {
    let intid = u64::from(INTID_OF[usize::from(slot.0)].load(Ordering::Relaxed));
    // SAFETY: deactivates an interrupt that `service` left active; without one it has no effect.
    unsafe { core::arch::asm!("msr S3_0_C12_C11_1, {}", in(reg) intid, options(nostack)) };
}

/// The same for a set of sources: the bits of [`Slot::mask`].
#[inline]
pub fn done_mask(mut slots: u32) {
    while slots != 0 {
        done(Slot(slots.trailing_zeros() as u8));
        slots &= slots - 1;
    }
}

/// Interrupts taken.
#[inline]
pub fn taken() -> u32 {
    TAKEN.load(Ordering::Relaxed)
}

/// Interrupts taken, and those that nobody had asked for.
pub fn counts() -> (u32, u32) {
    (
        TAKEN.load(Ordering::Relaxed),
        UNEXPECTED.load(Ordering::Relaxed),
    )
}

/// The INTID in a slot, and how often it was taken.
pub fn source(slot: usize) -> Option<(u32, u32)> {
    let load = |of: &[AtomicU32; SLOTS]| Some(of.get(slot)?.load(Ordering::Relaxed));
    // None of those that can be routed is 0.
    Some((
        load(&INTID_OF).filter(|intid| *intid != 0)?,
        load(&TAKEN_FROM)?,
    ))
}

/// Sleeps until an interrupt, unless one is flagged already. `arm` runs with interrupts masked, right
/// before sleeping: it programs the timer. Whether the core slept.
#[inline]
pub fn wait(arm: impl FnOnce()) -> bool {
    masked(|| {
        let sleeps = PENDING.load(Ordering::Relaxed) == 0;
        if sleeps {
            arm();
            // SAFETY: WFI returns on a pending interrupt although it is masked. Without ISB the timer may not be set yet.
            unsafe { core::arch::asm!("isb", "dsb sy", "wfi", options(nostack)) };
            service();
        }
        sleeps
    })
}

/// Runs `f` with interrupts masked.
#[inline]
pub fn masked<T>(f: impl FnOnce() -> T) -> T {
    let daif: u64;
    // SAFETY: the state is restored below. No `nomem`: memory accesses stay inside.
    unsafe { core::arch::asm!("mrs {}, daif", "msr daifset, #2", out(reg) daif, options(nostack)) };
    let result = f();
    // SAFETY: restores what was read above.
    unsafe { core::arch::asm!("msr daif, {}", in(reg) daif, options(nostack)) };
    result
}

/// Unmasks interrupts and asynchronous aborts, once, when everything is set up.
pub fn unmask() {
    // SAFETY: vectors, stacks and handlers are in place since the boot code.
    unsafe { core::arch::asm!("msr daifclr, #6", options(nostack)) };
}
