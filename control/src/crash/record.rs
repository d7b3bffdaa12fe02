//! What is said of one start: how it ended, where, and with what in the registers. 128 words with a checksum.

use core::fmt::{self, Write};
use core::ops::Range;

/// How a start ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Ending {
    /// It has not, as far as it knew: it runs, or was reset without a word.
    None = 0,
    /// As somebody asked for.
    Asked = 1,
    /// By a panic.
    Panic = 2,
    /// By an exception.
    Exception = 3,
}

/// Registers in the record: first `x0` to `x30`.
pub const X: usize = 31;
/// Then these, in the order of the exception's frame.
pub const SPECIAL: [&str; 5] = ["sp", "elr", "spsr", "esr", "far"];
/// All of them.
pub const REGISTERS: usize = X + SPECIAL.len();

/// Words of a record.
pub const WORDS: usize = 128;
/// Format 1, as bytes in memory: `RSTcrsh1`.
const MAGIC: u64 = u64::from_le_bytes(*b"RSTcrsh1");

// Where things are, in words.
/// The number of the start, counted since memory was lost.
pub(super) const START: usize = 1;
const ENDING: usize = 2;
/// Seconds without life after which the watchdog bites, 0 without one.
const WATCHDOG_S: usize = 3;
/// When it ended, in microseconds since entry, if somebody could tell.
const ENDED_US: usize = 4;
/// Where the image was.
const IMAGE_START: usize = 5;
/// Length of the image's code: the first bytes of the ELF file's first segment.
const CODE_BYTES: usize = 6;
/// CRC-32 of these.
const CODE_CRC: usize = 7;
const VERSION: Range<usize> = 8..10;
const REGISTER: usize = 10;
const BACKTRACE: Range<usize> = REGISTER + REGISTERS..REGISTER + REGISTERS + 32;
const MESSAGE: Range<usize> = BACKTRACE.end..WORDS - 1;
const CRC: usize = WORDS - 1;

/// The record of one start.
#[derive(Clone)]
pub struct Record {
    words: [u64; WORDS],
}

/// Why words are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// There never was one, or memory has forgotten it.
    Absent,
    /// There was one, and something has changed it.
    Damaged,
}

impl Record {
    /// The record of a start that begins.
    pub fn new(start: u64, image_start: u64, version: &str) -> Self {
        let mut record = Record { words: [0; WORDS] };
        record.words[0] = MAGIC;
        record.words[START] = start;
        record.words[IMAGE_START] = image_start;
        record.set_text(VERSION, format_args!("{version}"));
        record.set_message(format_args!("reset without a word"));
        record
    }

    /// Takes words from memory.
    ///
    /// # Errors
    ///
    /// [`Unusable`] if they are no record, or a damaged one.
    pub fn from_words(words: [u64; WORDS]) -> Result<Self, Unusable> {
        let record = Record { words };
        match words[CRC] == record.crc() {
            true if words[0] == MAGIC && words[ENDING] <= Ending::Exception as u64 => Ok(record),
            // A few bits of the mark may be what was lost; it is no coincidence, either, if most are right.
            _ if (words[0] ^ MAGIC).count_ones() > 8 => Err(Unusable::Absent),
            _ => Err(Unusable::Damaged),
        }
    }

    /// The words for the memory, checksum included.
    pub fn to_words(&self) -> [u64; WORDS] {
        let mut words = self.words;
        words[CRC] = self.crc();
        words
    }

    fn crc(&self) -> u64 {
        let bytes = self.words[..CRC].iter().flat_map(|word| word.to_le_bytes());
        crc32(bytes).into()
    }

    /// Counts starts since memory was lost.
    pub fn start(&self) -> u64 {
        self.words[START]
    }

    /// How it ended.
    pub fn ending(&self) -> Ending {
        match self.words[ENDING] {
            0 => Ending::None,
            1 => Ending::Asked,
            2 => Ending::Panic,
            _ => Ending::Exception,
        }
    }

    /// What is said in numbers: name, number, digits if these are hexadecimal.
    pub fn numbers(&self) -> impl Iterator<Item = (&'static str, u64, usize)> {
        const NUMBERS: [(&str, usize, usize); 6] = [
            ("start", START, 0),
            ("ended_us", ENDED_US, 0),
            ("watchdog_s", WATCHDOG_S, 0),
            ("image_start", IMAGE_START, 1),
            ("code_bytes", CODE_BYTES, 0),
            ("code_crc32", CODE_CRC, 8),
        ];
        let number = |(name, word, digits): (_, usize, _)| (name, self.words[word], digits);
        NUMBERS.into_iter().map(number)
    }

    /// How it ended, in a word.
    pub fn word(&self) -> &'static str {
        match self.ending() {
            Ending::Panic => "panic",
            Ending::Exception => "exception",
            _ if self.words[WATCHDOG_S] > 0 => "watchdog",
            _ => "reset",
        }
    }

    /// The image's version.
    pub fn version(&self) -> Text<'_> {
        Text(&self.words[VERSION])
    }

    /// Registers, all 0 unless an exception ended it.
    pub fn registers(&self) -> &[u64] {
        &self.words[REGISTER..][..REGISTERS]
    }

    /// Where it was, the innermost first, as addresses in the image.
    pub fn backtrace(&self) -> &[u64] {
        let all = &self.words[BACKTRACE];
        let used = all.iter().position(|address| *address == 0);
        &all[..used.unwrap_or(all.len())]
    }

    /// What it said.
    pub fn message(&self) -> Text<'_> {
        Text(&self.words[MESSAGE])
    }

    /// Notes how it ended.
    pub fn end(&mut self, ending: Ending, ended_us: u64) {
        self.words[ENDING] = ending as u64;
        self.words[ENDED_US] = ended_us;
    }

    /// Notes that the watchdog is armed, which is likely to be what resets then. Nothing tells it from a hand.
    pub fn arm(&mut self, watchdog_s: u64) {
        self.words[WATCHDOG_S] = watchdog_s;
        self.set_message(format_args!("bitten by the watchdog, or reset by hand"));
    }

    /// Notes where it was. What finds no room is left out.
    pub fn place(&mut self, registers: &[u64], backtrace: &[u64]) {
        let words = self.words[REGISTER..][..REGISTERS].iter_mut();
        words.zip(registers).for_each(|(to, from)| *to = *from);
        let words = self.words[BACKTRACE].iter_mut();
        words.zip(backtrace).for_each(|(to, from)| *to = *from);
    }

    /// Notes which code ran.
    pub fn set_code(&mut self, code: &[u8]) {
        self.words[CODE_BYTES] = code.len() as u64;
        self.words[CODE_CRC] = crc32(code.iter().copied()).into();
    }

    /// Notes what it said, on one line. What finds no room is left out.
    pub fn set_message(&mut self, message: fmt::Arguments) {
        self.set_text(MESSAGE, message);
    }

    fn set_text(&mut self, place: Range<usize>, text: fmt::Arguments) {
        let words = &mut self.words[place];
        words.fill(0);
        let mut writer = Writer { words, len: 0 };
        // Fails only when the text does.
        let _ = writer.write_fmt(text);
    }
}

/// Text in words.
pub struct Text<'w>(&'w [u64]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.iter().flat_map(|word| word.to_le_bytes());
        // Other characters than ASCII are rare in what programs say of themselves.
        bytes
            .take_while(|byte| *byte != 0)
            .try_for_each(|byte| f.write_char(if byte.is_ascii() { byte.into() } else { '?' }))
    }
}

struct Writer<'w> {
    words: &'w mut [u64],
    /// Bytes written.
    len: usize,
}

impl Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let byte = if byte == b'\n' { b' ' } else { byte };
            if let Some(word) = self.words.get_mut(self.len / 8) {
                *word |= u64::from(byte) << (self.len % 8 * 8);
                self.len += 1;
            }
        }
        Ok(())
    }
}

/// The CRC of gzip and Ethernet. Bit by bit: it is needed a few times at most.
fn crc32(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
