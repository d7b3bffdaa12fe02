//! The Marvell 88E6341 and 88E6141 ("Topaz") switches: each user port a network of its own, or member of a bridge.
//!
//! ```text
//!            MDIO                                 RGMII to the conduit MAC, every frame with a tag
//!              │                                          │
//!   smi ───────▼─────────────┐                       ┌────▼─────┐
//!   │ global1 ─ atu vtu mib  │ ── tables ──────────▶ │  port 0  │ may reach every port
//!   │ global2 ─ PHYs         │                       ├──────────┤
//!   │ port    ─ one per port │                       │ port 1.. │ may reach port 0, and the others of its bridge
//!   └────────────────────────┘                       └────┬─────┘
//!                                                       phy ── socket
//! ```
//!
//! Owns the chip: bring-up in an order in which no frame gets from one user port to another, the links, and the repair
//! when the chip is lost, reset behind our back, or stuck. Frames are not its business: see `net::tag`.
//!
//! All of it is one sequence, [`supervise`], which gives the processor back after each management frame
//! (`net::steps`) and talks to the rest of the program through a [`Mailbox`].
//!
//! **Why there is a software reset.** A boot loader may leave any register in any state, and a stuck queue controller
//! (what the watchdog is for) recovers by nothing else; Linux and U-Boot's switch driver reset at each start, too.
//! Sources disagree on what a reset keeps: it may bring back the straps' forwarding, and power up the PHYs. So ports
//! are stopped first, PHYs powered down next, then comes the reset, and the first writes after it stop the ports again:
//! a PHY that the reset woke up takes most of a second to link, the writes two milliseconds.

pub mod atu;
pub mod errand;
mod global1;
mod global2;
mod mailbox;
pub mod mib;
mod port;
mod ports;
pub mod smi;
pub mod vtu;

pub use global2::Phys;
pub use mailbox::{Event, Mailbox, Trouble};
pub use port::Canary;
pub use ports::{PortIndex, PortSet};
pub use smi::Smi;

use super::MacAddr;
use super::mdio::PhyAddr;
use super::phy::{self, Phy, Setting};
use super::steps::{self, Registers};
use super::tag::Protocol;
use core::convert::Infallible;
use core::fmt;
use port::Role;

/// Ports of the chip.
pub const PORTS: usize = 6;
/// Product numbers of the chips this driver knows.
const PRODUCTS: [u16; 2] = [0x341, 0x340];
/// Time for the queues to run empty. Inherited: Linux `mv88e6xxx_disable_ports`.
const DRAIN_US: u64 = 2_000;
/// Tries to read the product number of a chip that may be in reset.
const IDENTIFY_TRIES: usize = 3;
/// Time between two of them.
const IDENTIFY_POLL_US: u64 = 10_000;
/// Time between two looks at canary, watchdog and the PHYs' interrupts: a chip that was lost or reset is noticed within
/// this, and so is a link.
pub const ROUND_US: u64 = 400_000;
/// Every so many rounds all links are looked at, interrupt or not: that the bits work without the wire is
/// *unverified* on silicon (Linux polls them the same way).
pub const FULL_ROUND: u32 = 4;
/// Every so many rounds the counters of the next port are read although nobody asks: each port's in half an hour, before
/// 32 bits of the smallest frames at full rate are full.
const TOTALS_ROUND: u32 = 750;
/// Time after which a failed bring-up is tried again.
pub const RETRY_US: u64 = 1_000_000;
/// Age limit of learnt addresses. Spec: IEEE 802.1D default.
const AGE_S: u16 = 300;

/// Ports that are one network, switched by the chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its ports.
    pub members: PortSet,
    /// The address of our interface on it: frames to it go to the CPU alone.
    pub mac: MacAddr,
}

/// What the chip is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Port of the conduit MAC, by RGMII at 1000 Mb/s.
    pub cpu: PortIndex,
    /// How frames on it are tagged.
    pub protocol: Protocol,
    /// The chip's number in tags, 0 to 31.
    pub device: u8,
    /// Ports with a socket, and what is asked of their links. Only ports 1 to 4 have a PHY.
    pub users: [Option<Setting>; PORTS],
    /// Bridges, disjoint; ports of none are networks of their own.
    pub bridges: [Option<Bridge>; 2],
    /// Source address of the chip's pause frames.
    pub mac: MacAddr,
}

impl Config {
    /// The ports with a socket.
    pub fn user_ports(&self) -> PortSet {
        let users = PortIndex::all().filter(|port| self.users[port.index()].is_some());
        users.fold(PortSet::EMPTY, PortSet::with).without(self.cpu)
    }

    fn bridges(&self) -> impl Iterator<Item = (u16, Bridge)> {
        let bridges = (1..).zip(self.bridges);
        bridges.filter_map(|(fid, bridge)| Some((fid, bridge?)))
    }

    fn role(&self, port: PortIndex) -> Role {
        let users = self.user_ports();
        if port == self.cpu {
            return Role::Cpu(self.protocol);
        }
        if !users.has(port) {
            return Role::Unused;
        }
        let bridge = self.bridges().find(|(_, bridge)| bridge.members.has(port));
        match bridge {
            Some((fid, bridge)) => {
                let others = PortSet::from_bits(bridge.members.bits() & users.bits());
                Role::User {
                    fid,
                    others: others.without(port).without(self.cpu),
                }
            }
            None => Role::User {
                fid: 0,
                others: PortSet::EMPTY,
            },
        }
    }
}

/// Why an operation on the chip failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A register access failed.
    Access(steps::Error),
    /// No chip that this driver knows; 0xfff: nobody answers.
    UnknownProduct(u16),
    /// The chip was not ready again a second after its reset.
    NotReady {
        /// Global status.
        status: u16,
    },
    /// A PHY failed.
    Phy {
        /// Its port.
        port: PortIndex,
        /// How.
        cause: phy::Error,
    },
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
            Error::UnknownProduct(0xfff) => f.write_str("no switch answers"),
            Error::UnknownProduct(product) => write!(f, "product {product:#05x} is not known"),
            Error::NotReady { status } => {
                write!(f, "not ready after its reset, global status {status:#06x}")
            }
            Error::Phy { port, cause } => write!(f, "PHY of port {}: {cause}", port.get()),
        }
    }
}

/// Part of the bring-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the product number.
    Identify,
    /// Stopping all ports.
    Stop,
    /// Powering down the PHYs.
    PowerDown,
    /// The software reset.
    Reset,
    /// Tables and global registers.
    Tables,
    /// Registers of the ports.
    Ports,
    /// Opening the ports.
    Open,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Identify => "identification",
            Stage::Stop => "stopping the ports",
            Stage::PowerDown => "powering down the PHYs",
            Stage::Reset => "reset",
            Stage::Tables => "set-up of the tables",
            Stage::Ports => "set-up of the ports",
            Stage::Open => "opening the ports",
        })
    }
}

/// Where a bring-up failed, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BringUpError {
    /// Where.
    pub stage: Stage,
    /// Why.
    pub cause: Error,
}

/// Stops all ports of the chip behind `regs` (see [`Smi`]), those with a PHY inside first, and takes away whom they may
/// forward to: all that can be done about leaks before it is known what the chip is to do.
///
/// # Errors
///
/// [`Error::Access`]; ports before the one that failed are stopped.
pub async fn stop_all_ports(mut regs: impl Registers) -> Result<(), Error> {
    Ok(stop_ports(&mut regs, PortSet::from_bits(0b1_1110)).await?)
}

async fn stop_ports(regs: &mut impl Registers, first: PortSet) -> Result<(), steps::Error> {
    let others = PortSet::ALL.iter().filter(|port| !first.has(*port));
    for port in first.iter().chain(others) {
        port::disable(regs, port).await?;
    }
    for port in PortIndex::all() {
        port::isolate(regs, port).await?;
    }
    Ok(())
}

impl fmt::Display for BringUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stage, self.cause)
    }
}

/// The chip behind its registers.
#[derive(Debug)]
pub struct Switch<R> {
    regs: R,
    config: Config,
    phys: [Option<Phy>; PORTS],
    /// A PHY's failure was told and not yet overcome.
    failed: PortSet,
    phy_bus_is_idle: bool,
    /// Ports whose interrupt somebody else has read away.
    unsettled: PortSet,
}

/// The address of a port's PHY on the switch's inner bus.
const fn phy_addr(port: PortIndex) -> PhyAddr {
    PhyAddr(0x10 + port.get())
}

impl<R: Registers> Switch<R> {
    /// The chip behind `regs` (see [`Smi`]). Touches nothing.
    pub fn new(regs: R, config: Config) -> Self {
        let users = config.user_ports();
        let phys = core::array::from_fn(|at| {
            let port = PortIndex::new(at as u8).filter(|port| users.has(*port))?;
            let setting = config.users[at]?;
            // Ports 0 and 5 have no PHY inside.
            (1..=4)
                .contains(&port.get())
                .then(|| Phy::new(phy_addr(port), phy::Kind::Topaz, setting))
        });
        Switch {
            regs,
            config,
            phys,
            failed: PortSet::EMPTY,
            phy_bus_is_idle: false,
            unsettled: PortSet::EMPTY,
        }
    }

    /// Brings the chip up from any state, in an order in which no frame passes between user ports.
    ///
    /// Returns product number and revision. May be called again at any time; the ports stop first.
    ///
    /// # Errors
    ///
    /// [`BringUpError`]. The ports that could be reached are stopped.
    pub async fn bring_up(&mut self) -> Result<(u16, u8), BringUpError> {
        let at = |stage| move |cause: Error| BringUpError { stage, cause };
        self.failed = PortSet::EMPTY;
        self.phy_bus_is_idle = false;
        let identity = self.identify().await.map_err(at(Stage::Identify))?;
        self.stop_ports().await.map_err(at(Stage::Stop))?;
        self.regs.sleep_us(DRAIN_US).await;
        self.power_down_phys().await.map_err(at(Stage::PowerDown))?;
        global1::reset(&mut self.regs)
            .await
            .map_err(at(Stage::Reset))?;
        self.phy_bus_is_idle = false;
        self.stop_ports().await.map_err(at(Stage::Stop))?;
        self.power_down_phys().await.map_err(at(Stage::PowerDown))?;
        let tables = self.set_up_tables().await;
        tables.map_err(|error| at(Stage::Tables)(error.into()))?;
        let ports = self.set_up_ports().await;
        ports.map_err(|error| at(Stage::Ports)(error.into()))?;
        let opened = self.open_ports().await;
        opened.map_err(|error| at(Stage::Open)(error.into()))?;
        Ok(identity)
    }

    async fn identify(&mut self) -> Result<(u16, u8), Error> {
        let mut result = Err(Error::UnknownProduct(0));
        for _ in 0..IDENTIFY_TRIES {
            result = match port::identify(&mut self.regs).await {
                Ok((product, revision)) if PRODUCTS.contains(&product) => {
                    return Ok((product, revision));
                }
                Ok((product, _)) => Err(Error::UnknownProduct(product)),
                Err(error) => Err(error.into()),
            };
            self.regs.sleep_us(IDENTIFY_POLL_US).await;
        }
        result
    }

    /// Stops all ports, those with sockets first, and takes away whom they may forward to.
    ///
    /// # Errors
    ///
    /// [`Error::Access`]; ports before the one that failed are stopped.
    pub async fn stop_ports(&mut self) -> Result<(), Error> {
        Ok(stop_ports(&mut self.regs, self.config.user_ports()).await?)
    }

    /// All four of them: those without a socket on this board, too, have no business being up.
    async fn power_down_phys(&mut self) -> Result<(), Error> {
        for port in (1..=4).filter_map(PortIndex::new) {
            let mut bus = Phys::new(&mut self.regs, &mut self.phy_bus_is_idle);
            let result = match &mut self.phys[port.index()] {
                Some(phy) => phy.power_down(&mut bus).await,
                None => {
                    let kind = phy::Kind::Topaz;
                    let mut unused = Phy::new(phy_addr(port), kind, Setting::default());
                    unused.power_down(&mut bus).await
                }
            };
            result.map_err(|cause| Error::Phy { port, cause })?;
        }
        Ok(())
    }

    async fn set_up_tables(&mut self) -> Result<(), steps::Error> {
        let Switch { regs, config, .. } = self;
        global1::silence(regs).await?;
        global2::silence(regs).await?;
        vtu::set_up(regs).await?;
        atu::set_up(regs, AGE_S).await?;
        // Broadcast is a group address like any other to the chip: it floods where an entry says so.
        let broadcast = [0xff; 6];
        atu::load_static(regs, 0, broadcast, PortSet::ALL).await?;
        for (fid, bridge) in config.bridges() {
            atu::load_static(regs, fid, broadcast, PortSet::ALL).await?;
            atu::load_static(regs, fid, bridge.mac, PortSet::of(config.cpu)).await?;
        }
        let all = PortSet::ALL.bits();
        global2::set_up(regs, PortIndex::all(), all, config.mac).await?;
        global1::set_up(regs, config.cpu, config.device).await?;
        mib::flush(regs).await?;
        global2::enable_watchdog(regs).await
    }

    async fn set_up_ports(&mut self) -> Result<(), steps::Error> {
        for port in PortIndex::all() {
            let role = self.config.role(port);
            port::set_up(&mut self.regs, port, role, self.config.cpu).await?;
        }
        Ok(())
    }

    /// The CPU's port first: whatever a user port lets in has a place to go.
    async fn open_ports(&mut self) -> Result<(), steps::Error> {
        let users = self.config.user_ports();
        for port in core::iter::once(self.config.cpu).chain(users.iter()) {
            port::open(&mut self.regs, port, self.config.role(port)).await?;
        }
        Ok(())
    }

    /// Releases the PHYs, the last part of the bring-up. One that fails does not keep the others down.
    async fn release_phys(&mut self, mailbox: &Mailbox) {
        for port in self.config.user_ports().iter() {
            if let Some(phy) = &mut self.phys[port.index()] {
                let mut bus = Phys::new(&mut self.regs, &mut self.phy_bus_is_idle);
                let result = phy.bring_up(&mut bus).await;
                self.note_phy(port, result.map(|()| None), mailbox);
            }
        }
    }

    /// Looks at the link of a port, once its interrupt is taken back if there is one.
    async fn poll_link(
        &mut self,
        port: PortIndex,
        interrupt: bool,
        mailbox: &Mailbox,
    ) -> Result<(), steps::Error> {
        let Some(phy) = &mut self.phys[port.index()] else {
            return Ok(());
        };
        if mailbox.held().has(port) {
            return Ok(());
        }
        let mut bus = Phys::new(&mut self.regs, &mut self.phy_bus_is_idle);
        let result = match (self.failed.has(port), interrupt) {
            (true, _) => phy.bring_up(&mut bus).await.map(|()| None),
            (false, false) => phy.poll(&mut bus).await,
            (false, true) => match phy.acknowledge(&mut bus).await {
                Ok(()) => phy.poll(&mut bus).await,
                Err(error) => Err(error),
            },
        };
        self.note_link(port, result, mailbox).await
    }

    /// Tells what is new about a PHY, and forgets who was behind a link that is gone.
    async fn note_link(
        &mut self,
        port: PortIndex,
        result: Result<Option<phy::Event>, phy::Error>,
        mailbox: &Mailbox,
    ) -> Result<(), steps::Error> {
        if let Some(phy::Event::Down) = self.note_phy(port, result, mailbox)
            && let Role::User { fid, .. } = self.config.role(port)
            && fid != 0
        {
            atu::forget_learnt(&mut self.regs, fid).await?;
        }
        Ok(())
    }

    /// Tells what is new about a PHY.
    fn note_phy(
        &mut self,
        port: PortIndex,
        result: Result<Option<phy::Event>, phy::Error>,
        mailbox: &Mailbox,
    ) -> Option<phy::Event> {
        let known = self.failed.has(port);
        let news = match result {
            Ok(event) => {
                self.failed = self.failed.without(port);
                event
            }
            Err(cause) => {
                self.failed = self.failed.with(port);
                if !known {
                    mailbox.tell(Event::PhyFailed { port, cause });
                }
                // Nobody knows about its link any more.
                mailbox.link(port).map(|_| phy::Event::Down)
            }
        };
        match news {
            Some(phy::Event::Up(up)) => mailbox.set_link(port, Some(up)),
            Some(phy::Event::Down) => mailbox.set_link(port, None),
            Some(phy::Event::Fault(_)) | None => {}
        }
        if let Some(event) = news {
            mailbox.tell(Event::Link { port, event });
        }
        news
    }

    /// Whether the chip still is what bring-up made of it, as far as one port and the watchdog tell. Returns the ports
    /// whose PHY wants to be looked at.
    async fn check(&mut self, port: PortIndex) -> Result<PortSet, Trouble> {
        let expected = self.config.role(port).canary(port, self.config.cpu);
        let found = port::canary(&mut self.regs, port).await;
        let found = found.map_err(Trouble::Access)?;
        if found != expected {
            return Err(Trouble::Canary {
                port,
                expected,
                found,
            });
        }
        let sources = global2::sources(&mut self.regs).await;
        let sources = sources.map_err(Trouble::Access)?;
        if sources.watchdog {
            let events = global2::watchdog_event(&mut self.regs).await;
            let events = events.map_err(Trouble::Access)?;
            return Err(Trouble::Watchdog { events });
        }
        Ok(sources.phys)
    }
}

impl<W: Registers> Switch<Smi<W>> {
    /// Watches links, canary and watchdog until something is wrong.
    async fn watch(&mut self, mailbox: &Mailbox) -> Trouble {
        let users = self.config.user_ports();
        let watched = users.with(self.config.cpu);
        let mut canary = self.config.cpu;
        let mut counted = self.config.cpu;
        let mut round = 0u32;
        loop {
            let start = self.regs.now_us();
            // The chip first: a PHY's silence means nothing if the chip around it is gone.
            let interrupts = match self.check(canary).await {
                Ok(interrupts) => interrupts,
                Err(trouble) => return trouble,
            };
            let all = round.is_multiple_of(FULL_ROUND);
            let unsettled = core::mem::take(&mut self.unsettled);
            for port in users.iter() {
                let interrupt = interrupts.has(port);
                if (all || interrupt || unsettled.has(port))
                    && let Err(error) = self.poll_link(port, interrupt, mailbox).await
                {
                    return Trouble::Access(error);
                }
            }
            round = round.wrapping_add(1);
            // The next in turn, and after the last the first.
            let next = watched.iter().find(|port| *port > canary);
            canary = next.or(watched.iter().next()).unwrap_or(canary);
            if round.is_multiple_of(TOTALS_ROUND) {
                let next = watched.iter().find(|port| *port > counted);
                mailbox.want_totals(next.or(watched.iter().next()).unwrap_or(counted));
            }
            if let Some(port) = mailbox.next_wanted(counted) {
                counted = port;
                match mib::snapshot(&mut self.regs, port).await {
                    Ok(snapshot) => mailbox.add_totals(port, snapshot, self.regs.now_us()),
                    Err(error) => mailbox.tell(Event::CountersFailed(error)),
                }
            }
            mailbox.end_round();
            self.rest(start + ROUND_US, mailbox).await;
        }
    }
}

/// Brings the switch up, watches it, and brings it up again when something is wrong, for ever.
///
/// Poll it whenever the time in the stepper's `due_us` has come:
///
/// ```
/// # use core::{cell::Cell, pin::pin};
/// # use hal::net::mdio::PhyAddr;
/// # use hal::net::mv88e6xxx::{Config, Mailbox, Smi, Switch, supervise};
/// # use hal::net::steps::{Line, Stepper, step};
/// # use hal::time::Clock;
/// # fn example(line: impl Line, clock: impl Clock, config: Config) {
/// let due_us = Cell::new(0);
/// let mailbox = Mailbox::default();
/// let registers = Smi::new(Stepper::new(line, clock, &due_us), PhyAddr(1));
/// let mut task = pin!(supervise(Switch::new(registers, config), &mailbox));
/// // In the main loop, once `due_us` has passed:
/// let _ = step(task.as_mut());
/// while let Some(event) = mailbox.take_event() { /* one line on the console */ }
/// # }
/// ```
pub async fn supervise<W: Registers>(mut switch: Switch<Smi<W>>, mailbox: &Mailbox) -> Infallible {
    let mut told = None;
    loop {
        match switch.bring_up().await {
            Ok((product, revision)) => {
                told = None;
                mailbox.totals_cleared();
                mailbox.tell(Event::Ready { product, revision });
                switch.release_phys(mailbox).await;
                let rounds = mailbox.rounds();
                let trouble = switch.watch(mailbox).await;
                mailbox.note_repair(trouble);
                if mailbox.rounds() != rounds {
                    continue;
                }
                // In trouble from the first look on: no hurry then.
                let _ = switch.stop_ports().await;
            }
            Err(error) => {
                mailbox.note_failure();
                if told.replace(error) != Some(error) {
                    mailbox.tell(Event::BringUpFailed(error));
                }
                // What can still be stopped must not forward.
                if error.stage != Stage::Identify {
                    let _ = switch.stop_ports().await;
                }
            }
        }
        mailbox.end_round();
        let again_us = switch.regs.now_us() + RETRY_US;
        switch.rest(again_us, mailbox).await;
    }
}
