//! The board's network on its model in QEMU: three sockets behind one MAC, each a network of its own.
//!
//! `board` is the machine with its cables; the others are the tests, by subject.

mod board;
mod isolation;
mod services;

use crate::Test;

/// The tests of this directory.
pub const TESTS: &[&[Test]] = &[services::TESTS, isolation::TESTS];
