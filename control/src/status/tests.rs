//! The pages with a machine of little and one of much to show; whether programs understand them.

use super::*;
use crate::capture;
use crate::http::tests::answered;
use crate::http::{Code, Connection, MAX_ANSWER, Next};
use crate::latency::Latency;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Eight interfaces at their longest, or one of everything for people to look at.
pub(crate) struct Sample {
    is_worst: bool,
    excess: usize,
}

pub(crate) const TYPICAL: Sample = Sample {
    is_worst: false,
    excess: 0,
};

/// More counters than any device has, of the longest names.
struct Many(u64);

impl Table for Many {
    fn get(&self, index: usize) -> Option<Counter<'_>> {
        let name = *TABLE.get(index)?;
        Some(Counter {
            name,
            help: "Counter of the port of a switch, as other programs name it.",
            value: self.0,
        })
    }
}

/// All of it has to be escaped, which makes it six times as long.
const LONG_LINE: &str = "\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'\"'";
const NONE: [Counter<'static>; 0] = [];

const TABLE: [&str; 100] = {
    const LONG: &str = "abcdefghijklmnopqrstuvwxyz_abcdefghijklmnopqrstuvwxyz_abcdefg";
    let mut table = [""; 100];
    let mut at = 0;
    while at < 100 {
        table[at] = LONG.split_at(at % 27).1.split_at(32 - at / 27).0;
        at += 1;
    }
    table
};

const NAMES: [(&str, &str); 14] = [
    ("receive_bytes", "Bytes received."),
    ("receive_frames", "Frames received."),
    ("transmit_bytes", "Bytes sent."),
    ("transmit_frames", "Frames sent."),
    (
        "receive_ring_full_drops",
        "Frames lost: the receive ring was full.",
    ),
    (
        "receive_checksum_drops",
        "Frames lost: a checksum did not match.",
    ),
    (
        "receive_length_drops",
        "Frames lost: too short or too long.",
    ),
    (
        "receive_pool_empty_drops",
        "Frames lost: no buffer was free.",
    ),
    (
        "transmit_ring_full_drops",
        "Frames not sent: the ring was full.",
    ),
    ("transmit_timeouts", "Frames the hardware never took."),
    ("interrupts", "Interrupts taken."),
    ("link_changes", "Changes of the link state."),
    ("fragment_drops", "IP fragments lost."),
    (
        "neighbour_drops",
        "Packets lost: no answer from the neighbour.",
    ),
];

impl StatusSource for Sample {
    fn is_own_name(&self, name: &[u8]) -> bool {
        !name.starts_with(b"evil")
    }

    fn admits_to_capture(&self, query: &str) -> bool {
        capture::order::ticket(query) == Some("good")
    }

    fn order_capture(&self, query: &str) -> Result<(), capture::Refusal> {
        match &*capture::Order::parse(query)?.interface {
            "absent" => Err(capture::Refusal::Interface),
            "busy" => Err(capture::Refusal::Busy),
            _ => Ok(()),
        }
    }

    fn with_status(&self, show: &mut dyn FnMut(&Status<'_>)) {
        let value = |index: usize| {
            if self.is_worst {
                u64::MAX
            } else {
                48 * index as u64 * index as u64
            }
        };
        let counters: Vec<_> = NAMES
            .iter()
            .enumerate()
            .map(|(index, &(name, help))| Counter {
                name,
                help,
                value: value(index),
            })
            .collect();
        let many = Many(u64::MAX);
        let worst_address = Address {
            ip: IpAddr::V6(Ipv6Addr::new(
                0x2001, 0xdb85, 0xaaaa, 0xbbbb, 0xcccc, 0xdddd, 0xeeee, 0xffff,
            )),
            prefix_len: 128,
            origin: Origin::LinkLocal,
        };
        let typical = [
            Address {
                ip: IpAddr::V4(Ipv4Addr::new(10, 0, 2, 15)),
                prefix_len: 24,
                origin: Origin::Dhcp,
            },
            Address {
                ip: IpAddr::V6(Ipv6Addr::new(0xfec0, 0, 0, 0, 0x5054, 0xff, 0xfe12, 0x3456)),
                prefix_len: 64,
                origin: Origin::Slaac,
            },
            Address {
                ip: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe12, 0x3456)),
                prefix_len: 64,
                origin: Origin::LinkLocal,
            },
        ];
        let worst = [worst_address; MAX_ADDRESSES];
        let addresses: &[Address] = if self.is_worst { &worst } else { &typical };
        let link = Link::Up {
            speed_mbps: Some(1000),
            duplex: Some(Duplex::Full),
            pause: Some("rx/tx"),
        };
        let interface = |name| Interface {
            name,
            driver: "mv88e6xxx",
            mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
            link,
            addresses,
            counters: &counters,
            port: if self.is_worst { &many } else { &NONE },
            port_age_us: self.is_worst.then_some(u64::MAX),
            drops: self,
        };
        let devices = [
            Device {
                name: "neta0",
                counters: &many,
            },
            Device {
                name: "switch",
                counters: &many,
            },
        ];
        let mut interfaces: Vec<_> = [
            "eth0", "eth1", "eth2", "eth3", "eth4", "eth5", "eth6", "eth7",
        ]
        .map(interface)
        .into();
        assert_eq!(interfaces.len(), MAX_INTERFACES);
        if !self.is_worst {
            interfaces.truncate(2);
            interfaces[1] = Interface {
                link: Link::Down,
                addresses: &[],
                ..interfaces[1]
            };
        }
        interfaces.extend(core::iter::repeat_n(interfaces[0], self.excess));
        let own = [
            Counter {
                name: "accepted",
                help: "Connections accepted.",
                value: value(9),
            },
            Counter {
                name: "evicted",
                help: "Idle connections closed to make room.",
                value: value(0),
            },
            Counter {
                name: "receive_bytes",
                help: "Bytes received.",
                value: value(5),
            },
        ];
        let services = [
            Service {
                name: "http",
                connections: Some(1),
                counters: &own,
            },
            Service {
                name: "tcp_echo",
                connections: Some(64),
                counters: &own,
            },
            Service {
                name: "udp_echo",
                connections: None,
                counters: &own,
            },
        ];
        let mut http_answers = AnswerCounters::default();
        http_answers.count(Code::Ok);
        show(&Status {
            hostname: "espressobin",
            board: "Globalscale Marvell ESPRESSOBin Board V7 (\"eMMC\") <&\\>",
            version: "0.1.0",
            uptime_us: 192_345_678,
            cpu: "Cortex-A53 r0p4",
            memory_bytes: 1 << 30,
            image_bytes: 220 << 10,
            heap_used_bytes: 93_184,
            heap_size_bytes: 1 << 20,
            interfaces: &interfaces,
            devices: if self.is_worst { &devices } else { &[] },
            services: &services,
            counters: &[Counter {
                name: "idle_wakes",
                help: "Returns from WFI.",
                value: 7,
            }],
            http_answers: &http_answers,
            urls: &["http://10.0.2.15/", "http://espressobin.local/"],
            bad_end: Some((
                2,
                if self.is_worst {
                    LONG_LINE
                } else {
                    "panicked at <here> & \"there\""
                },
            )),
            latency: &Latency::off(),
            log: |line| (0..50).for_each(|at| line(if at == 49 { "<last>" } else { LONG_LINE })),
            samples: None,
        });
    }
}

impl Discards for Sample {
    fn count(&self, reason: Reason) -> u64 {
        match reason {
            _ if self.is_worst => u64::MAX,
            Reason::TcpChecksum => 3,
            _ => 0,
        }
    }
}

/// Asks for a page with so much room at a time, at least, and puts its pieces together.
fn page_by(path: &str, status: &Sample, version: &str, room: usize) -> (Code, String, usize) {
    let mut out = vec![0; MAX_ANSWER];
    let request = format!("GET {path} HTTP/{version}\r\nHost: a\r\n\r\n");
    let mut connection = Connection::default();
    let (mut bytes, mut code, mut pieces) = (Vec::new(), None, 0);
    let mut offered = MAX_ANSWER;
    loop {
        let step = connection.step(request.as_bytes(), false, &mut out[..offered], status);
        bytes.extend(&out[..step.written]);
        pieces += 1;
        assert!(step.answered.is_none() || code.is_none(), "answered twice");
        code = code.or(step.answered);
        match step.next {
            Next::Again => {
                assert_eq!((step.consumed, step.written), (0, 0), "{path}");
                pieces -= 1;
            }
            Next::Room(wanted) => {
                assert_eq!((step.consumed, step.written > 0), (0, true), "{path}");
                assert!(!connection.is_idle());
                offered = wanted.max(room);
            }
            next => {
                assert_eq!(step.consumed, request.len(), "{path}");
                assert_eq!(next == Next::Close, version == "1.0", "{path}");
                break;
            }
        }
    }
    let answer = String::from_utf8(bytes).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let body = match head.contains("Transfer-Encoding: chunked") {
        true => dechunk(body),
        false => body.to_owned(),
    };
    (code.unwrap(), body, pieces)
}

fn page(path: &str, status: &Sample) -> (Code, String) {
    let (code, body, _) = page_by(path, status, "1.1", MAX_ANSWER);
    (code, body)
}

/// RFC 9112, 7.1, without extensions and trailers.
fn dechunk(mut chunks: &str) -> String {
    let mut body = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n").unwrap();
        let (chunk, rest) = rest.split_at(usize::from_str_radix(size, 16).unwrap());
        body += chunk;
        chunks = rest.strip_prefix("\r\n").unwrap();
        if chunk.is_empty() {
            assert_eq!(chunks, "");
            return body;
        }
    }
}

const WORST: Sample = Sample {
    is_worst: true,
    excess: 0,
};

#[test]
fn long_pages_come_in_pieces_and_whole() {
    for path in ["/", "/metrics", "/api/v1/status"] {
        let (code, body, _) = page_by(path, &WORST, "1.1", MAX_ANSWER);
        assert_eq!(code, Code::Ok, "{path}");
        let (_, old, pieces) = page_by(path, &WORST, "1.0", 0);
        assert_eq!(old, body, "{path}");
        assert_eq!(pieces > 1, body.len() > MAX_ANSWER, "{path}");
        match path {
            "/metrics" => assert!(body.len() > 4 * MAX_ANSWER),
            "/api/v1/status" => assert_eq!(json(&body), Ok("\n")),
            _ => assert!(body.contains("</nav>")),
        }
    }
}

#[test]
fn a_page_that_is_given_up_half_way_is_not_apologised_for() {
    let mut out = vec![0; MAX_ANSWER];
    let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut connection = Connection::default();
    let step = answered(&mut connection, request, &mut out, &WORST);
    assert!(matches!(step.next, Next::Room(_)));
    assert_eq!(connection.timeout(&mut out), 0);
    let step = connection.step(request, false, &mut out, &WORST);
    assert_eq!((step.written, step.next), (0, Next::Close));
}

/// One JSON value at the start of `text`; what follows it.
fn json(text: &str) -> Result<&str, &str> {
    let text = text.trim_start();
    let items = |open: char, close: char, keyed: bool| -> Result<&str, &str> {
        let mut rest = text.strip_prefix(open).ok_or(text)?.trim_start();
        if let Some(rest) = rest.strip_prefix(close) {
            return Ok(rest);
        }
        loop {
            if keyed {
                rest = json(rest.strip_prefix('"').map(|_| rest).ok_or(rest)?)?
                    .strip_prefix(':')
                    .ok_or(rest)?;
            }
            rest = json(rest)?.trim_start();
            match rest.strip_prefix(',') {
                Some(after) => rest = after,
                None => return rest.strip_prefix(close).ok_or(rest),
            }
        }
    };
    match text.chars().next().ok_or(text)? {
        '{' => items('{', '}', true),
        '[' => items('[', ']', false),
        '"' => {
            let mut characters = text[1..].char_indices();
            while let Some((at, character)) = characters.next() {
                match character {
                    '"' => return Ok(&text[at + 2..]),
                    '\\' => match characters.next().ok_or(text)?.1 {
                        'u' => (0..4).try_for_each(|_| {
                            characters
                                .next()
                                .filter(|(_, digit)| digit.is_ascii_hexdigit())
                                .map(|_| ())
                                .ok_or(text)
                        })?,
                        '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => {}
                        _ => return Err(text),
                    },
                    control if control < ' ' => return Err(text),
                    _ => {}
                }
            }
            Err(text)
        }
        't' => text.strip_prefix("true").ok_or(text),
        'f' => text.strip_prefix("false").ok_or(text),
        '0'..='9' => {
            let end = text
                .find(|character: char| !character.is_ascii_digit() && character != '.')
                .unwrap_or(text.len());
            text[..end]
                .parse::<f64>()
                .map(|_| &text[end..])
                .map_err(|_| text)
        }
        _ => Err(text),
    }
}

#[test]
fn the_status_is_json() {
    assert!(json("{\"a\":[1,{}],}").is_err() && json("\"\\x\"").is_err());
    for status in [
        TYPICAL,
        Sample {
            is_worst: true,
            excess: 0,
        },
    ] {
        let (_, body) = page("/api/v1/status", &status);
        assert_eq!(json(&body).map(str::trim), Ok(""), "{body}");
    }
    let (_, body) = page("/api/v1/status", &TYPICAL);
    assert!(
        body.contains(r#""board":"Globalscale Marvell ESPRESSOBin Board V7 (\"eMMC\") <&\\>""#),
        "{body}"
    );
    assert!(
        body.contains(r#"{"cidr":"10.0.2.15/24","origin":"dhcp"}"#),
        "{body}"
    );
    assert!(body.contains(r#""uptime_seconds":192.345678"#), "{body}");
}

#[test]
fn metrics_stand_together_by_family_and_are_declared_once() {
    let (_, body) = page("/metrics", &TYPICAL);
    let mut families = std::collections::HashSet::new();
    let mut samples = std::collections::HashSet::new();
    let mut current = "";
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            current = rest.split(' ').next().unwrap();
            assert!(families.insert(current), "{current} declared twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, current);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(samples.insert(name), "{name} twice");
            assert_eq!(name.split('{').next(), Some(current));
            assert!(value.parse::<f64>().is_ok());
        }
    }
    for line in [
        "ristretto_interface_receive_frames_total{interface=\"eth0\"} 48",
        "ristretto_interface_link_up{interface=\"eth1\"} 0",
        "ristretto_interface_speed_bytes_per_second{interface=\"eth0\"} 125000000",
        "ristretto_service_connections{service=\"tcp_echo\"} 64",
        "ristretto_http_responses_total{code=\"200\"} 1",
        "ristretto_idle_wakes_total 7",
        "ristretto_build_info{version=\"0.1.0\",board=\"Globalscale Marvell ESPRESSOBin Board V7 (\\\"eMMC\\\") <&\\\\>\"} 1",
    ] {
        assert!(
            body.lines().any(|other| other == line),
            "{line} is missing in {body}"
        );
    }
}

#[test]
fn foreign_text_does_not_become_html() {
    let (_, body) = page("/", &TYPICAL);
    assert!(
        body.contains("(&quot;eMMC&quot;) &lt;&amp;\\&gt;"),
        "{body}"
    );
    assert!(body.contains("&lt;last&gt;\n</pre>"));
    assert!(body.contains("3 min 12 s") && body.contains("10.0.2.15/24"));
    for reference in [
        "http:", "https:", "//", "url(", "style=", "<script>", "onload",
    ] {
        assert!(!body.contains(reference), "{reference}");
    }
    assert_eq!(body.matches("<script").count(), 3);
    assert_eq!(body.matches("<script defer src=/assets/").count(), 3);
}
