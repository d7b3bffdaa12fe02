//! `./x selftest`: the board's self-test, run over the network.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::args::{Command, Opt, Parsed};
use crate::error::{Error, Result, at, usage};
use crate::target::{self, ask, authorization};

pub const COMMAND: Command = Command {
    name: "selftest",
    summary: "Have a target test its hardware, and show the results as TAP",
    operands: "TARGET [TEST...]",
    max_operands: 32,
    takes_rest: false,
    options: &[
        Opt::value(
            "--token",
            "TOKEN",
            "admin= of the target; RISTRETTO_TOKEN by default",
        ),
        Opt::switch(
            "--force",
            "also tests that cut the port by which the target is reached",
        ),
        Opt::value("--junit", "FILE", "write the results as JUnit XML, too"),
    ],
    details: "\
TARGET is an address or a name, with :PORT if that is not 80. Without TEST all tests run; `selftest -list` on the target's
serial console lists them. Tests that need the switch's ports for themselves are refused without --force; the target is
out of reach meanwhile, which is waited for.

Exit status: 0 if no test failed, 1 if one did, 2 if the target could not be asked. The token travels in clear.",
    run,
};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Without any answer for so long, the target is lost. A port that was cut comes back in ten seconds, and its address
/// in a few more.
const PATIENCE: Duration = Duration::from_secs(90);

fn run(parsed: &Parsed) -> Result<()> {
    let Some((name, tests)) = parsed.operands.split_first() else {
        return usage("`./x selftest` wants a TARGET");
    };
    let plain = |text: &String| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !tests.iter().all(plain) {
        return usage("no test has such a name");
    }
    let server = target::resolve(name, 80)
        .map_err(|_| Error::Unreachable(format!("{name}: no such target")))?;
    let field = authorization(&target::token(parsed))?;
    let mut path = "/api/v1/selftest".to_owned();
    for test in tests {
        path.push('/');
        path.push_str(test);
    }
    if parsed.has("--force") {
        path.push_str("?force=1");
    }
    let (code, body) = ask(server, &format!("POST {path}"), &field)
        .map_err(|error| Error::Unreachable(format!("http://{server}/: {error}")))?;
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    let Some(job) = answer["job"].as_u64().filter(|_| code == 202) else {
        let why = answer["error"].as_str().unwrap_or(body.trim());
        return Err(Error::Unreachable(format!(
            "the target does not test itself: {why}"
        )));
    };
    let passed = follow(server, job, &field)?;
    if let Some(file) = parsed.value("--junit").map(Path::new) {
        let junit = results(server, job, "junit", &field)?;
        std::fs::write(file, junit).map_err(at(file))?;
    }
    match passed {
        true => Ok(()),
        false => Err(Error::Reported),
    }
}

/// Shows lines as they come, until the last. Whether no test failed.
fn follow(server: SocketAddr, job: u64, field: &str) -> Result<bool> {
    let mut shown = 0;
    let mut passed = true;
    loop {
        let text = results(server, job, "tap", field)?;
        for line in text.lines().skip(shown) {
            println!("{line}");
            passed &= !line.starts_with("not ok");
            shown += 1;
            if line.starts_with("1..") {
                return Ok(passed);
            }
        }
        // Whoever reads this in a pipe wants it now; if nobody reads, so be it.
        let _ = std::io::stdout().flush();
        thread::sleep(LOOK);
    }
}

/// The results so far, waited for while the target is out of reach.
fn results(server: SocketAddr, job: u64, format: &str, field: &str) -> Result<String> {
    let what = format!("GET /api/v1/selftest/{job}?format={format}");
    let start = Instant::now();
    loop {
        let why = match ask(server, &what, field) {
            Ok((200, body)) => return Ok(body),
            Ok((404, body)) => return Err(Error::Unreachable(body.trim().to_owned())),
            Ok((_, body)) => body.trim().to_owned(),
            Err(error) => error.to_string(),
        };
        if start.elapsed() >= PATIENCE {
            return Err(Error::Unreachable(format!("http://{server}/: {why}")));
        }
        thread::sleep(LOOK);
    }
}
