//! Arm PL011 (`arm,pl011`), through the crate `arm-pl011-uart`. The line settings are those we were handed; a port that
//! nobody has enabled is.

use arm_pl011_uart::{PL011Registers, Uart, UniqueMmioPointer};
use core::ptr::NonNull;

/// Polls of a full transmit FIFO before a character is given up. At 115200 baud one character takes 87 us; a UART
/// that accepts none for this long is not connected to anything.
const FULL_POLLS: u32 = 100_000;

/// The control register, with what sending takes: `UARTEN` and `TXE`. Spec: PL011 TRM 3.3.8.
const UARTCR: usize = 0x30;
const SENDS: u32 = 1 << 0 | 1 << 8;

/// The console.
pub struct Pl011 {
    uart: Uart<'static>,
    stuck: bool,
}

impl Pl011 {
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
            if found & SENDS != SENDS {
                let wanted = found | SENDS;
                core::arch::asm!("str {:w}, [{}]", in(reg) wanted, in(reg) control, options(nostack));
            }
        }
        // SAFETY: as promised by our caller.
        let uart = Uart::new(unsafe { UniqueMmioPointer::new(registers) });
        Some(Pl011 { uart, stuck: false })
    }

    /// Writes one byte, waiting for room in the FIFO, but not for ever.
    pub fn write_byte(&mut self, byte: u8) {
        let limit = if self.stuck { 1 } else { FULL_POLLS };
        self.stuck = !(0..limit).any(|_| !self.uart.is_tx_fifo_full());
        if !self.stuck {
            self.uart.write_word(byte);
        }
    }
}

impl core::fmt::Write for Pl011 {
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
