//! Global 2, device 0x1c: the way to the PHYs, the watchdog, and tables that matter to trees of several switches.
//!
//! Spec: Linux mv88e6xxx/global2.h and global2.c.

use super::{PortIndex, PortSet};
use crate::net::MacAddr;
use crate::net::mdio::{PhyAddr, RegAddr};
use crate::net::steps::{self, Error, Reg16, Registers};
use tock_registers::fields::FieldValue;
use tock_registers::register_bitfields;

pub(super) const DEVICE: PhyAddr = PhyAddr(0x1c);

register_bitfields![u16,
    /// `PHYS` has the bit of each port whose PHY raises its interrupt.
    InterruptSource [
        WATCHDOG OFFSET(15) NUMBITS(1) [],
        PHYS OFFSET(0) NUMBITS(6) []
    ],
    Management [ RESERVED_TO_CPU OFFSET(3) NUMBITS(1) [] ],
    DeviceMap [
        UPDATE OFFSET(15) NUMBITS(1) [],
        DEVICE OFFSET(8) NUMBITS(5) [],
        PORT OFFSET(0) NUMBITS(5) [ Nowhere = 0x1f ]
    ],
    TrunkMask [
        UPDATE OFFSET(15) NUMBITS(1) [],
        NUMBER OFFSET(12) NUMBITS(3) [],
        PORTS OFFSET(0) NUMBITS(6) []
    ],
    TrunkMap [
        UPDATE OFFSET(15) NUMBITS(1) [],
        ID OFFSET(11) NUMBITS(4) []
    ],
    /// Of the rate limits (port at 11:8) and of the cross-chip VLAN table.
    Table [
        BUSY OFFSET(15) NUMBITS(1) [],
        OPERATION OFFSET(12) NUMBITS(3) [ InitAll = 1 ],
        PORT OFFSET(8) NUMBITS(4) []
    ],
    SwitchMac [
        UPDATE OFFSET(15) NUMBITS(1) [],
        INDEX OFFSET(8) NUMBITS(5) [],
        BYTE OFFSET(0) NUMBITS(8) []
    ],
    PriorityOverride [
        UPDATE OFFSET(15) NUMBITS(1) [],
        ENTRY OFFSET(8) NUMBITS(4) []
    ],
    PhyCommand [
        BUSY OFFSET(15) NUMBITS(1) [],
        FUNCTION OFFSET(13) NUMBITS(2) [ Internal = 0 ],
        CLAUSE_22 OFFSET(12) NUMBITS(1) [],
        OPERATION OFFSET(10) NUMBITS(2) [ Write = 1, Read = 2 ],
        DEVICE OFFSET(5) NUMBITS(5) [],
        REGISTER OFFSET(0) NUMBITS(5) []
    ],
    Watchdog [
        UPDATE OFFSET(15) NUMBITS(1) [],
        POINTER OFFSET(8) NUMBITS(7) [ Enable = 0x11, Event = 0x12 ],
        DATA OFFSET(0) NUMBITS(8) []
    ],
    Misc [ FIVE_BIT_PORTS OFFSET(14) NUMBITS(1) [] ],
    Whole [ VALUE OFFSET(0) NUMBITS(16) [] ]
];

const INTERRUPT_SOURCE: Reg16<InterruptSource::Register> = Reg16::at(0x00);
const INTERRUPT_MASK: Reg16<Whole::Register> = Reg16::at(0x01);
const MANAGEMENT: Reg16<Management::Register> = Reg16::at(0x05);
const DEVICE_MAP: Reg16<DeviceMap::Register> = Reg16::at(0x06);
const TRUNK_MASK: Reg16<TrunkMask::Register> = Reg16::at(0x07);
const TRUNK_MAP: Reg16<TrunkMap::Register> = Reg16::at(0x08);
const RATE_LIMIT: Reg16<Table::Register> = Reg16::at(0x09);
const CROSS_CHIP: Reg16<Table::Register> = Reg16::at(0x0b);
const SWITCH_MAC: Reg16<SwitchMac::Register> = Reg16::at(0x0d);
const PRIORITY_OVERRIDE: Reg16<PriorityOverride::Register> = Reg16::at(0x0f);
const PHY_COMMAND: Reg16<PhyCommand::Register> = Reg16::at(0x18);
const PHY_DATA: Reg16<Whole::Register> = Reg16::at(0x19);
const WATCHDOG: Reg16<Watchdog::Register> = Reg16::at(0x1b);
const MISC: Reg16<Misc::Register> = Reg16::at(0x1d);

/// Watchdog events: cut-through, queue controller, egress. Bit 0 of the enable register is "force".
const WATCHDOG_ALL: u16 = 0x0f;

/// The registers of the PHYs inside the switch, by their address on its inner bus: 0x10 + port.
#[derive(Debug)]
pub struct Phys<'a, R> {
    regs: &'a mut R,
    /// The last access has ended well: nothing is under way.
    idle: &'a mut bool,
}

impl<'a, R: Registers> Phys<'a, R> {
    /// Access through global 2 of the switch. `idle` is where it is kept between calls whether the last one ended
    /// well; start with false.
    pub fn new(regs: &'a mut R, idle: &'a mut bool) -> Self {
        Phys { regs, idle }
    }

    async fn wait_idle(&mut self) -> Result<(), Error> {
        steps::wait_idle(self.regs, DEVICE, PHY_COMMAND, PhyCommand::BUSY).await?;
        *self.idle = true;
        Ok(())
    }

    async fn command(
        &mut self,
        operation: FieldValue<u16, PhyCommand::Register>,
        device: PhyAddr,
        reg: RegAddr,
        data: Option<u16>,
    ) -> Result<(), Error> {
        if !*self.idle {
            self.wait_idle().await?;
        }
        *self.idle = false;
        if let Some(data) = data {
            let data = Whole::VALUE.val(data);
            PHY_DATA.write(self.regs, DEVICE, data).await?;
        }
        let command = operation
            + PhyCommand::BUSY::SET
            + PhyCommand::FUNCTION::Internal
            + PhyCommand::CLAUSE_22::SET
            + PhyCommand::DEVICE.val(device.0.into())
            + PhyCommand::REGISTER.val(reg.0.into());
        PHY_COMMAND.write(self.regs, DEVICE, command).await?;
        self.wait_idle().await
    }
}

impl<R: Registers> Registers for Phys<'_, R> {
    async fn read(&mut self, device: PhyAddr, reg: RegAddr) -> Result<u16, Error> {
        self.command(PhyCommand::OPERATION::Read, device, reg, None)
            .await?;
        Ok(PHY_DATA.read(self.regs, DEVICE).await?.get())
    }

    async fn write(&mut self, device: PhyAddr, reg: RegAddr, value: u16) -> Result<(), Error> {
        self.command(PhyCommand::OPERATION::Write, device, reg, Some(value))
            .await
    }

    async fn sleep_us(&mut self, us: u64) {
        self.regs.sleep_us(us).await;
    }

    fn now_us(&mut self) -> u64 {
        self.regs.now_us()
    }
}

/// No interrupt: masked, and those pending read away.
pub(super) async fn silence(regs: &mut impl Registers) -> Result<(), Error> {
    INTERRUPT_MASK
        .write(regs, DEVICE, Whole::VALUE.val(0))
        .await?;
    INTERRUPT_SOURCE.read(regs, DEVICE).await?;
    Ok(())
}

/// One switch, no trunks, no rate limits, no overrides; `mac` is the source of its pause frames.
pub(super) async fn set_up(
    regs: &mut impl Registers,
    ports: impl Iterator<Item = PortIndex>,
    all_ports: u16,
    mac: MacAddr,
) -> Result<(), Error> {
    for port in ports {
        let init = Table::OPERATION::InitAll + Table::PORT.val(port.get().into());
        operate(regs, RATE_LIMIT, init).await?;
    }
    for (at, byte) in (0..).zip(mac) {
        let entry = SwitchMac::INDEX.val(at) + SwitchMac::BYTE.val(byte.into());
        SWITCH_MAC
            .write(regs, DEVICE, entry + SwitchMac::UPDATE::SET)
            .await?;
    }
    // The own device is not looked up in the cross-chip table, and there is no other.
    MISC.modify(regs, DEVICE, Misc::FIVE_BIT_PORTS::CLEAR)
        .await?;
    operate(regs, CROSS_CHIP, Table::OPERATION::InitAll).await?;
    for entry in 0..16 {
        let none = PriorityOverride::UPDATE::SET + PriorityOverride::ENTRY.val(entry);
        PRIORITY_OVERRIDE.write(regs, DEVICE, none).await?;
    }
    MANAGEMENT
        .modify(regs, DEVICE, Management::RESERVED_TO_CPU::CLEAR)
        .await?;
    for number in 0..8 {
        let mask = TrunkMask::NUMBER.val(number) + TrunkMask::PORTS.val(all_ports);
        TRUNK_MASK
            .write(regs, DEVICE, mask + TrunkMask::UPDATE::SET)
            .await?;
    }
    for id in 0..16 {
        let empty = TrunkMap::UPDATE::SET + TrunkMap::ID.val(id);
        TRUNK_MAP.write(regs, DEVICE, empty).await?;
    }
    for device in 0..32 {
        let nowhere = DeviceMap::DEVICE.val(device) + DeviceMap::PORT::Nowhere;
        DEVICE_MAP
            .write(regs, DEVICE, nowhere + DeviceMap::UPDATE::SET)
            .await?;
    }
    Ok(())
}

async fn operate(
    regs: &mut impl Registers,
    table: Reg16<Table::Register>,
    operation: FieldValue<u16, Table::Register>,
) -> Result<(), Error> {
    steps::wait_idle(regs, DEVICE, table, Table::BUSY).await?;
    steps::operate(regs, DEVICE, table, Table::BUSY, operation).await
}

/// Lets the watchdog look for stuck queues.
pub(super) async fn enable_watchdog(regs: &mut impl Registers) -> Result<(), Error> {
    let enable =
        Watchdog::UPDATE::SET + Watchdog::POINTER::Enable + Watchdog::DATA.val(WATCHDOG_ALL);
    WATCHDOG.write(regs, DEVICE, enable).await
}

/// What wants to be looked at. No interrupt is wired on this board, but the register tells all the same.
pub(super) struct Sources {
    /// Ports whose PHY raises its interrupt.
    pub(super) phys: PortSet,
    /// The watchdog saw something.
    pub(super) watchdog: bool,
}

/// Reads what wants to be looked at.
pub(super) async fn sources(regs: &mut impl Registers) -> Result<Sources, Error> {
    let source = INTERRUPT_SOURCE.read(regs, DEVICE).await?;
    Ok(Sources {
        phys: PortSet::from_bits(source.read(InterruptSource::PHYS)),
        watchdog: source.is_set(InterruptSource::WATCHDOG),
    })
}

/// What the watchdog saw.
pub(super) async fn watchdog_event(regs: &mut impl Registers) -> Result<u8, Error> {
    let event = Watchdog::POINTER::Event;
    WATCHDOG.write(regs, DEVICE, event).await?;
    let event = WATCHDOG.read(regs, DEVICE).await?;
    Ok(event.read(Watchdog::DATA) as u8)
}
