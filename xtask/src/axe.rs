//! axe-core, which tells whether everybody can use a page: a script that the tests run in it. Kept in the cache.

use std::fs;

use crate::error::{Result, at};
use crate::step::Step;
use crate::workspace;

/// What npm's registry has under this name and version stays the same; npm compares its checksum.
const PACKAGE: &str = "axe-core";
const VERSION: &str = "4.10.3";

/// Fetches it, if it is not there yet.
///
/// # Errors
///
/// If npm cannot be run, or its registry not be reached.
pub fn fetch() -> Result<()> {
    let dir = workspace::cache_dir()?.join(PACKAGE).join(VERSION);
    if dir.join("package/axe.min.js").exists() {
        return Ok(());
    }
    fs::create_dir_all(&dir).map_err(at(&dir))?;
    let pack = Step::new("npm")
        .arg("pack")
        .arg(format!("{PACKAGE}@{VERSION}"));
    let pack = pack
        .arg("--pack-destination")
        .arg(dir.display().to_string());
    pack.announce();
    pack.output()?;
    let archive = dir.join(format!("{PACKAGE}-{VERSION}.tgz"));
    let unpack = Step::new("tar")
        .arg("-xzf")
        .arg(archive.display().to_string());
    let unpack = unpack.arg("-C").arg(dir.display().to_string());
    unpack.arg("package/axe.min.js").output().map(|_| ())
}
