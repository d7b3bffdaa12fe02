//! `./x capture TARGET FILTER`: packets as a target sees them, as pcapng.
//!
//! The filter is tcpdump's language, compiled on this host by libpcap and sent along as a program. Whole blocks are
//! written as they come, so that a reader behind a pipe keeps up and a file that was cut short is still one.

use std::fs::File;
use std::io::{ErrorKind, Read, Write, stdout};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::args::{Command, Opt, Parsed};
use crate::error::{Error, Result, at, failure, usage};
use crate::packages::{Package, ensure};
use crate::step::Step;
use crate::target::{self, authorization};

/// The row in the table of commands.
pub const COMMAND: Command = Command {
    name: "capture",
    summary: "Capture packets at a target, for Wireshark",
    operands: "TARGET [FILTER]",
    max_operands: 64,
    takes_rest: false,
    options: &[
        Opt::value(
            "-i",
            "INTERFACE",
            "one interface, or conduit; all interfaces by default",
        ),
        Opt::value("-s", "BYTES", "keep so many bytes of each packet"),
        Opt::value("-c", "COUNT", "end after so many packets"),
        Opt::value(
            "-w",
            "FILE",
            "where to; - is standard output; capture.pcapng by default",
        ),
        Opt::value("--time", "TIME", "end after this time"),
        Opt::value(
            "--token",
            "TOKEN",
            "admin= of the target; RISTRETTO_TOKEN by default",
        ),
    ],
    details: "\
TARGET is a name or an address, with :PORT if that is not 80. FILTER is in tcpdump's language, for
Ethernet: for the frames of the conduit it counts as if they had no switch tag.

  ./x capture 10.0.0.2 -i wan -w - udp port 7 | tshark -r -
  ./x capture 10.0.0.2 -i conduit -w - | wireshark -k -i -

The connection that carries the packets is not captured. The token travels in clear.",
    run,
};

const TCPDUMP: Package = Package {
    name: "tcpdump",
    brings: "tcpdump",
    why: "compiles filters",
};
/// More than any block has.
const MAX_BLOCK: usize = 1 << 16;
const PACKET: u32 = 6;
const STATISTICS: u32 = 5;

fn run(parsed: &Parsed) -> Result<()> {
    let Some((name, filter)) = parsed.operands.split_first() else {
        return usage("`./x capture` wants a target: a name or an address");
    };
    let token = target::token(parsed);
    if token.is_empty() {
        return usage("captures take the token: --token, or RISTRETTO_TOKEN in the environment");
    }
    let field = authorization(&token)?;
    let mut query = Vec::new();
    if let Some(interface) = parsed.value("-i") {
        query.push(format!("if={}", escaped(interface)));
    }
    for (option, key) in [("-s", "snaplen"), ("-c", "count")] {
        if let Some(number) = parsed.number(option)? {
            query.push(format!("{key}={number}"));
        }
    }
    let filter = filter.join(" ");
    if !filter.trim().is_empty() {
        query.push(format!("filter={}", compiled(&filter)?));
        // The image keeps as much of it for the file.
        if filter.len() <= 128 {
            query.push(format!("text={}", escaped(&filter)));
        }
    }
    let time = parsed.duration("--time")?;
    let path = parsed.value("-w").unwrap_or("capture.pcapng");
    let server =
        target::resolve(name, 80).map_err(|error| Error::Failure(format!("{name}: {error}")))?;
    let mut stream = order(server, &query.join("&"), &field)?;
    let mut out: Box<dyn Write> = match path {
        "-" => Box::new(stdout().lock()),
        _ => Box::new(File::create(path).map_err(at(Path::new(path)))?),
    };
    eprintln!("capturing at {name}; to end it, Ctrl-C");
    let tally = copy(&mut stream, &mut out, time)?;
    eprintln!("{tally}");
    Ok(())
}

/// Sixteen digits for each instruction of the program that libpcap makes of a filter.
fn compiled(filter: &str) -> Result<String> {
    ensure(&[TCPDUMP])?;
    let program = Step::new("tcpdump").words("-ddd -y EN10MB --").arg(filter);
    digits(&program.output()?)
        .map_or_else(|| failure("tcpdump said something else than a program"), Ok)
}

/// What `tcpdump -ddd` prints, as the image reads it: a line with the count, then code, jt, jf and k of each.
fn digits(program: &str) -> Option<String> {
    let mut lines = program.lines();
    let count: usize = lines.next()?.trim().parse().ok()?;
    let mut digits = String::new();
    for line in lines {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let mut number = || numbers.next()?.ok();
        let (code, jt, jf, k) = (number()?, number()?, number()?, number()?);
        digits.push_str(&format!("{code:04x}{jt:02x}{jf:02x}{k:08x}"));
    }
    (digits.len() == 16 * count).then_some(digits)
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

/// Orders the capture; what comes after the head of the answer is the file.
fn order(server: SocketAddr, query: &str, field: &str) -> Result<TcpStream> {
    let failed = |error| Error::Failure(format!("http://{server}/: {error}"));
    // Without chunks in it.
    let what = format!("GET /capture.pcapng?{query}");
    let mut stream = target::request(server, &what, field).map_err(failed)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 4096 {
        let mut byte = [0];
        match stream.read(&mut byte).map_err(failed)? {
            0 => break,
            _ => head.push(byte[0]),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    if head.get(9..12) == Some("200") {
        return Ok(stream);
    }
    let mut why = String::new();
    // What it says is for people: as much as comes.
    let _ = stream.take(1024).read_to_string(&mut why);
    let status = head.lines().next().unwrap_or("no answer");
    failure(format!("http://{server}/: {status}: {}", why.trim()))
}

/// What came.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    packets: u64,
    /// As far as the target told; `None` if it was cut off before it could.
    dropped: Option<u64>,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} packets captured", self.packets)?;
        match self.dropped {
            Some(dropped) => write!(f, ", {dropped} dropped by the target"),
            None => Ok(()),
        }
    }
}

/// Copies whole blocks until the end; after `time`, asks for the end.
fn copy(stream: &mut TcpStream, out: &mut dyn Write, time: Option<Duration>) -> Result<Tally> {
    let failed = |error| Error::Failure(format!("the target: {error}"));
    let (mut tally, mut waiting) = (Tally::default(), Vec::new());
    let mut end = time.map(|time| Instant::now() + time);
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .map_err(failed)?;
    loop {
        if end.is_some_and(|end| Instant::now() >= end) {
            // It answers with what it still has, and how many there were.
            stream.shutdown(Shutdown::Write).map_err(failed)?;
            end = None;
        }
        let mut piece = [0; 1 << 14];
        match stream.read(&mut piece) {
            Ok(0) => return Ok(tally),
            Ok(len) => waiting.extend_from_slice(&piece[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                continue;
            }
            Err(error) => return Err(failed(error)),
        }
        let whole = tally.whole_blocks(&waiting)?;
        let written = out.write_all(&waiting[..whole]).and_then(|()| out.flush());
        match written {
            // The reader has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(tally),
            written => written.map_err(|error| Error::Failure(format!("writing: {error}")))?,
        }
        waiting.drain(..whole);
    }
}

impl Tally {
    /// How many bytes at the start are whole blocks, which are counted.
    fn whole_blocks(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut at = 0;
        while let Some([kind, len]) = words::<2>(&bytes[at..]) {
            let len = len as usize;
            if !(12..=MAX_BLOCK).contains(&len) || !len.is_multiple_of(4) {
                return failure("the target sends something else than pcapng");
            }
            let Some(block) = bytes.get(at..at + len) else {
                break;
            };
            match kind {
                PACKET => self.packets += 1,
                STATISTICS => *self.dropped.get_or_insert(0) += dropped(block),
                _ => {}
            }
            at += len;
        }
        Ok(at)
    }
}

/// isb_osdrop of an interface's statistics.
fn dropped(block: &[u8]) -> u64 {
    let mut options = &block[20..block.len() - 4];
    while let Some([head]) = words::<1>(options) {
        let len = (head >> 16) as usize;
        match (head as u16, words::<3>(options)) {
            (7, Some([_, low, high])) => return u64::from(high) << 32 | u64::from(low),
            _ => {
                options = options
                    .get(4 + len.next_multiple_of(4)..)
                    .unwrap_or_default()
            }
        }
    }
    0
}

fn words<const N: usize>(bytes: &[u8]) -> Option<[u32; N]> {
    let mut words = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|word| u32::from_le_bytes(*word));
    let mut all = [0; N];
    for word in &mut all {
        *word = words.next()?;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_become_digits() {
        let program = "2\n40 0 0 12\n21 255 1 4294963204\n";
        assert_eq!(
            digits(program).as_deref(),
            Some("002800000000000c0015ff01fffff004")
        );
        for bad in ["", "x", "2\n40 0 0 12\n", "1\n40 0 0\n", "1\n40 0 0 x\n"] {
            assert_eq!(digits(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn text_travels_in_a_query() {
        assert_eq!(
            escaped("tcp[13] & 2 != 0"),
            "tcp%5B13%5D%20%26%202%20%21%3D%200"
        );
    }

    #[test]
    fn blocks_are_counted_when_they_are_whole() {
        let block = |kind: u32, body: &[u32]| -> Vec<u8> {
            let len = 12 + 4 * body.len() as u32;
            let words = [&[kind, len], body, &[len]].concat();
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        let statistics = [1, 0, 0, 4 | 8 << 16, 9, 0, 7 | 8 << 16, 3, 1, 0];
        let all = [
            block(0x0a0d_0d0a, &[0; 4]),
            block(6, &[1, 2, 3]),
            block(5, &statistics),
        ]
        .concat();
        for len in 0..=all.len() {
            let mut tally = Tally::default();
            let whole = tally.whole_blocks(&all[..len]).unwrap();
            assert!([0, 28, 52, all.len()].contains(&whole), "{len}: {whole}");
            assert_eq!(tally.packets, u64::from(whole >= 52));
            assert_eq!(tally.dropped, (whole == all.len()).then_some(3 + (1 << 32)));
        }
        assert!(Tally::default().whole_blocks(b"HTTP/1.1 200").is_err());
    }
}
