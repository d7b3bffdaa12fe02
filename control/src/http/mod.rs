//! HTTP/1.1 as a state machine over byte slices: no sockets, no clock, no allocation.
//!
//! Owns what a request means and what is answered (RFC 9110, RFC 9112). Leaves to the caller: moving bytes, time limits
//! and which connection is served when.
//!
//! ```text
//!            head whole            body skipped
//!   Head ───────────────▶ Body ───────────────▶ Answer ──▶ Head, or Closed
//!    │ refused                │ refused            ▲ ▲
//!    └────────────────────────┼────────────────────┘ │ finish_errand
//!                             ├──────▶ Errand ───────┤
//!                             └──────▶ Stream ───────┘ stream, at its end
//! ```
//!
//! One request gets one final answer, after its body has been skipped. There is no `Date` field, on purpose: the machine
//! has no clock that knows the date (RFC 9110 section 6.6.1).
//!
//! | file | is about |
//! | --- | --- |
//! | `head` | where a head ends; line endings, control characters, size limits |
//! | `request` | request line, fields, targets |
//! | `body` | skipping bodies, chunked or not |
//! | `answer` | what is sent |
//! | `target` | path and query, and the command that they stand for |
//! | `access` | for whom a request is, and who may do what |
//! | `refusal` | status codes and the reasons for them |
//! | `memo` | not parsing what was parsed before |
//! | `out` | writing text into a fixed buffer |

mod access;
mod answer;
mod body;
mod head;
mod memo;
mod out;
mod refusal;
mod request;
pub mod target;
#[cfg(test)]
pub(crate) mod tests;

use crate::shell;
use crate::shell::errand::Ending;
use crate::status::StatusSource;
use answer::{Answer, CONTINUE};
use body::Body;
use head::Scan;
use memo::Memo;
use refusal::Refusal;
use request::{Persistence, Request, RequestLine, Resource};

pub use access::{Access, MAX_TOKEN, Verdict};
pub use answer::{MAX_ANSWER, SMALL_ANSWER};
pub use body::MAX_BODY;
pub use head::{MAX_HEAD, MAX_REQUEST_LINE};
pub use out::Out;
pub(crate) use out::{SECTION, escaped};
pub use refusal::{AnswerCounters, Code};
pub use request::MAX_FIELDS;

/// What one [`Connection::step`] did and what it needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes of input that are done with.
    pub consumed: usize,
    /// Bytes of `out` to be sent; what stands after them means nothing.
    pub written: usize,
    /// The code of the final answer, if this step wrote one (for [`AnswerCounters`]).
    pub answered: Option<Code>,
    /// What the caller has to do, because this step answered that it is done.
    pub action: Option<Action>,
    /// What to do after sending.
    pub next: Next,
}

/// Something that a request makes happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The accounts of latency start anew.
    ResetLatency,
    /// The capture that was ordered begins: [`Connection::stream`] wants it.
    Capture,
}

/// What a connection needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More bytes; the caller applies its time limit.
    Input,
    /// Another step with the rest of the input.
    Step,
    /// The same step again with at least this much room for the answer, never more than [`MAX_ANSWER`]. Nothing was
    /// consumed; what was written is to be sent: a long page goes out piece by piece.
    Room(usize),
    /// The same step again with the same `out` and what now stands in it, soon: a page is written bit by bit, so that
    /// others need not wait for all of it. Nothing was consumed, nothing is to be sent.
    Again,
    /// Somebody else runs the command that [`Connection::errand`] tells, and then calls
    /// [`Connection::finish_errand`]; until then every step ends like this.
    Errand,
    /// Somebody else feeds [`Connection::stream`]; until its end every step ends like this.
    Stream,
    /// Close once everything is sent; whatever else arrives is of no interest.
    Close,
}

/// One HTTP connection.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    phase: Phase,
    scan: Scan,
    memo: Memo,
}

#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    #[default]
    Head,
    Body(Body, Answer),
    /// A command is to be run by somebody who may do this.
    Errand(Answer, shell::Access),
    /// The head of an answer of unknown length is out.
    Stream(Answer),
    Closed,
}

impl Connection {
    /// Whether the connection is between two requests: nothing of the next one arrived yet.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Head) && self.scan.is_idle()
    }

    /// Whether the buffer of the last step holds a part of a page that is to be kept for the next, see [`Next::Again`].
    pub fn is_writing(&self) -> bool {
        matches!(self.phase, Phase::Body(_, answer) if answer.filled.is_some())
    }

    /// Goes one step: at most one answer.
    ///
    /// `input` holds the received bytes that no earlier step consumed, contiguous; it has to be able to grow to
    /// [`MAX_HEAD`] bytes. `at_eof` says that nothing will follow them. `out` may be of any size: if the answer needs
    /// more room, the step ends with [`Next::Room`]. `status` is asked by the pages only.
    pub fn step(
        &mut self,
        input: &[u8],
        at_eof: bool,
        out: &mut [u8],
        status: &impl StatusSource,
    ) -> Step {
        match self.phase {
            Phase::Errand(..) => return Step::without_answer(0, 0, Next::Errand),
            Phase::Stream(_) => return Step::without_answer(0, 0, Next::Stream),
            _ => {}
        }
        let before = (self.phase, self.scan);
        let mut consumed = 0;
        if let Phase::Head = self.phase {
            let known = match self.scan.is_idle() {
                true => self.memo.recall(input),
                false => None,
            };
            let head = match known {
                Some(known) => Ok(Some(known)),
                None => self.read_head(input, status),
            };
            match head {
                Ok(Some((len, request))) => {
                    consumed = len;
                    self.scan = Scan::default();
                    self.phase = Phase::Body(request.body, request.answer);
                    if request.expects_continue && input.len() == len && !at_eof {
                        return Step::without_answer(len, say_continue(out), Next::Input);
                    }
                }
                Ok(None) if !at_eof => return Step::without_answer(0, 0, Next::Input),
                Ok(None) if input.is_empty() => self.phase = Phase::Closed,
                Ok(None) => self.refuse(input, Refusal::Incomplete),
                Err(refusal) => self.refuse(input, refusal),
            }
        }
        let Phase::Body(body, answer) = &mut self.phase else {
            return Step::without_answer(input.len(), 0, Next::Close);
        };
        match body.skip(&input[consumed..]) {
            Ok(len) => consumed += len,
            Err(refusal) => (*body, answer.content) = (Body::Done, Err(refusal)),
        }
        if *body != Body::Done {
            if !at_eof {
                return Step::without_answer(consumed, 0, Next::Input);
            }
            (*body, answer.content) = (Body::Done, Err(Refusal::Incomplete));
        }
        let room = answer.room();
        if out.len() < room {
            // The input stays where it is: as long as some waits, the caller knows that there is something to do.
            (self.phase, self.scan) = before;
            return Step::without_answer(0, 0, Next::Room(room));
        }
        if let Ok(Resource::Command(granted)) = answer.content {
            self.phase = Phase::Errand(*answer, granted);
            return Step::without_answer(consumed, 0, Next::Errand);
        }
        if room > SMALL_ANSWER && answer.filled.is_none() {
            // Whoever called has something to finish first, perhaps.
            answer.filled = Some(0);
            answer.held += consumed as u16;
            return Step::without_answer(0, 0, Next::Again);
        }
        let is_begin = !answer.is_begun;
        let (code, written) = answer.write(out, status);
        if answer.filled.is_some() {
            answer.held += consumed as u16;
            return Step::without_answer(0, 0, Next::Again);
        }
        if answer.part > 0 {
            // As above: the request stays until its answer is whole.
            answer.held += consumed as u16;
            return Step {
                consumed: 0,
                written,
                answered: is_begin.then_some(code),
                action: None,
                next: Next::Room(answer.room()),
            };
        }
        if answer.content == Ok(Resource::Capture) && !answer.is_head_only {
            self.phase = Phase::Stream(*answer);
            return Step {
                answered: Some(code),
                action: Some(Action::Capture),
                ..Step::without_answer(consumed, written, Next::Stream)
            };
        }
        consumed += usize::from(answer.held);
        let action = match answer.content {
            Ok(Resource::ResetLatency) => Some(Action::ResetLatency),
            _ => None,
        };
        let next = if answer.persistence == Persistence::Close {
            self.phase = Phase::Closed;
            consumed = input.len();
            Next::Close
        } else {
            self.phase = Phase::Head;
            if consumed == input.len() && !at_eof {
                Next::Input
            } else {
                Next::Step
            }
        };
        Step {
            consumed,
            written,
            answered: is_begin.then_some(code),
            action,
            next,
        }
    }

    /// The words of the command that is to be run, as [`target::words`] reads them, and what who asks may do.
    pub fn errand(&self) -> Option<(&str, shell::Access)> {
        match self.phase {
            Phase::Errand(_, granted) => Some((self.memo.words(), granted)),
            _ => None,
        }
    }

    /// Answers the command: with `result`, which is JSON, or with what its ending says. Whether there `is_token` at all
    /// decides what is told to who may not do this. `out` has as much room as when the command began: [`MAX_ANSWER`] bytes.
    pub fn finish_errand(
        &mut self,
        ending: Ending,
        result: &[u8],
        is_token: bool,
        out: &mut [u8],
    ) -> Step {
        let Phase::Errand(mut answer, granted) = self.phase else {
            return Step::without_answer(0, 0, Next::Step);
        };
        let (code, written) = answer.write_ending(out, ending, granted, is_token, result);
        Step {
            answered: Some(code),
            ..self.end(&answer, written)
        }
    }

    /// Goes on with an answer of unknown length: `fill` writes as much as it has and says how much that was, or `None` at the end. It
    /// is not asked if there is no room worth it.
    #[cold]
    pub fn stream(
        &mut self,
        out: &mut [u8],
        fill: &mut dyn FnMut(&mut [u8]) -> Option<usize>,
    ) -> Step {
        let Phase::Stream(answer) = self.phase else {
            return Step::without_answer(0, 0, Next::Step);
        };
        match answer.write_stream(out, fill) {
            (written, false) => Step::without_answer(0, written, Next::Stream),
            (written, true) => self.end(&answer, written),
        }
    }

    /// An answer is out that no step wrote.
    fn end(&mut self, answer: &Answer, written: usize) -> Step {
        let closes = answer.persistence == Persistence::Close;
        self.phase = if closes { Phase::Closed } else { Phase::Head };
        let next = if closes { Next::Close } else { Next::Step };
        Step::without_answer(0, written, next)
    }

    /// The answer when the caller's time limit has passed: how many bytes of `out` to send (408, if a request had begun
    /// and [`SMALL_ANSWER`] bytes fit) before the connection is closed.
    pub fn timeout(&mut self, out: &mut [u8]) -> usize {
        let was_idle = self.is_idle();
        let had_its_answer = match &self.phase {
            Phase::Head | Phase::Errand(..) => false,
            Phase::Body(_, answer) => answer.is_begun,
            Phase::Stream(_) | Phase::Closed => true,
        };
        self.phase = Phase::Closed;
        if was_idle || had_its_answer || out.len() < SMALL_ANSWER {
            return 0;
        }
        Answer {
            content: Err(Refusal::Timeout),
            is_head_only: false,
            persistence: Persistence::Close,
            takes_gzip: false,
            part: 0,
            is_begun: false,
            filled: None,
            held: 0,
        }
        .write_refusal(out, Refusal::Timeout)
        .1
    }

    /// The request and the length of its head, once that is whole.
    ///
    /// The request line is judged as soon as it is whole, before anything after it is looked at: an HTTP/0.9 client
    /// sends nothing more, and the verdict must not depend on how the bytes arrived.
    ///
    /// Not generic, so that it is compiled for size: who asks often is [remembered](Memo).
    #[inline(never)]
    fn read_head(
        &mut self,
        input: &[u8],
        status: &dyn StatusSource,
    ) -> Result<Option<(usize, Request)>, Refusal> {
        let (line, is_fresh) = match self.scan.request_line(input) {
            Some(line) => (line, false),
            None => match self.scan.find_request_line(input)? {
                Some(line) => (line, true),
                None => return Ok(None),
            },
        };
        let early = if is_fresh {
            Some(RequestLine::parse(line)?)
        } else {
            None
        };
        let Some(end) = self.scan.find_end(input)? else {
            return Ok(None);
        };
        let line = early.map_or_else(|| RequestLine::parse(line), Ok)?;
        let request = Request::parse(line, self.scan.fields(input, end), status)?;
        match request.answer.content {
            Ok(Resource::Command(_)) => {
                let words = line.command()?.ok_or(Refusal::NotFound)?;
                self.memo.keep_words(&words);
            }
            // Ordered each time anew.
            Ok(Resource::Capture) => {}
            _ => self.memo.remember(&input[..end], request),
        }
        Ok(Some((end, request)))
    }

    #[cold]
    fn refuse(&mut self, input: &[u8], refusal: Refusal) {
        let line = self.scan.request_line(input).unwrap_or_default();
        let answer = Answer {
            content: Err(refusal),
            is_head_only: line.starts_with(b"HEAD "),
            persistence: Persistence::Close,
            takes_gzip: false,
            part: 0,
            is_begun: false,
            filled: None,
            held: 0,
        };
        self.phase = Phase::Body(Body::Done, answer);
    }
}

impl Step {
    fn without_answer(consumed: usize, written: usize, next: Next) -> Self {
        Self {
            consumed,
            written,
            answered: None,
            action: None,
            next,
        }
    }
}

/// Without room for the line, the client goes on by itself after a while (RFC 9110 section 10.1.1), so it may be lost.
#[cold]
fn say_continue(out: &mut [u8]) -> usize {
    let Some(room) = out.get_mut(..CONTINUE.len()) else {
        return 0;
    };
    room.copy_from_slice(CONTINUE.as_bytes());
    CONTINUE.len()
}
