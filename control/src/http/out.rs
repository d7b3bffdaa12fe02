//! Text written into a fixed buffer, or into several, one after the other.

use core::fmt;

/// Longest piece of foreign text (a board's name, say) that is shown, in bytes; the rest is left out.
const MAX_FOREIGN: usize = 96;

/// Parts that a section counts as, however many there are in it.
pub const SECTION: u16 = 1024;

/// Collects text and remembers whether all of it fitted.
///
/// A text that may be longer than the buffer is written in [parts](Out::part), the whole of it again for each buffer:
/// what was written earlier is passed over, and what does not fit any more is left for the next.
pub struct Out<'a> {
    buffer: &'a mut [u8],
    len: usize,
    has_overflowed: bool,
    /// The first part to be written.
    first: u16,
    /// How many parts there were until now.
    parts: u16,
    /// The first part that was left for later.
    rest: Option<u16>,
    /// Where it is enough for now: no part begins from here on.
    enough: usize,
    /// Something is being written that belongs together.
    is_held: bool,
    is_paused: bool,
}

/// What became of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is whole, or all that was left of it is.
    Whole(usize),
    /// So much of it fitted; it goes on with a part.
    UpTo(usize, u16),
    /// The same, though there is room for more: it was enough for now.
    Paused(usize, u16),
    /// A part does not fit, or a text without parts.
    Nothing,
}

impl<'a> Out<'a> {
    /// Nothing written yet.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self::from_part(buffer, 0, 0, usize::MAX)
    }

    /// The same behind the first `len` bytes, with everything passed over that comes before a part. No part begins once
    /// `most` bytes were added.
    pub fn from_part(buffer: &'a mut [u8], len: usize, first: u16, most: usize) -> Self {
        Self {
            buffer,
            len,
            enough: len.saturating_add(most),
            is_held: false,
            is_paused: false,
            has_overflowed: false,
            first,
            parts: 0,
            rest: None,
        }
    }

    /// Adds a part: all of it, or nothing. Which parts a text has must not change while it is being written.
    pub fn part(&mut self, write: impl FnOnce(&mut Self)) {
        if self.wants_part() {
            let start = self.len;
            write(self);
            self.end_part(start);
        }
    }

    /// Adds parts that belong together: there is no pause before the last of them, if there is room.
    pub fn together(&mut self, write: impl FnOnce(&mut Self)) {
        // The first of them is a part like any other.
        self.part(|_| ());
        self.is_held = true;
        write(self);
        self.is_held = false;
    }

    /// Adds at most [`SECTION`] parts. It is not asked for them if all of them are passed over or left for later.
    pub fn section(&mut self, write: impl FnOnce(&mut Self)) {
        let end = self.parts + SECTION;
        if end > self.first && self.rest.is_none() {
            write(self);
        }
        self.parts = end;
    }

    #[inline(never)]
    fn wants_part(&mut self) -> bool {
        self.parts += 1;
        if self.parts <= self.first || self.rest.is_some() {
            return false;
        }
        if self.len >= self.enough && !self.is_held {
            self.is_paused = true;
            self.rest = Some(self.parts - 1);
            return false;
        }
        true
    }

    #[inline(never)]
    fn end_part(&mut self, start: usize) {
        if self.has_overflowed {
            self.has_overflowed = false;
            self.len = start;
            self.rest = Some(self.parts - 1);
        }
    }

    /// How far it got.
    pub fn finish_parts(self) -> Written {
        match self.rest {
            _ if self.has_overflowed => Written::Nothing,
            None => Written::Whole(self.len),
            Some(part) if self.is_paused => Written::Paused(self.len, part),
            Some(_) if self.len == 0 => Written::Nothing,
            Some(part) => Written::UpTo(self.len, part),
        }
    }

    /// How many bytes were written, or nothing if something did not fit.
    pub fn finish(self) -> Option<usize> {
        (!self.has_overflowed).then_some(self.len)
    }

    /// Adds `text` as it is; all of it or, for want of room, nothing.
    #[inline(never)] // a page calls it a hundred times
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Adds what is no text.
    pub fn bytes(&mut self, bytes: &[u8]) {
        match self.buffer.get_mut(self.len..self.len + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.has_overflowed = true,
        }
    }

    /// Adds what `write` writes into the room there is, if it says how much.
    pub fn fill(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<usize>) {
        match self.buffer.get_mut(self.len..).and_then(write) {
            Some(len) => self.len += len,
            None => self.has_overflowed = true,
        }
    }

    /// Adds all the pieces.
    #[inline(never)]
    pub fn texts(&mut self, pieces: &[&str]) {
        for piece in pieces {
            self.bytes(piece.as_bytes());
        }
    }

    /// Adds a decimal number.
    #[inline(never)]
    pub fn decimal(&mut self, mut value: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.bytes(&digits[at..]);
    }

    /// Adds microseconds as seconds with six decimals.
    pub fn seconds(&mut self, us: u64) {
        self.decimal(us / 1_000_000);
        self.text(".");
        let decimals = us % 1_000_000;
        for unit in [100_000, 10_000, 1_000, 100, 10, 1] {
            self.decimal(decimals / unit % 10);
        }
    }

    /// Adds foreign text, each character as `escape` says, or as it is where `escape` says nothing.
    pub fn foreign(&mut self, text: &str, escape: impl Fn(char) -> Option<&'static str>) {
        let text = &text[..text.floor_char_boundary(MAX_FOREIGN)];
        escaped(text, &escape, &mut |piece| self.text(piece));
    }
}

/// Puts text piece by piece, each character as `escape` says, or as it is where `escape` says nothing. It is not asked about
/// those that nobody escapes.
pub(crate) fn escaped(
    mut text: &str,
    escape: &dyn Fn(char) -> Option<&'static str>,
    put: &mut dyn FnMut(&str),
) {
    let is_plain = |byte: &u8| matches!(byte, b' ' | b'('..=b':' | b'A'..=b'Z' | b'a'..=b'z');
    let mut at = 0;
    loop {
        while text.as_bytes().get(at).is_some_and(is_plain) {
            at += 1;
        }
        let (plain, rest) = text.split_at(at);
        let Some(character) = rest.chars().next() else {
            return put(plain);
        };
        let len = character.len_utf8();
        match escape(character) {
            None => at += len,
            Some(escaped) => {
                put(plain);
                put(escaped);
                (text, at) = (&rest[len..], 0);
            }
        }
    }
}

impl fmt::Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Out)) -> String {
        let mut buffer = [0; 256];
        let mut out = Out::new(&mut buffer);
        write(&mut out);
        let len = out.finish().unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[test]
    fn numbers_are_written_like_the_standard_library_does() {
        for value in [0, 9, 10, 12345, u64::MAX] {
            assert_eq!(written(|out| out.decimal(value)), value.to_string());
        }
        assert_eq!(written(|out| out.seconds(12_000_345)), "12.000345");
    }

    #[test]
    fn what_does_not_fit_is_noticed() {
        let mut buffer = [0; 4];
        let mut out = Out::new(&mut buffer);
        out.text("abc");
        out.text("de");
        out.text("f");
        assert_eq!(out.finish(), None);
    }

    #[test]
    fn a_long_text_is_written_part_by_part() {
        let mut text = String::new();
        let mut part = 0;
        let mut buffer = [0; 5];
        loop {
            let mut out = Out::from_part(&mut buffer, 0, part, usize::MAX);
            for word in ["ab", "cd", "efgh", "", "i", "jklm"] {
                out.part(|out| out.texts(&[word, "."]));
            }
            let (len, next) = match out.finish_parts() {
                Written::Whole(len) => (len, None),
                Written::UpTo(len, next) => (len, Some(next)),
                written => panic!("{text}: {written:?}"),
            };
            text += core::str::from_utf8(&buffer[..len]).unwrap();
            match next {
                Some(next) => part = next,
                None => break,
            }
        }
        assert_eq!(text, "ab.cd.efgh..i.jklm.");
        let mut out = Out::from_part(&mut buffer, 0, 1, usize::MAX);
        for word in ["ab", "too long", "cd"] {
            out.part(|out| out.text(word));
        }
        assert_eq!(out.finish_parts(), Written::Nothing);
    }

    #[test]
    fn a_text_is_written_in_steps() {
        let mut buffer = [0; 64];
        let (mut len, mut part, mut steps) = (0, 0, Vec::new());
        loop {
            let mut out = Out::from_part(&mut buffer, len, part, 3);
            out.part(|out| out.text("ab"));
            out.part(|out| out.text("cd"));
            out.together(|out| {
                for text in ["ef", "gh", "ij"] {
                    out.part(|out| out.text(text));
                }
            });
            out.part(|out| out.text("kl"));
            match out.finish_parts() {
                Written::Paused(so_far, next) => (len, part) = (so_far, next),
                Written::Whole(whole) => break len = whole,
                written => panic!("{written:?}"),
            }
            steps.push(len);
        }
        assert_eq!(&buffer[..len], b"abcdefghijkl");
        assert_eq!(steps, [4, 10]);
    }

    #[test]
    fn a_section_is_asked_for_when_its_turn_comes() {
        let mut buffer = [0; 8];
        let (mut len, mut part, mut asked) = (0, 0, String::new());
        loop {
            let mut out = Out::from_part(&mut buffer, len, part, 1);
            for section in ["ab", "", "cd"] {
                out.section(|out| {
                    asked += section;
                    for at in 0..section.len() {
                        out.part(|out| out.text(&section[at..=at]));
                    }
                });
            }
            match out.finish_parts() {
                Written::Paused(so_far, next) => (len, part) = (so_far, next),
                Written::Whole(whole) => break len = whole,
                written => panic!("{written:?}"),
            }
        }
        assert_eq!(&buffer[..len], b"abcd");
        assert_eq!(asked, "ababcdcdcd");
    }

    #[test]
    fn long_foreign_text_ends_at_a_character() {
        assert_eq!(
            written(|out| out.foreign(&"\u{20ac}".repeat(50), |_| None)),
            "\u{20ac}".repeat(32)
        );
    }
}
