//! Registers of the PHYs inside the switch that only tests touch. Spec: Linux include/uapi/linux/mii.h for 0 to 15, Linux
//! drivers/net/phy/marvell.c for the others.

use hal::net::mdio::RegAddr;
use hal::net::mv88e6xxx::PortIndex;
use hal::net::mv88e6xxx::errand::{Place, Step};

pub(super) const CONTROL: u8 = 0;
pub(super) const RESET: u16 = 1 << 15;
pub(super) const NEGOTIATE: u16 = 1 << 12;
pub(super) const RESTART: u16 = 1 << 9;
/// 1000 Mb/s, full duplex.
pub(super) const FULL_GIGABIT: u16 = 0x0140;

/// What is offered: modes from bit 5 on, and who defined them.
pub(super) const ADVERTISEMENT: u8 = 4;
pub(super) const IEEE_802_3: u16 = 1;
pub(super) const PARTNER: u8 = 5;
/// Modes of 1000 Mb/s from bit 8 on, and what the partner offers of them from bit 10 on.
pub(super) const GIGABIT: u8 = 9;
pub(super) const GIGABIT_STATUS: u8 = 10;

/// Page 0: what the link is now.
pub(super) const COPPER_STATUS: u8 = 17;
pub(super) const SPEED: u16 = 3 << 14;
pub(super) const FULL_DUPLEX: u16 = 1 << 13;
pub(super) const RESOLVED: u16 = 1 << 11;
pub(super) const LINK: u16 = 1 << 10;

pub(super) const PAGE: u8 = 22;
/// Page 5: 128 samples, the highest peak counts, hysteresis 3 (0x0603); where to begin.
pub(super) const SAMPLES: u8 = 23;
pub(super) const OFFSET: u8 = 24;
/// Page 7: the cable test. Lengths of four pairs, in centimetres; what was found, four bits for each pair.
pub(super) const CABLE_LENGTH: u8 = 16;
pub(super) const CABLE_RESULT: u8 = 20;
pub(super) const CABLE_TEST: u8 = 21;
pub(super) const RUN: u16 = 1 << 15;
pub(super) const AT_WORK: u16 = 1 << 11;

pub(super) fn read(port: PortIndex, reg: u8) -> Step {
    Step::Read(Place::Phy(port), RegAddr(reg))
}

pub(super) fn write(port: PortIndex, reg: u8, value: u16) -> Step {
    Step::Write(Place::Phy(port), RegAddr(reg), value)
}
