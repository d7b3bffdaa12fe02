//! Which frames are wanted: not those of the connection that carries them, and of the others what the filter says.
//!
//! Both follow from a few bytes of a frame. What they say is kept for the frames that have the same there.

use hal::net::bpf::{HEAD, Program};
use hal::net::capture::Direction;
use hal::net::verdicts::{Head, Verdicts};

use crate::connections::{Class, Key, classify};

/// What [`may_be_tcp`] looks at.
const PROTOCOL: u64 = 0b11 << 12 | 1 << 20 | 1 << 23;
/// What tells whose segment it is: protocol, and whether there are options; addresses and ports.
const ENDS_V4: u64 = PROTOCOL | 1 << 14 | 0xfff << 26;
const ENDS_V6: u64 = PROTOCOL | 0xf_ffff_ffff << 22;

/// What is wanted.
#[derive(Debug)]
pub struct Sieve {
    known: Verdicts,
    filter: Program,
    snaplen: u32,
    /// The connection that carries the file.
    own: Key,
    /// Bytes before the payload's place in an Ethernet frame: the switch tag's.
    tag_len: usize,
}

impl Default for Sieve {
    fn default() -> Self {
        Sieve::new(Program::default(), 0, Key::default(), 0)
    }
}

impl Sieve {
    /// For frames with a tag of so many bytes; the filter is for those without.
    pub fn new(mut filter: Program, snaplen: u32, own: Key, tag_len: usize) -> Self {
        filter.skip(tag_len);
        Sieve {
            known: Verdicts::new(tag_len),
            filter,
            snaplen,
            own,
            tag_len,
        }
    }

    /// How many bytes to keep of a frame like others before it: 0, or from [`HEAD`] on.
    #[inline(always)] // in the path of every frame
    pub fn known(&self, head: &[u8; HEAD], loaded: Head, direction: Direction) -> Option<u32> {
        self.known.find(head, loaded, direction)
    }

    /// From now on, all frames are to be judged.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// How many bytes of any frame to keep, at most; `None` if it is of the connection that carries the file.
    pub fn judge(&mut self, frame: &[u8], direction: Direction) -> Option<u32> {
        let head = frame.first_chunk();
        let known = head.and_then(|head| self.known(head, Head::load(head), direction));
        if known.is_some() {
            return known;
        }
        let looked_at = self.not_own(frame)?;
        let (wanted, read) = self.filter.judge(frame, direction == Direction::Sent);
        let wanted = wanted.min(self.snaplen);
        if let (Some(head), Some(read), Some(looked_at)) = (head, read, looked_at)
            && (wanted == 0 || wanted as usize >= HEAD)
        {
            self.known.keep(head, direction, read | looked_at, wanted);
        }
        Some(wanted)
    }

    /// Which bytes tell that a frame is not of the connection that carries the file, `Some(None)` if not the first ones
    /// alone; `None` if it is. That is not remembered: it would take the place of somebody who is served.
    fn not_own(&self, frame: &[u8]) -> Option<Option<u64>> {
        // Where they are, if that is within the first bytes.
        let behind_tag = |bytes: u64| {
            let fits = bytes.leading_zeros() as usize >= u64::BITS as usize - HEAD + self.tag_len;
            fits.then(|| bytes << self.tag_len)
        };
        if !may_be_tcp(frame, self.tag_len) {
            return Some(behind_tag(PROTOCOL));
        }
        match self.class(frame) {
            Class::Tcp(segment) if segment.key.has_ends_of(&self.own) => None,
            Class::Tcp(_) => Some(match frame.get(self.tag_len + 12..) {
                Some([0x08, 0x00, 0x45, ..]) => behind_tag(ENDS_V4),
                Some([0x86, 0xdd, ..]) => behind_tag(ENDS_V6),
                // With options, ports are elsewhere: seldom enough not to be remembered.
                _ => None,
            }),
            _ => Some(None),
        }
    }

    /// What a frame is once its tag is off.
    fn class(&self, frame: &[u8]) -> Class {
        if self.tag_len == 0 {
            return classify(frame, 0);
        }
        // As far as that matters.
        let mut plain = [0; 80];
        let behind = frame.get(12 + self.tag_len..).unwrap_or_default();
        let len = behind.len().min(plain.len() - 12);
        plain[12..12 + len].copy_from_slice(&behind[..len]);
        classify(&plain[..12 + len], 0)
    }
}

/// Whether a frame may be a TCP segment: most are not, and need not be looked at closer.
fn may_be_tcp(frame: &[u8], tag_len: usize) -> bool {
    let behind = frame.get(tag_len..).and_then(|frame| frame.first_chunk());
    let Some::<&[u8; 24]>(head) = behind else {
        return false;
    };
    match [head[12], head[13]] {
        [0x08, 0x00] => head[23] == 6,
        [0x86, 0xdd] => head[20] == 6,
        _ => false,
    }
}
