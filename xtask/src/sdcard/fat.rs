//! A FAT16 file system, made by mtools.

use std::path::Path;

use super::{EPOCH, mbr::SECTOR};
use crate::error::Result;
use crate::packages::Package;
use crate::step::Step;

/// What this takes.
pub const PACKAGE: Package = Package {
    name: "mtools",
    brings: "mtools",
    why: "makes the card's FAT partition",
};

/// Makes the file `image`, which begins at this byte of its disk, with all files of a directory and of its
/// subdirectories, as `names` has them: in order, a name with a slash at its end is a directory.
///
/// # Errors
///
/// If mtools is not there or complains.
pub fn make(image: &Path, at: u64, bytes: u64, dir: &Path, names: &[String]) -> Result<()> {
    let tool = |name: &str| {
        Step::new("mtools")
            .args(["-c", name, "-i"])
            .arg(image.display().to_string())
            // Neither the user's settings nor time and place matter.
            .env("MTOOLSRC", "/dev/null")
            .env("TZ", "UTC")
            .env("SOURCE_DATE_EPOCH", EPOCH.to_string())
            .env("LC_ALL", "C")
    };
    // Clusters of 2 KiB make it FAT16. Heads and sectors are what everybody writes there.
    tool("mformat")
        .words("-C -h 16 -s 63 -c 4 -N 52495354 -v RISTRETTO")
        .arg("-T")
        .arg((bytes / SECTOR).to_string())
        .arg("-H")
        .arg((at / SECTOR).to_string())
        .arg("::")
        .output()?;
    for name in names {
        let there = format!("::/{name}");
        match name.strip_suffix('/') {
            Some(_) => tool("mmd").arg(there.trim_end_matches('/')).output()?,
            None => tool("mcopy")
                .arg(dir.join(name).display().to_string())
                .arg(there)
                .output()?,
        };
    }
    Ok(())
}
