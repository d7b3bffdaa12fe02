//! `/api/v1/status`: the status as one JSON object (RFC 8259).
//!
//! Fields are only ever added within `v1`. Counters are numbers of up to 64 bits.

use crate::http::{Code, Out};
use crate::status::{Address, Interface, Link, Service, Status, Table, each};
use core::fmt::Write as _;
use hal::net::MacText;

/// Writes the object.
pub fn write(out: &mut Out<'_>, status: &Status<'_>) {
    out.part(|out| machine(out, status));
    for (index, one) in status.interfaces.iter().enumerate() {
        // Counters and drops in one: they are to be of the same moment.
        out.part(|out| {
            out.text(if index == 0 { "" } else { "," });
            interface(out, one);
            out.text(",\"drops\":{");
            let mut first = true;
            status.drops(index, &mut |reason, count| {
                out.texts(&[if first { "\"" } else { ",\"" }, reason.name(), "\":"]);
                out.decimal(count);
                first = false;
            });
            out.text("}");
        });
        out.part(|out| {
            port_counters(out, one);
            out.text("}");
        });
    }
    out.part(|out| out.text("],\"devices\":{"));
    for (index, device) in status.devices.iter().enumerate() {
        out.part(|out| {
            out.text(if index == 0 { "" } else { "," });
            string(out, device.name);
            out.text(":");
            counters(out, device.counters);
        });
    }
    out.part(|out| {
        out.text("},\"services\":");
        array(out, status.services, service);
    });
    out.part(|out| rest(out, status));
}

fn machine(out: &mut Out<'_>, status: &Status<'_>) {
    for (key, value) in [
        ("{\"hostname\":", status.hostname),
        (",\"board\":", status.board),
        (",\"version\":", status.version),
        (",\"cpu\":", status.cpu),
    ] {
        out.text(key);
        string(out, value);
    }
    out.text(",\"uptime_seconds\":");
    out.seconds(status.uptime_us);
    for (key, value) in [
        (",\"memory_bytes\":", status.memory_bytes),
        (",\"image_bytes\":", status.image_bytes),
        (",\"heap_used_bytes\":", status.heap_used_bytes),
        (",\"heap_size_bytes\":", status.heap_size_bytes),
    ] {
        out.text(key);
        out.decimal(value);
    }
    out.text(",\"bad_end\":");
    match status.bad_end {
        Some((ago, message)) => {
            out.text("{\"starts_ago\":");
            out.decimal(ago);
            out.text(",\"message\":");
            string(out, message);
            out.text("}");
        }
        None => out.text("null"),
    }
    out.text(",\"urls\":");
    array(out, status.urls, |out, url| string(out, url));
    out.text(",\"interfaces\":[");
}

fn rest(out: &mut Out<'_>, status: &Status<'_>) {
    out.text(",\"http_responses\":{");
    for (index, code) in Code::ALL.into_iter().enumerate() {
        out.texts(&[if index == 0 { "\"" } else { ",\"" }, code.number(), "\":"]);
        out.decimal(status.http_answers.get(code));
    }
    out.text("},\"counters\":");
    counters(out, status.counters);
    out.text("}\n");
}

fn interface(out: &mut Out<'_>, interface: &Interface<'_>) {
    out.text("{\"name\":");
    string(out, interface.name);
    out.text(",\"driver\":");
    string(out, interface.driver);
    let _ = write!(out, ",\"mac\":\"{}\"", MacText(interface.mac));
    match interface.link {
        Link::Down => out.text(",\"link\":{\"up\":false}"),
        Link::Up {
            speed_mbps,
            duplex,
            pause,
        } => {
            out.text(",\"link\":{\"up\":true");
            if let Some(speed) = speed_mbps {
                out.text(",\"speed_mbps\":");
                out.decimal(speed.into());
            }
            if let Some(duplex) = duplex {
                out.texts(&[",\"duplex\":\"", duplex.word(), "\""]);
            }
            if let Some(pause) = pause {
                out.texts(&[",\"pause\":\"", pause, "\""]);
            }
            out.text("}");
        }
    }
    out.text(",\"addresses\":");
    array(out, interface.addresses, address);
    out.text(",\"counters\":");
    counters(out, interface.counters);
}

fn port_counters(out: &mut Out<'_>, interface: &Interface<'_>) {
    if interface.port.get(0).is_some() {
        out.text(",\"port_counters\":");
        counters(out, interface.port);
    }
    if let Some(age_us) = interface.port_age_us {
        out.text(",\"port_counters_age_seconds\":");
        out.seconds(age_us);
    }
}

fn address(out: &mut Out<'_>, address: &Address) {
    let Address {
        ip,
        prefix_len,
        origin,
    } = address;
    let _ = write!(
        out,
        "{{\"cidr\":\"{ip}/{prefix_len}\",\"origin\":\"{}\"}}",
        origin.word()
    );
}

fn service(out: &mut Out<'_>, service: &Service<'_>) {
    out.text("{\"name\":");
    string(out, service.name);
    if let Some(connections) = service.connections {
        out.text(",\"connections\":");
        out.decimal(connections.into());
    }
    out.text(",\"counters\":");
    counters(out, service.counters);
    out.text("}");
}

fn counters(out: &mut Out<'_>, counters: &(impl Table + ?Sized)) {
    out.text("{");
    for (index, counter) in each(counters).enumerate() {
        // Names of counters are ours: nothing in them needs a word for it.
        out.texts(&[if index == 0 { "\"" } else { ",\"" }, counter.name, "\":"]);
        out.decimal(counter.value);
    }
    out.text("}");
}

fn array<T>(out: &mut Out<'_>, items: &[T], write: impl Fn(&mut Out<'_>, &T)) {
    out.text("[");
    for (index, item) in items.iter().enumerate() {
        out.text(if index == 0 { "" } else { "," });
        write(out, item);
    }
    out.text("]");
}

fn string(out: &mut Out<'_>, value: &str) {
    out.text("\"");
    out.foreign(value, escape);
    out.text("\"");
}

/// What stands for a character inside a string, if not the character itself.
pub(crate) fn escape(character: char) -> Option<&'static str> {
    match character {
        '"' => Some("\\\""),
        '\\' => Some("\\\\"),
        '\n' => Some("\\n"),
        '\0'..='\x1f' | '\x7f' => Some("\\ufffd"),
        _ => None,
    }
}
