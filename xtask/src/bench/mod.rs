//! `./x bench`: what a unit of work costs in guest instructions, ours and Linux's side by side.
//!
//! Both systems run on the same QEMU command line, but for the kernel it names, under a plugin that counts the
//! instructions the guest executes (`plugin`, `guest`). The same clients ask both for the same work (`load`). The cost
//! of a unit is a difference: twice as many units cost so much more, which cancels what is not the unit's. Everything
//! is done three times, and the spread is part of the result. There is no wall-clock figure: those depend on the host.
//!
//! The method in words, and the results: `docs/performance.md`.

mod calibrate;
mod discover;
mod goodput;
mod guest;
mod linux;
mod load;
mod plugin;
mod profile;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::args::{Command, Opt, Parsed, find};
use crate::build;
use crate::error::{Result, at, failure, usage};
use crate::packages;
use crate::qemu;
use crate::run::QEMU;
use crate::workspace;

use calibrate::calibrate;
use discover::{first_discover, first_frame};
use guest::{Emulator, Guest, Machine, System, Total, Wire};
use load::{Http, UdpEcho};
use profile::Blocks;
use report::{ESPRESSOBIN, Figure, Measured, Results, Row, VIRT};

/// The row in the table of commands.
pub const COMMAND: Command = Command {
    name: "bench",
    summary: "Count guest instructions per unit of work, ours and Linux's side by side",
    operands: "[MACHINE]",
    max_operands: 1,
    takes_rest: false,
    options: &[
        Opt::value("--only", "ours|linux", "measure one of the two"),
        Opt::switch(
            "--quick",
            "fewer units: a figure in two minutes, with more spread",
        ),
        Opt::value(
            "--image",
            "FILE",
            "measure this image instead of building out/Image",
        ),
        Opt::switch(
            "--goodput",
            "measure instead what a MiB of TCP costs, with iperf3",
        ),
        Opt::value(
            "--append",
            "BOOTARGS",
            "bootargs for ours, such as latency=off",
        ),
        Opt::value(
            "--profile",
            "FIGURE",
            "say instead which functions of ours a figure's instructions are in",
        ),
        Opt::value(
            "--capture",
            "QUERY",
            "with --profile: while a capture is on, as with snaplen=128",
        ),
    ],
    details:
        "\
MACHINE is virt (if not given) or espressobin, the board's model.

Prints a table in Markdown and leaves the same numbers in out/bench.json (of the board, in
out/bench-espressobin.json). A unit of work that is lost or answered wrongly fails the run, and so
does a figure of ours beyond what it must be. --profile takes a figure by its name in that file:
boot, udp_echo_18, udp_echo_1400, http_keep_alive, http_64, http_connection or idle_second.
--capture takes what can follow /capture.pcapng? (docs/capture.md), and tells the taps' share.

The first run fetches the plugin header of the installed QEMU (or builds the QEMU with the board) and,
for Linux, Debian's arm64 kernel into the cache; nothing of either is installed on the system.
docs/performance.md tells the method.",
    run,
};

/// How many connections are served at once where it says "64 connections".
const CONNECTIONS: usize = 64;
/// Everything is measured so often: the figure is the median, and how far the others lie apart its spread.
const REPETITIONS: usize = 3;
/// Units that come before what is measured: caches, neighbours and congestion windows find their steady state.
const WARM_UP: usize = 100;
/// How long a guest may take to come up.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// After boot, until nothing is left of it: DHCP, duplicate address detection, Linux's deferred work.
const SETTLING: Duration = Duration::from_secs(5);

/// How much is done for each figure.
struct Effort {
    /// Units of one measurement; twice as many are done for the difference.
    units: usize,
    /// How long the guest is watched doing nothing.
    idle: Duration,
}

const FULL: Effort = Effort {
    units: 2000,
    idle: Duration::from_secs(20),
};
const QUICK: Effort = Effort {
    units: 400,
    idle: Duration::from_secs(3),
};

fn run(parsed: &Parsed) -> Result<()> {
    let (with_ours, with_linux) = match parsed.value("--only") {
        None => (true, true),
        Some("ours") => (true, false),
        Some("linux") => (false, true),
        Some(other) => return usage(format!("--only wants `ours` or `linux`, not `{other}`")),
    };
    if parsed.has("--profile") && (parsed.has("--only") || parsed.has("--image")) {
        return usage("--profile builds ours and goes with neither --only nor --image");
    }
    let (query, profiled) = (parsed.value("--capture"), parsed.value("--profile"));
    if query.is_some() && profiled.is_none_or(|figure| figure == "boot") {
        return usage("--capture goes with --profile, and with no boot");
    }
    let effort = if parsed.has("--quick") { QUICK } else { FULL };
    let name = parsed.operands.first().map_or("virt", String::as_str);
    let bench = find("machine", name, MACHINES, |machine| machine.name)?;
    let mut emulator = (bench.emulator)()?;
    calibrate(&emulator)?;
    if parsed.has("--goodput") {
        return goodput::run(&emulator, with_ours, with_linux, parsed);
    }

    if let Some(key) = parsed.value("--profile") {
        return profile_ours(&mut emulator, bench, key, parsed, &effort);
    }
    let mut results = Vec::new();
    if with_ours {
        let (image, elf) = match parsed.value("--image") {
            Some(file) => (PathBuf::from(file), None),
            None => {
                let built = build::sound_image()?;
                (built.image, Some(built.elf))
            }
        };
        let mut subject = ours(image, parsed.value("--append"));
        subject.elf = elf;
        results.push((bench.measure)(&mut emulator, &subject, &effort)?);
    }
    if with_linux {
        let subject = linux(&emulator.machine)?;
        results.push((bench.measure)(&mut emulator, &subject, &effort)?);
    }
    let json = workspace::out_dir()?.join(bench.json);
    workspace::write_whole(&json, report::json(&results).as_bytes())?;
    println!("\n{}\n{}", report::markdown(&results), json.display());
    report::judge(&results)
}

/// Hardware that can be measured on.
struct Bench {
    name: &'static str,
    emulator: fn() -> Result<Emulator>,
    rows: &'static [Row],
    /// Where our boot is over.
    boot: fn(&Emulator, &System) -> Result<u64>,
    /// Every figure of one of the two systems.
    measure: fn(&mut Emulator, &Subject, &Effort) -> Result<Results>,
    json: &'static str,
}

const MACHINES: &[Bench] = &[
    Bench {
        name: "virt",
        emulator: virt,
        rows: VIRT,
        boot: first_discover,
        measure: measure_virt,
        json: "bench.json",
    },
    Bench {
        name: "espressobin",
        emulator: espressobin,
        rows: ESPRESSOBIN,
        boot: first_frame,
        measure: measure_espressobin,
        json: "bench-espressobin.json",
    },
];

fn virt() -> Result<Emulator> {
    packages::ensure(&[QEMU])?;
    Ok(Emulator {
        qemu: QEMU.brings.to_owned(),
        plugin: plugin::build(QEMU.brings)?,
        machine: Machine::Virt,
        blocks: None,
        watches_memory: false,
    })
}

fn espressobin() -> Result<Emulator> {
    let qemu = qemu::binary(false)?;
    Ok(Emulator {
        qemu: qemu.display().to_string(),
        plugin: plugin::build_for_board()?,
        machine: Machine::Espressobin {
            tree: qemu::devicetree()?,
        },
        blocks: None,
        watches_memory: false,
    })
}

/// What is measured, and how it differs from the other.
struct Subject {
    system: System,
    ours: bool,
    /// With the names of its functions, if they are known.
    elf: Option<PathBuf>,
    /// Amounts of memory to try, in MiB, smallest first.
    memories_mib: &'static [usize],
    /// How long it may take to serve, or else it has too little memory.
    memory_limit: Duration,
}

fn ours(kernel: PathBuf, append: Option<&str>) -> Subject {
    // As long as we live: there is one of it.
    let append = append.map(|text| &*text.to_owned().leak());
    Subject {
        system: System {
            name: "Ristretto".to_owned(),
            kernel,
            initrd: None,
            append,
        },
        ours: true,
        elf: None,
        memories_mib: &[4, 6, 8, 10, 12, 16, 24, 32, 64, 128, 256],
        memory_limit: Duration::from_secs(8),
    }
}

fn linux(machine: &Machine) -> Result<Subject> {
    Ok(Subject {
        system: linux::build(machine)?,
        ours: false,
        elf: None,
        memories_mib: &[48, 64, 80, 96, 128, 192, 256],
        memory_limit: Duration::from_secs(30),
    })
}

/// Every figure of one of the two on QEMU's own machine.
fn measure_virt(emulator: &mut Emulator, subject: &Subject, effort: &Effort) -> Result<Results> {
    let system = &subject.system;
    let (size, footprint) = image_sizes(&system.kernel)?;
    let mut figures = vec![
        (Figure::ImageSize, Measured::exactly(size as f64)),
        (Figure::Footprint, Measured::exactly(footprint as f64)),
        measure_boot(emulator, subject, first_discover)?,
    ];
    figures.extend(measure_service(emulator, system, effort)?);
    if let Some(memory) = smallest_memory(emulator, subject) {
        figures.push((Figure::Memory, Measured::exactly(memory as f64)));
    }
    Ok(Results {
        system: system.name.clone(),
        ours: subject.ours,
        rows: VIRT,
        figures,
    })
}

/// Every figure of one of the two on the board's model.
fn measure_espressobin(
    emulator: &mut Emulator,
    subject: &Subject,
    effort: &Effort,
) -> Result<Results> {
    let system = &subject.system;
    let mut figures = vec![measure_boot(emulator, subject, first_frame)?];
    figures.extend(measure_service(emulator, system, effort)?);
    figures.extend(measure_saturation(emulator, subject, effort)?);
    emulator.watches_memory = true;
    let accesses = measure_accesses(emulator, system, effort);
    emulator.watches_memory = false;
    figures.extend(accesses?);
    if let Some(elf) = &subject.elf {
        progress(system, "UDP echo, 18 B, by function");
        let share = with_blocks(emulator, |emulator, blocks| {
            let (before, after, units) = profile(
                emulator,
                system,
                Figure::UdpSmall,
                effort.units,
                blocks,
                None,
            )?;
            Ok(after.within(&before, elf, DRIVER)? as f64 / units)
        })?;
        figures.push((Figure::DriverShare, Measured::exactly(share)));
    }
    Ok(Results {
        system: system.name.clone(),
        ours: subject.ours,
        rows: ESPRESSOBIN,
        figures,
    })
}

/// Parts of the names of functions that are the board's network driver: the MAC, its memory, the tags, and the sockets
/// that share them.
const DRIVER: &[&str] = &[
    "hal::net::neta",
    "hal::net::tag",
    "hal::dma",
    "firmware::machine::armada",
    "firmware::machine::card",
];

/// Runs something with the plugin listing every block, in a file that is there for as long.
fn with_blocks<T>(
    emulator: &mut Emulator,
    run: impl FnOnce(&Emulator, &Path) -> Result<T>,
) -> Result<T> {
    let blocks = workspace::cache_dir()?.join(format!("blocks-{}", std::process::id()));
    emulator.blocks = Some(blocks.clone());
    let outcome = run(emulator, &blocks);
    emulator.blocks = None;
    let removed = fs::remove_file(&blocks).map_err(at(&blocks));
    // What failed before is the better error.
    let outcome = outcome?;
    removed?;
    Ok(outcome)
}

fn measure_boot(
    emulator: &Emulator,
    subject: &Subject,
    ours: fn(&Emulator, &System) -> Result<u64>,
) -> Result<(Figure, Measured)> {
    progress(&subject.system, "boot");
    let boot = if subject.ours { ours } else { ready_line };
    let cost = repeat(|| Ok(boot(emulator, &subject.system)? as f64))?;
    Ok((Figure::Boot, cost))
}

/// What an echo costs when more requests come than can be served; and of ours, how many frames an interrupt brings.
fn measure_saturation(
    emulator: &Emulator,
    subject: &Subject,
    effort: &Effort,
) -> Result<Vec<(Figure, Measured)>> {
    let system = &subject.system;
    progress(system, "saturation");
    let mut guest = serving(emulator, system)?;
    let echo = guest.udp_echo;
    let datagrams = 10 * effort.units;
    load::flood(echo, 18, datagrams)?;
    let mut per_interrupt = Vec::new();
    let cost = repeat(|| {
        let counts = |guest: &Guest| match subject.ours {
            true => interrupts(guest),
            false => Ok((0, 0)),
        };
        let (frames, interrupts) = counts(&guest)?;
        let before = guest.counter.instructions()?;
        let answered = load::flood(echo, 18, datagrams)?;
        let instructions = guest.counter.instructions()? - before;
        let now = counts(&guest)?;
        per_interrupt.push((now.0 - frames) as f64 / (now.1 - interrupts).max(1) as f64);
        Ok(instructions as f64 / answered.max(1) as f64)
    })?;
    guest.still_runs()?;
    let mut figures = vec![(Figure::Saturated, cost)];
    if subject.ours {
        figures.push((Figure::FramesPerInterrupt, Measured::of(per_interrupt)));
    }
    Ok(figures)
}

/// Frames the MAC has received and interrupts it has made, as our own counters tell.
fn interrupts(guest: &Guest) -> Result<(u64, u64)> {
    let metrics = load::page(guest.http, "/metrics")?;
    let get = |name: &str| {
        let lines = metrics.lines().filter(|line| !line.starts_with('#'));
        let found = lines
            .filter(|line| line.starts_with(name))
            .find_map(|line| line.rsplit(' ').next()?.parse().ok());
        found.map_or_else(|| failure(format!("/metrics has no {name}")), Ok)
    };
    Ok((
        get("ristretto_device_rx_frames_total")?,
        get("ristretto_device_interrupts_total")?,
    ))
}

/// What an echo does to devices and memory.
fn measure_accesses(
    emulator: &Emulator,
    system: &System,
    effort: &Effort,
) -> Result<Vec<(Figure, Measured)>> {
    progress(system, "UDP echo, loads and stores");
    let guest = serving(emulator, system)?;
    let cost = |figure, total| {
        let mut work = Work::new(figure, &guest)?;
        unit_cost(&guest, total, effort.units, &mut work.run)
    };
    let small = cost(Figure::UdpSmall, Total::BytesStored)?;
    let large = cost(Figure::UdpLarge, Total::BytesStored)?;
    // What a longer payload adds to the bytes stored, by what it is longer: once for each copy.
    let copies = (large.median - small.median) / (1400.0 - 18.0);
    Ok(vec![
        (Figure::Copies, Measured::exactly(copies)),
        (
            Figure::DeviceAccesses,
            cost(Figure::UdpSmall, Total::DeviceAccesses)?,
        ),
    ])
}

/// A guest that serves and has come to rest.
fn serving(emulator: &Emulator, system: &System) -> Result<Guest> {
    let memory = emulator.machine.memory();
    let mut guest = Guest::start(emulator, system, memory, &Wire::UserNetwork)?;
    wait_until_serving(&mut guest, BOOT_LIMIT)?;
    thread::sleep(SETTLING);
    Ok(guest)
}

/// Prints where the instructions of a boot, or of a unit of work, are executed.
fn profile_ours(
    emulator: &mut Emulator,
    bench: &Bench,
    key: &str,
    parsed: &Parsed,
    effort: &Effort,
) -> Result<()> {
    let row = find("figure", key, bench.rows, |row| row.key)?;
    let built = build::sound_image()?;
    let query = parsed.value("--capture");
    let append = parsed.value("--append").unwrap_or_default();
    let append = match query {
        Some(_) => format!("{append} admin={CAPTURE_TOKEN}"),
        None => append.to_owned(),
    };
    let system = ours(built.image, Some(&append)).system;
    let table = with_blocks(emulator, |emulator, blocks| {
        let (before, after, units) = match row.figure {
            Figure::Boot => {
                (bench.boot)(emulator, &system)?;
                (Blocks::default(), Blocks::read(blocks)?, 1.0)
            }
            figure => profile(emulator, &system, figure, effort.units, blocks, query)?,
        };
        let mut table = after.table(&before, units, &built.elf)?;
        if query.is_some() {
            let taps = after.within(&before, &built.elf, TAPS)? as f64 / units;
            table += &format!("{taps:>12.1}  of them in the taps\n");
        }
        Ok(table)
    })?;
    println!("\n{}\n{table}", row.name);
    Ok(())
}

/// What a capture is ordered with.
const CAPTURE_TOKEN: &str = "bench";
/// Parts of the names of functions that are in a frame's way while there is a capture, copies of more than its begin aside.
const TAPS: &[&str] = &[
    "hal::net::capture::Tap::show",
    "hal::net::capture::Recorder",
    "firmware::capture::Capture::record_any",
    "hal::net::bpf",
];

/// The blocks before and after so many units of work; while a capture is on, if there is a query for it.
fn profile(
    emulator: &Emulator,
    system: &System,
    figure: Figure,
    units: usize,
    blocks: &Path,
    capture: Option<&str>,
) -> Result<(Blocks, Blocks, f64)> {
    let guest = serving(emulator, system)?;
    if let Some(query) = capture {
        load::capture(guest.http, query, CAPTURE_TOKEN)?;
    }
    let mut work = Work::new(figure, &guest)?;
    // An idle second needs no warming up, and is long.
    let (warm_up, runs) = match figure {
        Figure::Idle => (0, 10),
        _ => (WARM_UP, units / work.units),
    };
    (0..warm_up).try_for_each(|_| (work.run)())?;
    let before = Blocks::read(blocks)?;
    (0..runs).try_for_each(|_| (work.run)())?;
    let units = (runs * work.units) as f64;
    Ok((before, Blocks::read(blocks)?, units))
}

/// What a client does again and again for a figure.
struct Work {
    run: Box<dyn FnMut() -> Result<()>>,
    /// How many units one run is.
    units: usize,
}

impl Work {
    fn new(figure: Figure, guest: &Guest) -> Result<Self> {
        let one = |run| Ok(Self { run, units: 1 });
        let echo = |size| -> Result<Box<dyn FnMut() -> Result<()>>> {
            let mut client = UdpEcho::new(guest.udp_echo, size, load::PATIENCE)?;
            Ok(Box::new(move || client.exchange()))
        };
        let http = guest.http;
        match figure {
            Figure::UdpSmall => one(echo(18)?),
            Figure::UdpLarge => one(echo(1400)?),
            Figure::Request => {
                let mut connection = Http::connect(http)?;
                one(Box::new(move || connection.exchange()))
            }
            Figure::Volley => {
                let mut connections = connect_all(guest)?;
                let run = Box::new(move || load::volley(&mut connections));
                Ok(Self {
                    run,
                    units: CONNECTIONS,
                })
            }
            Figure::Connection => one(Box::new(move || load::connect_request_close(http))),
            Figure::Idle => one(Box::new(|| {
                thread::sleep(Duration::from_secs(1));
                Ok(())
            })),
            Figure::Boot
            | Figure::ImageSize
            | Figure::Footprint
            | Figure::Memory
            | Figure::DriverShare
            | Figure::DeviceAccesses
            | Figure::Copies
            | Figure::FramesPerInterrupt
            | Figure::Saturated => {
                usage("that figure is no work for a client, one unit after the other")
            }
        }
    }
}

/// Boots until Linux's server says that it listens.
fn ready_line(emulator: &Emulator, system: &System) -> Result<u64> {
    let memory = emulator.machine.memory();
    let mut guest = Guest::start(emulator, system, memory, &Wire::UserNetwork)?;
    guest.wait_for_line(linux::READY, BOOT_LIMIT)?;
    guest.counter.instructions()
}

/// What the system costs while it serves, and while it does not.
fn measure_service(
    emulator: &Emulator,
    system: &System,
    effort: &Effort,
) -> Result<Vec<(Figure, Measured)>> {
    let guest = serving(emulator, system)?;
    println!("+ {}", guest.line);

    progress(system, "idle");
    let seconds = effort.idle.as_secs_f64();
    let mut figures = vec![(
        Figure::Idle,
        repeat(|| Ok(count_idle(&guest, effort.idle)? as f64 / seconds))?,
    )];

    for figure in [
        Figure::UdpSmall,
        Figure::UdpLarge,
        Figure::Request,
        Figure::Volley,
        Figure::Connection,
    ] {
        progress(system, &format!("{figure:?}"));
        let mut work = Work::new(figure, &guest)?;
        let batch = effort.units / work.units;
        let cost = unit_cost(&guest, Total::Instructions, batch, &mut work.run)?;
        figures.push((figure, cost.divided_by(work.units)));
    }
    Ok(figures)
}

/// The smallest of the subject's amounts of memory with which it comes up and serves 64 connections at once, in bytes.
fn smallest_memory(emulator: &Emulator, subject: &Subject) -> Option<usize> {
    let serves = |size: usize| -> Result<()> {
        let mut guest = Guest::start(
            emulator,
            &subject.system,
            &format!("{size}M"),
            &Wire::UserNetwork,
        )?;
        wait_until_serving(&mut guest, subject.memory_limit)?;
        load::volley(&mut connect_all(&guest)?)
    };
    let smallest = subject.memories_mib.iter().find(|size| {
        progress(
            &subject.system,
            &format!("{CONNECTIONS} connections in {size} MiB"),
        );
        serves(**size).is_ok()
    });
    smallest.map(|size| size << 20)
}

/// A guest serves when both services have answered once.
fn wait_until_serving(guest: &mut Guest, limit: Duration) -> Result<()> {
    /// Between two tries.
    const TRY: Duration = Duration::from_millis(250);

    let echo = guest.udp_echo;
    // A new client each time, to which the late answer to another one is no wrong answer.
    guest.wait_until("answer to a UDP echo", limit, |_| {
        UdpEcho::new(echo, 18, TRY)
            .and_then(|mut client| client.exchange())
            .is_ok()
    })?;
    let http = guest.http;
    guest.wait_until("answer to an HTTP request", limit, |_| {
        let served = load::connect_request_close(http).is_ok();
        if !served {
            thread::sleep(TRY);
        }
        served
    })
}

fn connect_all(guest: &Guest) -> Result<Vec<Http>> {
    (0..CONNECTIONS)
        .map(|_| Http::connect(guest.http))
        .collect()
}

/// Instructions executed while nothing is asked of the guest.
fn count_idle(guest: &Guest, time: Duration) -> Result<u64> {
    let before = guest.counter.instructions()?;
    thread::sleep(time);
    Ok(guest.counter.instructions()? - before)
}

/// What one unit costs: twice as many units, less as many, by their number. What a batch costs as a whole (the timer
/// that happens to expire in it, the answer's last steps after the client has it) cancels.
fn unit_cost(
    guest: &Guest,
    total: Total,
    units: usize,
    mut unit: impl FnMut() -> Result<()>,
) -> Result<Measured> {
    let mut batch = |units: usize| -> Result<f64> {
        let before = guest.counter.get(total)?;
        (0..units).try_for_each(|_| unit())?;
        Ok((guest.counter.get(total)? - before) as f64)
    };
    batch(units.min(WARM_UP))?;
    repeat(|| {
        let once = batch(units)?;
        let twice = batch(2 * units)?;
        Ok((twice - once) / units as f64)
    })
}

/// Measures as often as everything is measured here.
fn repeat(measure: impl FnMut() -> Result<f64>) -> Result<Measured> {
    let values = std::iter::repeat_with(measure)
        .take(REPETITIONS)
        .collect::<Result<Vec<_>>>()?;
    Ok(Measured::of(values))
}

fn progress(system: &System, what: &str) {
    println!("{}: {what}", system.name);
}

/// The size of an arm64 `Image` as a file, and in memory: how much it takes from its load address on, variables and
/// stacks included.
/// Spec: Documentation/arch/arm64/booting.rst, the 64-byte header, `image_size`.
fn image_sizes(file: &Path) -> Result<(usize, u64)> {
    let image = fs::read(file).map_err(at(file))?;
    match image.get(16..24).and_then(|field| field.try_into().ok()) {
        Some(field) => Ok((image.len(), u64::from_le_bytes(field))),
        None => failure(format!("{}: too short for an Image", file.display())),
    }
}
