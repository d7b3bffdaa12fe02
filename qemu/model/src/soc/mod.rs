//! The Armada 3720 around its MAC: what drivers touch on the way to the network.

pub mod pins;
pub mod uart;
pub mod watchdog;
