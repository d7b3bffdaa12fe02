//! HTTP requests, in pieces.

use firmware::http::{AnswerCounters, Connection, MAX_ANSWER, Next, target};
use firmware::shell::Form;
use firmware::shell::errand::Ending;
use firmware::status::{Status, StatusSource};

use crate::Target;
use crate::mutate::Rng;

/// See [`target()`].
pub const TARGET: Target = Target {
    name: "http",
    run: target,
    iterations: 20_000,
    corpus: &[
        b"\x00\xffGET /hello HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x07\x00GET /hello HTTP/1.1\r\nHost: a\r\n\r\nGET /hello HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x10\x08HEAD http://[::1]:80/metrics?x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"\x03\x10POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /nope HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x21\x40GET /%68ello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: x\r\n\r\n",
        b"\x09\xffGET /api/v1/stats/wan?d&x=%41+b HTTP/1.1\r\nHost: a\r\n\r\nGET /hello HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x05\x05PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    ],
    words: &[
        b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b"%2f", b"%00", b"%", b"?", b"&", b"=", b"+", b"/api/v1/", b"link", b"help", b"GET ", b"HEAD ", b"OPTIONS * ", b"/", b"/hello",
        b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b" HTTP/2.0\r\n", b"Host: b\r\n", b"Content-Length: 1\r\n",
        b"Content-Length: 99999\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
        b"Expect: 100-continue\r\n", b"1\r\nx\r\n", b"0\r\n\r\n", b"ffff\r\n",
    ],
    mutate,
};

/// Repeats or drops a line.
fn mutate(input: &mut Vec<u8>, rng: &mut Rng) {
    let ends: Vec<usize> = (0..input.len())
        .filter(|&at| input[at] == b'\n')
        .map(|at| at + 1)
        .collect();
    if ends.len() < 2 {
        return;
    }
    let line = rng.below(ends.len() - 1);
    let (start, end) = (ends[line], ends[line + 1]);
    if rng.below(2) == 0 {
        let copy = input[start..end].to_vec();
        input.splice(start..start, copy);
    } else {
        input.drain(start..end);
    }
}

struct Nothing;

impl StatusSource for Nothing {
    fn is_own_name(&self, name: &[u8]) -> bool {
        name == b"a"
    }

    fn with_status(&self, show: &mut dyn FnMut(&Status<'_>)) {
        show(&Status {
            hostname: "fuzz",
            board: "",
            version: "",
            uptime_us: 0,
            cpu: "",
            memory_bytes: 0,
            image_bytes: 0,
            heap_used_bytes: 0,
            heap_size_bytes: 0,
            interfaces: &[],
            devices: &[],
            services: &[],
            counters: &[],
            http_answers: &AnswerCounters::default(),
            urls: &[],
            latency: &firmware::latency::Latency::off(),
            bad_end: None,
            samples: None,
            log: |_| {},
        });
    }
}

/// The first two bytes say how long a piece is and how much room there is at first; the rest is the stream. The stream
/// is played in pieces and at once, and the answers must be the same.
///
/// # Panics
///
/// If they are not, if more is said to be consumed or written than there is, or if a connection does not come to rest.
pub fn target(data: &[u8]) {
    let [piece, room, stream @ ..] = data else {
        return;
    };
    let in_pieces = play(stream, 1 + usize::from(*piece), usize::from(*room) * 64);
    let at_once = play(stream, stream.len().max(1), MAX_ANSWER);
    assert_eq!(in_pieces, at_once, "pieces of {piece}, room {room}");
}

/// The codes of all answers; the stream ends after the last piece.
fn play(stream: &[u8], piece: usize, room: usize) -> Vec<&'static str> {
    let mut connection = Connection::default();
    let mut out = vec![0; MAX_ANSWER];
    let mut codes = Vec::new();
    let (mut done, mut arrived) = (0, 0);
    loop {
        arrived = stream.len().min(arrived + piece);
        let mut room = room;
        // Every step consumes, asks for room once, goes on with a page or ends the loop.
        for _ in 0..=16 * stream.len() + 16 {
            let input = &stream[done..arrived];
            let step = connection.step(input, arrived == stream.len(), &mut out[..room], &Nothing);
            assert!(
                step.consumed <= input.len() && step.written <= room,
                "{step:?}"
            );
            done += step.consumed;
            codes.extend(step.answered.map(|code| code.number()));
            match step.next {
                Next::Step | Next::Again => {}
                Next::Errand => {
                    let Some((words, _)) = connection.errand() else {
                        panic!("an errand without a command");
                    };
                    let name = target::words(words).next();
                    assert!(name.and_then(firmware::shell::find).is_some(), "{words:?}");
                    assert!(
                        words.chars().all(|c| c == '\0' || !c.is_ascii_control()),
                        "{words:?}"
                    );
                    let out = &mut out[..room];
                    let step =
                        connection.finish_errand(Ending::Done(Form::Report), b"{}", true, out);
                    codes.extend(step.answered.map(|code| code.number()));
                    if step.next == Next::Close {
                        return codes;
                    }
                }
                Next::Room(wanted) => room = wanted,
                Next::Close => return codes,
                Next::Input | Next::Stream => break,
            }
        }
        assert!(
            arrived < stream.len(),
            "the stream is over and the connection waits"
        );
    }
}
