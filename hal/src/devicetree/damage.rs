//! What can be wrong with the structure block of a tree.

use core::fmt;

use super::{MAX_DEPTH, MAX_NODES};

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
    /// A node's name has no end within 255 bytes.
    NameEnd,
    /// A node's name is empty or has a character that no name may have.
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
            DamageKind::Name => f.write_str("a node's name is empty or has a forbidden character"),
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
