//! Container garbage collection, each minute: sandboxes that are not ready and whose Pod is gone,
//! or that a newer attempt replaced, are stopped and removed, one after another. So each sandbox
//! sees DEL twice more, with an empty namespace path.
//! Source: kubernetes v1.26.5 `pkg/kubelet/kuberuntime/kuberuntime_gc.go:171-182`.

use std::collections::VecDeque;
use std::time::Duration;

use crate::context::Context;
use crate::event::{NodeEvent, NodeToken};
use crate::ids::ContainerId;
use crate::node::containerd::{CriKind, SandboxState};
use crate::node::{Node, Signal};

/// The collector.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    pub(crate) ticket: u32,
    victims: VecDeque<ContainerId>,
    /// The sandbox being stopped; it is removed next.
    stopping: Option<ContainerId>,
    busy: bool,
}

impl Node {
    /// The period is over.
    pub(crate) fn collect_garbage(&mut self, life: u32, context: &mut Context<'_>) {
        if life != self.kubelet.life || !self.kubelet.running {
            return;
        }
        let period = self.node_side(context).kubelet.gc_period;
        self.later(period, NodeEvent::GarbageCollection { life }, context);
        if self.kubelet.collector.busy {
            return;
        }
        let victims = self.garbage();
        self.kubelet.collector.victims = victims;
        self.collect_next(context);
    }

    /// Sandboxes to collect, oldest first.
    fn garbage(&self) -> VecDeque<ContainerId> {
        let mut victims = VecDeque::new();
        for (pod, sandboxes) in &self.runtime.by_pod {
            let newest = sandboxes.last();
            let removable = self
                .kubelet
                .workers
                .get(pod)
                .is_none_or(|worker| worker.is_over() && worker.pod.deletion.is_some());
            victims.extend(sandboxes.iter().filter(|id| {
                let stopped = self.runtime.sandboxes[id].state == SandboxState::NotReady;
                stopped && (removable || Some(*id) != newest)
            }));
        }
        victims
    }

    fn collect_next(&mut self, context: &mut Context<'_>) {
        let collector = &mut self.kubelet.collector;
        collector.stopping = collector.victims.pop_front();
        collector.busy = collector.stopping.is_some();
        if let Some(container) = collector.stopping {
            self.collector_call(CriKind::Stop, container, context);
        }
    }

    /// A CRI call of the collector ended; a sandbox that cannot be stopped is left for next time.
    pub(crate) fn collector_resume(&mut self, signal: &Signal, context: &mut Context<'_>) {
        let stopped = matches!(signal, Signal::Cri(Ok(_)));
        match self.kubelet.collector.stopping.take() {
            Some(container) if stopped => {
                self.collector_call(CriKind::Remove, container, context);
            }
            _ => self.collect_next(context),
        }
    }

    fn collector_call(&mut self, kind: CriKind, container: ContainerId, context: &mut Context<'_>) {
        let ticket = self.ticket();
        self.kubelet.collector.ticket = ticket;
        let caller = NodeToken::Collector { ticket };
        self.cri(kind, container, Duration::ZERO, caller, context);
    }
}
