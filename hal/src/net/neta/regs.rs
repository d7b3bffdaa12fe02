//! Registers of the MAC, in offset order. Offsets are from the port's base (NETA0: 0xd003_0000).
//!
//! Spec: none is public. Inherited, all of it: Linux mvneta.c, FreeBSD if_mvnetareg.h, U-Boot mvneta.c; where they
//! differ, the line says whose reading it is.

use crate::regs::{Reg, Regs, Ro, Roc, Rw, W0c, Wo};
use tock_registers::register_bitfields;

/// Queues the hardware has in each direction.
pub const QUEUES: usize = 8;

register_bitfields![u32,
    pub RxqSize [
        DESCRIPTORS OFFSET(0) NUMBITS(14) [],
        /// In units of 8 bytes.
        BUFFER_SIZE OFFSET(19) NUMBITS(13) []
    ],
    pub RxqThreshold [
        OCCUPIED OFFSET(0) NUMBITS(14) [],
        FREE OFFSET(16) NUMBITS(14) []
    ],
    pub RxqStatus [
        OCCUPIED OFFSET(0) NUMBITS(14) [],
        FREE OFFSET(16) NUMBITS(14) []
    ],
    pub RxqUpdate [
        RELEASED OFFSET(0) NUMBITS(8) [],
        GIVEN OFFSET(16) NUMBITS(8) []
    ],
    pub DmaReset [ HOLD OFFSET(0) NUMBITS(1) [] ],
    pub UnitCause [
        ADDRESS_VIOLATION OFFSET(2) NUMBITS(1) [],
        ADDRESS_NO_MATCH OFFSET(3) NUMBITS(1) [],
        SMI_DONE OFFSET(4) NUMBITS(1) [],
        INTERNAL_ADDRESS OFFSET(7) NUMBITS(1) []
    ],
    pub UnitControl [ PHY_POLLING OFFSET(1) NUMBITS(1) [] ],
    pub PortConfig [
        UNICAST_PROMISCUOUS OFFSET(0) NUMBITS(1) [],
        /// Transmit errors are not written into descriptors.
        NO_TX_ERROR_SUMMARY OFFSET(12) NUMBITS(1) [],
        RX_CHECKSUM_WITH_PSEUDO_HEADER OFFSET(25) NUMBITS(1) []
    ],
    pub SdmaConfig [
        RX_BURST OFFSET(1) NUMBITS(3) [ Words16 = 4 ],
        RX_NO_SWAP OFFSET(4) NUMBITS(1) [],
        TX_NO_SWAP OFFSET(5) NUMBITS(1) [],
        TX_BURST OFFSET(22) NUMBITS(3) [ Words16 = 4 ]
    ],
    pub PortStatus [
        /// Bit 0 by Linux and FreeBSD, bit 1 by U-Boot and MUSDK.
        TX_IN_PROGRESS OFFSET(0) NUMBITS(2) [],
        TX_FIFO_EMPTY OFFSET(8) NUMBITS(1) []
    ],
    pub QueueCommand [
        /// Reads back what is enabled.
        ENABLE OFFSET(0) NUMBITS(8) [],
        DISABLE OFFSET(8) NUMBITS(8) []
    ],
    pub EtherTypePriority [ FORCE_UNICAST_HIT OFFSET(21) NUMBITS(1) [] ],
    pub ClockDivider [ ENABLE OFFSET(31) NUMBITS(1) [] ],
    pub QueueCause [
        TX OFFSET(0) NUMBITS(8) [],
        RX OFFSET(8) NUMBITS(8) []
    ],
    pub MacControl0 [
        PORT_ENABLE OFFSET(0) NUMBITS(1) [],
        PORT_1000BASE_X OFFSET(1) NUMBITS(1) [],
        /// In units of 2 bytes.
        FRAME_LIMIT OFFSET(2) NUMBITS(13) []
    ],
    pub MacControl1 [ LOOPBACK OFFSET(5) NUMBITS(1) [] ],
    pub MacControl2 [
        IN_BAND OFFSET(0) NUMBITS(1) [],
        PCS_ENABLE OFFSET(3) NUMBITS(1) [],
        RGMII_ENABLE OFFSET(4) NUMBITS(1) [],
        PORT_RESET OFFSET(6) NUMBITS(1) []
    ],
    pub Autoneg [
        FORCE_LINK_DOWN OFFSET(0) NUMBITS(1) [],
        FORCE_LINK_PASS OFFSET(1) NUMBITS(1) [],
        IN_BAND OFFSET(2) NUMBITS(1) [],
        BYPASS OFFSET(3) NUMBITS(1) [],
        SPEED_100 OFFSET(5) NUMBITS(1) [],
        SPEED_1000 OFFSET(6) NUMBITS(1) [],
        AUTO_SPEED OFFSET(7) NUMBITS(1) [],
        FLOW_CONTROL OFFSET(8) NUMBITS(1) [],
        AUTO_FLOW_CONTROL OFFSET(11) NUMBITS(1) [],
        FULL_DUPLEX OFFSET(12) NUMBITS(1) [],
        AUTO_DUPLEX OFFSET(13) NUMBITS(1) [],
        MUST_BE_ONE OFFSET(15) NUMBITS(1) []
    ],
    pub MacStatus [
        LINK_UP OFFSET(0) NUMBITS(1) [],
        SPEED_1000 OFFSET(1) NUMBITS(1) [],
        SPEED_100 OFFSET(2) NUMBITS(1) [],
        FULL_DUPLEX OFFSET(3) NUMBITS(1) [],
        RX_PAUSED OFFSET(6) NUMBITS(1) [],
        TX_PAUSED OFFSET(7) NUMBITS(1) []
    ],
    pub MacControl4 [ SHORT_PREAMBLE OFFSET(1) NUMBITS(1) [] ],
    pub TxqSize [
        DESCRIPTORS OFFSET(0) NUMBITS(14) [],
        SENT_THRESHOLD OFFSET(16) NUMBITS(14) []
    ],
    pub TxqStatus [
        PENDING OFFSET(0) NUMBITS(14) [],
        SENT OFFSET(16) NUMBITS(14) []
    ],
    pub TxqUpdate [
        ADDED OFFSET(0) NUMBITS(8) [],
        RELEASED OFFSET(16) NUMBITS(8) []
    ]
];

/// Largest count one write of an update register takes; its fields are 8 bits wide.
pub const UPDATE_MAX: u32 = 255;

/// RXQ config, 0x1400 + 4q. We write 0: no hardware buffers, no packet offset.
pub const RXQ_CONFIG: Regs<(), Rw, QUEUES> = Regs::at(0x1400);
/// RXQ descriptor base, 0x1480 + 4q.
pub const RXQ_BASE: Regs<(), Rw, QUEUES> = Regs::at(0x1480);
/// RXQ size, 0x14a0 + 4q.
pub const RXQ_SIZE: Regs<RxqSize::Register, Rw, QUEUES> = Regs::at(0x14a0);
/// RXQ threshold, 0x14c0 + 4q.
pub const RXQ_THRESHOLD: Regs<RxqThreshold::Register, Rw, QUEUES> = Regs::at(0x14c0);
/// RXQ status, 0x14e0 + 4q.
pub const RXQ_STATUS: Regs<RxqStatus::Register, Ro, QUEUES> = Regs::at(0x14e0);
/// RXQ status update, 0x1500 + 4q.
pub const RXQ_UPDATE: Regs<RxqUpdate::Register, Wo, QUEUES> = Regs::at(0x1500);
/// RXQ current descriptor, 0x1520 + 4q.
pub const RXQ_CURRENT: Regs<(), Ro, QUEUES> = Regs::at(0x1520);
/// Port RX DMA init, 0x1cc0.
pub const RX_DMA_RESET: Reg<DmaReset::Register, Rw> = Reg::at(0x1cc0);
/// MBUS retry, 0x2010.
pub const MBUS_RETRY: Reg<(), Rw> = Reg::at(0x2010);
/// Unit interrupt cause, 0x2080.
pub const UNIT_CAUSE: Reg<UnitCause::Register, W0c> = Reg::at(0x2080);
/// Unit interrupt mask, 0x2084.
pub const UNIT_MASK: Reg<UnitCause::Register, Rw> = Reg::at(0x2084);
/// Error address, 0x2094.
pub const ERROR_ADDRESS: Reg<(), Ro> = Reg::at(0x2094);
/// Unit control, 0x20b0.
pub const UNIT_CONTROL: Reg<UnitControl::Register, Rw> = Reg::at(0x20b0);
/// Decode windows in the MAC.
pub const WINDOWS: usize = 6;
/// Window base, 0x2200 + 8w.
pub const WINDOW_BASE: Regs<(), Rw, WINDOWS, 8> = Regs::at(0x2200);
/// Window size, 0x2204 + 8w: 31:16 (bytes / 64 KiB) - 1.
pub const WINDOW_SIZE: Regs<(), Rw, WINDOWS, 8> = Regs::at(0x2204);
/// Window remap high, 0x2280 + 4w.
pub const WINDOW_REMAP: Regs<(), Rw, 4> = Regs::at(0x2280);
/// Base address enable, 0x2290: 1 = window off.
pub const WINDOW_DISABLE: Reg<(), Rw> = Reg::at(0x2290);
/// Access protect, 0x2294: two bits a window, 3 = read and write.
pub const WINDOW_PROTECT: Reg<(), Rw> = Reg::at(0x2294);
/// Port config, 0x2400.
pub const PORT_CONFIG: Reg<PortConfig::Register, Rw> = Reg::at(0x2400);
/// Port config extend, 0x2404.
pub const PORT_CONFIG_EXTEND: Reg<(), Rw> = Reg::at(0x2404);
/// MAC address low, 0x2414: bytes 4 and 5.
pub const MAC_LOW: Reg<(), Rw> = Reg::at(0x2414);
/// MAC address high, 0x2418: bytes 0 to 3.
pub const MAC_HIGH: Reg<(), Rw> = Reg::at(0x2418);
/// SDMA config, 0x241c.
pub const SDMA_CONFIG: Reg<SdmaConfig::Register, Rw> = Reg::at(0x241c);
/// DSCP to queue, 0x2420 to 0x2438.
pub const DSCP_QUEUE: Regs<(), Rw, 7> = Regs::at(0x2420);
/// VLAN priority to queue, 0x2440.
pub const VLAN_QUEUE: Reg<(), Rw> = Reg::at(0x2440);
/// Port status, 0x2444.
pub const PORT_STATUS: Reg<PortStatus::Register, Ro> = Reg::at(0x2444);
/// TXQ command, 0x2448. Only ones act.
pub const TXQ_COMMAND: Reg<QueueCommand::Register, Rw> = Reg::at(0x2448);
/// Marvell header, 0x2454.
pub const MARVELL_HEADER: Reg<(), Rw> = Reg::at(0x2454);
/// RX minimum frame size, 0x247c.
pub const RX_MINIMUM: Reg<(), Rw> = Reg::at(0x247c);
/// RX discard count, 0x2484: frames that found no descriptor.
pub const RX_DISCARD: Reg<(), Roc> = Reg::at(0x2484);
/// RX overrun count, 0x2488.
pub const RX_OVERRUN: Reg<(), Roc> = Reg::at(0x2488);
/// EtherType priority, 0x24bc.
pub const ETHER_TYPE_PRIORITY: Reg<EtherTypePriority::Register, Rw> = Reg::at(0x24bc);
/// TXQ command 1, 0x24e4: 0 leaves the legacy arbitration.
pub const TXQ_COMMAND_1: Reg<(), Rw> = Reg::at(0x24e4);
/// 1 ms clock divider, 0x24f4.
pub const CLOCK_DIVIDER: Reg<ClockDivider::Register, Rw> = Reg::at(0x24f4);
/// Acceleration mode, 0x2500: 1 = software buffers, enhanced descriptors.
pub const ACCELERATION: Reg<(), Rw> = Reg::at(0x2500);
/// CPU to queue map, 0x2540 + 4c.
pub const CPU_MAP: Regs<(), Rw, 2> = Regs::at(0x2540);
/// RXQ time coalescing in core clocks, 0x2580 + 4q.
pub const RXQ_TIME: Regs<(), Rw, QUEUES> = Regs::at(0x2580);
/// Widest value of [`RXQ_TIME`].
pub const RXQ_TIME_MAX: u32 = 0xff_ffff;
/// Threshold causes, 0x25a0. Queue bits follow the counters and need no clearing.
pub const QUEUE_CAUSE: Reg<QueueCause::Register, W0c> = Reg::at(0x25a0);
/// Mask of [`QUEUE_CAUSE`], 0x25a4.
pub const QUEUE_MASK: Reg<QueueCause::Register, Rw> = Reg::at(0x25a4);
/// Per-packet causes, 0x25a8.
pub const PACKET_CAUSE: Reg<(), W0c> = Reg::at(0x25a8);
/// Mask of [`PACKET_CAUSE`], 0x25ac.
pub const PACKET_MASK: Reg<(), Rw> = Reg::at(0x25ac);
/// Misc cause, 0x25b0.
pub const MISC_CAUSE: Reg<(), W0c> = Reg::at(0x25b0);
/// Misc mask, 0x25b4.
pub const MISC_MASK: Reg<(), Rw> = Reg::at(0x25b4);
/// Interrupt enable, 0x25b8: RX queues in 7:0, TX in 15:8.
pub const IRQ_ENABLE: Reg<(), Rw> = Reg::at(0x25b8);
/// RXQ command, 0x2680. Only ones act.
pub const RXQ_COMMAND: Reg<QueueCommand::Register, Rw> = Reg::at(0x2680);
/// TXQ token count, 0x2700 + 16q.
pub const TXQ_TOKEN_COUNT: Regs<(), Rw, QUEUES, 16> = Regs::at(0x2700);
/// TXQ token config, 0x2704 + 16q.
pub const TXQ_TOKEN_CONFIG: Regs<(), Rw, QUEUES, 16> = Regs::at(0x2704);
/// GMAC control 0, 0x2c00.
pub const MAC_CONTROL_0: Reg<MacControl0::Register, Rw> = Reg::at(0x2c00);
/// GMAC control 1, 0x2c04.
pub const MAC_CONTROL_1: Reg<MacControl1::Register, Rw> = Reg::at(0x2c04);
/// GMAC control 2, 0x2c08.
pub const MAC_CONTROL_2: Reg<MacControl2::Register, Rw> = Reg::at(0x2c08);
/// GMAC autonegotiation config, 0x2c0c.
pub const AUTONEG: Reg<Autoneg::Register, Rw> = Reg::at(0x2c0c);
/// GMAC status, 0x2c10.
pub const MAC_STATUS: Reg<MacStatus::Register, Ro> = Reg::at(0x2c10);
/// GMAC control 4, 0x2c90.
pub const MAC_CONTROL_4: Reg<MacControl4::Register, Rw> = Reg::at(0x2c90);
/// MIB counters, 0x3000 to 0x307c.
pub const MIB: Regs<(), Roc, 32> = Regs::at(0x3000);
/// Special multicast table, 0x3400, one byte for each last byte of 01:00:5e:00:00:xx.
pub const SPECIAL_MULTICAST: Regs<(), Rw, 64> = Regs::at(0x3400);
/// Other multicast table, 0x3500, one byte for each CRC-8.
pub const OTHER_MULTICAST: Regs<(), Rw, 64> = Regs::at(0x3500);
/// Unicast table, 0x3600, one byte for each last nibble.
pub const UNICAST: Regs<(), Rw, 4> = Regs::at(0x3600);
/// TXQ descriptor base, 0x3c00 + 4q.
pub const TXQ_BASE: Regs<(), Rw, QUEUES> = Regs::at(0x3c00);
/// TXQ size, 0x3c20 + 4q.
pub const TXQ_SIZE: Regs<TxqSize::Register, Rw, QUEUES> = Regs::at(0x3c20);
/// TXQ status, 0x3c40 + 4q.
pub const TXQ_STATUS: Regs<TxqStatus::Register, Ro, QUEUES> = Regs::at(0x3c40);
/// TXQ update, 0x3c60 + 4q.
pub const TXQ_UPDATE: Regs<TxqUpdate::Register, Wo, QUEUES> = Regs::at(0x3c60);
/// TXQ current descriptor, 0x3c80 + 4q.
pub const TXQ_CURRENT: Regs<(), Ro, QUEUES> = Regs::at(0x3c80);
/// Frames sent with a bad FCS, 0x3cc0. Inherited: FreeBSD's name; that a read clears is assumed.
pub const TX_BAD_FCS: Reg<(), Roc> = Reg::at(0x3cc0);
/// Frames dropped before the wire, 0x3cc4. As [`TX_BAD_FCS`].
pub const TX_DROPPED: Reg<(), Roc> = Reg::at(0x3cc4);
/// Port TX DMA init, 0x3cf0.
pub const TX_DMA_RESET: Reg<DmaReset::Register, Rw> = Reg::at(0x3cf0);
/// TX MTU in bits, 0x3e0c.
pub const TX_MTU: Reg<(), Rw> = Reg::at(0x3e0c);
/// Port token size in bits, 0x3e14.
pub const TX_TOKEN_SIZE: Reg<(), Rw> = Reg::at(0x3e14);
/// Queue token size in bits, 0x3e40 + 4q.
pub const TXQ_TOKEN_SIZE: Regs<(), Rw, QUEUES> = Regs::at(0x3e40);

/// A table of registers by name: all names in one text, because a pointer to each would be as long as the name.
macro_rules! named {
    ($($name:literal $register:expr,)*) => {
        /// Names of those registers that tell most, and that a read does not change, a word each; of the queues, the
        /// one in use.
        pub const NAMES: &str = concat!($($name, " "),*);
        /// Their offsets.
        pub const OFFSETS: &[u16] = &[$($register.offset() as u16),*];
    };
}

named! {
    "rxq_config" RXQ_CONFIG.nth(super::QUEUE),
    "rxq_base" RXQ_BASE.nth(super::QUEUE),
    "rxq_size" RXQ_SIZE.nth(super::QUEUE),
    "rxq_threshold" RXQ_THRESHOLD.nth(super::QUEUE),
    "rxq_status" RXQ_STATUS.nth(super::QUEUE),
    "rxq_current" RXQ_CURRENT.nth(super::QUEUE),
    "rx_dma_reset" RX_DMA_RESET,
    "unit_cause" UNIT_CAUSE,
    "unit_mask" UNIT_MASK,
    "error_address" ERROR_ADDRESS,
    "unit_control" UNIT_CONTROL,
    "window_disable" WINDOW_DISABLE,
    "port_config" PORT_CONFIG,
    "port_config_extend" PORT_CONFIG_EXTEND,
    "mac_low" MAC_LOW,
    "mac_high" MAC_HIGH,
    "sdma_config" SDMA_CONFIG,
    "port_status" PORT_STATUS,
    "txq_command" TXQ_COMMAND,
    "marvell_header" MARVELL_HEADER,
    "rx_minimum" RX_MINIMUM,
    "acceleration" ACCELERATION,
    "rxq_time" RXQ_TIME.nth(super::QUEUE),
    "queue_cause" QUEUE_CAUSE,
    "queue_mask" QUEUE_MASK,
    "misc_cause" MISC_CAUSE,
    "misc_mask" MISC_MASK,
    "irq_enable" IRQ_ENABLE,
    "rxq_command" RXQ_COMMAND,
    "mac_control_0" MAC_CONTROL_0,
    "mac_control_1" MAC_CONTROL_1,
    "mac_control_2" MAC_CONTROL_2,
    "autonegotiation" AUTONEG,
    "mac_status" MAC_STATUS,
    "unicast_0" UNICAST.nth(super::QUEUE),
    "txq_base" TXQ_BASE.nth(super::QUEUE),
    "txq_size" TXQ_SIZE.nth(super::QUEUE),
    "txq_status" TXQ_STATUS.nth(super::QUEUE),
    "txq_current" TXQ_CURRENT.nth(super::QUEUE),
    "tx_dma_reset" TX_DMA_RESET,
    "tx_mtu" TX_MTU,
    "txq_token_size" TXQ_TOKEN_SIZE.nth(super::QUEUE),
}
