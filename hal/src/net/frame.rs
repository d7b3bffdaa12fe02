//! Frame buffers, owned by value: whoever holds a [`Frame`] may touch it, nobody else can name it.
//!
//! ```text
//!   0            64 66                                         2048
//!   +-------------+--+--------------------------------+-----------+
//!   | headroom       | frame: 14 bytes header, payload | tailroom  |
//!   +-------------+--+--------------------------------+-----------+
//! ```
//!
//! A frame starts two bytes after a cache line, so that the IP header is aligned to 4 bytes and a virtio header, or
//! the two bytes that NETA writes first, or a DSA tag to be inserted, fit in front.

use super::drops::{Reason, Samples};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Bytes of a buffer: whole cache lines, large enough for a 1500-byte payload with every tag there is.
pub const BUFFER_BYTES: usize = 2048;
/// Where a received frame starts in its buffer.
pub const HEADROOM: usize = 66;

/// The memory of one frame, aligned to a cache line that it shares with nothing else.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Buffer(pub [u8; BUFFER_BYTES]);

/// One Ethernet frame without FCS, in a buffer of its own.
#[derive(Debug)]
pub struct Frame {
    buffer: &'static mut Buffer,
    start: u16,
    len: u16,
    /// Where in the buffer that ends which the CPU may have written and not written back.
    dirty: u16,
}

impl Frame {
    /// Bytes of the frame.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        let start = usize::from(self.start);
        &self.buffer.0[start..start + usize::from(self.len)]
    }

    /// How many they are.
    #[inline]
    pub fn byte_count(&self) -> usize {
        usize::from(self.len)
    }

    /// The same bytes, to change them.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let start = usize::from(self.start);
        self.dirty = self.dirty.max(self.start + self.len);
        &mut self.buffer.0[start..start + usize::from(self.len)]
    }

    /// Sets the length in bytes. Returns false, and changes nothing, if the buffer is too small.
    #[inline]
    pub fn set_len(&mut self, len: usize) -> bool {
        let fits = len <= BUFFER_BYTES - usize::from(self.start);
        if fits {
            self.len = len as u16;
        }
        fits
    }

    /// Cuts `by` bytes out of the frame behind its first `HEAD` bytes, which move up. For taking off a tag in place.
    ///
    /// Does nothing if the frame is shorter than both together.
    #[inline]
    pub fn cut_front<const HEAD: usize>(&mut self, by: usize) {
        if let Some(head) = self.bytes().first_chunk::<HEAD>().copied()
            && usize::from(self.len) >= by + HEAD
        {
            let to = usize::from(self.start) + by;
            if let Some(place) = self.buffer.0.get_mut(to..to + HEAD) {
                place.copy_from_slice(&head);
                self.dirty = self.dirty.max((to + HEAD) as u16);
            }
            self.start += by as u16;
            self.len -= by as u16;
        }
    }

    /// Makes room for `by` bytes, of any content, behind the first `HEAD` bytes of the frame, which move down. False, and
    /// nothing changes, if the frame has less than `HEAD` bytes or the buffer no room in front.
    #[inline]
    pub fn grow_front<const HEAD: usize>(&mut self, by: usize) -> bool {
        let Some(head) = self.bytes().first_chunk::<HEAD>().copied() else {
            return false;
        };
        if by > usize::from(self.start) {
            return false;
        }
        self.start -= by as u16;
        self.len += by as u16;
        if let Some(place) = self.bytes_mut().first_chunk_mut::<HEAD>() {
            *place = head;
        }
        true
    }

    /// Appends zeros up to a length. False, and nothing changes, if the buffer is too small.
    pub fn pad(&mut self, len: usize) -> bool {
        let old = usize::from(self.len);
        if len > old {
            if !self.set_len(len) {
                return false;
            }
            self.bytes_mut()[old..].fill(0);
        }
        true
    }

    /// The whole buffer and where the frame lies in it, for drivers.
    #[inline]
    pub fn parts(&mut self) -> (&mut Buffer, core::ops::Range<usize>) {
        self.dirty = BUFFER_BYTES as u16;
        let start = usize::from(self.start);
        (self.buffer, start..start + usize::from(self.len))
    }

    /// The same, and where that ends which the CPU may have written since the last [`Frame::note_clean`]: for drivers of
    /// devices that do not see the caches. Whoever writes here tells nobody of it.
    #[inline]
    pub fn cached_parts(&mut self) -> (&mut Buffer, core::ops::Range<usize>, usize) {
        let start = usize::from(self.start);
        let range = start..start + usize::from(self.len);
        (self.buffer, range, usize::from(self.dirty))
    }

    /// Notes that all lines from [`HEADROOM`]'s on that the CPU may have written were written back.
    #[inline]
    pub fn note_clean(&mut self) {
        self.dirty = 0;
    }
}

/// The buffers that nobody uses at the moment.
#[derive(Debug)]
pub struct Pool {
    /// With what is known of their lines.
    free: Vec<Frame>,
    made: usize,
    /// What discarded frames looked like.
    pub samples: Samples,
}

impl Pool {
    /// Allocates `count` buffers. They are never freed.
    pub fn new(count: usize) -> Self {
        let mut pool = Pool {
            free: Vec::new(),
            made: 0,
            samples: Samples::default(),
        };
        pool.grow(count);
        pool
    }

    /// Allocates `count` more.
    pub fn grow(&mut self, count: usize) {
        self.made += count;
        self.free.reserve_exact(self.made - self.free.len());
        for _ in 0..count {
            self.free.push(Frame {
                buffer: Box::leak(Box::new(Buffer([0; BUFFER_BYTES]))),
                start: HEADROOM as u16,
                len: 0,
                dirty: BUFFER_BYTES as u16,
            });
        }
    }

    /// An empty frame, if a buffer is free.
    #[inline]
    pub fn take(&mut self) -> Option<Frame> {
        let mut frame = self.free.pop()?;
        (frame.start, frame.len) = (HEADROOM as u16, 0);
        Some(frame)
    }

    /// A copy of a frame, if a buffer is free.
    pub fn copy(&mut self, frame: &Frame) -> Option<Frame> {
        let mut copy = self.take()?;
        (copy.start, copy.len) = (frame.start, frame.len);
        copy.bytes_mut().copy_from_slice(frame.bytes());
        Some(copy)
    }

    /// Takes a buffer back.
    #[inline(always)]
    pub fn put(&mut self, frame: Frame) {
        // Never reallocates: there is room for every frame that the pool made.
        self.free.push(frame);
    }

    /// Takes back the buffer of a received frame that nobody gets. To be counted by the caller, once.
    #[cold]
    pub fn discard(&mut self, frame: Frame, reason: Reason) {
        self.samples.keep(reason, frame.bytes());
        self.put(frame);
    }

    /// Buffers free now.
    pub fn available(&self) -> usize {
        self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_runs_dry_and_recovers() {
        let mut pool = Pool::new(1);
        let frame = pool.take();
        assert!(frame.is_some() && pool.take().is_none());
        pool.put(frame.unwrap());
        assert_eq!(pool.available(), 1);
    }

    #[test]
    fn a_copy_is_another_frame_with_the_same_bytes() {
        let mut pool = Pool::new(2);
        let mut frame = pool.take().unwrap();
        assert!(frame.set_len(100) && frame.grow_front::<12>(4));
        frame.bytes_mut().fill(7);
        let mut copy = pool.copy(&frame).unwrap();
        assert!(pool.copy(&frame).is_none());
        copy.bytes_mut()[0] = 8;
        assert_eq!(copy.bytes()[1..], frame.bytes()[1..]);
        assert_eq!(frame.bytes(), [7; 104]);
    }

    #[test]
    fn what_was_written_is_known_until_it_is_noted_as_clean() {
        let mut pool = Pool::new(1);
        let mut frame = pool.take().unwrap();
        assert_eq!(frame.cached_parts().2, BUFFER_BYTES, "zeroed by the CPU");
        frame.note_clean();
        assert!(frame.set_len(100));
        assert_eq!((frame.bytes().len(), frame.cached_parts().2), (100, 0));
        frame.bytes_mut()[0] = 1;
        assert!(frame.set_len(20));
        frame.bytes_mut()[0] = 1;
        assert_eq!(frame.cached_parts().2, HEADROOM + 100, "the longest counts");
        pool.put(frame);
        let mut frame = pool.take().unwrap();
        assert_eq!(frame.cached_parts().2, HEADROOM + 100, "also in the pool");
        frame.note_clean();
        assert!(frame.set_len(30) && frame.grow_front::<12>(8));
        assert_eq!(frame.cached_parts().2, HEADROOM + 30);
        frame.note_clean();
        frame.cut_front::<12>(8);
        assert_eq!(frame.cached_parts().2, HEADROOM + 12);
        frame.note_clean();
        assert!(frame.pad(60));
        assert_eq!(frame.cached_parts().2, HEADROOM + 60);
        frame.note_clean();
        frame.parts();
        assert_eq!(
            frame.cached_parts().2,
            BUFFER_BYTES,
            "whoever has it all may write it all"
        );
    }

    #[test]
    fn a_frame_keeps_its_length_when_the_new_one_does_not_fit() {
        let mut frame = Pool::new(1).take().unwrap();
        assert!(frame.set_len(BUFFER_BYTES - HEADROOM));
        assert!(!frame.set_len(BUFFER_BYTES - HEADROOM + 1));
        assert_eq!(frame.bytes().len(), BUFFER_BYTES - HEADROOM);
    }
}
