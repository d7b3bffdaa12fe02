//! The board's hardware, for who brings it up: management bus, PHYs, switch, MAC, and any address.

use super::{Access, Call, Command, Outcome, at_most_one};
use crate::shell::hardware::{
    Hardware, PortName, errand, find_port, of, phy_loopback, with_switch,
};
use crate::shell::registers::{Bits, PHY, PHY_FIRST, PORT, Words, each};
use crate::shell::report::{Column, Report, Value};
use crate::shell::{Progress, Refusal};
use hal::net::mdio::{FLOATING, PhyAddr, RegAddr};
use hal::net::mv88e6xxx::errand::{Answer, MAX_STEPS, PAGE, Place, Request, Step};
use hal::net::mv88e6xxx::{PORTS, PortIndex, PortSet};
use hal::net::{Coalescing, MacText};

/// The commands of this file.
pub static COMMANDS: &[Command] = &[
    Command {
        name: "mdio",
        operands: "scan | read AT REGISTER [PAGE] | write AT REGISTER VALUE [PAGE]",
        summary: "The management bus; AT is an address, phy:PORT or switch:DEVICE",
        access: Access::Read,
        run: mdio,
    },
    Command {
        name: "phy",
        operands: "[PORT]",
        summary: "Registers of the PHYs in words; reading clears idle errors and page received",
        access: Access::Read,
        run: phy,
    },
    Command {
        name: "switch",
        operands: "ports | atu [FID] | vtu | mib | dump",
        summary: "The switch: ports in words, addresses, VLANs, counters, all registers",
        access: Access::Read,
        run: switch,
    },
    Command {
        name: "neta",
        operands: "regs | ring | mib",
        summary: "The MAC: registers that reading does not change, rings, counters",
        access: Access::Read,
        run: neta,
    },
    Command {
        name: "coalesce",
        operands: "[PACKETS MICROSECONDS]",
        summary: "When received frames interrupt: after so many, or so long",
        access: Access::Read,
        run: coalesce,
    },
    Command {
        name: "loopback",
        operands: "[mac on|off | phy PORT on|off]",
        summary: "Frames come back from the MAC, or from the PHY of a port",
        access: Access::Read,
        run: loopback,
    },
    Command {
        name: "peek",
        operands: "ADDRESS [COUNT]",
        summary: "Words of 32 bits at any address but of unused memory; takes unsafe=1",
        access: Access::Admin,
        run: peek,
    },
    Command {
        name: "poke",
        operands: "ADDRESS VALUE",
        summary: "Writes a word of 32 bits to a device; takes unsafe=1",
        access: Access::Change,
        run: poke,
    },
];

/// Most words of one `peek`.
const MAX_PEEK: u64 = 256;
/// Longest wait for the counters of all ports: each takes a round of the supervision.
const COUNTERS_LIMIT_US: u64 = 10_000_000;

/// A number, decimal or with 0x, up to `max`.
fn number(text: &str, max: u64) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let mut value = (!digits.is_empty()).then_some(0u64)?;
    for digit in digits.chars() {
        let digit = digit.to_digit(radix)?;
        value = value.checked_mul(radix.into())?.checked_add(digit.into())?;
    }
    (value <= max).then_some(value)
}

/// A port with a PHY inside.
fn phy_port(hardware: &dyn Hardware, name: &str) -> Result<PortIndex, Refusal> {
    find_port(hardware, name)
        .filter(|port| (1..=4).contains(&port.get()))
        .ok_or(Refusal::Absent("PHY at a port of that name"))
}

fn place(hardware: &dyn Hardware, text: &str) -> Result<Place, Refusal> {
    if let Some(port) = text.strip_prefix("phy:") {
        return phy_port(hardware, port).map(Place::Phy);
    }
    let (switch, addr) = match text.strip_prefix("switch:") {
        Some(addr) => (true, addr),
        None => (false, text),
    };
    let addr = PhyAddr(number(addr, 31).ok_or(Refusal::Usage("mdio"))? as u8);
    Ok(match switch {
        true => Place::Switch(addr),
        false => Place::Wire(addr),
    })
}

fn mdio(call: &mut Call) -> Outcome {
    let usage = Refusal::Usage("mdio");
    // Behind the name: register, value, page; the last may be left out.
    let (write, name, words, limits): (_, _, _, &[u64]) = match call.words {
        ["scan"] => return scan(call),
        ["read", name, words @ ..] => (false, *name, words, &[31, 255]),
        ["write", name, words @ ..] => (true, *name, words, &[31, 0xffff, 255]),
        _ => return Err(usage),
    };
    if words.len() > limits.len() || words.len() + 1 < limits.len() {
        return Err(usage);
    }
    let mut numbers = [0; 3];
    for ((value, word), limit) in numbers.iter_mut().zip(words).zip(limits) {
        *value = number(word, *limit).ok_or(usage)? as u16;
    }
    if !write {
        numbers = [numbers[0], 0, numbers[1]];
    }
    let [reg, value, page] = numbers;
    let reg = RegAddr(reg as u8);
    if write {
        call.needs(Access::Change)?;
    }
    let place = place(of(call)?, name)?;
    // The switch's own registers have none, and the register that selects it is on all.
    if page != 0 && (reg == PAGE || matches!(place, Place::Switch(_))) {
        return Err(usage);
    }
    let mut steps = |add: &mut dyn FnMut(Step)| {
        if page != 0 {
            add(Step::Write(place, PAGE, page));
        }
        match write {
            true => add(Step::Write(place, reg, value)),
            false => add(Step::Read(place, reg)),
        }
        if page != 0 {
            add(Step::Write(place, PAGE, 0));
        }
    };
    run(call, Request::Steps(&mut steps), &mut |answer, report| {
        let read = answer.values.get(usize::from(page != 0)).copied();
        let value = if write {
            value
        } else {
            read.unwrap_or(FLOATING)
        };
        report.field("value", Value::Hex(value.into(), 4));
        if value == FLOATING && !write {
            let note = "all ones is also what nobody answers";
            report.field("note", Value::Text(note));
        }
    })
}

fn scan(call: &mut Call) -> Outcome {
    // Register 0 and the identifiers; a switch that is reached by two registers has no others.
    let mut steps = |add: &mut dyn FnMut(Step)| {
        for addr in 0..32 {
            for reg in [0, 2, 3] {
                add(Step::Read(Place::Wire(PhyAddr(addr)), RegAddr(reg)));
            }
        }
    };
    let columns = [
        Column("address", 8),
        Column("register_0", 11),
        Column("identifier", 0),
    ];
    run(call, Request::Steps(&mut steps), &mut |answer, report| {
        report.table("devices", &columns, &mut |row| {
            for (addr, values) in (0..).zip(answer.values.as_chunks().0) {
                let [control, id_1, id_2] = *values;
                if *values != [FLOATING; 3] {
                    row(&[
                        Value::Hex(addr, 2),
                        Value::Hex(control.into(), 4),
                        Value::Hex(u64::from(id_1) << 16 | u64::from(id_2), 8),
                    ]);
                }
            }
        });
    })
}

fn phy(call: &mut Call) -> Outcome {
    let port = match at_most_one(call, "phy")? {
        Some(name) => Some(phy_port(of(call)?, name)?),
        None => None,
    };
    match port {
        Some(port) => in_words(call, PortSet::of(port), PHY, usize::MAX, Place::Phy),
        None => in_words(
            call,
            PortSet::from_bits(0b1_1110),
            PHY,
            PHY_FIRST,
            Place::Phy,
        ),
    }
}

fn port_device(port: PortIndex) -> Place {
    Place::Switch(PhyAddr(0x10 + port.get()))
}

/// Shows the first registers of a table for each of the ports.
fn in_words(
    call: &mut Call,
    ports: PortSet,
    table: &str,
    count: usize,
    place: fn(PortIndex) -> Place,
) -> Outcome {
    let mut steps = |add: &mut dyn FnMut(Step)| {
        for port in ports.iter() {
            let place = place(port);
            each(table, count, &mut |register| {
                let (mut number, mmd) = register.place();
                if mmd != 0 {
                    // The window of IEEE 802.3 annex 22D: device, address; device as data, data.
                    let mut write = |reg, value| add(Step::Write(place, RegAddr(reg), value));
                    write(13, mmd.into());
                    write(14, number.into());
                    write(13, 0x4000 | u16::from(mmd));
                    number = 14;
                }
                add(Step::Read(place, RegAddr(number)));
            });
        }
    };
    let mut values = heapless::Vec::<u16, MAX_STEPS>::new();
    let request = Request::Steps(&mut steps);
    if let Some(at_us) = errand(call, request, &mut |answer, _| {
        values = answer.values.clone()
    })? {
        return Ok(Progress::Wait(at_us));
    }
    let columns = [
        Column("port", 7),
        Column("register", 9),
        Column("name", 20),
        Column("value", 7),
        Column("meaning", 0),
    ];
    let absent = Refusal::Absent("management bus");
    let hardware = call.bench.hardware().ok_or(absent)?;
    call.report.table("registers", &columns, &mut |row| {
        let mut at = 0;
        for port in ports.iter() {
            each(table, count, &mut |register| {
                at += if register.place().1 != 0 { 4 } else { 1 };
                let value = values.get(at - 1).copied().unwrap_or(FLOATING);
                row(&[
                    Value::Shown(&PortName(hardware, port)),
                    Value::Text(register.number),
                    Value::Text(register.name),
                    Value::Hex(value.into(), 4),
                    Value::Shown(&Words(register, value)),
                ]);
            });
        }
    });
    Ok(Progress::Done)
}

/// Runs an errand that is all of a command.
fn run(call: &mut Call, request: Request, show: &mut dyn FnMut(&Answer, &mut Report)) -> Outcome {
    let wait = errand(call, request, show)?;
    Ok(wait.map_or(Progress::Done, Progress::Wait))
}

fn switch(call: &mut Call) -> Outcome {
    match *call.words {
        ["ports"] => in_words(call, PortSet::ALL, PORT, usize::MAX, port_device),
        ["atu"] => addresses(call, 0, 2),
        ["atu", fid] => {
            let fid = number(fid, 255).ok_or(Refusal::Usage("switch"))? as u16;
            addresses(call, fid, fid)
        }
        ["vtu"] => vlans(call),
        ["mib"] => counters(call),
        ["dump"] => dump(call),
        _ => Err(Refusal::Usage("switch")),
    }
}

fn addresses(call: &mut Call, from: u16, to: u16) -> Outcome {
    let columns = [
        Column("fid", 4),
        Column("mac", 18),
        Column("ports", 12),
        Column("state", 6),
        Column("kind", 0),
    ];
    run(call, Request::Addresses(from, to), &mut |answer, report| {
        report.table("addresses", &columns, &mut |row| {
            for entry in &answer.addresses {
                let kind = match (entry.trunk, entry.mac[0] & 1, entry.state) {
                    (true, ..) => "trunk",
                    (_, 0, 1..=7) => "learnt",
                    _ => "static",
                };
                row(&[
                    Value::Number(entry.fid.into()),
                    Value::Shown(&MacText(entry.mac)),
                    Value::Shown(&Bits(entry.ports.bits())),
                    Value::Number(entry.state.into()),
                    Value::Text(kind),
                ]);
            }
        });
        report.field("more", Value::Flag(answer.more));
    })
}

fn vlans(call: &mut Call) -> Outcome {
    let columns = [Column("vid", 5), Column("fid", 5), Column("members", 0)];
    run(call, Request::Vlans, &mut |answer, report| {
        report.table("vlans", &columns, &mut |row| {
            for entry in &answer.vlans {
                row(&[
                    Value::Number(entry.vid.into()),
                    Value::Number(entry.fid.into()),
                    Value::Shown(&Bits(entry.members.bits())),
                ]);
            }
        });
        report.field("more", Value::Flag(answer.more));
    })
}

/// A register or a counter, and its value at each device of the switch.
const DEVICE_COLUMNS: [Column; 9] = [
    Column("name", 20),
    Column("port0", 7),
    Column("port1", 7),
    Column("port2", 7),
    Column("port3", 7),
    Column("port4", 7),
    Column("port5", 7),
    Column("global1", 8),
    Column("global2", 0),
];
/// Numbers of these devices, and a bit for each register that is known, and that reading does not change: not those of
/// interrupts, which the supervision looks for, nor of the watchdog and of PTP, whose data a read takes.
const DEVICES: [(u8, u32); 8] = {
    const PORT: u32 = 0x034f_ffff;
    [
        (0x10, PORT),
        (0x11, PORT),
        (0x12, PORT),
        (0x13, PORT),
        (0x14, PORT),
        (0x15, PORT),
        (0x1b, 0xf7ff_fffc),
        (0x1c, 0x3770_fffe),
    ]
};

fn counters(call: &mut Call) -> Outcome {
    let (now_us, since_us) = (call.bench.now_us(), call.memory.since_us);
    let first = call.memory.round == 0;
    let hardware = with_switch(call)?;
    let mut used = PortSet::EMPTY;
    let mut fresh = true;
    for port in PortIndex::all() {
        if hardware.port_name(port).is_none() {
            continue;
        }
        used = used.with(port);
        if first {
            hardware.want_port_totals(port);
        }
        fresh &= hardware.port_totals_at_us(port) >= Some(since_us);
    }
    if !fresh {
        return match now_us.saturating_sub(since_us) {
            COUNTERS_LIMIT_US.. => Err(Refusal::Failed("the switch does not give its counters")),
            _ => Ok(Progress::Wait(now_us + 50_000)),
        };
    }
    let absent = Refusal::Absent("switch");
    let hardware = call.bench.hardware().ok_or(absent)?;
    let columns = &DEVICE_COLUMNS[..=PORTS];
    call.report.table("counters", columns, &mut |row| {
        let mut values = [Value::None; 1 + PORTS];
        let mut index = 0;
        while let Some((name, _)) = hardware.port_total(PortIndex::ZERO, index) {
            values[0] = Value::Text(name);
            for port in used.iter() {
                let total = hardware.port_total(port, index);
                values[1 + usize::from(port.get())] =
                    total.map_or(Value::None, |total| Value::Number(total.1));
            }
            row(&values);
            index += 1;
        }
    });
    Ok(Progress::Done)
}

fn dump(call: &mut Call) -> Outcome {
    let mut steps = |add: &mut dyn FnMut(Step)| {
        for reg in 0..32 {
            for (device, known) in DEVICES {
                if known >> reg & 1 == 1 {
                    add(Step::Read(Place::Switch(PhyAddr(device)), RegAddr(reg)));
                }
            }
        }
    };
    run(call, Request::Steps(&mut steps), &mut |answer, report| {
        report.table("registers", &DEVICE_COLUMNS, &mut |row| {
            let mut values = answer.values.iter();
            for reg in 0..32 {
                let mut cells = [Value::Hex(reg, 2); 1 + DEVICES.len()];
                for (cell, (_, known)) in cells[1..].iter_mut().zip(DEVICES) {
                    let next = match known >> reg & 1 {
                        0 => None,
                        _ => values.next(),
                    };
                    *cell = next.map_or(Value::None, |value| Value::Hex((*value).into(), 4));
                }
                row(&cells);
            }
        });
    })
}

fn neta(call: &mut Call) -> Outcome {
    let [what] = *call.words else {
        return Err(Refusal::Usage("neta"));
    };
    let absent = Refusal::Absent("NETA");
    let hardware = call.bench.hardware().ok_or(absent)?;
    let report = &mut *call.report;
    match what {
        "regs" => {
            let columns = [
                Column("register", 20),
                Column("offset", 7),
                Column("value", 0),
            ];
            report.table("registers", &columns, &mut |row| {
                hardware.mac_registers(&mut |name, offset, value| {
                    row(&[
                        Value::Text(name),
                        Value::Hex(offset.into(), 4),
                        Value::Hex(value.into(), 8),
                    ]);
                });
            });
            let clears = "counters, which reading clears; updates, which cannot be read";
            report.field("not_read", Value::Text(clears));
        }
        "ring" => {
            let columns = [
                Column("ring", 5),
                Column("size", 5),
                Column("owned_by_mac", 13),
                Column("oldest", 7),
                Column("current", 8),
                Column("status_low", 11),
                Column("status_high", 0),
            ];
            let rings = hardware.mac_rings();
            report.table("rings", &columns, &mut |row| {
                for ring in &rings {
                    let (low, high) = (ring.status & 0x3fff, ring.status >> 16 & 0x3fff);
                    let places = [ring.size, ring.in_flight, ring.oldest];
                    let [size, mac, oldest] = places.map(|places| Value::Number(places as u64));
                    let [current, low, high] =
                        [ring.current, low, high].map(|count| Value::Number(count.into()));
                    let direction = Value::Text(ring.direction);
                    row(&[direction, size, mac, oldest, current, low, high]);
                }
            });
            report.field("status", Value::Text("rx occupied, free; tx pending, sent"));
        }
        "mib" => {
            let columns = [Column("counter", 28), Column("value", 0)];
            report.table("counters", &columns, &mut |row| {
                for (name, _, value) in (0..).map_while(|index| hardware.mac_count(index)) {
                    row(&[Value::Text(name), Value::Number(value)]);
                }
            });
        }
        _ => return Err(Refusal::Usage("neta")),
    }
    Ok(Progress::Done)
}

fn coalesce(call: &mut Call) -> Outcome {
    match *call.words {
        [] => {}
        [packets, time] => {
            call.needs(Access::Change)?;
            // As the boot argument.
            let packets = number(packets, 128).filter(|packets| *packets > 0);
            let time = number(time, 67_000).filter(|time| *time > 0);
            let (Some(packets), Some(time)) = (packets, time) else {
                return Err(Refusal::Failed("1 to 128 packets, 1 to 67000 microseconds"));
            };
            of(call)?.set_coalescing(Coalescing {
                rx_packets: packets as u16,
                rx_time_us: time as u32,
            });
        }
        _ => return Err(Refusal::Usage("coalesce")),
    }
    let now = of(call)?.coalescing();
    call.report
        .field("packets", Value::Number(now.rx_packets.into()));
    call.report
        .field("time_us", Value::Number(now.rx_time_us.into()));
    Ok(Progress::Done)
}

fn loopback(call: &mut Call) -> Outcome {
    let words = call.words;
    if let [what @ .., to] = words {
        call.needs(Access::Change)?;
        let on = *to == "on";
        if !on && *to != "off" {
            return Err(Refusal::Usage("loopback"));
        }
        match *what {
            ["mac"] => of(call)?.set_mac_loopback(on),
            ["phy", name] => {
                let hardware = with_switch(call)?;
                let port = phy_port(hardware, name)?;
                if hardware.port_name(port).is_none() {
                    return Err(Refusal::Absent("socket at that port"));
                }
                let mut steps = |add: &mut dyn FnMut(Step)| match on {
                    true => phy_loopback(port).into_iter().for_each(add),
                    false => add(Step::Release(port)),
                };
                if let Some(at_us) = errand(call, Request::Steps(&mut steps), &mut |_, _| ())? {
                    return Ok(Progress::Wait(at_us));
                }
            }
            _ => return Err(Refusal::Usage("loopback")),
        }
        log::warn!("loopback {}: {to}", what[what.len() - 1]);
    }
    let hardware = of(call)?;
    let (mac, held) = (hardware.mac_loopback(), hardware.held());
    call.report.field("mac", Value::Flag(mac));
    let held = Bits(held.bits());
    call.report.field("held_phys", Value::Shown(&held));
    Ok(Progress::Done)
}

fn peek(call: &mut Call) -> Outcome {
    let usage = Refusal::Usage("peek");
    let (address, count) = match *call.words {
        [address] => (address, "1"),
        [address, count] => (address, count),
        _ => return Err(usage),
    };
    let address = number(address, u64::MAX).ok_or(usage)?;
    let count = number(count, MAX_PEEK)
        .filter(|count| *count > 0)
        .ok_or(usage)?;
    let columns = [Column("address", 19), Column("value", 0)];
    let (bench, mut result) = (&mut *call.bench, Ok(()));
    call.report.table("words", &columns, &mut |row| {
        for index in 0..count {
            let at = address.wrapping_add(4 * index);
            match bench.access(at, None) {
                Ok(value) => row(&[Value::Hex(at, 8), Value::Hex(value.into(), 8)]),
                Err(refusal) => {
                    result = Err(refusal);
                    return;
                }
            }
        }
    });
    result.map(|()| Progress::Done)
}

fn poke(call: &mut Call) -> Outcome {
    let usage = Refusal::Usage("poke");
    let [address, value] = *call.words else {
        return Err(usage);
    };
    let address = number(address, u64::MAX).ok_or(usage)?;
    let value = number(value, u32::MAX.into()).ok_or(usage)?;
    call.bench.access(address, Some(value as u32))?;
    call.report.field("address", Value::Hex(address, 8));
    call.report.field("value", Value::Hex(value, 8));
    Ok(Progress::Done)
}

#[cfg(test)]
mod tests;
