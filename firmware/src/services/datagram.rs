//! UDP datagrams answered in the frame they came in.
//!
//! The answer goes back to the station that brought the request, from the address that was asked: whoever answers needs
//! neither route nor neighbour cache, and what it costs does not depend on them.
//!
//! ```text
//!  0      6      12      14                        at-8             at
//!  | dst  | src  | type  | IPv4 (20) or IPv6 (40)  | ports, length  | payload
//! ```

use hal::net::checksum::{fold, sum};
use hal::net::smoltcp::MAX_FRAME;
use hal::net::{Frame, MacAddr};
use smoltcp::wire::{IpAddress, Ipv4Address, Ipv6Address};

const ETHERNET: usize = 14;
const UDP: u8 = 17;
const HOP_LIMIT: u8 = 64;
/// Longest headers there are: Ethernet, IPv6, UDP.
const HEADERS: usize = ETHERNET + 40 + 8;

/// A sound datagram for one of our addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub source: Source,
    /// The port it is for.
    pub port: u16,
    /// Where in the frame the payload begins.
    pub at: usize,
    /// Bytes of payload.
    pub len: usize,
}

/// An address and port, on one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The interface's number.
    pub interface: u8,
    /// Its address.
    pub address: IpAddress,
    /// Its port.
    pub port: u16,
}

/// The port a frame is for, if it may be a UDP datagram in one piece. Nothing is checked yet.
#[inline]
pub fn port(frame: &[u8]) -> Option<u16> {
    let at = match frame.get(12..15)? {
        [0x08, 0x00, 0x45] if frame.get(23) == Some(&UDP) => ETHERNET + 20,
        [0x86, 0xdd, _] if frame.get(20) == Some(&UDP) => ETHERNET + 40,
        _ => return None,
    };
    Some(word(frame.get(at + 2..)?))
}

fn word(bytes: &[u8]) -> u16 {
    bytes
        .first_chunk()
        .map_or(0, |word| u16::from_be_bytes(*word))
}

/// What addresses, protocol and length add to a checksum.
fn pseudo_header(frame: &[u8], at: usize, len: usize) -> u64 {
    let addresses = if at == ETHERNET + 20 { 26..34 } else { 22..54 };
    sum(&frame[addresses]) + u64::from(u16::from(UDP).to_be()) + u64::from((len as u16).to_be())
}

/// Takes a frame for a datagram if lengths and checksums are right and it is for an address that `is_ours`.
pub fn read(frame: &[u8], interface: u8, is_ours: impl Fn(IpAddress) -> bool) -> Option<Datagram> {
    let v4 = *frame.get(12)? == 0x08;
    let (at, end) = match v4 {
        true => (
            ETHERNET + 20,
            ETHERNET + usize::from(word(frame.get(16..)?)),
        ),
        false => (
            ETHERNET + 40,
            ETHERNET + 40 + usize::from(word(frame.get(18..)?)),
        ),
    };
    let datagram = frame.get(at..end)?;
    let header = datagram.first_chunk::<8>()?;
    let whole = !v4 || frame[20] & 0xbf == 0 && frame[21] == 0;
    if !whole || usize::from(word(&header[4..])) != datagram.len() {
        return None;
    }
    let (source, to): (IpAddress, IpAddress) = match v4 {
        true => {
            let address = |at| Some(Ipv4Address::from(*frame.get(at..)?.first_chunk::<4>()?));
            (address(26)?.into(), address(30)?.into())
        }
        false => {
            let address = |at| Some(Ipv6Address::from(*frame.get(at..)?.first_chunk::<16>()?));
            (address(22)?.into(), address(38)?.into())
        }
    };
    // Without a checksum is allowed in IPv4 alone.
    let sound = (v4 && header[6..] == [0, 0])
        || header[6..] != [0, 0]
            && fold(sum(datagram) + pseudo_header(frame, at, datagram.len())) == 0xffff;
    let sound = sound && (!v4 || fold(sum(&frame[ETHERNET..ETHERNET + 20])) == 0xffff);
    if !sound || !is_ours(to) || !source.is_unicast() {
        return None;
    }
    Some(Datagram {
        source: Source {
            interface,
            address: source,
            port: word(header),
        },
        port: word(&header[2..]),
        at: at + 8,
        len: datagram.len() - 8,
    })
}

/// Payload that fits an answer, in bytes, if it begins at `at`.
pub fn room(at: usize) -> usize {
    MAX_FRAME - at
}

/// The payload with all the room there is for an answer. What is behind the datagram is whatever was in the buffer.
pub fn payload(frame: &mut Frame, at: usize) -> &mut [u8] {
    // Every buffer has room for the longest frame.
    frame.set_len(MAX_FRAME);
    &mut frame.bytes_mut()[at..]
}

/// Turns the headers around and completes them for `len` bytes of payload, which are there.
pub fn turn(frame: &mut Frame, at: usize, len: usize, mac: MacAddr) {
    let bytes = frame.bytes_mut();
    bytes.copy_within(6..12, 0);
    bytes[6..12].copy_from_slice(&mac);
    let (addresses, size) = if at == HEADERS { (22, 16) } else { (26, 4) };
    let (one, other) = bytes[addresses..addresses + 2 * size].split_at_mut(size);
    one.swap_with_slice(other);
    let (one, other) = bytes[at - 8..at - 4].split_at_mut(2);
    one.swap_with_slice(other);
    complete(frame, at, len);
}

/// Lengths, checksums and what else a header says about its datagram.
fn complete(frame: &mut Frame, at: usize, len: usize) {
    frame.set_len(at + len);
    let bytes = frame.bytes_mut();
    let udp = at - 8;
    if at == HEADERS {
        bytes[ETHERNET..18].copy_from_slice(&[0x60, 0, 0, 0]);
        bytes[18..20].copy_from_slice(&(len as u16 + 8).to_be_bytes());
        bytes[21] = HOP_LIMIT;
    } else {
        let [high, low] = (len as u16 + 28).to_be_bytes();
        // No DSCP; an atomic datagram needs no identification (RFC 6864); don't fragment.
        bytes[15..24].copy_from_slice(&[0, high, low, 0, 0, 0x40, 0, HOP_LIMIT, UDP]);
        bytes[24..26].fill(0);
        let checksum = !fold(sum(&bytes[ETHERNET..ETHERNET + 20]));
        bytes[24..26].copy_from_slice(&checksum.to_ne_bytes());
    }
    bytes[udp + 4..udp + 6].copy_from_slice(&(len as u16 + 8).to_be_bytes());
    bytes[udp + 6..udp + 8].fill(0);
    let checksum = match !fold(sum(&bytes[udp..]) + pseudo_header(bytes, udp, len + 8)) {
        0 => 0xffff,
        checksum => checksum,
    };
    bytes[udp + 6..udp + 8].copy_from_slice(&checksum.to_ne_bytes());
}

/// Headers of an answer, to send more like it.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    headers: [u8; HEADERS],
    at: u8,
}

impl Way {
    /// Of a frame that was [`turn`]ed around.
    pub fn of(frame: &Frame, at: usize) -> Self {
        let mut headers = [0; HEADERS];
        if let (Some(to), Some(from)) = (headers.get_mut(..at), frame.bytes().get(..at)) {
            to.copy_from_slice(from);
        }
        Way {
            headers,
            at: at as u8,
        }
    }

    /// Payload that fits one datagram, in bytes.
    pub fn room(&self) -> usize {
        room(self.at.into())
    }

    /// Makes `frame` a datagram with `len` bytes of payload, zeros but for what `write` puts there.
    pub fn send(&self, frame: &mut Frame, len: usize, write: impl FnOnce(&mut [u8])) {
        let at = usize::from(self.at);
        let len = len.min(room(at));
        frame.set_len(at + len);
        let (headers, payload) = frame.bytes_mut().split_at_mut(at);
        headers.copy_from_slice(&self.headers[..at]);
        payload.fill(0);
        write(payload);
        complete(frame, at, len);
    }
}

impl Default for Way {
    fn default() -> Self {
        Way {
            headers: [0; HEADERS],
            at: HEADERS as u8,
        }
    }
}
