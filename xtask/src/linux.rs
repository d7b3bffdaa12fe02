//! `./x qemu linux`: Debian's unmodified Linux on the machine model, with its own drivers and its own devicetree.
//!
//! ```text
//!   Debian's kernel, modules, devicetree, tools ─▶ initramfs with tests/linux ─▶ QEMU
//!                                                                                │ console: `proof:` and `ask:` lines
//!   streams ◀── TCP through wan, lan0, lan1 ──┐                                  ▼
//!   peers   ◀── raw frames ───────────────────┴── cables ◀── answers ──── this process ──▶ QMP: links, faults, counters
//! ```
//!
//! A proof passes if its script came to its end, no `proof:` line says FAILED, the streams came back whole, and every
//! guest error is one of [`EXPLAINED`]. What Linux's log may say is listed in `tests/linux/log-allowed`.

mod peers;
mod qmp;

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use self::peers::{Frame, Passed, Peers};
use self::qmp::Qmp;
use crate::args::find;
use crate::error::{Error, Result, at, failure};
use crate::packages::{self, Package};
use crate::private_apt::{PrivateApt, extract_deb};
use crate::qemu;
use crate::step::{Outcome, Step};
use crate::workspace::{cache_dir, out_dir, root, write_whole};

/// The release whose Linux is the reference.
pub const SUITE: &str = "bookworm";
/// For one boot; generous, because it is there for what hangs.
const LIMIT: Duration = Duration::from_secs(600);
const TREE: &str = "armada-3720-espressobin.dtb";
const SOCKETS: [&str; 3] = ["wan", "lan0", "lan1"];
/// How long nothing moves in the board before it is taken as done with a frame: Linux may be about to forward it.
const QUIET: Duration = Duration::from_millis(400);

const PACKAGES: &[Package] = &[
    Package {
        name: "dpkg",
        brings: "dpkg-deb",
        why: "unpacks Debian's kernel",
    },
    Package {
        name: "xz-utils",
        brings: "xz",
        why: "unpacks the modules of newer kernels",
    },
];

/// What is at the other end of the cables.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cables {
    /// A router with DHCP of QEMU's own, and our stream servers, which so many streams go through.
    Router(usize),
    /// [`Peers`].
    Peers,
}

/// One script of `tests/linux`.
pub struct Proof {
    /// Its name.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    cables: Cables,
}

const fn proof(name: &'static str, about: &'static str, cables: Cables) -> Proof {
    Proof {
        name,
        about,
        cables,
    }
}

/// All proofs.
pub const PROOFS: &[Proof] = &[
    proof(
        "network",
        "link, DHCP, ping and TCP both ways on every socket",
        Cables::Router(3),
    ),
    proof(
        "bridge",
        "lan0 and lan1 bridged by the switch, its address table",
        Cables::Peers,
    ),
    proof(
        "isolation",
        "sockets on their own, and beside a bridge: nothing is forwarded",
        Cables::Peers,
    ),
    proof(
        "termination",
        "what is for Linux arrives there, and only that",
        Cables::Peers,
    ),
    proof(
        "vlan",
        "a bridge with VLANs: tags in and out, filtering",
        Cables::Peers,
    ),
    proof(
        "ethtool",
        "the counters of MAC and switch add up",
        Cables::Peers,
    ),
    proof(
        "flap",
        "cables pulled and plugged, faults at run time",
        Cables::Router(1),
    ),
    proof(
        "dsa",
        "the network proof with plain DSA tags",
        Cables::Router(3),
    ),
];

/// Guest errors that other people's drivers cause, and why they are no fault of the model.
const EXPLAINED: &[(&str, &str)] = &[(
    "gicv3_dist_read: invalid guest read at offset 000000000000000c size 4",
    "Linux reads GICD_TYPER2, which is reserved in a GICv3 and new in GICv4.1",
)];

/// What to prove, and how.
pub struct Request<'a> {
    /// Names; all if there are none.
    pub names: &'a [String],
    /// Release of Debian.
    pub suite: &'a str,
    /// Put behind `-M espressobin,strict=on`, such as `,doubts=NAME:READING`.
    pub machine: &'a str,
    /// What each socket moves each way by TCP.
    pub mib: usize,
}

/// Boots Linux once for each proof and prints a line for each.
///
/// # Errors
///
/// If something is missing, or a proof failed.
pub fn prove(request: &Request) -> Result<()> {
    packages::ensure(PACKAGES)?;
    let mut proofs = Vec::new();
    for name in request.names {
        proofs.push(find("proof", name, PROOFS, |proof| proof.name)?);
    }
    if proofs.is_empty() {
        proofs = PROOFS.iter().collect();
    }
    let emulator = qemu::binary(false)?;
    let files = Files::fetch(request.suite)?;
    let mut failed = false;
    for proof in proofs {
        let started = Instant::now();
        let name = format!("linux-{} ({})", proof.name, files.release);
        println!("{name}: {}", proof.about);
        match (Session {
            request,
            proof,
            emulator: &emulator,
            files: &files,
        })
        .run()
        {
            Ok(()) => println!("ok {name} in {:.1} s", started.elapsed().as_secs_f32()),
            Err(error) => {
                println!("FAILED {name}: {error}");
                failed = true;
            }
        }
    }
    if failed { Err(Error::Reported) } else { Ok(()) }
}

/// One boot.
struct Session<'a> {
    request: &'a Request<'a>,
    proof: &'a Proof,
    emulator: &'a Path,
    files: &'a Files,
}

/// What the console told.
#[derive(Default)]
struct Report {
    log: String,
    /// The script's exit status, once it ended.
    status: Option<String>,
    failed: usize,
}

impl Session<'_> {
    fn run(&self) -> Result<()> {
        let dir = std::env::temp_dir().join(format!("espressobin-{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(at(&dir))?;
        let outcome = self.run_in(&dir);
        let _ = fs::remove_dir_all(&dir);
        outcome
    }

    fn run_in(&self, dir: &Path) -> Result<()> {
        let kept = out_dir()?
            .join("linux")
            .join(self.request.suite)
            .join(self.proof.name);
        fs::create_dir_all(&kept).map_err(at(&kept))?;
        let initramfs = kept.join("initramfs");
        fs::write(&initramfs, self.files.initramfs()?).map_err(at(&initramfs))?;
        let guest_errors = kept.join("guest-errors.log");
        let console = kept.join("console.log");

        let expected = match self.proof.cables {
            Cables::Router(streams) => Some(streams),
            Cables::Peers => None,
        };
        let streams = expected
            .map(|_| Streams::start(self.request.mib))
            .transpose()?;
        let mut append = format!("console=ttyMV0,115200 ristretto.test={}", self.proof.name);
        if let Some(streams) = &streams {
            append += &format!(" ristretto.stream={}", streams.port);
        }
        let mut step = Step::new(self.emulator.display().to_string())
            .arg("-M")
            .arg(format!("espressobin,strict=on{}", self.request.machine))
            .words("-m 1G -nodefaults -display none -d guest_errors -D")
            .arg(guest_errors.display().to_string())
            .arg("-serial")
            .arg(format!(
                "unix:{},server=on,wait=on",
                dir.join("console").display()
            ))
            .arg("-qmp")
            .arg(format!(
                "unix:{},server=on,wait=off",
                dir.join("qmp").display()
            ))
            .arg("-kernel")
            .arg(self.files.kernel.display().to_string())
            .arg("-dtb")
            .arg(self.files.tree.display().to_string())
            .arg("-initrd")
            .arg(initramfs.display().to_string())
            .arg("-append")
            .arg(append);
        for (n, name) in SOCKETS.iter().enumerate() {
            let netdev = if streams.is_some() {
                format!("user,id={name},net=10.0.{}.0/24", 2 + n)
            } else {
                let end = |end: &str| dir.join(format!("{name}.{end}")).display().to_string();
                format!(
                    "dgram,id={name},local.type=unix,local.path={},remote.type=unix,remote.path={}",
                    end("board"),
                    end("peer")
                )
            };
            step = step.arg("-netdev").arg(netdev);
            step = step.arg("-net").arg(format!("nic,netdev={name}"));
        }
        let peers = Peers::listen(dir, &SOCKETS).map_err(at(dir))?;
        let report = Arc::new(Mutex::new(Report::default()));
        let host = Host {
            dir: dir.to_owned(),
            peers,
            qmp: None,
        };
        let sink = Arc::clone(&report);
        let reader = thread::spawn(move || host.attend(&sink));
        let outcome = step.watch(LIMIT, |line| println!("  {line}"))?;
        let _ = reader.join();

        let Ok(report) = report.lock() else {
            return failure("the console's reader fell over");
        };
        fs::write(&console, &report.log).map_err(at(&console))?;
        let mut failures = Vec::new();
        if report.failed > 0 {
            failures.push(format!("{} checks", report.failed));
        }
        match report.status.as_deref() {
            Some("0") if outcome == Outcome::Success => {}
            // Checks have failed, and were counted.
            Some("1") if outcome == Outcome::Success && report.failed > 0 => {}
            Some(status) if outcome == Outcome::Success => {
                failures.push(format!("the script ended with status {status}"));
            }
            _ => failures.push("Linux did not come to the end of its script".to_owned()),
        }
        failures.extend(judge_guest_errors(&guest_errors));
        if let Some(streams) = &streams {
            let whole = streams.whole_returns();
            println!(
                "  {whole} streams of {} MiB went there and back unharmed",
                self.request.mib
            );
            if Some(whole) != expected {
                failures.push("a stream was lost or damaged".to_owned());
            }
        }
        if failures.is_empty() {
            return Ok(());
        }
        failure(format!(
            "{}; console: {}",
            failures.join("; "),
            console.display()
        ))
    }
}

/// This side of a boot: reads the console and answers what the script asks.
struct Host {
    dir: PathBuf,
    peers: Peers,
    qmp: Option<Qmp>,
}

impl Host {
    fn attend(mut self, report: &Mutex<Report>) {
        let console = self.dir.join("console");
        let connected = (0..100).find_map(|_| {
            thread::sleep(Duration::from_millis(100));
            UnixStream::connect(&console).ok()
        });
        let Some(stream) = connected else { return };
        let Ok(mut answers) = stream.try_clone() else {
            return;
        };
        for line in BufReader::new(stream)
            .split(b'\n')
            .map_while(std::io::Result::ok)
        {
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            let Ok(mut report) = report.lock() else {
                return;
            };
            report.log.push_str(line);
            report.log.push('\n');
            if let Some(proof) = line.strip_prefix("proof: ") {
                println!("  {proof}");
                if let Some(status) = proof.strip_prefix("end ") {
                    report.status = Some(status.to_owned());
                }
                report.failed += usize::from(proof.starts_with("FAILED"));
            }
            if let Some(ask) = line.strip_prefix("ask: ") {
                let answer = self
                    .answer(ask)
                    .unwrap_or_else(|error| format!("error: {error}"));
                report.log += &format!("answer: {answer}\n");
                if answers.write_all(format!("{answer}\n").as_bytes()).is_err() {
                    return;
                }
            }
        }
    }

    /// - `cross SOCKET TO FROM [vlan=N] [count=N]`: sends a frame there and says where it came out;
    /// - `cable SOCKET on|off`;
    /// - `counters`: what happened between MAC and switch;
    /// - `faults LIST`: puts these faults in force.
    fn answer(&mut self, ask: &str) -> std::io::Result<String> {
        let words: Vec<&str> = ask.split_whitespace().collect();
        let wrong = || std::io::Error::other(format!("not understood: {ask}"));
        match words.as_slice() {
            ["cross", at, to, from, options @ ..] => {
                let option = |name: &str| {
                    let value = options.iter().find_map(|option| option.strip_prefix(name));
                    value
                        .map(|value| value.parse::<u16>().map_err(|_| wrong()))
                        .transpose()
                };
                let frame = Frame {
                    to: peers::mac(to).ok_or_else(wrong)?,
                    from: peers::mac(from).ok_or_else(wrong)?,
                    vlan: option("vlan=")?,
                };
                let count = option("count=")?.unwrap_or(1).into();
                let Self { peers, qmp, dir } = self;
                let passed = || passed(connected(qmp, dir)?);
                peers.cross(at, frame, count, QUIET, passed)
            }
            ["cable", socket, state] => {
                connected(&mut self.qmp, &self.dir)?.set_link(socket, *state == "on")?;
                Ok((*state).to_owned())
            }
            ["counters"] => connected(&mut self.qmp, &self.dir)?.get("counters"),
            ["faults", list @ ..] if list.len() <= 1 => {
                let list = list.concat();
                connected(&mut self.qmp, &self.dir)?.set("faults", &list)?;
                Ok(if list.is_empty() {
                    "none".to_owned()
                } else {
                    list
                })
            }
            _ => Err(wrong()),
        }
    }
}

/// The control socket, opened when it is first needed.
fn connected<'a>(qmp: &'a mut Option<Qmp>, dir: &Path) -> std::io::Result<&'a mut Qmp> {
    match qmp {
        Some(qmp) => Ok(qmp),
        None => Ok(qmp.insert(Qmp::connect(&dir.join("qmp"))?)),
    }
}

/// What went through the board, of its counters `name=value ...`.
fn passed(qmp: &mut Qmp) -> std::io::Result<Passed> {
    let counters = qmp.get("counters")?;
    let count = |name: &str| {
        let value = counters.split(' ').find_map(|pair| {
            let (found, value) = pair.split_once('=')?;
            (found == name).then_some(value)
        });
        value
            .and_then(|value| value.parse::<u64>().ok())
            .ok_or_else(|| std::io::Error::other(format!("no counter {name}: {counters}")))
    };
    Ok(Passed {
        taken: count("from_sockets")?,
        given: count("to_sockets")?,
        inside: count("from_mac")? + count("to_mac")?,
    })
}

/// Prints every kind of guest error once, with its number and its reason; returns those that have none.
fn judge_guest_errors(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let mut unexplained = Vec::new();
    for same in lines.chunk_by(|a, b| a == b) {
        let reason = EXPLAINED.iter().find(|(known, _)| *known == same[0]);
        match reason {
            Some((_, reason)) => println!("  {} x {}: {reason}", same.len(), same[0]),
            None => unexplained.push(format!("{} x guest error {}", same.len(), same[0])),
        }
    }
    unexplained
}

/// What comes from Debian.
pub struct Files {
    dir: PathBuf,
    /// The kernel's `Image`.
    pub kernel: PathBuf,
    /// The board's devicetree, as this kernel has it.
    pub tree: PathBuf,
    /// The kernel's version as its package's name has it.
    pub release: String,
    /// Paths below `kernel/`, each after those it depends on.
    modules: Vec<String>,
}

/// Programs and libraries that the scripts use: package, its files.
const TOOLS: &[(&str, &[&str])] = &[
    ("busybox-static", &["bin/busybox"]),
    ("iproute2", &["sbin/bridge"]),
    ("ethtool", &["sbin/ethtool"]),
    ("libmnl0", &["lib/aarch64-linux-gnu/libmnl.so.0"]),
    ("libcap2", &["lib/aarch64-linux-gnu/libcap.so.2"]),
    (
        "libc6",
        &[
            "lib/aarch64-linux-gnu/libc.so.6",
            "lib/aarch64-linux-gnu/libm.so.6",
            "lib/aarch64-linux-gnu/ld-linux-aarch64.so.1",
        ],
    ),
];

/// What goes into the archive from `tests/linux` besides the proofs.
const HELPERS: &[&str] = &["lib", "udhcpc", "log-allowed"];

impl Files {
    /// Those of a release, from the cache or else from Debian.
    ///
    /// # Errors
    ///
    /// If they are not to be had.
    pub fn fetch(suite: &str) -> Result<Self> {
        let apt = PrivateApt::open(suite, "arm64")?;
        let names = apt.depends("linux-image-arm64")?;
        let Some(name) = names.first() else {
            return failure(format!("{suite} has no kernel for arm64"));
        };
        let modules = module_names(suite)?;
        // Another checkout may want other files.
        let mut hasher = DefaultHasher::new();
        (&modules, TOOLS, TREE).hash(&mut hasher);
        let key = format!("{:016x}", hasher.finish());
        let dir = cache_dir()?.join("linux").join(name).join(key);
        let files = Self {
            release: name.trim_start_matches("linux-image-").to_owned(),
            kernel: dir.join("vmlinuz"),
            tree: dir.join(TREE),
            modules,
            dir,
        };
        let complete = files.dir.join("complete");
        if !complete.is_file() {
            let _ = fs::remove_dir_all(&files.dir);
            files.unpack_kernel(&apt.download_deb(name)?)?;
            for (package, wanted) in TOOLS {
                let deb = apt.download_deb(package)?;
                // A library's file has more digits than its name.
                let patterns: Vec<String> =
                    wanted.iter().map(|path| format!("*/{path}*")).collect();
                let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
                extract_deb(&deb, &patterns, &files.dir.join("tools"))?;
            }
            write_whole(&complete, b"")?;
        }
        Ok(files)
    }

    /// The drivers, each after those it depends on.
    pub fn module_files(&self) -> impl Iterator<Item = PathBuf> {
        let name = |path: &String| path.rsplit('/').next().unwrap_or(path).to_owned();
        self.modules
            .iter()
            .map(move |path| self.dir.join("modules").join(name(path)))
    }

    fn unpack_kernel(&self, package: &Path) -> Result<()> {
        let modules = self.dir.join("modules");
        let patterns: Vec<String> = self
            .modules
            .iter()
            .map(|path| format!("*/kernel/{path}*"))
            .collect();
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        extract_deb(package, &patterns, &modules)?;
        Step::new("find")
            .arg(modules.display().to_string())
            .words("-name *.xz -exec xz -d -f {} +")
            .output()?;
        let tree = format!("*/marvell/{TREE}");
        extract_deb(package, &["./boot/vmlinuz-*", &tree], &self.dir)?;
        let found = fs::read_dir(&self.dir).map_err(at(&self.dir))?;
        let found = found
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"));
        let Some(found) = found else {
            return failure(format!("{} has no kernel image", package.display()));
        };
        fs::rename(found.path(), &self.kernel).map_err(at(&self.kernel))
    }

    /// An archive in the kernel's `newc` format.
    fn initramfs(&self) -> Result<Vec<u8>> {
        let read = |path: &Path| fs::read(path).map_err(at(path));
        let file = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
        let tests = root().join("tests/linux");
        let mut archive = Archive::default();
        for dir in ["bin", "lib", "modules", "tests"] {
            archive.add(dir, 0o040_755, &[]);
        }
        for path in TOOLS.iter().flat_map(|(_, paths)| *paths) {
            let name = file(path);
            let dir = if path.contains("bin/") { "bin" } else { "lib" };
            let content = read(&self.dir.join("tools").join(&name))?;
            archive.add(&format!("{dir}/{name}"), 0o100_755, &content);
        }
        archive.add("bin/sh", 0o120_777, b"busybox");
        archive.add("init", 0o100_755, &read(&tests.join("init"))?);
        for script in PROOFS.iter().map(|proof| &proof.name).chain(HELPERS) {
            archive.add(
                &format!("tests/{script}"),
                0o100_755,
                &read(&tests.join(script))?,
            );
        }
        let mut order = String::new();
        for path in &self.modules {
            let name = file(path);
            archive.add(
                &format!("modules/{name}"),
                0o100_644,
                &read(&self.dir.join("modules").join(&name))?,
            );
            order.push_str(&name);
            order.push('\n');
        }
        archive.add("modules.order", 0o100_644, order.as_bytes());
        archive.add("TRAILER!!!", 0, &[]);
        Ok(archive.bytes)
    }
}

fn module_names(suite: &str) -> Result<Vec<String>> {
    let list = root().join("tests/linux/modules").join(suite);
    let text = fs::read_to_string(&list).map_err(at(&list))?;
    let names = text.lines().filter(|line| !line.starts_with('#'));
    Ok(names.map(str::to_owned).collect())
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: usize,
}

impl Archive {
    fn add(&mut self, name: &str, mode: usize, content: &[u8]) {
        self.inode += 1;
        let fields = [
            self.inode,
            mode,
            0,
            0,
            1,
            0,
            content.len(),
            0,
            0,
            0,
            0,
            name.len() + 1,
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Two servers: one gives every client the same bytes, the other, one port above, takes them back.
struct Streams {
    port: u16,
    returned: Arc<Mutex<usize>>,
}

impl Streams {
    fn start(mib: usize) -> Result<Self> {
        let (give, take) = neighbours()?;
        let port = give
            .local_addr()
            .map_err(|error| Error::Failure(error.to_string()))?
            .port();
        // A linear congruence: no period that a lost segment could hide in.
        let mut state = 1_u32;
        let bytes = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        let bytes: Arc<Vec<u8>> = Arc::new(bytes.take(mib << 20).collect());
        let returned = Arc::new(Mutex::new(0));
        let source = Arc::clone(&bytes);
        serve(give, move |mut client| {
            let _ = client.write_all(&source);
        });
        let count = Arc::clone(&returned);
        serve(take, move |mut client| {
            let mut back = Vec::with_capacity(bytes.len());
            if client.read_to_end(&mut back).is_ok()
                && back == *bytes
                && let Ok(mut count) = count.lock()
            {
                *count += 1;
            }
        });
        Ok(Self { port, returned })
    }

    fn whole_returns(&self) -> usize {
        self.returned.lock().map_or(0, |count| *count)
    }
}

fn serve(listener: TcpListener, client: impl Fn(TcpStream) + Send + 'static) {
    thread::spawn(move || listener.incoming().flatten().for_each(client));
}

/// Listeners on two free ports, the second one above the first.
fn neighbours() -> Result<(TcpListener, TcpListener)> {
    for _ in 0..100 {
        let Ok(first) = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) else {
            continue;
        };
        let Ok(port) = first.local_addr().map(|address| address.port()) else {
            continue;
        };
        if let Some(next) = port.checked_add(1)
            && let Ok(second) = TcpListener::bind((Ipv4Addr::LOCALHOST, next))
        {
            return Ok((first, second));
        }
    }
    failure("no two neighbouring ports of this machine are free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_what_the_kernel_reads() {
        let mut archive = Archive::default();
        archive.add("a", 0o100_644, b"xyz");
        assert_eq!(&archive.bytes[..6], b"070701");
        assert_eq!(&archive.bytes[54..62], b"00000003", "the file's size");
        assert_eq!(
            &archive.bytes[94..102],
            b"00000002",
            "the name's, with its end"
        );
        assert_eq!(&archive.bytes[110..], b"a\0xyz\0");
        assert_eq!(archive.bytes.len() % 4, 0);
    }
}
