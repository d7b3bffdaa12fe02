#![allow(clippy::unwrap_used, clippy::expect_used)]

mod board;
mod builder;
mod damage;
mod interrupts;
mod lookups;
mod memory;
mod qemu_virt;
mod regs;

use super::*;
use builder::{Builder, tree};

/// What an error says.
fn text(result: Result<impl core::fmt::Debug, Error>) -> String {
    result.unwrap_err().to_string()
}
