//! Consoles: one driver per UART.

pub mod armada3700;
#[cfg(target_os = "none")]
pub mod pl011;
