//! The image: all its logic, buildable on the host.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod addressing;
pub mod bootargs;
pub mod fast_path;
pub mod http;
#[cfg(target_os = "none")]
pub mod machine;
