//! The garbage collector of kube-controller-manager, as far as it concerns Spiderpool: it deletes
//! endpoints whose Pod is gone. The finalizer keeps such an endpoint until its addresses are
//! released.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use crate::ids::PodUid;
use crate::objects::Pod;
use crate::process::{CallError, NewProcess, Port};
use crate::request::{Answer, Consistency, Custom, Request};

use super::endpoint::{ENDPOINTS, Endpoint, endpoint_name};
use super::informer::follow;
use super::memory::Informer;
use super::process::{Bucket, Life};

/// Pause before the collector tries an object again: its queue backs off from milliseconds on.
const COLLECT_AGAIN: Duration = Duration::from_secs(1);

/// A collector that runs.
#[derive(Clone)]
pub(super) struct Collector {
    pub(super) life: Rc<Life>,
    /// Endpoints that it works on.
    collecting: Rc<RefCell<BTreeSet<Rc<str>>>>,
}

/// An endpoint that is worked on.
struct Collecting {
    collector: Collector,
    name: Rc<str>,
}

impl Drop for Collecting {
    fn drop(&mut self) {
        let known = self.collector.collecting.borrow_mut().remove(&self.name);
        debug_assert!(known, "what is worked on is known");
    }
}

impl Collector {
    pub(super) fn new(life: Rc<Life>) -> Self {
        let collecting = Rc::default();
        Self { life, collecting }
    }

    /// Its start.
    pub(super) async fn boot(self, port: Port) {
        let informers = [Informer::Pods, Informer::Endpoints];
        for informer in informers {
            port.spawn(follow(&self.life, informer));
        }
        for informer in informers {
            self.life.followed(informer).synced(&port).await;
        }
        self.life.serve();
    }

    /// A Pod is gone: so is the owner of its endpoint.
    pub(super) fn of_pod(&self, pod: &Pod) -> Option<NewProcess> {
        let name = endpoint_name(&pod.namespace, &pod.name);
        let stored = self.life.known.borrow().endpoints.get(&name).cloned()?;
        let endpoint = Endpoint::decode(&stored);
        let owned = endpoint.pod == pod.uid && !endpoint.fixed && !stored.deleting;
        owned.then(|| self.collect(name, pod.uid)).flatten()
    }

    /// An endpoint appeared or changed: its owner may be gone already.
    pub(super) fn of_orphan(&self, object: &Custom) -> Option<NewProcess> {
        let endpoint = Endpoint::decode(object);
        let orphan = self.life.known.borrow().pods.get(endpoint.pod).is_none();
        let ours = orphan && !endpoint.fixed && !object.deleting;
        ours.then(|| self.collect(object.name.clone(), endpoint.pod))
            .flatten()
    }

    /// Works on an endpoint whose owner seems gone, unless it does so already.
    fn collect(&self, name: Rc<str>, pod: PodUid) -> Option<NewProcess> {
        if !self.collecting.borrow_mut().insert(name.clone()) {
            return None;
        }
        let collector = self.clone();
        let collecting = Collecting { collector, name };
        Some(self.life.script(None, move |port| async move {
            while collecting.delete(&port, pod).await.is_err() {
                port.sleep(COLLECT_AGAIN).await;
            }
        }))
    }
}

impl Collecting {
    /// Deletes the endpoint, if it still is as it seemed and the Pod is not there.
    /// Errors: a call that failed; what is not there is as good as deleted.
    async fn delete(&self, port: &Port, pod: PodUid) -> Result<(), CallError> {
        let consistency = Consistency::Quorum;
        let name = self.name.clone();
        let read = Request::Get {
            kind: ENDPOINTS,
            name: name.clone(),
            consistency,
        };
        match self.ask(port, read).await? {
            Some(Answer::Custom(object))
                if Endpoint::decode(&object).pod == pod && !object.deleting => {}
            _ => return Ok(()),
        }
        let (namespace, pod_name) = name.split_once('/').expect("namespace/name");
        let read = Request::GetPod {
            namespace: namespace.into(),
            name: pod_name.into(),
            consistency,
        };
        match self.ask(port, read).await? {
            Some(Answer::Pod(found)) if found.uid == pod => return Ok(()),
            _ => {}
        }
        let delete = Request::Delete {
            kind: ENDPOINTS,
            name,
            uid: None,
            resource_version: None,
        };
        self.ask(port, delete).await.map(drop)
    }

    /// Makes a call; `None` when the object is not there.
    async fn ask(&self, port: &Port, request: Request) -> Result<Option<Answer>, CallError> {
        let life = &self.collector.life;
        match life.ask(port, Bucket::EndpointRead, request).await {
            Err(error) if error.is_not_found() => Ok(None),
            answer => answer.map(Some),
        }
    }
}
