//! All services together: bursts, full houses, slow clients, ping.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::check::{During, Result, ensure, fail, wait};
use crate::clients::{connect, get, ping, read_answer};
use crate::machine::{Guest, Machine, Services};
use crate::tap::{GUEST, Tap};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    test("services-burst-http", Needs::Tap, |cx| {
        burst(cx, |services| services.http)
    }),
    test("services-burst-echo", Needs::Tap, |cx| {
        burst(cx, |services| services.echo_tcp)
    }),
    test("services-full-house-in-16m", Needs::Qemu, full_house),
    test("services-slow-clients", Needs::Qemu, |cx| {
        slow_clients(cx, false)
    }),
    test("services-slow-clients-tap", Needs::Tap, |cx| {
        slow_clients(cx, true)
    }),
    test("services-ping", Needs::Tap, ping4),
    test("services-ping6", Needs::Tap, ping6),
];

const fn test(name: &'static str, needs: Needs, run: fn(&Context) -> Result) -> Test {
    Test {
        name,
        tier: Tier::Quick,
        needs,
        limit_s: 300,
        run,
    }
}

fn on_tap(cx: &Context) -> Result<Guest> {
    let mut guest = Machine::new(cx).tap(&Tap::new("tap0")?).boot()?;
    guest.healthy(30)?;
    Ok(guest)
}

/// So many connections at once, by so many threads.
fn at_once(service: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let start = std::sync::Barrier::new(count);
    let streams = thread::scope(|scope| {
        let ask = || {
            start.wait();
            connect(service)
        };
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(ask)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join())
            .collect::<Vec<_>>()
    });
    let joined = streams
        .into_iter()
        .map(|stream| stream.unwrap_or_else(|_| fail!("a client broke")));
    joined.collect::<Result<Vec<_>>>()
}

fn works(stream: &mut TcpStream, is_http: bool, number: usize) -> Result {
    if is_http {
        stream.write_all(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let answer = read_answer(stream, false)?;
        ensure!(answer.body == b"Hello, world!", "{answer:?}");
        return Ok(());
    }
    let sent = format!("number {number}, and nobody else's");
    let mut answer = vec![0; sent.len()];
    stream.write_all(sent.as_bytes())?;
    stream.read_exact(&mut answer)?;
    ensure!(
        answer == sent.as_bytes(),
        "echoed {:?}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}

/// 64 SYNs at once: all are answered, none by a reset, none only at the second attempt.
fn burst(cx: &Context, service: fn(&Services) -> SocketAddr) -> Result {
    let guest = on_tap(cx)?;
    let service = service(&guest.services);
    for round in 0..3 {
        let mut streams = at_once(service, 64).during(format!("round {round}"))?;
        for (number, stream) in streams.iter_mut().enumerate() {
            works(stream, service.port() == 80, number).during(format!("client {number}"))?;
        }
        drop(streams);
        // They leave, so that the next round finds places.
        wait(15, "all places free again", || {
            let open = |name| guest.metric(&format!("service_connections{{service=\"{name}\"}}"));
            // The one that asks is there itself.
            (open("http").ok()? <= 1 && open("echo").ok()? == 0).then_some(())
        })?;
    }
    let resets = guest.resets_sent(GUEST)?;
    ensure!(resets == 0, "{resets} resets");
    let (asked, again) = guest.handshakes_asked(service.port())?;
    ensure!(
        asked >= 3 * 64 && again == 0,
        "of {asked} SYNs {again} were repetitions"
    );
    // A port where nobody listens shows that a reset would have been seen.
    let closed = SocketAddr::new(service.ip(), 81);
    ensure!(
        TcpStream::connect(closed).is_err(),
        "somebody listens on port 81"
    );
    let resets = guest.resets_sent(GUEST)?;
    ensure!(resets == 1, "{resets} resets seen, one was caused");
    Ok(())
}

/// 64 connections of each service, all open and all working, in the memory that is promised to be enough.
fn full_house(cx: &Context) -> Result {
    let mut guest = Machine::new(cx).memory("16M").user()?.boot()?;
    guest.healthy(30)?;
    let mut http = at_once(guest.services.http, 64).during("HTTP")?;
    let mut echo = at_once(guest.services.echo_tcp, 64).during("echo")?;
    for round in 0..3 {
        for number in 0..64 {
            works(&mut http[number], true, number)
                .during(format!("HTTP {number}, round {round}"))?;
            works(&mut echo[number], false, number)
                .during(format!("echo {number}, round {round}"))?;
        }
    }
    Ok(())
}

/// Many clients that say nothing, or little, and then one that means it.
fn slow_clients(cx: &Context, over_tap: bool) -> Result {
    let mut guest = if over_tap {
        on_tap(cx)?
    } else {
        Machine::new(cx).user()?.boot()?
    };
    guest.healthy(30)?;
    let mut slow = Vec::new();
    // The user-mode network takes new connections slowly; these are more than there are places for one service.
    for number in 0..if over_tap { 200 } else { 80 } {
        let Ok(mut stream) =
            TcpStream::connect_timeout(&guest.services.http, Duration::from_secs(5))
        else {
            fail!("slow client {number} could not even connect")
        };
        if number % 2 == 0 {
            // May have been reset already.
            let _ = stream.write_all(b"GET /hello HTT");
        }
        slow.push(stream);
    }
    for attempt in 0..5 {
        let start = Instant::now();
        let answer = get(guest.services.http, "/hello").during(format!("attempt {attempt}"))?;
        let took = start.elapsed();
        ensure!(answer.code == 200, "{answer:?}");
        ensure!(
            took < Duration::from_secs(2),
            "attempt {attempt}: served after {took:?}"
        );
    }
    // The other service is none of their business.
    let mut echo = connect(guest.services.echo_tcp)?;
    works(&mut echo, false, 0)
}

fn ping4(cx: &Context) -> Result {
    let _guest = on_tap(cx)?;
    for size in [0, 1, 18, 56, 1400, 1472] {
        ping(&GUEST.to_string(), 20, size)?;
    }
    ping(&GUEST.to_string(), cx.scaled(500, 5_000, 50_000), 56)
}

fn ping6(cx: &Context) -> Result {
    let _guest = on_tap(cx)?;
    // The link-local address follows from the hardware address.
    let address = "fe80::5054:ff:fe12:56%tap0";
    wait(10, "the first answer over IPv6", || {
        ping(address, 1, 56).ok()
    })?;
    for size in [0, 1, 18, 56, 1400, 1452] {
        ping(address, 20, size)?;
    }
    Ok(())
}
