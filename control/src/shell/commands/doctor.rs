//! What is wrong, in words: gathers the facts of two looks, a second apart, for [`crate::shell::doctor`].

use core::cell::Cell;
use core::net::{IpAddr, Ipv4Addr};

use super::{Access, Call, Command, Outcome, at_most_one};
use crate::addressing::Origin;
use crate::shell::doctor::{
    Finding, PHY_REGISTERS, Phy, Plan, Port as Patient, Rule, Severity, Tell,
};
use crate::shell::hardware::{Hardware, Reply};
use crate::shell::net::Port;
use crate::shell::report::{Column, Row, Value};
use crate::shell::{Bench, Progress, Refusal, SYMPTOMS};
use crate::status::{Counter, Discards, Interface, Link, MAX_INTERFACES, Table, each};
use hal::net::drops::Reason;
use hal::net::mdio::{FLOATING, PhyAddr, RegAddr};
use hal::net::mv88e6xxx::errand::{Answer, Place, Request, Step};
use hal::net::mv88e6xxx::{PORTS, PortIndex};

/// The commands of this file.
pub static COMMANDS: &[Command] = &[Command {
    name: "doctor",
    operands: "[PORT]",
    summary: "What is wrong, and why it seems so",
    access: Access::Read,
    run: doctor,
}];

/// Between asking for counters and the first look, and between that and the second one: the switch's are read within a
/// second.
const LOOK_US: u64 = 1_200_000;

/// Bit of the memory's state: the first look is over. Above are the 32 bits of a ticket.
const REMEMBERED: u64 = 1;

/// A look at the counters that tell of trouble, in an order that is always the same.
struct Look<'m> {
    /// Their values at the first look. What has no place here is judged as if it did not move.
    memory: &'m mut heapless::Vec<u64, SYMPTOMS>,
    place: usize,
}

impl Look<'_> {
    /// The first look at a table.
    fn remember(&mut self, table: &dyn Table) {
        for counter in each(table).filter(|counter| Rule::of(counter.name).is_some()) {
            let _ = self.memory.push(counter.value);
        }
    }

    /// The second one.
    fn judge(&mut self, table: &dyn Table, tell: &mut Tell) {
        for counter in each(table) {
            if let Some(rule) = Rule::of(counter.name) {
                let before = self.memory.get(self.place).copied();
                self.place += 1;
                let finding = rule.judge(counter.name, counter.value, before);
                finding.iter().for_each(&mut *tell);
            }
        }
    }
}

/// Received frames that nobody got, by reason, as counters.
struct Reasons<'a>(&'a dyn Discards);

impl Table for Reasons<'_> {
    fn get(&self, index: usize) -> Option<Counter<'_>> {
        let reason = *Reason::ALL.get(index)?;
        Some(Counter {
            name: reason.name(),
            help: "",
            value: self.0.count(reason),
        })
    }
}

/// What is shown of it all.
struct Sheet<'s, 'r> {
    look: Look<'s>,
    row: &'s mut Row<'r>,
    wanted: Option<&'s str>,
    found: bool,
    worst: Severity,
}

impl Sheet<'_, '_> {
    /// All findings about a port; if there is none, that all is well.
    #[inline(never)]
    fn about(&mut self, name: &str, judge: &dyn Fn(&mut Look, &mut Tell)) {
        let meant = self.wanted.is_none_or(|wanted| wanted == name);
        self.found |= meant;
        let told = Cell::new(false);
        let (worst, row) = (&mut self.worst, &mut *self.row);
        let mut tell = |finding: &Finding| {
            told.set(true);
            if meant {
                *worst = finding.severity.max(*worst);
                row(&[
                    Value::Text(name),
                    Value::Text(finding.severity.word()),
                    Value::Shown(finding),
                ]);
            }
        };
        judge(&mut self.look, &mut tell);
        if !told.get() {
            tell(&Finding::NONE);
        }
    }
}

/// Time between two looks at idle errors, which reading takes back.
const IDLE_US: u32 = 50_000;
/// Between two looks whether the registers are there, and how long that may take.
const POLL_US: u64 = 2_000;
const PHYS_LIMIT_US: u64 = 3_000_000;
/// What is read of each port, the state of the switch's port last.
const READS: usize = PHY_REGISTERS.len() + 1;
/// Register 10 has the idle errors, register 4 of a switch's port its state.
const IDLE: RegAddr = RegAddr(10);
const STATE: RegAddr = RegAddr(4);
const FIRST_PORT: u8 = 0x10;

/// A port of the switch.
struct Wire {
    name: heapless::String<15>,
    port: PortIndex,
    phy: Option<Phy>,
    state: Option<u16>,
    held: bool,
}

type Wires = heapless::Vec<Wire, PORTS>;

/// The ports of the switch that cables can be in, without their registers.
fn ports(hardware: &dyn Hardware) -> Wires {
    let held = hardware.held();
    let wire = |port: PortIndex| {
        let name = hardware.port_name(port).filter(|name| *name != "cpu")?;
        Some(Wire {
            name: name.try_into().ok()?,
            port,
            phy: None,
            state: None,
            held: held.has(port),
        })
    };
    PortIndex::all().filter_map(wire).collect()
}

fn steps(wires: &Wires, step: &mut dyn FnMut(Step)) {
    for wire in wires {
        step(Step::Read(Place::Phy(wire.port), IDLE));
    }
    step(Step::Sleep { us: IDLE_US });
    for wire in wires {
        for register in PHY_REGISTERS {
            step(Step::Read(Place::Phy(wire.port), RegAddr(register)));
        }
        let device = PhyAddr(FIRST_PORT + wire.port.get());
        step(Step::Read(Place::Switch(device), STATE));
    }
}

/// Registers in the order of the steps.
fn read(wires: &mut Wires, answer: &Answer) {
    let behind = wires.len() + 1;
    let values = answer.values.get(behind..).unwrap_or_default();
    for (wire, values) in wires.iter_mut().zip(values.chunks_exact(READS)) {
        if let Some((registers, [state])) = values.split_first_chunk() {
            // A fixed link has no PHY.
            let answers = registers.iter().all(|register| *register != FLOATING);
            wire.phy = answers.then(|| Phy::from(*registers));
            wire.state = Some(*state);
        }
    }
}

/// Asks for the registers of all ports. `None` while they are on their way; without a switch, or if the management bus
/// takes too long, there are none.
fn wires(call: &mut Call) -> Option<Wires> {
    let late = call.bench.now_us() > call.memory.since_us + 2 * LOOK_US + PHYS_LIMIT_US;
    let Some(hardware) = call
        .bench
        .hardware()
        .filter(|hardware| hardware.has_switch())
    else {
        return Some(Wires::new());
    };
    let mut wires = ports(hardware);
    let ticket = (call.memory.state >> 32) as u32;
    let reply = match ticket {
        0 => Reply::Lost,
        ticket => hardware.answer(ticket, &mut |answer| read(&mut wires, answer)),
    };
    let ticket = match reply {
        Reply::Given => return Some(wires),
        Reply::Pending => ticket,
        Reply::Lost => {
            let request = Request::Steps(&mut |step| steps(&wires, step));
            hardware.ask(request).unwrap_or(0)
        }
    };
    call.memory.state = u64::from(ticket) << 32 | REMEMBERED;
    late.then_some(wires)
}

fn facts(interface: &Interface, plan: Option<Plan>) -> Patient {
    let own = |v4: bool| {
        let mut addresses = interface.addresses.iter();
        addresses.any(|address| {
            matches!(address.ip, IpAddr::V4(_)) == v4 && address.origin != Origin::LinkLocal
        })
    };
    Patient {
        up: interface.link != Link::Down,
        plan,
        has_ipv4: own(true),
        has_ipv6: own(false),
        ..Patient::default()
    }
}

fn plans(bench: &mut dyn Bench) -> heapless::Vec<Plan, MAX_INTERFACES> {
    let Some(net) = bench.net() else {
        return heapless::Vec::new();
    };
    let plan = |port: Port| {
        let (asks_dhcp, asks_routers) = port.addressing.is_automatic();
        Plan {
            asks_dhcp,
            asks_routers,
            has_router: port.router(&Ipv4Addr::UNSPECIFIED.into()).is_some(),
            conflicts: port.addressing.conflicts(),
        }
    };
    let ports = (0..MAX_INTERFACES).map_while(|index| net.port(index));
    ports.map(plan).collect()
}

fn doctor(call: &mut Call) -> Outcome {
    let wanted = at_most_one(call, "doctor")?;
    let (now_us, since_us) = (call.bench.now_us(), call.memory.since_us);
    if call.memory.round == 0 {
        // Whoever looks has the counters read that take their time.
        call.bench.with_status(&mut |_| ());
    }
    if now_us < since_us + LOOK_US {
        return Ok(Progress::Wait(since_us + LOOK_US));
    }
    if call.memory.state == 0 {
        call.memory.state = REMEMBERED;
        let memory = &mut call.memory.doctor;
        memory.clear();
        let mut look = Look { memory, place: 0 };
        call.bench.with_status(&mut |status| {
            for interface in status.interfaces {
                look.remember(&interface.counters);
                look.remember(interface.port);
                look.remember(&Reasons(interface.drops));
            }
            for device in status.devices {
                look.remember(device.counters);
            }
        });
    }
    if now_us < since_us + 2 * LOOK_US {
        return Ok(Progress::Wait(since_us + 2 * LOOK_US));
    }
    let Some(wires) = wires(call) else {
        return Ok(Progress::Wait(now_us + POLL_US));
    };
    let plans = plans(call.bench);
    let (_, unexpected) = call.bench.interrupts();
    let memory = &mut call.memory.doctor;
    let report = &mut *call.report;
    let columns = [
        Column("port", 10),
        Column("severity", 9),
        Column("finding", 0),
    ];
    let (mut found, mut worst) = (false, Severity::Ok);
    call.bench.with_status(&mut |status| {
        report.table("findings", &columns, &mut |row| {
            let mut sheet = Sheet {
                look: Look { memory, place: 0 },
                row,
                wanted,
                found: wanted.is_none(),
                worst,
            };
            for (index, interface) in status.interfaces.iter().enumerate() {
                let mut port = facts(interface, plans.get(index).copied());
                let wire = wires.iter().find(|wire| wire.name == interface.name);
                if let Some(wire) = wire {
                    (port.phy, port.state, port.held) = (wire.phy, wire.state, wire.held);
                }
                sheet.about(interface.name, &|look, tell| {
                    port.judge(tell);
                    look.judge(&interface.counters, tell);
                    look.judge(interface.port, tell);
                    look.judge(&Reasons(interface.drops), tell);
                });
            }
            // Members of a bridge are no interfaces.
            let is_member = |wire: &&Wire| status.interfaces.iter().all(|i| wire.name != i.name);
            for wire in wires.iter().filter(is_member) {
                let port = Patient {
                    up: wire.phy.is_some_and(|phy| phy.has_link()),
                    phy: wire.phy,
                    state: wire.state,
                    held: wire.held,
                    ..Patient::default()
                };
                sheet.about(&wire.name, &|_, tell| port.judge(tell));
            }
            for device in status.devices {
                sheet.about(device.name, &|look, tell| look.judge(device.counters, tell));
            }
            if !wires.is_empty() {
                let unseen = wires.iter().all(|wire| wire.state.is_none());
                let finding = unseen.then_some(Finding::UNSEEN);
                sheet.about("mdio", &|_, tell| finding.iter().for_each(&mut *tell));
            }
            sheet.about("cpu", &|_, tell| {
                Finding::unexpected(unexpected).iter().for_each(tell);
            });
            (found, worst) = (sheet.found, sheet.worst);
        });
    });
    if !found {
        return Err(Refusal::Absent("port of that name; `doctor` lists them"));
    }
    report.field("worst", Value::Text(worst.word()));
    Ok(Progress::Done)
}
