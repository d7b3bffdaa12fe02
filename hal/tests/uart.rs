//! The UART against the machine model.

mod board;

use board::{Machine, TestBus};
use core::fmt::Write;
use espressobin_model::doubts::Doubts;
use hal::regs::Bus;
use hal::uart::{Uart, armada3700::Registers};

const UART0: u32 = 0x1_2000;
/// Bits of the board's lines: transmit (SPI 12) and receive (SPI 13).
const TX_LINE: u32 = 1 << 1;
const RX_LINE: u32 = 1 << 2;

fn console() -> (Machine, Uart<Registers<TestBus>>) {
    let machine = Machine::new(Doubts::default());
    let uart = Uart::new(Registers::new(machine.bus(UART0)));
    (machine, uart)
}

fn lines(machine: &Machine) -> u32 {
    machine.pass_us(1);
    machine.0.borrow().0.lines()
}

#[test]
fn text_leaves_with_carriage_returns_and_the_divisor_stays() {
    let (machine, mut uart) = console();
    let before = (machine.bus(UART0).read(0x10), machine.bus(UART0).read(0x14));
    writeln!(uart, "hello").unwrap();
    uart.drain();
    assert_eq!(machine.0.borrow().0.uart0.sent, b"hello\r\n");
    let after = (machine.bus(UART0).read(0x10), machine.bus(UART0).read(0x14));
    assert_eq!(before, after);
    machine.expect_no_guest_errors();
}

#[test]
fn received_bytes_interrupt_once_asked_for() {
    let (machine, mut uart) = console();
    let receive = |byte| machine.0.borrow_mut().0.uart0.receive(byte);
    receive(b'a');
    assert_eq!(lines(&machine) & RX_LINE, 0);
    uart.enable_receive();
    assert_ne!(lines(&machine) & RX_LINE, 0);
    receive(b'b');
    let mut got = Vec::new();
    uart.service(|byte| got.push(byte));
    assert_eq!(got, b"ab");
    assert_eq!(
        lines(&machine) & (RX_LINE | TX_LINE),
        0,
        "no storm afterwards"
    );
    machine.expect_no_guest_errors();
}

#[test]
fn an_overrun_is_counted_once() {
    let (machine, mut uart) = console();
    uart.enable_receive();
    for n in 0..70 {
        machine.0.borrow_mut().0.uart0.receive(n);
    }
    let mut got = Vec::new();
    uart.service(|byte| got.push(byte));
    assert_eq!(got, (0..64).collect::<Vec<u8>>());
    assert_eq!(
        (uart.counters().rx_overrun, uart.counters().rx_bytes),
        (1, 64)
    );
    assert_eq!(lines(&machine) & RX_LINE, 0);
}

#[test]
fn queued_bytes_leave_without_a_storm() {
    let (machine, mut uart) = console();
    uart.queue(b"queued");
    uart.service(|_| ());
    assert_eq!(machine.0.borrow().0.uart0.sent, b"queued");
    assert_eq!(lines(&machine) & TX_LINE, 0);
    machine.expect_no_guest_errors();
}
