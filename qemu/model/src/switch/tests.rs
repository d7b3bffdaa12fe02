//! The switch as a whole, driven over MDIO and with frames, the way drivers do.

use super::*;
use crate::phy::{Modes, Speed};
use crate::prng::Prng;

mod bridging;
mod bring_up;
mod doubts;
mod frames;
mod registers;

const SMI: u8 = 1;
const GLOBAL1: u8 = 0x1b;
const GLOBAL2: u8 = 0x1c;

/// Station addresses: `H` of the host behind the conduit, `A` to `C` at ports 1 to 3.
const H: [u8; 6] = [0x02, 0, 0, 0, 0, 0x10];
const A: [u8; 6] = [0x02, 0, 0, 0, 0, 0x11];
const B: [u8; 6] = [0x02, 0, 0, 0, 0, 0x12];
const C: [u8; 6] = [0x02, 0, 0, 0, 0, 0x13];
const BROADCAST: [u8; 6] = [0xff; 6];
const STP: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0];

/// A frame as it leaves: port and bytes.
type Sent = (u8, Vec<u8>);

/// A switch on a bus, as a driver has it.
struct Bench {
    env: Env,
    switch: Switch,
}

impl Bench {
    /// As power leaves it, no cable in any port.
    fn new() -> Self {
        Self::with(PowerOn::Straps, &[])
    }

    fn with(state: PowerOn, doubts: &[(&str, &str)]) -> Self {
        let mut env = Env::default();
        for (name, reading) in doubts {
            env.doubts.set(name, reading).unwrap();
        }
        let switch = Switch::new(&mut env, SmiMode::MultiChip(SMI), Timing::FAST, state);
        Self { env, switch }
    }

    /// Ready for traffic as U-Boot leaves it: links up on ports 1 to 3.
    fn linked(doubts: &[(&str, &str)]) -> Self {
        let mut bench = Self::with(PowerOn::UBoot, doubts);
        bench.plug_all();
        bench
    }

    fn plug_all(&mut self) {
        for port in 1..=3 {
            self.switch
                .set_cable(&mut self.env, PortId(port), Some(Partner::GIGABIT));
        }
        self.wait(Timing::FAST.autoneg_1000);
    }

    fn wait(&mut self, ns: u64) {
        self.env.now += ns;
    }

    /// One MDIO frame takes 25 us.
    fn mdio_read(&mut self, register: u8) -> u16 {
        self.wait(25_000);
        self.switch
            .smi_read(&mut self.env, SMI, register)
            .unwrap_or(0xffff)
    }

    fn mdio_write(&mut self, register: u8, value: u16) {
        self.wait(25_000);
        self.switch.smi_write(&mut self.env, SMI, register, value);
    }

    fn smi_wait(&mut self) {
        assert!(
            (0..16).any(|_| self.mdio_read(0) & 0x8000 == 0),
            "SMI stays busy"
        );
    }

    fn read(&mut self, device: u8, register: u8) -> u16 {
        self.smi_wait();
        self.mdio_write(0, 0x9800 | u16::from(device) << 5 | u16::from(register));
        self.smi_wait();
        self.mdio_read(1)
    }

    fn write(&mut self, device: u8, register: u8, value: u16) {
        self.smi_wait();
        self.mdio_write(1, value);
        self.mdio_write(0, 0x9400 | u16::from(device) << 5 | u16::from(register));
        self.smi_wait();
    }

    fn port(&mut self, port: u8, register: u8, value: u16) {
        self.write(0x10 + port, register, value);
    }

    fn poll_idle(&mut self, device: u8, register: u8) {
        assert!(
            (0..16).any(|_| self.read(device, register) & 0x8000 == 0),
            "{device:#x} {register:#x} stays busy"
        );
    }

    fn phy_read(&mut self, port: u8, register: u8) -> u16 {
        self.write(
            GLOBAL2,
            0x18,
            0x9800 | u16::from(0x10 + port) << 5 | u16::from(register),
        );
        self.poll_idle(GLOBAL2, 0x18);
        self.read(GLOBAL2, 0x19)
    }

    fn phy_write(&mut self, port: u8, register: u8, value: u16) {
        self.write(GLOBAL2, 0x19, value);
        self.write(
            GLOBAL2,
            0x18,
            0x9400 | u16::from(0x10 + port) << 5 | u16::from(register),
        );
        self.poll_idle(GLOBAL2, 0x18);
    }

    fn atu_load(&mut self, fid: u16, mac: [u8; 6], data: u16) {
        for (at, pair) in (0..).zip(mac.chunks(2)) {
            self.write(GLOBAL1, 0x0d + at, u16::from_be_bytes([pair[0], pair[1]]));
        }
        self.write(GLOBAL1, 0x0c, data);
        self.atu_operation(fid, 3);
    }

    fn atu_operation(&mut self, fid: u16, operation: u16) {
        let control = self.read(GLOBAL1, 0x0a) & 0x0fff | (fid & 0xf0) << 8;
        self.write(GLOBAL1, 0x0a, control);
        self.write(GLOBAL1, 0x0b, 0x8000 | operation << 12 | fid & 0x0f);
        self.poll_idle(GLOBAL1, 0x0b);
    }

    /// Loads a VLAN of SID 0; `members` holds the two tag bits of each of the six ports.
    fn vtu_load(&mut self, vid: u16, fid: u16, members: [u16; 6]) {
        let word = |from: usize| {
            members
                .iter()
                .skip(from)
                .take(4)
                .enumerate()
                .fold(0, |w, (at, m)| w | m << (at * 4))
        };
        self.write(GLOBAL1, 0x06, 0x1000 | vid);
        self.write(GLOBAL1, 0x07, word(0));
        self.write(GLOBAL1, 0x08, word(4));
        self.write(GLOBAL1, 0x09, 0);
        self.write(GLOBAL1, 0x03, 0);
        self.write(GLOBAL1, 0x02, fid);
        self.write(GLOBAL1, 0x05, 0xb000);
        self.poll_idle(GLOBAL1, 0x05);
    }

    fn stu_load(&mut self, sid: u16, states: [u16; 3]) {
        self.write(GLOBAL1, 0x06, 0x1000);
        self.write(GLOBAL1, 0x03, sid);
        for (at, word) in (0..).zip(states) {
            self.write(GLOBAL1, 0x07 + at, word);
        }
        self.write(GLOBAL1, 0x05, 0xd000);
        self.poll_idle(GLOBAL1, 0x05);
    }

    fn pvt_write(&mut self, device: u16, port: u16, ports: u16) {
        self.write(GLOBAL2, 0x0c, ports);
        self.write(GLOBAL2, 0x0b, 0xb000 | device << 4 | port);
        self.poll_idle(GLOBAL2, 0x0b);
    }

    fn counter(&mut self, port: u8, counter: Counter) -> u64 {
        self.switch.counters(PortId(port)).unwrap().get(counter)
    }

    /// Sends a frame into a port; what comes out where.
    fn send(&mut self, port: u8, frame: &[u8]) -> Vec<Sent> {
        let mut sent = Vec::new();
        self.wait(1000);
        let mut sink = |port: PortId, frame: &[u8]| sent.push((port.0, frame.to_vec()));
        self.switch
            .frame_from_port(&mut self.env, PortId(port), frame, &mut sink);
        sent.sort();
        sent
    }

    /// The ports a frame comes out of.
    fn ports(&mut self, port: u8, frame: &[u8]) -> Vec<u8> {
        self.send(port, frame)
            .into_iter()
            .map(|(port, _)| port)
            .collect()
    }

    #[track_caller]
    fn assert_clean(&mut self) {
        let errors = self.env.take_guest_errors();
        assert!(errors.is_empty(), "guest errors: {errors:#?}");
    }
}

/// Addresses, then whatever follows, padded to 60 bytes.
fn frame(destination: [u8; 6], source: [u8; 6], rest: &[u8]) -> Vec<u8> {
    let mut frame = [&destination[..], &source[..], rest].concat();
    frame.resize(frame.len().max(60), 0xee);
    frame
}

/// An untagged frame of a local experimental EtherType.
fn plain(destination: [u8; 6], source: [u8; 6]) -> Vec<u8> {
    frame(destination, source, &[0x88, 0xb5, 1, 2, 3, 4])
}

/// The same with an 802.1Q tag of these 16 bits.
fn tagged(destination: [u8; 6], source: [u8; 6], tci: u16) -> Vec<u8> {
    let [high, low] = tci.to_be_bytes();
    let mut frame = [
        &destination[..],
        &source[..],
        &[0x81, 0x00, high, low],
        &plain(destination, source)[12..],
    ]
    .concat();
    frame.truncate(64);
    frame
}

/// `frame` with a DSA tag between addresses and EtherType; with `edsa` the long form.
fn with_tag(frame: &[u8], tag: [u8; 4], edsa: bool) -> Vec<u8> {
    let prefix: &[u8] = if edsa { &[0xda, 0xda, 0, 0] } else { &[] };
    [&frame[..12], prefix, &tag, &frame[12..]].concat()
}

/// `frame`, which has an 802.1Q tag, with that tag replaced.
fn replace_tag(frame: &[u8], tag: [u8; 4], edsa: bool) -> Vec<u8> {
    with_tag(&[&frame[..12], &frame[16..]].concat(), tag, edsa)
}
