//! What is to be: the ports, names, addresses and bridges that devicetree and command line ask for.

use core::fmt::Write;

use hal::devicetree::Node;
use hal::net::MacAddr;
use hal::net::mv88e6xxx::{self, Bridge, PORTS, PortIndex, PortSet};
use log::warn;

use super::{Armada, left_out};
use crate::bootargs::Wiring;
use crate::network::Name;

/// The switch as the tree has it.
pub(super) struct Plan<'t> {
    pub(super) node: Node<'t>,
    pub(super) config: mv88e6xxx::Config,
    pub(super) names: [Name; PORTS],
    pub(super) interfaces: Interfaces,
}

/// An interface to be.
pub(super) struct Interface {
    pub(super) name: Name,
    /// One port, or those of a bridge.
    pub(super) ports: PortSet,
    pub(super) mac: MacAddr,
}

impl Interface {
    pub(super) fn first_port(&self) -> PortIndex {
        self.ports.iter().next().unwrap_or(PortIndex::ZERO)
    }

    pub(super) fn is_bridge(&self) -> bool {
        self.ports.iter().count() > 1
    }
}

pub(super) type Interfaces = heapless::Vec<Interface, PORTS>;

/// What tree and command line want of a switch. Ports that make no sense are named and left out.
pub(super) fn read<'t>(
    node: Node<'t>,
    conduit: &Node,
    mac: MacAddr,
    wiring: &Wiring,
) -> Option<Plan<'t>> {
    let ports = ["ports", "ethernet-ports"]
        .into_iter()
        .find_map(|name| node.child(name));
    let Some(ports) = ports else {
        left_out(&node, "it has no ports");
        return None;
    };
    let mut cpu = None;
    let mut users = [None; PORTS];
    let mut names: [Name; PORTS] = Default::default();
    let mut addresses = [None; PORTS];
    for port in ports.children().filter(Node::is_enabled) {
        let index = port.bus_reg(0).ok().and_then(|reg| u8::try_from(reg).ok());
        let Some(index) = index.and_then(PortIndex::new) else {
            left_out(&port, "reg is no port of the switch");
            continue;
        };
        if port.has("ethernet") {
            match port.target("ethernet") {
                Ok(target) if target == *conduit => cpu = Some(index),
                Ok(_) => left_out(&port, "ethernet is another MAC"),
                Err(error) => left_out(&port, error),
            }
            continue;
        }
        if port.has("link") {
            left_out(&port, "links to other switches are not supported");
            continue;
        }
        // Ports with a PHY inside, which the tree may name, but no other.
        let own = 0x10 + u64::from(index.get());
        let phy = port
            .target("phy-handle")
            .ok()
            .and_then(|phy| phy.bus_reg(0).ok());
        if !(1..=4).contains(&index.get()) || phy.is_some_and(|phy| phy != own) {
            let name = port.str("label").unwrap_or("a port");
            left_out(
                &port,
                format_args!(
                    "{name} is not behind one of the switch's own PHYs: {} is not supported yet",
                    port.str("phy-mode").unwrap_or("that")
                ),
            );
            continue;
        }
        let name = &mut names[usize::from(index.get())];
        if port
            .str("label")
            .ok()
            .and_then(|label| name.push_str(label).ok())
            .is_none()
        {
            // A word and one digit always fit.
            let _ = write!(name, "port{}", index.get());
        }
        users[usize::from(index.get())] = Some(wiring.link(name));
        addresses[usize::from(index.get())] = port.mac_address();
    }
    let Some(cpu) = cpu else {
        left_out(&node, "none of its ports leads to the MAC");
        return None;
    };
    let device = match node.property("dsa,member") {
        Some([_, _, _, _, 0, 0, 0, device]) if *device < 32 => *device,
        _ => 0,
    };
    let mut config = mv88e6xxx::Config {
        cpu,
        protocol: wiring.dsa_tag.unwrap_or_default(),
        device,
        users,
        bridges: [None; 2],
        mac,
    };
    let ports = config.user_ports();
    let bridges = bridges(wiring, ports, &names);
    let mut interfaces = Interfaces::new();
    for port in ports.iter() {
        let bridge = bridges.iter().find(|(_, members)| members.has(port));
        let (name, ports) = match bridge {
            Some((name, members)) => (name.clone(), *members),
            None => (names[usize::from(port.get())].clone(), PortSet::of(port)),
        };
        if ports.iter().next() == Some(port) {
            let mac = address(wiring, &name, ports, &addresses, mac);
            // There is room for every port.
            let _ = interfaces.push(Interface { name, ports, mac });
        }
    }
    let bridged = interfaces.iter().filter(|interface| interface.is_bridge());
    for (slot, Interface { ports, mac, .. }) in config.bridges.iter_mut().zip(bridged) {
        let (members, mac) = (*ports, *mac);
        *slot = Some(Bridge { members, mac });
    }
    Some(Plan {
        node,
        names,
        interfaces,
        config,
    })
}

/// The bridges that can be made of the `users` among the ports. What is missing is named.
fn bridges(
    wiring: &Wiring,
    users: PortSet,
    names: &[Name; PORTS],
) -> heapless::Vec<(Name, PortSet), 2> {
    let find = |name: &str| {
        users
            .iter()
            .find(|port| names[usize::from(port.get())] == name)
    };
    let mut made = heapless::Vec::new();
    for bridge in &wiring.bridges {
        let mut members = PortSet::EMPTY;
        for member in &bridge.members {
            match find(member) {
                Some(port) => members = members.with(port),
                None => warn!("bootargs: bridge= names {member}, which is no port of the switch"),
            }
        }
        let name = &bridge.name;
        if members.iter().count() < 2 {
            warn!("bootargs: bridge {name} is not made: it has less than two ports");
        } else if find(name).is_some() {
            warn!("bootargs: bridge {name} is not made: a port has that name");
        } else {
            // There is room for as many as can be asked for.
            let _ = made.push((name.clone(), members));
        }
    }
    made
}

/// The address of an interface: by the command line, by the tree, or derived from the MAC's `own`, of which the unicast
/// filter lets in the sixteen that differ in the lowest nibble.
pub(super) fn address(
    wiring: &Wiring,
    name: &str,
    ports: PortSet,
    by_tree: &[Option<MacAddr>; PORTS],
    own: MacAddr,
) -> MacAddr {
    let in_tree = ports
        .iter()
        .find_map(|port| by_tree[usize::from(port.get())]);
    wiring.mac(name).or(in_tree).unwrap_or_else(|| {
        // Ports with a PHY begin at 1, and the first gets the MAC's own.
        let nth = (ports.bits().trailing_zeros() as u8).saturating_sub(1);
        let [a, b, c, d, e, f] = own;
        [a, b, c, d, e, f & 0xf0 | f.wrapping_add(nth) & 0x0f]
    })
}

/// Names what the command line says about ports and interfaces that are not there.
pub(super) fn name_unknown(wiring: &Wiring, armada: Option<&Armada>) {
    let supervisor = armada.and_then(|armada| armada.watch.supervisor.as_ref());
    for (name, _) in &wiring.links {
        if !supervisor.is_some_and(|supervisor| supervisor.names.contains(name)) {
            warn!("bootargs: link= names {name}, which is no port of a switch");
        }
    }
    for (name, _) in &wiring.macs {
        if !armada.is_some_and(|armada| armada.sockets.iter().any(|(own, ..)| own == name)) {
            warn!("bootargs: mac= names {name}, which is no interface whose address can be set");
        }
    }
    if supervisor.is_none() {
        for bridge in &wiring.bridges {
            warn!(
                "bootargs: bridge {} is not made: there is no switch",
                bridge.name
            );
        }
        if wiring.dsa_tag.is_some() {
            warn!("bootargs: dsa-tag= is ignored: there is no switch");
        }
    }
    if wiring.coalescing.is_some() && armada.is_none() {
        warn!("bootargs: coalesce= is ignored: no network card can be told");
    }
}
