//! `./x latency TARGET`: how long answers take as a client sees it, beside what the target says of itself.
//!
//! A run is one service, one size and one rate. Closed loop (rate 0): the next request leaves when the answer to the
//! last one is there. Open loop: requests leave at their times whatever happens, and each is measured from the time at
//! which it *should* have left, so that a stall costs every request that had to wait for it (no coordinated omission).
//!
//! ```text
//! mod     the command line, the table        client  sends, receives, checks every answer
//! record  histogram and samples of a run     account what /api/v1/latency says
//! plot    the SVG
//! ```

mod account;
mod client;
mod plot;
mod record;

use std::fmt::Write as _;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::args::{Command, Opt, Parsed};
use crate::error::{Error, Result, at, failure, usage};
use crate::workspace;

use account::Account;
use client::{Plan, Service};
use record::{Record, SHOWN};

/// The row in the table of commands.
pub const COMMAND: Command = Command {
    name: "latency",
    summary: "Measure how long a target takes to answer, beside its own account",
    operands: "TARGET",
    max_operands: 1,
    takes_rest: false,
    options: &[
        Opt::value("--service", "LIST", "of udp, tcp and http; all by default"),
        Opt::value("--size", "LIST", "bytes of an echo, 8 to 1472; 18,1400 by default"),
        Opt::value("--rate", "LIST", "requests a second; 0 is a closed loop, the default"),
        Opt::value("--time", "TIME", "how long each run takes; 5s by default"),
        Opt::value("--udp-port", "PORT", "of the UDP echo; 7 by default"),
        Opt::value("--tcp-port", "PORT", "of the TCP echo; 7 by default"),
        Opt::value("--http-port", "PORT", "of HTTP and the account; 80 by default"),
        Opt::value("--token", "TOKEN", "admin= of the target: its account starts anew with each run"),
        Opt::value("--out", "DIR", "where latency.json, .csv and .svg go; out by default"),
    ],
    details:
        "\
TARGET is a name or an address. Each run is one service, size and rate; every answer is compared with
what was asked, and the first second is not counted. With a rate, a request is measured from the time
at which it should have left: a stall costs all that had to wait for it.

The table shows microseconds. Below each run stands the target's own account, from the interrupt to
the doorbell, if it has one; without --token that account also holds what came before.

The exit status is 0 if every run had answers and none was wrong, and 1 if not; lost datagrams are
counted, not punished. docs/latency.md tells how to measure so that the figures mean something.",
    run,
};

/// A run without answers for so long has none.
const PATIENCE: Duration = Duration::from_secs(3);
/// What comes first: caches, neighbours, congestion windows.
const WARM_UP: Duration = Duration::from_secs(1);

/// One run and what came of it.
struct Run {
    plan: Plan,
    record: Record,
    account: Option<Account>,
}

fn run(parsed: &Parsed) -> Result<()> {
    let Some(host) = parsed.operands.first() else {
        return usage("`./x latency` wants a target: a name or an address");
    };
    let port = |name: &str, usual: u16| match parsed.value(name) {
        None => Ok(usual),
        Some(text) => text
            .parse()
            .or_else(|_| usage(format!("{name} wants a port, not `{text}`"))),
    };
    let http = resolve(host, port("--http-port", 80)?)?;
    let with_port = |port| SocketAddr::new(http.ip(), port);
    let udp = with_port(port("--udp-port", 7)?);
    let tcp = with_port(port("--tcp-port", 7)?);
    let time = parsed.duration("--time")?.unwrap_or(Duration::from_secs(5));
    let sizes = numbers(parsed, "--size", "18,1400", 8..=1472)?;
    let rates = numbers(parsed, "--rate", "0", 0..=1_000_000)?;
    let mut plans = Vec::new();
    for name in parsed
        .value("--service")
        .unwrap_or("udp,tcp,http")
        .split(',')
    {
        let (service, server) = match name {
            "udp" => (Service::Udp, udp),
            "tcp" => (Service::Tcp, tcp),
            "http" => (Service::Http, http),
            _ => return usage(format!("--service knows udp, tcp and http, not `{name}`")),
        };
        // An HTTP request has the size it has.
        let sizes = if service == Service::Http {
            &[0][..]
        } else {
            &sizes
        };
        for (&size, &rate) in sizes
            .iter()
            .flat_map(|size| rates.iter().map(move |rate| (size, rate)))
        {
            plans.push(Plan {
                service,
                server,
                size,
                rate,
                time,
                warm_up: WARM_UP,
                patience: PATIENCE,
            });
        }
    }
    let out = match parsed.value("--out") {
        Some(dir) => {
            std::fs::create_dir_all(dir).map_err(at(dir.as_ref()))?;
            PathBuf::from(dir)
        }
        None => workspace::out_dir()?,
    };
    let bar = progress(&plans);
    let mut runs = Vec::new();
    for plan in plans {
        bar.set_message(plan.to_string());
        if let Some(token) = parsed.value("--token") {
            account::reset(http, token)?;
        }
        let tick = || bar.tick();
        let record = client::measure(&plan, &tick)?;
        let account = account::account(http)?;
        bar.inc(1);
        runs.push(Run {
            plan,
            record,
            account,
        });
    }
    bar.finish_and_clear();
    print!("{}", table(&runs));
    let write = |name: &str, text: String| {
        let file = out.join(name);
        workspace::write_whole(&file, text.as_bytes())?;
        println!("{}", file.display());
        Ok(())
    };
    write("latency.json", format!("{:#}\n", as_json(host, &runs)))?;
    write("latency.csv", csv(&runs))?;
    write("latency.svg", plot::svg(&runs))?;
    match runs.iter().find(|run| run.record.answered() == 0) {
        Some(run) => failure(format!("{}: not one answer", run.plan)),
        None => Ok(()),
    }
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = (host, port).to_socket_addrs();
    let addresses = addresses.map_err(|error| Error::Failure(format!("{host}: {error}")))?;
    // The old protocol first: it is the one that is answered in place.
    let mut addresses: Vec<_> = addresses.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    match addresses.first() {
        Some(address) => Ok(*address),
        None => failure(format!("{host}: no address")),
    }
}

fn numbers(
    parsed: &Parsed,
    name: &str,
    usual: &str,
    range: std::ops::RangeInclusive<usize>,
) -> Result<Vec<usize>> {
    let text = parsed.value(name).unwrap_or(usual);
    let number = |text: &str| text.parse().ok().filter(|number| range.contains(number));
    match text.split(',').map(number).collect() {
        Some(numbers) => Ok(numbers),
        None => usage(format!(
            "{name} wants numbers from {} to {}, with commas between them, not `{text}`",
            range.start(),
            range.end()
        )),
    }
}

/// A bar where somebody may be looking, and nothing where the runs are over soon.
fn progress(plans: &[Plan]) -> ProgressBar {
    let whole: Duration = plans.iter().map(|plan| plan.time + plan.warm_up).sum();
    if whole < Duration::from_secs(3) {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(plans.len() as u64);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The percentiles of each run, and of its target's account.
fn table(runs: &[Run]) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "{:<26} {:>9} {:>6} {:>9}",
        "microseconds", "answers", "lost", "min"
    );
    for (name, _) in SHOWN {
        let _ = write!(text, " {name:>9}");
    }
    let _ = writeln!(text, " {:>9}", "max");
    for Run {
        plan,
        record,
        account,
    } in runs
    {
        let us = |ns: u64| ns as f64 / 1_000.0;
        let _ = write!(
            text,
            "{:<26} {:>9} {:>6} {:>9.1}",
            plan.to_string(),
            record.answered(),
            record.lost,
            us(record.min_ns())
        );
        for (_, percentile) in SHOWN {
            let _ = write!(text, " {:>9.1}", us(record.percentile_ns(percentile)));
        }
        let _ = writeln!(text, " {:>9.1}", us(record.max_ns()));
        let Some(account) = account else {
            let _ = writeln!(text, "  (the target has no account)");
            continue;
        };
        let Some(row) = account.row(plan.service.kind()) else {
            let _ = writeln!(text, "  (the target's account: nothing yet)");
            continue;
        };
        let _ = write!(
            text,
            "  {:<24} {:>9} {:>6} {:>9.1}",
            account.title(),
            row.count,
            "",
            row.min_us
        );
        for value in row.percentiles_us {
            let _ = write!(text, " {value:>9.1}");
        }
        let _ = writeln!(text, " {:>9.1}", row.max_us);
    }
    text
}

fn as_json(host: &str, runs: &[Run]) -> Value {
    let runs = runs.iter().map(
        |Run {
             plan,
             record,
             account,
         }| {
            let mut percentiles = serde_json::Map::new();
            for (name, percentile) in SHOWN {
                percentiles.insert(name.to_owned(), record.percentile_ns(percentile).into());
            }
            json!({
                "service": plan.service.name(),
                "size": plan.size,
                "rate": plan.rate,
                "loop": if plan.rate == 0 { "closed" } else { "open" },
                "seconds": plan.time.as_secs_f64(),
                "sent": record.sent,
                "answered": record.answered(),
                "lost": record.lost,
                "min_ns": record.min_ns(),
                "max_ns": record.max_ns(),
                "percentiles_ns": percentiles,
                "target": account.as_ref().map(|account| account.whole()),
            })
        },
    );
    json!({ "target": host, "runs": runs.collect::<Vec<_>>() })
}

/// Every step of every histogram: what a spreadsheet needs for a distribution.
fn csv(runs: &[Run]) -> String {
    let mut text = "service,size,rate,latency_ns,answers,fraction_up_to\n".to_owned();
    for Run { plan, record, .. } in runs {
        for (ns, count, fraction) in record.steps() {
            let (service, size, rate) = (plan.service.name(), plan.size, plan.rate);
            let _ = writeln!(text, "{service},{size},{rate},{ns},{count},{fraction:.6}");
        }
    }
    text
}

#[cfg(test)]
mod tests;
