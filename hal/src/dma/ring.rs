//! Ring arithmetic, and who owns what is in a ring.
//!
//! Counts run free and wrap at 2^32, which a power-of-two size divides: a slot is the count's low bits, and what is in
//! flight is a difference, with no special case when a count wraps and no slot lost to tell full from empty.

use alloc::boxed::Box;

/// Free-running counts of a ring of `SIZE` places, checked at compile time to be a power of two that fits the
/// 14-bit counters of the hardware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Indices<const SIZE: usize> {
    produced: u32,
    consumed: u32,
}

impl<const SIZE: usize> Indices<SIZE> {
    const MASK: u32 = {
        assert!(SIZE.is_power_of_two() && SIZE >= 2 && SIZE <= 1 << 13);
        SIZE as u32 - 1
    };

    /// An empty ring whose next place is `count` modulo its size.
    pub const fn starting_at(count: u32) -> Self {
        Indices {
            produced: count,
            consumed: count,
        }
    }

    /// Places taken.
    #[inline]
    pub const fn in_flight(&self) -> usize {
        self.produced.wrapping_sub(self.consumed) as usize
    }

    /// Places free.
    #[inline]
    pub const fn space(&self) -> usize {
        SIZE - self.in_flight()
    }

    /// The place that [`Indices::produce`] takes next.
    #[inline]
    pub const fn next(&self) -> usize {
        (self.produced & Self::MASK) as usize
    }

    /// The place that [`Indices::consume`] frees next.
    #[inline]
    pub const fn oldest(&self) -> usize {
        (self.consumed & Self::MASK) as usize
    }

    /// Takes a place; `None` if all are taken.
    #[inline]
    pub const fn produce(&mut self) -> Option<usize> {
        if self.space() == 0 {
            return None;
        }
        let slot = self.next();
        self.produced = self.produced.wrapping_add(1);
        Some(slot)
    }

    /// Frees the oldest place; `None` if none is taken.
    #[inline]
    pub const fn consume(&mut self) -> Option<usize> {
        if self.in_flight() == 0 {
            return None;
        }
        let slot = self.oldest();
        self.consumed = self.consumed.wrapping_add(1);
        Some(slot)
    }
}

/// What a device owns, in the order in which it got it. Whatever is in here, nobody else can name.
#[derive(Debug)]
pub struct Ring<T, const SIZE: usize> {
    indices: Indices<SIZE>,
    slots: Box<[Option<T>; SIZE]>,
}

impl<T, const SIZE: usize> Default for Ring<T, SIZE> {
    fn default() -> Self {
        Self::starting_at(0)
    }
}

impl<T, const SIZE: usize> Ring<T, SIZE> {
    /// An empty ring whose counts start at `count`; a multiple of `SIZE` starts at place 0.
    pub fn starting_at(count: u32) -> Self {
        Ring {
            indices: Indices::starting_at(count),
            slots: Box::new([const { None }; SIZE]),
        }
    }

    /// The counts.
    #[inline]
    pub fn indices(&self) -> Indices<SIZE> {
        self.indices
    }

    /// Gives something to the device. Returns its place, or the thing itself if the ring is full.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<usize, T> {
        match self.indices.produce() {
            Some(slot) => {
                self.slots[slot] = Some(item);
                Ok(slot)
            }
            None => Err(item),
        }
    }

    /// Takes back what the device got first.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let slot = self.indices.consume()?;
        self.slots[slot].take()
    }

    /// Back to place 0, as a device does whose DMA engine was reset. The ring must be empty: what it holds is returned,
    /// one by one, before that.
    pub fn rewind(&mut self) -> Option<T> {
        let item = self.pop();
        if item.is_none() {
            self.indices = Indices::starting_at(0);
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Every way to fill and drain, by a small pseudo-random walk, beside a queue that cannot be wrong.
    fn walk<const SIZE: usize>(start: u32, laps: usize) {
        let mut ring: Ring<u32, SIZE> = Ring::starting_at(start);
        let mut plain = VecDeque::new();
        let (mut chance, mut item) = (start | 1, 0);
        while item < (laps * SIZE) as u32 {
            chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            for _ in 0..(chance >> 8) as usize % (SIZE + 2) {
                if chance & 1 << 30 == 0 {
                    let expected = if plain.len() < SIZE {
                        Ok(())
                    } else {
                        Err(item)
                    };
                    let slot = start.wrapping_add(item) as usize % SIZE;
                    assert_eq!(
                        ring.push(item).map(|taken| assert_eq!(taken, slot)),
                        expected
                    );
                    if expected.is_ok() {
                        plain.push_back(item);
                        item += 1;
                    }
                } else {
                    assert_eq!(ring.pop(), plain.pop_front());
                }
            }
            assert_eq!(ring.indices().in_flight(), plain.len());
            assert_eq!(ring.indices().space(), SIZE - plain.len());
        }
    }

    #[test]
    fn a_ring_is_a_queue_however_often_it_wraps() {
        // Miri takes a thousand times longer, and one lap over the end of the counts is enough for it.
        let laps = if cfg!(miri) { 20 } else { 50_000 };
        for start in [0, 0u32.wrapping_sub(1000 * 16), u32::MAX - 5] {
            walk::<16>(start, laps);
        }
        walk::<64>(0u32.wrapping_sub(64 * 100), laps / 2);
        walk::<512>(0u32.wrapping_sub(512 * 10), laps / 4);
        walk::<2>(u32::MAX, laps);
    }

    #[test]
    fn rewinding_empties_first() {
        let mut ring: Ring<u8, 4> = Ring::starting_at(3);
        assert_eq!((ring.push(1), ring.push(2)), (Ok(3), Ok(0)));
        assert_eq!(
            (ring.rewind(), ring.rewind(), ring.rewind()),
            (Some(1), Some(2), None)
        );
        assert_eq!(ring.push(9), Ok(0));
    }
}
