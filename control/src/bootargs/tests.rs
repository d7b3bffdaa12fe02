#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

/// Parses a line that nobody may complain about.
fn parse(line: &str) -> BootArgs {
    BootArgs::parse(line.as_bytes(), |complaint| panic!("{complaint}"))
}

/// Parses a line with one faulty item, which must leave no trace.
fn fault(item: &str) -> std::string::String {
    let mut complaints = std::vec::Vec::new();
    let line = format!("quiet {item} other=1");
    let args = BootArgs::parse(line.as_bytes(), |complaint| {
        assert_eq!(complaint.item, item.as_bytes());
        complaints.push(complaint.reason.to_string());
    });
    assert_eq!(args, BootArgs::default(), "{item}");
    assert_eq!(complaints.len(), 1, "{item}: {complaints:?}");
    complaints.pop().unwrap()
}

fn v4(address: [u8; 4], prefix_len: u8, gateway: Option<[u8; 4]>) -> Method<Ipv4Addr> {
    Method::Static {
        address: address.into(),
        prefix_len,
        gateway: gateway.map(Into::into),
    }
}

#[test]
fn an_empty_line_means_automatic_addresses() {
    for line in [
        "",
        " ",
        "\0ip=off",
        "console=ttyAMA0 root=/dev/vda rw quiet panic_on_oops=1 module.ip=1",
        "--",
    ] {
        let args = parse(line);
        assert_eq!(args, BootArgs::default());
        assert_eq!(args.interface("eth0").ipv4, Method::Auto);
        assert_eq!(args.interface("eth0").ipv6, Method::Auto);
    }
}

#[test]
fn short_forms() {
    for line in ["ip=dhcp", "ip=on", "ip=any", "ip=", "ip=:::::eth0:dhcp"] {
        assert_eq!(
            parse(line).interface("eth0"),
            &InterfaceArgs::default(),
            "{line}"
        );
    }
    for line in ["ip=off", "ip=none", "ip=::::::off", "ip=:::::eth0:none"] {
        let args = parse(line);
        let eth0 = args.interface("eth0");
        assert_eq!((eth0.ipv4, eth0.ipv6), (Method::Off, Method::Off), "{line}");
    }
}

#[test]
fn static_ipv4() {
    let expected = v4([10, 0, 0, 2], 24, Some([10, 0, 0, 1]));
    for line in [
        "ip=10.0.0.2::10.0.0.1:255.255.255.0::eth0:off",
        "ip=10.0.0.2:10.9.9.9:10.0.0.1:24::eth0",
        "ip=10.0.0.2::10.0.0.1:/24::eth0:off",
        "ip=10.0.0.2/24::10.0.0.1",
        "ip=10.0.0.2/24::10.0.0.1:255.255.255.0",
        "ip=\"10.0.0.2/24::10.0.0.1\"",
        "\"ip=10.0.0.2/24::10.0.0.1\"",
        "ip=10.0.0.2/24::10.0.0.1:::eth0:dhcp",
    ] {
        let args = parse(line);
        assert_eq!(args.interface("eth0").ipv4, expected, "{line}");
        assert_eq!(args.interface("eth0").ipv6, Method::Auto, "{line}");
    }
    assert_eq!(
        parse("ip=10.0.0.2/24").interface("x").ipv4,
        v4([10, 0, 0, 2], 24, None)
    );
    assert_eq!(
        parse("ip=10.0.0.2/24::0.0.0.0").interface("x").ipv4,
        v4([10, 0, 0, 2], 24, None)
    );
    assert_eq!(
        parse("ip=10.0.0.2/31::10.0.0.3").interface("x").ipv4,
        v4([10, 0, 0, 2], 31, Some([10, 0, 0, 3]))
    );
    assert_eq!(
        parse("ip=10.0.0.2:::32").interface("x").ipv4,
        v4([10, 0, 0, 2], 32, None)
    );
}

#[test]
fn static_ipv6() {
    let expected = |gateway: &str| Method::Static {
        address: "fd00::2".parse().unwrap(),
        prefix_len: 64,
        gateway: Some(gateway.parse().unwrap()),
    };
    let args = parse("ip=[fd00::2]::[fd00::1]:64::eth0:off");
    assert_eq!(args.interface("eth0").ipv6, expected("fd00::1"));
    assert_eq!(args.interface("eth0").ipv4, Method::Auto);
    let args = parse("ip=[fd00::2]/64::[fe80::1]");
    assert_eq!(args.interface("eth0").ipv6, expected("fe80::1"));
}

#[test]
fn each_device_has_its_own_and_the_others_share() {
    let args = parse(
        "ip=10.0.0.2/8:::::wan ip=off ip=[fd00::2]/64:::::wan:off ip=10.0.0.3/8:::::lan0 ip=10.0.0.4/8:::::lan0",
    );
    let wan = args.interface("wan");
    assert_eq!(
        wan.ipv4,
        v4([10, 0, 0, 2], 8, None),
        "the second item is about the other family"
    );
    assert!(matches!(wan.ipv6, Method::Static { prefix_len: 64, .. }));
    assert_eq!(
        args.interface("lan0").ipv4,
        v4([10, 0, 0, 4], 8, None),
        "the last one counts"
    );
    assert_eq!(args.interface("lan0").ipv6, Method::Auto);
    assert_eq!(args.interface("lan1").ipv4, Method::Off);
    assert_eq!(
        args.devices().collect::<std::vec::Vec<_>>(),
        [("ip", "wan"), ("ip", "lan0")]
    );
}

#[test]
fn more_fields() {
    let args = parse("ip=10.0.0.2/8::::box:eth0:off:10.0.0.5:[fd00::5]:10.0.0.6");
    let eth0 = args.interface("eth0");
    assert_eq!(
        eth0.dns,
        [Some([10, 0, 0, 5].into()), Some("fd00::5".parse().unwrap())]
    );
    assert_eq!(eth0.ntp, Some([10, 0, 0, 6].into()));
    assert_eq!(args.hostname.as_deref(), Some("box"));
}

#[test]
fn the_item_hostname_goes_before_the_field() {
    for line in [
        "hostname=one ip=::::two",
        "ip=::::two hostname=one",
        "hostname=zero hostname=one",
    ] {
        assert_eq!(parse(line).hostname.as_deref(), Some("one"), "{line}");
    }
}

#[test]
fn log_levels_are_those_of_linux() {
    let level = |value: &str| parse(&format!("loglevel={value}")).log_level.unwrap();
    let levels = [
        "0", "3", "4", "5", "6", "7", "8", "error", "warn", "info", "debug", "trace",
    ]
    .map(level);
    use LevelFilter::*;
    assert_eq!(
        levels,
        [
            Off, Off, Error, Warn, Warn, Info, Debug, Error, Warn, Info, Debug, Trace
        ]
    );
}

#[test]
fn simple_items() {
    let args = parse("panic=off exit=semihosting test=irq_storm --  panic=halt");
    assert_eq!(
        (args.panic, args.exit_by_semihosting, args.test.as_deref()),
        (PanicAction::Off, true, Some("irq_storm"))
    );
    assert_eq!(parse("panic=halt\0panic=off").panic, PanicAction::Halt);
    assert_eq!(parse("panic=reset").panic, PanicAction::Reset);
    assert!(parse("unsafe=1").unsafe_access && !parse("").unsafe_access);
    assert!(!parse("unsafe=1 unsafe=0").unsafe_access);
}

#[test]
fn quotes_keep_spaces_together() {
    let args = parse("note=\"a test=no\" test=\"a b\"\thostname=x");
    assert_eq!(
        (args.test.as_deref(), args.hostname.as_deref()),
        (Some("a b"), Some("x"))
    );
    assert_eq!(parse("\"test=a b\"").test.as_deref(), Some("a b"));
    assert_eq!(
        parse("test=\"a b hostname=x").test.as_deref(),
        Some("a b hostname=x"),
        "never closed"
    );
    assert_eq!(
        parse("note=a\"b test=no\" test=c\"d e\"").test.as_deref(),
        Some("c\"d e\""),
        "inner ones stay"
    );
    assert_eq!(parse("test=\"--\" -- test=x").test.as_deref(), Some("--"));
}

#[test]
fn nonsense_is_refused_with_its_reason() {
    for (item, reason) in [
        ("ip", "it needs a value"),
        (
            "ip=dhcpp",
            "the client is not an address (IPv6 needs brackets)",
        ),
        ("ip=10.0.0.2", "the client address needs a netmask"),
        (
            "ip=10.0.0/24",
            "the client is not an address (IPv6 needs brackets)",
        ),
        (
            "ip=[10.0.0.2]/24",
            "the client is not an address (IPv6 needs brackets)",
        ),
        (
            "ip=[fd00::2/64",
            "the client is not an address (IPv6 needs brackets)",
        ),
        (
            "ip=fd00::2:::64:::off",
            "the client is not an address (IPv6 needs brackets)",
        ),
        (
            "ip=10.0.0.2:x::24",
            "the server is not an address (IPv6 needs brackets)",
        ),
        (
            "ip=10.0.0.2::x:24",
            "the gateway is not an address (IPv6 needs brackets)",
        ),
        (
            "ip=10.0.0.2:::24::::x",
            "the name server is not an address (IPv6 needs brackets)",
        ),
        (
            "ip=10.0.0.2:::24::::::x",
            "the time server is not an address (IPv6 needs brackets)",
        ),
        (
            "ip=10.0.0.2:::24:::::::",
            "more than ten fields (IPv6 addresses need brackets)",
        ),
        (
            "ip=10.0.0.2:::24:::bootp",
            "autoconf is dhcp, on, any, off or none",
        ),
        ("ip=10.0.0.2:::255.0.255.0", "the netmask is not contiguous"),
        ("ip=10.0.0.2:::0.0.0.255", "the netmask is not contiguous"),
        (
            "ip=10.0.0.2:::255.255.255",
            "the netmask is neither an IPv4 mask nor a prefix length",
        ),
        (
            "ip=10.0.0.2:::+24",
            "the netmask is neither an IPv4 mask nor a prefix length",
        ),
        ("ip=10.0.0.2:::0.0.0.0", "the prefix length is not 1 to 32"),
        ("ip=10.0.0.2/33", "the prefix length is not 1 to 32"),
        (
            "ip=10.0.0.2/99999999999",
            "the prefix length is not 1 to 32",
        ),
        ("ip=[fd00::2]/129", "the prefix length is not 1 to 128"),
        ("ip=[fd00::2]:::0", "the prefix length is not 1 to 128"),
        (
            "ip=[fd00::2]:::255.255.255.0",
            "the netmask is neither an IPv4 mask nor a prefix length",
        ),
        (
            "ip=10.0.0.2/24:::255.255.0.0",
            "the netmask and the prefix length disagree",
        ),
        ("ip=0.0.0.0/24", "the client address is no host's address"),
        ("ip=224.0.0.1/24", "the client address is no host's address"),
        (
            "ip=255.255.255.255/24",
            "the client address is no host's address",
        ),
        ("ip=127.0.0.1/8", "the client address is no host's address"),
        ("ip=[::]/64", "the client address is no host's address"),
        ("ip=[::1]/64", "the client address is no host's address"),
        ("ip=[ff02::1]/64", "the client address is no host's address"),
        (
            "ip=10.0.0.0/24",
            "the client address is the network's first or last one",
        ),
        (
            "ip=10.0.0.255/24",
            "the client address is the network's first or last one",
        ),
        (
            "ip=10.0.0.2/24::10.0.1.1",
            "the gateway is outside the client's network",
        ),
        (
            "ip=[fd00::2]/64::[fd01::1]",
            "the gateway is outside the client's network",
        ),
        (
            "ip=10.0.0.2/32::10.0.0.1",
            "the gateway is outside the client's network",
        ),
        (
            "ip=10.0.0.2/24::10.0.0.2",
            "the gateway is not another host's address",
        ),
        (
            "ip=10.0.0.2/24::10.0.0.255",
            "the gateway is not another host's address",
        ),
        (
            "ip=10.0.0.2/24::[fd00::1]",
            "the client and the gateway are not of one family",
        ),
        (
            "ip=[fd00::2]/64::10.0.0.1",
            "the client and the gateway are not of one family",
        ),
        (
            "ip=::10.0.0.1:24::eth0:dhcp",
            "a gateway or netmask needs a client address",
        ),
        (
            "ip=:::::eth0/1:off",
            "a device name is visible letters without a slash",
        ),
        (
            "ip=:::::a-very-long-name:off",
            "a name in it is longer than 15 bytes",
        ),
        (
            "ip=::::bad_name",
            "a hostname is letters, digits and inner hyphens",
        ),
        (
            "hostname=",
            "a hostname is letters, digits and inner hyphens",
        ),
        (
            "hostname=a.b",
            "a hostname is letters, digits and inner hyphens",
        ),
        (
            "hostname=-a",
            "a hostname is letters, digits and inner hyphens",
        ),
        (
            "hostname=käse",
            "a hostname is letters, digits and inner hyphens",
        ),
        (
            "loglevel=9",
            "expected 0 to 8, error, warn, info, debug or trace",
        ),
        ("loglevel", "it needs a value"),
        ("panic=10", "expected reset, halt or off"),
        ("exit=yes", "expected semihosting"),
        ("unsafe=yes", "expected 0 or 1"),
        (
            "test=123456789012345678901234567890123",
            "a name in it is longer than 32 bytes",
        ),
    ] {
        assert_eq!(fault(item), reason, "{item}");
    }
    let long = "a".repeat(63);
    assert_eq!(
        parse(&format!("hostname={long}")).hostname.as_deref(),
        Some(long.as_str())
    );
    assert_eq!(
        fault(&format!("hostname=a{long}")),
        "a name in it is longer than 63 bytes"
    );
}

#[test]
fn slips_of_the_pen_are_reported() {
    for (item, name) in [
        ("hostnam=x", "hostname"),
        ("hostnmae=x", "hostname"),
        ("hostnames=x", "hostname"),
        ("hoostname=x", "hostname"),
        ("Hostname=x", "hostname"),
        ("IP=dhcp", "ip"),
        ("paniv=off", "panic"),
        ("oglevel=7", "loglevel"),
    ] {
        assert_eq!(
            fault(item),
            format!("unknown, did you mean `{name}=`?"),
            "{item}"
        );
    }
    parse(
        "ipx=1 init=/bin/sh panic_on_oops=1 hostname hostnam netdev.hostname=x"
            .replace(" hostname ", " ")
            .as_str(),
    );
}

#[test]
fn one_device_too_many_is_reported() {
    let line: std::string::String = (0..9)
        .map(|n| format!("ip=10.0.0.1{n}/24:::::eth{n} "))
        .collect();
    let mut complaints = 0;
    let args = BootArgs::parse(line.as_bytes(), |complaint| {
        assert_eq!(complaint.reason, Reason::Devices);
        complaints += 1;
    });
    assert_eq!((complaints, args.devices().count()), (1, MAX_INTERFACES));
}

#[test]
fn any_bytes_are_taken() {
    let mut reasons = std::vec::Vec::new();
    let line = b"\xff\xfe=\xff hostname=\xff\xfe test=ok =\xff \"\" = ip=\"";
    let args = BootArgs::parse(line, |complaint| reasons.push(complaint.to_string()));
    assert_eq!(args.test.as_deref(), Some("ok"));
    assert_eq!(
        reasons,
        ["ignored `hostname=\\xff\\xfe`: the value is not UTF-8"]
    );
}

fn mac(last: u8) -> [u8; 6] {
    [0x02, 0x1a, 0, 0, 0, last]
}

#[test]
fn links_are_forced_or_offer_what_the_line_says() {
    use hal::net::phy::{Modes, Pause, Setting, Speed};
    let forced = |speed, full_duplex| Setting::Forced { speed, full_duplex };
    let offer = |modes| Setting::Negotiate {
        modes,
        pause: Pause { tx: true, rx: true },
    };
    let args = parse("link=wan:100-full link=lan0:auto,100-half,10-full link=lan1:1000-full");
    let wiring = args.wiring;
    assert_eq!(wiring.link("wan"), forced(Speed::Mbps100, true));
    let modes = Modes::one(Speed::Mbps100, false).or(Modes::one(Speed::Mbps10, true));
    assert_eq!(wiring.link("lan0"), offer(modes));
    assert_eq!(wiring.link("lan1"), forced(Speed::Mbps1000, true));
    assert_eq!(wiring.link("lan2"), Setting::default());
    let again = parse("link=wan:10-half link=wan:auto").wiring;
    assert_eq!(again.link("wan"), Setting::default());
    assert_eq!(again.links.len(), 1);
    for item in [
        "link=wan:1000-half",
        "link=wan:",
        "link=wan:100",
        "link=wan:100-full,10-full",
        "link=wan:auto,",
        "link=wan:auto,1000-half",
        "link=wan:AUTO",
    ] {
        assert!(fault(item).starts_with("expected DEVICE:auto"), "{item}");
    }
    assert_eq!(fault("link=wan"), "it begins with the name of a device");
    assert_eq!(fault("link=:auto"), "it begins with the name of a device");
}

#[test]
fn macs_are_those_of_stations() {
    let wiring = parse("mac=wan:02:1A:00:00:00:01 mac=br0:02:1a:00:00:00:ff").wiring;
    assert_eq!(wiring.mac("wan"), Some(mac(1)));
    assert_eq!(wiring.mac("br0"), Some(mac(0xff)));
    assert_eq!(wiring.mac("lan0"), None);
    for item in [
        "mac=wan:02:1a:00:00:00",
        "mac=wan:02:1a:00:00:00:01:02",
        "mac=wan:2:1a:0:0:0:1",
        "mac=wan:02-1a-00-00-00-01",
        "mac=wan:02:1a:00:00:00:+1",
        "mac=wan:",
    ] {
        assert!(fault(item).contains("six pairs"), "{item}");
    }
    for item in ["mac=wan:01:00:5e:00:00:01", "mac=wan:00:00:00:00:00:00"] {
        assert_eq!(fault(item), "the MAC address is a group's, or zero");
    }
}

#[test]
fn tags_interrupts_and_the_watchdog() {
    use hal::net::{Coalescing, tag::Protocol};
    let args = parse("dsa-tag=dsa coalesce=16,250 watchdog=5 mtu=1500");
    assert_eq!(args.wiring.dsa_tag, Some(Protocol::Dsa));
    let coalescing = Coalescing {
        rx_packets: 16,
        rx_time_us: 250,
    };
    assert_eq!(args.wiring.coalescing, Some(coalescing));
    assert_eq!(args.watchdog_s, Some(5));
    assert_eq!(
        parse("dsa_tag=edsa").wiring.dsa_tag,
        Some(Protocol::EtherTypeDsa)
    );
    assert_eq!(fault("dsa-tag=none"), "expected edsa or dsa");
    for item in [
        "coalesce=16",
        "coalesce=0,100",
        "coalesce=129,100",
        "coalesce=1,0",
        "coalesce=1,67001",
        "coalesce=1,+5",
        "coalesce=,",
    ] {
        assert!(fault(item).contains("1 to 128, 1 to 67000"), "{item}");
    }
    for item in ["watchdog=0", "watchdog=3601", "watchdog=", "watchdog=-1"] {
        assert_eq!(fault(item), "expected 1 to 3600 seconds", "{item}");
    }
    assert!(fault("mtu=9000").contains("no jumbo frames"));
}

#[test]
fn bridges_and_vlans() {
    let wiring = parse("bridge=lan0,lan1 bridge=up:wan,lan2 vlan=wan.100 vlan=br0.0007").wiring;
    let bridges: Vec<(&str, Vec<&str, 4>), 2> = wiring
        .bridges
        .iter()
        .map(|bridge| {
            let members = bridge.members.iter().map(|name| name.as_str());
            (bridge.name.as_str(), members.collect())
        })
        .collect();
    assert_eq!(bridges[0].0, "br0");
    assert_eq!(bridges[0].1, ["lan0", "lan1"]);
    assert_eq!(bridges[1].0, "up");
    let vlan = |at: usize| {
        let vlan = &wiring.vlans[at];
        (vlan.name.as_str(), vlan.parent.as_str(), vlan.vid)
    };
    assert_eq!(vlan(0), ("wan.100", "wan", 100));
    assert_eq!(vlan(1), ("br0.7", "br0", 7));
    assert_eq!(fault("bridge=lan0"), "a bridge has 2 to 4 ports");
    assert_eq!(fault("bridge=a,b,c,d,e"), "a bridge has 2 to 4 ports");
    assert_eq!(fault("bridge=lan0,lan0"), "a name in it is taken already");
    assert_eq!(fault("bridge=a:a,lan0"), "a name in it is taken already");
    assert_eq!(fault("bridge=lan0,"), "it begins with the name of a device");
    for item in [
        "vlan=wan",
        "vlan=wan.0",
        "vlan=wan.4095",
        "vlan=wan.x",
        "vlan=wan.",
    ] {
        assert_eq!(fault(item), "a VLAN is DEVICE.VID, with a VID of 1 to 4094");
    }
    assert_eq!(fault("vlan=.5"), "it begins with the name of a device");
    assert_eq!(
        fault("vlan=abcdefghijkl.4000"),
        "a name in it is longer than 15 bytes"
    );
}

#[test]
fn a_port_is_in_one_bridge_only_and_a_vlan_is_made_once() {
    for (first, second, reason) in [
        ("bridge=a,b", "bridge=b,c", Reason::Twice),
        ("bridge=br1:a,b", "bridge=c,d", Reason::Twice),
        ("bridge=a,b bridge=c,d", "bridge=e,f", Reason::Bridges),
        ("vlan=wan.1", "vlan=wan.01", Reason::Twice),
    ] {
        let mut reasons = std::vec::Vec::new();
        let line = format!("{first} {second}");
        let args = BootArgs::parse(line.as_bytes(), |complaint| reasons.push(complaint.reason));
        assert_eq!(reasons, [reason], "{line}");
        assert_eq!(args, parse(first), "{line}");
    }
}
