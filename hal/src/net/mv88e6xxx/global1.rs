//! Global 1, device 0x1b: reset, status, priorities, where special frames go. Its tables are in `atu`, `vtu` and `mib`.
//!
//! Spec: Linux mv88e6xxx/global1.h and global1.c.

use super::{Error, PortIndex};
use crate::net::mdio::{FLOATING, PhyAddr};
use crate::net::steps::{self, Reg16, Registers};
use tock_registers::register_bitfields;

pub(super) const DEVICE: PhyAddr = PhyAddr(0x1b);

register_bitfields![u16,
    Status [
        PPU_POLLING OFFSET(15) NUMBITS(1) [],
        INIT_READY OFFSET(11) NUMBITS(1) []
    ],
    Control1 [
        SOFTWARE_RESET OFFSET(15) NUMBITS(1) [],
        INTERRUPTS OFFSET(0) NUMBITS(9) []
    ],
    Priority [ VALUE OFFSET(0) NUMBITS(16) [] ],
    Management [
        UPDATE OFFSET(15) NUMBITS(1) [],
        POINTER OFFSET(8) NUMBITS(6) [
            /// 01:80:c2:00:00:00 to :07; the next three are :08, :20 and :28 and the seven behind each.
            Reserved = 0x00,
            IngressMonitor = 0x20,
            EgressMonitor = 0x21,
            Cpu = 0x30
        ],
        DATA OFFSET(0) NUMBITS(8) []
    ],
    Control2 [
        REMOTE_MANAGEMENT OFFSET(8) NUMBITS(3) [ Off = 7 ],
        HISTOGRAM OFFSET(6) NUMBITS(2) [ Received = 1 ],
        DEVICE_NUMBER OFFSET(0) NUMBITS(5) []
    ]
];

/// Reading clears the interrupt bits.
const STATUS: Reg16<Status::Register> = Reg16::at(0x00);
const CONTROL_1: Reg16<Control1::Register> = Reg16::at(0x04);
const IEEE_PRIORITY: Reg16<Priority::Register> = Reg16::at(0x18);
const MANAGEMENT: Reg16<Management::Register> = Reg16::at(0x1a);
const CONTROL_2: Reg16<Control2::Register> = Reg16::at(0x1c);

/// Queues of the eight classes of 64 IP priorities, two bits each, registers 0x10 to 0x17.
const IP_PRIORITIES: [u16; 8] = [0, 0, 0x5555, 0x5555, 0xaaaa, 0xaaaa, 0xffff, 0xffff];
/// Longest time from reset to ready. Inherited: Linux waits 50 ms, U-Boot a second.
const RESET_LIMIT_US: u64 = 1_000_000;
/// Time between looks at it.
const RESET_POLL_US: u64 = 1_000;

/// Resets all but the PHYs and waits until the switch reads PHYs again.
///
/// Sources differ on what the reset keeps (see the module above): after it, nothing that was written counts.
pub(super) async fn reset(regs: &mut impl Registers) -> Result<(), Error> {
    CONTROL_1
        .modify(regs, DEVICE, Control1::SOFTWARE_RESET::SET)
        .await?;
    let start = regs.now_us();
    loop {
        let late = regs.now_us().saturating_sub(start) >= RESET_LIMIT_US;
        match is_ready(regs).await {
            Ok(Readiness::Ready) => return Ok(()),
            Ok(Readiness::NotYet { status }) if late => return Err(Error::NotReady { status }),
            Err(error) if late => return Err(error.into()),
            // A chip in reset may drive nothing, which some controllers report as an error.
            Ok(Readiness::NotYet { .. }) | Err(_) => {}
        }
        regs.sleep_us(RESET_POLL_US).await;
    }
}

enum Readiness {
    Ready,
    NotYet { status: u16 },
}

/// Linux looks at the status alone, U-Boot at the reset bit alone: both have to agree.
async fn is_ready(regs: &mut impl Registers) -> Result<Readiness, steps::Error> {
    let status = STATUS.read(regs, DEVICE).await?;
    // 0xffff has all bits set that are waited for; nobody drives the bus then.
    let ready = status.get() != FLOATING
        && status.is_set(Status::INIT_READY)
        && status.is_set(Status::PPU_POLLING)
        && !CONTROL_1
            .read(regs, DEVICE)
            .await?
            .is_set(Control1::SOFTWARE_RESET);
    Ok(match ready {
        true => Readiness::Ready,
        false => Readiness::NotYet {
            status: status.get(),
        },
    })
}

/// No interrupt is wired on this board: none is enabled, those pending are read away.
pub(super) async fn silence(regs: &mut impl Registers) -> Result<(), steps::Error> {
    CONTROL_1
        .modify(regs, DEVICE, Control1::INTERRUPTS.val(0))
        .await?;
    STATUS.read(regs, DEVICE).await?;
    Ok(())
}

/// Priorities, remote management off, the device's number in tags, special frames to the CPU.
pub(super) async fn set_up(
    regs: &mut impl Registers,
    cpu: PortIndex,
    number: u8,
) -> Result<(), steps::Error> {
    let control = Control2::REMOTE_MANAGEMENT::Off
        + Control2::HISTOGRAM::Received
        + Control2::DEVICE_NUMBER.val(number.into());
    CONTROL_2.write(regs, DEVICE, control).await?;
    let cpu = u16::from(cpu.get());
    let reserved = |at| Management::POINTER.val(at) + Management::DATA.val(0xff);
    for entry in [
        // Reserved group addresses are the CPU's business, on bridged ports too.
        reserved(0),
        reserved(1),
        reserved(2),
        reserved(3),
        // Nothing is monitored, but trapped frames have to go somewhere.
        Management::POINTER::IngressMonitor + Management::DATA.val(cpu),
        Management::POINTER::EgressMonitor + Management::DATA.val(cpu),
        // Bits 7:5: highest priority.
        Management::POINTER::Cpu + Management::DATA.val(0xe0 | cpu),
    ] {
        MANAGEMENT
            .write(regs, DEVICE, entry + Management::UPDATE::SET)
            .await?;
    }
    for (at, queues) in (0x10..).zip(IP_PRIORITIES) {
        Reg16::<Priority::Register>::at(at)
            .write(regs, DEVICE, Priority::VALUE.val(queues))
            .await?;
    }
    IEEE_PRIORITY
        .write(regs, DEVICE, Priority::VALUE.val(0xfa41))
        .await
}
