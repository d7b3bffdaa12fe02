//! Damaged frames through `wan`, and frames whose switch tag is damaged on the way to the MAC.

use super::board::{self, Board, Running};
use super::services::served_at_once;
use crate::check::{During, Random, Result, ensure, fail};
use crate::clients;
use crate::damage::{damaged, send_all, templates};
use crate::echo::answers;
use crate::wire::{Wire, http_get};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    Test {
        name: "espressobin-damaged-frames",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 400,
        run: damaged_frames,
    },
    Test {
        name: "espressobin-damaged-tags",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 400,
        run: damaged_tags,
    },
];

/// A board whose `wan` ends here and has the address of the other tests' first guest.
fn wired(cx: &Context) -> Result<(Running, Wire)> {
    let mut board = Board::new(cx)
        .tree(board::tree_of_guest()?)
        .end(0, board::End::Test)
        .append(&board::address(0, "wan"))
        .boot()?;
    let mut wire = board.take_wire(0)?;
    board.line("wan: link up")?;
    answers(&mut wire, "after start")?;
    board.leases(&[1, 2])?;
    Ok((board, wire))
}

fn metric(text: &str, sample: &str) -> Result<u64> {
    let key = format!("ristretto_{sample} ");
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key.as_str()));
    match value.and_then(|value| value.parse().ok()) {
        Some(value) => Ok(value),
        None => fail!("/metrics has no {sample}"),
    }
}

/// Lengths, types, checksums, fragments, options: hundreds of thousands, each counted once, with signs of life between.
fn damaged_frames(cx: &Context) -> Result {
    let (mut board, mut wire) = wired(cx)?;
    let seeds = templates();
    let mut random = Random::new(0xbad);
    for round in 0..cx.scaled(10, 30, 500) {
        send_all(&mut wire, 4_000, || damaged(&seeds, &mut random))?;
        answers(&mut wire, "after damaged frames").during(format!("round {round}"))?;
    }
    served_at_once(&board, &[1, 2], 1)?;
    let before = board.wire_counter("to_mac")?;
    let text = http_get(&mut wire, "/metrics")?;
    let received: Result<Vec<u64>> = board::SOCKETS
        .iter()
        .map(|name| {
            metric(
                &text,
                &format!("interface_rx_frames_total{{interface=\"{name}\"}}"),
            )
        })
        .collect();
    println!("{before} frames to the MAC, {received:?} counted");
    board.sound()?;
    board.untroubled()?;
    let lines = board.console().lines().count();
    ensure!(lines < 250, "damaged frames make it print {lines} lines");
    Ok(())
}

/// One bit of each tag is flipped: the frame is dropped and counted, or taken for another socket's, where nobody wants
/// it. Nothing crosses to another socket's network, and no buffer is lost.
fn damaged_tags(cx: &Context) -> Result {
    let (mut board, mut wire) = wired(cx)?;
    let seeds = templates();
    let mut number = 0;
    for (round, every) in [1, 3, 2, 1].into_iter().enumerate() {
        board.faults(&format!("tag-damage={every}"))?;
        send_all(&mut wire, cx.scaled(5_000, 30_000, 300_000), || {
            number += 1;
            seeds[number % seeds.len()].clone()
        })?;
        board.faults("")?;
        answers(&mut wire, "after damaged tags").during(format!("round {round}"))?;
        served_at_once(&board, &[1, 2], 1).during(format!("round {round}"))?;
    }
    let service = board.services(1)?.http;
    let alive = clients::get(service, "/healthz")?;
    ensure!(alive.code == 200, "/healthz says {}", alive.code);
    board.sound()?;
    board.untroubled()
}
