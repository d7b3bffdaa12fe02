//! What a run measured: a histogram of all answers, and enough of them one by one for a time line.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::error::{Error, Result};

/// The percentiles that are shown, and their names.
pub const SHOWN: [(&str, f64); 5] = [
    ("p50", 50.0),
    ("p90", 90.0),
    ("p99", 99.0),
    ("p99.9", 99.9),
    ("p99.99", 99.99),
];
/// Columns of the time line: each keeps its worst answer.
pub const COLUMNS: usize = 600;

/// One run's answers.
pub struct Record {
    histogram: Histogram<u64>,
    time: Duration,
    /// The worst answer of each part of the run, in nanoseconds.
    pub columns: Vec<u64>,
    /// Requests that left.
    pub sent: u64,
    /// Requests without an answer.
    pub lost: u64,
}

impl Record {
    /// Nothing yet, of a run of this length.
    ///
    /// # Errors
    ///
    /// None in practice: the histogram's bounds are ours.
    pub fn new(time: Duration) -> Result<Self> {
        // Three digits: a tenth of a percent, from a nanosecond to a minute.
        let histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3)
            .map_err(|error| Error::Failure(format!("histogram: {error}")))?;
        Ok(Self {
            histogram,
            time,
            columns: vec![0; COLUMNS],
            sent: 0,
            lost: 0,
        })
    }

    /// One answer, to the request that was due so long after the start.
    pub fn answer(&mut self, due: Duration, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.histogram.saturating_record(ns);
        let column = (due.as_secs_f64() / self.time.as_secs_f64() * COLUMNS as f64) as usize;
        if let Some(worst) = self.columns.get_mut(column) {
            *worst = ns.max(*worst);
        }
    }

    /// How many answers.
    pub fn answered(&self) -> u64 {
        self.histogram.len()
    }

    /// The fastest.
    pub fn min_ns(&self) -> u64 {
        match self.answered() {
            0 => 0,
            _ => self.histogram.min(),
        }
    }

    /// The slowest.
    pub fn max_ns(&self) -> u64 {
        self.histogram.max()
    }

    /// So many percent were no slower.
    pub fn percentile_ns(&self, percentile: f64) -> u64 {
        self.histogram.value_at_percentile(percentile)
    }

    /// Latency, number of answers, and the fraction of answers up to there, in ascending order.
    pub fn steps(&self) -> impl Iterator<Item = (u64, u64, f64)> {
        let whole = self.answered().max(1) as f64;
        let mut seen = 0;
        self.histogram.iter_recorded().map(move |step| {
            seen += step.count_at_value();
            (
                step.value_iterated_to(),
                step.count_at_value(),
                seen as f64 / whole,
            )
        })
    }
}
