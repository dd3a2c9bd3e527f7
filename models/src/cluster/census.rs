//! Counts of Pods, kept up to date by observation; constant work per fact.

use std::collections::BTreeMap;

use crate::apiserver::ApiServers;
use crate::ids::PodUid;
use crate::objects::OwnerKind;
use crate::observation::Observation;

/// Rounds that a waiting Pod fails, with no Pod beginning to run between them, before nothing more
/// is expected of it.
const HOPELESS_ROUNDS: u8 = 3;

#[derive(Clone, Copy, Debug, Default)]
struct State {
    running: bool,
    deleting: bool,
    over: bool,
    /// Failed rounds in all.
    failures: u8,
    /// Failed rounds since `since` Pods had begun to run.
    in_vain: u8,
    since: u64,
}

impl State {
    fn waits(self) -> bool {
        !self.running && !self.deleting && !self.over
    }
}

/// A Pod that exists and does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingPod {
    /// Pod.
    pub pod: PodUid,
    /// `namespace/name`.
    pub name: String,
    /// Node it is bound to.
    pub node_name: Option<String>,
    /// Why it waits, as far as is known.
    pub reason: String,
    /// Sandboxes that could not be made for it.
    pub failures: u32,
}

/// Counts of Pods.
#[derive(Clone, Debug)]
pub struct Census {
    wanted: u64,
    pods: Vec<State>,
    reasons: BTreeMap<PodUid, &'static str>,
    waiting: u64,
    running: u64,
    deleting: u64,
    hopeless: u64,
    succeeded: u64,
    /// Pods that ever began to run: progress, which gives everybody hope again.
    began: u64,
    changed: bool,
}

impl Census {
    /// No Pod yet, and this many wanted.
    pub fn new(wanted: u64) -> Self {
        Self {
            wanted,
            pods: Vec::new(),
            reasons: BTreeMap::new(),
            waiting: 0,
            running: 0,
            deleting: 0,
            hopeless: 0,
            succeeded: 0,
            began: 0,
            changed: false,
        }
    }

    /// Pods that the workload asks for.
    pub fn wanted(&self) -> u64 {
        self.wanted
    }

    /// Pods that run and are not being deleted, as the API shows it.
    pub fn running(&self) -> u64 {
        self.running
    }

    /// Pods of Jobs that succeeded.
    pub fn succeeded(&self) -> u64 {
        self.succeeded
    }

    /// Pods that exist, do not run, and are not being deleted.
    pub fn waiting_count(&self) -> u64 {
        self.waiting
    }

    /// Pods with a deletionTimestamp.
    pub fn deleting(&self) -> u64 {
        self.deleting
    }

    /// Pods ever created.
    pub fn created(&self) -> u64 {
        self.pods.len() as u64
    }

    pub(super) fn all_running(&self) -> bool {
        self.waiting == 0 && self.deleting == 0 && self.running + self.succeeded >= self.wanted
    }

    pub(super) fn hopeless(&self, unschedulable: u64) -> bool {
        self.waiting > 0 && self.deleting == 0 && self.hopeless + unschedulable >= self.waiting
    }

    /// Whether it is worth to look if the run has ended.
    pub(super) fn may_have_ended(&self) -> bool {
        self.changed
            && self.deleting == 0
            && (self.waiting == 0
                || self.hopeless > 0
                || self.running + self.waiting >= self.wanted)
    }

    pub(super) fn observe(&mut self, observation: &Observation, api: &ApiServers) {
        let (pod, change): (PodUid, fn(&mut State, u64)) = match observation {
            Observation::PodCreated { pod } => (*pod, |_, _| {}),
            Observation::PodDeleting { pod } => (*pod, |state, _| state.deleting = true),
            Observation::PodGone { pod } => (*pod, |state, _| state.over = true),
            Observation::PodRunning { pod } => {
                self.began += 1;
                self.hopeless = 0;
                (*pod, |state, _| state.running = true)
            }
            Observation::PodTerminal { pod } => {
                let of_job = api.pod(*pod).is_some_and(|stored| {
                    stored.status.phase == crate::objects::Phase::Succeeded
                        && stored
                            .owner
                            .as_ref()
                            .is_some_and(|owner| owner.kind == OwnerKind::Job)
                });
                self.succeeded += u64::from(of_job);
                (*pod, |state, _| state.over = true)
            }
            Observation::SandboxFailed { pod, reason, .. } => {
                self.reasons.insert(*pod, reason);
                (*pod, |state, began| {
                    if state.since != began {
                        (state.since, state.in_vain) = (began, 0);
                    }
                    state.failures = state.failures.saturating_add(1);
                    state.in_vain = state.in_vain.saturating_add(1);
                })
            }
            _ => return,
        };
        self.changed = true;
        let known = self.pods.len() > pod.index();
        if !known {
            self.pods.resize(pod.index() + 1, State::default());
        }
        let before = known.then(|| self.pods[pod.index()]);
        change(&mut self.pods[pod.index()], self.began);
        let after = self.pods[pod.index()];
        if let Some(before) = before {
            self.count(before, false);
        }
        self.count(after, true);
    }

    fn count(&mut self, state: State, add: bool) {
        let adjust = |counter: &mut u64, applies: bool| {
            if applies {
                *counter = if add { *counter + 1 } else { *counter - 1 };
            }
        };
        let waits = state.waits();
        adjust(&mut self.waiting, waits);
        adjust(
            &mut self.hopeless,
            waits && state.since == self.began && state.in_vain >= HOPELESS_ROUNDS,
        );
        adjust(
            &mut self.running,
            state.running && !state.deleting && !state.over,
        );
        adjust(&mut self.deleting, state.deleting && !state.over);
    }

    pub(super) fn waiting(
        &self,
        api: &ApiServers,
        unschedulable: &BTreeMap<PodUid, &str>,
    ) -> Vec<WaitingPod> {
        let waits = |pod: &PodUid| {
            self.pods
                .get(pod.index())
                .is_some_and(|state| state.waits())
        };
        api.pods()
            .filter(|pod| waits(&pod.uid))
            .map(|pod| {
                let reason = match (unschedulable.get(&pod.uid), self.reasons.get(&pod.uid)) {
                    (Some(reason), _) => (*reason).to_owned(),
                    (None, Some(reason)) => (*reason).to_owned(),
                    (None, None) if pod.node_name.is_none() => "not bound yet".to_owned(),
                    (None, None) => "being started".to_owned(),
                };
                WaitingPod {
                    pod: pod.uid,
                    name: format!("{}/{}", pod.namespace, pod.name),
                    node_name: pod.node_name.as_deref().map(str::to_owned),
                    reason,
                    failures: u32::from(self.pods[pod.uid.index()].failures),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use drydock_engine::stream::Streams;

    use super::{Census, HOPELESS_ROUNDS};
    use crate::apiserver::ApiServers;
    use crate::ids::{NodeIndex, PodUid};
    use crate::observation::Observation;
    use crate::parameters::Parameters;

    #[test]
    fn a_pod_that_begins_to_run_gives_the_others_hope_again() {
        let parameters = Parameters::profile("measured").unwrap();
        let api = ApiServers::new(&[NodeIndex(0)], &parameters, &Streams::new(1));
        let mut census = Census::new(3);
        let pods = [PodUid(0), PodUid(1), PodUid(2)];
        for pod in pods {
            census.observe(&Observation::PodCreated { pod }, &api);
        }
        let fail = |census: &mut Census, pod| {
            let failed = Observation::SandboxFailed {
                node: NodeIndex(0),
                pod,
                reason: "full",
            };
            for _ in 0..HOPELESS_ROUNDS {
                census.observe(&failed, &api);
            }
        };
        for pod in &pods[..2] {
            fail(&mut census, *pod);
        }
        census.observe(&Observation::PodRunning { pod: pods[2] }, &api);
        assert!(!census.hopeless(0), "one of them may be the next");
        fail(&mut census, pods[0]);
        assert!(!census.hopeless(0), "the other has not been tried since");
        fail(&mut census, pods[1]);
        assert!(census.hopeless(0));
        census.observe(&Observation::PodRunning { pod: pods[0] }, &api);
        assert!(!census.hopeless(0));
        fail(&mut census, pods[1]);
        assert!(census.hopeless(0));
    }
}
