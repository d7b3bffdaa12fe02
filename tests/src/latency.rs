//! What the image says of its own latency, who may start it anew, and the tool that reads it.

use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::check::{During, Failure, Result, ensure, fail};
use crate::clients::{self, Answer, connect, get, read_answer};
use crate::espressobin::board::Board;
use crate::espressobin::services::served;
use crate::machine::{Guest, Machine};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    test("latency-account", Tier::Quick, account),
    test("latency-access", Tier::Quick, access),
    test("latency-off", Tier::Quick, off),
    test("latency-tool", Tier::Ci, tool),
    test("latency-espressobin", Tier::Ci, espressobin),
];

const fn test(name: &'static str, tier: Tier, run: fn(&Context) -> Result) -> Test {
    Test {
        name,
        tier,
        needs: Needs::Qemu,
        limit_s: 180,
        run,
    }
}

fn boot(cx: &Context, bootargs: &str) -> Result<Guest> {
    let mut guest = Machine::new(cx).user()?.append(bootargs).boot()?;
    guest.healthy(30)?;
    Ok(guest)
}

fn report(http: SocketAddr) -> Result<Value> {
    let answer = get(http, "/api/v1/latency")?;
    ensure!(answer.code == 200, "{answer:?}");
    ensure!(
        answer.field("Content-Type") == Some("application/json"),
        "{}",
        answer.head
    );
    parsed(&answer.body)
}

fn parsed(text: &[u8]) -> Result<Value> {
    serde_json::from_slice(text).map_err(|error| Failure::Failed(format!("JSON: {error}")))
}

/// A request with a field or two of its own.
fn ask(http: SocketAddr, line: &str, fields: &str) -> Result<Answer> {
    let mut stream = connect(http)?;
    let request = format!("{line} HTTP/1.1\r\nHost: {http}\r\n{fields}\r\n");
    stream.write_all(request.as_bytes())?;
    read_answer(&mut stream, false)
}

fn number(value: &Value) -> Result<u64> {
    match value.as_u64() {
        Some(number) => Ok(number),
        None => fail!("{value} is no number"),
    }
}

/// Figures that can be true: what they count is there, and none contradicts another.
fn plausible(report: &Value) -> Result {
    ensure!(
        report["time"] == "emulated" && report["source"] == "PMCCNTR_EL0" && report["unit"] == "ns",
        "{report}"
    );
    let hz = number(&report["hz"])?;
    ensure!((900_000_000..1_100_000_000).contains(&hz), "{hz} Hz");
    let Some(kinds) = report["kinds"].as_object() else {
        fail!("no kinds in {report}")
    };
    let names = ["min", "p50", "p90", "p99", "p99_9", "p99_99", "max"];
    for (kind, stages) in kinds {
        for (stage, figures) in stages.as_object().into_iter().flatten() {
            let figures: Vec<u64> = names
                .iter()
                .map(|name| number(&figures[name]))
                .collect::<Result<_>>()
                .during(format!("{kind} {stage}"))?;
            ensure!(figures.is_sorted(), "{kind} {stage}: {figures:?}");
        }
    }
    let Some(worst) = report["worst"].as_array() else {
        fail!("no worst in {report}")
    };
    ensure!((1..=16).contains(&worst.len()), "{} worst", worst.len());
    let totals: Vec<u64> = worst
        .iter()
        .map(|event| number(&event["total"]))
        .collect::<Result<_>>()?;
    ensure!(totals.is_sorted_by(|a, b| a >= b), "{totals:?}");
    for event in worst {
        let stamps = [
            "interrupt",
            "poll",
            "harvest",
            "stack",
            "service",
            "reply",
            "doorbell",
            "sent",
        ];
        let passed: Vec<u64> = stamps
            .iter()
            .filter_map(|name| event["stamps"][name].as_u64())
            .collect();
        ensure!(passed.len() >= 5 && passed.is_sorted(), "{event}");
    }
    Ok(())
}

fn count(report: &Value, kind: &str, stage: &str) -> u64 {
    report["kinds"][kind][stage]["count"].as_u64().unwrap_or(0)
}

fn account(cx: &Context) -> Result {
    let guest = boot(cx, "latency=full")?;
    let services = &guest.services;
    // 10 datagrams, 10 000 numbers and a page each.
    (0..20).try_for_each(|_| served(services))?;
    for _ in 0..50 {
        get(services.http, "/hello")?;
    }
    let report = report(services.http)?;
    plausible(&report)?;
    ensure!(report["rounds_one_in"] == 1, "{report}");
    ensure!(count(&report, "udp", "total") >= 200, "{report}");
    ensure!(count(&report, "http", "total") >= 70, "{report}");
    ensure!(count(&report, "tcp_echo", "total") >= 20, "{report}");
    for stage in ["harvest", "stack", "service", "reply", "doorbell"] {
        let (of_stage, all) = (
            count(&report, "http", stage),
            count(&report, "http", "total"),
        );
        ensure!(of_stage == all, "{stage}: {of_stage} of {all}");
    }
    ensure!(
        count(&report, "udp", "sent") > 0,
        "nothing is ever sent: {report}"
    );
    // The timer is tried a thousand times a second.
    let tries = number(&report["timer"]["asleep"]["count"])?;
    ensure!(tries > 200, "{tries} tries of the timer");
    let sum = guest.metric("latency_seconds_count{kind=\"udp\"}")?;
    ensure!(sum >= 200, "{sum} in /metrics");
    Ok(())
}

fn access(cx: &Context) -> Result {
    const RESET: &str = "POST /api/v1/latency/reset";
    let closed = boot(cx, "latency=full")?;
    let answer = ask(closed.services.http, RESET, "Authorization: Bearer x\r\n")?;
    ensure!(answer.code == 403, "without admin=: {answer:?}");
    drop(closed);

    let mut guest = Machine::new(cx)
        .id(1)
        .user()?
        .append("latency=full admin=s3cret-Token")
        .boot()?;
    guest.healthy(30)?;
    let http = guest.services.http;
    served(&guest.services)?;
    let right = "Authorization: Bearer s3cret-Token\r\n";
    let own = format!("{right}Origin: http://{http}\r\n");
    let cases: [(&str, String, u16); 11] = [
        (RESET, String::new(), 401),
        (RESET, "Authorization: Bearer\r\n".into(), 401),
        (RESET, "Authorization: Basic s3cret-Token\r\n".into(), 401),
        (RESET, "Authorization: Bearer s3cret-Toke\r\n".into(), 401),
        (RESET, format!("{right}{right}"), 401),
        (
            RESET,
            format!("{right}Origin: http://evil.example\r\n"),
            403,
        ),
        (RESET, format!("{right}Origin: null\r\n"), 403),
        (RESET, own, 200),
        ("GET /api/v1/latency/reset", right.into(), 405),
        ("POST /api/v1/latency", right.into(), 405),
        ("POST /api/v1/latency/reset/x", right.into(), 400),
    ];
    for (line, fields, code) in cases {
        let answer = ask(http, line, &fields)?;
        ensure!(answer.code == code, "{line} with {fields:?}: {answer:?}");
        let wants = answer.field("WWW-Authenticate").is_some();
        ensure!(wants == (code == 401), "{}", answer.head);
    }
    let report = report(http)?;
    let after = count(&report, "tcp_echo", "total");
    ensure!(after == 0, "{after} TCP echoes after a reset");
    // Guessing gets nowhere soon, and the service does not suffer.
    let guess = |number: usize| ask(http, RESET, &format!("Authorization: Bearer {number}\r\n"));
    let codes: Vec<u16> = (0..30)
        .map(|number| guess(number).map(|answer| answer.code))
        .collect::<Result<_>>()?;
    ensure!(codes.contains(&429), "{codes:?}");
    ensure!(
        codes.iter().all(|code| [401, 429].contains(code)),
        "{codes:?}"
    );
    served(&guest.services)?;
    thread::sleep(Duration::from_secs(3));
    let answer = ask(http, RESET, right)?;
    ensure!(answer.code == 200, "the owner, later: {answer:?}");
    Ok(())
}

/// Switched off, and impossible: both say so, and everything else works.
fn off(cx: &Context) -> Result {
    let guest = boot(cx, "latency=off")?;
    served(&guest.services)?;
    let said = report(guest.services.http)?;
    ensure!(
        said["latency"] == "off" && said["why"] == "latency=off",
        "{said}"
    );
    drop(guest);

    let mut guest = Machine::new(cx)
        .id(1)
        .cpu("cortex-a53,pmu=off")
        .user()?
        .boot()?;
    guest.healthy(30)?;
    served(&guest.services)?;
    let said = report(guest.services.http)?;
    ensure!(said["latency"] == "off", "{said}");
    let why = said["why"].as_str().unwrap_or_default();
    ensure!(why.contains("no cycle counter"), "{said}");
    drop(guest);

    let mut guest = Machine::new(cx)
        .id(2)
        .user()?
        .append("latency=fast admin=a,b")
        .boot()?;
    guest.line("ignored `latency=fast`", 10)?;
    guest.line("ignored `admin=a,b`", 10)?;
    guest.healthy(30)?;
    let said = report(guest.services.http)?;
    ensure!(
        said["latency"] == "on" && said["rounds_one_in"] == 16,
        "{said}"
    );
    Ok(())
}

/// `./x latency` against the image: every service, both loops, and what it leaves.
fn tool(cx: &Context) -> Result {
    let guest = boot(cx, "latency=full admin=token")?;
    let services = &guest.services;
    let out = cx.out.join("latency-tool");
    let (out_text, ports) = (
        out.display().to_string(),
        [services.echo_udp, services.echo_tcp, services.http]
            .map(|server| server.port().to_string()),
    );
    let said = clients::run(
        "cargo",
        &[
            "run",
            "--quiet",
            "--offline",
            "--package",
            "xtask",
            "--",
            "latency",
            "127.0.0.1",
            "--udp-port",
            &ports[0],
            "--tcp-port",
            &ports[1],
            "--http-port",
            &ports[2],
            "--time",
            "1s",
            "--rate",
            "0,200",
            "--size",
            "64",
            "--token",
            "token",
            "--out",
            &out_text,
        ],
    )?;
    println!("{said}");
    let json = std::fs::read(out.join("latency.json"))?;
    let json: Value = parsed(&json)?;
    let Some(runs) = json["runs"].as_array() else {
        fail!("no runs: {json}")
    };
    ensure!(runs.len() == 6, "{} runs", runs.len());
    for run in runs {
        let (answered, p50) = (
            number(&run["answered"])?,
            number(&run["percentiles_ns"]["p50"])?,
        );
        ensure!(answered > 50 && p50 > 0, "{answered} answers, median {p50}");
        plausible(&run["target"])?;
    }
    for name in ["latency.csv", "latency.svg"] {
        ensure!(out.join(name).metadata()?.len() > 1_000, "{name} is empty");
    }
    Ok(())
}

/// The same account behind the board's switch.
fn espressobin(cx: &Context) -> Result {
    let mut board = Board::new(cx).append("latency=full").boot()?;
    board.leases(&[0])?;
    let services = board.services(0)?;
    (0..5).try_for_each(|_| served(&services))?;
    let report = report(services.http)?;
    plausible(&report)?;
    ensure!(count(&report, "udp", "total") >= 50, "{report}");
    ensure!(count(&report, "udp", "sent") > 0, "{report}");
    ensure!(report["worst"][0]["interface"] == "wan", "{report}");
    board.sound()
}
