//! The picture: how many answers were no slower (left), and the slowest of each moment (right).

use std::fmt::Write as _;

use super::Run;
use super::record::COLUMNS;

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 40.0;
const COLOURS: [&str; 8] = [
    "#1b6ca8", "#c8553d", "#3a7d44", "#7b4b94", "#b8860b", "#2a9d8f", "#6c757d", "#d81b60",
];

/// A scale of latencies: powers of ten, from the fastest to the slowest.
struct Scale {
    least: f64,
    decades: f64,
}

impl Scale {
    fn of(runs: &[Run]) -> Self {
        let some = || {
            runs.iter()
                .map(|run| &run.record)
                .filter(|record| record.answered() > 0)
        };
        let least = some().map(|record| record.min_ns()).min().unwrap_or(1_000);
        let most = some()
            .map(|record| record.max_ns())
            .max()
            .unwrap_or(1_000_000);
        let least = (least.max(1) as f64).log10().floor();
        let decades = ((most.max(1) as f64).log10().ceil() - least).max(1.0);
        Self { least, decades }
    }

    /// Where a latency stands, from 0 to 1.
    fn at(&self, ns: u64) -> f64 {
        (((ns.max(1) as f64).log10() - self.least) / self.decades).clamp(0.0, 1.0)
    }

    fn ticks(&self) -> impl Iterator<Item = (f64, String)> {
        let (least, decades) = (self.least, self.decades);
        (0..=decades as i32).map(move |decade| {
            let ns = 10f64.powf(least + f64::from(decade));
            let name = match ns {
                ns if ns >= 1e9 => format!("{} s", ns / 1e9),
                ns if ns >= 1e6 => format!("{} ms", ns / 1e6),
                ns if ns >= 1e3 => format!("{} µs", ns / 1e3),
                ns => format!("{ns} ns"),
            };
            (f64::from(decade) / decades, name)
        })
    }
}

/// Fractions as nines: a line for each ten times fewer answers.
const NINES: [(&str, f64); 6] = [
    ("0", 0.0),
    ("90 %", 0.9),
    ("99 %", 0.99),
    ("99.9 %", 0.999),
    ("99.99 %", 0.9999),
    ("99.999 %", 0.99999),
];

fn nines(fraction: f64) -> f64 {
    (-(1.0 - fraction).max(1e-5).log10() / 5.0).clamp(0.0, 1.0)
}

/// Writing to a string cannot fail: its results are dropped.
pub(super) fn svg(runs: &[Run]) -> String {
    let scale = Scale::of(runs);
    let right = 2.0 * LEFT + WIDTH;
    let (whole, bottom) = (right + WIDTH + 30.0, TOP + HEIGHT);
    let height = bottom + 50.0 + 18.0 * runs.len() as f64;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {whole} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let mut line = |x1: f64, y1: f64, x2: f64, y2: f64| {
        let _ = writeln!(
            text,
            "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"#ddd\"/>"
        );
    };
    let y_of = |fraction: f64| bottom - fraction * HEIGHT;
    for (at, _) in scale.ticks() {
        line(LEFT + at * WIDTH, TOP, LEFT + at * WIDTH, bottom);
        line(right, y_of(at), right + WIDTH, y_of(at));
    }
    for (_, fraction) in NINES {
        line(
            LEFT,
            y_of(nines(fraction)),
            LEFT + WIDTH,
            y_of(nines(fraction)),
        );
    }
    let mut label = |x: f64, y: f64, anchor: &str, what: &str| {
        let _ = writeln!(
            text,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{what}</text>"
        );
    };
    label(LEFT, TOP - 14.0, "start", "Answers no slower than");
    label(
        right,
        TOP - 14.0,
        "start",
        "The slowest answer of each moment",
    );
    for (at, name) in scale.ticks() {
        label(LEFT + at * WIDTH, bottom + 18.0, "middle", &name);
        label(right - 6.0, y_of(at) + 4.0, "end", &name);
    }
    for (name, fraction) in NINES {
        label(LEFT - 6.0, y_of(nines(fraction)) + 4.0, "end", name);
    }
    label(right, bottom + 18.0, "start", "start");
    label(right + WIDTH, bottom + 18.0, "end", "end of the run");
    for (index, run) in runs.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        // Who comes after all colours is told apart by dashes.
        let dashes = match index / COLOURS.len() {
            0 => String::new(),
            lap => format!(" stroke-dasharray=\"{} 2\"", (8 / lap).max(1)),
        };
        let mut path = String::new();
        let mut before = None;
        for (ns, _, fraction) in run.record.steps() {
            let (x, y) = (LEFT + scale.at(ns) * WIDTH, y_of(nines(fraction)));
            match before {
                None => drop(write!(path, "M{x:.1} {bottom:.1}V{y:.1}")),
                Some(_) => drop(write!(path, "H{x:.1}V{y:.1}")),
            }
            before = Some(x);
        }
        let _ = writeln!(
            text,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\"{dashes}/>"
        );
        path.clear();
        for (column, ns) in run
            .record
            .columns
            .iter()
            .enumerate()
            .filter(|(_, ns)| **ns > 0)
        {
            let x = right + column as f64 / COLUMNS as f64 * WIDTH;
            let _ = write!(path, "M{x:.1} {:.1}h1.5", y_of(scale.at(*ns)));
        }
        let _ = writeln!(
            text,
            "<path d=\"{path}\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
        );
        let y = bottom + 42.0 + 18.0 * index as f64;
        let _ = writeln!(
            text,
            "<path d=\"M{LEFT} {:.1}h20\" stroke=\"{colour}\" stroke-width=\"3\"{dashes}/>\n<text x=\"{}\" y=\"{y:.1}\">{}</text>",
            y - 4.0,
            LEFT + 26.0,
            run.plan
        );
    }
    text + "</svg>\n"
}
