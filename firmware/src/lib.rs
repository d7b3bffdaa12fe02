//! The image: all its logic, buildable on the host.
#![cfg_attr(not(test), no_std)]

pub mod addressing;
pub mod bootargs;
pub mod http;
