//! Multi-chip access: all registers of the switch behind two registers at one address of the management bus.
//!
//! ```text
//! register 0   busy 15 | clause 22 12 | op 11:10 (1 write, 2 read) | device 9:5 | register 4:0
//! register 1   data
//! ```
//!
//! Spec: Linux mv88e6xxx/smi.c. Every access ends with a wait for the busy bit, so the next one need not begin with
//! one, except the first after start or after an error.

use crate::net::mdio::{PhyAddr, RegAddr};
use crate::net::steps::{BUSY_LIMIT_US, Error, Reg16, Registers, wait_clear};
use tock_registers::fields::FieldValue;
use tock_registers::register_bitfields;

register_bitfields![u16,
    Command [
        BUSY OFFSET(15) NUMBITS(1) [],
        CLAUSE_22 OFFSET(12) NUMBITS(1) [],
        OPERATION OFFSET(10) NUMBITS(2) [ Write = 1, Read = 2 ],
        DEVICE OFFSET(5) NUMBITS(5) [],
        REGISTER OFFSET(0) NUMBITS(5) []
    ],
    Data [ DATA OFFSET(0) NUMBITS(16) [] ]
];

const COMMAND: Reg16<Command::Register> = Reg16::at(0);
const DATA: Reg16<Data::Register> = Reg16::at(1);

/// The registers of the switch at one address.
#[derive(Debug)]
pub struct Smi<R> {
    wire: R,
    addr: PhyAddr,
    /// The last access has ended well: nothing is under way.
    idle: bool,
}

impl<R: Registers> Smi<R> {
    /// The switch at `addr` of `wire`.
    pub fn new(wire: R, addr: PhyAddr) -> Self {
        Smi {
            wire,
            addr,
            idle: false,
        }
    }

    /// The wires of the management bus themselves.
    pub(super) fn wire(&mut self) -> &mut R {
        self.idle = false;
        &mut self.wire
    }

    async fn wait_idle(&mut self) -> Result<(), Error> {
        wait_clear(
            &mut self.wire,
            self.addr,
            COMMAND.addr(),
            Command::BUSY,
            BUSY_LIMIT_US,
        )
        .await?;
        self.idle = true;
        Ok(())
    }

    /// Puts a command into register 0, with `data` in register 1 before it, and waits for its end.
    async fn command(
        &mut self,
        operation: FieldValue<u16, Command::Register>,
        device: PhyAddr,
        reg: RegAddr,
        data: Option<u16>,
    ) -> Result<(), Error> {
        if !self.idle {
            self.wait_idle().await?;
        }
        self.idle = false;
        if let Some(data) = data {
            DATA.write(&mut self.wire, self.addr, Data::DATA.val(data))
                .await?;
        }
        let command = operation
            + Command::BUSY::SET
            + Command::CLAUSE_22::SET
            + Command::DEVICE.val(device.0.into())
            + Command::REGISTER.val(reg.0.into());
        COMMAND.write(&mut self.wire, self.addr, command).await?;
        self.wait_idle().await
    }
}

impl<R: Registers> Registers for Smi<R> {
    async fn read(&mut self, device: PhyAddr, reg: RegAddr) -> Result<u16, Error> {
        self.command(Command::OPERATION::Read, device, reg, None)
            .await?;
        let data = DATA.read(&mut self.wire, self.addr).await;
        self.idle = data.is_ok();
        Ok(data?.get())
    }

    async fn write(&mut self, device: PhyAddr, reg: RegAddr, value: u16) -> Result<(), Error> {
        self.command(Command::OPERATION::Write, device, reg, Some(value))
            .await
    }

    async fn sleep_us(&mut self, us: u64) {
        self.wire.sleep_us(us).await;
    }

    fn now_us(&mut self) -> u64 {
        self.wire.now_us()
    }
}
