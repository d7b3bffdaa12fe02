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
    NoResource "no_resource" "cut because descriptors ran out",
    Part "part" "a descriptor without a whole frame",
    Runt "runt" "shorter than an Ethernet header",
    BadLength "bad_length" "longer than its buffer by the MAC's account",
    BadCompletion "bad_completion" "a completion that made no sense",
    TagShort "tag_short" "too short for a switch tag",
    TagMissing "tag_missing" "no switch tag",
    TagFromCpu "tag_from_cpu" "our own tag command",
    TagSniffer "tag_sniffer" "a copy for a monitor nobody set up",
    TagRmu "tag_rmu" "an answer of remote management",
    TagCode "tag_code" "a tag with a reserved code",
    TagDevice "tag_device" "a tag of another switch",
    TagPort "tag_port" "a tag of a port that is not in use",
    TagTrunk "tag_trunk" "a tag of a trunk",
    QueueFull "queue_full" "its interface did not keep up",
    OtherVlan "other_vlan" "a VLAN that nobody here has",
    OtherStation "other_station" "to another station's hardware address",
    Oversize "oversize" "longer than what may be answered",
    SourceMac "source_mac" "from a group's hardware address",
    SourceAddress "source_address" "from an IP address that nobody else can have",
    ToGroup "to_group" "to a group or broadcast, which may not be answered",
    EtherType "ethertype" "an EtherType that nobody here speaks",
    Arp "arp" "ARP: malformed, or an impossible sender",
    ArpNotOurs "arp_not_ours" "ARP: about somebody else's address",
    Ipv4Malformed "ipv4_malformed" "IPv4 header: version or lengths",
    Ipv4Checksum "ipv4_checksum" "IPv4 header: checksum",
    Ipv6Malformed "ipv6_malformed" "IPv6 headers: version, lengths or options",
    Ipv6Option "ipv6_option" "IPv6: an unknown option that says to discard",
    Fragment "fragment" "a fragment: nothing here reassembles",
    Address "address" "to an IP address or group that is not ours",
    Icmp "icmp" "ICMP, IGMP or MLD: malformed",
    IcmpChecksum "icmp_checksum" "ICMP, IGMP or MLD: checksum",
    IcmpUnwanted "icmp_unwanted" "ICMP, IGMP or MLD: sound, but nobody here wants it",
    NeighbourNotOurs "neighbour_not_ours" "neighbour solicitation for somebody else's address",
    HopLimit "hop_limit" "neighbour discovery or MLD from beyond the link",
    Udp "udp" "UDP: malformed",
    UdpChecksum "udp_checksum" "UDP: checksum",
    UdpPort "udp_port" "UDP to a group or broadcast, and nobody listens at the port",
    UdpGuard "udp_guard" "UDP from a port that answers by itself, or to an echo by broadcast",
    SocketFull "socket_full" "UDP: the socket's queue was full",
    Tcp "tcp" "TCP: malformed",
    TcpChecksum "tcp_checksum" "TCP: checksum",
    TcpReset "tcp_reset" "TCP: a reset of no connection",
    TcpUnexpected "tcp_unexpected" "TCP: does not fit its connection's window or state",
    TableFull "table_full" "TCP: every place for a connection was taken",
    NoWayBack "no_way_back" "asked for an answer whose neighbour is not known yet, or has no route",
    StackUnknown "stack_unknown" "dropped by the stack, nobody knows why",
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
        Reason::ALL.into_iter().find(|reason| reason.name() == name)
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
        let reason = Reason::named(name.strip_prefix("rx_").unwrap_or(name))?;
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
