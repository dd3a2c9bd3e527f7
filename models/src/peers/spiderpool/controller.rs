//! spiderpool-controller, one replica: its lease, and the one status write of each pool after its
//! creation. What it reclaims is in [`super::gc`]. And, of kube-controller-manager, the garbage
//! collector, which deletes endpoints whose Pod is gone; the finalizer keeps such an endpoint until
//! its addresses are released.
//!
//! Not modelled: its move to another machine when its own does not come back; webhooks (no status write calls one), SpiderSubnets and automatic pools, which the
//! benchmark's report does not mention.
//! Source: spiderpool v0.8.0 `cmd/spiderpool-controller/cmd/config.go:79-82`,
//! `pkg/ippoolmanager/ippool_informer.go:311-337`; client-go v0.28.1
//! `tools/leaderelection/leaderelection.go`.

use std::rc::Rc;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::context::Context;
use crate::ids::PodUid;
use crate::objects::{Pod, ResourceVersion};
use crate::request::{Answer, ApiError, Consistency, Custom, CustomKind, Request, Response, Shape};

use super::endpoint::{ENDPOINTS, Endpoint};
use super::pools::PoolId;
use super::process::Bucket;
use super::{CONTROLLER, Spiderpool, Wait};

const LEASES: CustomKind = CustomKind {
    resource: "leases",
    shape: Shape::Flat,
};
const LEASE_NAME: &str = "kube-system/spiderpool-controller-leases";
/// Pause before a failed write of a pool's status is tried again (`config.go:102`).
const STATUS_RETRY: Duration = Duration::from_secs(5);
/// Pause before the collector tries an object again: its queue backs off from milliseconds on.
const COLLECT_AGAIN: Duration = Duration::from_secs(1);

/// What the controller knows of its lease.
#[derive(Debug, Default)]
pub(super) struct Lease {
    pub(super) leader: bool,
    renewed: SimInstant,
    seen: Option<(ResourceVersion, SimInstant)>,
}

/// What the collector does with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Collect {
    Endpoint,
    Pod,
    Delete,
    Again,
}

impl Spiderpool {
    pub(super) fn controller_started(&mut self, process: usize, context: &mut Context<'_>) {
        self.lease = Lease::default();
        let life = self.processes[process].life;
        self.lease_tick(life, context);
    }

    pub(super) fn controller_stopped(&mut self) {
        self.lease = Lease::default();
        self.gc_stopped();
    }

    /// Looks at the lease.
    pub(super) fn lease_tick(&mut self, life: u32, context: &mut Context<'_>) {
        let request = Request::Get {
            kind: LEASES,
            name: LEASE_NAME.into(),
            consistency: Consistency::Quorum,
        };
        let wait = Wait::LeaseRead { life };
        self.ask(CONTROLLER, Bucket::Lease, request, wait, context);
    }

    pub(super) fn lease_read(&mut self, life: u32, response: Response, context: &mut Context<'_>) {
        let now = context.now();
        let identity: Rc<str> = format!("controller-{life}").into();
        let mine = |uid, resource_version| Custom {
            kind: LEASES,
            name: LEASE_NAME.into(),
            uid,
            resource_version,
            labels: vec![("renewed".to_owned(), now.as_nanos().to_string())],
            finalizers: Vec::new(),
            deleting: false,
            annotations: Vec::new(),
            status: None,
            body: identity.clone(),
            record_count: 1,
        };
        let request = match response {
            Err(ApiError::NotFound) => Request::Create(Rc::new(mine(0, 0))),
            Ok(Answer::Custom(held)) => {
                let seen = self
                    .lease
                    .seen
                    .filter(|(rv, _)| *rv == held.resource_version);
                let (_, since) = *self
                    .lease
                    .seen
                    .insert(seen.unwrap_or((held.resource_version, now)));
                let over = now.saturating_since(since) > self.parameters.lease;
                if held.body != identity && !over {
                    return self.lease_later(life, context);
                }
                Request::Replace {
                    object: Rc::new(mine(held.uid, held.resource_version)),
                    part: crate::request::Part::Main,
                }
            }
            _ => return self.lease_later(life, context),
        };
        let wait = Wait::LeaseWritten { life };
        self.ask(CONTROLLER, Bucket::Lease, request, wait, context);
    }

    pub(super) fn lease_written(
        &mut self,
        life: u32,
        response: &Response,
        context: &mut Context<'_>,
    ) {
        if response.is_ok() {
            self.lease.renewed = context.now();
            if !std::mem::replace(&mut self.lease.leader, true) {
                self.elected(life, context);
            }
        }
        self.lease_later(life, context);
    }

    fn lease_later(&mut self, life: u32, context: &mut Context<'_>) {
        let parameters = &self.parameters;
        let retry = parameters.lease_retry;
        let silent = context.now().saturating_since(self.lease.renewed);
        if self.lease.leader && silent > parameters.lease_renew {
            self.lease.leader = false;
            self.gc_stopped();
        }
        self.pause(CONTROLLER, retry, Wait::LeaseTick { life }, context);
    }

    fn elected(&mut self, life: u32, context: &mut Context<'_>) {
        self.gc_started(life, context);
        for pool in self.catalog.ids() {
            self.status_write(life, pool, context);
        }
    }

    /// Writes `totalIPCount` of a pool that has none.
    pub(super) fn status_write(&mut self, life: u32, pool: PoolId, context: &mut Context<'_>) {
        let Some(known) = self.processes[CONTROLLER].pools.get(&pool) else {
            return self.pause(
                CONTROLLER,
                STATUS_RETRY,
                Wait::Status { life, pool },
                context,
            );
        };
        if !known.labels.is_empty() {
            self.counted.insert(pool);
            return;
        }
        let mut object = Custom::clone(known);
        let total = self.catalog.spec(pool).addresses.len();
        object
            .labels
            .push(("totalIPCount".to_owned(), total.to_string()));
        let request = Request::Replace {
            object: Rc::new(object),
            part: crate::request::Part::Main,
        };
        let wait = Wait::StatusWritten { life, pool };
        self.ask(CONTROLLER, Bucket::PoolWrite, request, wait, context);
    }

    pub(super) fn status_written(
        &mut self,
        life: u32,
        pool: PoolId,
        response: &Response,
        context: &mut Context<'_>,
    ) {
        if response.is_ok() {
            self.counted.insert(pool);
        } else {
            self.pause(
                CONTROLLER,
                STATUS_RETRY,
                Wait::Status { life, pool },
                context,
            );
        }
    }

    /// A Pod is gone: so is the owner of its endpoint.
    pub(super) fn collect_of_pod(&mut self, process: usize, pod: &Pod, context: &mut Context<'_>) {
        let name = super::endpoint::endpoint_name(&pod.namespace, &pod.name);
        let owned = self.processes[process].endpoints.get(&name).map(|object| {
            let endpoint = Endpoint::decode(object);
            endpoint.pod == pod.uid && !endpoint.fixed && !object.deleting
        });
        if owned == Some(true) {
            self.collect(process, name, pod.uid, Collect::Endpoint, context);
        }
    }

    /// An endpoint appeared or changed: its owner may be gone already.
    pub(super) fn collect_if_orphan(
        &mut self,
        process: usize,
        object: &Custom,
        context: &mut Context<'_>,
    ) {
        let endpoint = Endpoint::decode(object);
        let orphan = self.processes[process].pods.get(endpoint.pod).is_none();
        if orphan && !endpoint.fixed && !object.deleting {
            let name = object.name.clone();
            self.collect(process, name, endpoint.pod, Collect::Endpoint, context);
        }
    }

    /// The next step for an endpoint whose owner seems gone.
    fn collect(
        &mut self,
        process: usize,
        name: Rc<str>,
        pod: PodUid,
        step: Collect,
        context: &mut Context<'_>,
    ) {
        let this = &mut self.processes[process];
        if step == Collect::Endpoint && !this.collecting.insert(name.clone()) {
            return;
        }
        let life = this.life;
        let request = match step {
            Collect::Endpoint => Request::Get {
                kind: ENDPOINTS,
                name: name.clone(),
                consistency: Consistency::Quorum,
            },
            Collect::Pod => {
                let (namespace, pod_name) = name.split_once('/').expect("namespace/name");
                Request::GetPod {
                    namespace: namespace.into(),
                    name: pod_name.into(),
                    consistency: Consistency::Quorum,
                }
            }
            Collect::Delete | Collect::Again => Request::Delete {
                kind: ENDPOINTS,
                name: name.clone(),
                uid: None,
                resource_version: None,
            },
        };
        let wait = Wait::Collect {
            process,
            life,
            name,
            pod,
            step,
        };
        if step == Collect::Again {
            return self.pause(process, COLLECT_AGAIN, wait, context);
        }
        let bucket = Bucket::EndpointRead;
        self.ask(process, bucket, request, wait, context);
    }

    /// A step of the collector ended.
    pub(super) fn collected(
        &mut self,
        process: usize,
        name: Rc<str>,
        pod: PodUid,
        step: Collect,
        response: Option<Response>,
        context: &mut Context<'_>,
    ) {
        let next = match (step, response) {
            (Collect::Endpoint, Some(Ok(Answer::Custom(object)))) => {
                let endpoint = Endpoint::decode(&object);
                (endpoint.pod == pod && !object.deleting).then_some(Collect::Pod)
            }
            (Collect::Pod, Some(Ok(Answer::Pod(found)))) if found.uid == pod => None,
            (Collect::Pod, Some(Ok(_) | Err(ApiError::NotFound))) => Some(Collect::Delete),
            (Collect::Endpoint | Collect::Delete, Some(Ok(_) | Err(ApiError::NotFound))) => None,
            (Collect::Again, _) => {
                self.processes[process].collecting.remove(&name);
                Some(Collect::Endpoint)
            }
            (_, _) => Some(Collect::Again),
        };
        match next {
            Some(step) => self.collect(process, name, pod, step, context),
            None => {
                self.processes[process].collecting.remove(&name);
            }
        }
    }
}
