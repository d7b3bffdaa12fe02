//! How a command fails: one line for people, and an exit status for scripts.

use std::fmt;
use std::io;
use std::path::Path;

/// What went wrong, as one line that stands on its own.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// The command line makes no sense: exit status 2.
    Usage(String),
    /// Whoever was to be asked could not be: exit status 2, because nothing is known of the work.
    Unreachable(String),
    /// The work failed: exit status 1.
    Failure(String),
    /// The work failed and the command has already said so: exit status 1.
    Reported,
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The exit status of `./x`.
    pub fn status(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Unreachable(_) => 2,
            Self::Failure(_) | Self::Reported => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Unreachable(text) | Self::Failure(text) => f.write_str(text),
            Self::Reported => f.write_str("failed"),
        }
    }
}

/// A failed piece of work.
pub fn failure<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::Failure(text.into()))
}

/// A command line that makes no sense.
pub fn usage<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::Usage(text.into()))
}

/// Turns an input/output error into one line that names the file.
pub fn at(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |error| Error::Failure(format!("{}: {error}", path.display()))
}
