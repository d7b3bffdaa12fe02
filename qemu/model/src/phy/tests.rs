//! The PHY alone, register by register.

use super::*;
use crate::switch::context::tests::context;

const NO_PAUSE: Partner = Partner::Autoneg {
    modes: Modes::ALL,
    pause: false,
    asymmetric_pause: false,
    forced_master: None,
};

struct Bench {
    phy: Phy,
    context: Context<'static>,
}

impl Bench {
    fn new(partner: Option<Partner>) -> Self {
        let context = context();
        let mut phy = Phy::new(&context);
        phy.set_partner(partner, context.now, context.timing);
        let mut bench = Self { phy, context };
        bench.write(0, 0x1140);
        bench
    }

    fn read(&mut self, register: u8) -> u16 {
        self.phy.read(register, &self.context)
    }

    fn write(&mut self, register: u8, value: u16) {
        self.phy.write(register, value, &mut self.context);
    }

    fn paged(&mut self, page: u16, register: u8, value: Option<u16>) -> u16 {
        self.write(22, page);
        if let Some(value) = value {
            self.write(register, value);
        }
        let read = self.read(register);
        self.write(22, 0);
        read
    }

    fn wait(&mut self, ns: u64) {
        self.context.now += ns;
    }

    fn wait_for_link(&mut self) {
        self.wait(self.context.timing.autoneg_1000);
    }
}

#[test]
fn identity_has_no_model_number() {
    let mut bench = Bench::new(None);
    assert_eq!((bench.read(2), bench.read(3)), (0x0141, 0x0c00));
}

#[test]
fn straps_leave_it_powered_down_or_up_as_doubted() {
    for (reading, control) in [(StrapPhyPower::Down, 0x1940), (StrapPhyPower::Up, 0x1140)] {
        let mut context = context();
        context.doubts.strap_phy_power = reading;
        assert_eq!(Phy::new(&context).read(0, &context), control);
    }
}

#[test]
fn gigabit_takes_its_time_and_reads_as_negotiated() {
    let mut bench = Bench::new(Some(Partner::GIGABIT));
    bench.wait(bench.context.timing.autoneg_1000 - 1);
    assert_eq!(
        (bench.read(1), bench.read(17), bench.read(10)),
        (0x7949, 0, 0)
    );
    bench.wait(1);
    assert_eq!(bench.read(1), 0x796d, "no drop is latched on the way up");
    assert_eq!(
        bench.read(17),
        0xaf08,
        "1000 full, resolved, link, both pauses"
    );
    assert_eq!(bench.read(5), 0xcde1);
    assert_eq!(bench.read(10), 0x7c00);
    assert_eq!(
        (bench.read(6), bench.read(6)),
        (7, 5),
        "page received clears on read"
    );
}

#[test]
fn the_best_common_mode_wins() {
    use Speed::{S10, S100, S1000};
    for (modes, expected) in [
        (Modes::ALL, Some((S1000, true))),
        (
            Modes::one(S1000, false).or(Modes::one(S100, true)),
            Some((S1000, false)),
        ),
        (
            Modes::one(S100, true).or(Modes::one(S10, true)),
            Some((S100, true)),
        ),
        (
            Modes::one(S100, false).or(Modes::one(S10, true)),
            Some((S100, false)),
        ),
        (Modes::one(S10, true), Some((S10, true))),
        (Modes::one(S10, false), Some((S10, false))),
        (Modes::NONE, None),
    ] {
        let partner = Partner::Autoneg {
            modes,
            pause: false,
            asymmetric_pause: false,
            forced_master: None,
        };
        let mut bench = Bench::new(Some(partner));
        bench.wait_for_link();
        bench.read(1);
        assert_eq!(
            bench.phy.link().map(|link| (link.speed, link.full_duplex)),
            expected
        );
    }
}

#[test]
fn pause_resolves_by_the_table() {
    for (own, pause, asymmetric, expected) in [
        (0x0400, true, false, (true, true)),
        (0x0c00, true, true, (true, true)),
        (0x0800, true, true, (true, false)),
        (0x0c00, false, true, (false, true)),
        (0x0400, false, true, (false, false)),
        (0x0800, false, true, (false, false)),
        (0x0800, true, false, (false, false)),
        (0x0000, true, true, (false, false)),
    ] {
        assert_eq!(
            resolve_pause(own, pause, asymmetric),
            expected,
            "{own:#06x} {pause} {asymmetric}"
        );
    }
}

#[test]
fn a_partner_that_does_not_negotiate_is_detected_at_half_duplex() {
    let mut bench = Bench::new(Some(Partner::Forced {
        speed: Speed::S100,
        full_duplex: true,
    }));
    bench.wait_for_link();
    assert_eq!(
        (bench.read(17) & 0xe400, bench.read(5), bench.read(6) & 1),
        (0x4400, 0x0080, 0)
    );
    assert_eq!(bench.read(1) & 0x24, 0x24);
}

#[test]
fn a_new_advertisement_waits_for_the_restart() {
    let mut bench = Bench::new(Some(NO_PAUSE));
    bench.wait_for_link();
    bench.write(9, 0);
    bench.wait_for_link();
    assert_eq!(bench.read(17) >> 14, 2);
    bench.write(0, 0x1340);
    assert_eq!(
        bench.read(0) & 0x0200,
        0x0200,
        "restart reads 1 for a moment"
    );
    assert_eq!(bench.read(1) & 0x24, 0, "the link is down meanwhile");
    bench.wait_for_link();
    assert_eq!((bench.read(0), bench.read(17) >> 14), (0x1140, 1));
}

#[test]
fn a_forced_speed_waits_for_the_soft_reset() {
    let mut bench = Bench::new(Some(Partner::Forced {
        speed: Speed::S10,
        full_duplex: true,
    }));
    bench.wait_for_link();
    bench.write(0, 0x0100);
    bench.wait_for_link();
    assert_eq!(
        bench.read(17) & 0x2000,
        0,
        "still the parallel detection's half duplex"
    );
    bench.write(0, 0x8100);
    assert_ne!(bench.read(0) & 0x8000, 0);
    bench.wait_for_link();
    assert_eq!((bench.read(0), bench.read(17) & 0xec00), (0x0100, 0x2c00));
    assert_eq!(bench.read(1) & 0x20, 0, "nothing was negotiated");
}

#[test]
fn a_lost_link_is_latched_until_read() {
    let mut bench = Bench::new(Some(Partner::GIGABIT));
    bench.wait_for_link();
    bench.read(1);
    bench
        .phy
        .flap(bench.context.now, 1000, bench.context.timing);
    bench.wait_for_link();
    bench.wait(1000);
    assert_eq!(bench.read(17) & 0x0400, 0x0400, "the real-time bit is back");
    assert_eq!((bench.read(1) & 4, bench.read(1) & 4), (0, 4));
}

#[test]
fn power_down_takes_the_link_and_power_up_negotiates_again() {
    let mut bench = Bench::new(Some(Partner::GIGABIT));
    bench.wait_for_link();
    bench.write(0, 0x1940);
    bench.wait_for_link();
    assert_eq!(bench.phy.link(), None);
    bench.write(0, 0x1140);
    bench.wait_for_link();
    bench.read(1);
    assert!(bench.phy.link().is_some());
}

#[test]
fn two_masters_are_a_fault_and_no_link() {
    let partner = Partner::Autoneg {
        modes: Modes::ALL,
        pause: false,
        asymmetric_pause: false,
        forced_master: Some(true),
    };
    let mut bench = Bench::new(Some(partner));
    bench.write(9, 0x1b00);
    bench.write(0, 0x1340);
    bench.wait_for_link();
    assert_eq!((bench.read(10), bench.phy.link()), (0x8000, None));
    bench.write(9, 0x1300);
    bench.write(0, 0x1340);
    bench.wait_for_link();
    assert_eq!(
        bench.read(10) & 0xf000,
        0x3000,
        "slave, both receivers fine"
    );
}

#[test]
fn interrupts_are_enabled_by_18_and_cleared_by_reading_19() {
    let mut bench = Bench::new(Some(Partner::GIGABIT));
    bench.wait_for_link();
    bench.read(1);
    assert!(!bench.phy.interrupt(), "not enabled");
    bench.write(18, 0x6400);
    assert!(bench.phy.interrupt());
    assert_eq!(bench.read(19), 0x7c00);
    assert!(!bench.phy.interrupt());
    bench
        .phy
        .set_partner(None, bench.context.now, bench.context.timing);
    assert!(bench.phy.interrupt());
    assert_eq!((bench.read(19), bench.read(19)), (0x0400, 0));
}

#[test]
fn pages_have_their_own_storage() {
    let mut bench = Bench::new(None);
    for (at, page) in [2, 3, 5, 0x12, 0xf8].into_iter().enumerate() {
        bench.paged(page, 8, Some(0x30 + at as u16));
    }
    for (at, page) in [2, 3, 5, 0x12, 0xf8].into_iter().enumerate() {
        assert_eq!(bench.paged(page, 8, None), 0x30 + at as u16);
    }
    assert_eq!(bench.read(8), 0, "page 0 is untouched");
}

#[test]
fn the_mmd_window_addresses_reads_and_increments() {
    let mut bench = Bench::new(None);
    let mut window = |control: u16, data: Option<u16>| {
        bench.write(13, control);
        if let Some(data) = data {
            bench.write(14, data);
            return data;
        }
        bench.read(14)
    };
    window(0x0003, Some(20));
    assert_eq!(window(0x4003, None), 0x0006, "EEE at 100 and 1000");
    window(0x0007, Some(60));
    window(0x8007, Some(0x0006));
    window(0x8007, Some(0x1234));
    window(0x0007, Some(60));
    assert_eq!(
        [window(0x8007, None), window(0x8007, None)],
        [0x0006, 0],
        "register 61 is the partner's"
    );
}

#[test]
fn temperature_is_read_where_the_doubt_says() {
    let mut bench = Bench::new(None);
    bench.phy.set_degrees(60);
    assert_eq!(
        (bench.paged(6, 27, None), bench.paged(6, 28, None)),
        (85, 0)
    );
    bench.context.doubts.phy_temperature = PhyTemperature::Register28;
    assert_eq!(
        (bench.paged(6, 27, None), bench.paged(6, 28, None)),
        (0, 135)
    );
}

#[test]
fn the_cable_test_finds_each_pair_and_hangs_while_negotiating() {
    let mut bench = Bench::new(None);
    bench.phy.set_pairs([
        Pair::Ok,
        Pair::Open(1234),
        Pair::Short(250),
        Pair::CrossShort(99),
    ]);
    bench.phy.set_partner(
        Some(Partner::GIGABIT),
        bench.context.now,
        bench.context.timing,
    );
    bench
        .phy
        .set_never_completes(true, bench.context.now, bench.context.timing);
    bench.paged(7, 21, Some(0x8000));
    assert_eq!(
        bench.context.env.guest_error_count(),
        1,
        "page 5 comes first"
    );
    bench.paged(5, 23, Some(0x0603));
    bench.paged(7, 21, Some(0x8000));
    assert_eq!(bench.context.env.guest_error_count(), 1);
    bench.wait(1_000_000_000_000);
    assert_eq!(
        bench.paged(7, 21, None) & 0x0800,
        0x0800,
        "negotiation is on and not complete"
    );
    bench.write(0, 0x8140);
    assert_eq!(bench.paged(7, 21, None) & 0x0800, 0);
    assert_eq!(bench.paged(7, 20, None), 0x4321);
    assert_eq!(
        [16, 17, 18, 19].map(|register| bench.paged(7, register, None)),
        [0, 1234, 250, 99]
    );
    bench.paged(7, 21, Some(0x8400));
    bench.wait(bench.context.timing.cable_test);
    assert_eq!(bench.paged(7, 17, None), 12, "metres on request");
}

#[test]
fn loopback_links_at_the_set_speed_without_a_cable() {
    let mut bench = Bench::new(None);
    bench.write(0, 0xc140);
    bench.wait(bench.context.timing.phy_reset + bench.context.timing.forced_link);
    bench.read(1);
    assert!(bench.phy.loops_back());
    assert_eq!(bench.phy.link().map(|link| link.speed), Some(Speed::S1000));
}

#[test]
fn read_only_registers_refuse_and_complain() {
    let mut bench = Bench::new(None);
    for register in [1, 2, 3, 5, 10, 17, 19] {
        bench.write(register, 0xffff);
    }
    assert_eq!(bench.context.env.guest_error_count(), 7);
}
