//! The board's self-test: starts a run, shows how far it is and what came of it.

use super::{Access, Call, Command, Outcome};
use crate::selftest::report::{Format, Name, TAP_VERSION, junit, tap_line};
use crate::selftest::{self, Busy, Run, SelfTest, TESTS, Verdict};
use crate::shell::report::{self, Column, Report, Value};
use crate::shell::{Form, Progress, Refusal};

/// The commands of this file.
pub static COMMANDS: &[Command] = &[Command {
    name: "selftest",
    operands: "[-force] [-list] [-job NUMBER] [-format tap|junit] [TEST...]",
    summary: "Test the hardware; -job: show that run, or how far it is; -list: what there is",
    // To look at results; to start a run takes more.
    access: Access::Read,
    run,
}];

/// Time between two looks at a run from the terminal.
const LOOK_US: u64 = 50_000;
const BUSY: Refusal =
    Refusal::Conflict("a self-test is at work; `selftest -job 0` shows how far it is");
const ABSENT: Refusal = Refusal::Absent("self-test");

/// What the words ask for.
#[derive(Default)]
struct Wish {
    /// Tests, all for 0.
    set: u32,
    job: Option<u32>,
    format: Option<Format>,
    force: bool,
    list: bool,
}

impl Wish {
    fn form(&self) -> Form {
        match self.format {
            Some(Format::Tap) => Form::Lines,
            Some(Format::Junit) => Form::Xml,
            Some(Format::Json) | None => Form::Report,
        }
    }
}

fn parse(words: &[&str]) -> Option<Wish> {
    let mut wish = Wish::default();
    let mut words = words.iter().copied().peekable();
    while let Some(word) = words.next() {
        match word {
            "-f" | "-force" => {
                // Over HTTP it has a value.
                let value = words.next_if(|next| matches!(*next, "0" | "1"));
                wish.force = value != Some("0");
            }
            "-list" => wish.list = true,
            "-job" => wish.job = Some(words.next()?.parse().ok()?),
            "-format" => wish.format = Some(Format::named(words.next()?)?),
            number if number.starts_with(|c: char| c.is_ascii_digit()) => {
                wish.job = Some(number.parse().ok()?);
            }
            name => wish.set |= selftest::named(name)?,
        }
    }
    Some(wish)
}

fn run(call: &mut Call) -> Outcome {
    let wish = parse(call.words).ok_or(Refusal::Usage("selftest"))?;
    if wish.list {
        return Ok(list(call.report));
    }
    if wish.job.is_some() || wish.set == 0 && call.granted < Access::Change {
        return show(call, &wish);
    }
    call.needs(Access::Change)?;
    let now_us = call.bench.now_us();
    // Those behind the switch share its MAC; other interfaces lose nothing.
    let has_ports = call.bench.hardware().is_some();
    if call.memory.round == 0 {
        let set = match wish.set {
            0 => selftest::ALL,
            set => set,
        };
        if call.memory.via.is_some() && selftest::cuts(set) && has_ports && !wish.force {
            return Err(Refusal::Conflict(
                "it would cut the port that you came by: force=1 says that you mean it",
            ));
        }
        let tests = call.bench.selftest().ok_or(ABSENT)?;
        let job = tests.start(set).map_err(|Busy| BUSY)?;
        if call.memory.via.is_some() {
            // Whoever is on the network asks again for the rest.
            call.memory.form = Form::Begun;
            call.report.field("job", Value::Number(job.into()));
            return Ok(Progress::Done);
        }
        call.memory.state = u64::from(job) << 32;
        return Ok(Progress::Wait(now_us));
    }
    follow(call, &wish, now_us)
}

/// Waits for the end, and shows on a terminal what there is so far.
fn follow(call: &mut Call, wish: &Wish, now_us: u64) -> Outcome {
    let (job, shown) = ((call.memory.state >> 32) as u32, call.memory.state as u32);
    let mut progress = Progress::Wait(now_us + LOOK_US);
    let mut seen = shown;
    let streams =
        call.report.format() == report::Format::Text && wish.format != Some(Format::Junit);
    let report = &mut *call.report;
    let tests = call.bench.selftest().ok_or(ABSENT)?;
    tests.show(&mut |run| {
        let over = run.id != job || run.at_work.is_none();
        if !streams {
            if over {
                whole(report, wish.format, run);
                progress = Progress::Done;
            }
            return;
        }
        if shown < run.entries.len() as u32 || over {
            tap(report, run, shown as usize);
            seen = run.entries.len() as u32;
            progress = match over {
                true => Progress::Done,
                false => Progress::Show(now_us + LOOK_US),
            };
        }
    });
    call.memory.state = u64::from(job) << 32 | u64::from(seen);
    Ok(progress)
}

fn show(call: &mut Call, wish: &Wish) -> Outcome {
    call.memory.form = wish.form();
    let report = &mut *call.report;
    let tests: &mut SelfTest = call.bench.selftest().ok_or(ABSENT)?;
    let mut found = false;
    tests.show(&mut |run| {
        // Without a number, or with 0, the last one.
        found = run.id > 0 && matches!(wish.job, None | Some(0)) || wish.job == Some(run.id);
        if found {
            whole(report, wish.format, run);
        }
    });
    match found {
        true => Ok(Progress::Done),
        false => Err(Refusal::Absent(
            "results of that run; the next one takes their place",
        )),
    }
}

fn list(report: &mut Report) -> Progress {
    let columns = [Column("test", 14), Column("cuts_ports", 0)];
    report.table("tests", &columns, &mut |row| {
        for test in TESTS {
            row(&[Value::Text(test.name), Value::Flag(test.cuts)]);
        }
    });
    Progress::Done
}

/// Results in a format of their own, or as the shell has them.
fn whole(report: &mut Report, format: Option<Format>, run: &Run) {
    match (format, report.format()) {
        (Some(Format::Junit), _) => report.document(&mut |out| junit(out, &run.entries)),
        (Some(Format::Tap), _) | (None, report::Format::Text) => tap(report, run, 0),
        (Some(Format::Json) | None, _) => json(report, run),
    }
}

/// The lines of TAP from this result on.
fn tap(report: &mut Report, run: &Run, from: usize) {
    report.document(&mut |out| {
        if from == 0 {
            writeln!(out, "{TAP_VERSION}")?;
        }
        for (at, entry) in run.entries.iter().enumerate().skip(from) {
            tap_line(out, at + 1, entry)?;
            writeln!(out)?;
        }
        match run.at_work {
            None => writeln!(out, "1..{}", run.entries.len()),
            Some(_) => Ok(()),
        }
    });
}

fn json(report: &mut Report, run: &Run) {
    report.field("job", Value::Number(run.id.into()));
    report.field("running", Value::Flag(run.at_work.is_some()));
    report.field("test", run.at_work.map_or(Value::None, Value::Text));
    for (name, verdict) in [
        ("passed", Verdict::Passed),
        ("failed", Verdict::Failed),
        ("skipped", Verdict::Skipped),
    ] {
        report.field(name, Value::Number(run.count(verdict) as u64));
    }
    let columns = ["name", "result", "detail", "us"].map(|name| Column(name, 0));
    report.table("results", &columns, &mut |row| {
        for entry in &run.entries {
            row(&[
                Value::Shown(&Name(entry)),
                Value::Text(entry.verdict.word()),
                Value::Text(&entry.detail),
                Value::Number(entry.took_us),
            ]);
        }
    });
}
