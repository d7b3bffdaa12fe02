//! The figures, what they must be, and how they are printed.

use std::fmt::Write;

use crate::error::{Result, failure};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Entry to the first DHCP DISCOVER on the wire; Linux: to a listening server.
    Boot,
    /// A UDP echo of 18 bytes, which make the smallest frame.
    UdpSmall,
    /// A UDP echo of 1400 bytes.
    UdpLarge,
    /// A request on one keep-alive connection.
    Request,
    /// A request when 64 connections ask at once.
    Volley,
    /// A connection with one request.
    Connection,
    /// A second without work.
    Idle,
    /// The kernel image as a file.
    ImageSize,
    /// The kernel image in memory, with its variables.
    Footprint,
    /// The smallest machine that serves 64 connections.
    Memory,
}

/// A line of the table.
pub struct Row {
    /// In JSON.
    pub key: &'static str,
    /// For people.
    pub name: &'static str,
    /// What ours may not exceed.
    pub must: Option<f64>,
    /// What ours should reach.
    pub aim: Option<f64>,
}

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;

impl Figure {
    /// In the order of the table.
    pub const ALL: [Self; 10] = [
        Self::Boot,
        Self::UdpSmall,
        Self::UdpLarge,
        Self::Request,
        Self::Volley,
        Self::Connection,
        Self::Idle,
        Self::ImageSize,
        Self::Footprint,
        Self::Memory,
    ];

    /// Its line of the table.
    pub fn row(self) -> Row {
        let row = |key, name, must, aim| Row {
            key,
            name,
            must: Some(must),
            aim: Some(aim),
        };
        match self {
            Self::Boot => row(
                "boot",
                "entry to first DHCP DISCOVER (Linux: to a listening server)",
                15e6,
                3e6,
            ),
            Self::UdpSmall => row("udp_echo_18", "UDP echo, 18 B", 4000.0, 1500.0),
            Self::UdpLarge => row("udp_echo_1400", "UDP echo, 1400 B", 4000.0, 1500.0),
            Self::Request => row("http_keep_alive", "keep-alive HTTP request", 8000.0, 4000.0),
            Self::Volley => Row {
                must: None,
                aim: None,
                ..row("http_64", "HTTP request, 64 connections at once", 0.0, 0.0)
            },
            Self::Connection => row("http_connection", "connect + request + close", 40e3, 20e3),
            Self::Idle => row("idle_second", "idle second, link up", 20e3, 3000.0),
            Self::ImageSize => row("image_bytes", "image, bytes", 512.0 * KIB, 256.0 * KIB),
            Self::Footprint => Row {
                must: None,
                aim: None,
                ..row("footprint_bytes", "image in memory, bytes", 0.0, 0.0)
            },
            Self::Memory => row(
                "memory_bytes",
                "smallest machine that serves 64 connections, bytes",
                16.0 * MIB,
                8.0 * MIB,
            ),
        }
    }
}

/// A figure as it was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The repetition in the middle.
    pub median: f64,
    /// The largest repetition less the smallest, as a share of the median. `None` if there is nothing to repeat.
    pub spread: Option<f64>,
}

impl Measured {
    /// Of repetitions; of none it is nothing.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let median = values.get(values.len() / 2).copied().unwrap_or_default();
        let range = values
            .last()
            .zip(values.first())
            .map_or(0.0, |(largest, smallest)| largest - smallest);
        // Nothing at all, again and again, is no spread.
        let spread = if range == 0.0 {
            0.0
        } else {
            range / median.abs().max(1.0)
        };
        Self {
            median,
            spread: Some(spread),
        }
    }

    /// What is not measured but read.
    pub fn exactly(value: f64) -> Self {
        Self {
            median: value,
            spread: None,
        }
    }

    /// The cost of one of several units that were measured together.
    pub fn divided_by(self, units: usize) -> Self {
        Self {
            median: self.median / units as f64,
            ..self
        }
    }
}

/// The figures of one system.
pub struct Results {
    /// For people.
    pub system: String,
    /// Whether it is the one that must keep to the figures.
    pub ours: bool,
    /// Each figure once, or not at all if it was not measured.
    pub figures: Vec<(Figure, Measured)>,
}

impl Results {
    fn get(&self, figure: Figure) -> Option<Measured> {
        self.figures
            .iter()
            .find(|(measured, _)| *measured == figure)
            .map(|(_, value)| *value)
    }
}

/// The table, in Markdown.
pub fn markdown(results: &[Results]) -> String {
    let mut table = "| guest instructions, unless it says bytes |".to_owned();
    for result in results {
        // Writing to a string does not fail.
        let _ = write!(table, " {} |", result.system);
    }
    let both = if let [ours, linux] = results {
        Some((ours, linux))
    } else {
        None
    };
    table += if both.is_some() { " ratio |" } else { "" };
    table += " must | aim |\n| --- |";
    table += &" ---: |".repeat(results.len() + usize::from(both.is_some()) + 2);
    for figure in Figure::ALL {
        let row = figure.row();
        let _ = write!(table, "\n| {} |", row.name);
        for result in results {
            let _ = write!(table, " {} |", cell(result.get(figure)));
        }
        if let Some((ours, linux)) = both {
            let ratio = ours
                .get(figure)
                .zip(linux.get(figure))
                .filter(|(ours, _)| ours.median > 0.0)
                .map(|(ours, linux)| linux.median / ours.median);
            let _ = write!(
                table,
                " {} |",
                ratio.map_or_else(String::new, |ratio| format!("{ratio:.1}"))
            );
        }
        for bound in [row.must, row.aim] {
            let _ = write!(table, " {} |", bound.map_or_else(String::new, number));
        }
    }
    table + "\n"
}

fn cell(value: Option<Measured>) -> String {
    match value {
        Some(Measured {
            median,
            spread: Some(spread),
        }) => format!("{} ±{:.1} %", number(median), spread * 50.0),
        Some(Measured {
            median,
            spread: None,
        }) => number(median),
        None => String::new(),
    }
}

/// A number with its thousands apart, as far as it says something.
pub fn number(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The same for programs: systems, and in each the figures by their keys.
pub fn json(results: &[Results]) -> String {
    let system = |result: &Results| {
        let figures = result.figures.iter().map(|(figure, value)| {
            let spread = value
                .spread
                .map_or_else(|| "null".to_owned(), |spread| format!("{spread:.4}"));
            format!(
                "    \"{}\": {{ \"value\": {:.1}, \"spread\": {spread} }}",
                figure.row().key,
                value.median
            )
        });
        let key = if result.ours { "ours" } else { "linux" };
        let head = format!("  \"{key}\": {{\n    \"system\": \"{}\",\n", result.system);
        head + &figures.collect::<Vec<_>>().join(",\n") + "\n  }"
    };
    format!(
        "{{\n{}\n}}\n",
        results.iter().map(system).collect::<Vec<_>>().join(",\n")
    )
}

/// Compares ours with what it must be.
///
/// # Errors
///
/// If a figure is beyond that, or if one that has a bound could not be measured; the error names them.
pub fn judge(results: &[Results]) -> Result<()> {
    let mut complaints = Vec::new();
    for ours in results.iter().filter(|result| result.ours) {
        for figure in Figure::ALL {
            let row = figure.row();
            match (row.must, ours.get(figure)) {
                (Some(must), Some(value)) if value.median > must => {
                    complaints.push(format!(
                        "{}: {} of {}",
                        row.name,
                        number(value.median),
                        number(must)
                    ));
                }
                (Some(_), None) => complaints.push(format!("{}: not reached", row.name)),
                _ => {}
            }
        }
    }
    if complaints.is_empty() {
        Ok(())
    } else {
        failure(format!("beyond what it must be: {}", complaints.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(system: &str, ours: bool, boot: f64) -> Results {
        let figures = vec![(
            Figure::Boot,
            Measured::of(vec![boot + 1.0, boot - 1.0, boot]),
        )];
        Results {
            system: system.to_owned(),
            ours,
            figures,
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(number(0.0), "0");
        assert_eq!(number(999.4), "999");
        assert_eq!(number(1_000.0), "1,000");
        assert_eq!(number(15e6), "15,000,000");
    }

    #[test]
    fn the_table_has_a_ratio_only_for_two() {
        let both = markdown(&[
            results("Ristretto", true, 1e6),
            results("Linux", false, 9e6),
        ]);
        assert!(
            both.contains("| Ristretto | Linux | ratio | must | aim |"),
            "{both}"
        );
        assert!(
            both.contains("| 1,000,000 ±0.0 % | 9,000,000 ±0.0 % | 9.0 | 15,000,000 | 3,000,000 |"),
            "{both}"
        );
        let one = markdown(&[results("Linux", false, 9e6)]);
        assert!(one.contains("| Linux | must | aim |"), "{one}");
    }

    #[test]
    fn only_ours_is_judged_and_on_every_bound() {
        assert_eq!(judge(&[results("Linux", false, 1e9)]), Ok(()));
        let error = judge(&[results("Ristretto", true, 16e6)])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("16,000,000 of 15,000,000")
                && error.contains("UDP echo, 18 B: not reached"),
            "{error}"
        );
        let figures = Figure::ALL.map(|figure| {
            (
                figure,
                Measured::exactly(figure.row().aim.unwrap_or_default()),
            )
        });
        let good = Results {
            system: String::new(),
            ours: true,
            figures: figures.to_vec(),
        };
        assert_eq!(judge(&[good]), Ok(()));
    }
}
