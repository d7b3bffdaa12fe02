//! The table of commands, a file for each group.
//!
//! | file | is about |
//! | --- | --- |
//! | `capture` | packets as they pass |
//! | `crash` | the last start that ended badly, and the last events |
//! | `drops` | received frames that nobody got |
//! | `hardware` | management bus, PHYs, switch, MAC |
//! | `machine` | the machine itself |
//! | `network` | interfaces, addresses, neighbours, routes, sockets |
//! | `counters` | counters, latency |
//! | `ping` | echo requests |
//! | `doctor` | what is wrong |
//! | `selftest` | is the hardware sound? |

mod capture;
mod counters;
mod crash;
mod doctor;
mod drops;
mod hardware;
mod machine;
mod network;
mod ping;
mod selftest;

use super::{Access, Call, Command, Progress, Refusal};

/// All commands by group, in the order that `help` lists them.
static GROUPS: &[&[Command]] = &[
    machine::COMMANDS,
    network::COMMANDS,
    counters::COMMANDS,
    ping::COMMANDS,
    doctor::COMMANDS,
    crash::COMMANDS,
    drops::COMMANDS,
    capture::COMMANDS,
    hardware::COMMANDS,
    selftest::COMMANDS,
];

/// All commands.
pub fn commands() -> impl Iterator<Item = &'static Command> {
    GROUPS.iter().copied().flatten()
}

type Outcome = Result<Progress, Refusal>;

/// At most one operand, and no option.
#[inline(never)]
fn at_most_one<'c>(call: &Call<'c, '_>, name: &'static str) -> Result<Option<&'c str>, Refusal> {
    match call.words {
        [] => Ok(None),
        [word] if !word.starts_with('-') => Ok(Some(*word)),
        _ => Err(Refusal::Usage(name)),
    }
}

#[inline(never)]
fn none(call: &Call, name: &'static str) -> Result<(), Refusal> {
    let empty = call.words.is_empty();
    empty.then_some(()).ok_or(Refusal::Usage(name))
}
