//! One of the 88E6341's internal copper PHYs, and the cable with the link partner at its end.
//!
//! Clause 22 registers in pages, two MMD windows, autonegotiation in virtual time, interrupts, cable test. Nothing
//! here knows of ports: the switch reads and writes registers through global 2 and asks for the [`Link`].
//!
//! ```text
//! page 0   control, status, ids, autonegotiation, MMD window, copper control and status, interrupts
//! page 5   cable test set-up      page 6   temperature      page 7   cable test
//! page 2, 3, 0x12, 0xf8 ...       storage
//! ```
//!
//! Spec: IEEE 802.3 clause 22 and 28 for registers 0 to 15 (Linux include/uapi/linux/mii.h), Linux
//! drivers/net/phy/marvell.c for the rest. Simplified: downshift and fast link down are storage; there is no noise, so
//! no error counts.

#[cfg(test)]
mod tests;

use crate::bus::Nanos;
use crate::switch::context::{Context, Timing};
use crate::switch::doubts::{PhyTemperature, StrapPhyPower};
use std::collections::BTreeMap;

/// Speed of a link, with the value the chip's registers use for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speed {
    /// 10 Mb/s.
    S10 = 0,
    /// 100 Mb/s.
    S100 = 1,
    /// 1000 Mb/s.
    S1000 = 2,
}

/// A link that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Speed.
    pub speed: Speed,
    /// Full duplex.
    pub full_duplex: bool,
    /// This side may send pause frames.
    pub tx_pause: bool,
    /// This side obeys pause frames.
    pub rx_pause: bool,
}

/// A set of speed and duplex modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes(u8);

impl Link {
    /// 1000 Mb/s full duplex without pause.
    pub const GIGABIT: Self = Self {
        speed: Speed::S1000,
        full_duplex: true,
        tx_pause: false,
        rx_pause: false,
    };
}

impl Modes {
    /// No mode.
    pub const NONE: Self = Self(0);
    /// Every mode.
    pub const ALL: Self = Self(0x3f);

    /// The set of one mode.
    #[must_use]
    pub const fn one(speed: Speed, full_duplex: bool) -> Self {
        Self(1 << (speed as u8 * 2 + full_duplex as u8))
    }

    /// Modes in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Modes in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// True if the mode is in the set.
    #[must_use]
    pub const fn has(self, speed: Speed, full_duplex: bool) -> bool {
        self.0 & Self::one(speed, full_duplex).0 != 0
    }

    /// The mode negotiation picks: the fastest, full duplex before half.
    #[must_use]
    pub fn best(self) -> Option<(Speed, bool)> {
        let order = [Speed::S1000, Speed::S100, Speed::S10];
        order
            .into_iter()
            .flat_map(|speed| [(speed, true), (speed, false)])
            .find(|(speed, full)| self.has(*speed, *full))
    }

    /// Registers 4 and 9 (this side) or 5 and 10 shifted (the other).
    fn from_registers(advertisement: u16, gigabit: u16) -> Self {
        let bit = |word: u16, at: u16, speed, full| {
            if word & 1 << at != 0 {
                Self::one(speed, full)
            } else {
                Self::NONE
            }
        };
        bit(advertisement, 5, Speed::S10, false)
            .or(bit(advertisement, 6, Speed::S10, true))
            .or(bit(advertisement, 7, Speed::S100, false))
            .or(bit(advertisement, 8, Speed::S100, true))
            .or(bit(gigabit, 8, Speed::S1000, false))
            .or(bit(gigabit, 9, Speed::S1000, true))
    }

    fn to_registers(self) -> (u16, u16) {
        let low = u16::from(self.0 & 0x0f) << 5;
        (low, u16::from(self.0 >> 4 & 3) << 8)
    }
}

/// What is at the other end of the cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partner {
    /// It negotiates.
    Autoneg {
        /// What it offers.
        modes: Modes,
        /// It offers symmetric pause.
        pause: bool,
        /// It offers asymmetric pause.
        asymmetric_pause: bool,
        /// It insists on being master (or slave) at 1000 Mb/s.
        forced_master: Option<bool>,
    },
    /// It does not negotiate: 10 or 100 Mb/s, fixed.
    Forced {
        /// Its speed.
        speed: Speed,
        /// Its duplex mode.
        full_duplex: bool,
    },
}

impl Partner {
    /// A gigabit network card of our days.
    pub const GIGABIT: Self = Self::Autoneg {
        modes: Modes::ALL,
        pause: true,
        asymmetric_pause: true,
        forced_master: None,
    };

    /// A partner of one mode, such as `100-full`; with `!` behind it does not negotiate.
    #[must_use]
    pub fn limited(text: &str) -> Option<Self> {
        let (mode, negotiates) = match text.strip_suffix('!') {
            Some(mode) => (mode, false),
            None => (text, true),
        };
        let (speed, duplex) = mode.split_once('-')?;
        let speed = match speed {
            "10" => Speed::S10,
            "100" => Speed::S100,
            "1000" if negotiates => Speed::S1000,
            _ => return None,
        };
        let full_duplex = match duplex {
            "full" => true,
            "half" => false,
            _ => return None,
        };
        Some(if negotiates {
            Self::Autoneg {
                modes: Modes::one(speed, full_duplex),
                pause: false,
                asymmetric_pause: false,
                forced_master: None,
            }
        } else {
            Self::Forced { speed, full_duplex }
        })
    }
}

/// State of one pair, as the cable test finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// No fault.
    Ok,
    /// Open at this many centimetres.
    Open(u16),
    /// Short within the pair at this many centimetres.
    Short(u16),
    /// Short to another pair at this many centimetres.
    CrossShort(u16),
}

impl Pair {
    fn code(self) -> u16 {
        match self {
            Self::Ok => 1,
            Self::Open(_) => 2,
            Self::Short(_) => 3,
            Self::CrossShort(_) => 4,
        }
    }

    fn centimetres(self) -> u16 {
        match self {
            Self::Ok => 0,
            Self::Open(at) | Self::Short(at) | Self::CrossShort(at) => at,
        }
    }
}

// Basic mode control, register 0.
const RESET: u16 = 1 << 15;
const LOOPBACK: u16 = 1 << 14;
const SPEED_100: u16 = 1 << 13;
const AUTONEG: u16 = 1 << 12;
const POWER_DOWN: u16 = 1 << 11;
const ISOLATE: u16 = 1 << 10;
const RESTART: u16 = 1 << 9;
const FULL_DUPLEX: u16 = 1 << 8;
const SPEED_1000: u16 = 1 << 6;

// Interrupts, registers 18 (enable) and 19 (status).
const INTERRUPT_SPEED: u16 = 1 << 14;
const INTERRUPT_DUPLEX: u16 = 1 << 13;
const INTERRUPT_PAGE: u16 = 1 << 12;
const INTERRUPT_AUTONEG: u16 = 1 << 11;
const INTERRUPT_LINK: u16 = 1 << 10;

/// BMCR after a hardware reset: autonegotiation, 1000 Mb/s, full duplex. Spec: U-Boot board.c writes this value.
const CONTROL_AFTER_RESET: u16 = 0x1140;
/// Inherited: 10 and 100 Mb/s all modes, both pause bits, as the family's PHYs advertise by default.
const ADVERTISEMENT_AFTER_RESET: u16 = 0x0de1;
/// Both gigabit modes.
const GIGABIT_AFTER_RESET: u16 = 0x0300;
/// Automatic MDI crossover. Inherited: default of the 88E1510, the downshift counter preset but off.
const COPPER_CONTROL_AFTER_RESET: u16 = 0x3060;
/// The die is warm: 45 degrees.
const DEGREES_AFTER_RESET: i16 = 45;

/// Where the copper side stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copper {
    /// Nothing will happen until something changes.
    Down,
    /// The link comes up, with this outcome, at this time.
    Connecting { at: Nanos, outcome: Outcome },
    /// The link is up.
    Up(Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcome {
    link: Link,
    /// Autonegotiation took place, or parallel detection in its stead.
    negotiated: bool,
}

/// One PHY.
#[derive(Debug)]
pub struct Phy {
    page: u8,
    control: u16,
    /// The part of `control` in force: a new mode waits for a soft reset or restart. Spec: marvell.c resets after each.
    applied: u16,
    reset_until: Nanos,
    restart_until: Nanos,
    link_dropped: bool,
    advertisement: u16,
    gigabit: u16,
    interrupt_enable: u16,
    interrupt_status: u16,
    page_received: bool,
    mmd_control: u16,
    mmd_address: [u16; 32],
    mmd: BTreeMap<(u8, u16), u16>,
    cable_test_until: Option<Nanos>,
    cable_test_done: bool,
    storage: BTreeMap<(u8, u8), u16>,

    copper: Copper,
    partner: Option<Partner>,
    pairs: [Pair; 4],
    /// Fault: what the cable test finds instead.
    cable_fault: Option<[Pair; 4]>,
    /// Die temperature in degrees Celsius.
    degrees: i16,
    /// Fault: negotiation goes on for ever.
    never_completes: bool,
    /// Fault: no link before this time.
    unplugged_until: Nanos,
}

impl Phy {
    pub(crate) fn new(context: &Context) -> Self {
        let control = match context.doubts.strap_phy_power {
            StrapPhyPower::Up => CONTROL_AFTER_RESET,
            StrapPhyPower::Down => CONTROL_AFTER_RESET | POWER_DOWN,
        };
        Self {
            page: 0,
            control,
            applied: control,
            reset_until: 0,
            restart_until: 0,
            link_dropped: false,
            advertisement: ADVERTISEMENT_AFTER_RESET,
            gigabit: GIGABIT_AFTER_RESET,
            interrupt_enable: 0,
            interrupt_status: 0,
            page_received: false,
            mmd_control: 0,
            mmd_address: [0; 32],
            mmd: BTreeMap::new(),
            cable_test_until: None,
            cable_test_done: false,
            storage: BTreeMap::from([
                ((0, 16), COPPER_CONTROL_AFTER_RESET),
                ((0, 20), 0x0020),
                ((0, 26), 0x0040),
            ]),
            copper: Copper::Down,
            partner: None,
            pairs: [Pair::Ok; 4],
            cable_fault: None,
            degrees: DEGREES_AFTER_RESET,
            never_completes: false,
            unplugged_until: 0,
        }
    }

    /// What a hardware reset of the chip does; the cable, the room and the faults stay as they are.
    pub(crate) fn hardware_reset(&mut self, context: &Context) {
        let fresh = Self::new(context);
        *self = Self {
            partner: self.partner,
            pairs: self.pairs,
            cable_fault: self.cable_fault,
            degrees: self.degrees,
            never_completes: self.never_completes,
            unplugged_until: self.unplugged_until,
            ..fresh
        };
        self.connect(context.now, context.timing);
    }

    // The cable.

    /// Plugs or pulls the cable.
    pub(crate) fn set_partner(&mut self, partner: Option<Partner>, now: Nanos, timing: Timing) {
        self.advance(now);
        if self.partner != partner {
            self.partner = partner;
            self.connect(now, timing);
        }
    }

    /// Pulls the cable for a while.
    pub(crate) fn flap(&mut self, now: Nanos, duration: Nanos, timing: Timing) {
        self.flap_until(now.saturating_add(duration), now, timing);
    }

    /// Pulls the cable up to a point in time; saying so twice changes nothing.
    pub(crate) fn flap_until(&mut self, until: Nanos, now: Nanos, timing: Timing) {
        self.advance(now);
        if self.unplugged_until < until {
            self.unplugged_until = until;
            self.connect(now, timing);
        }
    }

    pub(crate) fn set_never_completes(&mut self, fault: bool, now: Nanos, timing: Timing) {
        self.advance(now);
        if self.never_completes != fault {
            self.never_completes = fault;
            self.connect(now, timing);
        }
    }

    pub(crate) fn set_pairs(&mut self, pairs: [Pair; 4]) {
        self.pairs = pairs;
    }

    pub(crate) fn set_cable_fault(&mut self, pairs: Option<[Pair; 4]>) {
        self.cable_fault = pairs;
    }

    pub(crate) fn set_degrees(&mut self, degrees: i16) {
        self.degrees = degrees;
    }

    // What the port asks.

    /// The link, once [`Phy::advance`] has caught up.
    pub(crate) fn link(&self) -> Option<Link> {
        match self.copper {
            Copper::Up(outcome) if self.applied & ISOLATE == 0 => Some(outcome.link),
            _ => None,
        }
    }

    pub(crate) fn advertises_pause(&self) -> bool {
        self.advertisement & 1 << 10 != 0
    }

    /// Frames the MAC sends come back instead of going out.
    pub(crate) fn loops_back(&self) -> bool {
        self.applied & LOOPBACK != 0
    }

    /// The level of the interrupt line to global 2.
    pub(crate) fn interrupt(&self) -> bool {
        self.interrupt_status & self.interrupt_enable != 0
    }

    /// When something will change by itself.
    pub(crate) fn next_event(&self) -> Option<u64> {
        match self.copper {
            Copper::Connecting { at, .. } => Some(at),
            _ => None,
        }
    }

    /// Catches up with virtual time.
    pub(crate) fn advance(&mut self, now: Nanos) {
        if let Copper::Connecting { at, outcome } = self.copper
            && now >= at
        {
            self.copper = Copper::Up(outcome);
            self.interrupt_status |= INTERRUPT_LINK | INTERRUPT_SPEED | INTERRUPT_DUPLEX;
            if outcome.negotiated {
                self.interrupt_status |= INTERRUPT_AUTONEG | INTERRUPT_PAGE;
                self.page_received = true;
            }
        }
        if self.cable_test_until.is_some_and(|until| now >= until) && !self.cable_test_hangs() {
            self.cable_test_until = None;
            self.cable_test_done = true;
        }
    }

    // Link establishment.

    /// Drops the link and starts afresh.
    fn connect(&mut self, now: Nanos, timing: Timing) {
        if let Copper::Up(_) = self.copper {
            self.link_dropped = true;
            self.interrupt_status |= INTERRUPT_LINK;
        }
        self.copper = match self.outcome(timing) {
            Some((outcome, duration)) => {
                let start = now.max(self.reset_until);
                let start = if self.applied & LOOPBACK == 0 {
                    start.max(self.unplugged_until)
                } else {
                    start
                };
                Copper::Connecting {
                    at: start.saturating_add(duration),
                    outcome,
                }
            }
            None => Copper::Down,
        };
    }

    /// What will come of the two sides' settings, and how long it takes.
    fn outcome(&self, timing: Timing) -> Option<(Outcome, u64)> {
        if self.applied & POWER_DOWN != 0 || self.never_completes {
            return None;
        }
        let own = (self.own_speed(), self.applied & FULL_DUPLEX != 0);
        let fixed = |(speed, full_duplex)| Link {
            speed,
            full_duplex,
            tx_pause: false,
            rx_pause: false,
        };
        if self.applied & LOOPBACK != 0 {
            return Some((
                Outcome {
                    link: fixed(own),
                    negotiated: false,
                },
                timing.forced_link,
            ));
        }
        let autoneg = self.applied & AUTONEG != 0;
        match (autoneg, self.partner?) {
            (
                true,
                Partner::Autoneg {
                    modes,
                    pause,
                    asymmetric_pause,
                    ..
                },
            ) => {
                if self.master_slave_fault() {
                    return None;
                }
                let (speed, full_duplex) = self.modes().and(modes).best()?;
                let (tx, rx) = resolve_pause(self.advertisement, pause, asymmetric_pause);
                let link = Link {
                    speed,
                    full_duplex,
                    tx_pause: tx && full_duplex,
                    rx_pause: rx && full_duplex,
                };
                let duration = if speed == Speed::S1000 {
                    timing.autoneg_1000
                } else {
                    timing.autoneg_100
                };
                Some((
                    Outcome {
                        link,
                        negotiated: true,
                    },
                    duration,
                ))
            }
            // Parallel detection finds the speed and assumes half duplex, if that is advertised.
            (true, Partner::Forced { speed, .. }) => {
                let detectable = speed != Speed::S1000 && self.modes().has(speed, false);
                detectable.then_some((
                    Outcome {
                        link: fixed((speed, false)),
                        negotiated: true,
                    },
                    timing.autoneg_100,
                ))
            }
            // The partner detects our speed, if it can do it in half duplex.
            (false, Partner::Autoneg { modes, .. }) => {
                let possible = own.0 != Speed::S1000 && modes.has(own.0, false);
                possible.then_some((
                    Outcome {
                        link: fixed(own),
                        negotiated: false,
                    },
                    timing.forced_link,
                ))
            }
            (false, Partner::Forced { speed, .. }) => {
                let possible = own.0 == speed && speed != Speed::S1000;
                possible.then_some((
                    Outcome {
                        link: fixed(own),
                        negotiated: false,
                    },
                    timing.forced_link,
                ))
            }
        }
    }

    fn own_speed(&self) -> Speed {
        match (
            self.applied & SPEED_1000 != 0,
            self.applied & SPEED_100 != 0,
        ) {
            (true, _) => Speed::S1000,
            (false, true) => Speed::S100,
            (false, false) => Speed::S10,
        }
    }

    fn modes(&self) -> Modes {
        Modes::from_registers(self.advertisement, self.gigabit)
    }

    /// Both sides insist on the same role. It matters only if 1000 Mb/s would be chosen.
    fn master_slave_fault(&self) -> bool {
        let Some(Partner::Autoneg {
            modes,
            forced_master: Some(theirs),
            ..
        }) = self.partner
        else {
            return false;
        };
        let ours = (self.gigabit & 1 << 12 != 0).then_some(self.gigabit & 1 << 11 != 0);
        ours == Some(theirs)
            && self
                .modes()
                .and(modes)
                .best()
                .is_some_and(|(speed, _)| speed == Speed::S1000)
    }

    /// The autonegotiation outcome while the link is up.
    fn negotiated(&self) -> Option<Outcome> {
        match self.copper {
            Copper::Up(outcome) if outcome.negotiated => Some(outcome),
            _ => None,
        }
    }

    // Registers.

    /// A clause 22 read.
    pub(crate) fn read(&mut self, register: u8, context: &Context) -> u16 {
        self.advance(context.now);
        let stored = self
            .storage
            .get(&(self.page, register))
            .copied()
            .unwrap_or(0);
        match (self.page, register & 0x1f) {
            (_, 22) => u16::from(self.page),
            (0, 0) => self.read_control(context.now),
            (0, 1) => self.read_status(),
            // The model number, bits 9:4, is 0 in the internal PHYs. Spec: mv88e6xxx/chip.c fills it in.
            (0, 2) => 0x0141,
            (0, 3) => 0x0c00,
            (0, 4) => self.advertisement,
            (0, 5) => self.partner_ability(),
            (0, 6) => self.read_expansion(),
            (0, 7) => 0x2001,
            (0, 9) => self.gigabit,
            (0, 10) => self.gigabit_status(),
            (0, 13) => self.mmd_control,
            (0, 14) => self.mmd_window(None),
            (0, 15) => 0x3000,
            (0, 17) => self.copper_status(),
            (0, 18) => self.interrupt_enable,
            (0, 19) => std::mem::take(&mut self.interrupt_status),
            (6, 26..=28) => self.temperature(register, stored, context.doubts.phy_temperature),
            (7, 16..=19) => self.cable_distance(register - 16),
            (7, 20) => self.cable_result(),
            (7, 21) => stored & 0x3400 | u16::from(self.cable_test_until.is_some()) << 11,
            _ => stored,
        }
    }

    /// A clause 22 write.
    pub(crate) fn write(&mut self, register: u8, value: u16, context: &mut Context) {
        self.advance(context.now);
        let register = register & 0x1f;
        match (self.page, register) {
            (_, 22) => self.page = value as u8,
            (0, 0) => self.write_control(value, context),
            (0, 1..=3 | 5 | 6 | 8 | 10 | 15 | 17 | 19 | 21) => {
                context.guest_error("phy", format_args!("register {register} is read-only"));
            }
            (0, 4) => self.advertisement = value,
            (0, 9) => self.gigabit = value,
            (0, 13) => self.mmd_control = value & 0xc01f,
            (0, 14) => {
                self.mmd_window(Some(value));
            }
            (0, 18) => self.interrupt_enable = value,
            (7, 16..=20) => context.guest_error(
                "phy",
                format_args!("page 7 register {register} is read-only"),
            ),
            (7, 21) => {
                self.storage.insert((7, 21), value);
                if value & 1 << 15 != 0 {
                    self.start_cable_test(context);
                }
            }
            (page, _) => {
                self.storage.insert((page, register), value);
            }
        }
    }

    fn read_control(&self, now: Nanos) -> u16 {
        let resetting = u16::from(now < self.reset_until) * RESET;
        let restarting = u16::from(now < self.restart_until) * RESTART;
        self.control | resetting | restarting
    }

    /// Speed, duplex and autonegotiation take effect with a reset, a restart or on leaving power-down.
    fn write_control(&mut self, value: u16, context: &Context) {
        let (now, timing) = (context.now, context.timing);
        let at_once = POWER_DOWN | ISOLATE | LOOPBACK;
        let changed = (self.applied ^ value) & at_once != 0;
        self.control = value & !(RESET | RESTART);
        if value & RESET != 0 {
            self.reset_until = now.saturating_add(timing.phy_reset);
            self.page_received = false;
        }
        let restart = value & RESTART != 0 && value & AUTONEG != 0;
        if restart {
            // Inherited: about one frame on the bus.
            self.restart_until = now.saturating_add(timing.phy_access);
        }
        if changed || restart || value & RESET != 0 {
            self.applied = self.control;
            self.connect(now, timing);
        }
    }

    /// All modes of 10 and 100 Mb/s, extended status, preamble suppression; the link bit latches a loss.
    fn read_status(&mut self) -> u16 {
        let up = matches!(self.copper, Copper::Up(_)) && !std::mem::take(&mut self.link_dropped);
        self.link_dropped = false;
        0x7949 | u16::from(self.negotiated().is_some()) << 5 | u16::from(up) << 2
    }

    fn partner_ability(&self) -> u16 {
        match (self.negotiated(), self.partner) {
            (
                Some(_),
                Some(Partner::Autoneg {
                    modes,
                    pause,
                    asymmetric_pause,
                    ..
                }),
            ) => {
                let gigabit_needs_next_page = modes.to_registers().1 != 0;
                modes.to_registers().0
                    | u16::from(gigabit_needs_next_page) << 15
                    | 1 << 14
                    | u16::from(asymmetric_pause) << 11
                    | u16::from(pause) << 10
                    | 1
            }
            (Some(outcome), Some(Partner::Forced { .. })) => {
                Modes::one(outcome.link.speed, false).to_registers().0
            }
            _ => 0,
        }
    }

    fn read_expansion(&mut self) -> u16 {
        let able =
            self.negotiated().is_some() && matches!(self.partner, Some(Partner::Autoneg { .. }));
        4 | u16::from(std::mem::take(&mut self.page_received)) << 1 | u16::from(able)
    }

    fn gigabit_status(&self) -> u16 {
        if self.applied & AUTONEG != 0 && self.master_slave_fault() {
            return 1 << 15;
        }
        let (
            Some(outcome),
            Some(Partner::Autoneg {
                modes,
                forced_master,
                ..
            }),
        ) = (self.negotiated(), self.partner)
        else {
            return 0;
        };
        let offered = modes.to_registers().1 << 2;
        if outcome.link.speed != Speed::S1000 {
            return offered;
        }
        let manual = (self.gigabit & 1 << 12 != 0).then_some(self.gigabit & 1 << 11 != 0);
        // Nobody insists: the multi-port side, which a switch is, becomes master.
        let master = manual
            .or(forced_master.map(|theirs| !theirs))
            .unwrap_or(true);
        u16::from(master) << 14 | 1 << 13 | 1 << 12 | offered
    }

    /// Register 17.
    fn copper_status(&self) -> u16 {
        let forced = self.applied & AUTONEG == 0;
        let Copper::Up(Outcome { link, .. }) = self.copper else {
            let speed = if forced { self.own_speed() as u16 } else { 0 };
            return speed << 14
                | u16::from(forced) << 11
                | u16::from(forced && self.applied & FULL_DUPLEX != 0) << 13;
        };
        (link.speed as u16) << 14
            | u16::from(link.full_duplex) << 13
            | 1 << 11
            | 1 << 10
            | u16::from(link.tx_pause) << 9
            | u16::from(link.rx_pause) << 8
            | 1 << 3
    }

    // MMD registers, by the window of registers 13 and 14 or by clause 45 frames.

    fn mmd_window(&mut self, write: Option<u16>) -> u16 {
        let device = (self.mmd_control & 0x1f) as u8;
        let address = self.mmd_address[usize::from(device)];
        let function = self.mmd_control >> 14;
        if function == 0 {
            if let Some(value) = write {
                self.mmd_address[usize::from(device)] = value;
            }
            return address;
        }
        let value = match write {
            Some(value) => {
                self.write_mmd(device, address, value);
                value
            }
            None => self.read_mmd(device, address),
        };
        let post_increment = function == 2 || function == 3 && write.is_some();
        if post_increment {
            self.mmd_address[usize::from(device)] = address.wrapping_add(1);
        }
        value
    }

    pub(crate) fn read_mmd(&self, device: u8, address: u16) -> u16 {
        match (device, address) {
            // Energy efficient Ethernet at 100 and 1000 Mb/s.
            (3, 20) => 0x0006,
            _ => self.mmd.get(&(device, address)).copied().unwrap_or(0),
        }
    }

    pub(crate) fn write_mmd(&mut self, device: u8, address: u16, value: u16) {
        // Read-only: capability, the partner's advertisement.
        if !matches!((device, address), (3, 20) | (7, 61)) {
            self.mmd.insert((device, address), value);
        }
    }

    // Page 6.

    fn temperature(&self, register: u8, stored: u16, doubt: PhyTemperature) -> u16 {
        let reading = |offset: i16| (self.degrees + offset).clamp(0, 255) as u16;
        match (register, doubt) {
            (26, PhyTemperature::Register27) => {
                let threshold = (stored >> 8 & 0x1f) as i16 * 5 - 25;
                stored & !(1 << 6)
                    | u16::from(stored & 0x1f00 != 0 && self.degrees >= threshold) << 6
            }
            (27, PhyTemperature::Register27) => stored & 0xff00 | reading(25),
            (28, PhyTemperature::Register28) => reading(75),
            _ => stored,
        }
    }

    // Page 7: the cable test.

    /// Spec: marvell.c sets up page 5 before every test.
    fn start_cable_test(&mut self, context: &mut Context) {
        const SAMPLES_PEAK_HYSTERESIS: u16 = 0x0603;
        if self.storage.get(&(5, 23)) != Some(&SAMPLES_PEAK_HYSTERESIS) {
            context.guest_error(
                "phy",
                format_args!("cable test without page 5 register 23 = 0x0603"),
            );
        }
        self.cable_test_done = false;
        self.cable_test_until = Some(context.now.saturating_add(context.timing.cable_test));
    }

    /// Spec: marvell.c switches negotiation off, because while it is on and not complete no test ends.
    fn cable_test_hangs(&self) -> bool {
        self.applied & AUTONEG != 0 && self.negotiated().is_none()
    }

    /// With no cable every pair is open where the socket is.
    fn pair(&self, pair: u8) -> Pair {
        let pairs = self.cable_fault.unwrap_or(self.pairs);
        match (self.partner, pairs[usize::from(pair & 3)]) {
            (None, Pair::Ok) => Pair::Open(0),
            (_, state) => state,
        }
    }

    fn cable_result(&self) -> u16 {
        if self.cable_test_until.is_some() {
            return 0x9999;
        }
        if !self.cable_test_done {
            return 0;
        }
        (0..4).fold(0, |word, pair| word | self.pair(pair).code() << (pair * 4))
    }

    fn cable_distance(&self, pair: u8) -> u16 {
        if !self.cable_test_done {
            return 0;
        }
        let centimetres = self.pair(pair).centimetres();
        let metres = self
            .storage
            .get(&(7, 21))
            .is_some_and(|control| control & 1 << 10 != 0);
        if metres {
            centimetres / 100
        } else {
            centimetres
        }
    }
}

/// (may send, obeys) from our bits and the partner's: IEEE 802.3 table 28B-3.
fn resolve_pause(
    advertisement: u16,
    partner_pause: bool,
    partner_asymmetric: bool,
) -> (bool, bool) {
    let (pause, asymmetric) = (advertisement & 1 << 10 != 0, advertisement & 1 << 11 != 0);
    match (pause, asymmetric, partner_pause, partner_asymmetric) {
        (true, _, true, _) => (true, true),
        (false, true, true, true) => (true, false),
        (true, true, false, true) => (false, true),
        _ => (false, false),
    }
}
