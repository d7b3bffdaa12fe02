//! Switch tags on the frames of the conduit: which port a frame came from, or is to leave by.
//!
//! Four bytes after the source address, behind eight bits of EtherType in the longer form:
//!
//! ```text
//!   EtherType DSA   | to 6 | from 6 | da da 00 00 | b0 b1 b2 b3 | EtherType ...
//!   DSA             | to 6 | from 6               | b0 b1 b2 b3 | EtherType ...
//!
//!   b0  command 7:6 (0 TO_CPU, 1 FROM_CPU, 2 TO_SNIFFER, 3 FORWARD) | 802.1Q tagged 5 | device 4:0
//!   b1  port 7:3 | code 2:1 of TO_CPU, or trunk 2 of FORWARD | CFI 0
//!   b2  priority 7:5 | code bit 0 of TO_CPU 4 | VLAN 11:8
//!   b3  VLAN 7:0
//! ```
//!
//! An 802.1Q header is not kept beside the tag but becomes part of it; taking the tag off puts the header back. Both ways
//! happen in place: only the twelve bytes of the addresses move.
//!
//! Spec: Linux net/dsa/tag_dsa.c.

use super::Frame;
use super::mv88e6xxx::{PortIndex, PortSet};

/// Shortest Ethernet frame without FCS.
const MIN_LEN: usize = 60;
/// Bytes of both addresses.
const ADDRESSES: usize = 12;
/// EtherType of an 802.1Q header.
const DOT1Q: u16 = 0x8100;
/// EtherType that announces the long form.
const EDSA: u16 = 0xdada;

/// How frames on the conduit are tagged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Eight bytes, told from other frames by an EtherType.
    #[default]
    EtherTypeDsa,
    /// Four bytes in every frame.
    Dsa,
}

impl Protocol {
    /// Bytes that a tag adds to a frame without 802.1Q header.
    pub const fn bytes(self) -> usize {
        match self {
            Protocol::EtherTypeDsa => 8,
            Protocol::Dsa => 4,
        }
    }
}

/// Why a received frame was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// Shorter than addresses, tag and EtherType.
    Short,
    /// No tag where every frame has one.
    Untagged,
    /// FROM_CPU: our own command, sent back.
    FromCpu,
    /// TO_SNIFFER: no monitor was set up.
    Sniffer,
    /// TO_CPU with the code of a remote management answer, which we never ask for.
    RemoteManagement,
    /// TO_CPU with a reserved code.
    ReservedCode,
    /// Another switch, where there is only one.
    WrongDevice,
    /// No user port of ours.
    WrongPort,
    /// From a trunk; there is none.
    Trunk,
}

impl Drop {
    /// All of them, in their order.
    pub const ALL: [Drop; 9] = [
        Drop::Short,
        Drop::Untagged,
        Drop::FromCpu,
        Drop::Sniffer,
        Drop::RemoteManagement,
        Drop::ReservedCode,
        Drop::WrongDevice,
        Drop::WrongPort,
        Drop::Trunk,
    ];

    /// Name of its counter and help for people.
    pub const fn describe(self) -> (&'static str, &'static str) {
        match self {
            Drop::Short => ("tag_short", "Received frames too short for a switch tag"),
            Drop::Untagged => ("tag_missing", "Received frames without a switch tag"),
            Drop::FromCpu => ("tag_from_cpu", "Received frames with our own tag command"),
            Drop::Sniffer => ("tag_sniffer", "Received copies of a monitor nobody set up"),
            Drop::RemoteManagement => ("tag_rmu", "Received answers of remote management"),
            Drop::ReservedCode => ("tag_code", "Received tags with a reserved code"),
            Drop::WrongDevice => ("tag_device", "Received tags of another switch"),
            Drop::WrongPort => ("tag_port", "Received tags of a port that is not in use"),
            Drop::Trunk => ("tag_trunk", "Received tags of a trunk"),
        }
    }
}

/// How many frames were dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops([u64; Drop::ALL.len()]);

impl Drops {
    /// Counts one.
    #[cold]
    pub fn count(&mut self, reason: Drop) {
        self.0[reason as usize] += 1;
    }

    /// Frames dropped for one reason.
    pub fn get(&self, reason: Drop) -> u64 {
        self.0[reason as usize]
    }

    /// Name, help text and value of each counter.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        Drop::ALL.into_iter().map(|reason| {
            let (name, help) = reason.describe();
            (name, help, self.get(reason))
        })
    }
}

/// Why the switch sent a frame to the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It forwarded it, like any frame.
    Forwarded,
    /// Trapped: a reserved group address, or an address marked as management.
    Management,
    /// Trapped: IGMP or MLD.
    Snooped,
    /// Trapped by a policy of the port.
    PolicyTrap,
    /// A copy of an ARP frame.
    ArpMirror,
    /// A copy made by a policy of the port.
    PolicyMirror,
}

/// Where a received frame came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The port.
    pub port: PortIndex,
    /// And why.
    pub origin: Origin,
}

/// Puts tags on and takes them off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tagger {
    protocol: Protocol,
    device: u8,
    ports: PortSet,
}

impl Tagger {
    /// For the switch with this number, from and to these ports.
    pub const fn new(protocol: Protocol, device: u8, ports: PortSet) -> Self {
        Tagger {
            protocol,
            device: device & 0x1f,
            ports,
        }
    }

    /// Bytes of a tag, on a frame without 802.1Q header.
    pub const fn bytes(&self) -> usize {
        self.protocol.bytes()
    }

    /// How the frames are tagged.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Takes the tag off a received frame.
    ///
    /// # Errors
    ///
    /// Why the frame must be dropped; it is as it was.
    pub fn take_off(&self, frame: &mut Frame) -> Result<Source, Drop> {
        let bytes = frame.bytes();
        let tag = match self.protocol {
            Protocol::EtherTypeDsa => {
                let Some(head) = bytes.first_chunk::<22>() else {
                    return Err(Drop::Short);
                };
                // What the two bytes between hold is reserved.
                if u16::from_be_bytes([head[12], head[13]]) != EDSA {
                    return Err(Drop::Untagged);
                }
                u32::from_be_bytes([head[16], head[17], head[18], head[19]])
            }
            Protocol::Dsa => {
                let Some(head) = bytes.first_chunk::<18>() else {
                    return Err(Drop::Short);
                };
                u32::from_be_bytes([head[12], head[13], head[14], head[15]])
            }
        };
        let tag = Tag(tag);
        let source = tag.source(self.device, self.ports)?;
        if !tag.is_tagged() {
            frame.cut_front::<ADDRESSES>(self.protocol.bytes());
        } else {
            if self.protocol == Protocol::EtherTypeDsa {
                frame.cut_front::<ADDRESSES>(4);
            }
            if let Some(header) = frame.bytes_mut().get_mut(ADDRESSES..ADDRESSES + 4) {
                header.copy_from_slice(&tag.dot1q().to_be_bytes());
            }
        }
        Ok(source)
    }

    /// Pads a frame to the least that Ethernet allows and puts a tag on it, for the switch to send by `port`.
    ///
    /// Padded first, so that it is long enough also once the switch has taken the tag off. False, and the frame is as
    /// it was, if it has no EtherType, or no room for padding and tag.
    #[must_use]
    pub fn put_on(&self, frame: &mut Frame, port: PortIndex) -> bool {
        let len = frame.byte_count();
        if len < MIN_LEN && !pad(frame) {
            return false;
        }
        let Some(head) = frame.bytes().first_chunk::<16>() else {
            return false;
        };
        let header = u32::from_be_bytes([head[12], head[13], head[14], head[15]]);
        let dot1q = header >> 16 == u32::from(DOT1Q);
        let grows = self.protocol.bytes() - if dot1q { 4 } else { 0 };
        if grows > 0 && !frame.grow_front::<ADDRESSES>(grows) {
            return false;
        }
        let tag = Tag::from_cpu(self.device, port, dot1q.then_some(header as u16));
        let announcement = u64::from(EDSA) << 48;
        let bytes = frame.bytes_mut();
        match self.protocol {
            Protocol::EtherTypeDsa => {
                if let Some(place) = bytes.get_mut(ADDRESSES..ADDRESSES + 8) {
                    place.copy_from_slice(&(announcement | u64::from(tag.0)).to_be_bytes());
                }
            }
            Protocol::Dsa => {
                if let Some(place) = bytes.get_mut(ADDRESSES..ADDRESSES + 4) {
                    place.copy_from_slice(&tag.0.to_be_bytes());
                }
            }
        }
        true
    }
}

/// Of its own, because frames that were received and answered need it not.
#[cold]
#[inline(never)]
fn pad(frame: &mut Frame) -> bool {
    frame.byte_count() >= ADDRESSES + 2 && frame.pad(MIN_LEN)
}

/// The four bytes, the first in the highest bits.
#[derive(Clone, Copy)]
struct Tag(u32);

impl Tag {
    const TO_CPU: u32 = 0;
    const FROM_CPU: u32 = 1;
    const FORWARD: u32 = 3;

    fn from_cpu(device: u8, port: PortIndex, dot1q: Option<u16>) -> Tag {
        let target = Tag::FROM_CPU << 30 | u32::from(device) << 24 | u32::from(port.get()) << 19;
        Tag(match dot1q {
            None => target,
            // CFI has a place of its own; where it was, TO_CPU keeps a code bit.
            Some(tci) => {
                let cfi = u32::from(tci >> 12 & 1);
                target | 1 << 29 | cfi << 16 | u32::from(tci & 0xefff)
            }
        })
    }

    #[inline]
    fn source(self, device: u8, ports: PortSet) -> Result<Source, Drop> {
        let Tag(bits) = self;
        let origin = match bits >> 30 {
            Tag::FORWARD if bits & 1 << 18 != 0 => return Err(Drop::Trunk),
            Tag::FORWARD => Origin::Forwarded,
            Tag::TO_CPU => match bits >> 16 & 6 | bits >> 12 & 1 {
                0 => Origin::Management,
                1 => return Err(Drop::RemoteManagement),
                2 => Origin::Snooped,
                3 => Origin::PolicyTrap,
                4 => Origin::ArpMirror,
                5 => Origin::PolicyMirror,
                _ => return Err(Drop::ReservedCode),
            },
            Tag::FROM_CPU => return Err(Drop::FromCpu),
            _ => return Err(Drop::Sniffer),
        };
        if (bits >> 24 & 0x1f) as u8 != device {
            return Err(Drop::WrongDevice);
        }
        match PortIndex::new((bits >> 19 & 0x1f) as u8) {
            Some(port) if ports.has(port) => Ok(Source { port, origin }),
            _ => Err(Drop::WrongPort),
        }
    }

    fn is_tagged(self) -> bool {
        self.0 & 1 << 29 != 0
    }

    /// The 802.1Q header that the tag stands for.
    fn dot1q(self) -> u32 {
        let cfi = self.0 >> 16 & 1;
        u32::from(DOT1Q) << 16 | self.0 & 0xefff | cfi << 12
    }
}
