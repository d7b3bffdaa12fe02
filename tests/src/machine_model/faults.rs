//! Faults asked for while the board runs: each takes effect, and is over when it is taken back.

use std::time::{Duration, Instant};

use super::scripted::{ADDRESS, board, every_fault_is_in, reply, request};
use crate::check::{During, Result, ensure, fail};
use crate::espressobin::board::{End, Running, SOCKETS};
use crate::wire::{self, Wire};
use crate::{Context, Needs, Test, Tier, tap};

/// The tests of this file.
pub const TESTS: &[Test] = &[Test {
    name: "machine-model-faults-at-run-time",
    tier: Tier::Ci,
    needs: Needs::Qemu,
    limit_s: 400,
    run: faults_at_run_time,
}];

/// Echo requests in a round.
const REQUESTS: usize = 20;
/// Time without a frame after which a round is over.
const QUIET: Duration = Duration::from_millis(400);
/// Something is noticed within this, and repaired.
const LIMIT: Duration = Duration::from_secs(30);

/// What a round of echo requests shows.
#[derive(Debug, Default)]
struct Round {
    /// Numbers of the replies, as they came.
    replies: Vec<usize>,
    /// When the first came.
    first: Duration,
}

/// How a fault shows.
enum Sign {
    /// By a round of requests, sent again until it does.
    Round(fn(&Round) -> bool),
    /// By a line on the console.
    Line(&'static str),
}
use Sign::{Line, Round as Seen};

/// A fault, how it shows, and a line that says it is over if a whole round does not.
type Case = (&'static str, Sign, &'static str);

const CASES: &[Case] = &[
    ("frame-drop", Seen(|seen| seen.replies.is_empty()), ""),
    (
        "frame-drop=rx:2",
        Seen(|seen| seen.replies.len() == REQUESTS / 2),
        "",
    ),
    (
        "frame-corrupt=tx:4",
        Seen(|seen| seen.replies.len() == REQUESTS * 3 / 4),
        "",
    ),
    (
        "frame-duplicate=tx",
        Seen(|seen| seen.replies.len() == 2 * REQUESTS),
        "",
    ),
    (
        "frame-delay=tx:150000000",
        Seen(|seen| seen.replies.len() == REQUESTS && seen.first >= Duration::from_millis(150)),
        "",
    ),
    (
        "frame-reorder=rx:3",
        Seen(|seen| seen.replies.len() == REQUESTS && !seen.replies.is_sorted()),
        "",
    ),
    ("tag-damage", Seen(|seen| seen.replies.len() < REQUESTS), ""),
    ("neta-tx-stall", Line("transmit stalled"), "neta: restarted"),
    (
        "neta-tx-stall,neta-queue-stuck",
        Line("queues do not stop"),
        "neta: restarted",
    ),
    (
        "neta-tx-stall,neta-tx-fifo,neta-reset-stuck",
        Line("transmit stalled"),
        "",
    ),
    ("neta-rx-resource", Line("receive starved"), ""),
    (
        "neta-rx-overrun=2",
        Seen(|seen| seen.replies.len() == REQUESTS / 2),
        "",
    ),
    (
        "dma-error*4",
        Seen(|seen| (1..REQUESTS).contains(&seen.replies.len())),
        "",
    ),
    ("irq-lost=42", Line("without an interrupt"), ""),
    (
        "irq-delay=150000000",
        Seen(|seen| seen.replies.len() == REQUESTS && seen.first >= Duration::from_millis(150)),
        "",
    ),
    (
        "phy-never-completes=1",
        Line("wan: link down"),
        "wan: link up",
    ),
    (
        "partner=wan:10-half",
        Line("wan: link up, 10 Mb/s half duplex"),
        "wan: link up, 1000 Mb/s full duplex",
    ),
    // What the self-test sees: its own tests have that.
    (
        "cable=wan:1:open:1250",
        Seen(|seen| seen.replies.len() == REQUESTS),
        "",
    ),
    ("link-flap=1", Line("wan: link down"), "wan: link up"),
    (
        "switch-silent-reset*1,id-flip",
        Line("switch: does not come up"),
        "wan: link up",
    ),
    (
        "switch-busy",
        Line("switch: all ports stopped, brought up anew"),
        "wan: link up",
    ),
    (
        "switch-silent-reset*1,switch-reset-stuck*1",
        Line("switch: does not come up"),
        "wan: link up",
    ),
    (
        "switch-vanish",
        Seen(|seen| seen.replies.is_empty()),
        "wan: link up",
    ),
    (
        "mdio-no-answer",
        Line("switch: all ports stopped, brought up anew"),
        "wan: link up",
    ),
    // The last one: it hangs until the next reset.
    ("mdio-busy", Line("switch: does not come up"), ""),
];

fn faults_at_run_time(cx: &Context) -> Result {
    every_fault_is_in(CASES.iter().map(|(faults, ..)| *faults))?;
    let mut machine = board(cx)?.append(ADDRESS).end(0, End::Test);
    for socket in 1..SOCKETS.len() {
        machine = machine.end(socket, End::Nothing);
    }
    let mut board = machine.boot()?;
    let mut wire = board.take_wire(0)?;
    board.line("wan: link up")?;
    all_is_well(&mut wire).during("at the start")?;
    for (faults, sign, over) in CASES {
        one(&mut board, &mut wire, faults, sign, over).during(faults)?;
    }
    board.sound()
}

fn one(board: &mut Running, wire: &mut Wire, faults: &str, sign: &Sign, over: &str) -> Result {
    let mark = board.mark();
    board.faults(faults)?;
    let deadline = Instant::now() + LIMIT;
    loop {
        // A fault may need frames to show, whatever it shows by.
        let round = round(wire)?;
        let shows = match sign {
            Seen(shows) => shows(&round),
            Line(text) => board.says_from(mark, text),
        };
        if shows {
            break;
        }
        if Instant::now() > deadline {
            fail!("no effect: {round:?}");
        }
    }
    let is_last = faults == "mdio-busy";
    if is_last {
        return Ok(());
    }
    board.faults("")?;
    if !over.is_empty() {
        board.line_from(mark, over)?;
    }
    all_is_well(wire)
}

/// Sends requests and takes what comes back until nothing does.
fn round(wire: &mut Wire) -> Result<Round> {
    while wire.receive(Duration::ZERO)?.is_some() {}
    let start = Instant::now();
    // The guest may have forgotten us.
    wire.send(&wire::arp(2, tap::HOST, wire::GUEST_MAC, tap::GUEST))?;
    for number in 0..REQUESTS {
        wire.send(&request(number))?;
    }
    let mut round = Round::default();
    while let Some(frame) = wire.receive(QUIET)? {
        if let Some(number) = reply(&frame) {
            if round.replies.is_empty() {
                round.first = start.elapsed();
            }
            round.replies.push(number);
        }
        ensure!(start.elapsed() < LIMIT, "frames without end");
    }
    Ok(round)
}

/// Every request has its reply, in order.
fn all_is_well(wire: &mut Wire) -> Result {
    let deadline = Instant::now() + LIMIT;
    loop {
        let round = round(wire)?;
        if round.replies.iter().copied().eq(0..REQUESTS) {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "not repaired within {LIMIT:?}: {round:?}"
        );
    }
}
