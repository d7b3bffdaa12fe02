//! From entry to links, leases and every service, on all sockets at once.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::board::{Board, End, Running, SOCKETS, flipped};
use crate::check::{During, Result, ensure, fail};
use crate::clients::{self, Background, connect, curl};
use crate::machine::Services;
use crate::tap::Tap;
use crate::{Context, Needs, Test, Tier, iperf3, irtt};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    Test {
        name: "espressobin-three-networks",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 180,
        run: |cx| three_networks(cx, ""),
    },
    Test {
        name: "espressobin-three-networks-all-doubts-flipped",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 180,
        run: |cx| three_networks(cx, &flipped()),
    },
    Test {
        name: "espressobin-ping-wan-while-lan-serves",
        tier: Tier::Ci,
        needs: Needs::Tap,
        limit_s: 180,
        run: ping_wan_while_lan_serves,
    },
];

/// One UDP echo of some length; three tries.
pub fn echo_udp(service: SocketAddr, number: usize) -> Result {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let sent: Vec<u8> = (0..18 + number * 37 % 1400)
        .map(|at| (at * number) as u8)
        .collect();
    let mut received = [0; 2048];
    for _ in 0..3 {
        socket.send_to(&sent, service)?;
        if let Ok(len) = socket.recv(&mut received) {
            ensure!(received[..len] == sent[..], "UDP echo {number} is changed");
            return Ok(());
        }
    }
    fail!("UDP echo {number} is not answered")
}

/// So many numbers by TCP, and back.
pub fn echo_tcp(service: SocketAddr, numbers: u32) -> Result {
    let sent: Vec<u8> = (0..numbers).flat_map(u32::to_le_bytes).collect();
    let mut stream = connect(service)?;
    let mut sender = stream.try_clone()?;
    let mut received = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = sender.write_all(&sent);
            let _ = sender.shutdown(std::net::Shutdown::Write);
        });
        stream.read_to_end(&mut received).map(|_| ())
    })?;
    ensure!(
        received == sent,
        "TCP echo: {} bytes, or others",
        received.len()
    );
    Ok(())
}

/// Everything that an interface offers, once.
pub fn served(services: &Services) -> Result {
    let page = curl(&[&format!("http://{}/hello", services.http)])?;
    ensure!(page == "Hello, world!", "curl: `{page}`");
    (0..10).try_for_each(|number| echo_udp(services.echo_udp, number))?;
    echo_tcp(services.echo_tcp, 10_000)
}

/// The same on several sockets at once, so that frames of one are taken while another is served.
pub fn served_at_once(board: &Running, sockets: &[usize], rounds: usize) -> Result {
    std::thread::scope(|scope| {
        let clients: Vec<_> = sockets
            .iter()
            .map(|id| {
                let services = board.services(*id);
                let client = move || {
                    let services = services?;
                    (0..rounds).try_for_each(|_| served(&services))
                };
                (*id, scope.spawn(client))
            })
            .collect();
        for (id, client) in clients {
            let outcome = client.join().unwrap_or_else(|_| fail!("a client broke"));
            outcome.during(SOCKETS[id])?;
        }
        Ok(())
    })
}

/// Links, leases and every service on all sockets; nothing crosses; the model has nothing to complain of.
fn three_networks(cx: &Context, doubts: &str) -> Result {
    let mut board = Board::new(cx).doubts(doubts).boot()?;
    board.line("switch: ports stopped in")?;
    for name in SOCKETS {
        board.line(&format!("{name}: link up, 1000 Mb/s full duplex"))?;
    }
    board.leases(&[0, 1, 2])?;
    served_at_once(&board, &[0, 1, 2], 10)?;
    let mut macs = Vec::new();
    for name in SOCKETS {
        macs.push(board.mac(name)?);
    }
    for (id, here) in SOCKETS.iter().enumerate() {
        let own = |mac: &[u8]| macs.iter().position(|own| own == mac);
        let mut sent = 0;
        for (_, frame) in &board.frames(id)? {
            let (to, from) = (own(&frame[..6]), own(&frame[6..12]));
            for port in [to, from].into_iter().flatten() {
                let there = SOCKETS[port];
                ensure!(port == id, "a frame of {there} at {here}: {frame:02x?}");
            }
            sent += usize::from(from == Some(id));
        }
        ensure!(sent > 200, "{here}: only {sent} frames captured");
    }
    board.sound()?;
    board.untroubled()
}

/// Other people's measuring tools.
fn measuring_tools(services: &Services) -> Result {
    irtt::client(services.irtt, &["-d", "2s", "-i", "20ms", "-l", "1400"])?.all_answered()?;
    for options in [&["-n", "1M"][..], &["-n", "1M", "-R"]] {
        iperf3::client(services.iperf3, options)?.moved(1 << 20)?;
    }
    Ok(())
}

/// `wan` on a real interface with a real DHCP server, pinged by IPv4 and IPv6 while the others serve.
fn ping_wan_while_lan_serves(cx: &Context) -> Result {
    let tap = Tap::new("wan")?;
    let _dnsmasq = Background::start(
        "dnsmasq",
        &[
            "--no-daemon",
            "--conf-file=/dev/null",
            "--port=0",
            "--interface=wan",
            "--dhcp-range=10.9.0.50,10.9.0.50,1h",
            "--dhcp-leasefile=/dev/null",
            "--user=root",
        ],
    )?;
    let netdev = format!("tap,id=n0,ifname={},script=no,downscript=no", tap.name);
    let mut board = Board::new(cx).end(0, End::Netdev(netdev)).boot()?;
    board.line("wan: address 10.9.0.50/24 (dhcp)")?;
    board.leases(&[1, 2])?;
    let services = Services::at(Ipv4Addr::new(10, 9, 0, 50));
    let own = board.mac("wan")?;
    let link_local = format!(
        "fe80::{:x}:{:x}ff:fe{:02x}:{:x}%wan",
        u16::from_be_bytes([own[0] ^ 2, own[1]]),
        own[2],
        own[3],
        u16::from_be_bytes([own[4], own[5]])
    );
    std::thread::scope(|scope| {
        let lan = scope.spawn(|| served_at_once(&board, &[1, 2], 5));
        for size in [18, 56, 1472] {
            clients::ping("10.9.0.50", 200, size)?;
            clients::ping(&link_local, 200, size.min(1452))?;
        }
        (0..5).try_for_each(|_| served(&services)).during("wan")?;
        measuring_tools(&services).during("wan")?;
        lan.join().unwrap_or_else(|_| fail!("a client broke"))
    })?;
    board.sound()?;
    board.untroubled()
}
