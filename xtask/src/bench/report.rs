//! The figures, what they must be, and how they are printed.

use std::fmt::Write;

use crate::error::{Result, failure};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Entry to the first frame or DHCP DISCOVER on the wire; Linux: to a listening server.
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
    /// Of a small UDP echo, what is spent in the network driver and on the switch's tags.
    DriverShare,
    /// Loads from and stores to device registers per small UDP echo.
    DeviceAccesses,
    /// How often the payload of a UDP echo is written by the processor.
    Copies,
    /// Frames received per interrupt of the MAC when more come than can be served.
    FramesPerInterrupt,
    /// A small UDP echo when more come than can be served.
    Saturated,
}

/// A line of the table.
pub struct Row {
    /// What it shows.
    pub figure: Figure,
    /// In JSON.
    pub key: &'static str,
    /// For people.
    pub name: &'static str,
    /// What ours must be and should be, if anything.
    pub bounds: Option<Bounds>,
}

/// What is asked of a figure of ours.
#[derive(Clone, Copy)]
pub struct Bounds {
    must: f64,
    aim: f64,
    /// Both are what it has to reach, not what it may not exceed.
    is_least: bool,
}

impl Bounds {
    fn admit(self, value: f64) -> bool {
        if self.is_least {
            value >= self.must
        } else {
            value <= self.must
        }
    }
}

const fn row(figure: Figure, key: &'static str, name: &'static str) -> Row {
    Row {
        figure,
        key,
        name,
        bounds: None,
    }
}

impl Row {
    const fn at_most(self, must: f64, aim: f64) -> Self {
        let bounds = Some(Bounds {
            must,
            aim,
            is_least: false,
        });
        Self { bounds, ..self }
    }

    const fn at_least(self, must: f64, aim: f64) -> Self {
        let bounds = Some(Bounds {
            must,
            aim,
            is_least: true,
        });
        Self { bounds, ..self }
    }
}

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;

/// What is measured on QEMU's own machine, in the order of its table.
pub const VIRT: &[Row] = &[
    row(
        Figure::Boot,
        "boot",
        "entry to first DHCP DISCOVER (Linux: to a listening server)",
    )
    .at_most(15e6, 3e6),
    row(Figure::UdpSmall, "udp_echo_18", "UDP echo, 18 B").at_most(4000.0, 1500.0),
    row(Figure::UdpLarge, "udp_echo_1400", "UDP echo, 1400 B").at_most(4000.0, 1500.0),
    row(
        Figure::Request,
        "http_keep_alive",
        "keep-alive HTTP request",
    )
    .at_most(8000.0, 4000.0),
    row(
        Figure::Volley,
        "http_64",
        "HTTP request, 64 connections at once",
    ),
    row(
        Figure::Connection,
        "http_connection",
        "connect + request + close",
    )
    .at_most(40e3, 20e3),
    row(Figure::Idle, "idle_second", "idle second, link up").at_most(20e3, 3000.0),
    row(Figure::ImageSize, "image_bytes", "image, bytes").at_most(512.0 * KIB, 256.0 * KIB),
    row(
        Figure::Footprint,
        "footprint_bytes",
        "image in memory, bytes",
    ),
    row(
        Figure::Memory,
        "memory_bytes",
        "smallest machine that serves 64 connections, bytes",
    )
    .at_most(16.0 * MIB, 8.0 * MIB),
];

/// What is measured on the board's model, in the order of its table. All traffic goes through `wan`.
pub const ESPRESSOBIN: &[Row] = &[
    row(
        Figure::Boot,
        "boot",
        "entry to first frame sent by wan (Linux: to a listening server)",
    )
    .at_most(20e6, 5e6),
    row(Figure::UdpSmall, "udp_echo_18", "UDP echo, 18 B").at_most(4500.0, 1800.0),
    row(Figure::UdpLarge, "udp_echo_1400", "UDP echo, 1400 B").at_most(4500.0, 1800.0),
    row(
        Figure::DriverShare,
        "driver_share",
        "UDP echo, 18 B: share of driver and tag, both ways",
    )
    .at_most(900.0, 400.0),
    row(
        Figure::DeviceAccesses,
        "device_accesses",
        "UDP echo, 18 B: accesses to device registers",
    ),
    row(Figure::Copies, "copies", "UDP echo: copies of the payload").at_most(1.0, 0.0),
    row(
        Figure::FramesPerInterrupt,
        "frames_per_interrupt",
        "frames per interrupt at saturation",
    )
    .at_least(16.0, 32.0),
    row(
        Figure::Saturated,
        "udp_echo_saturated",
        "UDP echo, 18 B, at saturation",
    ),
    row(
        Figure::Request,
        "http_keep_alive",
        "keep-alive HTTP request",
    )
    .at_most(9000.0, 4500.0),
    row(
        Figure::Volley,
        "http_64",
        "HTTP request, 64 connections at once",
    ),
    row(
        Figure::Connection,
        "http_connection",
        "connect + request + close",
    ),
    row(Figure::Idle, "idle_second", "idle second, three links up").at_most(100e3, 20e3),
];

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
    /// What was to be measured.
    pub rows: &'static [Row],
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
    for row in results.first().map_or(&[][..], |result| result.rows) {
        let figure = row.figure;
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
        let bounds = row.bounds;
        for bound in [
            bounds.map(|bounds| bounds.must),
            bounds.map(|bounds| bounds.aim),
        ] {
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
    if value.abs() < 100.0 && value.fract() != 0.0 {
        return format!("{value:.1}");
    }
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
        let measured = result.rows.iter();
        let measured = measured.filter_map(|row| Some((row.key, result.get(row.figure)?)));
        let figures = measured.map(|(key, value)| {
            let spread = value
                .spread
                .map_or_else(|| "null".to_owned(), |spread| format!("{spread:.4}"));
            format!(
                "    \"{key}\": {{ \"value\": {:.1}, \"spread\": {spread} }}",
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
        for row in ours.rows {
            match (row.bounds, ours.get(row.figure)) {
                (Some(bounds), Some(value)) if !bounds.admit(value.median) => {
                    complaints.push(format!(
                        "{}: {} of {}",
                        row.name,
                        number(value.median),
                        number(bounds.must)
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
            rows: VIRT,
            figures,
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(number(0.0), "0");
        assert_eq!(number(7.26), "7.3");
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
        for rows in [VIRT, ESPRESSOBIN] {
            let aim = |row: &Row| row.bounds.map_or(0.0, |bounds| bounds.aim);
            let figures = rows
                .iter()
                .map(|row| (row.figure, Measured::exactly(aim(row))));
            let good = Results {
                system: String::new(),
                ours: true,
                rows,
                figures: figures.collect(),
            };
            assert_eq!(judge(&[good]), Ok(()));
        }
    }

    #[test]
    fn some_figures_have_to_be_reached() {
        let at = |value| {
            let results = Results {
                system: String::new(),
                ours: true,
                rows: &ESPRESSOBIN[6..7],
                figures: vec![(Figure::FramesPerInterrupt, Measured::exactly(value))],
            };
            judge(&[results])
        };
        assert_eq!(at(16.0), Ok(()));
        assert!(at(15.0).is_err());
    }
}
