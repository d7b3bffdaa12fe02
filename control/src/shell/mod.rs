//! The bench: one table of commands, on the serial console and over HTTP.
//!
//! A [`Command`] is defined once: name, help, operands, who may run it, and a function that writes a typed
//! [`Report`]. The console shows that as text, with `-j` as JSON; `/api/v1/NAME` as JSON.
//!
//! | file | is about |
//! | --- | --- |
//! | `line` | editing a line of a terminal |
//! | `hardware` | what commands see of the board: buses, switch, MAC |
//! | `registers` | what the bits of registers mean |
//! | `report` | results, for people and for programs |
//! | `commands` | the table |
//! | `net` | what they see of the network beside its status |
//! | `doctor` | what is wrong with a port, from facts |
//! | `errand` | a command for somebody on the network |
//! | `mod` | running one command at a time, without ever waiting |

mod commands;
pub mod doctor;
pub mod errand;
pub mod hardware;
pub mod line;
pub mod net;
pub mod registers;
pub mod report;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec;
use core::fmt::{self, Write};
use hal::devicetree::Tree;
use heapless::Vec;

use crate::capture::Captures;
use crate::crash;
use crate::http::{MAX_ANSWER, SMALL_ANSWER};
use crate::selftest::SelfTest;
use crate::status::StatusSource;
use crate::trace::{Event as Traced, trace};
use hardware::Hardware;
use line::{Event, Line};
use report::{Format, Report};

pub use commands::commands;

/// Longest result, in bytes: with the head of an HTTP answer it fits the transmit buffer of a connection.
pub const MAX_OUTPUT: usize = MAX_ANSWER - SMALL_ANSWER;
/// Most words of a line.
const MAX_WORDS: usize = 16;
/// Counters whose last values `stats -d` remembers.
const REMEMBERED: usize = 512;

/// Counters that `doctor` compares: of more, it does not see whether they move.
const SYMPTOMS: usize = 160;

/// The machine has no way to start anew.
pub const NO_RESET: Refusal = Refusal::Absent("PSCI to reset it, and no watchdog");

/// What the machine lets commands see and do. What a machine does not have, it says so.
pub trait Bench: StatusSource {
    /// Time since entry, in microseconds.
    fn now_us(&self) -> u64;
    /// The devicetree.
    fn tree(&self) -> Option<&Tree<'static>>;
    /// The last lines of the log, oldest first.
    fn log(&self, line: &mut dyn FnMut(&str));
    /// The last start that ended badly, if memory has kept it.
    fn crash(&self) -> Option<crash::Kept<'_>> {
        None
    }
    /// Forgets it.
    fn forget_crash(&mut self) {}
    /// The bank that this start writes, with its events.
    fn bank(&self) -> Option<&crash::Bank> {
        None
    }
    /// Interrupts taken, and those that nobody had asked for.
    fn interrupts(&self) -> (u64, u64);
    /// The capture, if there can be one.
    fn capture(&self) -> Option<&dyn Captures> {
        None
    }
    /// The board's buses, switch and MAC, if it is one that has them.
    fn hardware(&mut self) -> Option<&mut dyn Hardware> {
        None
    }
    /// The board's self-test.
    fn selftest(&mut self) -> Option<&mut SelfTest> {
        None
    }
    /// Source number `index` of interrupts: its INTID, and how often it interrupted.
    fn interrupt_source(&self, _index: usize) -> Option<(u32, u32)> {
        None
    }
    /// Reads 32 bits at an address, or writes them.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] with the reason.
    fn access(&mut self, _address: u64, _write: Option<u32>) -> Result<u32, Refusal> {
        Err(Refusal::Absent("memory to look at"))
    }
    /// Starts the machine anew, once the console is empty. Returns only if there is no way.
    fn reboot(&mut self);
    /// The same, but returns: it happens when whoever asked over the network has the answer, within seconds.
    ///
    /// # Errors
    ///
    /// [`NO_RESET`] if there is no way.
    fn reboot_soon(&mut self) -> Result<(), Refusal> {
        Err(NO_RESET)
    }
    /// The network, beyond its status.
    fn net(&mut self) -> Option<&mut dyn net::Net> {
        None
    }
}

/// Who may run a command over the network, each including those before it. The serial console may run all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Whoever may read: it changes nothing and shows no traffic.
    Read,
    /// Whoever has the token: it shows what is not everybody's business.
    Admin,
    /// Whoever has the token and means it: it changes something. Over HTTP a POST.
    Change,
}

/// One command.
pub struct Command {
    /// One word.
    pub name: &'static str,
    /// Operands as the usage line shows them: capitals stand for something, brackets for what may be left out.
    pub operands: &'static str,
    /// One line.
    pub summary: &'static str,
    /// Who may run it; with some operands it may take more, see [`Call::needs`].
    pub access: Access,
    /// Runs it, or goes on with it.
    pub run: fn(&mut Call<'_, '_>) -> Result<Progress, Refusal>,
}

/// A command being run.
pub struct Call<'c, 'r> {
    /// The machine.
    pub bench: &'c mut dyn Bench,
    /// The words behind the name.
    pub words: &'c [&'c str],
    /// What who asks may do.
    pub granted: Access,
    /// The result.
    pub report: &'c mut Report<'r>,
    /// What is remembered from call to call.
    pub memory: &'c mut Memory,
}

impl Call<'_, '_> {
    /// To be asked first where a command with some operands does more than its table entry says.
    ///
    /// # Errors
    ///
    /// [`Refusal::Denied`] if who asks may not.
    pub fn needs(&self, access: Access) -> Result<(), Refusal> {
        match self.granted >= access {
            true => Ok(()),
            false => Err(Refusal::Denied(access)),
        }
    }
}

/// What commands remember.
#[derive(Default)]
pub struct Memory {
    /// Counts calls of one run of a command: 0 at the first.
    pub round: u32,
    /// A word for the command at work.
    pub state: u64,
    /// When the run began, in microseconds.
    pub since_us: u64,
    /// The interface that who asks came by; `None` for the console.
    pub via: Option<u8>,
    /// What the result is, if nothing goes wrong.
    pub form: Form,
    /// The counters as `stats -d` showed them last.
    stats: Vec<u64, REMEMBERED>,
    /// The counters as `doctor` saw them at its first look.
    doctor: Vec<u64, SYMPTOMS>,
}

/// What a result is, for those who have to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// JSON, the report.
    #[default]
    Report,
    /// That something was begun that goes on: a report, too.
    Begun,
    /// Lines of text, a document.
    Lines,
    /// XML, a document.
    Xml,
}

/// How far a command came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is all in the report.
    Done,
    /// Call again at this time, in microseconds, or when anything happened. What was reported is forgotten.
    Wait(u64),
    /// The same, but what was reported is for a terminal to show now; elsewhere it is forgotten, too.
    Show(u64),
}

/// Why a command was not run, or came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no command of this name.
    Unknown,
    /// The operands are not those that this command takes.
    Usage(&'static str),
    /// Who asks may not do this: it takes more.
    Denied(Access),
    /// The machine does not have what this is about.
    Absent(&'static str),
    /// Not now: it would get in the way of something.
    Conflict(&'static str),
    /// It went wrong.
    Failed(&'static str),
    /// Nobody may do this here.
    Forbidden(&'static str),
    /// It went wrong on the management bus.
    Bus(hal::net::steps::Error),
    /// Nothing answers at this address; the syndrome tells how.
    Abort(u64, u64),
    /// The result is longer than what there is room for.
    TooLong,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Unknown => f.write_str("no such command; `help` lists them"),
            Refusal::Usage(name) => {
                let operands = find(name).map_or("", |command| command.operands);
                write!(f, "usage: {name} {operands}")
            }
            Refusal::Denied(Access::Change) => {
                f.write_str("to change something takes the token, and a POST")
            }
            Refusal::Denied(_) => f.write_str("this takes the token"),
            Refusal::Absent(what) => write!(f, "this machine has no {what}"),
            Refusal::Conflict(why) | Refusal::Failed(why) | Refusal::Forbidden(why) => {
                f.write_str(why)
            }
            Refusal::Bus(error) => error.fmt(f),
            Refusal::Abort(address, syndrome) => {
                write!(
                    f,
                    "nothing answers at {address:#x} (syndrome {syndrome:#x})"
                )
            }
            Refusal::TooLong => f.write_str("the result is too long"),
        }
    }
}

/// The command of this name.
pub fn find(name: &str) -> Option<&'static Command> {
    commands().find(|command| command.name == name)
}

/// Runs a command for somebody who may do what `granted` says, or goes on with it, writing the result to `out`.
///
/// # Errors
///
/// A [`Refusal`]; what stands in `out` is then of no use.
pub fn run(
    command: &'static Command,
    words: &[&str],
    granted: Access,
    format: Format,
    bench: &mut dyn Bench,
    memory: &mut Memory,
    out: &mut dyn Write,
) -> Result<Progress, Refusal> {
    if memory.round == 0 {
        (memory.since_us, memory.state) = (bench.now_us(), 0);
        memory.form = Form::Report;
    }
    let mut report = Report::new(out, format);
    let mut call = Call {
        bench,
        words,
        granted,
        report: &mut report,
        memory,
    };
    call.needs(command.access)?;
    if call.memory.round == 0 {
        let mut name = [0; 4];
        let letters = command.name.bytes();
        name.iter_mut()
            .zip(letters)
            .for_each(|(to, from)| *to = from);
        trace(Traced::Command, (0, u32::from_be_bytes(name)));
    }
    let progress = (command.run)(&mut call)?;
    let whole = report.finish();
    match progress {
        Progress::Done if !whole => Err(Refusal::TooLong),
        Progress::Done => {
            memory.round = 0;
            Ok(progress)
        }
        Progress::Show(_) if !whole => Err(Refusal::TooLong),
        Progress::Wait(_) | Progress::Show(_) => {
            memory.round += 1;
            Ok(progress)
        }
    }
}

/// What the shell needs of a terminal: none of it ever waits.
pub trait Terminal {
    /// What was typed, if it amounts to something.
    fn event(&mut self) -> Option<Event>;
    /// Whether Ctrl-C was typed while a command runs; what was typed before it is forgotten.
    fn interrupted(&mut self) -> bool;
    /// What stands before the cursor.
    fn before_cursor(&mut self) -> Line;
    /// Puts text into the line.
    fn insert(&mut self, text: &str);
    /// How many bytes it takes now.
    fn room(&self) -> usize;
    /// Writes text; line feeds only.
    fn write(&mut self, text: &str);
    /// Shows the prompt again, after a command.
    fn prompt(&mut self);
}

/// The commands on the serial console.
pub struct Shell {
    output: Box<[u8]>,
    /// The part of `output` that waits for the terminal.
    waiting: core::ops::Range<usize>,
    /// The prompt comes after it.
    prompt_due: bool,
    running: Option<Line>,
    memory: Memory,
}

impl Default for Shell {
    fn default() -> Self {
        Shell::new()
    }
}

impl Shell {
    /// A shell. Allocates all it will ever need.
    pub fn new() -> Self {
        Shell {
            output: vec![0; MAX_OUTPUT].into(),
            waiting: 0..0,
            prompt_due: false,
            running: None,
            memory: Memory::default(),
        }
    }

    /// Does what can be done now. Returns when it wants to be called again, in microseconds; in any case when the
    /// terminal has something, or has room.
    pub fn poll(&mut self, terminal: &mut dyn Terminal, bench: &mut dyn Bench) -> u64 {
        loop {
            if !self.show(terminal) {
                return u64::MAX;
            }
            if let Some(line) = self.running.take() {
                if let Some(at_us) = self.go_on(&line, bench) {
                    if !terminal.interrupted() {
                        self.running = Some(line);
                        return at_us;
                    }
                    self.memory.round = 0;
                    terminal.prompt();
                }
                continue;
            }
            match terminal.event() {
                Some(Event::Entered(line)) => self.running = Some(line),
                Some(Event::Interrupt) => terminal.prompt(),
                Some(Event::Complete) => self.complete(terminal, bench),
                None => return u64::MAX,
            }
        }
    }

    /// Runs the line, or goes on with it. Returns when to go on, if it is not done.
    fn go_on(&mut self, line: &Line, bench: &mut dyn Bench) -> Option<u64> {
        let mut format = Format::Text;
        let mut words: Vec<&str, MAX_WORDS> = Vec::new();
        let mut too_many = false;
        for word in line.split_ascii_whitespace() {
            match word {
                "-j" => format = Format::Json,
                _ => too_many |= words.push(word).is_err(),
            }
        }
        let mut out = Slice {
            bytes: &mut self.output,
            len: 0,
        };
        let result = match words.split_first() {
            None => Ok(Progress::Done),
            Some((name, operands)) => match find(name) {
                None => Err(Refusal::Unknown),
                Some(command) if too_many => Err(Refusal::Usage(command.name)),
                Some(command) => run(
                    command,
                    operands,
                    Access::Change,
                    format,
                    bench,
                    &mut self.memory,
                    &mut out,
                ),
            },
        };
        match result {
            Ok(Progress::Wait(at_us)) => return Some(at_us),
            Ok(Progress::Show(at_us)) => {
                self.waiting = 0..out.len;
                return Some(at_us);
            }
            Ok(Progress::Done) => {}
            Err(refusal) => {
                self.memory.round = 0;
                out.len = 0;
                // There is room for a line.
                let _ = match format {
                    Format::Text => writeln!(out, "{refusal}"),
                    Format::Json => writeln!(out, "{{\"error\":\"{refusal}\"}}"),
                };
            }
        }
        let len = out.len;
        self.waiting = 0..len;
        self.prompt_due = true;
        None
    }

    /// Moves output to the terminal; whether all of it has gone.
    fn show(&mut self, terminal: &mut dyn Terminal) -> bool {
        while !self.waiting.is_empty() {
            let rest = &self.output[self.waiting.clone()];
            // Each byte may take two: a line feed is sent with a carriage return.
            let room = (terminal.room() / 2).min(rest.len());
            let end = match rest[..room].iter().rposition(|byte| *byte == b'\n') {
                Some(at) => at + 1,
                // A line longer than the terminal's buffer goes in pieces, when that is empty enough.
                None if room >= 512 || room == rest.len() => room,
                None => return false,
            };
            let text = str::from_utf8(&rest[..end]).unwrap_or("?");
            terminal.write(text);
            self.waiting.start += end;
        }
        if core::mem::take(&mut self.prompt_due) {
            terminal.prompt();
        }
        true
    }
}

impl Shell {
    /// Completes the word before the cursor: the name of a command, or one of the words that its operands name, or an
    /// interface. As far as all that fit agree; if that is no further, they are listed.
    fn complete(&mut self, terminal: &mut dyn Terminal, bench: &dyn Bench) {
        let line = terminal.before_cursor();
        let start = line.rfind(' ').map_or(0, |space| space + 1);
        let (before, word) = line.split_at(start);
        let mut fitting = Fitting::new(word);
        match before.split_ascii_whitespace().next().map(find) {
            None => commands().for_each(|command| fitting.offer(command.name)),
            Some(None) => {}
            Some(Some(command)) => {
                if command.name == "help" {
                    commands().for_each(|command| fitting.offer(command.name));
                }
                command
                    .operands
                    .split(|c: char| !c.is_ascii_lowercase() && c != '-')
                    .filter(|operand| !operand.is_empty())
                    .for_each(|operand| fitting.offer(operand));
                if command.operands.contains("INTERFACE") {
                    bench.with_status(&mut |status| {
                        for interface in status.interfaces {
                            fitting.offer(interface.name);
                        }
                    });
                }
            }
        }
        match (
            fitting.count,
            &fitting.common[word.len().min(fitting.common.len())..],
        ) {
            (0, _) => terminal.insert(""),
            (1, rest) => {
                terminal.insert(rest);
                terminal.insert(" ");
            }
            (_, "") => {
                terminal.write("\n");
                terminal.write(&fitting.list);
                terminal.write("\n");
                terminal.prompt();
            }
            (_, rest) => terminal.insert(rest),
        }
    }
}

/// The words that begin as one does.
struct Fitting<'w> {
    word: &'w str,
    count: usize,
    /// What they have in common.
    common: Line,
    list: heapless::String<1024>,
}

impl<'w> Fitting<'w> {
    fn new(word: &'w str) -> Self {
        Fitting {
            word,
            count: 0,
            common: Line::new(),
            list: heapless::String::new(),
        }
    }

    fn offer(&mut self, candidate: &str) {
        if !candidate.starts_with(self.word) || !candidate.is_ascii() {
            return;
        }
        self.count += 1;
        // What does not fit the list is not listed.
        let _ = self
            .list
            .push_str(candidate)
            .and_then(|()| self.list.push(' '));
        if self.count == 1 {
            let _ = self.common.push_str(candidate);
            return;
        }
        let same = self.common.bytes().zip(candidate.bytes());
        let same = same.take_while(|(a, b)| a == b).count();
        self.common.truncate(same);
    }
}

/// Text in a slice: an error if it does not fit.
struct Slice<'b> {
    bytes: &'b mut [u8],
    len: usize,
}

impl Write for Slice<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len());
        room.ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}
