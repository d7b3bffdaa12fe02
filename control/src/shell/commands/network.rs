//! The network: interfaces, addresses, neighbours, routes, sockets.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Access, Call, Command, Outcome, at_most_one};
use crate::addressing::Origin;
use crate::shell::net::{Net, Port, Socket};
use crate::shell::report::{Column, Report, Row, Value};
use crate::shell::{Progress, Refusal};
use crate::status::{Duplex, Interface, Link, Status};
use hal::net::MacText;
use smoltcp::socket::tcp::State;
use smoltcp::wire::IpCidr;

/// The commands of this file.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "link",
        operands: "[INTERFACE]",
        summary: "Links: state, speed, duplex, hardware address",
        access: Access::Read,
        run: link,
    },
    Command {
        name: "ip",
        operands: "[INTERFACE]",
        summary: "Addresses, and how they were come by",
        access: Access::Read,
        run: ip,
    },
    Command {
        name: "neigh",
        operands: "[INTERFACE]",
        summary: "Neighbours that were heard, peers of the fast path",
        access: Access::Read,
        run: neigh,
    },
    Command {
        name: "route",
        operands: "[INTERFACE]",
        summary: "Routes, and how they were come by",
        access: Access::Read,
        run: route,
    },
    Command {
        name: "sockets",
        operands: "[SERVICE]",
        summary: "Sockets: both ends, state, bytes that wait, age",
        access: Access::Read,
        run: sockets,
    },
];

/// Hands the status over, and each of its interfaces that is meant.
#[inline(never)]
fn interfaces(
    call: &mut Call,
    wanted: Option<&str>,
    show: &mut dyn FnMut(&mut Report, &[&Interface]),
) -> Outcome {
    let report = &mut *call.report;
    let mut found = false;
    call.bench.with_status(&mut |status: &Status| {
        let meant: heapless::Vec<&Interface, 16> = status
            .interfaces
            .iter()
            .filter(|interface| wanted.is_none_or(|name| name == interface.name))
            .collect();
        found = wanted.is_none() || !meant.is_empty();
        show(report, &meant);
    });
    done(found)
}

fn link(call: &mut Call) -> Outcome {
    let wanted = at_most_one(call, "link")?;
    let columns = [
        Column("interface", 10),
        Column("link", 5),
        Column("mbps", 5),
        Column("duplex", 7),
        Column("mac", 18),
        Column("driver", 0),
    ];
    interfaces(call, wanted, &mut |report, interfaces| {
        report.table("links", &columns, &mut |row| {
            for interface in interfaces {
                let (up, speed, duplex) = match interface.link {
                    Link::Down => (false, None, None),
                    Link::Up {
                        speed_mbps, duplex, ..
                    } => (true, speed_mbps, duplex),
                };
                row(&[
                    Value::Text(interface.name),
                    Value::Text(if up { "up" } else { "down" }),
                    speed.map_or(Value::None, |speed| Value::Number(speed.into())),
                    duplex.map_or(Value::None, |duplex: Duplex| Value::Text(duplex.word())),
                    Value::Shown(&MacText(interface.mac)),
                    Value::Text(interface.driver),
                ]);
            }
        });
    })
}

fn ip(call: &mut Call) -> Outcome {
    let wanted = at_most_one(call, "ip")?;
    let columns = [
        Column("interface", 10),
        Column("address", 44),
        Column("origin", 0),
    ];
    interfaces(call, wanted, &mut |report, interfaces| {
        report.table("addresses", &columns, &mut |row| {
            for interface in interfaces {
                for address in interface.addresses {
                    row(&[
                        Value::Text(interface.name),
                        Value::Shown(&format_args!("{}/{}", address.ip, address.prefix_len)),
                        Value::Text(address.origin.word()),
                    ]);
                }
            }
        });
    })
}

/// A table with rows for each interface that is meant, which `show` writes: of the interface with this number.
fn table(
    call: &mut Call,
    name: (&'static str, &str),
    columns: &[Column],
    show: &mut dyn FnMut(&mut Row, &dyn Net, usize, &Port),
) -> Outcome {
    let wanted = at_most_one(call, name.0)?;
    let net = call.bench.net().ok_or(Refusal::Absent("network"))?;
    let mut found = wanted.is_none();
    call.report.table(name.1, columns, &mut |row| {
        for (index, port) in (0..).map_while(|index| Some((index, net.port(index)?))) {
            if wanted.is_none_or(|name| name == port.name) {
                found = true;
                show(row, net, index, &port);
            }
        }
    });
    done(found)
}

fn done(found: bool) -> Outcome {
    match found {
        true => Ok(Progress::Done),
        false => Err(Refusal::Absent("interface of that name; `link` lists them")),
    }
}

fn neigh(call: &mut Call) -> Outcome {
    let now_us = call.bench.now_us();
    let columns = [
        Column("interface", 10),
        Column("address", 40),
        Column("mac", 18),
        Column("age_s", 6),
        Column("source", 0),
    ];
    table(
        call,
        ("neigh", "neighbours"),
        &columns,
        &mut |row, net, index, port| {
            let mut known = |address: IpAddr, mac, age_us, source| {
                row(&[
                    Value::Text(port.name),
                    Value::Shown(&address),
                    Value::Shown(&MacText(mac)),
                    Value::Number(age_us / 1_000_000),
                    Value::Text(source),
                ]);
            };
            for heard in port.neighbours.each() {
                let source = if heard.address.is_ipv4() { "arp" } else { "nd" };
                let age_us = now_us.saturating_sub(heard.heard_us);
                known(heard.address, heard.mac, age_us, source);
            }
            net.flows(index, &mut |peer, mac, age_us| {
                known(peer.into(), mac, age_us, "flow")
            });
        },
    )
}

/// The first address of a network.
fn network(cidr: &IpCidr) -> IpAddr {
    let len = u32::from(cidr.prefix_len());
    match cidr.address().into() {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - len).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

fn route(call: &mut Call) -> Outcome {
    let columns = [
        Column("interface", 10),
        Column("network", 44),
        Column("via", 26),
        Column("origin", 0),
    ];
    table(
        call,
        ("route", "routes"),
        &columns,
        &mut |row, _, _, port| {
            let mut route = |network: IpAddr, len: u8, via: Option<IpAddr>, origin: Origin| {
                row(&[
                    Value::Text(port.name),
                    Value::Shown(&format_args!("{network}/{len}")),
                    via.as_ref().map_or(Value::None, |via| Value::Shown(via)),
                    Value::Text(origin.word()),
                ]);
            };
            for cidr in port.iface.ip_addrs() {
                let origin = port.addressing.origin(cidr);
                route(network(cidr), cidr.prefix_len(), None, origin);
            }
            let anywhere = [
                IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            ];
            for network in anywhere {
                if let Some(router) = port.router(&network) {
                    let origin = port.addressing.origin_of_router(&router);
                    route(network, 0, Some(router), origin);
                }
            }
        },
    )
}

/// An address and a port as a URL has them; `*` for any address.
struct End(Option<IpAddr>, u16);

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("*")?,
            Some(IpAddr::V4(address)) => write!(f, "{address}")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]")?,
        }
        write!(f, ":{}", self.1)
    }
}

/// As many as fit a result, at their longest.
const MAX_SOCKETS: u64 = 64;

fn sockets(call: &mut Call) -> Outcome {
    let wanted = at_most_one(call, "sockets")?;
    let now_us = call.bench.now_us();
    let net = call.bench.net().ok_or(Refusal::Absent("network"))?;
    let columns = [
        Column("protocol", 9),
        Column("interface", 10),
        Column("local", 24),
        Column("peer", 24),
        Column("state", 13),
        Column("rx_queue", 9),
        Column("tx_queue", 9),
        Column("age_s", 7),
        Column("service", 0),
    ];
    let mut count = 0;
    call.report.table("sockets", &columns, &mut |row| {
        each_socket(net, &mut |socket| {
            if wanted.is_some_and(|name| name != socket.service) {
                return;
            }
            count += 1;
            if count > MAX_SOCKETS {
                return;
            }
            let local = End(socket.local.0, socket.local.1);
            let peer = socket.peer.map(|(address, port)| End(Some(address), port));
            let number = |number: Option<u64>| number.map_or(Value::None, Value::Number);
            let queued = |side: usize| number(socket.queued.map(|queued| queued[side] as u64));
            let age_us = socket.opened_us.map(|at_us| now_us.saturating_sub(at_us));
            row(&[
                Value::Text(socket.protocol),
                socket.interface.map_or(Value::None, Value::Text),
                Value::Shown(&local),
                peer.as_ref().map_or(Value::None, |peer| Value::Shown(peer)),
                (socket.state.as_ref()).map_or(Value::None, |state| Value::Shown(state)),
                queued(0),
                queued(1),
                number(age_us.map(|age_us| age_us / 1_000_000)),
                Value::Text(socket.service),
            ]);
        });
    });
    if wanted.is_some() && count == 0 {
        return Err(Refusal::Absent(
            "socket of that service; `sockets` lists them",
        ));
    }
    if count > MAX_SOCKETS {
        call.report
            .field("left_out", Value::Number(count - MAX_SOCKETS));
    }
    Ok(Progress::Done)
}

/// What listens, what interfaces have of their own, and connections.
fn each_socket(net: &dyn Net, show: &mut dyn FnMut(&Socket)) {
    let ports = || (0..).map_while(|index| net.port(index));
    let mut socket = Socket::default();
    for &(protocol, port, service) in net.served() {
        if ports().any(|port| port.serves) {
            (socket.protocol, socket.local.1, socket.service) = (protocol, port, service);
            socket.state = (protocol == "tcp").then_some(State::Listen);
            show(&socket);
        }
    }
    (socket.protocol, socket.state) = ("udp", None);
    for port in ports() {
        let (dhcp, mdns) = port.addressing.sockets();
        let own = [
            (7, "echo", port.serves),
            (68, "dhcp", dhcp),
            (5353, "mdns", mdns),
        ];
        socket.interface = Some(port.name);
        for (number, service, _) in own.into_iter().filter(|own| own.2) {
            (socket.local.1, socket.service) = (number, service);
            socket.queued = (number == 7).then_some(port.echo);
            show(&socket);
        }
    }
    net.connections(show);
}
