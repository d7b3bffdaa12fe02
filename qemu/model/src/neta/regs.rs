//! Register offsets of the MAC that behave in any way; the rest is storage, listed in [`is_storage`].

/// RX queue configuration; 11:8 packet offset in 8 bytes.
pub const RXQ_CONFIG: u32 = 0x1400;
/// RX ring base.
pub const RXQ_BASE: u32 = 0x1480;
/// RX ring size 13:0, buffer size 31:19 in 8 bytes.
pub const RXQ_SIZE: u32 = 0x14a0;
/// Occupied threshold 13:0, free threshold 29:16.
pub const RXQ_THRESHOLD: u32 = 0x14c0;
/// Occupied 13:0, free 29:16.
pub const RXQ_STATUS: u32 = 0x14e0;
/// 7:0 off occupied, 23:16 onto free.
pub const RXQ_UPDATE: u32 = 0x1500;
/// Index of the next descriptor to be filled.
pub const RXQ_CURRENT: u32 = 0x1520;
/// Bit 0 holds RX DMA in reset.
pub const RX_DMA_RESET: u32 = 0x1cc0;
/// Unit interrupt cause, write 0 to clear.
pub const UNIT_CAUSE: u32 = 0x2080;
/// Address of a refused DMA access.
pub const ERROR_ADDRESS: u32 = 0x2094;
/// Window base and size, stride 8.
pub const WINDOW: u32 = 0x2200;
/// One bit per window, 1 = off.
pub const WINDOW_DISABLE: u32 = 0x2290;
/// Two bits per window.
pub const WINDOW_PROTECT: u32 = 0x2294;
/// Filters and capture queues.
pub const PORT_CONFIG: u32 = 0x2400;
/// 1 BPDU capture, 3 no TX FCS.
pub const PORT_CONFIG_EXTEND: u32 = 0x2404;
/// EtherType of a VLAN tag.
pub const VLAN_ETHER_TYPE: u32 = 0x2410;
/// Own address, bytes 4 and 5.
pub const MAC_LOW: u32 = 0x2414;
/// Own address, bytes 0 to 3.
pub const MAC_HIGH: u32 = 0x2418;
/// Swaps and bursts.
pub const SDMA_CONFIG: u32 = 0x241c;
/// DSCP to queue, seven registers.
pub const DSCP_QUEUE: u32 = 0x2420;
/// VLAN priority to queue.
pub const VLAN_QUEUE: u32 = 0x2440;
/// FIFO state.
pub const PORT_STATUS: u32 = 0x2444;
/// TX queue enables.
pub const TXQ_COMMAND: u32 = 0x2448;
/// Marvell header and switch tag expectations.
pub const MARVELL_HEADER: u32 = 0x2454;
/// Shortest frame accepted.
pub const RX_MINIMUM: u32 = 0x247c;
/// Frames lost for want of a descriptor, read clears.
pub const RX_DISCARD: u32 = 0x2484;
/// Frames lost in the FIFO, read clears.
pub const RX_OVERRUN: u32 = 0x2488;
/// EtherType to queue, and forced unicast hits.
pub const ETHER_TYPE_QUEUE: u32 = 0x24bc;
/// 1 = extended descriptors, software buffers.
pub const ACCELERATION: u32 = 0x2500;
/// Queues a CPU may see.
pub const CPU_MAP: u32 = 0x2540;
/// RX coalescing time in core clocks.
pub const RXQ_TIME: u32 = 0x2580;
/// Threshold causes and their mask.
pub const NEW_CAUSE: u32 = 0x25a0;
/// Mask of [`NEW_CAUSE`].
pub const NEW_MASK: u32 = 0x25a4;
/// Per-packet causes.
pub const OLD_CAUSE: u32 = 0x25a8;
/// Mask of [`OLD_CAUSE`].
pub const OLD_MASK: u32 = 0x25ac;
/// Link and error causes.
pub const MISC_CAUSE: u32 = 0x25b0;
/// Mask of [`MISC_CAUSE`].
pub const MISC_MASK: u32 = 0x25b4;
/// Queue gate in front of the masks.
pub const IRQ_ENABLE: u32 = 0x25b8;
/// Version of the port.
pub const VERSION: u32 = 0x25bc;
/// RX queue enables.
pub const RXQ_COMMAND: u32 = 0x2680;
/// 0 enable, 14:2 frame limit.
pub const MAC_CONTROL_0: u32 = 0x2c00;
/// 5 loopback.
pub const MAC_CONTROL_1: u32 = 0x2c04;
/// 5 padding off, 6 reset.
pub const MAC_CONTROL_2: u32 = 0x2c08;
/// Link forcing, speed, duplex, pause.
pub const AUTONEG: u32 = 0x2c0c;
/// The link as the MAC sees it.
pub const MAC_STATUS: u32 = 0x2c10;
/// MIB counters.
pub const MIB: u32 = 0x3000;
/// Filter for 01:00:5e:00:00:xx.
pub const SPECIAL_MULTICAST: u32 = 0x3400;
/// Filter for other groups, by CRC-8.
pub const OTHER_MULTICAST: u32 = 0x3500;
/// Filter for the own address' last nibble.
pub const UNICAST: u32 = 0x3600;
/// TX ring base.
pub const TXQ_BASE: u32 = 0x3c00;
/// TX ring size 13:0, sent threshold 29:16.
pub const TXQ_SIZE: u32 = 0x3c20;
/// Pending 13:0, sent 29:16.
pub const TXQ_STATUS: u32 = 0x3c40;
/// 7:0 onto pending, 23:16 off sent.
pub const TXQ_UPDATE: u32 = 0x3c60;
/// Index of the next descriptor to be fetched.
pub const TXQ_CURRENT: u32 = 0x3c80;
/// Buffers sent since the last read.
pub const TXQ_SENT_BUFFERS: u32 = 0x3ca0;
/// Frames sent with a bad FCS.
pub const TX_BAD_FCS: u32 = 0x3cc0;
/// Frames dropped before the wire.
pub const TX_DROPPED: u32 = 0x3cc4;
/// Bit 0 holds TX DMA in reset.
pub const TX_DMA_RESET: u32 = 0x3cf0;
/// Longest frame in bits.
pub const TX_MTU: u32 = 0x3e0c;
/// Port token bucket size in bits.
pub const TX_TOKEN_SIZE: u32 = 0x3e14;
/// Queue token bucket size in bits.
pub const TXQ_TOKEN_SIZE: u32 = 0x3e40;

/// Registers that only remember what was written, as `(first, last)` offsets.
const STORAGE: &[(u32, u32)] = &[
    (0x1400, 0x143c), // RX configuration, snoop
    (0x1480, 0x149c),
    (0x14c0, 0x14dc),
    (0x1700, 0x170c), // buffer manager pools
    (0x2000, 0x2000),
    (0x2008, 0x2010),
    (0x2084, 0x2084),
    (0x2098, 0x2098),
    (0x20b0, 0x20b0),
    (0x2200, 0x222c), // windows
    (0x2280, 0x228c),
    (0x2290, 0x2294),
    (0x2400, 0x2404),
    (0x2410, 0x2440),
    (0x2454, 0x2454),
    (0x2478, 0x247c),
    (0x24bc, 0x24bc),
    (0x24e4, 0x24e4),
    (0x24f4, 0x24f4),
    (0x2500, 0x2504),
    (0x2540, 0x2544),
    (0x2580, 0x259c),
    (0x25a4, 0x25a4),
    (0x25ac, 0x25ac),
    (0x25b4, 0x25b4),
    (0x25b8, 0x25b8),
    (0x25e4, 0x25e4),
    (0x2700, 0x277c), // legacy tokens: every fourth and its neighbour, see `is_storage`
    (0x2c00, 0x2c0c),
    (0x2c14, 0x2c14),
    (0x2c24, 0x2c24),
    (0x2c48, 0x2c48),
    (0x2c90, 0x2c94),
    (0x2cc0, 0x2cc8),
    (0x3400, 0x34fc),
    (0x3500, 0x35fc),
    (0x3600, 0x360c),
    (0x3c00, 0x3c1c),
    (0x3d44, 0x3d80), // Marvell header values
    (0x3e00, 0x3e14),
    (0x3e20, 0x3e7c),
];

/// True for a register that is known and has no behaviour of its own on access.
#[must_use]
pub fn is_storage(offset: u32) -> bool {
    let legacy_token_hole = (0x2700..0x2780).contains(&offset) && offset & 0xf >= 8;
    !legacy_token_hole
        && STORAGE
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&offset))
}

/// The queue of a per-queue register of stride 4, if `offset` is one of the eight from `base`.
#[must_use]
pub fn queue_of(offset: u32, base: u32) -> Option<usize> {
    (base..base + 32)
        .contains(&offset)
        .then(|| ((offset - base) / 4) as usize)
}
