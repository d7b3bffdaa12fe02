//! The 88E6341 "Topaz" switch: six ports, four copper PHYs, one MDIO address.
//!
//! ```text
//!             MDIO (smi)                              frames in, frames out (forward, tag)
//!                 │                                        │
//!   ┌─────────────▼──────────────┐          ┌──────────────▼───────────────┐
//!   │ global1 ─ atu, vtu, stats  │◀─ rules ─│ port 0      ◀─RGMII─▶ conduit│
//!   │ global2 ─ PHY access, PVT  │          │ ports 1..4  ◀─▶ phy ◀─▶ cable│
//!   │ port    ─ one per port     │          │ port 5      ◀─▶ serdes       │
//!   └────────────────────────────┘          └──────────────────────────────┘
//! ```
//!
//! Written from the hardware facts; each file is one register block in the order of its offsets. Nothing waits: busy
//! bits, resets and negotiation end in virtual time, seen when somebody looks. Every call takes the time from
//! [`Env::now`].
//!
//! Simplified: frames take no time to pass, so there are no queues, no rate limits and no effect of pause frames;
//! RGMII, GMII and SERDES differ in nothing but their names. Absent: remote management (RMU) frames, the TCAM, ARP
//! mirroring, time stamps of PTP frames, wake on LAN.

mod atu;
pub(crate) mod context;
pub(crate) mod doubts;
mod forward;
mod global1;
mod global2;
mod indexed;
mod port;
mod serdes;
mod smi;
mod stats;
mod tag;
mod vtu;

#[cfg(test)]
mod tests;

pub use context::Timing;
pub use doubts::DOUBTS;
pub use port::PORTS;
pub use smi::SmiMode;
pub use stats::{Counter, Counters};
pub use tag::{Code, Command, Tag, Tci};

use crate::bus::{Env, Nanos, earliest};
use crate::doubts::Doubts;
use crate::phy::{Link, Pair, Partner, Phy};
use context::Context;
use doubts::{BusyTimes, Port0UnforcedLink, Readings};
use global1::Global1;
use global2::Global2;
use port::{CONDUIT, Port, PortLink, SERDES};

/// A port of the switch, 0 to 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u8);

impl PortId {
    /// The port wired to the Armada's first MAC.
    pub const CONDUIT: Self = Self(CONDUIT);
}

/// The link the switch shows the conduit MAC on port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConduitLink {
    /// Speed and duplex; the MAC's must be the same.
    pub link: Link,
    /// Both RGMII delays are on: without them every frame arrives damaged.
    pub delays: bool,
}

/// What software finds when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerOn {
    /// What the straps set.
    Straps,
    /// What U-Boot's board code leaves behind.
    UBoot,
}

/// How long the bus reads 0xffff after a hardware reset. Inherited: Linux waits 10 ms after releasing the reset line.
const HARDWARE_RESET_NS: Nanos = 5_000_000;
/// The fault `link-flap`: this long without a link ...
const FLAP_DOWN_NS: Nanos = 100_000_000;
/// ... out of this long.
const FLAP_PERIOD_NS: Nanos = 5_000_000_000;

/// The switch.
#[derive(Debug)]
pub struct Switch {
    smi_mode: SmiMode,
    timing: Timing,
    /// The doubts the readings were looked up from.
    chosen: Doubts,
    readings: Readings,
    /// The bus answers nothing before this time.
    away_until: Nanos,
    /// Faults of the PHYs were in force at the last look.
    phy_faults: bool,
    smi: smi::Smi,
    ports: [Port; PORTS as usize],
    hidden: port::Hidden,
    phys: [Phy; 4],
    serdes: serdes::Serdes,
    g1: Global1,
    g2: Global2,
    atu: atu::Atu,
    vtu: vtu::Vtu,
    stats: stats::Stats,
    path: forward::DataPath,
}

impl Switch {
    /// A switch that has just been powered, with no cable in any port.
    #[must_use]
    pub fn new(env: &mut Env, smi_mode: SmiMode, timing: Timing, state: PowerOn) -> Self {
        let readings = Readings::of(&env.doubts);
        let chosen = env.doubts.clone();
        let context = Context {
            now: env.now,
            timing,
            doubts: readings,
            env: &mut *env,
        };
        let mut switch = Self {
            smi_mode,
            timing,
            chosen,
            readings,
            away_until: 0,
            phy_faults: false,
            smi: smi::Smi::default(),
            ports: std::array::from_fn(|number| Port::new(number as u8, &context)),
            hidden: port::Hidden::default(),
            phys: std::array::from_fn(|_| Phy::new(&context)),
            serdes: serdes::Serdes::new(None),
            g1: Global1::new(),
            g2: Global2::new(),
            atu: atu::Atu::new(),
            vtu: vtu::Vtu::default(),
            stats: stats::Stats::default(),
            path: forward::DataPath::default(),
        };
        if state == PowerOn::UBoot {
            switch.leave_as_u_boot(env);
        }
        switch
    }

    /// A hardware reset, as by power or by accident: all but the cables returns to the straps, and the bus is silent
    /// for a while.
    pub fn hardware_reset(&mut self, env: &mut Env, state: PowerOn) {
        self.refresh_readings(env);
        let context = self.context(env);
        self.smi = smi::Smi::default();
        self.reset_registers(&context);
        self.atu = atu::Atu::new();
        self.vtu = vtu::Vtu::default();
        self.stats = stats::Stats::default();
        self.serdes = serdes::Serdes::new(self.serdes.partner);
        self.phys
            .iter_mut()
            .for_each(|phy| phy.hardware_reset(&context));
        self.association_changed();
        self.away_until = match state {
            PowerOn::Straps => env.now.saturating_add(HARDWARE_RESET_NS),
            PowerOn::UBoot => {
                self.leave_as_u_boot(env);
                env.now
            }
        };
    }

    fn reset_registers(&mut self, context: &Context) {
        self.ports = std::array::from_fn(|number| Port::new(number as u8, context));
        self.hidden = port::Hidden::default();
        self.g1 = Global1::new();
        self.g2 = Global2::new();
    }

    /// Spec: U-Boot board/Marvell/mvebu_armada-37xx/board.c, `espressobin_last_stage_init`.
    fn leave_as_u_boot(&mut self, env: &mut Env) {
        let mut context = self.context(env);
        for port in 0..=3u8 {
            let registers = &mut self.ports[usize::from(port)];
            registers.write(0x04, 0x007f, &mut context);
            if port == CONDUIT {
                registers.write(0x01, 0xe002, &mut context);
            } else {
                registers.write(0x06, 1 << CONDUIT, &mut context);
                self.phys[usize::from(port - 1)].write(0, 0x1140, &mut context);
            }
        }
    }

    // The wires.

    /// Plugs something into a port's socket, or pulls it out. Port 0 has no socket.
    pub fn set_cable(&mut self, env: &mut Env, port: PortId, partner: Option<Partner>) {
        self.advance(env);
        let timing = self.timing;
        match port.0 {
            SERDES => self.serdes.partner = partner,
            _ => {
                if let Some(phy) = self.phy_mut(port) {
                    phy.set_partner(partner, env.now, timing);
                }
            }
        }
    }

    /// Pulls the cable of a copper port for `duration` nanoseconds.
    pub fn flap_link(&mut self, env: &mut Env, port: PortId, duration: Nanos) {
        self.advance(env);
        let timing = self.timing;
        if let Some(phy) = self.phy_mut(port) {
            phy.flap(env.now, duration, timing);
        }
    }

    /// What the cable test of a copper port will find.
    pub fn set_pairs(&mut self, port: PortId, pairs: [Pair; 4]) {
        if let Some(phy) = self.phy_mut(port) {
            phy.set_pairs(pairs);
        }
    }

    /// Temperature of the die in degrees Celsius, the same in every PHY.
    pub fn set_degrees(&mut self, degrees: i16) {
        self.phys
            .iter_mut()
            .for_each(|phy| phy.set_degrees(degrees));
    }

    /// The link of a port as its MAC sees it.
    pub fn link(&mut self, env: &mut Env, port: PortId) -> Option<Link> {
        self.advance(env);
        (port.0 < PORTS)
            .then(|| self.port_link(port.0, env.now).up)
            .flatten()
    }

    /// The link on the conduit's wires, if port 0 has one.
    pub fn conduit_link(&mut self, env: &mut Env) -> Option<ConduitLink> {
        let link = self.link(env, PortId::CONDUIT)?;
        let port = &self.ports[usize::from(CONDUIT)];
        Some(ConduitLink {
            link,
            delays: port.rgmii_rx_delay() && port.rgmii_tx_delay(),
        })
    }

    /// The counters of a port, live.
    #[must_use]
    pub fn counters(&self, port: PortId) -> Option<&Counters> {
        self.stats.ports.get(usize::from(port.0))
    }

    // Time.

    /// When something will change by itself, if nobody touches the switch before.
    #[must_use]
    pub fn next_event(&self, env: &Env) -> Option<Nanos> {
        let links = self.phys.iter().map(Phy::next_event).fold(None, earliest);
        let flap = env.faults.has("link-flap").then(|| {
            let phase = env.now % FLAP_PERIOD_NS;
            env.now - phase
                + if phase < FLAP_DOWN_NS {
                    FLAP_DOWN_NS
                } else {
                    FLAP_PERIOD_NS
                }
        });
        earliest(earliest(links, self.atu.next_event()), flap)
    }

    /// Catches up with virtual time: links come up, entries age, doubts and faults take effect.
    pub fn advance(&mut self, env: &mut Env) {
        self.refresh_readings(env);
        if self.phy_faults || !env.faults.is_empty() {
            if env.faults.take("switch-silent-reset").is_some() {
                self.hardware_reset(env, PowerOn::Straps);
            }
            self.apply_phy_faults(env);
        }
        self.phys.iter_mut().for_each(|phy| phy.advance(env.now));
        self.atu.age(env.now);
    }

    fn refresh_readings(&mut self, env: &Env) {
        if self.chosen != env.doubts {
            self.chosen = env.doubts.clone();
            self.readings = Readings::of(&env.doubts);
        }
    }

    fn apply_phy_faults(&mut self, env: &Env) {
        let hit = |name, port: u64| {
            env.faults
                .number(name, 0)
                .is_some_and(|wanted| wanted == 0 || wanted == port)
        };
        let flap_phase = env.now % FLAP_PERIOD_NS;
        self.phy_faults = !env.faults.is_empty();
        for (port, phy) in (1..).zip(&mut self.phys) {
            phy.set_cable_fault(env.faults.cable(port as usize - 1));
            phy.set_never_completes(hit("phy-never-completes", port), env.now, self.timing);
            if hit("link-flap", port) && flap_phase < FLAP_DOWN_NS {
                phy.flap_until(env.now - flap_phase + FLAP_DOWN_NS, env.now, self.timing);
            }
        }
    }

    // The register map.

    fn context<'a>(&self, env: &'a mut Env) -> Context<'a> {
        let timing = match self.readings.busy_times {
            BusyTimes::Short => self.timing,
            BusyTimes::Long => self.timing.with_long_busy_times(),
        };
        Context {
            now: env.now,
            timing,
            doubts: self.readings,
            env,
        }
    }

    /// A register of one of the chip's devices; `None` if there is no such device.
    fn read_device(&mut self, env: &mut Env, device: u8, register: u8) -> Option<u16> {
        let mut context = self.context(env);
        let context = &mut context;
        match device {
            0x10..=0x15 => {
                let port = device - 0x10;
                if register == port::Hidden::REGISTER {
                    return Some(self.hidden.read(port, context));
                }
                let link = self.port_link(port, context.now);
                Some(self.ports[usize::from(port)].read(register, link, context))
            }
            0x1b => Some(self.read_global1(context, register)),
            0x1c => Some(self.read_global2(context, register)),
            _ => None,
        }
    }

    /// As [`Self::read_device`]; false if there is no such device.
    fn write_device(&mut self, env: &mut Env, device: u8, register: u8, value: u16) -> bool {
        let mut context = self.context(env);
        let context = &mut context;
        match device {
            0x10..=0x15 => {
                let port = device - 0x10;
                match register {
                    port::Hidden::REGISTER => self.hidden.write(port, value, context),
                    // The C-mode field, once the hidden register says so.
                    0x00 if port == SERDES && self.hidden.c_mode_is_writable() => {
                        self.ports[usize::from(SERDES)].set_c_mode(value as u8);
                    }
                    _ => self.ports[usize::from(port)].write(register, value, context),
                }
                self.association_changed();
            }
            0x1b => self.write_global1(context, register, value),
            0x1c => self.write_global2(context, register, value),
            _ => return false,
        }
        true
    }

    /// The ATU ages by what the ports say about their entries.
    fn association_changed(&mut self) {
        let mask = |wanted: fn(&Port) -> bool| {
            (0..).zip(&self.ports).fold(0, |mask, (port, registers)| {
                mask | u16::from(wanted(registers)) << port
            })
        };
        self.atu.hold_at_1 = mask(Port::holds_age_at_1);
        self.atu.tell_age_out = mask(Port::tells_age_out);
    }

    fn phy_mut(&mut self, port: PortId) -> Option<&mut Phy> {
        self.phys.get_mut(usize::from(port.0).checked_sub(1)?)
    }

    /// The PHY of a copper port.
    fn phy(&self, port: u8) -> Option<&Phy> {
        self.phys.get(usize::from(port).checked_sub(1)?)
    }

    fn port_link(&self, port: u8, now: Nanos) -> PortLink {
        let media = match (port, self.phy(port)) {
            (_, Some(phy)) => {
                let up = if self.g1.ppu_polls(now) {
                    phy.link()
                } else {
                    None
                };
                PortLink {
                    up,
                    my_pause: phy.advertises_pause(),
                }
            }
            (CONDUIT, _) => PortLink {
                up: (self.readings.port0_unforced_link == Port0UnforcedLink::Up)
                    .then_some(Link::GIGABIT),
                my_pause: false,
            },
            _ => PortLink {
                up: self.serdes.link(),
                my_pause: false,
            },
        };
        self.ports[usize::from(port)].resolve(media)
    }
}
