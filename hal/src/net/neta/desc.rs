//! Descriptors: 32 bytes, eight little-endian words, no ownership bit.
//!
//! ```text
//!   word   transmit                             receive (0 and 1 written by the MAC)
//!     0    command                              status
//!     1    31:16 bytes                          31:16 bytes, with Marvell header and FCS
//!     2    address                              address
//!     3    31:0 errors (switched off)           hash
//!   4..7   -                                    -
//! ```

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tock_registers::{LocalRegisterCopy, register_bitfields};

register_bitfields![u32,
    TxCommand [
        /// Pads to 60 bytes.
        ZERO_PAD OFFSET(19) NUMBITS(1) [],
        LAST OFFSET(20) NUMBITS(1) [],
        FIRST OFFSET(21) NUMBITS(1) [],
        L4_CHECKSUM OFFSET(30) NUMBITS(2) [ Fragment = 0, Full = 1, Software = 2 ]
    ],
    RxStatus [
        ERROR OFFSET(16) NUMBITS(1) [],
        CODE OFFSET(17) NUMBITS(2) [ Crc = 0, Overrun = 1, TooLong = 2, NoResource = 3 ],
        LAST OFFSET(26) NUMBITS(1) [],
        FIRST OFFSET(27) NUMBITS(1) []
    ],
    Length [ BYTES OFFSET(16) NUMBITS(16) [] ]
];

/// Bytes the MAC writes before the destination address.
pub(super) const MARVELL_HEADER_BYTES: usize = 2;
/// Bytes behind the payload.
pub(super) const FCS_BYTES: usize = 4;
/// Bytes before the payload.
pub(super) const ETHERNET_HEADER_BYTES: usize = 14;
const SHORTEST: usize = MARVELL_HEADER_BYTES + ETHERNET_HEADER_BYTES + FCS_BYTES;

/// Words of a descriptor.
pub const WORDS: usize = 8;

/// One descriptor. The device reads and writes it too, so nobody has it exclusively; two words are loaded and stored at
/// a time, because each access to uncached memory is a long one. Order against the doorbell is [`crate::dma::Dma`]'s.
#[derive(Debug, Default)]
#[repr(C, align(32))]
pub struct Descriptor([AtomicU64; WORDS / 2]);

/// Why a received frame is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Bad FCS.
    Crc,
    /// The FIFO ran over while it arrived.
    Overrun,
    /// Longer than the limit.
    TooLong,
    /// The MAC ran out of descriptors in the middle of it.
    NoResource,
    /// First or last part of a longer one, or never written at all.
    Part,
    /// Shorter than an Ethernet header.
    Runt,
    /// The MAC claims to have written more bytes than it was allowed to.
    Length,
}

impl Descriptor {
    /// Reads one word, 0 to 7.
    pub fn word(&self, n: usize) -> u32 {
        (self.pair(n % WORDS / 2) >> (n % 2 * 32)) as u32
    }

    /// Writes one word, 0 to 7, and its neighbour as it was: for who plays the device.
    pub fn set_word(&self, n: usize, value: u32) {
        let (n, shift) = (n % WORDS / 2, n % 2 * 32);
        let other = self.pair(n) & !(u64::from(u32::MAX) << shift);
        self.set_pair(n, other | u64::from(value) << shift);
    }

    #[inline]
    fn pair(&self, n: usize) -> u64 {
        u64::from_le(self.0[n].load(Relaxed))
    }

    #[inline]
    fn set_pair(&self, n: usize, value: u64) {
        self.0[n].store(value.to_le(), Relaxed);
    }

    /// All words, for whoever shows them.
    pub fn words(&self) -> [u32; WORDS] {
        core::array::from_fn(|n| self.word(n))
    }

    /// Describes a whole frame of `bytes` at `addr`, without checksum offload.
    #[inline]
    pub(super) fn describe_frame(&self, addr: u32, bytes: usize) {
        let command = TxCommand::FIRST::SET
            + TxCommand::LAST::SET
            + TxCommand::ZERO_PAD::SET
            // Zero would not mean "none" but "fragment".
            + TxCommand::L4_CHECKSUM::Software;
        let length = Length::BYTES.val(bytes as u32);
        self.set_pair(0, u64::from(length.value) << 32 | u64::from(command.value));
        self.set_pair(1, addr.into());
    }

    /// Describes an empty buffer at `addr`.
    #[inline]
    pub(super) fn describe_buffer(&self, addr: u32) {
        // A status of 0 is a `Part`: a completion that the MAC announced but did not write is not taken for a frame.
        self.set_pair(0, 0);
        self.set_pair(1, addr.into());
    }

    /// Bytes that the MAC wrote, with Marvell header and FCS, of `room` that it might. Input, like a byte from the wire.
    #[inline]
    pub(super) fn received(&self, room: usize) -> Result<usize, Damage> {
        type Status = LocalRegisterCopy<u32, RxStatus::Register>;
        let written = self.pair(0);
        let status = Status::new(written as u32);
        if !status.is_set(RxStatus::FIRST) || !status.is_set(RxStatus::LAST) {
            return Err(Damage::Part);
        }
        if status.is_set(RxStatus::ERROR) {
            return Err(match status.read_as_enum(RxStatus::CODE) {
                Some(RxStatus::CODE::Value::Overrun) => Damage::Overrun,
                Some(RxStatus::CODE::Value::TooLong) => Damage::TooLong,
                Some(RxStatus::CODE::Value::NoResource) => Damage::NoResource,
                _ => Damage::Crc,
            });
        }
        match Length::BYTES.read((written >> 32) as u32) as usize {
            bytes if bytes < SHORTEST => Err(Damage::Runt),
            bytes if bytes > room => Err(Damage::Length),
            bytes => Ok(bytes),
        }
    }
}

/// Makes a ring of memory.
///
/// # Safety
///
/// `memory` is 32-byte aligned, `count` times 32 bytes long, mapped Normal non-cacheable, without a cacheable alias,
/// nobody else's, and stays so for ever.
#[cfg(target_os = "none")]
#[expect(unsafe_code, reason = "a ring starts from an address")]
pub unsafe fn ring_at(memory: *mut u8, count: usize) -> &'static [Descriptor] {
    // SAFETY: as promised by our caller; any content is a valid descriptor.
    let ring = unsafe { core::slice::from_raw_parts(memory.cast::<Descriptor>(), count) };
    for descriptor in ring {
        (0..WORDS / 2).for_each(|n| descriptor.set_pair(n, 0));
    }
    ring
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_frame_carries_the_command_that_every_driver_writes() {
        let descriptor = Descriptor::default();
        descriptor.describe_frame(0x1234_5642, 60);
        assert_eq!(
            descriptor.words(),
            [0x8038_0000, 60 << 16, 0x1234_5642, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn every_status_has_a_meaning() {
        let descriptor = Descriptor::default();
        for (status, bytes, expected) in [
            (0x0c00_0000, 70, Ok(70)),
            (0x0c00_0000, 20, Ok(20)),
            (0x0c00_0000, 19, Err(Damage::Runt)),
            (0x0c00_0000, 1536, Ok(1536)),
            (0x0c00_0000, 1537, Err(Damage::Length)),
            (0x0c01_0000, 70, Err(Damage::Crc)),
            (0x0c03_0000, 70, Err(Damage::Overrun)),
            (0x0c05_0000, 70, Err(Damage::TooLong)),
            (0x0c07_0000, 70, Err(Damage::NoResource)),
            (0x0800_0000, 70, Err(Damage::Part)),
            (0x0401_0000, 70, Err(Damage::Part)),
            (0, 0, Err(Damage::Part)),
        ] {
            descriptor.set_word(0, status);
            descriptor.set_word(1, bytes << 16);
            assert_eq!(descriptor.received(1536), expected, "{status:#x}, {bytes}");
        }
    }
}
