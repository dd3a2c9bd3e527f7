//! All machines' kubelet, runtime and plugins: routes each event, answer and completion to the
//! actor that waits for it, passes what one actor leaves for another, and applies what happens to
//! whole machines and processes.
//!
//! - [`desk`]: what each actor may touch; [`cri`]: what the kubelet may ask of the runtime.
//! - [`kubelet`], [`containerd`]: actors that do not know of each other. A CRI call is a script.
//! - [`plugins`] (multus, macvlan): scripts, which containerd executes.

mod containerd;
mod cri;
mod desk;
mod kubelet;
mod plugins;

#[cfg(test)]
mod harness;
#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::time::Duration;

use crate::cni::{IpamAnswer, NodeChange};
use crate::context::Context;
use crate::event::{Event, NodeEvent, NodeToken};
use crate::ids::{IpamCallId, NodeIndex, WatchId};
use crate::process::{Owner, Processes};
use crate::request::{Change, Response};

use self::containerd::Runtime;
use self::desk::{Desk, KubeletDesk, Next, Signal, node_side};
use self::kubelet::Kubelet;
use self::plugins::{Network, Plugins};

/// The node side of the cluster, by machine.
#[derive(Default)]
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    network: Network,
}

/// Everything on one machine that is not shared truth.
struct Node {
    desk: Desk,
    kubelet: Kubelet,
    runtime: Runtime,
    plugins: Rc<Plugins>,
    /// CRI calls and plugins.
    processes: Processes,
    /// What to do next, in this instant; the first on top.
    agenda: Vec<Next>,
}

impl Nodes {
    /// No machines yet. The runtime of each will execute multus, or the IPAM itself.
    pub(crate) fn new(ipam_is_network_plugin: bool) -> Self {
        Self {
            nodes: Vec::new(),
            network: Network {
                ipam_is_network_plugin,
                ipam_is_chained: false,
            },
        }
    }

    /// The IPAM has a further plugin behind macvlan.
    pub(crate) fn with_chained(mut self, ipam_is_chained: bool) -> Self {
        self.network.ipam_is_chained = ipam_is_chained;
        self
    }

    /// Starts containerd and kubelet of a machine that exists in `machines` (start of the run).
    /// Machines start in the order of their index.
    pub(crate) fn start(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        assert_eq!(
            node.index(),
            self.nodes.len(),
            "machines start in the order of their index"
        );
        let name = Rc::clone(&context.core.machine(node).node_name);
        let desk = Desk::new(node, name, context.core.streams);
        let parameters = Rc::new(node_side(context).clone());
        let plugins = Rc::new(Plugins::new(&desk, &parameters, self.network));
        self.nodes.push(Node {
            kubelet: Kubelet::default(),
            runtime: Runtime::new(&desk, &parameters, &plugins),
            plugins,
            processes: Processes::new(Owner::Node),
            agenda: Vec::new(),
            desk,
        });
        self.nodes[node.index()].act(context, Node::start_kubelet);
    }

    /// A machine joined while the cluster ran (also under an old node name): starts it and reports
    /// it.
    pub(crate) fn join(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        self.start(node, context);
        context.core.queue.soon(Event::NodeChanged {
            node,
            change: NodeChange::Joined,
        });
    }

    /// An event of a machine.
    pub(crate) fn handle(&mut self, node: NodeIndex, event: NodeEvent, context: &mut Context<'_>) {
        let NodeEvent::Boot { boot } = event else {
            return self.at(node, context, |this, context| this.handle(event, context));
        };
        let machine = context.core.machine(node);
        if !machine.up && machine.boot == boot {
            self.boot(node, context);
        }
    }

    /// An API call of a machine ended.
    pub(crate) fn response(
        &mut self,
        node: NodeIndex,
        token: NodeToken,
        response: Response,
        context: &mut Context<'_>,
    ) {
        let signal = Signal::Api(response);
        self.at(node, context, |this, _| this.desk.resume(token, signal));
    }

    /// The kubelet's watch delivered.
    pub(crate) fn watch(
        &mut self,
        node: NodeIndex,
        watch: WatchId,
        change: Change,
        context: &mut Context<'_>,
    ) {
        self.at(node, context, |this, context| {
            this.kubelet(|kubelet, desk| kubelet.watch_delivered(watch, change, desk, context));
        });
    }

    /// CPU of a machine was served.
    pub(crate) fn cpu_done(
        &mut self,
        node: NodeIndex,
        token: NodeToken,
        context: &mut Context<'_>,
    ) {
        self.at(node, context, |this, _| this.desk.resume(token, Signal::Go));
    }

    /// The IPAM plugin exited.
    pub(crate) fn ipam_exit(
        &mut self,
        node: NodeIndex,
        call: IpamCallId,
        answer: IpamAnswer,
        context: &mut Context<'_>,
    ) {
        self.at(node, context, |this, context| {
            this.plugins.exited(call, answer);
            this.processes.settle(context);
        });
    }

    /// The machine loses power: every process on it is dead, memory and namespaces are gone. It
    /// boots again `return_after` later, if given. An apiserver on it is not handled here.
    pub(crate) fn power_off(
        &mut self,
        node: NodeIndex,
        return_after: Option<Duration>,
        context: &mut Context<'_>,
    ) {
        if !context.core.machine(node).up {
            return;
        }
        self.at(node, context, Node::lose_power);
        let boot = context.core.machine(node).boot;
        if let Some(after) = return_after {
            let event = NodeEvent::Boot { boot };
            context.core.after(after, Event::Node { node, event });
        }
    }

    /// The machine boots now: its kubelet starts, and runs its Pods in new sandboxes.
    pub(crate) fn boot(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        if context.core.machine(node).up {
            return;
        }
        context.core.change(node).boot();
        self.at(node, context, |this, context| {
            this.runtime.recover(context);
            let life = this.kubelet.life();
            let boot = node_side(context).node.boot;
            this.desk
                .later(boot, NodeEvent::KubeletStart { life }, context);
        });
    }

    /// The kubelet dies and comes back after `kubelet.restart`; sandboxes keep running. CRI calls
    /// in flight are canceled.
    pub(crate) fn restart_kubelet(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        if self.at(node, context, Node::stop_kubelet) {
            self.at(node, context, Node::start_kubelet_later);
        }
    }

    /// containerd dies and comes back after `containerd.restart`; plugins keep running as orphans.
    pub(crate) fn restart_containerd(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        self.at(node, context, |this, context| {
            this.stop_containerd(None, context);
        });
    }

    /// containerd of a machine dies and is back after a while; plugins keep running as orphans.
    /// `false`: it is down already.
    pub(crate) fn stop_containerd(
        &mut self,
        node: NodeIndex,
        down: Duration,
        context: &mut Context<'_>,
    ) -> bool {
        self.at(node, context, |this, context| {
            this.stop_containerd(Some(down), context)
        })
    }

    /// A sandbox of a machine ends without a DEL: its processes, its namespace and its record are
    /// gone at once. Which one: `pick`, modulo those that are ready and that no call concerns.
    /// `false`: there is none.
    pub(crate) fn lose_sandbox(
        &mut self,
        node: NodeIndex,
        pick: u64,
        context: &mut Context<'_>,
    ) -> bool {
        self.at(node, context, |this, context| {
            this.runtime.sandbox_lost(pick, context)
        })
    }

    /// The next teardown of a sandbox on a machine calls no plugin: its namespace ends without a
    /// DEL.
    pub(crate) fn skip_del(&mut self, node: NodeIndex) {
        self.nodes[node.index()].runtime.skip_del();
    }

    /// Every IPAM plugin that runs on a machine is killed (out of memory): its parent sees it fail.
    /// Its requests to others continue.
    pub(crate) fn kill_ipam(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        self.at(node, context, |this, context| {
            this.plugins.kill_ipam(&mut this.processes, context);
        });
    }

    /// Every multus that runs on a machine is killed: its call fails, its delegate becomes an
    /// orphan.
    #[cfg(test)]
    pub(crate) fn kill_multus(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        self.at(node, context, |this, context| {
            this.plugins.kill_multus(&mut this.processes, context);
        });
    }

    /// Statuses that a kubelet has sent.
    #[cfg(test)]
    pub(crate) fn status_patch_count(&self, node: NodeIndex) -> u64 {
        self.nodes[node.index()].kubelet.status_patch_count()
    }

    /// Relists that a kubelet has finished.
    #[cfg(test)]
    pub(crate) fn relist_count(&self, node: NodeIndex) -> u64 {
        self.nodes[node.index()].kubelet.relist_count()
    }

    /// Link deletions of macvlan fail from the `nth` DEL from now (1 = the next), `count` times.
    pub(crate) fn fail_link_deletions(&mut self, node: NodeIndex, nth: u32, count: u32) {
        let plugins = &self.nodes[node.index()].plugins;
        plugins.fail_link_deletions(nth, count);
    }

    fn at<T>(
        &mut self,
        node: NodeIndex,
        context: &mut Context<'_>,
        step: impl FnOnce(&mut Node, &mut Context<'_>) -> T,
    ) -> T {
        self.nodes[node.index()].act(context, step)
    }
}

impl Node {
    /// Takes one step and everything that follows from it, depth first: what the step left on the
    /// desk comes next, in order, each item with all that follows from it before the next.
    fn act<T>(
        &mut self,
        context: &mut Context<'_>,
        step: impl FnOnce(&mut Self, &mut Context<'_>) -> T,
    ) -> T {
        assert!(self.agenda.is_empty(), "nothing is left of the last event");
        let result = step(self, context);
        loop {
            self.desk.clear(&mut self.agenda);
            let Some(next) = self.agenda.pop() else {
                return result;
            };
            self.go(next, context);
        }
    }

    /// Passes one message to the actor that it is for.
    fn go(&mut self, next: Next, context: &mut Context<'_>) {
        match next {
            Next::Resume(token, signal) => self.resume(token, signal, context),
            Next::Kubelet(errand) => {
                self.kubelet(|kubelet, desk| kubelet.errand(errand, desk, context));
            }
            Next::Changed(pod) => self.kubelet.containers_changed(pod),
            Next::Cri(request) => self.runtime.ask(&request, &mut self.processes, context),
        }
    }

    /// Hands a continuation to the actor or process that waits for it; a stale one does nothing.
    fn resume(&mut self, token: NodeToken, signal: Signal, context: &mut Context<'_>) {
        match (token, signal) {
            (NodeToken::Process(token), Signal::Api(response)) => {
                self.processes.response(token, response, context);
            }
            (NodeToken::Process(token), _) => self.processes.resume(token, context),
            (token, signal) => {
                self.kubelet(|kubelet, desk| kubelet.resume(token, signal, desk, context));
            }
        }
    }

    /// An event other than a boot.
    fn handle(&mut self, event: NodeEvent, context: &mut Context<'_>) {
        match event {
            NodeEvent::Wake(token) => self.desk.resume(token, Signal::Go),
            NodeEvent::CriDeadline { call } => {
                let processes = &mut self.processes;
                self.runtime.deadline_passed(call, processes, context);
            }
            NodeEvent::RuntimeStart { life } => self.runtime.started(life, context),
            NodeEvent::WorkloadEnds { container } => self.runtime.workload_ended(container),
            NodeEvent::Boot { .. } => unreachable!("a machine boots, not its node"),
            NodeEvent::ListAgain { .. }
            | NodeEvent::KubeletStart { .. }
            | NodeEvent::StatusTick { .. }
            | NodeEvent::GarbageCollection { .. }
            | NodeEvent::Housekeeping { .. } => {
                self.kubelet(|kubelet, desk| kubelet.handle(event, desk, context));
            }
        }
    }

    /// Takes a step of the kubelet's, at its desk.
    fn kubelet(&mut self, step: impl FnOnce(&mut Kubelet, &mut KubeletDesk<'_>)) {
        let store = self.runtime.store();
        let mut desk = KubeletDesk {
            desk: &mut self.desk,
            cri: &*store,
        };
        step(&mut self.kubelet, &mut desk);
    }

    fn start_kubelet(&mut self, context: &mut Context<'_>) {
        self.kubelet(|kubelet, desk| kubelet.start(desk, context));
    }

    /// The kubelet dies, and with it the clients of its calls. `false`: it did not run.
    fn stop_kubelet(&mut self, context: &mut Context<'_>) -> bool {
        let ran = self.kubelet.stop(&mut self.desk, context);
        if ran {
            self.runtime.cancel_calls(&mut self.processes, context);
        }
        ran
    }

    fn start_kubelet_later(&mut self, context: &mut Context<'_>) {
        let span = node_side(context).kubelet.restart;
        let delay = self.desk.stream().duration(span.min..=span.max);
        let life = self.kubelet.life();
        let start = NodeEvent::KubeletStart { life };
        self.desk.later(delay, start, context);
    }

    fn stop_containerd(&mut self, down: Option<Duration>, context: &mut Context<'_>) -> bool {
        let up = context.core.machine(self.desk.index).up;
        up && self.runtime.stop(down, &mut self.processes, context)
    }

    /// Everything in memory is gone; what is on disk stays.
    fn lose_power(&mut self, context: &mut Context<'_>) {
        self.kubelet.lose_power(&mut self.desk, context);
        self.processes.kill_node(self.desk.index, context);
        self.runtime.lose_power(context);
        context.core.change(self.desk.index).lose_power();
    }
}
