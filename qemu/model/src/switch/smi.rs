//! The switch's place on the MDIO bus: one address with two registers, or all its devices at once.
//!
//! ```text
//! register 0   busy 15 | clause 22 12 | op 11:10 (1 write, 2 read) | device 9:5 | register 4:0
//! register 1   data
//! ```
//!
//! Spec: Linux mv88e6xxx/smi.c. The sources disagree about odd addresses (a comment there allows even ones alone,
//! FreeBSD e6000sw.c takes odd ones for single-chip); the ESPRESSObin's devicetree and U-Boot use multi-chip at 1, and
//! that works on the board.

use super::Switch;
use super::context::{Busy, Unit};
use crate::bus::Env;
use crate::mdio::Wire;

/// How the address straps make the chip answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmiMode {
    /// At this address alone, through registers 0 and 1: 1 on the ESPRESSObin, 3 on the Ultra.
    MultiChip(u8),
    /// On its own device addresses.
    SingleChip,
}

/// What the bus reads where nobody answers.
const NOBODY: u16 = 0xffff;
/// The register of a port with product and revision.
const IDENTIFIER: u8 = 3;

const CLAUSE_22: u16 = 1 << 12;
const WRITE: u16 = 1;
const READ: u16 = 2;

/// The two registers.
#[derive(Debug, Default)]
pub(crate) struct Smi {
    command: u16,
    data: u16,
    busy: Busy,
}

impl Wire for Switch {
    fn read(&mut self, env: &mut Env, device: u8, register: u8) -> Option<u16> {
        self.smi_read(env, device, register)
    }

    fn write(&mut self, env: &mut Env, device: u8, register: u8, value: u16) -> bool {
        self.smi_write(env, device, register, value)
    }
}

impl Switch {
    /// A clause 22 read on the MDIO bus the switch is wired to; `None` where it does not answer.
    pub fn smi_read(&mut self, env: &mut Env, phy_addr: u8, register: u8) -> Option<u16> {
        self.advance(env);
        if !self.answers(env) {
            return None;
        }
        match (self.smi_mode, register) {
            (SmiMode::SingleChip, _) => self.read_device(env, phy_addr, register),
            (SmiMode::MultiChip(own), 0) if own == phy_addr => {
                let context = self.context(env);
                let busy = self.smi.busy.is_set(Unit::Smi, &context);
                Some(self.smi.command & 0x7fff | u16::from(busy) << 15)
            }
            (SmiMode::MultiChip(own), 1) if own == phy_addr => {
                if self.smi.busy.is_set(Unit::Smi, &self.context(env)) {
                    Self::hurried(env, "SMI data read while an access runs".to_owned());
                    return Some(NOBODY);
                }
                Some(self.smi.data)
            }
            // Bus scans read here.
            _ => None,
        }
    }

    /// A clause 22 write on the MDIO bus the switch is wired to; false where it does not answer.
    pub fn smi_write(&mut self, env: &mut Env, phy_addr: u8, register: u8, value: u16) -> bool {
        self.advance(env);
        if !self.answers(env) {
            return false;
        }
        match self.smi_mode {
            SmiMode::SingleChip => return self.write_device(env, phy_addr, register, value),
            SmiMode::MultiChip(own) if own != phy_addr => return false,
            SmiMode::MultiChip(_) if register < 2 => {
                if self.smi.busy.is_set(Unit::Smi, &self.context(env)) {
                    let what = format!("SMI register {register} written while an access runs");
                    Self::hurried(env, what);
                } else if register == 1 {
                    self.smi.data = value;
                } else {
                    self.smi_command(env, value);
                }
            }
            SmiMode::MultiChip(_) => {
                env.guest_error(
                    "switch",
                    format!("write to SMI register {register}; there are 0 and 1"),
                );
            }
        }
        true
    }

    /// Nobody can wait for a bit that sticks on purpose, and it may have stuck just behind the look at it.
    fn hurried(env: &mut Env, what: String) {
        if !env.faults.has("switch-busy") {
            env.guest_error("switch", what);
        }
    }

    fn smi_command(&mut self, env: &mut Env, command: u16) {
        self.smi.command = command & 0x7fff;
        if command & 0x8000 == 0 {
            return;
        }
        let device = (command >> 5 & 0x1f) as u8;
        let register = (command & 0x1f) as u8;
        let known = match (command & CLAUSE_22 != 0, command >> 10 & 3) {
            (true, WRITE) => self.write_device(env, device, register, self.smi.data),
            (true, READ) => {
                let value = self.read_device(env, device, register);
                self.smi.data = value.unwrap_or(NOBODY);
                if register == IDENTIFIER && device & 0x18 == 0x10 && env.faults.every("id-flip") {
                    self.smi.data ^= 1 << 8;
                }
                value.is_some()
            }
            _ => {
                env.guest_error(
                    "switch",
                    format!("SMI command {command:#06x} is no clause 22 read or write"),
                );
                true
            }
        };
        if !known {
            env.guest_error(
                "switch",
                format!("SMI command {command:#06x}: there is no device {device:#04x}"),
            );
        }
        let context = self.context(env);
        self.smi.busy.start(&context, context.timing.smi);
    }

    /// Nothing answers during a hardware reset, nor from a switch that is gone.
    fn answers(&self, env: &Env) -> bool {
        env.now >= self.away_until && !env.faults.has("switch-vanish")
    }
}
