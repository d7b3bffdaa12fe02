//! The SERDES of port 5: clause 45 lane 0x15, device 4. Storage, but for power-down and the link.
//!
//! Spec: Linux mv88e6xxx/serdes.h for the register addresses. Simplified: no code groups and no in-band negotiation; with
//! something plugged in, the lane links at the partner's best speed.

use crate::phy::{Link, Partner, Speed};
use std::collections::BTreeMap;

/// Clause 45 port address of the lane.
pub(crate) const LANE: u8 = 0x15;
/// Device the registers are in.
const DEVICE: u8 = 4;
/// Control and status of the SGMII block, laid out as clause 22 registers 0 and 1.
const CONTROL: u16 = 0x2000;
const STATUS: u16 = 0x2001;
/// Link, speed and duplex, laid out as register 17 of the copper PHYs.
const PHY_STATUS: u16 = 0xa003;

const POWER_DOWN: u16 = 1 << 11;

/// The lane.
#[derive(Debug)]
pub(crate) struct Serdes {
    registers: BTreeMap<(u8, u16), u16>,
    pub(crate) partner: Option<Partner>,
}

impl Serdes {
    pub(crate) fn new(partner: Option<Partner>) -> Self {
        Self {
            registers: BTreeMap::from([((DEVICE, CONTROL), 0x1140 | POWER_DOWN)]),
            partner,
        }
    }

    pub(crate) fn read(&self, device: u8, register: u16) -> u16 {
        match (device, register) {
            (DEVICE, STATUS) => {
                let up = u16::from(self.link().is_some());
                0x0149 | up << 5 | up << 2
            }
            (DEVICE, PHY_STATUS) => self.link().map_or(0, |link| {
                (link.speed as u16) << 14 | u16::from(link.full_duplex) << 13 | 0x0c00
            }),
            _ => self
                .registers
                .get(&(device, register))
                .copied()
                .unwrap_or(0),
        }
    }

    pub(crate) fn write(&mut self, device: u8, register: u16, value: u16) {
        // Bits 15 and 9 of the control register clear by themselves.
        let value = if (device, register) == (DEVICE, CONTROL) {
            value & 0x7dff
        } else {
            value
        };
        self.registers.insert((device, register), value);
    }

    pub(crate) fn link(&self) -> Option<Link> {
        if self
            .registers
            .get(&(DEVICE, CONTROL))
            .is_some_and(|control| control & POWER_DOWN != 0)
        {
            return None;
        }
        let (speed, full_duplex) = match self.partner? {
            Partner::Autoneg { modes, .. } => modes.best()?,
            Partner::Forced { speed, full_duplex } => (speed, full_duplex),
        };
        Some(Link {
            speed: speed.min(Speed::S1000),
            full_duplex,
            tx_pause: false,
            rx_pause: false,
        })
    }
}
