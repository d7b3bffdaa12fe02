//! The network: interfaces, addresses, neighbours, routes, sockets.

use core::fmt;
use core::net::IpAddr;

use super::{Access, Call, Command, Outcome, at_most_one};
use crate::shell::report::{Column, Report, Value};
use crate::shell::{Progress, Refusal};
use crate::status::{Duplex, Interface, Link, Status};
use hal::net::MacText;

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
    match found {
        true => Ok(Progress::Done),
        false => Err(Refusal::Absent("interface of that name; `link` lists them")),
    }
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
                    Link::Up { speed_mbps, duplex } => (true, speed_mbps, duplex),
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

fn neigh(call: &mut Call) -> Outcome {
    let wanted = at_most_one(call, "neigh")?;
    interfaces(call, wanted, &mut |_, _| ())?;
    let net = call.bench.net().ok_or(Refusal::Absent("network"))?;
    let columns = [
        Column("interface", 10),
        Column("address", 40),
        Column("mac", 18),
        Column("age_s", 6),
        Column("source", 0),
    ];
    call.report.table("neighbours", &columns, &mut |row| {
        net.neighbours(&mut |interface, known| {
            if wanted.is_none_or(|name| name == interface) {
                row(&[
                    Value::Text(interface),
                    Value::Shown(&known.address),
                    Value::Shown(&MacText(known.mac)),
                    Value::Number(known.age_us / 1_000_000),
                    Value::Text(known.source),
                ]);
            }
        });
    });
    Ok(Progress::Done)
}

fn route(call: &mut Call) -> Outcome {
    let wanted = at_most_one(call, "route")?;
    interfaces(call, wanted, &mut |_, _| ())?;
    let net = call.bench.net().ok_or(Refusal::Absent("network"))?;
    let columns = [
        Column("interface", 10),
        Column("network", 44),
        Column("via", 26),
        Column("origin", 0),
    ];
    call.report.table("routes", &columns, &mut |row| {
        net.routes(&mut |interface, route| {
            if wanted.is_none_or(|name| name == interface) {
                let (address, len) = route.network;
                row(&[
                    Value::Text(interface),
                    Value::Shown(&format_args!("{address}/{len}")),
                    (route.via.as_ref()).map_or(Value::None, |via| Value::Shown(via)),
                    Value::Text(route.origin.word()),
                ]);
            }
        });
    });
    Ok(Progress::Done)
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
    let (mut shown, mut left_out) = (0, 0);
    call.report.table("sockets", &columns, &mut |row| {
        net.sockets(&mut |socket| {
            if wanted.is_some_and(|name| name != socket.service) {
                return;
            }
            if shown == MAX_SOCKETS {
                left_out += 1;
                return;
            }
            shown += 1;
            let local = End(socket.local.0, socket.local.1);
            let peer = socket.peer.map(|(address, port)| End(Some(address), port));
            let queued = |side: usize| {
                let queued = socket.queued.map(|queued| queued[side] as u64);
                queued.map_or(Value::None, Value::Number)
            };
            row(&[
                Value::Text(socket.protocol),
                socket.interface.map_or(Value::None, Value::Text),
                Value::Shown(&local),
                peer.as_ref().map_or(Value::None, |peer| Value::Shown(peer)),
                (socket.state.as_ref()).map_or(Value::None, |state| Value::Shown(state)),
                queued(0),
                queued(1),
                (socket.age_us).map_or(Value::None, |age_us| Value::Number(age_us / 1_000_000)),
                Value::Text(socket.service),
            ]);
        });
    });
    if wanted.is_some() && shown == 0 {
        return Err(Refusal::Absent(
            "socket of that service; `sockets` lists them",
        ));
    }
    if left_out > 0 {
        call.report.field("left_out", Value::Number(left_out));
    }
    Ok(Progress::Done)
}
