//! The Armada 3720's network: one MAC, and behind it a switch with a socket for each interface.
//!
//! ```text
//!   Network::poll                          serve
//!     │  wan      lan0     lan1              │  when due
//!   Socket   Socket   Socket              Watch ── steps the switch's sequence, checks the MAC
//!     └────────┼────────┘                    │
//!        Conduit: MAC, tags, and frames of the other sockets that came along
//! ```
//!
//! A tree without a switch (U-Boot's own) makes the MAC itself the interface: a [`Conduit`] without tags.

use alloc::boxed::Box;
use core::cell::{Cell, RefCell};
use core::convert::Infallible;
use core::fmt::Write;
use core::future::Future;
use core::pin::Pin;

use hal::arch::exceptions::{self, Attempt};
use hal::arch::irq::{self, Gic};
use hal::arch::mmu::Kind;
use hal::arch::timer::{self, SystemClock};
use hal::devicetree::{Node, Tree, Trigger};
use hal::dma::cache::Noncoherent;
use hal::net::mdio::{OrionMdio, PhyAddr};
use hal::net::mv88e6xxx::{self, Event, Mailbox, PORTS, PortIndex, PortSet, Smi, Switch};
use hal::net::neta::{self, Descriptor, Fault, Neta, desc};
use hal::net::phy::Setting;
use hal::net::steps::{self, Stepper};
use hal::net::tag::{Drop, Drops, Protocol, Tagger};
use hal::net::{Count, Counters, Frame, Link, MacAddr, Nic, Pool};
use hal::regs::{Bus, Mmio};
use hal::soc::armada37xx as soc;
use heapless::Deque;
use log::{error, info, warn};

use super::{Block, Machine, dma, heap, left_out};
use crate::network::Name;
use crate::random::Random;

/// Places in each ring.
const RING: usize = 256;
/// Frames that one socket keeps for another until its turn.
const QUEUE: usize = 64;
/// Frames taken for others before one socket ends its turn.
const HARVEST: usize = 64;
/// Buffers in use at most: both rings, and what waits between sockets.
const BUFFERS: usize = 2 * RING + 3 * QUEUE + 2;
/// What all of it needs of the heap, without the interfaces' own share.
const HEAP: usize = BUFFERS * 2048 + (64 << 10);
/// Time between two looks at the MAC.
const CHECK_US: u64 = 1_000_000;
/// The sockets' bits in the sets of interrupts: they share one source, and the one bit that the source has would have
/// all of them look.
pub(super) const SOCKETS: u32 = u32::MAX << irq::SLOTS;

/// The bit of the socket behind a port.
const fn bit(port: PortIndex) -> u32 {
    1 << (irq::SLOTS as u32 + port.get() as u32)
}

/// Blocks of the SoC are a page each.
const PAGE: u64 = 4096;

/// The unit's version would do, but any register that can be read without consequences does: MAC address low.
const NETA: Block = Block {
    least: 0x4000,
    probe: MAC_LOW as usize,
};
/// Where a boot loader leaves the MAC's address. Source: hal, `net::neta::regs`.
const MAC_LOW: u32 = 0x2414;
const MAC_HIGH: u32 = 0x2418;

type Mac = Neta<Mmio, Noncoherent, RING, RING>;
type Wire = Stepper<'static, OrionMdio<Mmio, SystemClock>, SystemClock>;

/// The MAC, shared by the sockets.
pub(super) struct Conduit {
    mac: Mac,
    /// `None` without a switch: then there is one socket.
    tagger: Option<Tagger>,
    queues: [Deque<Frame, QUEUE>; PORTS],
    /// Sockets for which there are frames that no interrupt will tell of.
    waiting: &'static Cell<u32>,
    /// The socket that had the last frame: the next one is likely to be its, too.
    last: u32,
    space_wanted: PortSet,
    drops: Drops,
    queue_full: u64,
    untaggable: u64,
    /// The switch's port on our side.
    cpu: PortIndex,
}

impl Conduit {
    /// A counter of the switch and the way there, by number: ours, the tags', its own for the port on our side.
    fn switch_count(&self, mailbox: &Mailbox, index: usize) -> Option<Count> {
        let own = [
            (
                "rx_queue_full",
                "Received frames dropped because their interface did not keep up",
                self.queue_full,
            ),
            (
                "tx_untaggable",
                "Frames not sent because a switch tag did not fit",
                self.untaggable,
            ),
            (
                "repairs",
                "Times the switch was brought up again after trouble",
                mailbox.repairs().into(),
            ),
            (
                "bring_up_failures",
                "Times the switch could not be brought up",
                mailbox.failures().into(),
            ),
            (
                "events_lost",
                "Events of the switch that nobody read in time",
                mailbox.lost_events().into(),
            ),
        ];
        let len = own.len() + Drop::ALL.len();
        let mut all = own.into_iter().chain(self.drops.each());
        all.nth(index)
            .or_else(|| port_count(mailbox, self.cpu, index.checked_sub(len)?))
    }

    #[inline]
    fn receive(&mut self, port: PortIndex, pool: &mut Pool) -> Option<Frame> {
        let Some(tagger) = self.tagger else {
            return self.mac.receive(pool);
        };
        if self.waiting.get() & bit(port) != 0 {
            if let Some(frame) = self.queues[usize::from(port.get())].pop_front() {
                return Some(frame);
            }
            self.waiting.set(self.waiting.get() & !bit(port));
        }
        for _ in 0..HARVEST {
            let mut frame = self.mac.receive(pool)?;
            match tagger.take_off(&mut frame) {
                Ok(source) if source.port == port => return Some(frame),
                Ok(source) => {
                    self.waiting.set(self.waiting.get() | bit(source.port));
                    let queue = &mut self.queues[usize::from(source.port.get())];
                    if let Err(frame) = queue.push_back(frame) {
                        self.queue_full += 1;
                        pool.put(frame);
                    }
                }
                Err(reason) => {
                    self.drops.count(reason);
                    pool.put(frame);
                }
            }
        }
        // There may be more in the ring; the others first.
        self.waiting.set(self.waiting.get() | bit(port));
        None
    }
}

/// One interface: a port of the switch, or the MAC itself.
pub(super) struct Socket {
    conduit: &'static RefCell<Conduit>,
    mailbox: Option<&'static Mailbox>,
    port: PortIndex,
    /// Of the conduit, to be had without borrowing it.
    waiting: &'static Cell<u32>,
    mac: MacAddr,
    link: Link,
    counters: Counters,
}

impl Nic for Socket {
    fn driver(&self) -> &'static str {
        match self.mailbox {
            Some(_) => "neta, 88E6341",
            None => "neta",
        }
    }

    #[inline]
    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn link(&self) -> Link {
        self.link
    }

    fn acknowledge(&mut self) {
        let mut conduit = self.conduit.borrow_mut();
        conduit.mac.acknowledge();
        self.link = match self.mailbox {
            Some(mailbox) => mailbox.link(self.port).into(),
            None => conduit.mac.link(),
        };
    }

    #[inline]
    fn waiting(&self) -> bool {
        self.waiting.get() & bit(self.port) != 0
    }

    fn receive(&mut self, pool: &mut Pool) -> Option<Frame> {
        let mut conduit = self.conduit.borrow_mut();
        let frame = conduit.receive(self.port, pool)?;
        conduit.last = bit(self.port);
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += frame.bytes().len() as u64;
        Some(frame)
    }

    #[inline]
    fn transmit_space(&mut self, pool: &mut Pool) -> usize {
        self.conduit.borrow_mut().mac.transmit_space(pool)
    }

    fn transmit(&mut self, mut frame: Frame, pool: &mut Pool) {
        let mut conduit = self.conduit.borrow_mut();
        let bytes = frame.bytes().len() as u64;
        let fits = match conduit.tagger {
            Some(tagger) => tagger.put_on(&mut frame, self.port),
            None => true,
        };
        if !fits {
            conduit.untaggable += 1;
            pool.put(frame);
        } else if conduit.mac.send(frame, pool) {
            self.counters.tx_frames += 1;
            self.counters.tx_bytes += bytes;
        } else {
            self.counters.tx_ring_full += 1;
        }
    }

    fn sent(&mut self, pool: &mut Pool) -> Option<(u64, u64)> {
        self.conduit.borrow_mut().mac.sent(pool)
    }

    #[inline]
    fn flush(&mut self) {
        self.conduit.borrow_mut().mac.flush();
    }

    fn interrupt_on_space(&mut self, wanted: bool) {
        let mut conduit = self.conduit.borrow_mut();
        conduit.space_wanted = match wanted {
            true => conduit.space_wanted.with(self.port),
            false => conduit.space_wanted.without(self.port),
        };
        let any = !conduit.space_wanted.is_empty();
        conduit.mac.interrupt_on_space(any);
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    fn port_counter(&self, index: usize) -> Option<Count> {
        port_count(self.mailbox?, self.port, index)
    }

    fn port_counters_at_us(&self) -> Option<u64> {
        self.mailbox?.totals_read_us(self.port)
    }

    fn device(&self, number: usize) -> Option<&'static str> {
        match number {
            0 => Some("neta0"),
            1 => self.mailbox.map(|_| "switch"),
            _ => None,
        }
    }

    fn device_counter(&self, number: usize, index: usize) -> Option<Count> {
        let conduit = self.conduit.borrow();
        match number {
            0 => conduit.mac.count(index),
            _ => conduit.switch_count(self.mailbox?, index),
        }
    }

    fn refresh_counters(&self) {
        self.conduit.borrow_mut().mac.collect_counters();
        if let Some(mailbox) = self.mailbox {
            mailbox.want_totals(self.port);
            mailbox.want_totals(self.conduit.borrow().cpu);
        }
    }
}

/// A counter of the switch for one of its ports.
fn port_count(mailbox: &Mailbox, port: PortIndex, index: usize) -> Option<Count> {
    let (name, value) = mailbox.total(port, index)?;
    Some((
        name,
        "Counter of the switch's port, as ethtool names it",
        value,
    ))
}

/// The switch's sequence and its mailbox.
struct Supervisor {
    mailbox: &'static Mailbox,
    due_us: &'static Cell<u64>,
    sequence: Pin<Box<dyn Future<Output = Infallible>>>,
    names: [Name; PORTS],
}

impl Supervisor {
    /// One step. Whether a link has changed.
    fn poll(&mut self) -> bool {
        let _ = steps::step(self.sequence.as_mut());
        let mut changed = false;
        while let Some(event) = self.mailbox.take_event() {
            let name = |port: PortIndex| &self.names[usize::from(port.get())];
            match event {
                Event::Ready { product, revision } => {
                    info!("switch: 88E6{product:03x} revision {revision}, ports separate");
                }
                Event::BringUpFailed(error) => error!("switch: does not come up: {error:?}"),
                Event::Repair(trouble) => {
                    changed = true;
                    warn!("switch: all ports stopped, brought up anew: {trouble:?}");
                }
                Event::Link {
                    port,
                    event: hal::net::phy::Event::Fault(fault),
                } => warn!("{}: no link: {fault:?}", name(port)),
                Event::Link { .. } => changed = true,
                Event::PhyFailed { port, cause } => {
                    changed = true;
                    warn!("{}: PHY: {cause:?}", name(port));
                }
                Event::RequestFailed(error) => warn!("switch: {error:?}"),
                Event::Counters(_) | Event::Address(_) | Event::Vlan(_) | Event::EndOfTable => {}
            }
        }
        changed
    }
}

/// What has to be done beside the frames.
pub(super) struct Watch {
    conduit: &'static RefCell<Conduit>,
    supervisor: Option<Supervisor>,
    interrupt: u32,
    check_us: u64,
    /// A restart failed: the next look tries again.
    down: bool,
}

impl Watch {
    /// When [`Watch::poll`] wants to be called.
    pub(super) fn due_us(&self) -> u64 {
        let supervisor = self.supervisor.as_ref();
        self.check_us
            .min(supervisor.map_or(u64::MAX, |supervisor| supervisor.due_us.get()))
    }

    /// A set of interrupts, the MAC's own replaced by that of the socket that is likely to have caused it. If it was
    /// another, this one finds the frame for it.
    #[inline]
    pub(super) fn sort(&self, pending: u32) -> u32 {
        match pending & self.interrupt {
            0 => pending,
            own => pending & !own | self.conduit.borrow().last,
        }
    }

    /// The way back: what may interrupt again when a socket is done.
    #[inline]
    pub(super) fn source(&self, done: u32) -> u32 {
        if done & SOCKETS == 0 {
            done
        } else {
            self.interrupt
        }
    }

    /// Does what is due. Returns interrupts to be treated as pending: somebody has to look at their interfaces.
    pub(super) fn poll(&mut self, now_us: u64, pool: &mut Pool) -> u32 {
        let mut look = false;
        if let Some(supervisor) = &mut self.supervisor
            && supervisor.due_us.get() <= now_us
        {
            look = supervisor.poll();
        }
        if self.check_us <= now_us {
            self.check_us = now_us + CHECK_US;
            look |= self.check(now_us, pool);
        }
        if look { SOCKETS } else { 0 }
    }

    /// Looks at the MAC, and restarts it if it hangs. Whether the interfaces should be looked at.
    fn check(&mut self, now_us: u64, pool: &mut Pool) -> bool {
        let mut conduit = self.conduit.borrow_mut();
        let link = conduit.mac.link();
        let fault = match conduit.mac.check(now_us) {
            Ok(()) if !self.down => return conduit.mac.link() != link,
            Ok(()) => None,
            Err(fault) => {
                warn!("neta: {fault}");
                Some(fault)
            }
        };
        if let Some(Fault::LostInterrupt { .. }) = fault {
            return true;
        }
        for ring in conduit.mac.dump() {
            warn!("neta: {ring}");
        }
        let result = conduit.mac.restart(&mut SystemClock, pool);
        self.down = result.is_err();
        match result {
            Ok(()) => info!("neta: restarted"),
            Err(error) => error!("neta: {error}"),
        }
        true
    }
}

/// The switch as the tree has it.
struct Plan<'t> {
    node: Node<'t>,
    config: mv88e6xxx::Config,
    names: [Name; PORTS],
    /// Addresses that the tree gives to ports.
    addresses: [Option<MacAddr>; PORTS],
}

/// What start-up made of the tree's network, for the interfaces to be built from.
pub(super) struct Armada {
    /// Name, bit in the sets of interrupts, and card of each interface.
    pub(super) sockets: heapless::Vec<(Name, u32, Socket), PORTS>,
    pub(super) watch: Watch,
}

/// The SoC's page that the node's first register block is in.
fn page(machine: &mut Machine, node: &Node) -> Option<Mmio> {
    let region = node.reg(0).map_err(|error| left_out(node, error)).ok()?;
    let start = region.address & !(PAGE - 1);
    machine
        .mapper
        .map(start, PAGE, Kind::Device)
        .map_err(|error| left_out(node, error))
        .ok()?;
    // SAFETY: just mapped; the drivers behind it touch their own registers only.
    Some(unsafe { Mmio::new(start as usize) })
}

/// Opens clock, reset and pins. The core clock's frequency, or `None` if the MAC's registers must not be touched.
fn open(machine: &mut Machine) -> Option<u32> {
    let tree = machine.tree;
    let find = |compatible| tree.compatible(compatible).next();
    let Some(south) = find("marvell,armada-3700-periph-clock-sb") else {
        warn!("no south bridge in the devicetree: the MAC's clock is taken for open");
        return Some(soc::USUAL_GBE_CORE_HZ);
    };
    let mut south = page(machine, &south)?;
    match soc::open_neta0(&mut south) {
        Ok(closed) if closed.any() => info!("neta: was closed, now open: {closed}"),
        Ok(_) if machine.opened.any() => info!("neta: was closed, now open: {}", machine.opened),
        Ok(_) => {}
        Err(closed) => {
            error!("neta: not used: stays closed: {closed}");
            return None;
        }
    }
    let north = find("marvell,armada-3700-periph-clock-nb").and_then(|north| page(machine, &north));
    let hz = north.and_then(|mut north| soc::gbe_core_hz(&mut north, &mut south));
    Some(hz.unwrap_or(soc::USUAL_GBE_CORE_HZ))
}

/// What the tree wants of a switch. Ports that make no sense are named and left out.
fn plan<'t>(node: Node<'t>, conduit: &Node, mac: MacAddr) -> Option<Plan<'t>> {
    let ports = ["ports", "ethernet-ports"]
        .into_iter()
        .find_map(|name| node.child(name));
    let Some(ports) = ports else {
        left_out(&node, "it has no ports");
        return None;
    };
    let mut cpu = None;
    let mut users = [None; PORTS];
    let mut names: [Name; PORTS] = Default::default();
    let mut addresses = [None; PORTS];
    for port in ports.children().filter(Node::is_enabled) {
        let index = port.bus_reg(0).ok().and_then(|reg| u8::try_from(reg).ok());
        let Some(index) = index.and_then(PortIndex::new) else {
            left_out(&port, "reg is no port of the switch");
            continue;
        };
        if port.has("ethernet") {
            match port.target("ethernet") {
                Ok(target) if target == *conduit => cpu = Some(index),
                Ok(_) => left_out(&port, "ethernet is another MAC"),
                Err(error) => left_out(&port, error),
            }
            continue;
        }
        if port.has("link") {
            left_out(&port, "links to other switches are not supported");
            continue;
        }
        // Ports with a PHY inside, which the tree may name, but no other.
        let own = 0x10 + u64::from(index.get());
        let phy = port
            .target("phy-handle")
            .ok()
            .and_then(|phy| phy.bus_reg(0).ok());
        if !(1..=4).contains(&index.get()) || phy.is_some_and(|phy| phy != own) {
            let name = port.str("label").unwrap_or("a port");
            left_out(
                &port,
                format_args!(
                    "{name} is not behind one of the switch's own PHYs: {} is not supported yet",
                    port.str("phy-mode").unwrap_or("that")
                ),
            );
            continue;
        }
        let name = &mut names[usize::from(index.get())];
        if port
            .str("label")
            .ok()
            .and_then(|label| name.push_str(label).ok())
            .is_none()
        {
            // A word and one digit always fit.
            let _ = write!(name, "port{}", index.get());
        }
        users[usize::from(index.get())] = Some(Setting::default());
        addresses[usize::from(index.get())] = port.mac_address();
    }
    let Some(cpu) = cpu else {
        left_out(&node, "none of its ports leads to the MAC");
        return None;
    };
    let device = match node.property("dsa,member") {
        Some([_, _, _, _, 0, 0, 0, device]) if *device < 32 => *device,
        _ => 0,
    };
    Some(Plan {
        node,
        names,
        addresses,
        config: mv88e6xxx::Config {
            cpu,
            protocol: Protocol::EtherTypeDsa,
            device,
            users,
            bridges: [None; 2],
            mac,
        },
    })
}

/// The first deed after entry, while there is no console to wait for: no frame passes from one socket to another any
/// more. What goes wrong here is tried again by [`start`], and told then.
pub(super) fn stop_ports(machine: &mut Machine) {
    let Some(node) = switch(machine.tree) else {
        return;
    };
    let south = machine
        .tree
        .compatible("marvell,armada-3700-periph-clock-sb");
    if let Some(south) = south.into_iter().next() {
        let opened = page(machine, &south).map(|mut south| soc::open_neta0(&mut south));
        let Some(Ok(opened)) = opened else { return };
        machine.opened = opened;
    }
    let address = node.bus_reg(0).ok().and_then(|at| u8::try_from(at).ok());
    let (Some(address @ ..32), Some(line)) = (address, management(machine, &node)) else {
        return;
    };
    let due_us = Cell::new(0);
    let registers = Smi::new(Stepper::new(line, SystemClock, &due_us), PhyAddr(address));
    if steps::run(mv88e6xxx::stop_all_ports(registers)).is_ok() {
        machine.stopped_us = Some(timer::now_us());
    }
}

/// Whether somebody answers at the first register of a node, which is mapped. A tree may lie, and nobody could say so.
fn answers(node: &Node) -> bool {
    let read = |address| {
        // SAFETY: mapped by `page`; the first registers of the blocks it is used for have no side effects.
        unsafe { exceptions::attempt(Attempt::Read(address as usize)) }.is_none()
    };
    node.reg(0).is_ok_and(|region| read(region.address))
}

/// The switch that the tree has.
fn switch<'t>(tree: &'t Tree<'t>) -> Option<Node<'t>> {
    tree.compatible("marvell,orion-mdio")
        .flat_map(|bus| bus.children())
        .find(|node| node.is_enabled() && node.is_compatible("marvell,mv88e6085"))
}

/// The controller of the management bus around the switch.
fn management(machine: &mut Machine, switch: &Node) -> Option<OrionMdio<Mmio, SystemClock>> {
    let node = switch.parent()?;
    let region = node.reg(0).map_err(|error| left_out(&node, error)).ok()?;
    page(machine, &node)?;
    // SAFETY: in the page just mapped; the MAC's driver leaves these registers alone while the bus is in use.
    let bus = unsafe { Mmio::new(region.address as usize) };
    OrionMdio::bring_up(bus, SystemClock)
        .map_err(|error| left_out(&node, error))
        .ok()
}

/// The MAC's address by the tree, by its registers, or by lot.
fn own_address(node: &Node, registers: &mut Mmio, random: &mut Random) -> MacAddr {
    let [a, b, c, d] = registers.read(MAC_HIGH).to_be_bytes();
    let [_, _, e, f] = registers.read(MAC_LOW).to_be_bytes();
    let found = [a, b, c, d, e, f];
    let usable = found != [0; 6] && a & 1 == 0;
    node.mac_address()
        .or(usable.then_some(found))
        .unwrap_or_else(|| {
            let [_, b, c, d, e, f, ..] = random.draw().to_be_bytes();
            [0x02, b, c, d, e, f]
        })
}

/// Starts the MAC, and the switch behind it: its ports are stopped before anything else happens.
pub(super) fn start(
    machine: &mut Machine,
    gic: &mut Gic,
    pool: &mut Pool,
    random: &mut Random,
) -> Option<Armada> {
    let tree = machine.tree;
    let node = tree.compatible("marvell,armada-3700-neta").next()?;
    let core_clock_hz = open(machine)?;
    let (address, _) = machine.registers(&node, 0, &NETA)?;
    // SAFETY: just mapped, and nobody else's but for the management bus.
    let mut registers = unsafe { Mmio::new(address) };
    let mac_address = own_address(&node, &mut registers, random);

    let switch = switch(tree);
    let plan = switch.and_then(|switch| plan(switch, &node, mac_address));
    let wanted = plan.as_ref().map_or([None; PORTS], |plan| plan.addresses);
    let supervisor = match plan {
        Some(plan) => Some(supervise(machine, plan)?),
        None if switch.is_some() => return None,
        None => None,
    };

    if heap::free() < HEAP {
        left_out(&node, "no memory left for its buffers");
        return None;
    }
    let line = node.interrupt(0).and_then(|interrupt| interrupt.gic());
    let line = line.map_err(|error| left_out(&node, error)).ok()?;
    pool.grow(BUFFERS);
    let config = neta::Config::conduit(mac_address, core_clock_hz);
    let mut mac = Mac::new(registers, Noncoherent, config, ring(&node)?, ring(&node)?)
        .map_err(|error| left_out(&node, error))
        .ok()?;

    let conduit_only = PortIndex::ZERO;
    let mut addresses = [mac_address; PORTS];
    let mut tagger = None;
    let mut users = PortSet::of(conduit_only);
    if let Some((_, config)) = &supervisor {
        users = config.user_ports();
        tagger = Some(Tagger::new(config.protocol, config.device, users));
        let mut filter = mac.filter();
        for (nth, port) in users.iter().enumerate() {
            // The unicast filter lets sixteen addresses in, which differ in the lowest nibble.
            let [a, b, c, d, e, f] = mac_address;
            let own = [a, b, c, d, e, f & 0xf0 | f.wrapping_add(nth as u8) & 0x0f];
            let mac = wanted[usize::from(port.get())].unwrap_or(own);
            if !filter.accept(mac) {
                filter.set_promiscuous(true);
            }
            addresses[usize::from(port.get())] = mac;
        }
        mac.set_filter(filter);
    }
    if let Err(error) = mac.bring_up(&mut SystemClock, pool) {
        left_out(&node, error);
        return None;
    }
    let slot = gic
        .enable(line.intid(), line.trigger == Trigger::Level)
        .map_err(|error| left_out(&node, error))
        .ok()?;
    let waiting: &'static Cell<u32> = Box::leak(Box::default());
    let conduit: &'static RefCell<Conduit> = Box::leak(Box::new(RefCell::new(Conduit {
        mac,
        tagger,
        queues: Default::default(),
        waiting,
        last: users.iter().next().map_or(0, bit),
        space_wanted: PortSet::EMPTY,
        drops: Drops::default(),
        queue_full: 0,
        untaggable: 0,
        cpu: supervisor
            .as_ref()
            .map_or(PortIndex::ZERO, |(_, config)| config.cpu),
    })));
    let supervisor = supervisor.map(|(supervisor, _)| supervisor);
    let mut sockets = heapless::Vec::new();
    for port in users.iter() {
        let name = match &supervisor {
            Some(supervisor) => supervisor.names[usize::from(port.get())].clone(),
            None => Name::try_from("eth0").unwrap_or_default(),
        };
        let socket = Socket {
            conduit,
            mailbox: supervisor.as_ref().map(|supervisor| supervisor.mailbox),
            port,
            waiting,
            mac: addresses[usize::from(port.get())],
            link: Link::Down,
            counters: Counters::default(),
        };
        // There is room for every port.
        let _ = sockets.push((name, bit(port), socket));
    }
    Some(Armada {
        sockets,
        watch: Watch {
            conduit,
            supervisor,
            interrupt: slot.mask(),
            check_us: timer::now_us() + CHECK_US,
            down: false,
        },
    })
}

/// The switch's sequence, its ports stopped already.
fn supervise(machine: &mut Machine, plan: Plan) -> Option<(Supervisor, mv88e6xxx::Config)> {
    let node = plan.node;
    let address = node
        .bus_reg(0)
        .map_err(|error| left_out(&node, error))
        .ok()?;
    let Some(address) = u8::try_from(address).ok().filter(|address| *address < 32) else {
        left_out(&node, "reg is no address of the management bus");
        return None;
    };
    let line = management(machine, &node)?;
    let due_us: &'static Cell<u64> = Box::leak(Box::new(Cell::new(0)));
    let mailbox: &'static Mailbox = Box::leak(Box::default());
    let registers: Smi<Wire> = Smi::new(Stepper::new(line, SystemClock, due_us), PhyAddr(address));
    let mut switch = Switch::new(registers, plan.config.clone());
    match machine.stopped_us {
        Some(us) => info!("switch: ports stopped in {us} us"),
        None => match steps::run(switch.stop_ports()) {
            Ok(()) => info!("switch: ports stopped in {} us", timer::now_us()),
            // The sequence tries again, and says what is wrong.
            Err(error) => warn!("switch: ports do not stop: {error:?}"),
        },
    }
    let supervisor = Supervisor {
        mailbox,
        due_us,
        sequence: Box::pin(mv88e6xxx::supervise(switch, mailbox)),
        names: plan.names,
    };
    Some((supervisor, plan.config))
}

fn ring(node: &Node) -> Option<&'static [Descriptor]> {
    let memory = dma::take(RING * size_of::<Descriptor>());
    if memory.is_none() {
        left_out(node, "no uncached memory left for its rings");
    }
    // SAFETY: aligned to a page, uncached, ours for ever.
    Some(unsafe { desc::ring_at(memory?.as_ptr(), RING) })
}
