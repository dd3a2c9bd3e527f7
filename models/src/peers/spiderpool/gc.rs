//! What the controller reclaims, as leader: addresses of Pods whose time has come (the tracer,
//! every 5 s), and records that belong to nobody (the scan, at election and every 600 s).
//!
//! With the faults of the version: the tracer releases what the endpoint of the Pod's name holds
//! by then, whoever's it is; the scan keeps the record of a live Pod without an endpoint.
//! Not modelled: the HTTP trigger of a scan.
//! Source: spiderpool v0.8.0 `pkg/gcmanager/{pod_cache,tracePod_worker,scanAll_IPPool}.go`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use drydock_engine::time::SimInstant;

use crate::context::Context;
use crate::ids::PodUid;
use crate::objects::Pod;

use super::endpoint::{Endpoint, endpoint_name};
use super::job::{Goal, Job, JobId, Origin, Phase, is_fixed};
use super::part::{Part, PartGoal};
use super::pools::PoolId;
use super::{CONTROLLER, Spiderpool, Wait};

/// A Pod whose addresses are to be released.
#[derive(Clone, Debug)]
struct Traced {
    namespace: Rc<str>,
    pod_name: Rc<str>,
    stop: SimInstant,
    tries: u64,
    /// It is in the channel, or a worker has it.
    queued: bool,
}

/// State of the collector of addresses.
#[derive(Debug, Default)]
pub(super) struct Gc {
    entries: BTreeMap<PodUid, Traced>,
    channel: VecDeque<PodUid>,
    busy: u64,
    /// Records that the scan of each family (IPv4, IPv6) has still to look at.
    scans: [Option<VecDeque<(PoolId, u32, PodUid)>>; 2],
    /// Addresses of StatefulSets when the scan began.
    fixed: BTreeSet<(PoolId, u32)>,
}

impl Spiderpool {
    pub(super) fn gc_started(&mut self, life: u32, context: &mut Context<'_>) {
        self.gc = Gc::default();
        let parameters = &self.parameters;
        let (sweep, scan) = (parameters.trace_period, parameters.scan_period);
        // The informer of the tracer sends what exists as if it were new.
        let pods = &self.processes[CONTROLLER].pods;
        let known: Vec<Rc<Pod>> = pods.all().cloned().collect();
        for pod in known {
            self.trace(&pod, context);
        }
        self.scan(context);
        self.pause(CONTROLLER, sweep, Wait::Sweep { life }, context);
        self.pause(CONTROLLER, scan, Wait::Scan { life }, context);
    }

    pub(super) fn gc_stopped(&mut self) {
        self.gc = Gc::default();
        let of_gc = |origin| matches!(origin, Origin::Trace(_) | Origin::Scan { .. });
        let jobs: Vec<(JobId, Vec<PoolId>)> = self
            .jobs
            .iter()
            .filter(|(_, job)| of_gc(job.origin) && job.phase != Phase::Queued)
            .map(|(id, job)| (*id, job.tickets.clone()))
            .collect();
        for (id, tickets) in jobs {
            self.jobs.remove(&id);
            self.processes[CONTROLLER].limiter.release(&tickets);
        }
    }

    /// The controller saw a Pod.
    pub(super) fn trace(&mut self, pod: &Pod, context: &mut Context<'_>) {
        let delay = self.parameters.trace_delay;
        let stop = match pod.deletion {
            // deletionTimestamp has the grace period in it, and it is added again.
            Some((at, grace)) => at + grace + grace + delay,
            None if pod.is_terminal() => context.now() + pod.spec.grace + delay,
            None => return,
        };
        self.trace_until(pod, stop);
    }

    /// The controller saw that a Pod is gone.
    pub(super) fn trace_gone(&mut self, pod: &Pod, context: &mut Context<'_>) {
        for ipv6 in [false, true] {
            self.draws.remove(&(pod.uid, ipv6));
            self.waits_drawn.remove(&(pod.uid, ipv6));
        }
        let stop = context.now() + self.parameters.trace_delay;
        self.trace_until(pod, stop);
    }

    fn trace_until(&mut self, pod: &Pod, stop: SimInstant) {
        if !self.lease.leader || pod.spec.host_network || is_fixed(pod) {
            return;
        }
        let entry = self.gc.entries.entry(pod.uid).or_insert_with(|| Traced {
            namespace: pod.namespace.clone(),
            pod_name: pod.name.clone(),
            stop,
            tries: 0,
            queued: false,
        });
        entry.stop = stop;
    }

    /// Hands overdue entries to the workers.
    pub(super) fn sweep(&mut self, life: u32, context: &mut Context<'_>) {
        let now = context.now();
        if self.lease.leader {
            for (pod, entry) in &mut self.gc.entries {
                if entry.stop <= now && !entry.queued {
                    entry.queued = true;
                    self.gc.channel.push_back(*pod);
                }
            }
            self.trace_work(context);
        }
        let period = self.parameters.trace_period;
        self.pause(CONTROLLER, period, Wait::Sweep { life }, context);
    }

    fn trace_work(&mut self, context: &mut Context<'_>) {
        while self.gc.busy < self.parameters.trace_workers {
            let Some(pod) = self.gc.channel.pop_front() else {
                return;
            };
            let Some(entry) = self.gc.entries.get(&pod) else {
                continue;
            };
            let name = endpoint_name(&entry.namespace, &entry.pod_name);
            let Some(object) = self.processes[CONTROLLER].endpoints.get(&name).cloned() else {
                self.gc.entries.remove(&pod);
                continue;
            };
            let endpoint = Endpoint::decode(&object);
            if endpoint.pod != pod {
                self.totals.traced_another += 1;
            }
            let give = |(pool, position)| Part::new(pool, PartGoal::Give(position));
            let job = Job {
                process: CONTROLLER,
                origin: Origin::Trace(pod),
                goal: Goal::Clear,
                namespace: entry.namespace.clone(),
                pod_name: entry.pod_name.clone(),
                pod: endpoint.pod,
                entity: u64::from(endpoint.pod.0),
                fixed: endpoint.fixed,
                phase: Phase::Queued,
                cancelled: false,
                tickets: Vec::new(),
                parts: endpoint.addresses.into_iter().map(give).collect(),
                endpoint: Some(object),
            };
            self.gc.busy += 1;
            self.totals.traced += 1;
            self.begin(job, context);
        }
    }

    /// A worker is done with a Pod.
    pub(super) fn traced(&mut self, pod: PodUid, ok: bool, context: &mut Context<'_>) {
        self.gc.busy = self.gc.busy.saturating_sub(1);
        if let Some(entry) = self.gc.entries.get_mut(&pod) {
            entry.tries += 1;
            if ok || entry.tries > self.parameters.trace_retries {
                self.gc.entries.remove(&pod);
            } else {
                self.gc.channel.push_back(pod);
            }
        }
        self.trace_work(context);
    }

    /// The timer of the scan.
    pub(super) fn scan_due(&mut self, life: u32, context: &mut Context<'_>) {
        self.scan(context);
        let period = self.parameters.scan_period;
        self.pause(CONTROLLER, period, Wait::Scan { life }, context);
    }

    /// Looks at every record, both families side by side.
    fn scan(&mut self, context: &mut Context<'_>) {
        if !self.lease.leader || self.gc.scans.iter().any(Option::is_some) {
            return;
        }
        let controller = &self.processes[CONTROLLER];
        let endpoints = controller.endpoints.values().map(|e| Endpoint::decode(e));
        self.gc.fixed = endpoints
            .filter(|endpoint| endpoint.fixed)
            .flat_map(|endpoint| endpoint.addresses)
            .collect();
        let pools: Vec<_> = controller.pools.clone().into_iter().collect();
        let mut lists = [VecDeque::new(), VecDeque::new()];
        for (pool, object) in pools {
            let status = self.catalog.status(pool, &object);
            let family = usize::from(self.catalog.spec(pool).ipv6);
            let records = status.records().iter();
            lists[family].extend(records.map(|(position, pod)| (pool, *position, *pod)));
        }
        self.gc.scans = lists.map(Some);
        self.scan_next(false, context);
        self.scan_next(true, context);
    }

    /// Goes on with the scan of a family: to the next record that has to go.
    pub(super) fn scan_next(&mut self, ipv6: bool, context: &mut Context<'_>) {
        let family = usize::from(ipv6);
        loop {
            let next = match &mut self.gc.scans[family] {
                Some(list) => list.pop_front(),
                None => return,
            };
            let Some((pool, position, pod)) = next else {
                self.gc.scans[family] = None;
                return;
            };
            if !self.is_stale(pool, position, pod, context.now()) {
                continue;
            }
            self.totals.scanned_away += 1;
            let job = Job {
                process: CONTROLLER,
                origin: Origin::Scan { ipv6 },
                goal: Goal::Free,
                namespace: "".into(),
                pod_name: "".into(),
                pod,
                entity: u64::from(pod.0),
                fixed: false,
                phase: Phase::Queued,
                cancelled: false,
                tickets: Vec::new(),
                parts: vec![Part::new(pool, PartGoal::Give(position))],
                endpoint: None,
            };
            self.begin(job, context);
            return;
        }
    }

    /// Whether a record has to go, as far as the controller's caches know.
    fn is_stale(&self, pool: PoolId, position: u32, pod: PodUid, now: SimInstant) -> bool {
        let controller = &self.processes[CONTROLLER];
        let Some(known) = controller.pods.get(pod) else {
            return !self.gc.fixed.contains(&(pool, position));
        };
        if self
            .gc
            .entries
            .get(&pod)
            .is_some_and(|entry| entry.stop <= now)
        {
            return true;
        }
        let name = endpoint_name(&known.namespace, &known.name);
        // Without an endpoint the record of a live Pod stays.
        controller.endpoints.get(&name).is_some_and(|object| {
            let endpoint = Endpoint::decode(object);
            endpoint.pod == pod && !endpoint.addresses.contains(&(pool, position))
        })
    }
}
