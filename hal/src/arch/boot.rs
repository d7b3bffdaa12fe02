//! From the first instruction to the first line of Rust.
//!
//! Entered as the arm64 boot protocol says (Linux `Documentation/arch/arm64/booting.rst`): at EL2 or
//! EL1, MMU and data cache off, interrupts masked, the devicetree's physical address in `x0`, at any
//! 2 MiB boundary of DRAM. In order:
//!
//! 1. at EL2: give EL1 the timer, the counter, the GIC system registers, floating point and the PMU, and
//!    drop to EL1. Nothing here needs EL2, and EL1 is where QEMU, U-Boot and every hypervisor agree;
//! 2. map the image itself, and nothing else, in 2 MiB blocks of Normal memory and turn the MMU on, so
//!    that all further stores go through the cache and unaligned accesses are allowed;
//! 3. unpack: all but this code lies in the file as one LZ4 block (`docs/decisions/0019-packed-image.md`);
//! 4. zero `.bss`, apply the relocations, install vectors and stacks;
//! 5. call [`Entry`].
//!
//! The blocks of step 2 are writable and executable for the few microseconds until
//! [`super::mmu::Mapper::take_over`] replaces them by 4 KiB pages with exact permissions.
//!
//! What goes wrong before there is a console ends in [`park`]: the code in `x0`, the same code in RAM
//! at the symbol `BOOT_STATUS`, and the core in WFE.

use core::sync::atomic::{AtomicU64, Ordering};

/// Why the image stopped without a console: `"RSTO"` in the upper half, a [`Park`] in the lower.
#[unsafe(no_mangle)]
static BOOT_STATUS: AtomicU64 = AtomicU64::new(0);

/// Reasons to stop before a console exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Park {
    /// The image was not loaded at a multiple of 2 MiB, or its end crosses a 512 GiB boundary.
    LoadAddress = 1,
    /// `x0` does not point at a devicetree: no magic number, or not 8-byte aligned.
    NoDevicetree = 2,
    /// There is a devicetree, but its header makes no sense.
    BadDevicetree = 3,
    /// The machine lacks something without which nothing runs; the console said what.
    Unusable = 4,
    /// The page tables are used up before the console was mapped.
    NoTables = 5,
    /// A panic or an exception before the console was up.
    EarlyPanic = 6,
    /// The end of `panic=halt`, or of a reset or power-off that did not happen.
    Halted = 7,
    /// What the image unpacks itself from is damaged: a download that was cut short or went wrong.
    Unpack = 8,
}

const MAGIC: u64 = 0x5253_544f; // "RSTO"

/// Records `reason` in `x0` and in `BOOT_STATUS`, and stops the core for good.
pub fn park(reason: Park) -> ! {
    let code = MAGIC << 32 | reason as u64;
    BOOT_STATUS.store(code, Ordering::Relaxed);
    // Whoever reads RAM from outside does not see the cache.
    super::cache::clean_invalidate((&raw const BOOT_STATUS).addr(), size_of::<u64>());
    // SAFETY: the loop touches no memory; it only keeps the code where a debugger looks first.
    unsafe {
        core::arch::asm!(
            "dsb sy", "msr daifset, #0xf", "2: wfe", "b 2b",
            in("x0") code, options(noreturn, nostack)
        )
    }
}

/// The Rust entry that the boot code calls: physical address of the devicetree.
pub type Entry = extern "C" fn(devicetree: usize) -> !;

core::arch::global_asm!(
    r#"
    .arch_extension crc

    .macro addr_of reg, symbol
        adrp    \reg, \symbol
        add     \reg, \reg, :lo12:\symbol
    .endm

    .section .head, "ax"
    .global _head
_head:
    b       boot_entry
    nop
    .quad   0                       // text_offset
    .quad   __image_size            // including bss, stacks and heap
    .quad   0xa                     // little endian, 4 KiB pages, anywhere in memory
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0
boot_packed:                        // read and filled in by xtask, `image.rs`
    .quad   0                       // bytes of the LZ4 block; in the ELF file nothing is packed
    .quad   0                       // their CRC-32
    .quad   __packed_at             // where the block lies, and what it unpacks to begins
    .quad   __unpacked_end          // where that ends

    .section .text.boot, "ax"
boot_entry:
    msr     daifset, #0xf
    mov     x20, x0                 // the devicetree
    ic      iallu
    mrs     x1, CurrentEL
    cmp     x1, #(2 << 2)
    b.ne    at_el1

    // ---- EL2: hand everything to EL1 ----
    mov     x1, #(1 << 31)          // RW: EL1 is AArch64; no traps, no virtual interrupts
    msr     hcr_el2, x1             // first: with E2H the names below would mean other registers
    isb
    movz    x1, #0x30d0, lsl #16
    movk    x1, #0x0800
    msr     sctlr_el1, x1           // RES1 bits, MMU and caches off, little endian
    mov     x1, #3                  // EL1PCTEN, EL1PCEN
    msr     cnthctl_el2, x1
    msr     cntvoff_el2, xzr
    mov     x1, #0x33ff             // no trap of floating point
    msr     cptr_el2, x1
    msr     hstr_el2, xzr
    msr     vttbr_el2, xzr
    mrs     x1, midr_el1
    msr     vpidr_el2, x1
    mrs     x1, mpidr_el1
    msr     vmpidr_el2, x1
    mrs     x1, id_aa64dfr0_el1
    ubfx    x1, x1, #8, #4          // PMUVer
    mov     x2, xzr
    cbz     x1, 1f
    cmp     x1, #0xf
    b.eq    1f
    mrs     x2, pmcr_el0
    ubfx    x2, x2, #11, #5         // all event counters belong to EL1
1:  msr     mdcr_el2, x2
    mrs     x1, id_aa64pfr0_el1
    ubfx    x1, x1, #24, #4         // GIC system registers
    cbz     x1, 2f
    mrs     x1, S3_4_C12_C9_5       // ICC_SRE_EL2
    orr     x1, x1, #0xf            // SRE, DFB, DIB, Enable
    msr     S3_4_C12_C9_5, x1
    isb
    msr     S3_4_C12_C11_0, xzr     // ICH_HCR_EL2
2:  mov     x1, #0x3c5              // EL1h, all masked
    msr     spsr_el2, x1
    adr     x1, at_el1
    msr     elr_el2, x1
    eret

    // ---- EL1: the MMU, with the image alone in it ----
at_el1:
    movz    x1, #0x30d0, lsl #16
    movk    x1, #0x0800
    msr     sctlr_el1, x1
    mov     x1, #(3 << 20)          // floating point for everyone, before any Rust
    msr     cpacr_el1, x1
    msr     spsel, #1               // a loader at EL1 may have used either stack pointer
    isb
    msr     fpcr, xzr               // unknown out of reset: round to nearest, no traps
    msr     fpsr, xzr

    adr     x21, _head              // where we are: `adrp` would hide an offset within the page
    adrp    x22, __image_end
    sub     x22, x22, x21           // image size, a multiple of 2 MiB
    mov     x0, #1
    tst     x21, #0x1fffff
    b.ne    boot_park

    // Lines of our writable part that a boot loader left in the cache would hide what we write now.
    addr_of x1, __data_start
    addr_of x3, __heap_start
3:  dc      civac, x1
    add     x1, x1, #64
    cmp     x1, x3
    b.lo    3b
    dsb     sy

    addr_of x23, __boot_tables
    mov     x1, x23
    add     x2, x1, #(4 * 4096)
4:  stp     xzr, xzr, [x1], #16
    cmp     x1, x2
    b.lo    4b

    add     x1, x23, #4096          // level 1
    orr     x2, x1, #3
    ubfx    x3, x21, #39, #9
    str     x2, [x23, x3, lsl #3]
    add     x4, x23, #8192          // level 2, first half
    orr     x5, x4, #3
    ubfx    x3, x21, #30, #9
    str     x5, [x1, x3, lsl #3]
    ubfx    x6, x21, #21, #9        // first block
    lsr     x7, x22, #21            // blocks
    add     x8, x6, x7
    cmp     x8, #512
    b.ls    5f                      // the image stays inside one GiB
    mov     x0, #1
    cmp     x3, #511
    b.eq    boot_park
    add     x5, x5, #4096           // level 2, second half: the next GiB
    add     x3, x3, #1
    str     x5, [x1, x3, lsl #3]
5:  movz    x9, #0x0f05             // block, AttrIndx 1, inner shareable, AF, nG: of ASID 0 only
    orr     x9, x9, x21
6:  str     x9, [x4, x6, lsl #3]
    add     x9, x9, #0x200000
    add     x6, x6, #1
    cmp     x6, x8
    b.lo    6b
    dsb     sy

    movz    x1, #0xff04             // 0 Device-nGnRE, 1 Normal write-back, 2 Normal non-cacheable
    movk    x1, #0x0044, lsl #16
    msr     mair_el1, x1
    mrs     x2, id_aa64mmfr0_el1
    and     x2, x2, #7
    cmp     x2, #5
    mov     x3, #5                  // 48 bits at most without LPA
    csel    x2, x2, x3, lo
    movz    x1, #0x3510             // T0SZ 16, write-back tables, inner shareable, 4 KiB
    movk    x1, #0x0080, lsl #16    // EPD1: no upper half
    orr     x1, x1, x2, lsl #32
    msr     tcr_el1, x1
    msr     ttbr0_el1, x23
    isb
    tlbi    vmalle1
    dsb     nsh
    isb
    movz    x1, #0x30d0, lsl #16
    movk    x1, #0x1805             // M, C, I over the RES1 bits; no alignment check
    msr     sctlr_el1, x1
    isb

    // ---- unpacking, in place ----
    // All of this goes through the cache, of which we are the only user: what a boot loader left there of memory that is
    // written here is written over, too. It has cleaned what it loaded, or the code above would not be there.
    adr     x1, boot_packed
    ldp     x7, x8, [x1]
    cbz     x7, 14f
    mov     x0, #8
    addr_of x3, __packed_start
    addr_of x4, __bss_start
    sub     x9, x4, x3
    cmp     x7, x9
    b.hi    boot_park
    // Out of the way. What arrives as the build packed it needs no more checks below than that it ends in the right place.
    mov     x5, x3
    addr_of x1, __heap_start
    add     x2, x1, x7              // a multiple of 32
    mov     x6, x1
    mov     w9, #-1
20: ldp     x10, x11, [x5], #16
    ldp     x12, x13, [x5], #16
    crc32x  w9, w9, x10
    crc32x  w9, w9, x11
    crc32x  w9, w9, x12
    crc32x  w9, w9, x13
    stp     x10, x11, [x6], #16
    stp     x12, x13, [x6], #16
    cmp     x6, x2
    b.lo    20b
    mvn     w9, w9
    cmp     x9, x8
    b.ne    boot_park
    // From x1 to x3, up to x4. A copy of 16 bytes may be too long: what follows writes over the rest, and what is behind
    // the end, at most 32 bytes, is zeroed as .bss.
    b       22f
21: ldrh    w8, [x1], #2            // a match: how far back, how long less 4
    and     w7, w6, #15
    cmp     w8, #16
    b.lo    26f
    sub     x9, x3, x8
    ldr     q0, [x9]
    cmp     w7, #12
    b.hi    26f
    str     q0, [x3], #4
    add     x3, x3, x7
22: ldrb    w6, [x1], #1            // a sequence: literals, then a match or the end
    ldr     q0, [x1]
    lsr     w7, w6, #4
    cmp     w7, #15
    b.eq    24f
    str     q0, [x3]
    add     x1, x1, x7
    add     x3, x3, x7
23: cmp     x3, x4
    b.lo    21b
    b.hi    boot_park
    cmp     x1, x2
    b.hi    boot_park
    b       32f
24: ldrb    w8, [x1], #1            // many literals
    add     x7, x7, x8
    cmp     w8, #255
    b.eq    24b
    sub     x8, x4, x3
    cmp     x7, x8
    b.hi    boot_park
    mov     x8, x1
    mov     x9, x3
    add     x1, x1, x7
    add     x3, x3, x7
25: ldr     q0, [x8], #16
    str     q0, [x9], #16
    cmp     x9, x3
    b.lo    25b
    b       23b
26: cbz     w8, boot_park           // a long match, or one that reaches into itself
    sub     x9, x3, x8
    cmp     w7, #15
    b.ne    28f
27: ldrb    w5, [x1], #1
    add     x7, x7, x5
    cmp     w5, #255
    b.eq    27b
28: add     x7, x7, #4
    sub     x5, x4, x3
    cmp     x7, x5
    b.hi    boot_park
    add     x7, x7, x3
    cmp     w8, #16
    b.lo    30f
29: ldr     q0, [x9], #16
    str     q0, [x3], #16
    cmp     x3, x7
    b.lo    29b
    mov     x3, x7
    b       22b
30: ldrb    w5, [x9], #1
    strb    w5, [x3], #1
    cmp     x3, x7
    b.lo    30b
    b       22b
    // Code is fetched from behind the data cache; `ic iallu` and its barriers come below. CIVAC and not CVAU for the errata
    // that `cache.rs` names.
32: addr_of x1, __packed_start
    addr_of x2, __rodata_start
33: dc      civac, x1
    add     x1, x1, #64
    cmp     x1, x2
    b.lo    33b
    adr     x1, boot_packed         // from here on memory is what the ELF file has
    stp     xzr, xzr, [x1]

    // ---- C runtime ----
14: addr_of x1, __bss_start
    addr_of x2, __bss_end
7:  cmp     x1, x2
    b.hs    8f
    stp     xzr, xzr, [x1], #16
    b       7b
8:  addr_of x1, __relr_start        // packed; an addend stands where its sum belongs
    addr_of x2, __relr_end
9:  cmp     x1, x2
    b.hs    13f
    ldr     x3, [x1], #8
    tbnz    x3, #0, 10f
    add     x4, x3, x21             // even: the place of one
    ldr     x5, [x4]
    add     x5, x5, x21
    str     x5, [x4], #8
    b       9b
10: mov     x6, x4                  // odd: a bit for each of the 63 words that follow
11: lsr     x3, x3, #1
    cbz     x3, 12f
    ldr     x5, [x6]
    add     x7, x5, x21
    tst     x3, #1
    csel    x5, x7, x5, ne
    str     x5, [x6], #8
    b       11b
12: add     x4, x4, #63 * 8
    b       9b
13: dsb     sy
    ic      iallu
    dsb     sy
    isb

    addr_of x1, exception_vectors
    msr     vbar_el1, x1
    addr_of x1, __exception_stack_end
    mov     sp, x1
    msr     spsel, #0               // Rust runs on SP_EL0, exceptions on SP_EL1
    addr_of x1, __stack_end
    mov     sp, x1
    isb
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x20
    bl      ristretto_entry
boot_park:
    // x0: a Park code. The magic goes above it, a copy into RAM, for whoever looks.
    movz    x1, #0x544f
    movk    x1, #0x5253, lsl #16
    orr     x0, x0, x1, lsl #32
    addr_of x1, BOOT_STATUS
    dc      civac, x1               // MMU off: an old line must not hide it; on: nor must the cache
    dsb     sy
    str     x0, [x1]
    dc      civac, x1
    dsb     sy
11: wfe
    b       11b
"#
);
