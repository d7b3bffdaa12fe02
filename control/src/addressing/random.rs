//! Random spacing for probes, and the sequence of link-local candidates. Not for secrets.

use smoltcp::time::Duration;

/// SplitMix64: any seed is a good one, and a sequence can be told from its seed alone.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u32) -> u32 {
        (((self.next() >> 32) * u64::from(end)) >> 32) as u32
    }

    /// A time between two bounds, both included, in whole milliseconds.
    pub(super) fn between_ms(&mut self, low_ms: u32, high_ms: u32) -> Duration {
        Duration::from_millis(u64::from(low_ms + self.below(high_ms - low_ms + 1)))
    }
}
