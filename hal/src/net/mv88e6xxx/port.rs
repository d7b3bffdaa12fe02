//! Registers of one port, devices 0x10 to 0x15.
//!
//! Spec: Linux mv88e6xxx/port.h and port.c; values as chip.c writes them, unless said otherwise.

use super::{PortIndex, PortSet};
use crate::net::mdio::PhyAddr;
use crate::net::steps::{Error, Reg16, Registers};
use crate::net::tag::Protocol;
use core::fmt;
use tock_registers::fields::FieldValue;
use tock_registers::register_bitfields;

register_bitfields![u16,
    MacControl [
        RGMII_RX_DELAY OFFSET(15) NUMBITS(1) [],
        RGMII_TX_DELAY OFFSET(14) NUMBITS(1) [],
        FORCE_SPEED OFFSET(13) NUMBITS(1) [],
        LINK_VALUE OFFSET(5) NUMBITS(1) [],
        FORCE_LINK OFFSET(4) NUMBITS(1) [],
        DUPLEX_VALUE OFFSET(3) NUMBITS(1) [],
        FORCE_DUPLEX OFFSET(2) NUMBITS(1) [],
        SPEED OFFSET(0) NUMBITS(2) [ Gigabit = 2, NotForced = 3 ]
    ],
    SwitchId [
        PRODUCT OFFSET(4) NUMBITS(12) [],
        REVISION OFFSET(0) NUMBITS(4) []
    ],
    pub(super) Control0 [
        EGRESS OFFSET(12) NUMBITS(2) [ Unmodified = 0, EtherTypeDsa = 3 ],
        FRAME_MODE OFFSET(8) NUMBITS(2) [ Normal = 0, Dsa = 1, EtherTypeDsa = 3 ],
        USE_IP OFFSET(5) NUMBITS(1) [],
        USE_TAG OFFSET(4) NUMBITS(1) [],
        FLOOD_MULTICAST OFFSET(3) NUMBITS(1) [],
        FLOOD_UNICAST OFFSET(2) NUMBITS(1) [],
        STATE OFFSET(0) NUMBITS(2) [ Disabled = 0, Forwarding = 3 ]
    ],
    Control1 [ FID_HIGH OFFSET(0) NUMBITS(8) [] ],
    pub(super) BaseVlan [
        FID_LOW OFFSET(12) NUMBITS(4) [],
        MAP OFFSET(0) NUMBITS(6) []
    ],
    Control2 [
        JUMBO OFFSET(12) NUMBITS(2) [ Max10240 = 2 ],
        DOT1Q OFFSET(10) NUMBITS(2) [ Off = 0 ],
        MAP_DESTINATION OFFSET(7) NUMBITS(1) []
    ],
    Association [ PORTS OFFSET(0) NUMBITS(6) [] ],
    /// A register that is one number.
    Whole [ VALUE OFFSET(0) NUMBITS(16) [] ]
];

const MAC_CONTROL: Reg16<MacControl::Register> = Reg16::at(0x01);
const JAMMING: Reg16<Whole::Register> = Reg16::at(0x02);
const SWITCH_ID: Reg16<SwitchId::Register> = Reg16::at(0x03);
pub(super) const CONTROL_0: Reg16<Control0::Register> = Reg16::at(0x04);
const CONTROL_1: Reg16<Control1::Register> = Reg16::at(0x05);
pub(super) const BASE_VLAN: Reg16<BaseVlan::Register> = Reg16::at(0x06);
const DEFAULT_VLAN: Reg16<Whole::Register> = Reg16::at(0x07);
const CONTROL_2: Reg16<Control2::Register> = Reg16::at(0x08);
const EGRESS_RATE_1: Reg16<Whole::Register> = Reg16::at(0x09);
const EGRESS_RATE_2: Reg16<Whole::Register> = Reg16::at(0x0a);
const ASSOCIATION: Reg16<Association::Register> = Reg16::at(0x0b);
const LEARN_LIMIT: Reg16<Whole::Register> = Reg16::at(0x0c);
const PRIORITY_OVERRIDE: Reg16<Whole::Register> = Reg16::at(0x0d);
const POLICY: Reg16<Whole::Register> = Reg16::at(0x0e);
const ETHER_TYPE: Reg16<Whole::Register> = Reg16::at(0x0f);
const PRIORITY_MAP_LOW: Reg16<Whole::Register> = Reg16::at(0x18);
const PRIORITY_MAP_HIGH: Reg16<Whole::Register> = Reg16::at(0x19);

/// Device of a port's registers.
pub(super) const fn device(port: PortIndex) -> PhyAddr {
    PhyAddr(0x10 + port.get())
}

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Not in use: stays disabled.
    Unused,
    /// Towards the conduit MAC, by RGMII.
    Cpu(Protocol),
    /// A network of its own, or a member of a bridge, with the other members.
    User {
        /// Address database; 0 for all that are not bridged.
        fid: u16,
        /// The other members of its bridge.
        others: PortSet,
    },
}

/// What the canary compares: how control 0 and the VLAN map of a port read once it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canary {
    /// Register 0x04.
    pub control_0: u16,
    /// Register 0x06.
    pub vlan_map: u16,
}

impl fmt::Display for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Canary {
            control_0,
            vlan_map,
        } = self;
        write!(f, "control 0 {control_0:#06x}, VLAN map {vlan_map:#06x}")
    }
}

impl Role {
    /// Control 0 once the port is open.
    fn control_0(self) -> FieldValue<u16, Control0::Register> {
        let open = Control0::USE_IP::SET
            + Control0::USE_TAG::SET
            + Control0::FLOOD_MULTICAST::SET
            + Control0::FLOOD_UNICAST::SET
            + Control0::STATE::Forwarding;
        match self {
            Role::Unused => Control0::STATE::Disabled,
            // No snooping: what it traps would not reach the other members of a bridge, and a port alone gets all.
            Role::User { .. } => open,
            Role::Cpu(Protocol::Dsa) => open + Control0::FRAME_MODE::Dsa,
            // Inherited: frame mode 3 wants egress mode 3, or ordinary frames might come without a tag.
            Role::Cpu(Protocol::EtherTypeDsa) => {
                open + Control0::FRAME_MODE::EtherTypeDsa + Control0::EGRESS::EtherTypeDsa
            }
        }
    }

    fn base_vlan(self, port: PortIndex, cpu: PortIndex) -> FieldValue<u16, BaseVlan::Register> {
        match self {
            Role::Unused => BaseVlan::MAP.val(0),
            Role::Cpu(_) => BaseVlan::MAP.val(PortSet::ALL.without(port).bits()),
            Role::User { fid, others } => {
                BaseVlan::MAP.val(others.with(cpu).bits()) + BaseVlan::FID_LOW.val(fid & 0xf)
            }
        }
    }

    pub(super) fn canary(self, port: PortIndex, cpu: PortIndex) -> Canary {
        Canary {
            control_0: self.control_0().value,
            vlan_map: self.base_vlan(port, cpu).value,
        }
    }
}

/// Product number and revision: 0xffff while the switch does not answer.
pub(super) async fn identify(regs: &mut impl Registers) -> Result<(u16, u8), Error> {
    let id = SWITCH_ID.read(regs, device(PortIndex::ZERO)).await?;
    Ok((
        id.read(SwitchId::PRODUCT),
        id.read(SwitchId::REVISION) as u8,
    ))
}

/// Stops a port: nothing comes in or goes out. One write, because what was there before does not matter.
pub(super) async fn disable(regs: &mut impl Registers, port: PortIndex) -> Result<(), Error> {
    CONTROL_0
        .write(regs, device(port), Control0::STATE::Disabled)
        .await
}

/// Leaves a port no other port to forward to.
pub(super) async fn isolate(regs: &mut impl Registers, port: PortIndex) -> Result<(), Error> {
    BASE_VLAN
        .write(regs, device(port), BaseVlan::MAP.val(0))
        .await
}

/// Sets up all of a port but its state, which stays disabled.
pub(super) async fn set_up(
    regs: &mut impl Registers,
    port: PortIndex,
    role: Role,
    cpu: PortIndex,
) -> Result<(), Error> {
    let at = device(port);
    set_up_mac(regs, port, role).await?;
    let (fid, maps_destination, learns) = match role {
        Role::Unused => return isolate(regs, port).await,
        Role::Cpu(_) => (0, true, false),
        // A port alone hands everything to the CPU, whatever the address table says, and teaches it nothing.
        Role::User { fid, others } => (fid, !others.is_empty(), !others.is_empty()),
    };
    let ether_type = match role {
        Role::Cpu(Protocol::EtherTypeDsa) => 0xdada,
        _ => 0x9100,
    };
    ETHER_TYPE
        .write(regs, at, Whole::VALUE.val(ether_type))
        .await?;
    let control_2 = Control2::JUMBO::Max10240
        + Control2::DOT1Q::Off
        + Control2::MAP_DESTINATION.val(maps_destination.into());
    CONTROL_2.write(regs, at, control_2).await?;
    let learners = if learns { PortSet::of(port).bits() } else { 0 };
    ASSOCIATION
        .write(regs, at, Association::PORTS.val(learners))
        .await?;
    for (register, value) in [
        (JAMMING, 0),
        (DEFAULT_VLAN, 0),
        (EGRESS_RATE_1, 1),
        (EGRESS_RATE_2, 0),
        (LEARN_LIMIT, 0),
        (PRIORITY_OVERRIDE, 0),
        (POLICY, 0),
        (PRIORITY_MAP_LOW, 0x3210),
        (PRIORITY_MAP_HIGH, 0x7654),
    ] {
        register.write(regs, at, Whole::VALUE.val(value)).await?;
    }
    CONTROL_1
        .write(regs, at, Control1::FID_HIGH.val(fid >> 4))
        .await?;
    BASE_VLAN.write(regs, at, role.base_vlan(port, cpu)).await
}

/// Link, speed and duplex: the CPU port's are forced, with both RGMII delays; a user port follows its PHY.
async fn set_up_mac(regs: &mut impl Registers, port: PortIndex, role: Role) -> Result<(), Error> {
    let at = device(port);
    let Role::Cpu(_) = role else {
        return MAC_CONTROL
            .write(regs, at, MacControl::SPEED::NotForced)
            .await;
    };
    let mode = MacControl::RGMII_RX_DELAY::SET
        + MacControl::RGMII_TX_DELAY::SET
        + MacControl::FORCE_SPEED::SET
        + MacControl::SPEED::Gigabit
        + MacControl::FORCE_DUPLEX::SET
        + MacControl::DUPLEX_VALUE::SET
        + MacControl::FORCE_LINK::SET;
    // Spec: port.c; speed and duplex may change only while the link is forced down.
    MAC_CONTROL
        .write(regs, at, mode + MacControl::LINK_VALUE::CLEAR)
        .await?;
    MAC_CONTROL
        .write(regs, at, mode + MacControl::LINK_VALUE::SET)
        .await
}

/// Lets frames pass.
pub(super) async fn open(
    regs: &mut impl Registers,
    port: PortIndex,
    role: Role,
) -> Result<(), Error> {
    CONTROL_0.write(regs, device(port), role.control_0()).await
}

/// What the canary reads now.
pub(super) async fn canary(regs: &mut impl Registers, port: PortIndex) -> Result<Canary, Error> {
    Ok(Canary {
        control_0: CONTROL_0.read(regs, device(port)).await?.get(),
        vlan_map: BASE_VLAN.read(regs, device(port)).await?.get(),
    })
}
