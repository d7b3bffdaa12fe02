//! Packages of other architectures, other releases and in source form, without touching the system.
//!
//! A *private apt root* is a directory in the cache with everything apt keeps elsewhere under `/etc` and `/var`: the
//! list of sources, the package lists, the packages. One root serves one release ("suite") and one architecture. It
//! asks the server that this machine already uses, and trusts what the archive's keyring has signed: apt checks the
//! signature of the index, the index gives the hash of every file, and no file appears under its name before its hash
//! was right.
//!
//! ```text
//! ~/.cache/ristretto/apt/bookworm-arm64/
//!     apt.conf  sources.list      what makes this root apart from the system
//!     state/  cache/  status      apt's own; `status` is empty: nothing is installed here
//!     files/                      what was downloaded
//! ```
//!
//! ```ignore
//! let apt = PrivateApt::open("bookworm", "arm64")?;
//! let kernel = apt.depends("linux-image-arm64")?;             // ["linux-image-6.1.0-50-arm64"]
//! let deb = apt.download_deb(&kernel[0])?;
//! extract_deb(&deb, &["./boot/vmlinuz-*"], &into)?;
//! let tar = PrivateApt::open("trixie", "amd64")?.download_source_file("qemu", None, ".orig.tar.xz")?;
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Result, at, failure};
use crate::step::Step;
use crate::workspace::cache_dir;

/// Downloads one file and checks its hash; part of every apt, but not on `PATH`.
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";

/// Where Debian is if this machine does not say.
const DEBIAN: &str = "http://deb.debian.org/debian";
/// Where Debian's security updates are if this machine does not say.
const DEBIAN_SECURITY: &str = "http://deb.debian.org/debian-security";
/// Comes with Debian; other distributions have it in the package `debian-archive-keyring`.
const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Where Ubuntu is if this machine does not say.
const UBUNTU: &str = "http://archive.ubuntu.com/ubuntu";
const UBUNTU_KEYRING: &str = "/usr/share/keyrings/ubuntu-archive-keyring.gpg";

/// An apt root for one release and one architecture. See the module.
#[derive(Debug)]
pub struct PrivateApt {
    root: PathBuf,
    suite: String,
}

/// A file the archive offers, as the signed index describes it.
#[derive(Debug, PartialEq, Eq)]
struct Offer {
    uri: String,
    name: String,
    /// `SHA256:...`
    hash: String,
}

impl PrivateApt {
    /// Opens the root for a release by its code name (`bookworm`) and an architecture by Debian's name (`arm64`).
    /// Creates it the first time. The package lists come when something is first asked for.
    ///
    /// A code name is one of Debian's, unless this machine runs an Ubuntu of that name.
    ///
    /// # Errors
    ///
    /// If there is no apt, or the cache cannot be written.
    pub fn open(suite: &str, architecture: &str) -> Result<Self> {
        if !Path::new(APT_HELPER).exists() {
            return failure(format!(
                "apt (with {APT_HELPER}) is needed to get packages of {suite}"
            ));
        }
        let root = cache_dir()?
            .join("apt")
            .join(format!("{suite}-{architecture}"));
        let apt = Self {
            root,
            suite: suite.to_owned(),
        };
        for dir in ["state/lists/partial", "cache/archives/partial", "files"] {
            let dir = apt.root.join(dir);
            fs::create_dir_all(&dir).map_err(at(&dir))?;
        }
        let archive = Archive::of(suite, &Host::read())?;
        apt.write("status", "")?;
        apt.write("apt.conf", &apt_conf(&apt.root, architecture))?;
        apt.write("sources.list", &archive.sources_list(architecture))?;
        Ok(apt)
    }

    /// The packages that one depends on directly: how a metapackage names what it stands for.
    ///
    /// # Errors
    ///
    /// If the release has no such package.
    pub fn depends(&self, package: &str) -> Result<Vec<String>> {
        let listing = self.ask(|| self.tool("apt-cache").args(["depends", package]).output())?;
        Ok(listing
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .map(str::to_owned)
            .collect())
    }

    /// Downloads a binary package, in the newest version the release has; not again if it is already there.
    ///
    /// # Errors
    ///
    /// If the release has no such package, the server cannot be reached, or the hash is wrong.
    pub fn download_deb(&self, package: &str) -> Result<PathBuf> {
        self.ask(|| {
            let listing = self
                .tool("apt-get")
                .args(["download", "--print-uris", package])
                .output()?;
            match offers(&listing).into_iter().next() {
                Some(offer) => self.fetch(&offer),
                None => failure(format!("{} has no package {package}", self.suite)),
            }
        })
    }

    /// Downloads the file of a source package whose name ends so (`.orig.tar.xz`); not again if it is already there.
    /// Without a version it is the newest the release has.
    ///
    /// # Errors
    ///
    /// If the release has no such source package, version or file, the server cannot be reached, or the hash is wrong.
    pub fn download_source_file(
        &self,
        package: &str,
        version: Option<&str>,
        ending: &str,
    ) -> Result<PathBuf> {
        let wanted = version.map_or_else(
            || package.to_owned(),
            |version| format!("{package}={version}"),
        );
        self.ask(|| {
            let listing = self
                .tool("apt-get")
                .args(["source", "--download-only", "--print-uris", &wanted])
                .output()?;
            match offers(&listing)
                .into_iter()
                .find(|offer| offer.name.ends_with(ending))
            {
                Some(offer) => self.fetch(&offer),
                None => failure(format!(
                    "the source package {wanted} of {} has no file *{ending}",
                    self.suite
                )),
            }
        })
    }

    /// Answers a question from the package lists. Fetches them first if there are none, and once more if the answer is
    /// an error: old lists name files that the server no longer has, and lack what is new.
    fn ask<T>(&self, question: impl Fn() -> Result<T>) -> Result<T> {
        if self.root.join("updated").exists()
            && let Ok(answer) = question()
        {
            return Ok(answer);
        }
        self.update()?;
        question()
    }

    fn update(&self) -> Result<()> {
        let step = self
            .tool("apt-get")
            .args(["update", "-qq", "--error-on=any"]);
        step.announce();
        step.output()?;
        self.write("updated", "")
    }

    /// Downloads to a name of its own and renames: what has its final name was checked.
    fn fetch(&self, offer: &Offer) -> Result<PathBuf> {
        let file = self.root.join("files").join(&offer.name);
        if file.exists() {
            return Ok(file);
        }
        let part = self
            .root
            .join("files")
            .join(format!("{}.{}", offer.name, std::process::id()));
        let step = self.tool(APT_HELPER).arg("download-file").arg(&offer.uri);
        let step = step.arg(part.to_string_lossy()).arg(&offer.hash);
        step.announce();
        step.output()?;
        fs::rename(&part, &file).map_err(at(&file))?;
        Ok(file)
    }

    /// One of apt's tools, turned to this root.
    fn tool(&self, program: &str) -> Step {
        Step::new(program)
            .arg("-c")
            .arg(self.root.join("apt.conf").to_string_lossy())
            .env("LC_ALL", "C")
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let file = self.root.join(name);
        fs::write(&file, text).map_err(at(&file))
    }
}

/// Unpacks the files of a binary package that match one of tar's wildcard patterns (`./boot/vmlinuz-*`). They land
/// right in the directory, without the directories they were in.
///
/// # Errors
///
/// If a pattern matches nothing.
pub fn extract_deb(deb: &Path, patterns: &[&str], into: &Path) -> Result<()> {
    extract("dpkg-deb --fsys-tarfile \"$1\"", deb, patterns, into)
}

/// The same for a tar archive, compressed or not.
///
/// # Errors
///
/// If a pattern matches nothing.
pub fn extract_tar(archive: &Path, patterns: &[&str], into: &Path) -> Result<()> {
    // For what comes from a pipe, tar does not find out the compression by itself.
    let plain = match archive.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz -dc \"$1\"",
        Some("gz") => "gzip -dc \"$1\"",
        _ => "cat \"$1\"",
    };
    extract(plain, archive, patterns, into)
}

/// Pipes a tar archive, as a shell command makes it from the file `$1`, into tar.
fn extract(plain: &str, archive: &Path, patterns: &[&str], into: &Path) -> Result<()> {
    fs::create_dir_all(into).map_err(at(into))?;
    let tar = "tar -x --no-same-owner --transform 's:.*/::' --wildcards \"$@\"";
    Step::new("sh")
        .arg("-c")
        .arg(format!("{{ {plain}; }} | {{ cd \"$2\"; shift 2; {tar}; }}"))
        .arg("sh")
        .arg(archive.to_string_lossy())
        .arg(into.to_string_lossy())
        .args(patterns.iter().copied())
        .output()
        .map(|_| ())
}

/// Compares a file with a hash written down in the source.
///
/// # Errors
///
/// If it is another one; the error says which, so that a new version can be pinned after a look at it.
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "for sources that are pinned; so far all follow the release"
    )
)]
pub fn check_sha256(file: &Path, expected: &str) -> Result<()> {
    let line = Step::new("sha256sum")
        .arg(file.to_string_lossy())
        .output()?;
    let found = line.split_whitespace().next().unwrap_or_default();
    if found == expected {
        return Ok(());
    }
    failure(format!(
        "{}: its SHA-256 is {found} and should be {expected}",
        file.display()
    ))
}

/// Reads what `--print-uris` prints: `'http://...' name size SHA256:...`, among other lines.
fn offers(listing: &str) -> Vec<Offer> {
    let offer = |line: &str| {
        let (uri, rest) = line.strip_prefix('\'')?.split_once('\'')?;
        let mut words = rest.split_whitespace();
        let (name, hash) = (words.next()?, words.nth(1)?);
        // Without a hash of the kind apt itself calls safe the file is as good as absent; neither may it be a path.
        (hash.starts_with("SHA") && !name.contains('/')).then(|| Offer {
            uri: uri.to_owned(),
            name: name.to_owned(),
            hash: hash.to_owned(),
        })
    };
    listing.lines().filter_map(offer).collect()
}

/// The configuration that apt reads after the system's own, which may name a proxy and so has to be read as well.
fn apt_conf(root: &Path, architecture: &str) -> String {
    let root = root.display();
    format!(
        r#"// What happens to the system's packages is no business of this root.
#clear APT::Update;
#clear DPkg;
#clear APT::Architectures;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
// Root's cache is closed to the user that apt would become.
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{root}/state";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
"#
    )
}

/// What the machine says about itself.
#[derive(Debug, Default)]
struct Host {
    /// `debian`, `ubuntu`, from `/etc/os-release`.
    id: String,
    /// `bookworm`, from `/etc/os-release`.
    codename: String,
    /// Its sources, each a server and one of the suites asked of it.
    sources: Vec<(String, String)>,
}

impl Host {
    fn read() -> Self {
        let release = read_or_empty(Path::new("/etc/os-release"));
        let field = |name: &str| {
            let value = release
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches('"').to_owned()
        };
        let mut sources = one_line_sources(&read_or_empty(Path::new("/etc/apt/sources.list")));
        let mut files: Vec<PathBuf> = fs::read_dir("/etc/apt/sources.list.d")
            .map(|dir| dir.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        files.sort();
        for file in files {
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("list") => sources.extend(one_line_sources(&read_or_empty(&file))),
                Some("sources") => sources.extend(deb822_sources(&read_or_empty(&file))),
                _ => {}
            }
        }
        Self {
            id: field("ID"),
            codename: field("VERSION_CODENAME"),
            sources,
        }
    }

    /// The server this machine asks for one of its own suites.
    fn server(&self, suite: &str) -> Option<&str> {
        self.sources
            .iter()
            .find(|(_, asked)| asked == suite)
            .map(|(uri, _)| uri.trim_end_matches('/'))
    }
}

/// A file that may be missing or closed to us; both mean that it says nothing.
fn read_or_empty(file: &Path) -> String {
    fs::read(file)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// `deb [options] URI SUITE COMPONENT...`, one a line.
fn one_line_sources(text: &str) -> Vec<(String, String)> {
    let source = |line: &str| {
        let mut rest = line.trim().strip_prefix("deb ")?.trim_start();
        if let Some(options) = rest.strip_prefix('[') {
            rest = options.split_once(']')?.1;
        }
        let mut words = rest.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    };
    text.lines().filter_map(source).collect()
}

/// Paragraphs of `Field: value`, where `URIs` and `Suites` are lists.
fn deb822_sources(text: &str) -> Vec<(String, String)> {
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut sources = Vec::new();
    for paragraph in text.split("\n\n") {
        let field = |name: &str| {
            let mut fields = paragraph.lines().filter_map(|line| line.split_once(':'));
            fields
                .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
        };
        let list = |name: &str| field(name).unwrap_or_default().split_whitespace();
        if field("Enabled").is_some_and(|enabled| enabled == "no")
            || !list("Types").any(|kind| kind == "deb")
        {
            continue;
        }
        for uri in list("URIs") {
            sources.extend(list("Suites").map(|suite| (uri.to_owned(), suite.to_owned())));
        }
    }
    sources
}

/// Where a release is and who signs it.
#[derive(Debug)]
struct Archive {
    components: &'static str,
    keyring: String,
    /// Server and suite: the release itself, its updates, its security updates.
    suites: Vec<(String, String)>,
}

impl Archive {
    fn of(suite: &str, host: &Host) -> Result<Self> {
        let security = format!("{suite}-security");
        let updates = format!("{suite}-updates");
        if host.id == "ubuntu" && host.codename == suite {
            let server = host.server(suite).unwrap_or(UBUNTU);
            let suites = [suite, &updates, &security]
                .map(|name| (server.to_owned(), name.to_owned()))
                .to_vec();
            return Ok(Self {
                components: "main universe",
                keyring: UBUNTU_KEYRING.to_owned(),
                suites,
            });
        }
        // Debian's servers carry all its releases, so the one for this machine's release will do for another.
        let on_debian = |suite: String, default: &str| match host.server(&suite) {
            Some(server) if host.id == "debian" => server.to_owned(),
            _ => default.to_owned(),
        };
        let server = on_debian(host.codename.clone(), DEBIAN);
        let security_server = on_debian(format!("{}-security", host.codename), DEBIAN_SECURITY);
        let suites = vec![
            (server.clone(), suite.to_owned()),
            (server, updates),
            (security_server, security),
        ];
        Ok(Self {
            components: "main",
            keyring: debian_keyring()?,
            suites,
        })
    }

    /// Packages of one architecture, and sources, and nothing else an index may offer.
    fn sources_list(&self, architecture: &str) -> String {
        let Self {
            components,
            keyring,
            suites,
        } = self;
        let lines = suites.iter().map(|(uri, suite)| {
            format!(
                "deb [target=Packages arch={architecture} signed-by={keyring}] {uri} {suite} {components}\n\
                 deb-src [target=Sources signed-by={keyring}] {uri} {suite} {components}\n"
            )
        });
        lines.collect()
    }
}

/// Debian's keys: from the system, or from the package of that name that another distribution has signed.
fn debian_keyring() -> Result<String> {
    if Path::new(DEBIAN_KEYRING).exists() {
        return Ok(DEBIAN_KEYRING.to_owned());
    }
    let dir = cache_dir()?.join("apt/keyring");
    let keyring = dir.join(DEBIAN_KEYRING.trim_start_matches('/'));
    if !keyring.exists() {
        fs::create_dir_all(&dir).map_err(at(&dir))?;
        let step = Step::new("apt-get")
            .args(["download", "debian-archive-keyring"])
            .dir(&dir);
        step.announce();
        step.output()?;
        Step::new("sh")
            .args(["-c", "dpkg-deb -x debian-archive-keyring_*.deb ."])
            .dir(&dir)
            .output()?;
    }
    match fs::metadata(&keyring) {
        Ok(_) => Ok(keyring.to_string_lossy().into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => failure(format!(
            "the package debian-archive-keyring holds no {DEBIAN_KEYRING}"
        )),
        Err(error) => Err(at(&keyring)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(uri: &str, suite: &str) -> (String, String) {
        (uri.to_owned(), suite.to_owned())
    }

    #[test]
    fn both_forms_of_source_lists_are_read() {
        let text = "# deb http://old stretch main\n\
                    deb http://a/debian bookworm main contrib\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://b/sec bookworm-security main\n\
                    deb-src http://a/debian bookworm main\n";
        assert_eq!(
            one_line_sources(text),
            [
                source("http://a/debian", "bookworm"),
                source("http://b/sec", "bookworm-security")
            ]
        );
        let text = "Types: deb\n# a remark: with a colon\nURIs: http://a/debian/\nSuites: trixie trixie-updates\n\n\
                    Types: deb-src\nURIs: http://c\nSuites: trixie\n\n\
                    Enabled: no\nTypes: deb\nURIs: http://d\nSuites: trixie\n";
        assert_eq!(
            deb822_sources(text),
            [
                source("http://a/debian/", "trixie"),
                source("http://a/debian/", "trixie-updates")
            ]
        );
    }

    #[test]
    fn another_release_comes_from_this_machines_server() {
        let host = Host {
            id: "debian".to_owned(),
            codename: "bookworm".to_owned(),
            sources: vec![source("http://mirror/debian/", "bookworm")],
        };
        let archive = Archive::of("trixie", &host).unwrap();
        assert_eq!(
            archive.suites,
            [
                source("http://mirror/debian", "trixie"),
                source("http://mirror/debian", "trixie-updates"),
                source(DEBIAN_SECURITY, "trixie-security"),
            ]
        );
    }

    #[test]
    fn ubuntus_own_release_is_ubuntus() {
        let sources = vec![source("http://ubuntu.mirror/ubuntu", "noble")];
        let host = Host {
            id: "ubuntu".to_owned(),
            codename: "noble".to_owned(),
            sources,
        };
        let archive = Archive::of("noble", &host).unwrap();
        assert_eq!(
            archive.suites[2],
            source("http://ubuntu.mirror/ubuntu", "noble-security")
        );
        assert_eq!(archive.keyring, UBUNTU_KEYRING);
    }

    #[test]
    fn offers_without_a_hash_or_with_a_path_are_none() {
        let listing = "NOTICE: 'qemu' packaging is maintained elsewhere\n\
                       'http://a/q.dsc' q.dsc 12 SHA256:00ff\n\
                       'http://a/r.dsc' r.dsc 12 \n\
                       'http://a/s.dsc' ../s.dsc 12 SHA256:00ff\n";
        let expected = Offer {
            uri: "http://a/q.dsc".to_owned(),
            name: "q.dsc".to_owned(),
            hash: "SHA256:00ff".to_owned(),
        };
        assert_eq!(offers(listing), [expected]);
    }

    #[test]
    fn a_wrong_hash_is_named() {
        let file = std::env::temp_dir().join(format!("ristretto-hash-{}", std::process::id()));
        fs::write(&file, "abc").unwrap();
        let right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(check_sha256(&file, right), Ok(()));
        let error = check_sha256(&file, "00").unwrap_err().to_string();
        fs::remove_file(&file).unwrap();
        assert!(error.contains(right), "{error}");
    }
}
