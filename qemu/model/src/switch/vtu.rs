//! VLAN and spanning tree translation units: global 1 registers 0x02, 0x03 and 0x05 to 0x09.
//!
//! Owns the VLAN table (VID to FID, SID and member tags), the spanning tree table (SID to port states) and the
//! violation waiting for service.
//!
//! ```text
//! 0x02  policy 12 | FID 11:0          0x06  page 13 | valid 12 | VID 11:0
//! 0x03  SID 5:0                       0x07..0x09  four ports each, 4 bits a port: state 3:2, member tag 1:0
//! 0x05  busy | op | violation | port
//! ```
//!
//! Spec: Linux global1.h and global1_vtu.c. A VLAN operation touches the member bits of the data registers alone, a
//! spanning tree operation the state bits alone: Linux reads both after the two operations in turn.

use super::context::{Busy, Context, Pending, Unit};
use super::doubts::VtuNeedsSid;
use super::port::PORTS;
use std::collections::BTreeMap;

/// How a member port sends frames of a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// As they came.
    Unmodified,
    /// Without a tag.
    Untagged,
    /// With a tag.
    Tagged,
    /// Not at all.
    Outside,
}

/// One VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vlan {
    pub(crate) fid: u16,
    pub(crate) policy: bool,
    sid: u8,
    data: [u16; 3],
}

const MEMBER_BITS: u16 = 0x3333;
const STATE_BITS: u16 = 0xcccc;

/// The two bits of a port in the data registers, at `shift` 0 for the member tag, 2 for the state.
fn field(data: &[u16; 3], port: u8, shift: u8) -> u8 {
    (data[usize::from(port / 4) % 3] >> (port % 4 * 4 + shift) & 3) as u8
}

impl Vlan {
    pub(crate) fn member(&self, port: u8) -> Member {
        match field(&self.data, port, 0) {
            0 => Member::Unmodified,
            1 => Member::Untagged,
            2 => Member::Tagged,
            _ => Member::Outside,
        }
    }

    /// One bit per member port.
    pub(crate) fn members(&self) -> u16 {
        (0..PORTS)
            .filter(|port| self.member(*port) != Member::Outside)
            .fold(0, |mask, port| mask | 1 << port)
    }
}

/// What the VLAN table wants the CPU to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViolationKind {
    /// A frame came from a port that is no member of its VLAN.
    Member,
    /// A frame came with a VID the table does not know.
    Miss,
}

/// The units: registers and tables.
#[derive(Debug, Default)]
pub(crate) struct Vtu {
    fid: u16,
    sid: u16,
    operation: u16,
    vid: u16,
    data: [u16; 3],
    busy: Busy,
    vlans: BTreeMap<u16, Vlan>,
    spanning_trees: BTreeMap<u8, [u16; 3]>,
    /// What happened, the VID and the port.
    pub(crate) violation: Pending<(ViolationKind, u16, u8)>,
}

const VALID: u16 = 1 << 12;
const VID: u16 = 0x0fff;
/// VID with its page bit.
const VID_AND_PAGE: u16 = 0x2fff;

impl Vtu {
    // Registers.

    pub(crate) fn read(&mut self, register: u8, context: &Context) -> u16 {
        match register {
            0x02 => self.fid,
            0x03 => self.sid,
            0x05 => self.operation & 0x7fff | u16::from(self.busy.is_set(Unit::Vtu, context)) << 15,
            0x06 => self.vid,
            _ => self.data[usize::from(register.saturating_sub(7)) % 3],
        }
    }

    pub(crate) fn write(&mut self, register: u8, value: u16, context: &mut Context) {
        if self.busy.is_set(Unit::Vtu, context) {
            context.guest_error(
                "vtu",
                format_args!("register {register:#04x} written while an operation runs"),
            );
            return;
        }
        match register {
            0x02 => self.fid = value & 0x1fff,
            0x03 => self.sid = value & 0x3f,
            0x05 => {
                self.operation = value & 0x7fff;
                if value & 0x8000 != 0 {
                    self.execute(context);
                    self.busy.start(context, context.timing.table);
                }
            }
            0x06 => self.vid = value & (VID_AND_PAGE | VALID),
            _ => self.data[usize::from(register.saturating_sub(7)) % 3] = value,
        }
    }

    pub(crate) fn take_done(&mut self, context: &Context) -> bool {
        self.busy.take_done(Unit::Vtu, context)
    }

    // Operations.

    fn execute(&mut self, context: &mut Context) {
        match self.operation >> 12 & 7 {
            1 => {
                self.vlans.clear();
                self.spanning_trees.clear();
            }
            2 => {}
            3 => self.load_vlan(context),
            4 => self.next_vlan(),
            5 => self.load_spanning_tree(),
            6 => self.next_spanning_tree(),
            7 => self.get_and_clear_violation(),
            operation => {
                context.guest_error("vtu", format_args!("operation {operation} does not exist"))
            }
        }
    }

    fn load_vlan(&mut self, context: &mut Context) {
        let vid = self.vid & VID_AND_PAGE;
        if self.vid & VALID == 0 {
            self.vlans.remove(&vid);
            return;
        }
        let sid = self.sid as u8;
        if !self.spanning_trees.contains_key(&sid)
            && context.doubts.vtu_needs_sid == VtuNeedsSid::Refuses
        {
            context.guest_error(
                "vtu",
                format_args!("VID {vid} loaded with SID {sid}, which has no valid STU entry"),
            );
            self.vlans.remove(&vid);
            return;
        }
        let data = self.data.map(|word| word & MEMBER_BITS);
        self.vlans.insert(
            vid,
            Vlan {
                fid: self.fid & 0x0fff,
                policy: self.fid & 1 << 12 != 0,
                sid,
                data,
            },
        );
    }

    /// The valid VLAN above the VID register; the search starts anew from 0xfff, which is also what its end reads.
    fn next_vlan(&mut self) {
        let page = self.vid & !VID & VID_AND_PAGE;
        let first = match self.vid & VID {
            VID => 0,
            vid => vid + 1,
        };
        match self.vlans.range(page | first..=page | VID).next() {
            Some((vid, vlan)) => {
                self.vid = vid | VALID;
                self.fid = vlan.fid | u16::from(vlan.policy) << 12;
                self.sid = u16::from(vlan.sid);
                merge(&mut self.data, &vlan.data, MEMBER_BITS);
            }
            None => self.vid = page | VID,
        }
    }

    fn load_spanning_tree(&mut self) {
        let sid = self.sid as u8;
        if self.vid & VALID == 0 {
            self.spanning_trees.remove(&sid);
        } else {
            self.spanning_trees
                .insert(sid, self.data.map(|word| word & STATE_BITS));
        }
    }

    /// As [`Self::next_vlan`], over SIDs; the valid bit stands in the VID register.
    fn next_spanning_tree(&mut self) {
        let first = match self.sid as u8 & 0x3f {
            0x3f => 0,
            sid => sid + 1,
        };
        match self.spanning_trees.range(first..).next() {
            Some((sid, states)) => {
                self.sid = u16::from(*sid);
                self.vid |= VALID;
                merge(&mut self.data, states, STATE_BITS);
            }
            None => {
                self.sid = 0x3f;
                self.vid &= !VALID;
            }
        }
    }

    fn get_and_clear_violation(&mut self) {
        self.operation &= 0x7f90;
        let Some((kind, vid, port)) = self.violation.take() else {
            return;
        };
        self.operation |= u16::from(port & 0xf);
        self.operation |= match kind {
            ViolationKind::Member => 1 << 6,
            ViolationKind::Miss => 1 << 5,
        };
        self.vid = vid;
    }

    // The data path's side.

    pub(crate) fn lookup(&self, vid: u16) -> Option<&Vlan> {
        self.vlans.get(&(vid & VID))
    }

    /// State of a port in the spanning tree of a VLAN: 0 leaves the decision to the port's own state.
    pub(crate) fn port_state(&self, vlan: &Vlan, port: u8) -> u8 {
        self.spanning_trees
            .get(&vlan.sid)
            .map_or(0, |states| field(states, port, 2))
    }

    pub(crate) fn violate(&mut self, kind: ViolationKind, vid: u16, port: u8) {
        self.violation.raise((kind, vid, port));
    }
}

fn merge(into: &mut [u16; 3], from: &[u16; 3], bits: u16) {
    for (word, new) in into.iter_mut().zip(from) {
        *word = *word & !bits | new & bits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::context::tests::context;

    fn operate(vtu: &mut Vtu, context: &mut Context, operation: u16) {
        vtu.write(0x05, 0x8000 | operation << 12, context);
        assert_ne!(vtu.read(0x05, context) & 0x8000, 0);
        context.now += context.timing.table;
        assert_eq!(vtu.read(0x05, context) & 0x8000, 0);
    }

    fn load_sid(vtu: &mut Vtu, context: &mut Context, sid: u16, states: [u16; 3]) {
        vtu.write(0x06, VALID, context);
        vtu.write(0x03, sid, context);
        for (at, word) in states.into_iter().enumerate() {
            vtu.write(7 + at as u8, word, context);
        }
        operate(vtu, context, 5);
    }

    fn load_vid(vtu: &mut Vtu, context: &mut Context, vid: u16, fid: u16, members: [u16; 3]) {
        vtu.write(0x06, VALID | vid, context);
        vtu.write(0x02, fid, context);
        vtu.write(0x03, 0, context);
        for (at, word) in members.into_iter().enumerate() {
            vtu.write(7 + at as u8, word, context);
        }
        operate(vtu, context, 3);
    }

    #[test]
    fn vlans_are_walked_from_4095_and_the_end_is_4095_invalid() {
        let (mut vtu, mut context) = (Vtu::default(), context());
        load_sid(&mut vtu, &mut context, 0, [0; 3]);
        load_vid(&mut vtu, &mut context, 0, 0x1000, [0x2103, 0x0033, 0]);
        load_vid(&mut vtu, &mut context, 100, 7, [0x3333, 0x0033, 0]);
        vtu.write(0x06, 0x0fff, &mut context);
        operate(&mut vtu, &mut context, 4);
        assert_eq!(vtu.read(0x06, &context), VALID);
        assert_eq!(vtu.read(0x02, &context), 0x1000, "policy bit and FID 0");
        assert_eq!(vtu.read(0x07, &context), 0x2103);
        operate(&mut vtu, &mut context, 4);
        assert_eq!(vtu.read(0x06, &context), VALID | 100);
        operate(&mut vtu, &mut context, 4);
        assert_eq!(vtu.read(0x06, &context), 0x0fff, "the end");
        load_vid(&mut vtu, &mut context, 4095, 1, [0; 3]);
        vtu.write(0x06, 100, &mut context);
        operate(&mut vtu, &mut context, 4);
        assert_eq!(
            vtu.read(0x06, &context),
            VALID | 4095,
            "the last VID can be valid too"
        );
    }

    #[test]
    fn member_tags_and_port_states_are_the_right_bits_of_a_port() {
        let (mut vtu, mut context) = (Vtu::default(), context());
        // Port 0 unmodified, 1 untagged, 2 tagged, 3 no member; 4 tagged, 5 no member.
        load_sid(&mut vtu, &mut context, 0, [0xc840, 0x0004, 0]);
        load_vid(&mut vtu, &mut context, 5, 9, [0x3210, 0x0032, 0]);
        let vlan = *vtu.lookup(5).unwrap();
        let members = [0, 1, 2, 3, 4, 5].map(|port| vlan.member(port));
        use Member::*;
        assert_eq!(
            members,
            [Unmodified, Untagged, Tagged, Outside, Tagged, Outside]
        );
        assert_eq!(vlan.members(), 0b01_0111);
        assert_eq!(
            [0, 1, 2, 3, 4, 5].map(|port| vtu.port_state(&vlan, port)),
            [0, 1, 2, 3, 1, 0]
        );
    }

    #[test]
    fn the_two_operations_leave_each_others_bits_alone() {
        let (mut vtu, mut context) = (Vtu::default(), context());
        load_sid(&mut vtu, &mut context, 0, [0xcccc, 0x00cc, 0]);
        load_vid(&mut vtu, &mut context, 5, 9, [0x1111, 0x0011, 0]);
        for register in 7..10 {
            vtu.write(register, 0, &mut context);
        }
        vtu.write(0x03, 0x3f, &mut context);
        operate(&mut vtu, &mut context, 6);
        assert_eq!(vtu.read(0x07, &context), 0xcccc);
        vtu.write(0x06, 0x0fff, &mut context);
        operate(&mut vtu, &mut context, 4);
        assert_eq!(vtu.read(0x07, &context), 0xdddd);
    }

    #[test]
    fn purge_and_flush_remove() {
        let (mut vtu, mut context) = (Vtu::default(), context());
        load_sid(&mut vtu, &mut context, 0, [0; 3]);
        load_vid(&mut vtu, &mut context, 5, 9, [0; 3]);
        load_vid(&mut vtu, &mut context, 6, 9, [0; 3]);
        vtu.write(0x06, 5, &mut context);
        operate(&mut vtu, &mut context, 3);
        assert!(vtu.lookup(5).is_none() && vtu.lookup(6).is_some());
        operate(&mut vtu, &mut context, 1);
        assert!(vtu.lookup(6).is_none());
        vtu.write(0x03, 0x3f, &mut context);
        operate(&mut vtu, &mut context, 6);
        assert_eq!(
            vtu.read(0x06, &context) & VALID,
            0,
            "no spanning tree is left"
        );
    }

    #[test]
    fn a_vlan_without_a_valid_sid_is_refused_or_accepted_as_doubted() {
        for (reading, valid) in [(VtuNeedsSid::Refuses, false), (VtuNeedsSid::Accepts, true)] {
            let (mut vtu, mut context) = (Vtu::default(), context());
            context.doubts.vtu_needs_sid = reading;
            load_vid(&mut vtu, &mut context, 5, 9, [0; 3]);
            assert_eq!(vtu.lookup(5).is_some(), valid);
        }
    }

    #[test]
    fn a_violation_waits_until_it_is_taken() {
        let (mut vtu, mut context) = (Vtu::default(), context());
        vtu.violate(ViolationKind::Miss, 77, 3);
        vtu.violate(ViolationKind::Member, 78, 2);
        assert!(vtu.violation.problem());
        operate(&mut vtu, &mut context, 7);
        assert_eq!(
            (vtu.read(0x05, &context), vtu.read(0x06, &context)),
            (0x7000 | 1 << 5 | 3, 77)
        );
        assert!(!vtu.violation.problem());
        operate(&mut vtu, &mut context, 7);
        assert_eq!(vtu.read(0x05, &context) & 0x7f, 0);
    }
}
