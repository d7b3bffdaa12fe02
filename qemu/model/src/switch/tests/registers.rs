//! The bus, the global registers and interrupts.

use super::*;

#[test]
fn multi_chip_answers_with_two_registers_at_one_address() {
    let mut bench = Bench::new();
    for addr in 0..32 {
        for register in 0..32 {
            let answered = bench
                .switch
                .smi_read(&mut bench.env, addr, register)
                .is_some();
            assert_eq!(
                answered,
                addr == SMI && register < 2,
                "address {addr} register {register}"
            );
        }
    }
    assert!(!bench.switch.smi_write(&mut bench.env, 0x1b, 4, 0xffff));
    bench.assert_clean();
}

#[test]
fn single_chip_answers_at_its_device_addresses() {
    let mut env = Env::default();
    let mut switch = Switch::new(&mut env, SmiMode::SingleChip, Timing::FAST, PowerOn::Straps);
    assert_eq!(switch.smi_read(&mut env, 0x10, 3), Some(0x3410));
    assert_eq!(switch.smi_read(&mut env, 0x0f, 3), None);
    assert!(switch.smi_write(&mut env, 0x10, 7, 5));
    assert_eq!(switch.smi_read(&mut env, 0x10, 7), Some(5));
}

#[test]
fn an_impatient_bus_master_is_told() {
    let mut bench = Bench::new();
    bench.mdio_write(0, 0x9a03);
    let now = bench.env.now;
    bench.switch.smi_write(&mut bench.env, SMI, 0, 0x9a03);
    assert_eq!(bench.switch.smi_read(&mut bench.env, SMI, 1), Some(0xffff));
    assert_eq!((bench.env.guest_error_count(), bench.env.now), (2, now));
    assert_eq!(bench.read(0x10, 3), 0x3410, "and the bus recovers");
    bench.mdio_write(0, 0x8803);
    bench.smi_wait();
    bench.mdio_write(0, 0x9800 | 0x0e << 5);
    bench.smi_wait();
    bench.mdio_write(2, 0);
    assert_eq!(
        bench.env.guest_error_count(),
        5,
        "clause 45, no such device, no such register"
    );
}

#[test]
fn done_bits_are_latched_until_the_status_is_read() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(GLOBAL1, 0), 0x8801, "PPU, ready, EEPROM done");
    assert_eq!(bench.read(GLOBAL1, 0), 0x8800);
    bench.write(GLOBAL1, 5, 0xa000);
    bench.write(GLOBAL1, 0x0b, 0x8000);
    bench.write(GLOBAL1, 0x1d, 0x9000);
    bench.wait(1_000_000);
    assert_eq!(
        (bench.read(GLOBAL1, 0), bench.read(GLOBAL1, 0)),
        (0x8854, 0x8800)
    );
}

#[test]
fn a_phy_interrupt_climbs_through_global_2_to_the_status_and_the_pin() {
    let mut bench = Bench::linked(&[]);
    bench.phy_write(2, 18, 0x6400);
    bench.phy_read(2, 19);
    bench.write(GLOBAL2, 1, 1 << 2);
    bench.write(GLOBAL1, 4, 0x4080);
    assert!(!bench.switch.interrupt(&mut bench.env));
    bench.switch.set_cable(&mut bench.env, PortId(2), None);
    bench.switch.set_cable(&mut bench.env, PortId(1), None);
    assert_eq!(bench.read(GLOBAL2, 0), 1 << 2, "port 1 has not enabled any");
    assert_eq!(bench.read(GLOBAL1, 0) & 0x80, 0x80);
    assert_eq!(
        bench.read(GLOBAL1, 0) & 0x80,
        0x80,
        "a level: reading the status does not clear it"
    );
    assert!(bench.switch.interrupt(&mut bench.env));
    bench.phy_write(2, 22, 0);
    assert_eq!(bench.phy_read(2, 19) & 0x0400, 0x0400);
    assert_eq!(
        (bench.read(GLOBAL2, 0), bench.read(GLOBAL1, 0) & 0x80),
        (0, 0)
    );
    assert!(!bench.switch.interrupt(&mut bench.env));
    bench.assert_clean();
}

#[test]
fn the_masks_of_both_levels_hide_an_interrupt() {
    let mut bench = Bench::linked(&[]);
    bench.phy_write(1, 18, 0x0400);
    assert_eq!(bench.read(GLOBAL2, 0), 1 << 1);
    assert_eq!(bench.read(GLOBAL1, 0) & 0x80, 0, "masked in global 2");
    bench.write(GLOBAL2, 1, 0xffff);
    assert_eq!(bench.read(GLOBAL1, 0) & 0x80, 0x80);
    assert!(
        !bench.switch.interrupt(&mut bench.env),
        "not enabled in global 1"
    );
}

#[test]
fn the_watchdog_reports_its_event_until_read() {
    let mut bench = Bench::new();
    bench.write(GLOBAL2, 1, 0x8000);
    bench.switch.watchdog_event(&mut bench.env, 0x04);
    assert_eq!(bench.read(GLOBAL2, 0), 0, "not enabled");
    bench.write(GLOBAL2, 0x1b, 0x910f);
    assert_eq!(
        (bench.read(GLOBAL2, 0), bench.read(GLOBAL1, 0) & 0x80),
        (0x8000, 0x80)
    );
    bench.write(GLOBAL2, 0x1b, 0x1200);
    assert_eq!(
        (bench.read(GLOBAL2, 0x1b), bench.read(GLOBAL2, 0)),
        (0x1204, 0)
    );
    bench.write(GLOBAL2, 0x1b, 0x1300);
    assert_eq!(bench.read(GLOBAL2, 0x1b), 0x1304, "the history stays");
}

#[test]
fn a_software_reset_takes_a_while_and_returns_ports_to_their_straps() {
    let mut bench = Bench::linux(true);
    bench.atu_load(0, A, 0x002e);
    let phy_control = bench.phy_read(1, 0);
    bench.write(GLOBAL1, 4, 0xc000);
    assert_eq!(bench.read(GLOBAL1, 4) & 0x8000, 0x8000);
    assert_eq!(bench.read(GLOBAL1, 0) & 0x8800, 0);
    assert!(
        bench.send(1, &plain(BROADCAST, A)).is_empty(),
        "no frame passes meanwhile"
    );
    bench.wait(Timing::FAST.reset);
    assert_eq!(
        (bench.read(GLOBAL1, 4), bench.read(GLOBAL1, 0) & 0x8800),
        (0x4000, 0x8800)
    );
    assert_eq!((bench.read(0x11, 4), bench.read(0x11, 6)), (0x007f, 0x003d));
    assert_eq!(bench.phy_read(1, 0), phy_control);
    assert_eq!(
        bench.ports(1, &plain(BROADCAST, A)),
        [0, 2, 3],
        "forwarding again: the leak of the straps"
    );
    bench.assert_clean();
}

#[test]
fn a_hardware_reset_silences_the_bus_for_a_while() {
    let mut bench = Bench::linux(true);
    bench.switch.hardware_reset(&mut bench.env, PowerOn::Straps);
    assert_eq!(bench.mdio_read(0), 0xffff);
    bench.wait(HARDWARE_RESET_NS);
    assert_eq!(bench.read(0x10, 3), 0x3410);
    assert_eq!(bench.read(0x10, 4), 0x007f);
    assert_eq!(bench.phy_read(1, 0), 0x1940, "the PHYs are strapped down");
    bench.phy_write(1, 0, 0x1140);
    bench.wait(Timing::FAST.autoneg_1000);
    assert!(
        bench.switch.link(&mut bench.env, PortId(1)).is_some(),
        "the cable is still there"
    );
}

#[test]
fn phys_answer_by_both_clauses_and_only_where_they_are() {
    let mut bench = Bench::new();
    for port in 1..=4 {
        assert_eq!(
            (bench.phy_read(port, 2), bench.phy_read(port, 3)),
            (0x0141, 0x0c00)
        );
    }
    assert_eq!(
        (bench.phy_read(0, 2), bench.phy_read(5, 2)),
        (0xffff, 0xffff)
    );
    let c45 = |bench: &mut Bench, operation: u16, port: u8, mmd: u16, data: Option<u16>| {
        if let Some(data) = data {
            bench.write(GLOBAL2, 0x19, data);
        }
        bench.write(
            GLOBAL2,
            0x18,
            0x8000 | operation << 10 | u16::from(0x10 + port) << 5 | mmd,
        );
        bench.poll_idle(GLOBAL2, 0x18);
        bench.read(GLOBAL2, 0x19)
    };
    c45(&mut bench, 0, 1, 3, Some(20));
    assert_eq!(c45(&mut bench, 3, 1, 3, None), 0x0006, "EEE capability");
    c45(&mut bench, 0, 5, 4, Some(0x2000));
    assert_eq!(
        c45(&mut bench, 3, 5, 4, None),
        0x1940,
        "the SERDES, powered down"
    );
    c45(&mut bench, 1, 5, 4, Some(0x1140));
    bench
        .switch
        .set_cable(&mut bench.env, PortId(5), Some(Partner::GIGABIT));
    c45(&mut bench, 0, 5, 4, Some(0x2001));
    assert_eq!(c45(&mut bench, 3, 5, 4, None) & 0x24, 0x24);
    assert_eq!(bench.read(0x15, 0) & 0x0e0f, 0x0e09, "port 5 is linked");
    bench.assert_clean();
}

#[test]
fn cross_chip_vlans_rate_limits_and_the_eeprom_answer() {
    let mut bench = Bench::new();
    bench.pvt_write(3, 2, 0x15);
    bench.write(GLOBAL2, 0x0b, 0xc032);
    bench.poll_idle(GLOBAL2, 0x0b);
    assert_eq!(bench.read(GLOBAL2, 0x0c), 0x15);
    bench.write(GLOBAL2, 0x0b, 0x9000);
    bench.poll_idle(GLOBAL2, 0x0b);
    assert_eq!(bench.switch.g2.pvt(3, 2, false), 0x7f);
    bench.write(GLOBAL2, 0x1d, 0x4000);
    bench.pvt_write(0, 0x3f, 0x2a);
    assert_eq!(bench.switch.g2.pvt(1, 31, false), 0x2a, "five port bits");
    bench.write(GLOBAL2, 0x0a, 0x1234);
    bench.write(GLOBAL2, 0x09, 0xb100);
    bench.poll_idle(GLOBAL2, 0x09);
    bench.write(GLOBAL2, 0x09, 0xc100);
    bench.poll_idle(GLOBAL2, 0x09);
    assert_eq!(bench.read(GLOBAL2, 0x0a), 0x1234);
    bench.write(GLOBAL2, 0x14, 0xc000);
    bench.poll_idle(GLOBAL2, 0x14);
    assert_eq!(bench.read(GLOBAL2, 0x14) & 0x08ff, 0x00ff);
    bench.assert_clean();
}

#[test]
fn the_time_of_day_runs_at_125_megahertz() {
    let mut bench = Bench::new();
    let tai = |bench: &mut Bench, address: u16| {
        bench.write(GLOBAL2, 0x16, 0xc000 | 0x1e << 8 | address);
        bench.poll_idle(GLOBAL2, 0x16);
        (
            u32::from(bench.read(GLOBAL2, 0x17)),
            u32::from(bench.read(GLOBAL2, 0x17)),
        )
    };
    assert_eq!(tai(&mut bench, 1).0, 8000);
    let clock = |(low, high): (u32, u32)| high << 16 | low;
    let before = clock(tai(&mut bench, 0x0e));
    bench.wait(1_000_000_000);
    let passed = clock(tai(&mut bench, 0x0e)) - before;
    assert!((125_000_000..126_000_000).contains(&passed), "{passed}");
    bench.write(GLOBAL2, 0x17, 0x88f7);
    bench.write(GLOBAL2, 0x16, 0xe000 | 0x1f << 8);
    bench.poll_idle(GLOBAL2, 0x16);
    bench.write(GLOBAL2, 0x16, 0x8000 | 0x1f << 8);
    bench.poll_idle(GLOBAL2, 0x16);
    assert_eq!(bench.read(GLOBAL2, 0x17), 0x88f7, "storage elsewhere");
}

#[test]
fn atu_statistics_add_up_over_the_four_bins() {
    let mut bench = Bench::new();
    for last in 0..20 {
        bench.atu_load(
            u16::from(last & 1),
            [2, 0, 0, 0, 0, last],
            if last < 5 { 0x27 } else { 0x2e },
        );
    }
    let mut sum = |mode: u16| -> u16 {
        (0..4)
            .map(|bin| {
                bench.write(GLOBAL2, 0x0e, bin << 14 | mode << 12);
                bench.read(GLOBAL2, 0x0e) & 0x0fff
            })
            .sum()
    };
    assert_eq!(
        [sum(0), sum(1), sum(2), sum(3)],
        [20, 5, 10, 2],
        "all, dynamic, and those of FID 1"
    );
}

#[test]
fn reserved_registers_are_guest_errors() {
    let mut bench = Bench::new();
    for (device, register) in [
        (GLOBAL1, 0x01),
        (GLOBAL1, 0x1b),
        (GLOBAL2, 0x10),
        (GLOBAL2, 0x1f),
        (0x11, 0x1d),
    ] {
        bench.write(device, register, 0);
        bench.read(device, register);
    }
    assert_eq!(bench.env.guest_error_count(), 10);
}

#[test]
fn the_c_mode_of_port_5_opens_with_the_hidden_register() {
    let mut bench = Bench::new();
    bench.port(5, 0, 0x000a);
    assert_eq!(
        (
            bench.read(0x15, 0) & 0xf,
            bench.env.take_guest_errors().len()
        ),
        (0x9, 1)
    );
    bench.port(5, 0x1a, 0xa000);
    bench.port(4, 0x1a, 0xc000 | 7 << 10 | 0x15 << 5);
    bench.poll_idle(0x14, 0x1a);
    bench.port(5, 0, 0x000a);
    assert_eq!(bench.read(0x15, 0) & 0xf, 0xa);
    bench.assert_clean();
}

#[test]
fn links_come_by_themselves_at_the_announced_time() {
    let mut bench = Bench::with(PowerOn::UBoot, &[]);
    bench
        .switch
        .set_cable(&mut bench.env, PortId(1), Some(Partner::GIGABIT));
    let at = bench.switch.next_event(&bench.env).unwrap();
    assert_eq!(at, bench.env.now + Timing::FAST.autoneg_1000);
    bench.env.now = at - 1;
    assert_eq!(bench.switch.link(&mut bench.env, PortId(1)), None);
    bench.env.now = at;
    assert!(bench.switch.link(&mut bench.env, PortId(1)).is_some());
    assert_eq!(bench.switch.next_event(&bench.env), None);
}

#[test]
fn without_the_ppu_a_port_does_not_hear_of_its_phy() {
    let mut bench = Bench::linked(&[]);
    bench.write(GLOBAL1, 4, 0);
    assert_eq!(bench.read(0x11, 0) & 0x0800, 0);
    bench.write(GLOBAL1, 4, 0x4000);
    assert_eq!(bench.read(0x11, 0) & 0x0800, 0x0800);
}

// Faults.

#[test]
fn stuck_busy_bits_never_clear() {
    for (unit, device, register, start) in [
        (2, GLOBAL1, 0x0b, 0x8000),
        (3, GLOBAL1, 0x05, 0xa000),
        (4, GLOBAL1, 0x1d, 0x8000),
        (5, GLOBAL2, 0x18, 0x9a22),
        (6, GLOBAL2, 0x0b, 0x9000),
    ] {
        let mut bench = Bench::new();
        bench.write(device, register, start);
        bench
            .env
            .faults
            .set_list(&format!("switch-busy={unit}"))
            .unwrap();
        bench.wait(1 << 50);
        assert_ne!(
            bench.read(device, register) & 0x8000,
            0,
            "{device:#x} {register:#x}"
        );
        bench.env.faults.set_list("").unwrap();
        assert_eq!(bench.read(device, register) & 0x8000, 0);
    }
    let mut bench = Bench::new();
    bench.env.faults.set_list("switch-busy").unwrap();
    bench.wait(1 << 50);
    assert_ne!(bench.mdio_read(0) & 0x8000, 0);
}

#[test]
fn a_reset_can_stick_and_the_switch_can_vanish() {
    let mut bench = Bench::linux(true);
    bench.env.faults.set_list("switch-reset-stuck*1").unwrap();
    bench.write(GLOBAL1, 4, 0xc000);
    bench.wait(1 << 50);
    assert_eq!(
        (
            bench.read(GLOBAL1, 4) & 0x8000,
            bench.read(GLOBAL1, 0) & 0x8800
        ),
        (0x8000, 0)
    );
    let mut bench = Bench::linux(true);
    bench.env.faults.set_list("switch-vanish").unwrap();
    assert_eq!(
        (bench.mdio_read(0), bench.ports(1, &plain(H, A))),
        (0xffff, vec![])
    );
    bench.env.faults.set_list("").unwrap();
    assert_eq!(bench.read(0x10, 3), 0x3410);
}

#[test]
fn a_silent_reset_is_seen_only_by_what_is_gone() {
    let mut bench = Bench::linux(true);
    bench.env.faults.set_list("switch-silent-reset*1").unwrap();
    assert_eq!(bench.mdio_read(0), 0xffff);
    bench.wait(HARDWARE_RESET_NS);
    assert_eq!((bench.read(0x10, 3), bench.read(0x10, 4)), (0x3410, 0x007f));
}

#[test]
fn a_phy_can_negotiate_for_ever_and_a_link_can_flap() {
    let mut bench = Bench::with(PowerOn::UBoot, &[]);
    bench.env.faults.set_list("phy-never-completes=2").unwrap();
    bench.plug_all();
    let up = |bench: &mut Bench| {
        [1, 2, 3].map(|port| bench.switch.link(&mut bench.env, PortId(port)).is_some())
    };
    assert_eq!(up(&mut bench), [true, false, true]);
    bench.env.faults.set_list("link-flap=3").unwrap();
    bench.env.now = 10 * FLAP_PERIOD_NS + 1;
    assert_eq!(
        up(&mut bench),
        [true, false, false],
        "port 2 begins anew, port 3 is pulled"
    );
    let mut down = 0;
    while bench.env.now < 12 * FLAP_PERIOD_NS {
        bench.env.now = bench.switch.next_event(&bench.env).unwrap();
        down += u32::from(bench.switch.link(&mut bench.env, PortId(3)).is_none());
    }
    assert!(down >= 2, "it drops again every second");
    bench.env.faults.set_list("").unwrap();
    bench.wait(FLAP_DOWN_NS + Timing::FAST.autoneg_1000);
    assert_eq!(up(&mut bench), [true; 3]);
}
