//! What is wrong with a port, in words, and why: from registers, counters and addresses to findings.
//!
//! Pure: whoever gathers the facts is [`commands::doctor`](mod@super::commands). Nothing here is remembered or measured.
//!
//! | judged | by |
//! | --- | --- |
//! | link and negotiation | [`Port`], from the registers of its PHY if it has one |
//! | the switch's port | its state |
//! | addresses | what was to come by itself and did not |
//! | counters | [`RULES`]: one that moves now weighs more than one that moved before |

use self::Severity::{Fault, Note, Warning};
use core::fmt;

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

/// What stands behind a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence<'a> {
    None,
    /// A register of the PHY.
    Register(u8, u16),
    /// A counter's name, value, and how much it has moved.
    Counter(&'a str, u64, u64),
}

/// A sentence, around modes if it has two parts, and its evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding<'a> {
    /// How bad it is.
    pub severity: Severity,
    says: [&'static str; 2],
    modes: Modes,
    evidence: Evidence<'a>,
}

impl fmt::Display for Finding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, after] = self.says;
        write!(f, "{before}{}{after}", self.modes)?;
        match self.evidence {
            Evidence::None => Ok(()),
            Evidence::Register(register, value) => {
                write!(f, " (register {register}=0x{value:04x})")
            }
            Evidence::Counter(name, value, 0) => write!(f, " ({name}={value})"),
            Evidence::Counter(name, value, more) => {
                write!(f, " ({name}={value}, {more} of them just now)")
            }
        }
    }
}

impl<'a> Finding<'a> {
    const fn new(severity: Severity, says: &'static str, evidence: Evidence<'a>) -> Self {
        Finding::around(severity, [says, ""], Modes(0), evidence)
    }

    const fn around(
        severity: Severity,
        says: [&'static str; 2],
        modes: Modes,
        evidence: Evidence<'a>,
    ) -> Self {
        Finding {
            severity,
            says,
            modes,
            evidence,
        }
    }

    /// That there is nothing.
    pub const NONE: Finding<'static> = Finding::new(Severity::Ok, "all is well", Evidence::None);

    /// No register behind the management bus was read.
    pub const UNSEEN: Finding<'static> = Finding::new(
        Severity::Warning,
        "no answer in time: PHYs and the switch's ports were not looked at",
        Evidence::None,
    );

    /// Interrupts that no driver had asked for.
    pub fn unexpected(count: u64) -> Option<Finding<'static>> {
        let evidence = Evidence::Counter("unexpected", count, 0);
        let says = "interrupts that nobody asked for";
        (count > 0).then_some(Finding::new(Severity::Warning, says, evidence))
    }
}

/// Takes a finding.
pub type Tell<'t> = dyn FnMut(&Finding<'_>) + 't;

/// How an interface gets its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// By DHCP.
    pub asks_dhcp: bool,
    /// From router advertisements.
    pub asks_routers: bool,
    /// It has a default router for IPv4.
    pub has_router: bool,
    /// How often somebody else claimed, or wanted, one of them.
    pub conflicts: u32,
}

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
        let mut plain = |applies: bool, severity, says| {
            if applies {
                tell(&Finding::new(severity, says, Evidence::None));
            }
        };
        if self.held {
            plain(true, Note, "its PHY is in loopback or under test");
            return;
        }
        match &self.phy {
            Some(phy) if self.up => phy.judge_link(tell),
            Some(phy) => tell(&phy.judge_silence()),
            None => plain(!self.up, Warning, NO_LINK),
        }
        if !self.up {
            return;
        }
        if let Some(state) = self.state.filter(|state| state & 3 != 3) {
            // Disabled, blocking, learning.
            let evidence = Evidence::Counter("port state", u64::from(state & 3), 0);
            let says = "the link is up, but the switch does not forward here";
            tell(&Finding::new(Fault, says, evidence));
        }
        let Some(plan) = &self.plan else { return };
        let mut plain = |applies: bool, severity, says| {
            if applies {
                tell(&Finding::new(severity, says, Evidence::None));
            }
        };
        plain(plan.asks_dhcp && !self.has_ipv4, Warning, NO_LEASE);
        plain(
            plan.asks_dhcp && self.has_ipv4 && !plan.has_router,
            Note,
            NO_ROUTER,
        );
        plain(plan.asks_routers && !self.has_ipv6, Note, NO_PREFIX);
        if plan.conflicts > 0 {
            let evidence = Evidence::Counter("conflicts", plan.conflicts.into(), 0);
            let says = "somebody else claims an address of ours";
            tell(&Finding::new(Warning, says, evidence));
        }
    }
}

const NO_LINK: &str = "no link: no cable, or the device at its other end is off";
const NO_LEASE: &str = "no DHCP lease: no server answers, or it has no address left";
const NO_ROUTER: &str = "the DHCP lease names no router: only neighbours can be reached";
const NO_PREFIX: &str = "no router advertisement with a prefix: link-local IPv6 only";
const MISMATCH: &str = ": duplex mismatch likely";
const BROKEN_PAIR: &str = ", but the link is slower: a pair of the cable is likely broken";
const NO_OUTCOME: &str = ", but no link comes of it: a pair of the cable is likely broken";

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
    fn judge_silence(&self) -> Finding<'static> {
        let (own, partner) = (self.own_modes(), self.partner_modes());
        let offer = Evidence::Register(5, self.partner);
        if self.control & POWER_DOWN != 0 {
            let evidence = Evidence::Register(0, self.control);
            Finding::new(Fault, "the PHY is switched off", evidence)
        } else if self.gigabit_status & MASTER_SLAVE_FAULT != 0 {
            let evidence = Evidence::Register(10, self.gigabit_status);
            let says = "both sides insist on being master, or slave";
            Finding::new(Fault, says, evidence)
        } else if partner.0 == 0 {
            Finding::new(Warning, NO_LINK, offer)
        } else if own.0 & partner.0 == 0 {
            let says = ["no mode in common: partner offers only ", ""];
            Finding::around(Fault, says, partner, Evidence::Register(4, self.own))
        } else {
            Finding::around(Fault, ["partner offers ", NO_OUTCOME], partner, offer)
        }
    }

    /// What is wrong with a link that is there.
    fn judge_link(&self, tell: &mut Tell) {
        let (own, partner) = (self.own_modes(), self.partner_modes());
        let offer = Evidence::Register(5, self.partner);
        // What it came to, as a bit of the modes; the odd ones are full duplex.
        let is = (self.copper >> 14).min(2) * 2 + u16::from(self.copper & FULL_DUPLEX != 0);
        let (mode, is_half) = (Modes(1 << is), is & 1 == 0);
        let best = (own.0 & partner.0).checked_ilog2().unwrap_or(0) as u16;
        let finding = if self.control & NEGOTIATES == 0 {
            let says = [
                "this side does not negotiate and is at ",
                ": a partner that does takes it for half duplex",
            ];
            let severity = if is_half { Warning } else { Note };
            let evidence = Evidence::Register(0, self.control);
            Some(Finding::around(severity, says, mode, evidence))
        } else if self.expansion & PARTNER_NEGOTIATES == 0 {
            let says = [
                "the partner does not negotiate, which makes this side ",
                MISMATCH,
            ];
            let evidence = Evidence::Register(6, self.expansion);
            Some(Finding::around(Warning, says, mode, evidence))
        } else if best & 1 == 0 {
            let says = ["partner offers only ", MISMATCH];
            Some(Finding::around(Warning, says, partner, offer))
        } else if best > is {
            let evidence = Evidence::Register(17, self.copper);
            let says = ["both sides offer ", BROKEN_PAIR];
            Some(Finding::around(Warning, says, Modes(1 << best), evidence))
        } else if best < 4 && own.0 >> 4 != 0 {
            let says = ["partner offers no more than ", ""];
            Some(Finding::around(Note, says, mode, offer))
        } else {
            None
        };
        if let Some(finding) = finding {
            tell(&finding);
        }
        let idle = self.gigabit_status & IDLE_ERRORS;
        if is >= 4 && idle > 0 {
            let evidence = Evidence::Counter("idle errors", idle.into(), 0);
            let says = "noise on the cable: errors between frames";
            tell(&Finding::new(Warning, says, evidence));
        }
        if !self.has_link() {
            let evidence = Evidence::Register(17, self.copper);
            let says = "the PHY has lost its link just now";
            tell(&Finding::new(Warning, says, evidence));
        }
    }
}

/// What counters mean that should stand still.
#[derive(Debug)]
pub struct Rule {
    /// Their names, with a space between them.
    counters: &'static str,
    /// How bad it is while one moves.
    severity: Severity,
    says: &'static str,
}

const fn rule(severity: Severity, says: &'static str, counters: &'static str) -> Rule {
    Rule {
        counters,
        severity,
        says,
    }
}

/// Counters of interfaces, ports and devices that tell of trouble.
pub const RULES: &[Rule] = &[
    rule(
        Warning,
        "frames arrive damaged: cable, plug, or duplex mismatch",
        "in_fcs_error in_rx_error",
    ),
    rule(
        Warning,
        "pieces of frames arrive: collisions, or duplex mismatch",
        "in_fragments in_undersize",
    ),
    rule(
        Note,
        "frames arrive that are longer than allowed",
        "in_oversize in_jabber",
    ),
    rule(
        Warning,
        "this side is at half duplex, and the partner is likely at full",
        "late excessive",
    ),
    rule(
        Warning,
        "the switch has no buffer for what arrives",
        "in_discards",
    ),
    rule(
        Note,
        "the partner holds us back by pause frames",
        "in_pause",
    ),
    rule(
        Warning,
        "frames are damaged between switch and MAC: delays of RGMII",
        "out_fcs_error mib_rx_crc mib_rx_mac_error rx_crc tx_bad_fcs",
    ),
    rule(
        Warning,
        "frames are lost because the core does not keep up",
        "rx_discard rx_fifo_overrun rx_overrun rx_no_resource rx_no_buffer rx_queue_full",
    ),
    rule(
        Warning,
        "packets are damaged that Ethernet found sound: their sender, or somebody on their way",
        "ipv4_checksum icmp_checksum udp_checksum tcp_checksum",
    ),
    rule(
        Warning,
        "more is asked than there is room for",
        "socket_full table_full",
    ),
    rule(
        Warning,
        "frames are not sent because the link, or a partner's pause frames, cannot keep up",
        "tx_ring_full tx_no_buffer",
    ),
    rule(
        Fault,
        "the MAC hung, and was helped",
        "tx_stalls rx_starvations lost_interrupts fifo_stuck restarts",
    ),
    rule(Fault, "memory refuses the MAC's accesses", "dma_errors"),
    rule(
        Fault,
        "the switch failed, and was set up again if it could be",
        "repairs bring_up_failures",
    ),
    rule(
        Warning,
        "the switch sends tags that make no sense",
        "tag_missing tag_code tag_device tag_port",
    ),
];

impl Rule {
    /// The rule for a counter.
    pub fn of(counter: &str) -> Option<&'static Rule> {
        let names = |rule: &&Rule| {
            rule.counters
                .split_ascii_whitespace()
                .any(|name| name == counter)
        };
        RULES.iter().find(names)
    }

    /// What a counter of it means that has this value, and had another one a while ago, if that is known.
    pub fn judge<'a>(
        &self,
        counter: &'a str,
        value: u64,
        before: Option<u64>,
    ) -> Option<Finding<'a>> {
        let more = before.map_or(0, |before| value.saturating_sub(before));
        let severity = if more > 0 { self.severity } else { Note };
        let earlier = if more > 0 { "" } else { "earlier: " };
        let evidence = Evidence::Counter(counter, value, more);
        let finding = Finding::around(severity, [earlier, self.says], Modes(0), evidence);
        (value > 0).then_some(finding)
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
        judge(&mut |finding| all.push((finding.severity, finding.to_string())));
        all
    }

    #[test]
    fn a_sound_port_is_not_spoken_of() {
        assert_eq!(findings(|tell| port(WELL).judge(tell)), []);
    }

    #[test]
    fn each_trouble_has_its_sentence() {
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
                "both sides offer 1000 full, but the link is slower: a pair of the cable",
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
                "no mode in common: partner offers only 100 half (register 4=0x0101)",
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
                "the switch does not forward here (port state=1)",
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
        let judged = |value, before| crc.judge("in_fcs_error", value, before);
        assert_eq!(judged(0, Some(0)), None);
        let found = judged(12, Some(9)).unwrap();
        assert_eq!(found.severity, Warning);
        assert_eq!(
            found.to_string(),
            "frames arrive damaged: cable, plug, or duplex mismatch (in_fcs_error=12, 3 of them just now)"
        );
        for before in [Some(12), None] {
            let found = judged(12, before).unwrap();
            assert_eq!(found.severity, Note);
            let text = found.to_string();
            assert!(text.starts_with("earlier: frames arrive damaged"), "{text}");
            assert!(text.ends_with("(in_fcs_error=12)"), "{text}");
        }
    }

    #[test]
    fn each_counter_has_one_rule() {
        let all = || RULES.iter().flat_map(|rule| rule.counters.split(' '));
        for (at, name) in all().enumerate() {
            assert!(all().take(at).all(|other| other != name), "{name}");
            assert!(Rule::of(name).is_some(), "{name}");
        }
        assert!(Rule::of("rx_frames").is_none() && Rule::of("").is_none());
    }
}
