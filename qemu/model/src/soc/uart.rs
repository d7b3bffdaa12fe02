//! The armada-3700 UART in both of its register layouts.
//!
//! Bytes leave at once and arrive into a FIFO of 64; the divisor is storage. Spec: Linux mvebu-uart.c, U-Boot
//! serial_mvebu_a3700.c.

use crate::bus::Env;
use std::collections::VecDeque;

/// Bytes the receive FIFO holds. Inherited: the layout's name for it in Linux, 64 entries.
pub const RX_FIFO: usize = 64;

/// Which of the two register layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// UART0.
    Standard,
    /// UART1.
    Extended,
}

/// Levels of a UART's interrupt lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lines {
    /// Transmitter ready.
    pub tx: bool,
    /// Byte received.
    pub rx: bool,
}

const TX_FIFO_EMPTY: u32 = 1 << 13;
const TX_EMPTY: u32 = 1 << 6;
const OVERRUN: u32 = 1;

/// One port.
#[derive(Debug)]
pub struct Uart {
    name: &'static str,
    layout: Layout,
    control: u32,
    /// Extended layout only: 0x20, ready interrupts.
    ready_control: u32,
    divisor: u32,
    oversampling: u32,
    received: VecDeque<u8>,
    overrun: bool,
    /// What the software has sent since the host looked.
    pub sent: Vec<u8>,
}

impl Uart {
    /// A port as the boot firmware leaves it: running, no interrupts.
    #[must_use]
    pub fn new(name: &'static str, layout: Layout) -> Self {
        Self {
            name,
            layout,
            control: 0,
            ready_control: 0,
            // Observed in U-Boot's hand-over arithmetic: 25 MHz / (16 x 14).
            divisor: 14,
            oversampling: 0,
            received: VecDeque::new(),
            overrun: false,
            sent: Vec::new(),
        }
    }

    fn ready_bits(&self) -> (u32, u32) {
        match self.layout {
            Layout::Standard => (1 << 5, 1 << 4),
            Layout::Extended => (1 << 15, 1 << 14),
        }
    }

    fn status(&self) -> u32 {
        let (tx, rx) = self.ready_bits();
        let received = if self.received.is_empty() { 0 } else { rx };
        TX_FIFO_EMPTY | TX_EMPTY | tx | received | u32::from(self.overrun)
    }

    /// Reads a register.
    pub fn read(&mut self, env: &mut Env, offset: u32) -> u32 {
        match (self.layout, offset) {
            (Layout::Standard, 0x00) | (Layout::Extended, 0x18) => {
                if self.layout == Layout::Standard {
                    self.overrun = false;
                }
                u32::from(self.received.pop_front().unwrap_or(0))
            }
            (Layout::Standard, 0x04) | (Layout::Extended, 0x1c) => 0,
            (Layout::Standard, 0x08) | (Layout::Extended, 0x04) => self.control,
            (Layout::Extended, 0x20) => self.ready_control,
            (_, 0x0c) => self.status(),
            (_, 0x10) => self.divisor,
            (_, 0x14) => self.oversampling,
            _ => {
                env.guest_error(self.name, format!("read of unknown register {offset:#04x}"));
                0
            }
        }
    }

    /// Writes a register.
    pub fn write(&mut self, env: &mut Env, offset: u32, value: u32) {
        match (self.layout, offset) {
            (Layout::Standard, 0x04) | (Layout::Extended, 0x1c) => self.sent.push(value as u8),
            (Layout::Standard, 0x08) | (Layout::Extended, 0x04) => {
                if value & (1 << 14 | 1 << 31) != 0 {
                    self.received.clear();
                }
                self.control = value;
            }
            (Layout::Extended, 0x20) => self.ready_control = value,
            (_, 0x0c) => {
                if value & OVERRUN != 0 {
                    self.overrun = false;
                }
            }
            (_, 0x10) => self.divisor = value,
            (_, 0x14) => self.oversampling = value,
            _ => env.guest_error(
                self.name,
                format!("write of {value:#x} to unknown register {offset:#04x}"),
            ),
        }
    }

    /// Free places of the receive FIFO.
    #[must_use]
    pub fn room(&self) -> usize {
        RX_FIFO - self.received.len()
    }

    /// A byte arrives; with no room it is lost and the overrun bit tells.
    pub fn receive(&mut self, byte: u8) {
        if self.room() == 0 {
            self.overrun = true;
        } else {
            self.received.push_back(byte);
        }
    }

    /// Levels of the interrupt lines.
    #[must_use]
    pub fn lines(&self) -> Lines {
        let (tx_enabled, rx_enabled) = match self.layout {
            Layout::Standard => (self.control & 1 << 5 != 0, self.control & 1 << 4 != 0),
            Layout::Extended => (
                self.ready_control & 1 << 6 != 0,
                self.ready_control & 1 << 5 != 0,
            ),
        };
        let error = self.overrun && self.control & OVERRUN != 0;
        Lines {
            tx: tx_enabled,
            rx: error || rx_enabled && !self.received.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_send_receive_and_interrupt() {
        for (layout, rbr, tsh, control, tx_enable, rx_enable, rx_ready) in [
            (Layout::Standard, 0x00, 0x04, 0x08, 1 << 5, 1 << 4, 1 << 4),
            (Layout::Extended, 0x18, 0x1c, 0x20, 1 << 6, 1 << 5, 1 << 14),
        ] {
            let (mut env, mut uart) = (Env::default(), Uart::new("uart", layout));
            uart.write(&mut env, tsh, u32::from(b'x'));
            assert_eq!(uart.sent, b"x");
            assert_eq!(uart.lines(), Lines::default());
            uart.write(&mut env, control, tx_enable | rx_enable);
            assert_eq!(
                uart.lines(),
                Lines {
                    tx: true,
                    rx: false
                }
            );
            uart.receive(b'y');
            assert!(uart.lines().rx);
            assert_ne!(uart.read(&mut env, 0x0c) & rx_ready, 0);
            assert_eq!(uart.read(&mut env, rbr), u32::from(b'y'));
            assert!(!uart.lines().rx);
            assert_eq!(env.guest_error_count(), 0);
            uart.read(&mut env, 0x30);
            assert_eq!(env.guest_error_count(), 1);
        }
    }

    #[test]
    fn a_full_fifo_overruns_and_says_so_once() {
        let (mut env, mut uart) = (Env::default(), Uart::new("uart0", Layout::Standard));
        (0..=RX_FIFO).for_each(|_| uart.receive(0));
        assert_eq!(uart.read(&mut env, 0x0c) & OVERRUN, OVERRUN);
        uart.read(&mut env, 0);
        assert_eq!(uart.read(&mut env, 0x0c) & OVERRUN, 0);
    }
}
