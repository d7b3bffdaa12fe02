//! `./x qemu linux`: Debian's unmodified Linux on the machine model, with its own drivers and its own devicetree.
//!
//! ```text
//!   Debian's kernel, modules, devicetree, busybox ─▶ initramfs with tests/linux ─▶ QEMU ─▶ console: `proof:` lines
//!   stream server of this process ◀── TCP through wan, lan0, lan1, both ways ──┘
//! ```
//!
//! It passes if the scripts came to their ends, no `proof:` line says FAILED, and what came back is what was sent.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result, at, failure};
use crate::packages::{self, Package};
use crate::private_apt::{PrivateApt, extract_deb};
use crate::qemu;
use crate::step::{Outcome, Step};
use crate::workspace::{cache_dir, root};

const SUITE: &str = "bookworm";
const LIMIT: Duration = Duration::from_secs(300);
const SOCKETS: usize = 3;

const PACKAGES: &[Package] = &[Package {
    name: "dpkg",
    brings: "dpkg-deb",
    why: "unpacks Debian's kernel",
}];

/// Boots Linux three times and checks what it says: every socket on its own under either tag, then a bridge. `machine` is put behind
/// `-M espressobin`, such as `,strict=on`; every socket moves `mib` MiB each way.
///
/// # Errors
///
/// If something is missing, or the proof failed.
pub fn prove(machine: &str, mib: usize) -> Result<()> {
    packages::ensure(PACKAGES)?;
    let lab = Lab {
        machine: machine.to_owned(),
        emulator: qemu::binary(false)?,
        tree: qemu::devicetree()?,
        files: Files::fetch()?,
    };
    let initramfs = lab.files.dir.join("initramfs");
    fs::write(&initramfs, lab.files.initramfs()?).map_err(at(&initramfs))?;
    let mut failures = lab.sockets("edsa", mib)?;
    failures.extend(lab.sockets("dsa", mib)?);
    failures.extend(lab.bridge()?);
    if failures.is_empty() {
        return Ok(());
    }
    failure(format!(
        "{}; consoles: {}",
        failures.join("; "),
        lab.files.dir.display()
    ))
}

/// What every boot needs.
struct Lab {
    machine: String,
    emulator: PathBuf,
    tree: PathBuf,
    files: Files,
}

impl Lab {
    /// Link, DHCP, ping and streams on every socket, with one of the two kinds of switch tag.
    fn sockets(&self, tag: &str, mib: usize) -> Result<Vec<String>> {
        let streams = Streams::start(mib)?;
        let nics: Vec<String> = (0..SOCKETS)
            .map(|socket| format!("user,net=10.0.{}.0/24", 2 + socket))
            .collect();
        let append = format!("ristretto.stream={} ristretto.tag={tag}", streams.port);
        let mut failures = self.boot("network", &append, &nics, |_| {})?;
        let whole = streams.whole_returns();
        println!("{whole} of {SOCKETS} streams of {mib} MiB went there and back unharmed");
        if whole != SOCKETS {
            failures.push("a stream was lost or damaged".to_owned());
        }
        Ok(failures)
    }

    /// Frames from lan0 to lan1, past the processor.
    fn bridge(&self) -> Result<Vec<String>> {
        let (lan0, lan1) = (Wire::new()?, Wire::new()?);
        let nics = ["user".to_owned(), lan0.nic.clone(), lan1.nic.clone()];
        let mut passed = 0;
        let mut failures = self.boot("bridge", "", &nics, |proof| {
            if proof == "bridge ready" {
                passed = lan0.frames_through(&lan1);
            }
        })?;
        println!("{passed} of {FRAMES} frames went from lan0 to lan1");
        if passed != FRAMES {
            failures.push("the bridge lost frames".to_owned());
        }
        Ok(failures)
    }

    /// Runs one of the scripts of tests/linux; what went wrong.
    fn boot(
        &self,
        script: &str,
        append: &str,
        nics: &[String],
        mut on_proof: impl FnMut(&str),
    ) -> Result<Vec<String>> {
        let dir = &self.files.dir;
        let guest_log = dir.join(format!("{script}.guest-errors.log"));
        let mut step = Step::new(self.emulator.display().to_string())
            .arg("-M")
            .arg(format!("espressobin{}", self.machine))
            .words("-m 1G -nodefaults -display none -serial stdio -d guest_errors -D")
            .arg(guest_log.display().to_string())
            .arg("-kernel")
            .arg(self.files.kernel.display().to_string())
            .arg("-dtb")
            .arg(self.tree.display().to_string())
            .arg("-initrd")
            .arg(dir.join("initramfs").display().to_string())
            .arg("-append")
            .arg(format!(
                "console=ttyMV0,115200 ristretto.test={script} {append}"
            ));
        for nic in nics {
            step = step.args(["-nic", nic]);
        }
        let mut ended = false;
        let mut failures = Vec::new();
        let mut log = String::new();
        let outcome = step.watch(LIMIT, |line| {
            log.push_str(line);
            log.push('\n');
            if let Some((_, proof)) = line.split_once("proof: ") {
                let proof = proof.trim_end();
                println!("{proof}");
                ended |= proof == "end 0";
                if proof.starts_with("FAILED") {
                    failures.push(proof.to_owned());
                }
                on_proof(proof);
            }
        })?;
        let console = dir.join(format!("{script}.console.log"));
        fs::write(&console, &log).map_err(at(&console))?;
        report_guest_errors(&guest_log);
        if outcome != Outcome::Success || !ended {
            failures.push(format!(
                "Linux did not come to the good end of the script {script}"
            ));
        }
        Ok(failures)
    }
}

/// Frames sent through the bridge.
const FRAMES: usize = 100;

/// Our end of a cable: QEMU carries its frames in datagrams.
struct Wire {
    socket: UdpSocket,
    /// The value of `-nic`.
    nic: String,
    /// QEMU's end.
    theirs: SocketAddr,
}

impl Wire {
    fn new() -> Result<Self> {
        let problem =
            |error: std::io::Error| Error::Failure(format!("no datagram socket: {error}"));
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(problem);
        // QEMU takes the port of a socket that we let go.
        let theirs = bind()?.local_addr().map_err(problem)?;
        let socket = bind()?;
        socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .map_err(problem)?;
        let ours = socket.local_addr().map_err(problem)?;
        let nic = format!("socket,udp={ours},localaddr={theirs}");
        Ok(Self {
            socket,
            nic,
            theirs,
        })
    }

    /// Teaches the switch where the other end is, then sends frames there; how many arrived, whole and in order.
    fn frames_through(&self, other: &Self) -> usize {
        const OURS: [u8; 6] = [0x02, 0, 0, 0, 0, 0xa0];
        const THEIRS: [u8; 6] = [0x02, 0, 0, 0, 0, 0xa1];
        let frame = |to: [u8; 6], from: [u8; 6], number: usize| {
            let mut frame = [to, from].concat();
            frame.extend([0x88, 0xb5]);
            frame.resize(60 + 10 * number, number as u8);
            frame
        };
        let _ = other
            .socket
            .send_to(&frame([0xff; 6], THEIRS, 0), other.theirs);
        let mut buffer = [0; 2048];
        // The broadcast has come through once the table knows the address.
        while let Ok(len) = self.socket.recv(&mut buffer) {
            if buffer[..len] == *frame([0xff; 6], THEIRS, 0) {
                break;
            }
        }
        let mut passed = 0;
        for number in 0..FRAMES {
            let sent = frame(THEIRS, OURS, number);
            if self.socket.send_to(&sent, self.theirs).is_err() {
                break;
            }
            // Anything else on the wire is the bridge's own (router solicitations and the like).
            while let Ok(len) = other.socket.recv(&mut buffer) {
                if buffer[..len] == *sent {
                    passed += 1;
                    break;
                }
            }
        }
        passed
    }
}

/// Every kind of guest error once, with its number.
fn report_guest_errors(log: &Path) {
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    println!("{} guest errors", lines.len());
    for same in lines.chunk_by(|a, b| a == b).take(40) {
        println!("  {} x {}", same.len(), same[0]);
    }
}

/// What comes from Debian.
struct Files {
    dir: PathBuf,
    kernel: PathBuf,
    busybox: PathBuf,
    modules: PathBuf,
}

impl Files {
    fn fetch() -> Result<Self> {
        let apt = PrivateApt::open(SUITE, "arm64")?;
        let names = apt.depends("linux-image-arm64")?;
        let Some(name) = names.first() else {
            return failure(format!("{SUITE} has no kernel for arm64"));
        };
        let dir = cache_dir()?.join("linux").join(name);
        let files = Self {
            kernel: dir.join("vmlinuz"),
            busybox: dir.join("busybox"),
            modules: dir.join("modules"),
            dir,
        };
        if !files.busybox.is_file() {
            let kernel = apt.download_deb(name)?;
            let patterns: Vec<String> = files
                .module_names()?
                .iter()
                .map(|path| format!("*/kernel/{path}"))
                .collect();
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            extract_deb(&kernel, &patterns, &files.modules)?;
            extract_deb(&kernel, &["./boot/vmlinuz-*"], &files.dir)?;
            let found = fs::read_dir(&files.dir).map_err(at(&files.dir))?;
            let found = found
                .flatten()
                .find(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"));
            let Some(found) = found else {
                return failure(format!("{name} has no kernel image"));
            };
            fs::rename(found.path(), &files.kernel).map_err(at(&files.kernel))?;
            extract_deb(
                &apt.download_deb("busybox-static")?,
                &["./bin/busybox"],
                &files.dir,
            )?;
        }
        Ok(files)
    }

    fn module_names(&self) -> Result<Vec<String>> {
        let list = root().join("tests/linux/modules");
        let text = fs::read_to_string(&list).map_err(at(&list))?;
        Ok(text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect())
    }

    /// An archive in the kernel's `newc` format.
    fn initramfs(&self) -> Result<Vec<u8>> {
        let read = |path: &Path| fs::read(path).map_err(at(path));
        let tests = root().join("tests/linux");
        let mut archive = Archive::default();
        for dir in ["bin", "modules", "tests"] {
            archive.add(dir, 0o040_755, &[]);
        }
        archive.add("bin/busybox", 0o100_755, &read(&self.busybox)?);
        archive.add("bin/sh", 0o120_777, b"busybox");
        archive.add("init", 0o100_755, &read(&tests.join("init"))?);
        for script in ["network", "bridge", "udhcpc"] {
            archive.add(
                &format!("tests/{script}"),
                0o100_755,
                &read(&tests.join(script))?,
            );
        }
        let mut order = String::new();
        for path in self.module_names()? {
            let name = path.rsplit('/').next().unwrap_or(&path);
            archive.add(
                &format!("modules/{name}"),
                0o100_644,
                &read(&self.modules.join(name))?,
            );
            order.push_str(name);
            order.push('\n');
        }
        archive.add("modules.order", 0o100_644, order.as_bytes());
        archive.add("TRAILER!!!", 0, &[]);
        Ok(archive.bytes)
    }
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
