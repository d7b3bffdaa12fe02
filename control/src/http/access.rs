//! Who may change something, or see other people's traffic: the holder of the token that `admin=` gives.
//!
//! A request says so by `Authorization: Bearer TOKEN` (RFC 6750, 2.1). Nothing here is encrypted: whoever sees the
//! request has the token. Without `admin=` nobody may. A browser that a foreign page sent here says where it comes from
//! (RFC 6454, 7), and is turned away whatever it knows.

use core::cell::Cell;
use core::net::Ipv4Addr;

use heapless::String;

/// Longest token.
pub const MAX_TOKEN: usize = 64;
/// Wrong tokens that may come in a burst.
const BURST: u64 = 8;
/// Time after which one more may.
const REST_US: u64 = 1_000_000;

/// The answer to somebody who wants to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go ahead.
    Allowed,
    /// There is no token that would open this.
    NotConfigured,
    /// No token, or a wrong one.
    Unknown,
    /// Too many wrong ones lately: not even looked at.
    TooOften,
}

/// Who may read, the token, and how often it was guessed wrong.
#[derive(Debug, Default)]
pub struct Access {
    token: String<MAX_TOKEN>,
    /// Reading takes the token, too.
    is_private: bool,
    /// When the last of the wrong ones so far will be forgotten, in microseconds.
    forgotten_us: Cell<u64>,
}

impl Access {
    /// Access for who knows this token; for nobody if it is `None`. Everybody may read unless it `is_private`.
    pub fn new(token: Option<String<MAX_TOKEN>>, is_private: bool) -> Self {
        Self {
            token: token.unwrap_or_default(),
            is_private,
            forgotten_us: Cell::new(0),
        }
    }

    /// Whether everybody may read.
    pub fn is_public(&self) -> bool {
        !self.is_private
    }

    /// Judges the value of an `Authorization` field, or its absence.
    pub fn judge(&self, authorization: Option<&[u8]>, now_us: u64) -> Verdict {
        if self.token.is_empty() {
            return Verdict::NotConfigured;
        }
        let Some(given) = authorization.and_then(bearer) else {
            // Who says nothing guesses nothing.
            return Verdict::Unknown;
        };
        let forgotten_us = self.forgotten_us.get().max(now_us);
        if forgotten_us - now_us > (BURST - 1) * REST_US {
            return Verdict::TooOften;
        }
        if is_same(self.token.as_bytes(), given) {
            return Verdict::Allowed;
        }
        self.forgotten_us.set(forgotten_us + REST_US);
        Verdict::Unknown
    }
}

/// The token in an `Authorization` field; the scheme's name is in any case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

/// Compares in a time that depends on nothing but the length of what was given.
fn is_same(token: &[u8], given: &[u8]) -> bool {
    let mut difference = token.len() ^ given.len();
    for (at, byte) in given.iter().enumerate() {
        let ours = token.get(at % token.len().max(1)).copied().unwrap_or(0);
        difference |= usize::from(core::hint::black_box(ours ^ byte));
    }
    difference == 0
}

/// Whether a request comes from one of our own pages, as far as its fields say: the origin's host is the one asked.
pub(super) fn is_own_origin(origin: &[u8], host: Option<&[u8]>) -> bool {
    match (origin.strip_prefix(b"http://"), host) {
        (Some(origin), Some(host)) => origin.eq_ignore_ascii_case(host),
        _ => false,
    }
}

/// Whether a request for this host, perhaps with a port, is for us: any IP address, `localhost`, and the names that
/// `is_own_name` knows, with or without `.local`.
///
/// A page of another site whose name was made to resolve to our address (DNS rebinding) is read by the browser as our own
/// page: its name in the `Host` field is all that tells it from one.
pub(super) fn is_served(host: &[u8], is_own_name: impl Fn(&[u8]) -> bool) -> bool {
    // Only an IPv6 address may stand in brackets.
    if host.starts_with(b"[") {
        return true;
    }
    let end = host.iter().position(|&byte| byte == b':');
    let name = &host[..end.unwrap_or(host.len())];
    if str::from_utf8(name).is_ok_and(|name| name.parse::<Ipv4Addr>().is_ok()) {
        return true;
    }
    let name = name.strip_suffix(b".").unwrap_or(name);
    let label = match name.split_last_chunk::<6>() {
        Some((label, domain)) if domain.eq_ignore_ascii_case(b".local") => label,
        _ => name,
    };
    name.eq_ignore_ascii_case(b"localhost") || is_own_name(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access::new(Some(String::try_from("s3cret").unwrap()), false)
    }

    #[test]
    fn only_the_token_opens() {
        let cases: [(&[u8], bool); 8] = [
            (b"Bearer s3cret", true),
            (b"bEARER   s3cret ", true),
            (b"Bearer s3cre", false),
            (b"Bearer s3crets3cret", false),
            (b"Bearer ", false),
            (b"Bearer", false),
            (b"Basic s3cret", false),
            (b"s3cret", false),
        ];
        for (value, opens) in cases {
            let verdict = access().judge(Some(value), 0);
            assert_eq!(verdict == Verdict::Allowed, opens, "{value:?}");
        }
        assert_eq!(access().judge(None, 0), Verdict::Unknown);
    }

    #[test]
    fn without_a_token_nothing_opens() {
        for value in [None, Some(b"Bearer ".as_slice()), Some(b"Bearer x")] {
            assert_eq!(Access::default().judge(value, 0), Verdict::NotConfigured);
        }
    }

    #[test]
    fn guessing_is_slow_and_the_owner_gets_in_again() {
        let access = access();
        let (right, wrong) = (
            Some(b"Bearer s3cret".as_slice()),
            Some(b"Bearer x".as_slice()),
        );
        for guess in 0..BURST {
            assert_eq!(access.judge(wrong, 5), Verdict::Unknown, "guess {guess}");
        }
        assert_eq!(access.judge(wrong, 5), Verdict::TooOften);
        assert_eq!(access.judge(right, 5), Verdict::TooOften);
        assert_eq!(access.judge(None, 5), Verdict::Unknown);
        let later = 5 + REST_US;
        assert_eq!(access.judge(right, later), Verdict::Allowed);
        let guesses = (0..60)
            .filter(|second| access.judge(wrong, later + second * REST_US) == Verdict::Unknown);
        assert!(guesses.count() <= 60);
        let in_a_burst =
            (0..1000).filter(|_| access.judge(wrong, later + 60 * REST_US) == Verdict::Unknown);
        assert!(in_a_burst.count() <= BURST as usize);
    }

    #[test]
    fn other_names_than_ours_are_not_served() {
        let is_own = |name: &[u8]| name.eq_ignore_ascii_case(b"ristretto");
        for ours in [
            "10.0.0.2",
            "10.0.0.2:8080",
            "255.255.255.255:",
            "[fe80::1]",
            "[::1]:80",
            "localhost",
            "LocalHost:1234",
            "ristretto",
            "RISTRETTO:80",
            "ristretto.local",
            "ristretto.LOCAL.:80",
            "localhost.",
        ] {
            assert!(is_served(ours.as_bytes(), is_own), "{ours}");
        }
        for foreign in [
            "evil.example",
            "ristretto.evil.example",
            "ristretto.local.evil.example",
            "localhost.evil.example",
            "10.0.0.2.evil.example",
            "10.0.0",
            "010.0.0.2",
            "0x7f000001",
            "10.0.0.2.",
            "xristretto",
            "local",
            "%31%30.0.0.2",
            "localhost.localdomain",
            ".local",
            "evil.local",
        ] {
            assert!(!is_served(foreign.as_bytes(), is_own), "{foreign}");
        }
    }

    #[test]
    fn origins_are_compared_with_the_host() {
        let host = Some(b"10.0.0.2:80".as_slice());
        assert!(is_own_origin(b"http://10.0.0.2:80", host));
        for foreign in [
            "http://10.0.0.3:80",
            "https://10.0.0.2:80",
            "null",
            "",
            "http://10.0.0.2:80.evil",
        ] {
            assert!(!is_own_origin(foreign.as_bytes(), host), "{foreign}");
        }
        assert!(!is_own_origin(b"http://", None));
    }
}
