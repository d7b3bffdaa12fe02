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
#[cfg(target_os = "none")]
pub use crate::arch::Head;

/// Slots for each direction. More flows than these take turns.
const SLOTS: usize = 16;
/// No port is before this. It keeps what is looked at inside.
const PORTS: usize = 32;
/// Where the begin of a frame is looked at: it is no multiple of sixteen bytes.
const VECTORS: [usize; 4] = [0, 16, 32, HEAD - 16];

/// What frames that have a verdict look like.
#[derive(Clone, Copy, Debug)]
struct Pattern {
    mask: [[u8; 16]; VECTORS.len()],
    value: [[u8; 16]; VECTORS.len()],
}

impl Pattern {
    /// No frame is equal to something where it does not count.
    const NONE: Pattern = Pattern {
        mask: [[0; 16]; VECTORS.len()],
        value: [[1; 16]; VECTORS.len()],
    };
}

/// The first bytes of a frame.
#[cfg(not(target_os = "none"))]
#[derive(Clone, Copy, Debug)]
pub struct Head([u8; HEAD]);

#[cfg(not(target_os = "none"))]
impl Head {
    /// Loads them.
    pub fn load(bytes: &[u8; HEAD]) -> Self {
        Head(*bytes)
    }

    /// Stores them.
    pub fn store(self, bytes: &mut [u8; HEAD]) {
        *bytes = self.0;
    }

    fn equals(self, mask: &[[u8; 16]; 4], value: &[[u8; 16]; 4]) -> bool {
        let equal = |vector: usize, n: usize| {
            self.0[VECTORS[vector] + n] & mask[vector][n] == value[vector][n]
        };
        (0..VECTORS.len()).all(|vector| (0..16).all(|n| equal(vector, n)))
    }
}

/// What is known of one direction.
#[derive(Clone, Debug)]
struct Side {
    /// Where the lower byte of the client's port is expected, behind [`PORTS`]: what tells most flows apart.
    port_at: u8,
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
            port_at: (port_at + tag_len - PORTS) as u8,
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

    /// The verdict on this frame, if one is known; `loaded` is the same as `head`.
    #[inline(always)] // in the path of every frame of a capture
    pub fn find(&self, head: &[u8; HEAD], loaded: Head, direction: Direction) -> Option<u32> {
        let side = &self.0[direction as usize % 2];
        let slot = side.slot(head);
        let Pattern { mask, value } = &side.patterns[slot];
        loaded.equals(mask, value).then(|| side.verdicts[slot])
    }

    /// Keeps a verdict that followed from these bytes of a frame, a bit for each.
    pub fn keep(&mut self, head: &[u8; HEAD], direction: Direction, read: u64, verdict: u32) {
        let side = &mut self.0[direction as usize % 2];
        let slot = side.slot(head);
        side.verdicts[slot] = verdict;
        let Pattern { mask, value } = &mut side.patterns[slot];
        for (vector, at) in VECTORS.into_iter().enumerate() {
            for n in 0..16 {
                let counts = read >> (at + n) & 1 == 1;
                mask[vector][n] = if counts { 0xff } else { 0 };
                value[vector][n] = mask[vector][n] & head[at + n];
            }
        }
    }
}

impl Side {
    #[inline(always)]
    fn slot(&self, head: &[u8; HEAD]) -> usize {
        let port = head[PORTS + usize::from(self.port_at) % SLOTS];
        usize::from(port) % SLOTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_read_counts() {
        let find = |verdicts: &Verdicts, head: &[u8; HEAD], direction| {
            verdicts.find(head, Head::load(head), direction)
        };
        let (received, sent) = (Direction::Received, Direction::Sent);
        let mut verdicts = Verdicts::new(0);
        let head: [u8; HEAD] = core::array::from_fn(|at| at as u8);
        for zeros in [[0; HEAD], head] {
            assert_eq!(find(&verdicts, &zeros, received), None);
        }
        let read = 1 | 1 << 8 | 1 << 51 | 1 << 52 | 1 << 59;
        verdicts.keep(&head, sent, read, 7);
        assert_eq!(find(&verdicts, &head, received), None);
        assert_eq!(find(&verdicts, &head, sent), Some(7));
        for at in 0..HEAD {
            for bit in 0..8 {
                let mut other = head;
                other[at] ^= 1 << bit;
                // Another slot.
                if at == 37 && bit < 4 {
                    continue;
                }
                let same = read >> at & 1 == 0;
                assert_eq!(find(&verdicts, &other, sent), same.then_some(7), "{at}");
            }
        }
    }
}
