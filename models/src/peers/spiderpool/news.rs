//! What a watch delivers: it goes into the memory of the process that watches, and the controller
//! and the collector act on it.
//!
//! The CPU of decoding everything that the wide watches of all processes would bring is spent
//! ([`Spiderpool::decode_everywhere`]) once for each event that the controller sees.
//! Not modeled: the apiserver's CPU and network of the fan-out of pools to 13 watchers.

use std::rc::Rc;

use crate::context::Context;
use crate::ids::WatchId;
use crate::objects::Pod;
use crate::request::{Change, Custom};

use super::Spiderpool;
use super::informer::read_mark;
use super::memory::Informer;
use super::process::{Life, Role, Seat};

/// Watches of pools that the controller has: manager cache, IPPool controller, Subnet controller.
const CONTROLLER_POOL_WATCHES: u32 = 3;

impl Spiderpool {
    /// A watch delivered.
    pub(super) fn delivered(
        &mut self,
        token: u64,
        watch: WatchId,
        change: Change,
        context: &mut Context<'_>,
    ) {
        let (number, seat, informer) = read_mark(token);
        let life = self.seats[seat].life().filter(|life| {
            life.number == number && life.followed(informer).watch.get() == Some(watch)
        });
        // What comes for the dead, or from a watch that ended, reaches nobody.
        let Some(life) = life else {
            return;
        };
        let followed = life.followed(informer);
        let seen = |version| followed.revision.set(followed.revision.get().max(version));
        match change {
            Change::Bookmark(revision) => followed.revision.set(revision),
            Change::Closed(error) => {
                self.processes.wake(followed.close(error));
                self.processes.settle(context);
            }
            Change::Pod(pod) => {
                seen(pod.resource_version);
                life.known.borrow_mut().pods.put(pod.clone());
                self.pod_came(&life, &pod, context);
            }
            Change::PodGone(pod) => {
                life.known.borrow_mut().pods.remove(&pod);
                self.pod_went(&life, &pod, context);
            }
            Change::Custom(object) => {
                seen(object.resource_version);
                if informer == Informer::Endpoints {
                    self.endpoint_came(&life, &object, context);
                } else {
                    self.pool_came(&life, object, context);
                }
            }
            Change::CustomGone(object) => {
                if informer == Informer::Endpoints {
                    life.known.borrow_mut().endpoints.remove(&object.name);
                    self.decode_everywhere(&life, Informer::Endpoints, 0, context);
                }
            }
        }
    }

    fn pod_came(&self, life: &Life, pod: &Pod, context: &mut Context<'_>) {
        self.decode_everywhere(life, Informer::Pods, 0, context);
        if life.role == Role::Controller {
            self.reclaim().trace(pod, context.now());
        }
    }

    fn pod_went(&mut self, life: &Life, pod: &Pod, context: &mut Context<'_>) {
        self.decode_everywhere(life, Informer::Pods, 0, context);
        match life.role {
            Role::Controller => {
                self.env.forget(pod.uid);
                self.reclaim().trace_gone(pod, context.now());
            }
            Role::Collector => {
                if let Some(script) = self.collector().of_pod(pod) {
                    self.processes.start(script, context);
                }
            }
            Role::Agent => {}
        }
    }

    fn endpoint_came(&mut self, life: &Life, object: &Rc<Custom>, context: &mut Context<'_>) {
        let mut known = life.known.borrow_mut();
        known.endpoints.insert(object.name.clone(), object.clone());
        drop(known);
        self.decode_everywhere(life, Informer::Endpoints, 0, context);
        if life.role == Role::Collector
            && let Some(script) = self.collector().of_orphan(object)
        {
            self.processes.start(script, context);
        }
    }

    fn pool_came(&self, life: &Life, object: Rc<Custom>, context: &mut Context<'_>) {
        let catalog = &self.env.catalog;
        // A pool of somebody else's making is nothing to this model.
        if let Some(pool) = catalog.id(&object.name) {
            let records = u64::from(object.record_count);
            let bytes = catalog.record_bytes(pool, records, &self.env.parameters);
            life.known.borrow_mut().pools.insert(pool, object);
            self.decode_everywhere(life, Informer::Pools, bytes, context);
        }
    }

    /// Spends the CPU of decoding an event in every process that watches the kind.
    fn decode_everywhere(
        &self,
        life: &Life,
        informer: Informer,
        record_bytes: u64,
        context: &mut Context<'_>,
    ) {
        if life.role != Role::Controller {
            return;
        }
        let parameters = &self.env.parameters;
        let bytes = match informer {
            Informer::Pods => parameters.pod_bytes,
            Informer::Endpoints => parameters.endpoint_bytes,
            Informer::Pools => parameters.pool_bytes + record_bytes,
        };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let each = parameters.event_cpu_per_byte * bytes;
        for life in self.seats.iter().filter_map(Seat::life) {
            let times = match (life.role, informer) {
                (Role::Collector, _) => 0,
                (Role::Controller, Informer::Pools) => CONTROLLER_POOL_WATCHES,
                (Role::Controller, _) => 1,
                (Role::Agent, _) => u32::from(life.followed(informer).is_synced()),
            };
            life.spend(each * times, context);
        }
    }
}
