//! Port registers: devices 0x10 to 0x15, one per port.
//!
//! Owns what software wrote for a port and what the words mean. The link a port has comes from its PHY, its SERDES or
//! its straps; the caller resolves that and hands it in.
//!
//! Spec: Linux mv88e6xxx/port.h and port.c, unless marked otherwise.

use super::context::{Busy, Context, Unit};
use super::doubts::{CmodeInternalPhy, StrapPortState};
use super::indexed::Indexed;
use crate::phy::{Link, Speed};

/// Ports of the chip.
pub const PORTS: u8 = 6;
/// One bit per port.
pub const ALL_PORTS: u16 = (1 << PORTS) - 1;
/// The port the conduit of the Armada 3720 is wired to.
pub const CONDUIT: u8 = 0;
/// The port with the SERDES.
pub const SERDES: u8 = 5;

/// Register 0x03: product number 0x341, revision 0. Spec: Linux port.h; ESPRESSObin boot logs report revision 0.
const SWITCH_ID: u16 = 0x3410;

/// What a port does with frames: register 0x04 bits 1:0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nothing comes in or goes out.
    Disabled,
    /// Only management frames pass.
    Blocking,
    /// As blocking, and source addresses are learnt.
    Learning,
    /// Everything passes.
    Forwarding,
}

impl State {
    pub(crate) fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Disabled,
            1 => Self::Blocking,
            2 => Self::Learning,
            _ => Self::Forwarding,
        }
    }
}

/// How frames on a port's wire look: register 0x04 bits 9:8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameMode {
    /// Plain Ethernet.
    Normal,
    /// A DSA tag in every frame.
    Dsa,
    /// A provider tag with the port's EtherType.
    Provider,
    /// A DSA tag behind the port's EtherType.
    EtherTypeDsa,
}

/// What happens to the VLAN tag of a frame going out: register 0x04 bits 13:12.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EgressMode {
    /// It stays as it is.
    Unmodified,
    /// It comes off.
    Untagged,
    /// It is added.
    Tagged,
    /// Every frame gets the EtherType DSA tag.
    EtherTypeDsa,
}

/// 802.1Q mode: register 0x08 bits 11:10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dot1qMode {
    /// The VLAN table is not asked.
    Off,
    /// An unknown VID falls back to the port's VLAN map.
    Fallback,
    /// An unknown VID is dropped.
    Check,
    /// An unknown VID is dropped, and so is a frame from a port that is no member.
    Secure,
}

/// What a policy does with a frame it matches: register 0x0e.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Normal,
    /// A copy goes to the CPU.
    Mirror,
    /// It goes to the CPU instead.
    Trap,
    /// It is dropped.
    Discard,
}

/// The eight policies of register 0x0e, by the position of their two bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Udp = 0,
    Option82 = 2,
    Vbas = 4,
    Pppoe = 6,
    EtherType = 8,
    Vtu = 10,
    Source = 12,
    Destination = 14,
}

/// Source address filter: register 0x04 bits 15:14.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceFilter {
    /// None.
    Off,
    /// Drop what the MAC table does not assign to this port.
    DropOnLock,
    /// Drop what the MAC table assigns statically to another port.
    DropOnUnlock,
    /// As the last, but to the CPU.
    ToCpu,
}

/// The registers of one port.
#[derive(Debug)]
pub(crate) struct Port {
    number: u8,
    c_mode: u8,
    mac_control: u16,
    jamming: u16,
    control0: u16,
    control1: u16,
    base_vlan: u16,
    default_vlan: u16,
    control2: u16,
    association: u16,
    policy: u16,
    ether_type: u16,
    pub(crate) in_discards: u32,
    pub(crate) in_filtered: u16,
    pub(crate) out_filtered: u16,
    led: Indexed<8, 12, 0x07ff>,
    /// Registers that are storage alone, by offset.
    storage: [u16; 32],
}

impl Port {
    /// A port as its straps leave it.
    ///
    /// Inherited: reset values are those Linux and U-Boot expect to find or leave alone; no document states them.
    pub(crate) fn new(number: u8, context: &Context) -> Self {
        let mut storage = [0; 32];
        storage[0x09] = 0x0001;
        storage[0x18] = 0x3210;
        storage[0x19] = 0x7654;
        Self {
            number,
            c_mode: match number {
                CONDUIT => 0x7,
                SERDES => 0x9,
                _ => match context.doubts.cmode_internal_phy {
                    CmodeInternalPhy::Internal => 0xf,
                    CmodeInternalPhy::Zero => 0x0,
                },
            },
            mac_control: 0x0003,
            jamming: 0,
            control0: match context.doubts.strap_port_state {
                StrapPortState::Forwarding => 0x007f,
                StrapPortState::Disabled => 0x007c,
            },
            control1: 0,
            base_vlan: ALL_PORTS & !(1 << number),
            default_vlan: 0x0001,
            control2: 0x2080,
            association: 1 << number,
            policy: 0,
            ether_type: 0x9100,
            in_discards: 0,
            in_filtered: 0,
            out_filtered: 0,
            led: Indexed::filled_with(0),
            storage,
        }
    }

    // Registers, in offset order.

    /// `link` is what [`Port::resolve`] gave for this port.
    pub(crate) fn read(&mut self, register: u8, link: PortLink, context: &mut Context) -> u16 {
        match register {
            0x00 => self.status(link),
            0x01 => self.mac_control,
            0x02 => self.jamming,
            0x03 => SWITCH_ID,
            0x04 => self.control0,
            0x05 => self.control1,
            0x06 => self.base_vlan,
            0x07 => self.default_vlan,
            0x08 => self.control2,
            0x0b => self.association,
            0x0e => self.policy,
            0x0f => self.ether_type,
            0x10 => self.in_discards as u16,
            0x11 => (self.in_discards >> 16) as u16,
            0x12 => self.in_filtered,
            0x13 => self.out_filtered,
            0x16 => self.led.read(),
            0x09 | 0x0a | 0x0c | 0x0d | 0x14 | 0x15 | 0x17..=0x19 | 0x1b => {
                self.storage[usize::from(register)]
            }
            _ => {
                context.guest_error(
                    "port",
                    format_args!("read of reserved register {register:#04x}"),
                );
                0
            }
        }
    }

    pub(crate) fn write(&mut self, register: u8, value: u16, context: &mut Context) {
        match register {
            0x01 => self.write_mac_control(value, context),
            0x02 => self.jamming = value,
            0x04 => self.control0 = value,
            0x05 => self.control1 = value,
            0x06 => self.base_vlan = value & (0xf000 | ALL_PORTS),
            0x07 => self.default_vlan = value,
            0x08 => self.control2 = value,
            0x0b => self.association = value & (0xf800 | ALL_PORTS),
            0x0e => self.policy = value,
            0x0f => self.ether_type = value,
            0x16 => self.led.write(value),
            0x09 | 0x0a | 0x0c | 0x0d | 0x14 | 0x15 | 0x17..=0x19 | 0x1b => {
                self.storage[usize::from(register)] = value;
            }
            0x00 | 0x03 | 0x10..=0x13 => {
                let number = self.number;
                context.guest_error(
                    "port",
                    format_args!("port {number}: register {register:#04x} is read-only"),
                );
            }
            _ => {
                let number = self.number;
                context.guest_error(
                    "port",
                    format_args!("port {number}: write of reserved register {register:#04x}"),
                );
            }
        }
    }

    /// RGMII delays and AltSpeed exist on port 0 alone.
    fn write_mac_control(&mut self, value: u16, context: &mut Context) {
        let only_port_0 = 0xd000;
        if self.number != CONDUIT && value & only_port_0 != 0 {
            let number = self.number;
            context.guest_error(
                "port",
                format_args!("port {number}: MAC control {value:#06x} has bits of port 0"),
            );
            self.mac_control = value & !only_port_0;
        } else {
            self.mac_control = value;
        }
    }

    fn status(&self, link: PortLink) -> u16 {
        let detected = (1..SERDES).contains(&self.number);
        let mut status = u16::from(detected) << 12 | u16::from(self.c_mode);
        if let Some(up) = link.up {
            let pause = up.tx_pause || up.rx_pause;
            status |= 1 << 11 | u16::from(up.full_duplex) << 10 | (up.speed as u16) << 8;
            status |= u16::from(pause) << 15 | u16::from(pause && up.full_duplex) << 4;
        }
        status | u16::from(link.my_pause) << 14
    }

    /// The link of the port: what is forced here goes before what the PHY (`media`) says.
    pub(crate) fn resolve(&self, media: PortLink) -> PortLink {
        let control = self.mac_control;
        let up = if control & 1 << 4 != 0 {
            control & 1 << 5 != 0
        } else {
            media.up.is_some()
        };
        let found = media.up.unwrap_or(Link {
            speed: if self.number == CONDUIT {
                Speed::S1000
            } else {
                Speed::S10
            },
            full_duplex: self.number == CONDUIT,
            tx_pause: false,
            rx_pause: false,
        });
        // Without bit 13 the speed bits do nothing; 3 means not forced.
        let speed = match (control & 1 << 13 != 0, control & 3) {
            (true, 0) => Speed::S10,
            (true, 1) => Speed::S100,
            (true, 2) => Speed::S1000,
            _ => found.speed,
        };
        let full_duplex = if control & 1 << 2 != 0 {
            control & 1 << 3 != 0
        } else {
            found.full_duplex
        };
        let (tx_pause, rx_pause) = match (control & 1 << 6 != 0, control & 1 << 7 != 0) {
            (true, forced) => (forced, forced),
            (false, _) => (found.tx_pause, found.rx_pause),
        };
        PortLink {
            up: up.then_some(Link {
                speed,
                full_duplex,
                tx_pause,
                rx_pause,
            }),
            my_pause: media.my_pause,
        }
    }

    // What the words mean.

    pub(crate) fn rgmii_rx_delay(&self) -> bool {
        self.mac_control & 1 << 15 != 0
    }

    pub(crate) fn rgmii_tx_delay(&self) -> bool {
        self.mac_control & 1 << 14 != 0
    }

    pub(crate) fn state(&self) -> State {
        State::from_bits(self.control0 as u8)
    }

    pub(crate) fn frame_mode(&self) -> FrameMode {
        match self.control0 >> 8 & 3 {
            0 => FrameMode::Normal,
            1 => FrameMode::Dsa,
            2 => FrameMode::Provider,
            _ => FrameMode::EtherTypeDsa,
        }
    }

    pub(crate) fn egress_mode(&self) -> EgressMode {
        match self.control0 >> 12 & 3 {
            0 => EgressMode::Unmodified,
            1 => EgressMode::Untagged,
            2 => EgressMode::Tagged,
            _ => EgressMode::EtherTypeDsa,
        }
    }

    pub(crate) fn source_filter(&self) -> SourceFilter {
        match self.control0 >> 14 {
            0 => SourceFilter::Off,
            1 => SourceFilter::DropOnLock,
            2 => SourceFilter::DropOnUnlock,
            _ => SourceFilter::ToCpu,
        }
    }

    pub(crate) fn snoops_igmp(&self) -> bool {
        self.control0 & 1 << 10 != 0
    }

    pub(crate) fn uses_ip_priority(&self) -> bool {
        self.control0 & 1 << 5 != 0
    }

    pub(crate) fn tag_priority_first(&self) -> bool {
        self.control0 & 1 << 6 != 0
    }

    pub(crate) fn floods_multicast(&self) -> bool {
        self.control0 & 1 << 3 != 0
    }

    pub(crate) fn floods_unicast(&self) -> bool {
        self.control0 & 1 << 2 != 0
    }

    /// The trunk the port belongs to.
    pub(crate) fn trunk(&self) -> Option<u8> {
        (self.control1 & 1 << 14 != 0).then_some((self.control1 >> 8 & 0xf) as u8)
    }

    /// The default address database: 12 bits over two registers.
    pub(crate) fn fid(&self) -> u16 {
        (self.control1 & 0xff) << 4 | self.base_vlan >> 12
    }

    pub(crate) fn vlan_map(&self) -> u16 {
        self.base_vlan & ALL_PORTS
    }

    pub(crate) fn default_vid(&self) -> u16 {
        self.default_vlan & 0x0fff
    }

    /// Tags of arriving frames do not choose the VLAN.
    pub(crate) fn forces_default_vid(&self) -> bool {
        self.default_vlan & 1 << 12 != 0
    }

    pub(crate) fn default_priority(&self) -> u8 {
        (self.default_vlan >> 13) as u8
    }

    pub(crate) fn ignores_fcs(&self) -> bool {
        self.control2 & 1 << 15 != 0
    }

    /// Longest frame, FCS included. Spec: Linux port.h; 3 is reserved and taken as the largest.
    pub(crate) fn frame_limit(&self) -> usize {
        match self.control2 >> 12 & 3 {
            0 => 1522,
            1 => 2048,
            _ => 10240,
        }
    }

    pub(crate) fn dot1q(&self) -> Dot1qMode {
        match self.control2 >> 10 & 3 {
            0 => Dot1qMode::Off,
            1 => Dot1qMode::Fallback,
            2 => Dot1qMode::Check,
            _ => Dot1qMode::Secure,
        }
    }

    pub(crate) fn discards_tagged(&self) -> bool {
        self.control2 & 1 << 9 != 0
    }

    pub(crate) fn discards_untagged(&self) -> bool {
        self.control2 & 1 << 8 != 0
    }

    pub(crate) fn maps_destination(&self) -> bool {
        self.control2 & 1 << 7 != 0
    }

    pub(crate) fn monitors_egress(&self) -> bool {
        self.control2 & 1 << 5 != 0
    }

    pub(crate) fn monitors_ingress(&self) -> bool {
        self.control2 & 1 << 4 != 0
    }

    pub(crate) fn holds_age_at_1(&self) -> bool {
        self.association & 1 << 15 != 0
    }

    pub(crate) fn tells_age_out(&self) -> bool {
        self.association & 1 << 14 != 0
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.association & 1 << 13 != 0
    }

    pub(crate) fn ignores_wrong_source(&self) -> bool {
        self.association & 1 << 12 != 0
    }

    pub(crate) fn refreshes_locked(&self) -> bool {
        self.association & 1 << 11 != 0
    }

    /// The ports a learnt entry gets; none switches learning off.
    pub(crate) fn learns_for(&self) -> u16 {
        self.association & ALL_PORTS
    }

    pub(crate) fn policy(&self, policy: Policy) -> Action {
        match self.policy >> policy as u16 & 3 {
            0 => Action::Normal,
            1 => Action::Mirror,
            2 => Action::Trap,
            _ => Action::Discard,
        }
    }

    pub(crate) fn has_policies(&self) -> bool {
        self.policy != 0
    }

    pub(crate) fn ether_type(&self) -> u16 {
        self.ether_type
    }

    /// Priority of a tagged frame after the port's remap registers 0x18 and 0x19.
    pub(crate) fn remap_priority(&self, priority: u8) -> u8 {
        let table = u32::from(self.storage[0x18]) | u32::from(self.storage[0x19]) << 16;
        (table >> (u32::from(priority & 7) * 4) & 7) as u8
    }

    /// Leaves the register alone on ports whose C-mode is not writable.
    pub(crate) fn set_c_mode(&mut self, c_mode: u8) {
        self.c_mode = c_mode & 0xf;
    }
}

/// The link of a port and what it advertises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PortLink {
    pub(crate) up: Option<Link>,
    /// The PHY advertises pause.
    pub(crate) my_pause: bool,
}

/// The hidden registers behind register 0x1a: control through port 4, data through port 5.
///
/// ```text
/// busy 15 | write 14 | block 13:10 | port 9:5 | register 4:0
/// ```
///
/// Spec: Linux mv88e6xxx/port_hidden.c. Inherited: block 7, port 0x15, register 0, bits 15 and 13 make the C-mode of
/// port 5 writable; everything else is storage.
#[derive(Debug, Default)]
pub(crate) struct Hidden {
    command: u16,
    data: u16,
    busy: Busy,
    storage: std::collections::BTreeMap<u16, u16>,
}

impl Hidden {
    pub(crate) const REGISTER: u8 = 0x1a;

    pub(crate) fn read(&self, port: u8, context: &mut Context) -> u16 {
        match port {
            4 => self.command & 0x7fff | u16::from(self.busy.is_set(Unit::Tables, context)) << 15,
            5 => self.data,
            _ => {
                context.guest_error(
                    "port",
                    format_args!("port {port}: hidden registers are behind ports 4 and 5"),
                );
                0
            }
        }
    }

    pub(crate) fn write(&mut self, port: u8, value: u16, context: &mut Context) {
        match port {
            _ if self.busy.is_set(Unit::Tables, context) => {
                context.guest_error(
                    "port",
                    format_args!("hidden register written while an access runs"),
                );
            }
            4 => {
                self.command = value & 0x7fff;
                if value & 0x8000 == 0 {
                    return;
                }
                let address = value & 0x3fff;
                if value & 1 << 14 != 0 {
                    self.storage.insert(address, self.data);
                } else {
                    self.data = self.storage.get(&address).copied().unwrap_or(0);
                }
                self.busy.start(context, context.timing.table);
            }
            5 => self.data = value,
            _ => context.guest_error(
                "port",
                format_args!("port {port}: hidden registers are behind ports 4 and 5"),
            ),
        }
    }

    /// Both magic bits were written.
    pub(crate) fn c_mode_is_writable(&self) -> bool {
        const ADDRESS: u16 = 7 << 10 | 0x15 << 5;
        const WRITABLE: u16 = 1 << 15 | 1 << 13;
        self.storage
            .get(&ADDRESS)
            .is_some_and(|value| value & WRITABLE == WRITABLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::context::tests::context;

    fn linked(number: u8, mac_control: u16, media: Option<Link>) -> (u16, Option<Link>) {
        let mut context = context();
        let mut port = Port::new(number, &context);
        port.write(0x01, mac_control, &mut context);
        let link = port.resolve(PortLink {
            up: media,
            my_pause: false,
        });
        (port.read(0x00, link, &mut context), link.up)
    }

    const GIGABIT: Link = Link {
        speed: Speed::S1000,
        full_duplex: true,
        tx_pause: false,
        rx_pause: false,
    };

    #[test]
    fn status_shows_what_is_forced_before_what_the_phy_found() {
        let slow = Link {
            speed: Speed::S100,
            full_duplex: false,
            ..GIGABIT
        };
        let table = [
            (0, 0xe03e, Some(GIGABIT), 0x0e07),
            (0, 0xe002, Some(GIGABIT), 0x0e07),
            (0, 0xe01e, Some(GIGABIT), 0x0007),
            (1, 0x0003, None, 0x100f),
            (1, 0x0003, Some(GIGABIT), 0x1e0f),
            (1, 0x0003, Some(slow), 0x190f),
            (1, 0x0013, Some(GIGABIT), 0x100f),
            (1, 0x2031, None, 0x190f),
            (1, 0x0031, None, 0x180f),
            (1, 0x00c3, Some(GIGABIT), 0x9e1f),
        ];
        for (number, control, media, status) in table {
            assert_eq!(
                linked(number, control, media).0,
                status,
                "port {number} control {control:#06x}"
            );
        }
    }

    #[test]
    fn rgmii_delays_exist_on_port_0_alone() {
        let mut context = context();
        let mut port = Port::new(2, &context);
        port.write(0x01, 0xc003, &mut context);
        assert_eq!(context.env.guest_error_count(), 1);
        assert_eq!(port.read(0x01, PortLink::default(), &mut context), 0x0003);
    }

    #[test]
    fn the_default_fid_is_spread_over_two_registers() {
        let mut context = context();
        let mut port = Port::new(1, &context);
        port.write(0x05, 0x00ab, &mut context);
        port.write(0x06, 0xc001, &mut context);
        assert_eq!((port.fid(), port.vlan_map()), (0xabc, 1));
    }

    #[test]
    fn identity_counters_and_status_are_read_only() {
        let mut context = context();
        let mut port = Port::new(1, &context);
        for register in [0x00, 0x03, 0x10, 0x11, 0x12, 0x13] {
            port.write(register, 0xffff, &mut context);
        }
        assert_eq!(context.env.guest_error_count(), 6);
        assert_eq!(port.read(0x03, PortLink::default(), &mut context), 0x3410);
    }

    #[test]
    fn leds_are_storage_behind_a_pointer() {
        let mut context = context();
        let mut port = Port::new(1, &context);
        port.write(0x16, 0x8000 | 1 << 12 | 0x123, &mut context);
        port.write(0x16, 0x8000 | 2 << 12 | 0x456, &mut context);
        port.write(0x16, 1 << 12, &mut context);
        assert_eq!(port.read(0x16, PortLink::default(), &mut context), 0x1123);
    }

    #[test]
    fn hidden_registers_take_a_command_and_a_datum() {
        let mut context = context();
        let mut hidden = Hidden::default();
        hidden.write(5, 0xa000, &mut context);
        hidden.write(4, 0xc000 | 7 << 10 | 0x15 << 5, &mut context);
        assert_ne!(hidden.read(4, &mut context) & 0x8000, 0);
        context.now += context.timing.table;
        assert_eq!(hidden.read(4, &mut context) & 0x8000, 0);
        assert!(hidden.c_mode_is_writable());
    }
}
