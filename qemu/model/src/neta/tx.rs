//! Transmit: from the rings through checksum generation onto the wire.

use super::{COUNT, Counter, DESC_LEN, Neta, QUEUES, WireFrame, checksum, open, regs::*};
use crate::bus::{Dma, Env};

/// Longest frame the checksum unit handles. Inherited: Linux's limit for the Armada 3700.
const CHECKSUM_LIMIT: usize = 9800;
/// Longest frame the model assembles: far above what 16 bits of one descriptor and the TX MTU allow.
const FRAME_LIMIT: usize = 32 * 1024;
/// Preamble, FCS and gap on the wire.
const WIRE_OVERHEAD: usize = 24;
/// Shortest frame without FCS.
const MINIMUM: usize = 60;

/// Command word, descriptor word 0.
mod command {
    pub const UDP: u32 = 1 << 16;
    pub const IPV6: u32 = 1 << 17;
    pub const IP_SUM: u32 = 1 << 18;
    pub const PAD: u32 = 1 << 19;
    pub const LAST: u32 = 1 << 20;
    pub const FIRST: u32 = 1 << 21;
    pub const RELEASE: u32 = 1 << 22;
}

/// A frame being put together.
#[derive(Debug, Clone, Default)]
pub struct Partial {
    data: Vec<u8>,
    /// Command word of the first descriptor.
    command: u32,
    initial: u16,
    descriptors: u32,
    pad: bool,
    /// Some memory could not be read.
    broken: bool,
}

impl Neta {
    pub(super) fn update_tx(&mut self, env: &mut Env, q: usize, value: u32) {
        let (added, released) = (value & 0xff, value >> 16 & 0xff);
        let size = self.queue_reg(TXQ_SIZE, q) & COUNT;
        if value & 0xff00_ff00 != 0 {
            env.guest_error(
                self.name,
                format!("TX queue {q} update {value:#010x}: counts are 8 bits wide"),
            );
        }
        if self.tx_dma_reset && value != 0 {
            env.guest_error(
                self.name,
                format!("TX queue {q} update {value:#010x} while TX DMA is in reset"),
            );
            return;
        }
        let queue = &mut self.txq[q];
        queue.last_update = value;
        if released > queue.sent {
            env.guest_error(
                self.name,
                format!(
                    "TX queue {q}: {released} descriptors released, {} sent",
                    queue.sent
                ),
            );
        }
        queue.sent -= released.min(queue.sent);
        if queue.pending + queue.sent + added > size {
            env.guest_error(
                self.name,
                format!("TX queue {q}: {added} added to {} pending and {} sent overrun the ring of {size}", queue.pending, queue.sent),
            );
        }
        queue.pending = (queue.pending + added).min(size.saturating_sub(queue.sent));
    }

    pub(super) fn command_tx(&mut self, env: &mut Env, value: u32) {
        for q in 0..QUEUES {
            if value & 1 << q != 0 {
                if self.queue_reg(TXQ_SIZE, q) & COUNT == 0 {
                    env.guest_error(
                        self.name,
                        format!("TX queue {q} enabled with a ring of 0 descriptors"),
                    );
                }
                if self.reg(ACCELERATION) & 7 != 1 {
                    env.guest_error(
                        self.name,
                        format!("TX queue {q} enabled in a descriptor mode that is not modelled"),
                    );
                }
                self.txq[q].enabled = true;
            }
            if value & 1 << (8 + q) != 0 && !env.faults.has("neta-queue-stuck") {
                self.txq[q].enabled = false;
            }
        }
    }

    pub(super) fn reset_tx_dma(&mut self, env: &Env, hold: bool) {
        self.tx_dma_reset = hold;
        if hold {
            let keep = env.doubts.is(&open::ENABLE_AFTER_RESET, "keep");
            for queue in &mut self.txq {
                *queue = super::TxQueue {
                    enabled: queue.enabled && keep,
                    ..Default::default()
                };
            }
        }
    }

    /// Fetches and sends while there is work that may be done now. Queue 7 goes first.
    pub(super) fn run_tx(&mut self, env: &mut Env, dma: &mut dyn Dma) {
        while let Some(q) = (0..QUEUES).rev().find(|q| self.may_fetch(env, *q)) {
            self.fetch(env, dma, q);
        }
    }

    fn may_fetch(&self, env: &Env, q: usize) -> bool {
        let queue = &self.txq[q];
        if queue.pending == 0 || !queue.enabled || self.tx_dma_reset {
            return false;
        }
        // Descriptors of an unfinished frame stay pending until it is sent.
        let fetched = queue
            .partial
            .as_ref()
            .map_or(0, |partial| partial.descriptors);
        let mtu = self.reg(TX_MTU);
        let tokens = self.reg(TX_TOKEN_SIZE) >= mtu
            && self.queue_reg(TXQ_TOKEN_SIZE, q) & 0x7fff_ffff >= mtu;
        queue.pending > fetched
            && self.port_enabled()
            && self.link(env).is_some()
            && (tokens || env.doubts.is(&open::TOKEN_STALL, "ignore"))
            && env.now >= self.paused_until
            && (!self.wire_pace || env.now >= self.wire_busy_until)
            && !env.faults.has("neta-tx-stall")
    }

    /// Takes in one descriptor; with the last one of a frame the frame goes out.
    fn fetch(&mut self, env: &mut Env, dma: &mut dyn Dma, q: usize) {
        let size = self.queue_reg(TXQ_SIZE, q) & COUNT;
        let address = self
            .queue_reg(TXQ_BASE, q)
            .wrapping_add(self.txq[q].current * DESC_LEN);
        let mut raw = [0; 16];
        let fetched = self.dma_read(env, dma, address, &mut raw, "TX descriptor");
        let word = |n: usize| {
            u32::from_le_bytes([raw[4 * n], raw[4 * n + 1], raw[4 * n + 2], raw[4 * n + 3]])
        };
        let (command, buffer, len) = (word(0), word(2), (word(1) >> 16) as usize);

        let mut partial = self.txq[q].partial.take().unwrap_or_default();
        let is_first = partial.descriptors == 0;
        if fetched && is_first != (command & command::FIRST != 0) {
            let problem = if is_first {
                "a frame begins without"
            } else {
                "the middle of a frame carries"
            };
            env.guest_error(
                self.name,
                format!(
                    "TX queue {q}: {problem} the first-descriptor bit, command {command:#010x}"
                ),
            );
            partial.broken = true;
        }
        if command & command::RELEASE != 0 {
            env.guest_error(
                self.name,
                format!("TX queue {q}: release to the buffer manager is not modelled"),
            );
        }
        if is_first {
            partial.command = command;
            partial.initial = word(1) as u16;
        }
        partial.pad |= command & command::PAD != 0;
        partial.descriptors += 1;
        let room = partial.data.len() + len <= FRAME_LIMIT;
        if fetched && room && len > 0 {
            let at = partial.data.len();
            partial.data.resize(at + len, 0);
            let skip = command >> 23 & 0x7f;
            partial.broken |= !self.dma_read(
                env,
                dma,
                buffer.wrapping_add(skip),
                &mut partial.data[at..],
                "TX buffer",
            );
        } else {
            if fetched {
                env.guest_error(
                    self.name,
                    format!(
                        "TX queue {q}: descriptor of {len} bytes behind {}",
                        partial.data.len()
                    ),
                );
            }
            partial.broken = true;
        }

        let queue = &mut self.txq[q];
        queue.current = if queue.current + 1 >= size {
            0
        } else {
            queue.current + 1
        };
        // A frame without end would fetch for ever: a ring full of it is given up.
        if command & command::LAST == 0 && fetched && partial.descriptors < size {
            queue.partial = Some(partial);
            return;
        }
        if fetched && command & command::LAST == 0 {
            env.guest_error(
                self.name,
                format!("TX queue {q}: a frame has no last descriptor"),
            );
            partial.broken = true;
        }
        let descriptors = partial.descriptors.min(queue.pending);
        queue.pending -= descriptors;
        queue.sent += descriptors;
        queue.sent_buffers = queue.sent_buffers.wrapping_add(descriptors);
        self.old_cause |= 1 << q;
        self.send(env, partial);
    }

    fn send(&mut self, env: &mut Env, mut partial: Partial) {
        if partial.broken {
            self.tx_dropped = self.tx_dropped.wrapping_add(1);
            self.mib.add(Counter::MacTransmitError, 1);
            return;
        }
        let mtu_bytes = self.reg(TX_MTU) as usize / 8;
        if mtu_bytes > 0 && partial.data.len() + 4 > mtu_bytes {
            env.guest_error(
                self.name,
                format!(
                    "frame of {} bytes above the TX MTU of {mtu_bytes}",
                    partial.data.len()
                ),
            );
        }
        self.generate_checksums(env, &mut partial);
        let mut data = partial.data;
        let mac_pads =
            self.reg(MAC_CONTROL_2) & 1 << 5 == 0 && env.doubts.is(&open::PADDING, "mac");
        if data.len() < MINIMUM && (partial.pad || mac_pads) {
            data.resize(MINIMUM, 0);
        }
        let mut bad_fcs = false;
        if self.reg(PORT_CONFIG_EXTEND) & 1 << 3 != 0 {
            let body = data.len().saturating_sub(4);
            let given = data.split_off(body);
            bad_fcs = given != checksum::fcs(&data);
            self.tx_bad_fcs = self.tx_bad_fcs.wrapping_add(u32::from(bad_fcs));
        }
        let len = data.len() + 4;
        self.mib.add(Counter::GoodFramesSent, 1);
        self.mib.add(Counter::GoodOctetsSent, len);
        if env.doubts.is(&open::HISTOGRAM, "both") {
            self.mib.add(Counter::size_class(len), 1);
        }
        if data.starts_with(&[0xff; 6]) {
            self.mib.add(Counter::BroadcastSent, 1);
        } else if data.first().is_some_and(|first| first & 1 == 1) {
            self.mib.add(Counter::MulticastSent, 1);
        }
        if let (true, Some(link)) = (self.wire_pace, self.link(env)) {
            let bits = 8 * (data.len() + WIRE_OVERHEAD) as u64;
            self.wire_busy_until =
                env.now.max(self.wire_busy_until) + bits * 1000 / u64::from(link.mbps);
        }
        let frame = WireFrame { data, bad_fcs };
        if self.loops_back() {
            self.looped.push_back(frame.clone());
            if env.doubts.is(&open::LOOPBACK_WIRE, "silent") {
                return;
            }
        }
        self.sent.push_back(frame);
    }

    /// IPv4 header and L4 checksums as the first command word asks.
    fn generate_checksums(&self, env: &mut Env, partial: &mut Partial) {
        let command = partial.command;
        let mode = command >> 30;
        let wants_l4 = mode != 2 && !(mode == 0 && env.doubts.is(&open::FRAGMENT_MODE, "ignore"));
        if command & command::IP_SUM == 0 && !wants_l4 {
            return;
        }
        if mode == 3 {
            env.guest_error(
                self.name,
                format!("TX command {command:#010x}: L4 checksum mode 3 is reserved"),
            );
            return;
        }
        let complaint = if partial.data.len() > CHECKSUM_LIMIT {
            Some("checksum asked for a frame above the checksum unit's limit")
        } else {
            sum_headers(
                &mut partial.data,
                command,
                wants_l4.then_some(mode),
                partial.initial,
            )
            .err()
        };
        if let Some(complaint) = complaint {
            env.guest_error(
                self.name,
                format!(
                    "TX command {command:#010x}, {} bytes: {complaint}",
                    partial.data.len()
                ),
            );
        }
    }
}

/// Writes the checksums into `frame`. `l4` is the mode: 0 from the initial value, 1 with pseudo header.
fn sum_headers(
    frame: &mut [u8],
    command: u32,
    l4: Option<u32>,
    initial: u16,
) -> Result<(), &'static str> {
    let l3 = (command & 0x7f) as usize;
    let header_len = (command >> 8 & 0x1f) as usize * 4;
    let ipv6 = command & command::IPV6 != 0;
    let fixed = if ipv6 { 40 } else { 20 };
    let packet = frame.get_mut(l3..).ok_or("L3 offset beyond the frame")?;
    if packet.len() < fixed || header_len < 20 || header_len > packet.len() {
        return Err("no IP header where the command says");
    }
    if packet[0] >> 4 != if ipv6 { 6 } else { 4 } {
        return Err("the L3 offset does not point at an IP header of the kind named");
    }
    if command & command::IP_SUM != 0 && !ipv6 {
        packet[10..12].fill(0);
        let sum = checksum::internet(&packet[..header_len]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let Some(mode) = l4 else { return Ok(()) };
    let word = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    let end = if ipv6 { 40 + word(4) } else { word(2) };
    if end < header_len || end > packet.len() {
        return Err("the IP length exceeds the frame");
    }
    let udp = command & command::UDP != 0;
    let (protocol, field) = if udp { (17, 6) } else { (6, 16) };
    let segment_len = end - header_len;
    if segment_len < field + 2 {
        return Err("the segment is too short for a checksum");
    }
    let addresses = if ipv6 { 8..40 } else { 12..20 };
    let seed = if mode == 1 {
        checksum::pseudo_header(&packet[addresses], protocol, segment_len)
    } else {
        u64::from(initial)
    };
    let segment = &mut packet[header_len..end];
    let mut sum = checksum::segment(seed, segment, field);
    if udp && sum == 0 {
        sum = 0xffff;
    }
    segment[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    Ok(())
}
