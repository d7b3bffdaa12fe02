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
    operands: "[INTERFACE] | -x REASON",
    summary: "Received frames that nobody got, by reason; -x: how the last one of a reason began",
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

fn drops(call: &mut Call) -> Outcome {
    let wanted = match call.words {
        ["-x", reason] => return sample(call, reason),
        [] => None,
        [word] if !word.starts_with('-') => Some(*word),
        _ => return Err(Refusal::Usage("drops")),
    };
    let report = &mut *call.report;
    let mut found = wanted.is_none();
    call.bench.with_status(&mut |status: &Status| {
        let is_wanted = |name: &str| wanted.is_none_or(|wanted| wanted == name);
        let columns = [
            Column("interface", 10),
            Column("received", 12),
            Column("delivered", 12),
            Column("dropped", 0),
        ];
        report.table("frames", &columns, &mut |row| {
            for (number, interface) in status.interfaces.iter().enumerate() {
                if !is_wanted(interface.name) {
                    continue;
                }
                let value = |name| {
                    let counter = interface.counters.iter().find(|it| it.name == name);
                    counter.map_or(0, |counter| counter.value)
                };
                let (delivered, mut dropped) = (value("rx_delivered"), 0);
                status.drops(number, &mut |_, count| dropped += count);
                row(&[
                    Value::Text(interface.name),
                    Value::Number(delivered + dropped),
                    Value::Number(delivered),
                    Value::Number(dropped),
                ]);
            }
        });
        let columns = [
            Column("interface", 10),
            Column("reason", 19),
            Column("frames", 10),
            Column("help", 0),
        ];
        report.table("drops", &columns, &mut |row| {
            let owners = status.interfaces.len() + status.devices.len();
            for owner in 0..owners {
                let Some(name) = status.drops(owner, &mut |_, _| {}) else {
                    break;
                };
                if !is_wanted(name) {
                    continue;
                }
                found = true;
                status.drops(owner, &mut |reason, count| {
                    row(&[
                        Value::Text(name),
                        Value::Text(reason.name()),
                        Value::Number(count),
                        Value::Text(reason.help()),
                    ]);
                });
            }
        });
        let columns = [
            Column("owner", 10),
            Column("counter", 19),
            Column("frames", 0),
        ];
        report.table("hardware", &columns, &mut |row| {
            let ports = status.interfaces.iter();
            let ports = ports.map(|interface| (interface.name, interface.port));
            let devices = status.devices.iter();
            let devices = devices.map(|device| (device.name, device.counters));
            for (name, counters) in ports.chain(devices).filter(|(name, _)| is_wanted(name)) {
                for counter in each(counters) {
                    if counter.value > 0 && HARDWARE.contains(&counter.name) {
                        row(&[
                            Value::Text(name),
                            Value::Text(counter.name),
                            Value::Number(counter.value),
                        ]);
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

/// Bytes as `text2pcap` reads them.
struct Hex<'b>(usize, &'b [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)?;
        self.1.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
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
        report.lines("hex", &mut |line| {
            for (number, bytes) in sample.bytes().chunks(16).enumerate() {
                let mut text = heapless::String::<64>::new();
                // Four digits and sixteen times three characters fit.
                let _ =
                    fmt::Write::write_fmt(&mut text, format_args!("{}", Hex(16 * number, bytes)));
                line(&text);
            }
        });
    });
    match found {
        true => Ok(Progress::Done),
        false => Err(Refusal::Absent("frame dropped for that reason so far")),
    }
}
