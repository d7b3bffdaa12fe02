mod board;

use self::board::Board;
use super::report::{TAP_VERSION, junit, tap_line};
use super::*;
use std::string::String as Text;
use std::vec;
use std::vec::Vec as List;

/// Where free memory begins.
const BASE: u64 = 0x800_0000;

/// A machine whose hardware can be made to misbehave.
struct FakeBed {
    now_us: u64,
    /// The cycle counter's rate; `None` without one.
    cycles_hz: Option<u64>,
    ticks_stand_still: bool,
    /// Every so many looks at the clocks, the emulator takes a millisecond off between the two.
    stolen_every: u64,
    looks: u64,
    /// The words from [`BASE`] on.
    memory: List<u64>,
    free: List<u64>,
    /// A word of memory with a bit that stays 1.
    stuck: Option<(u64, u64)>,
    /// An address line that does nothing.
    dead_line: u64,
    /// The speed that the driver believes `wan` to have.
    told_mbps: u32,
    /// The switch and the MAC, if there are any.
    board: Option<Board>,
}

impl FakeBed {
    /// A board with something wrong.
    fn with(spoil: impl FnOnce(&mut Board)) -> Self {
        let mut board = Board::new();
        spoil(&mut board);
        FakeBed {
            board: Some(board),
            ..FakeBed::default()
        }
    }
}

impl Default for FakeBed {
    fn default() -> Self {
        FakeBed {
            now_us: 1_000,
            cycles_hz: Some(1_000_000_000),
            ticks_stand_still: false,
            stolen_every: u64::MAX,
            looks: 0,
            memory: vec![0; 2 * 4 * BLOCK_BYTES as usize / 8],
            free: (0..2)
                .map(|nth| 0x800_0000 + nth * 4 * BLOCK_BYTES)
                .collect(),
            stuck: None,
            dead_line: 0,
            told_mbps: 1000,
            board: None,
        }
    }
}

impl Bed for FakeBed {
    fn now_us(&self) -> u64 {
        self.now_us
    }

    fn hardware(&mut self) -> Option<&mut dyn Hardware> {
        Some(self.board.as_mut()?)
    }

    fn clocks(&mut self) -> Clocks {
        self.looks += 1;
        self.now_us += 10;
        let ns = self.now_us * 1_000;
        let stolen = u64::from(self.looks.is_multiple_of(self.stolen_every)) * 1_000_000;
        Clocks {
            ticks: if self.ticks_stand_still { 7 } else { ns / 80 },
            ticks_hz: 12_500_000,
            cycles: self
                .cycles_hz
                .map(|hz| (ns + stolen) * (hz / 1_000_000) / 1_000),
        }
    }

    fn links(&self, show: &mut dyn FnMut(&str, Link)) {
        let up = |speed_mbps| Link::Up {
            speed_mbps,
            full_duplex: true,
            pause: Default::default(),
        };
        show("eth7", up(0));
        show("wan", up(self.told_mbps));
        show("lan0", Link::Down);
    }

    fn set_loop(&mut self, way: Option<Way>) -> bool {
        match &mut self.board {
            Some(board) => board.looped = way,
            None => return false,
        }
        true
    }

    fn send(&mut self, bytes: usize, fill: &mut dyn FnMut(&mut [u8])) -> bool {
        let Some(board) = self.board.as_mut().filter(|board| board.looped.is_some()) else {
            return false;
        };
        let mut frame = vec![0; bytes];
        fill(&mut frame);
        board.send(frame);
        true
    }

    fn take(&mut self, look: &mut dyn FnMut(&[u8])) -> bool {
        let frame = self.board.as_mut().and_then(Board::take);
        frame.iter().for_each(|frame| look(frame));
        frame.is_some()
    }

    fn mac_interrupts(&self) -> u64 {
        self.board.as_ref().map_or(0, |board| board.interrupts)
    }

    fn free_memory(&mut self, found: &mut [u64]) -> usize {
        for (found, free) in found.iter_mut().zip(&self.free) {
            *found = *free;
        }
        self.free.len()
    }

    fn with_memory(
        &mut self,
        address: u64,
        bytes: usize,
        work: &mut dyn FnMut(&mut [u64]),
    ) -> bool {
        self.now_us += 20;
        let line = self.dead_line;
        let addresses = (address..address + bytes as u64).step_by(8);
        let place = |at: u64| ((at & !line) - BASE) as usize / 8;
        let held = |at: u64| self.memory[place(at)];
        let mut words: List<u64> = addresses.clone().map(held).collect();
        work(&mut words);
        for (at, word) in addresses.zip(words) {
            let word = match self.stuck {
                Some((stuck, bit)) if stuck == at => word | bit,
                _ => word,
            };
            self.memory[place(at)] = word;
        }
        true
    }
}

/// Runs these tests to the end.
fn run(tests: &mut SelfTest, bed: &mut FakeBed, names: &[&str]) -> Run {
    let sets = names.iter().map(|name| named(name).unwrap());
    tests.start(sets.fold(0, |all, set| all | set)).unwrap();
    let mut polls = 0;
    loop {
        let due_us = tests.poll(bed);
        if due_us == u64::MAX {
            break;
        }
        bed.now_us = bed.now_us.max(due_us) + 1;
        polls += 1;
        assert!(polls < 1_000_000, "never ends");
    }
    let mut done = Run::default();
    tests.show(&mut |run| done = run.clone());
    assert_eq!(done.at_work, None);
    done
}

fn tap(run: &Run) -> Text {
    let mut text = Text::new();
    for (at, entry) in run.entries.iter().enumerate() {
        tap_line(&mut text, at + 1, entry).unwrap();
        text.push('\n');
    }
    text
}

fn tap_of(bed: &mut FakeBed, names: &[&str]) -> Text {
    tap(&run(&mut SelfTest::new(), bed, names))
}

#[test]
fn sound_memory_passes_and_is_told_how_much_there_was() {
    assert_eq!(
        tap_of(&mut FakeBed::default(), &["memory"]),
        "ok 1 - memory # 4 of 4 MiB free, 4 patterns, 0 words differ\n"
    );
}

#[test]
fn a_stuck_bit_is_found_with_its_address() {
    let at = BASE + 4 * BLOCK_BYTES + 0x1238;
    let mut bed = FakeBed {
        stuck: Some((at, 1 << 40)),
        ..FakeBed::default()
    };
    let text = tap_of(&mut bed, &["memory"]);
    assert!(
        text.starts_with("not ok 1 - memory # 4 of 4 MiB free, 4 patterns, "),
        "{text}"
    );
    assert!(text.contains("words differ, first 0x8801238: 0x"), "{text}");
}

#[test]
fn an_address_line_that_does_nothing_is_found_between_blocks() {
    let mut bed = FakeBed {
        dead_line: 8 << 20,
        ..FakeBed::default()
    };
    let text = tap_of(&mut bed, &["memory"]);
    assert!(text.starts_with("not ok 1 - memory # "), "{text}");
}

#[test]
fn no_free_memory_is_a_skip() {
    let mut bed = FakeBed {
        free: List::new(),
        ..FakeBed::default()
    };
    assert_eq!(
        tap_of(&mut bed, &["memory"]),
        "ok 1 - memory # SKIP no free memory\n"
    );
}

#[test]
fn clocks_that_agree_pass_with_their_rates() {
    assert_eq!(
        tap_of(&mut FakeBed::default(), &["timer"]),
        "ok 1 - timer # timer 12.500 MHz, core 1000.000 MHz, 80.00 cycles a tick, \
         16 of 16 intervals within 1 %\n"
    );
    // Borrowed time between the two readings now and then.
    let mut bed = FakeBed {
        stolen_every: 50,
        ..FakeBed::default()
    };
    assert!(tap_of(&mut bed, &["timer"]).starts_with("ok 1 - timer # "));
}

#[test]
fn clocks_that_stand_still_or_do_not_exist() {
    let mut bed = FakeBed {
        ticks_stand_still: true,
        ..FakeBed::default()
    };
    assert_eq!(
        tap_of(&mut bed, &["timer"]),
        "not ok 1 - timer # the timer stands still\n"
    );
    let mut bed = FakeBed {
        cycles_hz: None,
        ..FakeBed::default()
    };
    assert_eq!(
        tap_of(&mut bed, &["timer"]),
        "ok 1 - timer # SKIP the core has no cycle counter that counts\n"
    );
    let mut bed = FakeBed {
        cycles_hz: Some(0),
        ..FakeBed::default()
    };
    assert!(tap_of(&mut bed, &["timer"]).starts_with("not ok 1 - timer # "));
}

#[test]
fn the_vector_units_sums_agree() {
    let text = tap_of(&mut FakeBed::default(), &["checksum"]);
    assert_eq!(
        text,
        "ok 1 - checksum # 2624 sums of the vector unit, 0 differ\n"
    );
}

#[test]
fn one_run_at_a_time_and_results_are_kept_until_the_next() {
    let (mut tests, mut bed) = (SelfTest::new(), FakeBed::default());
    let first = run(&mut tests, &mut bed, &["timer"]);
    assert_eq!((first.id, first.entries.len()), (1, 1));
    assert_eq!(tests.start(1), Ok(2));
    assert_eq!(tests.start(1), Err(Busy));
    tests.poll(&mut bed);
    tests.show(&mut |run| {
        assert_eq!((run.id, run.at_work), (2, Some("memory")));
        assert!(run.entries.is_empty());
    });
}

#[test]
fn tests_are_chosen_by_name() {
    assert_eq!(named("timer"), Some(0b10));
    assert_eq!(named("nonsense"), None);
    assert_eq!(ALL.count_ones(), TESTS.len() as u32);
}

fn entry(verdict: Verdict, detail: &str) -> Entry {
    Entry {
        test: "cable",
        port: String::try_from("wan").unwrap(),
        verdict,
        detail: String::try_from(detail).unwrap(),
        took_us: 1_234_567,
    }
}

#[test]
fn tap_escapes_what_would_begin_a_comment() {
    let line = |verdict, detail| {
        let mut text = Text::new();
        tap_line(&mut text, 3, &entry(verdict, detail)).unwrap();
        text
    };
    assert_eq!(TAP_VERSION, "TAP version 14");
    assert_eq!(
        line(Verdict::Passed, "4 pairs ok"),
        "ok 3 - cable wan # 4 pairs ok"
    );
    assert_eq!(
        line(Verdict::Failed, "#1 a\\b\nok 4"),
        "not ok 3 - cable wan # \\#1 a\\\\b?ok 4"
    );
    assert_eq!(
        line(Verdict::Skipped, "no switch"),
        "ok 3 - cable wan # SKIP no switch"
    );
}

#[test]
fn junit_counts_and_escapes() {
    let entries = [
        entry(Verdict::Passed, "a < b & \"c\" > d"),
        entry(Verdict::Failed, "it's \x1b[2J\n"),
        entry(Verdict::Skipped, "no switch"),
    ];
    let mut text = Text::new();
    junit(&mut text, &entries).unwrap();
    let expected = concat!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
        "<testsuite name=\"selftest\" tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\" time=\"3.703701\">\n",
        "<testcase classname=\"selftest\" name=\"cable wan\" time=\"1.234567\">",
        "<system-out>a &lt; b &amp; &quot;c&quot; &gt; d</system-out></testcase>\n",
        "<testcase classname=\"selftest\" name=\"cable wan\" time=\"1.234567\">",
        "<failure message=\"it's ?[2J?\"/></testcase>\n",
        "<testcase classname=\"selftest\" name=\"cable wan\" time=\"1.234567\">",
        "<skipped message=\"no switch\"/></testcase>\n",
        "</testsuite>\n",
    );
    assert_eq!(text, expected);
}

/// The names of all tests that need a board.
const BOARD_TESTS: [&str; 9] = [
    "mdio",
    "phy-id",
    "link",
    "mac-loopback",
    "ring",
    "interrupts",
    "phy-loopback",
    "negotiation",
    "cable",
];

#[test]
fn a_sound_board_passes_and_is_left_as_it_was() {
    let mut bed = FakeBed::with(|_| ());
    let text = tap_of(&mut bed, &BOARD_TESTS);
    let expected = "\
ok 1 - mdio # 10000 reads of 0x3410, 0 differ, 0 errors
ok 2 - phy-id wan # 0x0141 0x0c00
ok 3 - phy-id lan0 # 0x0141 0x0c00
ok 4 - link eth7 # up
ok 5 - link wan # up, 1000-full
ok 6 - link lan0 # SKIP no link
ok 7 - mac-loopback # 256 frames, 0 lost, 0 differ
ok 8 - ring # 1024 frames, 0 lost, 0 differ
ok 9 - interrupts # 100 frames, 0 lost, 0 differ, 100 interrupts
ok 10 - phy-loopback wan # 256 frames, 0 lost, 0 differ
ok 11 - phy-loopback lan0 # 256 frames, 0 lost, 0 differ
ok 12 - negotiation wan # 1000-full 0.0 s, 100-full 0.0 s, 100-half 0.0 s, 10-full 0.0 s, 10-half 0.0 s
ok 13 - negotiation lan0 # SKIP no link
ok 14 - cable wan # ok, ok, ok, ok
ok 15 - cable lan0 # SKIP open at 12.50 m, open at 12.50 m, open at 12.50 m, open at 12.50 m
";
    assert_eq!(text, expected);
    let board = bed.board.unwrap();
    assert_eq!((board.held, board.was_held), (0, 0b110));
    assert_eq!(board.looped, None);
}

#[test]
fn without_a_board_there_is_nothing_to_test() {
    let text = tap_of(&mut FakeBed::default(), &BOARD_TESTS);
    for line in text.lines().filter(|line| !line.contains("link eth7")) {
        assert!(
            line.starts_with("ok ") && (line.contains("SKIP no ") || line.contains("link wan")),
            "{line}"
        );
    }
}

/// One line of the run of one test on a board with something wrong.
fn line_of(spoil: impl FnOnce(&mut Board), name: &str) -> Text {
    let text = tap_of(&mut FakeBed::with(spoil), &[name]);
    text.lines().next().unwrap_or_default().into()
}

#[test]
fn a_bit_that_flips_once_in_ten_thousand_reads_is_seen() {
    assert_eq!(
        line_of(|board| board.flip_every = 9_999, "mdio"),
        "not ok 1 - mdio # 10000 reads of 0x3410, 1 differ, 0 errors, first 0x3411"
    );
    // The first of a batch, too.
    assert_eq!(
        line_of(|board| board.flip_every = 2_001, "mdio"),
        "not ok 1 - mdio # 10000 reads of 0x3410, 4 differ, 0 errors, first 0x3411"
    );
}

#[test]
fn a_bus_that_fails_ends_the_test() {
    assert_eq!(
        line_of(|board| board.fails_from = Some(5_000), "mdio"),
        "not ok 1 - mdio # 4999 reads of 0x3410, 0 differ, 8 errors"
    );
    assert_eq!(
        line_of(|board| board.fails_from = Some(1), "phy-id"),
        "not ok 1 - phy-id wan # the MDIO controller stays busy"
    );
}

#[test]
fn another_phy_than_the_switch_has() {
    assert_eq!(
        line_of(|board| board.phy_id = Some(0x0dd1), "phy-id"),
        "not ok 1 - phy-id wan # 0x0141 0x0dd1, not 0x0141 0x0c0."
    );
}

#[test]
fn a_driver_that_believes_another_link_than_the_phy_has() {
    let mut bed = FakeBed::with(|_| ());
    bed.told_mbps = 100;
    let text = tap_of(&mut bed, &["link"]);
    assert!(
        text.contains("not ok 2 - link wan # up, 100-full, but the PHY has 1000-full\n"),
        "{text}"
    );
}

#[test]
fn frames_that_come_back_changed_or_not_at_all() {
    assert_eq!(
        line_of(|board| board.corrupt_every = 100, "mac-loopback"),
        "not ok 1 - mac-loopback # 256 frames, 0 lost, 2 differ"
    );
    // Some are enough.
    assert_eq!(
        line_of(|board| board.lose_every = 2, "mac-loopback"),
        "not ok 1 - mac-loopback # 16 frames, 8 lost, 0 differ"
    );
    assert_eq!(
        line_of(|board| board.corrupt_every = 1_000, "ring"),
        "not ok 1 - ring # 1024 frames, 0 lost, 1 differ"
    );
    assert_eq!(
        line_of(|board| board.corrupt_every = 200, "phy-loopback"),
        "not ok 1 - phy-loopback wan # 256 frames, 0 lost, 1 differ"
    );
}

#[test]
fn an_interrupt_storm() {
    assert_eq!(
        line_of(|board| board.storm = 3, "interrupts"),
        "not ok 1 - interrupts # 100 frames, 0 lost, 0 differ, 300 interrupts"
    );
}

#[test]
fn a_mode_that_is_offered_and_does_not_come_up() {
    assert_eq!(
        line_of(|board| board.deaf_to = 0b1000, "negotiation"),
        "not ok 1 - negotiation wan # 1000-full 0.0 s, 100-full came up as no link, 100-half 0.0 s, 10-full 0.0 s, 10-half 0.0 s"
    );
}

#[test]
fn a_cable_with_something_wrong() {
    assert_eq!(
        line_of(|board| board.cable = 0x1321, "cable"),
        "not ok 1 - cable wan # ok, open at 12.50 m, short at 12.50 m, ok"
    );
}

#[test]
fn whatever_fails_the_ports_are_given_back() {
    for from in (1..40).step_by(3) {
        for name in ["phy-loopback", "negotiation", "cable"] {
            let mut bed = FakeBed::with(|board| board.fails_from = Some(from));
            let text = tap_of(&mut bed, &[name]);
            let board = bed.board.unwrap();
            assert_eq!(
                (board.held, board.looped),
                (0, None),
                "{name} from step {from}: {text}"
            );
        }
    }
}
