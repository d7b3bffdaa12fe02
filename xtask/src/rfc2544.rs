//! `./x rfc2544 TARGET`: the benchmarks of RFC 2544 against a UDP echo: throughput, latency, frame loss, back-to-back.
//!
//! ```text
//! load     a paced stream of numbered datagrams, and what came back of it
//! report   Markdown and JSON
//! ```
//!
//! The device under test is one host with one interface, not a router with two: every frame goes there and back. The
//! sender is an ordinary socket of this machine, whose limits are part of the report where they show.

mod load;
mod report;

use std::net::SocketAddr;
use std::time::Duration;

use crate::args::{Command, Opt, Parsed};
use crate::error::{Result, failure, usage};
use crate::target;
use crate::workspace;

use load::{Load, Trial};
use report::{Report, Row};

/// The row in the table of commands.
pub const COMMAND: Command = Command {
    name: "rfc2544",
    summary: "Benchmark a running image: throughput, latency, loss, bursts",
    operands: "TARGET",
    max_operands: 1,
    takes_rest: false,
    options: &[
        Opt::switch(
            "--quick",
            "three frame sizes, trials of half a second (the default)",
        ),
        Opt::switch(
            "--full",
            "all seven frame sizes, trials of ten seconds and a minute",
        ),
        Opt::value(
            "--sizes",
            "LIST",
            "frame sizes in bytes with FCS instead, such as 64,1518",
        ),
        Opt::value(
            "--note",
            "TEXT",
            "what stands between here and there, for the report",
        ),
        Opt::value(
            "--http-port",
            "PORT",
            "where the target says what it is; 80 by default",
        ),
        Opt::switch(
            "--emulated",
            "the target is emulated, although it does not look like it",
        ),
    ],
    details: "\
TARGET is an address or name, with a port if it is not 7: 192.0.2.7, board.local, 127.0.0.1:40007.
Loads its UDP echo with the frame sizes of RFC 2544 and writes out/rfc2544.md and out/rfc2544.json.
The report says what it ran on, and `emulated` where it was.",
    run,
};

/// Spec: RFC 2544, 9.1, for Ethernet. With FCS.
const SIZES: [usize; 7] = [64, 128, 256, 512, 1024, 1280, 1518];
const QUICK_SIZES: [usize; 3] = [64, 512, 1518];
/// Ethernet, IPv4 and UDP headers and the FCS: what a payload has around it.
const AROUND: usize = 14 + 20 + 8 + 4;
/// The search begins here, in frames a second.
const FIRST_RATE: f64 = 1000.0;
/// The search ends here: a target that loses frames at this rate has no throughput.
const LEAST_RATE: f64 = FIRST_RATE / 10.0;
/// Nothing that this sender can do is faster.
const LAST_RATE: f64 = 4_000_000.0;
/// A sender that reaches less than this share of the rate it was told was the limit itself.
const REACHED: f64 = 0.95;
/// The longest burst that is tried.
const LONGEST_BURST: usize = 8192;

/// How long things are tried.
struct Effort {
    name: &'static str,
    sizes: Vec<usize>,
    trial: Duration,
    /// The trial that confirms a throughput, and measures its latency.
    confirmation: Duration,
    /// For frames that are late. Spec: RFC 2544, 23: two seconds.
    settle: Duration,
    /// The search for a rate ends when the bounds are so close.
    resolution: f64,
}

fn run(parsed: &Parsed) -> Result<()> {
    let Some(target) = parsed.operands.first() else {
        return usage("rfc2544 wants a TARGET");
    };
    if parsed.has("--quick") && parsed.has("--full") {
        return usage("--quick or --full, not both");
    }
    let mut effort = match parsed.has("--full") {
        true => Effort {
            name: "full",
            sizes: SIZES.to_vec(),
            trial: Duration::from_secs(10),
            confirmation: Duration::from_secs(60),
            settle: Duration::from_secs(2),
            resolution: 0.02,
        },
        false => Effort {
            name: "quick",
            sizes: QUICK_SIZES.to_vec(),
            trial: Duration::from_millis(500),
            confirmation: Duration::from_secs(2),
            settle: Duration::from_millis(300),
            resolution: 0.1,
        },
    };
    if let Some(list) = parsed.value("--sizes") {
        effort.sizes = list.split(',').map(size).collect::<Result<_>>()?;
    }
    let address = resolve(target)?;
    let http_port = match parsed.value("--http-port").map(str::parse) {
        None => 80,
        Some(Ok(port)) => port,
        Some(Err(_)) => return usage("--http-port wants a port"),
    };
    let status = report::status((address.ip(), http_port).into());
    let mut report = Report {
        target: address.to_string(),
        effort: effort.name,
        trial_s: effort.trial.as_secs_f64(),
        confirmation_s: effort.confirmation.as_secs_f64(),
        emulated: parsed.has("--emulated") || report::looks_emulated(address.ip(), &status),
        board: report::field(&status, "board"),
        version: report::field(&status, "version"),
        note: parsed.value("--note").unwrap_or_default().to_owned(),
        rows: Vec::new(),
    };
    for size in &effort.sizes {
        let mut load = Load::new(address, size - AROUND, effort.settle)?;
        report.rows.push(benchmark(&mut load, *size, &effort)?);
    }
    let out = workspace::out_dir()?;
    for (name, text) in [
        ("rfc2544.md", report.markdown()),
        ("rfc2544.json", report.json()),
    ] {
        workspace::write_whole(&out.join(name), text.as_bytes())?;
    }
    println!(
        "\n{}\n{}",
        report.markdown(),
        out.join("rfc2544.json").display()
    );
    Ok(())
}

fn size(text: &str) -> Result<usize> {
    match text.trim().parse() {
        Ok(size) if (64..=1518).contains(&size) => Ok(size),
        _ => usage(format!("a frame has 64 to 1518 bytes, not `{text}`")),
    }
}

fn resolve(target: &str) -> Result<SocketAddr> {
    target::resolve(target, 7).or_else(|_| failure(format!("{target}: no such host")))
}

/// All four benchmarks for one frame size.
fn benchmark(load: &mut Load, size: usize, effort: &Effort) -> Result<Row> {
    load.greet()?;
    println!("{size} bytes: throughput");
    let (mut rate, offered_max, sender_limited) = throughput(load, effort)?;
    // The search takes short trials; what they say must hold in a long one.
    let mut confirmed = load.trial(rate, effort.confirmation)?;
    while confirmed.lost() > 0 && rate > LEAST_RATE {
        rate *= 1.0 - effort.resolution;
        confirmed = load.trial(rate, effort.confirmation)?;
    }
    println!(
        "{size} bytes: {:.0} frames/s, {} lost; loss",
        confirmed.rate(),
        confirmed.lost()
    );
    let mut curve = Vec::new();
    let mut free = 0;
    // Spec: RFC 2544, 26.3: down in steps of a tenth, until two in a row lose nothing.
    for tenth in (1..=10).rev() {
        let trial = load.trial(offered_max * f64::from(tenth) / 10.0, effort.trial)?;
        free = if trial.lost() == 0 { free + 1 } else { 0 };
        curve.push(trial.summary());
        if free == 2 {
            break;
        }
    }
    println!("{size} bytes: bursts");
    let burst = back_to_back(load)?;
    // A target that went away lost everything, which says nothing about it.
    load.greet()?;
    Ok(Row {
        size,
        throughput: confirmed.summary(),
        latency: confirmed.latency(),
        sender_limited,
        curve,
        burst,
        longest_burst: LONGEST_BURST,
    })
}

/// The highest rate without loss, the highest that was offered, and whether this machine could not offer more.
fn throughput(load: &mut Load, effort: &Effort) -> Result<(f64, f64, bool)> {
    let lossless = |trial: &Trial| trial.lost() == 0;
    let (mut good, mut bad) = (0.0, FIRST_RATE);
    let mut limited = false;
    while bad < LAST_RATE {
        let trial = load.trial(bad, effort.trial)?;
        if !lossless(&trial) {
            break;
        }
        good = bad;
        if trial.rate() < REACHED * bad {
            (good, limited) = (trial.rate(), true);
            break;
        }
        bad *= 2.0;
    }
    let offered_max = if limited { good } else { bad };
    while !limited && bad - good > effort.resolution * bad && bad > 1.0 {
        let middle = f64::midpoint(good, bad);
        let trial = load.trial(middle, effort.trial)?;
        match lossless(&trial) {
            true => good = middle,
            false => bad = middle,
        }
    }
    Ok((good.max(LEAST_RATE), offered_max, limited))
}

/// The longest burst, sent as fast as this machine can, of which nothing is lost.
fn back_to_back(load: &mut Load) -> Result<usize> {
    let (mut good, mut bad) = (0, 1);
    while bad <= LONGEST_BURST && load.burst(bad)?.lost() == 0 {
        (good, bad) = (bad, bad * 2);
    }
    if bad > LONGEST_BURST {
        return Ok(good);
    }
    while bad - good > 1 + good / 50 {
        let middle = usize::midpoint(good, bad);
        match load.burst(middle)?.lost() {
            0 => good = middle,
            _ => bad = middle,
        }
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_sizes_are_read() {
        let target = |text| resolve(text).map(|address| address.to_string()).ok();
        assert_eq!(target("192.0.2.7").as_deref(), Some("192.0.2.7:7"));
        assert_eq!(
            target("127.0.0.1:40007").as_deref(),
            Some("127.0.0.1:40007")
        );
        assert_eq!(target("fd09::2").as_deref(), Some("[fd09::2]:7"));
        assert_eq!(target("[fd09::2]:9").as_deref(), Some("[fd09::2]:9"));
        assert_eq!(size(" 64").ok(), Some(64));
        for text in ["63", "1519", "", "x"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    /// An echo that drops what comes faster than it should.
    fn echo(drop_from: u64) -> SocketAddr {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            let mut count = 0;
            while let Ok((len, peer)) = socket.recv_from(&mut buffer) {
                count += 1;
                if count < drop_from || count % 3 != 0 {
                    let _ = socket.send_to(&buffer[..len], peer);
                }
            }
        });
        address
    }

    #[test]
    fn a_trial_counts_what_came_back_and_how_late() {
        let mut load = Load::new(echo(u64::MAX), 18, Duration::from_millis(200)).unwrap();
        load.greet().unwrap();
        let trial = load.trial(2000.0, Duration::from_millis(200)).unwrap();
        assert_eq!((trial.sent(), trial.lost()), (400, 0));
        let latency = trial.latency();
        assert!(latency.min_us > 0.0 && latency.p50_us <= latency.p99_us);
        assert!(latency.p99_us <= latency.max_us);
        let mut lossy = Load::new(echo(100), 18, Duration::from_millis(200)).unwrap();
        lossy.greet().unwrap();
        let lost = lossy
            .trial(2000.0, Duration::from_millis(200))
            .unwrap()
            .lost();
        assert!((50..150).contains(&lost), "{lost}");
        assert_eq!(lossy.burst(3).unwrap().lost(), 1);
    }

    #[test]
    fn nobody_there_is_an_error() {
        let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut load = Load::new(nobody, 18, Duration::from_millis(50)).unwrap();
        assert!(load.greet().is_err());
    }

    #[test]
    fn a_target_that_goes_away_has_no_figures() {
        let effort = Effort {
            name: "test",
            sizes: vec![64],
            trial: Duration::from_millis(20),
            confirmation: Duration::from_millis(20),
            settle: Duration::from_millis(20),
            resolution: 0.5,
        };
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let echo = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            for _ in 0..10 {
                let (len, peer) = socket.recv_from(&mut buffer).unwrap();
                let _ = socket.send_to(&buffer[..len], peer);
            }
        });
        let mut load = Load::new(address, 18, effort.settle).unwrap();
        assert!(benchmark(&mut load, 64, &effort).is_err());
        echo.join().unwrap();
    }
}
