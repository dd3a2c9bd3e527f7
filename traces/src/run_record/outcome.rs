//! How a run ended, and what it broke.

use serde::{Deserialize, Serialize};

use super::scalar::{Seconds, nullable};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Why the run stopped.
    pub reason: EndReason,
    /// What the process says about it.
    pub exit_class: ExitClass,
    /// Time from the first creation until all Pods ran; null if they never did.
    #[serde(deserialize_with = "nullable")]
    pub all_running_s: Option<Seconds>,
    /// Simulated time at which the run stopped.
    pub ended_at_ns: u64,
    /// Pods that the workload asks for.
    pub pods_total: u64,
    /// Pods that ran when the run stopped.
    pub pods_running: u64,
    /// The others, with why. Shape: sorted by namespace and name.
    pub waiting: Vec<WaitingPod>,
}

/// Why a run stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// Every Pod runs.
    AllRunning,
    /// The simulated time limit was reached.
    TimeLimit,
    /// Every waiting Pod failed three rounds and no dying Pod holds an address.
    Stuck,
    /// Faults are over and the world did not converge within the bound.
    NotConverged,
    /// Faults are over and the world converged.
    Healed,
    /// An invariant was violated and the run stopped there.
    Violated,
    /// The user stopped it; what is here is what was there.
    Interrupted,
}

impl EndReason {
    /// The reason as a sentence for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::AllRunning => "all Pods run",
            Self::TimeLimit => "the simulated time limit was reached",
            Self::Stuck => {
                "every waiting Pod failed three rounds and no dying Pod holds an address"
            }
            Self::NotConverged => "the world did not converge after the last fault",
            Self::Healed => "the world converged after the last fault",
            Self::Violated => "an invariant was violated",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What a process that made or judged a run says on exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitClass {
    /// All well.
    Ok,
    /// Wrong usage or configuration.
    Usage,
    /// An invariant was violated.
    Violation,
    /// The same seed gave another run.
    NotDeterministic,
    /// Outside the tolerance of a reference, or a probe never fired.
    OutsideReference,
    /// The testbed failed.
    Internal,
    /// The user stopped it.
    Interrupted,
}

impl ExitClass {
    /// The exit code of the process.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Usage => 1,
            Self::Violation => 2,
            Self::NotDeterministic => 3,
            Self::OutsideReference => 4,
            Self::Internal => 5,
            Self::Interrupted => 130,
        }
    }
}

/// A Pod that did not run when the run stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitingPod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// What it waits for, with the last error that it met.
    pub why: String,
}

/// The invariants of the allocator, as the ledger checks them from the world's truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Invariant {
    /// Unique: no two live interfaces of different Pods have one address.
    U,
    /// Bounds: no address outside its pool, excluded, a gateway, or another's reservation.
    B,
    /// Answered: an interface has the addresses that its sandbox's ADD was answered with.
    A,
    /// Release: after the end of a namespace its address is free within a bound.
    R,
    /// Idempotence: DEL frees only its own, however often it comes.
    I,
    /// Kept: what ADD answered is recorded as long as the interface lives.
    K,
    /// Liveness: with room and no faults, every Pod gets its address within a bound.
    L,
    /// Same: the same ADD again gets the same answer.
    S,
    /// Holders: an unbound holder's Pod is bound to that node, a bound one's namespace is not gone.
    H,
}

impl Invariant {
    /// Every invariant, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::U,
        Self::B,
        Self::A,
        Self::R,
        Self::I,
        Self::K,
        Self::L,
        Self::S,
        Self::H,
    ];
}

/// One violated invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Violation {
    /// Which one.
    pub invariant: Invariant,
    /// Simulated time of the first violating event.
    pub at_ns: u64,
    /// Address, Pod or node that it is about.
    pub subject: String,
    /// What happened, in words that a user would use.
    pub text: String,
    /// Ordinal of the first violating event in the event log.
    pub first_event: u64,
}
