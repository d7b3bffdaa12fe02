//! What can be wrong with a tree or with one property of it, told so that a person at the console can act.

use core::fmt;

use super::{MAX_BLOB_BYTES, Node};

/// Why a lookup failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Fewer bytes than a header has.
    TooShort {
        /// Bytes given.
        len: usize,
    },
    /// The first word is not 0xd00dfeed.
    Magic(u32),
    /// A version before 17 (no size of the structure block), or one that 17 cannot read.
    Version {
        /// The blob's version.
        version: u32,
        /// The oldest version it says it is compatible with.
        compatible: u32,
    },
    /// The total size is smaller than the header or beyond the limit.
    TotalSize(u32),
    /// The blob is longer than the bytes given.
    Truncated {
        /// Bytes given.
        len: usize,
        /// Bytes the header promises.
        total: usize,
    },
    /// A block lies outside the blob or inside the header.
    Block {
        /// Which block.
        name: &'static str,
        /// Where it begins, in bytes.
        at: usize,
        /// Its length in bytes.
        len: usize,
        /// The length of the blob in bytes.
        total: usize,
    },
    /// The structure block does not begin with a node.
    NoRoot,
    /// There is no node of this path.
    NoNode(&'static str),
    /// The node has no such property.
    Missing(Place),
    /// The value has a length that its type cannot have.
    Length {
        /// Where.
        place: Place,
        /// Bytes it has.
        len: usize,
        /// Bytes it should have.
        expected: usize,
    },
    /// The value is not a whole number of entries.
    Multiple {
        /// Where.
        place: Place,
        /// Bytes it has.
        len: usize,
        /// Bytes of one entry.
        of: usize,
    },
    /// The value ends inside its last entry.
    Partial(Place),
    /// The value is not a NUL-terminated string in UTF-8.
    Text(Place),
    /// There are not so many entries.
    NoEntry {
        /// Where.
        place: Place,
        /// The entry asked for.
        index: usize,
    },
    /// The list of names has no such name.
    NoName(Place),
    /// A number of cells that its use does not allow.
    Cells {
        /// Where.
        place: Place,
        /// The number, 255 for anything above or unreadable.
        cells: u32,
    },
    /// A number that does not fit 64 bits.
    TooWide(Place),
    /// A region that runs past the last address, here or translated.
    Overflow(Place),
    /// The bus has no `ranges`: its children have no address that the CPU could use.
    NotTranslatable(Place),
    /// No entry of `ranges` covers the whole region.
    OutsideRanges {
        /// Where.
        place: Place,
        /// The address on that bus.
        address: u64,
        /// Bytes.
        size: u64,
    },
    /// A reference to a phandle that no node has.
    Phandle {
        /// Where.
        place: Place,
        /// The phandle.
        phandle: u32,
    },
    /// A path or alias that leads to no node.
    Unresolved(Place),
    /// Nothing up to the root names an interrupt controller, or they name each other in a circle.
    NoInterruptParent(Place),
    /// The interrupt goes through an `interrupt-map`, which is not supported.
    InterruptMap(Place),
    /// The interrupt's cells do not have the form that the GIC's binding gives.
    GicForm {
        /// The controller.
        place: Place,
        /// The first three cells.
        cells: [u32; 3],
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooShort { len } => write!(f, "devicetree: {len} bytes are too few for a header"),
            Self::Magic(magic) => write!(f, "devicetree: magic is {magic:#010x}, not 0xd00dfeed"),
            Self::Version {
                version,
                compatible,
            } => {
                write!(
                    f,
                    "devicetree: version {version} (compatible with {compatible}) cannot be read, 17 can"
                )
            }
            Self::TotalSize(size) => {
                write!(
                    f,
                    "devicetree: a total size of {size} bytes is not between 40 and {MAX_BLOB_BYTES}"
                )
            }
            Self::Truncated { len, total } => {
                write!(f, "devicetree: {len} of {total} bytes are there")
            }
            Self::Block {
                name,
                at,
                len,
                total,
            } => {
                write!(
                    f,
                    "devicetree: {name} block of {len} bytes at {at:#x} does not fit in {total} bytes"
                )
            }
            Self::NoRoot => f.write_str("devicetree: no root node"),
            Self::NoNode(path) => write!(f, "devicetree: no {path}"),
            Self::Missing(place) => write!(f, "{}: no `{}`", place.node, place.property),
            Self::Length {
                place,
                len,
                expected,
            } => write!(f, "{place} is {len} bytes, not {expected}"),
            Self::Multiple { place, len, of } => {
                write!(f, "{place} is {len} bytes, not a multiple of {of}")
            }
            Self::Partial(place) => write!(f, "{place} ends inside an entry"),
            Self::Text(place) => write!(f, "{place} is not a terminated string"),
            Self::NoEntry { place, index } => write!(f, "{place} has no entry {index}"),
            Self::NoName(place) => write!(f, "{place} does not have the name asked for"),
            Self::Cells { place, cells } => {
                write!(f, "{place} is {cells}, which cannot be used here")
            }
            Self::TooWide(place) => write!(f, "{place} has a number of more than 64 bits"),
            Self::Overflow(place) => write!(f, "{place} runs past the end of the address space"),
            Self::NotTranslatable(place) => {
                write!(
                    f,
                    "{}: no `{}`, its children have no CPU address",
                    place.node, place.property
                )
            }
            Self::OutsideRanges {
                place,
                address,
                size,
            } => {
                write!(f, "{place} does not cover {size:#x} bytes at {address:#x}")
            }
            Self::Phandle { place, phandle } => {
                write!(f, "{place} names phandle {phandle:#x}, which no node has")
            }
            Self::Unresolved(place) => write!(f, "{place} names no node"),
            Self::NoInterruptParent(place) => write!(f, "{place} leads to no interrupt controller"),
            Self::InterruptMap(place) => write!(
                f,
                "{}: interrupts behind an `{}` are not supported",
                place.node, place.property
            ),
            Self::GicForm {
                place,
                cells: [a, b, c],
            } => {
                write!(
                    f,
                    "{}: <{a:#x} {b:#x} {c:#x}> is not an interrupt of a GIC",
                    place.node
                )
            }
        }
    }
}

impl core::error::Error for Error {}

/// A property of a node, copied so that it outlives the tree. Long paths keep their end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place {
    node: Text<56>,
    property: Text<31>,
}

impl Place {
    pub(super) fn new(node: Node<'_>, property: &str) -> Self {
        let mut path = Text::EMPTY;
        if node.parent().is_none() {
            path.prepend(b"/");
        }
        for node in node.lineage().take_while(|node| node.parent().is_some()) {
            path.prepend(node.name().as_bytes());
            path.prepend(b"/");
        }
        let mut name = Text::EMPTY;
        name.prepend(property.as_bytes());
        Self {
            node: path,
            property: name,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}`", self.node, self.property)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The last `N` bytes of a text that is put together from its end.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Text<const N: usize> {
    bytes: [u8; N],
    /// Bytes in use, at the end of `bytes`.
    len: u8,
    cut: bool,
}

impl<const N: usize> Text<N> {
    const EMPTY: Self = Self {
        bytes: [0; N],
        len: 0,
        cut: false,
    };

    fn prepend(&mut self, text: &[u8]) {
        for &byte in text.iter().rev() {
            match self.bytes.iter_mut().nth_back(usize::from(self.len)) {
                Some(slot) => *slot = byte,
                None => {
                    self.cut = true;
                    return;
                }
            }
            self.len += 1;
        }
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cut {
            f.write_str("...")?;
        }
        write!(
            f,
            "{}",
            self.bytes
                .get(N - usize::from(self.len)..)
                .unwrap_or_default()
                .escape_ascii()
        )
    }
}
