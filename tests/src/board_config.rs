//! The board's network as bootargs want it: tags, links, addresses, bridges, VLANs, no switch at all, the watchdog.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::check::{During, Result, ensure, fail, wait};
use crate::clients::metric;
use crate::dt::Tree;
use crate::espressobin::board::{Board, End, Running, address, cached, flipped, tree};
use crate::espressobin::services::{served, served_at_once};
use crate::machine::Machine;
use crate::wire::{BROADCAST, Wire, arp, echo_request, ethernet, ipv4};
use crate::{Context, Needs, Test, Tier};

/// The tests of this file.
pub const TESTS: &[Test] = &[
    test("board-short-tags", short_tags),
    test("board-links-forced-and-masked", links),
    test("board-address-of-another-vendor", foreign_address),
    test("board-vendor-default-address", vendor_default),
    test("board-bridge", |cx| bridge(cx, "")),
    test("board-bridge-all-doubts-flipped", |cx| {
        bridge(cx, &flipped())
    }),
    test("board-vlan", |cx| vlan(cx, "dsa-tag=edsa")),
    test("board-vlan-short-tags", |cx| vlan(cx, "dsa-tag=dsa")),
    test("board-vlan-on-bridge", vlan_on_bridge),
    test("virt-vlan", virt_vlan),
    test("board-switch-disabled", |cx| {
        let mut tree = tree()?;
        tree.root.each(&mut |node| {
            if node.name.starts_with("switch0") {
                node.set("status", b"disabled\0");
            }
        });
        conduit_only(cx, tree)
    }),
    test("board-switch-missing", |cx| {
        let mut tree = tree()?;
        tree.root.each(&mut |node| {
            node.children
                .retain(|child| !child.name.starts_with("switch0"));
        });
        conduit_only(cx, tree)
    }),
    test("board-tree-of-u-boot", tree_of_u_boot),
    test("board-coalescing-default", |cx| coalescing(cx, "", 0, 20)),
    test("board-coalescing-patient", |cx| {
        coalescing(cx, "coalesce=64,60000", 40, 1000)
    }),
    test("board-watchdog-bites", watchdog_bites),
    test("board-watchdog-is-fed", watchdog_is_fed),
    test("faults-board-reset-without-psci", watchdog_backs_up),
    test("board-nonsense-is-named", nonsense),
];

const fn test(name: &'static str, run: fn(&Context) -> Result) -> Test {
    Test {
        name,
        tier: Tier::Ci,
        needs: Needs::Qemu,
        limit_s: 180,
        run,
    }
}

/// Longest time for an answer.
const WAIT: Duration = Duration::from_secs(10);
/// Time in which nothing may come.
const SILENCE: Duration = Duration::from_millis(500);

/// Somebody at the other end of a cable.
struct Station {
    mac: [u8; 6],
    ip: Ipv4Addr,
    /// The 802.1Q tag of what it sends, and whose VLAN it expects of answers.
    tag: Option<u16>,
}

impl Station {
    fn new(last: u8, ip: [u8; 4], tag: Option<u16>) -> Self {
        Self {
            mac: [0x02, 0xaa, 0, 0, 0, last],
            ip: ip.into(),
            tag,
        }
    }

    /// A frame made with the helpers of `wire`, as from this station.
    fn sends(&self, mut frame: Vec<u8>) -> Vec<u8> {
        frame[6..12].copy_from_slice(&self.mac);
        if frame[12..14] == [8, 6] {
            frame[22..28].copy_from_slice(&self.mac);
        }
        if let Some(tag) = self.tag {
            let [high, low] = tag.to_be_bytes();
            frame.splice(12..12, [0x81, 0x00, high, low]);
        }
        frame
    }

    /// A frame to this station with its VLAN's tag (priority 0, no CFI) taken off.
    fn receives(&self, frame: &[u8]) -> Option<Vec<u8>> {
        if frame.get(..6)? != self.mac {
            return None;
        }
        let mut frame = frame.to_vec();
        match self.tag.map(|tag| tag & 0xfff).filter(|vid| *vid != 0) {
            Some(vid) => {
                let [high, low] = vid.to_be_bytes();
                if frame.get(12..16)? != [0x81, 0x00, high, low] {
                    return None;
                }
                frame.drain(12..16);
            }
            None if frame.get(12..14)? == [0x81, 0x00] => return None,
            None => {}
        }
        Some(frame)
    }

    /// Asks for the hardware address of `board`.
    fn meets(&self, wire: &mut Wire, board: Ipv4Addr) -> Result<[u8; 6]> {
        wire.send(&self.sends(arp(1, self.ip, BROADCAST, board)))?;
        wire.expect("an ARP answer", WAIT, |frame| {
            let frame = self.receives(frame)?;
            let answers = frame.get(12..14)? == [8, 6]
                && frame.get(20..22)? == [0, 2]
                && frame.get(28..32)? == board.octets();
            answers.then(|| frame[6..12].try_into().ok())?
        })
    }

    /// Sends a ping with so many bytes of data; whether it is answered.
    fn pings(
        &self,
        wire: &mut Wire,
        (mac, board): ([u8; 6], Ipv4Addr),
        size: usize,
        patience: Duration,
    ) -> Result<bool> {
        static SEQUENCE: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(1);
        let sequence = SEQUENCE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let data: Vec<u8> = (0..size).map(|at| (at * 7) as u8).collect();
        let packet = ipv4(self.ip, board, 1, &echo_request(sequence, &data));
        wire.send(&self.sends(ethernet(mac, 0x0800, &packet)))?;
        let answered = wire.watch(patience, &mut |frame| {
            let frame = self.receives(frame)?;
            let answers = frame.get(12..14)? == [8, 0]
                && frame.get(26..30)? == board.octets()
                && frame.get(34)? == &0
                && frame.get(40..42)? == sequence.to_be_bytes()
                && frame.get(42..42 + size)? == data;
            answers.then_some(())
        })?;
        Ok(answered.is_some())
    }
}

fn ip(interface: &str, address: &str, host: &str) -> String {
    format!("ip={address}::{host}:255.255.255.0::{interface}:off")
}

/// All three sockets, with tags of four bytes.
fn short_tags(cx: &Context) -> Result {
    let mut board = Board::new(cx).append("dsa-tag=dsa").boot()?;
    board.leases(&[0, 1, 2])?;
    served_at_once(&board, &[0, 1, 2], 5)?;
    board.sound()?;
    board.untroubled()
}

fn links(cx: &Context) -> Result {
    let mut board = Board::new(cx)
        .append("link=wan:100-full link=lan0:auto,100-full,10-full")
        .boot()?;
    let wan = board.line("wan: link up")?;
    ensure!(
        wan.ends_with("wan: link up, 100 Mb/s full duplex"),
        "`{wan}`"
    );
    let lan0 = board.line("lan0: link up")?;
    ensure!(
        lan0.ends_with("lan0: link up, 100 Mb/s full duplex, pause rx/tx"),
        "`{lan0}`"
    );
    let lan1 = board.line("lan1: link up")?;
    ensure!(
        lan1.ends_with("lan1: link up, 1000 Mb/s full duplex, pause rx/tx"),
        "`{lan1}`"
    );
    board.leases(&[0, 1, 2])?;
    served_at_once(&board, &[0, 1, 2], 1)?;
    board.sound()?;
    board.untroubled()
}

fn counted(board: &Running, socket: usize, name: &str, interface: &str, least: u64) -> Result {
    let http = board.services(socket)?.http;
    let sample = format!("interface_{name}_total{{interface=\"{interface}\"}}");
    wait(5, &format!("{sample} of {least} or more"), || {
        metric(http, &sample).ok().filter(|value| *value >= least)
    })
    .map(|_| ())
}

/// An address that has nothing to do with those of the other sockets: all frames are let in, and software chooses.
fn foreign_address(cx: &Context) -> Result {
    let mut board = Board::new(cx)
        .append("mac=wan:9c:1a:00:00:00:41")
        .append(&address(0, "wan"))
        .end(0, End::Test)
        .boot()?;
    board.line("wan: neta, 88E6341, 9c:1a:00:00:00:41")?;
    board.line("wan: link up")?;
    let mut wire = board.take_wire(0)?;
    let station = Station::new(1, [10, 9, 0, 1], None);
    let own = (
        station.meets(&mut wire, [10, 9, 0, 2].into())?,
        Ipv4Addr::new(10, 9, 0, 2),
    );
    ensure!(own.0 == [0x9c, 0x1a, 0, 0, 0, 0x41], "{own:02x?}");
    ensure!(station.pings(&mut wire, own, 56, WAIT)?, "no answer");
    board.leases(&[1])?;
    // In the range of the hardware's filter, had it one, and far from it.
    let others = [[0x9c, 0x1a, 0, 0, 0, 0x42], [0x02, 0xbb, 0, 0, 0, 1]];
    for other in others {
        let answered = station.pings(&mut wire, (other, own.1), 56, SILENCE)?;
        ensure!(!answered, "{other:02x?} is not its address");
    }
    counted(&board, 1, "rx_other_station", "wan", 2)?;
    served(&board.services(1)?)?;
    board.sound()
}

fn vendor_default(cx: &Context) -> Result {
    let mut tree = tree()?;
    tree.root.each(&mut |node| {
        if node.name == "ethernet@30000" {
            node.set("local-mac-address", &[0x00, 0x51, 0x82, 0x11, 0x22, 0x00]);
        }
    });
    let mut board = Board::new(cx).tree(tree).boot()?;
    board.line("gives 00:51:82:11:22:00 to every board")?;
    for (name, mac) in [("wan", "22:00"), ("lan0", "22:01"), ("lan1", "22:02")] {
        board.line(&format!("{name}: neta, 88E6341, 00:51:82:11:{mac}"))?;
    }
    board.leases(&[0, 1, 2])?;
    board.sound()
}

/// Two sockets are one interface, switched by hardware; the third stays alone.
fn bridge(cx: &Context, doubts: &str) -> Result {
    let own: Ipv4Addr = [10, 9, 1, 2].into();
    let mut board = Board::new(cx)
        .doubts(doubts)
        .append("bridge=lan0,lan1")
        .append(&ip("br0", "10.9.1.2", "10.9.1.1"))
        .append(&address(0, "wan"))
        .end(0, End::Test)
        .end(1, End::Test)
        .end(2, End::Test)
        .boot()?;
    board.line("br0: neta, 88E6341")?;
    board.line("br0: link up")?;
    for name in ["lan0", "lan1"] {
        board.line(&format!(
            "{name}: link up, 1000 Mb/s full duplex, pause rx/tx"
        ))?;
    }
    let a = Station::new(0xa, [10, 9, 1, 11], None);
    let b = Station::new(0xb, [10, 9, 1, 12], None);
    let w = Station::new(0xc, [10, 9, 0, 1], None);
    let (mut wan, mut lan0, mut lan1) = (
        board.take_wire(0)?,
        board.take_wire(1)?,
        board.take_wire(2)?,
    );
    let mac = a.meets(&mut lan0, own).during("lan0")?;
    ensure!(
        b.meets(&mut lan1, own).during("lan1")? == mac,
        "two addresses"
    );
    w.meets(&mut wan, [10, 9, 0, 2].into()).during("wan")?;
    for size in [18, 1472] {
        ensure!(a.pings(&mut lan0, (mac, own), size, WAIT)?, "lan0, {size}");
        ensure!(b.pings(&mut lan1, (mac, own), size, WAIT)?, "lan1, {size}");
    }
    // Between the members frames do not come to the MAC.
    let before = board.wire_counter("to_mac")?;
    for number in 0..100 {
        let frame = ethernet(b.mac, 0x88b5, &[number; 50]);
        lan0.send(&a.sends(frame.clone()))?;
        let sent = a.sends(frame);
        lan1.expect("a frame from lan0", WAIT, |frame| {
            (frame == sent).then_some(())
        })?;
    }
    let to_mac = board.wire_counter("to_mac")? - before;
    ensure!(to_mac < 20, "{to_mac} frames came to the MAC");
    board.line("br0: name ristretto.local")?;
    // What we send to all leaves by both; to a known station, by one.
    for socket in [1, 2] {
        let other = [b.mac, a.mac][socket - 1];
        let frames = board.frames(socket)?;
        let ours = || {
            frames
                .iter()
                .map(|(_, frame)| frame)
                .filter(|frame| frame[6..12] == mac)
        };
        ensure!(ours().any(|frame| frame[0] & 1 == 1), "no group of ours");
        if let Some(frame) = ours().find(|frame| frame[..6] == other) {
            fail!("by both ports: {frame:02x?}");
        }
    }
    // A station moves: its port's link goes, and what was learnt there with it.
    board.cable(1, false)?;
    board.line("lan0: link down")?;
    ensure!(a.pings(&mut lan1, (mac, own), 56, WAIT)?, "a at lan1");
    board.cable(1, true)?;
    let mark = board.mark();
    board.line_from(mark.saturating_sub(200), "lan0: link up")?;
    ensure!(b.pings(&mut lan0, (mac, own), 56, WAIT)?, "b at lan0");
    ensure!(
        board.console().matches("br0: link down").count() == 1,
        "down once, at start: one member had a link all the time since"
    );
    for (_, frame) in board.frames(0)? {
        let strangers = [a.mac, b.mac, mac];
        ensure!(
            !strangers.iter().any(|mac| frame[6..12] == *mac),
            "crossed to wan: {frame:02x?}"
        );
    }
    for socket in [1, 2] {
        for (_, frame) in board.frames(socket)? {
            ensure!(frame[6..12] != w.mac, "crossed from wan: {frame:02x?}");
        }
    }
    board.sound()?;
    board.untroubled()
}

/// What a VLAN and the interface below it let in and send, by one cable.
fn check_vlan(wire: &mut Wire, parent: Ipv4Addr, vlan: Ipv4Addr) -> Result {
    let host = |ip: Ipv4Addr| {
        let [a, b, c, _] = ip.octets();
        [a, b, c, 1]
    };
    let plain = Station::new(1, host(parent), None);
    let tagged = Station::new(2, host(vlan), Some(100));
    let mac = plain.meets(wire, parent).during("untagged")?;
    ensure!(
        tagged.meets(wire, vlan).during("tagged")? == mac,
        "two addresses"
    );
    for size in [18, 56, 1472] {
        ensure!(
            plain.pings(wire, (mac, parent), size, WAIT)?,
            "{size} untagged"
        );
        ensure!(
            tagged.pings(wire, (mac, vlan), size, WAIT)?,
            "{size} tagged"
        );
    }
    // Any priority, and CFI.
    let loud = Station::new(2, host(vlan), Some(0xb000 | 100));
    ensure!(loud.pings(wire, (mac, vlan), 56, WAIT)?, "priority 5, CFI");
    // A priority without a VLAN.
    let urgent = Station::new(1, host(parent), Some(0xe000));
    ensure!(
        urgent.pings(wire, (mac, parent), 56, WAIT)?,
        "priority 7, VLAN 0"
    );
    // No network answers for the other's address, and nobody in a VLAN that is not there.
    ensure!(
        !plain.pings(wire, (mac, vlan), 56, SILENCE)?,
        "untagged to the VLAN"
    );
    ensure!(
        !tagged.pings(wire, (mac, parent), 56, SILENCE)?,
        "tagged to the parent"
    );
    for tag in [101, 4094, 4095] {
        let stranger = Station::new(3, host(parent), Some(tag));
        for board in [parent, vlan] {
            let answered = stranger.pings(wire, (mac, board), 56, SILENCE)?;
            ensure!(!answered, "VLAN {tag} is nobody's");
        }
    }
    Ok(())
}

fn vlan(cx: &Context, tags: &str) -> Result {
    let mut board = Board::new(cx)
        .append("vlan=wan.100")
        .append(tags)
        .append(&address(0, "wan"))
        .append(&ip("wan.100", "10.9.5.2", "10.9.5.1"))
        .end(0, End::Test)
        .boot()?;
    for name in ["wan", "wan.100"] {
        board.line(&format!("{name}: link up, 1000 Mb/s full duplex"))?;
    }
    let mut wire = board.take_wire(0)?;
    check_vlan(&mut wire, [10, 9, 0, 2].into(), [10, 9, 5, 2].into())?;
    board.leases(&[1])?;
    counted(&board, 1, "rx_other_vlan", "wan", 6)?;
    counted(&board, 1, "rx_frames", "wan.100", 5)?;
    served(&board.services(1)?)?;
    board.sound()?;
    board.untroubled()
}

fn vlan_on_bridge(cx: &Context) -> Result {
    let mut board = Board::new(cx)
        .append("bridge=lan:lan0,lan1 vlan=lan.100")
        .append(&ip("lan", "10.9.1.2", "10.9.1.1"))
        .append(&ip("lan.100", "10.9.5.2", "10.9.5.1"))
        .end(1, End::Test)
        .end(2, End::Test)
        .boot()?;
    board.line("lan.100: link up")?;
    for socket in [1, 2] {
        let mut wire = board.take_wire(socket)?;
        board.line(&format!("lan{}: link up", socket - 1))?;
        check_vlan(&mut wire, [10, 9, 1, 2].into(), [10, 9, 5, 2].into())?;
    }
    board.sound()?;
    board.untroubled()
}

/// A VLAN on a virtual machine's network card.
fn virt_vlan(cx: &Context) -> Result {
    let (machine, mut wire) = Machine::new(cx)
        .append("vlan=eth0.100")
        .append(&address(0, "eth0"))
        .append(&ip("eth0.100", "10.9.5.2", "10.9.5.1"))
        .wire()?;
    let mut guest = machine.boot()?;
    guest.line("eth0.100: link up", 30)?;
    check_vlan(&mut wire, [10, 9, 0, 2].into(), [10, 9, 5, 2].into())
}

/// The MAC itself is the interface, without tags, and the ports stay as separate as U-Boot left them.
fn conduit_only(cx: &Context, tree: Tree) -> Result {
    let mut board = Board::new(cx)
        .tree(tree)
        .append("vlan=eth0.100 bridge=lan0,lan1 dsa-tag=dsa")
        .end(1, End::Test)
        .end(2, End::Test)
        .boot()?;
    let line = board.line("] eth0: neta, ")?;
    ensure!(!line.contains("88E6341"), "`{line}`");
    board.line("eth0.100: neta, ")?;
    board.line("bootargs: bridge br0 is not made: there is no switch")?;
    board.line("bootargs: dsa-tag= is ignored: there is no switch")?;
    board.line("eth0: link up, 1000 Mb/s full duplex")?;
    board.line("eth0: address 10.0.2.15/24 (dhcp)")?;
    (0..5).try_for_each(|_| served(&board.services(0)?))?;
    let mut wire = board.take_wire(2)?;
    let station = Station::new(9, [10, 9, 2, 1], None);
    for number in 0..50 {
        wire.send(&station.sends(ethernet(BROADCAST, 0x88b5, &[number; 50])))?;
    }
    served(&board.services(0)?)?;
    for socket in [0, 1] {
        for (_, frame) in board.frames(socket)? {
            ensure!(frame[6..12] != station.mac, "crossed: {frame:02x?}");
        }
    }
    board.sound()
}

/// The tree that U-Boot brings along, whatever it says about the switch.
fn tree_of_u_boot(cx: &Context) -> Result {
    let blob = cached("devicetree/u-boot", "armada-3720-espressobin.dtb")?;
    let tree = Tree::parse(&std::fs::read(blob)?)?;
    let mut board = Board::new(cx).tree(tree).boot()?;
    board.line("address 10.0.2.15/24 (dhcp)")?;
    served(&board.services(0)?)?;
    board.sound()?;
    board.untroubled()
}

/// A lone frame waits for others as long as the line says, and no longer: least and most milliseconds.
fn coalescing(cx: &Context, append: &str, least: u64, most: u64) -> Result {
    let mut board = Board::new(cx)
        .append(append)
        .append(&address(0, "wan"))
        .end(0, End::Test)
        .boot()?;
    board.line("wan: link up")?;
    let mut wire = board.take_wire(0)?;
    let own = Ipv4Addr::new(10, 9, 0, 2);
    let station = Station::new(1, [10, 9, 0, 1], None);
    let mac = station.meets(&mut wire, own)?;
    for _ in 0..9 {
        ensure!(station.pings(&mut wire, (mac, own), 56, WAIT)?, "no answer");
    }
    let frames = board.frames(0)?;
    let times = |kind: u8| {
        let is_ping = move |frame: &[u8]| {
            frame.get(12..14) == Some(&[8, 0])
                && frame.get(23) == Some(&1)
                && frame.get(34) == Some(&kind)
        };
        let found = frames.iter().filter(move |(_, frame)| is_ping(frame));
        found.map(|(time, _)| *time)
    };
    let mut taken: Vec<u64> = times(8)
        .zip(times(0))
        .map(|(at, then)| (then - at) / 1_000_000)
        .collect();
    taken.sort_unstable();
    ensure!(
        taken.len() == 9 && (least..most).contains(&taken[4]),
        "the answers took {taken:?} ms"
    );
    board.sound()
}

fn watchdog_bites(cx: &Context) -> Result {
    let mut board = Board::new(cx).append("watchdog=2 test=stall").boot()?;
    board.line("watchdog: resets after 2 s without life")?;
    board.line("self-test stall")?;
    let mark = board.mark();
    board.line_from(mark, "Ristretto ")?;
    board.sound()
}

/// Where the firmware cannot reset, the watchdog does.
fn watchdog_backs_up(cx: &Context) -> Result {
    let mut tree = tree()?;
    tree.root.children.retain(|child| child.name != "psci");
    tree.root.each(&mut |node| {
        node.children.retain(|child| child.name != "psci");
    });
    // QEMU puts PSCI back into a tree that it hands over itself.
    let board = Board::new(cx).tree(tree).boot_loader(&[]);
    let mut board = board.append("test=panic").boot()?;
    board.line("no PSCI")?;
    board.line("PANIC: ")?;
    board.line("resetting")?;
    let mark = board.mark();
    board.line_from(mark, "Ristretto ")?;
    board.sound()
}

/// Idle, under traffic, and while the switch is gone: no reason to reset.
fn watchdog_is_fed(cx: &Context) -> Result {
    // Instructions are time: a busy host's pauses are none of the board's.
    let board = Board::new(cx).instructions_take_ns(1);
    let mut board = board.append("watchdog=1").boot()?;
    board.leases(&[0, 1, 2])?;
    std::thread::sleep(Duration::from_secs(4));
    served_at_once(&board, &[0, 1, 2], 3)?;
    board.faults("switch-vanish")?;
    board.line("brought up anew")?;
    std::thread::sleep(Duration::from_secs(4));
    board.faults("")?;
    let mark = board.mark();
    board.line_from(mark, "wan: link up")?;
    served(&board.services(0)?)?;
    let starts = board.console().matches("Ristretto ").count();
    ensure!(starts == 1, "it was reset");
    board.sound()
}

fn nonsense(cx: &Context) -> Result {
    let mut board = Board::new(cx)
        .append("link=wan7:auto mac=lan9:02:00:00:00:00:01 bridge=lan0,lan7 vlan=lan7.5")
        .append("link=wan:1000-half mtu=9000 watchdog=0 coalesce=0,0 bridge=wan,wan")
        .boot()?;
    for text in [
        "ignored `link=wan:1000-half`: expected DEVICE:auto",
        "ignored `mtu=9000`: expected 1500, there are no jumbo frames",
        "ignored `watchdog=0`: expected 1 to 3600 seconds",
        "ignored `coalesce=0,0`: expected PACKETS,MICROSECONDS",
        "ignored `bridge=wan,wan`: a name in it is taken already",
        "bridge= names lan7, which is no port of the switch",
        "bridge br0 is not made: it has less than two ports",
        "link= names wan7, which is no port of a switch",
        "mac= names lan9, which is no interface whose address can be set",
        "vlan= names lan7, which is no interface",
    ] {
        board.line(&format!("bootargs: {text}"))?;
    }
    // And the rest works as if they were not there.
    board.leases(&[0, 1, 2])?;
    board.sound()?;
    board.untroubled()
}
