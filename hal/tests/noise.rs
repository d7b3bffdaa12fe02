//! The switch driver on a bus that answers nonsense: no panic, no endless wait, and it goes on trying.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use espressobin_model::prng::Prng;
use hal::net::mdio::{self, PhyAddr, RegAddr};
use hal::net::mv88e6xxx::errand::{Place, Request, Step};
use hal::net::mv88e6xxx::{Config, Event, Mailbox, PortIndex, Smi, Switch, supervise};
use hal::net::phy::Setting;
use hal::net::steps::{Line, Stepper, step};
use hal::net::tag::Protocol;
use hal::time::Clock;
use std::cell::Cell;
use std::pin::pin;
use std::task::Poll;

/// Answers each read with one of: the right product number, an idle register, random bits, nothing.
struct Noise(Prng);

impl Line for Noise {
    fn start_read(&mut self, _: PhyAddr, _: RegAddr) -> Result<(), mdio::Error> {
        match self.0.below(20_000) {
            0 => Err(mdio::Error::Timeout),
            _ => Ok(()),
        }
    }

    fn start_write(&mut self, _: PhyAddr, _: RegAddr, _: u16) -> Result<(), mdio::Error> {
        Ok(())
    }

    fn finish(&mut self) -> Option<Result<u16, mdio::Error>> {
        if self.0.below(4) == 0 {
            return None;
        }
        let bits = self.0.next_u64() as u16;
        // Often what lets a sequence go on: idle, ready, the chip's number.
        Some(match self.0.below(100) {
            0 => Ok(bits),
            1 if self.0.below(50) == 0 => Ok(0xffff),
            2 if self.0.below(50) == 0 => Err(mdio::Error::NoAnswer),
            3..60 => Ok(bits & 0x7fff),
            60..80 => Ok(0x3410),
            _ => Ok(0x0000),
        })
    }
}

struct Ticks<'a>(&'a Cell<u64>);

impl Clock for Ticks<'_> {
    fn now_us(&mut self) -> u64 {
        self.0.set(self.0.get() + 1);
        self.0.get()
    }
}

#[test]
fn nonsense_from_the_bus_is_survived() {
    let mut attempts = 0;
    let mut ready = 0;
    let mut answers = 0;
    for seed in 0..20 {
        let (now, due) = (Cell::new(0), Cell::new(0));
        let noise = Noise(Prng::new(seed + 1));
        let port = |number| PortIndex::new(number).unwrap();
        let config = Config {
            cpu: port(0),
            protocol: Protocol::EtherTypeDsa,
            device: 0,
            users: std::array::from_fn(|at| (at > 0).then(Setting::default)),
            bridges: [None; 2],
            mac: [2, 0, 0, 0, 0, 1],
        };
        let mailbox = Mailbox::default();
        let regs = Smi::new(Stepper::new(noise, Ticks(&now), &due), PhyAddr(1));
        let mut task = pin!(supervise(Switch::new(regs, config), &mailbox));
        let mut ticket = 0;
        for round in 0..50_000u32 {
            let _ = step(task.as_mut());
            now.set(now.get().max(due.get()));
            let mut steps = |add: &mut dyn FnMut(Step)| {
                add(Step::Hold(port(1)));
                add(Step::Read(Place::Phy(port(1)), RegAddr(1)));
                add(Step::Release(port(1)));
            };
            let request = match round % 3 {
                0 => Request::Steps(&mut steps),
                1 => Request::Addresses(0, 2),
                _ => Request::Vlans,
            };
            ticket = mailbox.ask(request, now.get()).unwrap_or(ticket);
            answers += u32::from(matches!(mailbox.answer(ticket), Poll::Ready(Some(_))));
            while let Some(event) = mailbox.take_event() {
                match event {
                    Event::BringUpFailed(_) => attempts += 1,
                    Event::Ready { .. } => ready += 1,
                    _ => {}
                }
            }
        }
        assert!(mailbox.rounds() > 0, "seed {seed}: no sign of life");
    }
    assert!(
        attempts > 20 && ready > 0 && answers > 20,
        "{attempts} failed, {ready} came up, {answers} errands answered"
    );
}
