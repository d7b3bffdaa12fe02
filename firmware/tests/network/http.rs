//! HTTP over the stack: what the parser's own tests cannot see.

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use crate::frames::{V4, V6};
use crate::world::{SECOND_US, World};

const HELLO: &[u8] = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn connect(world: &mut World) -> SocketHandle {
    let socket = world.hosts[0].connect(V4, 80);
    assert!(world.run(SECOND_US, |world| {
        world.hosts[0].tcp(socket).state() == State::Established
    }));
    socket
}

/// What comes until `enough`, or until nothing came for `limit_us`.
pub fn listen(
    world: &mut World,
    socket: SocketHandle,
    limit_us: u64,
    mut enough: impl FnMut(&str) -> bool,
) -> String {
    let mut heard = String::new();
    loop {
        let mut more = Vec::new();
        let came = world.run(limit_us, |world| {
            more = world.hosts[0].hear(socket);
            !more.is_empty()
        });
        heard.push_str(std::str::from_utf8(&more).unwrap());
        if !came || enough(&heard) {
            return heard;
        }
    }
}

fn codes(heard: &str) -> Vec<&str> {
    let lines = heard.split("HTTP/1.1 ").skip(1);
    lines.map(|rest| &rest[..3]).collect()
}

fn is_closing(world: &mut World, socket: SocketHandle) -> bool {
    matches!(
        world.hosts[0].tcp(socket).state(),
        State::CloseWait | State::Closed
    )
}

#[test]
fn many_requests_on_one_connection() {
    let mut world = World::new(1);
    for to in [V4.into(), smoltcp::wire::IpAddress::Ipv6(V6)] {
        let socket = world.hosts[0].connect(to, 80);
        world.run_for(SECOND_US);
        for _ in 0..1000 {
            world.hosts[0].say(socket, HELLO);
            let heard = listen(&mut world, socket, SECOND_US, |heard| {
                heard.ends_with("Hello, world!")
            });
            assert_eq!(codes(&heard), ["200"]);
        }
        world.hosts[0].tcp(socket).close();
        world.run_for(15 * SECOND_US);
    }
    assert_eq!(world.open(), 0);
    world.assert_rest();
}

#[test]
fn pipelined_requests_are_answered_in_order_and_completely() {
    // Far more than fits either buffer, requests and answers; the ring wraps at every place inside a request.
    for path in ["hello", "metrics", ""] {
        for window in [1500, 64 << 10] {
            let mut world = World::new(1);
            let socket = world.hosts[0].connect_with(V4, 80, window);
            world.run_for(SECOND_US);
            let count = 400;
            let request =
                format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\nX: 0123456789\r\n\r\n");
            let all = request.repeat(count);
            let (mut sent, mut heard) = (0, String::new());
            let done = world.run(200 * SECOND_US, |world| {
                let host = &mut world.hosts[0];
                if sent < all.len() && host.tcp(socket).can_send() {
                    sent += host
                        .tcp(socket)
                        .send_slice(&all.as_bytes()[sent..])
                        .unwrap();
                    if sent == all.len() {
                        host.tcp(socket).close();
                    }
                }
                heard.push_str(std::str::from_utf8(&host.hear(socket)).unwrap());
                sent == all.len()
                    && !matches!(
                        host.tcp(socket).state(),
                        State::FinWait1 | State::FinWait2 | State::Closing
                    )
            });
            let codes = codes(&heard);
            assert!(
                done,
                "/{path}: {} answers, {sent} of {}",
                codes.len(),
                all.len()
            );
            assert_eq!(codes.len(), count, "/{path}, window {window}");
            assert!(codes.iter().all(|code| *code == "200"));
            world.assert_rest();
            assert_eq!(world.open(), 0);
        }
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let mut world = World::new(1);
    let socket = connect(&mut world);
    for byte in HELLO {
        assert_eq!(listen(&mut world, socket, 1000, |_| false), "");
        world.hosts[0].say(socket, &[*byte]);
    }
    let heard = listen(&mut world, socket, SECOND_US, |heard| {
        heard.ends_with("Hello, world!")
    });
    assert_eq!(codes(&heard), ["200"]);
}

#[test]
fn an_incomplete_request_is_given_up_after_ten_seconds() {
    for drip in [false, true] {
        let mut world = World::new(1);
        let socket = connect(&mut world);
        let start_us = world.now_us;
        world.hosts[0].say(socket, b"GET /hello HTTP/1.1\r\n");
        let mut heard = String::new();
        for _ in 0..30 {
            if drip && world.hosts[0].tcp(socket).may_send() {
                world.hosts[0].say(socket, b"A: b\r\n");
            }
            heard += &listen(&mut world, socket, SECOND_US, |_| true);
            if is_closing(&mut world, socket) {
                break;
            }
        }
        let after_s = (world.now_us - start_us) / SECOND_US;
        assert_eq!(codes(&heard), ["408"], "{heard}");
        assert!((9..=12).contains(&after_s), "{after_s}");
        world.hosts[0].tcp(socket).close();
        world.run_for(30 * SECOND_US);
        assert_eq!(world.open(), 0);
    }
}

#[test]
fn a_silent_connection_ends_without_a_reset() {
    for say in [false, true] {
        let mut world = World::new(1);
        let socket = connect(&mut world);
        if say {
            world.hosts[0].say(socket, HELLO);
            listen(&mut world, socket, SECOND_US, |heard| {
                heard.ends_with("Hello, world!")
            });
        }
        let start_us = world.now_us;
        assert!(
            world.run(100 * SECOND_US, |world| is_closing(world, socket)),
            "{}",
            world.open()
        );
        let after_s = (world.now_us - start_us) / SECOND_US;
        assert!((49..=51).contains(&after_s), "{after_s}");
        assert_eq!(
            world.hosts[0].tcp(socket).state(),
            State::CloseWait,
            "a FIN, not a reset"
        );
        world.hosts[0].tcp(socket).close();
        assert!(world.run(SECOND_US, |world| {
            world.hosts[0].tcp(socket).state() == State::Closed
        }));
        world.run_for(30 * SECOND_US);
        assert_eq!(world.open(), 0);
        world.assert_rest();
    }
}

#[test]
fn half_a_request_and_a_fin_get_an_answer_and_a_fin() {
    let mut world = World::new(1);
    let socket = connect(&mut world);
    world.hosts[0].say(socket, b"GET /hello HT");
    world.hosts[0].tcp(socket).close();
    let heard = listen(&mut world, socket, SECOND_US, |_| false);
    assert_eq!(codes(&heard), ["400"]);
    assert_eq!(world.hosts[0].tcp(socket).state(), State::TimeWait);
    assert_eq!(world.open(), 0);
}

#[test]
fn slow_clients_do_not_delay_others() {
    let mut world = World::new(2);
    for _ in 0..64 {
        let socket = world.hosts[1].connect(V4, 80);
        world.run_for(1000);
        world.hosts[1].say(socket, b"GET / HTTP/1.1\r\nHo");
    }
    let socket = connect(&mut world);
    let start_us = world.now_us;
    world.hosts[0].say(socket, HELLO);
    let heard = listen(&mut world, socket, SECOND_US, |heard| {
        heard.ends_with("Hello, world!")
    });
    assert_eq!(codes(&heard), ["200"]);
    assert!(world.now_us - start_us < 1000);
}

#[test]
fn a_slow_reader_gets_its_pages() {
    let mut world = World::new(1);
    let socket = world.hosts[0].connect_with(V4, 80, 1000);
    world.run_for(SECOND_US);
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    world.hosts[0].say(socket, request.repeat(8).as_bytes());
    world.hosts[0].tcp(socket).close();
    // 1 kB every 5 s.
    let mut heard = String::new();
    for _ in 0..200 {
        world.run_for(5 * SECOND_US);
        heard += std::str::from_utf8(&world.hosts[0].hear(socket)).unwrap();
        if world.hosts[0].tcp(socket).state() == State::TimeWait {
            break;
        }
    }
    assert_eq!(codes(&heard), ["200"; 8], "{} bytes", heard.len());
}

#[test]
fn an_answer_survives_a_bad_wire() {
    let mut world = World::new(1);
    world.faults.loss_percent = 5;
    world.faults.late_percent = 20;
    world.faults.copy_percent = 5;
    let mut complete = 0;
    for _ in 0..100 {
        let socket = world.hosts[0].connect(V4, 80);
        if !world.run(20 * SECOND_US, |world| {
            world.hosts[0].tcp(socket).state() == State::Established
        }) {
            continue;
        }
        world.hosts[0].say(socket, b"GET /metrics HTTP/1.0\r\n\r\n");
        let heard = listen(&mut world, socket, 20 * SECOND_US, |_| false);
        let (head, body) = heard.split_once("\r\n\r\n").unwrap_or_default();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        complete += usize::from(length.is_some_and(|length| length.parse() == Ok(body.len())));
        world.hosts[0].tcp(socket).close();
        world.run_for(SECOND_US);
    }
    assert!(complete >= 99, "{complete} of 100");
}
