//! Tests that only the image itself can make, chosen by `test=` in bootargs and ended by powering off: for CI. The
//! self-test of the board's hardware, for bring-up, is [`crate::selftest`].

use hal::arch::exceptions::{Attempt, attempt};
use hal::arch::irq::Slot;
use hal::arch::{irq, mmu, timer};
use hal::net::checksum;

/// Runs the test called `name`. An unknown name is reported and the system goes on.
pub(super) fn run(name: &str, timer_slot: Slot) {
    let (name, argument) = name.split_once(':').unwrap_or((name, ""));
    match name {
        "panic" => panic!("test=panic"),
        "abort" => abort(),
        "stack" => {
            core::hint::black_box(overflow(1));
        }
        "stall" => stall(),
        // For what comes after: the next start finds the record of this one.
        "once" if crate::crash::kept().is_none() => run(argument, timer_slot),
        "once" => {}
        "interrupts" => interrupts(argument.parse().unwrap_or(1_000_000), timer_slot),
        "wx" => write_xor_execute(),
        _ => log::warn!("bootargs: test={name} is not a test"),
    }
}

fn abort() {
    // SAFETY: nothing is mapped at address 8, which is the point.
    unsafe { core::ptr::with_exposed_provenance::<u64>(8).read_volatile() };
}

#[expect(unconditional_recursion, reason = "the guard page ends it")]
fn overflow(depth: u64) -> u64 {
    let room = core::hint::black_box([depth; 64]);
    overflow(depth + 1) + room[0]
}

/// Never comes back, with interrupts on: what a watchdog is for.
fn stall() {
    log::info!("self-test stall: nothing happens from here on");
    loop {
        core::hint::spin_loop();
    }
}

/// `mov x0, xzr` and `ret`: what [`Attempt::Call`] asks of code.
type Code = [u32; 2];
const RETURN_0: Code = [0xaa1f_03e0, 0xd65f_03c0];
static CONSTANT: Code = RETURN_0;
static mut VARIABLE: Code = RETURN_0;

/// Writes to what must not be written, executes what must not be executed, reads what must not be there.
fn write_xor_execute() {
    /// Kinds of fault, as `ESR_EL1` has them without the level. Spec: Arm ARM D24.2.37.
    const TRANSLATION: u64 = 0x04;
    const PERMISSION: u64 = 0x0c;

    let image = mmu::Image::here();
    let on_stack = core::hint::black_box(RETURN_0);
    let constant = (&raw const CONSTANT).addr();
    let attempts = [
        (
            "writing code",
            Attempt::Write(image.start as usize),
            PERMISSION,
        ),
        ("writing a constant", Attempt::Write(constant), PERMISSION),
        ("executing a constant", Attempt::Call(constant), PERMISSION),
        (
            "executing a variable",
            Attempt::Call((&raw const VARIABLE).addr()),
            PERMISSION,
        ),
        (
            "executing the stack",
            Attempt::Call(on_stack.as_ptr().addr()),
            PERMISSION,
        ),
        (
            "executing the heap",
            Attempt::Call(image.heap as usize),
            PERMISSION,
        ),
        (
            "executing DMA memory",
            Attempt::Call(image.dma as usize),
            PERMISSION,
        ),
        (
            "reading below the stack",
            Attempt::Read(image.stack_guard as usize),
            TRANSLATION,
        ),
        (
            "reading below the exception stack",
            Attempt::Read(image.exception_guard as usize),
            TRANSLATION,
        ),
        ("reading address 0", Attempt::Read(0), TRANSLATION),
    ];
    for (what, try_it, fault) in attempts {
        // SAFETY: reading is harmless, writing writes what is there, and what gets called is a function or what the
        // test fails on anyway.
        match unsafe { attempt(try_it) } {
            Some(syndrome) if syndrome & 0x3c == fault => log::info!("{what}: refused"),
            Some(syndrome) => panic!("{what}: syndrome {syndrome:#x}"),
            None => panic!("{what} is possible"),
        }
    }
    log::info!("self-test wx: {} attempts, all refused", attempts.len());
    super::fatal::succeed();
}

/// Patterns for `x0` to `x30` and `v0` to `v31`.
#[repr(C)]
struct Patterns {
    x: [u64; 31],
    /// Keeps `v` aligned to 16 bytes.
    gap: u64,
    v: [[u64; 2]; 32],
}

unsafe extern "C" {
    /// Loads all registers, counts down from `spins` in `x28`, and compares. Returns 0 if nothing changed, 1 + n for
    /// `x<n>`, 101 + n for `v<n>`, 201 for the flags, 202 for `FPSR`.
    fn hold_registers(patterns: &Patterns, spins: u64) -> u64;
}

/// Computes with known results and holds known values in all registers, while the timer interrupts `count` times at
/// pseudo-random moments.
fn interrupts(count: u64, timer_slot: Slot) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut patterns = Patterns {
        x: [0; 31],
        gap: 0,
        v: [[0; 2]; 32],
    };
    patterns.x.fill_with(&mut draw);
    patterns.v.as_flattened_mut().fill_with(&mut draw);
    let bytes: [u8; 250] = core::array::from_fn(|_| draw() as u8);
    let compute = || {
        let bytes = core::hint::black_box(&bytes);
        let float = bytes.iter().fold(1.0_f64, |sum, &byte| {
            sum / 1.0625 + f64::from(byte) * 1.000_1
        });
        let single = bytes
            .iter()
            .fold(1.0_f32, |sum, &byte| sum * 0.75 + f32::from(byte));
        (checksum::sum(bytes), float.to_bits(), single.to_bits())
    };
    let right = irq::masked(compute);

    let mut taken = 0;
    let mut rounds = 0_u64;
    timer::set_alarm_in(1);
    while taken < count {
        rounds += 1;
        if draw() % 2 == 0 {
            // SAFETY: changes nothing but what a function may change.
            let different = unsafe { hold_registers(&patterns, draw() % 512) };
            assert_eq!(
                different, 0,
                "a register changed (x 1.., v 101.., flags 201, FPSR 202) at interrupt {taken}"
            );
        } else {
            assert_eq!(
                compute(),
                right,
                "checksum, f64, f32 at interrupt {taken}, round {rounds}"
            );
        }
        let pending = irq::take();
        if pending & timer_slot.mask() != 0 {
            taken += 1;
            timer::set_alarm_in(1 + draw() as u32 % 128);
            irq::done(timer_slot);
        }
    }
    timer::set_alarm(None);
    let (all, unexpected) = irq::counts();
    log::info!("{rounds} rounds, {all} interrupts since start, {unexpected} unexpected");
    log::info!("self-test interrupts: {taken} interrupts, 0 differences");
    super::fatal::succeed();
}

core::arch::global_asm!(
    r#"
    .section .text.hold_registers, "ax"
hold_registers:                     // x0: patterns, x1: spins
    sub     sp, sp, #192
    stp     x19, x20, [sp]
    stp     x21, x22, [sp, #16]
    stp     x23, x24, [sp, #32]
    stp     x25, x26, [sp, #48]
    stp     x27, x28, [sp, #64]
    stp     x29, x30, [sp, #80]
    stp     d8, d9, [sp, #96]
    stp     d10, d11, [sp, #112]
    stp     d12, d13, [sp, #128]
    stp     d14, d15, [sp, #144]
    str     x0, [sp, #160]
    mov     x28, x1
    mov     w2, #0x9f               // FPSR: all cumulative flags
    msr     fpsr, x2
    add     x2, x0, #256
    .irp n, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
    ldr     q\n, [x2, #(16 * \n)]
    .endr
    .irp n, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
    ldr     q\n, [x2, #(16 * \n)]
    .endr
    .irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 29, 30
    ldr     x\n, [x0, #(8 * \n)]
    .endr
    ldr     x0, [x0]
    cmp     xzr, xzr                // Z and C
1:  cbz     x28, 2f
    sub     x28, x28, #1
    b       1b
2:  stp     x0, x1, [sp, #168]
    mrs     x0, nzcv
    ldr     x1, [sp, #160]
    eor     x0, x0, #0x60000000
    cbz     x0, 3f
    mov     x0, #201
    b       9f
    .irp n, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 29, 30
3:  ldr     x0, [x1, #(8 * \n)]
    cmp     x0, x\n
    mov     x0, #(1 + \n)
    b.ne    9f
    .endr
    .irp n, 0, 1
    ldr     x0, [x1, #(8 * \n)]
    ldr     x2, [sp, #(168 + 8 * \n)]
    cmp     x0, x2
    mov     x0, #(1 + \n)
    b.ne    9f
    .endr
    add     x1, x1, #256
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    ldp     x2, x3, [x1], #16
    mov     x4, v\n\().d[0]
    mov     x5, v\n\().d[1]
    cmp     x2, x4
    ccmp    x3, x5, #0, eq
    mov     x0, #(101 + \n)
    b.ne    9f
    .endr
    mrs     x2, fpsr
    cmp     x2, #0x9f
    mov     x0, #202
    b.ne    9f
    mov     x0, xzr
9:  msr     fpsr, xzr
    ldp     x19, x20, [sp]
    ldp     x21, x22, [sp, #16]
    ldp     x23, x24, [sp, #32]
    ldp     x25, x26, [sp, #48]
    ldp     x27, x28, [sp, #64]
    ldp     x29, x30, [sp, #80]
    ldp     d8, d9, [sp, #96]
    ldp     d10, d11, [sp, #112]
    ldp     d12, d13, [sp, #128]
    ldp     d14, d15, [sp, #144]
    add     sp, sp, #192
    ret
"#
);
