//! What a request costs: CPU that its answer waits for, and CPU that is spent beside it. Decided by
//! kind, shape and size alone; the same for every client.
//!
//! The measured table gives median latency and CPU of both processes. CPU up to the latency is in
//! the path of the answer (`foreground`); what exceeds it was spent in parallel or later (garbage
//! collection, other goroutines) and loads the machine without delaying this answer (`background`).
//! The disk's share of a write's latency is taken off, because the disk is modeled on its own.
//! Not modeled: the 40 ms tails of the measured 95th percentiles beyond what queueing gives.

use std::time::Duration;

use crate::observation::ApiCallKind;
use crate::parameters::{CostParameters, Factor, Price};
use crate::request::{Consistency, Custom, Request, Shape};

use super::store::Store;

/// CPU of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Before the answer.
    pub foreground: Duration,
    /// Beside it.
    pub background: Duration,
}

impl Demand {
    fn of(price: Price, disk: Duration) -> Demand {
        let total = price.apiserver + price.etcd;
        let foreground = total.min(price.latency.saturating_sub(disk));
        Demand {
            foreground,
            background: total.saturating_sub(foreground),
        }
    }

    /// Both added up.
    pub fn plus(self, other: Demand) -> Demand {
        Demand {
            foreground: self.foreground + other.foreground,
            background: self.background + other.background,
        }
    }

    /// The same work on a core that is slower by a factor.
    fn on(self, factor: Factor) -> Demand {
        Demand {
            foreground: factor.of(self.foreground),
            background: factor.of(self.background),
        }
    }

    fn times(self, count: u32) -> Demand {
        Demand {
            foreground: self.foreground * count,
            background: self.background * count,
        }
    }
}

impl CostParameters {
    /// CPU of a request, given what the store holds when it arrives.
    pub fn demand(&self, request: &Request, store: &Store) -> Demand {
        self.measured(request, store).on(self.cpu_factor)
    }

    /// The same on the machine where the prices were measured.
    fn measured(&self, request: &Request, store: &Store) -> Demand {
        let read = |price: Price| Demand::of(price, Duration::ZERO);
        let write = |price: Price| Demand::of(price, self.bench_fsync);
        match request {
            Request::CreatePod(_) => write(self.post_pod.at(1)),
            Request::GetPod { .. } => read(self.get_pod.at(1)),
            // etcd has no index by node: a quorum list decodes every Pod.
            Request::ListPods { .. } => self.list(read(self.get_pod.at(1)), store.pod_count()),
            Request::BindPod { .. } => write(self.bind_pod.at(1)),
            Request::PatchPodStatus { .. } => write(self.patch_pod_status.at(1)),
            Request::PutNetworkStatus { .. } => write(self.put_network_status.at(1)),
            Request::PatchPodAnnotations { .. } | Request::AnnotatePod { .. } => {
                write(self.patch_pod_annotations.at(1))
            }
            Request::DeletePod { .. } | Request::Delete { .. } => write(self.delete.at(1)),
            Request::CreateToken => read(self.create_token.at(1)),
            Request::CreateEvent => write(self.post_flat.at(1)),
            Request::GetNetworkAttachment | Request::ListConfigMaps => read(self.get_small.at(1)),
            Request::WriteWorkload { .. } => write(self.write_workload.at(1)),
            Request::Get { kind, name, .. } => match store.custom(*kind, name) {
                Some(object) => read(self.get_of(object)),
                None => read(self.get_flat.at(1)),
            },
            Request::List {
                kind,
                selectors,
                limit,
                ..
            } => {
                let found = store.customs_at(*kind, selectors, store.revision());
                let page = if *limit == 0 {
                    found.len()
                } else {
                    found.len().min(*limit as usize)
                };
                let base = self.list(read(self.get_flat.at(1)), page);
                found
                    .iter()
                    .take(page)
                    .fold(base, |sum, object| sum.plus(self.records(object)))
            }
            Request::Create(object) if object.kind.shape == Shape::Flat => {
                write(self.post_flat.at(1))
            }
            Request::Create(object)
            | Request::Replace { object, .. }
            | Request::JsonPatch { object }
            | Request::MergePatch { object } => write(self.write_of(object)),
        }
    }

    /// CPU of opening a connection.
    pub fn connection(&self) -> Demand {
        Demand::of(self.tls.at(1), Duration::ZERO).on(self.cpu_factor)
    }

    fn list(&self, first: Demand, count: usize) -> Demand {
        let further = u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX);
        first.plus(Demand::of(self.list_item.at(1), Duration::ZERO).times(further))
    }

    /// What the records of an object in a list add to the price of the object.
    fn records(&self, object: &Custom) -> Demand {
        let (whole, empty) = (self.get_of(object), self.get_of_shape(object.kind.shape, 1));
        let price = Price {
            latency: whole.latency.saturating_sub(empty.latency),
            apiserver: whole.apiserver.saturating_sub(empty.apiserver),
            etcd: whole.etcd.saturating_sub(empty.etcd),
        };
        Demand::of(price, Duration::ZERO)
    }

    fn get_of(&self, object: &Custom) -> Price {
        self.get_of_shape(object.kind.shape, object.record_count)
    }

    fn get_of_shape(&self, shape: Shape, record_count: u32) -> Price {
        match shape {
            Shape::Flat => self.get_flat.at(1),
            Shape::OneString => self.get_one_string.at(record_count),
            Shape::AtomicList | Shape::AtomicMap | Shape::ListOfMaps => {
                self.get_atomic.at(record_count)
            }
            Shape::GranularMap => self.get_granular_map.at(record_count),
        }
    }

    fn write_of(&self, object: &Custom) -> Price {
        match object.kind.shape {
            Shape::Flat => self.put_flat.at(1),
            Shape::OneString => self.write_one_string.at(object.record_count),
            Shape::AtomicList => self.write_atomic_list.at(object.record_count),
            Shape::AtomicMap => self.write_atomic_map.at(object.record_count),
            Shape::ListOfMaps => self.write_list_of_maps.at(object.record_count),
            Shape::GranularMap => self.write_granular_map.at(object.record_count),
        }
    }
}

/// Verb and resource of a request, and whether it can change the store.
pub(super) fn describe(request: &Request) -> (ApiCallKind, bool) {
    let (verb, resource) = match request {
        Request::CreatePod(_) => ("POST", "pods"),
        Request::GetPod { .. } => ("GET", "pods"),
        Request::ListPods { .. } => ("LIST", "pods"),
        Request::BindPod { .. } => ("POST", "pods/binding"),
        Request::PatchPodStatus { .. } => ("PATCH", "pods/status"),
        Request::PutNetworkStatus { .. } => ("PUT", "pods/status"),
        Request::PatchPodAnnotations { .. } | Request::AnnotatePod { .. } => ("PATCH", "pods"),
        Request::DeletePod { .. } => ("DELETE", "pods"),
        Request::CreateToken => ("POST", "serviceaccounts/token"),
        Request::CreateEvent => ("POST", "events"),
        Request::GetNetworkAttachment => ("GET", "network-attachment-definitions"),
        Request::ListConfigMaps => ("LIST", "configmaps"),
        Request::WriteWorkload { object, write } => workload_name(*object, *write),
        Request::Get { kind, .. } => ("GET", kind.resource),
        Request::List { kind, .. } => ("LIST", kind.resource),
        Request::Create(object) => ("POST", object.kind.resource),
        Request::Replace { object, .. } => ("PUT", object.kind.resource),
        Request::JsonPatch { object } | Request::MergePatch { object } => {
            ("PATCH", object.kind.resource)
        }
        Request::Delete { kind, .. } => ("DELETE", kind.resource),
    };
    // A token is signed, not stored.
    let stored = !matches!(verb, "GET" | "LIST") && !matches!(request, Request::CreateToken);
    (ApiCallKind { verb, resource }, stored)
}

fn workload_name(
    object: crate::objects::WorkloadObject,
    write: crate::request::WorkloadWrite,
) -> (&'static str, &'static str) {
    use crate::objects::WorkloadObject as O;
    use crate::request::WorkloadWrite as W;
    let create = write == W::Create;
    match (object, create) {
        (O::Deployment(_), true) => ("POST", "deployments"),
        (O::Deployment(_), false) => ("PUT", "deployments/status"),
        (O::ReplicaSet(_), true) => ("POST", "replicasets"),
        (O::ReplicaSet(_), false) => ("PUT", "replicasets/status"),
        (O::StatefulSet(_), true) => ("POST", "statefulsets"),
        (O::StatefulSet(_), false) => ("PUT", "statefulsets/status"),
        (O::Job(_), true) => ("POST", "jobs"),
        (O::Job(_), false) => ("PUT", "jobs/status"),
    }
}

/// Whether a read may be answered by the watch cache.
pub(super) fn from_cache(request: &Request) -> bool {
    matches!(
        request,
        Request::GetPod {
            consistency: Consistency::Cache,
            ..
        } | Request::ListPods {
            consistency: Consistency::Cache,
            ..
        } | Request::Get {
            consistency: Consistency::Cache,
            ..
        } | Request::List {
            consistency: Consistency::Cache,
            ..
        } | Request::ListConfigMaps
    )
}
