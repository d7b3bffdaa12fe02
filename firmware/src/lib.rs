//! The image: all its logic, buildable on the host.
#![cfg_attr(not(test), no_std)]

pub mod addressing;
pub mod api;
pub mod bootargs;
pub mod http;
pub mod metrics;
pub mod page;
pub mod status;
