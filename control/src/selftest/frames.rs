//! Frames that come back: through the MAC, its rings and its interrupts, or by way of the switch and a PHY.
//!
//! Each has a number, and everything in it follows from that: length and content, zeros, ones, alternating bits and noise
//! in turn. Our own other frames come back as well meanwhile; they have another EtherType, and are passed over.

use super::lab::{Lab, NOT_DONE, Op, Outcome, Trouble};
use super::links;
use super::registers::{CONTROL, FULL_GIGABIT, NEGOTIATE, RESET, write};
use super::{Bed, Verdict, Way};
use crate::shell::hardware::phy_loopback as into_loopback;
use hal::net::mv88e6xxx::{PortIndex, PortSet};

/// EtherType for experiments: IEEE 802, 9.2.3.
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];
/// Tells these from other experiments.
const MARK: [u8; 4] = *b"self";
/// Bytes before the content: EtherType, mark and number.
const HEAD: usize = 10;
/// Bytes behind the addresses at least and at most.
const SHORTEST: usize = 48;
const LONGEST: usize = 1502;
/// Frames of a test.
const FRAMES: u32 = 256;
/// Four times round the rings.
const RING_FRAMES: u32 = 1024;
/// On their way at once, when it is about the rings: fewer than there are places for those that came back.
const BURST: u32 = 32;
/// Frames of the test of interrupts, one at a time.
const LONE_FRAMES: u32 = 100;
/// Longest wait for frames to come back.
const BACK_LIMIT_US: u64 = 100_000;
/// Time between two looks.
const LOOK_US: u64 = 100;
/// So many frames lost end a test.
const LOST_LIMIT: u32 = 8;
/// Longest wait for a PHY in loopback to have a link with itself. Source: Linux marvell.c allows a second.
const LOOP_LIMIT_US: u64 = 2_000_000;

fn length(number: u32) -> usize {
    SHORTEST + (number as usize * 37) % (LONGEST - SHORTEST + 1)
}

/// The byte at a place of a frame's content.
fn content(number: u32, at: usize) -> u8 {
    match number % 4 {
        0 => 0,
        1 => 0xff,
        2 => [0x55, 0xaa][at % 2],
        _ => {
            let noise = (number.wrapping_mul(0x9e37_79b9) ^ at as u32).wrapping_mul(0x85eb_ca6b);
            (noise >> 24) as u8
        }
    }
}

fn fill(number: u32, bytes: &mut [u8]) {
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = match at {
            0..2 => ETHER_TYPE[at],
            2..6 => MARK[at - 2],
            6..HEAD => number.to_be_bytes()[at - 6],
            _ => content(number, at),
        };
    }
}

/// Whether it is one of ours, and if so, whether it is as it was.
fn look(bytes: &[u8]) -> Option<bool> {
    let head = bytes.first_chunk::<HEAD>()?;
    let [a, b, m, n, o, p, number @ ..] = *head;
    if [a, b] != ETHER_TYPE || [m, n, o, p] != MARK {
        return None;
    }
    let number = u32::from_be_bytes(number);
    let mut content_of = bytes.iter().enumerate().skip(HEAD);
    let same = content_of.all(|(at, byte)| *byte == content(number, at));
    Some(same && bytes.len() == length(number))
}

pub(super) fn send(bed: &mut dyn Bed, first: u32, count: u32) -> u64 {
    let mut unsent = 0;
    for number in first..first + count {
        let sent = bed.send(length(number), &mut |bytes| fill(number, bytes));
        unsent += u64::from(!sent);
    }
    unsent
}

pub(super) fn take(bed: &mut dyn Bed) -> u64 {
    let mut sum = 0;
    for _ in 0..BURST {
        let more = bed.take(&mut |bytes| match look(bytes) {
            Some(true) => sum += 1,
            Some(false) => sum += 1 << 32 | 1,
            None => {}
        });
        if !more {
            break;
        }
    }
    sum
}

/// Has frames come back, sends them, so many at once, and takes them. What came of them is said of `at`. How many were
/// sent.
async fn exchange(lab: &Lab, at: usize, way: Way, frames: u32, at_once: u32) -> Outcome {
    if lab.ask(Op::Loop(Some(way))).await == NOT_DONE {
        return Err(Trouble::Absent("no MAC that can loop frames back"));
    }
    let (mut sent, mut lost, mut differ) = (0, 0, 0);
    while sent < frames && lost < LOST_LIMIT {
        let op = Op::Send {
            first: sent,
            count: at_once,
        };
        // What could not be sent does not come back, either.
        lab.ask(op).await;
        sent += at_once;
        let until_us = lab.now_us() + BACK_LIMIT_US;
        let mut missing = at_once;
        while missing > 0 && lab.now_us() < until_us {
            lab.sleep_us(LOOK_US).await;
            let took = lab.ask(Op::Take).await;
            missing = missing.saturating_sub(took as u32);
            differ += took >> 32;
        }
        lost += missing;
    }
    lab.ask(Op::Loop(None)).await;
    lab.say(
        at,
        format_args!("{sent} frames, {lost} lost, {differ} differ"),
    );
    lab.judge(
        at,
        match u64::from(lost) + differ {
            0 => Verdict::Passed,
            _ => Verdict::Failed,
        },
    );
    Ok(())
}

/// The MAC alone, a frame at a time.
pub(super) async fn mac_loopback(lab: &Lab) -> Outcome {
    exchange(lab, 0, Way::Mac, FRAMES, 1).await
}

/// The rings, several times round.
pub(super) async fn ring(lab: &Lab) -> Outcome {
    exchange(lab, 0, Way::Mac, RING_FRAMES, BURST).await
}

/// An interrupt for each lone frame: not many fewer, and no storm.
pub(super) async fn interrupts(lab: &Lab) -> Outcome {
    let before = lab.ask(Op::Interrupts).await;
    exchange(lab, 0, Way::Mac, LONE_FRAMES, 1).await?;
    let counted = lab.ask(Op::Interrupts).await - before;
    lab.say(0, format_args!("{counted} interrupts"));
    // One that comes while the ring is looked at anyway may spare another.
    if counted < u64::from(LONE_FRAMES * 3 / 4) || counted > u64::from(LONE_FRAMES * 2) {
        lab.judge(0, Verdict::Failed);
    }
    Ok(())
}

/// By way of every port and its PHY. One after the other: two of a bridge would keep each other busy.
pub(super) async fn phy_loopback(lab: &Lab) -> Outcome {
    let (ports, with_link) = links::begin(lab).await?;
    let mut whole = Ok(());
    for port in ports.iter() {
        let result = loop_port(lab, port).await;
        if result.is_err() {
            whole = result;
        }
        // Out of loopback before the next goes in.
        let out = write(port, CONTROL, RESET | NEGOTIATE | FULL_GIGABIT);
        let _ = lab.errand(&[out]).await;
    }
    links::restore(lab, ports, with_link).await;
    whole
}

async fn loop_port(lab: &Lab, port: PortIndex) -> Outcome {
    let at = usize::from(port.get());
    lab.errand(&into_loopback(port)).await?;
    let down = links::wait_up(lab, PortSet::of(port), LOOP_LIMIT_US).await?;
    if !down.is_empty() {
        lab.wrong(at, format_args!("no link with itself in 2 s"));
        return Ok(());
    }
    exchange(lab, at, Way::Port(port), FRAMES, 1).await
}
