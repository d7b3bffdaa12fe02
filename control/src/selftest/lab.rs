//! What a test works with: it asks for something, gets the answer, and writes down what came of it.

use super::clocks::Interval;
use super::memory::{Blocks, Found, Slice};
use super::{Bed, DETAIL, Entry, Run, TESTS, Verdict};
use super::{Way, checksum, clocks, frames, links, management, memory};
use crate::shell::hardware::Reply;
use crate::status::MAX_INTERFACES;
use core::cell::{Cell, Ref, RefCell};
use core::convert::Infallible;
use core::fmt::{self, Write};
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use hal::net::mv88e6xxx::errand::{Request, Step};
use hal::net::mv88e6xxx::{PortIndex, PortSet};
use hal::net::steps;
use heapless::{String, Vec};

/// Steps of an errand at most.
const STEPS: usize = 16;
/// Longest wait for an errand to be done: the bring-up of the switch may come first.
const ERRAND_LIMIT_US: u64 = 5_000_000;

/// Something to be done by the machine, between two steps of a test.
#[derive(Clone, Copy)]
pub(super) enum Op {
    /// Watches the counters for so long, without a pause.
    Clocks { for_us: u64 },
    /// Looks for free memory.
    FreeMemory,
    /// Checks and fills a piece of it.
    Slice(Slice),
    /// Which ports have a PHY of their own.
    Ports,
    /// What the drivers know of links.
    Links,
    /// Has frames come back, or no longer.
    Loop(Option<Way>),
    /// Sends frames from this one on, so many.
    Send { first: u32, count: u32 },
    /// Looks at frames that came back.
    Take,
    /// Interrupts of the MAC so far.
    Interrupts,
    /// The steps in the lab, on the management bus, all of them so many times.
    Errand { times: usize, since_us: u64 },
}

/// What came of an [`Op`].
#[derive(Clone, Copy)]
pub(super) enum Answer {
    Clocks(Option<Interval>),
    Memory(Blocks),
    Slice(Result<Found, &'static str>),
    Ports(Option<PortSet>),
    /// Whether it was done.
    Done(bool),
    Count(u64),
    Took(frames::Took),
    Errand(Result<Reads, Fault>),
}

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
    pub(super) error: Option<steps::Error>,
}

/// Why an errand was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    NoBus,
    NoTime,
}

/// Why a test does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There is nothing to test.
    Absent(&'static str),
    /// It is not as it should be.
    Wrong(Detail),
}

impl Trouble {
    #[inline(never)]
    pub(super) fn wrong(what: fmt::Arguments) -> Trouble {
        Trouble::Wrong(detail(what))
    }
}

impl From<Fault> for Trouble {
    #[inline(never)]
    fn from(fault: Fault) -> Trouble {
        match fault {
            Fault::NoBus => Trouble::Absent("no switch"),
            Fault::NoTime => Trouble::wrong(format_args!("the management bus has no time")),
        }
    }
}

pub(super) type Detail = String<DETAIL>;
/// What was measured, or what is wrong.
pub(super) type Outcome = Result<Detail, Trouble>;

/// The text of a result, cut where it is too long.
#[inline(never)]
pub(super) fn detail(what: fmt::Arguments) -> Detail {
    let mut text = Detail::new();
    add(&mut text, what);
    text
}

/// Adds to it, as far as there is room.
#[inline(never)]
pub(super) fn add(to: &mut Detail, what: fmt::Arguments) {
    let _ = Cut(to).write_fmt(what);
}

struct Cut<'d>(&'d mut Detail);

impl Write for Cut<'_> {
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
pub(super) struct Lab {
    now_us: Cell<u64>,
    due_us: Cell<u64>,
    op: Cell<Option<Op>>,
    answer: Cell<Option<Answer>>,
    steps: RefCell<Vec<Step, STEPS>>,
    /// Of the errand that was handed in, or 0.
    ticket: Cell<u32>,
    /// Tests that wait for their turn.
    selected: Cell<u32>,
    since_us: Cell<u64>,
    names: RefCell<[String<15>; 6]>,
    links: RefCell<Vec<(String<15>, Option<u16>), MAX_INTERFACES>>,
    run: RefCell<Run>,
}

impl Default for Lab {
    fn default() -> Self {
        Lab {
            now_us: Cell::new(0),
            due_us: Cell::new(u64::MAX),
            op: Cell::new(None),
            answer: Cell::new(None),
            steps: RefCell::default(),
            ticket: Cell::new(0),
            selected: Cell::new(0),
            since_us: Cell::new(0),
            names: RefCell::default(),
            links: RefCell::default(),
            run: RefCell::default(),
        }
    }
}

impl Lab {
    // What `SelfTest` does.

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
            Op::Clocks { for_us } => Answer::Clocks(clocks::watch(bed, for_us)),
            Op::FreeMemory => Answer::Memory(memory::find(bed)),
            Op::Slice(slice) => Answer::Slice(memory::work(bed, slice)),
            Op::Ports => Answer::Ports(self.find_ports(bed)),
            Op::Links => {
                let mut links = self.links.borrow_mut();
                links.clear();
                bed.links(&mut |name, link| {
                    let name = String::try_from(name).unwrap_or_default();
                    // There is room for every interface.
                    let _ = links.push((name, links::shown(link)));
                });
                Answer::Done(true)
            }
            Op::Loop(way) => Answer::Done(bed.set_loop(way)),
            Op::Send { first, count } => Answer::Done(frames::send(bed, first, count)),
            Op::Take => Answer::Took(frames::take(bed)),
            Op::Interrupts => Answer::Count(bed.mac_interrupts()),
            Op::Errand { times, since_us } => match self.errand_on(bed, times, since_us) {
                Poll::Ready(result) => Answer::Errand(result),
                Poll::Pending => return Poll::Pending,
            },
        };
        self.op.set(None);
        self.answer.set(Some(answer));
        Poll::Ready(())
    }

    fn find_ports(&self, bed: &mut dyn Bed) -> Option<PortSet> {
        let hardware = bed.hardware().filter(|hardware| hardware.has_switch())?;
        let mut ports = PortSet::EMPTY;
        // Those inside the switch have a PHY.
        for port in (1..=4).filter_map(PortIndex::new) {
            if let Some(name) = hardware.port_name(port).filter(|name| *name != "cpu") {
                ports = ports.with(port);
                self.names.borrow_mut()[usize::from(port.get())] =
                    String::try_from(name).unwrap_or_default();
            }
        }
        Some(ports)
    }

    fn errand_on(
        &self,
        bed: &mut dyn Bed,
        times: usize,
        since_us: u64,
    ) -> Poll<Result<Reads, Fault>> {
        let Some(hardware) = bed.hardware().filter(|hardware| hardware.has_switch()) else {
            return Poll::Ready(Err(Fault::NoBus));
        };
        let mut ticket = self.ticket.get();
        let mut result = None;
        if ticket != 0 {
            let reply = hardware.answer(ticket, &mut |answer| {
                result = Some(collect(&answer.values, answer.error));
            });
            if reply == Reply::Lost {
                ticket = 0;
            }
        }
        if let Some(result) = result {
            self.ticket.set(0);
            return Poll::Ready(Ok(result));
        }
        if ticket == 0 {
            let steps = self.steps.borrow();
            let mut hand_over = |put: &mut dyn FnMut(Step)| {
                for _ in 0..times {
                    steps.iter().for_each(|step| put(*step));
                }
            };
            let request = Request::Steps(&mut hand_over);
            ticket = hardware.ask(request).unwrap_or(0);
        }
        self.ticket.set(ticket);
        match self.now_us.get().saturating_sub(since_us) {
            ERRAND_LIMIT_US.. => {
                self.ticket.set(0);
                Poll::Ready(Err(Fault::NoTime))
            }
            _ => Poll::Pending,
        }
    }

    // What tests do.

    pub(super) fn now_us(&self) -> u64 {
        self.now_us.get()
    }

    /// Has something done.
    pub(super) fn ask(&self, op: Op) -> Ask<'_> {
        Ask {
            lab: self,
            op: Some(op),
        }
    }

    /// Has these steps done on the management bus, as a whole; page 0 is selected again at the end.
    pub(super) fn errand(&self, steps: &[Step]) -> Errand<'_> {
        Errand(self.errands(steps, 1))
    }

    /// The same, so many times.
    pub(super) fn errands(&self, steps: &[Step], times: usize) -> Ask<'_> {
        let mut own = self.steps.borrow_mut();
        own.clear();
        own.extend(steps.iter().copied().take(STEPS));
        let since_us = self.now_us.get();
        self.ask(Op::Errand { times, since_us })
    }

    /// The ports with a PHY of their own.
    pub(super) async fn ports(&self) -> Result<PortSet, Trouble> {
        match self.ask(Op::Ports).await {
            Answer::Ports(Some(ports)) => Ok(ports),
            _ => Err(Trouble::Absent("no switch")),
        }
    }

    /// Learns what the drivers know of links.
    pub(super) async fn find_links(&self) {
        self.ask(Op::Links).await;
    }

    /// The name of an interface, by its place, and its link as [`links::shown`] has it.
    pub(super) fn driver_link(&self, at: usize) -> Option<(String<15>, Option<u16>)> {
        self.links.borrow().get(at).cloned()
    }

    pub(super) fn is_named(&self, port: PortIndex, name: &str) -> bool {
        self.names.borrow()[usize::from(port.get())] == name
    }

    /// Lets time pass.
    pub(super) fn sleep_us(&self, us: u64) -> Sleep<'_> {
        Sleep {
            lab: self,
            until_us: self.now_us.get() + us,
        }
    }

    /// Lets others work.
    pub(super) async fn give_way(&self) {
        self.due_us.set(self.now_us.get());
        steps::pause().await;
    }

    /// Writes down what came of a test.
    pub(super) fn note(&self, test: &'static str, outcome: Outcome) {
        self.note_as(test, String::new(), outcome);
    }

    /// Writes down what came of a test of a port.
    pub(super) fn note_port(&self, test: &'static str, port: PortIndex, outcome: Outcome) {
        let name = self.names.borrow()[usize::from(port.get())].clone();
        self.note_as(test, name, outcome);
    }

    pub(super) fn note_as(&self, test: &'static str, port: String<15>, outcome: Outcome) {
        let (verdict, detail) = match outcome {
            Ok(detail) => (Verdict::Passed, detail),
            Err(Trouble::Absent(why)) => (Verdict::Skipped, detail(format_args!("{why}"))),
            Err(Trouble::Wrong(detail)) => (Verdict::Failed, detail),
        };
        let now_us = self.now_us.get();
        let took_us = now_us.saturating_sub(self.since_us.replace(now_us));
        let entry = Entry {
            test,
            port,
            verdict,
            detail,
            took_us,
        };
        // There is room for every test of every port.
        let _ = self.run.borrow_mut().entries.push(entry);
    }
}

/// What an errand's values come to.
fn collect(values: &[u16], error: Option<steps::Error>) -> Reads {
    let first = values.first().copied().unwrap_or(0);
    let mut others = values.iter().filter(|value| **value != first);
    Reads {
        first,
        last: values.last().copied().unwrap_or(0),
        other: others.clone().next().copied().unwrap_or(0),
        differ: others.by_ref().count() as u32,
        done: values.len() as u32,
        error,
    }
}

/// See [`Lab::ask`].
pub(super) struct Ask<'l> {
    lab: &'l Lab,
    op: Option<Op>,
}

impl Future for Ask<'_> {
    type Output = Answer;

    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
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
    type Output = Result<Reads, Trouble>;

    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match Pin::new(&mut self.0).poll(context) {
            Poll::Ready(Answer::Errand(Ok(reads))) => Poll::Ready(match reads.error {
                None => Ok(reads),
                Some(error) => Err(Trouble::wrong(format_args!("{error}"))),
            }),
            Poll::Ready(Answer::Errand(Err(fault))) => Poll::Ready(Err(fault.into())),
            // No other answer comes.
            _ => Poll::Pending,
        }
    }
}

/// See [`Lab::sleep_us`].
pub(super) struct Sleep<'l> {
    lab: &'l Lab,
    until_us: u64,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.lab.now_us() >= self.until_us {
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
            lab.since_us.set(lab.now_us.get());
            // One result, or one for each port.
            let outcome = match test.name {
                "memory" => Some(memory::test(lab).await),
                "timer" => Some(clocks::test(lab).await),
                "checksum" => Some(checksum::test(lab).await),
                "mdio" => Some(management::mdio(lab).await),
                "phy-id" => management::phy_ids(lab).await.err().map(Err),
                "link" => {
                    links::links(lab).await;
                    None
                }
                "mac-loopback" => Some(frames::mac_loopback(lab).await),
                "ring" => Some(frames::ring(lab).await),
                "interrupts" => Some(frames::interrupts(lab).await),
                "phy-loopback" => frames::phy_loopback(lab).await.err().map(Err),
                "negotiation" => links::negotiation(lab).await.err().map(Err),
                "cable" => links::cable(lab).await.err().map(Err),
                _ => None,
            };
            if let Some(outcome) = outcome {
                lab.note(test.name, outcome);
            }
        }
        lab.run.borrow_mut().at_work = None;
        lab.selected.set(0);
        lab.due_us.set(u64::MAX);
        steps::pause().await;
    }
}
