//! A bridge of ports 2 and 3 in hardware, as Linux offloads it: without and with VLANs.

use super::*;

/// Port 0 of the virtual device Linux gives its first bridge.
const BRIDGE_DEVICE: u8 = 1;

impl Bench {
    /// Ports 2 and 3 in one VLAN-unaware bridge, with a default FID that agrees with the VTU's for VID 4095.
    fn bridged() -> Self {
        let mut bench = Self::linux(true);
        bench.join_bridge(1);
        bench
    }

    /// `mv88e6xxx_port_bridge_join` for ports 2 and 3.
    fn join_bridge(&mut self, fid: u16) {
        for port in [2, 3u8] {
            self.port(port, 8, 0x2080);
            self.port(port, 6, fid << 12 | 1 | (0x0c & !(1 << port)));
            self.port(port, 7, 4095);
            self.port(port, 0x0b, 1 << port);
        }
        self.pvt_write(u16::from(BRIDGE_DEVICE), 0, 0x0d);
    }

    /// The same with VLAN filtering: VLAN 1 untagged at both, VLAN 10 tagged at 2 and untagged at 3.
    fn vlan_aware() -> Self {
        let mut bench = Self::bridged();
        bench.vtu_load(1, 2, [0, 3, 1, 1, 3, 3]);
        bench.vtu_load(10, 3, [0, 3, 2, 1, 3, 3]);
        for port in [2, 3] {
            bench.port(port, 8, 0x2c80);
            bench.port(port, 7, 1);
        }
        bench.atu_load(2, BROADCAST, 0x03f7);
        bench.atu_load(3, BROADCAST, 0x03f7);
        bench
    }

    fn bridge_sends(&mut self, frame: &[u8]) -> Vec<Sent> {
        self.send(
            0,
            &with_tag(frame, [0xc0 | BRIDGE_DEVICE, 0, 0x0f, 0xff], true),
        )
    }
}

#[test]
fn stations_talk_past_the_cpu_once_learnt() {
    let mut bench = Bench::bridged();
    let first = plain(C, B);
    assert_eq!(
        bench.ports(2, &first),
        [0, 3],
        "unknown: flooded within the bridge"
    );
    let answer = plain(B, C);
    assert_eq!(bench.send(3, &answer), vec![(2, answer.clone())]);
    assert_eq!(bench.ports(2, &first), [3]);
    assert_eq!(bench.ports(2, &plain(BROADCAST, B)), [0, 3]);
    assert_eq!(
        bench.ports(1, &plain(B, A)),
        [0],
        "port 1 is no member and finds no entry"
    );
    bench.assert_clean();
}

/// Linux from 5.18 on leaves the default FID of a bridged port at 0 and loads its own entries into FID 1.
#[test]
fn linux_bridges_past_the_cpu_whatever_database_802_1q_off_means() {
    for reading in ["vtu", "port"] {
        let mut bench = Bench::with(PowerOn::UBoot, &[("switch-fid-of-8021q-off-port", reading)]);
        bench.plug_all();
        bench.bring_up_as_linux(true);
        bench.join_bridge(0);
        bench.ports(2, &plain(C, B));
        assert_eq!(bench.ports(3, &plain(B, C)), [2], "{reading}");
        assert_eq!(bench.ports(2, &plain(C, B)), [3], "{reading}");
        let to_b: Vec<u8> = bench
            .bridge_sends(&plain(B, H))
            .iter()
            .map(|sent| sent.0)
            .collect();
        let expected: &[u8] = if reading == "vtu" { &[2] } else { &[2, 3] };
        assert_eq!(to_b, expected, "the bridge itself asks FID 1");
        bench.assert_clean();
    }
}

#[test]
fn the_bridge_sends_from_its_virtual_device_where_the_pvt_allows() {
    let mut bench = Bench::bridged();
    let flood = plain(BROADCAST, H);
    assert_eq!(
        bench.bridge_sends(&flood),
        vec![(2, flood.clone()), (3, flood.clone())]
    );
    bench.ports(2, &plain(BROADCAST, B));
    let known = plain(B, H);
    assert_eq!(bench.bridge_sends(&known), vec![(2, known.clone())]);
    assert_eq!(
        bench.ports(3, &plain(H, C)),
        [0],
        "the bridge's own address was learnt at the conduit"
    );
    bench.pvt_write(u16::from(BRIDGE_DEVICE), 0, 0);
    assert!(bench.bridge_sends(&known).is_empty());
    bench.assert_clean();
}

#[test]
fn flood_bits_keep_unknown_frames_from_a_port() {
    let mut bench = Bench::bridged();
    bench.port(3, 4, 0x043b);
    assert_eq!(bench.ports(2, &plain(C, B)), [0], "unknown unicast");
    assert_eq!(bench.ports(2, &plain([0x33, 0x33, 0, 0, 0, 1], B)), [0, 3]);
    bench.port(3, 4, 0x0437);
    assert_eq!(bench.ports(2, &plain(C, B)), [0, 3]);
    assert_eq!(
        bench.ports(2, &plain([0x33, 0x33, 0, 0, 0, 1], B)),
        [0],
        "unknown multicast"
    );
    assert_eq!(
        bench.ports(2, &plain(BROADCAST, B)),
        [0, 3],
        "broadcast has an entry"
    );
}

#[test]
fn spanning_tree_states_of_ports_and_of_vlans() {
    let mut bench = Bench::bridged();
    let state = |bench: &mut Bench, state: u16| bench.port(2, 4, 0x043c | state);
    for (bits, learns) in [(0, false), (1, false), (2, true)] {
        bench.atu_operation(0, 2);
        state(&mut bench, bits);
        assert!(bench.ports(2, &plain(C, B)).is_empty());
        let learnt = bench.ports(3, &plain(B, C)).is_empty();
        assert_eq!(
            learnt, learns,
            "state {bits}: a learnt B behind a port that does not forward is nowhere"
        );
    }
    state(&mut bench, 3);
    let mut bench = Bench::vlan_aware();
    bench.stu_load(0, [0x0400, 0, 0]);
    assert!(
        bench.ports(2, &plain(BROADCAST, B)).is_empty(),
        "port 2 blocks in SID 0"
    );
    assert_eq!(bench.ports(3, &plain(BROADCAST, C)), [0]);
    assert_eq!(bench.ports(2, &plain(STP, B)), [0], "management passes");
}

#[test]
fn vlans_separate_and_tag_as_the_table_says() {
    let mut bench = Bench::vlan_aware();
    let untagged = plain(BROADCAST, B);
    assert_eq!(
        bench.send(2, &untagged),
        vec![
            (0, with_tag(&untagged, [0xc0, 0x10, 0, 1], true)),
            (3, untagged.clone())
        ]
    );
    let in_10 = tagged(BROADCAST, B, 0x600a);
    let bare = [&in_10[..12], &in_10[16..]].concat();
    assert_eq!(
        bench.send(2, &in_10),
        vec![
            (0, replace_tag(&in_10, [0xe0, 0x10, 0x60, 0x0a], true)),
            (3, bare)
        ],
        "tagged at 2, untagged at 3"
    );
    let from_3 = tagged(BROADCAST, C, 10);
    assert_eq!(bench.send(3, &from_3)[1], (2, from_3.clone()));
    let sent = bench.send(0, &with_tag(&plain(BROADCAST, H), [0xe1, 0, 0, 10], true));
    assert_eq!(
        sent,
        vec![(2, tagged(BROADCAST, H, 10)), (3, plain(BROADCAST, H))],
        "from the bridge into VLAN 10"
    );
    bench.assert_clean();
}

#[test]
fn each_vlan_has_its_own_database() {
    let mut bench = Bench::vlan_aware();
    bench.ports(3, &plain(BROADCAST, C));
    assert_eq!(bench.ports(2, &plain(C, B)), [3]);
    assert_eq!(
        bench.ports(2, &tagged(C, B, 10)),
        [0, 3],
        "C is not known in VLAN 10"
    );
}

#[test]
fn unknown_vids_and_strangers_are_dropped_and_reported() {
    let mut bench = Bench::vlan_aware();
    bench.read(GLOBAL1, 0);
    assert!(bench.ports(2, &tagged(BROADCAST, B, 77)).is_empty());
    assert_eq!(bench.read(GLOBAL1, 0) & 0x0020, 0x0020, "VTU problem");
    bench.write(GLOBAL1, 5, 0xf000);
    bench.poll_idle(GLOBAL1, 5);
    assert_eq!(
        (
            bench.read(GLOBAL1, 5) & 0x006f,
            bench.read(GLOBAL1, 6) & 0xfff
        ),
        (0x0022, 77),
        "miss, port 2"
    );
    assert_eq!(bench.read(GLOBAL1, 0) & 0x0020, 0);
    bench.vtu_load(20, 4, [0, 3, 3, 1, 3, 3]);
    assert!(bench.ports(2, &tagged(BROADCAST, B, 20)).is_empty());
    bench.write(GLOBAL1, 5, 0xf000);
    bench.poll_idle(GLOBAL1, 5);
    assert_eq!(
        (
            bench.read(GLOBAL1, 5) & 0x006f,
            bench.read(GLOBAL1, 6) & 0xfff
        ),
        (0x0042, 20),
        "member, port 2"
    );
    assert_eq!(bench.counter(2, Counter::InFiltered), 2);
}

#[test]
fn the_802_1q_modes_differ_by_what_they_forgive() {
    // (mode, unknown VID, VID the port is no member of)
    for (mode, unknown, stranger) in [
        (0, true, true),
        (1, true, true),
        (2, false, true),
        (3, false, false),
    ] {
        let mut bench = Bench::vlan_aware();
        bench.vtu_load(20, 4, [0, 3, 3, 1, 3, 3]);
        bench.port(2, 8, 0x2080 | mode << 10);
        assert_eq!(
            !bench.ports(2, &tagged(BROADCAST, B, 77)).is_empty(),
            unknown,
            "mode {mode}, unknown VID"
        );
        assert_eq!(
            !bench.ports(2, &tagged(BROADCAST, B, 20)).is_empty(),
            stranger,
            "mode {mode}, stranger"
        );
    }
}

#[test]
fn tagged_or_untagged_frames_can_be_refused() {
    let mut bench = Bench::vlan_aware();
    bench.port(2, 8, 0x2d80);
    assert!(bench.ports(2, &plain(BROADCAST, B)).is_empty());
    assert!(
        bench.ports(2, &tagged(BROADCAST, B, 0xe000)).is_empty(),
        "a priority tag is none"
    );
    assert!(!bench.ports(2, &tagged(BROADCAST, B, 10)).is_empty());
    bench.port(2, 8, 0x2e80);
    assert!(!bench.ports(2, &plain(BROADCAST, B)).is_empty());
    assert!(bench.ports(2, &tagged(BROADCAST, B, 10)).is_empty());
    assert!(!bench.ports(2, &tagged(BROADCAST, B, 0xe000)).is_empty());
}

#[test]
fn a_vlan_of_policy_is_trapped_where_the_port_says_so() {
    let mut bench = Bench::vlan_aware();
    bench.vtu_load(10, 0x1003, [0, 3, 2, 1, 3, 3]);
    assert_eq!(bench.ports(2, &tagged(BROADCAST, B, 10)), [0, 3]);
    bench.port(2, 0x0e, 2 << 10);
    let frame = tagged(BROADCAST, B, 10);
    assert_eq!(
        bench.send(2, &frame),
        vec![(0, replace_tag(&frame, [0x20, 0x12, 0x10, 0x0a], true))]
    );
    bench.port(2, 0x0e, 1 << 10);
    let sent = bench.send(2, &frame);
    assert_eq!(
        sent.iter().map(|(port, _)| *port).collect::<Vec<_>>(),
        [0, 0, 3],
        "mirrored and forwarded"
    );
    assert_eq!(sent[0].1[16..20], [0x20, 0x14, 0x10, 0x0a]);
    bench.port(2, 0x0e, 3 << 10);
    assert!(bench.send(2, &frame).is_empty());
}

#[test]
fn a_locked_port_lets_only_known_sources_in() {
    let mut bench = Bench::bridged();
    bench.port(2, 0x0b, 0x2004);
    bench.port(2, 4, 0x443f);
    assert!(bench.ports(2, &plain(H, B)).is_empty());
    assert_eq!(bench.read(GLOBAL1, 0) & 8, 8, "ATU problem");
    bench.atu_operation(0, 7);
    assert_eq!(bench.read(GLOBAL1, 0x0b) & 0xff, 0x21, "miss in FID 1");
    assert_eq!(
        (bench.read(GLOBAL1, 0x0c) & 0xf, bench.read(GLOBAL1, 0x0f)),
        (2, 0x0012)
    );
    bench.atu_load(1, B, 0x004e);
    assert_eq!(bench.ports(2, &plain(H, B)), [0, 3]);
    bench.atu_load(1, B, 0x008e);
    assert!(
        bench.ports(2, &plain(H, B)).is_empty(),
        "an entry for port 3"
    );
    bench.atu_operation(0, 7);
    assert_eq!(bench.read(GLOBAL1, 0x0b) & 0xff, 0x41, "member");
}

#[test]
fn static_entries_are_not_stolen_by_a_wrong_port() {
    let mut bench = Bench::bridged();
    bench.atu_load(1, B, 0x004e);
    assert_eq!(bench.ports(3, &plain(BROADCAST, B)), [0, 2]);
    bench.atu_operation(0, 7);
    assert_eq!(bench.read(GLOBAL1, 0x0b) & 0xff, 0x41, "member violation");
    assert_eq!(bench.ports(3, &plain(B, C)), [2]);
    bench.port(3, 0x0b, 0x1008);
    bench.ports(3, &plain(BROADCAST, B));
    assert_eq!(bench.read(GLOBAL1, 0) & 8, 0, "wrong sources are ignored");
    bench.port(3, 4, 0x843f);
    assert!(
        bench.ports(3, &plain(BROADCAST, B)).is_empty(),
        "drop on unlock"
    );
    bench.port(3, 4, 0xc43f);
    assert_eq!(bench.ports(3, &plain(BROADCAST, B)), [0], "to the CPU");
}

#[test]
fn a_trunk_learns_as_one_and_sends_by_one_member() {
    let mut bench = Bench::bridged();
    for port in [2, 3] {
        bench.port(port, 5, 0x4500);
    }
    bench.port(1, 6, 0x1000 | 0x0d);
    bench.port(1, 7, 4095);
    bench.port(1, 8, 0x2080);
    bench.write(GLOBAL2, 0x08, 0x8000 | 5 << 11 | 0x0c);
    for number in 0..8u16 {
        let member = if number % 2 == 0 { 0x37 } else { 0x3b };
        bench.write(GLOBAL2, 0x07, 0x8000 | number << 12 | member);
    }
    let up = plain(BROADCAST, B);
    assert_eq!(
        bench.send(2, &up)[0],
        (0, with_tag(&up, [0xc0, 0x2c, 0x0f, 0xff], true)),
        "trunk bit and id 5"
    );
    assert_eq!(bench.ports(2, &up), [0], "not to the other member");
    let by_hash = [A, H].map(|source| bench.ports(1, &plain(B, source)));
    assert_eq!(
        by_hash,
        [vec![3], vec![2]],
        "0x11 ^ 0x12 is odd, 0x10 ^ 0x12 even"
    );
    bench.assert_clean();
}
