//! The table of commands.

use super::report::{Column, Value};
use super::{Access, Call, Command, Progress, Refusal, find};
use crate::status::{Counter, Duplex, Interface, Link, Status};
use core::fmt;
use hal::devicetree::Node;
use hal::net::MacText;

/// All commands, in the order that `help` lists them.
pub static TABLE: &[Command] = &[
    Command {
        name: "help",
        operands: "[COMMAND]",
        summary: "List the commands, or explain one; -j makes any result JSON",
        access: Access::Read,
        run: help,
    },
    Command {
        name: "info",
        operands: "",
        summary: "Version, board, memory, uptime",
        access: Access::Read,
        run: info,
    },
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
    Command {
        name: "irq",
        operands: "",
        summary: "Interrupts taken",
        access: Access::Read,
        run: irq,
    },
    Command {
        name: "dt",
        operands: "[PATH]",
        summary: "A node of the devicetree: properties and children",
        // The command line in it may hold the token.
        access: Access::Admin,
        run: dt,
    },
    Command {
        name: "log",
        operands: "",
        summary: "The last lines of the log",
        access: Access::Read,
        run: log,
    },
    Command {
        name: "reboot",
        operands: "",
        summary: "Start the machine anew",
        access: Access::Admin,
        run: reboot,
    },
];

type Outcome = Result<Progress, Refusal>;

/// At most one operand, and no option.
fn at_most_one<'c>(call: &Call<'c, '_>, name: &'static str) -> Result<Option<&'c str>, Refusal> {
    match call.words {
        [] => Ok(None),
        [word] if !word.starts_with('-') => Ok(Some(*word)),
        _ => Err(Refusal::Usage(name)),
    }
}

fn none(call: &Call, name: &'static str) -> Result<(), Refusal> {
    let empty = call.words.is_empty();
    empty.then_some(()).ok_or(Refusal::Usage(name))
}

/// Hands the status over, and each of its interfaces that is meant.
fn interfaces(
    call: &mut Call,
    wanted: Option<&str>,
    show: &mut dyn FnMut(&mut super::Report, &[&Interface]),
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

fn help(call: &mut Call) -> Outcome {
    if let Some(name) = at_most_one(call, "help")? {
        let command = find(name).ok_or(Refusal::Unknown)?;
        call.report.field("command", Value::Text(command.name));
        call.report.field("operands", Value::Text(command.operands));
        call.report.field("summary", Value::Text(command.summary));
        let access = match command.access {
            Access::Read => "anybody",
            Access::Admin => "the serial console, and who has the token",
        };
        call.report.field("access", Value::Text(access));
        return Ok(Progress::Done);
    }
    let columns = [
        Column("command", 9),
        Column("operands", 22),
        Column("summary", 0),
    ];
    call.report.table("commands", &columns, &mut |row| {
        for command in TABLE {
            row(&[
                Value::Text(command.name),
                Value::Text(command.operands),
                Value::Text(command.summary),
            ]);
        }
    });
    Ok(Progress::Done)
}

fn info(call: &mut Call) -> Outcome {
    none(call, "info")?;
    let report = &mut *call.report;
    call.bench.with_status(&mut |status| {
        report.field("version", Value::Text(status.version));
        report.field("board", Value::Text(status.board));
        report.field("cpu", Value::Text(status.cpu));
        report.field("hostname", Value::Text(status.hostname));
        report.field("uptime_us", Value::Number(status.uptime_us));
        report.field("memory_bytes", Value::Number(status.memory_bytes));
        report.field("image_bytes", Value::Number(status.image_bytes));
        report.field("heap_used_bytes", Value::Number(status.heap_used_bytes));
        report.field("heap_size_bytes", Value::Number(status.heap_size_bytes));
    });
    Ok(Progress::Done)
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
                    Link::Up { speed_mbps, duplex } => (true, speed_mbps, duplex),
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

fn irq(call: &mut Call) -> Outcome {
    none(call, "irq")?;
    let (taken, unexpected) = call.bench.interrupts();
    call.report.field("taken", Value::Number(taken));
    call.report.field("unexpected", Value::Number(unexpected));
    Ok(Progress::Done)
}

/// A property as people write it: strings, cells, or bytes.
struct Cells<'v>(&'v [u8]);

impl fmt::Display for Cells<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.strip_suffix(&[0]).unwrap_or_default();
        let printable = |byte: &u8| (b' '..=b'~').contains(byte) || *byte == 0;
        let words = text.split(|byte| *byte == 0);
        if !text.is_empty() && text.iter().all(printable) && words.clone().all(|w| !w.is_empty()) {
            for (index, word) in words.enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                write!(f, "{comma}\"{}\"", str::from_utf8(word).unwrap_or("?"))?;
            }
            return Ok(());
        }
        let (cells, rest) = self.0.as_chunks::<4>();
        if rest.is_empty() {
            f.write_str("<")?;
            for (index, cell) in cells.iter().take(64).enumerate() {
                let space = if index == 0 { "" } else { " " };
                write!(f, "{space}0x{:x}", u32::from_be_bytes(*cell))?;
            }
            return f.write_str(if cells.len() > 64 { " ...>" } else { ">" });
        }
        f.write_str("[")?;
        self.0
            .iter()
            .take(256)
            .try_for_each(|byte| write!(f, " {byte:02x}"))?;
        f.write_str(if self.0.len() > 256 { " ... ]" } else { " ]" })
    }
}

fn dt(call: &mut Call) -> Outcome {
    let path = at_most_one(call, "dt")?.unwrap_or("/");
    let absent = Refusal::Absent("such node; `dt /` lists the first ones");
    let tree = call.bench.tree().ok_or(absent)?;
    let node: Node = tree.find(path).ok_or(absent)?;
    let report = &mut *call.report;
    report.field("path", Value::Shown(&node.path()));
    report.table(
        "properties",
        &[Column("property", 24), Column("value", 0)],
        &mut |row| {
            for (name, value) in node.each_property() {
                // What sequence numbers are made of is nobody's business.
                match name {
                    "rng-seed" | "kaslr-seed" => row(&[Value::Text(name), Value::Text("(secret)")]),
                    _ => row(&[Value::Text(name), Value::Shown(&Cells(value))]),
                }
            }
        },
    );
    report.lines("children", &mut |line| {
        for child in node.children() {
            line(child.name());
        }
    });
    Ok(Progress::Done)
}

fn log(call: &mut Call) -> Outcome {
    none(call, "log")?;
    let bench = &*call.bench;
    call.report.lines("lines", &mut |line| bench.log(line));
    Ok(Progress::Done)
}

fn reboot(call: &mut Call) -> Outcome {
    none(call, "reboot")?;
    call.bench.reboot();
    Err(Refusal::Failed("this machine has no PSCI to reset it"))
}
