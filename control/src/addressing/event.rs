//! What happened to the addresses, in words for the console.

use core::fmt;

use smoltcp::time::Duration;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, Ipv4Address};

use super::FALLBACK_AFTER;
use super::mdns::HostLabel;

/// Where an address or route came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Static,
    /// A DHCP server.
    Dhcp,
    /// 169.254/16 or fe80::/64.
    LinkLocal,
    /// A router advertisement.
    Slaac,
}

impl Origin {
    /// In one word, as log lines and pages say it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Dhcp => "dhcp",
            Self::LinkLocal => "link-local",
            Self::Slaac => "slaac",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A change worth a line on the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The address works from now on.
    AddressAdded {
        /// The address with its prefix length.
        cidr: IpCidr,
        /// Where it came from.
        origin: Origin,
    },
    /// The address is gone.
    AddressRemoved {
        /// The address with its prefix length.
        cidr: IpCidr,
        /// Where it came from.
        origin: Origin,
    },
    /// The address is not one a host can have, or there is no room for it.
    AddressRefused {
        /// The address with its prefix length.
        cidr: IpCidr,
        /// Where it came from.
        origin: Origin,
    },
    /// There is a default router.
    GatewayAdded {
        /// The router.
        router: IpAddress,
        /// Where it came from.
        origin: Origin,
    },
    /// The default router is gone.
    GatewayRemoved {
        /// The router.
        router: IpAddress,
    },
    /// A DHCP server gave a lease, or changed it. Unchanged renewals are not reported.
    Lease {
        /// The server's identifier.
        server: Ipv4Address,
        /// How long the lease lasts, if the server said so.
        duration: Option<Duration>,
        /// The first name server.
        dns: Option<Ipv4Address>,
    },
    /// The lease ran out or was refused.
    LeaseLost,
    /// No lease for ten seconds: a link-local address is sought.
    NoLease,
    /// Somebody else uses, or wants, this address of ours.
    Conflict {
        /// The address.
        addr: Ipv4Address,
        /// Who.
        with: EthernetAddress,
    },
    /// `label.local` is ours and answered for.
    NameClaimed {
        /// The name without `.local`.
        label: HostLabel,
    },
    /// Somebody else has `label.local`.
    NameConflict {
        /// The name without `.local`.
        label: HostLabel,
        /// Who.
        with: IpAddress,
    },
}

impl Event {
    /// Whether packets may take another way, or have another source, from now on.
    pub fn changes_routing(&self) -> bool {
        matches!(
            self,
            Self::AddressAdded { .. }
                | Self::AddressRemoved { .. }
                | Self::GatewayAdded { .. }
                | Self::GatewayRemoved { .. }
        )
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressAdded { cidr, origin } => write!(f, "address {cidr} ({origin})"),
            Self::AddressRemoved { cidr, origin } => write!(f, "address {cidr} ({origin}) removed"),
            Self::AddressRefused { cidr, origin } => write!(f, "address {cidr} ({origin}) refused"),
            Self::GatewayAdded { router, origin } => {
                write!(f, "default route via {router} ({origin})")
            }
            Self::GatewayRemoved { router } => write!(f, "default route via {router} removed"),
            Self::Lease {
                server,
                duration,
                dns,
            } => {
                write!(f, "lease from {server}")?;
                match duration {
                    Some(duration) => write!(f, " for {} s", duration.secs())?,
                    None => f.write_str(" of unknown length")?,
                }
                dns.map_or(Ok(()), |dns| write!(f, ", name server {dns}"))
            }
            Self::LeaseLost => f.write_str("DHCP lease lost"),
            Self::NoLease => {
                write!(
                    f,
                    "no DHCP lease within {} s, seeking a link-local address",
                    FALLBACK_AFTER.secs()
                )
            }
            Self::Conflict { addr, with } => write!(f, "address {addr} is also claimed by {with}"),
            Self::NameClaimed { label } => write!(f, "name {label}.local"),
            Self::NameConflict { label, with } => {
                write!(f, "name {label}.local is also claimed by {with}")
            }
        }
    }
}
