//! `./x test`: runs the stages, counts what really ran, and never stops at the first failure.

use std::env;
use std::fmt;
use std::time::{Duration, Instant};

use crate::args::{Command, Opt, Parsed, find};
use crate::axe;
use crate::error::{Error, Result};
use crate::packages::{self, Package};
use crate::qemu;
use crate::run::QEMU;
use crate::step::{Outcome, Step};
use crate::toolchain::{self, Toolchain};
use crate::workspace;

/// The row in the table of commands.
pub const COMMAND: Command = Command {
    name: "test",
    summary: "Run the tests: everything a contributor needs, or more",
    operands: "[STAGE...]",
    max_operands: STAGES.len(),
    takes_rest: false,
    options: &[
        Opt::switch(
            "--ci",
            "also what takes longer (30 minutes); CI=true in the environment says the same",
        ),
        Opt::switch("--nightly", "also the long ones"),
        Opt::switch("--list", "list the stages and stop"),
    ],
    details: "\
Without a STAGE all stages of the tier run, each within a time limit. The last line is
`N passed, N failed, N skipped`; the exit status is 0 if something ran and nothing failed.",
    run,
};

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    Quick,
    Ci,
    Nightly,
}

impl Tier {
    fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Ci => "ci",
            Self::Nightly => "nightly",
        }
    }

    /// What the whole tier may take on two cores.
    fn budget(self) -> Duration {
        minutes(match self {
            Self::Quick => 10,
            Self::Ci => 30,
            Self::Nightly => 240,
        })
    }
}

/// One row of the table below.
struct Stage {
    name: &'static str,
    summary: &'static str,
    /// The lowest tier that runs it.
    tier: Tier,
    /// Minutes it may take: quick, ci, nightly. Generous, for cold caches: they are there for what hangs.
    limits: [u64; 3],
    /// Packages of the distribution it needs.
    needs: &'static [Package],
    /// Other set-up, and then the commands, in order.
    steps: fn(Tier) -> Result<Vec<Step>>,
    /// How the commands' output is counted.
    count: Count,
}

#[derive(Clone, Copy)]
enum Count {
    /// The stage is one test: it passes if all commands succeed.
    Whole,
    /// Every line is looked at.
    Lines(fn(&str) -> Tally),
}

const STAGES: &[Stage] = &[
    Stage {
        name: "fmt",
        summary: "all code is formatted",
        tier: Tier::Quick,
        limits: [2, 2, 2],
        needs: &[],
        steps: fmt_steps,
        count: Count::Whole,
    },
    Stage {
        name: "clippy",
        summary: "no lint complains, on the host and for the image",
        tier: Tier::Quick,
        limits: [10, 20, 20],
        needs: &[],
        steps: clippy_steps,
        count: Count::Whole,
    },
    Stage {
        name: "doc",
        summary: "the documentation builds without a warning",
        tier: Tier::Quick,
        limits: [10, 20, 20],
        needs: &[],
        steps: doc_steps,
        count: Count::Whole,
    },
    Stage {
        name: "notices",
        summary: "THIRD-PARTY-NOTICES.md names what the image contains",
        tier: Tier::Quick,
        limits: [2, 5, 5],
        needs: &[],
        steps: |_| ours(&["notices", "--check"]),
        count: Count::Whole,
    },
    Stage {
        name: "unit",
        summary: "the unit and integration tests of all crates, on the host",
        tier: Tier::Quick,
        limits: [10, 20, 60],
        needs: &[],
        steps: |_| {
            Ok(vec![
                toolchain::host("test").words("--workspace --no-fail-fast"),
            ])
        },
        count: Count::Lines(count_libtest),
    },
    Stage {
        name: "image",
        summary: "the image builds, fits its budget, and trips no CPU erratum",
        tier: Tier::Quick,
        limits: [10, 20, 20],
        needs: &[],
        steps: image_steps,
        count: Count::Lines(count_named),
    },
    Stage {
        name: "fuzz",
        summary: "no parser falls over hostile input, from a fixed seed",
        tier: Tier::Quick,
        limits: [5, 10, 120],
        needs: &[],
        steps: fuzz_steps,
        count: Count::Lines(count_fuzz),
    },
    Stage {
        name: "system",
        summary: "the real image in QEMU, with real clients",
        tier: Tier::Quick,
        limits: [8, 28, 240],
        needs: &[QEMU],
        steps: system_steps,
        count: Count::Lines(count_named),
    },
    Stage {
        name: "machine",
        summary: "Debian's Linux and its drivers run on the model of the board",
        tier: Tier::Ci,
        limits: [30, 30, 240],
        needs: &[],
        steps: machine_steps,
        count: Count::Lines(count_named),
    },
];

fn fmt_steps(_: Tier) -> Result<Vec<Step>> {
    toolchain::ensure_component("fmt", "rustfmt")?;
    Ok(vec![toolchain::host("fmt").words("--all --check")])
}

fn clippy_steps(_: Tier) -> Result<Vec<Step>> {
    toolchain::ensure_component("clippy", "clippy")?;
    Ok(vec![
        toolchain::host("clippy").words("--workspace --all-targets -- -D warnings"),
        // The flags of .cargo/config.toml would silence it.
        Toolchain::find()?
            .cargo("clippy")?
            .words(IMAGE_CRATES)
            .env("RUSTFLAGS", "-Dwarnings"),
    ])
}

fn doc_steps(_: Tier) -> Result<Vec<Step>> {
    // Private items too, and links to them: this is a program, and its readers read the source.
    let strict = |step: Step| {
        let step = step.words("--no-deps --document-private-items");
        step.env(
            "RUSTDOCFLAGS",
            "-Dwarnings -Arustdoc::private-intra-doc-links",
        )
    };
    Ok(vec![
        strict(toolchain::host("doc").arg("--workspace")),
        strict(
            Toolchain::find()?
                .cargo("doc")?
                .words(IMAGE_CRATES)
                .env("RUSTFLAGS", "-Dwarnings"),
        ),
    ])
}

/// Our crates in the image, as arguments for cargo.
const IMAGE_CRATES: &str = "--package hal --package boards --package control --package firmware";

/// All proofs, `dsa` and `flap` with shorter streams; every night with the long ones, under both kernels, and the
/// network proof under every other reading of every doubt.
fn machine_steps(tier: Tier) -> Result<Vec<Step>> {
    if tier != Tier::Nightly {
        let proofs = "network bridge isolation termination vlan ethtool";
        let mut steps = Vec::new();
        for command in [proofs, "dsa flap --mib 16"] {
            let words = ["qemu", "linux"].into_iter().chain(command.split(' '));
            steps.extend(ours(&words.collect::<Vec<_>>())?);
        }
        return Ok(steps);
    }
    let mut steps = ours(&["qemu", "linux"])?;
    steps.extend(ours(&["qemu", "linux", "--suite", "trixie"])?);
    for doubt in espressobin_model::doubts::all() {
        for reading in &doubt.readings[1..] {
            let machine = format!("doubts={}:{reading}", doubt.name);
            steps.extend(ours(&[
                "qemu",
                "linux",
                "network",
                "--mib",
                "1",
                "--machine",
                &machine,
            ])?);
        }
    }
    Ok(steps)
}

/// A fixed number of inputs, so that the same ones are tried everywhere; the time is for slow machines.
fn fuzz_steps(tier: Tier) -> Result<Vec<Step>> {
    let effort = match tier {
        Tier::Quick => "--iterations 20000 --time-limit 30s",
        Tier::Ci => "--iterations 100000 --time-limit 90s",
        Tier::Nightly => "--iterations 100000000 --time-limit 20m",
    };
    let run = toolchain::host("run").words("--profile fuzz --package fuzz --");
    Ok(vec![run.words(effort)])
}

fn image_steps(tier: Tier) -> Result<Vec<Step>> {
    let mut steps = ours(&["build"])?;
    if tier >= Tier::Ci {
        // The card has the image in it.
        steps.extend(ours(&["sdcard", "--twice"])?);
    }
    Ok(steps)
}

fn system_steps(tier: Tier) -> Result<Vec<Step>> {
    packages::ensure(&system_packages("--packages")?)?;
    if tier >= Tier::Ci
        && let Err(error) =
            packages::ensure(&system_packages("--packages wanted")?).and_then(|()| axe::fetch())
    {
        println!("{error}: tests that want them are skipped");
    }
    let image = workspace::out_dir()?.join("Image");
    let mut steps = ours(&["build", "--quiet"])?;
    if tier >= Tier::Ci {
        steps = ours(&["sdcard", "--quiet"])?;
    }
    let tests = toolchain::host("run").words("--package tests -- --tier");
    let mut tests = tests.args([tier.name(), "--image"]);
    // At home the tests of the board take what is in the cache, or are skipped.
    if tier != Tier::Quick {
        tests = tests.env("ESPRESSOBIN_QEMU", qemu::for_tests()?.display().to_string());
    }
    steps.push(tests.arg(image.display().to_string()));
    Ok(steps)
}

/// The packages that the system tests say they use: `NAME<tab>WHAT IT BRINGS<tab>WHY` per line.
fn system_packages(which: &str) -> Result<Vec<Package>> {
    let list = toolchain::host("run")
        .words("--quiet --package tests --")
        .words(which);
    let package = |line: &str| {
        // Kept for the rest of this short-lived program, as those of the tables are.
        let mut words = line.split('\t').map(|word| &*word.to_owned().leak());
        Some(Package {
            name: words.next()?,
            brings: words.next()?,
            why: words.next()?,
        })
    };
    Ok(list.output()?.lines().filter_map(package).collect())
}

/// Another command of `./x` as a step, so that it is bounded and counted like every other program.
fn ours(args: &[&str]) -> Result<Vec<Step>> {
    let step = Step::new("./x").args(args.iter().copied());
    Ok(vec![step.dir(&workspace::root())])
}

/// How many tests came out how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Tally {
    const NOTHING: Self = Self {
        passed: 0,
        failed: 0,
        skipped: 0,
    };
    const PASSED: Self = Self {
        passed: 1,
        ..Self::NOTHING
    };
    const FAILED: Self = Self {
        failed: 1,
        ..Self::NOTHING
    };
    const SKIPPED: Self = Self {
        skipped: 1,
        ..Self::NOTHING
    };

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    fn ran(self) -> usize {
        self.passed + self.failed
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; ...`, once per test program.
fn count_libtest(line: &str) -> Tally {
    let Some((_, counts)) = line
        .strip_prefix("test result: ")
        .and_then(|rest| rest.split_once(". "))
    else {
        return Tally::NOTHING;
    };
    let number = |what: &str| {
        let found = counts
            .split(';')
            .filter_map(|count| count.trim().split_once(' '))
            .find(|(_, name)| *name == what);
        found
            .and_then(|(number, _)| number.parse().ok())
            .unwrap_or_default()
    };
    Tally {
        passed: number("passed"),
        failed: number("failed"),
        skipped: number("ignored"),
    }
}

/// `ok NAME`, `FAILED NAME: reason`, `skipped NAME: reason`.
fn count_named(line: &str) -> Tally {
    match line.split_once(' ') {
        Some(("ok", _)) => Tally::PASSED,
        Some(("FAILED", _)) => Tally::FAILED,
        Some(("skipped", _)) => Tally::SKIPPED,
        _ => Tally::NOTHING,
    }
}

/// `fuzz NAME: N inputs, seed S, N crashes`.
fn count_fuzz(line: &str) -> Tally {
    let Some((_, counts)) = line
        .strip_prefix("fuzz ")
        .and_then(|rest| rest.split_once(": "))
    else {
        return Tally::NOTHING;
    };
    let number = |what: &str| {
        let found = counts
            .split(", ")
            .filter_map(|count| count.split_once(' '))
            .find(|(_, name)| *name == what);
        found.and_then(|(number, _)| number.parse::<u64>().ok())
    };
    match (number("inputs"), number("crashes")) {
        (Some(1..), Some(0)) => Tally::PASSED,
        _ => Tally::FAILED,
    }
}

fn run(parsed: &Parsed) -> Result<()> {
    if parsed.has("--list") {
        for stage in STAGES {
            println!(
                "{:<8} {:<8} {}",
                stage.name,
                stage.tier.name(),
                stage.summary
            );
        }
        return Ok(());
    }
    let tier = tier(parsed, env::var("CI").as_deref() == Ok("true"));
    let mut stages = Vec::new();
    for name in &parsed.operands {
        stages.push(find("stage", name, STAGES, |stage| stage.name)?);
    }
    if stages.is_empty() {
        stages = STAGES.iter().filter(|stage| stage.tier <= tier).collect();
    }

    let started = Instant::now();
    let mut total = Tally::default();
    let mut summary = String::new();
    for stage in stages {
        println!("\n== {}: {}", stage.name, stage.summary);
        let stage_started = Instant::now();
        let tally = stage.run(tier);
        total.add(tally);
        let line = format!(
            "{:<8} {:>8}  {tally}",
            stage.name,
            shown(stage_started.elapsed())
        );
        println!("== {line}");
        summary += &format!("{line}\n");
    }
    print!("\n{summary}");
    println!(
        "The {} tier took {} of {}.\n",
        tier.name(),
        shown(started.elapsed()),
        shown(tier.budget())
    );
    println!("{total}");
    if total.failed == 0 && total.ran() > 0 {
        Ok(())
    } else {
        Err(Error::Reported)
    }
}

fn tier(parsed: &Parsed, in_ci: bool) -> Tier {
    if parsed.has("--nightly") {
        Tier::Nightly
    } else if parsed.has("--ci") || in_ci {
        Tier::Ci
    } else {
        Tier::Quick
    }
}

impl Stage {
    fn run(&self, tier: Tier) -> Tally {
        let deadline = Instant::now() + minutes(self.limits[tier as usize]);
        let steps = match packages::ensure(self.needs).and_then(|()| (self.steps)(tier)) {
            Ok(steps) => steps,
            // A contributor's machine may lack something; CI has to run everything.
            Err(error) if tier == Tier::Quick => {
                println!("skipped {}: {error}", self.name);
                return Tally::SKIPPED;
            }
            Err(error) => {
                println!("FAILED {}: {error}", self.name);
                return Tally::FAILED;
            }
        };
        let mut tally = Tally::default();
        for step in steps {
            let left = deadline
                .saturating_duration_since(Instant::now())
                .max(Duration::from_secs(1));
            let outcome = step.watch(left, |line| {
                if let Count::Lines(count) = self.count {
                    tally.add(count(line));
                }
                if !is_routine(line) {
                    println!("{line}");
                }
            });
            let complaint = match outcome {
                Ok(Outcome::Success) => continue,
                // It has said which test failed.
                Ok(Outcome::Failed) if tally.failed > 0 => continue,
                Ok(Outcome::Failed) => "a command failed".to_owned(),
                Ok(Outcome::TimedOut) => format!(
                    "killed after {}",
                    shown(minutes(self.limits[tier as usize]))
                ),
                Err(error) => error.to_string(),
            };
            println!("FAILED {}: {complaint}", self.name);
            tally.add(Tally::FAILED);
            if let Count::Lines(_) = self.count {
                // What follows would test something old.
                break;
            }
        }
        match self.count {
            Count::Whole if tally.failed > 0 => Tally::FAILED,
            Count::Whole => Tally::PASSED,
            Count::Lines(_) if tally == Tally::NOTHING => {
                println!("FAILED {}: nothing ran", self.name);
                Tally::FAILED
            }
            Count::Lines(_) => tally,
        }
    }
}

/// Lines of the test harness that say nothing new.
fn is_routine(line: &str) -> bool {
    let passed = line.starts_with("test ")
        && (line.ends_with(" ... ok") || line.ends_with(" - should panic ... ok"));
    let empty_run = line.starts_with("test result: ok. 0 passed; 0 failed; 0 ignored");
    passed || empty_run || line.trim().is_empty() || line.starts_with("running ")
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

fn shown(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds >= 60 {
        format!("{} m {:02} s", seconds / 60, seconds % 60)
    } else {
        format!("{:.1} s", time.as_secs_f32())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::parse;

    #[test]
    fn libtest_summaries_are_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 2 ignored; 0 measured; 1 filtered out; finished in 0.01s";
        assert_eq!(
            count_libtest(line),
            Tally {
                passed: 12,
                failed: 3,
                skipped: 2
            }
        );
        let line = "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s";
        assert_eq!(
            count_libtest(line),
            Tally {
                passed: 5,
                failed: 0,
                skipped: 0
            }
        );
        for other in [
            "test tests::passed ... ok",
            "running 5 tests",
            "",
            "test result: ",
        ] {
            assert_eq!(count_libtest(other), Tally::NOTHING, "{other}");
        }
    }

    #[test]
    fn named_results_are_counted_but_not_their_sum() {
        assert_eq!(count_named("ok boots at 64 MiB"), Tally::PASSED);
        assert_eq!(count_named("FAILED ping: no answer"), Tally::FAILED);
        assert_eq!(count_named("skipped tap: not root"), Tally::SKIPPED);
        assert_eq!(count_named("3 passed, 1 failed, 1 skipped"), Tally::NOTHING);
        assert_eq!(count_named("okay then"), Tally::NOTHING);
    }

    #[test]
    fn fuzz_targets_are_counted_by_their_crashes() {
        assert_eq!(
            count_fuzz("fuzz http: 20000 inputs, seed 7, 0 crashes"),
            Tally::PASSED
        );
        assert_eq!(
            count_fuzz("fuzz http: 20000 inputs, seed 7, 2 crashes"),
            Tally::FAILED
        );
        assert_eq!(
            count_fuzz("fuzz http: 0 inputs, seed 7, 0 crashes"),
            Tally::FAILED
        );
        assert_eq!(count_fuzz("fuzz http: stopped"), Tally::FAILED);
        assert_eq!(count_fuzz("fuzzing"), Tally::NOTHING);
    }

    fn stage(script: &'static str, count: Count) -> Stage {
        let steps: fn(Tier) -> Result<Vec<Step>> = match script {
            "two" => |_| {
                Ok(vec![
                    Step::new("echo").arg("ok a"),
                    Step::new("echo").arg("FAILED b: why"),
                ])
            },
            "silent" => |_| Ok(vec![Step::new("true")]),
            "crash" => |_| Ok(vec![Step::new("sh").args(["-c", "echo ok a; exit 1"])]),
            _ => |_| crate::error::failure("nothing to run it with"),
        };
        Stage {
            name: "stage",
            summary: "",
            tier: Tier::Quick,
            limits: [1, 1, 1],
            needs: &[],
            steps,
            count,
        }
    }

    #[test]
    fn a_stage_counts_what_ran_and_never_passes_by_silence() {
        let lines = Count::Lines(count_named);
        assert_eq!(
            stage("two", lines).run(Tier::Quick),
            Tally {
                passed: 1,
                failed: 1,
                skipped: 0
            }
        );
        assert_eq!(stage("silent", lines).run(Tier::Quick), Tally::FAILED);
        assert_eq!(
            stage("crash", lines).run(Tier::Quick),
            Tally {
                passed: 1,
                failed: 1,
                skipped: 0
            }
        );
        assert_eq!(
            stage("silent", Count::Whole).run(Tier::Quick),
            Tally::PASSED
        );
        assert_eq!(stage("crash", Count::Whole).run(Tier::Quick), Tally::FAILED);
    }

    #[test]
    fn what_cannot_be_set_up_is_skipped_at_home_and_fails_in_ci() {
        assert_eq!(
            stage("cannot", Count::Whole).run(Tier::Quick),
            Tally::SKIPPED
        );
        assert_eq!(stage("cannot", Count::Whole).run(Tier::Ci), Tally::FAILED);
    }

    #[test]
    fn the_tier_comes_from_option_or_environment() {
        let parsed = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            parse(&COMMAND, &words).unwrap()
        };
        assert_eq!(tier(&parsed(""), false), Tier::Quick);
        assert_eq!(tier(&parsed(""), true), Tier::Ci);
        assert_eq!(tier(&parsed("--ci"), false), Tier::Ci);
        assert_eq!(tier(&parsed("--ci --nightly"), true), Tier::Nightly);
    }
}
