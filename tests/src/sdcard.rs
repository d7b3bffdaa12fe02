//! The SD card, as other people's boot loaders see it: Debian's U-Boot for the board on the board's model, and Debian's
//! U-Boot for QEMU's machine virt. Nothing of either is changed; what they load is `out/sdcard.img` as it would be
//! flashed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::check::{During, Failure, Result, ensure, fail, wait};
use crate::clients::{curl, run};
use crate::espressobin::board::{cached, qemu, user};
use crate::espressobin::services::{echo_tcp, echo_udp};
use crate::machine::{Services, record};
use crate::qmp::Qmp;
use crate::tap::Tap;
use crate::{Context, Needs, Test, Tier, tap};

const fn test(name: &'static str, limit_s: u64, run: fn(&Context) -> Result) -> Test {
    Test {
        name,
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s,
        run,
    }
}

/// The tests of this file.
pub const TESTS: &[Test] = &[
    test("sdcard-is-sound", 60, is_sound),
    test("sdcard-boots-on-virt", 90, boots_on_virt),
    test("sdcard-boots-on-the-board", 120, boots_on_the_board),
    test("sdcard-boots-by-newer-u-boots", 180, boots_by_newer_u_boots),
    test("sdcard-large-files", 240, large_files),
    test("sdcard-settings-take-effect", 180, settings_take_effect),
    test(
        "sdcard-examples-are-understood",
        240,
        examples_are_understood,
    ),
    test("sdcard-watchdog-of-u-boot", 120, watchdog_of_uboot),
    test("faults-crash-by-way-of-u-boot", 180, crash_by_way_of_uboot),
    test("sdcard-tree-of-the-board", 240, tree_of_the_board),
    test("sdcard-extlinux-example", 120, extlinux_example),
    test("sdcard-old-environment", 120, old_environment),
    Test {
        needs: Needs::Tap,
        ..test("netboot-serves-the-board", 180, netboot)
    },
];

const SECTOR: usize = 512;

/// Where the partitions are, in bytes.
const BOOT_AT: usize = 1 << 20;
const SETTINGS_AT: usize = 48 << 20;
const END: usize = 64 << 20;

/// What the secure firmware of any age may own.
const SECURE_AT: u64 = 0x0400_0000;
const SECURE_BYTES: u64 = 0x0140_0000;

/// Guest errors of QEMU's own devices that U-Boot causes, by what is in the line.
const EXPLAINED: &[(&str, &str)] = &[(
    "SDHC wr_4b @0x40 <- 0x25fac8b2 read-only",
    "the capability register can be written on Marvell's controller only",
)];

/// The release of Debian whose U-Boot, 2023.01, is in use unless a test says otherwise.
const RELEASE: &str = "bookworm";
/// The next one: 2025.01.
const NEWER: &str = "trixie";

/// A release's U-Boot.
fn uboot(release: &str, name: &str) -> Result<PathBuf> {
    cached(&format!("uboot/{release}"), name)
}

/// The card that `./x sdcard` made.
fn card(cx: &Context) -> Result<PathBuf> {
    let card = cx.image.with_file_name("sdcard.img");
    if card.is_file() {
        Ok(card)
    } else {
        Err(Failure::Skipped(
            "no out/sdcard.img: `./x sdcard` makes it".into(),
        ))
    }
}

/// A copy of the card, to be changed. Removed when dropped.
struct OwnCard(PathBuf);

impl OwnCard {
    fn new(cx: &Context) -> Result<Self> {
        let own = Self(cx.out.join(format!("{}.card.img", cx.name)));
        fs::copy(card(cx)?, &own.0)?;
        Ok(own)
    }

    /// Replaces a file on the settings' partition, as somebody's computer would.
    fn put(&self, cx: &Context, name: &str, content: &[u8]) -> Result {
        let file = cx.out.join(format!("{}.{name}", cx.name));
        fs::write(&file, content)?;
        let image = format!("{}@@{SETTINGS_AT}", self.0.display());
        let file = file.display().to_string();
        run("mcopy", &["-o", "-i", &image, &file, &format!("::/{name}")])?;
        Ok(())
    }

    /// Adds a file to a directory of the boot partition.
    fn add(&self, cx: &Context, dir: &str, name: &str, content: &[u8]) -> Result {
        let file = cx.out.join(format!("{}.{name}", cx.name));
        fs::write(&file, content)?;
        let commands = cx.out.join(format!("{}.debugfs", cx.name));
        let copy = format!("cd {dir}\nwrite {} {name}\n", file.display());
        fs::write(&commands, copy)?;
        let partition = format!("{}?offset={BOOT_AT}", self.0.display());
        let commands = commands.display().to_string();
        run("/sbin/debugfs", &["-w", "-f", &commands, &partition])?;
        Ok(())
    }
}

impl Drop for OwnCard {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What is at the other end of the first cable.
struct Network {
    netdev: String,
    /// How the machine's services are reached by it.
    services: Services,
}

impl Network {
    /// QEMU's user-mode network, with more options.
    fn user(options: &str) -> Result<Self> {
        let _ = tap::loopback();
        let (services, netdev) = user(0, "10.0.2")?;
        let netdev = format!("{netdev}{options}");
        Ok(Self { netdev, services })
    }
}

/// A machine that starts with U-Boot. Killed when dropped.
struct Board {
    child: Child,
    keys: ChildStdin,
    console: Arc<Mutex<Vec<u8>>>,
    /// How much of the console was looked at.
    seen: usize,
    services: Services,
    control: PathBuf,
    complaints: PathBuf,
}

impl Drop for Board {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.control);
    }
}

impl Board {
    /// QEMU's machine virt, its U-Boot, and the card as a disk.
    fn virt(cx: &Context, card: &Path, release: &str) -> Result<Self> {
        let mut qemu = Command::new("qemu-system-aarch64");
        qemu.args(["-M", "virt,gic-version=3", "-cpu", "cortex-a53"])
            .args(["-m", "256M", "-drive"])
            .arg(drive(card, "none,id=card"))
            .args(["-device", "virtio-blk-device,drive=card"])
            .args(["-device", "virtio-net-device,netdev=n0"]);
        Self::start(
            cx,
            qemu,
            &uboot(release, "qemu_arm64.bin")?,
            Network::user("")?,
        )
    }

    /// The board, its U-Boot, the card in its slot, and QEMU's user-mode network behind `wan`.
    fn espressobin(cx: &Context, card: &Path, options: &str) -> Result<Self> {
        Self::espressobin_on(cx, RELEASE, Some(card), options, Network::user("")?)
    }

    /// The board, perhaps without a card, on another network.
    fn espressobin_on(
        cx: &Context,
        release: &str,
        card: Option<&Path>,
        options: &str,
        network: Network,
    ) -> Result<Self> {
        let mut qemu = Command::new(qemu()?);
        // As power-on leaves it: what U-Boot does to the board is U-Boot's.
        let machine = format!("espressobin,strict=on,state=power-on{options}");
        qemu.args(["-M", &machine])
            .args(["-m", "512M", "-net", "nic,netdev=n0"]);
        if let Some(card) = card {
            qemu.arg("-drive").arg(drive(card, "sd"));
        }
        Self::start(cx, qemu, &uboot(release, "mvebu_espressobin.bin")?, network)
    }

    fn start(cx: &Context, mut qemu: Command, uboot: &Path, network: Network) -> Result<Self> {
        let file = |end: &str| cx.out.join(format!("{}.{end}", cx.name));
        // Relative: shorter than a socket's name can be.
        let control = PathBuf::from(format!("{}.qmp", cx.name));
        let complaints = file("complaints");
        let log = File::create(file("qemu"))?;
        let mut child = qemu
            .args(["-nodefaults", "-display", "none", "-serial", "stdio"])
            .arg("-bios")
            .arg(uboot)
            .args(["-netdev", &network.netdev])
            .args([
                "-object",
                &format!(
                    "filter-dump,id=f0,netdev=n0,file={}",
                    file("n0.pcap").display()
                ),
            ])
            .args([
                "-d",
                "guest_errors",
                "-D",
                &complaints.display().to_string(),
            ])
            .args([
                "-qmp",
                &format!("unix:{},server=on,wait=off", control.display()),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .during("QEMU")?;
        let (Some(keys), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            fail!("QEMU has no console");
        };
        let console = Arc::new(Mutex::new(Vec::new()));
        let (serial, bytes) = (File::create(file("0.serial"))?, console.clone());
        thread::spawn(move || record(output, serial, &bytes));
        Ok(Self {
            child,
            keys,
            console,
            seen: 0,
            services: network.services,
            control,
            complaints,
        })
    }

    /// Waits until the console says this, behind what was waited for before. Returns everything up to it.
    fn expect(&mut self, text: &str, seconds: u64) -> Result<String> {
        let seen = self.seen;
        let console = Arc::clone(&self.console);
        let (said, end) = wait(seconds, &format!("`{text}` on the console"), || {
            let bytes = console.lock().ok()?;
            let new = bytes.get(seen..)?;
            let at = new
                .windows(text.len())
                .position(|window| window == text.as_bytes())?;
            let said = String::from_utf8_lossy(&new[..at + text.len()]).replace('\r', "");
            Some((said, seen + at + text.len()))
        })?;
        self.seen = end;
        Ok(said)
    }

    /// Stops U-Boot's countdown.
    fn prompt(&mut self) -> Result {
        self.expect("Hit any key to stop autoboot", 30)?;
        self.keys.write_all(b" ")?;
        self.expect("=> ", 10).map(|_| ())
    }

    /// Types a line at U-Boot's prompt and does not wait for what becomes of it.
    fn enter(&mut self, line: &str) -> Result {
        self.keys.write_all(format!("{line}\r").as_bytes())?;
        Ok(())
    }

    /// Types a line and returns what U-Boot says until its next prompt.
    fn command(&mut self, line: &str) -> Result<String> {
        self.enter(line)?;
        let said = self.expect("\n=> ", 40).during(line)?;
        Ok(said
            .split_once('\n')
            .map_or(String::new(), |(_, said)| said.to_owned()))
    }

    /// Our image is up, and everything it serves is served.
    fn serves(&mut self) -> Result {
        self.expect("] Ristretto ", 30)?;
        self.expect(": http://10.0.2.15/", 40)?;
        self.answers()
    }

    /// Every service does its work.
    fn answers(&self) -> Result {
        let Services {
            http,
            echo_tcp: tcp,
            echo_udp: udp,
            ..
        } = self.services;
        let page = curl(&[&format!("http://{http}/hello")])?;
        ensure!(page == "Hello, world!", "curl: `{page}`");
        (0..20).try_for_each(|number| echo_udp(udp, number))?;
        echo_tcp(tcp, 100_000)
    }

    /// Nobody has written to what may belong to the secure firmware: QEMU's memory starts as zeros.
    fn secure_memory_is_untouched(&self, cx: &Context) -> Result {
        let file = cx.out.join(format!("{}.secure", cx.name));
        let arguments = format!(
            r#"{{"val":{SECURE_AT},"size":{SECURE_BYTES},"filename":"{}"}}"#,
            file.display()
        );
        Qmp::connect(&self.control)?.execute("pmemsave", &arguments)?;
        let memory = fs::read(&file)?;
        fs::remove_file(&file)?;
        ensure!(
            memory.len() as u64 == SECURE_BYTES,
            "{} bytes of memory",
            memory.len()
        );
        if let Some(at) = memory.iter().position(|byte| *byte != 0) {
            fail!("written: {:#x}", SECURE_AT + at as u64);
        }
        Ok(())
    }

    /// The machine has nothing to complain of but what is explained.
    fn no_complaints(&self) -> Result {
        let text = fs::read_to_string(&self.complaints).unwrap_or_default();
        let known = |line: &str| EXPLAINED.iter().any(|(part, _)| line.contains(part));
        match text.lines().find(|line| !known(line)) {
            Some(line) => fail!("guest error: {line}"),
            None => Ok(()),
        }
    }
}

/// QEMU's words for the card; what is written to it is forgotten.
fn drive(card: &Path, place: &str) -> String {
    format!("file={},format=raw,snapshot=on,if={place}", card.display())
}

/// A file of the boot partition, by e2fsprogs.
fn boot_file(cx: &Context, name: &str) -> Result<Vec<u8>> {
    let partition = format!("{}?offset={BOOT_AT}", card(cx)?.display());
    let to = cx.out.join(format!("{}.dumped", cx.name));
    let _ = fs::remove_file(&to);
    let request = format!("dump {name} {}", to.display());
    run("/sbin/debugfs", &["-R", &request, &partition])?;
    fs::read(&to).during(name)
}

/// The table, both file systems by other people's checkers, the ext4 features, and what is in them.
fn is_sound(cx: &Context) -> Result {
    let card = card(cx)?;
    let bytes = fs::read(&card)?;
    ensure!(bytes.len() == END, "{} bytes", bytes.len());
    let table = run("/sbin/sfdisk", &["--dump", &card.display().to_string()])?;
    let partitions: Vec<String> = table
        .lines()
        .filter(|line| line.contains("start="))
        .map(|line| line.split_whitespace().skip(2).collect())
        .collect();
    ensure!(
        partitions
            == [
                "start=2048,size=96256,type=83,bootable",
                "start=98304,size=32768,type=e"
            ],
        "{table}"
    );
    for (name, tool, from, to) in [
        ("ext4", ["/sbin/e2fsck", "-fn"], BOOT_AT, SETTINGS_AT),
        ("fat", ["/sbin/fsck.fat", "-n"], SETTINGS_AT, END),
    ] {
        let part = cx.out.join(format!("{}.{name}", cx.name));
        fs::write(&part, &bytes[from..to])?;
        run(tool[0], &[tool[1], &part.display().to_string()]).during(name)?;
        fs::remove_file(&part)?;
    }

    // Spec: Linux, Documentation/filesystems/ext4/super.rst: compatible, incompatible, read-only compatible features.
    let word = |at: usize| {
        let word = bytes[BOOT_AT + 1024 + at..].first_chunk();
        word.map_or(u32::MAX, |word| u32::from_le_bytes(*word))
    };
    let features = [0x5c, 0x60, 0x64].map(word);
    const ORPHAN_FILE: u32 = 0x1000;
    const BITS_64: u32 = 0x80;
    const METADATA_CSUM: u32 = 0x400;
    let unreadable = [ORPHAN_FILE, BITS_64, METADATA_CSUM];
    ensure!(
        features
            .iter()
            .zip(unreadable)
            .all(|(has, bad)| has & bad == 0),
        "features that old U-Boots cannot read: {features:#x?}"
    );
    // filetype and extents; sparse_super, large_file and extra_isize: nothing else crept in.
    ensure!(features == [0, 0x42, 0x43], "features {features:#x?}");

    ensure!(
        boot_file(cx, "/boot/Image")? == fs::read(&cx.image)?,
        "/boot/Image is another one: `./x sdcard` builds both"
    );
    // Nobody's, and of no time: it would not be the same card elsewhere.
    let partition = format!("{}?offset={BOOT_AT}", card.display());
    let image = run("/sbin/debugfs", &["-R", "stat /boot/Image", &partition])?;
    for part in [
        "Mode:  0644",
        "User:     0   Group:     0",
        "ctime: 0x5e0be100",
    ] {
        ensure!(image.contains(part), "not `{part}`: {image}");
    }
    let source = boot_file(cx, "/boot/boot.cmd")?;
    let script = boot_file(cx, "/boot.scr")?;
    ensure!(
        script.get(72..) == Some(&source),
        "/boot.scr is made of another script"
    );
    for tree in ["", "-emmc", "-v7", "-v7-emmc", "-ultra"] {
        let name = format!("/boot/dtb/marvell/armada-3720-espressobin{tree}.dtb");
        let tree = boot_file(cx, &name)?;
        ensure!(tree.starts_with(&[0xd0, 0x0d, 0xfe, 0xed]), "{name}");
    }
    for file in [
        "ristretto.txt",
        "readme.txt",
        "licences/mit.txt",
        "licences/apache.txt",
        "licences/gpl-2.txt",
        "licences/notices.txt",
        "licences/devicetrees.txt",
    ] {
        let image = format!("{}@@{SETTINGS_AT}", card.display());
        let text = run("mtype", &["-i", &image, &format!("::/{file}")])?;
        ensure!(text.lines().count() > 3, "{file} is empty");
        ensure!(
            text.matches('\n').count() == text.matches("\r\n").count(),
            "{file}: some system cannot show its lines"
        );
    }
    Ok(())
}

/// Untouched, by U-Boot's own distro boot, from a disk of QEMU's unmodified machine.
fn boots_on_virt(cx: &Context) -> Result {
    let mut board = Board::virt(cx, &card(cx)?, RELEASE)?;
    board.expect("Found U-Boot script /boot.scr", 30)?;
    board.serves()
}

/// U-Boot's newer way to find what to boot, on virt, and a v7 board. Nothing is pressed.
fn boots_by_newer_u_boots(cx: &Context) -> Result {
    let card = card(cx)?;
    let mut virt = Board::virt(cx, &card, NEWER)?;
    virt.expect("/boot.scr", 40)?;
    virt.serves().during("virt")?;
    drop(virt);
    let network = Network::user("")?;
    let mut board = Board::espressobin_on(cx, NEWER, Some(&card), ",variant=v7", network)?;
    board.expect("Found U-Boot script /boot.scr", 40)?;
    board.serves().during("the board")?;
    board.secure_memory_is_untouched(cx)?;
    board.no_complaints()
}

/// First U-Boot's own driver uses the network by which our image then has to be reached.
fn boots_on_the_board(cx: &Context) -> Result {
    let served = cx.image.parent().unwrap_or(Path::new("/"));
    let network = Network::user(&format!(",tftp={}", served.display()))?;
    let mut board = Board::espressobin_on(cx, RELEASE, Some(&card(cx)?), "", network)?;
    board.prompt()?;
    let said = board.command("mmc info")?;
    ensure!(said.contains("Capacity: 64 MiB"), "mmc info: {said}");
    board.command("setenv autoload no")?;
    let said = board.command("dhcp")?;
    ensure!(
        said.contains("DHCP client bound to address 10.0.2.15"),
        "dhcp: {said}"
    );
    let said = board.command("ping 10.0.2.2")?;
    ensure!(said.contains("host 10.0.2.2 is alive"), "ping: {said}");
    let said = board.command("tftpboot 0x08000000 10.0.2.2:Image")?;
    let image = fs::read(&cx.image)?;
    let transferred = format!("Bytes transferred = {} ", image.len());
    ensure!(said.contains(&transferred), "tftpboot: {said}");
    let said = board.command("crc32 0x08000000 ${filesize}")?;
    let crc = format!("==> {:08x}", crc32(&image));
    ensure!(said.contains(&crc), "crc32, not {crc}: {said}");

    board.enter("boot")?;
    board.expect("Found U-Boot script /boot.scr", 30)?;
    board.serves()?;
    board.secure_memory_is_untouched(cx)?;
    board.no_complaints()
}

/// The checksum that U-Boot's `crc32` shows.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// What is larger than the 512 KiB at which the host waits for the driver's next address, such as a Linux kernel: files of
/// both partitions; sectors from an odd one on, to such a boundary and to elsewhere; and what was written before.
fn large_files(cx: &Context) -> Result {
    // No two places at a distance of 512 KiB have the same bytes.
    let content: Vec<u8> = (0..2_500_003_u32)
        .map(|n| n.wrapping_mul(0x9e37_79b1).to_be_bytes()[0])
        .collect();
    let card = OwnCard::new(cx)?;
    card.add(cx, "/boot", "large", &content)?;
    card.put(cx, "large", &content)?;
    let (odd, count) = (SETTINGS_AT / SECTOR + 1, 5_001);
    let free = odd + 20_000;
    let there = fs::read(&card.0)?;
    let sectors = &there[odd * SECTOR..][..count * SECTOR];
    let sectors = (sectors.len(), crc32(sectors));
    let file = (content.len(), crc32(&content));
    let within = format!("mmc read 0x09000200 {odd:x} {count:x}");
    let from_one = format!("mmc read 0x0a000000 {odd:x} {count:x}");
    let write = format!("mmc write 0x0a000000 {free:x} {count:x}");
    let back = format!("{write}; mmc read 0x0b000000 {free:x} {count:x}");
    for release in [RELEASE, NEWER] {
        let network = Network::user("")?;
        let mut board = Board::espressobin_on(cx, release, Some(&card.0), "", network)?;
        board.prompt()?;
        // Each to a place of its own: nothing passes because of what came before.
        for (line, at, (bytes, crc)) in [
            ("load mmc 0:1 0x07000000 /boot/large", 0x0700_0000, file),
            ("load mmc 0:2 0x08000000 large", 0x0800_0000, file),
            (&within, 0x0900_0200, sectors),
            (&from_one, 0x0a00_0000, sectors),
            (&back, 0x0b00_0000, sectors),
        ] {
            let what = format!("U-Boot of {release}: {line}");
            let told = board.command(line).during(&what)?;
            let said = board.command(&format!("crc32 {at:x} {bytes:x}"))?;
            ensure!(
                said.contains(&format!("==> {crc:08x}")),
                "{what}: not {crc:08x}: {told}{said}"
            );
        }
        // The trees say that the slot's write protection reads inverted: Linux may write if it is 0.
        let said = board.command("md.l 0xd00d0024 1")?;
        let state = said.split_whitespace().nth(1).unwrap_or_default();
        let protected = u32::from_str_radix(state, 16).map(|state| state >> 19 & 1);
        ensure!(protected == Ok(0), "Present State: {said}");
        board.no_complaints().during(release)?;
    }
    Ok(())
}

/// The settings as an editor on some system leaves them, and nothing pressed.
fn settings_take_effect(cx: &Context) -> Result {
    let card = OwnCard::new(cx)?;
    let address = "ip=10.0.2.15::10.0.2.2:255.255.255.0::wan:off";
    let crlf = format!("# mine\r\nbootargs={address} hostname=windows\r\n\r\nespressobin=\r\n");
    let bare = format!("\u{feff}# mine\nbootargs={address} hostname=editor loglevel=debug");
    for (text, name) in [(crlf, "windows"), (bare, "editor")] {
        card.put(cx, "ristretto.txt", text.as_bytes())?;
        let mut board = Board::espressobin(cx, &card.0, "")?;
        board.expect("Found U-Boot script /boot.scr", 30)?;
        let told = board.expect("Starting kernel", 30)?;
        let bootargs = format!("Bootargs: {address} hostname={name}");
        ensure!(told.contains(&bootargs), "not `{bootargs}`: {told}");
        // A carriage return in the empty `espressobin=` would have asked for a tree that is not there.
        ensure!(!told.contains("No devicetree"), "{told}");
        board.expect("wan: address 10.0.2.15/24 (static)", 40)?;
        board.seen = 0;
        board.serves()?;
        let status = curl(&[&format!("http://{}/api/v1/status", board.services.http)])?;
        let hostname = format!("\"hostname\":\"{name}\"");
        ensure!(status.contains(&hostname), "not {hostname}: {status}");
        let console = board.expect("http", 1)?;
        ensure!(!console.contains("bootargs:"), "{console}");
        board.no_complaints().during(name)?;
    }
    Ok(())
}

/// Every example in ristretto.txt, with its mark taken off and the empty line gone, as somebody would do it; and all
/// items of README.md stand in the card's readme.
fn examples_are_understood(cx: &Context) -> Result {
    let read = |file: &str| fs::read_to_string(format!("{}/../{file}", env!("CARGO_MANIFEST_DIR")));
    let readme = read("boards/espressobin/readme.txt")?;
    let items = read("README.md")?;
    let items = items.lines().filter_map(|line| {
        let name = line.strip_prefix("| `")?.split_once('=')?.0;
        name.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
            .then_some(name)
    });
    // The ones for tests and emulators have no business on a card.
    for item in items.filter(|item| !["test", "exit"].contains(item)) {
        ensure!(
            readme.contains(&format!("{item}=")),
            "not in readme.txt: {item}="
        );
    }

    let card = OwnCard::new(cx)?;
    let settings = read("boards/espressobin/ristretto.txt")?;
    let examples = settings
        .lines()
        .filter_map(|line| line.strip_prefix("#   bootargs="));
    let mut tried = 0;
    for example in examples {
        let edited = settings.replace("\nbootargs=\n", &format!("\nbootargs={example}\n"));
        ensure!(edited != settings, "no line `bootargs=` to edit");
        card.put(cx, "ristretto.txt", edited.as_bytes())?;
        let mut board = Board::espressobin(cx, &card.0, "")?;
        board.expect(&format!("Bootargs: {example}\r\n"), 40)?;
        let console = board.expect("wan: link up", 60).during(example)?;
        ensure!(!console.contains("bootargs:"), "{example}: {console}");
        board.no_complaints().during(example)?;
        tried += 1;
    }
    ensure!(tried >= 5, "{tried} examples");
    Ok(())
}

/// A watchdog that the boot loader armed does not reset us: nobody would feed it. That it can bite is seen before.
fn watchdog_of_uboot(cx: &Context) -> Result {
    const LIMIT: Duration = Duration::from_secs(10);
    let mut board = Board::espressobin(cx, &card(cx)?, "")?;
    board.prompt()?;
    board.command("wdt dev watchdog@8300")?;
    board.enter("wdt expire")?;
    board
        .prompt()
        .during("the reset by U-Boot's `wdt expire`")?;
    board.command("wdt dev watchdog@8300")?;
    let said = board.command(&format!("wdt start {}", LIMIT.as_millis()))?;
    ensure!(said.contains("Started watchdog@8300"), "wdt start: {said}");
    board.enter("boot")?;
    board.expect("watchdog: was armed by the boot loader, stopped", 40)?;
    let stopped = Instant::now();
    board.expect(": http://10.0.2.15/", 40)?;
    while stopped.elapsed() < LIMIT + LIMIT / 2 {
        thread::sleep(Duration::from_secs(1));
        board.answers().during("after the watchdog's time")?;
    }
    let reset = board.expect("U-Boot 2023", 1);
    ensure!(reset.is_err(), "the machine was reset");
    board.no_complaints()
}

/// Between the end and the next start, U-Boot comes up, moves itself, reads the card and loads us: the record is whole.
fn crash_by_way_of_uboot(cx: &Context) -> Result {
    let card = OwnCard::new(cx)?;
    card.put(cx, "ristretto.txt", b"bootargs=test=once:panic\r\n")?;
    for (what, virt) in [("the board", false), ("virt", true)] {
        let mut board = match virt {
            true => Board::virt(cx, &card.0, RELEASE)?,
            false => Board::espressobin(cx, &card.0, "")?,
        };
        board
            .expect("Found U-Boot script /boot.scr", 40)
            .during(what)?;
        board.expect("resetting", 60).during(what)?;
        board
            .expect("Found U-Boot script /boot.scr", 60)
            .during(what)?;
        let said = board.expect("crash record: ", 60).during(what)?;
        ensure!(said.contains("] Ristretto "), "{what}: {said}");
        board
            .expect("1 start(s) ago: panicked at ", 10)
            .during(what)?;
        board.expect(": http://10.0.2.15/", 60).during(what)?;
        if !virt {
            board.no_complaints()?;
        }
    }
    Ok(())
}

/// By the line in the settings, else by `$fdtfile`, else by what U-Boot finds; what leads nowhere is not the end.
fn tree_of_the_board(cx: &Context) -> Result {
    const V5: &str = "marvell/armada-3720-espressobin.dtb";
    const V7: &str = "marvell/armada-3720-espressobin-v7.dtb";
    let card = OwnCard::new(cx)?;
    for (variant, line, typed, tree) in [
        ("v7", "", "", V7),
        ("v7", "espressobin=v5\r\n", "", V5),
        (
            "v5",
            "espressobin=v7\r\n",
            "setenv fdtfile nonsense.dtb",
            V7,
        ),
        (
            "v5",
            "espressobin=\r\n",
            &format!("setenv fdtfile {V7}"),
            V7,
        ),
        (
            "v5",
            "",
            "setenv fdtfile armada-3720-espressobin-v7.dtb",
            V7,
        ),
        ("v5", "", "setenv fdtfile armada-3720-community.dtb", V5),
    ] {
        card.put(cx, "ristretto.txt", line.as_bytes())?;
        let mut board = Board::espressobin(cx, &card.0, &format!(",variant={variant}"))?;
        if !typed.is_empty() {
            board.prompt()?;
            board.command(typed)?;
            board.enter("boot")?;
        }
        let told = board.expect("Starting kernel", 30)?;
        let what = format!("{variant}, `{}`, `{typed}`", line.trim());
        let loaded = match typed.contains("community") {
            true => "taking the one for v5".to_owned(),
            false => format!("Devicetree: {tree}"),
        };
        ensure!(told.contains(&loaded), "{what}: not `{loaded}`: {told}");
        let model = board
            .expect("\n", 10)
            .and(board.expect("MiB of memory", 30))?;
        ensure!(
            model.contains("ESPRESSOBin Board V7") == (tree == V7),
            "{what}: {model}"
        );
    }
    Ok(())
}

/// The example of an extlinux file, put where U-Boot looks for one, is what boots.
fn extlinux_example(cx: &Context) -> Result {
    let card = OwnCard::new(cx)?;
    let example = boot_file(cx, "/extlinux/extlinux.conf.example")?;
    card.add(cx, "/extlinux", "extlinux.conf", &example)?;
    let mut board = Board::espressobin(cx, &card.0, "")?;
    board.expect("Found /extlinux/extlinux.conf", 30)?;
    board.serves()?;
    board.no_complaints()
}

/// An environment of 2017, and the lines that the readme on the card has for it.
fn old_environment(cx: &Context) -> Result {
    let readme = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../boards/espressobin/readme.txt"
    );
    let readme = fs::read_to_string(readme)?;
    let lines: Vec<&str> = readme
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("setenv "))
        .collect();
    ensure!(lines.len() == 2, "lines to type: {lines:?}");
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let ours = fs::read_to_string(ours)?;
    for line in &lines {
        ensure!(ours.contains(line), "README.md has not: {line}");
    }

    let mut board = Board::espressobin(cx, &card(cx)?, "")?;
    board.prompt()?;
    // Source: U-Boot 2017.03 of Marvell, include/configs/mvebu_armada-common.h.
    for line in [
        "env delete distro_bootcmd boot_targets boot_scripts boot_prefixes board board_name soc vendor",
        "setenv scriptaddr 0x4d00000",
        "setenv fdt_addr_r 0x4f00000; setenv fdt_addr 0x4f00000; setenv fdt_high 0xffffffffffffffff",
        "setenv kernel_addr_r 0x5000000; setenv kernel_addr 0x5000000; setenv loadaddr 0x5000000",
        "setenv bootargs console=ttyMV0,115200 root=/dev/nfs rw",
        "setenv bootcmd 'echo of old'",
    ] {
        board.command(line)?;
    }
    for line in &lines {
        board.command(line)?;
    }
    board.enter("boot")?;
    let told = board.expect("Starting kernel", 30)?;
    ensure!(told.contains("Bootargs: \n"), "old bootargs: {told}");
    board.serves()?;
    board.secure_memory_is_untouched(cx)?;
    board.no_complaints()
}

/// `./x netboot` at the other end of the cable, and at U-Boot's prompt what it says to type.
fn netboot(cx: &Context) -> Result {
    let tap = Tap::new("tap0")?;
    let x = concat!(env!("CARGO_MANIFEST_DIR"), "/../x");
    let mut server = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", x, "netboot", tap.name])
        .args(["--append", "hostname=netbooted"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let Some(output) = server.stdout.take() else {
        fail!("no output of ./x netboot");
    };
    let mut said = BufReader::new(output).lines().map_while(|line| line.ok());
    let typed: Vec<String> = said
        .by_ref()
        .take_while(|line| !line.contains("Ctrl-C"))
        .filter_map(|line| line.strip_prefix("  ").map(str::to_owned))
        .collect();
    ensure!(typed.len() == 5, "commands: {typed:?}");
    // What else it says has to go somewhere.
    thread::spawn(move || said.for_each(|line| println!("{line}")));

    let network = Network {
        netdev: format!("tap,id=n0,ifname={},script=no,downscript=no", tap.name),
        services: Services::at(tap::GUEST),
    };
    let mut board = Board::espressobin_on(cx, RELEASE, None, "", network)?;
    board.prompt()?;
    for line in &typed[..4] {
        board.command(line)?;
    }
    board.enter(&typed[4])?;
    board.expect("] Ristretto ", 30)?;
    board.expect("wan: address 10.9.0.", 40)?;
    let rest = board.expect("/24 (dhcp)", 10)?;
    let host: u8 = match rest.trim_end_matches("/24 (dhcp)").parse() {
        Ok(host) => host,
        Err(_) => fail!("not an address of ours: 10.9.0.{rest}"),
    };
    board.services = Services::at(Ipv4Addr::new(10, 9, 0, host));
    board.answers()?;
    let status = curl(&[&format!("http://{}/api/v1/status", board.services.http)])?;
    ensure!(status.contains("\"hostname\":\"netbooted\""), "{status}");
    board.secure_memory_is_untouched(cx)?;
    board.no_complaints()?;

    run("kill", &["-s", "INT", &server.id().to_string()])?;
    wait(10, "the end of ./x netboot by Ctrl-C", || {
        server.try_wait().ok().flatten()
    })?;
    Ok(())
}
