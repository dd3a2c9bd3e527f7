//! Starts and deaths of the agents. An agent that starts has empty memory: what it remembered of
//! half-done allocations is lost, and its first allocation waits for five lists.
//! Source: spiderpool v0.8.0 `cmd/spiderpool-agent/cmd/crd_manager.go`, `vendor/sigs.k8s.io/
//! controller-runtime/pkg/cache/internal/informers.go:269-279`.

use std::time::Duration;

use crate::context::Context;
use crate::request::{Consistency, CustomKind, Request, Shape};

use super::process::{Bucket, Informer, Role};
use super::{Spiderpool, Wait};

/// Lists that an agent's first allocation waits for, one after another: Pods, ReplicaSets,
/// Deployments, SpiderEndpoints, Namespaces.
pub(super) const FIRST_LISTS: usize = 5;

/// Kinds of which only the price of the list matters.
const fn other(resource: &'static str) -> CustomKind {
    CustomKind {
        resource,
        shape: Shape::Flat,
    }
}

impl Spiderpool {
    /// A process starts, now.
    pub(super) fn start_process(&mut self, process: usize, context: &mut Context<'_>) {
        self.processes[process].start(&self.parameters, context);
        match self.processes[process].role {
            // SpiderReservedIPs are not modelled: nobody made any.
            Role::Agent => self.follow(process, Informer::Pools, context),
            Role::Controller => {
                for informer in Informer::ALL {
                    self.follow(process, informer, context);
                }
            }
            Role::Collector => {
                self.follow(process, Informer::Pods, context);
                self.follow(process, Informer::Endpoints, context);
            }
        }
    }

    /// A process starts after a while.
    pub(super) fn start_later(
        &mut self,
        process: usize,
        delay: Duration,
        context: &mut Context<'_>,
    ) {
        let life = self.processes[process].life;
        self.pause(process, delay, Wait::Start { process, life }, context);
    }

    /// A process dies.
    pub(super) fn stop_process(&mut self, process: usize, context: &mut Context<'_>) {
        if !self.processes[process].up {
            // A start that was under way does not happen either.
            self.processes[process].life += 1;
            return;
        }
        if self.processes[process].role == Role::Agent {
            self.disconnect(process, context);
        }
        self.jobs.retain(|_, job| job.process != process);
        self.processes[process].stop(context);
        if self.processes[process].role == Role::Controller {
            self.controller_stopped();
        }
    }

    /// An informer has its first list.
    pub(super) fn informer_synced(&mut self, process: usize, context: &mut Context<'_>) {
        let this = &mut self.processes[process];
        let synced = |informer: Informer| this.followed[informer as usize].synced;
        match this.role {
            Role::Agent if this.serving => self.first_list_done(process, context),
            Role::Agent => this.serving = true,
            Role::Collector => {
                this.serving = synced(Informer::Pods) && synced(Informer::Endpoints);
            }
            // Before its caches are filled it does not stand for election, so no scan starts.
            Role::Controller if Informer::ALL.into_iter().all(synced) => {
                this.serving = true;
                self.controller_started(process, context);
            }
            Role::Controller => {}
        }
    }

    /// Starts the lists of a fresh agent, unless they are under way.
    pub(super) fn first_lists(&mut self, process: usize, context: &mut Context<'_>) {
        if self.processes[process].lists_done.is_none() {
            self.processes[process].lists_done = Some(0);
            self.next_list(process, context);
        }
    }

    fn next_list(&mut self, process: usize, context: &mut Context<'_>) {
        let this = &self.processes[process];
        let life = this.life;
        let kind = match this.lists_done {
            Some(0) => return self.follow(process, Informer::Pods, context),
            Some(3) => return self.follow(process, Informer::Endpoints, context),
            Some(1) => other("replicasets"),
            Some(2) => other("deployments"),
            _ => other("namespaces"),
        };
        let request = Request::List {
            kind,
            selectors: Vec::new(),
            consistency: Consistency::Cache,
            limit: 0,
            after: None,
        };
        let wait = Wait::FirstList { process, life };
        self.ask(process, Bucket::Informers, request, wait, context);
    }

    /// One of them is done; after the last, the allocations that waited go on.
    pub(super) fn first_list_done(&mut self, process: usize, context: &mut Context<'_>) {
        let this = &mut self.processes[process];
        let Some(done) = &mut this.lists_done else {
            return;
        };
        if *done >= FIRST_LISTS {
            return;
        }
        *done += 1;
        if *done < FIRST_LISTS {
            return self.next_list(process, context);
        }
        for job in std::mem::take(&mut this.parked) {
            let Some(waiting) = self.jobs.get(&job) else {
                continue;
            };
            if waiting.cancelled {
                self.fail(job, "context canceled".to_owned(), context);
            } else {
                self.allocate(job, context);
            }
        }
    }
}
