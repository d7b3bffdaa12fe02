//! The other side of the comparison: Debian's kernel as it is, and an initramfs with one program.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Result, at, failure};
use crate::linux::Files;
use crate::packages::{self, Package};
use crate::private_apt::{PrivateApt, extract_deb};
use crate::step::Step;
use crate::workspace;

use super::guest::{Machine, System};

const COMPILER: [Package; 2] = [
    Package {
        name: "gcc-aarch64-linux-gnu",
        brings: "aarch64-linux-gnu-gcc",
        why: "to compile Linux's server",
    },
    Package {
        name: "libc6-dev-arm64-cross",
        brings: "/usr/aarch64-linux-gnu/lib/libc.a",
        why: "the C library of Linux's server",
    },
];

const SUITE: &str = "bookworm";
const KERNEL: &str = "linux-image-arm64";

/// Debian builds these as modules, too; each after those it depends on.
const MODULES: [&str; 4] = ["failover", "net_failover", "virtio_mmio", "virtio_net"];

/// What Linux's server prints once it listens.
pub const READY: &str = "bench: ready";

/// Debian's packages that make an iperf3, and what of each is needed.
const IPERF3: [(&str, &[&str]); 5] = [
    ("iperf3", &["./usr/bin/iperf3"]),
    ("libiperf0", &["*/libiperf.so.0*"]),
    ("libsctp1", &["*/libsctp.so.1*"]),
    ("libssl3", &["*/libcrypto.so.3"]),
    (
        "libc6",
        &[
            "*/libc.so.6",
            "*/libm.so.6",
            "*/aarch64-linux-gnu/ld-linux-aarch64.so.1",
        ],
    ),
];

/// A kernel and what it needs to drive a machine's network.
struct Kernel {
    image: PathBuf,
    version: String,
    modules: Vec<PathBuf>,
    append: Option<&'static str>,
}

/// Fetches Debian's kernel, compiles the server, and packs it.
///
/// # Errors
///
/// If the kernel cannot be had, or the compiler refuses.
pub fn build(machine: &Machine) -> Result<System> {
    pack(machine, &[])
}

/// The same with Debian's iperf3 running beside the server.
///
/// # Errors
///
/// Those of [`build`], or if iperf3 cannot be had.
pub fn build_with_iperf3(machine: &Machine) -> Result<System> {
    let dir = workspace::cache_dir()?
        .join("linux")
        .join(format!("{SUITE}-arm64"))
        .join("iperf3");
    let complete = dir.join("complete");
    if !complete.exists() {
        let apt = PrivateApt::open(SUITE, "arm64")?;
        for (package, files) in IPERF3 {
            let deb = apt.download_deb(package)?;
            extract_deb(&deb, files, &dir)?;
            fs::remove_file(&deb).map_err(at(&deb))?;
        }
        fs::write(&complete, []).map_err(at(&complete))?;
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(&dir).map_err(at(&dir))?.flatten() {
        // Debian's links are to files beside them; what they lead to is packed under either name.
        let name = entry.file_name().to_string_lossy().into_owned();
        let place = match name.as_str() {
            "complete" => continue,
            "iperf3" => name,
            _ => format!("lib/{name}"),
        };
        files.push((place, read(&entry.path())?));
    }
    pack(machine, &files)
}

/// Packs the server, and beside it these files, by their names in the archive.
fn pack(machine: &Machine, files: &[(String, Vec<u8>)]) -> Result<System> {
    packages::ensure(&COMPILER)?;
    let dir = workspace::cache_dir()?
        .join("linux")
        .join(format!("{SUITE}-arm64"));
    fs::create_dir_all(&dir).map_err(at(&dir))?;
    let kernel = match machine {
        Machine::Virt => virt(&dir)?,
        Machine::Espressobin { .. } => {
            let files = Files::fetch(SUITE)?;
            Kernel {
                modules: files.module_files().collect(),
                image: files.kernel,
                version: files.release,
                // The server finds its interfaces in its environment, where the kernel puts what it does not know.
                append: Some("maxcpus=1 interfaces=wan,lan0,lan1"),
            }
        }
    };

    let name = |file: &str| format!("{file}-{}", std::process::id());
    let init = dir.join(name("init"));
    Step::new("aarch64-linux-gnu-gcc")
        .words("-std=gnu11 -O2 -Wall -Wextra -Werror -static -s")
        .arg(
            workspace::root()
                .join("tests/linux/epoll_server.c")
                .to_string_lossy(),
        )
        .arg("-o")
        .arg(init.to_string_lossy())
        .output()?;
    let mut archive = Cpio::default();
    archive.directory("dev");
    archive.character_device("dev/console", 5, 1);
    archive.character_device("dev/urandom", 1, 9);
    archive.directory("modules");
    let mut order = String::new();
    for module in &kernel.modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        archive.file(&format!("modules/{name}"), 0o644, &read(module)?);
        order += &format!("{name}\n");
    }
    archive.file("modules.order", 0o644, order.as_bytes());
    archive.file("init", 0o755, &read(&init)?);
    if !files.is_empty() {
        archive.directory("lib");
        archive.directory("tmp");
    }
    for (place, bytes) in files {
        archive.file(place, 0o755, bytes);
    }
    fs::remove_file(&init).map_err(at(&init))?;
    let suffix = if files.is_empty() { "" } else { "-iperf3" };
    let initrd = dir.join(match machine {
        Machine::Virt => format!("initrd-virt{suffix}"),
        Machine::Espressobin { .. } => format!("initrd-espressobin{suffix}"),
    });
    workspace::write_whole(&initrd, &archive.finish())?;
    Ok(System {
        name: format!("Linux {}", kernel.version.trim()),
        kernel: kernel.image,
        initrd: Some(initrd),
        append: kernel.append,
    })
}

/// The kernel for QEMU's own machine.
fn virt(dir: &Path) -> Result<Kernel> {
    if !dir.join("version").exists() {
        fetch(dir)?;
    }
    let modules = MODULES.map(|module| dir.join(format!("{module}.ko")));
    Ok(Kernel {
        image: dir.join("vmlinuz"),
        version: fs::read_to_string(dir.join("version")).map_err(at(dir))?,
        modules: modules.to_vec(),
        append: None,
    })
}

/// Downloads the kernel package that the release stands for and keeps the few files of it that are used.
fn fetch(dir: &Path) -> Result<()> {
    let apt = PrivateApt::open(SUITE, "arm64")?;
    let Some(package) = apt
        .depends(KERNEL)?
        .into_iter()
        .find(|name| name.starts_with("linux-image-"))
    else {
        return failure(format!("{KERNEL} of {SUITE} stands for no kernel"));
    };
    let deb = apt.download_deb(&package)?;
    let modules = MODULES.map(|module| format!("*/{module}.ko"));
    let mut patterns = vec!["./boot/vmlinuz-*"];
    patterns.extend(modules.iter().map(String::as_str));
    extract_deb(&deb, &patterns, dir)?;
    let version = package.trim_start_matches("linux-image-");
    let kernel = dir.join(format!("vmlinuz-{version}"));
    fs::rename(&kernel, dir.join("vmlinuz")).map_err(at(&kernel))?;
    // `linux-image-6.1.0-56-arm64_6.1.192-2_arm64.deb`: the version is in the middle.
    let name = deb.file_name().unwrap_or_default().to_string_lossy();
    let version = name.split('_').nth(1).unwrap_or(version).to_owned();
    fs::remove_file(&deb).map_err(at(&deb))?;
    // Written last: it says that everything is there.
    fs::write(dir.join("version"), version).map_err(at(dir))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).map_err(at(file))
}

/// An archive in the form the kernel reads as an initramfs ("newc": Documentation/driver-api/early-userspace/
/// buffer-format.rst): a header of 110 bytes in hexadecimal digits, the name, the contents, each padded to 4 bytes.
#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

impl Cpio {
    fn directory(&mut self, name: &str) {
        self.entry(name, 0o040_755, (0, 0), &[]);
    }

    fn character_device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, 0o020_600, (major, minor), &[]);
    }

    fn file(&mut self, name: &str, permissions: u32, contents: &[u8]) {
        self.entry(name, 0o100_000 | permissions, (0, 0), contents);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        self.entries += 1;
        // inode, mode, uid, gid, links, time, size, the file's own device, the device it stands for, name, checksum
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            length(contents.len()),
            0,
            0,
            device.0,
            device.1,
            length(name.len() + 1),
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").into_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_headers_names_and_padding() {
        let mut archive = Cpio::default();
        archive.file("init", 0o755, b"12345");
        let bytes = archive.finish();
        let header = "070701\
                      00000001000081ed000000000000000000000001000000000000000500000000000000000000000000000000\
                      0000000500000000";
        assert_eq!(&bytes[..110], header.as_bytes());
        assert_eq!(
            &bytes[110..124],
            b"init\0\0"
                .iter()
                .copied()
                .chain(*b"12345\0\0\0")
                .collect::<Vec<_>>()
        );
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes[124..].starts_with(b"070701"));
        assert!(bytes.windows(11).any(|window| window == b"TRAILER!!!\0"));
    }
}
