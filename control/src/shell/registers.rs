//! Registers in words, by tables that read like a data sheet.
//!
//! ```text
//!   17 copper status: 15:14 speed=10/100/1000/?, 13 full duplex, 10 link
//!
//!   0xa400    speed 1000, full duplex, link
//! ```
//!
//! One register a line: its number, its name, its fields. A bit's words show when it is set. A field of several bits
//! shows its name and what its value is called (`=`), the bits that are set (`=*`), or its value. A line whose number has
//! a dot is register `n` of MMD `m`, as `m.n`.

use core::fmt;

/// A line of a table.
#[derive(Clone, Copy)]
pub struct Register<'t> {
    /// Its number as it stands in the table.
    pub number: &'t str,
    /// Its name.
    pub name: &'t str,
    fields: &'t str,
}

/// What stands before and behind the first `mark`; all of it, and nothing, if there is none.
fn split(text: &str, mark: u8) -> (&str, &str) {
    match text.bytes().position(|byte| byte == mark) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    }
}

/// The number that a text of digits is.
fn number(digits: &str) -> u16 {
    let digit = |number: u16, byte: u8| number.wrapping_mul(10) + u16::from(byte & 0xf);
    digits.bytes().fold(0, digit)
}

/// Hands over the first registers of a table.
pub fn each<'t>(table: &'t str, mut count: usize, take: &mut dyn FnMut(Register<'t>)) {
    let mut rest = table;
    while !rest.is_empty() && count > 0 {
        count -= 1;
        let line;
        (line, rest) = split(rest, b'\n');
        let (number, line) = split(line, b' ');
        let (name, fields) = split(line, b':');
        take(Register {
            number,
            name,
            fields,
        });
    }
}

impl Register<'_> {
    /// Its number, and that of its MMD or 0.
    pub fn place(&self) -> (u8, u8) {
        match split(self.number, b'.') {
            (only, "") => (number(only) as u8, 0),
            (mmd, register) => (number(register) as u8, number(mmd) as u8),
        }
    }
}

/// What a register's value means.
pub struct Words<'t>(pub Register<'t>, pub u16);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        let mut rest = self.0.fields;
        while !rest.is_empty() {
            let field;
            (field, rest) = split(rest, b',');
            let (bits, words) = split(split(field, b' ').1, b' ');
            let (high, low) = split(bits, b':');
            let high = number(high) & 0xf;
            let low = if low.is_empty() {
                high
            } else {
                number(low).min(high)
            };
            let value = self.1 >> low & (u16::MAX >> (15 - (high - low)));
            if high == low {
                if value != 0 {
                    f.write_str(comma)?;
                    f.write_str(words)?;
                    comma = ", ";
                }
                continue;
            }
            f.write_str(comma)?;
            comma = ", ";
            let (name, mut called) = split(words, b'=');
            f.write_str(name)?;
            if called.is_empty() {
                write!(f, " {value}")?;
                continue;
            }
            if called == "*" {
                f.write_str(if value == 0 { " none" } else { " " })?;
                Bits(value).fmt(f)?;
                continue;
            }
            (0..value).for_each(|_| called = split(called, b'/').1);
            let called = split(called, b'/').0;
            f.write_str(" ")?;
            f.write_str(if called.is_empty() { "?" } else { called })?;
        }
        Ok(())
    }
}

/// The numbers of the bits set in a word.
pub struct Bits(pub u16);

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = "";
        for bit in 0..16u16 {
            if self.0 >> bit & 1 == 1 {
                write!(f, "{space}{bit}")?;
                space = " ";
            }
        }
        Ok(())
    }
}

/// Of a copper PHY, page 0, and Energy Efficient Ethernet. Spec: IEEE 802.3 clauses 22, 28, 40, 45; Linux marvell.c for
/// registers 16 and above. The lines that tell most come first: [`PHY_FIRST`] of them.
pub const PHY: &str = "\
0 control: 15 reset, 14 loopback, 6 speed 1000, 13 speed 100, 12 autonegotiation, 11 powered down, 10 isolated, 9 restarting, 8 full duplex
1 status: 5 negotiated, 4 remote fault, 2 link, 1 jabber
17 copper status: 10 link, 11 resolved, 15:14 speed=10/100/1000/?, 13 full duplex, 6 crossed, 5 downshift
2 identifier 1
3 identifier 2: 9:4 model, 3:0 revision
4 own ability: 13 remote fault, 11 asymmetric pause, 10 pause, 8 100 full, 7 100 half, 6 10 full, 5 10 half
5 partner ability: 14 acknowledge, 13 remote fault, 11 asymmetric pause, 10 pause, 8 100 full, 7 100 half, 6 10 full, 5 10 half
6 expansion: 4 parallel fault, 1 page received, 0 partner negotiates
9 gigabit control: 12 role set, 11 master, 10 multi-port, 9 1000 full, 8 1000 half
10 gigabit status: 15 master/slave fault, 14 master, 13 receiver good, 12 partner's receiver good, 11 partner 1000 full, 10 partner 1000 half, 7:0 idle errors
16 copper control: 6:5 crossover=straight/crossed/?/automatic, 11 downshift
18 interrupts: 14 speed, 13 duplex, 10 link
21 receive errors
3.20 EEE capability: 2 1000, 1 100
7.60 EEE own: 2 1000, 1 100
7.61 EEE partner: 2 1000, 1 100";

/// Lines of [`PHY`] that tell most.
pub const PHY_FIRST: usize = 3;

/// Of a port of the 88E6341. Spec: Linux mv88e6xxx/port.h.
pub const PORT: &str = "\
0 status: 11 link, 9:8 speed=10/100/1000/2500, 10 full duplex, 12 PHY detected, 15 pause, 6 EEE, 5 paused, 3:0 mode
1 MAC control: 15 rx delay, 14 tx delay, 13 speed forced, 1:0 speed=10/100/1000/free, 4 link forced, 5 link value, 2 duplex forced, 3 duplex value
4 control 0: 1:0 state=disabled/blocking/learning/forwarding, 9:8 frames=normal/dsa/provider/edsa, 13:12 egress=unmodified/untagged/tagged/edsa, 10 snooping, 3 floods multicast, 2 floods unicast
5 control 1: 7:0 FID/16, 14 trunk, 15 message port
6 VLAN map: 5:0 to ports=*, 15:12 FID%16
7 default VLAN: 11:0 VID
8 control 2: 11:10 802.1Q=off/fallback/check/secure, 13:12 longest=1522/2048/10240/?, 7 maps destination, 9 no tagged, 8 no untagged
11 association: 5:0 learns for=*, 13 locked";

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    fn all(table: &'static str) -> Vec<Register<'static>> {
        let mut all = Vec::new();
        each(table, usize::MAX, &mut |register| all.push(register));
        all
    }

    fn words(table: &'static str, number: &str, value: u16) -> String {
        let register = all(table).into_iter().find(|r| r.number == number);
        format!("{}", Words(register.unwrap(), value))
    }

    #[test]
    fn values_are_put_into_words() {
        assert_eq!(
            words(PHY, "0", 0x1140),
            "speed 1000, autonegotiation, full duplex"
        );
        assert_eq!(
            words(PHY, "17", 0xac08),
            "link, resolved, speed 1000, full duplex"
        );
        assert_eq!(
            words(PORT, "4", 0x333f),
            "state forwarding, frames edsa, egress edsa, floods multicast, floods unicast"
        );
        assert_eq!(words(PORT, "6", 0x100b), "to ports 0 1 3, FID%16 1");
        assert_eq!(words(PORT, "7", 0x0fff), "VID 4095");
        assert_eq!(words(PHY, "2", 0x0141), "");
        assert_eq!(words(PHY, "16", 0x0040), "crossover ?");
    }

    #[test]
    fn every_line_of_every_table_can_be_read() {
        for table in [PHY, PORT] {
            assert_eq!(all(table).len(), table.lines().count());
            for (register, line) in all(table).into_iter().zip(table.lines()) {
                let (number, mmd) = register.place();
                let full = match mmd {
                    0 => format!("{number}"),
                    mmd => format!("{mmd}.{number}"),
                };
                assert_eq!(full, register.number, "{line}");
                for field in register.fields.split_terminator(',') {
                    let (bits, words) = field.strip_prefix(' ').unwrap().split_once(' ').unwrap();
                    let bits: Vec<u16> = bits.split(':').map(|bit| bit.parse().unwrap()).collect();
                    assert!(bits.iter().all(|bit| *bit < 16), "{line}");
                    assert!(bits.len() < 2 || bits[1] < bits[0], "{line}");
                    assert!(!words.is_empty(), "{line}");
                }
            }
        }
    }
}
