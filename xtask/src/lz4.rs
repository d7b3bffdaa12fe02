//! LZ4's block format: packs the image as small as the format allows, and unpacks again what was packed.
//!
//! ```text
//! sequence  token          literals << 4 | (match length - 4), 15 in either: more bytes follow
//!           255* rest      more literals
//!           literals
//!           offset  u16    how far back the match starts, 1..=65535; may reach into the match itself
//!           255* rest      more match length
//! ```
//!
//! The last sequence is literals alone, at least five; no match starts in the last twelve bytes.
//!
//! Spec: lz4/lz4, doc/lz4_Block_format.md. Every offset costs the same, so the longest match at a place is as good as any
//! shorter one there, and going backwards over the input finds the cheapest way to the end from each place.

/// Matches are at least so long.
const SHORTEST: usize = 4;
/// Matches start at most so far back.
const FARTHEST: usize = 0xffff;
/// No match longer than that is looked for, and at no more places: in a run of zeros each is like the other.
const LONG_ENOUGH: usize = 256;
const PLACES: usize = 1024;
/// Literals that the block ends with.
const LAST_LITERALS: usize = 5;
/// How far before the end the last match starts.
const LAST_MATCH: usize = 12;
/// A length in the token that says that more follows.
const MORE: usize = 15;
/// Costs are in eighths of a byte, because a sequence costs time, too, some 20 instructions. At more than a byte, a match of
/// four between literals is not worth it: the image grows by 4 %, and a third of the sequences is gone.
const BYTE: usize = 8;
const SEQUENCE: usize = 9;

/// How to go on from one place, and what it costs from there to the end: so many literals, or a match of that length.
#[derive(Clone, Copy)]
struct Way {
    cost: usize,
    len: usize,
}

/// Packs `input` into one block.
pub fn compress(input: &[u8]) -> Vec<u8> {
    let matches = longest_matches(input);
    let end = input.len();
    // From the end: the cheapest way to go on with a match here, with any number of literals before a match (as if that
    // number cost nothing), and with a new sequence.
    let nothing = Way {
        cost: usize::MAX / 2,
        len: 0,
    };
    let mut by_match = vec![nothing; end + 1];
    let mut by_literals = vec![nothing; end + 1];
    let mut by_sequence = vec![nothing; end + 1];
    by_match[end].cost = 0;
    by_literals[end].cost = 0;
    for at in (0..end).rev() {
        // Behind the lengths that need one byte more, only the whole of a match is worth looking at.
        let longest = matches[at].1;
        let lengths = (SHORTEST..=longest.min(MORE + SHORTEST + 255)).chain([longest]);
        for len in lengths.filter(|len| *len >= SHORTEST) {
            let bytes = 2 + more_bytes(len - SHORTEST);
            let cost = BYTE * bytes + by_sequence[at + len].cost;
            // Of two as cheap, the longer: fewer sequences.
            if cost <= by_match[at].cost {
                by_match[at] = Way { cost, len };
            }
        }
        let next = by_literals[at + 1];
        by_literals[at] = if by_match[at].cost <= next.cost {
            Way {
                len: 0,
                ..by_match[at]
            }
        } else {
            Way {
                cost: next.cost + BYTE,
                len: next.len + 1,
            }
        };
        let few = (0..MORE).take_while(|len| at + len <= end);
        let many = (at + MORE <= end).then(|| MORE + by_literals[at + MORE].len);
        for len in few.chain(many) {
            let bytes = 1 + len + more_bytes(len);
            let cost = SEQUENCE + BYTE * bytes + by_match[at + len].cost;
            if cost < by_sequence[at].cost {
                by_sequence[at] = Way { cost, len };
            }
        }
    }
    let mut block = Vec::new();
    let mut at = 0;
    loop {
        let literals = &input[at..at + by_sequence[at].len];
        at += literals.len();
        let len = by_match[at].len;
        let in_token = len.saturating_sub(SHORTEST);
        block.push((literals.len().min(MORE) << 4 | in_token.min(MORE)) as u8);
        push_more(&mut block, literals.len());
        block.extend_from_slice(literals);
        if at == end {
            return block;
        }
        block.extend((matches[at].0 as u16).to_le_bytes());
        push_more(&mut block, in_token);
        at += len;
    }
}

/// Bytes that a length takes besides its share of the token.
fn more_bytes(len: usize) -> usize {
    if len < MORE {
        0
    } else {
        (len - MORE) / 255 + 1
    }
}

fn push_more(block: &mut Vec<u8>, len: usize) {
    if let Some(rest) = len.checked_sub(MORE) {
        block.resize(block.len() + rest / 255, 255);
        block.push((rest % 255) as u8);
    }
}

/// For each place the offset and length of the longest match that may start there; length 0: none.
fn longest_matches(input: &[u8]) -> Vec<(usize, usize)> {
    const BITS: u32 = 16;
    const NONE: usize = usize::MAX;

    let mut longest = vec![(0, 0); input.len()];
    let mut newest = vec![NONE; 1 << BITS];
    let mut older = vec![NONE; input.len()];
    for at in 0..(input.len() + 1).saturating_sub(LAST_MATCH) {
        let rest = &input[at..input.len() - LAST_LITERALS];
        let word = rest
            .iter()
            .take(4)
            .fold(0, |word, byte| word << 8 | u32::from(*byte));
        let place = &mut newest[(word.wrapping_mul(0x9e37_79b1) >> (32 - BITS)) as usize];
        // What matched one place before, but for its first byte; only what is longer is of interest.
        let known: (usize, usize) = at.checked_sub(1).map_or((0, 0), |before| longest[before]);
        let mut best = (known.0, known.1.saturating_sub(1).max(SHORTEST - 1));
        let mut earlier = *place;
        older[at] = std::mem::replace(place, at);
        for _ in 0..PLACES {
            if earlier == NONE || at - earlier > FARTHEST || best.1 >= rest.len().min(LONG_ENOUGH) {
                break;
            }
            let candidate = &input[earlier..];
            if candidate[best.1] == rest[best.1] {
                let same = rest
                    .iter()
                    .zip(candidate)
                    .take_while(|(a, b)| a == b)
                    .count();
                if same > best.1 {
                    best = (at - earlier, same);
                }
            }
            earlier = older[earlier];
        }
        if best.1 >= SHORTEST {
            longest[at] = best;
        }
    }
    longest
}

/// Unpacks one block, that ends with literals when there are `len` bytes. What is behind it is not looked at.
///
/// # Errors
///
/// A sentence that says what is wrong with the block.
pub fn decompress(block: &[u8], len: usize) -> Result<Vec<u8>, String> {
    let mut output = Vec::new();
    let mut rest = Rest(block);
    loop {
        let token = usize::from(rest.byte()?);
        let literals = rest.length(token >> 4)?;
        output.extend_from_slice(rest.take(literals)?);
        if output.len() == len {
            return Ok(output);
        }
        let offset = usize::from(rest.byte()?) | usize::from(rest.byte()?) << 8;
        let matched = rest.length(token & 15)? + SHORTEST;
        let start = output.len().checked_sub(offset).filter(|_| offset > 0);
        let start = start.ok_or_else(|| format!("a match starts {offset} bytes back"))?;
        if output.len() + matched > len {
            return Err(format!("more than {len} bytes"));
        }
        for at in start..start + matched {
            output.push(output[at]);
        }
    }
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .0
            .split_at_checked(len)
            .ok_or("the block is cut short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.take(1).map(|taken| taken[0])
    }

    /// A length of which this is the part in the token.
    fn length(&mut self, in_token: usize) -> Result<usize, String> {
        let mut len = in_token;
        if in_token == MORE {
            loop {
                let more = self.byte()?;
                len += usize::from(more);
                if more < 255 {
                    break;
                }
            }
        }
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of some kinds, runs, and what does not repeat at all.
    fn mixture(len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut state = 1u64;
        while bytes.len() < len {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let random = (state >> 33) as usize;
            match random % 8 {
                0 => bytes.resize(bytes.len() + random / 8 % 700, 0),
                1 => bytes.extend((0..random / 8 % 600).map(|index| ((index * random) >> 7) as u8)),
                2 => bytes.extend(b"abc".iter().cycle().take(random / 8 % 90)),
                kind => bytes.extend((0x9100_0000 + kind as u32).to_le_bytes()),
            }
        }
        bytes.truncate(len);
        bytes
    }

    #[test]
    fn what_was_packed_comes_out_again() {
        let lens = (0..300).chain([4096, 70_000]);
        for bytes in lens.flat_map(|len| [mixture(len), vec![7; len]]) {
            let block = compress(&bytes);
            assert_eq!(decompress(&block, bytes.len()).as_ref(), Ok(&bytes));
            assert!(block.len() <= bytes.len() + bytes.len() / 255 + 16);
        }
    }

    #[test]
    fn blocks_are_small_and_end_as_the_format_says() {
        // One literal, a match into itself, five literals.
        assert_eq!(
            compress(&[9; 300]),
            [0x1f, 9, 1, 0, 255, 20, 0x50, 9, 9, 9, 9, 9]
        );
        assert_eq!(compress(b"abcdabcdabcd"), *b"\xc0abcdabcdabcd");
        assert_eq!(compress(b""), [0]);
        let bytes = mixture(100_000);
        assert!(compress(&bytes).len() < 50_000);
        // Farther back than an offset can say.
        let mut far = vec![0; 70_000];
        far[..6].copy_from_slice(b"needle");
        far.extend(b"needle------------");
        let block = compress(&far);
        assert_eq!(decompress(&block, far.len()), Ok(far));
        assert!(
            block
                .windows(6)
                .filter(|window| *window == b"needle")
                .count()
                == 2
        );
    }

    #[test]
    fn damaged_blocks_are_errors_or_as_long() {
        let bytes = mixture(3000);
        let block = compress(&bytes);
        for len in 0..block.len() {
            assert!(decompress(&block[..len], bytes.len()).is_err(), "{len}");
        }
        for at in 0..block.len() {
            let mut damaged = block.clone();
            damaged[at] ^= 0x55;
            if let Ok(unpacked) = decompress(&damaged, bytes.len()) {
                assert_eq!(unpacked.len(), bytes.len(), "{at}");
            }
        }
        let error = |block: &[u8], len| decompress(block, len).unwrap_err();
        assert_eq!(error(b"\x10a\0\0", 9), "a match starts 0 bytes back");
        assert_eq!(error(b"\x10a\x02\0", 9), "a match starts 2 bytes back");
        assert_eq!(error(b"\x1fa\x01\0\xff\0", 9), "more than 9 bytes");
        assert_eq!(error(b"\x30abc", 2), "the block is cut short");
        assert_eq!(error(b"\x10a", 9), "the block is cut short");
        assert_eq!(error(b"\xff\xff", 9), "the block is cut short");
    }
}
