//! Which frames the MAC lets in.
//!
//! ```text
//!   own address       upper 44 bits of one address, and 16 entries for the lowest nibble
//!   01:00:5e:00:00:xx 256 entries, by xx
//!   other groups      256 entries, by a CRC-8 of the address: different groups may share one
//! ```

use super::regs::*;
use crate::net::MacAddr;
use crate::regs::{Bus, Reg, Rw};

/// An entry: pass, to queue 0. Inherited: Linux writes `1 | queue << 1`.
const PASS: u8 = 1;

/// A choice of addresses. Broadcast always passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    mac: MacAddr,
    /// One bit for each lowest nibble.
    nibbles: u16,
    special: [u64; 4],
    other: [u64; 4],
    promiscuous: bool,
}

impl Filter {
    /// Only frames to `mac`.
    pub fn new(mac: MacAddr) -> Self {
        let mut filter = Filter {
            mac,
            nibbles: 0,
            special: [0; 4],
            other: [0; 4],
            promiscuous: false,
        };
        filter.accept(mac);
        filter
    }

    /// The MAC's own address.
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Also frames to this address, a station's or a group's. False, and nothing changes, for a station that differs
    /// from the own address in more than the lowest nibble: only promiscuous mode lets it in.
    pub fn accept(&mut self, address: MacAddr) -> bool {
        match address {
            [0x01, 0x00, 0x5e, 0x00, 0x00, last] => set(&mut self.special, last),
            [first, ..] if first & 1 == 1 => set(&mut self.other, crc8(address)),
            [.., last] => {
                let upper = |[rest @ .., last]: MacAddr| (rest, last >> 4);
                if upper(address) != upper(self.mac) {
                    return false;
                }
                self.nibbles |= 1 << (last & 15);
            }
        }
        true
    }

    /// Also frames to every group.
    pub fn accept_all_groups(&mut self) {
        self.special = [u64::MAX; 4];
        self.other = [u64::MAX; 4];
    }

    /// Every frame, or what was chosen.
    pub fn set_promiscuous(&mut self, on: bool) {
        self.promiscuous = on;
    }

    /// Writes it to the hardware.
    pub(super) fn write(&self, bus: &mut impl Bus) {
        let [a, b, c, d, e, f] = if self.promiscuous {
            [0xff; 6]
        } else {
            self.mac
        };
        PORT_CONFIG.modify(
            bus,
            PortConfig::UNICAST_PROMISCUOUS.val(self.promiscuous.into()),
        );
        ETHER_TYPE_PRIORITY.write(
            bus,
            EtherTypePriority::FORCE_UNICAST_HIT.val(self.promiscuous.into()),
        );
        MAC_LOW.set(bus, u32::from_be_bytes([0, 0, e, f]));
        MAC_HIGH.set(bus, u32::from_be_bytes([a, b, c, d]));
        let all = self.promiscuous;
        table(bus, UNICAST.each(), |entry| {
            all || self.nibbles & 1 << entry != 0
        });
        table(bus, SPECIAL_MULTICAST.each(), |entry| {
            all || is_set(&self.special, entry)
        });
        table(bus, OTHER_MULTICAST.each(), |entry| {
            all || is_set(&self.other, entry)
        });
    }
}

/// Fills a table of one byte an entry, four a register.
fn table(
    bus: &mut impl Bus,
    registers: impl Iterator<Item = Reg<(), Rw>>,
    pass: impl Fn(usize) -> bool,
) {
    for (number, register) in registers.enumerate() {
        let entries = core::array::from_fn(|n| if pass(4 * number + n) { PASS } else { 0 });
        register.set(bus, u32::from_le_bytes(entries));
    }
}

fn set(bits: &mut [u64; 4], entry: u8) {
    bits[usize::from(entry >> 6)] |= 1 << (entry & 63);
}

fn is_set(bits: &[u64; 4], entry: usize) -> bool {
    bits[entry / 64 % 4] & 1 << (entry % 64) != 0
}

/// Index into the table of other groups. Inherited: Linux `mvneta_addr_crc`, polynomial 0x107, most significant bit
/// first.
fn crc8(address: MacAddr) -> u8 {
    address.iter().fold(0, |crc: u8, byte| {
        (0..8).fold(crc ^ byte, |crc, _| {
            (crc << 1) ^ if crc & 0x80 != 0 { 0x07 } else { 0 }
        })
    })
}
