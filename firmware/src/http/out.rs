//! Text written into a fixed buffer.

use core::fmt;

/// Longest piece of foreign text (a board's name, say) that is shown, in bytes; the rest is left out.
const MAX_FOREIGN: usize = 96;

/// Collects text and remembers whether all of it fitted.
pub struct Out<'a> {
    buffer: &'a mut [u8],
    len: usize,
    has_overflowed: bool,
}

impl<'a> Out<'a> {
    /// Nothing written yet.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self {
            buffer,
            len: 0,
            has_overflowed: false,
        }
    }

    /// How many bytes were written, or nothing if something did not fit.
    pub fn finish(self) -> Option<usize> {
        (!self.has_overflowed).then_some(self.len)
    }

    /// Adds `text` as it is; all of it or, for want of room, nothing.
    #[inline(never)] // a page calls it a hundred times
    pub fn text(&mut self, text: &str) {
        match self.buffer.get_mut(self.len..self.len + text.len()) {
            Some(room) => {
                room.copy_from_slice(text.as_bytes());
                self.len += text.len();
            }
            None => self.has_overflowed = true,
        }
    }

    /// Adds all the pieces.
    #[inline(never)]
    pub fn texts(&mut self, pieces: &[&str]) {
        for piece in pieces {
            self.text(piece);
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
        self.text(core::str::from_utf8(&digits[at..]).unwrap_or_default());
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
        for character in text[..text.floor_char_boundary(MAX_FOREIGN)].chars() {
            let mut bytes = [0; 4];
            self.text(escape(character).unwrap_or(character.encode_utf8(&mut bytes)));
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
    fn long_foreign_text_ends_at_a_character() {
        assert_eq!(
            written(|out| out.foreign(&"\u{20ac}".repeat(50), |_| None)),
            "\u{20ac}".repeat(32)
        );
    }
}
