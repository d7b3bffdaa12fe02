//! When our boot is over: the first frame, or the first DHCP DISCOVER, on the wire.

use std::net::UdpSocket;
use std::time::Duration;

use crate::error::Result;

use super::BOOT_LIMIT;
use super::guest::{Emulator, Guest, System, Wire, network};

/// Boots with a first card that is connected to us alone, until a DHCP DISCOVER comes out of it; the instructions until then.
///
/// # Errors
///
/// If none comes.
pub fn first_discover(emulator: &Emulator, system: &System) -> Result<u64> {
    listen(emulator, system, "DHCP DISCOVER", is_discover)
}

/// The same, until any frame does.
///
/// # Errors
///
/// If none comes.
pub fn first_frame(emulator: &Emulator, system: &System) -> Result<u64> {
    listen(emulator, system, "frame", |_| true)
}

fn listen(
    emulator: &Emulator,
    system: &System,
    what: &str,
    is_it: fn(&[u8]) -> bool,
) -> Result<u64> {
    let ear = UdpSocket::bind("127.0.0.1:0").map_err(network)?;
    // Short, as a guest that died is looked for in between.
    ear.set_read_timeout(Some(Duration::from_millis(20)))
        .map_err(network)?;
    let mut guest = Guest::start(
        emulator,
        system,
        emulator.machine.memory(),
        &Wire::Ear(&ear),
    )?;
    let mut frame = [0; 2048];
    guest.wait_until(&format!("{what} on the wire"), BOOT_LIMIT, |_| {
        ear.recv(&mut frame).is_ok_and(|size| is_it(&frame[..size]))
    })?;
    guest.counter.instructions()
}

/// Whether an Ethernet frame is a DHCP DISCOVER: IPv4, UDP to port 67, message type 1. Checks no more than what could
/// be mistaken for one.
fn is_discover(frame: &[u8]) -> bool {
    /// RFC 2131: the fixed part of a message; RFC 2132: the four bytes in front of the options.
    const FIXED: usize = 236;
    const COOKIE: [u8; 4] = [99, 130, 83, 99];
    const MESSAGE_TYPE: [u8; 3] = [53, 1, 1];

    let Some((ethernet, ip)) = frame.split_at_checked(14) else {
        return false;
    };
    if ethernet[12..] != [0x08, 0x00] || ip.len() < 20 || ip[9] != 17 {
        return false;
    }
    let Some((udp, message)) = ip
        .get(usize::from(ip[0] & 15) * 4..)
        .and_then(|rest| rest.split_at_checked(8))
    else {
        return false;
    };
    let Some(options) = message
        .get(FIXED..)
        .and_then(|rest| rest.strip_prefix(&COOKIE))
    else {
        return false;
    };
    let mut rest = options;
    while let [code, length, tail @ ..] = rest {
        match code {
            // Padding is a byte without length.
            0 => rest = &rest[1..],
            255 => break,
            _ if rest.starts_with(&MESSAGE_TYPE) => return udp[2..4] == 67u16.to_be_bytes(),
            _ => rest = tail.get(usize::from(*length)..).unwrap_or_default(),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dhcp(message_type: u8) -> Vec<u8> {
        let mut frame = vec![0; 14 + 20 + 8 + 236];
        frame[12] = 8;
        frame[14] = 0x45;
        frame[14 + 9] = 17;
        frame[14 + 20 + 3] = 67;
        frame.extend([99, 130, 83, 99, 0, 61, 2, 53, 1, 53, 1, message_type, 255]);
        frame
    }

    #[test]
    fn a_discover_is_told_from_other_frames() {
        assert!(is_discover(&dhcp(1)));
        assert!(!is_discover(&dhcp(3)));
        let mut other_port = dhcp(1);
        other_port[14 + 20 + 3] = 68;
        assert!(!is_discover(&other_port));
        for end in 0..dhcp(1).len() - 1 {
            assert!(!is_discover(&dhcp(1)[..end]), "{end}");
        }
    }
}
