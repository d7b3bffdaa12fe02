//! The machine as the commands of the bench see it.

use super::armada;
use super::card::Card;
use super::console;
use super::raw::Raw;
use crate::capture::Captures;
use crate::crash;
use crate::network::Network;
use crate::selftest::SelfTest;
use crate::shell::hardware::Hardware;
use crate::shell::net::Net;
use crate::shell::{Bench, NO_RESET, Refusal};
use crate::snapshot::Snapshot;
use crate::status::{Status, StatusSource};
use hal::arch::{irq, timer};
use hal::devicetree::Tree;

pub(super) struct Desk<'a> {
    pub(super) network: &'a mut Network<Card>,
    pub(super) tree: &'static Tree<'static>,
    pub(super) watch: Option<&'a mut armada::Watch>,
    pub(super) raw: &'a mut Raw,
    pub(super) tests: &'a mut SelfTest,
}

/// Runs the command that somebody on the network waits for, or goes on with it. Reboots when who asked for it knows.
#[cold]
pub(super) fn run_errand(mut desk: Desk) {
    if let Some(mut errand) = desk.network.take_errand() {
        errand.run(&mut desk);
        desk.network.put_errand(errand);
    }
    if desk.network.is_time_to_reboot(timer::now_us()) {
        desk.reboot();
    }
}

impl StatusSource for Desk<'_> {
    fn with_status(&self, show: &mut dyn FnMut(&Status<'_>)) {
        let (open, connections) = Snapshot::<Card>::counts(&self.network.connections);
        let snapshot = Snapshot {
            ports: &self.network.ports,
            open,
            connections,
            answers: &self.network.answers,
            services: &self.network.services,
            system: &self.network.system,
            access: &self.network.access,
            latency: &self.network.latency,
            capture: self.network.capture,
            samples: &self.network.pool.samples,
            now_us: timer::now_us(),
        };
        snapshot.with_status(show);
    }
}

impl Bench for Desk<'_> {
    fn now_us(&self) -> u64 {
        timer::now_us()
    }

    fn tree(&self) -> Option<&Tree<'static>> {
        Some(self.tree)
    }

    fn log(&self, line: &mut dyn FnMut(&str)) {
        crash::live().log_lines(usize::MAX, line);
    }

    fn crash(&self) -> Option<crash::Kept<'_>> {
        crash::kept()
    }

    fn forget_crash(&mut self) {
        crash::forget();
        self.network.system.bad_end = None;
    }

    fn bank(&self) -> Option<&crash::Bank> {
        Some(crash::live())
    }

    fn interrupts(&self) -> (u64, u64) {
        let (taken, unexpected) = irq::counts();
        (taken.into(), unexpected.into())
    }

    fn capture(&self) -> Option<&dyn Captures> {
        Some(self.network.capture?)
    }

    fn hardware(&mut self) -> Option<&mut dyn Hardware> {
        Some(self.watch.as_deref_mut()?)
    }

    fn selftest(&mut self) -> Option<&mut SelfTest> {
        Some(self.tests)
    }

    fn interrupt_source(&self, index: usize) -> Option<(u32, u32)> {
        irq::source(index)
    }

    fn access(&mut self, address: u64, write: Option<u32>) -> Result<u32, Refusal> {
        self.raw.access(address, write)
    }

    fn reboot(&mut self) {
        log::warn!("reboot: asked for");
        console::drain();
        crash::ends(true, timer::now_us());
        super::watchdog::reset();
        crash::ends(false, 0);
    }

    fn reboot_soon(&mut self) -> Result<(), Refusal> {
        if !super::watchdog::can_reset() {
            return Err(NO_RESET);
        }
        self.network.reboot_soon(timer::now_us());
        Ok(())
    }

    fn net(&mut self) -> Option<&mut dyn Net> {
        Some(self.network)
    }
}
