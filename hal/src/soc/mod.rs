//! What surrounds the devices on a chip: clocks, resets, pins, watchdogs.

pub mod armada37xx;
