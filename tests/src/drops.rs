//! Frames that nobody gets: each counted once, for the right reason, shown to everybody; what it looked like, to few.

use std::time::Duration;

use crate::check::{Result, ensure, fail};
use crate::clients::family;
use crate::echo::answers;
use crate::machine::Machine;
use crate::tap::{GUEST, HOST, STATIC};
use crate::wire::{
    BROADCAST, GUEST_MAC, Wire, arp, echo_request, ethernet, http_get, http_get_with, ipv4,
    ipv4_part, tcp, udp,
};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[Test {
    name: "drops-by-reason",
    tier: Tier::Ci,
    needs: Needs::Qemu,
    limit_s: 240,
    run: by_reason,
}];

/// Devices that interfaces share: what they discard, no interface has received.
const DEVICES: &[&str] = &["neta0", "switch"];

/// Frames dropped, of one interface and for one reason; `None` for all. Not those of shared devices.
pub fn dropped(metrics: &str, reason: Option<&str>) -> u64 {
    let samples = metrics.lines().filter_map(|line| {
        let line = line.strip_prefix("ristretto_rx_dropped_total{interface=\"")?;
        let (labels, count) = line.split_once("\"} ")?;
        let (interface, named) = labels.split_once("\",reason=\"")?;
        let meant = reason.is_none_or(|reason| reason == named) && !DEVICES.contains(&interface);
        meant.then(|| count.parse::<u64>().ok())?
    });
    samples.sum()
}

/// Every frame that interfaces received is in the books once, and the stack dropped none that nobody can explain.
pub fn books_balance(metrics: &str) -> Result {
    let received: u64 = [
        "rx_frames",
        "rx_runt",
        "rx_bad_completion",
        "rx_other_vlan",
        "rx_other_station",
        "rx_queue_full",
    ]
    .map(|name| family(metrics, &format!("interface_{name}_total")))
    .iter()
    .sum();
    let delivered = family(metrics, "interface_rx_delivered_total");
    let dropped_all = dropped(metrics, None);
    println!("{received} frames received, {delivered} delivered, {dropped_all} dropped");
    for line in metrics
        .lines()
        .filter(|line| line.starts_with("ristretto_rx_dropped_total{"))
    {
        println!("{line}");
    }
    ensure!(
        received == delivered + dropped_all,
        "{received} frames received, but {delivered} delivered and {dropped_all} dropped"
    );
    let unknown = dropped(metrics, Some("stack_unknown"));
    ensure!(unknown == 0, "{unknown} frames dropped for no known reason");
    Ok(())
}

fn by_reason(cx: &Context) -> Result {
    let (machine, mut wire) = Machine::new(cx).wire()?;
    let mut guest = machine.append(STATIC).append("admin=s3cret").boot()?;
    guest.line("http://10.9.0.2/", 20)?;
    answers(&mut wire, "after start")?;
    let ip =
        |to, protocol, body: &[u8]| ethernet(GUEST_MAC, 0x0800, &ipv4(HOST, to, protocol, body));
    let damaged = |mut frame: Vec<u8>, at: usize| {
        frame[at] ^= 0xff;
        frame
    };
    let asked = udp((HOST, 40_000), (GUEST, 9999), b"is anybody there?");
    let cases = [
        ("ethertype", ethernet(GUEST_MAC, 0x88b6, &[1; 60])),
        (
            "other_station",
            ethernet([2, 0, 0, 0, 0, 7], 0x0800, &[1; 60]),
        ),
        (
            "arp_not_ours",
            arp(1, HOST, BROADCAST, [10, 9, 0, 77].into()),
        ),
        ("ipv4_checksum", damaged(ip(GUEST, 17, &asked), 24)),
        ("ipv4_malformed", damaged(ip(GUEST, 17, &asked), 14)),
        (
            "fragment",
            ethernet(
                GUEST_MAC,
                0x0800,
                &ipv4_part(HOST, GUEST, 17, 0x2000, &[9; 64]),
            ),
        ),
        ("address", ip([10, 9, 0, 77].into(), 17, &asked)),
        (
            "icmp_checksum",
            damaged(ip(GUEST, 1, &echo_request(1, &[0x42; 56])), 60),
        ),
        ("udp_checksum", damaged(ip(GUEST, 17, &asked), 50)),
        (
            "udp_guard",
            ip(GUEST, 17, &udp((HOST, 19), (GUEST, 7), b"again")),
        ),
        (
            "tcp_checksum",
            damaged(
                ip(GUEST, 6, &tcp((HOST, 40_000), (GUEST, 80), 77, 0, 2)),
                40,
            ),
        ),
        (
            "tcp_reset",
            ip(GUEST, 6, &tcp((HOST, 40_001), (GUEST, 80), 77, 0, 4)),
        ),
    ];
    for (_, frame) in &cases {
        (0..3).try_for_each(|_| wire.send(frame))?;
    }
    answers(&mut wire, "after frames for nobody")?;
    let metrics = http_get(&mut wire, "/metrics")?;
    books_balance(&metrics)?;
    let table = http_get(&mut wire, "/api/v1/drops")?;
    let status = http_get(&mut wire, "/api/v1/status")?;
    for (reason, frame) in &cases {
        let counted = dropped(&metrics, Some(reason));
        ensure!(counted == 3, "{reason}: 3 frames sent, {counted} counted");
        ensure!(
            table.contains(&format!("\"what\":\"{reason}\",\"frames\":3,")),
            "{reason}: {table}"
        );
        ensure!(
            status.contains(&format!("\"{reason}\":3")),
            "{reason}: {status}"
        );
        let path = format!("/api/v1/drops?x={reason}");
        let refused = http_get(&mut wire, &path)
            .err()
            .map(|error| error.to_string());
        ensure!(
            refused
                .as_ref()
                .is_some_and(|error| error.contains(" 401 ")),
            "without the token: {refused:?}"
        );
        let token = "Authorization: Bearer s3cret\r\n";
        let sample = http_get_with(&mut wire, &path, token)?;
        let hex: String = frame
            .iter()
            .take(64)
            .map(|byte| format!("{byte:02x} "))
            .collect();
        ensure!(
            sample.contains(hex.trim_end()),
            "{reason}: no {hex} in {sample}"
        );
        ensure!(sample.contains("\"interface\":\"eth0\""), "{sample}");
    }
    let token = "Authorization: Bearer s3cret\r\n";
    for (path, expected) in [
        ("/api/v1/drops/eth9", "no interface of that name"),
        ("/api/v1/drops?x=nonsense", "no such reason"),
        ("/api/v1/drops?x=crc", "no frame dropped for that reason"),
        ("/api/v1/drops/eth0/eth1", "usage: drops"),
    ] {
        match http_get_with(&mut wire, path, token) {
            Ok(answer) => fail!("{path} answered {answer}"),
            Err(error) => ensure!(error.to_string().contains(expected), "{path}: {error}"),
        }
    }
    quiet(&mut wire)
}

/// Nothing of it was answered but the requests.
fn quiet(wire: &mut Wire) -> Result {
    let mut stray = |frame: &[u8]| (frame.get(34..38) == Some(&[0, 7, 0, 19])).then_some(());
    let stray = wire.watch(Duration::from_millis(200), &mut stray)?;
    ensure!(stray.is_none(), "an echo went to chargen");
    Ok(())
}
