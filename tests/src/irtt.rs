//! irtt's own client against our server.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::check::{Result, ensure, fail};
use crate::clients::{attempt, run};
use crate::machine::{Guest, Machine};
use crate::tap::Tap;
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    test("irtt-defaults", Tier::Quick, defaults),
    test(
        "irtt-each-millisecond-1400-bytes",
        Tier::Quick,
        fast_and_large,
    ),
    test(
        "irtt-what-is-asked-for-is-granted-or-refused",
        Tier::Quick,
        negotiation,
    ),
    test("irtt-over-ipv6", Tier::Quick, over_ipv6),
    test("irtt-malformed", Tier::Quick, malformed),
    test("irtt-sessions-expire", Tier::Ci, expiry),
];

const fn test(name: &'static str, tier: Tier, run: fn(&Context) -> Result) -> Test {
    Test {
        name,
        tier,
        needs: Needs::Tap,
        limit_s: 300,
        run,
    }
}

/// What the client said at the end.
pub struct Report(String);

impl Report {
    /// What follows `label:` in the line that begins with it.
    fn value(&self, label: &str) -> Result<&str> {
        let line = self
            .0
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(label));
        match line {
            Some(rest) => Ok(rest.trim_start_matches(':').trim()),
            None => fail!("the report has no `{label}`: {}", self.0),
        }
    }

    /// Every packet was answered, and the server says so too.
    pub fn all_answered(&self) -> Result<u64> {
        let mut counts = Vec::new();
        for label in ["packets sent/received", "server packets received"] {
            let value = self.value(label)?;
            let pair = value
                .split(' ')
                .next()
                .and_then(|pair| pair.split_once('/'));
            let Some((one, other)) = pair else {
                fail!("{label}: {value}")
            };
            ensure!(one == other && value.contains("0.00%"), "{label}: {value}");
            counts.push(one.to_owned());
        }
        ensure!(
            counts[0] == counts[1],
            "packets and the server's: {counts:?}"
        );
        Ok(counts[0].parse().unwrap_or(0))
    }
}

/// Runs the client, which has to succeed.
pub fn client(service: SocketAddr, options: &[&str]) -> Result<Report> {
    let service = service.to_string();
    let said = run("irtt", &[&["client", "-q"], options, &[&service]].concat())?;
    println!("{said}");
    Ok(Report(said))
}

/// Runs the client, which has to fail, and say why.
fn refused(service: SocketAddr, options: &[&str], why: &str) -> Result {
    let service = service.to_string();
    let args = [&["client", "-q", "-d", "1s"], options, &[&service]].concat();
    let (_, out, err) = attempt("irtt", &args)?;
    let said = format!("{out}{err}");
    ensure!(said.contains(why), "{options:?}: no `{why}` in: {said}");
    Ok(())
}

fn guest(cx: &Context) -> Result<Guest> {
    let mut guest = Machine::new(cx).tap(&Tap::new("tap0")?).boot()?;
    guest.healthy(30)?;
    Ok(guest)
}

/// As it is, but for the minute that it takes.
fn defaults(cx: &Context) -> Result {
    let guest = guest(cx)?;
    let duration = format!("{}s", cx.scaled(5, 60, 60));
    let report = client(guest.services.irtt, &["-d", &duration])?;
    ensure!(report.all_answered()? >= 5, "too few packets");
    // Shown if both stamps came, of either clock.
    for line in [
        "server proc. time",
        "send delay",
        "receive delay",
        "receive IPDV",
    ] {
        report.value(line)?;
    }
    let session = guest.metric("service_opened_total{service=\"irtt\"}")?;
    ensure!(session == 1, "{session} sessions");
    Ok(())
}

fn fast_and_large(cx: &Context) -> Result {
    let guest = guest(cx)?;
    let duration = format!("{}s", cx.scaled(5, 20, 300));
    let options = ["-i", "1ms", "-l", "1400", "-d", &duration];
    let report = client(guest.services.irtt, &options)?;
    let answered = report.all_answered()?;
    ensure!(answered > 1000, "only {answered} packets");
    report.value("server proc. time")?;
    ensure!(
        report.value("packet length")? == "1400 bytes",
        "another length"
    );
    let echoes = guest.metric("service_echoes_total{service=\"irtt\"}")?;
    ensure!(echoes == answered, "{answered} packets, {echoes} echoes");
    Ok(())
}

fn negotiation(cx: &Context) -> Result {
    let guest = guest(cx)?;
    let service = guest.services.irtt;
    for options in [
        &["--stats=none", "--tstamp=none"][..],
        &["--tstamp=send"],
        &["--tstamp=receive", "--clock=wall"],
        &["--tstamp=midpoint", "--clock=monotonic"],
        &["--stats=count"],
        &["--stats=window"],
        &["-l", "1472"],
        &["-l", "16", "--fill=rand"],
        &["--loose", "--dscp=46", "--sfill=rand", "-i", "50us"],
    ] {
        let options = [&["-d", "300ms", "-i", "20ms"], options].concat();
        let report = client(service, &options)?;
        let value = report.value("packets sent/received")?;
        ensure!(value.contains("(0.00% loss)"), "{options:?}: {value}");
    }
    refused(service, &["--hmac=secret"], "no HMAC present")?;
    refused(
        service,
        &["-l", "1473"],
        "server reduced length from 1473 to 1472",
    )?;
    refused(
        service,
        &["-i", "50us"],
        "server increased interval from 50µs to 100µs",
    )?;
    refused(service, &["--dscp=46"], "server doesn't support DSCP")?;
    refused(service, &["--sfill=rand"], "server restricted fill")
}

fn over_ipv6(cx: &Context) -> Result {
    let tap = Tap::new("tap0")?;
    tap.add_address("fd09::1/64")?;
    let mut guest = Machine::new(cx)
        .tap(&tap)
        .append("ip=[fd09::2]::[fd09::1]:64::eth0:off")
        .boot()?;
    guest.healthy(30)?;
    let service: SocketAddr = ([0xfd09, 0, 0, 0, 0, 0, 0, 2], 2112).into();
    let report = client(service, &["-d", "2s", "-i", "20ms", "-l", "1400"])?;
    report.all_answered()?;
    refused(
        service,
        &["-l", "1453"],
        "server reduced length from 1453 to 1452",
    )
}

/// What no client sends gets no answer, is counted, and disturbs nobody.
fn malformed(cx: &Context) -> Result {
    let guest = guest(cx)?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(guest.services.irtt)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let magic = b"\x14\xa7\x5b";
    let requests: Vec<Vec<u8>> = vec![
        b"x".to_vec(),
        b"\x14\xa7\x5b".to_vec(),
        b"\x14\xa7\x5c\x01".to_vec(),
        [&magic[..], b"\x03"].concat(),
        [&magic[..], b"\x01\x02\x00"].concat(),
        [
            &magic[..],
            b"\x01\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        ]
        .concat(),
        [&magic[..], b"\x01\x09\xff\x01"].concat(),
        [&magic[..], b"\x00", &[0xff; 1000]].concat(),
        [&magic[..], b"\x04", &[0xff; 8]].concat(),
        [&magic[..], &[0xff; 1469]].concat(),
    ];
    for request in &requests {
        socket.send(request)?;
        let answer = socket.recv(&mut [0; 2048]);
        ensure!(answer.is_err(), "{request:02x?} was answered: {answer:?}");
    }
    let dropped = guest.metric("service_dropped_total{service=\"irtt\"}")?;
    ensure!(
        dropped == requests.len() as u64,
        "{dropped} of {} dropped",
        requests.len()
    );
    // More sessions than there is room for: the last ones are refused, and it is said.
    let mut refusals = 0;
    for _ in 0..80 {
        socket.send(&[&magic[..], b"\x01\x01\x02"].concat())?;
        let mut answer = [0; 64];
        socket.recv(&mut answer)?;
        refusals += usize::from(answer[3] == 7);
    }
    ensure!(
        refusals == 16,
        "{refusals} of 80 refused, there is room for 64"
    );
    refused(guest.services.irtt, &[], "Terminated due to receive error")?;
    // They were never used, and give way soon.
    std::thread::sleep(Duration::from_secs(6));
    client(guest.services.irtt, &["-d", "1s", "-i", "50ms"])?.all_answered()?;
    Ok(())
}

/// A session that was silent for a minute is over.
fn expiry(cx: &Context) -> Result {
    let guest = guest(cx)?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(guest.services.irtt)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    socket.send(b"\x14\xa7\x5b\x01\x01\x02")?;
    let mut answer = [0; 64];
    socket.recv(&mut answer)?;
    let mut echo = b"\x14\xa7\x5b\x00".to_vec();
    echo.extend(&answer[4..12]);
    echo.extend([0; 16]);
    for (seconds, answered) in [(0, true), (50, true), (62, false)] {
        std::thread::sleep(Duration::from_secs(seconds));
        socket.send(&echo)?;
        let outcome = socket.recv(&mut answer);
        ensure!(
            outcome.is_ok() == answered,
            "after {seconds} s: {outcome:?}"
        );
    }
    Ok(())
}
