//! Frames by the rules: sizes, counters, monitors, policies, loopback, provider tags.

use super::*;

#[test]
fn sizes_are_limited_and_counted() {
    let mut bench = Bench::linked(&[]);
    let send = |bench: &mut Bench, length: usize| {
        let mut frame = plain(H, A);
        frame.resize(length, 0);
        !bench.ports(1, &frame).is_empty()
    };
    assert!(!send(&mut bench, 59) && send(&mut bench, 60));
    for (mode, limit) in [(0u16, 1522), (1, 2048), (2, 10240)] {
        bench.port(1, 8, 0x0080 | mode << 12);
        assert!(
            send(&mut bench, limit - 4) && !send(&mut bench, limit - 3),
            "mode {mode}"
        );
    }
    assert_eq!(
        (
            bench.counter(1, Counter::InUndersize),
            bench.counter(1, Counter::InOversize)
        ),
        (1, 3)
    );
    assert_eq!(bench.counter(1, Counter::InAccepted), 4);
}

#[test]
fn damaged_frames_are_counted_by_kind_and_dropped() {
    let mut bench = Bench::linked(&[]);
    let send = |bench: &mut Bench, length: usize| {
        let mut passed = false;
        let mut sink = |_: PortId, _: &[u8]| passed = true;
        bench.switch.damaged_frame_from_port(
            &mut bench.env,
            PortId(1),
            &vec![0; length],
            &mut sink,
        );
        passed
    };
    assert!(!send(&mut bench, 40) && !send(&mut bench, 100) && !send(&mut bench, 11_000));
    let counted = [
        Counter::InFragments,
        Counter::InFcsError,
        Counter::InJabber,
        Counter::InBadOctets,
    ];
    assert_eq!(
        counted.map(|counter| bench.counter(1, counter)),
        [1, 1, 1, 44 + 104 + 11_004]
    );
    bench.port(1, 8, 0xa080);
    assert!(send(&mut bench, 100), "the port ignores the FCS");
    assert_eq!(bench.counter(1, Counter::InBadAccepted), 1);
}

#[test]
fn both_ends_count_the_same_traffic() {
    let mut bench = Bench::linux(true);
    bench.write(GLOBAL1, 0x1d, 0x9000);
    bench.poll_idle(GLOBAL1, 0x1d);
    for length in [60, 100, 1514] {
        let mut frame = plain(H, A);
        frame.resize(length, 0);
        assert_eq!(bench.ports(1, &frame), [0]);
    }
    bench.ports(1, &plain(BROADCAST, A));
    bench.ports(1, &plain(STP, A));
    let octets = (60 + 100 + 1514 + 60 + 60) + 5 * 4;
    let total = [
        bench.counter(1, Counter::InGoodOctets),
        bench.counter(0, Counter::OutOctets),
    ];
    assert_eq!(
        total,
        [octets, octets + 5 * 8],
        "the conduit's frames are longer by their tags"
    );
    let unicast = [
        bench.counter(1, Counter::InUnicast),
        bench.counter(0, Counter::OutUnicast),
    ];
    assert_eq!(unicast, [3, 3]);
    let histogram = [
        Counter::Size64,
        Counter::Size65To127,
        Counter::Size1024ToMax,
    ];
    assert_eq!(
        histogram.map(|counter| bench.counter(1, counter)),
        [3, 1, 1]
    );
    assert_eq!(
        histogram.map(|counter| bench.counter(0, counter)),
        [0; 3],
        "the histogram counts RX alone"
    );
    assert_eq!(bench.counter(0, Counter::OutManagement), 1);
}

#[test]
fn the_histogram_counts_the_directions_it_is_told() {
    for (bits, counts) in [
        (0x00, [0, 0]),
        (0x40, [1, 0]),
        (0x80, [0, 1]),
        (0xc0, [1, 1]),
    ] {
        let mut bench = Bench::linked(&[]);
        bench.write(GLOBAL1, 0x1c, 0x0700 | bits);
        bench.ports(1, &plain(H, A));
        assert_eq!(
            [1, 0].map(|port| bench.counter(port, Counter::Size64)),
            counts
        );
    }
}

#[test]
fn an_association_vector_learns_for_other_ports() {
    let mut bench = Bench::linked(&[]);
    bench.port(1, 0x0b, 1 << 3);
    bench.ports(1, &plain(BROADCAST, A));
    assert_eq!(bench.ports(0, &plain(A, H)), [3]);
}

#[test]
fn from_cpu_for_another_device_keeps_its_tag_on_the_way() {
    let mut bench = Bench::linux(true);
    bench.port(3, 4, 0x013f);
    bench.write(GLOBAL2, 0x06, 0x8000 | 2 << 8 | 3);
    let down = plain(A, H);
    let sent = bench.send(0, &with_tag(&down, [0x42, 0x20, 0, 0], true));
    assert_eq!(sent, vec![(3, with_tag(&down, [0x42, 0x20, 0, 0], false))]);
}

#[test]
fn pause_frames_end_at_the_mac() {
    let mut bench = Bench::linux(true);
    assert!(
        bench
            .ports(
                1,
                &frame(
                    [0x01, 0x80, 0xc2, 0, 0, 1],
                    A,
                    &[0x88, 0x08, 0, 1, 0xff, 0xff]
                )
            )
            .is_empty()
    );
    assert_eq!(bench.counter(1, Counter::InPause), 1);
}

#[test]
fn no_link_no_frame() {
    let mut bench = Bench::linux(true);
    bench.switch.set_cable(&mut bench.env, PortId(2), None);
    assert!(bench.ports(2, &plain(H, B)).is_empty());
    assert!(
        bench
            .ports(0, &with_tag(&plain(B, H), [0x40, 0x10, 0, 0], true))
            .is_empty()
    );
    bench.port(0, 1, 0xe01e);
    assert_eq!(bench.switch.conduit_link(&mut bench.env), None);
    assert!(
        bench.ports(1, &plain(H, A)).is_empty(),
        "the conduit's link is forced down"
    );
    bench.port(0, 1, 0x203e);
    assert!(!bench.switch.conduit_link(&mut bench.env).unwrap().delays);
    bench.port(0, 1, 0xe03d);
    assert_eq!(
        bench
            .switch
            .conduit_link(&mut bench.env)
            .unwrap()
            .link
            .speed,
        Speed::S100
    );
}

#[test]
fn monitors_get_marked_copies() {
    let mut bench = Bench::linux(true);
    bench.port(1, 8, 0x2010);
    bench.port(2, 8, 0x2020);
    let up = plain(H, A);
    let sent = bench.send(1, &up);
    assert_eq!(
        sent,
        vec![
            (0, with_tag(&up, [0x80, 0x0c, 0, 0], true)),
            (0, with_tag(&up, [0xc0, 0x08, 0, 0], true))
        ]
    );
    bench.write(GLOBAL1, 0x1a, 0x8000 | 0x21 << 8 | 3);
    let down = plain(B, H);
    let sent = bench.send(0, &with_tag(&down, [0x40, 0x10, 0, 0], true));
    assert_eq!(
        sent,
        vec![(2, down.clone()), (3, down)],
        "port 3 is no CPU port: its copy has no tag"
    );
    bench.write(GLOBAL1, 0x1a, 0x8000 | 0x20 << 8 | 3);
    assert_eq!(bench.ports(1, &up), [0, 3]);
}

#[test]
fn policies_match_what_their_names_say() {
    let udp = |destination: [u8; 6], source: u16, target: u16| {
        let mut packet = vec![0x08, 0x00, 0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17];
        packet.resize(22, 0);
        packet.extend_from_slice(&source.to_be_bytes());
        packet.extend_from_slice(&target.to_be_bytes());
        frame(destination, A, &packet)
    };
    let cases = [
        ("UDP", 0, udp(BROADCAST, 1, 2), udp(H, 1, 2)),
        ("option 82", 2, udp(H, 68, 67), udp(H, 68, 69)),
        ("VBAS", 4, frame(H, A, &[0x82, 0x00]), plain(H, A)),
        ("PPPoE", 6, frame(H, A, &[0x88, 0x63]), plain(H, A)),
        ("EtherType", 8, frame(H, A, &[0x91, 0x00]), plain(H, A)),
        ("source", 12, plain(H, A), plain(H, B)),
        ("destination", 14, plain(C, A), plain(H, A)),
    ];
    for (name, shift, hit, miss) in cases {
        let mut bench = Bench::linux(true);
        bench.atu_load(0, A, 0x0028);
        bench.atu_load(0, C, 0x0018);
        let code = |bench: &mut Bench, frame: &[u8]| {
            let tags = bench
                .send(1, frame)
                .into_iter()
                .map(|(_, sent)| Tag::parse(sent[16..20].try_into().unwrap()));
            tags.map(|tag| tag.command).collect::<Vec<_>>()
        };
        let forward = Command::Forward { trunk: false };
        for (action, expected) in [
            (0, vec![forward]),
            (1, vec![Command::ToCpu { code: 5 }, forward]),
            (2, vec![Command::ToCpu { code: 3 }]),
            (3, vec![]),
        ] {
            bench.port(1, 0x0e, action << shift);
            assert_eq!(code(&mut bench, &hit), expected, "{name} action {action}");
            assert_eq!(code(&mut bench, &miss), [forward], "{name} miss");
        }
    }
}

#[test]
fn a_blocked_port_traps_nothing_and_a_trapped_frame_is_not_a_filtered_one() {
    let mut bench = Bench::linux(true);
    bench.port(1, 0x0e, 2 << 4);
    let vbas = frame(H, A, &[0x82, 0x00]);
    assert_eq!(bench.ports(1, &vbas), [0]);
    assert_eq!(bench.counter(1, Counter::InFiltered), 0);
    bench.port(1, 4, 0x043d);
    assert!(bench.ports(1, &vbas).is_empty());
    assert_eq!(bench.counter(1, Counter::InFiltered), 1);
}

#[test]
fn management_entries_reach_their_ports_through_blocked_states() {
    let mut bench = Bench::linux(true);
    let group = [0x01, 0x1b, 0x19, 0, 0, 0];
    bench.atu_load(0, group, 0x0016);
    bench.port(1, 4, 0x043d);
    let ptp = plain(group, A);
    assert_eq!(
        bench.send(1, &ptp),
        vec![(0, with_tag(&ptp, [0, 0x08, 0, 0], true))]
    );
}

#[test]
fn egress_modes_add_and_remove_tags_without_a_vlan_table() {
    let mut bench = Bench::linked(&[]);
    bench.port(1, 6, 0x0004);
    bench.port(1, 7, 0x6005);
    let (bare, with_9) = (plain(BROADCAST, A), tagged(BROADCAST, A, 0x2009));
    for (mode, of_bare, of_tagged) in [
        (0u16, bare.clone(), with_9.clone()),
        (1, bare.clone(), [&with_9[..12], &with_9[16..]].concat()),
        (2, tagged(BROADCAST, A, 0x6005), with_9.clone()),
    ] {
        bench.port(2, 4, 0x007f | mode << 12);
        assert_eq!(bench.send(1, &bare), vec![(2, of_bare)], "mode {mode}");
        assert_eq!(bench.send(1, &with_9), vec![(2, of_tagged)], "mode {mode}");
    }
    bench.port(1, 7, 0x7005);
    assert_eq!(
        bench.send(1, &with_9),
        vec![(2, tagged(BROADCAST, A, 0x2005))],
        "the default VID is forced"
    );
    bench.port(1, 0x18, 0x3270);
    assert_eq!(
        bench.send(1, &with_9),
        vec![(2, tagged(BROADCAST, A, 0xe005))],
        "priority 1 is remapped to 7"
    );
}

#[test]
fn provider_ports_use_their_own_tag_type() {
    let mut bench = Bench::linked(&[]);
    bench.port(1, 6, 0x0004);
    bench.port(2, 4, 0x227f);
    bench.port(2, 0x0f, 0x88a8);
    let customer = tagged(BROADCAST, A, 9);
    let sent = bench.send(1, &customer);
    assert_eq!(
        sent[0].1[12..20],
        [0x88, 0xa8, 0, 9, 0x88, 0xb5, 1, 2],
        "the tag is rewritten with the provider's type"
    );
    let mut inbound = tagged(BROADCAST, B, 7);
    inbound[12..14].copy_from_slice(&[0x88, 0xa8]);
    bench.port(2, 6, 0x0002);
    assert_eq!(bench.send(2, &inbound), vec![(1, tagged(BROADCAST, B, 7))]);
}

#[test]
fn a_phy_in_loopback_returns_what_it_is_sent() {
    let mut bench = Bench::linux(true);
    bench.phy_write(1, 0, 0xc140);
    bench.wait(Timing::FAST.phy_reset + Timing::FAST.forced_link);
    let down = plain(BROADCAST, H);
    let sent = bench.send(0, &with_tag(&down, [0x40, 0x08, 0, 0], true));
    assert_eq!(sent, vec![(0, with_tag(&down, [0xc0, 0x08, 0, 0], true))]);
    assert!(
        bench.ports(1, &plain(H, A)).is_empty(),
        "the cable is cut off"
    );
}

#[test]
fn two_loopbacks_that_flood_each_other_end() {
    let mut bench = Bench::linked(&[]);
    for port in [1, 2] {
        bench.phy_write(port, 0, 0xc140);
        bench.port(port, 6, 0x0007 & !(1 << port));
    }
    bench.wait(Timing::FAST.phy_reset + Timing::FAST.forced_link);
    let sent = bench.ports(0, &plain(BROADCAST, H));
    assert!(sent.iter().filter(|port| **port == 0).count() < 40);
}

#[test]
fn queues_follow_the_priority_tables() {
    let mut bench = Bench::linked(&[]);
    let mut high = plain(H, A);
    high[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0xb8]);
    bench.ports(1, &high);
    bench.ports(1, &tagged(H, A, 0x4000));
    let queue = |bench: &Bench, queue: u64| bench.switch.stats.ports[0].queue(queue as usize);
    // DSCP 46 is in the sixth table word, 0xaaaa: queue 2. Priority 2 of 0xfa41: queue 0.
    assert_eq!(
        [0, 1, 2, 3].map(|number| queue(&bench, number)),
        [1, 0, 1, 0]
    );
}

/// Registers and frames at random, every reading of every doubt, faults now and then: it must neither panic nor hang.
#[test]
fn random_pokes_and_frames_do_no_harm() {
    let mut chance = Prng::new(0x6341);
    for round in 0..40u64 {
        let doubts: Vec<_> = DOUBTS
            .iter()
            .map(|doubt| {
                (
                    doubt.name,
                    doubt.readings[chance.below(doubt.readings.len() as u64) as usize],
                )
            })
            .collect();
        let state = if round % 2 == 0 {
            PowerOn::Straps
        } else {
            PowerOn::UBoot
        };
        let mut bench = Bench::with(state, &doubts);
        let mut out = 0u64;
        for _ in 0..1500 {
            random_step(&mut bench, &mut chance, &mut out);
        }
        bench.env.faults.set_list("").unwrap();
        bench.wait(FLAP_DOWN_NS);
        bench.switch.hardware_reset(&mut bench.env, PowerOn::UBoot);
        bench.plug_all();
        bench.port(0, 1, 0xe03e);
        assert!(
            !bench.ports(1, &plain(BROADCAST, A)).is_empty(),
            "round {round}: it works again after a reset"
        );
    }
}

fn random_step(bench: &mut Bench, chance: &mut Prng, out: &mut u64) {
    let jump = [0, 10, 20_000, 1_000_000, 4_000_000_000, 1 << 45][chance.below(6) as usize];
    bench.env.now += chance.below(jump + 1);
    let value = chance.next_u64() as u16;
    match chance.below(10) {
        0..=3 => {
            let device = [
                0x10, 0x11, 0x12, 0x15, 0x14, GLOBAL1, GLOBAL1, GLOBAL2, GLOBAL2, 3,
            ][chance.below(10) as usize];
            let register = chance.below(32) as u8;
            bench.switch.smi_write(&mut bench.env, SMI, 1, value);
            let operation = if chance.below(3) == 0 { 0x9800 } else { 0x9400 };
            let command = operation | u16::from(device) << 5 | u16::from(register);
            bench.switch.smi_write(&mut bench.env, SMI, 0, command);
            bench.env.now += 5_000;
            bench.switch.smi_read(&mut bench.env, SMI, 1);
        }
        4 => {
            let (port, register) = (1 + chance.below(4) as u8, chance.below(32) as u8);
            let mut context = bench.switch.context(&mut bench.env);
            let phy = &mut bench.switch.phys[usize::from(port - 1)];
            phy.write(register, value, &mut context);
            phy.read(register, &context);
        }
        5 => {
            let modes =
                Modes::one(Speed::S100, value & 1 != 0).or(Modes::one(Speed::S10, value & 2 != 0));
            let partners = [
                None,
                Some(Partner::GIGABIT),
                Some(Partner::Forced {
                    speed: Speed::S10,
                    full_duplex: false,
                }),
                Some(Partner::Autoneg {
                    modes,
                    pause: true,
                    asymmetric_pause: false,
                    forced_master: Some(true),
                }),
            ];
            let partner = partners[chance.below(4) as usize];
            bench
                .switch
                .set_cable(&mut bench.env, PortId(chance.below(8) as u8), partner);
        }
        6 if value < 2000 => {
            let faults = [
                "",
                "switch-busy=3",
                "phy-never-completes",
                "link-flap=1",
                "switch-reset-stuck*1",
            ];
            bench
                .env
                .faults
                .set_list(faults[chance.below(5) as usize])
                .unwrap();
        }
        _ => {
            let length = chance.below(if value < 3000 { 11_000 } else { 200 }) as usize;
            let mut frame: Vec<u8> = (0..length).map(|_| chance.next_u64() as u8).collect();
            let heads: [&[u8]; 5] = [&BROADCAST, &STP, &H, &A, &[0x33, 0x33, 0, 0, 0, 1]];
            let head = heads[chance.below(5) as usize];
            let types: [&[u8]; 6] = [
                &[0x81, 0],
                &[0xda, 0xda, 0, 0],
                &[8, 0],
                &[0x86, 0xdd],
                &[0x40, 8, 0, 0],
                &[0xc1],
            ];
            let kind = types[chance.below(6) as usize];
            if length > 20 {
                frame[..6].copy_from_slice(head);
                frame[12..12 + kind.len()].copy_from_slice(kind);
            }
            let mut sink =
                |port: PortId, frame: &[u8]| *out += u64::from(port.0) + frame.len() as u64;
            let port = PortId(chance.below(7) as u8);
            bench
                .switch
                .frame_from_port(&mut bench.env, port, &frame, &mut sink);
            *out += bench.switch.next_event(&bench.env).map_or(0, |_| 1);
        }
    }
}
