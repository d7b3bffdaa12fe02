//! Typed registers: a constant that knows its offset, its fields and how it may be touched.
//!
//! ```text
//!   const MAC_CONTROL_2: Reg<MacControl2::Register, Rw> = Reg::at(0x2c08);
//!                            fields                 access        offset in its block
//!
//!   access   read  peek  take  clear  write  modify
//!   Ro        x
//!   Wo                                  x
//!   Rw        x                         x      x
//!   W1c             x     x     x                     writing 1 clears a bit
//!   W0c             x     x     x                     writing 0 clears a bit
//!   Roc                   x                           reading clears
//! ```
//!
//! The table is the point: read-modify-write of a cause register, the classic lost interrupt, does not compile.
//! A driver reaches the block through [`Bus`], so that the same code runs on silicon and on a model.

use core::marker::PhantomData;
pub use tock_registers::LocalRegisterCopy;
pub use tock_registers::RegisterLongName;
pub use tock_registers::fields::FieldValue;

/// 32-bit registers of one block, by byte offset from its base.
pub trait Bus {
    /// Reads a register.
    fn read(&mut self, offset: u32) -> u32;
    /// Writes a register.
    fn write(&mut self, offset: u32, value: u32);
}

impl<B: Bus + ?Sized> Bus for &mut B {
    fn read(&mut self, offset: u32) -> u32 {
        (**self).read(offset)
    }

    fn write(&mut self, offset: u32, value: u32) {
        (**self).write(offset, value);
    }
}

/// Read only.
#[derive(Debug)]
pub enum Ro {}
/// Write only.
#[derive(Debug)]
pub enum Wo {}
/// Remembers what is written.
#[derive(Debug)]
pub enum Rw {}
/// Writing 1 clears a bit, 0 leaves it alone.
#[derive(Debug)]
pub enum W1c {}
/// Writing 0 clears a bit, 1 leaves it alone.
#[derive(Debug)]
pub enum W0c {}
/// Reading clears.
#[derive(Debug)]
pub enum Roc {}

/// Registers that may be read as often as one likes.
pub trait Readable {}
impl Readable for Ro {}
impl Readable for Rw {}

/// Registers that take whole values.
pub trait Writable {}
impl Writable for Wo {}
impl Writable for Rw {}

/// Registers that collect events until somebody clears them by a write.
pub trait Cause {
    /// What to write so that `bits` are cleared and nothing else.
    fn clearing(bits: u32) -> u32;
}
impl Cause for W1c {
    fn clearing(bits: u32) -> u32 {
        bits
    }
}
impl Cause for W0c {
    fn clearing(bits: u32) -> u32 {
        !bits
    }
}

/// One register: fields `F` (`()` for a plain number), access `A`.
#[derive(Debug)]
pub struct Reg<F: RegisterLongName, A> {
    offset: u32,
    kind: PhantomData<fn() -> (F, A)>,
}

impl<F: RegisterLongName, A> Clone for Reg<F, A> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<F: RegisterLongName, A> Copy for Reg<F, A> {}

impl<F: RegisterLongName, A> Reg<F, A> {
    /// The register at `offset` bytes from the base of its block.
    pub const fn at(offset: u32) -> Self {
        Reg {
            offset,
            kind: PhantomData,
        }
    }
}

impl<F: RegisterLongName, A> Reg<F, A> {
    /// Its offset, for whoever shows it.
    pub const fn offset(&self) -> u32 {
        self.offset
    }
}

impl<F: RegisterLongName, A: Readable> Reg<F, A> {
    /// Reads it.
    #[inline]
    pub fn read(self, bus: &mut impl Bus) -> LocalRegisterCopy<u32, F> {
        LocalRegisterCopy::new(bus.read(self.offset))
    }
}

impl<F: RegisterLongName, A: Writable> Reg<F, A> {
    /// Writes fields; all others become 0.
    #[inline]
    pub fn write(self, bus: &mut impl Bus, fields: FieldValue<u32, F>) {
        bus.write(self.offset, fields.value);
    }

    /// Writes a whole word, for addresses, bit maps and counts.
    #[inline]
    pub fn set(self, bus: &mut impl Bus, value: u32) {
        bus.write(self.offset, value);
    }
}

impl<F: RegisterLongName> Reg<F, Rw> {
    /// Changes fields and keeps the others.
    #[inline]
    pub fn modify(self, bus: &mut impl Bus, fields: FieldValue<u32, F>) {
        let value = bus.read(self.offset);
        bus.write(self.offset, fields.modify(value));
    }
}

impl<F: RegisterLongName, A: Cause> Reg<F, A> {
    /// Reads it and clears nothing.
    #[inline]
    pub fn peek(self, bus: &mut impl Bus) -> LocalRegisterCopy<u32, F> {
        LocalRegisterCopy::new(bus.read(self.offset))
    }

    /// Reads it and clears exactly what was read: an event in between stays.
    #[inline]
    pub fn take(self, bus: &mut impl Bus) -> LocalRegisterCopy<u32, F> {
        let seen = bus.read(self.offset);
        if seen != 0 {
            bus.write(self.offset, A::clearing(seen));
        }
        LocalRegisterCopy::new(seen)
    }

    /// Clears `bits`, seen or not.
    #[inline]
    pub fn clear(self, bus: &mut impl Bus, bits: u32) {
        bus.write(self.offset, A::clearing(bits));
    }
}

impl<F: RegisterLongName> Reg<F, Roc> {
    /// Reads it, which clears it.
    #[inline]
    pub fn take(self, bus: &mut impl Bus) -> LocalRegisterCopy<u32, F> {
        LocalRegisterCopy::new(bus.read(self.offset))
    }
}

/// `COUNT` equal registers, `STRIDE` bytes apart.
#[derive(Debug)]
pub struct Regs<F: RegisterLongName, A, const COUNT: usize, const STRIDE: u32 = 4> {
    first: Reg<F, A>,
}

impl<F: RegisterLongName, A, const COUNT: usize, const STRIDE: u32> Regs<F, A, COUNT, STRIDE> {
    /// Registers of which the first is at `offset`.
    pub const fn at(offset: u32) -> Self {
        Regs {
            first: Reg::at(offset),
        }
    }

    /// Number `index`.
    ///
    /// # Panics
    ///
    /// In a debug build, if there is no such register.
    #[inline]
    pub const fn nth(&self, index: usize) -> Reg<F, A> {
        debug_assert!(index < COUNT);
        Reg::at(self.first.offset + STRIDE * index as u32)
    }

    /// All of them, in order.
    pub fn each(&self) -> impl Iterator<Item = Reg<F, A>> {
        let first = self.first.offset;
        (0..COUNT as u32).map(move |index| Reg::at(first + STRIDE * index))
    }
}

/// The real thing: registers at an address, mapped as Device-nGnRE.
#[cfg(target_os = "none")]
#[derive(Debug)]
pub struct Mmio {
    base: usize,
}

#[cfg(target_os = "none")]
#[expect(unsafe_code, reason = "registers are reached by address")]
impl Mmio {
    /// The block at `base`. Touches nothing.
    ///
    /// # Safety
    ///
    /// The block's registers are mapped as device memory from `base` on for as long as this lives, and whatever a
    /// driver may do through it is its to do.
    pub const unsafe fn new(base: usize) -> Self {
        Mmio { base }
    }
}

// Written in assembly so that each access is one load or store of 32 bits, of a kind that a hypervisor can decode.
#[cfg(target_os = "none")]
#[expect(unsafe_code, reason = "registers are reached by address")]
impl Bus for Mmio {
    #[inline]
    fn read(&mut self, offset: u32) -> u32 {
        let value: u32;
        let address = self.base + offset as usize;
        // SAFETY: a mapped register, by the promise given to `new`.
        unsafe {
            core::arch::asm!("ldr {:w}, [{}]", out(reg) value, in(reg) address, options(nostack, preserves_flags));
        }
        value
    }

    #[inline]
    fn write(&mut self, offset: u32, value: u32) {
        let address = self.base + offset as usize;
        // SAFETY: a mapped register, by the promise given to `new`.
        unsafe {
            core::arch::asm!("str {:w}, [{}]", in(reg) value, in(reg) address, options(nostack, preserves_flags));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tock_registers::register_bitfields;

    register_bitfields![u32,
        Control [ GO OFFSET(0) NUMBITS(1) [], LIMIT OFFSET(4) NUMBITS(4) [] ]
    ];

    /// One word, and what was done to it.
    #[derive(Default)]
    struct Word {
        value: u32,
        written: Vec<(u32, u32)>,
    }

    impl Bus for Word {
        fn read(&mut self, _: u32) -> u32 {
            self.value
        }

        fn write(&mut self, offset: u32, value: u32) {
            self.written.push((offset, value));
        }
    }

    fn word(value: u32) -> Word {
        Word {
            value,
            ..Word::default()
        }
    }

    #[test]
    fn modify_keeps_other_fields_and_write_does_not() {
        const CONTROL: Reg<Control::Register, Rw> = Reg::at(8);
        let mut bus = word(0xffff_ff01);
        CONTROL.modify(&mut bus, Control::LIMIT.val(3));
        CONTROL.write(&mut bus, Control::LIMIT.val(3) + Control::GO::SET);
        assert_eq!(bus.written, [(8, 0xffff_ff31), (8, 0x31)]);
        assert!(CONTROL.read(&mut bus).is_set(Control::GO));
    }

    #[test]
    fn taking_a_cause_clears_exactly_what_was_seen() {
        const ONES: Reg<Control::Register, W1c> = Reg::at(0);
        const ZEROS: Reg<Control::Register, W0c> = Reg::at(4);
        let mut bus = word(0b101);
        assert_eq!(ONES.take(&mut bus).get(), 0b101);
        assert_eq!(ZEROS.take(&mut bus).get(), 0b101);
        assert_eq!(bus.written, [(0, 0b101), (4, !0b101)]);
        bus = word(0);
        ZEROS.take(&mut bus);
        assert_eq!(bus.written, [], "nothing seen, nothing to clear");
    }

    #[test]
    fn arrays_count_from_their_first() {
        const TABLE: Regs<(), Rw, 3, 16> = Regs::at(0x40);
        let mut bus = word(0);
        TABLE.nth(2).set(&mut bus, 1);
        TABLE.each().for_each(|reg| reg.set(&mut bus, 2));
        assert_eq!(bus.written, [(0x60, 1), (0x40, 2), (0x50, 2), (0x60, 2)]);
    }
}
