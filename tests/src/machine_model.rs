//! The board's model itself, seen from outside: what goes into its sockets, what comes out, what the image says.
//!
//! `scripted` runs the board by a script in virtual time, without a network of this machine, a run in a tenth of a second:
//! the same script gives the same trace. `faults` shows that each misbehaviour takes effect, asked for on the command line
//! and at run time; `states` how the board is found, `options` what it
//! refuses to be told, `console` what is typed.

mod console;
mod faults;
mod options;
mod scripted;
mod states;

use crate::Test;

/// The tests of this directory.
pub const TESTS: &[&[Test]] = &[
    scripted::TESTS,
    faults::TESTS,
    states::TESTS,
    options::TESTS,
    console::TESTS,
];
