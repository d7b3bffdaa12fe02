//! How the board is found: as U-Boot leaves it, or as power-on does; and a tree of another variant.

use crate::check::{During, Result, ensure};
use crate::espressobin::board::{Board, Deed, End, SOCKETS};
use crate::wire::{self, OUR_MAC};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    Test {
        name: "machine-model-power-on-or-as-u-boot-leaves-it",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 120,
        run: states,
    },
    Test {
        name: "machine-model-tree-of-another-variant",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 120,
        run: another_variant,
    },
];

/// The MAC takes frames from the switch, at the speed and with the delays that U-Boot chose.
const MAC_UP: &[Deed] = &[
    // Link forced up, 1000 Mb/s full duplex; port on.
    Deed::Write(0xd003_2c0c, 0x1062),
    Deed::Write(0xd003_2c00, 0x8be5),
];

/// U-Boot gives every socket's PHY its power and lets the port speak to the MAC alone. After power-on the PHYs sleep: no link,
/// and nothing comes. The boot loader looks on for four seconds, then the image makes both the same.
fn states(cx: &Context) -> Result {
    for (id, (state, awake)) in [("u-boot", true), ("power-on", false)]
        .into_iter()
        .enumerate()
    {
        let one = || {
            let mut deeds = MAC_UP.to_vec();
            deeds.push(Deed::Wait(4_000_000_000 / 4096));
            let mut board = Board::new(cx)
                .id(id)
                .option("state", state)
                .instructions_take_ns(1)
                .all_wires()
                .boot_loader(&deeds)
                .boot()?;
            let mut wires = Vec::new();
            for socket in 0..SOCKETS.len() {
                wires.push(board.take_wire(socket)?);
            }
            // Frames of ours while the boot loader waits.
            let mut heard = 0;
            while board.entered_ns()? == 0 {
                for wire in &mut wires {
                    wire.send(&wire::ethernet(wire::BROADCAST, 0x88b5, &OUR_MAC))?;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
                heard = board.wire_counter("to_mac")?;
            }
            ensure!(
                (heard > 0) == awake,
                "{heard} frames came to the MAC before the image"
            );
            for name in SOCKETS {
                board.line(&format!("{name}: link up, 1000 Mb/s full duplex"))?;
            }
            board.sound()
        };
        one().during(state)?;
    }
    Ok(())
}

/// The Ultra's switch answers at another address than the tree of the others says: an error, no endless wait.
fn another_variant(cx: &Context) -> Result {
    let mut machine = Board::new(cx).option("variant", "ultra");
    for socket in 0..SOCKETS.len() {
        machine = machine.end(socket, End::Nothing);
    }
    let mut board = machine.boot()?;
    board.line("switch: does not come up")?;
    board.sound()
}
