//! HTTP requests, in pieces.

use firmware::http::{AnswerCounters, Connection, MAX_ANSWER, Next};
use firmware::status::{Status, StatusSource};

struct Nothing;

impl StatusSource for Nothing {
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
            services: &[],
            counters: &[],
            http_answers: &AnswerCounters::default(),
            urls: &[],
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
        // Every step consumes, asks for room once or ends the loop.
        for _ in 0..=3 * stream.len() + 3 {
            let input = &stream[done..arrived];
            let step = connection.step(input, arrived == stream.len(), &mut out[..room], &Nothing);
            assert!(
                step.consumed <= input.len() && step.written <= room,
                "{step:?}"
            );
            done += step.consumed;
            codes.extend(step.answered.map(|code| code.number()));
            match step.next {
                Next::Step => {}
                Next::Room(wanted) => room = wanted,
                Next::Close => return codes,
                Next::Input => break,
            }
        }
        assert!(
            arrived < stream.len(),
            "the stream is over and the connection waits"
        );
    }
}
