//! What one run contributes to a comparison: a few numbers, so that thousands of runs fit into
//! memory.

use drydock_traces::run_record::{RequestResult, RunRecord, Stack};
use drydock_traces::seed::Seed;
use serde::{Deserialize, Serialize};

use crate::reference::WAYPOINTS;

/// A cell: who, how many addresses, which families.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CellKey {
    /// Name of the allocator in run records.
    pub allocator: String,
    /// `equal` or `ample`.
    pub addresses: String,
    /// Address families.
    pub stack: String,
}

impl CellKey {
    /// The cell of a run.
    pub fn of(record: &RunRecord) -> Self {
        Self::new(
            &record.scenario.allocator,
            &record.scenario.addresses,
            record.scenario.stack,
        )
    }

    /// A cell by its parts.
    pub fn new(allocator: &str, addresses: &str, stack: Stack) -> Self {
        Self {
            allocator: allocator.to_owned(),
            addresses: addresses.to_owned(),
            stack: stack.to_string(),
        }
    }

    /// The same cell of another allocator.
    pub fn with(&self, allocator: &str) -> Self {
        Self {
            allocator: allocator.to_owned(),
            ..self.clone()
        }
    }
}

impl std::fmt::Display for CellKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{} {} {}",
            self.allocator, self.addresses, self.stack
        )
    }
}

/// Numbers of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Its seed.
    pub seed: Seed,
    /// Time until all Pods ran; null if they never did. Units: simulated ns.
    pub all_running_ns: Option<u64>,
    /// Pods that ran at the end.
    pub pods_running: u64,
    /// Pods that were wanted.
    pub pods_total: u64,
    /// The allocator's requests per Pod. Units: thousandths.
    pub per_pod_milli: Option<u64>,
    /// Answers 409 to the allocator's writes.
    pub conflict_count: u64,
    /// ADDs begun beyond one per Pod.
    pub retry_count: u64,
    /// Addresses that nobody uses and nobody can get, as the allocator's model counts them.
    pub leaked_count: u64,
    /// How many at each published point on the way, in the order of the reference.
    pub waypoint_counts: Vec<u64>,
    /// Hash over every event.
    pub event_log_hash: String,
}

/// The name of a counter of leaked addresses.
const LEAKED: &str = "addresses_leaked";

impl Figures {
    /// The numbers of a run.
    pub fn of(record: &RunRecord) -> Self {
        let own = record.api.counts.iter().filter(|count| {
            count.client.starts_with("ipam") && count.result == RequestResult::Conflict
        });
        let adds: u64 = record.pods.iter().map(|pod| u64::from(pod.add_count)).sum();
        let with_add = record.pods.iter().filter(|pod| pod.add_count > 0).count() as u64;
        Self {
            seed: record.seed,
            all_running_ns: record.outcome.all_running_s.map(|all| all.ns),
            pods_running: record.outcome.pods_running,
            pods_total: record.outcome.pods_total,
            per_pod_milli: record.api.per_pod.per_pod_milli,
            conflict_count: own.map(|count| count.count).sum(),
            retry_count: adds - with_add,
            leaked_count: record.probes.get(LEAKED).copied().unwrap_or_default(),
            waypoint_counts: WAYPOINTS.iter().map(|point| point.count(record)).collect(),
            event_log_hash: record.certificate.event_log_hash.to_string(),
        }
    }
}
