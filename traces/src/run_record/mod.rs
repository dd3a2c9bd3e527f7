//! The record of one run: what ran, how it ended and every number that a report shows. It holds
//! only data: the simulator measures, and a report judges.
//!
//! Every field is required on reading: a missing value is an explicit `null`.

mod attribution;
mod codec;
mod latency;
mod outcome;
mod scalar;
mod traffic;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::attribution::{Attribution, PodPath, Recreation, Segment, Stage, Which};
pub use self::codec::{RecordError, SCHEMA};
pub use self::latency::{LatencySummary, PERCENTILES_PPM};
pub use self::outcome::{EndReason, ExitClass, Invariant, Outcome, Violation, WaitingPod};
pub use self::scalar::{Digest, Seconds};
pub use self::traffic::{
    AllocatorRequests, ApiRequests, RequestCount, RequestResult, RequestsPerPod, Verb,
};
use crate::seed::Seed;
pub use crate::workload::NotSimulatedGroup;
pub use crate::workload::Stack;

/// Everything that one run reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// [`SCHEMA`], always.
    pub schema: String,
    /// The seed that every draw of the run derives from.
    pub seed: Seed,
    /// What makes the run repeatable, and the proof that it was repeated.
    pub certificate: Certificate,
    /// What was run.
    pub scenario: Scenario,
    /// How it ended.
    pub outcome: Outcome,
    /// Times of every Pod. Shape: in order of creation.
    pub pods: Vec<PodTimes>,
    /// Instants at which a Pod was first seen Running. Shape: ascending, the n-th entry is the
    /// n-th Running Pod. Units: simulated ns since the start.
    pub running_curve_ns: Vec<u64>,
    /// What the apiserver was asked, and what the allocator's share per Pod was.
    pub api: ApiRequests,
    /// ADDs answered by the allocator without a request of that claim to the apiserver.
    pub answered_without_apiserver: Share,
    /// Latency of every answered ADD, from exec to exit of the outermost plugin; null if no ADD
    /// was answered.
    #[serde(deserialize_with = "scalar::nullable")]
    pub add_latency: Option<LatencySummary>,
    /// Where the time of the starts went.
    pub attribution: Attribution,
    /// Deletion and re-creation of all Pods; null if it was not asked for.
    #[serde(deserialize_with = "scalar::nullable")]
    pub recreation: Option<Recreation>,
    /// How busy each resource was. Shape: sorted by name.
    pub resources: Vec<ResourceUse>,
    /// Violated invariants. Shape: in order of time.
    pub violations: Vec<Violation>,
    /// How often each probe fired, by name.
    pub probes: BTreeMap<String, u64>,
    /// Faults by kind.
    pub faults: BTreeMap<String, FaultCount>,
    /// The machine that the simulator ran on; never compared.
    pub host: Host,
}

/// What makes a run repeatable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Commit of the sources, with `-dirty` when the tree had changes.
    pub commit: String,
    /// The compiler, as `rustc --version` prints it.
    pub toolchain: String,
    /// Hash of the lock file.
    pub lock_file_hash: Digest,
    /// Hash over every event of the run.
    pub event_log_hash: Digest,
    /// Events in the log.
    pub event_count: u64,
    /// Hashes on the way: two runs that differ are narrowed down by them. Shape: ascending.
    pub checkpoints: Vec<Checkpoint>,
}

/// The running hash after some events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Events that the hash covers.
    pub event_count: u64,
    /// Simulated time of the last of them.
    pub at_ns: u64,
    /// The hash.
    pub hash: Digest,
}

/// What was run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Name of the allocator: `berth`, `instant` or a peer.
    pub allocator: String,
    /// Name of the parameter profile.
    pub profile: String,
    /// Parameters that differ from the profile, by name.
    pub overrides: BTreeMap<String, String>,
    /// Address families.
    pub stack: Stack,
    /// What was asked for: `equal`, `ample`, a number, or `given` when a manifest holds the pool.
    pub addresses: String,
    /// Ordinals (addresses, or pairs in dual stack) that Pods can have, over all pools.
    pub address_count: u64,
    /// Nodes, those with a control plane included.
    pub node_count: u32,
    /// Nodes that also run the control plane.
    pub master_count: u32,
    /// The simulated time at which a run is cut off.
    pub until_ns: u64,
    /// What was created.
    pub workload: WorkloadSummary,
    /// Manifest content that is not simulated.
    pub not_simulated: Vec<NotSimulatedGroup>,
}

/// What the manifests of a run ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSummary {
    /// Files, or the name of a stored workload. Shape: in the order given.
    pub sources: Vec<String>,
    /// Documents by kind.
    pub documents: BTreeMap<String, u64>,
    /// Pods that run when everything runs.
    pub pod_count: u64,
}

/// When things happened to one Pod. Units: simulated ns since the start; null if never.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodTimes {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The node that it was bound to.
    #[serde(deserialize_with = "scalar::nullable")]
    pub node: Option<String>,
    /// The apiserver stored it.
    #[serde(deserialize_with = "scalar::nullable")]
    pub created_ns: Option<u64>,
    /// The apiserver stored its binding.
    #[serde(deserialize_with = "scalar::nullable")]
    pub bound_ns: Option<u64>,
    /// The first CNI ADD began.
    #[serde(deserialize_with = "scalar::nullable")]
    pub add_start_ns: Option<u64>,
    /// The successful CNI ADD ended.
    #[serde(deserialize_with = "scalar::nullable")]
    pub add_end_ns: Option<u64>,
    /// The apiserver stored its status Running.
    #[serde(deserialize_with = "scalar::nullable")]
    pub running_ns: Option<u64>,
    /// CNI ADDs that were begun for it, failed ones included.
    pub add_count: u32,
}

/// A part of a whole, as counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The part.
    pub count: u64,
    /// The whole.
    pub of: u64,
}

impl Share {
    /// The share in parts per million, rounded to nearest; 0 of 0 is 0.
    pub fn ppm(self) -> u64 {
        let whole = u128::from(self.of.max(1));
        u64::try_from((u128::from(self.count) * 1_000_000 + whole / 2) / whole).unwrap_or(u64::MAX)
    }
}

/// How busy one resource was from the start to the last Running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceUse {
    /// Which resource, for example `node/worker4/cpu`.
    pub name: String,
    /// Share of its capacity that was used, in parts per million.
    pub busy_ppm: u64,
    /// The longest queue in front of it.
    pub queue_peak: u64,
}

/// How often one kind of fault was planned and took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultCount {
    /// In the plan.
    pub drawn: u64,
    /// Took place.
    pub fired: u64,
}

/// The machine that the simulator ran on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Wall time of the run.
    pub wall_ns: u64,
    /// Largest resident memory of the process; null where the system does not report it.
    #[serde(deserialize_with = "scalar::nullable")]
    pub memory_peak_bytes: Option<u64>,
}

#[cfg(test)]
mod tests;
