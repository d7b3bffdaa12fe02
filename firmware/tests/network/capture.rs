//! Captures over the stack: what they carry, what they lose, and that nobody else loses anything by them.

use firmware::capture::{Capture, Captures};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp;

use crate::frames::V4;
use crate::world::{SECOND_US, World};

fn begin(world: &mut World, host: usize, query: &str, window: usize) -> SocketHandle {
    let socket = world.hosts[host].connect_with(V4, 80, window);
    world.run_for(SECOND_US);
    let request =
        format!("GET /capture.pcapng?{query} HTTP/1.0\r\nAuthorization: Bearer sesame\r\n\r\n");
    world.hosts[host].say(socket, request.as_bytes());
    world.run_for(SECOND_US);
    socket
}

/// Sends echoes from the first host, a few at once, and counts what comes back.
fn echoes(world: &mut World, socket: SocketHandle, count: usize, size: usize) -> usize {
    let (mut sent, mut came) = (0, 0);
    world.run(60 * SECOND_US, |world| {
        let sockets = &mut world.hosts[0].sockets;
        let udp = sockets.get_mut::<udp::Socket>(socket);
        while udp.recv().is_ok() {
            came += 1;
        }
        while sent < count && sent < came + 16 && udp.can_send() {
            udp.send_slice(&vec![sent as u8; size], (V4, 7)).unwrap();
            sent += 1;
        }
        came == count
    });
    came
}

/// Kinds of the blocks behind the head of the answer, and how many packets they say were dropped.
fn blocks(heard: &[u8]) -> (Vec<u32>, u64) {
    let head = heard.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    let (mut file, mut kinds, mut dropped) = (&heard[head..], Vec::new(), 0);
    while let [a, b, c, d, e, f, g, h, ..] = *file {
        let len = u32::from_le_bytes([e, f, g, h]) as usize;
        let Some((block, rest)) = file.split_at_checked(len) else {
            break;
        };
        let kind = u32::from_le_bytes([a, b, c, d]);
        if kind == 6 && block[len - 16..len - 14] != [2, 0] {
            // epb_dropcount is the last option but for the end.
            let option = &block[len - 20..];
            if option[..4] == [4, 0, 8, 0] {
                dropped += u64::from(option[4]) | u64::from(option[5]) << 8;
            }
        }
        kinds.push(kind);
        file = rest;
    }
    (kinds, dropped)
}

fn setup() -> (World, &'static Capture, SocketHandle) {
    let mut world = World::new(2);
    let capture = world.allow_captures();
    let udp = world.hosts[0].udp();
    assert_eq!(echoes(&mut world, udp, 10, 100), 10);
    (world, capture, udp)
}

#[test]
fn every_frame_but_its_own_is_carried() {
    let (mut world, capture, udp) = setup();
    let reader = begin(&mut world, 1, "count=200", 64 << 10);
    assert!(capture.state().active);
    assert_eq!(echoes(&mut world, udp, 100, 1400), 100);
    world.run_for(SECOND_US);
    let heard = world.hosts[1].hear(reader);
    let (kinds, dropped) = blocks(&heard);
    assert_eq!(kinds[..2], [0x0a0d_0d0a, 1]);
    assert!(kinds[2..].iter().filter(|kind| **kind == 6).count() > 20);
    let mut all = heard;
    while world.run(SECOND_US, |world| world.hosts[1].tcp(reader).can_recv()) {
        all.extend(world.hosts[1].hear(reader));
    }
    let (kinds, _) = blocks(&all);
    assert_eq!(kinds.iter().filter(|kind| **kind == 6).count(), 200);
    assert_eq!((kinds.last(), dropped), (Some(&5), 0));
    assert!(!capture.state().active);
    world.hosts[1].tcp(reader).close();
    world.assert_rest();
}

#[test]
fn a_client_that_does_not_read_loses_frames_and_nobody_else_does() {
    let (mut world, capture, udp) = setup();
    let reader = begin(&mut world, 1, "", 4096);
    let echoed = echoes(&mut world, udp, 1000, 1400);
    assert_eq!(echoed, 1000, "served frames come first");
    let counts = capture.state().counts;
    assert!(counts.seen >= 2000, "{counts:?}");
    assert!((1500..2000).contains(&counts.dropped), "{counts:?}");
    // It reads on: what there was room for is there, and the frame after the gap tells how wide it is.
    let mut heard = Vec::new();
    for _ in 0..400 {
        heard.extend(world.hosts[1].hear(reader));
        world.run_for(SECOND_US / 20);
    }
    assert_eq!(echoes(&mut world, udp, 1, 100), 1);
    for _ in 0..20 {
        heard.extend(world.hosts[1].hear(reader));
        world.run_for(SECOND_US / 20);
    }
    let (kinds, told) = blocks(&heard);
    let counts = capture.state().counts;
    let packets = kinds.iter().filter(|kind| **kind == 6).count() as u64;
    assert_eq!(
        (packets, told),
        (counts.accepted - counts.dropped, counts.dropped)
    );
}

#[test]
fn a_client_that_vanishes_makes_room_for_another() {
    let (mut world, capture, udp) = setup();
    begin(&mut world, 1, "", 64 << 10);
    world.hosts[1].gone = true;
    assert_eq!(echoes(&mut world, udp, 20, 100), 20);
    world.run_for(40 * SECOND_US);
    assert!(!capture.state().active);
    // With taps off, nothing is seen any more.
    let seen = capture.state().counts.seen;
    assert_eq!(echoes(&mut world, udp, 20, 100), 20);
    assert_eq!(capture.state().counts.seen, seen);
    begin(&mut world, 0, "if=eth0", 64 << 10);
    assert!(capture.state().active);
}

#[test]
fn a_reset_ends_it_at_once() {
    let (mut world, capture, udp) = setup();
    let reader = begin(&mut world, 1, "", 64 << 10);
    world.hosts[1].tcp(reader).abort();
    world.run_for(SECOND_US);
    assert_eq!(echoes(&mut world, udp, 1, 100), 1);
    assert!(!capture.state().active);
}
