//! The network commands, asked by curl: routes, neighbours, sockets, counters, pings, the doctor; and bad questions.

use serde_json::Value;

use crate::api::curl;
use crate::check::{During, Result, ensure};
use crate::clients::connect;
use crate::machine::{Guest, Machine};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[Test {
    name: "commands-network",
    tier: Tier::Ci,
    needs: Needs::Qemu,
    limit_s: 180,
    run: network,
}];

const TOKEN: &str = "Authorization: Bearer s3cret";

/// The answer's code and object.
fn ask(guest: &Guest, path: &str, more: &[&str]) -> Result<(u16, Value)> {
    curl(guest.services.http, &format!("/api/v1/{path}"), more)
}

fn get(guest: &Guest, path: &str) -> Result<Value> {
    let (code, value) = ask(guest, path, &[])?;
    ensure!(code == 200, "{path}: {code} {value}");
    Ok(value)
}

fn ping(guest: &Guest, path: &str) -> Result<Value> {
    let path = format!("ping/{path}");
    let (code, value) = ask(guest, &path, &["-X", "POST", "-H", TOKEN])?;
    ensure!(code == 200, "{path}: {code} {value}");
    Ok(value)
}

/// Rows of a table in which these columns have these values.
fn rows<'v>(table: &'v Value, wanted: &[(&str, &str)]) -> Vec<&'v Value> {
    let fits = |row: &&Value| wanted.iter().all(|(name, value)| row[*name] == *value);
    table
        .as_array()
        .into_iter()
        .flatten()
        .filter(fits)
        .collect()
}

fn network(cx: &Context) -> Result {
    let mut guest = Machine::new(cx).user()?.append("admin=s3cret").boot()?;
    guest.healthy(30)?;
    guest.line("default route via 10.0.2.2", 60)?;
    guest.line("default route via fe80::2", 60)?;

    let routes = get(&guest, "route")?["routes"].take();
    for wanted in [
        [
            ("network", "0.0.0.0/0"),
            ("via", "10.0.2.2"),
            ("origin", "dhcp"),
        ],
        [("network", "::/0"), ("via", "fe80::2"), ("origin", "slaac")],
    ] {
        ensure!(rows(&routes, &wanted).len() == 1, "{wanted:?}: {routes}");
    }
    let near = [("network", "10.0.2.0/24"), ("origin", "dhcp")];
    ensure!(rows(&routes, &near).len() == 1, "{routes}");

    for target in ["10.0.2.2?n=3&i=20", "fe80::2/eth0?n=3&i=20&s=1000"] {
        let run = ping(&guest, target)?;
        ensure!(run["answers"] == 3 && run["loss_percent"] == 0, "{run}");
        let time = |name: &str| run[name].as_u64().unwrap_or_default();
        let (least, mean, most) = (time("min_us"), time("avg_us"), time("max_us"));
        ensure!(0 < least && least <= mean && mean <= most, "{run}");
        ensure!(
            rows(&run["echoes"], &[("result", "answer")]).len() == 3,
            "{run}"
        );
    }
    // Nobody is there; and somebody who gets it, behind the router, is out of this network's reach.
    let run = ping(&guest, "10.0.2.99?n=2&i=10")?;
    ensure!(run["loss_percent"] == 100 && run["answers"] == 0, "{run}");
    ensure!(run["min_us"].is_null(), "{run}");
    ensure!(
        rows(&run["echoes"], &[("result", "no neighbour")]).len() == 2,
        "{run}"
    );

    let neighbours = get(&guest, "neigh")?["neighbours"].take();
    for (address, source) in [("10.0.2.2", "arp"), ("fe80::2", "nd")] {
        let wanted = [
            ("interface", "eth0"),
            ("address", address),
            ("source", source),
        ];
        ensure!(
            rows(&neighbours, &wanted).len() == 1,
            "{address}: {neighbours}"
        );
    }
    let absent = rows(&neighbours, &[("address", "10.0.2.99")]);
    ensure!(absent.is_empty(), "{neighbours}");

    let open = connect(guest.services.echo_tcp)?;
    let sockets = get(&guest, "sockets")?["sockets"].take();
    for wanted in [
        [("service", "http"), ("state", "LISTEN"), ("local", "*:80")],
        [
            ("service", "echo"),
            ("state", "ESTABLISHED"),
            ("local", "10.0.2.15:7"),
        ],
        [
            ("service", "http"),
            ("state", "ESTABLISHED"),
            ("interface", "eth0"),
        ],
        [("service", "dhcp"), ("protocol", "udp"), ("local", "*:68")],
    ] {
        ensure!(!rows(&sockets, &wanted).is_empty(), "{wanted:?}: {sockets}");
    }
    let own = rows(&sockets, &[("service", "echo"), ("state", "ESTABLISHED")]);
    let peer = own
        .first()
        .and_then(|row| row["peer"].as_str())
        .unwrap_or_default();
    ensure!(peer.starts_with("10.0.2.2:"), "{sockets}");
    drop(open);

    // What is shown with `d` was counted since the time before, and a request costs few frames.
    get(&guest, "stats")?;
    let counters = get(&guest, "stats/eth0?d")?["counters"].take();
    let received = rows(&counters, &[("counter", "rx_frames")]);
    let since = received.first().and_then(|row| row["since"].as_u64());
    ensure!(
        since.is_some_and(|since| (1..100).contains(&since)),
        "{counters}"
    );

    let doctor = get(&guest, "doctor/eth0")?;
    ensure!(doctor["worst"] == "ok", "{doctor}");
    let well = rows(
        &doctor["findings"],
        &[("port", "eth0"), ("finding", "all is well")],
    );
    ensure!(well.len() == 1, "{doctor}");

    bad_questions(&guest)
}

fn bad_questions(guest: &Guest) -> Result {
    let post: &[&str] = &["-X", "POST", "-H", TOKEN];
    for (path, more, code) in [
        ("neigh/eth9", &[][..], 404),
        ("route/eth0/eth0", &[], 400),
        ("sockets/nothing", &[], 404),
        ("stats/nothing", &[], 404),
        ("stats?x", &[], 400),
        ("doctor/nothing", &[], 404),
        ("doctor/a/b", &[], 400),
        ("ping/10.0.2.2", &[], 405),
        ("ping/10.0.2.2", &["-H", TOKEN], 405),
        ("ping/10.0.2.2", &["-X", "POST"], 401),
        ("ping", post, 400),
        ("ping/10.0.2", post, 400),
        ("ping/ristretto.local", post, 404),
        ("ping/10.0.2.2?n=0", post, 400),
        ("ping/10.0.2.2?n=33", post, 400),
        ("ping/10.0.2.2?s=1453", post, 400),
        ("ping/10.0.2.2?n=30&i=10000", post, 400),
        ("ping/10.0.2.2/eth9", post, 404),
        ("ping/224.0.0.1", post, 500),
        ("ping/10.0.2.15", post, 500),
        ("latency/nothing", &[], 400),
    ] {
        let (got, value) = ask(guest, path, more).during(path)?;
        ensure!(got == code, "{path}: {got} instead of {code}, {value}");
        ensure!(value["error"].is_string(), "{path}: {value}");
    }
    Ok(())
}
