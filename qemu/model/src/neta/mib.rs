//! MIB counters, 0x3000 to 0x307f: reading clears, and reading a low word latches its high one.
//!
//! Spec: Linux's statistics table and FreeBSD's register names; where they differ (0x50, the size classes) see `doubts`.

/// One counter, named by its offset from 0x3000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the counters' own")]
pub enum Counter {
    GoodOctetsReceived = 0x00,
    BadOctetsReceived = 0x08,
    MacTransmitError = 0x0c,
    GoodFramesReceived = 0x10,
    BadFramesReceived = 0x14,
    BroadcastReceived = 0x18,
    MulticastReceived = 0x1c,
    Frames64 = 0x20,
    Frames65To127 = 0x24,
    Frames128To255 = 0x28,
    Frames256To511 = 0x2c,
    Frames512To1023 = 0x30,
    Frames1024ToMax = 0x34,
    GoodOctetsSent = 0x38,
    GoodFramesSent = 0x40,
    MulticastSent = 0x48,
    BroadcastSent = 0x4c,
    UnrecognisedMacControl = 0x50,
    GoodFlowControlReceived = 0x58,
    Undersize = 0x60,
    Fragments = 0x64,
    Oversize = 0x68,
    BadCrc = 0x74,
}

impl Counter {
    /// The size class of a frame whose length includes the FCS.
    #[must_use]
    pub fn size_class(length: usize) -> Self {
        match length {
            0..=64 => Self::Frames64,
            65..=127 => Self::Frames65To127,
            128..=255 => Self::Frames128To255,
            256..=511 => Self::Frames256To511,
            512..=1023 => Self::Frames512To1023,
            _ => Self::Frames1024ToMax,
        }
    }
}

/// The counters of one port.
#[derive(Debug, Clone, Default)]
pub struct Mib {
    counters: [u64; 32],
    latched_high: [u32; 32],
}

/// Slots whose high word stands in the next register.
const WIDE: [usize; 2] = [
    Counter::GoodOctetsReceived as usize / 4,
    Counter::GoodOctetsSent as usize / 4,
];

impl Mib {
    /// Adds to a counter; 32-bit ones wrap.
    pub fn add(&mut self, counter: Counter, amount: usize) {
        let slot = counter as usize / 4;
        self.counters[slot] = self.counters[slot].wrapping_add(amount as u64);
    }

    /// Register read at `offset` from 0x3000.
    pub fn read(&mut self, offset: u32) -> u32 {
        let slot = (offset as usize / 4) % 32;
        if slot > 0 && WIDE.contains(&(slot - 1)) {
            return std::mem::take(&mut self.latched_high[slot - 1]);
        }
        let value = std::mem::take(&mut self.counters[slot]);
        if WIDE.contains(&slot) {
            self.latched_high[slot] = (value >> 32) as u32;
        }
        value as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_word_latches_high_and_both_clear() {
        let mut mib = Mib::default();
        mib.add(Counter::GoodOctetsSent, 0x1_0000_0002);
        assert_eq!(mib.read(0x38), 2);
        mib.add(Counter::GoodOctetsSent, 0x5_0000_0000);
        assert_eq!(
            mib.read(0x3c),
            1,
            "the high word belongs to the low word read before"
        );
        assert_eq!(mib.read(0x3c), 0);
        assert_eq!((mib.read(0x38), mib.read(0x3c)), (0, 5));
    }
}
