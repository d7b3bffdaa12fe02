//! Arm PL011 (`arm,pl011`), through the crate `arm-pl011-uart`. The line settings are those we were handed; a port that
//! nobody has enabled is.

use super::{Damage, Port, Received};
use arm_pl011_uart::{Error, Interrupts, PL011Registers, UniqueMmioPointer};
use core::ptr::NonNull;

/// The control register, with what sending and receiving take: `UARTEN`, `TXE` and `RXE`. Spec: PL011 TRM 3.3.8.
const UARTCR: usize = 0x30;
const ENABLED: u32 = 1 << 0 | 1 << 8 | 1 << 9;

/// The registers.
pub struct Registers {
    uart: arm_pl011_uart::Uart<'static>,
}

impl Registers {
    /// Takes over a PL011 as the boot loader has set it up, or enables it: without a loader, as on some emulators, it
    /// may still be off.
    ///
    /// # Safety
    ///
    /// `base` is the address of a PL011 from the devicetree, mapped as device memory, used by nobody else.
    #[expect(unsafe_code, reason = "a driver starts from an address")]
    pub unsafe fn new(base: usize) -> Option<Self> {
        let registers = NonNull::new(base as *mut PL011Registers)?;
        let control = base + UARTCR;
        // SAFETY: as promised by our caller. Assembly, because a hypervisor cannot emulate every access that a compiler
        // may choose, and the crate cannot enable without setting a baud rate, for which it would need the clock.
        unsafe {
            let found: u32;
            core::arch::asm!("ldr {:w}, [{}]", out(reg) found, in(reg) control, options(nostack));
            if found & ENABLED != ENABLED {
                let wanted = found | ENABLED;
                core::arch::asm!("str {:w}, [{}]", in(reg) wanted, in(reg) control, options(nostack));
            }
        }
        // SAFETY: as promised by our caller.
        let uart = arm_pl011_uart::Uart::new(unsafe { UniqueMmioPointer::new(registers) });
        Some(Registers { uart })
    }
}

impl Port for Registers {
    fn send(&mut self, byte: u8) -> bool {
        let room = !self.uart.is_tx_fifo_full();
        if room {
            self.uart.write_word(byte);
        }
        room
    }

    fn is_idle(&mut self) -> bool {
        !self.uart.is_busy()
    }

    fn receive(&mut self) -> Option<Received> {
        let (result, overrun) = match self.uart.read_word() {
            Ok(None) => return None,
            Ok(Some(byte)) => (Ok(byte), false),
            // The crate keeps the byte that an overrun is reported with.
            Err(Error::Overrun) => (Err(Damage::None), true),
            Err(Error::Break) => (Err(Damage::Break), false),
            Err(Error::Parity) => (Err(Damage::Parity), false),
            Err(_) => (Err(Damage::Framing), false),
        };
        Some(Received { result, overrun })
    }

    fn interrupt_on(&mut self, receive: bool, room: bool) {
        let mut wanted = Interrupts::empty();
        // The time-out is for bytes that do not fill the FIFO up to its trigger level.
        wanted.set(Interrupts::RXI | Interrupts::RTI, receive);
        wanted.set(Interrupts::TXI, room);
        self.uart.set_interrupt_masks(wanted);
    }
}
