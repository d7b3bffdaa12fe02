//! Tags against the model's own reading of them, and against any bytes at all.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use espressobin_model::prng::Prng;
use espressobin_model::switch::{Command, Tag, Tci};
use hal::net::frame::{BUFFER_BYTES, Frame, HEADROOM, Pool};
use hal::net::mv88e6xxx::{PortIndex, PortSet};
use hal::net::tag::{Drop, Drops, Origin, Protocol, Tagger};

const PROTOCOLS: [Protocol; 2] = [Protocol::EtherTypeDsa, Protocol::Dsa];
const DEVICE: u8 = 5;

fn port(number: u8) -> PortIndex {
    PortIndex::new(number).unwrap()
}

/// Of the switch with number 5, with user ports 1 and 3.
fn tagger(protocol: Protocol) -> Tagger {
    Tagger::new(protocol, DEVICE, PortSet::of(port(1)).with(port(3)))
}

fn fill(frame: &mut Frame, bytes: &[u8]) {
    assert!(frame.set_len(bytes.len()));
    frame.bytes_mut().copy_from_slice(bytes);
}

fn frame_of(bytes: &[u8]) -> Frame {
    let mut frame = Pool::new(1).take().unwrap();
    fill(&mut frame, bytes);
    frame
}

fn random(prng: &mut Prng, len: usize) -> Vec<u8> {
    (0..len).map(|_| prng.next_u64() as u8).collect()
}

fn plain(len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|at| at as u8).collect();
    bytes[12..14].copy_from_slice(&[0x08, 0x00]);
    bytes
}

/// `bytes` with an 802.1Q header of these bits.
fn dot1q(bytes: &[u8], tci: u16) -> Vec<u8> {
    let tci = tci.to_be_bytes();
    [&bytes[..12], &[0x81, 0x00], &tci, &bytes[12..]].concat()
}

/// As the switch sends it: `tag` behind the addresses, in place of an 802.1Q header if the tag says so.
fn from_switch(protocol: Protocol, bytes: &[u8], tag: Tag) -> Vec<u8> {
    let rest = if tag.tagged { 16 } else { 12 };
    let prefix: &[u8] = match protocol {
        Protocol::EtherTypeDsa => &[0xda, 0xda, 0, 0],
        Protocol::Dsa => &[],
    };
    [&bytes[..12], prefix, &tag.to_bytes(), &bytes[rest..]].concat()
}

fn tag(command: Command) -> Tag {
    Tag {
        command,
        tagged: false,
        device: DEVICE,
        port: 3,
        vlan: Tci::default(),
    }
}

#[test]
fn every_command_and_code_is_taken_or_refused_for_its_own_reason() {
    let source = |origin| Ok((3, origin));
    let to_cpu = |code| tag(Command::ToCpu { code });
    let forward = tag(Command::Forward { trunk: false });
    let table = [
        (forward, source(Origin::Forwarded)),
        (to_cpu(0), source(Origin::Management)),
        (to_cpu(1), Err(Drop::RemoteManagement)),
        (to_cpu(2), source(Origin::Snooped)),
        (to_cpu(3), source(Origin::PolicyTrap)),
        (to_cpu(4), source(Origin::ArpMirror)),
        (to_cpu(5), source(Origin::PolicyMirror)),
        (to_cpu(6), Err(Drop::ReservedCode)),
        (to_cpu(7), Err(Drop::ReservedCode)),
        (tag(Command::FromCpu), Err(Drop::FromCpu)),
        (
            tag(Command::ToSniffer { ingress: true }),
            Err(Drop::Sniffer),
        ),
        (tag(Command::Forward { trunk: true }), Err(Drop::Trunk)),
        (
            Tag {
                device: 4,
                ..forward
            },
            Err(Drop::WrongDevice),
        ),
        (Tag { port: 2, ..forward }, Err(Drop::WrongPort)),
        (Tag { port: 6, ..forward }, Err(Drop::WrongPort)),
        (
            Tag {
                port: 31,
                ..forward
            },
            Err(Drop::WrongPort),
        ),
    ];
    let mut drops = Drops::default();
    for protocol in PROTOCOLS {
        for (tag, expected) in table {
            let bytes = from_switch(protocol, &plain(64), tag);
            let mut frame = frame_of(&bytes);
            let result = tagger(protocol).take_off(&mut frame);
            let found = result.map(|source| (source.port.get(), source.origin));
            assert_eq!(found, expected, "{protocol:?} {tag:?}");
            match result {
                Ok(_) => assert_eq!(frame.bytes(), plain(64)),
                Err(reason) => {
                    assert_eq!(frame.bytes(), bytes, "a dropped frame is as it was");
                    drops.count(reason);
                }
            }
        }
    }
    assert_eq!(drops.get(Drop::WrongPort), 6);
    assert_eq!(drops.get(Drop::Short), 0);
    assert_eq!(drops.each().map(|(_, _, count)| count).sum::<u64>(), 20);
}

#[test]
fn an_802_1q_header_goes_into_the_tag_and_comes_back_with_all_its_bits() {
    for protocol in PROTOCOLS {
        for tci in 0..=u16::MAX {
            let inner = dot1q(&plain(64), tci);
            let vlan = Tci::parse(tci.to_be_bytes());
            let forward = Tag {
                tagged: true,
                vlan,
                ..tag(Command::Forward { trunk: false })
            };
            let mut frame = frame_pool(&from_switch(protocol, &inner, forward));
            assert!(tagger(protocol).take_off(&mut frame).is_ok());
            assert_eq!(frame.bytes(), inner, "{tci:#06x}");
            assert!(tagger(protocol).put_on(&mut frame, port(1)));
            let from_cpu = Tag {
                command: Command::FromCpu,
                port: 1,
                ..forward
            };
            assert_eq!(frame.bytes(), from_switch(protocol, &inner, from_cpu));
            give_back(frame);
        }
    }
}

#[test]
fn the_tag_a_frame_gets_is_the_one_the_switch_reads() {
    for protocol in PROTOCOLS {
        for len in [60, 61, 1514, BUFFER_BYTES - HEADROOM] {
            for number in 0..6 {
                let mut frame = frame_of(&plain(len));
                assert!(tagger(protocol).put_on(&mut frame, port(number)));
                let expected = Tag {
                    port: number,
                    ..tag(Command::FromCpu)
                };
                let expected = from_switch(protocol, &plain(len), expected);
                assert_eq!(frame.bytes(), expected);
            }
        }
    }
}

#[test]
fn short_frames_are_padded_with_zeros_before_they_are_tagged() {
    for protocol in PROTOCOLS {
        for len in 14..60 {
            let mut frame = frame_of(&[0xaa; 200]);
            fill(&mut frame, &plain(len));
            assert!(tagger(protocol).put_on(&mut frame, port(1)));
            let mut padded = plain(len);
            padded.resize(60, 0);
            let expected = Tag {
                port: 1,
                ..tag(Command::FromCpu)
            };
            assert_eq!(frame.bytes(), from_switch(protocol, &padded, expected));
        }
        for len in 0..14 {
            let mut frame = frame_of(&[0; 14][..len]);
            assert!(!tagger(protocol).put_on(&mut frame, port(1)));
            assert_eq!(frame.bytes().len(), len);
        }
    }
}

#[test]
fn an_answer_in_place_finds_room_for_its_tag_for_ever() {
    for protocol in PROTOCOLS {
        let forward = tag(Command::Forward { trunk: false });
        let bytes = from_switch(protocol, &plain(64), forward);
        let mut frame = frame_of(&bytes);
        let expected = Tag {
            command: Command::FromCpu,
            ..forward
        };
        for _ in 0..100 {
            frame.bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
            let source = tagger(protocol).take_off(&mut frame).unwrap();
            assert!(tagger(protocol).put_on(&mut frame, source.port));
            assert_eq!(frame.bytes(), from_switch(protocol, &plain(64), expected));
        }
        // Without room in front, nothing happens.
        let mut tagged = 0;
        while tagger(protocol).put_on(&mut frame, port(1)) {
            tagged += 1;
        }
        assert_eq!(tagged, HEADROOM / protocol.bytes());
    }
}

#[test]
fn any_bytes_are_taken_or_refused_as_the_model_reads_them() {
    let mut prng = Prng::new(0x7a65);
    let mut accepted = 0;
    for round in 0..200_000 {
        let protocol = PROTOCOLS[round % 2];
        let len = (prng.next_u64() % 40) as usize;
        let mut bytes = random(&mut prng, len);
        // Mostly near misses.
        if protocol == Protocol::EtherTypeDsa && len >= 14 && round % 16 != 0 {
            bytes[12..14].copy_from_slice(&[0xda, 0xda]);
        }
        let at = if protocol == Protocol::Dsa { 12 } else { 16 };
        if len > at && round % 3 != 0 {
            bytes[at] = bytes[at] & 0xe0 | DEVICE;
        }
        let mut frame = frame_pool(&bytes);
        let result = tagger(protocol).take_off(&mut frame);
        let long_enough = len >= at + 6;
        let announced = protocol == Protocol::Dsa || bytes.get(12..14) == Some(&[0xda, 0xda]);
        if !long_enough {
            assert_eq!(result, Err(Drop::Short));
        } else if !announced {
            assert_eq!(result, Err(Drop::Untagged));
        } else {
            let tag = Tag::parse(bytes[at..at + 4].try_into().unwrap());
            let good = match tag.command {
                Command::ToCpu { code } => matches!(code, 0 | 2..=5),
                Command::Forward { trunk } => !trunk,
                _ => false,
            };
            let good = good && tag.device == DEVICE && matches!(tag.port, 1 | 3);
            assert_eq!(result.is_ok(), good, "{tag:?}");
            if let Ok(source) = result {
                accepted += 1;
                assert_eq!(source.port.get(), tag.port);
                let mut expected = bytes[..12].to_vec();
                if tag.tagged {
                    expected.extend_from_slice(&[0x81, 0x00]);
                    expected.extend_from_slice(&tag.vlan.to_bytes());
                }
                expected.extend_from_slice(&bytes[at + 4..]);
                assert_eq!(frame.bytes(), expected);
            }
        }
        // And back on, whatever is left.
        let before = frame.bytes().to_vec();
        if !tagger(protocol).put_on(&mut frame, port(1)) {
            assert_eq!(frame.bytes(), before);
        }
        give_back(frame);
    }
    assert!(accepted > 1_000, "{accepted}");
}

// Buffers are never freed: the many frames of a test share one.

thread_local! {
    static POOL: std::cell::RefCell<Pool> = std::cell::RefCell::new(Pool::new(1));
}

fn frame_pool(bytes: &[u8]) -> Frame {
    let mut frame = POOL.with_borrow_mut(|pool| pool.take()).unwrap();
    fill(&mut frame, bytes);
    frame
}

fn give_back(frame: Frame) {
    POOL.with_borrow_mut(|pool| pool.put(frame));
}
