//! The internet checksum (RFC 1071), summed over 16-bit words in native byte order: folding gives a result in native
//! order too, because the end-around carry does not care where the bytes of a word stand.

/// The sum of `bytes`, an odd last one padded with zero, not yet folded. Of at most 2^17 bytes, more than a frame has.
#[inline]
pub fn sum(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<16>();
    let mut sum = sum_blocks(blocks);
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        sum += u64::from(u32::from_ne_bytes(*word));
    }
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    sum + u64::from(u32::from_ne_bytes(last))
}

/// The same of an IPv4 header without options.
#[inline(always)] // five words
pub fn sum_header(header: &[u8; 20]) -> u64 {
    let words = header.as_chunks::<4>().0.iter();
    words.map(|word| u64::from(u32::from_ne_bytes(*word))).sum()
}

#[cfg(target_os = "none")]
use crate::arch::sum_blocks;

/// What `arch` does with the vector unit.
#[cfg(not(target_os = "none"))]
fn sum_blocks(blocks: &[[u8; 16]]) -> u64 {
    let words = blocks.iter().flat_map(|block| block.as_chunks::<2>().0);
    words.map(|word| u64::from(u16::from_ne_bytes(*word))).sum()
}

/// Folds a sum to 16 bits, with end-around carry. In native byte order, like its input.
#[inline]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    (sum + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_agree_with_a_plain_one() {
        let bytes: Vec<u8> = (0..300u32).map(|i| (i * i) as u8 | 0x80).collect();
        for from in 0..3 {
            for to in from..bytes.len() {
                let mut plain = 0u32;
                for pair in bytes[from..to].chunks(2) {
                    plain += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
                    plain = (plain & 0xffff) + (plain >> 16);
                }
                let bytes = &bytes[from..to];
                assert_eq!(fold(sum(bytes)).to_be(), plain as u16);
                if let Ok(header) = bytes.try_into() {
                    assert_eq!(fold(sum_header(header)).to_be(), plain as u16);
                }
            }
        }
    }
}
