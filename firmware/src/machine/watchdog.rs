//! The Armada 3720's watchdog: armed by `watchdog=`, fed while everything lives, and the back-up of every reset.
//!
//! What has to live: the poll loop, which feeds, and the machine that looks after the links of all interfaces, which
//! must have ended a round lately. Traffic does not matter.
//!
//! One that a boot loader has armed is switched off, because nobody would feed it, unless `watchdog=` arms it anew.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use hal::arch::psci;
use hal::regs::Mmio;
use hal::soc::armada37xx::{self as soc, Watchdog};
use log::{error, info, warn};

use super::{Machine, armada, left_out};
use crate::crash;
use crate::trace::{Event, trace};

/// A round over the links takes a second at most, and a switch that does not answer a few.
const ROUNDS_LIMIT_US: u64 = 5_000_000;
/// Time for the reset by PSCI, which is known to hang on some boards. Source: TF-A, `CM3_SYSTEM_RESET` in build.rst.
const BACKUP_S: u32 = 10;

/// Where its registers are, 0 if it has none here.
static COUNTERS: AtomicUsize = AtomicUsize::new(0);
static MISC: AtomicUsize = AtomicUsize::new(0);
static CRYSTAL_HZ: AtomicU32 = AtomicU32::new(0);

/// The watchdog, if there is one.
fn watchdog() -> Option<Watchdog<Mmio, Mmio>> {
    let counters = COUNTERS.load(Ordering::Relaxed);
    if counters == 0 {
        return None;
    }
    let misc = MISC.load(Ordering::Relaxed);
    // SAFETY: `find` has mapped both, and nobody else uses these registers; whoever interrupts another user never
    // returns to it.
    let (counters, misc) = unsafe { (Mmio::new(counters), Mmio::new(misc)) };
    let crystal_hz = CRYSTAL_HZ.load(Ordering::Relaxed);
    Some(Watchdog::new(counters, misc, crystal_hz))
}

/// Maps the watchdog that the tree names.
fn find(machine: &mut Machine) -> Option<()> {
    let tree = machine.tree;
    let node = tree.compatible("marvell,armada-3700-wdt").next()?;
    let misc = node
        .target("marvell,system-controller")
        .map_err(|error| left_out(&node, error))
        .ok()?;
    for node in [&node, &misc] {
        armada::page(machine, node)?;
    }
    let north = tree
        .compatible("marvell,armada-3700-periph-clock-nb")
        .next();
    let north = north.and_then(|north| armada::page(machine, &north));
    let crystal_hz = north.map_or(soc::USUAL_CRYSTAL_HZ, |mut north| {
        soc::crystal_hz(&mut north)
    });
    CRYSTAL_HZ.store(crystal_hz, Ordering::Relaxed);
    MISC.store(misc.reg(0).ok()?.address as usize, Ordering::Relaxed);
    COUNTERS.store(node.reg(0).ok()?.address as usize, Ordering::Relaxed);
    Some(())
}

/// Feeds the watchdog.
pub(super) struct Feeder {
    period_us: u64,
    /// When it is to be fed again.
    pub(super) due_us: u64,
    told: bool,
}

/// Arms the watchdog if `seconds` says so.
pub(super) fn start(machine: &mut Machine, seconds: Option<u32>) -> Option<Feeder> {
    find(machine);
    let mut watchdog = watchdog();
    if let Some(watchdog) = &mut watchdog
        && watchdog.is_armed()
    {
        watchdog.disarm();
        info!("watchdog: was armed by the boot loader, stopped");
    }
    let seconds = seconds?;
    let Some(mut watchdog) = watchdog else {
        warn!("bootargs: watchdog= is ignored: this machine has none");
        return None;
    };
    watchdog.arm(seconds);
    crash::armed(seconds);
    info!("watchdog: resets after {seconds} s without life");
    Some(Feeder {
        period_us: u64::from(seconds) * 1_000_000,
        due_us: 0,
        told: false,
    })
}

impl Feeder {
    /// Feeds, if the links were looked after at `links_us` or later.
    pub(super) fn poll(&mut self, now_us: u64, links_us: u64) {
        let late_us = now_us.saturating_sub(self.due_us);
        if self.due_us > 0 && late_us > self.period_us / 4 {
            trace(Event::FedLate, (0, (late_us / 1000) as u32));
        }
        self.due_us = now_us + self.period_us / 4;
        let since_us = now_us.saturating_sub(links_us);
        if since_us < self.period_us.max(ROUNDS_LIMIT_US) {
            self.told = false;
            if let Some(mut watchdog) = watchdog() {
                watchdog.feed();
            }
        } else if !self.told {
            self.told = true;
            let seconds = since_us / 1_000_000;
            trace(Event::Starves, (0, 0));
            error!("watchdog: not fed any more: nobody has looked after the links for {seconds} s");
        }
    }
}

/// Whether [`reset`] can do anything.
pub(super) fn can_reset() -> bool {
    psci::is_present() || COUNTERS.load(Ordering::Relaxed) != 0
}

/// Resets the machine by PSCI. Returns if that does nothing; then the watchdog bites a little later.
pub(super) fn reset() {
    if let Some(mut watchdog) = watchdog() {
        watchdog.arm(BACKUP_S);
    }
    psci::reset();
}
