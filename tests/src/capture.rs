//! Captures, by the clients they are for: curl fetches, tcpdump compiles filters, tshark reads.

use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::check::{Result, ensure, fail};
use crate::clients::{Background, PATIENCE, curl, run};
use crate::machine::{Machine, Services};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[Test {
    name: "capture-curl-and-tshark",
    tier: Tier::Ci,
    needs: Needs::Qemu,
    limit_s: 240,
    run: curl_and_tshark,
}];

/// The bootargs that allow captures.
pub const ADMIN: &str = "admin=sesame";
const TOKEN: &str = "Authorization: Bearer sesame";
/// How long to wait for what has to come.
const LIMIT: Duration = Duration::from_secs(60);

/// The code of an answer.
fn code(args: &[&str]) -> Result<String> {
    let quiet = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "10"];
    run("curl", &[&quiet, args].concat())
}

/// Whether there is a capture, as the image says.
fn is_active(services: &Services) -> Result<bool> {
    let url = format!("http://{}/api/v1/capture", services.http);
    Ok(curl(&[&url])?.contains("\"active\":true"))
}

/// Waits until there is a capture, or is none any more.
pub fn wait_until(services: &Services, active: bool) -> Result {
    let start = Instant::now();
    while is_active(services)? != active {
        ensure!(
            start.elapsed() < LIMIT,
            "a capture does not become {active}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Sixteen digits for each instruction, of what libpcap makes of a filter.
pub fn compiled(filter: &str) -> Result<String> {
    let program = run("tcpdump", &["-ddd", "-y", "EN10MB", filter])?;
    let mut digits = String::new();
    for line in program.lines().skip(1) {
        let numbers: Vec<u32> = line.split(' ').filter_map(|n| n.parse().ok()).collect();
        let [code, jt, jf, k] = numbers[..] else {
            fail!("tcpdump says {line}")
        };
        digits += &format!("{code:04x}{jt:02x}{jf:02x}{k:08x}");
    }
    Ok(digits)
}

/// Has so many echoes captured by curl into a file, all of them requests and answers; each echo comes back.
pub fn captured_echoes(services: &Services, query: &str, echoes: u32, file: &Path) -> Result {
    let filter = compiled("udp port 7")?;
    let url = format!(
        "http://{}/capture.pcapng?{query}&filter={filter}&text=udp%20port%207&count={}",
        services.http,
        2 * echoes
    );
    let path = file.display().to_string();
    let client = Background::start("curl", &["-sSN", "-H", TOKEN, "-o", &path, &url])?;
    wait_until(services, true)?;
    let again = code(&["-H", TOKEN, &url])?;
    ensure!(again == "503", "a second capture at once: {again}");
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(services.echo_udp)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    for number in 0..echoes {
        let payload = format!("captured {number:05}");
        let mut answer = [0; 64];
        socket.send(payload.as_bytes())?;
        let len = socket.recv(&mut answer)?;
        ensure!(answer[..len] == *payload.as_bytes(), "echo {number}");
    }
    wait_until(services, false)?;
    client.ended(LIMIT)
}

/// What tshark makes of a file: a line for each frame, a column for each field.
pub fn fields(file: &Path, options: &[&str], names: &[&str]) -> Result<Vec<Vec<String>>> {
    let path = file.display().to_string();
    let mut args = [options, &["-r", &path, "-T", "fields"]].concat();
    names.iter().for_each(|name| args.extend(["-e", name]));
    let lines = run("tshark", &args)?;
    let columns = |line: &str| line.split('\t').map(str::to_owned).collect();
    Ok(lines.lines().map(columns).collect())
}

fn curl_and_tshark(cx: &Context) -> Result {
    const ECHOES: u32 = 200;
    let mut guest = Machine::new(cx).user()?.append(ADMIN).boot()?;
    guest.healthy(30)?;
    let services = &guest.services;
    let url = |query: &str| format!("http://{}/capture.pcapng{query}", services.http);

    for (query, header, expected) in [
        ("", "X: y", "401"),
        ("", "Authorization: Bearer wrong", "401"),
        ("?ticket=00", "X: y", "401"),
        ("?if=eth9", TOKEN, "404"),
        ("?if=conduit", TOKEN, "404"),
        ("?filter=0005000000000009", TOKEN, "400"),
        ("?snaplen=much", TOKEN, "400"),
        ("?colour=red", TOKEN, "400"),
    ] {
        let code = code(&["-H", header, &url(query)])?;
        ensure!(code == expected, "{query}, {header}: {code}");
    }
    let code_of_post = code(&["-X", "POST", "-H", TOKEN, &url("")])?;
    ensure!(code_of_post == "405", "POST: {code_of_post}");

    let file = cx.out.join(format!("{}.pcapng", cx.name));
    captured_echoes(services, "if=eth0", ECHOES, &file)?;
    let names = [
        "frame.packet_flags_direction",
        "frame.time_epoch",
        "udp.dstport",
        "frame.len",
        "udp.payload",
    ];
    let frames = fields(&file, &[], &names)?;
    ensure!(
        frames.len() == 2 * ECHOES as usize,
        "{} frames",
        frames.len()
    );
    let mut last = 0.0;
    for (index, frame) in frames.iter().enumerate() {
        let payload = format!("captured {:05}", index / 2);
        let payload: String = payload.bytes().map(|byte| format!("{byte:02x}")).collect();
        let [direction, time, port, len, shown] = &frame[..] else {
            fail!("frame {index}: {frame:?}")
        };
        // Numbers of pcapng's epb_flags: received, sent.
        let received = index % 2 == 0;
        let direction = direction.trim_start_matches("0x").trim_start_matches('0');
        ensure!(
            direction == if received { "1" } else { "2" },
            "frame {index}: {frame:?}"
        );
        ensure!(
            (port == "7") == received && len == "56",
            "frame {index}: {frame:?}"
        );
        ensure!(*shown == payload, "frame {index}: {frame:?}, not {payload}");
        let time: f64 = time.parse().unwrap_or(0.0);
        ensure!(
            time > last && time < 600.0,
            "frame {index} at {time} after {last}"
        );
        last = time;
    }
    let about = run("capinfos", &[&file.display().to_string()])?;
    for part in [
        "Name = eth0",
        "Filter string = udp port 7",
        "Ristretto",
        "stat entries = 1",
    ] {
        ensure!(about.contains(part), "capinfos says no {part}: {about}");
    }

    // A client that goes away ends it; then a ticket is as good as the token, once.
    let everything = url("?snaplen=64");
    let client = Background::start(
        "curl",
        &["-sN", "-H", TOKEN, "-o", "/dev/null", &everything],
    )?;
    wait_until(services, true)?;
    drop(client);
    wait_until(services, false)?;
    let issue = format!("http://{}/api/v1/capture/ticket", services.http);
    let refused = code(&["-X", "POST", &issue])?;
    ensure!(refused == "401", "a ticket for everybody: {refused}");
    let ticket = curl(&["-X", "POST", "-H", TOKEN, &issue])?;
    let Some((_, rest)) = ticket.split_once("/capture.pcapng?ticket=") else {
        fail!("no ticket: {ticket}")
    };
    let ticket = url(&format!(
        "?count=1&ticket={}",
        &rest[..rest.find('"').unwrap_or(0)]
    ));
    // Its own connection does not count: another one makes the frame that it ends with.
    let client = Background::start("curl", &["-sSN", "-o", "/dev/null", &ticket])?;
    let start = Instant::now();
    while is_active(services)? || start.elapsed() < Duration::from_secs(1) {
        ensure!(start.elapsed() < LIMIT, "one frame never came");
        std::thread::sleep(Duration::from_millis(50));
    }
    client.ended(LIMIT)?;
    let again = code(&[&ticket])?;
    ensure!(again == "401", "the same ticket again: {again}");
    let state = curl(&[&format!("http://{}/api/v1/capture", services.http)])?;
    ensure!(state.contains("\"sessions\":3"), "{state}");
    guest.healthy(10)
}
