//! The commands on the serial console, typed through the board's UART.

use crate::check::{Result, ensure};
use crate::{Context, Needs, Test, Tier};

use super::board::Board;

/// The tests of this file.
pub const TESTS: &[Test] = &[Test {
    name: "espressobin-shell",
    tier: Tier::Ci,
    needs: Needs::Qemu,
    limit_s: 240,
    run: shell,
}];

fn shell(cx: &Context) -> Result {
    let mut board = Board::new(cx).boot()?;
    board.line("wan: address 10.0.2.15/24 (dhcp)")?;
    // Each cable takes its own time, and the commands below show two of them.
    board.line("lan0: link up")?;
    let console = board.console();
    ensure!(
        !console.contains("ristretto>"),
        "a prompt before the first key"
    );

    board.type_in("link wan\r")?;
    board.line("wan       up   1000 full")?;
    // Pasted, with the ends of lines of another system, an empty one, a mistake, and a command that does not exist.
    board.type_in(
        "lni\x08\x08ink -j lan0\r\n\r\nnonsense\r\nlink lan9\r\npeek 0\r\nsockets -j\r\n",
    )?;
    board.line("{\"links\":[{\"interface\":\"lan0\",\"link\":\"up\",\"mbps\":1000,")?;
    board.line("no such command; `help` lists them")?;
    board.line("no interface of that name; `link` lists them")?;
    board.line("refused: boot with unsafe=1 to allow it")?;
    board.line("{\"sockets\":[")?;

    // Longer than the console's buffer, and nothing is lost.
    let mark = board.mark();
    board.type_in("stats\rinfo\r")?;
    board.line_from(mark, "heap_size_bytes")?;
    let stats = board.console()[mark..].to_owned();
    ensure!(stats.contains("rx_frames"), "no counters: {stats}");

    let mark = board.mark();
    board.type_in("reboot\r")?;
    board.line_from(mark, "reboot: asked for")?;
    board.line_from(mark, "Ristretto ")?;
    // Without an address in the tree the MAC draws one, so the lease is another.
    board.line_from(mark, "wan: http://10.0.2.")?;
    board.sound()
}
