//! Each frame that nobody gets has one reason, and the right one.

use control::drops::Reason;
use core::result::Result;
use smoltcp::wire::*;

use crate::frames::{
    self, PEER, PEER6, STRANGER, V4, V6, arp, ethernet, icmp6, ip, ping, ping6, segment, syn, tcp,
    udp,
};
use crate::hostile::acquainted;
use crate::world::{SECOND_US, World};

/// What became of one frame: `Ok` if somebody had use for it.
fn fate(world: &mut World, frame: &[u8]) -> Result<(), Reason> {
    let before = world.network.ports[0].counters.clone();
    world.inject(frame.to_vec());
    world.run_for(SECOND_US / 500);
    let port = &world.network.ports[0];
    assert!(port.books_balance(), "{:?}", port.counters);
    let dropped: Vec<_> = Reason::ALL
        .into_iter()
        .filter(|reason| port.counters.drops.get(*reason) != before.drops.get(*reason))
        .collect();
    let all = port.counters.taken() + port.counters.drops.sum();
    assert_eq!(all, before.taken() + before.drops.sum() + 1, "one frame");
    match dropped[..] {
        [] => Ok(()),
        [reason] => {
            let sample = world.network.pool.samples.get(reason).unwrap();
            assert_eq!(sample.bytes(), &frame[..frame.len().min(64)], "{reason:?}");
            assert_eq!(usize::from(sample.len), frame.len());
            assert_eq!((sample.interface, sample.at_us), (0, port_time(world)));
            Err(reason)
        }
        _ => panic!("{dropped:?}"),
    }
}

/// When the frame came in: 50 us after it was put on the wire.
fn port_time(world: &World) -> u64 {
    world.now_us - SECOND_US / 500 + 50
}

fn change(frame: &[u8], at: usize, value: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at] = value;
    frame
}

/// The same with its checksums right.
fn forge(frame: &[u8], at: usize, value: u8) -> Vec<u8> {
    let mut frame = change(frame, at, value);
    frames::repair(&mut frame);
    frame
}

fn to_all(mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].fill(0xff);
    frame
}

#[test]
fn each_frame_has_its_reason() {
    let broadcast = Ipv4Address::new(10, 0, 0, 255);
    let other = Ipv4Address::new(10, 0, 0, 9);
    let all_nodes = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let ask = |source, target| arp(ArpOperation::Request, source, ([0; 6], target));
    let small = udp(PEER, 5000, V4, 9999, b"nobody listens");
    let small6 = udp(PEER6, 5000, V6, 9999, b"nobody listens");
    let echo = ping(PEER, V4, b"hello, is it you?");
    let echo6 = ping6(PEER6, V6, b"hello, is it you?");
    let mut solicit = NdiscRepr::NeighborSolicit {
        target_addr: V6,
        lladdr: Some(EthernetAddress(STRANGER).into()),
    };
    let solicited = icmp6(PEER6, V6, &Icmpv6Repr::Ndisc(solicit));
    if let NdiscRepr::NeighborSolicit { target_addr, .. } = &mut solicit {
        *target_addr = Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, 9);
    }
    let other_solicited = icmp6(PEER6, V6, &Icmpv6Repr::Ndisc(solicit));
    let hops = |option: u8, to| {
        let mut body = vec![58, 0, option, 4, 0, 0, 0, 0];
        body.extend(&echo6[54..]);
        ip(PEER6.into(), to, IpProtocol::HopByHop, &body)
    };
    let mut long = udp(PEER, 5000, V4, 9999, &[0; 1472]);
    long.push(0);
    let reset = TcpRepr {
        control: TcpControl::Rst,
        ..segment(5000, 80)
    };
    let stray = TcpRepr {
        ack_number: Some(TcpSeqNumber(1)),
        ..segment(5000, 80)
    };
    let mut fragment = change(&small, 20, 0x20);
    frames::repair(&mut fragment);
    let igmp = |kind| {
        let group = Ipv4Address::new(224, 0, 0, 1);
        let body = [kind, 100, 0, 0, 0, 0, 0, 0];
        ip(PEER.into(), group.into(), IpProtocol::Igmp, &body)
    };
    let mut runt = echo.clone();
    runt.truncate(33);

    let mut world = acquainted();
    let cases: Vec<(&str, Vec<u8>, Result<(), Reason>)> = vec![
        // Served.
        ("ping", echo.clone(), Ok(())),
        ("ping over IPv6", echo6.clone(), Ok(())),
        ("UDP echo", udp(PEER, 5000, V4, 7, b"x"), Ok(())),
        ("UDP echo over IPv6", udp(PEER6, 5000, V6, 7, b""), Ok(())),
        ("discard", udp(PEER, 5000, V4, 9, b"x"), Ok(())),
        ("refused by ICMP", small.clone(), Ok(())),
        ("refused by a reset", tcp(PEER, V4, &syn(5000, 81)), Ok(())),
        ("reset for no connection", tcp(PEER, V4, &stray), Ok(())),
        ("unknown protocol", forge(&small, 23, 253), Ok(())),
        ("unknown next header", change(&small6, 20, 253), Ok(())),
        ("who has", ask((STRANGER, PEER), V4), Ok(())),
        (
            "somebody's probe",
            ask((STRANGER, [0; 4].into()), V4),
            Ok(()),
        ),
        ("solicitation", solicited.clone(), Ok(())),
        ("IGMP query", igmp(0x11), Ok(())),
        ("skipped option", hops(0x1e, V6.into()), Ok(())),
        ("option answered", hops(0x9e, V6.into()), Ok(())),
        ("padding", [&small[..], &[9; 30]].concat(), Ok(())),
        (
            "mDNS",
            udp(PEER, 5353, Ipv4Address::new(224, 0, 0, 251), 5353, b"x"),
            Ok(()),
        ),
        // Ahead of the stack.
        ("too long", long, Err(Reason::Oversize)),
        ("from a group", change(&small, 6, 1), Err(Reason::SourceMac)),
        (
            "another station",
            change(&echo, 5, 9),
            Err(Reason::OtherStation),
        ),
        (
            "from ourselves",
            udp(V4, 5000, V4, 9999, b"x"),
            Err(Reason::SourceAddress),
        ),
        (
            "from a broadcast",
            udp(broadcast, 5000, V4, 9, b"x"),
            Err(Reason::SourceAddress),
        ),
        (
            "from ::",
            ping6(Ipv6Address::UNSPECIFIED, V6, b"x"),
            Err(Reason::SourceAddress),
        ),
        (
            "TCP to all",
            to_all(tcp(PEER, broadcast, &syn(5000, 80))),
            Err(Reason::ToGroup),
        ),
        (
            "UDP to all nodes",
            udp(PEER6, 5000, all_nodes, 7, b"x"),
            Err(Reason::ToGroup),
        ),
        ("guarded", udp(PEER, 19, V4, 7, b"x"), Err(Reason::UdpGuard)),
        (
            "guarded, IPv6",
            udp(PEER6, 7, V6, 7, b"x"),
            Err(Reason::UdpGuard),
        ),
        (
            "echo of all",
            to_all(udp(PEER, 5000, broadcast, 7, b"x")),
            Err(Reason::UdpGuard),
        ),
        (
            "guarded irtt",
            udp(PEER, 7, V4, 2112, b"x"),
            Err(Reason::UdpGuard),
        ),
        // In the stack.
        (
            "EtherType",
            ethernet(EthernetProtocol::Unknown(0x88b5), &[0; 46]),
            Err(Reason::EtherType),
        ),
        (
            "ARP cut",
            ask((STRANGER, PEER), V4)[..41].to_vec(),
            Err(Reason::Arp),
        ),
        (
            "ARP of another kind",
            change(&ask((STRANGER, PEER), V4), 15, 2),
            Err(Reason::Arp),
        ),
        (
            "ARP operation",
            change(&ask((STRANGER, PEER), V4), 21, 9),
            Err(Reason::Arp),
        ),
        (
            "ARP from elsewhere",
            ask((STRANGER, [10, 1, 0, 1].into()), V4),
            Err(Reason::Arp),
        ),
        (
            "ARP for another",
            ask((STRANGER, PEER), other),
            Err(Reason::ArpNotOurs),
        ),
        ("IPv4 cut", runt, Err(Reason::Ipv4Malformed)),
        (
            "IPv4 version",
            forge(&echo, 14, 0x55),
            Err(Reason::Ipv4Malformed),
        ),
        (
            "IPv4 header length",
            change(&echo, 14, 0x44),
            Err(Reason::Ipv4Malformed),
        ),
        (
            "IPv4 total length",
            change(&echo, 17, 200),
            Err(Reason::Ipv4Malformed),
        ),
        (
            "IPv4 checksum",
            change(&echo, 24, !echo[24]),
            Err(Reason::Ipv4Checksum),
        ),
        ("fragment", fragment, Err(Reason::Fragment)),
        (
            "fragment over IPv6",
            change(&small6, 20, 44),
            Err(Reason::Fragment),
        ),
        (
            "another address",
            ping(PEER, other, b"x"),
            Err(Reason::Address),
        ),
        (
            "another group",
            ping(PEER, [224, 1, 1, 1].into(), b"x"),
            Err(Reason::Address),
        ),
        (
            "IPv6 version",
            change(&echo6, 14, 0x50),
            Err(Reason::Ipv6Malformed),
        ),
        (
            "IPv6 length",
            change(&echo6, 19, 200),
            Err(Reason::Ipv6Malformed),
        ),
        ("IPv6 cut", echo6[..50].to_vec(), Err(Reason::Ipv6Malformed)),
        (
            "option to discard",
            hops(0x5e, V6.into()),
            Err(Reason::Ipv6Option),
        ),
        (
            "option of a wrong length",
            hops(5, V6.into()),
            Err(Reason::Ipv6Malformed),
        ),
        (
            "answered to no group",
            hops(0xde, all_nodes.into()),
            Err(Reason::Ipv6Option),
        ),
        (
            "ICMP checksum",
            change(&echo, 44, 0),
            Err(Reason::IcmpChecksum),
        ),
        ("ICMP cut", forge(&echo, 17, 27), Err(Reason::Icmp)),
        ("ICMP reply", forge(&echo, 34, 0), Err(Reason::IcmpUnwanted)),
        (
            "ping to a group",
            ping(PEER, [224, 0, 0, 1].into(), b"x"),
            Err(Reason::ToGroup),
        ),
        (
            "ICMPv6 checksum",
            change(&echo6, 64, 0),
            Err(Reason::IcmpChecksum),
        ),
        (
            "ICMPv6 reply",
            forge(&echo6, 54, 129),
            Err(Reason::IcmpUnwanted),
        ),
        ("IGMP report", igmp(0x16), Err(Reason::IcmpUnwanted)),
        ("IGMP kind", igmp(0x99), Err(Reason::Icmp)),
        (
            "solicitation for another",
            other_solicited,
            Err(Reason::NeighbourNotOurs),
        ),
        (
            "solicitation from afar",
            change(&solicited, 21, 254),
            Err(Reason::HopLimit),
        ),
        (
            "solicitation cut short",
            forge(&solicited, 79, 9),
            Err(Reason::Icmp),
        ),
        ("UDP length", forge(&small, 39, 99), Err(Reason::Udp)),
        ("UDP port 0", udp(PEER, 5000, V4, 0, b"x"), Err(Reason::Udp)),
        (
            "UDP checksum",
            change(&small, 44, 0),
            Err(Reason::UdpChecksum),
        ),
        (
            "UDP checksum, IPv6",
            change(&small6, 64, 0),
            Err(Reason::UdpChecksum),
        ),
        (
            "UDP to all",
            to_all(udp(PEER, 5000, broadcast, 9999, b"x")),
            Err(Reason::UdpPort),
        ),
        (
            "protocol to all",
            to_all(forge(
                &udp(PEER, 5000, broadcast, 9, b"some protocol"),
                23,
                253,
            )),
            Err(Reason::ToGroup),
        ),
        (
            "TCP flags",
            forge(&tcp(PEER, V4, &syn(5000, 80)), 47, 7),
            Err(Reason::Tcp),
        ),
        (
            "TCP options",
            forge(&tcp(PEER, V4, &syn(5000, 80)), 55, 9),
            Err(Reason::Tcp),
        ),
        (
            "TCP checksum",
            change(&tcp(PEER, V4, &syn(5000, 81)), 50, 9),
            Err(Reason::TcpChecksum),
        ),
        (
            "reset of nothing",
            tcp(PEER, V4, &reset),
            Err(Reason::TcpReset),
        ),
        // Answers that find no way.
        (
            "from afar",
            ping6(Ipv6Address::new(0x2001, 0, 0, 0, 0, 0, 0, 1), V6, b"x"),
            Err(Reason::NoWayBack),
        ),
        (
            "from a stranger",
            ping(Ipv4Address::new(10, 0, 0, 99), V4, b"x"),
            Err(Reason::NoWayBack),
        ),
        (
            "again",
            ping(Ipv4Address::new(10, 0, 0, 98), V4, b"x"),
            Err(Reason::NoWayBack),
        ),
    ];
    for (what, frame, expected) in &cases {
        assert_eq!(fate(&mut world, frame), *expected, "{what}: {frame:02x?}");
    }
    // The driver's own reasons are the drivers' tests' business.
    let above = Reason::ALL.into_iter().skip(Reason::OtherStation as usize);
    let untested: Vec<_> = above
        .filter(|reason| cases.iter().all(|(.., expected)| *expected != Err(*reason)))
        .collect();
    use Reason::{SocketFull, StackUnknown, TableFull, TcpUnexpected};
    assert_eq!(
        untested,
        [SocketFull, TcpUnexpected, TableFull, StackUnknown]
    );
}

#[test]
fn segments_of_a_connection_are_judged_by_what_they_change() {
    let mut world = acquainted();
    world.inject(tcp(PEER, V4, &syn(5000, 7)));
    world.run_for(SECOND_US / 500);
    let (flags, ours, acked, _) = world
        .sent()
        .iter()
        .find_map(|frame| frames::parse(frame).map(|(a, b, c, d)| (a, b, c, d.len())))
        .unwrap();
    assert_eq!((flags, acked), (18, 1001));
    let next = |payload| TcpRepr {
        seq_number: TcpSeqNumber(1001),
        ack_number: Some(TcpSeqNumber(ours as i32 + 1)),
        payload,
        ..segment(5000, 7)
    };
    let ack = tcp(PEER, V4, &next(b""));
    assert_eq!(fate(&mut world, &ack), Ok(()), "the handshake's last");
    assert_eq!(fate(&mut world, &ack), Ok(()), "once more");
    let data = next(b"hello");
    let damaged = change(&tcp(PEER, V4, &data), 56, 0);
    assert_eq!(fate(&mut world, &damaged), Err(Reason::TcpChecksum));
    let stray = change(&tcp(PEER, V4, &data), 5, 9);
    assert_eq!(fate(&mut world, &stray), Err(Reason::OtherStation));
    let early = TcpRepr {
        control: TcpControl::Rst,
        seq_number: TcpSeqNumber(70_000),
        ..next(b"")
    };
    let frame = tcp(PEER, V4, &early);
    assert_eq!(fate(&mut world, &frame), Err(Reason::TcpUnexpected));
    let silent = TcpRepr {
        ack_number: None,
        ..data
    };
    let frame = tcp(PEER, V4, &silent);
    assert_eq!(fate(&mut world, &frame), Err(Reason::TcpUnexpected));
    assert_eq!(fate(&mut world, &tcp(PEER, V4, &data)), Ok(()));
    assert_eq!(
        fate(&mut world, &tcp(PEER, V4, &data)),
        Ok(()),
        "acknowledged again"
    );
    let reset = TcpRepr {
        control: TcpControl::Rst,
        seq_number: TcpSeqNumber(1006),
        ..next(b"")
    };
    assert_eq!(fate(&mut world, &tcp(PEER, V4, &reset)), Ok(()));
    assert_eq!(
        fate(&mut world, &tcp(PEER, V4, &reset)),
        Err(Reason::TcpReset)
    );
}

#[test]
fn a_full_table_is_a_reason() {
    let mut world = acquainted();
    let mut refused = 0;
    for port in 0..200 {
        match fate(&mut world, &tcp(PEER, V4, &syn(6000 + port, 80))) {
            Ok(()) => {}
            Err(Reason::TableFull) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    let counted = world.network.connections.counters.refused;
    assert_eq!(refused, counted);
}

#[test]
fn a_full_socket_is_a_reason() {
    let mut world = acquainted();
    // Answers that wait for their neighbour fill the service's queues, first its way out, then its way in.
    let mut full = 0;
    for from in 0..100 {
        let stranger = Ipv4Address::new(10, 0, 0, 100 + from);
        match fate(&mut world, &udp(stranger, 5000, V4, 7, &[1; 600])) {
            Ok(()) => assert_eq!(full, 0),
            Err(Reason::SocketFull) => full += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!((50..90).contains(&full), "{full}");
}
