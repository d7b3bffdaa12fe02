//! A running image, spoken to from this machine: where it is, what opens it, one HTTP request.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::args::Parsed;
use crate::error::{Result, usage};

/// A target that says nothing for so long does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Finds a name or an address, with or without a port: `port` is for those without.
///
/// # Errors
///
/// If there is no such name.
pub fn resolve(target: &str, port: u16) -> io::Result<SocketAddr> {
    let bare = target
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    // First, because the end of an IPv6 address looks like a port.
    if let Ok(address) = bare.unwrap_or(target).parse::<IpAddr>() {
        return Ok((address, port).into());
    }
    let mut found = target
        .to_socket_addrs()
        .or_else(|_| (target, port).to_socket_addrs())?;
    found
        .next()
        .ok_or_else(|| io::Error::other("there is no address"))
}

/// The token that `--token` gives, or else the environment; empty if neither does.
pub fn token(parsed: &Parsed) -> String {
    match parsed.value("--token") {
        Some(token) => token.to_owned(),
        None => std::env::var("RISTRETTO_TOKEN").unwrap_or_default(),
    }
}

/// The line of a request's head that shows the token; nothing if there is none.
///
/// # Errors
///
/// If there are characters in it that would end the line, or are in no token.
pub fn authorization(token: &str) -> Result<String> {
    match token {
        "" => Ok(String::new()),
        _ if token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(format!("Authorization: Bearer {token}\r\n"))
        }
        _ => usage("the token has characters that no token has"),
    }
}

/// Sends one request, `GET /path` and more lines of its head. HTTP/1.0: the answer ends with the connection.
///
/// # Errors
///
/// If nobody answers.
pub fn request(server: SocketAddr, what: &str, fields: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("{what} HTTP/1.0\r\nHost: {server}\r\n{fields}\r\n");
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}

/// The same, and what came of it: the status and the body.
///
/// # Errors
///
/// If nobody answers, or not in HTTP.
pub fn ask(server: SocketAddr, what: &str, fields: &str) -> io::Result<(u16, String)> {
    let mut text = String::new();
    let stream = request(server, what, fields)?;
    stream.take(1 << 20).read_to_string(&mut text)?;
    let bad = || io::Error::other(format!("no HTTP: {text:.60}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(bad)?;
    let code = head.get(9..12).and_then(|code| code.parse().ok());
    Ok((code.ok_or_else(bad)?, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_a_port_or_get_the_usual_one() {
        for (target, expected) in [
            ("10.0.0.1", "10.0.0.1:80"),
            ("10.0.0.1:8080", "10.0.0.1:8080"),
            ("fe80::1", "[fe80::1]:80"),
            ("[fe80::1]", "[fe80::1]:80"),
            ("[::1]:8080", "[::1]:8080"),
            ("localhost:81", "127.0.0.1:81"),
        ] {
            let found = resolve(target, 80)
                .ok()
                .map(|it| it.to_string().replace("[::1]:81", "127.0.0.1:81"));
            assert_eq!(found.as_deref(), Some(expected), "{target}");
        }
    }

    #[test]
    fn a_token_is_one_line_of_the_head() {
        assert_eq!(authorization(""), Ok(String::new()));
        assert_eq!(
            authorization("s3cret"),
            Ok("Authorization: Bearer s3cret\r\n".to_owned())
        );
        for token in ["a b", "a\r\nHost: b", "\u{e9}"] {
            assert!(authorization(token).is_err(), "{token:?}");
        }
    }
}
