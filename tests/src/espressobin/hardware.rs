//! The commands for bringing up a board, typed through its UART, against what the model of the board must have.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::board::{Board, Running, flipped};
use super::services::echo_udp;
use crate::check::{During, Failure, Result, ensure, fail};
use crate::clients::curl;
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    Test {
        name: "espressobin-hardware-commands",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 300,
        run: |cx| hardware(cx, ""),
    },
    Test {
        name: "espressobin-hardware-commands-all-doubts-flipped",
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 300,
        run: |cx| hardware(cx, &flipped()),
    },
];

/// What a command answers in JSON.
fn ask(board: &mut Running, command: &str) -> Result<Value> {
    let mark = board.mark();
    board.type_in(&format!("{command} -j\r"))?;
    let line = board.line_from(mark, "{\"").during(command)?;
    let json = line.get(line.find('{').unwrap_or(0)..).unwrap_or_default();
    serde_json::from_str(json)
        .map_err(|error| Failure::Failed(format!("{command}: {error}: {line}")))
}

/// A command says this to people.
fn says(board: &mut Running, command: &str, text: &str) -> Result {
    let mark = board.mark();
    board.type_in(&format!("{command}\r"))?;
    board.line_from(mark, text).during(command)?;
    Ok(())
}

fn number(value: &Value) -> Result<u64> {
    match value.as_u64() {
        Some(number) => Ok(number),
        None => fail!("{value} is no number"),
    }
}

/// The value of a register on the management bus.
fn register(board: &mut Running, place: &str) -> Result<u64> {
    number(&ask(board, &format!("mdio read {place}"))?["value"])
}

/// The row of a table whose fields have these values.
fn row<'t>(table: &'t Value, wanted: &[(&str, &str)]) -> Result<&'t Value> {
    let rows = table.as_array().map(Vec::as_slice).unwrap_or_default();
    let fits = |row: &&Value| wanted.iter().all(|(field, value)| row[*field] == *value);
    match rows.iter().find(fits) {
        Some(row) => Ok(row),
        None => fail!("no row {wanted:?} in {table}"),
    }
}

/// The counter of this name in a table, in a column.
fn counter(answer: &Value, key: &str, name: &str, column: &str) -> Result<u64> {
    number(&row(&answer["counters"], &[(key, name)])?[column])
}

fn hardware(cx: &Context, doubts: &str) -> Result {
    let mut board = Board::new(cx)
        .doubts(doubts)
        .append("unsafe=1 admin=s3cret")
        .boot()?;
    board.leases(&[0, 1, 2])?;
    board.line("lan1: link up")?;
    let echo = board.services(0)?.echo_udp;
    // Whatever is looked at: `wan` goes on.
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let traffic = scope.spawn(|| -> Result {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                number += 1;
                echo_udp(echo, number)?;
            }
            Ok(())
        });
        let outcome = management_bus(&mut board)
            .and_then(|()| tables(&mut board))
            .and_then(|()| mac(&mut board))
            .and_then(|()| loopback_of_a_phy(&mut board));
        done.store(true, Ordering::Relaxed);
        let traffic = traffic
            .join()
            .unwrap_or_else(|_| fail!("the echo client broke"));
        outcome.and(traffic.during("echo beside the commands"))
    })?;
    counters(&mut board, echo)?;
    over_http(board.services(0)?.http)?;
    memory(&mut board)?;
    loopback_of_the_mac(&mut board, echo)?;
    mistakes(&mut board)?;
    ensure!(
        !board.console().contains("anew"),
        "the switch was brought up anew"
    );
    board.sound()
}

fn management_bus(board: &mut Running) -> Result {
    let scan = ask(board, "mdio scan")?;
    let devices = scan["devices"].as_array().map_or(0, Vec::len);
    ensure!(
        devices == 1 && scan["devices"][0]["address"] == 1,
        "the switch is at 1: {scan}"
    );
    for (place, expected) in [
        ("switch:0x10 3", 0x3410),
        ("phy:1 2", 0x0141),
        ("phy:wan 3", 0x0c00),
        ("5 2", 0xffff),
    ] {
        let value = register(board, place)?;
        ensure!(value == expected, "{place}: {value:#x}");
    }
    // The page is left again, and the register of the same number on page 0 is another.
    let mark = ask(board, "mdio write phy:lan1 16 0x1234 3")?;
    ensure!(mark["value"] == 0x1234, "{mark}");
    for (place, expected) in [
        ("phy:3 16 3", 0x1234),
        ("phy:3 22", 0),
        ("phy:3 16", 0x3060),
    ] {
        let value = register(board, place)?;
        ensure!(value == expected, "{place}: {value:#x}");
    }

    let phy = ask(board, "phy wan")?;
    let wan = |number| row(&phy["registers"], &[("port", "wan"), ("register", number)]);
    ensure!(wan("2")?["value"] == 0x141, "{phy}");
    let status = wan("17")?["meaning"].as_str().unwrap_or_default();
    ensure!(
        status.starts_with("link, resolved, speed 1000, full duplex"),
        "{phy}"
    );
    ensure!(
        wan("5")?["meaning"]
            .as_str()
            .is_some_and(|offer| offer.contains("100 full")),
        "{phy}"
    );
    wan("7.60")?;
    let all = ask(board, "phy")?;
    let unused = row(&all["registers"], &[("port", "port4"), ("register", "0")])?;
    ensure!(
        unused["meaning"]
            .as_str()
            .is_some_and(|words| words.contains("powered down")),
        "{all}"
    );
    Ok(())
}

fn tables(board: &mut Running) -> Result {
    let ports = ask(board, "switch ports")?;
    for (port, number, expected) in [
        ("cpu", "4", "state forwarding, frames edsa, egress edsa"),
        ("wan", "4", "state forwarding, frames normal"),
        ("wan", "6", "to ports 0, FID%16 0"),
        ("wan", "0", "link, speed 1000, full duplex"),
        ("port5", "4", "state disabled"),
    ] {
        let row = row(&ports["registers"], &[("port", port), ("register", number)])?;
        ensure!(
            row["meaning"]
                .as_str()
                .is_some_and(|words| words.starts_with(expected)),
            "{row}, not {expected}"
        );
    }
    let atu = ask(board, "switch atu")?;
    let broadcast = row(&atu["addresses"], &[("mac", "ff:ff:ff:ff:ff:ff")])?;
    ensure!(
        broadcast["ports"] == "0 1 2 3 4 5" && atu["more"] == false,
        "{atu}"
    );
    let none = ask(board, "switch atu 255")?;
    ensure!(none["addresses"] == Value::Array(Vec::new()), "{none}");
    let vtu = ask(board, "switch vtu")?;
    ensure!(vtu["vlans"] == Value::Array(Vec::new()), "{vtu}");
    let dump = ask(board, "switch dump")?;
    let registers = dump["registers"].as_array().map_or(0, Vec::len);
    ensure!(registers == 32, "{dump}");
    ensure!(
        dump["registers"][3]["port5"] == 0x3410 && dump["registers"][0]["global1"].is_null(),
        "{dump}"
    );
    Ok(())
}

fn mac(board: &mut Running) -> Result {
    let regs = ask(board, "neta regs")?;
    let value = |name| number(&row(&regs["registers"], &[("register", name)])?["value"]);
    ensure!(
        value("acceleration")? == 1 && value("mac_status")? & 0xb == 0xb,
        "{regs}"
    );
    let ring = ask(board, "neta ring")?;
    ensure!(
        row(&ring["rings"], &[("ring", "rx")])?["size"] == 256,
        "{ring}"
    );
    let irq = ask(board, "irq")?;
    let ethernet = row(&irq["sources"], &[("device", "ethernet@30000")])?;
    ensure!(
        ethernet["intid"] == 74 && number(&ethernet["count"])? > 0,
        "{irq}"
    );

    let before = ask(board, "coalesce")?;
    let set = ask(board, "coalesce 8 50")?;
    ensure!(set["packets"] == 8 && set["time_us"] == 50, "{set}");
    let regs = ask(board, "neta regs")?;
    let value = |name| number(&row(&regs["registers"], &[("register", name)])?["value"]);
    ensure!(value("rxq_threshold")? == 7, "{regs}");
    let (packets, time) = (&before["packets"], &before["time_us"]);
    let after = ask(board, &format!("coalesce {packets} {time}"))?;
    ensure!(after == before, "{after}, not {before}");
    Ok(())
}

fn loopback_of_a_phy(board: &mut Running) -> Result {
    let mark = board.mark();
    let on = ask(board, "loopback phy lan1 on")?;
    ensure!(on["held_phys"] == "3" && on["mac"] == false, "{on}");
    board.line_from(mark, "loopback lan1: on")?;
    board.line_from(mark, "lan1: link down")?;
    // As long as it takes the supervision to look at all links several times.
    std::thread::sleep(std::time::Duration::from_secs(5));
    let control = register(board, "phy:lan1 0")?;
    ensure!(control & 0x4000 != 0, "no loopback: {control:#x}");
    let status = register(board, "phy:lan1 17")?;
    ensure!(status & 1 << 10 != 0, "no link in loopback: {status:#x}");
    ensure!(
        !board.says_from(mark, "lan1: link up"),
        "a link of loopback was taken for one"
    );
    let mark = board.mark();
    let off = ask(board, "loopback phy 3 off")?;
    ensure!(off["held_phys"] == "", "{off}");
    board.line_from(mark, "lan1: link up, 1000 Mb/s full duplex")?;
    Ok(())
}

/// Counters of the MAC and of the switch move with the frames.
fn counters(board: &mut Running, echo: std::net::SocketAddr) -> Result {
    let (neta, switch) = (ask(board, "neta mib")?, ask(board, "switch mib")?);
    (0..20).try_for_each(|number| echo_udp(echo, number))?;
    let (neta_after, switch_after) = (ask(board, "neta mib")?, ask(board, "switch mib")?);
    for (before, after, key, name, column) in [
        (&neta, &neta_after, "counter", "mib_rx_good", "value"),
        (&neta, &neta_after, "counter", "mib_tx_good", "value"),
        (&switch, &switch_after, "name", "in_unicast", "port1"),
        (&switch, &switch_after, "name", "out_octets", "port0"),
    ] {
        let (from, to) = (
            counter(before, key, name, column)?,
            counter(after, key, name, column)?,
        );
        ensure!(to >= from + 20, "{name}: {to} after {from}");
    }
    Ok(())
}

/// The same commands for other people's client.
fn over_http(http: std::net::SocketAddr) -> Result {
    let url = |path: &str| format!("http://{http}/api/v1/{path}");
    let json = |args: &[&str]| -> Result<Value> {
        let body = curl(args).during(args[args.len() - 1])?;
        serde_json::from_str(&body).map_err(|error| Failure::Failed(format!("{body}: {error}")))
    };
    let id = json(&[&url("mdio/read/phy:wan/2")])?;
    ensure!(id["value"] == 0x141, "{id}");
    let ports = json(&[&url("switch/ports")])?;
    row(&ports["registers"], &[("port", "lan1"), ("register", "4")])?;
    let bearer = ["-H", "Authorization: Bearer s3cret"];
    let peeked = json(&[bearer[0], bearer[1], &url("peek/0xd0032c10")])?;
    ensure!(number(&peeked["words"][0]["value"])? & 1 == 1, "{peeked}");
    let set = json(&[bearer[0], bearer[1], "-X", "POST", &url("coalesce/4/60")])?;
    ensure!(set["packets"] == 4 && set["time_us"] == 60, "{set}");
    // Who may not, and what makes no sense.
    for args in [
        &[url("peek/0xd0032c10").as_str()][..],
        &["-X", "POST", &url("coalesce/1/1")],
        &[bearer[0], bearer[1], &url("mdio/write/1/0/0")],
        &[&url("mdio/read/phy:wan/32")],
        &[&url("switch/nonsense")],
    ] {
        ensure!(curl(args).is_err(), "{args:?} is answered");
    }
    Ok(())
}

fn memory(board: &mut Running) -> Result {
    let word = |answer: &Value| number(&answer["words"][0]["value"]);
    let regs = ask(board, "neta regs")?;
    let status = number(&row(&regs["registers"], &[("register", "mac_status")])?["value"])?;
    let peeked = word(&ask(board, "peek 0xd0032c10")?)?;
    ensure!(peeked == status, "MAC status {peeked:#x}, not {status:#x}");
    // The address of a PHY for a poller that is off.
    ask(board, "poke 0xd0032000 5")?;
    let poked = ask(board, "peek 0xd0032000 2")?;
    ensure!(word(&poked)? == 5, "{poked}");
    // A page that nothing has mapped before, nobody's address, and memory.
    let strap = ask(board, "peek 0xd0013808")?;
    word(&strap)?;
    says(board, "peek 0xc0000000", "nothing answers at 0xc0000000")?;
    says(board, "poke 0xc0000000 1", "nothing answers at 0xc0000000")?;
    says(board, "peek 0x4000000", "refused: memory")?;
    says(board, "poke 0x1000 1", "refused: ")?;
    says(board, "peek 0xd0032c11", "not a multiple of 4")
}

/// Nobody reaches the board, and everybody does afterwards.
fn loopback_of_the_mac(board: &mut Running, echo: std::net::SocketAddr) -> Result {
    let mark = board.mark();
    let on = ask(board, "loopback mac on")?;
    ensure!(on["mac"] == true, "{on}");
    board.line_from(mark, "loopback mac: on")?;
    ensure!(echo_udp(echo, 1).is_err(), "an echo in spite of loopback");
    let before = counter(&ask(board, "neta mib")?, "counter", "mib_rx_good", "value")?;
    // Our own requests for somebody's address come back.
    board.type_in("ping 10.0.2.77\r")?;
    crate::check::wait(60, "frames of our own", || {
        let mib = ask(board, "neta mib").ok()?;
        let now = counter(&mib, "counter", "mib_rx_good", "value").ok()?;
        (now > before).then_some(())
    })?;
    let off = ask(board, "loopback mac off")?;
    ensure!(off["mac"] == false, "{off}");
    crate::check::wait(60, "an echo after loopback", || echo_udp(echo, 2).ok())?;
    ensure!(
        !board.says_from(mark, ": link down"),
        "a link went down with the MAC's loopback"
    );
    Ok(())
}

fn mistakes(board: &mut Running) -> Result {
    for (command, text) in [
        ("mdio", "usage: mdio scan | read"),
        ("mdio read 32 0", "usage: mdio"),
        ("mdio read 1 32", "usage: mdio"),
        ("mdio read 0x 1", "usage: mdio"),
        ("mdio write 1 0", "usage: mdio"),
        ("mdio write phy:1 0 0x10000", "usage: mdio"),
        ("mdio read switch:0x10 3 1", "usage: mdio"),
        ("mdio read phy:1 22 3", "usage: mdio"),
        ("mdio read phy:cpu 0", "no PHY at a port of that name"),
        ("phy 0", "no PHY at a port of that name"),
        ("phy wan wan", "usage: phy"),
        ("switch", "usage: switch"),
        ("switch atu 256", "usage: switch"),
        ("switch ports now", "usage: switch"),
        ("neta", "usage: neta"),
        ("neta regs all", "usage: neta"),
        ("coalesce 0 30", "1 to 128 packets"),
        ("coalesce 4", "usage: coalesce"),
        ("coalesce 4 67001", "1 to 128 packets"),
        ("loopback phy lan1", "usage: loopback"),
        ("loopback mac maybe", "usage: loopback"),
        ("loopback phy 4 on", "no socket at that port"),
        ("peek", "usage: peek"),
        ("peek 0xd0032000 257", "usage: peek"),
        ("poke 0xd0032000 0x100000000", "usage: poke"),
    ] {
        says(board, command, text)?;
    }
    Ok(())
}
