//! Clients: other people's programs, and plain sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::check::{During, Failure, Result, ensure, fail};

/// How long a client waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a program that has to succeed. Returns what it wrote to standard output.
///
/// # Errors
///
/// [`Failure::Skipped`] if it is not installed.
pub fn run(program: &str, args: &[&str]) -> Result<String> {
    let (success, out, err) = attempt(program, args)?;
    let said = if err.trim().is_empty() { &out } else { &err };
    let said = said.trim().replace('\n', " | ");
    ensure!(success, "{program} {} failed: {said}", args.join(" "));
    Ok(out)
}

/// Runs a program that may fail. Returns whether it succeeded, and its standard output and error.
pub fn attempt(program: &str, args: &[&str]) -> Result<(bool, String, String)> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| missing(program, &error))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    ))
}

/// A program in the background, killed when dropped.
pub struct Background(Child);

impl Background {
    /// Starts it, with its output in the test's log.
    pub fn start(program: &str, args: &[&str]) -> Result<Self> {
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", program])
            .args(args)
            .stdin(Stdio::null())
            .spawn();
        child.map(Self).map_err(|error| missing(program, &error))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn missing(program: &str, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::NotFound => Failure::Skipped(format!("{program} is not installed")),
        _ => Failure::Failed(format!("{program}: {error}")),
    }
}

/// Runs a script of ours with Debian's Python, which has scapy. Returns what it printed, which is logged too.
pub fn scapy(script: &str, args: &[&str]) -> Result<String> {
    const SCAPY: &str = "/usr/lib/python3/dist-packages/scapy";
    if !std::path::Path::new(SCAPY).exists() {
        return Err(Failure::Skipped("python3-scapy is not installed".into()));
    }
    let script = format!("{}/scapy/{script}.py", env!("CARGO_MANIFEST_DIR"));
    let said = run("/usr/bin/python3", &[&[script.as_str()], args].concat())?;
    println!("{}", said.trim());
    Ok(said)
}

/// Pings so often, in a hurry, with so many bytes; all have to be answered.
pub fn ping(address: &str, count: usize, size: usize) -> Result {
    let (count_text, size_text) = (count.to_string(), size.to_string());
    let limit_s = (10 + count / 50).to_string();
    let args = [
        "-q",
        "-n",
        "-i",
        "0.002",
        "-w",
        &limit_s,
        "-c",
        &count_text,
        "-s",
        &size_text,
        address,
    ];
    let said = run("ping", &args)?;
    // With a deadline ping goes on sending until it has `count` answers. Without one it leaves two round trips after the
    // last request, and on a busy host answers come later than that.
    let number = |word: &str| {
        let before = said.split(word).next().unwrap_or_default();
        before
            .rsplit([' ', ',', '\n'])
            .find_map(|text| text.parse::<usize>().ok())
    };
    let (sent, answered) = (number(" packets transmitted"), number(" received"));
    ensure!(
        answered == Some(count) && sent.is_some_and(|sent| sent <= count + count.min(3)),
        "ping {address} with {size} bytes: {}",
        said.trim()
    );
    Ok(())
}

/// Runs curl and returns the body. `--fail`: codes from 400 on are failures.
pub fn curl(args: &[&str]) -> Result<String> {
    run(
        "curl",
        &[
            &["-sS", "--fail", "--max-time", "20", "--noproxy", "*"],
            args,
        ]
        .concat(),
    )
}

/// A connection with patience.
pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).during("connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An HTTP answer, taken apart by hand.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Status code.
    pub code: u16,
    /// Status line and fields.
    pub head: String,
    /// Content.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Reads one answer; to a HEAD request there is no content, whatever its length says.
pub fn read_answer(stream: &mut impl Read, to_head: bool) -> Result<Answer> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(0) => fail!("closed after {:?}", String::from_utf8_lossy(&head)),
            Ok(_) => head.push(byte[0]),
            Err(error) => {
                fail!("{error} after {:?}", String::from_utf8_lossy(&head))
            }
        }
    }
    let mut answer = Answer {
        head: String::from_utf8_lossy(&head).into_owned(),
        ..Answer::default()
    };
    let code = answer
        .head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    match code.and_then(|code| code.parse().ok()) {
        Some(code) => answer.code = code,
        None => fail!("not an HTTP answer: {:?}", answer.head),
    }
    let len = answer
        .field("Content-Length")
        .and_then(|len| len.parse::<usize>().ok());
    if answer.code >= 200 && !to_head {
        let Some(len) = len else {
            fail!("no Content-Length: {:?}", answer.head)
        };
        answer.body = vec![0; len];
        stream.read_exact(&mut answer.body).during("content")?;
    }
    Ok(answer)
}

/// One GET on a connection of its own, which this side closes: the guest is left without a trace of it.
pub fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    let mut stream = connect(address)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    read_answer(&mut stream, false)
}

/// A sample of `/metrics`, by name and labels as they stand there, without `ristretto_`.
pub fn metric(address: SocketAddr, sample: &str) -> Result<u64> {
    let answer = get(address, "/metrics")?;
    let text = String::from_utf8_lossy(&answer.body);
    let key = format!("ristretto_{sample} ");
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key.as_str()));
    match value.and_then(|value| value.parse().ok()) {
        Some(value) => Ok(value),
        None => fail!("/metrics has no {sample}"),
    }
}

/// The sum of a family of `/metrics` over all its labels, 0 if it has no samples; `name` without `ristretto_`.
pub fn family(metrics: &str, name: &str) -> u64 {
    let samples = metrics.lines().filter_map(|line| {
        let (sample, value) = line.strip_prefix("ristretto_")?.rsplit_once(' ')?;
        let family = sample.split('{').next()?;
        (family == name).then(|| value.parse::<u64>().ok())?
    });
    samples.sum()
}

/// Whether the other side has closed: nothing more comes.
pub fn is_closed(stream: &mut TcpStream) -> Result<bool> {
    let mut rest = [0; 512];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}
