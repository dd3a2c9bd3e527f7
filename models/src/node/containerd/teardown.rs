//! StopPodSandbox and RemovePodSandbox: stop the task, CNI DEL, then the namespace. Each call runs
//! DEL again; RemovePodSandbox stops first. The first DEL that fails keeps the namespace.
//! Source: containerd v1.7.2 `pkg/cri/server/sandbox_stop.go:90-107`, `sandbox_remove.go:50-117`.

use std::time::Duration;

use crate::cni::Verb;
use crate::context::Context;
use crate::ids::{ContainerId, NetnsId};
use crate::node::cri::{CriError, CriResult};

use super::Containerd;
use super::call::Work;
use super::store::SandboxState;
use super::swallow_not_found;

/// What of a sandbox is left to be stopped when its task is.
enum Left {
    /// It was removed meanwhile.
    Nothing,
    /// Its network, in the namespace if that still exists.
    Network(Option<NetnsId>),
    /// A namespace that no plugin is asked about.
    SilentNamespace,
    /// Its record.
    Record,
}

impl Work {
    /// StopPodSandbox.
    pub(super) async fn stop_pod_sandbox(&self) -> CriResult {
        self.stop().await?;
        Ok(self.call.container)
    }

    /// RemovePodSandbox.
    pub(super) async fn remove_pod_sandbox(&self) -> CriResult {
        if self.stop().await? {
            let parameters = &self.containerd.parameters.containerd;
            self.port.cpu(parameters.cpu_remove).await;
            self.go_on()?;
            self.commit(parameters.remove_commits).await;
            self.go_on()?;
            self.with(|containerd, call, context| {
                containerd.unlist_sandbox(call.container, context);
            })
            .await;
            self.containerd.release_name(&self.call);
        }
        Ok(self.call.container)
    }

    /// Stops the task, if it runs, and takes the network down; false when the sandbox was gone
    /// before that.
    async fn stop(&self) -> Result<bool, CriError> {
        let container = self.call.container;
        let demand = if self.containerd.is_ready(container) {
            self.containerd.parameters.containerd.cpu_stop_sandbox
        } else {
            Duration::ZERO
        };
        self.port.cpu(demand).await;
        self.go_on()?;
        let left = self.with(|containerd, call, context| {
            containerd.sandbox_stopped(call.container, context);
            containerd.left_to_stop(call.container)
        });
        match left.await {
            Left::Nothing => return Ok(false),
            Left::Record => return Ok(true),
            Left::SilentNamespace => {}
            Left::Network(netns) => {
                let result = self.network(Verb::Del, netns).await;
                swallow_not_found(result.map(|_| ()), netns.is_none())
                    .map_err(|_| CriError("network teardown failed"))?;
            }
        }
        self.with(|containerd, call, context| {
            containerd.remove_netns_of(call.container, context);
        })
        .await;
        Ok(true)
    }
}

impl Containerd {
    fn is_ready(&self, container: ContainerId) -> bool {
        let store = self.store.borrow();
        let sandbox = store.sandboxes.get(&container);
        sandbox.is_some_and(|sandbox| sandbox.state == SandboxState::Ready)
    }

    fn left_to_stop(&self, container: ContainerId) -> Left {
        let mut store = self.store.borrow_mut();
        let Some(sandbox) = store.sandboxes.get_mut(&container) else {
            return Left::Nothing;
        };
        // A sandbox whose namespace went earlier has had its DEL.
        let silent = self.silent_teardowns.get();
        if sandbox.netns.is_some() && silent > 0 {
            self.silent_teardowns.set(silent - 1);
            sandbox.network = false;
            Left::SilentNamespace
        } else if sandbox.network {
            Left::Network(sandbox.netns)
        } else {
            Left::Record
        }
    }

    /// The namespace of a sandbox goes; another removal may have taken the sandbox meanwhile.
    fn remove_netns_of(&self, container: ContainerId, context: &mut Context<'_>) {
        let mut store = self.store.borrow_mut();
        if let Some(sandbox) = store.sandboxes.get_mut(&container) {
            let mut change = context.core.change(self.desk.index);
            if let Some(netns) = sandbox.netns.take() {
                change.remove_netns(netns);
            }
            change.sandbox_without_netns(container);
        }
    }

    /// A sandbox vanishes: its processes, its namespace and its record at once, without a DEL.
    pub(super) fn sandbox_lost(&self, pick: u64, context: &mut Context<'_>) -> bool {
        let store = self.store.borrow();
        let calls = self.calls.borrow();
        let at_work = |container: &ContainerId| {
            let mut calls = calls.values();
            calls.any(|call| call.container == *container)
        };
        let ready: Vec<ContainerId> = (store.sandboxes.iter())
            .filter(|(_, sandbox)| sandbox.state == SandboxState::Ready && sandbox.network)
            .map(|(container, _)| *container)
            .filter(|container| !at_work(container))
            .collect();
        if ready.is_empty() {
            return false;
        }
        let container = ready[(pick % ready.len() as u64) as usize];
        let sandbox = &store.sandboxes[&container];
        let (pod, attempt, netns) = (sandbox.pod.uid, sandbox.attempt, sandbox.netns);
        drop((store, calls));
        self.sandbox_stopped(container, context);
        if let Some(netns) = netns {
            context.core.change(self.desk.index).remove_netns(netns);
        }
        self.unlist_sandbox(container, context);
        self.names.borrow_mut().release(pod, attempt, container);
        true
    }
}
