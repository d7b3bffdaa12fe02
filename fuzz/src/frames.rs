//! Frames from the wire, into the whole network: whatever comes, nothing panics, spins or loses a buffer.

use std::cell::RefCell;

use firmware::addressing::{Addressing, Config, Ipv4Config, Ipv6Config};
use firmware::connections::Service;
use firmware::network::{Network, Next, Port};
use firmware::snapshot::System;
use hal::net::Pool;
use smoltcp::wire::{EthernetAddress, Ipv4Cidr, Ipv6Cidr};

use crate::Target;
use crate::mutate::Rng;

#[allow(dead_code, reason = "shared with the tests of `firmware`")]
#[path = "../../firmware/tests/network/card.rs"]
mod card;
#[allow(dead_code, reason = "shared with the tests of `firmware`")]
#[path = "../../firmware/tests/network/frames.rs"]
mod make;

use card::{BUFFERS, Card};

/// See [`target`].
pub const TARGET: Target = Target {
    name: "frames",
    run: target,
    iterations: 20_000,
    corpus: &[
        b"\x00\x00\x01\x00\x02\x00\x03\x00\x04\x00\x05\x00",
        // A handshake, a request, another one, damaged ones.
        b"\x09\x00\x06\x00\x08\x00\x08\x08\x08\x01\x00\x2f\x01",
        b"\x0c\x00\x07\x00\x08\x00\x0a\x00\x09\x10\x08\x00",
        b"\x0b\x10\x0c\x00\x0d\x00\x0e\x20\x09\x00",
        // A segment with other flags, one cut, one grown.
        b"\x09\x00\x06\x00\x08\x01\x00\x2f\x04\x06\x00\x08\x01\x80\x36\x00\x08\x81\x85\xdc\x00",
    ],
    words: &[
        b"\x06\x00",
        b"\x08\x00",
        b"\x08\x01\x00\x2f\x01",
        b"\x08\x01\x00\x2f\x11",
        b"\x08\x01\x00\x2f\x14",
        b"\x08\x78",
        b"\x85\xdc\x00",
    ],
    mutate,
};

/// Doubles a piece, so that more happens on one connection.
fn mutate(input: &mut Vec<u8>, rng: &mut Rng) {
    if input.len() < 512 {
        let from = rng.below(input.len());
        let piece: Vec<u8> = input.iter().skip(from).take(12).copied().collect();
        input.extend(piece);
    }
}

struct World {
    network: Network<Card>,
    now_us: u64,
    /// What the network's last TCP segment says of the next one: sequence number, acknowledgement.
    answer: Option<([u8; 4], [u8; 4])>,
}

thread_local! {
    /// One for all inputs: its buffers are never freed. Between inputs, all connections end.
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

impl World {
    fn new() -> Self {
        let mut pool = Pool::new(BUFFERS);
        let card = Card::new(make::MAC, &mut pool);
        let config = Config {
            hostname: "fuzz",
            ipv4: Ipv4Config::Static {
                cidr: Ipv4Cidr::new(make::V4, 24),
                gateway: None,
            },
            ipv6: Ipv6Config::Static {
                cidr: Ipv6Cidr::new(make::V6, 64),
                gateway: None,
            },
        };
        let addressing = Addressing::new(config, EthernetAddress(make::MAC), 1);
        let name = "eth0".try_into().unwrap_or_default();
        let port = Port::new(name, card, 1, addressing, 2, &mut pool);
        let mut world = World {
            network: Network::new(vec![port], pool, System::default()),
            now_us: 0,
            answer: None,
        };
        world.rest(20_000_000);
        world
    }

    fn card(&mut self) -> &mut Card {
        &mut self.network.ports[0].nic
    }

    /// Lets the network do what it has to do now. Returns when it wants to go on.
    fn poll(&mut self) -> Option<u64> {
        for _ in 0..200 {
            let next = self.network.poll(self.now_us, 1, |_| {});
            while let Some(frame) = self.card().send_one() {
                if let Some((flags, seq, ack, data)) = make::parse(&frame) {
                    let phantom = u32::from(flags & 3 != 0); // SYN or FIN
                    let seq = seq.wrapping_add(data.len() as u32 + phantom);
                    self.answer = Some((ack.to_be_bytes(), seq.to_be_bytes()));
                }
            }
            let held = self.card().held();
            assert_eq!(
                self.network.pool.available() + held,
                BUFFERS,
                "buffers are lost"
            );
            assert!(
                self.network.ports[0].books_balance(),
                "frames are lost: {:?}",
                self.network.ports[0].counters
            );
            match next {
                Next::Again => {}
                Next::Idle => return None,
                Next::At(at_us) => {
                    assert!(at_us > self.now_us, "a deadline in the past");
                    return Some(at_us);
                }
            }
        }
        panic!("the network spins")
    }

    fn rest(&mut self, time_us: u64) {
        let end_us = self.now_us + time_us;
        let mut polls = 0;
        while self.now_us < end_us {
            let next_us = self.poll().unwrap_or(end_us);
            self.now_us = next_us.min(end_us);
            polls += 1;
            assert!(polls < 2_000, "too many deadlines");
        }
    }
}

/// A row of records: a frame's number in [`make::corpus`]; a byte of which the lowest three bits count edits, the next
/// four say how long to wait afterwards (4^n µs, 134 s at most), and the highest leaves checksums as they are; the edits, each a place in two
/// bytes and a value, or with the highest bit set a new length.
///
/// # Panics
///
/// If the network does, spins, sets a deadline in the past, loses a buffer or keeps a connection for ever.
pub fn target(data: &[u8]) {
    let corpus = make::corpus();
    WORLD.with_borrow_mut(|world| {
        let mut bytes = data.iter().copied();
        while let (Some(number), Some(how)) = (bytes.next(), bytes.next()) {
            let mut frame = corpus[usize::from(number) % corpus.len()].clone();
            if let Some((seq, ack)) = world.answer
                && frame[12..14] == [8, 0]
                && frame[23] == 6
                && frame[47] & 2 == 0
            {
                frame[38..42].copy_from_slice(&seq);
                frame[42..46].copy_from_slice(&ack);
            }
            for _ in 0..how & 7 {
                let (Some(high), Some(low), Some(value)) =
                    (bytes.next(), bytes.next(), bytes.next())
                else {
                    break;
                };
                let at = usize::from(u16::from_be_bytes([high & 0x7f, low]));
                match high & 0x80 {
                    0 => {
                        let len = frame.len();
                        frame[at % len] = value;
                    }
                    // At least a header, at most what a buffer holds.
                    _ => frame.resize(14 + at % 1968, value),
                }
            }
            if how & 0x80 == 0 {
                make::repair(&mut frame);
            }
            world.card().arrive(&frame);
            world.poll();
            world.rest(1 << (how >> 2 & 30).min(27));
        }
        world.rest(200_000_000);
        let connections = &world.network.connections;
        assert_eq!(
            connections.open(Service::Echo) + connections.open(Service::Http),
            0,
            "connections that do not end"
        );
        world.answer = None;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_gets_as_far_as_an_answer() {
        target(TARGET.corpus[1]);
        WORLD.with_borrow(|world| {
            assert_eq!(world.network.connections.counters.opened, 1);
            assert_eq!(world.network.answers.get(firmware::http::Code::Ok), 2);
        });
    }
}
