//! The last events, for whoever asks later: two words each, written to memory that a reset leaves alone.
//!
//! ```text
//!   word 0   31..0 seal   63..32 b
//!   word 1   7..0 event   15..8 a   63..16 microseconds since entry
//! ```
//!
//! For what happens seldom: nothing here is called for a frame.

use crate::crash::{self, Bank};
use crate::selftest::TESTS;
use core::fmt;
use smoltcp::wire::IpAddress;

/// What happened, and what `a` and `b` are then; 0 if nothing is said of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// A link is there, or another: interface, Mb/s (0 if that makes no sense).
    LinkUp,
    /// It is gone: interface.
    LinkDown,
    /// An interface has an address: see [`address`].
    AddressAdded,
    /// It has lost it: the same.
    AddressRemoved,
    /// A client takes a place: see [`peer`].
    Opened,
    /// The place is free: the same.
    Closed,
    /// The board's MAC is not as it should be.
    MacFault,
    /// It was restarted: 1 if that worked.
    MacRestarted,
    /// The switch was brought up anew.
    SwitchRepaired,
    /// A PHY does not answer as it should: port.
    PhyFailed,
    /// A command runs: 0, the first four letters of its name.
    Command,
    /// The watchdog was fed late: 0, milliseconds.
    FedLate,
    /// Nobody feeds it any more.
    Starves,
    /// Interrupts came that nobody had asked for: 0, how many so far.
    Unexpected,
    /// A self-test begins: its place in the table, the number of the run.
    TestBegun,
    /// It has failed: the same.
    TestFailed,
}

/// Marks the last four bytes of an IPv6 address.
const IPV6: u8 = 1 << 7;

/// An interface, and what is kept of an address.
pub fn address(interface: usize, address: IpAddress) -> (u8, u32) {
    let interface = interface as u8 & !IPV6;
    match address {
        IpAddress::Ipv4(address) => (interface, address.to_bits()),
        IpAddress::Ipv6(address) => (interface | IPV6, address.to_bits() as u32),
    }
}

/// A service, and what is kept of a peer: two halves of an IPv6 address, or ones and an IPv4 one.
pub fn peer(service: u8, address: [u64; 2]) -> (u8, u32) {
    let family = if address[0] == u64::MAX { 0 } else { IPV6 };
    (service | family, address[1] as u32)
}

fn pack(event: Event, a: u8, b: u32, at_us: u64) -> [u64; 2] {
    let head = u64::from(a) << 8 | event as u64;
    [u64::from(b) << 32, at_us << 16 | head]
}

/// Writes an event.
pub fn trace(event: Event, (a, b): (u8, u32)) {
    crash::live().events().push(&pack(event, a, b, now_us()));
}

#[cfg(target_os = "none")]
fn now_us() -> u64 {
    hal::arch::timer::now_us()
}

/// The host has no such clock, and its tests want to know what they get.
#[cfg(not(target_os = "none"))]
fn now_us() -> u64 {
    0
}

/// The kinds, in words.
const WORDS: [&str; 16] = [
    "link up",
    "link down",
    "address added",
    "address removed",
    "connection opened",
    "connection closed",
    "mac fault",
    "mac restarted",
    "switch repaired",
    "phy failed",
    "command",
    "watchdog fed late",
    "watchdog starves",
    "unexpected interrupts",
    "self-test",
    "self-test failed",
];
/// The TCP services, as `firmware` numbers them.
pub const SERVICES: [&str; 5] = ["echo", "http", "iperf3", "discard", "chargen"];

/// An event as it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, in microseconds since entry.
    pub at_us: u64,
    kind: u8,
    a: u8,
    b: u32,
}

impl Entry {
    fn from_cell(cell: &[u64]) -> Option<Self> {
        let [first, second] = *cell else {
            return None;
        };
        let [kind, a, ..] = second.to_le_bytes();
        Some(Entry {
            at_us: second >> 16,
            kind,
            a,
            b: (first >> 32) as u32,
        })
    }

    /// What happened. A later image's events may have no words here.
    pub fn name(&self) -> &'static str {
        WORDS.get(usize::from(self.kind)).copied().unwrap_or("?")
    }
}

/// What is said of it.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (a, b) = (self.a & !IPV6, self.b);
        match self.kind {
            0..=3 => write!(f, "interface {a}")?,
            4 | 5 => f.write_str(SERVICES.get(usize::from(a)).unwrap_or(&"?"))?,
            7 => f.write_str(if a == 1 { "well" } else { "in vain" })?,
            9 => write!(f, "port {a}")?,
            14 | 15 => {
                let test = TESTS.get(usize::from(a)).map_or("?", |test| test.name);
                write!(f, "{test}, run {b}")?;
            }
            _ => {}
        }
        match self.kind {
            0 => write!(f, ", {b} Mb/s"),
            2..=5 if self.a & IPV6 != 0 => write!(f, ", ...:{:x}:{:x}", b >> 16, b & 0xffff),
            2..=5 => write!(f, ", {}", core::net::Ipv4Addr::from_bits(b)),
            10 => {
                let letters = b.to_be_bytes();
                let len = letters.iter().position(|letter| *letter == 0).unwrap_or(4);
                f.write_str(str::from_utf8(&letters[..len]).unwrap_or("?"))
            }
            11 => write!(f, "{b} ms"),
            13 => write!(f, "{b}"),
            _ => Ok(()),
        }
    }
}

/// The last events of a bank, at most `most`, oldest first.
pub fn each(bank: &Bank, most: usize, each: &mut dyn FnMut(&Entry)) {
    bank.events().each(most, &mut |cell| {
        if let Some(entry) = cell.and_then(Entry::from_cell) {
            each(&entry);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_back_in_words() {
        let v6 = IpAddress::v6(0xfe80, 0, 0, 0, 0, 0, 0x12, 0x3456);
        for (event, said, expected) in [
            (Event::LinkUp, (2, 1000), "link up: interface 2, 1000 Mb/s"),
            (Event::LinkDown, (1, 0), "link down: interface 1"),
            (
                Event::AddressAdded,
                address(0, IpAddress::v4(10, 0, 2, 15)),
                "address added: interface 0, 10.0.2.15",
            ),
            (
                Event::AddressRemoved,
                address(1, v6),
                "address removed: interface 1, ...:12:3456",
            ),
            (
                Event::Opened,
                peer(2, [u64::MAX, 0x0a00_0202]),
                "connection opened: iperf3, 10.0.2.2",
            ),
            (
                Event::Closed,
                peer(1, [0xfe80 << 48, 0x12_3456]),
                "connection closed: http, ...:12:3456",
            ),
            (Event::MacRestarted, (0, 0), "mac restarted: in vain"),
            (Event::SwitchRepaired, (0, 0), "switch repaired: "),
            (Event::PhyFailed, (4, 0), "phy failed: port 4"),
            (
                Event::Command,
                (0, u32::from_be_bytes(*b"stat")),
                "command: stat",
            ),
            (
                Event::Command,
                (0, u32::from_be_bytes(*b"ip\0\0")),
                "command: ip",
            ),
            (Event::FedLate, (0, 700), "watchdog fed late: 700 ms"),
            (Event::Unexpected, (0, 3), "unexpected interrupts: 3"),
            (Event::TestBegun, (3, 2), "self-test: mdio, run 2"),
            (Event::TestFailed, (99, 2), "self-test failed: ?, run 2"),
        ] {
            let entry = Entry::from_cell(&pack(event, said.0, said.1, 5)).unwrap();
            assert_eq!(entry.at_us, 5);
            assert_eq!(format!("{}: {entry}", entry.name()), expected);
        }
    }
}
