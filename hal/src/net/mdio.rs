//! MDIO, the management wire of PHYs and switches (IEEE 802.3 clause 22), and the controller `marvell,orion-mdio`.
//!
//! One operation takes about 50 us on the wire. Whoever may wait uses [`Mdio::read`] and [`Mdio::write`]; whoever may
//! not (link polling beside the data path) starts an operation and asks [`OrionMdio::finish`] later.
//!
//! The bus has one owner, who holds it over every sequence that must not be interleaved: the borrow checker is the bus
//! lock. [`OrionMdio::take_over`] silences the one competitor that the borrow checker does not know, the MAC's own
//! polling of PHYs.
//!
//! ```text
//!   SMI register   31:29 0 | 28 busy | 27 read valid | 26 read | 25:21 register | 20:16 device | 15:0 data
//! ```

use crate::regs::{Bus, FieldValue, Reg, Ro, Rw, Wo};
use crate::time::Clock;
use core::fmt;
use tock_registers::register_bitfields;

/// Address of a device on a management bus, 0 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PhyAddr(pub u8);

/// Number of a register, 0 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegAddr(pub u8);

/// What a read gives if nobody drives the wire, on controllers that cannot tell. A register may hold it, too: ask an
/// identification register to be sure.
pub const FLOATING: u16 = 0xffff;

/// Why an access failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The controller stayed busy past its limit.
    Timeout,
    /// The controller says that no device drove the bus.
    NoAnswer,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Timeout => "the MDIO controller stays busy",
            Error::NoAnswer => "no device answers on MDIO",
        })
    }
}

/// Access to the registers, waiting for each (with a limit).
pub trait Mdio {
    /// Reads a register. A bus that nobody drives reads [`FLOATING`].
    ///
    /// # Errors
    ///
    /// [`Error`].
    fn read(&mut self, phy: PhyAddr, reg: RegAddr) -> Result<u16, Error>;
    /// Writes a register, and returns when it is written.
    ///
    /// # Errors
    ///
    /// [`Error`].
    fn write(&mut self, phy: PhyAddr, reg: RegAddr, value: u16) -> Result<(), Error>;
}

/// Longest wait for one operation. Inherited: FreeBSD waits as long, Linux 1 ms; an operation takes 41 to 95 us.
pub const FRAME_LIMIT_US: u64 = 10_000;

register_bitfields![u32,
    Smi [
        DATA OFFSET(0) NUMBITS(16) [],
        DEVICE OFFSET(16) NUMBITS(5) [],
        REGISTER OFFSET(21) NUMBITS(5) [],
        READ OFFSET(26) NUMBITS(1) [],
        READ_VALID OFFSET(27) NUMBITS(1) [],
        BUSY OFFSET(28) NUMBITS(1) []
    ],
    UnitControl [ PHY_POLLING OFFSET(1) NUMBITS(1) [] ]
];

// Offsets from the `reg` of the devicetree's MDIO node, which is 0x2004 of NETA0.

/// SMI as a status, offset 0.
const SMI_STATUS: Reg<Smi::Register, Ro> = Reg::at(0);
/// SMI as a command, the same register: what is read back is not what was written, so there is nothing to modify.
const SMI_COMMAND: Reg<Smi::Register, Wo> = Reg::at(0);
/// Unit control of the MAC around it, 0x20b0 of NETA0.
const UNIT_CONTROL: Reg<UnitControl::Register, Rw> = Reg::at(0x20b0 - 0x2004);

/// The controller inside NETA0, whose clock must run.
#[derive(Debug)]
pub struct OrionMdio<B: Bus, C: Clock> {
    bus: B,
    clock: C,
    reading: bool,
}

impl<B: Bus, C: Clock> OrionMdio<B, C> {
    /// Takes the bus over: PHY polling by hardware goes off, an operation under way may end. If it does not, every
    /// operation of ours will say so, until the controller comes round.
    ///
    /// `bus` starts at the `reg` of the devicetree's node and reaches 0xb0 bytes, to the MAC's unit control.
    ///
    /// # Source
    ///
    /// Inherited: Linux mvneta clears the polling bit always; its bus cycles would fall between the two halves of an
    /// indirect access to the switch.
    pub fn take_over(bus: B, clock: C) -> Self {
        let mut mdio = OrionMdio {
            bus,
            clock,
            reading: false,
        };
        UNIT_CONTROL.modify(&mut mdio.bus, UnitControl::PHY_POLLING::CLEAR);
        let _ = mdio.wait_idle();
        mdio
    }

    /// Starts a read and returns at once.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] if the operation before has not ended.
    pub fn start_read(&mut self, phy: PhyAddr, reg: RegAddr) -> Result<(), Error> {
        self.start(Smi::READ::SET, phy, reg)?;
        self.reading = true;
        Ok(())
    }

    /// Starts a write and returns at once.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] if the operation before has not ended.
    pub fn start_write(&mut self, phy: PhyAddr, reg: RegAddr, value: u16) -> Result<(), Error> {
        self.start(Smi::DATA.val(value.into()), phy, reg)?;
        self.reading = false;
        Ok(())
    }

    /// `None` while an operation is under way; then the value read, or the one written. Never waits.
    pub fn finish(&mut self) -> Option<Result<u16, Error>> {
        let status = SMI_STATUS.read(&mut self.bus);
        if status.is_set(Smi::BUSY) {
            return None;
        }
        Some(if self.reading && !status.is_set(Smi::READ_VALID) {
            Err(Error::NoAnswer)
        } else {
            Ok(status.read(Smi::DATA) as u16)
        })
    }

    /// The controller's register, for whoever reports that it is stuck.
    pub fn status(&mut self) -> u32 {
        SMI_STATUS.read(&mut self.bus).get()
    }

    fn start(
        &mut self,
        operation: FieldValue<u32, Smi::Register>,
        phy: PhyAddr,
        reg: RegAddr,
    ) -> Result<(), Error> {
        // A write while busy is lost, and so would be the answer to the operation before.
        if SMI_STATUS.read(&mut self.bus).is_set(Smi::BUSY) {
            return Err(Error::Timeout);
        }
        let address = Smi::DEVICE.val(phy.0.into()) + Smi::REGISTER.val(reg.0.into());
        SMI_COMMAND.write(&mut self.bus, operation + address);
        Ok(())
    }

    fn wait_idle(&mut self) -> Result<(), Error> {
        let bus = &mut self.bus;
        self.clock
            .wait_until(FRAME_LIMIT_US, || !SMI_STATUS.read(bus).is_set(Smi::BUSY))
            .map_err(|_| Error::Timeout)
    }
}

impl<B: Bus, C: Clock> Mdio for OrionMdio<B, C> {
    fn read(&mut self, phy: PhyAddr, reg: RegAddr) -> Result<u16, Error> {
        self.wait_idle()?;
        self.start_read(phy, reg)?;
        self.wait_idle()?;
        self.finish().unwrap_or(Err(Error::Timeout))
    }

    fn write(&mut self, phy: PhyAddr, reg: RegAddr, value: u16) -> Result<(), Error> {
        self.wait_idle()?;
        self.start_write(phy, reg, value)?;
        self.wait_idle()
    }
}
