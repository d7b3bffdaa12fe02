//! A machine for commands: nothing of it is real, and whoever has a token may do all there is.

use firmware::http::{AnswerCounters, Verdict};
use firmware::latency::Latency;
use firmware::shell::Bench;
use firmware::status::{Counter, Status, StatusSource};
use hal::devicetree::Tree;

/// See above.
pub struct FakeBench {
    /// Its clock, in microseconds.
    pub now_us: u64,
    /// How often it was to start anew.
    pub reboots: usize,
    tree: &'static Tree<'static>,
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
            samples: None,
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

    fn reboot(&mut self) {
        self.reboots += 1;
    }
}
