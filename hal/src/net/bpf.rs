//! Filters: classic BPF programs from outside, checked once and run for each frame.
//!
//! ```text
//!   40 0 0 12          A = half-word at 12                 one instruction: code, jt, jf, k
//!   21 0 8 2048        if A == 0x0800 go on, else 8 ahead
//! ```
//!
//! A checked program ends: it has at most [`MAX_INSTRUCTIONS`], its jumps go forward and stay inside, its last instruction
//! returns. Whatever a frame holds, running it costs at most one step for each instruction; a load beyond the frame's
//! end, or a division by zero, refuses the frame.
//!
//! [`Program::judge`] also tells which bytes the verdict followed from: whoever sees the same ones again knows it.
//!
//! Spec: McCanne and Jacobson, "The BSD Packet Filter" (1993); FreeBSD `bpf(4)`.

use heapless::Vec;

/// Longest program: it has to fit in a request line.
pub const MAX_INSTRUCTIONS: usize = 224;
/// Hexadecimal digits of an instruction: code 4, jt 2, jf 2, k 8.
const DIGITS: usize = 16;
/// Bytes of an Ethernet frame's addresses.
const ADDRESSES: u32 = 12;
/// How many bytes of a frame can be told of as [evidence](Program::judge): no Ethernet frame on a wire has fewer.
pub const HEAD: usize = 60;
/// In a set of bytes: others than those, or the length.
const MORE: u64 = 1 << HEAD;
/// Words of scratch memory.
const SCRATCH: usize = 16;
/// A load from here tells what Linux calls the packet's type; libpcap asks so for `inbound` and `outbound`.
/// Spec: Linux, `SKF_AD_OFF + SKF_AD_PKTTYPE`.
const PACKET_TYPE: u32 = 0xffff_f004;
/// Loads from here on are questions to Linux.
const EXTENSIONS: u32 = 0xffff_f000;
/// The packet's type of what is sent. Spec: Linux, `PACKET_OUTGOING`.
const OUTGOING: u32 = 4;

/// The classes of instructions that have [`BY_X`].
const ALU: u16 = 4;
const JMP: u16 = 5;
/// In those: the other operand is X, not k.
const BY_X: u16 = 0x08;

/// Why a program is not accepted. The number is that of the instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not hexadecimal digits, sixteen for each instruction.
    Digits,
    /// More than [`MAX_INSTRUCTIONS`], or none.
    Length,
    /// There is no such instruction.
    Code(usize),
    /// A jump beyond the end.
    Jump(usize),
    /// There is no such word of scratch memory.
    Scratch(usize),
    /// A division by zero, or a shift by more than a word.
    Operand(usize),
    /// The last instruction does not return.
    Open,
}

/// What a step does. The order is the one in which the compiler lays out its table of places to jump to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    LoadWord,
    LoadHalf,
    LoadByte,
    LoadWordAt,
    LoadHalfAt,
    LoadByteAt,
    /// X = the length of an IPv4 header.
    HeaderLen,
    IfEqual,
    IfGreater,
    IfNotLess,
    IfAnyBit,
    Jump,
    Return,
    ReturnA,
    Set,
    SetX,
    Len,
    LenX,
    Recall,
    RecallX,
    Store,
    StoreX,
    ToX,
    FromX,
    PacketType,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Or,
    And,
    Xor,
    Left,
    Right,
    Negate,
}

/// Their codes, without [`BY_X`].
const OPS: [(u8, Op); 35] = [
    (0x20, Op::LoadWord),
    (0x28, Op::LoadHalf),
    (0x30, Op::LoadByte),
    (0x40, Op::LoadWordAt),
    (0x48, Op::LoadHalfAt),
    (0x50, Op::LoadByteAt),
    (0xb1, Op::HeaderLen),
    (0x15, Op::IfEqual),
    (0x25, Op::IfGreater),
    (0x35, Op::IfNotLess),
    (0x45, Op::IfAnyBit),
    (0x05, Op::Jump),
    (0x06, Op::Return),
    (0x16, Op::ReturnA),
    (0x00, Op::Set),
    (0x01, Op::SetX),
    (0x80, Op::Len),
    (0x81, Op::LenX),
    (0x60, Op::Recall),
    (0x61, Op::RecallX),
    (0x02, Op::Store),
    (0x03, Op::StoreX),
    (0x07, Op::ToX),
    (0x87, Op::FromX),
    (0x04, Op::Add),
    (0x14, Op::Sub),
    (0x24, Op::Mul),
    (0x34, Op::Div),
    (0x94, Op::Mod),
    (0x44, Op::Or),
    (0x54, Op::And),
    (0xa4, Op::Xor),
    (0x64, Op::Left),
    (0x74, Op::Right),
    (0x84, Op::Negate),
];

/// An instruction that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    op: Op,
    /// The other operand is X, not k.
    by_x: bool,
    jt: u8,
    jf: u8,
    k: u32,
}

/// A program that was checked. The empty one accepts everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program(Vec<Step, MAX_INSTRUCTIONS>);

impl Program {
    /// Reads a program from hexadecimal digits, and checks it.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(digits: &[u8]) -> Result<Self, Error> {
        let (instructions, rest) = digits.as_chunks::<DIGITS>();
        if !rest.is_empty() {
            return Err(Error::Digits);
        }
        let last = instructions.len().wrapping_sub(1);
        if last >= MAX_INSTRUCTIONS {
            return Err(Error::Length);
        }
        let mut program = Vec::new();
        for (at, digits) in instructions.iter().enumerate() {
            let mut bits = 0_u64;
            for digit in digits {
                let value = char::from(*digit).to_digit(16).ok_or(Error::Digits)?;
                bits = bits << 4 | u64::from(value);
            }
            let step = Step::check(bits, at, last - at)?;
            program.push(step).map_err(|_| Error::Length)?;
        }
        match program.last().map(|step| step.op) {
            Some(Op::Return | Op::ReturnA) => Ok(Program(program)),
            _ => Err(Error::Open),
        }
    }

    /// Makes it see frames as if `gap` bytes after the addresses were not there: a switch tag.
    ///
    /// A load with an index is moved by its fixed part, which is where libpcap has the begin of a header.
    pub fn skip(&mut self, gap: usize) {
        for Step { op, k, .. } in &mut self.0 {
            if *op as u8 <= Op::HeaderLen as u8 && *k >= ADDRESSES {
                *k = k.saturating_add(gap as u32);
            }
        }
    }

    /// Whether there is none: everything is accepted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes of `frame` to keep, 0 if it is not wanted. `sent`: it leaves.
    pub fn run(&self, frame: &[u8], sent: bool) -> u32 {
        self.judge(frame, sent).0
    }

    /// The same, and what that follows from: the verdict is this for all frames with the same direction and the same of
    /// these bytes, a bit for each, that have at least [`HEAD`]. `None` if it also follows from others, or from the length.
    #[inline(never)]
    pub fn judge(&self, frame: &[u8], sent: bool) -> (u32, Option<u64>) {
        let mut read = 0;
        let verdict = match self.0.is_empty() {
            true => u32::MAX,
            false => self.interpret(frame, sent, &mut read).unwrap_or(0),
        };
        (verdict, (read < MORE).then_some(read))
    }

    /// `None`: a load from beyond the frame, or a division by zero.
    #[inline(always)]
    fn interpret(&self, frame: &[u8], sent: bool, read: &mut u64) -> Option<u32> {
        let (mut a, mut x, mut scratch) = (0_u32, 0_u32, [0_u32; SCRATCH]);
        let mut rest = self.0.as_slice();
        // What is left gets shorter with every step.
        while let Some((step, after)) = rest.split_first() {
            let k = step.k;
            rest = after;
            let operand = if step.by_x { x } else { k };
            let (at, indirect) = (k as usize, x as usize + k as usize);
            let mut branch = |taken: bool| {
                let by = if taken { step.jt } else { step.jf };
                rest = after.get(usize::from(by)..).unwrap_or_default();
            };
            match step.op {
                Op::LoadWord => a = word(frame, at, read)?,
                Op::LoadHalf => a = half(frame, at, read)?,
                Op::LoadByte => a = byte(frame, at, read)?,
                Op::LoadWordAt => a = word(frame, indirect, read)?,
                Op::LoadHalfAt => a = half(frame, indirect, read)?,
                Op::LoadByteAt => a = byte(frame, indirect, read)?,
                Op::HeaderLen => x = (byte(frame, at, read)? & 0xf) * 4,
                Op::IfEqual => branch(a == operand),
                Op::IfGreater => branch(a > operand),
                Op::IfNotLess => branch(a >= operand),
                Op::IfAnyBit => branch(a & operand != 0),
                Op::Jump => rest = after.get(at..).unwrap_or_default(),
                Op::Return => return Some(k),
                Op::ReturnA => return Some(a),
                Op::Set => a = k,
                Op::SetX => x = k,
                Op::Len => (a, *read) = (frame.len() as u32, *read | MORE),
                Op::LenX => (x, *read) = (frame.len() as u32, *read | MORE),
                Op::Recall => a = *scratch.get(at)?,
                Op::RecallX => x = *scratch.get(at)?,
                Op::Store => *scratch.get_mut(at)? = a,
                Op::StoreX => *scratch.get_mut(at)? = x,
                Op::ToX => x = a,
                Op::FromX => a = x,
                Op::PacketType => a = if sent { OUTGOING } else { 0 },
                Op::Add => a = a.wrapping_add(operand),
                Op::Sub => a = a.wrapping_sub(operand),
                Op::Mul => a = a.wrapping_mul(operand),
                Op::Div => a = a.checked_div(operand)?,
                Op::Mod => a = a.checked_rem(operand)?,
                Op::Or => a |= operand,
                Op::And => a &= operand,
                Op::Xor => a ^= operand,
                Op::Left => a = a.checked_shl(operand).unwrap_or(0),
                Op::Right => a = a.checked_shr(operand).unwrap_or(0),
                Op::Negate => a = a.wrapping_neg(),
            }
        }
        None
    }
}

impl Step {
    /// Instruction number `at`, with `left` behind it: code 16, jt 8, jf 8, k 32 bits.
    fn check(bits: u64, at: usize, left: usize) -> Result<Self, Error> {
        let [high, low, jt, jf, ..] = bits.to_be_bytes();
        let (code, k) = (u16::from_be_bytes([high, low]), bits as u32);
        let by_x = code & BY_X != 0 && matches!(code & 7, ALU | JMP);
        let code = code & !(if by_x { BY_X } else { 0 });
        let known = OPS.iter().find(|(known, _)| u16::from(*known) == code);
        let mut op = match known {
            Some((_, op)) if !by_x || !matches!(op, Op::Jump | Op::Negate) => *op,
            _ => return Err(Error::Code(at)),
        };
        if matches!(op, Op::LoadWord | Op::LoadHalf | Op::LoadByte) && k == PACKET_TYPE {
            op = Op::PacketType;
        }
        let farthest = match op {
            Op::Jump => Some(k as usize),
            Op::IfEqual | Op::IfGreater | Op::IfNotLess | Op::IfAnyBit => Some(jt.max(jf).into()),
            _ => None,
        };
        let sound = match op {
            Op::LoadWord | Op::LoadHalf | Op::LoadByte => k < EXTENSIONS,
            Op::Div | Op::Mod => by_x || k != 0,
            Op::Left | Op::Right => by_x || k < 32,
            _ => true,
        };
        let scratch = matches!(op, Op::Recall | Op::RecallX | Op::Store | Op::StoreX);
        match () {
            () if farthest.is_some_and(|by| by >= left) => Err(Error::Jump(at)),
            () if !sound => Err(Error::Operand(at)),
            () if scratch && k as usize >= SCRATCH => Err(Error::Scratch(at)),
            () => Ok(Step {
                op,
                by_x,
                jt,
                jf,
                k,
            }),
        }
    }
}

#[inline(always)]
fn byte(frame: &[u8], at: usize, read: &mut u64) -> Option<u32> {
    load::<1>(frame, at, read).map(|byte| byte[0].into())
}

#[inline(always)]
fn half(frame: &[u8], at: usize, read: &mut u64) -> Option<u32> {
    load(frame, at, read).map(|half| u16::from_be_bytes(*half).into())
}

#[inline(always)]
fn word(frame: &[u8], at: usize, read: &mut u64) -> Option<u32> {
    load(frame, at, read).map(|word| u32::from_be_bytes(*word))
}

#[inline(always)]
fn load<'a, const N: usize>(frame: &'a [u8], at: usize, read: &mut u64) -> Option<&'a [u8; N]> {
    *read |= match at + N <= HEAD {
        true => ((1 << N) - 1) << at,
        false => MORE,
    };
    frame.get(at..)?.first_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::capture::Direction;
    use crate::net::verdicts::{Head, Verdicts};

    const LD_IMM: u16 = 0x00;
    const LD_ABS_W: u16 = 0x20;
    const LD_ABS_H: u16 = 0x28;
    const LD_ABS_B: u16 = 0x30;
    const LD_IND_W: u16 = 0x40;
    const LD_IND_H: u16 = 0x48;
    const LD_IND_B: u16 = 0x50;
    const LD_MEM: u16 = 0x60;
    const LD_LEN: u16 = 0x80;
    const LDX_IMM: u16 = 0x01;
    const LDX_MEM: u16 = 0x61;
    const LDX_LEN: u16 = 0x81;
    const LDX_MSH: u16 = 0xb1;
    const ST: u16 = 0x02;
    const STX: u16 = 0x03;
    const ADD: u16 = 0x04;
    const SUB: u16 = 0x14;
    const MUL: u16 = 0x24;
    const DIV: u16 = 0x34;
    const OR: u16 = 0x44;
    const AND: u16 = 0x54;
    const LSH: u16 = 0x64;
    const RSH: u16 = 0x74;
    const NEG: u16 = 0x84;
    const MOD: u16 = 0x94;
    const XOR: u16 = 0xa4;
    const JA: u16 = 0x05;
    const JEQ: u16 = 0x15;
    const JGT: u16 = 0x25;
    const JGE: u16 = 0x35;
    const JSET: u16 = 0x45;
    const RET_K: u16 = 0x06;
    const RET_A: u16 = 0x16;
    const TAX: u16 = 0x07;
    const TXA: u16 = 0x87;

    /// Code, jt, jf, k.
    type Instruction = (u16, u8, u8, u32);

    fn check(program: &[Instruction]) -> Result<Program, Error> {
        let digits =
            |(code, jt, jf, k): &Instruction| std::format!("{code:04x}{jt:02x}{jf:02x}{k:08x}");
        Program::parse(
            program
                .iter()
                .map(digits)
                .collect::<std::string::String>()
                .as_bytes(),
        )
    }

    fn run(program: &[Instruction], frame: &[u8]) -> u32 {
        check(program).unwrap().run(frame, false)
    }

    /// `tcpdump -ddd -y EN10MB 'udp port 7'`, libpcap 1.10.3.
    const UDP_PORT_7: &str = "002800000000000c 00150006000086dd 0030000000000014 0015000f00000011 \
        0028000000000036 00150c0000000007 0028000000000038 00150a0b00000007 0015000a00000800 0030000000000017 \
        0015000800000011 0028000000000014 0045060000001fff 00b100000000000e 004800000000000e 0015020000000007 \
        0048000000000010 0015000100000007 0006000000040000 0006000000000000";

    fn udp(source: u16, destination: u16, options: usize, fragment: u16) -> Vec<u8, 128> {
        let mut frame = Vec::new();
        frame.resize(14 + 20 + options + 8, 0).unwrap();
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45 + (options / 4) as u8;
        frame[20..22].copy_from_slice(&fragment.to_be_bytes());
        frame[23] = 17;
        frame[34 + options..][..2].copy_from_slice(&source.to_be_bytes());
        frame[36 + options..][..2].copy_from_slice(&destination.to_be_bytes());
        frame
    }

    #[test]
    fn what_libpcap_compiles_does_what_it_says() {
        let digits: std::string::String = UDP_PORT_7.split_whitespace().collect();
        let program = Program::parse(digits.as_bytes()).unwrap();
        for (frame, wanted) in [
            (udp(7, 1000, 0, 0), true),
            (udp(1000, 7, 0, 0), true),
            (udp(1000, 7, 8, 0x4000), true),
            (udp(1000, 8, 0, 0), false),
            (udp(7, 7, 0, 0x2001), false),
        ] {
            assert_eq!(program.run(&frame, false) > 0, wanted, "{frame:?}");
        }
        let cut = udp(1000, 7, 0, 0);
        for len in 0..38 {
            assert_eq!(program.run(&cut[..len], false), 0, "{len} bytes");
        }
        let mut six = udp(0, 0, 0, 0);
        six.resize(62, 0).unwrap();
        six[12..14].copy_from_slice(&[0x86, 0xdd]);
        (six[20], six[57]) = (17, 7);
        assert!(program.run(&six, false) > 0);
    }

    #[test]
    fn a_tag_can_be_skipped() {
        let digits: std::string::String = UDP_PORT_7.split_whitespace().collect();
        let mut program = Program::parse(digits.as_bytes()).unwrap();
        program.skip(8);
        for (options, wanted) in [(0, 7), (8, 7), (0, 8)] {
            let frame = udp(1000, wanted, options, 0);
            let mut tagged = std::vec![0; 12];
            tagged.extend_from_slice(&[0xda, 0xda, 0, 0, 0, 8, 0, 0]);
            tagged.extend_from_slice(&frame[12..]);
            assert_eq!(program.run(&tagged, false) > 0, wanted == 7);
            assert_eq!(program.run(&frame, false), 0);
        }
    }

    #[test]
    fn every_instruction_does_its_work() {
        let frame = [0x12, 0x34, 0x56, 0x78, 0x9a];
        let ret = (RET_A, 0, 0, 0);
        let cases: &[(&[Instruction], u32)] = &[
            (&[(LD_IMM, 0, 0, 9), ret], 9),
            (&[(LD_ABS_W, 0, 0, 1), ret], 0x3456_789a),
            (&[(LD_ABS_H, 0, 0, 3), ret], 0x789a),
            (&[(LD_ABS_B, 0, 0, 4), ret], 0x9a),
            (&[(LDX_IMM, 0, 0, 1), (LD_IND_W, 0, 0, 0), ret], 0x3456_789a),
            (&[(LDX_IMM, 0, 0, 1), (LD_IND_H, 0, 0, 2), ret], 0x789a),
            (&[(LDX_IMM, 0, 0, 1), (LD_IND_B, 0, 0, 3), ret], 0x9a),
            (&[(LDX_IMM, 0, 0, u32::MAX), (LD_IND_B, 0, 0, 1), ret], 0),
            (&[(LD_LEN, 0, 0, 0), ret], 5),
            (&[(LDX_LEN, 0, 0, 0), (TXA, 0, 0, 0), ret], 5),
            (&[(LDX_MSH, 0, 0, 1), (TXA, 0, 0, 0), ret], 16),
            (
                &[
                    (LD_IMM, 0, 0, 3),
                    (ST, 0, 0, 15),
                    (LD_IMM, 0, 0, 0),
                    (LD_MEM, 0, 0, 15),
                    ret,
                ],
                3,
            ),
            (
                &[
                    (LDX_IMM, 0, 0, 3),
                    (STX, 0, 0, 0),
                    (LDX_IMM, 0, 0, 0),
                    (LDX_MEM, 0, 0, 0),
                    (TXA, 0, 0, 0),
                    ret,
                ],
                3,
            ),
            (
                &[
                    (LD_IMM, 0, 0, 3),
                    (TAX, 0, 0, 0),
                    (MUL | BY_X, 0, 0, 0),
                    ret,
                ],
                9,
            ),
            (&[(LD_IMM, 0, 0, 3), (SUB, 0, 0, 4), ret], u32::MAX),
            (&[(LD_IMM, 0, 0, 3), (ADD, 0, 0, u32::MAX), ret], 2),
            (&[(LD_IMM, 0, 0, 13), (DIV, 0, 0, 4), ret], 3),
            (&[(LD_IMM, 0, 0, 13), (MOD, 0, 0, 4), ret], 1),
            (&[(LD_IMM, 0, 0, 13), (DIV | BY_X, 0, 0, 0), ret], 0),
            (&[(LD_IMM, 0, 0, 13), (MOD | BY_X, 0, 0, 0), ret], 0),
            (
                &[
                    (LD_IMM, 0, 0, 12),
                    (OR, 0, 0, 1),
                    (AND, 0, 0, 9),
                    (XOR, 0, 0, 2),
                    ret,
                ],
                11,
            ),
            (&[(LD_IMM, 0, 0, 12), (LSH, 0, 0, 31), ret], 0),
            (&[(LD_IMM, 0, 0, 12), (RSH, 0, 0, 2), ret], 3),
            (
                &[
                    (LD_IMM, 0, 0, 12),
                    (LDX_IMM, 0, 0, 32),
                    (RSH | BY_X, 0, 0, 0),
                    ret,
                ],
                0,
            ),
            (&[(LD_IMM, 0, 0, 1), (NEG, 0, 0, 0), ret], u32::MAX),
            (&[(JA, 0, 0, 1), (RET_K, 0, 0, 1), (RET_K, 0, 0, 2)], 2),
            (&[(JGT, 1, 0, 0), (RET_K, 0, 0, 1), (RET_K, 0, 0, 2)], 1),
            (&[(JGE, 1, 0, 0), (RET_K, 0, 0, 1), (RET_K, 0, 0, 2)], 2),
            (
                &[
                    (LDX_IMM, 0, 0, 0),
                    (JEQ | BY_X, 1, 0, 9),
                    (RET_K, 0, 0, 1),
                    (RET_K, 0, 0, 2),
                ],
                2,
            ),
            (
                &[
                    (LD_IMM, 0, 0, 6),
                    (JSET, 1, 0, 4),
                    (RET_K, 0, 0, 1),
                    (RET_K, 0, 0, 2),
                ],
                2,
            ),
        ];
        for (program, expected) in cases {
            assert_eq!(run(program, &frame), *expected, "{program:?}");
        }
    }

    /// Classic BPF as the paper has it, step by step, for comparison.
    fn plainly(program: &[Instruction], frame: &[u8], sent: bool) -> Option<u32> {
        let load = |at: u64, len: u64| {
            let bytes = frame.get(at.try_into().ok()?..)?.get(..len as usize)?;
            Some(
                bytes
                    .iter()
                    .fold(0, |number, byte| number << 8 | u32::from(*byte)),
            )
        };
        let (mut a, mut x, mut memory, mut at) = (0_u32, 0_u32, [0_u32; SCRATCH], 0);
        loop {
            let (code, jt, jf, k) = program[at];
            let operand = if code & BY_X != 0 { x } else { k };
            let size = [4, 2, 1, 0][usize::from(code >> 3 & 3)];
            at += 1;
            let (class, mode) = (code & 7, code & if code & 7 < 2 { 0xe0 } else { 0xf0 });
            match (class, mode) {
                (0, 0x20) if k == PACKET_TYPE => a = if sent { OUTGOING } else { 0 },
                (0, 0x20) => a = load(k.into(), size)?,
                (0, 0x40) => a = load(u64::from(x) + u64::from(k), size)?,
                (0, 0x00) => a = k,
                (0, 0x60) => a = memory[k as usize],
                (0, 0x80) => a = frame.len() as u32,
                (1, 0x00) => x = k,
                (1, 0x60) => x = memory[k as usize],
                (1, 0x80) => x = frame.len() as u32,
                (1, 0xa0) => x = 4 * (load(k.into(), 1)? & 15),
                (2, _) => memory[k as usize] = a,
                (3, _) => memory[k as usize] = x,
                (4, operation) => {
                    a = match operation {
                        0x00 => a.wrapping_add(operand),
                        0x10 => a.wrapping_sub(operand),
                        0x20 => a.wrapping_mul(operand),
                        0x30 => a.checked_div(operand)?,
                        0x90 => a.checked_rem(operand)?,
                        0x40 => a | operand,
                        0x50 => a & operand,
                        0xa0 => a ^ operand,
                        0x60 => (u64::from(a) << operand.min(32)) as u32,
                        0x70 => (u64::from(a) >> operand.min(32)) as u32,
                        _ => 0_u32.wrapping_sub(a),
                    }
                }
                (5, 0x00) => at += k as usize,
                (5, condition) => {
                    let holds = match condition {
                        0x10 => a == operand,
                        0x20 => a > operand,
                        0x30 => a >= operand,
                        _ => a & operand != 0,
                    };
                    at += usize::from(if holds { jt } else { jf });
                }
                (6, _) => return Some(if code == RET_A { a } else { k }),
                (_, 0x00) => x = a,
                _ => a = x,
            }
        }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    struct Rng(u64);

    impl Rng {
        fn below(&mut self, limit: u32) -> u32 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            (((mixed >> 32) * u64::from(limit)) >> 32) as u32
        }

        fn of<T: Copy>(&mut self, choices: &[T]) -> T {
            choices[self.below(choices.len() as u32) as usize]
        }
    }

    /// A program that is accepted, of the kind that libpcap writes more often than not.
    fn draw_program(rng: &mut Rng) -> std::vec::Vec<Instruction> {
        let len = 2 + rng.below(14);
        let mut program = std::vec::Vec::new();
        for at in 0..len {
            let left = len - 1 - at;
            let ahead = |rng: &mut Rng| rng.below(left.max(1)) as u8;
            let number = |rng: &mut Rng| match rng.below(3) {
                0 => rng.below(4),
                1 => rng.of(&[0x0800, 0x86dd, 6, 17, 7, 0x1fff, 0x4500]),
                _ => rng.below(256),
            };
            let instruction = match rng.below(16) {
                _ if left == 0 => (rng.of(&[RET_K, RET_A]), 0, 0, rng.below(3) * 100),
                0..=4 => {
                    let code = rng.of(&[LD_ABS_W, LD_ABS_H, LD_ABS_B]);
                    (
                        code,
                        0,
                        0,
                        rng.of(&[12, 14, 20, 23, 26, 34, 36, 57, 58, 59, 62, PACKET_TYPE]),
                    )
                }
                5 => (
                    rng.of(&[LD_IND_W, LD_IND_H, LD_IND_B]),
                    0,
                    0,
                    14 + rng.below(40),
                ),
                6 => (LDX_MSH, 0, 0, rng.below(20)),
                7..=10 if left > 1 => {
                    let by_x = if rng.below(5) == 0 { BY_X } else { 0 };
                    let code = rng.of(&[JEQ, JGT, JGE, JSET]) | by_x;
                    (code, ahead(rng), ahead(rng), number(rng))
                }
                11 => (
                    rng.of(&[LD_LEN, LDX_LEN, TAX, TXA, LD_IMM, LDX_IMM]),
                    0,
                    0,
                    number(rng),
                ),
                12 => (rng.of(&[ST, STX, LD_MEM, LDX_MEM]), 0, 0, rng.below(16)),
                13 if left > 1 => (JA, 0, 0, ahead(rng).into()),
                _ => {
                    let by_x = if rng.below(2) == 0 { BY_X } else { 0 };
                    match rng.of(&[ADD, SUB, MUL, DIV, MOD, OR, AND, XOR, LSH, RSH, NEG]) {
                        NEG => (NEG, 0, 0, 0),
                        code => (code | by_x, 0, 0, 1 + rng.below(31)),
                    }
                }
            };
            program.push(instruction);
        }
        program
    }

    #[test]
    fn what_is_remembered_is_what_would_be_said_again() {
        let (mut rng, mut hits, mut wanted) = (Rng(7), 0, 0);
        for round in 0..2_000 {
            let instructions = draw_program(&mut rng);
            let program =
                check(&instructions).unwrap_or_else(|e| panic!("{e:?}: {instructions:?}"));
            let mut verdicts = Verdicts::new(0);
            // A few flows, whose frames differ here and there.
            let mut flows = [(); 4].map(|()| {
                let mut frame = [0; 80].map(|_: u8| rng.of(&[0, 0, 6, 7, 17, 0x45]));
                frame[12..14].copy_from_slice(&rng.of(&[[8, 0], [0x86, 0xdd], [8, 6]]));
                frame
            });
            for _ in 0..60 {
                let frame = &mut flows[rng.below(4) as usize];
                frame[rng.below(80) as usize] = rng.below(18) as u8;
                let frame = &frame[..rng.of(&[80, 80, 62, 61, HEAD, HEAD - 1, 40])];
                let direction = rng.of(&[Direction::Received, Direction::Sent]);
                let sent = direction == Direction::Sent;
                let expected = plainly(&instructions, frame, sent).unwrap_or(0);
                assert_eq!(
                    program.run(frame, sent),
                    expected,
                    "{round}: {instructions:?} {frame:?} {sent}"
                );
                wanted += u32::from(expected > 0);
                let Some(head) = frame.first_chunk() else {
                    continue;
                };
                match verdicts.find(head, Head::load(head), direction) {
                    Some(known) => {
                        assert_eq!(known, expected, "{round}: {instructions:?}, {frame:?}");
                        hits += 1;
                    }
                    None => {
                        if let (said, Some(read)) = program.judge(frame, sent) {
                            verdicts.keep(head, direction, read, said);
                        }
                    }
                }
            }
        }
        assert!(hits > 10_000 && wanted > 10_000, "{hits}, {wanted}");
    }

    #[test]
    fn the_direction_can_be_asked_for() {
        // tcpdump -ddd -y EN10MB outbound
        let program = check(&[
            (LD_ABS_H, 0, 0, PACKET_TYPE),
            (JEQ, 0, 1, 4),
            (RET_K, 0, 0, 9),
            (RET_K, 0, 0, 0),
        ]);
        let program = program.unwrap();
        assert_eq!(program.run(&[0; 60], true), 9);
        assert_eq!(program.run(&[0; 60], false), 0);
    }

    #[test]
    fn what_could_go_astray_is_refused() {
        let ret = (RET_K, 0, 0, 1);
        let cases: &[(&[Instruction], Error)] = &[
            (&[], Error::Length),
            (&[(LD_IMM, 0, 0, 0)], Error::Open),
            (&[ret, (JA, 0, 0, 0)], Error::Jump(1)),
            (&[(JA, 0, 0, 1), ret], Error::Jump(0)),
            (&[(JA, 0, 0, u32::MAX), ret], Error::Jump(0)),
            (&[(JEQ, 0, 1, 0), ret], Error::Jump(0)),
            (&[(JSET | BY_X, 200, 0, 0), ret], Error::Jump(0)),
            (&[(ST, 0, 0, 16), ret], Error::Scratch(0)),
            (&[ret, (LDX_MEM, 0, 0, u32::MAX), ret], Error::Scratch(1)),
            (&[(DIV, 0, 0, 0), ret], Error::Operand(0)),
            (&[(MOD, 0, 0, 0), ret], Error::Operand(0)),
            (&[(LSH, 0, 0, 32), ret], Error::Operand(0)),
            (&[(LD_ABS_W, 0, 0, 0xffff_f030), ret], Error::Operand(0)),
            (&[(0xb4, 0, 0, 0), ret], Error::Code(0)),
            (&[(0x0100, 0, 0, 0), ret], Error::Code(0)),
            (&[(RET_K | BY_X, 0, 0, 0), ret], Error::Code(0)),
            (&[(JA | BY_X, 0, 0, 0), ret], Error::Code(0)),
            (&[(NEG | BY_X, 0, 0, 0), ret], Error::Code(0)),
            (&[(LD_ABS_W | BY_X << 8, 0, 0, 0), ret], Error::Code(0)),
        ];
        for (program, expected) in cases {
            assert_eq!(check(program), Err(*expected), "{program:?}");
        }
        for (digits, expected) in [
            ("", Error::Length),
            ("0006000000000", Error::Digits),
            ("000600000000000g", Error::Digits),
        ] {
            assert_eq!(Program::parse(digits.as_bytes()), Err(expected));
        }
        let long = "0006000000000001".repeat(MAX_INSTRUCTIONS + 1);
        assert_eq!(Program::parse(long.as_bytes()), Err(Error::Length));
        assert!(Program::parse(&long.as_bytes()[DIGITS..]).is_ok());
    }
}
