//! The reconciler: a job inside every ip-control-loop, all at the same instant once a day. It lists
//! pools, Pods and reservations, and frees what belongs to no living Pod, without any lease.
//!
//! A Pod lives for it if it is Pending, or if its network-status names the address for a network
//! that is not the default one. With the default network it therefore frees the addresses of
//! Running Pods. It removes the first entry of the Pod's name that it meets, which need not be the
//! stale one. Not modelled: entries without a Pod's name; the order of Go's maps (here the lowest
//! offset is met first).
//!
//! Source: v0.6.2 pkg/reconciler/{ip.go:10-24,iploop.go:50-197,wrappedPod.go:57-83}.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;

use crate::context::Context;
use crate::ids::{CallId, ClientId, NodeIndex};
use crate::objects::{Phase, Pod};
use crate::request::{
    Answer, ClientClass, ClientSpec, Consistency, Custom, CustomKind, ReplyTo, Request, Response,
};

use super::pool_object::{self, POOL, RESERVATION, patch};
use super::{Range, Token, Whereabouts, whole};

/// The timer of the daily start.
const DAILY: u32 = 0;

/// One node's reconciler.
#[derive(Debug)]
pub(super) struct Reconciler {
    client: ClientId,
    /// Counts its requests and runs; 0 is the daily timer.
    epoch: u32,
    run: Option<Run>,
}

#[derive(Debug)]
struct Run {
    /// The timer of its limit has this epoch.
    limit: u32,
    call: Option<CallId>,
    step: Step,
    pools: Vec<Rc<Custom>>,
    pods: Vec<Rc<Pod>>,
    todo: VecDeque<Request>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Pools,
    Pods,
    Reservations,
    Free,
}

impl Whereabouts {
    pub(super) fn reconciler_up(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let parameters = &self.parameters;
        let client = context.client(ClientSpec {
            node,
            class: ClientClass::IpamController,
            limiter: Some((parameters.qps.milli_per_s, parameters.burst)),
            timeout: None,
            fresh_connection: true,
        });
        let (first, period) = (parameters.reconcile_first, parameters.reconcile_period);
        let mut at = drydock_engine::time::SimInstant::ZERO + first;
        while at < context.now() {
            at += period;
        }
        let fresh = Reconciler {
            client,
            epoch: DAILY,
            run: None,
        };
        self.reconcilers.insert(node, fresh);
        context.ipam_timer(node, at, Token::Reconciler(node, DAILY).pack());
    }

    pub(super) fn reconciler_down(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        if let Some(dead) = self.reconcilers.remove(&node) {
            context.drop_client(dead.client);
        }
    }

    pub(super) fn reconciler_woken(
        &mut self,
        node: NodeIndex,
        epoch: u32,
        context: &mut Context<'_>,
    ) {
        let parameters = &self.parameters;
        let (period, limit) = (parameters.reconcile_period, parameters.reconcile_limit);
        let now = context.now();
        let Some(this) = self.reconcilers.get_mut(&node) else {
            return;
        };
        if epoch != DAILY {
            if let Some(run) = this.run.take_if(|run| run.limit == epoch) {
                if let Some(call) = run.call {
                    context.cancel(call);
                }
                self.counters.reconciler_runs_cut += 1;
            }
            return;
        }
        let daily = Token::Reconciler(node, DAILY).pack();
        context.ipam_timer(node, now + period, daily);
        if this.run.is_some() {
            return;
        }
        this.epoch += 1;
        let cut = Token::Reconciler(node, this.epoch).pack();
        context.ipam_timer(node, now + limit, cut);
        this.run = Some(Run {
            limit: this.epoch,
            call: None,
            step: Step::Pools,
            pools: Vec::new(),
            pods: Vec::new(),
            todo: VecDeque::new(),
        });
        self.reconciler_request(node, Step::Pools, list(POOL), context);
    }

    fn reconciler_request(
        &mut self,
        node: NodeIndex,
        step: Step,
        request: Request,
        context: &mut Context<'_>,
    ) {
        let Some(this) = self.reconcilers.get_mut(&node) else {
            return;
        };
        this.epoch += 1;
        let token = Token::Reconciler(node, this.epoch).pack();
        let call = context.call(this.client, request, ReplyTo::Ipam { token });
        if let Some(run) = &mut this.run {
            run.step = step;
            run.call = Some(call);
        }
    }

    pub(super) fn reconciler_answered(
        &mut self,
        node: NodeIndex,
        epoch: u32,
        response: Response,
        context: &mut Context<'_>,
    ) {
        let Some(this) = self.reconcilers.get_mut(&node) else {
            return;
        };
        if this.epoch != epoch {
            return;
        }
        let Some(run) = &mut this.run else { return };
        match (run.step, response) {
            (Step::Pools, Ok(Answer::Customs(pools, ..))) => {
                run.pools = pools;
                let request = Request::ListPods {
                    node_name: None,
                    consistency: Consistency::Quorum,
                };
                self.reconciler_request(node, Step::Pods, request, context);
            }
            (Step::Pods, Ok(Answer::Pods(pods, _))) => {
                run.pods = pods;
                self.reconciler_request(node, Step::Reservations, list(RESERVATION), context);
            }
            (Step::Reservations, Ok(Answer::Customs(reservations, ..))) => {
                let default_network = self.parameters.default_network;
                let ranges: Vec<Range> = self.families.iter().map(whole).collect();
                let (todo, freed) = frees(run, &reservations, &ranges, default_network);
                run.todo = todo;
                self.counters.reconciler_freed += freed;
                self.reconciler_next(node, context);
            }
            // A pool that changed in between, or a reservation that is gone: the copies race.
            (Step::Free, result) => {
                if let Ok(Answer::Custom(pool)) = result {
                    self.saw(&pool);
                }
                self.reconciler_next(node, context);
            }
            _ => {
                this.run = None;
                self.counters.reconciler_runs_cut += 1;
            }
        }
    }

    fn reconciler_next(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let Some(this) = self.reconcilers.get_mut(&node) else {
            return;
        };
        let Some(run) = &mut this.run else { return };
        if let Some(request) = run.todo.pop_front() {
            self.reconciler_request(node, Step::Free, request, context);
        } else {
            this.run = None;
            self.counters.reconciler_runs += 1;
        }
    }
}

fn list(kind: CustomKind) -> Request {
    Request::List {
        kind,
        selectors: Vec::new(),
        consistency: Consistency::Quorum,
        limit: 0,
        after: None,
    }
}

/// What a run writes: a PATCH per pool with orphans, a DELETE per orphaned reservation. Second: the
/// allocations that the PATCHes remove.
fn frees(
    run: &Run,
    reservations: &[Rc<Custom>],
    ranges: &[Range],
    default_network: bool,
) -> (VecDeque<Request>, u64) {
    let pods: BTreeMap<String, &Rc<Pod>> = run
        .pods
        .iter()
        .map(|pod| (format!("{}/{}", pod.namespace, pod.name), pod))
        .collect();
    let lives = |name: &str, address: IpAddr| {
        pods.get(name).is_some_and(|pod| {
            let shown =
                !default_network && pod.network_status && pod.status.pod_ips.contains(&address);
            shown || pod.status.phase == Phase::Pending
        })
    };
    let mut todo = VecDeque::new();
    let mut freed = 0;
    for pool in &run.pools {
        let Some(range) = ranges.iter().find(|range| range.pool == pool.name) else {
            continue;
        };
        let mut left = pool_object::read(&pool.body);
        let orphans: Vec<_> = left
            .iter()
            .filter(|entry| !lives(entry.pod, range.addresses[entry.offset as usize]))
            .copied()
            .collect();
        for orphan in &orphans {
            // By the Pod's name, not by the address.
            if let Some(place) = left.iter().position(|entry| entry.pod == orphan.pod) {
                left.remove(place);
                freed += 1;
            }
        }
        if !orphans.is_empty() {
            todo.push_back(patch(pool, &left));
        }
    }
    let by_name: BTreeMap<Rc<str>, IpAddr> = ranges
        .iter()
        .flat_map(|range| range.addresses.iter())
        .map(|address| (pool_object::reservation_name(*address), *address))
        .collect();
    let mut seen = BTreeSet::new();
    for reservation in reservations {
        let owner = reservation.body.split_once(' ').map_or("", |(_, pod)| pod);
        let address = by_name.get(&reservation.name);
        if address.is_some_and(|address| !lives(owner, *address)) && seen.insert(&reservation.name)
        {
            todo.push_back(Request::Delete {
                kind: RESERVATION,
                name: reservation.name.clone(),
                uid: None,
                resource_version: None,
            });
        }
    }
    (todo, freed)
}
