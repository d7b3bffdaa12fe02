//! Echo requests of our own.

use core::net::IpAddr;

use super::{Access, Call, Command, Outcome};
use crate::ping::{Echo, MAX_COUNT, MAX_SIZE, Run};
use crate::shell::net::Ask;
use crate::shell::report::{Column, Report, Value};
use crate::shell::{Progress, Refusal};

/// The commands of this file.
pub static COMMANDS: &[Command] = &[Command {
    name: "ping",
    operands: "ADDRESS [INTERFACE] [-n COUNT] [-i MS] [-s SIZE]",
    summary: "Send echo requests and time the answers",
    // It makes this machine talk to whom the asker likes, which no page in a browser may do unseen.
    access: Access::Change,
    run: ping,
}];

/// Milliseconds.
const INTERVALS: core::ops::RangeInclusive<u64> = 10..=10_000;
/// Nobody waits longer for a command.
const LONGEST_MS: u64 = 20_000;

fn asked<'c>(words: &[&'c str]) -> Option<Ask<'c>> {
    let (mut places, mut count, mut interval_ms, mut size) = ([None; 2], 4u64, 250, 56);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let number = match *word {
            "-n" => &mut count,
            "-i" => &mut interval_ms,
            "-s" => &mut size,
            word if word.starts_with('-') => return None,
            word => {
                *places.iter_mut().find(|place| place.is_none())? = Some(word);
                continue;
            }
        };
        *number = words.next()?.parse().ok()?;
    }
    let [address, interface] = places;
    // The notation of RFC 4007, 11, is as good.
    let (address, zone) = match address?.bytes().position(|byte| byte == b'%') {
        Some(at) => (address?.get(..at)?, Some(address?.get(at + 1..)?)),
        None => (address?, None),
    };
    let fits = (1..=MAX_COUNT as u64).contains(&count)
        && INTERVALS.contains(&interval_ms)
        && count * interval_ms <= LONGEST_MS
        && size <= MAX_SIZE as u64
        && (zone.is_none() || interface.is_none());
    fits.then_some(())?;
    Some(Ask {
        target: address.parse::<IpAddr>().ok()?,
        interface: interface.or(zone),
        count: count as usize,
        interval_us: interval_ms * 1000,
        size: size as usize,
    })
}

fn ping(call: &mut Call) -> Outcome {
    let Some(ask) = asked(call.words) else {
        let is_name = |word: &&str| {
            word.starts_with(|c: char| c.is_ascii_alphabetic()) && !word.contains(':')
        };
        return Err(match call.words.first().is_some_and(is_name) {
            true => Refusal::Absent("resolver for names; an address is wanted"),
            false => Refusal::Usage("ping"),
        });
    };
    let (round, now_us) = (call.memory.round, call.bench.now_us());
    let net = call.bench.net().ok_or(Refusal::Absent("network"))?;
    if round == 0 {
        net.begin_ping(&ask, call.memory.since_us)?;
    }
    // Whoever comes back much too late may find another's.
    let theirs = |run: &Run| run.began_us != call.memory.since_us;
    if net.ping().as_ref().is_some_and(theirs) {
        return Err(Refusal::Failed("another ping took its place"));
    }
    let at_us = net.go_on_with_ping(now_us);
    if let Some(run) = net.ping() {
        show(run, call.report);
    }
    Ok(match at_us {
        Some(at_us) => Progress::Wait(at_us),
        None => {
            *net.ping() = None;
            Progress::Done
        }
    })
}

fn show(run: &Run, report: &mut Report) {
    let request = run.request();
    let (mut sent, mut answered, mut sum_us) = (0, 0, 0);
    let (mut least_us, mut most_us) = (u64::MAX, 0);
    report.field("target", Value::Shown(&request.target));
    report.field("source", Value::Shown(&request.source));
    let columns = [Column("number", 8), Column("result", 14), Column("us", 0)];
    report.table("echoes", &columns, &mut |row| {
        for echo in run.echoes() {
            let mut took = Value::None;
            let result = match *echo {
                Echo::Pending => "pending",
                Echo::Unreachable => "no neighbour",
                Echo::Sent(_) => "no answer",
                Echo::Damaged => "damaged",
                Echo::Answered(took_us) => {
                    answered += 1;
                    sum_us += took_us;
                    least_us = least_us.min(took_us);
                    most_us = most_us.max(took_us);
                    took = Value::Number(took_us);
                    "answer"
                }
            };
            row(&[Value::Number(sent), Value::Text(result), took]);
            sent += 1;
        }
    });
    let timed = |value| match answered {
        0 => Value::None,
        _ => Value::Number(value),
    };
    for (name, value) in [
        ("requests", Value::Number(sent)),
        ("answers", Value::Number(answered)),
        ("duplicates", Value::Number(run.duplicates)),
        (
            "loss_percent",
            Value::Number((sent - answered) * 100 / sent.max(1)),
        ),
        ("min_us", timed(least_us)),
        ("avg_us", timed(sum_us / answered.max(1))),
        ("max_us", timed(most_us)),
    ] {
        report.field(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_understood_or_refused() {
        let ask = |line: &'static str| {
            let words: std::vec::Vec<_> = line.split(' ').collect();
            asked(&words)
        };
        let plain = ask("10.0.0.9").unwrap();
        assert_eq!(
            (plain.count, plain.interval_us, plain.size),
            (4, 250_000, 56)
        );
        assert_eq!(plain.interface, None);
        let full = ask("-n 2 fe80::1 -i 10 wan -s 0").unwrap();
        assert_eq!((full.count, full.interval_us, full.size), (2, 10_000, 0));
        assert_eq!(full.interface, Some("wan"));
        assert_eq!(ask("fe80::1%lan0").unwrap().interface, Some("lan0"));
        for line in [
            "",
            "wan",
            "10.0.0.9 wan lan0",
            "10.0.0.9 -n",
            "10.0.0.9 -n 0",
            "10.0.0.9 -n 33",
            "10.0.0.9 -n x",
            "10.0.0.9 -i 9",
            "10.0.0.9 -s 1453",
            "10.0.0.9 -n 3 -i 10000",
            "10.0.0.9 -x",
            "fe80::1%lan0 wan",
            "10.0.0.256",
        ] {
            assert_eq!(ask(line), None, "{line}");
        }
    }
}
