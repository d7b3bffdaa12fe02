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

/// Slots for each direction. More flows than these take turns.
const SLOTS: usize = 16;
/// Where the begin of a frame is looked at, eight bytes each.
const LANES: [usize; 8] = [0, 8, 16, 24, 32, 40, 48, HEAD - 8];

/// One verdict.
#[derive(Clone, Copy, Debug)]
struct Slot {
    mask: [u64; LANES.len()],
    value: [u64; LANES.len()],
    verdict: u32,
}

impl Slot {
    /// No frame is equal to something where it does not count.
    const EMPTY: Slot = Slot {
        mask: [0; LANES.len()],
        value: [1; LANES.len()],
        verdict: 0,
    };
}

/// Verdicts on frames whose first [`HEAD`] bytes are known.
#[derive(Clone, Debug)]
pub struct Verdicts {
    slots: [[Slot; SLOTS]; 2],
    /// Where the ports of UDP and TCP are expected: what tells most flows apart.
    ports_at: usize,
}

impl Verdicts {
    /// None. `ports_at`: where most frames have two ports of 16 bits, one of which tells flows apart.
    pub const fn new(ports_at: usize) -> Self {
        Verdicts {
            slots: [[Slot::EMPTY; SLOTS]; 2],
            ports_at,
        }
    }

    /// The verdict on this frame, if one is known.
    #[inline(always)] // in the path of every frame of a capture
    pub fn find(&self, head: &[u8; HEAD], sent: bool) -> Option<u32> {
        let slot = &self.slots[usize::from(sent)][self.index(head)];
        let mut differs = 0;
        for (lane, at) in LANES.into_iter().enumerate() {
            differs |= word(head, at) & slot.mask[lane] ^ slot.value[lane];
        }
        (differs == 0).then_some(slot.verdict)
    }

    /// Keeps a verdict that followed from these bytes of a frame, a bit for each.
    pub fn keep(&mut self, head: &[u8; HEAD], sent: bool, read: u64, verdict: u32) {
        let index = self.index(head);
        let slot = &mut self.slots[usize::from(sent)][index];
        slot.verdict = verdict;
        for (lane, at) in LANES.into_iter().enumerate() {
            slot.mask[lane] = spread((read >> at) as u8);
            slot.value[lane] = word(head, at) & slot.mask[lane];
        }
    }

    #[inline(always)]
    fn index(&self, head: &[u8; HEAD]) -> usize {
        let ports = head
            .get(self.ports_at..)
            .and_then(|ports| ports.first_chunk());
        let ports = ports.map_or(0, |ports| u32::from_le_bytes(*ports));
        // The lower byte of either.
        (ports >> 8 ^ ports >> 24) as usize % SLOTS
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
        let mut verdicts = Verdicts::new(34);
        let head: [u8; HEAD] = core::array::from_fn(|at| at as u8);
        for zeros in [[0; HEAD], head] {
            assert_eq!(verdicts.find(&zeros, false), None);
        }
        let read = 1 | 1 << 8 | 1 << 51 | 1 << 52 | 1 << 59;
        verdicts.keep(&head, true, read, 7);
        assert_eq!(verdicts.find(&head, false), None);
        assert_eq!(verdicts.find(&head, true), Some(7));
        for at in 0..HEAD {
            for bit in 0..8 {
                let mut other = head;
                other[at] ^= 1 << bit;
                // Another slot.
                if [35, 37].contains(&at) && bit < 4 {
                    continue;
                }
                let same = read >> at & 1 == 0;
                assert_eq!(verdicts.find(&other, true), same.then_some(7), "{at}");
            }
        }
    }
}
