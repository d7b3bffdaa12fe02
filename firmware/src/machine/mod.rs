//! From the devicetree to a running system: which drivers start, in which order, with what.
//!
//! Everything about the machine comes from the tree. A device whose node makes no sense is named in one line and left
//! out; the others start.
#![expect(
    unsafe_code,
    reason = "start-up turns addresses of the devicetree into drivers"
)]

mod armada;
mod bed;
mod card;
mod console;
mod crash;
mod desk;
mod dma;
mod fatal;
mod heap;
mod raw;
mod self_test;
mod stamps;
mod virtio;
mod watchdog;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt::Display;

use hal::arch::boot::{Park, park};
use hal::arch::irq::{Gic, Slot};
use hal::arch::mmu::{self, Kind, Mapper};
use hal::arch::{exceptions, irq, psci, timer};
use hal::devicetree::{HEADER_BYTES, Node, Tree, Trigger};
use hal::net::vlan::{Lane, Trunk};
use hal::net::{MacText, Nic, Pool};
use heapless::String;
use log::{error, info, warn};
use smoltcp::wire::{EthernetAddress, Ipv4Cidr, Ipv6Cidr};

use self::bed::Bed;
use self::card::Card;
use self::desk::Desk;
use crate::addressing::{Addressing, Config, Ipv4Config, Ipv6Config};
use crate::bootargs::{BootArgs, Method};
use crate::capture::Capture;
use crate::connections::{CONNECTIONS, RECEIVE_BYTES, TRANSMIT_BYTES};
use crate::http::Access;
use crate::latency::Latency;
use crate::network::{Name, Network, Next, Port};
use crate::random::Random;
use crate::selftest::SelfTest;
use crate::shell::Shell;
use crate::snapshot::System;
use crate::status::MAX_INTERFACES;
use crate::trace::{Event, trace};

/// What one interface needs of the heap: its buffers, rings and sockets, rounded up.
const HEAP_PER_PORT: usize = 620 << 10;
/// The same for a VLAN, which has no buffers or rings of its own.
const HEAP_PER_VLAN: usize = 96 << 10;
/// What the connections and services need after the interfaces, rounded up.
const HEAP_AFTER_PORTS: usize =
    CONNECTIONS * (RECEIVE_BYTES + TRANSMIT_BYTES + 1024) + (96 << 10) + Latency::HEAP;

/// Cells of the log that the page looks at: its last lines are in them, if most are as long as lines are.
const LOG_CELLS: usize = 28;

/// What is known of a register block before it is touched.
struct Block {
    /// Bytes that are in use.
    least: usize,
    /// A word that can be read without consequences, to see whether anything answers.
    probe: usize,
}

const DISTRIBUTOR: Block = Block {
    least: irq::DISTRIBUTOR_BYTES,
    probe: irq::PIDR2,
};
const REDISTRIBUTOR: Block = Block {
    least: irq::REDISTRIBUTOR_BYTES,
    probe: irq::PIDR2,
};
/// More than any machine has; a damaged tree may claim four billion.
const MAX_REDISTRIBUTOR_REGIONS: u32 = 64;

/// What start-up has in hand.
struct Machine {
    mapper: Mapper,
    tree: &'static Tree<'static>,
    /// Syndrome of an asynchronous abort that was pending at entry.
    inherited_abort: Option<u64>,
    /// What was closed before the board's MAC when its switch was stopped.
    opened: hal::soc::armada37xx::Closed,
    /// When the switch's ports were stopped, in microseconds since entry.
    stopped_us: Option<u64>,
}

/// Starts the system. Never returns: stops with a [`Park`] code if there is not even a console.
pub fn start(devicetree: usize) -> ! {
    // SAFETY: the boot code calls this once.
    let mapper = unsafe { Mapper::take_over() };
    let Ok(mut mapper) = mapper else {
        park(Park::NoTables)
    };
    // SAFETY: nothing was allocated before.
    unsafe { heap::init() };
    exceptions::on_fatal(fatal::exception);
    // SAFETY: takes an abort that came before us, or does nothing.
    let inherited_abort = unsafe { exceptions::attempt(exceptions::Attempt::PendingAbort) };
    let blob = map_devicetree(&mut mapper, devicetree);
    let Ok(tree) = Tree::new(blob) else {
        park(Park::BadDevicetree)
    };
    let tree: &'static Tree<'static> = Box::leak(Box::new(tree));
    let mut machine = Machine {
        mapper,
        tree,
        inherited_abort,
        opened: Default::default(),
        stopped_us: None,
    };
    machine.forbid_reserved();
    machine.run()
}

/// Maps the blob: its first page tells how long it is.
fn map_devicetree(mapper: &mut Mapper, address: usize) -> &'static [u8] {
    if address == 0 || !address.is_multiple_of(8) {
        park(Park::NoDevicetree);
    }
    let mut map = |len: usize| -> &'static [u8] {
        if mapper
            .map(address as u64, len as u64, Kind::ReadOnly)
            .is_err()
        {
            park(Park::NoDevicetree);
        }
        // SAFETY: just mapped, read-only, and nobody else writes there.
        unsafe { core::slice::from_raw_parts(address as *const u8, len) }
    };
    match Tree::blob_len(map(HEADER_BYTES)) {
        Ok(len) => map(len),
        Err(hal::devicetree::Error::Magic(_)) => park(Park::NoDevicetree),
        Err(_) => park(Park::BadDevicetree),
    }
}

/// Reports a device that is left out.
fn left_out(node: &Node, why: impl Display) {
    warn!("{}: not used: {why}", node.path());
}

impl Machine {
    /// Memory that belongs to somebody else is never mapped, whatever else may be done with it.
    fn forbid_reserved(&mut self) {
        for region in self.tree.reservations() {
            self.mapper.forbid(region.address, region.size);
        }
        for reserved in self.tree.reserved_memory().flatten() {
            self.mapper
                .forbid(reserved.region.address, reserved.region.size);
        }
    }

    /// Maps register block `index` of a node, and sees whether it is there. Returns its address and length in bytes.
    fn registers(&mut self, node: &Node, index: usize, block: &Block) -> Option<(usize, usize)> {
        let region = match node.reg(index) {
            Ok(region) => region,
            Err(error) => {
                left_out(node, error);
                return None;
            }
        };
        if region.size < block.least as u64 || !region.address.is_multiple_of(8) {
            let (address, size) = (region.address, region.size);
            left_out(
                node,
                format_args!("{address:#x}+{size:#x} cannot be its registers"),
            );
            return None;
        }
        if let Err(error) = self.mapper.map(region.address, region.size, Kind::Device) {
            left_out(node, error);
            return None;
        }
        let address = region.address as usize;
        let probe = exceptions::Attempt::Read(address + block.probe);
        // SAFETY: just mapped; reading this register has no consequences.
        if let Some(syndrome) = unsafe { exceptions::attempt(probe) } {
            left_out(
                node,
                format_args!("nothing answers at {address:#x} (syndrome {syndrome:#x})"),
            );
            return None;
        }
        Some((address, region.size as usize))
    }

    /// Starts time, interrupts and power control; a machine without them cannot go on.
    fn start_core(&mut self) -> Result<(Gic, Slot), &'static str> {
        let node = self
            .tree
            .compatible("arm,psci-1.0")
            .chain(self.tree.compatible("arm,psci-0.2"))
            .next();
        match node.and_then(|node| node.str("method").ok()) {
            Some("hvc") => psci::init(psci::Conduit::Hvc),
            Some("smc") => psci::init(psci::Conduit::Smc),
            _ => None,
        }
        .map_or_else(
            || warn!("no PSCI: this machine cannot be reset or switched off by software"),
            |(major, minor)| info!("psci: version {major}.{minor}"),
        );

        let node = self
            .tree
            .compatible("arm,gic-v3")
            .next()
            .ok_or("the devicetree has no arm,gic-v3")?;
        let (distributor, _) = self
            .registers(&node, 0, &DISTRIBUTOR)
            .ok_or("the interrupt controller's registers cannot be used")?;
        let regions = node.u32("#redistributor-regions").unwrap_or(1);
        let stride = node.u64("redistributor-stride").unwrap_or(0) as usize;
        let redistributor = (1..=regions.min(MAX_REDISTRIBUTOR_REGIONS)).find_map(|index| {
            let (base, len) = self.registers(&node, index as usize, &REDISTRIBUTOR)?;
            // SAFETY: just mapped.
            unsafe { irq::redistributor(base, len, stride) }
        });
        let redistributor = redistributor.ok_or("no GICv3 redistributor belongs to this core")?;
        // SAFETY: the tree says that a GICv3 is there; both blocks were just mapped, and nobody else uses them.
        let mut gic = unsafe { Gic::new(distributor, redistributor) }.map_err(|error| {
            left_out(&node, error);
            "the interrupt controller does not work"
        })?;

        let node = self
            .tree
            .compatible("arm,armv8-timer")
            .next()
            .ok_or("the devicetree has no arm,armv8-timer")?;
        // Secure physical, physical, virtual, hypervisor. Spec: Linux, bindings/timer/arm,arch_timer.yaml.
        let line = node
            .interrupt_named("virt")
            .or_else(|_| node.interrupt(2))
            .and_then(|interrupt| interrupt.gic());
        let line = line.map_err(|error| {
            left_out(&node, error);
            "the timer has no virtual interrupt"
        })?;
        let slot = gic
            .enable(line.intid(), line.trigger == Trigger::Level)
            .map_err(|error| {
                left_out(&node, error);
                "the timer's interrupt cannot be routed"
            })?;
        Ok((gic, slot))
    }

    /// Brings up every network device that the tree names and that answers.
    fn start_network(
        &mut self,
        gic: &mut Gic,
        args: &BootArgs,
        hostname: &str,
        random: &mut Random,
    ) -> (Vec<Port<Card>>, Pool, Option<armada::Watch>) {
        let mut interfaces = Interfaces {
            ports: Vec::with_capacity(MAX_INTERFACES),
            pool: Pool::new(0),
            args,
            hostname,
            random,
        };
        // First of all: before the switch's ports are stopped, frames pass between them.
        let (pool, random) = (&mut interfaces.pool, &mut *interfaces.random);
        let armada = armada::start(self, gic, &args.wiring, pool, random);
        let watch = armada.map(|armada| {
            for (name, interrupt, socket) in armada.sockets {
                interfaces.add(name, Card::Armada(socket), interrupt);
            }
            armada.watch
        });
        virtio::start(self, gic, &mut interfaces);
        interfaces.name_unknown();
        (interfaces.ports, interfaces.pool, watch)
    }

    fn run(mut self) -> ! {
        let node = self.tree.compatible("arm,armv8-timer").next();
        let hz = timer::init(node.and_then(|node| node.u32("clock-frequency").ok()));
        armada::stop_ports(&mut self);
        let stamps = stamps::start();
        let image = mmu::Image::here();
        let mut memory_bytes = 0;
        let mut inside = false;
        let mut place = u64::MAX;
        for region in self.tree.memory().flatten() {
            memory_bytes += region.size;
            inside |= image.start >= region.address
                && image.end <= region.address.saturating_add(region.size);
            place = place.min(crate::crash::place(region.address, region.size));
        }
        let record = crash::start(&mut self.mapper, place);
        let console = console::start(&mut self);
        let root = self.tree.root();
        let board = root
            .str("model")
            .or_else(|_| root.str("compatible"))
            .unwrap_or("unknown board");
        let line = self
            .tree
            .chosen()
            .and_then(|chosen| chosen.property("bootargs"))
            .unwrap_or_default();
        let args = BootArgs::parse(line, |complaint| warn!("bootargs: {complaint}"));
        if let Some(level) = args.log_level {
            log::set_max_level(level);
        }
        fatal::configure(args.panic, args.exit_by_semihosting);
        info!("Ristretto {} on {board}", env!("CARGO_PKG_VERSION"));
        let bad_end = crash::report(record);
        if let Some(damage) = self.tree.damage() {
            warn!("devicetree: {damage}");
        }
        if let Some(syndrome) = self.inherited_abort {
            warn!("an asynchronous abort was pending at entry, syndrome {syndrome:#x}");
        }
        info!(
            "image at {:#x}..{:#x}, {} MiB of memory",
            image.start,
            image.end,
            memory_bytes >> 20
        );
        if !inside {
            warn!("devicetree: the image lies outside of the memory it describes");
        }
        let Some(hz) = hz else {
            stop("the generic timer has no frequency")
        };
        info!("timer: {}.{:02} MHz", hz / 1_000_000, hz / 10_000 % 100);
        let (mut gic, timer_slot) = match self.start_core() {
            Ok(started) => started,
            Err(why) => stop(why),
        };
        let hostname = args
            .hostname
            .clone()
            .unwrap_or_else(|| String::try_from("ristretto").unwrap_or_default());
        let seed = self
            .tree
            .chosen()
            .and_then(|chosen| chosen.property("rng-seed"));
        let mut random = Random::new(seed);
        if seed.is_none_or(|seed| seed.len() < 16) {
            (0..256).for_each(|_| random.stir(timer::ticks()));
            warn!(
                "no rng-seed in the devicetree: sequence numbers are seeded from counter jitter, which can be guessed"
            );
        }
        let (ports, pool, mut watch) = self.start_network(&mut gic, &args, &hostname, &mut random);
        if ports.is_empty() {
            warn!("no network device: nothing to do");
        }
        let cpu = self
            .tree
            .nodes()
            .find(|node| node.str("device_type") == Ok("cpu"));
        let cpu = cpu
            .and_then(|cpu| cpu.compatible().next())
            .unwrap_or("unknown");
        let system = System {
            hostname,
            board,
            cpu,
            memory_bytes,
            image_bytes: image.end - image.start,
            heap_bytes: (0, 0),
            bad_end,
            log: Some(|line| crate::crash::live().log_lines(LOG_CELLS, line)),
        };
        let feeder = watchdog::start(&mut self, args.watchdog_s);
        let mut network = Network::new(ports, pool, system);
        network.services.configure(random.draw(), timer::now_ns);
        network.services.chargen = args.chargen;
        network.access = Access::new(args.admin.clone(), args.private);
        network.latency = stamps.latency(args.latency, hz, self.tree);
        let counters = bed::Counters {
            ticks_hz: hz,
            cycles: stamps.counts(),
        };
        let (shell, tests) = (Shell::new(), SelfTest::new());
        if args.admin.is_some() {
            let ports = &mut network.ports;
            let has_conduit = ports
                .iter_mut()
                .any(|port| port.nic.tap_conduit(None).is_some());
            network.capture =
                Capture::new(&mut random, has_conduit).map(|c| &*Box::leak(Box::new(c)));
            if network.capture.is_none() {
                warn!("capture: no memory left for it");
            }
        }
        let (used, size) = heap::usage();
        network.system.heap_bytes = (used as u64, size as u64);
        info!("heap: {} of {} KiB used, sealed", used >> 10, size >> 10);
        heap::seal();
        let keyboard = console.map_or(0, |node| console::listen(&node, &mut gic));
        irq::unmask();
        if let Some(test) = &args.test {
            self_test::run(test, timer_slot);
        }
        let duties = Duties {
            watch: watch.as_mut(),
            feeder,
            timer: timer_slot,
            keyboard,
            shell,
            tests,
            counters,
            tree: self.tree,
            raw: raw::Raw {
                mapper: self.mapper,
                tree: self.tree,
                allowed: args.unsafe_access,
            },
        };
        serve(&mut network, duties)
    }
}

/// What the poll loop does beside the network.
struct Duties<'w> {
    watch: Option<&'w mut armada::Watch>,
    feeder: Option<watchdog::Feeder>,
    timer: Slot,
    /// The interrupts of the console.
    keyboard: u32,
    shell: Shell,
    tests: SelfTest,
    counters: bed::Counters,
    tree: &'static Tree<'static>,
    raw: raw::Raw,
}

/// The poll loop: works while there is work, and sleeps until an interrupt or the next deadline.
fn serve(network: &mut Network<Card>, duties: Duties) -> ! {
    let Duties {
        mut watch,
        mut feeder,
        timer: timer_slot,
        keyboard,
        mut shell,
        mut tests,
        counters,
        tree,
        mut raw,
    } = duties;
    let mut watch_us = 0;
    // Interrupts that nobody had asked for, as far as they are in the trace.
    let mut seen = 0;
    let mut trial_us = network.latency.trial_us(timer::now_us());
    let mut slept = false;
    // When the network wants to be polled although nothing happened.
    let mut network_us = 0;
    // When the shell wants to be, and when that or a self-test.
    let mut shell_us = u64::MAX;
    let mut bench_us = u64::MAX;
    let mut errand_us = u64::MAX;
    loop {
        let mut pending = irq::take();
        if pending & timer_slot.mask() != 0 {
            network.latency.timer_was_late(timer::overdue(), slept);
            // A trial goes on while the core is busy: that is when it is worth most.
            trial_us = network.latency.trial_us(timer::now_us());
            timer::set_alarm((trial_us != u64::MAX).then_some(trial_us));
            irq::done(timer_slot);
        }
        let now_us = timer::now_us();
        if watch_us <= now_us {
            watch_us = u64::MAX;
            let (_, unexpected) = irq::counts();
            if unexpected != seen {
                seen = unexpected;
                trace(Event::Unexpected, (0, seen));
            }
            if let Some(watch) = &mut watch {
                pending |= watch.poll(now_us, &mut network.pool);
                watch_us = watch.due_us();
            }
            if let Some(feeder) = &mut feeder {
                if feeder.due_us <= now_us {
                    // Cards that interrupt when their link changes need no looking after.
                    let links_us = watch.as_ref().map_or(now_us, |watch| watch.links_us());
                    feeder.poll(now_us, links_us);
                }
                watch_us = watch_us.min(feeder.due_us);
            }
        }
        if pending & keyboard != 0 || bench_us <= now_us {
            if pending & keyboard != 0 || shell_us <= now_us {
                console::service();
                let mut desk = Desk {
                    network,
                    tree,
                    watch: watch.as_deref_mut(),
                    raw: &mut raw,
                    tests: &mut tests,
                };
                shell_us = shell.poll(&mut console::Terminal, &mut desk);
                irq::done_mask(pending & keyboard);
            }
            let mut bed = Bed {
                network,
                tree,
                watch: watch.as_deref_mut(),
                mapper: &mut raw.mapper,
                counters,
            };
            bench_us = tests.poll(&mut bed).min(shell_us);
        }
        // Of hundreds of steps on the management bus each second, the network need not know.
        if pending & !(timer_slot.mask() | keyboard) != 0 || network_us <= now_us {
            // One call, not one for each case: all of it is compiled for each closure.
            let watch = watch.as_deref();
            let sorted = watch.map_or(pending, |watch| watch.sort(pending));
            let next = network.poll(now_us, sorted, |done| {
                irq::done_mask(watch.map_or(done, |watch| watch.source(done)));
            });
            network_us = match next {
                Next::Again => 0,
                Next::At(at_us) => at_us,
                Next::Idle => u64::MAX,
            };
            errand_us = network.errand_due_us();
        }
        if errand_us <= now_us {
            desk::run_errand(Desk {
                network,
                tree,
                watch: watch.as_deref_mut(),
                raw: &mut raw,
                tests: &mut tests,
            });
            errand_us = network.errand_due_us();
            // It may have started a self-test.
            bench_us = 0;
            network_us = 0;
        }
        if network_us > 0 {
            let at_us = network_us.min(watch_us).min(bench_us).min(trial_us);
            let at_us = at_us.min(errand_us);
            slept = irq::wait(|| timer::set_alarm((at_us != u64::MAX).then_some(at_us)));
        }
    }
}

/// The interfaces so far, and what makes more of them.
struct Interfaces<'a> {
    ports: Vec<Port<Card>>,
    pool: Pool,
    args: &'a BootArgs,
    hostname: &'a str,
    random: &'a mut Random,
}

impl Interfaces<'_> {
    /// An interface on a card, and one for each VLAN that the command line puts on it.
    fn add(&mut self, name: Name, card: Card, interrupt: u32) {
        let args = self.args;
        let vlans: heapless::Vec<_, MAX_INTERFACES> = args
            .wiring
            .vlans
            .iter()
            .filter(|vlan| vlan.parent == name)
            .collect();
        if vlans.is_empty() {
            self.push(name, card, interrupt);
            return;
        }
        let trunk = Trunk::new(card, vlans.iter().map(|vlan| vlan.vid));
        let trunk: &'static RefCell<Trunk<Card>> = Box::leak(Box::new(RefCell::new(trunk)));
        let lanes = core::iter::once((name, 0))
            .chain(vlans.iter().map(|vlan| (vlan.name.clone(), vlan.vid)));
        for (name, vid) in lanes {
            if vid != 0 && (self.is_full() || heap::free() < HEAP_PER_VLAN + HEAP_AFTER_PORTS) {
                warn!("{name}: not made: there are too many interfaces, or no memory is left");
            } else if let Some(lane) = Lane::new(trunk, vid) {
                self.push(name, Card::Vlan(lane), interrupt);
            }
        }
    }

    fn push(&mut self, name: Name, card: Card, interrupt: u32) {
        info!("{name}: {}, {}", card.driver(), MacText(card.mac()));
        let config = addressing_config(self.args, &name, self.hostname);
        let addressing = Addressing::new(config, EthernetAddress(card.mac()), self.random.draw());
        let (seed, pool) = (self.random.draw(), &mut self.pool);
        let (serves, reflects) = self.args.services_on(&name);
        let mut port = Port::new(name, card, interrupt, addressing, seed, pool);
        port.bind(serves, reflects);
        self.ports.push(port);
    }

    fn is_full(&self) -> bool {
        self.ports.len() >= MAX_INTERFACES
    }

    /// Names what the command line says about interfaces that are not there.
    fn name_unknown(&self) {
        let missing = |name: &str| !self.ports.iter().any(|port| port.name == name);
        let vlans = self.args.wiring.vlans.iter();
        let parents = vlans.map(|vlan| ("vlan", vlan.parent.as_str()));
        for (item, name) in self.args.devices().chain(parents) {
            if missing(name) {
                warn!("bootargs: {item}= names {name}, which is no interface");
            }
        }
    }
}

/// How an interface gets its addresses, by the command line.
fn addressing_config<'a>(args: &BootArgs, name: &str, hostname: &'a str) -> Config<'a> {
    let args = args.interface(name);
    let ipv4 = match args.ipv4 {
        Method::Auto => Ipv4Config::Automatic,
        Method::Off => Ipv4Config::Off,
        Method::Static {
            address,
            prefix_len,
            gateway,
        } => Ipv4Config::Static {
            cidr: Ipv4Cidr::new(address, prefix_len),
            gateway,
        },
    };
    let ipv6 = match args.ipv6 {
        Method::Auto => Ipv6Config::Automatic,
        Method::Off => Ipv6Config::Off,
        Method::Static {
            address,
            prefix_len,
            gateway,
        } => Ipv6Config::Static {
            cidr: Ipv6Cidr::new(address, prefix_len),
            gateway,
        },
    };
    Config {
        hostname,
        ipv4,
        ipv6,
    }
}

/// Stops with one line, where nothing can be served.
fn stop(why: &str) -> ! {
    error!("cannot start: {why}");
    park(Park::Unusable)
}
