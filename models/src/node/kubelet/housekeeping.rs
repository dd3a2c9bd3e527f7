//! Housekeeping: what runs of a Pod that the kubelet has no worker for is killed. A Pod whose
//! object went while the kubelet was away is found no other way. Only the passes that find such a
//! Pod are events: those come after the list of a kubelet that restarted. Source: kubernetes
//! v1.26.5 `pkg/kubelet/kubelet.go:142,2274-2290`, `pkg/kubelet/kubelet_pods.go:1134-1170`.

use std::rc::Rc;
use std::time::Duration;

use crate::context::Context;
use crate::event::NodeEvent;
use crate::ids::PodUid;
use crate::node::cri::RuntimeService;
use crate::node::desk::{Errand, KubeletDesk, Next, node_side};
use crate::objects::Pod;

use super::Kubelet;
use super::pod_worker::Worker;

/// The grace period of a Pod that is killed so, whatever its own is; `kubelet_pods.go:1155-1160`.
const GRACE: Duration = Duration::from_secs(1);

impl Kubelet {
    /// The sources are ready: the next pass looks at what runs, if there is anything to find.
    pub(super) fn housekeeping_due(
        &mut self,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        if self.orphans(desk.cri).is_empty() {
            return;
        }
        let period = node_side(context).kubelet.housekeeping;
        let life = self.life;
        let since = context.now().saturating_since(self.ticks_from);
        let since_last = since.as_nanos() as u64 % period.as_nanos() as u64;
        let delay = period.saturating_sub(Duration::from_nanos(since_last));
        desk.later(delay, NodeEvent::Housekeeping { life }, context);
    }

    /// One pass: each Pod without a worker gets one that stops it.
    pub(super) fn housekeep(&self, desk: &mut KubeletDesk<'_>) {
        for (uid, pod) in self.orphans(desk.cri) {
            desk.follow(Next::Kubelet(Errand::Unknown(uid, pod)));
        }
    }

    /// A Pod that no worker knows gets one that stops it.
    pub(super) fn end_unknown(
        &mut self,
        uid: PodUid,
        pod: Rc<Pod>,
        desk: &mut KubeletDesk<'_>,
        context: &mut Context<'_>,
    ) {
        let mut pod = Rc::unwrap_or_clone(pod);
        pod.deletion = Some((context.now(), GRACE));
        let mut worker = Worker::new(Rc::new(pod));
        worker.gone = true;
        self.active_count += 1;
        self.take_on(uid, worker, desk);
        self.worker_stop(uid, desk, context);
    }

    /// Pods with a sandbox that is ready and without a worker, as the runtime knows them.
    fn orphans(&self, cri: &dyn RuntimeService) -> Vec<(PodUid, Rc<Pod>)> {
        let pods = cri.pods().into_iter();
        let unknown = pods.filter(|uid| !self.workers.contains_key(uid));
        let ready = unknown.filter_map(|uid| {
            let mut sandboxes = cri.list(uid).iter().map(|id| cri.status(*id));
            let ready = sandboxes.find(|sandbox| sandbox.ready)?;
            Some((uid, Rc::new(ready.pod.clone())))
        });
        ready.collect()
    }
}
