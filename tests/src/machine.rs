//! A machine to boot: QEMU's command line, piece by piece, and the guest that runs on it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::Context;
use crate::check::{During, Result, ensure, fail, wait};
use crate::clients::{self, Background};
use crate::dt::Tree;
use crate::qmp::Qmp;
use crate::tap::{self, Tap};
use crate::wire::Wire;

/// Where `virt` has its memory.
pub const DRAM: u64 = 0x4000_0000;
/// Where images go unless a test says otherwise: where QEMU's own loader puts them.
pub const IMAGE_AT: u64 = DRAM + 0x20_0000;
/// Where our few instructions of boot loader go; without a kernel QEMU keeps a devicetree of its own at [`DRAM`].
const LOADER_AT: u64 = DRAM + 0x10_0000;
const TREE_AT: u64 = LOADER_AT + 0x1_0000;

/// How the guest's services are reached.
#[derive(Clone, Copy, Debug)]
pub struct Services {
    /// HTTP.
    pub http: SocketAddr,
    /// Echo by TCP.
    pub echo_tcp: SocketAddr,
    /// Echo by UDP.
    pub echo_udp: SocketAddr,
    /// iperf3, by TCP.
    pub iperf3: SocketAddr,
    /// irtt.
    pub irtt: SocketAddr,
}

impl Services {
    /// The guest's own ports at its own address.
    pub fn at(address: impl Into<IpAddr>) -> Self {
        let address = address.into();
        let port = |port| SocketAddr::new(address, port);
        Self {
            http: port(80),
            echo_tcp: port(7),
            echo_udp: port(7),
            iperf3: port(5201),
            irtt: port(2112),
        }
    }
}

impl Services {
    /// Free ports of this machine, no two alike in this process.
    pub fn forwarded() -> Result<Self> {
        let tcp = || free(|address| TcpListener::bind(address)?.local_addr());
        let udp = || free(|address| UdpSocket::bind(address)?.local_addr());
        Ok(Self {
            http: tcp()?,
            echo_tcp: tcp()?,
            echo_udp: udp()?,
            iperf3: tcp()?,
            irtt: udp()?,
        })
    }

    /// What QEMU's user-mode network must be told to forward them.
    pub fn forwards(&self) -> String {
        let tcp = [(self.http, 80), (self.echo_tcp, 7), (self.iperf3, 5201)];
        let udp = [(self.echo_udp, 7), (self.irtt, 2112)];
        let tcp = tcp.map(|(from, to)| format!(",hostfwd=tcp:{from}-:{to}"));
        let udp = udp.map(|(from, to)| format!(",hostfwd=udp:{from}-:{to}"));
        [tcp.concat(), udp.concat()].concat()
    }
}

/// The next port that can be bound. Below those that the system gives to sockets of its own choice: whoever opens one
/// between our look and QEMU's does not take it.
fn free(bind: impl Fn(SocketAddr) -> io::Result<SocketAddr>) -> Result<SocketAddr> {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    // Tests without a network of their own keep apart by their numbers.
    let own = std::process::id() % 20 * 1000;
    let next = || 10_000 + own + TRIED.fetch_add(1, Ordering::Relaxed) % 1000;
    let addresses = (0..1000).map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, next() as u16)));
    let mut found = addresses.filter_map(|address| bind(address).ok());
    Ok(found
        .next()
        .ok_or("no port is free between 10000 and 30000")?)
}

/// What `x0` holds when the image is entered.
enum Handover {
    /// QEMU's own loader does everything.
    Kernel,
    /// Our loader hands over these bytes.
    Blob(Vec<u8>),
    /// Our loader hands over this number.
    Number(u64),
}

/// A machine before it is switched on.
pub struct Machine<'c> {
    context: &'c Context,
    id: usize,
    image: PathBuf,
    memory: String,
    el2: bool,
    cpu: &'static str,
    netdevs: Vec<String>,
    append: String,
    image_at: u64,
    loader_at: u64,
    handover: Handover,
    args: Vec<String>,
    services: Services,
    ready: &'static str,
    captures: bool,
}

impl<'c> Machine<'c> {
    /// A machine with 128 MiB and no network.
    pub fn new(context: &'c Context) -> Self {
        Self {
            context,
            id: 0,
            image: context.image.clone(),
            memory: "128M".into(),
            el2: false,
            cpu: "cortex-a53",
            netdevs: Vec::new(),
            append: String::new(),
            image_at: IMAGE_AT,
            loader_at: LOADER_AT,
            handover: Handover::Kernel,
            args: Vec::new(),
            services: Services::at(Ipv4Addr::UNSPECIFIED),
            ready: "sealed",
            captures: true,
        }
    }

    /// Tells machines of one test apart.
    pub fn id(mut self, id: usize) -> Self {
        self.id = id;
        self
    }

    /// Memory, such as `256M`.
    pub fn memory(mut self, size: &str) -> Self {
        self.memory = size.into();
        self
    }

    /// The image is entered at EL2.
    pub fn el2(mut self) -> Self {
        self.el2 = true;
        self
    }

    /// Another processor.
    pub fn cpu(mut self, cpu: &'static str) -> Self {
        self.cpu = cpu;
        self
    }

    /// One more argument for QEMU.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Bootargs, after those there are.
    pub fn append(mut self, bootargs: &str) -> Self {
        if !self.append.is_empty() {
            self.append.push(' ');
        }
        self.append.push_str(bootargs);
        self
    }

    /// No capture of the packets: for tests that move more than anybody wants to read.
    pub fn without_capture(mut self) -> Self {
        self.captures = false;
        self
    }

    /// A network device on QEMU's user-mode network, its services forwarded from free ports of this machine.
    pub fn user(mut self) -> Result<Self> {
        // Fails where this is not our own namespace, and then the loopback is up.
        let _ = tap::loopback();
        self.services = Services::forwarded()?;
        // A connection that comes earlier is tried again by QEMU after six seconds only.
        self.ready = "http://10.0.2.15/";
        let id = self.netdevs.len();
        let forwards = self.services.forwards();
        Ok(self.netdev(format!("user,id=n{id}{forwards}")))
    }

    /// A network device on a TAP interface; the guest has its address from bootargs.
    pub fn tap(self, tap: &Tap) -> Self {
        let mut machine = self.tap_without_address(tap).append(tap::STATIC);
        machine.services = Services::at(tap::GUEST);
        machine.ready = "http://10.9.0.2/";
        machine
    }

    /// A network device on a TAP interface; the guest has to find itself an address.
    pub fn tap_without_address(self, tap: &Tap) -> Self {
        let id = self.netdevs.len();
        self.netdev(format!(
            "tap,id=n{id},ifname={},script=no,downscript=no",
            tap.name
        ))
    }

    /// A network device whose cable ends in the test.
    pub fn wire(self) -> Result<(Self, Wire)> {
        let id = self.netdevs.len();
        let path = |end: &str| self.socket(&format!("n{id}.{end}"));
        let (ours, theirs) = (path("test"), path("qemu"));
        let wire = Wire::new(&ours, &theirs)?;
        let netdev = format!(
            "dgram,id=n{id},local.type=unix,local.path={},remote.type=unix,remote.path={}",
            theirs.display(),
            ours.display()
        );
        Ok((self.netdev(netdev), wire))
    }

    /// A network device on a TAP interface, by way of the test: what the guest sends comes out of the first wire, what
    /// the interface sends out of the second. Another QEMU, without a machine, does the work.
    pub fn tap_by_way_of_test(self, tap: &Tap) -> Result<(Self, [Wire; 2], Background)> {
        let path = |end: &str| self.socket(&format!("bridge.{end}"));
        let (ours, theirs) = (path("test"), path("qemu"));
        let interface = Wire::new(&ours, &theirs)?;
        let bridge = Background::start(
            "qemu-system-aarch64",
            &[
                "-M",
                "none",
                "-nodefaults",
                "-display",
                "none",
                "-netdev",
                &format!("tap,id=t,ifname={},script=no,downscript=no", tap.name),
                "-netdev",
                "hubport,id=h0,hubid=0,netdev=t",
                "-netdev",
                &format!(
                    "dgram,id=d,local.type=unix,local.path={},remote.type=unix,remote.path={}",
                    theirs.display(),
                    ours.display()
                ),
                "-netdev",
                "hubport,id=h1,hubid=0,netdev=d",
            ],
        )?;
        wait(10, "the bridge to the TAP interface", || {
            theirs.exists().then_some(())
        })?;
        let (mut machine, guest) = self.wire()?;
        machine = machine.append(tap::STATIC);
        machine.services = Services::at(tap::GUEST);
        machine.ready = "http://10.9.0.2/";
        Ok((machine, [guest, interface], bridge))
    }

    /// A network device, by QEMU's description of what is behind it: `n0` for the first, and so on.
    pub fn netdev(mut self, netdev: String) -> Self {
        self.netdevs.push(netdev);
        self
    }

    /// Boots with this devicetree, as it is.
    pub fn tree(self, tree: &Tree) -> Self {
        self.blob(tree.to_blob())
    }

    /// Boots with these bytes for a devicetree.
    pub fn blob(mut self, blob: Vec<u8>) -> Self {
        self.handover = Handover::Blob(blob);
        self
    }

    /// Boots with this number where the address of the devicetree is expected.
    pub fn x0(mut self, x0: u64) -> Self {
        self.handover = Handover::Number(x0);
        self
    }

    /// Boots this file in place of the image.
    pub fn image(mut self, file: PathBuf) -> Self {
        self.image = file;
        self
    }

    /// Where the image goes, and where our boot loader and the devicetree go.
    pub fn load_at(mut self, image: u64, loader: u64) -> Self {
        (self.image_at, self.loader_at) = (image, loader);
        self
    }

    /// Boots at this address with the machine's own tree, bootargs included.
    pub fn with_own_tree(self) -> Result<Self> {
        let tree = self.own_tree()?;
        Ok(self.tree(&tree))
    }

    /// The devicetree that QEMU makes for this machine, bootargs included.
    pub fn own_tree(&self) -> Result<Tree> {
        let file = self.file("dumped.dtb");
        let mut qemu = Command::new("qemu-system-aarch64");
        qemu.args(self.hardware(&format!(",dumpdtb={}", file.display())));
        let output = qemu.output().during("qemu-system-aarch64")?;
        let blob = fs::read(&file).during(format!(
            "dumpdtb: {}",
            String::from_utf8_lossy(&output.stderr)
        ))?;
        fs::remove_file(file)?;
        let mut tree = Tree::parse(&blob)?;
        if !self.append.is_empty() {
            tree.node("/chosen")?
                .set("bootargs", format!("{}\0", self.append).as_bytes());
        }
        Ok(tree)
    }

    /// A file of this machine's in the evidence.
    fn file(&self, end: &str) -> PathBuf {
        self.context
            .out
            .join(format!("{}.{}.{end}", self.context.name, self.id))
    }

    /// A socket of this machine's, relative to the directory of the evidence, where the runner has put this process: an
    /// absolute path may be longer than a socket's name can be.
    fn socket(&self, end: &str) -> PathBuf {
        format!("{}.{}.{end}", self.context.name, self.id).into()
    }

    fn hardware(&self, machine_options: &str) -> Vec<String> {
        let el2 = if self.el2 { ",virtualization=on" } else { "" };
        let mut args: Vec<String> = ["-nodefaults", "-display", "none", "-cpu", self.cpu, "-m"]
            .map(str::to_owned)
            .into();
        args.push(self.memory.clone());
        args.push("-M".into());
        args.push(format!("virt,gic-version=3{el2}{machine_options}"));
        for netdev in &self.netdevs {
            args.extend(["-netdev".to_owned(), netdev.clone()]);
        }
        // QEMU fills the last place first, and the tree lists the first place first.
        for id in (0..self.netdevs.len()).rev() {
            let mac = format!("52:54:00:12:{:02x}:{:02x}", self.id, 0x56 + id);
            args.extend([
                "-device".to_owned(),
                format!("virtio-net-device,netdev=n{id},mac={mac}"),
            ]);
        }
        args.extend(self.args.iter().cloned());
        args
    }

    /// Switches the machine on.
    pub fn boot(self) -> Result<Guest> {
        let socket = self.socket("qmp");
        let mut args = self.hardware("");
        let captured = if self.captures { self.netdevs.len() } else { 0 };
        for id in 0..captured {
            let file = self.file(&format!("n{id}.pcap"));
            args.push("-object".into());
            args.push(format!(
                "filter-dump,id=f{id},netdev=n{id},file={}",
                file.display()
            ));
        }
        args.extend(["-serial".into(), "stdio".into(), "-qmp".into()]);
        args.push(format!("unix:{},server=on,wait=off", socket.display()));
        match &self.handover {
            Handover::Kernel => {
                args.extend(["-kernel".into(), self.image.display().to_string()]);
                if !self.append.is_empty() {
                    args.extend(["-append".into(), self.append.clone()]);
                }
            }
            Handover::Blob(blob) => {
                let tree_at = self.loader_at + (TREE_AT - LOADER_AT);
                args.extend(self.loaded("tree.dtb", blob, tree_at)?);
                args.extend(self.our_loader(tree_at)?);
            }
            Handover::Number(number) => args.extend(self.our_loader(*number)?),
        }
        let mut log = File::create(self.file("qemu"))?;
        writeln!(log, "qemu-system-aarch64 {}", args.join(" "))?;
        // Dies with this process, if that has no time to say goodbye.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "qemu-system-aarch64"])
            .args(&args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .during("qemu-system-aarch64")?;
        let console = Arc::new(Mutex::new(Vec::new()));
        if let Some(output) = child.stdout.take() {
            let (file, console) = (File::create(self.file("serial"))?, console.clone());
            thread::spawn(move || record(output, file, &console));
        }
        let capture = self.file("n0.pcap");
        // Captured from a TAP interface, a frame comes with the header of virtio's first version.
        let on_tap = self
            .netdevs
            .first()
            .is_some_and(|netdev| netdev.starts_with("tap,"));
        let capture_header = if on_tap { 10 } else { 0 };
        let (services, ready) = (self.services, self.ready);
        Ok(Guest {
            child,
            console,
            socket,
            qmp: None,
            services,
            ready,
            capture,
            capture_header,
        })
    }

    /// Loads the image and a few instructions that set `x0` and jump to it, as a boot loader would.
    fn our_loader(&self, x0: u64) -> Result<Vec<String>> {
        let mut code = Vec::new();
        for instruction in [
            0x5800_0080_u32, // ldr x0, #16
            0x5800_00a1,     // ldr x1, #24
            0xd61f_0020,     // br  x1
            0xd503_201f,     // nop
        ] {
            code.extend(instruction.to_le_bytes());
        }
        code.extend(x0.to_le_bytes());
        code.extend(self.image_at.to_le_bytes());
        let mut args = self.loaded("loader.bin", &code, self.loader_at)?;
        args.extend(load(&self.image, self.image_at));
        args.push("-device".into());
        args.push(format!("loader,addr={:#x},cpu-num=0", self.loader_at));
        Ok(args)
    }

    fn loaded(&self, end: &str, bytes: &[u8], at: u64) -> Result<Vec<String>> {
        let file = self.file(end);
        fs::write(&file, bytes)?;
        Ok(load(&file, at))
    }
}

/// Arguments that put a file into memory.
fn load(file: &Path, at: u64) -> Vec<String> {
    let device = format!("loader,file={},addr={at:#x},force-raw=on", file.display());
    vec!["-device".into(), device]
}

/// Copies a console to a file and to memory, until it ends.
pub fn record(mut output: impl Read, mut file: File, console: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(len @ 1..) = output.read(&mut buffer) {
        // The file is for people; the tests read what is in memory.
        let _ = file.write_all(&buffer[..len]);
        if let Ok(mut console) = console.lock() {
            console.extend_from_slice(&buffer[..len]);
        }
    }
}

/// A running machine. Killed when dropped.
pub struct Guest {
    child: Child,
    console: Arc<Mutex<Vec<u8>>>,
    socket: PathBuf,
    qmp: Option<Qmp>,
    /// How its services are reached.
    pub services: Services,
    ready: &'static str,
    capture: PathBuf,
    /// Bytes in front of each captured frame.
    capture_header: usize,
}

impl Guest {
    /// Everything on the console so far.
    pub fn console(&self) -> String {
        let console = self
            .console
            .lock()
            .map(|console| console.clone())
            .unwrap_or_default();
        String::from_utf8_lossy(&console).replace('\r', "")
    }

    /// Waits for a whole line with `text` in it, and returns the first.
    pub fn line(&mut self, text: &str, seconds: u64) -> Result<String> {
        self.line_from(0, text, seconds)
    }

    /// The same, looking at what follows the first `mark` bytes of the console only.
    pub fn line_from(&mut self, mark: usize, text: &str, seconds: u64) -> Result<String> {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            let ended = self.child.try_wait()?;
            let console = self.console();
            let new = console.get(mark..).unwrap_or_default();
            let whole = new.rfind('\n').map_or("", |end| &new[..end]);
            if let Some(line) = whole.lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            if let Some(status) = ended {
                fail!("QEMU ended ({status}) before the console said `{text}`");
            }
            ensure!(
                Instant::now() < deadline,
                "the console did not say `{text}` within {seconds} s"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Where the console's next byte will be, for [`Guest::line_from`].
    pub fn mark(&self) -> usize {
        self.console().len()
    }

    /// QEMU's control socket.
    pub fn qmp(&mut self) -> Result<&mut Qmp> {
        let qmp = match self.qmp.take() {
            Some(qmp) => qmp,
            None => Qmp::connect(&self.socket)?,
        };
        Ok(self.qmp.insert(qmp))
    }

    /// Waits until QEMU ends by itself.
    pub fn ended(&mut self, seconds: u64) -> Result<ExitStatus> {
        let status = wait(seconds, "the end of QEMU", || {
            self.child.try_wait().ok().flatten()
        })?;
        // What QEMU wrote last is on its way through the pipe.
        thread::sleep(Duration::from_millis(100));
        Ok(status)
    }

    /// Waits until `/healthz` answers: boot, network and HTTP work.
    pub fn healthy(&mut self, seconds: u64) -> Result {
        self.line(self.ready, seconds)?;
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            if let Some(status) = self.child.try_wait()? {
                fail!("QEMU ended ({status}) before HTTP answered");
            }
            match clients::get(self.services.http, "/healthz") {
                Ok(answer) if answer.code == 200 => return Ok(()),
                other if Instant::now() >= deadline => {
                    fail!("/healthz after {seconds} s: {other:?}")
                }
                _ => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// A sample of `/metrics`, by name and labels as they stand there, without `ristretto_`.
    pub fn metric(&self, sample: &str) -> Result<u64> {
        clients::metric(self.services.http, sample)
    }

    /// Processor time that QEMU has used so far, in ticks of 10 ms.
    pub fn host_ticks(&self) -> Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields = stat.rsplit(')').next().unwrap_or_default();
        // After the name: state is field 3, utime 14, stime 15. Spec: proc_pid_stat(5).
        let number = |field: usize| -> Option<u64> {
            fields
                .split_whitespace()
                .nth(field - 3)
                .and_then(|word| word.parse().ok())
        };
        match (number(14), number(15)) {
            (Some(user), Some(system)) => Ok(user + system),
            _ => fail!("cannot read the processor time of QEMU: {stat}"),
        }
    }

    /// The frames of the first network device so far, both ways.
    pub fn frames(&self) -> Result<Vec<Vec<u8>>> {
        let bytes = fs::read(&self.capture)?;
        let mut frames = Vec::new();
        let mut rest = bytes.get(24..).unwrap_or_default();
        // Each record: seconds, microseconds, captured length, original length; QEMU writes it in its own order.
        while let Some((header, after)) = rest.split_first_chunk::<16>() {
            let len = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]) as usize;
            let Some((frame, after)) = after.split_at_checked(len) else {
                break;
            };
            frames.push(
                frame
                    .get(self.capture_header..)
                    .unwrap_or_default()
                    .to_vec(),
            );
            rest = after;
        }
        Ok(frames)
    }

    /// How many SYNs for this port came by IPv4 on the first network device, and how many of them came again.
    pub fn handshakes_asked(&self, port: u16) -> Result<(usize, usize)> {
        let opens = |frame: &Vec<u8>| {
            let is_tcp = frame.get(12..14)? == [8, 0] && *frame.get(23)? == 6;
            let asks = frame.get(36..38)? == port.to_be_bytes() && frame.get(47)? & 0x12 == 2;
            // Source port and sequence number tell attempts apart.
            (is_tcp && asks).then(|| [&frame[34..36], &frame[38..42]].concat())
        };
        let asked: Vec<Vec<u8>> = self.frames()?.iter().filter_map(opens).collect();
        let different: std::collections::BTreeSet<&Vec<u8>> = asked.iter().collect();
        Ok((asked.len(), asked.len() - different.len()))
    }

    /// How many TCP segments with RST the guest has sent, on its first network device, by IPv4.
    pub fn resets_sent(&self, from: Ipv4Addr) -> Result<usize> {
        let is_reset = |frame: &Vec<u8>| {
            frame.get(12..14) == Some(&[8, 0])
                && frame.get(23) == Some(&6)
                && frame.get(26..30) == Some(&from.octets())
                && frame.get(47).is_some_and(|flags| flags & 4 != 0)
        };
        Ok(self
            .frames()?
            .iter()
            .filter(|frame| is_reset(frame))
            .count())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.socket);
    }
}
