//! Damaged frames: whatever comes over the cable, the image answers afterwards, and has counted every frame.
//!
//! The frames start from sound ones of every protocol the image speaks. Then bits flip, lengths lie, ends are missing;
//! half of them get their checksums put right again, so that the damage reaches what lies behind the checksum.

use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::check::{During, Random, Result, ensure, fail};
use crate::clients;
use crate::drops::books_balance;
use crate::echo::{answers, metric, wired};
use crate::machine::Machine;
use crate::tap::{GUEST, HOST, Tap};
use crate::wire::{
    BROADCAST, GUEST_MAC, Wire, arp, checksum, echo_request, ethernet, http_get, ipv4, ipv4_part,
    tcp, udp,
};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    test("damage-frames", Needs::Qemu, frames),
    test("damage-short-and-long-frames", Needs::Qemu, lengths),
    test("damage-scapy", Needs::Tap, by_scapy),
];

const fn test(name: &'static str, needs: Needs, run: fn(&Context) -> Result) -> Test {
    Test {
        name,
        tier: Tier::Quick,
        needs,
        limit_s: 900,
        run,
    }
}

/// Ethernet's header and the longest content.
const LONGEST: usize = 1514;

/// The guest's link-local address, from its hardware address.
const GUEST6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe12, 0x56);
const OURS6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Sends what `frames` makes, while somebody takes what comes back: an end that nobody reads would stop the guest.
pub fn send_all(wire: &mut Wire, count: usize, mut frame: impl FnMut() -> Vec<u8>) -> Result {
    let done = AtomicBool::new(false);
    let mut reader = wire.share()?;
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            // Goes on until nothing came for a while.
            while let (Ok(got), stop) = (
                reader.receive(Duration::from_millis(300)),
                done.load(Ordering::Relaxed),
            ) {
                if stop && got.is_none() {
                    return;
                }
            }
        });
        let mut outcome = Ok(());
        for _ in 0..count {
            outcome = outcome.and_then(|()| wire.send(&frame()));
        }
        done.store(true, Ordering::Relaxed);
        match reader.join() {
            Ok(()) => outcome,
            Err(_) => fail!("the reader broke"),
        }
    })
}

/// Damaged frames in rounds, with a sign of life after each, and the sum at the end.
fn frames(cx: &Context) -> Result {
    let (guest, mut wire) = wired(cx)?;
    let seeds = templates();
    let mut random = Random::new(0xbad);
    let rounds = cx.scaled(10, 20, 200);
    for round in 0..rounds {
        send_all(&mut wire, 2_000, || damaged(&seeds, &mut random))?;
        answers(&mut wire, "after damaged frames").during(format!("round {round}"))?;
    }
    // What the answer counts is everything up to the request for it.
    let before = wire.sent;
    let text = http_get(&mut wire, "/metrics")?;
    let value = |name: &str| -> Result<u64> {
        let key = format!("ristretto_interface_{name}_total{{interface=\"eth0\"}} ");
        match text
            .lines()
            .find_map(|line| line.strip_prefix(key.as_str())?.parse().ok())
        {
            Some(value) => Ok(value),
            None => fail!("/metrics has no {name}"),
        }
    };
    let counted = value("rx_frames")? + value("rx_runt")? + value("rx_bad_completion")?;
    // SYN and request are two more; a neighbour may be asked for in between.
    ensure!(
        (before + 2..=before + 4).contains(&counted),
        "{before} frames sent before the request, {counted} counted"
    );
    books_balance(&text)?;
    for trouble in ["tx_bad_completion", "rx_bad_completion"] {
        ensure!(value(trouble)? == 0, "{trouble} is {}", value(trouble)?);
    }
    let console = guest.console();
    let lines = console.lines().count();
    ensure!(lines < 200, "damaged frames make it print {lines} lines");
    Ok(())
}

/// Sound frames to start from.
pub fn templates() -> Vec<Vec<u8>> {
    let ip =
        |protocol, body: &[u8]| ethernet(GUEST_MAC, 0x0800, &ipv4(HOST, GUEST, protocol, body));
    let mut all = vec![
        arp(1, HOST, BROADCAST, GUEST),
        arp(2, HOST, GUEST_MAC, GUEST),
        ip(1, &echo_request(1, &[0x42; 56])),
        ip(17, &udp((HOST, 40_000), (GUEST, 7), &[0x17; 64])),
        ip(
            17,
            &udp(
                (HOST, 5353),
                (GUEST, 5353),
                b"\0\0\0\0\0\x01\0\0\0\0\0\0\x09ristretto\x05local\0\0\x01\0\x01",
            ),
        ),
        ip(17, &udp((HOST, 67), (GUEST, 68), &[2; 300])),
        ip(6, &tcp((HOST, 40_000), (GUEST, 80), 77, 0, 2)),
        ip(6, &tcp((HOST, 40_001), (GUEST, 7), 77, 1, 0x10)),
        // ICMP: port unreachable, about a datagram of the guest's.
        ip(
            1,
            &[
                &[3, 3, 0, 0, 0, 0, 0, 0][..],
                &ipv4(GUEST, HOST, 17, &[0; 8]),
            ]
            .concat(),
        ),
        ethernet(
            GUEST_MAC,
            0x0800,
            &ipv4_part(HOST, GUEST, 17, 0x2000, &[9; 64]),
        ),
        // IGMP query; a protocol that nobody knows; an Ethernet type that nobody knows; a VLAN tag.
        ip(2, &[0x11, 0, 0xee, 0xff, 0, 0, 0, 0]),
        ip(253, &[7; 40]),
        ethernet(GUEST_MAC, 0x88b5, &[1; 60]),
        ethernet(GUEST_MAC, 0x8100, &[0, 1, 8, 0, 0x45, 0, 0, 28]),
    ];
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let target = GUEST6.octets();
    let option = [1, 1, 2, 0, 0, 0, 0, 1];
    let prefix = {
        let mut prefix = vec![
            3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0,
        ];
        prefix.extend(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0).octets());
        prefix
    };
    for (to, message) in [
        (GUEST6, [&[128, 0, 0, 0, 0, 1, 0, 1][..], &[5; 48]].concat()),
        (
            GUEST6,
            [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target, &option].concat(),
        ),
        (
            GUEST6,
            [&[136, 0, 0, 0, 0x60, 0, 0, 0][..], &OURS6.octets(), &option].concat(),
        ),
        (
            group,
            [
                &[134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0][..],
                &prefix,
                &option,
            ]
            .concat(),
        ),
        (group, [&[130, 0, 0, 0, 0, 10, 0, 0][..], &[0; 16]].concat()),
        (
            GUEST6,
            [
                &[1, 4, 0, 0, 0, 0, 0, 0][..],
                &[0x60, 0, 0, 0, 0, 8, 17, 64],
                &target,
                &OURS6.octets(),
            ]
            .concat(),
        ),
    ] {
        all.push(ethernet(GUEST_MAC, 0x86dd, &ipv6(to, 58, &message)));
    }
    // Extension headers: hop-by-hop, routing, fragment, destination options, each before ICMPv6.
    for extension in [0, 43, 44, 60] {
        let body = [&[58, 0, 1, 4, 0, 0, 0, 0][..], &[128, 0, 0, 0, 0, 1, 0, 1]].concat();
        all.push(ethernet(GUEST_MAC, 0x86dd, &ipv6(GUEST6, extension, &body)));
    }
    all
}

fn ipv6(to: Ipv6Addr, next: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((body.len() as u16).to_be_bytes());
    packet.extend([next, 255]);
    packet.extend(OURS6.octets());
    packet.extend(to.octets());
    packet.extend(body);
    packet
}

/// One of the sound frames, damaged.
pub fn damaged(sound: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut frame = sound[random.below(sound.len())].clone();
    if random.below(4) == 0 {
        frame.extend(random.bytes(64));
    }
    for _ in 0..1 + random.below(4) {
        // The addresses are left alone mostly: what goes elsewhere is dropped at once.
        let from = if random.below(8) == 0 { 0 } else { 14 };
        let at = from + random.below(frame.len() - from);
        match random.below(4) {
            0 => frame[at] ^= 1 << random.below(8),
            1 => frame[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 => frame[at] = random.next() as u8,
            // Header lengths, total lengths, types: where a lie costs most.
            _ => {
                let at = [
                    14, 16, 17, 18, 19, 20, 21, 23, 34, 35, 38, 39, 46, 47, 54, 79,
                ][random.below(16)];
                if let Some(byte) = frame.get_mut(at) {
                    *byte = random.next() as u8;
                }
            }
        }
    }
    if random.below(2) == 0 {
        repair(&mut frame);
    }
    if random.below(4) == 0 {
        frame.truncate(1 + random.below(frame.len()));
    }
    frame.truncate(LONGEST);
    keep_peace(&mut frame);
    frame
}

/// Puts the checksums right, as far as the damaged lengths allow.
fn repair(frame: &mut [u8]) {
    match frame.get(12..14) {
        Some([8, 0]) => {
            let len = usize::from(frame[14] & 15) * 4;
            let Some(header) = frame
                .get_mut(14..14 + len)
                .filter(|header| header.len() >= 20)
            else {
                return;
            };
            header[10..12].fill(0);
            let sum = checksum(header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            let end =
                (14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]))).min(frame.len());
            let protocol = frame[23];
            let pseudo =
                |len: usize| [&frame[26..34], &[0, protocol], &(len as u16).to_be_bytes()].concat();
            let Some(body) = frame.get(14 + len..end) else {
                return;
            };
            let (at, pseudo) = match protocol {
                1 => (2, Vec::new()),
                6 => (16, pseudo(body.len())),
                17 => (6, pseudo(body.len())),
                _ => return,
            };
            fix(&mut frame[14 + len..end], at, pseudo);
        }
        Some([0x86, 0xdd]) if frame[20] == 58 => {
            let end =
                (54 + usize::from(u16::from_be_bytes([frame[18], frame[19]]))).min(frame.len());
            let len = end.saturating_sub(54) as u16;
            let pseudo = [&frame[22..54], &[0, 0], &len.to_be_bytes(), &[0, 0, 0, 58]].concat();
            fix(&mut frame[54..end], 2, pseudo);
        }
        _ => {}
    }
}

/// Sets the checksum that stands at `at` of a message.
fn fix(message: &mut [u8], at: usize, mut pseudo: Vec<u8>) {
    if message.len() < at + 2 {
        return;
    }
    message[at..at + 2].fill(0);
    pseudo.extend_from_slice(message);
    message[at..at + 2].copy_from_slice(&checksum(&pseudo).to_be_bytes());
}

/// An address conflict is no damage: it may cost the guest its address, and rightly so. `addressing` tests that.
fn keep_peace(frame: &mut [u8]) {
    if frame.get(12..14) == Some(&[8, 6]) && frame.get(28..32) == Some(&GUEST.octets()) {
        frame[31] ^= 0x55;
    }
}

/// Every length there is, of the kinds that are looked at first.
fn lengths(cx: &Context) -> Result {
    let (_guest, mut wire) = wired(cx)?;
    let full = |kind: u16, body: &[u8]| {
        let mut frame = ethernet(GUEST_MAC, kind, body);
        frame.resize(LONGEST, 0xa5);
        frame
    };
    let whole = ipv4(
        HOST,
        GUEST,
        17,
        &udp((HOST, 40_000), (GUEST, 7), &[0x17; 1472]),
    );
    let kinds = [
        full(0x0800, &whole),
        full(
            0x0800,
            &ipv4(HOST, GUEST, 6, &tcp((HOST, 40_000), (GUEST, 80), 77, 0, 2)),
        ),
        full(0x86dd, &ipv6(GUEST6, 58, &[128; 1400])),
        full(0x0806, &arp(1, HOST, BROADCAST, GUEST)[14..]),
    ];
    for frame in &kinds {
        let mut len = 0;
        send_all(&mut wire, LONGEST, || {
            len += 1;
            frame[..len].to_vec()
        })?;
        answers(&mut wire, "after frames of every length")?;
    }
    // Ethernet's header alone is a frame; less is a runt.
    let runts = metric(&mut wire, "interface_rx_runt_total{interface=\"eth0\"}")?;
    ensure!(runts == 4 * 13, "{} runts sent, {runts} counted", 4 * 13);
    Ok(())
}

/// The same idea in somebody else's words: scapy's `fuzz` and its own layers.
fn by_scapy(cx: &Context) -> Result {
    let tap = Tap::new("tap0")?;
    let mut guest = Machine::new(cx).tap(&tap).boot()?;
    guest.healthy(30)?;
    let count = cx.scaled(200, 2_000, 20_000).to_string();
    let said = clients::scapy(
        "damage",
        &[tap.name, &HOST.to_string(), &GUEST.to_string(), &count],
    )?;
    ensure!(said.contains("frames sent"), "{said}");
    guest.healthy(20).during("afterwards")?;
    clients::ping(&GUEST.to_string(), 5, 56)
}
