//! The one pass over the structure block that builds the index.

use core::fmt;

use heapless::Vec;

use super::{MAX_DEPTH, MAX_NODES, Tree, be32};

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// No such record: the parent of the root, the sibling after the last one.
pub(super) const NO_RECORD: u16 = u16::MAX;
/// A `#address-cells` or `#size-cells` that is not one word, or has a value that nothing here could use.
pub(super) const BAD_CELLS: u8 = u8::MAX;

/// What the index keeps of a node. Its first child, if it has one, is the next record.
pub(super) struct Record {
    /// Where the name is in the structure block, and how long.
    pub name_at: u32,
    pub name_len: u16,
    pub parent: u16,
    pub next_sibling: u16,
    /// For the children of this node; the specification's defaults where the node says nothing.
    pub address_cells: u8,
    pub size_cells: u8,
    /// Where the first property is in the structure block.
    pub properties_at: u32,
    /// 0 if the node has none.
    pub phandle: u32,
}

impl Record {
    pub(super) const EMPTY: Self = Self {
        name_at: 0,
        name_len: 0,
        parent: NO_RECORD,
        next_sibling: NO_RECORD,
        address_cells: 2,
        size_cells: 1,
        properties_at: u32::MAX,
        phandle: 0,
    };

    /// Remembers what lookups need of other nodes' properties.
    fn note(&mut self, name: &[u8], value: &[u8]) {
        let word = || be32(value, 0).filter(|_| value.len() == 4);
        let cells = || {
            word()
                .and_then(|cells| u8::try_from(cells).ok())
                .unwrap_or(BAD_CELLS)
        };
        match name.first() {
            Some(b'#') if name.starts_with(b"#address-cells\0") => self.address_cells = cells(),
            Some(b'#') if name.starts_with(b"#size-cells\0") => self.size_cells = cells(),
            Some(b'p') if name.starts_with(b"phandle\0") => self.phandle = word().unwrap_or(0),
            Some(b'l') if name.starts_with(b"linux,phandle\0") && self.phandle == 0 => {
                self.phandle = word().unwrap_or(0);
            }
            _ => {}
        }
    }
}

/// The first thing that was wrong with the structure block. The nodes before it are as they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where, in bytes from the start of the blob.
    pub offset: usize,
    /// What.
    pub kind: DamageKind,
}

/// What can be wrong with a structure block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// A word that is no token.
    Token(u32),
    /// The block ended before its END token.
    NoEnd,
    /// An END token, while nodes were still open.
    EarlyEnd,
    /// A node ended that never began, or something followed the root node.
    ExtraEndNode,
    /// A node's name has no end.
    NameEnd,
    /// A node's name is empty, longer than 64 KiB, or has a character that no name may have.
    Name,
    /// A property outside any node.
    StrayProperty,
    /// A property's value would end behind the block.
    PropertyLength(u32),
    /// A property's name would lie outside the strings block.
    PropertyName(u32),
    /// A property after a child node. It cannot be read.
    PropertyOrder,
    /// More than [`MAX_DEPTH`] levels. What is deeper is left out.
    Depth,
    /// More than [`MAX_NODES`] nodes. The others are left out.
    Nodes,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "devicetree damaged at byte {:#x}: ", self.offset)?;
        match self.kind {
            DamageKind::Token(word) => write!(f, "{word:#010x} is no token"),
            DamageKind::NoEnd => f.write_str("the structure block ends without an END token"),
            DamageKind::EarlyEnd => f.write_str("END token inside a node"),
            DamageKind::ExtraEndNode => f.write_str("a node ends that never began"),
            DamageKind::NameEnd => f.write_str("a node's name has no end"),
            DamageKind::Name => {
                f.write_str("a node's name is empty, too long or has a forbidden character")
            }
            DamageKind::StrayProperty => f.write_str("a property outside any node"),
            DamageKind::PropertyLength(len) => {
                write!(f, "a property of {len} bytes runs past the structure block")
            }
            DamageKind::PropertyName(at) => {
                write!(
                    f,
                    "a property's name at {at:#x} is outside the strings block"
                )
            }
            DamageKind::PropertyOrder => f.write_str("a property after a child node"),
            DamageKind::Depth => write!(f, "more than {MAX_DEPTH} levels of nodes"),
            DamageKind::Nodes => write!(f, "more than {MAX_NODES} nodes"),
        }
    }
}

/// A property as it stands in the structure block.
pub(super) struct RawProperty<'t> {
    pub name_at: u32,
    pub value: &'t [u8],
    /// Where the next token is.
    pub end: usize,
}

impl<'t> RawProperty<'t> {
    /// Reads the property whose PROP token is at `at`; the error is the length that does not fit.
    fn read(structs: &'t [u8], at: usize) -> Result<Self, u32> {
        let len = be32(structs, at + 4).unwrap_or(u32::MAX);
        let name_at = be32(structs, at + 8).ok_or(len)?;
        let value_at = at + 12;
        let end = value_at.checked_add(len as usize).ok_or(len)?;
        let value = structs.get(value_at..end).ok_or(len)?;
        Ok(Self {
            name_at,
            value,
            end: end.next_multiple_of(4),
        })
    }

    /// The property at `at`, behind any NOPs; `None` at the end of a node's properties.
    pub(super) fn next(structs: &'t [u8], mut at: usize) -> Option<Self> {
        loop {
            match be32(structs, at)? {
                NOP => at += 4,
                PROP => return Self::read(structs, at).ok(),
                _ => return None,
            }
        }
    }
}

/// A node that has begun and not ended yet.
#[derive(Clone, Copy)]
struct Open {
    index: u16,
    last_child: u16,
    has_child: bool,
}

impl Tree<'_> {
    /// Fills the index. `structs_at` is where the structure block begins in the blob, for reports.
    pub(super) fn walk(&mut self, structs_at: usize) {
        let structs = self.structs;
        let mut open: Vec<Open, MAX_DEPTH> = Vec::new();
        // Open nodes that got no record; they are always the innermost ones.
        let mut unrecorded = 0u32;
        let mut at = 0;
        loop {
            let mut fault = |kind| {
                self.damage.get_or_insert(Damage {
                    offset: structs_at + at,
                    kind,
                });
            };
            let Some(token) = be32(structs, at) else {
                fault(DamageKind::NoEnd);
                return;
            };
            match token {
                NOP => at += 4,
                BEGIN_NODE => {
                    let name_at = at + 4;
                    let Some(name) = until_nul(structs, name_at) else {
                        fault(DamageKind::NameEnd);
                        return;
                    };
                    let name_len = match name_len(name) {
                        Some(len) if len > 0 || open.is_empty() => len,
                        other => {
                            fault(DamageKind::Name);
                            other.unwrap_or(0)
                        }
                    };
                    let properties_at = (name_at + name.len() + 1).next_multiple_of(4);
                    let record = Record {
                        name_at: name_at as u32,
                        name_len,
                        properties_at: properties_at as u32,
                        ..Record::EMPTY
                    };
                    if unrecorded > 0 {
                        unrecorded += 1;
                    } else if let Err(kind) = self.push(record, &mut open) {
                        unrecorded = 1;
                        self.damage.get_or_insert(Damage {
                            offset: structs_at + at,
                            kind,
                        });
                    }
                    at = properties_at;
                }
                PROP => {
                    let property = match RawProperty::read(structs, at) {
                        Ok(property) => property,
                        Err(len) => {
                            fault(DamageKind::PropertyLength(len));
                            return;
                        }
                    };
                    match (open.last(), self.strings.get(property.name_at as usize..)) {
                        (None, _) => fault(DamageKind::StrayProperty),
                        (_, None | Some([])) => fault(DamageKind::PropertyName(property.name_at)),
                        (Some(node), Some(_)) if node.has_child && unrecorded == 0 => {
                            fault(DamageKind::PropertyOrder);
                        }
                        (Some(node), Some(name)) => {
                            if let Some(record) = self.records.get_mut(usize::from(node.index))
                                && unrecorded == 0
                            {
                                record.note(name, property.value);
                            }
                        }
                    }
                    at = property.end;
                }
                END_NODE => {
                    if unrecorded > 0 {
                        unrecorded -= 1;
                    } else if open.len() > 1 {
                        open.pop();
                    } else if open.is_empty() || !ends_at(structs, at + 4) {
                        // Leaving the root open keeps what follows in the tree.
                        fault(DamageKind::ExtraEndNode);
                    } else {
                        return;
                    }
                    at += 4;
                }
                END => {
                    fault(DamageKind::EarlyEnd);
                    return;
                }
                word => {
                    fault(DamageKind::Token(word));
                    return;
                }
            }
        }
    }

    /// Adds a node below the innermost open one.
    fn push(
        &mut self,
        mut record: Record,
        open: &mut Vec<Open, MAX_DEPTH>,
    ) -> Result<(), DamageKind> {
        let index = self.records.len() as u16;
        if open.is_full() {
            return Err(DamageKind::Depth);
        }
        record.parent = open.last().map_or(NO_RECORD, |parent| parent.index);
        if let Some(parent) = open.last_mut() {
            parent.has_child = true;
        }
        self.records.push(record).map_err(|_| DamageKind::Nodes)?;
        if let Some(parent) = open.last_mut() {
            if let Some(previous) = self.records.get_mut(usize::from(parent.last_child)) {
                previous.next_sibling = index;
            }
            parent.last_child = index;
        }
        // There is room: checked above.
        let _ = open.push(Open {
            index,
            last_child: NO_RECORD,
            has_child: false,
        });
        Ok(())
    }
}

/// Whether nothing but NOPs stands between `at` and the END token.
fn ends_at(structs: &[u8], mut at: usize) -> bool {
    while be32(structs, at) == Some(NOP) {
        at += 4;
    }
    be32(structs, at) == Some(END)
}

fn until_nul(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let bytes = bytes.get(at..)?;
    bytes.get(..bytes.iter().position(|&byte| byte == 0)?)
}

/// The length of a node's name; `None` if it is too long or has a character that would make its path ambiguous.
fn name_len(name: &[u8]) -> Option<u16> {
    let sound = name
        .iter()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':'));
    u16::try_from(name.len()).ok().filter(|_| sound)
}
