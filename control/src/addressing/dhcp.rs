//! DHCPv4 (RFC 2131): smoltcp's client, paced and read a little more closely.
//!
//! What smoltcp 0.14 does on its own, and what is done about it here:
//!
//! - It repeats DISCOVER at a fixed distance. [`Pace`] makes it quick while somebody waits for an
//!   address, slow once a link-local address serves, and silent while the link is down.
//! - It keeps REQUESTing for 50 s before it looks for another server; here it is 12 s.
//! - It ignores the router option if a server names more than one. The raw packet is read for it,
//!   and for the lease time, which smoltcp does not hand out.
//! - It ignores answers without option 54 (RFC 2131 demands it) and without a subnet mask (we ask
//!   for it; no way around it from outside). It restarts at once after a NAK, and cannot send
//!   DECLINE, INIT-REBOOT or RELEASE.

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::dhcpv4;
use smoltcp::time::Duration;
use smoltcp::wire::{DhcpOption, DhcpPacket, Ipv4Address, Ipv4Cidr};

use super::random::Random;

/// Spec: RFC 2132.
const OPTION_SUBNET_MASK: u8 = 1;
const OPTION_ROUTER: u8 = 3;
const OPTION_DNS: u8 = 6;
const OPTION_HOSTNAME: u8 = 12;
const OPTION_LEASE_TIME: u8 = 51;
const OPTION_RENEWAL_TIME: u8 = 58;
const OPTION_REBINDING_TIME: u8 = 59;
const REQUESTED: &[u8] = &[
    OPTION_SUBNET_MASK,
    OPTION_ROUTER,
    OPTION_DNS,
    OPTION_LEASE_TIME,
    OPTION_RENEWAL_TIME,
    OPTION_REBINDING_TIME,
];

/// The largest DHCP message an Ethernet frame holds, in bytes.
const MAX_MESSAGE_LEN: usize = 1472;
/// 2 + 2 + 4 + 4 s, since smoltcp doubles after every second try.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
const REQUEST_RETRIES: u16 = 4;
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long to wait for an offer before DISCOVER is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Somebody waits: four tries within the ten seconds before the link-local fallback.
    Quick,
    /// There is an address to live with; a server may still turn up.
    Slow,
    /// The link is down.
    Silent,
}

impl Pace {
    /// Spread a little, so that boards switched on together do not ask in step for ever.
    fn discover_timeout(self, random: &mut Random) -> Duration {
        match self {
            Self::Quick => random.between_ms(2500, 3000),
            Self::Slow => random.between_ms(12_000, 15_000),
            // smoltcp's socket has no pause; a day is one.
            Self::Silent => A_DAY,
        }
    }
}

/// What a server gave us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) cidr: Ipv4Cidr,
    pub(super) router: Option<Ipv4Address>,
    pub(super) dns: Option<Ipv4Address>,
    pub(super) server: Ipv4Address,
    /// Length of the lease; `None` if the server did not say (smoltcp then takes 120 s).
    pub(super) duration: Option<Duration>,
}

/// A change of the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A new lease, or a renewal.
    Bound(Lease),
    /// There is none, or none any more.
    Unbound,
}

/// The DHCP socket of one interface.
#[derive(Debug)]
pub(super) struct Client(SocketHandle);

impl Client {
    /// Adds the socket to the set. Allocates once, for good: its buffers must outlive the set.
    pub(super) fn attach(sockets: &mut SocketSet<'static>, hostname: &str) -> Self {
        let hostname: &'static str = Box::leak(Box::from(hostname));
        let options: &'static [DhcpOption<'static>] = Box::leak(Box::new([DhcpOption {
            kind: OPTION_HOSTNAME,
            data: hostname.as_bytes(),
        }]));
        let mut socket = dhcpv4::Socket::new();
        socket.set_outgoing_options(options);
        socket.set_parameter_request_list(REQUESTED);
        socket.set_receive_packet_buffer(Box::leak(vec![0; MAX_MESSAGE_LEN].into_boxed_slice()));
        let mut retry = socket.get_retry_config();
        retry.discover_timeout = A_DAY;
        retry.initial_request_timeout = REQUEST_TIMEOUT;
        retry.request_retries = REQUEST_RETRIES;
        socket.set_retry_config(retry);
        Self(sockets.add(socket))
    }

    /// Takes effect with the next DISCOVER.
    pub(super) fn set_pace(
        &self,
        sockets: &mut SocketSet<'static>,
        pace: Pace,
        random: &mut Random,
    ) {
        let socket = sockets.get_mut::<dhcpv4::Socket>(self.0);
        let mut retry = socket.get_retry_config();
        retry.discover_timeout = pace.discover_timeout(random);
        socket.set_retry_config(retry);
    }

    /// Gives up the lease, if any, and starts over; DISCOVER leaves with the next egress.
    pub(super) fn restart(
        &self,
        sockets: &mut SocketSet<'static>,
        pace: Pace,
        random: &mut Random,
    ) {
        self.set_pace(sockets, pace, random);
        sockets.get_mut::<dhcpv4::Socket>(self.0).reset();
    }

    /// What changed since the last call.
    pub(super) fn poll(&self, sockets: &mut SocketSet<'static>) -> Option<Change> {
        Some(match sockets.get_mut::<dhcpv4::Socket>(self.0).poll()? {
            dhcpv4::Event::Deconfigured => Change::Unbound,
            dhcpv4::Event::Configured(config) => {
                let ack = config
                    .packet
                    .filter(|packet| packet.your_ip() == config.address.address());
                let ack = ack.as_ref();
                Change::Bound(Lease {
                    cidr: config.address,
                    router: config
                        .router
                        .or_else(|| option_addr(ack, OPTION_ROUTER))
                        .filter(usable),
                    dns: config.dns_servers.first().copied(),
                    server: config.server.identifier,
                    duration: option_u32(ack, OPTION_LEASE_TIME)
                        .map(|s| Duration::from_secs(s.into())),
                })
            }
        })
    }
}

fn usable(addr: &Ipv4Address) -> bool {
    !(addr.is_unspecified() || addr.is_multicast() || addr.is_broadcast() || addr.is_loopback())
}

/// The first four bytes of an option.
fn option_u32(packet: Option<&DhcpPacket<&[u8]>>, kind: u8) -> Option<u32> {
    let option = packet?.options().find(|option| option.kind == kind)?;
    option
        .data
        .first_chunk()
        .map(|bytes| u32::from_be_bytes(*bytes))
}

fn option_addr(packet: Option<&DhcpPacket<&[u8]>>, kind: u8) -> Option<Ipv4Address> {
    option_u32(packet, kind).map(Ipv4Address::from_bits)
}
