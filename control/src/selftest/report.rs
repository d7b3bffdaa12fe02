//! What came of a run: TAP version 14 for people and harnesses, JUnit XML for those who collect it.

use super::{Entry, Verdict};
use core::fmt::{self, Write};

/// How a run is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Test Anything Protocol.
    Tap,
    /// What continuous integration servers collect.
    Junit,
    /// The shell's own.
    Json,
}

impl Format {
    /// `tap`, `junit`, `json`.
    pub fn named(name: &str) -> Option<Format> {
        match name {
            "tap" => Some(Format::Tap),
            "junit" => Some(Format::Junit),
            "json" => Some(Format::Json),
            _ => None,
        }
    }
}

/// The first line of every TAP document.
pub const TAP_VERSION: &str = "TAP version 14";

/// The line of one test: `ok 3 - mac-loopback # 256 frames, 0 differ`, without its end.
pub fn tap_line(out: &mut dyn Write, number: usize, entry: &Entry) -> fmt::Result {
    let not = match entry.verdict {
        Verdict::Failed => "not ",
        Verdict::Passed | Verdict::Skipped => "",
    };
    let skip = match entry.verdict {
        Verdict::Skipped => "SKIP ",
        Verdict::Passed | Verdict::Failed => "",
    };
    write!(out, "{not}ok {number} - {} # {skip}", Name(entry))?;
    // A hash would begin another comment, a line feed another line.
    for character in entry.detail.chars() {
        match character {
            '#' | '\\' => write!(out, "\\{character}")?,
            _ if character.is_control() => out.write_char('?')?,
            _ => out.write_char(character)?,
        }
    }
    Ok(())
}

/// A run as JUnit XML. All there is of a schema are tools that read it: a suite of cases, each with a `failure` or a
/// `skipped` in it, or neither.
pub fn junit(out: &mut dyn Write, entries: &[Entry]) -> fmt::Result {
    let count = |verdict| entries.iter().filter(|e| e.verdict == verdict).count();
    let (failed, skipped) = (count(Verdict::Failed), count(Verdict::Skipped));
    let us = entries.iter().map(|entry| entry.took_us).sum();
    out.write_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")?;
    writeln!(
        out,
        "<testsuite name=\"selftest\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"{skipped}\" time=\"{}\">",
        entries.len(),
        Seconds(us),
    )?;
    for entry in entries {
        let seconds = Seconds(entry.took_us);
        let (before, after) = match entry.verdict {
            Verdict::Passed => ("<system-out>", "</system-out>"),
            Verdict::Failed => ("<failure message=\"", "\"/>"),
            Verdict::Skipped => ("<skipped message=\"", "\"/>"),
        };
        write!(
            out,
            "<testcase classname=\"selftest\" name=\"{}\" time=\"{seconds}\">{before}",
            Name(entry)
        )?;
        for character in entry.detail.chars() {
            match character {
                '&' => out.write_str("&amp;")?,
                '<' => out.write_str("&lt;")?,
                '>' => out.write_str("&gt;")?,
                '"' => out.write_str("&quot;")?,
                _ if character.is_control() => out.write_char('?')?,
                _ => out.write_char(character)?,
            }
        }
        writeln!(out, "{after}</testcase>")?;
    }
    out.write_str("</testsuite>\n")
}

/// A test and the port that it was for.
pub struct Name<'e>(pub &'e Entry);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.test)?;
        match self.0.port.as_str() {
            "" => Ok(()),
            port => write!(f, " {port}"),
        }
    }
}

struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}
