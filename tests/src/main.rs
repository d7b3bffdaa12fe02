//! System tests: the real image under the distribution's QEMU, and real clients that talk to it.
//!
//! ```text
//! main      what there is to run, and the command line
//! runner    every test in a process of its own, in private namespaces, with a time limit
//! machine   a QEMU command line and the guest behind it        qmp   QEMU's control socket
//! tap       an interface of this (private) machine             wire  a cable whose other end is the test
//! dt        takes devicetrees apart and puts them together     clients  curl, ping, wrk ...
//! browser   Chromium without a window
//! boot, services, http, page, capture, echo, irtt, iperf3, chargen, addressing, damage, drops, faults, crash, load,
//! espressobin, board_config, sdcard, machine_model: the tests, by subject
//! ```
//!
//! A test is a function that returns; what it started dies with its process. To add one: write the function, and add
//! its line to the `TESTS` of its file.

mod addressing;
mod api;
mod board_config;
mod boot;
mod browser;
mod capture;
mod chargen;
mod check;
mod clients;
mod commands;
mod crash;
mod damage;
mod drops;
mod dt;
mod echo;
mod espressobin;
mod faults;
mod http;
mod iperf3;
mod irtt;
mod latency;
mod load;
mod machine;
mod machine_model;
mod page;
mod qmp;
mod runner;
mod sdcard;
mod selftest;
mod services;
mod tap;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use check::Result;

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// What a contributor runs.
    Quick,
    /// What a merge has to pass.
    Ci,
    /// What takes long.
    Nightly,
}

/// What a test needs of the machine it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// QEMU, no privileges.
    Qemu,
    /// A private network namespace and the right to make interfaces in it.
    Tap,
}

/// One row in the table of tests.
pub struct Test {
    /// Unique: subject and behaviour.
    name: &'static str,
    /// The lowest tier that runs it.
    tier: Tier,
    needs: Needs,
    /// Seconds after which it is killed. Generous: there for what hangs.
    limit_s: u64,
    run: fn(&Context) -> Result,
}

/// What every test is told.
pub struct Context {
    /// The name of the test: files it leaves begin with it.
    pub name: String,
    /// The raw image.
    pub image: PathBuf,
    /// The same with symbols.
    pub elf: PathBuf,
    /// Where the evidence goes.
    pub out: PathBuf,
    /// How much to do.
    pub tier: Tier,
}

impl Context {
    /// A number that grows with the tier.
    pub fn scaled(&self, quick: usize, ci: usize, nightly: usize) -> usize {
        match self.tier {
            Tier::Quick => quick,
            Tier::Ci => ci,
            Tier::Nightly => nightly,
        }
    }
}

/// All tests, in the order in which they run.
fn tests() -> impl Iterator<Item = &'static Test> {
    let subjects = [
        load::TESTS,
        echo::TESTS,
        damage::TESTS,
        drops::TESTS,
        services::TESTS,
        http::TESTS,
        page::TESTS,
        irtt::TESTS,
        iperf3::TESTS,
        chargen::TESTS,
        latency::TESTS,
        commands::TESTS,
        capture::TESTS,
        api::TESTS,
        selftest::TESTS,
        addressing::TESTS,
        faults::TESTS,
        crash::TESTS,
        boot::TESTS,
        board_config::TESTS,
        sdcard::TESTS,
    ];
    let board = espressobin::TESTS
        .iter()
        .chain(machine_model::TESTS)
        .copied();
    subjects.into_iter().chain(board).flatten()
}

/// Packages of Debian that the tests use: name, the program or file it brings, what for.
const PACKAGES: &[(&str, &str, &str)] = &[
    ("curl", "curl", "an HTTP client that is not ours"),
    ("wrk", "wrk", "many HTTP clients at once"),
    ("irtt", "irtt", "a round-trip tester"),
    ("iperf3", "iperf3", "a throughput tester"),
    ("iputils-ping", "ping", "ICMP echo over IPv4 and IPv6"),
    (
        "iproute2",
        "ip",
        "interfaces in the tests' own network namespace",
    ),
    ("dnsmasq-base", "dnsmasq", "a DHCP server and IPv6 router"),
    (
        "python3-scapy",
        "/usr/lib/python3/dist-packages/scapy",
        "frames no ordinary client sends",
    ),
    ("tshark", "tshark", "reads captures"),
    ("tcpdump", "tcpdump", "compiles filters, reads switch tags"),
    ("mtools", "mtools", "files on the card's FAT partition"),
    (
        "dosfstools",
        "/sbin/fsck.fat",
        "checks the card's FAT partition",
    ),
    (
        "e2fsprogs",
        "/sbin/debugfs",
        "checks the card's ext4 partition",
    ),
    ("fdisk", "/sbin/sfdisk", "reads the card's partition table"),
    (
        "llvm",
        "llvm-symbolizer",
        "reads the addresses in a panic's backtrace",
    ),
];

const USAGE: &str = "\
usage: tests [--tier quick|ci|nightly] [--image FILE] [--only SUBSTRING] [--list] [--packages [wanted]]";

struct Args {
    tier: Tier,
    image: PathBuf,
    only: Option<String>,
    list: bool,
    /// Run this one test here, and report by exit status: how the runner starts itself.
    inside: Option<String>,
}

fn parse(mut words: impl Iterator<Item = String>) -> std::result::Result<Args, String> {
    let mut args = Args {
        tier: Tier::Quick,
        image: PathBuf::from("out/Image"),
        only: None,
        list: false,
        inside: None,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        match word.as_str() {
            "--tier" => {
                args.tier = match value()?.as_str() {
                    "quick" => Tier::Quick,
                    "ci" => Tier::Ci,
                    "nightly" => Tier::Nightly,
                    other => return Err(format!("--tier is quick, ci or nightly, not `{other}`")),
                }
            }
            "--image" => args.image = value()?.into(),
            "--only" => args.only = Some(value()?),
            "--list" => args.list = true,
            "--inside" => args.inside = Some(value()?),
            _ => return Err(format!("unknown argument `{word}`\n{USAGE}")),
        }
    }
    Ok(args)
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    if words.peek().is_some_and(|word| word == "--packages") {
        // Those of `--packages wanted` are large, and the tests are skipped without them.
        let is_wanted = words.nth(1).is_some_and(|word| word == "wanted");
        for (name, brings, why) in if is_wanted { page::PACKAGES } else { PACKAGES } {
            println!("{name}\t{brings}\t{why}");
        }
        return ExitCode::SUCCESS;
    }
    let args = match parse(words) {
        Ok(args) => args,
        Err(complaint) => {
            eprintln!("{complaint}");
            return ExitCode::from(2);
        }
    };
    let Ok(image) = args.image.canonicalize() else {
        eprintln!(
            "there is no image {}; `./x build` makes it",
            args.image.display()
        );
        return ExitCode::from(2);
    };
    let beside = |name: &str| image.with_file_name(name);
    let context = Context {
        name: args.inside.clone().unwrap_or_default(),
        elf: beside("ristretto.elf"),
        out: beside("tests"),
        image: image.clone(),
        tier: args.tier,
    };
    if let Some(name) = &args.inside {
        return match tests().find(|test| test.name == name) {
            Some(test) => runner::inside(test, &context),
            None => ExitCode::from(2),
        };
    }
    let wanted = |test: &&Test| {
        let named = args
            .only
            .as_ref()
            .is_none_or(|only| test.name.contains(only.as_str()));
        // Whoever asks for a test by its name gets it, whatever its tier.
        named && (test.tier <= args.tier || args.only.is_some())
    };
    let chosen: Vec<&Test> = tests().filter(wanted).collect();
    if args.list {
        for test in chosen {
            println!("{}", test.name);
        }
        return ExitCode::SUCCESS;
    }
    runner::all(&chosen, &context)
}
