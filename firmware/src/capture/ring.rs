//! Blocks in the order they came, each in one piece, in memory that never grows.

use alloc::vec::Vec;

/// The memory, and what of it is in use: `read..write`, or, once the end was too short for a block, `read..end` and then
/// `0..write`.
#[derive(Debug)]
pub struct Ring {
    memory: Vec<u8>,
    read: usize,
    /// Not longer, so that it is plain that a block does not reach around the address space.
    write: u32,
    /// How far may be written by [`Ring::place`].
    limit: u32,
    closed: bool,
    /// Where the older part ends, if the newer one begins at 0.
    end: Option<usize>,
}

impl Ring {
    /// A ring in this memory, of less than 4 GiB.
    pub fn new(memory: Vec<u8>) -> Self {
        Ring {
            limit: memory.len() as u32,
            closed: false,
            memory,
            read: 0,
            write: 0,
            end: None,
        }
    }

    /// Forgets what is in it.
    pub fn clear(&mut self) {
        (self.read, self.write, self.end) = (0, 0, None);
        self.close(false);
    }

    /// While it is closed, there is no [`Ring::place`].
    pub fn close(&mut self, closed: bool) {
        self.closed = closed;
        self.limit = match self.end {
            _ if closed => self.write,
            Some(_) => self.read as u32,
            None => self.memory.len() as u32,
        };
    }

    /// Room for a block of so many bytes, all of which the caller writes; `None` if there is none, or there is only at
    /// the begin of the memory.
    #[inline(always)] // in the path of every frame that is kept
    pub fn place(&mut self, len: usize) -> Option<&mut [u8]> {
        let at = self.write as usize;
        let end = at + len;
        if end > self.limit as usize {
            return None;
        }
        self.write = end as u32;
        self.memory.get_mut(at..end)
    }

    /// The same, wherever there is.
    pub fn place_anywhere(&mut self, len: usize) -> Option<&mut [u8]> {
        let write = self.write as usize;
        if write + len > self.limit as usize && self.end.is_none() && self.read >= len {
            self.end = Some(write);
            (self.write, self.limit) = (0, self.read as u32);
        }
        self.place(len)
    }

    /// The oldest bytes, as many as are in one piece.
    pub fn oldest(&mut self) -> &mut [u8] {
        let end = self.end.unwrap_or(self.write as usize);
        self.memory.get_mut(self.read..end).unwrap_or_default()
    }

    /// What is in it, the older part first.
    pub fn pieces(&self) -> [&[u8]; 2] {
        let (older, newer) = match self.end {
            Some(end) => (self.read..end, 0..self.write as usize),
            None => (self.read..self.write as usize, 0..0),
        };
        [older, newer].map(|piece| self.memory.get(piece).unwrap_or_default())
    }

    /// Forgets so many of [`Ring::oldest`].
    pub fn forget(&mut self, len: usize) {
        self.read += len;
        if self.end == Some(self.read) {
            (self.read, self.end) = (0, None);
        }
        if self.end.is_none() && self.read == self.write as usize {
            (self.read, self.write) = (0, 0);
        }
        self.close(self.closed);
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        let write = self.write as usize;
        match self.end {
            Some(end) => end - self.read + write,
            None => write - self.read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use std::collections::VecDeque;
    use std::vec;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let (mut ring, mut random) = (Ring::new(vec![0; 256]), Random::new(None));
        let (mut model, mut next, mut refused) = (VecDeque::new(), 0_u8, 0);
        for _ in 0..100_000 {
            let word = random.draw();
            let len = (word >> 8) as usize % 96;
            if word & 1 == 0 {
                if let Some(place) = ring.place_anywhere(len) {
                    assert_eq!(place.len(), len);
                    for byte in place {
                        next = next.wrapping_add(1);
                        *byte = next;
                        model.push_back(next);
                    }
                } else {
                    refused += 1;
                    assert!(
                        len + ring.len() > 256 - 96,
                        "{len} refused, {} in it",
                        ring.len()
                    );
                }
            } else {
                let len = len.min(ring.oldest().len());
                assert!(len > 0 || ring.oldest().is_empty() || word >> 8 != 0);
                for byte in &ring.oldest()[..len] {
                    assert_eq!(Some(*byte), model.pop_front());
                }
                ring.forget(len);
            }
            assert_eq!(ring.len(), model.len());
            assert_eq!(ring.oldest().is_empty(), model.is_empty());
        }
        assert!(refused > 100);
        ring.clear();
        ring.close(true);
        assert_eq!(ring.place(1), None);
        ring.close(false);
        assert!(ring.place(1).is_some());
    }

    #[test]
    fn a_block_is_never_torn() {
        let mut ring = Ring::new(vec![0; 100]);
        assert!(ring.place_anywhere(101).is_none());
        assert!(ring.place_anywhere(60).is_some());
        assert!(ring.place_anywhere(41).is_none());
        ring.forget(50);
        assert!(ring.place_anywhere(50).is_some());
        assert!(ring.place_anywhere(1).is_none(), "full to the last byte");
        assert_eq!((ring.len(), ring.oldest().len()), (60, 10));
        ring.forget(10);
        assert_eq!(ring.oldest().len(), 50);
    }
}
