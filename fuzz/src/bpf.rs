//! Filter programs from outside, checked and run on frames.

use firmware::capture::Order;
use hal::net::bpf::{MAX_INSTRUCTIONS, Program};

use crate::Target;
use crate::mutate::{INTERESTING, Rng};

/// See [`target`].
pub const TARGET: Target = Target {
    name: "bpf",
    run: target,
    iterations: 40_000,
    corpus: &[
        // udp port 7
        b"002800000000000c00150006000086dd00300000000000140015000f00000011002800000000003600150c00000000070028000000000038\
          00150a0b0000000700150 00a0000080000300000000000170015000800000011002800000000001400450600 00001fff00b100000000000e\
          004800000000000e00150200000000070048000000000010001500010000000700060000000400000006000000000000\n\
          \x02\0\0\0\0\x01\x02\0\0\0\0\x02\x08\0\x45\0\0\x24\0\0\x40\0\x40\x11\0\0\x0a\0\0\x01\x0a\0\0\x02\x04\0\0\x07\0\x10\0\0",
        // scratch memory, arithmetic, every kind of jump
        b"000000000000000900020000000000030061000000000003000c00000000000000240000000000070034000000000003\
          0045010000000001002500010000000500050000000000000007000000000000008700000000000000160000000000 00\n1234",
        b"if=wan&snaplen=96&count=3&filter=0006000000000001&text=udp+port%207&ticket=00\n",
    ],
    words: &[
        b"00280000", b"00150001", b"000500000000", b"0006000000040000", b"0016000000000000", b"00b1", b"0060", b"0003",
        b"0034", b"0094", b"fffff004", b"ffffffff", b"if=", b"snaplen=", b"count=", b"filter=", b"text=", b"%", b"&", b"\n",
    ],
    mutate,
};

/// Digits of one number are replaced, or an instruction comes twice.
fn mutate(input: &mut Vec<u8>, rng: &mut Rng) {
    if rng.below(4) == 0 {
        let at = rng.below(input.len() / 16) * 16;
        let instruction: Vec<u8> = input.iter().skip(at).take(16).copied().collect();
        input.splice(..0, instruction);
        return;
    }
    let digits = match rng.below(3) {
        0 => format!("{:08x}", INTERESTING[rng.below(INTERESTING.len())]),
        1 => format!("{:02x}", rng.below(256)),
        // A code that some instruction has.
        _ => format!("{:04x}", rng.below(0xb2)),
    };
    let at = rng.below(input.len() / digits.len().max(1)) * digits.len();
    if let Some(place) = input.get_mut(at..at + digits.len()) {
        place.copy_from_slice(digits.as_bytes());
    }
}

/// A line of digits, or of a query, and a frame behind it.
///
/// # Panics
///
/// If a program that was accepted does not say the same of one frame twice.
pub fn target(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n');
    let (line, frame) = data.split_at(end.unwrap_or(data.len()));
    if let Ok(Ok(order)) = str::from_utf8(line).map(Order::parse) {
        assert!(order.snaplen > 0 && order.count > 0);
    }
    let digits: Vec<u8> = line.iter().copied().filter(|byte| *byte != b' ').collect();
    let Ok(program) = Program::parse(&digits) else {
        return;
    };
    assert!(!program.is_empty() && digits.len() <= 16 * MAX_INSTRUCTIONS);
    for frame in [frame, &[], &[0xff; 1514]] {
        for sent in [false, true] {
            let wanted = program.run(frame, sent);
            assert_eq!(wanted, program.run(frame, sent));
        }
    }
}
