//! Address translation unit: the MAC table, global 1 registers 0x0a to 0x0f.
//!
//! Owns the table, its ageing and the violation waiting for service. Learning *decisions* are the data path's
//! (`forward.rs`); this block only knows how an entry is found, refreshed, moved and lost.
//!
//! ```text
//! 0x0a  FID 7:4 | age time 11:4 | learn2all | hash      0x0c  trunk 15 | port vector 11:4 | state 3:0
//! 0x0b  busy | op | violation | FID 3:0                 0x0d..0x0f  MAC address, big endian pairs
//! ```
//!
//! Spec: Linux global1.h and global1_atu.c for the layout and the operations. Inherited: how entries share the
//! 2048 places (hash buckets) is not public, so the table is full only when all of them are taken.

use super::context::{Busy, Context, Pending, Unit};
use crate::bus::Nanos;
use std::collections::BTreeMap;

/// A MAC address as on the wire.
pub type MacAddr = [u8; 6];

/// Places in the table. Spec: Linux chip.c, `num_macs` of the 88E6341.
pub const CAPACITY: usize = 2048;
/// One count of the age time, in nanoseconds. Spec: Linux chip.c, `age_time_coeff` 3750 ms.
const AGE_UNIT_NS: u64 = 3_750_000_000;
/// A dynamic entry lives through this many steps without being refreshed (states 7 down to 1).
const AGE_STEPS: u64 = 7;

/// The port vector has eight bits. Spec: Linux chip.c, commit 4ae01ec00771.
const PORT_VECTOR: u16 = 0xff;

/// Where a frame for an address goes, and how the entry came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Bits 3:0: see [`Entry::is_static`] and its siblings.
    pub state: u8,
    /// The low four bits of `port_vector` are a trunk id.
    pub trunk: bool,
    /// One bit per port.
    pub port_vector: u16,
}

impl Entry {
    /// Newest dynamic state.
    pub const NEWEST: u8 = 7;

    fn from_data(data: u16) -> Self {
        Self {
            state: (data & 0xf) as u8,
            trunk: data & 0x8000 != 0,
            port_vector: data >> 4 & PORT_VECTOR,
        }
    }

    fn to_data(self) -> u16 {
        u16::from(self.trunk) << 15 | self.port_vector << 4 | u16::from(self.state)
    }

    /// Never aged and never moved by learning.
    #[must_use]
    pub fn is_static(self, mac: MacAddr) -> bool {
        if is_multicast(mac) {
            self.state != 0
        } else {
            self.state >= 8
        }
    }

    /// Frames for this address are management: they pass blocked ports.
    #[must_use]
    pub fn is_management(self, mac: MacAddr) -> bool {
        if is_multicast(mac) {
            matches!(self.state, 6 | 0xe)
        } else {
            matches!(self.state, 0xc | 0xd)
        }
    }

    /// Frames for or from this address are subject to the ports' DA and SA policies.
    #[must_use]
    pub fn is_policy(self, mac: MacAddr) -> bool {
        if is_multicast(mac) {
            matches!(self.state, 4 | 0xc)
        } else {
            matches!(self.state, 8 | 9)
        }
    }
}

/// True for group addresses, broadcast included.
#[must_use]
pub fn is_multicast(mac: MacAddr) -> bool {
    mac[0] & 1 != 0
}

/// Something the table wants the CPU to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViolationKind {
    /// An entry of a port that asked for it died of age.
    AgeOut,
    /// A source address belongs to another port.
    Member,
    /// A locked port saw an unknown source address.
    Miss,
    /// No place was left.
    Full,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Violation {
    kind: ViolationKind,
    fid: u8,
    mac: MacAddr,
    entry: Entry,
    port: u8,
}

/// What learning a source address did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learnt {
    /// The table now says what the frame said.
    Stored,
    /// A static entry says otherwise and stays.
    KeptStatic,
    /// The table is full.
    Full,
}

/// The unit: its registers and its table.
#[derive(Debug, Default)]
pub(crate) struct Atu {
    control: u16,
    operation: u16,
    data: u16,
    mac: MacAddr,
    busy: Busy,
    entries: BTreeMap<u64, Entry>,
    next_age_step: u64,
    pub(crate) violation: Pending<Violation>,
    /// Ports whose entries stay at age 1 instead of dying, and ports that want to hear of a death.
    pub(crate) hold_at_1: u16,
    pub(crate) tell_age_out: u16,
}

fn key(fid: u8, mac: MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_be_bytes([0, fid, a, b, c, d, e, f])
}

fn split(key: u64) -> (u8, MacAddr) {
    let [_, fid, a, b, c, d, e, f] = key.to_be_bytes();
    (fid, [a, b, c, d, e, f])
}

/// 300 s in counts of 3.75 s, learn2all off. Inherited: the usual default of the family.
const CONTROL_AFTER_RESET: u16 = 80 << 4;

impl Atu {
    pub(crate) fn new() -> Self {
        Self {
            control: CONTROL_AFTER_RESET,
            ..Self::default()
        }
    }

    // Registers.

    pub(crate) fn read(&mut self, register: u8, context: &Context) -> u16 {
        match register {
            0x0a => self.control,
            0x0b => self.operation & 0x7fff | u16::from(self.busy.is_set(Unit::Atu, context)) << 15,
            0x0c => self.data,
            _ => {
                let at = usize::from(register.saturating_sub(0x0d)) % 3 * 2;
                u16::from_be_bytes([self.mac[at], self.mac[at + 1]])
            }
        }
    }

    pub(crate) fn write(&mut self, register: u8, value: u16, context: &mut Context) {
        if self.busy.is_set(Unit::Atu, context) {
            context.guest_error(
                "atu",
                format_args!("register {register:#04x} written while an operation runs"),
            );
            return;
        }
        match register {
            0x0a => {
                let old = self.age_step_ns();
                self.control = value;
                if self.age_step_ns() != old {
                    self.next_age_step =
                        context.now.saturating_add(self.age_step_ns().unwrap_or(0));
                }
            }
            0x0b => {
                self.operation = value & 0x7fff;
                if value & 0x8000 != 0 {
                    self.execute(context);
                    self.busy.start(context, context.timing.table);
                }
            }
            0x0c => self.data = value,
            _ => {
                let at = usize::from(register.saturating_sub(0x0d)) % 3 * 2;
                self.mac[at..at + 2].copy_from_slice(&value.to_be_bytes());
            }
        }
    }

    /// The FID is split over two registers on this chip.
    fn fid(&self) -> u8 {
        (self.control >> 8 & 0xf0) as u8 | (self.operation & 0xf) as u8
    }

    fn set_fid(&mut self, fid: u8) {
        self.control = self.control & 0x0fff | u16::from(fid & 0xf0) << 8;
        self.operation = self.operation & 0x7ff0 | u16::from(fid & 0x0f);
    }

    /// True once after an operation has ended.
    pub(crate) fn take_done(&mut self, context: &Context) -> bool {
        self.busy.take_done(Unit::Atu, context)
    }

    // Operations.

    fn execute(&mut self, context: &mut Context) {
        self.age(context.now);
        let fid = self.fid();
        let operation = self.operation >> 12 & 7;
        match operation {
            0 => {}
            1 => self.flush_or_move(None, true, context),
            2 => self.flush_or_move(None, false, context),
            3 => self.load(fid),
            4 => self.get_next(fid),
            5 => self.flush_or_move(Some(fid), true, context),
            6 => self.flush_or_move(Some(fid), false, context),
            _ => self.get_and_clear_violation(),
        }
    }

    /// State 0 purges; a state other than 0 with an empty vector is a valid entry that goes nowhere.
    fn load(&mut self, fid: u8) {
        let entry = Entry::from_data(self.data);
        let key = key(fid, self.mac);
        if entry.state == 0 {
            self.entries.remove(&key);
        } else if self.entries.len() < CAPACITY || self.entries.contains_key(&key) {
            self.entries.insert(key, entry);
        } else {
            self.violation.raise(Violation {
                kind: ViolationKind::Full,
                fid,
                mac: self.mac,
                entry,
                port: 0xf,
            });
        }
    }

    /// The entry above the MAC registers in numerical order; the search starts anew from all ones.
    fn get_next(&mut self, fid: u8) {
        let all_ones = [0xff; 6];
        let first = if self.mac == all_ones {
            key(fid, [0; 6])
        } else {
            key(fid, self.mac) + 1
        };
        match self.entries.range(first..=key(fid, all_ones)).next() {
            Some((found, entry)) => {
                self.mac = split(*found).1;
                self.data = entry.to_data();
            }
            None => {
                self.mac = all_ones;
                self.data = 0;
            }
        }
    }

    /// Entry state 0 flushes, 0xf moves port 7:4 to port 11:8 (0xf: takes the port out of the entry).
    ///
    /// Linux's driver passes the two numbers through the mask of its six ports, so that its "remove" arrives here as a
    /// move to port 3 (to port 2 without the commit named above). The chip can only do what it is told, and so does this.
    fn flush_or_move(&mut self, fid: Option<u8>, also_static: bool, context: &mut Context) {
        let concerned = |at: u64, entry: &Entry| {
            let (entry_fid, mac) = split(at);
            fid.is_none_or(|fid| fid == entry_fid) && (also_static || !entry.is_static(mac))
        };
        match self.data & 0xf {
            0 => self.entries.retain(|at, entry| !concerned(*at, entry)),
            0xf => {
                let from = 1u16 << (self.data >> 4 & 0xf);
                let to = match self.data >> 8 & 0xf {
                    0xf => 0,
                    port => 1u16 << port,
                };
                self.entries.retain(|at, entry| {
                    if !concerned(*at, entry) || entry.trunk || entry.port_vector & from == 0 {
                        return true;
                    }
                    entry.port_vector = (entry.port_vector & !from | to) & PORT_VECTOR;
                    entry.port_vector != 0
                });
            }
            state => context.guest_error(
                "atu",
                format_args!("flush or move with entry state {state:#x}"),
            ),
        }
    }

    /// Violation bits and FID land in the operation and control registers, the source port in data 3:0.
    fn get_and_clear_violation(&mut self) {
        self.operation &= 0x7f0f;
        let Some(violation) = self.violation.take() else {
            return;
        };
        self.set_fid(violation.fid);
        self.operation |= match violation.kind {
            ViolationKind::AgeOut => 1 << 7,
            ViolationKind::Member => 1 << 6,
            ViolationKind::Miss => 1 << 5,
            ViolationKind::Full => 1 << 4,
        };
        self.mac = violation.mac;
        self.data = violation.entry.to_data() & 0xfff0 | u16::from(violation.port & 0xf);
    }

    pub(crate) fn violate(&mut self, kind: ViolationKind, fid: u8, mac: MacAddr, port: u8) {
        let entry = self.entries.get(&key(fid, mac)).copied().unwrap_or(Entry {
            state: 0,
            trunk: false,
            port_vector: 0,
        });
        self.violation.raise(Violation {
            kind,
            fid,
            mac,
            entry,
            port,
        });
    }

    // The data path's side.

    pub(crate) fn lookup(&mut self, fid: u8, mac: MacAddr, now: Nanos) -> Option<Entry> {
        self.age(now);
        self.entries.get(&key(fid, mac)).copied()
    }

    /// Stores or refreshes a dynamic entry.
    pub(crate) fn learn(
        &mut self,
        fid: u8,
        mac: MacAddr,
        trunk: bool,
        port_vector: u16,
        now: Nanos,
    ) -> Learnt {
        self.age(now);
        let entry = Entry {
            state: Entry::NEWEST,
            trunk,
            port_vector,
        };
        let full = self.entries.len() >= CAPACITY;
        match self.entries.entry(key(fid, mac)) {
            std::collections::btree_map::Entry::Occupied(mut known) => {
                if known.get().is_static(mac) {
                    return Learnt::KeptStatic;
                }
                known.insert(entry);
            }
            std::collections::btree_map::Entry::Vacant(_) if full => return Learnt::Full,
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(entry);
            }
        }
        Learnt::Stored
    }

    /// Entries whose number falls into one of the four bins of global 2 register 0x0e.
    pub(crate) fn count(&self, bin: u8, which: CountMode, fid: Option<u8>) -> u16 {
        let count = self
            .entries
            .iter()
            .filter(|(at, entry)| {
                let (entry_fid, mac) = split(**at);
                // Inherited: the hash that spreads entries over bins is not public; a fold of the address stands in.
                let entry_bin = mac.iter().fold(0, |fold, byte| fold ^ byte ^ byte >> 4) & 3;
                entry_bin == bin
                    && fid.is_none_or(|fid| fid == entry_fid)
                    && (which == CountMode::All || !entry.is_static(mac))
            })
            .count();
        count as u16 & 0x0fff
    }

    pub(crate) fn current_fid(&self) -> u8 {
        self.fid()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    // Ageing.

    /// Time between two steps of every dynamic entry; `None` when ageing is off.
    fn age_step_ns(&self) -> Option<u64> {
        match u64::from(self.control >> 4 & 0xff) {
            0 => None,
            counts => Some(counts * AGE_UNIT_NS / AGE_STEPS),
        }
    }

    /// Catches up with all age steps up to `now`.
    pub(crate) fn age(&mut self, now: Nanos) {
        let Some(step) = self.age_step_ns() else {
            return;
        };
        if self.next_age_step == 0 {
            self.next_age_step = now.saturating_add(step);
        }
        if now < self.next_age_step {
            return;
        }
        let steps = (now - self.next_age_step) / step + 1;
        self.next_age_step = self
            .next_age_step
            .saturating_add(steps.saturating_mul(step));
        // More steps than an entry can survive make no difference.
        let steps = steps.min(AGE_STEPS) as u8;
        let (hold, tell) = (self.hold_at_1, self.tell_age_out);
        let mut died = None;
        self.entries.retain(|at, entry| {
            let (fid, mac) = split(*at);
            if entry.is_static(mac) {
                return true;
            }
            if entry.state > steps {
                entry.state -= steps;
                return true;
            }
            if entry.port_vector & hold != 0 {
                entry.state = 1;
                return true;
            }
            if entry.port_vector & tell != 0 {
                let port = entry.port_vector.trailing_zeros() as u8;
                died.get_or_insert(Violation {
                    kind: ViolationKind::AgeOut,
                    fid,
                    mac,
                    entry: *entry,
                    port,
                });
            }
            false
        });
        if let Some(violation) = died {
            self.violation.raise(violation);
        }
    }

    /// When the next age step is due, if anybody wants to hear of it.
    pub(crate) fn next_event(&self) -> Option<Nanos> {
        if self.tell_age_out == 0 || self.next_age_step == 0 {
            return None;
        }
        self.age_step_ns()?;
        let mut entries = self.entries.iter();
        let ages = entries.any(|(at, entry)| !entry.is_static(split(*at).1));
        ages.then_some(self.next_age_step)
    }
}

/// Which entries an ATU statistic counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CountMode {
    All,
    Dynamic,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::context::tests::context;

    const A: MacAddr = [0x02, 0, 0, 0, 0, 0x0a];
    const B: MacAddr = [0x02, 0, 0, 0, 0, 0x0b];
    const GROUP: MacAddr = [0x01, 0, 0x5e, 0, 0, 1];

    /// Writes the FID the way Linux does: high nibble into 0x0a, low nibble with the operation.
    fn operate(atu: &mut Atu, context: &mut Context, fid: u8, operation: u16) {
        let control = atu.read(0x0a, context) & 0x0fff | u16::from(fid & 0xf0) << 8;
        atu.write(0x0a, control, context);
        atu.write(
            0x0b,
            0x8000 | operation << 12 | u16::from(fid & 0x0f),
            context,
        );
        assert_ne!(atu.read(0x0b, context) & 0x8000, 0, "busy at first");
        context.now += context.timing.table;
        assert_eq!(atu.read(0x0b, context) & 0x8000, 0, "done in time");
    }

    fn set_mac(atu: &mut Atu, context: &mut Context, mac: MacAddr) {
        for (at, pair) in mac.chunks(2).enumerate() {
            atu.write(
                0x0d + at as u8,
                u16::from_be_bytes([pair[0], pair[1]]),
                context,
            );
        }
    }

    fn load(atu: &mut Atu, context: &mut Context, fid: u8, mac: MacAddr, data: u16) {
        set_mac(atu, context, mac);
        atu.write(0x0c, data, context);
        operate(atu, context, fid, 3);
    }

    fn dump(atu: &mut Atu, context: &mut Context, fid: u8) -> Vec<(MacAddr, u16)> {
        set_mac(atu, context, [0xff; 6]);
        let mut found = Vec::new();
        loop {
            operate(atu, context, fid, 4);
            let data = atu.read(0x0c, context);
            if data & 0xf == 0 {
                assert_eq!(atu.read(0x0f, context), 0xffff, "the end reads all ones");
                return found;
            }
            let words =
                [0x0d, 0x0e, 0x0f].map(|register| atu.read(register, context).to_be_bytes());
            let mac = [
                words[0][0],
                words[0][1],
                words[1][0],
                words[1][1],
                words[2][0],
                words[2][1],
            ];
            found.push((mac, data));
            // Another step would start anew.
            if mac == [0xff; 6] {
                return found;
            }
        }
    }

    #[test]
    fn the_fid_is_split_over_control_and_operation() {
        let (mut atu, mut context) = (Atu::new(), context());
        load(&mut atu, &mut context, 0x5a, A, 0x0026 | 0xe);
        assert_eq!(
            atu.read(0x0a, &context),
            0x5000 | 80 << 4,
            "age time survives"
        );
        assert_eq!(
            atu.lookup(0x5a, A, 0).map(|entry| entry.port_vector),
            Some(2)
        );
        assert_eq!(atu.lookup(0x0a, A, 0), None);
        assert_eq!(atu.lookup(0x50, A, 0), None);
    }

    #[test]
    fn get_next_walks_one_database_in_order_and_ends_with_ones() {
        let (mut atu, mut context) = (Atu::new(), context());
        load(&mut atu, &mut context, 1, B, 0x004e);
        load(&mut atu, &mut context, 1, A, 0x002e);
        load(&mut atu, &mut context, 2, A, 0x008e);
        load(&mut atu, &mut context, 1, [0xff; 6], 0x03f7);
        assert_eq!(
            dump(&mut atu, &mut context, 1),
            vec![(A, 0x002e), (B, 0x004e), ([0xff; 6], 0x03f7)]
        );
        assert_eq!(dump(&mut atu, &mut context, 3), vec![]);
    }

    #[test]
    fn state_0_purges_and_an_empty_vector_does_not() {
        let (mut atu, mut context) = (Atu::new(), context());
        load(&mut atu, &mut context, 0, A, 0x000e);
        assert_eq!(atu.len(), 1);
        load(&mut atu, &mut context, 0, A, 0x0000);
        assert_eq!(atu.len(), 0);
    }

    #[test]
    fn flushes_respect_database_and_static_entries() {
        // Per database: two static entries (one is a group's) and a dynamic one.
        for (operation, left) in [(1, 0), (2, 4), (5, 3), (6, 5)] {
            let (mut atu, mut context) = (Atu::new(), context());
            for fid in [1, 2] {
                load(&mut atu, &mut context, fid, A, 0x002e);
                load(&mut atu, &mut context, fid, GROUP, 0x0027);
                load(&mut atu, &mut context, fid, B, 0x0027);
            }
            atu.write(0x0c, 0, &mut context);
            operate(&mut atu, &mut context, 1, operation);
            assert_eq!(atu.len(), left, "operation {operation}");
        }
    }

    #[test]
    fn move_shifts_a_port_and_15_removes_it() {
        let (mut atu, mut context) = (Atu::new(), context());
        load(&mut atu, &mut context, 1, A, 0x0027);
        load(&mut atu, &mut context, 1, GROUP, 0x0067);
        atu.write(0x0c, 0x031f, &mut context);
        operate(&mut atu, &mut context, 1, 5);
        assert_eq!(
            dump(&mut atu, &mut context, 1),
            vec![(GROUP, 0x00c7), (A, 0x0087)]
        );
        atu.write(0x0c, 0x0f3f, &mut context);
        operate(&mut atu, &mut context, 0, 1);
        assert_eq!(
            dump(&mut atu, &mut context, 1),
            vec![(GROUP, 0x0047)],
            "an entry without a port is gone"
        );
    }

    #[test]
    fn dynamic_entries_age_out_and_static_ones_stay() {
        let (mut atu, mut context) = (Atu::new(), context());
        load(&mut atu, &mut context, 0, B, 0x002e);
        assert_eq!(atu.learn(0, A, false, 2, context.now), Learnt::Stored);
        let lifetime = 80 * AGE_UNIT_NS;
        let at_half = context.now + lifetime / 2;
        let half = atu.lookup(0, A, at_half).map(|entry| entry.state);
        assert!(
            half.is_some_and(|state| state < 7 && state > 1),
            "older but alive: {half:?}"
        );
        assert_eq!(
            atu.lookup(0, A, context.now + lifetime + lifetime / 7),
            None
        );
        assert!(atu.lookup(0, B, u64::MAX).is_some());
    }

    #[test]
    fn refreshing_restarts_the_life_of_an_entry() {
        let mut atu = Atu::new();
        let step = 80 * AGE_UNIT_NS / 7;
        for turn in 0..20 {
            assert_eq!(atu.learn(0, A, false, 2, turn * 3 * step), Learnt::Stored);
        }
        assert!(atu.lookup(0, A, 60 * step).is_some());
    }

    #[test]
    fn hold_at_1_keeps_and_age_out_tells() {
        let (mut atu, mut context) = (Atu::new(), context());
        atu.hold_at_1 = 1 << 1;
        atu.tell_age_out = 1 << 2;
        atu.learn(0, A, false, 1 << 1, 1);
        atu.learn(3, B, false, 1 << 2, 1);
        context.now = 1000 * AGE_UNIT_NS;
        assert_eq!(
            atu.lookup(0, A, context.now).map(|entry| entry.state),
            Some(1)
        );
        assert!(atu.violation.problem());
        operate(&mut atu, &mut context, 0, 7);
        assert_eq!(
            atu.read(0x0b, &context) & 0xff,
            1 << 7 | 3,
            "age-out, FID 3"
        );
        assert_eq!(atu.read(0x0c, &context) & 0xf, 2, "source port");
        assert_eq!(atu.read(0x0f, &context), 0x000b);
        assert!(!atu.violation.problem());
    }

    #[test]
    fn learning_neither_moves_a_static_entry_nor_overflows() {
        let (mut atu, mut context) = (Atu::new(), context());
        load(&mut atu, &mut context, 0, A, 0x002e);
        assert_eq!(atu.learn(0, A, false, 4, 0), Learnt::KeptStatic);
        for index in 0..4096u16 {
            let [high, low] = index.to_be_bytes();
            atu.learn(0, [2, 1, 0, 0, high, low], false, 1, 0);
        }
        assert_eq!(atu.len(), CAPACITY);
        assert_eq!(atu.learn(0, B, false, 1, 0), Learnt::Full);
    }

    #[test]
    fn writing_while_busy_is_a_guest_error_and_has_no_effect() {
        let (mut atu, mut context) = (Atu::new(), context());
        atu.write(0x0b, 0x9000, &mut context);
        atu.write(0x0c, 0x1234, &mut context);
        assert_eq!(context.env.guest_error_count(), 1);
        assert_eq!(atu.read(0x0c, &context), 0);
    }
}
