//! The shell on a terminal made of strings, on a machine made of examples.

use super::*;
use crate::shell::line::Editor;
use crate::status::Status;
use crate::status::tests::TYPICAL;

struct Paper {
    editor: Editor,
    typed: std::collections::VecDeque<u8>,
    screen: String,
    room: usize,
}

impl Paper {
    fn typing(keys: &str) -> Self {
        let mut paper = Paper {
            editor: Editor::default(),
            typed: keys.bytes().collect(),
            screen: String::new(),
            room: usize::MAX,
        };
        paper.editor.wake(&mut paper.screen);
        paper
    }
}

impl Terminal for Paper {
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
        Line::try_from(self.editor.before_cursor()).unwrap()
    }

    fn insert(&mut self, text: &str) {
        self.editor.insert(text, &mut self.screen);
    }

    fn room(&self) -> usize {
        self.room
    }

    fn write(&mut self, text: &str) {
        assert!(2 * text.len() <= self.room, "more than there is room for");
        self.editor.leave();
        self.screen.push_str(text);
    }

    fn prompt(&mut self) {
        self.editor.show(&mut self.screen);
    }
}

struct Bare {
    rebooted: bool,
}

impl StatusSource for Bare {
    fn with_status(&self, show: &mut dyn FnMut(&Status<'_>)) {
        TYPICAL.with_status(show);
    }
}

impl Bench for Bare {
    fn now_us(&self) -> u64 {
        0
    }

    fn tree(&self) -> Option<&Tree<'static>> {
        None
    }

    fn log(&self, line: &mut dyn FnMut(&str)) {
        line("[    0.000001] first");
        line("[    0.000002] second \x1b[2J");
    }

    fn interrupts(&self) -> (u64, u64) {
        (12, 0)
    }

    fn reboot(&mut self) {
        self.rebooted = true;
    }
}

/// What a session shows.
fn session(keys: &str) -> String {
    let (mut paper, mut shell) = (Paper::typing(keys), Shell::new());
    shell.poll(&mut paper, &mut Bare { rebooted: false });
    paper.screen
}

#[test]
fn a_command_shows_its_result_and_the_prompt_again() {
    let screen = session("irq\r");
    assert!(
        screen.ends_with(
            "taken                   12\nunexpected              0\nintid count      device\n\rristretto> \x1b[K"
        ),
        "{screen:?}"
    );
    let screen = session("irq -j\r");
    assert!(
        screen.contains("{\"taken\":12,\"unexpected\":0,\"sources\":[]}\n"),
        "{screen:?}"
    );
}

#[test]
fn what_is_wrong_is_said() {
    for (line, expected) in [
        ("nonsense", "no such command"),
        ("help nonsense", "no such command"),
        ("irq now", "usage: irq"),
        ("link eth0 eth0", "usage: link [INTERFACE]"),
        ("link -x", "usage: link [INTERFACE]"),
        ("link lan9", "no interface of that name"),
        ("dt /soc", "no such node"),
        (
            "link 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17",
            "usage: link",
        ),
        ("reboot", "no PSCI"),
        ("mdio scan", "this machine has no management bus"),
        ("phy wan", "this machine has no management bus"),
        ("switch dump", "this machine has no management bus"),
        ("switch mib", "this machine has no management bus"),
        ("neta regs", "this machine has no NETA"),
        ("coalesce", "this machine has no management bus"),
        ("loopback", "this machine has no management bus"),
        ("peek 0", "this machine has no memory to look at"),
    ] {
        let screen = session(&format!("{line}\r"));
        assert!(screen.contains(expected), "{line}: {screen:?}");
        let screen = session(&format!("{line} -j\r"));
        assert!(screen.contains("{\"error\":\""), "{line}: {screen:?}");
    }
}

#[test]
fn a_pasted_text_runs_line_by_line_and_an_empty_line_does_nothing() {
    let screen = session("irq\r\n\r\n  \r\nlog\r\n");
    assert_eq!(screen.matches("ristretto> \x1b[K").count(), 5, "{screen:?}");
    assert!(
        screen.contains("[    0.000002] second ?[2J\n"),
        "{screen:?}"
    );
}

#[test]
fn counters_are_shown_since_the_last_time() {
    let screen = session("stats eth0\rstats -d eth0\r");
    let rows: std::vec::Vec<_> = screen
        .lines()
        .filter(|line| line.starts_with("eth0"))
        .collect();
    assert_eq!(rows.len(), 13, "{screen:?}");
    // The example's counters stand still: everything was shown by the first command.
    assert!(screen.ends_with("since\n\rristretto> \x1b[K"), "{screen:?}");
}

#[test]
fn tab_completes_as_far_as_it_is_clear() {
    assert!(session("sta\t").ends_with("stats "));
    let listed = session("i\t");
    let listed = listed.lines().nth_back(1).unwrap();
    let mut words: std::vec::Vec<_> = listed.split_whitespace().collect();
    words.sort_unstable();
    assert_eq!(words, ["info", "ip", "irq"]);
    assert!(session("help so\t").ends_with("sockets "));
    assert!(session("link eth\t").contains("eth0 "));
    assert!(session("xyz\t").ends_with("xyz"));
    assert!(session("nonsense x\t").ends_with("x"));
}

#[test]
fn a_slow_terminal_gets_everything_in_time() {
    let whole = session("help\r");
    let (mut paper, mut shell) = (Paper::typing("help\r"), Shell::new());
    let mut machine = Bare { rebooted: false };
    for round in 0.. {
        assert!(round < 1000, "never ends");
        paper.room = 400;
        shell.poll(&mut paper, &mut machine);
        if paper.screen.ends_with("> \x1b[K") && paper.screen.len() >= whole.len() {
            break;
        }
    }
    assert_eq!(paper.screen, whole);
}

#[test]
fn every_command_is_listed_and_has_one_name() {
    let screen = session("help\r");
    for (index, command) in commands().enumerate() {
        assert!(
            screen.contains(&format!("\n{}", command.name)),
            "{}",
            command.name
        );
        assert!(
            commands()
                .take(index)
                .all(|other| other.name != command.name)
        );
    }
}

#[test]
fn a_command_for_the_machine_reaches_it() {
    let (mut paper, mut shell) = (Paper::typing("reboot\r"), Shell::new());
    let mut machine = Bare { rebooted: false };
    shell.poll(&mut paper, &mut machine);
    assert!(machine.rebooted);
}
