//! Takes devicetree blobs apart, changes them, and puts them together. Spec: Devicetree Specification 0.4, chapter 5.
//!
//! Shares nothing with the image's own reader, on purpose.

use std::collections::BTreeMap;

use crate::check::{Result, ensure, fail};

const MAGIC: u32 = 0xd00d_feed;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// A devicetree.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// The root; its name is empty.
    pub root: Node,
    reservations: Vec<(u64, u64)>,
}

/// A node with everything below it.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Name and unit address.
    pub name: String,
    /// Properties in their order.
    pub properties: Vec<(String, Vec<u8>)>,
    /// Children in their order.
    pub children: Vec<Node>,
}

impl Node {
    /// An empty node.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// The value of a property.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.properties
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_slice())
    }

    /// Sets a property, new or not.
    pub fn set(&mut self, name: &str, value: &[u8]) -> &mut Self {
        match self.properties.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value.to_vec(),
            None => self.properties.push((name.into(), value.to_vec())),
        }
        self
    }

    /// Sets a property of 32-bit cells.
    pub fn set_cells(&mut self, name: &str, cells: &[u32]) -> &mut Self {
        let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.set(name, &bytes)
    }

    /// Removes a property; whether it was there.
    pub fn unset(&mut self, name: &str) -> bool {
        let before = self.properties.len();
        self.properties.retain(|(key, _)| key != name);
        self.properties.len() < before
    }

    /// Calls `change` for this node and all below.
    pub fn each(&mut self, change: &mut impl FnMut(&mut Node)) {
        change(self);
        for child in &mut self.children {
            child.each(change);
        }
    }
}

impl Tree {
    /// Reads a sound blob.
    pub fn parse(blob: &[u8]) -> Result<Self> {
        let word = |at: usize| -> Result<u32> {
            match blob.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
                Some(bytes) => Ok(u32::from_be_bytes(*bytes)),
                None => fail!("the devicetree ends at {at:#x}"),
            }
        };
        ensure!(word(0)? == MAGIC, "not a devicetree");
        let (structure, strings, reserved) =
            (word(8)? as usize, word(12)? as usize, word(16)? as usize);
        let mut tree = Self::default();
        let mut at = reserved;
        loop {
            let double = |at| {
                Ok::<u64, crate::check::Failure>(
                    u64::from(word(at)?) << 32 | u64::from(word(at + 4)?),
                )
            };
            let entry = (double(at)?, double(at + 8)?);
            if entry == (0, 0) {
                break;
            }
            tree.reservations.push(entry);
            at += 16;
        }
        let text = |at: usize| -> String {
            let rest = blob.get(at..).unwrap_or_default();
            let end = rest
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(rest.len());
            String::from_utf8_lossy(&rest[..end]).into_owned()
        };
        let mut open: Vec<Node> = Vec::new();
        let mut at = structure;
        loop {
            let token = word(at)?;
            at += 4;
            match token {
                BEGIN_NODE => {
                    let name = text(at);
                    at = (at + name.len() + 1).next_multiple_of(4);
                    open.push(Node::new(&name));
                }
                PROP => {
                    let (len, name) = (word(at)? as usize, word(at + 4)? as usize);
                    let Some(value) = blob.get(at + 8..at + 8 + len) else {
                        fail!("a property ends beyond the devicetree");
                    };
                    if let Some(node) = open.last_mut() {
                        node.set(&text(strings + name), value);
                    }
                    at = (at + 8 + len).next_multiple_of(4);
                }
                END_NODE => {
                    let Some(node) = open.pop() else {
                        fail!("a node ends that never began")
                    };
                    match open.last_mut() {
                        Some(parent) => parent.children.push(node),
                        None => tree.root = node,
                    }
                }
                NOP => {}
                END => return Ok(tree),
                other => fail!("token {other:#x} in the devicetree"),
            }
        }
    }

    /// A node by its path. A name without its unit address will do.
    pub fn node(&mut self, path: &str) -> Result<&mut Node> {
        let mut node = &mut self.root;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let is_it =
                |child: &Node| child.name == part || child.name.split('@').next() == Some(part);
            node = match node.children.iter_mut().find(|child| is_it(child)) {
                Some(child) => child,
                None => fail!("the devicetree has no {path}"),
            };
        }
        Ok(node)
    }

    /// Takes a node out of its parent.
    pub fn remove(&mut self, path: &str) -> Result<Node> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.node(parent)?;
        let is_it = |child: &Node| child.name == name || child.name.split('@').next() == Some(name);
        match parent.children.iter().position(is_it) {
            Some(index) => Ok(parent.children.remove(index)),
            None => fail!("the devicetree has no {path}"),
        }
    }

    /// Writes the blob.
    pub fn to_blob(&self) -> Vec<u8> {
        let (mut structure, mut strings) = (Vec::new(), Strings::default());
        write(&self.root, &mut structure, &mut strings);
        structure.extend(END.to_be_bytes());
        let mut reservations = Vec::new();
        for (address, size) in self.reservations.iter().chain([&(0, 0)]) {
            reservations.extend(address.to_be_bytes());
            reservations.extend(size.to_be_bytes());
        }
        let at_structure = 40 + reservations.len();
        let at_strings = at_structure + structure.len();
        let total = at_strings + strings.bytes.len();
        let mut blob = Vec::new();
        for word in [
            MAGIC as usize,
            total,
            at_structure,
            at_strings,
            40,
            17,
            16,
            0,
            strings.bytes.len(),
            structure.len(),
        ] {
            blob.extend((word as u32).to_be_bytes());
        }
        blob.extend(reservations);
        blob.extend(structure);
        blob.extend(strings.bytes);
        blob
    }
}

#[derive(Default)]
struct Strings {
    bytes: Vec<u8>,
    known: BTreeMap<String, u32>,
}

impl Strings {
    fn offset(&mut self, text: &str) -> u32 {
        let next = self.bytes.len() as u32;
        *self.known.entry(text.into()).or_insert_with(|| {
            self.bytes.extend(text.as_bytes());
            self.bytes.push(0);
            next
        })
    }
}

fn write(node: &Node, out: &mut Vec<u8>, strings: &mut Strings) {
    let pad = |out: &mut Vec<u8>| out.resize(out.len().next_multiple_of(4), 0);
    out.extend(BEGIN_NODE.to_be_bytes());
    out.extend(node.name.as_bytes());
    out.push(0);
    pad(out);
    for (name, value) in &node.properties {
        out.extend(PROP.to_be_bytes());
        out.extend((value.len() as u32).to_be_bytes());
        out.extend(strings.offset(name).to_be_bytes());
        out.extend(value);
        pad(out);
    }
    for child in &node.children {
        write(child, out, strings);
    }
    out.extend(END_NODE.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_reads_back_the_same() {
        let mut tree = Tree::default();
        tree.root.set_cells("#address-cells", &[2]);
        let mut child = Node::new("cpu@0");
        child.set("name", b"odd").set("empty", b"");
        tree.root.children.push(child);
        let blob = tree.to_blob();
        let mut read = Tree::parse(&blob).unwrap();
        assert_eq!(read.to_blob(), blob);
        assert_eq!(read.node("/cpu").unwrap().get("name"), Some(&b"odd"[..]));
        assert_eq!(read.remove("/cpu@0").unwrap().name, "cpu@0");
        assert!(read.node("/cpu").is_err());
    }
}
