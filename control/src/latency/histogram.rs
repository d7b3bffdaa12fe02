//! A histogram of fixed size, in the manner of HdrHistogram: 64 steps to each doubling.
//!
//! A floating-point number *is* such a scale: its exponent is the doubling, the first six bits of its mantissa are the
//! step. So the place of a value is found by one conversion and one shift. The middle of a step is at most 1/129 away
//! from any value in it, which is 0.78 %; up to 128 every number has a step of its own.

/// Bits of a `f32`'s mantissa that tell no steps apart: 23, less six.
const SHIFT: u32 = 17;
/// 64 steps for each of 32 doublings; the exponent's upper bits are left out, which turns the table but loses nothing.
const STEPS: usize = 64 * 32;
/// The largest value: about a second at 2 GHz. What is above counts as this.
pub const MAX: u32 = 1 << 31;

/// Steps of a doubling.
const DOUBLING: usize = 64;

/// Steps that make one bin of a drawing: a quarter of a doubling.
const BIN: u32 = SHIFT + 4;

/// Counts of values from 1 to [`MAX`].
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: [u32; STEPS],
    /// Bit by bit the doublings that have been met, in the order of the table: few have, and reading passes over the rest.
    met: u32,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: [0; STEPS],
            met: 0,
        }
    }
}

impl Histogram {
    /// Counts `value`; 0 counts as 1. A step that has been met 2^32 - 1 times stays there.
    #[inline]
    pub fn record(&mut self, value: u32) {
        let step = step(value);
        let count = &mut self.counts[step];
        *count = count.saturating_add(1);
        self.met |= 1 << (step / DOUBLING);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.met = 0;
    }

    /// What was counted, in figures.
    #[inline(never)]
    pub fn summary(&self) -> Summary {
        let mut count = 0;
        self.each_step(&mut |_, times| count += u64::from(times));
        let mut summary = Summary {
            count,
            ..Summary::default()
        };
        if count == 0 {
            return summary;
        }
        // The rank of a percentile is the smallest number of values that are so many of all.
        let ranks = PERCENTILES.map(|(_, millionths)| {
            let rank = (u128::from(count) * u128::from(millionths)).div_ceil(1_000_000);
            (rank as u64).max(1)
        });
        let (mut seen, mut next) = (0, 0);
        self.each_step(&mut |bits, count| {
            let value = middle(bits);
            if seen == 0 {
                summary.min = value;
            }
            seen += u64::from(count);
            summary.sum += u64::from(value) * u64::from(count);
            while ranks.get(next).is_some_and(|&rank| rank <= seen) {
                summary.percentiles[next] = value;
                next += 1;
            }
            summary.max = value;
        });
        summary
    }

    /// For a drawing: each quarter of a doubling that has been met, from where to where, and how often.
    #[inline(never)]
    pub fn each_bin(&self, show: &mut dyn FnMut([u64; 3])) {
        let edge = |bin: u32| u64::from(f32::from_bits(bin << BIN) as u32);
        let mut present = (0, 0);
        let mut add = |bin: u32, count: u32| {
            if bin != present.0 {
                if present.1 != 0 {
                    show([edge(present.0), edge(present.0 + 1), present.1]);
                }
                present = (bin, 0);
            }
            present.1 += u64::from(count);
        };
        self.each_step(&mut |bits, count| add((middle(bits) as f32).to_bits() >> BIN, count));
        add(0, 0);
    }

    /// Each step that has been met, in ascending order, as the upper bits of its values' `f32`, and how often.
    fn each_step(&self, show: &mut dyn FnMut(u32, u32)) {
        // The table begins with some doubling in the middle; the scale begins with 1.
        let first = 1f32.to_bits() >> SHIFT;
        for bits in (first..first + STEPS as u32).step_by(DOUBLING) {
            let at = bits as usize & (STEPS - 1);
            if self.met >> (at / DOUBLING) & 1 == 0 {
                continue;
            }
            for (bits, count) in (bits..).zip(&self.counts[at..at + DOUBLING]) {
                if *count != 0 {
                    show(bits, *count);
                }
            }
        }
    }
}

#[inline]
fn step(value: u32) -> usize {
    ((value.min(MAX) | u32::from(value == 0)) as f32).to_bits() as usize >> SHIFT & (STEPS - 1)
}

/// The middle of the integers in a step.
fn middle(bits: u32) -> u32 {
    let edge = |bits: u32| f32::from_bits(bits << SHIFT);
    // Ascending steps end where the next one starts; what lies between two integers belongs to none.
    let (first, after) = (edge(bits), edge(bits + 1));
    let first = first as u32 + u32::from(first > first as u32 as f32);
    let last = (after as u32).saturating_sub(u32::from(after == after as u32 as f32));
    first + last.saturating_sub(first) / 2
}

/// The percentiles of a [`Summary`]: names as Prometheus and people write them, and how many of a million.
pub const PERCENTILES: [(Percentile, u32); 5] = [
    (
        Percentile {
            key: "p50",
            quantile: "0.5",
        },
        500_000,
    ),
    (
        Percentile {
            key: "p90",
            quantile: "0.9",
        },
        900_000,
    ),
    (
        Percentile {
            key: "p99",
            quantile: "0.99",
        },
        990_000,
    ),
    (
        Percentile {
            key: "p99_9",
            quantile: "0.999",
        },
        999_000,
    ),
    (
        Percentile {
            key: "p99_99",
            quantile: "0.9999",
        },
        999_900,
    ),
];

/// The names of a percentile.
#[derive(Clone, Copy, Debug)]
pub struct Percentile {
    /// As a key.
    pub key: &'static str,
    /// As a part of one.
    pub quantile: &'static str,
}

/// A histogram in figures; all of them are off by less than 1 %, but for the count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many values.
    pub count: u64,
    /// The smallest.
    pub min: u32,
    /// The largest.
    pub max: u32,
    /// In the order of [`PERCENTILES`].
    pub percentiles: [u32; PERCENTILES.len()],
    /// All of them together.
    pub sum: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn off(shown: u32, real: u32) -> f64 {
        (f64::from(shown) - f64::from(real)).abs() / f64::from(real)
    }

    fn shown(value: u32) -> u32 {
        let mut histogram = Histogram::default();
        histogram.record(value);
        let summary = histogram.summary();
        assert_eq!((summary.count, summary.min), (1, summary.max), "{value}");
        summary.max
    }

    #[test]
    fn every_value_is_shown_with_less_than_one_percent_of_error() {
        for value in 1..=128 {
            assert_eq!(shown(value), value);
        }
        let mut random = Random::new(Some(b"seed"));
        let edges = (7..32).flat_map(|bit| [(1u32 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        let others = (0..20_000).map(|_| (random.draw() >> 33) as u32 >> (random.draw() % 31));
        let mut worst = 0f64;
        for value in edges
            .chain(others)
            .filter(|&value| (1..=MAX).contains(&value))
        {
            worst = worst.max(off(shown(value), value));
        }
        assert!(worst < 0.01, "{worst}");
        assert!(worst > 0.005, "the property is not tested: {worst}");
    }

    #[test]
    fn the_ends_of_the_scale_are_safe() {
        assert_eq!(shown(0), 1);
        assert!(off(shown(u32::MAX), MAX) < 0.01);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_values() {
        let mut random = Random::new(Some(b"other"));
        for count in [1usize, 2, 3, 10, 99, 100, 101, 1_000, 12_345, 100_000] {
            // A body around a thousand, and a long tail.
            let mut values: Vec<u32> = (0..count)
                .map(|_| {
                    let tail = if random.draw().is_multiple_of(50) {
                        random.draw() % 24
                    } else {
                        0
                    };
                    (900 + random.draw() as u32 % 300) << tail & (MAX - 1) | 1
                })
                .collect();
            let mut histogram = Histogram::default();
            values.iter().for_each(|&value| histogram.record(value));
            values.sort_unstable();
            let summary = histogram.summary();
            assert_eq!(summary.count, count as u64);
            assert!(off(summary.min, values[0]) < 0.01);
            assert!(off(summary.max, values[count - 1]) < 0.01);
            for ((_, millionths), shown) in PERCENTILES.into_iter().zip(summary.percentiles) {
                let rank = (count as u64 * u64::from(millionths))
                    .div_ceil(1_000_000)
                    .max(1);
                let real = values[rank as usize - 1];
                assert!(
                    off(shown, real) < 0.01,
                    "{count} values, {millionths}: {shown}, {real}"
                );
            }
            let sum: u64 = values.iter().map(|&value| u64::from(value)).sum();
            assert!((summary.sum as f64 / sum as f64 - 1.0).abs() < 0.01);
        }
    }

    #[test]
    fn a_full_step_stays_full_and_clearing_empties() {
        let mut histogram = Histogram::default();
        histogram.counts[step(7)] = u32::MAX;
        histogram.record(7);
        assert_eq!(histogram.summary().count, u64::from(u32::MAX));
        histogram.clear();
        assert_eq!(histogram.summary(), Summary::default());
    }
}
