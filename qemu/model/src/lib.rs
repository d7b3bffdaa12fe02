//! The ESPRESSObin's hardware, register by register: Armada 3720 blocks and the 88E6341 switch.
//!
//! Host tests drive the blocks directly; QEMU drives the whole [`board`] through a C ABI. Nothing here knows a driver:
//! the model is written from the hardware facts a second time, so that one misreading cannot hide on both sides.

pub mod board;
pub mod bus;
pub mod doubts;
pub mod faults;
pub mod mdio;
pub mod neta;
pub mod phy;
pub mod prng;
pub mod script;
pub mod soc;
pub mod switch;
