//! The echo service, over both protocols and both families, on good wires and bad ones.

use smoltcp::socket::tcp::State;
use smoltcp::wire::IpAddress;

use crate::frames::{V4, V6};
use crate::world::{Faults, Rng, SECOND_US, World};

const BOTH: [IpAddress; 2] = [IpAddress::Ipv4(V4), IpAddress::Ipv6(V6)];

#[test]
fn udp_of_every_size_comes_back() {
    let mut world = World::new(1);
    let socket = world.hosts[0].udp();
    let payload: Vec<u8> = (0..1472).map(|i| (i * 7 + i / 256) as u8).collect();
    for (to, largest) in [(BOTH[0], 1472), (BOTH[1], 1452)] {
        for len in (0..70).chain([500, 1000, 1400, 1451, 1452, 1471, 1472]) {
            if len > largest {
                continue;
            }
            let host = &mut world.hosts[0];
            let udp = host.sockets.get_mut::<smoltcp::socket::udp::Socket>(socket);
            udp.send_slice(&payload[..len], (to, 7)).unwrap();
            let mut came = None;
            world.run(2 * SECOND_US, |world| {
                let udp = world.hosts[0]
                    .sockets
                    .get_mut::<smoltcp::socket::udp::Socket>(socket);
                if let Ok((data, from)) = udp.recv() {
                    assert_eq!((from.endpoint.addr, from.endpoint.port), (to, 7));
                    came = Some(data.to_vec());
                }
                came.is_some()
            });
            assert_eq!(came.as_deref(), Some(&payload[..len]), "{to} {len}");
        }
    }
    let counters = &world.network.ports[0].counters;
    assert!(counters.udp_echoes > 70, "the fast path was taken");
    assert!(counters.udp_echoes_slow > 70, "and the slow one");
    world.assert_rest();
}

/// A flow that the fast path has forgotten sends the first datagram of a burst through the stack, and only the first: the
/// stack's queue is shorter than a burst.
#[test]
fn a_burst_after_a_long_silence_loses_nothing() {
    const BURST: usize = 40;
    let mut world = World::new(1);
    let socket = world.hosts[0].udp();
    for (round, silence_s) in [(0, 0), (1, 31), (2, 45)] {
        world.run(silence_s * SECOND_US, |_| false);
        let mut came = 0;
        // Somebody has to ask for the neighbour first, as hosts do; the client's own queue holds less than a burst.
        let mut sent = 0;
        let done = world.run(5 * SECOND_US, |world| {
            let host = &mut world.hosts[0];
            let udp = host.sockets.get_mut::<smoltcp::socket::udp::Socket>(socket);
            while sent < BURST && udp.can_send() {
                udp.send_slice(&[sent as u8; 1400], (BOTH[0], 7)).unwrap();
                sent += 1;
            }
            while udp.recv().is_ok() {
                came += 1;
            }
            came == BURST
        });
        assert!(done, "round {round}: {came} of {sent} came back");
    }
    world.assert_rest();
}

/// Sends `len` bytes through TCP echo and compares what comes back; then the client closes its half.
fn round_trip(world: &mut World, to: IpAddress, len: usize, limit_s: u64) {
    let socket = world.hosts[0].connect(to, 7);
    let (mut out, mut back) = (Rng(3), Rng(3));
    let (mut sent, mut received, mut closed) = (0, 0, false);
    let done = world.run(limit_s * SECOND_US, |world| {
        let host = &mut world.hosts[0];
        let tcp = host.tcp(socket);
        while tcp.can_send() && sent < len {
            let n = tcp
                .send(|room| {
                    let n = room.len().min(len - sent);
                    room[..n].fill_with(|| out.bits() as u8);
                    (n, n)
                })
                .unwrap();
            sent += n;
        }
        if sent == len && !closed {
            // Half-closed: all must come back all the same.
            tcp.close();
            closed = true;
        }
        for byte in host.hear(socket) {
            assert_eq!(byte, back.bits() as u8, "at {received}");
            received += 1;
        }
        closed
            && received == len
            && !matches!(
                host.tcp(socket).state(),
                State::FinWait1 | State::FinWait2 | State::Closing
            )
    });
    assert!(
        done,
        "{received} of {len} came back; {sent} sent; {:?}",
        world.hosts[0].tcp(socket).state()
    );
    assert!(
        world.run(30 * SECOND_US, |world| world.open() == 0),
        "the place is free again"
    );
}

#[test]
fn tcp_echo_on_a_good_wire() {
    for to in BOTH {
        let mut world = World::new(1);
        for len in [0, 1, 8191, 8192, 8193, 1 << 20] {
            round_trip(&mut world, to, len, 60);
        }
        world.assert_rest();
    }
}

#[test]
fn tcp_echo_of_8_mib_with_loss_copies_and_reordering() {
    for to in BOTH {
        let mut world = World::new(1);
        world.faults = Faults {
            loss_percent: 5,
            copy_percent: 3,
            late_percent: 10,
        };
        round_trip(&mut world, to, 8 << 20, 20_000);
        world.faults = Faults::default();
        world.assert_rest();
    }
}

#[test]
fn half_closing_with_loss_is_never_answered_by_a_reset() {
    for seed in 0..40 {
        let mut world = World::new(1);
        world.rng = Rng(seed);
        // A client that has been silent for long, then says goodbye.
        let socket = world.hosts[0].connect(V4, 7);
        assert!(world.run(200 * SECOND_US, |world| {
            world.hosts[0].tcp(socket).may_send()
        }));
        world.hosts[0].say(socket, b"x");
        let mut heard = 0;
        assert!(world.run(200 * SECOND_US, |world| {
            heard += world.hosts[0].hear(socket).len();
            heard == 1
        }));
        world.run_for(100 * SECOND_US);
        world.faults.loss_percent = 30;
        world.hosts[0].tcp(socket).close();
        let resets = |world: &mut World| {
            world
                .sent()
                .iter()
                .filter(|frame| crate::frames::parse(frame).is_some_and(|tcp| tcp.0 & 4 != 0))
                .count()
        };
        world.sent();
        let done = world.run(100 * SECOND_US, |world| {
            matches!(
                world.hosts[0].tcp(socket).state(),
                State::TimeWait | State::Closed
            )
        });
        assert!(
            done,
            "seed {seed}: {:?}",
            world.hosts[0].tcp(socket).state()
        );
        assert_eq!(resets(&mut world), 0, "seed {seed}");
    }
}

#[test]
fn a_slow_reader_gets_everything_in_its_own_time() {
    let mut world = World::new(1);
    let socket = world.hosts[0].connect_with(V4, 7, 2048);
    let len = 40_000;
    let data: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
    let (mut sent, mut received) = (0, Vec::new());
    let mut next_read_us = world.now_us;
    // 1 KiB per second: 40 s, with its own half closed long before.
    let mut read = |world: &mut World| {
        let now_us = world.now_us;
        let tcp = world.hosts[0].tcp(socket);
        if sent < len && tcp.can_send() {
            sent += tcp.send_slice(&data[sent..]).unwrap();
        } else if sent == len && tcp.may_send() {
            tcp.close();
        }
        if now_us >= next_read_us {
            next_read_us = now_us + SECOND_US;
            let mut piece = [0; 1024];
            if let Ok(n) = tcp.recv_slice(&mut piece) {
                received.extend_from_slice(&piece[..n]);
            }
        }
        received.len() == len
    };
    for _ in 0..600 {
        if world.run(SECOND_US / 4, &mut read) {
            break;
        }
    }
    assert_eq!(received.len(), len);
    assert_eq!(received, data);
    world.run_for(30 * SECOND_US);
    assert_eq!(world.open(), 0);
}

#[test]
fn a_closed_window_opens_again() {
    let mut world = World::new(1);
    let socket = world.hosts[0].connect_with(V4, 7, 1024);
    let data = [7; 20_000];
    let mut sent = 0;
    world.run(5 * SECOND_US, |world| {
        let tcp = world.hosts[0].tcp(socket);
        if tcp.can_send() && sent < data.len() {
            sent += tcp.send_slice(&data[sent..]).unwrap();
        }
        false
    });
    // Nobody reads for a while; all windows are closed, and nobody spins.
    let polls = world.polls;
    world.run_for(30 * SECOND_US);
    assert!(world.polls - polls < 200, "{}", world.polls - polls);
    let mut received = 0;
    assert!(
        world.run(300 * SECOND_US, |world| {
            received += world.hosts[0].hear(socket).len();
            received == data.len()
        }),
        "{received}"
    );
}

#[test]
fn peers_that_vanish_do_not_keep_their_places() {
    let mut world = World::new(2);
    let silent = world.hosts[0].connect(V4, 7);
    let busy = world.hosts[0].connect_with(V4, 7, 1024);
    let web = world.hosts[0].connect(V4, 80);
    world.run_for(SECOND_US);
    assert_eq!(world.open(), 3);
    world.hosts[0].say(busy, &[1; 5000]);
    world.hosts[0].say(web, b"GET / HTTP/1.1\r\n");
    world.run_for(SECOND_US);
    world.hosts[0].gone = true;
    world.run_for(200 * SECOND_US);
    assert_eq!(world.open(), 0);
    let _ = silent;
    world.assert_rest();
}

#[test]
fn both_ends_closing_at_once_end_cleanly() {
    for loss_percent in [0, 20] {
        let mut world = World::new(1);
        world.faults.loss_percent = loss_percent;
        for _ in 0..10 {
            let socket = world.hosts[0].connect(V4, 80);
            assert!(world.run(100 * SECOND_US, |world| {
                world.hosts[0].tcp(socket).may_send()
            }));
            world.hosts[0].say(socket, b"GET /hello HTTP/1.0\r\n\r\n");
            world.hosts[0].tcp(socket).close();
            assert!(world.run(100 * SECOND_US, |world| {
                world.hosts[0].hear(socket);
                matches!(
                    world.hosts[0].tcp(socket).state(),
                    State::TimeWait | State::Closed
                )
            }));
        }
        world.run_for(60 * SECOND_US);
        assert_eq!(world.open(), 0);
        world.assert_rest();
    }
}
