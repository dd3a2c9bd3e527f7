//! kube-scheduler: one Pod at a time through filter and score, binding beside it.
//!
//! Modeled: the serial cycle, nodeSelector, maxPods, nodes that are not ready; the default spread
//! of a ReplicaSet's or StatefulSet's Pods (hostname, maxSkew 3, weight 2), LeastAllocated with
//! 100m/200Mi for a Pod without requests, keyed random ties, back-off of Pods that fit nowhere and
//! their return when room appears, bind POSTs on a bucket of 50/100, Scheduled events on a second
//! one. Not modeled: requests of Pods, affinity, zones, preemption, priorities, plugins that give
//! every node the same score.
//!
//! Source: kubernetes v1.26.5 pkg/scheduler/schedule_one.go:62-116,
//! pkg/scheduler/framework/plugins/podtopologyspread/{plugin,scoring}.go,
//! pkg/scheduler/util/pod_resources.go:33-35, cmd/kube-scheduler/app/options/options.go:377-390.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use drydock_engine::time::SimInstant;

use crate::context::Context;
use crate::event::{ControlEvent, CpuToken, Event, Recorder, Role};
use crate::ids::{ClientId, NodeIndex, PodUid, WatchId};
use crate::objects::{OwnerKind, Pod};
use crate::parameters::Parameters;
use crate::request::{
    Answer, Change, ClientClass, ClientSpec, Consistency, ReplyTo, Request, Response, WatchOwner,
    WatchTarget,
};

use super::event_sink::EventSink;

/// Weight of PodTopologySpread (pkg/scheduler/apis/config/v1/default_plugins.go:48).
const SPREAD_WEIGHT: u64 = 2;
/// What a Pod without requests counts as: milli-CPU and MiB.
const POD_CPU: u64 = 100;
const POD_MEMORY: u64 = 200;

#[derive(Debug)]
struct Slot {
    name: Rc<str>,
    node: NodeIndex,
    control_plane: bool,
    pods: u32,
    ready: bool,
}

#[derive(Clone, Debug)]
struct Known {
    pod: Rc<Pod>,
    /// The node that it counts toward: bound, or assumed.
    slot: Option<usize>,
    attempts: u32,
}

/// A Pod that fits nowhere.
#[derive(Clone, Debug)]
struct Stuck {
    reason: String,
    not_before: SimInstant,
    returning: bool,
}

/// kube-scheduler.
#[derive(Debug)]
pub struct Scheduler {
    slots: Vec<Slot>,
    by_name: BTreeMap<Rc<str>, usize>,
    known: Vec<Option<Known>>,
    spread: BTreeMap<(OwnerKind, u32), Vec<u32>>,
    queue: VecDeque<PodUid>,
    stuck: BTreeMap<PodUid, Stuck>,
    busy: bool,
    binder: Option<ClientId>,
    watcher: Option<ClientId>,
    clients: Vec<ClientId>,
    watch: Option<WatchId>,
    sink: EventSink,
    node: Option<NodeIndex>,
    lists: u64,
    life: u32,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            by_name: BTreeMap::new(),
            known: Vec::new(),
            spread: BTreeMap::new(),
            queue: VecDeque::new(),
            stuck: BTreeMap::new(),
            busy: false,
            binder: None,
            watcher: None,
            lists: 0,
            clients: Vec::new(),
            watch: None,
            sink: EventSink::of(Recorder::Scheduler),
            node: None,
            life: 0,
        }
    }
}

impl Scheduler {
    /// A node registered, or another machine took over its name.
    pub fn set_node(&mut self, name: &Rc<str>, node: NodeIndex, control_plane: bool) {
        if let Some(slot) = self.by_name.get(name) {
            self.slots[*slot].node = node;
            self.slots[*slot].ready = true;
            return;
        }
        self.by_name.insert(name.clone(), self.slots.len());
        self.slots.push(Slot {
            name: name.clone(),
            node,
            control_plane,
            pods: 0,
            ready: true,
        });
    }

    /// The machine that the process runs on.
    pub fn node(&self) -> Option<NodeIndex> {
        self.node
    }

    /// The process starts on a master, from a fresh list.
    pub fn start(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        self.node = Some(node);
        let sched = &context.core.parameters.sched;
        let limiter = Some((sched.qps.milli_per_s, sched.burst));
        let spec = |class, limiter| ClientSpec {
            node,
            class,
            limiter,
            timeout: None,
            fresh_connection: false,
        };
        let binder = context.client(spec(ClientClass::Scheduler, limiter));
        let events = context.client(spec(ClientClass::SchedulerEvents, limiter));
        // A list is one call; with its own client it takes no token from the bindings.
        let watcher = context.client(spec(ClientClass::Scheduler, None));
        self.clients = vec![binder, events, watcher];
        self.binder = Some(binder);
        self.watcher = Some(watcher);
        self.sink.start(events);
        self.busy = false;
        self.known.clear();
        self.spread.clear();
        self.queue.clear();
        self.stuck.clear();
        for slot in &mut self.slots {
            slot.pods = 0;
        }
        self.list_pods(Consistency::Cache, context);
    }

    fn list_pods(&mut self, consistency: Consistency, context: &mut Context<'_>) {
        let Some(client) = self.watcher else { return };
        let request = Request::ListPods {
            node_name: None,
            consistency,
        };
        context.call(client, request, ReplyTo::Scheduler { pod: None });
    }

    /// The list replaces what the informer held; then the watch continues from it.
    fn listed(&mut self, response: &Response, context: &mut Context<'_>) {
        let Ok(Answer::Pods(pods, revision)) = response else {
            return self.list_again(context);
        };
        let listed: BTreeSet<PodUid> = pods.iter().map(|pod| pod.uid).collect();
        let vanished: Vec<PodUid> = self
            .known
            .iter()
            .flatten()
            .map(|known| known.pod.uid)
            .filter(|pod| !listed.contains(pod))
            .collect();
        for pod in vanished {
            self.pod_gone(pod, context);
        }
        // Bound Pods count before any waiting one is scheduled.
        for bound in [true, false] {
            for pod in pods.iter().filter(|pod| pod.node_name.is_some() == bound) {
                self.pod_changed(pod, context);
            }
        }
        if let Some(client) = self.watcher {
            let target = WatchTarget::Pods { node_name: None };
            let watch = context.watch(client, target, *revision, WatchOwner::Scheduler);
            self.watch = Some(watch);
        }
    }

    fn list_again(&mut self, context: &mut Context<'_>) {
        self.watch = None;
        self.lists += 1;
        let life = self.life;
        let span = context.core.parameters.client.reflector_backoff;
        let wait = context
            .core
            .streams
            .stream("scheduler", self.lists, "reflector back-off")
            .duration(span.min..=span.max);
        let event = ControlEvent::WatchAgain {
            role: Role::Scheduler,
            life,
        };
        context.core.after(wait, Event::Control(event));
    }

    /// The process is dead, or has lost its Lease.
    pub fn stop(&mut self, context: &mut Context<'_>) {
        self.sink.stop();
        self.node = None;
        self.life += 1;
        self.busy = false;
        self.watch = None;
        self.binder = None;
        self.watcher = None;
        for client in self.clients.drain(..) {
            context.drop_client(client);
        }
    }

    /// Pods that fit nowhere, with the reason. Shape: by UID.
    pub fn unschedulable(&self) -> impl Iterator<Item = (PodUid, &str)> {
        self.stuck
            .iter()
            .map(|(pod, stuck)| (*pod, stuck.reason.as_str()))
    }

    /// Pods assigned to each node, by name, in the order of registration.
    pub fn assigned(&self) -> impl Iterator<Item = (&Rc<str>, u32)> {
        self.slots.iter().map(|slot| (&slot.name, slot.pods))
    }

    /// A node became ready or stopped being ready.
    pub fn node_ready(&mut self, node: NodeIndex, ready: bool, context: &mut Context<'_>) {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.node == node) else {
            return;
        };
        if slot.ready != ready {
            slot.ready = ready;
            if ready {
                self.room_appeared(context);
            }
        }
    }

    /// The informer of Pods got changes.
    pub fn watch(&mut self, watch: WatchId, change: &Change, context: &mut Context<'_>) {
        if self.watch != Some(watch) {
            return;
        }
        match change {
            Change::Pod(pod) => self.pod_changed(pod, context),
            Change::PodGone(pod) => self.pod_gone(pod.uid, context),
            Change::Closed(_) => self.list_again(context),
            _ => {}
        }
    }

    fn pod_gone(&mut self, pod: PodUid, context: &mut Context<'_>) {
        self.release(pod);
        self.stuck.remove(&pod);
        if let Some(known) = self.known.get_mut(pod.index()) {
            *known = None;
        }
        self.room_appeared(context);
    }

    fn pod_changed(&mut self, pod: &Rc<Pod>, context: &mut Context<'_>) {
        let index = pod.uid.index();
        if self.known.len() <= index {
            self.known.resize(index + 1, None);
        }
        let new = self.known[index].is_none();
        let known = self.known[index].get_or_insert_with(|| Known {
            pod: pod.clone(),
            slot: None,
            attempts: 0,
        });
        known.pod = pod.clone();
        if pod.is_terminal() {
            self.release(pod.uid);
            self.stuck.remove(&pod.uid);
            return self.room_appeared(context);
        }
        if let Some(name) = &pod.node_name {
            self.stuck.remove(&pod.uid);
            let slot = self.by_name.get(name).copied();
            if self.known[index]
                .as_ref()
                .is_some_and(|known| known.slot != slot)
            {
                self.release(pod.uid);
                if let Some(slot) = slot {
                    self.assume(pod.uid, slot);
                }
            }
            return;
        }
        if new && pod.deletion.is_none() {
            self.queue.push_back(pod.uid);
            self.next(context);
        }
    }

    fn spread_key(pod: &Pod) -> Option<(OwnerKind, u32)> {
        let owner = pod.owner.as_ref()?;
        (owner.kind != OwnerKind::Job).then_some((owner.kind, owner.index))
    }

    fn assume(&mut self, pod: PodUid, slot: usize) {
        let slots = self.slots.len();
        let Some(known) = self.known[pod.index()].as_mut() else {
            return;
        };
        known.slot = Some(slot);
        self.slots[slot].pods += 1;
        if let Some(key) = Self::spread_key(&known.pod) {
            let counts = self.spread.entry(key).or_default();
            counts.resize(slots, 0);
            counts[slot] += 1;
        }
    }

    fn release(&mut self, pod: PodUid) {
        let Some(Some(known)) = self.known.get_mut(pod.index()) else {
            return;
        };
        let Some(slot) = known.slot.take() else {
            return;
        };
        self.slots[slot].pods -= 1;
        if let Some(key) = Self::spread_key(&known.pod)
            && let Some(counts) = self.spread.get_mut(&key)
        {
            counts[slot] -= 1;
        }
    }

    fn next(&mut self, context: &mut Context<'_>) {
        if self.busy || self.binder.is_none() {
            return;
        }
        while let Some(pod) = self.queue.pop_front() {
            let waiting = self
                .known
                .get(pod.index())
                .and_then(Option::as_ref)
                .is_some_and(|known| {
                    known.slot.is_none()
                        && known.pod.node_name.is_none()
                        && known.pod.deletion.is_none()
                        && !known.pod.is_terminal()
                });
            if waiting {
                self.busy = true;
                let cycle = context.core.parameters.sched.cycle;
                let event = ControlEvent::Cycle {
                    pod,
                    life: self.life,
                };
                context.core.after(cycle, Event::Control(event));
                return;
            }
        }
    }

    /// A cycle ends, a back-off is over, or the reflector watches again.
    pub fn handle(&mut self, event: ControlEvent, context: &mut Context<'_>) {
        match event {
            ControlEvent::Cycle { pod, life } if life == self.life => self.cycle_ends(pod, context),
            ControlEvent::BackedOff { pod, life } if life == self.life => {
                let returned = self.stuck.remove(&pod).is_some();
                self.queue.extend(returned.then_some(pod));
                self.next(context);
            }
            ControlEvent::WatchAgain {
                role: Role::Scheduler,
                life,
            } if life == self.life => {
                self.list_pods(Consistency::Quorum, context);
            }
            _ => {}
        }
    }

    fn cycle_ends(&mut self, pod: PodUid, context: &mut Context<'_>) {
        self.busy = false;
        let Some(Some(known)) = self.known.get_mut(pod.index()) else {
            return self.next(context);
        };
        known.attempts += 1;
        let known = known.clone();
        match self.choose(&known, context) {
            Ok(slot) => {
                self.assume(pod, slot);
                let node_name = self.slots[slot].name.clone();
                let request = Request::BindPod { pod, node_name };
                if let Some(binder) = self.binder {
                    context.call(binder, request, ReplyTo::Scheduler { pod: Some(pod) });
                }
                let cpu = context.core.parameters.sched.cpu_per_pod;
                if let Some(node) = self.node
                    && !cpu.is_zero()
                {
                    context.cpu(node, cpu, CpuToken::Nobody);
                }
            }
            Err(reason) => {
                self.sink.emit(context);
                self.set_aside(pod, reason, false, context);
            }
        }
        self.next(context);
    }

    /// Sets a Pod aside; with `returning` it comes back after its back-off even if nothing changes.
    fn set_aside(
        &mut self,
        pod: PodUid,
        reason: String,
        returning: bool,
        context: &mut Context<'_>,
    ) {
        let sched = &context.core.parameters.sched;
        let attempts = self.known[pod.index()]
            .as_ref()
            .map_or(1, |known| known.attempts.max(1));
        let wait = sched
            .backoff_initial
            .saturating_mul(1u32 << (attempts - 1).min(16))
            .min(sched.backoff_max);
        let not_before = context.now() + wait;
        self.stuck.insert(
            pod,
            Stuck {
                reason,
                not_before,
                returning,
            },
        );
        if returning {
            let event = ControlEvent::BackedOff {
                pod,
                life: self.life,
            };
            context.core.after(wait, Event::Control(event));
        }
    }

    fn room_appeared(&mut self, context: &mut Context<'_>) {
        let now = context.now();
        for (pod, stuck) in &mut self.stuck {
            if !std::mem::replace(&mut stuck.returning, true) {
                let event = ControlEvent::BackedOff {
                    pod: *pod,
                    life: self.life,
                };
                context
                    .core
                    .queue
                    .at(stuck.not_before.max(now), Event::Control(event));
            }
        }
    }

    /// The node for a Pod, or why there is none.
    fn choose(&self, known: &Known, context: &mut Context<'_>) -> Result<usize, String> {
        let parameters = context.core.parameters;
        let feasible = self.feasible(&known.pod, parameters)?;
        let counts = Self::spread_key(&known.pod).map(|key| self.spread.get(&key));
        let count = |slot: usize| {
            counts
                .flatten()
                .map_or(0, |counts| counts.get(slot).copied().unwrap_or(0))
        };
        let weight = ln_milli(feasible.len() as u64 + 2);
        let skew = (parameters.sched.max_skew.max(1) - 1) * 1000;
        let raw = |slot: usize| (u64::from(count(slot)) * weight + skew + 500) / 1000;
        let highest = feasible.iter().map(|slot| raw(*slot)).max().unwrap_or(0);
        let lowest = feasible.iter().map(|slot| raw(*slot)).min().unwrap_or(0);
        let score = |slot: usize| {
            let spread = match counts {
                None => 0,
                Some(_) if highest == 0 => 100,
                Some(_) => 100 * (highest + lowest - raw(slot)) / highest,
            };
            spread * SPREAD_WEIGHT + least_allocated(&self.slots[slot], parameters)
        };
        let best = feasible.iter().map(|slot| score(*slot)).max().unwrap_or(0);
        let tied: Vec<usize> = feasible
            .into_iter()
            .filter(|slot| score(*slot) == best)
            .collect();
        let entity = known.pod.entity.wrapping_add(u64::from(known.attempts));
        let mut draws = context.core.streams.stream("scheduler", entity, "tie");
        Ok(*draws.pick(&tied))
    }

    fn feasible(&self, pod: &Pod, parameters: &Parameters) -> Result<Vec<usize>, String> {
        let kubelet = &parameters.node_side.kubelet;
        let room = (kubelet.max_pods - kubelet.system_pods) as u32;
        let takes_pods = parameters.cluster.masters_take_pods;
        let (mut full, mut unready, mut unwanted, mut tainted) = (0, 0, 0, 0);
        let mut feasible = Vec::with_capacity(self.slots.len());
        for (index, slot) in self.slots.iter().enumerate() {
            if !slot.ready {
                unready += 1;
            } else if slot.control_plane && !takes_pods {
                tainted += 1;
            } else if !selected(&pod.spec.node_selector, slot) {
                unwanted += 1;
            } else if slot.pods >= room {
                full += 1;
            } else {
                feasible.push(index);
            }
        }
        if feasible.is_empty() {
            return Err(format!(
                "0/{} nodes are available: {full} too many pods, {unready} not ready, {unwanted} didn't match \
                 the Pod's node selector{}",
                self.slots.len(),
                match tainted {
                    0 => String::new(),
                    _ => format!(", {tainted} had the control plane's taint"),
                }
            ));
        }
        Ok(feasible)
    }

    /// A bind POST, or the list, ended.
    pub fn response(
        &mut self,
        pod: Option<PodUid>,
        response: &Response,
        context: &mut Context<'_>,
    ) {
        let Some(pod) = pod else {
            return self.listed(response, context);
        };
        if response.is_ok() {
            return self.sink.emit(context);
        }
        let unbound = self
            .known
            .get(pod.index())
            .and_then(Option::as_ref)
            .is_some_and(|known| known.pod.node_name.is_none());
        if unbound {
            self.release(pod);
            self.set_aside(pod, "its binding failed".to_owned(), true, context);
        }
    }

    /// The event that was under way ended.
    pub fn event_sent(&mut self, context: &mut Context<'_>) {
        self.sink.sent(context);
    }
}

/// Whether a node has the labels that every kubelet and kubeadm set.
fn selected(selector: &[(Rc<str>, Rc<str>)], slot: &Slot) -> bool {
    selector.iter().all(|(key, value)| match &**key {
        "kubernetes.io/hostname" => *value == slot.name,
        "kubernetes.io/os" => &**value == "linux",
        "kubernetes.io/arch" => &**value == "amd64",
        "node-role.kubernetes.io/control-plane" => value.is_empty() && slot.control_plane,
        _ => false,
    })
}

/// LeastAllocated: the mean of the free shares of CPU and memory, 0 to 100.
fn least_allocated(slot: &Slot, parameters: &Parameters) -> u64 {
    let after = u64::from(slot.pods) + 1;
    let free =
        |capacity: u64, each: u64| capacity.saturating_sub(after * each) * 100 / capacity.max(1);
    let cpu = free(parameters.cores_of(slot.control_plane).0, POD_CPU);
    let memory = free(parameters.sched.node_memory, POD_MEMORY);
    u64::midpoint(cpu, memory)
}

/// Natural logarithm in thousandths, by repeated squaring in fixed point.
fn ln_milli(value: u64) -> u64 {
    const ONE: u64 = 1 << 32;
    /// ln 2 in millionths.
    const LN_2: u64 = 693_147;
    let whole = u64::from(value.max(1).ilog2());
    let mut mantissa = (value.max(1) << 32) >> whole;
    let mut fraction = 0u64;
    for bit in 1..=16 {
        mantissa = ((u128::from(mantissa) * u128::from(mantissa)) >> 32) as u64;
        if mantissa >= 2 * ONE {
            mantissa >>= 1;
            fraction |= 1 << (16 - bit);
        }
    }
    ((whole << 16) + fraction) * LN_2 / (1000 << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_right_to_a_thousandth() {
        for (value, milli) in [(1, 0), (2, 693), (5, 1609), (12, 2484), (102, 4624)] {
            assert!(
                ln_milli(value).abs_diff(milli) <= 1,
                "ln {value} = {}",
                ln_milli(value)
            );
        }
    }

    #[test]
    fn a_full_node_scores_nothing_for_free_resources() {
        let parameters = Parameters::profile("measured").unwrap();
        let score = |pods| {
            let slot = Slot {
                name: "node".into(),
                node: NodeIndex(0),
                control_plane: false,
                pods,
                ready: true,
            };
            least_allocated(&slot, &parameters)
        };
        assert_eq!(score(100), 0);
        assert!(score(0) > score(1));
    }
}
