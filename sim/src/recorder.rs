//! Listens to the world and fills the measured part of a run record. It changes nothing.

use std::collections::BTreeMap;

use drydock_engine::SimInstant;
use drydock_models::ids::{ContainerId, NodeIndex, PodUid};
use drydock_models::observation::{ApiCallKind, Observation};
use drydock_models::request::{ApiError, ClientClass};
use drydock_traces::run_record::{
    AllocatorRequests, ApiRequests, LatencySummary, RequestCount, RequestResult, Share, Verb,
};

use crate::attribution::Starts;

/// Times of one Pod. Units: simulated ns.
#[derive(Clone, Debug, Default)]
pub struct PodTimes {
    /// Stored.
    pub created_ns: Option<u64>,
    /// Binding stored.
    pub bound_ns: Option<u64>,
    /// Machine.
    pub node: Option<NodeIndex>,
    /// First ADD began.
    pub add_start_ns: Option<u64>,
    /// Successful ADD ended.
    pub add_end_ns: Option<u64>,
    /// Running visible.
    pub running_ns: Option<u64>,
    /// ADDs begun.
    pub add_count: u32,
}

/// What was seen of the deletion and re-creation of all Pods.
#[derive(Debug)]
pub struct Recreated {
    /// When the first deletion was sent. Units: simulated ns.
    pub began_ns: u64,
    /// When replacements were first seen Running, in order. Units: simulated ns.
    pub running_curve_ns: Vec<u64>,
    /// The requests of the time before.
    pub api_before: ApiRequests,
}

/// Counts of one class of requests.
type Counts = BTreeMap<(ClientClass, ApiCallKind, Option<ApiError>), u64>;

/// What was seen.
#[derive(Debug, Default)]
pub struct Recorder {
    /// Times by Pod, in order of creation.
    pub pods: BTreeMap<PodUid, PodTimes>,
    /// When Pods were first seen Running, in order.
    pub running_curve_ns: Vec<u64>,
    /// Facts that the allocator reported, summed by name.
    pub reported: BTreeMap<&'static str, u64>,
    /// Calls up to the last Running.
    counts: Counts,
    /// Calls since the last Running: the tail of a run is not charged to its Pods.
    tail: Counts,
    adds: BTreeMap<(NodeIndex, ContainerId), u64>,
    add_latencies_ns: Vec<u64>,
    first_post: Option<SimInstant>,
    /// What each Pod's start waits for.
    pub starts: Starts,
    /// The second half of a run that deletes all Pods.
    pub recreated: Option<Recreated>,
}

impl Recorder {
    /// Enters a fact.
    pub fn observe(&mut self, at: SimInstant, observation: &Observation) {
        let now = at.as_nanos();
        self.starts.observe(now, observation);
        match observation {
            Observation::PodCreated { pod } => {
                if self.first_post.is_none() {
                    // What came before is start-up: it is not in the counts.
                    self.first_post = Some(at);
                    self.tail.clear();
                }
                self.times(*pod).created_ns = Some(now);
            }
            Observation::PodBound { pod, node } => {
                let times = self.times(*pod);
                times.bound_ns = Some(now);
                times.node = *node;
            }
            Observation::PodRunning { pod } => {
                let times = self.times(*pod);
                if times.running_ns.is_none() {
                    times.running_ns = Some(now);
                    match &mut self.recreated {
                        Some(recreated) => recreated.running_curve_ns.push(now),
                        None => self.running_curve_ns.push(now),
                    }
                    while let Some((call, count)) = self.tail.pop_first() {
                        *self.counts.entry(call).or_default() += count;
                    }
                }
            }
            Observation::AddStarted {
                pod,
                node,
                container,
            } => {
                let times = self.times(*pod);
                times.add_count += 1;
                times.add_start_ns.get_or_insert(now);
                self.adds.insert((*node, *container), now);
            }
            Observation::AddEnded {
                pod,
                node,
                container,
                ok,
            } => {
                let began = self.adds.remove(&(*node, *container));
                if *ok {
                    self.times(*pod).add_end_ns = Some(now);
                    self.add_latencies_ns.extend(began.map(|began| now - began));
                }
            }
            Observation::ApiCall {
                class,
                what,
                result,
                ..
            } => {
                *self.tail.entry((*class, *what, result.err())).or_default() += 1;
            }
            Observation::Ipam { what, value, .. } => {
                *self.reported.entry(what).or_default() += value;
            }
            _ => {}
        }
    }

    /// Every Pod runs, and all of them are about to be deleted: what follows counts by itself.
    pub fn recreation_began(&mut self, at: SimInstant, pod_count: u64) {
        let api_before = self.requests(pod_count);
        self.counts.clear();
        self.tail.clear();
        self.recreated = Some(Recreated {
            began_ns: at.as_nanos(),
            running_curve_ns: Vec::new(),
            api_before,
        });
    }

    fn times(&mut self, pod: PodUid) -> &mut PodTimes {
        self.pods.entry(pod).or_default()
    }

    /// Latency of all ADDs that were answered.
    pub fn add_latency(&self) -> Option<LatencySummary> {
        LatencySummary::of(self.add_latencies_ns.iter().copied())
    }

    /// ADDs that the allocator answered in the instant it was asked.
    pub fn answered_at_once(&self) -> Share {
        let count = |what| self.reported.get(what).copied().unwrap_or_default();
        let at_once = count("add-answered-at-once");
        Share {
            count: at_once,
            of: at_once + count("add-answered-later"),
        }
    }

    /// All requests, and the allocator's share per Pod from the first POST to the last Running.
    pub fn requests(&self, pod_count: u64) -> ApiRequests {
        let mut merged: BTreeMap<(String, Verb, RequestResult), u64> = BTreeMap::new();
        let mut conflict_count = 0;
        for ((class, what, error), count) in self.counts.iter().chain(&self.tail) {
            let result = result_of(*error);
            if result == RequestResult::Conflict {
                conflict_count += count;
            }
            *merged
                .entry((client_name(*class), verb_of(what.verb), result))
                .or_default() += count;
        }
        let counts = merged
            .into_iter()
            .map(|((client, verb, result), count)| RequestCount {
                client,
                verb,
                result,
                count,
            })
            .collect();
        let mut own = AllocatorRequests {
            pod_count,
            ..AllocatorRequests::default()
        };
        for ((class, what, _), count) in &self.counts {
            if !matches!(class, ClientClass::IpamNode | ClientClass::IpamController) {
                continue;
            }
            match verb_of(what.verb) {
                Verb::Watch => own.watch_count += count,
                _ if what.resource == "leases" => own.lease_renewal_count += count,
                Verb::Get => own.read_count += count,
                Verb::List => own.list_count += count,
                Verb::Create | Verb::Update | Verb::Patch | Verb::Delete => {
                    own.write_count += count;
                }
            }
        }
        ApiRequests {
            counts,
            conflict_count,
            per_pod: own.into(),
        }
    }
}

fn verb_of(verb: &str) -> Verb {
    match verb {
        "GET" => Verb::Get,
        "LIST" => Verb::List,
        "WATCH" => Verb::Watch,
        "POST" => Verb::Create,
        "PUT" => Verb::Update,
        "PATCH" => Verb::Patch,
        "DELETE" => Verb::Delete,
        other => unreachable!("the apiserver knows no verb {other}"),
    }
}

fn result_of(error: Option<ApiError>) -> RequestResult {
    match error {
        None => RequestResult::Ok,
        Some(ApiError::NotFound) => RequestResult::NotFound,
        Some(ApiError::Conflict) => RequestResult::Conflict,
        Some(ApiError::AlreadyExists) => RequestResult::AlreadyExists,
        Some(ApiError::Gone) => RequestResult::Gone,
        Some(ApiError::Invalid) => RequestResult::Invalid,
        Some(ApiError::TooManyRequests { .. }) => RequestResult::TooManyRequests,
        Some(ApiError::Unavailable { .. }) => RequestResult::NoAnswer,
    }
}

fn client_name(class: ClientClass) -> String {
    match class {
        ClientClass::Kubelet => "kubelet",
        ClientClass::KubeletEvents => "kubelet-events",
        ClientClass::Multus => "multus",
        ClientClass::DeploymentController => "deployment-controller",
        ClientClass::ReplicaSetController => "replicaset-controller",
        ClientClass::OtherControllers => "other-controllers",
        ClientClass::Scheduler => "scheduler",
        ClientClass::SchedulerEvents => "scheduler-events",
        ClientClass::User => "user",
        ClientClass::IpamNode => "ipam-node",
        ClientClass::IpamController => "ipam-controller",
    }
    .to_owned()
}
