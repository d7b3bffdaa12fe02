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
use hal::net::bridge::Stations;
use hal::net::mdio::{OrionMdio, PhyAddr};
use hal::net::mv88e6xxx::{self, Bridge, Event, Mailbox, PORTS, PortIndex, PortSet, Smi, Switch};
use hal::net::neta::board::{self, RING};
use hal::net::neta::{self, Descriptor, Fault, desc};
use hal::net::steps::{self, Stepper};
use hal::net::tag::{Drop, Drops, Source, Tagger};
use hal::net::{Coalescing, Count, Counters, Frame, Link, MacAddr, MacText, Nic, Pool};
use hal::regs::{Bus, Mmio};
use hal::soc::armada37xx as soc;
use heapless::Deque;
use log::{error, info, warn};

use super::{Block, Machine, dma, heap, left_out};
use crate::bootargs::Wiring;
use crate::network::{LinkLine, Name};
use crate::random::Random;

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

/// What sockets ask each other without borrowing the conduit: it is asked for in every round.
struct Flags {
    /// Sockets for which there are frames that no interrupt will tell of.
    waiting: Cell<u32>,
    /// Sockets whose link may have changed.
    links: Cell<u32>,
    /// There is something that the MAC was not told of.
    unflushed: Cell<bool>,
}

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

type Wire = Stepper<'static, OrionMdio<Mmio, SystemClock>, SystemClock>;

/// The MAC, shared by the sockets.
pub(super) struct Conduit {
    mac: board::Port,
    /// `None` without a switch: then there is one socket.
    tagger: Option<Tagger>,
    /// The interface that each port belongs to, by its first port.
    owners: [PortIndex; PORTS],
    /// What waits for an interface, and the port it came in by.
    queues: [Deque<(Frame, PortIndex), QUEUE>; PORTS],
    flags: &'static Flags,
    /// The socket that had the last frame: the next one is likely to be its, too.
    last: u32,
    /// The port that the last frame came in by.
    came_by: PortIndex,
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
            (
                "port_read_at",
                "When the counters of the port on our side were read, in microseconds since start",
                mailbox.totals_read_us(self.cpu).unwrap_or(0),
            ),
        ];
        let len = own.len() + Drop::ALL.len();
        let mut all = own.into_iter().chain(self.drops.each());
        all.nth(index)
            .or_else(|| port_count(mailbox, self.cpu, index.checked_sub(len)?))
    }

    /// The next frame for the interface of `port`.
    #[inline(always)]
    fn receive(&mut self, port: PortIndex, pool: &mut Pool) -> Option<Frame> {
        if self.flags.waiting.get() & bit(port) != 0
            && let Some(frame) = self.take_waiting(port)
        {
            return Some(frame);
        }
        let mut frame = board::receive(&mut self.mac, pool)?;
        let Some(tagger) = self.tagger else {
            return Some(frame);
        };
        match tagger.take_off(&mut frame) {
            Ok(source) if self.owners[usize::from(source.port.get())] == port => {
                self.came_by = source.port;
                Some(frame)
            }
            taken_off => self.receive_after(frame, taken_off, tagger, port, pool),
        }
    }

    #[inline(never)]
    fn take_waiting(&mut self, port: PortIndex) -> Option<Frame> {
        match self.queues[usize::from(port.get())].pop_front() {
            Some((frame, came_by)) => {
                self.came_by = came_by;
                Some(frame)
            }
            None => {
                self.flags
                    .waiting
                    .set(self.flags.waiting.get() & !bit(port));
                None
            }
        }
    }

    /// Goes on after a frame that was for somebody else, or for nobody.
    #[inline(never)]
    fn receive_after(
        &mut self,
        frame: Frame,
        taken_off: Result<Source, Drop>,
        tagger: Tagger,
        port: PortIndex,
        pool: &mut Pool,
    ) -> Option<Frame> {
        self.set_aside(frame, taken_off, pool);
        for _ in 0..HARVEST {
            let mut frame = board::receive(&mut self.mac, pool)?;
            match tagger.take_off(&mut frame) {
                Ok(source) if self.owners[usize::from(source.port.get())] == port => {
                    self.came_by = source.port;
                    return Some(frame);
                }
                taken_off => self.set_aside(frame, taken_off, pool),
            }
        }
        // There may be more in the ring; the others first.
        self.flags.waiting.set(self.flags.waiting.get() | bit(port));
        None
    }

    /// Keeps a frame for its owner's turn.
    fn set_aside(&mut self, frame: Frame, taken_off: Result<Source, Drop>, pool: &mut Pool) {
        match taken_off {
            Ok(source) => {
                let owner = self.owners[usize::from(source.port.get())];
                self.flags
                    .waiting
                    .set(self.flags.waiting.get() | bit(owner));
                let queue = &mut self.queues[usize::from(owner.get())];
                if let Err((frame, _)) = queue.push_back((frame, source.port)) {
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

    /// Sends by one port, and counts.
    #[inline]
    fn transmit(
        &mut self,
        mut frame: Frame,
        port: PortIndex,
        counters: &mut Counters,
        pool: &mut Pool,
    ) {
        let bytes = frame.byte_count() as u64;
        let fits = match self.tagger {
            Some(tagger) => tagger.put_on(&mut frame, port),
            None => true,
        };
        if !fits {
            self.untaggable += 1;
            pool.put(frame);
            return;
        }
        self.flags.unflushed.set(true);
        if board::send(&mut self.mac, frame, pool) {
            counters.tx_frames += 1;
            counters.tx_bytes += bytes;
        } else {
            counters.tx_ring_full += 1;
        }
    }
}

/// The ports of a bridge, as its interface sees them.
struct Members {
    ports: PortSet,
    /// Those with a link.
    up: PortSet,
    stations: Stations,
}

impl Members {
    /// The ports that a frame has to leave by: where its destination was heard, else all with a link.
    fn ports_to(&self, frame: &Frame, first: PortIndex) -> PortSet {
        let to =
            destination(frame).map_or(self.ports, |to| self.stations.ports_to(to, timer::now_us()));
        match PortSet::from_bits(to.bits() & self.up.bits()) {
            PortSet::EMPTY => PortSet::of(first),
            up => up,
        }
    }
}

/// One interface: a port of the switch, a bridge of some, or the MAC itself.
pub(super) struct Socket {
    conduit: &'static RefCell<Conduit>,
    mailbox: Option<&'static Mailbox>,
    /// Of a bridge, the first.
    port: PortIndex,
    members: Option<Box<Members>>,
    flags: &'static Flags,
    mac: MacAddr,
    /// The MAC lets in more than is for us, because its filter cannot tell our addresses from others.
    promiscuous: bool,
    link: Link,
    counters: Counters,
}

impl Socket {
    /// The link of a bridge is up if one of its ports' is; stations at a port without are forgotten.
    fn bridge_link(members: &mut Members, mailbox: &Mailbox) -> Link {
        let mut link = Link::Down;
        for port in members.ports.iter() {
            if mailbox.link(port).is_some() {
                members.up = members.up.with(port);
                link = Link::Up {
                    speed_mbps: 0,
                    full_duplex: true,
                    pause: Default::default(),
                };
            } else if members.up.has(port) {
                members.up = members.up.without(port);
                members.stations.forget(port);
            }
        }
        link
    }

    /// The next frame of this interface, when something is known to have arrived.
    #[inline(never)]
    fn receive_seen(&mut self, pool: &mut Pool) -> Option<Frame> {
        let mut conduit = self.conduit.borrow_mut();
        let frame = conduit.receive(self.port, pool)?;
        conduit.last = bit(self.port);
        drop(conduit);
        self.flags.unflushed.set(true);
        let frame = match self.promiscuous || self.members.is_some() {
            true => self.receive_admitted(frame, pool)?,
            false => frame,
        };
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += frame.byte_count() as u64;
        Some(frame)
    }

    /// This frame, or the next one that is ours.
    #[inline(never)]
    fn receive_admitted(&mut self, frame: Frame, pool: &mut Pool) -> Option<Frame> {
        let (mut frame, mut turns) = (frame, HARVEST);
        while !self.admits(&frame) {
            pool.put(frame);
            turns -= 1;
            if turns == 0 {
                let waiting = &self.flags.waiting;
                waiting.set(waiting.get() | bit(self.port));
                return None;
            }
            frame = self.conduit.borrow_mut().receive(self.port, pool)?;
        }
        Some(frame)
    }

    /// Notes where a frame's sender is, and whether the frame is ours at all.
    fn admits(&mut self, frame: &Frame) -> bool {
        if let Some(members) = &mut self.members
            && let Some([.., a, b, c, d, e, f]) = frame.bytes().first_chunk::<12>()
        {
            let source = [*a, *b, *c, *d, *e, *f];
            let came_by = self.conduit.borrow().came_by;
            members.stations.hear(source, came_by, timer::now_us());
        }
        let other = self.promiscuous
            && destination(frame).is_some_and(|to| to[0] & 1 == 0 && to != self.mac);
        self.counters.rx_other_station += u64::from(other);
        !other
    }

    #[inline(never)]
    fn look_at_link(&mut self) {
        self.link = match (self.mailbox, &mut self.members) {
            (Some(mailbox), Some(members)) => Socket::bridge_link(members, mailbox),
            (Some(mailbox), None) => mailbox.link(self.port).into(),
            (None, _) => self.conduit.borrow().mac.link(),
        };
    }

    /// Sends a copy by each port of the bridge that the frame has to leave by but the last, which gets the frame itself.
    #[inline(never)]
    fn transmit_bridged(&mut self, frame: Frame, pool: &mut Pool) {
        let ports = self.members.as_ref();
        let ports = ports.map(|members| members.ports_to(&frame, self.port));
        let mut ports = ports.unwrap_or_default().iter();
        let mut port = ports.next().unwrap_or(self.port);
        let mut conduit = self.conduit.borrow_mut();
        let counters = &mut self.counters;
        for next in ports {
            match pool.copy(&frame) {
                Some(copy) => conduit.transmit(copy, port, counters, pool),
                None => counters.tx_no_buffer += 1,
            }
            port = next;
        }
        conduit.transmit(frame, port, counters, pool);
    }
}

fn destination(frame: &Frame) -> Option<MacAddr> {
    frame.bytes().first_chunk::<6>().copied()
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

    #[inline]
    fn acknowledge(&mut self) {
        let links = self.flags.links.get();
        if links & bit(self.port) != 0 {
            self.flags.links.set(links & !bit(self.port));
            self.look_at_link();
        }
    }

    #[inline]
    fn waiting(&self) -> bool {
        self.flags.waiting.get() & bit(self.port) != 0
    }

    #[inline]
    fn has_set_aside(&self) -> bool {
        self.flags.waiting.get() != 0
    }

    #[inline]
    fn receive(&mut self, pool: &mut Pool) -> Option<Frame> {
        // Every other look finds nothing: that one need not go all the way.
        if self.flags.waiting.get() == 0 && !board::look(&mut self.conduit.borrow_mut().mac) {
            return None;
        }
        self.receive_seen(pool)
    }

    #[inline]
    fn transmit_space(&mut self, pool: &mut Pool) -> usize {
        self.conduit.borrow_mut().mac.transmit_space(pool)
    }

    fn transmit(&mut self, frame: Frame, pool: &mut Pool) {
        if self.members.is_some() {
            return self.transmit_bridged(frame, pool);
        }
        let mut conduit = self.conduit.borrow_mut();
        conduit.transmit(frame, self.port, &mut self.counters, pool);
    }

    fn sent(&mut self, pool: &mut Pool) -> Option<(u64, u64)> {
        self.conduit.borrow_mut().mac.sent(pool)
    }

    #[inline]
    fn flush(&mut self) {
        if self.flags.unflushed.replace(false) {
            board::flush(&mut self.conduit.borrow_mut().mac);
        }
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

    fn set_coalescing(&mut self, coalescing: Coalescing) -> bool {
        Nic::set_coalescing(&mut self.conduit.borrow_mut().mac, coalescing)
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
    /// Ports that are no interface of their own: nobody else tells of their links.
    bridged: PortSet,
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
                    let but = match self.bridged.is_empty() {
                        true => "",
                        false => " but for bridges",
                    };
                    info!("switch: 88E6{product:03x} revision {revision}, ports separate{but}");
                }
                Event::BringUpFailed(error) => error!("switch: does not come up: {error}"),
                Event::Repair(trouble) => {
                    changed = true;
                    warn!("switch: all ports stopped, brought up anew: {trouble}");
                }
                Event::Link {
                    port,
                    event: hal::net::phy::Event::Fault(fault),
                } => warn!("{}: no link: {fault}", name(port)),
                Event::Link { port, .. } => {
                    changed = true;
                    if self.bridged.has(port) {
                        let link = Link::from(self.mailbox.link(port));
                        info!("{}: {}", name(port), LinkLine(link));
                    }
                }
                Event::PhyFailed { port, cause } => {
                    changed = true;
                    warn!("{}: PHY: {cause}", name(port));
                }
                Event::RequestFailed(error) => warn!("switch: {error}"),
                Event::Counters(_) | Event::Address(_) | Event::Vlan(_) | Event::EndOfTable => {}
            }
        }
        changed
    }
}

/// What has to be done beside the frames.
pub(super) struct Watch {
    conduit: &'static RefCell<Conduit>,
    flags: &'static Flags,
    supervisor: Option<Supervisor>,
    interrupt: u32,
    check_us: u64,
    /// A restart failed: the next look tries again.
    down: bool,
    /// Rounds over the links so far, and when the last one was noticed.
    rounds: u32,
    links_us: u64,
}

impl Watch {
    /// When [`Watch::poll`] wants to be called.
    pub(super) fn due_us(&self) -> u64 {
        let supervisor = self.supervisor.as_ref();
        self.check_us
            .min(supervisor.map_or(u64::MAX, |supervisor| supervisor.due_us.get()))
    }

    /// When all links were last looked after.
    pub(super) fn links_us(&self) -> u64 {
        self.links_us
    }

    /// A set of interrupts, the MAC's own replaced by that of the socket that is likely to have caused it. If it was
    /// another, this one finds the frame for it.
    #[inline]
    pub(super) fn sort(&self, pending: u32) -> u32 {
        if pending & self.interrupt == 0 {
            return pending;
        }
        let mut conduit = self.conduit.borrow_mut();
        conduit.mac.acknowledge();
        pending & !self.interrupt | conduit.last
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
            let rounds = supervisor.mailbox.rounds();
            if rounds != self.rounds {
                (self.rounds, self.links_us) = (rounds, now_us);
            }
        }
        if self.check_us <= now_us {
            self.check_us = now_us + CHECK_US;
            if self.supervisor.is_none() {
                self.links_us = now_us;
            }
            look |= self.check(now_us, pool);
        }
        if !look {
            return 0;
        }
        self.flags.links.set(SOCKETS);
        SOCKETS
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
    interfaces: Interfaces,
}

/// An interface to be.
struct Interface {
    name: Name,
    /// One port, or those of a bridge.
    ports: PortSet,
    mac: MacAddr,
}

impl Interface {
    fn first_port(&self) -> PortIndex {
        self.ports.iter().next().unwrap_or(PortIndex::ZERO)
    }

    fn is_bridge(&self) -> bool {
        self.ports.iter().count() > 1
    }
}

type Interfaces = heapless::Vec<Interface, PORTS>;

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

/// What tree and command line want of a switch. Ports that make no sense are named and left out.
fn plan<'t>(node: Node<'t>, conduit: &Node, mac: MacAddr, wiring: &Wiring) -> Option<Plan<'t>> {
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
        users[usize::from(index.get())] = Some(wiring.link(name));
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
    let mut config = mv88e6xxx::Config {
        cpu,
        protocol: wiring.dsa_tag.unwrap_or_default(),
        device,
        users,
        bridges: [None; 2],
        mac,
    };
    let ports = config.user_ports();
    let bridges = bridges(wiring, ports, &names);
    let mut interfaces = Interfaces::new();
    for port in ports.iter() {
        let bridge = bridges.iter().find(|(_, members)| members.has(port));
        let (name, ports) = match bridge {
            Some((name, members)) => (name.clone(), *members),
            None => (names[usize::from(port.get())].clone(), PortSet::of(port)),
        };
        if ports.iter().next() == Some(port) {
            let mac = address(wiring, &name, ports, &addresses, mac);
            // There is room for every port.
            let _ = interfaces.push(Interface { name, ports, mac });
        }
    }
    let bridged = interfaces.iter().filter(|interface| interface.is_bridge());
    for (slot, Interface { ports, mac, .. }) in config.bridges.iter_mut().zip(bridged) {
        let (members, mac) = (*ports, *mac);
        *slot = Some(Bridge { members, mac });
    }
    Some(Plan {
        node,
        names,
        interfaces,
        config,
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

/// The switch that the tree has.
fn switch<'t>(tree: &'t Tree<'t>) -> Option<Node<'t>> {
    tree.compatible("marvell,orion-mdio")
        .flat_map(|bus| bus.children())
        .find(|node| node.is_enabled() && node.is_compatible("marvell,mv88e6085"))
}

/// The bridges that can be made of the `users` among the ports. What is missing is named.
fn bridges(
    wiring: &Wiring,
    users: PortSet,
    names: &[Name; PORTS],
) -> heapless::Vec<(Name, PortSet), 2> {
    let find = |name: &str| {
        users
            .iter()
            .find(|port| names[usize::from(port.get())] == name)
    };
    let mut made = heapless::Vec::new();
    for bridge in &wiring.bridges {
        let mut members = PortSet::EMPTY;
        for member in &bridge.members {
            match find(member) {
                Some(port) => members = members.with(port),
                None => warn!("bootargs: bridge= names {member}, which is no port of the switch"),
            }
        }
        let name = &bridge.name;
        if members.iter().count() < 2 {
            warn!("bootargs: bridge {name} is not made: it has less than two ports");
        } else if find(name).is_some() {
            warn!("bootargs: bridge {name} is not made: a port has that name");
        } else {
            // There is room for as many as can be asked for.
            let _ = made.push((name.clone(), members));
        }
    }
    made
}

/// The address of an interface: by the command line, by the tree, or derived from the MAC's `own`, of which the unicast
/// filter lets in the sixteen that differ in the lowest nibble.
fn address(
    wiring: &Wiring,
    name: &str,
    ports: PortSet,
    by_tree: &[Option<MacAddr>; PORTS],
    own: MacAddr,
) -> MacAddr {
    let in_tree = ports
        .iter()
        .find_map(|port| by_tree[usize::from(port.get())]);
    wiring.mac(name).or(in_tree).unwrap_or_else(|| {
        // Ports with a PHY begin at 1, and the first gets the MAC's own.
        let nth = (ports.bits().trailing_zeros() as u8).saturating_sub(1);
        let [a, b, c, d, e, f] = own;
        [a, b, c, d, e, f & 0xf0 | f.wrapping_add(nth) & 0x0f]
    })
}

/// Names what the command line says about ports and interfaces that are not there.
fn name_unknown(wiring: &Wiring, armada: Option<&Armada>) {
    let supervisor = armada.and_then(|armada| armada.watch.supervisor.as_ref());
    for (name, _) in &wiring.links {
        if !supervisor.is_some_and(|supervisor| supervisor.names.contains(name)) {
            warn!("bootargs: link= names {name}, which is no port of a switch");
        }
    }
    for (name, _) in &wiring.macs {
        if !armada.is_some_and(|armada| armada.sockets.iter().any(|(own, ..)| own == name)) {
            warn!("bootargs: mac= names {name}, which is no interface whose address can be set");
        }
    }
    if supervisor.is_none() {
        for bridge in &wiring.bridges {
            warn!(
                "bootargs: bridge {} is not made: there is no switch",
                bridge.name
            );
        }
        if wiring.dsa_tag.is_some() {
            warn!("bootargs: dsa-tag= is ignored: there is no switch");
        }
    }
    if wiring.coalescing.is_some() && armada.is_none() {
        warn!("bootargs: coalesce= is ignored: no network card can be told");
    }
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
    let plan = switch.and_then(|switch| plan(switch, &node, mac_address, wiring));
    let mut interfaces = Interfaces::new();
    let mut supervisor = None;
    match plan {
        Some(mut plan) => {
            interfaces = core::mem::take(&mut plan.interfaces);
            supervisor = Some(supervise(machine, plan)?);
        }
        None if switch.is_some() => return None,
        None => {
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
            mailbox: supervisor.as_ref().map(|supervisor| supervisor.mailbox),
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
            supervisor,
            interrupt: slot.mask(),
            check_us: timer::now_us() + CHECK_US,
            down: false,
            rounds: 0,
            links_us: timer::now_us(),
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
            Err(error) => warn!("switch: ports do not stop: {error}"),
        },
    }
    let bridged = plan.config.bridges.into_iter().flatten();
    let supervisor = Supervisor {
        mailbox,
        due_us,
        sequence: Box::pin(mv88e6xxx::supervise(switch, mailbox)),
        names: plan.names,
        bridged: bridged.fold(PortSet::EMPTY, |all, bridge| {
            PortSet::from_bits(all.bits() | bridge.members.bits())
        }),
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
