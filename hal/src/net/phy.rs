//! Copper PHYs: set-up, autonegotiation, and what became of it.
//!
//! Owns the registers of one PHY; how they are reached is the caller's [`Registers`]. A link is read as the standard
//! wants it: the link bit of the status latches a loss, so whoever saw the link up reads it once and learns of every
//! drop, however short; whoever saw it down reads it twice, because the first read tells of the past.
//!
//! Spec: IEEE 802.3 clauses 22, 28 and 40 (Linux include/uapi/linux/mii.h) for registers 0 to 15, Linux
//! drivers/net/phy/marvell.c for the others.

use super::Link;
use super::mdio::{FLOATING, PhyAddr};
use super::steps::{self, Reg16, Registers, wait_clear};
use core::fmt;
use tock_registers::LocalRegisterCopy;
use tock_registers::fields::FieldValue;
use tock_registers::register_bitfields;

register_bitfields![u16,
    Control [
        RESET OFFSET(15) NUMBITS(1) [],
        LOOPBACK OFFSET(14) NUMBITS(1) [],
        SPEED_100 OFFSET(13) NUMBITS(1) [],
        AUTONEGOTIATION OFFSET(12) NUMBITS(1) [],
        POWER_DOWN OFFSET(11) NUMBITS(1) [],
        ISOLATE OFFSET(10) NUMBITS(1) [],
        RESTART OFFSET(9) NUMBITS(1) [],
        FULL_DUPLEX OFFSET(8) NUMBITS(1) [],
        SPEED_1000 OFFSET(6) NUMBITS(1) []
    ],
    Status [
        AUTONEGOTIATED OFFSET(5) NUMBITS(1) [],
        LINK OFFSET(2) NUMBITS(1) []
    ],
    /// What either side offers. `MODES` are 10 half, 10 full, 100 half, 100 full from the lowest bit up.
    Ability [
        ASYMMETRIC_PAUSE OFFSET(11) NUMBITS(1) [],
        PAUSE OFFSET(10) NUMBITS(1) [],
        MODES OFFSET(5) NUMBITS(4) [],
        SELECTOR OFFSET(0) NUMBITS(5) [ Ieee8023 = 1 ]
    ],
    /// `MODES` are 1000 half and full from the lowest bit up.
    Gigabit [ MODES OFFSET(8) NUMBITS(2) [] ],
    GigabitStatus [
        MASTER_SLAVE_FAULT OFFSET(15) NUMBITS(1) [],
        PARTNER_MODES OFFSET(10) NUMBITS(2) []
    ],
    CopperControl [
        DOWNSHIFT OFFSET(11) NUMBITS(1) [],
        CROSSOVER OFFSET(5) NUMBITS(2) [ Automatic = 3 ]
    ],
    CopperStatus [
        SPEED OFFSET(14) NUMBITS(2) [],
        FULL_DUPLEX OFFSET(13) NUMBITS(1) [],
        RESOLVED OFFSET(11) NUMBITS(1) [],
        LINK OFFSET(10) NUMBITS(1) []
    ],
    Interrupts [ LINK OFFSET(10) NUMBITS(1) [] ],
    Page [ PAGE OFFSET(0) NUMBITS(8) [ Copper = 0, Erratum = 0xf8 ] ],
    Erratum [ VALUE OFFSET(0) NUMBITS(16) [] ]
];

/// Basic mode control (BMCR), register 0.
const CONTROL: Reg16<Control::Register> = Reg16::at(0);
/// Basic mode status (BMSR), register 1.
const STATUS: Reg16<Status::Register> = Reg16::at(1);
/// Own advertisement (ANAR), register 4.
const ADVERTISEMENT: Reg16<Ability::Register> = Reg16::at(4);
/// The partner's (ANLPAR), register 5.
const PARTNER: Reg16<Ability::Register> = Reg16::at(5);
/// Own advertisement at 1000 Mb/s (CTRL1000), register 9.
const GIGABIT: Reg16<Gigabit::Register> = Reg16::at(9);
/// The partner's (STAT1000), register 10.
const GIGABIT_STATUS: Reg16<GigabitStatus::Register> = Reg16::at(10);
/// Marvell: copper specific control, page 0 register 16.
const COPPER_CONTROL: Reg16<CopperControl::Register> = Reg16::at(16);
/// Marvell: copper specific status, page 0 register 17.
const COPPER_STATUS: Reg16<CopperStatus::Register> = Reg16::at(17);
/// Marvell: which interrupts reach the switch, page 0 register 18.
const INTERRUPT_ENABLE: Reg16<Interrupts::Register> = Reg16::at(18);
/// Marvell: interrupts since the last read, page 0 register 19.
const INTERRUPT_STATUS: Reg16<Interrupts::Register> = Reg16::at(19);
/// Marvell: page of all other registers, register 22.
const PAGE: Reg16<Page::Register> = Reg16::at(22);
/// Marvell: the output voltage erratum's register, page 0xf8 register 8.
const ERRATUM: Reg16<Erratum::Register> = Reg16::at(8);

/// Longest time for the reset bit to clear. Spec: IEEE 802.3 22.2.4.1.1.
const RESET_LIMIT_US: u64 = 500_000;
/// Time between power-up and the erratum's write. Inherited: Linux marvell.c waits 300 us.
const ERRATUM_DELAY_US: u64 = 300;

/// Speed of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speed {
    /// 10 Mb/s.
    Mbps10,
    /// 100 Mb/s.
    Mbps100,
    /// 1000 Mb/s.
    Mbps1000,
}

impl Speed {
    /// In Mb/s.
    pub const fn mbps(self) -> u32 {
        match self {
            Speed::Mbps10 => 10,
            Speed::Mbps100 => 100,
            Speed::Mbps1000 => 1000,
        }
    }
}

/// A set of speed and duplex modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes(u8);

impl Modes {
    /// No mode.
    pub const NONE: Modes = Modes(0);
    /// What a switch port can do: everything but 1000 Mb/s half duplex, which no switch does.
    pub const ALL: Modes = Modes(0b10_1111);

    /// The set of one mode.
    pub const fn one(speed: Speed, full_duplex: bool) -> Modes {
        Modes(1 << (speed as u8 * 2 + full_duplex as u8))
    }

    /// Modes in either.
    pub const fn or(self, other: Modes) -> Modes {
        Modes(self.0 | other.0)
    }

    /// Modes in both.
    pub const fn and(self, other: Modes) -> Modes {
        Modes(self.0 & other.0)
    }

    /// The mode that goes before all others in the set: the fastest, full duplex before half.
    pub const fn best(self) -> Option<(Speed, bool)> {
        match self.0.checked_ilog2() {
            Some(5) => Some((Speed::Mbps1000, true)),
            Some(4) => Some((Speed::Mbps1000, false)),
            Some(3) => Some((Speed::Mbps100, true)),
            Some(2) => Some((Speed::Mbps100, false)),
            Some(1) => Some((Speed::Mbps10, true)),
            Some(0) => Some((Speed::Mbps10, false)),
            _ => None,
        }
    }

    /// From the mode fields of registers 4 and 9, or 5 and 10.
    const fn from_fields(up_to_100: u16, at_1000: u16) -> Modes {
        Modes((up_to_100 | at_1000 << 4) as u8)
    }

    fn up_to_100(self) -> u16 {
        u16::from(self.0 & 0xf)
    }

    fn at_1000(self) -> u16 {
        u16::from(self.0 >> 4)
    }
}

/// Directions in which pause frames work. Shown as `, pause rx/tx`; as nothing if there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// This side sends them.
    pub tx: bool,
    /// This side obeys them.
    pub rx: bool,
}

impl Pause {
    /// What both sides' (symmetric, asymmetric) bits come to. Spec: IEEE 802.3 table 28B-3.
    fn resolve(own: (bool, bool), partner: (bool, bool)) -> Pause {
        match (own, partner) {
            ((true, _), (true, _)) => Pause { tx: true, rx: true },
            ((false, true), (true, true)) => Pause {
                tx: true,
                rx: false,
            },
            ((true, true), (false, true)) => Pause {
                tx: false,
                rx: true,
            },
            _ => Pause::default(),
        }
    }

    /// The (symmetric, asymmetric) bits that ask for this.
    fn bits(self) -> (bool, bool) {
        (self.rx, self.rx != self.tx)
    }
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.rx, self.tx) {
            (true, true) => ", pause rx/tx",
            (true, false) => ", pause rx",
            (false, true) => ", pause tx",
            (false, false) => "",
        })
    }
}

/// A link that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Up {
    /// Speed.
    pub speed: Speed,
    /// Both directions at once.
    pub full_duplex: bool,
    /// Pause frames, as negotiated.
    pub pause: Pause,
}

impl From<Option<Up>> for Link {
    fn from(up: Option<Up>) -> Link {
        up.map_or(Link::Down, |up| Link::Up {
            speed_mbps: up.speed.mbps(),
            full_duplex: up.full_duplex,
            pause: up.pause,
        })
    }
}

/// What is asked of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Autonegotiation, offering this.
    Negotiate {
        /// Modes offered.
        modes: Modes,
        /// Pause wanted.
        pause: Pause,
    },
    /// No autonegotiation. 1000 Mb/s needs it, so there this speed and duplex mode alone are offered.
    Forced {
        /// Speed.
        speed: Speed,
        /// Both directions at once.
        full_duplex: bool,
    },
}

impl Default for Setting {
    fn default() -> Self {
        Setting::Negotiate {
            modes: Modes::ALL,
            pause: Pause { tx: true, rx: true },
        }
    }
}

/// What is known about the PHY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Clause 22 and no more.
    Generic,
    /// Inside an 88E6341 or 88E6141. Their model number reads 0: only the switch around them tells.
    Topaz,
    /// No PHY: the devicetree's `fixed-link`.
    Fixed(Up),
}

/// A change of a link, reported once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It came up.
    Up(Up),
    /// It went down.
    Down,
    /// It does not come up, for this reason.
    Fault(Fault),
}

/// Why a link does not come up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Both sides insist on being master, or slave, at 1000 Mb/s.
    MasterSlave,
    /// The two sides have no mode in common.
    NoCommonMode,
    /// The PHY has lost its settings and was set up again.
    SettingsLost {
        /// Its control register.
        control: u16,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::MasterSlave => f.write_str("both sides insist on being master, or slave"),
            Fault::NoCommonMode => f.write_str("the two sides have no mode in common"),
            Fault::SettingsLost { control } => write!(
                f,
                "the PHY has lost its settings (register 0 is {control:#06x}), set up again"
            ),
        }
    }
}

/// Why a PHY cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A register access failed.
    Access(steps::Error),
    /// Nobody answers at this address.
    Absent(PhyAddr),
}

impl From<steps::Error> for Error {
    fn from(error: steps::Error) -> Self {
        Error::Access(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Access(error) => error.fmt(f),
            Error::Absent(addr) => write!(f, "no PHY answers at {:#04x}", addr.0),
        }
    }
}

/// One PHY and its link.
#[derive(Debug)]
pub struct Phy {
    addr: PhyAddr,
    kind: Kind,
    /// What autonegotiation offers; `None` without it.
    offer: Option<(Modes, Pause)>,
    /// Speed and full duplex without autonegotiation.
    forced: (Speed, bool),
    up: Option<Up>,
    fault: Option<Fault>,
}

impl Phy {
    /// The PHY at `addr` of the bus that will be given to each call. Nothing is touched.
    pub fn new(addr: PhyAddr, kind: Kind, setting: Setting) -> Self {
        let (offer, forced) = match setting {
            Setting::Negotiate { modes, pause } => (Some((modes, pause)), (Speed::Mbps1000, true)),
            Setting::Forced { speed, full_duplex } => {
                let negotiates = speed == Speed::Mbps1000;
                (
                    negotiates.then(|| (Modes::one(speed, full_duplex), Pause::default())),
                    (speed, full_duplex),
                )
            }
        };
        Phy {
            addr,
            kind,
            offer,
            forced,
            up: None,
            fault: None,
        }
    }

    /// The link as of the last [`Phy::poll`].
    pub fn up(&self) -> Option<Up> {
        self.up
    }

    /// Forgets the link, for whoever takes the PHY's registers over until the next [`Phy::bring_up`]. The link it had.
    pub fn let_go(&mut self) -> Option<Up> {
        self.up.take()
    }

    /// What a look of somebody else's at the status (register 1) tells about a link that was up.
    pub fn see(&mut self, status: u16) -> Option<Event> {
        if self.up.is_none() || self.has_link(LocalRegisterCopy::new(status)) {
            return None;
        }
        self.up = None;
        Some(Event::Down)
    }

    /// What the control register holds once set up.
    fn control(&self) -> FieldValue<u16, Control::Register> {
        let speed = match self.forced.0 {
            Speed::Mbps10 => Control::SPEED_1000::CLEAR,
            Speed::Mbps100 => Control::SPEED_100::SET,
            Speed::Mbps1000 => Control::SPEED_1000::SET,
        };
        speed
            + Control::FULL_DUPLEX.val(self.forced.1.into())
            + Control::AUTONEGOTIATION.val(self.offer.is_some().into())
    }

    /// Takes the link down and keeps it down until [`Phy::bring_up`].
    ///
    /// # Errors
    ///
    /// [`Error::Access`].
    pub async fn power_down(&mut self, regs: &mut impl Registers) -> Result<(), Error> {
        self.up = None;
        if let Kind::Fixed(_) = self.kind {
            return Ok(());
        }
        self.select_copper_page(regs).await?;
        let control = gigabit_control() + Control::POWER_DOWN::SET;
        Ok(CONTROL.write(regs, self.addr, control).await?)
    }

    /// Sets the PHY up, whatever state it is in, and lets it look for a partner.
    ///
    /// # Errors
    ///
    /// [`Error::Absent`] if nobody answers, [`Error::Access`] also if the reset bit stays set.
    pub async fn bring_up(&mut self, regs: &mut impl Registers) -> Result<(), Error> {
        self.up = None;
        self.fault = None;
        let addr = self.addr;
        match self.kind {
            Kind::Fixed(_) => return Ok(()),
            Kind::Generic => {}
            Kind::Topaz => self.fix_output_voltage(regs).await?,
        }
        let control = CONTROL.read(regs, addr).await?.get();
        if control == FLOATING {
            return Err(Error::Absent(addr));
        }
        if let Some((modes, pause)) = self.offer {
            let (symmetric, asymmetric) = pause.bits();
            let offer = Ability::MODES.val(modes.up_to_100())
                + Ability::PAUSE.val(symmetric.into())
                + Ability::ASYMMETRIC_PAUSE.val(asymmetric.into())
                + Ability::SELECTOR::Ieee8023;
            ADVERTISEMENT.write(regs, addr, offer).await?;
            let gigabit = Gigabit::MODES.val(modes.at_1000());
            GIGABIT.write(regs, addr, gigabit).await?;
        }
        let last = match self.offer {
            Some(_) => self.control() + Control::RESTART::SET,
            // Spec: marvell.c; a forced mode is in force from the next reset on.
            None => self.control() + Control::RESET::SET,
        };
        CONTROL.write(regs, addr, last).await?;
        if self.offer.is_none() {
            self.wait_reset(regs).await?;
        }
        if self.kind == Kind::Topaz {
            let link = Interrupts::LINK::SET;
            INTERRUPT_ENABLE.write(regs, addr, link).await?;
        }
        self.acknowledge(regs).await
    }

    /// Takes back the interrupt that a change of the link has raised. Before [`Phy::poll`], so that what changes later
    /// raises another.
    ///
    /// # Errors
    ///
    /// [`Error::Access`].
    pub async fn acknowledge(&mut self, regs: &mut impl Registers) -> Result<(), Error> {
        if self.kind == Kind::Topaz {
            INTERRUPT_STATUS.read(regs, self.addr).await?;
        }
        Ok(())
    }

    /// The 88E6341's erratum "output voltage out of spec", automatic crossover, no downshift.
    ///
    /// # Source
    ///
    /// Inherited: Linux marvell.c, `m88e6390_errata`; the meaning of the register is not public.
    async fn fix_output_voltage(&mut self, regs: &mut impl Registers) -> Result<(), Error> {
        let addr = self.addr;
        self.select_copper_page(regs).await?;
        CONTROL.write(regs, addr, gigabit_control()).await?;
        regs.sleep_us(ERRATUM_DELAY_US).await;
        PAGE.write(regs, addr, Page::PAGE::Erratum).await?;
        ERRATUM.write(regs, addr, Erratum::VALUE.val(0x36)).await?;
        self.select_copper_page(regs).await?;
        // Downshift off: around power-down it needs care on these PHYs (errata of the 88E1510).
        let crossover = CopperControl::CROSSOVER::Automatic + CopperControl::DOWNSHIFT::CLEAR;
        COPPER_CONTROL.modify(regs, addr, crossover).await?;
        let reset = gigabit_control() + Control::RESET::SET;
        CONTROL.write(regs, addr, reset).await?;
        self.wait_reset(regs).await
    }

    async fn wait_reset(&self, regs: &mut impl Registers) -> Result<(), Error> {
        let reg = CONTROL.addr();
        match wait_clear(regs, self.addr, reg, Control::RESET, RESET_LIMIT_US).await {
            Err(steps::Error::Busy {
                value: FLOATING, ..
            }) => Err(Error::Absent(self.addr)),
            result => Ok(result.map(|_| ())?),
        }
    }

    async fn select_copper_page(&self, regs: &mut impl Registers) -> Result<(), Error> {
        if self.kind == Kind::Topaz {
            PAGE.write(regs, self.addr, Page::PAGE::Copper).await?;
        }
        Ok(())
    }

    /// Looks at the link: one register while it stays up, up to six otherwise.
    ///
    /// # Errors
    ///
    /// [`Error`]; the link counts as it did before.
    pub async fn poll(&mut self, regs: &mut impl Registers) -> Result<Option<Event>, Error> {
        if let Kind::Fixed(up) = self.kind {
            let event = self.up.is_none().then_some(Event::Up(up));
            self.up = Some(up);
            return Ok(event);
        }
        if self.up.is_none() {
            return self.poll_down(regs).await;
        }
        let status = self.status(regs).await?;
        Ok(self.see(status.get()))
    }

    async fn status(
        &self,
        regs: &mut impl Registers,
    ) -> Result<LocalRegisterCopy<u16, Status::Register>, Error> {
        let status = STATUS.read(regs, self.addr).await?;
        match status.get() {
            FLOATING => Err(Error::Absent(self.addr)),
            _ => Ok(status),
        }
    }

    fn has_link(&self, status: LocalRegisterCopy<u16, Status::Register>) -> bool {
        status.is_set(Status::LINK)
            && (self.offer.is_none() || status.is_set(Status::AUTONEGOTIATED))
    }

    async fn poll_down(&mut self, regs: &mut impl Registers) -> Result<Option<Event>, Error> {
        let control = CONTROL.read(regs, self.addr).await?;
        if control.get() == FLOATING {
            return Err(Error::Absent(self.addr));
        }
        if !self.keeps_settings(control) {
            self.bring_up(regs).await?;
            return Ok(self.report(Fault::SettingsLost {
                control: control.get(),
            }));
        }
        if control.is_set(Control::RESTART) {
            return Ok(None);
        }
        self.status(regs).await?;
        if !self.has_link(self.status(regs).await?) {
            return self.look_for_fault(regs).await;
        }
        match self.resolve(regs).await? {
            Resolution::Up(up) => {
                self.up = Some(up);
                self.fault = None;
                Ok(Some(Event::Up(up)))
            }
            Resolution::Pending => Ok(None),
            Resolution::Fault(fault) => Ok(self.report(fault)),
        }
    }

    fn keeps_settings(&self, control: LocalRegisterCopy<u16, Control::Register>) -> bool {
        let unwanted = Control::POWER_DOWN::SET + Control::ISOLATE::SET + Control::LOOPBACK::SET;
        // While negotiating, the speed and duplex bits mean nothing and may read anything.
        let mode = Control::SPEED_100::SET + Control::SPEED_1000::SET + Control::FULL_DUPLEX::SET;
        let wanted = match self.offer {
            Some(_) => Control::AUTONEGOTIATION::SET,
            None => Control::AUTONEGOTIATION::SET + mode,
        };
        !control.any_matching_bits_set(unwanted)
            && (control.get() ^ self.control().value) & wanted.mask() == 0
    }

    async fn look_for_fault(&mut self, regs: &mut impl Registers) -> Result<Option<Event>, Error> {
        let offers_gigabit = self.offer.is_some_and(|(modes, _)| modes.at_1000() != 0);
        if offers_gigabit
            && GIGABIT_STATUS
                .read(regs, self.addr)
                .await?
                .is_set(GigabitStatus::MASTER_SLAVE_FAULT)
        {
            return Ok(self.report(Fault::MasterSlave));
        }
        Ok(None)
    }

    /// A fault is news until another one, or a link, takes its place.
    fn report(&mut self, fault: Fault) -> Option<Event> {
        (self.fault.replace(fault) != Some(fault)).then_some(Event::Fault(fault))
    }

    async fn resolve(&self, regs: &mut impl Registers) -> Result<Resolution, Error> {
        let Some((modes, pause)) = self.offer else {
            return Ok(Resolution::Up(Up {
                speed: self.forced.0,
                full_duplex: self.forced.1,
                pause: Pause::default(),
            }));
        };
        let partner = PARTNER.read(regs, self.addr).await?;
        let mut at_1000 = 0;
        if modes.at_1000() != 0 {
            let gigabit = GIGABIT_STATUS.read(regs, self.addr).await?;
            if gigabit.is_set(GigabitStatus::MASTER_SLAVE_FAULT) {
                return Ok(Resolution::Fault(Fault::MasterSlave));
            }
            at_1000 = gigabit.read(GigabitStatus::PARTNER_MODES);
        }
        let common = modes.and(Modes::from_fields(partner.read(Ability::MODES), at_1000));
        let mut mode = common.best();
        if self.kind == Kind::Topaz {
            // The PHY knows better, after a downshift for instance.
            let copper = COPPER_STATUS.read(regs, self.addr).await?;
            if !copper.is_set(CopperStatus::RESOLVED) || !copper.is_set(CopperStatus::LINK) {
                return Ok(Resolution::Pending);
            }
            let full_duplex = copper.is_set(CopperStatus::FULL_DUPLEX);
            mode = match copper.read(CopperStatus::SPEED) {
                0 => Some((Speed::Mbps10, full_duplex)),
                1 => Some((Speed::Mbps100, full_duplex)),
                2 => Some((Speed::Mbps1000, full_duplex)),
                _ => None,
            };
        }
        let Some((speed, full_duplex)) = mode else {
            return Ok(Resolution::Fault(Fault::NoCommonMode));
        };
        let offered = (
            partner.is_set(Ability::PAUSE),
            partner.is_set(Ability::ASYMMETRIC_PAUSE),
        );
        let pause = match full_duplex {
            true => Pause::resolve(pause.bits(), offered),
            false => Pause::default(),
        };
        Ok(Resolution::Up(Up {
            speed,
            full_duplex,
            pause,
        }))
    }
}

enum Resolution {
    Up(Up),
    /// The PHY has not made up its mind.
    Pending,
    Fault(Fault),
}

/// Powered, negotiating, 1000 Mb/s full duplex: 0x1140, what U-Boot writes.
fn gigabit_control() -> FieldValue<u16, Control::Register> {
    Control::AUTONEGOTIATION::SET + Control::SPEED_1000::SET + Control::FULL_DUPLEX::SET
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_common_mode_wins_and_full_duplex_goes_first() {
        let order = [
            (Speed::Mbps1000, true),
            (Speed::Mbps1000, false),
            (Speed::Mbps100, true),
            (Speed::Mbps100, false),
            (Speed::Mbps10, true),
            (Speed::Mbps10, false),
        ];
        let mut rest = Modes::NONE;
        for (speed, full_duplex) in order.into_iter().rev() {
            rest = rest.or(Modes::one(speed, full_duplex));
            assert_eq!(rest.best(), Some((speed, full_duplex)));
        }
        assert_eq!(Modes::NONE.best(), None);
    }

    #[test]
    fn pause_resolves_as_the_standard_says() {
        // Own pause, own asymmetric, partner pause, partner asymmetric: transmit, receive.
        for bits in 0..16u8 {
            let bit = |at: u8| bits >> at & 1 == 1;
            let expected = match bits {
                _ if bit(3) && bit(1) => (true, true),
                0b0111 => (true, false),
                0b1101 => (false, true),
                _ => (false, false),
            };
            let pause = Pause::resolve((bit(3), bit(2)), (bit(1), bit(0)));
            assert_eq!((pause.tx, pause.rx), expected, "{bits:04b}");
        }
    }

    #[test]
    fn asking_for_pause_and_getting_it_from_a_willing_partner() {
        for (tx, rx) in [(false, false), (false, true), (true, true), (true, false)] {
            let got = Pause::resolve(Pause { tx, rx }.bits(), (true, true));
            // Whoever obeys pause frames must offer to send them, too.
            assert_eq!((got.tx, got.rx), (tx || rx, rx));
        }
    }
}
