//! The deployment controller: one ReplicaSet per Deployment, then its status.
//!
//! Modeled: the first sync is POST ReplicaSet with the full count, PUT status (revision,
//! Progressing), and a second PUT from the stale object, which conflicts and brings the key back
//! after 5 ms; later one PUT per observed change, merged by the queue. Not modeled: rolling
//! updates, scaling.
//!
//! Source: kubernetes v1.26.5 pkg/controller/deployment/sync.go:216-223,280-288, progress.go:117.

use crate::client_go::work_queue::WorkQueue;
use crate::context::Context;
use crate::event::{ControlEvent, ControlToken, DeploymentStep, Event, Recorder};
use crate::ids::ClientId;
use crate::objects::WorkloadObject;
use crate::request::{ApiError, ReplyTo, Request, Response, WorkloadWrite};

use super::event_sink::EventSink;
use super::informer_delay;

#[derive(Clone, Copy, Debug)]
struct Deployment {
    replica_set: u32,
    created: bool,
    known: bool,
    /// Replicas and ready as last written; `None` before the first complete status.
    published: Option<(u32, u32)>,
    writing: (u32, u32),
}

/// The deployment controller.
#[derive(Debug)]
pub(super) struct Deployments {
    objects: Vec<Deployment>,
    queue: WorkQueue,
    client: Option<ClientId>,
    /// The informers are filled: workers may start.
    synced: bool,
    sink: EventSink,
}

impl Deployments {
    /// No Deployment yet.
    pub(super) fn new(workers: u32) -> Self {
        Self {
            objects: Vec::new(),
            queue: WorkQueue::new(workers),
            client: None,
            synced: false,
            sink: EventSink::of(Recorder::Deployment),
        }
    }

    /// The process starts; see `Replicas::start`.
    pub(super) fn start(&mut self, client: ClientId) {
        self.client = Some(client);
        self.synced = false;
        self.sink.start(client);
        self.queue.reset();
        for (index, deployment) in self.objects.iter().enumerate() {
            if deployment.known {
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
    pub(super) fn resume(
        &mut self,
        published: &dyn Fn(u32) -> (u32, u32),
        context: &mut Context<'_>,
    ) {
        self.synced = true;
        self.work(published, context);
    }

    /// Registers a Deployment that will be created; returns its index.
    pub(super) fn register(&mut self, replica_set: u32) -> u32 {
        self.objects.push(Deployment {
            replica_set,
            created: false,
            known: false,
            published: None,
            writing: (0, 0),
        });
        self.objects.len() as u32 - 1
    }

    /// Names the ReplicaSet of a Deployment that was registered before it.
    pub(super) fn set_replica_set(&mut self, index: u32, replica_set: u32) {
        self.objects[index as usize].replica_set = replica_set;
    }

    /// The informer shows the Deployment or a change of its ReplicaSet, or its back-off is over.
    pub(super) fn enqueue(
        &mut self,
        index: u32,
        published: &dyn Fn(u32) -> (u32, u32),
        context: &mut Context<'_>,
    ) {
        self.objects[index as usize].known = true;
        self.queue.add(index);
        self.work(published, context);
    }

    fn work(&mut self, published: &dyn Fn(u32) -> (u32, u32), context: &mut Context<'_>) {
        while self.synced
            && let Some(index) = self.queue.take()
        {
            let deployment = &mut self.objects[index as usize];
            if !deployment.created {
                let object = WorkloadObject::ReplicaSet(deployment.replica_set);
                let write = WorkloadWrite::Create;
                let request = Request::WriteWorkload { object, write };
                self.send(index, request, DeploymentStep::ReplicaSetCreated, context);
                continue;
            }
            let seen = published(deployment.replica_set);
            if deployment.published == Some(seen) {
                self.queue.done(index);
                continue;
            }
            deployment.writing = seen;
            self.put(
                index,
                WorkloadWrite::Status,
                DeploymentStep::StatusWritten,
                context,
            );
        }
    }

    fn put(
        &mut self,
        index: u32,
        write: WorkloadWrite,
        step: DeploymentStep,
        context: &mut Context<'_>,
    ) {
        let object = WorkloadObject::Deployment(index);
        self.send(
            index,
            Request::WriteWorkload { object, write },
            step,
            context,
        );
    }

    fn send(
        &mut self,
        index: u32,
        request: Request,
        step: DeploymentStep,
        context: &mut Context<'_>,
    ) {
        let Some(client) = self.client else { return };
        let token = ControlToken::Deployment { index, step };
        context.call(client, request, ReplyTo::Controllers { token });
    }

    /// A call of a sync ended.
    pub(super) fn response(
        &mut self,
        index: u32,
        step: DeploymentStep,
        response: &Response,
        published: &dyn Fn(u32) -> (u32, u32),
        context: &mut Context<'_>,
    ) {
        let ok = response.is_ok();
        let deployment = &mut self.objects[index as usize];
        match step {
            DeploymentStep::ReplicaSetCreated
                if ok || *response == Err(ApiError::AlreadyExists) =>
            {
                deployment.created = true;
                let event =
                    ControlEvent::Changed(WorkloadObject::ReplicaSet(deployment.replica_set));
                let delay = informer_delay(&context.core);
                context.core.after(delay, Event::Control(event));
                self.sink.emit(context);
                self.put(
                    index,
                    WorkloadWrite::Status,
                    DeploymentStep::Progressing,
                    context,
                );
            }
            DeploymentStep::Progressing if ok => {
                self.put(
                    index,
                    WorkloadWrite::StaleStatus,
                    DeploymentStep::StaleWrite,
                    context,
                );
            }
            DeploymentStep::StatusWritten if ok => {
                deployment.published = Some(deployment.writing);
                self.queue.forget(index);
                self.queue.done(index);
                self.work(published, context);
            }
            _ => {
                let kcm = &context.core.parameters.kcm;
                let wait = self.queue.back_off(index, kcm.retry_base, kcm.retry_max);
                let event = ControlEvent::Changed(WorkloadObject::Deployment(index));
                context.core.after(wait, Event::Control(event));
                self.queue.done(index);
                self.work(published, context);
            }
        }
    }

    /// The event that was under way ended.
    pub(super) fn event_sent(&mut self, context: &mut Context<'_>) {
        self.sink.sent(context);
    }
}
