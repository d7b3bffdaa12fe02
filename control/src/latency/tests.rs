//! The accounts, with a card that sends when it is told to.

use super::*;
use hal::net::{Counters, Frame, Link, MacAddr};

/// Knows no frames, only how many.
#[derive(Default)]
struct Card {
    queued: u64,
    sent: u64,
    counters: Counters,
}

impl Nic for Card {
    fn driver(&self) -> &'static str {
        "card"
    }
    fn mac(&self) -> MacAddr {
        [0; 6]
    }
    fn link(&self) -> Link {
        Link::Down
    }
    fn acknowledge(&mut self) {}
    fn receive(&mut self, _pool: &mut Pool) -> Option<Frame> {
        None
    }
    fn transmit_space(&mut self, _pool: &mut Pool) -> usize {
        1
    }
    fn transmit(&mut self, _frame: Frame, _pool: &mut Pool) {}
    fn sent(&mut self, _pool: &mut Pool) -> Option<(u64, u64)> {
        Some((self.queued, self.sent))
    }
    fn flush(&mut self) {}
    fn interrupt_on_space(&mut self, _wanted: bool) {}
    fn counters(&self) -> &Counters {
        &self.counters
    }
    fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }
}

const FACTS: Facts = Facts {
    cycles_hz: 1_000_000,
    ticks_hz: 1_000_000,
    emulated: Some("a test"),
};

struct Bench {
    latency: Latency,
    answers: Answers,
    card: Card,
    pool: Pool,
}

impl Bench {
    fn new(mode: Mode) -> Self {
        Bench {
            latency: Latency::new(mode, FACTS),
            answers: Answers::default(),
            card: Card::default(),
            pool: Pool::new(0),
        }
    }

    fn begin(&mut self, interrupted: bool) {
        self.latency.begin(7_000);
        self.latency.start(&mut self.answers, interrupted);
    }

    fn rang(&mut self) {
        let Bench {
            latency,
            answers,
            card,
            pool,
        } = self;
        latency.rang(answers, 0, card, pool);
    }

    /// One reply made in place, in a round of its own.
    fn reply(&mut self, interrupted: bool) {
        self.begin(interrupted);
        let (harvest, reply) = (clock::cycles(), clock::cycles());
        let kind = Kind::Udp;
        self.answers.push(InPlace {
            harvest,
            reply,
            kind,
        });
        self.card.queued += 1;
        self.rang();
    }

    fn stage(&self, kind: Kind, stage: Stage) -> Summary {
        self.latency.stages[kind as usize * STAGES + stage as usize].summary()
    }

    fn counts(&self, kind: Kind) -> [u64; STAGES] {
        core::array::from_fn(|stage| {
            self.latency.stages[kind as usize * STAGES + stage]
                .summary()
                .count
        })
    }

    fn sum(&self, kind: Kind, stages: &[Stage]) -> u64 {
        stages
            .iter()
            .map(|stage| self.stage(kind, *stage).sum)
            .sum()
    }

    fn json(&self) -> String {
        let mut buffer = vec![0; crate::http::MAX_ANSWER];
        let mut out = crate::http::Out::new(&mut buffer);
        json(&mut out, &self.latency, &[], 8_000_000);
        let len = out.finish().unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }
}

#[test]
fn the_stages_of_a_reply_add_up_to_its_total() {
    use Stage::*;
    let mut bench = Bench::new(Mode::Full);
    bench.reply(true);
    assert_eq!(bench.counts(Kind::Udp), [1, 1, 0, 0, 1, 1, 0, 1]);
    let parts = bench.sum(Kind::Udp, &[Poll, Harvest, Reply, Doorbell]);
    assert_eq!(parts, bench.sum(Kind::Udp, &[Total]));
    assert!(parts < 20);
    // Found without an interrupt: the first stage does not exist.
    bench.reply(false);
    assert_eq!(bench.counts(Kind::Udp), [1, 2, 0, 0, 2, 2, 0, 2]);
    let parts = bench.sum(Kind::Udp, &[Poll, Harvest, Reply, Doorbell]);
    assert_eq!(parts, bench.sum(Kind::Udp, &[Total]));
}

#[test]
fn the_stack_has_stages_of_its_own() {
    use Stage::*;
    let mut bench = Bench::new(Mode::Full);
    bench.begin(true);
    let stamps = [clock::cycles(), clock::cycles(), clock::cycles()];
    bench
        .latency
        .answered_by_stack(&bench.answers, Kind::Udp, 0, stamps);
    bench
        .latency
        .answered_by_stack(&bench.answers, Kind::Icmp, 1, [stamps[0], stamps[1], 0]);
    bench.rang();
    assert_eq!(bench.counts(Kind::Udp), [1, 1, 1, 1, 1, 1, 0, 1]);
    let parts = bench.sum(Kind::Udp, &[Poll, Harvest, Stack, Service, Reply, Doorbell]);
    assert_eq!(parts, bench.sum(Kind::Udp, &[Total]));
    assert_eq!(
        bench.counts(Kind::Icmp),
        [0; STAGES],
        "another interface's doorbell"
    );
    let Bench {
        latency,
        answers,
        card,
        pool,
    } = &mut bench;
    latency.rang(answers, 1, card, pool);
    assert_eq!(bench.counts(Kind::Icmp), [1, 1, 1, 0, 1, 1, 0, 1]);
}

#[test]
fn tcp_counts_from_the_segment_that_made_the_socket_readable() {
    let mut bench = Bench::new(Mode::Full);
    bench.begin(true);
    let harvest = clock::cycles();
    bench
        .latency
        .asked(3, &bench.answers, harvest, clock::cycles());
    assert!(bench.latency.is_asked(3) && !bench.latency.is_asked(4));
    bench.latency.answered(3, Kind::TcpEcho, 0, clock::cycles());
    bench.rang();
    assert_eq!(bench.counts(Kind::TcpEcho), [1, 1, 1, 1, 1, 1, 0, 1]);
    assert!(!bench.latency.is_asked(3));

    // The answer comes in a later round, after a sleep: the second segment does not count.
    bench.begin(true);
    bench
        .latency
        .asked(3, &bench.answers, clock::cycles(), clock::cycles());
    bench.latency.asked[3].ticks -= 5_000;
    bench.begin(true);
    bench
        .latency
        .asked(3, &bench.answers, clock::cycles(), clock::cycles());
    bench.latency.answered(3, Kind::Http, 0, clock::cycles());
    bench.rang();
    let total = bench.stage(Kind::Http, Stage::Total);
    assert!(
        total.count == 1 && (4_950..5_200).contains(&total.max),
        "{total:?}"
    );

    bench.begin(true);
    bench
        .latency
        .asked(3, &bench.answers, clock::cycles(), clock::cycles());
    bench.latency.forget(3);
    assert!(!bench.latency.is_asked(3));
}

#[test]
fn one_round_in_sixteen_is_stamped() {
    let mut latency = Latency::new(Mode::On, FACTS);
    let stamped = (0..4_000).filter(|round| latency.begin(*round)).count();
    assert!((150..600).contains(&stamped), "{stamped}");
    while latency.begin(0) {}
    assert_eq!(latency.stamp(), None);
    while !latency.begin(0) {}
    assert!(latency.stamp().is_some());
}

#[test]
fn the_worst_sixteen_are_kept_with_their_stamps() {
    let mut bench = Bench::new(Mode::Full);
    let mut lates: Vec<u32> = (1..=100)
        .map(|number| number * 7919 % 101 * 1_000)
        .collect();
    for late in &lates {
        bench.begin(true);
        bench.answers.start = bench.answers.start.wrapping_sub(*late);
        let kind = Kind::Udp;
        let (harvest, reply) = (clock::cycles(), clock::cycles());
        bench.answers.push(InPlace {
            harvest,
            reply,
            kind,
        });
        bench.rang();
    }
    lates.sort_unstable();
    let mut kept: Vec<u32> = bench
        .latency
        .worst
        .iter()
        .map(|event| event.total / 1_000 * 1_000)
        .collect();
    kept.sort_unstable();
    assert_eq!(kept, lates[100 - WORST..]);
    for event in &bench.latency.worst {
        let passed: Vec<u32> = event.stamps.iter().flatten().copied().collect();
        assert!(passed.is_sorted() && passed.len() >= 4, "{event:?}");
        assert_eq!(event.stamps[Stage::Doorbell as usize], Some(event.total));
    }
    bench.latency.reset(9);
    assert!(bench.latency.worst.iter().all(|event| event.total == 0));
    assert_eq!(bench.counts(Kind::Udp), [0; STAGES]);
}

#[test]
fn the_end_of_sending_is_when_it_is_seen() {
    let mut bench = Bench::new(Mode::Full);
    bench.reply(true);
    assert_eq!(bench.latency.awaits(), Some(0));
    for sent in [0, 1] {
        bench.card.sent = sent;
        bench.begin(false);
        let Bench {
            latency,
            card,
            pool,
            ..
        } = &mut bench;
        latency.look(card, pool, 7_000);
        assert_eq!(bench.stage(Kind::Udp, Stage::Sent).count, sent);
    }
    assert_eq!(bench.latency.awaits(), None);
    let sent = bench
        .latency
        .worst
        .iter()
        .find_map(|event| event.stamps[Stage::Sent as usize]);
    assert!(sent.is_some());
    // A ring that was emptied behind our back: given up.
    bench.reply(true);
    let Bench {
        latency,
        card,
        pool,
        ..
    } = &mut bench;
    latency.look(card, pool, 7_000 + SENT_LIMIT_US + 1);
    assert_eq!(bench.latency.awaits(), None);
}

#[test]
fn the_report_says_what_it_stands_on() {
    let mut bench = Bench::new(Mode::Full);
    bench.reply(true);
    bench.latency.timer_was_late(500, true);
    let text = bench.json();
    for part in [
        "{\"latency\":\"full\",\"time\":\"emulated\",\"why\":\"a test\",\"unit\":\"ns\"",
        "\"rounds_one_in\":1,",
        "\"timer\":{\"asleep\":{\"count\":1,",
        "\"udp\":{\"poll\":{\"count\":1,\"min\":",
        "\"worst\":[{\"kind\":\"udp\",",
        "\"stack\":null",
        // Four cycles of a microsecond each.
        "\"total\":{\"count\":1,\"min\":4000,\"p50\":4000,",
        "\"bins\":[[4000,5000,1]]",
        "\"reply\":3000,\"doorbell\":4000,",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let count = |what| text.matches(what).count();
    assert_eq!((count('{'), count('[')), (count('}'), count(']')));
    assert!(
        Bench::new(Mode::Off)
            .json()
            .starts_with("{\"latency\":\"off\",")
    );
}

#[test]
fn the_fullest_report_fits_an_answer() {
    let mut bench = Bench::new(Mode::Full);
    // The board's slowest.
    bench.latency.facts.cycles_hz = 200_000_000;
    for histogram in bench
        .latency
        .stages
        .iter_mut()
        .chain(&mut bench.latency.timer)
    {
        (0..2_000).for_each(|step| histogram.record(MAX - step));
    }
    for event in &mut bench.latency.worst {
        *event = Event {
            at_us: u64::MAX / 1_000_000,
            total: MAX,
            stamps: [Some(MAX); STAGES - 1],
            kind: Kind::TcpEcho as u8,
            batch: u16::MAX,
            transmit_ring: Some(u16::MAX),
            interrupts: u32::MAX,
            ..Event::default()
        };
    }
    assert!(bench.json().len() < crate::http::MAX_ANSWER * 3 / 4);
}
