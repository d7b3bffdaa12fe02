//! Reads one JSON object (RFC 8259) without keeping any of it: its members go to the caller one by one.
//!
//! What is nested is passed over. Strings stay as they stand in the text, with their escapes.

/// Deepest nesting that is passed over.
const DEPTH: usize = 8;

/// A member's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number, cut off at the decimal point; held at the limits of its type if it is beyond them.
    Number(i64),
    /// `true`.
    True,
    /// Anything else.
    Other,
}

/// Hands each member of the object in `text` to `member`. Nothing, if it is not one object and nothing else.
pub fn members(text: &[u8], mut member: impl FnMut(&[u8], Value)) -> Option<()> {
    let mut reader = Reader(text);
    reader.expect(b'{')?;
    if reader.peek()? == b'}' {
        reader.next();
    } else {
        loop {
            reader.peek()?;
            let name = reader.string()?;
            reader.expect(b':')?;
            let value = reader.value(DEPTH)?;
            member(name, value);
            if !reader.goes_on(b'}')? {
                break;
            }
        }
    }
    reader.peek().is_none().then_some(())
}

struct Reader<'t>(&'t [u8]);

impl<'t> Reader<'t> {
    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// The next byte that is not white space, which is left there.
    fn peek(&mut self) -> Option<u8> {
        while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = self.0 {
            self.0 = rest;
        }
        self.0.first().copied()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.peek();
        (self.next()? == byte).then_some(())
    }

    /// After a member or an element: whether there is another, or `close`.
    fn goes_on(&mut self, close: u8) -> Option<bool> {
        self.peek();
        match self.next()? {
            b',' => Some(true),
            byte => (byte == close).then_some(false),
        }
    }

    fn string(&mut self) -> Option<&'t [u8]> {
        if self.next()? != b'"' {
            return None;
        }
        let text = self.0;
        loop {
            match self.next()? {
                b'"' => return text.get(..text.len() - self.0.len() - 1),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        let (digits, rest) = self.0.split_first_chunk::<4>()?;
                        if !digits.iter().all(u8::is_ascii_hexdigit) {
                            return None;
                        }
                        self.0 = rest;
                    }
                    _ => return None,
                },
                0..0x20 => return None,
                _ => {}
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        match self.peek()? {
            b'"' => self.string().map(|_| Value::Other),
            b'-' | b'0'..=b'9' => self.number().map(Value::Number),
            b't' => self.word(b"true", Value::True),
            b'f' => self.word(b"false", Value::Other),
            b'n' => self.word(b"null", Value::Other),
            open @ (b'[' | b'{') => {
                self.next();
                let depth = depth.checked_sub(1)?;
                let close = open + 2;
                if self.peek()? == close {
                    self.next();
                    return Some(Value::Other);
                }
                loop {
                    if open == b'{' {
                        self.peek()?;
                        self.string()?;
                        self.expect(b':')?;
                    }
                    self.value(depth)?;
                    if !self.goes_on(close)? {
                        return Some(Value::Other);
                    }
                }
            }
            _ => None,
        }
    }

    fn word(&mut self, word: &[u8], value: Value) -> Option<Value> {
        self.0 = self.0.strip_prefix(word)?;
        Some(value)
    }

    fn digits(&mut self, mut digit: impl FnMut(u8)) -> Option<()> {
        let mut any = None;
        while let [byte @ b'0'..=b'9', rest @ ..] = self.0 {
            digit(byte - b'0');
            self.0 = rest;
            any = Some(());
        }
        any
    }

    fn number(&mut self) -> Option<i64> {
        let negative = self.0.first() == Some(&b'-');
        if negative {
            self.next();
        }
        if matches!(self.0, [b'0', b'0'..=b'9', ..]) {
            return None;
        }
        let mut number = 0_i64;
        self.digits(|digit| number = number.saturating_mul(10).saturating_add(digit.into()))?;
        // With an exponent the digits behind the point count; nobody needs more than 18 of them.
        let (mut fraction, mut places) = (number, 0_i32);
        if let [b'.', rest @ ..] = self.0 {
            self.0 = rest;
            self.digits(|digit| {
                if let Some(longer) = fraction.checked_mul(10) {
                    fraction = longer.saturating_add(digit.into());
                    places += 1;
                }
            })?;
        }
        if let [b'e' | b'E', rest @ ..] = self.0 {
            self.0 = rest;
            let shrinks = matches!(self.0, [b'-', ..]);
            if let [b'+' | b'-', rest @ ..] = self.0 {
                self.0 = rest;
            }
            let mut exponent = 0_i32;
            self.digits(|digit| exponent = (exponent * 10 + i32::from(digit)).min(1000))?;
            let exponent = if shrinks { -exponent } else { exponent } - places;
            number = fraction;
            // Beyond 19 places everything is 0, or held at the limit.
            for _ in 0..exponent.unsigned_abs().min(40) {
                number = match exponent > 0 {
                    true => number.saturating_mul(10),
                    false => number / 10,
                };
            }
        }
        Some(if negative { -number } else { number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Vec<(String, Value)>> {
        let mut all = Vec::new();
        members(text.as_bytes(), |name, value| {
            all.push((String::from_utf8_lossy(name).into_owned(), value));
        })?;
        Some(all)
    }

    #[test]
    fn members_come_in_order() {
        let text = r#" { "tcp" : true, "omit":0,"time":-10, "title":"a \"b\" \u00e9", "x":[1,{"y":[]},null],"z":{} } "#;
        let expected = [
            ("tcp", Value::True),
            ("omit", Value::Number(0)),
            ("time", Value::Number(-10)),
            ("title", Value::Other),
            ("x", Value::Other),
            ("z", Value::Other),
        ];
        let expected = expected.map(|(name, value)| (name.to_string(), value));
        assert_eq!(read(text).unwrap(), expected);
        assert_eq!(read("{}"), Some(vec![]));
    }

    #[test]
    fn numbers_are_whole_and_within_bounds() {
        for (text, number) in [
            ("1048576", 1_048_576),
            ("1.9", 1),
            ("1.25e1", 12),
            ("1e+15", 1_000_000_000_000_000),
            ("25E-1", 2),
            ("9223372036854775808", i64::MAX),
            ("1e999999999999", i64::MAX),
            ("-1e99", -i64::MAX),
            ("1e-999", 0),
            ("0.00000000000000000000000000000001", 0),
        ] {
            let read = read(&format!("{{\"n\":{text}}}"));
            assert_eq!(read.unwrap()[0].1, Value::Number(number), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(9), "]".repeat(9));
        for text in [
            "",
            " ",
            "{",
            "}",
            "[]",
            "1",
            "{}x",
            "{} {}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{\"a\":1 \"b\":2}",
            "{a:1}",
            "{\"a\":01}",
            "{\"a\":-}",
            "{\"a\":1.}",
            "{\"a\":.5}",
            "{\"a\":1e}",
            "{\"a\":tru}",
            "{\"a\":truely}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":\"",
            "{\"a\":[1,]}",
            "{\"a\":[1}",
            "{\"a\":{\"b\":1]}",
            "\0",
            &deep,
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
