//! What is wrong with a port, in words, and why: from registers, counters and addresses to findings.
//!
//! Pure: whoever gathers the facts is [`commands::doctor`](super::commands). Nothing here is remembered or measured.
//!
//! | judged | by |
//! | --- | --- |
//! | link and negotiation | [`Port`], from the registers of its PHY if it has one |
//! | the switch's port | its state |
//! | addresses | what was to come by itself and did not |
//! | counters | [`RULES`]: one that moves now weighs more than one that moved before |

use super::net::Plan;
use core::fmt::{self, Arguments};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is wrong.
    Ok,
    /// Worth knowing.
    Note,
    /// It works badly, or not for everybody.
    Warning,
    /// It does not work.
    Fault,
}

impl Severity {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Fault => "fault",
        }
    }
}

/// Takes a finding: how bad it is, and the sentence with its evidence.
pub type Tell<'t> = dyn FnMut(Severity, Arguments) + 't;

/// Registers of a PHY, page 0, that tell about its link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phy {
    /// Register 0.
    pub control: u16,
    /// Register 4: what this side offers.
    pub own: u16,
    /// Register 5: what the partner offers.
    pub partner: u16,
    /// Register 6, bit 0: the partner negotiates.
    pub expansion: u16,
    /// Register 9: what this side offers at 1000 Mb/s.
    pub gigabit: u16,
    /// Register 10: what the partner offers there, idle errors since it was read last, and the fault of the masters.
    pub gigabit_status: u16,
    /// Marvell's register 17: what came of it.
    pub copper: u16,
}

/// The registers of [`Phy`] in the order of its fields.
pub const PHY_REGISTERS: [u8; 7] = [0, 4, 5, 6, 9, 10, 17];

impl From<[u16; PHY_REGISTERS.len()]> for Phy {
    fn from(values: [u16; PHY_REGISTERS.len()]) -> Self {
        let [
            control,
            own,
            partner,
            expansion,
            gigabit,
            gigabit_status,
            copper,
        ] = values;
        Phy {
            control,
            own,
            partner,
            expansion,
            gigabit,
            gigabit_status,
            copper,
        }
    }
}

// Spec: IEEE 802.3 clauses 22, 28 and 40.
const POWER_DOWN: u16 = 1 << 11;
const NEGOTIATES: u16 = 1 << 12;
const PARTNER_NEGOTIATES: u16 = 1 << 0;
const MASTER_SLAVE_FAULT: u16 = 1 << 15;
const IDLE_ERRORS: u16 = 0xff;
// Spec: Linux marvell.c, MII_M1011_PHY_STATUS.
const FULL_DUPLEX: u16 = 1 << 13;
const LINK: u16 = 1 << 10;

/// Speed and duplex modes: 10 half, 10 full, 100 half ... from the lowest bit up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Modes(u16);

const MODES: [&str; 6] = [
    "10 half",
    "10 full",
    "100 half",
    "100 full",
    "1000 half",
    "1000 full",
];

impl Modes {
    /// From registers 4 and 9, or 5 and 10 with the fields of the latter where those of 9 are.
    fn of(up_to_100: u16, at_1000: u16) -> Self {
        Modes(up_to_100 >> 5 & 0xf | (at_1000 >> 8 & 3) << 4)
    }

    /// The best of them: its number in [`MODES`].
    fn best(self) -> Option<usize> {
        self.0.checked_ilog2().map(|bit| bit as usize)
    }
}

impl fmt::Display for Modes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (bit, name) in MODES.iter().enumerate() {
            if self.0 >> bit & 1 != 0 {
                f.write_str(between)?;
                f.write_str(name)?;
                between = ", ";
            }
        }
        Ok(())
    }
}

/// The facts about a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Its link is up.
    pub up: bool,
    /// Its PHY, if it could be read.
    pub phy: Option<Phy>,
    /// The state of the switch's port, 0 to 3: disabled, blocking, learning, forwarding.
    pub state: Option<u16>,
    /// Its PHY is in somebody else's hands: in loopback, or under test.
    pub held: bool,
    /// How it gets its addresses, if it is an interface.
    pub plan: Option<Plan>,
    /// It has an IPv4 address that is not link-local.
    pub has_ipv4: bool,
    /// The same for IPv6.
    pub has_ipv6: bool,
}

impl Port {
    /// Tells what is wrong. Says nothing if all is well.
    pub fn judge(&self, tell: &mut Tell) {
        if self.held {
            tell(
                Severity::Note,
                format_args!("its PHY is in loopback or under test"),
            );
            return;
        }
        match &self.phy {
            Some(phy) if self.up => phy.judge_link(tell),
            Some(phy) => phy.judge_silence(tell),
            None if !self.up => tell(Severity::Warning, format_args!("no link: {NO_PARTNER}")),
            None => {}
        }
        if !self.up {
            return;
        }
        if let Some(state) = self.state.filter(|state| state & 3 != 3) {
            let word = ["disabled", "blocking", "learning"][usize::from(state & 3).min(2)];
            tell(
                Severity::Fault,
                format_args!(
                    "the link is up, but the switch does not forward here: the port is {word} (port state={state})"
                ),
            );
        }
        let Some(plan) = &self.plan else { return };
        let lacks = [
            (
                plan.asks_dhcp && !self.has_ipv4,
                Severity::Warning,
                "no DHCP lease: no server answers, or it has no address left",
            ),
            (
                plan.asks_dhcp && self.has_ipv4 && !plan.has_router,
                Severity::Note,
                "the DHCP lease names no router: only neighbours can be reached",
            ),
            (
                plan.asks_routers && !self.has_ipv6,
                Severity::Note,
                "no router advertisement with a prefix: link-local IPv6 only",
            ),
        ];
        for (_, severity, sentence) in lacks.into_iter().filter(|lack| lack.0) {
            tell(severity, format_args!("{sentence}"));
        }
        if plan.conflicts > 0 {
            let count = plan.conflicts;
            tell(
                Severity::Warning,
                format_args!("somebody else claims an address of ours (conflicts={count})"),
            );
        }
    }
}

const NO_PARTNER: &str = "no cable, or the device at its other end is off";
const BROKEN_PAIR: &str = "a pair of the cable is likely broken";

impl Phy {
    /// Whether there is a link right now.
    pub fn has_link(&self) -> bool {
        self.copper & LINK != 0
    }

    fn own_modes(&self) -> Modes {
        Modes::of(self.own, self.gigabit)
    }

    fn partner_modes(&self) -> Modes {
        Modes::of(self.partner, self.gigabit_status >> 2)
    }

    /// Why there is no link.
    fn judge_silence(&self, tell: &mut Tell) {
        let (own, partner) = (self.own_modes(), self.partner_modes());
        let Phy {
            control,
            partner: register,
            gigabit_status,
            ..
        } = *self;
        if control & POWER_DOWN != 0 {
            tell(
                Severity::Fault,
                format_args!("the PHY is switched off (register 0=0x{control:04x})"),
            );
        } else if gigabit_status & MASTER_SLAVE_FAULT != 0 {
            tell(
                Severity::Fault,
                format_args!(
                    "both sides insist on being master, or slave (register 10=0x{gigabit_status:04x})"
                ),
            );
        } else if partner.0 == 0 {
            tell(
                Severity::Warning,
                format_args!("no link: {NO_PARTNER} (register 5=0x{register:04x})"),
            );
        } else if own.0 & partner.0 == 0 {
            tell(
                Severity::Fault,
                format_args!("no mode in common: this side offers {own}, the partner {partner}"),
            );
        } else {
            tell(
                Severity::Fault,
                format_args!(
                    "the partner offers {partner}, but no link comes of it: {BROKEN_PAIR} (register 5=0x{register:04x})"
                ),
            );
        }
    }

    /// What is wrong with a link that is there.
    fn judge_link(&self, tell: &mut Tell) {
        let (own, partner) = (self.own_modes(), self.partner_modes());
        let Phy {
            control,
            partner: register,
            expansion,
            gigabit_status,
            copper,
            ..
        } = *self;
        // What it came to, as a number of the modes.
        let is = usize::from((copper >> 14).min(2) * 2 + u16::from(copper & FULL_DUPLEX != 0));
        let mode = MODES[is];
        if control & NEGOTIATES == 0 {
            let severity = if is % 2 == 0 {
                Severity::Warning
            } else {
                Severity::Note
            };
            tell(
                severity,
                format_args!(
                    "this side does not negotiate and is at {mode}: a partner that does takes it for half duplex (register 0=0x{control:04x})"
                ),
            );
        } else if expansion & PARTNER_NEGOTIATES == 0 {
            tell(
                Severity::Warning,
                format_args!(
                    "the partner does not negotiate, which makes this side {mode}: duplex mismatch likely (register 6=0x{expansion:04x})"
                ),
            );
        } else {
            match Modes(own.0 & partner.0).best() {
                // The odd ones are full duplex.
                Some(best) if best % 2 == 0 => tell(
                    Severity::Warning,
                    format_args!(
                        "partner offers only {partner}: duplex mismatch likely (register 5=0x{register:04x})"
                    ),
                ),
                Some(best) if best > is => {
                    let possible = MODES[best];
                    tell(
                        Severity::Warning,
                        format_args!(
                            "both sides offer {possible}, but the link is at {mode}: {BROKEN_PAIR} (register 17=0x{copper:04x})"
                        ),
                    );
                }
                Some(best) if best < 4 && own.0 >> 4 != 0 => tell(
                    Severity::Note,
                    format_args!(
                        "partner offers no more than {mode} (register 5=0x{register:04x})"
                    ),
                ),
                _ => {}
            }
        }
        let idle = gigabit_status & IDLE_ERRORS;
        if is >= 4 && idle > 0 {
            tell(
                Severity::Warning,
                format_args!("noise on the cable: errors between frames (idle errors={idle})"),
            );
        }
        if !self.has_link() {
            tell(
                Severity::Warning,
                format_args!("the PHY has lost its link just now (register 17=0x{copper:04x})"),
            );
        }
    }
}

/// What a counter means that should stand still.
pub struct Rule {
    /// Its name.
    pub counter: &'static str,
    /// How bad it is while it moves.
    severity: Severity,
    says: &'static str,
}

const fn rule(counter: &'static str, severity: Severity, says: &'static str) -> Rule {
    Rule {
        counter,
        severity,
        says,
    }
}

const DAMAGED: &str = "frames arrive damaged: cable, plug, or duplex mismatch";
const PIECES: &str = "pieces of frames arrive: collisions, or duplex mismatch";
const TOO_LONG: &str = "frames arrive that are longer than allowed";
const WIRES: &str = "frames are damaged between switch and MAC: delays of RGMII";
const SLOW: &str = "frames are lost because the core does not keep up";
const BUSY: &str =
    "frames are not sent because the link, or a partner's pause frames, cannot keep up";
const HANGS: &str = "the MAC hung, and was helped";
const TAGS: &str = "the switch sends tags that make no sense";

/// Counters of interfaces, ports and devices that tell of trouble.
pub const RULES: &[Rule] = &[
    rule("in_fcs_error", Severity::Warning, DAMAGED),
    rule("in_rx_error", Severity::Warning, DAMAGED),
    rule("in_fragments", Severity::Warning, PIECES),
    rule("in_undersize", Severity::Warning, PIECES),
    rule("in_oversize", Severity::Note, TOO_LONG),
    rule("in_jabber", Severity::Warning, TOO_LONG),
    rule(
        "late",
        Severity::Warning,
        "late collisions: this side is at half duplex, the partner at full",
    ),
    rule(
        "excessive",
        Severity::Warning,
        "frames are given up after 16 collisions: duplex mismatch, or a crowded hub",
    ),
    rule("out_fcs_error", Severity::Warning, WIRES),
    rule(
        "in_discards",
        Severity::Warning,
        "the switch has no buffer for what arrives",
    ),
    rule(
        "in_pause",
        Severity::Note,
        "the partner holds us back by pause frames",
    ),
    rule("mib_rx_crc", Severity::Warning, WIRES),
    rule("mib_rx_mac_error", Severity::Warning, WIRES),
    rule("rx_crc", Severity::Warning, WIRES),
    rule("tx_bad_fcs", Severity::Warning, WIRES),
    rule("rx_discard", Severity::Warning, SLOW),
    rule("rx_fifo_overrun", Severity::Warning, SLOW),
    rule("rx_overrun", Severity::Warning, SLOW),
    rule("rx_no_resource", Severity::Warning, SLOW),
    rule("rx_no_buffer", Severity::Warning, SLOW),
    rule("rx_queue_full", Severity::Warning, SLOW),
    rule("tx_ring_full", Severity::Warning, BUSY),
    rule("tx_no_buffer", Severity::Warning, BUSY),
    rule("tx_stopped", Severity::Note, BUSY),
    rule("tx_stalls", Severity::Fault, HANGS),
    rule("rx_starvations", Severity::Fault, HANGS),
    rule("lost_interrupts", Severity::Fault, HANGS),
    rule("fifo_stuck", Severity::Fault, HANGS),
    rule("restarts", Severity::Fault, HANGS),
    rule(
        "dma_errors",
        Severity::Fault,
        "memory refuses the MAC's accesses",
    ),
    rule(
        "repairs",
        Severity::Fault,
        "the switch lost its settings, and was set up again",
    ),
    rule(
        "bring_up_failures",
        Severity::Fault,
        "the switch does not come up",
    ),
    rule("tag_missing", Severity::Warning, TAGS),
    rule("tag_code", Severity::Warning, TAGS),
    rule("tag_device", Severity::Warning, TAGS),
    rule("tag_port", Severity::Warning, TAGS),
];

impl Rule {
    /// The rule for a counter.
    pub fn of(counter: &str) -> Option<&'static Rule> {
        RULES.iter().find(|rule| rule.counter == counter)
    }

    /// Tells what its counter means, which has this value and was at `before` a while ago, if that is known.
    pub fn judge(&self, value: u64, before: Option<u64>, tell: &mut Tell) {
        let Rule { counter, says, .. } = self;
        let more = before.map_or(0, |before| value.saturating_sub(before));
        if more > 0 {
            tell(
                self.severity,
                format_args!("{says} ({counter}={value}, {more} of them just now)"),
            );
        } else if value > 0 {
            tell(
                Severity::Note,
                format_args!("earlier: {says} ({counter}={value})"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Up at 1000 full with a partner that can do all.
    const WELL: Phy = Phy {
        control: 0x1140,
        own: 0x0de1,
        partner: 0xcde1,
        expansion: 0x000f,
        gigabit: 0x0200,
        gigabit_status: 0x3c00,
        copper: 0xac00,
    };

    fn port(phy: Phy) -> Port {
        Port {
            up: true,
            phy: Some(phy),
            state: Some(3),
            plan: Some(Plan {
                asks_dhcp: true,
                asks_routers: true,
                has_router: true,
                conflicts: 0,
            }),
            has_ipv4: true,
            has_ipv6: true,
            held: false,
        }
    }

    fn findings(judge: impl Fn(&mut Tell)) -> Vec<(Severity, String)> {
        let mut all = Vec::new();
        judge(&mut |severity, text| all.push((severity, text.to_string())));
        all
    }

    #[test]
    fn a_sound_port_is_not_spoken_of() {
        assert_eq!(findings(|tell| port(WELL).judge(tell)), []);
    }

    #[test]
    fn each_trouble_has_its_sentence() {
        use Severity::{Fault, Note, Warning};
        let phy = |change: fn(&mut Phy)| {
            let mut phy = WELL;
            change(&mut phy);
            port(phy)
        };
        let down = |change: fn(&mut Phy)| {
            let mut port = phy(change);
            port.up = false;
            port
        };
        let plan = |change: fn(&mut Plan)| {
            let mut port = port(WELL);
            port.plan.iter_mut().for_each(change);
            port
        };
        let cases: &[(Port, Severity, &str)] = &[
            (
                phy(|phy| (phy.partner, phy.gigabit_status, phy.copper) = (0x4081, 0, 0x4c00)),
                Warning,
                "partner offers only 100 half: duplex mismatch likely (register 5=0x4081)",
            ),
            (
                phy(|phy| (phy.partner, phy.gigabit_status, phy.copper) = (0x40a1, 0, 0x4c00)),
                Warning,
                "partner offers only 10 half, 100 half: duplex mismatch likely",
            ),
            (
                phy(|phy| {
                    (phy.partner, phy.expansion, phy.gigabit_status, phy.copper) =
                        (0x81, 4, 0, 0x4c00)
                }),
                Warning,
                "the partner does not negotiate, which makes this side 100 half: duplex mismatch likely (register 6=0x0004)",
            ),
            (
                phy(|phy| phy.copper = 0x6c00),
                Warning,
                "both sides offer 1000 full, but the link is at 100 full: a pair of the cable",
            ),
            (
                phy(|phy| (phy.partner, phy.gigabit_status, phy.copper) = (0x4de1, 0, 0x6c00)),
                Note,
                "partner offers no more than 100 full",
            ),
            (
                phy(|phy| (phy.control, phy.copper) = (0x2100, 0x6c00)),
                Note,
                "this side does not negotiate and is at 100 full",
            ),
            (
                phy(|phy| (phy.control, phy.copper) = (0x2000, 0x4c00)),
                Warning,
                "this side does not negotiate and is at 100 half",
            ),
            (
                phy(|phy| phy.gigabit_status |= 7),
                Warning,
                "noise on the cable: errors between frames (idle errors=7)",
            ),
            (
                down(|phy| (phy.partner, phy.gigabit_status) = (0, 0)),
                Warning,
                "no link: no cable, or the device at its other end is off (register 5=0x0000)",
            ),
            (
                down(|phy| phy.control |= POWER_DOWN),
                Fault,
                "the PHY is switched off (register 0=0x1940)",
            ),
            (
                down(|phy| phy.gigabit_status |= MASTER_SLAVE_FAULT),
                Fault,
                "both sides insist on being master",
            ),
            (
                down(|phy| {
                    (phy.own, phy.gigabit, phy.partner, phy.gigabit_status) = (0x101, 0, 0x81, 0)
                }),
                Fault,
                "no mode in common: this side offers 100 full, the partner 100 half",
            ),
            (
                down(|_| ()),
                Fault,
                "but no link comes of it: a pair of the cable is likely broken",
            ),
            (
                Port {
                    state: Some(1),
                    ..port(WELL)
                },
                Fault,
                "the switch does not forward here: the port is blocking",
            ),
            (
                Port {
                    held: true,
                    ..port(WELL)
                },
                Note,
                "its PHY is in loopback or under test",
            ),
            (
                Port {
                    has_ipv4: false,
                    ..port(WELL)
                },
                Warning,
                "no DHCP lease",
            ),
            (
                Port {
                    has_ipv6: false,
                    ..port(WELL)
                },
                Note,
                "no router advertisement",
            ),
            (
                plan(|plan| plan.has_router = false),
                Note,
                "names no router",
            ),
            (
                plan(|plan| plan.conflicts = 2),
                Warning,
                "somebody else claims an address of ours (conflicts=2)",
            ),
            (
                Port {
                    phy: None,
                    up: false,
                    ..port(WELL)
                },
                Warning,
                "no link: no cable",
            ),
        ];
        for (port, severity, text) in cases {
            let found = findings(|tell| port.judge(tell));
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert_eq!(found[0].0, *severity, "{text}");
            assert!(found[0].1.contains(text), "{text}: {found:?}");
        }
    }

    #[test]
    fn a_counter_that_moves_weighs_more_than_one_that_moved() {
        let crc = Rule::of("in_fcs_error").unwrap();
        assert_eq!(findings(|tell| crc.judge(0, Some(0), tell)), []);
        let found = findings(|tell| crc.judge(12, Some(9), tell));
        assert_eq!(found[0].0, Severity::Warning);
        assert!(
            found[0]
                .1
                .ends_with("(in_fcs_error=12, 3 of them just now)"),
            "{found:?}"
        );
        for before in [Some(12), None] {
            let found = findings(|tell| crc.judge(12, before, tell));
            assert_eq!(found[0].0, Severity::Note);
            assert!(
                found[0].1.starts_with("earlier: frames arrive damaged"),
                "{found:?}"
            );
        }
    }

    #[test]
    fn each_rule_is_about_another_counter() {
        for (at, rule) in RULES.iter().enumerate() {
            assert!(
                RULES[..at]
                    .iter()
                    .all(|other| other.counter != rule.counter)
            );
        }
        assert!(Rule::of("rx_frames").is_none());
    }
}
