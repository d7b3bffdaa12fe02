//! MDIO, the management wire of PHYs and switches (IEEE 802.3 clause 22), and the controller `marvell,orion-mdio`.
//!
//! One operation takes about 50 us on the wire. Whoever may wait uses [`Mdio::read`] and [`Mdio::write`]; whoever may
//! not (link polling beside the data path) starts an operation and asks later whether it has ended.
//!
//! The bus has one owner, who holds it over every sequence that must not be interleaved: the borrow checker is the bus
//! lock. [`OrionMdio::bring_up`] silences the one competitor that the borrow checker does not know, the MAC's own
//! polling of PHYs.
//!
//! ```text
//!   SMI register   31:29 0 | 28 busy | 27 read valid | 26 read | 25:21 register | 20:16 device | 15:0 data
//! ```

use crate::regs::{Bus, Reg, Ro, Rw, Wo};
use crate::time::Clock;
use core::fmt;
use tock_registers::register_bitfields;

/// A device address on the wire, 0 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PhyAddr(u8);

impl PhyAddr {
    /// `None` above 31.
    pub const fn new(address: u8) -> Option<Self> {
        if address < 32 {
            Some(PhyAddr(address))
        } else {
            None
        }
    }

    /// 0 to 31.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// A register of a device, 0 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegAddr(u8);

impl RegAddr {
    /// `None` above 31.
    pub const fn new(address: u8) -> Option<Self> {
        if address < 32 {
            Some(RegAddr(address))
        } else {
            None
        }
    }

    /// 0 to 31.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// What a read gives if nobody drives the wire, on controllers that cannot tell. A register may hold it, too: ask an
/// identification register to be sure.
pub const FLOATING: u16 = 0xffff;

/// Why an operation gave no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The controller was still busy after [`BUSY_LIMIT_US`].
    Timeout {
        /// The SMI register as last read.
        smi: u32,
    },
    /// The controller was asked to start an operation while one was under way.
    Busy,
    /// The controller says that no device answered.
    NoAnswer {
        /// Device asked.
        phy: PhyAddr,
        /// Register asked for.
        reg: RegAddr,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Timeout { smi } => write!(
                f,
                "MDIO still busy after {BUSY_LIMIT_US} us, SMI register {smi:#010x}"
            ),
            Error::Busy => f.write_str("MDIO is busy with another operation"),
            Error::NoAnswer { phy, reg } => write!(
                f,
                "no answer on MDIO from device {}, register {}",
                phy.0, reg.0
            ),
        }
    }
}

/// A clause 22 management bus.
pub trait Mdio {
    /// Starts a read and returns at once; [`Mdio::finish`] has the value.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if the operation before has not ended.
    fn start_read(&mut self, phy: PhyAddr, reg: RegAddr) -> Result<(), Error>;
    /// Starts a write and returns at once.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if the operation before has not ended.
    fn start_write(&mut self, phy: PhyAddr, reg: RegAddr, value: u16) -> Result<(), Error>;
    /// `None` while the operation is under way; then the value read, or the one written. Never waits.
    ///
    /// # Errors
    ///
    /// [`Error::NoAnswer`] after a read.
    fn finish(&mut self) -> Result<Option<u16>, Error>;
    /// Reads a register, waiting for it.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`], [`Error::NoAnswer`].
    fn read(&mut self, phy: PhyAddr, reg: RegAddr) -> Result<u16, Error>;
    /// Writes a register and waits until it is written.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`].
    fn write(&mut self, phy: PhyAddr, reg: RegAddr, value: u16) -> Result<(), Error>;
}

/// Longest wait for one operation. Inherited: FreeBSD waits as long, Linux 1 ms; an operation takes 41 to 95 us.
pub const BUSY_LIMIT_US: u64 = 10_000;

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
    reading: Option<(PhyAddr, RegAddr)>,
}

impl<B: Bus, C: Clock> OrionMdio<B, C> {
    /// Takes the bus over: PHY polling by hardware goes off, an operation under way may end.
    ///
    /// `bus` starts at the `reg` of the devicetree's node and reaches 0xb0 bytes, to the MAC's unit control.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] if the controller stays busy.
    ///
    /// # Source
    ///
    /// Inherited: Linux mvneta clears the polling bit always; its bus cycles would fall between the two halves of an
    /// indirect access to the switch.
    pub fn bring_up(bus: B, clock: C) -> Result<Self, Error> {
        let mut mdio = OrionMdio {
            bus,
            clock,
            reading: None,
        };
        UNIT_CONTROL.modify(&mut mdio.bus, UnitControl::PHY_POLLING::CLEAR);
        mdio.wait_idle()?;
        Ok(mdio)
    }

    fn wait_idle(&mut self) -> Result<(), Error> {
        let OrionMdio { bus, clock, .. } = self;
        let mut smi = 0;
        clock
            .wait_until(BUSY_LIMIT_US, || {
                let status = SMI_STATUS.read(bus);
                smi = status.get();
                !status.is_set(Smi::BUSY)
            })
            .map_err(|_| Error::Timeout { smi })
    }

    fn check_idle(&mut self) -> Result<(), Error> {
        match SMI_STATUS.read(&mut self.bus).is_set(Smi::BUSY) {
            true => Err(Error::Busy),
            false => Ok(()),
        }
    }

    fn ask(&mut self, phy: PhyAddr, reg: RegAddr) {
        let address = Smi::DEVICE.val(phy.0.into()) + Smi::REGISTER.val(reg.0.into());
        SMI_COMMAND.write(&mut self.bus, Smi::READ::SET + address);
        self.reading = Some((phy, reg));
    }

    fn tell(&mut self, phy: PhyAddr, reg: RegAddr, value: u16) {
        let address = Smi::DEVICE.val(phy.0.into()) + Smi::REGISTER.val(reg.0.into());
        SMI_COMMAND.write(&mut self.bus, Smi::DATA.val(value.into()) + address);
        self.reading = None;
    }
}

impl<B: Bus, C: Clock> Mdio for OrionMdio<B, C> {
    fn start_read(&mut self, phy: PhyAddr, reg: RegAddr) -> Result<(), Error> {
        self.check_idle()?;
        self.ask(phy, reg);
        Ok(())
    }

    fn start_write(&mut self, phy: PhyAddr, reg: RegAddr, value: u16) -> Result<(), Error> {
        self.check_idle()?;
        self.tell(phy, reg, value);
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<u16>, Error> {
        let status = SMI_STATUS.read(&mut self.bus);
        if status.is_set(Smi::BUSY) {
            return Ok(None);
        }
        match self.reading {
            Some((phy, reg)) if !status.is_set(Smi::READ_VALID) => {
                Err(Error::NoAnswer { phy, reg })
            }
            _ => Ok(Some(status.read(Smi::DATA) as u16)),
        }
    }

    fn read(&mut self, phy: PhyAddr, reg: RegAddr) -> Result<u16, Error> {
        self.wait_idle()?;
        self.ask(phy, reg);
        self.wait_idle()?;
        self.finish()?.ok_or(Error::Busy)
    }

    fn write(&mut self, phy: PhyAddr, reg: RegAddr, value: u16) -> Result<(), Error> {
        self.wait_idle()?;
        self.tell(phy, reg, value);
        self.wait_idle()
    }
}
