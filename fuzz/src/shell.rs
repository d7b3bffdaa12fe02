//! What is typed on the console, with a machine behind it.

use std::collections::VecDeque;
use std::fmt::Write;

use firmware::shell::line::{Editor, Event, Line};
use firmware::shell::{Shell, Terminal};

use crate::Target;
use crate::bench::FakeBench;
use crate::mutate::Rng;

/// See [`target`].
pub const TARGET: Target = Target {
    name: "shell",
    run: target,
    iterations: 5_000,
    corpus: &[
        b"\xffhelp\r",
        b"\x40link -j\rip wan\rstats -d\r",
        b"\x10st\t -d w\t\r",
        b"\xffping 10.0.0.1 -n 2\r\x03",
        b"\x80dt /cpus\r\x1b[A\x1b[D\x1b[D\x7fx\x01\x0b\x19\r",
        b"\x20latency reset\nlog\r\ndrops\r",
        b"\xffselftest -list\rselftest mdio -format junit -j\r\x03selftest -job 1 -format tap\r",
        b"\x40crash\rcrash log -j\rtrace\rcrash clear\r",
        b"\xffphy\rswitch dump -j\rmdio scan\r",
        b"\xffmdio write 0x10 4 0x8000\rpeek 0x100 8 -j\rloopback mac on\rcoalesce 1 100\r",
    ],
    words: &[
        b"\r",
        b"\n",
        b"\t",
        b"\x03",
        b"\x7f",
        b"\x08",
        b"\x01",
        b"\x05",
        b"\x0b",
        b"\x15",
        b"\x17",
        b"\x1b[A",
        b"\x1b[B",
        b"\x1b[C",
        b"\x1b[D",
        b"\x1b[3~",
        b"\x1b",
        b"\x1b[",
        b" -j",
        b" -d",
        b"link",
        b"help ",
        b"stats ",
        b"dt /",
        b"log",
        b"reboot",
        b"ping ",
        b"wan",
        b"10.0.0.1",
        b"fe80::1%wan",
        b"-n 3",
        b"0x",
        b"99999999999999999999",
        b"\xc3\xa9",
    ],
    mutate: |_: &mut Vec<u8>, _: &mut Rng| (),
};

struct Console {
    editor: Editor,
    typed: VecDeque<u8>,
    screen: String,
    room: usize,
}

impl Terminal for Console {
    fn event(&mut self) -> Option<Event> {
        while let Some(byte) = self.typed.pop_front() {
            if let Some(event) = self.editor.key(byte, &mut self.screen) {
                return Some(event);
            }
        }
        None
    }

    fn interrupted(&mut self) -> bool {
        let interrupted = self.typed.contains(&3);
        while interrupted && self.typed.pop_front() != Some(3) {}
        interrupted
    }

    fn before_cursor(&mut self) -> Line {
        Line::try_from(self.editor.before_cursor()).unwrap_or_default()
    }

    fn insert(&mut self, text: &str) {
        self.editor.insert(text, &mut self.screen);
    }

    fn room(&self) -> usize {
        self.room
    }

    fn write(&mut self, text: &str) {
        self.editor.leave();
        let _ = self.screen.write_str(text);
    }

    fn prompt(&mut self) {
        self.editor.show(&mut self.screen);
    }
}

/// The first byte says how much room the terminal has at a time, the rest is typed. Every line comes to an end, lines of
/// JSON are that, and nothing foreign drives the terminal.
///
/// # Panics
///
/// If not.
pub fn target(data: &[u8]) {
    let [room, typed @ ..] = data else { return };
    let mut bench = FakeBench::default();
    let mut console = Console {
        editor: Editor::default(),
        typed: typed.iter().copied().collect(),
        screen: String::new(),
        room: 1024 + 16 * usize::from(*room),
    };
    console.editor.wake(&mut console.screen);
    let mut shell = Shell::new();
    loop {
        let due_us = shell.poll(&mut console, &mut bench);
        if due_us == u64::MAX && console.typed.is_empty() {
            break;
        }
        bench.now_us = match due_us {
            u64::MAX => bench.now_us + 1,
            due_us => due_us.max(bench.now_us + 1),
        };
        assert!(bench.now_us < 1 << 40, "a command goes on for ever");
    }
    for line in console
        .screen
        .lines()
        .filter(|line| line.starts_with("{\""))
    {
        let json: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(json.is_ok(), "{line}");
    }
}
