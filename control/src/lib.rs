//! The control plane: everything that is not done for every frame. Compiled for size.
//!
//! Knows no frames and no poll loop: `firmware` has both, and shows itself to commands and pages by the traits here.
//!
//! | module | is about |
//! | --- | --- |
//! | `addressing` | DHCP, SLAAC, link-local addresses, mDNS |
//! | `bootargs` | the command line |
//! | `capture` | packets as they pass: orders and tickets |
//! | `crash` | what outlives a reset |
//! | `drops` | why a received frame went nowhere |
//! | `http` | requests and answers |
//! | `latency` | how long answers take |
//! | `neighbours`, `ping` | who is there, and how far |
//! | `page`, `metrics`, `api` | the machine's state as HTML, Prometheus text, JSON |
//! | `assets` | what the page is drawn and kept alive with |
//! | `random` | numbers nobody guesses |
//! | `selftest` | is the board's hardware sound? |
//! | `shell` | commands, on the serial console and over HTTP |
//! | `status` | the machine's state |
//! | `switch` | the sequence that brings up the board's switch, and watches it |
//! | `trace` | the last events |
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod addressing;
pub mod api;
pub mod assets;
pub mod bootargs;
pub mod capture;
pub mod crash;
pub mod drops;
pub mod http;
pub mod latency;
pub mod metrics;
pub mod neighbours;
pub mod page;
pub mod ping;
pub mod random;
pub mod selftest;
pub mod shell;
pub mod status;
#[cfg(target_os = "none")]
pub mod switch;
pub mod trace;
