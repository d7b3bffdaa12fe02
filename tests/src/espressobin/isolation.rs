//! Floods into every socket, from before the image starts until long after: nothing crosses.
//!
//! Time is virtual and counts instructions, so that the measured times do not depend on the host. A boot loader of ours
//! waits until the links are up before it enters the image; what crosses until then is the boot loader's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::board::{Board, Deed, Running, SOCKETS, flipped};
use crate::check::{During, Result, ensure, fail, wait};
use crate::wire::Wire;
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    Test {
        name: "espressobin-isolation-as-u-boot-leaves-it",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 180,
        run: |cx| isolation(cx, "u-boot", "", false),
    },
    Test {
        name: "espressobin-isolation-strapped-to-forward",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 180,
        run: |cx| isolation(cx, "power-on", "switch-strap-phy-power:up", true),
    },
    Test {
        name: "espressobin-isolation-reset-wakes-phys",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 180,
        run: |cx| {
            let doubts =
                "switch-strap-phy-power:up,switch-reset-keeps:nothing,switch-busy-times:long";
            isolation(cx, "power-on", doubts, true)
        },
    },
    Test {
        name: "espressobin-isolation-all-doubts-flipped",
        tier: Tier::Nightly,
        needs: Needs::Qemu,
        limit_s: 180,
        run: |cx| isolation(cx, "u-boot", &flipped(), false),
    },
];

/// No frame crosses later than this after the image is entered, in nanoseconds of virtual time.
const LIMIT_NS: u64 = 5_000_000;
/// Each instruction takes 2 ns: a slow core's pace.
const SHIFT: u32 = 1;
/// The boot loader's time, for the links to come up: 3 seconds.
const BOOT_LOADER: Deed = Deed::Wait(3_000_000_000 / ((2 * 1024) << SHIFT));

/// First bytes of a flood's source address; the socket's number is the last.
const MARK: [u8; 5] = [0x02, 0xf1, 0x00, 0xd0, 0x00];

/// Broadcast, groups of all kinds, addresses nobody has; long and short.
fn flood_frame(socket: usize, number: usize) -> Vec<u8> {
    const TARGETS: [[u8; 6]; 8] = [
        [0xff; 6],
        [0x01, 0x00, 0x5e, 0, 0, 0xfb],
        [0x33, 0x33, 0, 0, 0, 1],
        [0x01, 0x80, 0xc2, 0, 0, 0],
        [0x01, 0x80, 0xc2, 0, 0, 0x0e],
        [0x02, 0x99, 0, 0, 0, 1],
        [0x00, 0x50, 0x43, 0, 0, 7],
        [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc],
    ];
    let mut frame = TARGETS[number % TARGETS.len()].to_vec();
    frame.extend(MARK);
    frame.push(socket as u8);
    // Now and then with a VLAN tag.
    if number.is_multiple_of(5) {
        frame.extend([0x81, 0x00, (number % 16) as u8, (number / 16) as u8]);
    }
    frame.extend([0x88, 0xb5]);
    frame.resize(60 + number % 7 * 200, number as u8);
    frame
}

/// Which socket's flood a frame is of.
fn origin(frame: &[u8]) -> Option<usize> {
    let source = frame.get(6..12)?;
    source.starts_with(&MARK).then(|| usize::from(source[5]))
}

/// Sends until told to stop; what comes in is thrown away.
fn flood(mut wire: Wire, socket: usize, stop: &AtomicBool) -> Result {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..8 {
            wire.send(&flood_frame(socket, number))?;
            number += 1;
        }
        while wire.receive(Duration::from_millis(1))?.is_some() {}
    }
    Ok(())
}

/// Times at which frames crossed, in nanoseconds since switching on.
fn crossings(board: &Running) -> Result<Vec<u64>> {
    let mut times = Vec::new();
    for (id, name) in SOCKETS.iter().enumerate() {
        let frames = board.frames(id)?;
        ensure!(
            frames
                .first()
                .is_some_and(|(time, _)| *time < 1_000_000_000),
            "the capture of {name} has no start"
        );
        let strange = |frame: &[u8]| origin(frame).is_some_and(|from| from != id);
        times.extend(
            frames
                .iter()
                .filter(|(_, frame)| strange(frame))
                .map(|(time, _)| time),
        );
    }
    Ok(times)
}

fn isolation(cx: &Context, state: &str, doubts: &str, leaks_before: bool) -> Result {
    let mut board = Board::new(cx)
        .option("state", state)
        .doubts(doubts)
        .instructions_take_ns(SHIFT)
        .all_wires()
        .boot_loader(&[BOOT_LOADER])
        .boot_held()?;
    let stop = AtomicBool::new(false);
    let wires = [
        board.take_wire(0)?,
        board.take_wire(1)?,
        board.take_wire(2)?,
    ];
    thread::scope(|scope| {
        let mut floods = Vec::new();
        for (id, wire) in wires.into_iter().enumerate() {
            let stop = &stop;
            floods.push(scope.spawn(move || flood(wire, id, stop)));
        }
        let outcome = watched(&mut board);
        stop.store(true, Ordering::Relaxed);
        for flood in floods {
            flood
                .join()
                .unwrap_or_else(|_| fail!("a flood broke"))
                .during("flood")?;
        }
        outcome
    })?;
    let entered = board.entered_ns()?;
    let crossings = crossings(&board)?;
    let before = crossings.iter().filter(|time| **time < entered).count();
    let last = crossings
        .iter()
        .max()
        .map_or(0, |last| last.saturating_sub(entered));
    println!(
        "entered at {} us; {before} frames crossed before, {} after, the last {} us after",
        entered / 1000,
        crossings.len() - before,
        last / 1000
    );
    ensure!(
        leaks_before == (before > 100),
        "{before} frames crossed before the image started: the test does not test"
    );
    // The image's own account: before its first character on a console that may be slow.
    let line = board.line("switch: ports stopped in")?;
    let stopped_us = line
        .split_whitespace()
        .rev()
        .nth(1)
        .and_then(|us| us.parse().ok());
    println!("`{line}`");
    ensure!(
        stopped_us.is_some_and(|us: u64| us * 1000 < LIMIT_NS),
        "`{line}` is too late"
    );
    ensure!(
        last < LIMIT_NS,
        "a frame crossed {} us after the image was entered",
        last / 1000
    );
    board.sound()
}

/// Start, links, a time with all of them, and a reset of the switch behind our back.
fn watched(board: &mut Running) -> Result {
    // Frames wait in the cables when time begins.
    thread::sleep(Duration::from_millis(100));
    board.go()?;
    for name in SOCKETS {
        board.line(&format!("{name}: link up"))?;
    }
    let reached = |board: &mut Running| {
        let before = board.wire_counter("to_mac")?;
        wait(30, "the floods to reach the MAC", || {
            let now = board.wire_counter("to_mac").ok()?;
            (now > before + 3000).then_some(())
        })
    };
    reached(board)?;
    let mark = board.mark();
    board.faults("switch-silent-reset*1")?;
    board.line_from(mark, "brought up anew")?;
    for name in SOCKETS {
        board.line_from(mark, &format!("{name}: link up"))?;
    }
    reached(board)
}
