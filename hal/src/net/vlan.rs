//! 802.1Q: several interfaces on one, told apart by a tag in each frame.
//!
//! ```text
//!   wan (no tag)   wan.100   wan.200      each a Lane, a Nic of its own
//!        └────────────┼─────────┘
//!                   Trunk                 takes tags off, puts them on
//!                     │
//!               any other Nic
//! ```
//!
//! | frame | goes to |
//! | --- | --- |
//! | no tag | the lane without a number |
//! | VLAN 0: a priority, but no VLAN | the same, its tag taken off |
//! | VLAN of a lane | that lane, its tag taken off; any priority, CFI or not |
//! | any other VLAN | nobody: dropped and counted |
//!
//! What a lane sends has priority 0 and no CFI. Only one tag is looked at: what is inside another (802.1ad) is for the
//! stack to refuse. Whoever needs no VLAN has no trunk, and pays nothing.
//!
//! Spec: IEEE 802.1Q-2022, 6.9 and 9.6.

use super::drops::Reason;
use super::{Coalescing, Count, Counters, Frame, Link, MacAddr, Nic, Pool};
use core::cell::RefCell;
use heapless::{Deque, Vec};

/// Lanes of a trunk, with the one without a number.
pub const MAX_LANES: usize = 9;
/// Frames that one lane keeps for another until its turn.
const QUEUE: usize = 64;
/// Frames taken for others before one lane ends its turn.
const HARVEST: usize = 64;
/// Bytes of both addresses.
const ADDRESSES: usize = 12;
/// Bytes of a tag.
const TAG: usize = 4;
/// EtherType of a tag.
const DOT1Q: [u8; 2] = [0x81, 0x00];

/// What one lane has waiting.
struct Lot {
    vid: u16,
    frames: Deque<Frame, QUEUE>,
    /// Frames dropped because the queue was full.
    queue_full: u64,
    wants_space: bool,
}

/// A device shared by the VLANs on it.
pub struct Trunk<N: Nic> {
    nic: N,
    lots: Vec<Lot, MAX_LANES>,
    /// A turn ended before the device was empty.
    more: bool,
    /// Frames of other VLANs.
    strangers: u64,
}

impl<N: Nic> Trunk<N> {
    /// A trunk on `nic`, with the lane without a number (0) and one for each of `vids`, as far as there is room.
    pub fn new(nic: N, vids: impl Iterator<Item = u16>) -> Self {
        let mut lots = Vec::new();
        for vid in core::iter::once(0).chain(vids.filter(|vid| *vid != 0)) {
            // Refused lanes find nothing in `Lane::new`.
            let _ = lots.push(Lot {
                vid,
                frames: Deque::new(),
                queue_full: 0,
                wants_space: false,
            });
        }
        Trunk {
            nic,
            lots,
            more: false,
            strangers: 0,
        }
    }

    /// The next frame for a lane.
    fn receive(&mut self, lane: usize, pool: &mut Pool) -> Option<Frame> {
        if let Some(frame) = self.lots[lane].frames.pop_front() {
            return Some(frame);
        }
        for _ in 0..HARVEST {
            let Some(mut frame) = self.nic.receive(pool) else {
                self.more = false;
                return None;
            };
            let vid = take_off(&mut frame);
            let owner = self.lots.iter().position(|lot| lot.vid == vid);
            match owner {
                Some(owner) if owner == lane => return Some(frame),
                Some(owner) => {
                    let lot = &mut self.lots[owner];
                    if let Err(frame) = lot.frames.push_back(frame) {
                        lot.queue_full += 1;
                        pool.discard(frame, Reason::QueueFull);
                    }
                }
                None => {
                    self.strangers += 1;
                    pool.discard(frame, Reason::OtherVlan);
                }
            }
        }
        self.more = true;
        None
    }
}

/// Takes a tag off, if there is one. The VLAN's number, 0 for none.
fn take_off(frame: &mut Frame) -> u16 {
    match frame.bytes().first_chunk::<18>() {
        Some([.., a, b, high, low, _, _]) if [*a, *b] == DOT1Q => {
            let vid = u16::from_be_bytes([*high, *low]) & 0xfff;
            frame.cut_front::<ADDRESSES>(TAG);
            vid
        }
        _ => 0,
    }
}

/// Puts a tag on. False, and the frame is as it was, if there is no room.
fn put_on(frame: &mut Frame, vid: u16) -> bool {
    if frame.bytes().len() < ADDRESSES + 2 || !frame.grow_front::<ADDRESSES>(TAG) {
        return false;
    }
    if let Some(place) = frame.bytes_mut().get_mut(ADDRESSES..ADDRESSES + TAG) {
        let [high, low] = (vid & 0xfff).to_be_bytes();
        place.copy_from_slice(&[DOT1Q[0], DOT1Q[1], high, low]);
    }
    true
}

/// One interface on a trunk.
pub struct Lane<N: Nic + 'static> {
    trunk: &'static RefCell<Trunk<N>>,
    lane: usize,
    vid: u16,
    driver: &'static str,
    mac: MacAddr,
    link: Link,
    counters: Counters,
}

impl<N: Nic> Lane<N> {
    /// The lane of a VLAN, 0 for frames without one; `None` if the trunk has no such lane. There is one of each.
    pub fn new(trunk: &'static RefCell<Trunk<N>>, vid: u16) -> Option<Self> {
        let inner = trunk.borrow();
        let lane = inner.lots.iter().position(|lot| lot.vid == vid)?;
        Some(Lane {
            trunk,
            lane,
            vid,
            driver: inner.nic.driver(),
            mac: inner.nic.mac(),
            link: inner.nic.link(),
            counters: Counters::default(),
        })
    }
}

// Never inlined: an interface with VLANs may cost a call more, the code of all others must not grow by it.
impl<N: Nic> Nic for Lane<N> {
    fn driver(&self) -> &'static str {
        self.driver
    }

    #[inline]
    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn link(&self) -> Link {
        self.link
    }

    #[inline(never)]
    fn acknowledge(&mut self) {
        let mut trunk = self.trunk.borrow_mut();
        trunk.nic.acknowledge();
        self.link = trunk.nic.link();
        self.counters.rx_queue_full = trunk.lots[self.lane].queue_full;
        if self.vid == 0 {
            // What concerns the device as a whole is told by the lane that has its name.
            let device = trunk.nic.counters();
            self.counters.rx_other_vlan = trunk.strangers;
            self.counters.rx_other_station = device.rx_other_station;
            self.counters.rx_runt = device.rx_runt;
            self.counters.rx_bad_completion = device.rx_bad_completion;
            self.counters.tx_bad_completion = device.tx_bad_completion;
        }
    }

    #[inline(never)]
    fn waiting(&self) -> bool {
        let trunk = self.trunk.borrow();
        trunk.more || trunk.nic.waiting() || !trunk.lots[self.lane].frames.is_empty()
    }

    fn has_set_aside(&self) -> bool {
        let trunk = self.trunk.borrow();
        let full = trunk.lots.iter().any(|lot| !lot.frames.is_empty());
        trunk.more || trunk.nic.has_set_aside() || full
    }

    #[inline(never)]
    fn receive(&mut self, pool: &mut Pool) -> Option<Frame> {
        let frame = self.trunk.borrow_mut().receive(self.lane, pool)?;
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += frame.bytes().len() as u64;
        Some(frame)
    }

    #[inline(never)]
    fn transmit_space(&mut self, pool: &mut Pool) -> usize {
        self.trunk.borrow_mut().nic.transmit_space(pool)
    }

    #[inline(never)]
    fn transmit(&mut self, mut frame: Frame, pool: &mut Pool) {
        let bytes = frame.bytes().len() as u64;
        let mut trunk = self.trunk.borrow_mut();
        let fits = self.vid == 0 || put_on(&mut frame, self.vid);
        if !fits || trunk.nic.transmit_space(pool) == 0 {
            self.counters.tx_ring_full += 1;
            pool.put(frame);
            return;
        }
        trunk.nic.transmit(frame, pool);
        self.counters.tx_frames += 1;
        self.counters.tx_bytes += bytes;
    }

    #[inline(never)]
    fn flush(&mut self) {
        self.trunk.borrow_mut().nic.flush();
    }

    fn interrupt_on_space(&mut self, wanted: bool) {
        let mut trunk = self.trunk.borrow_mut();
        trunk.lots[self.lane].wants_space = wanted;
        let any = trunk.lots.iter().any(|lot| lot.wants_space);
        trunk.nic.interrupt_on_space(any);
    }

    fn set_coalescing(&mut self, coalescing: Coalescing) -> bool {
        self.trunk.borrow_mut().nic.set_coalescing(coalescing)
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    fn port_counter(&self, index: usize) -> Option<Count> {
        match self.vid {
            0 => self.trunk.borrow().nic.port_counter(index),
            _ => None,
        }
    }

    fn port_counters_at_us(&self) -> Option<u64> {
        match self.vid {
            0 => self.trunk.borrow().nic.port_counters_at_us(),
            _ => None,
        }
    }

    fn device(&self, number: usize) -> Option<&'static str> {
        self.trunk.borrow().nic.device(number)
    }

    fn device_counter(&self, number: usize, index: usize) -> Option<Count> {
        self.trunk.borrow().nic.device_counter(number, index)
    }

    fn refresh_counters(&self) {
        if self.vid == 0 {
            self.trunk.borrow().nic.refresh_counters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// What comes in is put there by the test; what goes out stays there.
    #[derive(Default)]
    struct Cable {
        incoming: VecDeque<Frame>,
        sent: std::vec::Vec<std::vec::Vec<u8>>,
        full: bool,
        wanted: bool,
        counters: Counters,
    }

    impl Nic for Cable {
        fn driver(&self) -> &'static str {
            "cable"
        }
        fn mac(&self) -> MacAddr {
            [2; 6]
        }
        fn link(&self) -> Link {
            Link::Down
        }
        fn acknowledge(&mut self) {}
        fn receive(&mut self, _: &mut Pool) -> Option<Frame> {
            self.incoming.pop_front()
        }
        fn transmit_space(&mut self, _: &mut Pool) -> usize {
            usize::from(!self.full)
        }
        fn transmit(&mut self, frame: Frame, pool: &mut Pool) {
            self.sent.push(frame.bytes().to_vec());
            pool.put(frame);
        }
        fn flush(&mut self) {}
        fn interrupt_on_space(&mut self, wanted: bool) {
            self.wanted = wanted;
        }
        fn counters(&self) -> &Counters {
            &self.counters
        }
        fn counters_mut(&mut self) -> &mut Counters {
            &mut self.counters
        }
    }

    struct Bench {
        trunk: &'static RefCell<Trunk<Cable>>,
        pool: Pool,
        lanes: [Lane<Cable>; 3],
    }

    fn bench() -> Bench {
        let trunk = Trunk::new(Cable::default(), [100, 4094].into_iter());
        let trunk: &'static _ = Box::leak(Box::new(RefCell::new(trunk)));
        let lane = |vid| Lane::new(trunk, vid).unwrap();
        assert!(Lane::new(trunk, 5).is_none());
        Bench {
            trunk,
            pool: Pool::new(80),
            lanes: [lane(0), lane(100), lane(4094)],
        }
    }

    fn plain(last: u8) -> std::vec::Vec<u8> {
        let mut frame = std::vec![2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 0x08, 0x00];
        frame.resize(60, last);
        frame
    }

    fn tagged(tci: u16, last: u8) -> std::vec::Vec<u8> {
        let mut frame = plain(last);
        let [high, low] = tci.to_be_bytes();
        frame.splice(12..12, [0x81, 0x00, high, low]);
        frame
    }

    impl Bench {
        fn arrive(&mut self, bytes: &[u8]) {
            let mut frame = self.pool.take().unwrap();
            assert!(frame.set_len(bytes.len()));
            frame.bytes_mut().copy_from_slice(bytes);
            self.trunk.borrow_mut().nic.incoming.push_back(frame);
        }

        fn take(&mut self, lane: usize) -> Option<std::vec::Vec<u8>> {
            let frame = self.lanes[lane].receive(&mut self.pool)?;
            let bytes = frame.bytes().to_vec();
            self.pool.put(frame);
            Some(bytes)
        }

        fn send(&mut self, lane: usize, bytes: &[u8]) {
            let mut frame = self.pool.take().unwrap();
            assert!(frame.set_len(bytes.len()));
            frame.bytes_mut().copy_from_slice(bytes);
            self.lanes[lane].transmit(frame, &mut self.pool);
        }
    }

    #[test]
    fn each_frame_reaches_the_lane_of_its_vlan_without_its_tag() {
        let mut bench = bench();
        bench.arrive(&tagged(100, 1));
        // Any priority, and CFI.
        bench.arrive(&tagged(0xf000 | 100, 2));
        bench.arrive(&plain(3));
        // A priority alone.
        bench.arrive(&tagged(0xe000, 4));
        bench.arrive(&tagged(4094, 5));
        bench.arrive(&tagged(101, 6));
        bench.arrive(&tagged(4095, 7));
        assert_eq!(bench.take(0), Some(plain(3)));
        assert_eq!(bench.take(0), Some(plain(4)));
        assert!(bench.lanes[1].waiting());
        assert!(bench.lanes[0].has_set_aside(), "it knows of the others'");
        assert_eq!(bench.take(0), None);
        assert_eq!(bench.take(1), Some(plain(1)));
        assert_eq!(bench.take(1), Some(plain(2)));
        assert_eq!(bench.take(1), None);
        assert_eq!(bench.take(2), Some(plain(5)));
        assert!(bench.lanes.iter().all(|lane| !lane.waiting()));
        assert!(!bench.lanes[0].has_set_aside());
        bench.lanes.iter_mut().for_each(Lane::acknowledge);
        let strangers = [0, 1, 2].map(|lane| bench.lanes[lane].counters().rx_other_vlan);
        assert_eq!(strangers, [2, 0, 0]);
        assert_eq!(bench.lanes[1].counters().rx_frames, 2);
        assert_eq!(bench.lanes[1].counters().rx_bytes, 120);
        assert_eq!(bench.pool.available(), 80, "no buffer is lost");
    }

    #[test]
    fn what_a_lane_sends_has_its_tag_and_is_counted_without() {
        let mut bench = bench();
        bench.send(0, &plain(1));
        bench.send(1, &plain(2));
        bench.send(2, &plain(3));
        let expected = [plain(1), tagged(100, 2), tagged(4094, 3)];
        assert_eq!(bench.trunk.borrow().nic.sent, expected);
        assert_eq!(bench.lanes[1].counters().tx_bytes, 60);
        bench.trunk.borrow_mut().nic.full = true;
        bench.send(1, &plain(4));
        // Shorter than its addresses.
        bench.trunk.borrow_mut().nic.full = false;
        bench.send(1, &[0; 13]);
        assert_eq!(bench.lanes[1].counters().tx_ring_full, 2);
        assert_eq!(bench.trunk.borrow().nic.sent.len(), 3);
        assert_eq!(bench.pool.available(), 80);
    }

    #[test]
    fn a_flood_of_one_vlan_fills_its_own_queue_and_ends_the_others_turn() {
        let mut bench = bench();
        (0..QUEUE as u8 + 10).for_each(|n| bench.arrive(&tagged(100, n)));
        bench.arrive(&plain(1));
        assert_eq!(bench.take(0), None);
        assert!(bench.lanes[0].waiting(), "its turn ended, its frame waits");
        assert!(bench.lanes[0].has_set_aside());
        assert_eq!(bench.take(0), Some(plain(1)));
        assert_eq!(bench.take(0), None);
        bench.lanes[1].acknowledge();
        assert_eq!(bench.lanes[1].counters().rx_queue_full, 10);
        assert_eq!(std::iter::from_fn(|| bench.take(1)).count(), QUEUE);
        assert_eq!(bench.pool.available(), 80);
    }

    #[test]
    fn the_device_interrupts_on_space_while_any_lane_wants_it() {
        let mut bench = bench();
        bench.lanes[0].interrupt_on_space(true);
        bench.lanes[2].interrupt_on_space(true);
        bench.lanes[0].interrupt_on_space(false);
        assert!(bench.trunk.borrow().nic.wanted);
        bench.lanes[2].interrupt_on_space(false);
        assert!(!bench.trunk.borrow().nic.wanted);
    }

    #[test]
    fn a_frame_cut_inside_its_tag_has_none() {
        let mut bench = bench();
        let cut = &tagged(100, 1)[..16];
        bench.arrive(cut);
        assert_eq!(bench.take(1), None);
        assert_eq!(bench.take(0).as_deref(), Some(cut));
    }
}
