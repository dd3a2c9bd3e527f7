//! The lifecycle event generator: relists the runtime each second, looks at each changed Pod in
//! turn, then wakes their workers, and those that wait for a snapshot newer than their last sync.
//! Source: kubernetes v1.26.5 `pkg/kubelet/pleg/generic.go:138-300`, `pod_workers.go:924`.

use std::collections::BTreeSet;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::context::Context;
use crate::event::NodeToken;
use crate::ids::PodUid;
use crate::node::desk::{Desk, Errand, KubeletDesk, Next, node_side};

use super::Kubelet;

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
pub(super) struct Pleg {
    pub(super) ticket: u32,
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
    pub(super) relist_count: u64,
}

impl Pleg {
    /// The snapshot is newer than an instant.
    pub(super) fn is_newer(&self, than: SimInstant) -> bool {
        self.stamp.is_some_and(|stamp| stamp > than)
    }

    /// The runtime reported that something of a Pod's containers changed.
    pub(super) fn containers_changed(&mut self, pod: PodUid) {
        self.changed.insert(pod);
    }

    /// A worker waits for the next snapshot.
    pub(super) fn await_newer(&mut self, pod: PodUid) {
        self.waiting.insert(pod);
    }
}

impl Kubelet {
    /// Sleeps until the next relist.
    pub(super) fn pleg_sleep(
        &mut self,
        delay: Duration,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let token = self.pleg_enter(Step::Sleep, desk);
        desk.wait(delay.max(Duration::from_nanos(1)), token, context);
    }

    /// A step ended.
    pub(super) fn pleg_resume(&mut self, desk: &mut KubeletDesk<'_>, context: &mut Context<'_>) {
        let parameters = &node_side(context).kubelet;
        let pleg = &mut self.pleg;
        match pleg.step {
            Step::Sleep => {
                pleg.started = context.now();
                pleg.inspected = std::mem::take(&mut pleg.changed).into_iter().collect();
                let count = pleg.inspected.len() as u32;
                let demand = parameters.pleg_cpu + parameters.pleg_pod_cpu * count;
                let token = self.pleg_enter(Step::Cpu, desk);
                desk.compute(demand, token, context);
            }
            Step::Cpu => {
                let count = pleg.inspected.len() as u32;
                let wait = parameters.pleg_wait + parameters.pleg_pod_wait * count;
                let token = self.pleg_enter(Step::Wait, desk);
                desk.wait(wait, token, context);
            }
            Step::Wait => self.pleg_finish(desk),
        }
    }

    /// A relist is over: a runtime that is down gives no new snapshot.
    fn pleg_finish(&mut self, desk: &mut KubeletDesk<'_>) {
        let pleg = &mut self.pleg;
        let inspected = std::mem::take(&mut pleg.inspected);
        pleg.relist_count += 1;
        if desk.cri.answers() {
            pleg.stamp = Some(pleg.started);
            let waiting = std::mem::take(&mut pleg.waiting);
            for pod in inspected {
                desk.follow(Next::Kubelet(Errand::Update(pod)));
            }
            for pod in waiting {
                desk.follow(Next::Kubelet(Errand::Snapshot(pod)));
            }
        } else {
            pleg.changed.extend(inspected);
        }
        desk.follow(Next::Kubelet(Errand::Relisted));
    }

    /// The workers of a relist were told: the next one follows after its period.
    pub(super) fn relisted(&mut self, desk: &mut KubeletDesk<'_>, context: &mut Context<'_>) {
        let period = node_side(context).kubelet.pleg_period;
        self.pleg_sleep(period, desk, context);
    }

    fn pleg_enter(&mut self, step: Step, desk: &mut Desk) -> NodeToken {
        let ticket = desk.ticket();
        self.pleg.step = step;
        self.pleg.ticket = ticket;
        NodeToken::Pleg { ticket }
    }
}
