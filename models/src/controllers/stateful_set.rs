//! The StatefulSet controller: Pods with stable names, one after another (OrderedReady) or all at
//! once (Parallel); a name is used again only when the old object is gone.
//!
//! Not modeled: updates, scaling down, volume claims.
//! Source: kubernetes v1.26.5 pkg/controller/statefulset/stateful_set_control.go:370-480.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::client_go::work_queue::WorkQueue;
use crate::context::Context;
use crate::event::{ControlEvent, ControlToken, CpuToken, Event, StatefulSetStep};
use crate::ids::{ClientId, NodeIndex, PodUid};
use crate::objects::{Owner, OwnerKind, WorkloadObject};
use crate::request::{ApiError, Change, ReplyTo, Request, Response, WorkloadWrite};

use super::PodTemplate;
use super::event_sink::EventSink;

/// What the controller knows of an ordinal.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent conditions of one Pod"
)]
struct Slot {
    pod: Option<PodUid>,
    ready: bool,
    terminating: bool,
    terminal: bool,
    /// Posted, and not yet shown by the informer.
    expected: bool,
    /// A deletion of this Pod was asked for.
    deleting: Option<PodUid>,
    incarnation: u32,
}

#[derive(Debug)]
struct StatefulSet {
    template: PodTemplate,
    parallel: bool,
    slots: Vec<Slot>,
    ordinals: BTreeMap<Rc<str>, u32>,
    published: (u32, u32),
    writing: (u32, u32),
    known: bool,
}

impl StatefulSet {
    fn status(&self) -> (u32, u32) {
        let exists = self.slots.iter().filter(|slot| slot.pod.is_some()).count();
        let ready = self.slots.iter().filter(|slot| slot.ready).count();
        (exists as u32, ready as u32)
    }
}

/// The StatefulSet controller.
#[derive(Debug)]
pub(super) struct StatefulSets {
    objects: Vec<StatefulSet>,
    queue: WorkQueue,
    client: Option<ClientId>,
    /// The informers are filled: workers may start.
    synced: bool,
    sink: EventSink,
    node: NodeIndex,
}

impl StatefulSets {
    /// No StatefulSet yet.
    pub(super) fn new(workers: u32) -> Self {
        Self {
            objects: Vec::new(),
            queue: WorkQueue::new(workers),
            client: None,
            synced: false,
            sink: EventSink::new(OwnerKind::StatefulSet),
            node: NodeIndex(0),
        }
    }

    /// The process starts; what an earlier one knew is forgotten, incarnations are not reused.
    pub(super) fn start(&mut self, node: NodeIndex, client: ClientId) {
        self.client = Some(client);
        self.synced = false;
        self.node = node;
        self.sink.start(client);
        self.queue.reset();
        for (index, set) in self.objects.iter_mut().enumerate() {
            for slot in &mut set.slots {
                *slot = Slot {
                    incarnation: slot.incarnation,
                    ..Slot::default()
                };
            }
            if set.known {
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

    /// Registers a StatefulSet that will be created; returns its index.
    pub(super) fn register(&mut self, replicas: u32, parallel: bool, template: PodTemplate) -> u32 {
        let ordinals = (0..replicas)
            .map(|ordinal| (Rc::from(format!("{}-{ordinal}", template.name)), ordinal))
            .collect();
        self.objects.push(StatefulSet {
            template,
            parallel,
            slots: vec![Slot::default(); replicas as usize],
            ordinals,
            published: (0, 0),
            writing: (0, 0),
            known: false,
        });
        self.objects.len() as u32 - 1
    }

    /// The informer shows the object, or its back-off is over.
    pub(super) fn enqueue(&mut self, index: u32, context: &mut Context<'_>) {
        self.objects[index as usize].known = true;
        self.queue.add(index);
        self.work(context);
    }

    /// The informer shows a change of a Pod that this controller owns.
    pub(super) fn pod_changed(&mut self, index: u32, change: &Change, context: &mut Context<'_>) {
        let (pod, gone) = match change {
            Change::Pod(pod) => (pod, false),
            Change::PodGone(pod) => (pod, true),
            _ => return,
        };
        let Some(set) = self.objects.get_mut(index as usize) else {
            return;
        };
        let Some(ordinal) = set.ordinals.get(&pod.name) else {
            return;
        };
        let slot = &mut set.slots[*ordinal as usize];
        if gone {
            // News of an older incarnation says nothing about the present one.
            if slot.pod != Some(pod.uid) {
                return;
            }
            *slot = Slot {
                incarnation: slot.incarnation,
                ..Slot::default()
            };
        } else {
            slot.pod = Some(pod.uid);
            slot.expected = false;
            slot.terminating = pod.deletion.is_some();
            slot.terminal = pod.is_terminal();
            slot.ready = pod.status.ready && !slot.terminating;
        }
        self.queue.add(index);
        self.work(context);
    }

    fn work(&mut self, context: &mut Context<'_>) {
        while self.synced
            && let Some(index) = self.queue.take()
        {
            self.step(index, context);
        }
    }

    /// The next action of a sync: one creation or deletion, or the status.
    fn step(&mut self, index: u32, context: &mut Context<'_>) {
        let set = &self.objects[index as usize];
        for (ordinal, slot) in set.slots.iter().enumerate() {
            let free = slot.pod.is_none() && !slot.expected;
            if free {
                return self.create(index, ordinal as u32, context);
            }
            if let Some(pod) = slot.pod
                && slot.terminal
                && !slot.terminating
                && slot.deleting != Some(pod)
            {
                return self.delete(index, ordinal, pod, context);
            }
            if !set.parallel && !slot.ready {
                break;
            }
        }
        self.write_status(index, context);
    }

    fn create(&mut self, index: u32, ordinal: u32, context: &mut Context<'_>) {
        let Some(client) = self.client else { return };
        let set = &mut self.objects[index as usize];
        let slot = &mut set.slots[ordinal as usize];
        slot.expected = true;
        let name = Rc::from(format!("{}-{ordinal}", set.template.name));
        let owner = Owner {
            kind: OwnerKind::StatefulSet,
            name: set.template.name.clone(),
            index,
        };
        let pod = set.template.pod(name, slot.incarnation, Some(owner));
        slot.incarnation += 1;
        let step = StatefulSetStep::PodCreated { ordinal };
        let reply = ReplyTo::Controllers {
            token: ControlToken::StatefulSet { index, step },
        };
        context.call(client, Request::CreatePod(Rc::new(pod)), reply);
        let cpu = context.core.parameters.kcm.cpu_per_pod;
        if !cpu.is_zero() {
            context.cpu(self.node, cpu, CpuToken::Nobody);
        }
    }

    fn delete(&mut self, index: u32, ordinal: usize, pod: PodUid, context: &mut Context<'_>) {
        let Some(client) = self.client else { return };
        self.objects[index as usize].slots[ordinal].deleting = Some(pod);
        let step = StatefulSetStep::PodDeleted;
        let reply = ReplyTo::Controllers {
            token: ControlToken::StatefulSet { index, step },
        };
        context.call(client, Request::DeletePod { pod, grace: None }, reply);
    }

    fn write_status(&mut self, index: u32, context: &mut Context<'_>) {
        let Some(client) = self.client else { return };
        let set = &mut self.objects[index as usize];
        set.writing = set.status();
        if set.writing == set.published {
            return self.end(index, true, context);
        }
        let step = StatefulSetStep::StatusWritten;
        let reply = ReplyTo::Controllers {
            token: ControlToken::StatefulSet { index, step },
        };
        let object = WorkloadObject::StatefulSet(index);
        let write = WorkloadWrite::Status;
        context.call(client, Request::WriteWorkload { object, write }, reply);
    }

    /// A call of a sync ended.
    pub(super) fn response(
        &mut self,
        index: u32,
        step: StatefulSetStep,
        response: &Response,
        context: &mut Context<'_>,
    ) {
        let ok = response.is_ok();
        match step {
            StatefulSetStep::PodCreated { ordinal } => {
                if ok {
                    self.sink.emit(context);
                }
                let set = &mut self.objects[index as usize];
                if !ok && *response != Err(ApiError::AlreadyExists) {
                    set.slots[ordinal as usize].expected = false;
                    return self.end(index, false, context);
                }
                if set.parallel {
                    self.step(index, context);
                } else {
                    self.write_status(index, context);
                }
            }
            StatefulSetStep::PodDeleted => {
                if !ok {
                    for slot in &mut self.objects[index as usize].slots {
                        slot.deleting = None;
                    }
                }
                self.end(index, ok, context);
            }
            StatefulSetStep::StatusWritten => {
                let set = &mut self.objects[index as usize];
                if ok {
                    set.published = set.writing;
                }
                self.end(index, ok, context);
            }
        }
    }

    fn end(&mut self, index: u32, ok: bool, context: &mut Context<'_>) {
        if ok {
            self.queue.forget(index);
        } else {
            let kcm = &context.core.parameters.kcm;
            let wait = self.queue.back_off(index, kcm.retry_base, kcm.retry_max);
            let event = ControlEvent::Changed(WorkloadObject::StatefulSet(index));
            context.core.after(wait, Event::Control(event));
        }
        self.queue.done(index);
        self.work(context);
    }

    /// The event that was under way ended.
    pub(super) fn event_sent(&mut self, context: &mut Context<'_>) {
        self.sink.sent(context);
    }
}
