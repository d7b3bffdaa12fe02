//! virtio-net (virtio 1.2 section 5.1) over the queues and transports of the crate `virtio-drivers`.
//!
//! Owns the two rings and the buffers in them. The crate's own network driver is not used: it negotiates
//! `EVENT_IDX`, whose test for a needed doorbell is wrong when the ring index wraps, and it cannot silence
//! transmit interrupts alone.
//!
//! Received frames interrupt; transmitted ones do not: they are collected when the next frame is sent, unless
//! the ring is full ([`Nic::interrupt_on_space`]).
#![expect(
    unsafe_code,
    reason = "the crate cannot know who owns a buffer that the device writes"
)]

use super::drops::{Reason, SAMPLE_BYTES};
use super::phy::Pause;
use super::{Counters, Frame, Link, MacAddr, Nic, Pool, frame::HEADROOM};
use alloc::boxed::Box;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error as VirtioError, Hal};

/// Places in each ring. QEMU offers 256; half of it holds the bursts of 64 clients.
pub const RING: usize = 128;
/// Buffers one device keeps busy at most: both rings, the frame in hand and its answer.
pub const BUFFERS: usize = 2 * RING + 2;

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

bitflags::bitflags! {
    /// Feature bits that we want. Spec: virtio 1.2, 5.1.3 and 6.
    #[derive(Clone, Copy, Debug)]
    struct Features: u64 {
        const MAC = 1 << 5;
        const STATUS = 1 << 16;
        const VERSION_1 = 1 << 32;
    }
}
/// Config space. Spec: virtio 1.2, 5.1.4.
const CONFIG_MAC: usize = 0;
const CONFIG_STATUS: usize = 6;
const STATUS_LINK_UP: u16 = 1;

/// `struct virtio_net_hdr`: 10 bytes, 12 with `num_buffers`, which only devices of version 1 write.
const HEADER_LEGACY: usize = 10;
const HEADER: usize = 12;
const ETHERNET_HEADER: usize = 14;

/// Why a device could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not a network device.
    NotNetwork(DeviceType),
    /// The device does not agree to the features that we know.
    Features,
    /// The device has no address of its own.
    NoMac,
    /// Its queue is shorter than [`RING`].
    ShortQueue {
        /// 0 receives, 1 transmits.
        queue: u16,
        /// Places it has.
        max: u32,
    },
    /// What the crate says about the queue or the config space.
    Virtio(VirtioError),
    /// The pool has no buffers left for the receive ring.
    NoBuffers,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::NotNetwork(kind) => write!(f, "not a network device but {kind:?}"),
            Error::Features => f.write_str("the device refuses the features that were negotiated"),
            Error::NoMac => f.write_str("the device offers no MAC address"),
            Error::ShortQueue { queue, max } => {
                write!(f, "queue {queue} has {max} places, {RING} are needed")
            }
            Error::Virtio(error) => write!(f, "{error}"),
            Error::NoBuffers => f.write_str("no buffers left for the receive ring"),
        }
    }
}

impl From<VirtioError> for Error {
    fn from(error: VirtioError) -> Self {
        Error::Virtio(error)
    }
}

/// A queue and the frames that the device owns, by token.
struct Ring<H: Hal> {
    queue: VirtQueue<H, RING>,
    frames: [Option<Frame>; RING],
    /// Something was added since the last doorbell.
    added: bool,
}

impl<H: Hal> Ring<H> {
    fn new(transport: &mut impl Transport, index: u16) -> Result<Self, Error> {
        let max = transport.max_queue_size(index);
        if max < RING as u32 {
            return Err(Error::ShortQueue { queue: index, max });
        }
        let queue = VirtQueue::new(transport, index, false, false)?;
        Ok(Ring {
            queue,
            frames: [const { None }; RING],
            added: false,
        })
    }

    fn is_full(&self) -> bool {
        self.queue.available_desc() == 0
    }

    #[inline]
    fn ring(&mut self, transport: &mut impl Transport, index: u16) {
        if self.added {
            self.added = false;
            if self.queue.should_notify() {
                transport.notify(index);
            }
        }
    }
}

/// A virtio network device.
pub struct VirtioNic<H: Hal, T: Transport> {
    transport: T,
    receive: Box<Ring<H>>,
    transmit: Box<Ring<H>>,
    header: usize,
    mac: MacAddr,
    has_status: bool,
    link: Link,
    counters: Counters,
}

impl<H: Hal, T: Transport> VirtioNic<H, T> {
    /// Negotiates, sets up both rings and fills the receive ring from `pool`. Frames may arrive from here on.
    ///
    /// # Errors
    ///
    /// See [`Error`]; the device is left reset.
    pub fn bring_up(mut transport: T, pool: &mut Pool) -> Result<Self, Error> {
        if transport.device_type() != DeviceType::Network {
            return Err(Error::NotNetwork(transport.device_type()));
        }
        let features = transport.begin_init(Features::all());
        // A device of version 2 must offer, and we accept, VERSION_1. Spec: virtio 1.2, 3.1.1 step 6, and 6.1.
        let modern = !transport.requires_legacy_layout();
        let agreed = transport.get_status().contains(DeviceStatus::FEATURES_OK);
        if modern && !(agreed && features.contains(Features::VERSION_1)) {
            return Err(Error::Features);
        }
        if !features.contains(Features::MAC) {
            return Err(Error::NoMac);
        }
        let mac: MacAddr = transport.read_config_space(CONFIG_MAC)?;
        let mut transmit = Box::new(Ring::new(&mut transport, TRANSMIT)?);
        let receive = Box::new(Ring::new(&mut transport, RECEIVE)?);
        transmit.queue.set_dev_notify(false);
        transport.finish_init();
        let header = if features.contains(Features::VERSION_1) {
            HEADER
        } else {
            HEADER_LEGACY
        };
        let mut nic = VirtioNic {
            transport,
            receive,
            transmit,
            header,
            mac,
            has_status: features.contains(Features::STATUS),
            link: Link::Down,
            counters: Counters::default(),
        };
        nic.read_link();
        while !nic.receive.is_full() {
            let frame = pool.take().ok_or(Error::NoBuffers)?;
            nic.give(frame)?;
        }
        nic.flush();
        Ok(nic)
    }

    fn read_link(&mut self) {
        let up = !self.has_status
            || self
                .transport
                .read_config_space::<u16>(CONFIG_STATUS)
                .is_ok_and(|status| status & STATUS_LINK_UP != 0);
        self.link = if up {
            Link::Up {
                speed_mbps: 0,
                full_duplex: true,
                pause: Pause::default(),
            }
        } else {
            Link::Down
        };
    }

    /// Hands a buffer to the receive ring.
    fn give(&mut self, mut frame: Frame) -> Result<(), VirtioError> {
        let start = HEADROOM - self.header;
        let (buffer, _) = frame.parts();
        // SAFETY: the frame moves into `frames`, where nobody touches it until the device returns its token.
        let token = unsafe { self.receive.queue.add(&[], &mut [&mut buffer.0[start..]]) }?;
        self.receive.frames[usize::from(token) % RING] = Some(frame);
        self.receive.added = true;
        Ok(())
    }

    /// Takes back what was sent.
    #[inline(never)]
    fn collect(&mut self, pool: &mut Pool) {
        while let Some(token) = self.transmit.queue.peek_used() {
            let slot = self.transmit.frames.get_mut(usize::from(token));
            let Some(mut frame) = slot.and_then(Option::take) else {
                // Nothing can be popped past it: the ring stays as it is, full in the end, and every frame counted.
                self.counters.tx_bad_completion += 1;
                return;
            };
            let (buffer, range) = frame.parts();
            let sent = &buffer.0[range.start - self.header..range.end];
            // SAFETY: the same bytes that `transmit` added under this token.
            if unsafe { self.transmit.queue.pop_used(token, &[sent], &mut []) }.is_err() {
                self.counters.tx_bad_completion += 1;
            }
            pool.put(frame);
        }
    }
}

impl<H: Hal, T: Transport> Nic for VirtioNic<H, T> {
    fn driver(&self) -> &'static str {
        "virtio-net"
    }

    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn link(&self) -> Link {
        self.link
    }

    fn acknowledge(&mut self) {
        let status = self.transport.ack_interrupt();
        if status.contains(InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT) {
            self.read_link();
        }
    }

    fn receive(&mut self, pool: &mut Pool) -> Option<Frame> {
        loop {
            let token = self.receive.queue.peek_used()?;
            let fresh = pool.take()?;
            let slot = self.receive.frames.get_mut(usize::from(token));
            let Some(mut frame) = slot.and_then(Option::take) else {
                self.counters.rx_bad_completion += 1;
                pool.put(fresh);
                return None;
            };
            let start = HEADROOM - self.header;
            let (buffer, _) = frame.parts();
            // SAFETY: the same bytes that `give` added under this token.
            let len = unsafe {
                self.receive
                    .queue
                    .pop_used(token, &[], &mut [&mut buffer.0[start..]])
            };
            if self.give(fresh).is_err() {
                self.counters.rx_bad_completion += 1;
            }
            let len = len.map_or(0, |len| (len as usize).saturating_sub(self.header));
            if len < ETHERNET_HEADER || !frame.set_len(len) {
                let (count, reason) = match len {
                    0..ETHERNET_HEADER => (&mut self.counters.rx_runt, Reason::Runt),
                    _ => (&mut self.counters.rx_bad_completion, Reason::BadCompletion),
                };
                *count += 1;
                // As much as there may be.
                frame.set_len(len.min(SAMPLE_BYTES));
                pool.discard(frame, reason);
                continue;
            }
            self.counters.rx_frames += 1;
            self.counters.rx_bytes += len as u64;
            return Some(frame);
        }
    }

    #[inline]
    fn transmit_space(&mut self, pool: &mut Pool) -> usize {
        if self.transmit.queue.available_desc() < RING / 2 {
            self.collect(pool);
        }
        self.transmit.queue.available_desc()
    }

    fn transmit(&mut self, mut frame: Frame, pool: &mut Pool) {
        if self.transmit_space(pool) == 0 {
            self.counters.tx_ring_full += 1;
            pool.put(frame);
            return;
        }
        let (buffer, range) = frame.parts();
        let len = range.len() as u64;
        // No offload: an all-zero header. Spec: virtio 1.2, 5.1.6.2. Twelve bytes, of which a legacy device reads ten.
        if let Some(header) = buffer.0[..range.start].last_chunk_mut::<HEADER>() {
            *header = [0; HEADER];
        }
        let message = &buffer.0[range.start - self.header..range.end];
        // SAFETY: the frame moves into `frames`, where nobody touches it until the device returns its token.
        match unsafe { self.transmit.queue.add(&[message], &mut []) } {
            Ok(token) => {
                self.transmit.frames[usize::from(token) % RING] = Some(frame);
                self.transmit.added = true;
                self.counters.tx_frames += 1;
                self.counters.tx_bytes += len;
            }
            Err(_) => {
                self.counters.tx_ring_full += 1;
                pool.put(frame);
            }
        }
    }

    fn sent(&mut self, pool: &mut Pool) -> Option<(u64, u64)> {
        self.collect(pool);
        let queued = self.counters.tx_frames;
        // A frame is one descriptor.
        let in_flight = RING - self.transmit.queue.available_desc();
        Some((queued, queued.saturating_sub(in_flight as u64)))
    }

    #[inline]
    fn flush(&mut self) {
        self.receive.ring(&mut self.transport, RECEIVE);
        self.transmit.ring(&mut self.transport, TRANSMIT);
    }

    fn interrupt_on_space(&mut self, wanted: bool) {
        self.transmit.queue.set_dev_notify(wanted);
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }
}
