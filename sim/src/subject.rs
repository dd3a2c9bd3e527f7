//! What is put to the test, by name: an allocator, perhaps with a known mistake built in, and how
//! many addresses it has. Which allocators there are, and what each of them is, stands in
//! [`crate::adapters`].

use std::fmt;
use std::str::FromStr;

use drydock_traces::workload::Stack;

/// Who decides addresses. It is only made by an adapter, so each one has an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allocator(&'static str);

impl Allocator {
    /// The allocator of this name, as its adapter calls it.
    pub(crate) const fn named(name: &'static str) -> Allocator {
        Allocator(name)
    }

    /// Name on the command line, in plans and in records.
    pub fn name(self) -> &'static str {
        self.0
    }
}

/// What is hunted: an allocator, perhaps with a known mistake built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The allocator.
    pub allocator: Allocator,
    /// The mistake.
    pub mutant: Option<String>,
}

impl From<Allocator> for Subject {
    fn from(allocator: Allocator) -> Self {
        Subject {
            allocator,
            mutant: None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.allocator.name())?;
        self.mutant
            .iter()
            .try_for_each(|mutant| write!(f, "+{mutant}"))
    }
}

/// How many addresses there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Exactly as many as Pods.
    Equal,
    /// Twice as many as Pods.
    Ample,
    /// This many ordinals (pairs, in dual stack).
    Count(u32),
}

impl FromStr for Addresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "equal" => Ok(Addresses::Equal),
            "ample" => Ok(Addresses::Ample),
            number => number
                .parse()
                .ok()
                .filter(|count| (1..=1_000_000).contains(count))
                .map(Addresses::Count)
                .ok_or_else(|| {
                    "allowed: equal (as many as Pods), ample (twice as many), or a number from 1 \
                     to 1000000"
                        .to_owned()
                }),
        }
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Addresses::Equal => f.write_str("equal"),
            Addresses::Ample => f.write_str("ample"),
            Addresses::Count(count) => write!(f, "{count}"),
        }
    }
}

/// A cell by name, such as `ample-dual`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellName {
    /// How many addresses.
    pub addresses: Addresses,
    /// Address families.
    pub stack: Stack,
}

impl FromStr for CellName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed =
            || "allowed: ADDRESSES-STACK, for example ample-dual or equal-ipv4".to_owned();
        let (addresses, stack) = text.split_once('-').ok_or_else(allowed)?;
        Ok(CellName {
            addresses: addresses.parse()?,
            stack: stack.parse().map_err(|_| allowed())?,
        })
    }
}

impl fmt::Display for CellName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.addresses, self.stack)
    }
}
