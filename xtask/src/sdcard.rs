//! `./x sdcard`: a card that an ESPRESSObin boots from with the U-Boot it has.
//!
//! ```text
//! 0        partition table
//! 1 MiB    ext4, bootable     /boot.scr            what U-Boot's distro boot runs
//!                             /boot/Image          /boot/dtb/marvell/*.dtb    /boot/boot.cmd, the script's source
//! 48 MiB   FAT16              ristretto.txt        the one file people edit
//!                             readme.txt           licences/
//! 64 MiB
//! ```
//!
//! The files come from `boards/espressobin`, the trees from Debian's kernel package. Neither root nor a loop device is
//! needed, and the same Image and trees make the same bytes.

mod ext4;
mod fat;
mod mbr;
mod uimage;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::args::{Command, Opt, Parsed};
use crate::build;
use crate::error::{Error, Result, at};
use crate::packages;
use crate::qemu;
use crate::step::Step;
use crate::workspace::{out_dir, root, write_whole};
use mbr::Partition;

/// The row in the table of commands.
pub const COMMAND: Command = Command {
    name: "sdcard",
    summary: "Build out/sdcard.img, which an ESPRESSObin boots from",
    operands: "",
    max_operands: 0,
    takes_rest: false,
    options: &[
        Opt::switch("--quiet", "do not tell how to write it to a card"),
        Opt::switch(
            "--twice",
            "make it again from a copy of the sources elsewhere, and compare",
        ),
    ],
    details: "\
The image is built first. The card has two partitions: one that U-Boot boots from, and one with
ristretto.txt, the settings, which any system can edit. The same sources and tools make the same
card, byte by byte. README.md tells how to use it, docs/decisions/0013-sd-card.md why it is so.",
    run,
};

const MIB: u64 = 1 << 20;
/// Where partition 1 begins and partition 2; the card ends at a power of two, which emulated ones have to.
const BOOT_AT: u64 = MIB;
const SETTINGS_AT: u64 = 48 * MIB;
const END: u64 = 64 * MIB;
const DISK_ID: u32 = 0x5253_544f;

/// The time of every file on the card: the first second of 2020, UTC.
const EPOCH: u32 = 1_577_836_800;

fn run(parsed: &Parsed) -> Result<()> {
    let card = card()?;
    let sum = sha256(&card)?;
    let path = card.display();
    println!("{path}: {} MiB, SHA-256 {sum}", END / MIB);
    if parsed.has("--twice") {
        return compare_with_another(&sum);
    }
    if !parsed.has("--quiet") {
        println!(
            "\nTo write it to a card, with the card's own name in place of sdX (lsblk lists them):\n\
             \n  sudo dd if={path} of=/dev/sdX bs=4M conv=fsync status=progress\n\
             \nThis destroys what is on sdX. Settings are in ristretto.txt on the card's second partition."
        );
    }
    Ok(())
}

fn sha256(file: &Path) -> Result<String> {
    let sum = Step::new("sha256sum")
        .arg(file.display().to_string())
        .output()?;
    Ok(sum.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Makes a card from a copy of the sources in another place, where every file is of today, with nothing built before.
fn compare_with_another(sum: &str) -> Result<()> {
    let elsewhere = std::env::temp_dir().join(format!("another-place-{}", std::process::id()));
    fs::create_dir_all(&elsewhere).map_err(at(&elsewhere))?;
    let other = card_made_in(&elsewhere);
    let _ = fs::remove_dir_all(&elsewhere);
    let other = other?;
    if other == sum {
        println!("ok sdcard-reproducible");
        Ok(())
    } else {
        println!("FAILED sdcard-reproducible: {other} in another place");
        Err(Error::Reported)
    }
}

fn card_made_in(dir: &Path) -> Result<String> {
    let copy = "tar -c --exclude=./target --exclude=./out --exclude=./.git . | tar -x -m -C \"$1\"";
    let copy = Step::new("sh").args(["-c", copy, "sh"]);
    copy.arg(dir.display().to_string()).dir(&root()).output()?;
    Step::new("./x")
        .words("sdcard --quiet")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_MANIFEST_DIR")
        .dir(dir)
        .run()?;
    sha256(&dir.join("out/sdcard.img"))
}

/// Builds the image and `out/sdcard.img` with it.
///
/// # Errors
///
/// If the image cannot be built, or what the card takes cannot be had.
pub fn card() -> Result<PathBuf> {
    packages::ensure(&[ext4::PACKAGE, fat::PACKAGE])?;
    let image = build::sound_image()?.image;
    let trees = qemu::devicetrees(qemu::TREE_SUITES[0])?;
    let out = out_dir()?;
    let work = out.join(format!("sdcard.{}", std::process::id()));
    let made = assemble(&work, &image, &trees);
    let card = out.join("sdcard.img");
    let made = made.and_then(|draft| fs::rename(&draft, &card).map_err(at(&card)));
    let _ = fs::remove_dir_all(&work);
    made.map(|()| card)
}

/// Makes the card in a directory of its own; returns its path there.
fn assemble(work: &Path, image: &Path, trees: &Path) -> Result<PathBuf> {
    let (boot, settings) = (work.join("boot"), work.join("settings"));
    fill_boot(&boot, image, trees)?;
    let names = fill_settings(&settings, trees)?;
    let (ext4_image, fat_image) = (work.join("ext4.img"), work.join("fat.img"));
    ext4::make(&ext4_image, SETTINGS_AT - BOOT_AT, &boot)?;
    fat::make(
        &fat_image,
        SETTINGS_AT,
        END - SETTINGS_AT,
        &settings,
        &names,
    )?;

    let partitions = [
        Partition {
            kind: mbr::LINUX,
            bootable: true,
            at: BOOT_AT,
            bytes: SETTINGS_AT - BOOT_AT,
        },
        Partition {
            kind: mbr::FAT16,
            bootable: false,
            at: SETTINGS_AT,
            bytes: END - SETTINGS_AT,
        },
    ];
    let card = work.join("sdcard.img");
    let file = File::create(&card).map_err(at(&card))?;
    let put = |bytes: &[u8], offset| file.write_all_at(bytes, offset).map_err(at(&card));
    file.set_len(END).map_err(at(&card))?;
    put(&mbr::sector(DISK_ID, &partitions), 0)?;
    put(&read(&ext4_image)?, BOOT_AT)?;
    put(&read(&fat_image)?, SETTINGS_AT)?;
    Ok(card)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(at(path))
}

/// A file of `boards/espressobin`.
fn ours(name: &str) -> Result<Vec<u8>> {
    read(&root().join("boards/espressobin").join(name))
}

/// What the first partition has in it.
fn fill_boot(dir: &Path, image: &Path, trees: &Path) -> Result<()> {
    let put = |name: &str, content: &[u8]| {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(at(parent))?;
        }
        write_whole(&path, content)
    };
    put("boot.scr", &uimage::script(&ours("boot.cmd")?))?;
    put("boot/boot.cmd", &ours("boot.cmd")?)?;
    put(
        "extlinux/extlinux.conf.example",
        &ours("extlinux.conf.example")?,
    )?;
    put("boot/Image", &read(image)?)?;
    put("boot/dtb/licence", &read(&trees.join(qemu::TREES_LICENCE))?)?;
    for entry in fs::read_dir(trees).map_err(at(trees))? {
        let path = entry.map_err(at(trees))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".dtb") {
            put(&format!("boot/dtb/marvell/{name}"), &read(&path)?)?;
        }
    }
    Ok(())
}

/// What the second partition has in it, as text that every system shows; returns the names in order.
fn fill_settings(dir: &Path, trees: &Path) -> Result<Vec<String>> {
    let licence = |name: &str| read(&root().join(name));
    let files = [
        ("ristretto.txt", ours("ristretto.txt")?),
        ("readme.txt", ours("readme.txt")?),
        ("licences/mit.txt", licence("LICENSE-MIT")?),
        ("licences/apache.txt", licence("LICENSE-APACHE")?),
        ("licences/gpl-2.txt", licence("LICENSE-GPL2")?),
        ("licences/notices.txt", licence("THIRD-PARTY-NOTICES.md")?),
        (
            "licences/devicetrees.txt",
            read(&trees.join(qemu::TREES_LICENCE))?,
        ),
    ];
    let mut names = vec!["licences/".to_owned()];
    fs::create_dir_all(dir.join("licences")).map_err(at(dir))?;
    for (name, content) in files {
        let text = String::from_utf8_lossy(&content).replace('\n', "\r\n");
        let path = dir.join(name);
        fs::write(&path, text).map_err(at(&path))?;
        names.push(name.to_owned());
    }
    Ok(names)
}
