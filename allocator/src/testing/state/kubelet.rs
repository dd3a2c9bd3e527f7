//! A very small kubelet with its runtime and plugins: sandboxes come and go, each with an ADD and a
//! DEL; a DEL that meets no agent goes to the spool.

use core::time::Duration;

use super::Inner;
use super::nodes::{Sandboxed, notify};
use super::queue::Arrival;
use crate::core::exchange::{
    AddRequest, Attachment, DelRequest, InboxEvent, PluginRequest, PodReference, RequestId,
    Response, SpoolEntry, SpoolId, Verb,
};
use crate::core::objects::{Kind, ObjectKey, Uid};

/// The default network of every node.
pub const NETWORK: &str = "cluster-net";

/// A Pod as the fake kubelet sees it.
#[derive(Clone, Debug)]
pub(in crate::testing) struct Kubelet {
    pub(in crate::testing) node: String,
    pub(in crate::testing) name: String,
    pub(in crate::testing) attempt: u32,
    /// The ADD that is not answered.
    pub(in crate::testing) adding: Option<RequestId>,
    pub(in crate::testing) sandbox: Option<(String, String)>,
    pub(in crate::testing) leaving: bool,
}

/// How a Pod is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodPlan<'a> {
    /// Node that it is bound to.
    pub node: &'a str,
    /// Its name; its UID is derived from it.
    pub name: &'a str,
    /// When the kubelet makes its sandbox, from now.
    pub sandbox_after: Duration,
}

impl Inner {
    pub(in crate::testing) fn start_sandbox(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid).cloned() else {
            return;
        };
        // A kubelet may start a Pod whose deletion it has not seen.
        if pod.sandbox.is_some() {
            return;
        }
        let again = self.now + Duration::from_secs(1);
        if !self.agent_is_up(&pod.node) {
            self.schedule(again, Arrival::StartSandbox(uid.to_owned()));
            return;
        }
        self.last_id += 1;
        let id = RequestId(self.last_id);
        let container = format!("{uid}-{}", self.last_id);
        let path = format!("/run/netns/{container}");
        let sandbox = Sandboxed {
            pod: uid.to_owned(),
            container: container.clone(),
            addresses: Vec::new(),
        };
        self.node(&pod.node)
            .namespaces
            .insert(path.clone(), sandbox);
        if let Some(state) = self.pods.get_mut(uid) {
            state.attempt += 1;
            state.adding = Some(id);
            state.sandbox = Some((container.clone(), path.clone()));
        }
        self.adds.insert(id, uid.to_owned());
        let add = AddRequest {
            attachment: Attachment {
                container,
                interface: "eth0".into(),
            },
            netns: path,
            pod: PodReference {
                namespace: "ns".into(),
                name: pod.name.clone(),
                uid: Some(Uid::new(uid)),
            },
            network: NETWORK.to_owned(),
            pools: Vec::new(),
            ips: Vec::new(),
        };
        let deadline = self.now + Duration::from_secs(20);
        let request = PluginRequest {
            id,
            deadline,
            verb: Verb::Add(add),
        };
        self.push(&pod.node, InboxEvent::Request(Box::new(request)));
    }

    pub(in crate::testing) fn stop_sandbox(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid).cloned() else {
            return;
        };
        if let Some(id) = pod.adding {
            self.adds.remove(&id);
            self.push(&pod.node, InboxEvent::Closed(id));
        }
        let Some((container, path)) = pod.sandbox else {
            if pod.leaving {
                self.pods.remove(uid);
                self.remove_pod_object(&pod.name);
            }
            return;
        };
        self.del(&pod.node, &container, &path);
        // The runtime removes the namespace after the DEL; sometimes its link lives on a while.
        let slow = self.chance(200_000);
        let longest = if slow {
            Duration::from_secs(12)
        } else {
            Duration::from_millis(20)
        };
        let lives = self.draw_between(Duration::from_millis(1), longest);
        let at = self.now + lives;
        self.schedule(at, Arrival::EndNamespace(pod.node.clone(), path));
        if pod.leaving {
            self.pods.remove(uid);
            self.remove_pod_object(&pod.name);
        } else if let Some(state) = self.pods.get_mut(uid) {
            state.adding = None;
            state.sandbox = None;
            let again = self.now + Duration::from_secs(1);
            self.schedule(again, Arrival::StartSandbox(uid.to_owned()));
        }
    }

    pub(in crate::testing) fn del(&mut self, node: &str, container: &str, path: &str) {
        let attachment = Attachment {
            container: container.into(),
            interface: "eth0".into(),
        };
        let del = DelRequest {
            attachment,
            netns: path.to_owned(),
        };
        if self.agent_is_up(node) {
            self.last_id += 1;
            let id = RequestId(self.last_id);
            let deadline = self.now + Duration::from_secs(10);
            self.dels.insert(id, (node.to_owned(), del.clone()));
            let request = PluginRequest {
                id,
                deadline,
                verb: Verb::Del(del),
            };
            self.push(node, InboxEvent::Request(Box::new(request)));
        } else {
            self.spool(node, del);
        }
    }

    /// A DEL that meets no agent is left for the next one.
    pub(in crate::testing) fn spool(&mut self, node: &str, del: DelRequest) {
        let id = SpoolId(del.attachment.to_string());
        let node = self.node(node);
        if !node.spool.iter().any(|entry| entry.id == id) {
            node.spool.push(SpoolEntry {
                id,
                request: Some(del),
            });
        }
        // As a watch of the directory does.
        notify(&mut node.spool_waiter);
    }

    pub(in crate::testing) fn end_namespace(&mut self, node: &str, path: &str) {
        let node = self.node(node);
        let ended = node.namespaces.remove(path);
        node.ended.extend(ended);
        notify(&mut node.namespace_waiter);
    }

    pub(in crate::testing) fn remove_pod_object(&mut self, name: &str) {
        let key = pod_key(name);
        if self.store.delete(&key, None).is_ok() {
            self.notify_watches();
        }
    }

    /// What plugins were told takes effect in their namespaces.
    pub(in crate::testing) fn take_replies(&mut self) {
        let names: Vec<_> = self.nodes.keys().cloned().collect();
        for name in names {
            for (id, response) in std::mem::take(&mut self.node(&name).replies) {
                // From then on the DEL is the agent's to keep: its plugin leaves nothing in the
                // spool.
                if response == Response::Done && self.dels.remove(&id).is_some() {
                    continue;
                }
                let Some(uid) = self.adds.remove(&id) else {
                    continue;
                };
                match response {
                    Response::Added(allocation) => {
                        let addresses: Vec<_> = allocation
                            .addresses
                            .iter()
                            .map(|a| a.address.addr())
                            .collect();
                        let Some(pod) = self.pods.get_mut(&uid) else {
                            continue;
                        };
                        pod.adding = None;
                        let Some((_, path)) = pod.sandbox.clone() else {
                            continue;
                        };
                        if let Some(sandbox) = self.node(&name).namespaces.get_mut(&path) {
                            sandbox.addresses = addresses;
                        }
                        self.check_uniqueness(&uid);
                    }
                    Response::Done | Response::Failed(_) => self.stop_sandbox(&uid),
                }
            }
        }
    }
}

pub(in crate::testing) fn pod_key(name: &str) -> ObjectKey {
    ObjectKey {
        kind: Kind::Pod,
        namespace: "ns".into(),
        name: name.to_owned(),
    }
}
