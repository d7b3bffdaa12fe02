//! The image: all its logic, buildable on the host.
//!
//! Here is what every frame passes, and the machine below it; the rest is in [`control`].
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod admission;
pub mod connections;
pub mod echo;
pub mod fast_path;
#[cfg(target_os = "none")]
pub mod machine;
pub mod network;
pub mod services;
pub mod snapshot;

pub use control::*;
