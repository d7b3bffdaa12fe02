//! Consoles: one file per UART, and what they have in common.
//!
//! Before interrupts work a console is polled ([`Uart::write_byte`]); afterwards bytes wait in a buffer and the interrupt
//! handler moves them ([`Uart::queue`], [`Uart::service`]).

pub mod armada3700;
#[cfg(target_os = "none")]
pub mod pl011;

use heapless::Deque;

/// Polls of a full transmit FIFO before a character is given up. At 115200 baud one character takes 87 us; a UART
/// that accepts none for this long is not connected to anything.
const FULL_POLLS: u32 = 100_000;
/// Bytes that wait for the transmit FIFO.
pub const QUEUE: usize = 4096;
/// Bytes taken from the receive FIFO at once: the deepest holds 64, and a sender that never stops must not hold us.
const RECEIVE_BUDGET: usize = 128;

/// What is wrong with a received byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// No byte: only the overrun is reported.
    None,
    /// A break condition.
    Break,
    /// A wrong stop bit.
    Framing,
    /// A wrong parity bit.
    Parity,
}

/// One entry of the receive FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The byte.
    pub result: Result<u8, Damage>,
    /// Bytes were lost around it.
    pub overrun: bool,
}

/// A UART's registers: one byte at a time, never waiting.
pub trait Port {
    /// Sends a byte, if there is room for it in the FIFO; whether there was.
    fn send(&mut self, byte: u8) -> bool;
    /// Whether the last bit has left.
    fn is_idle(&mut self) -> bool;
    /// The oldest entry of the receive FIFO.
    fn receive(&mut self) -> Option<Received>;
    /// Chooses what interrupts: received bytes, room in the transmit FIFO.
    fn interrupt_on(&mut self, receive: bool, room: bool);
}

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
pub struct Uart<P: Port> {
    port: P,
    waiting: Deque<u8, QUEUE>,
    listens: bool,
    asks_for_room: bool,
    stuck: bool,
    counters: Counters,
}

impl<P: Port> Uart<P> {
    /// A console on a port that is set up. Touches nothing.
    pub const fn new(port: P) -> Self {
        Uart {
            port,
            waiting: Deque::new(),
            listens: false,
            asks_for_room: false,
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
        self.stuck = !(0..limit).any(|_| self.port.send(byte));
        match self.stuck {
            true => self.counters.tx_dropped += 1,
            false => self.counters.tx_bytes += 1,
        }
    }

    /// Waits until the last bit has left, but not for ever: before a reset, or before someone else takes the port.
    pub fn drain(&mut self) {
        while let Some(first) = self.waiting.pop_front() {
            self.write_now(first);
        }
        self.stuck = !(0..FULL_POLLS).any(|_| self.port.is_idle());
    }

    /// Lets received bytes interrupt.
    pub fn enable_receive(&mut self) {
        self.listens = true;
        self.port.interrupt_on(true, self.asks_for_room);
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

    /// How many bytes [`Uart::queue`] has room for.
    pub fn room(&self) -> usize {
        QUEUE - self.waiting.len()
    }

    /// The interrupt handler: moves bytes both ways until there is nothing to do. Each received byte goes to `take`.
    pub fn service(&mut self, mut take: impl FnMut(u8)) {
        for _ in 0..RECEIVE_BUDGET {
            let Some(Received { result, overrun }) = self.port.receive() else {
                break;
            };
            let counters = &mut self.counters;
            counters.rx_overrun += u64::from(overrun);
            match result {
                Ok(byte) => {
                    counters.rx_bytes += 1;
                    take(byte);
                }
                Err(Damage::None) => {}
                Err(Damage::Break) => counters.rx_break += 1,
                Err(Damage::Framing) => counters.rx_framing += 1,
                Err(Damage::Parity) => counters.rx_parity += 1,
            }
        }
        self.transmit();
    }

    /// Fills the transmit FIFO, and asks for an interrupt if something is left.
    fn transmit(&mut self) {
        while let Some(byte) = self.waiting.front() {
            if !self.port.send(*byte) {
                break;
            }
            self.waiting.pop_front();
            self.counters.tx_bytes += 1;
        }
        // The ready line stays up while there is room: it is open only while there is something to send.
        let wanted = !self.waiting.is_empty();
        if wanted != self.asks_for_room {
            self.asks_for_room = wanted;
            self.port.interrupt_on(self.listens, wanted);
        }
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl<P: Port> core::fmt::Write for Uart<P> {
    /// Polled, with carriage returns before line feeds.
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
        asks: (bool, bool),
        polls: usize,
    }

    impl Port for Slow {
        fn send(&mut self, byte: u8) -> bool {
            if self.room == 0 {
                self.polls += 1;
                return false;
            }
            self.room -= 1;
            self.sent.push(byte);
            true
        }

        fn is_idle(&mut self) -> bool {
            self.polls += 1;
            false
        }

        fn receive(&mut self) -> Option<Received> {
            None
        }

        fn interrupt_on(&mut self, receive: bool, room: bool) {
            self.asks = (receive, room);
        }
    }

    fn slow(room: usize) -> Uart<Slow> {
        Uart::new(Slow {
            room,
            sent: Vec::new(),
            asks: (false, false),
            polls: 0,
        })
    }

    #[test]
    fn what_does_not_fit_waits_for_the_interrupt() {
        let mut uart = slow(3);
        uart.queue(b"hello");
        assert_eq!(
            (&uart.port.sent[..], uart.port.asks),
            (&b"hel"[..], (false, true))
        );
        uart.port.room = 16;
        uart.service(|_| panic!("nothing was received"));
        assert_eq!(
            (&uart.port.sent[..], uart.port.asks),
            (&b"hello"[..], (false, false))
        );
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
        assert!(uart.port.polls < FULL_POLLS as usize + 1000);
        assert_eq!(uart.counters().tx_dropped, 1000);
        uart.drain();
        assert!(uart.port.polls < 3 * FULL_POLLS as usize);
        uart.port.room = 8;
        uart.write_byte(b'y');
        assert_eq!(uart.port.sent, b"y", "and works again when it does");
    }

    #[test]
    fn polled_bytes_go_behind_queued_ones() {
        let mut uart = slow(2);
        uart.queue(b"abcd");
        uart.port.room = 16;
        uart.write_byte(b'e');
        assert_eq!(uart.port.sent, b"abcde");
    }
}
