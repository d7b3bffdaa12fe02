//! The wrapping in which U-Boot's `source` wants a script.
//!
//! ```text
//! 64 bytes    magic, CRC of the header, time, size, load, entry, CRC of what follows, os, architecture, type, name
//! 8 bytes     length of the script, 0: there is only one
//!             the script
//! ```
//!
//! Spec: U-Boot, include/image.h, struct legacy_img_hdr; numbers are big-endian.

use crate::crc32::crc32;

const MAGIC: u32 = 0x2705_1956;
/// Linux, arm64, script, not compressed.
const KIND: [u8; 4] = [5, 22, 6, 0];
const NAME: &[u8] = b"Ristretto";

/// Wraps a script.
pub fn script(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let body = [&length.to_be_bytes(), &[0; 4], text].concat();
    let mut header = Vec::with_capacity(64 + body.len());
    // No time: the same script is the same file.
    for number in [MAGIC, 0, 0, length.saturating_add(8), 0, 0, crc32(&body)] {
        header.extend(number.to_be_bytes());
    }
    header.extend(KIND);
    header.extend(NAME);
    header.resize(64, 0);
    let crc = crc32(&header);
    header[4..8].copy_from_slice(&crc.to_be_bytes());
    [header, body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_wrapped_as_mkimage_does() {
        // mkimage -A arm64 -O linux -T script -C none -n Ristretto, with SOURCE_DATE_EPOCH=0.
        let wrapped = script(b"echo hello\n");
        assert_eq!(wrapped.len(), 64 + 8 + 11);
        assert_eq!(wrapped[..4], [0x27, 0x05, 0x19, 0x56]);
        assert_eq!(wrapped[12..16], [0, 0, 0, 19]);
        assert_eq!(wrapped[28..32], [5, 22, 6, 0]);
        assert_eq!(wrapped[32..42], *b"Ristretto\0");
        assert_eq!(wrapped[64..72], [0, 0, 0, 11, 0, 0, 0, 0]);
        let mut header = wrapped[..64].to_vec();
        header[4..8].fill(0);
        assert_eq!(wrapped[4..8], crc32(&header).to_be_bytes());
    }
}
