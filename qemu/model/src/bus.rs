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

/// Bytes of a cache line of the Cortex-A53.
pub const CACHE_LINE: u64 = 64;

/// Memory of which processor and devices hold different views until software does its cache upkeep.
///
/// The processor's side is [`SplitRam::cpu_read`] and [`SplitRam::cpu_write`]; what it wrote reaches the device with
/// [`SplitRam::clean`], and what the device wrote is seen after [`SplitRam::invalidate`]. Uncached ranges have one view.
/// A device that reads a line the processor has written and not cleaned, or writes one that the processor still holds
/// dirty, is a mistake of the software: [`SplitRam::take_mistakes`].
#[derive(Debug, Clone)]
pub struct SplitRam {
    cpu: Vec<u8>,
    device: Vec<u8>,
    dirty: Vec<bool>,
    uncached: Vec<std::ops::Range<u64>>,
    mistakes: Vec<String>,
}

impl SplitRam {
    /// Zeroed memory of `size` bytes from address 0, a multiple of the cache line.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let size = size.next_multiple_of(CACHE_LINE as usize);
        Self {
            cpu: vec![0; size],
            device: vec![0; size],
            dirty: vec![false; size / CACHE_LINE as usize],
            uncached: Vec::new(),
            mistakes: Vec::new(),
        }
    }

    /// Maps a range uncached: both sides see every write at once.
    pub fn map_uncached(&mut self, range: std::ops::Range<u64>) {
        self.uncached.push(range);
    }

    /// Mistakes since the last call.
    pub fn take_mistakes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.mistakes)
    }

    /// The processor reads; false when outside.
    #[must_use]
    pub fn cpu_read(&self, address: u64, data: &mut [u8]) -> bool {
        let Some(range) = self.range(address, data.len()) else {
            return false;
        };
        data.copy_from_slice(&self.cpu[range]);
        true
    }

    /// The processor writes; false when outside.
    pub fn cpu_write(&mut self, address: u64, data: &[u8]) -> bool {
        let Some(range) = self.range(address, data.len()) else {
            return false;
        };
        self.cpu[range.clone()].copy_from_slice(data);
        if self.is_uncached(address) {
            self.device[range].copy_from_slice(data);
        } else {
            self.lines(address, data.len())
                .for_each(|line| self.dirty[line] = true);
        }
        true
    }

    /// Writes the processor's dirty lines of a range back.
    pub fn clean(&mut self, address: u64, len: usize) {
        for line in self.lines(address, len) {
            if std::mem::take(&mut self.dirty[line]) {
                let bytes = line * CACHE_LINE as usize..(line + 1) * CACHE_LINE as usize;
                self.device[bytes.clone()].copy_from_slice(&self.cpu[bytes]);
            }
        }
    }

    /// Forgets the processor's view of a range, what it wrote and did not clean included.
    pub fn invalidate(&mut self, address: u64, len: usize) {
        for line in self.lines(address, len) {
            self.dirty[line] = false;
            let bytes = line * CACHE_LINE as usize..(line + 1) * CACHE_LINE as usize;
            self.cpu[bytes.clone()].copy_from_slice(&self.device[bytes]);
        }
    }

    fn range(&self, address: u64, len: usize) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(address).ok()?;
        let end = start.checked_add(len)?;
        (end <= self.cpu.len()).then_some(start..end)
    }

    fn is_uncached(&self, address: u64) -> bool {
        self.uncached.iter().any(|range| range.contains(&address))
    }

    fn lines(&self, address: u64, len: usize) -> std::ops::Range<usize> {
        let last = self.dirty.len();
        let end = address.saturating_add(len as u64).div_ceil(CACHE_LINE);
        let start = if len == 0 { end } else { address / CACHE_LINE };
        (start as usize).min(last)..(end as usize).min(last)
    }
}

impl Dma for SplitRam {
    fn read(&mut self, address: u64, data: &mut [u8]) -> bool {
        let Some(range) = self.range(address, data.len()) else {
            return false;
        };
        if self.lines(address, data.len()).any(|line| self.dirty[line]) {
            self.mistakes.push(format!(
                "the device read {} bytes at {address:#x}, not cleaned",
                data.len()
            ));
        }
        data.copy_from_slice(&self.device[range]);
        true
    }

    fn write(&mut self, address: u64, data: &[u8]) -> bool {
        let Some(range) = self.range(address, data.len()) else {
            return false;
        };
        if self.lines(address, data.len()).any(|line| self.dirty[line]) {
            self.mistakes.push(format!(
                "the device wrote {} bytes at {address:#x}, where a dirty line may be written back over them",
                data.len()
            ));
        }
        self.device[range.clone()].copy_from_slice(data);
        if self.is_uncached(address) {
            self.cpu[range].copy_from_slice(data);
        }
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
    fn forgotten_cache_upkeep_shows() {
        let mut ram = SplitRam::new(256);
        let mut seen = [9; 4];
        ram.cpu_write(0, &[1, 2, 3, 4]);
        assert!(ram.read(0, &mut seen));
        assert_eq!(
            seen, [0; 4],
            "the device sees what was cleaned, and nothing was"
        );
        assert_eq!(ram.take_mistakes().len(), 1);
        ram.clean(2, 1);
        ram.read(0, &mut seen);
        assert_eq!(seen, [1, 2, 3, 4], "a whole line is cleaned");
        ram.write(64, &[7]);
        assert!(ram.cpu_read(64, &mut seen));
        assert_eq!(seen[0], 0);
        ram.invalidate(64, 1);
        assert!(ram.cpu_read(64, &mut seen));
        assert_eq!(seen[0], 7);
        assert_eq!(ram.take_mistakes(), [""; 0]);
        ram.cpu_write(127, &[1]);
        ram.write(64, &[8]);
        assert_eq!(
            ram.take_mistakes().len(),
            1,
            "the neighbour in the line is dirty"
        );
        ram.map_uncached(128..192);
        ram.cpu_write(128, &[5]);
        ram.read(128, &mut seen);
        assert_eq!((seen[0], ram.take_mistakes().len()), (5, 0));
        assert!(!ram.cpu_write(255, &[0; 2]) && !ram.read(256, &mut seen));
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
