//! The node lifecycle controller: a node whose Lease is silent for its grace period is not ready;
//! when its Pods have tolerated that long enough they are deleted.
//!
//! The Lease requests themselves are not modeled: the cluster says when a node falls silent and
//! when it is heard again. Not modeled: partial disruption modes, rate limits of eviction,
//! `out-of-service` taints (a plan deletes with grace zero instead).
//!
//! Source: kubernetes v1.26.5 pkg/controller/nodelifecycle/config/v1alpha1/defaults.go:42,
//! plugin/pkg/admission/defaulttolerationseconds/admission.go:35-39.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::context::Context;
use crate::event::{ControlEvent, ControlToken, Event};
use crate::ids::{ClientId, NodeIndex, PodUid};
use crate::objects::Pod;
use crate::request::{ApiError, ReplyTo, Request, Response};

#[derive(Clone, Debug)]
struct Node {
    name: Rc<str>,
    silent: bool,
    silences: u32,
    ready: bool,
    evicting: bool,
}

/// The controller.
#[derive(Debug, Default)]
pub(super) struct NodeLifecycle {
    nodes: BTreeMap<NodeIndex, Node>,
    pods: BTreeMap<Rc<str>, BTreeSet<PodUid>>,
    client: Option<ClientId>,
}

impl NodeLifecycle {
    /// The process starts: it lists again, and a node that is silent gets its grace period anew.
    pub(super) fn start(&mut self, client: ClientId, context: &mut Context<'_>) {
        self.client = Some(client);
        self.pods.clear();
        let silent: Vec<(NodeIndex, u32)> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.silent)
            .map(|(index, node)| (*index, node.silences))
            .collect();
        let grace = context.core.parameters.kcm.node_grace;
        for (node, silence) in silent {
            let event = ControlEvent::NodeSilent { node, silence };
            context.core.after(grace, Event::Control(event));
        }
    }

    /// The process is dead.
    pub(super) fn stop(&mut self) {
        self.client = None;
    }

    /// The informer shows a Pod.
    pub(super) fn pod_changed(&mut self, pod: &Pod, gone: bool) {
        let Some(name) = &pod.node_name else { return };
        if gone {
            if let Some(pods) = self.pods.get_mut(name) {
                pods.remove(&pod.uid);
            }
        } else if let Some(pods) = self.pods.get_mut(name) {
            pods.insert(pod.uid);
        } else {
            self.pods.insert(name.clone(), BTreeSet::from([pod.uid]));
        }
    }

    /// Whether a node is ready as the API shows it.
    pub(super) fn ready(&self, node: NodeIndex) -> bool {
        self.nodes.get(&node).is_none_or(|node| node.ready)
    }

    /// A node falls silent or is heard again.
    pub(super) fn heard(
        &mut self,
        node: NodeIndex,
        name: &Rc<str>,
        heard: bool,
        context: &mut Context<'_>,
    ) {
        let state = self.nodes.entry(node).or_insert_with(|| Node {
            name: name.clone(),
            silent: false,
            silences: 0,
            ready: true,
            evicting: false,
        });
        if heard {
            state.silent = false;
            state.ready = true;
            state.evicting = false;
            return;
        }
        if state.silent {
            return;
        }
        state.silent = true;
        state.silences += 1;
        let silence = state.silences;
        let grace = context.core.parameters.kcm.node_grace;
        context.core.after(
            grace,
            Event::Control(ControlEvent::NodeSilent { node, silence }),
        );
    }

    /// The grace period of a silence ends.
    pub(super) fn silent(&mut self, node: NodeIndex, silence: u32, context: &mut Context<'_>) {
        let Some(state) = self.nodes.get_mut(&node) else {
            return;
        };
        if !state.silent || state.silences != silence || self.client.is_none() {
            return;
        }
        state.ready = false;
        let toleration = context.core.parameters.kcm.node_toleration;
        context.core.after(
            toleration,
            Event::Control(ControlEvent::NodeEvicts { node, silence }),
        );
    }

    /// The toleration of a silence ends: the node's Pods are deleted.
    pub(super) fn evict(&mut self, node: NodeIndex, silence: u32, context: &mut Context<'_>) {
        let Some(client) = self.client else { return };
        let Some(state) = self.nodes.get_mut(&node) else {
            return;
        };
        if !state.silent || state.silences != silence || state.evicting {
            return;
        }
        state.evicting = true;
        for pod in self.pods.get(&state.name).into_iter().flatten() {
            let reply = ReplyTo::Controllers {
                token: ControlToken::Evicted { pod: *pod },
            };
            context.call(
                client,
                Request::DeletePod {
                    pod: *pod,
                    grace: None,
                },
                reply,
            );
        }
    }

    /// A deletion came back; it is repeated unless it was done or the Pod is gone.
    pub(super) fn evicted(&mut self, pod: PodUid, response: &Response, context: &mut Context<'_>) {
        let again = matches!(
            response,
            Err(ApiError::Unavailable { .. } | ApiError::TooManyRequests { .. })
        );
        if again && let Some(client) = self.client {
            let reply = ReplyTo::Controllers {
                token: ControlToken::Evicted { pod },
            };
            context.call(client, Request::DeletePod { pod, grace: None }, reply);
        }
    }
}
