//! The Armada 3700's own UART (`marvell,armada-3700-uart`), register layout of UART0.
//!
//! Before interrupts work it is a polled console ([`Uart::write_byte`]); afterwards bytes wait in a buffer and the
//! interrupt handler moves them ([`Uart::queue`], [`Uart::service`]). The divisor is the boot loader's business: newer
//! ones run the port from a PLL, and whoever writes a divisor without knowing the clock loses the console.
//!
//! Receive and transmit have lines of their own at the interrupt controller and a summary; one handler serves all.

use crate::regs::{Bus, Reg, Ro, Roc, Rw, Wo};
use heapless::Deque;
use tock_registers::register_bitfields;

register_bitfields![u32,
    Received [ BYTE OFFSET(0) NUMBITS(8) [] ],
    Control [
        TX_READY_IRQ OFFSET(5) NUMBITS(1) [],
        RX_READY_IRQ OFFSET(4) NUMBITS(1) [],
        /// Break, framing, parity, overrun.
        ERROR_IRQS OFFSET(0) NUMBITS(4) []
    ],
    Status [
        TX_FIFO_FULL OFFSET(11) NUMBITS(1) [],
        TX_EMPTY OFFSET(6) NUMBITS(1) [],
        RX_READY OFFSET(4) NUMBITS(1) [],
        BREAK OFFSET(3) NUMBITS(1) [],
        FRAMING OFFSET(2) NUMBITS(1) [],
        PARITY OFFSET(1) NUMBITS(1) [],
        OVERRUN OFFSET(0) NUMBITS(1) []
    ]
];

/// RBR, 0x00.
const RECEIVE: Reg<Received::Register, Roc> = Reg::at(0x00);
/// TSH, 0x04.
const TRANSMIT: Reg<(), Wo> = Reg::at(0x04);
/// Control, 0x08.
const CONTROL: Reg<Control::Register, Rw> = Reg::at(0x08);
/// Status, 0x0c. Errors go with reading RBR.
const STATUS: Reg<Status::Register, Ro> = Reg::at(0x0c);

/// Polls of a full transmit FIFO before a character is given up. At 115200 baud one character takes 87 us; a UART
/// that accepts none for this long is not connected to anything.
const FULL_POLLS: u32 = 100_000;
/// Bytes that wait for the transmit FIFO.
pub const QUEUE: usize = 4096;
/// Bytes taken from the receive FIFO at once: it holds 64, and a sender that never stops must not hold us.
const RECEIVE_BUDGET: usize = 128;

/// What was counted since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes received whole.
    pub rx_bytes: u64,
    /// Times the receive FIFO overran.
    pub rx_overrun: u64,
    /// Bytes with a wrong stop bit.
    pub rx_framing: u64,
    /// Bytes with a wrong parity bit.
    pub rx_parity: u64,
    /// Break conditions.
    pub rx_break: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Bytes dropped because the buffer was full, or the UART accepted none.
    pub tx_dropped: u64,
}

/// The console.
#[derive(Debug)]
pub struct Uart<B: Bus> {
    bus: B,
    waiting: Deque<u8, QUEUE>,
    stuck: bool,
    counters: Counters,
}

impl<B: Bus> Uart<B> {
    /// Takes over a UART that the boot loader has set up. Touches nothing.
    pub const fn new(bus: B) -> Self {
        Uart {
            bus,
            waiting: Deque::new(),
            stuck: false,
            counters: Counters {
                rx_bytes: 0,
                rx_overrun: 0,
                rx_framing: 0,
                rx_parity: 0,
                rx_break: 0,
                tx_bytes: 0,
                tx_dropped: 0,
            },
        }
    }

    /// Writes one byte, after all that was queued, waiting for room in the FIFO, but not for ever.
    pub fn write_byte(&mut self, byte: u8) {
        while let Some(first) = self.waiting.pop_front() {
            self.write_now(first);
        }
        self.write_now(byte);
    }

    fn write_now(&mut self, byte: u8) {
        let limit = if self.stuck { 1 } else { FULL_POLLS };
        let bus = &mut self.bus;
        self.stuck = !(0..limit).any(|_| !STATUS.read(bus).is_set(Status::TX_FIFO_FULL));
        if self.stuck {
            self.counters.tx_dropped += 1;
        } else {
            TRANSMIT.set(bus, byte.into());
            self.counters.tx_bytes += 1;
        }
    }

    /// Waits until the last bit has left, but not for ever: before a reset, or before someone else takes the port.
    pub fn drain(&mut self) {
        while let Some(first) = self.waiting.pop_front() {
            self.write_now(first);
        }
        let bus = &mut self.bus;
        self.stuck = !(0..FULL_POLLS).any(|_| STATUS.read(bus).is_set(Status::TX_EMPTY));
    }

    /// Lets received bytes interrupt.
    pub fn enable_receive(&mut self) {
        CONTROL.modify(
            &mut self.bus,
            Control::RX_READY_IRQ::SET + Control::ERROR_IRQS.val(0),
        );
    }

    /// Queues bytes for the interrupt handler and returns at once. What finds no room is dropped and counted.
    pub fn queue(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.waiting.push_back(*byte).is_err() {
                self.counters.tx_dropped += 1;
            }
        }
        self.transmit();
    }

    /// The interrupt handler: moves bytes both ways until there is nothing to do. Each received byte goes to `take`.
    pub fn service(&mut self, mut take: impl FnMut(u8)) {
        for _ in 0..RECEIVE_BUDGET {
            // The flags belong to the byte that RBR gives next, and go with it.
            let status = STATUS.read(&mut self.bus);
            let (broken, framing) = (status.is_set(Status::BREAK), status.is_set(Status::FRAMING));
            let (parity, overrun) = (
                status.is_set(Status::PARITY),
                status.is_set(Status::OVERRUN),
            );
            if !status.is_set(Status::RX_READY) && !broken && !overrun {
                break;
            }
            let byte = RECEIVE.take(&mut self.bus).read(Received::BYTE) as u8;
            self.counters.rx_overrun += u64::from(overrun);
            self.counters.rx_break += u64::from(broken);
            self.counters.rx_framing += u64::from(framing && !broken);
            self.counters.rx_parity += u64::from(parity);
            if status.is_set(Status::RX_READY) && !broken && !framing && !parity {
                self.counters.rx_bytes += 1;
                take(byte);
            }
        }
        self.transmit();
    }

    /// Fills the transmit FIFO, and asks for an interrupt if something is left.
    fn transmit(&mut self) {
        while !self.waiting.is_empty() {
            if STATUS.read(&mut self.bus).is_set(Status::TX_FIFO_FULL) {
                break;
            }
            let Some(byte) = self.waiting.pop_front() else {
                break;
            };
            TRANSMIT.set(&mut self.bus, byte.into());
            self.counters.tx_bytes += 1;
        }
        // The ready line stays up while there is room: it is open only while there is something to send.
        let wanted = u32::from(!self.waiting.is_empty());
        let control = CONTROL.read(&mut self.bus);
        if control.read(Control::TX_READY_IRQ) != wanted {
            CONTROL.modify(&mut self.bus, Control::TX_READY_IRQ.val(wanted));
        }
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl<B: Bus> core::fmt::Write for Uart<B> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.write_byte(b'\r');
            }
            self.write_byte(byte);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UART whose FIFO takes `room` bytes; everything else stands still.
    struct Slow {
        room: usize,
        sent: Vec<u8>,
        control: u32,
        polls: usize,
    }

    impl Bus for Slow {
        fn read(&mut self, offset: u32) -> u32 {
            match offset {
                0x08 => self.control,
                0x0c if self.room == 0 => {
                    self.polls += 1;
                    1 << 11
                }
                0x0c => 0,
                _ => panic!("{offset:#x} is not to be read"),
            }
        }

        fn write(&mut self, offset: u32, value: u32) {
            match offset {
                0x04 => {
                    self.room = self.room.checked_sub(1).expect("written into a full FIFO");
                    self.sent.push(value as u8);
                }
                0x08 => self.control = value,
                _ => panic!("{offset:#x} is not to be written"),
            }
        }
    }

    fn slow(room: usize) -> Uart<Slow> {
        Uart::new(Slow {
            room,
            sent: Vec::new(),
            control: 0,
            polls: 0,
        })
    }

    #[test]
    fn what_does_not_fit_waits_for_the_interrupt() {
        let mut uart = slow(3);
        uart.queue(b"hello");
        assert_eq!(
            (&uart.bus.sent[..], uart.bus.control),
            (&b"hel"[..], 1 << 5)
        );
        uart.bus.room = 16;
        uart.service(|_| panic!("nothing was received"));
        assert_eq!((&uart.bus.sent[..], uart.bus.control), (&b"hello"[..], 0));
        assert_eq!(uart.counters().tx_bytes, 5);
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let mut uart = slow(0);
        uart.queue(&[b'x'; QUEUE + 3]);
        assert_eq!(uart.counters().tx_dropped, 3);
    }

    #[test]
    fn a_dead_port_costs_time_once() {
        let mut uart = slow(0);
        for _ in 0..1000 {
            uart.write_byte(b'x');
        }
        assert!(uart.bus.polls < FULL_POLLS as usize + 1000);
        assert_eq!(uart.counters().tx_dropped, 1000);
        uart.drain();
        assert!(uart.bus.polls < 3 * FULL_POLLS as usize);
        uart.bus.room = 8;
        uart.write_byte(b'y');
        assert_eq!(uart.bus.sent, b"y", "and works again when it does");
    }

    #[test]
    fn polled_bytes_go_behind_queued_ones() {
        let mut uart = slow(2);
        uart.queue(b"abcd");
        uart.bus.room = 16;
        uart.write_byte(b'e');
        assert_eq!(uart.bus.sent, b"abcde");
    }
}
