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

use crate::args::{Command, Opt, Parsed};
use crate::build;
use crate::error::{Result, at, failure, usage};
use crate::packages;
use crate::run::QEMU;
use crate::workspace;

use calibrate::calibrate;
use discover::first_discover;
use guest::{Emulator, Guest, System, Wire};
use load::{Http, UdpEcho};
use profile::Blocks;
use report::{Figure, Measured, Results};

/// The row in the table of commands.
pub const COMMAND: Command = Command {
    name: "bench",
    summary: "Count guest instructions per unit of work, ours and Linux's side by side",
    operands: "",
    max_operands: 0,
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
    ],
    details:
        "\
Prints a table in Markdown and leaves the same numbers in out/bench.json. A unit of work that is
lost or answered wrongly fails the run, and so does a figure of ours beyond what it must be.
--profile takes a figure by its name in that file: boot, udp_echo_18, udp_echo_1400,
http_keep_alive, http_64 or http_connection.

The first run fetches the plugin header of the installed QEMU and, for Linux, Debian's arm64 kernel
into the cache; nothing of either is installed on the system. docs/performance.md tells the method.",
    run,
};

/// The memory of a guest whose costs are measured.
const MEMORY: &str = "256M";
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
    let append = parsed.value("--append").unwrap_or_default().to_owned();
    let effort = if parsed.has("--quick") { QUICK } else { FULL };
    packages::ensure(&[QEMU])?;
    let mut emulator = Emulator {
        qemu: QEMU.brings.to_owned(),
        plugin: plugin::build(QEMU.brings)?,
        blocks: None,
    };
    calibrate(&emulator)?;

    if let Some(key) = parsed.value("--profile") {
        return profile_ours(&mut emulator, key, append, &effort);
    }
    let mut results = Vec::new();
    if with_ours {
        let image = match parsed.value("--image") {
            Some(file) => PathBuf::from(file),
            None => build::sound_image()?.image,
        };
        results.push(measure(&emulator, ours(image, append), &effort)?);
    }
    if with_linux {
        results.push(measure(&emulator, linux()?, &effort)?);
    }
    let json = workspace::out_dir()?.join("bench.json");
    workspace::write_whole(&json, report::json(&results).as_bytes())?;
    println!("\n{}\n{}", report::markdown(&results), json.display());
    report::judge(&results)
}

/// What is measured, and how it differs from the other.
struct Subject {
    system: System,
    ours: bool,
    /// Boots it and counts until it has got where a boot is over.
    boot: fn(&Emulator, &System) -> Result<u64>,
    /// Amounts of memory to try, in MiB, smallest first.
    memories_mib: &'static [usize],
    /// How long it may take to serve, or else it has too little memory.
    memory_limit: Duration,
}

fn ours(kernel: PathBuf, append: String) -> Subject {
    Subject {
        system: System {
            name: "Ristretto".to_owned(),
            kernel,
            initrd: None,
            append,
        },
        ours: true,
        boot: first_discover,
        memories_mib: &[4, 6, 8, 10, 12, 16, 24, 32, 64, 128, 256],
        memory_limit: Duration::from_secs(8),
    }
}

fn linux() -> Result<Subject> {
    Ok(Subject {
        system: linux::build()?,
        ours: false,
        boot: ready_line,
        memories_mib: &[48, 64, 80, 96, 128, 192, 256],
        memory_limit: Duration::from_secs(30),
    })
}

/// Every figure of one of the two.
fn measure(emulator: &Emulator, subject: Subject, effort: &Effort) -> Result<Results> {
    let Subject { system, ours, .. } = &subject;
    let (size, footprint) = image_sizes(&system.kernel)?;
    let mut figures = vec![
        (Figure::ImageSize, Measured::exactly(size as f64)),
        (Figure::Footprint, Measured::exactly(footprint as f64)),
    ];
    progress(system, "boot");
    figures.push((
        Figure::Boot,
        repeat(|| Ok((subject.boot)(emulator, system)? as f64))?,
    ));
    figures.extend(measure_service(emulator, system, effort)?);
    if let Some(memory) = smallest_memory(emulator, &subject) {
        figures.push((Figure::Memory, Measured::exactly(memory as f64)));
    }
    Ok(Results {
        system: system.name.clone(),
        ours: *ours,
        figures,
    })
}

/// Prints where the instructions of a boot, or of a unit of work, are executed.
fn profile_ours(emulator: &mut Emulator, key: &str, append: String, effort: &Effort) -> Result<()> {
    let Some(figure) = Figure::ALL
        .into_iter()
        .find(|figure| figure.row().key == key)
    else {
        return usage(format!("--profile knows no figure `{key}`"));
    };
    let built = build::sound_image()?;
    let blocks = workspace::cache_dir()?.join(format!("blocks-{}", std::process::id()));
    emulator.blocks = Some(blocks.clone());
    let table = profile(
        emulator,
        &ours(built.image, append).system,
        figure,
        effort.units,
        &blocks,
    )
    .and_then(|(before, after, units)| after.table(&before, units, &built.elf));
    // What failed before is the better error.
    let removed = fs::remove_file(&blocks).map_err(at(&blocks));
    println!("\n{}\n{}", figure.row().name, table?);
    removed
}

/// The blocks before and after so many units of work; for a boot, nothing and everything.
fn profile(
    emulator: &Emulator,
    system: &System,
    figure: Figure,
    units: usize,
    blocks: &Path,
) -> Result<(Blocks, Blocks, f64)> {
    if figure == Figure::Boot {
        first_discover(emulator, system)?;
        return Ok((Blocks::default(), Blocks::read(blocks)?, 1.0));
    }
    let mut guest = Guest::start(emulator, system, MEMORY, &Wire::UserNetwork)?;
    wait_until_serving(&mut guest, BOOT_LIMIT)?;
    let mut work = Work::new(figure, &guest)?;
    (0..WARM_UP).try_for_each(|_| (work.run)())?;
    let before = Blocks::read(blocks)?;
    let runs = units / work.units;
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
            Figure::Boot
            | Figure::Idle
            | Figure::ImageSize
            | Figure::Footprint
            | Figure::Memory => usage(format!("`{}` is no work for a client", figure.row().key)),
        }
    }
}

/// Boots until Linux's server says that it listens.
fn ready_line(emulator: &Emulator, system: &System) -> Result<u64> {
    let mut guest = Guest::start(emulator, system, MEMORY, &Wire::UserNetwork)?;
    guest.wait_for_line(linux::READY, BOOT_LIMIT)?;
    guest.instructions()
}

/// What the system costs while it serves, and while it does not.
fn measure_service(
    emulator: &Emulator,
    system: &System,
    effort: &Effort,
) -> Result<Vec<(Figure, Measured)>> {
    let mut guest = Guest::start(emulator, system, MEMORY, &Wire::UserNetwork)?;
    println!("+ {}", guest.line);
    wait_until_serving(&mut guest, BOOT_LIMIT)?;
    thread::sleep(SETTLING);

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
        progress(system, figure.row().name);
        let mut work = Work::new(figure, &guest)?;
        let batch = effort.units / work.units;
        let cost = unit_cost(&guest, batch, &mut work.run)?;
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
    let before = guest.instructions()?;
    thread::sleep(time);
    Ok(guest.instructions()? - before)
}

/// What one unit costs: twice as many units, less as many, by their number. What a batch costs as a whole (the timer
/// that happens to expire in it, the answer's last steps after the client has it) cancels.
fn unit_cost(
    guest: &Guest,
    units: usize,
    mut unit: impl FnMut() -> Result<()>,
) -> Result<Measured> {
    let mut batch = |units: usize| -> Result<f64> {
        let before = guest.instructions()?;
        (0..units).try_for_each(|_| unit())?;
        Ok((guest.instructions()? - before) as f64)
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
