//! The accounts as JSON, for Prometheus, and for people.

use super::{
    Event, Histogram, KIND_NAMES, Latency, Mode, ONE_IN, PERCENTILES, STAGE_NAMES, STAGES, Stage,
    Summary,
};
use crate::api::escape;
use crate::http::Out;
use crate::shell::report::{Column, Report, Value};
use crate::status::Interface;

/// Shown as `null`; larger than any time.
const UNKNOWN: u64 = u64::MAX;
const TIMER_NAMES: [&str; 2] = ["asleep", "at_work"];

impl Latency {
    /// What was measured from interrupt to doorbell, by kind.
    pub fn totals(&self) -> impl Iterator<Item = Summary> {
        let totals = self.stages.chunks(STAGES).filter_map(<[_]>::last);
        totals.map(Histogram::summary)
    }

    /// Cycles in microseconds.
    pub fn micros(&self, cycles: u32) -> u64 {
        u64::from(cycles) * 1_000_000 / self.facts.cycles_hz.max(1)
    }

    /// Cycles in nanoseconds.
    fn nanos(&self, cycles: u32) -> u64 {
        // Less than 2^32 cycles, and nanoseconds in a second less than 2^30.
        u64::from(cycles) * 1_000_000_000 / self.facts.cycles_hz.max(1)
    }
}

/// `/api/v1/latency`: one object. Times are in nanoseconds, as [`show`] has them; the rate of their clock stands with them.
#[inline(never)]
pub fn json(out: &mut Out<'_>, latency: &Latency, interfaces: &[Interface<'_>], uptime_us: u64) {
    out.part(|out| begin(out, latency, uptime_us));
    for (index, kind) in KIND_NAMES.iter().enumerate() {
        out.part(|out| {
            out.texts(&[if index == 0 { "\"" } else { ",\"" }, kind, "\":"]);
            let stages = latency.stages.chunks(STAGES).nth(index);
            summaries(out, latency, &STAGE_NAMES, stages.unwrap_or_default());
        });
    }
    out.part(|out| all_worst(out, latency, interfaces));
}

/// Up to the kinds.
fn begin(out: &mut Out<'_>, latency: &Latency, uptime_us: u64) {
    let facts = &latency.facts;
    let [mode, time, why] = meaning(latency);
    out.texts(&["{\"latency\":\"", mode, "\",\"time\":\"", time, "\""]);
    out.texts(&[",\"why\":\"", why, "\",\"unit\":\"ns\""]);
    out.text(",\"source\":\"PMCCNTR_EL0\",\"resolution\":\"1 cycle\"");
    numbers(out, &[("hz", facts.cycles_hz)]);
    out.text(",\"across_sleep\":{\"source\":\"CNTVCT_EL0\",\"resolution\":\"1 tick\"");
    numbers(out, &[("hz", facts.ticks_hz)]);
    out.text("}");
    numbers(
        out,
        &[
            ("rounds_one_in", u64::from(latency.chosen) + 1),
            ("uptime_seconds", uptime_us / 1_000_000),
            ("since_seconds", latency.since_us / 1_000_000),
        ],
    );
    out.text(",\"timer\":");
    summaries(out, latency, &TIMER_NAMES, &latency.timer);
    out.text(",\"kinds\":{");
}

fn all_worst(out: &mut Out<'_>, latency: &Latency, interfaces: &[Interface<'_>]) {
    out.text("},\"worst\":[");
    let mut comma = "";
    let mut below = u64::MAX;
    // Largest first; with their places behind them no two are equal.
    let rank = |(place, event): (usize, &Event)| u64::from(event.total) << 8 | place as u64;
    loop {
        let ranks = latency.worst.iter().enumerate().map(rank);
        let next = ranks.filter(|&rank| rank < below && rank >> 8 != 0).max();
        let Some(event) = next.and_then(|next| latency.worst.get(next as usize & 0xff)) else {
            break;
        };
        below = next.unwrap_or(0);
        out.text(comma);
        worst(out, latency, event, interfaces);
        comma = ",";
    }
    out.text("]}\n");
}

/// How much is measured, what its time is, and why.
fn meaning(latency: &Latency) -> [&'static str; 3] {
    let mode = match latency.mode {
        Mode::Off => "off",
        Mode::On => "on",
        Mode::Full => "full",
    };
    let (time, why) = match latency.facts.emulated {
        why if latency.mode == Mode::Off => ("none", why.unwrap_or("latency=off")),
        Some(why) => ("emulated", why),
        None => ("silicon", "the core's monitors count its caches"),
    };
    [mode, time, why]
}

/// Columns of a histogram's figures, with those that tell which histogram it is in front.
const FIGURES: [Column; 10] = [
    Column("of", 10),
    Column("stage", 9),
    Column("count", 9),
    Column("min", 9),
    Column("p50", 9),
    Column("p90", 9),
    Column("p99", 9),
    Column("p99_9", 9),
    Column("p99_99", 9),
    Column("max", 0),
];

/// The command `latency`: the same, for people, in nanoseconds.
#[inline(never)]
pub fn show(
    report: &mut Report<'_>,
    latency: &Latency,
    interfaces: &[Interface<'_>],
    uptime_us: u64,
) {
    let [mode, time, why] = meaning(latency);
    for (name, text) in [
        ("latency", mode),
        ("time", time),
        ("why", why),
        ("unit", "ns"),
    ] {
        report.field(name, Value::Text(text));
    }
    let for_us = uptime_us.saturating_sub(latency.since_us);
    report.field("measured_for_s", Value::Number(for_us / 1_000_000));
    let ns = |cycles: u32| Value::Number(latency.nanos(cycles));
    report.table("figures", &FIGURES, &mut |row| {
        let mut figures = |of: &str, names: &[&str], histograms: &[Histogram]| {
            for (stage, histogram) in names.iter().zip(histograms) {
                let summary = histogram.summary();
                if summary.count == 0 {
                    continue;
                }
                let mut values = [Value::None; FIGURES.len()];
                values[..4].copy_from_slice(&[
                    Value::Text(of),
                    Value::Text(stage),
                    Value::Number(summary.count),
                    ns(summary.min),
                ]);
                for (value, cycles) in values[4..].iter_mut().zip(summary.percentiles) {
                    *value = ns(cycles);
                }
                values[FIGURES.len() - 1] = ns(summary.max);
                row(&values);
            }
        };
        figures("timer", &TIMER_NAMES, &latency.timer);
        for (kind, stages) in KIND_NAMES.iter().zip(latency.stages.chunks(STAGES)) {
            figures(kind, &STAGE_NAMES, stages);
        }
    });
    let columns = [
        Column("kind", 10),
        Column("interface", 10),
        Column("uptime_us", 14),
        Column("total", 9),
        Column("batch", 6),
        Column("interrupts", 11),
        Column("transmit_ring", 0),
    ];
    report.table("worst", &columns, &mut |row| {
        for event in latency.worst.iter().filter(|event| event.total != 0) {
            let interface = interfaces.get(usize::from(event.port));
            let ring = event.transmit_ring.map(u64::from);
            row(&[
                Value::Text(KIND_NAMES.get(usize::from(event.kind)).unwrap_or(&"")),
                interface.map_or(Value::None, |interface| Value::Text(interface.name)),
                Value::Number(event.at_us),
                ns(event.total),
                Value::Number(event.batch.into()),
                Value::Number(event.interrupts.into()),
                ring.map_or(Value::None, Value::Number),
            ]);
        }
    });
}

/// `,"name":value` for each.
#[inline(never)]
fn numbers(out: &mut Out<'_>, numbers: &[(&str, u64)]) {
    for (name, value) in numbers {
        out.texts(&[",\"", name, "\":"]);
        match *value {
            UNKNOWN => out.text("null"),
            value => out.decimal(value),
        }
    }
}

/// An object with a member for each histogram that has values.
#[inline(never)]
fn summaries(out: &mut Out<'_>, latency: &Latency, names: &[&str], histograms: &[Histogram]) {
    out.text("{");
    let mut comma = "";
    for (name, histogram) in names.iter().zip(histograms) {
        let summary = histogram.summary();
        if summary.count == 0 {
            continue;
        }
        out.texts(&[comma, "\"", name, "\":{\"count\":"]);
        comma = ",";
        out.decimal(summary.count);
        numbers(out, &[("min", latency.nanos(summary.min))]);
        for ((percentile, _), value) in PERCENTILES.iter().zip(summary.percentiles) {
            numbers(out, &[(percentile.key, latency.nanos(value))]);
        }
        numbers(out, &[("max", latency.nanos(summary.max))]);
        if *name == STAGE_NAMES[Stage::Total as usize] {
            let mut before = ",\"bins\":[[";
            histogram.each_bin(&mut |[from, to, count]| {
                let ns = |edge| latency.nanos(u32::try_from(edge).unwrap_or(u32::MAX));
                for number in [ns(from), ns(to), count] {
                    out.text(before);
                    out.decimal(number);
                    before = ",";
                }
                before = "],[";
            });
            out.text("]]");
        }
        out.text("}");
    }
    out.text("}");
}

#[inline(never)]
fn worst(out: &mut Out<'_>, latency: &Latency, event: &Event, interfaces: &[Interface<'_>]) {
    let kind = KIND_NAMES.get(usize::from(event.kind));
    let interface = interfaces.get(usize::from(event.port));
    out.texts(&["{\"kind\":\"", kind.unwrap_or(&""), "\",\"interface\":\""]);
    out.foreign(interface.map_or("", |interface| interface.name), escape);
    out.text("\",\"uptime_seconds\":");
    out.seconds(event.at_us);
    numbers(
        out,
        &[
            ("total", latency.nanos(event.total)),
            ("batch", event.batch.into()),
            (
                "transmit_ring",
                event.transmit_ring.map_or(UNKNOWN, u64::from),
            ),
            ("interrupts", event.interrupts.into()),
        ],
    );
    out.text(",\"stamps\":{\"interrupt\":0");
    for (name, stamp) in STAGE_NAMES.iter().zip(event.stamps) {
        numbers(
            out,
            &[(name, stamp.map_or(UNKNOWN, |at| latency.nanos(at)))],
        );
    }
    out.text("}}");
}

/// For `/metrics`: summaries of what was measured from interrupt to doorbell, and of the timer.
#[inline(never)]
pub fn prometheus(out: &mut Out<'_>, latency: &Latency) {
    let hz = latency.facts.cycles_hz.max(1);
    let totals = latency.stages.chunks(STAGES).filter_map(<[_]>::last);
    out.part(|out| {
        let texts = [
            "latency_seconds",
            "kind",
            "From the interrupt to the doorbell of the answer.",
        ];
        family(out, texts, hz, &mut KIND_NAMES.into_iter().zip(totals));
    });
    out.part(|out| {
        let texts = [
            "timer_lateness_seconds",
            "core",
            "From when the timer was due to the entry of its interrupt.",
        ];
        let members = &mut TIMER_NAMES.into_iter().zip(&latency.timer);
        family(out, texts, hz, members);
    });
}

#[inline(never)]
fn family(
    out: &mut Out<'_>,
    [name, label, help]: [&str; 3],
    hz: u64,
    members: &mut dyn Iterator<Item = (&'static str, &Histogram)>,
) {
    let mut is_first = true;
    for (member, histogram) in members {
        let summary = histogram.summary();
        if summary.count == 0 {
            continue;
        }
        if is_first {
            out.texts(&["# HELP ristretto_", name, " ", help]);
            out.texts(&["\n# TYPE ristretto_", name, " summary\n"]);
            is_first = false;
        }
        let sample = |out: &mut Out<'_>, suffix: &str, quantile: &[&str]| {
            out.texts(&["ristretto_", name, suffix, "{", label, "=\"", member, "\""]);
            out.texts(quantile);
            out.text("} ");
        };
        for ((percentile, _), value) in PERCENTILES.iter().zip(summary.percentiles) {
            sample(out, "", &[",quantile=\"", percentile.quantile, "\""]);
            seconds(out, value.into(), hz);
        }
        sample(out, "_sum", &[]);
        seconds(out, summary.sum, hz);
        sample(out, "_count", &[]);
        out.decimal(summary.count);
        out.text("\n");
    }
}

/// Cycles as seconds with nine decimals, and the end of a line.
#[inline(never)]
fn seconds(out: &mut Out<'_>, cycles: u64, hz: u64) {
    let mut rest = cycles % hz;
    out.decimal(cycles / hz);
    out.text(".");
    for _ in 0..9 {
        rest *= 10;
        out.decimal(rest / hz);
        rest %= hz;
    }
    out.text("\n");
}

const _: () = assert!(Stage::Total as usize == STAGES - 1 && ONE_IN.is_power_of_two());
