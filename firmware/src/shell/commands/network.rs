//! The network: interfaces, addresses, counters, services.

use super::{Access, Call, Command, Outcome, at_most_one, none};
use crate::shell::report::{Column, Report, Value};
use crate::shell::{Progress, Refusal};
use crate::status::{Counter, Duplex, Interface, Link, Status};
use hal::net::MacText;

/// The commands of this file.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "link",
        operands: "[INTERFACE]",
        summary: "Links: state, speed, duplex, hardware address",
        access: Access::Read,
        run: link,
    },
    Command {
        name: "ip",
        operands: "[INTERFACE]",
        summary: "Addresses, and how they were come by",
        access: Access::Read,
        run: ip,
    },
    Command {
        name: "stats",
        operands: "[-d] [INTERFACE]",
        summary: "Counters that are not 0; -d: since the last time they were shown",
        access: Access::Read,
        run: stats,
    },
    Command {
        name: "sockets",
        operands: "",
        summary: "Services and their open connections",
        access: Access::Read,
        run: sockets,
    },
];

/// Hands the status over, and each of its interfaces that is meant.
fn interfaces(
    call: &mut Call,
    wanted: Option<&str>,
    show: &mut dyn FnMut(&mut Report, &[&Interface]),
) -> Outcome {
    let report = &mut *call.report;
    let mut found = false;
    call.bench.with_status(&mut |status: &Status| {
        let meant: heapless::Vec<&Interface, 16> = status
            .interfaces
            .iter()
            .filter(|interface| wanted.is_none_or(|name| name == interface.name))
            .collect();
        found = wanted.is_none() || !meant.is_empty();
        show(report, &meant);
    });
    match found {
        true => Ok(Progress::Done),
        false => Err(Refusal::Absent("interface of that name; `link` lists them")),
    }
}

fn link(call: &mut Call) -> Outcome {
    let wanted = at_most_one(call, "link")?;
    let columns = [
        Column("interface", 10),
        Column("link", 5),
        Column("mbps", 5),
        Column("duplex", 7),
        Column("mac", 18),
        Column("driver", 0),
    ];
    interfaces(call, wanted, &mut |report, interfaces| {
        report.table("links", &columns, &mut |row| {
            for interface in interfaces {
                let (up, speed, duplex) = match interface.link {
                    Link::Down => (false, None, None),
                    Link::Up {
                        speed_mbps, duplex, ..
                    } => (true, speed_mbps, duplex),
                };
                row(&[
                    Value::Text(interface.name),
                    Value::Text(if up { "up" } else { "down" }),
                    speed.map_or(Value::None, |speed| Value::Number(speed.into())),
                    duplex.map_or(Value::None, |duplex: Duplex| Value::Text(duplex.word())),
                    Value::Shown(&MacText(interface.mac)),
                    Value::Text(interface.driver),
                ]);
            }
        });
    })
}

fn ip(call: &mut Call) -> Outcome {
    let wanted = at_most_one(call, "ip")?;
    let columns = [
        Column("interface", 10),
        Column("address", 44),
        Column("origin", 0),
    ];
    interfaces(call, wanted, &mut |report, interfaces| {
        report.table("addresses", &columns, &mut |row| {
            for interface in interfaces {
                for address in interface.addresses {
                    row(&[
                        Value::Text(interface.name),
                        Value::Shown(&format_args!("{}/{}", address.ip, address.prefix_len)),
                        Value::Text(address.origin.word()),
                    ]);
                }
            }
        });
    })
}

fn stats(call: &mut Call) -> Outcome {
    let (delta, wanted) = match call.words {
        [] => (false, None),
        ["-d"] => (true, None),
        ["-d", name] | [name, "-d"] => (true, Some(*name)),
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
    let report = &mut *call.report;
    call.bench.with_status(&mut |status| {
        report.table("counters", &columns, &mut |row| {
            let mut place = 0;
            let mut show = |owner: &str, counters: &[Counter]| {
                let meant = wanted.is_none_or(|name| name == owner);
                found |= meant;
                for counter in counters {
                    // All are counted, so that each keeps its place in the memory; what has none starts from 0.
                    let before = memory.get(place).copied().unwrap_or(0);
                    if place == memory.len() {
                        let _ = memory.push(0);
                    }
                    if meant && let Some(last) = memory.get_mut(place) {
                        *last = counter.value;
                    }
                    place += 1;
                    let value = counter.value - if delta { before.min(counter.value) } else { 0 };
                    if meant && value != 0 {
                        row(&[
                            Value::Text(owner),
                            Value::Text(counter.name),
                            Value::Number(value),
                        ]);
                    }
                }
            };
            for interface in status.interfaces {
                show(interface.name, interface.counters);
            }
            for service in status.services {
                show(service.name, service.counters);
            }
            show("-", status.counters);
        });
    });
    match found {
        true => Ok(Progress::Done),
        false => Err(Refusal::Absent("interface of that name; `link` lists them")),
    }
}

fn sockets(call: &mut Call) -> Outcome {
    none(call, "sockets")?;
    let report = &mut *call.report;
    call.bench.with_status(&mut |status| {
        let columns = [Column("service", 12), Column("connections", 0)];
        report.table("services", &columns, &mut |row| {
            for service in status.services {
                let connections = service.connections;
                row(&[
                    Value::Text(service.name),
                    connections.map_or(Value::None, |count| Value::Number(count.into())),
                ]);
            }
        });
    });
    Ok(Progress::Done)
}
