//! The macvlan plugin: ADD makes the link, executes the IPAM, configures the address; DEL executes
//! the IPAM, then deletes the link. No duplicate address detection for IPv4.
//!
//! An IPAM that is the network plugin itself ([`crate::ipam::Ipam::is_network_plugin`]) passes
//! through here as well, because the link and its address are the world's truth; but it pays no
//! macvlan, detects nothing that it does not say itself, and dies with its process.
//! Source: containernetworking/plugins `plugins/main/macvlan/macvlan.go:202-429`,
//! `pkg/ipam/ipam_linux.go:36,116-121`.

use std::net::IpAddr;
use std::time::Duration;

use crate::cni::{CniError, IpamAnswer, IpamCall, Verb};
use crate::context::Context;
use crate::event::Event;
use crate::event::NodeToken;
use crate::ids::IpamCallId;
use crate::machine::LinkError;
use crate::node::desk::{CniResult, Desk, Execution, node_side};
use crate::observation::{Observation, PodStage};

use super::{Parent, Plugins};

/// CNI code of a plugin's own failure.
const PLUGIN_ERROR: u32 = 999;

/// What a macvlan process waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Its own start.
    Exec,
    /// The IPAM.
    Ipam,
    /// The IPAM's DEL after the address could not be configured.
    Rollback,
    /// Duplicate address detection.
    Dad(Vec<IpAddr>),
}

/// A macvlan process.
#[derive(Debug)]
pub(super) struct Macvlan {
    pub(super) parent: Parent,
    pub(super) execution: Execution,
    pub(super) ticket: u32,
    /// The execution of the IPAM that it waits for.
    pub(super) ipam: Option<IpamCallId>,
    /// The IPAM is the network plugin: this process is the IPAM's own.
    pub(super) own: bool,
    step: Step,
}

impl Plugins {
    /// A wait of a process is over; that of one that ended, or waits for something else, is stale.
    pub(crate) fn macvlan_woken(
        &mut self,
        process: u32,
        ticket: u32,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        if self
            .macvlan
            .get(&process)
            .is_some_and(|p| p.ticket == ticket)
        {
            self.macvlan_resume(process, desk, context);
        }
    }

    /// A macvlan process starts.
    pub(super) fn macvlan_exec(
        &mut self,
        process: u32,
        parent: Parent,
        execution: Execution,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let parameters = node_side(context);
        // loopback runs beside the network's plugin, in containerd's own goroutine.
        let demand = parameters.cni.cpu_loopback
            + match execution.verb {
                _ if self.network.ipam_is_network_plugin => Duration::ZERO,
                Verb::Add => parameters.macvlan.cpu_add,
                Verb::Del => parameters.macvlan.cpu_del,
            };
        let ticket = desk.ticket();
        let state = Macvlan {
            parent,
            execution,
            ticket,
            ipam: None,
            own: self.network.ipam_is_network_plugin,
            step: Step::Exec,
        };
        let (pod, add) = (state.execution.pod.uid, state.execution.verb == Verb::Add);
        let before = self.macvlan.insert(process, state);
        assert!(before.is_none(), "a process has a number of its own");
        if add {
            let work_ns = demand.as_nanos() as u64;
            desk.stage(pod, PodStage::Macvlan { work_ns }, context);
        }
        desk.compute(demand, NodeToken::Macvlan { process, ticket }, context);
    }

    /// A wait other than for the IPAM ended.
    pub(super) fn macvlan_resume(
        &mut self,
        process: u32,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let state = &self.macvlan[&process];
        match (&state.step, state.execution.verb) {
            (Step::Exec, Verb::Add) => self.macvlan_make_link(process, desk, context),
            (Step::Exec, Verb::Del) => {
                self.macvlan_ipam(process, Verb::Del, Step::Ipam, desk, context);
            }
            (Step::Dad(addresses), _) => {
                let addresses = addresses.clone();
                self.macvlan_exit(process, Ok(addresses), desk, context);
            }
            (Step::Ipam | Step::Rollback, _) => {
                unreachable!("only the IPAM ends its own execution")
            }
        }
    }

    /// The IPAM exited.
    pub(crate) fn ipam_exited(
        &mut self,
        call: IpamCallId,
        answer: IpamAnswer,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        if self.chained_exited(call, &answer, desk, context) {
            return;
        }
        // Its parent was killed: the answer goes into a broken pipe.
        let Some(process) = self.ipam.remove(&call) else {
            return;
        };
        let Some(state) = self.macvlan.get_mut(&process) else {
            return;
        };
        assert_eq!(
            state.ipam,
            Some(call),
            "a process hears of its own execution"
        );
        state.ipam = None;
        let (verb, rollback) = (state.execution.verb, state.step == Step::Rollback);
        self.observe_ipam(process, &answer, desk, context);
        match (verb, rollback) {
            (Verb::Add, false) => self.macvlan_configure(process, answer, desk, context),
            (Verb::Add, true) => {
                let error = failure("cannot configure the interface");
                self.macvlan_exit(process, Err(error), desk, context);
            }
            (Verb::Del, _) => self.macvlan_delete_link(process, answer, desk, context),
        }
    }

    fn macvlan_make_link(&mut self, process: u32, desk: &mut Desk, context: &mut Context<'_>) {
        let netns = self.macvlan[&process].execution.netns;
        let made = netns.map_or(Err(LinkError::NoNamespace), |netns| {
            context.core.change(desk.index).add_link(netns)
        });
        let message = match made {
            Ok(()) => return self.macvlan_ipam(process, Verb::Add, Step::Ipam, desk, context),
            Err(LinkError::NoNamespace) => "failed to open netns",
            Err(LinkError::Exists) => "failed to rename macvlan: file exists",
        };
        self.macvlan_exit(process, Err(failure(message)), desk, context);
    }

    /// Executes the IPAM.
    fn macvlan_ipam(
        &mut self,
        process: u32,
        verb: Verb,
        step: Step,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let (node, id) = (desk.index, desk.next_ipam_call());
        let state = self
            .macvlan
            .get_mut(&process)
            .expect("a live process is in the table");
        state.step = step;
        state.ticket = 0;
        state.ipam = Some(id);
        let execution = &state.execution;
        let (container, pod) = (execution.container, execution.pod.uid);
        let call = IpamCall {
            id,
            node,
            verb,
            container,
            netns: execution.netns,
            pod_namespace: execution.pod.namespace.clone(),
            pod_name: execution.pod.name.clone(),
            pod,
            deadline: execution.deadline,
        };
        let before = self.ipam.insert(id, process);
        assert!(before.is_none(), "an execution has one parent");
        if verb == Verb::Add {
            context.core.observe(Observation::IpamAddStarted {
                node,
                container,
                pod,
            });
        }
        context.core.queue.soon(Event::IpamExec(call));
    }

    fn observe_ipam(
        &self,
        process: u32,
        answer: &IpamAnswer,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let (node, state) = (desk.index, &self.macvlan[&process]);
        let (container, pod) = (state.execution.container, state.execution.pod.uid);
        let observation = if state.execution.verb == Verb::Add && state.step == Step::Ipam {
            let result = match answer {
                Ok(assigned) => Ok(assigned.addresses.clone()),
                Err(error) => Err((error.code, error.message.clone())),
            };
            Observation::IpamAddEnded {
                node,
                container,
                pod,
                result,
            }
        } else {
            let (with_netns, ok) = (state.execution.netns.is_some(), answer.is_ok());
            Observation::IpamDelEnded {
                node,
                container,
                pod,
                with_netns,
                ok,
            }
        };
        context.core.observe(observation);
    }

    /// The IPAM answered an ADD: the address goes onto the link, or the link goes.
    fn macvlan_configure(
        &mut self,
        process: u32,
        answer: IpamAnswer,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let execution = &self.macvlan[&process].execution;
        let (netns, container) = (execution.netns, execution.container);
        let netns = netns.expect("an ADD that made a link has a namespace");
        let mut change = context.core.change(desk.index);
        match answer {
            Ok(assigned) => {
                let addresses = assigned.addresses;
                if change.address_up(netns, container, &addresses) {
                    self.macvlan_detect(process, addresses, desk, context);
                } else {
                    // A DEL took the link away, or the namespace: the plugin gives the address
                    // back.
                    self.macvlan_ipam(process, Verb::Del, Step::Rollback, desk, context);
                }
            }
            Err(error) => {
                change.link_down(netns);
                self.macvlan_exit(process, Err(error), desk, context);
            }
        }
    }

    /// IPv6 with a gateway: wait until the address is no longer tentative.
    fn macvlan_detect(
        &mut self,
        process: u32,
        addresses: Vec<IpAddr>,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let parameters = node_side(context);
        let detects = parameters.macvlan.ipv6_dad && !self.network.ipam_is_network_plugin;
        if !detects || !addresses.iter().any(IpAddr::is_ipv6) {
            return self.macvlan_exit(process, Ok(addresses), desk, context);
        }
        let pod = self.macvlan[&process].execution.pod.clone();
        let delay = desk.draw(&pod, parameters.macvlan.dad_wait, context);
        let ticket = desk.ticket();
        let state = self
            .macvlan
            .get_mut(&process)
            .expect("a live process is in the table");
        state.step = Step::Dad(addresses);
        state.ticket = ticket;
        if state.parent != Parent::Orphaned {
            let pod = pod.uid;
            desk.stage(pod, PodStage::DuplicateDetection, context);
        }
        desk.wait(delay, NodeToken::Macvlan { process, ticket }, context);
    }

    /// The IPAM answered a DEL: only then the link goes.
    fn macvlan_delete_link(
        &mut self,
        process: u32,
        answer: IpamAnswer,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        if let Err(error) = answer {
            return self.macvlan_exit(process, Err(error), desk, context);
        }
        let (node, netns) = (desk.index, self.macvlan[&process].execution.netns);
        let namespaces = &context.core.machine(node).namespaces;
        let linked = netns.filter(|netns| namespaces.get(netns).is_some_and(|of| of.link));
        if let Some(netns) = linked {
            if link_deletion_fails(&mut self.link_failures) {
                let error = failure("failed to delete link: device or resource busy");
                return self.macvlan_exit(process, Err(error), desk, context);
            }
            context.core.change(node).link_down(netns);
        }
        self.macvlan_exit(process, Ok(Vec::new()), desk, context);
    }

    /// The process ends; an orphan writes into a broken pipe.
    fn macvlan_exit(
        &mut self,
        process: u32,
        result: CniResult,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let state = self.macvlan.remove(&process).expect("a process exits once");
        assert!(state.ipam.is_none(), "macvlan outlives the IPAM it runs");
        match state.parent {
            Parent::Runtime(call) => self.cni_exited(call, &state.execution, result, desk, context),
            Parent::Multus(parent) => self.delegate_exited(parent, result, desk, context),
            Parent::Orphaned => {}
        }
    }
}

/// The fault hook: counts deletions down to the first that fails.
fn link_deletion_fails((nth, count): &mut (u32, u32)) -> bool {
    if *count == 0 {
        return false;
    }
    if *nth > 1 {
        *nth -= 1;
        return false;
    }
    *count -= 1;
    true
}

fn failure(message: &str) -> CniError {
    CniError {
        code: PLUGIN_ERROR,
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::link_deletion_fails;

    #[test]
    fn link_deletion_fails_from_the_nth_for_as_often_as_asked() {
        let mut hook = (3, 2);
        let failed: Vec<bool> = (0..6).map(|_| link_deletion_fails(&mut hook)).collect();
        assert_eq!(failed, [false, false, true, true, false, false]);
    }
}
