//! Interrupts: the GICv3's CPU interface, and the flags that the poll loop reads.
//!
//! The handler acknowledges, flags and drops priority, nothing else. The interrupt stays *active*
//! (`ICC_CTLR_EL1.EOImode` = 1), which masks it exactly until [`done`] deactivates it: mask, poll, unmask
//! without touching the distributor or the device. A level that is still raised, or an edge that came
//! meanwhile, fires again right after `done`.
//!
//! The distributor and the redistributor are set up by the crate `arm-gic`.

use arm_gic::gicv3::registers::{Gicd, GicrSgi};
use arm_gic::gicv3::{GicV3, Group};
use arm_gic::{IntId, Trigger, UniqueMmioPointer};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Interrupt sources that can be told apart: the bits of [`take`].
pub const SLOTS: usize = 32;
/// The first INTID that is special and not an interrupt. Spec: GICv3 2.2.1.
const FIRST_SPECIAL: u32 = 1020;
const UNUSED: u8 = 0xff;

static SLOT_OF: [AtomicU8; FIRST_SPECIAL as usize] =
    [const { AtomicU8::new(UNUSED) }; FIRST_SPECIAL as usize];
static INTID_OF: [AtomicU32; SLOTS] = [const { AtomicU32::new(0) }; SLOTS];
static PENDING: AtomicU32 = AtomicU32::new(0);
static TAKEN: AtomicU32 = AtomicU32::new(0);
static UNEXPECTED: AtomicU32 = AtomicU32::new(0);

/// Why an interrupt could not be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The redistributor frames do not look like a GICv3's.
    NoRedistributor,
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
            Error::NoRedistributor => f.write_str("no GICv3 redistributor found"),
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

/// The interrupt controller.
pub struct Gic {
    gic: GicV3<'static>,
    next: u8,
}

impl Gic {
    /// Sets up distributor, redistributor and this core's interface; all interrupts off.
    ///
    /// # Errors
    ///
    /// [`Error::NoRedistributor`].
    ///
    /// # Safety
    ///
    /// Both addresses are those of a GICv3 from the devicetree, mapped as device memory, used by nobody else.
    pub unsafe fn new(distributor: usize, redistributor: usize) -> Result<Self, Error> {
        let gicd = NonNull::new(distributor as *mut Gicd).ok_or(Error::NoRedistributor)?;
        let gicr = NonNull::new(redistributor as *mut GicrSgi).ok_or(Error::NoRedistributor)?;
        // SAFETY: as promised by our caller.
        let gic = unsafe { GicV3::new(UniqueMmioPointer::new(gicd), gicr, 1) };
        let mut gic = gic.map_err(|_| Error::NoRedistributor)?;
        gic.setup(0);
        // SAFETY: EOImode 1 (EOIR drops priority, DIR deactivates), all priorities pass.
        unsafe {
            core::arch::asm!(
                "msr S3_0_C12_C12_4, {ctlr}", // ICC_CTLR_EL1
                "msr S3_0_C4_C6_0, {pmr}",    // ICC_PMR_EL1
                "isb",
                ctlr = in(reg) 2u64, pmr = in(reg) 0xffu64, options(nostack)
            );
        }
        Ok(Gic { gic, next: 0 })
    }

    /// Routes interrupt `intid` to this core and enables it.
    ///
    /// # Errors
    ///
    /// [`Error::BadNumber`], [`Error::NoSlot`].
    pub fn enable(&mut self, intid: u32, level: bool) -> Result<Slot, Error> {
        let bad = Error::BadNumber { intid };
        let id = match intid {
            16..32 => IntId::ppi(intid - 16),
            32..FIRST_SPECIAL => IntId::spi(intid - 32),
            _ => return Err(bad),
        };
        if SLOT_OF[intid as usize].load(Ordering::Relaxed) != UNUSED {
            return Err(bad);
        }
        if usize::from(self.next) == SLOTS {
            return Err(Error::NoSlot);
        }
        let slot = self.next;
        SLOT_OF[intid as usize].store(slot, Ordering::Relaxed);
        INTID_OF[usize::from(slot)].store(intid, Ordering::Relaxed);
        let trigger = if level { Trigger::Level } else { Trigger::Edge };
        let cpu = Some(0);
        (|| {
            self.gic.set_group(id, cpu, Group::Group1NS)?;
            self.gic.set_interrupt_priority(id, cpu, 0x80)?;
            self.gic.set_trigger(id, cpu, trigger)?;
            self.gic.enable_interrupt(id, cpu, true)
        })()
        .map_err(|_| bad)?;
        self.next += 1;
        Ok(Slot(slot))
    }
}

/// Claims all pending interrupts: called by the vector, and by [`wait`] right after waking.
#[inline]
pub(super) fn service() {
    loop {
        let intid: u64;
        // SAFETY: acknowledging has no effect on memory.
        unsafe { core::arch::asm!("mrs {}, S3_0_C12_C12_0", out(reg) intid, options(nostack)) };
        let Some(slot) = SLOT_OF.get(intid as usize) else {
            return;
        };
        let slot = slot.load(Ordering::Relaxed);
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
        }
        // SAFETY: priority drop of the interrupt just acknowledged.
        unsafe {
            core::arch::asm!("msr S3_0_C12_C12_1, {}", "isb", in(reg) intid, options(nostack))
        };
    }
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

/// Interrupts taken, and those that nobody had asked for.
pub fn counts() -> (u32, u32) {
    (
        TAKEN.load(Ordering::Relaxed),
        UNEXPECTED.load(Ordering::Relaxed),
    )
}

/// Sleeps until an interrupt, unless one is flagged already. `arm` runs with interrupts masked, right
/// before sleeping: it programs the timer.
#[inline]
pub fn wait(arm: impl FnOnce()) {
    masked(|| {
        if PENDING.load(Ordering::Relaxed) == 0 {
            arm();
            // SAFETY: WFI returns on a pending interrupt although it is masked.
            unsafe { core::arch::asm!("dsb sy", "wfi", options(nostack)) };
            service();
        }
    });
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
