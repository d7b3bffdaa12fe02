//! The switch's sequence over the SoC's own bus.
//!
//! Not generic, so that it is compiled with this crate, for size: it takes a step now and then, and is large. The opposite
//! of `boards`.

use alloc::boxed::Box;
use core::cell::Cell;
use core::convert::Infallible;
use core::future::Future;
use core::pin::Pin;

use hal::arch::timer::SystemClock;
use hal::net::mdio::{OrionMdio, PhyAddr};
use hal::net::mv88e6xxx::{self, Error, Mailbox, Smi, Switch};
use hal::net::steps::{self, Stepper};
use hal::regs::Mmio;

/// The controller of the management bus.
pub type Line = OrionMdio<Mmio, SystemClock>;
/// The switch's registers.
pub type Registers = Smi<Stepper<'static, Line, SystemClock>>;
/// [`mv88e6xxx::supervise`], to be polled.
pub type Sequence = Pin<Box<dyn Future<Output = Infallible>>>;

/// The registers of a switch at an address of a bus.
pub fn registers(line: Line, address: PhyAddr, due_us: &'static Cell<u64>) -> Registers {
    Smi::new(Stepper::new(line, SystemClock, due_us), address)
}

/// [`mv88e6xxx::stop_all_ports`], at once. The stepper is not needed any more.
///
/// # Errors
///
/// What the bus has to say.
pub fn stop_all_ports(line: Line, address: PhyAddr) -> Result<(), Error> {
    let due_us = Cell::new(0);
    let registers = Smi::new(Stepper::new(line, SystemClock, &due_us), address);
    steps::run(mv88e6xxx::stop_all_ports(registers))
}

/// [`Switch::stop_ports`], at once.
///
/// # Errors
///
/// What the bus has to say.
pub fn stop_ports(switch: &mut Switch<Registers>) -> Result<(), Error> {
    steps::run(switch.stop_ports())
}

/// [`mv88e6xxx::supervise`]. Allocates.
pub fn supervise(switch: Switch<Registers>, mailbox: &'static Mailbox) -> Sequence {
    Box::pin(mv88e6xxx::supervise(switch, mailbox))
}

/// [`mv88e6xxx::errand::serve`]: a bus without a switch. Allocates.
pub fn serve(registers: Registers, mailbox: &'static Mailbox) -> Sequence {
    Box::pin(mv88e6xxx::errand::serve(registers, mailbox))
}
