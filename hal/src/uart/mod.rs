//! Consoles: one driver per UART.

#[cfg(target_os = "none")]
pub mod pl011;
