//! What a run found, for people and for programs.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use super::load::{Latency, Summary};

/// Everything that was found.
pub struct Report {
    /// Address and port.
    pub target: String,
    /// `quick` or `full`.
    pub effort: &'static str,
    /// Length of a trial, in seconds.
    pub trial_s: f64,
    /// Length of the trial that confirms a throughput.
    pub confirmation_s: f64,
    /// Whether times are those of an emulator.
    pub emulated: bool,
    /// What the target says it is; empty if it does not say.
    pub board: String,
    /// Its version.
    pub version: String,
    /// What the user says about it.
    pub note: String,
    /// By frame size.
    pub rows: Vec<Row>,
}

/// All benchmarks of one frame size.
pub struct Row {
    /// Bytes, with FCS.
    pub size: usize,
    /// The trial that confirmed the throughput.
    pub throughput: Summary,
    /// Round trips in it.
    pub latency: Latency,
    /// This machine could not send faster.
    pub sender_limited: bool,
    /// From the highest rate down.
    pub curve: Vec<Summary>,
    /// The longest burst without loss.
    pub burst: usize,
    /// The longest that was tried.
    pub longest_burst: usize,
}

impl Row {
    /// Bits of frames, preamble and gap, per second.
    fn mbps(&self) -> f64 {
        self.throughput.rate * (self.size as f64 + 20.0) * 8.0 / 1e6
    }
}

fn percent_lost(summary: &Summary) -> f64 {
    100.0 * summary.lost as f64 / (summary.sent as f64).max(1.0)
}

impl Report {
    /// The report in Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("# RFC 2544 against {}\n\n", self.target);
        let or_unknown = |text: &str| {
            if text.is_empty() {
                "unknown".to_owned()
            } else {
                text.to_owned()
            }
        };
        let where_ = if self.emulated {
            "**emulated**: rates and times are those of an emulator on its host, and say nothing about silicon"
        } else {
            "not known to be emulated"
        };
        // Writing to a string does not fail; the same below.
        let _ = write!(
            text,
            "- target: {}, Ristretto {}\n- {where_}\n- sender: an ordinary UDP socket, {} processors\n- {}: trials of \
             {} s, confirmed for {} s; every frame goes there and comes back\n",
            or_unknown(&self.board),
            or_unknown(&self.version),
            processors(),
            self.effort,
            self.trial_s,
            self.confirmation_s,
        );
        if !self.note.is_empty() {
            let _ = writeln!(text, "- {}", self.note);
        }
        text += "\n## Throughput, and latency at that rate\n\n\
                 | frame, bytes | frames/s without loss | Mbit/s on the wire | round trip min | mean | p50 | p99 | max, µs | burst without loss |\n\
                 | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n";
        for row in &self.rows {
            let Latency {
                min_us,
                mean_us,
                p50_us,
                p99_us,
                max_us,
            } = row.latency;
            let _ = writeln!(
                text,
                "| {} | {}{:.0}{} | {:.1} | {min_us:.0} | {mean_us:.0} | {p50_us:.0} | {p99_us:.0} | {max_us:.0} | {}{} |",
                row.size,
                if row.throughput.lost > 0 {
                    "below "
                } else {
                    ""
                },
                row.throughput.rate,
                if row.sender_limited {
                    " (sender's limit)"
                } else {
                    ""
                },
                row.mbps(),
                row.burst,
                if row.burst == row.longest_burst {
                    " (the longest tried)"
                } else {
                    ""
                },
            );
        }
        text += "\n## Frame loss\n\n| frame, bytes | frames/s offered | lost |\n| ---: | ---: | ---: |\n";
        for row in &self.rows {
            for point in &row.curve {
                let _ = writeln!(
                    text,
                    "| {} | {:.0} | {:.2} % |",
                    row.size,
                    point.rate,
                    percent_lost(point)
                );
            }
        }
        text
    }

    /// The same for programs.
    pub fn json(&self) -> String {
        let mut text = format!(
            "{{\n  \"target\": {}, \"board\": {}, \"version\": {}, \"emulated\": {}, \"note\": {},\n  \"effort\": \"{}\", \
             \"trial_s\": {}, \"confirmation_s\": {}, \"sender\": \"udp socket\", \"processors\": {},\n  \"frames\": [",
            quoted(&self.target),
            quoted(&self.board),
            quoted(&self.version),
            self.emulated,
            quoted(&self.note),
            self.effort,
            self.trial_s,
            self.confirmation_s,
            processors(),
        );
        for (number, row) in self.rows.iter().enumerate() {
            let Latency {
                min_us,
                mean_us,
                p50_us,
                p99_us,
                max_us,
            } = row.latency;
            let _ = write!(
                text,
                "{}\n    {{\"bytes\": {}, \"throughput_fps\": {:.1}, \"sender_limited\": {}, \"sent\": {}, \"lost\": {},\n     \
                 \"latency_us\": {{\"min\": {min_us:.1}, \"mean\": {mean_us:.1}, \"p50\": {p50_us:.1}, \"p99\": {p99_us:.1}, \"max\": {max_us:.1}}},\n     \
                 \"back_to_back\": {}, \"longest_burst_tried\": {}, \"loss\": [",
                if number == 0 { "" } else { "," },
                row.size,
                row.throughput.rate,
                row.sender_limited,
                row.throughput.sent,
                row.throughput.lost,
                row.burst,
                row.longest_burst,
            );
            for (number, point) in row.curve.iter().enumerate() {
                let comma = if number == 0 { "" } else { ", " };
                let _ = write!(
                    text,
                    "{comma}{{\"fps\": {:.1}, \"sent\": {}, \"lost\": {}}}",
                    point.rate, point.sent, point.lost
                );
            }
            text += "]}";
        }
        text + "\n  ]\n}\n"
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted + "\""
}

/// The target's own account of itself; nothing if it gives none.
pub fn status(target: SocketAddr) -> String {
    let ask = || {
        let patience = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&target, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(
            b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        )?;
        let mut answer = Vec::new();
        // Another server may say anything, for as long as it likes.
        stream.take(65_536).read_to_end(&mut answer)?;
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    ask().unwrap_or_default()
}

/// A text in the target's account.
pub fn field(status: &str, name: &str) -> String {
    let begin = format!("\"{name}\":\"");
    let text = status.split_once(&begin).map(|(_, rest)| rest);
    text.and_then(|rest| rest.split('"').next())
        .unwrap_or_default()
        .to_owned()
}

/// Whether it is one of QEMU's own machines, or reached through QEMU's forwarding.
pub fn looks_emulated(target: IpAddr, status: &str) -> bool {
    target.is_loopback() || status.contains("dummy-virt") || status.contains("\"52:54:00:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(emulated: bool) -> Report {
        let point = |lost| Summary {
            rate: 1000.0,
            sent: 200,
            lost,
        };
        Report {
            target: "192.0.2.7:7".into(),
            effort: "quick",
            trial_s: 0.5,
            confirmation_s: 2.0,
            emulated,
            board: "a \"board\"".into(),
            version: "0.1.0".into(),
            note: String::new(),
            rows: vec![Row {
                size: 64,
                throughput: point(0),
                latency: Latency {
                    min_us: 1.0,
                    mean_us: 2.0,
                    p50_us: 2.0,
                    p99_us: 3.0,
                    max_us: 4.0,
                },
                sender_limited: true,
                curve: vec![point(20), point(0)],
                burst: 8192,
                longest_burst: 8192,
            }],
        }
    }

    #[test]
    fn a_report_says_what_it_ran_on() {
        let text = report(true).markdown();
        for part in [
            "**emulated**",
            "| 64 | 1000 (sender's limit) | 0.7 | 1 | 2 | 2 | 3 | 4 | 8192 (the longest tried) |",
            "| 64 | 1000 | 10.00 % |",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!report(false).markdown().contains("**emulated**"));
        let json = report(true).json();
        for part in [
            "\"emulated\": true",
            "\"board\": \"a \\\"board\\\"\"",
            "\"loss\": [{\"fps\": 1000.0, \"sent\": 200, \"lost\": 20}, ",
        ] {
            assert!(json.contains(part), "{part}: {json}");
        }
        let opened = json.matches(['{', '[']).count();
        assert_eq!(opened, json.matches(['}', ']']).count());
    }

    #[test]
    fn a_target_tells_what_it_is() {
        let status =
            "HTTP/1.1 200 OK\r\n\r\n{\"board\":\"linux,dummy-virt\",\"version\":\"0.1.0\"}";
        assert_eq!(field(status, "board"), "linux,dummy-virt");
        assert_eq!(field(status, "missing"), "");
        let elsewhere = IpAddr::from([192, 0, 2, 7]);
        assert!(looks_emulated(elsewhere, status));
        assert!(looks_emulated(IpAddr::from([127, 0, 0, 1]), ""));
        assert!(!looks_emulated(elsewhere, "\"board\":\"Globalscale\""));
    }
}
