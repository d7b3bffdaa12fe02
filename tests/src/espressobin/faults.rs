//! Hardware that misbehaves on demand: each kind has its line on the console, and is repaired where that can be done.
//!
//! One board takes one fault after another. A TCP connection made before the first is still there after the last.

use std::io::{Read, Write};
use std::time::Duration;

use super::board::{Board, Running};
use super::services::{echo_udp, served_at_once};
use crate::check::{During, Result, ensure, fail};
use crate::clients::{connect, curl};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    Test {
        name: "espressobin-faults-of-the-mac",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 300,
        run: |cx| faults(cx, OF_THE_MAC),
    },
    Test {
        name: "espressobin-faults-of-the-switch",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 300,
        run: |cx| faults(cx, OF_THE_SWITCH),
    },
    Test {
        name: "espressobin-faults-from-the-start",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 300,
        run: faults_from_the_start,
    },
];

/// A fault, what the console says while it lasts, and what it says when all is well again.
struct Case {
    fault: &'static str,
    says: &'static str,
    /// Empty: nothing more is said.
    then: &'static str,
}

const OF_THE_MAC: &[Case] = &[
    Case {
        fault: "neta-tx-stall",
        says: "neta: transmit stalled with",
        then: "neta: restarted",
    },
    Case {
        fault: "neta-rx-resource",
        says: "neta: receive starved,",
        then: "neta: restarted",
    },
    Case {
        fault: "irq-lost",
        says: "frames wait without an interrupt",
        then: "",
    },
    Case {
        fault: "neta-tx-stall,neta-reset-stuck*3",
        says: "neta: transmit stalled with",
        then: "neta: restarted",
    },
];

/// Busy bits that get stuck between two operations, where no silicon could set them, are left out.
const OF_THE_SWITCH: &[Case] = &[
    Case {
        fault: "switch-silent-reset*1",
        says: "brought up anew",
        then: "ports separate",
    },
    Case {
        fault: "switch-vanish",
        says: "brought up anew",
        then: "ports separate",
    },
    Case {
        fault: "mdio-no-answer",
        says: "brought up anew",
        then: "ports separate",
    },
    Case {
        fault: "switch-busy=2,switch-silent-reset*1",
        says: "does not come up",
        then: "ports separate",
    },
    Case {
        fault: "switch-reset-stuck,switch-silent-reset*1",
        says: "does not come up",
        then: "ports separate",
    },
    // The last one: a controller that hangs is helped by nothing.
    Case {
        fault: "mdio-busy*1",
        says: "brought up anew",
        then: "does not come up",
    },
];

/// Seconds on the console's clock.
fn stamp(line: &str) -> Option<f64> {
    line.strip_prefix('[')?
        .split_once(']')?
        .0
        .trim()
        .parse()
        .ok()
}

fn faults(cx: &Context, cases: &[Case]) -> Result {
    let mut board = Board::new(cx).boot()?;
    board.leases(&[0, 1, 2])?;
    let services = board.services(0)?;
    let mut connection = connect(services.echo_tcp)?;
    connection.set_read_timeout(Some(Duration::from_secs(30)))?;
    for case in cases {
        let mark = board.mark();
        let uptime = uptime(&board)?;
        board.faults(case.fault)?;
        // Something has to move for the MAC's faults to show.
        let line = prodded(&mut board, mark, case.says).during(case.fault)?;
        let noticed = stamp(&line).unwrap_or_default() - uptime;
        board.faults("")?;
        if !case.then.is_empty() {
            board.line_from(mark, case.then).during(case.fault)?;
        }
        println!("{}: noticed after {noticed:.3} s", case.fault);
        if case.then == "does not come up" {
            break;
        }
        if case.then == "ports separate" {
            for name in super::board::SOCKETS {
                board
                    .line_from(mark, &format!("{name}: link up"))
                    .during(case.fault)?;
            }
        }
        still_there(&mut connection).during(case.fault)?;
        served_at_once(&board, &[0, 1, 2], 1).during(case.fault)?;
    }
    board.sound()
}

fn uptime(board: &Running) -> Result<f64> {
    let text = curl(&[&format!("http://{}/metrics", board.services(0)?.http)])?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("ristretto_uptime_seconds "));
    match value.and_then(|value| value.parse().ok()) {
        Some(value) => Ok(value),
        None => fail!("/metrics has no uptime"),
    }
}

/// Waits for a line while frames are sent.
fn prodded(board: &mut Running, mark: usize, text: &str) -> Result<String> {
    let services = board.services(0)?;
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                // May well be lost.
                let _ = echo_udp(services.echo_udp, 1);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let line = board.line_from(mark, text);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        line
    })
}

/// The connection carries data both ways.
fn still_there(connection: &mut std::net::TcpStream) -> Result {
    let sent = [0x5a; 5000];
    connection.write_all(&sent)?;
    let mut received = [0; 5000];
    connection
        .read_exact(&mut received)
        .during("the connection")?;
    ensure!(received == sent, "the connection changes bytes");
    Ok(())
}

/// Faults that are there when the image starts: it says so, and starts what can be started once they are gone.
fn faults_from_the_start(cx: &Context) -> Result {
    let cases = [
        ("mdio-busy*1", "does not come up", false),
        ("mdio-no-answer", "does not come up", true),
        ("switch-vanish", "does not come up", true),
        ("switch-reset-stuck", "does not come up", true),
        ("switch-busy", "does not come up", true),
        ("switch-busy=5", "does not come up", true),
        ("phy-never-completes=1", "wan: link down", true),
        (
            "neta-reset-stuck",
            "not used: the port stays in reset",
            false,
        ),
    ];
    for (id, (fault, says, recovers)) in cases.into_iter().enumerate() {
        let one = || {
            let mut board = Board::new(cx).id(id).option("faults", fault).boot()?;
            board.line(says)?;
            board.line("sealed")?;
            if recovers {
                // The others do not wait for a PHY.
                if fault.starts_with("phy") {
                    board.leases(&[1, 2])?;
                    ensure!(!board.console().contains("wan: link up"), "wan has a link");
                }
                board.faults("")?;
                board.leases(&[0, 1, 2])?;
                served_at_once(&board, &[0, 1, 2], 1)?;
            }
            board.sound()
        };
        one().during(fault)?;
    }
    Ok(())
}
