//! `./x build`: compiles the image, and shows what is in it.

use std::fs;
use std::path::PathBuf;

use crate::args::{Command, Opt, Parsed};
use crate::elf::Elf;
use crate::error::{Error, Result, at, failure};
use crate::image::{self, Check};
use crate::toolchain::{TARGET, Toolchain};
use crate::workspace;

/// The crate whose program is the image.
const PACKAGE: &str = "firmware";

/// The row in the table of commands.
pub const COMMAND: Command = Command {
    name: "build",
    summary: "Build out/Image and out/ristretto.elf, and show their sizes",
    operands: "",
    max_operands: 0,
    takes_rest: false,
    options: &[Opt::switch("--quiet", "say nothing about a sound image")],
    details: "\
out/Image is what boots: an arm64 Image, the same for every machine, packed; it unpacks itself.
out/ristretto.elf is the same with symbols and debug information, for gdb and addr2line, and not
packed. The image is checked on the way: its header, its permissions, that it unpacks to what was
packed, and that no code in it trips errata 843419 or 835769 of the CPU.",
    run,
};

/// A finished image.
pub struct Built {
    /// The image, packed.
    pub image: PathBuf,
    /// The ELF file it was made from.
    pub elf: PathBuf,
    /// What was checked.
    pub checks: Vec<Check>,
    /// Section sizes, for people.
    pub sizes: String,
}

fn run(parsed: &Parsed) -> Result<()> {
    if parsed.has("--quiet") {
        return sound_image().map(|_| ());
    }
    let built = image()?;
    print!("{}", built.sizes);
    println!("{}\n{}", built.image.display(), built.elf.display());
    built.judge(|line| println!("{line}"))
}

/// Builds `out/Image` and `out/ristretto.elf`, for a command that goes on to use them.
///
/// # Errors
///
/// If there is no toolchain, the compiler fails, or the image fails a check; too large a size is only a warning.
pub fn sound_image() -> Result<Built> {
    let built = image()?;
    built.judge(|_| {})?;
    Ok(built)
}

impl Built {
    /// Passes on one line per check, `ok NAME` or `FAILED NAME: reason`, and fails if one failed that matters.
    fn judge(&self, mut on_line: impl FnMut(&str)) -> Result<()> {
        let mut worst = Ok(());
        for (name, result) in &self.checks {
            match result {
                Ok(()) => on_line(&format!("ok {name}")),
                Err(complaint) => {
                    on_line(&format!("FAILED {name}: {complaint}"));
                    if *name == "budget" {
                        eprintln!("warning: the image is over its budget: {complaint}");
                    } else {
                        worst = failure(format!("the image fails the check `{name}`: {complaint}"));
                    }
                }
            }
        }
        worst
    }
}

/// Builds both files, and leaves judging the checks to the caller.
///
/// # Errors
///
/// If there is no toolchain, or the compiler fails, or it made no ELF file that can be read.
fn image() -> Result<Built> {
    let toolchain = Toolchain::find()?;
    toolchain
        .cargo("build")?
        .args(["--release", "--package", PACKAGE, "--bin", PACKAGE])
        .args(["--config".to_owned(), toolchain.remap_config()])
        .run()?;
    let linked = workspace::target_dir()
        .join(TARGET)
        .join("release")
        .join(PACKAGE);
    let file = fs::read(&linked).map_err(at(&linked))?;
    let unusable = |complaint| Error::Failure(format!("{}: {complaint}", linked.display()));
    let elf = Elf::parse(&file).map_err(unusable)?;
    let raw = image::from_elf(&elf, &file).map_err(unusable)?;
    let packed = image::pack(&raw).map_err(unusable)?;

    let out = workspace::out_dir()?;
    let (image_path, elf_path) = (out.join("Image"), out.join("ristretto.elf"));
    workspace::write_whole(&elf_path, &file)?;
    workspace::write_whole(&image_path, &packed)?;
    Ok(Built {
        image: image_path,
        elf: elf_path,
        checks: image::check(&elf, &file, &raw, &packed),
        sizes: sizes(&elf, raw.len(), packed.len()),
    })
}

/// One line per section, and the totals in file and memory.
fn sizes(elf: &Elf, raw_bytes: usize, image_bytes: usize) -> String {
    let mut text = String::new();
    for section in &elf.sections {
        let place = if section.in_file { "" } else { "  memory only" };
        text += &format!("{:>10}  {}{place}\n", section.bytes, section.name);
    }
    let memory: u64 = elf
        .segments
        .iter()
        .map(|segment| segment.address + segment.memory_bytes)
        .max()
        .unwrap_or_default();
    let share = image_bytes * 100 / image::BUDGET_BYTES;
    text += &format!("{raw_bytes:>10}  unpacked\n");
    text += &format!(
        "{image_bytes:>10}  out/Image, {share} % of {} KiB\n",
        image::BUDGET_BYTES / 1024
    );
    text + &format!("{memory:>10}  memory at run time\n")
}
