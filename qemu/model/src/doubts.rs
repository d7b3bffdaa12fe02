//! Every doubt is a switch: behaviour that the sources leave open, with a named reading for each possibility.
//!
//! A driver is right only if it works under all of them. Each block that has doubts lists them in a `DOUBTS` table; the
//! tables are joined by [`all`], which is what `./x qemu doubts` prints. The default is the reading judged likeliest and is
//! always the first of [`Doubt::readings`].

use std::fmt;

/// One open question about the hardware.
#[derive(Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Name on the command line, `block-question`.
    pub name: &'static str,
    /// The possible readings, likeliest (the default) first.
    pub readings: &'static [&'static str],
    /// What is open, and which source says what.
    pub about: &'static str,
}

impl Doubt {
    /// The reading in force unless another is asked for.
    #[must_use]
    pub fn default_reading(&self) -> &'static str {
        self.readings.first().copied().unwrap_or("")
    }
}

/// All doubts of the board.
pub fn all() -> impl Iterator<Item = &'static Doubt> {
    crate::neta::DOUBTS
        .iter()
        .chain(crate::mdio::DOUBTS)
        .chain(crate::switch::DOUBTS)
        .copied()
}

/// Why a choice of readings was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DoubtError {
    /// Not of the form `name:reading`.
    Malformed(String),
    /// No doubt has this name.
    UnknownDoubt(String),
    /// The doubt exists, the reading does not.
    UnknownReading(&'static str, String),
}

impl fmt::Display for DoubtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(text) => write!(f, "doubt `{text}` is not name:reading"),
            Self::UnknownDoubt(name) => write!(f, "no doubt is called `{name}`"),
            Self::UnknownReading(name, reading) => {
                write!(f, "doubt `{name}` has no reading `{reading}`")
            }
        }
    }
}

impl std::error::Error for DoubtError {}

/// The readings in force: those that differ from the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doubts(Vec<(&'static str, &'static str)>);

impl Doubts {
    /// Chooses a reading.
    ///
    /// # Errors
    ///
    /// [`DoubtError`] if there is no such doubt or reading; nothing changes then.
    pub fn set(&mut self, name: &str, reading: &str) -> Result<(), DoubtError> {
        let doubt = all()
            .find(|d| d.name == name)
            .ok_or_else(|| DoubtError::UnknownDoubt(name.into()))?;
        let reading = doubt
            .readings
            .iter()
            .copied()
            .find(|r| *r == reading)
            .ok_or_else(|| DoubtError::UnknownReading(doubt.name, reading.into()))?;
        self.0.retain(|(known, _)| *known != doubt.name);
        if reading != doubt.default_reading() {
            self.0.push((doubt.name, reading));
        }
        Ok(())
    }

    /// Chooses readings from items divided by commas: `name:reading`, or `flipped` for the last reading of every doubt.
    ///
    /// # Errors
    ///
    /// The first [`DoubtError`]; the items before it are in force.
    pub fn set_list(&mut self, list: &str) -> Result<(), DoubtError> {
        for item in list.split(',').filter(|item| !item.is_empty()) {
            if item == "flipped" {
                for doubt in all() {
                    self.set(doubt.name, doubt.readings[doubt.readings.len() - 1])?;
                }
                continue;
            }
            let (name, reading) = item
                .split_once(':')
                .ok_or_else(|| DoubtError::Malformed(item.into()))?;
            self.set(name, reading)?;
        }
        Ok(())
    }

    /// True when `doubt` is to be read as `reading`. Blocks ask with literals from their own table; a debug build
    /// checks the reading against it.
    #[must_use]
    pub fn is(&self, doubt: &'static Doubt, reading: &str) -> bool {
        debug_assert!(
            doubt.readings.contains(&reading),
            "{} has no reading {reading}",
            doubt.name
        );
        let chosen = self
            .0
            .iter()
            .find(|(name, _)| *name == doubt.name)
            .map(|(_, chosen)| *chosen);
        chosen.unwrap_or_else(|| doubt.default_reading()) == reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_can_be_flipped_and_one_taken_back() {
        let mut doubts = Doubts::default();
        let (first, second) = (all().next().unwrap(), all().nth(1).unwrap());
        let list = format!("flipped,{}:{}", first.name, first.default_reading());
        doubts.set_list(&list).unwrap();
        assert!(doubts.is(first, first.default_reading()));
        assert!(!doubts.is(second, second.default_reading()));
    }

    #[test]
    fn names_are_unique_and_every_doubt_leaves_a_choice() {
        let mut names: Vec<_> = all().map(|d| d.name).collect();
        assert!(all().all(|d| d.readings.len() >= 2 && !d.about.is_empty()));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_list_sets_readings_and_refuses_unknown_ones() {
        let doubt = crate::neta::DOUBTS[0];
        let other = doubt.readings[1];
        let mut doubts = Doubts::default();
        assert!(doubts.is(doubt, doubt.default_reading()));
        doubts
            .set_list(&format!("{}:{other},", doubt.name))
            .unwrap();
        assert!(doubts.is(doubt, other));
        doubts.set(doubt.name, doubt.default_reading()).unwrap();
        assert_eq!(doubts, Doubts::default());
        assert_eq!(
            doubts.set_list("no"),
            Err(DoubtError::Malformed("no".into()))
        );
        assert_eq!(
            doubts.set_list("no:yes"),
            Err(DoubtError::UnknownDoubt("no".into()))
        );
        assert_eq!(
            doubts.set(doubt.name, "?"),
            Err(DoubtError::UnknownReading(doubt.name, "?".into()))
        );
    }
}
