//! What was counted and measured.

use super::{Access, Call, Command, Outcome};
use crate::latency;
use crate::shell::report::{Column, Value};
use crate::shell::{Progress, Refusal};
use crate::status::{Counter, each};

/// The commands of this file.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "stats",
        operands: "[-d] [NAME]",
        summary: "Counters that are not 0; -d: since they were shown last",
        access: Access::Read,
        run: stats,
    },
    Command {
        name: "latency",
        operands: "[reset]",
        summary: "How long answers take",
        access: Access::Read,
        run: latency,
    },
];

fn stats(call: &mut Call) -> Outcome {
    let (delta, wanted) = match call.words {
        [] => (false, None),
        ["-d"] => (true, None),
        ["-d", name] | [name, "-d"] if !name.starts_with('-') => (true, Some(*name)),
        [name] if !name.starts_with('-') => (false, Some(*name)),
        _ => return Err(Refusal::Usage("stats")),
    };
    let columns = [
        Column("interface", 10),
        Column("counter", 40),
        Column(if delta { "since" } else { "value" }, 0),
    ];
    let memory = &mut call.memory.stats;
    let mut found = wanted.is_none();
    // Counters behind those that the memory has places for.
    let mut forgotten = 0;
    let report = &mut *call.report;
    call.bench.with_status(&mut |status| {
        report.table("counters", &columns, &mut |row| {
            let mut place = 0;
            let mut show = |owner: &str, counters: &mut dyn Iterator<Item = Counter>| {
                let meant = wanted.is_none_or(|name| name == owner);
                found |= meant;
                for counter in counters {
                    // All are counted, so that each keeps its place in the memory; what has none starts from 0.
                    if place == memory.len() {
                        let _ = memory.push(0);
                    }
                    let last = memory.get_mut(place);
                    place += 1;
                    if !meant {
                        continue;
                    }
                    let value = match last {
                        Some(last) => {
                            let before = if delta { *last } else { 0 };
                            *last = counter.value;
                            counter.value.saturating_sub(before)
                        }
                        None if delta => {
                            forgotten += 1;
                            continue;
                        }
                        None => counter.value,
                    };
                    if value != 0 {
                        row(&[
                            Value::Text(owner),
                            Value::Text(counter.name),
                            Value::Number(value),
                        ]);
                    }
                }
            };
            for interface in status.interfaces {
                show(interface.name, &mut interface.counters.iter().copied());
                show(interface.name, &mut each(interface.port));
            }
            for device in status.devices {
                show(device.name, &mut each(device.counters));
            }
            for service in status.services {
                show(service.name, &mut service.counters.iter().copied());
            }
            show("-", &mut status.counters.iter().copied());
        });
    });
    if forgotten > 0 {
        report.field("not_remembered", Value::Number(forgotten));
    }
    match found {
        true => Ok(Progress::Done),
        false => Err(Refusal::Absent("interface, device or service of that name")),
    }
}

fn latency(call: &mut Call) -> Outcome {
    match call.words {
        [] => {
            let report = &mut *call.report;
            call.bench.with_status(&mut |status| {
                latency::show(report, status.latency, status.interfaces, status.uptime_us);
            });
        }
        ["reset"] => {
            // As for a POST to the accounts' own address.
            call.needs(Access::Change)?;
            let net = call.bench.net().ok_or(Refusal::Absent("network"))?;
            net.reset_latency();
            call.report.field("latency", Value::Text("starts anew"));
        }
        _ => return Err(Refusal::Usage("latency")),
    }
    Ok(Progress::Done)
}
