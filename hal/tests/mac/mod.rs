//! The model's MAC alone on a wire of its own, and memory with a CPU's and a device's side.
//!
//! The CPU's side of a buffer is the buffer itself. The device's side is a copy, line by line, that only the driver's
//! cache operations and the device's DMA bring together: a forgotten one leaves stale bytes. Rings are uncached: both
//! sides see the same words.

#![allow(dead_code, reason = "every test file uses another part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests are tests"
)]

use espressobin_model::bus::{self, Env};
use espressobin_model::doubts::Doubts;
use espressobin_model::neta::{Neta as Mac, WireFrame};
use hal::dma::{Dma, LINE};
use hal::net::neta::{Config, Descriptor, Neta};
use hal::net::{MacAddr, Nic, Pool};
use hal::regs::Bus;
use hal::time::Clock;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

pub const OWN: MacAddr = [0x02, 0, 0, 0, 0, 0x10];
pub const PEER: MacAddr = [0x02, 0, 0, 0, 0, 0x99];

/// Host addresses are 64 bits wide, the device's 32: their low bits, which differ within one test.
fn device_address(start: *const u8) -> u32 {
    start.addr() as u32 & 0x7fff_ffff
}

/// One cache line's device side.
#[derive(Clone)]
struct Line {
    device: [u8; LINE],
    /// What the CPU's line held when the two sides last met; if it differs now, the line is dirty.
    met: [u8; LINE],
}

#[derive(Default)]
pub struct Memory {
    lines: HashMap<u32, Line>,
    rings: Vec<(u32, &'static [Descriptor])>,
    /// Something was cleaned, and no barrier came since.
    unpublished: bool,
    /// A boot loader's memory, and where it lies.
    pub loader: Vec<u8>,
    pub loader_range: std::ops::Range<u32>,
    pub loader_writes: usize,
}

impl Memory {
    fn each(memory: &[u8]) -> impl Iterator<Item = (u32, [u8; LINE])> {
        assert_eq!(memory.as_ptr().addr() % LINE, 0, "not a whole line");
        assert_eq!(memory.len() % LINE, 0, "not a whole line");
        let start = device_address(memory.as_ptr());
        memory
            .chunks(LINE)
            .enumerate()
            .map(move |(n, line)| (start + (n * LINE) as u32, line.try_into().unwrap()))
    }

    fn clean(&mut self, memory: &[u8]) {
        for (address, bytes) in Self::each(memory) {
            let line = self.lines.entry(address).or_insert(Line {
                device: bytes,
                met: bytes,
            });
            if line.met != bytes {
                (line.device, line.met) = (bytes, bytes);
            }
        }
        self.unpublished = true;
    }

    /// Drops the lines; as if the core fetched them again at once.
    fn drop_lines(&mut self, memory: &mut [u8], may_be_dirty: bool) {
        let start = device_address(memory.as_ptr());
        for (n, chunk) in memory.chunks_mut(LINE).enumerate() {
            let address = start + (n * LINE) as u32;
            let line = self
                .lines
                .get_mut(&address)
                .expect("never given to the device");
            assert!(
                may_be_dirty || line.met == *chunk,
                "line {address:#x} was dirty while the device wrote it"
            );
            chunk.copy_from_slice(&line.device);
            line.met = line.device;
        }
    }

    /// One access by the device, within a line. Rings are accessed in whole words.
    fn access(&mut self, address: u32, data: &mut [u8], write: bool) -> bool {
        if let Some((base, ring)) = self
            .rings
            .iter()
            .find(|(base, ring)| address.wrapping_sub(*base) < 32 * ring.len() as u32)
        {
            for (n, word) in data.chunks_mut(4).enumerate() {
                let offset = (address - base) as usize + 4 * n;
                let descriptor = &ring[offset / 32];
                match (write, &mut *word) {
                    (true, word) => descriptor.set_word(
                        offset % 32 / 4,
                        u32::from_le_bytes((&*word).try_into().unwrap()),
                    ),
                    (false, word) => word.copy_from_slice(
                        &descriptor.word(offset % 32 / 4).to_le_bytes()[..word.len()],
                    ),
                }
            }
            return true;
        }
        let place = if self.loader_range.contains(&address) {
            self.loader_writes += usize::from(write);
            let at = (address - self.loader_range.start) as usize;
            self.loader.get_mut(at..at + data.len())
        } else {
            let at = address as usize % LINE;
            let line = self.lines.get_mut(&(address & !(LINE as u32 - 1)));
            line.map(|line| &mut line.device[at..at + data.len()])
        };
        match place {
            Some(place) if write => place.copy_from_slice(data),
            Some(place) => data.copy_from_slice(place),
            None => return false,
        }
        true
    }

    /// Cuts an access at the ends of lines.
    fn access_all(&mut self, address: u64, mut data: &mut [u8], write: bool) -> bool {
        let mut address = address as u32;
        while !data.is_empty() {
            let len = data.len().min(LINE - address as usize % LINE);
            let (now, later) = data.split_at_mut(len);
            if !self.access(address, now, write) {
                return false;
            }
            (address, data) = (address + len as u32, later);
        }
        true
    }
}

impl bus::Dma for Memory {
    fn read(&mut self, address: u64, data: &mut [u8]) -> bool {
        self.access_all(address, data, false)
    }

    fn write(&mut self, address: u64, data: &[u8]) -> bool {
        self.access_all(address, &mut data.to_vec(), true)
    }
}

/// What the model and the driver share.
pub struct World {
    pub env: Env,
    pub mac: Mac,
    pub memory: Memory,
    /// Accesses to registers so far.
    pub accesses: u64,
    /// Register writes, oldest first, while somebody wants them.
    pub writes: Option<Vec<(u32, u32)>>,
    /// Queue status registers tell this instead of the truth.
    pub lie: Option<u32>,
    /// No count was read since the last barrier.
    pub observed: bool,
}

#[derive(Clone)]
pub struct Shared(pub Rc<RefCell<World>>);

pub type Port<const RX: usize, const TX: usize> = Neta<Shared, Shared, RX, TX>;

/// Whether a write hands descriptors to the device; taking some back needs no barrier.
fn is_doorbell(offset: u32, value: u32) -> bool {
    (0x1500..0x1520).contains(&offset) && value >> 16 != 0
        || (0x3c60..0x3c80).contains(&offset) && value & 0xff != 0
}

impl Bus for Shared {
    fn read(&mut self, offset: u32) -> u32 {
        let World {
            env,
            mac,
            memory,
            accesses,
            lie,
            observed,
            ..
        } = &mut *self.0.borrow_mut();
        *accesses += 1;
        env.now += 100;
        if (0x14e0..0x1500).contains(&offset) {
            *observed = false;
        }
        if let (Some(lie), 0x14e0..0x1500 | 0x3c40..0x3c60) = (lie, offset) {
            return *lie;
        }
        mac.read(env, memory, offset, 4)
    }

    fn write(&mut self, offset: u32, value: u32) {
        let World {
            env,
            mac,
            memory,
            accesses,
            writes,
            ..
        } = &mut *self.0.borrow_mut();
        *accesses += 1;
        env.now += 100;
        if is_doorbell(offset, value) {
            assert!(!memory.unpublished, "doorbell without a barrier");
        }
        if let Some(writes) = writes {
            writes.push((offset, value));
        }
        mac.write(env, memory, offset, 4, value);
    }
}

impl Dma for Shared {
    fn bus_addr(&mut self, start: *const u8, _bytes: usize) -> Option<u32> {
        Some(device_address(start))
    }

    fn clean(&mut self, memory: &[u8]) {
        self.0.borrow_mut().memory.clean(memory);
    }

    fn clean_invalidate(&mut self, memory: &mut [u8]) {
        let world = &mut *self.0.borrow_mut();
        world.memory.clean(memory);
        world.memory.drop_lines(memory, true);
    }

    fn invalidate(&mut self, memory: &mut [u8]) {
        let world = &mut *self.0.borrow_mut();
        assert!(world.observed, "descriptors read without a barrier");
        world.memory.drop_lines(memory, false);
    }

    fn publish(&mut self) {
        self.0.borrow_mut().memory.unpublished = false;
    }

    fn observe(&mut self) {
        self.0.borrow_mut().observed = true;
    }
}

impl Clock for Shared {
    fn now_us(&mut self) -> u64 {
        self.pass_us(1);
        self.0.borrow().env.now / 1000
    }
}

impl Shared {
    pub fn new(doubts: Doubts) -> Self {
        let mut env = Env::default();
        env.doubts = doubts;
        env.strict = true;
        env.now = 1_000_000_000;
        Shared(Rc::new(RefCell::new(World {
            mac: Mac::new("neta0", &env),
            env,
            memory: Memory::default(),
            accesses: 0,
            writes: None,
            lie: None,
            observed: false,
        })))
    }

    /// A driver with rings of its own, not yet brought up.
    pub fn port<const RX: usize, const TX: usize>(&self, config: Config) -> Port<RX, TX> {
        Neta::new(
            self.clone(),
            self.clone(),
            config,
            self.ring(RX),
            self.ring(TX),
        )
        .unwrap()
    }

    /// A driver that runs, and its buffers.
    pub fn running<const RX: usize, const TX: usize>(&self) -> (Port<RX, TX>, Pool) {
        let mut pool = Pool::new(RX + TX + 8);
        let mut port = self.port(Config::conduit(OWN, 250_000_000));
        port.bring_up(&mut self.clone(), &mut pool).unwrap();
        (port, pool)
    }

    /// Uncached memory for a ring.
    pub fn ring(&self, len: usize) -> &'static [Descriptor] {
        let ring: &'static [Descriptor] =
            Box::leak((0..len).map(|_| Descriptor::default()).collect());
        let base = device_address(ring.as_ptr().cast());
        self.0.borrow_mut().memory.rings.push((base, ring));
        ring
    }

    pub fn pass_us(&self, us: u64) {
        let World {
            env, mac, memory, ..
        } = &mut *self.0.borrow_mut();
        env.now += us * 1000;
        mac.advance(env, memory);
    }

    pub fn now_us(&self) -> u64 {
        self.0.borrow().env.now / 1000
    }

    pub fn faults(&self, list: &str) {
        self.0.borrow_mut().env.faults.set_list(list).unwrap();
    }

    /// A frame arrives on the wire.
    pub fn arrive(&self, data: &[u8]) {
        self.arrive_as(data, false);
    }

    pub fn arrive_as(&self, data: &[u8], bad_fcs: bool) {
        let World {
            env, mac, memory, ..
        } = &mut *self.0.borrow_mut();
        let data = data.to_vec();
        mac.receive(env, memory, WireFrame { data, bad_fcs });
    }

    /// The next frame that left on the wire.
    pub fn departed(&self) -> Option<Vec<u8>> {
        let frame = self.0.borrow_mut().mac.take_sent()?;
        assert!(!frame.bad_fcs);
        Some(frame.data)
    }

    pub fn interrupted(&self) -> bool {
        let world = self.0.borrow();
        world.mac.irq_line(&world.env)
    }

    /// A word of a descriptor of ring `number`, in the order in which the rings were made.
    pub fn spoil(&self, number: usize, descriptor: usize, word: usize, value: u32) {
        self.0.borrow().memory.rings[number].1[descriptor].set_word(word, value);
    }

    pub fn register(&self, offset: u32) -> u32 {
        self.0.borrow().mac.stored(offset)
    }

    #[track_caller]
    pub fn expect_no_guest_errors(&self) {
        assert_eq!(self.0.borrow().env.guest_errors(), []);
    }
}

/// A frame to `to` with a payload that tells it from others.
pub fn frame(to: MacAddr, number: u32, len: usize) -> Vec<u8> {
    let mut data = [&to[..], &PEER, &[0x88, 0xb5], &number.to_be_bytes()].concat();
    data.extend((data.len()..len).map(|n| (n as u32 * 7 + number) as u8));
    data
}

/// The poll loop in small: answers every frame in place, as the echo path does, until the ring is empty.
pub fn echo<N: Nic>(port: &mut N, pool: &mut Pool) -> usize {
    let mut count = 0;
    port.acknowledge();
    while let Some(mut frame) = port.receive(pool) {
        let bytes = frame.bytes_mut();
        let (to, rest) = bytes.split_at_mut(6);
        to.swap_with_slice(&mut rest[..6]);
        port.transmit(frame, pool);
        count += 1;
    }
    port.flush();
    count
}

/// What [`echo`] makes of a frame, padded as a MAC does.
pub fn echoed(frame: &[u8]) -> Vec<u8> {
    let mut answer = [&frame[6..12], &frame[..6], &frame[12..]].concat();
    answer.resize(answer.len().max(60), 0);
    answer
}
