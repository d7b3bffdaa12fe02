//! What every network driver has in common: frames, links, counters, the [`Nic`] trait.

pub mod bpf;
pub mod bridge;
pub mod capture;
pub mod checksum;
pub mod drops;
pub mod frame;
pub mod mdio;
pub mod mv88e6xxx;
pub mod neta;
pub mod phy;
pub mod smoltcp;
pub mod steps;
pub mod tag;
pub mod verdicts;
#[cfg(target_os = "none")]
pub mod virtio;
pub mod vlan;

pub use frame::{Frame, Pool};

/// An Ethernet address, in wire order.
pub type MacAddr = [u8; 6];

/// An Ethernet address as people write it: `52:54:00:12:34:56`.
pub struct MacText(pub MacAddr);

impl core::fmt::Display for MacText {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

/// State of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// No carrier.
    Down,
    /// Carrier; the speed is known for real PHYs only.
    Up {
        /// Mb/s, 0 if the device does not say.
        speed_mbps: u32,
        /// Both directions at once.
        full_duplex: bool,
        /// Pause frames, as negotiated.
        pause: phy::Pause,
    },
}

impl Link {
    /// Whether frames can pass.
    pub fn is_up(self) -> bool {
        self != Link::Down
    }
}

/// When received frames interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coalescing {
    /// Frames that must wait before an interrupt; 0 and 1: each one.
    pub rx_packets: u16,
    /// Longest time a frame waits for others, in microseconds; 67,000 at most.
    pub rx_time_us: u32,
}

impl Coalescing {
    /// Each frame at once: under load the poll loop finds more of them at each look anyway.
    pub const LATENCY: Coalescing = Coalescing {
        rx_packets: 1,
        rx_time_us: 100,
    };
}

impl Default for Coalescing {
    fn default() -> Self {
        Self::LATENCY
    }
}

/// A counter for whoever shows it: name, help text, value.
pub type Count = (&'static str, &'static str, u64);

/// Counters every interface has. All count since start and wrap at 2^64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received, without damage as far as the device tells.
    pub rx_frames: u64,
    /// Their bytes, from the destination address to before the FCS.
    pub rx_bytes: u64,
    /// Frames handed to the device.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Received frames shorter than an Ethernet header.
    pub rx_runt: u64,
    /// Received frames of a VLAN that nobody here has.
    pub rx_other_vlan: u64,
    /// Received frames to another station, let in because the address filter could not tell them apart.
    pub rx_other_station: u64,
    /// Received frames for another interface of the same device, whose queue was full.
    pub rx_queue_full: u64,
    /// Completions the device reported for buffers it did not own, or of impossible lengths.
    pub rx_bad_completion: u64,
    /// Frames not sent because the transmit ring was full.
    pub tx_ring_full: u64,
    /// Frames not sent because no buffer was free.
    pub tx_no_buffer: u64,
    /// Transmit completions that made no sense.
    pub tx_bad_completion: u64,
}

impl Counters {
    /// Name, help text and value of each counter, for whoever shows them.
    pub fn each(&self) -> [(&'static str, &'static str, u64); 12] {
        [
            ("rx_frames", "Frames received", self.rx_frames),
            ("rx_bytes", "Bytes received, without FCS", self.rx_bytes),
            ("tx_frames", "Frames handed to the device", self.tx_frames),
            (
                "tx_bytes",
                "Bytes handed to the device, without FCS",
                self.tx_bytes,
            ),
            (
                "rx_runt",
                "Received frames shorter than an Ethernet header",
                self.rx_runt,
            ),
            (
                "rx_other_vlan",
                "Received frames of a VLAN that nobody here has",
                self.rx_other_vlan,
            ),
            (
                "rx_other_station",
                "Received frames to another station, refused by software",
                self.rx_other_station,
            ),
            (
                "rx_queue_full",
                "Received frames for another interface of the device, whose queue was full",
                self.rx_queue_full,
            ),
            (
                "rx_bad_completion",
                "Receive completions that made no sense",
                self.rx_bad_completion,
            ),
            (
                "tx_ring_full",
                "Frames dropped because the transmit ring was full",
                self.tx_ring_full,
            ),
            (
                "tx_no_buffer",
                "Frames dropped because no buffer was free",
                self.tx_no_buffer,
            ),
            (
                "tx_bad_completion",
                "Transmit completions that made no sense",
                self.tx_bad_completion,
            ),
        ]
    }
}

/// A network device as the poll loop sees it.
///
/// Buffers change hands by value. No method waits.
pub trait Nic {
    /// The driver's name, for people.
    fn driver(&self) -> &'static str;
    /// Its own address.
    fn mac(&self) -> MacAddr;
    /// The link as last seen by [`Nic::acknowledge`].
    fn link(&self) -> Link;
    /// Clears what made the device interrupt, and notes a change of link. Called before a round of
    /// [`Nic::receive`], so that whatever comes later interrupts again.
    fn acknowledge(&mut self);
    /// The next received frame, if any. The ring gets a fresh buffer from `pool` in its place; if `pool` is empty, the
    /// frame stays in the ring.
    fn receive(&mut self, pool: &mut Pool) -> Option<Frame>;
    /// Whether [`Nic::receive`] may find a frame that no interrupt will tell of: another interface of the same device
    /// has taken it from the ring.
    #[inline]
    fn waiting(&self) -> bool {
        false
    }
    /// Whether [`Nic::waiting`] may be true of this interface, or of another one of the same device: one question for all.
    #[inline]
    fn has_set_aside(&self) -> bool {
        false
    }
    /// Free places in the transmit ring, after collecting what was sent into `pool`.
    fn transmit_space(&mut self, pool: &mut Pool) -> usize;
    /// Puts a frame into the transmit ring; a full ring puts it back into `pool` and counts it.
    /// The device may not look before [`Nic::flush`].
    fn transmit(&mut self, frame: Frame, pool: &mut Pool);
    /// Frames handed to the device since start, and how many of them it is known to have sent, after collecting those
    /// into `pool`. `None` from a device that does not tell.
    fn sent(&mut self, _pool: &mut Pool) -> Option<(u64, u64)> {
        None
    }
    /// Rings the doorbells, once for all that was queued.
    fn flush(&mut self);
    /// Whether to interrupt when the transmit ring has room again.
    fn interrupt_on_space(&mut self, wanted: bool);
    /// Sets when received frames interrupt, at any time, for all interfaces of the device. False if it cannot be told.
    fn set_coalescing(&mut self, _coalescing: Coalescing) -> bool {
        false
    }
    /// What was counted so far.
    fn counters(&self) -> &Counters;
    /// For whoever drops a frame above the driver.
    fn counters_mut(&mut self) -> &mut Counters;
    /// The counter of that number, of its port in a switch: numbers begin with 0 and have no gap.
    fn port_counter(&self, _index: usize) -> Option<Count> {
        None
    }
    /// When those were read, in microseconds since start: reading them takes longer than anybody should wait.
    fn port_counters_at_us(&self) -> Option<u64> {
        None
    }
    /// The names of devices that it shares with other interfaces, by number from 0 on.
    fn device(&self, _number: usize) -> Option<&'static str> {
        None
    }
    /// The counter of that number, of the device of that number.
    fn device_counter(&self, _number: usize, _index: usize) -> Option<Count> {
        None
    }
    /// Somebody is about to look at the counters: what is quickly read is read now, what is not is read soon.
    fn refresh_counters(&self) {}
    /// Shows the frames of the device that it shares, switch tags and all, from now on or no more: how they are tagged;
    /// `None` if there is no such device.
    fn tap_conduit(&mut self, _tap: Option<capture::Tap>) -> Option<tag::Protocol> {
        None
    }
}
