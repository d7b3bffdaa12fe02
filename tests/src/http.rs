//! HTTP over the wire: every page, connections that stay, and every way to be refused.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use crate::check::{During, Result, ensure, fail};
use crate::clients::{connect, curl, get, is_closed, read_answer, run};
use crate::machine::{Guest, Machine};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    test("http-pages", pages),
    test("http-metrics-format", metrics_format),
    test("http-head", head),
    test("http-keep-alive", keep_alive),
    test("http-pipelining", pipelining),
    test("http-refusals", refusals),
    test("http-bodies", bodies),
    test("http-slow-header-gets-408", slow_header),
    test("http-byte-by-byte", byte_by_byte),
];

const fn test(name: &'static str, run: fn(&Context) -> Result) -> Test {
    Test {
        name,
        tier: Tier::Quick,
        needs: Needs::Qemu,
        limit_s: 180,
        run,
    }
}

fn boot(cx: &Context) -> Result<Guest> {
    let mut guest = Machine::new(cx)
        .user()?
        .append("hostname=httptest")
        .boot()?;
    guest.healthy(30)?;
    Ok(guest)
}

fn pages(cx: &Context) -> Result {
    let guest = boot(cx)?;
    let url = |path: &str| format!("http://{}{path}", guest.services.http);
    let hello = curl(&[&url("/hello")])?;
    ensure!(hello == "Hello, world!", "/hello: {hello:?}");
    curl(&[&url("/healthz")])?;
    let page = curl(&[&url("/")])?;
    for part in [
        "<!doctype html>",
        "viewport",
        "httptest",
        "linux,dummy-virt",
        "eth0",
        "10.0.2.15",
    ] {
        let found = page.to_lowercase().contains(part);
        ensure!(found, "the page has no `{part}`: {page}");
    }
    for asset in ["src=\"http", "href=\"http://cdn", "@import"] {
        ensure!(!page.contains(asset), "the page fetches something: {asset}");
    }
    let status = curl(&[&url("/api/v1/status")])?;
    // Another reader of JSON than ours.
    let script = "import json,sys; s=json.loads(sys.argv[1]); i=s['interfaces'][0]; \
        assert s['hostname']=='httptest', s; assert i['name']=='eth0' and i['link']['up'], i; \
        assert any(a['cidr']=='10.0.2.15/24' and a['origin']=='dhcp' for a in i['addresses']), i; \
        assert i['counters']['rx_frames']>0, i; assert s['uptime_seconds']>0, s";
    run("python3", &["-c", script, &status]).during("/api/v1/status")?;
    let answer = get(guest.services.http, "/")?;
    ensure!(
        answer.field("Date").is_none(),
        "there is a Date, from a machine without a clock"
    );
    let kind = answer.field("Content-Type").unwrap_or_default();
    ensure!(kind.starts_with("text/html"), "the page is {kind:?}");
    Ok(())
}

/// What the text format 0.0.4 asks for: HELP and TYPE before samples, families in one piece, no sample twice.
fn metrics_format(cx: &Context) -> Result {
    let guest = boot(cx)?;
    let answer = get(guest.services.http, "/metrics")?;
    let kind = answer.field("Content-Type").unwrap_or_default();
    ensure!(
        kind.starts_with("text/plain; version=0.0.4"),
        "Content-Type is {kind:?}"
    );
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    ensure!(text.ends_with('\n'), "the last line does not end");
    let (mut families, mut samples) = (Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let family = rest.split(' ').next().unwrap_or_default();
            ensure!(!families.contains(&family), "{family} comes in two pieces");
            families.push(family);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let Some((family, kind)) = rest.split_once(' ') else {
                fail!("{line}")
            };
            ensure!(
                families.last() == Some(&family),
                "TYPE {family} is not below its HELP"
            );
            let is_counter = family.ends_with("_total");
            ensure!((kind == "counter") == is_counter, "{family} is a {kind}");
        } else {
            let Some((sample, value)) = line.rsplit_once(' ') else {
                fail!("{line}")
            };
            let name = sample.split('{').next().unwrap_or_default();
            ensure!(
                families.last() == Some(&name),
                "{sample} is not below its family"
            );
            ensure!(value.parse::<f64>().is_ok(), "{line}: not a number");
            ensure!(!samples.contains(&sample), "{sample} twice");
            samples.push(sample);
        }
    }
    ensure!(samples.len() > 20, "only {} samples", samples.len());
    Ok(())
}

fn head(cx: &Context) -> Result {
    let guest = boot(cx)?;
    for path in ["/", "/hello", "/healthz", "/api/v1/status", "/nothing"] {
        let mut stream = connect(guest.services.http)?;
        let request = format!(
            "HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let answer = read_answer(&mut stream, true)?;
        let code = if path == "/nothing" { 404 } else { 200 };
        ensure!(answer.code == code, "HEAD {path}: {}", answer.head);
        ensure!(
            answer.field("Content-Length").is_some(),
            "HEAD {path}: {}",
            answer.head
        );
        // If there were content, it would stand where the next answer is expected.
        let next = read_answer(&mut stream, false).during(format!("after HEAD {path}"))?;
        ensure!(next.body == b"Hello, world!", "after HEAD {path}: {next:?}");
    }
    Ok(())
}

fn keep_alive(cx: &Context) -> Result {
    let guest = boot(cx)?;
    let mut stream = connect(guest.services.http)?;
    for number in 0..200 {
        stream.write_all(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let answer = read_answer(&mut stream, false).during(format!("request {number}"))?;
        ensure!(
            answer.code == 200 && answer.body == b"Hello, world!",
            "{answer:?}"
        );
    }
    stream.write_all(b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    read_answer(&mut stream, false)?;
    ensure!(
        is_closed(&mut stream)?,
        "open although the client asked to close"
    );
    // HTTP/1.0 without keep-alive.
    let mut stream = connect(guest.services.http)?;
    stream.write_all(b"GET /hello HTTP/1.0\r\n\r\n")?;
    let answer = read_answer(&mut stream, false)?;
    ensure!(answer.body == b"Hello, world!", "{answer:?}");
    ensure!(is_closed(&mut stream)?, "open after HTTP/1.0");
    // And somebody else's idea of keep-alive.
    let url = format!("http://{}/hello", guest.services.http);
    let said = curl(&["-w", "%{num_connects} ", &url, &url, &url])?;
    let expected = "Hello, world!1 Hello, world!0 Hello, world!0 ";
    ensure!(said == expected, "curl's connections: {said}");
    Ok(())
}

fn pipelining(cx: &Context) -> Result {
    let guest = boot(cx)?;
    let paths = [
        "/hello",
        "/",
        "/metrics",
        "/nothing",
        "/healthz",
        "/api/v1/status",
        "/hello",
    ];
    let codes = [200, 200, 200, 404, 200, 200, 200];
    let requests: String = paths
        .iter()
        .map(|path| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .collect();
    let mut stream = connect(guest.services.http)?;
    for _ in 0..10 {
        stream.write_all(requests.as_bytes())?;
        for (path, code) in paths.iter().zip(codes) {
            let answer = read_answer(&mut stream, false).during(*path)?;
            ensure!(answer.code == code, "{path}: {}", answer.head);
        }
    }
    Ok(())
}

/// A request, the code it deserves, and whether the connection has to close.
const REFUSALS: &[(&str, &str, u16, bool)] = &[
    (
        "unknown path",
        "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        404,
        false,
    ),
    (
        "known path, other method",
        "POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        405,
        false,
    ),
    (
        "DELETE",
        "DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        405,
        false,
    ),
    (
        "unknown method",
        "BREW /hello HTTP/1.1\r\nHost: localhost\r\n\r\n",
        501,
        true,
    ),
    ("no Host", "GET /hello HTTP/1.1\r\n\r\n", 400, true),
    (
        "two Hosts",
        "GET /hello HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        400,
        true,
    ),
    (
        "bad Host",
        "GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n",
        400,
        true,
    ),
    (
        "HTTP/2.0",
        "GET /hello HTTP/2.0\r\nHost: localhost\r\n\r\n",
        505,
        true,
    ),
    (
        "no version",
        "GET /hello\r\nHost: localhost\r\n\r\n",
        400,
        true,
    ),
    ("rubbish", "\x16\x03\x01\x02\r\n\r\n", 400, true),
    (
        "conflicting lengths",
        "POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        400,
        true,
    ),
    (
        "length and chunks",
        "POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        true,
    ),
    (
        "negative length",
        "POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        400,
        true,
    ),
    (
        "length with a plus",
        "POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\na",
        400,
        true,
    ),
    (
        "length beyond numbers",
        "POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        400,
        true,
    ),
    (
        "bare CR",
        "GET /hello HTTP/1.1\r\nHost: localhost\rX: y\r\n\r\n",
        400,
        true,
    ),
    ("bare LF", "GET /hello HTTP/1.1\nHost: x\n\n", 400, true),
    (
        "folded field",
        "GET /hello HTTP/1.1\r\nHost: localhost\r\nA: b\r\n c\r\n\r\n",
        400,
        true,
    ),
    (
        "space before colon",
        "GET /hello HTTP/1.1\r\nHost : x\r\n\r\n",
        400,
        true,
    ),
    (
        "NUL in a field",
        "GET /hello HTTP/1.1\r\nHost: localhost\r\nA: \0\r\n\r\n",
        400,
        true,
    ),
    (
        "chunked is not last",
        "POST /hello HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        400,
        true,
    ),
    (
        "unknown coding",
        "POST /hello HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        501,
        true,
    ),
    (
        "bad chunk",
        "POST /hello HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        400,
        true,
    ),
    (
        "too much content",
        "POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n",
        413,
        true,
    ),
];

fn refusals(cx: &Context) -> Result {
    let guest = boot(cx)?;
    for (what, request, code, closes) in REFUSALS {
        refused(
            guest.services.http,
            what,
            request.as_bytes(),
            *code,
            *closes,
        )?;
    }
    let long = |len: usize| "a".repeat(len);
    let request = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", long(5000));
    refused(
        guest.services.http,
        "long target",
        request.as_bytes(),
        414,
        true,
    )?;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nA: {}\r\n\r\n",
        long(7000)
    );
    refused(
        guest.services.http,
        "long field",
        request.as_bytes(),
        431,
        true,
    )?;
    let fields: String = (0..100).map(|number| format!("A{number}: b\r\n")).collect();
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    refused(
        guest.services.http,
        "many fields",
        request.as_bytes(),
        431,
        true,
    )?;
    let allow = {
        let mut stream = connect(guest.services.http)?;
        stream.write_all(b"PUT /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")?;
        read_answer(&mut stream, false)?
    };
    let methods = allow.field("Allow").unwrap_or_default();
    ensure!(
        methods.contains("GET") && methods.contains("HEAD"),
        "405 with Allow {methods:?}"
    );
    let counted = guest.metric("http_responses_total{code=\"400\"}")?;
    let sent = REFUSALS.iter().filter(|(.., code, _)| *code == 400).count() as u64;
    ensure!(
        counted == sent,
        "{sent} answers with 400, {counted} counted"
    );
    Ok(())
}

fn refused(service: SocketAddr, what: &str, request: &[u8], code: u16, closes: bool) -> Result {
    let mut stream = connect(service)?;
    stream.write_all(request)?;
    let answer = read_answer(&mut stream, false).during(what)?;
    ensure!(
        answer.code == code,
        "{what}: {code} is due, {:?} came",
        answer.head
    );
    if closes {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let closed = is_closed(&mut stream).during(what)?;
        return if closed {
            Ok(())
        } else {
            Err(format!("{what}: still open after {code}").into())
        };
    }
    stream.write_all(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let next = read_answer(&mut stream, false).during(format!("after {what}"))?;
    ensure!(next.body == b"Hello, world!", "after {what}: {next:?}");
    Ok(())
}

/// Content that nobody wants is skipped, exactly.
fn bodies(cx: &Context) -> Result {
    let guest = boot(cx)?;
    let mut stream = connect(guest.services.http)?;
    let content = "x".repeat(20_000);
    let requests = [
        format!(
            "POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000\r\n\r\n{content}"
        ),
        format!(
            "POST /hello HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4e20\r\n{content}\r\n3;a=b\r\nabc\r\n0\r\nT: u\r\n\r\n"
        ),
    ];
    for request in requests {
        stream.write_all(request.as_bytes())?;
        let answer = read_answer(&mut stream, false)?;
        ensure!(answer.code == 405, "{answer:?}");
        stream.write_all(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let next = read_answer(&mut stream, false).during("after content")?;
        ensure!(next.body == b"Hello, world!", "after content: {next:?}");
    }
    stream.write_all(
        b"POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
    )?;
    let first = read_answer(&mut stream, false)?;
    if first.code == 100 {
        stream.write_all(b"abc")?;
        let answer = read_answer(&mut stream, false)?;
        ensure!(answer.code == 405, "{answer:?}");
    } else {
        ensure!(first.code == 405, "{first:?}");
    }
    Ok(())
}

fn slow_header(cx: &Context) -> Result {
    let guest = boot(cx)?;
    let mut stream = connect(guest.services.http)?;
    stream.write_all(b"GET /hello HTTP/1.1\r\nHost:")?;
    stream.set_read_timeout(Some(Duration::from_secs(40)))?;
    let answer = read_answer(&mut stream, false)?;
    ensure!(answer.code == 408, "{answer:?}");
    ensure!(is_closed(&mut stream)?, "open after 408");
    Ok(())
}

fn byte_by_byte(cx: &Context) -> Result {
    let guest = boot(cx)?;
    let mut stream = connect(guest.services.http)?;
    for byte in b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n" {
        stream.write_all(&[*byte])?;
        std::thread::sleep(Duration::from_millis(2));
    }
    let answer = read_answer(&mut stream, false)?;
    ensure!(answer.body == b"Hello, world!", "{answer:?}");
    Ok(())
}
