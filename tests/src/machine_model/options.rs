//! What the machine is told on QEMU's command line: what it cannot do is refused by name, and nothing starts.

use crate::check::{Result, ensure};
use crate::clients::attempt;
use crate::espressobin::board::qemu;
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[Test {
    name: "machine-model-refuses-wrong-options",
    tier: Tier::Ci,
    needs: Needs::Qemu,
    limit_s: 60,
    run: refuses,
}];

/// Arguments, and what has to be said about them.
const WRONG: &[(&str, &str)] = &[
    (
        "-M espressobin,variant=v6",
        "variant must be v5, v7 or ultra, not 'v6'",
    ),
    (
        "-M espressobin,state=off",
        "state must be power-on or u-boot, not 'off'",
    ),
    (
        "-M espressobin,strict=maybe",
        "Parameter 'strict' expects 'on' or 'off'",
    ),
    (
        "-M espressobin,doubts=nobody:knows",
        "no doubt is called `nobody`",
    ),
    (
        "-M espressobin,doubts=neta-padding:x",
        "doubt `neta-padding` has no reading `x`",
    ),
    (
        "-M espressobin,doubts=neta-padding",
        "doubt `neta-padding` is not name:reading",
    ),
    (
        "-M espressobin,faults=gremlins",
        "no fault is called `gremlins`",
    ),
    (
        "-M espressobin,faults=frame-drop=some",
        "fault `frame-drop=some`: not a value",
    ),
    (
        "-M espressobin,script=/no/script",
        "script /no/script: No such file",
    ),
    (
        "-M espressobin,trace=/no/trace",
        "trace /no/trace: No such file",
    ),
    (
        "-M espressobin,colour=red",
        "'espressobin-machine.colour' not found",
    ),
    (
        "-M espressobin -m 256M",
        "RAM must be between 512 MiB and 2 GiB",
    ),
    (
        "-M espressobin -m 3G",
        "RAM must be between 512 MiB and 2 GiB",
    ),
    ("-M espressobin -smp 1", "Invalid SMP CPUs 1"),
    (
        "-M espressobin -cpu cortex-a72",
        "Invalid CPU model: cortex-a72",
    ),
    (
        "-M espressobin -bios /no/firmware",
        "cannot load firmware '/no/firmware'",
    ),
    (
        "-M espressobin -kernel /no/kernel",
        "could not load kernel '/no/kernel'",
    ),
];

fn refuses(_: &Context) -> Result {
    let qemu = qemu()?.display().to_string();
    for (words, complaint) in WRONG {
        // Stopped by the limit, it ends with another status than by its own will.
        let mut arguments = vec!["5", &qemu, "-nodefaults", "-display", "none", "-S"];
        arguments.extend(words.split(' '));
        let (_, _, said) = attempt("timeout", &arguments)?;
        ensure!(
            said.contains(complaint),
            "{words}: not `{complaint}`: {said}"
        );
        ensure!(!said.contains("terminating"), "{words}: it has started");
    }
    let mut arguments = vec!["1", &qemu, "-nodefaults", "-display", "none"];
    arguments.extend(["-M", "espressobin", "-cpu", "cortex-a53"]);
    let (_, _, said) = attempt("timeout", &arguments)?;
    ensure!(said.contains("terminating"), "{said}");
    Ok(())
}
