//! Rules of RFC 9110 and 9112, one line each; splitting, damage and size in general. The pages: `status/tests.rs`.

use super::*;
use crate::shell::Form;
use crate::status::tests::TYPICAL;

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    sent: Vec<u8>,
    codes: Vec<Code>,
    closed: bool,
}

/// Plays a connection on which the stream grows by the given pieces, then perhaps ends.
fn play<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, eof: bool, room: usize) -> Outcome {
    let mut connection = Connection::default();
    let mut outcome = Outcome::default();
    let mut input = Vec::new();
    let mut out = vec![0; MAX_ANSWER];
    let mut pieces = pieces.into_iter().peekable();
    loop {
        match pieces.next() {
            Some(piece) => input.extend_from_slice(piece),
            None => return outcome,
        }
        let at_eof = eof && pieces.peek().is_none();
        let mut room = room;
        loop {
            let step = connection.step(&input, at_eof, &mut out[..room], &TYPICAL);
            assert!(
                step.consumed <= input.len() && step.written <= room,
                "{step:?}"
            );
            input.drain(..step.consumed);
            outcome.sent.extend_from_slice(&out[..step.written]);
            outcome.codes.extend(step.answered);
            match step.next {
                Next::Input | Next::Stream => break,
                Next::Step => {}
                Next::Again => {
                    assert!(connection.is_writing() && !connection.is_idle());
                    assert_eq!((step.consumed, step.written), (0, 0));
                }
                Next::Errand => {
                    let (words, granted) = connection.errand().unwrap();
                    let result =
                        format!("{{\"ran\":\"{} {granted:?}\"}}\n", words.replace('\0', " "));
                    let (ending, out) = (Ending::Done(Form::Report), &mut out[..room]);
                    let step = connection.finish_errand(ending, result.as_bytes(), true, out);
                    outcome.sent.extend_from_slice(&out[..step.written]);
                    outcome.codes.extend(step.answered);
                    if step.next == Next::Close {
                        outcome.closed = true;
                        return outcome;
                    }
                }
                Next::Room(wanted) => {
                    assert!(wanted > room && wanted <= MAX_ANSWER);
                    assert_eq!((step.consumed, step.written), (0, 0));
                    room = wanted;
                }
                Next::Close => {
                    let again = connection.step(
                        b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n",
                        false,
                        &mut out,
                        &TYPICAL,
                    );
                    assert_eq!((again.written, again.next), (0, Next::Close));
                    outcome.closed = true;
                    return outcome;
                }
            }
        }
    }
}

fn answer(request: &[u8]) -> Outcome {
    play([request], false, MAX_ANSWER)
}

/// Steps until a page is written.
pub(crate) fn answered(
    connection: &mut Connection,
    request: &[u8],
    out: &mut [u8],
    status: &impl StatusSource,
) -> Step {
    loop {
        let step = connection.step(request, false, out, status);
        if step.next != Next::Again {
            return step;
        }
    }
}

fn text(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).unwrap()
}

/// Takes the first answer off `sent`: its status line and fields, and its body.
fn split_answer(sent: &[u8], is_head_only: bool) -> (&str, &[u8], &[u8]) {
    let end = sent
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap()
        + 4;
    let head = text(&sent[..end]);
    let len = field(head, "Content-Length").unwrap().parse().unwrap();
    let (body, rest) = sent[end..].split_at(if is_head_only { 0 } else { len });
    (head, body, rest)
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut values = head
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let value = values.next();
    assert_eq!(values.next(), None, "{name} twice in {head}");
    value
}

/// Every kind of request there is a rule for: what it is, its bytes, the codes of the answers, whether it ends the
/// connection.
#[rustfmt::skip]
fn cases() -> Vec<(&'static str, Vec<u8>, Vec<u16>, bool)> {
    let mut cases: Vec<(&str, Vec<u8>, Vec<u16>, bool)> = Vec::new();
    let mut add = |what, bytes: &[u8], codes: &[u16], closes| {
        cases.push((what, bytes.into(), codes.into(), closes))
    };
    // Requests that are served.
    add("plain", b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", &[200], false);
    add("all resources", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /metrics HTTP/1.1\r\nHost: a\r\n\r\nGET /api/v1/status HTTP/1.1\r\nHost: a\r\n\r\n", &[200, 200, 200, 200], false);
    add("empty lines first", b"\r\n\r\nGET /hello HTTP/1.1\r\nHost: a\r\n\r\n\r\n", &[200], false);
    add("newer minor version", b"GET /hello HTTP/1.7\r\nHost: a\r\n\r\n", &[200], false);
    add("names in any case, tabs, no space", b"GET /hello HTTP/1.1\r\nhOST:\ta\t \r\n\r\n", &[200], false);
    add("odd but legal fields", b"GET /hello HTTP/1.1\r\nHost: a\r\nX!#$%&'*+-.^_`|~: \xff\x80 x\r\nEmpty:\r\n\r\n", &[200], false);
    add("query", b"GET /hello?a=/b&c={d}?e HTTP/1.1\r\nHost: a\r\n\r\n", &[200], false);
    add("absolute form", b"GET HTTP://b:80/hello HTTP/1.1\r\nHost: a\r\n\r\n", &[200], false);
    add("absolute form without path", b"GET http://[::1]?x HTTP/1.1\r\nHost: a\r\n\r\n", &[200], false);
    add("escaped unreserved", b"GET /%68ell%6F HTTP/1.1\r\nHost: a\r\n\r\n", &[200], false);
    add("close", b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\nGET ", &[200], true);
    add("close wins", b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", &[200], true);
    add("1.0 closes", b"GET /hello HTTP/1.0\r\n\r\n", &[200], true);
    add("1.0 kept", b"GET /hello HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", &[200], false);
    add("closed is not close", b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", &[200], false);
    // Bodies are skipped.
    add("length", b"GET /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n\r\nabcdeHEAD / HTTP/1.1\r\nHost: a\r\n\r\n", &[200, 200], false);
    add("no length", b"GET /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", &[200], false);
    add("chunked", b"POST /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=\"b\"\r\nab\rde\r\n0A ;x\r\n0123456789\r\n000\r\nTrailer: x\r\nT:\r\n\r\nGET /hello HTTP/1.1\r\nHost: a\r\n\r\n", &[405, 200], false);
    add("post elsewhere", b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nxGET /hello HTTP/1.1\r\nHost: a\r\n\r\n", &[404, 200], false);
    add("expecting, body sent anyway", b"GET /hello HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", &[200], false);
    add("expecting without a body", b"GET /hello HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n", &[200], false);
    add("1.0 expecting", b"GET /hello HTTP/1.0\r\nExpect: x\r\n\r\n", &[200], true);
    // In sync all the same.
    add("404", b"GET /hello/ HTTP/1.1\r\nHost: a\r\n\r\nGET /nope HTTP/1.1\r\nHost: a\r\n\r\n", &[404, 404], false);
    add("400 for an escaped first slash", b"GET %2Fhello HTTP/1.1\r\nHost: a\r\n\r\n", &[400], true);
    add("404 for a reserved escape", b"GET /api%2Fv1/status HTTP/1.1\r\nHost: a\r\n\r\n", &[404], false);
    add("404 for a long path", b"GET /api/v1/statusx HTTP/1.1\r\nHost: a\r\n\r\n", &[404], false);
    // Commands.
    add("command", b"GET /api/v1/link/wan?x HTTP/1.1\r\nHost: a\r\n\r\nHEAD /api/v1/ HTTP/1.1\r\nHost: a\r\n\r\n", &[200, 200], false);
    add("command after a body", b"GET /api/v1/link HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /hello HTTP/1.1\r\nHost: a\r\n\r\n", &[200, 200], false);
    add("command of 1.0", b"GET /api/v1/link HTTP/1.0\r\n\r\n", &[200], true);
    add("no such command", b"GET /api/v1/nope HTTP/1.1\r\nHost: a\r\n\r\n", &[404], false);
    add("not a command", b"GET /api/v1/link/ HTTP/1.1\r\nHost: a\r\n\r\n", &[404], false);
    add("a command with a hole", b"GET /api/v1/link/%00 HTTP/1.1\r\nHost: a\r\n\r\n", &[400], true);
    add("a long command", format!("GET /api/v1/link/{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(300)).as_bytes(), &[414], true);
    add("a command that nobody may", b"GET /api/v1/dt HTTP/1.1\r\nHost: a\r\n\r\n", &[403], true);
    add("a foreign host", b"GET /hello HTTP/1.1\r\nHost: evil\r\n\r\n", &[421], true);
    add("a foreign host, in 1.0", b"GET /nope HTTP/1.0\r\nHost: evil.example:80\r\n\r\n", &[421], true);
    add("a foreign authority", b"GET http://evil/hello HTTP/1.1\r\nHost: a\r\n\r\n", &[421], true);
    add("a host that does not count", b"GET http://a/hello HTTP/1.1\r\nHost: evil\r\n\r\n", &[200], false);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"] {
        add("405", format!("{method} /hello?x HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), &[405], false);
    }
    add("405 for CONNECT", b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", &[405], false);
    add("405 for OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &[405], false);
    // Refused, and closed.
    add("405 to one who waits", b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n", &[405], true);
    add("417", b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, tea\r\n\r\n", &[417], true);
    for line in [
        "GET", "GET /", "GET  HTTP/1.1", "GET / HTTP/1.1 ", "GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET / / HTTP/1.1",
        "G(T / HTTP/1.1", "/ HTTP/1.1", "GET / http/1.1", "GET / HTTP/1.", "GET / HTTP/11", "GET / HTTP/1.10",
        "GET / HTTP/0.9", "GET / XTTP/1.1", "GET /HTTP/1.1", "GET /a#b HTTP/1.1", "GET /\u{e9} HTTP/1.1",
        "GET /a\u{7f} HTTP/1.1", "GET /<a> HTTP/1.1", "GET \\ HTTP/1.1", "GET hello HTTP/1.1", "GET * HTTP/1.1",
        "GET https://a/ HTTP/1.1", "GET http:///hello HTTP/1.1", "GET http://u@a/hello HTTP/1.1", "GET a:80 HTTP/1.1",
        "GET /%6 HTTP/1.1", "GET /%zz HTTP/1.1", "GET /%+1 HTTP/1.1", "G\u{e9}T / HTTP/1.1", "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1", " GET / HTTP/1.1", "GET /hello\u{b}HTTP/1.1",
    ] {
        add("400 for the first line", format!("{line}\r\nHost: a\r\n\r\n").as_bytes(), &[400], true);
    }
    add("HTTP/0.9 at once", b"GET /hello\r\n", &[400], true);
    for fields in [
        "", "Host:\r\n", "Host: \t\r\n", "Host: a\r\nHost: a\r\n", "Host: a b\r\n", "Host: a/\r\n", "Host: a, b\r\n:",
        "Host : a\r\n", "Host: a\r\nX\r\n", "Host: a\r\n: x\r\n", "Host: a\r\nX Y: z\r\n", "Host: a\r\n X: y\r\n",
        " Host: a\r\n", "\tHost: a\r\n", "Host: a\r\nX: y\r\n\tz\r\n", "Host: a\r\nX: y\0z\r\n",
        "Host: a\r\nX: \u{7f}\r\n", "Host: a\nX: y\r\n", "Host: a\rX: y\r\n", "Host: a\r\r\n",
        "Host: a\r\n\rX: y\r\n", "Host: a\r\nX: \u{1b}\r\n", "Host: a\n\r\n", "Host: a\r\n\n",
        "Host: a\r\nX\u{e9}: y\r\n", "Host: a\r\nX\t: y\r\n", "Host: a\r\nContent-Length:\r\n",
        "Host: a\r\nContent-Length: +1\r\n", "Host: a\r\nContent-Length: -1\r\n",
        "Host: a\r\nContent-Length: 0x1\r\n", "Host: a\r\nContent-Length: 1 1\r\n",
        "Host: a\r\nContent-Length: 1, 1\r\n", "Host: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
        "Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
        "Host: a\r\nContent-Length: 18446744073709551616\r\n", "Host: a\r\nContent-Length: \u{661}\r\n",
        "Host: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "Host: a\r\nTransfer-Encoding: chunked, chunked\r\n", "Host: a\r\nTransfer-Encoding: chunked, gzip\r\n",
        "Host: a\r\nTransfer-Encoding:\r\n", "Host: a\r\nTransfer-Encoding: chunked;x\r\n",
        "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let request =
            format!("GET /hello HTTP/1.1\r\n{fields}\r\nGET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
        add("400 for the fields", request.as_bytes(), &[400], true);
    }
    add("1.0 chunked", b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", &[400], true);
    add("1.0 with two hosts", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", &[400], true);
    for chunk in [
        "\r\n", "g\r\n", "-1\r\n", " 1\r\n", "1\n", "1\rx", "1 \r\n", "1;\0\r\n", "1;a\n", "1\r\nab\r\n", "1\r\na\n",
        "1\r\na\rx", "0\r\n x: y\r\n", "0\r\n:\r\n", "0\r\nx\r\n", "0\r\nx: \n", "0\r\n\rx", "0\r\nx: y\rz",
    ] {
        let request = format!(
            "GET /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}\r\n\r\n"
        );
        add("400 for a chunk", request.as_bytes(), &[400], true);
    }
    add("413", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n", &[413], true);
    add("413 chunk", b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10001", &[413], true);
    let mut drops = b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    drops.extend(b"1\r\nx\r\n".repeat(65536 / 6 + 1));
    add("413 by drops", &drops, &[413], true);
    let long = |len| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(len - 14));
    add("longest line", long(MAX_REQUEST_LINE).as_bytes(), &[404], false);
    add("414", long(MAX_REQUEST_LINE + 1).as_bytes(), &[414], true);
    add("414 before its end", &[b'x'; MAX_REQUEST_LINE + 2], &[414], true);
    let fields = |count: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(count - 1)
        )
    };
    add("most fields", fields(MAX_FIELDS).as_bytes(), &[200], false);
    add("431 by number", fields(MAX_FIELDS + 1).as_bytes(), &[431], true);
    let head = |len| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "y".repeat(len - 32)
        )
    };
    add("longest head", head(MAX_HEAD).as_bytes(), &[200], false);
    add("431 by length", head(MAX_HEAD + 1).as_bytes(), &[431], true);
    add("431 before its end", &head(MAX_HEAD + 1).as_bytes()[..MAX_HEAD], &[431], true);
    add("501 method", b"BREW /hello HTTP/1.1\r\nHost: a\r\n\r\n", &[501], true);
    add("501 method in small letters", b"get /hello HTTP/1.1\r\nHost: a\r\n\r\n", &[501], true);
    add("501 coding", b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", &[501], true);
    add("505", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", &[505], true);
    add("505 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[505], true);
    add("TLS", b"\x16\x03\x01\x02\x00", &[400], true);
    add("error after good ones", b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\nGET /hello HTTP/1.1\r\nHost: a\r\n\r\n\n", &[200, 200, 400], true);
    cases
}

#[test]
fn every_rule_holds() {
    for (what, request, codes, closes) in cases() {
        let outcome = answer(&request);
        let shown = &request[..request.len().min(120)];
        let got: Vec<u16> = outcome
            .codes
            .iter()
            .map(|code| code.number().parse().unwrap())
            .collect();
        assert_eq!(got, codes, "{what}: {:?}", shown.escape_ascii().to_string());
        assert_eq!(
            outcome.closed,
            closes,
            "{what}: {:?}",
            shown.escape_ascii().to_string()
        );
    }
}

#[test]
fn answers_are_well_formed_and_say_what_happens_next() {
    for (what, request, codes, closes) in cases() {
        let outcome = answer(&request);
        let has_head_request = request.windows(6).any(|window| window == b"HEAD /");
        let mut rest: &[u8] = &outcome.sent;
        for (index, code) in codes.iter().enumerate() {
            let is_last = index + 1 == codes.len();
            let (head, body, after) = split_answer(rest, has_head_request && is_last);
            rest = after;
            assert!(head.starts_with(&format!("HTTP/1.1 {code} ")), "{what}");
            assert_eq!(
                field(head, "Connection") == Some("close"),
                closes && is_last,
                "{what}"
            );
            assert_eq!(
                field(head, "Allow"),
                (*code == 405).then_some("GET, HEAD"),
                "{what}"
            );
            assert_eq!(field(head, "Date"), None);
            assert!(
                head.bytes().all(|byte| byte.is_ascii()) && !head.contains("\r\n\r\n "),
                "{what}"
            );
            if *code != 200 {
                assert!(
                    head.len() + body.len() <= SMALL_ANSWER
                        && text(body).starts_with("{\"error\":\""),
                    "{what}"
                );
            }
        }
        assert_eq!(rest, b"", "{what}: more was sent than was said");
    }
}

#[test]
fn splitting_the_input_anywhere_changes_nothing() {
    for (what, request, ..) in cases() {
        if request.len() > 1000 && request.len() < 10_000 {
            let whole = answer(&request);
            for at in (0..request.len())
                .step_by(509)
                .chain(request.len().saturating_sub(4)..request.len())
            {
                let (a, b) = request.split_at(at);
                assert_eq!(play([a, b], false, MAX_ANSWER), whole, "{what} at {at}");
            }
        }
        // A client that expects to be told sees a 100 or not, depending on when its body arrives.
        if request.len() > 1000 || what.starts_with("expecting, body") {
            continue;
        }
        let whole = answer(&request);
        for at in 0..request.len() {
            let (a, b) = request.split_at(at);
            assert_eq!(play([a, b], false, MAX_ANSWER), whole, "{what} at {at}");
        }
        assert_eq!(
            play(request.chunks(1), false, MAX_ANSWER),
            whole,
            "{what} byte by byte"
        );
        assert_eq!(
            play([&request[..]], false, 0),
            whole,
            "{what} without room at first"
        );
    }
}

#[test]
fn a_request_like_the_one_before_is_judged_by_its_own_bytes() {
    let first = b"GET /hello HTTP/1.1\r\nHost: abcdef\r\nX: y\r\n\r\n";
    let served = answer(first);
    let after_first = |second: &[u8]| {
        let mut outcome = play([&first[..], second], false, MAX_ANSWER);
        assert_eq!(outcome.codes.remove(0), Code::Ok);
        assert!(outcome.sent.starts_with(&served.sent));
        outcome.sent.drain(..served.sent.len());
        outcome
    };
    assert_eq!(after_first(first), served);
    for at in 0..first.len() {
        for bit in 0..8 {
            let mut second = *first;
            second[at] ^= 1 << bit;
            assert_eq!(
                after_first(&second),
                answer(&second),
                "bit {bit} of byte {at}"
            );
        }
        assert_eq!(after_first(&first[..at]), Outcome::default(), "{at} bytes");
    }
}

#[test]
fn refusals_name_the_limits_there_are() {
    for (refusal, limit) in [
        (Refusal::BodyTooLong, MAX_BODY as usize),
        (Refusal::RequestLineTooLong, MAX_REQUEST_LINE),
        (Refusal::HeadTooLong, MAX_HEAD),
        (Refusal::TooManyFields, MAX_FIELDS),
    ] {
        assert!(
            refusal.reason().contains(&format!(" {limit} ")),
            "{refusal:?}"
        );
    }
}

#[test]
fn an_early_end_is_refused_unless_nothing_was_begun() {
    let request = b"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    for len in 0..request.len() {
        let outcome = play([&request[..len]], true, MAX_ANSWER);
        let expected: &[Code] = if len == 0 { &[] } else { &[Code::BadRequest] };
        assert_eq!(
            (outcome.codes.as_slice(), outcome.closed),
            (expected, true),
            "{len}"
        );
    }
    let outcome = play([&request[..]], true, MAX_ANSWER);
    assert_eq!(
        (outcome.codes, outcome.closed),
        (vec![Code::MethodNotAllowed], true)
    );
}

#[test]
fn assets_are_packed_for_who_takes_that_and_kept_for_ever() {
    for asset in &crate::assets::ASSETS {
        for (accepts, is_packed) in [
            ("", false),
            ("Accept-Encoding: gzip\r\n", true),
            ("accept-encoding: br;q=1, GZIP;q=0.001\r\n", true),
            ("Accept-Encoding: *\r\n", true),
            ("Accept-Encoding: *;q=0\r\n", false),
            ("Accept-Encoding: *, gzip;q=0.000\r\n", false),
            ("Accept-Encoding: gzip;q=0, *\r\n", false),
            ("Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n", true),
            ("Accept-Encoding: ;, gzipped, x;;\r\n", false),
        ] {
            let path = asset.path;
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{accepts}\r\n");
            let outcome = answer(request.as_bytes());
            let (head, body, _) = split_answer(&outcome.sent, false);
            assert_eq!(field(head, "Content-Type"), Some(asset.kind));
            let coding = field(head, "Content-Encoding");
            assert_eq!(coding, is_packed.then_some("gzip"), "{accepts}");
            assert_eq!(body == asset.gzip, is_packed);
            assert!(is_packed || body.len() == asset.len);
            assert_eq!(field(head, "Vary"), Some("Accept-Encoding"));
            assert!(field(head, "Cache-Control").unwrap().contains("immutable"));
        }
    }
}

#[test]
fn hello_is_exactly_what_the_benchmarks_expect() {
    let outcome = answer(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    let (head, body, _) = split_answer(&outcome.sent, false);
    assert_eq!(body, b"Hello, world!");
    assert_eq!(field(head, "Content-Type"), Some("text/plain"));
    assert_eq!(field(head, "Connection"), None);
    let old = answer(b"GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(
        field(split_answer(&old.sent, false).0, "Connection"),
        Some("keep-alive")
    );
}

#[test]
fn head_is_get_without_the_body() {
    for path in [
        "/",
        "/hello",
        "/healthz",
        "/metrics",
        "/api/v1/status",
        "/nope",
    ] {
        for end in ["\r\n", "Connection: close\r\n\r\n"] {
            let get = answer(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{end}").as_bytes());
            let head = answer(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n{end}").as_bytes());
            assert_eq!(head.codes, get.codes);
            assert_eq!(text(&head.sent), split_answer(&get.sent, false).0);
        }
    }
    let refused = answer(b"HEAD / HTTP/1.1\r\nContent-Length: x\r\n\r\n");
    assert!(refused.sent.ends_with(b"\r\n\r\n") && refused.closed);
}

/// A machine with somebody at the door.
struct Guarded(super::Access);

impl StatusSource for Guarded {
    fn with_status(&self, show: &mut dyn FnMut(&crate::status::Status<'_>)) {
        TYPICAL.with_status(show);
    }

    fn is_public(&self) -> bool {
        self.0.is_public()
    }

    fn is_own_name(&self, name: &[u8]) -> bool {
        name == b"a"
    }

    fn judge(&self, authorization: Option<&[u8]>) -> Verdict {
        self.0.judge(authorization, 0)
    }
}

/// The code for a request to a machine with a token or none, public or not. A command ends with being denied more than
/// what was granted, if that is not everything.
fn code_of(line: &str, token: bool, private: bool, fields: &str) -> u16 {
    use shell::Access::*;
    let token = token.then(|| "t".try_into().unwrap());
    let source = Guarded(super::Access::new(token, private));
    let mut connection = Connection::default();
    let mut out = vec![0; MAX_ANSWER];
    let request = format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let mut step = answered(&mut connection, request.as_bytes(), &mut out, &source);
    if let Some((_, granted)) = connection.errand() {
        let ending = match granted {
            Read => Ending::Refused(shell::Refusal::Denied(Admin)),
            Admin => Ending::Refused(shell::Refusal::Denied(Change)),
            Change => Ending::Done(Form::Report),
        };
        step = connection.finish_errand(ending, b"{}", source.0.has_token(), &mut out);
    }
    step.answered.unwrap().number().parse().unwrap()
}

#[test]
fn a_page_without_the_token_is_the_same_for_every_machine() {
    let said = |fields: &str| {
        let source = Guarded(super::Access::new(Some("t".try_into().unwrap()), true));
        let mut out = vec![0; MAX_ANSWER];
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut connection = Connection::default();
        let step = answered(&mut connection, request.as_bytes(), &mut out, &source);
        assert_eq!(step.next, Next::Input, "the connection stays");
        text(&out[..step.written]).to_owned()
    };
    let gate = said("");
    assert!(gate.starts_with("HTTP/1.1 401 "), "{gate}");
    for part in [
        "\r\nWWW-Authenticate: Bearer ",
        "\r\nContent-Security-Policy: ",
        "\r\nCache-Control: no-store\r\n",
        "<title>Ristretto</title>",
        "<main id=gate>",
    ] {
        assert!(gate.contains(part), "{part} is missing in {gate}");
    }
    assert_eq!(said("Authorization: Bearer u\r\n"), gate);
    TYPICAL.with_status(&mut |status| {
        for known in [status.hostname, status.board, status.cpu, "eth", "10."] {
            assert!(!gate.contains(known), "{known} is in {gate}");
        }
    });
    let page = said("Authorization: Bearer t\r\n");
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("class=\"port"));
}

#[test]
fn who_may_do_what_is_as_bootargs_say() {
    const RIGHT: &str = "Authorization: Bearer t\r\n";
    const WRONG: &str = "Authorization: Bearer u\r\n";
    const FOREIGN: &str = "Authorization: Bearer t\r\nOrigin: http://b\r\n";
    // Without a token: public, private. With one: public without, wrong, right; private without, right.
    for (line, codes) in [
        ("GET /hello", [200, 200, 200, 200, 200, 200, 200]),
        ("HEAD /healthz", [200, 200, 200, 200, 200, 200, 200]),
        ("GET /", [200, 403, 200, 200, 200, 401, 200]),
        ("GET /metrics", [200, 403, 200, 200, 200, 401, 200]),
        ("GET /api/v1/status?x", [200, 403, 200, 200, 200, 401, 200]),
        ("GET /nope", [404; 7]),
        ("POST /metrics", [405; 7]),
        (
            "POST /api/v1/latency/reset",
            [403, 403, 401, 401, 200, 401, 200],
        ),
        ("GET /api/v1/latency/reset", [405; 7]),
        // Read by everybody, and denied what takes more: the second answer to the owner is that it takes a POST.
        ("GET /api/v1/link", [403, 403, 401, 401, 405, 401, 405]),
        ("GET /api/v1/dt", [403, 403, 401, 401, 405, 401, 405]),
        ("POST /api/v1/link", [403, 403, 401, 401, 200, 401, 200]),
        ("POST /api/v1/reboot", [403, 403, 401, 401, 200, 401, 200]),
        ("GET /api/v1/reboot", [405; 7]),
        ("PUT /api/v1/link", [405; 7]),
    ] {
        let got = [
            code_of(line, false, false, RIGHT),
            code_of(line, false, true, RIGHT),
            code_of(line, true, false, ""),
            code_of(line, true, false, WRONG),
            code_of(line, true, false, RIGHT),
            code_of(line, true, true, ""),
            code_of(line, true, true, RIGHT),
        ];
        assert_eq!(got, codes, "{line}");
    }
    assert_eq!(code_of("POST /api/v1/link", true, false, FOREIGN), 403);
    let own = FOREIGN.replace("//b", "//A");
    assert_eq!(code_of("POST /api/v1/link", true, false, &own), 200);
    let twice = format!("{RIGHT}{RIGHT}");
    assert_eq!(code_of("POST /api/v1/link", true, false, &twice), 401);
}

#[test]
fn captures_are_for_who_may_and_of_what_there_is() {
    let ask = |what: &str, more: &str| {
        let request = format!("{what} HTTP/1.1\r\nHost: a\r\n{more}\r\n");
        let mut out = vec![0; MAX_ANSWER];
        let step = Connection::default().step(request.as_bytes(), false, &mut out, &TYPICAL);
        let code = text(&out[..step.written])[9..12].to_string();
        (code, step.action.is_some())
    };
    for (what, code) in [
        ("GET /capture.pcapng", "403"),
        ("GET /capture.pcapng?ticket=bad", "403"),
        ("GET /capture.pcapng?ticket=good&if=absent", "404"),
        ("GET /capture.pcapng?ticket=good&if=busy", "503"),
        ("GET /capture.pcapng?ticket=good&snaplen=x", "400"),
        ("GET /capture.pcapng?ticket=good&filter=00", "400"),
        ("HEAD /capture.pcapng?ticket=good", "200"),
        ("POST /capture.pcapng?ticket=good", "405"),
    ] {
        assert_eq!(ask(what, ""), (code.into(), false), "{what}");
    }
    let good = "GET /capture.pcapng?ticket=good&if=wan";
    assert_eq!(ask(good, ""), ("200".into(), true));
    // It would be ordered before its body is whole, and begun after it.
    assert_eq!(
        ask(good, "Content-Length: 1\r\n\r\nx"),
        ("400".into(), false)
    );
}

/// What a stream of these pieces looks like, and what the connection wants after it.
fn streamed(head: &str, pieces: &[&str]) -> (String, Next) {
    let mut connection = Connection::default();
    let mut out = vec![0; MAX_ANSWER];
    let request = format!("GET /capture.pcapng?ticket=good HTTP/{head}\r\n\r\n");
    let mut step = connection.step(request.as_bytes(), false, &mut out, &TYPICAL);
    assert_eq!((step.consumed, step.next), (request.len(), Next::Stream));
    assert_eq!(step.answered, Some(Code::Ok));
    assert_eq!(step.action, Some(Action::Capture));
    let mut sent = text(&out[..step.written]).to_string();
    let mut pieces = pieces.iter();
    while step.next == Next::Stream {
        let again = connection.step(b"GET / HTTP/1.1\r\n", false, &mut [], &TYPICAL);
        assert_eq!((again.consumed, again.next), (0, Next::Stream));
        step = connection.stream(&mut out, &mut |room| {
            let piece = pieces.next()?;
            room[..piece.len()].copy_from_slice(piece.as_bytes());
            Some(piece.len())
        });
        sent += text(&out[..step.written]);
    }
    (sent, step.next)
}

#[test]
fn an_answer_of_unknown_length_is_sent_as_it_comes() {
    let (sent, next) = streamed("1.1\r\nHost: a", &["abc", "", "0123456789abcdefg"]);
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    assert_eq!(field(head, "Transfer-Encoding"), Some("chunked"));
    assert_eq!(field(head, "Content-Length"), None);
    assert_eq!(
        body,
        "0003\r\nabc\r\n0011\r\n0123456789abcdefg\r\n0000\r\n\r\n"
    );
    assert_eq!(next, Next::Step);
    for version in [
        "1.1\r\nHost: a\r\nConnection: close",
        "1.0",
        "1.0\r\nConnection: keep-alive",
    ] {
        let (sent, next) = streamed(version, &["abc", "de"]);
        let (head, body) = sent.split_once("\r\n\r\n").unwrap();
        assert_eq!(field(head, "Transfer-Encoding"), None);
        assert_eq!(field(head, "Connection"), Some("close"));
        assert_eq!((body, next), ("abcde", Next::Close));
    }
}

#[test]
fn a_client_that_waits_is_told_to_go_on() {
    let head =
        b"GET /hello HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let outcome = play([&head[..], b"abc"], false, MAX_ANSWER);
    assert!(
        outcome
            .sent
            .starts_with(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    );
    assert_eq!(outcome.codes, [Code::Ok]);
}

#[test]
fn long_bodies_are_skipped_in_little_pieces() {
    let mut request = b"GET /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n".to_vec();
    request.extend([b'x'; 65536]);
    request.extend(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        play(request.chunks(777), false, MAX_ANSWER).codes,
        [Code::Ok, Code::Ok]
    );
}

#[test]
fn the_time_limit_is_an_answer_only_within_a_request() {
    let mut out = [0; SMALL_ANSWER];
    let mut connection = Connection::default();
    assert!(connection.is_idle());
    assert_eq!(connection.timeout(&mut out), 0);
    let mut connection = Connection::default();
    assert_eq!(
        connection.step(b"GET / HT", false, &mut out, &TYPICAL).next,
        Next::Input
    );
    assert!(!connection.is_idle());
    let len = connection.timeout(&mut out);
    let (head, ..) = split_answer(&out[..len], false);
    assert!(head.starts_with("HTTP/1.1 408 ") && field(head, "Connection") == Some("close"));
    assert_eq!(
        connection.step(b"", false, &mut out, &TYPICAL).next,
        Next::Close
    );
}

#[test]
fn a_slow_request_is_not_read_again_from_the_start() {
    let head = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "y".repeat(6000)
    );
    let mut connection = Connection::default();
    for len in 0..head.len() {
        let mut input = head.as_bytes()[..len].to_vec();
        // Fields that were seen before may be anything now: nobody looks.
        if let Some(seen) = input.get_mut(16..len.saturating_sub(2)) {
            seen.fill(0);
        }
        let step = connection.step(&input, false, &mut [], &TYPICAL);
        assert_eq!((step.consumed, step.next), (0, Next::Input), "{len}");
    }
    assert_eq!(
        connection
            .step(head.as_bytes(), false, &mut [], &TYPICAL)
            .next,
        Next::Room(MAX_ANSWER)
    );
}

/// A small generator (xorshift), so that every run sees the same damage.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[test]
fn damaged_requests_are_answered_the_same_however_they_arrive() {
    let mut random = Random(0x5eed);
    let cases: Vec<_> = cases()
        .into_iter()
        .map(|(_, request, ..)| request)
        .filter(|it| it.len() < 400)
        .collect();
    for _ in 0..20_000 {
        let mut input = cases[random.below(cases.len())].clone();
        input.extend_from_slice(&cases[random.below(cases.len())]);
        for _ in 0..1 + random.below(3) {
            let at = random.below(input.len());
            match random.below(4) {
                0 => input[at] = random.below(256) as u8,
                1 => drop(input.remove(at)),
                2 => input.insert(at, b"\r\n :\t,\0/%"[random.below(9)]),
                _ => input.truncate(at + 2),
            }
        }
        let at = random.below(input.len() + 1);
        let (a, b) = input.split_at(at);
        let mut whole = play([&input[..]], true, MAX_ANSWER);
        let mut split = play([a, b], true, random.below(MAX_ANSWER));
        // Whether a 100 is sent depends on what arrives when; the rest may not.
        for outcome in [&mut whole, &mut split] {
            outcome.sent = text(&outcome.sent).replace(CONTINUE, "").into_bytes();
        }
        assert_eq!(
            whole,
            split,
            "at {at} of {:?}",
            input.escape_ascii().to_string()
        );
    }
}
