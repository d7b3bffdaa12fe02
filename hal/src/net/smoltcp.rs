//! Lends a [`Nic`] to smoltcp for one call.
//!
//! One frame at most goes in: the poll loop takes frames from the device itself and hands each to the right socket
//! set. What the stack sends leaves through the transmit ring at once; an [`Observer`] sees it pass.
//!
//! TCP checksums are made and checked here, by a sum that is some ten times as fast as the stack's own.

use super::checksum::{fold, sum};
use super::{Frame, Nic, Pool};
use core::ops::Range;
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Largest frame the stack may send: header and 1500 bytes.
pub const MAX_FRAME: usize = 1514;

/// Sees every frame that the stack sends, before it goes.
pub trait Observer {
    /// A whole Ethernet frame.
    fn sent(&mut self, frame: &[u8]);
}

impl Observer for () {
    fn sent(&mut self, _frame: &[u8]) {}
}

/// A device for the length of one call into the stack.
pub struct Lent<'a, N: Nic, O: Observer> {
    /// The driver.
    pub nic: &'a mut N,
    /// Where buffers come from.
    pub pool: &'a mut Pool,
    /// Who watches what is sent.
    pub observer: &'a mut O,
    /// The frame for this call to receive, `None` when it only sends. Stays with the caller.
    pub frame: Option<&'a Frame>,
}

impl<N: Nic, O: Observer> Device for Lent<'_, N, O> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Sender<'t, N, O>
    where
        Self: 't;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Sender<'_, N, O>)> {
        let frame = self.frame.take()?;
        // What is damaged gets no answer.
        if is_damaged_segment(frame.bytes()) {
            return None;
        }
        let sender = Sender {
            nic: self.nic,
            pool: self.pool,
            observer: self.observer,
        };
        Some((Received(frame), sender))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sender<'_, N, O>> {
        if self.pool.available() == 0 || self.nic.transmit_space(self.pool) == 0 {
            return None;
        }
        Some(Sender {
            nic: self.nic,
            pool: self.pool,
            observer: self.observer,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MAX_FRAME;
        capabilities.checksum.tcp = Checksum::None;
        capabilities
    }
}

/// The frame being received.
pub struct Received<'t>(&'t Frame);

impl RxToken for Received<'_> {
    #[inline]
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0.bytes())
    }
}

/// The right to send one frame.
pub struct Sender<'t, N: Nic, O: Observer> {
    nic: &'t mut N,
    pool: &'t mut Pool,
    observer: &'t mut O,
}

impl<N: Nic, O: Observer> TxToken for Sender<'_, N, O> {
    #[inline]
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let frame = self
            .pool
            .take()
            .and_then(|mut frame| frame.set_len(len).then_some(frame));
        let Some(mut frame) = frame else {
            // An answer to a received frame may come although there is no buffer: the stack must be able to write
            // it somewhere, and it is counted as lost.
            self.nic.counters_mut().tx_no_buffer += 1;
            let mut nowhere = [0; MAX_FRAME];
            let len = len.min(nowhere.len());
            return f(&mut nowhere[..len]);
        };
        let bytes = frame.bytes_mut();
        let result = f(bytes);
        if let Some(at) = segment(bytes) {
            // The stack has left a zero there.
            let checksum = !segment_sum(bytes, at.clone());
            bytes[at.start + 16..at.start + 18].copy_from_slice(&checksum.to_ne_bytes());
        }
        self.observer.sent(frame.bytes());
        self.nic.transmit(frame, self.pool);
        result
    }
}

const TCP: u8 = 6;
const HOP_BY_HOP: u8 = 0;

/// Whether a frame has a whole TCP segment, and that a wrong checksum.
#[inline]
pub fn is_damaged_segment(frame: &[u8]) -> bool {
    segment(frame).is_some_and(|at| segment_sum(frame, at) != 0xffff)
}

/// Where in a frame there is a TCP segment, if it has a whole one.
#[inline]
fn segment(frame: &[u8]) -> Option<Range<usize>> {
    let head = frame.first_chunk::<54>()?;
    let half = |at: usize| usize::from(u16::from_be_bytes([head[at], head[at + 1]]));
    let at = match [head[12], head[13]] {
        [0x08, 0x00] if head[23] == TCP && head[20] & 0x3f == 0 && head[21] == 0 => {
            14 + usize::from(head[14] & 0xf) * 4..14 + half(16)
        }
        [0x86, 0xdd] => {
            let end = 54 + half(18);
            match head[20] {
                TCP => 54..end,
                // The one header that the stack passes over.
                HOP_BY_HOP if frame.get(54) == Some(&TCP) => {
                    54 + 8 * (1 + usize::from(*frame.get(55)?))..end
                }
                _ => return None,
            }
        }
        _ => return None,
    };
    (at.start + 20 <= at.end && at.end <= frame.len()).then_some(at)
}

/// The sum that a checksum makes all ones, with what the addresses add. Spec: RFC 9293, 3.1; RFC 8200, 8.1.
#[inline]
fn segment_sum(frame: &[u8], at: Range<usize>) -> u16 {
    let addresses = if frame[12] == 0x08 { 26..34 } else { 22..54 };
    let len = at.len() as u16;
    let pseudo = u64::from(u16::from(TCP).to_be()) + u64::from(len.to_be());
    fold(sum(&frame[addresses]) + sum(&frame[at]) + pseudo)
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::*;

    /// A segment as the stack makes it, with a checksum of its own.
    fn frame(v4: bool, payload: &[u8]) -> Vec<u8> {
        let (source, to, at): (IpAddress, IpAddress, usize) = match v4 {
            true => (IpAddress::v4(10, 0, 0, 1), IpAddress::v4(10, 0, 0, 2), 34),
            false => {
                let address = |last| IpAddress::v6(0xfd09, 0, 0, 0xffff, 1, 2, 3, last);
                (address(1), address(2), 54)
            }
        };
        let mut tcp = TcpRepr {
            src_port: 1024,
            dst_port: 80,
            control: TcpControl::Psh,
            seq_number: TcpSeqNumber(77),
            ack_number: Some(TcpSeqNumber(7)),
            window_len: 1000,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        tcp.payload = payload;
        let mut frame = vec![0; at + tcp.buffer_len()];
        frame[12..14].copy_from_slice(if v4 { &[0x08, 0] } else { &[0x86, 0xdd] });
        let checksums = ChecksumCapabilities::default();
        IpRepr::new(source, to, IpProtocol::Tcp, tcp.buffer_len(), 64)
            .emit(&mut frame[14..], &checksums);
        tcp.emit(
            &mut TcpPacket::new_unchecked(&mut frame[at..]),
            &source,
            &to,
            &checksums,
        );
        frame
    }

    #[test]
    fn the_sum_is_the_stacks_and_finds_each_flipped_bit() {
        for v4 in [true, false] {
            for len in [0, 1, 2, 15, 16, 17, 1460] {
                let payload: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
                let mut frame = frame(v4, &payload);
                frame.extend([0xaa; 3]); // Ethernet's padding is not part of it
                let at = segment(&frame).unwrap();
                assert_eq!(at.len(), 20 + payload.len());
                assert_eq!(segment_sum(&frame, at.clone()), 0xffff);
                for bit in (0..8 * at.len()).step_by(13) {
                    frame[at.start + bit / 8] ^= 1 << (bit % 8);
                    assert_ne!(segment_sum(&frame, at.clone()), 0xffff, "bit {bit}");
                    frame[at.start + bit / 8] ^= 1 << (bit % 8);
                }
            }
        }
    }

    #[test]
    fn a_segment_behind_other_headers_is_found() {
        let mut options = frame(true, b"payload");
        options[14] = 0x46;
        options.splice(34..34, [1; 4]);
        options[17] += 4;
        assert_eq!(segment(&options), Some(38..65));
        assert_eq!(segment_sum(&options, 38..65), 0xffff);
        let mut hops = frame(false, b"payload");
        hops[20] = HOP_BY_HOP;
        hops[19] += 8;
        hops.splice(54..54, [TCP, 0, 1, 4, 0, 0, 0, 0]);
        assert_eq!(segment(&hops), Some(62..89));
        assert_eq!(segment_sum(&hops, 62..89), 0xffff);
    }

    #[test]
    fn what_is_no_whole_segment_is_left_to_the_stack() {
        let whole = frame(true, b"payload");
        assert_eq!(segment(&whole[..60]), None);
        for (at, value) in [(12, 0x81), (23, 17), (20, 0x20), (21, 1), (17, 39), (16, 9)] {
            let mut frame = whole.clone();
            frame[at] = value;
            assert_eq!(segment(&frame), None, "byte {at}");
        }
        assert_eq!(segment(&[]), None);
    }
}
