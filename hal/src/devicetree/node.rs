//! One node: its place in the tree and the values of its properties.

use core::fmt;

use fdt::properties::values::PropertyValue;

use super::blocks::Part;
use super::index::Record;
use super::{Error, MAX_DEPTH, Place, Tree};

/// A node of a [`Tree`]: a handle, cheap to copy.
#[derive(Clone, Copy)]
pub struct Node<'t> {
    pub(super) tree: &'t Tree<'t>,
    pub(super) record: &'t Record,
    pub(super) index: u16,
}

/// One property; its name is read when somebody asks.
pub(super) struct Property<'t> {
    strings: &'t [u8],
    name_at: u32,
    pub value: &'t [u8],
}

impl<'t> Property<'t> {
    /// Compares without looking for the end of the name first.
    fn is(&self, name: &str) -> bool {
        let here = self
            .strings
            .get(self.name_at as usize..)
            .unwrap_or_default();
        here.get(name.len()) == Some(&0) && here.starts_with(name.as_bytes())
    }

    pub(super) fn name(&self) -> Option<&'t str> {
        first_string(self.strings.get(self.name_at as usize..)?)
    }
}

impl<'t> Node<'t> {
    /// The name with its unit address, as in `uart@12000`; empty for the root (and where the name is damaged).
    pub fn name(&self) -> &'t str {
        str::from_utf8(self.name_bytes()).unwrap_or_default()
    }

    fn name_bytes(&self) -> &'t [u8] {
        let start = self.record.name_at as usize;
        let end = start + usize::from(self.record.name_len);
        self.tree.blocks.structs.get(start..end).unwrap_or_default()
    }

    /// The full path, for printing.
    pub fn path(&self) -> Path<'t> {
        Path(*self)
    }

    /// The node around this one; `None` for the root.
    pub fn parent(&self) -> Option<Node<'t>> {
        self.tree.node(self.record.parent)
    }

    /// This node, its parent, and so on to the root.
    pub(super) fn lineage(&self) -> impl Iterator<Item = Node<'t>> + use<'t> {
        // A parent's index is smaller than its child's, so this ends.
        core::iter::successors(Some(*self), Node::parent)
    }

    /// The nodes directly below.
    pub fn children(&self) -> impl Iterator<Item = Node<'t>> + use<'t> {
        let tree = self.tree;
        let next = self.index.checked_add(1).and_then(|index| tree.node(index));
        let first = next.filter(|next| next.record.parent == self.index);
        core::iter::successors(first, move |node| tree.node(node.record.next_sibling))
    }

    /// The child of this name. Without an exact match, the first child whose name is `name` before its `@`.
    pub fn child(&self, name: &str) -> Option<Node<'t>> {
        let name = name.as_bytes();
        let mut base = None;
        for child in self.children() {
            match child.name_bytes().strip_prefix(name) {
                Some([]) => return Some(child),
                Some([b'@', ..]) => base = base.or(Some(child)),
                _ => {}
            }
        }
        base
    }

    /// Follows `path`, parts between slashes, from here down.
    pub(super) fn descend(self, path: &str) -> Option<Node<'t>> {
        path.split('/')
            .filter(|part| !part.is_empty())
            .try_fold(self, |node, part| node.child(part))
    }

    pub(super) fn properties(&self) -> impl Iterator<Item = Property<'t>> + use<'t> {
        let blocks = self.tree.blocks;
        let mut at = self.record.properties_at as usize;
        core::iter::from_fn(move || {
            loop {
                let step = blocks.step(at)?;
                at = step.end;
                match step.part {
                    Part::Property { name_at, value } => {
                        return Some(Property {
                            strings: blocks.strings,
                            name_at,
                            value,
                        });
                    }
                    // A damaged property does not hide those behind it.
                    Part::Lost => {}
                    Part::BeginNode { .. } | Part::EndNode | Part::End => return None,
                }
            }
        })
    }

    /// Name and bytes of each property, for whoever shows them. One whose name is damaged has none.
    pub fn each_property(&self) -> impl Iterator<Item = (&'t str, &'t [u8])> + use<'t> {
        self.properties()
            .map(|property| (property.name().unwrap_or_default(), property.value))
    }

    /// The bytes of a property.
    pub fn property(&self, name: &str) -> Option<&'t [u8]> {
        self.properties()
            .find(|property| property.is(name))
            .map(|property| property.value)
    }

    /// Whether the node has the property, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.property(name).is_some()
    }

    pub(super) fn place(&self, property: &str) -> Place {
        Place::new(*self, property)
    }

    /// Like [`property`](Self::property), but it has to be there.
    pub(super) fn required(&self, name: &str) -> Result<&'t [u8], Error> {
        self.property(name)
            .ok_or_else(|| Error::Missing(self.place(name)))
    }

    /// A property of one cell.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Length`].
    pub fn u32(&self, name: &str) -> Result<u32, Error> {
        let value = self.required(name)?;
        u32::parse(value).map_err(|_| Error::Length {
            place: self.place(name),
            len: value.len(),
            expected: 4,
        })
    }

    /// A property of two cells, or of one.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Length`].
    pub fn u64(&self, name: &str) -> Result<u64, Error> {
        let value = self.required(name)?;
        u64::parse(value).map_err(|_| Error::Length {
            place: self.place(name),
            len: value.len(),
            expected: 8,
        })
    }

    /// The first (or only) string of a property.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Text`].
    pub fn str(&self, name: &str) -> Result<&'t str, Error> {
        first_string(self.required(name)?).ok_or_else(|| Error::Text(self.place(name)))
    }

    /// All strings of a property; none if there is no such property. One that is not UTF-8 reads as empty, so that
    /// the others keep their positions.
    pub fn strings(&self, name: &str) -> impl Iterator<Item = &'t str> + use<'t> {
        let value = self.property(name).unwrap_or_default();
        let value = value.strip_suffix(&[0]).unwrap_or(value);
        let strings = (!value.is_empty()).then(|| value.split(|&byte| byte == 0));
        strings
            .into_iter()
            .flatten()
            .map(|string| str::from_utf8(string).unwrap_or_default())
    }

    /// The strings of `compatible`, the most specific one first.
    pub fn compatible(&self) -> impl Iterator<Item = &'t str> + use<'t> {
        self.strings("compatible")
    }

    /// Whether `what` is one of the strings of `compatible`.
    pub fn is_compatible(&self, what: &str) -> bool {
        let value = self.property("compatible").unwrap_or_default();
        let value = value.strip_suffix(&[0]).unwrap_or(value);
        !value.is_empty()
            && value
                .split(|&byte| byte == 0)
                .any(|string| string == what.as_bytes())
    }

    /// Whether neither this node nor one around it has a `status` other than `okay` (or `ok`).
    pub fn is_enabled(&self) -> bool {
        !self.record.is(Record::DISABLED)
    }

    /// Whether the device sees what the CPU has in its caches. The nearest bus that says so, or not, decides.
    pub fn dma_coherent(&self) -> bool {
        self.record.is(Record::COHERENT)
    }

    /// The first usable of `mac-address`, `local-mac-address` and `address`: neither zero nor multicast.
    pub fn mac_address(&self) -> Option<[u8; 6]> {
        ["mac-address", "local-mac-address", "address"]
            .into_iter()
            .find_map(|name| {
                let mac = <[u8; 6]>::try_from(self.property(name)?).ok()?;
                (mac != [0; 6] && mac[0] & 1 == 0).then_some(mac)
            })
    }

    /// Where `name` is in the list of names `names`.
    pub(super) fn position(&self, names: &str, name: &str) -> Result<usize, Error> {
        self.required(names)?;
        self.strings(names)
            .position(|string| string == name)
            .ok_or_else(|| Error::NoName(self.place(names)))
    }
}

impl PartialEq for Node<'_> {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self.record, other.record)
    }
}

impl Eq for Node<'_> {}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.path(), f)
    }
}

/// Prints the path of a node.
#[derive(Clone, Copy)]
pub struct Path<'t>(Node<'t>);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: heapless::Vec<&str, MAX_DEPTH> = self
            .0
            .lineage()
            .filter(|node| node.parent().is_some())
            .map(|node| node.name())
            .take(MAX_DEPTH)
            .collect();
        names.reverse();
        if names.is_empty() {
            return f.write_str("/");
        }
        names.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

/// The string at the start of `bytes`, if it ends with a NUL and is UTF-8.
pub(super) fn first_string(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    str::from_utf8(bytes.get(..end)?).ok()
}
