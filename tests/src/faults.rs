//! The end of a run: reports that a person can use, and the action that bootargs asked for.

use crate::check::{Result, ensure, fail};
use crate::clients::run;
use crate::machine::{Guest, Machine};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    test("faults-panic", panic),
    test("faults-abort", abort),
    test("faults-stack-overflow", stack),
    test("faults-reset", reset),
    test("faults-halt", halt),
    test("faults-semihosting-status", semihosting),
    test("faults-semihosting-only-on-demand", without_semihosting),
];

const fn test(name: &'static str, run: fn(&Context) -> Result) -> Test {
    Test {
        name,
        tier: Tier::Quick,
        needs: Needs::Qemu,
        limit_s: 120,
        run,
    }
}

/// Boots into a self test that ends in a report and a power-off. Returns the guest after its end.
fn report(cx: &Context, test: &str) -> Result<Guest> {
    let mut guest = Machine::new(cx)
        .append(&format!("panic=off test={test}"))
        .boot()?;
    let status = guest.ended(30)?;
    ensure!(status.success(), "QEMU ended with {status}");
    ensure!(
        guest.console().contains("powering off"),
        "it ended without a word"
    );
    Ok(guest)
}

/// The backtrace's addresses in the words of somebody else's tool.
fn names(cx: &Context, console: &str) -> Result<String> {
    let Some((_, trace)) = console.split_once("backtrace") else {
        fail!("no backtrace: {console}")
    };
    let addresses = addresses(
        console
            .split_once("EXCEPTION")
            .map_or(trace, |(_, all)| all),
    );
    ensure!(
        addresses.len() >= 3,
        "a backtrace of {} addresses: {console}",
        addresses.len()
    );
    let elf = format!("--obj={}", cx.elf.display());
    let mut args = vec![elf.as_str(), "--demangle", "--inlines"];
    args.extend(addresses.iter().map(String::as_str));
    run("llvm-symbolizer", &args)
}

/// `  3: 0x1234` of the report.
fn addresses(text: &str) -> Vec<String> {
    let parse = |line: &str| -> Option<String> {
        let (depth, address) = line.split_once(": 0x")?;
        depth.trim().parse::<u32>().ok()?;
        u64::from_str_radix(address.trim(), 16)
            .ok()
            .map(|address| format!("{address:#x}"))
    };
    text.lines().filter_map(parse).collect()
}

fn panic(cx: &Context) -> Result {
    let guest = report(cx, "panic")?;
    let console = guest.console();
    for part in ["PANIC: ", "test=panic", "self_test.rs:"] {
        ensure!(
            console.contains(part),
            "the report lacks `{part}`: {console}"
        );
    }
    let names = names(cx, &console)?;
    ensure!(
        names.contains("self_test::run"),
        "the backtrace leads to {names}"
    );
    ensure!(
        names.contains("ristretto_entry") || names.contains("machine::start"),
        "the backtrace ends early: {names}"
    );
    Ok(())
}

fn abort(cx: &Context) -> Result {
    let guest = report(cx, "abort")?;
    let console = guest.console();
    for part in [
        "EXCEPTION: data abort",
        "far 0x0000000000000008",
        "while reading 0x8",
        "  x0 ",
        "  sp ",
    ] {
        ensure!(
            console.contains(part),
            "the report lacks `{part}`: {console}"
        );
    }
    let names = names(cx, &console)?;
    ensure!(
        names.contains("self_test"),
        "the backtrace leads to {names}"
    );
    Ok(())
}

fn stack(cx: &Context) -> Result {
    let guest = report(cx, "stack")?;
    let console = guest.console();
    for part in ["EXCEPTION: data abort", "the guard page: stack overflow"] {
        ensure!(
            console.contains(part),
            "the report lacks `{part}`: {console}"
        );
    }
    let names = names(cx, &console)?;
    ensure!(
        names.contains("self_test::overflow"),
        "the backtrace leads to {names}"
    );
    Ok(())
}

fn reset(cx: &Context) -> Result {
    let mut guest = Machine::new(cx).append("test=panic").boot()?;
    guest.line("resetting", 20)?;
    // It boots again, and panics again: twice is enough.
    let mark = guest.mark();
    guest.line_from(mark, "Ristretto", 20)?;
    guest.line_from(mark, "resetting", 20)?;
    Ok(())
}

fn halt(cx: &Context) -> Result {
    let mut guest = Machine::new(cx).append("panic=halt test=panic").boot()?;
    guest.line("halted", 20)?;
    let x0 = guest.qmp()?.register("x00")?;
    ensure!(
        x0 == 0x5253_544f_0000_0007,
        "x0 of the halted core is {x0:#x}"
    );
    let greetings = guest.console().matches("Ristretto").count();
    ensure!(greetings == 1, "it started {greetings} times");
    Ok(())
}

fn semihosting(cx: &Context) -> Result {
    for (test, expected) in [("panic", 1), ("abort", 2)] {
        let mut guest = Machine::new(cx)
            .arg("-semihosting-config")
            .arg("enable=on,target=native")
            .append(&format!("exit=semihosting test={test}"))
            .boot()?;
        let status = guest.ended(30)?;
        ensure!(
            status.code() == Some(expected),
            "test={test}: QEMU ended with {status}"
        );
    }
    Ok(())
}

/// Without `exit=semihosting` no such instruction runs: with semihosting on, it would end QEMU with another status,
/// and with semihosting off it would be an exception.
fn without_semihosting(cx: &Context) -> Result {
    for enable in ["on", "off"] {
        let mut guest = Machine::new(cx)
            .arg("-semihosting-config")
            .arg(format!("enable={enable},target=native"))
            .append("panic=off test=panic")
            .boot()?;
        let status = guest.ended(30)?;
        ensure!(
            status.success(),
            "semihosting {enable}: QEMU ended with {status}"
        );
        let console = guest.console();
        ensure!(
            !console.contains("EXCEPTION"),
            "semihosting {enable}: {console}"
        );
        ensure!(
            console.contains("powering off"),
            "semihosting {enable}: {console}"
        );
    }
    Ok(())
}
