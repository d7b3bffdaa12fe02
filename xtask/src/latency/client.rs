//! Sends, receives, and checks every answer against what was asked.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result, failure};

use super::record::Record;

const REQUEST: &[u8] = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
const BODY: &[u8] = b"Hello, world!";
/// Between two looks at a clock, sleeping is too coarse: the rest is spun.
const SPIN: Duration = Duration::from_micros(200);
/// An answer that comes later than this is lost.
const LOST: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Echo by UDP.
    Udp,
    /// Echo by TCP, on one connection.
    Tcp,
    /// `GET /hello`, on one connection.
    Http,
}

impl Service {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Http => "http",
        }
    }

    /// What the target's account calls it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp_echo",
            Self::Http => "http",
        }
    }
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is asked.
    pub service: Service,
    /// Whom.
    pub server: SocketAddr,
    /// Bytes of an echo.
    pub size: usize,
    /// Requests a second, 0 for a closed loop.
    pub rate: usize,
    /// How long it is measured.
    pub time: Duration,
    /// What comes before.
    pub warm_up: Duration,
    /// Without any answer for so long, the run is over.
    pub patience: Duration,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.service.name())?;
        if self.service != Service::Http {
            write!(f, " {} B", self.size)?;
        }
        match self.rate {
            0 => f.write_str(", closed"),
            rate => write!(f, ", {rate}/s"),
        }
    }
}

/// Does what the plan says.
///
/// # Errors
///
/// If there is no way to the target, or an answer is wrong.
pub fn measure(plan: &Plan, tick: &dyn Fn()) -> Result<Record> {
    let failed = |error| Error::Failure(format!("{plan}: {}: {error}", plan.server));
    match plan.service {
        Service::Udp => {
            let any: SocketAddr = match plan.server {
                SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
                SocketAddr::V6(_) => ([0u16; 8], 0).into(),
            };
            let socket = UdpSocket::bind(any).map_err(failed)?;
            socket.connect(plan.server).map_err(failed)?;
            let other = socket.try_clone().map_err(failed)?;
            drive(plan, Datagrams(socket), Datagrams(other), tick)
        }
        Service::Tcp | Service::Http => {
            let stream = TcpStream::connect_timeout(&plan.server, plan.patience).map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            stream
                .set_write_timeout(Some(plan.patience))
                .map_err(failed)?;
            let other = stream.try_clone().map_err(failed)?;
            let reader = Stream {
                stream: other,
                is_http: plan.service == Service::Http,
                rest: Vec::new(),
            };
            let writer = Stream {
                stream,
                is_http: reader.is_http,
                rest: Vec::new(),
            };
            drive(plan, writer, reader, tick)
        }
    }
}

/// One direction of a way to the target.
trait Way: Send {
    /// Sends request `number`, of so many bytes.
    fn send(&mut self, number: u64, size: usize) -> std::io::Result<()>;
    /// The number of the next answer, whose every byte was compared; `None` if there is none in time.
    ///
    /// # Errors
    ///
    /// A wrong answer, or the end of the connection.
    fn receive(&mut self, expected: u64, size: usize, wait: Duration) -> Result<Option<u64>>;
}

/// The bytes of echo `number`: its number, then a pattern that depends on it.
fn payload(number: u64, size: usize) -> Vec<u8> {
    let pattern = (0..).map(|at: usize| (at as u64 ^ number) as u8);
    number
        .to_be_bytes()
        .into_iter()
        .chain(pattern)
        .take(size)
        .collect()
}

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

struct Datagrams(UdpSocket);

impl Way for Datagrams {
    fn send(&mut self, number: u64, size: usize) -> std::io::Result<()> {
        match self.0.send(&payload(number, size)) {
            // The full queue of this host, or an ICMP error: a datagram that is lost.
            Err(error) if error.kind() != ErrorKind::ConnectionRefused => Err(error),
            _ => Ok(()),
        }
    }

    fn receive(&mut self, _expected: u64, size: usize, wait: Duration) -> Result<Option<u64>> {
        let mut answer = [0; 2048];
        let failed = |error: std::io::Error| Error::Failure(format!("udp: {error}"));
        self.0.set_read_timeout(Some(wait)).map_err(failed)?;
        match self.0.recv(&mut answer) {
            Ok(len) => {
                let number = answer
                    .first_chunk()
                    .map_or(0, |number| u64::from_be_bytes(*number));
                if answer[..len] != payload(number, size)[..] {
                    return failure(format!("udp: {len} bytes came back that were never sent"));
                }
                Ok(Some(number))
            }
            Err(error) if is_late(&error) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

struct Stream {
    stream: TcpStream,
    is_http: bool,
    /// What came and was not looked at.
    rest: Vec<u8>,
}

impl Stream {
    /// The length of the answer in `rest`, if it is whole, and whether it is right.
    fn answer(&self, expected: u64, size: usize) -> Option<(usize, bool)> {
        if !self.is_http {
            let answer = self.rest.get(..size)?;
            return Some((size, answer == payload(expected, size)));
        }
        let head = self.rest.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
        let len = head + BODY.len();
        let answer = self.rest.get(..len)?;
        Some((
            len,
            answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(BODY),
        ))
    }
}

impl Way for Stream {
    fn send(&mut self, number: u64, size: usize) -> std::io::Result<()> {
        match self.is_http {
            true => self.stream.write_all(REQUEST),
            false => self.stream.write_all(&payload(number, size)),
        }
    }

    fn receive(&mut self, expected: u64, size: usize, wait: Duration) -> Result<Option<u64>> {
        let failed = |error: std::io::Error| Error::Failure(format!("tcp: {error}"));
        let deadline = Instant::now() + wait;
        loop {
            match self.answer(expected, size) {
                Some((len, true)) => {
                    self.rest.drain(..len);
                    return Ok(Some(expected));
                }
                Some((_, false)) => return failure("tcp: an answer that is not what was asked"),
                None => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left)).map_err(failed)?;
            let mut piece = [0; 16 * 1024];
            match self.stream.read(&mut piece) {
                Ok(0) => return failure("tcp: the target closed the connection"),
                Ok(len) => self.rest.extend_from_slice(&piece[..len]),
                Err(error) if is_late(&error) => return Ok(None),
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

fn drive(plan: &Plan, writer: impl Way, reader: impl Way, tick: &dyn Fn()) -> Result<Record> {
    match plan.rate {
        0 => closed(plan, writer, reader, tick),
        _ => open(plan, writer, reader, tick),
    }
}

/// The next request leaves when the last one is answered, or lost.
fn closed(
    plan: &Plan,
    mut writer: impl Way,
    mut reader: impl Way,
    tick: &dyn Fn(),
) -> Result<Record> {
    let mut record = Record::new(plan.time)?;
    let start = Instant::now() + plan.warm_up;
    let mut last_answer = Instant::now();
    for number in 0.. {
        let sent = Instant::now();
        if sent >= start + plan.time || sent - last_answer > plan.patience {
            break;
        }
        if number % 1024 == 0 {
            tick();
        }
        writer
            .send(number, plan.size)
            .map_err(|error| Error::Failure(format!("{plan}: {error}")))?;
        let answered = loop {
            // A late answer to a request that was given up is none to this one.
            match reader.receive(number, plan.size, LOST)? {
                Some(other) if other != number => {}
                answer => break answer.is_some(),
            }
        };
        if answered {
            last_answer = Instant::now();
        }
        let Some(due) = sent.checked_duration_since(start) else {
            continue;
        };
        record.sent += 1;
        match answered {
            true => record.answer(due, last_answer - sent),
            false => record.lost += 1,
        }
        if !answered && plan.service != Service::Udp {
            break; // what comes back later could not be told apart
        }
    }
    Ok(record)
}

/// Requests leave at their times; another thread waits for what comes back.
fn open(
    plan: &Plan,
    mut writer: impl Way,
    mut reader: impl Way,
    tick: &dyn Fn(),
) -> Result<Record> {
    let mut record = Record::new(plan.time)?;
    let begin = Instant::now() + Duration::from_millis(20);
    let due = |number: u64| begin + Duration::from_secs_f64(number as f64 / plan.rate as f64);
    let warm_up = (plan.warm_up.as_secs_f64() * plan.rate as f64) as u64;
    let count = warm_up + (plan.time.as_secs_f64() * plan.rate as f64).max(1.0) as u64;
    let start = due(warm_up);
    thread::scope(|scope| {
        let sender = scope.spawn(move || {
            for number in 0..count {
                wait_until(due(number));
                writer.send(number, plan.size)?;
            }
            Ok::<(), std::io::Error>(())
        });
        let mut is_answered = vec![false; count as usize];
        let mut next = 0;
        let mut last = begin;
        while next < count {
            let now = Instant::now();
            let is_over = now > due(count) + LOST;
            if is_over || now.saturating_duration_since(last.max(begin)) > plan.patience {
                break;
            }
            if next % 1024 == 0 {
                tick();
            }
            let Some(number) = reader.receive(next, plan.size, Duration::from_millis(100))? else {
                continue;
            };
            last = Instant::now();
            let Some(answered) = is_answered.get_mut(number as usize) else {
                return failure(format!("{plan}: an answer to a request that never was"));
            };
            if std::mem::replace(answered, true) {
                continue; // doubled on the way
            }
            if number >= warm_up {
                record.answer(
                    due(number) - start,
                    last.saturating_duration_since(due(number)),
                );
            }
            next = match plan.service {
                // They may come in any order; the end is when the last of them is there, or its time is over.
                Service::Udp if number + 1 < count => next.max(number + 1),
                _ => number + 1,
            };
        }
        record.sent = count - warm_up;
        record.lost = record.sent.saturating_sub(record.answered());
        match sender.join() {
            Ok(Ok(())) => Ok(record),
            Ok(Err(error)) => failure(format!("{plan}: {error}")),
            Err(_) => failure(format!("{plan}: the sender broke")),
        }
    })
}

fn wait_until(time: Instant) {
    loop {
        let left = time.saturating_duration_since(Instant::now());
        match left {
            Duration::ZERO => return,
            left if left > SPIN => thread::sleep(left - SPIN),
            _ => std::hint::spin_loop(),
        }
    }
}
