//! Requests to the irtt server, one after the other.

use firmware::random::Random;
use firmware::services::datagram::Source;
use firmware::services::irtt::{SESSIONS, Server};
use smoltcp::wire::IpAddress;

use crate::Target;
use crate::mutate::Rng;

/// See [`target`].
pub const TARGET: Target = Target {
    name: "irtt",
    run: target,
    iterations: 20_000,
    corpus: &[
        b"\x0f\x14\xa7\x5b\x01\x01\x02\x02\x80\xb0\x9d\xc2\xdf\x01\x03\x80\xa8\xd6\xb9\x07\x05\x06\x06\x06\x07\x06",
        b"\x07\x14\xa7\x5b\x01\x01\x02\x1c\x14\xa7\x5b\x00AAAAAAAA\0\0\0\0aaaaaaaaaaaa",
        b"\x0c\x14\xa7\x5b\x04AAAAAAAA\x06\x14\xa7\x5b\x05\x01\x02\x14\x14\xa7\x5b\x09bbbbbbbbbbbbbbbb",
    ],
    words: &[
        b"\x14\xa7\x5b", b"\x14\xa7\x5b\x00", b"\x14\xa7\x5b\x01", b"\x14\xa7\x5b\x04", b"\x14\xa7\x5b\x09", b"\x02\x00",
        b"\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x09\x04rand", b"\x06\x08", b"\x07\x06", b"\xff",
    ],
    mutate,
};

/// Says the beginning again.
fn mutate(input: &mut Vec<u8>, rng: &mut Rng) {
    let copy = input[..rng.below(input.len() + 1)].to_vec();
    input.extend(copy);
}

/// Each request is a byte that says how long it is, and so many bytes. An `A` stands for a byte of the last token.
///
/// # Panics
///
/// If an answer is longer than its room, or there are more sessions than there is room for.
pub fn target(mut data: &[u8]) {
    let (mut server, mut random) = (Server::default(), Random::new(Some(b"fuzz")));
    let (mut now_ns, mut token) = (1_u64, [0; 8]);
    let source = Source {
        interface: 0,
        address: IpAddress::v4(10, 0, 0, 1),
        port: 1,
    };
    while let [len, rest @ ..] = data {
        let (request, after) = rest.split_at(rest.len().min(usize::from(*len)));
        data = after;
        let mut buffer = [0xee; 200];
        let len = request.len().min(buffer.len());
        buffer[..len].copy_from_slice(&request[..len]);
        if len >= 12 && buffer[4..12] == *b"AAAAAAAA" {
            buffer[4..12].copy_from_slice(&token);
        }
        now_ns += u64::from(buffer[3]) << 26;
        let answer = server.answer(&mut buffer, len, source, &mut random, || now_ns);
        assert!(answer.is_none_or(|len| (12..=buffer.len()).contains(&len)));
        if answer.is_some() {
            token.copy_from_slice(&buffer[4..12]);
            let residue = buffer[len..answer.unwrap_or(0).max(len)].iter();
            assert!(
                residue.filter(|byte| **byte == 0xee).count() < 8,
                "old bytes are shown"
            );
        }
        assert!(server.open_sessions(now_ns) <= SESSIONS);
    }
}
