//! Commands over HTTP: whose turn it is, and what becomes of those who leave.

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use firmware::http::Access;

use crate::frames::V4;
use crate::http::listen;
use crate::world::{SECOND_US, World};

const BEARER: &str = "Host: localhost\r\nAuthorization: Bearer x\r\n\r\n";

/// A client that has asked.
fn ask(world: &mut World, line: &str) -> SocketHandle {
    let socket = world.hosts[0].connect(V4, 80);
    assert!(world.run(SECOND_US, |world| {
        world.hosts[0].tcp(socket).state() == State::Established
    }));
    say(world, socket, line);
    socket
}

fn say(world: &mut World, socket: SocketHandle, line: &str) {
    let request = format!("{line} HTTP/1.1\r\n{BEARER}");
    world.hosts[0].say(socket, request.as_bytes());
}

/// The next answer, within the limit: its code, how long it took, and all of it.
fn answer(world: &mut World, socket: SocketHandle, limit_us: u64) -> (String, u64, String) {
    let begin_us = world.now_us;
    let heard = listen(world, socket, limit_us, |heard| heard.ends_with("}\n"));
    let code = heard.get(9..12).unwrap_or_default().to_string();
    (code, world.now_us - begin_us, heard)
}

fn world() -> World {
    let mut world = World::new(1);
    world.network.access = Access::new(Some("x".try_into().unwrap()), false);
    world
}

#[test]
fn a_command_is_answered_at_once_and_the_next_one_after_it() {
    let mut world = world();
    let socket = ask(&mut world, "GET /api/v1/irq");
    let (code, took_us, heard) = answer(&mut world, socket, SECOND_US);
    assert!(
        heard.ends_with("\r\n\r\n{\"taken\":1,\"unexpected\":2,\"sources\":[]}\n"),
        "{heard}"
    );
    assert!(code == "200" && took_us < 1000, "{took_us} us");
    // Both in one segment.
    for line in [
        "GET /api/v1/irq",
        "GET /hello",
        "GET /api/v1/nope",
        "GET /api/v1/irq/x",
        "GET /api/v1/log",
    ] {
        say(&mut world, socket, line);
    }
    let heard = listen(&mut world, socket, SECOND_US, |_| false);
    let codes: Vec<&str> = heard
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|it| &it[..3])
        .collect();
    assert_eq!(codes, ["200", "200", "404", "400", "500"], "{heard}");
    assert!(heard.contains("{\"error\":\"usage: irq \"}"), "{heard}");
    assert!(
        heard.contains("{\"error\":\"the result is too long\"}"),
        "{heard}"
    );
    world.assert_rest();
}

#[test]
fn who_waits_is_served_in_turn_and_nothing_else_waits() {
    let mut world = world();
    world.bench.ping_us = SECOND_US;
    let first = ask(&mut world, "POST /api/v1/ping/10.0.0.1");
    world.run_for(1000);
    let others: Vec<_> = (0..16)
        .map(|_| ask(&mut world, "GET /api/v1/irq"))
        .collect();
    let hello = ask(&mut world, "GET /hello");
    let heard = listen(&mut world, hello, SECOND_US, |heard| {
        heard.ends_with("world!")
    });
    assert!(
        heard.ends_with("world!") && world.bench.rounds < 20,
        "{heard}"
    );
    let (code, took_us, _) = answer(&mut world, first, 2 * SECOND_US);
    assert!(
        code == "200" && took_us > SECOND_US / 2,
        "{code} after {took_us}"
    );
    for socket in others {
        let (code, took_us, heard) = answer(&mut world, socket, SECOND_US);
        assert!(code == "200" && took_us < 10_000, "{heard} after {took_us}");
    }
    assert_eq!(world.bench.pings, 1);
    world.assert_rest();
}

#[test]
fn nobody_waits_for_ever() {
    let mut world = world();
    world.bench.ping_us = 100 * SECOND_US;
    let first = ask(&mut world, "POST /api/v1/ping/10.0.0.1");
    world.run_for(1000);
    let second = ask(&mut world, "GET /api/v1/irq");
    let (code, took_us, heard) = answer(&mut world, second, 20 * SECOND_US);
    assert!(code == "503" && heard.contains("Retry-After: "), "{heard}");
    assert!(
        (9 * SECOND_US..11 * SECOND_US).contains(&took_us),
        "{took_us}"
    );
    let (code, took_us, heard) = answer(&mut world, first, 60 * SECOND_US);
    assert!(code == "504", "{heard}");
    assert!(
        (19 * SECOND_US..21 * SECOND_US).contains(&took_us),
        "{took_us}"
    );
    // It can be asked again.
    world.bench.ping_us = 0;
    let third = ask(&mut world, "POST /api/v1/ping/10.0.0.1");
    assert_eq!(answer(&mut world, third, SECOND_US).0, "200");
    world.assert_rest();
}

#[test]
fn who_leaves_ends_the_command() {
    for how in 0..3 {
        let mut world = world();
        world.bench.ping_us = 20 * SECOND_US;
        let first = ask(&mut world, "POST /api/v1/ping/10.0.0.1");
        world.run_for(SECOND_US);
        let second = ask(&mut world, "GET /api/v1/irq");
        world.run_for(SECOND_US / 10);
        match how {
            0 => world.hosts[0].tcp(first).close(),
            1 => world.hosts[0].tcp(first).abort(),
            // Without a word: others take its place.
            _ => world.network.connections.release(0),
        }
        let (code, took_us, heard) = answer(&mut world, second, SECOND_US);
        assert!(
            code == "200" && took_us < SECOND_US / 2,
            "{how}: {heard} after {took_us}"
        );
        let rounds = world.bench.rounds;
        world.run_for(SECOND_US);
        assert_eq!(world.bench.rounds, rounds, "{how}: it goes on");
        world.assert_rest();
    }
}

#[test]
fn who_asks_in_two_requests_and_leaves_gets_both_answers() {
    let mut world = world();
    let socket = ask(&mut world, "GET /api/v1/irq");
    say(&mut world, socket, "GET /api/v1/irq");
    world.hosts[0].tcp(socket).close();
    let heard = listen(&mut world, socket, SECOND_US, |_| false);
    assert_eq!(heard.matches("\"taken\":1").count(), 2, "{heard}");
}
