//! Runs each test in a process of its own, in private namespaces where this machine allows it.
//!
//! The private process namespace is what makes cleaning up certain: when its first process ends, for whatever reason,
//! the kernel ends everything in it, QEMU included. The private network namespace gives a test its own loopback and
//! the right to make interfaces, so that no port and no name on the host is ever taken.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::check::Failure;
use crate::{Context, Needs, Test, Tier};

/// QEMUs are heavy, and tests wait most of the time: two at once keep two cores busy.
const WORKERS: usize = 2;
/// Tests that may have a second run: where more fail, it is not for want of time.
const SECOND_RUNS: usize = 3;
/// Lines of the console shown when a test fails.
const TAIL: usize = 15;

const FAILED: u8 = 1;
const SKIPPED: u8 = 77;

/// How a test's process is started: its namespaces.
const ISOLATED: &[&str] = &[
    "unshare",
    "--net",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--",
];
/// Without the right to make namespaces, the process dies with its parent at least.
const PLAIN: &[&str] = &[];

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// Runs one test in this process and reports by exit status and the last line of standard error.
pub fn inside(test: &Test, context: &Context) -> ExitCode {
    match (test.run)(context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(match failure {
                Failure::Failed(_) => FAILED,
                Failure::Skipped(_) => SKIPPED,
            })
        }
    }
}

/// Runs the tests and prints a line for each, and the sum.
///
/// Tests run side by side on machines that do other things, too. One that fails is run once more, alone, unless its image
/// broke down: the sum counts what came of that, and the line before it names who needed it.
pub fn all(tests: &[&Test], context: &Context) -> ExitCode {
    if let Err(error) = fs::create_dir_all(&context.out) {
        eprintln!("{}: {error}", context.out.display());
        return ExitCode::from(2);
    }
    let isolated = can_isolate();
    let queue = Mutex::new(tests.iter().copied().collect::<VecDeque<_>>());
    let tally = Mutex::new(Tally::default());
    let failed = Mutex::new(Vec::new());
    let take = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(test) = take() {
                    let passed = tell(test, context, isolated, &tally);
                    if !passed && let Ok(mut failed) = failed.lock() {
                        failed.push(test);
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap_or_default();
    if context.tier == Tier::Quick || failed.len() > SECOND_RUNS {
        failed.clear();
    }
    failed.retain(|test| broke_down(test, context).is_none());
    let mut again = Vec::new();
    for test in failed {
        println!("once more, alone: {}", test.name);
        if tell(test, context, isolated, &tally) {
            again.push(test.name);
        }
        // It was counted before.
        if let Ok(mut tally) = tally.lock() {
            tally.failed -= 1;
        }
    }
    if !again.is_empty() {
        println!("passed at the second run only: {}", again.join(" "));
    }
    let Ok(tally) = tally.into_inner() else {
        return ExitCode::from(2);
    };
    println!(
        "{} passed, {} failed, {} skipped",
        tally.passed, tally.failed, tally.skipped
    );
    ExitCode::from(u8::from(tally.failed > 0 || tally.passed == 0))
}

/// Runs a test, prints its line, counts it. False if it failed.
fn tell(test: &Test, context: &Context, isolated: bool, tally: &Mutex<Tally>) -> bool {
    let start = Instant::now();
    let outcome = run(test, context, isolated);
    let Ok(mut tally) = tally.lock() else {
        return false;
    };
    match outcome {
        Ok(()) => {
            tally.passed += 1;
            println!("ok {} ({:.1} s)", test.name, start.elapsed().as_secs_f32());
        }
        Err(Failure::Skipped(reason)) => {
            tally.skipped += 1;
            println!("skipped {}: {reason}", test.name);
        }
        Err(Failure::Failed(reason)) => {
            tally.failed += 1;
            println!("FAILED {}: {reason}", test.name);
            for log in serial_logs(&context.out, test.name) {
                print_tail(&log);
            }
            return false;
        }
    }
    true
}

/// Whether this machine lets us have namespaces of our own, with interfaces in them.
fn can_isolate() -> bool {
    let status = Command::new(ISOLATED[0])
        .args(&ISOLATED[1..])
        .args([
            "sh",
            "-c",
            "ip link set lo up && ip tuntap add dev probe mode tap",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn run(test: &Test, context: &Context, isolated: bool) -> Result<(), Failure> {
    if test.needs == Needs::Tap && !isolated {
        let why = "needs a private network namespace with a TAP interface (root)";
        return Err(Failure::Skipped(why.into()));
    }
    for old in files_of(&context.out, test.name) {
        fs::remove_file(old)?;
    }
    let log = context.out.join(format!("{}.log", test.name));
    let mut child = spawn(test, context, isolated, &log)?;
    let status = wait(&mut child, Duration::from_secs(test.limit_s))?;
    let mut said = String::new();
    File::open(&log)?.read_to_string(&mut said)?;
    let last = said
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("no reason given");
    match status.map(|status| status.code()) {
        None => Err(format!("still running after {} s", test.limit_s).into()),
        Some(Some(0)) => sound(test, context),
        Some(Some(code)) if code == i32::from(SKIPPED) => Err(Failure::Skipped(last.into())),
        Some(Some(code)) if code == i32::from(FAILED) => Err(last.into()),
        Some(_) => Err(format!("the test itself broke, see {}: {last}", log.display()).into()),
    }
}

/// Whatever a test was about: an image that panics has failed it, except where it was told to.
fn sound(test: &Test, context: &Context) -> Result<(), Failure> {
    match broke_down(test, context) {
        Some(line) => Err(format!("passed, but the image said: {line}").into()),
        None => Ok(()),
    }
}

/// The line with which an image of this test broke down although nobody told it to.
fn broke_down(test: &Test, context: &Context) -> Option<String> {
    if test.name.starts_with("faults") {
        return None;
    }
    serial_logs(&context.out, test.name).iter().find_map(|log| {
        let text = fs::read(log).ok()?;
        let text = String::from_utf8_lossy(&text);
        // A devicetree that lies about an address ends like this, and has to.
        if test.name.starts_with("boot") && text.contains("external abort: nothing answers there") {
            return None;
        }
        let line = text
            .lines()
            .find(|line| line.contains("PANIC") || line.contains("EXCEPTION"))?;
        Some(line.to_owned())
    })
}

fn spawn(test: &Test, context: &Context, isolated: bool, log: &Path) -> Result<Child, Failure> {
    let tier = match context.tier {
        Tier::Quick => "quick",
        Tier::Ci => "ci",
        Tier::Nightly => "nightly",
    };
    let log = File::create(log)?;
    // Dies with the thread that started it, and that thread waits for it.
    let child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .args(if isolated { ISOLATED } else { PLAIN })
        .arg(std::env::current_exe()?)
        .args(["--inside", test.name, "--tier", tier, "--image"])
        .arg(&context.image)
        .current_dir(&context.out)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(child)
}

/// Waits for the process, and kills it at the limit: `None`.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>, Failure> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Everything a test left behind: `NAME.log`, `NAME.0.serial` ...
fn files_of(out: &Path, name: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(out) else {
        return Vec::new();
    };
    let is_its = |path: &PathBuf| {
        let file = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        file.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(is_its)
        .collect();
    files.sort();
    files
}

fn serial_logs(out: &Path, name: &str) -> Vec<PathBuf> {
    let mut files = files_of(out, name);
    files.retain(|path| path.extension().is_some_and(|end| end == "serial"));
    files
}

fn print_tail(log: &Path) {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL);
    let mut out = std::io::stdout().lock();
    // A closed standard output is somebody else's decision.
    let _ = writeln!(out, "  the end of {}:", log.display());
    for line in &lines[from..] {
        let _ = writeln!(out, "  | {line}");
    }
}
