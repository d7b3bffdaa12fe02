//! The MAC as software sees it, one rule a test.

use super::regs::*;
use super::*;
use crate::bus::Ram;
use crate::prng::Prng;

const RX_RING: u32 = 0x1000;
const TX_RING: u32 = 0x2000;
const RX_BUFFERS: u32 = 0x1_0000;
const TX_BUFFERS: u32 = 0x8_0000;
const RING: u32 = 8;
const BUFFER: u32 = 2048;
const OWN: [u8; 6] = [0x02, 0x11, 0x22, 0x33, 0x44, 0x57];

const FIRST: u32 = 1 << 27;
const LAST: u32 = 1 << 26;

struct Rig {
    env: Env,
    ram: Ram,
    mac: Neta,
    rx_next: u32,
    tx_next: u32,
}

impl Rig {
    /// A port brought up in the order of the facts: queue 0 each way, eight descriptors, own address.
    fn new() -> Self {
        Self::with(Env::default())
    }

    fn under(doubt: &str, reading: &str) -> Self {
        let mut env = Env::default();
        env.doubts.set(doubt, reading).unwrap();
        Self::with(env)
    }

    fn with(env: Env) -> Self {
        let mac = Neta::new("neta0", &env);
        let mut rig = Self {
            env,
            ram: Ram::new(1 << 20),
            mac,
            rx_next: 0,
            tx_next: 0,
        };
        for (offset, value) in [
            (WINDOW + 4, 0xffff_0000),
            (WINDOW, 0),
            (WINDOW_DISABLE, 0x3e),
            (WINDOW_PROTECT, 3),
            (NEW_MASK, 0),
            (CPU_MAP, 0xffff),
            (RX_DMA_RESET, 1),
            (TX_DMA_RESET, 1),
            (TX_DMA_RESET, 0),
            (RX_DMA_RESET, 0),
            (ACCELERATION, 1),
            (PORT_CONFIG, 0x0200_1000),
            (SDMA_CONFIG, 0x0100_0038),
            (IRQ_ENABLE, 0xffff),
            (MAC_HIGH, 0x0211_2233),
            (MAC_LOW, 0x4457),
            (UNICAST + 4, 0x01 << 24),
            (RXQ_BASE, RX_RING),
            (RXQ_SIZE, RING | (BUFFER / 8) << 19),
            (RXQ_THRESHOLD, 1),
            (TXQ_BASE, TX_RING),
            (TXQ_SIZE, RING),
            (TX_MTU, 1600 * 8),
            (MAC_CONTROL_2, 0xc010),
            (MAC_CONTROL_0, 0x8001 | 760 << 2),
            (AUTONEG, 0x8000 | 1 << 12 | 1 << 8 | 1 << 6 | 2),
            (TXQ_COMMAND, 1),
            (RXQ_COMMAND, 1),
            (MISC_CAUSE, 0),
        ] {
            rig.w(offset, value);
        }
        for n in 0..RING {
            rig.put(RX_RING + 32 * n + 8, RX_BUFFERS + BUFFER * n);
        }
        assert_eq!(rig.env.guest_errors(), []);
        rig
    }

    fn r(&mut self, offset: u32) -> u32 {
        self.mac.read(&mut self.env, &mut self.ram, offset, 4)
    }

    fn w(&mut self, offset: u32, value: u32) {
        self.mac
            .write(&mut self.env, &mut self.ram, offset, 4, value);
    }

    fn put(&mut self, address: u32, word: u32) {
        assert!(self.ram.write(u64::from(address), &word.to_le_bytes()));
    }

    fn get(&mut self, address: u32) -> u32 {
        let mut word = [0; 4];
        assert!(self.ram.read(u64::from(address), &mut word));
        u32::from_le_bytes(word)
    }

    fn bytes(&mut self, address: u32, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        assert!(self.ram.read(u64::from(address), &mut data));
        data
    }

    fn give(&mut self, count: u32) {
        self.w(RXQ_UPDATE, count << 16);
    }

    fn receive(&mut self, data: &[u8]) {
        let frame = WireFrame {
            data: data.to_vec(),
            bad_fcs: false,
        };
        self.mac.receive(&mut self.env, &mut self.ram, frame);
    }

    /// Words 0 and 1 of the next descriptor the software would look at.
    fn harvest(&mut self) -> (u32, u32) {
        let at = RX_RING + 32 * (self.rx_next % RING);
        self.rx_next += 1;
        (self.get(at), self.get(at + 4))
    }

    /// Fills the next TX descriptor.
    fn describe(&mut self, command: u32, data: &[u8]) {
        let (slot, buffer) = (
            self.tx_next % RING,
            TX_BUFFERS + BUFFER * (self.tx_next % RING),
        );
        self.tx_next += 1;
        assert!(self.ram.write(u64::from(buffer), data));
        self.put(TX_RING + 32 * slot, command);
        self.put(TX_RING + 32 * slot + 4, (data.len() as u32) << 16);
        self.put(TX_RING + 32 * slot + 8, buffer);
    }

    fn send(&mut self, command: u32, data: &[u8]) -> Option<WireFrame> {
        self.describe(command, data);
        self.w(TXQ_UPDATE, 1);
        self.mac.take_sent()
    }

    fn errors(&mut self) -> Vec<String> {
        self.env
            .take_guest_errors()
            .into_iter()
            .map(|error| error.what)
            .collect()
    }

    fn line(&self) -> bool {
        self.mac.irq_line(&self.env)
    }
}

/// Plain frame: no checksums, padded, first and last.
const PLAIN: u32 = 0x8038_0000;

fn frame_to(destination: [u8; 6], len: usize) -> Vec<u8> {
    let mut frame = destination.to_vec();
    frame.extend([0x02, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame.extend((14..len).map(|n| n as u8));
    frame
}

/// An IPv4 or IPv6 frame around a segment, checksums of both layers zero.
fn ip_frame(v6: bool, protocol: u8, segment: &[u8]) -> Vec<u8> {
    let mut frame = frame_to(OWN, 14);
    if v6 {
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame.extend([0x60, 0, 0, 0]);
        frame.extend((segment.len() as u16).to_be_bytes());
        frame.extend([protocol, 64]);
        frame.extend([0xfd; 16]);
        frame.extend([0xfe; 16]);
    } else {
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        frame.extend([0x45, 0]);
        frame.extend((20 + segment.len() as u16).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    }
    frame.extend(segment);
    frame
}

fn udp_segment(payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0x30, 0x39, 0, 7];
    segment.extend((8 + payload.len() as u16).to_be_bytes());
    // Whatever stands in the field must not matter.
    segment.extend([0x55, 0xaa]);
    segment.extend(payload);
    segment
}

fn tcp_segment(payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0; 20];
    segment[12] = 5 << 4;
    segment[16..18].copy_from_slice(&[0x12, 0x34]);
    segment.extend(payload);
    segment
}

/// Verifies both layers by adding everything up, independently of the code under test.
fn sums_up(frame: &[u8], v6: bool) -> bool {
    let add = |data: &[u8]| -> u32 {
        data.chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
            .sum()
    };
    let fold = |mut sum: u32| {
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum
    };
    let packet = &frame[14..];
    let (header, end, protocol, addresses) = if v6 {
        (
            40,
            40 + usize::from(packet[5]) + 256 * usize::from(packet[4]),
            packet[6],
            &packet[8..40],
        )
    } else {
        (
            20,
            usize::from(packet[3]) + 256 * usize::from(packet[2]),
            packet[9],
            &packet[12..20],
        )
    };
    let segment = &packet[header..end];
    let l4 = add(addresses) + u32::from(protocol) + segment.len() as u32 + add(segment);
    (v6 || fold(add(&packet[..20])) == 0xffff) && fold(l4) == 0xffff
}

#[test]
fn a_frame_lands_behind_header_and_offset_with_its_fcs() {
    let mut rig = Rig::new();
    rig.w(RXQ_COMMAND, 1 << 8);
    rig.w(RXQ_CONFIG, 8 << 8);
    rig.w(RXQ_COMMAND, 1);
    rig.give(4);
    let frame = frame_to(OWN, 100);
    rig.receive(&frame);
    assert_eq!(rig.r(RXQ_STATUS), 1 | 3 << 16);
    let (status, count) = rig.harvest();
    assert_eq!(status & (FIRST | LAST | 1 << 16), FIRST | LAST);
    assert_eq!(count, 106 << 16, "Marvell header, frame, FCS");
    let stored = rig.bytes(RX_BUFFERS + 64, 106);
    assert_eq!(stored[..2], [0, 0]);
    assert_eq!(stored[2..102], frame);
    assert_eq!(stored[102..], checksum::fcs(&frame));
    assert_eq!(rig.get(RX_RING + 8), RX_BUFFERS, "the buffer address stays");
    assert_eq!(rig.errors(), [""; 0]);
}

#[test]
fn without_free_descriptors_frames_are_lost_and_counted_once() {
    let mut rig = Rig::new();
    rig.give(1);
    (0..3).for_each(|_| rig.receive(&frame_to(OWN, 60)));
    assert_eq!(rig.r(RXQ_STATUS), 1);
    assert_eq!(rig.r(RX_DISCARD), 2);
    assert_eq!(rig.r(RX_DISCARD), 0);
    assert_ne!(rig.r(OLD_CAUSE) & 1 << 16, 0);
    rig.w(OLD_CAUSE, 0);
    assert_eq!(rig.r(OLD_CAUSE), 0);
    // Releasing does not refill.
    rig.w(RXQ_UPDATE, 1);
    rig.receive(&frame_to(OWN, 60));
    assert_eq!(rig.r(RX_DISCARD), 1);
}

#[test]
fn a_backlog_waits_for_descriptors_in_order() {
    let mut rig = Rig::new();
    rig.mac.rx_backlog_limit = 2;
    for len in [60, 61, 62] {
        assert_eq!(rig.mac.can_receive(), len < 62);
        rig.receive(&frame_to(OWN, len));
    }
    assert_eq!(
        rig.r(RX_DISCARD),
        1,
        "the third found the backlog full and no descriptor"
    );
    rig.give(2);
    assert_eq!((rig.harvest().1 >> 16, rig.harvest().1 >> 16), (66, 67));
}

#[test]
fn the_ring_wraps_at_its_size() {
    let mut rig = Rig::new();
    for round in 0..20 {
        rig.give(1);
        rig.receive(&frame_to(OWN, 60 + round));
        assert_eq!(rig.harvest().1 >> 16, 66 + round as u32);
        rig.w(RXQ_UPDATE, 1);
        assert_eq!(rig.r(RXQ_CURRENT), (round as u32 + 1) % RING);
    }
    assert_eq!(rig.errors(), [""; 0]);
}

#[test]
fn causes_follow_threshold_time_and_release() {
    let mut rig = Rig::new();
    rig.w(RXQ_THRESHOLD, 3);
    rig.w(RXQ_TIME, 25_000);
    rig.w(NEW_MASK, 1 << 8);
    rig.give(8);
    rig.receive(&frame_to(OWN, 60));
    assert!(!rig.line());
    assert_eq!(rig.mac.next_event(&rig.env), Some(100_000));
    rig.env.now = 99_999;
    assert_eq!(rig.r(NEW_CAUSE), 0);
    rig.env.now = 100_000;
    assert_eq!(rig.r(NEW_CAUSE), 1 << 8);
    assert!(rig.line());
    rig.w(NEW_CAUSE, 0);
    assert!(
        rig.line(),
        "acknowledging without draining does not silence it"
    );
    rig.w(RXQ_UPDATE, 1);
    assert!(!rig.line());
    (0..3).for_each(|_| rig.receive(&frame_to(OWN, 60)));
    assert!(rig.line(), "the threshold needs no timer");
    for gate in [NEW_MASK, IRQ_ENABLE, CPU_MAP] {
        let open = rig.r(gate);
        rig.w(gate, 0);
        rig.w(CPU_MAP + 4, 0);
        assert!(!rig.line(), "{gate:#x}");
        rig.w(gate, open);
        assert!(rig.line());
    }
}

#[test]
fn readings_of_threshold_and_timer() {
    let mut rig = Rig::under("neta-threshold", "above");
    rig.w(RXQ_TIME, 1000);
    rig.give(8);
    rig.receive(&frame_to(OWN, 60));
    assert_eq!(rig.r(NEW_CAUSE) & 1 << 8, 0, "one is not above one");
    rig.receive(&frame_to(OWN, 60));
    assert_eq!(rig.r(NEW_CAUSE) & 1 << 8, 1 << 8);

    for (reading, fires) in [("at-once", true), ("never", false)] {
        let mut rig = Rig::under("neta-rx-time-zero", reading);
        rig.w(RXQ_THRESHOLD, 5);
        rig.give(8);
        rig.receive(&frame_to(OWN, 60));
        assert_eq!(rig.r(NEW_CAUSE) & 1 << 8 != 0, fires, "{reading}");
    }

    for (reading, after_update, after_ack) in [
        ("drain", true, true),
        ("update", false, true),
        ("acknowledge", true, false),
    ] {
        let mut rig = Rig::under("neta-rx-timer-ends", reading);
        rig.w(RXQ_THRESHOLD, 5);
        rig.w(RXQ_TIME, 1000);
        rig.give(8);
        (0..3).for_each(|_| rig.receive(&frame_to(OWN, 60)));
        rig.env.now += 4000;
        assert_ne!(rig.r(NEW_CAUSE) & 1 << 8, 0);
        rig.w(NEW_CAUSE, 0);
        assert_eq!(rig.r(NEW_CAUSE) & 1 << 8 != 0, after_ack, "{reading}");
        if after_ack {
            rig.w(RXQ_UPDATE, 1);
            assert_eq!(rig.r(NEW_CAUSE) & 1 << 8 != 0, after_update, "{reading}");
        }
    }
}

#[test]
fn link_change_is_a_misc_cause_cleared_by_zero() {
    let mut rig = Rig::new();
    rig.w(MISC_MASK, 1 << 1);
    rig.w(NEW_MASK, 1 << 31);
    rig.w(AUTONEG, 1);
    assert_eq!(rig.r(MAC_STATUS), 0);
    assert_eq!(rig.r(MISC_CAUSE), 1 << 1);
    assert_eq!(rig.r(NEW_CAUSE), 1 << 31);
    assert!(rig.line());
    rig.w(MISC_CAUSE, !0);
    assert!(rig.line(), "ones leave it alone");
    rig.w(MISC_CAUSE, !(1 << 1));
    assert!(!rig.line());
}

#[test]
fn link_and_speed_are_what_is_forced() {
    let mut rig = Rig::new();
    assert_eq!(rig.r(MAC_STATUS), 0b11_1011);
    rig.w(AUTONEG, 2 | 1 << 5);
    assert_eq!(rig.r(MAC_STATUS) & 0b1111, 0b0101);
    rig.w(AUTONEG, 0);
    assert_eq!(rig.r(MAC_STATUS), 0);
    rig.w(AUTONEG, 3);
    assert_eq!(rig.r(MAC_STATUS) & 1, 1);
    let mut rig = Rig::under("neta-force-both", "down");
    rig.w(AUTONEG, 3);
    assert_eq!(rig.r(MAC_STATUS), 0);
}

#[test]
fn wrong_updates_are_noted_and_do_no_more_than_fits() {
    let mut rig = Rig::new();
    rig.give(9);
    assert_eq!(rig.r(RXQ_STATUS), RING << 16);
    rig.w(RXQ_UPDATE, 1);
    rig.w(RXQ_UPDATE, 0x100);
    rig.w(TXQ_UPDATE, 1 << 16);
    rig.mac.txq[0].enabled = false;
    rig.w(TXQ_UPDATE, 9);
    assert_eq!(rig.r(TXQ_STATUS), RING);
    let errors = rig.errors();
    assert_eq!(errors.len(), 5, "{errors:?}");
    assert_eq!(rig.r(RXQ_UPDATE), 0);
    assert_eq!(Rig::under("neta-update-read", "last").r(RXQ_UPDATE), 0);
}

#[test]
fn changing_a_running_ring_is_noted() {
    let mut rig = Rig::new();
    rig.w(RXQ_BASE, 0x3000);
    rig.w(TXQ_SIZE, 16);
    rig.w(RXQ_SIZE, RING | 100 << 19);
    rig.w(TXQ_SIZE, 16 | 4 << 16);
    assert_eq!(
        rig.errors().len(),
        2,
        "buffer size and threshold may change, base and length may not"
    );
    rig.w(RXQ_COMMAND, 1 << 8);
    assert_eq!(rig.r(RXQ_COMMAND), 0);
    rig.w(RXQ_BASE, 0x3010);
    assert_eq!(rig.errors().len(), 1, "misaligned");
}

#[test]
fn registers_nobody_knows_are_noted() {
    let mut rig = Rig::new();
    for offset in [0x1000, 0x24a0, 0x2708, 0x3100, 0x3ffc] {
        rig.r(offset);
        rig.w(offset, 1);
    }
    rig.mac.read(&mut rig.env, &mut rig.ram, MAC_STATUS, 2);
    rig.mac.write(&mut rig.env, &mut rig.ram, MAC_LOW, 1, 7);
    rig.w(PORT_STATUS, 1);
    assert_eq!(rig.errors().len(), 13);
    assert_eq!(rig.r(MAC_LOW), 0x4457);
}

#[test]
fn a_plain_frame_goes_out_padded() {
    let mut rig = Rig::new();
    let sent = rig.send(PLAIN, &frame_to([0xff; 6], 20)).unwrap();
    assert_eq!(sent.data.len(), 60);
    assert!(sent.data[20..].iter().all(|byte| *byte == 0));
    assert_eq!(rig.r(TXQ_STATUS), 1 << 16);
    assert_eq!(rig.r(NEW_CAUSE) & 0xff, 1);
    rig.w(TXQ_UPDATE, 1 << 16);
    assert_eq!(rig.r(TXQ_STATUS), 0);
    assert_eq!(rig.r(NEW_CAUSE), 0);
    assert_eq!(
        (
            rig.r(MIB + 0x40),
            rig.r(MIB + 0x4c),
            rig.r(MIB + 0x38),
            rig.r(MIB + 0x20)
        ),
        (1, 1, 64, 1)
    );
    assert_eq!(rig.r(MIB + 0x40), 0, "reading clears");
}

#[test]
fn padding_by_the_mac_or_by_the_bit() {
    let no_bit = PLAIN & !(1 << 19);
    let mut rig = Rig::new();
    assert_eq!(rig.send(no_bit, &frame_to(OWN, 20)).unwrap().data.len(), 60);
    rig.w(MAC_CONTROL_2, 0xc010 | 1 << 5);
    assert_eq!(rig.send(no_bit, &frame_to(OWN, 20)).unwrap().data.len(), 20);
    let mut rig = Rig::under("neta-padding", "bit");
    assert_eq!(rig.send(no_bit, &frame_to(OWN, 20)).unwrap().data.len(), 20);
}

#[test]
fn a_frame_of_several_descriptors_leaves_with_its_last() {
    let mut rig = Rig::new();
    let frame = frame_to(OWN, 300);
    rig.describe(1 << 31 | 1 << 21, &frame[..13]);
    rig.describe(0, &frame[13..101]);
    rig.w(TXQ_UPDATE, 2);
    assert_eq!(rig.mac.take_sent(), None);
    assert_eq!(rig.r(TXQ_STATUS), 2, "nothing is sent before the end");
    rig.describe(1 << 20, &frame[101..]);
    rig.w(TXQ_UPDATE, 1);
    assert_eq!(rig.mac.take_sent().unwrap().data, frame);
    assert_eq!(rig.r(TXQ_STATUS), 3 << 16);
    assert_eq!(rig.r(TXQ_CURRENT), 3);
    assert_eq!(rig.errors(), [""; 0]);
}

#[test]
fn broken_chains_are_dropped_and_noted() {
    let mut rig = Rig::new();
    assert_eq!(rig.send(PLAIN & !(1 << 21), &frame_to(OWN, 60)), None);
    rig.describe(PLAIN & !(1 << 20), &frame_to(OWN, 60));
    rig.describe(PLAIN, &frame_to(OWN, 60));
    rig.w(TXQ_UPDATE, 2);
    assert_eq!(rig.mac.take_sent(), None);
    assert_eq!(
        rig.r(TXQ_STATUS),
        3 << 16,
        "the descriptors come back all the same"
    );
    assert_eq!(rig.r(TX_DROPPED), 2);
    assert_eq!(rig.errors().len(), 2);
    rig.w(TXQ_UPDATE, 3 << 16);
    // A whole ring without an end.
    (0..RING).for_each(|n| rig.describe(if n == 0 { 1 << 21 } else { 0 }, &[0; 10]));
    rig.w(TXQ_UPDATE, RING);
    assert_eq!(rig.r(TXQ_STATUS), RING << 16);
    assert_eq!(rig.errors().len(), 1);
}

#[test]
fn checksums_are_generated_whatever_the_field_held() {
    for (v6, protocol, segment) in [
        (false, 17, udp_segment(b"odd")),
        (true, 17, udp_segment(b"even")),
        (
            false,
            6,
            tcp_segment(b"some payload that is long enough not to be padded"),
        ),
        (true, 6, tcp_segment(b"x")),
    ] {
        let mut rig = Rig::new();
        let l3 = 14
            | (if v6 { 10 } else { 5 }) << 8
            | u32::from(protocol == 17) << 16
            | u32::from(v6) << 17;
        let command = 1 << 30 | 0x38_0000 | l3 | u32::from(!v6) << 18;
        let sent = rig
            .send(command, &ip_frame(v6, protocol, &segment))
            .unwrap();
        assert!(sums_up(&sent.data, v6), "v6 {v6} protocol {protocol}");
        assert_eq!(rig.errors(), [""; 0]);
    }
}

#[test]
fn mode_none_leaves_the_segment_alone_and_fragment_mode_adds_to_the_initial_value() {
    let segment = udp_segment(b"data");
    let frame = ip_frame(false, 17, &segment);
    let mut rig = Rig::new();
    let sent = rig
        .send(PLAIN | 1 << 18 | 14 | 5 << 8 | 1 << 16, &frame)
        .unwrap();
    assert_eq!(sent.data[34..46], segment[..12]);
    assert_ne!(sent.data[24..26], [0, 0], "but the header has its checksum");

    // The software puts the pseudo header's sum into word 1.
    let initial = 2 * 0x0a00 + 1 + 2 + 17 + segment.len() as u32;
    let mut rig = Rig::new();
    rig.describe(0x38_0000 | 1 << 18 | 14 | 5 << 8 | 1 << 16, &frame);
    rig.put(TX_RING + 4, (frame.len() as u32) << 16 | initial);
    rig.w(TXQ_UPDATE, 1);
    assert!(sums_up(&rig.mac.take_sent().unwrap().data, false));

    let mut rig = Rig::under("neta-fragment-mode", "ignore");
    assert_eq!(rig.send(0x38_0000, &frame).unwrap().data[..46], frame[..46]);
}

#[test]
fn a_checksum_command_that_points_nowhere_is_noted() {
    let mut rig = Rig::new();
    for command in [
        0x38_0000,
        1 << 30 | 0x38_0000 | 100 | 5 << 8,
        1 << 30 | 0x38_0000 | 14 | 31 << 8,
        3 << 30 | 0x38_0000,
    ] {
        assert!(rig.send(command, &frame_to(OWN, 64)).is_some());
        rig.w(TXQ_UPDATE, 1 << 16);
    }
    assert_eq!(rig.errors().len(), 4);
}

#[test]
fn tokens_below_the_mtu_stall_until_raised() {
    let mut rig = Rig::new();
    rig.w(TXQ_TOKEN_SIZE, 1600 * 8 - 1);
    assert_eq!(rig.send(PLAIN, &frame_to(OWN, 60)), None);
    assert_eq!(rig.r(TXQ_STATUS), 1);
    rig.w(TXQ_TOKEN_SIZE, 1600 * 8);
    assert!(rig.mac.take_sent().is_some());
    let mut rig = Rig::under("neta-token-stall", "ignore");
    rig.w(TX_TOKEN_SIZE, 0);
    assert!(rig.send(PLAIN, &frame_to(OWN, 60)).is_some());
}

#[test]
fn nothing_moves_without_enable_link_or_queue() {
    for (offset, off, on) in [
        (MAC_CONTROL_0, 0x8000 | 760 << 2, 0x8001 | 760 << 2),
        (AUTONEG, 1, 0x1142),
        (TXQ_COMMAND, 1 << 8, 1),
    ] {
        let mut rig = Rig::new();
        rig.w(offset, off);
        assert_eq!(rig.send(PLAIN, &frame_to(OWN, 60)), None, "{offset:#x}");
        rig.w(offset, on);
        assert!(rig.mac.take_sent().is_some(), "{offset:#x}");
    }
    let mut rig = Rig::new();
    rig.give(1);
    rig.w(MAC_CONTROL_0, 0x8000);
    rig.receive(&frame_to(OWN, 60));
    assert_eq!(
        (rig.r(RXQ_STATUS), rig.r(MIB + 0x10), rig.r(RX_DISCARD)),
        (1 << 16, 0, 0)
    );
}

#[test]
fn higher_queues_go_first() {
    let mut rig = Rig::new();
    rig.w(TXQ_BASE + 28, TX_RING);
    rig.w(TXQ_SIZE + 28, RING);
    rig.w(MAC_CONTROL_0, 0x8000);
    rig.w(TXQ_COMMAND, 0x80);
    rig.describe(PLAIN, &frame_to(OWN, 61));
    rig.describe(PLAIN, &frame_to(OWN, 62));
    rig.w(TXQ_UPDATE, 2);
    rig.w(TXQ_UPDATE + 28, 1);
    rig.w(MAC_CONTROL_0, 0x8001 | 760 << 2);
    let lengths: Vec<usize> = std::iter::from_fn(|| rig.mac.take_sent())
        .map(|frame| frame.data.len())
        .collect();
    assert_eq!(
        lengths,
        [61, 61, 62],
        "queue 7 took the first descriptor before queue 0 did"
    );
    assert_eq!(rig.r(NEW_CAUSE) & 0xff, 0x81);
}

#[test]
fn at_wire_pace_the_fifo_is_busy_for_the_frame() {
    let mut rig = Rig::new();
    rig.mac.wire_pace = true;
    rig.describe(PLAIN, &frame_to(OWN, 1000));
    rig.describe(PLAIN, &frame_to(OWN, 60));
    rig.w(TXQ_UPDATE, 2);
    assert!(rig.mac.take_sent().is_some());
    assert_eq!(rig.r(PORT_STATUS), 1 << 16 | 1);
    let end = rig.mac.next_event(&rig.env).unwrap();
    assert_eq!(end, 8 * 1024);
    assert_eq!(rig.mac.take_sent(), None);
    rig.env.now = end;
    rig.r(PORT_STATUS);
    assert!(rig.mac.take_sent().is_some());
    rig.env.now = end + 8 * 84;
    assert_eq!(rig.r(PORT_STATUS), 1 << 16 | 1 << 8);
}

#[test]
fn pause_frames_are_consumed_and_obeyed() {
    let mut rig = Rig::new();
    rig.give(1);
    let mut pause = frame_to([0x01, 0x80, 0xc2, 0, 0, 1], 60);
    pause[12..18].copy_from_slice(&[0x88, 0x08, 0, 1, 0, 100]);
    rig.receive(&pause);
    assert_eq!((rig.r(RXQ_STATUS), rig.r(MIB + 0x58)), (1 << 16, 1));
    assert_eq!(rig.r(MAC_STATUS) & 1 << 6, 1 << 6);
    assert_eq!(rig.send(PLAIN, &frame_to(OWN, 60)), None);
    rig.env.now = rig.mac.next_event(&rig.env).unwrap();
    assert_eq!(rig.env.now, 100 * 512);
    rig.r(MAC_STATUS);
    assert!(rig.mac.take_sent().is_some());
    pause[15] = 9;
    rig.receive(&pause);
    assert_eq!(rig.r(MIB + 0x50), 1);
}

#[test]
fn filters_take_what_they_should() {
    // The table index as the facts define it: eight steps a byte over a 16-bit remainder.
    let index = |address: [u8; 6]| {
        address.iter().fold(0u32, |crc, byte| {
            let mut crc = (crc ^ u32::from(*byte)) << 8;
            for bit in (0..8).rev() {
                if crc & 1 << (bit + 8) != 0 {
                    crc ^= 0x107 << bit;
                }
            }
            crc
        })
    };
    let other = [0x33, 0x33, 0, 0, 0, 0x16];
    assert_eq!(u32::from(rx::crc8(&other)), index(other));
    let special = [0x01, 0, 0x5e, 0, 0, 0xfb];
    let mut neighbour = OWN;
    neighbour[5] ^= 0x10;
    let mut nibble = OWN;
    nibble[5] ^= 1;

    let mut rig = Rig::new();
    let accepts = |rig: &mut Rig, to: [u8; 6]| {
        rig.give(1);
        let before = rig.r(RXQ_STATUS) & COUNT;
        rig.receive(&frame_to(to, 60));
        let taken = rig.r(RXQ_STATUS) & COUNT > before;
        let status = if taken { rig.harvest().0 } else { 0 };
        rig.w(RXQ_UPDATE, u32::from(taken));
        if !taken {
            // Take the unused descriptor back for the next round.
            rig.mac.rxq[0].free -= 1;
        }
        (taken, status & 1 << 28 != 0)
    };
    assert_eq!(accepts(&mut rig, OWN), (true, false));
    for stranger in [neighbour, nibble, special, other] {
        assert_eq!(accepts(&mut rig, stranger), (false, false), "{stranger:x?}");
    }
    assert!(accepts(&mut rig, [0xff; 6]).0);
    rig.w(PORT_CONFIG, 1 << 7);
    assert!(!accepts(&mut rig, [0xff; 6]).0);
    rig.w(SPECIAL_MULTICAST + 0xf8, 0x01 << 24);
    assert!(accepts(&mut rig, special).0);
    rig.w(
        OTHER_MULTICAST + (index(other) & !3),
        0x01 << (8 * (index(other) & 3)),
    );
    assert!(accepts(&mut rig, other).0);
    rig.w(PORT_CONFIG, 1);
    assert_eq!(accepts(&mut rig, neighbour), (true, true));
    rig.w(PORT_CONFIG, 0);
    rig.w(ETHER_TYPE_QUEUE, 1 << 21);
    assert_eq!(
        accepts(&mut rig, neighbour),
        (true, false),
        "forced to be a hit, and the entry passes"
    );
}

#[test]
fn frames_go_to_the_queue_that_wants_them() {
    let mut rig = Rig::new();
    for q in 1..8 {
        rig.w(RXQ_BASE + 4 * q, RX_RING);
        rig.w(RXQ_SIZE + 4 * q, RING | (BUFFER / 8) << 19);
        rig.w(RXQ_COMMAND, 1 << q);
        rig.w(RXQ_UPDATE + 4 * q, 1 << 16);
    }
    // ARP to 2, TCP to 3, UDP to 4; priority 5 to 5; DSCP 46 to 6.
    rig.w(
        PORT_CONFIG,
        0x0200_1000 | 2 << 4 | 1 << 14 | 3 << 16 | 1 << 15 | 4 << 19,
    );
    rig.w(VLAN_QUEUE, 5 << 15);
    rig.w(DSCP_QUEUE + 16, 6 << 18);
    let mut arp = frame_to([0xff; 6], 60);
    arp[12..14].copy_from_slice(&[8, 6]);
    let mut tagged = frame_to(OWN, 60);
    tagged[12..15].copy_from_slice(&[0x81, 0, 5 << 5]);
    let mut voice = ip_frame(false, 1, &[0; 40]);
    voice[15] = 46 << 2;
    let mut udp = ip_frame(false, 17, &udp_segment(&[0; 30]));
    let sum = checksum::internet(&udp[14..34]);
    udp[24..26].copy_from_slice(&sum.to_be_bytes());
    for (frame, queue) in [(arp, 2), (tagged, 5), (voice, 6), (udp, 4)] {
        rig.receive(&frame);
        assert_eq!(rig.r(RXQ_STATUS + 4 * queue) & COUNT, 1, "queue {queue}");
    }
}

#[test]
fn the_parser_says_what_it_saw() {
    let mut rig = Rig::new();
    rig.give(8);
    let mut good = ip_frame(false, 17, &udp_segment(&[0; 30]));
    let sum = checksum::internet(&good[14..34]);
    good[24..26].copy_from_slice(&sum.to_be_bytes());
    let seed = checksum::pseudo_header(&good[26..34], 17, 38);
    let sum = checksum::segment(seed, &good[34..], 6);
    good[40..42].copy_from_slice(&sum.to_be_bytes());
    let mut bad_header = good.clone();
    bad_header[22] ^= 1;
    let mut bad_data = good.clone();
    bad_data[50] ^= 1;
    // Eight bytes of EtherType-DSA tag in front of the same packet.
    let mut tagged = good[..12].to_vec();
    tagged.extend([0xda, 0xda, 0, 0, 0x40, 0, 0, 0]);
    tagged.extend(&good[12..]);
    let bits = |status: u32| (status >> 24 & 3, status >> 21 & 3, status >> 30 & 1);
    for (frame, expected) in [
        (&good, (3, 1, 1)),
        (&bad_header, (1, 2, 0)),
        (&bad_data, (3, 1, 0)),
        (&tagged, (0, 2, 0)),
    ] {
        rig.receive(frame);
        assert_eq!(bits(rig.harvest().0), expected);
    }
    rig.w(MARVELL_HEADER, 2 << 10);
    rig.receive(&tagged);
    assert_eq!(
        bits(rig.harvest().0),
        (3, 1, 1),
        "told of the tag, it sees through"
    );
    let mut rig = Rig::under("neta-tagged-parse", "seen");
    rig.give(1);
    rig.receive(&tagged);
    assert_eq!(bits(rig.harvest().0), (3, 1, 1));
}

#[test]
fn sizes_are_bounded_on_both_ends() {
    let mut rig = Rig::new();
    rig.give(8);
    rig.receive(&frame_to(OWN, 59));
    assert_eq!((rig.r(RXQ_STATUS), rig.r(MIB + 0x60)), (8 << 16, 1));
    // The limit is 1520 bytes with FCS.
    rig.receive(&frame_to(OWN, 1516));
    assert_eq!(rig.harvest().0 & 1 << 16, 0);
    rig.receive(&frame_to(OWN, 1517));
    let (status, count) = rig.harvest();
    assert_eq!((status >> 16 & 7, count >> 16), (0b101, 1523));
    assert_eq!(rig.r(MIB + 0x68), 1);
    assert_ne!(rig.r(MISC_CAUSE) & 1 << 10, 0);

    let mut rig = Rig::under("neta-oversize", "truncate");
    rig.give(1);
    rig.receive(&frame_to(OWN, 1600));
    assert_eq!(rig.harvest().1 >> 16, 1522);
    let mut rig = Rig::under("neta-oversize", "drop");
    rig.give(1);
    rig.receive(&frame_to(OWN, 1600));
    assert_eq!((rig.r(RXQ_STATUS), rig.r(MIB + 0x68)), (1 << 16, 1));
    let mut rig = Rig::under("neta-frame-limit", "with-header");
    rig.give(1);
    rig.receive(&frame_to(OWN, 1516));
    assert_ne!(rig.harvest().0 & 1 << 16, 0);
}

#[test]
fn a_bad_fcs_is_delivered_as_an_error_or_dropped() {
    for (reading, delivered) in [("deliver", 1), ("drop", 0)] {
        let mut rig = Rig::under("neta-bad-fcs", reading);
        rig.give(1);
        let frame = WireFrame {
            data: frame_to(OWN, 60),
            bad_fcs: true,
        };
        rig.mac.receive(&mut rig.env, &mut rig.ram, frame);
        assert_eq!(rig.r(RXQ_STATUS) & COUNT, delivered);
        assert_eq!((rig.r(MIB + 0x74), rig.r(MIB + 0x10)), (1, 0));
        if delivered == 1 {
            assert_eq!(rig.harvest().0 >> 16 & 7, 0b001);
        }
    }
}

#[test]
fn a_long_frame_takes_several_buffers() {
    for (reading, later) in [("whole", 1006), ("rest", 1006 - 512), ("zero", 0)] {
        let mut rig = Rig::under("neta-later-descriptors", reading);
        rig.w(RXQ_SIZE, RING | (512 / 8) << 19);
        rig.give(2);
        let frame = frame_to(OWN, 1000);
        rig.receive(&frame);
        let (first, last) = (rig.harvest(), rig.harvest());
        assert_eq!(
            (first.0 & (FIRST | LAST), last.0 & (FIRST | LAST)),
            (FIRST, LAST)
        );
        assert_eq!((first.1 >> 16, last.1 >> 16), (1006, later), "{reading}");
        let mut stored = rig.bytes(RX_BUFFERS, 512);
        stored.extend(rig.bytes(RX_BUFFERS + BUFFER, 1006 - 512));
        assert_eq!(stored[2..1002], frame);
        rig.give(1);
        rig.receive(&frame);
        assert_eq!(
            (rig.r(RXQ_STATUS), rig.r(RX_DISCARD)),
            (2 | 1 << 16, 1),
            "one descriptor is not enough"
        );
    }
}

#[test]
fn dma_outside_windows_or_memory_is_caught() {
    let mut rig = Rig::new();
    rig.give(1);
    rig.put(RX_RING + 8, 0x0f00_0000);
    rig.receive(&frame_to(OWN, 60));
    assert_eq!(rig.r(UNIT_CAUSE), 1 << 3 | 1);
    assert_eq!(rig.r(ERROR_ADDRESS), 0x0f00_0000);
    rig.w(UNIT_CAUSE, 0);
    assert_eq!(rig.r(UNIT_CAUSE), 0);
    assert_eq!(rig.errors().len(), 1);
    rig.w(WINDOW_DISABLE, 0x3f);
    assert_eq!(rig.send(PLAIN, &frame_to(OWN, 60)), None);
    assert!(!rig.errors().is_empty());
    rig.w(WINDOW_DISABLE, 0x3e);
    rig.w(WINDOW_PROTECT, 1);
    rig.give(1);
    rig.receive(&frame_to(OWN, 60));
    assert!(rig.errors()[0].contains("write"), "the window is read only");
}

#[test]
fn dma_reset_forgets_counters_and_holds_the_queue() {
    let mut rig = Rig::new();
    rig.give(4);
    rig.receive(&frame_to(OWN, 60));
    rig.w(RX_DMA_RESET, 1);
    rig.w(TX_DMA_RESET, 1);
    assert_eq!((rig.r(RXQ_STATUS), rig.r(RXQ_CURRENT)), (0, 0));
    rig.give(1);
    assert_eq!(rig.errors().len(), 1);
    rig.receive(&frame_to(OWN, 60));
    assert_eq!(rig.r(RX_DISCARD), 1);
    rig.w(RX_DMA_RESET, 0);
    assert_eq!(rig.r(RXQ_COMMAND), 1);
    let mut rig = Rig::under("neta-enable-after-reset", "clear");
    rig.w(RX_DMA_RESET, 1);
    assert_eq!(rig.r(RXQ_COMMAND), 0);
}

#[test]
fn received_counters_add_up() {
    let mut rig = Rig::new();
    rig.give(8);
    rig.receive(&frame_to(OWN, 60));
    rig.receive(&frame_to([0xff; 6], 200));
    rig.receive(&frame_to([1, 2, 3, 4, 5, 6], 600));
    assert_eq!(rig.r(MIB), 60 + 200 + 600 + 12);
    assert_eq!(
        (rig.r(MIB + 0x10), rig.r(MIB + 0x18), rig.r(MIB + 0x1c)),
        (3, 1, 1)
    );
    assert_eq!(
        (rig.r(MIB + 0x20), rig.r(MIB + 0x28), rig.r(MIB + 0x30)),
        (1, 1, 1)
    );
}

#[test]
fn reset_values_are_readings() {
    for (reading, map) in [("all", 0xffff), ("none", 0)] {
        let mut env = Env::default();
        env.doubts.set("neta-cpu-map-reset", reading).unwrap();
        assert_eq!(Neta::new("neta0", &env).stored(CPU_MAP), map);
    }
    for (reading, bit) in [("set", 1 << 6), ("clear", 0)] {
        let mut env = Env::default();
        env.doubts.set("neta-mac-reset-power-up", reading).unwrap();
        assert_eq!(Neta::new("neta0", &env).stored(MAC_CONTROL_2) & 1 << 6, bit);
    }
    let mut rig = Rig::under("neta-tx-in-progress", "bit1");
    rig.env.faults.set_list("neta-tx-fifo").unwrap();
    assert_eq!(rig.r(PORT_STATUS), 1 << 16 | 2);
}

#[test]
fn faults_bite_where_hardware_would() {
    let mut rig = Rig::new();
    rig.give(4);
    rig.env
        .faults
        .set_list("neta-rx-overrun*1,neta-rx-resource*1,neta-queue-stuck,neta-tx-stall")
        .unwrap();
    (0..3).for_each(|_| rig.receive(&frame_to(OWN, 60)));
    assert_eq!(
        (
            rig.r(RX_OVERRUN),
            rig.r(RX_DISCARD),
            rig.r(RXQ_STATUS) & COUNT
        ),
        (1, 1, 1)
    );
    rig.w(RXQ_COMMAND, 1 << 8);
    assert_eq!(rig.r(RXQ_COMMAND), 1);
    assert_eq!(rig.send(PLAIN, &frame_to(OWN, 60)), None);
    rig.env.faults.set_list("neta-reset-stuck").unwrap();
    rig.w(MAC_CONTROL_2, 1 << 6);
    rig.w(MAC_CONTROL_2, 0);
    assert_eq!(rig.r(MAC_CONTROL_2), 1 << 6);
    let mut rig = Rig::new();
    rig.env.faults.set_list("dma-error*1").unwrap();
    assert_eq!(rig.send(PLAIN, &frame_to(OWN, 60)), None);
    assert!(rig.send(PLAIN, &frame_to(OWN, 60)).is_some());
    assert_eq!(rig.r(UNIT_CAUSE) & 1 << 3, 1 << 3);
    assert_eq!(rig.errors(), [""; 0], "not the software's mistake");
}

#[test]
fn a_frame_that_memory_refused_is_never_told_as_good() {
    // The descriptor cannot be read: it stays, and takes the next frame.
    let mut rig = Rig::new();
    rig.give(4);
    rig.env.faults.set_list("dma-error*1").unwrap();
    rig.receive(&frame_to(OWN, 60));
    assert_eq!(rig.r(RXQ_STATUS), 4 << 16);
    rig.receive(&frame_to(OWN, 60));
    assert_eq!(rig.r(RXQ_STATUS), 1 | 3 << 16);
    assert_eq!(rig.harvest().0 & (1 << 16 | FIRST | LAST), FIRST | LAST);

    // Its buffer lies outside memory.
    for (reading, occupied) in [("error", 1), ("lost", 0)] {
        let mut rig = Rig::under("neta-rx-dma-failure", reading);
        rig.put(RX_RING + 8, 0xf000_0000);
        rig.give(4);
        rig.receive(&frame_to(OWN, 60));
        assert_eq!(rig.r(RXQ_STATUS), occupied | (4 - occupied) << 16);
        assert_eq!(rig.r(ERROR_ADDRESS), 0xf000_0000);
        assert_eq!(rig.errors().len(), 1);
        let error = 1 << 16 | 3 << 17 | FIRST | LAST;
        let expected = if occupied == 1 { error } else { 0 };
        assert_eq!(rig.harvest().0, expected, "{reading}");
    }

    // The second buffer of a long frame does.
    let mut rig = Rig::new();
    rig.w(RXQ_SIZE, RING | (64 / 8) << 19);
    rig.put(RX_RING + 32 + 8, 0xf000_0000);
    rig.give(4);
    rig.receive(&frame_to(OWN, 150));
    let (first, second) = (rig.harvest().0, rig.harvest().0);
    assert_eq!(first & (1 << 16 | FIRST | LAST), FIRST);
    assert_eq!(second & (1 << 16 | FIRST | LAST), 1 << 16 | LAST);
    assert_eq!(rig.r(RXQ_STATUS), 2 | 2 << 16);
}

#[test]
fn any_memory_and_any_frame_leave_the_mac_alive() {
    for seed in 0..20 {
        let mut prng = Prng::new(seed);
        let mut rig = Rig::new();
        for word in (0..0x4000).step_by(4) {
            rig.put(word, prng.next_u64() as u32 & 0x803f_ffff);
        }
        for step in 0..500 {
            rig.env.now = step * 10_000;
            let added = prng.below(8) as u32;
            rig.w(TXQ_UPDATE, added | 8 << 16);
            rig.w(RXQ_UPDATE, added << 16 | added);
            let mut frame = vec![0; prng.below(3000) as usize];
            frame
                .iter_mut()
                .for_each(|byte| *byte = prng.next_u64() as u8);
            if frame.len() > 14 && prng.below(2) == 0 {
                frame[..6].copy_from_slice(&OWN);
                frame[12..14].copy_from_slice(if prng.below(2) == 0 {
                    &[8, 0]
                } else {
                    &[0x86, 0xdd]
                });
            }
            rig.receive(&frame);
            while rig.mac.take_sent().is_some() {}
        }
        let status = rig.r(RXQ_STATUS);
        assert!((status & COUNT) + (status >> 16) <= RING);
    }
}

#[test]
fn in_loopback_what_is_sent_comes_back_and_nothing_else_comes_in() {
    for (reading, leaves) in [("silent", false), ("sent", true)] {
        let mut rig = Rig::under("neta-loopback-wire", reading);
        rig.give(4);
        let control = rig.r(0x2c04);
        rig.w(0x2c04, control | 1 << 5);
        rig.receive(&frame_to([0xff; 6], 60));
        assert_eq!(rig.r(0x14e0) & 0x3fff, 0, "{reading}");
        let sent = rig.send(2 << 30 | 3 << 20, &frame_to([0xff; 6], 64));
        assert_eq!(sent.is_some(), leaves, "{reading}");
        assert_eq!(rig.r(0x14e0) & 0x3fff, 1, "{reading}");
        rig.w(0x2c04, control);
        assert!(
            rig.send(2 << 30 | 3 << 20, &frame_to([0xff; 6], 64))
                .is_some()
        );
        rig.receive(&frame_to([0xff; 6], 60));
        assert_eq!(rig.r(0x14e0) & 0x3fff, 2, "{reading}");
        assert!(rig.errors().is_empty());
    }
}
