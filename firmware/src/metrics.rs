//! `/metrics`: the Prometheus text format, version 0.0.4.
//!
//! Source: Prometheus documentation, "Exposition formats" and "Metric and label naming": base units, counters end in
//! `_total`, all samples of a family stand together under one HELP and TYPE.

use crate::http::{Code, Out};
use crate::status::{Counter, Interface, Link, Status, is_counter_name};

/// Writes everything there is to count or measure.
pub fn write(out: &mut Out<'_>, status: &Status<'_>) {
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
        family(out, "", name, "gauge", help);
        sample(out, "", name, "", None, value);
    }

    let interfaces = status.interfaces;
    if !interfaces.is_empty() {
        family(
            out,
            "interface_",
            "link_up",
            "gauge",
            "Whether there is a link.",
        );
        for interface in interfaces {
            let is_up = interface.link != Link::Down;
            sample(
                out,
                "interface_",
                "link_up",
                "",
                Some(("interface", interface.name)),
                is_up.into(),
            );
        }
    }
    let speed = |interface: &Interface<'_>| match interface.link {
        Link::Up {
            speed_mbps: Some(speed),
            ..
        } => Some(u64::from(speed) * 125_000),
        _ => None,
    };
    if interfaces
        .iter()
        .any(|interface| speed(interface).is_some())
    {
        family(
            out,
            "interface_",
            "speed_bytes_per_second",
            "gauge",
            "Speed of the link.",
        );
        for interface in interfaces {
            if let Some(speed) = speed(interface) {
                let label = Some(("interface", interface.name));
                sample(
                    out,
                    "interface_",
                    "speed_bytes_per_second",
                    "",
                    label,
                    speed,
                );
            }
        }
    }
    let owners = interfaces.iter().map(|interface| Owner {
        label: interface.name,
        counters: interface.counters,
    });
    counters(out, "interface_", "interface", owners);

    let services = status.services;
    if services.iter().any(|service| service.connections.is_some()) {
        family(
            out,
            "service_",
            "connections",
            "gauge",
            "Connections open now.",
        );
        for service in services {
            if let Some(connections) = service.connections {
                sample(
                    out,
                    "service_",
                    "connections",
                    "",
                    Some(("service", service.name)),
                    connections.into(),
                );
            }
        }
    }
    let owners = services.iter().map(|service| Owner {
        label: service.name,
        counters: service.counters,
    });
    counters(out, "service_", "service", owners);

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
            Some(("code", code.number())),
            status.http_answers.get(code),
        );
    }

    counters(
        out,
        "",
        "",
        core::iter::once(Owner {
            label: "",
            counters: status.counters,
        }),
    );
}

#[derive(Clone, Copy)]
struct Owner<'a> {
    label: &'a str,
    counters: &'a [Counter<'a>],
}

/// Writes the counters of all owners, family by family: a name that was met at an earlier owner (or twice at this one)
/// has been written with it.
fn counters<'a>(
    out: &mut Out<'_>,
    group: &str,
    label: &str,
    owners: impl Iterator<Item = Owner<'a>> + Clone,
) {
    for (at, owner) in owners.clone().enumerate() {
        for (index, counter) in owner.counters.iter().enumerate() {
            let names = |owner: &Owner<'_>| {
                owner
                    .counters
                    .iter()
                    .any(|other| other.name == counter.name)
            };
            let earlier = &owner.counters[..index];
            if !is_counter_name(counter.name)
                || earlier.iter().any(|other| other.name == counter.name)
                || owners.clone().take(at).any(|owner| names(&owner))
            {
                continue;
            }
            let is_suffixed = counter.name.ends_with("_total");
            let suffix = if is_suffixed { "" } else { "_total" };
            out.texts(&["# HELP ristretto_", group, counter.name, suffix, " "]);
            out.foreign(counter.help, help_escape);
            out.texts(&[
                "\n# TYPE ristretto_",
                group,
                counter.name,
                suffix,
                " counter\n",
            ]);
            for owner in owners.clone().skip(at) {
                if let Some(counter) = owner
                    .counters
                    .iter()
                    .find(|other| other.name == counter.name)
                {
                    let label = if label.is_empty() {
                        None
                    } else {
                        Some((label, owner.label))
                    };
                    sample(out, group, counter.name, suffix, label, counter.value);
                }
            }
        }
    }
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
    pair: Option<(&str, &str)>,
    value: u64,
) {
    out.texts(&["ristretto_", group, name, suffix]);
    if let Some((key, value)) = pair {
        out.texts(&["{", key, "=\""]);
        label(out, value);
        out.text("\"}");
    }
    out.text(" ");
    out.decimal(value);
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
