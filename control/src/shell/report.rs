//! What a command has to say, written once, read by people (text) and by programs (JSON, RFC 8259).
//!
//! ```text
//!   field("uptime", Seconds(2_500_000))        uptime      2.500000 s        {"uptime_seconds":2.500000,
//!   table("ports", ["name", "link"])           name  link                     "ports":[{"name":"wan","link":"up"},
//!     row([Text("wan"), Text("up")])           wan   up                                {"name":"lan0","link":"down"}]}
//! ```

use crate::api::escape;
use crate::http::escaped;
use core::fmt::{self, Write};

/// Who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A person at a terminal.
    Text,
    /// A program.
    Json,
}

/// A fact.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// Nothing to tell: `-`, `null`.
    None,
    /// Foreign or own text.
    Text(&'a str),
    /// Anything that shows itself as text.
    Shown(&'a dyn fmt::Display),
    /// A count.
    Number(u64),
    /// A register's value, with so many digits; a number in JSON.
    Hex(u64, usize),
    /// `yes`, `no`.
    Flag(bool),
}

/// A column: its name, and the width that people need.
#[derive(Clone, Copy, Debug)]
pub struct Column(pub &'static str, pub usize);

/// Takes the values of one row.
pub type Row<'r> = dyn FnMut(&[Value]) + 'r;
/// Takes one line.
pub type Put<'r> = dyn FnMut(&str) + 'r;

/// Where a command's result goes; [`Report::finish`] ends it.
pub struct Report<'a> {
    out: &'a mut dyn Write,
    format: Format,
    /// Something stands in the present object already.
    begun: bool,
    /// It is no object.
    document: bool,
    failed: bool,
}

impl<'a> Report<'a> {
    /// Begins a report.
    pub fn new(out: &'a mut dyn Write, format: Format) -> Self {
        Report {
            out,
            format,
            begun: false,
            document: false,
            failed: false,
        }
    }

    /// Ends it. False if not all of it found room.
    pub fn finish(mut self) -> bool {
        if self.format == Format::Json && !self.document {
            self.put(if self.begun { "}\n" } else { "{}\n" });
        }
        !self.failed
    }

    /// Who reads it.
    pub fn format(&self) -> Format {
        self.format
    }

    /// One fact.
    pub fn field(&mut self, name: &str, value: Value) {
        match self.format {
            Format::Json => {
                self.key(name);
                self.json(value);
            }
            Format::Text => {
                self.cell(Value::Text(name), 24);
                self.cell(value, 0);
                self.put("\n");
            }
        }
    }

    /// A list of things with the same facts. `write` is called with a function that writes a row of it.
    pub fn table(&mut self, name: &str, columns: &[Column], write: &mut dyn FnMut(&mut Row)) {
        match self.format {
            Format::Json => {
                self.key(name);
                self.put("[");
                let mut first = true;
                write(&mut |values| {
                    self.put(if first { "{" } else { ",{" });
                    first = false;
                    for (index, (Column(name, _), value)) in columns.iter().zip(values).enumerate()
                    {
                        self.put(if index == 0 { "" } else { "," });
                        self.quoted(&name);
                        self.put(":");
                        self.json(*value);
                    }
                    self.put("}");
                });
                self.put("]");
            }
            Format::Text => {
                self.row(
                    columns,
                    columns.iter().map(|Column(name, _)| Value::Text(name)),
                );
                write(&mut |values| self.row(columns, values.iter().copied()));
            }
        }
    }

    /// Text as it stands, in lines: `"lines":[...]` in JSON. To be used once in a report.
    pub fn lines(&mut self, name: &str, write: &mut dyn FnMut(&mut Put)) {
        match self.format {
            Format::Json => {
                self.key(name);
                self.put("[");
                let mut first = true;
                write(&mut |line| {
                    self.put(if first { "" } else { "," });
                    first = false;
                    self.quoted(&line);
                });
                self.put("]");
            }
            Format::Text => write(&mut |line| {
                // Foreign text must not drive the terminal.
                self.foreign(line);
                self.put("\n");
            }),
        }
    }

    /// All of the report, in a format of its own, whoever reads it. Its writer takes care of what is foreign.
    pub fn document(&mut self, write: &mut dyn FnMut(&mut dyn Write) -> fmt::Result) {
        self.document = true;
        if write(self.out).is_err() {
            self.failed = true;
        }
    }

    fn row<'v>(&mut self, columns: &[Column], values: impl Iterator<Item = Value<'v>>) {
        let last = columns.len().saturating_sub(1);
        for (index, (Column(_, width), value)) in columns.iter().zip(values).enumerate() {
            self.cell(value, if index == last { 0 } else { *width });
        }
        self.put("\n");
    }

    /// A value for people, filled up to `width`.
    fn cell(&mut self, value: Value, width: usize) {
        let mut counted = Counted {
            report: self,
            written: 0,
        };
        let _ = match value {
            Value::None => counted.write_str("-"),
            Value::Text(text) => counted.write_str(text),
            Value::Shown(shown) => write!(counted, "{shown}"),
            Value::Number(number) => write!(counted, "{number}"),
            Value::Hex(value, digits) => write!(counted, "0x{value:0digits$x}"),
            Value::Flag(true) => counted.write_str("yes"),
            Value::Flag(false) => counted.write_str("no"),
        };
        let written = counted.written;
        if width > 0 {
            (written..width.max(written + 1)).for_each(|_| self.put(" "));
        }
    }

    fn key(&mut self, name: &str) {
        self.put(if self.begun { "," } else { "{" });
        self.begun = true;
        self.quoted(&name);
        self.put(":");
    }

    fn json(&mut self, value: Value) {
        let _ = match value {
            Value::None => self.out_str("null"),
            Value::Text(text) => return self.quoted(&text),
            Value::Shown(shown) => return self.quoted(shown),
            Value::Number(number) | Value::Hex(number, _) => return self.decimal(number),
            Value::Flag(flag) => self.out_str(if flag { "true" } else { "false" }),
        };
    }

    fn decimal(&mut self, number: u64) {
        if write!(self.out, "{number}").is_err() {
            self.failed = true;
        }
    }

    fn quoted(&mut self, text: &dyn fmt::Display) {
        self.put("\"");
        let _ = write!(Quoted(self), "{text}");
        self.put("\"");
    }

    fn foreign(&mut self, text: &str) {
        for piece in text.split_inclusive(char::is_control) {
            let clean = piece.trim_end_matches(char::is_control);
            self.put(clean);
            if clean.len() < piece.len() {
                self.put("?");
            }
        }
    }

    fn out_str(&mut self, text: &str) -> fmt::Result {
        self.put(text);
        Ok(())
    }

    fn put(&mut self, text: &str) {
        if self.out.write_str(text).is_err() {
            self.failed = true;
        }
    }
}

/// Counts what it passes on, without control characters.
struct Counted<'r, 'a> {
    report: &'r mut Report<'a>,
    written: usize,
}

impl Write for Counted<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.written += text.chars().count();
        self.report.foreign(text);
        Ok(())
    }
}

/// Escapes what it passes on.
struct Quoted<'r, 'a>(&'r mut Report<'a>);

impl Write for Quoted<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escaped(text, &escape, &mut |piece| self.0.put(piece));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, write: impl Fn(&mut Report)) -> std::string::String {
        let mut out = std::string::String::new();
        let mut report = Report::new(&mut out, format);
        write(&mut report);
        assert!(report.finish());
        out
    }

    fn example(report: &mut Report) {
        report.field("board", Value::Text("a \"b\"\x1b[2J\\"));
        report.field("id", Value::Hex(0x341, 4));
        report.field("ready", Value::Flag(true));
        let columns = [Column("name", 6), Column("speed", 6), Column("link", 0)];
        report.table("ports", &columns, &mut |row| {
            row(&[
                Value::Text("wan"),
                Value::Number(1000),
                Value::Shown(&format_args!("up")),
            ]);
            row(&[
                Value::Text("longlonglong"),
                Value::None,
                Value::Text("down"),
            ]);
        });
        report.lines("log", &mut |line| {
            line("one");
            line("two\ttabs");
        });
    }

    #[test]
    fn people_read_columns() {
        let expected = "\
board                   a \"b\"?[2J\\
id                      0x0341
ready                   yes
name  speed link
wan   1000  up
longlonglong -     down
one
two?tabs
";
        assert_eq!(written(Format::Text, example), expected);
    }

    #[test]
    fn programs_read_json() {
        let expected = r#"{"board":"a \"b\"\ufffd[2J\\","id":833,"ready":true,"ports":[{"name":"wan","speed":1000,"link":"up"},{"name":"longlonglong","speed":null,"link":"down"}],"log":["one","two\ufffdtabs"]}
"#;
        assert_eq!(written(Format::Json, example), expected);
        assert_eq!(written(Format::Json, |_| ()), "{}\n");
    }

    #[test]
    fn what_finds_no_room_is_told() {
        struct Full;
        impl Write for Full {
            fn write_str(&mut self, _: &str) -> fmt::Result {
                Err(fmt::Error)
            }
        }
        assert!(!Report::new(&mut Full, Format::Json).finish());
    }
}
