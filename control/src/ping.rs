//! Echo requests of our own, and the answers to them: one run at a time.
//!
//! The frames are made here and not by the stack: its sockets for ICMP cost the image three times as much, and would
//! look at every message that comes in.
//!
//! ```text
//!   due ─► next hop known? ─ yes ─► sent ─► answered, or given up 1 s after the last one was sent
//!               └─ no ─► asked for (ARP, neighbour solicitation), given up after half a second
//! ```

use core::net::IpAddr;

use hal::net::MacAddr;
use hal::net::checksum::{fold, sum};

use crate::neighbours::icmpv6_sum;

/// Most requests of a run.
pub const MAX_COUNT: usize = 64;
/// Largest payload in bytes: what fits an unfragmented IPv6 packet.
pub const MAX_SIZE: usize = 1500 - 40 - 8;
/// How long a next hop has to say where it is.
const NEIGHBOUR_LIMIT_US: u64 = 500_000;
/// How long the last answer may take.
const ANSWER_LIMIT_US: u64 = 1_000_000;
/// How often to look whether the next hop has answered.
const LOOK_EVERY_US: u64 = 5_000;
/// A run that nobody has asked about for so long was given up by whoever began it.
const ABANDONED_AFTER_US: u64 = 5_000_000;

const ETHERNET: usize = 14;
const ECHO: usize = 8;
const TTL: u8 = 64;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// What to send, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Number of the interface.
    pub port: usize,
    /// Whom.
    pub target: IpAddr,
    /// From which of our addresses; of the same family.
    pub source: IpAddr,
    /// The target itself, or the router on the way there.
    pub next_hop: IpAddr,
    /// How many, up to [`MAX_COUNT`].
    pub count: usize,
    /// How far apart, in microseconds.
    pub interval_us: u64,
    /// Payload of each in bytes, up to [`MAX_SIZE`].
    pub size: usize,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Echo {
    /// Not its turn yet.
    #[default]
    Pending,
    /// Not sent: the next hop does not say where it is.
    Unreachable,
    /// Sent at this time, in microseconds, and not answered.
    Sent(u64),
    /// Answered after so many microseconds.
    Answered(u64),
    /// Answered with another payload than was sent.
    Damaged,
}

/// What a run wants to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this number, to be confirmed by [`Run::sent`].
    Send(u16),
    /// Ask where the next hop is.
    Ask,
    /// Nothing before this time, in microseconds.
    Wait(u64),
    /// It is done.
    Done,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Run {
    request: Request,
    /// Tells it from other runs.
    ident: u16,
    echoes: [Echo; MAX_COUNT],
    /// Whose turn it is.
    next: usize,
    due_us: u64,
    /// When the next hop was asked for, if it is waited for.
    asked_us: Option<u64>,
    last_sent_us: u64,
    looked_us: u64,
    /// Answers that had been answered already.
    pub duplicates: u64,
}

impl Run {
    /// A run that begins now.
    pub fn new(request: Request, now_us: u64) -> Self {
        Run {
            request: Request {
                count: request.count.min(MAX_COUNT),
                size: request.size.min(MAX_SIZE),
                ..request
            },
            // No secret: an answer must also come from the right address.
            ident: (now_us ^ now_us >> 16) as u16,
            echoes: [Echo::default(); MAX_COUNT],
            next: 0,
            due_us: now_us,
            asked_us: None,
            last_sent_us: now_us,
            looked_us: now_us,
            duplicates: 0,
        }
    }

    /// What was asked for.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// What became of each request.
    pub fn echoes(&self) -> &[Echo] {
        self.echoes.get(..self.request.count).unwrap_or_default()
    }

    /// Whether nobody wants to know any more.
    pub fn is_abandoned(&self, now_us: u64) -> bool {
        now_us.saturating_sub(self.looked_us) > ABANDONED_AFTER_US
    }

    /// What to do; `knows` says whether the next hop's hardware address is known.
    pub fn step(&mut self, now_us: u64, knows: bool) -> Step {
        self.looked_us = now_us;
        if self.next >= self.request.count {
            let waits = |echo: &Echo| matches!(echo, Echo::Sent(_));
            let end_us = self.last_sent_us + ANSWER_LIMIT_US;
            return match self.echoes().iter().any(waits) && now_us < end_us {
                true => Step::Wait(end_us.min(now_us + LOOK_EVERY_US)),
                false => Step::Done,
            };
        }
        if now_us < self.due_us {
            return Step::Wait(self.due_us);
        }
        if knows {
            return Step::Send(self.next as u16);
        }
        match self.asked_us {
            None => {
                self.asked_us = Some(now_us);
                Step::Ask
            }
            Some(asked_us) if now_us < asked_us + NEIGHBOUR_LIMIT_US => {
                Step::Wait(now_us + LOOK_EVERY_US)
            }
            Some(_) => {
                self.conclude(Echo::Unreachable, now_us);
                Step::Wait(now_us)
            }
        }
    }

    /// The one whose turn it is has been sent; [`Echo::Sent`] before it went, so that the answer cannot be first.
    pub fn sent(&mut self, now_us: u64) {
        self.last_sent_us = now_us;
        self.conclude(Echo::Sent(now_us), now_us);
    }

    fn conclude(&mut self, echo: Echo, now_us: u64) {
        if let Some(place) = self.echoes.get_mut(self.next) {
            *place = echo;
        }
        self.next += 1;
        self.asked_us = None;
        // Whoever had to wait for a neighbour does not send all at once to make up for it.
        self.due_us =
            now_us.min(self.due_us + self.request.interval_us / 2) + self.request.interval_us;
    }

    /// Writes request number `sequence`. Returns its length without Ethernet's padding; `None` if `out` is too short.
    pub fn write(
        &self,
        sequence: u16,
        from: MacAddr,
        to: MacAddr,
        out: &mut [u8],
    ) -> Option<usize> {
        let len = (ECHO + self.request.size) as u16;
        let mut head = [0; ETHERNET + 40 + ECHO];
        head[..6].copy_from_slice(&to);
        head[6..12].copy_from_slice(&from);
        let at = match (self.request.source, self.request.target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                head[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
                head[16..18].copy_from_slice(&(20 + len).to_be_bytes());
                head[20] = 0x40; // don't fragment
                (head[22], head[23]) = (TTL, ICMP);
                head[26..30].copy_from_slice(&source.octets());
                head[30..34].copy_from_slice(&target.octets());
                let checksum = !fold(sum(&head[ETHERNET..34]));
                head[24..26].copy_from_slice(&checksum.to_ne_bytes());
                head[34] = 8;
                head[38..42].copy_from_slice(&self.name(sequence));
                34
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                head[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
                head[18..20].copy_from_slice(&len.to_be_bytes());
                (head[20], head[21]) = (ICMPV6, TTL);
                head[22..38].copy_from_slice(&source.octets());
                head[38..54].copy_from_slice(&target.octets());
                head[54] = 128;
                head[58..62].copy_from_slice(&self.name(sequence));
                54
            }
            _ => return None,
        };
        let out = out.get_mut(..at + usize::from(len))?;
        let (headers, payload) = out.split_at_mut_checked(at + ECHO)?;
        headers.copy_from_slice(head.get(..at + ECHO)?);
        for (index, byte) in payload.iter_mut().enumerate() {
            *byte = index as u8;
        }
        let message = out.get(at..)?;
        let checksum = match at {
            34 => !fold(sum(message)),
            _ => !icmpv6_sum(out, message),
        };
        out.get_mut(at + 2..at + 4)?
            .copy_from_slice(&checksum.to_ne_bytes());
        Some(out.len())
    }

    /// What tells a request from all others.
    fn name(&self, sequence: u16) -> [u8; 4] {
        (u32::from(self.ident) << 16 | u32::from(sequence)).to_be_bytes()
    }

    /// Sees a frame that interface number `port` received. Whether it was an answer to this run.
    #[inline(never)]
    pub fn hear(&mut self, port: usize, frame: &[u8], now_us: u64) -> bool {
        if port != self.request.port {
            return false;
        }
        let Some((sequence, intact)) = self.answered_by(frame) else {
            return false;
        };
        match self.echoes.get_mut(usize::from(sequence)) {
            Some(echo @ Echo::Sent(_)) if !intact => *echo = Echo::Damaged,
            Some(echo) => match *echo {
                Echo::Sent(at_us) => *echo = Echo::Answered(now_us.saturating_sub(at_us)),
                Echo::Answered(_) | Echo::Damaged => self.duplicates += 1,
                Echo::Pending | Echo::Unreachable => return false,
            },
            None => return false,
        }
        true
    }

    /// The number of the request that a frame answers, and whether with the payload that was sent.
    fn answered_by(&self, frame: &[u8]) -> Option<(u16, bool)> {
        let head = frame.first_chunk::<62>()?;
        // Options would be an answer of another kind.
        let (ours, at, end) = match (self.request.source, self.request.target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                let ours = head[12..15] == [0x08, 0x00, 0x45]
                    && head[20] & 0x3f == 0
                    && head[21] == 0
                    && head[23] == ICMP
                    && head[26..30] == target.octets()
                    && head[30..34] == source.octets()
                    && head[34] == 0;
                let len = u16::from_be_bytes([head[16], head[17]]);
                (ours, 34, ETHERNET + usize::from(len))
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                let ours = head[12..14] == [0x86, 0xdd]
                    && head[20] == ICMPV6
                    && head[22..38] == target.octets()
                    && head[38..54] == source.octets()
                    && head[54] == 129;
                let len = u16::from_be_bytes([head[18], head[19]]);
                (ours, 54, 54 + usize::from(len))
            }
            _ => return None,
        };
        let message = frame.get(at..end)?;
        let sum = match at {
            34 => fold(sum(message)),
            _ => icmpv6_sum(frame, message),
        };
        let (header, payload) = message.split_first_chunk::<ECHO>()?;
        let sequence = u16::from_be_bytes([header[6], header[7]]);
        if !ours || sum != 0xffff || header[1] != 0 || header[4..8] != self.name(sequence) {
            return None;
        }
        let intact = payload.len() == self.request.size
            && (payload.iter().enumerate()).all(|(index, byte)| *byte == index as u8);
        Some((sequence, intact))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::*;

    const OURS: MacAddr = [2, 0, 0, 0, 0, 1];
    const PEER: MacAddr = [2, 0, 0, 0, 0, 2];

    fn request(source: &str, target: &str) -> Request {
        let target = target.parse().unwrap();
        Request {
            port: 1,
            target,
            source: source.parse().unwrap(),
            next_hop: target,
            count: 3,
            interval_us: 100_000,
            size: 56,
        }
    }

    /// What a host makes of a request: both addresses swapped, another type, another checksum.
    fn answer(frame: &[u8]) -> Vec<u8> {
        let mut out = frame.to_vec();
        let (addresses, len, at, kind) = match frame[12] {
            0x08 => (26, 4, 34, 0),
            _ => (22, 16, 54, 129),
        };
        let (low, high) = out[addresses..addresses + 2 * len].split_at_mut(len);
        low.swap_with_slice(high);
        out[at] = kind;
        checksum(&mut out, at);
        out
    }

    fn checksum(out: &mut [u8], at: usize) {
        out[at + 2..at + 4].fill(0);
        let sum = match at {
            34 => !fold(sum(&out[at..])),
            _ => !icmpv6_sum(out, &out[at..]),
        };
        out[at + 2..at + 4].copy_from_slice(&sum.to_ne_bytes());
    }

    fn written(run: &Run, sequence: u16) -> Vec<u8> {
        let mut out = [0; 1514];
        let len = run.write(sequence, OURS, PEER, &mut out).unwrap();
        out[..len].to_vec()
    }

    #[test]
    fn the_requests_are_sound_by_smoltcps_own_measure() {
        let checksums = ChecksumCapabilities::default();
        for size in [0, 1, 56, MAX_SIZE] {
            let mut asked = request("10.0.0.1", "192.0.2.9");
            asked.size = size;
            let run = Run::new(asked, 7);
            let frame = written(&run, 2);
            let packet = EthernetFrame::new_checked(&frame[..]).unwrap();
            assert_eq!((packet.src_addr().0, packet.dst_addr().0), (OURS, PEER));
            let packet = Ipv4Packet::new_checked(packet.payload()).unwrap();
            let repr = Ipv4Repr::parse(&packet, &checksums).unwrap();
            assert_eq!(repr.payload_len, 8 + size);
            let icmp = Icmpv4Packet::new_checked(packet.payload()).unwrap();
            match Icmpv4Repr::parse(&icmp, &checksums).unwrap() {
                Icmpv4Repr::EchoRequest {
                    seq_no: 2, data, ..
                } => assert_eq!(data.len(), size),
                other => panic!("{other:?}"),
            }
            let mut asked = request("fe80::1", "fe80::9");
            asked.size = size;
            let run = Run::new(asked, 7);
            let frame = written(&run, 2);
            let packet = Ipv6Packet::new_checked(&frame[14..]).unwrap();
            let icmp = Icmpv6Packet::new_checked(packet.payload()).unwrap();
            let (from, to) = (packet.src_addr(), packet.dst_addr());
            match Icmpv6Repr::parse(&from, &to, &icmp, &checksums).unwrap() {
                Icmpv6Repr::EchoRequest {
                    seq_no: 2, data, ..
                } => assert_eq!(data.len(), size),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_answer_is_timed_and_counts_once() {
        for (source, target) in [("10.0.0.1", "192.0.2.9"), ("fe80::1", "fe80::9")] {
            let mut run = Run::new(request(source, target), 1000);
            assert_eq!(run.step(1000, true), Step::Send(0));
            let frame = written(&run, 0);
            run.sent(1000);
            assert!(!run.hear(1, &frame, 1100), "the request itself");
            let answer = answer(&frame);
            assert!(!run.hear(0, &answer, 1100), "another interface");
            for len in 0..answer.len() {
                assert!(!run.hear(1, &answer[..len], 1100), "cut to {len}");
            }
            assert!(run.hear(1, &answer, 1250));
            assert!(run.hear(1, &answer, 1300));
            assert_eq!(run.echoes()[0], Echo::Answered(250));
            assert_eq!(run.duplicates, 1);
        }
    }

    #[test]
    fn what_answers_nothing_is_nobodys() {
        for (source, target, at) in [("10.0.0.1", "192.0.2.9", 34), ("fe80::1", "fe80::9", 54)] {
            let mut run = Run::new(request(source, target), 0);
            let frame = answer(&written(&run, 0));
            assert!(!run.hear(1, &frame, 5), "nothing was sent");
            run.sent(0);
            for byte in [at + 1, at + 4, at + 6, at - 1, at - 20] {
                let mut frame = frame.clone();
                frame[byte] ^= 1;
                assert!(!run.hear(1, &frame, 5), "byte {byte}, checksum wrong");
                checksum(&mut frame, at);
                assert!(!run.hear(1, &frame, 5), "byte {byte}");
            }
            assert_eq!(run.echoes()[0], Echo::Sent(0));
            let mut other = frame.clone();
            other[at + 20] ^= 1;
            checksum(&mut other, at);
            assert!(run.hear(1, &other, 5));
            assert_eq!(run.echoes()[0], Echo::Damaged);
        }
    }

    #[test]
    fn a_run_ends_whoever_answers() {
        let mut run = Run::new(request("10.0.0.1", "10.0.0.9"), 0);
        let (mut now_us, mut asked, mut sends) = (0, 0, 0);
        loop {
            // The neighbour answers the second question.
            match run.step(now_us, asked >= 2) {
                Step::Done => break,
                Step::Ask => asked += 1,
                Step::Send(_) => {
                    sends += 1;
                    run.sent(now_us);
                }
                Step::Wait(at_us) => now_us = at_us,
            }
            assert!(now_us < 10_000_000);
        }
        assert_eq!((asked, sends), (2, 2));
        assert_eq!(run.echoes()[0], Echo::Unreachable);
        assert!(
            run.echoes()[1..]
                .iter()
                .all(|echo| matches!(echo, Echo::Sent(_)))
        );
        assert!(!run.is_abandoned(now_us + 5_000_000) && run.is_abandoned(now_us + 5_000_001));
    }
}
