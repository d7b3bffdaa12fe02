//! Errands: what others want done on the management bus.
//!
//! The bus belongs to the switch's sequence, [`supervise`](super::supervise). Who wants something of it hands in an
//! errand, asks now and then whether it is done, and finds the answer in the [`Mailbox`]. The sequence runs errands
//! between two deeds of its own, each as a whole: nothing of its own comes in between, and nothing of another's.
//!
//! ```text
//!   ask(request) ──▶ ticket        sequence: run it, step by step        answer(ticket) ──▶ values, or entries
//! ```
//!
//! Registers of a PHY stand on pages, and register 22 says which: an errand may select one, and page 0 is selected again
//! when it ends. Without a switch, [`serve`] runs errands on a bus that belongs to nobody else.
//!
//! **What reading changes.** The link bit of a PHY's status (register 1) tells of a drop once: the value that an errand
//! reads on page 0 is handed to the supervision as if it had read it itself. The interrupts of a PHY (register 19) are
//! taken back by reading: its link is looked at with the next round instead. Other bits that reading clears, the
//! supervision has no use for: idle errors (register 10), page received (register 6), the interrupt bits of the
//! switch's global status.
//!
//! **What writing changes** is up to who writes. A PHY that loses its settings while its link is down is set up again by
//! the supervision; [`Step::Hold`] has it leave the PHY alone.

use super::{Config, Mailbox, PORTS, Phys, PortIndex, PortSet, Smi, Switch, atu, phy_addr, vtu};
use crate::net::mdio::{self, FLOATING, PhyAddr, RegAddr};
use crate::net::phy::{self, Phy};
use crate::net::steps::{Error, Registers};
use crate::net::tag::Protocol;
use core::convert::Infallible;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use heapless::Vec;

/// Steps of an errand at most: all registers of the ports and both globals.
pub const MAX_STEPS: usize = 256;
/// Entries of a table that an answer has room for.
pub const MAX_ENTRIES: usize = 128;
/// An answer that nobody fetches is thrown away for the next errand after this time.
const KEEP_US: u64 = 1_000_000;
/// The register of a PHY that selects the page of the others, in bits 7:0. Spec: Linux marvell.c.
pub const PAGE: RegAddr = RegAddr(22);
/// The status of a PHY, and its interrupts.
const STATUS: RegAddr = RegAddr(1);
const INTERRUPTS: RegAddr = RegAddr(19);

/// Whose register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Of a device on the wires of the management bus.
    Wire(PhyAddr),
    /// Of the switch: device 0x10 + port, 0x1b global 1, 0x1c global 2. They have no pages.
    Switch(PhyAddr),
    /// Of the PHY of a port, inside the switch.
    Phy(PortIndex),
}

/// A part of an errand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reads a register.
    Read(Place, RegAddr),
    /// Writes one.
    Write(Place, RegAddr, u16),
    /// Lets time pass. Links are not looked after meanwhile: a tenth of a second at most.
    Sleep {
        /// In microseconds.
        us: u32,
    },
    /// The supervision leaves the PHY of this port alone from here on; its link counts as down.
    Hold(PortIndex),
    /// It sets the PHY up as it wants it, and looks after it again.
    Release(PortIndex),
}

/// Takes steps one by one.
pub type Steps<'s> = dyn FnMut(&mut dyn FnMut(Step)) + 's;

/// What is wanted.
pub enum Request<'s> {
    /// Steps, which this hands over; [`MAX_STEPS`] at most.
    Steps(&'s mut Steps<'s>),
    /// The addresses in these databases, from and to: 0 of ports that are networks of their own, 1 and 2 of the bridges.
    Addresses(u16, u16),
    /// The VLANs.
    Vlans,
}

/// What came of an errand.
#[derive(Debug, Default)]
pub struct Answer {
    /// For each step what was read, or 0. On the wires of the bus, [`FLOATING`] is also what is read from nobody.
    pub values: Vec<u16, MAX_STEPS>,
    /// The addresses.
    pub addresses: Vec<atu::Entry, MAX_ENTRIES>,
    /// The VLANs.
    pub vlans: Vec<vtu::Entry, MAX_ENTRIES>,
    /// There are more entries than there is room for.
    pub more: bool,
    /// Why values or entries end early.
    pub error: Option<Error>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Free,
    Waiting,
    Done {
        at_us: u64,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Work {
    #[default]
    Steps,
    Addresses(u16, u16),
    Vlans,
}

/// The one errand there is at a time.
#[derive(Debug, Default)]
pub(super) struct Errand {
    pub(super) ticket: u32,
    pub(super) phase: Phase,
    work: Work,
    steps: Vec<Step, MAX_STEPS>,
    pub(super) answer: Answer,
}

impl Errand {
    pub(super) fn begin(&mut self, request: Request, now_us: u64) -> Option<u32> {
        match self.phase {
            Phase::Waiting => return None,
            Phase::Done { at_us } if now_us.saturating_sub(at_us) < KEEP_US => return None,
            Phase::Done { .. } | Phase::Free => {}
        }
        self.steps.clear();
        self.answer.values.clear();
        self.answer.addresses.clear();
        self.answer.vlans.clear();
        (self.answer.more, self.answer.error) = (false, None);
        self.work = match request {
            Request::Addresses(from, to) => Work::Addresses(from, to),
            Request::Vlans => Work::Vlans,
            Request::Steps(steps) => {
                // Those that find no room have no value.
                steps(&mut |step| {
                    let _ = self.steps.push(step);
                });
                Work::Steps
            }
        };
        self.phase = Phase::Waiting;
        // 0 is no ticket.
        self.ticket = self.ticket.checked_add(1).unwrap_or(1);
        Some(self.ticket)
    }
}

/// Sleeps until a time, or until there is an errand.
async fn sleep_until(regs: &mut impl Registers, until_us: u64, mailbox: &Mailbox) {
    let us = until_us.saturating_sub(regs.now_us());
    let mut sleep = pin!(regs.sleep_us(us));
    poll_fn(|cx| match mailbox.has_errand() {
        true => Poll::Ready(()),
        false => sleep.as_mut().poll(cx),
    })
    .await;
}

impl<W: Registers> Switch<Smi<W>> {
    /// Sleeps until a time, and runs errands meanwhile: at least one, so that the sequence's own business cannot keep
    /// them off, and none after that time, so that they cannot keep it off.
    pub(super) async fn rest(&mut self, until_us: u64, mailbox: &Mailbox) {
        loop {
            if mailbox.has_errand() {
                self.run_errand(mailbox).await;
            }
            if self.regs.now_us() >= until_us {
                return;
            }
            sleep_until(&mut self.regs, until_us, mailbox).await;
        }
    }

    async fn run_errand(&mut self, mailbox: &Mailbox) {
        let work = mailbox.errand.borrow().work;
        match work {
            Work::Steps => {
                let (mut done, mut paged) = (0, None);
                // Whatever became of the others, page 0 comes back.
                let leave = |port| Step::Write(Place::Phy(port), PAGE, 0);
                while let Some(step) = mailbox.step(done).or(paged.map(leave)) {
                    let value = self.do_step(step, &mut paged, mailbox).await;
                    done = mailbox.note_value(done, value);
                }
                // Who writes to the registers around the PHYs may have left something under way.
                self.phy_bus_is_idle = false;
            }
            Work::Addresses(from, to) => {
                let error = self.list_addresses(from, to, mailbox).await.err();
                mailbox.errand.borrow_mut().answer.error = error;
            }
            Work::Vlans => {
                let error = self.list_vlans(mailbox).await.err();
                mailbox.errand.borrow_mut().answer.error = error;
            }
        }
        mailbox.end_errand(self.regs.now_us());
    }

    async fn list_addresses(&mut self, from: u16, to: u16, mailbox: &Mailbox) -> Result<(), Error> {
        for fid in from..=to {
            let mut walk = atu::Walk::new(fid);
            while let Some(entry) = walk.next(&mut self.regs).await? {
                let answer = &mut mailbox.errand.borrow_mut().answer;
                if answer.addresses.push(entry).is_err() {
                    answer.more = true;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn list_vlans(&mut self, mailbox: &Mailbox) -> Result<(), Error> {
        let mut walk = vtu::Walk::default();
        while let Some(entry) = walk.next(&mut self.regs).await? {
            let answer = &mut mailbox.errand.borrow_mut().answer;
            if answer.vlans.push(entry).is_err() {
                answer.more = true;
                return Ok(());
            }
        }
        Ok(())
    }

    /// `paged` is the PHY whose page is not 0. Not for long: whatever comes of it, page 0 counts as selected then.
    async fn do_step(
        &mut self,
        step: Step,
        paged: &mut Option<PortIndex>,
        mailbox: &Mailbox,
    ) -> Result<u16, Error> {
        let mut value = 0;
        // What it means for a link.
        let (port, news) = match step {
            Step::Read(Place::Wire(device), reg) => {
                return match self.regs.wire().read(device, reg).await {
                    Err(Error::Mdio(mdio::Error::NoAnswer)) => Ok(FLOATING),
                    result => result,
                };
            }
            Step::Read(Place::Switch(device), reg) => return self.regs.read(device, reg).await,
            Step::Read(Place::Phy(port), reg) => {
                let mut phys = Phys::new(&mut self.regs, &mut self.phy_bus_is_idle);
                value = phys.read(phy_addr(port), reg).await?;
                if *paged == Some(port) {
                    return Ok(value);
                }
                // What was read is gone for the supervision.
                let phy = self.phys[port.index()].as_mut();
                let event = match reg {
                    STATUS => phy.and_then(|phy| phy.see(value)),
                    _ => None,
                };
                if reg == INTERRUPTS {
                    self.unsettled = self.unsettled.with(port);
                }
                (port, Ok(event))
            }
            Step::Write(place, reg, value) => {
                let result = match place {
                    Place::Wire(device) => self.regs.wire().write(device, reg, value).await,
                    Place::Switch(device) => self.regs.write(device, reg, value).await,
                    Place::Phy(port) => {
                        if reg == PAGE {
                            *paged = (value & 0xff != 0).then_some(port);
                        }
                        let mut phys = Phys::new(&mut self.regs, &mut self.phy_bus_is_idle);
                        phys.write(phy_addr(port), reg, value).await
                    }
                };
                return result.map(|()| 0);
            }
            Step::Sleep { us } => {
                self.regs.sleep_us(us.into()).await;
                return Ok(0);
            }
            Step::Hold(port) => {
                mailbox.set_held(mailbox.held().with(port));
                let up = self.phys[port.index()].as_mut().and_then(Phy::let_go);
                (port, Ok(up.map(|_| phy::Event::Down)))
            }
            Step::Release(port) => {
                mailbox.set_held(mailbox.held().without(port));
                let Some(phy) = &mut self.phys[port.index()] else {
                    return Ok(0);
                };
                let mut phys = Phys::new(&mut self.regs, &mut self.phy_bus_is_idle);
                (port, phy.bring_up(&mut phys).await.map(|()| None))
            }
        };
        self.note_link(port, news, mailbox).await?;
        Ok(value)
    }
}

/// Runs errands on a bus that belongs to nobody else, for ever: what stands in for [`supervise`](super::supervise) where
/// no switch is known. If there is one at the address that `regs` has for it, its registers can be had, too.
pub async fn serve<W: Registers>(regs: Smi<W>, mailbox: &Mailbox) -> Infallible {
    let config = Config {
        cpu: PortIndex::ZERO,
        protocol: Protocol::Dsa,
        device: 0,
        users: [None; PORTS],
        bridges: [None; 2],
        mac: [0; 6],
    };
    let mut nobody = Switch::new(regs, config);
    loop {
        nobody.rest(u64::MAX, mailbox).await;
    }
}

impl Mailbox {
    /// Hands in an errand, and gives the ticket to [`answer`](Mailbox::answer) with; never 0. `None` while another is
    /// under way, or its answer waits to be fetched.
    pub fn ask(&self, request: Request, now_us: u64) -> Option<u32> {
        self.errand.try_borrow_mut().ok()?.begin(request, now_us)
    }

    /// The answer to an errand, once. Pending while it is under way; `None` if somebody was quicker to hand in another
    /// than this one's owner to fetch the answer.
    pub fn answer(&self, ticket: u32) -> Poll<Option<core::cell::Ref<'_, Answer>>> {
        let Ok(mut errand) = self.errand.try_borrow_mut() else {
            return Poll::Pending;
        };
        match (errand.ticket == ticket, errand.phase) {
            (true, Phase::Waiting) => return Poll::Pending,
            (true, Phase::Done { .. }) => errand.phase = Phase::Free,
            _ => return Poll::Ready(None),
        }
        drop(errand);
        let errand = self.errand.borrow();
        Poll::Ready(Some(core::cell::Ref::map(errand, |errand| &errand.answer)))
    }

    /// Ports whose PHY the supervision leaves alone.
    pub fn held(&self) -> PortSet {
        self.held.get()
    }

    pub(super) fn set_held(&self, held: PortSet) {
        self.held.set(held);
    }

    pub(super) fn has_errand(&self) -> bool {
        self.errand.borrow().phase == Phase::Waiting
    }

    fn step(&self, index: usize) -> Option<Step> {
        self.errand.borrow().steps.get(index).copied()
    }

    /// Notes what came of step `done`, unless it failed before. Returns the number of the next one.
    fn note_value(&self, done: usize, value: Result<u16, Error>) -> usize {
        let answer = &mut self.errand.borrow_mut().answer;
        match value {
            // As many values as steps: there is room.
            Ok(value) if done < MAX_STEPS => _ = answer.values.push(value),
            Ok(_) => {}
            Err(error) => {
                answer.error.get_or_insert(error);
                return MAX_STEPS;
            }
        }
        done + 1
    }

    fn end_errand(&self, at_us: u64) {
        let mut errand = self.errand.borrow_mut();
        if errand.phase == Phase::Waiting {
            errand.phase = Phase::Done { at_us };
        }
    }
}
