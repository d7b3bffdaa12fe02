//! What a devicetree cannot say: quirks keyed by `compatible`, of which there are none so far; and drivers put together
//! for one SoC, as far as every frame passes them: compiled for speed.
//!
//! The folder also has what an SD card takes beside image and trees: `espressobin/` for the boot script and the texts.
#![no_std]

#[cfg(target_os = "none")]
pub mod armada3720;
