//! A line of a terminal, edited: bytes in, events and echo out. Knows the keys that people try: cursor keys, Home and
//! End, Backspace and Delete, history, Tab, and the control characters of Emacs and the shells.
//!
//! Asleep until the first byte arrives: a console that nobody types on shows no prompt.

use core::fmt::Write;
use heapless::{Deque, String};

/// Longest line, in bytes.
pub const MAX_LINE: usize = 200;
/// Lines remembered.
const HISTORY: usize = 16;
/// What stands before the line.
const PROMPT: &str = "ristretto> ";
const BELL: &str = "\x07";

/// A line of text.
pub type Line = String<MAX_LINE>;

/// What a key made of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one exists at a time, on the stack"
)]
pub enum Event {
    /// Entered; the prompt is gone until [`Editor::show`].
    Entered(Line),
    /// The word before the cursor is to be completed: [`Editor::insert`].
    Complete,
    /// Ctrl-C: whatever runs is to stop.
    Interrupt,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// After ESC.
    Begun,
    /// After ESC [ or ESC O, with the number so far.
    Sequence(u8),
}

/// The editor.
#[derive(Debug, Default)]
pub struct Editor {
    line: Line,
    cursor: usize,
    history: Deque<Line, HISTORY>,
    /// How many lines back in the history; 0 is the line being written.
    back: usize,
    escape: Escape,
    after_return: bool,
    visible: bool,
    awake: bool,
}

impl Editor {
    /// The line up to the cursor.
    pub fn before_cursor(&self) -> &str {
        &self.line[..self.cursor]
    }

    /// Somebody has typed.
    pub fn is_awake(&self) -> bool {
        self.awake
    }

    /// Shows the prompt for the first time.
    pub fn wake(&mut self, out: &mut impl Write) {
        self.awake = true;
        self.show(out);
    }

    /// Leaves prompt and line where they are: what is written next goes elsewhere, and [`Editor::show`] writes them anew.
    pub fn leave(&mut self) {
        self.visible = false;
    }

    /// Takes prompt and line off the screen, for something else to be written.
    pub fn hide(&mut self, out: &mut impl Write) {
        if self.visible {
            self.visible = false;
            put(out, "\r\x1b[K");
        }
    }

    /// Puts them back.
    pub fn show(&mut self, out: &mut impl Write) {
        if self.awake && !self.visible {
            self.visible = true;
            self.redraw(out);
        }
    }

    /// One byte from the terminal.
    pub fn key(&mut self, byte: u8, out: &mut impl Write) -> Option<Event> {
        let after_return = core::mem::take(&mut self.after_return);
        match (self.escape, byte) {
            (Escape::Begun, b'[' | b'O') => {
                self.escape = Escape::Sequence(0);
                return None;
            }
            (Escape::Sequence(number), b'0'..=b'9') => {
                let number = number.saturating_mul(10).saturating_add(byte - b'0');
                self.escape = Escape::Sequence(number);
                return None;
            }
            (Escape::Sequence(_), b';') => return None,
            (Escape::Sequence(number), last) => {
                self.escape = Escape::None;
                self.special(number, last, out);
                return None;
            }
            _ => self.escape = Escape::None,
        }
        match byte {
            0x1b => self.escape = Escape::Begun,
            b'\n' if after_return => {}
            b'\r' | b'\n' => {
                self.after_return = byte == b'\r';
                return Some(Event::Entered(self.enter(out)));
            }
            b'\t' => return Some(Event::Complete),
            0x03 => {
                put(out, "^C\n");
                (self.visible, self.cursor, self.back) = (false, 0, 0);
                self.line.clear();
                return Some(Event::Interrupt);
            }
            0x01 => self.move_to(0, out),
            0x02 => self.move_to(self.cursor.saturating_sub(1), out),
            0x05 => self.move_to(self.line.len(), out),
            0x06 => self.move_to(self.cursor + 1, out),
            0x08 | 0x7f if self.cursor > 0 => self.remove(self.cursor - 1..self.cursor, out),
            0x04 if self.cursor < self.line.len() => self.remove(self.cursor..self.cursor + 1, out),
            0x0b => self.remove(self.cursor..self.line.len(), out),
            0x0c => {
                put(out, "\x1b[2J\x1b[H");
                self.redraw(out);
            }
            0x0e => self.recall(self.back.wrapping_sub(1), out),
            0x10 => self.recall(self.back + 1, out),
            0x15 => self.remove(0..self.cursor, out),
            0x17 => {
                let words = self.before_cursor().trim_end();
                let start = words.rfind(' ').map_or(0, |space| space + 1);
                self.remove(start..self.cursor, out);
            }
            b' '..=b'~' => {
                self.insert(char::from(byte).encode_utf8(&mut [0; 4]), out);
            }
            _ => put(out, BELL),
        }
        None
    }

    /// Puts ASCII text in at the cursor; rings the bell if it does not fit.
    pub fn insert(&mut self, text: &str, out: &mut impl Write) {
        let mut line = Line::new();
        let (before, after) = self.line.split_at(self.cursor);
        let fits = [before, text, after]
            .iter()
            .all(|part| line.push_str(part).is_ok());
        if !fits {
            put(out, BELL);
            return;
        }
        let at_end = after.is_empty();
        self.line = line;
        self.cursor += text.len();
        if at_end && self.visible {
            put(out, text);
        } else {
            self.redraw(out);
        }
    }

    fn special(&mut self, number: u8, last: u8, out: &mut impl Write) {
        match (last, number) {
            (b'A', _) => self.recall(self.back + 1, out),
            (b'B', _) => self.recall(self.back.wrapping_sub(1), out),
            (b'C', _) => self.move_to(self.cursor + 1, out),
            (b'D', _) => self.move_to(self.cursor.saturating_sub(1), out),
            (b'H', _) | (b'~', 1 | 7) => self.move_to(0, out),
            (b'F', _) | (b'~', 4 | 8) => self.move_to(self.line.len(), out),
            (b'~', 3) if self.cursor < self.line.len() => {
                self.remove(self.cursor..self.cursor + 1, out);
            }
            _ => put(out, BELL),
        }
    }

    fn enter(&mut self, out: &mut impl Write) -> Line {
        put(out, "\n");
        let line = core::mem::take(&mut self.line);
        (self.visible, self.cursor, self.back) = (false, 0, 0);
        if !line.trim().is_empty() && self.history.back() != Some(&line) {
            if self.history.is_full() {
                self.history.pop_front();
            }
            // There is room: the oldest has just left.
            let _ = self.history.push_back(line.clone());
        }
        line
    }

    fn recall(&mut self, back: usize, out: &mut impl Write) {
        let line = match back {
            0 => Some(Line::new()),
            _ => self.history.iter().rev().nth(back.wrapping_sub(1)).cloned(),
        };
        match line {
            Some(line) => {
                (self.back, self.cursor, self.line) = (back, line.len(), line);
                self.redraw(out);
            }
            None => put(out, BELL),
        }
    }

    fn move_to(&mut self, to: usize, out: &mut impl Write) {
        if to > self.line.len() {
            return;
        }
        self.cursor = to;
        self.redraw(out);
    }

    fn remove(&mut self, range: core::ops::Range<usize>, out: &mut impl Write) {
        let mut line = Line::new();
        // Shorter than what was there.
        let _ = line.push_str(&self.line[..range.start]);
        let _ = line.push_str(&self.line[range.end..]);
        (self.line, self.cursor) = (line, range.start);
        self.redraw(out);
    }

    fn redraw(&self, out: &mut impl Write) {
        put(out, "\r");
        put(out, PROMPT);
        put(out, &self.line);
        put(out, "\x1b[K");
        let back = self.line.len() - self.cursor;
        if back > 0 {
            // A terminal that is not there misses nothing.
            let _ = write!(out, "\x1b[{back}D");
        }
    }
}

fn put(out: &mut impl Write, text: &str) {
    // A terminal that is not there misses nothing.
    let _ = out.write_str(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types, and gives the events and the line left on the screen.
    fn typed(editor: &mut Editor, keys: &str) -> Vec<Event> {
        let mut out = std::string::String::new();
        let events = keys.bytes().filter_map(|byte| editor.key(byte, &mut out));
        events.collect()
    }

    fn entered(line: &str) -> Vec<Event> {
        vec![Event::Entered(Line::try_from(line).unwrap())]
    }

    #[test]
    fn keys_edit() {
        for (keys, line) in [
            ("link\r", "link"),
            ("lonk\x08\x08\x08ink\r", "link"),
            ("ink\x1b[D\x1b[D\x1b[Dl\r", "link"),
            ("ink\x01l\x05 wan\r", "link wan"),
            ("xlink\x1b[H\x1b[3~\n", "link"),
            ("link wan\x17lan0\r", "link lan0"),
            ("some thing\x15link\r", "link"),
            ("link wan\x02\x02\x02\x02\x0b\r", "link"),
            ("li\x1b[1;5Cnk\r", "link"),
            ("li\x1b\x1b[Fnk\r", "link"),
            ("\x7f\x1b[3~\x1b[C\x06\x04link\r", "link"),
        ] {
            assert_eq!(
                typed(&mut Editor::default(), keys),
                entered(line),
                "{keys:?}"
            );
        }
    }

    #[test]
    fn a_pasted_text_of_either_ending_is_lines() {
        let mut editor = Editor::default();
        let events = typed(&mut editor, "link\r\nip\nlog\r\r\n");
        let lines: Vec<Event> = ["link", "ip", "log", ""]
            .into_iter()
            .flat_map(entered)
            .collect();
        assert_eq!(events, lines);
    }

    #[test]
    fn history_goes_back_and_forth_and_forgets_repetitions() {
        let mut editor = Editor::default();
        typed(&mut editor, "one\rtwo\rtwo\r\r");
        assert_eq!(typed(&mut editor, "\x1b[A\x1b[A\r"), entered("one"));
        assert_eq!(typed(&mut editor, "\x10\x10\x0e\r"), entered("one"));
        assert_eq!(
            typed(&mut editor, "\x10\x10\x10\x10\x10\x10\x10x\r"),
            entered("onex")
        );
        for n in 0..100 {
            typed(&mut editor, &format!("line {n}\r"));
        }
        let far = "\x1b[A".repeat(HISTORY) + "\r";
        assert_eq!(
            typed(&mut editor, &far),
            entered(&format!("line {}", 100 - HISTORY))
        );
    }

    #[test]
    fn a_line_that_is_too_long_stops_growing() {
        let mut editor = Editor::default();
        typed(&mut editor, &"x".repeat(10 * MAX_LINE));
        assert_eq!(editor.before_cursor().len(), MAX_LINE);
    }

    #[test]
    fn nothing_is_shown_before_the_first_key() {
        let mut editor = Editor::default();
        let mut out = std::string::String::new();
        editor.hide(&mut out);
        editor.show(&mut out);
        assert_eq!(out, "");
        editor.wake(&mut out);
        editor.key(b'x', &mut out);
        editor.hide(&mut out);
        editor.show(&mut out);
        assert!(out.ends_with("ristretto> x\x1b[K"), "{out:?}");
    }

    #[test]
    fn any_bytes_leave_the_cursor_in_the_line() {
        let mut editor = Editor::default();
        let mut out = std::string::String::new();
        let mut state = 1u32;
        for _ in 0..200_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            editor.key(
                (state >> 24) as u8 & if state & 64 == 0 { 0xff } else { 0x1f },
                &mut out,
            );
            assert!(editor.cursor <= editor.line.len());
            out.clear();
        }
    }
}
