//! Captures of the conduit: frames of the MAC with their switch tags, read by tcpdump, which knows them, and by tshark,
//! which is told. And a client that cannot keep up.

use std::io::{Read, Write};
use std::net::{Shutdown, UdpSocket};
use std::time::{Duration, Instant};

use crate::capture::{ADMIN, captured_echoes, fields, wait_until};
use crate::check::{Result, ensure, fail};
use crate::clients::{PATIENCE, connect, curl, run};
use crate::drops::books_balance;
use crate::machine::Services;
use crate::{Context, Needs, Test, Tier};

use super::board::Board;

/// The tests of this file.
pub const TESTS: &[Test] = &[
    Test {
        name: "espressobin-capture-conduit",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 240,
        run: conduit,
    },
    Test {
        name: "espressobin-capture-overload",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 240,
        run: overload,
    },
];

/// What teaches Wireshark the tags.
const DISSECTOR: &str = concat!(
    "lua_script:",
    env!("CARGO_MANIFEST_DIR"),
    "/../docs/wireshark/dsa.lua"
);

fn conduit(cx: &Context) -> Result {
    const ECHOES: u32 = 50;
    let mut board = Board::new(cx).append(ADMIN).boot()?;
    board.leases(&[0, 1])?;
    // Sockets of the switch by their ports: wan is 1, lan0 is 2.
    for socket in [0, 1] {
        let file = cx.out.join(format!("{}-{socket}.pcapng", cx.name));
        captured_echoes(&board.services(socket)?, "if=conduit", ECHOES, &file)?;
        let decoded = run("tcpdump", &["-e", "-nn", "-r", &file.display().to_string()])?;
        let port = format!("port {}, untagged", socket + 1);
        let count = |mode: &str| {
            let is_meant = |line: &&str| {
                line.contains("Marvell EDSA") && line.contains(mode) && line.contains(&port)
            };
            decoded.lines().filter(is_meant).count()
        };
        let (received, sent) = (
            count("mode Forward, dev 0"),
            count("mode From CPU, target dev 0"),
        );
        let expected = (ECHOES as usize, ECHOES as usize);
        ensure!(
            (received, sent) == expected,
            "{port}: {received} received, {sent} sent: {decoded}"
        );
        ensure!(decoded.lines().count() == 2 * ECHOES as usize, "{decoded}");

        let names = ["mode", "tagged", "device", "port"].map(|name| format!("marvell_dsa.{name}"));
        let [mode, tagged, device, tag_port] = names.each_ref().map(String::as_str);
        let columns = [mode, tagged, device, tag_port, "ip.proto", "udp.payload"];
        let frames = fields(&file, &["-X", DISSECTOR], &columns)?;
        ensure!(frames.len() == 2 * ECHOES as usize, "{frames:?}");
        let port = (socket + 1).to_string();
        for (index, frame) in frames.iter().enumerate() {
            // Forward, From CPU.
            let mode = if index % 2 == 0 { "3" } else { "1" };
            let payload = format!("captured {:05}", index / 2);
            let payload: String = payload.bytes().map(|byte| format!("{byte:02x}")).collect();
            let expected = [mode, "0", "0", &port, "17", &payload];
            ensure!(
                *frame == expected,
                "frame {index}: {frame:?}, not {expected:?}"
            );
        }
    }
    board.sound()
}

/// A client orders everything and reads nothing, while echoes keep coming: none is lost, and every frame that the capture
/// lost is told.
fn overload(cx: &Context) -> Result {
    const LIMIT: Duration = Duration::from_secs(90);
    const ENOUGH: u64 = 1000;
    let mut board = Board::new(cx).append(ADMIN).boot()?;
    board.leases(&[0])?;
    let services = board.services(0)?;
    let mut client = connect(services.http)?;
    client.write_all(
        b"GET /capture.pcapng HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer sesame\r\n\r\n",
    )?;
    wait_until(&services, true)?;

    // Whatever buffers there are on the way, they get full.
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(services.echo_udp)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let (start, mut echoes) = (Instant::now(), 0_u64);
    while counts(&services)?.dropped < ENOUGH {
        ensure!(start.elapsed() < LIMIT, "nothing gets lost");
        flood(&socket, &mut echoes)?;
    }
    // And a while longer.
    flood(&socket, &mut echoes)?;

    // The client wakes up, and has had enough: it gets what there is, and how much is missing.
    client.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer)?;
    wait_until(&services, false)?;
    let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") else {
        fail!("no head in {} bytes", answer.len())
    };
    let file = cx.out.join(format!("{}.pcapng", cx.name));
    std::fs::write(&file, &answer[head + 4..])?;
    let frames = fields(&file, &[], &["frame.drop_count", "udp.port"])?;
    let told: u64 = frames
        .iter()
        .filter_map(|frame| frame[0].parse::<u64>().ok())
        .sum();
    let Counts {
        seen,
        accepted,
        dropped,
    } = counts(&services)?;
    let shown = frames.len() as u64;
    println!(
        "{echoes} echoes; {seen} frames seen, {shown} shown, {dropped} lost, {told} of them told"
    );
    ensure!(
        seen == accepted && seen >= 2 * echoes,
        "{seen} seen, {accepted} accepted"
    );
    ensure!(
        shown + dropped == accepted,
        "{shown} and {dropped} of {accepted}"
    );
    // The last ones may have had no frame after them to tell of them; the statistics do.
    ensure!(
        told <= dropped && dropped >= ENOUGH,
        "{told} of {dropped} told"
    );
    // The page is not of one moment: a router's advertisement may come between its parts, but not each time.
    let balance = || books_balance(&curl(&[&format!("http://{}/metrics", services.http)])?);
    (0..4)
        .find_map(|_| balance().ok())
        .map_or_else(balance, Ok)?;
    board.sound()
}

/// What the image says of its capture.
struct Counts {
    seen: u64,
    accepted: u64,
    dropped: u64,
}

fn counts(services: &Services) -> Result<Counts> {
    let said = curl(&[&format!("http://{}/api/v1/capture", services.http)])?;
    let number = |key: &str| {
        let (_, behind) = said.split_once(&format!("\"{key}\":"))?;
        let digits = behind.find(|c: char| !c.is_ascii_digit())?;
        behind[..digits].parse().ok()
    };
    match (number("seen"), number("accepted"), number("dropped")) {
        (Some(seen), Some(accepted), Some(dropped)) => Ok(Counts {
            seen,
            accepted,
            dropped,
        }),
        _ => fail!("no counts in {said}"),
    }
}

/// Some hundred echoes, a few at once, all of which come back.
fn flood(socket: &UdpSocket, echoes: &mut u64) -> Result {
    const AT_ONCE: u64 = 16;
    let end = *echoes + 500;
    let mut sent = *echoes;
    let mut payload = [0; 1400];
    while *echoes < end {
        while sent < end && sent < *echoes + AT_ONCE {
            payload[..8].copy_from_slice(&sent.to_be_bytes());
            socket.send(&payload)?;
            sent += 1;
        }
        let mut answer = [0; 2048];
        let len = socket.recv(&mut answer)?;
        ensure!(
            len == payload.len(),
            "an answer of {len} bytes to echo {echoes}"
        );
        *echoes += 1;
    }
    Ok(())
}
