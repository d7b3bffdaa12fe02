//! What is to be captured, as the query of a request says.

use hal::net::bpf::{self, Program};
use heapless::String;

use super::ticket::Digits;

/// Most bytes of a frame that can be kept.
pub const MAX_SNAPLEN: u32 = 2048;
/// Longest text of a filter that is told again in the file.
const MAX_TEXT: usize = 128;

/// Longest name of an interface.
type Name = String<15>;

/// An order.
#[derive(Clone, Debug)]
pub struct Order {
    /// The interface, or `conduit`; empty for all interfaces.
    pub interface: Name,
    /// Most bytes of a frame to keep.
    pub snaplen: u32,
    /// Frames after which it ends.
    pub count: u64,
    /// Which frames.
    pub filter: Program,
    /// The same in words.
    pub text: String<MAX_TEXT>,
    /// What lets it in, if it is not the token.
    pub ticket: Digits,
}

/// Why there is no capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This machine has no memory for captures.
    Off,
    /// Something in the query is unknown, or makes no sense.
    Query,
    /// The filter is no program, or not one that ends.
    Filter(bpf::Error),
    /// No interface has this name.
    Interface,
    /// There is a capture already.
    Busy,
}

impl Refusal {
    /// In words.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Off => "there is no memory for captures",
            Self::Query => "the query is not if=, snaplen=, count=, filter=, text= and ticket=",
            Self::Filter(_) => "the filter is not a program of classic BPF that is sure to end",
            Self::Interface => "no interface has this name",
            Self::Busy => "there is a capture already",
        }
    }
}

impl Default for Order {
    fn default() -> Self {
        Order {
            interface: Name::new(),
            snaplen: MAX_SNAPLEN,
            count: u64::MAX,
            filter: Program::default(),
            text: String::new(),
            ticket: String::new(),
        }
    }
}

impl Order {
    /// Reads `if=wan&snaplen=128&count=10&filter=HEX&text=arp&ticket=HEX`, each of which may be left out.
    ///
    /// # Errors
    ///
    /// [`Refusal::Query`], [`Refusal::Filter`].
    pub fn parse(query: &str) -> Result<Self, Refusal> {
        let mut order = Order::default();
        for (key, value) in pairs(query) {
            let number = || {
                let number = value.parse::<u64>().ok().filter(|number| *number > 0);
                number.ok_or(Refusal::Query)
            };
            match key {
                "if" => order.interface = as_it_is(value)?,
                "snaplen" => order.snaplen = number()?.min(MAX_SNAPLEN.into()) as u32,
                "count" => order.count = number()?,
                "filter" => {
                    order.filter = Program::parse(value.as_bytes()).map_err(Refusal::Filter)?;
                }
                "text" => order.text = plain(value)?,
                "ticket" => order.ticket = as_it_is(value)?,
                _ => return Err(Refusal::Query),
            }
        }
        Ok(order)
    }
}

/// The value of `ticket=`.
pub fn ticket(query: &str) -> Option<&str> {
    let mut pairs = pairs(query);
    pairs
        .find(|(key, _)| *key == "ticket")
        .map(|(_, value)| value)
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let items = query.split('&').filter(|item| !item.is_empty());
    items.map(|item| item.split_once('=').unwrap_or((item, "")))
}

/// A value that has no reason for escapes.
fn as_it_is<const N: usize>(value: &str) -> Result<String<N>, Refusal> {
    String::try_from(value).map_err(|_| Refusal::Query)
}

/// A value with its escapes undone.
fn plain(value: &str) -> Result<String<MAX_TEXT>, Refusal> {
    let mut bytes = heapless::Vec::<u8, MAX_TEXT>::new();
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let byte = match first {
            b'%' => {
                let (digits, after) = rest.split_first_chunk::<2>().ok_or(Refusal::Query)?;
                rest = after;
                let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(Refusal::Query);
                (digit(digits[0])? * 16 + digit(digits[1])?) as u8
            }
            b'+' => b' ',
            byte => *byte,
        };
        bytes.push(byte).map_err(|_| Refusal::Query)?;
    }
    String::from_utf8(bytes).map_err(|_| Refusal::Query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_is_wanted() {
        let order = Order::parse("").unwrap();
        assert_eq!(
            (order.interface.as_str(), order.snaplen, order.count),
            ("", MAX_SNAPLEN, u64::MAX)
        );
        assert!(order.filter.is_empty());
        let order = Order::parse(
            "if=wan&snaplen=96&count=3&filter=0006000000000001&text=udp+port%207&ticket=aa",
        )
        .unwrap();
        assert_eq!(
            (order.interface.as_str(), order.snaplen, order.count),
            ("wan", 96, 3)
        );
        assert_eq!(order.text.as_str(), "udp port 7");
        assert!(!order.filter.is_empty());
        assert_eq!(Order::parse("snaplen=99999").unwrap().snaplen, MAX_SNAPLEN);
        assert_eq!(order.ticket.as_str(), "aa");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for query in [
            "snaplen=0",
            "snaplen=",
            "snaplen=-1",
            "count=x",
            "iff=wan",
            "wan",
            "text=%",
            "text=%g0",
            "text=%ff",
            "if=a-name-that-is-far-too-long",
        ] {
            assert_eq!(Order::parse(query).unwrap_err(), Refusal::Query, "{query}");
        }
        let filter = Order::parse("filter=0007000000000000").unwrap_err();
        assert_eq!(filter, Refusal::Filter(bpf::Error::Open));
        let filter = Order::parse("filter=").unwrap_err();
        assert_eq!(filter, Refusal::Filter(bpf::Error::Length));
    }
}
