//! Unpacks what `build.rs` packed: RFC 1951, blocks with codes of their own only, as the packer makes them of texts.
//!
//! The output is its own history, so there is no memory but the code tables. Symbols are decoded bit by bit: small, and
//! fast enough for who does not take the packed form.

/// Longest code in bits.
const MAX_BITS: usize = 15;
/// The order in which the lengths of the code lengths' code stand. Spec: RFC 1951, 3.2.7.
const ORDER: [u8; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// Unpacks all blocks; the length. Nothing if `packed` is damaged, or `out` too short.
pub fn inflate(packed: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut bits = Bits { packed, at: 0 };
    let mut len = 0;
    loop {
        let is_last = bits.take(1)? == 1;
        if bits.take(2)? != 2 {
            return None;
        }
        block(&mut bits, out, &mut len)?;
        if is_last {
            return Some(len);
        }
    }
}

fn block(bits: &mut Bits, out: &mut [u8], len: &mut usize) -> Option<()> {
    let (literals, distances, count) = (bits.take(5)? + 257, bits.take(5)? + 1, bits.take(4)? + 4);
    let mut lengths = [0; 288 + 32];
    for place in ORDER.get(..count)? {
        lengths[usize::from(*place)] = bits.take(3)? as u8;
    }
    let code = Code::new(&lengths[..19]);
    lengths = [0; 288 + 32];
    let mut at = 0;
    while at < literals + distances {
        let symbol = code.read(bits)?;
        let (value, times) = match symbol {
            16 => (*lengths.get(at.checked_sub(1)?)?, 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            18 => (0, 11 + bits.take(7)?),
            length => (length as u8, 1),
        };
        lengths.get_mut(at..at + times)?.fill(value);
        at += times;
    }
    let literal = Code::new(&lengths[..literals]);
    let distance = Code::new(lengths.get(literals..literals + distances)?);
    loop {
        let symbol = literal.read(bits)?;
        match symbol {
            256 => return Some(()),
            0..256 => {
                *out.get_mut(*len)? = symbol as u8;
                *len += 1;
            }
            _ => {
                let copied = match symbol - 257 {
                    28 => 258,
                    step => 3 + scaled(bits, step, 2)?,
                };
                let step = distance.read(bits)?;
                let back = 1 + scaled(bits, step, 1)?;
                let from = len.checked_sub(back)?;
                out.get(*len..*len + copied)?;
                // Byte by byte: what is copied may be what was just copied.
                for at in from..from + copied {
                    out[at + back] = out[at];
                }
                *len += copied;
            }
        }
    }
}

/// Lengths and distances: so many steps to a doubling, and bits that say where between two steps. Spec: RFC 1951, 3.2.5.
fn scaled(bits: &mut Bits, step: usize, shift: u32) -> Option<usize> {
    let one = 1 << shift;
    if step < 2 * one {
        return Some(step);
    }
    let more = (step >> shift) - 1;
    Some(((one + (step & (one - 1))) << more) + bits.take(more)?)
}

/// The packed bits, lowest first.
struct Bits<'p> {
    packed: &'p [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<usize> {
        let mut value = 0;
        for place in 0..count {
            let bit = self.packed.get(self.at / 8)? >> (self.at % 8) & 1;
            value |= usize::from(bit) << place;
            self.at += 1;
        }
        Some(value)
    }
}

/// A canonical code: how many symbols have a code of each length, and the symbols in the order of their codes.
struct Code {
    counts: [u16; MAX_BITS + 1],
    symbols: [u16; 288],
}

impl Code {
    fn new(lengths: &[u8]) -> Self {
        let mut code = Code {
            counts: [0; MAX_BITS + 1],
            symbols: [0; 288],
        };
        let mut at = 0;
        for bits in 1..=MAX_BITS {
            let before = at;
            for (symbol, _) in (0u16..)
                .zip(lengths)
                .filter(|(_, len)| usize::from(**len) == bits)
            {
                if let Some(place) = code.symbols.get_mut(at) {
                    *place = symbol;
                    at += 1;
                }
            }
            code.counts[bits] = (at - before) as u16;
        }
        code
    }

    fn read(&self, bits: &mut Bits) -> Option<usize> {
        let (mut value, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            let count = usize::from(*count);
            value |= bits.take(1)?;
            if let Some(offset) = value.checked_sub(first)
                && offset < count
            {
                return self.symbols.get(index + offset).copied().map(usize::from);
            }
            index += count;
            (first, value) = ((first + count) << 1, value << 1);
        }
        None
    }
}
