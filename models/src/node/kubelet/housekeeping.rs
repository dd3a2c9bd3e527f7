//! Housekeeping: what runs of a Pod that the kubelet has no worker for is killed. A Pod whose object
//! went while the kubelet was away is found no other way. Only the passes that find such a Pod are
//! events: those come after the list of a kubelet that restarted.
//! Source: kubernetes v1.26.5 `pkg/kubelet/kubelet.go:142,2274-2290`,
//! `pkg/kubelet/kubelet_pods.go:1134-1170`.

use std::rc::Rc;
use std::time::Duration;

use crate::context::Context;
use crate::event::NodeEvent;
use crate::ids::PodUid;
use crate::node::Node;
use crate::node::containerd::SandboxState;
use crate::objects::Pod;

use super::pod_worker::Worker;

/// The grace period of a Pod that is killed so, whatever its own is; `kubelet_pods.go:1155-1160`.
const GRACE: Duration = Duration::from_secs(1);

impl Node {
    /// The sources are ready: the next pass looks at what runs, if there is anything to find.
    pub(crate) fn housekeeping_due(&mut self, context: &mut Context<'_>) {
        if self.orphans().is_empty() {
            return;
        }
        let period = self.node_side(context).kubelet.housekeeping;
        let life = self.kubelet.life;
        let since = context.now().saturating_since(self.kubelet.ticks_from);
        let since_last = since.as_nanos() as u64 % period.as_nanos() as u64;
        let delay = period - Duration::from_nanos(since_last);
        self.later(delay, NodeEvent::Housekeeping { life }, context);
    }

    /// One pass: each Pod without a worker gets one that stops it.
    pub(crate) fn housekeep(&mut self, life: u32, context: &mut Context<'_>) {
        if life != self.kubelet.life || !self.kubelet.running {
            return;
        }
        for (uid, mut pod) in self.orphans() {
            pod.deletion = Some((context.now(), GRACE));
            let mut worker = Worker::new(Rc::new(pod));
            worker.gone = true;
            self.kubelet.active_count += 1;
            self.kubelet.workers.insert(uid, worker);
            self.worker_stop(uid, context);
        }
    }

    /// Pods with a sandbox that is ready and without a worker, as the runtime knows them.
    fn orphans(&self) -> Vec<(PodUid, Pod)> {
        let of_pods = self.runtime.by_pod.iter();
        let unknown = of_pods.filter(|(uid, _)| !self.kubelet.workers.contains_key(uid));
        let sandboxes = unknown.filter_map(|(uid, ids)| {
            let mut sandboxes = ids.iter().map(|id| &self.runtime.sandboxes[id]);
            let ready = sandboxes.find(|sandbox| sandbox.state == SandboxState::Ready)?;
            Some((*uid, Pod::clone(&ready.pod)))
        });
        sandboxes.collect()
    }
}
