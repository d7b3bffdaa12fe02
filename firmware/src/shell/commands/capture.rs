//! Packets as they pass: what became of the capture. The packets themselves go over HTTP.

use super::{Access, Call, Command, Outcome, none};
use crate::shell::report::Value;
use crate::shell::{Progress, Refusal};

/// The commands of this file.
pub static COMMANDS: &[Command] = &[Command {
    name: "capture",
    operands: "",
    summary: "Whether packets are captured, and how many; they come from /capture.pcapng",
    access: Access::Read,
    run: capture,
}];

fn capture(call: &mut Call) -> Outcome {
    none(call, "capture")?;
    let state = call.bench.capture();
    let state = state.ok_or(Refusal::Absent("memory for captures: that takes admin="))?;
    let report = &mut *call.report;
    report.field("active", Value::Flag(state.active));
    for (name, number) in [
        ("sessions", state.sessions),
        ("seen", state.counts.seen),
        ("accepted", state.counts.accepted),
        ("dropped", state.counts.dropped),
        ("waiting_bytes", state.waiting as u64),
    ] {
        report.field(name, Value::Number(number));
    }
    Ok(Progress::Done)
}
