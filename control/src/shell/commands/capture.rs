//! Packets as they pass: what became of the capture, and tickets for one. The packets themselves go over HTTP.

use super::{Access, Call, Command, Outcome};
use crate::capture::ticket::VALID_S;
use crate::shell::report::Value;
use crate::shell::{Progress, Refusal};

/// The commands of this file.
pub static COMMANDS: &[Command] = &[Command {
    name: "capture",
    operands: "[ticket]",
    summary: "Captured packets, counted; ticket: an address to get them from",
    access: Access::Read,
    run: capture,
}];

fn capture(call: &mut Call) -> Outcome {
    let ticket = match call.words {
        [] => false,
        ["ticket"] => true,
        _ => return Err(Refusal::Usage("capture")),
    };
    if ticket {
        call.needs(Access::Change)?;
    }
    let capture = call.bench.capture();
    let capture = capture.ok_or(Refusal::Absent("memory for captures, which takes admin="))?;
    if ticket {
        let ticket = capture.issue_ticket(call.bench.now_us());
        let url = format_args!("/capture.pcapng?ticket={ticket}");
        call.report.field("url", Value::Shown(&url));
        call.report.field("valid_seconds", Value::Number(VALID_S));
        return Ok(Progress::Done);
    }
    let state = capture.state();
    call.report.field("active", Value::Flag(state.active));
    for (name, number) in [
        ("sessions", state.sessions),
        ("seen", state.counts.seen),
        ("accepted", state.counts.accepted),
        ("dropped", state.counts.dropped),
        ("waiting_bytes", state.waiting as u64),
    ] {
        call.report.field(name, Value::Number(number));
    }
    Ok(Progress::Done)
}
