//! The checksum that the core's vector unit computes, against one computed the plain way.

use super::lab::{Lab, Outcome};
use hal::net::checksum;

/// Longest frame that is tried.
const LONGEST: usize = 1518;
/// Lengths tried one by one: every remainder of a block, with none, one and some blocks before it.
const SHORT: usize = 160;
/// Every so many sums, others work.
const AT_ONCE: usize = 64;

/// One word after the other, as RFC 1071 tells it.
fn plain(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Whether both agree on `len` bytes from an address that is odd by `offset`.
fn agrees(offset: usize, len: usize) -> bool {
    let mut bytes = [0; LONGEST + 16];
    let mut state = (offset * 1_000 + len) as u32 | 1;
    for byte in &mut bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // High values, for carries.
        *byte = (state >> 24) as u8 | 0xa0;
    }
    let bytes = &bytes[offset..offset + len];
    checksum::fold(checksum::sum(core::hint::black_box(bytes))).to_be() == plain(bytes)
}

pub(super) async fn test(lab: &Lab) -> Outcome {
    let mut sums = 0;
    let mut wrong = 0;
    let mut first = (0, 0);
    for offset in 0..16 {
        for len in (0..SHORT).chain([576, 1499, 1500, LONGEST]) {
            sums += 1;
            if !agrees(offset, len) {
                wrong += 1;
                first = if wrong == 1 { (offset, len) } else { first };
            }
            if sums % AT_ONCE == 0 {
                lab.sleep_us(0).await;
            }
        }
    }
    lab.say(
        0,
        format_args!("{sums} sums of the vector unit, {wrong} differ"),
    );
    if wrong > 0 {
        let (offset, len) = first;
        lab.wrong(0, format_args!("first of {len} bytes at offset {offset}"));
    }
    Ok(())
}
