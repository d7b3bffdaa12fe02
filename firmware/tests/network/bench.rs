//! A machine for commands: one that has nothing but a `ping` that takes as long as a test likes.

use core::net::Ipv4Addr;

use firmware::latency::Latency;
use firmware::ping::Run;
use firmware::shell::net::{Ask, Net, Port, Served, Socket};
use firmware::shell::{Bench, Refusal};
use firmware::status::{Status, StatusSource};
use hal::devicetree::Tree;
use hal::net::MacAddr;

#[derive(Default)]
pub struct FakeBench {
    pub now_us: u64,
    /// How long a ping takes.
    pub ping_us: u64,
    /// When the present one ends.
    ends_us: u64,
    /// Pings begun, and calls to go on with one.
    pub pings: usize,
    pub rounds: usize,
    /// Always none.
    run: Option<Run>,
}

impl StatusSource for FakeBench {
    fn with_status(&self, show: &mut dyn FnMut(&Status<'_>)) {
        show(&Status {
            hostname: "fake",
            board: "",
            version: "",
            uptime_us: self.now_us,
            cpu: "",
            memory_bytes: 0,
            image_bytes: 0,
            heap_used_bytes: 0,
            heap_size_bytes: 0,
            interfaces: &[],
            devices: &[],
            services: &[],
            counters: &[],
            bad_end: None,
            samples: None,
            http_answers: &Default::default(),
            urls: &[],
            latency: &Latency::off(),
            log: |_| (),
        });
    }
}

impl Bench for FakeBench {
    fn now_us(&self) -> u64 {
        self.now_us
    }

    fn tree(&self) -> Option<&Tree<'static>> {
        None
    }

    /// More than an answer may hold.
    fn log(&self, line: &mut dyn FnMut(&str)) {
        (0..1000).for_each(|_| line("a line of the log that is longer than others"));
    }

    fn interrupts(&self) -> (u64, u64) {
        (1, 2)
    }

    fn reboot(&mut self) {}

    fn net(&mut self) -> Option<&mut dyn Net> {
        Some(self)
    }
}

impl Net for FakeBench {
    fn port(&self, _: usize) -> Option<Port<'_>> {
        None
    }

    fn flows(&self, _: usize, _: &mut dyn FnMut(Ipv4Addr, MacAddr, u64)) {}

    fn served(&self) -> &'static [Served] {
        &[]
    }

    fn connections(&self, _: &mut dyn FnMut(&Socket)) {}

    fn begin_ping(&mut self, _: &Ask, _: u64) -> Result<(), Refusal> {
        self.pings += 1;
        self.ends_us = self.now_us + self.ping_us;
        Ok(())
    }

    fn go_on_with_ping(&mut self, _: u64) -> Option<u64> {
        self.rounds += 1;
        (self.now_us < self.ends_us).then(|| self.now_us + 10_000)
    }

    fn ping(&mut self) -> &mut Option<Run> {
        &mut self.run
    }

    fn send(&mut self, _: usize, _: &dyn Fn(&mut [u8]) -> Option<usize>) {}

    fn reset_latency(&mut self, _: u64) {}
}
