//! NETA, the Gigabit Ethernet MAC of the Armada 3720: registers, rings, interrupts.
//!
//! ```text
//!   CPU ── read/write ──▶ registers ──▶ tx.rs: descriptors ─▶ checksums ─▶ frame out  (take_sent)
//!    ▲                        ▲
//!    └── irq_line ◀── causes ─┴── rx.rs: frame in (receive) ─▶ filter ─▶ parser ─▶ descriptors
//! ```
//!
//! The engines run inside the access or the call that lets them make progress; what takes time (coalescing, wire pace,
//! pause) is a deadline that [`Neta::next_event`] tells and [`Neta::advance`] serves. MDIO (0x2004) is `mdio.rs`.
//!
//! Modelled: everything the facts in `docs/hardware` name, except what is listed here as storage only: hardware buffer
//! manager, rate shaping, low power idle, Marvell header insertion, precision time, PCS and SERDES.

pub mod checksum;
mod doubts;
mod frame;
mod mib;
mod regs;
mod rx;
#[cfg(test)]
mod tests;
mod tx;

pub use doubts::DOUBTS;
pub use mib::Counter;

use crate::bus::{Dma, Env, Nanos, earliest};
use doubts as open;
use mib::Mib;
use regs::*;
use std::collections::VecDeque;

/// Queues in each direction.
pub const QUEUES: usize = 8;
/// Bytes of one descriptor.
const DESC_LEN: u32 = 32;
/// Mask of a 14-bit counter or ring size.
const COUNT: u32 = 0x3fff;
/// Nanoseconds of one core clock at 250 MHz. Inherited: all four Marvell clock presets give 250 MHz.
const CORE_CLOCK_NS: u64 = 4;

/// A frame on the MAC's wire, without FCS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireFrame {
    /// Destination address to the last byte before the FCS.
    pub data: Vec<u8>,
    /// The FCS on the wire does not match.
    pub bad_fcs: bool,
}

/// Link parameters as the MAC is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Megabits per second.
    pub mbps: u32,
    /// Full duplex.
    pub full_duplex: bool,
}

#[derive(Debug, Clone, Default)]
struct RxQueue {
    enabled: bool,
    occupied: u32,
    free: u32,
    current: u32,
    /// When the coalescing timer fires; `None` while it does not run.
    deadline: Option<Nanos>,
    /// The timer has fired with packets waiting.
    timed_out: bool,
    last_update: u32,
}

#[derive(Debug, Clone, Default)]
struct TxQueue {
    enabled: bool,
    pending: u32,
    sent: u32,
    current: u32,
    sent_buffers: u32,
    last_update: u32,
    /// A frame whose last descriptor has not been seen yet.
    partial: Option<tx::Partial>,
}

/// One port.
#[derive(Debug)]
pub struct Neta {
    name: &'static str,
    /// What registers of the storage kind hold, by offset / 4.
    stored: Box<[u32; 0x1000]>,
    rxq: [RxQueue; QUEUES],
    txq: [TxQueue; QUEUES],
    mib: Mib,
    old_cause: u32,
    misc_cause: u32,
    unit_cause: u32,
    rx_discard: u32,
    rx_overrun: u32,
    tx_bad_fcs: u32,
    tx_dropped: u32,
    rx_dma_reset: bool,
    tx_dma_reset: bool,
    link_was_up: bool,
    sent: VecDeque<WireFrame>,
    /// What was sent in loopback, and comes in next.
    looped: VecDeque<WireFrame>,
    /// Send at wire speed in virtual time instead of at once.
    pub wire_pace: bool,
    /// Hold received frames back until a descriptor is free, as flow control would.
    pub rx_backlog_limit: usize,
    backlog: VecDeque<WireFrame>,
    wire_busy_until: Nanos,
    paused_until: Nanos,
}

impl Neta {
    /// A port at power-on. `name` is the block's in guest errors.
    #[must_use]
    pub fn new(name: &'static str, env: &Env) -> Self {
        let mut stored = Box::new([0; 0x1000]);
        let map = if env.doubts.is(&open::CPU_MAP_RESET, "all") {
            0xffff
        } else {
            0
        };
        // Inherited: reset values that no driver contradicts; U-Boot writes neither token sizes nor TX MTU and sends.
        let power_on = [
            (WINDOW_DISABLE, 0x3f),
            (CPU_MAP, map),
            (CPU_MAP + 4, map),
            (RX_MINIMUM, 64),
            (VLAN_ETHER_TYPE, 0x8100),
            (ETHER_TYPE_QUEUE, 0),
            (MAC_CONTROL_0, 0x8000 | 0x2fd << 2),
            (AUTONEG, 0x8000),
            (TX_MTU, 0),
            (TX_TOKEN_SIZE, 0x7fff_ffff),
        ];
        for (offset, value) in power_on {
            stored[(offset / 4) as usize] = value;
        }
        for q in 0..QUEUES {
            stored[(TXQ_TOKEN_SIZE / 4) as usize + q] = 0x7fff_ffff;
        }
        let reset = u32::from(env.doubts.is(&open::MAC_RESET_POWER_UP, "set")) << 6;
        stored[(MAC_CONTROL_2 / 4) as usize] = 0xc000 | reset;
        Self {
            name,
            stored,
            rxq: Default::default(),
            txq: Default::default(),
            mib: Mib::default(),
            old_cause: 0,
            misc_cause: 0,
            unit_cause: 0,
            rx_discard: 0,
            rx_overrun: 0,
            tx_bad_fcs: 0,
            tx_dropped: 0,
            rx_dma_reset: false,
            tx_dma_reset: false,
            link_was_up: false,
            sent: VecDeque::new(),
            looped: VecDeque::new(),
            wire_pace: false,
            rx_backlog_limit: 0,
            backlog: VecDeque::new(),
            wire_busy_until: 0,
            paused_until: 0,
        }
    }

    /// Reads `size` bytes at `offset` from the port's base.
    pub fn read(&mut self, env: &mut Env, dma: &mut dyn Dma, offset: u32, size: u8) -> u32 {
        self.advance(env, dma);
        if size != 4 || offset & 3 != 0 {
            env.guest_error(
                self.name,
                format!("read of {size} bytes at {offset:#06x}: registers are 32 bits wide"),
            );
        }
        crate::bus::narrow(self.read_word(env, offset & !3), offset, size)
    }

    fn read_word(&mut self, env: &mut Env, offset: u32) -> u32 {
        if let Some(q) = queue_of(offset, RXQ_STATUS) {
            return self.rxq[q].occupied | self.rxq[q].free << 16;
        }
        if let Some(q) = queue_of(offset, RXQ_CURRENT) {
            return self.rxq[q].current;
        }
        if let Some(q) = queue_of(offset, TXQ_STATUS) {
            return self.txq[q].pending | self.txq[q].sent << 16;
        }
        if let Some(q) = queue_of(offset, TXQ_CURRENT) {
            return self.txq[q].current;
        }
        if let Some(q) = queue_of(offset, TXQ_SENT_BUFFERS) {
            return std::mem::take(&mut self.txq[q].sent_buffers);
        }
        if let Some(q) = queue_of(offset, RXQ_UPDATE) {
            return if env.doubts.is(&open::UPDATE_READ, "zero") {
                0
            } else {
                self.rxq[q].last_update
            };
        }
        if let Some(q) = queue_of(offset, TXQ_UPDATE) {
            return if env.doubts.is(&open::UPDATE_READ, "zero") {
                0
            } else {
                self.txq[q].last_update
            };
        }
        if queue_of(offset, RXQ_SIZE).is_some() || queue_of(offset, TXQ_SIZE).is_some() {
            return self.reg(offset);
        }
        match offset {
            RX_DMA_RESET => u32::from(self.rx_dma_reset),
            TX_DMA_RESET => u32::from(self.tx_dma_reset),
            UNIT_CAUSE => self.unit_cause | u32::from(self.unit_cause != 0),
            ERROR_ADDRESS => self.reg(ERROR_ADDRESS),
            PORT_STATUS => self.port_status(env),
            TXQ_COMMAND => enables(self.txq.iter().map(|q| q.enabled)),
            RXQ_COMMAND => enables(self.rxq.iter().map(|q| q.enabled)),
            RX_DISCARD => std::mem::take(&mut self.rx_discard),
            RX_OVERRUN => std::mem::take(&mut self.rx_overrun),
            NEW_CAUSE => self.new_cause(env),
            OLD_CAUSE => self.gate(self.old_cause) | self.summaries(),
            MISC_CAUSE => self.misc_cause,
            VERSION => 0x10,
            MAC_STATUS => self.mac_status(env),
            0x2c20 => 0, // MAC cause: none of its events (in-band negotiation, LPI) exists on this link
            0x2ccc | 0x2cd0 => 0,
            TX_BAD_FCS => std::mem::take(&mut self.tx_bad_fcs),
            TX_DROPPED => std::mem::take(&mut self.tx_dropped),
            _ if (MIB..MIB + 0x80).contains(&offset) => self.mib.read(offset - MIB),
            // Inherited: U-Boot reads a second set here to clear it, and uses neither.
            _ if (MIB + 0x80..MIB + 0x100).contains(&offset) => 0,
            _ if is_storage(offset) => self.reg(offset),
            _ => {
                env.guest_error(self.name, format!("read of unknown register {offset:#06x}"));
                0
            }
        }
    }

    /// Writes `size` bytes at `offset` from the port's base.
    pub fn write(&mut self, env: &mut Env, dma: &mut dyn Dma, offset: u32, size: u8, value: u32) {
        self.advance(env, dma);
        if size != 4 || offset & 3 != 0 {
            env.guest_error(
                self.name,
                format!(
                    "write of {size} bytes at {offset:#06x} is ignored: registers are 32 bits wide"
                ),
            );
            return;
        }
        self.write_word(env, offset, value);
        self.note_link_change(env);
        self.advance(env, dma);
    }

    fn write_word(&mut self, env: &mut Env, offset: u32, value: u32) {
        if let Some(q) = queue_of(offset, RXQ_UPDATE) {
            return self.update_rx(env, q, value);
        }
        if let Some(q) = queue_of(offset, TXQ_UPDATE) {
            return self.update_tx(env, q, value);
        }
        if self.ring_write(env, offset, value) {
            return;
        }
        match offset {
            RX_DMA_RESET => self.reset_rx_dma(env, value & 1 == 1),
            TX_DMA_RESET => self.reset_tx_dma(env, value & 1 == 1),
            UNIT_CAUSE => self.unit_cause &= value & !1,
            TXQ_COMMAND => self.command_tx(env, value),
            RXQ_COMMAND => self.command_rx(env, value),
            NEW_CAUSE => self.acknowledge(env, value),
            OLD_CAUSE => self.old_cause &= value,
            MISC_CAUSE => self.misc_cause &= value,
            MAC_CONTROL_2 => {
                let released = self.reg(MAC_CONTROL_2) & !value & 1 << 6;
                let reset = match released {
                    0 => 0,
                    bit => env.faults.take("neta-reset-stuck").map_or(0, |_| bit),
                };
                if (value ^ self.reg(MAC_CONTROL_2)) & 0b1001 != 0 && self.link(env).is_some() {
                    env.guest_error(
                        self.name,
                        "port or in-band mode (0x2c08) changed with the link up",
                    );
                }
                self.set_reg(MAC_CONTROL_2, value | reset);
            }
            TX_MTU => self.set_reg(TX_MTU, value & 0x3_ffff),
            0x2c20 | 0x2ccc | 0x2cd0 => {}
            // Read-only counters: drivers may clear them by writing.
            RX_DISCARD => self.rx_discard = 0,
            RX_OVERRUN => self.rx_overrun = 0,
            TX_BAD_FCS | TX_DROPPED | ERROR_ADDRESS => {}
            PORT_STATUS | MAC_STATUS | VERSION => {
                env.guest_error(
                    self.name,
                    format!("write of {value:#010x} to read-only register {offset:#06x}"),
                );
            }
            MARVELL_HEADER => {
                if value & 1 == 1 {
                    env.guest_error(
                        self.name,
                        "Marvell header insertion (0x2454 bit 0) is not modelled",
                    );
                }
                self.set_reg(MARVELL_HEADER, value);
            }
            ACCELERATION => {
                if value & 7 != 1 {
                    env.guest_error(
                        self.name,
                        format!("acceleration mode {value:#x} is not modelled: only 1 is"),
                    );
                }
                self.set_reg(ACCELERATION, value);
            }
            SDMA_CONFIG => {
                if value & 1 << 6 != 0 || value & 0x30 != 0x30 {
                    env.guest_error(
                        self.name,
                        format!("SDMA configuration {value:#010x}: swapping is not modelled"),
                    );
                }
                self.set_reg(SDMA_CONFIG, value);
            }
            _ if is_storage(offset) => self.set_reg(offset, value),
            _ => env.guest_error(
                self.name,
                format!("write of {value:#010x} to unknown register {offset:#06x}"),
            ),
        }
    }

    /// Ring base and size registers; true if `offset` was one.
    fn ring_write(&mut self, env: &mut Env, offset: u32, value: u32) -> bool {
        let (queue, running, is_base) = if let Some(q) = queue_of(offset, RXQ_BASE) {
            (q, self.rxq[q].enabled && !self.rx_dma_reset, true)
        } else if let Some(q) = queue_of(offset, RXQ_SIZE) {
            (q, self.rxq[q].enabled && !self.rx_dma_reset, false)
        } else if let Some(q) = queue_of(offset, TXQ_BASE) {
            (q, self.txq[q].enabled && !self.tx_dma_reset, true)
        } else if let Some(q) = queue_of(offset, TXQ_SIZE) {
            (q, self.txq[q].enabled && !self.tx_dma_reset, false)
        } else {
            return false;
        };
        let changed = value ^ self.reg(offset);
        if running && (if is_base { changed } else { changed & COUNT }) != 0 {
            env.guest_error(
                self.name,
                format!(
                    "ring of queue {queue} changed while running: {offset:#06x} = {value:#010x}"
                ),
            );
        }
        if is_base && !value.is_multiple_of(DESC_LEN) {
            env.guest_error(
                self.name,
                format!("ring base {value:#010x} at {offset:#06x} is not a multiple of 32"),
            );
        }
        self.set_reg(
            offset,
            if is_base {
                value & !(DESC_LEN - 1)
            } else {
                value
            },
        );
        true
    }

    fn acknowledge(&mut self, env: &Env, value: u32) {
        // Queue bits follow the counters. What a write of 0 does to a fired timer is a doubt.
        if env.doubts.is(&open::RX_TIMER_ENDS, "acknowledge") {
            for (q, queue) in self.rxq.iter_mut().enumerate() {
                if value & 1 << (8 + q) == 0 {
                    queue.timed_out = false;
                    queue.deadline = None;
                }
            }
        }
    }

    /// Threshold causes as software reads them.
    fn new_cause(&self, env: &Env) -> u32 {
        let at = u32::from(env.doubts.is(&open::THRESHOLD, "at"));
        // `at` = 1: count >= max(threshold, 1); 0: count > threshold.
        let reached = |count: u32, threshold: u32| count >= (threshold + 1 - at).max(1);
        let mut cause = 0;
        for q in 0..QUEUES {
            let (rx, tx) = (&self.rxq[q], &self.txq[q]);
            let threshold = self.queue_reg(RXQ_THRESHOLD, q);
            let due = rx.occupied > 0 && (rx.timed_out || reached(rx.occupied, threshold & COUNT));
            let starving = rx.enabled && rx.free + 1 - at < threshold >> 16 & COUNT;
            cause |= u32::from(reached(tx.sent, self.queue_reg(TXQ_SIZE, q) >> 16 & COUNT)) << q;
            cause |= u32::from(due) << (8 + q);
            cause |= u32::from(starving) << (16 + q);
        }
        let old = self.gate(self.old_cause) & self.reg(OLD_MASK) != 0;
        self.gate(cause) | u32::from(old) << 29 | self.summaries()
    }

    fn summaries(&self) -> u32 {
        u32::from(self.misc_cause & self.reg(MISC_MASK) != 0) << 31
    }

    /// Queue bits that the CPU maps let through. On this SoC both maps lead to the one line.
    fn gate(&self, cause: u32) -> u32 {
        let map = self.reg(CPU_MAP) | self.reg(CPU_MAP + 4);
        let (rx, tx) = (map & 0xff, map >> 8 & 0xff);
        cause & (tx | rx << 8 | rx << 16)
    }

    /// Level of the port's interrupt line.
    #[must_use]
    pub fn irq_line(&self, env: &Env) -> bool {
        let enable = self.reg(IRQ_ENABLE);
        let (rx, tx) = (enable & 0xff, enable >> 8 & 0xff);
        let open = tx | rx << 8 | rx << 16 | 0xe000_0000;
        let unit = self.unit_cause & self.reg(UNIT_CAUSE + 4) != 0;
        let new = self.reg(NEW_MASK) & open;
        let old = self.reg(OLD_MASK) & open;
        unit || (new != 0 && self.new_cause(env) & new != 0)
            || (old != 0 && (self.gate(self.old_cause) | self.summaries()) & old != 0)
    }

    /// The link, when the MAC believes in one. Nothing but the force bits makes one here: the RGMII wire leads to a
    /// switch port, which hardware PHY polling cannot ask.
    #[must_use]
    pub fn link(&self, env: &Env) -> Option<Link> {
        let autoneg = self.reg(AUTONEG);
        let up = match autoneg & 3 {
            2 => true,
            3 => env.doubts.is(&open::FORCE_BOTH, "up"),
            _ => false,
        };
        let mbps = match autoneg >> 5 & 3 {
            0 => 10,
            1 => 100,
            _ => 1000,
        };
        let running = self.reg(MAC_CONTROL_2) & 1 << 6 == 0;
        (up && running).then_some(Link {
            mbps,
            full_duplex: autoneg & 1 << 12 != 0,
        })
    }

    fn mac_status(&self, env: &Env) -> u32 {
        let autoneg = self.reg(AUTONEG);
        let Some(link) = self.link(env) else { return 0 };
        let speed = match link.mbps {
            1000 => 2,
            100 => 4,
            _ => 0,
        };
        let pause = autoneg >> 8 & 1;
        let paused = env.now < self.paused_until;
        1 | speed
            | u32::from(link.full_duplex) << 3
            | pause << 4
            | pause << 5
            | u32::from(paused) << 6
    }

    fn note_link_change(&mut self, env: &Env) {
        let up = self.link(env).is_some();
        if up != self.link_was_up {
            self.link_was_up = up;
            self.misc_cause |= 1 << 1;
        }
    }

    fn port_status(&self, env: &Env) -> u32 {
        let busy = env.now < self.wire_busy_until || env.faults.has("neta-tx-fifo");
        let in_progress = if env.doubts.is(&open::TX_IN_PROGRESS, "bit0") {
            1
        } else {
            2
        };
        let tx = if busy { in_progress } else { 1 << 8 };
        tx | u32::from(self.backlog.is_empty()) << 16
    }

    fn port_enabled(&self) -> bool {
        self.reg(MAC_CONTROL_0) & 1 == 1
    }

    /// Earliest time at which something happens without an access.
    #[must_use]
    pub fn next_event(&self, env: &Env) -> Option<Nanos> {
        let timers = self.rxq.iter().filter_map(|q| q.deadline).min();
        let resume = self.wire_busy_until.max(self.paused_until);
        let wire = (resume > env.now && self.txq.iter().any(|q| q.enabled && q.pending > 0))
            .then_some(resume);
        earliest(timers, wire)
    }

    /// Lets time-outs fire and the engines run up to `env.now`.
    pub fn advance(&mut self, env: &mut Env, dma: &mut dyn Dma) {
        for queue in &mut self.rxq {
            if queue.deadline.is_some_and(|deadline| deadline <= env.now) {
                queue.deadline = None;
                queue.timed_out = queue.occupied > 0;
            }
        }
        self.run_tx(env, dma);
        while let Some(frame) = self.looped.pop_front() {
            let _ = self.deliver(env, dma, &frame);
        }
        if !self.backlog.is_empty() {
            self.run_backlog(env, dma);
        }
    }

    /// The next frame the MAC has put on its wire.
    pub fn take_sent(&mut self) -> Option<WireFrame> {
        self.sent.pop_front()
    }

    /// True while [`Neta::take_sent`] has something to give.
    #[must_use]
    pub fn has_sent(&self) -> bool {
        !self.sent.is_empty()
    }

    /// The MDIO controller ended an operation (0x2080 bit 4).
    pub fn smi_done(&mut self) {
        self.unit_cause |= 1 << 4;
    }

    /// A copy of the register file for a person to look at; reads nothing that a read would change.
    #[must_use]
    pub fn stored(&self, offset: u32) -> u32 {
        self.reg(offset)
    }

    fn reg(&self, offset: u32) -> u32 {
        self.stored[(offset as usize / 4) % 0x1000]
    }

    fn set_reg(&mut self, offset: u32, value: u32) {
        self.stored[(offset as usize / 4) % 0x1000] = value;
    }

    fn queue_reg(&self, base: u32, queue: usize) -> u32 {
        self.reg(base + 4 * queue as u32)
    }

    /// One byte of a filter table.
    fn table_entry(&self, base: u32, index: u32) -> u8 {
        (self.reg(base + (index & !3)) >> (8 * (index & 3))) as u8
    }

    /// DMA read through the port's windows.
    fn dma_read(
        &mut self,
        env: &mut Env,
        dma: &mut dyn Dma,
        address: u32,
        data: &mut [u8],
        what: &str,
    ) -> bool {
        if Self::dma_fault(env) {
            return self.dma_error(address);
        }
        let ok = self.window(address, data.len(), 1) && dma.read(u64::from(address), data);
        self.dma_outcome(env, ok, address, data.len(), "read", what)
    }

    /// DMA write through the port's windows.
    fn dma_write(
        &mut self,
        env: &mut Env,
        dma: &mut dyn Dma,
        address: u32,
        data: &[u8],
        what: &str,
    ) -> bool {
        if Self::dma_fault(env) {
            return self.dma_error(address);
        }
        let ok = self.window(address, data.len(), 2) && dma.write(u64::from(address), data);
        self.dma_outcome(env, ok, address, data.len(), "write", what)
    }

    fn dma_outcome(
        &mut self,
        env: &mut Env,
        ok: bool,
        address: u32,
        len: usize,
        verb: &str,
        what: &str,
    ) -> bool {
        if !ok {
            self.dma_error(address);
            env.guest_error(
                self.name,
                format!("DMA {verb} of {len} bytes at {address:#010x} ({what}) leads nowhere"),
            );
        }
        ok
    }

    /// A failure that is not the software's.
    fn dma_fault(env: &mut Env) -> bool {
        !env.faults.is_empty() && env.faults.take("dma-error").is_some()
    }

    /// What software can see of a failed access. Returns that it failed.
    fn dma_error(&mut self, address: u32) -> bool {
        self.unit_cause |= 1 << 3;
        self.set_reg(ERROR_ADDRESS, address);
        false
    }

    /// True when an enabled window with the wanted right (1 read, 2 write) covers the whole range.
    fn window(&self, address: u32, len: usize, right: u32) -> bool {
        let end = u64::from(address) + len as u64;
        (0..6).any(|w| {
            let base = self.reg(WINDOW + 8 * w) & 0xffff_0000;
            let size = (u64::from(self.reg(WINDOW + 8 * w + 4) >> 16) + 1) << 16;
            self.reg(WINDOW_DISABLE) & 1 << w == 0
                && self.reg(WINDOW_PROTECT) >> (2 * w) & right == right
                && base <= address
                && end <= u64::from(base) + size
        })
    }
}

fn enables(queues: impl Iterator<Item = bool>) -> u32 {
    queues.enumerate().map(|(q, on)| u32::from(on) << q).sum()
}
