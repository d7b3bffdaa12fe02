//! A board of two ports, `wan` with a partner and `lan0` with a cable to nobody, that misbehaves on demand.

use crate::shell::hardware::{Hardware, Reply};
use hal::net::mdio::PhyAddr;
use hal::net::mv88e6xxx::errand::{Answer, Place, Request, Step};
use hal::net::mv88e6xxx::{PortIndex, PortSet};
use hal::net::neta::RingDump;
use hal::net::{Coalescing, Count};
use std::collections::{BTreeMap, VecDeque};
use std::vec::Vec as List;

use crate::selftest::Way;

#[derive(Default)]
struct Phy {
    page: u8,
    control: u16,
    registers: BTreeMap<(u8, u8), u16>,
}

/// What is there, and what is wrong with it.
#[derive(Default)]
pub struct Board {
    phys: [Phy; 3],
    pub held: u16,
    /// All that were ever held.
    pub was_held: u16,
    answer: Answer,
    waiting: u32,
    tickets: u32,
    pub looped: Option<Way>,
    frames: VecDeque<List<u8>>,
    sent: u32,
    pub interrupts: u64,
    reads: u32,
    /// One of so many reads of the switch's identifier has a wrong bit.
    pub flip_every: u32,
    /// What register 3 of the PHYs reads instead.
    pub phy_id: Option<u16>,
    /// One of so many frames comes back with a wrong byte, or not at all.
    pub corrupt_every: u32,
    pub lose_every: u32,
    /// So many interrupts for each frame.
    pub storm: u64,
    /// The partner does not answer when it is asked for this mode alone: bits as in register 4, from bit 5 on.
    pub deaf_to: u16,
    /// What the cable test finds: four bits for each pair.
    pub cable: u16,
    /// The bus says this from this step on.
    pub fails_from: Option<u32>,
    steps: u32,
}

const WAN: usize = 1;

impl Board {
    pub fn new() -> Self {
        let mut board = Board {
            cable: 0x1111,
            ..Board::default()
        };
        board.phys.iter_mut().for_each(|phy| phy.control = 0x1140);
        board.phys[WAN].registers.insert((0, 4), 0x0de1);
        board.phys[WAN].registers.insert((0, 9), 0x0200);
        board
    }

    /// Register 17: what the two sides agree on.
    fn link(&self, port: usize) -> u16 {
        let phy = &self.phys[port];
        let gigabit = 2 << 14 | 1 << 13 | 1 << 11 | 1 << 10;
        if phy.control & 1 << 14 != 0 {
            return gigabit;
        }
        if port != WAN || phy.control & 1 << 12 == 0 {
            return 0;
        }
        let held = |reg| phy.registers.get(&(0, reg)).copied().unwrap_or(0);
        let modes = held(4) >> 5 & 0xf | (held(9) >> 8 & 3) << 4;
        let up = 1 << 11 | 1 << 10;
        match modes & !self.deaf_to {
            0 => 0,
            modes => match modes.ilog2() {
                5 => gigabit,
                best => u16::from(best >= 2) << 14 | u16::from(best % 2 == 1) << 13 | up,
            },
        }
    }

    fn read(&mut self, port: usize, reg: u8) -> u16 {
        let phy = &self.phys[port];
        match (phy.page, reg) {
            (0, 0) => phy.control,
            (0, 2) => 0x0141,
            (0, 3) => self.phy_id.unwrap_or(0x0c00),
            (0, 5) => 0x0de1,
            (0, 10) => 0x0800,
            (0, 17) => self.link(port),
            (7, 16..=19) => 1250,
            // Nobody at the other end: every pair is open there.
            (7, 20) if port != WAN => 0x2222,
            (7, 20) => self.cable,
            (7, 21) => 0,
            at => phy.registers.get(&at).copied().unwrap_or(0),
        }
    }

    fn write(&mut self, port: usize, reg: u8, value: u16) {
        let phy = &mut self.phys[port];
        match (phy.page, reg) {
            (_, 22) => phy.page = value as u8,
            (0, 0) => phy.control = value & !(1 << 15 | 1 << 9),
            at => _ = phy.registers.insert(at, value),
        }
    }

    fn step(&mut self, step: Step) -> u16 {
        let at = |port: PortIndex| usize::from(port.get());
        match step {
            Step::Read(Place::Switch(PhyAddr(0x10)), _) => {
                self.reads += 1;
                let flips = self.flip_every > 0 && self.reads.is_multiple_of(self.flip_every);
                if flips { 0x3411 } else { 0x3410 }
            }
            Step::Read(Place::Phy(port), reg) => self.read(at(port), reg.0),
            Step::Write(Place::Phy(port), reg, value) => {
                self.write(at(port), reg.0, value);
                0
            }
            Step::Hold(port) => {
                self.held |= 1 << port.get();
                self.was_held |= self.held;
                0
            }
            Step::Release(port) => {
                self.held &= !(1 << port.get());
                let phy = &mut self.phys[at(port)];
                phy.control = 0x1140;
                phy.registers.insert((0, 4), 0x0de1);
                phy.registers.insert((0, 9), 0x0200);
                0
            }
            _ => 0,
        }
    }

    pub fn send(&mut self, mut bytes: List<u8>) {
        self.sent += 1;
        self.interrupts += self.storm.max(1);
        let hit = |every| every > 0 && self.sent.is_multiple_of(every);
        if hit(self.corrupt_every) {
            let last = bytes.len() - 1;
            bytes[last] ^= 0x10;
        }
        // Somebody else's, too: it is no business of the test.
        self.frames.push_back(vec![0x86, 0xdd, 0, 0]);
        if !hit(self.lose_every) {
            self.frames.push_back(bytes);
        }
    }

    pub fn take(&mut self) -> Option<List<u8>> {
        self.frames.pop_front()
    }
}

impl Hardware for Board {
    fn port_name(&self, port: PortIndex) -> Option<&str> {
        ["cpu", "wan", "lan0"].get(usize::from(port.get())).copied()
    }

    fn has_switch(&self) -> bool {
        true
    }

    fn ask(&mut self, request: Request) -> Option<u32> {
        let Request::Steps(hand_over) = request else {
            return None;
        };
        let mut steps = List::new();
        hand_over(&mut |step| steps.push(step));
        self.answer.values.clear();
        self.answer.error = None;
        for step in steps {
            self.steps += 1;
            let fails = self.fails_from.is_some_and(|from| self.steps >= from);
            // Taking the PHYs back works: it is what the test of this is about.
            if fails && !matches!(step, Step::Release(_)) {
                let error = hal::net::mdio::Error::Timeout;
                self.answer.error = Some(hal::net::steps::Error::Mdio(error));
                break;
            }
            let value = self.step(step);
            self.answer.values.push(value).unwrap();
        }
        self.phys.iter_mut().for_each(|phy| phy.page = 0);
        self.waiting = 2;
        self.tickets += 1;
        Some(self.tickets)
    }

    fn answer(&mut self, ticket: u32, show: &mut dyn FnMut(&Answer)) -> Reply {
        assert_eq!(ticket, self.tickets);
        self.waiting -= 1;
        match self.waiting {
            0 => {
                show(&self.answer);
                Reply::Given
            }
            _ => Reply::Pending,
        }
    }

    fn held(&self) -> PortSet {
        PortSet::from_bits(self.held)
    }

    fn port_total(&self, _: PortIndex, _: usize) -> Option<(&'static str, u64)> {
        None
    }

    fn port_totals_at_us(&self, _: PortIndex) -> Option<u64> {
        None
    }

    fn want_port_totals(&self, _: PortIndex) {}

    fn mac_registers(&mut self, _: &mut dyn FnMut(&'static str, u32, u32)) {}

    fn mac_rings(&mut self) -> [RingDump; 2] {
        unimplemented!("no test looks at rings")
    }

    fn mac_count(&mut self, _: usize) -> Option<Count> {
        None
    }

    fn coalescing(&self) -> Coalescing {
        Coalescing::LATENCY
    }

    fn set_coalescing(&mut self, _: Coalescing) {}

    fn mac_loopback(&self) -> bool {
        self.looped == Some(Way::Mac)
    }

    fn set_mac_loopback(&mut self, _: bool) {}
}
