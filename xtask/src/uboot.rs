//! Debian's U-Boot: other people's boot loaders, for the tests of the card.

use std::fs;
use std::path::Path;

use crate::error::{Result, at};
use crate::private_apt::{PrivateApt, extract_deb};
use crate::workspace::cache_dir;

/// The releases whose U-Boots are taken: 2023.01 with distro boot, 2025.01 with standard boot on QEMU's machine virt.
const SUITES: [&str; 2] = ["bookworm", "trixie"];

/// Package, the binary in it, and its name in the cache, by which the tests find it below `uboot/SUITE`.
const BINARIES: [(&str, &str, &str); 2] = [
    (
        "u-boot-mvebu",
        "*/mvebu_espressobin-88f3720/u-boot.bin",
        "mvebu_espressobin.bin",
    ),
    ("u-boot-qemu", "*/qemu_arm64/u-boot.bin", "qemu_arm64.bin"),
];

/// Makes sure that U-Boot for the board and for QEMU's machine virt, and the older one's devicetree, are in the cache.
///
/// # Errors
///
/// If a package cannot be had.
pub fn fetch() -> Result<()> {
    let cache = cache_dir()?;
    let tree = cache.join("devicetree/u-boot");
    if !tree.join("armada-3720-espressobin.dtb").is_file() {
        let deb = PrivateApt::open(SUITES[0], "arm64")?.download_deb("u-boot-mvebu")?;
        extract_deb(&deb, &["*/mvebu_espressobin-88f3720/*.dtb"], &tree)?;
    }
    for suite in SUITES {
        let into = cache.join("uboot").join(suite);
        for (package, file, name) in BINARIES {
            if !into.join(name).is_file() {
                let deb = PrivateApt::open(suite, "arm64")?.download_deb(package)?;
                unpack(&deb, file, &into, name)?;
            }
        }
    }
    Ok(())
}

/// In a directory of its own: all packages call it the same.
fn unpack(deb: &Path, file: &str, into: &Path, name: &str) -> Result<()> {
    let work = into.join(format!("{}", std::process::id()));
    extract_deb(deb, &[file], &work)?;
    let to = into.join(name);
    fs::rename(work.join("u-boot.bin"), &to).map_err(at(&to))?;
    fs::remove_dir_all(&work).map_err(at(&work))
}
