//! The switch driver running on the machine model, one management frame at a time, with cables and frames.

#![allow(dead_code, reason = "every test file uses another part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests are tests"
)]

use crate::board::{Machine, TestBus, TestClock};
use espressobin_model::board::{Board, Config as BoardConfig};
use espressobin_model::bus::{Env, Ram};
use espressobin_model::doubts::Doubts;
use espressobin_model::phy::Partner;
use espressobin_model::switch::{PortId, Timing};
use hal::net::mdio::{self, OrionMdio, PhyAddr, RegAddr};
use hal::net::mv88e6xxx::errand::{Answer, Request};
use hal::net::mv88e6xxx::{
    Bridge, Config, Event, Mailbox, PortIndex, PortSet, Smi, Switch, supervise,
};
use hal::net::phy::Setting;
use hal::net::steps::{Line, Stepper, step};
use hal::net::tag::{Protocol, Tagger};
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

/// Our address, and those of stations at ports 1 to 3.
pub const HOST: [u8; 6] = [0x02, 0, 0, 0, 0, 0x10];
pub const A: [u8; 6] = [0x02, 0, 0, 0, 0, 0x11];
pub const B: [u8; 6] = [0x02, 0, 0, 0, 0, 0x12];
pub const C: [u8; 6] = [0x02, 0, 0, 0, 0, 0x13];
pub const BROADCAST: [u8; 6] = [0xff; 6];
pub const MULTICAST: [u8; 6] = [0x01, 0, 0x5e, 0, 0, 0x42];

/// A frame that left the switch: port, bytes.
pub type Sent = (u8, Vec<u8>);

pub fn port(number: u8) -> PortIndex {
    PortIndex::new(number).unwrap()
}

pub fn frame(destination: [u8; 6], source: [u8; 6]) -> Vec<u8> {
    let mut frame = [&destination[..], &source[..], &[0x88, 0xb5, 1, 2, 3, 4]].concat();
    frame.resize(60, 0xee);
    frame
}

/// User ports 1 to 3, each on its own.
pub fn config(protocol: Protocol) -> Config {
    let users = [1, 2, 3];
    Config {
        cpu: port(0),
        protocol,
        device: 0,
        users: std::array::from_fn(|at| users.contains(&at).then(Setting::default)),
        bridges: [None; 2],
        mac: HOST,
    }
}

/// The same with ports 2 and 3 bridged.
pub fn bridged() -> Config {
    let members = PortSet::of(port(2)).with(port(3));
    Config {
        bridges: [Some(Bridge { members, mac: HOST }), None],
        ..config(Protocol::EtherTypeDsa)
    }
}

/// How the board is found.
#[derive(Clone, Copy, Debug)]
pub enum Found {
    Straps,
    UBoot,
}

pub fn machine(found: Found, doubts: Doubts, timing: Timing) -> Machine {
    let mut env = Env::default();
    env.doubts = doubts;
    env.strict = true;
    let board_config = BoardConfig {
        ram_bytes: 1 << 20,
        from_uboot: matches!(found, Found::UBoot),
        timing,
        ..BoardConfig::default()
    };
    let mut board = Board::new(board_config, env);
    board.set_time(1_000_000_000);
    Machine(Rc::new(RefCell::new((board, Ram::new(1 << 20)))))
}

/// Counts the frames on the management bus, and notes what is written to the switch's registers.
pub struct Counted {
    mdio: OrionMdio<TestBus, TestClock>,
    frames: Rc<Cell<u32>>,
    data: u16,
    writes: Rc<RefCell<Vec<Write>>>,
}

/// A register of the switch was written: device, register, value.
pub type Write = (u8, u8, u16);

impl Line for Counted {
    fn start_read(&mut self, device: PhyAddr, reg: RegAddr) -> Result<(), mdio::Error> {
        self.frames.set(self.frames.get() + 1);
        self.mdio.start_read(device, reg)
    }

    fn start_write(&mut self, device: PhyAddr, reg: RegAddr, v: u16) -> Result<(), mdio::Error> {
        self.frames.set(self.frames.get() + 1);
        match reg.0 {
            // Data, then the command: clause 22 write, device 9:5, register 4:0.
            1 => self.data = v,
            _ if v & 0x9c00 == 0x9400 => {
                let write = ((v >> 5 & 0x1f) as u8, (v & 0x1f) as u8, self.data);
                self.writes.borrow_mut().push(write);
            }
            _ => {}
        }
        self.mdio.start_write(device, reg, v)
    }

    fn finish(&mut self) -> Option<Result<u16, mdio::Error>> {
        self.mdio.finish()
    }
}

pub type Registers<'a> = Smi<Stepper<'a, Counted, TestClock>>;

/// What outlives the driver's run.
pub struct Rig {
    pub machine: Machine,
    pub due_us: Cell<u64>,
    pub mailbox: Mailbox,
    pub frames: Rc<Cell<u32>>,
    pub writes: Rc<RefCell<Vec<Write>>>,
}

impl Rig {
    pub fn new(machine: Machine) -> Self {
        Rig {
            machine,
            due_us: Cell::new(0),
            mailbox: Mailbox::default(),
            frames: Rc::default(),
            writes: Rc::default(),
        }
    }

    /// As U-Boot leaves it, every doubt at its default, cables in ports 1 to 3.
    pub fn plugged() -> Self {
        let rig = Rig::new(machine(Found::UBoot, Doubts::default(), Timing::FAST));
        rig.plug([1, 2, 3]);
        rig
    }

    pub fn registers(&self) -> Registers<'_> {
        let mdio = OrionMdio::take_over(self.machine.bus(0x3_2004), self.machine.clock());
        let line = Counted {
            mdio,
            frames: self.frames.clone(),
            data: 0,
            writes: self.writes.clone(),
        };
        Smi::new(
            Stepper::new(line, self.machine.clock(), &self.due_us),
            PhyAddr(1),
        )
    }

    pub fn start(&self, config: Config) -> Run<'_> {
        let task = Box::pin(supervise(
            Switch::new(self.registers(), config),
            &self.mailbox,
        ));
        Run {
            rig: self,
            task,
            events: Vec::new(),
        }
    }

    pub fn board<T>(&self, act: impl FnOnce(&mut Board) -> T) -> T {
        act(&mut self.machine.0.borrow_mut().0)
    }

    pub fn now_us(&self) -> u64 {
        self.board(|board| board.env.now / 1000)
    }

    pub fn plug<const N: usize>(&self, ports: [u8; N]) {
        for port in ports {
            self.cable(port, Some(Partner::GIGABIT));
        }
    }

    pub fn cable(&self, port: u8, partner: Option<Partner>) {
        self.board(|board| {
            board
                .switch
                .set_cable(&mut board.env, PortId(port), partner);
        });
    }

    /// Sends a frame into a port; what comes out where.
    pub fn send(&self, from: u8, frame: &[u8]) -> Vec<Sent> {
        let mut sent = Vec::new();
        self.board(|board| {
            let mut sink = |port: PortId, frame: &[u8]| sent.push((port.0, frame.to_vec()));
            board
                .switch
                .frame_from_port(&mut board.env, PortId(from), frame, &mut sink);
        });
        sent.sort();
        sent
    }
}

/// The driver at work.
pub struct Run<'a> {
    rig: &'a Rig,
    task: Pin<Box<dyn Future<Output = Infallible> + 'a>>,
    /// All it told so far.
    pub events: Vec<Event>,
}

impl Run<'_> {
    /// One step, then time passes until the next one is due.
    pub fn step(&mut self) {
        let _ = step(self.task.as_mut());
        while let Some(event) = self.rig.mailbox.take_event() {
            self.events.push(event);
        }
        let now = self.rig.now_us();
        self.rig
            .machine
            .pass_us(self.rig.due_us.get().saturating_sub(now).max(1));
    }

    /// Steps until `done`, for so long at most; whether it came to that.
    pub fn until(&mut self, limit_us: u64, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.rig.now_us() + limit_us;
        while self.rig.now_us() < end {
            if done(self) {
                return true;
            }
            self.step();
        }
        done(self)
    }

    /// Steps for a time.
    pub fn pass(&mut self, us: u64) {
        self.until(us, |_| false);
    }

    /// Steps until the answer is there.
    #[track_caller]
    pub fn answer<T>(&mut self, ticket: u32, show: impl FnOnce(&Answer) -> T) -> T {
        let mailbox = &self.rig.mailbox;
        for _ in 0..100_000 {
            if let Poll::Ready(answer) = mailbox.answer(ticket) {
                return show(&answer.expect("somebody was quicker"));
            }
            self.step();
        }
        panic!("no answer");
    }

    /// Hands in an errand, as the machine does, and steps until it is done.
    #[track_caller]
    pub fn errand<T>(&mut self, request: Request, show: impl FnOnce(&Answer) -> T) -> T {
        let now = self.rig.now_us();
        let ticket = self.rig.mailbox.ask(request, now).expect("another errand");
        self.rig.due_us.set(now);
        self.answer(ticket, show)
    }

    pub fn has(&self, wanted: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(wanted)
    }

    pub fn now_us(&self) -> u64 {
        self.rig.now_us()
    }

    pub fn is_up(&self, number: u8) -> bool {
        self.rig.mailbox.link(port(number)).is_some()
    }

    /// Steps until all of these links are up.
    #[track_caller]
    pub fn expect_links<const N: usize>(&mut self, ports: [u8; N]) {
        let up = self.until(10_000_000, |run| ports.iter().all(|port| run.is_up(*port)));
        assert!(up, "no link on some of {ports:?}: {:?}", self.events);
    }
}

pub fn tagger(config: &Config) -> Tagger {
    Tagger::new(config.protocol, config.device, config.user_ports())
}
