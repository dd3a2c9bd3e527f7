//! Deliberately wrong variants of single rules, compiled in only with the feature `mutants`: a
//! testbed that does not notice them does not see.

use core::fmt;
use core::str::FromStr;

/// A rule to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// After a lost race a block is written again under the new version with the old content: the
    /// version guards nothing. (A write without any the apiserver refuses by itself.)
    NoResourceVersion,
    /// A Pod that is gone from the API frees its bound address.
    ReleaseOnPodAbsent,
    /// A read settles a write of unknown outcome.
    ReadSettlesUnknown,
    /// DEL frees the address although the namespace may live.
    FreeAtDel,
    /// The incarnation is named after the node instead of the machine.
    NodeNameIdentity,
    /// Whatever is bound to the node gets a reservation, and keeps it, whoever sets up its network.
    ClaimsForForeignPods,
    /// One object that cannot be read fails the whole answer that it is in, and the watch.
    AllOrNothingDecode,
    /// A list of the runtime's sandboxes that failed counts as an empty list.
    LostRuntimeTakenForEmpty,
    /// Whoever names a pool gets it: its rules are asked only where nobody named one.
    RightsOnlyOnOrdinaryPath,
    /// A start without a journal writes a sound one before it knows what the lost one knew, and
    /// what no entry says is taken for what is not.
    HeaderBeforeLost,
    /// The journal is read up to the first damage, and what is not read is taken for what is not.
    DamageBelieved,
    /// A path that cannot be told is taken for one that is gone.
    UnknownTakenForGone,
}

impl Mutant {
    /// Every mutant.
    pub const ALL: [Self; 12] = [
        Self::NoResourceVersion,
        Self::ReleaseOnPodAbsent,
        Self::ReadSettlesUnknown,
        Self::FreeAtDel,
        Self::NodeNameIdentity,
        Self::ClaimsForForeignPods,
        Self::AllOrNothingDecode,
        Self::LostRuntimeTakenForEmpty,
        Self::RightsOnlyOnOrdinaryPath,
        Self::HeaderBeforeLost,
        Self::DamageBelieved,
        Self::UnknownTakenForGone,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::NoResourceVersion => "no-resource-version",
            Self::ReleaseOnPodAbsent => "release-on-pod-absent",
            Self::ReadSettlesUnknown => "read-settles-unknown",
            Self::FreeAtDel => "free-at-del",
            Self::NodeNameIdentity => "node-name-identity",
            Self::ClaimsForForeignPods => "claims-for-foreign-pods",
            Self::AllOrNothingDecode => "all-or-nothing-decode",
            Self::LostRuntimeTakenForEmpty => "lost-runtime-taken-for-empty",
            Self::RightsOnlyOnOrdinaryPath => "rights-only-on-ordinary-path",
            Self::HeaderBeforeLost => "header-before-lost",
            Self::DamageBelieved => "damage-believed",
            Self::UnknownTakenForGone => "unknown-taken-for-gone",
        }
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No mutant has that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no mutant is called {0:?}")]
pub struct UnknownMutant(pub String);

impl FromStr for Mutant {
    type Err = UnknownMutant;

    fn from_str(text: &str) -> Result<Self, UnknownMutant> {
        Self::ALL
            .into_iter()
            .find(|mutant| mutant.name() == text)
            .ok_or_else(|| UnknownMutant(text.to_owned()))
    }
}
