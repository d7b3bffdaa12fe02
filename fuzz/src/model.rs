//! The model of the board: whatever software does to its registers and cables does to it, it neither falls over nor
//! hangs. What it does not know is logged and counted.
//!
//! An input is a program: one byte says what to do, the bytes behind it are the operands (see [`step`]).

use espressobin_model::board::{Board, Config};
use espressobin_model::bus::{Env, Ram};
use espressobin_model::phy::Partner;

use crate::Target;
use crate::mutate::Rng;

/// See [`target`].
pub const TARGET: Target = Target {
    name: "model",
    run: target,
    iterations: 20_000,
    corpus: &[b"", SOUND],
    words: &[
        &[READ, 0x00, 0x20, 0x03],
        &[WRITE, 0x04, 0x20, 0x03, 0x00, 0x00, 0x60, 0x04],
        &[WRITE, 0x00, 0x24, 0x03, 0x01, 0x00, 0x00, 0x00],
        &[WRITE, 0x40, 0x18, 0x03, 0x01, 0x00, 0x00, 0x00],
        &[LATER, 0x10],
        &[LATER, 0xff],
        &[FRAME, 0x00, 0x40],
        &[CABLE, 0x01],
    ],
    mutate,
};

const READ: u8 = 0;
const WRITE: u8 = 1;
const LATER: u8 = 2;
const FRAME: u8 = 3;
const CABLE: u8 = 4;

/// A read of a PHY through MDIO, some time, a frame, the console's status.
const SOUND: &[u8] = &[
    WRITE, 0x04, 0x20, 0x03, 0x00, 0x00, 0x21, 0x04, LATER, 0x80, READ, 0x04, 0x20, 0x03, CABLE,
    0x01, LATER, 0xff, FRAME, 0x00, 0x40, READ, 0x0c, 0x20, 0x01,
];

/// Small enough that most addresses are outside.
const RAM_BYTES: usize = 1 << 20;

/// Runs one program. Every step ends, and every access to nothing is counted.
pub fn target(data: &[u8]) {
    let mut ram = Ram::new(RAM_BYTES);
    let config = Config {
        ram_bytes: RAM_BYTES as u64,
        ..Config::default()
    };
    let mut board = Board::new(config, Env::default());
    let mut rest = data;
    while let Some((operation, operands)) = rest.split_first() {
        rest = operands;
        step(&mut board, &mut ram, *operation, &mut rest);
        // A host takes what comes out; the log must not grow without it.
        while board.take_frame().is_some() {}
        board.env.take_guest_errors();
        board.uart0.sent.clear();
    }
    let before = board.env.guest_error_count();
    board.read(&mut ram, 0x0100_0000, 4);
    board.write(&mut ram, 0x0100_0000, 4, 1);
    assert_eq!(board.env.guest_error_count(), before + 2);
}

fn step(board: &mut Board, ram: &mut Ram, operation: u8, rest: &mut &[u8]) {
    let mut byte = || {
        let (first, others) = rest.split_first().unwrap_or((&0, &[]));
        *rest = others;
        u32::from(*first)
    };
    let size = [4, 4, 4, 1, 2, 8][usize::from(operation >> 3) % 6];
    match operation & 7 {
        READ | 5 => {
            let offset = byte() | byte() << 8 | byte() << 16;
            board.read(ram, offset, size);
        }
        WRITE | 6 => {
            let offset = byte() | byte() << 8 | byte() << 16;
            let value = byte() | byte() << 8 | byte() << 16 | byte() << 24;
            board.write(ram, offset, size, u64::from(value) << 32 | u64::from(value));
        }
        LATER => {
            // From a microsecond to a quarter of a second, and whatever is due on the way.
            let until = board.env.now + 1_000 * u64::from(byte() + 1).pow(2) * 4;
            for _ in 0..64 {
                let Some(due) = board.next_event().filter(|due| *due <= until) else {
                    break;
                };
                board.set_time(due);
                board.advance(ram);
            }
            board.set_time(until);
            board.advance(ram);
        }
        FRAME => {
            let (socket, len) = (byte() as usize % 3, byte() as usize * 8);
            let frame: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
            board.frame_in(ram, socket, &frame);
        }
        CABLE => {
            let operand = byte() as usize;
            let partner = (operand & 1 != 0).then_some(Partner::GIGABIT);
            board.set_cable(operand >> 1 & 1, partner);
        }
        _ => board.reset(),
    }
}

/// Another access, mostly where something is: MAC, MDIO, pins, clocks, watchdog, console.
fn mutate(input: &mut Vec<u8>, rng: &mut Rng) {
    const BLOCKS: [u32; 8] = [
        0x3_0000, 0x3_2000, 0x3_2400, 0x3_1400, 0x1_2000, 0x1_3800, 0x0_8300, 0x1_8600,
    ];
    for _ in 0..1 + rng.below(32) {
        let block = BLOCKS[rng.below(BLOCKS.len())];
        let [low, middle, high, _] = (block + rng.below(0x100) as u32 * 4).to_le_bytes();
        match rng.below(8) {
            0..5 => {
                let value = rng.bits().to_le_bytes();
                input.extend([WRITE, low, middle, high]);
                input.extend(&value[..4]);
            }
            5 => input.extend([READ, low, middle, high]),
            6 => input.extend([LATER, rng.below(256) as u8]),
            _ => input.extend([FRAME, rng.below(3) as u8, rng.below(256) as u8]),
        }
    }
}
