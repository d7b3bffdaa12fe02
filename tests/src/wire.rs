//! A cable whose other end is the test: frames as bytes, one datagram each, nothing lost on the way.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::check::{Result, fail};
use crate::tap;

/// Our hardware address.
pub const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The first guest's.
pub const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0, 0x56];
/// Everybody's.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// Our end of the cable.
pub struct Wire {
    socket: UnixDatagram,
    theirs: PathBuf,
    /// Frames sent.
    pub sent: u64,
}

impl Wire {
    /// Our end at one path, QEMU's at the other.
    pub fn new(ours: &Path, theirs: &Path) -> Result<Self> {
        // Left over from an earlier run.
        let _ = (fs::remove_file(ours), fs::remove_file(theirs));
        let socket = UnixDatagram::bind(ours)?;
        Ok(Self {
            socket,
            theirs: theirs.to_owned(),
            sent: 0,
        })
    }

    /// Another handle for the same end.
    pub fn share(&self) -> Result<Self> {
        Ok(Self {
            socket: self.socket.try_clone()?,
            theirs: self.theirs.clone(),
            sent: 0,
        })
    }

    /// Sends a frame. Waits while QEMU has no room for it.
    pub fn send(&mut self, frame: &[u8]) -> Result {
        self.socket.send_to(frame, &self.theirs)?;
        self.sent += 1;
        Ok(())
    }

    /// The next frame, if one comes in time.
    pub fn receive(&mut self, wait: Duration) -> Result<Option<Vec<u8>>> {
        let mut frame = vec![0; 65536];
        self.socket
            .set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        match self.socket.recv(&mut frame) {
            Ok(len) => {
                frame.truncate(len);
                Ok(Some(frame))
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The first answer that `wanted` finds something in. Answers the guest's ARP requests for [`tap::HOST`] meanwhile.
    pub fn expect<T>(
        &mut self,
        what: &str,
        wait: Duration,
        mut wanted: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<T> {
        match self.watch(wait, &mut wanted)? {
            Some(found) => Ok(found),
            None => fail!("{what}: not within {wait:?}"),
        }
    }

    /// The same for what may or may not come.
    pub fn watch<T>(
        &mut self,
        wait: Duration,
        wanted: &mut impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Option<T>> {
        let deadline = Instant::now() + wait;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            let Some(frame) = self.receive(left)? else {
                continue;
            };
            if let Some(answer) = arp_answer(&frame) {
                self.send(&answer)?;
            }
            if let Some(found) = wanted(&frame) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Our answer to a request for our address.
fn arp_answer(frame: &[u8]) -> Option<Vec<u8>> {
    let asks = frame.get(12..14)? == [8, 6]
        && frame.get(20..22)? == [0, 1]
        && frame.get(38..42)? == tap::HOST.octets();
    let asker: [u8; 6] = frame.get(22..28)?.try_into().ok()?;
    let address: [u8; 4] = frame.get(28..32)?.try_into().ok()?;
    (asks && address != [0; 4]).then(|| arp(2, tap::HOST, asker, address.into()))
}

/// An ARP packet from us in its frame: 1 asks, 2 answers.
pub fn arp(operation: u8, sender: Ipv4Addr, target_mac: [u8; 6], target: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, operation];
    body.extend(OUR_MAC);
    body.extend(sender.octets());
    body.extend(if operation == 1 { [0; 6] } else { target_mac });
    body.extend(target.octets());
    ethernet(target_mac, 0x0806, &body)
}

/// A frame from us, filled up to Ethernet's shortest.
pub fn ethernet(to: [u8; 6], kind: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + body.len());
    frame.extend(to);
    frame.extend(OUR_MAC);
    frame.extend(kind.to_be_bytes());
    frame.extend(body);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// An IPv4 packet.
pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, body: &[u8]) -> Vec<u8> {
    ipv4_part(from, to, protocol, 0, body)
}

/// An IPv4 packet with the given flags and fragment offset.
pub fn ipv4_part(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, part: u16, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + body.len() as u16).to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(part.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(body);
    packet
}

/// A UDP datagram with its checksum.
pub fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let len = 8 + payload.len() as u16;
    let mut datagram = Vec::new();
    for word in [from.1, to.1, len, 0] {
        datagram.extend(word.to_be_bytes());
    }
    datagram.extend(payload);
    let sum = match transport_checksum(from.0, to.0, 17, &datagram) {
        0 => 0xffff,
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

/// A TCP segment without options or data.
pub fn tcp(
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
    sequence: u32,
    ack: u32,
    flags: u8,
) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(from.1.to_be_bytes());
    segment.extend(to.1.to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(ack.to_be_bytes());
    segment.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    let sum = transport_checksum(from.0, to.0, 6, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// An ICMP echo request.
pub fn echo_request(sequence: u16, data: &[u8]) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0xbe, 0xef];
    message.extend(sequence.to_be_bytes());
    message.extend(data);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn transport_checksum(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, body: &[u8]) -> u16 {
    let mut all = Vec::new();
    all.extend(from.octets());
    all.extend(to.octets());
    all.extend([0, protocol]);
    all.extend((body.len() as u16).to_be_bytes());
    all.extend(body);
    checksum(&all)
}

/// The internet checksum (RFC 1071).
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A GET by a TCP of our own: one segment at a time, nothing lost on this cable. Returns the content.
pub fn http_get(wire: &mut Wire, path: &str) -> Result<String> {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    // A port that no earlier call of this process has used.
    static PORT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(50_000);
    let port = PORT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let wait = Duration::from_secs(10);
    let segment = |sequence: u32, ack: u32, flags: u8, data: &[u8]| {
        let mut segment = tcp((tap::HOST, port), (tap::GUEST, 80), sequence, ack, flags);
        segment.extend(data);
        segment[16..18].fill(0);
        let sum = transport_checksum(tap::HOST, tap::GUEST, 6, &segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        ethernet(GUEST_MAC, 0x0800, &ipv4(tap::HOST, tap::GUEST, 6, &segment))
    };
    // Sequence number, flags and data of a segment that is ours.
    let ours = |frame: &[u8]| -> Option<(u32, u8, Vec<u8>)> {
        let is_ours = frame.get(12..14)? == [8, 0]
            && *frame.get(23)? == 6
            && frame.get(34..38)? == [[0, 80], port.to_be_bytes()].concat();
        let total = usize::from(u16::from_be_bytes([*frame.get(16)?, *frame.get(17)?]));
        let data = 34 + usize::from(frame.get(46)? >> 4) * 4;
        let sequence = u32::from_be_bytes(*frame.get(38..)?.first_chunk()?);
        is_ours.then_some((
            sequence,
            *frame.get(47)?,
            frame.get(data..14 + total)?.to_vec(),
        ))
    };
    let mut sequence = 1000;
    wire.send(&segment(sequence, 0, SYN, &[]))?;
    let first = wire.expect("SYN and ACK", wait, |frame| {
        ours(frame)
            .filter(|(_, flags, _)| flags & SYN != 0)
            .map(|(sequence, ..)| sequence)
    })?;
    let mut next = first.wrapping_add(1);
    sequence += 1;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    wire.send(&segment(sequence, next, ACK, request.as_bytes()))?;
    sequence += request.len() as u32;
    let mut text = Vec::new();
    loop {
        let (at, flags, data) = wire.expect("the rest of the answer", wait, ours)?;
        if at == next {
            text.extend(&data);
            next = next.wrapping_add(data.len() as u32 + u32::from(flags & FIN));
        }
        let done = at.wrapping_add(data.len() as u32 + 1) == next && flags & FIN != 0;
        wire.send(&segment(
            sequence,
            next,
            if done { FIN | ACK } else { ACK },
            &[],
        ))?;
        if done {
            let text = String::from_utf8_lossy(&text).into_owned();
            return match text.split_once("\r\n\r\n") {
                Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
                _ => fail!("GET {path} answered {text:?}"),
            };
        }
    }
}
