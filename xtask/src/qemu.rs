//! `./x qemu`: QEMU with the machine `espressobin`, built from the distribution's source and kept in the cache.
//!
//! ```text
//! ~/.cache/ristretto/qemu/10.0.13/
//!     source/                     unpacked once, with our files added
//!     python/  build/             meson, and QEMU's objects
//!     lock                        held while something is built
//!     KEY/qemu-system-aarch64     KEY is the hash of everything of ours that went in
//! ```
//!
//! Nothing is built if the binary for the present key is there, so two checkouts do not disturb each other.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::args::{Command, Opt, Parsed};
use crate::error::{Result, at, failure, usage};
use crate::linux;
use crate::packages::{self, Package};
use crate::private_apt::{PrivateApt, check_sha256, extract_deb};
use crate::step::Step;
use crate::toolchain;
use crate::uboot;
use crate::workspace::{cache_dir, root, target_dir, write_whole};

/// The row in the table of commands.
pub const COMMAND: Command = Command {
    name: "qemu",
    summary: "Build QEMU with the machine espressobin, or say where it is",
    operands: "[doubts|faults|linux [PROOF...]]",
    max_operands: 16,
    takes_rest: false,
    options: &[
        Opt::switch("--print", "print nothing but the path of the binary"),
        Opt::value(
            "--machine",
            "OPTIONS",
            "linux: options of the machine, such as doubts=NAME:READING",
        ),
        Opt::value(
            "--suite",
            "NAME",
            "linux: Debian release of the kernel, bookworm if not given, or trixie",
        ),
        Opt::value(
            "--mib",
            "N",
            "linux: what each socket moves each way, 64 if not given",
        ),
    ],
    details: "\
The source comes from Debian by a private apt root, only two machines are built, and the
result stays in the cache: the second time there is nothing to do. The binary also knows
QEMU's own machine virt.

`./x qemu doubts` lists what the sources leave open about the hardware, with the readings
that `-M espressobin,doubts=NAME:READING` takes (the first is in force if none is given, and
`doubts=flipped` is the last one of each);
`./x qemu faults` lists the misbehaviour that `faults=NAME=VALUE*COUNT` asks for.

`./x qemu linux` boots Debian's unmodified Linux on the machine, with the tree and the drivers
it has for this board, once for each proof (scripts in tests/linux; all if none is named):
network, bridge, isolation, termination, vlan, ethtool, flap, dsa.",
    run,
};

/// The release whose QEMU is taken, the version, and the source's hash.
const SUITE: &str = "trixie";
const VERSION: &str = "10.0.13";
const SOURCE_SHA256: &str = "6a0888e806c2ffc0c5f0733e974f9aea55491950d3c47c98669c8b236dde59ae";

const BINARY: &str = "qemu-system-aarch64";

const PACKAGES: &[Package] = &[
    Package {
        name: "gcc",
        brings: "cc",
        why: "QEMU is written in C",
    },
    Package {
        name: "pkg-config",
        brings: "pkg-config",
        why: "QEMU's build finds libraries with it",
    },
    Package {
        name: "ninja-build",
        brings: "ninja",
        why: "QEMU's build runs on it",
    },
    Package {
        name: "python3-venv",
        brings: "python3",
        why: "QEMU's build is configured with it",
    },
    Package {
        name: "xz-utils",
        brings: "xz",
        why: "unpacks QEMU's source",
    },
    Package {
        name: "flex",
        brings: "flex",
        why: "QEMU's configure asks for it",
    },
    Package {
        name: "bison",
        brings: "bison",
        why: "QEMU's configure asks for it",
    },
    Package {
        name: "libglib2.0-dev",
        brings: "/usr/include/glib-2.0/glib.h",
        why: "QEMU's base library",
    },
    Package {
        name: "libslirp-dev",
        brings: "/usr/include/slirp/libslirp.h",
        why: "QEMU's user mode network",
    },
    Package {
        name: "libfdt-dev",
        brings: "/usr/include/libfdt.h",
        why: "QEMU reads devicetrees with it",
    },
    Package {
        name: "zlib1g-dev",
        brings: "/usr/include/zlib.h",
        why: "QEMU needs it",
    },
];

const CONFIGURE: &str = "--target-list=aarch64-softmmu --without-default-features --without-default-devices \
    --with-devices-aarch64=ristretto --enable-tcg --enable-slirp --enable-plugins --enable-fdt=system \
    --disable-install-blobs --disable-docs --disable-werror --disable-tools --disable-download \
    --disable-debug-info";

fn run(parsed: &Parsed) -> Result<()> {
    let words: Vec<&str> = parsed.operands.iter().map(String::as_str).collect();
    match words[..] {
        [] => {
            let quiet = parsed.has("--print");
            let binary = binary(quiet)?;
            println!("{}", binary.display());
            Ok(())
        }
        ["doubts"] => {
            for doubt in espressobin_model::doubts::all() {
                let readings = doubt.readings.join(" | ");
                println!("{}: {readings}\n    {}", doubt.name, doubt.about);
            }
            Ok(())
        }
        ["faults"] => {
            for fault in espressobin_model::faults::FAULTS {
                println!("{}\n    {}", fault.name, fault.about);
            }
            Ok(())
        }
        ["linux", ..] => {
            let machine = parsed
                .value("--machine")
                .map_or_else(String::new, |options| format!(",{options}"));
            let suite = parsed.value("--suite").unwrap_or(linux::SUITE);
            if !TREE_SUITES.contains(&suite) {
                return usage(format!("--suite is bookworm or trixie, not `{suite}`"));
            }
            linux::prove(&linux::Request {
                names: &parsed.operands[1..],
                suite,
                machine: &machine,
                mib: parsed.number("--mib")?.unwrap_or(64),
            })
        }
        _ => usage(format!(
            "`./x qemu` takes doubts, faults or linux, not `{}`",
            words.join(" ")
        )),
    }
}

/// The emulator with our machine; built first if it is not there. With `quiet`, standard output stays empty.
///
/// # Errors
///
/// If something is missing and cannot be had, or a step of the build fails.
pub fn binary(quiet: bool) -> Result<PathBuf> {
    let cache = cache_dir()?.join("qemu").join(VERSION);
    let kept = cache.join(key()?);
    let binary = kept.join(BINARY);
    if binary.is_file() {
        return Ok(binary);
    }
    fs::create_dir_all(&kept).map_err(at(&kept))?;
    let lock = cache.join("lock");
    let held = File::create(&lock).map_err(at(&lock))?;
    held.lock().map_err(at(&lock))?;
    if !binary.is_file() {
        build(&Work { cache, quiet }, &binary)?;
    }
    Ok(binary)
}

/// Where the plugin interface of [`binary`] is declared.
///
/// # Errors
///
/// If there is no cache.
pub fn plugin_header_dir() -> Result<PathBuf> {
    let source = cache_dir()?.join("qemu").join(VERSION).join("source");
    Ok(source.join("include/qemu"))
}

/// The releases whose kernel packages have the board's devicetrees; the first one's is used where one will do.
pub const TREE_SUITES: [&str; 2] = ["bookworm", "trixie"];
/// The board as `./x run espressobin` and most tests have it.
const TREE: &str = "armada-3720-espressobin.dtb";

/// The devicetree of the board as Linux has it.
///
/// # Errors
///
/// If the package cannot be had.
pub fn devicetree() -> Result<PathBuf> {
    Ok(devicetrees(TREE_SUITES[0])?.join(TREE))
}

/// Whence the trees are and what the package says about their licence, beside them.
pub const TREES_LICENCE: &str = "licence";

/// A directory with the trees of all ESPRESSObins, from the kernel package of a release, and [`TREES_LICENCE`].
///
/// # Errors
///
/// If the package cannot be had.
pub fn devicetrees(suite: &str) -> Result<PathBuf> {
    let into = cache_dir()?.join("devicetree").join(suite);
    if !into.join(TREES_LICENCE).is_file() {
        let apt = PrivateApt::open(suite, "arm64")?;
        let kernel = apt.depends("linux-image-arm64")?;
        let Some(kernel) = kernel.first() else {
            return failure(format!("{suite} has no kernel for arm64"));
        };
        let package = apt.download_deb(kernel)?;
        extract_deb(&package, &["*/marvell/armada-3720-espressobin*.dtb"], &into)?;
        extract_deb(&package, &["./usr/share/doc/*/copyright"], &into)?;
        let copyright = into.join("copyright");
        let copyright = fs::read_to_string(&copyright).map_err(at(&copyright))?;
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        let whence = format!(
            "The devicetrees are from Debian's package {name}. Their source is in Debian's source package\n\
             linux of that version, which https://snapshot.debian.org/package/linux/ keeps; each says at its\n\
             top that it is under GPL-2.0-or-later or MIT, as you like. The package's own words follow.\n\n"
        );
        // Last: it says that all is there.
        write_whole(&into.join(TREES_LICENCE), (whence + &copyright).as_bytes())?;
    }
    Ok(into)
}

/// Everything that the system tests of the board want of the cache. Returns the emulator.
///
/// # Errors
///
/// If something cannot be had.
pub fn for_tests() -> Result<PathBuf> {
    for suite in TREE_SUITES {
        devicetrees(suite)?;
    }
    uboot::fetch()?;
    binary(true)
}

/// Hash of our side of the build.
fn key() -> Result<String> {
    let mut files = Vec::new();
    for dir in ["qemu/model/src", "qemu/machine"] {
        collect(&root().join(dir), &mut files)?;
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    (VERSION, SOURCE_SHA256, CONFIGURE).hash(&mut hasher);
    for file in files {
        file.strip_prefix(root()).unwrap_or(&file).hash(&mut hasher);
        fs::read(&file).map_err(at(&file))?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let path = entry.map_err(at(dir))?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_none_or(|extension| extension != "md") {
            files.push(path);
        }
    }
    Ok(())
}

/// One build.
struct Work {
    cache: PathBuf,
    quiet: bool,
}

impl Work {
    /// Runs a step; its output goes to a log, as ten thousand lines help nobody.
    fn step(&self, log: &str, step: &Step) -> Result<()> {
        let log = self.cache.join(log);
        if self.quiet {
            eprintln!("+ {}", step.line());
        } else {
            step.announce();
        }
        let script = format!("{{ {}; }} >{} 2>&1", step.line(), log.display());
        let shell = Step::new("sh").args(["-c", &script]).dir(&self.cache);
        if shell.output().is_ok() {
            return Ok(());
        }
        let text = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(15)..] {
            eprintln!("{line}");
        }
        failure(format!(
            "building QEMU failed; all of its output is in {}",
            log.display()
        ))
    }
}

fn build(work: &Work, binary: &Path) -> Result<()> {
    packages::ensure(PACKAGES)?;
    let source = work.cache.join("source");
    // The parts of QEMU's own files that are ours are woven in when it is unpacked.
    let ours = root().join("qemu/machine");
    let text = |name: &str| {
        let path = ours.join(name);
        fs::read_to_string(&path).map_err(at(&path))
    };
    let (kconfig, meson) = (text("Kconfig")?, text("meson.build")?);
    let woven = format!("{SOURCE_SHA256}{kconfig}{meson}");
    if !holds(&source.join("woven"), &woven) {
        unpack(work, &source, &kconfig, &meson)?;
        write_whole(&source.join("woven"), woven.as_bytes())?;
    }
    let library = model_library(work)?;
    add_ours(&source, &library)?;
    let python = python(work)?;

    let build = work.cache.join("build");
    if !holds(&build.join("configured"), CONFIGURE) {
        let _ = fs::remove_dir_all(&build);
    }
    fs::create_dir_all(&build).map_err(at(&build))?;
    let path = format!(
        "{}:{}",
        python.parent().unwrap_or(&python).display(),
        std::env::var("PATH").unwrap_or_default()
    );
    if !build.join("configured").is_file() {
        let script = format!(
            "cd {} && {}/configure --python={} {CONFIGURE}",
            build.display(),
            source.display(),
            python.display()
        );
        let configure = Step::new("sh").args(["-c", &script]).env("PATH", &path);
        work.step("configure.log", &configure)?;
        write_whole(&build.join("configured"), CONFIGURE.as_bytes())?;
    }
    // Ninja knows our C files, but not the library.
    let built = build.join(BINARY);
    let _ = fs::remove_file(&built);
    let ninja = Step::new("nice")
        .arg("ninja")
        .arg("-C")
        .arg(build.to_string_lossy())
        .arg(BINARY)
        .env("PATH", &path);
    work.step("ninja.log", &ninja)?;
    let content = fs::read(&built).map_err(at(&built))?;
    write_whole(binary, &content)?;
    Step::new("chmod")
        .arg("755")
        .arg(binary.to_string_lossy())
        .output()?;
    Ok(())
}

/// Fetches and unpacks QEMU's source, and makes the two changes it needs to build without what Debian took out.
fn unpack(work: &Work, source: &Path, kconfig: &str, meson: &str) -> Result<()> {
    let archive =
        PrivateApt::open(SUITE, "amd64")?.download_source_file("qemu", None, ".orig.tar.xz")?;
    let name = archive.file_name().unwrap_or_default().to_string_lossy();
    if !name.starts_with(&format!("qemu_{VERSION}")) {
        return failure(format!(
            "{SUITE} now has {name}; VERSION and SOURCE_SHA256 in xtask/src/qemu.rs name {VERSION}: look at the new one and pin it"
        ));
    }
    check_sha256(&archive, SOURCE_SHA256)?;
    let _ = fs::remove_dir_all(source);
    fs::create_dir_all(source).map_err(at(source))?;
    let tar = Step::new("tar")
        .words("-x --no-same-owner --strip-components=1 -C")
        .arg(source.to_string_lossy())
        .arg("-f")
        .arg(archive.to_string_lossy());
    work.step("unpack.log", &tar)?;
    edit(
        &source.join("meson.build"),
        "unpack_edk2_blobs = bzip2.found()",
        "unpack_edk2_blobs = false",
    )?;
    let file = source.join("hw/arm/Kconfig");
    let theirs = fs::read_to_string(&file).map_err(at(&file))?;
    write_whole(&file, (theirs + kconfig).as_bytes())?;
    let first = "arm_ss = ss.source_set()\n";
    edit(
        &source.join("hw/arm/meson.build"),
        first,
        &format!("{first}{meson}"),
    )
}

fn holds(file: &Path, content: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|present| present == content)
}

fn edit(file: &Path, old: &str, new: &str) -> Result<()> {
    let text = fs::read_to_string(file).map_err(at(file))?;
    if !text.contains(old) {
        return failure(format!("{} has no `{}`", file.display(), old.trim()));
    }
    write_whole(file, text.replacen(old, new, 1).as_bytes())
}

/// Puts our files where they belong; one that has not changed is not touched, so ninja has nothing to do.
fn add_ours(source: &Path, library: &Path) -> Result<()> {
    let ours = root().join("qemu/machine");
    let places = [
        (ours.join("espressobin.c"), "hw/arm/espressobin.c"),
        (
            ours.join("espressobin-model.h"),
            "include/hw/arm/espressobin-model.h",
        ),
        (
            ours.join("devices.mak"),
            "configs/devices/aarch64-softmmu/ristretto.mak",
        ),
        (library.to_owned(), "espressobin/libespressobin_ffi.a"),
    ];
    for (from, to) in places {
        let to = source.join(to);
        let content = fs::read(&from).map_err(at(&from))?;
        if fs::read(&to).is_ok_and(|present| present == content) {
            continue;
        }
        if let Some(dir) = to.parent() {
            fs::create_dir_all(dir).map_err(at(dir))?;
        }
        write_whole(&to, &content)?;
    }
    Ok(())
}

/// The board model as a static library.
fn model_library(work: &Work) -> Result<PathBuf> {
    let target = target_dir().join("qemu");
    let cargo = toolchain::host("build")
        .words("--quiet --release --package espressobin-ffi --manifest-path")
        .arg(root().join("Cargo.toml").to_string_lossy())
        .arg("--target-dir")
        .arg(target.to_string_lossy())
        // The image's profile is for a small image; this one is for a quick build.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "1");
    work.step("model.log", &cargo)?;
    Ok(target.join("release/libespressobin_ffi.a"))
}

/// A Python with the meson that this QEMU wants, which is newer than some distributions have.
fn python(work: &Work) -> Result<PathBuf> {
    let dir = work.cache.join("python");
    let python = dir.join("bin/python3");
    if !dir.join("bin/meson").is_file() {
        let venv = Step::new("python3")
            .args(["-m", "venv"])
            .arg(dir.to_string_lossy());
        work.step("python.log", &venv)?;
        let pip = Step::new(python.to_string_lossy()).words(
            "-m pip install --quiet --disable-pip-version-check meson==1.5.2 pycotap==1.3.1",
        );
        work.step("python.log", &pip)?;
    }
    Ok(python)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_proof() {
        for proof in linux::PROOFS {
            assert!(COMMAND.details.contains(proof.name), "{}", proof.name);
        }
    }
}
