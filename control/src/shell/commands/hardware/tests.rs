//! The commands on a board made of a few numbers.

use super::*;
use crate::shell::hardware::Reply;
use crate::shell::report::Format;
use crate::shell::{Bench, Memory, find, run as run_command};
use crate::status::tests::TYPICAL;
use crate::status::{Status, StatusSource};
use hal::devicetree::Tree;
use hal::net::Count;
use hal::net::mv88e6xxx::atu;
use hal::net::neta::RingDump;
use hal::net::steps::Error;
use std::string::String;
use std::vec::Vec;

/// Registers read as what their number is on page 0; of others, `page << 8` more.
#[derive(Default)]
struct Board {
    now_us: u64,
    page: u16,
    /// What was done, and how the next errand ends.
    steps: Vec<Step>,
    fails: Option<Error>,
    ticket: u32,
    /// Errands refused, and answers that somebody else's errand replaced.
    busy: u32,
    lost: u32,
    answer: Answer,
    held: PortSet,
    coalescing: Coalescing,
    loops: bool,
    has_switch: bool,
}

impl StatusSource for Board {
    fn with_status(&self, show: &mut dyn FnMut(&Status<'_>)) {
        TYPICAL.with_status(show);
    }
}

impl Bench for Board {
    fn now_us(&self) -> u64 {
        self.now_us
    }

    fn tree(&self) -> Option<&Tree<'static>> {
        None
    }

    fn log(&self, _: &mut dyn FnMut(&str)) {}

    fn interrupts(&self) -> (u64, u64) {
        (0, 0)
    }

    fn hardware(&mut self) -> Option<&mut dyn Hardware> {
        Some(self)
    }

    fn reboot(&mut self) {}
}

impl Hardware for Board {
    fn port_name(&self, port: PortIndex) -> Option<&str> {
        ["cpu", "wan", "lan0"].get(usize::from(port.get())).copied()
    }

    fn has_switch(&self) -> bool {
        self.has_switch
    }

    fn ask(&mut self, request: Request) -> Option<u32> {
        if self.busy > 0 {
            self.busy -= 1;
            return None;
        }
        self.answer = Answer::default();
        match request {
            Request::Steps(steps) => steps(&mut |step| {
                let value = match step {
                    Step::Write(_, PAGE, page) => {
                        self.page = page;
                        0
                    }
                    Step::Read(Place::Wire(PhyAddr(addr)), _) if addr != 1 => FLOATING,
                    Step::Read(_, reg) => self.page << 8 | u16::from(reg.0),
                    _ => 0,
                };
                self.steps.push(step);
                self.answer.values.push(value).unwrap();
            }),
            Request::Addresses(from, to) => {
                let entry = atu::Entry {
                    fid: from + to,
                    mac: [2, 0, 0, 0, 0, 1],
                    ports: PortSet::from_bits(6),
                    trunk: false,
                    state: 7,
                };
                self.answer.addresses.push(entry).unwrap();
            }
            Request::Vlans => self.answer.more = true,
        }
        self.answer.error = self.fails.take();
        self.ticket += 1;
        Some(self.ticket)
    }

    fn answer(&mut self, ticket: u32, show: &mut dyn FnMut(&Answer)) -> Reply {
        assert_eq!(ticket, self.ticket);
        if self.lost > 0 {
            self.lost -= 1;
            return Reply::Lost;
        }
        show(&self.answer);
        Reply::Given
    }

    fn held(&self) -> PortSet {
        self.held
    }

    fn port_total(&self, port: PortIndex, index: usize) -> Option<(&'static str, u64)> {
        (index < 2).then_some(("in_unicast", 10 * u64::from(port.get()) + index as u64))
    }

    fn port_totals_at_us(&self, _: PortIndex) -> Option<u64> {
        // Some rounds later.
        Some(self.now_us.saturating_sub(200_000))
    }

    fn want_port_totals(&self, _: PortIndex) {}

    fn mac_registers(&mut self, show: &mut dyn FnMut(&'static str, u32, u32)) {
        show("mac_status", 0x2c10, 0xb);
    }

    fn mac_rings(&mut self) -> [RingDump; 2] {
        ["rx", "tx"].map(|direction| RingDump {
            direction,
            queue: 0,
            size: 256,
            in_flight: 255,
            oldest: 3,
            current: 4,
            status: 0x00fe_0001,
            descriptors: Default::default(),
        })
    }

    fn mac_count(&mut self, index: usize) -> Option<Count> {
        (index == 0).then_some(("mib_rx_good", "", 7))
    }

    fn coalescing(&self) -> Coalescing {
        self.coalescing
    }

    fn set_coalescing(&mut self, coalescing: Coalescing) {
        self.coalescing = coalescing;
    }

    fn mac_loopback(&self) -> bool {
        self.loops
    }

    fn set_mac_loopback(&mut self, on: bool) {
        self.loops = on;
    }
}

fn board() -> Board {
    Board {
        has_switch: true,
        ..Board::default()
    }
}

/// Runs a command to its end; what it says in JSON, or why not.
fn say(board: &mut Board, granted: Access, line: &str) -> Result<String, Refusal> {
    let words: Vec<&str> = line.split(' ').collect();
    let command = find(words[0]).unwrap();
    let mut memory = Memory::default();
    for _ in 0..10_000 {
        let mut out = String::new();
        let format = Format::Json;
        let words = &words[1..];
        match run_command(
            command,
            words,
            granted,
            format,
            board,
            &mut memory,
            &mut out,
        )? {
            Progress::Done => return Ok(out),
            Progress::Wait(at_us) => {
                assert!(at_us > board.now_us);
                board.now_us = at_us;
            }
        }
    }
    panic!("{line} never ends");
}

fn wan() -> Place {
    Place::Phy(PortIndex::new(1).unwrap())
}

#[test]
fn a_register_on_a_page_is_read_between_its_selection_and_page_0() {
    let mut board = board();
    let said = say(&mut board, Access::Read, "mdio read phy:wan 0x10 2").unwrap();
    assert_eq!(said, "{\"value\":528}\n");
    let select = |page| Step::Write(wan(), PAGE, page);
    let expected = [select(2), Step::Read(wan(), RegAddr(16)), select(0)];
    assert_eq!(board.steps, expected);
    board.steps.clear();
    let said = say(&mut board, Access::Change, "mdio write switch:0x1b 4 65535").unwrap();
    assert_eq!(said, "{\"value\":65535}\n");
    let global_1 = Place::Switch(PhyAddr(0x1b));
    assert_eq!(board.steps, [Step::Write(global_1, RegAddr(4), 0xffff)]);
}

#[test]
fn a_busy_bus_a_lost_answer_and_an_error_are_told_apart() {
    let mut board = board();
    board.busy = 3;
    assert_eq!(
        say(&mut board, Access::Read, "mdio read 1 0").unwrap(),
        "{\"value\":0}\n"
    );
    board.lost = 1;
    assert_eq!(
        say(&mut board, Access::Change, "mdio write 1 0 0"),
        Err(Refusal::Failed("its answer was lost: ask again"))
    );
    assert_eq!(board.ticket, 2, "written once");
    board.busy = u32::MAX;
    assert_eq!(
        say(&mut board, Access::Read, "phy"),
        Err(Refusal::Failed("the management bus has no time"))
    );
    board.busy = 0;
    let error = Error::Mdio(hal::net::mdio::Error::Timeout);
    board.fails = Some(error);
    assert_eq!(
        say(&mut board, Access::Read, "switch dump"),
        Err(Refusal::Bus(error))
    );
    let nobody = say(&mut board, Access::Read, "mdio read 7 2").unwrap();
    assert!(
        nobody.contains("\"value\":65535,\"note\":\"all ones"),
        "{nobody}"
    );
}

#[test]
fn a_scan_shows_who_answers() {
    let said = say(&mut board(), Access::Read, "mdio scan").unwrap();
    assert_eq!(
        said,
        "{\"devices\":[{\"address\":1,\"register_0\":0,\"identifier\":131075}]}\n"
    );
}

#[test]
fn registers_behind_the_window_of_a_phy_take_four_steps_and_keep_their_rows() {
    let mut board = board();
    let said = say(&mut board, Access::Read, "phy lan0").unwrap();
    // Each register reads as its number; those behind the window, as the window.
    for row in [
        r#""port":"lan0","register":"17","name":"copper status","value":17,"#,
        r#""register":"21","name":"receive errors","value":21,"meaning":"""#,
        r#""register":"3.20","name":"EEE capability","value":14,"meaning":"1000, 100""#,
        r#""register":"7.61","name":"EEE partner","value":14,"#,
    ] {
        assert!(said.contains(row), "{row} not in {said}");
    }
    let port = Place::Phy(PortIndex::new(2).unwrap());
    let last = [
        Step::Write(port, RegAddr(13), 7),
        Step::Write(port, RegAddr(14), 61),
        Step::Write(port, RegAddr(13), 0x4007),
        Step::Read(port, RegAddr(14)),
    ];
    assert_eq!(board.steps[board.steps.len() - 4..], last);
}

#[test]
fn every_register_of_a_dump_stands_in_its_column() {
    let mut board = board();
    let said = say(&mut board, Access::Read, "switch dump").unwrap();
    for reg in 0..32 {
        let row = said.split("{\"name\":").nth(reg + 1).unwrap();
        let known = |column: &str| row.contains(&format!("\"{column}\":{reg}"));
        let none = |column: &str| row.contains(&format!("\"{column}\":null"));
        let port = reg <= 0x13 || matches!(reg, 0x16 | 0x18 | 0x19);
        assert!(if port { known("port5") } else { none("port5") }, "{row}");
        let global_1 = !matches!(reg, 0 | 1 | 0x1b);
        assert!(
            if global_1 {
                known("global1")
            } else {
                none("global1")
            },
            "{row}"
        );
        let global_2 = !matches!(reg, 0 | 0x10..=0x13 | 0x17 | 0x1b | 0x1e..);
        assert!(
            if global_2 {
                known("global2")
            } else {
                none("global2")
            },
            "{row}"
        );
    }
}

#[test]
fn tables_and_counters_are_shown() {
    let mut board = board();
    board.now_us = 1_000_000;
    for (line, expected) in [
        (
            "switch atu",
            r#"{"fid":2,"mac":"02:00:00:00:00:01","ports":"1 2","state":7,"kind":"learnt"}"#,
        ),
        ("switch atu 9", r#""fid":18,"#),
        ("switch vtu", r#"{"vlans":[],"more":true}"#),
        (
            "switch mib",
            r#"{"name":"in_unicast","port0":1,"port1":11,"port2":21,"port3":null,"port4":null,"port5":null}"#,
        ),
        (
            "neta regs",
            r#"{"register":"mac_status","offset":11280,"value":11}"#,
        ),
        (
            "neta ring",
            r#"{"ring":"tx","size":256,"owned_by_mac":255,"oldest":3,"current":4,"status_low":1,"status_high":254}"#,
        ),
        ("neta mib", r#"{"counter":"mib_rx_good","value":7}"#),
    ] {
        let said = say(&mut board, Access::Read, line).unwrap();
        assert!(said.contains(expected), "{line}: {said}");
    }
}

#[test]
fn what_changes_something_takes_the_right_to() {
    for line in [
        "mdio write 1 0 0",
        "coalesce 4 30",
        "loopback mac on",
        "loopback phy wan on",
        "poke 0 0",
    ] {
        let mut board = board();
        let refused = say(&mut board, Access::Admin, line);
        assert_eq!(refused, Err(Refusal::Denied(Access::Change)), "{line}");
        assert!(board.steps.is_empty() && !board.loops);
        assert_eq!(board.coalescing, Coalescing::default());
    }
    let peek = say(&mut board(), Access::Read, "peek 0");
    assert_eq!(peek, Err(Refusal::Denied(Access::Admin)));
}

#[test]
fn loopback_goes_on_and_off() {
    let mut board = board();
    say(&mut board, Access::Change, "loopback mac on").unwrap();
    assert!(board.loops);
    let said = say(&mut board, Access::Read, "loopback").unwrap();
    assert_eq!(said, "{\"mac\":true,\"held_phys\":\"\"}\n");
    say(&mut board, Access::Change, "loopback mac off").unwrap();
    assert!(!board.loops);
    say(&mut board, Access::Change, "loopback phy 1 on").unwrap();
    let port = PortIndex::new(1).unwrap();
    assert_eq!(board.steps, phy_loopback(port));
    board.steps.clear();
    say(&mut board, Access::Change, "loopback phy wan off").unwrap();
    assert_eq!(board.steps, [Step::Release(port)]);
    let socketless = say(&mut board, Access::Change, "loopback phy 4 on");
    assert_eq!(socketless, Err(Refusal::Absent("socket at that port")));
    board.has_switch = false;
    let bare = say(&mut board, Access::Change, "loopback phy 1 on");
    assert_eq!(bare, Err(Refusal::Absent("switch in its devicetree")));
}

#[test]
fn numbers_are_decimal_or_hexadecimal_and_bounded() {
    assert_eq!(number("31", 31), Some(31));
    assert_eq!(number("0x1F", 31), Some(31));
    assert_eq!(number("0xffffffffffffffff", u64::MAX), Some(u64::MAX));
    for text in [
        "",
        "0x",
        "32",
        "-1",
        "+1",
        "1e",
        "0x20",
        "18446744073709551616",
        "x1",
    ] {
        assert_eq!(number(text, 31), None, "{text}");
    }
    assert_eq!(number("0x10000000000000000", u64::MAX), None);
}
