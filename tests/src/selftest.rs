//! The board's self-test, over HTTP, on the serial console and by `./x selftest`. What has to be found is what the model
//! of the board was told to have.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::api::{BEARER, TOKEN, curl};
use crate::check::{During, Result, ensure, fail};
use crate::clients::{Background, attempt, run};
use crate::drops::books_balance;
use crate::espressobin::board::{Board, Running, flipped};
use crate::espressobin::services::echo_udp;
use crate::machine::Machine;
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    Test {
        name: "selftest-virt",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 240,
        run: virt,
    },
    Test {
        name: "espressobin-selftest",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 600,
        run: board,
    },
    Test {
        name: "espressobin-selftest-all-doubts-flipped",
        tier: Tier::Nightly,
        needs: Needs::Qemu,
        limit_s: 300,
        run: flipped_board,
    },
];

const PATH: &str = "/api/v1/selftest";
/// A run of all tests takes half a minute on the board.
const RUN_LIMIT: Duration = Duration::from_secs(240);

/// Starts a run, waits for its end, and returns its results in TAP.
fn tap_of(http: SocketAddr, tests: &str) -> Result<String> {
    let post = ["-X", "POST", "-H", BEARER];
    let (code, answer) = curl(http, &format!("{PATH}{tests}"), &post)?;
    ensure!(code == 202, "{tests}: {code}, {answer}");
    let job = answer["job"].as_u64().unwrap_or(0);
    let end = Instant::now() + RUN_LIMIT;
    loop {
        // A port that is under test does not answer.
        if let Ok((200, state)) = curl(http, &format!("{PATH}/{job}"), &["--max-time", "5"])
            && state["running"] == Value::Bool(false)
        {
            break;
        }
        ensure!(Instant::now() < end, "the self-test does not end");
        thread::sleep(Duration::from_millis(200));
    }
    curl_text(&format!("http://{http}{PATH}?job={job}&format=tap"))
}

/// The line of a test, without its number.
fn line<'t>(tap: &'t str, test: &str) -> Result<(bool, &'t str)> {
    for line in tap.lines() {
        let (passed, rest) = match line.strip_prefix("not ok ") {
            Some(rest) => (false, rest),
            None => (true, line.strip_prefix("ok ").unwrap_or_default()),
        };
        if let Some((_, rest)) = rest.split_once(" - ")
            && let Some((name, detail)) = rest.split_once(" # ")
            && name == test
        {
            return Ok((passed, detail));
        }
    }
    fail!("no {test} in {tap}")
}

fn passes(tap: &str, test: &str, detail: &str) -> Result {
    let (passed, found) = line(tap, test)?;
    ensure!(
        passed && found.contains(detail),
        "{test}: {found}, in {tap}"
    );
    Ok(())
}

fn fails(tap: &str, test: &str, detail: &str) -> Result {
    let (passed, found) = line(tap, test)?;
    ensure!(
        !passed && found.contains(detail),
        "{test}: {found}, in {tap}"
    );
    Ok(())
}

/// Where there is no board: what needs none runs, the rest says why not. And whoever asks wrongly.
fn virt(cx: &Context) -> Result {
    let machine = Machine::new(cx).user()?;
    let mut guest = machine.append(&format!("admin={TOKEN}")).boot()?;
    guest.healthy(60)?;
    let http = guest.services.http;
    let post = ["-X", "POST", "-H", BEARER];
    for (path, args, expected) in [
        (PATH.to_owned(), &["-H", BEARER][..], 404),
        (format!("{PATH}?job=7"), &[][..], 404),
        (format!("{PATH}?job=x"), &[][..], 400),
        (format!("{PATH}?format=x"), &[][..], 400),
        (PATH.to_owned(), &["-X", "POST"][..], 401),
        (format!("{PATH}/memory"), &[][..], 401),
        (format!("{PATH}/memory"), &["-H", BEARER][..], 405),
        (format!("{PATH}/nonsense"), &post[..], 400),
    ] {
        let (code, answer) = curl(http, &path, args)?;
        ensure!(code == expected, "{path} {args:?}: {code}, {answer}");
    }
    let tap = tap_of(http, "").during("a run of all tests")?;
    ensure!(tap.starts_with("TAP version 14\nok 1 - memory # "), "{tap}");
    ensure!(tap.ends_with("\n1..12\n"), "{tap}");
    // Of 64 blocks the image has five, the devicetree one, and one the crash record, which has to stay as it is.
    passes(
        &tap,
        "memory",
        "32 of 114 MiB free, 4 patterns, 0 words differ",
    )?;
    passes(&tap, "timer", "cycles a tick")?;
    passes(&tap, "checksum", "0 differ")?;
    passes(&tap, "link eth0", "up")?;
    for test in ["mdio", "phy-id", "phy-loopback", "negotiation", "cable"] {
        passes(&tap, test, "SKIP no switch")?;
    }
    for test in ["mac-loopback", "ring", "interrupts"] {
        passes(&tap, test, "SKIP no MAC")?;
    }
    // Kept until the next run, in every form.
    let url = format!("http://{http}{PATH}?format=junit");
    let junit = run("curl", &["-sSfi", "--noproxy", "*", &url])?;
    for part in [
        "Content-Type: application/xml",
        "tests=\"12\" failures=\"0\" errors=\"0\" skipped=\"8\"",
        "<skipped message=\"no switch\"/>",
    ] {
        ensure!(junit.contains(part), "no {part} in {junit}");
    }
    Ok(())
}

fn board(cx: &Context) -> Result {
    let mut board = Board::new(cx).append(&format!("admin={TOKEN}")).boot()?;
    board.leases(&[0, 1, 2])?;
    let services = board.services(0)?;
    let http = services.http;
    let post = ["-X", "POST", "-H", BEARER];
    // What would cut the port is refused, and nothing begins.
    for path in ["", "/mac-loopback", "/memory/cable?force=0"] {
        let (code, answer) = curl(http, &format!("{PATH}{path}"), &post)?;
        let why = answer["error"].as_str().unwrap_or_default();
        ensure!(code == 409 && why.contains("force=1"), "{code}, {answer}");
    }
    // What cuts nothing is not, and the port serves meanwhile.
    let done = AtomicBool::new(false);
    let tap = thread::scope(|scope| {
        let traffic = scope.spawn(|| -> Result {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                number += 1;
                echo_udp(services.echo_udp, number)?;
            }
            ensure!(number > 10, "only {number} echoes");
            Ok(())
        });
        let tap = tap_of(http, "/memory/timer/checksum/mdio/phy-id/link");
        done.store(true, Ordering::Relaxed);
        let traffic = traffic.join();
        let traffic = traffic.unwrap_or_else(|_| fail!("the echo client broke"));
        traffic.during("echo beside the self-test")?;
        tap
    })?;
    passes(&tap, "memory", "32 of ")?;
    passes(&tap, "timer", "timer 12.500 MHz")?;
    passes(&tap, "mdio", "10000 reads of 0x3410, 0 differ, 0 errors")?;
    for port in ["wan", "lan0", "lan1"] {
        passes(&tap, &format!("phy-id {port}"), "0x0141 0x0c00")?;
        passes(&tap, &format!("link {port}"), "up, 1000-full")?;
    }
    faults(&mut board)?;
    tool(&mut board, http)?;
    // What came back counts for nobody, and nothing else is missing.
    books_balance(&curl_text(&format!("http://{http}/metrics"))?)?;
    captured(
        &mut board,
        http,
        &cx.out.join(format!("{}.pcapng", cx.name)),
    )?;
    cut_off(&mut board)?;
    board.sound()
}

fn curl_text(url: &str) -> Result<String> {
    run("curl", &["-sSf", "--noproxy", "*", "--max-time", "60", url])
}

/// A capture of the conduit goes on through loopbacks of the MAC, and they through it.
fn captured(board: &mut Running, http: SocketAddr, file: &Path) -> Result {
    let file = file.display().to_string();
    let url = format!("http://{http}/capture.pcapng?if=conduit");
    let args = ["-sSN", "--noproxy", "*", "-H", BEARER, "-o", &file, &url];
    let client = Background::start("curl", &args)?;
    let is_active =
        || -> Result<bool> { Ok(curl(http, "/api/v1/capture", &[])?.1["active"] == true) };
    let end = Instant::now() + RUN_LIMIT;
    while !is_active()? {
        ensure!(Instant::now() < end, "the capture does not begin");
        thread::sleep(Duration::from_millis(100));
    }
    let said = typed(board, "", "mac-loopback ring")?;
    passes(&said, "mac-loopback", "256 frames, 0 lost, 0 differ")?;
    passes(&said, "ring", "1024 frames, 0 lost, 0 differ")?;
    ensure!(is_active()?, "the capture has ended");
    // What found no room while nothing could be sent is lost for the file, what comes later is not. The file is still
    // being written: its end may be half a frame.
    let (service, mut echoes) = (board.services(0)?.echo_udp, 0);
    while echoes < 20 {
        ensure!(Instant::now() < end, "only {echoes} echoes captured");
        (0..10).try_for_each(|number| echo_udp(service, number))?;
        thread::sleep(Duration::from_millis(200));
        let (_, frames, _) = attempt("tcpdump", &["-nn", "-r", &file])?;
        echoes = frames.matches("10.0.2.15.7: UDP").count();
    }
    drop(client);
    Ok(())
}

/// A reset in the middle of a test: the next start knows in which, also after it has tested its memory.
fn cut_off(board: &mut Running) -> Result {
    let mark = board.mark();
    board.type_in("selftest checksum mdio\r")?;
    board.line_within(mark, "ok 1 - checksum", 240)?;
    board.qmp()?.execute("system_reset", "{}")?;
    board.line_within(
        mark,
        "crash record: 1 start(s) ago: reset without a word",
        60,
    )?;
    let mark = board.mark();
    let said = typed(board, "", "memory")?;
    passes(&said, "memory", "0 words differ")?;
    board.type_in("crash trace\r")?;
    let line = board.line_within(mark, "mdio, run ", 60)?;
    ensure!(line.contains("self-test"), "{line}");
    let mark = board.mark();
    board.type_in("crash clear\rcrash\r")?;
    board.line_within(mark, "ended                   -", 60)?;
    Ok(())
}

/// A sound board passes, whatever is true of what nobody knows.
fn flipped_board(cx: &Context) -> Result {
    let mut board = Board::new(cx).doubts(&flipped()).boot()?;
    board.leases(&[0, 1, 2])?;
    let said = typed(&mut board, "", "")?;
    for line in said.lines() {
        ensure!(!line.starts_with("not ok"), "{line}");
    }
    ensure!(said.contains("\n1..22"), "{said}");
    board.sound()
}

/// Runs tests from the console, with these faults, and returns what it says.
fn typed(board: &mut Running, faults: &str, tests: &str) -> Result<String> {
    board.faults(faults)?;
    let mark = board.mark();
    board.type_in(&format!("selftest {tests}\r"))?;
    board.line_within(mark, "1..", 240).during(tests)?;
    board.faults("")?;
    // The prompt comes back with every line of the log.
    Ok(board.console()[mark..].replace("\x1b[K", "\n"))
}

/// The right test says what is wrong, with its value.
fn faults(board: &mut Running) -> Result {
    let said = typed(
        board,
        "id-flip=5000*1,cable=lan0:1:open:1250,cable=lan0:2:short:90,frame-corrupt=rx:20",
        "mdio phy-loopback cable",
    )?;
    fails(
        &said,
        "mdio",
        "10000 reads of 0x3410, 1 differ, 0 errors, first 0x3510",
    )?;
    passes(&said, "cable wan", "ok, ok, ok, ok")?;
    fails(
        &said,
        "cable lan0",
        "ok, open at 12.50 m, short at 0.90 m, ok",
    )?;
    for port in ["wan", "lan0", "lan1"] {
        fails(&said, &format!("phy-loopback {port}"), "8 lost, 0 differ")?;
    }
    // Negotiation with less of a partner, and without one.
    let mark = board.mark();
    board.faults("partner=lan0:100-half,phy-never-completes=3")?;
    board.line_from(mark, "lan0: link up, 100 Mb/s half duplex")?;
    board.line_from(mark, "lan1: link down")?;
    let mark = board.mark();
    board.type_in("selftest negotiation -j\r")?;
    let said = board.line_within(mark, "{\"job\":", 240)?;
    for part in [
        "\"name\":\"negotiation lan0\",\"result\":\"ok\",\"detail\":\"100-half ",
        "\"name\":\"negotiation lan1\",\"result\":\"skip\",\"detail\":\"no link\"",
        "\"passed\":2,\"failed\":0,\"skipped\":1",
    ] {
        ensure!(said.contains(part), "no {part} in {said}");
    }
    let mark = board.mark();
    board.faults("")?;
    board.line_from(mark, "lan0: link up, 1000 Mb/s full duplex")?;
    board.line_from(mark, "lan1: link up, 1000 Mb/s full duplex")?;
    Ok(())
}

/// `./x selftest` with everything, by way of the port that is cut.
fn tool(board: &mut Running, http: SocketAddr) -> Result {
    let junit = "selftest.xml";
    let mark = board.mark();
    let target = http.to_string();
    let tool = [
        "run",
        "--quiet",
        "--offline",
        "--package",
        "xtask",
        "--",
        "selftest",
    ];
    let args = [&target, "--token", TOKEN, "--junit", junit];
    // The address comes back some time after the link.
    let says = |more: &[&str]| attempt("cargo", &[&tool[..], &args, more].concat());
    let (refused, _, why) = says(&[])?;
    ensure!(
        !refused && why.contains("force=1"),
        "without --force: {why}"
    );
    let (passed, tap, why) = says(&["--force"])?;
    ensure!(passed, "{tap}{why}");
    passes(&tap, "mac-loopback", "256 frames, 0 lost, 0 differ")?;
    passes(&tap, "ring", "1024 frames, 0 lost, 0 differ")?;
    passes(&tap, "interrupts", "100 frames, 0 lost, 0 differ, ")?;
    for port in ["wan", "lan0", "lan1"] {
        passes(
            &tap,
            &format!("phy-loopback {port}"),
            "256 frames, 0 lost, 0 differ",
        )?;
        let (passed, modes) = line(&tap, &format!("negotiation {port}"))?;
        let all = [
            "1000-full ",
            "100-full ",
            "100-half ",
            "10-full ",
            "10-half ",
        ];
        ensure!(
            passed && all.iter().all(|mode| modes.contains(mode)),
            "{modes}"
        );
        passes(&tap, &format!("cable {port}"), "ok, ok, ok, ok")?;
        // As it was before.
        board.line_from(mark, &format!("{port}: link up, 1000 Mb/s full duplex"))?;
    }
    ensure!(tap.ends_with("\n1..22\n"), "{tap}");
    let xml = std::fs::read_to_string(junit)?;
    ensure!(xml.contains("tests=\"22\" failures=\"0\""), "{xml}");
    Ok(())
}
