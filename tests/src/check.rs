//! How a test ends, and short ways to say why it failed.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

/// Why a test did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// What was expected and what was seen.
    Failed(String),
    /// What this machine lacks for the test.
    Skipped(String),
}

/// The outcome of a test, or of a step in it.
pub type Result<T = ()> = std::result::Result<T, Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) | Self::Skipped(reason) => f.write_str(reason),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

impl From<&str> for Failure {
    fn from(reason: &str) -> Self {
        Self::Failed(reason.to_owned())
    }
}

/// Says in which step an error happened.
pub trait During<T> {
    /// Puts `what` in front of the reason.
    fn during(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Failure>> During<T> for std::result::Result<T, E> {
    fn during(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| match error.into() {
            Failure::Failed(reason) => Failure::Failed(format!("{what}: {reason}")),
            skipped => skipped,
        })
    }
}

/// Fails the test, with a reason in the words of `format!`.
macro_rules! fail {
    ($($reason:tt)*) => {
        return Err($crate::check::Failure::Failed(format!($($reason)*)))
    };
}

/// Fails the test unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($reason:tt)*) => {
        if !$condition {
            $crate::check::fail!($($reason)*);
        }
    };
}

pub(crate) use {ensure, fail};

/// Asks again until there is an answer, at most for `seconds`; `what` names what was awaited.
pub fn wait<T>(seconds: u64, what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        ensure!(Instant::now() < deadline, "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Pseudo-random numbers from a fixed seed (splitmix64): every run sends the same.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts a sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// So many bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}
