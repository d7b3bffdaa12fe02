//! The board's network on its model in QEMU: three sockets behind one MAC, each a network of its own.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use espressobin_model::doubts;

use crate::check::{During, Failure, Result, ensure, fail, wait};
use crate::clients::{connect, curl};
use crate::machine::Services;
use crate::{Context, Needs, Test, Tier, iperf3, irtt, tap};

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
];

/// The sockets, in the order of the switch's ports.
const SOCKETS: [&str; 3] = ["wan", "lan0", "lan1"];

/// The machine's options for the last reading of every doubt. A comma inside a value is written twice.
fn flipped() -> String {
    let readings = doubts::all()
        .filter_map(|doubt| Some(format!("{}:{}", doubt.name, doubt.readings.last()?)));
    format!(",doubts={}", readings.collect::<Vec<_>>().join(",,"))
}

/// The newest file called `name` below a directory of the project's cache.
fn cached(below: &str, name: &str) -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
        PathBuf::from,
    );
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    let mut look = vec![cache.join("ristretto").join(below)];
    while let Some(dir) = look.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let kind = entry.file_type()?;
            if kind.is_dir() && entry.file_name() != "source" {
                look.push(entry.path());
            } else if entry.file_name() == name {
                let time = entry.metadata()?.modified()?;
                if newest.as_ref().is_none_or(|(old, _)| *old < time) {
                    newest = Some((time, entry.path()));
                }
            }
        }
    }
    newest.map(|(_, path)| path).ok_or_else(|| {
        Failure::Skipped(format!(
            "no {name} in the cache: `./x run espressobin` fetches it"
        ))
    })
}

/// A running board. Killed when dropped.
struct Board {
    child: Child,
    serial: PathBuf,
    complaints: PathBuf,
    captures: Vec<PathBuf>,
    services: Vec<Services>,
}

impl Drop for Board {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Board {
    fn boot(cx: &Context, options: &str) -> Result<Self> {
        let _ = tap::loopback();
        let file = |end: &str| cx.out.join(format!("{}.{end}", cx.name));
        let (serial, complaints) = (file("0.serial"), file("complaints"));
        let mut qemu = Command::new(cached("qemu", "qemu-system-aarch64")?);
        let tree = cached("devicetree", "armada-3720-espressobin.dtb")?;
        qemu.args(["-M", &format!("espressobin,strict=on{options}")])
            .args(["-m", "512M", "-nodefaults", "-display", "none"])
            .args(["-serial", &format!("file:{}", serial.display())])
            .args([
                "-d",
                "guest_errors",
                "-D",
                &complaints.display().to_string(),
            ])
            .arg("-dtb")
            .arg(tree)
            .arg("-kernel")
            .arg(&cx.image);
        let (mut captures, mut services) = (Vec::new(), Vec::new());
        for id in 0..SOCKETS.len() {
            let forwarded = Services::forwarded()?;
            let capture = file(&format!("n{id}.pcap"));
            qemu.args([
                "-netdev",
                &format!(
                    "user,id=n{id},net=10.0.{}.0/24{}",
                    2 + id,
                    forwarded.forwards()
                ),
            ])
            .args(["-net", &format!("nic,netdev=n{id}")])
            .args([
                "-object",
                &format!(
                    "filter-dump,id=f{id},netdev=n{id},file={}",
                    capture.display()
                ),
            ]);
            captures.push(capture);
            services.push(forwarded);
        }
        let log = File::create(file("qemu.log"))?;
        let child = qemu
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .during("the board's QEMU")?;
        Ok(Self {
            child,
            serial,
            complaints,
            captures,
            services,
        })
    }

    fn console(&self) -> String {
        let bytes = fs::read(&self.serial).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    /// Waits for a line with this text.
    fn line(&self, text: &str) -> Result<String> {
        wait(60, &format!("`{text}` on the console"), || {
            let console = self.console();
            let (whole, _) = console.rsplit_once('\n')?;
            whole
                .lines()
                .find(|line| line.contains(text))
                .map(str::to_owned)
        })
    }

    /// The address of an interface, as its line on the console says.
    fn mac(&self, name: &str) -> Result<[u8; 6]> {
        let line = self.line(&format!("] {name}: neta"))?;
        let text = line.rsplit(' ').next().unwrap_or_default();
        let bytes: Vec<u8> = text
            .split(':')
            .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
            .collect();
        bytes
            .try_into()
            .map_err(|_| Failure::Failed(format!("no address in `{line}`")))
    }
}

/// Frames of a capture.
fn frames(capture: &Path) -> Result<Vec<Vec<u8>>> {
    let bytes = fs::read(capture)?;
    let mut rest = bytes.get(24..).unwrap_or_default();
    let mut frames = Vec::new();
    while let Some((header, after)) = rest.split_first_chunk::<16>() {
        let len = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let Some((frame, after)) = after.split_at_checked(len) else {
            break;
        };
        frames.push(frame.to_vec());
        rest = after;
    }
    Ok(frames)
}

fn echo_udp(service: SocketAddr, number: usize) -> Result {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
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

fn echo_tcp(service: SocketAddr) -> Result {
    let sent: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
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

/// Somebody else's clients, through the model's MAC and switch.
fn measuring_tools(services: &Services) -> Result {
    irtt::client(services.irtt, &["-d", "2s", "-i", "20ms", "-l", "1400"])?.all_answered()?;
    for options in [&["-n", "1M"][..], &["-n", "1M", "-R"]] {
        iperf3::client(services.iperf3, options)?.moved(1 << 20)?;
    }
    Ok(())
}

/// Links, leases and every service on all sockets; nothing crosses; the model has nothing to complain of.
fn three_networks(cx: &Context, options: &str) -> Result {
    let board = Board::boot(cx, options)?;
    board.line("switch: ports stopped in")?;
    for (id, name) in SOCKETS.iter().enumerate() {
        board.line(&format!("{name}: link up, 1000 Mb/s full duplex"))?;
        board.line(&format!("{name}: address 10.0.{}.15/24 (dhcp)", 2 + id))?;
    }
    // All three at once, so that frames of one are taken while another is served.
    std::thread::scope(|scope| {
        let clients: Vec<_> = board
            .services
            .iter()
            .map(|services| {
                scope.spawn(move || {
                    let page = curl(&[&format!("http://{}/hello", services.http)])?;
                    ensure!(page == "Hello, world!", "curl: `{page}`");
                    (0..100).try_for_each(|number| echo_udp(services.echo_udp, number))?;
                    echo_tcp(services.echo_tcp)
                })
            })
            .collect();
        for (client, name) in clients.into_iter().zip(SOCKETS) {
            let outcome = client.join().unwrap_or_else(|_| fail!("a client broke"));
            outcome.during(name)?;
        }
        Ok::<(), Failure>(())
    })?;
    measuring_tools(&board.services[0]).during("wan")?;
    let macs = SOCKETS
        .iter()
        .map(|name| board.mac(name))
        .collect::<Result<Vec<_>>>()?;
    for (id, capture) in board.captures.iter().enumerate() {
        let frames = frames(capture)?;
        let own = |mac: &[u8]| macs.iter().position(|own| own == mac);
        let mut sent = 0;
        for frame in &frames {
            let (to, from) = (own(&frame[..6]), own(&frame[6..12]));
            for port in [to, from].into_iter().flatten() {
                let (here, there) = (SOCKETS[id], SOCKETS[port]);
                ensure!(port == id, "a frame of {there} at {here}: {frame:02x?}");
            }
            sent += usize::from(from == Some(id));
        }
        ensure!(sent > 200, "{}: only {sent} frames captured", SOCKETS[id]);
    }
    let complaints = fs::read_to_string(&board.complaints).unwrap_or_default();
    ensure!(complaints.is_empty(), "the model complains: {complaints}");
    let console = board.console();
    let bad = |line: &&str| line.contains("neta: ") && !line.contains("open");
    if let Some(line) = console.lines().find(bad) {
        fail!("the console says: {line}");
    }
    Ok(())
}
