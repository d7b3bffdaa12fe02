//! The end: panics and exceptions, in words, then reset, power-off or halt as `panic=` says.

use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use hal::arch::boot::{Park, park};
use hal::arch::exceptions::{Cause, Frame};
use hal::arch::{mmu, psci};

use super::console::print;
use crate::bootargs::PanicAction;
use crate::crash::Ending;
use crate::crash::record::{REGISTERS, X};

static ACTION: AtomicU8 = AtomicU8::new(PanicAction::Reset as u8);
static SEMIHOSTING: AtomicBool = AtomicBool::new(false);
static ENDING: AtomicBool = AtomicBool::new(false);
static HALTED: AtomicBool = AtomicBool::new(false);

/// Sets what happens after a panic, and whether the host hears of it by semihosting: on silicon without a debugger
/// that instruction is an exception itself.
pub(super) fn configure(action: PanicAction, semihosting: bool) {
    ACTION.store(action as u8, Ordering::Relaxed);
    SEMIHOSTING.store(semihosting, Ordering::Relaxed);
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    begin();
    let frame_pointer: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, x29", out(reg) frame_pointer, options(nomem, nostack)) };
    let mut trace = Trace::new();
    backtrace(frame_pointer, &mut trace);
    super::crash::record(Ending::Panic, &[], &trace, format_args!("{info}"));
    print(format_args!("\nPANIC: {info}\n"));
    print_backtrace(1, &trace);
    end(1)
}

/// Reports an exception that no code of ours expects.
pub(super) fn exception(cause: Cause, frame: &Frame) -> ! {
    begin();
    let what = match cause {
        Cause::Synchronous => class(frame.esr),
        Cause::Fiq => "fast interrupt (none is configured)",
        Cause::SError => "asynchronous abort (SError)",
        Cause::Nested => "exception inside a handler",
    };
    let mut registers = [0; REGISTERS];
    registers[..X].copy_from_slice(&frame.x);
    let special = [frame.sp, frame.elr, frame.spsr, frame.esr, frame.far];
    registers[X..].copy_from_slice(&special);
    let mut trace = Trace::new();
    let _ = trace.push(in_image(frame.elr));
    backtrace(frame.x[29], &mut trace);
    let hint = guard_hint(frame.far);
    let message = format_args!("{what}, esr {:#x}, far {:#x}{hint}", frame.esr, frame.far);
    super::crash::record(Ending::Exception, &registers, &trace, message);
    print(format_args!("\nEXCEPTION: {what}\n"));
    print(format_args!(
        "  esr {:#010x}  far {:#018x}  elr {:#018x}  spsr {:#x}\n",
        frame.esr, frame.far, frame.elr, frame.spsr
    ));
    if is_abort(frame.esr) {
        let access = if frame.esr >> 26 & 0x3f >= 0x24 {
            if frame.esr & 1 << 6 != 0 {
                "writing"
            } else {
                "reading"
            }
        } else {
            "fetching"
        };
        print(format_args!(
            "  {} while {access} {:#x}{}\n",
            fault(frame.esr),
            frame.far,
            guard_hint(frame.far)
        ));
    }
    for row in 0..8 {
        for column in 0..4 {
            let number = row * 4 + column;
            match frame.x.get(number) {
                Some(value) => print(format_args!("  x{number:<2} {value:016x}")),
                None => print(format_args!("  sp  {:016x}", frame.sp)),
            }
        }
        print(format_args!("\n"));
    }
    print_backtrace(0, &trace);
    end(2)
}

/// Only the first trouble is reported: trouble while reporting it goes on with the end, where that was.
fn begin() {
    // SAFETY: masks everything for good.
    unsafe { core::arch::asm!("msr daifset, #0xf", options(nomem, nostack)) };
    super::console::seize();
    if ENDING.swap(true, Ordering::Relaxed) {
        end(3);
    }
}

/// Each way to end is tried once: one that ends in an exception itself, as semihosting does where no host listens,
/// comes back here and finds the next.
fn end(status: u32) -> ! {
    const RESET: u8 = PanicAction::Reset as u8;
    const OFF: u8 = PanicAction::Off as u8;
    const HALT: u8 = PanicAction::Halt as u8;
    if SEMIHOSTING.swap(false, Ordering::Relaxed) {
        use qemu_exit::QEMUExit;
        qemu_exit::AArch64::new().exit(status);
    }
    match ACTION.swap(HALT, Ordering::Relaxed) {
        RESET => {
            print(format_args!("resetting\n"));
            super::watchdog::reset();
        }
        OFF => {
            print(format_args!("powering off\n"));
            psci::power_off();
        }
        _ => {}
    }
    if !super::console::is_up() {
        park(Park::EarlyPanic);
    }
    if !HALTED.swap(true, Ordering::Relaxed) {
        print(format_args!("halted\n"));
    }
    park(Park::Halted)
}

/// Ends the run with success, for tests.
pub(super) fn succeed() -> ! {
    if SEMIHOSTING.swap(false, Ordering::Relaxed) {
        use qemu_exit::QEMUExit;
        qemu_exit::AArch64::new().exit_success();
    }
    psci::power_off();
    park(Park::Halted)
}

/// Addresses in the image, the innermost first.
type Trace = heapless::Vec<u64, 32>;

/// Follows the frame pointers, as far as they stay inside the image.
fn backtrace(mut frame_pointer: u64, trace: &mut Trace) {
    let image = mmu::Image::here();
    while frame_pointer.is_multiple_of(16)
        && frame_pointer >= image.data
        && frame_pointer < image.end - 16
        && guard_hint(frame_pointer).is_empty()
    {
        let pointer = frame_pointer as *const u64;
        // SAFETY: aligned, inside our writable data, which is mapped except for the guard pages.
        let (next, address) = unsafe { (pointer.read(), pointer.add(1).read()) };
        if address == 0 || trace.push(in_image(address.wrapping_sub(4))).is_err() {
            return;
        }
        if next <= frame_pointer {
            return;
        }
        frame_pointer = next;
    }
}

/// An address as the ELF file has it.
fn in_image(address: u64) -> u64 {
    address.wrapping_sub(mmu::Image::here().start)
}

fn print_backtrace(first: usize, trace: &Trace) {
    print(format_args!(
        "backtrace (addr2line -e ristretto.elf ADDRESS):\n"
    ));
    for (depth, address) in trace.iter().enumerate() {
        print(format_args!("  {:2}: {address:#x}\n", first + depth));
    }
}

fn guard_hint(address: u64) -> &'static str {
    let image = mmu::Image::here();
    let inside = |page: u64| (page..page + 4096).contains(&address);
    if inside(image.stack_guard) {
        " (the guard page: stack overflow)"
    } else if inside(image.exception_guard) {
        " (the guard page of the exception stack)"
    } else {
        ""
    }
}

fn is_abort(esr: u64) -> bool {
    matches!(esr >> 26 & 0x3f, 0x20 | 0x21 | 0x24 | 0x25)
}

/// Spec: Arm ARM D24.2.37, `ESR_EL1.EC`.
fn class(esr: u64) -> &'static str {
    match esr >> 26 & 0x3f {
        0x00 => "unknown or undefined instruction",
        0x07 => "floating point used while trapped",
        0x0e => "illegal execution state",
        0x15 => "supervisor call",
        0x16 => "hypervisor call",
        0x17 => "secure monitor call",
        0x18 => "trapped system register",
        0x20 | 0x21 => "instruction abort",
        0x22 => "misaligned program counter",
        0x24 | 0x25 => "data abort",
        0x26 => "misaligned stack pointer",
        0x2c => "floating point",
        0x2f => "asynchronous abort (SError)",
        0x30..=0x35 => "debug",
        0x3c => "breakpoint instruction",
        _ => "exception of a class not known here",
    }
}

/// Spec: Arm ARM D24.2.37, `ISS` of aborts, the fault status code.
fn fault(esr: u64) -> &'static str {
    match esr & 0x3f {
        0x00..=0x03 => "address size fault",
        0x04..=0x07 => "translation fault: nothing is mapped there",
        0x09..=0x0b => "access flag fault",
        0x0d..=0x0f => "permission fault",
        0x10 | 0x14..=0x17 => "external abort: nothing answers there",
        0x21 => "alignment fault",
        _ => "fault",
    }
}
