//! What a test works with: it asks for something, gets the answer, and writes down what came of it.

use super::clocks::Interval;
use super::memory::{Blocks, Found, Slice};
use super::{DETAIL, Entry, Run, TESTS, Verdict, clocks, memory};
use core::cell::{Cell, Ref, RefCell};
use core::convert::Infallible;
use core::fmt::{self, Write};
use hal::net::steps::pause;
use heapless::String;

/// Something to be done by the machine, between two steps of a test.
#[derive(Clone, Copy)]
pub(super) enum Op {
    /// Watches the counters for so long, without a pause.
    Clocks { for_us: u64 },
    /// Looks for free memory.
    FreeMemory,
    /// Checks and fills a piece of it.
    Slice(Slice),
}

/// What came of an [`Op`].
#[derive(Clone, Copy)]
pub(super) enum Answer {
    Clocks(Option<Interval>),
    Memory(Blocks),
    Slice(Result<Found, &'static str>),
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
    pub(super) fn wrong(what: fmt::Arguments) -> Trouble {
        Trouble::Wrong(detail(what))
    }
}

pub(super) type Detail = String<DETAIL>;
/// What was measured, or what is wrong.
pub(super) type Outcome = Result<Detail, Trouble>;

/// The text of a result, cut where it is too long.
pub(super) fn detail(what: fmt::Arguments) -> Detail {
    let mut text = Cut(Detail::new());
    let _ = text.write_fmt(what);
    text.0
}

struct Cut(Detail);

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            self.0.push(character).map_err(|_| fmt::Error)?;
        }
        Ok(())
    }
}

/// Between the tests and [`SelfTest`](super::SelfTest).
pub(super) struct Lab {
    now_us: Cell<u64>,
    due_us: Cell<u64>,
    op: Cell<Option<Op>>,
    answer: Cell<Option<Answer>>,
    /// Tests that wait for their turn.
    selected: Cell<u32>,
    since_us: Cell<u64>,
    run: RefCell<Run>,
}

impl Default for Lab {
    fn default() -> Self {
        Lab {
            now_us: Cell::new(0),
            due_us: Cell::new(u64::MAX),
            op: Cell::new(None),
            answer: Cell::new(None),
            selected: Cell::new(0),
            since_us: Cell::new(0),
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

    pub(super) fn answer(&self, answer: Answer) {
        self.op.set(None);
        self.answer.set(Some(answer));
    }

    // What tests do.

    /// Has something done.
    pub(super) async fn ask(&self, op: Op) -> Answer {
        self.op.set(Some(op));
        loop {
            pause().await;
            if let Some(answer) = self.answer.take() {
                return answer;
            }
        }
    }

    /// Lets others work.
    pub(super) async fn give_way(&self) {
        self.due_us.set(self.now_us.get());
        pause().await;
    }

    /// Writes down what came of a test, for `port` or for none.
    pub(super) fn note(&self, test: &'static str, port: &str, outcome: Outcome) {
        let (verdict, detail) = match outcome {
            Ok(detail) => (Verdict::Passed, detail),
            Err(Trouble::Absent(why)) => (Verdict::Skipped, detail(format_args!("{why}"))),
            Err(Trouble::Wrong(detail)) => (Verdict::Failed, detail),
        };
        let now_us = self.now_us.get();
        let entry = Entry {
            test,
            port: String::try_from(port).unwrap_or_default(),
            verdict,
            detail,
            took_us: now_us.saturating_sub(self.since_us.replace(now_us)),
        };
        // There is room for every test of every port.
        let _ = self.run.borrow_mut().entries.push(entry);
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
            match test.name {
                "memory" => lab.note(test.name, "", memory::test(lab).await),
                "timer" => lab.note(test.name, "", clocks::test(lab).await),
                "checksum" => lab.note(test.name, "", super::checksum::test(lab).await),
                _ => {}
            }
        }
        lab.run.borrow_mut().at_work = None;
        lab.selected.set(0);
        lab.due_us.set(u64::MAX);
        pause().await;
    }
}
