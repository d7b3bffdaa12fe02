//! Links: whether the PHYs and the driver agree about them, negotiation mode by mode, and the cable.
//!
//! What disturbs a port is done to all of them at once, since most of it is waiting. [`restore`] ends it, whatever came
//! before: the supervision sets each PHY up as it wants it, and links that were up have to come back.

use super::lab::{Detail, Lab, Outcome, Trouble, add, detail};
use super::registers::*;
use hal::net::Link;
use hal::net::mv88e6xxx::errand::Step;
use hal::net::mv88e6xxx::{PORTS, PortIndex, PortSet};

/// Longest wait for a link. Autonegotiation takes some three seconds.
const LINK_LIMIT_US: u64 = 10_000_000;
/// Time between two looks at a link.
const LOOK_US: u64 = 50_000;
/// Time for the far end to notice that the link is gone. Spec: Linux marvell.c waits as long before a cable test.
const QUIET_US: u64 = 1_500_000;
/// Longest wait for a cable test. Inherited: nothing states one.
const CABLE_LIMIT_US: u64 = 5_000_000;

/// Modes of speed and duplex by their bit in registers 4 (from bit 5 on) and 9 (from bit 8 on); how register 17 shows
/// them. The fastest first. A switch does not do 1000 Mb/s half duplex.
const MODES: [(&str, u8, u16); 5] = [
    ("1000-full", 5, 0xa000),
    ("100-full", 3, 0x6000),
    ("100-half", 2, 0x4000),
    ("10-full", 1, 0x2000),
    ("10-half", 0, 0x0000),
];

/// What came of a test of each port.
pub(super) type Outcomes = [Option<Outcome>; PORTS];

/// What register 17 tells of a link that is up, and how `link` would have it there.
const SHOWN: u16 = SPEED | FULL_DUPLEX | RESOLVED | LINK;

/// A link as register 17 shows it; `None` if it is down, 0 if nobody knows its mode.
pub(super) fn shown(link: Link) -> Option<u16> {
    let Link::Up {
        speed_mbps,
        full_duplex,
        ..
    } = link
    else {
        return None;
    };
    let speed = match speed_mbps {
        1000 => 2 << 14,
        100 => 1 << 14,
        10 => 0,
        _ => return Some(0),
    };
    let duplex = if full_duplex { FULL_DUPLEX } else { 0 };
    Some(speed | duplex | RESOLVED | LINK)
}

fn place(port: PortIndex) -> usize {
    usize::from(port.get())
}

fn mode_name(copper_status: u16) -> &'static str {
    let shown = copper_status & (SPEED | FULL_DUPLEX);
    let mode = MODES.iter().find(|(_, _, mode)| *mode == shown);
    mode.map_or("another mode", |(name, ..)| name)
}

/// Ports whose PHY has a link now.
pub(super) async fn up(lab: &Lab, ports: PortSet) -> Result<PortSet, Trouble> {
    let mut up = PortSet::EMPTY;
    for port in ports.iter() {
        let status = lab.errand(&[read(port, COPPER_STATUS)]).await?.last;
        if status & (RESOLVED | LINK) == RESOLVED | LINK {
            up = up.with(port);
        }
    }
    Ok(up)
}

/// Waits until all of these ports have a link. Returns those that have none in the end.
pub(super) async fn wait_up(lab: &Lab, ports: PortSet, limit_us: u64) -> Result<PortSet, Trouble> {
    let start_us = lab.now_us();
    let mut down = ports;
    loop {
        let up = up(lab, down).await?;
        down = PortSet::from_bits(down.bits() & !up.bits());
        if down.is_empty() || lab.now_us() - start_us >= limit_us {
            return Ok(down);
        }
        lab.sleep_us(LOOK_US).await;
    }
}

/// Gives the PHYs back, waits for the links that were up, and writes down what came of the test. Ports without an
/// outcome have that of the whole.
pub(super) async fn restore(
    lab: &Lab,
    test: &'static str,
    ports: PortSet,
    were_up: PortSet,
    outcomes: &mut Outcomes,
    whole: Result<(), Trouble>,
) {
    let missing = whole.err().unwrap_or(Trouble::Absent("no link"));
    for port in ports.iter() {
        if let Err(trouble) = lab.errand(&[Step::Release(port)]).await {
            outcomes[place(port)] = Some(Err(trouble));
        }
    }
    let down = match wait_up(lab, were_up, LINK_LIMIT_US).await {
        Ok(down) => down,
        Err(_) => were_up,
    };
    for port in ports.iter() {
        let outcome = outcomes[place(port)].take();
        let mut outcome = outcome.unwrap_or_else(|| Err(missing.clone()));
        if down.has(port)
            && let Ok(detail) = &outcome
        {
            outcome = Err(Trouble::wrong(format_args!(
                "{detail}; the link does not come back"
            )));
        }
        lab.note_port(test, port, outcome);
    }
}

/// Links as the drivers know them; where there is a PHY, it has to say the same.
pub(super) async fn links(lab: &Lab) {
    lab.find_links().await;
    let ports = lab.ports().await.unwrap_or_default();
    // By number: what is noted may not be borrowed meanwhile.
    for (name, link) in (0..).map_while(|at| lab.driver_link(at)) {
        let port = ports.iter().find(|port| lab.is_named(*port, &name));
        let outcome = match (link, port) {
            (None, _) => Err(Trouble::Absent("no link")),
            (Some(0), _) | (Some(_), None) => Ok(detail(format_args!("up"))),
            (Some(told), Some(port)) => match lab.errand(&[read(port, COPPER_STATUS)]).await {
                Err(trouble) => Err(trouble),
                Ok(reads) if reads.last & SHOWN == told => {
                    Ok(detail(format_args!("up, {}", mode_name(told))))
                }
                Ok(reads) => Err(Trouble::wrong(format_args!(
                    "up, {} by the driver, but register 17 of the PHY is {:#06x}",
                    mode_name(told),
                    reads.last
                ))),
            },
        };
        lab.note_as("link", name, outcome);
    }
}

/// Every mode that the partner offers, one at a time.
pub(super) async fn negotiation(lab: &Lab) -> Result<(), Trouble> {
    let ports = lab.ports().await?;
    let with_link = up(lab, ports).await?;
    let mut outcomes = Outcomes::default();
    let whole = negotiate(lab, with_link, &mut outcomes).await;
    restore(
        lab,
        "negotiation",
        with_link,
        with_link,
        &mut outcomes,
        whole,
    )
    .await;
    for port in ports.iter().filter(|port| !with_link.has(*port)) {
        lab.note_port("negotiation", port, Err(Trouble::Absent("no link")));
    }
    Ok(())
}

async fn negotiate(lab: &Lab, ports: PortSet, outcomes: &mut Outcomes) -> Result<(), Trouble> {
    let mut told: [Detail; PORTS] = Default::default();
    let mut offered = [0u16; PORTS];
    let mut tried = PortSet::EMPTY;
    for port in ports.iter() {
        let control = lab.errand(&[read(port, CONTROL)]).await?.last;
        let partner = lab.errand(&[read(port, PARTNER)]).await?.last;
        let gigabit = lab.errand(&[read(port, GIGABIT_STATUS)]).await?.last;
        offered[place(port)] = partner >> 5 & 0xf | (gigabit >> 10 & 3) << 4;
        if control & NEGOTIATE != 0 {
            tried = tried.with(port);
        }
    }
    for (name, bit, shown) in MODES {
        let mut waiting = PortSet::EMPTY;
        for port in tried.iter() {
            if offered[place(port)] >> bit & 1 == 0 {
                continue;
            }
            let mode = 1 << bit;
            let steps = [
                Step::Hold(port),
                write(port, ADVERTISEMENT, (mode & 0xf) << 5 | IEEE_802_3),
                write(port, GIGABIT, mode >> 4 << 8),
                write(port, CONTROL, NEGOTIATE | RESTART | FULL_GIGABIT),
            ];
            lab.errand(&steps).await?;
            waiting = waiting.with(port);
        }
        let start_us = lab.now_us();
        while !waiting.is_empty() {
            lab.sleep_us(LOOK_US).await;
            let late = lab.now_us() - start_us >= LINK_LIMIT_US;
            for port in waiting.iter() {
                let status = lab.errand(&[read(port, COPPER_STATUS)]).await?.last;
                let is_up = status & (RESOLVED | LINK) == RESOLVED | LINK;
                if !is_up && !late {
                    continue;
                }
                waiting = waiting.without(port);
                let told = &mut told[place(port)];
                let tenths = (lab.now_us() - start_us) / 100_000;
                let comma = if told.is_empty() { "" } else { ", " };
                if is_up && status & (SPEED | FULL_DUPLEX) == shown {
                    add(
                        told,
                        format_args!("{comma}{name} {}.{} s", tenths / 10, tenths % 10),
                    );
                    continue;
                }
                let became = if is_up { mode_name(status) } else { "no link" };
                let wrong = Trouble::wrong(format_args!("{told}{comma}{name}: {became}"));
                outcomes[place(port)] = Some(Err(wrong));
                tried = tried.without(port);
            }
        }
    }
    for (outcome, told) in outcomes.iter_mut().zip(told) {
        if outcome.is_none() && !told.is_empty() {
            *outcome = Some(Ok(told));
        }
    }
    Err(Trouble::Absent("the port does not negotiate"))
}

/// The cable of every port, pair by pair.
///
/// # Source
///
/// Linux marvell.c, `marvell_vct7_*`: without the set-up on page 5 it misbehaves, and with negotiation on it does not end.
pub(super) async fn cable(lab: &Lab) -> Result<(), Trouble> {
    let ports = lab.ports().await?;
    let with_link = up(lab, ports).await?;
    let mut outcomes = Outcomes::default();
    let whole = test_cables(lab, ports, with_link, &mut outcomes).await;
    restore(lab, "cable", ports, with_link, &mut outcomes, whole).await;
    Ok(())
}

async fn test_cables(
    lab: &Lab,
    ports: PortSet,
    with_link: PortSet,
    outcomes: &mut Outcomes,
) -> Result<(), Trouble> {
    for port in ports.iter() {
        let steps = [Step::Hold(port), write(port, CONTROL, RESET | FULL_GIGABIT)];
        lab.errand(&steps).await?;
    }
    lab.sleep_us(QUIET_US).await;
    let mut waiting = ports;
    for port in ports.iter() {
        let steps = [
            write(port, PAGE, 5),
            write(port, SAMPLES, 0x0603),
            write(port, OFFSET, 0),
            write(port, PAGE, 7),
            write(port, CABLE_TEST, RUN),
        ];
        lab.errand(&steps).await?;
    }
    let start_us = lab.now_us();
    while !waiting.is_empty() {
        lab.sleep_us(LOOK_US).await;
        let late = lab.now_us() - start_us >= CABLE_LIMIT_US;
        for port in waiting.iter() {
            let steps = [write(port, PAGE, 7), read(port, CABLE_TEST)];
            let at_work = lab.errand(&steps).await?.last & AT_WORK != 0;
            if at_work && !late {
                continue;
            }
            waiting = waiting.without(port);
            outcomes[place(port)] = Some(match at_work {
                true => Err(Trouble::wrong(format_args!("the test does not end in 5 s"))),
                false => pairs(lab, port, with_link.has(port)).await,
            });
        }
    }
    Ok(())
}

/// What the cable test has found.
async fn pairs(lab: &Lab, port: PortIndex, had_link: bool) -> Outcome {
    let mut told = Detail::new();
    let result = lab
        .errand(&[write(port, PAGE, 7), read(port, CABLE_RESULT)])
        .await?
        .last;
    for pair in 0..4 {
        let steps = [write(port, PAGE, 7), read(port, CABLE_LENGTH + pair)];
        let cm = lab.errand(&steps).await?.last;
        let comma = if pair == 0 { "" } else { ", " };
        let found = match result >> (4 * pair) & 0xf {
            1 => "ok",
            2 => "open",
            3 => "short",
            4 => "short to another",
            _ => "invalid",
        };
        add(&mut told, format_args!("{comma}{found}"));
        if found != "ok" {
            add(
                &mut told,
                format_args!(" at {}.{:02} m", cm / 100, cm % 100),
            );
        }
    }
    match result {
        0x1111 => Ok(told),
        0x2222 if !had_link => Err(Trouble::Absent("nothing at the other end: all pairs open")),
        _ => Err(Trouble::Wrong(told)),
    }
}
