//! A command that somebody on the network asked for: one at a time, run from the main loop, never waiting.
//!
//! ```text
//!   Free ──begin──▶ Running ──run──▶ Over ──free──▶ Free
//!                    ▲    │            ▲
//!                    └────┘ wait       └─ too slow
//! ```
//!
//! Owns the command's words, its result and what it remembers. Leaves to others: who comes next, and what is sent.

use super::report::{Format, Report, Value};
use super::{Access, Bench, MAX_OUTPUT, MAX_WORDS, Memory, Progress, Refusal, Slice, find, run};
use crate::http::target::{Words, words};
use alloc::boxed::Box;
use alloc::vec;
use heapless::Vec;

/// A command that takes longer is ended.
pub const LIMIT_US: u64 = 30_000_000;
/// How often it is looked whether somebody still waits for the result.
const LOOK_US: u64 = 250_000;

/// Whose errand it is: the place of a connection, and since when it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Number of the connection's place.
    pub place: usize,
    /// When it asked, in microseconds: a place may have a new owner.
    pub since_us: u64,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The result is there.
    Done,
    /// The result is the reason.
    Refused(Refusal),
    /// It took longer than [`LIMIT_US`].
    TooSlow,
    /// It never began: others were first.
    Busy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Running(Ticket),
    Over(Ticket, Ending),
}

/// The one errand there can be at a time.
pub struct Errand {
    state: State,
    words: Words,
    granted: Access,
    memory: Memory,
    output: Box<[u8]>,
    len: usize,
    /// When the command wants to go on, in microseconds.
    resume_us: u64,
    due_us: u64,
}

impl Errand {
    /// None yet. Allocates all it will ever need.
    pub fn new() -> Box<Self> {
        Box::new(Errand {
            state: State::Free,
            words: Words::new(),
            granted: Access::Read,
            memory: Memory::default(),
            output: vec![0; MAX_OUTPUT].into(),
            len: 0,
            resume_us: 0,
            due_us: u64::MAX,
        })
    }

    /// When [`Errand::run`] is due, in microseconds; `u64::MAX` for never.
    #[inline]
    pub fn due_us(&self) -> u64 {
        self.due_us
    }

    /// Whose it is, if anybody's.
    pub fn ticket(&self) -> Option<Ticket> {
        match self.state {
            State::Free => None,
            State::Running(ticket) | State::Over(ticket, _) => Some(ticket),
        }
    }

    /// Whether the command has begun and is not over.
    pub fn is_under_way(&self) -> bool {
        matches!(self.state, State::Running(_)) && self.memory.round > 0
    }

    /// How it ended, and what is to be answered: JSON.
    pub fn ending(&self) -> Option<(Ending, &[u8])> {
        match self.state {
            State::Over(_, ending) => Some((ending, &self.output[..self.len])),
            _ => None,
        }
    }

    /// Takes a command up; it runs when it is due, which is now. To be called when there is no other.
    pub fn begin(&mut self, ticket: Ticket, words: &str, granted: Access, now_us: u64) {
        self.words.clear();
        // As long as the longest that a target makes.
        let _ = self.words.push_str(words);
        self.granted = granted;
        self.memory.round = 0;
        self.state = State::Running(ticket);
        (self.resume_us, self.due_us) = (now_us, now_us);
    }

    /// Forgets it, whether it is over or not.
    pub fn free(&mut self) {
        self.state = State::Free;
        self.due_us = u64::MAX;
    }

    /// Runs the command, or goes on with it. Whether it is over now.
    pub fn run(&mut self, bench: &mut dyn Bench) -> bool {
        let now_us = bench.now_us();
        if self.state != State::Free {
            self.due_us = now_us + LOOK_US;
        }
        let State::Running(ticket) = self.state else {
            return false;
        };
        if self.resume_us <= now_us {
            let progress = self.go_on(bench);
            match progress {
                Ok(Progress::Wait(at_us)) => self.resume_us = at_us,
                Ok(Progress::Done) => self.state = State::Over(ticket, Ending::Done),
                Err(refusal) => {
                    self.explain(&refusal);
                    self.state = State::Over(ticket, Ending::Refused(refusal));
                }
            }
        }
        if let State::Running(_) = self.state
            && now_us.saturating_sub(self.memory.since_us) >= LIMIT_US
        {
            self.state = State::Over(ticket, Ending::TooSlow);
        }
        let over = !matches!(self.state, State::Running(_));
        if !over {
            self.due_us = self.due_us.min(self.resume_us);
        }
        over
    }

    fn go_on(&mut self, bench: &mut dyn Bench) -> Result<Progress, Refusal> {
        let mut all = words(&self.words);
        let command = all.next().and_then(find).ok_or(Refusal::Unknown)?;
        let mut operands: Vec<&str, MAX_WORDS> = Vec::new();
        for word in all {
            operands
                .push(word)
                .map_err(|_| Refusal::Usage(command.name))?;
        }
        let mut out = Slice {
            bytes: &mut self.output,
            len: 0,
        };
        let progress = run(
            command,
            &operands,
            self.granted,
            Format::Json,
            bench,
            &mut self.memory,
            &mut out,
        );
        self.len = out.len;
        progress
    }

    /// The reason as JSON, in place of a result.
    fn explain(&mut self, refusal: &Refusal) {
        let mut out = Slice {
            bytes: &mut self.output,
            len: 0,
        };
        let mut report = Report::new(&mut out, Format::Json);
        report.field("error", Value::Shown(refusal));
        // There is room for a line.
        report.finish();
        self.len = out.len;
    }
}
