//! Where things are: the checkout, what is built, the cache.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, at};

/// The root of the checkout.
pub fn root() -> PathBuf {
    // Cargo says where the crate lies when it runs us; the path compiled in is for a binary started by hand.
    let xtask = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    xtask
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Cargo's target directory.
pub fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// `out/`: what a build leaves for people. Created if it is not there.
pub fn out_dir() -> Result<PathBuf> {
    created(root().join("out"))
}

/// The cache outside the checkout: what is expensive to make or to find out again. Created if it is not there.
pub fn cache_dir() -> Result<PathBuf> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base =
        absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    match base {
        Some(base) => created(base.join("ristretto")),
        None => Err(Error::Failure(
            "neither XDG_CACHE_HOME nor HOME names a directory for the cache".to_owned(),
        )),
    }
}

/// Cargo's home, with the sources of the crates.
pub fn cargo_home() -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo");
    env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}

/// Replaces a file at once, so that no other run sees half of it.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    let draft = PathBuf::from(draft);
    fs::write(&draft, content).map_err(at(&draft))?;
    fs::rename(&draft, path).map_err(at(path))
}

fn created(dir: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&dir).map_err(at(&dir))?;
    Ok(dir)
}
