//! The echo services: sizes, long runs, long streams, and what must never be answered.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::check::{During, Random, Result, ensure, fail, wait};
use crate::clients::{self, PATIENCE};
use crate::machine::{Machine, Services};
use crate::tap::{GUEST, HOST, STATIC, Tap};
use crate::wire::{BROADCAST, GUEST_MAC, Wire, arp, ethernet, ipv4, ipv4_part, udp};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    test("echo-udp-sizes", Needs::Qemu, udp_sizes_user),
    test("echo-udp-sizes-tap", Needs::Tap, udp_sizes_tap),
    test("echo-udp-one-at-a-time", Needs::Tap, |cx| udp_run(cx, 1)),
    test("echo-udp-windows-of-32", Needs::Tap, |cx| udp_run(cx, 32)),
    test("echo-tcp-checksum", Needs::Qemu, |cx| tcp_stream(cx, false)),
    test("echo-tcp-checksum-tap", Needs::Tap, |cx| {
        tcp_stream(cx, true)
    }),
    test("echo-udp-over-ipv6", Needs::Tap, udp_over_ipv6),
    test("echo-fragments-are-counted", Needs::Qemu, fragments),
    test("echo-never-answers", Needs::Qemu, never_answers),
    test("echo-never-answers-scapy", Needs::Tap, never_answers_scapy),
    test("echo-two-images-do-not-loop", Needs::Qemu, two_images),
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

const SIZES: [usize; 9] = [0, 1, 2, 17, 18, 255, 1400, 1471, 1472];

/// A socket that talks to one echo service.
fn udp_client(service: SocketAddr) -> Result<UdpSocket> {
    let any: SocketAddr = if service.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(service)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn udp_sizes(service: SocketAddr, sizes: &[usize]) -> Result {
    let socket = udp_client(service)?;
    let mut random = Random::new(7);
    let mut answer = [0; 2048];
    for size in sizes {
        // The first one makes the guest learn who we are; the second may take the short way.
        for _ in 0..3 {
            let sent = random.bytes(*size);
            socket.send(&sent)?;
            let len = socket.recv(&mut answer).during(format!("{size} bytes"))?;
            ensure!(
                answer[..len] == sent[..],
                "{size} bytes came back as {len}, or others"
            );
        }
    }
    Ok(())
}

fn udp_sizes_user(cx: &Context) -> Result {
    let mut guest = Machine::new(cx).user()?.boot()?;
    guest.healthy(30)?;
    // QEMU's user-mode network itself never passes on an empty datagram.
    udp_sizes(guest.services.echo_udp, &SIZES[1..])
}

fn udp_sizes_tap(cx: &Context) -> Result {
    let tap = Tap::new("tap0")?;
    let mut guest = Machine::new(cx).tap(&tap).boot()?;
    guest.healthy(30)?;
    udp_sizes(guest.services.echo_udp, &SIZES)?;
    let by_short_way = guest.metric("interface_udp_echoes_in_place_total{interface=\"eth0\"}")?;
    let by_stack = guest.metric("interface_udp_echoes_by_stack_total{interface=\"eth0\"}")?;
    let all = 3 * SIZES.len() as u64;
    ensure!(
        by_short_way + by_stack == all,
        "{all} echoes, counted: {by_short_way} in place and {by_stack} by the stack"
    );
    Ok(())
}

fn udp_over_ipv6(cx: &Context) -> Result {
    let tap = Tap::new("tap0")?;
    tap.add_address("fd09::1/64")?;
    let mut guest = Machine::new(cx)
        .tap(&tap)
        .append("ip=[fd09::2]::[fd09::1]:64::eth0:off")
        .boot()?;
    guest.healthy(30)?;
    let address: std::net::Ipv6Addr = [0xfd09, 0, 0, 0, 0, 0, 0, 2].into();
    let services = Services::at(address);
    wait(10, "HTTP over IPv6", || {
        clients::get(services.http, "/healthz").ok()
    })?;
    udp_sizes(services.echo_udp, &[0, 1, 18, 1400, 1452])?;
    tcp_sums(services.echo_tcp, 1 << 20)
}

/// Many echoes, so many under way at once, and none lost.
fn udp_run(cx: &Context, window: usize) -> Result {
    let count = cx.scaled(5_000, 100_000, 1_000_000);
    let tap = Tap::new("tap0")?;
    let mut guest = Machine::new(cx).tap(&tap).boot()?;
    guest.healthy(30)?;
    let socket = udp_client(guest.services.echo_udp)?;
    let mut answer = [0; 64];
    let mut done = 0;
    while done < count {
        let batch = window.min(count - done);
        for index in done..done + batch {
            let mut payload = [0x5a; 18];
            payload[..8].copy_from_slice(&(index as u64).to_be_bytes());
            socket.send(&payload)?;
        }
        let mut seen = 0_u64;
        for _ in 0..batch {
            let len = socket
                .recv(&mut answer)
                .during(format!("echo {done} and following"))?;
            let number = answer
                .first_chunk::<8>()
                .map_or(0, |bytes| u64::from_be_bytes(*bytes));
            let index = (number as usize).wrapping_sub(done);
            ensure!(
                len == 18 && index < batch,
                "echo {number} of {len} bytes in batch {done}"
            );
            ensure!(seen & 1 << index == 0, "echo {number} came twice");
            seen |= 1 << index;
        }
        done += batch;
    }
    let by_short_way = guest.metric("interface_udp_echoes_in_place_total{interface=\"eth0\"}")?;
    let by_stack = guest.metric("interface_udp_echoes_by_stack_total{interface=\"eth0\"}")?;
    ensure!(
        by_short_way + by_stack == count as u64,
        "{count} echoes, counted: {by_short_way} in place and {by_stack} by the stack"
    );
    Ok(())
}

fn tcp_stream(cx: &Context, over_tap: bool) -> Result {
    let len = cx.scaled(8 << 20, 64 << 20, 256 << 20);
    let machine = Machine::new(cx);
    let machine = if over_tap {
        machine.tap(&Tap::new("tap0")?)
    } else {
        machine.user()?
    };
    let mut guest = machine.boot()?;
    guest.healthy(30)?;
    tcp_sums(guest.services.echo_tcp, len)
}

/// Sends so many bytes and compares the sum of what comes back.
pub fn tcp_sums(service: SocketAddr, len: usize) -> Result {
    let stream = clients::connect(service)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    let mut writer = stream.try_clone()?;
    let sender = thread::spawn(move || -> Result<Sum> {
        let (mut random, mut sum, mut left) = (Random::new(11), Sum::default(), len);
        while left > 0 {
            let chunk = random.bytes(left.min(65_536));
            writer.write_all(&chunk)?;
            sum.add(&chunk);
            left -= chunk.len();
        }
        writer.shutdown(std::net::Shutdown::Write)?;
        Ok(sum)
    });
    let (mut reader, mut buffer, mut received) = (stream, vec![0; 65_536], Sum::default());
    loop {
        match reader
            .read(&mut buffer)
            .during(format!("after {} bytes", received.len))?
        {
            0 => break,
            len => received.add(&buffer[..len]),
        }
    }
    let Ok(sent) = sender.join() else {
        fail!("the sender broke")
    };
    let sent = sent.during("sending")?;
    ensure!(sent == received, "sent {sent:?}, received {received:?}");
    Ok(())
}

/// FNV-1a: order and content, not only their number.
#[derive(Debug, PartialEq, Eq)]
struct Sum {
    len: usize,
    hash: u64,
}

impl Default for Sum {
    fn default() -> Self {
        Self {
            len: 0,
            hash: 0xcbf2_9ce4_8422_2325,
        }
    }
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Boots with a cable that ends here, and waits until the guest knows us and answers.
pub fn wired(cx: &Context) -> Result<(crate::machine::Guest, Wire)> {
    let (machine, mut wire) = Machine::new(cx).wire()?;
    let mut guest = machine.append(STATIC).boot()?;
    guest.line("http://10.9.0.2/", 20)?;
    answers(&mut wire, "after start")?;
    Ok((guest, wire))
}

/// An IPv4 packet with an echo request by UDP.
fn request(from: (Ipv4Addr, u16), to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    ipv4(from.0, to, 17, &udp(from, (to, 7), payload))
}

/// The same in a frame to the first guest.
fn asking(from: (Ipv4Addr, u16), to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    ethernet(GUEST_MAC, 0x0800, &request(from, to, payload))
}

/// The guest echoes a datagram now.
pub fn answers(wire: &mut Wire, when: &str) -> Result {
    let mut random = Random::new(when.len() as u64);
    let payload = random.bytes(24);
    for _ in 0..5 {
        wire.send(&asking((HOST, 40_000), GUEST, &payload))?;
        let mut found = |frame: &[u8]| {
            (frame.get(36..38) == Some(&40_000_u16.to_be_bytes())
                && frame.get(42..66) == Some(&payload))
            .then_some(())
        };
        if wire.watch(Duration::from_secs(4), &mut found)?.is_some() {
            return Ok(());
        }
    }
    fail!("no UDP echo {when}")
}

fn fragments(cx: &Context) -> Result {
    let (_guest, mut wire) = wired(cx)?;
    let whole = udp((HOST, 40_001), (GUEST, 7), &[0x55; 1600]);
    for round in 0..10_u16 {
        let parts = [(0x2000_u16, &whole[..1400]), (1400 / 8, &whole[1400..])];
        for (part, bytes) in parts {
            let mut packet = ipv4_part(HOST, GUEST, 17, part, bytes);
            packet[5] = round as u8; // the identification, and its checksum again
            packet[10..12].fill(0);
            let sum = crate::wire::checksum(&packet[..20]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            wire.send(&ethernet(GUEST_MAC, 0x0800, &packet))?;
        }
    }
    // Dropped, as the image says it does: no echo comes, and the counter knows of all.
    let port = 40_001_u16.to_be_bytes();
    let mut echoed = |frame: &[u8]| (frame.get(36..38) == Some(&port)).then_some(());
    ensure!(
        wire.watch(Duration::from_millis(500), &mut echoed)?
            .is_none(),
        "a fragmented datagram was answered"
    );
    answers(&mut wire, "after fragments")?;
    let counted = metric(
        &mut wire,
        "interface_rx_fragments_dropped_total{interface=\"eth0\"}",
    )?;
    ensure!(counted == 20, "20 fragments sent, {counted} counted");
    Ok(())
}

/// A sample of `/metrics`, by a TCP connection of our own over the cable.
pub fn metric(wire: &mut Wire, sample: &str) -> Result<u64> {
    let text = crate::wire::http_get(wire, "/metrics")?;
    let key = format!("ristretto_{sample} ");
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key.as_str()));
    match value.and_then(|value| value.trim().parse().ok()) {
        Some(value) => Ok(value),
        None => fail!("/metrics has no {sample}: {text}"),
    }
}

/// What must stay unanswered, first from a peer that the guest knows well, so that the short way is open.
fn never_answers(cx: &Context) -> Result {
    let (_guest, mut wire) = wired(cx)?;
    let net_broadcast = Ipv4Addr::new(10, 9, 0, 255);
    let group = Ipv4Addr::new(224, 0, 0, 1);
    let group_mac = [1, 0, 0x5e, 0, 0, 1];
    let cases: [(&str, [u8; 6], (Ipv4Addr, u16), Ipv4Addr); 9] = [
        ("from port 7", GUEST_MAC, (HOST, 7), GUEST),
        ("from port 19", GUEST_MAC, (HOST, 19), GUEST),
        ("from port 5353", GUEST_MAC, (HOST, 5353), GUEST),
        (
            "to the limited broadcast address",
            BROADCAST,
            (HOST, 40_002),
            Ipv4Addr::BROADCAST,
        ),
        (
            "to the network's broadcast address",
            BROADCAST,
            (HOST, 40_002),
            net_broadcast,
        ),
        ("to all hosts", group_mac, (HOST, 40_002), group),
        (
            "to broadcast in a unicast frame",
            GUEST_MAC,
            (HOST, 40_002),
            net_broadcast,
        ),
        (
            "from a broadcast address",
            GUEST_MAC,
            (net_broadcast, 40_002),
            GUEST,
        ),
        (
            "to somebody else",
            GUEST_MAC,
            (HOST, 40_002),
            Ipv4Addr::new(10, 9, 0, 3),
        ),
    ];
    for (what, mac, from, to) in cases {
        answers(&mut wire, "in between")?;
        wire.send(&ethernet(mac, 0x0800, &request(from, to, b"loop?")))?;
        let mut echoed = |frame: &[u8]| {
            let udp = frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&17);
            (udp && frame.get(34..36) == Some(&[0, 7]) && frame.get(42..47) == Some(b"loop?"))
                .then_some(())
        };
        ensure!(
            wire.watch(Duration::from_millis(300), &mut echoed)?
                .is_none(),
            "a datagram {what} was answered"
        );
    }
    answers(&mut wire, "at the end")
}

fn never_answers_scapy(cx: &Context) -> Result {
    let tap = Tap::new("tap0")?;
    let mut guest = Machine::new(cx).tap(&tap).boot()?;
    guest.healthy(30)?;
    let said = clients::scapy(
        "unanswered",
        &[tap.name, &HOST.to_string(), &GUEST.to_string()],
    )?;
    ensure!(said.trim() == "as it should be", "{}", said.trim());
    udp_sizes(guest.services.echo_udp, &[18])
}

/// Two images on one cable, and one datagram that claims to come from the other's echo service.
fn two_images(cx: &Context) -> Result {
    let (one, mut first) = Machine::new(cx).wire()?;
    let (two, mut second) = Machine::new(cx).id(1).wire()?;
    let other = Ipv4Addr::new(10, 9, 0, 3);
    let mut one = one.append(STATIC).boot()?;
    let mut two = two
        .append("ip=10.9.0.3::10.9.0.1:255.255.255.0::eth0:off")
        .boot()?;
    one.line("http://10.9.0.2/", 20)?;
    two.line("http://10.9.0.3/", 20)?;
    let second_mac = [0x52, 0x54, 0, 0x12, 1, 0x56];
    // Each learns the other's hardware address.
    let mut introduction = arp(1, other, BROADCAST, GUEST);
    introduction[6..12].copy_from_slice(&second_mac);
    introduction[22..28].copy_from_slice(&second_mac);
    first.send(&introduction)?;
    for port in [7, 40_000, 19] {
        let mut frame = asking((other, port), GUEST, b"ping pong");
        frame[6..12].copy_from_slice(&second_mac);
        first.send(&frame)?;
    }
    // The cable between the two, for a while.
    let (mut echoes, end) = (0, Instant::now() + Duration::from_secs(3));
    let is_echo = |frame: &[u8]| {
        frame.get(23) == Some(&17) && frame.windows(9).any(|part| part == b"ping pong")
    };
    while Instant::now() < end {
        if let Some(frame) = first.receive(Duration::from_millis(5))? {
            echoes += usize::from(is_echo(&frame));
            second.send(&frame)?;
        }
        if let Some(frame) = second.receive(Duration::from_millis(5))? {
            echoes += usize::from(is_echo(&frame));
            first.send(&frame)?;
        }
    }
    // The one from port 40000 deserves its answer; the others do not, and nothing goes on.
    ensure!(
        echoes == 1,
        "{echoes} echoes went over the cable, 1 was due"
    );
    Ok(())
}
