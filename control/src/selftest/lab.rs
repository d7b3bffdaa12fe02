//! What a test works with: it asks for something, gets the answer, and writes down what came of it.
//!
//! A test is about the machine, or about several things with a name: ports, interfaces. For each of them there is a
//! [`Subject`], on which the test writes as it goes; at its end every subject becomes a result. A subject that nothing
//! was said against has passed, unless the test came to nothing as a whole: then that is its result.

use super::memory::{BLOCKS, Slice};
use super::{Bed, DETAIL, Entry, Run, TESTS, Verdict, Way, Which};
use super::{checksum, clocks, frames, links, management, memory};
use crate::shell::hardware::Reply;
use crate::status::MAX_INTERFACES;
use crate::trace::{Event, trace};
use core::cell::{Cell, Ref, RefCell, RefMut};
use core::convert::Infallible;
use core::fmt::{self, Write};
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use hal::net::mv88e6xxx::errand::{Request, Step};
use hal::net::mv88e6xxx::{PORTS, PortIndex, PortSet};
use hal::net::steps;
use heapless::{String, Vec};

/// Steps of an errand at most.
const STEPS: usize = 8;
/// Longest wait for an errand to be done: the bring-up of the switch may come first.
const ERRAND_LIMIT_US: u64 = 5_000_000;
/// Things that a test may be about: ports by their number, or interfaces by their place.
const SUBJECTS: usize = if MAX_INTERFACES > PORTS {
    MAX_INTERFACES
} else {
    PORTS
};

/// Something to be done by the machine, between two steps of a test. What comes of it is a number.
#[derive(Clone, Copy)]
pub(super) enum Op {
    /// Watches the counters for a while, without a pause: see [`clocks::watch`].
    Clocks,
    /// Looks for free memory: how many blocks there are. Where, is in the lab.
    FreeMemory,
    /// Checks and fills a piece of it: how many words are wrong, or [`NOT_DONE`].
    Slice(Slice),
    /// Makes the ports with a PHY the subjects: their set, or [`NOT_DONE`].
    Ports,
    /// Makes the interfaces the subjects: how many.
    Interfaces,
    /// Has frames come back, or no longer: [`NOT_DONE`] if that cannot be.
    Loop(Option<Way>),
    /// Sends frames from this one on, so many: how many could not be sent.
    Send { first: u32, count: u32 },
    /// Looks at frames that came back: how many, and in the upper half how many differ.
    Take,
    /// Interrupts of the MAC so far.
    Interrupts,
    /// The steps in the lab, on the management bus, all of them so many times. What was read is in the lab.
    Errand { times: usize, since_us: u64 },
}

/// It could not be done at all.
pub(super) const NOT_DONE: u64 = u64::MAX;

/// What an errand has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reads {
    /// By the first step, and by the last.
    pub(super) first: u16,
    pub(super) last: u16,
    /// How many steps read something else than the first, and what the first of these read.
    pub(super) differ: u32,
    pub(super) other: u16,
    /// How many steps were done, and why not all were.
    pub(super) done: u32,
    pub(super) error: Option<Trouble>,
}

/// Why a test came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There is nothing to test.
    Absent(&'static str),
    /// It is not as it should be.
    Wrong(&'static str),
    /// A register cannot be reached.
    Access(steps::Error),
}

pub(super) const NO_SWITCH: Trouble = Trouble::Absent("no switch");

pub(super) type Outcome = Result<(), Trouble>;

/// What a test is about, and what it has to say.
#[derive(Default)]
pub(super) struct Subject {
    name: String<15>,
    /// Of an interface: its port, if it is one of the switch's, and its link as [`links::shown`] has it.
    port: Option<PortIndex>,
    link: Option<u16>,
    verdict: Option<Verdict>,
    text: Text,
}

/// Text that is cut where it is too long.
#[derive(Default)]
struct Text(String<DETAIL>);

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut end = text.len().min(DETAIL - self.0.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        // There is room.
        let _ = self.0.push_str(&text[..end]);
        Ok(())
    }
}

/// Between the tests and [`SelfTest`](super::SelfTest).
#[derive(Default)]
pub(super) struct Lab {
    now_us: Cell<u64>,
    due_us: Cell<u64>,
    op: Cell<Option<Op>>,
    answer: Cell<Option<u64>>,
    steps: RefCell<Vec<Step, STEPS>>,
    /// Of the errand that was handed in, or 0.
    ticket: Cell<u32>,
    pub(super) reads: Cell<Reads>,
    pub(super) blocks: Cell<[u64; BLOCKS]>,
    pub(super) found: Cell<memory::Found>,
    pub(super) interval: Cell<clocks::Interval>,
    /// Tests that wait for their turn.
    selected: Cell<u32>,
    since_us: Cell<u64>,
    subjects: RefCell<[Subject; SUBJECTS]>,
    /// Those that the present test is about, a bit for each.
    about: Cell<u32>,
    run: RefCell<Run>,
}

impl Lab {
    // What `SelfTest` does.

    /// Nothing is due.
    pub(super) fn rest(&self) {
        self.due_us.set(u64::MAX);
    }

    pub(super) fn start(&self, set: u32) -> Option<u32> {
        let mut run = self.run.try_borrow_mut().ok()?;
        if run.at_work.is_some() {
            return None;
        }
        run.id += 1;
        run.at_work = Some("");
        run.entries.clear();
        self.selected.set(set);
        self.due_us.set(0);
        Some(run.id)
    }

    pub(super) fn run(&self) -> Ref<'_, Run> {
        self.run.borrow()
    }

    pub(super) fn set_now(&self, now_us: u64) {
        self.now_us.set(now_us);
    }

    pub(super) fn due_us(&self) -> u64 {
        self.due_us.get()
    }

    pub(super) fn asked(&self) -> Option<Op> {
        self.op.get()
    }

    /// Does what a test asked for, if it can be done now.
    pub(super) fn perform(&self, op: Op, bed: &mut dyn Bed) -> Poll<()> {
        let answer = match op {
            Op::Clocks => clocks::watch(self, bed),
            Op::FreeMemory => memory::find(self, bed),
            Op::Slice(slice) => memory::work(self, bed, slice),
            Op::Ports => self.take_ports(bed),
            Op::Interfaces => self.take_interfaces(bed),
            Op::Loop(way) => match bed.set_loop(way) {
                true => 0,
                false => NOT_DONE,
            },
            Op::Send { first, count } => frames::send(bed, first, count),
            Op::Take => frames::take(bed),
            Op::Interrupts => bed.mac_interrupts(),
            Op::Errand { times, since_us } => match self.errand_on(bed, times, since_us) {
                Some(error) => {
                    self.reads.set(Reads {
                        error,
                        ..self.reads.get()
                    });
                    0
                }
                None => return Poll::Pending,
            },
        };
        self.op.set(None);
        self.answer.set(Some(answer));
        Poll::Ready(())
    }

    fn take_ports(&self, bed: &mut dyn Bed) -> u64 {
        let Some(hardware) = bed.hardware().filter(|hardware| hardware.has_switch()) else {
            return NOT_DONE;
        };
        let mut ports = PortSet::EMPTY;
        // Those inside the switch have a PHY.
        for port in (1..=4).filter_map(PortIndex::new) {
            if let Some(name) = hardware.port_name(port).filter(|name| *name != "cpu") {
                ports = ports.with(port);
                let subject = &mut self.subjects.borrow_mut()[usize::from(port.get())];
                subject.name = String::try_from(name).unwrap_or_default();
            }
        }
        self.about.set(ports.bits().into());
        ports.bits().into()
    }

    fn take_interfaces(&self, bed: &mut dyn Bed) -> u64 {
        let mut count = 0;
        bed.links(&mut |name, link| {
            if let Some(subject) = self.subjects.borrow_mut().get_mut(count) {
                subject.name = String::try_from(name).unwrap_or_default();
                subject.link = links::shown(link);
                count += 1;
            }
        });
        if let Some(hardware) = bed.hardware().filter(|hardware| hardware.has_switch()) {
            for subject in &mut self.subjects.borrow_mut()[..count] {
                let name = subject.name.as_str();
                subject.port =
                    PortIndex::all().find(|port| hardware.port_name(*port) == Some(name));
            }
        }
        self.about.set((1 << count) - 1);
        count as u64
    }

    /// `None` while it is under way; then what went wrong, if anything did.
    fn errand_on(&self, bed: &mut dyn Bed, times: usize, since_us: u64) -> Option<Option<Trouble>> {
        let Some(hardware) = bed.hardware().filter(|hardware| hardware.has_switch()) else {
            return Some(Some(NO_SWITCH));
        };
        let ticket = self.ticket.take();
        let reply = match ticket {
            0 => Reply::Lost,
            ticket => hardware.answer(ticket, &mut |answer| {
                // What stands behind has no step of ours.
                let steps = self.steps.borrow().len() * times;
                let values = &answer.values[..steps.min(answer.values.len())];
                let first = values.first().copied().unwrap_or(0);
                let others = || values.iter().filter(|value| **value != first);
                self.reads.set(Reads {
                    first,
                    last: values.last().copied().unwrap_or(0),
                    other: others().next().copied().unwrap_or(0),
                    differ: others().count() as u32,
                    done: values.len() as u32,
                    error: answer.error.map(Trouble::Access),
                });
            }),
        };
        match reply {
            Reply::Given => return Some(self.reads.get().error),
            Reply::Pending => self.ticket.set(ticket),
            Reply::Lost => {
                let steps = self.steps.borrow();
                let mut hand_over = |put: &mut dyn FnMut(Step)| {
                    for _ in 0..times {
                        steps.iter().for_each(|step| put(*step));
                    }
                };
                let ticket = hardware.ask(Request::Steps(&mut hand_over));
                self.ticket.set(ticket.unwrap_or(0));
            }
        }
        if self.now_us() - since_us < ERRAND_LIMIT_US {
            return None;
        }
        self.ticket.set(0);
        Some(Some(Trouble::Wrong("the management bus has no time")))
    }

    // What tests do.

    pub(super) fn now_us(&self) -> u64 {
        self.now_us.get()
    }

    /// Has something done.
    #[inline(never)]
    pub(super) fn ask(&self, op: Op) -> Ask<'_> {
        Ask {
            lab: self,
            op: Some(op),
        }
    }

    /// Has these steps done on the management bus, as a whole; page 0 is selected again at the end. What the last of
    /// them read.
    #[inline(never)]
    pub(super) fn errand(&self, steps: &[Step]) -> Errand<'_> {
        Errand(self.errands(steps, 1))
    }

    /// The same, so many times; what was read is in [`Lab::reads`].
    #[inline(never)]
    pub(super) fn errands(&self, steps: &[Step], times: usize) -> Ask<'_> {
        let mut own = self.steps.borrow_mut();
        own.clear();
        own.extend(steps.iter().copied().take(STEPS));
        let since_us = self.now_us();
        self.reads.set(Reads::default());
        self.ask(Op::Errand { times, since_us })
    }

    /// The ports with a PHY of their own: the test is about them.
    pub(super) async fn ports(&self) -> Result<PortSet, Trouble> {
        match self.ask(Op::Ports).await {
            NOT_DONE => Err(NO_SWITCH),
            bits => Ok(PortSet::from_bits(bits as u16)),
        }
    }

    /// Lets time pass.
    #[inline(never)]
    pub(super) fn sleep_us(&self, us: u64) -> Sleep<'_> {
        Sleep {
            lab: self,
            until_us: self.now_us() + us,
            slept: false,
        }
    }

    /// An interface by its place: its link as [`links::shown`] has it, and its port if it is one of the switch's.
    pub(super) fn interface(&self, at: usize) -> (Option<u16>, Option<PortIndex>) {
        let subject = self.subject(at);
        (subject.link, subject.port)
    }

    /// One of what the test is about: a port by its number, an interface by its place, 0 for the machine. For as short
    /// as a statement.
    fn subject(&self, at: usize) -> RefMut<'_, Subject> {
        RefMut::map(self.subjects.borrow_mut(), |all| &mut all[at % SUBJECTS])
    }

    /// What was measured. Behind a comma, if something stands there already.
    #[inline(never)]
    pub(super) fn say(&self, at: usize, what: fmt::Arguments) {
        let text = &mut self.subject(at).text;
        // Never fails.
        let _ = match text.0.is_empty() {
            true => text.write_fmt(what),
            false => text.write_fmt(format_args!(", {what}")),
        };
    }

    /// What is wrong.
    #[inline(never)]
    pub(super) fn wrong(&self, at: usize, what: fmt::Arguments) {
        self.say(at, what);
        self.judge(at, Verdict::Failed);
    }

    /// Nothing was tested, or it is not as it should be.
    #[inline(never)]
    pub(super) fn end(&self, at: usize, trouble: Trouble) {
        let verdict = match trouble {
            Trouble::Absent(_) => Verdict::Skipped,
            Trouble::Wrong(_) | Trouble::Access(_) => Verdict::Failed,
        };
        match trouble {
            Trouble::Absent(why) | Trouble::Wrong(why) => self.say(at, format_args!("{why}")),
            Trouble::Access(error) => self.say(at, format_args!("{error}")),
        }
        self.judge(at, verdict);
    }

    pub(super) fn judge(&self, at: usize, verdict: Verdict) {
        self.subject(at).verdict = Some(verdict);
    }

    pub(super) fn is_judged(&self, at: usize) -> bool {
        self.subject(at).verdict.is_some()
    }

    fn trace(&self, event: Event, test: usize) {
        trace(event, (test as u8, self.run().id));
    }

    /// Results of what the test was about. Whether something failed.
    #[inline(never)]
    fn close(&self, test: &'static str, outcome: Outcome) -> bool {
        let mut failed = false;
        let now_us = self.now_us();
        let took_us = now_us - self.since_us.replace(now_us);
        for at in 0..SUBJECTS {
            if self.about.get() >> at & 1 != 0 {
                if let Err(trouble) = outcome
                    && !self.is_judged(at)
                {
                    self.end(at, trouble);
                }
                let subject = core::mem::take(&mut *self.subject(at));
                failed |= subject.verdict == Some(Verdict::Failed);
                // There is room for every test of every port.
                let _ = self.run.borrow_mut().entries.push(Entry {
                    test,
                    port: subject.name,
                    verdict: subject.verdict.unwrap_or(Verdict::Passed),
                    detail: subject.text.0,
                    took_us,
                });
            }
        }
        failed
    }
}

/// See [`Lab::ask`].
pub(super) struct Ask<'l> {
    lab: &'l Lab,
    op: Option<Op>,
}

impl Future for Ask<'_> {
    type Output = u64;

    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u64> {
        if let Some(op) = self.op.take() {
            self.lab.op.set(Some(op));
            return Poll::Pending;
        }
        match self.lab.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }
    }
}

/// See [`Lab::errand`].
pub(super) struct Errand<'l>(Ask<'l>);

impl Future for Errand<'_> {
    type Output = Result<u16, Trouble>;

    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if Pin::new(&mut self.0).poll(context).is_pending() {
            return Poll::Pending;
        }
        let reads = self.0.lab.reads.get();
        Poll::Ready(reads.error.map_or(Ok(reads.last), Err))
    }
}

/// See [`Lab::sleep_us`].
pub(super) struct Sleep<'l> {
    lab: &'l Lab,
    until_us: u64,
    slept: bool,
}

impl Future for Sleep<'_> {
    type Output = ();

    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if core::mem::replace(&mut self.slept, true) && self.lab.now_us() >= self.until_us {
            return Poll::Ready(());
        }
        self.lab.due_us.set(self.until_us);
        Poll::Pending
    }
}

/// Waits for runs, and does them.
pub(super) async fn work(lab: &'static Lab) -> Infallible {
    loop {
        for (at, test) in TESTS.iter().enumerate() {
            if lab.selected.get() >> at & 1 == 0 {
                continue;
            }
            lab.run.borrow_mut().at_work = Some(test.name);
            // Whoever resets a machine that hangs wants to know in what.
            lab.trace(Event::TestBegun, at);
            lab.since_us.set(lab.now_us());
            lab.about.set(1);
            let outcome = match test.which {
                Which::Memory => memory::test(lab).await,
                Which::Timer => clocks::test(lab).await,
                Which::Checksum => checksum::test(lab).await,
                Which::Mdio => management::mdio(lab).await,
                Which::PhyId => management::phy_ids(lab).await,
                Which::Link => links::links(lab).await,
                Which::MacLoopback => frames::mac_loopback(lab).await,
                Which::Ring => frames::ring(lab).await,
                Which::Interrupts => frames::interrupts(lab).await,
                Which::PhyLoopback => frames::phy_loopback(lab).await,
                Which::Negotiation => links::negotiation(lab).await,
                Which::Cable => links::cable(lab).await,
            };
            if lab.close(test.name, outcome) {
                lab.trace(Event::TestFailed, at);
            }
        }
        lab.run.borrow_mut().at_work = None;
        lab.selected.set(0);
        lab.rest();
        steps::pause().await;
    }
}
