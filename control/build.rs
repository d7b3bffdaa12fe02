//! Packs what the page needs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// What the page needs, in `assets/`: constant, file, kind.
const ASSETS: [(&str, &str, &str); 4] = [
    ("STYLE", "page.css", "text/css; charset=utf-8"),
    ("DRAW", "draw.js", "text/javascript; charset=utf-8"),
    ("TOOLS", "tools.js", "text/javascript; charset=utf-8"),
    ("SCRIPT", "page.js", "text/javascript; charset=utf-8"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pack(&PathBuf::from(env::var("OUT_DIR")?))
}

/// Writes each asset, compressed, and `assets.rs`, the table of them. The name in an asset's path changes with it, so
/// that whoever has it need never ask again.
fn pack(out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let (mut table, mut paths) = (String::new(), String::new());
    for (constant, file, kind) in ASSETS {
        // From this package's folder, where cargo runs this: a checkout may move.
        let source = format!("assets/{file}");
        println!("cargo::rerun-if-changed={source}");
        let mut text = without_comments(&fs::read_to_string(&source)?);
        if file.ends_with(".css") {
            text = tightened(&text);
        }
        let mut packed = Vec::new();
        let (options, format) = (zopfli::Options::default(), zopfli::Format::Gzip);
        zopfli::compress(options, format, text.as_bytes(), &mut packed)?;
        // Its checksum stands before its length, at the end. Spec: RFC 1952, 2.3.1.
        let (crc, _) = packed[packed.len() - 8..].split_at(4);
        let hash: String = crc.iter().map(|byte| format!("{byte:02x}")).collect();
        let (stem, end) = file.rsplit_once('.').ok_or("a file without a kind")?;
        let path = format!("/assets/{stem}.{hash}.{end}");
        fs::write(out.join(file), &packed)?;
        fs::write(out.join(format!("{file}.txt")), &text)?;
        writeln!(
            paths,
            "/// Where `{file}` is.\npub const {constant}: &str = {path:?};"
        )?;
        writeln!(
            table,
            "Asset {{ path: {constant}, kind: {kind:?}, len: {}, gzip: include_bytes!({:?}) }},",
            text.len(),
            out.join(file)
        )?;
    }
    let count = ASSETS.len();
    let source =
        format!("{paths}\n/// All of them.\npub static ASSETS: [Asset; {count}] = [\n{table}];\n");
    fs::write(out.join("assets.rs"), source)?;
    Ok(())
}

/// The same without indentation, empty lines, and lines that are a comment as a whole.
fn without_comments(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let is_comment =
        |line: &str| line.starts_with("//") || line.starts_with("/*") && line.ends_with("*/");
    let meant = |line: &&str| !line.is_empty() && !is_comment(line);
    lines.filter(meant).collect::<Vec<_>>().join("\n")
}

/// A style sheet without the blanks that nobody needs. No text in it may have these marks with a blank beside them.
fn tightened(text: &str) -> String {
    let mut text = text.replace('\n', " ");
    for mark in ["{", "}", ";", ","] {
        text = text.replace(&format!("{mark} "), mark);
        text = text.replace(&format!(" {mark}"), mark);
    }
    text.replace(": ", ":").replace(";}", "}")
}
