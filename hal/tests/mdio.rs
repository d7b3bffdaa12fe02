//! The MDIO controller against the machine model.

mod board;

use board::{Machine, TestBus, TestClock, readings};
use espressobin_model::doubts;
use hal::net::mdio::{Error, FLOATING, FRAME_LIMIT_US, Mdio, OrionMdio, PhyAddr, RegAddr};

/// 0x2004 of NETA0.
const MDIO: u32 = 0x3_2004;
const SWITCH: PhyAddr = PhyAddr(1);
const ABSENT: PhyAddr = PhyAddr(7);
const COMMAND: RegAddr = RegAddr(0);
const DATA: RegAddr = RegAddr(1);

/// Multi-chip command: read register 3 (identification) of device 0x10 (port 0).
const READ_ID: u16 = 0x9800 | 0x10 << 5 | 3;

fn bring_up(machine: &Machine) -> OrionMdio<TestBus, TestClock> {
    OrionMdio::take_over(machine.bus(MDIO), machine.clock())
}

#[test]
fn the_switch_tells_its_number_under_every_reading() {
    for (name, doubts) in readings(doubts::all()) {
        let machine = Machine::new(doubts);
        let mut mdio = bring_up(&machine);
        mdio.write(SWITCH, COMMAND, READ_ID).unwrap();
        // Bit 15 of the command stays until the switch has done it.
        let busy = |mdio: &mut OrionMdio<_, _>| mdio.read(SWITCH, COMMAND).unwrap() & 0x8000 != 0;
        assert!(
            (0..1_000).any(|_| !busy(&mut mdio)),
            "{name}: busy for ever"
        );
        let id = mdio.read(SWITCH, DATA).unwrap();
        assert_eq!(id & 0xfff0, 0x3410, "{name}");
        machine.expect_no_guest_errors();
    }
}

#[test]
fn steps_never_wait_and_refuse_to_overlap() {
    let machine = Machine::new(Default::default());
    let mut mdio = bring_up(&machine);
    mdio.start_write(SWITCH, COMMAND, READ_ID).unwrap();
    assert_eq!(mdio.start_read(SWITCH, DATA), Err(Error::Timeout));
    assert_eq!(mdio.finish(), None);
    machine.pass_us(100);
    assert_eq!(mdio.finish(), Some(Ok(READ_ID)));
    mdio.start_read(SWITCH, DATA).unwrap();
    assert_eq!(mdio.finish(), None);
    machine.pass_us(100);
    assert_eq!(mdio.finish().unwrap().unwrap() & 0xfff0, 0x3410);
    machine.expect_no_guest_errors();
}

#[test]
fn nobody_at_an_address_is_no_answer_or_all_ones() {
    let machine = Machine::new(Default::default());
    assert_eq!(bring_up(&machine).read(ABSENT, COMMAND), Ok(FLOATING));
    machine
        .0
        .borrow_mut()
        .0
        .env
        .doubts
        .set("mdio-no-device", "invalid")
        .unwrap();
    assert_eq!(
        bring_up(&machine).read(ABSENT, COMMAND),
        Err(Error::NoAnswer)
    );
    machine.expect_no_guest_errors();
}

#[test]
fn a_stuck_bus_is_an_error_within_its_limit() {
    let machine = Machine::new(Default::default());
    let mut mdio = bring_up(&machine);
    machine.faults("mdio-busy=on*1");
    let before = machine.0.borrow().0.env.now;
    assert_eq!(mdio.read(SWITCH, DATA), Err(Error::Timeout));
    assert_ne!(mdio.status() & 1 << 28, 0);
    let took_us = (machine.0.borrow().0.env.now - before) / 1000;
    assert!((FRAME_LIMIT_US..2 * FRAME_LIMIT_US).contains(&took_us));
    let mut next = bring_up(&machine);
    assert_eq!(next.read(SWITCH, DATA), Err(Error::Timeout));
    machine.expect_no_guest_errors();
}

#[test]
fn hardware_polling_is_off_before_the_first_operation() {
    let machine = Machine::new(Default::default());
    let mut unit = machine.bus(0x3_20b0);
    hal::regs::Bus::write(&mut unit, 0, 1 << 24 | 1 << 1);
    bring_up(&machine);
    assert_eq!(hal::regs::Bus::read(&mut unit, 0), 1 << 24);
}
