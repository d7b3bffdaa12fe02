//! One QEMU with the counting plugin: its command line, its console, its counter, and the host ports that lead into it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result, at, failure};
use crate::step::Step;

/// What to boot.
pub struct System {
    /// For people.
    pub name: String,
    /// An arm64 `Image`.
    pub kernel: PathBuf,
    /// Linux's first file system.
    pub initrd: Option<PathBuf>,
    /// Bootargs, if there are any.
    pub append: Option<&'static str>,
}

/// The hardware that both systems run on.
pub enum Machine {
    /// QEMU's own machine with three virtio network cards.
    Virt,
    /// The board's model, with its three sockets.
    Espressobin {
        /// The devicetree that Linux has for it.
        tree: PathBuf,
    },
}

impl Machine {
    /// The memory of a guest whose costs are measured.
    pub fn memory(&self) -> &'static str {
        match self {
            Self::Virt => "256M",
            Self::Espressobin { .. } => "512M",
        }
    }

    /// The board and its serial console; the model's second core sleeps unless the guest wakes it.
    fn options(&self, qemu: Step) -> Step {
        match self {
            Self::Virt => {
                qemu.words("-M virt,gic-version=3 -cpu cortex-a53 -smp 1 -nographic -no-reboot")
            }
            Self::Espressobin { tree } => qemu
                .words("-M espressobin -nodefaults -display none -serial stdio -no-reboot -dtb")
                .arg(tree.to_string_lossy()),
        }
    }

    /// The card on network `n<number>`; on the board, a cable into the socket of that number.
    fn card(&self, number: usize) -> String {
        match self {
            Self::Virt => format!(
                "-device virtio-net-device,netdev=n{number},mac=52:54:00:00:00:{number:02x}"
            ),
            Self::Espressobin { .. } => format!("-net nic,netdev=n{number}"),
        }
    }
}

/// The QEMU to run and the plugin built for it.
pub struct Emulator {
    /// The program.
    pub qemu: String,
    /// `libcount.so`.
    pub plugin: PathBuf,
    /// What it emulates.
    pub machine: Machine,
    /// Where the plugin is to list every block, if it is.
    pub blocks: Option<PathBuf>,
    /// Whether the plugin looks at loads and stores.
    pub watches_memory: bool,
}

/// What the first network card is connected to. The guest cannot tell.
pub enum Wire<'a> {
    /// QEMU's user-mode network, which answers DHCP and forwards the host's ports.
    UserNetwork,
    /// A socket of ours that reads every frame and never answers.
    Ear(&'a UdpSocket),
}

/// The file in which the plugin's totals appear.
pub struct Counter {
    file: File,
    path: PathBuf,
}

/// What the plugin counts.
#[derive(Clone, Copy, Debug)]
pub enum Total {
    /// Instructions begun.
    Instructions,
    /// Loads from devices and stores to them; only if the plugin looks at loads and stores.
    DeviceAccesses,
    /// Bytes stored in memory; only if the plugin looks at loads and stores.
    BytesStored,
}

impl Counter {
    /// How many of them so far.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn get(&self, total: Total) -> Result<u64> {
        let mut bytes = [0; 32];
        // Shorter: the plugin is about to size the file.
        self.file.read_at(&mut bytes, 0).map_err(at(&self.path))?;
        let [instructions, loads, stores, bytes_stored] = std::array::from_fn(|n| {
            bytes
                .as_chunks()
                .0
                .get(n)
                .map_or(0, |word| u64::from_ne_bytes(*word))
        });
        Ok(match total {
            Total::Instructions => instructions,
            Total::DeviceAccesses => loads + stores,
            Total::BytesStored => bytes_stored,
        })
    }

    /// Instructions executed so far.
    ///
    /// # Errors
    ///
    /// As [`Counter::get`].
    pub fn instructions(&self) -> Result<u64> {
        self.get(Total::Instructions)
    }
}

/// A running guest. Ends with this value.
pub struct Guest {
    child: Child,
    /// What it has executed.
    pub counter: Counter,
    console: Receiver<String>,
    log: Vec<String>,
    /// The command line it was started with.
    pub line: String,
    /// Where the guest's UDP port 7 is on this host.
    pub udp_echo: SocketAddr,
    /// Where the guest's TCP port 80 is on this host.
    pub http: SocketAddr,
    /// The same of its port 5201.
    pub iperf3: SocketAddr,
}

impl Guest {
    /// Starts a guest with so much memory. The command line is the same for every system on a machine but for what
    /// `-kernel`, `-initrd` and `-append` say, with three network cards.
    ///
    /// # Errors
    ///
    /// If QEMU cannot be started.
    pub fn start(
        emulator: &Emulator,
        system: &System,
        memory: &str,
        wire: &Wire<'_>,
    ) -> Result<Self> {
        let counter_path =
            std::env::temp_dir().join(format!("ristretto-count-{}", std::process::id()));
        // QEMU makes the file anew; one that is left over must not be mistaken for it.
        fs::write(&counter_path, [0; 32]).map_err(at(&counter_path))?;
        let udp_echo = local(free_udp_port()?);
        let http = local(free_tcp_port()?);
        let iperf3 = local(free_tcp_port()?);
        let first = match wire {
            Wire::UserNetwork => format!(
                "user,id=n0,net=10.0.2.0/24,hostfwd=udp:{udp_echo}-:7,hostfwd=tcp:{http}-:80,hostfwd=tcp:{iperf3}-:5201"
            ),
            Wire::Ear(socket) => {
                let ours = socket.local_addr().map_err(network)?;
                format!(
                    "socket,id=n0,udp={ours},localaddr={}",
                    local(free_udp_port()?)
                )
            }
        };
        let mut plugin = format!(
            "{},total={}",
            emulator.plugin.display(),
            counter_path.display()
        );
        if let Some(blocks) = &emulator.blocks {
            plugin += &format!(",blocks={}", blocks.display());
        }
        if emulator.watches_memory {
            plugin += ",memory=on";
        }
        let machine = &emulator.machine;
        // The kernel has QEMU die with us, whatever ends us.
        let mut step = machine
            .options(
                Step::new("setpriv")
                    .words("--pdeathsig KILL")
                    .arg(&emulator.qemu),
            )
            .args(["-m", memory, "-plugin", &plugin, "-netdev", &first])
            .words(&machine.card(0))
            .words("-netdev user,id=n1,net=10.0.3.0/24")
            .words(&machine.card(1))
            .words("-netdev user,id=n2,net=10.0.4.0/24")
            .words(&machine.card(2))
            .arg("-kernel")
            .arg(system.kernel.to_string_lossy());
        if let Some(initrd) = &system.initrd {
            step = step.arg("-initrd").arg(initrd.to_string_lossy());
        }
        if let Some(append) = system.append {
            step = step.args(["-append", append]);
        }
        let mut child = step
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Error::Failure(format!("{}: {error}", emulator.qemu)))?;
        let console = lines_of(&mut child);
        let counter = Counter {
            file: File::open(&counter_path).map_err(at(&counter_path))?,
            path: counter_path,
        };
        Ok(Self {
            child,
            counter,
            console,
            log: Vec::new(),
            line: step.line(),
            udp_echo,
            http,
            iperf3,
        })
    }

    /// Makes sure that it has not ended.
    ///
    /// # Errors
    ///
    /// If it has, or panicked.
    pub fn still_runs(&mut self) -> Result<()> {
        self.log.extend(self.console.try_iter());
        self.still_coming("more to measure", Instant::now() + Duration::from_secs(1))
    }

    /// Waits until a console line holds this text.
    ///
    /// # Errors
    ///
    /// If it does not come in time, or the guest ends or panics first.
    pub fn wait_for_line(&mut self, text: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            match self.console.recv_timeout(Duration::from_millis(1)) {
                Ok(line) if line.contains(text) => return Ok(()),
                Ok(line) => self.log.push(line),
                Err(_) => self.still_coming(text, deadline)?,
            }
        }
    }

    /// Waits until a condition holds, asked about as fast as it can answer.
    ///
    /// # Errors
    ///
    /// If it does not hold in time, or the guest ends or panics first.
    pub fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut holds: impl FnMut(&Counter) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !holds(&self.counter) {
            self.log.extend(self.console.try_iter());
            self.still_coming(what, deadline)?;
        }
        Ok(())
    }

    /// An error if there is no point in waiting further.
    fn still_coming(&mut self, what: &str, deadline: Instant) -> Result<()> {
        let panicked = self
            .log
            .iter()
            .any(|line| line.to_lowercase().contains("panic"));
        let reason = match self.child.try_wait() {
            Ok(None) if panicked => "the guest panicked".to_owned(),
            Ok(None) if Instant::now() < deadline => return Ok(()),
            Ok(None) => "it took too long".to_owned(),
            Ok(Some(status)) => format!("QEMU ended ({status})"),
            Err(error) => error.to_string(),
        };
        self.log.extend(self.console.try_iter());
        let last = self
            .log
            .iter()
            .rev()
            .take(8)
            .rev()
            .map(|line| format!("\n    | {line}"))
            .collect::<String>();
        failure(format!(
            "no {what}: {reason}; the console's last lines:{last}"
        ))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Errors mean that it is gone already, which is all that is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.counter.path);
    }
}

/// Reads the console, and QEMU's own complaints, on threads, so that waiting for a line can be bounded and a full pipe
/// never stops the guest.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    if let Some(console) = child.stdout.take() {
        let sender = sender.clone();
        thread::spawn(move || forward_lines(console, &sender));
    }
    if let Some(complaints) = child.stderr.take() {
        thread::spawn(move || forward_lines(complaints, &sender));
    }
    receiver
}

fn forward_lines(pipe: impl Read, sender: &Sender<String>) {
    for line in BufReader::new(pipe)
        .split(b'\n')
        .map_while(std::result::Result::ok)
    {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if sender.send(line).is_err() {
            break;
        }
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A port that was free a moment ago: QEMU takes no socket that is already bound.
fn free_udp_port() -> Result<u16> {
    let socket = UdpSocket::bind(local(0)).map_err(network)?;
    Ok(socket.local_addr().map_err(network)?.port())
}

fn free_tcp_port() -> Result<u16> {
    let socket = TcpListener::bind(local(0)).map_err(network)?;
    Ok(socket.local_addr().map_err(network)?.port())
}

/// Turns an error of this host's network into one line.
pub fn network(error: std::io::Error) -> Error {
    Error::Failure(format!("this host's network: {error}"))
}
