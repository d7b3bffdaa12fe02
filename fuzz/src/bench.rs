//! A machine for commands: nothing of it is real, its registers hold whatever comes, and whoever has a token may do all
//! there is.

use std::cell::Cell;

use firmware::crash::{self, Ending, Kept, Record};
use firmware::http::{AnswerCounters, Verdict};
use firmware::latency::Latency;
use firmware::selftest::SelfTest;
use firmware::shell::hardware::{Hardware, Reply};
use firmware::shell::{Bench, Refusal};
use firmware::status::{Counter, Status, StatusSource};
use hal::devicetree::Tree;
use hal::net::mv88e6xxx::errand::{Answer, Request, Step};
use hal::net::mv88e6xxx::{PortIndex, PortSet, atu, vtu};
use hal::net::neta::RingDump;
use hal::net::{Coalescing, Count};

use crate::mutate::Rng;

/// See above.
pub struct FakeBench {
    /// Its clock, in microseconds.
    pub now_us: u64,
    /// How often it was to start anew.
    pub reboots: usize,
    tree: &'static Tree<'static>,
    values: Rng,
    answer: Answer,
    held: PortSet,
    coalescing: Coalescing,
    loops: bool,
    /// None of its runs ever goes on: what is asked of it is the matter here.
    tests: Option<SelfTest>,
}

thread_local! {
    /// They are for good once they are made, so one has to do for all inputs.
    static TESTS: Cell<Option<SelfTest>> = const { Cell::new(None) };
}

impl Drop for FakeBench {
    fn drop(&mut self) {
        TESTS.set(self.tests.take());
    }
}

impl Default for FakeBench {
    fn default() -> Self {
        thread_local! {
            static TREE: Option<&'static Tree<'static>> = {
                let blob = include_bytes!("../../hal/tests/data/qemu-virt.dtb");
                Tree::new(blob).ok().map(|tree| &*Box::leak(Box::new(tree)))
            };
        }
        let Some(tree) = TREE.with(|tree| *tree) else {
            unreachable!("it is sound")
        };
        FakeBench {
            now_us: 1,
            reboots: 0,
            tree,
            values: Rng::new(7),
            answer: Answer::default(),
            held: PortSet::EMPTY,
            coalescing: Coalescing::default(),
            loops: false,
            tests: Some(TESTS.take().unwrap_or_default()),
        }
    }
}

impl StatusSource for FakeBench {
    fn with_status(&self, show: &mut dyn FnMut(&Status<'_>)) {
        let counters = [Counter {
            name: "rx_frames",
            help: "",
            value: self.now_us,
        }];
        show(&Status {
            hostname: "fuzz",
            board: "a \"board\" \\ \u{1}\u{e9}",
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
            counters: &counters,
            http_answers: &AnswerCounters::default(),
            urls: &[],
            latency: &Latency::off(),
            bad_end: None,
            samples: None,
            log: |line| line("<b>fuzz</b>"),
        });
    }

    fn is_own_name(&self, name: &[u8]) -> bool {
        name == b"a"
    }

    fn judge(&self, authorization: Option<&[u8]>) -> Verdict {
        match authorization {
            Some(_) => Verdict::Allowed,
            None => Verdict::Unknown,
        }
    }
}

impl Bench for FakeBench {
    fn now_us(&self) -> u64 {
        self.now_us
    }

    fn tree(&self) -> Option<&Tree<'static>> {
        Some(self.tree)
    }

    fn log(&self, line: &mut dyn FnMut(&str)) {
        line("a \"line\" \\ \u{1b}[2J \u{e9}");
    }

    fn interrupts(&self) -> (u64, u64) {
        (1, u64::MAX)
    }

    fn hardware(&mut self) -> Option<&mut dyn Hardware> {
        Some(self)
    }

    fn interrupt_source(&self, index: usize) -> Option<(u32, u32)> {
        (index < 3).then_some((32 + index as u32, 1))
    }

    fn access(&mut self, address: u64, write: Option<u32>) -> Result<u32, Refusal> {
        match address % 4 {
            0 => Ok(write.unwrap_or(self.values.bits() as u32)),
            _ => Err(Refusal::Absent("word there")),
        }
    }

    fn crash(&self) -> Option<Kept<'_>> {
        let mut record = Record::new(1, 0x20_0000, "fuzz");
        record.end(Ending::Exception, self.now_us);
        record.set_message(format_args!("a \"message\" \\ \u{1b}[2J \u{e9}"));
        Some(Kept {
            record,
            bank: crash::live(),
        })
    }

    fn bank(&self) -> Option<&crash::Bank> {
        Some(crash::live())
    }

    fn selftest(&mut self) -> Option<&mut SelfTest> {
        self.tests.as_mut()
    }

    fn reboot(&mut self) {
        self.reboots += 1;
    }

    fn reboot_soon(&mut self) -> Result<(), Refusal> {
        self.reboots += 1;
        Ok(())
    }
}

impl Hardware for FakeBench {
    fn port_name(&self, port: PortIndex) -> Option<&str> {
        ["cpu", "wan", "lan0", "lan1"]
            .get(usize::from(port.get()))
            .copied()
    }

    fn has_switch(&self) -> bool {
        true
    }

    fn ask(&mut self, request: Request) -> Option<u32> {
        let FakeBench {
            values,
            answer,
            held,
            ..
        } = self;
        if values.below(8) == 0 {
            return None;
        }
        *answer = Answer::default();
        match request {
            Request::Steps(steps) => steps(&mut |step| {
                match step {
                    Step::Hold(port) => *held = PortSet::from_bits(held.bits() | 1 << port.get()),
                    Step::Release(port) => {
                        *held = PortSet::from_bits(held.bits() & !(1 << port.get()));
                    }
                    _ => {}
                }
                let has_room = answer.values.push(values.bits() as u16).is_ok();
                assert!(has_room, "more steps than an errand may have");
            }),
            Request::Addresses(from, to) => {
                assert!(from <= to && to <= 4095, "{from} to {to}");
                let _ = answer.addresses.push(atu::Entry {
                    fid: from,
                    mac: [2, 0, 0, 0, 0, values.bits() as u8],
                    ports: PortSet::from_bits(values.bits() as u16),
                    trunk: values.below(2) == 0,
                    state: values.bits() as u8 & 15,
                });
            }
            Request::Vlans => {
                let _ = answer.vlans.push(vtu::Entry {
                    vid: values.bits() as u16,
                    fid: values.bits() as u16,
                    members: PortSet::from_bits(values.bits() as u16),
                });
            }
        }
        Some(1)
    }

    fn answer(&mut self, _: u32, show: &mut dyn FnMut(&Answer)) -> Reply {
        match self.values.below(4) {
            0 => Reply::Pending,
            1 => Reply::Lost,
            _ => {
                show(&self.answer);
                Reply::Given
            }
        }
    }

    fn held(&self) -> PortSet {
        self.held
    }

    fn port_total(&self, _: PortIndex, index: usize) -> Option<(&'static str, u64)> {
        (index < 3).then_some(("counter", u64::MAX))
    }

    fn port_totals_at_us(&self, _: PortIndex) -> Option<u64> {
        Some(self.now_us)
    }

    fn want_port_totals(&self, _: PortIndex) {}

    fn mac_registers(&mut self, show: &mut dyn FnMut(&'static str, u32, u32)) {
        show("register", u32::MAX, u32::MAX);
    }

    fn mac_rings(&mut self) -> [RingDump; 2] {
        ["rx", "tx"].map(|direction| RingDump {
            direction,
            queue: 0,
            size: 1,
            in_flight: usize::MAX,
            oldest: 0,
            current: u32::MAX,
            status: u32::MAX,
            descriptors: Default::default(),
        })
    }

    fn mac_count(&mut self, index: usize) -> Option<Count> {
        (index == 0).then_some(("count", "", u64::MAX))
    }

    fn coalescing(&self) -> Coalescing {
        self.coalescing
    }

    fn set_coalescing(&mut self, coalescing: Coalescing) {
        assert!(coalescing.rx_time_us <= 67_000, "{coalescing:?}");
        self.coalescing = coalescing;
    }

    fn mac_loopback(&self) -> bool {
        self.loops
    }

    fn set_mac_loopback(&mut self, on: bool) {
        self.loops = on;
    }
}
