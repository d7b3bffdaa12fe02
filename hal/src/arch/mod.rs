//! The AArch64 core: boot, page tables, caches, exceptions, interrupts, timer, power.
//!
//! The only part of the project that is not buildable on the host.
#![expect(
    unsafe_code,
    reason = "system registers, page tables and vectors have no safe interface"
)]

pub mod boot;
pub mod cache;
pub mod exceptions;
pub mod irq;
mod mem;
pub mod mmu;
pub mod pmu;
pub mod psci;
pub mod timer;
mod vector;

pub use mem::sum_blocks;
pub use vector::Head;
