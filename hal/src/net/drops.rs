//! Why received frames were discarded: one list of reasons, from the ring to the sockets, and what the last frame of each
//! looked like.
//!
//! Drivers count in their own counters and hand the frame to [`Pool::discard`]; what sits above counts in a
//! [`Tally`] of its interface. The list is one so that a reason's name means the same wherever it is shown.
//!
//! [`Pool::discard`]: super::Pool::discard

use super::Counters;
use super::neta::desc::Damage;
use super::tag;
use alloc::boxed::Box;

macro_rules! reasons {
    ($( $variant:ident $name:literal $help:literal, )+) => {
        /// Why a received frame was discarded.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Reason {
            $( #[doc = $help] $variant, )+
        }

        impl Reason {
            /// All of them, in the order in which a frame passes the places that may discard it.
            pub const ALL: [Reason; [ $( $name, )+ ].len()] = [ $( Reason::$variant, )+ ];
        }

        /// Name and help of each, all in one: a table of strings would be as long again.
        const TEXTS: &str = concat!( $( $name, "\n", $help, "\n", )+ );
    };
}

reasons! {
    Crc "crc" "bad FCS",
    Overrun "overrun" "cut by a FIFO overrun",
    TooLong "too_long" "longer than the MAC's limit",
    NoResource "no_resource" "cut: no descriptor left",
    Part "part" "descriptor without a whole frame",
    Runt "runt" "shorter than an Ethernet header",
    BadLength "bad_length" "longer than its buffer",
    BadCompletion "bad_completion" "completion without sense",
    TagShort "tag_short" "too short for a switch tag",
    TagMissing "tag_missing" "no switch tag",
    TagFromCpu "tag_from_cpu" "our own tag command",
    TagSniffer "tag_sniffer" "for a monitor nobody set up",
    TagRmu "tag_rmu" "remote management",
    TagCode "tag_code" "tag with a reserved code",
    TagDevice "tag_device" "tag of another switch",
    TagPort "tag_port" "tag of an unused port",
    TagTrunk "tag_trunk" "tag of a trunk",
    QueueFull "queue_full" "its interface did not keep up",
    OtherVlan "other_vlan" "VLAN that nobody has",
    OtherStation "other_station" "to another hardware address",
    Oversize "oversize" "longer than what may be answered",
    SourceMac "source_mac" "from a group's hardware address",
    SourceAddress "source_address" "from an impossible IP address",
    ToGroup "to_group" "to many, and must not be answered",
    EtherType "ethertype" "unknown EtherType",
    Arp "arp" "ARP: malformed, impossible sender",
    ArpNotOurs "arp_not_ours" "ARP: another's address",
    Ipv4Malformed "ipv4_malformed" "IPv4: version, lengths",
    Ipv4Checksum "ipv4_checksum" "IPv4: header checksum",
    Ipv6Malformed "ipv6_malformed" "IPv6: version, lengths, options",
    Ipv6Option "ipv6_option" "IPv6: option that says to discard",
    Fragment "fragment" "fragment: not reassembled",
    Address "address" "to another IP address or group",
    Icmp "icmp" "ICMP, IGMP, MLD: malformed",
    IcmpChecksum "icmp_checksum" "ICMP: checksum",
    IcmpUnwanted "icmp_unwanted" "ICMP, IGMP, MLD: of no use",
    NeighbourNotOurs "neighbour_not_ours" "solicits another's address",
    HopLimit "hop_limit" "ND or MLD from beyond the link",
    Udp "udp" "UDP: malformed",
    UdpChecksum "udp_checksum" "UDP: checksum",
    UdpPort "udp_port" "UDP to many, nobody listens",
    UdpGuard "udp_guard" "UDP that a service may not answer",
    SocketFull "socket_full" "UDP: socket's queue full",
    Tcp "tcp" "TCP: malformed",
    TcpChecksum "tcp_checksum" "TCP: checksum",
    TcpReset "tcp_reset" "TCP: reset that fits no connection",
    TcpUnexpected "tcp_unexpected" "TCP: outside window or state",
    TableFull "table_full" "TCP: all places taken",
    NoWayBack "no_way_back" "answer has no neighbour or route",
    StackUnknown "stack_unknown" "nobody knows why",
}

fn text(line: usize) -> &'static str {
    TEXTS.split('\n').nth(line).unwrap_or_default()
}

impl Reason {
    /// In snake case.
    pub fn name(self) -> &'static str {
        text(2 * self as usize)
    }

    /// One line.
    pub fn help(self) -> &'static str {
        text(2 * self as usize + 1)
    }

    /// The reason of that name.
    pub fn named(name: &str) -> Option<Reason> {
        // One walk through the texts: `name` begins a new one for each reason.
        let mut names = TEXTS.split('\n').step_by(2);
        let at = names.position(|other| other == name)?;
        Reason::ALL.get(at).copied()
    }

    /// What a driver that serves one interface counted itself.
    pub fn counted_in(self, counters: &Counters) -> u64 {
        match self {
            Reason::Runt => counters.rx_runt,
            Reason::BadCompletion => counters.rx_bad_completion,
            Reason::QueueFull => counters.rx_queue_full,
            Reason::OtherVlan => counters.rx_other_vlan,
            Reason::OtherStation => counters.rx_other_station,
            _ => 0,
        }
    }

    /// The reason that a counter of a device is about, if it is about one.
    pub fn of_counter(name: &str) -> Option<Reason> {
        // Most counters are about none, and their names show it at once.
        let name = match name.strip_prefix("rx_") {
            None if !name.starts_with("tag_") => return None,
            name_of => name_of.unwrap_or(name),
        };
        let reason = Reason::named(name)?;
        ((reason as u8) <= Reason::QueueFull as u8).then_some(reason)
    }
}

impl From<Damage> for Reason {
    fn from(damage: Damage) -> Self {
        match damage {
            Damage::Crc => Reason::Crc,
            Damage::Overrun => Reason::Overrun,
            Damage::TooLong => Reason::TooLong,
            Damage::NoResource => Reason::NoResource,
            Damage::Part => Reason::Part,
            Damage::Runt => Reason::Runt,
            Damage::Length => Reason::BadLength,
        }
    }
}

impl From<tag::Drop> for Reason {
    fn from(drop: tag::Drop) -> Self {
        match drop {
            tag::Drop::Short => Reason::TagShort,
            tag::Drop::Untagged => Reason::TagMissing,
            tag::Drop::FromCpu => Reason::TagFromCpu,
            tag::Drop::Sniffer => Reason::TagSniffer,
            tag::Drop::RemoteManagement => Reason::TagRmu,
            tag::Drop::ReservedCode => Reason::TagCode,
            tag::Drop::WrongDevice => Reason::TagDevice,
            tag::Drop::WrongPort => Reason::TagPort,
            tag::Drop::Trunk => Reason::TagTrunk,
        }
    }
}

/// How many frames were discarded above a driver, by reason.
#[derive(Clone, Debug)]
pub struct Tally([u64; Reason::ALL.len()]);

impl Default for Tally {
    fn default() -> Self {
        Tally([0; Reason::ALL.len()])
    }
}

impl Tally {
    /// Counts one.
    pub fn count(&mut self, reason: Reason) {
        self.0[reason as usize] += 1;
    }

    /// Frames discarded for one reason.
    pub fn get(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    /// Frames discarded.
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Bytes that are kept of a frame.
pub const SAMPLE_BYTES: usize = 64;

/// How a discarded frame began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its first bytes; behind its end, zeros.
    bytes: [u8; SAMPLE_BYTES],
    /// Bytes it had, as far as anybody knows.
    pub len: u16,
    /// The interface at work when it was discarded, by number. A device that several share may not know whose it was.
    pub interface: u8,
    /// When that was, in microseconds.
    pub at_us: u64,
}

impl Sample {
    const NONE: Sample = Sample {
        bytes: [0; SAMPLE_BYTES],
        len: 0,
        interface: 0,
        at_us: 0,
    };

    /// The bytes there are.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len).min(SAMPLE_BYTES)]
    }
}

/// The last discarded frame of each reason.
#[derive(Debug)]
pub struct Samples {
    last: Box<[Sample; Reason::ALL.len()]>,
    /// Whose turn it is, and since when.
    turn: (u8, u64),
}

impl Default for Samples {
    /// Allocates.
    fn default() -> Self {
        Samples {
            last: Box::new([Sample::NONE; Reason::ALL.len()]),
            turn: (0, 0),
        }
    }
}

impl Samples {
    /// Frames discarded from now on were received by the interface of this number, at this time in microseconds.
    #[inline(always)]
    pub fn turn_to(&mut self, interface: usize, now_us: u64) {
        self.turn = (interface as u8, now_us);
    }

    /// Keeps the beginning of a frame.
    #[cold]
    #[inline(never)]
    pub fn keep(&mut self, reason: Reason, frame: &[u8]) {
        let sample = &mut self.last[reason as usize];
        let len = frame.len().min(SAMPLE_BYTES);
        sample.bytes[..len].copy_from_slice(&frame[..len]);
        // An empty one is one, too.
        sample.len = frame.len() as u16;
        (sample.interface, sample.at_us) = self.turn;
    }

    /// The last frame discarded for that reason.
    pub fn get(&self, reason: Reason) -> Option<&Sample> {
        Some(&self.last[reason as usize]).filter(|sample| sample.len > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_snake_case_and_differ() {
        for (number, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            let name = reason.name();
            assert!(
                name.bytes()
                    .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()),
                "{name}"
            );
            assert_eq!(Reason::named(name), Some(reason));
            assert!(!reason.help().is_empty());
        }
    }

    #[test]
    fn the_documentation_lists_them_in_this_order() {
        let page = include_str!("../../../docs/drops.md");
        let listed = page.lines().filter(|line| line.starts_with("| `"));
        assert!(
            listed.eq(Reason::ALL
                .map(|reason| { std::format!("| `{}` | {} |", reason.name(), reason.help()) }))
        );
    }

    #[test]
    fn tags_have_the_names_of_their_counters() {
        for drop in tag::Drop::ALL {
            let (name, _) = drop.describe();
            assert_eq!(Reason::of_counter(name), Some(Reason::from(drop)));
        }
        assert_eq!(Reason::of_counter("rx_crc"), Some(Reason::Crc));
        assert_eq!(Reason::of_counter("rx_frames"), None);
        assert_eq!(Reason::of_counter("rx_address"), None);
    }

    #[test]
    fn the_last_frame_of_a_reason_is_kept() {
        let mut samples = Samples::default();
        assert_eq!(samples.get(Reason::Runt), None);
        samples.turn_to(3, 77);
        samples.keep(Reason::Runt, &[9; 100]);
        samples.keep(Reason::Crc, &[1]);
        samples.turn_to(4, 78);
        samples.keep(Reason::Runt, &[7; 10]);
        let runt = samples.get(Reason::Runt).unwrap();
        assert_eq!(runt.bytes(), [7; 10]);
        assert_eq!((runt.len, runt.interface, runt.at_us), (10, 4, 78));
        assert_eq!(samples.get(Reason::Crc).unwrap().interface, 3);
        samples.keep(Reason::Runt, &[8; 1000]);
        assert_eq!(samples.get(Reason::Runt).unwrap().bytes(), [8; 64]);
    }
}
