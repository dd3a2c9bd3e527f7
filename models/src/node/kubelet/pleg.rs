//! The lifecycle event generator: relists the runtime each second, looks at each changed Pod in
//! turn, then wakes their workers, and those that wait for a snapshot newer than their last sync.
//! Source: kubernetes v1.26.5 `pkg/kubelet/pleg/generic.go:138-300`, `pod_workers.go:924`.

use std::collections::BTreeSet;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::context::Context;
use crate::event::NodeToken;
use crate::ids::PodUid;
use crate::node::Node;

/// Where the generator stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// Between relists.
    #[default]
    Sleep,
    /// Relisting: CPU.
    Cpu,
    /// Relisting: waiting.
    Wait,
}

/// The generator.
#[derive(Debug, Default)]
pub(crate) struct Pleg {
    pub(crate) ticket: u32,
    step: Step,
    /// When the last finished relist started: the age of the snapshot.
    stamp: Option<SimInstant>,
    started: SimInstant,
    /// Pods whose containers changed since the last relist started.
    changed: BTreeSet<PodUid>,
    /// Pods of the relist under way.
    inspected: Vec<PodUid>,
    /// Workers that wait for a newer snapshot.
    waiting: BTreeSet<PodUid>,
    /// Finished relists.
    pub(crate) relist_count: u64,
}

impl Pleg {
    /// The snapshot is newer than an instant.
    pub(crate) fn is_newer(&self, than: SimInstant) -> bool {
        self.stamp.is_some_and(|stamp| stamp > than)
    }

    /// A worker waits for the next snapshot.
    pub(crate) fn await_newer(&mut self, pod: PodUid) {
        self.waiting.insert(pod);
    }
}

impl Node {
    /// Something about a Pod's containers changed in the runtime.
    pub(crate) fn pleg_mark(&mut self, pod: PodUid) {
        self.kubelet.pleg.changed.insert(pod);
    }

    /// Sleeps until the next relist.
    pub(crate) fn pleg_sleep(&mut self, delay: Duration, context: &mut Context<'_>) {
        let token = self.pleg_enter(Step::Sleep);
        self.wait(delay.max(Duration::from_nanos(1)), token, context);
    }

    /// A step ended.
    pub(crate) fn pleg_resume(&mut self, context: &mut Context<'_>) {
        let parameters = &self.node_side(context).kubelet;
        let pleg = &mut self.kubelet.pleg;
        match pleg.step {
            Step::Sleep => {
                pleg.started = context.now();
                pleg.inspected = std::mem::take(&mut pleg.changed).into_iter().collect();
                let count = pleg.inspected.len() as u32;
                let demand = parameters.pleg_cpu + parameters.pleg_pod_cpu * count;
                let token = self.pleg_enter(Step::Cpu);
                self.compute(demand, token, context);
            }
            Step::Cpu => {
                let count = pleg.inspected.len() as u32;
                let wait = parameters.pleg_wait + parameters.pleg_pod_wait * count;
                let token = self.pleg_enter(Step::Wait);
                self.wait(wait, token, context);
            }
            Step::Wait => self.pleg_finish(context),
        }
    }

    /// A relist is over: a runtime that is down gives no new snapshot.
    fn pleg_finish(&mut self, context: &mut Context<'_>) {
        let pleg = &mut self.kubelet.pleg;
        let inspected = std::mem::take(&mut pleg.inspected);
        pleg.relist_count += 1;
        if self.runtime.up {
            pleg.stamp = Some(pleg.started);
            let waiting = std::mem::take(&mut pleg.waiting);
            for pod in inspected {
                self.worker_update(pod, context);
            }
            for pod in waiting {
                self.worker_snapshot(pod, context);
            }
        } else {
            pleg.changed.extend(inspected);
        }
        let period = self.node_side(context).kubelet.pleg_period;
        self.pleg_sleep(period, context);
    }

    fn pleg_enter(&mut self, step: Step) -> NodeToken {
        let ticket = self.ticket();
        self.kubelet.pleg.step = step;
        self.kubelet.pleg.ticket = ticket;
        NodeToken::Pleg { ticket }
    }
}
