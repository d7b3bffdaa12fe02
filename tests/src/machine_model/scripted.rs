//! Runs by script: frames come at their virtual times, instructions are time, and nothing else goes in.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;

use espressobin_model::faults::FAULTS;

use crate::check::{During, Result, ensure};
use crate::espressobin::board::{self, Board, End};
use crate::wire::{self, GUEST_MAC, OUR_MAC};
use crate::{Context, Needs, Test, Tier, tap};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    Test {
        name: "machine-model-same-script-same-trace",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 120,
        run: same_script_same_trace,
    },
    Test {
        name: "machine-model-faults-from-the-command-line",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 400,
        run: faults_from_the_command_line,
    },
];

/// Echo requests in a script.
const REQUESTS: usize = 20;
/// When the first one comes: the link has been up for seconds.
const FIRST_NS: u64 = 6_000_000_000;
const GAP_NS: u64 = 20_000;
const END_NS: u64 = 9_000_000_000;
/// Where the model puts the only MAC of its tree.
const MAC_NODE: &str = "/soc/internal-regs/ethernet@30000";

/// An echo request to the guest.
pub fn request(number: usize) -> Vec<u8> {
    let message = wire::echo_request(number as u16, &[number as u8; 40]);
    let packet = wire::ipv4(tap::HOST, tap::GUEST, 1, &message);
    let mut frame = wire::ethernet(GUEST_MAC, 0x0800, &packet);
    frame.truncate(14 + packet.len());
    frame
}

/// The number of an echo reply to us.
pub fn reply(frame: &[u8]) -> Option<usize> {
    let is_reply = frame.get(..6)? == OUR_MAC
        && frame.get(12..14)? == [8, 0]
        && *frame.get(23)? == 1
        && *frame.get(34)? == 0;
    is_reply.then_some(usize::from(u16::from_be_bytes([
        *frame.get(40)?,
        *frame.get(41)?,
    ])))
}

/// Bootargs that give the guest its address on the first socket.
pub const ADDRESS: &str = "ip=10.9.0.2::10.9.0.1:255.255.255.0::wan:off";

/// The board with the guest's address in its tree, and a seed there.
pub fn board(cx: &Context) -> Result<Board<'_>> {
    let mut tree = board::tree()?;
    tree.node("/chosen")?
        .set("rng-seed", &[1; 32])
        .set("kaslr-seed", &[2; 8]);
    tree.node(MAC_NODE)?.set("local-mac-address", &GUEST_MAC);
    Ok(Board::new(cx).tree(tree).append(ADDRESS))
}

/// We ask who has the address, then come the echo requests, then the end.
fn script(gap_ns: u64) -> String {
    let mut text = String::from("0 wan plugged\n");
    let mut add = |at: u64, frame: &[u8]| {
        let _ = write!(text, "{at} wan in ");
        for byte in frame {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
    };
    add(
        FIRST_NS - 1_000_000_000,
        &wire::arp(1, tap::HOST, wire::BROADCAST, tap::GUEST),
    );
    for number in 0..REQUESTS {
        add(FIRST_NS + gap_ns * number as u64, &request(number));
    }
    let _ = writeln!(text, "{END_NS} end");
    text
}

/// What a run left.
struct Run {
    trace: String,
    console: String,
}

impl Run {
    /// Frames that left, with their times.
    fn sent(&self) -> Vec<(u64, Vec<u8>)> {
        let frame = |line: &str| {
            let (time, rest) = line.split_once(' ')?;
            let hex = rest.strip_prefix("wan out ")?;
            let bytes = (0..hex.len() / 2)
                .filter_map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok());
            Some((time.parse().ok()?, bytes.collect()))
        };
        self.trace.lines().filter_map(frame).collect()
    }

    /// Replies in their order: time and number.
    fn replies(&self) -> Vec<(u64, usize)> {
        let reply = |(time, frame): (u64, Vec<u8>)| Some((time, reply(&frame)?));
        self.sent().into_iter().filter_map(reply).collect()
    }

    /// When the first reply left, from its request on.
    fn patience_ns(&self) -> Option<u64> {
        self.replies().first().map(|(time, _)| time - FIRST_NS)
    }

    fn says(&self, text: &str) -> bool {
        self.console.contains(text)
    }
}

fn run(cx: &Context, id: usize, script: &str, options: &[(&str, &str)]) -> Result<Run> {
    let file = |end: &str| cx.out.join(format!("{}.{id}.{end}", cx.name));
    let (input, trace) = (file("script"), file("trace"));
    fs::write(&input, script)?;
    let mut machine = board(cx)?
        .id(id)
        .option("script", &input.display().to_string())
        .option("trace", &trace.display().to_string())
        // QEMU writes seeds of its own into the tree, from this one.
        .args(&["-seed", "1", "-icount", "shift=4,sleep=off"]);
    for socket in 0..board::SOCKETS.len() {
        machine = machine.end(socket, End::Nothing);
    }
    for (name, value) in options {
        machine = machine.option(name, value);
    }
    let mut running = machine.boot()?;
    running.ended(120)?;
    Ok(Run {
        trace: fs::read_to_string(trace)?,
        console: running.console(),
    })
}

/// Byte for byte, whatever else this machine does meanwhile; and a trace is a script that gives itself.
fn same_script_same_trace(cx: &Context) -> Result {
    let plain = script(GAP_NS);
    let first = run(cx, 0, &plain, &[])?;
    let replies = first.replies();
    ensure!(
        replies.iter().map(|(_, number)| *number).eq(0..REQUESTS),
        "not every request has its answer: {replies:?}"
    );
    ensure!(
        first.trace.ends_with(&format!("{END_NS} end\n")),
        "the trace has no end"
    );
    for (id, script) in [(1, &plain), (2, &plain), (3, &first.trace)] {
        let again = run(cx, id, script, &[])?;
        ensure!(
            again.trace == first.trace,
            "run {id}: another trace: compare {}.*.trace",
            cx.name
        );
        ensure!(again.console == first.console, "run {id}: another console");
    }
    for (id, other) in [
        (4, script(GAP_NS + 1000)),
        (5, plain.replacen("0101010101", "0101010102", 1)),
    ] {
        ensure!(
            run(cx, id, &other, &[])?.trace != first.trace,
            "run {id}: another script, the same trace"
        );
    }
    Ok(())
}

/// Faults on the command line, and what is different then from a run without.
type Case = (&'static str, fn(&Run, &Run) -> bool);

const CASES: &[Case] = &[
    ("frame-drop", |_, run| {
        run.sent().is_empty() && run.says("wan: link up")
    }),
    ("frame-drop=rx:2", |_, run| {
        run.replies().len() == REQUESTS / 2
    }),
    ("frame-corrupt=tx", |_, run| run.sent().is_empty()),
    ("frame-corrupt=rx:4", |_, run| {
        run.replies().len() == REQUESTS * 3 / 4
    }),
    ("frame-duplicate=tx", |_, run| {
        run.replies().len() == 2 * REQUESTS
    }),
    ("frame-delay=rx:5000000", |plain, run| {
        later(plain, run, 5_000_000)
    }),
    ("frame-reorder=rx:3", |_, run| {
        let numbers: Vec<usize> = run.replies().iter().map(|(_, number)| *number).collect();
        let all: BTreeSet<usize> = numbers.iter().copied().collect();
        all.len() == REQUESTS && !numbers.is_sorted()
    }),
    ("tag-damage", |_, run| run.replies().len() < REQUESTS),
    // By whoever finds it first: stopping the ports, or the switch's bring-up.
    ("mdio-busy", |_, run| run.says("switch: does not come up")),
    ("mdio-no-answer", |_, run| {
        run.says("switch: does not come up")
    }),
    ("neta-reset-stuck", |_, run| {
        run.says("the port stays in reset")
    }),
    ("neta-queue-stuck,neta-tx-stall", |_, run| {
        run.says("queues do not stop")
    }),
    ("neta-tx-stall", |_, run| {
        run.sent().is_empty() && run.says("transmit stalled")
    }),
    // Whoever stops the port waits in vain for the FIFO to be empty.
    ("neta-tx-fifo", |plain, run| {
        let first = |run: &Run| run.sent().first().map_or(0, |(time, _)| *time);
        first(run) > first(plain) + 10_000_000
    }),
    ("neta-rx-resource", |_, run| {
        run.replies().is_empty() && run.says("receive starved")
    }),
    ("neta-rx-overrun=2", |_, run| {
        run.replies().len() == REQUESTS / 2
    }),
    ("dma-error", |_, run| {
        run.sent().is_empty() && run.says("wan: link up")
    }),
    ("irq-lost=42", |plain, run| {
        later(plain, run, 1_000_000) && run.says("without an interrupt")
    }),
    ("irq-delay=5000000", |plain, run| {
        later(plain, run, 5_000_000)
    }),
    ("phy-never-completes=1", |_, run| {
        run.says("switch: 88E6341") && !run.says("wan: link up")
    }),
    ("partner=wan:100-full", |_, run| {
        run.says("wan: link up, 100 Mb/s full duplex")
    }),
    // For the cable test alone: frames do not mind.
    ("cable=wan:1:open:1250", |plain, run| {
        run.trace == plain.trace
    }),
    ("id-flip", |_, run| run.says("switch: does not come up")),
    ("link-flap=1", |_, run| {
        run.console.matches("wan: link down").count() > 1
            && run.console.matches("wan: link up").count() > 1
    }),
    ("switch-busy", |_, run| run.says("switch: does not come up")),
    ("switch-reset-stuck", |_, run| {
        run.says("switch: does not come up")
    }),
    // Again and again.
    ("switch-silent-reset", |_, run| {
        run.says("switch: ") && !run.says("wan: link up")
    }),
    ("switch-vanish", |_, run| {
        run.says("switch: does not come up") && run.sent().is_empty()
    }),
];

/// All replies are there, each by so much later.
fn later(plain: &Run, run: &Run, ns: u64) -> bool {
    let limit = plain.patience_ns().map(|plain| plain + ns);
    run.replies().len() == REQUESTS && run.patience_ns() >= limit
}

fn faults_from_the_command_line(cx: &Context) -> Result {
    every_fault_is_in(CASES.iter().map(|(faults, _)| *faults))?;
    let script = script(GAP_NS);
    let plain = run(cx, 0, &script, &[])?;
    ensure!(
        plain.replies().len() == REQUESTS,
        "without a fault: {} replies",
        plain.replies().len()
    );
    for (id, (faults, holds)) in (1..).zip(CASES) {
        let run = run(cx, id, &script, &[("faults", faults)]).during(faults)?;
        ensure!(
            holds(&plain, &run),
            "{faults}: not the effect (run {id}): {} frames, {} replies, the first after {:?} ns",
            run.sent().len(),
            run.replies().len(),
            run.patience_ns(),
        );
    }
    Ok(())
}

/// No fault that the model knows is left out.
pub fn every_fault_is_in<'a>(lists: impl Iterator<Item = &'a str>) -> Result {
    let named: BTreeSet<&str> = lists
        .flat_map(|list| list.split(','))
        .filter_map(|item| item.split(['=', '*']).next())
        .collect();
    for fault in FAULTS {
        ensure!(named.contains(fault.name), "{} has no case", fault.name);
    }
    Ok(())
}
