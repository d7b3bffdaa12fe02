//! A small generator of random numbers, and changes that know nothing of what they change.

use crate::Target;

/// Values at which arithmetic on lengths and offsets goes wrong.
pub const INTERESTING: [u32; 24] = [
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    9,
    12,
    16,
    32,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x1000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fff0,
    0xffff_fffb,
    0xffff_fffc,
    0xffff_fffe,
    0xffff_ffff,
];

/// Inputs do not grow beyond this.
const MAX_BYTES: usize = 64 << 10;

/// SplitMix64 (Steele, Lea, Flood 2014): tiny, and any seed will do.
pub struct Rng(u64);

impl Rng {
    /// Starts the sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, or 0 if that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.bits().checked_rem(limit as u64).unwrap_or(0) as usize
    }

    /// One of `choices`.
    pub fn pick<'c, T: ?Sized>(&mut self, choices: &'c [&'c T]) -> Option<&'c T> {
        choices.get(self.below(choices.len())).copied()
    }

    /// A word at which something may go wrong.
    pub fn interesting(&mut self) -> u32 {
        match self.below(8) {
            0 => self.bits() as u32,
            1 => self.below(1 << 14) as u32,
            _ => INTERESTING
                .get(self.below(INTERESTING.len()))
                .copied()
                .unwrap_or(0),
        }
    }
}

/// One change of any bytes.
pub fn blindly(input: &mut Vec<u8>, target: &Target, rng: &mut Rng) {
    let at = rng.below(input.len());
    match rng.below(9) {
        0 => input
            .iter_mut()
            .skip(at)
            .take(1)
            .for_each(|byte| *byte ^= 1 << rng.below(8)),
        1 => input
            .iter_mut()
            .skip(at)
            .take(1)
            .for_each(|byte| *byte = rng.bits() as u8),
        2 => input.truncate(at),
        3 => put(input, at & !3, &rng.interesting().to_be_bytes()),
        4 => {
            let end = at + rng.below((input.len() - at).min(64) + 1);
            input.drain(at..end);
        }
        // From here on, bytes come from elsewhere: itself, another sound input, the words.
        5 => {
            let from = rng.below(input.len());
            let piece = input
                .iter()
                .skip(from)
                .take(rng.below(64))
                .copied()
                .collect::<Vec<_>>();
            insert(input, at, &piece);
        }
        6 => {
            let other = rng.pick(target.corpus).unwrap_or_default();
            let from = rng.below(other.len());
            let piece = other
                .iter()
                .skip(from)
                .take(rng.below(512))
                .copied()
                .collect::<Vec<_>>();
            put(input, at, &piece);
        }
        7 => insert(input, at, rng.pick(target.words).unwrap_or_default()),
        _ => put(input, at, rng.pick(target.words).unwrap_or_default()),
    }
}

/// Overwrites what is at `at`, as far as there is something.
pub fn put(input: &mut [u8], at: usize, piece: &[u8]) {
    input
        .iter_mut()
        .skip(at)
        .zip(piece)
        .for_each(|(byte, new)| *byte = *new);
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if input.len() + piece.len() <= MAX_BYTES {
        input.splice(at..at, piece.iter().copied());
    }
}
