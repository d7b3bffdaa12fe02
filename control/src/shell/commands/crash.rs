//! The last start that ended badly, and the last events of this one.
//!
//! Registers take the token, because they may hold what nobody else may know, and so do events: they show who talks to us.

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
        access: Access::Read,
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
        ["trace"] => {
            call.needs(Access::Admin)?;
            (0, usize::MAX)
        }
        ["clear"] => {
            call.needs(Access::Change)?;
            call.bench.forget_crash();
            return Ok(Progress::Done);
        }
        _ => return Err(Refusal::Usage("crash")),
    };
    let is_all = call.needs(Access::Admin).is_ok();
    let report = &mut *call.report;
    let Some(kept) = call.bench.crash() else {
        report.field("ended", Value::None);
        return Ok(Progress::Done);
    };
    let (record, bank) = (&kept.record, kept.bank);
    if cells > 0 && most > 0 {
        facts(
            report,
            record,
            call.bench.bank().map_or(0, Bank::start),
            is_all,
        );
        if !is_all {
            report.field(
                "withheld",
                Value::Text("registers and events: they take the token"),
            );
        }
    }
    if most > 0 && is_all {
        events(report, bank, most);
    }
    if cells > 0 {
        report.lines("log", &mut |line| bank.log_lines(cells, line));
    }
    Ok(Progress::Done)
}

/// What the record says; `now` is the number of this start. `is_all`: with the registers.
fn facts(report: &mut Report, record: &Record, now: u64, is_all: bool) {
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
    if is_all && record.ending() == Ending::Exception {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash::{Kept, tests::wrecked};
    use crate::shell::report::Format;
    use crate::shell::{Bench, MAX_OUTPUT, Memory, find, run};
    use crate::status::{Status, StatusSource, tests::TYPICAL};
    use hal::devicetree::Tree;
    use std::string::String;

    struct Machine {
        bank: &'static Bank,
        forgotten: bool,
    }

    impl StatusSource for Machine {
        fn with_status(&self, show: &mut dyn FnMut(&Status<'_>)) {
            TYPICAL.with_status(show);
        }
    }

    impl Bench for Machine {
        fn now_us(&self) -> u64 {
            0
        }

        fn tree(&self) -> Option<&Tree<'static>> {
            None
        }

        fn log(&self, _: &mut dyn FnMut(&str)) {}

        fn crash(&self) -> Option<Kept<'_>> {
            let record = self.bank.record().ok().filter(|_| !self.forgotten)?;
            let bank = self.bank;
            Some(Kept { record, bank })
        }

        fn forget_crash(&mut self) {
            self.forgotten = true;
        }

        fn bank(&self) -> Option<&Bank> {
            Some(self.bank)
        }

        fn interrupts(&self) -> (u64, u64) {
            (0, 0)
        }

        fn reboot(&mut self) {}
    }

    #[test]
    fn whatever_is_kept_finds_room_and_clear_takes_the_right_to_change() {
        let mut machine = Machine {
            bank: wrecked(),
            forgotten: false,
        };
        let mut said = |name: &str, words: &[&str], granted, format| {
            let mut out = String::new();
            let command = find(name).unwrap();
            let memory = &mut Memory::default();
            run(
                command,
                words,
                granted,
                format,
                &mut machine,
                memory,
                &mut out,
            )?;
            assert!(out.len() <= MAX_OUTPUT, "{name} {words:?}: {}", out.len());
            Ok::<_, Refusal>(out)
        };
        for format in [Format::Text, Format::Json] {
            for words in [&[][..], &["log"], &["trace"]] {
                said("crash", words, Access::Admin, format).unwrap();
            }
            said("trace", &[], Access::Admin, format).unwrap();
        }
        let text = said("crash", &[], Access::Admin, Format::Text).unwrap();
        for part in [
            "ended                   exception\n",
            "far      0xffffffffffffffff\n",
            "x30      0xffffffffffffffff\n",
            "address removed         interface 127, 255.255.255.255\n",
            "code_crc32              0x",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let denied = Err(Refusal::Denied(Access::Change));
        assert_eq!(
            said("crash", &["clear"], Access::Admin, Format::Json),
            denied
        );
        let denied = Err(Refusal::Denied(Access::Admin));
        assert_eq!(
            said("crash", &["trace"], Access::Read, Format::Json),
            denied
        );
        assert_eq!(said("trace", &[], Access::Read, Format::Json), denied);
        let open = said("crash", &[], Access::Read, Format::Json).unwrap();
        let all = said("crash", &[], Access::Admin, Format::Json).unwrap();
        for part in ["\"registers\"", "\"events\"", "255.255.255.255"] {
            assert!(all.contains(part) && !open.contains(part), "{part}: {open}");
        }
        for part in [
            "\"ended\":\"exception\"",
            "\"backtrace\"",
            "\"log\"",
            "\"withheld\"",
        ] {
            assert!(open.contains(part), "{part}: {open}");
        }
        let usage = Err(Refusal::Usage("crash"));
        assert_eq!(
            said("crash", &["log", "log"], Access::Admin, Format::Json),
            usage
        );
        said("crash", &["clear"], Access::Change, Format::Json).unwrap();
        let json = said("crash", &[], Access::Admin, Format::Json).unwrap();
        assert_eq!(json, "{\"ended\":null}\n");
    }
}
