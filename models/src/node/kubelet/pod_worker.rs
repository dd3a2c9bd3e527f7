//! The worker of one Pod: sync after sync, at most one update pending. A sync waits for a snapshot
//! newer than the last sync, writes the status, mounts, makes what is missing (sandbox, container).
//! Nothing cancels a sync that runs, not even the Pod's deletion.
//! Source: kubernetes v1.26.5 `pkg/kubelet/pod_workers.go:720-1197`,
//! `pkg/kubelet/kubelet.go:1630-1853`, `pkg/kubelet/kuberuntime/kuberuntime_manager.go:678-970`.

use std::rc::Rc;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::context::Context;
use crate::event::NodeToken;
use crate::ids::{ContainerId, PodUid};
use crate::node::cri::{ContainerState, RuntimeService};
use crate::node::desk::{Desk, KubeletDesk, Signal, node_side};
use crate::objects::{Phase, Pod, PodStatus};
use crate::observation::{Observation, PodStage};

use super::Kubelet;

/// What a worker waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The next update, or the next resync or retry.
    Idle,
    /// A snapshot newer than its last sync.
    Snapshot,
    /// CPU of a sync.
    Cpu,
    /// The volume loops, or the back-off of a mount.
    VolumeStart,
    /// TokenRequest.
    Token,
    /// The root certificate.
    Certificate,
    /// The next look at its volumes.
    VolumePoll,
    /// CPU between its volumes and its sandbox.
    Mounted,
    /// StopPodSandbox of an old sandbox, before a new one.
    StopOld,
    /// RunPodSandbox.
    Sandbox,
    /// PullImage.
    Pull(ContainerId),
    /// CreateContainer.
    Create,
    /// StartContainer.
    Start,
    /// Terminating: StopContainer.
    StopContainer,
    /// Terminating: StopPodSandbox.
    StopSandbox,
    /// Terminating: volumes and cgroup.
    Unmount,
    /// Nothing: the Pod is over here.
    Over,
}

/// A worker.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that hold independently of each other"
)]
pub(super) struct Worker {
    pub(super) pod: Rc<Pod>,
    pub(super) step: Step,
    pub(super) ticket: u32,
    /// An update arrived while a sync ran.
    pub(super) pending: bool,
    /// The Pod must stop (deleted, gone, or its workload ended).
    pub(super) stopping: bool,
    /// The object is gone.
    pub(super) gone: bool,
    /// End of the last sync.
    pub(super) synced_at: Option<SimInstant>,
    /// The first sync paid its CPU.
    pub(super) paid_first: bool,
    pub(super) mounted: bool,
    pub(super) has_token: bool,
    pub(super) volumes_since: SimInstant,
    pub(super) mount_backoff: Duration,
    /// Sandboxes still to be stopped in this round.
    pub(super) to_stop: Vec<ContainerId>,
    /// The API shows it Running.
    pub(super) visible: bool,
}

impl Worker {
    /// A worker that has not synced yet.
    pub(super) fn new(pod: Rc<Pod>) -> Self {
        Self {
            visible: pod.status.phase == Phase::Running,
            pod,
            step: Step::Idle,
            ticket: 0,
            pending: false,
            stopping: false,
            gone: false,
            synced_at: None,
            paid_first: false,
            mounted: false,
            has_token: false,
            volumes_since: SimInstant::ZERO,
            mount_backoff: Duration::ZERO,
            to_stop: Vec::new(),
        }
    }

    /// A worker of a Pod that is over already (ended before, or rejected).
    pub(super) fn over(pod: Rc<Pod>) -> Self {
        Self {
            step: Step::Over,
            ..Self::new(pod)
        }
    }

    /// Nothing of the Pod runs or will run here.
    pub(super) fn is_over(&self) -> bool {
        self.step == Step::Over
    }
}

impl Kubelet {
    /// A Pod gets its worker.
    pub(super) fn take_on(&mut self, pod: PodUid, worker: Worker, desk: &mut Desk) {
        let before = self.workers.insert(pod, worker);
        assert!(before.is_none(), "a Pod has one worker");
        desk.starts(pod);
    }

    /// Nothing of a Pod is left here, and its object is gone.
    pub(super) fn let_go(&mut self, pod: PodUid, desk: &mut Desk) {
        let worker = self.workers.remove(&pod);
        let over = worker.is_some_and(|worker| worker.is_over() && worker.gone);
        assert!(over, "only a worker that is over is let go");
        desk.starts_no_more(pod);
        desk.forget_streams(pod);
    }

    /// The worker of a Pod that is known to have one.
    pub(super) fn worker_mut(&mut self, pod: PodUid) -> &mut Worker {
        self.workers
            .get_mut(&pod)
            .expect("a Pod being synced has its worker")
    }

    /// Moves a worker to a step that a token ends.
    pub(super) fn worker_enter(&mut self, pod: PodUid, step: Step, desk: &mut Desk) -> NodeToken {
        let ticket = desk.ticket();
        let worker = self.worker_mut(pod);
        worker.step = step;
        worker.ticket = ticket;
        NodeToken::Worker { pod, ticket }
    }

    /// Something changed: sync now, or right after the sync that runs.
    pub(super) fn worker_update(
        &mut self,
        pod: PodUid,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let Some(worker) = self.workers.get_mut(&pod) else {
            return;
        };
        match worker.step {
            Step::Idle => self.sync_begin(pod, desk, context),
            Step::Over => {}
            _ => worker.pending = true,
        }
    }

    /// The Pod must stop.
    pub(super) fn worker_stop(
        &mut self,
        pod: PodUid,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let worker = self.worker_mut(pod);
        worker.stopping = true;
        if worker.is_over() {
            // Nothing to stop; the status goroutine can delete the object.
            self.status_poke(pod, desk, context);
        } else {
            self.worker_update(pod, desk, context);
        }
    }

    /// A relist finished.
    pub(super) fn worker_snapshot(
        &mut self,
        pod: PodUid,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        if self
            .workers
            .get(&pod)
            .is_some_and(|w| w.step == Step::Snapshot)
        {
            self.sync_begin(pod, desk, context);
        }
    }

    /// A wait of a worker ended.
    pub(super) fn worker_resume(
        &mut self,
        pod: PodUid,
        signal: Signal,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let step = self.worker_mut(pod).step;
        match (step, signal) {
            (Step::Idle, _) => self.sync_begin(pod, desk, context),
            (Step::Cpu, _) if self.worker_mut(pod).mounted => self.sync_runtime(pod, desk, context),
            (Step::Cpu, _) => self.volumes_begin(pod, desk, context),
            (Step::VolumeStart, _) => self.volumes_request(pod, desk, context),
            (Step::Token, Signal::Api(response)) => {
                self.volumes_token(pod, response.is_ok(), desk, context);
            }
            // The certificate did not come in time.
            (Step::Certificate, _) => self.volumes_retry(pod, desk, context),
            (Step::VolumePoll, _) => self.volumes_seen(pod, desk, context),
            (Step::Mounted, _) => self.sync_runtime(pod, desk, context),
            (Step::StopOld, Signal::Cri(result)) => self.old_stopped(pod, result, desk, context),
            (Step::Sandbox, Signal::Cri(result)) => self.sandbox_made(pod, result, desk, context),
            (Step::Pull(container), _) => self.create_container(pod, container, desk, context),
            (Step::Create, Signal::Cri(result)) => {
                self.container_created(pod, result, desk, context);
            }
            (Step::Start, Signal::Cri(result)) => {
                self.container_started(pod, result, desk, context);
            }
            (Step::StopContainer, Signal::Cri(result)) => {
                self.container_stopped(pod, result, desk, context);
            }
            (Step::StopSandbox, Signal::Cri(result)) => {
                self.sandbox_stopped_for(pod, result, desk, context);
            }
            (Step::Unmount, _) => self.pod_over(pod, desk, context),
            (step, signal) => unreachable!("a worker in {step:?} does not wait for {signal:?}"),
        }
    }

    /// A sync begins, once the snapshot is newer than the last one.
    pub(super) fn sync_begin(
        &mut self,
        pod: PodUid,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let worker = self.worker_mut(pod);
        worker.pending = false;
        let (stopping, synced_at) = (worker.stopping, worker.synced_at);
        if synced_at.is_some_and(|at| !self.pleg.is_newer(at)) {
            self.pleg.await_newer(pod);
            let _ = self.worker_enter(pod, Step::Snapshot, desk);
            desk.stage(pod, PodStage::Relist, context);
        } else if stopping {
            self.terminate_begin(pod, desk, context);
        } else {
            self.sync_body(pod, desk, context);
        }
    }

    /// Status first, then CPU, volumes and the runtime.
    fn sync_body(&mut self, pod: PodUid, desk: &mut KubeletDesk<'_>, context: &mut Context<'_>) {
        let status = self.status_of(pod, desk.cri);
        let ended = matches!(status.phase, Phase::Succeeded | Phase::Failed);
        self.set_status(pod, status, desk, context);
        if ended {
            self.worker_mut(pod).stopping = true;
            return self.terminate_begin(pod, desk, context);
        }
        let parameters = &node_side(context).kubelet;
        let worker = self.worker_mut(pod);
        let first = !std::mem::replace(&mut worker.paid_first, true);
        let demand = if first {
            parameters.cpu_first_sync
        } else {
            parameters.cpu_later_sync
        };
        let token = self.worker_enter(pod, Step::Cpu, desk);
        let work_ns = demand.as_nanos() as u64;
        desk.stage(pod, PodStage::Kubelet { work_ns }, context);
        desk.compute(demand, token, context);
    }

    /// Status of a Pod from what its newest ready sandbox shows.
    pub(super) fn status_of(&self, pod: PodUid, cri: &dyn RuntimeService) -> PodStatus {
        let last = || cri.list(pod).last().map(|id| cri.status(*id));
        let newest = cri.ready(pod).map(|(_, status)| status).or_else(last);
        let workload = newest.map_or(ContainerState::None, |sandbox| sandbox.workload);
        let phase = match workload {
            ContainerState::Running => Phase::Running,
            ContainerState::Exited { completed: true } => Phase::Succeeded,
            // Restart policy Always: a Pod that ran stays Running, not ready.
            _ if self.known_phase(pod) == Phase::Running => Phase::Running,
            _ => Phase::Pending,
        };
        let ready = workload == ContainerState::Running;
        let pod_ips = newest
            .filter(|_| ready)
            .map_or(Vec::new(), |s| s.addresses.to_vec());
        PodStatus {
            phase,
            ready,
            seen_by_kubelet: true,
            pod_ips,
        }
    }

    /// The volumes are there; the look that saw them may have come too late.
    fn volumes_seen(&mut self, pod: PodUid, desk: &mut KubeletDesk<'_>, context: &mut Context<'_>) {
        let limit = node_side(context).kubelet.volume_timeout;
        let waited = context.now() - self.worker_mut(pod).volumes_since;
        if waited > limit {
            return self.sync_failed(pod, "volumes timed out", desk, context);
        }
        let demand = node_side(context).kubelet.cpu_mount;
        let token = self.worker_enter(pod, Step::Mounted, desk);
        let work_ns = demand.as_nanos() as u64;
        desk.stage(pod, PodStage::Kubelet { work_ns }, context);
        desk.compute(demand, token, context);
    }

    /// The sync failed: an Event, then a pause.
    pub(super) fn sync_failed(
        &mut self,
        pod: PodUid,
        reason: &'static str,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let node = desk.index;
        context
            .core
            .observe(Observation::SandboxFailed { node, pod, reason });
        self.record_event(desk, context);
        self.sync_done(pod, false, desk, context);
    }

    /// A sync ended: at once again if an update is pending, else after resync or back-off, at the
    /// next tick of the sync loop.
    pub(super) fn sync_done(
        &mut self,
        pod: PodUid,
        ok: bool,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let now = context.now();
        let worker = self.worker_mut(pod);
        worker.synced_at = Some(now);
        if worker.pending {
            return self.sync_begin(pod, desk, context);
        }
        let object = Rc::clone(&worker.pod);
        let parameters = &node_side(context).kubelet;
        let span = if ok {
            parameters.resync
        } else {
            parameters.backoff
        };
        let delay = desk.draw(&object, span);
        let at = self.tick_after(now + delay, context);
        let token = self.worker_enter(pod, Step::Idle, desk);
        if !ok {
            desk.stage(pod, PodStage::RetryDelay, context);
        }
        desk.wake_at(at, token, context);
    }
}
