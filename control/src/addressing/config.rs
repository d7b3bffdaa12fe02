//! What the command line wants of an interface.

use smoltcp::wire::{Ipv4Address, Ipv4Cidr, Ipv6Address, Ipv6Cidr};

use super::mdns::HostLabel;

const DEFAULT_HOSTNAME: &str = "ristretto";

/// What the command line wants of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config<'a> {
    /// Told to the DHCP server and answered for as `HOSTNAME.local`. Only the first label counts, and
    /// characters a host name cannot have become hyphens.
    pub hostname: &'a str,
    /// IPv4 addresses.
    pub ipv4: Ipv4Config,
    /// IPv6 addresses.
    pub ipv6: Ipv6Config,
}

/// Where IPv4 addresses come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv4Config {
    /// No IPv4.
    Off,
    /// DHCP, with a link-local address while no server answers.
    Automatic,
    /// One address given by hand.
    Static {
        /// The address with its prefix length.
        cidr: Ipv4Cidr,
        /// The default router.
        gateway: Option<Ipv4Address>,
    },
}

/// Where IPv6 addresses come from, besides fe80::/64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv6Config {
    /// No IPv6, not even fe80::/64.
    Off,
    /// Router advertisements (SLAAC).
    Automatic,
    /// One address given by hand; router advertisements are ignored.
    Static {
        /// The address with its prefix length.
        cidr: Ipv6Cidr,
        /// The default router.
        gateway: Option<Ipv6Address>,
    },
}

/// The first label of a host name, made of letters, digits and hyphens.
pub(super) fn host_label(hostname: &str) -> HostLabel {
    let mut label = HostLabel::new();
    for character in hostname.split('.').next().unwrap_or_default().chars() {
        let character = if character.is_ascii_alphanumeric() {
            character.to_ascii_lowercase()
        } else {
            '-'
        };
        if label.push(character).is_err() {
            break;
        }
    }
    let trimmed = label.trim_matches('-');
    HostLabel::try_from(if trimmed.is_empty() {
        DEFAULT_HOSTNAME
    } else {
        trimmed
    })
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_become_labels() {
        for (name, label) in [
            ("espresso", "espresso"),
            ("Espresso.example.org", "espresso"),
            ("my_board 1", "my-board-1"),
            ("", "ristretto"),
            ("--", "ristretto"),
            (".x", "ristretto"),
            ("ümlaut", "mlaut"),
        ] {
            assert_eq!(host_label(name), label);
        }
        assert_eq!(host_label(&"x".repeat(300)).len(), 63);
    }
}
