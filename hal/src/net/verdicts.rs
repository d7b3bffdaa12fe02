//! What a filter said of frames, for the next ones like them.
//!
//! ```text
//!   filter ──► verdict, and the bytes it read ──► slot: mask, value, verdict        once for each flow
//!   frame & mask == value ? verdict : ask the filter                               for each frame
//! ```
//!
//! A filter that does the same with the same bytes cannot tell two frames apart that have those in common which it looked
//! at. Running it costs an instruction of ours for each bit of its work; comparing the begin of a frame under a mask
//! costs the same for every filter. Open vSwitch's megaflows are the same idea.

use super::bpf::HEAD;
use super::capture::Direction;

/// Slots for each direction. More flows than these take turns.
const SLOTS: usize = 16;
/// Where the begin of a frame is looked at, eight bytes each.
const LANES: [usize; 8] = [0, 8, 16, 24, 32, 40, 48, HEAD - 8];

/// What frames that have a verdict look like.
#[derive(Clone, Copy, Debug)]
struct Pattern {
    mask: [u64; LANES.len()],
    value: [u64; LANES.len()],
}

impl Pattern {
    /// No frame is equal to something where it does not count.
    const NONE: Pattern = Pattern {
        mask: [0; LANES.len()],
        value: [1; LANES.len()],
    };

    /// Written out: it has to be one run of vector instructions, whatever else the crate is compiled for.
    #[inline(always)]
    fn fits(&self, head: &[u8; HEAD]) -> bool {
        let differs = |lane: usize| word(head, LANES[lane]) & self.mask[lane] ^ self.value[lane];
        let first = differs(0) | differs(1) | differs(2) | differs(3);
        let second = differs(4) | differs(5) | differs(6) | differs(7);
        first | second == 0
    }
}

/// What is known of one direction.
#[derive(Clone, Debug)]
struct Side {
    /// Where the lower byte of the client's port is expected: what tells most flows apart.
    port_at: usize,
    verdicts: [u32; SLOTS],
    patterns: [Pattern; SLOTS],
}

/// Verdicts on frames whose first [`HEAD`] bytes are known.
#[derive(Clone, Debug)]
pub struct Verdicts([Side; 2]);

impl Verdicts {
    /// None, for frames with a switch tag of so many bytes.
    pub fn new(tag_len: usize) -> Self {
        let side = |port_at| Side {
            port_at: port_at + tag_len,
            verdicts: [0; SLOTS],
            patterns: [Pattern::NONE; SLOTS],
        };
        // Behind an IPv4 header: the destination's, the source's.
        Verdicts([side(37), side(35)])
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        for side in &mut self.0 {
            side.patterns = [Pattern::NONE; SLOTS];
        }
    }

    /// The verdict on this frame, if one is known.
    #[inline(always)] // in the path of every frame of a capture
    pub fn find(&self, head: &[u8; HEAD], direction: Direction) -> Option<u32> {
        let side = &self.0[direction as usize % 2];
        let slot = side.slot(head);
        side.patterns[slot].fits(head).then(|| side.verdicts[slot])
    }

    /// Keeps a verdict that followed from these bytes of a frame, a bit for each.
    pub fn keep(&mut self, head: &[u8; HEAD], direction: Direction, read: u64, verdict: u32) {
        let side = &mut self.0[direction as usize % 2];
        let slot = side.slot(head);
        side.verdicts[slot] = verdict;
        let Pattern { mask, value } = &mut side.patterns[slot];
        for (lane, at) in LANES.into_iter().enumerate() {
            mask[lane] = spread((read >> at) as u8);
            value[lane] = word(head, at) & mask[lane];
        }
    }
}

impl Side {
    #[inline(always)]
    fn slot(&self, head: &[u8; HEAD]) -> usize {
        usize::from(head.get(self.port_at).copied().unwrap_or(0)) % SLOTS
    }
}

#[inline(always)]
fn word(head: &[u8; HEAD], at: usize) -> u64 {
    let word = head.get(at..).and_then(|word| word.first_chunk());
    word.map_or(0, |word| u64::from_le_bytes(*word))
}

/// A byte of ones for each bit.
fn spread(bits: u8) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let apart = u64::from(bits) * ONES & 0x8040_2010_0804_0201;
    (apart + 0x7f * ONES >> 7 & ONES) * 0xff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_become_bytes() {
        for bits in 0..=255 {
            let bytes = spread(bits).to_le_bytes();
            for (n, byte) in bytes.into_iter().enumerate() {
                assert_eq!(byte, if bits >> n & 1 == 1 { 0xff } else { 0 });
            }
        }
    }

    #[test]
    fn only_what_was_read_counts() {
        let (received, sent) = (Direction::Received, Direction::Sent);
        let mut verdicts = Verdicts::new(0);
        let head: [u8; HEAD] = core::array::from_fn(|at| at as u8);
        for zeros in [[0; HEAD], head] {
            assert_eq!(verdicts.find(&zeros, received), None);
        }
        let read = 1 | 1 << 8 | 1 << 51 | 1 << 52 | 1 << 59;
        verdicts.keep(&head, sent, read, 7);
        assert_eq!(verdicts.find(&head, received), None);
        assert_eq!(verdicts.find(&head, sent), Some(7));
        for at in 0..HEAD {
            for bit in 0..8 {
                let mut other = head;
                other[at] ^= 1 << bit;
                // Another slot.
                if at == 37 && bit < 4 {
                    continue;
                }
                let same = read >> at & 1 == 0;
                assert_eq!(verdicts.find(&other, sent), same.then_some(7), "{at}");
            }
        }
    }
}
