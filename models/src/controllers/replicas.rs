//! The mechanism that ReplicaSets and Jobs share: count what the informer shows, create what is
//! missing by slow start, wait until the informer has seen the creations, then write the status.
//!
//! Modeled: expectations, batches of 1, 2, 4, …, each concurrent and the next only after the whole
//! batch returned, the cap per sync, deletion of surplus Pods, status writes from the counts at the
//! start of the sync, merged by the queue; one event per creation through one serial goroutine on
//! the same limiter. Not modeled: expiry of expectations after 5 minutes, adoption,
//! minReadySeconds.
//!
//! Source: kubernetes v1.26.5 pkg/controller/replicaset/replica_set.go:195,580,753-777,
//! pkg/controller/replicaset/replica_set_utils.go:37-83, pkg/controller/controller_utils.go:86,582.

use std::collections::BTreeMap;
use std::rc::Rc;

use drydock_engine::stream::Stream;

use crate::client_go::work_queue::WorkQueue;
use crate::context::Context;
use crate::event::{ControlEvent, ControlToken, CpuToken, Event, ReplicasStep};
use crate::ids::{ClientId, NodeIndex, PodUid};
use crate::objects::{Owner, OwnerKind, Phase, Pod, WorkloadObject};
use crate::request::{Change, NewPod, ReplyTo, Request, Response, WorkloadWrite};

use super::event_sink::EventSink;
use super::{PodTemplate, informer_delay, random_suffix};

/// What one object wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// So many Pods, always.
    Replicas(u32),
    /// A Job's Pods.
    Job {
        /// At a time.
        parallelism: u32,
        /// Successes that end it; without, the first success ends it.
        completions: Option<u32>,
    },
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    active: bool,
    ready: bool,
    bound: bool,
}

/// One round of a worker.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// Creations not yet tried.
    remaining: u32,
    batch: u32,
    outstanding: u32,
    failed: bool,
    /// Counts at the start: what the status will say.
    status: Status,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Status {
    replicas: u32,
    ready: u32,
    succeeded: u32,
    observed: bool,
}

#[derive(Debug)]
struct Object {
    wanted: Wanted,
    parent: Option<u32>,
    template: PodTemplate,
    names: Stream,
    pods: BTreeMap<PodUid, Seen>,
    active: u32,
    ready: u32,
    succeeded: u32,
    /// Creations and deletions that the informer has not shown yet.
    expected: u32,
    published: Status,
    round: Round,
    /// The object exists in the API as far as the controller knows.
    known: bool,
}

impl Object {
    fn target(&self) -> u32 {
        match self.wanted {
            Wanted::Replicas(count) => count,
            Wanted::Job {
                parallelism,
                completions: Some(completions),
            } => parallelism.min(completions.saturating_sub(self.succeeded)),
            Wanted::Job {
                parallelism,
                completions: None,
            } => {
                // After a success no Pod is started anymore; running ones end by themselves.
                if self.succeeded > 0 {
                    self.active.min(parallelism)
                } else {
                    parallelism
                }
            }
        }
    }

    fn status(&self) -> Status {
        Status {
            replicas: self.active,
            ready: self.ready,
            succeeded: self.succeeded,
            observed: true,
        }
    }
}

/// A controller of ReplicaSets or of Jobs.
#[derive(Debug)]
pub(super) struct Replicas {
    kind: OwnerKind,
    objects: Vec<Object>,
    queue: WorkQueue,
    client: Option<ClientId>,
    /// The informers are filled: workers may start.
    synced: bool,
    sink: EventSink,
    node: NodeIndex,
}

impl Replicas {
    /// No object yet.
    pub(super) fn new(kind: OwnerKind, workers: u32) -> Self {
        let sink = EventSink::new(kind);
        let queue = WorkQueue::new(workers);
        Self {
            kind,
            objects: Vec::new(),
            queue,
            client: None,
            synced: false,
            sink,
            node: NodeIndex(0),
        }
    }

    /// The process starts with a client of its own; what an earlier one did is forgotten.
    pub(super) fn start(&mut self, node: NodeIndex, client: ClientId) {
        self.client = Some(client);
        self.synced = false;
        self.node = node;
        self.queue.reset();
        self.sink.start(client);
        for (index, object) in self.objects.iter_mut().enumerate() {
            object.pods.clear();
            (object.active, object.ready, object.expected) = (0, 0, 0);
            object.succeeded = 0;
            object.round = Round::default();
            if object.known {
                self.queue.add(index as u32);
            }
        }
    }

    /// The process is dead.
    pub(super) fn stop(&mut self) {
        self.client = None;
        self.synced = false;
        self.sink.stop();
    }

    /// The informers are filled: the workers start.
    pub(super) fn resume(&mut self, context: &mut Context<'_>) {
        self.synced = true;
        self.work(context);
    }

    /// Registers an object that will be created; returns its index.
    pub(super) fn register(
        &mut self,
        wanted: Wanted,
        parent: Option<u32>,
        template: PodTemplate,
        context: &mut Context<'_>,
    ) -> u32 {
        let entity = drydock_engine::stream::Streams::entity(&format!(
            "{}/{}",
            template.namespace, template.name
        ));
        let names = context.core.streams.stream("replicas", entity, "pod names");
        self.objects.push(Object {
            wanted,
            parent,
            template,
            names,
            pods: BTreeMap::new(),
            active: 0,
            ready: 0,
            succeeded: 0,
            expected: 0,
            published: Status::default(),
            round: Round::default(),
            known: false,
        });
        self.objects.len() as u32 - 1
    }

    fn workload(&self, index: u32) -> WorkloadObject {
        match self.kind {
            OwnerKind::Job => WorkloadObject::Job(index),
            _ => WorkloadObject::ReplicaSet(index),
        }
    }

    fn token(&self, index: u32, step: ReplicasStep) -> ReplyTo {
        ReplyTo::Controllers {
            token: ControlToken::Replicas {
                kind: self.kind,
                index,
                step,
            },
        }
    }

    /// Desired and ready counts as last published, for the parent.
    pub(super) fn published(&self, index: u32) -> (u32, u32) {
        let status = self.objects[index as usize].published;
        (status.replicas, status.ready)
    }

    /// The informer shows the object, or its back-off is over.
    pub(super) fn enqueue(&mut self, index: u32, context: &mut Context<'_>) {
        self.objects[index as usize].known = true;
        self.queue.add(index);
        self.work(context);
    }

    /// The informer shows a change of a Pod that this controller owns.
    pub(super) fn pod_changed(&mut self, index: u32, change: &Change, context: &mut Context<'_>) {
        let Some(object) = self.objects.get_mut(index as usize) else {
            return;
        };
        let before = (
            object.active,
            object.ready,
            object.succeeded,
            object.pods.len(),
        );
        let (pod, gone) = match change {
            Change::Pod(pod) => (pod, false),
            Change::PodGone(pod) => (pod, true),
            _ => return,
        };
        let seen = seen(pod);
        let old = if gone {
            object.pods.remove(&pod.uid)
        } else {
            object.pods.insert(pod.uid, seen)
        };
        let was_active = old.is_some_and(|old| old.active);
        if !gone && old.is_none() {
            object.expected = object.expected.saturating_sub(1);
        }
        let is_active = !gone && seen.active;
        object.active = object.active + u32::from(is_active) - u32::from(was_active);
        let was_ready = old.is_some_and(|old| old.ready);
        let is_ready = !gone && seen.ready;
        object.ready = object.ready + u32::from(is_ready) - u32::from(was_ready);
        let ended_before = old.is_some_and(|old| !old.active);
        if pod.status.phase == Phase::Succeeded && !gone && !ended_before {
            object.succeeded += 1;
        }
        let after = (
            object.active,
            object.ready,
            object.succeeded,
            object.pods.len(),
        );
        if before != after {
            self.queue.add(index);
            self.work(context);
        }
    }

    fn work(&mut self, context: &mut Context<'_>) {
        while self.synced
            && let Some(index) = self.queue.take()
        {
            self.sync(index, context);
        }
    }

    fn sync(&mut self, index: u32, context: &mut Context<'_>) {
        let kcm = &context.core.parameters.kcm;
        let object = &mut self.objects[index as usize];
        object.round = Round {
            status: object.status(),
            ..Round::default()
        };
        let target = object.target();
        if object.expected > 0 || object.active == target {
            return self.write_status(index, context);
        }
        if object.active > target {
            let surplus = object.active - target;
            return self.delete_surplus(index, surplus, context);
        }
        let missing = (target - object.active).min(kcm.burst_replicas as u32);
        object.expected = missing;
        object.round.remaining = missing;
        object.round.batch = (kcm.slow_start_initial as u32).min(missing);
        self.create_batch(index, context);
    }

    fn create_batch(&mut self, index: u32, context: &mut Context<'_>) {
        let Some(client) = self.client else { return };
        let reply = self.token(index, ReplicasStep::PodCreated);
        let cpu = context.core.parameters.kcm.cpu_per_pod;
        let batch = self.objects[index as usize].round.batch;
        self.objects[index as usize].round.outstanding = batch;
        for _ in 0..batch {
            let object = &mut self.objects[index as usize];
            let template = &object.template;
            let name = format!("{}-{}", template.name, random_suffix(&mut object.names));
            let owner = Owner {
                kind: self.kind,
                name: template.name.clone(),
                index,
            };
            let pod = template.pod(Rc::from(name), 0, Some(owner));
            context.call(client, Request::CreatePod(Rc::new(pod)), reply);
            if !cpu.is_zero() {
                context.cpu(self.node, cpu, CpuToken::Nobody);
            }
        }
    }

    fn delete_surplus(&mut self, index: u32, surplus: u32, context: &mut Context<'_>) {
        let Some(client) = self.client else { return };
        let reply = self.token(index, ReplicasStep::PodDeleted);
        let object = &mut self.objects[index as usize];
        let mut victims: Vec<(bool, bool, std::cmp::Reverse<PodUid>)> = object
            .pods
            .iter()
            .filter(|(_, seen)| seen.active)
            .map(|(pod, seen)| (seen.bound, seen.ready, std::cmp::Reverse(*pod)))
            .collect();
        // Unbound before bound, not ready before ready, young before old.
        victims.sort_unstable();
        victims.truncate(surplus as usize);
        object.round.outstanding = victims.len() as u32;
        for (_, _, std::cmp::Reverse(pod)) in victims {
            context.call(client, Request::DeletePod { pod, grace: None }, reply);
        }
    }

    /// A call of a sync ended.
    pub(super) fn response(
        &mut self,
        index: u32,
        step: ReplicasStep,
        response: &Response,
        context: &mut Context<'_>,
    ) {
        match step {
            ReplicasStep::PodCreated => self.created(index, response.is_ok(), context),
            ReplicasStep::PodDeleted => {
                let round = &mut self.objects[index as usize].round;
                round.failed |= response.is_err();
                round.outstanding = round.outstanding.saturating_sub(1);
                if round.outstanding == 0 {
                    self.write_status(index, context);
                }
            }
            ReplicasStep::StatusWritten => {
                let object = &mut self.objects[index as usize];
                if response.is_ok() {
                    object.published = object.round.status;
                    if let Some(parent) = object.parent {
                        let delay = informer_delay(&context.core);
                        let event = ControlEvent::Changed(WorkloadObject::Deployment(parent));
                        context.core.after(delay, Event::Control(event));
                    }
                } else {
                    object.round.failed = true;
                }
                self.end(index, context);
            }
        }
    }

    fn created(&mut self, index: u32, ok: bool, context: &mut Context<'_>) {
        if ok {
            self.sink.emit(context);
        }
        let object = &mut self.objects[index as usize];
        if !ok {
            object.round.failed = true;
            object.expected = object.expected.saturating_sub(1);
        }
        object.round.outstanding = object.round.outstanding.saturating_sub(1);
        if object.round.outstanding > 0 {
            return;
        }
        object.round.remaining -= object.round.batch.min(object.round.remaining);
        if object.round.failed {
            object.expected = object.expected.saturating_sub(object.round.remaining);
            object.round.remaining = 0;
        }
        if object.round.remaining == 0 {
            return self.write_status(index, context);
        }
        object.round.batch = (object.round.batch * 2).min(object.round.remaining);
        self.create_batch(index, context);
    }

    fn write_status(&mut self, index: u32, context: &mut Context<'_>) {
        let object = &self.objects[index as usize];
        let Some(client) = self.client else { return };
        if object.round.status == object.published {
            return self.end(index, context);
        }
        let reply = self.token(index, ReplicasStep::StatusWritten);
        let write = WorkloadWrite::Status;
        let object = self.workload(index);
        context.call(client, Request::WriteWorkload { object, write }, reply);
    }

    fn end(&mut self, index: u32, context: &mut Context<'_>) {
        let failed = self.objects[index as usize].round.failed;
        if failed {
            let kcm = &context.core.parameters.kcm;
            let wait = self.queue.back_off(index, kcm.retry_base, kcm.retry_max);
            let event = ControlEvent::Changed(self.workload(index));
            context.core.after(wait, Event::Control(event));
        } else {
            self.queue.forget(index);
        }
        self.queue.done(index);
        self.work(context);
    }

    /// The event that was under way ended.
    pub(super) fn event_sent(&mut self, context: &mut Context<'_>) {
        self.sink.sent(context);
    }
}

fn seen(pod: &Pod) -> Seen {
    let active = pod.deletion.is_none() && !pod.is_terminal();
    Seen {
        active,
        ready: active && pod.status.ready,
        bound: pod.node_name.is_some(),
    }
}

impl PodTemplate {
    /// A Pod of this template.
    pub(crate) fn pod(&self, name: Rc<str>, incarnation: u32, owner: Option<Owner>) -> NewPod {
        NewPod {
            namespace: self.namespace.clone(),
            entity: NewPod::entity(&self.namespace, &name, incarnation),
            name,
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            owner,
            spec: self.spec.clone(),
        }
    }
}
