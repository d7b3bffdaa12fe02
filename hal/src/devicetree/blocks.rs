//! The structure block, part by part, sound or not.

use super::{DamageKind, be32};

// Spec: Devicetree Specification 0.4, 5.4.1.
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// The specification allows 31 before the unit address, Linux any; nobody has come near this.
const MAX_NAME_BYTES: usize = 255;

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
    /// Where it begins itself, behind any NOPs.
    pub at: usize,
    pub end: usize,
    /// What is wrong with it.
    pub damage: Option<DamageKind>,
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
    pub(super) fn root(self) -> Option<Step<'b>> {
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

    /// Whether nothing but NOPs stands between `at` and the END token.
    pub(super) fn ends_at(self, mut at: usize) -> bool {
        while be32(self.structs, at) == Some(NOP) {
            at += 4;
        }
        be32(self.structs, at) == Some(END)
    }
}
