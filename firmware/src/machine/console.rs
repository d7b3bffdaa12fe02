//! The serial console, and the log lines on it: `[    2.104377] eth0: link up`.

use alloc::boxed::Box;
use core::fmt::Write;
use hal::regs::Mmio;
use hal::uart::armada3700;
use hal::uart::pl011::Pl011;
use spin::Mutex;

/// The UARTs that can be the console.
pub(super) enum Uart {
    /// Arm's, in QEMU's `virt`.
    Pl011(Pl011),
    /// The Armada 3720's own.
    Armada3700(Box<armada3700::Uart<Mmio>>),
}

static CONSOLE: Mutex<Option<Uart>> = Mutex::new(None);
static LOGGER: Logger = Logger;

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record) {
        if self.enabled(record.metadata()) {
            let now = hal::arch::timer::now_us();
            print(format_args!(
                "[{:5}.{:06}] {}\n",
                now / 1_000_000,
                now % 1_000_000,
                record.args()
            ));
        }
    }

    fn flush(&self) {}
}

/// Writes text as it is. Without a console, nothing happens.
pub(super) fn print(text: core::fmt::Arguments) {
    if let Some(console) = CONSOLE.lock().as_mut() {
        // The console has no errors to report, and nowhere to report them.
        let _ = match console {
            Uart::Pl011(uart) => uart.write_fmt(text),
            Uart::Armada3700(uart) => uart.write_fmt(text),
        };
    }
}

/// Takes the lock away from whoever panicked while holding it.
pub(super) fn seize() {
    // SAFETY: one core, interrupts masked, and the code that held the lock never runs again.
    unsafe { CONSOLE.force_unlock() };
}

/// Starts logging to `console`.
pub(super) fn init(console: Uart) {
    *CONSOLE.lock() = Some(console);
    // Fails only if a logger was set before; there is no other.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(log::LevelFilter::Info);
}

/// Whether somebody can read what we print.
pub(super) fn is_up() -> bool {
    CONSOLE.lock().is_some()
}
