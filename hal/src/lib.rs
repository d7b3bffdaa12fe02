//! Mechanism, no policy: one driver per hardware block.
//!
//! Nothing here prints, decides or knows a board: drivers return errors and count, `firmware` does the rest.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

#[cfg(target_os = "none")]
pub mod arch;
pub mod devicetree;
pub mod dma;
pub mod net;
pub mod regs;
pub mod soc;
pub mod time;
pub mod uart;
