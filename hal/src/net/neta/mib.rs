//! The MAC's own counters, added up to 64 bits.
//!
//! Reading clears the hardware's, so every value read is added here; the caller decides how often. The quickest to
//! overflow are the 32 bits of bad octets, after 34 s at full rate.

use super::regs::{MIB, RX_DISCARD, RX_OVERRUN, TX_BAD_FCS, TX_DROPPED};
use crate::regs::Bus;

/// A name, help text, and the register's number from 0x3000.
struct Counter(&'static str, &'static str, u8);

/// Number of a register whose high word stands in the next one.
const WIDE: [usize; 2] = [0, 14];

/// In the order of the hardware. Where Linux and FreeBSD name one differently, the text says so.
const COUNTERS: [Counter; 30] = [
    Counter(
        "mib_rx_bytes",
        "Octets received in good frames, with FCS",
        0,
    ),
    Counter("mib_rx_bad_bytes", "Octets received in bad frames", 2),
    Counter(
        "mib_tx_mac_error",
        "Frames lost by an internal error of the MAC",
        3,
    ),
    Counter("mib_rx_good", "Good frames received", 4),
    Counter("mib_rx_bad", "Bad frames received", 5),
    Counter("mib_rx_broadcast", "Broadcast frames received", 6),
    Counter("mib_rx_multicast", "Multicast frames received", 7),
    Counter(
        "mib_64",
        "Frames of 64 octets (received ones by FreeBSD, open by Linux)",
        8,
    ),
    Counter("mib_65_127", "Frames of 65 to 127 octets", 9),
    Counter("mib_128_255", "Frames of 128 to 255 octets", 10),
    Counter("mib_256_511", "Frames of 256 to 511 octets", 11),
    Counter("mib_512_1023", "Frames of 512 to 1023 octets", 12),
    Counter("mib_1024_max", "Frames of 1024 octets and more", 13),
    Counter("mib_tx_bytes", "Octets sent in good frames, with FCS", 14),
    Counter("mib_tx_good", "Good frames sent", 16),
    Counter(
        "mib_tx_excessive_collision",
        "Frames given up after 16 collisions",
        17,
    ),
    Counter("mib_tx_multicast", "Multicast frames sent", 18),
    Counter("mib_tx_broadcast", "Broadcast frames sent", 19),
    Counter(
        "mib_mac_control",
        "Unknown MAC control frames received (sent with errors by FreeBSD)",
        20,
    ),
    Counter("mib_tx_pause", "Pause frames sent", 21),
    Counter("mib_rx_pause", "Good pause frames received", 22),
    Counter("mib_rx_bad_pause", "Bad pause frames received", 23),
    Counter(
        "mib_rx_undersize",
        "Frames shorter than 64 octets with a good FCS",
        24,
    ),
    Counter(
        "mib_rx_fragments",
        "Frames shorter than 64 octets with a bad FCS",
        25,
    ),
    Counter(
        "mib_rx_oversize",
        "Frames longer than the limit with a good FCS",
        26,
    ),
    Counter(
        "mib_rx_jabber",
        "Frames longer than the limit with a bad FCS",
        27,
    ),
    Counter(
        "mib_rx_mac_error",
        "Receive errors signalled on the RGMII wires",
        28,
    ),
    Counter("mib_rx_crc", "Frames with a bad FCS", 29),
    Counter("mib_collision", "Collisions", 30),
    Counter("mib_late_collision", "Late collisions", 31),
];

/// Totals since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mib {
    registers: [u64; 32],
    /// Frames that found no descriptor, 0x2484.
    pub rx_discard: u64,
    /// Frames lost in the receive FIFO, 0x2488.
    pub rx_fifo_overrun: u64,
    /// Frames sent with a bad FCS, 0x3cc0.
    pub tx_bad_fcs: u64,
    /// Frames dropped before the wire, 0x3cc4.
    pub tx_dropped: u64,
}

impl Mib {
    /// Adds what the hardware has counted since the last time, which clears it there.
    pub fn collect(&mut self, bus: &mut impl Bus) {
        // In ascending order, so that a low word is read, and latches, before its high word.
        for (number, register) in MIB.each().enumerate() {
            let value = u64::from(register.take(bus).get());
            match number.checked_sub(1).filter(|low| WIDE.contains(low)) {
                Some(low) => self.registers[low] += value << 32,
                None => self.registers[number] += value,
            }
        }
        self.rx_discard += u64::from(RX_DISCARD.take(bus).get());
        self.rx_fifo_overrun += u64::from(RX_OVERRUN.take(bus).get());
        self.tx_bad_fcs += u64::from(TX_BAD_FCS.take(bus).get());
        self.tx_dropped += u64::from(TX_DROPPED.take(bus).get());
    }

    /// The same for frames that found no descriptor alone.
    pub fn collect_discards(&mut self, bus: &mut impl Bus) {
        self.rx_discard += u64::from(RX_DISCARD.take(bus).get());
    }

    /// Clears the hardware's counters without counting them: they are from before our time.
    pub fn discard(bus: &mut impl Bus) {
        Mib::default().collect(bus);
    }

    /// Name, help text and value of each counter.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        (0..).map_while(|index| self.at(index))
    }

    /// The counter of that number.
    pub fn at(&self, index: usize) -> Option<(&'static str, &'static str, u64)> {
        if let Some(Counter(name, help, number)) = COUNTERS.get(index) {
            return Some((name, help, self.registers[usize::from(*number) % 32]));
        }
        let rest = [
            (
                "rx_discard",
                "Frames that found no descriptor",
                self.rx_discard,
            ),
            (
                "rx_fifo_overrun",
                "Frames lost in the receive FIFO",
                self.rx_fifo_overrun,
            ),
            ("tx_bad_fcs", "Frames sent with a bad FCS", self.tx_bad_fcs),
            (
                "tx_dropped",
                "Frames dropped by the MAC before the wire",
                self.tx_dropped,
            ),
        ];
        rest.get(index - COUNTERS.len()).copied()
    }

    /// The counter of that name, if there is one.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.each()
            .find(|(each, _, _)| *each == name)
            .map(|(_, _, value)| value)
    }
}
