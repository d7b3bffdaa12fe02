//! How fast the model is on this host: frames from the MAC's ring through the switch to the sockets and back, and
//! register accesses. `cargo run --release -p espressobin-model --example speed`
//!
//! With `reads`, `out` or `in` and a number behind it: so many register reads, or frames of 60 bytes, and nothing else,
//! for a tool that counts instructions.

use espressobin_model::board::{Board, Config};
use espressobin_model::bus::{Dma, Env, Ram};
use espressobin_model::phy::Partner;
use std::time::Instant;

const NETA: u32 = 0x3_0000;
const RX_RING: u64 = 0x1000;
const TX_RING: u64 = 0x2000;
const BUFFERS: u64 = 0x1_0000;
const RING: u32 = 64;
const ROUNDS: u32 = 100_000;

fn main() {
    let mut ram = Ram::new(1 << 20);
    let config = Config {
        ram_bytes: 1 << 20,
        ..Config::default()
    };
    let mut board = Board::new(config, Env::default());
    board.set_cable(0, Some(Partner::GIGABIT));
    // Long enough for the link.
    board.set_time(10_000_000_000);
    board.advance(&mut ram);

    let write = |board: &mut Board, ram: &mut Ram, offset: u32, value: u32| {
        board.write(ram, NETA + offset, 4, u64::from(value));
    };
    for (offset, value) in [
        (0x2204, 0xffff_0000),
        (0x2290, 0x3e),
        (0x2294, 3),
        (0x2500, 1),
        (0x2400, 1),
        (0x241c, 0x0100_0038),
        (0x1480, RX_RING as u32),
        (0x14a0, RING | 256 << 19),
        (0x3c00, TX_RING as u32),
        (0x3c20, RING),
        (0x2c08, 0xc010),
        (0x2c00, 0x8001 | 760 << 2),
        (0x2c0c, 0x8000 | 1 << 12 | 1 << 6 | 2),
        (0x2448, 1),
        (0x2680, 1),
    ] {
        write(&mut board, &mut ram, offset, value);
    }
    for n in 0..u64::from(RING) {
        ram.write(RX_RING + 32 * n + 8, &(BUFFERS as u32).to_le_bytes());
    }

    let only = std::env::args().nth(1);
    let wanted = |what: &str| only.as_deref().is_none_or(|only| only == what);
    let count = std::env::args().nth(2).and_then(|count| count.parse().ok());
    let rounds = count.unwrap_or(ROUNDS);
    let report = |what: &str, start: Instant| {
        let rate = f64::from(rounds) / start.elapsed().as_secs_f64();
        println!("{what}: {rate:.0} a second");
    };
    for len in [60_u32, 1514] {
        if only.is_some() && len > 60 {
            break;
        }
        let mut frame = vec![0xff; len as usize];
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        ram.write(BUFFERS, &frame);
        for n in 0..u64::from(RING) {
            let at = TX_RING + 32 * n;
            ram.write(at, &0x8038_0000_u32.to_le_bytes());
            ram.write(at + 4, &(len << 16).to_le_bytes());
            ram.write(at + 8, &(BUFFERS as u32).to_le_bytes());
        }
        let mut sent = 0;
        let start = Instant::now();
        for _ in 0..if wanted("out") { rounds } else { 0 } {
            write(&mut board, &mut ram, 0x3c60, 1);
            write(&mut board, &mut ram, 0x3c60, 1 << 16);
            while board.take_frame().is_some() {
                sent += 1;
            }
        }
        report(
            &format!("{len} bytes, ring to sockets ({sent} left)"),
            start,
        );

        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
        let start = Instant::now();
        let mut received = 0;
        for _ in 0..if wanted("in") { rounds } else { 0 } {
            write(&mut board, &mut ram, 0x1500, 1 << 16);
            board.frame_in(&mut ram, 0, &frame);
            let occupied = board.read(&mut ram, NETA + 0x14e0, 4) as u32 & 0x3fff;
            received += occupied;
            write(&mut board, &mut ram, 0x1500, occupied);
        }
        report(
            &format!("{len} bytes, socket to ring ({received} arrived)"),
            start,
        );
    }
    let start = Instant::now();
    for _ in 0..if wanted("reads") { rounds } else { 0 } {
        board.read(&mut ram, NETA + 0x2c10, 4);
    }
    report("register reads", start);
    for error in board.env.take_guest_errors().iter().take(3) {
        println!("guest error: {}", error.what);
    }
}
