//! `./x bench --profile FIGURE`: in which functions of ours a unit's instructions are executed.
//!
//! The plugin lists every translation block with the instructions executed in it; what a batch adds is put down to the
//! function that each of its instructions is in. Inlined functions count as functions, but those of Rust's own library
//! only where nobody is known to have inlined them: else their instructions are their caller's.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use crate::error::{Result, at, failure};
use crate::packages::{self, Package};
use crate::step::Step;

use super::report::number;

const BINUTILS: Package = Package {
    name: "binutils",
    brings: "addr2line",
    why: "to find the functions of addresses",
};

/// How many functions are shown.
const SHOWN: usize = 40;
/// Functions from below such a directory belong to their caller.
const LIBRARY: &str = "/rustc/";

/// How often the instruction at each address was executed.
#[derive(Default)]
pub struct Blocks {
    executed: HashMap<u64, u64>,
    /// Where the image begins: QEMU's few instructions of boot code are the first block, our entry is the second.
    base: u64,
}

impl Blocks {
    /// Reads the plugin's list as it stands.
    ///
    /// # Errors
    ///
    /// If there is no list.
    pub fn read(file: &Path) -> Result<Self> {
        let bytes = fs::read(file).map_err(at(file))?;
        let words: Vec<u64> = bytes
            .as_chunks()
            .0
            .iter()
            .map(|word| u64::from_ne_bytes(*word))
            .collect();
        let records = words
            .as_chunks()
            .0
            .iter()
            .take_while(|[_, instructions, _]| *instructions != 0);
        let mut executed = HashMap::new();
        let mut base = None;
        for (i, [address, instructions, count]) in records.enumerate() {
            for n in 0..*instructions {
                *executed.entry(address + 4 * n).or_insert(0) += count / instructions;
            }
            if i == 1 {
                base = Some(*address);
            }
        }
        match base {
            Some(base) => Ok(Self { executed, base }),
            None => failure(format!("{}: no image was entered", file.display())),
        }
    }

    /// A table of what was executed since an earlier reading, per unit: each function with its own instructions and
    /// the chain of functions it is inlined in.
    ///
    /// # Errors
    ///
    /// If `addr2line` cannot make sense of the ELF file.
    pub fn table(&self, earlier: &Self, units: f64, elf: &Path) -> Result<String> {
        let functions = self.functions(earlier, elf)?;
        let mut functions: Vec<(String, f64)> = functions
            .into_iter()
            .map(|(chain, count)| (chain, count as f64 / units))
            .collect();
        functions.sort_by(|a, b| b.1.total_cmp(&a.1));
        let total = functions.iter().map(|(_, count)| count).sum::<f64>();
        let line = |(chain, count): &(String, f64)| format!("{:>12}  {chain}\n", number(*count));
        let shown = functions.iter().take(SHOWN).map(line).collect::<String>();
        Ok(format!("{:>12}  in all\n{shown}", number(total)))
    }

    /// The instructions executed since an earlier reading in functions that are, or are inlined in, one whose name has
    /// one of these parts.
    ///
    /// # Errors
    ///
    /// As [`Blocks::table`].
    pub fn within(&self, earlier: &Self, elf: &Path, parts: &[&str]) -> Result<u64> {
        let functions = self.functions(earlier, elf)?;
        let inside = |chain: &str| parts.iter().any(|part| chain.contains(part));
        Ok(functions
            .iter()
            .filter(|(chain, _)| inside(chain))
            .map(|(_, count)| count)
            .sum())
    }

    /// What was executed since an earlier reading in each function, named with those it is inlined in.
    fn functions(&self, earlier: &Self, elf: &Path) -> Result<BTreeMap<String, u64>> {
        packages::ensure(&[BINUTILS])?;
        let since = |(address, count): (&u64, &u64)| {
            let count = count - earlier.executed.get(address).unwrap_or(&0);
            let offset = address.checked_sub(self.base)?;
            (count > 0).then_some((offset, count))
        };
        let counts: Vec<(u64, u64)> = self.executed.iter().filter_map(since).collect();
        let addresses = counts.iter().map(|(offset, _)| format!("{offset:#x}"));
        let listing = Step::new("addr2line")
            .words("-a -f -i -C -e")
            .arg(elf.to_string_lossy())
            .args(addresses)
            .output()?;

        let mut functions = BTreeMap::new();
        for ((_, count), chain) in counts.iter().zip(chains(&listing)) {
            *functions.entry(chain).or_insert(0) += count;
        }
        Ok(functions)
    }
}

/// Reads what `addr2line -a -f -i` prints, for each address: the address, then two lines for each function from the
/// innermost out, its name and its place.
fn chains(listing: &str) -> Vec<String> {
    let mut chains = Vec::new();
    for part in listing.split("\n0x").map(|part| part.trim_end()) {
        let lines: Vec<&str> = part.lines().skip(1).collect();
        let frames: Vec<&str> = lines
            .as_chunks()
            .0
            .iter()
            .filter(|[_, place]| !place.starts_with(LIBRARY))
            .map(|[name, _]| *name)
            .collect();
        // Copying and comparing memory has no caller in the debug information: it stands for itself.
        let outermost = lines
            .as_chunks::<2>()
            .0
            .last()
            .map_or("?", |[name, _]| name);
        chains.push(match frames.is_empty() {
            true => outermost.to_owned(),
            false => frames.join(" < "),
        });
    }
    chains
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_functions_are_their_callers() {
        let listing = "0x0000000000000010\n\
                       core::slice::get\n/rustc/1/library/core/src/slice/mod.rs:1\n\
                       firmware::scan\n/ristretto/control/src/http/head.rs:41\n\
                       firmware::step\n/ristretto/control/src/http/mod.rs:113\n\
                       0x0000000000000020\n\
                       memcpy\n/rustc/1/library/mem.rs:1\n";
        assert_eq!(
            chains(listing),
            ["firmware::scan < firmware::step", "memcpy"]
        );
    }
}
