//! The pool of connections: bursts, newcomers, floods, ports used again.

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use smoltcp::wire::{IpAddress, Ipv4Address, TcpControl, TcpSeqNumber};

use crate::frames::{V4, V6, parse, segment, syn, tcp};
use crate::world::{SECOND_US, World};

const HELLO: &[u8] = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn resets(world: &mut World) -> usize {
    world
        .sent()
        .iter()
        .filter(|frame| parse(frame).is_some_and(|tcp| tcp.0 & 4 != 0))
        .count()
}

fn connected(world: &mut World, host: usize, sockets: &[SocketHandle]) -> usize {
    sockets
        .iter()
        .filter(|socket| world.hosts[host].tcp(**socket).state() == State::Established)
        .count()
}

#[test]
fn bursts_of_64_to_each_service_are_all_served() {
    for to in [IpAddress::Ipv4(V4), IpAddress::Ipv6(V6)] {
        let mut world = World::new(1);
        let sockets: Vec<_> = (0..128)
            .map(|i| world.hosts[0].connect(to, [7, 80][i % 2]))
            .collect();
        assert!(
            world.run(2 * SECOND_US, |world| connected(world, 0, &sockets) == 128),
            "{}",
            connected(&mut world, 0, &sockets)
        );
        // The model's ring is shorter than the burst: what it lost came again.
        assert_eq!(resets(&mut world), 0);
        assert_eq!(world.open(), 128);
        for (i, socket) in sockets.iter().enumerate() {
            world.hosts[0].say(*socket, [b"hello", HELLO][i % 2]);
        }
        let mut heard = vec![0; 128];
        assert!(world.run(10 * SECOND_US, |world| {
            for (heard, socket) in heard.iter_mut().zip(&sockets) {
                *heard += world.hosts[0].hear(*socket).len();
            }
            heard.iter().all(|heard| *heard > 0)
        }));
        for socket in &sockets {
            world.hosts[0].tcp(*socket).close();
        }
        assert!(world.run(30 * SECOND_US, |world| world.open() == 0));
        world.assert_rest();
    }
}

#[test]
fn a_newcomer_is_served_and_the_one_silent_for_longest_reset() {
    let mut world = World::new(2);
    let mut sockets = Vec::new();
    for i in 0..136 {
        sockets.push(world.hosts[0].connect(V4, if i % 3 == 0 { 80 } else { 7 }));
        world.run_for(20_000);
    }
    world.run_for(2 * SECOND_US);
    assert_eq!(connected(&mut world, 0, &sockets), 136);
    // Echo has more than its share: its silent ones go first, here number 1, since number 2 speaks.
    world.run_for(SECOND_US);
    world.hosts[0].say(sockets[2], b"still here");
    world.run_for(SECOND_US);
    let newcomer = world.hosts[1].connect(V4, 80);
    world.hosts[1].tcp(newcomer);
    assert!(world.run(2 * SECOND_US, |world| connected(world, 1, &[newcomer]) == 1));
    world.hosts[1].say(newcomer, HELLO);
    let mut heard = 0;
    assert!(world.run(SECOND_US, |world| {
        heard += world.hosts[1].hear(newcomer).len();
        heard > 0
    }));
    assert_eq!(world.hosts[0].tcp(sockets[1]).state(), State::Closed);
    assert_eq!(connected(&mut world, 0, &sockets), 135);
    assert_eq!(world.network.connections.counters.evicted, 1);
}

#[test]
fn a_burst_finds_places_among_silent_ones() {
    let mut world = World::new(2);
    let old: Vec<_> = (0..136).map(|_| world.hosts[0].connect(V4, 80)).collect();
    world.run_for(5 * SECOND_US);
    assert_eq!(connected(&mut world, 0, &old), 136);
    let new: Vec<_> = (0..64).map(|_| world.hosts[1].connect(V4, 80)).collect();
    assert!(world.run(2 * SECOND_US, |world| connected(world, 1, &new) == 64));
}

fn flood_syn(number: u32) -> Vec<u8> {
    let from = Ipv4Address::from(u32::from(Ipv4Address::new(10, 0, 0, 100)) + number % 100);
    tcp(from, V4, &syn(1024 + (number / 100) as u16, 80))
}

#[test]
fn a_flood_of_forged_syns_keeps_neither_old_nor_new_clients_out() {
    let mut world = World::new(2);
    let old: Vec<_> = (0..64).map(|_| world.hosts[0].connect(V4, 7)).collect();
    world.run_for(3 * SECOND_US);
    // 2,000 per second, for ten seconds; a client comes after five.
    let mut newcomer = None;
    let mut served_us = None;
    for number in 0..20_000 {
        world.inject(flood_syn(number));
        world.run_for(500);
        if number == 10_000 {
            newcomer = Some((world.hosts[1].connect(V4, 80), world.now_us));
        }
        if let Some((socket, since_us)) = newcomer
            && served_us.is_none()
            && connected(&mut world, 1, &[socket]) == 1
        {
            served_us = Some(world.now_us - since_us);
        }
    }
    assert!(
        served_us.is_some_and(|us| us < 2 * SECOND_US),
        "{served_us:?}"
    );
    let left = connected(&mut world, 0, &old);
    assert!(left >= 32, "{left} of 64 silent clients are left");
    world.run_for(40 * SECOND_US);
    let left = connected(&mut world, 0, &old);
    assert_eq!(world.open(), left + 1, "the flood has left nothing");
    world.run_for(100 * SECOND_US);
    assert_eq!(world.open(), left);
}

#[test]
fn syns_that_the_stack_refuses_evict_nobody() {
    let mut world = World::new(1);
    let old: Vec<_> = (0..136).map(|_| world.hosts[0].connect(V4, 7)).collect();
    world.run_for(3 * SECOND_US);
    let stranger = Ipv4Address::new(10, 0, 0, 200);
    let mut cases = Vec::new();
    let mut damaged = tcp(stranger, V4, &syn(5000, 80));
    damaged[50] ^= 1;
    cases.push(damaged);
    let mut damaged = tcp(stranger, V4, &syn(5001, 80));
    damaged[24] ^= 1;
    cases.push(damaged);
    let mut elsewhere = tcp(stranger, V4, &syn(5002, 80));
    elsewhere[5] ^= 1;
    cases.push(elsewhere);
    let mut everywhere = tcp(stranger, V4, &syn(5003, 80));
    everywhere[..6].fill(0xff);
    cases.push(everywhere);
    let mut cut = tcp(stranger, V4, &syn(5004, 80));
    cut.truncate(54);
    cases.push(cut);
    for from in [
        [127, 0, 0, 1],
        [240, 0, 0, 1],
        [224, 0, 0, 1],
        [255; 4],
        [0; 4],
        [10, 0, 0, 255],
        V4.octets(),
    ] {
        cases.push(tcp(Ipv4Address::from(from), V4, &syn(5005, 80)));
    }
    for frame in cases {
        world.sent();
        world.inject(frame.clone());
        world.run_for(SECOND_US);
        assert_eq!(connected(&mut world, 0, &old), 136, "{frame:02x?}");
        assert!(world.sent().is_empty(), "{frame:02x?}");
    }
    assert_eq!(world.network.connections.counters.evicted, 0);
}

#[test]
fn ports_are_used_again_at_once() {
    let mut world = World::new(0);
    let from = Ipv4Address::new(10, 0, 0, 77);
    world.inject(crate::frames::arp(
        smoltcp::wire::ArpOperation::Request,
        (crate::frames::STRANGER, from),
        ([0; 6], V4),
    ));
    let mut seq = 1000;
    for round in 0..20 {
        world.run_for(1000);
        world.sent();
        // The server closes first, and stays in TIME-WAIT.
        let step = |world: &mut World, repr: &smoltcp::wire::TcpRepr| {
            world.inject(tcp(from, V4, repr));
            world.run_for(1000);
            let sent = world.sent();
            sent.iter()
                .filter_map(|frame| parse(frame))
                .map(|(flags, seq, _, data)| (flags, seq, data.len()))
                .next_back()
        };
        let mut repr = syn(6000, 80);
        repr.seq_number = TcpSeqNumber(seq);
        let (flags, theirs, _) = step(&mut world, &repr).unwrap();
        assert_eq!(flags, 0x12, "round {round}: SYN and ACK");
        let mut next = segment(6000, 80);
        next.seq_number = TcpSeqNumber(seq + 1);
        next.ack_number = Some(TcpSeqNumber(theirs.wrapping_add(1) as i32));
        next.payload = b"GET /hello HTTP/1.0\r\n\r\n";
        next.control = TcpControl::Psh;
        let (flags, fin, len) = step(&mut world, &next).unwrap();
        assert_eq!(flags & 1, 1, "FIN");
        next.seq_number += next.payload.len();
        next.payload = &[];
        next.control = TcpControl::Fin;
        next.ack_number = Some(TcpSeqNumber(fin.wrapping_add(len as u32 + 1) as i32));
        step(&mut world, &next).unwrap();
        assert_eq!(world.open(), 1, "TIME-WAIT");
        seq = next.seq_number.0.wrapping_add(1000);
    }
    world.run_for(15 * SECOND_US);
    assert_eq!(world.open(), 0);
    assert_eq!(world.network.connections.counters.evicted, 0);
}

#[test]
fn many_connections_that_wait_for_one_neighbour_go_on_together() {
    let mut world = World::new(1);
    // The router knows us, we do not know it: all answers wait for one ARP exchange.
    let far =
        |number: u32| Ipv4Address::from(u32::from(Ipv4Address::new(198, 51, 100, 0)) + number);
    for number in 0..100 {
        world.inject(tcp(far(number), V4, &syn(5000, 80)));
    }
    world.run_for(2000);
    let sent = world.sent();
    assert!(
        sent.iter().all(|frame| frame[12..14] == [8, 6]),
        "{sent:02x?}"
    );
    assert_eq!(sent.len(), 1, "one question for all of them");
    world.inject(crate::frames::arp(
        smoltcp::wire::ArpOperation::Reply,
        (crate::frames::STRANGER, Ipv4Address::new(10, 0, 0, 1)),
        (crate::frames::MAC, V4),
    ));
    world.run_for(2000);
    let sent = world.sent();
    let accepted = sent.iter().filter_map(|frame| parse(frame));
    assert_eq!(accepted.filter(|tcp| tcp.0 == 0x12).count(), 100);
}

#[test]
fn strangers_that_never_answer_cost_little_and_go() {
    let mut world = World::new(1);
    for number in 0..100 {
        let from = Ipv4Address::from(u32::from(Ipv4Address::new(10, 0, 0, 100)) + number);
        world.inject(tcp(from, V4, &syn(5000, 7)));
        world.inject(crate::frames::udp(from, 5000, V4, 7, b"x"));
    }
    world.run_for(2000);
    let polls = world.polls;
    world.run_for(30 * SECOND_US);
    assert!(world.polls - polls < 400, "{}", world.polls - polls);
    assert_eq!(world.open(), 0);
    let asked = world
        .sent()
        .iter()
        .filter(|frame| frame[12..14] == [8, 6])
        .count();
    assert!(asked <= 32, "{asked} questions in 30 s");
    // And the next one is served.
    let socket = world.hosts[0].connect(V4, 7);
    assert!(world.run(2 * SECOND_US, |world| connected(world, 0, &[socket]) == 1));
    world.run_for(60 * SECOND_US);
    world.hosts[0].tcp(socket).close();
    world.run_for(20 * SECOND_US);
    world.assert_rest();
}
