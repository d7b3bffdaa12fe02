//! Tickets: an address for one request, for those who cannot send a token along (a link, `wireshark -i`).
//!
//! A ticket is 128 bits of SipHash under a key that was drawn at start: who has seen some cannot tell the next one, and
//! learns nothing of our other random numbers. It is good once, and for a minute.

#![expect(deprecated, reason = "core has no other keyed hash")]

use core::hash::{Hasher, SipHasher};
use heapless::String;

use crate::random::Random;

/// Hexadecimal digits of a ticket.
const DIGITS: usize = 32;
/// A ticket.
pub type Digits = String<DIGITS>;
/// How long a ticket is good, in seconds.
pub const VALID_S: u64 = 60;
/// Tickets at once; the oldest gives way.
const TICKETS: usize = 4;

#[derive(Clone, Copy, Debug, Default)]
struct Ticket {
    bits: [u64; 2],
    /// When it ends, in microseconds; 0: it was used, or there is none.
    ends_us: u64,
}

/// The tickets that are good.
#[derive(Debug)]
pub struct Tickets {
    key: [u64; 2],
    issued: u64,
    tickets: [Ticket; TICKETS],
}

impl Tickets {
    /// None yet; `random` gives the key.
    pub fn new(random: &mut Random) -> Self {
        Tickets {
            key: [random.draw(), random.draw()],
            issued: 0,
            tickets: Default::default(),
        }
    }

    /// A new one.
    pub fn issue(&mut self, now_us: u64) -> Digits {
        let bits = [0, 1].map(|half| {
            let mut hasher = SipHasher::new_with_keys(self.key[0], self.key[1]);
            hasher.write_u64(self.issued << 1 | half);
            hasher.finish()
        });
        self.tickets[self.issued as usize % TICKETS] = Ticket {
            bits,
            ends_us: now_us + VALID_S * 1_000_000,
        };
        self.issued += 1;
        let mut digits = String::new();
        for shift in (0..128).step_by(4).rev() {
            let digit = bits[shift / 64] >> (shift % 64) & 0xf;
            // There is room for all.
            let _ = digits.push(char::from_digit(digit as u32, 16).unwrap_or('0'));
        }
        digits
    }

    /// Whether these are the digits of a ticket that is good. `take`: from now on it is not.
    ///
    /// All are compared to the end, whichever fits.
    pub fn admits(&mut self, digits: &str, now_us: u64, take: bool) -> bool {
        let Ok(bits) = u128::from_str_radix(digits, 16) else {
            return false;
        };
        let given = [bits as u64, (bits >> 64) as u64];
        let mut good = false;
        for ticket in &mut self.tickets {
            let [a, b] = [ticket.bits[0] ^ given[0], ticket.bits[1] ^ given[1]];
            let fits = core::hint::black_box(a | b) == 0 && now_us < ticket.ends_us;
            good |= fits;
            if fits && take {
                ticket.ends_us = 0;
            }
        }
        good && digits.len() == DIGITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_once_and_for_a_minute() {
        let mut tickets = Tickets::new(&mut Random::new(None));
        let end = VALID_S * 1_000_000;
        let (first, second) = (tickets.issue(0), tickets.issue(1));
        assert_ne!(first, second);
        assert_eq!(first.len(), DIGITS);
        for none in [
            "",
            "0",
            &first[1..],
            "g",
            &"0".repeat(DIGITS),
            &"0".repeat(99),
        ] {
            assert!(!tickets.admits(none, 0, true), "{none}");
        }
        assert!(tickets.admits(&first, 5, false));
        assert!(tickets.admits(&first, end - 1, true));
        assert!(!tickets.admits(&first, end - 1, true), "used");
        assert!(tickets.admits(&second, end, false));
        assert!(!tickets.admits(&second, end + 1, true), "too late");
        let oldest = tickets.issue(0);
        for _ in 0..TICKETS {
            tickets.issue(0);
        }
        assert!(!tickets.admits(&oldest, 0, true), "given way");
    }
}
