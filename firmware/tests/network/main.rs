//! The whole network on a model of a card: real clients' stacks on the other end of a wire that can be bad.
//!
//! ```text
//!   world.rs       the wire, the clock, what must hold after every round
//!   card.rs        a `Nic` without hardware
//!   bench.rs       a machine for commands, without hardware
//!   allocation.rs  counts allocations
//!   frames.rs      frames made by hand, for what no decent stack sends
//!   tests          drops.rs  echo.rs  errand.rs  http.rs  pool.rs  hostile.rs
//! ```
#![allow(
    clippy::unwrap_used,
    reason = "clippy takes only what stands inside #[test] for a test"
)]
#![allow(missing_docs, reason = "nobody else can use it")]

mod allocation;
mod bench;
mod card;
mod drops;
mod echo;
mod errand;
mod frames;
mod hostile;
mod http;
mod pool;
mod world;
