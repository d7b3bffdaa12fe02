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
//! The sockets of a bridge are one interface: the switch forwards between them, and what we send leaves by the one that
//! the destination was heard at.
//!
//! A tree without a switch (U-Boot's own) makes the MAC itself the interface: a [`Conduit`] without tags.
//!
//! `socket` and `watch` are the two sides, `plan` reads the tree, `bench` shows it all to the commands; here is what
//! starts them.

mod bench;
mod plan;
mod socket;
mod watch;

use alloc::boxed::Box;
use boards::armada3720::{self as board, RING};
use core::cell::{Cell, RefCell};

use hal::arch::exceptions::{self, Attempt};
use hal::arch::irq::Gic;
use hal::arch::mmu::Kind;
use hal::arch::timer::{self, SystemClock};
use hal::devicetree::{Node, Tree, Trigger};
use hal::dma::cache::Noncoherent;
use hal::net::bridge::Stations;
use hal::net::mdio::{OrionMdio, PhyAddr};
use hal::net::mv88e6xxx::{self, Mailbox, PORTS, PortIndex, PortSet, Switch};
use hal::net::neta::{self, Descriptor, desc};
use hal::net::tag::{Drops, Tagger};
use hal::net::{Counters, Link, MacAddr, MacText, Pool};
use hal::regs::{Bus, Mmio};
use hal::soc::armada37xx as soc;
use log::{error, info, warn};

use super::{Block, Machine, dma, heap, left_out};
use crate::bootargs::Wiring;
use crate::network::Name;
use crate::random::Random;
use crate::switch as sequence;

use plan::{Interface, Interfaces, Plan, name_unknown};
use socket::{Conduit, Flags, Members, QUEUE, SOCKETS, bit};
use watch::{CHECK_US, ManagementBus, Supervisor};

pub(super) use socket::Socket;
pub(super) use watch::Watch;

/// Buffers in use at most: both rings, and what waits between sockets.
const BUFFERS: usize = 2 * RING + 3 * QUEUE + 2;
/// What all of it needs of the heap, without the interfaces' own share.
const HEAP: usize = BUFFERS * 2048 + (64 << 10);

/// Blocks of the SoC are a page each.
const PAGE: u64 = 4096;
/// Marvell's boot loaders give this address to every board. Source: vendor U-Boot, `CONFIG_ETHADDR`.
const EVERYBODYS: MacAddr = [0x00, 0x51, 0x82, 0x11, 0x22, 0x00];

/// The unit's version would do, but any register that can be read without consequences does: MAC address low.
const NETA: Block = Block {
    least: 0x4000,
    probe: MAC_LOW as usize,
};
/// Where a boot loader leaves the MAC's address. Source: hal, `net::neta::regs`.
const MAC_LOW: u32 = 0x2414;
const MAC_HIGH: u32 = 0x2418;
/// Where the management bus of a tree without one is.
const MDIO: usize = 0x2004;

/// What start-up made of the tree's network, for the interfaces to be built from.
pub(super) struct Armada {
    /// Name, bit in the sets of interrupts, and card of each interface.
    pub(super) sockets: heapless::Vec<(Name, u32, Socket), PORTS>,
    pub(super) watch: Watch,
}

/// The SoC's page that the node's first register block is in, if somebody answers there: a tree may lie.
pub(super) fn page(machine: &mut Machine, node: &Node) -> Option<Mmio> {
    let region = node.reg(0).map_err(|error| left_out(node, error)).ok()?;
    let start = region.address & !(PAGE - 1);
    machine
        .mapper
        .map(start, PAGE, Kind::Device)
        .map_err(|error| left_out(node, error))
        .ok()?;
    let first = Attempt::Read(region.address as usize & !3);
    // SAFETY: just mapped; the first registers of the blocks that this is for can be read without consequences.
    if let Some(syndrome) = unsafe { exceptions::attempt(first) } {
        let address = region.address;
        left_out(
            node,
            format_args!("nothing answers at {address:#x} (syndrome {syndrome:#x})"),
        );
        return None;
    }
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
    if sequence::stop_all_ports(line, PhyAddr(address)).is_ok() {
        machine.stopped_us = Some(timer::now_us());
    }
}

/// The switch that the tree has.
fn switch<'t>(tree: &'t Tree<'t>) -> Option<Node<'t>> {
    tree.compatible("marvell,orion-mdio")
        .flat_map(|bus| bus.children())
        .find(|node| node.is_enabled() && node.is_compatible("marvell,mv88e6085"))
}

/// The controller of the management bus around the switch.
fn management(machine: &mut Machine, switch: &Node) -> Option<sequence::Line> {
    let node = switch.parent()?;
    let region = node.reg(0).map_err(|error| left_out(&node, error)).ok()?;
    page(machine, &node)?;
    // SAFETY: in the page just mapped; the MAC's driver leaves these registers alone while the bus is in use.
    let bus = unsafe { Mmio::new(region.address as usize) };
    Some(OrionMdio::take_over(bus, SystemClock))
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
    wiring: &Wiring,
    pool: &mut Pool,
    random: &mut Random,
) -> Option<Armada> {
    let armada = bring_up(machine, gic, wiring, pool, random);
    name_unknown(wiring, armada.as_ref());
    armada
}

fn bring_up(
    machine: &mut Machine,
    gic: &mut Gic,
    wiring: &Wiring,
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
    let plan = switch.and_then(|switch| plan::read(switch, &node, mac_address, wiring));
    let mut interfaces = Interfaces::new();
    let mut supervisor = None;
    let bus;
    match plan {
        Some(mut plan) => {
            interfaces = core::mem::take(&mut plan.interfaces);
            let (sequence, known, config) = supervise(machine, plan)?;
            bus = sequence;
            supervisor = Some((known, config));
        }
        None if switch.is_some() => return None,
        None => {
            bus = serve_bus(address);
            let name = Name::try_from("eth0").unwrap_or_default();
            let mac = wiring.mac(&name).unwrap_or(mac_address);
            let ports = PortSet::of(PortIndex::ZERO);
            let _ = interfaces.push(Interface { name, ports, mac });
        }
    }
    if interfaces
        .iter()
        .any(|interface| interface.mac[..5] == EVERYBODYS[..5])
    {
        warn!(
            "neta: the vendor gives {} to every board: set another by mac=",
            MacText(EVERYBODYS)
        );
    }

    if heap::free() < HEAP {
        left_out(&node, "no memory left for its buffers");
        return None;
    }
    let line = node.interrupt(0).and_then(|interrupt| interrupt.gic());
    let line = line.map_err(|error| left_out(&node, error)).ok()?;
    pool.grow(BUFFERS);
    // The MAC itself is no station: its filter is built around the first interface.
    let base = interfaces
        .first()
        .map_or(mac_address, |interface| interface.mac);
    let mut config = neta::Config::conduit(base, core_clock_hz);
    config.coalescing = wiring.coalescing.unwrap_or_default();
    let mut mac = board::Port::new(registers, Noncoherent, config, ring(&node)?, ring(&node)?)
        .map_err(|error| left_out(&node, error))
        .ok()?;

    let mut filter = mac.filter();
    let mut promiscuous = false;
    for interface in &interfaces {
        promiscuous |= !filter.accept(interface.mac);
    }
    if promiscuous {
        info!("addresses differ in more than their last digit: the MAC is promiscuous");
        filter.set_promiscuous(true);
    }
    mac.set_filter(filter);
    let tagger = supervisor
        .as_ref()
        .map(|(_, config)| Tagger::new(config.protocol, config.device, config.user_ports()));
    let mut owners = [PortIndex::ZERO; PORTS];
    for interface in &interfaces {
        let first = interface.first_port();
        for port in interface.ports.iter() {
            owners[usize::from(port.get())] = first;
        }
    }
    if let Err(error) = mac.bring_up(&mut SystemClock, pool) {
        left_out(&node, error);
        return None;
    }
    let slot = gic
        .enable(line.intid(), line.trigger == Trigger::Level)
        .map_err(|error| left_out(&node, error))
        .ok()?;
    let flags: &'static Flags = Box::leak(Box::new(Flags {
        waiting: Cell::new(0),
        links: Cell::new(SOCKETS),
        unflushed: Cell::new(false),
    }));
    let conduit: &'static RefCell<Conduit> = Box::leak(Box::new(RefCell::new(Conduit {
        mac,
        tagger,
        owners,
        queues: Default::default(),
        flags,
        came_by: PortIndex::ZERO,
        last: interfaces
            .first()
            .map_or(0, |first| bit(first.first_port())),
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
    for interface in interfaces {
        let (bridge, port) = (interface.is_bridge(), interface.first_port());
        let Interface { name, ports, mac } = interface;
        let members = bridge.then(|| {
            Box::new(Members {
                ports,
                up: PortSet::EMPTY,
                stations: Stations::new(ports),
            })
        });
        let socket = Socket {
            conduit,
            mailbox: supervisor.as_ref().map(|_| bus.mailbox),
            port,
            members,
            flags,
            mac,
            promiscuous,
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
            flags,
            bus,
            supervisor,
            interrupt: slot.mask(),
            check_us: timer::now_us() + CHECK_US,
            down: false,
            rounds: 0,
            links_us: timer::now_us(),
        },
    })
}

/// The management bus of a MAC without a switch: nobody's but the commands'.
fn serve_bus(mac: usize) -> ManagementBus {
    // SAFETY: in the MAC's block, which is mapped; its driver leaves these registers alone.
    let bus = unsafe { Mmio::new(mac + MDIO) };
    let line = OrionMdio::take_over(bus, SystemClock);
    let due_us: &'static Cell<u64> = Box::leak(Box::new(Cell::new(0)));
    let mailbox: &'static Mailbox = Box::leak(Box::default());
    // Where the board has its switch, if it has one.
    let registers = sequence::registers(line, PhyAddr(1), due_us);
    ManagementBus {
        mailbox,
        due_us,
        sequence: sequence::serve(registers, mailbox),
    }
}

/// The switch's sequence, its ports stopped already.
fn supervise(
    machine: &mut Machine,
    plan: Plan,
) -> Option<(ManagementBus, Supervisor, mv88e6xxx::Config)> {
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
    let registers = sequence::registers(line, PhyAddr(address), due_us);
    let mut switch = Switch::new(registers, plan.config.clone());
    match machine.stopped_us {
        Some(us) => info!("switch: ports stopped in {us} us"),
        None => match sequence::stop_ports(&mut switch) {
            Ok(()) => info!("switch: ports stopped in {} us", timer::now_us()),
            // The sequence tries again, and says what is wrong.
            Err(error) => warn!("switch: ports do not stop: {error}"),
        },
    }
    let bridged = plan.config.bridges.into_iter().flatten();
    let bus = ManagementBus {
        mailbox,
        due_us,
        sequence: sequence::supervise(switch, mailbox),
    };
    let supervisor = Supervisor {
        names: plan.names,
        bridged: bridged.fold(PortSet::EMPTY, |all, bridge| {
            PortSet::from_bits(all.bits() | bridge.members.bits())
        }),
    };
    Some((bus, supervisor, plan.config))
}

fn ring(node: &Node) -> Option<&'static [Descriptor]> {
    let memory = dma::take(RING * size_of::<Descriptor>());
    if memory.is_none() {
        left_out(node, "no uncached memory left for its rings");
    }
    // SAFETY: aligned to a page, uncached, ours for ever.
    Some(unsafe { desc::ring_at(memory?.as_ptr(), RING) })
}
