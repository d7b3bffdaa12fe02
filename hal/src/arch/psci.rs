//! Power control by PSCI, through the crate `smccc`.

use core::sync::atomic::{AtomicU8, Ordering};
use smccc::{Hvc, Smc, psci};

/// How the firmware is called: the devicetree's `/psci` `method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Conduit {
    /// Hypervisor call.
    Hvc = 1,
    /// Secure monitor call.
    Smc = 2,
}

static CONDUIT: AtomicU8 = AtomicU8::new(0);

// The three functions below are never inlined: firmware of SMCCC 1.0 may change x4 to x17, of which the crate only
// tells the compiler about x0 to x7. To a caller they are call-clobbered.

/// Remembers the conduit and asks for the version, `None` if the firmware does not answer.
#[inline(never)]
pub fn init(conduit: Conduit) -> Option<(u16, u16)> {
    let version = match conduit {
        Conduit::Hvc => psci::version::<Hvc>(),
        Conduit::Smc => psci::version::<Smc>(),
    }
    .ok()?;
    CONDUIT.store(conduit as u8, Ordering::Relaxed);
    Some((version.major, version.minor))
}

/// Whether there is one.
pub fn is_present() -> bool {
    CONDUIT.load(Ordering::Relaxed) != 0
}

/// Resets the machine. Returns if there is no PSCI, or if it refuses.
#[inline(never)]
pub fn reset() {
    let _ = match CONDUIT.load(Ordering::Relaxed) {
        1 => psci::system_reset::<Hvc>(),
        2 => psci::system_reset::<Smc>(),
        _ => return,
    };
}

/// Powers the machine off. Returns if there is no PSCI, or if it refuses.
#[inline(never)]
pub fn power_off() {
    let _ = match CONDUIT.load(Ordering::Relaxed) {
        1 => psci::system_off::<Hvc>(),
        2 => psci::system_off::<Smc>(),
        _ => return,
    };
}
