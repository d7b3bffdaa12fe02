//! The Armada 3700's own UART (`marvell,armada-3700-uart`), register layout of UART0.
//!
//! The divisor is the boot loader's business: newer ones run the port from a PLL, and whoever writes a divisor without
//! knowing the clock loses the console.
//!
//! Receive and transmit have lines of their own at the interrupt controller, and a common one; one handler serves all.

use super::{Damage, Port, Received};
use crate::regs::{Bus, Reg, Ro, Roc, Rw, Wo};
use tock_registers::register_bitfields;

register_bitfields![u32,
    Data [ BYTE OFFSET(0) NUMBITS(8) [] ],
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
const RECEIVE: Reg<Data::Register, Roc> = Reg::at(0x00);
/// TSH, 0x04.
const TRANSMIT: Reg<(), Wo> = Reg::at(0x04);
/// Control, 0x08.
const CONTROL: Reg<Control::Register, Rw> = Reg::at(0x08);
/// Status, 0x0c. Errors go with reading RBR.
const STATUS: Reg<Status::Register, Ro> = Reg::at(0x0c);

/// The registers.
#[derive(Debug)]
pub struct Registers<B: Bus> {
    bus: B,
}

impl<B: Bus> Registers<B> {
    /// A UART that the boot loader has set up. Touches nothing.
    pub const fn new(bus: B) -> Self {
        Registers { bus }
    }
}

impl<B: Bus> Port for Registers<B> {
    fn send(&mut self, byte: u8) -> bool {
        let room = !STATUS.read(&mut self.bus).is_set(Status::TX_FIFO_FULL);
        if room {
            TRANSMIT.set(&mut self.bus, byte.into());
        }
        room
    }

    fn is_idle(&mut self) -> bool {
        STATUS.read(&mut self.bus).is_set(Status::TX_EMPTY)
    }

    fn receive(&mut self) -> Option<Received> {
        // The flags belong to the byte that RBR gives next, and go with it.
        let status = STATUS.read(&mut self.bus);
        let ready = status.is_set(Status::RX_READY);
        let (broken, overrun) = (status.is_set(Status::BREAK), status.is_set(Status::OVERRUN));
        if !ready && !broken && !overrun {
            return None;
        }
        let byte = RECEIVE.take(&mut self.bus).read(Data::BYTE) as u8;
        let result = match () {
            () if broken => Err(Damage::Break),
            () if status.is_set(Status::FRAMING) => Err(Damage::Framing),
            () if status.is_set(Status::PARITY) => Err(Damage::Parity),
            () if !ready => Err(Damage::None),
            () => Ok(byte),
        };
        Some(Received { result, overrun })
    }

    fn interrupt_on(&mut self, receive: bool, room: bool) {
        CONTROL.modify(
            &mut self.bus,
            Control::RX_READY_IRQ.val(receive.into())
                + Control::TX_READY_IRQ.val(room.into())
                + Control::ERROR_IRQS.val(0),
        );
    }
}
