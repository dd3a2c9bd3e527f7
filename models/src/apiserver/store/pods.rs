//! Writes of Pods: creation, binding and status, annotations, graceful deletion.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use super::{Store, Stored};
use crate::ids::{NodeIndex, PodUid};
use crate::objects::{Phase, Pod, PodStatus};
use crate::observation::Observation;
use crate::request::NewPod;

impl Store {
    pub(super) fn create_pod(
        &mut self,
        new: &NewPod,
        now: SimInstant,
        nodes: &BTreeMap<Rc<str>, NodeIndex>,
        observed: &mut Vec<Observation>,
    ) -> Rc<Pod> {
        let uid = PodUid(self.pods.len() as u32);
        self.pods.push(None);
        self.alive.insert(uid);
        self.names
            .insert((new.namespace.clone(), new.name.clone()), uid);
        observed.push(Observation::PodCreated { pod: uid });
        if let Some(node_name) = &new.spec.node_name {
            self.note_bound(uid, node_name, nodes, observed);
        }
        let pod = Pod {
            namespace: new.namespace.clone(),
            name: new.name.clone(),
            uid,
            entity: new.entity,
            resource_version: 0,
            labels: new.labels.clone(),
            annotations: new.annotations.clone(),
            network_status: false,
            owner: new.owner.clone(),
            deletion: None,
            spec: new.spec.clone(),
            node_name: new.spec.node_name.clone(),
            status: PodStatus {
                phase: Phase::Pending,
                ready: false,
                seen_by_kubelet: false,
                pod_ips: Vec::new(),
            },
        };
        self.put_pod(pod, now)
    }

    pub(super) fn bind_pod(
        &mut self,
        uid: PodUid,
        node_name: &Rc<str>,
        now: SimInstant,
        nodes: &BTreeMap<Rc<str>, NodeIndex>,
        observed: &mut Vec<Observation>,
    ) -> Rc<Pod> {
        let mut bound = self.copy_of(uid);
        bound.node_name = Some(node_name.clone());
        self.note_bound(uid, node_name, nodes, observed);
        self.put_pod(bound, now)
    }

    fn note_bound(
        &mut self,
        uid: PodUid,
        node_name: &Rc<str>,
        nodes: &BTreeMap<Rc<str>, NodeIndex>,
        observed: &mut Vec<Observation>,
    ) {
        let on_node = self.by_node.entry(node_name.clone()).or_default();
        on_node.insert(uid);
        let node = nodes.get(node_name).copied();
        observed.push(Observation::PodBound { pod: uid, node });
    }

    pub(super) fn annotate(
        &mut self,
        uid: PodUid,
        annotations: &[(Rc<str>, Rc<str>)],
        now: SimInstant,
    ) -> Rc<Pod> {
        let mut pod = self.copy_of(uid);
        let mut merged: BTreeMap<Rc<str>, Rc<str>> = pod.annotations.iter().cloned().collect();
        merged.extend(annotations.iter().cloned());
        let merged: Rc<[(Rc<str>, Rc<str>)]> = merged.into_iter().collect();
        if merged == pod.annotations {
            return self.pods[uid.index()]
                .clone()
                .expect("checked: the Pod is stored");
        }
        pod.annotations = merged;
        self.put_pod(pod, now)
    }

    pub(super) fn patch_status(
        &mut self,
        uid: PodUid,
        status: &PodStatus,
        now: SimInstant,
        observed: &mut Vec<Observation>,
    ) -> Rc<Pod> {
        let before = self.pods[uid.index()]
            .clone()
            .expect("checked: the Pod is stored");
        if before.status == *status {
            return before;
        }
        if status.phase == Phase::Running && before.status.phase != Phase::Running {
            observed.push(Observation::PodRunning { pod: uid });
        }
        let mut pod = Pod::clone(&before);
        pod.status = status.clone();
        if pod.is_terminal() && !before.is_terminal() {
            observed.push(Observation::PodTerminal { pod: uid });
        }
        self.put_pod(pod, now)
    }

    pub(super) fn delete_pod(
        &mut self,
        uid: PodUid,
        grace: Option<Duration>,
        now: SimInstant,
        observed: &mut Vec<Observation>,
    ) -> Rc<Pod> {
        let pod = self.pods[uid.index()]
            .clone()
            .expect("checked: the Pod is stored");
        let mut grace = grace.unwrap_or(pod.spec.grace);
        if pod.node_name.is_none() || pod.is_terminal() {
            grace = Duration::ZERO;
        }
        if grace.is_zero() {
            if pod.deletion.is_none() {
                observed.push(Observation::PodDeleting { pod: uid });
            }
            observed.push(Observation::PodGone { pod: uid });
            return self.remove_pod(uid, now);
        }
        // A further DELETE can only shorten the grace period.
        if pod.deletion.is_some_and(|(_, granted)| granted <= grace) {
            return pod;
        }
        let mut dying = Pod::clone(&pod);
        if dying.deletion.is_none() {
            observed.push(Observation::PodDeleting { pod: uid });
        }
        dying.deletion = Some((now, grace));
        self.put_pod(dying, now)
    }

    pub(super) fn copy_of(&self, uid: PodUid) -> Pod {
        Pod::clone(self.pod(uid).expect("checked: the Pod is stored"))
    }

    pub(super) fn put_pod(&mut self, mut pod: Pod, now: SimInstant) -> Rc<Pod> {
        let before = self.pods[pod.uid.index()].take().map(Stored::Pod);
        self.revision += 1;
        pod.resource_version = self.revision;
        let pod = Rc::new(pod);
        self.pods[pod.uid.index()] = Some(pod.clone());
        self.remember(now, before, Some(Stored::Pod(pod.clone())));
        pod
    }

    pub(super) fn remove_pod(&mut self, uid: PodUid, now: SimInstant) -> Rc<Pod> {
        let pod = self.pods[uid.index()]
            .take()
            .expect("checked: the Pod is stored");
        self.alive.remove(&uid);
        self.names
            .remove(&(pod.namespace.clone(), pod.name.clone()));
        if let Some(node) = &pod.node_name
            && let Some(pods) = self.by_node.get_mut(node)
        {
            pods.remove(&uid);
        }
        self.revision += 1;
        self.graves.insert(
            ("pods", pod.namespace.clone(), pod.name.clone()),
            self.revision,
        );
        self.remember(now, Some(Stored::Pod(pod.clone())), None);
        pod
    }
}

/// Annotations, sorted.
type Annotations = Rc<[(Rc<str>, Rc<str>)]>;

/// Annotations after a merge patch; `None` = as before.
pub(super) fn merged(
    before: &Annotations,
    patch: &[(Rc<str>, Option<Rc<str>>)],
) -> Option<Annotations> {
    let mut after: BTreeMap<Rc<str>, Rc<str>> = before.iter().cloned().collect();
    for (key, value) in patch {
        match value {
            Some(value) => after.insert(key.clone(), value.clone()),
            None => after.remove(key),
        };
    }
    let after: Annotations = after.into_iter().collect();
    (after != *before).then_some(after)
}
