//! The last start that ended badly, and the last events of this one.
//!
//! Both take the token: registers may hold what nobody else may know, and the events show who talks to us.

use super::{Access, Call, Command, Outcome, none};
use crate::crash::record::{SPECIAL, X};
use crate::crash::{Bank, Ending, Record};
use crate::shell::report::{Column, Report, Value};
use crate::shell::{Progress, Refusal};
use crate::trace;

/// The commands of this file.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "crash",
        operands: "[log|trace|clear]",
        summary: "How the last start that ended badly did; its log, its events",
        access: Access::Admin,
        run: crash,
    },
    Command {
        name: "trace",
        operands: "",
        summary: "The last events",
        access: Access::Admin,
        run: trace,
    },
];

/// Cells of the log, and events, beside the record.
const TAIL_CELLS: usize = 40;
const TAIL_EVENTS: usize = 16;

fn events(report: &mut Report, bank: &Bank, most: usize) {
    let columns = [Column("at_us", 14), Column("event", 24), Column("what", 0)];
    report.table("events", &columns, &mut |row| {
        trace::each(bank, most, &mut |entry| {
            row(&[
                Value::Number(entry.at_us),
                Value::Text(entry.name()),
                Value::Shown(entry),
            ]);
        });
    });
}

fn crash(call: &mut Call) -> Outcome {
    let (cells, most) = match *call.words {
        [] => (TAIL_CELLS, TAIL_EVENTS),
        ["log"] => (usize::MAX, 0),
        ["trace"] => (0, usize::MAX),
        ["clear"] => {
            call.needs(Access::Change)?;
            call.bench.forget_crash();
            return Ok(Progress::Done);
        }
        _ => return Err(Refusal::Usage("crash")),
    };
    let report = &mut *call.report;
    let Some(kept) = call.bench.crash() else {
        report.field("ended", Value::None);
        return Ok(Progress::Done);
    };
    let (record, bank) = (&kept.record, kept.bank);
    if cells > 0 && most > 0 {
        facts(report, record, call.bench.bank().map_or(0, Bank::start));
    }
    if most > 0 {
        events(report, bank, most);
    }
    if cells > 0 {
        report.lines("log", &mut |line| bank.log_lines(cells, line));
    }
    Ok(Progress::Done)
}

/// What the record says; `now` is the number of this start.
fn facts(report: &mut Report, record: &Record, now: u64) {
    report.field("ended", Value::Text(record.word()));
    report.field("message", Value::Shown(&record.message()));
    report.field("starts_ago", Value::Number(now - record.start().min(now)));
    for (name, number, digits) in record.numbers() {
        let value = match digits {
            0 => Value::Number(number),
            _ => Value::Hex(number, digits),
        };
        report.field(name, value);
    }
    report.field("version", Value::Shown(&record.version()));
    if record.ending() == Ending::Exception {
        let columns = [Column("register", 9), Column("value", 0)];
        report.table("registers", &columns, &mut |row| {
            for (number, value) in record.registers().iter().enumerate() {
                let name = format_args!("x{number}");
                let name = match SPECIAL.get(number.wrapping_sub(X)) {
                    Some(name) => Value::Text(name),
                    None => Value::Shown(&name),
                };
                row(&[name, Value::Hex(*value, 16)]);
            }
        });
    }
    report.table("backtrace", &[Column("backtrace", 0)], &mut |row| {
        for address in record.backtrace() {
            row(&[Value::Hex(*address, 1)]);
        }
    });
}

fn trace(call: &mut Call) -> Outcome {
    none(call, "trace")?;
    let bank = call.bench.bank().ok_or(Refusal::Absent("trace"))?;
    events(call.report, bank, usize::MAX);
    Ok(Progress::Done)
}
