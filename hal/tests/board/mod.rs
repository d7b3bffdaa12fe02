//! The machine model as the drivers under test see it: a bus, a clock, and memory with a CPU's and a device's side.

#![allow(dead_code, reason = "every test file uses another part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests are tests"
)]

use espressobin_model::board::{Board, Config};
use espressobin_model::bus::{Env, Ram};
use espressobin_model::doubts::{Doubt, Doubts};
use hal::regs::Bus;
use hal::time::Clock;
use std::cell::RefCell;
use std::rc::Rc;

/// The whole board, shared by all buses and clocks of a test.
#[derive(Clone)]
pub struct Machine(pub Rc<RefCell<(Board, Ram)>>);

impl Machine {
    /// A board in strict mode, as U-Boot leaves it.
    pub fn new(doubts: Doubts) -> Self {
        let mut env = Env::default();
        env.doubts = doubts;
        env.strict = true;
        let config = Config {
            ram_bytes: 1 << 20,
            ..Config::default()
        };
        let mut board = Board::new(config, env);
        board.set_time(1_000_000_000);
        Machine(Rc::new(RefCell::new((board, Ram::new(1 << 20)))))
    }

    /// Registers from `base` on, an offset into the internal registers.
    pub fn bus(&self, base: u32) -> TestBus {
        TestBus {
            machine: self.clone(),
            base,
        }
    }

    pub fn clock(&self) -> TestClock {
        TestClock(self.clone())
    }

    pub fn faults(&self, list: &str) {
        self.0.borrow_mut().0.set_faults(list).unwrap();
    }

    /// Lets virtual time pass.
    pub fn pass_us(&self, us: u64) {
        let (board, ram) = &mut *self.0.borrow_mut();
        board.set_time(board.env.now + us * 1000);
        board.advance(ram);
    }

    /// Fails if the model noticed a wrong use of the hardware.
    #[track_caller]
    pub fn expect_no_guest_errors(&self) {
        assert_eq!(self.0.borrow().0.env.guest_errors(), []);
    }
}

/// Every access takes 100 ns of virtual time.
pub struct TestBus {
    machine: Machine,
    base: u32,
}

impl Bus for TestBus {
    fn read(&mut self, offset: u32) -> u32 {
        let (board, ram) = &mut *self.machine.0.borrow_mut();
        board.set_time(board.env.now + 100);
        board.read(ram, self.base + offset, 4) as u32
    }

    fn write(&mut self, offset: u32, value: u32) {
        let (board, ram) = &mut *self.machine.0.borrow_mut();
        board.set_time(board.env.now + 100);
        board.write(ram, self.base + offset, 4, value.into());
    }
}

/// Virtual time; looking at it takes 1 us.
pub struct TestClock(Machine);

impl Clock for TestClock {
    fn now_us(&mut self) -> u64 {
        self.0.pass_us(1);
        self.0.0.borrow().0.env.now / 1000
    }
}

/// Defaults, each other reading of each doubt alone, and everything flipped at once, each with a name for messages.
pub fn readings(all: impl Iterator<Item = &'static Doubt>) -> Vec<(String, Doubts)> {
    let mut sets = vec![("defaults".into(), Doubts::default())];
    let mut flipped = Doubts::default();
    for doubt in all {
        for reading in &doubt.readings[1..] {
            let mut alone = Doubts::default();
            alone.set(doubt.name, reading).unwrap();
            sets.push((format!("{}:{reading}", doubt.name), alone));
        }
        flipped
            .set(doubt.name, doubt.readings[doubt.readings.len() - 1])
            .unwrap();
    }
    sets.push(("everything flipped".into(), flipped));
    sets
}
