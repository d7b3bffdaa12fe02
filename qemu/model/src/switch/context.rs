//! What every block of the switch shares: the time of the access, how long things take, the doubts and the log.

use super::doubts::Readings;
use crate::bus::{Env, Nanos};

/// How long things take, in nanoseconds of virtual time.
///
/// Inherited: no document states the chip's own times; the defaults lie well inside the limits drivers poll with
/// (50 ms in Linux mv88e6xxx/smi.c, 16 tries in FreeBSD e6000sw.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// One indirect access through SMI registers 0 and 1.
    pub smi: Nanos,
    /// One ATU, VTU, PVT, rate limit, AVB or EEPROM operation, one statistics capture.
    pub table: Nanos,
    /// One access to a PHY through global 2: a 64-bit frame at 2.5 MHz.
    pub phy_access: Nanos,
    /// Software reset, until the PPU polls again.
    pub reset: Nanos,
    /// PHY soft reset.
    pub phy_reset: Nanos,
    /// 1000BASE-T from the start of autonegotiation to link.
    pub autoneg_1000: Nanos,
    /// 10 and 100 Mb/s from the start of autonegotiation to link.
    pub autoneg_100: Nanos,
    /// A link without negotiation on one of the two sides.
    pub forced_link: Nanos,
    /// One cable test.
    pub cable_test: Nanos,
}

const MICROS: u64 = 1_000;
const MILLIS: u64 = 1_000_000;

impl Timing {
    /// What a bench would show.
    pub const REALISTIC: Self = Self {
        smi: 2 * MICROS,
        table: 20 * MICROS,
        phy_access: 26 * MICROS,
        reset: 2 * MILLIS,
        phy_reset: 500 * MICROS,
        autoneg_1000: 2_300 * MILLIS,
        autoneg_100: 1_600 * MILLIS,
        forced_link: 700 * MILLIS,
        cable_test: 500 * MILLIS,
    };
    /// For tests that do not want to wait for a link.
    pub const FAST: Self = Self {
        autoneg_1000: 2_300 * MICROS,
        autoneg_100: 1_600 * MICROS,
        forced_link: 700 * MICROS,
        cable_test: 500 * MICROS,
        ..Self::REALISTIC
    };

    /// The busy times under the doubt that says they are long: a driver that does not wait is caught.
    pub(crate) const fn with_long_busy_times(self) -> Self {
        Self {
            smi: 100 * MICROS,
            table: MILLIS,
            phy_access: MILLIS,
            ..self
        }
    }
}

/// The units that raise a busy bit, and keep it under the fault `switch-busy` of their number (0: all).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Indirect access, SMI register 0.
    Smi = 1,
    /// Address translation, global 1 register 0x0b.
    Atu,
    /// VLAN translation, global 1 register 0x05.
    Vtu,
    /// Statistics, global 1 register 0x1d.
    Stats,
    /// PHY access, global 2 register 0x18.
    Phy,
    /// Rate limits, PVT, EEPROM and AVB of global 2, the hidden port registers.
    Tables,
}

/// The busy bit of one unit. It clears by itself in virtual time, seen when the register is read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Busy {
    until: Nanos,
    finished_unseen: bool,
}

impl Busy {
    pub(crate) fn start(&mut self, context: &Context, duration: u64) {
        self.until = context.now.saturating_add(duration);
        self.finished_unseen = true;
    }

    pub(crate) fn is_set(&self, unit: Unit, context: &Context) -> bool {
        context.now < self.until || context.is_stuck(unit)
    }

    /// True once after an operation has ended: what sets a done bit.
    pub(crate) fn take_done(&mut self, unit: Unit, context: &Context) -> bool {
        !self.is_set(unit, context) && std::mem::take(&mut self.finished_unseen)
    }
}

/// The violation of a table that waits for its get-and-clear operation. Only the first waits; later ones are lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending<V> {
    violation: Option<V>,
    shown: bool,
}

impl<V> Default for Pending<V> {
    fn default() -> Self {
        Self {
            violation: None,
            shown: false,
        }
    }
}

impl<V> Pending<V> {
    pub(crate) fn raise(&mut self, violation: V) {
        if self.violation.is_none() {
            *self = Self {
                violation: Some(violation),
                shown: false,
            };
        }
    }

    pub(crate) fn take(&mut self) -> Option<V> {
        self.violation.take()
    }

    /// The problem bit of the global status: the read that sees it may clear it.
    pub(crate) fn problem(&self) -> bool {
        self.violation.is_some() && !self.shown
    }

    pub(crate) fn read_clears(&mut self) {
        self.shown = true;
    }
}

/// What one access carries to the blocks.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// Virtual time of the access, in nanoseconds.
    pub(crate) now: Nanos,
    pub(crate) timing: Timing,
    pub(crate) doubts: Readings,
    pub(crate) env: &'a mut Env,
}

impl Context<'_> {
    /// Notes what hardware would not tolerate.
    pub(crate) fn guest_error(&mut self, block: &'static str, what: std::fmt::Arguments<'_>) {
        self.env.guest_error(block, what.to_string());
    }

    /// Fault `switch-busy`: every unit, or the one whose number is the value.
    fn is_stuck(&self, unit: Unit) -> bool {
        let stuck = self.env.faults.number("switch-busy", 0);
        stuck == Some(0) || stuck == Some(unit as u64)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A context at time 1 ns with every doubt at its default.
    pub(crate) fn context() -> Context<'static> {
        let env = Box::leak(Box::default());
        Context {
            now: 1,
            timing: Timing::FAST,
            doubts: Readings::default(),
            env,
        }
    }
}
