//! Captures as a whole, read back block by block.

use super::*;
use crate::connections::{Class, classify};
use std::vec::Vec;

fn capture(query: &str) -> Capture {
    let capture = Capture::new(&mut Random::new(None), true).unwrap();
    order(&capture, query).unwrap();
    capture
}

fn order(capture: &Capture, query: &str) -> Result<(), Refusal> {
    capture.order(query, |name| name == "wan")
}

fn begin(capture: &Capture, own: Key) {
    capture.begin(own, "board", &mut |add| {
        assert_eq!(add("wan", None), 0);
        assert_eq!(add("lan1", None), 1);
    });
}

/// Kind and body of each block.
fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut blocks = Vec::new();
    while !file.is_empty() {
        let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        let len = word(4) as usize;
        assert_eq!(word(len - 4) as usize, len);
        blocks.push((word(0), file[8..len - 4].to_vec()));
        file = &file[len..];
    }
    blocks
}

/// What waits, in pieces, and whether there may be more.
fn drain(capture: &Capture, piece: usize) -> (Vec<u8>, bool) {
    let (mut file, mut out) = (Vec::new(), std::vec![0; piece]);
    loop {
        match capture.fill(&mut out) {
            None => return (file, false),
            Some(0) => return (file, true),
            Some(len) => file.extend_from_slice(&out[..len]),
        }
    }
}

fn frame(first: u8, len: usize) -> Vec<u8> {
    let mut frame = std::vec![first; len];
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

fn word(body: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(body[at * 4..at * 4 + 4].try_into().unwrap())
}

#[test]
fn a_capture_from_begin_to_end() {
    let capture = capture("snaplen=16&count=3&text=all");
    begin(&capture, Key::default());
    assert_eq!(order(&capture, ""), Err(Refusal::Busy));
    capture.record(1, Direction::Received, &frame(1, 60));
    capture.record(1, Direction::Sent, &frame(2, 14));
    let (mut file, more) = drain(&capture, 7);
    assert!(more);
    assert_eq!(capture.waiting(), 0);
    capture.record(0, Direction::Received, &frame(3, 1514));
    capture.record(0, Direction::Received, &frame(4, 60));
    // Too late.
    capture.record(0, Direction::Received, &frame(5, 60));
    let (rest, more) = drain(&capture, 65536);
    assert!(!more);
    file.extend(rest);
    let blocks = blocks(&file);
    let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [0x0a0d_0d0a, 1, 1, 6, 6, 6, 5, 5]);
    let heads: Vec<_> = blocks[3..6]
        .iter()
        .map(|(_, body)| (word(body, 0), word(body, 3), word(body, 4), body[20]))
        .collect();
    assert_eq!(heads, [(1, 16, 60, 1), (1, 14, 14, 2), (0, 16, 1514, 3)]);
    let times: Vec<_> = blocks[3..6].iter().map(|(_, body)| word(body, 2)).collect();
    assert!(times.is_sorted());
    let state = capture.state();
    assert!(state.active);
    assert_eq!(
        (
            state.counts.seen,
            state.counts.accepted,
            state.counts.dropped
        ),
        (3, 3, 0)
    );
    capture.end();
    assert!(!capture.state().active);
    assert_eq!(order(&capture, ""), Ok(()));
}

#[test]
fn what_finds_no_room_is_counted_and_told() {
    let capture = capture("");
    begin(&capture, Key::default());
    for _ in 0..400 {
        capture.record(0, Direction::Received, &frame(1, 1000));
    }
    let Counts { seen, dropped, .. } = capture.state().counts;
    assert_eq!(seen, 400);
    assert!((100..200).contains(&dropped), "{dropped}");
    let (mut file, _) = drain(&capture, 1460);
    capture.record(1, Direction::Received, &frame(1, 60));
    capture.record(0, Direction::Received, &frame(1, 60));
    capture.record(0, Direction::Received, &frame(1, 60));
    capture.finish();
    capture.record(0, Direction::Received, &frame(1, 60));
    let (rest, more) = drain(&capture, 1460);
    assert!(!more);
    file.extend(rest);
    let blocks = blocks(&file);
    let packets = blocks.iter().filter(|(kind, _)| *kind == 6);
    let drops: Vec<u64> = packets
        .map(|(_, body)| {
            let options = &body[20 + word(body, 3).next_multiple_of(4) as usize..];
            match word(options, 2) {
                0x8_0004 => u64::from(word(options, 3)),
                _ => 0,
            }
        })
        .collect();
    assert_eq!(drops.len() as u64, 400 - dropped + 3);
    assert_eq!(drops[drops.len() - 3..], [0, dropped, 0]);
    assert_eq!(drops.iter().sum::<u64>(), dropped);
    let statistics: Vec<_> = blocks.iter().filter(|(kind, _)| *kind == 5).collect();
    let numbers = |body: &[u8]| {
        [
            word(body, 10),
            word(body, 13),
            word(body, 16),
            word(body, 19),
        ]
    };
    assert_eq!(
        numbers(&statistics[0].1),
        [402, 402, dropped as u32, 402 - dropped as u32]
    );
    assert_eq!(numbers(&statistics[1].1), [1, 1, 0, 1]);
}

#[test]
fn its_own_connection_is_left_out() {
    let segment = |from: [u8; 6], to: [u8; 6], tag: &[u8]| {
        let mut frame = std::vec![0; 12];
        frame.extend_from_slice(tag);
        frame.extend_from_slice(&[8, 0, 0x45]);
        frame.resize(12 + tag.len() + 2 + 48, 0);
        let ip = 14 + tag.len();
        frame[ip + 9] = 6;
        frame[ip + 12..ip + 16].copy_from_slice(&from[..4]);
        frame[ip + 16..ip + 20].copy_from_slice(&to[..4]);
        frame[ip + 20..ip + 22].copy_from_slice(&from[4..]);
        frame[ip + 22..ip + 24].copy_from_slice(&to[4..]);
        frame
    };
    let (ours, theirs, other) = (
        [10, 0, 0, 1, 0, 80],
        [10, 0, 0, 2, 9, 9],
        [10, 0, 0, 2, 9, 9 + 16],
    );
    let Class::Tcp(own) = classify(&segment(theirs, ours, &[]), 3) else {
        panic!("no segment")
    };
    for tag in [&[][..], &[0xda, 0xda, 0, 0, 0, 0, 0, 0], &[0; 4]] {
        let capture = capture("");
        let protocol = match tag.len() {
            0 => None,
            4 => Some(Protocol::Dsa),
            _ => Some(Protocol::EtherTypeDsa),
        };
        capture.begin(own.key, "", &mut |add| {
            add("x", protocol);
        });
        // The second time, it is known. The other one has the same slot.
        for _ in 0..2 {
            capture.record(0, Direction::Received, &segment(theirs, ours, tag));
            capture.record(0, Direction::Sent, &segment(ours, theirs, tag));
        }
        assert_eq!(capture.state().counts.seen, 0, "{tag:?}");
        for _ in 0..2 {
            capture.record(0, Direction::Received, &segment(other, ours, tag));
            capture.record(0, Direction::Sent, &segment(ours, other, tag));
        }
        capture.record(0, Direction::Sent, &[1, 2, 3]);
        assert_eq!(capture.state().counts.seen, 5, "{tag:?}");
        capture.record(0, Direction::Received, &segment(theirs, ours, tag));
        assert_eq!(capture.state().counts.seen, 5, "{tag:?}");
    }
}

#[test]
fn frames_like_others_are_kept_like_them() {
    for (snaplen, kept) in [
        (1, 1),
        (16, 16),
        (59, 59),
        (60, 60),
        (61, 61),
        (100, 75),
        (2048, 75),
    ] {
        let capture = capture(&std::format!("snaplen={snaplen}"));
        begin(&capture, Key::default());
        let frames: Vec<Vec<u8>> = (0..9)
            .map(|n| {
                let mut frame = frame(7, 75);
                (frame[0], frame[59], frame[74]) = (n, n, n);
                frame
            })
            .collect();
        for frame in &frames {
            capture.record(1, Direction::Sent, frame);
        }
        assert_eq!(capture.state().counts.accepted, 9);
        let (file, _) = drain(&capture, 50);
        let blocks = blocks(&file);
        let packets: Vec<_> = blocks.iter().filter(|(kind, _)| *kind == 6).collect();
        assert_eq!(packets.len(), 9);
        for ((_, body), frame) in packets.into_iter().zip(&frames) {
            assert_eq!((word(body, 0), word(body, 3), word(body, 4)), (1, kept, 75));
            assert_eq!(body[20..20 + kept as usize], frame[..kept as usize]);
            let padded = kept.next_multiple_of(4) as usize;
            assert!(
                body[20 + kept as usize..20 + padded]
                    .iter()
                    .all(|byte| *byte == 0)
            );
            assert_eq!(body.len(), 20 + padded + 12);
        }
        assert_eq!(capture.state().counts.accepted, 9);
    }
}

#[test]
fn a_filter_chooses() {
    // ldb [0]; jeq 2, ret 20, ret 0
    let capture = capture(
        "filter=003000000000000000150001000000020006000000000014 0006000000000000"
            .replace(' ', "")
            .as_str(),
    );
    begin(&capture, Key::default());
    for first in 0..5 {
        capture.record(0, Direction::Received, &frame(first, 60));
    }
    let counts = capture.state().counts;
    assert_eq!((counts.seen, counts.accepted), (5, 1));
    let (file, _) = drain(&capture, 1000);
    let (_, packet) = blocks(&file)
        .into_iter()
        .find(|(kind, _)| *kind == 6)
        .unwrap();
    assert_eq!(
        (word(&packet, 3), word(&packet, 4), packet[20]),
        (20, 60, 2)
    );
}

#[test]
fn only_what_there_is_can_be_captured() {
    let with = |has_conduit| Capture::new(&mut Random::new(None), has_conduit).unwrap();
    let (board, machine) = (with(true), with(false));
    assert_eq!(order(&board, "if=wan"), Ok(()));
    assert_eq!(order(&board, "if=conduit"), Ok(()));
    assert_eq!(order(&board, "if=eth7"), Err(Refusal::Interface));
    assert_eq!(order(&machine, "if=conduit"), Err(Refusal::Interface));
    assert_eq!(order(&machine, "if=wan&what"), Err(Refusal::Query));
}

#[test]
fn a_ticket_is_used_up_by_the_capture_that_begins() {
    let capture = capture("");
    let ticket = capture.issue_ticket(0);
    let query = std::format!("count=1&ticket={ticket}");
    assert!(capture.admits(&query, 0));
    assert!(capture.admits(&query, 0), "asking is no use");
    assert!(!capture.admits("count=1", 0));
    order(&capture, &query).unwrap();
    begin(&capture, Key::default());
    assert!(!capture.admits(&query, 0));
}
