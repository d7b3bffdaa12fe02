//! Statistics of the ports (MIB), registers 0x1d to 0x1f of global 1.
//!
//! A capture copies the counters of one port at one moment; they are read from the copy, one by one.
//!
//! Spec: Linux mv88e6xxx/global1.c (`mv88e6390_g1_stats_snapshot`) and the table of chip.c, whose names those are that
//! `ethtool -S` shows on the same chip under Linux.

use super::PortIndex;
use super::global1::DEVICE;
use crate::net::steps::{Error, Reg16, Registers, operate, wait_idle};
use tock_registers::register_bitfields;

register_bitfields![u16,
    Operation [
        BUSY OFFSET(15) NUMBITS(1) [],
        OPERATION OFFSET(12) NUMBITS(3) [ FlushAll = 1, Read = 4, Capture = 5 ],
        BANK OFFSET(10) NUMBITS(1) [],
        /// Of a capture: port number + 1.
        PORT OFFSET(5) NUMBITS(5) [],
        COUNTER OFFSET(0) NUMBITS(5) []
    ],
    Half [ VALUE OFFSET(0) NUMBITS(16) [] ]
];

const OPERATION: Reg16<Operation::Register> = Reg16::at(0x1d);
const HIGH: Reg16<Half::Register> = Reg16::at(0x1e);
const LOW: Reg16<Half::Register> = Reg16::at(0x1f);

/// Counters of a port.
pub const COUNTERS: usize = 56;

/// Name, bank, number, and whether the next number holds the upper half.
const TABLE: [(&str, u16, u16, bool); COUNTERS] = [
    ("in_good_octets", 0, 0x00, true),
    ("in_bad_octets", 0, 0x02, false),
    ("in_unicast", 0, 0x04, false),
    ("in_broadcasts", 0, 0x06, false),
    ("in_multicasts", 0, 0x07, false),
    ("in_pause", 0, 0x16, false),
    ("in_undersize", 0, 0x18, false),
    ("in_fragments", 0, 0x19, false),
    ("in_oversize", 0, 0x1a, false),
    ("in_jabber", 0, 0x1b, false),
    ("in_rx_error", 0, 0x1c, false),
    ("in_fcs_error", 0, 0x1d, false),
    ("out_octets", 0, 0x0e, true),
    ("out_unicast", 0, 0x10, false),
    ("out_broadcasts", 0, 0x13, false),
    ("out_multicasts", 0, 0x12, false),
    ("out_pause", 0, 0x15, false),
    ("excessive", 0, 0x11, false),
    ("collisions", 0, 0x1e, false),
    ("deferred", 0, 0x05, false),
    ("single", 0, 0x14, false),
    ("multiple", 0, 0x17, false),
    ("out_fcs_error", 0, 0x03, false),
    ("late", 0, 0x1f, false),
    ("hist_64bytes", 0, 0x08, false),
    ("hist_65_127bytes", 0, 0x09, false),
    ("hist_128_255bytes", 0, 0x0a, false),
    ("hist_256_511bytes", 0, 0x0b, false),
    ("hist_512_1023bytes", 0, 0x0c, false),
    ("hist_1024_max_bytes", 0, 0x0d, false),
    ("in_discards", 1, 0x00, false),
    ("in_filtered", 1, 0x01, false),
    ("in_accepted", 1, 0x02, false),
    ("in_bad_accepted", 1, 0x03, false),
    ("in_good_avb_class_a", 1, 0x04, false),
    ("in_good_avb_class_b", 1, 0x05, false),
    ("in_bad_avb_class_a", 1, 0x06, false),
    ("in_bad_avb_class_b", 1, 0x07, false),
    ("tcam_counter_0", 1, 0x08, false),
    ("tcam_counter_1", 1, 0x09, false),
    ("tcam_counter_2", 1, 0x0a, false),
    ("tcam_counter_3", 1, 0x0b, false),
    ("in_da_unknown", 1, 0x0e, false),
    ("in_management", 1, 0x0f, false),
    ("out_queue_0", 1, 0x10, false),
    ("out_queue_1", 1, 0x11, false),
    ("out_queue_2", 1, 0x12, false),
    ("out_queue_3", 1, 0x13, false),
    ("out_queue_4", 1, 0x14, false),
    ("out_queue_5", 1, 0x15, false),
    ("out_queue_6", 1, 0x16, false),
    ("out_queue_7", 1, 0x17, false),
    ("out_cut_through", 1, 0x18, false),
    ("out_octets_a", 1, 0x1a, false),
    ("out_octets_b", 1, 0x1b, false),
    ("out_management", 1, 0x1f, false),
];

/// The counters of one port at one moment. All but the octets wrap at 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot([u64; COUNTERS]);

impl Default for Snapshot {
    fn default() -> Self {
        Snapshot([0; COUNTERS])
    }
}

impl Snapshot {
    /// Names and values.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        TABLE.iter().zip(self.0).map(|(row, value)| (row.0, value))
    }

    /// One counter by its name.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.each().find(|row| row.0 == name).map(|row| row.1)
    }
}

/// What the counters of one port amount to, over wraps and resets of the chip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    last: Snapshot,
    sum: Snapshot,
    read_us: Option<u64>,
}

impl Totals {
    /// Adds what was counted up to a snapshot, taken `now_us` microseconds after start.
    pub(super) fn add(&mut self, snapshot: Snapshot, now_us: u64) {
        let rows = TABLE.iter().zip(snapshot.0);
        for ((row, now), (last, sum)) in rows.zip(self.last.0.iter().zip(&mut self.sum.0)) {
            let is_long = row.3;
            *sum += match now.checked_sub(*last) {
                Some(more) => more,
                // Fewer than before by more than half of what fits: it went over the top. Else the chip was reset.
                None if !is_long && last - now > 1 << 31 => now + (1 << 32) - last,
                None => now,
            };
        }
        self.last = snapshot;
        self.read_us = Some(now_us);
    }

    /// The chip's counters have been set to 0.
    pub(super) fn cleared(&mut self) {
        self.last = Snapshot::default();
    }

    /// A counter by its place: name and value.
    pub fn get(&self, index: usize) -> Option<(&'static str, u64)> {
        Some((TABLE.get(index)?.0, *self.sum.0.get(index)?))
    }

    /// When they were read last, in microseconds since start.
    pub fn read_us(&self) -> Option<u64> {
        self.read_us
    }
}

/// Sets all counters of all ports to 0.
pub(super) async fn flush(regs: &mut impl Registers) -> Result<(), Error> {
    wait_idle(regs, DEVICE, OPERATION, Operation::BUSY).await?;
    operate(
        regs,
        DEVICE,
        OPERATION,
        Operation::BUSY,
        Operation::OPERATION::FlushAll,
    )
    .await
}

/// Captures the counters of a port and reads them.
///
/// # Errors
///
/// [`Error`].
pub async fn snapshot(regs: &mut impl Registers, port: PortIndex) -> Result<Snapshot, Error> {
    wait_idle(regs, DEVICE, OPERATION, Operation::BUSY).await?;
    let capture = Operation::OPERATION::Capture + Operation::PORT.val(u16::from(port.get()) + 1);
    operate(regs, DEVICE, OPERATION, Operation::BUSY, capture).await?;
    let mut snapshot = Snapshot::default();
    for ((_, bank, number, is_long), value) in TABLE.into_iter().zip(&mut snapshot.0) {
        *value = read(regs, bank, number).await?;
        if is_long {
            *value |= read(regs, bank, number + 1).await? << 32;
        }
    }
    Ok(snapshot)
}

async fn read(regs: &mut impl Registers, bank: u16, number: u16) -> Result<u64, Error> {
    let counter = Operation::BANK.val(bank) + Operation::COUNTER.val(number);
    operate(
        regs,
        DEVICE,
        OPERATION,
        Operation::BUSY,
        Operation::OPERATION::Read + counter,
    )
    .await?;
    let high = HIGH.read(regs, DEVICE).await?.get();
    let low = LOW.read(regs, DEVICE).await?.get();
    Ok(u64::from(high) << 16 | u64::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_survive_wraps_and_resets() {
        let at = |octets: u64, unicast: u64| {
            let mut snapshot = Snapshot::default();
            (snapshot.0[0], snapshot.0[2]) = (octets, unicast);
            snapshot
        };
        let mut totals = Totals::default();
        let mut expect = |snapshot, octets, unicast| {
            totals.add(snapshot, 7);
            assert_eq!(totals.get(0), Some(("in_good_octets", octets)));
            assert_eq!(totals.get(2), Some(("in_unicast", unicast)));
        };
        expect(at(1 << 40, 0xffff_fff0), 1 << 40, 0xffff_fff0);
        expect(at((1 << 40) + 5, 0x10), (1 << 40) + 5, 0x1_0000_0010);
        // Reset behind our back.
        expect(at(3, 4), (1 << 40) + 8, 0x1_0000_0014);
        totals.cleared();
        totals.add(at(10, 10), 9);
        assert_eq!(totals.get(2), Some(("in_unicast", 0x1_0000_001e)));
        assert_eq!(totals.read_us(), Some(9));
        assert_eq!(totals.get(COUNTERS), None);
    }

    #[test]
    fn names_and_numbers_are_unique() {
        for (at, (name, bank, number, _)) in TABLE.iter().enumerate() {
            let twin = TABLE[..at]
                .iter()
                .find(|row| row.0 == *name || (row.1, row.2) == (*bank, *number));
            assert_eq!(twin, None, "{name}");
        }
    }
}
