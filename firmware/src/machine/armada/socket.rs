//! The frames' side: one MAC, shared by a socket for each interface.
//!
//! A socket that looks into the ring finds frames of others, too: it keeps them for their turn, and notes it.

use alloc::boxed::Box;
use core::cell::{Cell, RefCell};

use boards::armada3720 as board;
use hal::arch::{irq, timer};
use hal::net::bridge::Stations;
use hal::net::capture::{Direction, Tap};
use hal::net::drops::Reason;
use hal::net::mv88e6xxx::{Mailbox, PORTS, PortIndex, PortSet};
use hal::net::tag::{Drop, Drops, Protocol, Source, Tagger};
use hal::net::{Coalescing, Count, Counters, Frame, Link, MacAddr, Nic, Pool};
use heapless::Deque;

use super::looped::Looped;

/// Frames that one socket keeps for another until its turn.
pub(super) const QUEUE: usize = 64;
/// Frames taken for others before one socket ends its turn.
const HARVEST: usize = 64;

/// The sockets' bits in the sets of interrupts: they share one source, and the one bit that the source has would have
/// all of them look.
pub(super) const SOCKETS: u32 = u32::MAX << irq::SLOTS;

/// The bit of the socket behind a port.
pub(super) const fn bit(port: PortIndex) -> u32 {
    1 << (irq::SLOTS as u32 + port.get() as u32)
}

/// What sockets ask each other without borrowing the conduit: it is asked for in every round.
pub(super) struct Flags {
    /// Sockets for which there are frames that no interrupt will tell of.
    pub(super) waiting: Cell<u32>,
    /// Sockets whose link may have changed.
    pub(super) links: Cell<u32>,
    /// There is something that the MAC was not told of.
    pub(super) unflushed: Cell<bool>,
}

/// The MAC, shared by the sockets.
pub(super) struct Conduit {
    pub(super) mac: board::Port,
    /// `None` without a switch: then there is one socket.
    pub(super) tagger: Option<Tagger>,
    /// Who is shown every frame, tag and all.
    pub(super) tap: Option<Tap>,
    /// The interface that each port belongs to, by its first port.
    pub(super) owners: [PortIndex; PORTS],
    /// What waits for an interface, and the port it came in by.
    pub(super) queues: [Deque<(Frame, PortIndex), QUEUE>; PORTS],
    pub(super) flags: &'static Flags,
    /// The socket that had the last frame: the next one is likely to be its, too.
    pub(super) last: u32,
    /// The port that the last frame came in by.
    pub(super) came_by: PortIndex,
    pub(super) space_wanted: PortSet,
    pub(super) drops: Drops,
    pub(super) queue_full: u64,
    pub(super) untaggable: u64,
    /// The switch's port on our side.
    pub(super) cpu: PortIndex,
    /// The address of the interface that each port belongs to.
    pub(super) macs: [MacAddr; PORTS],
    /// A test of the self-test's, at work.
    pub(super) looped: Option<Looped>,
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
        match index.checked_sub(own.len() + Drop::ALL.len()) {
            Some(index) => port_count(mailbox, self.cpu, index),
            None => own.into_iter().chain(self.drops.each()).nth(index),
        }
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
        if let Some(tap) = &self.tap {
            tap.show(Direction::Received, frame.bytes());
        }
        let Some(tagger) = self.tagger else {
            return match self.looped {
                None => Some(frame),
                Some(_) => self.keep_looped(frame, None),
            };
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
            if let Some(tap) = &self.tap {
                tap.show(Direction::Received, frame.bytes());
            }
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
                    .set(self.flags.waiting.get() | self.waits(owner));
                let queue = &mut self.queues[usize::from(owner.get())];
                if let Err((frame, _)) = queue.push_back((frame, source.port)) {
                    self.queue_full += 1;
                    pool.discard(frame, Reason::QueueFull);
                }
            }
            Err(reason) => {
                if let Some(frame) = self.keep_looped(frame, Some(reason)) {
                    self.drops.count(reason);
                    pool.discard(frame, reason.into());
                }
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
        if let Some(tap) = &self.tap {
            tap.show(Direction::Sent, frame.bytes());
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
pub(super) struct Members {
    pub(super) ports: PortSet,
    /// Those with a link.
    pub(super) up: PortSet,
    pub(super) stations: Stations,
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
pub(in crate::machine) struct Socket {
    pub(super) conduit: &'static RefCell<Conduit>,
    pub(super) mailbox: Option<&'static Mailbox>,
    /// Of a bridge, the first.
    pub(super) port: PortIndex,
    pub(super) members: Option<Box<Members>>,
    pub(super) flags: &'static Flags,
    pub(super) mac: MacAddr,
    /// The MAC lets in more than is for us, because its filter cannot tell our addresses from others.
    pub(super) promiscuous: bool,
    pub(super) link: Link,
    pub(super) counters: Counters,
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
            pool.discard(frame, Reason::OtherStation);
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

    fn tap_conduit(&mut self, tap: Option<Tap>) -> Option<Protocol> {
        let mut conduit = self.conduit.borrow_mut();
        let protocol = conduit.tagger.as_ref()?.protocol();
        conduit.tap = tap;
        Some(protocol)
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
