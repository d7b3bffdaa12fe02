//! `./x run`: boots the image in QEMU, with its network reachable from this machine.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};

use crate::args::{Command, Opt, Parsed, find};
use crate::build;
use crate::error::{Error, Result, usage};
use crate::packages::{self, Package};
use crate::qemu;
use crate::step::Step;

/// The row in the table of commands.
pub const COMMAND: Command = Command {
    name: "run",
    summary: "Boot the image in QEMU and say how to reach it",
    operands: "[MACHINE] [-- QEMU ARGUMENTS]",
    max_operands: 1,
    takes_rest: true,
    options: &[
        Opt::value(
            "--exit-after",
            "TIME",
            "stop after 10s, 1500ms, 2m ... with exit status 0",
        ),
        Opt::value("--net", "KIND", "user (the default), tap=NAME or none"),
        Opt::value(
            "--devices",
            "N",
            "number of network devices, 1 if not given",
        ),
        Opt::value(
            "--append",
            "BOOTARGS",
            "the image's command line, such as 'ip=dhcp hostname=demo'",
        ),
        Opt::value(
            "--mem",
            "SIZE",
            "memory of the machine, 256M if not given; espressobin: 512M, its least",
        ),
        Opt::value(
            "--dtb",
            "FILE",
            "boot with this devicetree instead of the machine's own",
        ),
    ],
    details: "\
Machines: virt (QEMU's own, the default), espressobin.

The image is built first. Its serial console is this terminal; Ctrl-A X leaves, Ctrl-A C is
QEMU's own prompt. With --net user the ports 80 (HTTP), 7 (echo, TCP and UDP), 2112 (irtt) and 5201
(iperf3) of the first device are forwarded from free ports of this machine, so that several runs can
coexist; with --net tap=NAME the first device is that TAP interface, which must exist.",
    run,
};

/// A machine to boot on.
struct Machine {
    name: &'static str,
    /// Makes the emulator's command line from what was asked for.
    launch: fn(&Request) -> Result<Step>,
}

const MACHINES: &[Machine] = &[
    Machine {
        name: "virt",
        launch: virt,
    },
    Machine {
        name: "espressobin",
        launch: espressobin,
    },
];

/// QEMU as the distribution has it.
pub const QEMU: Package = Package {
    name: "qemu-system-arm",
    brings: "qemu-system-aarch64",
    why: "the emulator that boots the image",
};

/// What was asked for, checked.
struct Request {
    net: Net,
    devices: usize,
    mem: Option<String>,
    append: Option<String>,
    dtb: Option<String>,
    rest: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Net {
    User,
    Tap(String),
    None,
}

/// Ports of this machine that lead to the guest's services.
struct Forwards {
    http: u16,
    echo_tcp: u16,
    echo_udp: u16,
    irtt: u16,
    /// By TCP and UDP, because the client has one option for both.
    iperf3: u16,
}

fn run(parsed: &Parsed) -> Result<()> {
    let name = parsed.operands.first().map_or("virt", String::as_str);
    let machine = find("machine", name, MACHINES, |machine| machine.name)?;
    let request = Request::from(parsed)?;
    let exit_after = parsed.duration("--exit-after")?;

    let emulator = (machine.launch)(&request)?;
    let built = build::sound_image()?;
    let mut emulator = emulator.args(["-kernel".to_owned(), built.image.display().to_string()]);
    if let Some(bootargs) = &request.append {
        emulator = emulator.args(["-append", bootargs]);
    }
    if let Some(dtb) = &request.dtb {
        emulator = emulator.args(["-dtb", dtb]);
    }
    if request.net == Net::User && request.devices > 0 {
        emulator = forwarded(emulator)?;
    }
    emulator = emulator.args(request.rest);
    println!("The serial console follows. Ctrl-A X leaves.");
    // This process becomes QEMU: killing it kills QEMU, and the terminal belongs to it.
    Err(match exit_after {
        None => emulator.exec(),
        // QEMU ends with status 0 when it is terminated. It dies with `timeout`, however that ends.
        Some(time) => emulator.limited(time).exec(),
    })
}

impl Request {
    fn from(parsed: &Parsed) -> Result<Self> {
        let net = match parsed.value("--net") {
            None | Some("user") => Net::User,
            Some("none") => Net::None,
            Some(kind) => match kind.strip_prefix("tap=") {
                Some(interface) if !interface.is_empty() => Net::Tap(interface.to_owned()),
                _ => return usage(format!("--net is user, tap=NAME or none, not `{kind}`")),
            },
        };
        let devices = parsed.number("--devices")?.unwrap_or(1);
        if devices > 8 {
            return usage(format!("--devices is at most 8, not {devices}"));
        }
        let mem = parsed.value("--mem").map(str::to_owned);
        if let Some(mem) = &mem {
            let digits = mem.trim_end_matches(['K', 'M', 'G']);
            if digits.is_empty()
                || mem.len() > digits.len() + 1
                || !digits.bytes().all(|byte| byte.is_ascii_digit())
            {
                return usage(format!(
                    "--mem wants a size such as 256M or 2G, not `{mem}`"
                ));
            }
        }
        let dtb = parsed.value("--dtb").map(str::to_owned);
        if let Some(file) = dtb
            .as_ref()
            .filter(|file| !std::path::Path::new(file).is_file())
        {
            return usage(format!("--dtb: there is no file {file}"));
        }
        Ok(Self {
            net,
            devices,
            mem,
            append: parsed.value("--append").map(str::to_owned),
            dtb,
            rest: parsed.rest.clone(),
        })
    }
}

/// QEMU's own machine, with virtio-net over MMIO.
fn virt(request: &Request) -> Result<Step> {
    packages::ensure(&[QEMU])?;
    let mut qemu = Step::new("qemu-system-aarch64")
        .words("-M virt,gic-version=3 -cpu cortex-a53 -nographic -nodefaults -serial mon:stdio")
        .args(["-m", request.mem.as_deref().unwrap_or("256M")]);
    if request.net == Net::None || request.devices == 0 {
        return Ok(qemu);
    }
    qemu = networks(qemu, request);
    // QEMU fills the last MMIO slot first, and the tree lists the first slot first: turn the order around.
    for index in (0..request.devices).rev() {
        qemu = qemu.args([
            "-device".to_owned(),
            format!("virtio-net-device,netdev=n{index}"),
        ]);
    }
    Ok(qemu)
}

/// The board's model, with the tree that Debian's kernel package has for it.
fn espressobin(request: &Request) -> Result<Step> {
    if request.devices > 3 {
        return usage("the espressobin has 3 sockets: --devices is at most 3");
    }
    let mut qemu = Step::new(qemu::binary(false)?.display().to_string())
        .words("-M espressobin -nographic -nodefaults -serial mon:stdio")
        .args(["-m", request.mem.as_deref().unwrap_or("512M")]);
    if request.dtb.is_none() {
        qemu = qemu.args(["-dtb".to_owned(), qemu::devicetree()?.display().to_string()]);
    }
    if request.net == Net::None {
        return Ok(qemu);
    }
    qemu = networks(qemu, request);
    // In switch port order: wan, lan0, lan1. A socket without a network has no cable.
    for index in 0..request.devices {
        qemu = qemu.args(["-net".to_owned(), format!("nic,netdev=n{index}")]);
    }
    Ok(qemu)
}

/// The networks behind the devices; the first one's, if it is QEMU's own, is completed by `forwarded`.
fn networks(qemu: Step, request: &Request) -> Step {
    (0..request.devices).fold(qemu, |qemu, index| {
        let netdev = match (&request.net, index) {
            (Net::Tap(interface), 0) => {
                format!("tap,id=n0,ifname={interface},script=no,downscript=no")
            }
            (_, 0) => return qemu,
            (_, _) => format!(
                "user,id=n{index},net=10.0.{}.0/24,ipv6-prefix=fec{index:x}::",
                2 + index
            ),
        };
        qemu.args(["-netdev", &netdev])
    })
}

/// Adds the network that is reached from this machine, and prints how.
fn forwarded(qemu: Step) -> Result<Step> {
    let ports = Forwards::choose()?;
    let Forwards {
        http,
        echo_tcp,
        echo_udp,
        irtt,
        iperf3,
    } = ports;
    println!(
        "
When it is up, try:
  curl http://127.0.0.1:{http}/
  echo hello | nc -q1 127.0.0.1 {echo_tcp}        # TCP echo
  echo hello | nc -u -w1 127.0.0.1 {echo_udp}     # UDP echo
  irtt client -d 5s 127.0.0.1:{irtt}
  iperf3 -c 127.0.0.1 -p {iperf3}             # UDP: -u -l 1400
  ./x latency 127.0.0.1 --http-port {http} --tcp-port {echo_tcp} --udp-port {echo_udp}
"
    );
    Ok(qemu.args(["-netdev".to_owned(), ports.netdev()]))
}

impl Forwards {
    /// Ports that are free now. Held together until all are chosen, so that they differ.
    fn choose() -> Result<Self> {
        let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        let none = |error| Error::Failure(format!("no free port to forward: {error}"));
        let tcp = || TcpListener::bind(any).map_err(none);
        let udp = || UdpSocket::bind(any).map_err(none);
        let (http, echo_tcp, echo_udp, irtt) = (tcp()?, tcp()?, udp()?, udp()?);
        // What is free for one protocol need not be for the other.
        let both = (0..100).find_map(|_| {
            let listener = TcpListener::bind(any).ok()?;
            let addr = listener.local_addr().ok()?;
            Some((UdpSocket::bind(addr).ok()?, listener))
        });
        let both = both.ok_or_else(|| Error::Failure("no free port to forward".into()))?;
        Ok(Self {
            http: http.local_addr().map_err(none)?.port(),
            echo_tcp: echo_tcp.local_addr().map_err(none)?.port(),
            echo_udp: echo_udp.local_addr().map_err(none)?.port(),
            irtt: irtt.local_addr().map_err(none)?.port(),
            iperf3: both.0.local_addr().map_err(none)?.port(),
        })
    }

    fn netdev(&self) -> String {
        let forwards = [
            ("tcp", self.http, 80),
            ("tcp", self.echo_tcp, 7),
            ("udp", self.echo_udp, 7),
            ("udp", self.irtt, 2112),
            ("tcp", self.iperf3, 5201),
            ("udp", self.iperf3, 5201),
        ];
        forwards.iter().fold(
            "user,id=n0".to_owned(),
            |netdev, (protocol, here, there)| {
                format!("{netdev},hostfwd={protocol}:127.0.0.1:{here}-:{there}")
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::parse;

    fn request(line: &str) -> Result<Request> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&COMMAND, &words).and_then(|parsed| Request::from(&parsed))
    }

    fn complaint(line: &str) -> String {
        request(line)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn requests_have_defaults() {
        let request = request("").unwrap();
        assert_eq!(
            (request.net, request.devices, request.mem),
            (Net::User, 1, None)
        );
    }

    #[test]
    fn wrong_values_are_named() {
        assert_eq!(
            complaint("--net bridge"),
            "--net is user, tap=NAME or none, not `bridge`"
        );
        assert_eq!(
            complaint("--net tap="),
            "--net is user, tap=NAME or none, not `tap=`"
        );
        assert_eq!(
            complaint("--mem lots"),
            "--mem wants a size such as 256M or 2G, not `lots`"
        );
        assert_eq!(
            complaint("--mem 1GG"),
            "--mem wants a size such as 256M or 2G, not `1GG`"
        );
        assert_eq!(
            complaint("--devices two"),
            "--devices wants a number, not `two`"
        );
        assert_eq!(complaint("--devices 9"), "--devices is at most 8, not 9");
        assert_eq!(
            complaint("--dtb /no/such/file"),
            "--dtb: there is no file /no/such/file"
        );
    }

    #[test]
    fn forwarded_ports_differ_between_runs() {
        let (one, other) = (Forwards::choose().unwrap(), Forwards::choose().unwrap());
        assert_ne!(one.http, one.echo_tcp);
        assert_ne!(one.netdev(), other.netdev());
    }
}
