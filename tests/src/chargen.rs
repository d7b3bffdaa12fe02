//! Discard, chargen, the reflector, and where services answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::check::{During, Result, ensure};
use crate::clients::{PATIENCE, connect, ping};
use crate::echo::tcp_sums;
use crate::machine::{Guest, Machine};
use crate::tap::{GUEST, Tap};
use crate::wire::{GUEST_MAC, OUR_MAC, ethernet};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    test("chargen-and-discard", Needs::Tap, both),
    test("chargen-by-udp-is-off", Needs::Tap, |cx| by_udp(cx, false)),
    test("chargen-by-udp-on-request", Needs::Tap, |cx| {
        by_udp(cx, true)
    }),
    test("reflector-where-it-is-on", Needs::Qemu, reflector),
    test("services-on-other-interfaces-only", Needs::Tap, elsewhere),
];

const fn test(name: &'static str, needs: Needs, run: fn(&Context) -> Result) -> Test {
    Test {
        name,
        tier: Tier::Quick,
        needs,
        limit_s: 120,
        run,
    }
}

fn guest(cx: &Context, bootargs: &str) -> Result<Guest> {
    let machine = Machine::new(cx).tap(&Tap::new("tap0")?).append(bootargs);
    let mut guest = machine.boot()?;
    guest.healthy(30)?;
    Ok(guest)
}

fn at(port: u16) -> SocketAddr {
    (GUEST, port).into()
}

fn asking(port: u16) -> Result<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(at(port))?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    Ok(socket)
}

/// Whether these are lines of the pattern, from its beginning.
fn is_pattern(text: &[u8]) -> bool {
    text.chunks(74).enumerate().all(|(line, text)| {
        let expected = (0..72).map(|column| 32 + ((line + column) % 95) as u8);
        expected
            .chain(*b"\r\n")
            .zip(text)
            .all(|(expected, byte)| expected == *byte)
    })
}

fn both(cx: &Context) -> Result {
    let guest = guest(cx, "")?;
    let mut text = vec![0; cx.scaled(1, 16, 256) << 20];
    let mut stream = connect(at(19))?;
    stream.read_exact(&mut text)?;
    ensure!(is_pattern(&text), "not the pattern");
    // One that reads nothing is nobody's trouble.
    let _idle = connect(at(19))?;

    let mut sink = connect(at(9))?;
    sink.write_all(&text)?;
    sink.shutdown(std::net::Shutdown::Write)?;
    let mut rest = Vec::new();
    sink.read_to_end(&mut rest)?;
    ensure!(rest.is_empty(), "discard has said {rest:?}");

    let socket = asking(9)?;
    for _ in 0..100 {
        socket.send(&text[..1000])?;
    }
    let answer = socket.recv(&mut [0; 100]);
    let silent = answer
        .as_ref()
        .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    ensure!(silent, "discard by UDP: {answer:?}");
    tcp_sums(guest.services.echo_tcp, 100_000)
}

fn by_udp(cx: &Context, on: bool) -> Result {
    let _guest = guest(cx, if on { "chargen=on" } else { "" })?;
    let socket = asking(19)?;
    socket.send(b"x")?;
    let mut text = [0; 2048];
    match socket.recv(&mut text) {
        Ok(len) => ensure!(on && len == 512 && is_pattern(&text[..len]), "{len} bytes"),
        Err(error) => {
            // Nobody listens there, and that is said.
            let refused = error.kind() == std::io::ErrorKind::ConnectionRefused;
            ensure!(!on && refused, "{error}");
        }
    }
    Ok(())
}

fn reflector(cx: &Context) -> Result {
    for (bootargs, on) in [("reflect=eth0", true), ("reflect=eth1", false), ("", false)] {
        let (machine, mut wire) = Machine::new(cx).wire()?;
        let mut guest = machine.append(&format!("ip=off {bootargs}")).boot()?;
        guest.line("sealed", 30)?;
        for len in [46, 100, 1500] {
            let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
            wire.send(&ethernet(GUEST_MAC, 0x88b5, &payload))?;
            let mut expected = ethernet(OUR_MAC, 0x88b5, &payload);
            expected[6..12].copy_from_slice(&GUEST_MAC);
            expected[14] = 1;
            let mut came = false;
            for _ in 0..20 {
                let frame = wire.receive(Duration::from_millis(if on { 500 } else { 20 }))?;
                came |= frame.is_some_and(|frame| frame == expected);
                if came {
                    break;
                }
            }
            ensure!(came == on, "`{bootargs}`, {len} bytes: reflected {came}");
        }
    }
    Ok(())
}

/// An interface where services are not to be: pings are answered, nothing else is.
fn elsewhere(cx: &Context) -> Result {
    let machine = Machine::new(cx)
        .tap(&Tap::new("tap0")?)
        .append("services=eth7");
    let mut guest = machine.boot()?;
    guest.line("bootargs: services= names eth7, which is no interface", 30)?;
    guest.line("address 10.9.0.2/24", 30)?;
    ping(&GUEST.to_string(), 20, 56)?;
    for port in [7, 9, 19, 80, 5201] {
        let outcome = TcpStream::connect_timeout(&at(port), PATIENCE);
        let refused = outcome
            .as_ref()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
        ensure!(refused, "TCP port {port}: {outcome:?}");
    }
    for port in [7, 9, 2112, 5201] {
        let socket = asking(port)?;
        socket.send(b"\x14\xa7\x5b\x01").during(port)?;
        let outcome = socket.recv(&mut [0; 100]);
        let refused = outcome
            .as_ref()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
        ensure!(refused, "UDP port {port}: {outcome:?}");
        // The stack answers so many with an error a second, and no more.
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
