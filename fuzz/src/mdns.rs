//! Multicast DNS messages, as anybody on the link may send them.

use crate::Target;
use crate::mutate::{Rng, put};

/// See [`target`].
pub const TARGET: Target = Target {
    name: "mdns",
    run: target,
    iterations: 20_000,
    corpus: &[
        // Who has ristretto.local: A, and AAAA answered by unicast.
        b"\0\0\0\0\0\x01\0\0\0\0\0\0\x09ristretto\x05local\0\0\x01\0\x01",
        b"\0\0\0\0\0\x02\0\0\0\0\0\0\x09ristretto\x05local\0\0\x1c\x80\x01\xc0\x0c\0\xff\0\x01",
        // A probe of somebody who wants the same name.
        b"\0\0\0\0\0\x01\0\0\0\x01\0\0\x09ristretto\x05local\0\0\xff\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x78\0\x04\xc0\0\x02\x63",
        // An answer that contradicts ours, and one with a pointer to itself.
        b"\0\0\x84\0\0\0\0\x01\0\0\0\0\x09ristretto\x05local\0\0\x01\x80\x01\0\0\0\x78\0\x04\xc0\0\x02\x63",
        b"\0\0\0\0\0\x01\0\0\0\0\0\0\xc0\x0c\0\x01\0\x01",
        // Browsing, with a known answer.
        b"\0\0\0\0\0\x01\0\x01\0\0\0\0\x05_http\x04_tcp\x05local\0\0\x0c\0\x01\xc0\x0c\0\x0c\0\x01\0\0\x11\x94\0\x0c\x09ristretto\xc0\x0c",
    ],
    words: &[
        b"\x09ristretto", b"\x05local\0", b"\x05_http", b"\x04_tcp", b"\xc0\x0c", b"\xc0\x00", b"\xff\xff", b"\x3f",
        b"\0\x01", b"\0\x1c", b"\0\x21", b"\0\x2f", b"\0\xff", b"\x80\x01", b"\x84\0", b"\0\0\0\x78",
    ],
    mutate,
};

/// One message to a responder in every state.
pub fn target(data: &[u8]) {
    firmware::addressing::mdns::fuzz(data);
}

/// Points somewhere: forwards, backwards, at itself, out of the message.
fn mutate(message: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.below(message.len() + 1);
    let to = rng.below(message.len() + 16) as u16 | 0xc000;
    message.extend([0; 2]);
    put(message, at, &to.to_be_bytes());
}
