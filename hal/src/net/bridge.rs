//! Which member of a bridge a station is at, as far as the frames that came to us tell.
//!
//! The switch forwards between the members of a bridge by its own table. Frames of ours must name the port they leave
//! by (`net::tag`), so we keep a table, too, small and forgetful: who is not in it gets the frame by every member, like
//! everywhere on Ethernet.
//!
//! One slot per hash of the address, the newest wins; no allocation, a handful of instructions per frame.

use super::MacAddr;
use super::mv88e6xxx::{PortIndex, PortSet};

/// Slots of the table.
const SLOTS: usize = 64;
/// Time after which a station nobody heard of is forgotten, as in the switch. Spec: IEEE 802.1D default.
const AGE_US: u64 = 300_000_000;

#[derive(Clone, Copy, Debug)]
struct Station {
    mac: MacAddr,
    port: PortIndex,
    heard_us: u64,
}

/// The members of a bridge and the stations heard at them.
#[derive(Clone, Debug)]
pub struct Stations {
    members: PortSet,
    slots: [Option<Station>; SLOTS],
}

impl Stations {
    /// Nobody heard yet at any of these ports.
    pub const fn new(members: PortSet) -> Self {
        Stations {
            members,
            slots: [None; SLOTS],
        }
    }

    /// Notes that a frame from `mac` came in by `port`. Group addresses and ports of others are not noted.
    #[inline]
    pub fn hear(&mut self, mac: MacAddr, port: PortIndex, now_us: u64) {
        if mac[0] & 1 == 0 && self.members.has(port) {
            self.slots[slot(mac)] = Some(Station {
                mac,
                port,
                heard_us: now_us,
            });
        }
    }

    /// The ports a frame to `mac` has to leave by: one if the station is known, else all members.
    #[inline]
    pub fn ports_to(&self, mac: MacAddr, now_us: u64) -> PortSet {
        match self.slots[slot(mac)] {
            Some(station)
                if station.mac == mac && now_us.saturating_sub(station.heard_us) < AGE_US =>
            {
                PortSet::of(station.port)
            }
            _ => self.members,
        }
    }

    /// Forgets who was at a port, because its link went down.
    pub fn forget(&mut self, port: PortIndex) {
        for slot in &mut self.slots {
            if slot.is_some_and(|station| station.port == port) {
                *slot = None;
            }
        }
    }
}

/// The lower bytes differ between the devices of one vendor.
fn slot(mac: MacAddr) -> usize {
    usize::from(mac[3] ^ mac[4].rotate_left(3) ^ mac[5]) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddr = [2, 0, 0, 0, 0, 1];
    /// In the slot of A.
    const A_TOO: MacAddr = [2, 0, 0, 0, 0, 0x41];

    fn port(number: u8) -> PortIndex {
        PortIndex::new(number).unwrap()
    }

    fn stations() -> (Stations, PortSet) {
        let members = PortSet::of(port(2)).with(port(3));
        (Stations::new(members), members)
    }

    #[test]
    fn a_station_is_where_it_was_last_heard() {
        let (mut stations, members) = stations();
        assert_eq!(stations.ports_to(A, 0), members);
        stations.hear(A, port(2), 0);
        assert_eq!(stations.ports_to(A, 1), PortSet::of(port(2)));
        stations.hear(A, port(3), 2);
        assert_eq!(stations.ports_to(A, 3), PortSet::of(port(3)));
        assert_eq!(stations.ports_to(A_TOO, 3), members);
        stations.hear(A_TOO, port(2), 4);
        assert_eq!(stations.ports_to(A, 5), members, "the newest wins");
    }

    #[test]
    fn it_is_forgotten_with_its_link_and_with_time() {
        let (mut stations, members) = stations();
        stations.hear(A, port(2), 0);
        assert_eq!(stations.ports_to(A, AGE_US - 1), PortSet::of(port(2)));
        assert_eq!(stations.ports_to(A, AGE_US), members);
        stations.forget(port(3));
        assert_eq!(stations.ports_to(A, 1), PortSet::of(port(2)));
        stations.forget(port(2));
        assert_eq!(stations.ports_to(A, 1), members);
    }

    #[test]
    fn group_addresses_and_foreign_ports_teach_nothing() {
        let (mut stations, members) = stations();
        stations.hear([0xff; 6], port(2), 0);
        assert_eq!(stations.ports_to([0xff; 6], 1), members);
        stations.hear(A, port(1), 0);
        assert_eq!(stations.ports_to(A, 1), members);
    }
}
