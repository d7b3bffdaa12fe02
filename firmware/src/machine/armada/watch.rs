//! The other side: what has to be done beside the frames. The switch's sequence, a step at a time, and a look at the MAC.

use core::cell::{Cell, RefCell};

use hal::arch::timer::SystemClock;
use hal::net::mv88e6xxx::{Event, Mailbox, PORTS, PortIndex, PortSet};
use hal::net::neta::Fault;
use hal::net::steps;
use hal::net::{Frame, Link, Nic, Pool};
use log::{error, info, warn};

use super::socket::{Conduit, Flags, SOCKETS};
use crate::network::{LinkLine, Name};
use crate::selftest::Way;
use crate::switch::Sequence;
use crate::trace::{Event as Traced, trace};

/// Time between two looks at the MAC.
pub(super) const CHECK_US: u64 = 1_000_000;

/// The management bus: whose sequence it belongs to, and how to reach that.
pub(super) struct ManagementBus {
    pub(super) mailbox: &'static Mailbox,
    pub(super) due_us: &'static Cell<u64>,
    pub(super) sequence: Sequence,
}

/// What is known about the switch on it.
pub(super) struct Supervisor {
    pub(super) names: [Name; PORTS],
    /// Ports that are no interface of their own: nobody else tells of their links.
    pub(super) bridged: PortSet,
}

impl Supervisor {
    /// Tells what is new. Whether a link has changed.
    fn tell(&self, mailbox: &Mailbox) -> bool {
        let mut changed = false;
        while let Some(event) = mailbox.take_event() {
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
                    trace(Traced::SwitchRepaired, (0, 0));
                    warn!("switch: all ports stopped, brought up anew: {trouble}");
                }
                Event::Link {
                    port,
                    event: hal::net::phy::Event::Fault(fault),
                } => warn!("{}: no link: {fault}", name(port)),
                Event::Link { port, .. } => {
                    changed = true;
                    if self.bridged.has(port) {
                        let link = Link::from(mailbox.link(port));
                        info!("{}: {}", name(port), LinkLine(link));
                    }
                }
                Event::PhyFailed { port, cause } => {
                    changed = true;
                    trace(Traced::PhyFailed, (port.get(), 0));
                    warn!("{}: PHY: {cause}", name(port));
                }
                Event::CountersFailed(error) => warn!("switch: {error}"),
            }
        }
        changed
    }
}

/// What has to be done beside the frames.
pub(in crate::machine) struct Watch {
    pub(super) conduit: &'static RefCell<Conduit>,
    pub(super) flags: &'static Flags,
    pub(super) bus: ManagementBus,
    pub(super) supervisor: Option<Supervisor>,
    pub(super) interrupt: u32,
    pub(super) check_us: u64,
    /// A restart failed: the next look tries again.
    pub(super) down: bool,
    /// Rounds over the links so far, and when the last one was noticed.
    pub(super) rounds: u32,
    pub(super) links_us: u64,
}

impl Watch {
    /// When [`Watch::poll`] wants to be called.
    pub(in crate::machine) fn due_us(&self) -> u64 {
        self.check_us.min(self.bus.due_us.get())
    }

    /// When all links were last looked after.
    pub(in crate::machine) fn links_us(&self) -> u64 {
        self.links_us
    }

    /// A set of interrupts, the MAC's own replaced by that of the socket that is likely to have caused it. If it was
    /// another, this one finds the frame for it.
    #[inline]
    pub(in crate::machine) fn sort(&self, pending: u32) -> u32 {
        if pending & self.interrupt == 0 {
            return pending;
        }
        let mut conduit = self.conduit.borrow_mut();
        conduit.mac.acknowledge();
        pending & !self.interrupt | conduit.last
    }

    /// The way back: what may interrupt again when a socket is done.
    #[inline]
    pub(in crate::machine) fn source(&self, done: u32) -> u32 {
        if done & SOCKETS == 0 {
            done
        } else {
            self.interrupt
        }
    }

    /// Has frames of the self-test come back, or no longer.
    pub(in crate::machine) fn set_loop(&mut self, way: Option<Way>, pool: &mut Pool) {
        let mut conduit = self.conduit.borrow_mut();
        match way {
            Some(way) => conduit.begin_loop(way),
            None => conduit.end_loop(pool),
        }
    }

    /// Sends one of them, with these bytes behind the addresses.
    pub(in crate::machine) fn send_looped(
        &mut self,
        bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]),
        pool: &mut Pool,
    ) -> bool {
        let mut conduit = self.conduit.borrow_mut();
        conduit.send_looped(bytes, fill, pool)
    }

    /// One that came back.
    pub(in crate::machine) fn take_looped(&mut self) -> Option<Frame> {
        self.conduit.borrow_mut().take_looped()
    }

    /// Interrupts of the MAC.
    pub(in crate::machine) fn interrupts(&self) -> u64 {
        self.conduit.borrow().mac.driver_counters().interrupts
    }

    /// Does what is due. Returns interrupts to be treated as pending: somebody has to look at their interfaces.
    pub(in crate::machine) fn poll(&mut self, now_us: u64, pool: &mut Pool) -> u32 {
        let mut look = false;
        if self.bus.due_us.get() <= now_us {
            let _ = steps::step(self.bus.sequence.as_mut());
            let mailbox = self.bus.mailbox;
            look = matches!(&self.supervisor, Some(supervisor) if supervisor.tell(mailbox));
            let rounds = mailbox.rounds();
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
                trace(Traced::MacFault, (0, 0));
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
        trace(Traced::MacRestarted, ((!self.down).into(), 0));
        match result {
            Ok(()) => info!("neta: restarted"),
            Err(error) => error!("neta: {error}"),
        }
        true
    }
}
