//! containerd's store of sandboxes: what it lists. Each change is the machine's truth as well, and
//! is reported to the kubelet, which may look at it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use crate::context::Context;
use crate::ids::{ContainerId, NetnsId, PodUid};
use crate::machine::ListedSandbox;
use crate::node::cri::{ContainerState, RuntimeService, SandboxStatus};
use crate::node::desk::Next;
use crate::objects::Pod;

use super::Containerd;
use super::call::Call;

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

/// What containerd knows of its sandboxes.
#[derive(Debug)]
pub(crate) struct Store {
    /// It answers.
    pub(super) up: bool,
    pub(super) sandboxes: BTreeMap<ContainerId, Sandbox>,
    /// Listed sandboxes by Pod, oldest first.
    by_pod: BTreeMap<PodUid, Vec<ContainerId>>,
}

impl Store {
    /// An empty store, of a containerd that answers.
    pub(super) fn new() -> Self {
        Self {
            up: true,
            sandboxes: BTreeMap::new(),
            by_pod: BTreeMap::new(),
        }
    }
}

impl Sandbox {
    /// The sandbox that a RunPodSandbox has made, or has not finished.
    pub(super) fn new(call: &Call, state: SandboxState, addresses: Vec<IpAddr>) -> Self {
        let host_network = call.pod.spec.host_network;
        let netns = call.netns.get();
        assert_eq!(
            netns.is_none(),
            host_network,
            "a sandbox has a namespace, or the host's"
        );
        Self {
            pod: call.pod.clone(),
            attempt: call.attempt,
            state,
            netns,
            network: !host_network,
            addresses,
            workload: ContainerState::None,
        }
    }
}

impl Containerd {
    /// Puts a sandbox into the store: from now on it is listed.
    pub(super) fn list_sandbox(
        &self,
        container: ContainerId,
        sandbox: Sandbox,
        context: &mut Context<'_>,
    ) {
        let pod = sandbox.pod.uid;
        let listed = ListedSandbox {
            pod,
            netns: sandbox.netns,
            ready: sandbox.state == SandboxState::Ready,
        };
        let mut change = context.core.change(self.desk.index);
        change.list_sandbox(container, listed);
        let mut store = self.store.borrow_mut();
        store.by_pod.entry(pod).or_default().push(container);
        let before = store.sandboxes.insert(container, sandbox);
        assert!(before.is_none(), "a sandbox is listed once");
        self.desk.follow(Next::Changed(pod));
    }

    /// Removes a sandbox from the store.
    pub(super) fn unlist_sandbox(&self, container: ContainerId, context: &mut Context<'_>) {
        let mut store = self.store.borrow_mut();
        let Some(sandbox) = store.sandboxes.remove(&container) else {
            return;
        };
        let pod = sandbox.pod.uid;
        let list = (store.by_pod.get_mut(&pod)).expect("a Pod with a sandbox has a list");
        let place = list.iter().position(|id| *id == container);
        list.remove(place.expect("a listed sandbox is in its Pod's list"));
        if list.is_empty() {
            store.by_pod.remove(&pod);
        }
        let mut change = context.core.change(self.desk.index);
        change.unlist_sandbox(container);
        self.desk.follow(Next::Changed(pod));
    }

    /// A sandbox is no longer ready.
    pub(super) fn sandbox_stopped(&self, container: ContainerId, context: &mut Context<'_>) {
        let mut store = self.store.borrow_mut();
        let Some(sandbox) = store.sandboxes.get_mut(&container) else {
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
        let mut change = context.core.change(self.desk.index);
        change.sandbox_stopped(container);
        self.desk.follow(Next::Changed(pod));
    }
}

impl RuntimeService for Store {
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
