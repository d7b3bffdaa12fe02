//! The network under test, clients around it, a wire that can be bad, and a clock moved by hand.
//!
//! ```text
//!   Host ─┐                                   interrupt line
//!   Host ─┼─ wire: loss, copies, reordering ─ Card ════════ Network::poll
//!   raw  ─┘            (events in time order)
//! ```
//!
//! Every round checks what must always hold: deadlines in the future, doorbells rung, no buffer lost, nothing allocated,
//! rounds bounded.

use std::collections::{BTreeMap, VecDeque};

use firmware::addressing::{Addressing, Config, Ipv4Config, Ipv6Config};
use firmware::capture::Capture;
use firmware::http::Access;
use firmware::network::{Network, Next, Port};
use firmware::random::Random;
use firmware::snapshot::System;
use hal::net::{MacAddr, Pool};
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::*;

use crate::allocation;
use crate::bench::FakeBench;
use crate::card::{BUFFERS, Card};
use crate::frames::{MAC, V4, V6};

pub const SECOND_US: u64 = 1_000_000;

/// The time that captures tell: what matters is that it goes on.
/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Rng(pub u64);

impl Rng {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.bits() % 100 < percent
    }
}

/// What the wire does to frames, in both directions.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    pub loss_percent: u64,
    pub copy_percent: u64,
    /// Frames that take up to 5 ms longer than those behind them.
    pub late_percent: u64,
}

/// One end of the wire that only collects.
#[derive(Default)]
pub struct Ether {
    rx: VecDeque<Vec<u8>>,
    tx: Vec<Vec<u8>>,
}

pub struct Rx(Vec<u8>);
pub struct Tx<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Ether {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        Some((Rx(self.rx.pop_front()?), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// A client machine, with a stack of its own.
pub struct Host {
    mac: MacAddr,
    ether: Ether,
    pub iface: Interface,
    pub sockets: SocketSet<'static>,
    next_port: u16,
    /// Vanished: hears and says nothing any more.
    pub gone: bool,
}

impl Host {
    fn new(number: u8) -> Self {
        let mac = [2, 0, 0, 0, 1, number];
        let mut ether = Ether::default();
        let mut config = smoltcp::iface::Config::new(EthernetAddress(mac).into());
        config.random_seed = u64::from(number) << 20;
        let mut iface = Interface::new(config, &mut ether, Instant::ZERO);
        iface.update_ip_addrs(|addresses| {
            let v6 = Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 1, u16::from(number));
            let _ = addresses.push(IpCidr::new(IpAddress::v4(10, 0, 0, number), 24));
            let _ = addresses.push(IpCidr::new(v6.into(), 64));
        });
        let storage = std::iter::repeat_with(|| smoltcp::iface::SocketStorage::EMPTY);
        Host {
            mac,
            ether,
            iface,
            sockets: SocketSet::new(storage.take(160).collect::<Vec<_>>().leak()),
            next_port: 40_000,
            gone: false,
        }
    }

    /// Starts a connection.
    pub fn connect(&mut self, to: impl Into<IpAddress>, port: u16) -> SocketHandle {
        self.connect_with(to, port, 64 << 10)
    }

    pub fn connect_with(
        &mut self,
        to: impl Into<IpAddress>,
        port: u16,
        window: usize,
    ) -> SocketHandle {
        let buffer = |len| tcp::SocketBuffer::new(vec![0u8; len].leak());
        let mut socket = tcp::Socket::new(buffer(window), buffer(64 << 10));
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        self.next_port += 1;
        socket
            .connect(self.iface.context(), (to.into(), port), self.next_port)
            .unwrap();
        self.sockets.add(socket)
    }

    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub fn udp(&mut self) -> SocketHandle {
        let buffer = || {
            udp::PacketBuffer::new(
                vec![udp::PacketMetadata::EMPTY; 64].leak(),
                vec![0u8; 64 << 10].leak(),
            )
        };
        self.next_port += 1;
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(self.next_port).unwrap();
        self.sockets.add(socket)
    }

    /// Says something short.
    pub fn say(&mut self, handle: SocketHandle, bytes: &[u8]) {
        assert_eq!(self.tcp(handle).send_slice(bytes), Ok(bytes.len()));
    }

    /// Everything that has come.
    pub fn hear(&mut self, handle: SocketHandle) -> Vec<u8> {
        let mut heard = Vec::new();
        while self
            .tcp(handle)
            .recv(|data| {
                heard.extend_from_slice(data);
                (data.len(), !data.is_empty())
            })
            .unwrap_or(false)
        {}
        heard
    }
}

enum Arrival {
    /// At the network's card.
    Ours(Vec<u8>),
    /// At the hosts.
    Theirs(Vec<u8>),
}

pub struct World {
    pub now_us: u64,
    pub network: Network<Card>,
    pub bench: FakeBench,
    pub hosts: Vec<Host>,
    pub faults: Faults,
    pub rng: Rng,
    /// What the network sent, for tests that look at frames. Cleared by [`World::sent`].
    log: Vec<Vec<u8>>,
    events: BTreeMap<(u64, u64), Arrival>,
    sequence: u64,
    masked: bool,
    next: Next,
    /// Calls of `poll` so far.
    pub polls: u64,
}

impl World {
    /// A network with fixed addresses that has come to rest, and so many hosts.
    pub fn new(hosts: u8) -> Self {
        let mut pool = Pool::new(BUFFERS);
        let card = Card::new(MAC, &mut pool);
        let config = Config {
            hostname: "test",
            ipv4: Ipv4Config::Static {
                cidr: Ipv4Cidr::new(V4, 24),
                gateway: Some(Ipv4Address::new(10, 0, 0, 1)),
            },
            ipv6: Ipv6Config::Static {
                cidr: Ipv6Cidr::new(V6, 64),
                gateway: None,
            },
        };
        let addressing = Addressing::new(config, EthernetAddress(MAC), 1);
        let name = "eth0".try_into().unwrap();
        let port = Port::new(name, card, 1, addressing, 2, &mut pool);
        let mut world = World {
            now_us: SECOND_US,
            network: Network::new(vec![port], pool, System::default()),
            bench: FakeBench::default(),
            hosts: (0..hosts).map(|number| Host::new(number + 10)).collect(),
            faults: Faults::default(),
            rng: Rng(1),
            log: Vec::new(),
            events: BTreeMap::new(),
            sequence: 0,
            masked: false,
            next: Next::Again,
            polls: 0,
        };
        world.run_for(20 * SECOND_US);
        assert!(world.network.ports[0].iface.has_ip_addr(V4));
        assert!(world.network.ports[0].iface.has_ip_addr(V6));
        world.log.clear();
        world
    }

    /// Allows captures, before the world runs.
    pub fn allow_captures(&mut self) -> &'static Capture {
        let mut random = Random::new(Some(b"capture"));
        let capture: &'static Capture =
            Box::leak(Box::new(Capture::new(&mut random, false).unwrap()));
        self.network.capture = Some(capture);
        self.network.access = Access::new("sesame".try_into().ok(), false);
        capture
    }

    pub fn card(&mut self) -> &mut Card {
        self.network.ports[0].nic.driver_mut()
    }

    /// Frames that the network has sent since the last call.
    pub fn sent(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.log)
    }

    /// Puts a frame on the wire towards the network.
    pub fn inject(&mut self, frame: Vec<u8>) {
        self.schedule(self.now_us + 50, Arrival::Ours(frame));
    }

    fn schedule(&mut self, at_us: u64, arrival: Arrival) {
        self.sequence += 1;
        self.events.insert((at_us, self.sequence), arrival);
    }

    fn carry(&mut self, frame: Vec<u8>, wrap: fn(Vec<u8>) -> Arrival) {
        let copies = 1 + usize::from(self.rng.percent(self.faults.copy_percent));
        for _ in 0..copies {
            if self.rng.percent(self.faults.loss_percent) {
                continue;
            }
            let mut delay_us = 50;
            if self.rng.percent(self.faults.late_percent) {
                delay_us += self.rng.bits() % 5_000;
            }
            self.schedule(self.now_us + delay_us, wrap(frame.clone()));
        }
    }

    /// Runs until `done`, for at most `limit_us`. Whether it was done.
    pub fn run(&mut self, limit_us: u64, mut done: impl FnMut(&mut World) -> bool) -> bool {
        let end_us = self.now_us + limit_us;
        loop {
            self.settle();
            if done(self) {
                return true;
            }
            // What `done` queued leaves now.
            self.settle();
            let now = Instant::from_micros(self.now_us as i64);
            let mut next_us = end_us;
            if let Some(&(at_us, _)) = self.events.keys().next() {
                next_us = next_us.min(at_us);
            }
            if let Next::At(at_us) = self.next {
                next_us = next_us.min(at_us);
            }
            next_us = next_us.min(self.network.errand_due_us());
            for host in &mut self.hosts {
                if let Some(at) = host
                    .iface
                    .poll_at(now, &host.sockets)
                    .filter(|_| !host.gone)
                {
                    next_us = next_us.min((at.total_micros() as u64).max(self.now_us + 1));
                }
            }
            if self.now_us >= end_us {
                return false;
            }
            self.now_us = next_us.max(self.now_us + 1);
        }
    }

    pub fn run_for(&mut self, time_us: u64) {
        self.run(time_us, |_| false);
    }

    /// Everything that happens at this moment.
    fn settle(&mut self) {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > self.now_us {
                break;
            }
            match entry.remove() {
                Arrival::Ours(frame) => self.card().arrive(&frame),
                Arrival::Theirs(frame) => self.deliver(frame),
            }
        }
        let now = Instant::from_micros(self.now_us as i64);
        let mut leaving = Vec::new();
        for host in self.hosts.iter_mut().filter(|host| !host.gone) {
            host.iface.poll(now, &mut host.ether, &mut host.sockets);
            leaving.append(&mut host.ether.tx);
        }
        for frame in leaving {
            self.carry(frame, Arrival::Ours);
        }
        self.serve();
        // The cable takes what the card has.
        while let Some(frame) = self.card().send_one() {
            self.log.push(frame.clone());
            self.carry(frame, Arrival::Theirs);
        }
        if self.card().raised && !self.masked {
            self.serve();
        }
    }

    fn deliver(&mut self, frame: Vec<u8>) {
        let to: MacAddr = frame[..6].try_into().unwrap();
        for host in &mut self.hosts {
            if (to[0] & 1 != 0 || to == host.mac) && !host.gone {
                host.ether.rx.push_back(frame.clone());
            }
        }
    }

    /// The main loop of the image, until it would sleep.
    fn serve(&mut self) {
        let due = match self.next {
            Next::Again => true,
            Next::At(at_us) => at_us <= self.now_us,
            Next::Idle => false,
        };
        let due = due || self.network.errand_due_us() <= self.now_us;
        let mut interrupted = self.card().raised && !self.masked;
        if !due && !interrupted {
            return;
        }
        for round in 0.. {
            assert!(round < 200, "the network spins");
            self.masked |= interrupted;
            let mut unmask = 0;
            let (now_us, pending) = (self.now_us, u32::from(interrupted));
            let network = &mut self.network;
            let (next, allocated) = allocation::during(|| {
                network.poll(now_us, pending, |interrupt| unmask |= interrupt)
            });
            self.next = next;
            self.polls += 1;
            assert_eq!(allocated, 0, "allocations in a running system");
            self.masked &= unmask == 0;
            self.check();
            interrupted = self.card().raised && !self.masked;
            let errand = self.run_errand();
            if self.next != Next::Again && !interrupted && !errand {
                break;
            }
        }
        if let Next::At(at_us) = self.next {
            assert!(
                at_us > self.now_us,
                "a deadline in the past: {at_us} at {now}",
                now = self.now_us
            );
        }
    }

    /// The command that somebody waits for, if it is due.
    fn run_errand(&mut self) -> bool {
        if self.network.errand_due_us() > self.now_us {
            return false;
        }
        self.bench.now_us = self.now_us;
        let mut errand = self.network.take_errand().unwrap();
        errand.run(&mut self.bench);
        self.network.put_errand(errand);
        true
    }

    fn check(&mut self) {
        let port = &self.network.ports[0];
        assert!(port.books_balance(), "{:?}", port.counters);
        let card = self.card();
        assert!(card.is_flushed(), "frames wait for a doorbell");
        let held = card.held();
        assert_eq!(
            self.network.pool.available() + held,
            BUFFERS,
            "buffers are lost"
        );
    }

    /// Nothing may be left open, nothing may go on.
    pub fn assert_rest(&mut self) {
        let polls = self.polls;
        self.run_for(60 * SECOND_US);
        assert!(
            self.polls - polls < 40,
            "{} polls in an idle minute",
            self.polls - polls
        );
    }

    /// Connections in the pool.
    pub fn open(&self) -> usize {
        use firmware::connections::Service;
        self.network.connections.open(Service::Echo) + self.network.connections.open(Service::Http)
    }
}
