//! The board's console, from outside.

use std::fs;

use crate::check::{Result, ensure};
use crate::clients::attempt;
use crate::espressobin::board::{cached, qemu};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[Test {
    name: "machine-model-takes-pasted-lines",
    tier: Tier::Ci,
    needs: Needs::Qemu,
    limit_s: 90,
    run: takes_pasted_lines,
}];

/// More than the UART's 64 bytes at once arrive at U-Boot's prompt, also where no network or disk keeps QEMU awake.
fn takes_pasted_lines(cx: &Context) -> Result {
    let long: String = (0..60).map(|n| format!("-{n:03}")).collect();
    let keys = cx.out.join(format!("{}.keys", cx.name));
    // The first lines stop the countdown, and may be lost where U-Boot sets the UART up.
    let lines = format!(
        "{}setenv long {long}\necho it is $long.\nreset\n",
        "\n".repeat(300)
    );
    fs::write(&keys, lines)?;
    let command = format!(
        "timeout 60 {} -M espressobin,strict=on,state=power-on -bios {} -no-reboot -nodefaults \
         -display none -serial stdio <{}",
        qemu()?.display(),
        cached("uboot/bookworm", "mvebu_espressobin.bin")?.display(),
        keys.display()
    );
    let (ended, console, complaints) = attempt("sh", &["-c", &command])?;
    ensure!(
        console.contains(&format!("it is {long}.")),
        "{complaints}{console}"
    );
    ensure!(ended, "not reset: {complaints}{console}");
    Ok(())
}
