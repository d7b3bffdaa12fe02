//! What the commands for bringing up a board see of its hardware: the management bus, the switch, the MAC.
//!
//! Registers behind the management bus come by errands (`hal::net::mv88e6xxx::errand`): a command hands one in, returns
//! [`Progress::Wait`](super::Progress::Wait), and fetches the answer in a later round. [`errand`] is that for a command
//! with one errand.

use super::report::Report;
use super::{Call, Refusal};
use core::fmt;
use hal::net::mdio::RegAddr;
use hal::net::mv88e6xxx::errand::{Answer, Place, Request, Step};
use hal::net::mv88e6xxx::{PortIndex, PortSet};
use hal::net::neta::RingDump;
use hal::net::{Coalescing, Count};

/// Time between two looks whether an errand is done; a register takes from 50 us to 1 ms.
const LOOK_US: u64 = 2_000;
/// Longest wait for an errand to be taken, and done: the bring-up of the switch may come first.
const ERRAND_LIMIT_US: u64 = 5_000_000;

/// What came of asking for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is not there yet.
    Pending,
    /// It was shown.
    Given,
    /// Somebody else's errand has taken its place, because it was fetched too late. It was done all the same.
    Lost,
}

/// The hardware of a board. All of it returns at once.
pub trait Hardware {
    /// The name of a port of the switch: of its socket or its member of a bridge, `cpu`; `None` if it is not in use.
    fn port_name(&self, port: PortIndex) -> Option<&str>;
    /// Whether there is a switch. Without one, errands reach the wires of the management bus only.
    fn has_switch(&self) -> bool;
    /// Hands in an errand for the management bus, and gives its ticket, never 0. `None` while another is under way.
    fn ask(&mut self, request: Request) -> Option<u32>;
    /// Shows the answer to an errand, once.
    fn answer(&mut self, ticket: u32, show: &mut dyn FnMut(&Answer)) -> Reply;
    /// Ports whose PHY is left alone by the supervision: in loopback, or under test.
    fn held(&self) -> PortSet;
    /// A counter of a port of the switch since start, by its place in the table, as of the last time it was read.
    fn port_total(&self, port: PortIndex, index: usize) -> Option<(&'static str, u64)>;
    /// When the counters of a port were read, in microseconds since start.
    fn port_totals_at_us(&self, port: PortIndex) -> Option<u64>;
    /// Asks for fresh counters of a port: they come within a second or so.
    fn want_port_totals(&self, port: PortIndex);
    /// Shows registers of the MAC: name, offset, value. Those that a read changes are left out.
    fn mac_registers(&mut self, show: &mut dyn FnMut(&'static str, u32, u32));
    /// Both rings of the MAC.
    fn mac_rings(&mut self) -> [RingDump; 2];
    /// A counter of the MAC since start, the hardware's collected just now.
    fn mac_count(&mut self, index: usize) -> Option<Count>;
    /// When received frames interrupt.
    fn coalescing(&self) -> Coalescing;
    /// Sets when received frames interrupt.
    fn set_coalescing(&mut self, coalescing: Coalescing);
    /// Whether the MAC's frames come back to it, and reach nobody else.
    fn mac_loopback(&self) -> bool;
    /// Has them come back, or not.
    fn set_mac_loopback(&mut self, on: bool);
}

/// The machine's hardware.
///
/// # Errors
///
/// [`Refusal::Absent`] if it has none of this kind.
pub fn of<'c>(call: &'c mut Call) -> Result<&'c mut dyn Hardware, Refusal> {
    let absent = Refusal::Absent("management bus");
    call.bench.hardware().ok_or(absent)
}

/// The machine's hardware, with a switch.
///
/// # Errors
///
/// [`Refusal::Absent`] if there is none.
pub fn with_switch<'c>(call: &'c mut Call) -> Result<&'c mut dyn Hardware, Refusal> {
    let hardware = of(call)?;
    match hardware.has_switch() {
        true => Ok(hardware),
        false => Err(Refusal::Absent("switch in its devicetree")),
    }
}

/// Hands in an errand in the first round, and shows its answer in the last. Returns when to be called again, or `None`
/// once the answer was shown. Its ticket is the memory's `state`.
///
/// # Errors
///
/// [`Refusal::Absent`], [`Refusal::Bus`] if it ended early, [`Refusal::Failed`] if it takes too long or its answer is lost.
pub fn errand(
    call: &mut Call,
    request: Request,
    show: &mut dyn FnMut(&Answer, &mut Report),
) -> Result<Option<u64>, Refusal> {
    let now_us = call.bench.now_us();
    let absent = Refusal::Absent("management bus");
    let hardware = call.bench.hardware().ok_or(absent)?;
    let (report, memory) = (&mut *call.report, &mut *call.memory);
    if memory.state != 0 {
        let mut error = None;
        let reply = hardware.answer(memory.state as u32, &mut |answer| {
            error = answer.error;
            if error.is_none() {
                show(answer, report);
            }
        });
        match (reply, error) {
            (Reply::Given, None) => return Ok(None),
            (Reply::Given, Some(error)) => return Err(Refusal::Bus(error)),
            (Reply::Pending, _) => {}
            // Not asked again by itself: it may have written something.
            (Reply::Lost, _) => return Err(Refusal::Failed("its answer was lost: ask again")),
        }
    }
    if memory.state == 0 {
        memory.state = hardware.ask(request).unwrap_or(0).into();
    }
    match now_us.saturating_sub(memory.since_us) {
        ERRAND_LIMIT_US.. => Err(Refusal::Failed("the management bus has no time")),
        _ => Ok(Some(now_us + LOOK_US)),
    }
}

/// Puts the PHY of a port into loopback at 1000 Mb/s: what the switch sends out by the port comes in by it. The partner
/// sees no link. [`Step::Release`] ends it.
///
/// # Source
///
/// Linux marvell.c, `m88e1510_loopback`: speed without autonegotiation, soft reset, loopback. The MAC side's speed
/// (page 2 register 21) is left at what the reset makes it, 1000 Mb/s: *unverified* inside the switch.
pub fn phy_loopback(port: PortIndex) -> [Step; 4] {
    let control = |value| Step::Write(Place::Phy(port), RegAddr(0), value);
    [
        Step::Hold(port),
        control(0x8140),
        Step::Sleep { us: 10_000 },
        control(0x4140),
    ]
}

/// `1`, `lan0`.
pub struct PortName<'h>(pub &'h dyn Hardware, pub PortIndex);

impl fmt::Display for PortName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.port_name(self.1) {
            Some(name) => f.write_str(name),
            None => write!(f, "port{}", self.1.get()),
        }
    }
}

/// The port of this name, or number.
pub fn find_port(hardware: &dyn Hardware, name: &str) -> Option<PortIndex> {
    let numbered = name.parse().ok().and_then(PortIndex::new);
    numbered.or_else(|| {
        PortIndex::all().find(|port| hardware.port_name(*port).is_some_and(|n| n == name))
    })
}
