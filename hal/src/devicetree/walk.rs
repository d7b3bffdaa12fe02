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
const BAD_CELLS: u8 = u8::MAX;
/// The node has no such property.
const NO_CELLS: u8 = BAD_CELLS - 1;
/// The phandle of a node whose property of that name is unusable. No node may have this one.
pub(super) const BAD_PHANDLE: u32 = u32::MAX;

/// The specification allows 31 before the unit address, Linux any; nobody has come near this.
const MAX_NAME_BYTES: usize = 255;

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

/// The two blocks that make up the nodes.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'b> {
    pub structs: &'b [u8],
    pub strings: &'b [u8],
}

/// What stands in the structure block.
#[derive(Clone, Copy)]
pub(super) enum Part<'b> {
    /// A node begins; its name is `len` bytes at `at`. It is sound if no letter would make its path ambiguous.
    BeginNode {
        at: usize,
        len: usize,
        sound: bool,
    },
    /// A property; its name is at `name_at` of the strings block.
    Property {
        name_at: u32,
        value: &'b [u8],
    },
    EndNode,
    End,
    /// Something unreadable.
    Lost,
}

/// One part, and where the next one begins.
pub(super) struct Step<'b> {
    pub part: Part<'b>,
    at: usize,
    pub end: usize,
    damage: Option<DamageKind>,
}

impl<'b> Blocks<'b> {
    /// Reads the part at `at`, behind any NOPs; `None` at the end of the block.
    ///
    /// A part is beyond doubt if it is sound in itself and a possible token follows. If not, but it would be when its
    /// token were another one, then the token is what is damaged: so a flipped bit does not shift all that follows to
    /// another level, where its addresses would mean something else. If nothing fits, the bytes up to the next part
    /// beyond doubt are lost.
    #[inline]
    pub(super) fn step(self, mut at: usize) -> Option<Step<'b>> {
        let token = loop {
            match be32(self.structs, at)? {
                NOP => at += 4,
                token => break token,
            }
        };
        if token == PROP
            && let Some(step) = self.sound_property(at)
        {
            return Some(step);
        }
        if token == END_NODE && self.follows(&Part::EndNode, at + 4) {
            return Some(Step {
                part: Part::EndNode,
                at,
                end: at + 4,
                damage: None,
            });
        }
        self.doubtful_step(token, at)
    }

    /// The short way for nearly everything there is.
    #[inline]
    fn sound_property(self, at: usize) -> Option<Step<'b>> {
        let (len, rest) = self.structs.get(at + 4..)?.split_first_chunk()?;
        let (name_at, rest) = rest.split_first_chunk()?;
        let (len, name_at) = (
            u32::from_be_bytes(*len) as usize,
            u32::from_be_bytes(*name_at),
        );
        let value = rest.get(..len)?;
        let end = (at + 12 + len).next_multiple_of(4);
        let sound = matches!(be32(self.structs, end)?, BEGIN_NODE..=NOP)
            && self.strings.len() > name_at as usize;
        sound.then_some(Step {
            part: Part::Property { name_at, value },
            at,
            end,
            damage: None,
        })
    }

    fn doubtful_step(self, token: u32, at: usize) -> Option<Step<'b>> {
        let here = self.read(token, at);
        if let Ok((part, end)) = here
            && self.follows(&part, end)
        {
            return Some(Step {
                part,
                at,
                end,
                damage: None,
            });
        }
        if let Some((part, end)) = self.repair(at) {
            return Some(Step {
                part,
                at,
                end,
                damage: Some(DamageKind::Token(token)),
            });
        }
        match here {
            // Either a word that is no token after all, or a damaged name.
            Ok((Part::BeginNode { len: 0, .. }, _)) | Err(DamageKind::NameEnd) => {
                let node = Part::BeginNode {
                    at: at + 4,
                    len: 0,
                    sound: false,
                };
                let part = if self.is_token(at + 4) {
                    Part::Lost
                } else {
                    node
                };
                Some(Step {
                    part,
                    at,
                    end: self.next_sound(at + 4),
                    damage: Some(DamageKind::Name),
                })
            }
            // A length that leads nowhere is wrong, and half a value is worse than none.
            Ok((Part::Property { value, .. }, end))
                if !self.is_token(end) && self.repair(end).is_none() =>
            {
                let damage = Some(DamageKind::PropertyLength(value.len() as u32));
                Some(Step {
                    part: Part::Lost,
                    at,
                    end: self.next_sound(at + 12),
                    damage,
                })
            }
            // It is the next token that is damaged, and this will be found there.
            Ok((part, end)) => Some(Step {
                part,
                at,
                end,
                damage: None,
            }),
            Err(kind) => Some(Step {
                part: Part::Lost,
                at,
                end: self.next_sound(at + 4),
                damage: Some(kind),
            }),
        }
    }

    /// The part at `at`, if it would be beyond doubt with another token.
    fn repair(self, at: usize) -> Option<(Part<'b>, usize)> {
        [BEGIN_NODE, END_NODE, PROP]
            .into_iter()
            .find_map(|token| self.beyond_doubt(token, at))
    }

    /// The root's beginning.
    fn root(self) -> Option<Step<'b>> {
        let first = |&at: &usize| be32(self.structs, at) != Some(NOP);
        let at = (0..self.structs.len()).step_by(4).find(first)?;
        let token = be32(self.structs, at)?;
        let damage = (token != BEGIN_NODE).then_some(DamageKind::Token(token));
        let (part, end) = self.read(BEGIN_NODE, at).ok()?;
        Some(Step {
            part,
            at,
            end,
            damage,
        })
    }

    /// The first place from `at` on where there is a part beyond doubt, or the end of the block.
    fn next_sound(self, at: usize) -> usize {
        let sound = |at: &usize| {
            be32(self.structs, *at).is_some_and(|token| self.beyond_doubt(token, *at).is_some())
        };
        (at..self.structs.len())
            .step_by(4)
            .find(sound)
            .unwrap_or(self.structs.len())
    }

    /// Whether there is a token at `at`, or the end of the block.
    fn is_token(self, at: usize) -> bool {
        matches!(
            be32(self.structs, at),
            None | Some(BEGIN_NODE | END_NODE | PROP | NOP | END)
        )
    }

    /// Reads the part at `at` as if it had this token.
    fn read(self, token: u32, at: usize) -> Result<(Part<'b>, usize), DamageKind> {
        match token {
            BEGIN_NODE => {
                let at = at + 4;
                // Without a limit, a crafted block without NULs would be searched again for every property before it.
                let name = self.structs.get(at..).unwrap_or_default();
                let name = name.get(..=MAX_NAME_BYTES).unwrap_or(name);
                let is_name = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
                let start = name
                    .iter()
                    .position(|&byte| !is_name(byte))
                    .unwrap_or(name.len());
                let sound = name.get(start) == Some(&0);
                let rest = name.get(start..).unwrap_or_default();
                let len = start
                    + rest
                        .iter()
                        .position(|&byte| byte == 0)
                        .ok_or(DamageKind::NameEnd)?;
                Ok((
                    Part::BeginNode { at, len, sound },
                    (at + len + 1).next_multiple_of(4),
                ))
            }
            PROP => {
                let len = be32(self.structs, at + 4).unwrap_or(u32::MAX);
                let name_at = be32(self.structs, at + 8).ok_or(DamageKind::PropertyLength(len))?;
                let start = at + 12;
                let value = start
                    .checked_add(len as usize)
                    .and_then(|end| self.structs.get(start..end));
                let value = value.ok_or(DamageKind::PropertyLength(len))?;
                Ok((
                    Part::Property { name_at, value },
                    (start + value.len()).next_multiple_of(4),
                ))
            }
            END_NODE => Ok((Part::EndNode, at + 4)),
            END => Ok((Part::End, at + 4)),
            word => Err(DamageKind::Token(word)),
        }
    }

    /// Whether `part` is sound, and what is at `end` can come after it.
    fn follows(self, part: &Part<'_>, end: usize) -> bool {
        let next = be32(self.structs, end);
        let in_node = matches!(next, Some(BEGIN_NODE | PROP | END_NODE | NOP));
        match *part {
            Part::BeginNode { at, len, sound } => {
                let padding = self.structs.get(at + len..end).unwrap_or_default();
                in_node && sound && padding.iter().all(|&byte| byte == 0)
            }
            Part::Property { name_at, .. } => in_node && self.strings.len() > name_at as usize,
            Part::EndNode => matches!(next, Some(BEGIN_NODE | END_NODE | NOP | END)),
            Part::End => next.is_none(),
            Part::Lost => false,
        }
    }

    /// The part at `at`, if it can be nothing but one of this token.
    fn beyond_doubt(self, token: u32, at: usize) -> Option<(Part<'b>, usize)> {
        let (part, end) = self.read(token, at).ok()?;
        let sure = match part {
            // Without a name it could be anything.
            Part::BeginNode { len: 0, .. } => false,
            // What follows may as well be the length of a property. Look one word further.
            Part::EndNode => match be32(self.structs, end) {
                Some(BEGIN_NODE) => self.structs.get(end + 4).is_some_and(u8::is_ascii_graphic),
                Some(END_NODE) => matches!(
                    be32(self.structs, end + 4),
                    Some(BEGIN_NODE | END_NODE | END)
                ),
                Some(END) => be32(self.structs, end + 4).is_none(),
                _ => false,
            },
            _ => self.follows(&part, end),
        };
        sure.then_some((part, end))
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
    pub(super) fn walk(&mut self, structs_at: usize) {
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

impl Blocks<'_> {
    /// Whether nothing but NOPs stands between `at` and the END token.
    fn ends_at(self, mut at: usize) -> bool {
        while be32(self.structs, at) == Some(NOP) {
            at += 4;
        }
        be32(self.structs, at) == Some(END)
    }
}
