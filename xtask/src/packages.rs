//! The distribution's packages: installs what a command needs and is not there.
//!
//! On Debian and its descendants missing packages are installed, as root or through sudo, without a question; elsewhere
//! the missing ones are named and the command stops. Nothing is ever added to the system's package sources.

use std::path::Path;

use crate::error::{Result, failure};
use crate::step::{Step, find_program};

/// A package and how to tell that what it brings is there.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// Its name on Debian.
    pub name: &'static str,
    /// A program on `PATH`, or a file or directory by its absolute path.
    pub brings: &'static str,
    /// What it is needed for, in a few words.
    pub why: &'static str,
}

impl Package {
    /// Whether what it brings is there, from wherever it came.
    pub fn is_there(&self) -> bool {
        if self.brings.starts_with('/') {
            Path::new(self.brings).exists()
        } else {
            find_program(self.brings).is_some()
        }
    }
}

/// Makes sure that all these packages are installed. Silent and quick if they are.
///
/// # Errors
///
/// If some are missing and cannot be installed here; the error names them.
pub fn ensure(packages: &[Package]) -> Result<()> {
    let missing: Vec<&Package> = packages
        .iter()
        .filter(|package| !package.is_there())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let named = missing
        .iter()
        .map(|package| format!("{} ({})", package.name, package.why))
        .collect::<Vec<_>>()
        .join(", ");
    if find_program("apt-get").is_none() {
        return failure(format!(
            "not installed here, and this is no Debian to install it on: {named}"
        ));
    }
    let root = Step::new("id").arg("-u").output()?.trim() == "0";
    if !root && find_program("sudo").is_none() {
        return failure(format!(
            "not installed, and installing takes root or sudo: {named}"
        ));
    }
    for package in &missing {
        println!("installing {}: {}", package.name, package.why);
    }

    let names = || missing.iter().map(|package| package.name);
    let install = apt_get(root)
        .words("install -y --no-install-recommends")
        .args(names());
    let update = apt_get(root).arg("update");
    let mut updated = false;
    if !names().all(is_listed) {
        run_apt(&update)?;
        updated = true;
    }
    if let Err(error) = run_apt(&install) {
        if updated {
            return Err(error);
        }
        // Old lists name versions that the server no longer has.
        run_apt(&update)?;
        run_apt(&install)?;
    }
    match missing.iter().find(|package| !package.is_there()) {
        Some(package) => failure(format!(
            "the package {} was installed but did not bring {}",
            package.name, package.brings
        )),
        None => Ok(()),
    }
}

fn apt_get(root: bool) -> Step {
    let step = if root {
        Step::new("env")
    } else {
        Step::new("sudo").arg("env")
    };
    // Another installation may be under way: wait for it. No pseudo terminal: nobody watches.
    step.arg("DEBIAN_FRONTEND=noninteractive")
        .arg("apt-get")
        .words("-qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0")
}

fn run_apt(step: &Step) -> Result<()> {
    step.announce();
    step.output().map(|_| ())
}

/// Whether the lists on this machine offer a version of the package.
fn is_listed(name: &str) -> bool {
    let policy = Step::new("apt-cache")
        .args(["policy", name])
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_default();
    offers_candidate(&policy)
}

fn offers_candidate(policy: &str) -> bool {
    policy.lines().any(|line| {
        line.trim()
            .strip_prefix("Candidate: ")
            .is_some_and(|version| version != "(none)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_is_told_by_program_or_path() {
        let package = |brings| Package {
            name: "p",
            brings,
            why: "w",
        };
        assert!(package("sh").is_there());
        assert!(package("/bin/sh").is_there());
        assert!(package("/etc").is_there());
        assert!(!package("no-such-program").is_there());
        assert!(!package("/no/such/file").is_there());
        assert_eq!(ensure(&[package("sh")]), Ok(()));
    }

    #[test]
    fn a_candidate_in_the_lists_is_recognised() {
        assert!(offers_candidate(
            "lld:\n  Installed: (none)\n  Candidate: 1:14.0-55.7~deb12u1\n  Version table:\n"
        ));
        assert!(!offers_candidate(
            "lld:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n"
        ));
        assert!(!offers_candidate(""));
    }
}
