//! `./x notices`: writes down whose code is in the image, under which licences.
//!
//! The list comes from Cargo, the texts from the crates as published; the same lock file gives the same document.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::args::{Command, Opt, Parsed};
use crate::error::{Result, at, failure};
use crate::toolchain::{self, TARGET};
use crate::workspace;

/// The row in the table of commands.
pub const COMMAND: Command = Command {
    name: "notices",
    summary: "Write THIRD-PARTY-NOTICES.md for the crates in the image",
    operands: "",
    max_operands: 0,
    takes_rest: false,
    options: &[Opt::switch(
        "--check",
        "change nothing, fail if it is out of date",
    )],
    details: "Run it after a change to Cargo.lock; `./x test notices` checks that it was run.",
    run,
};

const FILE: &str = "THIRD-PARTY-NOTICES.md";

const PREAMBLE: &str = "\
# Third-party notices

Written by `./x notices`; do not edit.

The image contains code of the crates below, and of the Rust core and alloc libraries with their compiler
builtins (MIT OR Apache-2.0, parts of the builtins under Apache-2.0 WITH LLVM-exception; source:
https://github.com/rust-lang/rust). Every crate's source, unchanged, is what https://crates.io offers under the
name and version given, at `https://crates.io/api/v1/crates/NAME/VERSION/download`.
";

/// One crate of somebody else.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
    license: String,
    repository: String,
}

fn run(parsed: &Parsed) -> Result<()> {
    let crates = linked_crates()?;
    let mut texts = BTreeMap::new();
    for linked in &crates {
        texts.insert(linked.id(), license_texts(&source_of(linked)?)?);
    }
    let document = document(&crates, &texts);
    let path = workspace::root().join(FILE);
    if !parsed.has("--check") {
        workspace::write_whole(&path, document.as_bytes())?;
        println!("{}: {} crates", path.display(), crates.len());
        return Ok(());
    }
    if fs::read_to_string(&path).unwrap_or_default() == document {
        println!("{FILE} is up to date: {} crates", crates.len());
        Ok(())
    } else {
        failure(format!("{FILE} is out of date; `./x notices` writes it"))
    }
}

impl Crate {
    fn id(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    /// From a line `name v1.2.3|license|repository`; `None` for a crate of this workspace.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('|');
        let mut package = fields.next()?.split_whitespace();
        let (name, version) = (package.next()?, package.next()?.strip_prefix('v')?);
        if package.any(|word| word.starts_with("(/")) {
            return None;
        }
        let field =
            |text: Option<&str>| text.unwrap_or_default().trim_end_matches(" (*)").to_owned();
        Some(Self {
            name: name.to_owned(),
            version: version.to_owned(),
            license: field(fields.next()),
            repository: field(fields.next()),
        })
    }
}

fn linked_crates() -> Result<BTreeSet<Crate>> {
    let tree = toolchain::host("tree")
        .words("--locked --package firmware --edges normal,no-proc-macro --prefix none --target")
        .arg(TARGET)
        .args(["--format", "{p}|{l}|{r}"])
        .output()?;
    let crates: BTreeSet<Crate> = tree.lines().filter_map(Crate::parse).collect();
    match crates.iter().find(|linked| linked.license.is_empty()) {
        Some(linked) => failure(format!("the crate {} names no licence", linked.id())),
        None => Ok(crates),
    }
}

/// The directory with the crate's published source.
fn source_of(linked: &Crate) -> Result<PathBuf> {
    let find = || {
        let registries = fs::read_dir(workspace::cargo_home().join("registry/src")).ok()?;
        registries
            .flatten()
            .map(|registry| registry.path().join(linked.id()))
            .find(|dir| dir.is_dir())
    };
    if let Some(dir) = find() {
        return Ok(dir);
    }
    toolchain::host("fetch").arg("--locked").output()?;
    match find() {
        Some(dir) => Ok(dir),
        None => failure(format!(
            "the source of {} is not in Cargo's registry",
            linked.id()
        )),
    }
}

/// The licence files of a crate: name and text, by name.
fn license_texts(source: &Path) -> Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(source).map_err(at(source))? {
        let path = entry.map_err(at(source))?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_file() && is_license(&name) {
            let text = fs::read(&path).map_err(at(&path))?;
            texts.push((name, normalised(&String::from_utf8_lossy(&text))));
        }
    }
    texts.sort();
    Ok(texts)
}

fn is_license(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    [
        "LICENSE",
        "LICENCE",
        "COPYING",
        "COPYRIGHT",
        "NOTICE",
        "UNLICENSE",
    ]
    .iter()
    .any(|start| upper.starts_with(start))
}

/// Line ends and trailing blanks differ between crates; the words do not.
fn normalised(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

/// A table of the crates, and each different licence text once, with the crates it came with.
fn document(crates: &BTreeSet<Crate>, texts: &BTreeMap<String, Vec<(String, String)>>) -> String {
    let mut document =
        format!("{PREAMBLE}\n| crate | version | licence | source |\n| --- | --- | --- | --- |\n");
    for Crate {
        name,
        version,
        license,
        repository,
    } in crates
    {
        document += &format!("| {name} | {version} | {license} | {repository} |\n");
    }
    let mut owners: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (id, files) in texts {
        if files.is_empty() {
            document += &format!(
                "\n{id} is published without a licence text; its terms are those named in the table.\n"
            );
        }
        for (name, text) in files {
            owners
                .entry(text)
                .or_default()
                .push(format!("{id} ({name})"));
        }
    }
    let mut sections: Vec<(Vec<String>, &str)> =
        owners.into_iter().map(|(text, ids)| (ids, text)).collect();
    sections.sort();
    for (ids, text) in sections {
        document += &format!("\n## {}\n\n```text\n{text}\n```\n", ids.join(", "));
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_tree_become_crates() {
        let parsed =
            Crate::parse("fdt v0.2.0-alpha3|MPL-2.0|https://github.com/repnop/fdt (*)").unwrap();
        assert_eq!(parsed.id(), "fdt-0.2.0-alpha3");
        assert_eq!(
            (parsed.license.as_str(), parsed.repository.as_str()),
            ("MPL-2.0", "https://github.com/repnop/fdt")
        );
        assert_eq!(
            Crate::parse("hal v0.1.0 (/home/me/ristretto/hal)|MIT OR Apache-2.0|"),
            None
        );
        assert_eq!(Crate::parse(""), None);
    }

    #[test]
    fn equal_texts_appear_once() {
        let linked = |name: &str| {
            Crate::parse(&format!("{name} v1.0.0|MIT|https://example.org/{name}")).unwrap()
        };
        let crates = BTreeSet::from([linked("b"), linked("a"), linked("c")]);
        let mit = || {
            vec![(
                "LICENSE".to_owned(),
                normalised("The MIT text \r\n\r\nend\n\n"),
            )]
        };
        let texts = BTreeMap::from([
            ("a-1.0.0".to_owned(), mit()),
            ("b-1.0.0".to_owned(), mit()),
            ("c-1.0.0".to_owned(), vec![]),
        ]);
        let document = document(&crates, &texts);
        assert_eq!(document.matches("The MIT text\n\nend").count(), 1);
        assert!(document.contains("## a-1.0.0 (LICENSE), b-1.0.0 (LICENSE)\n"));
        assert!(document.contains("\nc-1.0.0 is published without a licence text"));
        assert!(document.contains("| a | 1.0.0 | MIT | https://example.org/a |\n| b |"));
    }

    #[test]
    fn licence_files_are_recognised_by_name() {
        assert!(
            is_license("LICENSE-0BSD.txt")
                && is_license("license.md")
                && is_license("COPYING")
                && is_license("UNLICENSE")
        );
        assert!(!is_license("README.md") && !is_license("lib.rs"));
    }
}
