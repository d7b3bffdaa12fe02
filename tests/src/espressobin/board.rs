//! The board: QEMU's machine `espressobin`, what is plugged into its sockets, and the image that runs on it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use espressobin_model::doubts;

use crate::check::{During, Failure, Result, ensure, fail, wait};
use crate::dt::Tree;
use crate::machine::Services;
use crate::qmp::Qmp;
use crate::wire::{GUEST_MAC, Wire};
use crate::{Context, tap};

/// The sockets, in the order of the switch's ports.
pub const SOCKETS: [&str; 3] = ["wan", "lan0", "lan1"];
/// Our boot loader is firmware, which goes to the start of memory; with it come its script, the tree and the image.
const SCRIPT_AT: usize = 0x1000;
const TREE_AT: usize = 0x10_0000;
const IMAGE_AT: usize = 0x20_0000;
/// Where it notes the counter when it enters the image.
const ENTERED_AT: u64 = 0x60;
/// Nanoseconds for each step of the counter: 12.5 MHz.
const COUNTER_NS: u64 = 80;

/// The machine's options for the last reading of every doubt.
pub fn flipped() -> String {
    let readings = doubts::all()
        .filter_map(|doubt| Some(format!("{}:{}", doubt.name, doubt.readings.last()?)));
    readings.collect::<Vec<_>>().join(",")
}

/// The directory of things that `./x` keeps.
fn cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
        PathBuf::from,
    );
    cache.join("ristretto")
}

/// The newest file called `name` below a directory of the project's cache.
pub fn cached(below: &str, name: &str) -> Result<PathBuf> {
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    let mut look = vec![cache().join(below)];
    while let Some(dir) = look.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let kind = entry.file_type()?;
            if kind.is_dir() && entry.file_name() != "source" && entry.file_name() != "build" {
                look.push(entry.path());
            } else if entry.file_name() == name {
                let time = entry.metadata()?.modified()?;
                if newest.as_ref().is_none_or(|(old, _)| *old < time) {
                    newest = Some((time, entry.path()));
                }
            }
        }
    }
    newest.map(|(_, path)| path).ok_or_else(|| {
        Failure::Skipped(format!(
            "no {name} in the cache: `./x test --ci` fetches it"
        ))
    })
}

/// The board's devicetree as Linux has it.
pub fn tree() -> Result<Tree> {
    Tree::parse(&fs::read(cached(
        "devicetree/bookworm",
        "armada-3720-espressobin.dtb",
    )?)?)
}

/// The same with the address of the other tests' first guest for `wan`.
pub fn tree_of_guest() -> Result<Tree> {
    let mut tree = tree()?;
    let wan = "/soc/internal-regs/mdio/switch0/ports/port@1";
    tree.node(wan)?.set("mac-address", &GUEST_MAC);
    Ok(tree)
}

/// The emulator: the one that `./x test` names, or the newest.
pub fn qemu() -> Result<PathBuf> {
    match std::env::var_os("ESPRESSOBIN_QEMU") {
        Some(path) => Ok(path.into()),
        None => cached("qemu", "qemu-system-aarch64"),
    }
}

/// What is at the other end of a socket's cable.
#[derive(Clone, Debug)]
pub enum End {
    /// QEMU's user-mode network 10.0.2.0/24 for `wan`, 10.0.3.0/24 for `lan0`, 10.0.4.0/24 for `lan1`.
    User,
    /// The test itself.
    Test,
    /// No network of QEMU's, which gives what it has to the first sockets: nor in those behind this one.
    Nothing,
    /// What QEMU makes of this description of a network device, whose id is `n0`, `n1` or `n2`.
    Netdev(String),
}

/// A boot loader's deed before it enters the image.
#[derive(Clone, Copy, Debug)]
pub enum Deed {
    /// Writes a 32-bit word.
    Write(u32, u32),
    /// Lets at least so many thousand instructions pass.
    Wait(u32),
}

/// A board before it is switched on.
pub struct Board<'c> {
    context: &'c Context,
    id: usize,
    options: String,
    append: String,
    memory: &'static str,
    tree: Option<Tree>,
    ends: [End; 3],
    deeds: Option<Vec<Deed>>,
    firmware: Option<PathBuf>,
    args: Vec<String>,
}

impl<'c> Board<'c> {
    /// A board with user-mode networks in all sockets. The model stops at what silicon would not tolerate.
    pub fn new(context: &'c Context) -> Self {
        Self {
            context,
            id: 0,
            options: "espressobin,strict=on".into(),
            append: String::new(),
            memory: "512M",
            tree: None,
            ends: [End::User, End::User, End::User],
            deeds: None,
            firmware: None,
            args: Vec::new(),
        }
    }

    /// Starts this instead of the image.
    pub fn firmware(mut self, file: PathBuf) -> Self {
        self.firmware = Some(file);
        self
    }

    /// Tells boards of one test apart.
    pub fn id(mut self, id: usize) -> Self {
        self.id = id;
        self
    }

    /// One more option of the machine, such as `state=power-on`.
    pub fn option(mut self, name: &str, value: &str) -> Self {
        if !value.is_empty() {
            // A comma inside a value is written twice.
            let value = value.replace(',', ",,");
            self.options.push_str(&format!(",{name}={value}"));
        }
        self
    }

    /// Readings of doubts, `name:reading,...`.
    pub fn doubts(self, list: &str) -> Self {
        self.option("doubts", list)
    }

    /// One more argument for QEMU.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments for QEMU.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Instructions are time: each takes so many nanoseconds of it, on the fastest host and on the slowest.
    pub fn instructions_take_ns(self, shift: u32) -> Self {
        self.arg("-icount").arg(&format!("shift={shift},sleep=on"))
    }

    /// Bootargs.
    pub fn append(mut self, bootargs: &str) -> Self {
        if !self.append.is_empty() {
            self.append.push(' ');
        }
        self.append.push_str(bootargs);
        self
    }

    /// Another devicetree than Linux' for the base model.
    pub fn tree(mut self, tree: Tree) -> Self {
        self.tree = Some(tree);
        self
    }

    /// What is at the other end of a socket's cable.
    pub fn end(mut self, socket: usize, end: End) -> Self {
        self.ends[socket] = end;
        self
    }

    /// All cables end in the test, and the board has the address 10.9.N.2/24 on socket N.
    pub fn all_wires(mut self) -> Self {
        for (id, name) in SOCKETS.iter().enumerate() {
            self = self.end(id, End::Test).append(&address(id, name));
        }
        self
    }

    /// A boot loader of ours does this, and enters the image then. See [`Running::entered_ns`].
    pub fn boot_loader(mut self, deeds: &[Deed]) -> Self {
        self.deeds = Some(deeds.to_vec());
        // Without firmware of QEMU's own it would be left out.
        self.option("secure-hole", "on")
    }

    fn file(&self, end: &str) -> PathBuf {
        self.context.out.join(self.name(end))
    }

    /// Relative to the directory of the evidence, where this process is: a socket's name cannot be long.
    fn name(&self, end: &str) -> String {
        format!("{}.{}.{end}", self.context.name, self.id)
    }

    /// Switches the board on.
    pub fn boot(self) -> Result<Running> {
        let (mut running, args) = self.prepare()?;
        running.start(&args)?;
        Ok(running)
    }

    /// Switches the board on and holds it before its first instruction, until [`Running::go`].
    pub fn boot_held(self) -> Result<Running> {
        let (mut running, mut args) = self.prepare()?;
        args.push("-S".into());
        running.start(&args)?;
        running.qmp()?;
        Ok(running)
    }

    fn prepare(self) -> Result<(Running, Vec<String>)> {
        let _ = tap::loopback();
        let (serial, complaints) = (self.file("serial"), self.file("complaints"));
        let socket: PathBuf = self.name("qmp").into();
        let mut args: Vec<String> = ["-M", &self.options, "-m", self.memory]
            .map(str::to_owned)
            .into();
        args.extend(
            [
                "-nodefaults",
                "-display",
                "none",
                "-d",
                "guest_errors",
                "-D",
            ]
            .map(str::to_owned),
        );
        args.push(complaints.display().to_string());
        let console = self.name("console");
        args.extend([
            "-chardev".into(),
            format!(
                "socket,id=c,path={console},server=on,wait=off,logfile={}",
                serial.display()
            ),
            "-serial".into(),
            "chardev:c".into(),
        ]);
        args.extend([
            "-qmp".into(),
            format!("unix:{},server=on,wait=off", socket.display()),
        ]);
        let (mut captures, mut services, mut wires) = (Vec::new(), Vec::new(), Vec::new());
        for (id, end) in self.ends.iter().enumerate() {
            let (mut service, mut wire) = (None, None);
            let netdev = match end {
                End::User => {
                    let (forwarded, netdev) = user(id, &format!("10.0.{}", 2 + id))?;
                    service = Some(forwarded);
                    netdev
                }
                End::Test => {
                    let path = |end: &str| self.name(&format!("w{id}.{end}"));
                    let (ours, theirs) = (path("test"), path("qemu"));
                    wire = Some(Wire::new(Path::new(&ours), Path::new(&theirs))?);
                    format!(
                        "dgram,id=n{id},local.type=unix,local.path={theirs},remote.type=unix,remote.path={ours}"
                    )
                }
                End::Netdev(netdev) => netdev.clone(),
                End::Nothing => break,
            };
            let capture = self.file(&format!("n{id}.pcap"));
            args.extend(["-netdev".into(), netdev]);
            args.extend(["-net".into(), format!("nic,netdev=n{id}")]);
            args.extend([
                "-object".into(),
                format!(
                    "filter-dump,id=f{id},netdev=n{id},file={}",
                    capture.display()
                ),
            ]);
            captures.push(capture);
            services.push(service);
            wires.push(wire);
        }
        args.extend(self.args.iter().cloned());
        self.image(&mut args)?;
        let running = Running {
            child: None,
            log: self.file("qemu.log"),
            serial,
            complaints,
            socket,
            console: console.into(),
            keyboard: None,
            captures,
            services,
            wires,
            qmp: None,
        };
        Ok((running, args))
    }

    /// Arguments that load image and tree.
    fn image(&self, args: &mut Vec<String>) -> Result {
        if let Some(firmware) = &self.firmware {
            args.extend(["-bios".into(), firmware.display().to_string()]);
            return Ok(());
        }
        let image = self.context.image.display();
        let mut tree = match &self.tree {
            Some(tree) => tree.clone(),
            None => tree()?,
        };
        let Some(deeds) = &self.deeds else {
            let blob = self.file("dtb");
            fs::write(&blob, tree.to_blob())?;
            args.extend(["-dtb".into(), blob.display().to_string()]);
            args.extend(["-kernel".into(), image.to_string()]);
            if !self.append.is_empty() {
                args.extend(["-append".into(), self.append.clone()]);
            }
            return Ok(());
        };
        if tree.node("/chosen").is_err() {
            tree.root.children.push(crate::dt::Node::new("chosen"));
        }
        let bootargs = format!("{}\0", self.append);
        tree.node("/chosen")?.set("bootargs", bootargs.as_bytes());
        let mut script = Vec::new();
        for deed in deeds.iter().chain([&Deed::Write(0, 0)]) {
            let (address, value) = match *deed {
                Deed::Write(address, value) => (address, value),
                Deed::Wait(thousands) => (1, thousands.max(1)),
            };
            script.extend(address.to_le_bytes());
            script.extend(value.to_le_bytes());
        }
        let mut firmware = Vec::new();
        for (at, part) in [
            (0, loader()),
            (SCRIPT_AT, script),
            (TREE_AT, tree.to_blob()),
            (IMAGE_AT, fs::read(&self.context.image)?),
        ] {
            ensure!(firmware.len() <= at, "no room before {at:#x}");
            firmware.resize(at, 0);
            firmware.extend(part);
        }
        let file = self.file("firmware");
        fs::write(&file, firmware)?;
        args.extend(["-bios".into(), file.display().to_string()]);
        Ok(())
    }
}

/// Bootargs for the address 10.9.N.2/24 and nothing by itself.
pub fn address(id: usize, name: &str) -> String {
    format!("ip=10.9.{id}.2::10.9.{id}.1:255.255.255.0::{name}:off")
}

/// A user-mode network with the services forwarded.
pub fn user(id: usize, net: &str) -> Result<(Services, String)> {
    let services = Services::forwarded()?;
    let netdev = format!("user,id=n{id},net={net}.0/24{}", services.forwards());
    Ok((services, netdev))
}

/// Carries out the script, notes the counter, and enters the image.
fn loader() -> Vec<u8> {
    let code: [u32; 18] = [
        0x5800_0242, // ldr  x2, script
        0x28c1_1043, // next: ldp w3, w4, [x2], #8
        0x3400_0103, // cbz  w3, enter
        0x3700_0063, // tbnz w3, #0, wait
        0xb900_0064, // str  w4, [x3]
        0x17ff_fffc, // b    next
        0xd376_d484, // wait: lsl x4, x4, #10
        0xf100_0484, // subs x4, x4, #1
        0x54ff_ffe1, // b.ne .-4
        0x17ff_fff8, // b    next
        0xd53b_e024, // enter: mrs x4, cntpct_el0
        0x1000_01a2, // adr  x2, entered
        0xf900_0044, // str  x4, [x2]
        0x5800_00e0, // ldr  x0, tree
        0x5800_0101, // ldr  x1, image
        0xd61f_0020, // br   x1
        0xd503_201f, // nop
        0xd503_201f, // nop
    ];
    let mut bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    // script, tree, image, entered
    for word in [SCRIPT_AT, TREE_AT, IMAGE_AT, 0] {
        bytes.extend((word as u64).to_le_bytes());
    }
    bytes
}

/// A running board. Killed when dropped.
pub struct Running {
    child: Option<Child>,
    log: PathBuf,
    serial: PathBuf,
    complaints: PathBuf,
    socket: PathBuf,
    console: PathBuf,
    keyboard: Option<UnixStream>,
    captures: Vec<PathBuf>,
    services: Vec<Option<Services>>,
    wires: Vec<Option<Wire>>,
    qmp: Option<Qmp>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Both fail only if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = (
            fs::remove_file(&self.socket),
            fs::remove_file(&self.console),
        );
    }
}

impl Running {
    fn start(&mut self, args: &[String]) -> Result {
        let qemu = qemu()?;
        let mut log = File::create(&self.log)?;
        writeln!(log, "{} {}", qemu.display(), args.join(" "))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(qemu)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .during("the board's QEMU")?;
        self.child = Some(child);
        Ok(())
    }

    /// Lets a board go that [`Board::boot_held`] holds.
    pub fn go(&mut self) -> Result {
        self.qmp()?.execute("cont", "{}").map(|_| ())
    }

    /// QEMU's control socket.
    pub fn qmp(&mut self) -> Result<&mut Qmp> {
        let qmp = match self.qmp.take() {
            Some(qmp) => qmp,
            None => Qmp::connect(&self.socket)?,
        };
        Ok(self.qmp.insert(qmp))
    }

    /// Replaces the faults in force; none clears them.
    pub fn faults(&mut self, list: &str) -> Result {
        let arguments = format!(r#"{{"path":"/machine","property":"faults","value":"{list}"}}"#);
        self.qmp()?.execute("qom-set", &arguments).map(|_| ())
    }

    /// A counter of what no register tells: `from_mac`, `to_mac`, `no_link` ...
    pub fn wire_counter(&mut self, name: &str) -> Result<u64> {
        let arguments = r#"{"path":"/machine","property":"counters"}"#;
        let text = self.qmp()?.execute("qom-get", arguments)?;
        let key = format!("{name}=");
        let value = text
            .split([' ', '"'])
            .find_map(|word| word.strip_prefix(key.as_str()));
        match value.and_then(|value| value.parse().ok()) {
            Some(value) => Ok(value),
            None => fail!("the model counts no {name}: {text}"),
        }
    }

    /// Plugs or pulls the cable of a socket.
    pub fn cable(&mut self, socket: usize, plugged: bool) -> Result {
        self.qmp()?.set_link(&format!("n{socket}"), plugged)
    }

    /// How the services behind a socket are reached, by user-mode network.
    pub fn services(&self, socket: usize) -> Result<Services> {
        match self.services.get(socket) {
            Some(Some(services)) => Ok(*services),
            _ => fail!("no user-mode network in {}", SOCKETS[socket]),
        }
    }

    /// Our end of a socket's cable, once.
    pub fn take_wire(&mut self, socket: usize) -> Result<Wire> {
        match self.wires.get_mut(socket).and_then(Option::take) {
            Some(wire) => Ok(wire),
            None => fail!("the cable of {} does not end here", SOCKETS[socket]),
        }
    }

    /// Types on the console.
    pub fn type_in(&mut self, text: &str) -> Result {
        let mut keyboard = match self.keyboard.take() {
            Some(keyboard) => keyboard,
            None => {
                let keyboard = wait(20, "the console", || {
                    UnixStream::connect(&self.console).ok()
                })?;
                // The log has it; but somebody has to take it here, too.
                let mut screen = keyboard.try_clone()?;
                thread::spawn(
                    move || while screen.read(&mut [0; 4096]).is_ok_and(|len| len > 0) {},
                );
                keyboard
            }
        };
        keyboard.write_all(text.as_bytes())?;
        self.keyboard = Some(keyboard);
        Ok(())
    }

    /// Everything on the console so far.
    pub fn console(&self) -> String {
        let bytes = fs::read(&self.serial).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    /// Where the console's next byte will be, for [`Running::line_from`].
    pub fn mark(&self) -> usize {
        self.console().len()
    }

    /// Waits for a line with this text.
    pub fn line(&mut self, text: &str) -> Result<String> {
        self.line_from(0, text)
    }

    /// The same, looking at what follows the first `mark` bytes only.
    pub fn line_from(&mut self, mark: usize, text: &str) -> Result<String> {
        self.line_within(mark, text, 90)
    }

    /// The same, with another limit.
    pub fn line_within(&mut self, mark: usize, text: &str, seconds: u64) -> Result<String> {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            let ended = match &mut self.child {
                Some(child) => child.try_wait()?,
                None => None,
            };
            let console = self.console();
            let new = console.get(mark..).unwrap_or_default();
            let whole = new.rfind('\n').map_or("", |end| &new[..end]);
            if let Some(line) = whole.lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            if ended.is_some() {
                let said = fs::read_to_string(&self.log).unwrap_or_default();
                let last = said.lines().last().unwrap_or_default();
                fail!("QEMU ended before the console said `{text}`: {last}");
            }
            ensure!(
                Instant::now() < deadline,
                "the console did not say `{text}` within {seconds} s"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for links and addresses on the user-mode networks of these sockets.
    pub fn leases(&mut self, sockets: &[usize]) -> Result {
        for id in sockets {
            self.line(&format!(
                "{}: address 10.0.{}.15/24 (dhcp)",
                SOCKETS[*id],
                2 + id
            ))?;
        }
        Ok(())
    }

    /// The address of an interface, as its line on the console says.
    pub fn mac(&mut self, name: &str) -> Result<[u8; 6]> {
        let line = self.line(&format!("] {name}: neta"))?;
        let text = line.rsplit(' ').next().unwrap_or_default();
        let bytes: Vec<u8> = text
            .split(':')
            .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
            .collect();
        bytes
            .try_into()
            .map_err(|_| Failure::Failed(format!("no address in `{line}`")))
    }

    /// Frames of a socket so far, both ways, each with its virtual time in nanoseconds since switching on.
    pub fn frames(&self, socket: usize) -> Result<Vec<(u64, Vec<u8>)>> {
        let Some(capture) = self.captures.get(socket) else {
            fail!("{} has no network", SOCKETS[socket]);
        };
        let bytes = fs::read(capture)?;
        let mut rest = bytes.get(24..).unwrap_or_default();
        let mut frames = Vec::new();
        // QEMU adds the host's time at start, in whole seconds: all but the first frame's fraction is relative to it.
        let mut start_s = None;
        while let Some((header, after)) = rest.split_first_chunk::<16>() {
            let word = |at: usize| {
                u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
            };
            let Some((frame, after)) = after.split_at_checked(word(8) as usize) else {
                break;
            };
            let start_s = *start_s.get_or_insert(word(0));
            let time_us = u64::from(word(0) - start_s) * 1_000_000 + u64::from(word(4));
            frames.push((time_us * 1000, frame.to_vec()));
            rest = after;
        }
        Ok(frames)
    }

    /// When our boot loader entered the image, in nanoseconds of virtual time since switching on.
    pub fn entered_ns(&mut self) -> Result<u64> {
        Ok(self.qmp()?.memory(ENTERED_AT)? * COUNTER_NS)
    }

    /// Whether a whole line with this text follows the first `mark` bytes of the console.
    pub fn says_from(&self, mark: usize, text: &str) -> bool {
        let console = self.console();
        let new = console.get(mark..).unwrap_or_default();
        let whole = new.rfind('\n').map_or("", |end| &new[..end]);
        whole.contains(text)
    }

    /// Waits until QEMU ends by itself, without a complaint of the model.
    pub fn ended(&mut self, seconds: u64) -> Result {
        let Some(child) = &mut self.child else {
            fail!("QEMU was never started");
        };
        let status = wait(seconds, "the end of QEMU", || {
            child.try_wait().ok().flatten()
        })?;
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let last = said.lines().last().unwrap_or_default();
        ensure!(status.success(), "QEMU ended with {status}: {last}");
        let complaints = fs::read_to_string(&self.complaints).unwrap_or_default();
        ensure!(complaints.is_empty(), "the model complains: {complaints}");
        Ok(())
    }

    /// The board runs, and the model has nothing to complain of.
    pub fn sound(&mut self) -> Result {
        self.sound_but_for("\n")
    }

    /// The same, but for complaints that begin like this.
    pub fn sound_but_for(&mut self, known: &str) -> Result {
        let complaints = fs::read_to_string(&self.complaints).unwrap_or_default();
        if let Some(complaint) = complaints.lines().find(|line| !line.starts_with(known)) {
            fail!("the model complains: {complaint}");
        }
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            let last = said.lines().last().unwrap_or_default();
            fail!("QEMU has ended ({status}): {last}");
        }
        Ok(())
    }

    /// Neither MAC nor switch needed help.
    pub fn untroubled(&self) -> Result {
        let console = self.console();
        let bad = |line: &&str| {
            line.contains("neta: ") && !line.contains("open") || line.contains("anew")
        };
        match console.lines().find(bad) {
            Some(line) => fail!("the console says: {line}"),
            None => Ok(()),
        }
    }
}
