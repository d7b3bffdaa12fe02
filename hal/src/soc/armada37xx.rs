//! Armada 37xx: what the network needs of clocks, resets and pins, and the watchdog.
//!
//! Boot loaders that use the network leave everything open; those that do not may not. Registers of a block whose
//! clock is off hang the bus, so this comes before the first access to the MAC.
//!
//! ```text
//!   0xd000_8300  counters         0xd000_d000  CPU misc (which counter resets the chip)
//!   0xd001_3000  north bridge: clocks, PLLs (+0x200), pins (+0x800)
//!   0xd001_8000  south bridge: clocks, resets (+0x600), pins (+0x800)
//! ```

use crate::regs::{Bus, Reg, Ro, Rw};
use core::fmt;
use tock_registers::register_bitfields;

/// Memory of the secure firmware and of OP-TEE, where trees do not always say so: whoever else touches it hangs. Spec:
/// TF-A a3700_plat_def.h.
pub const SECURE_MEMORY: core::ops::Range<u64> = 0x0400_0000..0x0540_0000;

register_bitfields![u32,
    ClockSelect [ GBE_CORE_PLL OFFSET(8) NUMBITS(2) [] ],
    ClockDivide1 [
        GBE0_CORE_HALF OFFSET(14) NUMBITS(1) [],
        GBE_CORE_FIRST OFFSET(18) NUMBITS(3) [],
        GBE_CORE_SECOND OFFSET(21) NUMBITS(3) []
    ],
    ClockDisable [ GBE0_CORE OFFSET(5) NUMBITS(1) [] ],
    Reset [ NETA0_RUNS OFFSET(5) NUMBITS(1) [] ],
    PinSelect [
        RGMII_IS_GPIO OFFSET(3) NUMBITS(1) [],
        SMI_IS_GPIO OFFSET(4) NUMBITS(1) []
    ],
    PllFeedback [ A OFFSET(2) NUMBITS(9) [], B OFFSET(18) NUMBITS(9) [] ],
    PllReference [ A OFFSET(0) NUMBITS(9) [], B OFFSET(16) NUMBITS(9) [] ],
    /// Single-ended outputs (`S` clocks).
    PllOutputS [ A OFFSET(0) NUMBITS(9) [], B OFFSET(16) NUMBITS(9) [] ],
    /// Differential outputs (`P` clocks).
    PllOutputP [ A OFFSET(1) NUMBITS(9) [], B OFFSET(17) NUMBITS(9) [] ],
    Straps [ CRYSTAL_40_MHZ OFFSET(9) NUMBITS(1) [] ],
    CounterControl [
        ENABLE OFFSET(0) NUMBITS(1) [],
        ACTIVE OFFSET(1) NUMBITS(1) [],
        MODE OFFSET(2) NUMBITS(2) [ OneShot = 0, HardwareSignal = 3 ],
        TRIGGER OFFSET(4) NUMBITS(4) [ None = 0, PreviousEnds = 5 ],
        PRESCALE OFFSET(8) NUMBITS(8) []
    ]
];

// South bridge, from 0xd001_8000.

/// TBG_SEL, 0x00: which PLL output feeds a clock.
const SB_CLOCK_SELECT: Reg<ClockSelect::Register, Ro> = Reg::at(0x00);
/// DIV_SEL1, 0x08.
const SB_CLOCK_DIVIDE_1: Reg<ClockDivide1::Register, Ro> = Reg::at(0x08);
/// CLK_DIS, 0x14: 1 = off.
const SB_CLOCK_DISABLE: Reg<ClockDisable::Register, Rw> = Reg::at(0x14);
/// Reset, 0x600: 1 = running.
const SB_RESET: Reg<Reset::Register, Rw> = Reg::at(0x600);
/// SELECTION of the pin controller, 0x830: 1 = GPIO.
const SB_PIN_SELECT: Reg<PinSelect::Register, Rw> = Reg::at(0x830);

// North bridge, from 0xd001_3000.

/// TBG_CTRL0, 0x204.
const PLL_FEEDBACK: Reg<PllFeedback::Register, Ro> = Reg::at(0x204);
/// TBG_CTRL1, 0x208.
const PLL_OUTPUT_S: Reg<PllOutputS::Register, Ro> = Reg::at(0x208);
/// TBG_CTRL7, 0x220.
const PLL_REFERENCE: Reg<PllReference::Register, Ro> = Reg::at(0x220);
/// TBG_CTRL8, 0x230.
const PLL_OUTPUT_P: Reg<PllOutputP::Register, Ro> = Reg::at(0x230);
/// Straps, in the pin controller, 0x808.
const STRAPS: Reg<Straps::Register, Ro> = Reg::at(0x808);

/// What of NETA0's surroundings was closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// A clock gate.
    pub clock: bool,
    /// The reset.
    pub reset: bool,
    /// RGMII pins were GPIOs.
    pub rgmii_pins: bool,
    /// SMI pins were GPIOs.
    pub smi_pins: bool,
}

impl Closed {
    /// Whether anything was.
    pub fn any(self) -> bool {
        self != Closed::default()
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            (self.clock, "clock"),
            (self.reset, "reset"),
            (self.rgmii_pins, "RGMII pins"),
            (self.smi_pins, "SMI pins"),
        ];
        let mut comma = "";
        for (_, name) in all.iter().filter(|(closed, _)| *closed) {
            write!(f, "{comma}{name}")?;
            comma = ", ";
        }
        Ok(())
    }
}

/// Opens clock gate, reset and pins of NETA0 and its MDIO controller, where they are not. Returns what was closed, or,
/// after the attempt, what still is.
///
/// `south_bridge` is the page at 0xd001_8000. May be called while the MAC runs: what is open is not touched.
///
/// # Errors
///
/// What stays closed: then no register of the MAC may be touched.
///
/// # Source
///
/// Inherited: of the MAC's three gates, Linux's devicetree names the core clock alone, and Linux closes gates that
/// nobody names.
pub fn open_neta0(south_bridge: &mut impl Bus) -> Result<Closed, Closed> {
    let before = neta0_closed(south_bridge);
    // Clock first, then reset: a block leaves reset with its clock running.
    if before.clock {
        SB_CLOCK_DISABLE.modify(south_bridge, ClockDisable::GBE0_CORE::CLEAR);
    }
    if before.reset {
        SB_RESET.modify(south_bridge, Reset::NETA0_RUNS::SET);
    }
    if before.rgmii_pins || before.smi_pins {
        SB_PIN_SELECT.modify(
            south_bridge,
            PinSelect::RGMII_IS_GPIO::CLEAR + PinSelect::SMI_IS_GPIO::CLEAR,
        );
    }
    let after = neta0_closed(south_bridge);
    if after.any() { Err(after) } else { Ok(before) }
}

fn neta0_closed(south_bridge: &mut impl Bus) -> Closed {
    let pins = SB_PIN_SELECT.read(south_bridge);
    Closed {
        clock: SB_CLOCK_DISABLE
            .read(south_bridge)
            .is_set(ClockDisable::GBE0_CORE),
        reset: !SB_RESET.read(south_bridge).is_set(Reset::NETA0_RUNS),
        rgmii_pins: pins.is_set(PinSelect::RGMII_IS_GPIO),
        smi_pins: pins.is_set(PinSelect::SMI_IS_GPIO),
    }
}

/// NETA's core clock in all of Marvell's clock presets, for when the registers make no sense. Inherited:
/// A3700-utils-marvell, `wtmi/sys_init/clock.c`.
pub const USUAL_GBE_CORE_HZ: u32 = 250_000_000;

/// NETA0's core clock by the clock tree's registers, which coalescing times are counted in. `None` if they make no
/// sense: then [`USUAL_GBE_CORE_HZ`] is as good a guess as any.
///
/// `north_bridge` is the page at 0xd001_3000, `south_bridge` the one at 0xd001_8000.
///
/// # Source
///
/// Inherited: Linux armada-37xx-tbg.c and armada-37xx-periph.c. A PLL output is crystal x 4 x feedback / (reference x
/// 2^output); the clock divides it twice by 1 to 6, and NETA0's share again by 1 or 2.
pub fn gbe_core_hz(north_bridge: &mut impl Bus, south_bridge: &mut impl Bus) -> Option<u32> {
    let crystal_hz = crystal_hz(north_bridge);
    let feedback = PLL_FEEDBACK.read(north_bridge);
    let reference = PLL_REFERENCE.read(north_bridge);
    let (p, s) = (
        PLL_OUTPUT_P.read(north_bridge),
        PLL_OUTPUT_S.read(north_bridge),
    );
    let (feedback_a, feedback_b) = (feedback.read(PllFeedback::A), feedback.read(PllFeedback::B));
    let (reference_a, reference_b) = (
        reference.read(PllReference::A),
        reference.read(PllReference::B),
    );
    let select = SB_CLOCK_SELECT
        .read(south_bridge)
        .read(ClockSelect::GBE_CORE_PLL);
    let (feedback, reference, output) = match select {
        0 => (feedback_a, reference_a, p.read(PllOutputP::A)),
        1 => (feedback_b, reference_b, p.read(PllOutputP::B)),
        2 => (feedback_a, reference_a, s.read(PllOutputS::A)),
        _ => (feedback_b, reference_b, s.read(PllOutputS::B)),
    };
    let divide = SB_CLOCK_DIVIDE_1.read(south_bridge);
    let divisor = |value: u32| (1..=6).contains(&value).then_some(u64::from(value));
    let divisor = divisor(divide.read(ClockDivide1::GBE_CORE_FIRST))?
        * divisor(divide.read(ClockDivide1::GBE_CORE_SECOND))?
        * u64::from(1 + divide.read(ClockDivide1::GBE0_CORE_HALF));
    let pll = u64::from(crystal_hz) * 4 * u64::from(feedback);
    let reduced = u64::from(reference.max(1)).checked_shl(output)?;
    let hz = pll.checked_div(reduced.checked_mul(divisor)?)?;
    // Nothing this block could run at lies outside.
    let hz = u32::try_from(hz).ok()?;
    (25_000_000..=500_000_000).contains(&hz).then_some(hz)
}

/// The crystal of every ESPRESSObin.
pub const USUAL_CRYSTAL_HZ: u32 = 25_000_000;

/// The crystal: 25 MHz on the ESPRESSObin, 40 MHz by a strap. `north_bridge` as above.
pub fn crystal_hz(north_bridge: &mut impl Bus) -> u32 {
    match STRAPS.read(north_bridge).is_set(Straps::CRYSTAL_40_MHZ) {
        true => 40_000_000,
        false => USUAL_CRYSTAL_HZ,
    }
}

// Counters, from 0xd000_8300. Counters 2 and 3 are the boot firmware's.

/// Counter 0, control: restarts counter 1 by ending.
const FEED_CONTROL: Reg<CounterControl::Register, Rw> = Reg::at(0x00);
const FEED_LOW: Reg<(), Rw> = Reg::at(0x04);
const FEED_HIGH: Reg<(), Rw> = Reg::at(0x08);
/// Counter 1, control: resets the chip by ending.
const BITE_CONTROL: Reg<CounterControl::Register, Rw> = Reg::at(0x10);
const BITE_LOW: Reg<(), Rw> = Reg::at(0x14);
const BITE_HIGH: Reg<(), Rw> = Reg::at(0x18);
/// Which counter is the watchdog, 0x064 of the CPU misc block: one bit each.
const SELECT: Reg<(), Rw> = Reg::at(0x64);
const SELECT_BITE: u32 = 1 << 1;
/// The least there is.
const PRESCALE: u32 = 2;

/// The watchdog. Dropping it does not stop it.
#[derive(Debug)]
pub struct Watchdog<C: Bus, M: Bus> {
    counters: C,
    misc: M,
    tick_hz: u32,
}

impl<C: Bus, M: Bus> Watchdog<C, M> {
    /// The watchdog behind `counters` (0xd000_8300) and `misc` (0xd000_d000). Touches nothing.
    pub fn new(counters: C, misc: M, crystal_hz: u32) -> Self {
        Watchdog {
            counters,
            misc,
            tick_hz: crystal_hz / PRESCALE,
        }
    }

    /// Whether it runs, perhaps armed by a boot loader.
    pub fn is_armed(&mut self) -> bool {
        SELECT.read(&mut self.misc).get() & 0xf == SELECT_BITE
            && BITE_CONTROL
                .read(&mut self.counters)
                .is_set(CounterControl::ACTIVE)
    }

    /// Resets the chip unless it is fed every `seconds`.
    ///
    /// # Source
    ///
    /// Inherited: Linux armada_37xx_wdt.c. Counter 1 cannot be reloaded while it runs, but is by its trigger: the end
    /// of counter 0, which is given nothing to count.
    pub fn arm(&mut self, seconds: u32) {
        let ticks = u64::from(seconds) * u64::from(self.tick_hz);
        self.disarm();
        SELECT.set(&mut self.misc, SELECT_BITE);
        let bus = &mut self.counters;
        let prescale = CounterControl::PRESCALE.val(PRESCALE);
        FEED_CONTROL.write(
            bus,
            prescale + CounterControl::MODE::OneShot + CounterControl::TRIGGER::None,
        );
        FEED_LOW.set(bus, 0);
        FEED_HIGH.set(bus, 0);
        BITE_CONTROL.write(
            bus,
            prescale + CounterControl::MODE::HardwareSignal + CounterControl::TRIGGER::PreviousEnds,
        );
        BITE_LOW.set(bus, ticks as u32);
        BITE_HIGH.set(bus, (ticks >> 32) as u32);
        BITE_CONTROL.modify(bus, CounterControl::ENABLE::SET);
        FEED_CONTROL.modify(bus, CounterControl::ENABLE::SET);
    }

    /// Starts the time over.
    #[inline]
    pub fn feed(&mut self) {
        FEED_CONTROL.modify(&mut self.counters, CounterControl::ENABLE::CLEAR);
        FEED_CONTROL.modify(&mut self.counters, CounterControl::ENABLE::SET);
    }

    /// Stops it.
    pub fn disarm(&mut self) {
        BITE_CONTROL.modify(&mut self.counters, CounterControl::ENABLE::CLEAR);
        FEED_CONTROL.modify(&mut self.counters, CounterControl::ENABLE::CLEAR);
        SELECT.set(&mut self.misc, 0);
    }

    /// Seconds left, rounded down.
    pub fn left_s(&mut self) -> u64 {
        // Reading the low half latches the high one.
        let low = BITE_LOW.read(&mut self.counters).get();
        let high = BITE_HIGH.read(&mut self.counters).get();
        (u64::from(high) << 32 | u64::from(low)) / u64::from(self.tick_hz.max(1))
    }
}
