//! Mechanism, no policy: one driver per hardware block.
#![cfg_attr(not(test), no_std)]

pub mod devicetree;
