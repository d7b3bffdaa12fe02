//! DSA tags: the four bytes after the source address, as the switch reads and writes them.
//!
//! ```text
//!            7 6    5       4 3 2 1 0            7 6 5 4 3  2          1         0
//! byte 0   command tagged   device      byte 1   port      code 2 /   code 1    CFI
//!                                                          trunk or
//!                                                          sniffed in
//! byte 2   PRI (7:5)  code 0 (4)  VID 11:8   byte 3   VID 7:0
//! ```
//!
//! An EtherType DSA tag is the port's EtherType, two zero bytes and then these four.
//!
//! Spec: Linux net/dsa/tag_dsa.c.

/// Length of a DSA tag.
pub const DSA_LEN: usize = 4;
/// Length of an EtherType DSA tag.
pub const EDSA_LEN: usize = 8;
/// EtherType of an 802.1Q tag.
pub const DOT1Q: u16 = 0x8100;

/// Why a frame was sent to the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Reserved multicast or a management entry of the MAC table.
    ManagementTrap = 0,
    /// An answer of the remote management unit.
    FrameToRegister = 1,
    /// IGMP or MLD.
    SnoopTrap = 2,
    /// A policy of the port said trap.
    PolicyTrap = 3,
    /// A copy of an ARP frame.
    ArpMirror = 4,
    /// A policy of the port said mirror.
    PolicyMirror = 5,
}

/// What a tag asks for or tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// To the CPU: trapped or mirrored; the code is three bits.
    ToCpu {
        /// A [`Code`] or one of the two reserved values.
        code: u8,
    },
    /// From the CPU, to exactly one port of one device.
    FromCpu,
    /// A copy for a monitor port.
    ToSniffer {
        /// Copied where it came in, else where it went out.
        ingress: bool,
    },
    /// An ordinary frame on its way through the tree.
    Forward {
        /// The port field holds a trunk id.
        trunk: bool,
    },
}

/// One tag, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// What it asks for.
    pub command: Command,
    /// The frame has, or shall have, an 802.1Q tag.
    pub tagged: bool,
    /// Source device, or target device for FROM_CPU.
    pub device: u8,
    /// Source port or trunk id, or target port for FROM_CPU.
    pub port: u8,
    /// VLAN fields of the frame.
    pub vlan: Tci,
}

/// The fields of an 802.1Q tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tci {
    /// Priority, 0 to 7.
    pub priority: u8,
    /// Canonical format or drop eligible.
    pub cfi: bool,
    /// VLAN id, 12 bits.
    pub vid: u16,
}

impl Tci {
    /// From the two bytes after the EtherType.
    #[must_use]
    pub fn parse(bytes: [u8; 2]) -> Self {
        let word = u16::from_be_bytes(bytes);
        Self {
            priority: bytes[0] >> 5,
            cfi: word & 0x1000 != 0,
            vid: word & 0x0fff,
        }
    }

    /// To the two bytes after the EtherType.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 2] {
        (u16::from(self.priority & 7) << 13 | u16::from(self.cfi) << 12 | self.vid & 0x0fff)
            .to_be_bytes()
    }
}

impl Tag {
    /// Decodes any four bytes: every value means something.
    #[must_use]
    pub fn parse([b0, b1, b2, b3]: [u8; 4]) -> Self {
        let command = match b0 >> 6 {
            0 => Command::ToCpu {
                code: b1 & 6 | b2 >> 4 & 1,
            },
            1 => Command::FromCpu,
            2 => Command::ToSniffer {
                ingress: b1 & 4 != 0,
            },
            _ => Command::Forward { trunk: b1 & 4 != 0 },
        };
        let vid = u16::from(b2 & 0x0f) << 8 | u16::from(b3);
        let vlan = Tci {
            priority: b2 >> 5,
            cfi: b1 & 1 != 0,
            vid,
        };
        Self {
            command,
            tagged: b0 & 0x20 != 0,
            device: b0 & 0x1f,
            port: b1 >> 3,
            vlan,
        }
    }

    /// The four bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 4] {
        let (command, low1, low2) = match self.command {
            Command::ToCpu { code } => (0, code & 6, (code & 1) << 4),
            Command::FromCpu => (1, 0, 0),
            Command::ToSniffer { ingress } => (2, u8::from(ingress) << 2, 0),
            Command::Forward { trunk } => (3, u8::from(trunk) << 2, 0),
        };
        let [high, low] = (self.vlan.vid & 0x0fff).to_be_bytes();
        [
            command << 6 | u8::from(self.tagged) << 5 | self.device & 0x1f,
            self.port << 3 | low1 | u8::from(self.vlan.cfi),
            self.vlan.priority << 5 | low2 | high,
            low,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(
        command: Command,
        tagged: bool,
        device: u8,
        port: u8,
        priority: u8,
        cfi: bool,
        vid: u16,
    ) -> Tag {
        Tag {
            command,
            tagged,
            device,
            port,
            vlan: Tci { priority, cfi, vid },
        }
    }

    /// Bytes worked out by hand from the table of tag_dsa.c.
    #[test]
    fn the_bytes_of_each_command() {
        let table = [
            (
                tag(Command::FromCpu, false, 0, 1, 0, false, 0),
                [0x40, 0x08, 0x00, 0x00],
            ),
            (
                tag(Command::FromCpu, true, 0, 3, 5, true, 0x123),
                [0x60, 0x19, 0xa1, 0x23],
            ),
            (
                tag(Command::Forward { trunk: false }, false, 0, 2, 0, false, 1),
                [0xc0, 0x10, 0x00, 0x01],
            ),
            (
                tag(Command::Forward { trunk: true }, true, 1, 4, 7, true, 0xfff),
                [0xe1, 0x25, 0xef, 0xff],
            ),
            (
                tag(Command::ToCpu { code: 0 }, false, 0, 1, 6, false, 0),
                [0x00, 0x08, 0xc0, 0x00],
            ),
            (
                tag(Command::ToCpu { code: 2 }, false, 0, 1, 0, false, 0),
                [0x00, 0x0a, 0x00, 0x00],
            ),
            (
                tag(Command::ToCpu { code: 3 }, true, 2, 1, 0, false, 5),
                [0x22, 0x0a, 0x10, 0x05],
            ),
            (
                tag(Command::ToCpu { code: 5 }, false, 0, 1, 0, false, 0),
                [0x00, 0x0c, 0x10, 0x00],
            ),
            (
                tag(
                    Command::ToSniffer { ingress: true },
                    false,
                    0,
                    2,
                    0,
                    false,
                    0,
                ),
                [0x80, 0x14, 0x00, 0x00],
            ),
            (
                tag(
                    Command::ToSniffer { ingress: false },
                    false,
                    0,
                    2,
                    0,
                    false,
                    0,
                ),
                [0x80, 0x10, 0x00, 0x00],
            ),
        ];
        for (tag, bytes) in table {
            assert_eq!(tag.to_bytes(), bytes, "{tag:?}");
            assert_eq!(Tag::parse(bytes), tag);
        }
    }

    #[test]
    fn every_pattern_decodes_and_keeps_its_meaning() {
        for seed in 0..=u16::MAX {
            let [a, b] = seed.to_be_bytes();
            for bytes in [[a, b, 0xa5, 0x5a], [0x1f, a, b, 0], [a, 0xff, b, 0xff]] {
                let tag = Tag::parse(bytes);
                assert_eq!(Tag::parse(tag.to_bytes()), tag);
            }
        }
    }

    #[test]
    fn an_802_1q_field_round_trips() {
        let tci = Tci::parse([0xb1, 0x23]);
        assert_eq!(
            tci,
            Tci {
                priority: 5,
                cfi: true,
                vid: 0x123
            }
        );
        assert_eq!(tci.to_bytes(), [0xb1, 0x23]);
    }
}
