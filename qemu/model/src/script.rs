//! Frames with their times, in and out: what goes in can be replayed, what comes out can be compared.
//!
//! One format for both, a line for each event, times in nanoseconds since power-on:
//!
//! ```text
//! # a comment
//! 0          wan  plugged
//! 5000000000 wan  in  ffffffffffff02...
//! 5000043210 wan  out 02000000000102...
//! 6000000000 lan1 pulled
//! 9000000000 end
//! ```
//!
//! A script is what the board obeys: `in`, `plugged`, `pulled`, and `end`, where the run is over. It passes over `out`,
//! so a recorded trace is a script that repeats what was fed into the board.

use crate::bus::Nanos;
use std::collections::VecDeque;
use std::fmt::{self, Write};

/// The sockets' names, in the order of their numbers.
pub const SOCKETS: [&str; 3] = ["wan", "lan0", "lan1"];
/// A frame longer than this is none.
const FRAME_MAX: usize = 64 << 10;

/// Something that happens at a socket, or the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A frame, without FCS, arrives at a socket.
    In(usize, Vec<u8>),
    /// A frame left by a socket.
    Out(usize, Vec<u8>),
    /// A cable with a gigabit partner is plugged in.
    Plugged(usize),
    /// It is pulled.
    Pulled(usize),
    /// The run is over.
    End,
}

/// Why a script was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for ScriptError {}

/// What is still to come, in the order of time.
#[derive(Debug, Clone, Default)]
pub struct Script(VecDeque<(Nanos, Event)>);

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    ///
    /// [`ScriptError`] for the first line that is not understood, or whose time lies before that of the one above.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let mut events = VecDeque::new();
        let mut last = 0;
        for (n, line) in text.lines().enumerate() {
            let wrong = |what| ScriptError { line: n + 1, what };
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            let (at, event) = parse_line(line).map_err(wrong)?;
            if at < last {
                return Err(wrong("earlier than the line above"));
            }
            last = at;
            if !matches!(event, Event::Out(..)) {
                events.push_back((at, event));
            }
        }
        Ok(Self(events))
    }

    /// When the next event is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Nanos> {
        self.0.front().map(|(at, _)| *at)
    }

    /// The next event, if it is due.
    pub fn take_due(&mut self, now: Nanos) -> Option<Event> {
        self.0
            .pop_front_if(|(at, _)| *at <= now)
            .map(|(_, event)| event)
    }
}

fn parse_line(line: &str) -> Result<(Nanos, Event), &'static str> {
    let mut words = line.split_whitespace();
    let at = words.next().and_then(|word| word.parse().ok());
    let at = at.ok_or("no time in nanoseconds")?;
    let name = words.next().ok_or("neither a socket nor `end`")?;
    let event = if name == "end" {
        Event::End
    } else {
        let socket = SOCKETS.iter().position(|socket| *socket == name);
        let socket = socket.ok_or("neither a socket nor `end`")?;
        let what = words.next();
        let mut frame = || unhex(words.next().unwrap_or("")).ok_or("no frame in hexadecimal");
        match what {
            Some("in") => Event::In(socket, frame()?),
            Some("out") => Event::Out(socket, frame()?),
            Some("plugged") => Event::Plugged(socket),
            Some("pulled") => Event::Pulled(socket),
            _ => return Err("neither `in`, `out`, `plugged` nor `pulled`"),
        }
    };
    match words.next() {
        None => Ok((at, event)),
        Some(_) => Err("more words than the event has"),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let nibble = |digit: &u8| char::from(*digit).to_digit(16).map(|value| value as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let frame = pairs
        .iter()
        .map(|[high, low]| Some(nibble(high)? << 4 | nibble(low)?))
        .collect::<Option<Vec<u8>>>()?;
    (rest.is_empty() && (14..=FRAME_MAX).contains(&frame.len())).then_some(frame)
}

/// Events as text, until somebody takes it.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    on: bool,
    text: String,
}

impl Trace {
    /// Starts to record.
    pub fn start(&mut self) {
        self.on = true;
    }

    /// A frame, in or out.
    pub fn frame(&mut self, at: Nanos, socket: usize, way: &str, frame: &[u8]) {
        if !self.on {
            return;
        }
        self.event(at, socket, way);
        self.text.pop();
        self.text.push(' ');
        for byte in frame {
            let _ = write!(self.text, "{byte:02x}");
        }
        self.text.push('\n');
    }

    /// Anything else at a socket.
    pub fn event(&mut self, at: Nanos, socket: usize, what: &str) {
        if self.on {
            let name = SOCKETS.get(socket).unwrap_or(&"?");
            let _ = writeln!(self.text, "{at} {name} {what}");
        }
    }

    /// The last line: nothing that comes later is recorded.
    pub fn end(&mut self, at: Nanos) {
        if std::mem::take(&mut self.on) {
            let _ = writeln!(self.text, "{at} end");
        }
    }

    /// What was recorded since the last call.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [u8; 14] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0xa, 8, 0];

    #[test]
    fn a_trace_is_a_script_of_what_went_in() {
        let mut trace = Trace::default();
        trace.event(0, 0, "plugged");
        assert_eq!(trace.take(), "", "not started");
        trace.start();
        trace.event(1, 0, "plugged");
        trace.frame(20, 2, "in", &FRAME);
        trace.frame(21, 1, "out", &FRAME);
        trace.event(22, 0, "pulled");
        trace.end(30);
        trace.event(31, 0, "plugged");
        let text = trace.take();
        assert_eq!(
            text,
            "1 wan plugged\n20 lan1 in ffffffffffff02000000000a0800\n\
             21 lan0 out ffffffffffff02000000000a0800\n22 wan pulled\n30 end\n"
        );
        let mut script = Script::parse(&text).unwrap();
        assert_eq!(script.next_due(), Some(1));
        assert_eq!(script.take_due(0), None);
        let events: Vec<Event> = std::iter::from_fn(|| script.take_due(100)).collect();
        assert_eq!(
            events,
            [
                Event::Plugged(0),
                Event::In(2, FRAME.to_vec()),
                Event::Pulled(0),
                Event::End
            ]
        );
    }

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        let good = "# nothing\n\n1 wan plugged # at once\n";
        assert!(Script::parse(good).is_ok());
        for (line, what) in [
            ("x wan plugged", "no time in nanoseconds"),
            ("5", "neither a socket nor `end`"),
            ("5 eth0 plugged", "neither a socket nor `end`"),
            ("5 wan", "neither `in`, `out`, `plugged` nor `pulled`"),
            ("5 wan in", "no frame in hexadecimal"),
            (
                "5 wan in ffffffffffff02000000000a08",
                "no frame in hexadecimal",
            ),
            (
                "5 wan in ffffffffffff02000000000a080",
                "no frame in hexadecimal",
            ),
            (
                "5 wan in ffffffffffff02000000000a080g",
                "no frame in hexadecimal",
            ),
            ("5 wan pulled out", "more words than the event has"),
            ("0 end", "earlier than the line above"),
        ] {
            let outcome = Script::parse(&format!("{good}{line}"));
            assert_eq!(
                outcome.unwrap_err(),
                ScriptError { line: 4, what },
                "{line}"
            );
        }
    }
}
