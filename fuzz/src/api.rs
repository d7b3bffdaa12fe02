//! Path and query of a command over HTTP, through the command and back.

use firmware::http::target::words;
use firmware::http::{Connection, MAX_ANSWER, Next};
use firmware::shell::Form;
use firmware::shell::errand::{Ending, Errand, LIMIT_US, Ticket};

use crate::Target;
use crate::bench::FakeBench;
use crate::mutate::Rng;

/// See [`target`].
pub const TARGET: Target = Target {
    name: "api",
    run: target,
    iterations: 20_000,
    corpus: &[
        b"g/api/v1/",
        b"g/api/v1/link/wan",
        b"h/api/v1/stats/wan?d",
        b"g/api/v1/dt/%2Fcpus%2Fcpu@0",
        b"p/api/v1/ping/10.0.0.1?n=3&i=100",
        b"p/api/v1/ping/fe80::1%25wan?s=56",
        b"g/%61pi/v1/%68elp/a+b?x=%41+b&&c",
        b"ahttp://a/api/v1/log?%20",
        b"p/api/v1/reboot",
        b"g/api/v1/mdio/read/1/%C3%A9",
        b"g/api/v1/peek/0xd0000000?n=4",
        b"p/api/v1/loopback/phy/1/on",
        b"p/api/v1/mdio/write/wan/0x16/18/3",
        b"p/api/v1/selftest/mdio/cable?force=1",
        b"g/api/v1/selftest/1?format=junit",
        b"g/api/v1/crash/log",
        b"g/api/v1/trace",
        b"g/api/v1/phy/wan",
        b"g/api/v1/switch/atu/1",
        b"g/api/v1/neta/ring",
        b"p/api/v1/coalesce/64/300",
        b"p/api/v1/poke/0xd0012000/0xffffffff",
    ],
    words: &[
        b"/",
        b"//",
        b"?",
        b"&",
        b"=",
        b"+",
        b"%",
        b"%00",
        b"%2F",
        b"%25",
        b"%ff",
        b"%C3",
        b"\xc3",
        b"/api/v1/",
        b"link",
        b"help",
        b"stats",
        b"log",
        b"dt",
        b"info",
        b"irq",
        b"ip",
        b"sockets",
        b"neigh",
        b"route",
        b"drops",
        b"mdio",
        b"switch",
        b"phy",
        b"neta",
        b"coalesce",
        b"loopback",
        b"peek",
        b"poke",
        b"scan",
        b"read",
        b"write",
        b"ports",
        b"dump",
        b"mib",
        b"on",
        b"off",
        b"ping",
        b"latency",
        b"reset",
        b"wan",
        b"-d",
        b"-j",
        b"10.0.0.1",
        b"0x7fffffff",
        b"-1",
        b"99999999999999999999",
        b"..",
    ],
    mutate: |_: &mut Vec<u8>, _: &mut Rng| (),
};

/// The first byte says how is asked, the rest is the target. Whatever comes of it is JSON of the length that is said, and
/// the words of a command are the same when all of them are escaped.
///
/// # Panics
///
/// If not.
pub fn target(data: &[u8]) {
    let [how, target @ ..] = data else { return };
    let method = match how {
        b'p' => "POST",
        b'h' => "HEAD",
        _ => "GET",
    };
    let fields = match how {
        b'a' => "Host: a\r\n\r\n",
        _ => "Host: a\r\nAuthorization: Bearer x\r\n\r\n",
    };
    let request = |target: &[u8]| {
        let (start, end) = (format!("{method} "), format!(" HTTP/1.1\r\n{fields}"));
        [start.as_bytes(), target, end.as_bytes()].concat()
    };
    let mut bench = FakeBench::default();
    let mut out = vec![0; MAX_ANSWER];
    let mut connection = Connection::default();
    let step = connection.step(&request(target), true, &mut out, &bench);
    if step.next != Next::Errand {
        assert!(connection.errand().is_none());
        return;
    }
    let Some((line, granted)) = connection.errand() else {
        panic!("an errand without a command");
    };
    round_trip(line, &request);
    let mut errand = Errand::new();
    let ticket = Ticket {
        place: 1,
        since_us: 1,
    };
    errand.begin(ticket, line, granted, 0, bench.now_us);
    while errand.ending().is_none() {
        bench.now_us = errand.due_us().max(bench.now_us + 1);
        assert!(bench.now_us <= 2 * LIMIT_US, "{line:?} goes on for ever");
        errand.run(&mut bench);
    }
    let Some((ending, result)) = errand.ending() else {
        return;
    };
    let json: Result<serde_json::Value, _> = serde_json::from_slice(result);
    let said = String::from_utf8_lossy(result);
    match ending {
        Ending::Done(Form::Lines) => {}
        Ending::Done(Form::Xml) => assert!(said.starts_with("<?xml"), "{line:?}: {said}"),
        Ending::Done(_) => assert!(json.is_ok_and(|it| it.is_object()), "{line:?}: {said}"),
        Ending::Refused(_) => {
            assert!(
                json.is_ok_and(|it| it["error"].is_string()),
                "{line:?}: {said}"
            );
        }
        Ending::TooSlow | Ending::Busy => {}
    }
    let step = connection.finish_errand(ending, result, true, &mut out);
    let answer = String::from_utf8_lossy(&out[..step.written]);
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        panic!("{answer}")
    };
    let len = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
    let is_right = match method {
        "HEAD" => body.is_empty() && len.is_some(),
        _ => len == Some(body.len()),
    };
    assert!(is_right, "{answer}");
}

/// The same words as segments of a path, each byte escaped, are the same words.
fn round_trip(line: &str, request: &dyn Fn(&[u8]) -> Vec<u8>) {
    if words(line).any(str::is_empty) {
        return;
    }
    let escaped = |word: &str| -> String {
        let bytes = word.bytes().map(|byte| format!("%{byte:02X}"));
        format!("/{}", bytes.collect::<String>())
    };
    let target = words(line).map(escaped).collect::<String>();
    let mut again = Connection::default();
    let request = request(format!("/api/v1{target}").as_bytes());
    again.step(
        &request,
        true,
        &mut vec![0; MAX_ANSWER],
        &FakeBench::default(),
    );
    assert_eq!(again.errand().map(|it| it.0), Some(line), "{target}");
}
