//! `reg` and `ranges`: from the numbers on a bus to addresses that the CPU can use.

use core::fmt;

use super::{Error, Node, be32};

/// Entries of one `reg` that [`Node::regs`] looks at: real nodes have a few, a crafted one could keep a boot busy.
pub const MAX_REGIONS: usize = 256;

/// Consecutive addresses. The last one, `address + size - 1`, always fits 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The first address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} bytes at {:#x}", self.size, self.address)
    }
}

/// Takes big-endian numbers of so many cells off the front of a property.
struct Cells<'t>(&'t [u8]);

impl Cells<'_> {
    fn word(&mut self) -> Option<u32> {
        let word = be32(self.0, 0)?;
        self.0 = self.0.get(4..)?;
        Some(word)
    }

    /// A number of up to two cells; wider ones only if they are small.
    fn number(&mut self, cells: u8) -> Option<u64> {
        (0..cells).try_fold(0u64, |number, _| {
            let shifted = number.checked_mul(1 << 32)?;
            Some(shifted | u64::from(self.word()?))
        })
    }

    /// An address. With three cells, the first one tells which of the bus's address spaces it is in.
    fn address(&mut self, cells: u8) -> Option<BusAddress> {
        if cells == 3 {
            Some(BusAddress {
                space: self.word()?,
                offset: self.number(2)?,
            })
        } else {
            Some(BusAddress {
                space: 0,
                offset: self.number(cells)?,
            })
        }
    }
}

#[derive(Clone, Copy)]
struct BusAddress {
    space: u32,
    offset: u64,
}

impl BusAddress {
    /// Whether both are in one address space of `bus`.
    ///
    /// Spec: PCI Bus Binding to IEEE 1275, 2.2.1.1: bits 25:24 of the first cell are 0 for configuration space
    /// (which has no address that the CPU could use), 1 for I/O, 2 and 3 for memory.
    fn shares_space(self, other: Self, bus: Node<'_>) -> bool {
        let kind = |space: u32| match space >> 24 & 3 {
            3 => 2,
            kind => kind,
        };
        match bus.str("device_type") {
            Ok("pci" | "pciex") if bus.record.address_cells() == 3 => {
                kind(self.space) != 0 && kind(self.space) == kind(other.space)
            }
            _ => self.space == other.space,
        }
    }
}

impl<'t> Node<'t> {
    /// `#address-cells` and `#size-cells` for the children of this node.
    fn child_cells(&self) -> Result<(u8, u8), Error> {
        let (address, size) = (self.record.address_cells(), self.record.size_cells());
        let bad = |name, cells| Error::Cells {
            place: self.place(name),
            cells: u32::from(cells),
        };
        match (address, size) {
            (1..=3, 0..=2) => Ok((address, size)),
            (1..=3, _) => Err(bad("#size-cells", size)),
            _ => Err(bad("#address-cells", address)),
        }
    }

    /// The bus this node is on, its cells, and the property `reg`.
    fn reg_on(&self) -> Result<(Node<'t>, u8, u8, &'t [u8]), Error> {
        let bus = self.parent().unwrap_or(*self);
        let (address_cells, size_cells) = bus.child_cells()?;
        let reg = self.required("reg")?;
        let entry = 4 * usize::from(address_cells + size_cells);
        if !reg.len().is_multiple_of(entry) {
            return Err(Error::Multiple {
                place: self.place("reg"),
                len: reg.len(),
                of: entry,
            });
        }
        Ok((bus, address_cells, size_cells, reg))
    }

    fn reg_entry(&self, index: usize) -> Result<(Node<'t>, BusAddress, u64), Error> {
        let (bus, address_cells, size_cells, reg) = self.reg_on()?;
        let entry = 4 * usize::from(address_cells + size_cells);
        let mut cells = index
            .checked_mul(entry)
            .and_then(|start| reg.get(start..))
            .filter(|rest| !rest.is_empty())
            .map(Cells)
            .ok_or_else(|| Error::NoEntry {
                place: self.place("reg"),
                index,
            })?;
        let address = cells
            .address(address_cells)
            .ok_or_else(|| Error::TooWide(self.place("reg")))?;
        let size = cells
            .number(size_cells)
            .ok_or_else(|| Error::TooWide(self.place("reg")))?;
        Ok((bus, address, size))
    }

    /// Entry `index` of `reg` as the bus counts, not as the CPU does: the affinity of a CPU, the number of a PHY.
    ///
    /// Of a three-cell address, this is the lower 64 bits.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Multiple`], [`Error::NoEntry`], [`Error::Cells`], [`Error::TooWide`].
    pub fn bus_reg(&self, index: usize) -> Result<u64, Error> {
        self.reg_entry(index)
            .map(|(_bus, address, _size)| address.offset)
    }

    /// Entry `index` of `reg` in CPU physical addresses, translated through the `ranges` of every bus on the way.
    ///
    /// # Errors
    ///
    /// Those of [`bus_reg`](Self::bus_reg), and [`Error::NotTranslatable`], [`Error::OutsideRanges`],
    /// [`Error::Overflow`].
    pub fn reg(&self, index: usize) -> Result<Region, Error> {
        let (mut bus, mut address, size) = self.reg_entry(index)?;
        while let Some(parent) = bus.parent() {
            address = bus.translate(parent, address, size)?;
            bus = parent;
        }
        let address = address.offset;
        match address.checked_add(size.saturating_sub(1)) {
            Some(_last) => Ok(Region { address, size }),
            None => Err(Error::Overflow(self.place("reg"))),
        }
    }

    /// The entry of `reg` that `reg-names` calls `name`.
    ///
    /// # Errors
    ///
    /// Those of [`reg`](Self::reg), and [`Error::NoName`].
    pub fn reg_named(&self, name: &str) -> Result<Region, Error> {
        self.reg(self.position("reg-names", name)?)
    }

    /// The first [`MAX_REGIONS`] entries of `reg`, as [`reg`](Self::reg) gives them; one error if there is no sound `reg`.
    pub fn regs(&self) -> impl Iterator<Item = Result<Region, Error>> + use<'t> {
        let node = *self;
        let (count, error) = match node.reg_on() {
            Ok((_bus, address_cells, size_cells, reg)) => (
                reg.len() / (4 * usize::from(address_cells + size_cells)),
                None,
            ),
            Err(error) => (0, Some(Err(error))),
        };
        error
            .into_iter()
            .chain((0..count.min(MAX_REGIONS)).map(move |index| node.reg(index)))
    }

    /// Translates from this bus to `parent`'s.
    fn translate(
        &self,
        parent: Node<'t>,
        child: BusAddress,
        size: u64,
    ) -> Result<BusAddress, Error> {
        let place = || self.place("ranges");
        let ranges = self
            .property("ranges")
            .ok_or_else(|| Error::NotTranslatable(place()))?;
        if ranges.is_empty() {
            return Ok(child);
        }
        let (address_cells, size_cells) = self.child_cells()?;
        let (parent_cells, _) = parent.child_cells()?;
        let entry = 4 * usize::from(address_cells + parent_cells + size_cells);
        if !ranges.len().is_multiple_of(entry) {
            return Err(Error::Multiple {
                place: place(),
                len: ranges.len(),
                of: entry,
            });
        }
        for range in ranges.chunks_exact(entry) {
            let mut cells = Cells(range);
            let (Some(base), Some(target), Some(len)) = (
                cells.address(address_cells),
                cells.address(parent_cells),
                cells.number(size_cells),
            ) else {
                return Err(Error::TooWide(place()));
            };
            // An entry without a size cell says nothing about how far it reaches: everything fits.
            let len = if size_cells == 0 { u64::MAX } else { len };
            let covered = child.offset.checked_sub(base.offset).filter(|offset| {
                len.checked_sub(*offset)
                    .is_some_and(|room| room >= size.max(1))
                    && child.shares_space(base, *self)
            });
            if let Some(offset) = covered {
                let offset = target
                    .offset
                    .checked_add(offset)
                    .ok_or_else(|| Error::Overflow(place()))?;
                return Ok(BusAddress {
                    space: target.space,
                    offset,
                });
            }
        }
        Err(Error::OutsideRanges {
            place: place(),
            address: child.offset,
            size,
        })
    }
}
