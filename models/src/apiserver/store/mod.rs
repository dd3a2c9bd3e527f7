//! What etcd holds, with one revision for the whole store, and the rules under which the apiserver
//! changes it. It knows no clients, and of time only the instant that it is given.
//!
//! Modeled: optimistic concurrency (409 on resourceVersion or UID, AlreadyExists, 404, 422),
//! graceful deletion of Pods, finalizers, the status apart, writes that change nothing, the size
//! limit, a bounded history from which older states are read and watches are replayed. Not
//! modeled: field ownership, validation of bodies, Events and workload objects as data (they are
//! paid for and counted), one window per resource (here all kinds share one).
//!
//! Source: kubernetes v1.26.5 apiserver/pkg/registry/generic/registry/store.go:568-691,
//! apiserver/pkg/storage/etcd3/store.go:202-216,389-525, pkg/registry/core/pod/strategy.go:148-208,
//! apiserver/pkg/storage/cacher/watch_cache.go:52-63.

mod pods;
mod refusals;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use self::pods::merged;
use crate::ids::{NodeIndex, PodUid};
use crate::objects::{Pod, ResourceVersion, WorkloadObject};
use crate::observation::Observation;
use crate::parameters::MASTERS_MAX;
use crate::request::{
    Answer, Custom, CustomKind, Part, Request, Response, Selector, WorkloadWrite, matches,
};

/// Most apiservers that a cluster has here; the history holds one instant for each.
pub(super) const SERVERS_MAX: usize = MASTERS_MAX as usize;

/// An object in one of its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// A Pod.
    Pod(Rc<Pod>),
    /// A custom object.
    Custom(Rc<Custom>),
}

impl Stored {
    fn resource_version(&self) -> ResourceVersion {
        match self {
            Stored::Pod(pod) => pod.resource_version,
            Stored::Custom(object) => object.resource_version,
        }
    }
}

/// One revision: what an object was before and after it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The revision itself.
    pub revision: ResourceVersion,
    /// When it was committed.
    pub at: SimInstant,
    /// The object before; `None` = it was created.
    pub before: Option<Stored>,
    /// The object after; `None` = it was removed.
    pub after: Option<Stored>,
    /// When each apiserver's watch cache has it.
    pub visible: [SimInstant; SERVERS_MAX],
}

/// Limits that the store keeps.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Revisions younger than this stay in the history.
    pub history_age: Duration,
    /// At least this many stay, however old.
    pub history_min: usize,
    /// At most this many stay.
    pub history_max: usize,
    /// Largest object.
    pub body_bytes_max: usize,
}

/// Name of an object over all kinds: resource, namespace, name.
type Key = (&'static str, Rc<str>, Rc<str>);

/// The store.
#[derive(Debug)]
pub struct Store {
    limits: Limits,
    revision: ResourceVersion,
    pods: Vec<Option<Rc<Pod>>>,
    names: BTreeMap<(Rc<str>, Rc<str>), PodUid>,
    by_node: BTreeMap<Rc<str>, BTreeSet<PodUid>>,
    alive: BTreeSet<PodUid>,
    customs: BTreeMap<&'static str, BTreeMap<Rc<str>, Rc<Custom>>>,
    workloads: BTreeSet<WorkloadObject>,
    next_custom_uid: u32,
    history: VecDeque<Entry>,
    /// Revision of the first entry of the history.
    first: ResourceVersion,
    /// The revision at which the last object of a name was removed.
    graves: BTreeMap<Key, ResourceVersion>,
    no_namespace: Rc<str>,
}

impl Store {
    /// An empty store at revision 1.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            revision: 1,
            pods: Vec::new(),
            names: BTreeMap::new(),
            by_node: BTreeMap::new(),
            alive: BTreeSet::new(),
            customs: BTreeMap::new(),
            workloads: BTreeSet::new(),
            next_custom_uid: 1,
            history: VecDeque::new(),
            first: 2,
            graves: BTreeMap::new(),
            no_namespace: Rc::from(""),
        }
    }

    /// The latest revision.
    pub fn revision(&self) -> ResourceVersion {
        self.revision
    }

    /// Revision of the oldest entry in the history; one above the latest if it is empty.
    pub fn first(&self) -> ResourceVersion {
        self.first
    }

    /// The entry of a revision, if the history still has it.
    pub fn entry(&self, revision: ResourceVersion) -> Option<&Entry> {
        self.history
            .get(usize::try_from(revision.checked_sub(self.first)?).ok()?)
    }

    /// Sets when the apiservers have the latest revision.
    pub fn set_visible(&mut self, visible: [SimInstant; SERVERS_MAX]) {
        if let Some(last) = self.history.back_mut() {
            last.visible = visible;
        }
    }

    /// The latest revision that an apiserver's cache has.
    pub fn visible_revision(&self, server: usize, now: SimInstant) -> ResourceVersion {
        let seen = self
            .history
            .partition_point(|entry| entry.visible[server] <= now);
        self.first - 1 + seen as ResourceVersion
    }

    /// A Pod as stored now.
    pub fn pod(&self, pod: PodUid) -> Option<&Rc<Pod>> {
        self.pods.get(pod.index())?.as_ref()
    }

    /// Every stored Pod, by UID.
    pub fn pods(&self) -> impl Iterator<Item = &Rc<Pod>> {
        self.alive.iter().filter_map(|pod| self.pod(*pod))
    }

    /// Number of stored Pods.
    pub fn pod_count(&self) -> usize {
        self.alive.len()
    }

    /// Number of custom objects of a kind.
    pub fn custom_count(&self, kind: CustomKind) -> usize {
        self.customs.get(kind.resource).map_or(0, BTreeMap::len)
    }

    /// A custom object as stored now.
    pub fn custom(&self, kind: CustomKind, name: &str) -> Option<&Rc<Custom>> {
        self.customs.get(kind.resource)?.get(name)
    }

    /// A Pod by name at a revision.
    pub fn pod_at(
        &self,
        namespace: &Rc<str>,
        name: &Rc<str>,
        at: ResourceVersion,
    ) -> Option<Rc<Pod>> {
        let newest = self
            .names
            .get(&(namespace.clone(), name.clone()))
            .and_then(|uid| self.pod(*uid));
        match self.version_at(
            newest.cloned().map(Stored::Pod),
            "pods",
            namespace,
            name,
            at,
        )? {
            Stored::Pod(pod) => Some(pod),
            Stored::Custom(_) => None,
        }
    }

    /// Pods at a revision, optionally of one node. Shape: by UID.
    pub fn pods_at(&self, node_name: Option<&Rc<str>>, at: ResourceVersion) -> Vec<Rc<Pod>> {
        if at >= self.revision {
            return match node_name {
                None => self.pods().cloned().collect(),
                Some(node) => self
                    .by_node
                    .get(node)
                    .into_iter()
                    .flatten()
                    .filter_map(|uid| self.pod(*uid).cloned())
                    .collect(),
            };
        }
        let mut found: BTreeMap<PodUid, Rc<Pod>> = BTreeMap::new();
        let mut keep = |version: Option<Stored>| {
            if let Some(Stored::Pod(pod)) = version
                && node_name.is_none_or(|node| pod.node_name.as_ref() == Some(node))
            {
                found.insert(pod.uid, pod);
            }
        };
        for pod in self.pods() {
            keep(self.walk_back(Stored::Pod(pod.clone()), at));
        }
        for ((resource, _, _), revision) in &self.graves {
            if *resource == "pods" && *revision > at {
                keep(self.dug_up(*revision, at));
            }
        }
        found.into_values().collect()
    }

    /// A custom object at a revision.
    pub fn custom_at(
        &self,
        kind: CustomKind,
        name: &Rc<str>,
        at: ResourceVersion,
    ) -> Option<Rc<Custom>> {
        let newest = self.custom(kind, name).cloned().map(Stored::Custom);
        match self.version_at(newest, kind.resource, &self.no_namespace, name, at)? {
            Stored::Custom(object) => Some(object),
            Stored::Pod(_) => None,
        }
    }

    /// Custom objects at a revision. Shape: by name.
    pub fn customs_at(
        &self,
        kind: CustomKind,
        selectors: &[Selector],
        at: ResourceVersion,
    ) -> Vec<Rc<Custom>> {
        let current = self.customs.get(kind.resource);
        let chosen = |object: &Rc<Custom>| matches(selectors, object);
        if at >= self.revision {
            return current
                .into_iter()
                .flat_map(BTreeMap::values)
                .filter(|object| chosen(object))
                .cloned()
                .collect();
        }
        let mut found: BTreeMap<Rc<str>, Rc<Custom>> = BTreeMap::new();
        for ((resource, _, _), revision) in &self.graves {
            if *resource == kind.resource
                && *revision > at
                && let Some(Stored::Custom(object)) = self.dug_up(*revision, at)
            {
                found.insert(object.name.clone(), object);
            }
        }
        for object in current.into_iter().flat_map(BTreeMap::values) {
            if let Some(Stored::Custom(object)) = self.walk_back(Stored::Custom(object.clone()), at)
            {
                found.insert(object.name.clone(), object);
            }
        }
        found.into_values().filter(chosen).collect()
    }

    fn version_at(
        &self,
        newest: Option<Stored>,
        resource: &'static str,
        namespace: &Rc<str>,
        name: &Rc<str>,
        at: ResourceVersion,
    ) -> Option<Stored> {
        if let Some(found) = newest.and_then(|newest| self.walk_back(newest, at)) {
            return Some(found);
        }
        if at >= self.revision {
            return None;
        }
        let grave = *self
            .graves
            .get(&(resource, namespace.clone(), name.clone()))?;
        if grave > at {
            self.dug_up(grave, at)
        } else {
            None
        }
    }

    /// The version of a removed object that was valid at a revision before its removal.
    fn dug_up(&self, grave: ResourceVersion, at: ResourceVersion) -> Option<Stored> {
        self.walk_back(self.entry(grave)?.before.clone()?, at)
    }

    /// The version of an object that was valid at a revision; the oldest known one if the history
    /// does not reach back that far.
    fn walk_back(&self, mut version: Stored, at: ResourceVersion) -> Option<Stored> {
        while version.resource_version() > at {
            match self.entry(version.resource_version()) {
                Some(entry) => version = entry.before.clone()?,
                None => return Some(version),
            }
        }
        Some(version)
    }

    /// Carries out a write. The answer holds the object as stored after it.
    /// Errors: see [`Store::check`]; nothing is changed then.
    pub fn write(
        &mut self,
        request: &Request,
        now: SimInstant,
        nodes: &BTreeMap<Rc<str>, NodeIndex>,
        observed: &mut Vec<Observation>,
    ) -> Response {
        self.check(request)?;
        match request {
            Request::CreatePod(new) => Ok(Answer::Pod(self.create_pod(new, now, nodes, observed))),
            Request::BindPod { pod, node_name } => Ok(Answer::Pod(
                self.bind_pod(*pod, node_name, now, nodes, observed),
            )),
            Request::PatchPodStatus { pod, status } => {
                Ok(Answer::Pod(self.patch_status(*pod, status, now, observed)))
            }
            Request::PutNetworkStatus { pod, .. } => {
                let mut annotated = self.copy_of(*pod);
                annotated.network_status = true;
                Ok(Answer::Pod(self.put_pod(annotated, now)))
            }
            Request::PatchPodAnnotations {
                namespace,
                name,
                annotations,
            } => {
                let pod = self.named_pod(namespace, name)?;
                let Some(annotations) = merged(&pod.annotations, annotations) else {
                    return Ok(Answer::Pod(pod.clone()));
                };
                let mut pod = Pod::clone(pod);
                pod.annotations = annotations;
                Ok(Answer::Pod(self.put_pod(pod, now)))
            }
            Request::AnnotatePod {
                pod, annotations, ..
            } => Ok(Answer::Pod(self.annotate(*pod, annotations, now))),
            Request::DeletePod { pod, grace } => {
                Ok(Answer::Pod(self.delete_pod(*pod, *grace, now, observed)))
            }
            Request::WriteWorkload { object, write } => {
                if *write == WorkloadWrite::Create {
                    self.workloads.insert(*object);
                }
                Ok(Answer::Done)
            }
            Request::Create(object) => Ok(Answer::Custom(self.create(object, now, observed))),
            Request::Replace { object, part } => {
                Ok(Answer::Custom(self.replace(object, *part, now, observed)))
            }
            Request::JsonPatch { object } | Request::MergePatch { object } => Ok(Answer::Custom(
                self.replace(object, Part::Main, now, observed),
            )),
            Request::Delete { kind, name, .. } => {
                Ok(Answer::Custom(self.delete(*kind, name, now, observed)))
            }
            _ => Ok(Answer::Done),
        }
    }

    fn create(
        &mut self,
        object: &Custom,
        now: SimInstant,
        observed: &mut Vec<Observation>,
    ) -> Rc<Custom> {
        let mut stored = object.clone();
        stored.uid = self.next_custom_uid;
        stored.deleting = false;
        stored.status = stored.status.map(|_| Rc::from("{}"));
        self.next_custom_uid += 1;
        self.put_custom(stored, now, observed)
    }

    fn replace(
        &mut self,
        object: &Custom,
        part: Part,
        now: SimInstant,
        observed: &mut Vec<Observation>,
    ) -> Rc<Custom> {
        let stored = self
            .custom(object.kind, &object.name)
            .cloned()
            .expect("checked: the object is stored");
        let mut next = match part {
            Part::Main => Custom {
                status: stored.status.clone(),
                ..object.clone()
            },
            Part::Status => Custom {
                status: object.status.clone(),
                ..Custom::clone(&stored)
            },
        };
        next.uid = stored.uid;
        next.deleting = stored.deleting;
        next.resource_version = stored.resource_version;
        if next == *stored {
            return stored;
        }
        if next.deleting && next.finalizers.is_empty() {
            return self.remove_custom(&stored, now, observed);
        }
        self.put_custom(next, now, observed)
    }

    fn delete(
        &mut self,
        kind: CustomKind,
        name: &Rc<str>,
        now: SimInstant,
        observed: &mut Vec<Observation>,
    ) -> Rc<Custom> {
        let stored = self
            .custom(kind, name)
            .cloned()
            .expect("checked: the object is stored");
        if stored.finalizers.is_empty() {
            return self.remove_custom(&stored, now, observed);
        }
        if stored.deleting {
            return stored;
        }
        let mut marked = Custom::clone(&stored);
        marked.deleting = true;
        self.put_custom(marked, now, observed)
    }

    fn put_custom(
        &mut self,
        mut object: Custom,
        now: SimInstant,
        observed: &mut Vec<Observation>,
    ) -> Rc<Custom> {
        self.revision += 1;
        object.resource_version = self.revision;
        let object = Rc::new(object);
        let kind = self.customs.entry(object.kind.resource).or_default();
        let before = kind
            .insert(object.name.clone(), object.clone())
            .map(Stored::Custom);
        self.remember(now, before, Some(Stored::Custom(object.clone())));
        observed.push(Observation::CustomStored {
            object: object.clone(),
        });
        object
    }

    fn remove_custom(
        &mut self,
        stored: &Rc<Custom>,
        now: SimInstant,
        observed: &mut Vec<Observation>,
    ) -> Rc<Custom> {
        let resource = stored.kind.resource;
        if let Some(kind) = self.customs.get_mut(resource) {
            kind.remove(&stored.name);
        }
        self.revision += 1;
        self.graves.insert(
            (resource, self.no_namespace.clone(), stored.name.clone()),
            self.revision,
        );
        self.remember(now, Some(Stored::Custom(stored.clone())), None);
        observed.push(Observation::CustomGone {
            object: stored.clone(),
        });
        stored.clone()
    }

    fn remember(&mut self, at: SimInstant, before: Option<Stored>, after: Option<Stored>) {
        self.history.push_back(Entry {
            revision: self.revision,
            at,
            before,
            after,
            visible: [at; SERVERS_MAX],
        });
        while self.history.len() > self.limits.history_min {
            let oldest = self
                .history
                .front()
                .expect("the history is longer than its minimum");
            let young = at.saturating_since(oldest.at) < self.limits.history_age;
            if young && self.history.len() <= self.limits.history_max {
                break;
            }
            self.forget_oldest();
        }
    }

    /// Forgets every state before the current one.
    pub fn compact(&mut self) {
        while !self.history.is_empty() {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(entry) = self.history.pop_front() else {
            return;
        };
        let revision = self.first;
        self.first += 1;
        if entry.after.is_some() {
            return;
        }
        let key: Option<Key> = entry.before.map(|before| match before {
            Stored::Pod(pod) => ("pods", pod.namespace.clone(), pod.name.clone()),
            Stored::Custom(object) => (
                object.kind.resource,
                self.no_namespace.clone(),
                object.name.clone(),
            ),
        });
        if let Some(key) = key
            && self.graves.get(&key) == Some(&revision)
        {
            self.graves.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests;
