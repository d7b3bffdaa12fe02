//! What a boot loader may leave behind: everything switched off, a MAC that still writes to memory; and U-Boot itself.

use std::fs;
use std::time::Duration;

use super::board::{Board, Deed, End, Running, SOCKETS, address, cached, tree_of_guest, user};
use super::services::served_at_once;
use crate::check::{During, Result, ensure, wait};
use crate::echo::answers;
use crate::wire::BROADCAST;
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    Test {
        name: "espressobin-handover-with-everything-off",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 180,
        run: |cx| serves(Board::new(cx).option("state", "power-on")),
    },
    Test {
        name: "espressobin-handover-of-a-running-mac",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 180,
        run: running_mac,
    },
    Test {
        name: "espressobin-handover-by-u-boot",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 300,
        run: by_u_boot,
    },
];

fn serves(board: Board) -> Result {
    let mut board = board.boot()?;
    board.leases(&[0, 1, 2])?;
    served_at_once(&board, &[0, 1, 2], 1)?;
    board.sound()?;
    board.untroubled()
}

/// The MAC's registers.
const NETA: u32 = 0xd003_0000;
/// Where the boot loader has its ring and its buffers: in memory that the image does not use.
const RING: u32 = 0x1c00_0000;
const BUFFERS: u32 = 0x1c10_0000;
const PLACES: u32 = 512;

/// What a boot loader does to receive, with a queue of its own, and does not undo.
fn left_running() -> Vec<Deed> {
    let write = |offset: u32, value: u32| Deed::Write(NETA + offset, value);
    let mut deeds = vec![
        // Every address in DRAM by window 0.
        write(0x2290, 0x3f),
        write(0x2200, 0),
        write(0x2204, 0xffff_0000),
        write(0x2294, 3),
        write(0x2290, 0x3e),
        // Out of reset, receive everything into queue 0.
        write(0x1cc0, 0),
        write(0x3cc0, 0),
        write(0x2500, 1),
        write(0x2400, 1),
    ];
    for place in 0..PLACES {
        let at = RING + place * 32;
        deeds.extend([
            Deed::Write(at, 0),
            Deed::Write(at + 4, 0),
            Deed::Write(at + 8, BUFFERS + place * 2048),
            Deed::Write(at + 12, 0),
        ]);
    }
    deeds.extend([
        // Ring, its size and the buffers' (in units of 8), all places given to the MAC.
        write(0x1480, RING),
        write(0x14a0, PLACES | (2048 >> 3) << 19),
        write(0x1500, 255 << 16),
        write(0x1500, 255 << 16),
        // 1518-byte frames; port on; link forced up at 1000 full.
        write(0x2c08, 1 << 4),
        write(0x2c0c, 1 << 1 | 1 << 6 | 1 << 12 | 1 << 15),
        write(0x2c00, 0x8bff),
        write(0x2680, 1),
        // Until links are up and frames come in.
        Deed::Wait(900_000),
    ]);
    deeds
}

/// Frames come in all the time, and the MAC writes them to the boot loader's buffers until the image stops it. From then
/// on that memory stays as it is.
fn running_mac(cx: &Context) -> Result {
    let mut board = Board::new(cx)
        .instructions_take_ns(1)
        .tree(tree_of_guest()?)
        .end(0, End::Test)
        .append(&address(0, "wan"))
        .boot_loader(&left_running())
        .boot_held()?;
    let mut wire = board.take_wire(0)?;
    board.go()?;
    let mut frame = BROADCAST.to_vec();
    frame.extend([2, 0, 0, 0, 0, 9, 0x88, 0xb5]);
    frame.resize(200, 0x77);
    wait(90, "the image", || {
        for _ in 0..10 {
            if wire.send(&frame).is_err() {
                return Some(());
            }
        }
        while let Ok(Some(_)) = wire.receive(Duration::from_millis(1)) {}
        board.console().contains("sealed").then_some(())
    })?;
    let word = |board: &mut Running, at: u32| board.qmp()?.memory(u64::from(at));
    // The status of the first place, and the frame behind its offset.
    let first = word(&mut board, RING)?;
    ensure!(
        first != 0,
        "the boot loader has received nothing: the test does not test"
    );
    let picture = |board: &mut Running| -> Result<Vec<u64>> {
        (0..PLACES)
            .map(|place| word(board, RING + place * 32))
            .collect()
    };
    let before = picture(&mut board)?;
    board.line("wan: link up")?;
    for _ in 0..2000 {
        wire.send(&frame)?;
    }
    answers(&mut wire, "after the handover")?;
    let after = picture(&mut board)?;
    ensure!(
        before == after,
        "the MAC still writes to the boot loader's ring"
    );
    board.leases(&[1, 2])?;
    served_at_once(&board, &[1, 2], 1)?;
    board.sound()?;
    board.untroubled()
}

/// U-Boot fetches the image with its own driver and starts it: once with Linux' tree, once with its own.
fn by_u_boot(cx: &Context) -> Result {
    for (id, own_tree) in [false, true].into_iter().enumerate() {
        one_u_boot(cx, id, own_tree).during(match own_tree {
            true => "U-Boot's own tree",
            false => "Linux' tree",
        })?;
    }
    Ok(())
}

fn one_u_boot(cx: &Context, id: usize, own_tree: bool) -> Result {
    let dir = cx.out.join(format!("tftp-{}-{id}", cx.name));
    fs::create_dir_all(&dir)?;
    fs::copy(&cx.image, dir.join("Image"))?;
    let tree = cached("devicetree/bookworm", "armada-3720-espressobin.dtb")?;
    fs::copy(tree, dir.join("board.dtb"))?;
    let (services, netdev) = user(0, "10.0.2")?;
    let netdev = format!("{netdev},tftp={}", dir.display());
    let mut board = Board::new(cx)
        .id(id)
        .end(0, End::Netdev(netdev))
        .option("state", if own_tree { "power-on" } else { "u-boot" })
        .firmware(cached("uboot/bookworm", "mvebu_espressobin.bin")?)
        .boot()?;
    // Any key, until it has been seen.
    wait(60, "U-Boot's prompt", || {
        let _ = board.type_in("x\x08");
        board.console().contains("\n=> ").then_some(())
    })?;
    let mut run = |command: &str, done: &str| {
        let mark = board.mark();
        board.type_in(&format!("\x03\n{command}\n"))?;
        wait(90, &format!("`{done}` after `{command}`"), || {
            let console = board.console();
            console.get(mark..)?.contains(done).then_some(())
        })
    };
    run("setenv autoload no; dhcp", "DHCP client bound")?;
    run(
        "setenv serverip 10.0.2.2; tftpboot ${kernel_addr_r} Image",
        "Bytes transferred",
    )?;
    if !own_tree {
        run("tftpboot ${fdt_addr_r} board.dtb", "Bytes transferred")?;
    }
    // U-Boot has used up the first lease of every network.
    let address = |(id, name): (usize, &&str)| {
        let net = 2 + id;
        format!("ip=10.0.{net}.15::10.0.{net}.2:255.255.255.0::{name}:off")
    };
    let bootargs: Vec<String> = SOCKETS.iter().enumerate().map(address).collect();
    run(&format!("setenv bootargs {}", bootargs.join(" ")), "=> ")?;
    let fdt = if own_tree {
        "${fdtcontroladdr}"
    } else {
        "${fdt_addr_r}"
    };
    run(&format!("booti ${{kernel_addr_r}} - {fdt}"), "Ristretto")?;
    board.line("switch: ports stopped")?;
    for name in SOCKETS {
        board.line(&format!("{name}: link up"))?;
    }
    super::services::served(&services).during("wan")?;
    served_at_once(&board, &[1, 2], 1)?;
    board.untroubled()?;
    fs::remove_dir_all(dir)?;
    // U-Boot's own: that register can be written on Marvell's controller only.
    board.sound_but_for("SDHC wr_4b @0x40")
}
