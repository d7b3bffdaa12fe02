//! More frames than the image can take, and one frame alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::board::{self, Board, End};
use super::damage::accounted;
use super::services::{echo_tcp, served_at_once};
use crate::check::{During, Result, ensure, fail};
use crate::clients::connect;
use crate::echo::answers;
use crate::wire::{GUEST_MAC, ethernet, ipv4, udp};
use crate::{Context, Needs, Test, Tier, tap};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    Test {
        name: "espressobin-full-ring-for-ten-seconds",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 300,
        run: full_ring,
    },
    Test {
        name: "espressobin-lone-frame-is-not-held-back",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 180,
        run: lone_frame,
    },
];

/// An echo request by UDP from port `from` of ours.
fn request(from: u16, len: usize) -> Vec<u8> {
    let datagram = udp((tap::HOST, from), (tap::GUEST, 7), &vec![0x42; len]);
    ethernet(
        GUEST_MAC,
        0x0800,
        &ipv4(tap::HOST, tap::GUEST, 17, &datagram),
    )
}

/// A board whose `wan` has the address of the other tests' first guest and ends here.
fn board(cx: &Context) -> Result<Board<'_>> {
    Ok(Board::new(cx)
        .tree(board::tree_of_guest()?)
        .end(0, End::Test)
        .append(&board::address(0, "wan")))
}

/// A processor at a tenth of its speed under a flood of echo requests: the ring is full for ten seconds. Afterwards
/// everything works, and what was lost is what the counters say.
fn full_ring(cx: &Context) -> Result {
    let seconds = cx.scaled(10, 10, 60) as u64;
    let mut board = board(cx)?
        .arg("-accel")
        .arg("tcg,one-insn-per-tb=on")
        .boot()?;
    let mut wire = board.take_wire(0)?;
    board.line("wan: link up")?;
    answers(&mut wire, "after start")?;
    board.leases(&[1, 2])?;
    let services = board.services(1)?;
    let held = connect(services.echo_tcp)?;
    let stop = AtomicBool::new(false);
    let mut reader = wire.share()?;
    let (sent, answered) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut answered = 0_u64;
            while let (Ok(got), stopped) = (
                reader.receive(Duration::from_millis(500)),
                stop.load(Ordering::Relaxed),
            ) {
                answered += u64::from(got.is_some());
                if stopped && got.is_none() {
                    break;
                }
            }
            answered
        });
        let frame = request(40_000, 1400);
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut sent = 0_u64;
        let mut outcome = Ok(());
        while outcome.is_ok() && Instant::now() < end {
            for _ in 0..64 {
                outcome = outcome.and_then(|()| wire.send(&frame));
                sent += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        let answered = reader.join().unwrap_or_default();
        outcome.map(|()| (sent, answered))
    })?;
    println!("{sent} frames sent in {seconds} s, {answered} answers");
    ensure!(
        answered * 5 < sent * 4,
        "{answered} of {sent} frames were answered: the ring was not full"
    );
    ensure!(answered > 100, "only {answered} answers in {seconds} s");
    answers(&mut wire, "after the flood")?;
    // Nothing of this is kept out by the MAC's filter.
    let missing = accounted(&mut board)?;
    ensure!(
        missing < 600,
        "{missing} frames are neither taken nor counted as lost"
    );
    served_at_once(&board, &[1, 2], 1)?;
    drop(held);
    echo_tcp(services.echo_tcp, 10_000)?;
    board.sound()?;
    board.untroubled()
}

/// Time between a lone request and its answer on the wire, in virtual time that counts instructions.
fn lone_frame(cx: &Context) -> Result {
    // Bootargs, and how long the median may be: where the settings ask for more than one frame, the timer ends the wait.
    let settings = [
        ("", 0, 90),
        ("coalesce=1,60000", 0, 90),
        ("coalesce=16,100", 100, 200),
        ("coalesce=16,2000", 2000, 3000),
    ];
    for (id, (bootargs, least_us, limit_us)) in settings.into_iter().enumerate() {
        let mut board = board(cx)?
            .id(id)
            .append(bootargs)
            .instructions_take_ns(1)
            .boot()?;
        let mut wire = board.take_wire(0)?;
        board.line("wan: link up")?;
        answers(&mut wire, "after start")?;
        for number in 0..200 {
            wire.send(&request(41_000 + number, 18))?;
            wire.expect("an answer", Duration::from_secs(20), |frame| {
                (frame.get(36..38)? == (41_000 + number).to_be_bytes()).then_some(())
            })?;
        }
        let frames = board.frames(0)?;
        let at = |offset: usize, port: u16| {
            let found = frames
                .iter()
                .find(|(_, frame)| frame.get(offset..offset + 2) == Some(&port.to_be_bytes()));
            found.map(|(time, _)| *time)
        };
        let mut times: Vec<u64> = (0..200)
            .filter_map(|number| Some((at(36, 41_000 + number)? - at(34, 41_000 + number)?) / 1000))
            .collect();
        times.sort_unstable();
        let (Some(median), Some(p99), Some(worst)) = (times.get(99), times.get(197), times.last())
        else {
            fail!("only {} of 200 in the capture", times.len())
        };
        println!("`{bootargs}`: median {median} us, p99 {p99} us, longest {worst} us");
        // Asleep, the core's time is the host's, which may be busy; a timer would hold back every single one.
        ensure!(
            (least_us..=limit_us).contains(median),
            "lone frames wait {median} us with `{bootargs}`"
        );
        board.sound().during(bootargs)?;
    }
    Ok(())
}
