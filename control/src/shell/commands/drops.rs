//! Received frames that nobody got: how many, why, and what the last ones looked like.

use super::{Access, Call, Command, Outcome};
use crate::shell::report::{Column, Value};
use crate::shell::{Progress, Refusal};
use crate::status::{Status, each};
use core::fmt;
use hal::net::drops::Reason;

/// The command of this file.
pub static COMMANDS: &[Command] = &[Command {
    name: "drops",
    operands: "[INTERFACE | -x REASON]",
    summary: "Received frames that nobody got, and why; -x: the last one",
    access: Access::Read,
    run: drops,
}];

/// Counters of frames that hardware dropped: they never were in memory.
const HARDWARE: &[&str] = &[
    "rx_discard",
    "rx_fifo_overrun",
    "mib_rx_bad",
    "in_discards",
    "in_filtered",
    "in_fcs_error",
    "in_rx_error",
];

const DELIVERED: &str = "somebody had use for them";

fn drops(call: &mut Call) -> Outcome {
    let wanted = match call.words {
        ["-x", reason] => return sample(call, reason),
        [] => None,
        [word] if !word.starts_with('-') => Some(*word),
        _ => return Err(Refusal::Usage("drops")),
    };
    let report = &mut *call.report;
    let mut found = wanted.is_none();
    let columns = [
        Column("interface", 10),
        Column("what", 19),
        Column("frames", 10),
        Column("help", 0),
    ];
    call.bench.with_status(&mut |status: &Status| {
        report.table("frames", &columns, &mut |row| {
            let mut put = |owner, what, frames, help| {
                let [owner, what, help] = [owner, what, help].map(Value::Text);
                row(&[owner, what, Value::Number(frames), help]);
            };
            for owner in 0..status.interfaces.len() + status.devices.len() {
                let mut dropped = 0;
                let name = status.drops(owner, &mut |_, count| dropped += count);
                let Some(name) = name.filter(|name| wanted.is_none_or(|wanted| wanted == *name))
                else {
                    continue;
                };
                found = true;
                let counters = match status.interfaces.get(owner) {
                    Some(interface) => {
                        let delivered = interface.counters.iter();
                        let delivered = delivered.filter(|it| it.name == "rx_delivered");
                        let delivered = delivered.map(|it| it.value).sum();
                        put(name, "delivered", delivered, DELIVERED);
                        put(name, "dropped", dropped, "the sum of what follows");
                        interface.port
                    }
                    None => status.devices[owner - status.interfaces.len()].counters,
                };
                status.drops(owner, &mut |reason, count| {
                    put(name, reason.name(), count, reason.help());
                });
                for counter in each(counters) {
                    if counter.value > 0 && HARDWARE.contains(&counter.name) {
                        put(name, counter.name, counter.value, "lost before memory");
                    }
                }
            }
        });
    });
    match found {
        true => Ok(Progress::Done),
        false => Err(Refusal::Absent("interface of that name; `link` lists them")),
    }
}

struct Hex<'b>(&'b [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x} "))
    }
}

/// How the last frame of a reason began.
fn sample(call: &mut Call, reason: &str) -> Outcome {
    call.needs(Access::Admin)?;
    let Some(reason) = Reason::named(reason) else {
        return Err(Refusal::Absent("such reason; the documentation lists them"));
    };
    let report = &mut *call.report;
    let mut found = false;
    call.bench.with_status(&mut |status| {
        let Some(sample) = status.samples.and_then(|samples| samples.get(reason)) else {
            return;
        };
        found = true;
        let interface = status.interfaces.get(usize::from(sample.interface));
        report.field("reason", Value::Text(reason.name()));
        report.field("help", Value::Text(reason.help()));
        let name = interface.map_or(Value::None, |interface| Value::Text(interface.name));
        report.field("interface", name);
        report.field("at_us", Value::Number(sample.at_us));
        report.field("bytes", Value::Number(sample.len.into()));
        report.field("hex", Value::Shown(&Hex(sample.bytes())));
    });
    match found {
        true => Ok(Progress::Done),
        false => Err(Refusal::Absent("frame dropped for that reason so far")),
    }
}
