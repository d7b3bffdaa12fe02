//! Reads the flattened devicetree: the one description of the machine that the firmware trusts.
//!
//! Owns the way from any bytes at all to nodes, addresses, interrupts and memory. Leaves every decision about
//! them (which console, which driver) to its callers. Nothing here panics, allocates, recurses or loops without
//! a bound that the blob's length gives; a lookup that fails says which property of which node is at fault.
//!
//! ```text
//!   blob  | header | reservations | structure: BEGIN name PROP PROP BEGIN ... END END | strings |
//!                                                 ^                ^
//!   Tree  [ record 0: root, record 1: first child, record 2 ... ]  depth first, 24 bytes each
//!                        ^
//!   Node  ---------------+   a Copy handle; its properties are read from the blob when asked for
//! ```
//!
//! # What is used of the crate `fdt`, and what is not
//!
//! This module alone touches `fdt` (0.2.0-alpha3). In use: its header and block access
//! ([`fdt::Fdt::new_unaligned_fallible`]) and its value codecs ([`fdt::properties::values`]). The header is checked
//! here first, because `fdt` adds offsets and sizes unchecked and would also read the size of the structure
//! block from a version 16 header, which has none.
//!
//! Its node interface is not used, although it is fallible, because it cannot salvage a damaged tree:
//! - `parse_root` subtracts 4 from the block's length unchecked, and wants the END token in its very last word;
//! - `children()` parses every child's whole subtree, so that one bad byte below `/soc` hides all of `/soc`
//!   (and a walk costs nodes times depth);
//! - `all_nodes()` ends silently below 16 levels, loses count of levels after an error, and does not say where it was;
//! - `Node::id` subtracts addresses in an order that no specification promises;
//! - property lookup measures and UTF-8-checks every name that it passes, to the end of the strings block if there
//!   is no NUL, which makes a crafted tree quadratic;
//! - a `Node` has 64 bytes, so an index of 1024 of them would not fit the stack;
//! - its token parser cannot be built from outside (`StringsBlock` has a private field).
//!
//! So the walk over the tokens is ours. A test compares the result with `fdt`'s own walk of a sound tree.
//!
//! Spec: Devicetree Specification 0.4, chapters 2 (properties), 3 (nodes) and 5 (flattened format).

mod blocks;
mod damage;
mod error;
mod index;
mod interrupt;
mod memory;
mod node;
mod reg;
#[cfg(test)]
mod tests;

use core::ops::Range;

use blocks::Blocks;
pub use damage::{Damage, DamageKind};
pub use error::{Error, Place};
use index::{BAD_PHANDLE, NO_RECORD, Record};
pub use interrupt::{GicInterrupt, GicKind, Interrupt, Reference, Trigger};
pub use memory::Reserved;
pub use node::{Node, Path};
pub use reg::{MAX_REGIONS, Region};

/// Nodes that fit the index; a Linux tree for a large SoC has about 600, QEMU's `virt` about 60.
pub const MAX_NODES: usize = 1024;
/// Levels of nodes, the root included. Linux gives up at 64; real trees stay below 10.
pub const MAX_DEPTH: usize = 32;
/// The largest blob accepted: Linux's limit for arm64 (Documentation/arch/arm64/booting.rst).
pub const MAX_BLOB_BYTES: usize = 2 << 20;
/// Bytes of a version 17 header, what [`Tree::blob_len`] wants to see.
pub const HEADER_BYTES: usize = 40;

/// The first word of every blob.
const MAGIC: u32 = 0xd00d_feed;
/// The format version whose header this module knows. Later ones must say that they are compatible with it.
const VERSION: u32 = 17;

/// An index over a devicetree blob: built in one pass, then all lookups are short.
///
/// 24 KiB in size (the index is inside): keep it in a static or near the bottom of the stack. [`new`](Self::new) needs
/// the same again on the stack while it runs.
pub struct Tree<'b> {
    blocks: Blocks<'b>,
    /// From the start of the memory reservation block to the next block: it ends with a zero entry, or should.
    reservations: &'b [u8],
    records: heapless::Vec<Record, MAX_NODES>,
    damage: Option<Damage>,
}

/// The header's fields, after all of them were checked against each other.
struct Header {
    total: usize,
    structs_at: usize,
    reservations: Range<usize>,
}

impl Header {
    fn check(blob: &[u8]) -> Result<Self, Error> {
        let total = Tree::blob_len(blob)?;
        if blob.len() < total {
            return Err(Error::Truncated {
                len: blob.len(),
                total,
            });
        }
        let field = |index: usize| be32(blob, index * 4).unwrap_or(0) as usize;
        let block = |name, at: usize, len: usize| match at.checked_add(len) {
            Some(end) if at >= HEADER_BYTES && end <= total => Ok(at),
            _ => Err(Error::Block {
                name,
                at,
                len,
                total,
            }),
        };
        let strings_at = block("strings", field(3), field(8))?;
        let structs_at = block("structure", field(2), field(9))?;
        let start = block("reservation", field(4), 0)?;
        let end = [structs_at, strings_at, total]
            .into_iter()
            .filter(|&end| end >= start)
            .min();
        Ok(Self {
            total,
            structs_at,
            reservations: start..end.unwrap_or(total),
        })
    }
}

impl<'b> Tree<'b> {
    /// The length of the whole blob in bytes, from its first [`HEADER_BYTES`] bytes.
    ///
    /// For the caller that has nothing but an address: map one page, ask, map the rest.
    ///
    /// # Errors
    ///
    /// [`Error::TooShort`], [`Error::Magic`], [`Error::Version`], [`Error::TotalSize`].
    pub fn blob_len(header: &[u8]) -> Result<usize, Error> {
        if header.len() < HEADER_BYTES {
            return Err(Error::TooShort { len: header.len() });
        }
        let field = |index: usize| be32(header, index * 4).unwrap_or(0);
        let (magic, total, version, compatible) = (field(0), field(1), field(5), field(6));
        if magic != MAGIC {
            return Err(Error::Magic(magic));
        }
        if version < VERSION || compatible > VERSION {
            return Err(Error::Version {
                version,
                compatible,
            });
        }
        match usize::try_from(total) {
            Ok(len) if (HEADER_BYTES..=MAX_BLOB_BYTES).contains(&len) => Ok(len),
            _ => Err(Error::TotalSize(total)),
        }
    }

    /// Indexes `blob`. Bytes behind the header's total size are ignored.
    ///
    /// A damaged structure block is not an error as long as there is a root: whatever can be told apart is
    /// kept, and [`damage`](Self::damage) says what was not.
    ///
    /// # Errors
    ///
    /// Those of [`blob_len`](Self::blob_len), [`Error::Truncated`], [`Error::Block`], [`Error::NoRoot`].
    pub fn new(blob: &'b [u8]) -> Result<Self, Error> {
        let header = Header::check(blob)?;
        let blob = blob.get(..header.total).unwrap_or(blob);
        // Magic and sizes were checked above; all that it could still complain of is a blob that is too short.
        let fdt = fdt::Fdt::new_unaligned_fallible(blob).map_err(|_| Error::Truncated {
            len: blob.len(),
            total: header.total,
        })?;
        let mut tree = Self {
            blocks: Blocks {
                structs: fdt.structs_block(),
                strings: fdt.strings_block(),
            },
            reservations: blob.get(header.reservations).unwrap_or_default(),
            records: heapless::Vec::new(),
            damage: None,
        };
        tree.index(header.structs_at);
        if tree.records.is_empty() {
            Err(Error::NoRoot)
        } else {
            Ok(tree)
        }
    }

    /// The first damage found in the structure block, if any.
    pub fn damage(&self) -> Option<Damage> {
        self.damage
    }

    /// The root node.
    pub fn root(&self) -> Node<'_> {
        // `new` refuses a tree without a record, so this is always record 0.
        self.node(0).unwrap_or(Node {
            tree: self,
            record: &Record::EMPTY,
            index: NO_RECORD,
        })
    }

    /// All nodes, depth first, in the order of the blob.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        (0u16..).map_while(|index| self.node(index))
    }

    /// All enabled nodes that are compatible with `what`, in the order of the blob.
    pub fn compatible<'t>(&'t self, what: &'t str) -> impl Iterator<Item = Node<'t>> {
        self.nodes()
            .filter(move |node| node.is_enabled() && node.is_compatible(what))
    }

    /// The node at `path`: `/soc/uart@12000`, or an alias as in `serial0` or `ethernet0/mdio`.
    ///
    /// Each part may leave out the unit address if an exact match does not exist (`/soc/uart`). Of several children
    /// that match, the first one is taken. Options after a `:` are ignored.
    pub fn find(&self, path: &str) -> Option<Node<'_>> {
        let path = path.split_once(':').map_or(path, |(path, _options)| path);
        if path.starts_with('/') {
            return self.root().descend(path);
        }
        let (alias, rest) = path.split_once('/').unwrap_or((path, ""));
        self.aliases()?
            .str(alias)
            .ok()
            .and_then(|path| self.absolute(path))?
            .descend(rest)
    }

    /// An alias must be a full path; following it as an alias again could go in circles.
    fn absolute(&self, path: &str) -> Option<Node<'_>> {
        if path.starts_with('/') {
            self.find(path)
        } else {
            None
        }
    }

    /// The node whose phandle is `phandle`. 0 and 0xffffffff are nobody's. `linux,phandle`, which compilers before 2017
    /// wrote next to `phandle`, is not read.
    pub fn by_phandle(&self, phandle: u32) -> Option<Node<'_>> {
        if phandle == 0 || phandle == BAD_PHANDLE {
            return None;
        }
        let index = self
            .records
            .iter()
            .position(|record| record.phandle == phandle)?;
        self.node(u16::try_from(index).ok()?)
    }

    /// `/chosen`.
    pub fn chosen(&self) -> Option<Node<'_>> {
        self.root().child("chosen")
    }

    /// The console that the firmware before us chose, and the options behind the `:` (`115200n8`).
    ///
    /// # Errors
    ///
    /// [`Error::NoNode`] without `/chosen`, [`Error::Missing`] without `stdout-path` (or its predecessor
    /// `linux,stdout-path`), [`Error::Unresolved`] if it names no node, [`Error::Text`] if it is no string.
    pub fn stdout(&self) -> Result<(Node<'_>, Option<&str>), Error> {
        let chosen = self.chosen().ok_or(Error::NoNode("/chosen"))?;
        let property = if chosen.has("linux,stdout-path") && !chosen.has("stdout-path") {
            "linux,stdout-path"
        } else {
            "stdout-path"
        };
        let value = chosen.str(property)?;
        let (path, options) = match value.split_once(':') {
            Some((path, options)) => (path, Some(options)),
            None => (value, None),
        };
        let node = self
            .find(path)
            .ok_or_else(|| Error::Unresolved(chosen.place(property)))?;
        Ok((node, options))
    }

    /// The number of `node` among the aliases called `stem`: 0 if the tree has `ethernet0 = &node`.
    pub fn alias_of(&self, node: Node<'_>, stem: &str) -> Option<u32> {
        self.aliases()?.properties().find_map(|property| {
            let number = property.name()?.strip_prefix(stem)?;
            // `u32::from_str` also takes a sign.
            if !number.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let number = number.parse().ok()?;
            let path = node::first_string(property.value)?;
            (self.absolute(path)? == node).then_some(number)
        })
    }

    fn aliases(&self) -> Option<Node<'_>> {
        self.root().child("aliases")
    }

    fn node(&self, index: u16) -> Option<Node<'_>> {
        let record = self.records.get(usize::from(index))?;
        Some(Node {
            tree: self,
            record,
            index,
        })
    }
}

/// The big-endian word at `at`.
fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|word| u32::from_be_bytes(*word))
}
