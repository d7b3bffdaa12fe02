//! The whole board: every block, the decode of the internal registers, and the wires between the blocks.
//!
//! ```text
//!            0xd000_0000 + offset                                wan, lan0, lan1 (switch ports 1, 2, 3)
//!   host ──▶ read / write ──▶ uart, pins, watchdog, clocks            ▲ │ take_frame / frame_in
//!                        └──▶ neta0 ◀─ wire (faults, speed) ─▶ switch ┘ ▼
//!                        └──▶ mdio ───────────────────────────▶ switch
//! ```
//!
//! Absent, and plain memory if touched: SPI flash, I2C, USB, SATA, PCIe, XOR, crypto, eMMC. The SD card's controller at
//! 0xd0000 and the interrupt controller are the host's. Clocks, resets, decode windows, AVS, SERDES and the rWTM
//! mailbox are storage with the bits that drivers wait for.

use crate::bus::{Dma, Env, Nanos, earliest, narrow};
use crate::faults::{FaultError, Way};
use crate::mdio::Mdio;
use crate::neta::{Neta, WireFrame};
use crate::phy::{Partner, Speed};
use crate::script::{Event, Script, Trace};
use crate::soc::{
    pins::Pins,
    uart::{Layout, Uart},
    watchdog::Watchdog,
};
use crate::switch::{PortId, PowerOn, SmiMode, Switch, Timing};
use std::collections::{BTreeMap, VecDeque};

/// Physical address of the internal registers.
pub const REGISTERS_BASE: u64 = 0xd000_0000;
/// Their extent: 32 MiB, of which the interrupt controller is the host's.
pub const REGISTERS_LEN: u64 = 0x0200_0000;
/// Memory that belongs to the secure firmware.
pub const SECURE: std::ops::Range<u64> = 0x0400_0000..0x0420_0000;
/// Sockets on the board.
pub const USER_PORTS: usize = 3;

/// Interrupt lines out of the board: shared peripheral interrupt numbers, in the order of [`Board::lines`]' bits.
pub const LINES: [u16; 11] = [11, 12, 13, 30, 31, 42, 45, 51, 52, 156, 157];

/// Which ESPRESSObin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Variant {
    /// DDR3, sockets labelled 3, 1, 2.
    #[default]
    V5,
    /// DDR4.
    V7,
    /// Switch at address 3 and other sockets.
    Ultra,
}

/// How a board is built and found.
#[derive(Debug, Clone)]
pub struct Config {
    /// Board.
    pub variant: Variant,
    /// As the boot loader leaves it, or as power-on does.
    pub from_uboot: bool,
    /// DRAM from address 0.
    pub ram_bytes: u64,
    /// Physical times of the switch.
    pub timing: Timing,
    /// An SD card is in its slot.
    pub sd_card: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            variant: Variant::V5,
            from_uboot: true,
            ram_bytes: 1 << 30,
            timing: Timing::REALISTIC,
            sd_card: false,
        }
    }
}

/// What happened on the way of frames that no register tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WireCounters {
    /// MAC to switch.
    pub from_mac: u64,
    /// Switch to MAC.
    pub to_mac: u64,
    /// From outside into the user ports.
    pub from_sockets: u64,
    /// Out of the user ports.
    pub to_sockets: u64,
    /// Lost because one side had no link.
    pub no_link: u64,
    /// Damaged by a speed mismatch or missing RGMII delays.
    pub damaged: u64,
    /// Faults that hit.
    pub faulted: u64,
    /// Lost because too many were under way.
    pub wire_full: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Toward {
    Switch,
    Mac,
}

#[derive(Debug)]
struct Travelling {
    due: Nanos,
    toward: Toward,
    frame: WireFrame,
}

/// Frames kept for the host; the rest is lost, as on a socket nobody reads.
const OUT_LIMIT: usize = 4096;
/// Frames under way between MAC and switch.
const WIRE_LIMIT: usize = 4096;

/// The board.
#[derive(Debug)]
pub struct Board {
    /// Time, log, doubts, faults.
    pub env: Env,
    config: Config,
    /// The MAC in use.
    pub neta0: Neta,
    neta1: Neta,
    mdio: Mdio,
    /// The switch.
    pub switch: Switch,
    /// Console.
    pub uart0: Uart,
    uart1: Uart,
    nb_pins: Pins,
    sb_pins: Pins,
    watchdog: Watchdog,
    /// Storage: words by offset.
    words: BTreeMap<u32, u32>,
    wire: VecDeque<Travelling>,
    out: VecDeque<(PortId, Vec<u8>)>,
    script: Script,
    script_ended: bool,
    /// What went in and out by the sockets, if it was started.
    pub trace: Trace,
    /// Losses and the like between the blocks.
    pub wire_counters: WireCounters,
    /// Who is at the other end of the cables that [`Board::set_plugged`] knows of.
    plugged: [Option<Partner>; USER_PORTS],
    /// Frames for the host that found no room.
    pub out_lost: u64,
    reset_requested: bool,
    /// NETA0 or NETA1 has no clock or is in reset.
    mac_off: [bool; 2],
    lines: u32,
    line_due: [Option<Nanos>; LINES.len()],
}

/// Memory as a device sees it: DRAM without the secure hole.
struct Checked<'a> {
    inner: &'a mut dyn Dma,
    ram_bytes: u64,
}

impl Checked<'_> {
    fn allowed(&self, address: u64, len: usize) -> bool {
        let Some(end) = address.checked_add(len as u64) else {
            return false;
        };
        end <= self.ram_bytes && (end <= SECURE.start || address >= SECURE.end)
    }
}

impl Dma for Checked<'_> {
    fn read(&mut self, address: u64, data: &mut [u8]) -> bool {
        self.allowed(address, data.len()) && self.inner.read(address, data)
    }

    fn write(&mut self, address: u64, data: &[u8]) -> bool {
        self.allowed(address, data.len()) && self.inner.write(address, data)
    }
}

/// A block and the offset within it.
enum Block {
    Uart0(u32),
    Uart1(u32),
    NbPins(u32),
    NbIrq(u32),
    SbPins(u32),
    SbIrq(u32),
    WarmReset,
    Watchdog(u32),
    WatchdogSelect,
    Mdio,
    Neta0(u32),
    Neta1(u32),
    Storage,
    Nothing,
}

/// Storage blocks as `(first, end)` offsets.
const STORAGE: &[(u32, u32)] = &[
    (0x0_02c0, 0x0_02c8), // DRAM topology, board revision test
    (0x0_c000, 0x0_d400), // decode windows, CPU misc
    (0x1_0600, 0x1_0700), // SPI0
    (0x1_1000, 0x1_1100), // I2C
    (0x1_1500, 0x1_1600), // AVS
    (0x1_2400, 0x1_2500), // resets, north bridge
    (0x1_3000, 0x1_3100), // clocks
    (0x1_3200, 0x1_3300), // PLLs
    (0x1_4000, 0x1_4100), // power management
    (0x1_7800, 0x1_7900), // written by U-Boot's set-up of USB and PCIe
    (0x1_8000, 0x1_8400), // clocks south bridge, SERDES
    (0x1_8600, 0x1_8700), // resets, south bridge
    (0x1_e800, 0x1_e900), // as 0x17800
    (0x1_f000, 0x2_0000), // PCIe SERDES
    (0x5_0000, 0x6_0000), // USB and its PHYs
    (0x6_0800, 0x6_1000), // XOR
    (0x7_0000, 0x9_0000), // PCIe
    (0x9_0000, 0xb_0000), // crypto
    (0xb_0000, 0xb_1000), // rWTM mailbox
    (0xd_0000, 0xd_0400), // Xenon extras of the SD host controllers; the standard parts are the host's
    (0xd_8000, 0xd_8400),
    (0xe_0000, 0xe_2000), // SATA
];

const fn decode(offset: u32) -> Block {
    match offset {
        0x0_8300..0x0_8340 => Block::Watchdog(offset - 0x0_8300),
        0x0_d064 => Block::WatchdogSelect,
        0x1_2000..0x1_2018 => Block::Uart0(offset - 0x1_2000),
        0x1_2200..0x1_2230 => Block::Uart1(offset - 0x1_2200),
        0x1_3840 => Block::WarmReset,
        0x1_3800..0x1_3900 => Block::NbPins(offset - 0x1_3800),
        0x1_3c00..0x1_3c40 => Block::NbIrq(offset - 0x1_3c00),
        0x1_8800..0x1_8900 => Block::SbPins(offset - 0x1_8800),
        0x1_8c00..0x1_8c40 => Block::SbIrq(offset - 0x1_8c00),
        0x3_2004 => Block::Mdio,
        0x3_0000..0x3_4000 => Block::Neta0(offset - 0x3_0000),
        0x4_0000..0x4_4000 => Block::Neta1(offset - 0x4_0000),
        _ => {
            let mut n = 0;
            while n < STORAGE.len() {
                if offset >= STORAGE[n].0 && offset < STORAGE[n].1 {
                    return Block::Storage;
                }
                n += 1;
            }
            Block::Nothing
        }
    }
}

/// Bits that read 1 whatever was written: locks and calibrations that boot loaders wait for before they go on.
/// Spec: U-Boot comphy_a3700.h.
const READY: &[(u32, u32)] = &[
    (0x1_8318, 0xd), // SERDES lanes 0 to 2: PLLs ready, receiver initialised
    (0x1_8340, 0xd),
    (0x1_8368, 0xd),
    (0x1_f304, 1 << 16), // PCIe and USB3 SERDES: clock enabled, 16-bit registers
    (0x5_c304, 1 << 16),
    (0x5_d000, 1 << 31), // USB2 PHYs: PLL, calibrations
    (0x5_d008, 1 << 31 | 1 << 23),
    (0x5_d018, 1 << 31),
    (0x5_f000, 1 << 31),
    (0x5_f008, 1 << 31 | 1 << 23),
    (0x5_f018, 1 << 31),
    (0xe_017c, 0x11), // SATA PHY, indirect data: PLL ready, clock enabled
];

/// Bits that read 0 whatever was written: resets and starts that end at once.
const SELF_CLEARING: &[(u32, u32)] = &[
    (0xd_0170, 1 << 31), // Xenon PHY initialisation
    (0xd_8170, 1 << 31),
    (0xe_0004, 1), // AHCI reset
];

const SB_RESET: u32 = 0x1_8600;
const SB_CLOCK_DISABLE: u32 = 0x1_8014;
/// Bits of both: the MACs' core clock gates, and their resets (0 holds them). The other gates of the network, of what
/// runs at 50 and 125 MHz, no driver of this board opens.
const NETA0: u32 = 1 << 5;
const NETA1: u32 = 1 << 4;

/// Card detect is pin 3, low with a card.
fn north_pins(config: &Config) -> Pins {
    let mut pins = Pins::new("pins-nb", 0, 1 << 60);
    pins.wire(3, !config.sd_card);
    pins
}

impl Board {
    /// A board that has just been switched on. `env` carries doubts, faults and seed; they survive resets.
    #[must_use]
    pub fn new(config: Config, mut env: Env) -> Self {
        let smi_mode = SmiMode::MultiChip(if config.variant == Variant::Ultra {
            3
        } else {
            1
        });
        let state = if config.from_uboot {
            PowerOn::UBoot
        } else {
            PowerOn::Straps
        };
        let mut board = Self {
            neta0: Neta::new("neta0", &env),
            neta1: Neta::new("neta1", &env),
            mdio: Mdio::default(),
            switch: Switch::new(&mut env, smi_mode, config.timing, state),
            uart0: Uart::new("uart0", Layout::Standard),
            uart1: Uart::new("uart1", Layout::Extended),
            nb_pins: north_pins(&config),
            sb_pins: Pins::new("pins-sb", 0, 0),
            watchdog: Watchdog::default(),
            words: storage_at_power_on(&config),
            wire: VecDeque::new(),
            out: VecDeque::new(),
            script: Script::default(),
            script_ended: false,
            trace: Trace::default(),
            plugged: [None; USER_PORTS],
            wire_counters: WireCounters::default(),
            out_lost: 0,
            reset_requested: false,
            mac_off: [false; 2],
            lines: 0,
            line_due: [None; LINES.len()],
            env,
            config,
        };
        board.refresh_lines();
        board
    }

    /// Reset by any cause: everything but cables, faults, doubts, script and the log starts over.
    pub fn reset(&mut self) {
        let state = if self.config.from_uboot {
            PowerOn::UBoot
        } else {
            PowerOn::Straps
        };
        self.reset_neta0();
        self.neta1 = Neta::new("neta1", &self.env);
        self.mdio = Mdio::default();
        self.switch.hardware_reset(&mut self.env, state);
        let sent = std::mem::take(&mut self.uart0.sent);
        self.uart0 = Uart::new("uart0", Layout::Standard);
        self.uart0.sent = sent;
        self.uart1 = Uart::new("uart1", Layout::Extended);
        self.nb_pins = north_pins(&self.config);
        self.sb_pins = Pins::new("pins-sb", 0, 0);
        self.watchdog = Watchdog::default();
        self.words = storage_at_power_on(&self.config);
        self.wire.clear();
        self.reset_requested = false;
        self.mac_off = [false; 2];
        self.line_due = [None; LINES.len()];
        self.lines = 0;
        self.refresh_lines();
    }

    /// The MAC as after power-on; how the host wants it to behave stays.
    fn reset_neta0(&mut self) {
        let (pace, backlog) = (self.neta0.wire_pace, self.neta0.rx_backlog_limit);
        self.neta0 = Neta::new("neta0", &self.env);
        self.neta0.wire_pace = pace;
        self.neta0.rx_backlog_limit = backlog;
    }

    /// Clock and reset of the MACs, as the storage registers now say.
    fn gate_macs(&mut self) {
        for (n, bit) in [(0, NETA0), (1, NETA1)] {
            let is_set = |at| self.words.get(&at).is_some_and(|word| word & bit != 0);
            let running = is_set(SB_RESET);
            self.mac_off[n] = !running || is_set(SB_CLOCK_DISABLE);
            if !running && n == 0 {
                self.reset_neta0();
            } else if !running {
                self.neta1 = Neta::new("neta1", &self.env);
            }
        }
    }

    /// Sets the time of everything that follows; time does not run backwards.
    pub fn set_time(&mut self, now: Nanos) {
        self.env.now = self.env.now.max(now);
    }

    /// Replaces the faults in force.
    ///
    /// # Errors
    ///
    /// [`FaultError`] if the list is not understood.
    pub fn set_faults(&mut self, list: &str) -> Result<(), FaultError> {
        self.env.faults.set_list(list)?;
        for socket in 0..USER_PORTS {
            if self.plugged[socket].is_some_and(|partner| partner != self.partner(socket)) {
                self.set_plugged(socket, true);
            }
        }
        Ok(())
    }

    /// Obeys a script from now on.
    pub fn follow(&mut self, script: Script) {
        self.script = script;
    }

    /// True once after the script's `end`.
    pub fn take_script_ended(&mut self) -> bool {
        std::mem::take(&mut self.script_ended)
    }

    /// Reads `size` bytes at `offset` from [`REGISTERS_BASE`].
    pub fn read(&mut self, dma: &mut dyn Dma, offset: u32, size: u8) -> u64 {
        if size == 8 {
            let low = self.read(dma, offset, 4);
            return low | self.read(dma, offset.wrapping_add(4), 4) << 32;
        }
        if let Some(mac) = self.gated(offset) {
            self.env.guest_error(
                mac,
                format!("read at {offset:#09x} while its clock is off or it is in reset"),
            );
            return 0;
        }
        let env = &mut self.env;
        let word = match decode(offset & !3) {
            Block::Neta0(at) => {
                let mut memory = Checked {
                    inner: dma,
                    ram_bytes: self.config.ram_bytes,
                };
                let value = self.neta0.read(env, &mut memory, at | offset & 3, size);
                self.carry(dma);
                return u64::from(value);
            }
            Block::Neta1(at) => {
                let mut memory = Checked {
                    inner: dma,
                    ram_bytes: self.config.ram_bytes,
                };
                return u64::from(self.neta1.read(env, &mut memory, at | offset & 3, size));
            }
            Block::Mdio => {
                if self.mdio.advance(env) {
                    self.neta0.smi_done();
                }
                self.mdio.read(env)
            }
            Block::Uart0(at) => self.uart0.read(env, at),
            Block::Uart1(at) => self.uart1.read(env, at),
            Block::NbPins(at) => self.nb_pins.read(env, at),
            Block::NbIrq(at) => self.nb_pins.read_irq(env, at),
            Block::SbPins(at) => self.sb_pins.read(env, at),
            Block::SbIrq(at) => self.sb_pins.read_irq(env, at),
            Block::WarmReset => 0,
            Block::Watchdog(at) => self.watchdog.read(env, at),
            Block::WatchdogSelect => self.watchdog.select,
            Block::Storage => {
                let at = offset & !3;
                let bits = |table: &[(u32, u32)]| {
                    table
                        .iter()
                        .find(|(known, _)| *known == at)
                        .map_or(0, |(_, bits)| *bits)
                };
                self.words.get(&at).copied().unwrap_or(0) & !bits(SELF_CLEARING) | bits(READY)
            }
            Block::Nothing => {
                env.guest_error(
                    "decode",
                    format!("read of {size} bytes at {offset:#09x}: nothing there"),
                );
                0
            }
        };
        self.refresh_lines();
        u64::from(narrow(word, offset, size))
    }

    /// Writes `size` bytes at `offset` from [`REGISTERS_BASE`].
    pub fn write(&mut self, dma: &mut dyn Dma, offset: u32, size: u8, value: u64) {
        if size == 8 {
            self.write(dma, offset, 4, value & 0xffff_ffff);
            return self.write(dma, offset.wrapping_add(4), 4, value >> 32);
        }
        if let Some(mac) = self.gated(offset) {
            self.env.guest_error(
                mac,
                format!("write at {offset:#09x} while its clock is off or it is in reset"),
            );
            return;
        }
        let word = value as u32;
        let env = &mut self.env;
        match decode(offset & !3) {
            Block::Neta0(at) => {
                let mut memory = Checked {
                    inner: dma,
                    ram_bytes: self.config.ram_bytes,
                };
                self.neta0
                    .write(env, &mut memory, at | offset & 3, size, word);
                return self.carry(dma);
            }
            Block::Neta1(at) => {
                let mut memory = Checked {
                    inner: dma,
                    ram_bytes: self.config.ram_bytes,
                };
                self.neta1
                    .write(env, &mut memory, at | offset & 3, size, word);
                // Its pins lead nowhere.
                while self.neta1.take_sent().is_some() {}
            }
            Block::Mdio => {
                if self.sb_pins.selection() & 1 << 4 != 0 {
                    env.guest_error("mdio", "the smi pins are GPIO");
                }
                self.mdio.write(env, &mut self.switch, word);
            }
            Block::Uart0(at) => self.uart0.write(env, at, word),
            Block::Uart1(at) => self.uart1.write(env, at, word),
            Block::NbPins(at) => self.nb_pins.write(env, at, word),
            Block::NbIrq(at) => self.nb_pins.write_irq(env, at, word),
            Block::SbPins(at) => self.sb_pins.write(env, at, word),
            Block::SbIrq(at) => self.sb_pins.write_irq(env, at, word),
            Block::WarmReset if word == 0x1d1e => self.reset_requested = true,
            Block::WarmReset => {
                env.guest_error("reset", format!("{word:#x} is not the warm reset word"))
            }
            Block::Watchdog(at) => self.watchdog.write(env, at, word),
            Block::WatchdogSelect => self.watchdog.select = word,
            Block::Storage => {
                let shift = 8 * (offset & 3);
                let mask = if size == 4 {
                    u32::MAX
                } else {
                    ((1 << (8 * size)) - 1) << shift
                };
                let slot = self.words.entry(offset & !3).or_insert(0);
                *slot = *slot & !mask | word << shift & mask;
                if matches!(offset & !3, SB_RESET | SB_CLOCK_DISABLE) {
                    self.gate_macs();
                }
            }
            Block::Nothing => {
                env.guest_error(
                    "decode",
                    format!("write of {word:#x} in {size} bytes at {offset:#09x}: nothing there"),
                );
            }
        }
        self.refresh_lines();
    }

    /// The MAC whose register, MDIO included, cannot answer now.
    fn gated(&self, offset: u32) -> Option<&'static str> {
        if self.mac_off == [false; 2] {
            return None;
        }
        match decode(offset & !3) {
            Block::Neta0(_) | Block::Mdio if self.mac_off[0] => Some("neta0"),
            Block::Neta1(_) if self.mac_off[1] => Some("neta1"),
            _ => None,
        }
    }

    /// Plugs the cable of a socket, or pulls it; the fault `partner` says who is at its other end, or a gigabit card.
    pub fn set_plugged(&mut self, socket: usize, plugged: bool) {
        let partner = plugged.then(|| self.partner(socket));
        self.plugged[socket] = partner;
        self.set_cable(socket, partner);
    }

    fn partner(&self, socket: usize) -> Partner {
        let limited = self.env.faults.partner(socket);
        limited.unwrap_or(Partner::GIGABIT)
    }

    /// Plugs a cable into a socket (0 to 2 for switch ports 1 to 3), or pulls it.
    pub fn set_cable(&mut self, socket: usize, partner: Option<Partner>) {
        let what = if partner.is_some() {
            "plugged"
        } else {
            "pulled"
        };
        self.trace.event(self.env.now, socket, what);
        self.switch
            .set_cable(&mut self.env, PortId(socket as u8 + 1), partner);
    }

    /// True when the MAC could take another frame, for a host that can wait.
    #[must_use]
    pub fn can_receive(&self) -> bool {
        self.neta0.can_receive()
    }

    /// A frame without FCS arrives at a socket. Short ones are padded, as their sender's MAC would.
    pub fn frame_in(&mut self, dma: &mut dyn Dma, socket: usize, frame: &[u8]) {
        self.trace.frame(self.env.now, socket, "in", frame);
        let port = PortId(socket as u8 + 1);
        self.wire_counters.from_sockets += 1;
        let mut padded = [0; 60];
        let frame = if frame.len() < padded.len() {
            padded[..frame.len()].copy_from_slice(frame);
            &padded
        } else {
            frame
        };
        let mut from_switch = Vec::new();
        self.switch
            .frame_from_port(&mut self.env, port, frame, &mut |to, data: &[u8]| {
                from_switch.push((to, data.to_vec()))
            });
        self.sort_out(from_switch);
        self.settle(dma);
    }

    /// The next frame that leaves by a socket.
    pub fn take_frame(&mut self) -> Option<(usize, Vec<u8>)> {
        let (port, frame) = self.out.pop_front()?;
        Some((usize::from(port.0) - 1, frame))
    }

    /// Earliest time at which something happens without an access.
    #[must_use]
    pub fn next_event(&self) -> Option<Nanos> {
        let wire = self.wire.iter().map(|travelling| travelling.due).min();
        let lines = self.line_due.iter().flatten().copied().min();
        [
            self.neta0
                .next_event(&self.env)
                .filter(|_| !self.mac_off[0]),
            self.switch.next_event(&self.env),
            self.watchdog.next_event(),
            self.script.next_due(),
            wire,
            lines,
        ]
        .into_iter()
        .fold(None, earliest)
    }

    /// Lets happen what is due.
    pub fn advance(&mut self, dma: &mut dyn Dma) {
        self.watchdog.advance(self.env.now);
        self.switch.advance(&mut self.env);
        while let Some(event) = self.script.take_due(self.env.now) {
            match event {
                Event::In(socket, frame) => self.frame_in(dma, socket, &frame),
                Event::Plugged(socket) => self.set_plugged(socket, true),
                Event::Pulled(socket) => self.set_plugged(socket, false),
                Event::Out(..) => {}
                Event::End => {
                    self.trace.end(self.env.now);
                    self.script_ended = true;
                }
            }
        }
        self.settle(dma);
    }

    /// True once after the software or the watchdog asked for a reset.
    pub fn take_reset_request(&mut self) -> bool {
        self.watchdog.take_expired() | std::mem::take(&mut self.reset_requested)
    }

    /// Levels of the interrupt lines, one bit for each of [`LINES`].
    #[must_use]
    pub fn lines(&self) -> u32 {
        self.lines
    }

    /// Lets the MAC do what it can, and the rest follow.
    fn settle(&mut self, dma: &mut dyn Dma) {
        let mut memory = Checked {
            inner: dma,
            ram_bytes: self.config.ram_bytes,
        };
        if !self.mac_off[0] {
            self.neta0.advance(&mut self.env, &mut memory);
        }
        self.carry(dma);
    }

    /// Takes frames along the wire until it is quiet; the MAC has done its part.
    fn carry(&mut self, dma: &mut dyn Dma) {
        loop {
            while let Some(frame) = self.neta0.take_sent() {
                self.travel(Toward::Switch, frame);
            }
            let now = self.env.now;
            let Some(due) = self
                .wire
                .iter()
                .position(|travelling| travelling.due <= now)
            else {
                break;
            };
            let Some(Travelling { toward, frame, .. }) = self.wire.remove(due) else {
                break;
            };
            match toward {
                Toward::Switch => self.enter_switch(&frame),
                Toward::Mac => {
                    let mut memory = Checked {
                        inner: dma,
                        ram_bytes: self.config.ram_bytes,
                    };
                    if !self.mac_off[0] {
                        self.neta0.receive(&mut self.env, &mut memory, frame);
                    }
                }
            }
        }
        self.refresh_lines();
    }

    fn enter_switch(&mut self, frame: &WireFrame) {
        let mut from_switch = Vec::new();
        let mut sink = |to: PortId, data: &[u8]| from_switch.push((to, data.to_vec()));
        if frame.bad_fcs {
            self.switch.damaged_frame_from_port(
                &mut self.env,
                PortId::CONDUIT,
                &frame.data,
                &mut sink,
            );
        } else {
            self.switch
                .frame_from_conduit(&mut self.env, &frame.data, &mut sink);
        }
        self.sort_out(from_switch);
    }

    fn sort_out(&mut self, frames: Vec<(PortId, Vec<u8>)>) {
        for (port, data) in frames {
            if port == PortId::CONDUIT {
                self.travel(
                    Toward::Mac,
                    WireFrame {
                        data,
                        bad_fcs: false,
                    },
                );
            } else if (1..=USER_PORTS as u8).contains(&port.0) {
                let socket = usize::from(port.0) - 1;
                self.trace.frame(self.env.now, socket, "out", &data);
                if self.out.len() < OUT_LIMIT {
                    self.wire_counters.to_sockets += 1;
                    self.out.push_back((port, data));
                } else {
                    self.out_lost += 1;
                }
            }
        }
    }

    /// Puts a frame on the RGMII wires, where the faults and the settings of both sides have their say.
    fn travel(&mut self, toward: Toward, mut frame: WireFrame) {
        match toward {
            Toward::Switch => self.wire_counters.from_mac += 1,
            Toward::Mac => self.wire_counters.to_mac += 1,
        }
        let (mac, switch) = (
            self.neta0.link(&self.env).filter(|_| !self.mac_off[0]),
            self.switch.conduit_link(&mut self.env),
        );
        let (Some(mac), Some(switch)) = (mac, switch) else {
            self.wire_counters.no_link += 1;
            return;
        };
        let mbps = match switch.link.speed {
            Speed::S10 => 10,
            Speed::S100 => 100,
            Speed::S1000 => 1000,
        };
        if mbps != mac.mbps || switch.link.full_duplex != mac.full_duplex || !switch.delays {
            self.wire_counters.damaged += 1;
            frame.bad_fcs = true;
        }
        let mut due = self.env.now;
        if !self.env.faults.is_empty() {
            let way = match toward {
                Toward::Switch => Way::Tx,
                Toward::Mac => Way::Rx,
            };
            let faults = &mut self.env.faults;
            if faults.every_frame("frame-drop", way) {
                self.wire_counters.faulted += 1;
                return;
            }
            if faults.every_frame("frame-corrupt", way) {
                self.wire_counters.faulted += 1;
                frame.bad_fcs = true;
                let at = self.env.prng.below(frame.data.len() as u64) as usize;
                frame.data[at] ^= 1 << self.env.prng.below(8);
            }
            // Behind both addresses: four bytes, or eight with an EtherType in front.
            if toward == Toward::Mac && frame.data.len() >= 20 && faults.every("tag-damage") {
                self.wire_counters.faulted += 1;
                let at = 12 + self.env.prng.below(8) as usize;
                frame.data[at] ^= 1 << self.env.prng.below(8);
            }
            if let Some(delay) = faults.take_frame("frame-delay", way) {
                self.wire_counters.faulted += 1;
                due = due.saturating_add(delay);
            }
            if faults.every_frame("frame-reorder", way) {
                self.wire_counters.faulted += 1;
                // Behind whatever comes within the next 100 microseconds.
                due = due.saturating_add(100_000);
            }
            if faults.every_frame("frame-duplicate", way) {
                self.wire_counters.faulted += 1;
                let frame = frame.clone();
                self.wire.push_back(Travelling { due, toward, frame });
            }
        }
        if self.wire.len() < WIRE_LIMIT {
            self.wire.push_back(Travelling { due, toward, frame });
        } else {
            self.wire_counters.wire_full += 1;
        }
    }

    fn refresh_lines(&mut self) {
        let (uart0, uart1) = (self.uart0.lines(), self.uart1.lines());
        let nb = self.nb_pins.pending();
        let sb = self.sb_pins.pending();
        let wanted = [
            uart0.tx || uart0.rx,
            uart0.tx,
            uart0.rx,
            uart1.tx,
            uart1.rx,
            self.neta0.irq_line(&self.env),
            self.neta1.irq_line(&self.env),
            nb & 0xff != 0,
            nb & 0xf_ffff_ff00 != 0,
            sb & 0xff != 0,
            sb & 0x3fff_ff00 != 0,
        ];
        let plain = self.env.faults.is_empty();
        for (n, level) in wanted.into_iter().enumerate() {
            let bit = 1 << n;
            if plain || !level || self.lines & bit != 0 {
                self.line_due[n] = None;
                self.lines = if level {
                    self.lines | bit
                } else {
                    self.lines & !bit
                };
                continue;
            }
            // A rising edge, with faults in force.
            let (now, faults) = (self.env.now, &mut self.env.faults);
            let lost = faults
                .number("irq-lost", 0)
                .is_some_and(|line| line == 0 || line == u64::from(LINES[n]));
            if lost {
                faults.take("irq-lost");
                continue;
            }
            let due = self.line_due[n]
                .unwrap_or_else(|| now.saturating_add(faults.take("irq-delay").unwrap_or(0)));
            self.line_due[n] = (due > now).then_some(due);
            if due <= now {
                self.lines |= bit;
            }
        }
    }
}

/// What storage registers hold when software starts.
fn storage_at_power_on(config: &Config) -> BTreeMap<u32, u32> {
    let mut words = BTreeMap::new();
    // Every three-bit divider reads 1, 2 or 4, never 0.
    const DIVIDERS: u32 = 0x1249_2492;
    for bank in [0x1_3000, 0x1_8000] {
        for divider in [0x04, 0x08, 0x0c] {
            words.insert(bank + divider, DIVIDERS);
        }
    }
    // PLLs: A runs at 25 x 4 x 32 / 2 = 1600 MHz, B at 2000 MHz, both halved.
    words.insert(0x1_3204, 32 << 2 | 40 << 18);
    words.insert(0x1_3208, 1 | 1 << 16);
    words.insert(0x1_3220, 2 | 2 << 16);
    words.insert(0x1_3230, 1 << 1 | 1 << 17);
    // South bridge: the MAC's core clock comes from PLL B, 1000 MHz / 2 / 2 = 250 MHz.
    words.insert(0x1_8000, 1 << 8);
    words.insert(0x1_8008, DIVIDERS & !(0x3f << 18) | 2 << 18 | 2 << 21);
    words.insert(SB_RESET, 0xfff);
    words.insert(0x1_2400, 0x7f_ffff);
    // Board revision test: DDR type.
    words.insert(
        0x0_02c4,
        if config.variant == Variant::V5 {
            2 << 4
        } else {
            3 << 4
        },
    );
    // CPU decode window 0: DRAM at 0. Spec: U-Boot and TF-A, control, size, base, remap.
    words.insert(0x0_cf00, 1);
    words.insert(
        0x0_cf04,
        u32::try_from((config.ram_bytes >> 16).saturating_sub(1)).unwrap_or(0xffff) & 0xffff,
    );
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Ram;

    fn board() -> (Board, Ram) {
        (
            Board::new(
                Config {
                    ram_bytes: 1 << 20,
                    ..Config::default()
                },
                Env::default(),
            ),
            Ram::new(1 << 20),
        )
    }

    #[test]
    fn every_register_may_be_touched_in_any_way() {
        let (mut board, mut ram) = board();
        let mut prng = crate::prng::Prng::new(1);
        for step in 0..200_000_u64 {
            // Mostly where blocks are, sometimes anywhere.
            let base = [0x3_0000, 0x3_2000, 0x1_2000, 0x1_3800, 0x0_8300, 0x1_8800]
                [prng.below(6) as usize];
            let spread = if prng.below(10) == 0 {
                REGISTERS_LEN
            } else {
                0x4000
            };
            let offset = (base + prng.below(spread)) as u32 % REGISTERS_LEN as u32;
            let size = [1, 2, 4, 8][prng.below(4) as usize];
            board.set_time(step * 1000);
            if prng.below(2) == 0 {
                board.read(&mut ram, offset, size);
            } else {
                let value = prng.next_u64();
                board.write(&mut ram, offset, size, value);
            }
            if prng.below(50) == 0 {
                board.frame_in(&mut ram, 0, &[0xff; 64]);
                while board.take_frame().is_some() {}
            }
        }
        assert!(board.env.guest_error_count() > 0);
    }

    #[test]
    fn a_limited_partner_is_there_while_its_fault_is() {
        let (mut board, _) = board();
        board.set_plugged(0, true);
        let speed = |board: &mut Board| {
            board.set_time(board.env.now + 10_000_000_000);
            board.switch.advance(&mut board.env);
            board
                .switch
                .link(&mut board.env, PortId(1))
                .map(|link| (link.speed, link.full_duplex))
        };
        assert_eq!(speed(&mut board), Some((Speed::S1000, true)));
        for (mode, wanted) in [
            ("partner=wan:10-half", (Speed::S10, false)),
            (
                "partner=lan0:10-full,partner=wan:100-full",
                (Speed::S100, true),
            ),
            ("partner=wan:100-full!", (Speed::S100, false)),
            ("", (Speed::S1000, true)),
        ] {
            board.set_faults(mode).unwrap();
            assert_eq!(speed(&mut board), Some(wanted), "{mode}");
        }
        for nonsense in ["", "100", "1000-full!", "100-both"] {
            assert_eq!(Partner::limited(nonsense), None);
        }
    }

    #[test]
    fn unknown_addresses_are_noted() {
        let (mut board, mut ram) = board();
        board.read(&mut ram, 0x0100_0000, 4);
        board.write(&mut ram, 0x0100_0000, 4, 1);
        assert_eq!(board.env.guest_error_count(), 2);
    }

    #[test]
    fn the_mac_answers_only_with_clock_and_out_of_reset() {
        let (mut board, mut ram) = board();
        for (register, off, on) in [
            (SB_CLOCK_DISABLE, 1 << 5, 0),
            (SB_RESET, 0xfff & !(1 << 5), 0xfff),
        ] {
            board.write(&mut ram, 0x3_2500, 4, 1);
            assert_eq!(board.read(&mut ram, 0x3_2500, 4), 1);
            board.write(&mut ram, register, 4, off);
            assert_eq!(board.read(&mut ram, 0x3_2500, 4), 0);
            board.write(&mut ram, 0x3_2004, 4, 0);
            assert_eq!(board.env.take_guest_errors().len(), 2);
            board.write(&mut ram, register, 4, on);
        }
        assert_eq!(
            board.read(&mut ram, 0x3_2500, 4),
            0,
            "the reset pulse forgot everything"
        );
    }

    #[test]
    fn a_reset_leaves_what_the_host_chose_and_nothing_of_what_software_did() {
        let (mut board, mut ram) = board();
        board.neta0.wire_pace = true;
        board.neta0.rx_backlog_limit = 7;
        let direction = |board: &mut Board, ram: &mut Ram| board.read(ram, 0x1_3800, 4);
        let before = direction(&mut board, &mut ram);
        board.write(&mut ram, 0x1_3800, 4, before ^ 0xff);
        board.write(&mut ram, SB_RESET, 4, 0xfff & !(1 << 5));
        board.write(&mut ram, SB_RESET, 4, 0xfff);
        assert!(board.neta0.wire_pace && board.neta0.rx_backlog_limit == 7);
        board.reset();
        assert!(board.neta0.wire_pace && board.neta0.rx_backlog_limit == 7);
        assert_eq!(direction(&mut board, &mut ram), before);
    }

    #[test]
    fn each_mac_has_its_own_gate() {
        let (mut board, mut ram) = board();
        board.write(&mut ram, SB_CLOCK_DISABLE, 4, 1 << 4);
        board.read(&mut ram, 0x3_2500, 4);
        assert_eq!(board.env.guest_error_count(), 0);
        board.read(&mut ram, 0x4_2500, 4);
        assert_eq!(board.env.guest_error_count(), 1);
        // The gates of the 50 and 125 MHz clocks.
        board.write(&mut ram, SB_CLOCK_DISABLE, 4, 0xf);
        board.read(&mut ram, 0x4_2500, 4);
        assert_eq!(board.env.guest_error_count(), 1);
    }

    #[test]
    fn a_script_feeds_the_board_and_its_trace_repeats_it() {
        let mut frame = [0_u8; 64];
        frame[..12].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1]);
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        let script = format!(
            "200000 wan plugged\n200000 lan1 plugged\n9000000000 wan in {hex}\n9500000000 lan1 pulled\n\
             9600000000 wan in {hex}\n9700000000 end\n9800000000 wan in {hex}\n"
        );
        let run = |script: &str| {
            let (mut board, mut ram) = board();
            // Frames of port 1 may leave by ports 0 and 3: U-Boot leaves them port 0 only.
            for word in [1 << 21 | 0x9, 0x9406 | 0x11 << 5] {
                board.write(&mut ram, 0x3_2004, 4, 1 << 16 | word);
                board.set_time(board.env.now + 100_000);
                board.read(&mut ram, 0x3_2004, 4);
            }
            board.trace.start();
            board.follow(Script::parse(script).unwrap());
            for _ in 0..100 {
                let Some(due) = board.next_event() else { break };
                board.set_time(due);
                board.advance(&mut ram);
                if board.take_script_ended() {
                    break;
                }
            }
            board.trace.take()
        };
        let trace = run(&script);
        assert_eq!(trace.matches(" out ").count(), 1, "{trace}");
        assert!(trace.contains(&format!("9000000000 lan1 out {hex}\n")));
        assert!(trace.ends_with("\n9700000000 end\n"));
        assert_eq!(run(&trace), trace);
        assert_ne!(
            run(&script.replace("9500000000 lan1", "9500000000 lan0")),
            trace
        );
    }

    #[test]
    fn the_warm_reset_word_asks_once() {
        let (mut board, mut ram) = board();
        board.write(&mut ram, 0x1_3840, 4, 0x1d1e);
        assert!(board.take_reset_request());
        assert!(!board.take_reset_request());
    }

    #[test]
    fn the_switch_answers_through_the_mdio_register() {
        let (mut board, mut ram) = board();
        board.set_time(1_000_000_000);
        let mut operation = |board: &mut Board, value: u64| {
            board.write(&mut ram, 0x3_2004, 4, value);
            let later = board.env.now + 100_000;
            board.set_time(later);
            board.read(&mut ram, 0x3_2004, 4)
        };
        // Multi-chip read of port 0, register 3: the product number.
        operation(&mut board, 1 << 16 | 0x9803 | (0x10 << 5));
        let value = operation(&mut board, 1 << 26 | 1 << 16 | 1 << 21);
        assert_eq!(value & 0xfff0, 0x3410);
        assert_eq!(board.env.guest_errors(), []);
    }
}
