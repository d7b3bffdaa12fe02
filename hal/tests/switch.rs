//! The switch driver against the machine model: under every reading of every doubt, with every fault.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod board;
mod rig;

use board::readings;
use espressobin_model::doubts::{self, Doubts};
use espressobin_model::phy::{Modes, Partner, Speed as ModelSpeed};
use espressobin_model::switch::{PortId, Timing};
use hal::net::frame::{Frame, Pool};
use hal::net::mdio::{PhyAddr, RegAddr};
use hal::net::mv88e6xxx::errand::{MAX_ENTRIES, Place, Request, Step};
use hal::net::mv88e6xxx::{Error, Event, PORTS, PortSet, ROUND_US, Stage, Trouble};
use hal::net::phy::{self, Pause, Setting, Speed, Up};
use hal::net::steps;
use hal::net::tag::{Origin, Protocol};
use rig::*;
use std::task::Poll;

const GIGABIT: Up = Up {
    speed: Speed::Mbps1000,
    full_duplex: true,
    pause: Pause { tx: true, rx: true },
};

fn as_frame(pool: &mut Pool, bytes: &[u8]) -> Frame {
    let mut frame = pool.take().unwrap();
    assert!(frame.set_len(bytes.len()));
    frame.bytes_mut().copy_from_slice(bytes);
    frame
}

/// Every user port reaches the CPU and is reached by it, and nobody else.
#[track_caller]
fn expect_separate_networks(rig: &Rig, protocol: Protocol, what: &str) {
    let mut pool = Pool::new(1);
    let tagger = tagger(&config(protocol));
    for (number, station) in [(1, A), (2, B), (3, C)] {
        for destination in [HOST, A, B, C, BROADCAST, MULTICAST] {
            let plain = frame(destination, station);
            let sent = rig.send(number, &plain);
            assert_eq!(sent.len(), 1, "{what}: from port {number}: {sent:x?}");
            assert_eq!(sent[0].0, 0, "{what}");
            let mut received = as_frame(&mut pool, &sent[0].1);
            let source = tagger.take_off(&mut received).unwrap();
            assert_eq!(source.port, port(number), "{what}");
            assert_eq!(source.origin, Origin::Forwarded, "{what}");
            assert_eq!(received.bytes(), plain, "{what}");
            pool.put(received);
        }
        let plain = frame(station, HOST);
        let mut tagged = as_frame(&mut pool, &plain);
        assert!(tagger.put_on(&mut tagged, port(number)));
        assert_eq!(rig.send(0, tagged.bytes()), [(number, plain)], "{what}");
        pool.put(tagged);
    }
}

#[test]
fn it_comes_up_as_separate_networks_under_every_reading() {
    for (name, doubts) in readings(doubts::all()) {
        for protocol in [Protocol::EtherTypeDsa, Protocol::Dsa] {
            for found in [Found::Straps, Found::UBoot] {
                let what = format!("{name}, {protocol:?}, {found:?}");
                let rig = Rig::new(machine(found, doubts.clone(), Timing::FAST));
                rig.plug([1, 2, 3]);
                let mut run = rig.start(config(protocol));
                run.expect_links([1, 2, 3]);
                assert_eq!(rig.mailbox.link(port(2)), Some(GIGABIT), "{what}");
                expect_separate_networks(&rig, protocol, &what);
                run.pass(2_000_000);
                assert_eq!(rig.mailbox.repairs(), 0, "{what}: {:?}", run.events);
                let links = |event: &&Event| matches!(event, Event::Link { .. });
                assert_eq!(run.events.iter().filter(links).count(), 3, "{what}");
                rig.machine.expect_no_guest_errors();
            }
        }
    }
}

/// Broadcast, multicast, unknown unicast, and a station at another port, for each user port.
struct Flood([(u8, [Vec<u8>; 4]); 3]);

impl Flood {
    fn new() -> Self {
        Flood(
            [(1, A, B), (2, B, C), (3, C, A)].map(|(number, station, other)| {
                let to = [BROADCAST, MULTICAST, HOST, other];
                (number, to.map(|destination| frame(destination, station)))
            }),
        )
    }

    /// Frames of one flood of all ports that came out of a user port.
    fn leaks(&self, rig: &Rig) -> usize {
        let frames = self
            .0
            .iter()
            .flat_map(|(port, frames)| frames.iter().map(move |frame| (*port, frame)));
        frames
            .map(|(port, frame)| {
                let sent = rig.send(port, frame);
                sent.iter().filter(|sent| sent.0 != 0).count()
            })
            .sum()
    }
}

/// Floods every port at every step of the bring-up, from the boot loader's state and from the straps'.
#[test]
fn no_frame_passes_between_user_ports_once_the_first_writes_are_done() {
    /// A product number and three control registers, at three frames each.
    const STOPPED_WITHIN_US: u64 = 1_000;
    for (name, doubts) in readings(doubts::all()) {
        for found in [Found::Straps, Found::UBoot] {
            let rig = Rig::new(machine(found, doubts.clone(), Timing::REALISTIC));
            rig.plug([1, 2, 3]);
            // An older boot loader: everything open, all links up.
            open_everything(&rig);
            rig.machine.pass_us(3_000_000);
            let flood = Flood::new();
            let leaks = || flood.leaks(&rig);
            assert!(leaks() > 0, "{name}, {found:?}: nothing leaks before");
            let mut run = rig.start(config(Protocol::EtherTypeDsa));
            let start = rig.now_us();
            let mut last_leak_us = 0;
            let mut up = false;
            let mut steps = 0;
            while !up && rig.now_us() - start < 8_000_000 {
                run.step();
                steps += 1;
                // Nothing but PHYs is written later; there every sixteenth step will do.
                let released = run.has(|event| matches!(event, Event::Ready { .. }));
                if (!released || steps % 16 == 0) && leaks() > 0 {
                    last_leak_us = rig.now_us() - start;
                }
                up = [1, 2, 3].iter().all(|port| run.is_up(*port));
            }
            assert!(up, "{name}, {found:?}: {:?}", run.events);
            assert!(
                last_leak_us < STOPPED_WITHIN_US,
                "{name}, {found:?}: leak after {last_leak_us} us"
            );
            expect_separate_networks(&rig, Protocol::EtherTypeDsa, &name);
            rig.machine.expect_no_guest_errors();
        }
    }
}

#[test]
fn the_first_writes_after_start_and_after_the_reset_stop_every_port() {
    const CONTROL_0: u8 = 4;
    const VLAN_MAP: u8 = 6;
    let rig = Rig::plugged();
    let mut run = rig.start(config(Protocol::EtherTypeDsa));
    run.expect_links([1, 2, 3]);
    let writes = rig.writes.borrow();
    let stopped = |writes: &[Write]| {
        let ports = |writes: &[Write], register| {
            let mut ports: Vec<u8> = writes.iter().map(|write| write.0).collect();
            ports.sort_unstable();
            assert_eq!(ports, [0x10, 0x11, 0x12, 0x13, 0x14, 0x15]);
            assert!(
                writes
                    .iter()
                    .all(|write| write.1 == register && write.2 == 0)
            );
        };
        ports(&writes[..6], CONTROL_0);
        ports(&writes[6..12], VLAN_MAP);
    };
    stopped(&writes);
    let is_reset = |write: &Write| write.0 == 0x1b && write.1 == 4 && write.2 & 0x8000 != 0;
    let reset = writes.iter().position(is_reset).unwrap();
    stopped(&writes[reset + 1..]);
    // Each of the four PHYs was powered down before the reset: global 2, PHY data.
    let powered_down = |write: &&Write| write.0 == 0x1c && write.1 == 0x19 && write.2 == 0x1940;
    assert_eq!(writes[..reset].iter().filter(powered_down).count(), 4);
    // Ports open the CPU's first, and PHYs are released after that.
    let opens = |write: &Write| write.1 == CONTROL_0 && write.2 & 3 == 3;
    let opened: Vec<usize> = (0..writes.len()).filter(|at| opens(&writes[*at])).collect();
    let devices: Vec<u8> = opened.iter().map(|at| writes[*at].0).collect();
    assert_eq!(devices, [0x10, 0x11, 0x12, 0x13]);
    let released = |write: &Write| write.0 == 0x1c && write.1 == 0x19 && write.2 & 0x1800 == 0x1000;
    assert!(writes.iter().position(released).unwrap() > opened[3]);
}

/// What the worst of boot loaders would leave behind: all ports forward to all, all PHYs on.
fn open_everything(rig: &Rig) {
    use hal::net::mv88e6xxx::Phys;
    use hal::net::steps::{Registers, run};
    // Without a scheduler: every look at the clock lets a microsecond pass.
    run(async {
        let mut regs = rig.registers();
        for number in 0..6 {
            let device = PhyAddr(0x10 + number);
            regs.write(device, RegAddr(6), 0x3f & !(1 << number))
                .await
                .unwrap();
            regs.write(device, RegAddr(4), 0x7f).await.unwrap();
        }
        let mut idle = false;
        let mut phys = Phys::new(&mut regs, &mut idle);
        for number in 1..=4 {
            let device = PhyAddr(0x10 + number);
            phys.write(device, RegAddr(0), 0x1340).await.unwrap();
        }
    });
}

#[test]
fn a_restart_of_the_program_leaks_nothing_at_all() {
    for (name, doubts) in readings(doubts::all()) {
        let rig = Rig::new(machine(Found::UBoot, doubts, Timing::FAST));
        rig.plug([1, 2, 3]);
        let flood = Flood::new();
        let mut run = rig.start(config(Protocol::EtherTypeDsa));
        run.expect_links([1, 2, 3]);
        // In the midst of a register access, too.
        for steps in 0..4 {
            (0..steps).for_each(|_| run.step());
            run = rig.start(config(Protocol::EtherTypeDsa));
            let mut leaks = 0;
            let ready = run.until(5_000_000, |run| {
                leaks += flood.leaks(&rig);
                run.has(|event| matches!(event, Event::Ready { .. }))
            });
            assert!(ready, "{name}: {:?}", run.events);
            assert_eq!(leaks, 0, "{name}");
        }
        run.expect_links([1, 2, 3]);
        rig.machine.expect_no_guest_errors();
    }
}

#[test]
fn a_step_puts_at_most_one_frame_on_the_management_bus() {
    let rig = Rig::plugged();
    let mut run = rig.start(config(Protocol::EtherTypeDsa));
    let mut most = 0;
    while !run.is_up(1) {
        let before = rig.frames.get();
        run.step();
        most = most.max(rig.frames.get() - before);
    }
    assert_eq!(most, 1);
    // And an idle second costs few of them.
    run.pass(1_000_000);
    let before = rig.frames.get();
    run.pass(10_000_000);
    let per_second = (rig.frames.get() - before) / 10;
    assert!(per_second <= 45, "{per_second} frames per idle second");
}

// Links.

#[test]
fn every_flap_is_told_once_and_the_link_comes_back() {
    let rig = Rig::plugged();
    let mut run = rig.start(config(Protocol::EtherTypeDsa));
    run.expect_links([1, 2, 3]);
    run.events.clear();
    for flap in 0..20 {
        // Shorter than the time between two looks, at all phases of it.
        run.pass(37_000 * flap);
        rig.board(|board| board.switch.flap_link(&mut board.env, PortId(1), 1_000_000));
        assert!(run.until(2_000_000, |run| !run.is_up(1)), "flap {flap}");
        run.expect_links([1]);
    }
    let link = |event| Event::Link {
        port: port(1),
        event,
    };
    let expected: Vec<_> = (0..20)
        .flat_map(|_| [link(phy::Event::Down), link(phy::Event::Up(GIGABIT))])
        .collect();
    assert_eq!(run.events, expected);
    rig.machine.expect_no_guest_errors();
}

#[test]
fn a_link_is_noticed_without_its_interrupt_too() {
    use hal::net::mv88e6xxx::Phys;
    use hal::net::steps::Registers;
    let rig = Rig::plugged();
    let mut run = rig.start(config(Protocol::EtherTypeDsa));
    run.expect_links([1, 2, 3]);
    // Between two rounds, when the bus is free.
    let slept = (0..1_000).any(|_| {
        let before = rig.now_us();
        run.step();
        rig.now_us() - before > 100_000
    });
    assert!(slept);
    hal::net::steps::run(async {
        let (mut regs, mut idle) = (rig.registers(), false);
        let mut phys = Phys::new(&mut regs, &mut idle);
        phys.write(PhyAddr(0x11), RegAddr(18), 0).await.unwrap();
    });
    rig.cable(1, None);
    assert!(run.until(2_000_000, |run| !run.is_up(1)));
    rig.cable(1, Some(Partner::GIGABIT));
    assert!(run.until(2_000_000, |run| run.is_up(1)));
}

fn partner(modes: Modes, pause: bool, asymmetric_pause: bool) -> Partner {
    Partner::Autoneg {
        modes,
        pause,
        asymmetric_pause,
        forced_master: None,
    }
}

#[test]
fn the_partner_and_the_setting_decide_the_link() {
    let up = |speed, full_duplex, tx, rx| {
        Some(Up {
            speed,
            full_duplex,
            pause: Pause { tx, rx },
        })
    };
    let (s10, s100, s1000) = (Speed::Mbps10, Speed::Mbps100, Speed::Mbps1000);
    let negotiate = |modes, tx, rx| Setting::Negotiate {
        modes,
        pause: Pause { tx, rx },
    };
    let forced = |speed, full_duplex| Setting::Forced { speed, full_duplex };
    let one = |speed, full| partner(Modes::one(speed, full), true, true);
    let fixed = |speed, full_duplex| Partner::Forced { speed, full_duplex };
    let all = Setting::default();
    let only_100 = phy::Modes::one(s100, true).or(phy::Modes::one(s100, false));
    let table = [
        (all, Partner::GIGABIT, up(s1000, true, true, true)),
        (
            all,
            one(ModelSpeed::S10, false),
            up(s10, false, false, false),
        ),
        (all, one(ModelSpeed::S10, true), up(s10, true, true, true)),
        (all, one(ModelSpeed::S100, true), up(s100, true, true, true)),
        (
            all,
            partner(Modes::ALL, false, false),
            up(s1000, true, false, false),
        ),
        (
            negotiate(phy::Modes::ALL, false, false),
            Partner::GIGABIT,
            up(s1000, true, false, false),
        ),
        (
            negotiate(phy::Modes::ALL, true, false),
            Partner::GIGABIT,
            up(s1000, true, true, false),
        ),
        (
            negotiate(phy::Modes::ALL, false, true),
            partner(Modes::ALL, false, true),
            up(s1000, true, false, true),
        ),
        (
            negotiate(only_100, true, true),
            Partner::GIGABIT,
            up(s100, true, true, true),
        ),
        // No autonegotiation at the other end: speed is detected, duplex is half.
        (
            all,
            fixed(ModelSpeed::S100, true),
            up(s100, false, false, false),
        ),
        (
            all,
            fixed(ModelSpeed::S10, false),
            up(s10, false, false, false),
        ),
        (
            forced(s100, true),
            fixed(ModelSpeed::S100, true),
            up(s100, true, false, false),
        ),
        (
            forced(s10, false),
            Partner::GIGABIT,
            up(s10, false, false, false),
        ),
        (
            forced(s1000, true),
            Partner::GIGABIT,
            up(s1000, true, false, false),
        ),
        (forced(s100, true), fixed(ModelSpeed::S10, true), None),
        (forced(s1000, true), one(ModelSpeed::S100, true), None),
    ];
    for (setting, partner, expected) in table {
        let rig = Rig::new(machine(Found::UBoot, Doubts::default(), Timing::FAST));
        rig.cable(1, Some(partner));
        let mut config = config(Protocol::EtherTypeDsa);
        config.users[1] = Some(setting);
        let mut run = rig.start(config);
        run.until(3_000_000, |run| run.is_up(1));
        let found = rig.mailbox.link(port(1));
        assert_eq!(found, expected, "{setting:?} with {partner:?}");
        rig.machine.expect_no_guest_errors();
    }
}

#[test]
fn a_phy_that_never_completes_stays_down_and_holds_up_nobody() {
    let rig = Rig::plugged();
    rig.machine.faults("phy-never-completes=1");
    let mut run = rig.start(config(Protocol::EtherTypeDsa));
    run.expect_links([2, 3]);
    run.pass(3_000_000);
    assert!(!run.is_up(1));
    assert_eq!(rig.mailbox.repairs(), 0);
    rig.machine.faults("");
    run.expect_links([1]);
}

// A switch in trouble.

#[test]
fn a_silent_reset_is_noticed_within_a_second_and_repaired() {
    for (name, doubts) in readings(doubts::all()) {
        let rig = Rig::new(machine(Found::UBoot, doubts, Timing::REALISTIC));
        rig.plug([1, 2, 3]);
        let mut run = rig.start(config(Protocol::EtherTypeDsa));
        run.expect_links([1, 2, 3]);
        run.events.clear();
        rig.machine.faults("switch-silent-reset*1");
        let flood = Flood::new();
        let mut leaks = 0;
        let noticed = run.until(1_000_000, |run| {
            leaks += flood.leaks(&rig);
            run.has(|event| matches!(event, Event::Repair(_)))
        });
        assert!(noticed, "{name}: {:?}", run.events);
        assert!(!run.is_up(1), "{name}");
        run.until(5_000_000, |run| {
            leaks += flood.leaks(&rig);
            [1, 2, 3].iter().all(|port| run.is_up(*port))
        });
        run.expect_links([1, 2, 3]);
        // The reset opens the ports, but takes their links; before they are back the ports are closed.
        assert_eq!(leaks, 0, "{name}");
        expect_separate_networks(&rig, Protocol::EtherTypeDsa, &name);
        assert_eq!(rig.mailbox.repairs(), 1, "{name}");
        rig.machine.expect_no_guest_errors();
    }
}

#[test]
fn a_switch_that_vanishes_is_noticed_and_taken_back() {
    for reading in ["valid", "invalid"] {
        let mut doubts = Doubts::default();
        doubts.set("mdio-no-device", reading).unwrap();
        let rig = Rig::new(machine(Found::UBoot, doubts, Timing::FAST));
        rig.plug([1, 2, 3]);
        let mut run = rig.start(config(Protocol::EtherTypeDsa));
        run.expect_links([1, 2, 3]);
        rig.machine.faults("switch-vanish");
        let noticed = run.until(1_000_000, |run| {
            run.has(|event| matches!(event, Event::Repair(_)))
        });
        assert!(noticed, "{reading}");
        run.pass(3_000_000);
        assert!(run.has(|event| matches!(
            event,
            Event::BringUpFailed(error) if error.stage == Stage::Identify
        )));
        rig.machine.faults("");
        run.expect_links([1, 2, 3]);
        expect_separate_networks(&rig, Protocol::EtherTypeDsa, reading);
        rig.machine.expect_no_guest_errors();
    }
}

#[test]
fn the_watchdog_leads_to_a_repair_and_names_its_events() {
    let rig = Rig::plugged();
    let mut run = rig.start(config(Protocol::EtherTypeDsa));
    run.expect_links([1, 2, 3]);
    rig.board(|board| board.switch.watchdog_event(&mut board.env, 0x04));
    let trouble = Trouble::Watchdog { events: 4 };
    assert_eq!(
        trouble.to_string(),
        "its watchdog saw stuck queues, events 0x04"
    );
    let wanted = Event::Repair(trouble);
    assert!(run.until(1_000_000, |run| run.has(|event| *event == wanted)));
    run.expect_links([1, 2, 3]);
    assert_eq!(rig.mailbox.repairs(), 1);
}

#[test]
fn every_stuck_busy_bit_is_an_error_and_overcome_once_it_clears() {
    // Units as the model numbers them: SMI, ATU, VTU, statistics, PHY, tables.
    for unit in 1..=6 {
        let rig = Rig::plugged();
        rig.machine.faults(&format!("switch-busy={unit}"));
        let mut run = rig.start(config(Protocol::EtherTypeDsa));
        let failed = run.until(3_000_000, |run| {
            run.has(|event| {
                let busy = |cause: &Error| {
                    matches!(cause, Error::Access(steps::Error::Busy { .. }))
                        || matches!(cause, Error::Phy { .. })
                };
                matches!(event, Event::BringUpFailed(error) if busy(&error.cause))
            })
        });
        assert!(failed, "unit {unit}: {:?}", run.events);
        for number in [1, 2, 3] {
            let sent = rig.send(number, &frame(BROADCAST, A));
            assert!(unit == 1 || sent.is_empty(), "unit {unit}: {sent:?}");
        }
        rig.machine.faults("");
        run.expect_links([1, 2, 3]);
        expect_separate_networks(&rig, Protocol::EtherTypeDsa, "after busy");
        rig.machine.expect_no_guest_errors();
    }
}

#[test]
fn a_reset_that_never_ends_is_an_error_with_the_status() {
    let rig = Rig::plugged();
    rig.machine.faults("switch-reset-stuck");
    let mut run = rig.start(config(Protocol::EtherTypeDsa));
    let failed = run.until(3_000_000, |run| {
        run.has(|event| {
            matches!(event, Event::BringUpFailed(error)
                if error.stage == Stage::Reset && matches!(error.cause, Error::NotReady { .. }))
        })
    });
    assert!(failed, "{:?}", run.events);
    rig.machine.faults("");
    run.expect_links([1, 2, 3]);
}

#[test]
fn a_stuck_management_bus_is_an_error_and_not_a_hang() {
    let rig = Rig::plugged();
    let mut run = rig.start(config(Protocol::EtherTypeDsa));
    run.expect_links([1]);
    rig.machine.faults("mdio-busy=on*1");
    let noticed = run.until(1_000_000, |run| {
        run.has(|event| matches!(event, Event::Repair(Trouble::Access(_))))
    });
    assert!(noticed, "{:?}", run.events);
    let rounds = rig.mailbox.rounds();
    run.pass(3_000_000);
    assert!(rig.mailbox.rounds() > rounds, "still alive");
}

#[test]
fn trouble_is_told_in_words() {
    let device = hal::net::mdio::PhyAddr(0x1b);
    let reg = hal::net::mdio::RegAddr(4);
    let busy = steps::Error::Busy {
        device,
        reg,
        value: 0xffff,
    };
    let failed = hal::net::mv88e6xxx::BringUpError {
        stage: Stage::Reset,
        cause: Error::Access(busy),
    };
    assert_eq!(
        failed.to_string(),
        "reset: device 0x1b register 0x04 stays busy, it reads 0xffff"
    );
    assert_eq!(
        steps::Error::Frame { device, reg }.to_string(),
        "the management frame to device 0x1b register 0x04 does not end"
    );
    let absent = phy::Error::Absent(hal::net::mdio::PhyAddr(0x11));
    let (port, cause) = (port(1), absent);
    assert_eq!(
        Error::Phy { port, cause }.to_string(),
        "PHY of port 1: no PHY answers at 0x11"
    );
    let canary = |control_0, vlan_map| hal::net::mv88e6xxx::Canary {
        control_0,
        vlan_map,
    };
    let trouble = Trouble::Canary {
        port,
        expected: canary(0x3f, 1),
        found: canary(0xffff, 0xffff),
    };
    assert_eq!(
        trouble.to_string(),
        "port 1 reads control 0 0xffff, VLAN map 0xffff, not control 0 0x003f, VLAN map 0x0001: reset or lost"
    );
    let links = [(true, true), (false, true), (true, false), (false, false)];
    let text: Vec<String> = links.map(|(tx, rx)| Pause { tx, rx }.to_string()).into();
    assert_eq!(text, [", pause rx/tx", ", pause rx", ", pause tx", ""]);
}

// Bridges.

#[test]
fn bridged_ports_forward_in_hardware_learn_and_forget() {
    for (name, doubts) in readings(doubts::all()) {
        let rig = Rig::new(machine(Found::UBoot, doubts, Timing::FAST));
        rig.plug([1, 2, 3]);
        let mut run = rig.start(bridged());
        run.expect_links([1, 2, 3]);
        let ports = |from, destination, source| -> Vec<u8> {
            let sent = rig.send(from, &frame(destination, source));
            sent.into_iter().map(|sent| sent.0).collect()
        };
        assert_eq!(ports(1, BROADCAST, A), [0], "{name}: port 1 is alone");
        assert_eq!(ports(2, BROADCAST, B), [0, 3], "{name}");
        assert_eq!(ports(3, MULTICAST, C), [0, 2], "{name}");
        assert_eq!(ports(2, C, B), [3], "{name}: learnt");
        assert_eq!(ports(3, B, C), [2], "{name}");
        assert_eq!(ports(2, HOST, B), [0], "{name}: our own address");
        assert_eq!(ports(1, B, A), [0], "{name}: never from outside");
        // Flushed when the link goes.
        rig.cable(3, None);
        assert!(run.until(2_000_000, |run| !run.is_up(3)));
        run.pass(500_000);
        rig.cable(3, Some(Partner::GIGABIT));
        run.expect_links([3]);
        assert_eq!(ports(2, C, B), [0, 3], "{name}: forgotten");
        rig.machine.expect_no_guest_errors();
    }
}

// Tables and counters.

#[test]
fn tables_can_be_walked_and_end() {
    let rig = Rig::plugged();
    let mut run = rig.start(bridged());
    run.expect_links([1, 2, 3]);
    for last in 0..100 {
        rig.send(2, &frame(HOST, [0x02, 1, 2, 3, 4, last]));
    }
    let now = rig.now_us();
    let ticket = rig.mailbox.ask(Request::Addresses(0, 2), now).unwrap();
    assert_eq!(rig.mailbox.ask(Request::Vlans, now), None, "one at a time");
    let entries = run.answer(ticket, |answer| {
        assert_eq!((answer.more, answer.error), (false, None));
        answer.addresses.clone()
    });
    assert_eq!(entries.len(), 103, "100 stations, we, broadcast twice");
    assert!(
        entries.iter().any(|entry| entry.mac == HOST
            && entry.ports == PortSet::of(port(0))
            && entry.fid == 1)
    );
    assert!(entries.iter().any(|entry| entry.mac == [0x02, 1, 2, 3, 4, 99]
        && entry.ports == PortSet::of(port(2))));
    for last in 100..140 {
        rig.send(2, &frame(HOST, [0x02, 1, 2, 3, 4, last]));
    }
    let (len, more) = run.errand(Request::Addresses(0, 255), |answer| {
        (answer.addresses.len(), answer.more)
    });
    assert_eq!((len, more), (MAX_ENTRIES, true));
    let vlans = run.errand(Request::Vlans, |answer| answer.vlans.len());
    assert_eq!(vlans, 0);
    rig.machine.expect_no_guest_errors();
}

#[test]
fn vlans_that_somebody_left_are_shown_and_gone_after_bring_up() {
    use hal::net::mv88e6xxx::vtu::{Entry, Walk};
    use hal::net::steps::{Registers, run as finish};
    const GLOBAL_1: PhyAddr = PhyAddr(0x1b);
    async fn walk(regs: &mut impl Registers) -> Vec<Entry> {
        let (mut walk, mut entries) = (Walk::default(), Vec::new());
        while let Some(entry) = walk.next(regs).await.unwrap() {
            entries.push(entry);
        }
        entries
    }
    let rig = Rig::plugged();
    let left = finish(async {
        let mut regs = rig.registers();
        for (vid, fid) in [(4095, 7), (1, 0), (100, 300)] {
            // Ports 0, 1 and 5 are members, the others are not.
            let load = [
                (7, 0x3300),
                (8, 0x0003),
                (2, fid),
                (6, 0x1000 | vid),
                (5, 0xb000),
            ];
            for (register, value) in load {
                regs.write(GLOBAL_1, RegAddr(register), value)
                    .await
                    .unwrap();
            }
        }
        walk(&mut regs).await
    });
    let members = PortSet::of(port(0)).with(port(1)).with(port(5));
    let entry = |vid, fid| Entry { vid, fid, members };
    assert_eq!(left, [entry(1, 0), entry(100, 300), entry(4095, 7)]);
    let mut run = rig.start(config(Protocol::EtherTypeDsa));
    run.expect_links([1, 2, 3]);
    drop(run);
    assert_eq!(finish(async { walk(&mut rig.registers()).await }), []);
    rig.machine.expect_no_guest_errors();
}

#[test]
fn counters_are_those_of_the_port() {
    let rig = Rig::plugged();
    let mut run = rig.start(config(Protocol::EtherTypeDsa));
    run.expect_links([1, 2, 3]);
    for _ in 0..5 {
        rig.send(1, &frame(BROADCAST, A));
    }
    rig.send(1, &frame(HOST, A));
    for number in 0..PORTS as u8 {
        rig.mailbox.want_totals(port(number));
    }
    run.pass(3_000_000);
    let counter = |number, name| {
        let mut all = (0..).map_while(|index| rig.mailbox.total(port(number), index));
        all.find(|counter| counter.0 == name)
            .map(|counter| counter.1)
    };
    assert_eq!(counter(1, "in_broadcasts"), Some(5));
    assert_eq!(counter(1, "in_unicast"), Some(1));
    assert_eq!(counter(1, "in_good_octets"), Some(6 * 64));
    assert_eq!(counter(1, "hist_64bytes"), Some(6));
    assert_eq!(counter(0, "out_octets"), Some(6 * 72));
    assert_eq!(counter(2, "in_unicast"), Some(0));
    rig.machine.expect_no_guest_errors();
}

// Errands.

const fn read(place: Place, reg: u8) -> Step {
    Step::Read(place, RegAddr(reg))
}

const fn write(place: Place, reg: u8, value: u16) -> Step {
    Step::Write(place, RegAddr(reg), value)
}

/// The values that steps come to.
#[track_caller]
fn values(run: &mut Run, steps: &[Step]) -> Vec<u16> {
    let mut hand_over = |add: &mut dyn FnMut(Step)| steps.iter().for_each(|step| add(*step));
    run.errand(Request::Steps(&mut hand_over), |answer| {
        assert_eq!(answer.error, None);
        answer.values.to_vec()
    })
}

#[test]
fn registers_everywhere_can_be_read_and_written_beside_the_supervision() {
    let rig = Rig::plugged();
    let mut run = rig.start(config(Protocol::EtherTypeDsa));
    run.expect_links([1, 2, 3]);
    let phy = Place::Phy(port(2));
    let port_2 = Place::Switch(PhyAddr(0x12));
    let found = values(
        &mut run,
        &[
            read(Place::Wire(PhyAddr(1)), 1),
            read(Place::Switch(PhyAddr(0x10)), 3),
            read(phy, 2),
            write(phy, 22, 3),
            write(phy, 16, 0x1234),
            read(phy, 16),
            write(phy, 22, 0),
            read(phy, 16),
            write(port_2, 7, 0x0123),
            read(port_2, 7),
            // To be undone at the end.
            write(phy, 22, 3),
        ],
    );
    assert_eq!(found[1] & 0xfff0, 0x3410);
    let expected = [0x0141, 0, 0, 0x1234, 0, 0x3060, 0, 0x0123];
    assert_eq!(found[2..10], expected);
    assert_eq!(values(&mut run, &[read(phy, 22)]), [0]);
    // Nobody at any other address, and that ends nothing.
    let scan: Vec<Step> = (0..32)
        .map(|addr| read(Place::Wire(PhyAddr(addr)), 0))
        .collect();
    let found = values(&mut run, &scan);
    let present = (0..32).filter(|addr| found[*addr] != 0xffff);
    assert_eq!(present.collect::<Vec<_>>(), [1]);
    run.pass(3_000_000);
    assert!([1, 2, 3].iter().all(|port| run.is_up(*port)));
    assert!(!run.has(|event| matches!(event, Event::Repair(_) | Event::PhyFailed { .. })));
    rig.machine.expect_no_guest_errors();
}

#[test]
fn a_drop_that_an_errand_reads_is_not_lost_for_the_supervision() {
    let rig = Rig::plugged();
    let mut run = rig.start(config(Protocol::EtherTypeDsa));
    run.expect_links([1, 2, 3]);
    run.pass(1_000_000);
    run.events.clear();
    // Short, and the status is read before the supervision comes by; so are the interrupts that would have it look.
    rig.cable(2, None);
    rig.cable(2, Some(Partner::GIGABIT));
    let status = read(Place::Phy(port(2)), 1);
    let interrupts = read(Place::Phy(port(2)), 19);
    let found = values(&mut run, &[interrupts, status]);
    assert_eq!(found[1] & 1 << 2, 0, "the drop");
    let down = |event: &Event| matches!(event, Event::Link { port: p, event: phy::Event::Down } if *p == port(2));
    assert!(run.has(down));
    run.expect_links([2]);
    // The interrupts alone: the next round looks all the same.
    run.pass(1_000_000);
    run.events.clear();
    rig.cable(2, None);
    values(&mut run, &[interrupts]);
    assert!(run.until(ROUND_US + 100_000, |run| run.has(down)));
    rig.machine.expect_no_guest_errors();
}

#[test]
fn a_phy_in_loopback_is_left_alone_until_it_is_released() {
    let rig = Rig::plugged();
    let mut run = rig.start(config(Protocol::EtherTypeDsa));
    run.expect_links([1, 2, 3]);
    let phy = Place::Phy(port(2));
    let loopback = [
        Step::Hold(port(2)),
        write(phy, 0, 0x8140),
        Step::Sleep { us: 10_000 },
        write(phy, 0, 0x4140),
    ];
    values(&mut run, &loopback);
    assert!(rig.mailbox.held().has(port(2)));
    run.events.clear();
    run.pass(5_000_000);
    assert!(run.events.is_empty(), "{:?}", run.events);
    assert!(!run.is_up(2) && run.is_up(1) && run.is_up(3));
    assert_eq!(values(&mut run, &[read(phy, 0)])[0] & 0x4000, 0x4000);
    // What goes out comes back.
    let mut pool = Pool::new(1);
    let tagger = tagger(&config(Protocol::EtherTypeDsa));
    let mut tagged = as_frame(&mut pool, &frame(B, HOST));
    assert!(tagger.put_on(&mut tagged, port(2)));
    assert_eq!(rig.send(0, tagged.bytes())[0].0, 0);
    values(&mut run, &[Step::Release(port(2))]);
    run.expect_links([1, 2, 3]);
    assert!(rig.mailbox.held().is_empty());
    rig.machine.expect_no_guest_errors();
}

#[test]
fn errands_are_run_while_no_switch_answers_and_forgotten_when_nobody_fetches_them() {
    let rig = Rig::plugged();
    rig.board(|board| board.env.faults.set_list("mdio-no-answer*1000000").unwrap());
    let mut run = rig.start(config(Protocol::EtherTypeDsa));
    run.pass(500_000);
    let step = read(Place::Wire(PhyAddr(1)), 2);
    let ask = |run: &Run| {
        let mut steps = |add: &mut dyn FnMut(Step)| add(step);
        let now = run.now_us();
        rig.due_us.set(now);
        rig.mailbox.ask(Request::Steps(&mut steps), now)
    };
    let first = ask(&run).unwrap();
    run.answer(first, |answer| assert_eq!(answer.values.len(), 1));
    let second = ask(&run).unwrap();
    run.pass(500_000);
    assert_eq!(ask(&run), None, "the answer waits");
    run.pass(1_500_000);
    let third = ask(&run).unwrap();
    assert!(matches!(rig.mailbox.answer(second), Poll::Ready(None)));
    run.answer(third, |_| ());
}
