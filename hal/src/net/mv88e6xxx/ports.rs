//! Ports and sets of ports.

use super::PORTS;

/// A port of the switch, 0 to 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortIndex(u8);

impl PortIndex {
    /// The port of the product number, and on this board of the CPU.
    pub const ZERO: PortIndex = PortIndex(0);

    /// `None` above 5.
    pub const fn new(port: u8) -> Option<PortIndex> {
        if (port as usize) < PORTS {
            Some(PortIndex(port))
        } else {
            None
        }
    }

    /// All ports, in order.
    pub fn all() -> impl Iterator<Item = PortIndex> {
        (0..PORTS as u8).map(PortIndex)
    }

    /// 0 to 5.
    pub const fn get(self) -> u8 {
        self.0
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A set of ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortSet(u16);

impl PortSet {
    /// No port.
    pub const EMPTY: PortSet = PortSet(0);
    /// Every port.
    pub const ALL: PortSet = PortSet((1 << PORTS) - 1);

    /// From one bit per port; bits of ports that do not exist are dropped.
    pub const fn from_bits(bits: u16) -> PortSet {
        PortSet(bits & PortSet::ALL.0)
    }

    /// One bit per port.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The set of one port.
    pub const fn of(port: PortIndex) -> PortSet {
        PortSet(1 << port.0)
    }

    /// With a port.
    pub const fn with(self, port: PortIndex) -> PortSet {
        PortSet(self.0 | 1 << port.0)
    }

    /// Without it.
    pub const fn without(self, port: PortIndex) -> PortSet {
        PortSet(self.0 & !(1 << port.0))
    }

    /// Whether it has a port.
    pub const fn has(self, port: PortIndex) -> bool {
        self.0 & 1 << port.0 != 0
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its ports, in order.
    pub fn iter(self) -> impl Iterator<Item = PortIndex> {
        PortIndex::all().filter(move |port| self.has(*port))
    }
}
