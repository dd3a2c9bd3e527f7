//! What a test may take away from a node, and the nodes that should not be.

use super::World;
use crate::core::naming::{machine_id, machine_name};
use crate::core::objects::{Metadata, Node};
use crate::testing::state::nodes::Looks;

impl World {
    /// All Pods of a node end without a DEL, and their objects go: nobody tells the agent.
    pub fn end_all_silently(&mut self, name: &str) {
        self.with(|inner| {
            inner.node(name).namespaces.clear();
            let here: Vec<(String, String)> = inner
                .pods
                .iter()
                .filter(|(_, pod)| pod.node == name)
                .map(|(uid, pod)| (uid.clone(), pod.name.clone()))
                .collect();
            for (uid, pod) in here {
                inner.pods.remove(&uid);
                inner.remove_pod_object(&pod);
            }
        });
    }

    /// A Pod's sandbox ends without a DEL, and its object goes.
    pub fn end_silently(&mut self, pod: &str) {
        let uid = format!("pod-{pod}");
        self.with(|inner| {
            let Some(kubelet) = inner.pods.remove(&uid) else {
                return;
            };
            if let Some((_, path)) = kubelet.sandbox {
                inner.end_namespace(&kubelet.node, &path);
            }
            inner.remove_pod_object(pod);
        });
    }

    /// A DEL for a Pod's sandbox, which lives on with its interface: an administrator unplugs it,
    /// or its link cannot be deleted.
    pub fn unplug(&mut self, pod: &str) {
        let uid = format!("pod-{pod}");
        self.with(|inner| {
            let kubelet = inner.pods.get(&uid).cloned();
            let sandbox = kubelet.as_ref().and_then(|pod| pod.sandbox.clone());
            if let (Some(pod), Some((container, path))) = (kubelet, sandbox) {
                inner.del(&pod.node, &container, &path);
            }
        });
        self.poll_agents();
    }

    /// DELs that plugins wait for.
    pub fn unanswered_dels(&self) -> usize {
        self.with(|inner| inner.dels.len())
    }

    /// The runtime of a node cannot be asked, or can again. What it runs goes on.
    pub fn set_runtime_lost(&mut self, node: &str, lost: bool) {
        self.with(|inner| inner.node(node).ailments.runtime_silent = lost);
    }

    /// The paths of a node's namespaces cannot be looked at, or can again.
    pub fn set_namespaces_lost(&mut self, node: &str, lost: bool) {
        self.with(|inner| {
            let looks = if lost { Looks::Unknown } else { Looks::True };
            inner.node(node).ailments.looks = looks;
        });
    }

    /// Creates a node whose machine is a copy of another's: it has the same ID.
    pub fn add_clone(&mut self, name: &str, of: &str) {
        self.with(|inner| {
            let metadata = Metadata {
                name: name.to_owned(),
                ..Metadata::default()
            };
            let object = Node {
                metadata,
                ..Node::default()
            };
            inner.store.create(object.into()).expect("the name is free");
            let machine = inner.node(of).machine.clone();
            let machine = machine_name(machine_id(&machine), name);
            inner.node(name).machine = machine;
        });
        self.start_agent(name);
    }
}
