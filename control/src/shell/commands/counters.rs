//! What was counted and measured.

use super::{Access, Call, Command, Outcome};
use crate::latency;
use crate::shell::report::{Column, Row, Value};
use crate::shell::{Progress, REMEMBERED, Refusal};
use crate::status::{Table, each};

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
    let mut view = View {
        memory: &mut call.memory.stats,
        place: 0,
        delta,
        wanted,
        found: wanted.is_none(),
        forgotten: 0,
    };
    let report = &mut *call.report;
    call.bench.with_status(&mut |status| {
        report.table("counters", &columns, &mut |row| {
            for interface in status.interfaces {
                view.show(interface.name, &interface.counters, row);
                view.show(interface.name, interface.port, row);
            }
            for device in status.devices {
                view.show(device.name, device.counters, row);
            }
            for service in status.services {
                view.show(service.name, &service.counters, row);
            }
            view.show("-", &status.counters, row);
        });
    });
    let View {
        found, forgotten, ..
    } = view;
    if forgotten > 0 {
        report.field("not_remembered", Value::Number(forgotten));
    }
    match found {
        true => Ok(Progress::Done),
        false => Err(Refusal::Absent("interface, device or service of that name")),
    }
}

/// A look at counters, of which those that come first have a place in the memory.
struct View<'m> {
    memory: &'m mut heapless::Vec<u64, REMEMBERED>,
    place: usize,
    delta: bool,
    wanted: Option<&'m str>,
    found: bool,
    /// Counters that are meant, but have no place.
    forgotten: u64,
}

impl View<'_> {
    #[inline(never)]
    fn show(&mut self, owner: &str, counters: &dyn Table, row: &mut Row) {
        let meant = self.wanted.is_none_or(|name| name == owner);
        self.found |= meant;
        for counter in each(counters) {
            // All are counted, so that each keeps its place; what was never shown starts from 0.
            let remembered = self.place < self.memory.len() || self.memory.push(0).is_ok();
            let place = self.place;
            self.place += 1;
            if !meant {
                continue;
            }
            let mut value = counter.value;
            if let Some(last) = self.memory.get_mut(place) {
                if self.delta {
                    value = value.saturating_sub(*last);
                }
                *last = counter.value;
            }
            if self.delta && !remembered {
                self.forgotten += 1;
            } else if value != 0 {
                row(&[
                    Value::Text(owner),
                    Value::Text(counter.name),
                    Value::Number(value),
                ]);
            }
        }
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
