//! The board's network on its model in QEMU: three sockets behind one MAC, each a network of its own.
//!
//! `board` is the machine with its cables; the others are the tests, by subject.

mod board;
mod damage;
mod faults;
mod flap;
mod isolation;
mod overload;
mod services;
mod trees;

use crate::Test;

/// The tests of this directory.
pub const TESTS: &[&[Test]] = &[
    services::TESTS,
    isolation::TESTS,
    flap::TESTS,
    overload::TESTS,
    faults::TESTS,
    damage::TESTS,
    trees::TESTS,
];
