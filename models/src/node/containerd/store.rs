//! containerd's store of sandboxes: what it lists, and the namespaces that it makes for them. Each
//! change is the machine's truth as well, and is reported to the kubelet.

use std::net::IpAddr;
use std::rc::Rc;

use crate::context::Context;
use crate::ids::{ContainerId, NetnsId, PodUid};
use crate::machine::ListedSandbox;
use crate::node::cri::{ContainerState, RuntimeService, SandboxStatus};
use crate::node::desk::{Desk, Next};
use crate::objects::Pod;

use super::Runtime;

/// State of a sandbox in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SandboxState {
    /// Its task runs.
    Ready,
    /// Stopped, or Unknown: CRI prints NOTREADY for both.
    NotReady,
}

/// A sandbox in the store.
#[derive(Clone, Debug)]
pub(super) struct Sandbox {
    pub(super) pod: Rc<Pod>,
    pub(super) attempt: u32,
    pub(super) state: SandboxState,
    /// Its namespace; `None` once removed (and with the host's network).
    pub(super) netns: Option<NetnsId>,
    /// It has a network of its own: each stop calls CNI DEL, again and again.
    pub(super) network: bool,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) workload: ContainerState,
}

impl Runtime {
    /// Puts a sandbox into the store: from now on it is listed.
    pub(super) fn list_sandbox(
        &mut self,
        container: ContainerId,
        sandbox: Sandbox,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let pod = sandbox.pod.uid;
        let listed = ListedSandbox {
            pod,
            netns: sandbox.netns,
            ready: sandbox.state == SandboxState::Ready,
        };
        context
            .core
            .change(desk.index)
            .list_sandbox(container, listed);
        self.by_pod.entry(pod).or_default().push(container);
        let before = self.sandboxes.insert(container, sandbox);
        assert!(before.is_none(), "a sandbox is listed once");
        desk.follow(Next::Changed(pod));
    }

    /// Removes a sandbox from the store.
    pub(super) fn unlist_sandbox(
        &mut self,
        container: ContainerId,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let Some(sandbox) = self.sandboxes.remove(&container) else {
            return;
        };
        let pod = sandbox.pod.uid;
        let list = self
            .by_pod
            .get_mut(&pod)
            .expect("a Pod with a sandbox has a list");
        let place = list.iter().position(|id| *id == container);
        list.remove(place.expect("a listed sandbox is in its Pod's list"));
        if list.is_empty() {
            self.by_pod.remove(&pod);
        }
        context.core.change(desk.index).unlist_sandbox(container);
        desk.follow(Next::Changed(pod));
    }

    /// A sandbox is no longer ready.
    pub(super) fn sandbox_stopped(
        &mut self,
        container: ContainerId,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let Some(sandbox) = self.sandboxes.get_mut(&container) else {
            return;
        };
        if sandbox.state == SandboxState::NotReady {
            return;
        }
        sandbox.state = SandboxState::NotReady;
        if matches!(
            sandbox.workload,
            ContainerState::Created | ContainerState::Running
        ) {
            sandbox.workload = ContainerState::Exited { completed: false };
        }
        let pod = sandbox.pod.uid;
        context.core.change(desk.index).sandbox_stopped(container);
        desk.follow(Next::Changed(pod));
    }

    /// Makes a namespace for a sandbox.
    #[expect(clippy::unused_self, reason = "a namespace is made by its runtime")]
    pub(super) fn make_netns(
        &mut self,
        container: ContainerId,
        pod: PodUid,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) -> NetnsId {
        let (node, netns) = (desk.index, desk.next_netns());
        context.core.change(node).add_netns(netns, container, pod);
        netns
    }
}

impl RuntimeService for Runtime {
    fn answers(&self) -> bool {
        self.up
    }

    fn pods(&self) -> Vec<PodUid> {
        self.by_pod.keys().copied().collect()
    }

    fn list(&self, pod: PodUid) -> &[ContainerId] {
        self.by_pod.get(&pod).map_or(&[], Vec::as_slice)
    }

    fn status(&self, container: ContainerId) -> SandboxStatus<'_> {
        let sandbox = &self.sandboxes[&container];
        SandboxStatus {
            pod: &sandbox.pod,
            attempt: sandbox.attempt,
            ready: sandbox.state == SandboxState::Ready,
            addresses: &sandbox.addresses,
            workload: sandbox.workload,
        }
    }
}
