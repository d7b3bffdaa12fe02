//! NETA, the Gigabit Ethernet MAC of the Armada 3720 (`marvell,armada-3700-neta`).
//!
//! Owns the registers, one receive and one transmit ring, and the frames in them. Leaves to others: clocks and pins
//! ([`crate::soc`]), what hangs on the RGMII wires, when to poll, what to do about a [`Fault`].
//!
//! ```text
//!   poll loop --- Nic ---> mod.rs    life of the port: stop, bring up, run, watch, restart
//!                          ring.rs   frames <-> descriptors <-> counts        desc.rs    descriptor words
//!                          filter.rs addresses     mib.rs  counters           regs.rs    everything else
//! ```
//!
//! **Interrupts.** One line for the port, a level. Its causes follow the counters of the queues, so there is nothing to
//! acknowledge and no edge to lose: the interrupt controller holds the line back until the poll loop has drained the
//! ring, whose last look reads the count after it has told of everything taken; frames that came since hold the line
//! up. So the mask here is touched only when somebody waits for room to send: received frames wait, too, then.
//!
//! **Checksums** are left to software. On receive, the parser does not know the tags of the switch behind it
//! (unverified, but no driver relies on it), and mode 0x2454 that might teach it to is used by no driver of this switch:
//! left off, unverified. On transmit, IPv6 is reported broken by FreeBSD, and a tag shifts the offsets. What the
//! fast path saves by updating a checksum instead of computing it is more than the hardware could.
//!
//! **Source.** Spec: none is public. Inherited, unless a line says otherwise: the order of Linux mvneta.c, cross-read
//! with U-Boot and FreeBSD. Not yet observed on a board.

pub mod desc;
mod filter;
mod mib;
mod regs;
mod ring;

pub use desc::Descriptor;
pub use filter::Filter;
pub use mib::Mib;
pub use ring::RingDump;

pub use super::Coalescing;

use super::{Frame, Link, MacAddr, Nic, Pool};
use crate::dma::{Dma, LINE};
use crate::net::frame::BUFFER_BYTES;
use crate::net::phy::Pause;
use crate::regs::Bus;
use crate::time::Clock;
use core::fmt;
use desc::{Damage, ETHERNET_HEADER_BYTES, FCS_BYTES, MARVELL_HEADER_BYTES};
use regs::*;
use ring::{Harvest, RX_START, RxQueue, TxQueue};

/// The queue in use. Inherited: all queues reach the same interrupt and the same core, so one does.
const QUEUE: usize = 0;
const QUEUE_BIT: u32 = 1 << QUEUE;
/// So many looks lie between two at which all of the hardware's counters are collected: less than the 34 s that the
/// quickest needs to overflow, at one look a second.
const COLLECT_EVERY: u32 = 16;

/// Longest wait for a queue to stop. A frame takes 12 us; a partner's pause, 34 ms.
pub const QUEUE_STOP_LIMIT_US: u64 = 50_000;
/// Longest wait for the transmit FIFO to run empty.
pub const FIFO_LIMIT_US: u64 = 50_000;
/// Time the port needs to settle after a change of its enable bit. Inherited: Linux.
const SETTLE_US: u64 = 200;
/// Longest wait for the port to leave reset. Inherited: no document states a limit.
pub const PORT_RESET_LIMIT_US: u64 = 10_000;
/// Longest wait for a forced link to be up.
pub const LINK_LIMIT_US: u64 = 10_000;
/// Time without progress after which a queue counts as stuck.
pub const STALL_LIMIT_US: u64 = 500_000;

/// What a buffer holds beside a frame: Marvell header, FCS, and slack for the two readings of the frame limit.
const AROUND_FRAME_BYTES: usize = MARVELL_HEADER_BYTES + FCS_BYTES + 2;
/// Longest frame without FCS that a buffer takes.
pub const MAX_FRAME_BYTES: usize = BUFFER_BYTES - RX_START - AROUND_FRAME_BYTES;

/// What the driver is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The port's own address.
    pub mac: MacAddr,
    /// Speed of the fixed link in Mb/s: 10, 100 or 1000.
    pub speed_mbps: u32,
    /// Duplex of the fixed link.
    pub full_duplex: bool,
    /// Sends and obeys pause frames.
    pub pause: bool,
    /// Longest frame without FCS, with every tag; [`MAX_FRAME_BYTES`] at most.
    pub max_frame_bytes: usize,
    /// Clock that coalescing times are counted in.
    pub core_clock_hz: u32,
    /// When received frames interrupt.
    pub coalescing: Coalescing,
}

impl Config {
    /// The ESPRESSObin's conduit: 1000/full, 1500 bytes of payload with 802.1Q and EtherType DSA tags.
    pub const fn conduit(mac: MacAddr, core_clock_hz: u32) -> Self {
        Config {
            mac,
            speed_mbps: 1000,
            full_duplex: true,
            pause: false,
            max_frame_bytes: 1500 + ETHERNET_HEADER_BYTES + 4 + 8,
            core_clock_hz,
            coalescing: Coalescing::LATENCY,
        }
    }

    /// Bytes of a buffer that the MAC may write: whole lines.
    const fn room(&self) -> usize {
        (self.max_frame_bytes + AROUND_FRAME_BYTES).next_multiple_of(LINE)
    }

    /// Longest frame with FCS that the MAC lets in. Whether it counts the Marvell header, the sources leave open: the
    /// room is enough if it does not, the slack if it does.
    const fn frame_limit(&self) -> usize {
        self.room() - MARVELL_HEADER_BYTES
    }
}

/// Why the port does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The longest frame does not fit into a buffer.
    FrameTooLong {
        /// What was asked for.
        max_frame_bytes: usize,
    },
    /// A ring of the wrong length.
    RingLength {
        /// Descriptors that are there.
        len: usize,
        /// Descriptors wanted.
        wanted: usize,
    },
    /// A ring that the MAC cannot reach: its addresses have 32 bits.
    RingUnreachable,
    /// The pool has not enough buffers for the receive ring, or the MAC cannot reach them.
    NoBuffers,
    /// A receive queue was still enabled after [`QUEUE_STOP_LIMIT_US`].
    RxQueueStuck {
        /// 0x2680.
        command: u32,
    },
    /// A transmit queue was still enabled after [`QUEUE_STOP_LIMIT_US`].
    TxQueueStuck {
        /// 0x2448.
        command: u32,
    },
    /// The reset bit was still set after [`PORT_RESET_LIMIT_US`].
    PortReset {
        /// 0x2c08.
        mac_control_2: u32,
    },
    /// The forced link was not as forced after [`LINK_LIMIT_US`].
    Link {
        /// 0x2c10.
        mac_status: u32,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::FrameTooLong { max_frame_bytes } => {
                write!(f, "frames of {max_frame_bytes} bytes do not fit a buffer")
            }
            Error::RingLength { len, wanted } => {
                write!(f, "a ring has {len} descriptors instead of {wanted}")
            }
            Error::RingUnreachable => f.write_str("a ring lies above 4 GiB"),
            Error::NoBuffers => f.write_str("no buffers for the receive ring"),
            Error::RxQueueStuck { command } => write!(
                f,
                "receive queues do not stop within {QUEUE_STOP_LIMIT_US} us, 0x2680 is {command:#x}"
            ),
            Error::TxQueueStuck { command } => write!(
                f,
                "transmit queues do not stop within {QUEUE_STOP_LIMIT_US} us, 0x2448 is {command:#x}"
            ),
            Error::PortReset { mac_control_2 } => write!(
                f,
                "the port stays in reset after {PORT_RESET_LIMIT_US} us, 0x2c08 is {mac_control_2:#x}"
            ),
            Error::Link { mac_status } => write!(
                f,
                "the fixed link does not come up within {LINK_LIMIT_US} us, 0x2c10 is {mac_status:#x}"
            ),
        }
    }
}

/// What [`Neta::check`] found wrong with a running port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Frames wait to be sent, and none was for [`STALL_LIMIT_US`]. Cure: [`Neta::restart`].
    TxStall {
        /// How many wait.
        pending: u32,
    },
    /// Frames are lost for want of descriptors although it has some, for [`STALL_LIMIT_US`]. Cure: [`Neta::restart`].
    RxStarved {
        /// Lost since the last frame arrived.
        discarded: u64,
    },
    /// Received frames wait, and nobody asked for them for [`STALL_LIMIT_US`]. Cure: poll.
    LostInterrupt {
        /// How many wait.
        occupied: usize,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::TxStall { pending } => {
                write!(f, "transmit stalled with {pending} frames waiting")
            }
            Fault::RxStarved { discarded } => {
                write!(f, "receive starved, {discarded} frames lost")
            }
            Fault::LostInterrupt { occupied } => {
                write!(f, "{occupied} frames wait without an interrupt")
            }
        }
    }
}

macro_rules! counters {
    ($( $name:ident: $help:literal, )+) => {
        /// What the driver counts beside [`super::Counters`] and [`Mib`].
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $( #[doc = $help] pub $name: u64, )+
        }

        impl Counters {
            const LEN: usize = [ $( stringify!($name), )+ ].len();

            /// Name, help text and value of each.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [ $( (stringify!($name), $help, self.$name), )+ ].into_iter()
            }
        }
    };
}

counters! {
    interrupts: "Interrupts of the MAC",
    rx_crc: "Received frames with a bad FCS",
    rx_overrun: "Received frames cut by a FIFO overrun",
    rx_too_long: "Received frames longer than the limit",
    rx_no_resource: "Received frames cut because descriptors ran out",
    rx_part: "Receive descriptors without a whole frame",
    rx_runt: "Received frames shorter than an Ethernet header",
    rx_bad_length: "Received frames longer than their buffer by the MAC's account",
    rx_bad_status: "Receive counts higher than the buffers given",
    rx_no_buffer: "Times a received frame had to wait because no buffer was free",
    rx_unreachable: "Buffers that the MAC cannot reach",
    tx_bad_status: "Transmit counts higher than the frames given",
    tx_bad_length: "Frames not sent because of their length",
    tx_unreachable: "Frames not sent because the MAC cannot reach them",
    tx_stopped: "Frames not sent because the port was stopped",
    tx_lost: "Frames lost in the transmit ring by a restart",
    fifo_stuck: "Times the transmit FIFO did not run empty before a stop",
    dma_errors: "Refused DMA accesses",
    tx_stalls: "Transmit stalls",
    rx_starvations: "Receive starvations",
    lost_interrupts: "Times received frames waited without an interrupt",
    restarts: "Restarts of the port",
}

impl Counters {
    fn note(&mut self, damage: Damage) {
        *match damage {
            Damage::Crc => &mut self.rx_crc,
            Damage::Overrun => &mut self.rx_overrun,
            Damage::TooLong => &mut self.rx_too_long,
            Damage::NoResource => &mut self.rx_no_resource,
            Damage::Part => &mut self.rx_part,
            Damage::Runt => &mut self.rx_runt,
            Damage::Length => &mut self.rx_bad_length,
        } += 1;
    }
}

/// Since when something makes no progress.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    progress: u64,
    since_us: Option<u64>,
}

impl Watch {
    /// True once `waiting` has lasted for [`STALL_LIMIT_US`] without `progress` changing.
    fn stuck(&mut self, waiting: bool, progress: u64, now_us: u64) -> bool {
        if !waiting || progress != self.progress {
            self.progress = progress;
            self.since_us = None;
        }
        waiting && now_us.saturating_sub(*self.since_us.get_or_insert(now_us)) >= STALL_LIMIT_US
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Watches {
    tx: Watch,
    starved: Watch,
    unattended: Watch,
    /// Frames discarded when the last frame arrived.
    discarded: u64,
    received: u64,
}

/// The port. `RX` and `TX` are the places of its rings.
#[derive(Debug)]
pub struct Neta<B: Bus, D: Dma, const RX: usize, const TX: usize> {
    bus: B,
    dma: D,
    config: Config,
    filter: Filter,
    rx: RxQueue<RX>,
    tx: TxQueue<TX>,
    link: Link,
    /// Between a start and the next stop.
    running: bool,
    /// What stands in the interrupt mask.
    mask: u32,
    space_wanted: bool,
    watches: Watches,
    common: super::Counters,
    counters: Counters,
    mib: Mib,
    checks: u32,
    last_dma_error: Option<u32>,
    loopback: bool,
}

impl<B: Bus, D: Dma, const RX: usize, const TX: usize> Neta<B, D, RX, TX> {
    /// A port with these rings, which lie in uncached memory. Touches nothing; the filter lets in the own address,
    /// broadcast, and all groups.
    ///
    /// # Errors
    ///
    /// [`Error::FrameTooLong`], [`Error::RingLength`], [`Error::RingUnreachable`].
    pub fn new(
        bus: B,
        mut dma: D,
        config: Config,
        rx_ring: &'static [Descriptor],
        tx_ring: &'static [Descriptor],
    ) -> Result<Self, Error> {
        if config.max_frame_bytes > MAX_FRAME_BYTES {
            return Err(Error::FrameTooLong {
                max_frame_bytes: config.max_frame_bytes,
            });
        }
        let (rx_base, rx_ring) = ring_of(&mut dma, rx_ring)?;
        let (tx_base, tx_ring) = ring_of(&mut dma, tx_ring)?;
        let mut filter = Filter::new(config.mac);
        filter.accept_all_groups();
        Ok(Neta {
            bus,
            dma,
            config,
            filter,
            rx: RxQueue::new(QUEUE, rx_base, rx_ring, config.room()),
            tx: TxQueue::new(QUEUE, tx_base, tx_ring, config.max_frame_bytes),
            link: Link::Down,
            running: false,
            mask: 0,
            space_wanted: false,
            watches: Watches::default(),
            common: super::Counters::default(),
            counters: Counters::default(),
            mib: Mib::default(),
            checks: 0,
            last_dma_error: None,
            loopback: false,
        })
    }

    /// Stops whatever runs, sets everything up, fills the receive ring from `pool`, and starts. Frames move from here
    /// on. May be called again after an error.
    ///
    /// # Errors
    ///
    /// [`Error`]; the port is left disabled, with its DMA engines in reset.
    pub fn bring_up(&mut self, clock: &mut impl Clock, pool: &mut Pool) -> Result<(), Error> {
        self.stop(clock, pool)?;
        Mib::discard(&mut self.bus);
        self.set_up(clock, pool)
    }

    /// The rest of it; the port is stopped.
    fn set_up(&mut self, clock: &mut impl Clock, pool: &mut Pool) -> Result<(), Error> {
        self.open_windows();
        self.set_defaults();
        self.filter.write(&mut self.bus);
        self.rx.configure(&mut self.bus);
        self.tx.configure(&mut self.bus);
        self.set_coalescing(self.config.coalescing);
        self.set_sizes();
        if !self.rx.fill(&mut self.bus, &mut self.dma, pool) {
            self.hold_dma();
            self.rx.empty(pool);
            return Err(Error::NoBuffers);
        }
        let started = self.start(clock);
        if started.is_err() {
            // A port that is half up must not write into buffers that go back to the pool.
            self.stop(clock, pool)?;
        }
        started
    }

    /// Stops the port, whoever started it, and takes all buffers back.
    ///
    /// # Errors
    ///
    /// [`Error::RxQueueStuck`], [`Error::TxQueueStuck`]: then the DMA engines are in reset all the same, but the
    /// buffers stay where they are, because the MAC might write into them.
    ///
    /// # Source
    ///
    /// Inherited: Linux `mvneta_port_down` and `mvneta_stop_dev`. The link goes down after the FIFO has run empty, not
    /// before, because without a link it cannot.
    pub fn stop(&mut self, clock: &mut impl Clock, pool: &mut Pool) -> Result<(), Error> {
        let bus = &mut self.bus;
        self.link = Link::Down;
        self.running = false;
        self.mask = 0;
        QUEUE_MASK.set(bus, 0);
        PACKET_MASK.set(bus, 0);
        MISC_MASK.set(bus, 0);
        UNIT_MASK.set(bus, 0);
        // Both directions are tried, and the rest is done, whatever comes of it.
        let rx = stop_queues(bus, clock, RXQ_COMMAND);
        let tx = stop_queues(bus, clock, TXQ_COMMAND);
        let empty = clock.wait_until(FIFO_LIMIT_US, || {
            let status = PORT_STATUS.read(bus);
            status.is_set(PortStatus::TX_FIFO_EMPTY) && status.read(PortStatus::TX_IN_PROGRESS) == 0
        });
        // Frames that cannot leave (no partner, no clock) are lost with the reset below, which is no reason to fail.
        self.counters.fifo_stuck += u64::from(empty.is_err());
        AUTONEG.modify(
            bus,
            Autoneg::FORCE_LINK_DOWN::SET + Autoneg::FORCE_LINK_PASS::CLEAR,
        );
        settle(clock);
        MAC_CONTROL_0.modify(bus, MacControl0::PORT_ENABLE::CLEAR);
        settle(clock);
        QUEUE_CAUSE.clear(bus, u32::MAX);
        PACKET_CAUSE.clear(bus, u32::MAX);
        MISC_CAUSE.clear(bus, u32::MAX);
        IRQ_ENABLE.set(bus, 0);
        self.hold_dma();
        rx.map_err(|command| Error::RxQueueStuck { command })?;
        tx.map_err(|command| Error::TxQueueStuck { command })?;
        // Only now does nothing write into them any more.
        self.rx.empty(pool);
        self.counters.tx_lost += self.tx.empty(pool);
        Ok(())
    }

    /// Puts the DMA engines into reset, which clears their counts and indices.
    fn hold_dma(&mut self) {
        RX_DMA_RESET.write(&mut self.bus, DmaReset::HOLD::SET);
        TX_DMA_RESET.write(&mut self.bus, DmaReset::HOLD::SET);
    }

    /// One window over all of the address space; the real decoding is done outside the MAC, by TF-A.
    fn open_windows(&mut self) {
        let bus = &mut self.bus;
        WINDOW_DISABLE.set(bus, 0x3f);
        WINDOW_BASE.each().for_each(|base| base.set(bus, 0));
        WINDOW_SIZE.each().for_each(|size| size.set(bus, 0));
        WINDOW_REMAP.each().for_each(|remap| remap.set(bus, 0));
        WINDOW_SIZE.nth(0).set(bus, 0xffff_0000);
        WINDOW_PROTECT.set(bus, 3);
        WINDOW_DISABLE.set(bus, 0x3e);
    }

    /// Everything that does not depend on rings, sizes or addresses. The port is off and its DMA engines in reset;
    /// afterwards they are out of it.
    fn set_defaults(&mut self) {
        let bus = &mut self.bus;
        // Else MBUS errors are not retried. Inherited: Linux.
        MBUS_RETRY.set(bus, 0x20);
        CPU_MAP.each().for_each(|map| map.set(bus, 0xffff));
        TXQ_COMMAND_1.set(bus, 0);
        TXQ_TOKEN_COUNT.each().for_each(|count| count.set(bus, 0));
        TXQ_TOKEN_CONFIG
            .each()
            .for_each(|config| config.set(bus, 0));
        TX_DMA_RESET.write(bus, DmaReset::HOLD::CLEAR);
        RX_DMA_RESET.write(bus, DmaReset::HOLD::CLEAR);
        ACCELERATION.set(bus, 1);
        PORT_CONFIG.write(
            bus,
            PortConfig::NO_TX_ERROR_SUMMARY::SET + PortConfig::RX_CHECKSUM_WITH_PSEUDO_HEADER::SET,
        );
        PORT_CONFIG_EXTEND.set(bus, 0);
        MARVELL_HEADER.set(bus, 0);
        // Linux writes 64 (bytes), FreeBSD (64 - 40) & 0x7c. The latter loses no frame under either reading; what is
        // shorter and gets through is bounded by its length like any frame.
        RX_MINIMUM.set(bus, (64 - 40) & 0x7c);
        SDMA_CONFIG.write(
            bus,
            SdmaConfig::RX_BURST::Words16
                + SdmaConfig::TX_BURST::Words16
                + SdmaConfig::RX_NO_SWAP::SET
                + SdmaConfig::TX_NO_SWAP::SET,
        );
        // Priorities must not send a frame to a queue that nobody serves.
        DSCP_QUEUE.each().for_each(|map| map.set(bus, 0));
        VLAN_QUEUE.set(bus, 0);
        UNIT_CONTROL.modify(bus, UnitControl::PHY_POLLING::CLEAR);
        IRQ_ENABLE.set(bus, 0xffff);
        UNIT_CAUSE.clear(bus, u32::MAX);
    }

    /// Frame limits and the token buckets, which must not be smaller than the TX MTU.
    fn set_sizes(&mut self) {
        const TOKENS: u32 = 0x03ff_ffff;
        const TOKENS_FULL: u32 = 0x3fff_ffff;
        const NO_LIMIT: u32 = 0x7fff_ffff;
        let limit = self.config.frame_limit() as u32;
        let bus = &mut self.bus;
        MAC_CONTROL_0.modify(bus, MacControl0::FRAME_LIMIT.val(limit / 2));
        TX_MTU.set(bus, limit * 8);
        TX_TOKEN_SIZE.set(bus, NO_LIMIT);
        TXQ_TOKEN_SIZE.nth(QUEUE).set(bus, NO_LIMIT);
        TXQ_TOKEN_CONFIG.nth(QUEUE).set(bus, TOKENS);
        TXQ_TOKEN_COUNT.nth(QUEUE).set(bus, TOKENS_FULL);
    }

    /// Enables the port, forces the link, enables the queues, opens the interrupt.
    fn start(&mut self, clock: &mut impl Clock) -> Result<(), Error> {
        let bus = &mut self.bus;
        MAC_CONTROL_0.modify(bus, MacControl0::PORT_ENABLE::SET);
        MAC_CONTROL_1.modify(bus, MacControl1::LOOPBACK.val(self.loopback.into()));
        // The link is forced down: only then may the port's mode change.
        MAC_CONTROL_2.modify(
            bus,
            MacControl2::RGMII_ENABLE::SET
                + MacControl2::PCS_ENABLE::CLEAR
                + MacControl2::IN_BAND::CLEAR
                + MacControl2::PORT_RESET::CLEAR,
        );
        clock
            .wait_until(PORT_RESET_LIMIT_US, || {
                !MAC_CONTROL_2.read(bus).is_set(MacControl2::PORT_RESET)
            })
            .map_err(|_| Error::PortReset {
                mac_control_2: MAC_CONTROL_2.read(bus).get(),
            })?;
        MAC_CONTROL_0.modify(bus, MacControl0::PORT_1000BASE_X::CLEAR);
        MAC_CONTROL_4.modify(bus, MacControl4::SHORT_PREAMBLE::CLEAR);
        CLOCK_DIVIDER.modify(bus, ClockDivider::ENABLE::CLEAR);
        let config = &self.config;
        AUTONEG.modify(
            bus,
            Autoneg::IN_BAND::CLEAR
                + Autoneg::BYPASS::CLEAR
                + Autoneg::AUTO_SPEED::CLEAR
                + Autoneg::AUTO_FLOW_CONTROL::CLEAR
                + Autoneg::AUTO_DUPLEX::CLEAR
                + Autoneg::SPEED_1000.val((config.speed_mbps == 1000).into())
                + Autoneg::SPEED_100.val((config.speed_mbps == 100).into())
                + Autoneg::FULL_DUPLEX.val(config.full_duplex.into())
                + Autoneg::FLOW_CONTROL.val(config.pause.into())
                + Autoneg::MUST_BE_ONE::SET,
        );
        AUTONEG.modify(
            bus,
            Autoneg::FORCE_LINK_DOWN::CLEAR + Autoneg::FORCE_LINK_PASS::SET,
        );
        let pause = config.pause;
        let wanted = Link::Up {
            speed_mbps: config.speed_mbps,
            full_duplex: config.full_duplex,
            pause: Pause {
                tx: pause,
                rx: pause,
            },
        };
        clock
            .wait_until(LINK_LIMIT_US, || read_link(bus, pause) == wanted)
            .map_err(|_| Error::Link {
                mac_status: MAC_STATUS.read(bus).get(),
            })?;
        self.link = wanted;
        TXQ_COMMAND.write(bus, QueueCommand::ENABLE.val(QUEUE_BIT));
        RXQ_COMMAND.write(bus, QueueCommand::ENABLE.val(QUEUE_BIT));
        self.watches = Watches::default();
        self.running = true;
        self.open_interrupts();
        Ok(())
    }

    /// Restarts a port with a [`Fault`]. What was in the receive ring and in the transmit ring is lost and counted; the
    /// stack's connections do not notice more than that. Look at [`Neta::dump`] first.
    ///
    /// # Errors
    ///
    /// As [`Neta::bring_up`]; may be called again.
    pub fn restart(&mut self, clock: &mut impl Clock, pool: &mut Pool) -> Result<(), Error> {
        self.counters.restarts += 1;
        // What was sent is not lost.
        self.tx.collect(&mut self.bus, pool, &mut self.counters);
        self.stop(clock, pool)?;
        self.mib.collect(&mut self.bus);
        self.set_up(clock, pool)
    }

    /// Received frames interrupt, or, as long as somebody waits for room, sent ones: a full transmit ring leaves received
    /// frames in theirs.
    fn open_interrupts(&mut self) {
        let open = match self.space_wanted {
            true => QueueCause::TX.val(QUEUE_BIT),
            false => QueueCause::RX.val(QUEUE_BIT),
        };
        if self.running && self.mask != open.value {
            self.mask = open.value;
            QUEUE_MASK.write(&mut self.bus, open);
        }
    }

    /// Whether [`Nic::receive`] would find something, if only a damaged frame. Cheaper where it would not.
    #[inline]
    pub fn look(&mut self) -> bool {
        self.running
            && self
                .rx
                .look(&mut self.bus, &mut self.dma, &mut self.counters)
    }

    /// Queues a frame for [`Nic::flush`]. If it does not go, it is counted and back in `pool`.
    #[inline]
    pub fn send(&mut self, frame: Frame, pool: &mut Pool) -> bool {
        if !self.running {
            self.counters.tx_stopped += 1;
            pool.put(frame);
            return false;
        }
        if self.transmit_space(pool) == 0 {
            self.common.tx_ring_full += 1;
            pool.put(frame);
            return false;
        }
        let bytes = frame.byte_count() as u64;
        match self.tx.send(frame, &mut self.dma, &mut self.counters) {
            Ok(()) => {
                self.common.tx_frames += 1;
                self.common.tx_bytes += bytes;
                true
            }
            Err(frame) => {
                pool.put(frame);
                false
            }
        }
    }

    /// Sets when received frames interrupt, at any time.
    pub fn set_coalescing(&mut self, coalescing: Coalescing) {
        self.config.coalescing = coalescing;
        // Whether the hardware compares with "at least" or "more than" is open, and what it makes of 0: each frame, an
        // interrupt that never ends, or none. So 0 is never written. One less than asked for is never later than asked
        // for; where that is nothing, the timer makes good for the one frame too many, almost at once.
        let each = coalescing.rx_packets <= 1;
        let packets = u32::from(coalescing.rx_packets)
            .saturating_sub(1)
            .clamp(1, RX as u32 / 2);
        RXQ_THRESHOLD.nth(QUEUE).write(
            &mut self.bus,
            RxqThreshold::OCCUPIED.val(packets) + RxqThreshold::FREE.val(0),
        );
        // A time of 0 may switch the timer off, and a lone frame would wait for ever.
        let time_us = if each { 1 } else { coalescing.rx_time_us };
        let clocks = u64::from(time_us) * u64::from(self.config.core_clock_hz / 1_000_000);
        let clocks = clocks.clamp(1, RXQ_TIME_MAX.into()) as u32;
        RXQ_TIME.nth(QUEUE).set(&mut self.bus, clocks);
    }

    /// When received frames interrupt.
    pub fn coalescing(&self) -> Coalescing {
        self.config.coalescing
    }

    /// Whether frames come back, see [`Neta::set_loopback`].
    pub fn loopback(&self) -> bool {
        self.loopback
    }

    /// Has every frame sent come back instead of going out on the wires, and none come from there. Survives restarts.
    ///
    /// # Source
    ///
    /// Inherited: MUSDK neta_hw.h names the bit. *Unverified*: what happens on the wires meanwhile.
    pub fn set_loopback(&mut self, on: bool) {
        self.loopback = on;
        MAC_CONTROL_1.modify(&mut self.bus, MacControl1::LOOPBACK.val(on.into()));
    }

    /// Shows what the registers that tell most hold, by name and offset; none that a read changes.
    pub fn registers(&mut self, show: &mut dyn FnMut(&'static str, u32, u32)) {
        for (name, offset) in NAMES.split_ascii_whitespace().zip(OFFSETS) {
            let offset = (*offset).into();
            show(name, offset, self.bus.read(offset));
        }
    }

    /// Sets which frames are let in, at any time.
    pub fn set_filter(&mut self, filter: Filter) {
        self.filter = filter;
        filter.write(&mut self.bus);
    }

    /// The filter in force, to start a new one from.
    pub fn filter(&self) -> Filter {
        self.filter
    }

    /// Adds what the hardware has counted to [`Neta::mib`].
    pub fn collect_counters(&mut self) {
        if self.running {
            self.mib.collect(&mut self.bus);
        }
    }

    /// Collects counters and looks for what hangs. To be called at least once a second.
    ///
    /// # Errors
    ///
    /// A [`Fault`], counted, once for each time it is found.
    pub fn check(&mut self, now_us: u64) -> Result<(), Fault> {
        if !self.running {
            return Ok(());
        }
        let bus = &mut self.bus;
        self.checks = self.checks.wrapping_add(1);
        match self.checks.is_multiple_of(COLLECT_EVERY) {
            true => self.mib.collect(bus),
            false => self.mib.collect_discards(bus),
        }
        let cause = UNIT_CAUSE.take(bus);
        if cause.is_set(UnitCause::ADDRESS_VIOLATION)
            || cause.is_set(UnitCause::ADDRESS_NO_MATCH)
            || cause.is_set(UnitCause::INTERNAL_ADDRESS)
        {
            self.counters.dma_errors += 1;
            self.last_dma_error = Some(ERROR_ADDRESS.read(bus).get());
        }
        self.link = read_link(bus, self.config.pause);

        let (pending, sent) = self.tx.progress(bus);
        // A partner that asks us to pause is no fault of ours, and a restart would not help.
        let status = MAC_STATUS.read(bus);
        let paused = self.config.pause
            && (status.is_set(MacStatus::RX_PAUSED) || status.is_set(MacStatus::TX_PAUSED));
        let (occupied, received) = self.rx.progress(bus);
        let discarded = self.mib.rx_discard;
        let watches = &mut self.watches;
        if received != watches.received || occupied > 0 {
            watches.received = received;
            watches.discarded = discarded;
        }
        let lost = discarded - watches.discarded;
        let tx_stuck = watches.tx.stuck(pending > 0 && !paused, sent, now_us);
        let starved = watches.starved.stuck(lost > 0, received, now_us);
        let unattended = watches.unattended.stuck(occupied > 0, received, now_us);
        let fault = if tx_stuck {
            self.counters.tx_stalls += 1;
            Fault::TxStall { pending }
        } else if starved {
            self.counters.rx_starvations += 1;
            Fault::RxStarved { discarded: lost }
        } else if unattended {
            self.counters.lost_interrupts += 1;
            Fault::LostInterrupt { occupied }
        } else {
            return Ok(());
        };
        self.watches = Watches {
            received,
            discarded,
            ..Watches::default()
        };
        Err(fault)
    }

    /// Both rings as they are, for the log.
    pub fn dump(&mut self) -> [RingDump; 2] {
        [self.rx.dump(&mut self.bus), self.tx.dump(&mut self.bus)]
    }

    /// Counters by number, for whoever shows them: those of the driver, then those of the hardware.
    pub fn count(&self, index: usize) -> Option<super::Count> {
        let common = [
            (
                "rx_frames",
                "Frames received for any interface",
                self.common.rx_frames,
            ),
            (
                "rx_bytes",
                "Bytes received, with tags, without FCS",
                self.common.rx_bytes,
            ),
            (
                "tx_frames",
                "Frames queued by any interface",
                self.common.tx_frames,
            ),
            (
                "tx_bytes",
                "Bytes queued, with tags, without FCS",
                self.common.tx_bytes,
            ),
            (
                "tx_ring_full",
                "Frames dropped because the transmit ring was full",
                self.common.tx_ring_full,
            ),
        ];
        let own = common.len() + Counters::LEN;
        match index.checked_sub(own) {
            Some(index) => self.mib.at(index),
            None => common.into_iter().chain(self.counters.each()).nth(index),
        }
    }

    /// What this driver counts beside the common counters.
    pub fn driver_counters(&self) -> &Counters {
        &self.counters
    }

    /// What the hardware counted, up to the last [`Neta::check`].
    pub fn mib(&self) -> &Mib {
        &self.mib
    }

    /// The address of the last DMA access that was refused.
    pub fn last_dma_error(&self) -> Option<u32> {
        self.last_dma_error
    }
}

/// A ring of exactly `SIZE` descriptors and its address on the bus.
fn ring_of<const SIZE: usize>(
    dma: &mut impl Dma,
    ring: &'static [Descriptor],
) -> Result<(u32, &'static [Descriptor; SIZE]), Error> {
    let ring: &[Descriptor; SIZE] = ring.try_into().map_err(|_| Error::RingLength {
        len: ring.len(),
        wanted: SIZE,
    })?;
    let base = dma
        .bus_addr(ring.as_ptr().cast(), size_of_val(ring))
        .ok_or(Error::RingUnreachable)?;
    Ok((base, ring))
}

/// Disables all queues of a direction and waits until they are. Gives the register if they stay enabled.
fn stop_queues(
    bus: &mut impl Bus,
    clock: &mut impl Clock,
    command: crate::regs::Reg<QueueCommand::Register, crate::regs::Rw>,
) -> Result<(), u32> {
    let enabled = command.read(bus).read(QueueCommand::ENABLE);
    if enabled != 0 {
        command.write(bus, QueueCommand::DISABLE.val(enabled));
    }
    clock
        .wait_until(QUEUE_STOP_LIMIT_US, || {
            command.read(bus).read(QueueCommand::ENABLE) == 0
        })
        .map_err(|_| command.read(bus).get())
}

fn settle(clock: &mut impl Clock) {
    // Ends by its limit, always.
    let _ = clock.wait_until(SETTLE_US, || false);
}

fn read_link(bus: &mut impl Bus, pause: bool) -> Link {
    let status = MAC_STATUS.read(bus);
    if !status.is_set(MacStatus::LINK_UP) {
        return Link::Down;
    }
    let speed_mbps = match (
        status.is_set(MacStatus::SPEED_1000),
        status.is_set(MacStatus::SPEED_100),
    ) {
        (true, _) => 1000,
        (_, true) => 100,
        _ => 10,
    };
    Link::Up {
        speed_mbps,
        full_duplex: status.is_set(MacStatus::FULL_DUPLEX),
        pause: Pause {
            tx: pause,
            rx: pause,
        },
    }
}

impl<B: Bus, D: Dma, const RX: usize, const TX: usize> Nic for Neta<B, D, RX, TX> {
    fn driver(&self) -> &'static str {
        "neta"
    }

    fn mac(&self) -> MacAddr {
        self.filter.mac()
    }

    fn link(&self) -> Link {
        self.link
    }

    #[inline]
    fn acknowledge(&mut self) {
        self.counters.interrupts += 1;
    }

    #[inline]
    fn receive(&mut self, pool: &mut Pool) -> Option<Frame> {
        if !self.running {
            return None;
        }
        if pool.available() == 0 {
            self.tx.collect(&mut self.bus, pool, &mut self.counters);
        }
        match self
            .rx
            .harvest(&mut self.bus, &mut self.dma, pool, &mut self.counters)
        {
            Harvest::Frame(frame) => {
                self.common.rx_frames += 1;
                self.common.rx_bytes += frame.byte_count() as u64;
                Some(frame)
            }
            Harvest::Empty => None,
            Harvest::NoBuffer => {
                // The line stays up, and the loop comes back: there is no event that tells of a free buffer.
                self.counters.rx_no_buffer += 1;
                None
            }
        }
    }

    #[inline]
    fn transmit_space(&mut self, pool: &mut Pool) -> usize {
        if self.running && self.tx.space() < TX / 2 {
            self.tx.collect(&mut self.bus, pool, &mut self.counters);
        }
        self.tx.space()
    }

    #[inline]
    fn transmit(&mut self, frame: Frame, pool: &mut Pool) {
        self.send(frame, pool);
    }

    fn sent(&mut self, pool: &mut Pool) -> Option<(u64, u64)> {
        if self.running {
            self.tx.collect(&mut self.bus, pool, &mut self.counters);
        }
        Some(self.tx.totals())
    }

    #[inline]
    fn flush(&mut self) {
        if !self.running {
            return;
        }
        self.rx.update(&mut self.bus, &mut self.dma);
        self.tx.update(&mut self.bus, &mut self.dma);
    }

    fn interrupt_on_space(&mut self, wanted: bool) {
        self.space_wanted = wanted;
        self.open_interrupts();
    }

    fn set_coalescing(&mut self, coalescing: Coalescing) -> bool {
        Neta::set_coalescing(self, coalescing);
        true
    }

    fn counters(&self) -> &super::Counters {
        &self.common
    }

    fn counters_mut(&mut self) -> &mut super::Counters {
        &mut self.common
    }
}
