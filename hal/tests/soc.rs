//! Clocks, resets, pins and the watchdog against the machine model.

mod board;

use board::Machine;
use espressobin_model::doubts::Doubts;
use hal::regs::Bus;
use hal::soc::armada37xx::{Closed, Watchdog, crystal_hz, gbe_core_hz, open_neta0};

const NORTH: u32 = 0x1_3000;
const SOUTH: u32 = 0x1_8000;
const MISC: u32 = 0x0_d000;
const COUNTERS: u32 = 0x0_8300;

fn machine() -> Machine {
    Machine::new(Doubts::default())
}

#[test]
fn what_a_boot_loader_left_open_is_not_touched() {
    let machine = machine();
    let mut south = Watched {
        bus: machine.bus(SOUTH),
        writes: 0,
    };
    assert_eq!(open_neta0(&mut south), Ok(Closed::default()));
    assert_eq!(south.writes, 0);
}

#[test]
fn what_was_closed_is_opened_and_told_and_nothing_else_changes() {
    let machine = machine();
    let mut south = machine.bus(SOUTH);
    south.write(0x14, 0xffff_ffff);
    south.write(0x600, 0xfff & !(1 << 5));
    south.write(0x830, 0x3ff);
    let all = Closed {
        clock: true,
        reset: true,
        rgmii_pins: true,
        smi_pins: true,
    };
    assert_eq!(open_neta0(&mut south), Ok(all));
    assert_eq!(all.to_string(), "clock, reset, RGMII pins, SMI pins");
    assert_eq!(south.read(0x14), !(1 << 5));
    assert_eq!(south.read(0x600), 0xfff);
    assert_eq!(south.read(0x830), 0x3ff & !(1 << 4 | 1 << 3));
    // The model refuses the MAC's registers while any of it is closed.
    machine.bus(0x3_0000).write(0x2400, 0);
    machine.expect_no_guest_errors();
}

#[test]
fn what_cannot_be_opened_is_an_error() {
    struct Stuck;
    impl Bus for Stuck {
        fn read(&mut self, _: u32) -> u32 {
            0
        }
        fn write(&mut self, _: u32, _: u32) {}
    }
    let reset = Closed {
        reset: true,
        ..Closed::default()
    };
    assert_eq!(open_neta0(&mut Stuck), Err(reset));
}

#[test]
fn the_core_clock_follows_the_tree() {
    let machine = machine();
    let (mut north, mut south) = (machine.bus(NORTH), machine.bus(SOUTH));
    assert_eq!(crystal_hz(&mut north), 25_000_000);
    assert_eq!(gbe_core_hz(&mut north, &mut south), Some(250_000_000));
    // NETA0's own divider, then PLL A: 1600 MHz, halved at its output.
    let divide = south.read(0x08);
    south.write(0x08, divide | 1 << 14);
    assert_eq!(gbe_core_hz(&mut north, &mut south), Some(125_000_000));
    south.write(0x08, divide);
    south.write(0x00, 0);
    assert_eq!(gbe_core_hz(&mut north, &mut south), Some(200_000_000));
    // Divisors of 0 and 7 and PLLs that stand still are nonsense, not numbers.
    for nonsense in [divide & !(7 << 18), divide | 7 << 21] {
        south.write(0x08, nonsense);
        assert_eq!(gbe_core_hz(&mut north, &mut south), None);
    }
    south.write(0x08, divide);
    north.write(0x204, 0);
    assert_eq!(gbe_core_hz(&mut north, &mut south), None);
    north.write(0x204, u32::MAX);
    north.write(0x220, u32::MAX);
    north.write(0x230, u32::MAX);
    assert_eq!(gbe_core_hz(&mut north, &mut south), None);
    machine.expect_no_guest_errors();
}

#[test]
fn the_watchdog_bites_unless_it_is_fed() {
    let machine = machine();
    let mut watchdog = Watchdog::new(machine.bus(COUNTERS), machine.bus(MISC), 25_000_000);
    assert!(!watchdog.is_armed());
    watchdog.arm(3);
    assert!(watchdog.is_armed());
    let bitten = || machine.0.borrow_mut().0.take_reset_request();
    for _ in 0..10 {
        machine.pass_us(2_500_000);
        assert_eq!(watchdog.left_s(), 0);
        watchdog.feed();
        assert_eq!(watchdog.left_s(), 2);
        assert!(!bitten());
    }
    machine.pass_us(2_900_000);
    assert!(!bitten());
    machine.pass_us(200_000);
    assert!(bitten());
}

#[test]
fn long_times_do_not_wrap_and_a_disarmed_watchdog_sleeps() {
    let machine = machine();
    let mut watchdog = Watchdog::new(machine.bus(COUNTERS), machine.bus(MISC), 25_000_000);
    // 2^32 ticks are 343 seconds.
    watchdog.arm(600);
    machine.pass_us(500_000_000);
    assert_eq!(watchdog.left_s(), 99);
    watchdog.arm(1);
    watchdog.disarm();
    assert!(!watchdog.is_armed());
    machine.pass_us(5_000_000);
    assert!(!machine.0.borrow_mut().0.take_reset_request());
    machine.expect_no_guest_errors();
}

/// Counts writes on their way.
struct Watched<B> {
    bus: B,
    writes: usize,
}

impl<B: Bus> Bus for Watched<B> {
    fn read(&mut self, offset: u32) -> u32 {
        self.bus.read(offset)
    }

    fn write(&mut self, offset: u32, value: u32) {
        self.writes += 1;
        self.bus.write(offset, value);
    }
}
