//! The image: all its logic, buildable on the host.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod addressing;
pub mod admission;
pub mod api;
pub mod bootargs;
pub mod connections;
pub mod crash;
pub mod drops;
pub mod echo;
pub mod fast_path;
pub mod http;
pub mod latency;
#[cfg(target_os = "none")]
pub mod machine;
pub mod metrics;
pub mod neighbours;
pub mod network;
pub mod page;
pub mod ping;
pub mod random;
pub mod services;
pub mod shell;
pub mod snapshot;
pub mod status;
pub mod trace;
