//! The command line: whatever the bytes, what is accepted makes sense.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firmware::bootargs::{BootArgs, Complaint, Method};

use crate::Target;
use crate::mutate::Rng;

/// See [`target`].
pub const TARGET: Target = Target {
    name: "bootargs",
    run: target,
    iterations: 50_000,
    corpus: &[
        b"",
        b"ip=dhcp hostname=ristretto loglevel=7 panic=reset",
        b"console=ttyMV0,115200 root=/dev/mmcblk0p1 rw rootwait quiet ip=10.0.0.2::10.0.0.1:255.255.255.0::eth0:off",
        b"ip=192.168.1.9/24::192.168.1.1::box:wan:none:192.168.1.1:8.8.8.8:192.168.1.1 ip=off",
        b"ip=[fd00::2]::[fd00::1]:64::eth0:off ip=10.0.0.2:::8::eth0 test=irq_storm exit=semihosting",
        b"note=\"a b\" \"test=c d\" hostnmae=x _hostname=y -- panic=halt\0trailing",
    ],
    words: &[
        b" ", b"=", b"\"", b":", b"[", b"]", b"/", b".", b"-", b"\0", b" -- ", b"ip=", b"hostname=", b"loglevel=",
        b"panic=", b"exit=", b"test=", b"[fd00::1]", b"10.0.0.1", b"255.255.0.0", b"/64", b"/33", b"off", b"dhcp",
        b"eth0", b"\xc3\xa4",
    ],
    mutate,
};

/// Reads a line twice and judges what is in it.
pub fn target(data: &[u8]) {
    let mut complaints = Vec::new();
    let args = BootArgs::parse(data, |complaint| {
        complaints.push(complaint.to_string());
        judge(data, complaint);
    });
    let mut again = complaints.iter();
    assert_eq!(
        args,
        BootArgs::parse(data, |complaint| assert_eq!(
            again.next(),
            Some(&complaint.to_string())
        ))
    );
    assert_eq!(again.next(), None);

    if let Some(name) = &args.hostname {
        assert!(
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
            "{name}"
        );
    }
    for (_, device) in args.devices().chain([("", "")]) {
        let interface = args.interface(device);
        if let Method::Static {
            address,
            prefix_len,
            gateway,
        } = interface.ipv4
        {
            ipv4(address, prefix_len, gateway);
        }
        if let Method::Static {
            address,
            prefix_len,
            gateway,
        } = interface.ipv6
        {
            ipv6(address, prefix_len, gateway);
        }
    }
}

fn judge(line: &[u8], complaint: Complaint<'_>) {
    assert!(
        line.windows(complaint.item.len())
            .any(|window| window == complaint.item),
        "not an item of the line"
    );
    let text = complaint.to_string();
    assert!(
        text.bytes().all(|byte| matches!(byte, b' '..=b'~')),
        "{text:?} is not fit for a console"
    );
}

fn ipv4(address: Ipv4Addr, prefix_len: u8, gateway: Option<Ipv4Addr>) {
    assert!((1..=32).contains(&prefix_len));
    assert!(
        !address.is_multicast() && !address.is_unspecified() && !address.is_broadcast(),
        "{address}"
    );
    if let Some(gateway) = gateway {
        let both = u64::from(address.to_bits() ^ gateway.to_bits());
        assert!(
            both != 0 && both >> (32 - prefix_len) == 0,
            "{address}/{prefix_len} {gateway}"
        );
    }
}

fn ipv6(address: Ipv6Addr, prefix_len: u8, gateway: Option<Ipv6Addr>) {
    assert!((1..=128).contains(&prefix_len));
    assert!(
        !address.is_multicast() && !address.is_unspecified(),
        "{address}"
    );
    if let Some(gateway) = gateway {
        let both = address.to_bits() ^ gateway.to_bits();
        let near = both >> (128 - prefix_len) == 0 || gateway.is_unicast_link_local();
        assert!(both != 0 && near, "{address}/{prefix_len} {gateway}");
    }
}

/// Writes a whole `ip=` item from likely and unlikely fields.
fn mutate(line: &mut Vec<u8>, rng: &mut Rng) {
    let mut item = String::from(" ip=");
    for field in 0..1 + rng.below(11) {
        if field > 0 {
            item.push(':');
        }
        match (rng.below(8), field) {
            (0 | 1, _) => {}
            (2, _) => item.push_str(&format!(
                "{}",
                IpAddr::from((rng.bits() as u32).to_be_bytes())
            )),
            (3, _) => item.push_str(&format!("[fd00::{:x}]", rng.below(3))),
            (_, 0..=2) => item.push_str(&format!("10.0.{}.{}", rng.below(2), rng.below(4))),
            (_, 3) => item.push_str(&format!("{}", rng.below(140))),
            (_, 5) => item.push_str(&format!("eth{}", rng.below(10))),
            (_, 6) => item.push_str(["off", "dhcp", "on", "bootp"][rng.below(4)]),
            _ => item.push_str("name"),
        }
        if field == 0 && rng.below(2) == 0 {
            item.push_str(&format!("/{}", rng.below(140)));
        }
    }
    line.extend(item.bytes());
}
