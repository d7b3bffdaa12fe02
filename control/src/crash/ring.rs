//! Rings of cells that prove themselves: memory may have lost a bit, or the writer may have died in the middle.
//!
//! ```text
//!   word 0   31..0 seal: of the start's number, the cell's number and the other bits   63..32 content
//!   word 1.. content
//!
//!   written  31..0 cells ever written   63..32 the same again, inverted and mixed with the start's number
//! ```
//!
//! A cell counts if its seal fits: then it was written as a whole, in this start, in this place, in this round. No word
//! is ever read and changed: what is written is on its way to memory at once, and nothing has to be put in order later.

use core::sync::atomic::{AtomicU64, Ordering};

/// Words of the largest cell.
const MAX_WORDS: usize = 8;

/// A ring in memory.
pub struct Ring<'b> {
    written: &'b AtomicU64,
    /// The cells, one behind the other.
    words: &'b [AtomicU64],
    /// Words of a cell.
    width: usize,
    /// The number of the start that writes.
    start: u64,
}

impl<'b> Ring<'b> {
    pub(super) fn new<const WIDTH: usize>(
        written: &'b AtomicU64,
        cells: &'b [[AtomicU64; WIDTH]],
        start: u64,
    ) -> Self {
        const { assert!(WIDTH <= MAX_WORDS) };
        let words = cells.as_flattened();
        Ring {
            written,
            words,
            width: WIDTH,
            start,
        }
    }

    /// Cells ever written, if that is what memory says.
    fn written(&self) -> Option<u64> {
        let word = self.written.load(Ordering::Relaxed);
        let count = word & 0xffff_ffff;
        (self.counter(count) == word).then_some(count)
    }

    fn counter(&self, count: u64) -> u64 {
        (!count ^ self.start) << 32 | count & 0xffff_ffff
    }

    /// Cells that there is room for.
    fn len(&self) -> u64 {
        (self.words.len() / self.width) as u64
    }

    fn cell(&self, number: u64) -> &'b [AtomicU64] {
        let at = (number % self.len()) as usize * self.width;
        &self.words[at..at + self.width]
    }

    /// The lower half of the first word is the seal's.
    fn seal(&self, number: u64, cell: &[u64]) -> u64 {
        let mut sum = number ^ self.start.rotate_left(32) ^ 0x5253_544f;
        for (index, word) in cell.iter().enumerate() {
            sum ^= if index == 0 { word >> 32 } else { *word };
            sum = sum.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            sum ^= sum >> 32;
        }
        sum & 0xffff_ffff
    }

    /// Writes one more cell; the lower half of its first word is 0.
    pub fn push(&self, cell: &[u64]) {
        let number = self.written().unwrap_or(0);
        let seal = self.seal(number, cell);
        for (index, (place, word)) in self.cell(number).iter().zip(cell).enumerate() {
            let seal = if index == 0 { seal } else { 0 };
            place.store(word | seal, Ordering::Relaxed);
        }
        let counter = self.counter(number + 1);
        self.written.store(counter, Ordering::Relaxed);
    }

    /// Forgets all cells.
    pub(super) fn clear(&self) {
        self.written.store(self.counter(0), Ordering::Relaxed);
    }

    /// The last cells, the oldest first, at most `most` of them: `None` for one that does not count. Whether all count;
    /// of the newest and the oldest, where the writer may have died, this is not asked.
    pub fn each(&self, most: usize, each: &mut dyn FnMut(Option<&[u64]>)) -> bool {
        let Some(written) = self.written() else {
            return false;
        };
        // The oldest is where the next will be.
        let kept = written.min(self.len() - 1).min(most as u64);
        let mut whole = true;
        for number in written - kept..written {
            let mut words = [0; MAX_WORDS];
            for (word, place) in words.iter_mut().zip(self.cell(number)) {
                *word = place.load(Ordering::Relaxed);
            }
            let cell = &words[..self.width];
            let counts = self.seal(number, cell) == cell[0] & 0xffff_ffff;
            whole &= counts || number + 1 == written;
            each(counts.then_some(cell));
        }
        whole
    }

    /// Whether some older cells are gone.
    pub fn is_full(&self, most: usize) -> bool {
        self.written().unwrap_or(0) > (self.len() - 1).min(most as u64)
    }
}
