//! The model of the board: whatever software does to its registers and cables does to it, it neither falls over nor
//! hangs. What it does not know is logged and counted.
//!
//! An input is a program: one byte says what to do, the bytes behind it are the operands (see [`step`]). The first byte
//! chooses the readings of the doubts as well.

use espressobin_model::board::{Board, Config};
use espressobin_model::bus::{Dma, Env, Ram};
use espressobin_model::doubts::{self, Doubts};
use espressobin_model::phy::Partner;

use crate::Target;
use crate::mutate::Rng;

/// See [`target`].
pub const TARGET: Target = Target {
    name: "model",
    run: target,
    iterations: 20_000,
    corpus: &[b"", SOUND, LIVE],
    words: &[
        &[READ, 0x00, 0x20, 0x03],
        &[WRITE, 0x04, 0x20, 0x03, 0x00, 0x00, 0x60, 0x04],
        &[WRITE, 0x00, 0x24, 0x03, 0x01, 0x00, 0x00, 0x00],
        &[WRITE, 0x40, 0x18, 0x03, 0x01, 0x00, 0x00, 0x00],
        &[LATER, 0x10],
        &[LATER, 0xff],
        &[FRAME, 0x00, 0x08, 0x00],
        &[CABLE, 0x01],
        &[START],
        &[RESET],
        // An ordinary frame of 64 bytes, sent by the MAC.
        &[POKE, 0x00, 0x20, 0x00, 0x00, 0x30, 0x00, 0x08, 0x08],
        &[WRITE, 0x60, 0x3c, 0x03, 0x01, 0x00, 0x00, 0x00],
        // Frame mode of the conduit port, a VLAN, an address.
        &[SWITCH, 0x10, 0x04, 0x7f, 0x33],
        &[SWITCH, 0x1b, 0x05, 0x00, 0xb0],
        &[SWITCH, 0x1b, 0x0b, 0x00, 0xb0],
    ],
    mutate,
};

const READ: u8 = 0;
const WRITE: u8 = 1;
const LATER: u8 = 2;
const FRAME: u8 = 3;
const CABLE: u8 = 4;
const SWITCH: u8 = 5;
const POKE: u8 = 6;
const START: u8 = 7;
const RESET: u8 = 8;

/// A read of a PHY through MDIO, some time, a frame, the console's status.
const SOUND: &[u8] = &[
    WRITE, 0x04, 0x20, 0x03, 0x00, 0x00, 0x21, 0x04, LATER, 0x80, READ, 0x04, 0x20, 0x03, CABLE,
    0x01, LATER, 0xff, FRAME, 0x00, 0x08, 0x00, READ, 0x0c, 0x20, 0x01,
];

/// Traffic through a running MAC and switch, both ways.
const LIVE: &[u8] = &[
    START, FRAME, 0x00, 0x08, 0x09, FRAME, 0x01, 0xff, 0x12, POKE, 0x00, 0x20, 0x00, 0x00, 0x30,
    0x00, 0x08, 0x08, WRITE, 0x60, 0x3c, 0x03, 0x01, 0x00, 0x00, 0x00, LATER, 0x40, SWITCH, 0x11,
    0x08, 0x80, 0x2c, FRAME, 0x00, 0x10, 0x1b,
];

const RX_RING: u32 = 0x1000;
const TX_RING: u32 = 0x2000;
const RX_BUFFERS: u32 = 0x1_0000;
const MDIO: u32 = 0x3_2004;
/// The switch's address on MDIO.
const SWITCH_PHY: u32 = 1;

/// The first MAC with a queue of eight descriptors each way, in the order a driver would choose.
const MAC_START: &[(u32, u32)] = &[
    (0x2204, 0xffff_0000),
    (0x2200, 0),
    (0x2290, 0x3e),
    (0x2294, 3),
    (0x2540, 0xffff),
    (0x1cc0, 1),
    (0x3cf0, 1),
    (0x3cf0, 0),
    (0x1cc0, 0),
    (0x2500, 1),
    (0x2400, 0x0200_1001),
    (0x241c, 0x0100_0038),
    (0x25b8, 0xffff),
    (0x1480, RX_RING),
    (0x14a0, 8 | (2048 / 8) << 19),
    (0x14c0, 1),
    (0x1500, 8 << 16),
    (0x3c00, TX_RING),
    (0x3c20, 8),
    (0x3e0c, 1600 * 8),
    (0x2c08, 0xc010),
    (0x2c00, 0x8001 | 760 << 2),
    (0x2c0c, 0x8000 | 1 << 12 | 1 << 8 | 1 << 6 | 2),
    (0x2448, 1),
    (0x2680, 1),
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
    let mut env = Env::default();
    env.doubts = readings(data.first().map_or(0, |first| first >> 4 & 7));
    let mut board = Board::new(config, env);
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

/// The default reading of every doubt for 0, the last of each for 7, and of every sixth for those between.
fn readings(choice: u8) -> Doubts {
    let mut doubts = Doubts::default();
    for (n, doubt) in doubts::all().enumerate() {
        if let (true, Some(last)) = (
            choice == 7 || n % 6 + 1 == usize::from(choice),
            doubt.readings.last(),
        ) {
            // Its own name and reading are known to it.
            let _ = doubts.set(doubt.name, last);
        }
    }
    doubts
}

fn step(board: &mut Board, ram: &mut Ram, operation: u8, rest: &mut &[u8]) {
    let mut byte = || {
        let (first, others) = rest.split_first().unwrap_or((&0, &[]));
        *rest = others;
        u32::from(*first)
    };
    let size = [4, 4, 4, 1, 2, 8][usize::from(operation >> 4) % 6];
    match operation & 15 {
        WRITE => {
            let offset = byte() | byte() << 8 | byte() << 16;
            let value = byte() | byte() << 8 | byte() << 16 | byte() << 24;
            board.write(ram, offset, size, u64::from(value) << 32 | u64::from(value));
        }
        // From a microsecond to a quarter of a second.
        LATER => later(board, ram, 4_000 * u64::from(byte() + 1).pow(2)),
        FRAME => {
            let (socket, len, kind) = (byte() as usize % 3, byte() as usize * 8, byte());
            board.frame_in(ram, socket, &frame(len, kind as usize));
        }
        CABLE => {
            let operand = byte() as usize;
            let partner = (operand & 1 != 0).then_some(Partner::GIGABIT);
            board.set_cable(operand >> 1 & 1, partner);
        }
        SWITCH => {
            let (device, register) = (byte() & 31, byte() & 31);
            let value = byte() | byte() << 8;
            let command = 0x9000 | device << 5 | register;
            if operation & 0x10 == 0 {
                mdio(board, ram, 1 << 21 | value);
                mdio(board, ram, command | 0x400);
            } else {
                mdio(board, ram, command | 0x800);
                mdio(board, ram, 1 << 26 | 1 << 21);
            }
        }
        POKE => {
            // What is likely a descriptor: command, length, buffer.
            let at = byte() | byte() << 8;
            let command = byte() | byte() << 8 | byte() << 16 | byte() << 24;
            let (len, buffer) = (byte() * 8, byte() << 13);
            for (n, word) in [command, len << 16, buffer].into_iter().enumerate() {
                ram.write(u64::from(at) + 4 * n as u64, &word.to_le_bytes());
            }
        }
        START => {
            for n in 0..8 {
                let buffer = RX_BUFFERS + 2048 * n;
                ram.write(u64::from(RX_RING + 32 * n + 8), &buffer.to_le_bytes());
            }
            for (offset, value) in MAC_START {
                board.write(ram, 0x3_0000 + offset, 4, u64::from(*value));
            }
            for socket in 0..3 {
                board.set_cable(socket, Some(Partner::GIGABIT));
            }
            for _ in 0..20 {
                later(board, ram, 250_000_000);
            }
        }
        RESET => board.reset(),
        _ => {
            let offset = byte() | byte() << 8 | byte() << 16;
            board.read(ram, offset, size);
        }
    }
}

/// Time passes, with whatever is due on the way.
fn later(board: &mut Board, ram: &mut Ram, time: u64) {
    let until = board.env.now + time;
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

/// One frame on MDIO: operation, register and data.
fn mdio(board: &mut Board, ram: &mut Ram, frame: u32) {
    board.write(ram, MDIO, 4, u64::from(frame | SWITCH_PHY << 16));
    later(board, ram, 100_000);
    board.read(ram, MDIO, 4);
}

/// One of eight destinations and one of eight protocols, mostly those that somebody treats specially.
fn frame(len: usize, kind: usize) -> Vec<u8> {
    const TO: [[u8; 6]; 8] = [
        [0xff; 6],
        [2, 0, 0, 0, 0, 1],
        [2, 0, 0, 0, 0, 2],
        [0x01, 0x80, 0xc2, 0, 0, 0],
        [0x01, 0x80, 0xc2, 0, 0, 1],
        [0x01, 0, 0x5e, 0, 0, 1],
        [0x33, 0x33, 0, 0, 0, 1],
        [0; 6],
    ];
    const TYPES: [[u8; 4]; 8] = [
        [0x08, 0x00, 0x45, 0],
        [0x81, 0x00, 0x20, 0x05],
        [0x81, 0x00, 0, 0],
        [0x88, 0x08, 0, 1],
        [0xda, 0xda, 0, 0],
        [0x86, 0xdd, 0x60, 0],
        [0xc0, 0x08, 0x0f, 0xff],
        [0x88, 0x63, 0, 0],
    ];
    let mut frame: Vec<u8> = (0..len).map(|at| (at * 7 + kind) as u8).collect();
    let head = [
        &TO[kind & 7][..],
        &[2, 0, 0, 0, 0, (kind >> 6) as u8],
        &TYPES[kind >> 3 & 7],
    ]
    .concat();
    for (byte, value) in frame.iter_mut().zip(head) {
        *byte = value;
    }
    frame
}

/// More steps, mostly where something is: MAC, MDIO, pins, clocks, watchdog, console, and the switch behind MDIO.
fn mutate(input: &mut Vec<u8>, rng: &mut Rng) {
    const BLOCKS: [u32; 8] = [
        0x3_0000, 0x3_2000, 0x3_2400, 0x3_1400, 0x1_2000, 0x1_3800, 0x0_8300, 0x1_8600,
    ];
    match rng.below(4) {
        0 => input.push(START),
        // A reset as the first step does nothing but choose readings.
        1 => input.insert(0, RESET | (rng.below(8) as u8) << 4),
        _ => {}
    }
    for _ in 0..1 + rng.below(32) {
        let block = BLOCKS[rng.below(BLOCKS.len())];
        let [low, middle, high, _] = (block + rng.below(0x100) as u32 * 4).to_le_bytes();
        let value = rng.bits().to_le_bytes();
        match rng.below(12) {
            0..4 => {
                input.extend([WRITE, low, middle, high]);
                input.extend(&value[..4]);
            }
            4 => input.extend([READ, low, middle, high]),
            5 => input.extend([LATER, value[0]]),
            6 => {
                // A descriptor of the transmit queue, of a whole frame as often as not, and its doorbell.
                input.extend([POKE, value[0] & 0xe0, 0x20]);
                input.extend([value[1], 0, value[2] | 0x30, 0, value[3], value[4] & 0x7f]);
                input.extend([WRITE, 0x60, 0x3c, 0x03, value[5] & 3, 0, 0, 0]);
            }
            // Ports and the global registers, not the addresses between.
            7..10 => {
                let device = [0x10, 0x11, 0x12, 0x13, 0x1b, 0x1c][rng.below(6)];
                input.extend([SWITCH | value[0] & 0x10, device]);
                input.extend(&value[1..4]);
            }
            _ => input.extend([FRAME, value[0], value[1], value[2]]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_machine_passes_frames_both_ways() {
        let mut ram = Ram::new(RAM_BYTES);
        let config = Config {
            ram_bytes: RAM_BYTES as u64,
            ..Config::default()
        };
        let mut board = Board::new(config, Env::default());
        let mut rest = LIVE;
        while let Some((operation, operands)) = rest.split_first() {
            rest = operands;
            step(&mut board, &mut ram, *operation, &mut rest);
        }
        let counters = board.wire_counters;
        assert!(counters.to_mac > 0 && counters.from_mac > 0, "{counters:?}");
        assert!(counters.to_sockets > 0, "{counters:?}");
    }
}
