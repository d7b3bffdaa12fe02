//! `/`: the status page, made for people. Tables with the values of the moment, readable without script or style; with
//! them (`control/assets`) it draws, and stays up to date.

use crate::assets;
use crate::http::Out;
use crate::latency::{KIND_NAMES, Latency};
use crate::status::{Address, Interface, Link, Status, Table, each};
use core::fmt::Write as _;
use hal::net::MacText;

/// What a browser may do with the page: use what comes from here, and be nobody's frame or form.
pub const POLICY: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
    Referrer-Policy: no-referrer\r\n";

/// Lines of the log, so few that they fit whatever is in them.
const LINES: usize = 12;
const COUNTERS: &str = "\n<details><summary>Counters</summary><table>";

/// Writes the page.
pub fn write(out: &mut Out<'_>, status: &Status<'_>) {
    out.part(|out| write_head(out, status));
    for (number, interface) in status.interfaces.iter().enumerate() {
        out.part(|out| {
            write_interface(out, interface);
            out.text("\n<details class=drops><summary>Dropped frames</summary><table>");
            status.drops(number, &mut |reason, count| {
                row(out, reason.name(), &mut |out| out.decimal(count));
            });
            out.texts(&["\n</table></details>", COUNTERS]);
        });
        out.part(|out| write_counters(out, &interface.counters));
        out.part(|out| {
            write_counters(out, interface.port);
            out.text("\n</table></details></article>");
        });
    }
    out.part(|out| {
        out.text("\n</div></section>\n<div id=more>");
        write_latency(out, status.latency);
    });
    if !status.devices.is_empty() {
        out.part(|out| section(out, "hardware", "Hardware"));
    }
    for device in status.devices {
        out.part(|out| {
            out.texts(&["\n<details><summary>", device.name, "</summary><table>"]);
            write_counters(out, device.counters);
            out.text("\n</table></details>");
        });
    }
    out.part(|out| {
        if !status.devices.is_empty() {
            out.text("</section>");
        }
        write_rest(out, status);
    });
    out.part(|out| write_log(out, status));
}

/// Writes what who has no token sees of it: the place for a form, which the script makes. Nothing of the machine is in it.
pub fn write_gate(out: &mut Out<'_>) {
    begin(out, "");
    out.text(concat!(
        "Ristretto</h1></header>\n<main id=gate><noscript><p>Here reading takes the token. Without a script: ",
        "<code>curl -H 'Authorization: Bearer TOKEN'</code> with this address.</noscript></main>\n"
    ));
}

/// The begin of a page, up to its first heading.
fn begin(out: &mut Out<'_>, hostname: &str) {
    out.text(concat!(
        "<!DOCTYPE html>\n<html lang=en>\n<meta charset=utf-8>",
        "<meta name=viewport content=\"width=device-width,initial-scale=1\">",
        "<meta name=color-scheme content=\"light dark\"><link rel=icon href=data:,>\n<title>"
    ));
    if !hostname.is_empty() {
        foreign(out, hostname);
        out.text(" \u{b7} ");
    }
    out.texts(&[
        "Ristretto</title>\n<link rel=stylesheet href=",
        assets::STYLE,
        "><script defer src=",
        assets::DRAW,
        "></script><script defer src=",
        assets::TOOLS,
        "></script><script defer src=",
        assets::SCRIPT,
        "></script>\n<header><h1>",
    ]);
}

fn write_head(out: &mut Out<'_>, status: &Status<'_>) {
    begin(out, status.hostname);
    foreign(out, status.hostname);
    out.text("</h1>\n<p>");
    foreign(out, status.board);
    out.text("</header>\n<main>");
    if let Some((ago, message)) = status.bad_end {
        out.text("<p id=crash><b>");
        match ago {
            1 => out.text("The last start ended badly."),
            _ => {
                out.text("A start ended badly, ");
                out.decimal(ago);
                out.text(" starts ago.");
            }
        }
        out.text("</b> <q>");
        foreign(out, message);
        out.text("</q> <a href=/api/v1/crash>Show the record</a></p>");
    }
    section(out, "ports", "Ports");
    out.text("<div class=ports>");
}

fn write_rest(out: &mut Out<'_>, status: &Status<'_>) {
    section(out, "services", "Services");
    out.text("<table>");
    for service in status.services {
        row(out, service.name, &mut |out| match service.connections {
            None => out.text("ready"),
            Some(1) => out.text("1 connection"),
            Some(connections) => {
                out.decimal(connections.into());
                out.text(" connections");
            }
        });
    }
    out.text("\n</table></section>");
    section(out, "machine", "Machine");
    out.text("<table>");
    row(out, "Uptime", &mut |out| uptime(out, status.uptime_us));
    row(out, "Version", &mut |out| {
        out.text("Ristretto ");
        foreign(out, status.version);
    });
    row(out, "Processor", &mut |out| foreign(out, status.cpu));
    row(out, "Memory", &mut |out| size(out, status.memory_bytes));
    row(out, "Heap", &mut |out| {
        size(out, status.heap_used_bytes);
        out.text(" of ");
        size(out, status.heap_size_bytes);
    });
    out.text("\n</table></section>");
}

/// The last lines of the log, and the end of the page.
fn write_log(out: &mut Out<'_>, status: &Status<'_>) {
    section(out, "log", "Log");
    out.text("<div><pre tabindex=0 aria-label=log>");
    let (mut count, mut at) = (0, 0);
    (status.log)(&mut |_| count += 1);
    (status.log)(&mut |line| {
        at += 1;
        if at + LINES > count {
            foreign(out, line);
            out.text("\n");
        }
    });
    out.text(concat!(
        "</pre></div></section>\n</div></main>\n<footer><nav aria-label=\"For programs\"><a href=/metrics>Metrics</a> ",
        "<a href=/api/v1/status>Status</a> <a href=/api/v1/latency>Latency</a> <a href=/healthz>Health</a></nav></footer>\n"
    ));
}

/// Begins a section, with its heading.
fn section(out: &mut Out<'_>, id: &str, title: &str) {
    out.texts(&[
        "\n<section id=",
        id,
        " aria-labelledby=",
        id,
        "-title><h2 id=",
        id,
    ]);
    out.texts(&["-title>", title, "</h2>\n"]);
}

fn write_interface(out: &mut Out<'_>, interface: &Interface<'_>) {
    out.texts(&[
        "\n<article class=\"port",
        if interface.link == Link::Down {
            " down"
        } else {
            ""
        },
    ]);
    out.text("\" data-name=\"");
    foreign(out, interface.name);
    out.text("\"><h3>");
    foreign(out, interface.name);
    out.texts(&[
        " <b>",
        if interface.link == Link::Down {
            "down"
        } else {
            "up"
        },
        "</b> <small>",
    ]);
    foreign(out, interface.driver);
    out.text("</small></h3>\n<table>");
    row(out, "Link", &mut |out| match interface.link {
        Link::Down => out.text("down"),
        Link::Up {
            speed_mbps,
            duplex,
            pause,
        } => {
            out.text("up");
            if let Some(speed) = speed_mbps {
                out.text(", ");
                out.decimal(speed.into());
                out.text(" Mb/s");
            }
            if let Some(duplex) = duplex {
                out.texts(&[" ", duplex.word(), " duplex"]);
            }
            if let Some(pause) = pause {
                out.texts(&[", pause ", pause]);
            }
        }
    });
    row(out, "Addresses", &mut |out| {
        let mut end = "";
        for Address {
            ip,
            prefix_len,
            origin,
        } in interface.addresses
        {
            let _ = write!(out, "{end}{ip}/{prefix_len} {}", origin.word());
            end = "\n";
        }
        if interface.addresses.is_empty() {
            out.text("none yet");
        }
    });
    row(out, "Hardware", &mut |out| {
        let _ = write!(out, "{}", MacText(interface.mac));
    });
    out.text("\n</table>");
}

/// Counters that are not 0.
fn write_counters(out: &mut Out<'_>, counters: &dyn Table) {
    for counter in each(counters) {
        if counter.value != 0 {
            row(out, counter.name, &mut |out| out.decimal(counter.value));
        }
    }
}

/// From the interrupt to the doorbell of the answer, by kind.
fn write_latency(out: &mut Out<'_>, latency: &Latency) {
    section(out, "latency", "Latency");
    out.text("<p>From the interrupt to the doorbell of the answer.</p><div><table>");
    for (kind, summary) in KIND_NAMES.iter().zip(latency.totals()) {
        if summary.count == 0 {
            continue;
        }
        row(out, kind, &mut |out| {
            for (before, cycles) in [
                ("half within ", summary.percentiles[0]),
                (" \u{b5}s, 99 % within ", summary.percentiles[2]),
                (" \u{b5}s, all within ", summary.max),
            ] {
                out.text(before);
                out.decimal(latency.micros(cycles));
            }
            out.text(" \u{b5}s");
        });
    }
    out.text("\n</table></div></section>");
}

/// A row of a table; the end tags are optional in HTML, and eight interfaces have many rows.
fn row(out: &mut Out<'_>, name: &str, value: &mut dyn FnMut(&mut Out<'_>)) {
    out.text("\n<tr><th scope=row>");
    words(out, name);
    out.text("<td>");
    value(out);
}

/// The two largest units of a time: `3 min 12 s`.
fn uptime(out: &mut Out<'_>, us: u64) {
    let seconds = us / 1_000_000;
    let units = [
        (seconds / 86400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let first = units.iter().position(|&(count, _)| count > 0).unwrap_or(3);
    for (index, (count, unit)) in units.into_iter().enumerate().skip(first).take(2) {
        out.text(if index == first { "" } else { " " });
        out.decimal(count);
        out.texts(&[" ", unit]);
    }
}

/// Bytes in the largest unit in which they are a whole number or at least ten, rounded down.
fn size(out: &mut Out<'_>, bytes: u64) {
    let is_good = |shift: u32| {
        let (count, rest) = (bytes >> shift, bytes & ((1 << shift) - 1));
        count >= 10 || (count > 0 && rest == 0)
    };
    let units = [(30, " GiB"), (20, " MiB"), (10, " KiB")];
    let (shift, unit) = units
        .into_iter()
        .find(|&(shift, _)| is_good(shift))
        .unwrap_or((0, " bytes"));
    out.decimal(bytes >> shift);
    out.text(unit);
}

/// A name in snake case, as words.
fn words(out: &mut Out<'_>, name: &str) {
    out.foreign(name, |character| {
        if character == '_' {
            Some(" ")
        } else {
            escape(character)
        }
    });
}

fn foreign(out: &mut Out<'_>, text: &str) {
    out.foreign(text, escape);
}

fn escape(character: char) -> Option<&'static str> {
    match character {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '"' => Some("&quot;"),
        '\'' => Some("&#39;"),
        '\0'..='\x1f' | '\x7f'..='\u{9f}' => Some("\u{fffd}"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Out<'_>)) -> String {
        let mut buffer = [0; 64];
        let mut out = Out::new(&mut buffer);
        write(&mut out);
        let len = out.finish().unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[test]
    fn uptime_is_said_in_two_units() {
        for (seconds, said) in [
            (0, "0 s"),
            (59, "59 s"),
            (192, "3 min 12 s"),
            (3600, "1 h 0 min"),
            (90061, "1 d 1 h"),
        ] {
            assert_eq!(written(|out| uptime(out, seconds * 1_000_000)), said);
        }
    }

    #[test]
    fn sizes_are_said_in_a_unit_that_fits() {
        for (bytes, said) in [
            (0, "0 bytes"),
            (10 << 10, "10 KiB"),
            (2 << 30, "2 GiB"),
            (3 << 29, "1536 MiB"),
            (1023, "1023 bytes"),
            (64 << 30, "64 GiB"),
        ] {
            assert_eq!(written(|out| size(out, bytes)), said);
        }
    }
}
