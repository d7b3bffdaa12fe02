//! Internet checksums as the transmit unit generates and the receive parser verifies them, and the Ethernet FCS.

/// Ones' complement sum of big endian 16-bit words, not yet folded; an odd last byte counts as the high half.
fn sum(data: &[u8]) -> u64 {
    let mut words = data.chunks_exact(2);
    let body: u64 = words
        .by_ref()
        .map(|w| u64::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    body + words
        .remainder()
        .first()
        .map_or(0, |last| u64::from(*last) << 8)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The internet checksum of `data`, to be stored big endian.
#[must_use]
pub fn internet(data: &[u8]) -> u16 {
    !fold(sum(data))
}

/// The checksum of an L4 segment whose checksum field counts as zero, from `seed` (folded or not).
#[must_use]
pub fn segment(seed: u64, segment: &[u8], field: usize) -> u16 {
    let skipped = match segment.get(field..field + 2) {
        Some(field) => sum(field),
        None => 0,
    };
    // The field lies at an even offset, so its words drop out of the sum exactly.
    !fold(seed + sum(segment) - skipped)
}

/// Sum of the pseudo header: both addresses as they stand in the IP header, the protocol and the L4 length.
#[must_use]
pub fn pseudo_header(addresses: &[u8], protocol: u8, length: usize) -> u64 {
    sum(addresses) + u64::from(protocol) + length as u64
}

/// True when a whole segment, checksum included, sums up with its pseudo header.
#[must_use]
pub fn verifies(seed: u64, segment: &[u8]) -> bool {
    fold(seed + sum(segment)) == 0xffff
}

/// Ethernet frame check sequence, in the order of bytes on the wire. Eight bytes a step: every received frame needs it.
#[must_use]
pub fn fcs(frame: &[u8]) -> [u8; 4] {
    let table = |n: usize, byte: u32| FCS_TABLES[n][(byte & 0xff) as usize];
    let mut steps = frame.chunks_exact(8);
    let mut crc = steps.by_ref().fold(u32::MAX, |crc, bytes| {
        let low = crc ^ u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let high = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        table(7, low)
            ^ table(6, low >> 8)
            ^ table(5, low >> 16)
            ^ table(4, low >> 24)
            ^ table(3, high)
            ^ table(2, high >> 8)
            ^ table(1, high >> 16)
            ^ table(0, high >> 24)
    });
    for byte in steps.remainder() {
        crc = (crc >> 8) ^ table(0, crc ^ u32::from(*byte));
    }
    (!crc).to_le_bytes()
}

/// Table n gives what a byte does to the remainder when n zero bytes follow it.
static FCS_TABLES: [[u32; 256]; 8] = {
    let mut tables = [[0; 256]; 8];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            };
            bit += 1;
        }
        tables[0][index] = crc;
        index += 1;
    }
    let mut n = 1;
    while n < 8 {
        let mut index = 0;
        while index < 256 {
            let before = tables[n - 1][index];
            tables[n][index] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            index += 1;
        }
        n += 1;
    }
    tables
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums() {
        // RFC 1071, section 3.
        assert_eq!(
            !internet(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            0xddf2
        );
        assert_eq!(internet(&[0xff]), 0x00ff);
        // The check value of CRC-32; and a longer text, both by zlib.
        assert_eq!(fcs(b"123456789"), 0xcbf4_3926_u32.to_le_bytes());
        assert_eq!(
            fcs(b"The quick brown fox jumps over the lazy dog"),
            0x414f_a339_u32.to_le_bytes()
        );
    }

    #[test]
    fn a_generated_segment_verifies_whatever_stood_in_the_field() {
        let mut udp = vec![0x12, 0x34, 0, 53, 0, 11, 0xde, 0xad, 1, 2, 3];
        let seed = pseudo_header(&[10, 0, 0, 1, 10, 0, 0, 2], 17, udp.len());
        let value = segment(seed, &udp, 6);
        udp[6..8].copy_from_slice(&value.to_be_bytes());
        assert!(verifies(seed, &udp));
        udp[9] ^= 1;
        assert!(!verifies(seed, &udp));
    }
}
