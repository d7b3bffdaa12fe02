//! `/`: the status page, made for people. No script, no foreign asset, readable on a phone in light and dark.

use crate::http::Out;
use crate::status::{Address, Counter, Interface, Link, Status};
use core::fmt::Write as _;
use hal::net::MacText;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--dim:#777;--up:#177a3a;--down:#b3261e}\
@media(prefers-color-scheme:dark){:root{--dim:#999;--up:#5bd68a;--down:#ff8a80}}\
body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:0 auto;padding:1rem}\
h1{font-size:1.5rem;margin:.5rem 0 0}\
h2{font-size:1.1rem;margin:0}\
p{margin:.25rem 0}\
section{border:1px solid var(--line);border-radius:.6rem;padding:.8rem 1rem;margin:1rem 0}\
table{border-collapse:collapse;width:100%}\
th,td{text-align:left;vertical-align:top;padding:.2rem 0;overflow-wrap:anywhere}\
th{font-weight:400;color:var(--dim);width:5.5rem;padding-right:.8rem}\
details th{width:auto}\
details td{text-align:right}\
td,code{font-variant-numeric:tabular-nums}\
summary{cursor:pointer;margin-top:.4rem}\
small{color:var(--dim);font-weight:400}\
.up{color:var(--up)}\
.down{color:var(--down)}\
nav a{margin-right:1rem}";

/// Writes the page.
pub fn write(out: &mut Out<'_>, status: &Status<'_>) {
    out.part(|out| write_machine(out, status));
    for interface in status.interfaces {
        out.part(|out| write_interface(out, interface));
    }
    out.part(|out| write_services(out, status));
}

fn write_machine(out: &mut Out<'_>, status: &Status<'_>) {
    out.text("<!DOCTYPE html>\n<html lang=en><meta charset=utf-8>");
    out.text("<meta name=viewport content=\"width=device-width,initial-scale=1\">\n<title>");
    foreign(out, status.hostname);
    out.texts(&[" · Ristretto</title>\n<style>", STYLE, "</style>\n<h1>"]);
    foreign(out, status.hostname);
    out.text("</h1>\n<p>");
    foreign(out, status.board);
    out.text("\n<section><h2>Machine</h2>\n<table>");
    row(out, "Uptime", |out| uptime(out, status.uptime_us));
    row(out, "Version", |out| {
        out.text("Ristretto ");
        foreign(out, status.version);
        out.text(", ");
        size(out, status.image_bytes);
    });
    row(out, "Processor", |out| foreign(out, status.cpu));
    row(out, "Memory", |out| size(out, status.memory_bytes));
    row(out, "Heap", |out| {
        size(out, status.heap_used_bytes);
        out.text(" of ");
        size(out, status.heap_size_bytes);
    });
    out.text("\n</table></section>");
}

fn write_services(out: &mut Out<'_>, status: &Status<'_>) {
    if !status.services.is_empty() {
        out.text("\n<section><h2>Services</h2>\n<table>");
        for service in status.services {
            row(out, service.name, |out| match service.connections {
                None => out.text("ready"),
                Some(1) => out.text("1 connection"),
                Some(connections) => {
                    out.decimal(connections.into());
                    out.text(" connections");
                }
            });
        }
        out.text("\n</table></section>");
    }
    out.text("\n<nav><a href=/metrics>Metrics</a><a href=/api/v1/status>JSON</a><a href=/healthz>Health</a></nav>\n");
}

fn write_interface(out: &mut Out<'_>, interface: &Interface<'_>) {
    out.text("\n<section><h2>");
    foreign(out, interface.name);
    out.text(" <small>");
    foreign(out, interface.driver);
    out.text("</small></h2>\n<table>");
    row(out, "Link", |out| match interface.link {
        Link::Down => out.text("<b class=down>down</b>"),
        Link::Up { speed_mbps, duplex } => {
            out.text("<b class=up>up</b>");
            if let Some(speed) = speed_mbps {
                let _ = write!(out, ", {speed} Mb/s");
            }
            if let Some(duplex) = duplex {
                out.texts(&[" ", duplex.word(), " duplex"]);
            }
        }
    });
    row(out, "Addresses", |out| {
        for (
            index,
            Address {
                ip,
                prefix_len,
                origin,
            },
        ) in interface.addresses.iter().enumerate()
        {
            let line = if index == 0 { "" } else { "<br>" };
            let _ = write!(
                out,
                "{line}{ip}/{prefix_len} <small>{}</small>",
                origin.word()
            );
        }
        if interface.addresses.is_empty() {
            out.text("none yet");
        }
    });
    row(out, "Hardware", |out| {
        let _ = write!(out, "{}", MacText(interface.mac));
    });
    out.text("\n</table>");
    write_counters(out, interface.counters);
    out.text("</section>");
}

fn write_counters(out: &mut Out<'_>, counters: &[Counter<'_>]) {
    if counters.is_empty() {
        return;
    }
    out.text("\n<details><summary>Counters</summary><table>");
    for counter in counters {
        out.text("\n<tr><th>");
        words(out, counter.name);
        out.text("<td>");
        out.decimal(counter.value);
    }
    out.text("\n</table></details>");
}

/// A row of a table; the end tags are optional in HTML, and eight interfaces have many rows.
fn row(out: &mut Out<'_>, name: &str, value: impl FnOnce(&mut Out<'_>)) {
    out.text("\n<tr><th>");
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
