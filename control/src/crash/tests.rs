//! Starts one after the other in the same memory, and memory that forgets.

use super::*;
use std::boxed::Box;
use std::string::String;
use std::vec::Vec;

fn area() -> Box<Area> {
    Box::new([Bank::new(), Bank::new()])
}

/// A start in this area. Returns its bank, the record of the last one that ended badly, and whether there was damage.
fn begin(area: &Area) -> (&Bank, Option<Record>, bool) {
    let (index, damaged) = choose(area, 0x20_0000, "1.2.3");
    let kept = area[1 - index].bad_end().ok().flatten();
    (&area[index], kept, damaged)
}

/// Ends as `change` says.
fn end(bank: &Bank, change: impl FnOnce(&mut Record)) {
    let mut record = bank.record().unwrap();
    change(&mut record);
    bank.set_record(&record);
}

fn lines(bank: &Bank, cells: usize) -> Vec<String> {
    let mut lines = Vec::new();
    bank.log_lines(cells, &mut |line| lines.push(line.into()));
    lines
}

/// A start that ended in an exception, with as much to tell as there is room for.
pub(crate) fn wrecked() -> &'static Bank {
    let area = Box::leak(area());
    let (bank, ..) = begin(area);
    (0..LOG_CELLS).for_each(|_| bank.log_line(format_args!("{}\n", "x".repeat(TEXT - 1))));
    for _ in 0..EVENTS {
        // The longest: an address gone, after a year.
        bank.events().push(&[u64::MAX << 32, 1 << 61 | 0x7f03]);
    }
    end(bank, |record| {
        record.end(Ending::Exception, u64::MAX);
        record.place(&[u64::MAX; record::REGISTERS], &[u64::MAX; 64]);
        record.set_message(format_args!("{}", "m".repeat(1000)));
        record.set_code(b"code");
    });
    bank
}

fn number(record: &Record, name: &str) -> u64 {
    let mut numbers = record.numbers();
    numbers.find(|number| number.0 == name).unwrap().1
}

/// All words of the area.
fn words(area: &Area) -> impl Iterator<Item = &AtomicU64> {
    area.iter().flat_map(|bank| {
        bank.record
            .iter()
            .chain([&bank.log_written, &bank.events_written])
            .chain(bank.log.as_flattened())
            .chain(bank.events.as_flattened())
    })
}

#[test]
fn memory_that_was_just_switched_on_holds_no_record() {
    let area = area();
    for fill in [0, u64::MAX, 0x5555_5555_5555_5555] {
        words(&area).for_each(|word| word.store(fill, Ordering::Relaxed));
        let (bank, kept, damaged) = begin(&area);
        assert!(kept.is_none() && !damaged);
        assert_eq!(bank.start(), 1);
    }
    let mut random = crate::random::Random::new(Some(b"noise"));
    for _ in 0..100 {
        words(&area).for_each(|word| word.store(random.draw(), Ordering::Relaxed));
        let (_, kept, damaged) = begin(&area);
        assert!(kept.is_none() && !damaged);
    }
}

#[test]
fn a_panic_is_there_at_the_next_start_and_until_the_next_one() {
    let area = area();
    let (first, ..) = begin(&area);
    first.log_line(format_args!("[    0.000001] hello\n"));
    end(first, |record| {
        record.end(Ending::Panic, 1_234_567);
        record.place(&[], &[0x1234, 0x5678]);
        record.set_message(format_args!("panicked at x.rs:1:\nwhy"));
        record.set_code(b"123456789");
    });
    // It outlives starts that end as they should.
    for start in 2..5 {
        let (bank, kept, damaged) = begin(&area);
        let kept = kept.unwrap();
        assert!(!damaged);
        assert_eq!((bank.start(), kept.start()), (start, 1));
        assert_eq!(kept.ending(), Ending::Panic);
        assert_eq!(number(&kept, "ended_us"), 1_234_567);
        assert_eq!(kept.message().to_string(), "panicked at x.rs:1: why");
        assert_eq!(kept.version().to_string(), "1.2.3");
        assert_eq!(kept.backtrace(), [0x1234, 0x5678]);
        // Spec: the CRC's check value.
        assert_eq!(number(&kept, "code_crc32"), 0xcbf4_3926);
        assert_eq!(number(&kept, "code_bytes"), 9);
        assert_eq!(lines(&area[0], 100), ["[    0.000001] hello"]);
        end(bank, |record| record.end(Ending::Asked, 0));
    }
    let (bank, ..) = begin(&area);
    end(bank, |record| record.end(Ending::Exception, 7));
    let (_, kept, _) = begin(&area);
    let kept = kept.unwrap();
    assert_eq!((kept.start(), kept.ending()), (5, Ending::Exception));
}

#[test]
fn a_start_that_dies_at_once_does_not_cost_the_record() {
    let area = area();
    let (bank, ..) = begin(&area);
    end(bank, |record| record.end(Ending::Panic, 1));
    // The next one is switched off while it writes its first words.
    let (bank, ..) = begin(&area);
    bank.record[40].fetch_xor(1, Ordering::Relaxed);
    bank.record[WORDS - 1].fetch_xor(2, Ordering::Relaxed);
    let (_, kept, damaged) = begin(&area);
    assert!(damaged);
    assert_eq!(kept.unwrap().start(), 1);
}

#[test]
fn a_reset_without_a_word_is_told_from_one_that_was_asked_for() {
    let area = area();
    let (bank, ..) = begin(&area);
    end(bank, |record| record.arm(5));
    bank.log_line(format_args!("the last words\n"));
    let (bank, kept, _) = begin(&area);
    let kept = kept.unwrap();
    assert_eq!((kept.word(), number(&kept, "watchdog_s")), ("watchdog", 5));
    assert_eq!(lines(&area[0], 100), ["the last words"]);
    end(bank, |record| record.end(Ending::Asked, 0));
    end(&area[0], |record| record.end(Ending::Asked, 0));
    assert!(begin(&area).1.is_none());
}

/// Every bit of what a start that was cut off has left.
#[test]
fn damage_anywhere_is_no_bite() {
    let area = area();
    let (bank, ..) = begin(&area);
    end(bank, |record| record.arm(5));
    (0..300).for_each(|line| bank.log_line(format_args!("line {line}, as long as lines are\n")));
    for _ in 0..200 {
        bank.events().push(&[0, 1 << 20]);
    }
    let sound: Vec<u64> = words(&area)
        .map(|word| word.load(Ordering::Relaxed))
        .collect();
    let bank_words = sound.len() / 2;
    let oldest = |written: u64, cells: usize| (written % cells as u64) as usize;
    let newest = |written: u64, cells: usize| ((written - 1) % cells as u64) as usize;
    for (number, word) in words(&area).take(bank_words).enumerate() {
        // In the middle of these, somebody may have died.
        let log = WORDS + 2;
        let events = log + LOG_CELLS * LOG_WORDS;
        let at_edge = if number >= events {
            let cell = (number - events) / EVENT_WORDS;
            [oldest(200, EVENTS), newest(200, EVENTS)].contains(&cell)
        } else if number >= log {
            let cell = (number - log) / LOG_WORDS;
            [oldest(300, LOG_CELLS), newest(300, LOG_CELLS)].contains(&cell)
        } else {
            false
        };
        for bit in [0, 13, 31, 32, 63] {
            word.fetch_xor(1 << bit, Ordering::Relaxed);
            let found = bank.bad_end();
            match at_edge {
                true => {}
                false => assert!(found.is_err(), "word {number} bit {bit}"),
            }
            word.fetch_xor(1 << bit, Ordering::Relaxed);
        }
    }
    assert!(bank.bad_end().unwrap().is_some());
}

#[test]
fn the_log_keeps_its_end_in_whole_lines() {
    let area = area();
    let (bank, ..) = begin(&area);
    for number in 0..1000 {
        let text = "x".repeat(number % 250);
        bank.log_line(format_args!("{number} {text}\n"));
    }
    let all = lines(bank, usize::MAX);
    assert!(all.len() > 40, "{}", all.len());
    let first = 1000 - all.len();
    for (number, line) in (first..).zip(&all) {
        let text = format!("{number} {}", "x".repeat(number % 250));
        assert_eq!(*line, text[..text.len().min(LONGEST)]);
    }
    let few = lines(bank, 10);
    assert!(!few.is_empty() && all.ends_with(&few));
    // A cell that is lost takes its line along, and no other.
    let written = bank.log_written.load(Ordering::Relaxed) as u32 as usize;
    let at = (written - 20) % LOG_CELLS;
    bank.log[at][3].fetch_xor(1, Ordering::Relaxed);
    let less = lines(bank, usize::MAX);
    assert_eq!(less.len(), all.len() - 1);
    assert!(less.iter().all(|line| all.contains(line)));
}

#[test]
fn the_place_is_the_same_whoever_asks() {
    const MIB: u64 = 1 << 20;
    for (base, mib, at) in [
        (0, 512, 320),
        (0, 1024, 640),
        (0, 2048, 1280),
        (1024, 128, 1024 + 80),
        (1024, 256, 1024 + 160),
        // A size that is no multiple of anything.
        (0, 509, 318),
    ] {
        assert_eq!(place(base * MIB, mib * MIB), at * MIB);
    }
    assert_eq!(place(0, 63 * MIB), u64::MAX);
    assert_eq!(place(u64::MAX - 10, u64::MAX), u64::MAX);
}
