//! Misbehaviour on demand, from the command line and at run time.
//!
//! A fault is `name`, `name=value` or `name=value*count`: `frame-drop=rx:10` loses every tenth frame on the way to the
//! MAC, `mdio-busy*3` leaves the next three operations busy for ever. Blocks ask [`Faults::take`] at the place where
//! the hardware would fail; a fault with a count goes away when it is used up. What is a state and no event (a stuck
//! bit, a link that flaps) has no count.

use crate::phy::{Pair, Partner};
use crate::script::SOCKETS;
use std::fmt;

/// A kind of misbehaviour.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// Name on the command line.
    pub name: &'static str,
    /// The value's meaning, or what happens without one.
    pub about: &'static str,
    /// What may follow the name.
    pub form: Form,
}

/// What may follow a fault's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Nothing: it is in force until taken back.
    State,
    /// A number, likewise.
    NumberedState,
    /// A count.
    Event,
    /// A number and a count.
    Numbered,
    /// A direction, a number and a count.
    Frames,
    /// A socket and a mode.
    Partner,
    /// A socket, a pair, what is wrong with it, and where.
    Cable,
}

const fn fault(name: &'static str, form: Form, about: &'static str) -> Fault {
    Fault { name, about, form }
}

/// All faults the model knows.
pub const FAULTS: &[Fault] = &[
    fault(
        "frame-drop",
        Form::Frames,
        "value n: every n-th frame between MAC and switch is lost (default 1: all); rx:n those to the MAC, tx:n those from it",
    ),
    fault(
        "frame-corrupt",
        Form::Frames,
        "value n, rx:n, tx:n: every n-th frame between MAC and switch has a bad FCS",
    ),
    fault(
        "frame-duplicate",
        Form::Frames,
        "value n, rx:n, tx:n: every n-th frame between MAC and switch arrives twice",
    ),
    fault(
        "frame-delay",
        Form::Frames,
        "value ns, rx:ns, tx:ns: frames between MAC and switch arrive later by this much",
    ),
    fault(
        "frame-reorder",
        Form::Frames,
        "value n, rx:n, tx:n: every n-th frame between MAC and switch arrives after the one behind it, or 100 us late",
    ),
    fault(
        "tag-damage",
        Form::Numbered,
        "value n: every n-th frame to the MAC has one bit of its tag flipped, its FCS right",
    ),
    fault("mdio-busy", Form::Event, "an MDIO operation never ends"),
    fault("mdio-no-answer", Form::Event, "no device answers on MDIO"),
    fault(
        "neta-reset-stuck",
        Form::Event,
        "the MAC's reset bit does not clear",
    ),
    fault(
        "neta-queue-stuck",
        Form::State,
        "disabling a queue has no effect",
    ),
    fault(
        "neta-tx-stall",
        Form::State,
        "pending descriptors are not fetched",
    ),
    fault(
        "neta-tx-fifo",
        Form::State,
        "the transmit FIFO never reports empty",
    ),
    fault(
        "neta-rx-resource",
        Form::Numbered,
        "value n: every n-th frame received finds no descriptor (default 1: all)",
    ),
    fault(
        "neta-rx-overrun",
        Form::Numbered,
        "value n: every n-th frame received overruns the FIFO (default 1: all)",
    ),
    fault("dma-error", Form::Event, "a DMA access of the MAC fails"),
    fault(
        "irq-lost",
        Form::Numbered,
        "value SPI number (default 0: any): the line stays low until the next thing that happens on the board",
    ),
    fault(
        "irq-delay",
        Form::Numbered,
        "value ns: an interrupt line rises later by this much",
    ),
    fault(
        "phy-never-completes",
        Form::NumberedState,
        "value port (default 0: all): autonegotiation never completes",
    ),
    fault(
        "partner",
        Form::Partner,
        "value wan, lan0 or lan1 and a mode: the partner there offers that mode only; `wan:10-half`; with `!` behind it \
         does not negotiate; may stand once for each socket",
    ),
    fault(
        "cable",
        Form::Cable,
        "value wan, lan0 or lan1, a pair (0 to 3), open, short or cross, and centimetres: what the cable test finds, \
         `wan:2:open:1250`; the link does not mind; may stand once for each pair",
    ),
    fault(
        "link-flap",
        Form::NumberedState,
        "value port (default 0: all): the link drops for 100 ms every 5 s of virtual time",
    ),
    fault(
        "id-flip",
        Form::Numbered,
        "value n: every n-th read of the switch's identifier (register 3 of a port) has bit 8 flipped",
    ),
    fault(
        "switch-busy",
        Form::NumberedState,
        "the switch's busy bits stay set; value 1 SMI, 2 ATU, 3 VTU, 4 statistics, 5 PHYs, 6 other tables (default 0: all)",
    ),
    fault(
        "switch-reset-stuck",
        Form::Event,
        "the switch's reset bit never clears",
    ),
    fault(
        "switch-silent-reset",
        Form::Event,
        "with a count of 1: the switch returns to its straps without a word",
    ),
    fault(
        "switch-vanish",
        Form::State,
        "the switch answers nothing and passes no frame",
    ),
];

/// Why a fault was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultError {
    /// No fault has this name.
    Unknown(String),
    /// The count behind `*` is not a number.
    BadCount(String),
    /// A state lasts until it is taken back.
    NotCounted(String),
    /// The value is not what this fault takes.
    BadValue(String),
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "no fault is called `{name}`"),
            Self::BadCount(item) => write!(f, "fault `{item}`: the count is not a number"),
            Self::NotCounted(item) => {
                write!(f, "fault `{item}`: it is a state, which cannot be counted")
            }
            Self::BadValue(item) => write!(f, "fault `{item}`: not a value that it takes"),
        }
    }
}

impl std::error::Error for FaultError {}

/// Which way a frame goes, as the MAC sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the MAC.
    Rx,
    /// From the MAC.
    Tx,
}

#[derive(Debug, Clone)]
struct Active {
    name: &'static str,
    /// Both if there is none.
    way: Option<Way>,
    value: Option<u64>,
    partner: Option<(usize, Partner)>,
    cable: Option<(usize, usize, Pair)>,
    /// Uses left; `None` stays until cleared.
    left: Option<u64>,
    asked: u64,
}

impl Active {
    fn parse(item: &str) -> Result<Self, FaultError> {
        let (body, count) = match item.split_once('*') {
            Some((body, count)) => (body, Some(count)),
            None => (item, None),
        };
        let (name, value) = body.split_once('=').unwrap_or((body, ""));
        let known = FAULTS
            .iter()
            .find(|f| f.name == name)
            .ok_or_else(|| FaultError::Unknown(name.into()))?;
        let left = count
            .map(|count| count.parse())
            .transpose()
            .map_err(|_| FaultError::BadCount(item.into()))?;
        let states = [Form::State, Form::NumberedState, Form::Partner, Form::Cable];
        if left.is_some() && states.contains(&known.form) {
            return Err(FaultError::NotCounted(item.into()));
        }
        let active = Self {
            name: known.name,
            way: None,
            value: None,
            partner: None,
            cable: None,
            left,
            asked: 0,
        };
        if known.form == Form::Partner {
            let partner = value.split_once(':').and_then(|(name, mode)| {
                let socket = SOCKETS.iter().position(|socket| *socket == name)?;
                Some((socket, Partner::limited(mode)?))
            });
            return match partner {
                Some(_) => Ok(Self { partner, ..active }),
                None => Err(FaultError::BadValue(item.into())),
            };
        }
        if known.form == Form::Cable {
            return match parse_cable(value) {
                Some(cable) => Ok(Self {
                    cable: Some(cable),
                    ..active
                }),
                None => Err(FaultError::BadValue(item.into())),
            };
        }
        let (way, number) = match value.split_once(':').unwrap_or((value, "")) {
            ("rx", number) => (Some(Way::Rx), number),
            ("tx", number) => (Some(Way::Tx), number),
            _ => (None, value),
        };
        let value = match number {
            "" | "on" => None,
            number => Some(
                number
                    .parse()
                    .map_err(|_| FaultError::BadValue(item.into()))?,
            ),
        };
        let takes_number = !matches!(known.form, Form::State | Form::Event);
        if value.is_some() && !takes_number || way.is_some() && known.form != Form::Frames {
            return Err(FaultError::BadValue(item.into()));
        }
        Ok(Self {
            way,
            value,
            ..active
        })
    }

    fn use_up(&mut self) {
        self.left = self.left.map(|left| left - 1);
    }
}

/// A socket, a pair and its state, as `wan:2:open:1250`.
fn parse_cable(value: &str) -> Option<(usize, usize, Pair)> {
    let mut parts = value.split(':');
    let name = parts.next()?;
    let socket = SOCKETS.iter().position(|socket| *socket == name)?;
    let pair = parts.next()?.parse().ok().filter(|pair| *pair < 4)?;
    let (state, at) = (parts.next()?, parts.next()?.parse().ok()?);
    let state = match state {
        "open" => Pair::Open(at),
        "short" => Pair::Short(at),
        "cross" => Pair::CrossShort(at),
        _ => return None,
    };
    parts.next().is_none().then_some((socket, pair, state))
}

/// The faults in force.
#[derive(Debug, Clone, Default)]
pub struct Faults(Vec<Active>);

impl Faults {
    /// Replaces the faults in force by those of a list divided by commas. An empty list clears all.
    ///
    /// # Errors
    ///
    /// [`FaultError`] if an item is not understood; nothing changes then.
    pub fn set_list(&mut self, list: &str) -> Result<(), FaultError> {
        let items = list.split(',').filter(|item| !item.is_empty());
        self.0 = items.map(Active::parse).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// True when nothing misbehaves, which the data path asks first.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&mut self, name: &'static str, way: Option<Way>) -> Option<&mut Active> {
        debug_assert!(FAULTS.iter().any(|f| f.name == name), "no fault {name}");
        let concerned = |a: &Active| way.is_none() || a.way.is_none() || a.way == way;
        self.0
            .iter_mut()
            .find(|a| a.name == name && a.left != Some(0) && concerned(a))
    }

    /// The value of fault `name` if it is in force now, 0 if it has none; uses up one of its count.
    pub fn take(&mut self, name: &'static str) -> Option<u64> {
        let active = self.find(name, None)?;
        active.use_up();
        Some(active.value.unwrap_or(0))
    }

    /// The same for a frame on its way.
    pub fn take_frame(&mut self, name: &'static str, way: Way) -> Option<u64> {
        let active = self.find(name, Some(way))?;
        active.use_up();
        Some(active.value.unwrap_or(0))
    }

    /// Whether fault `name` is in force; uses up nothing.
    #[must_use]
    pub fn has(&self, name: &'static str) -> bool {
        self.number(name, 0).is_some()
    }

    /// The value of fault `name` (`default` if it has none); uses up nothing.
    #[must_use]
    pub fn number(&self, name: &'static str, default: u64) -> Option<u64> {
        let active = self
            .0
            .iter()
            .find(|a| a.name == name && a.left != Some(0))?;
        Some(active.value.unwrap_or(default))
    }

    /// Who is at the other end of a socket's cable, if no gigabit card.
    #[must_use]
    pub fn partner(&self, socket: usize) -> Option<Partner> {
        let mut partners = self.0.iter().filter_map(|active| active.partner);
        partners.find_map(|(at, partner)| (at == socket).then_some(partner))
    }

    /// What is wrong with the pairs of a socket's cable, if anything is.
    #[must_use]
    pub fn cable(&self, socket: usize) -> Option<[Pair; 4]> {
        let mut pairs = None;
        for (at, pair, state) in self.0.iter().filter_map(|active| active.cable) {
            if at == socket {
                pairs.get_or_insert([Pair::Ok; 4])[pair] = state;
            }
        }
        pairs
    }

    /// True on every n-th call while `name=n` is in force (n = 1 if not given).
    pub fn every(&mut self, name: &'static str) -> bool {
        Self::is_turn_of(self.find(name, None))
    }

    /// The same for frames on one way.
    pub fn every_frame(&mut self, name: &'static str, way: Way) -> bool {
        Self::is_turn_of(self.find(name, Some(way)))
    }

    fn is_turn_of(active: Option<&mut Active>) -> bool {
        let Some(active) = active else {
            return false;
        };
        active.asked += 1;
        let hit = active
            .asked
            .is_multiple_of(active.value.unwrap_or(1).max(1));
        if hit {
            active.use_up();
        }
        hit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_run_out_and_every_counts() {
        let mut faults = Faults::default();
        faults.set_list("mdio-busy*2,frame-drop=3").unwrap();
        assert_eq!(faults.take("mdio-busy"), Some(0));
        assert!(faults.has("mdio-busy"));
        assert_eq!(faults.take("mdio-busy"), Some(0));
        assert_eq!(faults.take("mdio-busy"), None);
        let hits: Vec<bool> = (0..6).map(|_| faults.every("frame-drop")).collect();
        assert_eq!(hits, [false, false, true, false, false, true]);
    }

    #[test]
    fn a_bad_list_changes_nothing() {
        let mut faults = Faults::default();
        faults.set_list("dma-error").unwrap();
        assert_eq!(
            faults.set_list("nonsense"),
            Err(FaultError::Unknown("nonsense".into()))
        );
        assert_eq!(
            faults.set_list("dma-error*x"),
            Err(FaultError::BadCount("dma-error*x".into()))
        );
        for (item, error) in [
            ("switch-vanish*2", FaultError::NotCounted as fn(String) -> _),
            ("frame-drop=x", FaultError::BadValue),
            ("frame-drop=both:1", FaultError::BadValue),
            ("link-flap=rx:1", FaultError::BadValue),
            ("mdio-busy=3", FaultError::BadValue),
            ("partner=wan:100", FaultError::BadValue),
            ("partner=eth0:100-full", FaultError::BadValue),
            ("partner=wan:100-full*2", FaultError::NotCounted),
            ("cable=wan:4:open:100", FaultError::BadValue),
            ("cable=wan:1:cut:100", FaultError::BadValue),
            ("cable=wan:1:open", FaultError::BadValue),
            ("cable=wan:1:open:100:2", FaultError::BadValue),
        ] {
            assert_eq!(faults.set_list(item), Err(error(item.into())));
        }
        assert!(faults.has("dma-error"));
        faults.set_list("").unwrap();
        assert!(faults.is_empty());
    }

    #[test]
    fn each_pair_of_a_cable_has_its_own_fault() {
        let mut faults = Faults::default();
        faults
            .set_list("cable=lan0:1:open:1250,cable=lan0:3:short:90")
            .unwrap();
        let pairs = [Pair::Ok, Pair::Open(1250), Pair::Ok, Pair::Short(90)];
        assert_eq!(faults.cable(1), Some(pairs));
        assert_eq!(faults.cable(0), None);
    }

    #[test]
    fn a_direction_leaves_the_other_alone() {
        let mut faults = Faults::default();
        faults
            .set_list("frame-drop=tx:2*1,frame-delay=rx:9*1")
            .unwrap();
        assert!(!faults.every_frame("frame-drop", Way::Rx));
        assert!(!faults.every_frame("frame-drop", Way::Tx));
        assert!(faults.every_frame("frame-drop", Way::Tx));
        assert!(!faults.has("frame-drop"), "used up");
        assert_eq!(faults.take_frame("frame-delay", Way::Tx), None);
        assert_eq!(faults.take_frame("frame-delay", Way::Rx), Some(9));
        assert_eq!(faults.take_frame("frame-delay", Way::Rx), None);
    }
}
