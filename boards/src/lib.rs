//! What a devicetree cannot say: quirks keyed by `compatible`; none so far.
//!
//! The folder also has what an SD card takes beside image and trees: `espressobin/` for the boot script and the texts.
#![no_std]
