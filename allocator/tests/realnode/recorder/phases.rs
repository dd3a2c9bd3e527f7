//! The phases of a Pod, each found somewhere else, put together: a column for each, and how long
//! from one to another.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Micros;
use super::file::{milliseconds, rank};
use crate::rounds::Sightings;

/// That a Pod was in this phase at this moment, or that it took this much processor time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pod: String,
    column: &'static str,
    value: Micros,
}

impl Found {
    pub(crate) fn new(pod: &str, column: &'static str, value: Micros) -> Self {
        Self {
            pod: pod.to_owned(),
            column,
            value,
        }
    }
}

/// In about the order in which a Pod passes them.
const COLUMNS: [&str; 43] = [
    "created-seen",
    "binding-received",
    "bound",
    "kubelet-add",
    "sync-begin",
    "token-received",
    "token-answered",
    "volumes-mounted",
    "sandbox-begin",
    "loopback-begin",
    "loopback-end",
    "network-begin",
    "ipam-begin",
    "ipam-end",
    "network-end",
    "shim-begin",
    "shim-end",
    "sandbox-create-begin",
    "sandbox-create-end",
    "sandbox-start-begin",
    "sandbox-start-end",
    "sandbox-end",
    "create-begin",
    "create-end",
    "start-begin",
    "second-shim-begin",
    "second-shim-end",
    "container-create-begin",
    "container-create-end",
    "container-start-begin",
    "container-start-end",
    "start-end",
    "sync-end",
    "pleg-seen",
    "second-sync-begin",
    "second-sync-end",
    "creating-received",
    "creating-answered",
    "sandbox-told-received",
    "sandbox-told-answered",
    "running-received",
    "running-answered",
    "running-seen",
];
/// Processor time of the programs of a Pod, with what they called.
const PROCESSOR: [&str; 8] = [
    "loopback-cpu",
    "network-cpu",
    "ipam-cpu",
    "shim-cpu",
    "sandbox-create-cpu",
    "sandbox-start-cpu",
    "container-create-cpu",
    "container-start-cpu",
];
/// Every Pod passes all of these, in this order. The clock is one, but each log is written a
/// little after what it tells.
const ORDER: [&str; 19] = [
    "binding-received",
    "kubelet-add",
    "sync-begin",
    "volumes-mounted",
    "sandbox-begin",
    "network-begin",
    "ipam-begin",
    "ipam-end",
    "network-end",
    "shim-begin",
    "shim-end",
    "sandbox-create-begin",
    "sandbox-create-end",
    "sandbox-start-end",
    "create-begin",
    "container-create-begin",
    "container-start-end",
    "pleg-seen",
    "running-answered",
];
const LATE_LOG: Micros = 100_000;
/// What is told of, from where to where.
const DURATIONS: [(&str, &str, &str); 27] = [
    ("asked for to created (seen)", "", "created-seen"),
    ("created (seen) to bound", "created-seen", "bound"),
    ("bound to the kubelet's ADD", "bound", "kubelet-add"),
    ("ADD to sync begin", "kubelet-add", "sync-begin"),
    (
        "sync begin to token asked for",
        "sync-begin",
        "token-received",
    ),
    (
        "token answered to volumes mounted",
        "token-answered",
        "volumes-mounted",
    ),
    (
        "sync begin to volumes mounted",
        "sync-begin",
        "volumes-mounted",
    ),
    (
        "volumes mounted to RunPodSandbox",
        "volumes-mounted",
        "sandbox-begin",
    ),
    (
        "RunPodSandbox to CNI (record, snapshot, namespace)",
        "sandbox-begin",
        "network-begin",
    ),
    ("CNI loopback", "loopback-begin", "loopback-end"),
    ("CNI network with IPAM", "network-begin", "network-end"),
    ("IPAM", "ipam-begin", "ipam-end"),
    ("CNI to shim (record)", "network-end", "shim-begin"),
    ("shim start", "shim-begin", "shim-end"),
    (
        "sandbox: runc create",
        "sandbox-create-begin",
        "sandbox-create-end",
    ),
    (
        "sandbox: runc start",
        "sandbox-start-begin",
        "sandbox-start-end",
    ),
    ("RunPodSandbox", "sandbox-begin", "sandbox-end"),
    (
        "RunPodSandbox to CreateContainer",
        "sandbox-end",
        "create-begin",
    ),
    ("CreateContainer", "create-begin", "create-end"),
    (
        "container: runc create",
        "container-create-begin",
        "container-create-end",
    ),
    (
        "container: runc start",
        "container-start-begin",
        "container-start-end",
    ),
    ("StartContainer", "start-begin", "start-end"),
    ("first sync", "sync-begin", "sync-end"),
    ("started to seen by PLEG", "start-end", "pleg-seen"),
    (
        "seen by PLEG to Running received",
        "pleg-seen",
        "running-received",
    ),
    ("Running: PATCH", "running-received", "running-answered"),
    ("asked for to Running (seen)", "", "running-seen"),
];
pub(crate) const DURATION_COLUMNS: [&str; 6] =
    ["phase", "pods", "ms-p10", "ms-p50", "ms-p90", "ms-max"];

/// All Pods of a round.
pub(crate) struct Pods(BTreeMap<String, BTreeMap<&'static str, Micros>>);

impl Pods {
    pub(crate) fn new(seen: &Sightings) -> Self {
        let micros = |time: std::time::Duration| time.as_micros() as Micros;
        let of = |sighting: &crate::rounds::Sighting| {
            let mut phases = BTreeMap::from([("created-seen", micros(sighting.created))]);
            phases.extend(sighting.running.map(|at| ("running-seen", micros(at))));
            phases
        };
        Self(
            seen.pods
                .iter()
                .map(|(pod, seen)| (pod.clone(), of(seen)))
                .collect(),
        )
    }

    /// Of a phase that comes again, the last counts; Pods of other rounds are left out.
    pub(crate) fn add(&mut self, found: Vec<Found>) {
        for found in found {
            if let Some(pod) = self.0.get_mut(&found.pod) {
                pod.insert(found.column, found.value);
            }
        }
    }

    pub(crate) fn columns(&self) -> Vec<&'static str> {
        let some = |column: &&&str| self.0.values().any(|pod| pod.contains_key(**column));
        let names = COLUMNS.iter().chain(&PROCESSOR).filter(some).copied();
        std::iter::once("pod").chain(names).collect()
    }

    /// By when each was seen Running.
    pub(crate) fn names(&self) -> Vec<&String> {
        let mut names: Vec<_> = self.0.keys().collect();
        names.sort_by_key(|name| (self.0[*name].get("running-seen").copied(), *name));
        names
    }

    /// A row for each of [`Self::names`].
    pub(crate) fn rows(&self) -> Vec<Vec<Value>> {
        let columns = self.columns();
        let row = |name: &String| {
            let phases = &self.0[name];
            let cell = |column: &&str| phases.get(*column).copied().map(milliseconds);
            let cells = columns[1..].iter().map(|column| json!(cell(column)));
            std::iter::once(json!(name)).chain(cells).collect()
        };
        self.names().into_iter().map(row).collect()
    }

    /// A row for each of [`DURATIONS`].
    pub(crate) fn durations(&self) -> Vec<Vec<Value>> {
        let row = |(name, from, to): (&str, &str, &str)| {
            let took = |pod: &BTreeMap<&str, Micros>| {
                let from = if from.is_empty() { 0 } else { *pod.get(from)? };
                Some(pod.get(to)? - from)
            };
            let mut took: Vec<_> = self.0.values().filter_map(took).collect();
            took.sort_unstable();
            let at = |percent| rank(&took, percent);
            vec![
                json!(name),
                json!(took.len()),
                at(10),
                at(50),
                at(90),
                at(100),
            ]
        };
        DURATIONS.into_iter().map(row).collect()
    }
}

/// The first Pod that lacks a phase, or passed two in the wrong order.
pub(crate) fn disorder(pods: &Pods) -> Option<String> {
    for (pod, phases) in &pods.0 {
        let mut last = ("", Micros::MIN);
        for column in ORDER {
            let Some(at) = phases.get(column).copied() else {
                return Some(format!("{pod} has no {column}: {phases:?}"));
            };
            if at.saturating_add(LATE_LOG) < last.1 {
                return Some(format!(
                    "{pod}: {column} at {at}, before {last:?}: {phases:?}"
                ));
            }
            last = (column, at);
        }
    }
    None
}

#[cfg(test)]
fn whole() -> Pods {
    let phases = ORDER
        .iter()
        .zip(0..)
        .map(|(column, at)| (*column, at * 1_000_000));
    Pods(BTreeMap::from([("a".to_owned(), phases.collect())]))
}

#[test]
fn a_pod_with_every_phase_in_order_is_whole() {
    assert_eq!(disorder(&whole()), None);
    let ipam = &whole().durations()[11];
    let one_second = json!(1000.0);
    assert_eq!(ipam[..3], [json!("IPAM"), json!(1), one_second]);
}

#[test]
fn a_pod_without_a_phase_is_not() {
    let mut pods = whole();
    pods.0.values_mut().next().unwrap().remove("pleg-seen");
    let disorder = disorder(&pods).unwrap();
    assert!(disorder.starts_with("a has no pleg-seen"), "{disorder}");
}

#[test]
fn a_pod_whose_shim_started_before_its_network_is_not() {
    let mut pods = whole();
    pods.add(vec![
        Found::new("a", "shim-begin", 1),
        Found::new("b", "shim-begin", 1),
    ]);
    let disorder = disorder(&pods).unwrap();
    assert!(disorder.starts_with("a: shim-begin at 1"), "{disorder}");
}
