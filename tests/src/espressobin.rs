//! The board's network on its model in QEMU: three sockets behind one MAC, each a network of its own.
//!
//! `board` is the machine with its cables; the others are the tests, by subject.

pub mod board;
mod damage;
mod faults;
mod flap;
mod handover;
mod hardware;
mod isolation;
mod overload;
pub mod services;
mod shell;
mod trees;

use crate::Test;

/// The tests of this directory.
pub const TESTS: &[&[Test]] = &[
    services::TESTS,
    shell::TESTS,
    hardware::TESTS,
    isolation::TESTS,
    flap::TESTS,
    handover::TESTS,
    overload::TESTS,
    faults::TESTS,
    damage::TESTS,
    trees::TESTS,
];

#[cfg(test)]
mod tests {
    #[test]
    fn the_checklist_for_silicon_has_every_doubt() {
        let checklist = include_str!("../../docs/bring-up.md");
        for doubt in espressobin_model::doubts::all() {
            let name = format!("| `{}`", doubt.name);
            let second = format!(", `{}` |", doubt.name);
            assert!(
                checklist.contains(&name) || checklist.contains(&second),
                "{}",
                doubt.name
            );
        }
    }
}
