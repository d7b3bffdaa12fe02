//! Statistics: the counters of every port and the snapshot unit, global 1 registers 0x1d to 0x1f.
//!
//! A capture copies one port's counters into the snapshot; reads come from there. 32 counters in each of two banks;
//! the two octet counters of bank 0 are 64 bits wide and take two numbers, low half first.
//!
//! ```text
//! 0x1d  busy 15 | op 14:12 | bank 1 at bit 10 | port + 1 at 9:5 | counter 4:0
//! 0x1e  counter bits 31:16            0x1f  counter bits 15:0
//! ```
//!
//! Spec: Linux global1.c (`mv88e6390_g1_stats_snapshot`) and the counter table of chip.c.

use super::context::{Busy, Context, Unit};
use super::port::PORTS;

/// One counter: its number in bank 0, or 32 plus its number in bank 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the counters' own")]
pub enum Counter {
    InGoodOctets = 0x00,
    InBadOctets = 0x02,
    OutFcsError = 0x03,
    InUnicast = 0x04,
    Deferred = 0x05,
    InBroadcast = 0x06,
    InMulticast = 0x07,
    Size64 = 0x08,
    Size65To127 = 0x09,
    Size128To255 = 0x0a,
    Size256To511 = 0x0b,
    Size512To1023 = 0x0c,
    Size1024ToMax = 0x0d,
    OutOctets = 0x0e,
    OutUnicast = 0x10,
    OutMulticast = 0x12,
    OutBroadcast = 0x13,
    OutPause = 0x15,
    InPause = 0x16,
    InUndersize = 0x18,
    InFragments = 0x19,
    InOversize = 0x1a,
    InJabber = 0x1b,
    InRxError = 0x1c,
    InFcsError = 0x1d,
    InDiscards = 0x20,
    InFiltered = 0x21,
    InAccepted = 0x22,
    InBadAccepted = 0x23,
    InDaUnknown = 0x2e,
    InManagement = 0x2f,
    OutQueue0 = 0x30,
    OutManagement = 0x3f,
}

/// Which frames the size counters 0x08 to 0x0d see: global 1 register 0x1c bits 7:6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Histogram {
    pub(crate) rx: bool,
    pub(crate) tx: bool,
}

/// The counters of one port.
#[derive(Clone, Debug)]
pub struct Counters([u64; 64]);

impl Default for Counters {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl Counters {
    /// A counter's value; only the two octet counters pass 32 bits.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        match counter {
            Counter::InGoodOctets | Counter::OutOctets => self.0[counter as usize],
            _ => self.0[counter as usize] & 0xffff_ffff,
        }
    }

    pub(crate) fn add(&mut self, counter: Counter, amount: u64) {
        let value = &mut self.0[counter as usize];
        *value = value.wrapping_add(amount);
    }

    pub(crate) fn count(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    pub(crate) fn count_out_queue(&mut self, queue: u8) {
        self.0[Counter::OutQueue0 as usize + usize::from(queue & 7)] += 1;
    }

    #[cfg(test)]
    pub(crate) fn queue(&self, queue: usize) -> u64 {
        self.0[Counter::OutQueue0 as usize + queue]
    }

    /// A good frame came in; `length` includes the FCS.
    pub(crate) fn good_frame_in(
        &mut self,
        destination: [u8; 6],
        length: usize,
        histogram: Histogram,
    ) {
        self.add(Counter::InGoodOctets, length as u64);
        self.count(by_cast(
            destination,
            [
                Counter::InUnicast,
                Counter::InMulticast,
                Counter::InBroadcast,
            ],
        ));
        if histogram.rx {
            self.count(by_size(length));
        }
    }

    /// A frame went out; `length` includes the FCS.
    pub(crate) fn frame_out(&mut self, destination: [u8; 6], length: usize, histogram: Histogram) {
        self.add(Counter::OutOctets, length as u64);
        self.count(by_cast(
            destination,
            [
                Counter::OutUnicast,
                Counter::OutMulticast,
                Counter::OutBroadcast,
            ],
        ));
        if histogram.tx {
            self.count(by_size(length));
        }
    }

    /// The 32 bits a read of number `id` in `bank` gives.
    fn word(&self, bank: usize, id: usize) -> u32 {
        let octets = [Counter::InGoodOctets as usize, Counter::OutOctets as usize];
        if bank == 0 && id > 0 && octets.contains(&(id - 1)) {
            return (self.0[id - 1] >> 32) as u32;
        }
        self.0[bank * 32 + id] as u32
    }
}

fn by_cast(destination: [u8; 6], [unicast, multicast, broadcast]: [Counter; 3]) -> Counter {
    match destination {
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => broadcast,
        [first, ..] if first & 1 != 0 => multicast,
        _ => unicast,
    }
}

fn by_size(length: usize) -> Counter {
    match length {
        0..=64 => Counter::Size64,
        65..=127 => Counter::Size65To127,
        128..=255 => Counter::Size128To255,
        256..=511 => Counter::Size256To511,
        512..=1023 => Counter::Size512To1023,
        _ => Counter::Size1024ToMax,
    }
}

/// The snapshot unit and every port's counters.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    operation: u16,
    value: u32,
    busy: Busy,
    snapshot: Counters,
    pub(crate) ports: [Counters; PORTS as usize],
}

impl Stats {
    pub(crate) fn read(&mut self, register: u8, context: &Context) -> u16 {
        match register {
            0x1d => {
                self.operation & 0x7fff | u16::from(self.busy.is_set(Unit::Stats, context)) << 15
            }
            0x1e => (self.value >> 16) as u16,
            _ => self.value as u16,
        }
    }

    pub(crate) fn write(&mut self, register: u8, value: u16, context: &mut Context) {
        if register != 0x1d {
            context.guest_error(
                "stats",
                format_args!("register {register:#04x} is read-only"),
            );
            return;
        }
        if self.busy.is_set(Unit::Stats, context) {
            context.guest_error(
                "stats",
                format_args!("operation {value:#06x} written while one runs"),
            );
            return;
        }
        self.operation = value & 0x7fff;
        if value & 0x8000 != 0 {
            self.execute(context);
            self.busy.start(context, context.timing.table);
        }
    }

    pub(crate) fn take_done(&mut self, context: &Context) -> bool {
        self.busy.take_done(Unit::Stats, context)
    }

    fn execute(&mut self, context: &mut Context) {
        // The port field counts from 1.
        let port = usize::from(self.operation >> 5 & 0x1f).wrapping_sub(1);
        match (self.operation >> 12 & 7, self.ports.get_mut(port)) {
            (0, _) => {}
            (1, _) => self
                .ports
                .iter_mut()
                .for_each(|counters| *counters = Counters::default()),
            (2, Some(counters)) => *counters = Counters::default(),
            (4, _) => {
                let bank = usize::from(self.operation >> 10 & 1);
                self.value = self.snapshot.word(bank, usize::from(self.operation & 0x1f));
            }
            (5, Some(counters)) => self.snapshot = counters.clone(),
            (operation, _) => {
                let port = self.operation >> 5 & 0x1f;
                context.guest_error(
                    "stats",
                    format_args!("operation {operation} with port field {port}"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::context::tests::context;

    const RX: Histogram = Histogram {
        rx: true,
        tx: false,
    };

    fn operate(stats: &mut Stats, context: &mut Context, value: u16) {
        stats.write(0x1d, 0x8000 | value, context);
        assert_ne!(stats.read(0x1d, context) & 0x8000, 0);
        context.now += context.timing.table;
        assert_eq!(stats.read(0x1d, context) & 0x8000, 0);
    }

    fn counter(stats: &mut Stats, context: &mut Context, bank: u16, id: u16) -> u32 {
        operate(stats, context, 0x4000 | bank << 10 | id);
        u32::from(stats.read(0x1e, context)) << 16 | u32::from(stats.read(0x1f, context))
    }

    #[test]
    fn a_capture_freezes_one_port_and_reads_both_banks() {
        let (mut stats, mut context) = (Stats::default(), context());
        stats.ports[2].add(Counter::InGoodOctets, 0x1_2345_6789);
        stats.ports[2].count(Counter::InFiltered);
        operate(&mut stats, &mut context, 0x5000 | 3 << 5);
        stats.ports[2].add(Counter::InGoodOctets, 1);
        assert_eq!(counter(&mut stats, &mut context, 0, 0), 0x2345_6789);
        assert_eq!(
            counter(&mut stats, &mut context, 0, 1),
            1,
            "the high half has the next number"
        );
        assert_eq!(
            counter(&mut stats, &mut context, 1, 1),
            1,
            "in filtered, bank 1"
        );
        operate(&mut stats, &mut context, 0x5000 | 1 << 5);
        assert_eq!(
            counter(&mut stats, &mut context, 0, 0),
            0,
            "port 0 saw nothing"
        );
    }

    #[test]
    fn flushes_clear_one_port_or_all() {
        let (mut stats, mut context) = (Stats::default(), context());
        stats
            .ports
            .iter_mut()
            .for_each(|counters| counters.count(Counter::InUnicast));
        operate(&mut stats, &mut context, 0x2000 | 2 << 5);
        let unicast = |stats: &Stats| {
            stats
                .ports
                .iter()
                .map(|port| port.get(Counter::InUnicast))
                .sum::<u64>()
        };
        assert_eq!(
            (unicast(&stats), stats.ports[1].get(Counter::InUnicast)),
            (5, 0)
        );
        operate(&mut stats, &mut context, 0x1000);
        assert_eq!(unicast(&stats), 0);
    }

    #[test]
    fn frames_count_by_cast_and_by_size_in_the_chosen_direction() {
        let mut counters = Counters::default();
        counters.good_frame_in([0xff; 6], 64, RX);
        counters.good_frame_in([1, 0, 0, 0, 0, 0], 65, RX);
        counters.good_frame_in([2, 0, 0, 0, 0, 0], 1518, RX);
        counters.frame_out([2, 0, 0, 0, 0, 0], 300, RX);
        let get = |counter| counters.get(counter);
        assert_eq!(
            [
                get(Counter::InBroadcast),
                get(Counter::InMulticast),
                get(Counter::InUnicast)
            ],
            [1; 3]
        );
        assert_eq!(
            [
                get(Counter::Size64),
                get(Counter::Size65To127),
                get(Counter::Size1024ToMax)
            ],
            [1; 3]
        );
        assert_eq!(
            (
                get(Counter::Size256To511),
                get(Counter::OutOctets),
                get(Counter::OutUnicast)
            ),
            (0, 300, 1)
        );
        assert_eq!(get(Counter::InGoodOctets), 64 + 65 + 1518);
    }

    #[test]
    fn a_port_that_does_not_exist_is_a_guest_error() {
        let (mut stats, mut context) = (Stats::default(), context());
        operate(&mut stats, &mut context, 0x5000);
        operate(&mut stats, &mut context, 0x5000 | 7 << 5);
        assert_eq!(context.env.guest_error_count(), 2);
    }
}
