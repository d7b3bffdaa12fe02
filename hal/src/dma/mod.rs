//! Memory that devices read and write: who owns which buffer ([`ring`]), and what the caches must be told ([`cache`]).

pub mod cache;
pub mod ring;

pub use cache::{Dma, LINE};
pub use ring::Ring;
