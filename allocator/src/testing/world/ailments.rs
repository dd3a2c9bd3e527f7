//! What goes wrong on a node itself: its disk, its directories, its runtime, and ends that nobody
//! tells of.

use core::time::Duration;

use super::World;
use crate::testing::state::nodes::Ailments;
use crate::testing::state::queue::Arrival;

impl World {
    /// Deletes the journal of a node.
    pub fn lose_journal(&mut self, name: &str) {
        self.harm_journal(name, Vec::clear);
    }

    /// Deletes the seal of a node's journal: that of an earlier release has none.
    pub fn lose_seal(&mut self, name: &str) {
        self.with(|inner| inner.node(name).seal = None);
    }

    /// Changes the bytes of a node's journal.
    pub fn harm_journal(&mut self, name: &str, harm: impl FnOnce(&mut Vec<u8>)) {
        self.with(|inner| harm(&mut inner.node(name).journal));
    }

    /// What is wrong with a node from now on.
    pub fn set_ailments(&mut self, name: &str, ailments: Ailments) {
        self.with(|inner| inner.node(name).ailments = ailments);
    }

    /// No DEL in the spool of a node can be read anymore.
    pub fn spoil_spool(&mut self, name: &str) {
        self.with(|inner| {
            for entry in &mut inner.node(name).spool {
                entry.request = None;
            }
        });
    }

    /// The runtime sends the DEL of a Pod's sandbox, whose namespace stays.
    pub fn send_del(&mut self, pod: &str) {
        self.with(|inner| {
            let pod = inner.pods.get(&format!("pod-{pod}")).cloned();
            if let Some(pod) = pod
                && let Some((container, path)) = &pod.sandbox
            {
                inner.del(&pod.node, container, path);
            }
        });
    }

    /// A Pod's namespace ends, and nobody tells the agent.
    pub fn end_unseen(&mut self, pod: &str) {
        self.with(|inner| {
            let pod = inner.pods.get(&format!("pod-{pod}")).cloned();
            if let Some(pod) = pod
                && let Some((_, path)) = &pod.sandbox
            {
                inner.end_namespace(&pod.node, path);
            }
        });
    }

    /// A Pod's sandbox ends by itself, and the kubelet makes the next one without a DEL.
    pub fn lose_sandbox(&mut self, pod: &str, next_after: Duration) {
        let uid = format!("pod-{pod}");
        self.with(|inner| {
            let Some(kubelet) = inner.pods.get_mut(&uid) else {
                return;
            };
            let (node, sandbox) = (kubelet.node.clone(), kubelet.sandbox.take());
            if let Some((_, path)) = sandbox {
                inner.end_namespace(&node, &path);
            }
            let at = inner.now + next_after;
            inner.schedule(at, Arrival::StartSandbox(uid));
        });
    }

    /// A Pod's object is gone, as after a force deletion; its sandbox stays.
    pub fn remove_pod(&mut self, pod: &str) {
        self.with(|inner| inner.remove_pod_object(pod));
    }
}
