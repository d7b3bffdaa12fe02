//! The project's one command line, behind `./x`.
//!
//! A command is a row in [`COMMANDS`] and a module of the same name with its options and its help.

mod args;
mod axe;
mod bench;
mod build;
mod capture;
mod crc32;
mod elf;
mod errata;
mod error;
mod fmt;
mod image;
mod latency;
mod linux;
mod lz4;
mod netboot;
mod notices;
mod packages;
mod private_apt;
mod qemu;
mod rfc2544;
mod run;
mod sdcard;
mod selftest;
mod step;
mod target;
mod test;
mod toolchain;
mod uboot;
mod workspace;

use std::process::ExitCode;

use args::{Command, Parsed};
use error::{Error, Result};

/// Everything `./x` can do, in the order of `./x help`.
const COMMANDS: &[&Command] = &[
    &run::COMMAND,
    &test::COMMAND,
    &build::COMMAND,
    &fmt::COMMAND,
    &bench::COMMAND,
    &rfc2544::COMMAND,
    &latency::COMMAND,
    &selftest::COMMAND,
    &capture::COMMAND,
    &sdcard::COMMAND,
    &netboot::COMMAND,
    &qemu::COMMAND,
    &notices::COMMAND,
    &HELP,
];

const HELP: Command = Command {
    name: "help",
    summary: "List the commands, or explain one",
    operands: "[COMMAND]",
    max_operands: 1,
    takes_rest: false,
    options: &[],
    details: "",
    run: help,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match error {
                Error::Usage(_) => eprintln!("x: {error}; `./x help` tells more"),
                Error::Failure(_) | Error::Unreachable(_) => eprintln!("x: {error}"),
                Error::Reported => {}
            }
            ExitCode::from(error.status())
        }
    }
}

fn dispatch(args: &[String]) -> Result<()> {
    let Some((name, rest)) = args.split_first() else {
        return help(&Parsed::default());
    };
    let name = if name == "--help" || name == "-h" {
        "help"
    } else {
        name
    };
    let command = args::select(COMMANDS, name)?;
    let ours = rest.iter().take_while(|arg| *arg != "--");
    if ours.into_iter().any(|arg| arg == "--help" || arg == "-h") {
        args::print_help(command);
        return Ok(());
    }
    (command.run)(&args::parse(command, rest)?)
}

fn help(parsed: &Parsed) -> Result<()> {
    if let Some(name) = parsed.operands.first() {
        args::print_help(args::select(COMMANDS, name)?);
        return Ok(());
    }
    println!("Usage: ./x COMMAND [OPTIONS]\n");
    for command in COMMANDS {
        println!("  {:<10} {}", command.name, command.summary);
    }
    println!("\n`./x help COMMAND` or `./x COMMAND --help` explains one.");
    Ok(())
}
