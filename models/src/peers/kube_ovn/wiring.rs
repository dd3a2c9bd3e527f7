//! The daemon's data plane, step by step: interfaces, `ovs-vsctl` processes, the gateway check.
//! ADD executes 12 `ovs-vsctl`, DEL five; each takes one of the node's slots.
//! Source: pkg/daemon/ovs_linux.go:64-386, handler.go:304-449, pkg/ovs/ovs-vsctl{,_linux}.go,
//! pkg/daemon/ovs.go:15-49.

use std::rc::Rc;

use super::daemon::DaemonStep;
use super::plugin::CniStep;
use super::{CoreId, KubeOvn};
use crate::context::Context;
use crate::ids::{IpamCallId, NodeIndex};
use crate::parameters::Span;

/// One step of the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Make or delete the pair of interfaces.
    Link,
    /// `ovs-vsctl` that reads.
    Read,
    /// `ovs-vsctl add-port` with the name of the port.
    AddPort,
    /// `ovs-vsctl del-port`.
    DeletePort,
    /// `ovs-vsctl set interface`: ingress policing.
    Police,
    /// The Pod's side of the pair.
    Namespace,
    /// Conflict detection (VLAN only), then the gateway check.
    Gateway,
}

pub(super) const ADD: [Op; 15] = [
    Op::Link,
    Op::Read,
    Op::AddPort,
    Op::Read,
    Op::Read,
    Op::Read,
    Op::Police,
    Op::Read,
    Op::Read,
    Op::Read,
    Op::Namespace,
    Op::Gateway,
    Op::Read,
    Op::Read,
    Op::Read,
];

pub(super) const DEL: [Op; 6] = [
    Op::DeletePort,
    Op::Read,
    Op::Read,
    Op::Read,
    Op::Read,
    Op::Link,
];

impl KubeOvn {
    /// Begins the next step of the data plane, or ends.
    pub(super) fn run_op(&mut self, node: NodeIndex, id: IpamCallId, context: &mut Context<'_>) {
        let parameters = Rc::clone(&self.parameters);
        let request = self.request(node, id);
        let Some(op) = request.ops().get(request.op).copied() else {
            return self.wired(node, id, context);
        };
        match op {
            Op::Link => self.kernel(node, id, parameters.link, context),
            Op::Namespace => self.kernel(node, id, parameters.netns_setup, context),
            Op::Read | Op::AddPort | Op::DeletePort | Op::Police => {
                self.request(node, id).since = context.now();
                self.take_slot(node, id, context);
            }
            Op::Gateway if parameters.underlay => {
                let span = parameters.arp_detect;
                let delay = self.daemon(node).draws.duration(span.min..=span.max);
                self.pause(node, id, CniStep::Detect, delay, context);
            }
            Op::Gateway => self.probe_first(node, id, context),
        }
    }

    pub(super) fn op_done(&mut self, node: NodeIndex, id: IpamCallId, context: &mut Context<'_>) {
        self.request(node, id).op += 1;
        self.run_op(node, id, context);
    }

    /// Work under the kernel's lock around namespaces and links.
    fn kernel(&mut self, node: NodeIndex, id: IpamCallId, span: Span, context: &mut Context<'_>) {
        let time = self.daemon(node).draws.duration(span.min..=span.max);
        let now = context.now();
        let done = context.core.machine(node).network_lock.submit(now, time);
        self.pause(node, id, CniStep::Kernel, done - now, context);
    }

    /// At most so many `ovs-vsctl` run; one that finds no slot in time fails the request.
    pub(super) fn take_slot(&mut self, node: NodeIndex, id: IpamCallId, context: &mut Context<'_>) {
        let parameters = Rc::clone(&self.parameters);
        let daemon = self.daemon(node);
        if daemon.slots < parameters.vsctl_slots {
            daemon.slots += 1;
            self.enter(node, id, CniStep::Vsctl);
            let step = DaemonStep::Request(id);
            return self.daemon_cpu(node, parameters.vsctl_cpu, step, context);
        }
        let waited = context.now().saturating_since(self.request(node, id).since);
        if waited >= parameters.vsctl_slot_wait {
            self.totals.add("vsctl_no_slot");
            return self.request_fails(node, id, "no ovs-vsctl slot", context);
        }
        self.pause(node, id, CniStep::Slot, parameters.vsctl_slot_poll, context);
    }

    pub(super) fn vsctl_ran(&mut self, node: NodeIndex, id: IpamCallId, context: &mut Context<'_>) {
        self.enter(node, id, CniStep::Database);
        let demand = self.parameters.ovsdb_cpu;
        let wait = self.daemon_wait(node, DaemonStep::Request(id));
        self.capped(CoreId::Switch(node), node, demand, wait, context);
    }

    /// A read is done; a write is in the database, and waits for ovs-vswitchd.
    pub(super) fn database_answered(
        &mut self,
        node: NodeIndex,
        id: IpamCallId,
        context: &mut Context<'_>,
    ) {
        let request = self.request(node, id);
        let (op, name, container) = (
            request.ops()[request.op],
            request.name,
            request.call.container,
        );
        match op {
            Op::AddPort => self.interface_added(node, name, container, context),
            Op::DeletePort => self.interface_removed(node, name, container, context),
            Op::Police => {}
            _ => return self.vsctl_ends(node, id, context),
        }
        self.enter(node, id, CniStep::Vswitchd);
        let wait = self.daemon_wait(node, DaemonStep::Request(id));
        self.reconfigure(node, wait, context);
    }

    pub(super) fn vsctl_ends(
        &mut self,
        node: NodeIndex,
        id: IpamCallId,
        context: &mut Context<'_>,
    ) {
        self.totals.add("vsctl_processes");
        self.daemon(node).slots -= 1;
        self.op_done(node, id, context);
    }

    pub(super) fn probe_first(
        &mut self,
        node: NodeIndex,
        id: IpamCallId,
        context: &mut Context<'_>,
    ) {
        self.request(node, id).tries = 0;
        self.probe(node, id, context);
    }

    /// One probe of the gateway: answered at once if the flows exist.
    pub(super) fn probe(&mut self, node: NodeIndex, id: IpamCallId, context: &mut Context<'_>) {
        let parameters = Rc::clone(&self.parameters);
        let request = self.request(node, id);
        let (name, tries) = (request.name, request.tries);
        request.tries += 1;
        if tries < parameters.ping_count {
            self.totals.add("gateway_probes");
        }
        if self.daemon(node).switch.is_ready(name) {
            self.totals.add("gateway_answers");
            self.op_done(node, id, context);
        } else if tries < parameters.ping_count {
            self.pause(node, id, CniStep::Probe, parameters.ping_interval, context);
        } else {
            self.totals.add("gateway_timeouts");
            if parameters.ping_error {
                self.request_fails(node, id, "gateway is not reachable", context);
            } else {
                self.op_done(node, id, context);
            }
        }
    }
}
