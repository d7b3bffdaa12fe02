//! The last start that ended badly, and the last events of this one.
//!
//! Both take the token: registers may hold what nobody else may know, and the events show who talks to us.

use super::{Access, Call, Command, Outcome, none};
use crate::crash::record::{SPECIAL, X};
use crate::crash::{Bank, Ending, Kept};
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

/// How a start ended, in a word.
pub fn word(kept: &Kept) -> &'static str {
    match kept.record.ending() {
        Ending::Panic => "panic",
        Ending::Exception => "exception",
        _ if kept.record.watchdog_s() > 0 => "watchdog",
        _ => "reset",
    }
}

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
    let report = &mut *call.report;
    match *call.words {
        ["clear"] => {
            call.needs(Access::Change)?;
            call.bench.forget_crash();
            return Ok(Progress::Done);
        }
        [] | ["log"] | ["trace"] => {}
        _ => return Err(Refusal::Usage("crash")),
    }
    let Some(kept) = call.bench.crash() else {
        report.field("ended", Value::None);
        return Ok(Progress::Done);
    };
    let (record, bank) = (&kept.record, kept.bank);
    match *call.words {
        ["log"] => report.lines("lines", &mut |line| bank.log_lines(usize::MAX, line)),
        ["trace"] => events(report, bank, usize::MAX),
        _ => {
            let now = call.bench.bank().map_or(0, Bank::start);
            let (code_bytes, code_crc32) = record.code();
            for (name, value) in [
                ("ended", Value::Text(word(&kept))),
                ("message", Value::Shown(&record.message())),
                ("ended_us", Value::Number(record.ended_us())),
                ("start", Value::Number(record.start())),
                ("starts_ago", Value::Number(now - record.start().min(now))),
                ("watchdog_s", Value::Number(record.watchdog_s())),
                ("version", Value::Shown(&record.version())),
                ("image_start", Value::Hex(record.image_start(), 1)),
                ("code_bytes", Value::Number(code_bytes)),
                ("code_crc32", Value::Hex(code_crc32, 8)),
            ] {
                report.field(name, value);
            }
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
            events(report, bank, TAIL_EVENTS);
            report.lines("log", &mut |line| bank.log_lines(TAIL_CELLS, line));
        }
    }
    Ok(Progress::Done)
}

fn trace(call: &mut Call) -> Outcome {
    none(call, "trace")?;
    let bank = call.bench.bank().ok_or(Refusal::Absent("trace"))?;
    events(call.report, bank, usize::MAX);
    Ok(Progress::Done)
}
