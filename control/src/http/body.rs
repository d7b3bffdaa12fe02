//! Follows a request body to its end and forgets it: no resource takes one, and the next request starts after it.

use super::refusal::Refusal;
use super::request::is_token;

/// Longest body that is skipped rather than refused, in bytes; framing of chunks counts.
pub const MAX_BODY: u32 = 65536;

/// What is still to come of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Body {
    #[default]
    Done,
    Length {
        left: u32,
    },
    Chunked {
        /// How many more bytes of data and framing are put up with.
        allowance: u32,
        at: Chunk,
    },
}

/// The place in a chunked body (RFC 9112 section 7.1): what the next byte may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// The first digit of a size.
    SizeStart,
    /// Another digit, an extension or the end of the line.
    Size {
        size: u32,
    },
    /// White space before the semicolon of an extension.
    SizeSpace {
        size: u32,
    },
    /// Anything up to the end of the line.
    Extension {
        size: u32,
    },
    /// The LF after a size.
    SizeEnd {
        size: u32,
    },
    Data {
        left: u32,
    },
    /// The CR after the data.
    DataReturn,
    DataEnd,
    /// A trailer field or the CR that ends the body.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    /// The last LF of the body.
    LastEnd,
}

impl Body {
    pub fn of_length(length: u32) -> Self {
        if length == 0 {
            Self::Done
        } else {
            Self::Length { left: length }
        }
    }

    pub fn chunked() -> Self {
        Self::Chunked {
            allowance: MAX_BODY,
            at: Chunk::SizeStart,
        }
    }

    /// Skips what belongs to the body at the start of `input`: how many bytes that was.
    pub fn skip(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        match *self {
            Self::Done => Ok(0),
            Self::Length { left } => {
                let len = input.len().min(left as usize);
                *self = Self::of_length(left - len as u32);
                Ok(len)
            }
            Self::Chunked {
                mut allowance,
                mut at,
            } => {
                let mut used = 0;
                while let Some(&byte) = input.get(used) {
                    let len = match at {
                        Chunk::Data { left } => (input.len() - used).min(left as usize),
                        _ => 1,
                    };
                    allowance = allowance
                        .checked_sub(len as u32)
                        .ok_or(Refusal::BodyTooLong)?;
                    used += len;
                    match at.after(byte, len as u32)? {
                        Some(next) => at = next,
                        None => {
                            *self = Self::Done;
                            return Ok(used);
                        }
                    }
                }
                *self = Self::Chunked { allowance, at };
                Ok(used)
            }
        }
    }
}

impl Chunk {
    /// The state after `byte`, or after `len` bytes of data; nothing at the end of the body.
    fn after(self, byte: u8, len: u32) -> Result<Option<Self>, Refusal> {
        let is_text = byte == b'\t' || !byte.is_ascii_control();
        Ok(Some(match (self, byte) {
            (Self::SizeStart | Self::Size { .. }, digit) if digit.is_ascii_hexdigit() => {
                let size = if let Self::Size { size } = self {
                    size
                } else {
                    0
                };
                let size = size * 16 + char::from(digit).to_digit(16).unwrap_or_default();
                if size > MAX_BODY {
                    return Err(Refusal::BodyTooLong);
                }
                Self::Size { size }
            }
            (Self::Size { size } | Self::Extension { size }, b'\r') => Self::SizeEnd { size },
            (Self::Size { size } | Self::SizeSpace { size }, b';') => Self::Extension { size },
            (Self::Size { size } | Self::SizeSpace { size }, b' ' | b'\t') => {
                Self::SizeSpace { size }
            }
            (Self::Extension { size }, _) if is_text => Self::Extension { size },
            (Self::SizeEnd { size: 0 }, b'\n') => Self::TrailerStart,
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::Data { left }, _) if left == len => Self::DataReturn,
            (Self::Data { left }, _) => Self::Data { left: left - len },
            (Self::DataReturn, b'\r') => Self::DataEnd,
            (Self::DataEnd, b'\n') => Self::SizeStart,
            (Self::TrailerStart, b'\r') => Self::LastEnd,
            (Self::TrailerStart | Self::TrailerName, byte) if is_token(byte) => Self::TrailerName,
            (Self::TrailerName, b':') => Self::TrailerValue,
            (Self::TrailerValue, b'\r') => Self::TrailerEnd,
            (Self::TrailerValue, _) if is_text => Self::TrailerValue,
            (Self::TrailerEnd, b'\n') => Self::TrailerStart,
            (Self::LastEnd, b'\n') => return Ok(None),
            (
                Self::TrailerStart
                | Self::TrailerName
                | Self::TrailerValue
                | Self::TrailerEnd
                | Self::LastEnd,
                _,
            ) => {
                return Err(Refusal::Trailer);
            }
            _ => return Err(Refusal::Chunk),
        }))
    }
}
