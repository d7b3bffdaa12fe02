//! The target of a request: path, query, and the words of the command that both stand for.
//!
//! ```text
//!   /api/v1/ping/10.0.0.1?c=3&q      ping 10.0.0.1 -c 3 -q
//!           ──── ────────  ───       name operand option value option
//! ```
//!
//! Each segment of the path behind `/api/v1/` is a word, and so are each name of the query, behind a hyphen, and each value.
//! Escapes (`%2F`) are characters of a word; in the query a plus is a space, as in what forms send.

use super::refusal::Refusal;
use super::request::{is_host, is_target, is_unreserved};
use core::iter;
use heapless::String;

/// Longest command over HTTP: its words, with a byte between them.
pub const MAX_COMMAND: usize = 248;
/// What stands between two words: no word can hold it.
pub const BETWEEN_WORDS: char = '\0';
/// Below this path each name is a command.
const ROOT: &[u8] = b"\0api\0v1\0";
/// What `/api/v1/` itself answers.
const INDEX: &[u8] = b"/api/v1/help";

/// The words of a command: its name, operands, options, with [`BETWEEN_WORDS`] between them.
pub type Words = String<MAX_COMMAND>;

/// A target in origin form or in absolute form (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'t> {
    /// In absolute form: host and port.
    pub authority: Option<&'t [u8]>,
    path: &'t [u8],
    query: &'t [u8],
}

impl<'t> Target<'t> {
    /// Takes a target apart.
    ///
    /// # Errors
    ///
    /// [`Refusal::Target`] if it is neither form, or holds what no target may.
    pub(super) fn parse(target: &'t [u8]) -> Result<Self, Refusal> {
        if !target.iter().all(|&byte| is_target(byte)) {
            return Err(Refusal::Target);
        }
        let (authority, local) = match target.split_at_checked(7) {
            _ if target.starts_with(b"/") => (None, target),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"http://") => {
                let (authority, _) = split_at(split_at(rest, b'?').0, b'/');
                let local = &rest[authority.len()..];
                if !is_host(authority) {
                    return Err(Refusal::Target);
                }
                (Some(authority), local)
            }
            _ => return Err(Refusal::Target),
        };
        let (path, end) = split_at(local, b'?');
        Ok(Self {
            authority,
            path: if path.is_empty() { b"/" } else { path },
            query: local.get(end + 1..).unwrap_or_default(),
        })
    }

    /// The path in `room`, cut to it, for a look whether it is a known one: escaped unreserved characters are the
    /// characters (RFC 3986 section 2.3), other escapes make another path.
    ///
    /// # Errors
    ///
    /// [`Refusal::Target`] for an escape that is none.
    pub(super) fn plain_path<'o>(&self, room: &'o mut [u8]) -> Result<&'o [u8], Refusal> {
        let mut len = 0;
        let mut rest = self.path;
        while let Some((mut byte, after)) = first(rest)? {
            let mut taken = after;
            if rest[0] == b'%' && !is_unreserved(byte) {
                (byte, taken) = (b'%', &rest[1..]);
            }
            rest = taken;
            if let Some(slot) = room.get_mut(len) {
                *slot = byte;
                len += 1;
            }
        }
        Ok(&room[..len])
    }

    /// The command that it stands for, if its path is one of those below `/api/v1`.
    ///
    /// # Errors
    ///
    /// [`Refusal::Target`] for escapes that are none, control characters, what is not UTF-8, an option without a name;
    /// [`Refusal::CommandTooLong`].
    pub(super) fn command(&self) -> Result<Option<Words>, Refusal> {
        let mut words = Plain::default();
        let mut rest = match self.path {
            b"/api/v1" | b"/api/v1/" => INDEX,
            path => path,
        };
        while let Some((b'/', after)) = rest.split_first() {
            let (segment, end) = split_at(after, b'/');
            if segment.is_empty() {
                return Ok(None);
            }
            words.add(b"", segment, b'+')?;
            rest = &after[end..];
        }
        rest = self.query;
        while !rest.is_empty() {
            let (option, end) = split_at(rest, b'&');
            rest = rest.get(end + 1..).unwrap_or_default();
            let (name, end) = split_at(option, b'=');
            match option.get(end + 1..) {
                _ if option.is_empty() => {}
                _ if name.is_empty() => return Err(Refusal::Target),
                value => {
                    words.add(b"-", name, b' ')?;
                    if let Some(value) = value {
                        words.add(b"", value, b' ')?;
                    }
                }
            }
        }
        let bytes = words.bytes.get(..words.len).unwrap_or(&words.bytes);
        match bytes.strip_prefix(ROOT) {
            None => Ok(None),
            Some(_) if words.len > words.bytes.len() => Err(Refusal::CommandTooLong),
            Some(words) => {
                let words = str::from_utf8(words).map_err(|_| Refusal::Target)?;
                Words::try_from(words)
                    .map(Some)
                    .map_err(|_| Refusal::CommandTooLong)
            }
        }
    }
}

/// Words without their escapes, each behind [`BETWEEN_WORDS`].
struct Plain {
    bytes: [u8; ROOT.len() + MAX_COMMAND],
    /// May be more than there is room for.
    len: usize,
}

impl Default for Plain {
    fn default() -> Self {
        Plain {
            bytes: [0; ROOT.len() + MAX_COMMAND],
            len: 0,
        }
    }
}

impl Plain {
    /// Adds a word that begins with `start`. `plus` is what a plus stands for.
    #[inline(never)]
    fn add(&mut self, start: &[u8], text: &[u8], plus: u8) -> Result<(), Refusal> {
        self.put(BETWEEN_WORDS as u8);
        start.iter().for_each(|&byte| self.put(byte));
        let mut rest = text;
        while let Some((byte, after)) = first(rest)? {
            let byte = if rest[0] == b'+' { plus } else { byte };
            if byte.is_ascii_control() {
                return Err(Refusal::Target);
            }
            self.put(byte);
            rest = after;
        }
        Ok(())
    }

    #[inline(never)]
    fn put(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
        }
        self.len += 1;
    }
}

/// The words that [`Target::command`] found.
pub fn words(words: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(words);
    iter::from_fn(move || {
        let (word, after) = match rest?.split_once(BETWEEN_WORDS) {
            Some((word, after)) => (word, Some(after)),
            None => (rest?, None),
        };
        rest = after;
        Some(word)
    })
}

/// The first byte of escaped text, and what follows.
fn first(text: &[u8]) -> Result<Option<(u8, &[u8])>, Refusal> {
    match text {
        [] => Ok(None),
        [b'%', high, low, rest @ ..] => {
            let value = |digit: u8| char::from(digit).to_digit(16).ok_or(Refusal::Target);
            Ok(Some(((value(*high)? * 16 + value(*low)?) as u8, rest)))
        }
        [b'%', ..] => Err(Refusal::Target),
        [byte, rest @ ..] => Ok(Some((*byte, rest))),
    }
}

/// What stands before a byte, and where that byte is, or the end.
#[inline(never)]
fn split_at(text: &[u8], at: u8) -> (&[u8], usize) {
    let end = text.iter().position(|&byte| byte == at);
    let end = end.unwrap_or(text.len());
    (&text[..end], end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(target: &str) -> Result<Option<String<MAX_COMMAND>>, Refusal> {
        Target::parse(target.as_bytes()).unwrap().command()
    }

    #[test]
    fn paths_and_queries_are_words() {
        for (target, expected) in [
            ("/api/v1/link", "link"),
            ("/api/v1/link/wan", "link|wan"),
            ("/%61pi/v1/lin%6B", "link"),
            ("/api/v1/stats/wan?d", "stats|wan|-d"),
            ("/api/v1/ping/10.0.0.1?c=3&&q", "ping|10.0.0.1|-c|3|-q"),
            (
                "/api/v1/dt/%2Fsoc%2finternal-regs@d0000000",
                "dt|/soc/internal-regs@d0000000",
            ),
            (
                "/api/v1/x/a+b%20c?k=a+b%2Bc%3D&l=%26",
                "x|a+b c|-k|a b+c=|-l|&",
            ),
            ("/api/v1/x?k=", "x|-k|"),
            ("/api/v1/x?k=a=b?c/d", "x|-k|a=b?c/d"),
            ("/api/v1/x/%C3%A9", "x|\u{e9}"),
            ("/api/v1/x/..", "x|.."),
            ("/api/v1", "help"),
            ("/api/v1/", "help"),
            ("/api/v1/?x", "help|-x"),
            ("http://a:80/api/v1/link?x", "link|-x"),
        ] {
            let words = command(target).unwrap().unwrap();
            assert_eq!(words.replace('\0', "|"), expected, "{target}");
            assert!(self::words(&words).eq(expected.split('|')), "{target}");
        }
    }

    #[test]
    fn other_paths_are_none() {
        for target in [
            "/",
            "/api",
            "/api/",
            "/api/v2/link",
            "/api%2Fv1/link",
            "/api/v1//",
            "/api/v1//link",
            "/api/v1/link/",
            "//api/v1/link",
            "/x/api/v1/link",
            "/api/v1x/link",
        ] {
            assert_eq!(command(target), Ok(None), "{target}");
        }
    }

    #[test]
    fn rubbish_is_refused() {
        for target in [
            "/api/v1/%",
            "/api/v1/%4",
            "/api/v1/%zz",
            "/api/v1/%+1",
            "/api/v1/x%00y",
            "/api/v1/x%0a",
            "/api/v1/x%7f",
            "/api/v1/%ff",
            "/api/v1/x/%C3",
            "/api/v1/x?=3",
            "/api/v1/x?a=%0d",
            "/x%",
        ] {
            assert_eq!(command(target), Err(Refusal::Target), "{target}");
        }
        let long = |len: usize| std::format!("/api/v1/{}", "x".repeat(len));
        assert_eq!(command(&long(MAX_COMMAND)).unwrap().unwrap().len(), 248);
        assert_eq!(
            command(&long(MAX_COMMAND + 1)),
            Err(Refusal::CommandTooLong)
        );
        assert_eq!(command(&std::format!("/{}", "x".repeat(4000))), Ok(None));
    }
}
