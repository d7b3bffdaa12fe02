//! Every tree there is for this board, and trees that are damaged.

use std::fs;

use super::board::{self, Board, cached};
use super::services::served_at_once;
use crate::check::{During, Result, ensure};
use crate::dt::{Node, Tree};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    Test {
        name: "espressobin-every-debian-tree",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 400,
        run: every_debian_tree,
    },
    Test {
        name: "espressobin-tree-without-switch",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 120,
        run: tree_without_switch,
    },
    Test {
        name: "espressobin-damaged-trees",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 400,
        run: damaged_trees,
    },
];

/// Tree below the cache's `devicetree`, variant of the board, and what is written beside sockets 1, 2 and 3.
const TREES: &[(&str, &str, &str, [&str; 3])] = &[
    ("bookworm", "", "v5", V5),
    ("bookworm", "-emmc", "v5", V5),
    ("bookworm", "-v7", "v7", V7),
    ("bookworm", "-v7-emmc", "v7", V7),
    ("bookworm", "-ultra", "ultra", ULTRA),
    ("trixie", "", "v5", V5),
    ("trixie", "-emmc", "v5", V5),
    ("trixie", "-v7", "v7", V7),
    ("trixie", "-v7-emmc", "v7", V7),
    ("trixie", "-ultra", "ultra", ULTRA),
    ("u-boot", "", "v5", V5),
];
const V5: [&str; 3] = ["wan", "lan0", "lan1"];
const V7: [&str; 3] = ["lan1", "lan0", "wan"];
const ULTRA: [&str; 3] = ["lan0", "lan1", "lan2"];

/// Names by label, and all sockets serve.
fn every_debian_tree(cx: &Context) -> Result {
    for (id, (suite, variant, machine, names)) in TREES.iter().enumerate() {
        let file = format!("armada-3720-espressobin{variant}.dtb");
        let tree = cached(&format!("devicetree/{suite}"), &file)?;
        let tree = Tree::parse(&fs::read(tree)?)?;
        let one = || {
            let mut board = Board::new(cx)
                .id(id)
                .option("variant", machine)
                .tree(tree)
                .boot()?;
            for (socket, name) in names.iter().enumerate() {
                let address = format!("{name}: address 10.0.{}.15/24 (dhcp)", 2 + socket);
                board.line(&address)?;
            }
            if *machine == "ultra" {
                board.line("] lan3: neta, 88E6341")?;
                let line = board.line("wan is not behind")?;
                ensure!(line.contains("sgmii is not supported yet"), "`{line}`");
                ensure!(
                    !board.console().contains("] wan: neta"),
                    "wan has an interface"
                );
            }
            served_at_once(&board, &[0, 1, 2], 1)?;
            board.sound()?;
            board.untroubled()
        };
        one().during(format!("{suite}, {file}"))?;
    }
    Ok(())
}

const MDIO: &str = "/soc/internal-regs/mdio";
const MAC: &str = "/soc/internal-regs/ethernet";

/// The conduit itself is the interface, and the ports stay as the boot loader has left them.
fn tree_without_switch(cx: &Context) -> Result {
    let mut tree = board::tree()?;
    tree.node(MDIO)?.children.clear();
    let mut board = Board::new(cx).tree(tree).boot()?;
    board.line("eth0: neta")?;
    board.line("eth0: link up")?;
    // All three networks answer; U-Boot's isolation lets each of them reach the MAC, untagged.
    board.line("eth0: address 10.0.")?;
    let console = board.console();
    ensure!(!console.contains("switch:"), "somebody touched the switch");
    // It is where it always is, and who asks may look at it.
    board.type_in("mdio read switch:0x10 3 -j\rphy 1\rswitch mib\r")?;
    board.line("{\"value\":13328}")?;
    board.line("identifier 1")?;
    board.line("this machine has no switch in its devicetree")?;
    let served = (0..3).any(|socket| served_at_once(&board, &[socket], 1).is_ok());
    ensure!(served, "no socket is served");
    board.sound()
}

/// What is done to a tree, and what the image must say about it: the node, and the property or what it lacks.
struct Damage {
    what: &'static str,
    harm: fn(&mut Tree) -> Result,
    says: &'static [&'static str],
    /// `lan0` still gets its address.
    lan0_serves: bool,
}

fn port(tree: &mut Tree, number: u8) -> Result<&mut Node> {
    tree.node(&format!("{MDIO}/switch0/ports/port@{number}"))
}

const DAMAGES: &[Damage] = &[
    Damage {
        what: "the MAC has no registers",
        harm: |tree| {
            tree.node(MAC)?.unset("reg");
            Ok(())
        },
        says: &["ethernet@30000", "reg"],
        lan0_serves: false,
    },
    Damage {
        what: "the MAC's registers are elsewhere",
        harm: |tree| {
            tree.node(MAC)?.set_cells("reg", &[0x30000, 0x10]);
            Ok(())
        },
        says: &["ethernet@30000", "cannot be its registers"],
        lan0_serves: false,
    },
    Damage {
        what: "the MAC has no interrupt",
        harm: |tree| {
            tree.node(MAC)?.unset("interrupts");
            Ok(())
        },
        says: &["ethernet@30000", "interrupts"],
        lan0_serves: false,
    },
    Damage {
        what: "the MAC is disabled",
        harm: |tree| {
            tree.node(MAC)?.set("status", b"disabled\0");
            Ok(())
        },
        says: &["no network device"],
        lan0_serves: false,
    },
    Damage {
        what: "the switch has no address",
        harm: |tree| {
            tree.node(&format!("{MDIO}/switch0"))?.unset("reg");
            Ok(())
        },
        says: &["switch0@1", "reg"],
        lan0_serves: false,
    },
    Damage {
        what: "the switch's address is none",
        harm: |tree| {
            tree.node(&format!("{MDIO}/switch0"))?
                .set_cells("reg", &[77]);
            Ok(())
        },
        says: &["switch0@1", "reg"],
        lan0_serves: false,
    },
    Damage {
        what: "the switch has no ports",
        harm: |tree| tree.remove(&format!("{MDIO}/switch0/ports")).map(|_| ()),
        says: &["switch0@1", "ports"],
        lan0_serves: false,
    },
    Damage {
        what: "no port leads to the MAC",
        harm: |tree| {
            port(tree, 0)?.unset("ethernet");
            Ok(())
        },
        says: &["switch0@1", "none of its ports leads to the MAC"],
        lan0_serves: false,
    },
    Damage {
        what: "the management bus has no registers",
        harm: |tree| {
            tree.node(MDIO)?.unset("reg");
            Ok(())
        },
        says: &["mdio@32004", "reg"],
        lan0_serves: false,
    },
    Damage {
        what: "the CPU port leads to itself",
        harm: |tree| {
            port(tree, 0)?.set_cells("phandle", &[0x7777]);
            port(tree, 0)?.set_cells("ethernet", &[0x7777]);
            Ok(())
        },
        says: &["port@0", "ethernet"],
        lan0_serves: false,
    },
    Damage {
        what: "a port's number is nonsense",
        harm: |tree| {
            port(tree, 1)?.set_cells("reg", &[0x1234_5678]);
            Ok(())
        },
        says: &["port@1", "reg"],
        lan0_serves: true,
    },
    Damage {
        what: "a port's number has seven bytes",
        harm: |tree| {
            port(tree, 1)?.set("reg", &[0; 7]);
            Ok(())
        },
        says: &["port@1", "reg"],
        lan0_serves: true,
    },
    Damage {
        what: "a port is disabled",
        harm: |tree| {
            port(tree, 1)?.set("status", b"disabled\0");
            Ok(())
        },
        says: &["lan0: neta"],
        lan0_serves: true,
    },
    Damage {
        what: "a port's PHY is the switch",
        harm: |tree| {
            tree.node(&format!("{MDIO}/switch0"))?
                .set_cells("phandle", &[0x7778]);
            port(tree, 1)?.set_cells("phy-handle", &[0x7778]);
            Ok(())
        },
        says: &["port@1", "PHY"],
        lan0_serves: true,
    },
    Damage {
        what: "a port has no label",
        harm: |tree| {
            port(tree, 1)?.unset("label");
            Ok(())
        },
        says: &["port1: neta"],
        lan0_serves: true,
    },
    Damage {
        what: "a port's label is long and not text",
        harm: |tree| {
            port(tree, 1)?.set("label", &[0xff; 300]);
            Ok(())
        },
        says: &["port1: neta"],
        lan0_serves: true,
    },
];

/// The device that is damaged is left out with a line that says why; everything else works.
fn damaged_trees(cx: &Context) -> Result {
    for (id, damage) in DAMAGES.iter().enumerate() {
        let mut tree = board::tree()?;
        (damage.harm)(&mut tree)?;
        let one = || {
            let mut board = Board::new(cx).id(id).tree(tree).boot()?;
            board.line("sealed")?;
            let console = board.console();
            let says = |line: &str| damage.says.iter().all(|word| line.contains(word));
            ensure!(
                console.lines().any(says),
                "no line says {:?}:\n{console}",
                damage.says
            );
            if damage.lan0_serves {
                board.line("lan0: address 10.0.3.15/24 (dhcp)")?;
                served_at_once(&board, &[1], 1)?;
            }
            board.sound()
        };
        one().during(damage.what)?;
    }
    Ok(())
}
