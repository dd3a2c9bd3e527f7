//! All machines' kubelet, runtime and plugins: routes each event, answer and completion to the
//! actor that waits for it, and applies what happens to whole machines and processes.

use drydock_engine::stream::Streams;

use crate::cni::IpamAnswer;
use crate::context::Context;
use crate::ids::{IpamCallId, NodeIndex, WatchId};
use crate::node_event::{NodeEvent, NodeToken};
use crate::request::{Change, Response};

/// The node side of the cluster, by machine.
#[derive(Debug, Default)]
pub struct Nodes {}

impl Nodes {
    /// No machine yet.
    pub fn new() -> Self {
        Self::default()
    }
    /// Starts containerd and kubelet of a machine that exists in `machines` (start of the run).
    pub fn start(&mut self, node: NodeIndex, context: &mut Context<'_>) {}
    /// A machine joined while the cluster ran (also under an old node name): starts it and says so.
    pub fn join(&mut self, node: NodeIndex, context: &mut Context<'_>) {}
    /// An event of a machine.
    pub fn handle(&mut self, node: NodeIndex, event: NodeEvent, context: &mut Context<'_>) {}
    /// An API call of a machine ended.
    pub fn response(
        &mut self,
        node: NodeIndex,
        token: NodeToken,
        response: Response,
        context: &mut Context<'_>,
    ) {
    }
    /// The kubelet's watch delivered.
    pub fn watch(
        &mut self,
        node: NodeIndex,
        watch: WatchId,
        change: Change,
        context: &mut Context<'_>,
    ) {
    }
    /// CPU of a machine was served.
    pub fn cpu_done(&mut self, node: NodeIndex, token: NodeToken, context: &mut Context<'_>) {}
    /// The IPAM plugin exited.
    pub fn ipam_exit(
        &mut self,
        node: NodeIndex,
        call: IpamCallId,
        answer: IpamAnswer,
        context: &mut Context<'_>,
    ) {
    }
    /// The machine loses power: every process on it is dead, memory and namespaces are gone.
    /// It boots again `return_after` later, if given.
    pub fn power_off(
        &mut self,
        node: NodeIndex,
        return_after: Option<std::time::Duration>,
        context: &mut Context<'_>,
    ) {
    }
    /// The machine boots now.
    pub fn boot(&mut self, node: NodeIndex, context: &mut Context<'_>) {}
    /// The kubelet dies and comes back after `kubelet.restart`; sandboxes run on.
    pub fn restart_kubelet(&mut self, node: NodeIndex, context: &mut Context<'_>) {}
    /// containerd dies and comes back after `containerd.restart`; plugins run on as orphans.
    pub fn restart_containerd(&mut self, node: NodeIndex, context: &mut Context<'_>) {}
    /// Link deletions of macvlan fail from the `nth` DEL from now (1 = the next), `count` times.
    pub fn fail_link_deletions(&mut self, node: NodeIndex, nth: u32, count: u32) {}
}
