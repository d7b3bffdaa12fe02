//! The vector table: interrupts save what Rust may change; everything else is fatal and reported.
//!
//! Rust runs on `SP_EL0`; exceptions switch to `SP_EL1`, so that a stack overflow can still be reported.

use core::sync::atomic::{AtomicBool, Ordering};

/// The interrupted registers, in the order the vector code stores them.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Frame {
    /// `x0` to `x30`.
    pub x: [u64; 31],
    /// The stack pointer of the interrupted code.
    pub sp: u64,
    /// Where it was interrupted.
    pub elr: u64,
    /// Its processor state.
    pub spsr: u64,
    /// Syndrome.
    pub esr: u64,
    /// Fault address.
    pub far: u64,
}

/// What kind of exception, by its place in the vector table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Cause {
    /// Synchronous: a fault of the instruction at `elr`.
    Synchronous = 0,
    /// A fast interrupt: nothing here is configured to raise one.
    Fiq = 2,
    /// An asynchronous external abort.
    SError = 3,
    /// Any exception while another was being handled, or from a lower level.
    Nested = 4,
}

/// Set once by `firmware`: prints and ends. Before that, exceptions park the core.
static FATAL: spin::Once<fn(Cause, &Frame) -> !> = spin::Once::new();

/// Sets what happens on a fatal exception.
pub fn on_fatal(handler: fn(Cause, &Frame) -> !) {
    FATAL.call_once(|| handler);
}

/// The next exception belongs to [`attempt`].
static EXPECTED: AtomicBool = AtomicBool::new(false);

/// Something that may end in an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Reads the 32-bit word at this address.
    Read(usize),
    /// Reads the 32-bit word at this address and writes it back.
    Write(usize),
    /// Calls this address.
    Call(usize),
    /// Takes an asynchronous abort, if one is pending.
    PendingAbort,
}

unsafe extern "C" {
    fn attempt_load(address: usize, value: *mut u32) -> u64;
    fn attempt_store(address: usize, value: u32) -> u64;
    fn attempt_read(address: usize) -> u64;
    fn attempt_write(address: usize) -> u64;
    fn attempt_call(address: usize) -> u64;
    fn attempt_pending_abort() -> u64;
}

/// Does what may end in an exception, and comes back in any case: with the syndrome (`ESR_EL1`, never 0) if it did.
///
/// # Safety
///
/// If no exception ends it, then what is attempted does no harm: the address can be read, written or called as a
/// function without arguments that returns 0.
pub unsafe fn attempt(what: Attempt) -> Option<u64> {
    EXPECTED.store(true, Ordering::Relaxed);
    // SAFETY: as promised; an exception returns to behind the call, as a function does.
    let syndrome = unsafe {
        match what {
            Attempt::Read(address) => attempt_read(address),
            Attempt::Write(address) => attempt_write(address),
            Attempt::Call(address) => attempt_call(address),
            Attempt::PendingAbort => attempt_pending_abort(),
        }
    };
    EXPECTED.store(false, Ordering::Relaxed);
    (syndrome != 0).then_some(syndrome)
}

/// Reads the 32-bit word at an address, once.
///
/// # Errors
///
/// The syndrome of the exception that it ends in.
///
/// # Safety
///
/// What reading does to a device there does not break a promise that anybody else relies on.
pub unsafe fn load(address: usize) -> Result<u32, u64> {
    let mut value = 0;
    EXPECTED.store(true, Ordering::Relaxed);
    // SAFETY: as promised; `value` is ours.
    let syndrome = unsafe { attempt_load(address, &raw mut value) };
    EXPECTED.store(false, Ordering::Relaxed);
    if syndrome == 0 {
        Ok(value)
    } else {
        Err(syndrome)
    }
}

/// Writes the 32-bit word at an address. An abort that comes late, after the write has left the core for good, is fatal.
///
/// # Errors
///
/// As [`load`].
///
/// # Safety
///
/// As for [`load`], and the address is no memory of Rust's.
pub unsafe fn store(address: usize, value: u32) -> Result<(), u64> {
    EXPECTED.store(true, Ordering::Relaxed);
    // SAFETY: as promised.
    let syndrome = unsafe { attempt_store(address, value) };
    EXPECTED.store(false, Ordering::Relaxed);
    if syndrome == 0 { Ok(()) } else { Err(syndrome) }
}

/// Returns for an expected exception only: its syndrome.
#[unsafe(no_mangle)]
extern "C" fn fatal_exception(cause: u64, frame: &Frame) -> u64 {
    if EXPECTED.swap(false, Ordering::Relaxed) {
        return frame.esr;
    }
    let cause = match cause {
        0 => Cause::Synchronous,
        2 => Cause::Fiq,
        3 => Cause::SError,
        _ => Cause::Nested,
    };
    match FATAL.get() {
        Some(handler) => handler(cause, frame),
        None => super::boot::park(super::boot::Park::EarlyPanic),
    }
}

#[unsafe(no_mangle)]
extern "C" fn interrupt() {
    super::irq::service();
}

core::arch::global_asm!(
    r#"
    .macro fatal cause
        .balign 128
        sub     sp, sp, #288
        stp     x0, x1, [sp]
        mov     x0, #\cause
        b       fatal_common
    .endm

    .section .text.vectors, "ax"
    .balign 2048
    .global exception_vectors
exception_vectors:
    fatal 0                         // from SP_EL0: our code
    .balign 128
    b       irq_vector
    fatal 2
    fatal 3
    .rept 12                        // from SP_EL1: a handler failed; from EL0: there is none
    fatal 4
    .endr
    .balign 128

fatal_common:
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x1, sp_el0
    stp     x30, x1, [sp, #240]
    mrs     x1, elr_el1
    mrs     x2, spsr_el1
    stp     x1, x2, [sp, #256]
    mrs     x1, esr_el1
    mrs     x2, far_el1
    stp     x1, x2, [sp, #272]
    mov     x1, sp
    mov     x29, xzr
    bl      fatal_exception
    // Expected: as if the attempt had returned what is in x0.
    ldp     x1, x30, [sp, #232]
    mov     x29, x1
    msr     elr_el1, x30
    mrs     x1, spsr_el1
    orr     x1, x1, #(1 << 8)       // asynchronous aborts masked, as they were before
    msr     spsr_el1, x1
    add     sp, sp, #288
    eret

    // An interrupt keeps every register that compiled code may change: x0-x18, x30, all of v0-v31
    // (the upper halves of v8-v15 are not callee-saved), the floating-point status.
irq_vector:
    sub     sp, sp, #(192 + 512)
    stp     x0, x1, [sp]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x29, [sp, #144]
    mrs     x0, fpsr
    mrs     x1, fpcr
    stp     x30, x0, [sp, #160]
    str     x1, [sp, #176]
    add     x0, sp, #192
    stp     q0, q1, [x0]
    stp     q2, q3, [x0, #32]
    stp     q4, q5, [x0, #64]
    stp     q6, q7, [x0, #96]
    stp     q8, q9, [x0, #128]
    stp     q10, q11, [x0, #160]
    stp     q12, q13, [x0, #192]
    stp     q14, q15, [x0, #224]
    stp     q16, q17, [x0, #256]
    stp     q18, q19, [x0, #288]
    stp     q20, q21, [x0, #320]
    stp     q22, q23, [x0, #352]
    stp     q24, q25, [x0, #384]
    stp     q26, q27, [x0, #416]
    stp     q28, q29, [x0, #448]
    stp     q30, q31, [x0, #480]
    bl      interrupt
    add     x0, sp, #192
    ldp     q0, q1, [x0]
    ldp     q2, q3, [x0, #32]
    ldp     q4, q5, [x0, #64]
    ldp     q6, q7, [x0, #96]
    ldp     q8, q9, [x0, #128]
    ldp     q10, q11, [x0, #160]
    ldp     q12, q13, [x0, #192]
    ldp     q14, q15, [x0, #224]
    ldp     q16, q17, [x0, #256]
    ldp     q18, q19, [x0, #288]
    ldp     q20, q21, [x0, #320]
    ldp     q22, q23, [x0, #352]
    ldp     q24, q25, [x0, #384]
    ldp     q26, q27, [x0, #416]
    ldp     q28, q29, [x0, #448]
    ldp     q30, q31, [x0, #480]
    ldr     x1, [sp, #176]
    ldp     x30, x0, [sp, #160]
    msr     fpcr, x1
    msr     fpsr, x0
    ldp     x18, x29, [sp, #144]
    ldp     x16, x17, [sp, #128]
    ldp     x14, x15, [sp, #112]
    ldp     x12, x13, [sp, #96]
    ldp     x10, x11, [sp, #80]
    ldp     x8, x9, [sp, #64]
    ldp     x6, x7, [sp, #48]
    ldp     x4, x5, [sp, #32]
    ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp]
    add     sp, sp, #(192 + 512)
    eret                            // interrupts stay masked in the handler: ELR and SPSR are still ours

    // Leaf functions: an exception in them ends them.
    .section .text.attempts, "ax"
attempt_read:
    ldr     w1, [x0]
    dsb     sy
    mov     x0, xzr
    ret
attempt_write:
    ldr     w1, [x0]
    str     w1, [x0]
    mov     x0, xzr
    ret
attempt_load:
    ldr     w2, [x0]
    dsb     sy
    isb
    str     w2, [x1]
    mov     x0, xzr
    ret
attempt_store:
    str     w1, [x0]
    dsb     sy
    isb
    mov     x0, xzr
    ret
attempt_call:
    br      x0
attempt_pending_abort:
    mov     x0, xzr
    dsb     sy
    msr     daifclr, #4
    isb
    msr     daifset, #4
    ret
"#
);
