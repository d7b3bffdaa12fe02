//! An ext4 file system that the oldest U-Boot in use can read, made by `mke2fs -d`.
//!
//! mke2fs copies owner, permissions and times of the files as they are on this machine. Those are set to the same ones
//! for everybody afterwards, in place: without checksums of metadata there is nothing else to keep in step.

use std::fs;
use std::path::Path;

use super::EPOCH;
use crate::error::{Error, Result, at};
use crate::packages::Package;
use crate::step::Step;

/// What this takes.
pub const PACKAGE: Package = Package {
    name: "e2fsprogs",
    // Not on everybody's PATH.
    brings: MKE2FS,
    why: "makes the card's ext4 partition",
};
const MKE2FS: &str = "/sbin/mke2fs";

/// All features, so that neither this machine's settings nor a newer mke2fs can add one. U-Boot of 2015 to 2018 reads
/// these and refuses or misreads `64bit`, `metadata_csum` and `orphan_file`; a journal would have to be replayed.
const FEATURES: &str = "none,filetype,extent,sparse_super,large_file,extra_isize";

/// Makes the file `image` with everything in `dir`.
///
/// # Errors
///
/// If mke2fs is not there or complains, or makes something other than it was asked for.
pub fn make(image: &Path, bytes: u64, dir: &Path) -> Result<()> {
    fs::File::create(image)
        .and_then(|file| file.set_len(bytes))
        .map_err(at(image))?;
    Step::new(MKE2FS)
        .words("-q -F -t ext4 -b 4096 -I 256 -N 128 -m 0 -L ristretto -O")
        .arg(FEATURES)
        .words("-U 72697374-7265-4774-8f2d-626f6f740001")
        .arg("-E")
        .arg("hash_seed=72697374-7265-4774-8f2d-626f6f740002,root_owner=0:0,lazy_itable_init=0")
        .arg("-d")
        .arg(dir.display().to_string())
        .arg(image.display().to_string())
        .env("MKE2FS_CONFIG", "/dev/null")
        .env("E2FSPROGS_FAKE_TIME", EPOCH.to_string())
        .output()?;
    let mut content = fs::read(image).map_err(at(image))?;
    equalize(&mut content).ok_or_else(|| {
        Error::Failure(format!("{MKE2FS} did not make one group of blocks of 4096"))
    })?;
    fs::write(image, content).map_err(at(image))
}

/// Gives every file owner 0, the same permissions and the same times.
///
/// Spec: Linux, Documentation/filesystems/ext4: super block at 1024, group descriptors in the block behind it.
fn equalize(image: &mut [u8]) -> Option<()> {
    let word = |image: &[u8], at: usize| {
        let bytes = image.get(at..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes) as usize)
    };
    const SUPER: usize = 1024;
    const BLOCK: usize = 4096;
    let inodes = word(image, SUPER)?;
    let (log_block, per_group) = (word(image, SUPER + 24)?, word(image, SUPER + 40)?);
    let inode_bytes = word(image, SUPER + 88)? & 0xffff;
    let table = word(image, BLOCK + 8)?.checked_mul(BLOCK)?;
    if (log_block, per_group, inode_bytes) != (2, inodes, 256) {
        return None;
    }
    let table = image.get_mut(table..)?.get_mut(..inodes * inode_bytes)?;
    for inode in table.chunks_exact_mut(inode_bytes) {
        let mode = match inode[1] >> 4 {
            0 => continue,
            4 => 0o040_755_u16,
            _ => 0o100_644,
        };
        inode[..2].copy_from_slice(&mode.to_le_bytes());
        // User and group, lower and upper halves.
        for at in [2, 24, 0x78, 0x7a] {
            inode[at..at + 2].fill(0);
        }
        // Access, change, modification, creation; then their fractions.
        for at in [8, 12, 16, 0x90] {
            inode[at..at + 4].copy_from_slice(&EPOCH.to_le_bytes());
        }
        for at in [0x84, 0x88, 0x8c, 0x94] {
            inode[at..at + 4].fill(0);
        }
    }
    Some(())
}
