//! Who holds: the incarnation of a machine. Not the Pod: that is its UID.

use core::fmt;
use core::str::FromStr;
use std::sync::Arc;

/// One incarnation of a machine: its name and a number that rises with each.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochId {
    machine: Arc<str>,
    number: u64,
}

impl EpochId {
    /// Incarnation `number` of `machine`.
    pub fn new(machine: &str, number: u64) -> Self {
        Self {
            machine: Arc::from(machine),
            number,
        }
    }

    /// The machine's name, which its `BerthNode` has, too (see [`super::naming`]).
    pub fn machine(&self) -> &str {
        &self.machine
    }

    /// Which incarnation.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.machine, self.number)
    }
}

impl fmt::Debug for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EpochId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (machine, number) = text.rsplit_once('#').ok_or(())?;
        Ok(Self::new(machine, number.parse().map_err(|_| ())?))
    }
}
