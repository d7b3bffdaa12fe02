//! VLAN translation unit (VTU): registers 0x02, 0x03 and 0x05 to 0x09 of global 1.
//!
//! All ports run with 802.1Q off, so the table stays empty; it is flushed at bring-up, and shown to whoever asks.
//!
//! Spec: Linux mv88e6xxx/global1_vtu.c.

use super::global1::DEVICE;
use super::{PORTS, PortIndex, PortSet};
use crate::net::steps::{Error, Reg16, Registers, operate, wait_idle};
use tock_registers::fields::Field;
use tock_registers::register_bitfields;

register_bitfields![u16,
    Fid [
        POLICY OFFSET(12) NUMBITS(1) [],
        FID OFFSET(0) NUMBITS(12) []
    ],
    Sid [ SID OFFSET(0) NUMBITS(6) [] ],
    Operation [
        BUSY OFFSET(15) NUMBITS(1) [],
        OPERATION OFFSET(12) NUMBITS(3) [ FlushAll = 1, GetNext = 4, LoadSpanningTree = 5 ]
    ],
    Vid [
        VALID OFFSET(12) NUMBITS(1) [],
        VID OFFSET(0) NUMBITS(12) [ Last = 0xfff ]
    ],
    /// Four ports a register: 3 is no member.
    Members [
        PORT_0 OFFSET(0) NUMBITS(2) [],
        PORT_1 OFFSET(4) NUMBITS(2) [],
        PORT_2 OFFSET(8) NUMBITS(2) [],
        PORT_3 OFFSET(12) NUMBITS(2) []
    ]
];

const FID: Reg16<Fid::Register> = Reg16::at(0x02);
const SID: Reg16<Sid::Register> = Reg16::at(0x03);
const OPERATION: Reg16<Operation::Register> = Reg16::at(0x05);
const VID: Reg16<Vid::Register> = Reg16::at(0x06);
const DATA: [Reg16<Members::Register>; 3] = [Reg16::at(0x07), Reg16::at(0x08), Reg16::at(0x09)];
/// The fields of one data register.
const PORT_FIELDS: [Field<u16, Members::Register>; 4] = [
    Members::PORT_0,
    Members::PORT_1,
    Members::PORT_2,
    Members::PORT_3,
];
const NO_MEMBER: u16 = 3;

/// One VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub vid: u16,
    /// Its address database.
    pub fid: u16,
    /// Its members.
    pub members: PortSet,
}

/// Empties the table, and makes the spanning tree 0 valid with every state left to the ports.
pub(super) async fn set_up(regs: &mut impl Registers) -> Result<(), Error> {
    wait_idle(regs, DEVICE, OPERATION, Operation::BUSY).await?;
    operate(
        regs,
        DEVICE,
        OPERATION,
        Operation::BUSY,
        Operation::OPERATION::FlushAll,
    )
    .await?;
    VID.write(regs, DEVICE, Vid::VALID::SET).await?;
    SID.write(regs, DEVICE, Sid::SID.val(0)).await?;
    for register in DATA {
        register.write(regs, DEVICE, Members::PORT_0.val(0)).await?;
    }
    operate(
        regs,
        DEVICE,
        OPERATION,
        Operation::BUSY,
        Operation::OPERATION::LoadSpanningTree,
    )
    .await
}

/// Walks the VLANs in the order of their numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    /// The last one shown.
    behind: Option<u16>,
    ended: bool,
}

impl Walk {
    /// The next VLAN. Others may use the table between two calls.
    ///
    /// # Errors
    ///
    /// [`Error`]; the walk may go on.
    pub async fn next(&mut self, regs: &mut impl Registers) -> Result<Option<Entry>, Error> {
        if self.ended {
            return Ok(None);
        }
        wait_idle(regs, DEVICE, OPERATION, Operation::BUSY).await?;
        let behind = self.behind.map_or(Vid::VID::Last, |vid| Vid::VID.val(vid));
        VID.write(regs, DEVICE, behind).await?;
        operate(
            regs,
            DEVICE,
            OPERATION,
            Operation::BUSY,
            Operation::OPERATION::GetNext,
        )
        .await?;
        let found = VID.read(regs, DEVICE).await?;
        let vid = found.read(Vid::VID);
        let advances = self.behind.is_none_or(|behind| vid > behind);
        if !found.is_set(Vid::VALID) || !advances {
            self.ended = true;
            return Ok(None);
        }
        // A search behind the last number would start anew.
        self.ended = vid == Vid::VID::Last.value;
        self.behind = Some(vid);
        let fid = FID.read(regs, DEVICE).await?.read(Fid::FID);
        let mut members = PortSet::EMPTY;
        let mut ports = PortIndex::all();
        for register in DATA.into_iter().take(PORTS.div_ceil(PORT_FIELDS.len())) {
            let data = register.read(regs, DEVICE).await?;
            for (field, port) in PORT_FIELDS.into_iter().zip(&mut ports) {
                if data.read(field) != NO_MEMBER {
                    members = members.with(port);
                }
            }
        }
        Ok(Some(Entry { vid, fid, members }))
    }
}
