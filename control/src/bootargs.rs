//! Reads the command line that the boot loader leaves in `/chosen/bootargs`.
//!
//! Owns the syntax: how the line falls into items and what each item means. Acts on none of them. Items that
//! nobody here knows are left alone, because a Linux command line must boot this image too; but one of ours that
//! cannot be read, or that looks like a slip of the pen, is handed to the caller to print, and ignored.
//!
//! | item | meaning |
//! | --- | --- |
//! | `ip=...` | addresses of one interface or of all others, see [`InterfaceArgs`]; repeatable |
//! | `hostname=NAME` | name of the machine, up to 63 letters, digits and hyphens |
//! | `loglevel=0..8`, `=error`, `warn`, `info`, `debug`, `trace` | what reaches the console; numbers are Linux's |
//! | `panic=reset`, `halt`, `off` | what follows a panic |
//! | `latency=off`, `on`, `full` | how much is measured, see [`crate::latency`] |
//! | `admin=TOKEN` | the token that opens what changes something, see [`crate::http::Access`] |
//! | `unsafe=1` | whether the commands `peek` and `poke` work |
//! | `public=on`, `off` | whether reading by HTTP takes no token |
//! | `exit=semihosting` | hand the exit status to the debugger or emulator |
//! | `services=NAME,...` | services answer on these interfaces only, see [`Interfaces`] |
//! | `reflect=NAME,...` | frames of EtherType 0x88b5 are sent back on these interfaces |
//! | `chargen=on`, `off` | whether UDP datagrams to port 19 get characters |
//! | `test=NAME` | run a self test |
//! | `watchdog=SECONDS` | reset by hardware unless the poll loop and the links live |
//! | `dsa-tag=`, `link=`, `mac=`, `coalesce=`, `bridge=`, `vlan=`, `mtu=` | sockets and wires, see [`wiring`] |
//!
//! To add an item: a field of [`BootArgs`], a function that fills it, a line in `ITEMS`.
//!
//! Spec: Linux, Documentation/admin-guide/kernel-parameters.rst (quotes, `--`, `-` equals `_` in names) and
//! Documentation/admin-guide/nfs/nfsroot.rst (`ip=`).

pub mod wiring;

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use heapless::{String, Vec};
use log::LevelFilter;

use crate::http::MAX_TOKEN;
use crate::latency;
pub use wiring::Wiring;

/// Interfaces that can have an `ip=` of their own.
const MAX_INTERFACES: usize = 8;

/// Reads the text behind a `=` into the arguments.
type Reader = fn(&mut BootArgs, &str) -> Result<(), Reason>;

/// Every item there is.
const ITEMS: &[(&str, Reader)] = &[
    ("ip", BootArgs::read_ip),
    ("hostname", BootArgs::read_hostname),
    ("loglevel", BootArgs::read_loglevel),
    ("panic", BootArgs::read_panic),
    ("latency", BootArgs::read_latency),
    ("admin", BootArgs::read_admin),
    ("unsafe", BootArgs::read_unsafe),
    ("public", BootArgs::read_public),
    ("exit", BootArgs::read_exit),
    ("services", BootArgs::read_services),
    ("reflect", BootArgs::read_reflect),
    ("chargen", BootArgs::read_chargen),
    ("test", BootArgs::read_test),
    ("watchdog", BootArgs::read_watchdog),
    ("dsa-tag", BootArgs::read_dsa_tag),
    ("link", BootArgs::read_link),
    ("mac", BootArgs::read_mac),
    ("coalesce", BootArgs::read_coalesce),
    ("bridge", BootArgs::read_bridge),
    ("vlan", BootArgs::read_vlan),
    ("mtu", BootArgs::read_mtu),
];

/// What the command line asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootArgs {
    /// From `hostname=`, or else from an `ip=`.
    pub hostname: Option<String<63>>,
    /// What reaches the console, if the line says so.
    pub log_level: Option<LevelFilter>,
    /// What follows a panic.
    pub panic: PanicAction,
    /// How much of latency is measured.
    pub latency: latency::Mode,
    /// The token that opens what changes something; without one nothing does.
    pub admin: Option<String<MAX_TOKEN>>,
    /// Any address may be read, and devices' written to, by who may.
    pub unsafe_access: bool,
    /// Reading by HTTP takes the token, too.
    pub private: bool,
    /// The exit status goes out by semihosting. Without a debugger or emulator, that is an exception.
    pub exit_by_semihosting: bool,
    /// The self test to run.
    pub test: Option<String<32>>,
    /// Where services answer; on all interfaces if nothing is said.
    pub services: Option<Interfaces>,
    /// Where the reflector is on.
    pub reflect: Option<Interfaces>,
    /// Whether UDP datagrams get characters.
    pub chargen: bool,
    /// Seconds after which the hardware resets a machine that has stopped working.
    pub watchdog_s: Option<u32>,
    /// Sockets and wires.
    pub wiring: Wiring,
    /// For every interface without an entry of its own.
    others: InterfaceArgs,
    interfaces: Vec<(String<15>, InterfaceArgs), MAX_INTERFACES>,
    hostname_is_final: bool,
}

/// Names of interfaces, with commas between them: `lan0,lan1`. A later item replaces an earlier one.
pub type Interfaces = Vec<String<15>, MAX_INTERFACES>;

/// What follows a panic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PanicAction {
    /// Reset and boot again.
    #[default]
    Reset,
    /// Stop, so that the console can be read and a debugger attached.
    Halt,
    /// Power off.
    Off,
}

/// How one interface gets its addresses, from the `ip=` items that name it:
/// `ip=<client>:<server>:<gateway>:<netmask>:<hostname>:<device>:<autoconf>:<dns0>:<dns1>:<ntp>`.
///
/// IPv6 addresses stand in brackets. The netmask may be dotted, a prefix length, or stand behind the client
/// (`10.0.0.2/24`). The shortest forms are `ip=dhcp`, `ip=on` (or `any`) and `ip=off` (or `none`). A later item for the
/// same device replaces what an earlier one said about the same family; `on` and `off` mean both families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceArgs {
    /// IPv4: by DHCP unless the line says otherwise.
    pub ipv4: Method<Ipv4Addr>,
    /// IPv6: by SLAAC unless the line says otherwise.
    pub ipv6: Method<Ipv6Addr>,
    /// Name servers.
    pub dns: [Option<IpAddr>; 2],
    /// Time server.
    pub ntp: Option<IpAddr>,
}

/// How an interface gets its address of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method<A> {
    /// From the network.
    #[default]
    Auto,
    /// Not at all.
    Off,
    /// From the command line.
    Static {
        /// The interface's own address: unicast, and not the network's or its broadcast address.
        address: A,
        /// Bits of it that name the network; never 0.
        prefix_len: u8,
        /// The router, in the same network (or link-local).
        gateway: Option<A>,
    },
}

/// An item that was ignored, to be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Complaint<'l> {
    /// The item as it stands in the line.
    pub item: &'l [u8],
    /// Why.
    pub reason: Reason,
}

/// Why an item was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody knows it, but it is one letter away from an item of ours.
    Misspelt(&'static str),
    /// There is no `=value`.
    NoValue,
    /// The value is not UTF-8.
    NotText,
    /// Not one of the words or numbers that the item takes.
    UnknownValue {
        /// Those it takes.
        expected: &'static str,
    },
    /// More letters than there is room for.
    TooLong {
        /// The room.
        max: usize,
    },
    /// A hostname that is not letters, digits and hyphens, with no hyphen at either end.
    Hostname,
    /// A device name with a slash or a character that cannot be seen.
    Device,
    /// More than ten fields.
    Fields,
    /// More devices than there is room for.
    Devices,
    /// Not a way of configuration that is known here; BOOTP and RARP are not.
    Autoconf,
    /// Not an address; IPv6 ones need brackets.
    Address(Field),
    /// The own address is zero, multicast, broadcast, loopback or reserved.
    ClientNotUnicast,
    /// The own address is the first (network) or last (broadcast) one of its network.
    ClientNotHost,
    /// A gateway or netmask without an own address.
    NoClient,
    /// Neither a netmask nor a prefix length.
    NoNetmask,
    /// The netmask is neither an address nor a number.
    Netmask,
    /// The ones of the netmask do not come first.
    NetmaskHoles,
    /// The prefix length is 0 or more than an address has bits.
    PrefixLen {
        /// Bits of an address.
        max: u8,
    },
    /// The netmask and the prefix length behind the client disagree.
    TwoNetmasks,
    /// IPv4 and IPv6 in one item.
    Families,
    /// The gateway could not be reached, because it is outside the network.
    GatewayOutside,
    /// The gateway is this machine, or the network's or broadcast address.
    GatewayNotOther,
    /// There is no device in front of the colon.
    NoDevice,
    /// Not six bytes in hexadecimal.
    Mac,
    /// A group's address, or zero.
    MacNotUnicast,
    /// A bridge of less than two or more ports than there is room for.
    Members,
    /// More bridges than there is room for.
    Bridges,
    /// A port or a name that is taken already.
    Twice,
    /// Not an interface, a dot and a VLAN number.
    Vid,
}

/// A field of `ip=` that takes an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The own address.
    Client,
    /// The boot server, which nothing here needs.
    Server,
    /// The router.
    Gateway,
    /// A name server.
    Dns,
    /// The time server.
    Ntp,
}

impl BootArgs {
    /// Reads `line`, which may have any bytes; it ends at the first NUL or `--`. Items of ours that had to be ignored
    /// go to `complain`.
    pub fn parse(line: &[u8], mut complain: impl FnMut(Complaint<'_>)) -> Self {
        let mut args = Self::default();
        for item in items(line).take_while(|item| item.text != b"--") {
            let known = ITEMS.iter().find(|(name, _)| same_name(item.name, name));
            let outcome = match (known, item.value) {
                (Some(_), None) => Err(Reason::NoValue),
                (Some((_, read)), Some(value)) => str::from_utf8(value)
                    .map_err(|_| Reason::NotText)
                    .and_then(|value| read(&mut args, value)),
                (None, Some(_)) => match ITEMS.iter().find(|(name, _)| is_slip(item.name, name)) {
                    Some((name, _)) => Err(Reason::Misspelt(name)),
                    None => Ok(()),
                },
                (None, None) => Ok(()),
            };
            if let Err(reason) = outcome {
                complain(Complaint {
                    item: item.text,
                    reason,
                });
            }
        }
        args
    }

    /// What the line says about the interface `device`: by its own name, or as one of the others.
    pub fn interface(&self, device: &str) -> &InterfaceArgs {
        self.interfaces
            .iter()
            .find(|(name, _)| name == device)
            .map_or(&self.others, |(_, args)| args)
    }

    /// Whether services answer on the interface `device`, and whether it reflects.
    pub fn services_on(&self, device: &str) -> (bool, bool) {
        let names = |list: &Option<Interfaces>| {
            list.as_ref()
                .map(|list| list.iter().any(|name| name == device))
        };
        (
            names(&self.services).unwrap_or(true),
            names(&self.reflect).unwrap_or(false),
        )
    }

    /// The devices that the line names, each behind the item that names it, so that one which does not exist can be
    /// reported.
    pub fn devices(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let ip = self.interfaces.iter().map(|(name, _)| ("ip", name));
        let services = self.services.iter().flatten();
        let reflect = self.reflect.iter().flatten();
        ip.chain(services.map(|name| ("services", name)))
            .chain(reflect.map(|name| ("reflect", name)))
            .map(|(item, name)| (item, name.as_str()))
    }

    fn read_hostname(&mut self, value: &str) -> Result<(), Reason> {
        self.hostname = Some(hostname(value)?);
        self.hostname_is_final = true;
        Ok(())
    }

    /// Linux prints what is more urgent than the number: 3 is an error, 4 a warning, 6 information, 7 for debugging.
    fn read_loglevel(&mut self, value: &str) -> Result<(), Reason> {
        self.log_level = Some(match value {
            "0" | "1" | "2" | "3" => LevelFilter::Off,
            "4" | "error" => LevelFilter::Error,
            "5" | "6" | "warn" => LevelFilter::Warn,
            "7" | "info" => LevelFilter::Info,
            "8" | "debug" => LevelFilter::Debug,
            "trace" => LevelFilter::Trace,
            _ => {
                return Err(Reason::UnknownValue {
                    expected: "0 to 8, error, warn, info, debug or trace",
                });
            }
        });
        Ok(())
    }

    fn read_panic(&mut self, value: &str) -> Result<(), Reason> {
        self.panic = match value {
            "reset" => PanicAction::Reset,
            "halt" => PanicAction::Halt,
            "off" => PanicAction::Off,
            _ => {
                return Err(Reason::UnknownValue {
                    expected: "reset, halt or off",
                });
            }
        };
        Ok(())
    }

    fn read_latency(&mut self, value: &str) -> Result<(), Reason> {
        self.latency = match value {
            "off" => latency::Mode::Off,
            "on" => latency::Mode::On,
            "full" => latency::Mode::Full,
            _ => {
                return Err(Reason::UnknownValue {
                    expected: "off, on or full",
                });
            }
        };
        Ok(())
    }

    /// What may stand in a bearer token: RFC 6750, 2.1.
    fn read_admin(&mut self, value: &str) -> Result<(), Reason> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if value.is_empty() || !value.bytes().all(is_token) {
            return Err(Reason::UnknownValue {
                expected: "letters, digits and -._~+/=",
            });
        }
        self.admin = Some(copied(value)?);
        Ok(())
    }

    fn read_public(&mut self, value: &str) -> Result<(), Reason> {
        self.private = match value {
            "on" => false,
            "off" => true,
            _ => {
                return Err(Reason::UnknownValue {
                    expected: "on or off",
                });
            }
        };
        Ok(())
    }

    fn read_exit(&mut self, value: &str) -> Result<(), Reason> {
        if value != "semihosting" {
            return Err(Reason::UnknownValue {
                expected: "semihosting",
            });
        }
        self.exit_by_semihosting = true;
        Ok(())
    }

    fn read_unsafe(&mut self, value: &str) -> Result<(), Reason> {
        self.unsafe_access = match value {
            "1" => true,
            "0" => false,
            _ => return Err(Reason::UnknownValue { expected: "0 or 1" }),
        };
        Ok(())
    }

    fn read_services(&mut self, value: &str) -> Result<(), Reason> {
        self.services = Some(interfaces(value)?);
        Ok(())
    }

    fn read_reflect(&mut self, value: &str) -> Result<(), Reason> {
        self.reflect = Some(interfaces(value)?);
        Ok(())
    }

    fn read_chargen(&mut self, value: &str) -> Result<(), Reason> {
        self.chargen = match value {
            "on" => true,
            "off" => false,
            _ => {
                return Err(Reason::UnknownValue {
                    expected: "on or off",
                });
            }
        };
        Ok(())
    }

    fn read_test(&mut self, value: &str) -> Result<(), Reason> {
        self.test = Some(copied(value)?);
        Ok(())
    }

    fn read_ip(&mut self, value: &str) -> Result<(), Reason> {
        let mut fields = [""; 10];
        let mut slots = fields.iter_mut();
        for field in split_outside_brackets(value) {
            *slots.next().ok_or(Reason::Fields)? = field;
        }
        if autoconf(value).is_ok() {
            fields = ["", "", "", "", "", "", value, "", "", ""];
        }
        let [
            client,
            server,
            gateway,
            netmask,
            name,
            device,
            way,
            dns0,
            dns1,
            ntp,
        ] = fields;

        let network = match (client, netmask, gateway) {
            ("", "", "") => None,
            ("", ..) => return Err(Reason::NoClient),
            _ => Some(Network::read(client, netmask, gateway)?),
        };
        optional_address(server, Field::Server)?;
        let name = if name.is_empty() {
            None
        } else {
            Some(hostname(name)?)
        };
        let device = device_name(device)?;
        let way = autoconf(way)?;

        let mut args = match self.interfaces.iter().find(|(name, _)| *name == device) {
            Some((_, args)) => *args,
            None if device.is_empty() => self.others,
            None => InterfaceArgs::default(),
        };
        args.dns[0] = optional_address(dns0, Field::Dns)?.or(args.dns[0]);
        args.dns[1] = optional_address(dns1, Field::Dns)?.or(args.dns[1]);
        args.ntp = optional_address(ntp, Field::Ntp)?.or(args.ntp);
        match (network, way) {
            // As in Linux, an own address is used whatever the way of configuration is said to be.
            (Some(Network::V4(method)), _) => args.ipv4 = method,
            (Some(Network::V6(method)), _) => args.ipv6 = method,
            (None, Autoconf::Dhcp) => args.ipv4 = Method::Auto,
            (None, Autoconf::On) => (args.ipv4, args.ipv6) = (Method::Auto, Method::Auto),
            (None, Autoconf::Off) => (args.ipv4, args.ipv6) = (Method::Off, Method::Off),
        }

        // Nothing can fail from here on but the lack of room.
        if device.is_empty() {
            self.others = args;
        } else if let Some((_, entry)) =
            self.interfaces.iter_mut().find(|(name, _)| *name == device)
        {
            *entry = args;
        } else {
            self.interfaces
                .push((device, args))
                .map_err(|_| Reason::Devices)?;
        }
        if name.is_some() && !self.hostname_is_final {
            self.hostname = name;
        }
        Ok(())
    }
}

/// One item of the line.
struct Item<'l> {
    text: &'l [u8],
    name: &'l [u8],
    value: Option<&'l [u8]>,
}

/// Splits at spaces outside double quotes, as Linux does: the quotes around a value or a whole item are taken off, any
/// others stay. A quote that is never closed reaches to the end of the line.
fn items(line: &[u8]) -> impl Iterator<Item = Item<'_>> {
    let mut rest = line.split(|&byte| byte == 0).next().unwrap_or_default();
    core::iter::from_fn(move || {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return None;
        }
        let mut quoted = false;
        let end = rest.iter().position(|&byte| {
            quoted ^= byte == b'"';
            byte.is_ascii_whitespace() && !quoted
        });
        let (text, after) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
        rest = after;
        let inner = match text.strip_prefix(b"\"") {
            Some(inner) => inner.strip_suffix(b"\"").unwrap_or(inner),
            None => text,
        };
        let mut parts = inner.splitn(2, |&byte| byte == b'=');
        let name = parts.next().unwrap_or_default();
        let value = parts.next().map(|value| match value.strip_prefix(b"\"") {
            Some(inner) => inner.strip_suffix(b"\"").unwrap_or(inner),
            None => value,
        });
        Some(Item { text, name, value })
    })
}

fn same_name(name: &[u8], ours: &str) -> bool {
    let dashed = name
        .iter()
        .map(|&byte| if byte == b'_' { b'-' } else { byte });
    dashed.eq(ours.bytes())
}

/// Whether `name` could be meant for `ours`: one letter too many, too few, different or swapped with its neighbour, or
/// another case. Very short names have too many neighbours that are somebody else's.
fn is_slip(name: &[u8], ours: &str) -> bool {
    let ours = ours.as_bytes();
    if name.eq_ignore_ascii_case(ours) {
        return true;
    }
    if ours.len() < 4 {
        return false;
    }
    // What is left when the common start is taken off; after a slip, the ends are the same.
    let same = name.iter().zip(ours).take_while(|(a, b)| a == b).count();
    let (a, b) = (
        name.get(same..).unwrap_or_default(),
        ours.get(same..).unwrap_or_default(),
    );
    match (a, b) {
        ([a0, a1, a @ ..], [b0, b1, b @ ..]) if a0 == b1 && a1 == b0 && a == b => true,
        ([_, a_rest @ ..], [_, b_rest @ ..]) => a_rest == b_rest || a_rest == b || a == b_rest,
        ([_], []) | ([], [_]) => true,
        _ => false,
    }
}

fn copied<const N: usize>(text: &str) -> Result<String<N>, Reason> {
    String::from_str(text).map_err(|_| Reason::TooLong { max: N })
}

/// Spec: RFC 1123, 2.1, one label.
fn hostname(text: &str) -> Result<String<63>, Reason> {
    let letters = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !letters || text.is_empty() || text.starts_with('-') || text.ends_with('-') {
        return Err(Reason::Hostname);
    }
    copied(text)
}

fn device_name(text: &str) -> Result<String<15>, Reason> {
    if text
        .bytes()
        .any(|byte| !byte.is_ascii_graphic() || byte == b'/')
    {
        return Err(Reason::Device);
    }
    copied(text)
}

fn interfaces(text: &str) -> Result<Interfaces, Reason> {
    let mut names = Vec::new();
    for name in text.split(',') {
        if name.is_empty() {
            return Err(Reason::Device);
        }
        names
            .push(device_name(name)?)
            .map_err(|_| Reason::Devices)?;
    }
    Ok(names)
}

/// Where addresses come from if not from the command line.
enum Autoconf {
    Dhcp,
    On,
    Off,
}

fn autoconf(text: &str) -> Result<Autoconf, Reason> {
    match text {
        "dhcp" => Ok(Autoconf::Dhcp),
        "" | "on" | "any" => Ok(Autoconf::On),
        "off" | "none" => Ok(Autoconf::Off),
        _ => Err(Reason::Autoconf),
    }
}

fn split_outside_brackets(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.split(move |letter| {
        inside = (inside || letter == '[') && letter != ']';
        letter == ':' && !inside
    })
}

fn address(text: &str, field: Field) -> Result<IpAddr, Reason> {
    let address = match text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
    {
        Some(inside) => inside.parse().map(IpAddr::V6),
        None => text.parse().map(IpAddr::V4),
    };
    address.map_err(|_| Reason::Address(field))
}

fn optional_address(text: &str, field: Field) -> Result<Option<IpAddr>, Reason> {
    if text.is_empty() {
        Ok(None)
    } else {
        address(text, field).map(Some)
    }
}

/// An own address that makes sense, with its network.
enum Network {
    V4(Method<Ipv4Addr>),
    V6(Method<Ipv6Addr>),
}

impl Network {
    fn read(client: &str, netmask: &str, gateway: &str) -> Result<Self, Reason> {
        let (client, suffix) = client.split_once('/').unwrap_or((client, ""));
        let client = address(client, Field::Client)?;
        let prefix_len = match (suffix, netmask) {
            ("", "") => return Err(Reason::NoNetmask),
            ("", one) | (one, "") => prefix_len(one, client)?,
            (one, two) => {
                let prefix_len = prefix_len(one, client)?;
                if self::prefix_len(two, client)? != prefix_len {
                    return Err(Reason::TwoNetmasks);
                }
                prefix_len
            }
        };
        let gateway =
            optional_address(gateway, Field::Gateway)?.filter(|gateway| !gateway.is_unspecified());
        check_client(client, prefix_len)?;
        gateway.map_or(Ok(()), |gateway| check_gateway(gateway, client, prefix_len))?;
        match (client, gateway) {
            (IpAddr::V4(address), None) => Ok(Self::V4(Method::Static {
                address,
                prefix_len,
                gateway: None,
            })),
            (IpAddr::V6(address), None) => Ok(Self::V6(Method::Static {
                address,
                prefix_len,
                gateway: None,
            })),
            (IpAddr::V4(address), Some(IpAddr::V4(gateway))) => Ok(Self::V4(Method::Static {
                address,
                prefix_len,
                gateway: Some(gateway),
            })),
            (IpAddr::V6(address), Some(IpAddr::V6(gateway))) => Ok(Self::V6(Method::Static {
                address,
                prefix_len,
                gateway: Some(gateway),
            })),
            _ => Err(Reason::Families),
        }
    }
}

/// The bits of an address, and how many there are.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (address.to_bits().into(), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

/// From a dotted netmask or a number, with or without a slash.
fn prefix_len(text: &str, client: IpAddr) -> Result<u8, Reason> {
    let (_, max) = bits(client);
    let prefix_len = if text.contains('.') && client.is_ipv4() {
        let mask = text
            .parse::<Ipv4Addr>()
            .map_err(|_| Reason::Netmask)?
            .to_bits();
        if mask.leading_ones() + mask.trailing_zeros() < 32 {
            return Err(Reason::NetmaskHoles);
        }
        mask.leading_ones()
    } else {
        let digits = text.strip_prefix('/').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Reason::Netmask);
        }
        digits.parse().map_err(|_| Reason::PrefixLen { max })?
    };
    match u8::try_from(prefix_len) {
        Ok(len) if (1..=max).contains(&len) => Ok(len),
        _ => Err(Reason::PrefixLen { max }),
    }
}

fn check_client(client: IpAddr, prefix_len: u8) -> Result<(), Reason> {
    let unicast = match client {
        // 240.0.0.0/4 is reserved (RFC 1112, 4), 0.0.0.0/8 means this network (RFC 1122, 3.2.1.3).
        IpAddr::V4(address) => !matches!(address.octets(), [0 | 127 | 224..=255, ..]),
        IpAddr::V6(address) => {
            !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
        }
    };
    if !unicast {
        return Err(Reason::ClientNotUnicast);
    }
    if is_edge(client, prefix_len) {
        Err(Reason::ClientNotHost)
    } else {
        Ok(())
    }
}

/// Whether an IPv4 address is the first or the last one of its network; two-address networks have no such
/// (RFC 3021). IPv6 has no broadcast, and its first address is a router's (RFC 4291, 2.6.1), not forbidden.
fn is_edge(address: IpAddr, prefix_len: u8) -> bool {
    let IpAddr::V4(address) = address else {
        return false;
    };
    let host_mask = u32::MAX.checked_shr(prefix_len.into()).unwrap_or(0);
    let host = address.to_bits() & host_mask;
    prefix_len < 31 && (host == 0 || host == host_mask)
}

fn check_gateway(gateway: IpAddr, client: IpAddr, prefix_len: u8) -> Result<(), Reason> {
    if gateway.is_ipv4() != client.is_ipv4() {
        return Err(Reason::Families);
    }
    if gateway == client || gateway.is_multicast() || is_edge(gateway, prefix_len) {
        return Err(Reason::GatewayNotOther);
    }
    let ((one, width), (other, _)) = (bits(gateway), bits(client));
    let link_local = matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local());
    let outside = (one ^ other)
        .checked_shr(u32::from(width.saturating_sub(prefix_len)))
        .unwrap_or(0)
        != 0;
    if outside && !link_local {
        Err(Reason::GatewayOutside)
    } else {
        Ok(())
    }
}

impl fmt::Display for Complaint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ignored `{}`: {}", self.item.escape_ascii(), self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Misspelt(name) => write!(f, "unknown, did you mean `{name}=`?"),
            Self::NoValue => f.write_str("it needs a value"),
            Self::NotText => f.write_str("the value is not UTF-8"),
            Self::UnknownValue { expected } => write!(f, "expected {expected}"),
            Self::TooLong { max } => write!(f, "a name in it is longer than {max} bytes"),
            Self::Hostname => f.write_str("a hostname is letters, digits and inner hyphens"),
            Self::Device => f.write_str("a device name is visible letters without a slash"),
            Self::Fields => f.write_str("more than ten fields (IPv6 addresses need brackets)"),
            Self::Devices => write!(f, "more than {MAX_INTERFACES} devices"),
            Self::Autoconf => f.write_str("autoconf is dhcp, on, any, off or none"),
            Self::Address(field) => {
                write!(f, "the {field} is not an address (IPv6 needs brackets)")
            }
            Self::ClientNotUnicast => f.write_str("the client address is no host's address"),
            Self::ClientNotHost => {
                f.write_str("the client address is the network's first or last one")
            }
            Self::NoClient => f.write_str("a gateway or netmask needs a client address"),
            Self::NoNetmask => f.write_str("the client address needs a netmask"),
            Self::Netmask => f.write_str("the netmask is neither an IPv4 mask nor a prefix length"),
            Self::NetmaskHoles => f.write_str("the netmask is not contiguous"),
            Self::PrefixLen { max } => write!(f, "the prefix length is not 1 to {max}"),
            Self::TwoNetmasks => f.write_str("the netmask and the prefix length disagree"),
            Self::Families => f.write_str("the client and the gateway are not of one family"),
            Self::GatewayOutside => f.write_str("the gateway is outside the client's network"),
            Self::GatewayNotOther => f.write_str("the gateway is not another host's address"),
            Self::NoDevice => f.write_str("it begins with the name of a device"),
            Self::Mac => {
                f.write_str("a MAC address is six pairs of hexadecimal digits with colons")
            }
            Self::MacNotUnicast => f.write_str("the MAC address is a group's, or zero"),
            Self::Members => write!(f, "a bridge has 2 to {} ports", wiring::MAX_MEMBERS),
            Self::Bridges => write!(f, "more than {} bridges", wiring::MAX_BRIDGES),
            Self::Twice => f.write_str("a name in it is taken already"),
            Self::Vid => f.write_str("a VLAN is DEVICE.VID, with a VID of 1 to 4094"),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Gateway => "gateway",
            Self::Dns => "name server",
            Self::Ntp => "time server",
        })
    }
}

#[cfg(test)]
mod tests;
