//! Load and its absence: many requests, floods, and the quiet afterwards.

use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use crate::check::{Result, ensure, fail};
use crate::clients::{get, run};
use crate::machine::Machine;
use crate::tap::Tap;
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    Test {
        name: "load-idle-sleeps",
        tier: Tier::Quick,
        needs: Needs::Qemu,
        limit_s: 120,
        run: idle,
    },
    Test {
        name: "load-wrk",
        tier: Tier::Quick,
        needs: Needs::Tap,
        limit_s: 300,
        run: wrk,
    },
    Test {
        name: "load-wrk-new-connections",
        tier: Tier::Quick,
        needs: Needs::Tap,
        limit_s: 300,
        run: reconnecting,
    },
    Test {
        name: "load-flood-starves-nobody",
        tier: Tier::Quick,
        needs: Needs::Tap,
        limit_s: 120,
        run: flood,
    },
];

/// An idle system sleeps: QEMU uses a small part of the time that it uses for a busy one.
fn idle(cx: &Context) -> Result {
    let mut guest = Machine::new(cx).user()?.boot()?;
    guest.healthy(30)?;
    thread::sleep(Duration::from_secs(2));
    let span = Duration::from_secs(4);
    let before = guest.host_ticks()?;
    thread::sleep(span);
    let idle = guest.host_ticks()? - before;
    let end = std::time::Instant::now() + span;
    let before = guest.host_ticks()?;
    while std::time::Instant::now() < end {
        get(guest.services.http, "/hello")?;
    }
    let busy = guest.host_ticks()? - before;
    ensure!(
        busy >= 40,
        "the busy time of {busy} ticks is too short to compare with"
    );
    ensure!(
        idle * 5 <= busy,
        "idle {idle} ticks, busy {busy} ticks of 10 ms in {span:?}"
    );
    Ok(())
}

fn wrk(cx: &Context) -> Result {
    let mut guest = Machine::new(cx).tap(&Tap::new("tap0")?).boot()?;
    guest.healthy(30)?;
    let before = guest.metric("http_responses_total{code=\"200\"}")?;
    let url = format!("http://{}/hello", guest.services.http);
    let seconds = cx.scaled(5, 20, 120);
    let requests = wrk_run(&[
        "-t2",
        "-c64",
        &format!("-d{seconds}s"),
        "--timeout",
        "5s",
        &url,
    ])?;
    ensure!(
        requests >= 10_000 || cx.tier == Tier::Quick,
        "only {requests} requests in {seconds} s"
    );
    // wrk leaves in the middle of what it asked for last, so that a few more may have been answered.
    let answered = guest.metric("http_responses_total{code=\"200\"}")? - before;
    ensure!(
        answered >= requests,
        "wrk had {requests} answers, {answered} are counted"
    );
    Ok(())
}

fn reconnecting(cx: &Context) -> Result {
    let mut guest = Machine::new(cx).tap(&Tap::new("tap0")?).boot()?;
    guest.healthy(30)?;
    let url = format!("http://{}/hello", guest.services.http);
    let seconds = cx.scaled(3, 10, 60);
    let requests = wrk_run(&[
        "-t2",
        "-c16",
        &format!("-d{seconds}s"),
        "-H",
        "Connection: close",
        &url,
    ])?;
    ensure!(requests > 100, "only {requests} connections in {seconds} s");
    Ok(())
}

/// Runs wrk. Returns how many requests were answered; errors of any kind fail the test.
fn wrk_run(args: &[&str]) -> Result<u64> {
    let said = run("wrk", args)?;
    for trouble in ["Socket errors", "Non-2xx"] {
        ensure!(!said.contains(trouble), "{}", said.trim());
    }
    let count = said
        .lines()
        .find_map(|line| line.split_once(" requests in "));
    match count.and_then(|(count, _)| count.trim().parse().ok()) {
        Some(count) => Ok(count),
        None => fail!("wrk said {said}"),
    }
}

/// While more datagrams arrive than can be handled, HTTP is slow but there, and so are timers.
fn flood(cx: &Context) -> Result {
    let mut guest = Machine::new(cx).tap(&Tap::new("tap0")?).boot()?;
    guest.healthy(30)?;
    let (service, http) = (guest.services.echo_udp, guest.services.http);
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| -> Result {
        let flooder = scope.spawn(|| -> Result {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(service)?;
            socket.set_nonblocking(true)?;
            let mut rest = [0; 2048];
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                // A full queue is what this is about.
                let _ = socket.send(&[0x11; 64]);
                let _ = socket.recv(&mut rest);
            }
            Ok(())
        });
        let mut outcome = Ok(());
        for _ in 0..20 {
            outcome = outcome.and_then(|()| get(http, "/metrics").map(|_| ()));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let Ok(flooded) = flooder.join() else {
            fail!("the flooder broke")
        };
        flooded?;
        outcome
    })
}
