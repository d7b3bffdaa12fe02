//! The data path: what happens to a frame between the port it comes in and the ports it leaves by.
//!
//! ```text
//!  wire ─▶ size, pause, MIB ─▶ frame mode ─▶ FROM_CPU ─────────────────────────────▶ exactly one port
//!                                  │
//!                                  ▼ ordinary frame or FORWARD
//!          802.1Q, FID ─▶ management trap ─▶ tag filter ─▶ learning ─▶ port state ─▶ snooping ─▶ source filter, policies
//!                                  │
//!                                  ▼
//!          destination: ATU or flood ─▶ VLAN map, PVT, VTU, trunks ─▶ egress tag ─▶ wire
//! ```
//!
//! Owns no register. Frames are passed without FCS; lengths that are counted or limited include its four bytes.
//!
//! Spec: Linux net/dsa/tag_dsa.c, mv88e6xxx/chip.c and the bit names of port.h and global1.h. What those leave open is a
//! doubt (`doubts.rs`); the order of the steps above is Inherited: no public document gives it.

use super::atu::{self, Entry, Learnt, MacAddr, is_multicast};
use super::context::Context;
use super::doubts::{
    DsaWithoutTag, EdsaEgress, EdsaWithoutTag, FidOfOffPort, FromCpuDisabled, LimitCountsDsaTag,
    MapDaOff, MaxUntagged, PriorityTagVid, ShortEgress, StuState,
};
use super::port::{
    ALL_PORTS, Action, Dot1qMode, EgressMode, FrameMode, PORTS, Policy, SourceFilter, State,
};
use super::stats::Counter;
use super::tag::{Code, Command, DOT1Q, DSA_LEN, EDSA_LEN, Tag, Tci};
use super::vtu::{self, Member, Vlan};
use super::{PortId, Switch};
use crate::bus::Env;

const FCS_LEN: usize = 4;
/// Shortest frame, FCS included.
const MIN_LEN: usize = 64;
/// Addresses and an EtherType.
const HEADER_LEN: usize = 14;
/// Frames that PHY loopbacks may add to one call, so that two of them cannot keep each other busy for ever.
const LOOPED_FRAMES: usize = 16;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_PAUSE: u16 = 0x8808;
const ETHERTYPE_PPPOE_DISCOVERY: u16 = 0x8863;
const ETHERTYPE_VBAS: u16 = 0x8200;

/// Buffers of the data path, kept to save allocations.
#[derive(Debug, Default)]
pub(super) struct DataPath {
    egress: Vec<u8>,
    looped: std::collections::VecDeque<(u8, Vec<u8>)>,
}

/// Where frames go that leave the switch: the port and the bytes on its wire, without FCS.
pub type Sink<'a> = dyn FnMut(PortId, &[u8]) + 'a;

/// A frame inside the switch.
#[derive(Clone, Copy)]
struct Frame<'a> {
    /// The port it came in by.
    port: u8,
    /// Everything it came with.
    wire: &'a [u8],
    /// From the EtherType behind the tag on.
    body: &'a [u8],
    /// The VLAN tag it came with, in either form.
    tag: Option<Tci>,
    /// Where it entered the tree: device, port or trunk.
    device: u8,
    source: u8,
    source_is_trunk: bool,
    /// It came with a FORWARD tag.
    forwarded: bool,
    /// Worked out by [`Switch::classify`].
    vlan: Tci,
    fid: u8,
    entry: Option<Vlan>,
    queue: u8,
}

impl Frame<'_> {
    fn destination(&self) -> MacAddr {
        std::array::from_fn(|at| self.wire[at])
    }

    fn source_mac(&self) -> MacAddr {
        std::array::from_fn(|at| self.wire[at + 6])
    }

    fn ether_type(&self) -> u16 {
        word(self.body, 0).unwrap_or(0)
    }
}

/// What a frame is to the port it leaves by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Traffic; the VLAN table may say how it is tagged.
    Ordinary(Option<Member>),
    /// Trapped or mirrored to the CPU.
    Control(Code),
    /// Sent by the CPU to this very port.
    Direct,
    /// A copy for a monitor.
    Sniffed { ingress: bool },
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn ports(mask: u16) -> impl Iterator<Item = u8> {
    (0..PORTS).filter(move |port| mask & 1 << port != 0)
}

impl Switch {
    /// A good frame from the conduit MAC, without FCS.
    pub fn frame_from_conduit(&mut self, env: &mut Env, frame: &[u8], sink: &mut Sink<'_>) {
        self.frame_from_port(env, PortId::CONDUIT, frame, sink);
    }

    /// A good frame from the wire of a port, without FCS.
    pub fn frame_from_port(
        &mut self,
        env: &mut Env,
        port: PortId,
        frame: &[u8],
        sink: &mut Sink<'_>,
    ) {
        self.arrive(env, port, frame, true, sink);
    }

    /// A frame whose FCS is wrong: counted and dropped, unless the port ignores the FCS.
    pub fn damaged_frame_from_port(
        &mut self,
        env: &mut Env,
        port: PortId,
        frame: &[u8],
        sink: &mut Sink<'_>,
    ) {
        self.arrive(env, port, frame, false, sink);
    }

    fn arrive(
        &mut self,
        env: &mut Env,
        port: PortId,
        frame: &[u8],
        good: bool,
        sink: &mut Sink<'_>,
    ) {
        self.advance(env);
        if port.0 >= PORTS
            || env.faults.has("switch-vanish")
            || env.now < self.away_until.max(self.g1.reset_until)
        {
            return;
        }
        let looping = self.phy(port.0).is_some_and(|phy| phy.loops_back());
        let mut context = self.context(env);
        if !looping {
            self.receive(&mut context, port.0, frame, good, sink);
        }
        for _ in 0..LOOPED_FRAMES {
            let Some((port, frame)) = self.path.looped.pop_front() else {
                break;
            };
            self.receive(&mut context, port, &frame, true, sink);
        }
        self.path.looped.clear();
    }

    // In.

    fn receive(
        &mut self,
        context: &mut Context,
        port: u8,
        wire: &[u8],
        good: bool,
        sink: &mut Sink<'_>,
    ) {
        let up = self.port_link(port, context.now).up.is_some();
        if !up || !self.accept(context, port, wire, good) {
            return;
        }
        let (mode, ether_type) = (
            self.ports[usize::from(port)].frame_mode(),
            self.ports[usize::from(port)].ether_type(),
        );
        match mode {
            FrameMode::Normal => self.receive_plain(context, port, wire, DOT1Q, sink),
            FrameMode::Provider => self.receive_plain(context, port, wire, ether_type, sink),
            FrameMode::Dsa => self.receive_tagged(context, port, wire, 12, sink),
            FrameMode::EtherTypeDsa if word(wire, 12) == Some(ether_type) => {
                self.receive_tagged(context, port, wire, 16, sink);
            }
            FrameMode::EtherTypeDsa => match context.doubts.edsa_without_tag {
                EdsaWithoutTag::Ordinary => self.receive_plain(context, port, wire, DOT1Q, sink),
                EdsaWithoutTag::Discard => self.filter(port),
            },
        }
    }

    /// The MAC's part: lengths, FCS, pause frames, receive counters. False if the frame ends here.
    fn accept(&mut self, context: &Context, port: u8, wire: &[u8], good: bool) -> bool {
        let length = wire.len() + FCS_LEN;
        let histogram = self.g1.histogram();
        let limit = self.frame_limit(context, port, wire);
        let counters = &mut self.stats.ports[usize::from(port)];
        let fault = match (good, length) {
            (true, ..MIN_LEN) => Some(Counter::InUndersize),
            (false, ..MIN_LEN) => Some(Counter::InFragments),
            (true, _) if length > limit => Some(Counter::InOversize),
            (false, _) if length > limit => Some(Counter::InJabber),
            (false, _) => Some(Counter::InFcsError),
            _ => None,
        };
        if let Some(fault) = fault {
            counters.count(fault);
            if fault != Counter::InFcsError || !self.ports[usize::from(port)].ignores_fcs() {
                counters.add(Counter::InBadOctets, length as u64);
                return false;
            }
            counters.count(Counter::InBadAccepted);
        }
        let destination = std::array::from_fn(|at| wire[at]);
        counters.good_frame_in(destination, length, histogram);
        // The MAC eats pause frames whether it obeys them or not.
        if destination == [0x01, 0x80, 0xc2, 0, 0, 1] && word(wire, 12) == Some(ETHERTYPE_PAUSE) {
            counters.count(Counter::InPause);
            return false;
        }
        true
    }

    fn frame_limit(&self, context: &Context, port: u8, wire: &[u8]) -> usize {
        let registers = &self.ports[usize::from(port)];
        let limit = registers.frame_limit();
        let tag = match registers.frame_mode() {
            FrameMode::Dsa => DSA_LEN,
            FrameMode::EtherTypeDsa if word(wire, 12) == Some(registers.ether_type()) => EDSA_LEN,
            _ => 0,
        };
        if tag > 0 {
            return if context.doubts.limit_counts_dsa_tag == LimitCountsDsaTag::No {
                limit + tag
            } else {
                limit
            };
        }
        let untagged = word(wire, 12) != Some(DOT1Q);
        if untagged && limit == 1522 && context.doubts.max_untagged == MaxUntagged::FourLess {
            1518
        } else {
            limit
        }
    }

    /// Ethernet as everybody knows it.
    fn receive_plain(
        &mut self,
        context: &mut Context,
        port: u8,
        wire: &[u8],
        tag_type: u16,
        sink: &mut Sink<'_>,
    ) {
        let tag = match (word(wire, 12) == Some(tag_type), wire.get(14..16)) {
            (true, Some(&[high, low])) if wire.len() >= HEADER_LEN + 4 => {
                Some(Tci::parse([high, low]))
            }
            _ => None,
        };
        let body = &wire[if tag.is_some() { 16 } else { 12 }..];
        let trunk = self.ports[usize::from(port)].trunk();
        let frame = Frame {
            port,
            wire,
            body,
            tag,
            device: self.g1.device_number(),
            source: trunk.unwrap_or(port),
            source_is_trunk: trunk.is_some(),
            forwarded: false,
            vlan: Tci::default(),
            fid: 0,
            entry: None,
            queue: 0,
        };
        self.switch_frame(context, frame, sink);
    }

    /// A frame with a DSA tag at `at`.
    fn receive_tagged(
        &mut self,
        context: &mut Context,
        port: u8,
        wire: &[u8],
        at: usize,
        sink: &mut Sink<'_>,
    ) {
        let Some(&[b0, b1, b2, b3]) = wire.get(at..at + DSA_LEN) else {
            return self.filter(port);
        };
        let tag = Tag::parse([b0, b1, b2, b3]);
        let frame = Frame {
            port,
            wire,
            body: &wire[at + DSA_LEN..],
            tag: tag.tagged.then_some(tag.vlan),
            device: tag.device,
            source: tag.port,
            source_is_trunk: matches!(tag.command, Command::Forward { trunk: true }),
            forwarded: true,
            vlan: tag.vlan,
            fid: 0,
            entry: None,
            queue: self.g1.queue_of_priority(tag.vlan.priority),
        };
        match tag.command {
            Command::FromCpu => self.send_from_cpu(context, &frame, tag, sink),
            Command::Forward { .. } => self.switch_frame(context, frame, sink),
            _ if at == 12 && context.doubts.dsa_without_tag == DsaWithoutTag::Ordinary => {
                self.receive_plain(context, port, wire, DOT1Q, sink);
            }
            // Control frames of other switches: there is none behind the conduit.
            Command::ToCpu { .. } | Command::ToSniffer { .. } => self.filter(port),
        }
    }

    /// FROM_CPU: past VLANs, port state and learning, out of exactly one port.
    fn send_from_cpu(
        &mut self,
        context: &mut Context,
        frame: &Frame<'_>,
        tag: Tag,
        sink: &mut Sink<'_>,
    ) {
        let own = tag.device == self.g1.device_number();
        let target = if own {
            Some(tag.port)
        } else {
            self.g2.port_towards(tag.device)
        };
        let Some(target) = target.filter(|port| *port < PORTS && *port != frame.port) else {
            return self.filter(frame.port);
        };
        let disabled = self.ports[usize::from(target)].state() == State::Disabled;
        if disabled && context.doubts.from_cpu_disabled == FromCpuDisabled::Drops {
            return self.filter(frame.port);
        }
        self.stats.ports[usize::from(frame.port)].count(Counter::InAccepted);
        self.transmit(context, target, frame, Form::Direct, sink);
    }

    // Through.

    fn switch_frame(&mut self, context: &mut Context, mut frame: Frame<'_>, sink: &mut Sink<'_>) {
        let port = usize::from(frame.port);
        if self.ports[port].state() == State::Disabled {
            return self.filter(frame.port);
        }
        if self.ports[port].monitors_ingress() {
            self.monitor(context, self.g1.monitor.ingress_port(), &frame, true, sink);
        }
        let classified = self.classify(context, &mut frame);
        let destination = frame.destination();
        if self.g1.monitor.traps(destination) {
            frame.vlan.priority = self.g1.monitor.cpu_priority();
            self.stats.ports[port].count(Counter::InManagement);
            return self.send_to_cpu(context, &frame, Code::ManagementTrap, sink);
        }
        let known = self.atu.lookup(frame.fid, destination, context.now);
        if let Some(entry) = known.filter(|entry| entry.is_management(destination)) {
            self.stats.ports[port].count(Counter::InManagement);
            for egress in ports(self.entry_ports(entry) & !(1 << frame.port)) {
                self.transmit(
                    context,
                    egress,
                    &frame,
                    Form::Control(Code::ManagementTrap),
                    sink,
                );
            }
            return;
        }
        if !classified || !self.passes_tag_filter(&frame) {
            return self.filter(frame.port);
        }
        let state = self.state_in(context, &frame, frame.port);
        let source = self.atu.lookup(frame.fid, frame.source_mac(), context.now);
        self.learn(context, &frame, state);
        if state != State::Forwarding {
            return self.filter(frame.port);
        }
        if self.ports[port].snoops_igmp() && is_igmp_or_mld(frame.body) {
            return self.send_to_cpu(context, &frame, Code::SnoopTrap, sink);
        }
        let action = match self.filter_source(&frame, source) {
            Action::Normal => self.policy(&frame, source, known),
            action => action,
        };
        match action {
            Action::Normal => {}
            Action::Mirror => self.send_to_cpu(context, &frame, Code::PolicyMirror, sink),
            Action::Trap => return self.send_to_cpu(context, &frame, Code::PolicyTrap, sink),
            Action::Discard => return self.filter(frame.port),
        }
        self.stats.ports[port].count(Counter::InAccepted);
        self.forward(context, &frame, known, sink);
    }

    /// Assigns VLAN, priority and database. False if 802.1Q drops the frame.
    fn classify(&mut self, context: &Context, frame: &mut Frame<'_>) -> bool {
        let port = &self.ports[usize::from(frame.port)];
        if !frame.forwarded {
            let tag = frame.tag.unwrap_or(Tci {
                priority: port.default_priority(),
                cfi: false,
                vid: 0,
            });
            let default = tag.vid == 0 || port.forces_default_vid();
            frame.vlan = Tci {
                vid: if default { port.default_vid() } else { tag.vid },
                ..tag
            };
            if frame.tag.is_some() {
                frame.vlan.priority = port.remap_priority(tag.priority);
            }
            let by_tag = frame.tag.is_some() && port.tag_priority_first();
            frame.queue = match dscp(frame.body) {
                Some(dscp) if port.uses_ip_priority() && !by_tag => self.g1.queue_of_dscp(dscp),
                _ => self.g1.queue_of_priority(frame.vlan.priority),
            };
        }
        let (mode, port_fid) = (port.dot1q(), port.fid());
        let known = self.vtu.lookup(frame.vlan.vid).copied();
        let fid = match (mode, known) {
            (Dot1qMode::Off, Some(vlan)) if context.doubts.fid_of_off_port == FidOfOffPort::Vtu => {
                vlan.fid
            }
            (Dot1qMode::Off, _) | (_, None) => port_fid,
            (_, Some(vlan)) => vlan.fid,
        };
        // 256 databases: the upper four bits of a FID have no effect.
        frame.fid = fid as u8;
        frame.entry = if mode == Dot1qMode::Off { None } else { known };
        let strict = matches!(mode, Dot1qMode::Check | Dot1qMode::Secure);
        match frame.entry {
            None if strict => {
                self.vtu
                    .violate(vtu::ViolationKind::Miss, frame.vlan.vid, frame.port);
                false
            }
            Some(vlan) if vlan.members() & 1 << frame.port == 0 && strict => {
                self.vtu
                    .violate(vtu::ViolationKind::Member, frame.vlan.vid, frame.port);
                mode == Dot1qMode::Check
            }
            _ => true,
        }
    }

    /// A tag with VID 0 carries a priority alone and counts as none.
    fn passes_tag_filter(&self, frame: &Frame<'_>) -> bool {
        let port = &self.ports[usize::from(frame.port)];
        let tagged = frame.tag.is_some_and(|tag| tag.vid != 0);
        frame.forwarded
            || !(tagged && port.discards_tagged() || !tagged && port.discards_untagged())
    }

    /// The port's own state and that of the VLAN's spanning tree, where 0 leaves it to the port (Spec: Linux chip.c,
    /// `mv88e6xxx_mst_get`).
    fn state_in(&self, context: &Context, frame: &Frame<'_>, port: u8) -> State {
        let own = self.ports[usize::from(port)].state();
        let tree = frame
            .entry
            .as_ref()
            .map_or(0, |vlan| self.vtu.port_state(vlan, port));
        match (tree, context.doubts.stu_state) {
            (0, _) => own,
            (_, StuState::Overrides) if own == State::Disabled => own,
            (_, StuState::Overrides) => State::from_bits(tree),
            (_, StuState::Restricts) => own.min(State::from_bits(tree)),
        }
    }

    /// Register 0x0e: the first policy that matches.
    fn policy(
        &self,
        frame: &Frame<'_>,
        source: Option<Entry>,
        destination: Option<Entry>,
    ) -> Action {
        let port = usize::from(frame.port);
        if !self.ports[port].has_policies() {
            return Action::Normal;
        }
        let matches = |policy| match policy {
            Policy::Destination => {
                destination.is_some_and(|entry| entry.is_policy(frame.destination()))
            }
            Policy::Source => source.is_some_and(|entry| entry.is_policy(frame.source_mac())),
            Policy::Vtu => frame.entry.is_some_and(|vlan| vlan.policy),
            Policy::EtherType => frame.ether_type() == self.ports[port].ether_type(),
            Policy::Pppoe => frame.ether_type() == ETHERTYPE_PPPOE_DISCOVERY,
            Policy::Vbas => frame.ether_type() == ETHERTYPE_VBAS,
            Policy::Option82 => udp_ports(frame.body).is_some_and(is_dhcp),
            Policy::Udp => is_multicast(frame.destination()) && udp_ports(frame.body).is_some(),
        };
        let order = [
            Policy::Destination,
            Policy::Source,
            Policy::Vtu,
            Policy::EtherType,
            Policy::Pppoe,
            Policy::Vbas,
            Policy::Option82,
            Policy::Udp,
        ];
        order
            .into_iter()
            .map(|policy| (policy, self.ports[port].policy(policy)))
            .find(|(policy, action)| *action != Action::Normal && matches(*policy))
            .map_or(Action::Normal, |(_, action)| action)
    }

    /// Learns or refreshes the source address, or tells why not.
    fn learn(&mut self, context: &Context, frame: &Frame<'_>, state: State) {
        let port = &self.ports[usize::from(frame.port)];
        let mac = frame.source_mac();
        if state < State::Learning || is_multicast(mac) || port.learns_for() == 0 {
            return;
        }
        let known = self.atu.lookup(frame.fid, mac, context.now);
        let mine = known.is_some_and(|entry| is_mine(entry, frame));
        let (trunk, vector) = match frame.source_is_trunk {
            true => (true, u16::from(frame.source & 0xf)),
            false => (false, port.learns_for()),
        };
        let violation = if port.is_locked() {
            match known {
                None => Some(atu::ViolationKind::Miss),
                Some(_) if !mine => {
                    (!port.ignores_wrong_source()).then_some(atu::ViolationKind::Member)
                }
                Some(entry) => {
                    if port.refreshes_locked() && !entry.is_static(mac) {
                        self.atu
                            .learn(frame.fid, mac, entry.trunk, entry.port_vector, context.now);
                    }
                    None
                }
            }
        } else {
            match self.atu.learn(frame.fid, mac, trunk, vector, context.now) {
                Learnt::KeptStatic if !mine && !port.ignores_wrong_source() => {
                    Some(atu::ViolationKind::Member)
                }
                Learnt::Full => Some(atu::ViolationKind::Full),
                _ => None,
            }
        };
        if let Some(kind) = violation {
            self.atu.violate(kind, frame.fid, mac, frame.port);
        }
    }

    /// Control 0 bits 15:14: what happens to a frame whose source address is not this port's.
    fn filter_source(&self, frame: &Frame<'_>, source: Option<Entry>) -> Action {
        let mine = source.is_some_and(|entry| is_mine(entry, frame));
        let elsewhere = source.is_some_and(|entry| entry.is_static(frame.source_mac()) && !mine);
        match self.ports[usize::from(frame.port)].source_filter() {
            SourceFilter::DropOnLock if !mine => Action::Discard,
            SourceFilter::DropOnUnlock if elsewhere => Action::Discard,
            SourceFilter::ToCpu if elsewhere => Action::Trap,
            _ => Action::Normal,
        }
    }

    fn forward(
        &mut self,
        context: &mut Context,
        frame: &Frame<'_>,
        known: Option<Entry>,
        sink: &mut Sink<'_>,
    ) {
        let allowed = self.allowed_ports(frame);
        let maps = self.ports[usize::from(frame.port)].maps_destination();
        let wanted = match known.filter(|_| maps) {
            Some(entry) => self.entry_ports(entry),
            None => {
                self.stats.ports[usize::from(frame.port)].count(Counter::InDaUnknown);
                self.flooded_ports(context, frame, maps)
            }
        };
        let hash = frame.destination()[5] ^ frame.source_mac()[5];
        let wanted = wanted & allowed & self.g2.trunk_mask(usize::from(hash & 7));
        for egress in ports(wanted) {
            if self.state_in(context, frame, egress) == State::Forwarding {
                let member = frame.entry.as_ref().map(|vlan| vlan.member(egress));
                self.transmit(context, egress, frame, Form::Ordinary(member), sink);
            } else {
                let filtered = &mut self.ports[usize::from(egress)].out_filtered;
                *filtered = filtered.wrapping_add(1);
            }
        }
    }

    /// Port-based VLANs, across chips too, and the members of the frame's VLAN; never back where it came from.
    fn allowed_ports(&self, frame: &Frame<'_>) -> u16 {
        let port = &self.ports[usize::from(frame.port)];
        let mut allowed = port.vlan_map() & !(1 << frame.port);
        // The own device is not looked up.
        if frame.forwarded && (frame.source_is_trunk || frame.device != self.g1.device_number()) {
            allowed &= self
                .g2
                .pvt(frame.device, frame.source, frame.source_is_trunk);
        }
        if let Some(vlan) = frame.entry {
            allowed &= vlan.members();
        }
        if frame.source_is_trunk {
            let same = |port: u8| self.ports[usize::from(port)].trunk() == Some(frame.source);
            allowed &= !ports(ALL_PORTS)
                .filter(|port| same(*port))
                .fold(0, |mask, port| mask | 1 << port);
        }
        allowed
    }

    fn flooded_ports(&self, context: &Context, frame: &Frame<'_>, maps: bool) -> u16 {
        if !maps && context.doubts.map_da_off == MapDaOff::VlanMap {
            return ALL_PORTS;
        }
        let multicast = is_multicast(frame.destination());
        let floods = |port: u8| {
            let port = &self.ports[usize::from(port)];
            if multicast {
                port.floods_multicast()
            } else {
                port.floods_unicast()
            }
        };
        ports(ALL_PORTS)
            .filter(|port| floods(*port))
            .fold(0, |mask, port| mask | 1 << port)
    }

    fn entry_ports(&self, entry: Entry) -> u16 {
        if entry.trunk {
            self.g2.trunk_ports((entry.port_vector & 0xf) as u8)
        } else {
            entry.port_vector & ALL_PORTS
        }
    }

    // Out.

    fn send_to_cpu(
        &mut self,
        context: &mut Context,
        frame: &Frame<'_>,
        code: Code,
        sink: &mut Sink<'_>,
    ) {
        let port = self.g1.monitor.cpu_port();
        if port < PORTS && port != frame.port {
            self.transmit(context, port, frame, Form::Control(code), sink);
        }
    }

    fn monitor(
        &mut self,
        context: &mut Context,
        port: u8,
        frame: &Frame<'_>,
        ingress: bool,
        sink: &mut Sink<'_>,
    ) {
        if port < PORTS && port != frame.port {
            self.transmit(context, port, frame, Form::Sniffed { ingress }, sink);
        }
    }

    fn transmit(
        &mut self,
        context: &mut Context,
        port: u8,
        frame: &Frame<'_>,
        form: Form,
        sink: &mut Sink<'_>,
    ) {
        if self.port_link(port, context.now).up.is_none() {
            return;
        }
        let mut out = std::mem::take(&mut self.path.egress);
        out.clear();
        self.compose(context, port, frame, form, &mut out);
        if out.len() + FCS_LEN < MIN_LEN && context.doubts.short_egress == ShortEgress::Pads {
            out.resize(MIN_LEN - FCS_LEN, 0);
        }
        let histogram = self.g1.histogram();
        let counters = &mut self.stats.ports[usize::from(port)];
        counters.frame_out(frame.destination(), out.len() + FCS_LEN, histogram);
        counters.count_out_queue(frame.queue);
        if matches!(form, Form::Control(_)) {
            counters.count(Counter::OutManagement);
        }
        if self.phy(port).is_some_and(|phy| phy.loops_back()) {
            self.path.looped.push_back((port, out.clone()));
        } else {
            sink(PortId(port), &out);
        }
        self.path.egress = out;
        let copied = matches!(form, Form::Ordinary(_) | Form::Direct);
        let destination = self.g1.monitor.egress_port();
        if copied && destination != port && self.ports[usize::from(port)].monitors_egress() {
            self.monitor(context, destination, frame, false, sink);
        }
    }

    /// The bytes on the wire of `port`.
    fn compose(
        &self,
        context: &Context,
        port: u8,
        frame: &Frame<'_>,
        form: Form,
        out: &mut Vec<u8>,
    ) {
        let registers = &self.ports[usize::from(port)];
        out.extend_from_slice(&frame.wire[..12]);
        let special = matches!(form, Form::Control(_) | Form::Sniffed { .. });
        let every = registers.egress_mode() == EgressMode::EtherTypeDsa
            || context.doubts.edsa_egress == EdsaEgress::EveryFrame;
        match registers.frame_mode() {
            FrameMode::Dsa => {
                out.extend_from_slice(&self.dsa_tag(context, registers.egress_mode(), frame, form))
            }
            FrameMode::EtherTypeDsa if every || special => {
                out.extend_from_slice(&registers.ether_type().to_be_bytes());
                out.extend_from_slice(&[0, 0]);
                out.extend_from_slice(&self.dsa_tag(context, registers.egress_mode(), frame, form));
            }
            mode => {
                if let Some(tag) = plain_tag(registers.egress_mode(), frame, form) {
                    let tag_type = if mode == FrameMode::Provider {
                        registers.ether_type()
                    } else {
                        DOT1Q
                    };
                    out.extend_from_slice(&tag_type.to_be_bytes());
                    out.extend_from_slice(&tag.to_bytes());
                }
            }
        }
        out.extend_from_slice(frame.body);
    }

    /// FORWARD for traffic, TO_CPU for what was trapped or mirrored, TO_SNIFFER for a monitor's copy.
    fn dsa_tag(
        &self,
        context: &Context,
        egress: EgressMode,
        frame: &Frame<'_>,
        form: Form,
    ) -> [u8; DSA_LEN] {
        let command = match form {
            Form::Ordinary(_) => Command::Forward {
                trunk: frame.source_is_trunk,
            },
            // On its way to the device it names.
            Form::Direct => Command::FromCpu,
            Form::Control(code) => Command::ToCpu { code: code as u8 },
            Form::Sniffed { ingress } => Command::ToSniffer { ingress },
        };
        // Only a forwarded frame names its trunk; the others name the port.
        let names_trunk = frame.source_is_trunk && !matches!(command, Command::Forward { .. });
        let port = if names_trunk {
            frame.port
        } else {
            frame.source
        };
        let tag = plain_tag(egress, frame, form);
        let mut vlan = tag.unwrap_or(frame.vlan);
        vlan.priority = frame.vlan.priority;
        if tag.is_some_and(|tag| tag.vid == 0)
            && context.doubts.priority_tag_vid == PriorityTagVid::Default
        {
            vlan.vid = frame.vlan.vid;
        }
        Tag {
            command,
            tagged: tag.is_some(),
            device: frame.device,
            port,
            vlan,
        }
        .to_bytes()
    }

    /// Counts a frame that some rule stopped.
    fn filter(&mut self, port: u8) {
        let filtered = &mut self.ports[usize::from(port)].in_filtered;
        *filtered = filtered.wrapping_add(1);
        self.stats.ports[usize::from(port)].count(Counter::InFiltered);
    }
}

/// The VLAN tag the frame leaves with: by the VLAN table if it had a say, else by the port.
fn plain_tag(egress: EgressMode, frame: &Frame<'_>, form: Form) -> Option<Tci> {
    let added = Tci {
        cfi: frame.tag.is_some_and(|tag| tag.cfi),
        ..frame.vlan
    };
    let how = match (form, egress) {
        (Form::Ordinary(Some(member)), _) => member,
        (Form::Ordinary(None), EgressMode::Untagged) => Member::Untagged,
        (Form::Ordinary(None), EgressMode::Tagged) => Member::Tagged,
        _ => Member::Unmodified,
    };
    match how {
        Member::Tagged => Some(added),
        Member::Untagged => None,
        Member::Unmodified | Member::Outside => frame.tag,
    }
}

/// The entry names the port, or the trunk, the frame came from.
fn is_mine(entry: Entry, frame: &Frame<'_>) -> bool {
    match (entry.trunk, frame.source_is_trunk) {
        (true, true) => entry.port_vector & 0xf == u16::from(frame.source & 0xf),
        (false, _) => entry.port_vector & 1 << frame.port != 0,
        (true, false) => false,
    }
}

/// IP protocol and the bytes behind the IP header, for both versions. Extension headers are not followed, but for the
/// hop-by-hop one MLD comes with.
fn ip_payload(body: &[u8]) -> Option<(u8, &[u8])> {
    const HOP_BY_HOP: u8 = 0;
    let packet = body.get(2..)?;
    match word(body, 0)? {
        ETHERTYPE_IPV4 => {
            let header = usize::from(packet.first()? & 0x0f) * 4;
            Some((*packet.get(9)?, packet.get(header.max(20)..)?))
        }
        ETHERTYPE_IPV6 => {
            let (next, rest) = (*packet.get(6)?, packet.get(40..)?);
            if next != HOP_BY_HOP {
                return Some((next, rest));
            }
            let length = (usize::from(*rest.get(1)?) + 1) * 8;
            Some((*rest.first()?, rest.get(length..)?))
        }
        _ => None,
    }
}

fn is_igmp_or_mld(body: &[u8]) -> bool {
    const IGMP: u8 = 2;
    const ICMPV6: u8 = 58;
    match (word(body, 0), ip_payload(body)) {
        (Some(ETHERTYPE_IPV4), Some((IGMP, _))) => true,
        // Query, report, done, version 2 report.
        (Some(ETHERTYPE_IPV6), Some((ICMPV6, [130..=132 | 143, ..]))) => true,
        _ => false,
    }
}

/// Source and destination port of a UDP packet.
fn udp_ports(body: &[u8]) -> Option<(u16, u16)> {
    const UDP: u8 = 17;
    match ip_payload(body)? {
        (UDP, udp) => Some((word(udp, 0)?, word(udp, 2)?)),
        _ => None,
    }
}

fn is_dhcp((source, destination): (u16, u16)) -> bool {
    let dhcp = |port| matches!(port, 67 | 68 | 546 | 547);
    dhcp(source) && dhcp(destination)
}

/// Traffic class of an IP packet, six bits.
fn dscp(body: &[u8]) -> Option<u8> {
    match word(body, 0)? {
        ETHERTYPE_IPV4 => Some(body.get(3)? >> 2),
        ETHERTYPE_IPV6 => Some((word(body, 2)? >> 6 & 0x3f) as u8),
        _ => None,
    }
}
