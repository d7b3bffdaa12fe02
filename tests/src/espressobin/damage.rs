//! Damaged frames through `wan`, and frames whose switch tag is damaged on the way to the MAC.

use super::board::{self, Board, Running};
use super::services::served_at_once;
use crate::check::{During, Random, Result, ensure};
use crate::clients::{self, curl};
use crate::damage::{damaged, send_all, templates};
use crate::drops::books_balance;
use crate::echo::answers;
use crate::wire::Wire;
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

/// Every frame that the switch sent to the MAC is in one of the counters. Returns how many the MAC saw and nobody took
/// or dropped: those that its filter keeps out, and a few on their way.
pub fn accounted(board: &mut Running) -> Result<u64> {
    let before = board.wire_counter("to_mac")?;
    let metrics = curl(&[&format!("http://{}/metrics", board.services(1)?.http)])?;
    let after = board.wire_counter("to_mac")?;
    let device = |name: &str| clients::family(&metrics, &format!("device_{name}_total"));
    let seen = device("mib_rx_good") + device("mib_rx_bad");
    // Software filters where the MAC's cannot tell addresses or VLANs apart.
    let filtered: u64 = ["rx_other_station", "rx_other_vlan"]
        .iter()
        .map(|name| clients::family(&metrics, &format!("interface_{name}_total")))
        .sum();
    let dropped = filtered + DROPS.iter().map(|name| device(name)).sum::<u64>();
    let taken = clients::family(&metrics, "interface_rx_frames_total");
    println!("{before} frames to the MAC, {seen} seen there, {taken} taken, {dropped} dropped");
    for name in DROPS.iter().filter(|name| device(name) > 0) {
        println!("{name}: {}", device(name));
    }
    ensure!(
        (before..=after).contains(&seen),
        "{before} to {after} frames sent to the MAC, which counts {seen}"
    );
    books_balance(&metrics)?;
    ensure!(
        taken + dropped <= seen,
        "{seen} frames at the MAC, {taken} taken and {dropped} dropped"
    );
    Ok(seen - taken - dropped)
}

/// Ways to lose a received frame.
const DROPS: &[&str] = &[
    "rx_discard",
    "rx_fifo_overrun",
    "rx_crc",
    "rx_overrun",
    "rx_too_long",
    "rx_no_resource",
    "rx_part",
    "rx_runt",
    "rx_bad_length",
    "rx_queue_full",
    "tag_short",
    "tag_missing",
    "tag_from_cpu",
    "tag_sniffer",
    "tag_rmu",
    "tag_code",
    "tag_device",
    "tag_port",
    "tag_trunk",
];

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
    let kept_out = accounted(&mut board)?;
    println!("{kept_out} kept out by the filter");
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
    let missing = accounted(&mut board)?;
    ensure!(
        missing < 1000,
        "{missing} frames are neither taken nor counted as lost"
    );
    board.sound()?;
    board.untroubled()
}
