//! The MAC driver against the model's MAC: strict, and under every reading of every doubt.

#[path = "board/mod.rs"]
mod board;
mod mac;

use board::readings;
use espressobin_model::doubts::Doubts;
use espressobin_model::neta::DOUBTS;
use espressobin_model::prng::Prng;
use hal::net::neta::{Coalescing, Config, Error, Fault, Filter, Neta, STALL_LIMIT_US};
use hal::net::phy::Pause;
use hal::net::{Link, Nic, Pool};
use hal::regs::Bus;
use mac::{OWN, Shared, echo, echoed, frame};

/// Runs a test under the defaults, under each other reading alone, and under all flipped.
fn under_every_reading(test: impl Fn(&str, Shared)) {
    for (name, doubts) in readings(DOUBTS.iter().copied()) {
        let wire = Shared::new(doubts);
        test(&name, wire.clone());
        wire.expect_no_guest_errors();
    }
}

fn defaults() -> Shared {
    Shared::new(Doubts::default())
}

#[test]
fn frames_are_echoed_under_every_reading() {
    under_every_reading(|name, wire| {
        let (mut port, mut pool) = wire.running::<16, 16>();
        let lengths = [60, 61, 64, 98, 590, 1514, 1526];
        // Once through the ring with all, so that a line left alone holds an older frame's bytes.
        let lengths = lengths.into_iter().cycle().take(7 * 16);
        for (number, len) in lengths.enumerate() {
            let sent = frame(OWN, number as u32, len);
            wire.arrive(&sent);
            wire.pass_us(1);
            assert!(wire.interrupted(), "{name}");
            assert_eq!(echo(&mut port, &mut pool), 1, "{name}, {len} bytes");
            assert_eq!(wire.departed(), Some(echoed(&sent)), "{name}, {len} bytes");
            assert!(!wire.interrupted(), "{name}");
        }
    });
}

/// Bursts of every length up to more than the ring holds, until the ring has wrapped `laps` times.
#[expect(clippy::unwrap_used, reason = "part of each test")]
fn wrap<const SIZE: usize>(wire: &Shared, laps: usize) {
    let (mut port, mut pool) = wire.running::<SIZE, SIZE>();
    let before = pool.available();
    let mut chance = Prng::new(SIZE as u64);
    let (mut number, mut lost) = (0u32, 0);
    while (number as usize) < laps * SIZE {
        let burst = 1 + chance.below(SIZE as u64 + SIZE as u64 / 4) as usize;
        let sent: Vec<_> = (0..burst)
            .map(|_| {
                number += 1;
                frame(OWN, number, 60 + chance.below(40) as usize)
            })
            .collect();
        sent.iter().for_each(|frame| wire.arrive(frame));
        lost += burst.saturating_sub(SIZE);
        let mut expected = sent.iter().take(SIZE);
        while echo(&mut port, &mut pool) > 0 {}
        // One place of the transmit ring stays free, so a burst of all places loses its last frame there.
        while let Some(answer) = wire.departed() {
            assert_eq!(Some(answer), expected.next().map(|frame| echoed(frame)));
        }
        assert!(expected.count() <= 1);
    }
    port.check(wire.now_us()).unwrap();
    assert_eq!(port.mib().rx_discard, lost as u64);
    assert_eq!(
        port.counters().rx_frames,
        u64::from(number) - lost as u64,
        "every frame that found a descriptor arrived"
    );
    port.stop(&mut wire.clone(), &mut pool).unwrap();
    assert_eq!(pool.available(), before + SIZE, "no buffer is lost");
    wire.expect_no_guest_errors();
}

#[test]
fn rings_of_every_size_wrap() {
    wrap::<16>(&defaults(), 6_000);
    wrap::<64>(&defaults(), 500);
    wrap::<512>(&defaults(), 60);
}

#[test]
fn rings_of_every_size_wrap_ten_thousand_times() {
    wrap::<16>(&defaults(), 50_000);
    wrap::<64>(&defaults(), 20_000);
    wrap::<512>(&defaults(), 10_000);
}

#[test]
fn rings_wrap_under_every_reading() {
    under_every_reading(|_, wire| wrap::<16>(&wire, 50));
}

#[test]
fn a_lone_frame_is_not_held_back_by_a_threshold() {
    under_every_reading(|name, wire| {
        let (mut port, mut pool) = wire.running::<64, 64>();
        for (rx_packets, rx_time_us) in [(0, 0), (1, 0), (1, 100), (8, 0), (8, 100), (32, 60_000)] {
            port.set_coalescing(Coalescing {
                rx_packets,
                rx_time_us,
            });
            wire.arrive(&frame(OWN, 1, 60));
            if rx_packets <= 1 {
                wire.pass_us(1);
                assert!(wire.interrupted(), "{name}: at once");
            }
            wire.pass_us(u64::from(rx_time_us) + 1);
            assert!(
                wire.interrupted(),
                "{name}: {rx_packets} in {rx_time_us} us"
            );
            assert_eq!(echo(&mut port, &mut pool), 1);
            // A full threshold does not wait for the timer.
            (0..rx_packets).for_each(|n| wire.arrive(&frame(OWN, n.into(), 60)));
            wire.pass_us(u64::from(rx_packets == 1));
            assert_eq!(wire.interrupted(), rx_packets > 0, "{name}");
            echo(&mut port, &mut pool);
        }
    });
}

#[test]
fn the_line_is_up_exactly_as_long_as_frames_wait() {
    under_every_reading(|name, wire| {
        let (mut port, mut pool) = wire.running::<16, 16>();
        wire.arrive(&frame(OWN, 1, 60));
        port.acknowledge();
        wire.arrive(&frame(OWN, 2, 60));
        // One of two, as at the end of a budget: the loop comes back by itself.
        let first = port.receive(&mut pool).unwrap();
        port.flush();
        wire.pass_us(1);
        assert!(wire.interrupted(), "{name}");
        pool.put(first);
        let second = port.receive(&mut pool).unwrap();
        assert!(port.receive(&mut pool).is_none());
        // From here on the interrupt controller lets the line through again.
        assert!(!wire.interrupted(), "{name}: nothing is left");
        wire.arrive(&frame(OWN, 3, 60));
        port.flush();
        wire.pass_us(1);
        assert!(
            wire.interrupted(),
            "{name}: the frame in between is not lost"
        );
        pool.put(second);
        assert_eq!(echo(&mut port, &mut pool), 1, "{name}");
    });
}

#[test]
fn a_full_transmit_ring_counts_and_tells_when_it_has_room() {
    under_every_reading(|name, wire| {
        let (mut port, mut pool) = wire.running::<16, 16>();
        wire.faults("neta-tx-stall");
        wire.arrive(&frame(OWN, 0, 60));
        port.acknowledge();
        let mut pool_of_frames = Pool::new(20);
        for _ in 0..20 {
            let mut frame = pool_of_frames.take().unwrap();
            frame.set_len(60);
            port.transmit(frame, &mut pool);
        }
        assert_eq!(port.counters().tx_ring_full, 5, "{name}");
        port.interrupt_on_space(true);
        port.flush();
        assert!(
            !wire.interrupted(),
            "{name}: received frames are not asked for"
        );
        wire.faults("");
        wire.pass_us(1);
        assert!(wire.interrupted(), "{name}: room");
        port.acknowledge();
        assert_eq!(port.transmit_space(&mut pool), 15);
        port.interrupt_on_space(false);
        assert_eq!(echo(&mut port, &mut pool), 1);
        assert!(!wire.interrupted());
    });
}

#[test]
fn no_buffer_leaves_the_frame_in_the_ring() {
    let wire = defaults();
    let (mut port, mut pool) = wire.running::<16, 16>();
    let mut kept = Vec::new();
    while let Some(frame) = pool.take() {
        kept.push(frame);
    }
    wire.arrive(&frame(OWN, 7, 60));
    port.acknowledge();
    assert!(port.receive(&mut pool).is_none());
    port.flush();
    assert_eq!(port.driver_counters().rx_no_buffer, 1);
    assert!(wire.interrupted(), "the loop must come back");
    pool.put(kept.pop().unwrap());
    assert_eq!(echo(&mut port, &mut pool), 1);
    wire.expect_no_guest_errors();
}

#[test]
fn the_core_sees_every_byte_that_the_mac_wrote() {
    let wire = defaults();
    let (mut port, mut pool) = wire.running::<16, 16>();
    for len in (60..=1526).chain((60..=1526).rev()) {
        let sent = frame(OWN, len as u32, len);
        wire.arrive(&sent);
        let mut got = port.receive(&mut pool).unwrap();
        assert_eq!(got.bytes(), sent);
        // A service writes over it: the lines are dirty when the buffer goes back.
        got.bytes_mut().fill(0xa5);
        pool.put(got);
    }
    wire.expect_no_guest_errors();
}

#[test]
fn a_completion_that_was_not_written_is_no_frame() {
    let wire = defaults();
    let (mut port, mut pool) = wire.running::<16, 16>();
    for n in 0..40 {
        wire.arrive(&frame(OWN, n, 60));
        assert_eq!(echo(&mut port, &mut pool), 1);
    }
    wire.0.borrow_mut().lie = Some(1);
    port.acknowledge();
    assert!(port.receive(&mut pool).is_none());
    assert!(port.driver_counters().rx_part > 0);
}

#[test]
fn a_burst_as_long_as_the_ring_does_not_starve_it() {
    let wire = defaults();
    let (mut port, mut pool) = wire.running::<16, 64>();
    (0..16).for_each(|n| wire.arrive(&frame(OWN, n, 60)));
    port.acknowledge();
    for n in 0..200 {
        let taken = port.receive(&mut pool).unwrap();
        pool.put(taken);
        // As many arrive as are taken, half a ring behind.
        if n >= 8 {
            wire.arrive(&frame(OWN, n, 60));
        }
    }
    port.check(wire.now_us()).unwrap();
    assert_eq!(port.mib().rx_discard, 0);
    wire.expect_no_guest_errors();
}

#[test]
fn an_echo_costs_four_register_accesses() {
    let wire = defaults();
    let (mut port, mut pool) = wire.running::<64, 64>();
    wire.arrive(&frame(OWN, 1, 60));
    let before = wire.0.borrow().accesses;
    echo(&mut port, &mut pool);
    // Count, release, count again, doorbell.
    assert_eq!(wire.0.borrow().accesses - before, 4);
    let before = wire.0.borrow().accesses;
    (0..32).for_each(|n| wire.arrive(&frame(OWN, n, 60)));
    echo(&mut port, &mut pool);
    let burst = wire.0.borrow().accesses - before;
    assert!(burst <= 7, "32 frames take {burst} accesses");
}

#[test]
fn a_boot_loader_that_left_everything_running_is_stopped_first() {
    under_every_reading(|name, wire| {
        let mut bus = wire.clone();
        // U-Boot's rings, of 16 descriptors, somewhere in memory; a window with another base; both force bits set.
        let (ring, buffer) = (0x8000_1000_u32, 0x8000_4000_u32);
        let mut memory = vec![0; 0x8000];
        for n in 0..16 {
            memory[0x1008 + 32 * n..][..4].copy_from_slice(&buffer.to_le_bytes());
        }
        wire.0.borrow_mut().memory.loader = memory;
        wire.0.borrow_mut().memory.loader_range = 0x8000_0000..0x8000_8000;
        for (offset, value) in [
            (0x2200, 0x8000_0000),
            (0x2204, 0x3fff_0000),
            (0x2294, 3),
            (0x2290, 0x3e),
            (0x2540, 0xffff),
            (0x2500, 1),
            (0x2400, 1),
            (0x241c, 0x0100_0038),
            (0x1480, ring),
            (0x14a0, 16 | (1536 / 8) << 19),
            (0x1500, 16 << 16),
            (0x3c00, 0x8000_2000),
            (0x3c20, 16),
            (0x2c08, 0xc010),
            (0x2c0c, 0x9043),
            (0x2448, 1),
            (0x2680, 1),
            (0x25b8, 0xffff),
            (0x25a4, 0xff00),
        ] {
            bus.write(offset, value);
        }
        let limit = bus.read(0x2c00);
        bus.write(0x2c00, limit | 1);
        wire.arrive(&frame(OWN, 1, 60));
        let written = wire.0.borrow().memory.loader_writes;
        let down = name.contains("force-both:down") || name == "everything flipped";
        assert_eq!(written > 0, !down, "{name}: the loader's ring was in use");

        let (mut port, mut pool) = wire.running::<16, 16>();
        let written = wire.0.borrow().memory.loader_writes;
        for n in 0..40 {
            wire.arrive(&frame(OWN, n, 60));
            assert_eq!(echo(&mut port, &mut pool), 1, "{name}");
        }
        assert_eq!(wire.0.borrow().memory.loader_writes, written, "{name}");
    });
}

#[test]
fn rings_are_written_only_after_everything_stopped() {
    let wire = defaults();
    let (mut port, mut pool) = wire.running::<16, 16>();
    wire.0.borrow_mut().writes = Some(Vec::new());
    port.bring_up(&mut wire.clone(), &mut pool).unwrap();
    let writes = wire.0.borrow_mut().writes.take().unwrap();
    let at = |offset: u32, value: u32| {
        writes
            .iter()
            .position(|write| *write == (offset, value))
            .unwrap_or_else(|| panic!("{offset:#x} = {value:#x} was not written"))
    };
    let first = |offset: u32| writes.iter().position(|(o, _)| *o == offset).unwrap();
    let order = [
        first(0x25a4),
        at(0x2680, 0x100),
        at(0x2448, 0x100),
        at(0x1cc0, 1),
        at(0x1cc0, 0),
        first(0x1480),
        first(0x1500),
        at(0x2448, 1),
        at(0x2680, 1),
        at(0x25a4, 0x100),
    ];
    assert!(order.is_sorted(), "{order:?}");
    wire.expect_no_guest_errors();
}

#[test]
fn a_stuck_reset_is_an_error_not_a_hang() {
    let wire = defaults();
    let mut pool = Pool::new(40);
    let mut port = wire.port::<16, 16>(Config::conduit(OWN, 250_000_000));
    wire.faults("neta-reset-stuck");
    assert_eq!(
        port.bring_up(&mut wire.clone(), &mut pool),
        Err(Error::PortReset {
            mac_control_2: 0xc050
        })
    );
    assert_eq!((pool.available(), port.link()), (40, Link::Down));
    wire.faults("");
    port.bring_up(&mut wire.clone(), &mut pool).unwrap();
    wire.expect_no_guest_errors();
}

#[test]
fn a_queue_that_does_not_stop_keeps_its_buffers() {
    let wire = defaults();
    let (mut port, mut pool) = wire.running::<16, 16>();
    let before = pool.available();
    wire.faults("neta-queue-stuck");
    let start = wire.now_us();
    assert_eq!(
        port.restart(&mut wire.clone(), &mut pool),
        Err(Error::RxQueueStuck { command: 1 })
    );
    assert!(wire.now_us() - start < 1_000_000, "bounded");
    assert_eq!(
        pool.available(),
        before,
        "the MAC may still write into them"
    );
    // The poll loop does not know, and goes on.
    assert_eq!(echo(&mut port, &mut pool), 0);
    let frame_out = pool.take().unwrap();
    port.transmit(frame_out, &mut pool);
    port.flush();
    assert_eq!(port.check(wire.now_us()), Ok(()));
    assert_eq!(port.driver_counters().tx_stopped, 1);
    wire.faults("");
    port.restart(&mut wire.clone(), &mut pool).unwrap();
    assert_eq!(pool.available(), before);
    wire.arrive(&frame(OWN, 1, 60));
    assert_eq!(echo(&mut port, &mut pool), 1);
    wire.expect_no_guest_errors();
}

#[test]
fn a_fifo_that_stays_full_is_counted_and_passed_over() {
    let wire = defaults();
    wire.faults("neta-tx-fifo");
    let (port, _) = wire.running::<16, 16>();
    assert_eq!(port.driver_counters().fifo_stuck, 1);
    wire.expect_no_guest_errors();
}

#[test]
fn too_few_buffers_are_an_error_and_come_back() {
    let wire = defaults();
    let mut pool = Pool::new(15);
    let mut port = wire.port::<16, 16>(Config::conduit(OWN, 250_000_000));
    assert_eq!(
        port.bring_up(&mut wire.clone(), &mut pool),
        Err(Error::NoBuffers)
    );
    assert_eq!(pool.available(), 15);
    pool.grow(1);
    port.bring_up(&mut wire.clone(), &mut pool).unwrap();
    wire.expect_no_guest_errors();
}

#[test]
fn a_transmit_stall_is_found_dumped_and_repaired() {
    under_every_reading(|name, wire| {
        let (mut port, mut pool) = wire.running::<16, 16>();
        let buffers = pool.available();
        wire.faults("neta-tx-stall");
        for n in 0..3 {
            wire.arrive(&frame(OWN, n, 60));
        }
        echo(&mut port, &mut pool);
        assert_eq!(port.check(wire.now_us()), Ok(()), "{name}: not at once");
        wire.pass_us(STALL_LIMIT_US);
        assert_eq!(
            port.check(wire.now_us()),
            Err(Fault::TxStall { pending: 3 }),
            "{name}"
        );
        let [_, tx] = port.dump();
        assert_eq!((tx.in_flight, tx.oldest, tx.status), (3, 0, 3), "{name}");
        assert!(tx.to_string().starts_with("tx queue 0: 3 of 16 in flight"));
        port.restart(&mut wire.clone(), &mut pool).unwrap();
        wire.faults("");
        let counted = port.driver_counters();
        assert_eq!(
            (counted.tx_stalls, counted.tx_lost, counted.restarts),
            (1, 3, 1)
        );
        assert_eq!(pool.available(), buffers, "{name}");
        while wire.departed().is_some() {}
        let sent = frame(OWN, 9, 60);
        wire.arrive(&sent);
        assert_eq!(echo(&mut port, &mut pool), 1);
        assert_eq!(wire.departed(), Some(echoed(&sent)), "{name}");
        wire.pass_us(2 * STALL_LIMIT_US);
        assert_eq!(port.check(wire.now_us()), Ok(()), "{name}");
    });
}

#[test]
fn receive_starvation_is_found_and_repaired() {
    under_every_reading(|name, wire| {
        let (mut port, mut pool) = wire.running::<16, 16>();
        wire.faults("neta-rx-resource");
        let mut found = None;
        for n in 0..10 {
            wire.arrive(&frame(OWN, n, 60));
            echo(&mut port, &mut pool);
            found = found.or(port.check(wire.now_us()).err());
            wire.pass_us(100_000);
        }
        assert_eq!(found, Some(Fault::RxStarved { discarded: 6 }), "{name}");
        wire.faults("");
        port.restart(&mut wire.clone(), &mut pool).unwrap();
        wire.arrive(&frame(OWN, 1, 60));
        assert_eq!(echo(&mut port, &mut pool), 1, "{name}");
        assert_eq!(port.check(wire.now_us()), Ok(()));
        assert_eq!(port.driver_counters().rx_starvations, 1);
    });
}

#[test]
fn overload_is_not_mistaken_for_starvation() {
    let wire = defaults();
    let (mut port, mut pool) = wire.running::<16, 16>();
    let mut taken = 0;
    for round in 0..50 {
        (0..40).for_each(|n| wire.arrive(&frame(OWN, round * 40 + n, 60)));
        taken += echo(&mut port, &mut pool);
        wire.pass_us(50_000);
        assert_eq!(port.check(wire.now_us()), Ok(()));
    }
    port.collect_counters();
    let mib = port.mib();
    assert_eq!(taken as u64 + mib.rx_discard, 50 * 40);
    assert_eq!(
        mib.get("mib_rx_good"),
        Some(50 * 40),
        "drops are accounted for"
    );
    wire.expect_no_guest_errors();
}

#[test]
fn a_lost_interrupt_is_noticed() {
    let wire = defaults();
    let (mut port, mut pool) = wire.running::<16, 16>();
    wire.arrive(&frame(OWN, 1, 60));
    assert_eq!(port.check(wire.now_us()), Ok(()));
    wire.pass_us(STALL_LIMIT_US);
    assert_eq!(
        port.check(wire.now_us()),
        Err(Fault::LostInterrupt { occupied: 1 })
    );
    assert_eq!(echo(&mut port, &mut pool), 1);
    wire.pass_us(STALL_LIMIT_US);
    assert_eq!(port.check(wire.now_us()), Ok(()));
}

#[test]
fn the_filter_lets_in_what_was_asked_for() {
    under_every_reading(|name, wire| {
        let (mut port, mut pool) = wire.running::<16, 16>();
        let neighbour = [2, 0, 0, 0, 0, 0x1b];
        let stranger = [2, 0, 0, 0, 1, 0x10];
        let special = [1, 0, 0x5e, 0, 0, 0xfb];
        let other = [0x33, 0x33, 0, 0, 0, 0xfb];
        let unrelated = [0x33, 0x33, 0, 0, 0, 1];
        let broadcast = [0xff; 6];
        let mut takes = |port: &mut mac::Port<16, 16>, to| {
            wire.arrive(&frame(to, 0, 60));
            echo(port, &mut pool) == 1
        };
        for (to, expected) in [
            (OWN, true),
            (neighbour, false),
            (stranger, false),
            (special, true),
            (other, true),
            (broadcast, true),
        ] {
            assert_eq!(takes(&mut port, to), expected, "{name}: {to:x?}");
        }
        let mut filter = Filter::new(OWN);
        assert!(filter.accept(neighbour) && filter.accept(special) && filter.accept(other));
        assert!(!filter.accept(stranger), "only the low nibble may differ");
        port.set_filter(filter);
        for (to, expected) in [
            (OWN, true),
            (neighbour, true),
            (stranger, false),
            (special, true),
            (other, true),
            (unrelated, false),
            (broadcast, true),
        ] {
            assert_eq!(takes(&mut port, to), expected, "{name}: {to:x?}");
        }
        filter.set_promiscuous(true);
        port.set_filter(filter);
        assert!(
            takes(&mut port, stranger) && takes(&mut port, unrelated),
            "{name}"
        );
        filter.set_promiscuous(false);
        port.set_filter(filter);
        assert!(
            !takes(&mut port, stranger) && takes(&mut port, OWN),
            "{name}"
        );
    });
}

#[test]
fn damaged_frames_are_counted_by_kind_and_lose_no_buffer() {
    under_every_reading(|name, wire| {
        let (mut port, mut pool) = wire.running::<16, 16>();
        for n in 0..100 {
            wire.arrive_as(&frame(OWN, n, 60), true);
            wire.arrive(&frame(OWN, n, 1700));
            wire.arrive(&frame(OWN, n, 9000));
            let good = frame(OWN, n, 60);
            wire.arrive(&good);
            assert_eq!(echo(&mut port, &mut pool), 1, "{name}");
            assert_eq!(wire.departed(), Some(echoed(&good)), "{name}");
        }
        port.check(wire.now_us()).unwrap();
        let counted = *port.driver_counters();
        port.collect_counters();
        let mib = *port.mib();
        let get = |name| mib.get(name).unwrap();
        assert_eq!(get("mib_rx_crc"), 100, "{name}");
        assert_eq!(get("mib_rx_oversize"), 200, "{name}");
        assert_eq!(get("mib_rx_good"), 100, "{name}");
        if name == "defaults" {
            assert_eq!((counted.rx_crc, mib.rx_discard), (100, 0));
            // Both kinds of long frames take several descriptors, of 1536 bytes each.
            assert_eq!(counted.rx_part, 100 * (2 + 6));
        }
        if name == "neta-oversize:truncate" {
            assert_eq!(counted.rx_too_long, 200);
        }
    });
}

#[test]
fn descriptors_may_say_anything() {
    let wire = defaults();
    let (mut port, mut pool) = wire.running::<16, 16>();
    let mut chance = Prng::new(5);
    let mut arrived = 0;
    for _ in 0..10_000 {
        let burst = chance.below(12) as usize;
        (0..burst).for_each(|n| wire.arrive(&frame(OWN, n as u32, 60)));
        arrived += burst as u64;
        for place in 0..16 {
            // Often a whole frame of any length, sometimes any bits at all.
            let status = match chance.below(4) {
                0 => chance.next_u64() as u32,
                _ => 0x0c00_0000,
            };
            wire.spoil(0, place, 0, status);
            wire.spoil(0, place, 1, chance.next_u64() as u32);
        }
        while echo(&mut port, &mut pool) > 0 {}
        while wire.departed().is_some() {}
    }
    let counted = port.driver_counters();
    let lost: u64 = counted
        .each()
        .filter(|(name, _, _)| name.starts_with("rx_"))
        .map(|(_, _, value)| value)
        .sum();
    assert_eq!(port.counters().rx_frames + lost, arrived);
    assert!(counted.rx_bad_length > 0 && counted.rx_runt > 0 && counted.rx_part > 0);
    assert!(counted.rx_crc > 0 && counted.rx_overrun > 0 && counted.rx_too_long > 0);
    port.stop(&mut wire.clone(), &mut pool).unwrap();
    assert_eq!(pool.available(), 16 + 16 + 8, "no buffer is lost");
    wire.expect_no_guest_errors();
}

#[test]
fn counts_may_say_anything() {
    let wire = defaults();
    let (mut port, mut pool) = wire.running::<16, 16>();
    let mut chance = Prng::new(6);
    for _ in 0..5_000 {
        wire.0.borrow_mut().lie = (chance.below(3) == 0).then(|| chance.next_u64() as u32);
        wire.arrive(&frame(OWN, 1, 60));
        port.acknowledge();
        // A lie has no end; a budget has.
        for _ in 0..64 {
            let Some(frame) = port.receive(&mut pool) else {
                break;
            };
            port.transmit(frame, &mut pool);
        }
        port.flush();
        let _ = port.check(wire.now_us());
        // It reads the count too, but what the next round takes first was seen, with its barrier, before that.
        wire.0.borrow_mut().observed = true;
    }
    let counted = port.driver_counters();
    assert!(counted.rx_bad_status > 0 && counted.tx_bad_status > 0);
    assert!(counted.rx_part > 0, "what was not written is no frame");
    wire.0.borrow_mut().lie = None;
    port.restart(&mut wire.clone(), &mut pool).unwrap();
    while wire.departed().is_some() {}
    let sent = frame(OWN, 1, 60);
    wire.arrive(&sent);
    assert_eq!(echo(&mut port, &mut pool), 1);
    assert_eq!(wire.departed(), Some(echoed(&sent)), "a restart cures it");
}

#[test]
fn overruns_and_octets_add_up_beyond_32_bits() {
    let wire = defaults();
    let (mut port, mut pool) = wire.running::<16, 16>();
    wire.faults("neta-rx-overrun=2");
    for n in 0..10 {
        wire.arrive(&frame(OWN, n, 60));
        echo(&mut port, &mut pool);
        port.collect_counters();
    }
    let mib = port.mib();
    assert_eq!(mib.rx_fifo_overrun, 5);
    assert_eq!(mib.get("mib_rx_bytes"), Some(640));
    assert_eq!(mib.get("mib_tx_good"), Some(5));
    assert_eq!(mib.get("no such counter"), None);
    // The high word of a 64-bit counter stands in the register behind it.
    let mut words = |offset: u32| match offset {
        0x3000 => 5,
        0x3004 => 1,
        0x3038 => 6,
        0x303c => 2,
        _ => 0,
    };
    struct Words<'a>(&'a mut dyn FnMut(u32) -> u32);
    impl Bus for Words<'_> {
        fn read(&mut self, offset: u32) -> u32 {
            (self.0)(offset)
        }
        fn write(&mut self, _: u32, _: u32) {}
    }
    let mut mib = hal::net::neta::Mib::default();
    mib.collect(&mut Words(&mut words));
    mib.collect(&mut Words(&mut words));
    assert_eq!(mib.get("mib_rx_bytes"), Some(2 * ((1 << 32) + 5)));
    assert_eq!(mib.get("mib_tx_bytes"), Some(2 * ((2 << 32) + 6)));
}

#[test]
fn refused_dma_is_counted_with_its_address() {
    let wire = Shared::new(Doubts::default());
    let (mut port, mut pool) = wire.running::<16, 16>();
    wire.faults("dma-error*1");
    wire.arrive(&frame(OWN, 1, 60));
    assert_eq!(echo(&mut port, &mut pool), 0);
    port.check(wire.now_us()).unwrap();
    assert_eq!(port.driver_counters().dma_errors, 1);
    assert!(port.last_dma_error().is_some());
    wire.arrive(&frame(OWN, 2, 60));
    assert_eq!(echo(&mut port, &mut pool), 1);
}

#[test]
fn other_speeds_and_pause_are_as_configured() {
    for (speed_mbps, full_duplex) in [(1000, true), (100, true), (100, false), (10, false)] {
        let wire = defaults();
        let config = Config {
            speed_mbps,
            full_duplex,
            pause: true,
            ..Config::conduit(OWN, 250_000_000)
        };
        let mut port = wire.port::<16, 16>(config);
        port.bring_up(&mut wire.clone(), &mut Pool::new(16))
            .unwrap();
        assert_eq!(
            port.link(),
            Link::Up {
                speed_mbps,
                full_duplex,
                pause: Pause { tx: true, rx: true }
            }
        );
        assert_ne!(wire.register(0x2c0c) & 1 << 8, 0);
        wire.expect_no_guest_errors();
    }
}

#[test]
fn short_frames_are_padded_under_every_reading() {
    under_every_reading(|name, wire| {
        let (mut port, mut pool) = wire.running::<16, 16>();
        let mut frame = pool.take().unwrap();
        frame.set_len(42);
        frame.bytes_mut().fill(7);
        port.transmit(frame, &mut pool);
        port.flush();
        let sent = wire.departed().unwrap();
        assert_eq!((sent.len(), &sent[..42]), (60, &[7; 42][..]), "{name}");
    });
}

#[test]
fn priorities_of_a_boot_loader_do_not_divert_frames() {
    under_every_reading(|name, wire| {
        let mut bus = wire.clone();
        for offset in (0x2420..=0x2438).step_by(4).chain([0x2440]) {
            bus.write(offset, 0x3fff_ffff);
        }
        // An EtherType to queue 7.
        bus.write(0x24bc, 0x88b5 << 5 | 7 << 2 | 1);
        let (mut port, mut pool) = wire.running::<16, 16>();
        let mut vlan = frame(OWN, 1, 64);
        vlan[12..16].copy_from_slice(&[0x81, 0, 0xe0, 5]);
        let mut voice = frame(OWN, 2, 64);
        voice[12..16].copy_from_slice(&[8, 0, 0x45, 0xb8]);
        for sent in [vlan, voice, frame(OWN, 3, 64)] {
            wire.arrive(&sent);
            assert_eq!(echo(&mut port, &mut pool), 1, "{name}");
        }
    });
}

#[test]
fn frames_of_impossible_length_are_not_sent() {
    let wire = defaults();
    let (mut port, mut pool) = wire.running::<16, 16>();
    for len in [0, 13, 1527, 1900] {
        let mut frame = pool.take().unwrap();
        assert!(frame.set_len(len));
        port.transmit(frame, &mut pool);
    }
    port.flush();
    assert_eq!(port.driver_counters().tx_bad_length, 4);
    assert_eq!(wire.departed(), None);
    wire.expect_no_guest_errors();
}

#[test]
fn what_does_not_fit_is_refused_before_the_hardware_is_touched() {
    let wire = defaults();
    let endless = Config {
        max_frame_bytes: usize::MAX,
        ..Config::conduit(OWN, 250_000_000)
    };
    let config = Config {
        max_frame_bytes: 1977,
        ..Config::conduit(OWN, 250_000_000)
    };
    let port = |config, len| {
        hal::net::neta::Neta::<_, _, 16, 16>::new(
            wire.clone(),
            wire.clone(),
            config,
            wire.ring(len),
            wire.ring(16),
        )
        .err()
    };
    assert_eq!(
        port(config, 16),
        Some(Error::FrameTooLong {
            max_frame_bytes: 1977
        })
    );
    assert_eq!(
        port(Config::conduit(OWN, 250_000_000), 15),
        Some(Error::RingLength {
            len: 15,
            wanted: 16
        })
    );
    assert!(port(endless, 16).is_some());
    assert_eq!(wire.0.borrow().accesses, 0);
}

#[test]
fn in_loopback_frames_come_back_through_a_restart_until_it_is_taken_back() {
    under_every_reading(|name, wire| {
        let (mut port, mut pool) = wire.running::<16, 16>();
        let returns = |port: &mut Neta<_, _, 16, 16>, pool: &mut Pool| {
            let mut sent = pool.take().unwrap();
            assert!(sent.set_len(60));
            sent.bytes_mut().copy_from_slice(&frame([0xff; 6], 1, 60));
            assert!(port.send(sent, pool));
            Nic::flush(port);
            wire.pass_us(1_000);
            let back = port.receive(pool);
            let came = back.is_some();
            back.into_iter().for_each(|frame| pool.put(frame));
            Nic::flush(port);
            came
        };
        port.set_loopback(true);
        assert!(returns(&mut port, &mut pool), "{name}");
        port.restart(&mut wire.clone(), &mut pool).unwrap();
        assert!(port.loopback() && returns(&mut port, &mut pool), "{name}");
        port.set_loopback(false);
        assert!(!returns(&mut port, &mut pool), "{name}");
        wire.expect_no_guest_errors();
    });
}

#[test]
fn registers_are_shown_by_name_and_showing_them_changes_nothing() {
    let wire = defaults();
    let (mut port, mut pool) = wire.running::<16, 16>();
    wire.arrive(&frame(OWN, 1, 60));
    let mut shown = Vec::new();
    for _ in 0..2 {
        let mut registers = std::collections::BTreeMap::new();
        port.registers(&mut |name, offset, value| {
            assert!(registers.insert(name, (offset, value)).is_none(), "{name}");
        });
        shown.push(registers);
    }
    assert_eq!(shown[0], shown[1]);
    assert_eq!(shown[0]["rxq_status"], (0x14e0, 15 << 16 | 1));
    assert_eq!(shown[0]["mac_status"].1 & 1, 1);
    assert_eq!(echo(&mut port, &mut pool), 1);
    port.collect_counters();
    let mib = port.mib().each().find(|counter| counter.0 == "mib_rx_good");
    assert_eq!(mib.map(|counter| counter.2), Some(1));
    wire.expect_no_guest_errors();
}
