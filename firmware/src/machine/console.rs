//! The serial console, and the log lines on it: `[    2.104377] eth0: link up`.
//!
//! Polled until [`listen`]; from then on the interrupt moves what is written, nobody waits for a character to leave, and
//! what is typed goes to the shell. The log is also kept, for whoever comes later: see [`crate::crash`].

use super::{Block, Machine, left_out};
use crate::crash;
use crate::shell::line::{Editor, Event, Line};
use alloc::boxed::Box;
use core::fmt::{self, Write};
use hal::arch::irq::Gic;
use hal::devicetree::{Node, Trigger};
use hal::regs::Mmio;
use hal::uart::{Port, Received, Uart, armada3700, pl011};
use heapless::Deque;
use spin::Mutex;

/// The UARTs that can be the console.
enum Registers {
    /// Arm's, in QEMU's `virt`.
    Pl011(pl011::Registers),
    /// The Armada 3720's own.
    Armada3700(armada3700::Registers<Mmio>),
}

impl Registers {
    fn port(&mut self) -> &mut dyn Port {
        match self {
            Registers::Pl011(port) => port,
            Registers::Armada3700(port) => port,
        }
    }
}

impl Port for Registers {
    fn send(&mut self, byte: u8) -> bool {
        self.port().send(byte)
    }

    fn is_idle(&mut self) -> bool {
        self.port().is_idle()
    }

    fn receive(&mut self) -> Option<Received> {
        self.port().receive()
    }

    fn interrupt_on(&mut self, receive: bool, room: bool) {
        self.port().interrupt_on(receive, room);
    }
}

/// Bytes typed, or pasted, ahead of the shell.
const TYPED: usize = 1024;

struct Console {
    screen: Screen,
    typed: Deque<u8, TYPED>,
    editor: Editor,
}

struct Screen {
    uart: Uart<Registers>,
    /// Interrupts move what is queued.
    listens: bool,
}

impl Write for Screen {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !self.listens {
            return self.uart.write_str(text);
        }
        for line in text.split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(line) => {
                    self.uart.queue(line.as_bytes());
                    self.uart.queue(b"\r\n");
                }
                None => self.uart.queue(line.as_bytes()),
            }
        }
        Ok(())
    }
}

static CONSOLE: Mutex<Option<Box<Console>>> = Mutex::new(None);
static LOGGER: Logger = Logger;

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let now = hal::arch::timer::now_us();
        let (seconds, us) = (now / 1_000_000, now % 1_000_000);
        let line = format_args!("[{seconds:5}.{us:06}] {}\n", record.args());
        crash::live().log_line(line);
        if let Some(console) = CONSOLE.lock().as_mut() {
            console.editor.hide(&mut console.screen);
            // The console has no errors to report, and nowhere to report them.
            let _ = console.screen.write_fmt(line);
            console.editor.show(&mut console.screen);
        }
    }

    fn flush(&self) {}
}

/// Writes text as it is. Without a console, nothing happens.
pub(super) fn print(text: fmt::Arguments) {
    if let Some(console) = CONSOLE.lock().as_mut() {
        // The console has no errors to report, and nowhere to report them.
        let _ = console.screen.write_fmt(text);
    }
}

/// The interrupt handler.
pub(super) fn service() {
    if let Some(console) = CONSOLE.lock().as_mut() {
        let typed = &mut console.typed;
        // What is pasted faster than the shell takes it is lost, like on any terminal without flow control.
        console.screen.uart.service(|byte| {
            let _ = typed.push_back(byte);
        });
    }
}

/// Takes the lock away from whoever panicked while holding it, and waits for each character from now on.
pub(super) fn seize() {
    // SAFETY: one core, interrupts masked, and the code that held the lock never runs again.
    unsafe { CONSOLE.force_unlock() };
    if let Some(console) = CONSOLE.lock().as_mut() {
        console.screen.listens = false;
    }
}

/// Waits until everything has left: before a reset.
pub(super) fn drain() {
    if let Some(console) = CONSOLE.lock().as_mut() {
        console.screen.uart.drain();
    }
}

/// Whether somebody can read what we print.
pub(super) fn is_up() -> bool {
    CONSOLE.lock().is_some()
}

/// The console as the shell's terminal.
pub(super) struct Terminal;

impl Terminal {
    fn with<T>(&self, otherwise: T, act: impl FnOnce(&mut Console) -> T) -> T {
        CONSOLE
            .lock()
            .as_mut()
            .map_or(otherwise, |console| act(console))
    }
}

impl crate::shell::Terminal for Terminal {
    fn event(&mut self) -> Option<Event> {
        self.with(None, |console| {
            while let Some(byte) = console.typed.pop_front() {
                if !console.editor.is_awake() {
                    // The first key wakes the terminal, and is a key like any other.
                    console.editor.wake(&mut console.screen);
                }
                let event = console.editor.key(byte, &mut console.screen);
                if event.is_some() {
                    return event;
                }
            }
            None
        })
    }

    fn interrupted(&mut self) -> bool {
        self.with(false, |console| {
            let interrupted = console.typed.iter().any(|byte| *byte == 3);
            while interrupted && console.typed.pop_front().is_some_and(|byte| byte != 3) {}
            interrupted
        })
    }

    fn before_cursor(&mut self) -> Line {
        self.with(Line::new(), |console| {
            Line::try_from(console.editor.before_cursor()).unwrap_or_default()
        })
    }

    fn insert(&mut self, text: &str) {
        self.with((), |console| {
            console.editor.insert(text, &mut console.screen)
        });
    }

    fn room(&self) -> usize {
        self.with(usize::MAX, |console| console.screen.uart.room())
    }

    fn write(&mut self, text: &str) {
        self.with((), |console| {
            console.editor.leave();
            let _ = console.screen.write_str(text);
        });
    }

    fn prompt(&mut self) {
        self.with((), |console| console.editor.show(&mut console.screen));
    }
}

/// Spec: PL011 TRM 3.2; the flag register, because reading data takes a character away.
const PL011: Block = Block {
    least: 0x48,
    probe: 0x18,
};
/// The status register. Source: Linux `drivers/tty/serial/mvebu-uart.c`.
const ARMADA_3700_UART: Block = Block {
    least: 0x18,
    probe: 0x0c,
};
const KNOWN: [&str; 2] = ["arm,pl011", "marvell,armada-3700-uart"];

/// Starts logging to the console that `/chosen` names, or else the first one that there is a driver for. Returns its node.
pub(super) fn start(machine: &mut Machine) -> Option<Node<'static>> {
    let is_known = |node: &Node| {
        KNOWN
            .iter()
            .any(|compatible| node.is_compatible(compatible))
    };
    let chosen = machine.tree.stdout().ok().map(|(node, _)| node);
    let found = || {
        machine
            .tree
            .nodes()
            .find(|node| is_known(node) && node.is_enabled())
    };
    let node = chosen.filter(is_known).or_else(found)?;
    let is_pl011 = node.is_compatible(KNOWN[0]);
    let block = if is_pl011 { &PL011 } else { &ARMADA_3700_UART };
    let (address, _) = machine.registers(&node, 0, block)?;
    let registers = if is_pl011 {
        // SAFETY: the tree says that a PL011 is there; it was just mapped, and nobody else uses it.
        Registers::Pl011(unsafe { pl011::Registers::new(address) }?)
    } else {
        // SAFETY: the same for the Armada's UART.
        Registers::Armada3700(armada3700::Registers::new(unsafe { Mmio::new(address) }))
    };
    *CONSOLE.lock() = Some(Box::new(Console {
        screen: Screen {
            uart: Uart::new(registers),
            listens: false,
        },
        typed: Deque::new(),
        editor: Editor::default(),
    }));
    // Fails only if a logger was set before; there is no other.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(log::LevelFilter::Info);
    Some(node)
}

/// Lets the console interrupt. Returns its bits in the sets of interrupts: none if the tree names no usable line, and the
/// console stays polled and deaf.
pub(super) fn listen(node: &Node, gic: &mut Gic) -> u32 {
    // The Armada's has lines for receiving and sending. Spec: Linux, bindings/serial/marvell,armada-3700-uart.yaml.
    let lines = match node.interrupt_named("uart-rx") {
        Ok(receive) => [Ok(receive), node.interrupt_named("uart-tx")],
        Err(_) => [node.interrupt(0), node.interrupt(0)],
    };
    let mut slots = 0;
    for line in lines {
        let slot = line.and_then(|line| line.gic()).map(|line| {
            gic.enable(line.intid(), line.trigger == Trigger::Level)
                .map_err(|error| left_out(node, error))
        });
        match slot {
            Ok(Ok(slot)) => slots |= slot.mask(),
            Ok(Err(())) => return 0,
            Err(error) => {
                left_out(node, format_args!("as a keyboard: {error}"));
                return 0;
            }
        }
    }
    if let Some(console) = CONSOLE.lock().as_mut() {
        console.screen.uart.enable_receive();
        console.screen.listens = true;
    }
    slots
}
