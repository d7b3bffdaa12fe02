//! The machine itself: what it is, what it says, what its devicetree says.

use super::{Access, Call, Command, Outcome, at_most_one, none};
use crate::shell::report::{Column, Value};
use crate::shell::{Form, NO_RESET, Progress, Refusal, commands, find};
use core::fmt;
use hal::devicetree::{Node, Tree};

/// The commands of this file.
pub static COMMANDS: &[Command] = &[
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
        access: Access::Change,
        run: reboot,
    },
];

fn help(call: &mut Call) -> Outcome {
    if let Some(name) = at_most_one(call, "help")? {
        let command = find(name).ok_or(Refusal::Unknown)?;
        call.report.field("command", Value::Text(command.name));
        call.report.field("operands", Value::Text(command.operands));
        call.report.field("summary", Value::Text(command.summary));
        let access = match command.access {
            Access::Read => "anybody",
            Access::Admin | Access::Change => "the serial console, and who has the token",
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
        for command in commands() {
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

/// The node that an interrupt comes from.
fn interrupter<'t>(tree: &'t Tree<'static>, intid: u32) -> Option<Node<'t>> {
    tree.nodes().find(|node| {
        let mut lines = (0..8).map_while(|index| node.interrupt(index).ok());
        lines.any(|line| line.gic().is_ok_and(|line| line.intid() == intid))
    })
}

fn irq(call: &mut Call) -> Outcome {
    none(call, "irq")?;
    let (taken, unexpected) = call.bench.interrupts();
    call.report.field("taken", Value::Number(taken));
    call.report.field("unexpected", Value::Number(unexpected));
    let columns = [Column("intid", 6), Column("count", 11), Column("device", 0)];
    let bench = &*call.bench;
    call.report.table("sources", &columns, &mut |row| {
        for (intid, count) in (0..).map_while(|index| bench.interrupt_source(index)) {
            let device = bench.tree().and_then(|tree| interrupter(tree, intid));
            row(&[
                Value::Number(intid.into()),
                Value::Number(count.into()),
                device.map_or(Value::None, |node| Value::Text(node.name())),
            ]);
        }
    });
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
    if call.memory.via.is_some() {
        call.bench.reboot_soon()?;
        call.memory.form = Form::Begun;
        call.report.field("rebooting", Value::Flag(true));
        return Ok(Progress::Done);
    }
    call.bench.reboot();
    Err(NO_RESET)
}
