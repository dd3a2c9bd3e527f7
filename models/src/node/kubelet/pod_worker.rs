//! The worker of one Pod: sync after sync, at most one update pending. A sync waits for a snapshot
//! newer than the last sync, writes the status, mounts, makes what is missing (sandbox, container).
//! Nothing cancels a sync that runs, not even the Pod's deletion.
//! Source: kubernetes v1.26.5 `pkg/kubelet/pod_workers.go:720-1197`, `pkg/kubelet/kubelet.go:1630-1853`,
//! `pkg/kubelet/kuberuntime/kuberuntime_manager.go:678-970`.

use std::rc::Rc;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::context::Context;
use crate::event::NodeToken;
use crate::ids::{ContainerId, PodUid};
use crate::node::containerd::{ContainerState, CriKind, CriResult};
use crate::node::{Node, Signal};
use crate::objects::{Phase, Pod, PodStatus};
use crate::observation::{Observation, PodStage};

/// What a worker waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
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
pub(crate) struct Worker {
    pub(crate) pod: Rc<Pod>,
    pub(crate) step: Step,
    pub(crate) ticket: u32,
    /// An update arrived while a sync ran.
    pub(crate) pending: bool,
    /// The Pod must stop (deleted, gone, or its workload ended).
    pub(crate) stopping: bool,
    /// The object is gone.
    pub(crate) gone: bool,
    /// End of the last sync.
    pub(crate) synced_at: Option<SimInstant>,
    /// The first sync paid its CPU.
    pub(crate) paid_first: bool,
    pub(crate) mounted: bool,
    pub(crate) has_token: bool,
    pub(crate) volumes_since: SimInstant,
    pub(crate) mount_backoff: Duration,
    /// Sandboxes still to be stopped in this round.
    pub(crate) to_stop: Vec<ContainerId>,
    /// Its container was started: what its start still waits for is its status.
    pub(crate) started: bool,
    /// The API shows it Running.
    pub(crate) visible: bool,
}

impl Worker {
    /// A worker that has not synced yet.
    pub(crate) fn new(pod: Rc<Pod>) -> Self {
        Self {
            started: false,
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
    pub(crate) fn over(pod: Rc<Pod>) -> Self {
        Self {
            step: Step::Over,
            ..Self::new(pod)
        }
    }

    /// Nothing of the Pod runs or will run here.
    pub(crate) fn is_over(&self) -> bool {
        self.step == Step::Over
    }
}

impl Node {
    /// The worker of a Pod that is known to have one.
    pub(crate) fn worker_mut(&mut self, pod: PodUid) -> &mut Worker {
        self.kubelet
            .workers
            .get_mut(&pod)
            .expect("a Pod being synced has its worker")
    }

    /// Moves a worker to a step that a token ends.
    pub(crate) fn worker_enter(&mut self, pod: PodUid, step: Step) -> NodeToken {
        let ticket = self.ticket();
        let worker = self.worker_mut(pod);
        worker.step = step;
        worker.ticket = ticket;
        NodeToken::Worker { pod, ticket }
    }

    /// Something changed: sync now, or right after the sync that runs.
    pub(crate) fn worker_update(&mut self, pod: PodUid, context: &mut Context<'_>) {
        let Some(worker) = self.kubelet.workers.get_mut(&pod) else {
            return;
        };
        match worker.step {
            Step::Idle => self.sync_begin(pod, context),
            Step::Over => {}
            _ => worker.pending = true,
        }
    }

    /// The Pod must stop.
    pub(crate) fn worker_stop(&mut self, pod: PodUid, context: &mut Context<'_>) {
        let worker = self.worker_mut(pod);
        worker.stopping = true;
        if worker.is_over() {
            // Nothing to stop; the status goroutine can delete the object.
            self.status_poke(pod, context);
        } else {
            self.worker_update(pod, context);
        }
    }

    /// A relist finished.
    pub(crate) fn worker_snapshot(&mut self, pod: PodUid, context: &mut Context<'_>) {
        if self
            .kubelet
            .workers
            .get(&pod)
            .is_some_and(|w| w.step == Step::Snapshot)
        {
            self.sync_begin(pod, context);
        }
    }

    /// A wait of a worker ended.
    pub(crate) fn worker_resume(&mut self, pod: PodUid, signal: Signal, context: &mut Context<'_>) {
        let step = self.worker_mut(pod).step;
        match (step, signal) {
            (Step::Idle, _) => self.sync_begin(pod, context),
            (Step::Cpu, _) if self.worker_mut(pod).mounted => self.sync_runtime(pod, context),
            (Step::Cpu, _) => self.volumes_begin(pod, context),
            (Step::VolumeStart, _) => self.volumes_request(pod, context),
            (Step::Token, Signal::Api(response)) => {
                self.volumes_token(pod, response.is_ok(), context);
            }
            // The certificate did not come in time.
            (Step::Certificate, _) => self.volumes_retry(pod, context),
            (Step::VolumePoll, _) => self.volumes_seen(pod, context),
            (Step::Mounted, _) => self.sync_runtime(pod, context),
            (Step::StopOld, Signal::Cri(result)) => self.old_stopped(pod, result, context),
            (Step::Sandbox, Signal::Cri(result)) => self.sandbox_made(pod, result, context),
            (Step::Pull(container), _) => self.create_container(pod, container, context),
            (Step::Create, Signal::Cri(result)) => self.container_created(pod, result, context),
            (Step::Start, Signal::Cri(result)) => self.container_started(pod, result, context),
            (Step::StopContainer, Signal::Cri(result)) => {
                self.container_stopped(pod, result, context);
            }
            (Step::StopSandbox, Signal::Cri(result)) => {
                self.sandbox_stopped_for(pod, result, context);
            }
            (Step::Unmount, _) => self.pod_over(pod, context),
            (step, signal) => unreachable!("a worker in {step:?} does not wait for {signal:?}"),
        }
    }

    /// A sync begins, once the snapshot is newer than the last one.
    pub(crate) fn sync_begin(&mut self, pod: PodUid, context: &mut Context<'_>) {
        let worker = self.worker_mut(pod);
        worker.pending = false;
        let (stopping, synced_at) = (worker.stopping, worker.synced_at);
        if synced_at.is_some_and(|at| !self.kubelet.pleg.is_newer(at)) {
            self.kubelet.pleg.await_newer(pod);
            let _ = self.worker_enter(pod, Step::Snapshot);
            self.stage(pod, PodStage::Relist, context);
        } else if stopping {
            self.terminate_begin(pod, context);
        } else {
            self.sync_body(pod, context);
        }
    }

    /// Status first, then CPU, volumes and the runtime.
    fn sync_body(&mut self, pod: PodUid, context: &mut Context<'_>) {
        let status = self.status_of(pod);
        let ended = matches!(status.phase, Phase::Succeeded | Phase::Failed);
        self.set_status(pod, status, context);
        if ended {
            self.worker_mut(pod).stopping = true;
            return self.terminate_begin(pod, context);
        }
        let parameters = &self.node_side(context).kubelet;
        let worker = self.worker_mut(pod);
        let first = !std::mem::replace(&mut worker.paid_first, true);
        let demand = if first {
            parameters.cpu_first_sync
        } else {
            parameters.cpu_later_sync
        };
        let token = self.worker_enter(pod, Step::Cpu);
        let work_ns = demand.as_nanos() as u64;
        self.stage(pod, PodStage::Kubelet { work_ns }, context);
        self.compute(demand, token, context);
    }

    /// Status of a Pod from what its newest ready sandbox shows.
    pub(crate) fn status_of(&self, pod: PodUid) -> PodStatus {
        let newest = self
            .runtime
            .ready(pod)
            .map(|(_, sandbox)| sandbox)
            .or_else(|| {
                self.runtime
                    .listed(pod)
                    .last()
                    .map(|id| &self.runtime.sandboxes[id])
            });
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
            .map_or(Vec::new(), |s| s.addresses.clone());
        PodStatus {
            phase,
            ready,
            seen_by_kubelet: true,
            pod_ips,
        }
    }

    /// The volumes are there; the look that saw them may have come too late.
    fn volumes_seen(&mut self, pod: PodUid, context: &mut Context<'_>) {
        let limit = self.node_side(context).kubelet.volume_timeout;
        let waited = context.now() - self.worker_mut(pod).volumes_since;
        if waited > limit {
            return self.sync_failed(pod, "volumes timed out", context);
        }
        let demand = self.node_side(context).kubelet.cpu_mount;
        let token = self.worker_enter(pod, Step::Mounted);
        let work_ns = demand.as_nanos() as u64;
        self.stage(pod, PodStage::Kubelet { work_ns }, context);
        self.compute(demand, token, context);
    }

    /// The runtime part: what is listed decides what is made.
    fn sync_runtime(&mut self, pod: PodUid, context: &mut Context<'_>) {
        if let Some((container, sandbox)) = self.runtime.ready(pod) {
            return match sandbox.workload {
                ContainerState::None => self.ensure_image(pod, container, context),
                ContainerState::Created => self.start_container(pod, container, context),
                ContainerState::Running | ContainerState::Exited { .. } => {
                    self.sync_done(pod, true, context);
                }
            };
        }
        let listed = self.runtime.listed(pod).to_vec();
        if listed.is_empty() {
            self.run_sandbox(pod, 0, context);
        } else {
            // Newest last in the list, so newest stopped first.
            self.worker_mut(pod).to_stop = listed;
            self.stage(pod, PodStage::Cleanup, context);
            self.stop_old(pod, context);
        }
    }

    /// Stops one old sandbox after another; then a new one gets the next attempt.
    fn stop_old(&mut self, pod: PodUid, context: &mut Context<'_>) {
        if let Some(container) = self.worker_mut(pod).to_stop.pop() {
            let token = self.worker_enter(pod, Step::StopOld);
            return self.cri(CriKind::Stop, container, Duration::ZERO, token, context);
        }
        let sandboxes = &self.runtime.sandboxes;
        let listed = self.runtime.listed(pod);
        let newest = listed.iter().map(|id| sandboxes[id].attempt).max();
        self.run_sandbox(pod, newest.map_or(0, |attempt| attempt + 1), context);
    }

    fn old_stopped(&mut self, pod: PodUid, result: CriResult, context: &mut Context<'_>) {
        match result {
            Ok(_) => self.stop_old(pod, context),
            Err(error) => {
                self.worker_mut(pod).to_stop.clear();
                self.sync_failed(pod, error.0, context);
            }
        }
    }

    fn run_sandbox(&mut self, pod: PodUid, attempt: u32, context: &mut Context<'_>) {
        let object = Rc::clone(&self.worker_mut(pod).pod);
        let token = self.worker_enter(pod, Step::Sandbox);
        self.run_pod_sandbox(object, attempt, token, context);
    }

    fn sandbox_made(&mut self, pod: PodUid, result: CriResult, context: &mut Context<'_>) {
        match result {
            Ok(container) => self.ensure_image(pod, container, context),
            Err(error) => self.sync_failed(pod, error.0, context),
        }
    }

    /// A present image costs nothing; a policy of Always asks the registry, one Pod at a time.
    fn ensure_image(&mut self, pod: PodUid, container: ContainerId, context: &mut Context<'_>) {
        let parameters = &self.node_side(context).kubelet;
        let always = parameters.pull_always || self.worker_mut(pod).pod.spec.pull_always;
        if !always {
            return self.create_container(pod, container, context);
        }
        let now = context.now();
        let pulls = self
            .kubelet
            .pulls
            .as_mut()
            .expect("a running kubelet has its puller");
        let done = pulls.submit(now, parameters.image_pull);
        let token = self.worker_enter(pod, Step::Pull(container));
        self.stage(pod, PodStage::ImagePull, context);
        self.wait(done - now, token, context);
    }

    fn create_container(&mut self, pod: PodUid, container: ContainerId, context: &mut Context<'_>) {
        self.record_event(context);
        let token = self.worker_enter(pod, Step::Create);
        self.cri(CriKind::Create, container, Duration::ZERO, token, context);
    }

    fn container_created(&mut self, pod: PodUid, result: CriResult, context: &mut Context<'_>) {
        match result {
            Ok(container) => {
                self.record_event(context);
                self.start_container(pod, container, context);
            }
            Err(error) => self.sync_failed(pod, error.0, context),
        }
    }

    fn start_container(&mut self, pod: PodUid, container: ContainerId, context: &mut Context<'_>) {
        let token = self.worker_enter(pod, Step::Start);
        self.cri(CriKind::Start, container, Duration::ZERO, token, context);
    }

    fn container_started(&mut self, pod: PodUid, result: CriResult, context: &mut Context<'_>) {
        match result {
            Ok(_) => {
                self.record_event(context);
                self.stage(pod, PodStage::Relist, context);
                self.worker_mut(pod).started = true;
                self.sync_done(pod, true, context);
            }
            Err(error) => self.sync_failed(pod, error.0, context),
        }
    }

    /// The sync failed: an Event, then a pause.
    pub(crate) fn sync_failed(
        &mut self,
        pod: PodUid,
        reason: &'static str,
        context: &mut Context<'_>,
    ) {
        let node = self.index;
        context
            .core
            .observe(Observation::SandboxFailed { node, pod, reason });
        self.record_event(context);
        self.sync_done(pod, false, context);
    }

    /// A sync ended: at once again if an update is pending, else after resync or back-off, at the
    /// next tick of the sync loop.
    pub(crate) fn sync_done(&mut self, pod: PodUid, ok: bool, context: &mut Context<'_>) {
        let now = context.now();
        let worker = self.worker_mut(pod);
        worker.synced_at = Some(now);
        if worker.pending {
            return self.sync_begin(pod, context);
        }
        let object = Rc::clone(&worker.pod);
        let parameters = &self.node_side(context).kubelet;
        let span = if ok {
            parameters.resync
        } else {
            parameters.backoff
        };
        let delay = self.draw(&object, span, context);
        let at = self.tick_after(now + delay, context);
        let token = self.worker_enter(pod, Step::Idle);
        if !ok {
            self.stage(pod, PodStage::RetryDelay, context);
        }
        self.wake_at(at, token, context);
    }
}
