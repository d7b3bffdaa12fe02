//! A small table behind one register: update bit, pointer, data. The chip has nine of them.
//!
//! ```text
//! update 15 | pointer | data          without the update bit a write only moves the pointer for the next read
//! ```

/// Such a register: `LEN` entries, the pointer at bit `SHIFT`, data below it under `MASK`.
#[derive(Clone, Debug)]
pub(crate) struct Indexed<const LEN: usize, const SHIFT: u16, const MASK: u16> {
    pointer: usize,
    values: [u16; LEN],
}

impl<const LEN: usize, const SHIFT: u16, const MASK: u16> Indexed<LEN, SHIFT, MASK> {
    pub(crate) fn filled_with(value: u16) -> Self {
        Self {
            pointer: 0,
            values: [value & MASK; LEN],
        }
    }

    pub(crate) fn read(&self) -> u16 {
        (self.pointer as u16) << SHIFT | self.values[self.pointer]
    }

    pub(crate) fn write(&mut self, value: u16) {
        self.pointer = usize::from((value & 0x7fff) >> SHIFT) % LEN;
        if value & 0x8000 != 0 {
            self.values[self.pointer] = value & MASK;
        }
    }

    /// The entry the pointer stands at.
    pub(crate) fn pointer(&self) -> usize {
        self.pointer
    }

    pub(crate) fn get(&self, index: usize) -> u16 {
        self.values[index % LEN]
    }

    pub(crate) fn set(&mut self, index: usize, value: u16) {
        self.values[index % LEN] = value & MASK;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_update_bit_stores_and_its_absence_points() {
        let mut table = Indexed::<16, 8, 0xff>::filled_with(0);
        table.write(0x8000 | 3 << 8 | 0x5a);
        table.write(0x8000 | 4 << 8 | 0xa5);
        table.write(3 << 8 | 0xff);
        assert_eq!(
            (table.read(), table.pointer(), table.get(4)),
            (0x035a, 3, 0xa5)
        );
    }
}
