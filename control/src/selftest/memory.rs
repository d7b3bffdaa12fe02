//! Memory that nobody uses: each word holds its address, then the opposite, then a walking 1, then a walking 0.
//!
//! All blocks are filled before one is checked, so that two addresses which are the same memory show, and the blocks lie
//! far apart, so that most address lines take part. What is written goes through to memory before it is read.

use super::Bed;
use super::lab::{Answer, Lab, Op, Outcome, Trouble, detail};

/// What is tested at a time, aligned to itself.
pub const BLOCK_BYTES: u64 = 2 << 20;
/// Blocks tested at most.
const BLOCKS: usize = 16;
/// What is done in one step: some tens of microseconds.
const SLICE_BYTES: usize = 16 << 10;

/// Where the blocks lie, and how many free ones there are.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    at: [u64; BLOCKS],
    free: usize,
}

/// What a word holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    Address,
    Opposite,
    One,
    Zero,
}

impl Pattern {
    fn word(self, address: u64) -> u64 {
        // Spread, so that the upper half of the word takes part.
        let spread = address ^ address.rotate_left(29);
        let one = 1 << (address / 8 % 64);
        match self {
            Pattern::Address => spread,
            Pattern::Opposite => !spread,
            Pattern::One => one,
            Pattern::Zero => !one,
        }
    }
}

/// A piece of memory: whether it still holds something, and what it is to hold next.
#[derive(Clone, Copy)]
pub(super) struct Slice {
    address: u64,
    check: Option<Pattern>,
    fill: Option<Pattern>,
}

/// What was wrong in a slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    wrong: u64,
    /// The first of them: address, what it should hold, and what it holds.
    first: Option<(u64, u64, u64)>,
}

pub(super) fn find(bed: &mut dyn Bed) -> Blocks {
    let mut at = [0; BLOCKS];
    let free = bed.free_memory(&mut at);
    Blocks { at, free }
}

pub(super) fn work(bed: &mut dyn Bed, slice: Slice) -> Result<Found, &'static str> {
    let mut found = Found::default();
    bed.with_memory(slice.address, SLICE_BYTES, &mut |words| {
        for (address, word) in (slice.address..).step_by(8).zip(words) {
            if let Some(pattern) = slice.check {
                let expected = pattern.word(address);
                if *word != expected {
                    found.wrong += 1;
                    found.first = found.first.or(Some((address, expected, *word)));
                }
            }
            if let Some(pattern) = slice.fill {
                *word = pattern.word(address);
            }
        }
    })?;
    Ok(found)
}

pub(super) async fn test(lab: &Lab) -> Outcome {
    let Answer::Memory(blocks) = lab.ask(Op::FreeMemory).await else {
        return Err(Trouble::Absent("no memory"));
    };
    let tested = &blocks.at[..blocks.free.min(BLOCKS)];
    if tested.is_empty() {
        return Err(Trouble::Absent("no free memory"));
    }
    let mut all = Found::default();
    let mut before = None;
    let patterns = [
        Pattern::Address,
        Pattern::Opposite,
        Pattern::One,
        Pattern::Zero,
    ];
    for fill in patterns.map(Some).into_iter().chain([None]) {
        for block in tested {
            for address in (*block..block + BLOCK_BYTES).step_by(SLICE_BYTES) {
                let slice = Slice {
                    address,
                    check: before,
                    fill,
                };
                match lab.ask(Op::Slice(slice)).await {
                    Answer::Slice(Ok(found)) => {
                        all.wrong += found.wrong;
                        all.first = all.first.or(found.first);
                    }
                    Answer::Slice(Err(why)) => {
                        return Err(Trouble::wrong(format_args!("{address:#x}: {why}")));
                    }
                    _ => {}
                }
            }
        }
        before = fill;
    }
    let mib = tested.len() as u64 * (BLOCK_BYTES >> 20);
    let of = blocks.free as u64 * (BLOCK_BYTES >> 20);
    match all.first {
        None => Ok(detail(format_args!(
            "{mib} of {of} MiB free, 4 patterns, 0 words differ"
        ))),
        Some((address, expected, found)) => Err(Trouble::wrong(format_args!(
            "{mib} of {of} MiB free, 4 patterns, {} words differ, first {address:#x}: {found:#018x} instead of {expected:#018x}",
            all.wrong
        ))),
    }
}
