//! The crash record: what is known after a reset of what was before it, and what memory that was without power tells.

use std::fs;

use serde_json::Value;

use crate::api::curl;
use crate::check::{During, Result, ensure, fail};
use crate::clients::run;
use crate::espressobin::board::Board;
use crate::machine::{DRAM, Machine};
use crate::sdcard::crc32;
use crate::{Context, Needs, Test, Tier};

/// The tests of this file. An image is told to panic in all of them, which `faults` in their names allows.
pub const TESTS: &[Test] = &[
    test("faults-crash-record", 120, record),
    test("faults-crash-memory-decays", 120, memory_decays),
    test("faults-crash-watchdog", 240, watchdog),
];

const fn test(name: &'static str, limit_s: u64, run: fn(&Context) -> Result) -> Test {
    Test {
        name,
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s,
        run,
    }
}

/// Where the record is in a machine of 128 MiB, and its length.
const AREA: u64 = DRAM + (80 << 20);
const AREA_BYTES: usize = 32 << 10;
/// The log in the first half of it.
const LOG_AT: usize = 1024 + 16;

/// An exception on virt; at the next start `/api/v1/crash` tells all of it, if only to who has the token.
fn record(cx: &Context) -> Result {
    let bootargs = "admin=s3cret-Token test=once:abort";
    let mut guest = Machine::new(cx).user()?.append(bootargs).boot()?;
    guest.line("EXCEPTION: data abort", 30)?;
    let mark = guest.mark();
    let line = guest.line_from(mark, "crash record: ", 30)?;
    ensure!(
        line.contains("1 start(s) ago: data abort, esr 0x96000006, far 0x8"),
        "{line}"
    );
    guest.healthy(30)?;

    let http = guest.services.http;
    let ask = |path: &str, more: &[&str]| curl(http, &format!("/api/v1/{path}"), more);
    let token = ["-H", "Authorization: Bearer s3cret-Token"];
    let post = [&token[..], &["-X", "POST"]].concat();
    for (path, args, expected) in [
        ("crash/trace", &[][..], 401),
        ("trace", &[], 401),
        ("crash/nonsense", &token, 400),
        ("crash/log/log", &token, 400),
        ("trace/1", &token, 400),
        ("crash/clear", &token, 405),
    ] {
        let (code, json) = ask(path, args)?;
        ensure!(code == expected, "{path}: {code} {json}");
        ensure!(json["error"].is_string(), "{path}: {json}");
    }

    let (code, open) = ask("crash", &[])?;
    ensure!(
        code == 200 && open["ended"] == "exception" && open["withheld"].is_string(),
        "{code}: {open}"
    );
    ensure!(
        open["registers"].is_null() && open["events"].is_null(),
        "{open}"
    );
    let (_, crash) = ask("crash", &token)?;
    for (name, value) in [
        ("ended", Value::from("exception")),
        ("message", "data abort, esr 0x96000006, far 0x8".into()),
        ("start", 1.into()),
        ("starts_ago", 1.into()),
        ("watchdog_s", 0.into()),
        ("image_start", (DRAM + (2 << 20)).into()),
    ] {
        ensure!(crash[name] == value, "{name}: {crash}");
    }
    let register = |name: &str| {
        let rows = crash["registers"].as_array()?;
        rows.iter().find(|row| row["register"] == name)?["value"].as_u64()
    };
    ensure!(register("far") == Some(8), "{crash}");
    ensure!(register("esr") == Some(0x9600_0006), "{crash}");
    ensure!(register("x30").is_some(), "{crash}");
    // It is the code that ran, by its checksum, and other people's tool finds the place in it.
    let elf = fs::read(&cx.elf)?;
    // Spec: System V ABI, ELF-64. The first program header, and in it where its segment lies in the file.
    let quad = |at: usize| {
        elf[at..at + 8]
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let image = &elf[quad(quad(0x20) + 8)..];
    let code = crash["code_bytes"].as_u64().unwrap_or(0) as usize;
    ensure!(code > 100_000 && code < image.len(), "{crash}");
    ensure!(crash["code_crc32"] == crc32(&image[..code]), "{crash}");
    let addresses: Vec<String> = crash["backtrace"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|row| Some(format!("{:#x}", row["backtrace"].as_u64()?)))
        .collect();
    let elf = format!("--obj={}", cx.elf.display());
    let mut args = vec![elf.as_str(), "--demangle", "--inlines"];
    args.extend(addresses.iter().map(String::as_str));
    let names = run("llvm-symbolizer", &args)?;
    ensure!(
        addresses.len() >= 3 && names.contains("self_test"),
        "{addresses:?}: {names}"
    );
    // The log is that of the start before: it knew nothing of any record.
    let (_, log) = ask("crash/log", &token)?;
    let log = log["log"].to_string();
    ensure!(
        log.contains("] Ristretto ") && log.contains("sealed"),
        "{log}"
    );
    ensure!(!log.contains("crash record"), "{log}");
    let (_, events) = ask("trace", &token)?;
    let events = events["events"].to_string();
    for part in [
        "address added",
        "10.0.2.15",
        "connection opened",
        "http, 10.0.2.2",
        "cras",
    ] {
        ensure!(events.contains(part), "no {part}: {events}");
    }

    let (code, json) = ask("crash/clear", &post)?;
    ensure!(code == 200, "{code}: {json}");
    let (_, crash) = ask("crash", &token)?;
    ensure!(crash["ended"].is_null(), "{crash}");
    // Nothing is remembered, so it happens again; and the count goes on.
    let mark = guest.mark();
    let (code, json) = ask("reboot", &post)?;
    ensure!(code == 202 && json["rebooting"] == true, "{code}: {json}");
    guest.line_from(mark, "EXCEPTION: data abort", 30)?;
    guest.line_from(mark, "crash record: 1 start(s) ago: data abort", 30)?;
    let said = guest.console()[mark..].to_owned();
    let before = said.split("EXCEPTION").next().unwrap_or_default();
    ensure!(
        !before.contains("crash record"),
        "after it was cleared: {before}"
    );
    Ok(())
}

/// Memory as it was goes into another machine, whole and with a bit changed: a power cycle that was long enough.
fn memory_decays(cx: &Context) -> Result {
    let kept = |machine: Machine, line: &str| -> Result<Vec<u8>> {
        let mut guest = machine.boot()?;
        guest.line(line, 30)?;
        let file = cx.out.join(format!("{}.memory", cx.name));
        let arguments = format!(
            r#"{{"val":{AREA},"size":{AREA_BYTES},"filename":"{}"}}"#,
            file.display()
        );
        guest.qmp()?.execute("pmemsave", &arguments)?;
        Ok(fs::read(&file)?)
    };
    // Switched on with this in memory, what does it say of the start before?
    let says = |id: usize, memory: &[u8]| -> Result<String> {
        let file = cx.out.join(format!("{}.{id}.memory", cx.name));
        fs::write(&file, memory)?;
        let loader = format!("loader,file={},addr={AREA:#x},force-raw=on", file.display());
        let mut guest = Machine::new(cx).id(id).arg("-device").arg(loader).boot()?;
        guest.line("sealed", 30)?;
        let console = guest.console();
        let mut lines = console.lines().filter(|line| line.contains("crash record"));
        Ok(lines.next().unwrap_or_default().to_owned())
    };
    let running = kept(Machine::new(cx), "sealed")?;
    let panicked = kept(
        Machine::new(cx).id(1).append("panic=halt test=panic"),
        "halted",
    )?;
    let changed = |memory: &[u8], at: usize| {
        let mut memory = memory.to_vec();
        memory[at] ^= 0x10;
        memory
    };
    for (id, what, memory, expected) in [
        (2, "nothing", vec![0; AREA_BYTES], ""),
        (
            3,
            "noise",
            crate::check::Random::new(7).bytes(AREA_BYTES),
            "",
        ),
        (
            4,
            "a start cut off",
            running.clone(),
            "reset without a word",
        ),
        (
            5,
            "the same, a bit of the record",
            changed(&running, 80),
            "damaged, ignored",
        ),
        (
            6,
            "the same, a bit of the log",
            changed(&running, LOG_AT + 70),
            "damaged, ignored",
        ),
        (7, "a panic", panicked.clone(), "panicked at"),
        (
            8,
            "the same, a bit of the record",
            changed(&panicked, 700),
            "damaged, ignored",
        ),
    ] {
        let said = says(id, &memory).during(what)?;
        let right = match expected {
            "" => said.is_empty(),
            _ => said.contains(expected),
        };
        ensure!(right, "{what}: {said:?}");
    }
    Ok(())
}

/// The board hangs and the watchdog bites; what the log said last is there, and a reboot that was asked for is none.
fn watchdog(cx: &Context) -> Result {
    let mut board = Board::new(cx).append("watchdog=2 test=once:stall").boot()?;
    board.line("self-test stall")?;
    board.line("crash record: 1 start(s) ago: bitten by the watchdog, or reset by hand")?;
    board.line("wan: address 10.0.2.15/24 (dhcp)")?;
    let mark = board.mark();
    board.type_in("crash\rcrash all\rtrace\r")?;
    board.line_from(mark, "usage: crash [log|trace|clear]")?;
    board.line_from(mark, "interface 0, 10.0.2.15")?;
    let said = board.console()[mark..].to_owned();
    let field = |name: &str| {
        let line = said.lines().find(|line| line.starts_with(name));
        line.map_or("", |line| line[name.len()..].trim_start())
    };
    ensure!(field("ended ") == "watchdog", "{said}");
    ensure!(field("watchdog_s ") == "2", "{said}");
    ensure!(said.contains("self-test stall: nothing happens"), "{said}");
    ensure!(
        said.contains("link up") && said.contains("1000 Mb/s"),
        "{said}"
    );

    let mark = board.mark();
    board.type_in("reboot\r")?;
    board.line_from(mark, "crash record: 2 start(s) ago: bitten by the watchdog")?;
    board.line_from(mark, "heap: ")?;
    if board.console()[mark..].contains("1 start(s) ago") {
        fail!("a reboot that was asked for counts as a bad end");
    }
    board.sound()
}
