//! The clients: each does one unit of work at a time, checks the answer, and fails on the first that is missing or wrong.
//!
//! Ordinary sockets, so that the answers are judged by this host's network stack and not by ours.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result, failure};

use super::guest::network;

/// How long an answer may take. Far more than it ever does: whoever misses it has lost it.
pub const PATIENCE: Duration = Duration::from_secs(5);

const GREETING: &[u8] = b"Hello, world!";
const REQUEST: &[u8] = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Begins a capture, and reads it for as long as we live.
///
/// # Errors
///
/// If it is refused.
pub fn capture(server: SocketAddr, query: &str, token: &str) -> Result<()> {
    const SUCCESS: &[u8] = b"HTTP/1.1 200";
    let mut stream = TcpStream::connect(server).map_err(network)?;
    let request = format!(
        "GET /capture.pcapng?{query} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let mut head = [0; SUCCESS.len()];
    stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.read_exact(&mut head))
        .map_err(network)?;
    if head != SUCCESS {
        return failure(format!("no capture: {}", String::from_utf8_lossy(&head)));
    }
    thread::spawn(move || io::copy(&mut stream, &mut io::sink()));
    Ok(())
}

/// Sends datagrams to an echo service and wants each back.
pub struct UdpEcho {
    socket: UdpSocket,
    payload: Vec<u8>,
    sent: u64,
}

impl UdpEcho {
    /// A client with datagrams of this many bytes, at least 8, and so much time for each answer.
    ///
    /// # Errors
    ///
    /// If this host has no socket for it.
    pub fn new(server: SocketAddr, size: usize, patience: Duration) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(network)?;
        socket.connect(server).map_err(network)?;
        socket.set_read_timeout(Some(patience)).map_err(network)?;
        Ok(Self {
            socket,
            payload: (0..=u8::MAX).cycle().take(size.max(8)).collect(),
            sent: 0,
        })
    }

    /// One datagram there and back. Each carries its own number, so that a late or doubled one is found out.
    ///
    /// # Errors
    ///
    /// If it does not come back as it was.
    pub fn exchange(&mut self) -> Result<()> {
        let mut answer = [0; 2048];
        self.sent += 1;
        self.payload[..8].copy_from_slice(&self.sent.to_be_bytes());
        let size = self
            .socket
            .send(&self.payload)
            .and_then(|_| self.socket.recv(&mut answer));
        match size {
            Ok(size) if answer[..size] == self.payload => Ok(()),
            Ok(size) => failure(format!(
                "UDP echo {}: {size} bytes came back and not the same",
                self.sent
            )),
            Err(error) => failure(format!(
                "UDP echo {} of {} bytes: {error}",
                self.sent,
                self.payload.len()
            )),
        }
    }
}

/// Sends this many datagrams to an echo service, a window of them on their way at any time, and says how many came back.
///
/// # Errors
///
/// If this host has no socket for it, or a wrong answer comes.
pub fn flood(server: SocketAddr, size: usize, datagrams: usize) -> Result<usize> {
    /// More than any one look at a ring finds.
    const WINDOW: usize = 192;
    /// An answer that has not come by then was lost.
    const LOST: Duration = Duration::from_millis(500);

    let client = UdpEcho::new(server, size, LOST)?;
    let (mut sent, mut answered, mut outstanding) = (0, 0, 0);
    let mut answer = [0; 2048];
    while sent < datagrams || outstanding > 0 {
        while sent < datagrams && outstanding < WINDOW {
            client.socket.send(&client.payload).map_err(network)?;
            (sent, outstanding) = (sent + 1, outstanding + 1);
        }
        match client.socket.recv(&mut answer) {
            Ok(size) if answer[..size] == client.payload => {
                (answered, outstanding) = (answered + 1, outstanding.saturating_sub(1));
            }
            Ok(size) => return failure(format!("flood: {size} bytes came back, not the same")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => outstanding = 0,
            Err(error) => return Err(network(error)),
        }
    }
    Ok(answered)
}

/// The body of a page.
///
/// # Errors
///
/// If it does not come.
pub fn page(server: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE).map_err(network)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(network)?;
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .map_err(|error| lost("request", &error))?;
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .map_err(|error| lost("answer", &error))?;
    match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => failure(format!("GET {path}: {text:.80}")),
    }
}

/// A keep-alive connection that asks for `/hello`.
pub struct Http {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Http {
    /// Connects.
    ///
    /// # Errors
    ///
    /// If nobody listens.
    pub fn connect(server: SocketAddr) -> Result<Self> {
        let connect = || {
            let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let stream = connect().map_err(|error| lost("connection", &error))?;
        Ok(Self {
            stream,
            received: Vec::new(),
        })
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// If the connection is gone.
    pub fn ask(&mut self) -> Result<()> {
        self.stream
            .write_all(REQUEST)
            .map_err(|error| lost("request", &error))
    }

    /// Waits for the answer and checks it.
    ///
    /// # Errors
    ///
    /// If it does not come or is not the greeting.
    pub fn hear(&mut self) -> Result<()> {
        let mut buffer = [0; 2048];
        self.received.clear();
        loop {
            match is_greeting(&self.received) {
                Some(true) => return Ok(()),
                Some(false) => {
                    let text = String::from_utf8_lossy(&self.received).into_owned();
                    return failure(format!("an answer that is not the greeting: {text:?}"));
                }
                None => {}
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(lost("answer", &ErrorKind::UnexpectedEof.into())),
                Ok(size) => self.received.extend(&buffer[..size]),
                Err(error) => return Err(lost("answer", &error)),
            }
        }
    }

    /// One request and its answer.
    ///
    /// # Errors
    ///
    /// As [`Http::ask`] and [`Http::hear`].
    pub fn exchange(&mut self) -> Result<()> {
        self.ask()?;
        self.hear()
    }
}

/// One connection with one request and its answer, closed by the client.
///
/// # Errors
///
/// If any of the three fails.
pub fn connect_request_close(server: SocketAddr) -> Result<()> {
    Http::connect(server)?.exchange()
}

/// A request on every connection at once, then all the answers.
///
/// # Errors
///
/// If any of them is missing.
pub fn volley(connections: &mut [Http]) -> Result<()> {
    connections.iter_mut().try_for_each(Http::ask)?;
    connections.iter_mut().try_for_each(Http::hear)
}

/// Whether this is the whole answer: `None` if there is more to come.
fn is_greeting(received: &[u8]) -> Option<bool> {
    let head_end = received
        .windows(4)
        .position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&received[..head_end]).to_ascii_lowercase();
    let body = &received[head_end + 4..];
    let announced = format!("content-length: {}", GREETING.len());
    if !head.starts_with("http/1.1 200 ") || !head.lines().any(|line| line == announced) {
        return Some(false);
    }
    (body.len() >= GREETING.len()).then(|| body == GREETING)
}

fn lost(what: &str, error: &std::io::Error) -> Error {
    Error::Failure(format!("lost an HTTP {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_greeting_counts() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nHello, world!";
        assert_eq!(is_greeting(whole), Some(true));
        assert_eq!(is_greeting(&whole[..whole.len() - 1]), None);
        assert_eq!(is_greeting(&whole[..30]), None);
        assert_eq!(
            is_greeting(b"HTTP/1.1 404 Not Found\r\nContent-Length: 13\r\n\r\nHello, world!"),
            Some(false)
        );
        assert_eq!(
            is_greeting(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nHello, world"),
            Some(false)
        );
        assert_eq!(
            is_greeting(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, world?"),
            Some(false)
        );
    }
}
