//! `/metrics`: the Prometheus text format, version 0.0.4.
//!
//! Source: Prometheus documentation, "Exposition formats" and "Metric and label naming": base units, counters end in
//! `_total`, all samples of a family stand together under one HELP and TYPE.

use crate::http::{Code, Out, SECTION};
use crate::status::{Counter, Link, Status, Table, is_counter_name};
use core::ops::Range;
use heapless::{String, Vec};

/// Writes everything there is to count or measure.
pub fn write(out: &mut Out<'_>, status: &Status<'_>) {
    out.part(|out| {
        family(
            out,
            "",
            "build_info",
            "gauge",
            "Version of the image and the board it runs on.",
        );
        out.text("ristretto_build_info{version=\"");
        label(out, status.version);
        out.text("\",board=\"");
        label(out, status.board);
        out.text("\"} 1\n");

        family(out, "", "uptime_seconds", "gauge", "Time since entry.");
        out.text("ristretto_uptime_seconds ");
        out.seconds(status.uptime_us);
        out.text("\n");
    });
    for (name, help, value) in [
        ("memory_bytes", "Usable memory.", status.memory_bytes),
        (
            "image_bytes",
            "Loaded image with its zeroed data.",
            status.image_bytes,
        ),
        ("heap_used_bytes", "Heap in use.", status.heap_used_bytes),
        ("heap_size_bytes", "The whole heap.", status.heap_size_bytes),
    ] {
        gauge(out, "", name, help, "", [("", Some(Value::Whole(value)))]);
    }

    let interfaces = status.interfaces.iter();
    gauge(
        out,
        "interface_",
        "link_up",
        "Whether there is a link.",
        "interface",
        interfaces.clone().map(|interface| {
            let is_up = interface.link != Link::Down;
            (interface.name, Some(Value::Whole(is_up.into())))
        }),
    );
    gauge(
        out,
        "interface_",
        "speed_bytes_per_second",
        "Speed of the link.",
        "interface",
        interfaces.clone().map(|interface| {
            let speed = match interface.link {
                Link::Up { speed_mbps, .. } => speed_mbps,
                Link::Down => None,
            };
            let speed = speed.map(|mbps| Value::Whole(u64::from(mbps) * 125_000));
            (interface.name, speed)
        }),
    );
    gauge(
        out,
        "interface_",
        "port_counters_age_seconds",
        "Time since the counters of the switch's port were read.",
        "interface",
        interfaces
            .clone()
            .map(|interface| (interface.name, interface.port_age_us.map(Value::Us))),
    );
    let own = |range: fn(&[Counter<'_>]) -> Range<usize>| {
        interfaces.clone().map(move |interface| Owner {
            label: interface.name,
            counters: interface.counters.get(range(interface.counters)),
            table: None,
        })
    };
    // What was delivered and what was received are the first, and are to be of the same moment.
    let pair = own(|counters| 0..counters.len().min(2));
    out.together(|out| counters(out, "interface_", "interface", pair));
    let rest = own(|counters| counters.len().min(2)..counters.len());
    counters(out, "interface_", "interface", rest);
    let ports = interfaces.map(|interface| Owner {
        label: interface.name,
        counters: None,
        table: Some(interface.port),
    });
    counters(out, "interface_port_", "interface", ports);
    let devices = status.devices.iter().map(|device| Owner {
        label: device.name,
        counters: None,
        table: Some(device.counters),
    });
    counters(out, "device_", "device", devices);

    let help = "Received frames that nobody got, by reason.";
    out.part(|out| family(out, "", "rx_dropped_total", "counter", help));
    // A part for each owner: which reasons there were may change before the next buffer.
    for owner in 0..status.interfaces.len() + status.devices.len() {
        out.part(|out| {
            let name = status.drops(owner, &mut |_, _| {}).unwrap_or_default();
            status.drops(owner, &mut |reason, count| {
                out.text("ristretto_rx_dropped_total{interface=\"");
                label(out, name);
                out.texts(&["\",reason=\"", reason.name(), "\"} "]);
                out.decimal(count);
                out.text("\n");
            });
        });
    }

    let services = status.services.iter();
    gauge(
        out,
        "service_",
        "connections",
        "Connections open now.",
        "service",
        services.clone().map(|service| {
            let connections = service.connections.map(u64::from);
            (service.name, connections.map(Value::Whole))
        }),
    );
    let owners = services.map(|service| Owner {
        label: service.name,
        counters: Some(service.counters),
        table: None,
    });
    counters(out, "service_", "service", owners);

    out.part(|out| {
        family(
            out,
            "http_",
            "responses_total",
            "counter",
            "Final HTTP answers by status code.",
        );
        for code in Code::ALL {
            sample(
                out,
                "http_",
                "responses",
                "_total",
                ("code", code.number()),
                Value::Whole(status.http_answers.get(code)),
            );
        }
    });

    let rest = Owner {
        label: "",
        counters: Some(status.counters),
        table: None,
    };
    counters(out, "", "", core::iter::once(rest));
}

/// Whoever has counters, in one form or the other.
#[derive(Clone, Copy)]
struct Owner<'a> {
    label: &'a str,
    counters: Option<&'a [Counter<'a>]>,
    table: Option<&'a dyn Table>,
}

impl<'a> Owner<'a> {
    fn get(&self, index: usize) -> Option<Counter<'a>> {
        match self.table {
            Some(table) => table.get(index),
            None => self.counters?.get(index).copied(),
        }
    }
}

/// Most counters of a kind, of all owners.
const MAX_COUNTERS: usize = SECTION as usize;
/// Most owners of a kind: services are the most.
const MAX_OWNERS: usize = 16;

/// Writes the counters of all owners, family by family: a name that was met at an earlier owner (or twice at this one)
/// has been written with it. Each counter is asked for once, and is a part, so that those passed over cost little.
fn counters<'a>(
    out: &mut Out<'_>,
    group: &str,
    label: &str,
    owners: impl Iterator<Item = Owner<'a>>,
) {
    out.section(|out| write_counters(out, group, label, owners));
}

#[inline(never)]
fn write_counters<'a>(
    out: &mut Out<'_>,
    group: &str,
    label: &str,
    owners: impl Iterator<Item = Owner<'a>>,
) {
    let mut all: Vec<Counter<'_>, MAX_COUNTERS> = Vec::new();
    let mut ranges: Vec<(&str, Range<usize>), MAX_OWNERS> = Vec::new();
    for owner in owners {
        let from = all.len();
        // What does not fit is left out; a test sees that it fits.
        let _ = (0..)
            .map_while(|index| owner.get(index))
            .try_for_each(|counter| all.push(counter));
        let _ = ranges.push((owner.label, from..all.len()));
    }
    each_family(out, group, label, &all, &ranges);
}

fn each_family(
    out: &mut Out<'_>,
    group: &str,
    label: &str,
    all: &[Counter<'_>],
    ranges: &[(&str, Range<usize>)],
) {
    // Where owners are alike, the same number has the same name.
    let find = |range: &Range<usize>, index: usize, name: &str| {
        let own = &all[range.clone()];
        let is_same = |counter: &&Counter<'_>| counter.name == name;
        let alike = own.get(index).filter(is_same);
        alike.or_else(|| own.iter().find(is_same)).copied()
    };
    for (number, (_, range)) in ranges.iter().enumerate() {
        for at in range.clone() {
            out.part(|out| {
                let (name, help) = (all[at].name, all[at].help);
                let index = at - range.start;
                let mut earlier = ranges[..number].iter();
                if !is_counter_name(name)
                    || earlier.any(|(_, range)| find(range, index, name).is_some())
                    || all[range.start..at].iter().any(|other| other.name == name)
                {
                    return;
                }
                let is_total = name.ends_with("_total");
                let suffix = if is_total { "" } else { "_total" };
                let shown = &accepted(name);
                out.texts(&["# HELP ristretto_", group, shown, suffix, " "]);
                out.foreign(help, help_escape);
                out.texts(&["\n# TYPE ristretto_", group, shown, suffix, " counter\n"]);
                for (owner, range) in &ranges[number..] {
                    if let Some(counter) = find(range, index, name) {
                        let value = Value::Whole(counter.value);
                        sample(out, group, shown, suffix, (label, owner), value);
                    }
                }
            });
        }
    }
}

/// A counter's name as Prometheus' own checker accepts it: it takes `b` for bytes, and wants no type in a name.
fn accepted(name: &str) -> String<96> {
    let mut shown = String::new();
    for (index, part) in name.split('_').enumerate() {
        let joins = index == 0 || matches!(part.as_bytes(), [b'a'..=b'z']);
        let part = if part == "counter" { "hits" } else { part };
        // Names are shorter; what does not fit would be left out.
        let _ = shown.push_str(if joins { "" } else { "_" });
        let _ = shown.push_str(part);
    }
    shown
}

/// Writes a family of measured values, unless nobody has one.
fn gauge<'a>(
    out: &mut Out<'_>,
    group: &str,
    name: &str,
    help: &str,
    label: &str,
    values: impl IntoIterator<Item = (&'a str, Option<Value>)>,
) {
    out.part(|out| {
        let mut is_first = true;
        for (owner, value) in values {
            let Some(value) = value else { continue };
            if is_first {
                family(out, group, name, "gauge", help);
                is_first = false;
            }
            sample(out, group, name, "", (label, owner), value);
        }
    });
}

/// A value as it is stored; Prometheus wants base units.
#[derive(Clone, Copy)]
enum Value {
    Whole(u64),
    /// Microseconds, shown as seconds.
    Us(u64),
}

fn family(out: &mut Out<'_>, group: &str, name: &str, kind: &str, help: &str) {
    out.texts(&["# HELP ristretto_", group, name, " ", help]);
    out.texts(&["\n# TYPE ristretto_", group, name, " ", kind, "\n"]);
}

fn sample(
    out: &mut Out<'_>,
    group: &str,
    name: &str,
    suffix: &str,
    (key, owner): (&str, &str),
    value: Value,
) {
    out.texts(&["ristretto_", group, name, suffix]);
    if !key.is_empty() {
        out.texts(&["{", key, "=\""]);
        label(out, owner);
        out.text("\"}");
    }
    out.text(" ");
    match value {
        Value::Whole(value) => out.decimal(value),
        Value::Us(us) => out.seconds(us),
    }
    out.text("\n");
}

fn label(out: &mut Out<'_>, value: &str) {
    out.foreign(value, |character| match character {
        '"' => Some("\\\""),
        _ => help_escape(character),
    });
}

fn help_escape(character: char) -> Option<&'static str> {
    match character {
        '\\' => Some("\\\\"),
        '\n' => Some("\\n"),
        _ => None,
    }
}
