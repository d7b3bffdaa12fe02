//! The model's sides: what the board asks of whoever runs it, and what every block shares.
//!
//! A block owns registers and nothing else. Memory, time, the interrupt controller and the log belong to the host of
//! the model (a test, or QEMU) and reach a block through the two types of this module on every call:
//!
//! ```text
//!   host ── read(offset) / write(offset) ──▶ block ── Env ──▶ now, log, strict, doubts, faults, random numbers
//!                                              └───── Dma ──▶ the board's DRAM
//! ```

use crate::{doubts::Doubts, faults::Faults, prng::Prng};

/// Virtual time since power-on, in nanoseconds.
pub type Nanos = u64;

/// Device side of the board's memory. Addresses are physical; DRAM starts at 0.
///
/// A test may keep the CPU's and the device's view apart behind this trait, so that missing cache upkeep shows.
pub trait Dma {
    /// Copies memory into `data`; false when any byte lies outside what a device may read.
    fn read(&mut self, address: u64, data: &mut [u8]) -> bool;
    /// Copies `data` into memory; false when any byte lies outside what a device may write.
    fn write(&mut self, address: u64, data: &[u8]) -> bool;
}

/// Plain memory from address 0 up, coherent for everybody.
#[derive(Debug, Clone)]
pub struct Ram(pub Vec<u8>);

impl Ram {
    /// Zeroed memory of `size` bytes.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self(vec![0; size])
    }

    fn range(&self, address: u64, len: usize) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(address).ok()?;
        let end = start.checked_add(len)?;
        (end <= self.0.len()).then_some(start..end)
    }
}

impl Dma for Ram {
    fn read(&mut self, address: u64, data: &mut [u8]) -> bool {
        let Some(range) = self.range(address, data.len()) else {
            return false;
        };
        data.copy_from_slice(&self.0[range]);
        true
    }

    fn write(&mut self, address: u64, data: &[u8]) -> bool {
        let Some(range) = self.range(address, data.len()) else {
            return false;
        };
        self.0[range].copy_from_slice(data);
        true
    }
}

/// One wrong use of the hardware by the software that runs on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestError {
    /// When it happened.
    pub at: Nanos,
    /// Block that noticed, as in the file name: `neta0`, `mdio`, `switch` ...
    pub block: &'static str,
    /// What was wrong, with the values needed to find the culprit.
    pub what: String,
}

/// What every block shares: time, complaints, readings of the doubtful facts, faults and chance.
#[derive(Debug)]
pub struct Env {
    /// Virtual time of the current access.
    pub now: Nanos,
    /// The readings chosen for what the sources leave open.
    pub doubts: Doubts,
    /// Misbehaviour asked for.
    pub faults: Faults,
    /// The only source of chance; seeded, so a run can be repeated.
    pub prng: Prng,
    /// A guest error stops the machine.
    pub strict: bool,
    errors: Vec<GuestError>,
    error_count: u64,
    stop: Option<String>,
}

/// Guest errors kept with their text until somebody takes them; further ones are only counted.
pub const GUEST_ERROR_LOG: usize = 1024;

/// Seed of [`Env::prng`] unless the host gives another.
pub const DEFAULT_SEED: u64 = 0x3720_0e5b_1b1b_0001;

impl Default for Env {
    fn default() -> Self {
        Self {
            now: 0,
            doubts: Doubts::default(),
            faults: Faults::default(),
            prng: Prng::new(DEFAULT_SEED),
            strict: false,
            errors: Vec::new(),
            error_count: 0,
            stop: None,
        }
    }
}

impl Env {
    /// Notes a wrong use of `block`; with [`Env::strict`] the first one becomes the reason to stop.
    pub fn guest_error(&mut self, block: &'static str, what: impl Into<String>) {
        let what = what.into();
        self.error_count += 1;
        if self.strict && self.stop.is_none() {
            self.stop = Some(format!("{block}: {what}"));
        }
        if self.errors.len() < GUEST_ERROR_LOG {
            self.errors.push(GuestError {
                at: self.now,
                block,
                what,
            });
        }
    }

    /// Guest errors since the last call, oldest first.
    pub fn take_guest_errors(&mut self) -> Vec<GuestError> {
        std::mem::take(&mut self.errors)
    }

    /// Guest errors noted and not yet taken.
    #[must_use]
    pub fn guest_errors(&self) -> &[GuestError] {
        &self.errors
    }

    /// Guest errors since power-on, taken or not.
    #[must_use]
    pub fn guest_error_count(&self) -> u64 {
        self.error_count
    }

    /// Why the machine must stop, once [`Env::strict`] has caught something.
    #[must_use]
    pub fn stop_reason(&self) -> Option<&str> {
        self.stop.as_deref()
    }
}

/// Earlier of two optional points in time.
#[must_use]
pub fn earliest(a: Option<Nanos>, b: Option<Nanos>) -> Option<Nanos> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Access of less than a register's width, for the 32-bit register blocks of this SoC: the addressed bytes of a word.
#[must_use]
pub fn narrow(word: u32, offset: u32, size: u8) -> u32 {
    let shifted = word >> (8 * (offset & 3));
    match size {
        1 => shifted & 0xff,
        2 => shifted & 0xffff,
        _ => shifted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_refuses_what_lies_outside() {
        let mut ram = Ram::new(16);
        assert!(ram.write(8, &[1; 8]));
        assert!(!ram.write(9, &[1; 8]));
        assert!(!ram.read(u64::MAX, &mut [0; 2]));
        let mut back = [0; 2];
        assert!(ram.read(7, &mut back));
        assert_eq!(back, [0, 1]);
    }

    #[test]
    fn strict_keeps_the_first_reason_and_the_log_is_bounded() {
        let mut env = Env {
            strict: true,
            ..Env::default()
        };
        for n in 0..GUEST_ERROR_LOG + 5 {
            env.guest_error("neta0", format!("number {n}"));
        }
        assert_eq!(env.stop_reason(), Some("neta0: number 0"));
        assert_eq!(env.guest_error_count(), GUEST_ERROR_LOG as u64 + 5);
        assert_eq!(env.take_guest_errors().len(), GUEST_ERROR_LOG);
        assert!(env.guest_errors().is_empty());
    }

    #[test]
    fn narrow_picks_the_addressed_bytes() {
        assert_eq!(narrow(0x4433_2211, 2, 1), 0x33);
        assert_eq!(narrow(0x4433_2211, 2, 2), 0x4433);
        assert_eq!(narrow(0x4433_2211, 0, 4), 0x4433_2211);
    }
}
