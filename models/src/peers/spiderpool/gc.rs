//! What the controller reclaims, as leader: addresses of Pods whose time has come (the tracer,
//! every 5 s), and records that belong to nobody (the scan, at election and every 600 s).
//!
//! With the faults of the version: the tracer releases what the endpoint of the Pod's name holds
//! by then, whoever's it is; the scan keeps the record of a live Pod without an endpoint.
//! Not modeled: the HTTP trigger of a scan.
//! Source: spiderpool v0.8.0 `pkg/gcmanager/{pod_cache,tracePod_worker,scanAll_IPPool}.go`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use drydock_engine::time::SimInstant;

use crate::ids::PodUid;
use crate::objects::Pod;
use crate::process::{Port, ProcessId};
use crate::request::Custom;

use super::endpoint::{Endpoint, endpoint_name};
use super::env::Subject;
use super::job::{Job, give, is_fixed};
use super::limiter::Claim;
use super::pools::PoolId;
use super::process::Life;
use super::tickets::Tickets;

/// A Pod whose addresses must be released.
#[derive(Clone, Debug)]
struct Traced {
    namespace: Rc<str>,
    pod_name: Rc<str>,
    stop: SimInstant,
    tries: u64,
    /// It is in the channel, or a worker has it.
    queued: bool,
}

/// A record of a pool: position and Pod.
type Record = (PoolId, u32, PodUid);

/// State of the collector of addresses.
#[derive(Debug, Default)]
struct Gc {
    entries: BTreeMap<PodUid, Traced>,
    channel: VecDeque<PodUid>,
    busy: u64,
    /// Records that the scan of each family (IPv4, IPv6) has still to look at.
    scans: [Option<VecDeque<Record>>; 2],
    /// Addresses of StatefulSets when the scan began.
    fixed: BTreeSet<(PoolId, u32)>,
    /// Scripts that have had their turn.
    working: BTreeMap<ProcessId, Rc<Claim>>,
}

/// The collector of addresses inside the controller.
pub(super) struct Reclaim {
    life: Rc<Life>,
    leads: Cell<bool>,
    gc: RefCell<Gc>,
}

/// A script that works on pools, until it is over or the lease is lost.
struct Working {
    reclaim: Rc<Reclaim>,
    script: ProcessId,
}

impl Working {
    fn new(reclaim: &Rc<Reclaim>, port: &Port, job: &Job) -> Self {
        let mut gc = reclaim.gc.borrow_mut();
        let before = gc.working.insert(port.id, job.claim());
        assert!(before.is_none(), "a script works on one job at a time");
        Self {
            reclaim: reclaim.clone(),
            script: port.id,
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        // After a lost lease it is not in there anymore.
        self.reclaim.gc.borrow_mut().working.remove(&self.script);
    }
}

impl Reclaim {
    pub(super) fn new(life: &Rc<Life>) -> Rc<Self> {
        Rc::new(Self {
            life: life.clone(),
            leads: Cell::new(false),
            gc: RefCell::default(),
        })
    }

    pub(super) fn leads(&self) -> bool {
        self.leads.get()
    }

    /// The controller is elected. Each election has timers of its own; those of an earlier one go
    /// on.
    pub(super) fn start(self: &Rc<Self>, port: &Port) {
        let before = self.leads.replace(true);
        assert!(!before, "an election is won once");
        self.gc.replace(Gc::default());
        // The informer of the tracer sends what exists as if it were new.
        let pods: Vec<Rc<Pod>> = self.life.known.borrow().pods.all().cloned().collect();
        for pod in pods {
            self.trace(&pod, port.now());
        }
        self.scan(port);
        let (sweeper, scanner) = (self.clone(), self.clone());
        port.spawn(self.life.script(None, |port| sweeper.sweep_again(port)));
        port.spawn(self.life.script(None, |port| scanner.scan_again(port)));
    }

    /// The lease is lost: what works on pools stops where it is, what waits for its turn goes on
    /// waiting.
    pub(super) fn stop(&self, port: &Port) {
        let before = self.leads.replace(false);
        assert!(before, "a lease is lost once");
        let gc = self.gc.replace(Gc::default());
        for (script, claim) in gc.working {
            Tickets::give_back_silently(&claim, &self.life);
            port.kill(script);
        }
    }

    /// The controller saw a Pod.
    pub(super) fn trace(&self, pod: &Pod, now: SimInstant) {
        let delay = self.life.env.parameters.trace_delay;
        let stop = match pod.deletion {
            // deletionTimestamp has the grace period in it, and it is added again.
            Some((at, grace)) => at + grace + grace + delay,
            None if pod.is_terminal() => now + pod.spec.grace + delay,
            None => return,
        };
        self.trace_until(pod, stop);
    }

    /// The controller saw that a Pod is gone.
    pub(super) fn trace_gone(&self, pod: &Pod, now: SimInstant) {
        self.trace_until(pod, now + self.life.env.parameters.trace_delay);
    }

    fn trace_until(&self, pod: &Pod, stop: SimInstant) {
        if !self.leads() || pod.spec.host_network || is_fixed(pod) {
            return;
        }
        let mut gc = self.gc.borrow_mut();
        let entry = gc.entries.entry(pod.uid).or_insert_with(|| Traced {
            namespace: pod.namespace.clone(),
            pod_name: pod.name.clone(),
            stop,
            tries: 0,
            queued: false,
        });
        entry.stop = stop;
    }

    /// Hands overdue entries to the workers, period after period.
    async fn sweep_again(self: Rc<Self>, port: Port) {
        loop {
            port.sleep(self.life.env.parameters.trace_period).await;
            if self.leads() {
                self.gc.borrow_mut().queue_overdue(port.now());
                self.hand_out(&port);
            }
        }
    }

    /// Gives what is in the channel to workers, as far as there are some.
    fn hand_out(self: &Rc<Self>, port: &Port) {
        let workers = self.life.env.parameters.trace_workers;
        let mut gc = self.gc.borrow_mut();
        while gc.busy < workers {
            let Some(pod) = gc.channel.pop_front() else {
                return;
            };
            let Some(entry) = gc.entries.get(&pod) else {
                continue;
            };
            debug_assert!(entry.queued, "what was in the channel was put there");
            let name = endpoint_name(&entry.namespace, &entry.pod_name);
            let Some(object) = self.life.known.borrow().endpoints.get(&name).cloned() else {
                gc.entries.remove(&pod);
                continue;
            };
            gc.busy += 1;
            let another = Endpoint::decode(&object).pod != pod;
            self.life.env.count(|totals| {
                totals.traced += 1;
                totals.traced_another += u64::from(another);
            });
            let worker = self.clone();
            port.spawn(
                self.life
                    .script(None, move |port| worker.clear(port, pod, object)),
            );
        }
    }

    /// A worker: releases everything that an endpoint lists, then takes the next Pod.
    async fn clear(self: Rc<Self>, port: Port, pod: PodUid, object: Rc<Custom>) {
        let cleared = self.clear_endpoint(&port, &object).await;
        self.gc.borrow_mut().is_traced(
            pod,
            cleared.is_ok(),
            self.life.env.parameters.trace_retries,
        );
        self.hand_out(&port);
    }

    async fn clear_endpoint(self: &Rc<Self>, port: &Port, object: &Custom) -> Result<(), String> {
        let endpoint = Endpoint::decode(object);
        let mut job = Job::new(&self.life, None, Subject::of(endpoint.pod));
        job.queue(port, give(&endpoint.addresses)).await?;
        let _working = Working::new(self, port, &job);
        job.clear(port, object).await
    }

    /// Scans, period after period.
    async fn scan_again(self: Rc<Self>, port: Port) {
        loop {
            port.sleep(self.life.env.parameters.scan_period).await;
            self.scan(&port);
        }
    }

    /// Looks at every record, both families side by side.
    fn scan(self: &Rc<Self>, port: &Port) {
        let mut gc = self.gc.borrow_mut();
        if !self.leads() || gc.scans.iter().any(Option::is_some) {
            return;
        }
        let known = self.life.known.borrow();
        let endpoints = known.endpoints.values().map(|e| Endpoint::decode(e));
        gc.fixed = endpoints
            .filter(|endpoint| endpoint.fixed)
            .flat_map(|endpoint| endpoint.addresses)
            .collect();
        let catalog = &self.life.env.catalog;
        let mut lists = [VecDeque::new(), VecDeque::new()];
        for (pool, object) in &known.pools {
            let status = catalog.status(*pool, object);
            let family = usize::from(catalog.spec(*pool).ipv6);
            let records = status.records().iter();
            lists[family].extend(records.map(|(position, pod)| (*pool, *position, *pod)));
        }
        gc.scans = lists.map(Some);
        for ipv6 in [false, true] {
            let scanner = self.clone();
            port.spawn(
                self.life
                    .script(None, move |port| scanner.scan_family(port, ipv6)),
            );
        }
    }

    /// The scan of a family: frees the records that have to go, one after another.
    async fn scan_family(self: Rc<Self>, port: Port, ipv6: bool) {
        loop {
            let next = self.gc.borrow_mut().next_record(usize::from(ipv6));
            let Some(record) = next else {
                return;
            };
            if self.is_stale(record, port.now()) {
                self.life.env.count(|totals| totals.scanned_away += 1);
                // A record that could not be freed waits for the next scan.
                let _ = self.free(&port, record).await;
            }
        }
    }

    async fn free(
        self: &Rc<Self>,
        port: &Port,
        (pool, position, pod): Record,
    ) -> Result<(), String> {
        let mut job = Job::new(&self.life, None, Subject::of(pod));
        job.queue(port, give(&[(pool, position)])).await?;
        let _working = Working::new(self, port, &job);
        job.work(port).await
    }

    /// Whether a record must go, as far as the controller's caches know.
    fn is_stale(&self, (pool, position, pod): Record, now: SimInstant) -> bool {
        let (known, gc) = (self.life.known.borrow(), self.gc.borrow());
        let Some(owner) = known.pods.get(pod) else {
            return !gc.fixed.contains(&(pool, position));
        };
        if gc.entries.get(&pod).is_some_and(|entry| entry.stop <= now) {
            return true;
        }
        let name = endpoint_name(&owner.namespace, &owner.name);
        // Without an endpoint the record of a live Pod stays.
        known.endpoints.get(&name).is_some_and(|object| {
            let endpoint = Endpoint::decode(object);
            endpoint.pod == pod && !endpoint.addresses.contains(&(pool, position))
        })
    }
}

impl Gc {
    /// Puts what is overdue into the channel.
    fn queue_overdue(&mut self, now: SimInstant) {
        for (pod, entry) in &mut self.entries {
            if entry.stop <= now && !entry.queued {
                entry.queued = true;
                self.channel.push_back(*pod);
            }
        }
    }

    /// A worker is done with a Pod. It may be one of an earlier election, which knows another
    /// number of busy ones.
    fn is_traced(&mut self, pod: PodUid, well: bool, retries: u64) {
        self.busy = self.busy.saturating_sub(1);
        if let Some(entry) = self.entries.get_mut(&pod) {
            entry.tries += 1;
            if well || entry.tries > retries {
                self.entries.remove(&pod);
            } else {
                self.channel.push_back(pod);
            }
        }
    }

    /// The next record of a family that the scan must check; after the last one the scan is over.
    fn next_record(&mut self, family: usize) -> Option<Record> {
        let next = self.scans[family].as_mut()?.pop_front();
        if next.is_none() {
            self.scans[family] = None;
        }
        next
    }
}
