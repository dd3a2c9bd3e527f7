//! The reconciler: a job inside every ip-control-loop, all at the same instant once a day. It lists
//! pools, Pods and reservations, and frees what belongs to no living Pod, without any lease.
//!
//! A Pod lives for it if it is Pending, or if its network-status names the address for a network
//! that is not the default one. With the default network it therefore frees the addresses of
//! Running Pods. It removes the first entry of the Pod's name that it meets, which need not be the
//! stale one. Not modeled: entries without a Pod's name; the order of Go's maps (here the lowest
//! offset is met first).
//!
//! Source: v0.6.2 pkg/reconciler/{ip.go:10-24,iploop.go:50-197,wrappedPod.go:57-83}.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use drydock_engine::time::SimInstant;

use crate::ids::{ClientId, NodeIndex};
use crate::objects::{Phase, Pod};
use crate::process::{CallError, NewProcess, Port};
use crate::request::{Answer, ClientClass, Consistency, Custom, CustomKind, Request};

use super::pool_object::{self, POOL, RESERVATION, patch};
use super::{Env, Range, whole};

/// The job of a node, from its start on.
pub(super) fn reconciler(env: &Rc<Env>, node: NodeIndex) -> NewProcess {
    let env = env.clone();
    NewProcess {
        node,
        call: None,
        client: Some(env.client(node, ClientClass::IpamController)),
        script: Box::new(move |port| Box::pin(daily(port, env, node))),
    }
}

/// Begins a run a day, unless the one before is not over.
async fn daily(port: Port, env: Rc<Env>, node: NodeIndex) {
    let (first, period) = (
        env.parameters.reconcile_first,
        env.parameters.reconcile_period,
    );
    let mut at = SimInstant::ZERO + first;
    while at < port.now() {
        at += period;
    }
    let running: Rc<Cell<bool>> = Rc::default();
    loop {
        port.sleep_until(at).await;
        assert!(port.now() == at, "the job is woken by its clock alone");
        at += period;
        if running.replace(true) {
            continue;
        }
        let (env, client, running) = (env.clone(), port.client(), running.clone());
        port.spawn(NewProcess {
            node,
            call: None,
            client: None,
            script: Box::new(move |port| {
                Box::pin(async move {
                    run(&port, &env, client).await;
                    assert!(running.replace(false), "one run at a time");
                })
            }),
        });
    }
}

/// One run, within its limit.
async fn run(port: &Port, env: &Env, client: ClientId) {
    let limit = port.now() + env.parameters.reconcile_limit;
    let result = port.within(limit, reconcile(port, env, client)).await;
    env.count(|counters| match result {
        Some(Ok(())) => counters.reconciler_runs += 1,
        Some(Err(_)) | None => counters.reconciler_runs_cut += 1,
    });
}

async fn reconcile(port: &Port, env: &Env, client: ClientId) -> Result<(), CallError> {
    let pools = list(port, client, POOL).await?;
    let request = Request::ListPods {
        node_name: None,
        consistency: Consistency::Quorum,
    };
    let Answer::Pods(pods, _) = port.call_as(client, request).await? else {
        unreachable!("a LIST of Pods answers with Pods")
    };
    let reservations = list(port, client, RESERVATION).await?;
    let ranges: Vec<Range> = env.families.iter().map(whole).collect();
    let lives = Lives::new(&pods, env.parameters.default_network);
    let (patches, freed) = patches(&pools, &ranges, &lives);
    let deletes = deletes(&reservations, &ranges, &lives);
    env.count(|counters| counters.reconciler_freed += freed);
    for request in patches.into_iter().chain(deletes) {
        // A pool that changed in between, or a reservation that is gone: the copies race.
        if let Ok(Answer::Custom(pool)) = port.call_as(client, request).await {
            env.saw(&pool);
        }
    }
    Ok(())
}

async fn list(
    port: &Port,
    client: ClientId,
    kind: CustomKind,
) -> Result<Vec<Rc<Custom>>, CallError> {
    let request = Request::List {
        kind,
        selectors: Vec::new(),
        consistency: Consistency::Quorum,
        limit: 0,
        after: None,
    };
    match port.call_as(client, request).await? {
        Answer::Customs(objects, ..) => Ok(objects),
        _ => unreachable!("a LIST answers with objects"),
    }
}

/// The Pods of the cluster by name.
struct Lives<'a> {
    pods: BTreeMap<String, &'a Rc<Pod>>,
    default_network: bool,
}

impl<'a> Lives<'a> {
    fn new(pods: &'a [Rc<Pod>], default_network: bool) -> Self {
        let pods = pods
            .iter()
            .map(|pod| (format!("{}/{}", pod.namespace, pod.name), pod))
            .collect();
        Lives {
            pods,
            default_network,
        }
    }

    /// Whether a Pod has an address, as far as its network-status tells, or may get it yet.
    fn has(&self, name: &str, address: IpAddr) -> bool {
        self.pods.get(name).is_some_and(|pod| {
            let shown = !self.default_network
                && pod.network_status
                && pod.status.pod_ips.contains(&address);
            shown || pod.status.phase == Phase::Pending
        })
    }
}

/// A PATCH per pool with orphans. Second: the allocations that they remove.
fn patches(pools: &[Rc<Custom>], ranges: &[Range], lives: &Lives<'_>) -> (Vec<Request>, u64) {
    let mut patches = Vec::new();
    let mut freed = 0;
    for pool in pools {
        let Some(range) = ranges.iter().find(|range| range.pool == pool.name) else {
            continue;
        };
        let mut left = pool_object::read(&pool.body);
        let count = left.len();
        let orphans: Vec<_> = left
            .iter()
            .filter(|entry| !lives.has(entry.pod, range.addresses[entry.offset as usize]))
            .copied()
            .collect();
        for orphan in &orphans {
            // By the Pod's name, not by the address.
            if let Some(place) = left.iter().position(|entry| entry.pod == orphan.pod) {
                left.remove(place);
                freed += 1;
            }
        }
        assert!(
            left.len() + orphans.len() >= count,
            "an orphan frees one entry at most"
        );
        if !orphans.is_empty() {
            patches.push(patch(pool, &left));
        }
    }
    (patches, freed)
}

/// A DELETE per orphaned reservation.
fn deletes(reservations: &[Rc<Custom>], ranges: &[Range], lives: &Lives<'_>) -> Vec<Request> {
    let by_name: BTreeMap<Rc<str>, IpAddr> = ranges
        .iter()
        .flat_map(|range| range.addresses.iter())
        .map(|address| (pool_object::reservation_name(*address), *address))
        .collect();
    let mut seen = BTreeSet::new();
    let mut deletes = Vec::new();
    for reservation in reservations {
        let owner = reservation.body.split_once(' ').map_or("", |(_, pod)| pod);
        let orphan = by_name
            .get(&reservation.name)
            .is_some_and(|address| !lives.has(owner, *address));
        if orphan && seen.insert(&reservation.name) {
            deletes.push(Request::Delete {
                kind: RESERVATION,
                name: reservation.name.clone(),
                uid: None,
                resource_version: None,
            });
        }
    }
    deletes
}
