//! Runs the fuzz targets: a fixed number of inputs each, the same ones for the same seed.
//!
//! A panic, or an input that takes longer than [`PATIENCE`], is printed with what it takes to repeat it; the input goes
//! to a file, and the exit status is 1.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, panic, process, thread};

use fuzz::{TARGETS, Target};

/// Far more than any input needs, debug build and loaded machine included.
const PATIENCE: Duration = Duration::from_secs(20);

const USAGE: &str = "\
usage: fuzz [TARGET] [--seed N] [--iterations N] [--time-limit 20s] [--input FILE]

  TARGET            one target only
  --seed N          another sequence of inputs (default 1)
  --iterations N    inputs per target (default: a few seconds' worth)
  --time-limit T    seconds per target, as in 20s, or minutes, as in 5m (default none)
  --input FILE      this one input instead";

/// What is running, for the report if it goes wrong.
struct Current {
    target: &'static str,
    seed: u64,
    iteration: u64,
    input: Vec<u8>,
}

static CURRENT: Mutex<Option<Current>> = Mutex::new(None);
/// Counts up with every input, over all targets.
static PROGRESS: AtomicU64 = AtomicU64::new(0);

struct Options {
    target: Option<String>,
    seed: u64,
    iterations: Option<u64>,
    time_limit: Option<Duration>,
    input: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = match options(env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("fuzz: {message}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let default_hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        default_hook(info);
        give_up("panic");
    }));
    thread::spawn(watch);
    for target in TARGETS.iter().filter(|target| {
        options
            .target
            .as_deref()
            .is_none_or(|name| name == target.name)
    }) {
        if let Err(message) = attack(target, &options) {
            eprintln!("fuzz: {message}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        target: None,
        seed: 1,
        iterations: None,
        time_limit: None,
        input: None,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: String| {
            text.parse::<u64>()
                .map_err(|_| format!("`{text}` is not a number"))
        };
        match word.as_str() {
            "--seed" => options.seed = number(value()?)?,
            "--iterations" => options.iterations = Some(number(value()?)?),
            "--time-limit" => options.time_limit = Some(duration(&value()?)?),
            "--input" => options.input = Some(value()?.into()),
            name if TARGETS.iter().any(|target| target.name == name) => options.target = Some(word),
            _ => return Err(format!("neither a target nor an option: {word}")),
        }
    }
    if options.input.is_some() && options.target.is_none() {
        return Err("--input needs a target".into());
    }
    Ok(options)
}

fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match text.strip_suffix('m') {
        Some(digits) => (digits, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let seconds = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit));
    seconds
        .map(Duration::from_secs)
        .ok_or(format!("`{text}` is not a time: try 20s or 5m"))
}

/// Feeds one target, and prints its line.
fn attack(target: &Target, options: &Options) -> Result<(), String> {
    let (seed, start) = (options.seed, Instant::now());
    if let Some(path) = &options.input {
        let input = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        feed(target, seed, 0, input);
        println!("fuzz {}: {}, no crash", target.name, path.display());
        return Ok(());
    }
    let iterations = options.iterations.unwrap_or(target.iterations);
    let mut count = 0;
    while count < iterations
        && options
            .time_limit
            .is_none_or(|limit| start.elapsed() < limit)
    {
        feed(target, seed, count, target.input(seed, count));
        count += 1;
    }
    println!(
        "fuzz {}: {count} inputs, seed {seed}, 0 crashes",
        target.name
    );
    Ok(())
}

fn feed(target: &Target, seed: u64, iteration: u64, input: Vec<u8>) {
    if let Ok(mut current) = CURRENT.lock() {
        *current = Some(Current {
            target: target.name,
            seed,
            iteration,
            input: input.clone(),
        });
    }
    PROGRESS.fetch_add(1, Ordering::Relaxed);
    (target.run)(&input);
}

/// Ends the process if one input keeps the target busy for too long.
fn watch() {
    let mut seen = 0;
    loop {
        thread::sleep(PATIENCE);
        let now = PROGRESS.load(Ordering::Relaxed);
        if now == seen {
            give_up("no end");
        }
        seen = now;
    }
}

/// Tells how to repeat the current input, and ends the process.
fn give_up(what: &str) -> ! {
    if let Some(current) = CURRENT.lock().ok().and_then(|mut current| current.take()) {
        let Current {
            target,
            seed,
            iteration,
            input,
        } = current;
        let path = env::temp_dir().join(format!("fuzz-{target}-{seed}-{iteration}"));
        let outcome = match fs::write(&path, input) {
            Ok(()) => format!(
                "repeat with: cargo run -p fuzz -- {target} --input {}",
                path.display()
            ),
            Err(error) => format!("cannot write {}: {error}", path.display()),
        };
        eprintln!("fuzz {target}: {what} at seed {seed}, iteration {iteration}; {outcome}");
    }
    process::exit(1)
}
