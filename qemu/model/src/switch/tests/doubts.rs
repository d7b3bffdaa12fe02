//! Each doubt makes the difference it names.

use super::*;

/// Runs `probe` under every reading of the doubt `name`, in the order of the list.
fn under<T>(name: &'static str, probe: impl Fn(&[(&str, &str)]) -> T) -> Vec<T> {
    let doubt = DOUBTS.iter().find(|doubt| doubt.name == name).unwrap();
    doubt
        .readings
        .iter()
        .map(|reading| probe(&[(name, reading)]))
        .collect()
}

/// Linux's bring-up under a reading.
fn linux(doubts: &[(&str, &str)]) -> Bench {
    let mut bench = Bench::with(PowerOn::UBoot, doubts);
    bench.plug_all();
    bench.bring_up_as_linux(true);
    bench
}

#[test]
fn strap_port_state() {
    let control = under("switch-strap-port-state", |doubts| {
        Bench::with(PowerOn::Straps, doubts).read(0x11, 4)
    });
    assert_eq!(control, [0x007f, 0x007c]);
}

#[test]
fn strap_phy_power() {
    let control = under("switch-strap-phy-power", |doubts| {
        Bench::with(PowerOn::Straps, doubts).phy_read(1, 0)
    });
    assert_eq!(control, [0x1940, 0x1140]);
}

#[test]
fn reset_keeps() {
    let kept = under("switch-reset-keeps", |doubts| {
        let mut bench = Bench::linked(doubts);
        bench.atu_load(0, A, 0x002e);
        bench.port(2, 7, 0x0123);
        bench.phy_write(2, 9, 0);
        bench.write(GLOBAL1, 4, 0xc000);
        bench.wait(Timing::FAST.reset);
        assert_eq!(
            bench.switch.atu.len(),
            0,
            "the MAC table is lost under any reading"
        );
        (bench.read(0x12, 7) == 0x0123, bench.phy_read(2, 9) == 0)
    });
    assert_eq!(kept, [(false, true), (true, true), (false, false)]);
}

#[test]
fn busy_times() {
    let busy = under("switch-busy-times", |doubts| {
        let mut bench = Bench::with(PowerOn::Straps, doubts);
        bench.mdio_write(0, 0x9a03);
        let smi = bench.mdio_read(0) & 0x8000 != 0;
        bench.write(GLOBAL1, 0x0b, 0x8000);
        (smi, bench.read(GLOBAL1, 0x0b) & 0x8000 != 0)
    });
    assert_eq!(busy, [(false, false), (true, true)]);
}

#[test]
fn g1_problem_bits() {
    let seen_twice = under("switch-g1-problem-bits", |doubts| {
        let mut bench = linux(doubts);
        bench.port(1, 8, 0x2c00);
        bench.ports(1, &tagged(H, A, 77));
        let status = [bench.read(GLOBAL1, 0) & 0x20, bench.read(GLOBAL1, 0) & 0x20];
        bench.write(GLOBAL1, 5, 0xf000);
        bench.poll_idle(GLOBAL1, 5);
        bench.ports(1, &tagged(H, A, 78));
        assert_eq!(
            bench.read(GLOBAL1, 0) & 0x20,
            0x20,
            "a new violation shows again"
        );
        status
    });
    assert_eq!(seen_twice, [[0x20, 0x20], [0x20, 0]]);
}

#[test]
fn port0_unforced_link() {
    let up = under("switch-port0-unforced-link", |doubts| {
        let mut bench = Bench::linked(doubts);
        bench.switch.conduit_link(&mut bench.env).is_some()
    });
    assert_eq!(up, [true, false]);
}

#[test]
fn cmode_internal_phy() {
    let mode = under("switch-cmode-internal-phy", |doubts| {
        Bench::with(PowerOn::Straps, doubts).read(0x11, 0) & 0xf
    });
    assert_eq!(mode, [0xf, 0]);
}

#[test]
fn max_untagged() {
    let passes = under("switch-max-untagged", |doubts| {
        let mut bench = Bench::linked(doubts);
        bench.port(1, 8, 0x0080);
        [1514, 1515, 1518].map(|length| {
            let (mut bare, mut with_tag) = (plain(H, A), tagged(H, A, 0));
            bare.resize(length, 0);
            with_tag.resize(length, 0);
            (
                !bench.ports(1, &bare).is_empty(),
                !bench.ports(1, &with_tag).is_empty(),
            )
        })
    });
    assert_eq!(
        passes,
        [
            [(true, true); 3],
            [(true, true), (false, true), (false, true)]
        ]
    );
}

#[test]
fn limit_counts_dsa_tag() {
    let passes = under("switch-limit-counts-dsa-tag", |doubts| {
        let mut bench = linux(doubts);
        bench.port(0, 8, 0x0c80);
        let mut long = plain(A, H);
        long.resize(1514, 0);
        !bench
            .ports(0, &with_tag(&long, [0x40, 0x08, 0, 0], true))
            .is_empty()
    });
    assert_eq!(passes, [false, true]);
}

#[test]
fn dsa_without_tag() {
    let out = under("switch-dsa-mode-without-tag", |doubts| {
        let mut bench = Bench::linked(doubts);
        bench.port(0, 4, 0x017f);
        bench.ports(0, &frame(BROADCAST, H, &[0x08, 0x00, 0x45]))
    });
    assert_eq!(out, [vec![], vec![1, 2, 3]]);
}

#[test]
fn edsa_without_tag() {
    let out = under("switch-edsa-mode-without-tag", |doubts| {
        let mut bench = Bench::linked(doubts);
        bench.port(0, 4, 0x337f);
        bench.port(0, 0x0f, 0xdada);
        bench.ports(0, &plain(BROADCAST, H))
    });
    assert_eq!(out, [vec![1, 2, 3], vec![]]);
}

#[test]
fn edsa_egress_mode() {
    let lengths = under("switch-edsa-egress-mode", |doubts| {
        let mut bench = linux(doubts);
        bench.port(0, 4, 0x033f);
        [plain(H, A), plain(STP, A)].map(|frame| bench.send(1, &frame)[0].1.len())
    });
    assert_eq!(lengths, [[60, 68], [68, 68]]);
}

#[test]
fn from_cpu_disabled_port() {
    let out = under("switch-from-cpu-disabled-port", |doubts| {
        let mut bench = linux(doubts);
        bench.port(1, 4, 0x043c);
        bench.ports(0, &with_tag(&plain(A, H), [0x40, 0x08, 0, 0], true))
    });
    assert_eq!(out, [vec![1], vec![]]);
}

#[test]
fn fid_of_8021q_off_port() {
    let learnt = under("switch-fid-of-8021q-off-port", |doubts| {
        let mut bench = Bench::linked(doubts);
        bench.stu_load(0, [0; 3]);
        bench.vtu_load(1, 9, [0; 6]);
        bench.ports(1, &plain(BROADCAST, A));
        let now = bench.env.now;
        [0, 9].map(|fid| bench.switch.atu.lookup(fid, A, now).is_some())
    });
    assert_eq!(learnt, [[false, true], [true, false]]);
}

#[test]
fn map_da_off() {
    let out = under("switch-map-da-off", |doubts| {
        let mut bench = linux(doubts);
        bench.port(0, 4, 0x3333);
        bench.ports(1, &plain(H, A))
    });
    assert_eq!(out, [vec![], vec![0]]);
}

#[test]
fn vtu_needs_valid_sid() {
    let loaded = under("switch-vtu-needs-valid-sid", |doubts| {
        let mut bench = Bench::with(PowerOn::Straps, doubts);
        bench.vtu_load(5, 1, [0; 6]);
        (
            bench.switch.vtu.lookup(5).is_some(),
            bench.env.guest_error_count(),
        )
    });
    assert_eq!(loaded, [(true, 0), (false, 1)]);
}

#[test]
fn stu_state() {
    let out = under("switch-stu-state", |doubts| {
        let mut bench = Bench::linked(doubts);
        // SID 0: port 1 forwards, the others leave it to the port.
        bench.stu_load(0, [0x00c0, 0, 0]);
        bench.vtu_load(1, 1, [0; 6]);
        bench.port(1, 8, 0x2c80);
        [0x007d, 0x007c].map(|own| {
            bench.port(1, 4, own);
            !bench.ports(1, &plain(H, A)).is_empty()
        })
    });
    assert_eq!(out, [[true, false], [false, false]], "blocking, disabled");
}

#[test]
fn priority_tag_vid() {
    let vid = under("switch-priority-tag-vid", |doubts| {
        let mut bench = linux(doubts);
        bench.port(1, 7, 0x0005);
        let sent = bench.send(1, &tagged(H, A, 0xa000)).remove(0).1;
        let tag = Tag::parse(sent[16..20].try_into().unwrap());
        assert!(tag.tagged && tag.vlan.priority == 5);
        tag.vlan.vid
    });
    assert_eq!(vid, [5, 0]);
}

#[test]
fn pads_short_egress() {
    let length = under("switch-pads-short-egress", |doubts| {
        let mut bench = linux(doubts);
        let short = with_tag(&plain(A, H)[..52], [0x40, 0x08, 0, 0], true);
        bench.send(0, &short)[0].1.len()
    });
    assert_eq!(length, [60, 52]);
}

#[test]
fn every_doubt_has_its_test() {
    let tested = include_str!("doubts.rs");
    for doubt in DOUBTS
        .iter()
        .filter(|doubt| doubt.name.starts_with("switch-"))
    {
        assert!(
            tested.contains(&format!("under(\"{}\"", doubt.name)),
            "{} is not tested",
            doubt.name
        );
    }
}
