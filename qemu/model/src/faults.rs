//! Misbehaviour on demand, from the command line and at run time.
//!
//! A fault is `name`, `name=value` or `name=value*count`: `frame-drop=rx:10` loses every tenth received frame,
//! `mdio-busy=on*3` leaves the next three operations busy for ever. Blocks ask [`Faults::take`] at the place where
//! the hardware would fail; a fault with a count goes away when it is used up.

use std::fmt;

/// A kind of misbehaviour.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// Name on the command line.
    pub name: &'static str,
    /// The value's meaning, or what happens without one.
    pub about: &'static str,
}

/// All faults the model knows.
pub const FAULTS: &[Fault] = &[
    Fault {
        name: "frame-drop",
        about: "value n: every n-th frame on the conduit wire is lost (default 1: all)",
    },
    Fault {
        name: "frame-corrupt",
        about: "value n: every n-th frame on the conduit wire has a bad FCS",
    },
    Fault {
        name: "frame-duplicate",
        about: "value n: every n-th frame on the conduit wire arrives twice",
    },
    Fault {
        name: "frame-delay",
        about: "value ns: frames on the conduit wire arrive later by this much",
    },
    Fault {
        name: "frame-reorder",
        about: "value n: every n-th frame on the conduit wire arrives after the one behind it",
    },
    Fault {
        name: "tag-damage",
        about: "value n: every n-th frame to the MAC has one bit of its tag flipped, its FCS right",
    },
    Fault {
        name: "mdio-busy",
        about: "an MDIO operation never ends",
    },
    Fault {
        name: "mdio-no-answer",
        about: "no device answers on MDIO",
    },
    Fault {
        name: "neta-reset-stuck",
        about: "the MAC's reset bit never clears",
    },
    Fault {
        name: "neta-queue-stuck",
        about: "disabling a queue has no effect",
    },
    Fault {
        name: "neta-tx-stall",
        about: "pending descriptors are not fetched",
    },
    Fault {
        name: "neta-tx-fifo",
        about: "the transmit FIFO never reports empty",
    },
    Fault {
        name: "neta-rx-resource",
        about: "a received frame finds no descriptor",
    },
    Fault {
        name: "neta-rx-overrun",
        about: "a received frame overruns the FIFO",
    },
    Fault {
        name: "dma-error",
        about: "a DMA access fails",
    },
    Fault {
        name: "irq-lost",
        about: "a rising edge of an interrupt line does not reach the controller",
    },
    Fault {
        name: "irq-delay",
        about: "value ns: an interrupt line rises later by this much",
    },
    Fault {
        name: "phy-never-completes",
        about: "value port (or none for all): autonegotiation never completes",
    },
    Fault {
        name: "partner",
        about: "value wan, lan0 or lan1 and a mode: the partner there offers that mode only; `wan:10-half`; \
                with `!` behind it does not negotiate; may stand once for each socket",
    },
    Fault {
        name: "link-flap",
        about: "value port: the link drops for 100 ms once a second of virtual time",
    },
    Fault {
        name: "switch-busy",
        about: "the switch's busy bits stay set; value 1 SMI, 2 ATU, 3 VTU, 4 statistics, 5 PHYs, 6 other tables (default: all)",
    },
    Fault {
        name: "switch-reset-stuck",
        about: "the switch's reset bit never clears",
    },
    Fault {
        name: "switch-silent-reset",
        about: "with a count of 1: the switch returns to its straps without a word",
    },
    Fault {
        name: "switch-vanish",
        about: "the switch answers nothing and passes no frame",
    },
];

/// Why a fault was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultError {
    /// No fault has this name.
    Unknown(String),
    /// The count behind `*` is not a number.
    BadCount(String),
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "no fault is called `{name}`"),
            Self::BadCount(item) => write!(f, "fault `{item}`: the count is not a number"),
        }
    }
}

impl std::error::Error for FaultError {}

#[derive(Debug, Clone)]
struct Active {
    name: &'static str,
    value: String,
    /// Uses left; `None` stays until cleared.
    left: Option<u64>,
    asked: u64,
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
        let mut active = Vec::new();
        for item in list.split(',').filter(|item| !item.is_empty()) {
            let (body, left) = match item.split_once('*') {
                Some((body, count)) => (
                    body,
                    Some(
                        count
                            .parse()
                            .map_err(|_| FaultError::BadCount(item.into()))?,
                    ),
                ),
                None => (item, None),
            };
            let (name, value) = body.split_once('=').unwrap_or((body, ""));
            let known = FAULTS
                .iter()
                .find(|f| f.name == name)
                .ok_or_else(|| FaultError::Unknown(name.into()))?;
            active.push(Active {
                name: known.name,
                value: value.into(),
                left,
                asked: 0,
            });
        }
        self.0 = active;
        Ok(())
    }

    /// True when nothing misbehaves, which the data path asks first.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of fault `name` if it is in force now; uses up one of its count.
    pub fn take(&mut self, name: &'static str) -> Option<String> {
        debug_assert!(FAULTS.iter().any(|f| f.name == name), "no fault {name}");
        let active = self
            .0
            .iter_mut()
            .find(|a| a.name == name && a.left != Some(0))?;
        active.left = active.left.map(|left| left - 1);
        Some(active.value.clone())
    }

    /// Whether fault `name` is in force; uses up nothing.
    #[must_use]
    pub fn has(&self, name: &'static str) -> bool {
        self.0.iter().any(|a| a.name == name && a.left != Some(0))
    }

    /// The value of fault `name` as a number (`default` if it has none); uses up nothing.
    #[must_use]
    pub fn number(&self, name: &'static str, default: u64) -> Option<u64> {
        let active = self
            .0
            .iter()
            .find(|a| a.name == name && a.left != Some(0))?;
        Some(active.value.parse().unwrap_or(default))
    }

    /// Every value of fault `name`, which may stand several times; uses up nothing.
    pub fn values(&self, name: &'static str) -> impl Iterator<Item = &str> {
        let of_name = move |a: &&Active| a.name == name && a.left != Some(0);
        self.0.iter().filter(of_name).map(|a| a.value.as_str())
    }

    /// True on every n-th call while `name=n` is in force (n = 1 if not given).
    pub fn every(&mut self, name: &'static str) -> bool {
        let Some(active) = self
            .0
            .iter_mut()
            .find(|a| a.name == name && a.left != Some(0))
        else {
            return false;
        };
        active.asked += 1;
        let hit = active
            .asked
            .is_multiple_of(active.value.parse().unwrap_or(1).max(1));
        if hit {
            active.left = active.left.map(|left| left - 1);
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
        assert_eq!(faults.take("mdio-busy"), Some(String::new()));
        assert!(faults.has("mdio-busy"));
        assert_eq!(faults.take("mdio-busy"), Some(String::new()));
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
        assert!(faults.has("dma-error"));
        faults.set_list("").unwrap();
        assert!(faults.is_empty());
    }
}
