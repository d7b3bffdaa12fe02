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
        ["wan", "lan0"]
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
