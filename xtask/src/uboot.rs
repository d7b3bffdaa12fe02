//! Debian's U-Boot: other people's boot loaders, for the tests of the card.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Result, at};
use crate::private_apt::{PrivateApt, extract_deb};
use crate::workspace::cache_dir;

/// The release whose U-Boot is taken: 2023.01.
const SUITE: &str = "bookworm";

/// Package, the binary in it, and its name in the cache, by which the tests find it.
const BINARIES: [(&str, &str, &str); 2] = [
    (
        "u-boot-mvebu",
        "*/mvebu_espressobin-88f3720/u-boot.bin",
        "mvebu_espressobin.bin",
    ),
    ("u-boot-qemu", "*/qemu_arm64/u-boot.bin", "qemu_arm64.bin"),
];

/// Makes sure that U-Boot for the board, its devicetree, and U-Boot for QEMU's machine virt are in the cache; returns
/// where the two binaries are.
///
/// # Errors
///
/// If a package cannot be had.
pub fn fetch() -> Result<PathBuf> {
    let tree = cache_dir()?.join("devicetree/u-boot");
    if !tree.join("armada-3720-espressobin.dtb").is_file() {
        let deb = PrivateApt::open(SUITE, "arm64")?.download_deb("u-boot-mvebu")?;
        extract_deb(&deb, &["*/mvebu_espressobin-88f3720/*.dtb"], &tree)?;
    }
    let into = cache_dir()?.join("uboot").join(SUITE);
    for (package, file, name) in BINARIES {
        if !into.join(name).is_file() {
            unpack(package, file, &into, name)?;
        }
    }
    Ok(into)
}

fn unpack(package: &str, file: &str, into: &Path, name: &str) -> Result<()> {
    let deb = PrivateApt::open(SUITE, "arm64")?.download_deb(package)?;
    let work = into.join(format!("{}", std::process::id()));
    extract_deb(&deb, &[file], &work)?;
    let to = into.join(name);
    fs::rename(work.join("u-boot.bin"), &to).map_err(at(&to))?;
    fs::remove_dir_all(&work).map_err(at(&work))
}
