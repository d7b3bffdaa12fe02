//! The capture's format: pcapng, written block by block into memory that is given.
//!
//! ```text
//!   | type 4 | length 4 | ... | options: code 2, length 2, value, padding | length 4 |     all little-endian, in words
//!
//!   section header, interface descriptions, packets ..., interface statistics
//! ```
//!
//! Spec: draft-ietf-opsawg-pcapng; linktypes from tcpdump.org/linktypes.html.

use hal::net::capture::Direction;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

const COMMENT: u16 = 1;
const END: u16 = 0;

/// What the frames of an interface begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkType {
    /// Ethernet.
    Ethernet = 1,
    /// Ethernet with Marvell's switch tag.
    Dsa = 284,
    /// The same behind an EtherType.
    EtherTypeDsa = 285,
}

/// Writes one block at the start of some memory. What does not fit is not written: [`Block::finish`] tells.
pub struct Block<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Block<'a> {
    fn new(out: &'a mut [u8], kind: u32) -> Self {
        let mut block = Block { out, len: 0 };
        block.word(kind);
        block.word(0);
        block
    }

    fn put(&mut self, bytes: &[u8]) {
        if let Some(place) = self.out.get_mut(self.len..self.len + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.len += bytes.len();
    }

    fn word(&mut self, word: u32) {
        self.put(&word.to_le_bytes());
    }

    fn pad(&mut self) {
        self.put(&[0; 3][..self.len.wrapping_neg() & 3]);
    }

    fn option(&mut self, code: u16, value: &[&[u8]]) {
        let len: usize = value.iter().map(|part| part.len()).sum();
        self.word(u32::from(code) | (len as u32) << 16);
        value.iter().for_each(|part| self.put(part));
        self.pad();
    }

    fn number(&mut self, code: u16, number: u64) {
        self.option(code, &[&number.to_le_bytes()]);
    }

    /// A point in time: the upper half first.
    fn time(&mut self, ns: u64) {
        self.word((ns >> 32) as u32);
        self.word(ns as u32);
    }

    /// Ends the block: its length, `None` if it did not fit.
    fn finish(mut self) -> Option<usize> {
        self.option(END, &[]);
        let len = self.len + 4;
        self.word(len as u32);
        self.out
            .get_mut(4..8)?
            .copy_from_slice(&(len as u32).to_le_bytes());
        (len <= self.out.len()).then_some(len)
    }
}

/// The begin of a file. Returns its length; `None` if there is no room.
pub fn section_header(out: &mut [u8], board: &str) -> Option<usize> {
    const NAME: &str = concat!("Ristretto ", env!("CARGO_PKG_VERSION"));
    let mut block = Block::new(out, SECTION_HEADER);
    block.word(0x1a2b_3c4d);
    block.word(1); // version 1.0
    block.word(u32::MAX); // length of the section: not known
    block.word(u32::MAX);
    block.option(2, &[board.as_bytes()]); // shb_hardware
    block.option(3, &[NAME.as_bytes()]); // shb_os
    block.option(
        COMMENT,
        &[b"Times count from the start of the machine, which knows no date. The connection that carries this is left out."],
    );
    block.finish()
}

/// What an interface is. Returns its length; `None` if there is no room.
pub fn interface(
    out: &mut [u8],
    name: &str,
    link_type: LinkType,
    snaplen: u32,
    filter: &str,
) -> Option<usize> {
    let mut block = Block::new(out, INTERFACE_DESCRIPTION);
    block.word(link_type as u32);
    block.word(snaplen);
    block.option(2, &[name.as_bytes()]); // if_name
    block.option(9, &[&[9]]); // if_tsresol: nanoseconds
    if !filter.is_empty() {
        block.option(11, &[&[0], filter.as_bytes()]); // if_filter, as libpcap reads it
    }
    block.finish()
}

/// What is told of a frame beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The number of its interface in this file.
    pub interface: u32,
    /// When, by the counter.
    pub at_ticks: u64,
    /// Which way it went.
    pub direction: Direction,
    /// Its length, however much of it is kept.
    pub original_len: u32,
}

/// Bytes of a packet's block before those of the frame.
const PACKET_HEAD: usize = 28;
/// Bytes after them: flags, end of options, length.
const PACKET_TAIL: usize = 8 + 4 + 4;
/// Bytes of the option that tells of lost frames.
pub const DROP_COUNT: usize = 12;

/// Bytes of the block for so many of a frame.
#[inline(always)]
pub fn packet_len(kept: usize) -> usize {
    PACKET_HEAD + (kept + 3 & !3) + PACKET_TAIL
}

/// Notes what has to be noted of one frame at once, in a block that is as long as it will be; returns the place of the
/// frame's bytes in it. A frame may wait for it to be written: the rest is left to [`finish`].
///
/// ```text
///   | counter 8 | kept 4, original length 4 | interface 2, direction 2, lost 4 | ... | bytes of the frame ...
/// ```
#[inline(always)]
pub fn note(block: &mut [u8], seen: Seen, kept: usize) -> Option<&mut [u8]> {
    let (head, rest) = block.split_first_chunk_mut::<PACKET_HEAD>()?;
    let lengths = kept as u64 | u64::from(seen.original_len) << 32;
    // Lost before it: none.
    let from = u64::from(seen.interface | (seen.direction as u32) << 16);
    head[..8].copy_from_slice(&seen.at_ticks.to_le_bytes());
    head[8..16].copy_from_slice(&lengths.to_le_bytes());
    head[16..24].copy_from_slice(&from.to_le_bytes());
    Some(rest)
}

/// Frames of its interface that were lost before this one; the block has [`DROP_COUNT`] bytes more.
pub fn note_loss(block: &mut [u8], lost: u32) {
    if let Some(place) = block.get_mut(20..24) {
        place.copy_from_slice(&lost.to_le_bytes());
    }
}

/// What is behind the first of such blocks.
pub fn behind_note(blocks: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| Some(u32::from_le_bytes(*blocks.get(at..)?.first_chunk()?));
    let drops = if number(20)? > 0 { DROP_COUNT } else { 0 };
    blocks.get(packet_len(number(8)? as usize) + drops..)
}

/// Makes of the notes at the begin of `blocks` what the format wants: length and interface of the block. `ns_at` tells the
/// nanoseconds since start from the counter.
pub fn finish(blocks: &mut [u8], ns_at: fn(u64) -> u64) -> Option<(usize, usize)> {
    let (head, rest) = blocks.split_first_chunk_mut::<PACKET_HEAD>()?;
    let number = |at: usize| {
        let number = head.get(at..).and_then(|number| number.first_chunk());
        number.map_or(0, |number| u64::from_le_bytes(*number))
    };
    let (ticks, lengths, from) = (number(0), number(8), number(16));
    let (interface, direction, lost) = (from as u16, (from >> 16) as u16, from >> 32);
    let kept = lengths as u32 as usize;
    let padded = kept.next_multiple_of(4);
    let drops = if lost > 0 { DROP_COUNT } else { 0 };
    let len = packet_len(kept) + drops;
    let kind = u64::from(ENHANCED_PACKET) | (len as u64) << 32;
    head[..8].copy_from_slice(&kind.to_le_bytes());
    head[8..12].copy_from_slice(&u32::from(interface).to_le_bytes());
    head[12..20].copy_from_slice(&ns_at(ticks).rotate_left(32).to_le_bytes());
    head[20..].copy_from_slice(&lengths.to_le_bytes());
    rest.get_mut(kept..padded)?.fill(0);
    // epb_flags: the lowest two bits are the direction.
    let (flags, mut tail) = rest.get_mut(padded..)?.split_first_chunk_mut::<8>()?;
    *flags = (2 | 4 << 16 | u64::from(direction) << 32).to_le_bytes();
    if lost > 0 {
        // epb_dropcount
        let (option, rest) = tail.split_first_chunk_mut::<DROP_COUNT>()?;
        option[..4].copy_from_slice(&(4_u32 | 8 << 16).to_le_bytes());
        option[4..].copy_from_slice(&lost.to_le_bytes());
        tail = rest;
    }
    *tail.first_chunk_mut()? = ((len as u64) << 32).to_le_bytes();
    Some((len, interface.into()))
}

/// What an interface came to. Returns its length; `None` if there is no room.
pub fn statistics(
    out: &mut [u8],
    interface: u32,
    (begin_ns, end_ns): (u64, u64),
    counts: &super::Counts,
) -> Option<usize> {
    let mut block = Block::new(out, INTERFACE_STATISTICS);
    block.word(interface);
    block.time(end_ns);
    for (code, ns) in [(2, begin_ns), (3, end_ns)] {
        // isb_starttime, isb_endtime
        block.word(code | 8 << 16);
        block.time(ns);
    }
    block.number(4, counts.seen); // isb_ifrecv
    block.number(6, counts.accepted); // isb_filteraccept
    block.number(7, counts.dropped); // isb_osdrop
    block.number(8, counts.accepted - counts.dropped); // isb_usrdeliv
    block.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(bytes: &[u8]) -> std::vec::Vec<u32> {
        let (words, rest) = bytes.as_chunks::<4>();
        assert!(rest.is_empty());
        words.iter().map(|word| u32::from_le_bytes(*word)).collect()
    }

    #[test]
    fn a_packet_is_written_as_the_draft_says() {
        let mut out = [0xee; 128];
        let seen = Seen {
            interface: 3,
            at_ticks: 0x1000_0000_2000,
            direction: Direction::Sent,
            original_len: 60,
        };
        let ns_at = |ticks| ticks >> 12;
        let len = packet_len(5);
        let place = note(&mut out[..len], seen, 5).unwrap();
        place[..5].copy_from_slice(&[1, 2, 3, 4, 5]);
        assert_eq!(finish(&mut out, ns_at), Some((len, 3)));
        let expected = [6, 52, 3, 1, 2, 5, 60, 0x0403_0201, 5, 0x0004_0002, 2, 0, 52];
        assert_eq!(words(&out[..len]), expected);
        assert_eq!(out[len], 0xee);

        let direction = Direction::Received;
        let len = packet_len(4) + DROP_COUNT;
        let seen = Seen { direction, ..seen };
        let place = note(&mut out[..len], seen, 4).unwrap();
        place[..4].copy_from_slice(&[1, 2, 3, 4]);
        note_loss(&mut out[..len], 9);
        let notes = out;
        assert_eq!(behind_note(&out).map(<[u8]>::len), Some(out.len() - len));
        assert_eq!(finish(&mut out, ns_at), Some((len, 3)));
        #[rustfmt::skip]
        let expected = [6, 60, 3, 1, 2, 4, 60, 0x0403_0201, 0x0004_0002, 1, 0x0008_0004, 9, 0, 0, 60];
        assert_eq!(words(&out[..len]), expected);
        for short in 0..len {
            assert_eq!(finish(&mut notes.clone()[..short], ns_at), None);
        }
        assert_eq!(note(&mut out[..PACKET_HEAD - 1], seen, 4), None);

        let len = packet_len(0);
        note(&mut out[..len], seen, 0).unwrap();
        assert_eq!(finish(&mut out, ns_at), Some((len, 3)));
    }

    #[test]
    fn the_other_blocks_are_too() {
        let mut out = [0xee; 512];
        let len = section_header(&mut out, "board").unwrap();
        let all = words(&out[..len]);
        assert_eq!(all[..4], [0x0a0d_0d0a, len as u32, 0x1a2b_3c4d, 1]);
        assert_eq!(all[4..7], [u32::MAX, u32::MAX, 2 | 5 << 16]);
        assert_eq!(all.last(), Some(&(len as u32)));
        assert_eq!(section_header(&mut out[..len - 1], "board"), None);

        let len = interface(&mut out, "wan", LinkType::EtherTypeDsa, 128, "arp").unwrap();
        let expected = [
            1,
            48,
            285,
            128,
            2 | 3 << 16,
            u32::from_le_bytes(*b"wan\0"),
            9 | 1 << 16,
            9,
            11 | 4 << 16,
            u32::from_le_bytes(*b"\0arp"),
            0,
            48,
        ];
        assert_eq!(words(&out[..len]), expected);

        let counts = crate::capture::Counts {
            seen: 9,
            accepted: 7,
            dropped: 2,
        };
        let len = statistics(&mut out, 1, (5, 0x1_0000_0000), &counts).unwrap();
        let expected = [
            5, 100, 1, 1, 0, 0x8_0002, 0, 5, 0x8_0003, 1, 0, 0x8_0004, 9, 0, 0x8_0006, 7, 0,
            0x8_0007, 2, 0, 0x8_0008, 5, 0, 0, 100,
        ];
        assert_eq!(words(&out[..len]), expected);
    }
}
