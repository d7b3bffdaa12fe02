//! What no decent client sends.

use std::panic::{AssertUnwindSafe, catch_unwind};

use smoltcp::wire::*;

use crate::frames::{
    self, PEER, PEER6, STRANGER, V4, V6, arp, corpus, icmp6, parse, ping, ping6, repair, segment,
    syn, tcp, udp,
};
use crate::world::{Rng, SECOND_US, World};

/// A network that knows the way to PEER and PEER6, and what it answers to one frame within a second.
pub fn acquainted() -> World {
    let mut world = World::new(0);
    world.inject(arp(ArpOperation::Request, (STRANGER, PEER), ([0; 6], V4)));
    let solicit = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
        target_addr: V6,
        lladdr: Some(EthernetAddress(STRANGER).into()),
    });
    world.inject(icmp6(PEER6, V6, &solicit));
    // Something that makes the fast path know the peer.
    world.inject(udp(PEER, 5000, V4, 7, b"hello"));
    world.run_for(SECOND_US);
    world.sent();
    world
}

fn answers(world: &mut World, frame: Vec<u8>) -> Vec<Vec<u8>> {
    world.sent();
    world.inject(frame);
    world.run_for(SECOND_US);
    world.sent()
}

#[test]
fn echoes_cannot_loop() {
    let mut world = acquainted();
    assert_eq!(answers(&mut world, udp(PEER, 5000, V4, 7, b"x")).len(), 1);
    assert_eq!(answers(&mut world, udp(PEER6, 5000, V6, 7, b"x")).len(), 1);
    for port in [0, 7, 9, 13, 17, 19, 37, 67, 68, 5353] {
        assert!(
            answers(&mut world, udp(PEER, port, V4, 7, b"x")).is_empty(),
            "{port}"
        );
        assert!(
            answers(&mut world, udp(PEER6, port, V6, 7, b"x")).is_empty(),
            "{port}"
        );
    }
    let groups = [
        [255; 4],
        [10, 0, 0, 255],
        [224, 0, 0, 1],
        [224, 0, 0, 251],
        [10, 0, 0, 3],
    ];
    for to in groups.map(Ipv4Address::from) {
        assert!(
            answers(&mut world, udp(PEER, 5000, to, 7, b"x")).is_empty(),
            "{to}"
        );
        let mut frame = udp(PEER, 5000, to, 7, b"x");
        frame[..6].fill(0xff);
        assert!(answers(&mut world, frame).is_empty(), "{to}");
    }
    // To our address, but to everybody's MAC.
    let mut frame = udp(PEER, 5000, V4, 7, b"x");
    frame[..6].fill(0xff);
    assert!(answers(&mut world, frame).is_empty());
    for to in ["ff02::1", "ff02::fb", "::1", "fd00::99"] {
        let to: Ipv6Address = to.parse().unwrap();
        for port in [7, 9999] {
            let mut frame = udp(PEER6, 5000, to, port, b"x");
            assert!(answers(&mut world, frame.clone()).is_empty(), "{to}");
            frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
            assert!(answers(&mut world, frame).is_empty(), "{to} {port}");
        }
    }
    for from in [
        [127, 0, 0, 1],
        [0; 4],
        [255; 4],
        [10, 0, 0, 255],
        [224, 0, 0, 9],
        [240, 1, 2, 3],
        [0, 1, 2, 3],
        V4.octets(),
    ] {
        let from = Ipv4Address::from(from);
        assert!(
            answers(&mut world, udp(from, 5000, V4, 7, b"x")).is_empty(),
            "{from}"
        );
        assert!(
            answers(&mut world, udp(from, 5000, V4, 9999, b"x")).is_empty(),
            "{from}"
        );
        assert!(
            answers(&mut world, ping(from, V4, b"x")).is_empty(),
            "{from}"
        );
        assert!(
            answers(&mut world, tcp(from, V4, &syn(5000, 7))).is_empty(),
            "{from}"
        );
        assert!(
            answers(&mut world, tcp(from, V4, &syn(5000, 8))).is_empty(),
            "{from}"
        );
    }
    for from in [
        Ipv6Address::LOCALHOST,
        Ipv6Address::UNSPECIFIED,
        V6,
        "ff02::1".parse().unwrap(),
    ] {
        assert!(
            answers(&mut world, udp(from, 5000, V6, 7, b"x")).is_empty(),
            "{from}"
        );
        assert!(
            answers(&mut world, ping6(from, V6, b"x")).is_empty(),
            "{from}"
        );
        assert!(
            answers(&mut world, tcp(from, V6, &syn(5000, 7))).is_empty(),
            "{from}"
        );
    }
    // And an honest client is still served.
    assert_eq!(answers(&mut world, udp(PEER, 5000, V4, 7, b"x")).len(), 1);
    assert_eq!(answers(&mut world, ping(PEER, V4, b"x")).len(), 1);
    assert_eq!(answers(&mut world, ping6(PEER6, V6, b"x")).len(), 1);
    assert_eq!(world.open(), 0);
    world.assert_rest();
}

#[test]
fn tcp_to_groups_is_not_answered_and_to_closed_ports_is_reset() {
    let mut world = acquainted();
    for to in [[255; 4], [10, 0, 0, 255], [224, 0, 0, 1], [224, 0, 0, 251]].map(Ipv4Address::from) {
        for port in [7, 80, 81] {
            assert!(
                answers(&mut world, tcp(PEER, to, &syn(5000, port))).is_empty(),
                "{to}:{port}"
            );
        }
    }
    let sent = answers(&mut world, tcp(PEER, V4, &syn(5000, 81)));
    assert_eq!(
        parse(&sent[0]).map(|tcp| (tcp.0, tcp.2)),
        Some((0x14, 1001))
    );
    let mut stray = segment(5000, 80);
    stray.ack_number = Some(TcpSeqNumber(77));
    let sent = answers(&mut world, tcp(PEER, V4, &stray));
    assert_eq!(parse(&sent[0]).map(|tcp| (tcp.0 & 4, tcp.1)), Some((4, 77)));
    let mut reset = stray;
    reset.control = TcpControl::Rst;
    assert!(answers(&mut world, tcp(PEER, V4, &reset)).is_empty());
}

#[test]
fn frames_longer_than_they_may_be_are_dropped() {
    for payload in [1473, 1480, 1600, 1900] {
        let data = vec![0x55; payload];
        let mut world = acquainted();
        assert!(answers(&mut world, ping(PEER, V4, &data)).is_empty());
        assert!(answers(&mut world, ping6(PEER6, V6, &data)).is_empty());
        assert!(answers(&mut world, udp(PEER, 5000, V4, 7, &data)).is_empty());
        assert!(answers(&mut world, udp(PEER6, 5000, V6, 7, &data)).is_empty());
    }
}

#[test]
fn frames_that_lie_about_their_lengths_do_no_harm() {
    let mut world = acquainted();
    let honest = [
        udp(PEER, 5000, V4, 7, b"0123456789"),
        tcp(PEER, V4, &syn(5000, 7)),
        ping(PEER, V4, b"0123456789"),
        udp(PEER6, 5000, V6, 7, b"0123456789"),
        tcp(PEER6, V6, &syn(5000, 7)),
        arp(ArpOperation::Request, (STRANGER, PEER), ([0; 6], V4)),
    ];
    for frame in &honest {
        for len in 0..frame.len() {
            if len >= 14 {
                world.inject(frame[..len].to_vec());
            }
        }
        for at in 14..frame.len().min(60) {
            for value in [0, 1, 0x0f, 0x40, 0x45, 0x4f, 0x60, 0x80, 0xff] {
                let mut frame = frame.clone();
                frame[at] = value;
                world.inject(frame);
            }
        }
        world.run_for(SECOND_US);
    }
    // VLAN tags and padding.
    let mut tagged = honest[0].clone();
    tagged.splice(12..12, [0x81, 0, 0, 1]);
    assert!(answers(&mut world, tagged).is_empty());
    let mut padded = udp(PEER, 5000, V4, 7, b"");
    padded.resize(60, 0xee);
    assert_eq!(answers(&mut world, padded)[0].len(), 42);
    world.run_for(120 * SECOND_US);
    assert_eq!(world.open(), 0);
    world.assert_rest();
}

#[test]
fn a_full_transmit_ring_stops_nothing_for_good() {
    let mut world = World::new(1);
    let socket = world.hosts[0].connect(V4, 7);
    world.run_for(SECOND_US);
    world.hosts[0].say(socket, &[5; 30_000]);
    world.card().stuck = true;
    for number in 0..200 {
        world.inject(ping(PEER, V4, &[number as u8; 1000]));
        world.inject(udp(PEER6, 5000, V6, 7, &[number as u8; 1000]));
        world.inject(tcp(PEER, V4, &syn(5000 + number, 81)));
        world.inject(arp(ArpOperation::Request, (STRANGER, PEER), ([0; 6], V4)));
    }
    // A cable that takes nothing for a while costs little.
    world.run_for(SECOND_US);
    let polls = world.polls;
    world.run_for(10 * SECOND_US);
    assert!(
        world.polls - polls < 200,
        "{} polls against a full ring",
        world.polls - polls
    );
    world.card().stuck = false;
    let mut heard = 0;
    assert!(
        world.run(20 * SECOND_US, |world| {
            heard += world.hosts[0].hear(socket).len();
            heard == 30_000
        }),
        "{heard}"
    );
    world.assert_rest();
}

#[test]
fn a_link_that_comes_and_goes_keeps_its_connections() {
    let mut world = World::new(1);
    let socket = world.hosts[0].connect(V4, 7);
    world.run_for(SECOND_US);
    for round in 0..5 {
        world.card().change_link(false);
        world.faults.loss_percent = 100;
        world.hosts[0].say(socket, b"hello");
        world.run_for(3 * SECOND_US);
        world.card().change_link(true);
        world.faults.loss_percent = 0;
        let mut heard = 0;
        let done = world.run(100 * SECOND_US, |world| {
            heard += world.hosts[0].hear(socket).len();
            heard == 5
        });
        assert!(done, "round {round}: {heard}");
    }
    world.card().change_link(false);
    world.faults.loss_percent = 100;
    world.run_for(30 * SECOND_US);
    let polls = world.polls;
    world.run_for(60 * SECOND_US);
    assert!(
        world.polls - polls < 30,
        "{} polls without a link",
        world.polls - polls
    );
}

#[test]
fn resets_in_every_state_free_the_place() {
    for steps in 0..4 {
        let mut world = acquainted();
        let mut repr = syn(5000, 7);
        let sent = answers(&mut world, tcp(PEER, V4, &repr));
        let (flags, theirs, ..) = parse(&sent[0]).unwrap();
        assert_eq!(flags, 0x12);
        repr = segment(5000, 7);
        repr.seq_number = TcpSeqNumber(1001);
        repr.ack_number = Some(TcpSeqNumber(theirs.wrapping_add(1) as i32));
        if steps > 0 {
            answers(&mut world, tcp(PEER, V4, &repr));
        }
        if steps > 1 {
            repr.payload = b"abc";
            let sent = answers(&mut world, tcp(PEER, V4, &repr));
            assert!(sent.iter().any(|frame| parse(frame).unwrap().3 == b"abc"));
            repr.seq_number += 3;
            repr.payload = &[];
        }
        if steps > 2 {
            repr.control = TcpControl::Fin;
            answers(&mut world, tcp(PEER, V4, &repr));
            repr.seq_number += 1;
        }
        assert_eq!(world.open(), 1);
        repr.control = TcpControl::Rst;
        answers(&mut world, tcp(PEER, V4, &repr));
        assert_eq!(world.open(), 0, "after {steps} steps");
        world.assert_rest();
    }
}

#[test]
fn sequence_numbers_wrap_and_data_may_come_with_the_syn() {
    let mut world = acquainted();
    let mut repr = syn(5000, 7);
    repr.seq_number = TcpSeqNumber(-3); // 0xffff_fffd
    repr.payload = b"early";
    let sent = answers(&mut world, tcp(PEER, V4, &repr));
    let (flags, theirs, ack, _) = parse(&sent[0]).unwrap();
    assert_eq!(
        (flags, ack),
        (0x12, 0xffff_fffe),
        "data with the SYN is not taken, and may come again"
    );
    let mut repr = segment(5000, 7);
    repr.seq_number = TcpSeqNumber(-2);
    repr.ack_number = Some(TcpSeqNumber(theirs.wrapping_add(1) as i32));
    repr.payload = b"early";
    for _ in 0..3 {
        // The same segment three times is one.
        let sent = answers(&mut world, tcp(PEER, V4, &repr));
        let echoed: Vec<_> = sent.iter().filter_map(|frame| parse(frame)).collect();
        assert!(echoed.iter().all(|tcp| tcp.2 == 3), "{echoed:x?}");
        assert!(
            echoed
                .iter()
                .all(|tcp| tcp.3.is_empty() || tcp.3 == b"early")
        );
    }
}

#[test]
fn queries_for_groups_are_answered_though_nothing_else_happens() {
    let mut world = acquainted();
    // IGMPv2, general, 10 s: 224.0.0.251 must be reported.
    let mut igmp = [0x11, 100, 0, 0, 0, 0, 0, 0];
    let checksum = !hal::net::checksum::fold(hal::net::checksum::sum(&igmp));
    igmp[2..4].copy_from_slice(&checksum.to_ne_bytes());
    let mut frame = frames::ip(
        PEER.into(),
        Ipv4Address::new(224, 0, 0, 1).into(),
        IpProtocol::Igmp,
        &igmp,
    );
    frame[..6].copy_from_slice(&[1, 0, 0x5e, 0, 0, 1]);
    world.inject(frame);
    world.run_for(12 * SECOND_US);
    let sent = world.sent();
    assert!(
        sent.iter().any(|frame| frame[12..14] == [8, 0]
            && frame[23] == 2
            && frame[30..34] == [224, 0, 0, 251]),
        "{sent:02x?}"
    );
    world.assert_rest();
}

fn storm(seed: u64, count: usize) {
    let corpus = corpus();
    let mut rng = Rng(seed);
    let mut world = acquainted();
    for _ in 0..count {
        let mut frame = corpus[rng.bits() as usize % corpus.len()].clone();
        for _ in 0..rng.bits() % 4 {
            let at = rng.bits() as usize % frame.len();
            match rng.bits() % 6 {
                0 => frame[at] ^= 1 << (rng.bits() % 8),
                1 => frame[at] = rng.bits() as u8,
                2 => frame[at] = [0, 1, 127, 128, 255][rng.bits() as usize % 5],
                3 => frame.truncate(at.max(14)),
                4 => {
                    let more = rng.bits() as usize % 1900;
                    frame.resize((frame.len() + more).min(1982), rng.bits() as u8);
                }
                _ => {
                    let piece = rng.bits().to_be_bytes();
                    let end = (at + 8).min(frame.len());
                    frame[at..end].copy_from_slice(&piece[..end - at]);
                }
            }
        }
        if rng.percent(70) {
            repair(&mut frame);
        }
        if rng.percent(1) {
            let stuck = !world.card().stuck;
            world.card().stuck = stuck;
        }
        world.inject(frame);
        world.run_for(rng.bits() % 200 * (1 + 1000 * (rng.bits() % 50 / 49)));
    }
    world.card().stuck = false;
    world.run_for(200 * SECOND_US);
    assert_eq!(world.open(), 0);
    world.assert_rest();
}

#[test]
fn damaged_frames_of_every_kind() {
    for seed in 0..20 {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| storm(seed, 3_000))) {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
