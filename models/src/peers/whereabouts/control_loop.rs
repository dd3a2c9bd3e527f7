//! ip-control-loop, one process per node: it watches the Pods of its node and all IPPools, and
//! should give back what deleted Pods left. In v0.6.2 it cannot: its IPAM has no namespace and no
//! client, its election never succeeds and has no deadline, so its one worker blocks for ever at
//! the first stale allocation that it finds. It looks at no address of a Pod's default network.
//!
//! Not modelled: the cache of network-attachment-definitions, the retries of its queue.
//!
//! Source: v0.6.2 pkg/controlloop/pod.go:44-276, cmd/controlloop/controlloop.go:46-153.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::context::Context;
use crate::ids::{ClientId, NodeIndex, WatchId};
use crate::objects::Pod;
use crate::request::{Change, ClientClass, ClientSpec, Custom, WatchOwner, WatchTarget};

use super::pool_object::{self, POOL};
use super::{Token, Whereabouts};

/// What a continuation of a control loop means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Pods,
    Pools,
}

impl Wait {
    pub(super) fn pack(self) -> u32 {
        self as u32
    }

    pub(super) fn unpack(detail: u32) -> Wait {
        if detail == Wait::Pods as u32 {
            Wait::Pods
        } else {
            Wait::Pools
        }
    }
}

/// One process.
#[derive(Debug)]
pub(super) struct ControlLoop {
    client: ClientId,
    pods: Option<WatchId>,
    pools: Option<WatchId>,
    cache: BTreeMap<Rc<str>, Rc<Custom>>,
    /// Its worker waits for a lease that it never asks for.
    blocked: bool,
}

#[cfg(test)]
impl ControlLoop {
    pub(super) fn pods_watch(&self) -> WatchId {
        self.pods.expect("a control loop that runs watches Pods")
    }
}

impl Whereabouts {
    pub(super) fn loop_up(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let parameters = &self.parameters;
        let client = context.client(ClientSpec {
            node,
            class: ClientClass::IpamController,
            limiter: Some((parameters.qps.milli_per_s, parameters.burst)),
            timeout: None,
            fresh_connection: true,
        });
        let fresh = ControlLoop {
            client,
            pods: None,
            pools: None,
            cache: BTreeMap::new(),
            blocked: false,
        };
        self.loops.insert(node, fresh);
        self.loop_woken(node, Wait::Pods, context);
        self.loop_woken(node, Wait::Pools, context);
    }

    pub(super) fn loop_down(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        if let Some(dead) = self.loops.remove(&node) {
            context.drop_client(dead.client);
        }
    }

    /// Opens a watch, at the start or after it was closed.
    pub(super) fn loop_woken(&mut self, node: NodeIndex, wait: Wait, context: &mut Context<'_>) {
        let Some(client) = self.loops.get(&node).map(|this| this.client) else {
            return;
        };
        let target = match wait {
            Wait::Pods => WatchTarget::Pods {
                node_name: Some(context.core.machine(node).node_name.clone()),
            },
            Wait::Pools => WatchTarget::Customs {
                kind: POOL,
                selectors: Vec::new(),
                name: None,
            },
        };
        let token = Token::Loop(node, wait).pack();
        let watch = context.watch(client, target, 0, WatchOwner::Ipam { token });
        if let Some(this) = self.loops.get_mut(&node) {
            match wait {
                Wait::Pods => this.pods = Some(watch),
                Wait::Pools => this.pools = Some(watch),
            }
        }
    }

    pub(super) fn loop_told(
        &mut self,
        node: NodeIndex,
        wait: Wait,
        watch: WatchId,
        change: Change,
        context: &mut Context<'_>,
    ) {
        let Some(this) = self.loops.get_mut(&node) else {
            return;
        };
        let current = match wait {
            Wait::Pods => this.pods,
            Wait::Pools => this.pools,
        };
        if current.is_some_and(|current| current != watch) {
            return;
        }
        match change {
            Change::PodGone(pod) => self.loop_pod_gone(node, &pod),
            Change::Custom(pool) => {
                this.cache.insert(pool.name.clone(), pool.clone());
                self.saw(&pool);
            }
            Change::CustomGone(pool) => {
                this.cache.remove(&pool.name);
            }
            Change::Closed(_) => {
                let again = context.core.parameters.client.reflector_backoff.min;
                let at = context.now() + again;
                context.ipam_timer(node, at, Token::Loop(node, wait).pack());
            }
            Change::Pod(_) | Change::Bookmark(_) => {}
        }
    }

    fn loop_pod_gone(&mut self, node: NodeIndex, pod: &Pod) {
        if self.parameters.default_network {
            self.counters.loop_pods_skipped += 1;
            return;
        }
        let Some(this) = self.loops.get_mut(&node) else {
            return;
        };
        let name = format!("{}/{}", pod.namespace, pod.name);
        let stale = !this.blocked
            && this.cache.values().any(|pool| {
                pool_object::read(&pool.body)
                    .iter()
                    .any(|allocation| allocation.pod == name)
            });
        if stale {
            this.blocked = true;
            self.counters.loops_blocked += 1;
        }
    }
}
