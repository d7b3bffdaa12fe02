//! Finds the compiler for the image, and sets one up where there is none.
//!
//! There are two ways, tried in this order:
//!
//! 1. the host's own toolchain with the target `aarch64-unknown-none`, added by rustup if it is not there;
//! 2. the distribution's compiler, which builds `core` and `alloc` from the distribution's copy of their source:
//!    for machines where rustup can download nothing.
//!
//! The answer is kept in the cache, so that a second run asks no server, until the host's compiler changes.
//! `RISTRETTO_TOOLCHAIN=host` or `=distribution` in the environment decides instead, to try either on one machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Result, failure};
use crate::packages::{self, Package};
use crate::step::{Step, find_program};
use crate::workspace;

/// The image's target.
pub const TARGET: &str = "aarch64-unknown-none";

const DISTRIBUTION_CARGO: &str = "/usr/bin/cargo";

/// How long rustup may take to download the target.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(180);

/// What the second way needs.
const DISTRIBUTION: &[Package] = &[
    Package {
        name: "cargo-web",
        brings: "/usr/bin/cargo",
        why: "builds the image: rustup cannot download its target",
    },
    Package {
        name: "rustc-web",
        brings: "/usr/bin/rustc",
        why: "the compiler for the image",
    },
    Package {
        name: "rust-web-src",
        brings: "/usr/lib/rustlib/src/rust/library/core",
        why: "source of the core library",
    },
    Package {
        name: "lld",
        brings: "ld.lld",
        why: "links the image",
    },
];
const DISTRIBUTION_CLIPPY: Package = Package {
    name: "rust-web-clippy",
    brings: "/usr/bin/cargo-clippy",
    why: "lints the code for the image",
};

/// A way to compile for the image's target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The host's toolchain has the target.
    Host,
    /// The distribution's compiler builds the core library along.
    Distribution,
}

impl Toolchain {
    /// Finds the toolchain, and sets it up if it is not there.
    ///
    /// # Errors
    ///
    /// If neither way can be had; the error says what is missing.
    pub fn find() -> Result<Self> {
        if let Ok(forced) = env::var("RISTRETTO_TOOLCHAIN") {
            return Self::forced(&forced);
        }
        let host = Step::new("rustc")
            .words("--version --verbose")
            .output()
            .unwrap_or_default();
        let note = workspace::cache_dir()?.join("toolchain");
        let remembered = fs::read_to_string(&note).unwrap_or_default();
        let toolchain = match (Self::recall(&remembered, &host), sysroot_has_target()) {
            (_, true) => Self::Host,
            (Some(Self::Distribution), false) => Self::Distribution,
            _ if rustup_adds_target() => Self::Host,
            _ => Self::Distribution,
        };
        if toolchain == Self::Distribution {
            packages::ensure(DISTRIBUTION)?;
        }
        let current = toolchain.note(&host);
        if remembered != current {
            println!("compiling the image with {}", toolchain.description());
            workspace::write_whole(&note, current.as_bytes())?;
        }
        Ok(toolchain)
    }

    fn forced(name: &str) -> Result<Self> {
        let ways = [Self::Host, Self::Distribution];
        match ways.into_iter().find(|way| way.name() == name) {
            Some(Self::Distribution) => {
                packages::ensure(DISTRIBUTION)?;
                Ok(Self::Distribution)
            }
            Some(Self::Host) if sysroot_has_target() || rustup_adds_target() => Ok(Self::Host),
            Some(Self::Host) => failure(format!(
                "RISTRETTO_TOOLCHAIN=host, but the host's toolchain has no {TARGET}"
            )),
            None => failure(format!(
                "RISTRETTO_TOOLCHAIN is host or distribution, not `{name}`"
            )),
        }
    }

    /// A `cargo` command for the image's target: `build`, `clippy`, `doc`.
    ///
    /// # Errors
    ///
    /// If the distribution's clippy is wanted and cannot be installed.
    pub fn cargo(self, command: &str) -> Result<Step> {
        let step = match self {
            Self::Host => Step::new(host_cargo()).arg(command),
            Self::Distribution => {
                let step = if command == "clippy" {
                    packages::ensure(&[DISTRIBUTION_CLIPPY])?;
                    // `cargo clippy` would find rustup's.
                    Step::new("/usr/bin/cargo-clippy")
                        .arg(command)
                        .env("CARGO", DISTRIBUTION_CARGO)
                } else {
                    Step::new(DISTRIBUTION_CARGO).arg(command)
                };
                step.words("-Zbuild-std=core,alloc -Zbuild-std-features=compiler-builtins-mem")
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTDOC", "/usr/bin/rustdoc")
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_AARCH64_UNKNOWN_NONE_LINKER", "ld.lld")
            }
        };
        // These would take the place of the flags in .cargo/config.toml.
        let step = step
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("CARGO_BUILD_RUSTFLAGS");
        Ok(step.args(["--target", TARGET]).dir(&workspace::root()))
    }

    /// `--remap-path-prefix` for everything whose path would end up in the image, as a `--config` value for cargo.
    pub fn remap_config(self) -> String {
        // The last prefix that fits counts, so the checkout, which may contain the others, comes first.
        let (root, target) = (workspace::root(), workspace::target_dir());
        let outside = (!target.starts_with(&root)).then_some((target, "target"));
        let mut remaps = vec![(root, "ristretto")];
        remaps.extend(outside);
        // One directory for each registry: its name says nothing that a file name does not.
        let registries = fs::read_dir(workspace::cargo_home().join("registry/src"));
        let registries = registries.into_iter().flatten().flatten();
        remaps.extend(registries.map(|registry| (registry.path(), "crates")));
        remaps.extend(self.library().map(|library| (library, "library")));
        let flags = remaps
            .iter()
            .map(|(from, to)| format!("'--remap-path-prefix={}=/{to}'", from.display()))
            .collect::<Vec<_>>()
            .join(", ");
        format!("target.{TARGET}.rustflags=[{flags}]")
    }

    /// Where the source of the core library lies, if it is compiled along.
    fn library(self) -> Option<PathBuf> {
        match self {
            Self::Host => None,
            Self::Distribution => fs::canonicalize("/usr/lib/rustlib/src/rust/library").ok(),
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Host => "the host's Rust toolchain",
            Self::Distribution => {
                "the distribution's Rust (cargo-web, rustc-web), core library from source"
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Distribution => "distribution",
        }
    }

    /// The answer as it is kept: the choice, and the compiler it was made for.
    fn note(self, host_version: &str) -> String {
        format!("{}\n{host_version}", self.name())
    }

    fn recall(note: &str, host_version: &str) -> Option<Self> {
        [Self::Host, Self::Distribution]
            .into_iter()
            .find(|toolchain| note == toolchain.note(host_version))
    }
}

/// The cargo that started us, or the one on `PATH`.
pub fn host_cargo() -> String {
    // Under rustup, cargo names the binary behind the proxy; the proxy reads better and does the same.
    let given = env::var("CARGO").unwrap_or_default();
    if given == DISTRIBUTION_CARGO {
        given
    } else {
        "cargo".to_owned()
    }
}

/// A `cargo` command for the host, run in the checkout.
pub fn host(command: &str) -> Step {
    Step::new(host_cargo()).arg(command).dir(&workspace::root())
}

/// Makes sure that the host's toolchain has a component that comes as a subcommand of cargo, such as `clippy`.
///
/// # Errors
///
/// If it is missing and cannot be added.
pub fn ensure_component(subcommand: &str, component: &str) -> Result<()> {
    let there = || host(subcommand).arg("--version").output().is_ok();
    if there() {
        return Ok(());
    }
    if host_cargo() == DISTRIBUTION_CARGO && component == "clippy" {
        return packages::ensure(&[DISTRIBUTION_CLIPPY]);
    }
    if find_program("rustup").is_some() {
        println!("adding {component} to the Rust toolchain");
        let step = Step::new("rustup")
            .words("component add")
            .arg(component)
            .env("RUSTUP_MAX_RETRIES", "1");
        if step.watch(DOWNLOAD_LIMIT, |_| {}).is_ok() && there() {
            return Ok(());
        }
    }
    failure(format!(
        "the Rust toolchain has no {component}, and it cannot be added"
    ))
}

fn sysroot_has_target() -> bool {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let Ok(sysroot) = Step::new(rustc).words("--print sysroot").output() else {
        return false;
    };
    Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(TARGET)
        .join("lib")
        .is_dir()
}

fn rustup_adds_target() -> bool {
    if find_program("rustup").is_none() {
        return false;
    }
    println!("adding the target {TARGET} to the Rust toolchain: the image is compiled for it");
    // rustup retries for a long time where there is no network.
    let step = Step::new("rustup")
        .words("target add")
        .arg(TARGET)
        .env("RUSTUP_MAX_RETRIES", "1");
    let added = step.watch(DOWNLOAD_LIMIT, |_| {}).is_ok() && sysroot_has_target();
    if !added {
        println!("that did not work; the distribution's compiler will do");
    }
    added
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_kept_for_one_compiler_version() {
        for toolchain in [Toolchain::Host, Toolchain::Distribution] {
            let note = toolchain.note("rustc 1.95.0\n");
            assert_eq!(Toolchain::recall(&note, "rustc 1.95.0\n"), Some(toolchain));
            assert_eq!(Toolchain::recall(&note, "rustc 1.96.0\n"), None);
        }
        assert_eq!(Toolchain::recall("", "rustc 1.95.0\n"), None);
        assert_eq!(Toolchain::recall("garbage", ""), None);
    }
}
