//! PHYs on a bus of their own: what the internal ones of the model cannot show.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use hal::net::mdio::{PhyAddr, RegAddr};
use hal::net::phy::{Error, Event, Fault, Kind, Modes, Pause, Phy, Setting, Speed, Up};
use hal::net::steps::{self, Registers, run};

const ADDR: PhyAddr = PhyAddr(1);
const GIGABIT: Up = Up {
    speed: Speed::Mbps1000,
    full_duplex: true,
    pause: Pause { tx: true, rx: true },
};

/// One PHY as plain storage, but for the bits that clear themselves and the link bit that latches a loss.
struct Bus {
    regs: [u16; 32],
    /// Status bits at the next read, then from the one after.
    latched: Option<u16>,
    now_us: u64,
}

impl Bus {
    /// Autonegotiation has ended with everything in common.
    fn linked() -> Self {
        let mut regs = [0; 32];
        regs[1] = 0x7949 | 1 << 5 | 1 << 2;
        regs[5] = 0xcde1;
        regs[10] = 0x3800;
        Bus {
            regs,
            latched: None,
            now_us: 0,
        }
    }
}

impl Registers for Bus {
    async fn read(&mut self, device: PhyAddr, reg: RegAddr) -> Result<u16, steps::Error> {
        self.now_us += 50;
        if device != ADDR {
            return Ok(0xffff);
        }
        match reg.0 {
            1 => Ok(self.latched.take().unwrap_or(self.regs[1])),
            other => Ok(self.regs[usize::from(other)]),
        }
    }

    async fn write(&mut self, device: PhyAddr, reg: RegAddr, v: u16) -> Result<(), steps::Error> {
        self.now_us += 50;
        if device == ADDR {
            // Reset and restart clear at once.
            self.regs[usize::from(reg.0)] = if reg.0 == 0 { v & !0x8200 } else { v };
        }
        Ok(())
    }

    async fn sleep_us(&mut self, us: u64) {
        self.now_us += us;
    }

    fn now_us(&mut self) -> u64 {
        self.now_us
    }
}

fn generic(bus: &mut Bus, setting: Setting) -> Phy {
    let mut phy = Phy::new(ADDR, Kind::Generic, setting);
    run(phy.bring_up(bus)).unwrap();
    phy
}

fn poll(phy: &mut Phy, bus: &mut Bus) -> Option<Event> {
    run(phy.poll(bus)).unwrap()
}

#[test]
fn what_is_offered_is_what_was_asked_for() {
    let offer = |modes, tx, rx| {
        let mut bus = Bus::linked();
        let pause = Pause { tx, rx };
        generic(&mut bus, Setting::Negotiate { modes, pause });
        assert_eq!(bus.regs[0], 0x1140);
        (bus.regs[4], bus.regs[9])
    };
    assert_eq!(offer(Modes::ALL, true, true), (0x05e1, 0x0200));
    assert_eq!(offer(Modes::ALL, true, false), (0x09e1, 0x0200));
    assert_eq!(offer(Modes::ALL, false, true), (0x0de1, 0x0200));
    let slow = Modes::one(Speed::Mbps100, true).or(Modes::one(Speed::Mbps10, false));
    assert_eq!(offer(slow, false, false), (0x0121, 0x0000));
    let mut bus = Bus::linked();
    let forced = |speed, full_duplex| Setting::Forced { speed, full_duplex };
    generic(&mut bus, forced(Speed::Mbps100, true));
    assert_eq!(bus.regs[0], 0x2100);
    generic(&mut bus, forced(Speed::Mbps10, false));
    assert_eq!(bus.regs[0], 0x0000);
    generic(&mut bus, forced(Speed::Mbps1000, true));
    assert_eq!(
        (bus.regs[0], bus.regs[4], bus.regs[9]),
        (0x1140, 0x0001, 0x0200)
    );
}

#[test]
fn a_generic_phy_resolves_by_the_standard_alone() {
    let mut bus = Bus::linked();
    let mut phy = generic(&mut bus, Setting::default());
    assert_eq!(poll(&mut phy, &mut bus), Some(Event::Up(GIGABIT)));
    assert_eq!(poll(&mut phy, &mut bus), None);
    assert_eq!(phy.up(), Some(GIGABIT));
}

#[test]
fn a_drop_shorter_than_the_time_between_two_looks_is_seen() {
    let mut bus = Bus::linked();
    let mut phy = generic(&mut bus, Setting::default());
    poll(&mut phy, &mut bus);
    bus.latched = Some(bus.regs[1] & !(1 << 2));
    assert_eq!(poll(&mut phy, &mut bus), Some(Event::Down));
    // The latch of a link that was down tells of the past: the second read counts.
    bus.latched = Some(bus.regs[1] & !(1 << 2));
    assert_eq!(poll(&mut phy, &mut bus), Some(Event::Up(GIGABIT)));
}

#[test]
fn no_link_while_autonegotiation_runs_or_restarts() {
    let mut bus = Bus::linked();
    let mut phy = generic(&mut bus, Setting::default());
    bus.regs[1] &= !(1 << 5);
    assert_eq!(poll(&mut phy, &mut bus), None);
    bus.regs[1] |= 1 << 5;
    bus.regs[0] |= 1 << 9;
    assert_eq!(poll(&mut phy, &mut bus), None);
    bus.regs[0] &= !(1 << 9);
    assert_eq!(poll(&mut phy, &mut bus), Some(Event::Up(GIGABIT)));
}

#[test]
fn faults_are_told_once() {
    let mut bus = Bus::linked();
    let mut phy = generic(&mut bus, Setting::default());
    bus.regs[10] |= 1 << 15;
    let fault = Some(Event::Fault(Fault::MasterSlave));
    assert_eq!(poll(&mut phy, &mut bus), fault);
    assert_eq!(poll(&mut phy, &mut bus), None);
    bus.regs[10] &= !(1 << 15);
    let partner = std::mem::replace(&mut bus.regs[5], 1);
    bus.regs[10] = 0;
    let fault = Some(Event::Fault(Fault::NoCommonMode));
    assert_eq!(poll(&mut phy, &mut bus), fault);
    assert_eq!(poll(&mut phy, &mut bus), None);
    bus.regs[5] = partner;
    bus.regs[10] = 0x3800;
    assert_eq!(poll(&mut phy, &mut bus), Some(Event::Up(GIGABIT)));
}

#[test]
fn a_phy_that_lost_its_settings_gets_them_back() {
    let mut bus = Bus::linked();
    let mut phy = generic(&mut bus, Setting::default());
    poll(&mut phy, &mut bus);
    bus.regs[0] = 0x1940;
    bus.regs[1] &= !(1 << 2 | 1 << 5);
    assert_eq!(poll(&mut phy, &mut bus), Some(Event::Down));
    let lost = Fault::SettingsLost { control: 0x1940 };
    assert_eq!(poll(&mut phy, &mut bus), Some(Event::Fault(lost)));
    assert_eq!(bus.regs[0], 0x1140);
    bus.regs[1] |= 1 << 2 | 1 << 5;
    assert_eq!(poll(&mut phy, &mut bus), Some(Event::Up(GIGABIT)));
}

#[test]
fn nobody_at_the_address_is_an_error() {
    let mut bus = Bus::linked();
    let absent = PhyAddr(7);
    let mut phy = Phy::new(absent, Kind::Generic, Setting::default());
    assert_eq!(run(phy.bring_up(&mut bus)), Err(Error::Absent(absent)));
    assert_eq!(run(phy.poll(&mut bus)), Err(Error::Absent(absent)));
}

#[test]
fn a_fixed_link_comes_up_once_and_touches_nothing() {
    let mut bus = Bus::linked();
    let mut phy = Phy::new(ADDR, Kind::Fixed(GIGABIT), Setting::default());
    run(phy.bring_up(&mut bus)).unwrap();
    assert_eq!(poll(&mut phy, &mut bus), Some(Event::Up(GIGABIT)));
    assert_eq!(poll(&mut phy, &mut bus), None);
    run(phy.power_down(&mut bus)).unwrap();
    assert_eq!(bus.now_us, 0);
}
