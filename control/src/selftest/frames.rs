//! Frames that come back: through the MAC, its rings and its interrupts, or by way of the switch and a PHY.
//!
//! Each has a number, and everything in it follows from that: length and content, zeros, ones, alternating bits and noise
//! in turn. Our own other frames come back as well meanwhile; they have another EtherType, and are passed over.

use super::lab::{Answer, Lab, Op, Outcome, Trouble, detail};
use super::links::{self, Outcomes};
use super::registers::{CONTROL, FULL_GIGABIT, NEGOTIATE, RESET, write};
use super::{Bed, Way};
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
/// More than four times round the rings.
const RING_FRAMES: u32 = 1100;
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

/// What came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Took {
    /// Frames of ours.
    frames: u32,
    /// Those with another content than they should have.
    differ: u32,
}

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

fn look(bytes: &[u8], took: &mut Took) {
    let Some(head) = bytes.first_chunk::<HEAD>() else {
        return;
    };
    let [a, b, m, n, o, p, number @ ..] = *head;
    if [a, b] != ETHER_TYPE || [m, n, o, p] != MARK {
        return;
    }
    took.frames += 1;
    let number = u32::from_be_bytes(number);
    let mut content_of = bytes.iter().enumerate().skip(HEAD);
    let same = content_of.all(|(at, byte)| *byte == content(number, at));
    took.differ += u32::from(!same || bytes.len() != length(number));
}

pub(super) fn send(bed: &mut dyn Bed, first: u32, count: u32) -> bool {
    (first..first + count).all(|number| bed.send(length(number), &mut |bytes| fill(number, bytes)))
}

pub(super) fn take(bed: &mut dyn Bed) -> Took {
    let mut took = Took::default();
    for _ in 0..BURST {
        if !bed.take(&mut |bytes| look(bytes, &mut took)) {
            break;
        }
    }
    took
}

/// What became of all frames.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    sent: u32,
    lost: u32,
    differ: u32,
    unsent: u32,
}

impl Sum {
    fn outcome(self, how: &str) -> Outcome {
        let Sum {
            sent,
            lost,
            differ,
            unsent,
        } = self;
        let told = detail(format_args!(
            "{sent} frames{how}, {lost} lost, {differ} differ"
        ));
        match lost + differ + unsent {
            0 => Ok(told),
            _ if unsent > 0 => Err(Trouble::wrong(format_args!(
                "{told}, {unsent} could not be sent"
            ))),
            _ => Err(Trouble::Wrong(told)),
        }
    }
}

/// Sends frames, so many at once, and takes them when they come back.
async fn exchange(lab: &Lab, frames: u32, at_once: u32) -> Sum {
    let mut sum = Sum::default();
    while sum.sent < frames && sum.lost < LOST_LIMIT && sum.unsent == 0 {
        let count = at_once.min(frames - sum.sent);
        let op = Op::Send {
            first: sum.sent,
            count,
        };
        if !matches!(lab.ask(op).await, Answer::Done(true)) {
            sum.unsent += count;
        }
        sum.sent += count;
        let until_us = lab.now_us() + BACK_LIMIT_US;
        let mut missing = count;
        while missing > 0 && lab.now_us() < until_us {
            lab.sleep_us(LOOK_US).await;
            if let Answer::Took(took) = lab.ask(Op::Take).await {
                missing = missing.saturating_sub(took.frames);
                sum.differ += took.differ;
            }
        }
        sum.lost += missing;
    }
    sum
}

/// The same with the loop that it takes.
async fn looped(lab: &Lab, way: Way, frames: u32, at_once: u32) -> Result<Sum, Trouble> {
    if !matches!(lab.ask(Op::Loop(Some(way))).await, Answer::Done(true)) {
        return Err(Trouble::Absent("no MAC that can loop frames back"));
    }
    let sum = exchange(lab, frames, at_once).await;
    lab.ask(Op::Loop(None)).await;
    Ok(sum)
}

/// The MAC alone, a frame at a time.
pub(super) async fn mac_loopback(lab: &Lab) -> Outcome {
    looped(lab, Way::Mac, FRAMES, 1).await?.outcome("")
}

/// The rings, several times round.
pub(super) async fn ring(lab: &Lab) -> Outcome {
    let sum = looped(lab, Way::Mac, RING_FRAMES, BURST).await?;
    sum.outcome(", 4 times round the rings")
}

async fn count(lab: &Lab) -> u64 {
    match lab.ask(Op::Interrupts).await {
        Answer::Count(count) => count,
        _ => 0,
    }
}

/// An interrupt for each lone frame: not many fewer, and no storm.
pub(super) async fn interrupts(lab: &Lab) -> Outcome {
    let before = count(lab).await;
    let sum = looped(lab, Way::Mac, LONE_FRAMES, 1).await?;
    let counted = count(lab).await - before;
    let told = detail(format_args!(
        "{} lone frames, {} lost, {counted} interrupts",
        sum.sent, sum.lost
    ));
    // One that comes while the ring is looked at anyway may spare another.
    let wanted = u64::from(LONE_FRAMES * 3 / 4)..=u64::from(LONE_FRAMES * 2);
    match sum.lost == 0 && wanted.contains(&counted) {
        true => Ok(told),
        false => Err(Trouble::Wrong(told)),
    }
}

/// By way of every port and its PHY. One after the other: two of a bridge would keep each other busy.
pub(super) async fn phy_loopback(lab: &Lab) -> Result<(), Trouble> {
    let ports = lab.ports().await?;
    let with_link = links::up(lab, ports).await?;
    let mut outcomes = Outcomes::default();
    for port in ports.iter() {
        let outcome = loop_port(lab, port).await;
        outcomes[usize::from(port.get())] = Some(outcome);
        // Out of loopback before the next goes in.
        let out = write(port, CONTROL, RESET | NEGOTIATE | FULL_GIGABIT);
        let _ = lab.errand(&[out]).await;
    }
    links::restore(lab, "phy-loopback", ports, with_link, &mut outcomes, Ok(())).await;
    Ok(())
}

async fn loop_port(lab: &Lab, port: PortIndex) -> Outcome {
    lab.errand(&into_loopback(port)).await?;
    if !links::wait_up(lab, PortSet::of(port), LOOP_LIMIT_US)
        .await?
        .is_empty()
    {
        return Err(Trouble::wrong(format_args!("no link with itself in 2 s")));
    }
    looped(lab, Way::Port(port), FRAMES, 1).await?.outcome("")
}
