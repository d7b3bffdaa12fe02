//! The commands of the bench over HTTP: every one of them, whom they answer, and what they are asked in vain.

use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::check::{During, Failure, Result, ensure, fail};
use crate::clients::{Answer, connect, get, read_answer, run};
use crate::espressobin::board::Board;
use crate::espressobin::services::served;
use crate::machine::{Guest, Machine};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    test("api-commands", commands),
    test("api-espressobin", espressobin),
    test("api-refusals", refusals),
    test("api-access", access),
    test("api-hosts", hosts),
    test("api-private", private),
    test("api-turns", turns),
];

/// What `admin=` says.
pub const TOKEN: &str = "s3cret-Token";
/// What who has it says.
pub const BEARER: &str = "Authorization: Bearer s3cret-Token";

const fn test(name: &'static str, run: fn(&Context) -> Result) -> Test {
    Test {
        name,
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 240,
        run,
    }
}

fn boot(cx: &Context, bootargs: &str) -> Result<Guest> {
    let mut guest = Machine::new(cx).user()?.append(bootargs).boot()?;
    guest.healthy(30)?;
    Ok(guest)
}

fn with_token(cx: &Context) -> Result<Guest> {
    boot(cx, &format!("hostname=benchtest admin={TOKEN}"))
}

/// What curl gets: the code, and JSON.
pub fn curl(http: SocketAddr, path: &str, args: &[&str]) -> Result<(u16, Value)> {
    let url = format!("http://{http}{path}");
    let fixed = ["-sSg", "--max-time", "60", "--noproxy", "*", "--path-as-is"];
    let said = run(
        "curl",
        &[&fixed[..], &["-w", "\n%{http_code}"], args, &[&url]].concat(),
    )?;
    let (body, code) = said.rsplit_once('\n').unwrap_or_default();
    let code = code.parse().unwrap_or(0);
    let json = serde_json::from_str(body);
    let json = json.map_err(|error| Failure::Failed(format!("{path}: {error} in {body:?}")))?;
    Ok((code, json))
}

/// A request with a line and fields of its own.
fn ask(http: SocketAddr, line: &str, fields: &str) -> Result<Answer> {
    let mut stream = connect(http)?;
    stream.write_all(format!("{line} HTTP/1.1\r\n{fields}\r\n").as_bytes())?;
    read_answer(&mut stream, line.starts_with("HEAD"))
}

/// The error that an answer tells: every refusal is JSON.
fn error(answer: &Answer) -> Result<String> {
    let json: Value = serde_json::from_slice(&answer.body)
        .map_err(|error| Failure::Failed(format!("{error}: {answer:?}")))?;
    match json["error"].as_str() {
        Some(error) if !error.is_empty() => Ok(error.into()),
        _ => fail!("no error in {answer:?}"),
    }
}

/// Name and access of every command.
fn listed(http: SocketAddr) -> Result<Vec<(String, String)>> {
    let (code, list) = curl(http, "/api/v1/", &[])?;
    ensure!(code == 200, "{code}: {list}");
    ensure!(
        curl(http, "/api/v1/help", &[])? == (200, list.clone()),
        "{list}"
    );
    let rows = list["commands"].as_array().map(Vec::as_slice);
    let mut names = Vec::new();
    for row in rows.unwrap_or_default() {
        let Some(name) = row["command"].as_str() else {
            fail!("{row}")
        };
        let (code, help) = curl(http, &format!("/api/v1/help/{name}"), &[])?;
        ensure!(code == 200 && help["command"] == name, "{code}: {help}");
        let access = help["access"].as_str().unwrap_or_default();
        names.push((name.into(), access.into()));
    }
    ensure!(names.len() >= 10, "only {names:?}");
    Ok(names)
}

/// Each command answers whoever may ask with a result or with what is wrong, and nobody else; rubbish gets none far.
/// How many answered with a result.
fn every_command(http: SocketAddr) -> Result<usize> {
    let (mut answered, mut denied) = (0, 0);
    for (name, access) in listed(http)? {
        let path = format!("/api/v1/{name}");
        let (bare, said) = curl(http, &path, &[])?;
        let (code, result) = curl(http, &path, &["-H", BEARER])?;
        let has_error = result["error"].is_string();
        ensure!((code == 200) != has_error, "{path}: {code}, {result}");
        match code {
            // What only a POST may do.
            405 => ensure!([401, 405].contains(&bare), "{path}: {bare}, {said}"),
            200 | 400 | 403 | 404 | 500 if access == "anybody" => {
                ensure!([code, 401].contains(&bare), "{path}: {bare}, {said}");
            }
            200 | 400 | 403 | 404 | 500 => ensure!(bare == 401, "{path}: {bare}, {said}"),
            _ => fail!("{path}: {code}, {result}"),
        }
        answered += usize::from(code == 200);
        denied += usize::from(bare != code);
        for rubbish in [
            "/-no-such?option=1",
            "/a/b/c/d/e/f/g",
            "?=",
            "/%00",
            "/%80",
            "/",
        ] {
            // A page of this name knows no options.
            if name == "latency" && rubbish.starts_with('?') {
                continue;
            }
            let line = format!("GET {path}{rubbish}");
            let answer = ask(http, &line, &format!("Host: localhost\r\n{BEARER}\r\n"))?;
            let refused = [400, 403, 404, 405].contains(&answer.code);
            ensure!(refused, "{line}: {answer:?}");
            error(&answer).during(line)?;
        }
    }
    ensure!(denied >= 1, "nobody is denied anything");
    Ok(answered)
}

fn commands(cx: &Context) -> Result {
    let guest = with_token(cx)?;
    let http = guest.services.http;
    let answered = every_command(http)?;
    ensure!(answered >= 6, "only {answered} commands answered");
    // Operands and options, escaped or not, in path and query.
    for (path, expected) in [
        ("/api/v1/link/eth0", "links"),
        ("/api/v1/%6cink/%65th0", "links"),
        ("/api/v1/stats?d", "counters"),
        ("/api/v1/stats/eth0?d", "counters"),
        ("/api/v1/dt/%2Fcpus", "properties"),
        ("/api/v1/dt/%2fcpus/", ""),
        ("/api/v1/dt/a+b", ""),
    ] {
        let (code, result) = curl(http, path, &["-H", BEARER])?;
        let found = !result[expected].is_null();
        ensure!((code == 200) == found, "{path}: {code}, {result}");
        ensure!(found || code == 404, "{path}: {code}, {result}");
    }
    let (code, result) = curl(http, "/api/v1/link/nope%22%5C", &[])?;
    ensure!(code == 404 && result["error"].is_string(), "{result}");
    served(&guest.services)
}

/// The same on the board, which has more to tell.
fn espressobin(cx: &Context) -> Result {
    let mut board = Board::new(cx).append(&format!("admin={TOKEN}")).boot()?;
    board.leases(&[0])?;
    let services = board.services(0)?;
    let answered = every_command(services.http)?;
    ensure!(answered >= 6, "only {answered} commands answered");
    served(&services)?;
    board.sound()
}

/// What is wrong with a request is said in JSON, and the connection goes on where it can.
fn refusals(cx: &Context) -> Result {
    let guest = with_token(cx)?;
    let http = guest.services.http;
    let long = format!("GET /api/v1/dt/{}", "x".repeat(300));
    let longest = format!("GET /api/v1/dt/{}", "x".repeat(245));
    let many = format!("GET /api/v1/link{}", "/x".repeat(40));
    let fields = format!("Host: localhost\r\n{BEARER}\r\n");
    let cases: [(&str, u16, &str); 16] = [
        ("GET /api/v1/nope", 404, ""),
        ("GET /api/v1/link/", 404, ""),
        ("GET /api/v1//link", 404, ""),
        ("GET /api%2fv1/link", 404, ""),
        ("GET /api/v2/link", 404, ""),
        ("GET /api/v1/link/a/b", 400, ""),
        ("GET /api/v1/link?j", 400, ""),
        (&many, 400, ""),
        (&long, 414, ""),
        (&longest, 404, ""),
        ("GET /api/v1/link/%c3%28", 400, ""),
        ("GET /api/v1/link/%0d%0aX:%20y", 400, ""),
        ("PUT /api/v1/link", 405, "GET, HEAD, POST"),
        ("GET /api/v1/reboot", 405, "POST"),
        ("HEAD /api/v1/reboot", 405, "POST"),
        ("DELETE /api/v1/reboot", 405, "POST"),
    ];
    for (line, code, allow) in cases {
        let answer = ask(http, line, &fields)?;
        ensure!(answer.code == code, "{line}: {answer:?}");
        ensure!(
            answer.field("Allow").unwrap_or_default() == allow,
            "{line}: {answer:?}"
        );
        if !line.starts_with("HEAD") {
            error(&answer).during(line)?;
        }
    }
    // One connection: commands, their heads, their errors and other pages in the order they were asked for.
    let asked: [(&str, u16); 9] = [
        ("GET /api/v1/link", 200),
        ("GET /hello", 200),
        ("HEAD /api/v1/link", 200),
        ("GET /api/v1/link/nope", 404),
        ("GET /api/v1/log", 200),
        ("GET /api/v1/nope", 404),
        ("HEAD /api/v1/link/a/b", 400),
        ("GET /api/v1/status", 200),
        ("GET /api/v1/info", 200),
    ];
    let mut stream = connect(http)?;
    let request = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let requests: String = asked.map(|(line, _)| request(line)).concat();
    stream.write_all(requests.as_bytes())?;
    for (line, code) in asked {
        let to_head = line.starts_with("HEAD");
        let answer = read_answer(&mut stream, to_head).during(line)?;
        ensure!(answer.code == code, "{line}: {answer:?}");
        let kept = answer.field("Connection").is_none();
        ensure!(kept, "{line}: {answer:?}");
        if line.contains("/api/") && !to_head {
            let json = serde_json::from_slice::<Value>(&answer.body);
            ensure!(json.is_ok(), "{line}: {answer:?}");
        }
    }
    // A body nobody reads, in a request of two parts; and a client of HTTP/1.0.
    let head = format!("POST /api/v1/link HTTP/1.1\r\n{fields}Content-Length: 5\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    thread::sleep(Duration::from_millis(50));
    stream.write_all(b"hello")?;
    ensure!(read_answer(&mut stream, false)?.code == 200, "with a body");
    let mut old = connect(http)?;
    old.write_all(b"GET /api/v1/link HTTP/1.0\r\n\r\n")?;
    let answer = read_answer(&mut old, false)?;
    ensure!(answer.code == 200, "HTTP/1.0: {answer:?}");
    served(&guest.services)
}

fn access(cx: &Context) -> Result {
    // Without a token nobody may do more than read.
    let open = boot(cx, "")?;
    let http = open.services.http;
    for (line, code) in [
        ("GET /api/v1/link", 200),
        ("GET /api/v1/dt", 403),
        ("POST /api/v1/link", 403),
        ("POST /api/v1/reboot", 403),
    ] {
        for fields in ["Host: a.b\r\n", "Host: localhost\r\n"] {
            let code = if fields.contains("a.b") { 421 } else { code };
            for more in ["", BEARER] {
                let fields = format!(
                    "{fields}{more}{}",
                    if more.is_empty() { "" } else { "\r\n" }
                );
                let answer = ask(http, line, &fields)?;
                ensure!(answer.code == code, "{line} without admin=: {answer:?}");
            }
        }
    }
    drop(open);

    let mut guest = Machine::new(cx)
        .id(1)
        .user()?
        .append(&format!("admin={TOKEN}"))
        .boot()?;
    guest.healthy(30)?;
    let http = guest.services.http;
    let right = format!("{BEARER}\r\n");
    let wrong = "Authorization: Bearer s3cret-Toke\r\n";
    let own = format!("{right}Origin: http://{http}\r\n");
    let foreign = format!("{right}Origin: http://evil.example\r\n");
    let cases: [(&str, &str, u16); 15] = [
        ("GET /api/v1/link", "", 200),
        ("GET /api/v1/link", &right, 200),
        ("GET /api/v1/link", wrong, 401),
        ("GET /api/v1/dt", "", 401),
        ("GET /api/v1/dt", "Authorization: Basic eA==\r\n", 401),
        ("GET /api/v1/dt", wrong, 401),
        ("GET /api/v1/dt", &right, 200),
        ("HEAD /api/v1/dt", &right, 200),
        ("POST /api/v1/link", "", 401),
        ("POST /api/v1/link", &right, 200),
        ("POST /api/v1/link", &own, 200),
        ("POST /api/v1/link", &foreign, 403),
        ("POST /api/v1/reboot", "", 401),
        ("POST /api/v1/reboot", wrong, 401),
        ("POST /api/v1/reboot", &foreign, 403),
    ];
    for (line, fields, code) in cases {
        let answer = ask(http, line, &format!("Host: {http}\r\n{fields}"))?;
        ensure!(answer.code == code, "{line} with {fields:?}: {answer:?}");
        let wants = answer.field("WWW-Authenticate");
        ensure!(
            wants.is_some_and(|how| how.starts_with("Bearer")) == (code == 401),
            "{line}: {answer:?}"
        );
    }
    // Who guesses is put off, the owner, too, for a moment; who reads is not.
    let guess = |number: usize| {
        let fields = format!("Host: {http}\r\nAuthorization: Bearer {number}\r\n");
        ask(http, "GET /api/v1/dt", &fields)
    };
    let answers: Vec<Answer> = (0..30).map(guess).collect::<Result<_>>()?;
    let late = answers.iter().find(|answer| answer.code == 429);
    ensure!(
        late.is_some_and(|answer| answer.field("Retry-After").is_some()),
        "{answers:?}"
    );
    ensure!(
        get(http, "/api/v1/link")?.code == 200,
        "who reads is put off"
    );
    let fields = format!("Host: {http}\r\n{right}");
    let begin = Instant::now();
    while ask(http, "GET /api/v1/dt", &fields)?.code != 200 {
        ensure!(
            begin.elapsed() < Duration::from_secs(60),
            "the owner is kept out"
        );
        thread::sleep(Duration::from_millis(500));
    }
    // And now really: whoever asks is told, and then the machine starts anew, with what it was told once more.
    let mark = guest.mark();
    let answer = ask(http, "POST /api/v1/reboot", &fields)?;
    ensure!(
        answer.code == 202 && answer.body == b"{\"rebooting\":true}\n",
        "{answer:?}"
    );
    guest.line_from(mark, "reboot: asked for", 30)?;
    guest.line_from(mark, "Ristretto ", 30)?;
    guest.line_from(mark, "sealed", 30)?;
    ensure!(
        !guest.console()[mark..].contains("crash record"),
        "a reboot is no crash"
    );
    guest.healthy(60)
}

/// A name that is not ours is told so on every page, whatever it resolves to.
fn hosts(cx: &Context) -> Result {
    let guest = with_token(cx)?;
    let http = guest.services.http;
    let ours = [
        "10.0.2.15",
        "127.0.0.1:8080",
        "[::1]",
        "[fe80::1]:80",
        "localhost",
        "LOCALHOST:1",
        "benchtest",
        "BenchTest.local",
        "benchtest.local.:80",
    ];
    let foreign = [
        "evil.example",
        "evil.example:80",
        "benchtest.evil.example",
        "benchtest.local.evil.example",
        "10.0.2.15.evil.example",
        "localhost.evil.example",
        "evil.local",
        "0x7f000001",
        "2130706433",
        "10.0.2.15.",
        "benchtest.lan",
    ];
    let pages = [
        "/",
        "/hello",
        "/healthz",
        "/metrics",
        "/api/v1/status",
        "/api/v1/link",
        "/nope",
    ];
    for (host, is_ours) in ours
        .map(|it| (it, true))
        .into_iter()
        .chain(foreign.map(|it| (it, false)))
    {
        for page in pages {
            let answer = ask(http, &format!("GET {page}"), &format!("Host: {host}\r\n"))?;
            ensure!(
                (answer.code != 421) == is_ours,
                "{page} for {host}: {answer:?}"
            );
        }
        // A token does not help.
        let answer = ask(
            http,
            "GET /api/v1/dt",
            &format!("Host: {host}\r\n{BEARER}\r\n"),
        )?;
        let code = if is_ours { 200 } else { 421 };
        ensure!(answer.code == code, "{host}: {answer:?}");
    }
    let foreign = ask(http, "GET http://evil.example/hello", "Host: localhost\r\n")?;
    ensure!(foreign.code == 421, "{foreign:?}");
    let rebound = run(
        "curl",
        &[
            "-sS",
            "--noproxy",
            "*",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--resolve",
            &format!("evil.example:{}:127.0.0.1", http.port()),
            &format!("http://evil.example:{}/hello", http.port()),
        ],
    )?;
    ensure!(rebound == "421", "rebound: {rebound}");
    Ok(())
}

/// `public=off`: nothing but a sign of life without the token.
fn private(cx: &Context) -> Result {
    let guest = boot(cx, &format!("public=off admin={TOKEN}"))?;
    let http = guest.services.http;
    let fields = "Host: localhost\r\n";
    let with = format!("{fields}{BEARER}\r\n");
    for page in ["/hello", "/healthz"] {
        ensure!(get(http, page)?.code == 200, "{page}");
    }
    for page in [
        "/",
        "/metrics",
        "/api/v1/status",
        "/api/v1/latency",
        "/api/v1/",
        "/api/v1/link",
        "/api/v1/log",
        "/metrics?x",
    ] {
        for method in ["GET", "HEAD"] {
            let line = format!("{method} {page}");
            let answer = ask(http, &line, fields)?;
            ensure!(answer.code == 401, "{line}: {answer:?}");
            ensure!(
                answer.field("WWW-Authenticate").is_some(),
                "{line}: {answer:?}"
            );
            let answer = ask(http, &line, &with)?;
            ensure!(answer.code == 200, "{line} with the token: {answer:?}");
        }
    }
    drop(guest);
    // With nobody who could have a token, nobody reads.
    let mut locked = Machine::new(cx).id(1).user()?.append("public=off").boot()?;
    locked.healthy(30)?;
    let answer = ask(locked.services.http, "GET /metrics", &with)?;
    ensure!(answer.code == 403, "public=off without admin=: {answer:?}");
    ensure!(get(locked.services.http, "/hello")?.code == 200, "/hello");
    Ok(())
}

/// Many at once: everybody has their turn, and nobody else waits for them.
fn turns(cx: &Context) -> Result {
    let guest = with_token(cx)?;
    let services = &guest.services;
    let http = services.http;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..16)
            .map(|client| {
                scope.spawn(move || -> Result {
                    let mut stream = connect(http)?;
                    for round in 0..20 {
                        let path = ["link", "log", "stats", "help", "dt"][(client + round) % 5];
                        let request = format!(
                            "GET /api/v1/{path} HTTP/1.1\r\nHost: localhost\r\n{BEARER}\r\n\r\n"
                        );
                        stream.write_all(request.as_bytes())?;
                        let answer = read_answer(&mut stream, false)?;
                        let keys = ["links", "lines", "counters", "commands", "path"];
                        let json: Value = serde_json::from_slice(&answer.body)
                            .map_err(|error| Failure::Failed(format!("{error}: {answer:?}")))?;
                        let key = keys[(client + round) % 5];
                        ensure!(
                            answer.code == 200 && !json[key].is_null(),
                            "{path}: {answer:?}"
                        );
                    }
                    Ok(())
                })
            })
            .collect();
        (0..10).try_for_each(|_| served(services))?;
        for client in clients {
            match client.join() {
                Ok(result) => result?,
                Err(_) => fail!("a client panicked"),
            }
        }
        Ok::<(), Failure>(())
    })?;
    // A command that takes half a minute ends when who asked for it has left; meanwhile everything else goes on.
    let mut leaving = connect(http)?;
    let line = "POST /api/v1/ping/10.0.2.2?n=6&i=5000 HTTP/1.1";
    let request = format!("{line}\r\nHost: localhost\r\n{BEARER}\r\n\r\n");
    leaving.write_all(request.as_bytes())?;
    thread::sleep(Duration::from_millis(500));
    served(services)?;
    ensure!(get(http, "/api/v1/status")?.code == 200, "a page waits");
    drop(leaving);
    let begin = Instant::now();
    let answer = get(http, "/api/v1/link")?;
    let took = begin.elapsed();
    ensure!(
        answer.code == 200 && took < Duration::from_secs(5),
        "after {took:?}: {answer:?}"
    );
    Ok(())
}
