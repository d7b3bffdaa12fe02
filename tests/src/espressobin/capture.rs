//! Captures of the conduit: frames of the MAC with their switch tags, read by tcpdump, which knows them.

use crate::capture::{ADMIN, captured_echoes};
use crate::check::{Result, ensure};
use crate::clients::run;
use crate::{Context, Needs, Test, Tier};

use super::board::Board;

/// The tests of this file.
pub const TESTS: &[Test] = &[Test {
    name: "espressobin-capture-conduit",
    tier: Tier::Ci,
    needs: Needs::Qemu,
    limit_s: 240,
    run: conduit,
}];

fn conduit(cx: &Context) -> Result {
    const ECHOES: u32 = 50;
    let mut board = Board::new(cx).append(ADMIN).boot()?;
    board.leases(&[0, 1])?;
    // Sockets of the switch by their ports: wan is 1, lan0 is 2.
    for socket in [0, 1] {
        let file = cx.out.join(format!("{}-{socket}.pcapng", cx.name));
        captured_echoes(&board.services(socket)?, "if=conduit", ECHOES, &file)?;
        let decoded = run("tcpdump", &["-e", "-nn", "-r", &file.display().to_string()])?;
        let port = format!("port {}, untagged", socket + 1);
        let count = |mode: &str| {
            let is_meant = |line: &&str| {
                line.contains("Marvell EDSA") && line.contains(mode) && line.contains(&port)
            };
            decoded.lines().filter(is_meant).count()
        };
        let (received, sent) = (
            count("mode Forward, dev 0"),
            count("mode From CPU, target dev 0"),
        );
        let expected = (ECHOES as usize, ECHOES as usize);
        ensure!(
            (received, sent) == expected,
            "{port}: {received} received, {sent} sent: {decoded}"
        );
        ensure!(decoded.lines().count() == 2 * ECHOES as usize, "{decoded}");
    }
    board.sound()
}
