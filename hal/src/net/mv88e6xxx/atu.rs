//! Address translation unit (ATU): the table of MAC addresses, registers 0x0a to 0x0f of global 1.
//!
//! Spec: Linux mv88e6xxx/global1_atu.c. The number of an address database (FID) is split on this chip: bits 7:4 lie in
//! the control register, bits 3:0 in the operation.

use super::PortSet;
use super::global1::DEVICE;
use crate::net::MacAddr;
use crate::net::steps::{self, Error, Reg16, Registers, wait_idle};
use tock_registers::fields::FieldValue;
use tock_registers::register_bitfields;

register_bitfields![u16,
    Control [
        FID_HIGH OFFSET(12) NUMBITS(4) [],
        AGE OFFSET(4) NUMBITS(8) [],
        LEARN_2_ALL OFFSET(3) NUMBITS(1) []
    ],
    Operation [
        BUSY OFFSET(15) NUMBITS(1) [],
        OPERATION OFFSET(12) NUMBITS(3) [
            FlushAll = 1,
            Load = 3,
            GetNext = 4,
            FlushDynamicOfFid = 6
        ],
        FID_LOW OFFSET(0) NUMBITS(4) []
    ],
    Data [
        TRUNK OFFSET(15) NUMBITS(1) [],
        PORTS OFFSET(4) NUMBITS(6) [],
        STATE OFFSET(0) NUMBITS(4) [ Unused = 0, StaticMulticast = 7, StaticUnicast = 0xe ]
    ],
    Mac [ BYTES OFFSET(0) NUMBITS(16) [] ]
];

const CONTROL: Reg16<Control::Register> = Reg16::at(0x0a);
const OPERATION: Reg16<Operation::Register> = Reg16::at(0x0b);
const DATA: Reg16<Data::Register> = Reg16::at(0x0c);
const MAC: [Reg16<Mac::Register>; 3] = [Reg16::at(0x0d), Reg16::at(0x0e), Reg16::at(0x0f)];

/// Unit of the age field.
const AGE_UNIT_MS: u32 = 3_750;
/// The address that every search starts behind, and ends at.
const BROADCAST: MacAddr = [0xff; 6];

/// One address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its database.
    pub fid: u16,
    /// The address.
    pub mac: MacAddr,
    /// Ports it is at. Of a trunk, the bits are the trunk's number.
    pub ports: PortSet,
    /// The ports are a trunk.
    pub trunk: bool,
    /// 1 to 7 for a learnt address (7 the newest), more for those that software put there.
    pub state: u8,
}

async fn write_mac(regs: &mut impl Registers, mac: MacAddr) -> Result<(), Error> {
    let [a, b, c, d, e, f] = mac;
    for (register, pair) in MAC.into_iter().zip([[a, b], [c, d], [e, f]]) {
        let bytes = Mac::BYTES.val(u16::from_be_bytes(pair));
        register.write(regs, DEVICE, bytes).await?;
    }
    Ok(())
}

/// Runs an operation on data and address registers as they are.
async fn operate(
    regs: &mut impl Registers,
    operation: FieldValue<u16, Operation::Register>,
    fid: u16,
) -> Result<(), Error> {
    CONTROL
        .modify(regs, DEVICE, Control::FID_HIGH.val(fid >> 4))
        .await?;
    let start = operation + Operation::FID_LOW.val(fid & 0xf);
    steps::operate(regs, DEVICE, OPERATION, Operation::BUSY, start).await
}

/// Empties the table and sets the age limit of learnt addresses.
pub(super) async fn set_up(regs: &mut impl Registers, age_s: u16) -> Result<(), Error> {
    wait_idle(regs, DEVICE, OPERATION, Operation::BUSY).await?;
    DATA.write(regs, DEVICE, Data::STATE::Unused).await?;
    operate(regs, Operation::OPERATION::FlushAll, 0).await?;
    let units = (u32::from(age_s) * 1000 / AGE_UNIT_MS).clamp(1, 255) as u16;
    CONTROL
        .modify(
            regs,
            DEVICE,
            Control::AGE.val(units) + Control::LEARN_2_ALL::CLEAR,
        )
        .await
}

/// Puts an address there for good.
pub(super) async fn load_static(
    regs: &mut impl Registers,
    fid: u16,
    mac: MacAddr,
    ports: PortSet,
) -> Result<(), Error> {
    wait_idle(regs, DEVICE, OPERATION, Operation::BUSY).await?;
    write_mac(regs, mac).await?;
    let state = match mac[0] & 1 {
        0 => Data::STATE::StaticUnicast,
        _ => Data::STATE::StaticMulticast,
    };
    DATA.write(regs, DEVICE, state + Data::PORTS.val(ports.bits()))
        .await?;
    operate(regs, Operation::OPERATION::Load, fid).await
}

/// Forgets all that was learnt in one database.
///
/// The chip can also take a single port out of the entries ("move to port 15"). That is not used: Linux sent wrong
/// port numbers there for years and nobody noticed, so nobody knows that it works. Relearning costs the other members
/// of a bridge a few flooded frames.
pub(super) async fn forget_learnt(regs: &mut impl Registers, fid: u16) -> Result<(), Error> {
    wait_idle(regs, DEVICE, OPERATION, Operation::BUSY).await?;
    DATA.write(regs, DEVICE, Data::STATE::Unused).await?;
    operate(regs, Operation::OPERATION::FlushDynamicOfFid, fid).await
}

/// Walks the addresses of one database in numerical order.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    fid: u16,
    /// `None` once it has ended.
    behind: Option<MacAddr>,
}

impl Walk {
    /// From the first address of a database.
    pub fn new(fid: u16) -> Self {
        Walk {
            fid,
            behind: Some(BROADCAST),
        }
    }

    /// The next address. Others may use the table between two calls.
    ///
    /// # Errors
    ///
    /// [`Error`]; the walk may go on.
    pub async fn next(&mut self, regs: &mut impl Registers) -> Result<Option<Entry>, Error> {
        let Some(behind) = self.behind else {
            return Ok(None);
        };
        wait_idle(regs, DEVICE, OPERATION, Operation::BUSY).await?;
        write_mac(regs, behind).await?;
        DATA.write(regs, DEVICE, Data::STATE::Unused).await?;
        operate(regs, Operation::OPERATION::GetNext, self.fid).await?;
        let data = DATA.read(regs, DEVICE).await?;
        let mut mac = [0; 6];
        for (register, pair) in MAC.into_iter().zip(mac.chunks_exact_mut(2)) {
            pair.copy_from_slice(&register.read(regs, DEVICE).await?.get().to_be_bytes());
        }
        let state = data.read(Data::STATE) as u8;
        // An address not above the last one is a table gone mad: end there rather than go round for ever. The broadcast
        // address is the last there can be, and a search behind it starts anew.
        let advances = behind == BROADCAST || mac > behind;
        self.behind = (state != 0 && mac != BROADCAST && advances).then_some(mac);
        Ok((state != 0 && advances).then_some(Entry {
            fid: self.fid,
            mac,
            ports: PortSet::from_bits(data.read(Data::PORTS)),
            trunk: data.is_set(Data::TRUNK),
            state,
        }))
    }
}
