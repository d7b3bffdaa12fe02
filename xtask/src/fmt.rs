//! `./x fmt`: formats all code the one way.

use crate::args::{Command, Parsed};
use crate::error::Result;
use crate::toolchain;

/// The row in the table of commands.
pub const COMMAND: Command = Command {
    name: "fmt",
    summary: "Format all Rust code",
    operands: "",
    max_operands: 0,
    takes_rest: false,
    options: &[],
    details: "`./x test fmt` only checks.",
    run,
};

fn run(_: &Parsed) -> Result<()> {
    toolchain::host("fmt").arg("--all").run()
}
