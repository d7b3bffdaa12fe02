//! `./x bench --goodput`: guest instructions for a MiB of TCP, in either direction, ours and Linux's side by side.
//!
//! The same client, Debian's iperf3, moves so many bytes from and to the guest's iperf3 server. Twice as many bytes cost
//! so much more: what a test costs beside its bytes cancels. QEMU's user-mode network offers no offload, so both guests
//! do all the work themselves, a segment of 1460 bytes at a time.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::args::Parsed;
use crate::build;
use crate::error::{Result, failure};
use crate::packages::{self, Package};
use crate::step::Step;
use crate::workspace;

use super::guest::{Emulator, Guest, System, Wire};
use super::report::{Measured, number};
use super::{BOOT_LIMIT, SETTLING, linux, ours, repeat, wait_until_serving};

const IPERF3: Package = Package {
    name: "iperf3",
    brings: "iperf3",
    why: "the client that moves the bytes",
};

/// Both directions: for people, for the JSON, for the client.
const DIRECTIONS: [(&str, &str, &[&str]); 2] = [
    ("MiB received", "mib_received", &[]),
    ("MiB sent", "mib_sent", &["-R"]),
];

/// Measures, prints a table, and leaves `out/goodput.json`.
pub fn run(emulator: &Emulator, with_ours: bool, with_linux: bool, parsed: &Parsed) -> Result<()> {
    packages::ensure(&[IPERF3])?;
    let mib = if parsed.has("--quick") { 8 } else { 64 };
    let mut systems = Vec::new();
    if with_ours {
        let image = match parsed.value("--image") {
            Some(file) => PathBuf::from(file),
            None => build::sound_image()?.image,
        };
        systems.push(ours(image, parsed.value("--append")).system);
    }
    if with_linux {
        systems.push(linux::build_with_iperf3(&emulator.machine)?);
    }
    let mut table = "| guest instructions |".to_owned();
    let mut rows = DIRECTIONS.map(|(name, _, _)| format!("| {name} |"));
    let mut json = Vec::new();
    for system in &systems {
        table += &format!(" {} |", system.name);
        let mut fields = format!("\"system\": \"{}\"", system.name);
        for (row, (measured, (_, key, _))) in rows
            .iter_mut()
            .zip(measure(emulator, system, mib)?.iter().zip(DIRECTIONS))
        {
            let (median, spread) = (measured.median, 100.0 * measured.spread.unwrap_or_default());
            *row += &format!(" {} ±{spread:.1} % |", number(median));
            fields += &format!(", \"{key}\": {median:.0}, \"{key}_spread_percent\": {spread:.1}");
        }
        json.push(format!("  {{{fields}}}"));
    }
    let rule = " ---: |".repeat(systems.len());
    println!("\n{table}\n| --- |{rule}\n{}\n", rows.join("\n"));
    let file = workspace::out_dir()?.join("goodput.json");
    workspace::write_whole(&file, format!("[\n{}\n]\n", json.join(",\n")).as_bytes())?;
    println!("{}", file.display());
    Ok(())
}

fn measure(emulator: &Emulator, system: &System, mib: u64) -> Result<[Measured; 2]> {
    let mut guest = Guest::start(
        emulator,
        system,
        emulator.machine.memory(),
        &Wire::UserNetwork,
    )?;
    wait_until_serving(&mut guest, BOOT_LIMIT)?;
    thread::sleep(SETTLING);
    let mut measured = Vec::new();
    for (name, _, options) in DIRECTIONS {
        println!("{}: {name}", system.name);
        let transfer = |mib: u64| -> Result<f64> {
            let before = guest.counter.instructions()?;
            let client = Step::new("iperf3")
                .args(["-c", &guest.iperf3.ip().to_string()])
                .args(["-p", &guest.iperf3.port().to_string()])
                .args(["-n", &format!("{mib}M")])
                .args(options.iter().copied());
            let said = client.output()?;
            if !said.contains("iperf Done") {
                return failure(format!("iperf3 did not end well: {said}"));
            }
            // The last steps of a farewell.
            thread::sleep(Duration::from_millis(200));
            Ok((guest.counter.instructions()? - before) as f64)
        };
        transfer(mib)?;
        measured.push(repeat(|| {
            let once = transfer(mib)?;
            let twice = transfer(2 * mib)?;
            Ok((twice - once) / mib as f64)
        })?);
    }
    match measured.try_into() {
        Ok(both) => Ok(both),
        Err(_) => failure("there are two directions"),
    }
}
