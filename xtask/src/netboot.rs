//! `./x netboot`: serves the image and the trees to a board's U-Boot, by DHCP and TFTP on one interface.
//!
//! dnsmasq does the serving, in the foreground and with nothing but what is said here; Ctrl-C ends it. It serves
//! `out/netboot`, keeps its leases there, and asks for root, as both ports are below 1024.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::args::{Command, Opt, Parsed};
use crate::build;
use crate::error::{Result, at, failure, usage};
use crate::packages::{self, Package};
use crate::qemu;
use crate::step::Step;
use crate::workspace::{out_dir, write_whole};

/// The row in the table of commands.
pub const COMMAND: Command = Command {
    name: "netboot",
    summary: "Serve the image to a board's U-Boot by DHCP and TFTP",
    operands: "INTERFACE",
    max_operands: 1,
    takes_rest: false,
    options: &[
        Opt::value(
            "--board",
            "NAME",
            "v5 (the default), v7, v7-emmc, emmc or ultra: which tree the commands name",
        ),
        Opt::value("--append", "BOOTARGS", "what the image is told"),
        Opt::switch(
            "--no-dhcp",
            "serve TFTP alone, where another DHCP server is at work",
        ),
    ],
    details: "\
The image is built first. INTERFACE is the one with the cable to the board, and needs an IPv4
address: `sudo ip addr add 192.168.77.1/24 dev INTERFACE` gives it one. What to type at U-Boot's
prompt is printed. Nothing is served on any other interface; Ctrl-C ends it.

DHCP answers everybody on that interface: on a network with a server of its own, say --no-dhcp.",
    run,
};

const PACKAGES: &[Package] = &[
    Package {
        name: "dnsmasq-base",
        brings: "dnsmasq",
        why: "serves DHCP and TFTP",
    },
    Package {
        name: "iproute2",
        brings: "ip",
        why: "tells the interface's address",
    },
];

/// Where U-Boot loads to: clear of secure firmware of any age, and of each other. The card's boot.cmd has the same.
const IMAGE_AT: &str = "0x08000000";
const TREE_AT: &str = "0x07000000";

fn run(parsed: &Parsed) -> Result<()> {
    let Some(interface) = parsed.operands.first() else {
        return usage("`./x netboot` wants the name of an interface; `ip link` lists them");
    };
    if interface == "lo" {
        return usage("no board is on lo; `ip link` lists the others");
    }
    let tree = tree(parsed.value("--board").unwrap_or("v5"))?;
    let with_dhcp = !parsed.has("--no-dhcp");
    packages::ensure(PACKAGES)?;
    let network = Network::of(interface)?;
    let served = stage(&build::sound_image()?.image)?;
    let bootargs = parsed.value("--append").unwrap_or_default();
    println!(
        "\nAt U-Boot's prompt on the board, with a cable from {interface} to its wan socket:\n"
    );
    for line in commands(network.own, with_dhcp, tree, bootargs) {
        println!("  {line}");
    }
    println!("\nOr, for good, the same as bootcmd. Ctrl-C ends this server.\n");
    Err(server(interface, &network, with_dhcp, &served)?.exec())
}

/// The file of a board's tree.
fn tree(board: &str) -> Result<&'static str> {
    Ok(match board {
        "v5" => "armada-3720-espressobin.dtb",
        "v7" => "armada-3720-espressobin-v7.dtb",
        "v7-emmc" => "armada-3720-espressobin-v7-emmc.dtb",
        "emmc" => "armada-3720-espressobin-emmc.dtb",
        "ultra" => "armada-3720-espressobin-ultra.dtb",
        _ => {
            return usage(format!(
                "--board is v5, v7, v7-emmc, emmc or ultra, not `{board}`"
            ));
        }
    })
}

/// What to type.
fn commands(server: Ipv4Addr, with_dhcp: bool, tree: &str, bootargs: &str) -> [String; 5] {
    [
        // Also without our DHCP the board's address comes from one; only the files do not.
        "setenv autoload no; dhcp".to_owned(),
        match with_dhcp {
            true => format!("tftpboot {IMAGE_AT} Image"),
            false => format!("setenv serverip {server}; tftpboot {IMAGE_AT} Image"),
        },
        format!("tftpboot {TREE_AT} {tree}"),
        format!("setenv bootargs {bootargs}").trim_end().to_owned(),
        format!("booti {IMAGE_AT} - {TREE_AT}"),
    ]
}

/// Puts what is served into a directory with nothing else in it.
fn stage(image: &Path) -> Result<PathBuf> {
    let dir = out_dir()?.join("netboot");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).map_err(at(&dir))?;
    let trees = qemu::devicetrees(qemu::TREE_SUITES[0])?;
    let entries = fs::read_dir(&trees).map_err(at(&trees))?;
    let files = entries.flatten().map(|entry| entry.path());
    for file in files.chain([image.to_owned()]) {
        let content = fs::read(&file).map_err(at(&file))?;
        write_whole(&dir.join(file.file_name().unwrap_or_default()), &content)?;
    }
    Ok(dir)
}

/// The interface's own address and what the board may have.
#[derive(Debug, PartialEq, Eq)]
struct Network {
    own: Ipv4Addr,
    first: Ipv4Addr,
    last: Ipv4Addr,
    mask: Ipv4Addr,
}

impl Network {
    fn of(interface: &str) -> Result<Self> {
        let listing = Step::new("ip")
            .words("-4 -oneline addr show dev")
            .arg(interface)
            .output()?;
        let Some(network) = Self::parse(&listing) else {
            return failure(format!(
                "{interface} has no IPv4 address with room for others beside it; for example: \
                 sudo ip addr add 192.168.77.1/24 dev {interface}"
            ));
        };
        Ok(network)
    }

    /// From `3: eth1    inet 192.168.77.1/24 scope global eth1 ...`: the half of the network that the own address is not
    /// in, without the network's and the broadcast address.
    fn parse(listing: &str) -> Option<Self> {
        let mut words = listing.split_whitespace();
        words.find(|word| *word == "inet")?;
        let (address, prefix) = words.next()?.split_once('/')?;
        let own: Ipv4Addr = address.parse().ok()?;
        let prefix: u32 = prefix
            .parse()
            .ok()
            .filter(|prefix| (8..=29).contains(prefix))?;
        let half = 1_u32 << (31 - prefix);
        let mask = !(2 * half - 1);
        let base = own.to_bits() & mask;
        let in_lower = own.to_bits() - base < half;
        let (first, last) = match in_lower {
            true => (base + half, base + 2 * half - 2),
            false => (base + 1, base + half - 1),
        };
        Some(Self {
            own,
            first: first.into(),
            last: last.into(),
            mask: mask.into(),
        })
    }
}

/// dnsmasq with everything off but what is wanted, on this interface alone.
fn server(interface: &str, network: &Network, with_dhcp: bool, served: &Path) -> Result<Step> {
    let is_root = Step::new("id").arg("-u").output()?.trim() == "0";
    let dnsmasq = match is_root {
        true => Step::new("dnsmasq"),
        false => Step::new("sudo").arg("dnsmasq"),
    };
    let served = served.display();
    let dnsmasq = dnsmasq
        // Any other way of staying in the foreground makes it deaf to Ctrl-C.
        .words("--no-daemon --log-facility=- --conf-file=/dev/null --port=0")
        .words("--bind-interfaces --except-interface=lo")
        .arg(format!("--interface={interface}"))
        .arg("--enable-tftp")
        .arg(format!("--tftp-root={served}"));
    if !with_dhcp {
        return Ok(dnsmasq.arg(format!("--no-dhcp-interface={interface}")));
    }
    let Network {
        first, last, mask, ..
    } = network;
    Ok(dnsmasq
        .arg(format!("--dhcp-range={first},{last},{mask},1h"))
        // No way out of here and no names: neither is promised.
        .words("--dhcp-option=option:router --dhcp-option=option:dns-server")
        .arg("--dhcp-boot=Image")
        .arg(format!("--dhcp-leasefile={served}/leases")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(cidr: &str) -> Option<[String; 4]> {
        let line =
            format!("3: eth1    inet {cidr} brd 1.2.3.4 scope global eth1\\  valid_lft forever");
        Network::parse(&line).map(|network| {
            [network.own, network.first, network.last, network.mask]
                .map(|address| address.to_string())
        })
    }

    #[test]
    fn the_board_gets_an_address_beside_ours() {
        let expected = |addresses: [&str; 4]| Some(addresses.map(str::to_owned));
        assert_eq!(
            network("192.168.77.1/24"),
            expected([
                "192.168.77.1",
                "192.168.77.128",
                "192.168.77.254",
                "255.255.255.0"
            ])
        );
        assert_eq!(
            network("10.1.2.254/29"),
            expected(["10.1.2.254", "10.1.2.249", "10.1.2.251", "255.255.255.248"])
        );
        for none in [
            "10.0.0.1/30",
            "10.0.0.1/32",
            "10.0.0.1/7",
            "10.0.0.1",
            "x/24",
        ] {
            assert_eq!(network(none), None, "{none}");
        }
        assert_eq!(Network::parse(""), None);
    }

    #[test]
    fn the_commands_name_server_tree_and_bootargs() {
        let server = Ipv4Addr::new(10, 0, 0, 1);
        let typed = commands(server, false, "a.dtb", "ip=dhcp");
        assert_eq!(
            typed[1],
            "setenv serverip 10.0.0.1; tftpboot 0x08000000 Image"
        );
        assert_eq!(typed[2], "tftpboot 0x07000000 a.dtb");
        assert_eq!(typed[3], "setenv bootargs ip=dhcp");
        assert_eq!(commands(server, true, "a.dtb", "")[3], "setenv bootargs");
        assert!(tree("v6").is_err());
    }

    #[test]
    fn the_addresses_are_those_of_the_cards_script() {
        let script = include_str!("../../boards/espressobin/boot.cmd");
        assert!(script.contains(&format!("setenv image_at {IMAGE_AT}\n")));
        assert!(script.contains(&format!("setenv tree_at {TREE_AT}\n")));
    }
}
