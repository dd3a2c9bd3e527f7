//! The status goroutine: one channel, one 10 s ticker, one update at a time (GET, then PATCH, on
//! the kubelet's limiter). A tick takes the newest status of every Pod that is behind, so under a
//! backlog two statuses merge into one. It also deletes the objects of Pods that are over.
//! Source: kubernetes v1.26.5 `pkg/kubelet/status/status_manager.go:133-742`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use crate::context::Context;
use crate::event::{NodeEvent, NodeToken};
use crate::ids::PodUid;
use crate::node::desk::{Desk, KubeletDesk, Signal, node_side};
use crate::objects::{Phase, PodStatus};
use crate::observation::{Observation, PodStage};
use crate::request::{Answer, Consistency, Request, Response};

use super::{Kubelet, is_not_found};

/// What the goroutine waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// Its channel or its ticker.
    #[default]
    Idle,
    /// CPU of an update.
    Cpu,
    /// GET Pod.
    Get,
    /// PATCH pods/status.
    Patch,
    /// DELETE Pod.
    Delete,
}

/// A status at a version.
#[derive(Clone, Debug)]
struct Versioned {
    version: u64,
    status: PodStatus,
}

/// The goroutine and its cache.
#[derive(Debug, Default)]
pub(super) struct StatusManager {
    pub(super) ticket: u32,
    step: Step,
    /// Newest status of each Pod.
    cache: BTreeMap<PodUid, Versioned>,
    /// Version last written for each Pod.
    written: BTreeMap<PodUid, u64>,
    /// Pods whose newest version is not written, or whose object may be deleted.
    behind: BTreeSet<PodUid>,
    channel: VecDeque<(PodUid, Versioned)>,
    batch: VecDeque<(PodUid, Versioned)>,
    current: Option<(PodUid, Versioned)>,
    /// The ticker's channel holds a tick.
    ticked: bool,
    /// Updates sent (PATCH).
    pub(super) patch_count: u64,
}

impl Kubelet {
    /// Sets the status of a Pod; one that is equal to the last is nothing new.
    pub(super) fn set_status(
        &mut self,
        pod: PodUid,
        status: PodStatus,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        if status.phase == Phase::Running {
            self.status_stage(pod, PodStage::StatusQueue, context);
        }
        let manager = &mut self.status;
        let version = match manager.cache.get(&pod) {
            Some(cached) if cached.status == status => return,
            Some(cached) => cached.version + 1,
            None => 1,
        };
        let versioned = Versioned { version, status };
        manager.cache.insert(pod, versioned.clone());
        manager.behind.insert(pod);
        self.status_send(pod, versioned, desk, context);
    }

    /// The start of a Pod waits for its status, until the API shows it Running.
    fn status_stage(&self, pod: PodUid, stage: PodStage, context: &mut Context<'_>) {
        let worker = self.workers.get(&pod);
        if worker.is_some_and(|worker| !worker.visible) {
            context.core.observe(Observation::PodStage { pod, stage });
        }
    }

    /// The update under way is the one that a Pod's start waits for.
    fn status_step(&self, stage: PodStage, context: &mut Context<'_>) {
        let (pod, versioned) = self.status_current();
        if versioned.status.phase == Phase::Running {
            self.status_stage(*pod, stage, context);
        }
    }

    /// The Pod is over (or its deletion was asked for): look whether its object can be deleted.
    pub(super) fn status_poke(
        &mut self,
        pod: PodUid,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        if !self.status_deletable(pod) {
            return;
        }
        let manager = &mut self.status;
        manager.behind.insert(pod);
        if let Some(versioned) = manager.cache.get(&pod).cloned() {
            self.status_send(pod, versioned, desk, context);
        } else {
            // A kubelet that restarted knows only what the API shows.
            let status = self.worker_mut(pod).pod.status.clone();
            self.set_status(pod, status, desk, context);
        }
    }

    /// The phase that this kubelet last gave to a Pod, else the one that the API shows.
    pub(super) fn known_phase(&self, pod: PodUid) -> Phase {
        if let Some(known) = self.status.cache.get(&pod) {
            return known.status.phase;
        }
        let worker = self.workers.get(&pod);
        worker.map_or(Phase::Pending, |worker| worker.pod.status.phase)
    }

    /// The Pod's object is gone.
    pub(super) fn status_forget(&mut self, pod: PodUid) {
        let manager = &mut self.status;
        manager.cache.remove(&pod);
        manager.written.remove(&pod);
        manager.behind.remove(&pod);
    }

    /// A full channel drops the update: the next tick finds it.
    fn status_send(
        &mut self,
        pod: PodUid,
        versioned: Versioned,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let capacity = node_side(context).kubelet.status_channel as usize;
        let manager = &mut self.status;
        if manager.channel.len() < capacity {
            manager.channel.push_back((pod, versioned));
        }
        if manager.step == Step::Idle && manager.current.is_none() {
            self.status_next(desk, context);
        }
    }

    /// The ticker fires; a tick that finds one waiting is lost.
    pub(super) fn status_tick(&mut self, desk: &mut KubeletDesk<'_>, context: &mut Context<'_>) {
        let period = node_side(context).kubelet.status_period;
        desk.later(period, NodeEvent::StatusTick { life: self.life }, context);
        let manager = &mut self.status;
        manager.ticked = true;
        if manager.step == Step::Idle && manager.current.is_none() {
            self.status_next(desk, context);
        }
    }

    /// Takes the next update: the rest of a batch, else the channel or the ticker, by chance when
    /// both are ready.
    fn status_next(&mut self, desk: &mut KubeletDesk<'_>, context: &mut Context<'_>) {
        loop {
            let manager = &mut self.status;
            manager.step = Step::Idle;
            manager.current = None;
            let item = if let Some(item) = manager.batch.pop_front() {
                item
            } else {
                let (channel, ticked) = (!manager.channel.is_empty(), manager.ticked);
                let tick = match (channel, ticked) {
                    (false, false) => return,
                    (true, true) => desk.stream().chance(1, 2),
                    (_, ticked) => ticked,
                };
                if tick {
                    self.status_batch(desk);
                    continue;
                }
                let manager = &mut self.status;
                manager
                    .channel
                    .pop_front()
                    .expect("the channel is not empty")
            };
            if self.status_needed(item.0, &item.1) {
                return self.status_update(item, desk, context);
            }
        }
    }

    /// A tick: drain the channel, take the newest status of every Pod that is behind, in an order
    /// that chance decides.
    fn status_batch(&mut self, desk: &mut KubeletDesk<'_>) {
        self.status.ticked = false;
        self.status.channel.clear();
        let behind: Vec<PodUid> = self.status.behind.iter().copied().collect();
        let mut order = Vec::with_capacity(behind.len());
        for pod in behind {
            let Some(worker) = self.workers.get(&pod) else {
                continue;
            };
            let object = Rc::clone(&worker.pod);
            order.push((desk.draw_order(&object), pod));
        }
        order.sort_unstable();
        let manager = &mut self.status;
        for (_, pod) in order {
            if let Some(versioned) = manager.cache.get(&pod) {
                manager.batch.push_back((pod, versioned.clone()));
            }
        }
    }

    /// The object may be deleted: its deletion was asked for, and nothing of it is left here.
    fn status_deletable(&self, pod: PodUid) -> bool {
        self.workers
            .get(&pod)
            .is_some_and(|worker| worker.is_over() && worker.pod.deletion.is_some() && !worker.gone)
    }

    fn status_needed(&self, pod: PodUid, versioned: &Versioned) -> bool {
        let written = self.status.written.get(&pod).copied().unwrap_or(0);
        self.workers.contains_key(&pod)
            && (written < versioned.version || self.status_deletable(pod))
    }

    fn status_update(
        &mut self,
        item: (PodUid, Versioned),
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let before = self.status.current.replace(item);
        assert!(before.is_none(), "one update at a time");
        let demand = node_side(context).kubelet.cpu_status;
        let work_ns = demand.as_nanos() as u64;
        self.status_step(PodStage::StatusCpu { work_ns }, context);
        let token = self.status_enter(Step::Cpu, desk);
        if demand.is_zero() {
            // Before the sync goes on that set the status.
            return self.status_get(desk, context);
        }
        desk.compute(demand, token, context);
    }

    /// A wait of the goroutine ended.
    pub(super) fn status_resume(
        &mut self,
        signal: Signal,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        match (self.status.step, signal) {
            (Step::Cpu, _) => self.status_get(desk, context),
            (Step::Get, Signal::Api(response)) => self.status_got(response, desk, context),
            (Step::Patch, Signal::Api(response)) => self.status_patched(&response, desk, context),
            // Deleted or not: the watch tells, and the next tick tries again.
            (Step::Delete, Signal::Api(_)) => self.status_next(desk, context),
            (step, signal) => unreachable!("the status goroutine in {step:?} got {signal:?}"),
        }
    }

    fn status_get(&mut self, desk: &mut KubeletDesk<'_>, context: &mut Context<'_>) {
        let pod = self.status_current().0;
        let Some(worker) = self.workers.get(&pod) else {
            return self.status_next(desk, context);
        };
        let request = Request::GetPod {
            namespace: Rc::clone(&worker.pod.namespace),
            name: Rc::clone(&worker.pod.name),
            consistency: Consistency::Quorum,
        };
        let token = self.status_enter(Step::Get, desk);
        let limited_ns = self.call(request, token, desk, context);
        self.status_step(PodStage::StatusRequest { limited_ns }, context);
    }

    fn status_got(
        &mut self,
        response: Response,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let (pod, versioned) = self.status_current().clone();
        match response {
            Ok(Answer::Pod(object)) if object.uid == pod => {
                if object.status == versioned.status {
                    return self.status_written(desk, context);
                }
                self.status.patch_count += 1;
                let token = self.status_enter(Step::Patch, desk);
                let status = versioned.status;
                let request = Request::PatchPodStatus { pod, status };
                let limited_ns = self.call(request, token, desk, context);
                self.status_step(PodStage::StatusRequest { limited_ns }, context);
            }
            // Another Pod has the name now.
            Ok(_) => {
                self.status_forget(pod);
                self.status_next(desk, context);
            }
            Err(error) => {
                if is_not_found(error) {
                    self.status.behind.remove(&pod);
                }
                self.status_next(desk, context);
            }
        }
    }

    fn status_patched(
        &mut self,
        response: &Response,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        if response.is_ok() {
            self.status_written(desk, context);
        } else {
            self.status_next(desk, context);
        }
    }

    /// The API has this version; delete the object if it may be.
    fn status_written(&mut self, desk: &mut KubeletDesk<'_>, context: &mut Context<'_>) {
        let (pod, version) = (self.status_current().0, self.status_current().1.version);
        if self.status_current().1.status.phase == Phase::Running
            && let Some(worker) = self.workers.get_mut(&pod)
        {
            worker.visible = true;
        }
        let deletable = self.status_deletable(pod);
        let manager = &mut self.status;
        if let Some(newest) = manager.cache.get(&pod) {
            manager.written.insert(pod, version);
            if newest.version == version && !deletable {
                manager.behind.remove(&pod);
            }
        }
        if !deletable {
            return self.status_next(desk, context);
        }
        let token = self.status_enter(Step::Delete, desk);
        let request = Request::DeletePod {
            pod,
            grace: Some(Duration::ZERO),
        };
        self.call(request, token, desk, context);
    }

    fn status_current(&self) -> &(PodUid, Versioned) {
        self.status
            .current
            .as_ref()
            .expect("a busy status goroutine has its update")
    }

    fn status_enter(&mut self, step: Step, desk: &mut Desk) -> NodeToken {
        let ticket = desk.ticket();
        self.status.step = step;
        self.status.ticket = ticket;
        NodeToken::Status { ticket }
    }
}
