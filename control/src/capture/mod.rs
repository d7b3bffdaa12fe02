//! Packet capture, as far as it is asked for: orders, tickets, and what is told of it. `firmware::capture` does it.

pub mod order;
pub mod ticket;

pub use order::{Order, Refusal};
pub use ticket::Tickets;

/// The name that stands for the MAC's own frames, switch tags and all.
pub const CONDUIT: &str = "conduit";

/// Frames of one interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Seen at the tap.
    pub seen: u64,
    /// Of these, wanted by the filter.
    pub accepted: u64,
    /// Of these, lost because the memory was full.
    pub dropped: u64,
}

/// What is told of captures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whether there is one now.
    pub active: bool,
    /// Captures begun since start.
    pub sessions: u64,
    /// Of the present one, or the last one.
    pub counts: Counts,
    /// Bytes that wait to be sent.
    pub waiting: usize,
}

/// Who captures, as commands see it.
pub trait Captures {
    /// What is told of it.
    fn state(&self) -> State;
    /// A new ticket, good for [`ticket::VALID_S`] seconds.
    fn issue_ticket(&self, now_us: u64) -> ticket::Digits;
}
