//! Linux's bring-up, replayed; and what it must give: isolated ports, each reachable by tag.

use super::*;

impl Bench {
    /// The register writes of Linux's probe and set-up, in its order (mv88e6xxx/chip.c), for a board with user ports 1
    /// to 3; `edsa` chooses the tag.
    pub(super) fn bring_up_as_linux(&mut self, edsa: bool) {
        assert_eq!(self.read(0x10, 3) & 0xfff0, 0x3410);
        for port in 0..6 {
            let control = self.read(0x10 + port, 4);
            self.port(port, 4, control & !3);
        }
        self.wait(2_000_000);
        let control = self.read(GLOBAL1, 4);
        self.write(GLOBAL1, 4, control | 0x8000);
        assert!(
            (0..64).any(|_| self.read(GLOBAL1, 0) & 0x8800 == 0x8800),
            "no PPU after the reset"
        );
        self.write(GLOBAL1, 4, control & !0x01ff);
        self.read(GLOBAL1, 0);
        self.write(GLOBAL2, 1, 0);
        self.read(GLOBAL2, 0);
        for port in 0..6 {
            self.read(0x10 + port, 0);
        }
        self.write(GLOBAL1, 5, 0x9000);
        self.poll_idle(GLOBAL1, 5);
        self.stu_load(0, [0; 3]);
        for port in [1, 2, 3, 0] {
            self.set_up_port(port, edsa);
        }
        for port in 0..6u16 {
            self.write(GLOBAL2, 0x09, 0x9000 | port << 8);
            self.poll_idle(GLOBAL2, 0x09);
        }
        for (at, byte) in (0..).zip(H) {
            self.write(GLOBAL2, 0x0d, 0x8000 | at << 8 | u16::from(byte));
        }
        let misc = self.read(GLOBAL2, 0x1d);
        self.write(GLOBAL2, 0x1d, misc & !0x4000);
        for device in 0..32 {
            for port in 0..16 {
                self.pvt_write(device, port, 0);
            }
        }
        self.write(GLOBAL1, 0x0c, 0);
        self.atu_operation(0, 1);
        let atu_control = self.read(GLOBAL1, 0x0a) & !0x0ff0;
        self.write(GLOBAL1, 0x0a, atu_control | 80 << 4 | 8);
        self.atu_load(0, BROADCAST, 0x0007 | 0x3f << 4);
        self.atu_load(1, BROADCAST, 0x0007 | 0x3f << 4);
        for entry in 0..16 {
            self.write(GLOBAL2, 0x0f, 0x8000 | entry << 8);
        }
        self.write(GLOBAL1, 0x1c, 0x0740);
        for pointer in 0..4 {
            self.write(GLOBAL1, 0x1a, 0x80ff | pointer << 8);
        }
        for pointer in [0x20, 0x21] {
            self.write(GLOBAL1, 0x1a, 0x8000 | pointer << 8);
        }
        self.write(GLOBAL1, 0x1a, 0x8000 | 0x30 << 8 | 0xe0);
        for number in 0..8 {
            self.write(GLOBAL2, 0x07, 0x8000 | number << 12 | 0x3f);
        }
        for id in 0..16 {
            self.write(GLOBAL2, 0x08, 0x8000 | id << 11);
        }
        for device in 0..32 {
            self.write(GLOBAL2, 0x06, 0x8000 | device << 8 | 0x0f);
        }
        for (at, word) in (0..).zip([0, 0, 0x5555, 0x5555, 0xaaaa, 0xaaaa, 0xffff, 0xffff]) {
            self.write(GLOBAL1, 0x10 + at, word);
        }
        self.write(GLOBAL1, 0x18, 0xfa41);
        self.write(GLOBAL1, 0x1d, 0x9000);
        self.poll_idle(GLOBAL1, 0x1d);
        for port in 1..=3 {
            self.set_up_phy(port);
            self.port(port, 4, 0x043f);
        }
        self.wait(Timing::FAST.autoneg_1000);
    }

    fn set_up_port(&mut self, port: u8, edsa: bool) {
        let cpu = port == 0;
        self.port(port, 1, if cpu { 0xc013 } else { 0x0003 });
        if cpu {
            for control in [0xe01e, 0xe03e] {
                self.port(port, 1, control);
            }
        }
        self.port(
            port,
            4,
            match (cpu, edsa) {
                (true, true) => 0x333f,
                (true, false) => 0x013f,
                (false, _) => 0x043c,
            },
        );
        self.port(port, 0x0f, if cpu && edsa { 0xdada } else { 0x9100 });
        self.port(port, 8, if cpu { 0x2c80 } else { 0x2000 });
        for (register, value) in [
            (0x0b, if cpu { 1 } else { 0 }),
            (0x0a, 0),
            (9, 1),
            (2, 0),
            (0x0c, 0),
            (0x0d, 0),
        ] {
            self.port(port, register, value);
        }
        self.port(port, 0x0e, if cpu { 0x0800 } else { 0 });
        for (register, value) in [(0x18, 0x3210), (0x19, 0x7654), (5, 0)] {
            self.port(port, register, value);
        }
        self.vtu_load(0, 0x1000, [0, 3, 3, 3, 3, 3]);
        self.vtu_load(4095, 1, [0; 6]);
        self.port(port, 6, if cpu { 0x3e } else { 0x01 });
        self.port(port, 7, 0);
    }

    fn set_up_phy(&mut self, port: u8) {
        self.phy_write(port, 22, 0);
        self.phy_write(port, 0, 0x1140);
        self.wait(300_000);
        self.phy_write(port, 22, 0xf8);
        self.phy_write(port, 8, 0x36);
        self.phy_write(port, 22, 0);
        let control = self.phy_read(port, 0);
        self.phy_write(port, 0, control | 0x8000);
        assert!(
            (0..16).any(|_| self.phy_read(port, 0) & 0x8000 == 0),
            "PHY {port} stays in reset"
        );
        self.phy_write(port, 4, 0x0de1);
        self.phy_write(port, 9, 0x0200);
        self.phy_write(port, 0, 0x1340);
    }

    pub(super) fn linux(edsa: bool) -> Self {
        let mut bench = Self::new();
        bench.plug_all();
        bench.bring_up_as_linux(edsa);
        bench
    }
}

#[test]
fn linux_brings_it_up_without_a_guest_error() {
    for edsa in [true, false] {
        for state in [PowerOn::Straps, PowerOn::UBoot] {
            let mut bench = Bench::with(state, &[]);
            bench.plug_all();
            bench.bring_up_as_linux(edsa);
            bench.assert_clean();
            for port in 1..=3 {
                assert_eq!(
                    bench.read(0x10 + port, 0),
                    0xde1f,
                    "link, 1000, full, pause, C-mode 15"
                );
            }
            assert_eq!(bench.read(0x10, 0), 0x0e07);
            let conduit = bench.switch.conduit_link(&mut bench.env).unwrap();
            assert!(conduit.delays && conduit.link == Link::GIGABIT);
        }
    }
}

#[test]
fn linux_brings_it_up_under_every_reading_of_every_doubt() {
    for doubt in DOUBTS {
        for reading in doubt.readings {
            let mut bench = Bench::with(PowerOn::UBoot, &[(doubt.name, reading)]);
            bench.plug_all();
            bench.bring_up_as_linux(true);
            bench.assert_clean();
            let frame = plain(H, A);
            let expected = vec![(0, with_tag(&frame, [0xc0, 0x08, 0, 0], true))];
            assert_eq!(bench.send(1, &frame), expected, "{} {reading}", doubt.name);
            let answer = with_tag(&plain(A, H), [0x40, 0x08, 0, 0], true);
            assert_eq!(bench.ports(0, &answer), [1], "{} {reading}", doubt.name);
        }
    }
}

#[test]
fn a_user_port_reaches_the_conduit_alone() {
    for edsa in [true, false] {
        let mut bench = Bench::linux(edsa);
        for (port, source) in [(1, A), (2, B), (3, C)] {
            for destination in [H, A, B, C, BROADCAST, [0x33, 0x33, 0, 0, 0, 1]] {
                let frame = plain(destination, source);
                let tag = [0xc0, port << 3, 0, 0];
                assert_eq!(
                    bench.send(port, &frame),
                    vec![(0, with_tag(&frame, tag, edsa))],
                    "from port {port}"
                );
            }
        }
        bench.assert_clean();
    }
}

#[test]
fn from_cpu_leaves_by_exactly_one_port_untagged_and_padded() {
    for edsa in [true, false] {
        let mut bench = Bench::linux(edsa);
        for port in 1..=3u8 {
            let frame = plain(BROADCAST, H);
            assert_eq!(
                bench.send(0, &with_tag(&frame, [0x40, port << 3, 0, 0], edsa)),
                vec![(port, frame.clone())]
            );
            // 60 bytes with the tag, as the conduit MAC pads: fewer without it.
            let short = with_tag(
                &frame[..if edsa { 52 } else { 56 }],
                [0x40, port << 3, 0, 0],
                edsa,
            );
            let (out_port, bytes) = bench.send(0, &short).remove(0);
            assert_eq!((out_port, bytes.len()), (port, 60));
        }
        assert!(
            bench
                .send(0, &with_tag(&plain(A, H), [0x41, 1 << 3, 0, 0], edsa))
                .is_empty(),
            "another device"
        );
    }
}

#[test]
fn tags_are_replaced_both_ways_and_cfi_moves() {
    for edsa in [true, false] {
        let mut bench = Bench::linux(edsa);
        let frame = tagged(H, B, 0xb123);
        let expected = replace_tag(&frame, [0xe0, 0x11, 0xa1, 0x23], edsa);
        assert_eq!(bench.send(2, &frame), vec![(0, expected)]);
        let down = tagged(B, H, 0xb123);
        let from_cpu = replace_tag(&down, [0x60, 0x11, 0xa1, 0x23], edsa);
        assert_eq!(bench.send(0, &from_cpu), vec![(2, down)]);
    }
}

#[test]
fn reserved_multicast_is_trapped_with_management_priority() {
    for edsa in [true, false] {
        let mut bench = Bench::linux(edsa);
        for last in [0x00, 0x02, 0x0e, 0x20, 0x2f] {
            let frame = plain([0x01, 0x80, 0xc2, 0, 0, last], A);
            assert_eq!(
                bench.send(1, &frame),
                vec![(0, with_tag(&frame, [0x00, 0x08, 0xe0, 0x00], edsa))],
                "{last:#x}"
            );
        }
        for state in [0x043d, 0x043e] {
            bench.port(1, 4, state);
            assert_eq!(
                bench.ports(1, &plain(STP, A)),
                [0],
                "passes a blocked or learning port"
            );
            assert!(bench.ports(1, &plain(H, A)).is_empty());
        }
        bench.port(1, 4, 0x043c);
        assert!(
            bench.ports(1, &plain(STP, A)).is_empty(),
            "not a disabled one"
        );
    }
}

#[test]
fn igmp_and_mld_are_trapped_with_their_code() {
    let mut bench = Bench::linux(true);
    let mut igmp = vec![0x08, 0x00, 0x46, 0xc0, 0, 32, 0, 0, 0, 0, 1, 2];
    igmp.resize(60, 0);
    let igmp = frame([0x01, 0, 0x5e, 0, 0, 0x16], A, &igmp);
    assert_eq!(
        bench.send(1, &igmp),
        vec![(0, with_tag(&igmp, [0x00, 0x0a, 0, 0], true))]
    );
    let mut mld = vec![0x86, 0xdd, 0x60, 0, 0, 0, 0, 36, 0, 1];
    mld.resize(42, 0xfe);
    mld.extend_from_slice(&[58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0]);
    let mld = frame([0x33, 0x33, 0, 0, 0, 0x16], A, &mld);
    assert_eq!(
        bench.send(1, &mld),
        vec![(0, with_tag(&mld, [0x00, 0x0a, 0, 0], true))]
    );
    bench.port(1, 4, 0x003f);
    assert_eq!(
        bench.send(1, &mld),
        vec![(0, with_tag(&mld, [0xc0, 0x08, 0, 0], true))],
        "not without snooping"
    );
}

#[test]
fn an_mtu_sized_frame_with_the_long_tag_passes_the_conduit_port() {
    let mut bench = Bench::linux(true);
    let mut long = plain(A, H);
    long.resize(1514, 0);
    assert_eq!(
        bench.ports(0, &with_tag(&long, [0x40, 0x08, 0, 0], true)),
        [1]
    );
    long.resize(10240 - 4 - 8, 0);
    assert_eq!(
        bench.ports(0, &with_tag(&long, [0x40, 0x08, 0, 0], true)),
        [1]
    );
    long.push(0);
    assert!(
        bench
            .ports(0, &with_tag(&long, [0x40, 0x08, 0, 0], true))
            .is_empty()
    );
    assert_eq!(bench.counter(0, Counter::InOversize), 1);
}

#[test]
fn u_boot_leaves_plain_frames_between_the_conduit_and_each_port() {
    let mut bench = Bench::linked(&[]);
    assert_eq!(bench.read(0x10, 1), 0xe002);
    assert_eq!(
        (bench.read(0x11, 6), bench.read(0x14, 6)),
        (0x0001, 0x002f),
        "port 4 is as strapped"
    );
    assert_eq!(bench.phy_read(1, 0), 0x1140);
    assert!(bench.switch.conduit_link(&mut bench.env).is_some());
    let frame = plain(BROADCAST, A);
    assert_eq!(bench.send(1, &frame), vec![(0, frame.clone())]);
    assert_eq!(
        bench.ports(0, &plain(BROADCAST, H)),
        [1, 2, 3],
        "and floods"
    );
    assert_eq!(bench.ports(0, &plain(A, H)), [1], "A was learnt");
    bench.assert_clean();
}

#[test]
fn power_alone_lets_everything_leak() {
    let mut bench = Bench::with(PowerOn::Straps, &[("switch-strap-phy-power", "up")]);
    bench.plug_all();
    assert_eq!(bench.ports(1, &plain(BROADCAST, A)), [0, 2, 3]);
    let mut bench = Bench::with(PowerOn::Straps, &[("switch-strap-port-state", "disabled")]);
    bench.plug_all();
    assert!(bench.ports(1, &plain(BROADCAST, A)).is_empty());
}
