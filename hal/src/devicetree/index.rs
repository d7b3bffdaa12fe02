//! The index: one pass over the structure block, one record per node.

use heapless::Vec;

use super::blocks::Part;
use super::{Damage, DamageKind, MAX_DEPTH, Tree, be32};

/// No such record: the parent of the root, the sibling after the last one.
pub(super) const NO_RECORD: u16 = u16::MAX;
/// A `#address-cells` or `#size-cells` that is not one word, or has a value that nothing here could use.
const BAD_CELLS: u8 = u8::MAX;
/// The node has no such property.
const NO_CELLS: u8 = BAD_CELLS - 1;
/// The phandle of a node whose property of that name is unusable. No node may have this one.
pub(super) const BAD_PHANDLE: u32 = u32::MAX;

/// What the index keeps of a node. Its first child, if it has one, is the next record.
pub(super) struct Record {
    /// Where the name is in the structure block, and how long.
    pub name_at: u32,
    pub name_len: u16,
    pub parent: u16,
    pub next_sibling: u16,
    address_cells: u8,
    size_cells: u8,
    interrupt_cells: u8,
    flags: u8,
    /// Where the first property is in the structure block.
    pub properties_at: u32,
    /// 0 if the node has none.
    pub phandle: u32,
}

impl Record {
    /// The node or one around it has a `status` other than `okay`.
    pub(super) const DISABLED: u8 = 1;
    /// The nearest bus that says anything says `dma-coherent`.
    pub(super) const COHERENT: u8 = 2;
    const INHERITED: u8 = Self::DISABLED | Self::COHERENT;
    /// The node has an `interrupt-map`.
    pub(super) const INTERRUPT_MAP: u8 = 4;
    const STATUS_SEEN: u8 = 8;

    pub(super) const EMPTY: Self = Self {
        name_at: 0,
        name_len: 0,
        parent: NO_RECORD,
        next_sibling: NO_RECORD,
        address_cells: NO_CELLS,
        size_cells: NO_CELLS,
        interrupt_cells: NO_CELLS,
        flags: 0,
        properties_at: u32::MAX,
        phandle: 0,
    };

    pub(super) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Of an address of this node's children.
    ///
    /// Spec: Devicetree Specification 0.4, 2.3.5, also for the defaults.
    pub(super) fn address_cells(&self) -> u8 {
        if self.address_cells == NO_CELLS {
            2
        } else {
            self.address_cells
        }
    }

    /// Of a size of this node's children.
    pub(super) fn size_cells(&self) -> u8 {
        if self.size_cells == NO_CELLS {
            1
        } else {
            self.size_cells
        }
    }

    /// Of an interrupt that this node takes; `None` if it takes none, 255 if the number is out of the question.
    pub(super) fn interrupt_cells(&self) -> Option<u8> {
        (self.interrupt_cells != NO_CELLS).then_some(self.interrupt_cells)
    }

    /// Remembers what lookups want to know of many nodes. The first property of a name counts, as everywhere.
    #[inline]
    fn note(&mut self, name: &[u8], value: &[u8]) {
        if let Some(b'#' | b'd' | b'i' | b'p' | b's') = name.first() {
            self.note_known(name, value);
        }
    }

    fn note_known(&mut self, name: &[u8], value: &[u8]) {
        let word = || be32(value, 0).filter(|_| value.len() == 4);
        let cells = || {
            word()
                .and_then(|cells| u8::try_from(cells).ok())
                .filter(|&cells| cells < NO_CELLS)
        };
        match name.first() {
            Some(b'#')
                if self.address_cells == NO_CELLS && name.starts_with(b"#address-cells\0") =>
            {
                self.address_cells = cells().unwrap_or(BAD_CELLS);
            }
            Some(b'#') if self.size_cells == NO_CELLS && name.starts_with(b"#size-cells\0") => {
                self.size_cells = cells().unwrap_or(BAD_CELLS);
            }
            Some(b'#')
                if self.interrupt_cells == NO_CELLS && name.starts_with(b"#interrupt-cells\0") =>
            {
                self.interrupt_cells = cells().unwrap_or(BAD_CELLS);
            }
            Some(b'i') if name.starts_with(b"interrupt-map\0") => self.flags |= Self::INTERRUPT_MAP,
            Some(b'd') if name.starts_with(b"dma-coherent\0") => self.flags |= Self::COHERENT,
            Some(b'd') if name.starts_with(b"dma-noncoherent\0") => self.flags &= !Self::COHERENT,
            Some(b's') if !self.is(Self::STATUS_SEEN) && name.starts_with(b"status\0") => {
                self.flags |= Self::STATUS_SEEN;
                if !matches!(value, b"okay\0" | b"ok\0") {
                    self.flags |= Self::DISABLED;
                }
            }
            Some(b'p') if self.phandle == 0 && name.starts_with(b"phandle\0") => {
                self.phandle = word()
                    .filter(|&phandle| phandle != 0)
                    .unwrap_or(BAD_PHANDLE);
            }
            _ => {}
        }
    }
}

/// A node that has begun and not ended yet.
#[derive(Clone, Copy)]
struct Open {
    index: u16,
    last_child: u16,
    /// Something other than a property came: lookups stop there, and so must the index.
    properties_over: bool,
}

impl Tree<'_> {
    /// Fills the index. `structs_at` is where the structure block begins in the blob, for reports.
    pub(super) fn index(&mut self, structs_at: usize) {
        let mut open: Vec<Open, MAX_DEPTH> = Vec::new();
        // Open nodes that got no record; they are always the innermost ones.
        let mut unrecorded = 0u32;
        // What comes first can only be the root, whatever its token says.
        let mut first = true;
        let mut next = 0;
        loop {
            let step = if core::mem::take(&mut first) {
                self.blocks.root()
            } else {
                self.blocks.step(next)
            };
            let at = step.as_ref().map_or(next, |step| step.at);
            let outcome = match step {
                None => Err(DamageKind::NoEnd),
                Some(step) => {
                    next = step.end;
                    if let Some(kind) = step.damage {
                        self.report(structs_at + at, kind);
                    }
                    if let (Part::BeginNode { .. } | Part::EndNode, Some(node)) =
                        (step.part, open.last_mut())
                    {
                        node.properties_over = true;
                    }
                    match step.part {
                        Part::BeginNode { .. } if unrecorded > 0 => {
                            unrecorded += 1;
                            Ok(())
                        }
                        Part::BeginNode { at, len, sound } => {
                            let pushed = self.push((at, len, sound), next, &mut open);
                            if matches!(pushed, Err(DamageKind::Depth | DamageKind::Nodes)) {
                                unrecorded = 1;
                            }
                            pushed
                        }
                        Part::Property { .. } if unrecorded > 0 => Ok(()),
                        Part::Property { name_at, value } => {
                            self.property(open.last(), name_at, value)
                        }
                        Part::EndNode if unrecorded > 0 => {
                            unrecorded -= 1;
                            Ok(())
                        }
                        Part::EndNode if open.len() > 1 => {
                            open.pop();
                            Ok(())
                        }
                        Part::EndNode if open.len() == 1 && self.blocks.ends_at(next) => return,
                        // Leaving the root open keeps what follows in the tree.
                        Part::EndNode => Err(DamageKind::ExtraEndNode),
                        Part::End => Err(DamageKind::EarlyEnd),
                        Part::Lost => Ok(()),
                    }
                }
            };
            if let Err(kind) = outcome {
                self.report(structs_at + at, kind);
                if matches!(kind, DamageKind::NoEnd | DamageKind::EarlyEnd) {
                    return;
                }
            }
        }
    }

    fn report(&mut self, offset: usize, kind: DamageKind) {
        self.damage.get_or_insert(Damage { offset, kind });
    }

    /// Takes note of a property of the innermost open node.
    fn property(
        &mut self,
        node: Option<&Open>,
        name_at: u32,
        value: &[u8],
    ) -> Result<(), DamageKind> {
        let node = node.ok_or(DamageKind::StrayProperty)?;
        let name = self
            .blocks
            .strings
            .get(name_at as usize..)
            .filter(|name| !name.is_empty());
        let name = name.ok_or(DamageKind::PropertyName(name_at))?;
        if node.properties_over {
            return Err(DamageKind::PropertyOrder);
        }
        if let Some(record) = self.records.get_mut(usize::from(node.index)) {
            record.note(name, value);
        }
        Ok(())
    }

    /// Adds a node below the innermost open one. An odd name is an error, but the node is there.
    fn push(
        &mut self,
        (name_at, len, sound): (usize, usize, bool),
        properties_at: usize,
        open: &mut Vec<Open, MAX_DEPTH>,
    ) -> Result<(), DamageKind> {
        let index = self.records.len() as u16;
        if open.is_full() {
            return Err(DamageKind::Depth);
        }
        let name_len = u16::try_from(len)
            .ok()
            .filter(|&len| sound && (len > 0 || open.is_empty()));
        let parent = open
            .last()
            .and_then(|parent| self.records.get(usize::from(parent.index)));
        let record = Record {
            flags: parent.map_or(0, |parent| parent.flags & Record::INHERITED),
            name_at: name_at as u32,
            name_len: name_len.unwrap_or(0),
            parent: open.last().map_or(NO_RECORD, |parent| parent.index),
            properties_at: properties_at as u32,
            ..Record::EMPTY
        };
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
            properties_over: false,
        });
        name_len.map_or(Err(DamageKind::Name), |_| Ok(()))
    }
}
