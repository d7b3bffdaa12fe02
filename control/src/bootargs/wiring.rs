//! The items about sockets and wires: links, MAC addresses, bridges, VLANs, tags, interrupts.

use core::fmt::Write;

use hal::net::phy::{Modes, Pause, Setting, Speed};
use hal::net::tag::Protocol;
use hal::net::{Coalescing, MacAddr};
use heapless::{String, Vec};

use super::{BootArgs, Reason, device_name};

/// Devices that can have an item of one kind.
pub const MAX_DEVICES: usize = 8;
/// Ports of a bridge: as many as the largest board has sockets.
pub const MAX_MEMBERS: usize = 4;
/// Bridges.
pub const MAX_BRIDGES: usize = 2;
/// What a link can be told.
const LINK: &str = "DEVICE:auto, DEVICE:auto,MODE,... or DEVICE:MODE; a MODE is 1000-full, 100-full, 100-half, 10-full or 10-half";
const COALESCE: &str = "PACKETS,MICROSECONDS: 1 to 128, 1 to 67000";

/// Name of a port or an interface.
pub type DeviceName = String<15>;

/// What the line says about sockets and wires.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wiring {
    /// How the switch tags frames, from `dsa-tag=`.
    pub dsa_tag: Option<Protocol>,
    /// When received frames interrupt, from `coalesce=`.
    pub coalescing: Option<Coalescing>,
    /// What is asked of links, from `link=`.
    pub links: Vec<(DeviceName, Setting), MAX_DEVICES>,
    /// Addresses, from `mac=`.
    pub macs: Vec<(DeviceName, MacAddr), MAX_DEVICES>,
    /// Bridges, from `bridge=`. No port is in two of them.
    pub bridges: Vec<BridgeArgs, MAX_BRIDGES>,
    /// VLANs, from `vlan=`.
    pub vlans: Vec<VlanArgs, MAX_DEVICES>,
}

/// Ports to be one interface: `bridge=[NAME:]PORT,PORT,...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeArgs {
    /// Of the interface; `br0` and `br1` unless the line says otherwise.
    pub name: DeviceName,
    /// At least two, all different.
    pub members: Vec<DeviceName, MAX_MEMBERS>,
}

/// An 802.1Q interface: `vlan=DEVICE.VID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanArgs {
    /// Its own name, `DEVICE.VID`.
    pub name: DeviceName,
    /// The interface whose frames carry the tag.
    pub parent: DeviceName,
    /// 1 to 4094.
    pub vid: u16,
}

impl Wiring {
    /// What is asked of the link of a port.
    pub fn link(&self, port: &str) -> Setting {
        find(&self.links, port).unwrap_or_default()
    }

    /// The address that an interface is given.
    pub fn mac(&self, interface: &str) -> Option<MacAddr> {
        find(&self.macs, interface)
    }
}

fn find<V: Copy>(entries: &[(DeviceName, V)], device: &str) -> Option<V> {
    let found = entries.iter().find(|(name, _)| name == device);
    found.map(|(_, value)| *value)
}

/// A later item for the same device replaces an earlier one.
fn put<V>(
    entries: &mut Vec<(DeviceName, V), MAX_DEVICES>,
    device: DeviceName,
    value: V,
) -> Result<(), Reason> {
    match entries.iter_mut().find(|(name, _)| *name == device) {
        Some((_, old)) => *old = value,
        None => entries.push((device, value)).map_err(|_| Reason::Devices)?,
    }
    Ok(())
}

/// A device's name, which must be there.
fn device(text: &str) -> Result<DeviceName, Reason> {
    match text {
        "" => Err(Reason::NoDevice),
        text => device_name(text),
    }
}

/// The device before the first colon, and what is behind it.
fn for_device(value: &str) -> Result<(DeviceName, &str), Reason> {
    let (name, rest) = value.split_once(':').ok_or(Reason::NoDevice)?;
    Ok((device(name)?, rest))
}

impl BootArgs {
    pub(super) fn read_dsa_tag(&mut self, value: &str) -> Result<(), Reason> {
        self.wiring.dsa_tag = Some(match value {
            "edsa" => Protocol::EtherTypeDsa,
            "dsa" => Protocol::Dsa,
            _ => {
                return Err(Reason::UnknownValue {
                    expected: "edsa or dsa",
                });
            }
        });
        Ok(())
    }

    pub(super) fn read_link(&mut self, value: &str) -> Result<(), Reason> {
        let (device, setting) = for_device(value)?;
        put(&mut self.wiring.links, device, link(setting)?)
    }

    pub(super) fn read_mac(&mut self, value: &str) -> Result<(), Reason> {
        let (device, address) = for_device(value)?;
        put(&mut self.wiring.macs, device, mac(address)?)
    }

    pub(super) fn read_coalesce(&mut self, value: &str) -> Result<(), Reason> {
        let wrong = Reason::UnknownValue { expected: COALESCE };
        let (packets, time) = value.split_once(',').ok_or(wrong)?;
        self.wiring.coalescing = Some(Coalescing {
            rx_packets: number(packets, 128).ok_or(wrong)? as u16,
            rx_time_us: number(time, 67_000).ok_or(wrong)?,
        });
        Ok(())
    }

    pub(super) fn read_bridge(&mut self, value: &str) -> Result<(), Reason> {
        let mut default = DeviceName::new();
        // Two letters and one digit always fit.
        let _ = write!(default, "br{}", self.wiring.bridges.len());
        let (name, list) = match value.split_once(':') {
            Some((name, list)) => (device(name)?, list),
            None => (default, value),
        };
        let bridges = &self.wiring.bridges;
        let mut members = Vec::new();
        for member in list.split(',') {
            let member = device(member)?;
            let taken = bridges
                .iter()
                .any(|bridge| bridge.members.contains(&member));
            if taken || members.contains(&member) {
                return Err(Reason::Twice);
            }
            members.push(member).map_err(|_| Reason::Members)?;
        }
        if members.len() < 2 {
            return Err(Reason::Members);
        }
        if bridges.iter().any(|bridge| bridge.name == name) || members.contains(&name) {
            return Err(Reason::Twice);
        }
        let bridge = BridgeArgs { name, members };
        let bridges = &mut self.wiring.bridges;
        bridges.push(bridge).map_err(|_| Reason::Bridges)
    }

    pub(super) fn read_vlan(&mut self, value: &str) -> Result<(), Reason> {
        let (parent, vid) = value.rsplit_once('.').ok_or(Reason::Vid)?;
        let parent = device(parent)?;
        let vid = number(vid, 4094).ok_or(Reason::Vid)? as u16;
        let mut name = parent.clone();
        write!(name, ".{vid}").map_err(|_| Reason::TooLong {
            max: name.capacity(),
        })?;
        let vlans = &mut self.wiring.vlans;
        if vlans.iter().any(|vlan| vlan.name == name) {
            return Err(Reason::Twice);
        }
        let vlan = VlanArgs { name, parent, vid };
        vlans.push(vlan).map_err(|_| Reason::Devices)
    }

    pub(super) fn read_watchdog(&mut self, value: &str) -> Result<(), Reason> {
        let seconds = number(value, 3600).ok_or(Reason::UnknownValue {
            expected: "1 to 3600 seconds",
        })?;
        self.watchdog_s = Some(seconds);
        Ok(())
    }

    /// Said rather than ignored: who asks for more has to know that it is not there.
    pub(super) fn read_mtu(&mut self, value: &str) -> Result<(), Reason> {
        match value {
            "1500" => Ok(()),
            _ => Err(Reason::UnknownValue {
                expected: "1500, there are no jumbo frames",
            }),
        }
    }
}

/// From 1 to `max`, in digits and nothing else.
fn number(text: &str, max: u32) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok()?;
    (digits && (1..=max).contains(&number)).then_some(number)
}

fn link(text: &str) -> Result<Setting, Reason> {
    let wrong = Reason::UnknownValue { expected: LINK };
    let mut words = text.split(',');
    if words.next() != Some("auto") {
        let (speed, full_duplex) = mode(text).ok_or(wrong)?;
        return Ok(Setting::Forced { speed, full_duplex });
    }
    let mut modes = Modes::NONE;
    for word in words {
        let (speed, full_duplex) = mode(word).ok_or(wrong)?;
        modes = modes.or(Modes::one(speed, full_duplex));
    }
    if modes == Modes::NONE {
        modes = Modes::ALL;
    }
    let pause = Pause { tx: true, rx: true };
    Ok(Setting::Negotiate { modes, pause })
}

/// 1000-half is missing: no switch does it.
fn mode(text: &str) -> Option<(Speed, bool)> {
    Some(match text {
        "1000-full" => (Speed::Mbps1000, true),
        "100-full" => (Speed::Mbps100, true),
        "100-half" => (Speed::Mbps100, false),
        "10-full" => (Speed::Mbps10, true),
        "10-half" => (Speed::Mbps10, false),
        _ => return None,
    })
}

fn mac(text: &str) -> Result<MacAddr, Reason> {
    let mut mac = MacAddr::default();
    let mut bytes = text.split(':');
    for byte in &mut mac {
        let text = bytes.next().unwrap_or_default();
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        *byte = u8::from_str_radix(text, 16)
            .ok()
            .filter(|_| digits)
            .ok_or(Reason::Mac)?;
    }
    if bytes.next().is_some() {
        return Err(Reason::Mac);
    }
    if mac[0] & 1 != 0 || mac == MacAddr::default() {
        return Err(Reason::MacNotUnicast);
    }
    Ok(mac)
}
