//! Tests that only the image itself can make, chosen by `test=` in bootargs and ended by powering off.

use hal::arch::{irq, timer};

/// Runs the test called `name`. An unknown name is reported and the system goes on.
pub(super) fn run(name: &str) {
    match name {
        "panic" => panic!("test=panic"),
        "abort" => abort(),
        "stack" => {
            core::hint::black_box(overflow(1));
        }
        _ => log::warn!("bootargs: test={name} is not a test"),
    }
    let _ = (irq::counts(), timer::now_us());
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
