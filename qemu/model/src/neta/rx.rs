//! Receive: from the wire through the filters into the rings.

use super::frame::{L3, L4, Parsed, SwitchTag};
use super::{CORE_CLOCK_NS, COUNT, Counter, DESC_LEN, Neta, QUEUES, WireFrame, open, regs::*};
use crate::bus::{Dma, Env};

/// Bytes the MAC puts before the destination address.
const HEADER_LEN: usize = 2;
/// Bytes of frame check sequence.
const FCS_LEN: usize = 4;
/// Destination of MAC control frames (pause).
const PAUSE_ADDRESS: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 1];

/// Status word, descriptor word 0.
mod status {
    pub const ERROR: u32 = 1 << 16;
    pub const CRC: u32 = 0 << 17;
    pub const TOO_LONG: u32 = 2 << 17;
    pub const NO_RESOURCE: u32 = 3 << 17;
    pub const VLAN: u32 = 1 << 19;
    pub const BPDU: u32 = 1 << 20;
    pub const L4_SHIFT: u32 = 21;
    pub const ETHERNET_2: u32 = 1 << 23;
    pub const L3_SHIFT: u32 = 24;
    pub const LAST: u32 = 1 << 26;
    pub const FIRST: u32 = 1 << 27;
    pub const UNKNOWN_ADDRESS: u32 = 1 << 28;
    pub const L4_GOOD: u32 = 1 << 30;
    pub const FRAGMENT: u32 = 1 << 31;
}

/// Why the MAC did not deliver a frame; the counters tell software.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RxDrop {
    /// Port disabled, link down or in reset.
    PortDown,
    /// Shorter than the minimum.
    Runt,
    /// Longer than the limit, under the reading that drops such frames.
    TooLong,
    /// Bad FCS, under the reading that drops such frames.
    BadFcs,
    /// The filters do not want it.
    Filtered,
    /// A pause frame, consumed.
    MacControl,
    /// The FIFO overran (a fault).
    Overrun,
    /// Queue off, in reset, or without enough free descriptors.
    NoDescriptor,
    /// The memory of a descriptor or a buffer could not be reached.
    Dma,
}

impl Neta {
    pub(super) fn update_rx(&mut self, env: &mut Env, q: usize, value: u32) {
        let (done, given) = (value & 0xff, value >> 16 & 0xff);
        let size = self.queue_reg(RXQ_SIZE, q) & COUNT;
        if value & 0xff00_ff00 != 0 {
            env.guest_error(
                self.name,
                format!("RX queue {q} update {value:#010x}: counts are 8 bits wide"),
            );
        }
        if self.rx_dma_reset && value != 0 {
            env.guest_error(
                self.name,
                format!("RX queue {q} update {value:#010x} while RX DMA is in reset"),
            );
            return;
        }
        let queue = &mut self.rxq[q];
        queue.last_update = value;
        if done > queue.occupied {
            env.guest_error(
                self.name,
                format!(
                    "RX queue {q}: {done} descriptors released, {} occupied",
                    queue.occupied
                ),
            );
        }
        queue.occupied -= done.min(queue.occupied);
        if queue.occupied + queue.free + given > size {
            env.guest_error(
                self.name,
                format!("RX queue {q}: {given} given to {} occupied and {} free overrun the ring of {size}", queue.occupied, queue.free),
            );
        }
        queue.free = (queue.free + given).min(size.saturating_sub(queue.occupied));
        if queue.occupied == 0 {
            queue.timed_out = false;
            queue.deadline = None;
        } else if done > 0 && env.doubts.is(&open::RX_TIMER_ENDS, "update") {
            queue.timed_out = false;
            queue.deadline = None;
            self.start_timer(env, q);
        }
    }

    pub(super) fn command_rx(&mut self, env: &mut Env, value: u32) {
        for q in 0..QUEUES {
            if value & 1 << q != 0 {
                if self.queue_reg(RXQ_SIZE, q) & COUNT == 0 {
                    env.guest_error(
                        self.name,
                        format!("RX queue {q} enabled with a ring of 0 descriptors"),
                    );
                }
                if self.reg(ACCELERATION) & 7 != 1 {
                    env.guest_error(
                        self.name,
                        format!("RX queue {q} enabled in a descriptor mode that is not modelled"),
                    );
                }
                self.rxq[q].enabled = true;
            }
            if value & 1 << (8 + q) != 0 && !env.faults.has("neta-queue-stuck") {
                self.rxq[q].enabled = false;
            }
        }
    }

    pub(super) fn reset_rx_dma(&mut self, env: &Env, hold: bool) {
        self.rx_dma_reset = hold;
        if hold {
            let keep = env.doubts.is(&open::ENABLE_AFTER_RESET, "keep");
            for queue in &mut self.rxq {
                *queue = super::RxQueue {
                    enabled: queue.enabled && keep,
                    ..Default::default()
                };
            }
            self.backlog.clear();
        }
    }

    fn start_timer(&mut self, env: &Env, q: usize) {
        let clocks = u64::from(self.queue_reg(RXQ_TIME, q) & 0xff_ffff);
        let queue = &mut self.rxq[q];
        if queue.timed_out || queue.deadline.is_some() {
            return;
        }
        if clocks > 0 {
            queue.deadline = Some(env.now + clocks * CORE_CLOCK_NS);
        } else if env.doubts.is(&open::RX_TIME_ZERO, "at-once") {
            queue.timed_out = true;
        }
    }

    /// True while a frame would find room, for a host that can hold frames back.
    #[must_use]
    pub fn can_receive(&self) -> bool {
        self.rx_backlog_limit == 0 || self.backlog.len() < self.rx_backlog_limit
    }

    /// A frame arrives on the wire.
    pub fn receive(&mut self, env: &mut Env, dma: &mut dyn Dma, frame: WireFrame) {
        self.advance(env, dma);
        if self.loops_back() {
            return;
        }
        if self.rx_backlog_limit > self.backlog.len()
            && (!self.backlog.is_empty() || !self.has_room(env, &frame))
        {
            self.backlog.push_back(frame);
            return;
        }
        let _ = self.deliver(env, dma, &frame);
    }

    /// Nothing comes in from the wire.
    pub(super) fn loops_back(&self) -> bool {
        self.reg(MAC_CONTROL_1) & 1 << 5 != 0
    }

    pub(super) fn run_backlog(&mut self, env: &mut Env, dma: &mut dyn Dma) {
        while self
            .backlog
            .front()
            .is_some_and(|frame| self.has_room(env, frame))
        {
            if let Some(frame) = self.backlog.pop_front() {
                let _ = self.deliver(env, dma, &frame);
            }
        }
    }

    /// False if delivery would fail for want of descriptors in a queue that runs.
    fn has_room(&self, env: &Env, frame: &WireFrame) -> bool {
        let Ok((q, _)) = self.accept(env, frame) else {
            return true;
        };
        !self.rxq[q].enabled
            || self.descriptors_for(env, q, HEADER_LEN + frame.data.len() + FCS_LEN)
                <= self.rxq[q].free
    }

    /// Takes one frame through the MAC; tells why it was lost.
    pub(super) fn deliver(
        &mut self,
        env: &mut Env,
        dma: &mut dyn Dma,
        frame: &WireFrame,
    ) -> Result<(), RxDrop> {
        let accepted = self.accept(env, frame);
        self.count(env, frame, accepted.err());
        if accepted == Err(RxDrop::MacControl) {
            self.pause(env, frame);
        }
        let (q, mut status) = accepted?;
        if !env.faults.is_empty() {
            if env.faults.every("neta-rx-overrun") {
                self.rx_overrun = self.rx_overrun.wrapping_add(1);
                self.misc_cause |= 1 << 8;
                return Err(RxDrop::Overrun);
            }
            if env.faults.every("neta-rx-resource") {
                return Err(self.no_descriptor(q));
            }
        }
        let mut data = frame.data.as_slice();
        if self.too_long(env, data.len()) {
            status |= status::ERROR | status::TOO_LONG;
            self.misc_cause |= 1 << 10;
            if env.doubts.is(&open::OVERSIZE, "truncate") {
                data = &data[..self
                    .frame_limit(env)
                    .saturating_sub(FCS_LEN)
                    .min(data.len())];
            }
        } else if frame.bad_fcs {
            status |= status::ERROR | status::CRC;
            self.misc_cause |= 1 << 9;
        }
        let mut fcs = super::checksum::fcs(&frame.data);
        if frame.bad_fcs {
            fcs[0] ^= 0xff;
        }
        let mut bytes = Vec::with_capacity(HEADER_LEN + data.len() + FCS_LEN);
        bytes.extend_from_slice(&[0; HEADER_LEN]);
        bytes.extend_from_slice(data);
        bytes.extend_from_slice(&fcs);
        self.store(env, dma, q, status, &bytes)
    }

    /// Everything up to the ring: which queue, which status bits.
    fn accept(&self, env: &Env, frame: &WireFrame) -> Result<(usize, u32), RxDrop> {
        if !self.port_enabled() || self.link(env).is_none() {
            return Err(RxDrop::PortDown);
        }
        let len = frame.data.len() + FCS_LEN;
        // Spec: bytes, as Linux writes 64. FreeBSD writes (64 - 40) & 0x7c, which is harmless so; were it the meaning, Linux's
        // 64 would be 104 bytes and no ARP would ever arrive.
        let minimum = self.reg(RX_MINIMUM);
        if len < minimum as usize || frame.data.len() < 14 {
            return Err(RxDrop::Runt);
        }
        if frame.bad_fcs && env.doubts.is(&open::BAD_FCS, "drop") {
            return Err(RxDrop::BadFcs);
        }
        if self.too_long(env, frame.data.len()) && env.doubts.is(&open::OVERSIZE, "drop") {
            return Err(RxDrop::TooLong);
        }
        if frame.data[..6] == PAUSE_ADDRESS && frame.data[12..14] == [0x88, 0x08] {
            return Err(RxDrop::MacControl);
        }
        self.filter(env, &frame.data).ok_or(RxDrop::Filtered)
    }

    fn frame_limit(&self, env: &Env) -> usize {
        let limit = ((self.reg(MAC_CONTROL_0) >> 2 & 0x1fff) * 2) as usize;
        if env.doubts.is(&open::FRAME_LIMIT, "frame") {
            limit
        } else {
            limit.saturating_sub(HEADER_LEN)
        }
    }

    fn too_long(&self, env: &Env, data_len: usize) -> bool {
        data_len + FCS_LEN > self.frame_limit(env)
    }

    /// Address filter, parser and choice of queue.
    fn filter(&self, env: &Env, frame: &[u8]) -> Option<(usize, u32)> {
        let config = self.reg(PORT_CONFIG);
        let tag = match self.reg(MARVELL_HEADER) >> 10 & 3 {
            0 => SwitchTag::None,
            1 => SwitchTag::Dsa,
            _ => SwitchTag::Extended,
        };
        let vlan_type = self.reg(VLAN_ETHER_TYPE) as u16;
        let pseudo = config & 1 << 25 != 0;
        let mut parsed = Parsed::new(frame, tag, vlan_type, pseudo);
        if tag == SwitchTag::None
            && frame[12..14] == [0xda, 0xda]
            && env.doubts.is(&open::TAGGED_PARSE, "seen")
        {
            let seen = Parsed::new(frame, SwitchTag::Extended, vlan_type, pseudo);
            parsed = Parsed {
                ether_type: parsed.ether_type,
                ..seen
            };
        }
        let mut status = self.status_of(env, &parsed);
        let default_queue = config >> 1 & 7;
        let arp = parsed.ether_type == 0x0806;
        let ip = matches!(parsed.l3, L3::Ipv4 { .. });
        let bpdu = frame[..5] == [0x01, 0x80, 0xc2, 0, 0] && frame[5] & 0xf0 == 0;
        if bpdu {
            status |= status::BPDU;
        }

        let table_queue = if frame[..6] == [0xff; 6] {
            let reject = if arp {
                9
            } else if ip {
                8
            } else {
                7
            };
            (config & 1 << reject == 0).then_some(default_queue)
        } else if bpdu && self.reg(PORT_CONFIG_EXTEND) & 2 != 0 {
            Some(config >> 22 & 7)
        } else if frame[0] & 1 == 1 {
            let entry = if frame[..5] == [0x01, 0, 0x5e, 0, 0] {
                self.table_entry(SPECIAL_MULTICAST, u32::from(frame[5]))
            } else {
                self.table_entry(OTHER_MULTICAST, u32::from(crc8(&frame[..6])))
            };
            (entry & 1 == 1).then_some(u32::from(entry >> 1 & 7))
        } else {
            let own = u64::from(self.reg(MAC_HIGH)) << 16 | u64::from(self.reg(MAC_LOW) & 0xffff);
            let destination = frame[..6]
                .iter()
                .fold(0, |address, byte| address << 8 | u64::from(*byte));
            let forced = self.reg(ETHER_TYPE_QUEUE) & 1 << 21 != 0;
            let hit = forced || own >> 4 == destination >> 4;
            let entry = self.table_entry(UNICAST, u32::from(frame[5] & 15));
            if hit && entry & 1 == 1 {
                Some(u32::from(entry >> 1 & 7))
            } else if config & 1 == 1 {
                status |= status::UNKNOWN_ADDRESS;
                Some(default_queue)
            } else {
                None
            }
        }?;

        let ether_type_queue = self.reg(ETHER_TYPE_QUEUE);
        let by_ether_type = ether_type_queue & 1 == 1
            && ether_type_queue >> 5 & 0xffff == u32::from(parsed.ether_type);
        let queue = if by_ether_type {
            ether_type_queue >> 2 & 7
        } else if arp && frame[0] & 1 == 1 {
            config >> 4 & 7
        } else if config & 1 << 14 != 0 && parsed.l4 == L4::Tcp {
            config >> 16 & 7
        } else if config & 1 << 15 != 0 && parsed.l4 == L4::Udp {
            config >> 19 & 7
        } else if env.doubts.is(&open::QUEUE_CHOICE, "table") {
            table_queue
        } else {
            table_queue.max(self.priority_queue(&parsed))
        };
        Some((queue as usize, status))
    }

    fn priority_queue(&self, parsed: &Parsed) -> u32 {
        let vlan = parsed.vlan_priority.map_or(0, |priority| {
            self.reg(VLAN_QUEUE) >> (3 * u32::from(priority)) & 7
        });
        let dscp = match parsed.l3 {
            L3::Ipv4 { tos, .. } => {
                let code = u32::from(tos >> 2);
                // Ten code points of three bits a register.
                self.reg(DSCP_QUEUE + 4 * (code / 10)) >> (3 * (code % 10)) & 7
            }
            _ => 0,
        };
        vlan.max(dscp)
    }

    fn status_of(&self, env: &Env, parsed: &Parsed) -> u32 {
        let l3 = match parsed.l3 {
            L3::Unknown => 0,
            L3::Ipv4 { .. } if env.doubts.is(&open::L3_CODE, "bit25") => 2,
            L3::Ipv4 { good: false, .. } => 1,
            L3::Ipv6 => 2,
            L3::Ipv4 { good: true, .. } => 3,
        };
        let l4 = match parsed.l4 {
            L4::Tcp => 0,
            L4::Udp => 1,
            L4::Other => 2,
        };
        let mut status = l3 << status::L3_SHIFT | l4 << status::L4_SHIFT;
        if parsed.l4_good {
            status |= status::L4_GOOD;
        }
        if matches!(parsed.l3, L3::Ipv4 { fragment: true, .. }) {
            status |= status::FRAGMENT;
        }
        if parsed.vlan_priority.is_some() {
            status |= status::VLAN;
        }
        if parsed.ether_type >= 0x600 {
            status |= status::ETHERNET_2;
        }
        status
    }

    fn count(&mut self, env: &Env, frame: &WireFrame, lost: Option<RxDrop>) {
        let len = frame.data.len() + FCS_LEN;
        match lost {
            Some(RxDrop::PortDown) => return,
            Some(RxDrop::Runt) => {
                self.mib.add(Counter::BadFramesReceived, 1);
                self.mib.add(Counter::BadOctetsReceived, len);
                let kind = if frame.bad_fcs {
                    Counter::Fragments
                } else {
                    Counter::Undersize
                };
                return self.mib.add(kind, 1);
            }
            _ => {}
        }
        let too_long = self.too_long(env, frame.data.len());
        if too_long || frame.bad_fcs {
            self.mib.add(Counter::BadFramesReceived, 1);
            self.mib.add(Counter::BadOctetsReceived, len);
            return self.mib.add(
                if too_long {
                    Counter::Oversize
                } else {
                    Counter::BadCrc
                },
                1,
            );
        }
        self.mib.add(Counter::GoodFramesReceived, 1);
        self.mib.add(Counter::GoodOctetsReceived, len);
        self.mib.add(Counter::size_class(len), 1);
        if frame.data[..6] == [0xff; 6] {
            self.mib.add(Counter::BroadcastReceived, 1);
        } else if frame.data[0] & 1 == 1 {
            self.mib.add(Counter::MulticastReceived, 1);
        }
    }

    /// A MAC control frame: pause, or one we do not know.
    fn pause(&mut self, env: &Env, frame: &WireFrame) {
        let opcode = frame.data.get(14..16);
        let Some([high, low]) = frame.data.get(16..18) else {
            return;
        };
        if opcode != Some(&[0, 1]) {
            return self.mib.add(Counter::UnrecognisedMacControl, 1);
        }
        self.mib.add(Counter::GoodFlowControlReceived, 1);
        let flow_control = self.reg(AUTONEG) & 1 << 8 != 0;
        if let (true, Some(link)) = (flow_control, self.link(env)) {
            let bits = 512 * u64::from(u16::from_be_bytes([*high, *low]));
            self.paused_until = env.now + bits * 1000 / u64::from(link.mbps);
        }
    }

    fn no_descriptor(&mut self, q: usize) -> RxDrop {
        self.rx_discard = self.rx_discard.wrapping_add(1);
        self.old_cause |= 1 << (16 + q);
        RxDrop::NoDescriptor
    }

    /// Room of the n-th buffer of a frame.
    fn buffer_room(&self, env: &Env, q: usize, first: bool) -> usize {
        let size = (self.queue_reg(RXQ_SIZE, q) >> 19) as usize * 8;
        let offset = self.packet_offset(q);
        if first && env.doubts.is(&open::BUFFER_OFFSET, "inside") {
            size.saturating_sub(offset)
        } else {
            size
        }
    }

    fn packet_offset(&self, q: usize) -> usize {
        (self.queue_reg(RXQ_CONFIG, q) >> 8 & 15) as usize * 8
    }

    /// Descriptors a frame of `len` bytes takes; more than any ring has if buffers have no room.
    fn descriptors_for(&self, env: &Env, q: usize, len: usize) -> u32 {
        let (first, later) = (
            self.buffer_room(env, q, true),
            self.buffer_room(env, q, false),
        );
        if len <= first {
            1
        } else if later == 0 {
            u32::MAX
        } else {
            1 + (len - first).div_ceil(later) as u32
        }
    }

    /// Writes header, frame and FCS into the ring.
    fn store(
        &mut self,
        env: &mut Env,
        dma: &mut dyn Dma,
        q: usize,
        status: u32,
        bytes: &[u8],
    ) -> Result<(), RxDrop> {
        let needed = self.descriptors_for(env, q, bytes.len());
        if self.rx_dma_reset || !self.rxq[q].enabled || self.rxq[q].free < needed {
            if needed == u32::MAX {
                env.guest_error(self.name, format!("RX queue {q} has buffers of 0 bytes"));
            }
            return Err(self.no_descriptor(q));
        }
        let size = self.queue_reg(RXQ_SIZE, q) & COUNT;
        let mut at = 0;
        for n in 0..needed {
            let (first, mut last) = (n == 0, n + 1 == needed);
            let take = self.buffer_room(env, q, first).min(bytes.len() - at);
            let desc = self
                .queue_reg(RXQ_BASE, q)
                .wrapping_add(self.rxq[q].current * DESC_LEN);
            let mut buffer = [0; 4];
            // A descriptor that cannot be read is not used up.
            if !self.dma_read(env, dma, desc.wrapping_add(8), &mut buffer, "RX descriptor") {
                return Err(RxDrop::Dma);
            }
            let buffer = u32::from_le_bytes(buffer);
            if buffer & 7 != 0 {
                env.guest_error(
                    self.name,
                    format!("RX buffer at {buffer:#010x} is not a multiple of 8"),
                );
            }
            let start = buffer.wrapping_add(if first {
                self.packet_offset(q) as u32
            } else {
                0
            });
            let stored = self.dma_write(env, dma, start, &bytes[at..at + take], "RX buffer");
            if !stored && env.doubts.is(&open::RX_DMA_FAILURE, "lost") {
                return Err(RxDrop::Dma);
            }
            last |= !stored;
            let count = if first || env.doubts.is(&open::LATER_DESCRIPTORS, "whole") {
                bytes.len()
            } else if env.doubts.is(&open::LATER_DESCRIPTORS, "rest") {
                bytes.len() - at
            } else {
                0
            };
            let carries = env.doubts.is(&open::LATER_STATUS, "all")
                || if env.doubts.is(&open::LATER_STATUS, "last") {
                    last
                } else {
                    first
                };
            let what = if !stored {
                status::ERROR | status::NO_RESOURCE
            } else if carries {
                status
            } else {
                0
            };
            let word0 =
                what | if first { status::FIRST } else { 0 } | if last { status::LAST } else { 0 };
            let mut words = [0; 8];
            words[..4].copy_from_slice(&word0.to_le_bytes());
            words[4..].copy_from_slice(&((count as u32) << 16).to_le_bytes());
            if !self.dma_write(env, dma, desc, &words, "RX descriptor") {
                return Err(RxDrop::Dma);
            }
            at += take;
            let queue = &mut self.rxq[q];
            queue.current = if queue.current + 1 >= size {
                0
            } else {
                queue.current + 1
            };
            queue.free -= 1;
            queue.occupied += 1;
            self.old_cause |= 1 << (8 + q);
            self.start_timer(env, q);
            if !stored {
                return Err(RxDrop::Dma);
            }
        }
        Ok(())
    }
}

/// CRC-8 over an address, polynomial 0x107: the index into the table of other groups.
pub(super) fn crc8(address: &[u8]) -> u8 {
    address.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc: u8, _| {
            if crc & 0x80 == 0 {
                crc << 1
            } else {
                crc << 1 ^ 0x07
            }
        })
    })
}
