//! Memory that nobody uses: each word holds its address, then the opposite, then a walking 1, then a walking 0.
//!
//! All blocks are filled before one is checked, so that two addresses which are the same memory show, and the blocks lie
//! far apart, so that most address lines take part. What is written goes through to memory before it is read.

use super::Bed;
use super::lab::{Lab, NOT_DONE, Op, Outcome, Trouble};

/// What is tested at a time, aligned to itself.
pub const BLOCK_BYTES: u64 = 2 << 20;
/// Blocks tested at most.
pub(super) const BLOCKS: usize = 16;
/// What is done in one step: some tens of microseconds.
const SLICE_BYTES: usize = 16 << 10;

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

/// The first wrong word: its address, what it should hold, and what it holds.
pub(super) type Found = Option<(u64, u64, u64)>;

pub(super) fn find(lab: &Lab, bed: &mut dyn Bed) -> u64 {
    let mut at = [0; BLOCKS];
    let free = bed.free_memory(&mut at);
    lab.blocks.set(at);
    free as u64
}

pub(super) fn work(lab: &Lab, bed: &mut dyn Bed, slice: Slice) -> u64 {
    let mut wrong = 0;
    let done = bed.with_memory(slice.address, SLICE_BYTES, &mut |words| {
        for (address, word) in (slice.address..).step_by(8).zip(words) {
            if let Some(pattern) = slice.check {
                let expected = pattern.word(address);
                if *word != expected {
                    wrong += 1;
                    let first = lab.found.get().or(Some((address, expected, *word)));
                    lab.found.set(first);
                }
            }
            if let Some(pattern) = slice.fill {
                *word = pattern.word(address);
            }
        }
    });
    if done { wrong } else { NOT_DONE }
}

pub(super) async fn test(lab: &Lab) -> Outcome {
    let free = lab.ask(Op::FreeMemory).await;
    let blocks = lab.blocks.get();
    let tested = &blocks[..BLOCKS.min(free as usize)];
    if tested.is_empty() {
        return Err(Trouble::Absent("no free memory"));
    }
    lab.found.set(None);
    let mut wrong = 0;
    let mut check = None;
    let patterns = [
        Pattern::Address,
        Pattern::Opposite,
        Pattern::One,
        Pattern::Zero,
    ]
    .map(Some);
    for fill in patterns.into_iter().chain([None]) {
        for block in tested {
            for address in (*block..block + BLOCK_BYTES).step_by(SLICE_BYTES) {
                match lab
                    .ask(Op::Slice(Slice {
                        address,
                        check,
                        fill,
                    }))
                    .await
                {
                    NOT_DONE => {
                        lab.wrong(0, format_args!("{address:#x} cannot be read"));
                        return Ok(());
                    }
                    count => wrong += count,
                }
            }
        }
        check = fill;
    }
    let mib = tested.len() as u64 * (BLOCK_BYTES >> 20);
    let of = free * (BLOCK_BYTES >> 20);
    lab.say(
        0,
        format_args!("{mib} of {of} MiB free, 4 patterns, {wrong} words differ"),
    );
    if let Some((address, expected, found)) = lab.found.get() {
        lab.wrong(
            0,
            format_args!("first {address:#x}: {found:#018x} instead of {expected:#018x}"),
        );
    }
    Ok(())
}
