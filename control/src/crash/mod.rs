//! What outlives a reset: how the last start ended, its log and its trace, in memory that no boot loader uses.
//!
//! ```text
//!   bank   record            this start: written at entry, and when it ends
//!          ring of log       written as it goes: the watchdog gives no notice
//!          ring of events    the same
//!   bank   the last start that ended badly, until it is cleared or the next one does
//! ```
//!
//! A start takes the bank that holds no bad end, or the older of two. So nothing is ever copied, and a start that dies
//! before it got anywhere does not cost the record of the one before. The memory is not cached: what is written is there.
//!
//! | file | is about |
//! | --- | --- |
//! | `record` | the words that say how a start ended, and their checksum |
//! | `ring` | the log and the events, each cell with a seal |
//! | `mod` | the banks, and which is whose |
//!
//! Why this way, and where the memory is: docs/decisions/0017-crash-record.md.

pub mod record;
mod ring;
#[cfg(test)]
pub(crate) mod tests;

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};
use spin::Once;

pub use record::{Ending, Record};
use record::{Unusable, WORDS};
use ring::Ring;

/// Cells of the log, of [`TEXT`] bytes each: as much as the result of a command can hold.
const LOG_CELLS: usize = 192;
const LOG_WORDS: usize = 8;
/// Bytes of text in a cell.
const TEXT: usize = LOG_WORDS * 8 - 4;
/// Events kept: as many as the result of a command can hold.
const EVENTS: usize = 128;
const EVENT_WORDS: usize = 2;
/// Longest line that is shown of the log.
const LONGEST: usize = 240;

/// What one start leaves.
#[repr(C, align(4096))]
pub struct Bank {
    record: [AtomicU64; WORDS],
    log_written: AtomicU64,
    events_written: AtomicU64,
    log: [[AtomicU64; LOG_WORDS]; LOG_CELLS],
    events: [[AtomicU64; EVENT_WORDS]; EVENTS],
}

/// The two banks.
pub type Area = [Bank; 2];

impl Default for Bank {
    fn default() -> Self {
        Self::new()
    }
}

impl Bank {
    /// An empty bank.
    pub const fn new() -> Self {
        Bank {
            record: [const { AtomicU64::new(0) }; WORDS],
            log_written: AtomicU64::new(0),
            events_written: AtomicU64::new(0),
            log: [const { [const { AtomicU64::new(0) }; LOG_WORDS] }; LOG_CELLS],
            events: [const { [const { AtomicU64::new(0) }; EVENT_WORDS] }; EVENTS],
        }
    }

    pub(crate) fn record(&self) -> Result<Record, Unusable> {
        let mut words = [0; WORDS];
        for (word, place) in words.iter_mut().zip(&self.record) {
            *word = place.load(Ordering::Relaxed);
        }
        Record::from_words(words)
    }

    fn set_record(&self, record: &Record) {
        for (place, word) in self.record.iter().zip(record.to_words()) {
            place.store(word, Ordering::Relaxed);
        }
    }

    /// The number of the start that writes here, counted since memory was lost; 0 outside of an area.
    pub fn start(&self) -> u64 {
        self.record[record::START].load(Ordering::Relaxed)
    }

    fn log(&self) -> Ring<'_> {
        Ring::new(&self.log_written, &self.log, self.start())
    }

    /// The events, cell by cell; see [`crate::trace`].
    pub fn events(&self) -> Ring<'_> {
        Ring::new(&self.events_written, &self.events, self.start())
    }

    /// Writes a line of the log.
    pub fn log_line(&self, line: fmt::Arguments) {
        let mut writer = Writer {
            ring: self.log(),
            cell: [0; LOG_WORDS],
            len: 0,
        };
        // Fails only when the text does.
        let _ = writer.write_fmt(line);
        writer.flush();
    }

    /// The last lines of the log that its last `cells` cells hold, oldest first.
    pub fn log_lines(&self, cells: usize, line: &mut dyn FnMut(&str)) {
        let mut text: heapless::Vec<u8, LONGEST> = heapless::Vec::new();
        let log = self.log();
        // What is longer is cut.
        let add = |text: &mut heapless::Vec<u8, LONGEST>, more: &[u8]| {
            let room = LONGEST - text.len();
            let _ = text.extend_from_slice(&more[..more.len().min(room)]);
        };
        // The first line may be the end of one.
        let mut whole = !log.is_full(cells);
        log.each(cells, &mut |cell| {
            let Some(cell) = cell else {
                text.clear();
                whole = false;
                return;
            };
            let mut bytes = [0; LOG_WORDS * 8];
            for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(cell) {
                *place = word.to_le_bytes();
            }
            let mut rest = &bytes[LOG_WORDS * 8 - TEXT..];
            while let Some(len) = rest.iter().position(|byte| matches!(byte, 0 | b'\n')) {
                add(&mut text, &rest[..len]);
                if rest[len] == 0 {
                    return;
                }
                if core::mem::replace(&mut whole, true) {
                    line(str::from_utf8(&text).unwrap_or("?"));
                }
                text.clear();
                rest = &rest[len + 1..];
            }
            add(&mut text, rest);
        });
    }

    /// The record of a start that ended badly, if that is what is here.
    ///
    /// # Errors
    ///
    /// [`Unusable`] if there is no record, or if memory has lost some of what belongs to it.
    fn bad_end(&self) -> Result<Option<Record>, Unusable> {
        let record = self.record()?;
        match record.ending() {
            Ending::Asked => Ok(None),
            Ending::Panic | Ending::Exception => Ok(Some(record)),
            // Nobody wrote this end: that there was one is believed only if memory has lost nothing at all.
            Ending::None => {
                let whole = |ring: Ring| ring.each(usize::MAX, &mut |_| ());
                match whole(self.log()) && whole(self.events()) {
                    true => Ok(Some(record)),
                    false => Err(Unusable::Damaged),
                }
            }
        }
    }

    /// Begins a start here.
    fn begin(&self, record: &Record) {
        self.set_record(record);
        self.log().clear();
        self.events().clear();
    }
}

/// Text on its way into cells.
struct Writer<'b> {
    ring: Ring<'b>,
    cell: [u64; LOG_WORDS],
    len: usize,
}

impl Writer<'_> {
    fn flush(&mut self) {
        if self.len > 0 {
            self.ring.push(&self.cell);
            (self.cell, self.len) = ([0; LOG_WORDS], 0);
        }
    }
}

impl Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.len == TEXT {
                self.flush();
            }
            let at = 4 + self.len;
            self.cell[at / 8] |= u64::from(byte) << (at % 8 * 8);
            self.len += 1;
        }
        Ok(())
    }
}

/// Where the area goes in a bank of memory: five eighths up. The end of all addresses if it is too small to be sure of
/// anything: of several banks, the lowest place counts.
///
/// Boot loaders load to the lower half and put themselves at the top. A multiple of an eighth that is no power of two
/// is where neither a probe for the size of memory nor the training of a second chip writes.
pub fn place(base: u64, size: u64) -> u64 {
    const LEAST: u64 = 64 << 20;
    const GRAIN: u64 = 2 << 20;
    match base.checked_add(size / 8 * 5) {
        Some(place) if size >= LEAST => place & !(GRAIN - 1),
        _ => u64::MAX,
    }
}

/// Where this start writes if there is no area: it outlives nothing, but `log` and `trace` have something to show.
static OWN: Bank = Bank::new();
/// The area, and the number of the bank in use.
static AREA: Once<(&'static Area, usize)> = Once::new();

/// Where this start writes.
pub fn live() -> &'static Bank {
    match AREA.get() {
        Some((area, index)) => &area[*index],
        None => &OWN,
    }
}

/// A start that ended badly.
pub struct Kept<'b> {
    /// How.
    pub record: Record,
    /// Its log and events.
    pub bank: &'b Bank,
}

/// The last start before this that ended badly, if there is one.
pub fn kept() -> Option<Kept<'static>> {
    let (area, live) = AREA.get()?;
    let bank = &area[1 - live];
    let record = bank.bad_end().ok()??;
    Some(Kept { record, bank })
}

/// Forgets the start that ended badly.
pub fn forget() {
    if let Some(Kept { mut record, bank }) = kept() {
        record.end(Ending::Asked, 0);
        bank.set_record(&record);
    }
}

/// Finds what was left in the area, and begins this start in it. Whether something in it was damaged.
pub fn adopt(area: &'static Area, image_start: u64, version: &str) -> bool {
    let (index, damaged) = choose(area, image_start, version);
    AREA.call_once(|| (area, index));
    damaged
}

/// Begins a start in the bank whose record is worth less. Returns its number, and whether something was damaged.
fn choose(area: &Area, image_start: u64, version: &str) -> (usize, bool) {
    let (mut worth, mut last, mut damaged) = ([0; 2], 0, false);
    for (bank, worth) in area.iter().zip(&mut worth) {
        match bank.bad_end() {
            Ok(Some(record)) => *worth = record.start(),
            Ok(None) | Err(Unusable::Absent) => {}
            Err(Unusable::Damaged) => damaged = true,
        }
        last = last.max(bank.record().map_or(0, |record| record.start()));
    }
    let index = usize::from(worth[1] < worth[0]);
    area[index].begin(&Record::new(last + 1, image_start, version));
    (index, damaged)
}

/// Changes what is said of this start.
fn change(change: &mut dyn FnMut(&mut Record)) {
    let live = live();
    if let Ok(mut record) = live.record() {
        change(&mut record);
        live.set_record(&record);
    }
}

/// The watchdog is armed: a reset without a word may be its.
pub fn armed(seconds: u32) {
    change(&mut |record| record.arm(seconds.into()));
}

/// Somebody asked for the end; or it did not come, and all goes on.
pub fn ends(asked: bool, now_us: u64) {
    let ending = if asked { Ending::Asked } else { Ending::None };
    change(&mut |record| record.end(ending, now_us));
}

/// It ends badly. What may go wrong itself, the message, comes when the rest is safe.
pub fn ends_badly(
    ending: Ending,
    now_us: u64,
    registers: &[u64],
    backtrace: &[u64],
    message: fmt::Arguments,
    code: &[u8],
) {
    change(&mut |record| {
        record.end(ending, now_us);
        record.place(registers, backtrace);
        record.set_code(code);
    });
    change(&mut |record| record.set_message(message));
}
