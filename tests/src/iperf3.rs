//! iperf3's own client against our server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::check::{During, Failure, Result, ensure, fail, wait};
use crate::clients::{PATIENCE, attempt, connect, get, is_closed, run};
use crate::echo::tcp_sums;
use crate::machine::{Guest, Machine};
use crate::tap::Tap;
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    test("iperf3-tcp", tcp),
    test("iperf3-udp", udp),
    test("iperf3-over-ipv6", over_ipv6),
    test("iperf3-refuses-by-name", refusals),
    test("iperf3-one-at-a-time", one_at_a_time),
    test("iperf3-aborted-client-frees-the-server", aborted),
    test("iperf3-half-open-tests", half_open),
    test("iperf3-malformed", malformed),
];

const fn test(name: &'static str, run: fn(&Context) -> Result) -> Test {
    Test {
        name,
        tier: Tier::Quick,
        needs: Needs::Tap,
        limit_s: 300,
        run,
    }
}

/// The client's JSON.
pub struct Report(String);

impl Report {
    /// A number in it, by its path: `end.sum_received.bytes`.
    pub fn number(&self, path: &str) -> Result<f64> {
        const READ: &str = "import functools, json, sys
read = lambda value, key: value[int(key)] if isinstance(value, list) else value[key]
print(float(functools.reduce(read, sys.argv[2].split('.'), json.loads(sys.argv[1]))))";
        let said = run("python3", &["-c", READ, &self.0, path]).during(path)?;
        said.trim()
            .parse()
            .map_err(|_| Failure::Failed(format!("{path}: {said}")))
    }

    /// Either side says that so many bytes arrived, and no byte arrived that was not sent.
    pub fn moved(&self, bytes: u64) -> Result {
        let (sent, received) = (
            self.number("end.sum_sent.bytes")?,
            self.number("end.sum_received.bytes")?,
        );
        ensure!(
            received >= bytes as f64 && sent >= received,
            "{bytes} bytes wanted, {sent} sent, {received} received"
        );
        Ok(())
    }
}

/// Runs the client, which has to succeed.
pub fn client(service: SocketAddr, options: &[&str]) -> Result<Report> {
    let (ip, port) = (service.ip().to_string(), service.port().to_string());
    let args = [&["-J", "-c", &ip, "-p", &port], options].concat();
    let said = run("iperf3", &args)?;
    println!("iperf3 {}: {said}", args.join(" "));
    ensure!(!said.contains("\"error\""), "iperf3 {options:?}: {said}");
    Ok(Report(said))
}

/// Runs the client, which has to be refused.
fn refused(service: SocketAddr, options: &[&str], why: &str) -> Result {
    let ip = service.ip().to_string();
    let (_, out, err) = attempt("iperf3", &[&["-J", "-c", &ip], options].concat())?;
    let said = format!("{out}{err}");
    ensure!(said.contains(why), "{options:?}: no `{why}` in {said}");
    Ok(())
}

fn guest(cx: &Context) -> Result<Guest> {
    let mut guest = Machine::new(cx)
        .tap(&Tap::new("tap0")?)
        .without_capture()
        .boot()?;
    guest.healthy(30)?;
    Ok(guest)
}

/// No connection is left, no test is on, and the echo goes on.
fn at_rest(guest: &Guest) -> Result {
    wait(15, "all iperf3 connections closed", || {
        let open = guest
            .metric("service_connections{service=\"iperf3\"}")
            .ok()?;
        (open == 0).then_some(())
    })?;
    tcp_sums(guest.services.echo_tcp, 100_000)
}

fn tcp(cx: &Context) -> Result {
    let guest = guest(cx)?;
    let service = guest.services.iperf3;
    let seconds = cx.scaled(1, 5, 30).to_string();
    for options in [
        &["-t", &seconds][..],
        &["-t", &seconds, "-R"],
        &["-t", &seconds, "-P", "4"],
        &["-t", &seconds, "-P", "4", "-R"],
        &["-t", "2", "-O", "1"],
        &[
            "-t",
            "1",
            "--get-server-output",
            "-w",
            "64K",
            "-M",
            "1000",
            "-N",
        ],
    ] {
        client(service, options)?.moved(100_000)?;
    }
    for options in [
        &["-n", "3M"][..],
        &["-n", "3M", "-R"],
        &["-n", "3M", "-P", "4"],
        &["-k", "3072", "-l", "1K"],
        &["-n", "3M", "-l", "100"],
    ] {
        client(service, options)?.moved(3 << 20)?;
    }
    let both = client(service, &["-t", &seconds, "--bidir"])?;
    both.moved(100_000)?;
    let reverse = both.number("end.sum_received_bidir_reverse.bytes")?;
    ensure!(
        (100_000.0..).contains(&reverse),
        "the way back: {reverse} bytes"
    );
    let slow = client(service, &["-t", "2", "-R", "-b", "8M"])?;
    let rate = slow.number("end.sum_received.bits_per_second")?;
    ensure!((7e6..9e6).contains(&rate), "8 Mbit/s wanted: {rate}");
    at_rest(&guest)?;
    let completed = guest.metric("service_completed_total{service=\"iperf3\"}")?;
    let aborted = guest.metric("service_aborted_total{service=\"iperf3\"}")?;
    ensure!(
        (completed, aborted) == (13, 0),
        "{completed} completed, {aborted} aborted"
    );
    Ok(())
}

fn udp(cx: &Context) -> Result {
    let guest = guest(cx)?;
    let service = guest.services.iperf3;
    let seconds = cx.scaled(1, 5, 30).to_string();
    for options in [
        &["-u", "-t", "2"][..],
        &["-u", "-t", "2", "-R"],
        &["-u", "-t", "2", "-b", "8M", "-P", "2", "-l", "500"],
        &["-u", "-t", "2", "-b", "8M", "-P", "2", "-l", "500", "-R"],
    ] {
        let report = client(service, options)?;
        let (lost, packets) = (
            report.number("end.sum.lost_packets")?,
            report.number("end.sum.packets")?,
        );
        ensure!(
            lost == 0.0 && packets > 100.0,
            "{options:?}: {lost} of {packets} lost"
        );
        report.moved(200_000)?;
        let jitter_ms = report.number("end.sum.jitter_ms")?;
        ensure!(
            (0.0..100.0).contains(&jitter_ms),
            "{options:?}: jitter {jitter_ms} ms"
        );
    }
    // As fast as can be: what is lost is counted, and the sums agree.
    for options in [
        &["-u", "-b", "0", "-t", &seconds][..],
        &["-u", "-b", "0", "-t", &seconds, "-R"],
    ] {
        let report = client(service, options)?;
        let (sent, received) = (
            report.number("end.sum_sent.packets")?,
            report.number("end.sum_received.packets")?,
        );
        ensure!(
            sent > 1000.0 && received <= sent,
            "{options:?}: {sent} sent, {received} seen"
        );
        // Other clients get their turn meanwhile and after.
        ensure!(
            get(guest.services.http, "/healthz")?.code == 200,
            "no answer"
        );
    }
    let both = client(service, &["-u", "--bidir", "-b", "4M", "-t", "2"])?;
    ensure!(
        (100.0..).contains(&both.number("end.sum_bidir_reverse.packets")?),
        "nothing came back"
    );
    let count = client(service, &["-u", "-b", "50M", "-n", "1M"])?;
    count.moved(1 << 20)?;
    at_rest(&guest)
}

fn over_ipv6(cx: &Context) -> Result {
    let tap = Tap::new("tap0")?;
    tap.add_address("fd09::1/64")?;
    let machine = Machine::new(cx).tap(&tap).without_capture();
    let mut guest = machine
        .append("ip=[fd09::2]::[fd09::1]:64::eth0:off")
        .boot()?;
    guest.healthy(30)?;
    let service: SocketAddr = ([0xfd09, 0, 0, 0, 0, 0, 0, 2], 5201).into();
    for options in [
        &["-n", "3M"][..],
        &["-n", "3M", "-R"],
        &["-u", "-n", "100K"],
        &["-u", "-n", "100K", "-R"],
    ] {
        client(service, options)?.moved(100 << 10)?;
    }
    Ok(())
}

fn refusals(cx: &Context) -> Result {
    let guest = guest(cx)?;
    for (options, why) in [
        (&["-P", "33"][..], "number of parallel streams too large"),
        (
            &["-P", "17", "--bidir"],
            "number of parallel streams too large",
        ),
        (&["-u", "-l", "1473"], "block size invalid"),
    ] {
        refused(guest.services.iperf3, options, why)?;
        at_rest(&guest)?;
    }
    client(guest.services.iperf3, &["-n", "100K"])?.moved(100 << 10)
}

/// A client that lasts, in the background; killed when dropped.
struct Lasting(std::process::Child);

impl Lasting {
    fn start(guest: &Guest, options: &[&str]) -> Result<Self> {
        let child = Command::new("iperf3")
            .args(["-c", &guest.services.iperf3.ip().to_string(), "-t", "60"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let client = child
            .map(Self)
            .map_err(|error| Failure::Skipped(format!("iperf3: {error}")))?;
        // Who says nothing is told at once if the server is busy, and takes no turn if it is not.
        let denied = || {
            let mut stream = connect(guest.services.iperf3).ok()?;
            stream
                .set_read_timeout(Some(Duration::from_millis(200)))
                .ok()?;
            let mut state = [0];
            (stream.read(&mut state).ok()? == 1 && state == [0xff]).then_some(())
        };
        wait(10, "the test to be on", denied)?;
        Ok(client)
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const BUSY: &str = "the server is busy running a test";

fn one_at_a_time(cx: &Context) -> Result {
    let guest = guest(cx)?;
    let first = Lasting::start(&guest, &["-b", "1M"])?;
    let before = guest.metric("service_denied_total{service=\"iperf3\"}")?;
    for _ in 0..10 {
        refused(guest.services.iperf3, &["-t", "1"], BUSY)?;
    }
    let denied = guest.metric("service_denied_total{service=\"iperf3\"}")? - before;
    ensure!(denied == 10, "{denied} of 10 counted");
    drop(first);
    at_rest(&guest)
}

/// Killed without a word, or its cable pulled: five seconds later the next one is served.
fn aborted(cx: &Context) -> Result {
    let guest = guest(cx)?;
    for options in [
        &["-b", "10M"][..],
        &["-R"],
        &["--bidir", "-P", "2"],
        &["-u"],
        &["-u", "-R", "-b", "0"],
    ] {
        drop(Lasting::start(&guest, options)?);
        free_within(&guest, 5).during(format!("{options:?}"))?;
    }
    // Nobody says that this one is gone.
    let silent = Lasting::start(&guest, &["-u", "-b", "1M"])?;
    run("ip", &["link", "set", "tap0", "down"])?;
    drop(silent);
    std::thread::sleep(Duration::from_secs(5));
    run("ip", &["link", "set", "tap0", "up"])?;
    free_within(&guest, 2)?;
    at_rest(&guest)
}

fn free_within(guest: &Guest, seconds: u64) -> Result {
    let start = Instant::now();
    wait(30, "a free server", || {
        client(guest.services.iperf3, &["-n", "100K"]).ok()
    })?;
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(seconds), "free after {took:?}");
    Ok(())
}

/// A connection that says what a test would begin with.
fn begun(service: SocketAddr, cookie: u8) -> Result<TcpStream> {
    let mut stream = connect(service)?;
    stream.write_all(&[&[cookie; 36][..], b"\0"].concat())?;
    Ok(stream)
}

/// A hundred tests that are begun and never go on; the others are served all the while.
fn half_open(cx: &Context) -> Result {
    let guest = guest(cx)?;
    let mut streams = Vec::new();
    for number in 0..100 {
        let stream = match number % 2 {
            0 => connect(guest.services.iperf3),
            _ => begun(guest.services.iperf3, b'a' + (number % 26)),
        };
        streams.push(stream.during(format!("half-open test {number}"))?);
        if number % 10 == 0 {
            tcp_sums(guest.services.echo_tcp, 10_000)?;
        }
    }
    let start = Instant::now();
    // Nothing is kept of them, and a client that means it gets its turn soon.
    wait(30, "a free server", || {
        client(guest.services.iperf3, &["-n", "100K"]).ok()
    })?;
    ensure!(
        start.elapsed() < Duration::from_secs(12),
        "free after {:?}",
        start.elapsed()
    );
    for stream in &mut streams {
        ensure!(is_closed(stream)?, "one is still open");
    }
    drop(streams);
    at_rest(&guest)
}

/// What no client says is refused, at once and by name, whatever it is.
fn malformed(cx: &Context) -> Result {
    let guest = guest(cx)?;
    let service = guest.services.iperf3;
    let json = |text: &str| [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat();
    let params: Vec<Vec<u8>> = vec![
        vec![0; 4],
        vec![0xff; 4],
        vec![0, 0, 0x10, 1],
        json("not JSON"),
        json("{}"),
        json("[{\"tcp\":true}]"),
        json("{\"tcp\":true,\"len\":1e300,\"time\":1}"),
        json("{\"tcp\":true,\"len\":-1}"),
        json("{\"tcp\":true,\"len\":1000,\"time\":99999999999999999999}"),
        json("{\"tcp\":true,\"len\":1000,\"parallel\":1000000}"),
        json("{\"udp\":true,\"len\":65507}"),
        json("{\"tcp\":true,\"len\":1000,\"bandwidth\":-5}"),
        json(&format!("{{\"tcp\":true,\"x\":{}", "[".repeat(3000))),
    ];
    for params in &params {
        let mut stream = begun(service, b'm')?;
        let mut state = [0];
        stream.read_exact(&mut state)?;
        ensure!(state == [9], "not asked for parameters: {state:?}");
        stream.write_all(params)?;
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .during(format!("{params:?}"))?;
        let is_error = answer.len() == 9 && answer[0] == 0xfe && answer[5..] == [0; 4];
        ensure!(is_error, "{params:?} was answered with {answer:?}");
    }
    // Nonsense in the middle of a test, and streams that belong to nobody.
    for nonsense in [0_u8, 3, 9, 0xff] {
        let mut control = begun(service, b'n')?;
        control.read_exact(&mut [0])?;
        control.write_all(&json("{\"tcp\":true,\"len\":1000,\"time\":10}"))?;
        control.read_exact(&mut [0])?;
        let mut stranger = begun(service, b'x')?;
        let mut answer = Vec::new();
        stranger.read_to_end(&mut answer)?;
        ensure!(answer == [0xff], "a stranger was told {answer:?}");
        let stream = begun(service, b'n')?;
        let mut running = [0; 2];
        control.read_exact(&mut running)?;
        ensure!(running == [1, 2], "not started: {running:?}");
        control.write_all(&[nonsense])?;
        answer.clear();
        control.read_to_end(&mut answer)?;
        ensure!(
            answer.starts_with(&[0xfe, 0, 0, 0, 110]),
            "{nonsense} was answered with {answer:?}"
        );
        let mut stream = stream;
        stream.set_read_timeout(Some(PATIENCE))?;
        ensure!(is_closed(&mut stream)?, "the stream is still open");
    }
    at_rest(&guest)?;
    let aborted = guest.metric("service_aborted_total{service=\"iperf3\"}")?;
    ensure!(aborted == params.len() as u64 + 4, "{aborted} aborted");
    let Ok(report) = client(service, &["-n", "100K"]) else {
        fail!("no test afterwards")
    };
    report.moved(100 << 10)
}
