//! What the status page, `/metrics` and the JSON status show: borrowed facts about the running machine.
//!
//! Owns the shape of the facts, not the facts. New counters of a driver or service appear everywhere by being listed in
//! a [`Table`] of [`Counter`]s; nothing about HTTP changes, and answers may be of any length.

use crate::capture;
use crate::http::{AnswerCounters, Verdict};
use crate::latency::Latency;
use core::net::IpAddr;
use hal::net::drops::{Reason, Samples};

pub use crate::addressing::Origin;

/// Interfaces that are shown.
pub const MAX_INTERFACES: usize = 8;
/// Addresses that are shown of an interface.
pub const MAX_ADDRESSES: usize = 8;
/// Counters of an interface's own; those of its port and device are not limited.
pub const MAX_COUNTERS: usize = 32;

/// Where the facts come from. Asked when a page is shown, and never otherwise.
pub trait StatusSource {
    /// Collects the facts and hands them to `show`, once.
    fn with_status(&self, show: &mut dyn FnMut(&Status<'_>));

    /// Whether everybody may read.
    fn is_public(&self) -> bool {
        true
    }

    /// Whether this is a name of the machine, without `.local`, in any case.
    fn is_own_name(&self, _name: &[u8]) -> bool {
        false
    }

    /// Whether the ticket in this query is good for a capture.
    fn admits_to_capture(&self, _query: &str) -> bool {
        false
    }

    /// Keeps this order for a capture that is about to begin.
    ///
    /// # Errors
    ///
    /// Why there is none.
    fn order_capture(&self, _query: &str) -> Result<(), capture::Refusal> {
        Err(capture::Refusal::Off)
    }

    /// What the `Authorization` field of a request is worth.
    fn judge(&self, _authorization: Option<&[u8]>) -> Verdict {
        Verdict::NotConfigured
    }
}

/// Hands over the last lines of the log, oldest first.
pub type ShowLog = fn(&mut dyn FnMut(&str));

/// The running machine at one moment.
#[derive(Clone, Copy)]
pub struct Status<'a> {
    /// The name the machine answers to, without `.local`.
    pub hostname: &'a str,
    /// `model` of the devicetree: foreign text.
    pub board: &'a str,
    /// Version of the image.
    pub version: &'a str,
    /// Time since entry, in microseconds.
    pub uptime_us: u64,
    /// The processor in words, such as `Cortex-A53`: foreign text.
    pub cpu: &'a str,
    /// Usable memory in bytes.
    pub memory_bytes: u64,
    /// The loaded image with its zeroed data, in bytes.
    pub image_bytes: u64,
    /// Heap in use, in bytes.
    pub heap_used_bytes: u64,
    /// The whole heap, in bytes.
    pub heap_size_bytes: u64,
    /// The network interfaces.
    pub interfaces: &'a [Interface<'a>],
    /// What interfaces share.
    pub devices: &'a [Device<'a>],
    /// The services.
    pub services: &'a [Service<'a>],
    /// What belongs to no interface and no service.
    pub counters: &'a [Counter<'a>],
    /// HTTP answers by status code.
    pub http_answers: &'a AnswerCounters,
    /// The addresses under which this page can be reached.
    pub urls: &'a [&'a str],
    /// The last start that ended badly, if there is a record of it: how many starts ago, and what it said.
    pub bad_end: Option<(u64, &'a str)>,
    /// How long answers take.
    pub latency: &'a Latency,
    /// Shows the last lines of the log, oldest first.
    pub log: ShowLog,
    /// What discarded frames looked like: traffic, and not everybody's business.
    pub samples: Option<&'a Samples>,
}

impl<'a> Status<'a> {
    /// Received frames that nobody got, by reason: of interface number `owner`, or behind those of a device. Only
    /// reasons that there were. `None` if there is no such owner.
    pub fn drops(&self, owner: usize, show: &mut dyn FnMut(Reason, u64)) -> Option<&'a str> {
        let mut some = |reason, count| {
            if count > 0 {
                show(reason, count);
            }
        };
        if let Some(interface) = self.interfaces.get(owner) {
            for reason in Reason::ALL {
                some(reason, interface.drops.count(reason));
            }
            return Some(interface.name);
        }
        let device = self.devices.get(owner - self.interfaces.len())?;
        for counter in each(device.counters) {
            if counter.value > 0
                && let Some(reason) = Reason::of_counter(counter.name)
            {
                some(reason, counter.value);
            }
        }
        Some(device.name)
    }
}

/// Who discards received frames.
pub trait Discards {
    /// How many, for one reason.
    fn count(&self, reason: Reason) -> u64;
}

/// One network interface.
#[derive(Clone, Copy)]
pub struct Interface<'a> {
    /// Such as `eth0`.
    pub name: &'a str,
    /// The driver, such as `virtio-net`.
    pub driver: &'a str,
    /// Hardware address.
    pub mac: [u8; 6],
    /// State of the link.
    pub link: Link,
    /// All addresses, in the order of configuration.
    pub addresses: &'a [Address],
    /// Counters of driver and stack.
    pub counters: &'a [Counter<'a>],
    /// Counters of the socket it has in a switch.
    pub port: &'a dyn Table,
    /// How old those are, in microseconds, if they were read already.
    pub port_age_us: Option<u64>,
    /// Received frames that nobody got.
    pub drops: &'a dyn Discards,
}

/// Hardware that interfaces share.
#[derive(Clone, Copy)]
pub struct Device<'a> {
    /// Such as `neta`.
    pub name: &'a str,
    /// Counters of hardware and driver.
    pub counters: &'a dyn Table,
}

/// State of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// No link.
    Down,
    /// A link; a virtual one may have neither speed nor duplex.
    Up {
        /// Speed in Mb/s.
        speed_mbps: Option<u32>,
        /// Whether both sides may send at once.
        duplex: Option<Duplex>,
        /// Which pause frames are in use: `none`, `rx`, `tx`, `rx/tx`.
        pause: Option<&'static str>,
    },
}

/// Whether both sides of a link may send at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplex {
    /// They may not.
    Half,
    /// They may.
    Full,
}

impl Duplex {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Half => "half",
            Self::Full => "full",
        }
    }
}

/// One address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Length of the network prefix in bits.
    pub prefix_len: u8,
    /// How the interface came by it.
    pub origin: Origin,
}

/// One service.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// Such as `http` or `udp_echo`.
    pub name: &'a str,
    /// Connections open now; nothing for a service without connections.
    pub connections: Option<u32>,
    /// Counters of the service.
    pub counters: &'a [Counter<'a>],
}

/// One event counter.
#[derive(Clone, Copy, Debug)]
pub struct Counter<'a> {
    /// In snake case with the base unit, without `_total`: `receive_bytes`. [`is_counter_name`] tells whether it is one;
    /// others are left out of `/metrics`.
    pub name: &'a str,
    /// What is counted, in a few words.
    pub help: &'a str,
    /// How many since entry.
    pub value: u64,
}

/// Counters by number, from 0 on without a gap. Which ones there are never changes.
pub trait Table {
    /// The counter of that number.
    fn get(&self, index: usize) -> Option<Counter<'_>>;
}

impl Table for [Counter<'_>] {
    fn get(&self, index: usize) -> Option<Counter<'_>> {
        <[Counter<'_>]>::get(self, index).copied()
    }
}

impl<T: Table + ?Sized> Table for &T {
    fn get(&self, index: usize) -> Option<Counter<'_>> {
        T::get(self, index)
    }
}

impl<const N: usize> Table for [Counter<'_>; N] {
    fn get(&self, index: usize) -> Option<Counter<'_>> {
        self.as_slice().get(index).copied()
    }
}

/// A table's counters, one after the other.
pub fn each<'t>(table: &'t (impl Table + ?Sized)) -> impl Iterator<Item = Counter<'t>> {
    (0..).map_while(|index| table.get(index))
}

/// Whether `name` can be part of a metric's name.
pub fn is_counter_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

#[cfg(test)]
pub(crate) mod tests;
