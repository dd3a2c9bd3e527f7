//! Informers: LIST, then WATCH from its revision; a watch that ends is opened again from the last
//! revision seen, or listed again when that is gone.
//!
//! An agent's informers are cluster-wide and hold whole objects. What an agent reads of Pods is
//! only ever about its own machine, so its Pod watch is narrowed to it; and it reads of pools only
//! what never changes. The CPU of decoding everything that the wide watches would bring is spent
//! nevertheless ([`Spiderpool::decode_everywhere`]), once for each event that the controller sees.
//! Not modelled: the apiserver's CPU and network of the fan-out of pools to 13 watchers.

use std::rc::Rc;
use std::time::Duration;

use crate::context::Context;
use crate::ids::WatchId;
use crate::request::{
    Answer, ApiError, Change, Consistency, Request, Response, WatchOwner, WatchTarget,
};

use super::endpoint::ENDPOINTS;
use super::pools::POOLS;
use super::process::{Bucket, Informer, Role};
use super::{Spiderpool, Wait};

/// Watches of pools that the controller has: manager cache, IPPool controller, Subnet controller.
const CONTROLLER_POOL_WATCHES: u32 = 3;

/// Who a watch belongs to, in the 64 bits that the world carries.
fn watch_token(process: usize, life: u32, informer: Informer) -> u64 {
    u64::from(life) << 32 | (process as u64) << 4 | informer as u64
}

impl Spiderpool {
    /// Starts an informer: its list.
    pub(super) fn follow(&mut self, process: usize, informer: Informer, context: &mut Context<'_>) {
        let this = &self.processes[process];
        let life = this.life;
        let consistency = Consistency::Cache;
        let list = |kind| Request::List {
            kind,
            selectors: Vec::new(),
            consistency,
            limit: 0,
            after: None,
        };
        let request = match informer {
            Informer::Pods => Request::ListPods {
                node_name: self.own_node_name(process, context),
                consistency,
            },
            Informer::Endpoints => list(ENDPOINTS),
            Informer::Pools => list(POOLS),
        };
        let wait = Wait::Listed {
            process,
            life,
            informer,
        };
        self.ask(process, Bucket::Informers, request, wait, context);
    }

    fn own_node_name(&self, process: usize, context: &Context<'_>) -> Option<Rc<str>> {
        let this = &self.processes[process];
        let machine = &context.core.machines[this.node.index()];
        (this.role == Role::Agent).then(|| machine.node_name.clone())
    }

    /// The list of an informer was answered.
    pub(super) fn listed(
        &mut self,
        process: usize,
        informer: Informer,
        response: Response,
        context: &mut Context<'_>,
    ) {
        let this = &mut self.processes[process];
        let revision = match response {
            Ok(Answer::Pods(pods, revision)) => {
                this.pods = super::process::KnownPods::default();
                for pod in pods {
                    this.pods.put(pod);
                }
                revision
            }
            Ok(Answer::Customs(objects, revision, _)) => {
                if informer == Informer::Endpoints {
                    this.endpoints = objects.into_iter().map(|o| (o.name.clone(), o)).collect();
                } else {
                    let known = |o: Rc<_>| self.catalog.id(named(&o)).map(|id| (id, o));
                    this.pools = objects.into_iter().filter_map(known).collect();
                }
                revision
            }
            _ => return self.follow_again(process, informer, true, context),
        };
        this.followed[informer as usize].revision = revision;
        let was_synced = std::mem::replace(&mut this.followed[informer as usize].synced, true);
        self.open_watch(process, informer, context);
        if !was_synced {
            self.informer_synced(process, context);
        }
    }

    fn open_watch(&mut self, process: usize, informer: Informer, context: &mut Context<'_>) {
        let this = &self.processes[process];
        // Nothing is read from an agent's copy of a pool's status.
        if this.role == Role::Agent && informer == Informer::Pools {
            return;
        }
        let customs = |kind| WatchTarget::Customs {
            kind,
            selectors: Vec::new(),
            name: None,
        };
        let target = match informer {
            Informer::Pods => WatchTarget::Pods {
                node_name: self.own_node_name(process, context),
            },
            Informer::Endpoints => customs(ENDPOINTS),
            Informer::Pools => customs(POOLS),
        };
        let owner = WatchOwner::Ipam {
            token: watch_token(process, this.life, informer),
        };
        let from = this.followed[informer as usize].revision;
        let watch = context.watch(this.client(Bucket::Informers), target, from, owner);
        self.processes[process].followed[informer as usize].watch = Some(watch);
    }

    /// After a pause: watch on, or list.
    fn follow_again(
        &mut self,
        process: usize,
        informer: Informer,
        list: bool,
        context: &mut Context<'_>,
    ) {
        let life = self.processes[process].life;
        let span = context.core.parameters.client.reflector_backoff;
        let entity = u64::from(life) << 32 | (process as u64) << 4 | informer as u64;
        let mut draws = context
            .core
            .streams
            .stream("spiderpool", entity, "reflector");
        let delay: Duration = draws.duration(span.min..=span.max);
        let wait = Wait::FollowAgain {
            process,
            life,
            informer,
            list,
        };
        self.pause(process, delay, wait, context);
    }

    /// The pause of an informer is over.
    pub(super) fn followed_again(
        &mut self,
        process: usize,
        informer: Informer,
        list: bool,
        context: &mut Context<'_>,
    ) {
        if list {
            self.follow(process, informer, context);
        } else {
            self.open_watch(process, informer, context);
        }
    }

    /// A watch delivered.
    pub(super) fn watched(
        &mut self,
        token: u64,
        watch: WatchId,
        change: Change,
        context: &mut Context<'_>,
    ) {
        let (life, process) = ((token >> 32) as u32, (token >> 4 & 0x0fff_ffff) as usize);
        let informer = Informer::ALL[(token & 0xf) as usize];
        let this = &mut self.processes[process];
        if !this.up || this.life != life || this.followed[informer as usize].watch != Some(watch) {
            return;
        }
        let followed = &mut this.followed[informer as usize];
        match change {
            Change::Bookmark(revision) => followed.revision = revision,
            Change::Closed(error) => {
                followed.watch = None;
                self.follow_again(process, informer, error == ApiError::Gone, context);
            }
            Change::Pod(pod) => {
                followed.revision = followed.revision.max(pod.resource_version);
                this.pods.put(pod.clone());
                self.decode_everywhere(process, informer, 0, context);
                if this_is(self, process, Role::Controller) {
                    self.trace(&pod, context);
                }
            }
            Change::PodGone(pod) => {
                this.pods.remove(&pod);
                self.decode_everywhere(process, informer, 0, context);
                if this_is(self, process, Role::Controller) {
                    self.trace_gone(&pod, context);
                } else if this_is(self, process, Role::Collector) {
                    self.collect_of_pod(process, &pod, context);
                }
            }
            Change::Custom(object) => {
                followed.revision = followed.revision.max(object.resource_version);
                if informer == Informer::Endpoints {
                    this.endpoints.insert(object.name.clone(), object.clone());
                    self.decode_everywhere(process, informer, 0, context);
                    if this_is(self, process, Role::Collector) {
                        self.collect_if_orphan(process, &object, context);
                    }
                } else if let Some(pool) = self.catalog.id(&object.name) {
                    let records = u64::from(object.record_count);
                    let parameters = &self.parameters;
                    let bytes = self.catalog.record_bytes(pool, records, parameters);
                    self.processes[process].pools.insert(pool, object);
                    self.decode_everywhere(process, informer, bytes, context);
                }
            }
            Change::CustomGone(object) => {
                if informer == Informer::Endpoints {
                    this.endpoints.remove(&object.name);
                    self.decode_everywhere(process, informer, 0, context);
                }
            }
        }
    }

    /// Spends the CPU of decoding an event in every process that watches the kind.
    fn decode_everywhere(
        &mut self,
        process: usize,
        informer: Informer,
        record_bytes: u64,
        context: &mut Context<'_>,
    ) {
        if !this_is(self, process, Role::Controller) {
            return;
        }
        let parameters = &self.parameters;
        let bytes = match informer {
            Informer::Pods => parameters.pod_bytes,
            Informer::Endpoints => parameters.endpoint_bytes,
            Informer::Pools => parameters.pool_bytes + record_bytes,
        };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let each = parameters.event_cpu_per_byte * bytes;
        for process in &mut self.processes {
            let times = match (process.role, informer) {
                (Role::Collector, _) => 0,
                (Role::Controller, Informer::Pools) => CONTROLLER_POOL_WATCHES,
                (Role::Controller, _) => 1,
                (Role::Agent, _) => u32::from(process.followed[informer as usize].synced),
            };
            process.spend(each * times, parameters, context);
        }
    }
}

fn this_is(spiderpool: &Spiderpool, process: usize, role: Role) -> bool {
    spiderpool.processes[process].role == role
}

fn named(object: &Rc<crate::request::Custom>) -> &str {
    &object.name
}
