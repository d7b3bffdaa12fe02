//! Builds the plugin that counts guest instructions, for the very QEMU that runs.
//!
//! Debian's QEMU loads plugins but comes without the header to build them, so that one file is taken from the source
//! package of the same version and kept in the cache. Ours has it among its own source.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Result, at, failure};
use crate::packages::{self, Package};
use crate::private_apt::{PrivateApt, extract_tar};
use crate::qemu;
use crate::step::Step;
use crate::workspace;

const COMPILER: Package = Package {
    name: "gcc",
    brings: "gcc",
    why: "to compile the plugin that counts instructions",
};

/// Compiles the plugin for the installed QEMU and returns its path.
///
/// # Errors
///
/// If this QEMU does not say which source package it was built from, that package is not to be had, or the compiler
/// refuses.
pub fn build(qemu: &str) -> Result<PathBuf> {
    let version = Step::new(qemu).arg("--version").output()?;
    let Some(source) = source_version(&version) else {
        let first = version.lines().next().unwrap_or_default();
        return failure(format!(
            "{qemu} names no source package to take its plugin header from: {first}"
        ));
    };
    let dir = workspace::cache_dir()?.join("plugin").join(source);
    if !dir.join("qemu-plugin.h").exists() {
        fetch_header(source, &dir)?;
    }
    compile(&dir, &dir)
}

/// Compiles the plugin for the QEMU with our machine, which is there already.
///
/// # Errors
///
/// If the compiler refuses.
pub fn build_for_board() -> Result<PathBuf> {
    let dir = workspace::cache_dir()?.join("plugin/espressobin");
    fs::create_dir_all(&dir).map_err(at(&dir))?;
    compile(&qemu::plugin_header_dir()?, &dir)
}

/// Compiles it with the header in one directory into another. Two checkouts may do so at once.
fn compile(header: &Path, dir: &Path) -> Result<PathBuf> {
    packages::ensure(&[COMPILER])?;
    let sources = workspace::root().join("qemu/plugin");
    let fresh = dir.join(format!("libcount-{}.so", std::process::id()));
    let plugin = dir.join("libcount.so");
    Step::new("gcc")
        .words("-std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -O2 -shared -fPIC")
        .arg(format!("-I{}", header.display()))
        .arg(format!("-I{}", sources.join("stub").display()))
        .arg(sources.join("count.c").to_string_lossy())
        .arg("-o")
        .arg(fresh.to_string_lossy())
        .output()?;
    fs::rename(&fresh, &plugin).map_err(at(&plugin))?;
    Ok(plugin)
}

/// Takes the header out of the source package of that version, and leaves the rest.
fn fetch_header(source: &str, dir: &Path) -> Result<()> {
    let suite = Step::new("sh")
        .args(["-c", ". /etc/os-release && echo $VERSION_CODENAME"])
        .output()?;
    let apt = PrivateApt::open(suite.trim(), "amd64")?;
    let archive = apt.download_source_file("qemu", Some(source), ".orig.tar.xz")?;
    extract_tar(&archive, &["*/qemu-plugin.h"], dir)?;
    fs::remove_file(&archive).map_err(at(&archive))
}

/// `QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)` was built from `1:7.2+dfsg-7+deb12u18`: a suffix
/// `+bN` counts rebuilds of the same source.
fn source_version(version: &str) -> Option<&str> {
    let package = version
        .lines()
        .next()?
        .split_once("(Debian ")?
        .1
        .strip_suffix(')')?;
    match package.rsplit_once("+b") {
        Some((source, rebuild)) if rebuild.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(source)
        }
        _ => Some(package),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_package_is_told_from_the_version() {
        let debian =
            "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright ...";
        assert_eq!(source_version(debian), Some("1:7.2+dfsg-7+deb12u18"));
        let first_build = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\n";
        assert_eq!(source_version(first_build), Some("1:10.0.2+ds-2"));
        assert_eq!(source_version("QEMU emulator version 9.0.0\n"), None);
    }
}
