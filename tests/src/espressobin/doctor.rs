//! What the doctor says of a board whose cables and partners are not well, and that it says nothing of one that is.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::board::{Board, End, Running};
use crate::check::{During, Result, ensure};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[Test {
    name: "espressobin-doctor",
    tier: Tier::Ci,
    needs: Needs::Qemu,
    limit_s: 240,
    run: doctor,
}];

/// What the doctor says: port, severity, sentence.
fn findings(board: &mut Running) -> Result<Vec<[String; 3]>> {
    let mark = board.mark();
    board.type_in("doctor\r")?;
    // A prompt's echo may stand before the first line, but not before the last.
    board.line_from(mark, "worst  ")?;
    let text = board.console()[mark..].to_owned();
    let rows = text.lines().filter_map(|line| {
        let (port, rest) = line.split_once(' ')?;
        let (severity, says) = rest.trim_start().split_once(' ')?;
        Some([port, severity, says.trim_start()].map(str::to_owned))
    });
    let rows: Vec<_> = rows.collect();
    println!("{rows:#?}");
    Ok(rows)
}

/// Whether a finding about this port of this severity has these words in it.
fn says(findings: &[[String; 3]], port: &str, severity: &str, words: &str) -> Result {
    let fits = |row: &&[String; 3]| row[0] == port && row[1] == severity && row[2].contains(words);
    ensure!(
        findings.iter().any(|row| fits(&row)),
        "no {severity} about {port} with `{words}` in {findings:?}"
    );
    Ok(())
}

fn doctor(cx: &Context) -> Result {
    // Nobody gives out addresses on lan1.
    let mut board = Board::new(cx).end(2, End::Test).boot()?;
    board.leases(&[0, 1])?;
    for name in super::board::SOCKETS {
        board.line(&format!("{name}: link up"))?;
    }
    board.line("wan: default route via fe80::2")?;
    board.line("lan1: no DHCP lease")?;
    let healthy = findings(&mut board).during("nothing is wrong but for lan1")?;
    for name in ["wan", "neta0", "switch", "mdio", "cpu"] {
        says(&healthy, name, "ok", "all is well")?;
    }
    says(&healthy, "lan1", "warning", "no DHCP lease")?;

    let mark = board.mark();
    board.faults("partner=wan:100-half,partner=lan1:100-full!")?;
    board.cable(1, false)?;
    board.line_from(mark, "wan: link up, 100 Mb/s half duplex")?;
    board.line_from(mark, "lan0: link down")?;
    board.line_from(mark, "lan1: link up, 100 Mb/s half duplex")?;
    let ill = findings(&mut board).during("partners and a pulled cable")?;
    let mismatch = "partner offers only 100 half: duplex mismatch likely (register 5=0x";
    says(&ill, "wan", "warning", mismatch)?;
    says(&ill, "lan0", "warning", "no link: no cable")?;
    says(&ill, "lan1", "warning", "the partner does not negotiate")?;

    let mark = board.mark();
    board.faults("frame-corrupt=rx:2")?;
    board.line_from(mark, "wan: link up, 1000 Mb/s full duplex")?;
    let service = board.services(0)?.echo_udp;
    let over = AtomicBool::new(false);
    let damaged = thread::scope(|scope| {
        let traffic = || -> Result {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            while !over.load(Ordering::Relaxed) {
                socket.send_to(b"damage me", service)?;
                thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        };
        let sender = scope.spawn(traffic);
        let damaged = findings(&mut board);
        over.store(true, Ordering::Relaxed);
        ensure!(matches!(sender.join(), Ok(Ok(()))), "the sender failed");
        damaged
    })
    .during("damaged frames")?;
    says(
        &damaged,
        "neta0",
        "warning",
        "frames are damaged between switch and MAC",
    )?;
    says(&damaged, "neta0", "warning", "of them just now)")?;

    let mark = board.mark();
    board.type_in("doctor lan9\rdoctor wan lan0\rdoctor -x\r")?;
    board.line_from(mark, "no port of that name")?;
    board.line_from(mark, "usage: doctor [PORT]")?;
    board.sound()
}
