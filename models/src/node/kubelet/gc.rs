//! Container garbage collection, each minute: sandboxes that are not ready and whose Pod is gone,
//! or that a newer attempt replaced, are stopped and removed, one after another. So each sandbox
//! sees DEL twice more, with an empty namespace path.
//! Source: kubernetes v1.26.5 `pkg/kubelet/kuberuntime/kuberuntime_gc.go:171-182`.

use std::collections::VecDeque;

use crate::context::Context;
use crate::event::{NodeEvent, NodeToken};
use crate::ids::ContainerId;
use crate::node::cri::{CriVerb, RuntimeService};
use crate::node::desk::{KubeletDesk, Signal, node_side};

use super::{Kubelet, ask};

/// The collector.
#[derive(Debug, Default)]
pub(super) struct Collector {
    pub(super) ticket: u32,
    victims: VecDeque<ContainerId>,
    /// The sandbox being stopped; it is removed next.
    stopping: Option<ContainerId>,
    busy: bool,
}

impl Kubelet {
    /// The period is over.
    pub(super) fn collect_garbage(
        &mut self,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let period = node_side(context).kubelet.gc_period;
        desk.later(
            period,
            NodeEvent::GarbageCollection { life: self.life },
            context,
        );
        if self.collector.busy {
            return;
        }
        assert!(
            self.collector.victims.is_empty(),
            "a round ends with nothing left"
        );
        let victims = self.garbage(desk.cri);
        self.collector.victims = victims;
        self.collect_next(desk, context);
    }

    /// Sandboxes to collect, oldest first.
    fn garbage(&self, cri: &dyn RuntimeService) -> VecDeque<ContainerId> {
        let mut victims = VecDeque::new();
        for pod in cri.pods() {
            let sandboxes = cri.list(pod);
            let newest = sandboxes.last();
            let removable = self
                .workers
                .get(&pod)
                .is_none_or(|worker| worker.is_over() && worker.pod.deletion.is_some());
            victims.extend(sandboxes.iter().filter(|id| {
                let stopped = !cri.status(**id).ready;
                stopped && (removable || Some(*id) != newest)
            }));
        }
        victims
    }

    fn collect_next(&mut self, desk: &mut KubeletDesk<'_>, context: &mut Context<'_>) {
        let collector = &mut self.collector;
        collector.stopping = collector.victims.pop_front();
        collector.busy = collector.stopping.is_some();
        if let Some(container) = collector.stopping {
            self.collector_call(CriVerb::Stop(container), desk, context);
        }
    }

    /// A CRI call of the collector ended; a sandbox that cannot be stopped is left for next time.
    pub(super) fn collector_resume(
        &mut self,
        signal: &Signal,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let stopped = matches!(signal, Signal::Cri(Ok(_)));
        match self.collector.stopping.take() {
            Some(container) if stopped => {
                self.collector_call(CriVerb::Remove(container), desk, context);
            }
            _ => self.collect_next(desk, context),
        }
    }

    fn collector_call(
        &mut self,
        verb: CriVerb,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let ticket = desk.ticket();
        self.collector.ticket = ticket;
        ask(verb, NodeToken::Collector { ticket }, desk, context);
    }
}
