//! What a process knows from its informers. It dies with the process; who reads it reads what was
//! delivered so far, which lags behind the store.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::ids::{PodUid, WatchId};
use crate::objects::{Pod, ResourceVersion};
use crate::process::{Port, ProcessId};
use crate::request::{ApiError, Custom};

use super::pools::PoolId;

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Informer {
    Pods,
    Endpoints,
    Pools,
}

impl Informer {
    pub(super) const ALL: [Informer; 3] = [Informer::Pods, Informer::Endpoints, Informer::Pools];
}

/// State of one informer.
#[derive(Default)]
pub(super) struct Followed {
    synced: Cell<bool>,
    pub(super) revision: Cell<ResourceVersion>,
    pub(super) watch: Cell<Option<WatchId>>,
    /// Why the watch ended, until its script has seen it.
    closed: Cell<Option<ApiError>>,
    script: Cell<Option<ProcessId>>,
    /// Who waits for the first list.
    waiting: RefCell<Vec<ProcessId>>,
}

impl Followed {
    /// A script follows from now on.
    pub(super) fn begin(&self, port: &Port) {
        let before = self.script.replace(Some(port.id));
        assert!(before.is_none(), "an informer has one script");
    }

    /// It has its first list.
    pub(super) fn is_synced(&self) -> bool {
        self.synced.get()
    }

    /// A list is in memory.
    pub(super) fn sync(&self, port: &Port) {
        self.synced.set(true);
        for waiting in self.waiting.take() {
            port.wake(waiting);
        }
    }

    /// Waits for the first list.
    pub(super) async fn synced(&self, port: &Port) {
        while !self.is_synced() {
            self.waiting.borrow_mut().push(port.id);
            port.park().await;
        }
    }

    /// The watch ended; the script to wake.
    pub(super) fn close(&self, error: ApiError) -> ProcessId {
        self.watch.set(None);
        let unseen = self.closed.replace(Some(error));
        assert!(unseen.is_none(), "one watch at a time ends");
        self.script.get().expect("who watches has a script")
    }

    /// Waits for the end of the watch.
    pub(super) async fn closed(&self, port: &Port) -> ApiError {
        loop {
            if let Some(error) = self.closed.take() {
                debug_assert!(self.watch.get().is_none(), "what ended is not open");
                return error;
            }
            port.park().await;
        }
    }
}

/// Pods as an informer knows them.
#[derive(Debug, Default)]
pub(super) struct KnownPods {
    by_uid: BTreeMap<PodUid, Rc<Pod>>,
    by_name: BTreeMap<(Rc<str>, Rc<str>), PodUid>,
}

impl KnownPods {
    pub(super) fn named(&self, namespace: &Rc<str>, name: &Rc<str>) -> Option<&Rc<Pod>> {
        let uid = self.by_name.get(&(namespace.clone(), name.clone()))?;
        self.by_uid.get(uid)
    }

    pub(super) fn get(&self, pod: PodUid) -> Option<&Rc<Pod>> {
        self.by_uid.get(&pod)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Rc<Pod>> {
        self.by_uid.values()
    }

    pub(super) fn put(&mut self, pod: Rc<Pod>) {
        let name = (pod.namespace.clone(), pod.name.clone());
        if let Some(old) = self.by_name.insert(name, pod.uid)
            && old != pod.uid
        {
            self.by_uid.remove(&old);
        }
        self.by_uid.insert(pod.uid, pod);
    }

    pub(super) fn remove(&mut self, pod: &Pod) {
        self.by_uid.remove(&pod.uid);
        let name = (pod.namespace.clone(), pod.name.clone());
        if self.by_name.get(&name) == Some(&pod.uid) {
            self.by_name.remove(&name);
        }
    }
}

/// What the informers of one process have delivered.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) pods: KnownPods,
    pub(super) endpoints: BTreeMap<Rc<str>, Rc<Custom>>,
    pub(super) pools: BTreeMap<PoolId, Rc<Custom>>,
}
