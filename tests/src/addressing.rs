//! Addresses: DHCP, router advertisements, link-local addresses, names, bootargs, and cables that come and go.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use crate::check::{During, Result, ensure, fail, wait};
use crate::clients::{Background, PATIENCE, curl, run};
use crate::machine::{Guest, Machine};
use crate::tap::{GUEST, HOST, STATIC, Tap};
use crate::wire::{BROADCAST, GUEST_MAC, arp, ethernet, ipv4, udp};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    test("addressing-link-local-then-dhcp", Needs::Tap, link_local_then_dhcp),
    test("addressing-dhcp", Needs::Tap, dhcp),
    test("addressing-slaac", Needs::Tap, slaac),
    test("addressing-short-lease", Needs::Qemu, short_lease),
    Test { tier: Tier::Nightly, ..test("addressing-dnsmasq-renewal", Needs::Tap, renewal) },
    test("addressing-static-forms", Needs::Tap, static_forms),
    test("addressing-conflict-is-reported", Needs::Qemu, conflict),
    test("addressing-mdns", Needs::Tap, mdns),
    test("addressing-bad-bootargs-are-named", Needs::Qemu, bad_bootargs),
    test("addressing-link-down-and-up", Needs::Qemu, link),
];

const fn test(name: &'static str, needs: Needs, run: fn(&Context) -> Result) -> Test {
    Test { name, tier: Tier::Quick, needs, limit_s: 300, run }
}

/// Starts dnsmasq on the interface, for DHCP and whatever else its arguments say. No DNS, no files of the system.
fn dnsmasq(cx: &Context, tap: &Tap, args: &[&str]) -> Result<Background> {
    let file = |end: &str| cx.out.join(format!("{}.dnsmasq.{end}", cx.name)).display().to_string();
    let (leases, pid) = (file("leases"), file("pid"));
    let common = [
        "--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--conf-file=/dev/null", "--port=0",
        "--user=root", "--no-ping", "--bind-interfaces", "--dhcp-authoritative",
    ];
    let own = [
        format!("--interface={}", tap.name), format!("--dhcp-leasefile={leases}"),
        format!("--pid-file={pid}"),
    ];
    let mut all: Vec<&str> = common.to_vec();
    all.extend(own.iter().map(String::as_str));
    all.extend(args);
    Background::start("dnsmasq", &all)
}

/// `text` between the first `from` and the first `to` behind it.
fn between<'t>(text: &'t str, from: &str, to: &str) -> Result<&'t str> {
    match text.split_once(from).and_then(|(_, rest)| rest.split_once(to)) {
        Some((found, _)) => Ok(found),
        None => fail!("no {from}...{to} in `{text}`"),
    }
}

fn hello(url: &str) -> Result {
    let said = curl(&["-g", &format!("{url}hello")])?;
    ensure!(said == "Hello, world!", "{url}hello said {said:?}");
    Ok(())
}

/// The URL that a line on the console names is one that works.
fn url_works(guest: &mut Guest, part: &str, seconds: u64) -> Result {
    let line = guest.line(part, seconds)?;
    let Some(at) = line.find("http://") else { fail!("no URL in `{line}`") };
    hello(&line[at..])
}

fn dhcp(cx: &Context) -> Result {
    let tap = Tap::new("tap0")?;
    let _server = dnsmasq(cx, &tap, &[
        "--dhcp-range=10.9.0.50,10.9.0.60,1h", "--dhcp-option=option:router,10.9.0.1",
        "--dhcp-option=option:dns-server,10.9.0.1",
    ])?;
    let mut guest = Machine::new(cx).tap_without_address(&tap).append("hostname=latte").boot()?;
    guest.line("lease from 10.9.0.1 for 3600 s, name server 10.9.0.1", 25)?;
    guest.line("default route via 10.9.0.1 (dhcp)", 5)?;
    url_works(&mut guest, "http://10.9.0.", 5)?;
    // The server knows whom it serves.
    let leases = std::fs::read_to_string(cx.out.join(format!("{}.dnsmasq.leases", cx.name)))?;
    ensure!(leases.contains("52:54:00:12:00:56"), "the leases: {leases:?}");
    ensure!(leases.contains("latte"), "the server was not told the name: {leases:?}");
    Ok(())
}

fn link_local_then_dhcp(cx: &Context) -> Result {
    let tap = Tap::new("tap0")?;
    tap.add_address("169.254.7.7/16")?;
    let mut guest = Machine::new(cx).tap_without_address(&tap).boot()?;
    guest.line("no DHCP lease within 10 s", 40)?;
    url_works(&mut guest, "http://169.254.", 30)?;
    let _server = dnsmasq(cx, &tap, &["--dhcp-range=10.9.0.50,10.9.0.60,1h"])?;
    guest.line("lease from 10.9.0.1", 90)?;
    url_works(&mut guest, "http://10.9.0.", 20)
}

fn slaac(cx: &Context) -> Result {
    let tap = Tap::new("tap0")?;
    tap.add_address("fd09::1/64")?;
    let _server = dnsmasq(cx, &tap, &["--enable-ra", "--dhcp-range=fd09::,ra-only,64"])?;
    let mut guest = Machine::new(cx).tap_without_address(&tap).append("ip=10.9.0.2/24").boot()?;
    guest.line("address fd09::5054:ff:fe12:56/64 (slaac)", 40)?;
    guest.line("default route via fe80::", 10)?;
    // The address is ours once nobody objected.
    wait(15, "HTTP over the address from the router", || {
        hello("http://[fd09::5054:ff:fe12:56]/").ok()
    })
}

/// A DHCP server in the test: leases of a few seconds, which no ordinary server hands out.
fn short_lease(cx: &Context) -> Result {
    const SECONDS: u32 = 8;
    let (machine, mut wire) = Machine::new(cx).wire()?;
    let mut guest = machine.append("ip=:::::eth0:dhcp").boot()?;
    let (mut requests, end) = (0, Instant::now() + Duration::from_secs(40));
    while requests < 4 && Instant::now() < end {
        let mut asked = |frame: &[u8]| dhcp_message(frame);
        let Some((kind, transaction)) = wire.watch(Duration::from_secs(1), &mut asked)? else { continue };
        match kind {
            1 => wire.send(&dhcp_reply(2, transaction, SECONDS))?,
            3 => {
                requests += 1;
                wire.send(&dhcp_reply(5, transaction, SECONDS))?;
            }
            _ => {}
        }
    }
    ensure!(requests == 4, "{requests} requests, though the lease of {SECONDS} s wants renewal");
    ensure!(!guest.console().contains("lease lost"), "a renewed lease was lost");
    let leases = guest.console().matches("address 10.9.0.2/24 (dhcp)").count();
    ensure!(leases == 1, "the address was configured {leases} times");
    crate::echo::answers(&mut wire, "with a renewed lease")?;
    // And now the server is silent: the address goes with the lease.
    let end = Instant::now() + Duration::from_secs(30);
    while !guest.console().contains("address 10.9.0.2/24 (dhcp) removed") {
        ensure!(Instant::now() < end, "the address outlives its lease");
        let mut nothing = |_: &[u8]| None::<()>;
        wire.watch(Duration::from_millis(100), &mut nothing)?;
    }
    guest.line("DHCP lease lost", 5)?;
    Ok(())
}

/// Kind and transaction of a DHCP message from the guest.
fn dhcp_message(frame: &[u8]) -> Option<(u8, [u8; 4])> {
    let is_dhcp = frame.get(12..14)? == [8, 0] && *frame.get(23)? == 17 && frame.get(36..38)? == [0, 67];
    let message = frame.get(42..)?;
    let options = message.get(240..)?;
    // Message type is option 53; nothing before it is longer than it says.
    let mut at = 0;
    while is_dhcp && *options.get(at)? != 53 {
        at += if options[at] == 0 { 1 } else { 2 + usize::from(*options.get(at + 1)?) };
    }
    is_dhcp.then_some((*options.get(at + 2)?, *message.get(4..8)?.first_chunk()?))
}

/// An offer (2) or acknowledgement (5) of [`GUEST`] by [`HOST`].
fn dhcp_reply(kind: u8, transaction: [u8; 4], seconds: u32) -> Vec<u8> {
    let mut message = vec![2, 1, 6, 0];
    message.extend(transaction);
    message.extend([0; 8]);
    message.extend(GUEST.octets());
    message.extend(HOST.octets());
    message.extend([0; 4]);
    message.extend(GUEST_MAC);
    message.resize(236, 0);
    message.extend([99, 130, 83, 99, 53, 1, kind, 54, 4]);
    message.extend(HOST.octets());
    message.extend([51, 4]);
    message.extend(seconds.to_be_bytes());
    message.extend([1, 4, 255, 255, 255, 0, 3, 4]);
    message.extend(HOST.octets());
    message.push(255);
    let to = Ipv4Addr::BROADCAST;
    ethernet(BROADCAST, 0x0800, &ipv4(HOST, to, 17, &udp((HOST, 67), (to, 68), &message)))
}

/// dnsmasq's shortest lease is two minutes: half of it must not pass without a renewal.
fn renewal(cx: &Context) -> Result {
    let tap = Tap::new("tap0")?;
    let _server = dnsmasq(cx, &tap, &["--dhcp-range=10.9.0.50,10.9.0.60,2m"])?;
    let mut guest = Machine::new(cx).tap_without_address(&tap).boot()?;
    guest.line("lease from 10.9.0.1 for 120 s", 25)?;
    std::thread::sleep(Duration::from_secs(150));
    ensure!(!guest.console().contains("lost"), "the lease was lost");
    url_works(&mut guest, "http://10.9.0.", 5)
}

fn static_forms(cx: &Context) -> Result {
    let tap = Tap::new("tap0")?;
    tap.add_address("fd09::1/64")?;
    let forms = [
        (STATIC, "http://10.9.0.2/"),
        ("ip=10.9.0.2::10.9.0.1:255.255.255.0", "http://10.9.0.2/"),
        ("ip=10.9.0.2:::24::eth0", "http://10.9.0.2/"),
        ("ip=10.9.0.2/24", "http://10.9.0.2/"),
        ("ip=off ip=10.9.0.2/24", "http://10.9.0.2/"),
        ("ip=10.9.0.9:::255.255.255.0::eth1 ip=10.9.0.2/24::10.9.0.1:::eth0", "http://10.9.0.2/"),
        ("ip=off ip=[fd09::2]::[fd09::1]:64::eth0:off", "http://[fd09::2]/"),
    ];
    for (bootargs, url) in forms {
        let mut guest = Machine::new(cx).tap_without_address(&tap).append(bootargs).boot()?;
        let attempt = guest.line(url, 15).and_then(|_| {
            wait(10, "an answer", || hello(url).ok())
        });
        attempt.during(format!("`{bootargs}`: {}", guest.console()))?;
    }
    Ok(())
}

/// Somebody else has the address: the console says so.
fn conflict(cx: &Context) -> Result {
    let (machine, mut wire) = Machine::new(cx).wire()?;
    let guest = machine.append(STATIC).boot()?;
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        // Whatever the guest asks or announces about its address, we have it too.
        let mut speaks = |frame: &[u8]| {
            (frame.get(12..14) == Some(&[8, 6]) && frame.get(38..42) == Some(&GUEST.octets())).then_some(())
        };
        if wire.watch(Duration::from_secs(1), &mut speaks)?.is_some() {
            wire.send(&arp(2, GUEST, GUEST_MAC, GUEST))?;
        }
        if guest.console().contains("address 10.9.0.2 is also claimed by 02") {
            return Ok(());
        }
        ensure!(Instant::now() < end, "no word about the conflict: {}", guest.console());
    }
}

/// A question by multicast, from an ordinary port: the answer comes to that port (RFC 6762, 6.7).
fn mdns(cx: &Context) -> Result {
    let tap = Tap::new("tap0")?;
    run("ip", &["route", "add", "224.0.0.0/4", "dev", tap.name])?;
    let mut guest = Machine::new(cx).tap(&tap).append("hostname=macchiato").boot()?;
    guest.line("http://macchiato.local/", 15)?;
    let ask = |name: &str, patience: Duration| -> Result<Option<Vec<u8>>> {
        let socket = UdpSocket::bind((HOST, 0))?;
        socket.set_read_timeout(Some(patience))?;
        let mut question = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        question.push(name.len() as u8);
        question.extend(name.as_bytes());
        question.extend(b"\x05local\0\0\x01\0\x01");
        socket.send_to(&question, "224.0.0.251:5353")?;
        let mut answer = [0; 1500];
        match socket.recv_from(&mut answer) {
            Ok((len, from)) => {
                ensure!(from.to_string() == "10.9.0.2:5353", "the answer came from {from}");
                Ok(Some(answer[..len].to_vec()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    let Some(answer) = ask("macchiato", PATIENCE)? else { fail!("no answer for macchiato.local") };
    ensure!(answer.get(..2) == Some(&[0x12, 0x34]), "the answer is to another question: {answer:x?}");
    // Type A, class IN, time to live, four bytes: our guest's address.
    let found = answer.windows(6).any(|part| part[..2] == [0, 4] && part[2..] == GUEST.octets());
    ensure!(found, "no address in the answer: {answer:x?}");
    let foreign = ask("ristretto", Duration::from_secs(1))?;
    ensure!(foreign.is_none(), "it answers to a name that is not its own");
    Ok(())
}

fn bad_bootargs(cx: &Context) -> Result {
    let items = [
        "ip=banana", "ip=10.9.0.300/24", "ip=10.9.0.2:::255.0.255.0", "hostname=-x", "loglevel=loud",
        "panic=maybe", "exit=door", "hostnam=x", "test=nothing-like-this",
    ];
    let mut guest = Machine::new(cx).user()?.append(&items.join(" ")).append("root=/dev/sda1 quiet").boot()?;
    guest.healthy(30)?;
    let console = guest.console();
    for item in items {
        let named = console.lines().any(|line| line.contains("bootargs: ") && line.contains(item));
        ensure!(named, "no complaint about {item}: {console}");
    }
    for item in ["root=", "quiet"] {
        ensure!(!console.contains(item), "it complains about {item}, which is Linux's: {console}");
    }
    Ok(())
}

fn link(cx: &Context) -> Result {
    let mut guest = Machine::new(cx).user()?.boot()?;
    guest.healthy(30)?;
    for round in 0..2 {
        let mark = guest.mark();
        guest.qmp()?.set_link("n0", false)?;
        guest.line_from(mark, "eth0: link down", 10)?;
        // Longer than a cable takes to be plugged over.
        guest.line_from(mark, "address 10.0.2.15/24 (dhcp) removed", 30).during(format!("round {round}"))?;
        let mark = guest.mark();
        guest.qmp()?.set_link("n0", true)?;
        guest.line_from(mark, "eth0: link up", 10)?;
        guest.line_from(mark, "address 10.0.2.15/24 (dhcp)", 30)?;
        guest.healthy(30).during(format!("round {round}"))?;
    }
    Ok(())
}
