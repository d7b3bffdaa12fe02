//! Links: whether the PHYs and the driver agree about them, negotiation mode by mode, and the cable.
//!
//! What disturbs a port is done to all of them at once, since most of it is waiting. [`restore`] ends it, whatever came
//! before: the supervision sets each PHY up as it wants it, and links that were up have to come back.

use super::Verdict;
use super::lab::{Lab, Op, Outcome, Trouble};
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
    match mode {
        _ if copper_status & LINK == 0 => "no link",
        Some((name, ..)) => name,
        None => "another mode",
    }
}

/// What register 17 tells of a link that is up; 0 without one.
async fn link_of(lab: &Lab, port: PortIndex) -> Result<u16, Trouble> {
    let status = lab.errand(&[read(port, COPPER_STATUS)]).await?;
    let is_up = status & (RESOLVED | LINK) == RESOLVED | LINK;
    Ok(if is_up { status & SHOWN } else { 0 })
}

/// Waits until all of these ports have a link. Returns those that have none in the end.
pub(super) async fn wait_up(lab: &Lab, ports: PortSet, limit_us: u64) -> Result<PortSet, Trouble> {
    let until_us = lab.now_us() + limit_us;
    let mut down = ports;
    loop {
        for port in down.iter() {
            if link_of(lab, port).await? != 0 {
                down = down.without(port);
            }
        }
        if down.is_empty() || lab.now_us() >= until_us {
            return Ok(down);
        }
        lab.sleep_us(LOOK_US).await;
    }
}

/// The ports that a test is about, and those of them that have a link.
pub(super) async fn begin(lab: &Lab) -> Result<(PortSet, PortSet), Trouble> {
    let ports = lab.ports().await?;
    let down = wait_up(lab, ports, 0).await?;
    Ok((ports, PortSet::from_bits(ports.bits() & !down.bits())))
}

/// Gives the PHYs back, and waits for the links that were up.
pub(super) async fn restore(lab: &Lab, ports: PortSet, were_up: PortSet) {
    for port in ports.iter() {
        if let Err(trouble) = lab.errand(&[Step::Release(port)]).await {
            lab.end(place(port), trouble);
        }
    }
    let down = wait_up(lab, were_up, LINK_LIMIT_US).await;
    for port in down.unwrap_or(were_up).iter() {
        lab.wrong(place(port), format_args!("the link does not come back"));
    }
}

/// Links as the drivers know them; where there is a PHY, it has to say the same.
pub(super) async fn links(lab: &Lab) -> Outcome {
    for at in 0..lab.ask(Op::Interfaces).await as usize {
        let (link, port) = lab.interface(at);
        let Some(told) = link else {
            lab.end(at, Trouble::Absent("no link"));
            continue;
        };
        lab.say(at, format_args!("up"));
        let Some(port) = port.filter(|_| told != 0) else {
            continue;
        };
        lab.say(at, format_args!("{}", mode_name(told)));
        match link_of(lab, port).await {
            Ok(found) if found == told => {}
            Ok(found) => lab.wrong(at, format_args!("but the PHY has {}", mode_name(found))),
            Err(trouble) => lab.end(at, trouble),
        }
    }
    Ok(())
}

/// Every mode that the partner offers, one at a time.
pub(super) async fn negotiation(lab: &Lab) -> Outcome {
    let (_, with_link) = begin(lab).await?;
    let whole = negotiate(lab, with_link).await;
    restore(lab, with_link, with_link).await;
    whole.and(Err(Trouble::Absent("no link")))
}

async fn negotiate(lab: &Lab, ports: PortSet) -> Outcome {
    let mut offered = [0u16; PORTS];
    for port in ports.iter() {
        let control = lab.errand(&[read(port, CONTROL)]).await?;
        if control & NEGOTIATE == 0 {
            lab.end(place(port), Trouble::Absent("set not to negotiate"));
            continue;
        }
        let steps = [read(port, PARTNER), read(port, GIGABIT_STATUS)];
        let gigabit = lab.errand(&steps).await?;
        offered[place(port)] = lab.reads.get().first >> 5 & 0xf | (gigabit >> 10 & 3) << 4;
        // Whatever becomes of it from here on, it was tested.
        lab.judge(place(port), Verdict::Passed);
    }
    for (name, bit, wanted) in MODES {
        let mode = 1 << bit;
        let mut waiting = PortSet::EMPTY;
        for port in ports
            .iter()
            .filter(|port| offered[place(*port)] & mode != 0)
        {
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
            let us = lab.now_us() - start_us;
            for port in waiting.iter() {
                let found = link_of(lab, port).await?;
                if found == 0 && us < LINK_LIMIT_US {
                    continue;
                }
                waiting = waiting.without(port);
                if found == wanted | RESOLVED | LINK {
                    let tenths = us / 100_000;
                    lab.say(
                        place(port),
                        format_args!("{name} {}.{} s", tenths / 10, tenths % 10),
                    );
                } else {
                    lab.wrong(
                        place(port),
                        format_args!("{name} came up as {}", mode_name(found)),
                    );
                }
            }
        }
    }
    Ok(())
}

/// The cable of every port, pair by pair.
///
/// # Source
///
/// Linux marvell.c, `marvell_vct7_*`: without the set-up on page 5 it misbehaves, and with negotiation on it does not end.
pub(super) async fn cable(lab: &Lab) -> Outcome {
    let (ports, with_link) = begin(lab).await?;
    let whole = test_cables(lab, ports, with_link).await;
    restore(lab, ports, with_link).await;
    whole
}

async fn test_cables(lab: &Lab, ports: PortSet, with_link: PortSet) -> Outcome {
    for port in ports.iter() {
        lab.errand(&[Step::Hold(port), write(port, CONTROL, RESET | FULL_GIGABIT)])
            .await?;
    }
    lab.sleep_us(QUIET_US).await;
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
    let until_us = lab.now_us() + CABLE_LIMIT_US;
    for port in ports.iter() {
        while lab
            .errand(&[write(port, PAGE, 7), read(port, CABLE_TEST)])
            .await?
            & AT_WORK
            != 0
        {
            if lab.now_us() >= until_us {
                return Err(Trouble::Wrong("the cable test does not end in 5 s"));
            }
            lab.sleep_us(LOOK_US).await;
        }
        let at = place(port);
        let result = lab
            .errand(&[write(port, PAGE, 7), read(port, CABLE_RESULT)])
            .await?;
        for pair in 0..4 {
            let steps = [write(port, PAGE, 7), read(port, CABLE_LENGTH + pair)];
            let cm = lab.errand(&steps).await?;
            match FOUND.get(usize::from(result >> (4 * pair) & 0xf)) {
                Some(&"ok") => lab.say(at, format_args!("ok")),
                found => lab.say(
                    at,
                    format_args!(
                        "{} at {}.{:02} m",
                        found.unwrap_or(&"invalid"),
                        cm / 100,
                        cm % 100
                    ),
                ),
            }
        }
        match result {
            0x1111 => {}
            // No cable, or nobody at its other end.
            0x2222 if !with_link.has(port) => lab.judge(at, Verdict::Skipped),
            _ => lab.judge(at, Verdict::Failed),
        }
    }
    Ok(())
}

/// What the cable test may find.
const FOUND: [&str; 5] = ["invalid", "ok", "open", "short", "short to another pair"];
