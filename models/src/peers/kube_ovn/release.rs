//! What takes addresses back: the deletion of a Pod, the collection of ports whose Pod is gone,
//! and the inspector that repairs Pods. CNI DEL takes nothing back.
//!
//! Modelled: a Pod of a StatefulSet keeps its address (every ordinal counts as in range). A port
//! without an allocated live Pod goes in the second collection that sees it; an address without a
//! port is never collected.
//! Source: pkg/controller/pod.go:925-1052,1206-1233, gc.go:25-47,280-390, inspection.go:17-76.

use std::rc::Rc;

use super::central::NbOp;
use super::controller::ControlStep;
use super::items::{ItemStep, Outgoing, Work};
use super::{KubeOvn, Signal, objects};
use crate::context::Context;
use crate::request::{Consistency, Request, Response};

impl KubeOvn {
    /// The scan is done; a Pod of the same name that is another Pod ends the deletion.
    pub(super) fn release_begin(&mut self, id: u32, context: &mut Context<'_>) {
        let item = self.item(id);
        let Work::Delete(deletion) = &item.work else {
            unreachable!("a release is a deletion")
        };
        let pod = deletion.pod.clone();
        let seen = item.pod.as_ref();
        if seen.is_some_and(|seen| seen.uid != pod.uid) {
            return self.item_done(id, true, context);
        }
        if objects::is_stateful(&pod) {
            let owner = pod.owner.as_ref().map_or("", |owner| &owner.name);
            let request = Request::Get {
                kind: objects::STATEFUL_SETS,
                name: format!("{}/{owner}", pod.namespace).into(),
                consistency: Consistency::Quorum,
            };
            return self.item_asks(id, ItemStep::ReadOwner, Outgoing::Api(request), context);
        }
        self.release_routes(id, context);
    }

    fn release_routes(&mut self, id: u32, context: &mut Context<'_>) {
        let name = self.item(id).name;
        if !self.central.ports.contains(&name) {
            return self.release_address(id, context);
        }
        if !self.parameters.underlay {
            self.item(id).left = self.controller.subnet.addresses(name).len();
        }
        self.release_route(id, context);
    }

    /// One VPC write per address, then the port.
    fn release_route(&mut self, id: u32, context: &mut Context<'_>) {
        let item = self.item(id);
        if item.left > 0 {
            item.left -= 1;
            let request = Outgoing::Api(self.vpc_write());
            return self.item_asks(id, ItemStep::DeleteRoute, request, context);
        }
        let op = Outgoing::Nb(NbOp::DeletePort(item.name));
        self.item_asks(id, ItemStep::DeletePort, op, context);
    }

    fn release_address(&mut self, id: u32, context: &mut Context<'_>) {
        let item = self.item(id);
        let name = item.name;
        if item.keep {
            return self.item_done(id, true, context);
        }
        if self.controller.subnet.release(name) {
            self.totals.add("releases");
        }
        let request = delete_ip(&self.names.full(name));
        self.item_asks(id, ItemStep::DeleteIp, Outgoing::Api(request), context);
    }

    /// A remote call of a deletion ended.
    pub(super) fn release_answered(&mut self, id: u32, signal: Signal, context: &mut Context<'_>) {
        match (self.item(id).step, signal) {
            // The object is not simulated; that a controller owns the Pod says that it exists.
            (ItemStep::ReadOwner, Signal::Api(response)) if was_answered(&response) => {
                self.item(id).keep = true;
                self.release_routes(id, context);
            }
            (ItemStep::DeleteRoute, Signal::Api(Ok(_))) => self.release_route(id, context),
            (ItemStep::DeletePort, Signal::Nb(true)) => self.release_address(id, context),
            // A failure is logged, no more.
            (ItemStep::DeleteIp, Signal::Api(_)) => self.item_done(id, true, context),
            _ => self.item_done(id, false, context),
        }
    }

    /// The period of the collection ended.
    pub(super) fn collect(&mut self, context: &mut Context<'_>) {
        let parameters = Rc::clone(&self.parameters);
        self.control_timer(parameters.gc_period, ControlStep::Collect, context);
        let ports = u32::try_from(self.central.ports.len()).unwrap_or(u32::MAX);
        self.control_cpu(parameters.scan_cpu * ports, ControlStep::Ignored, context);
        self.collect_ports(context);
    }

    /// Marks ports without a Pod, and removes those marked before.
    pub(super) fn collect_ports(&mut self, context: &mut Context<'_>) {
        let view = &self.controller.pods.view;
        let lives = |name: &u32| {
            view.get(name)
                .is_some_and(|pod| !pod.is_terminal() && objects::is_allocated(pod))
        };
        let orphans: Vec<u32> = self
            .central
            .ports
            .iter()
            .copied()
            .filter(|name| !lives(name))
            .collect();
        let before = std::mem::take(&mut self.controller.suspects);
        for name in orphans {
            if !before.contains(&name) {
                self.controller.suspects.insert(name);
                continue;
            }
            self.totals.add("ports_collected");
            let wait = self.controlling(ControlStep::Ignored);
            self.transact(NbOp::DeletePort(name), wait, context);
            self.controller.subnet.release(name);
            let request = delete_ip(&self.names.full(name));
            self.control_call(request, ControlStep::Ignored, context);
        }
    }

    /// The period of the inspection ended.
    pub(super) fn inspect(&mut self, context: &mut Context<'_>) {
        let parameters = Rc::clone(&self.parameters);
        self.control_timer(parameters.inspect_period, ControlStep::Inspect, context);
        let pods = self.controller.pods.view.clone();
        let count = u32::try_from(pods.len()).unwrap_or(u32::MAX);
        self.control_cpu(parameters.scan_cpu * count, ControlStep::Ignored, context);
        for (name, pod) in pods {
            let live = !pod.is_terminal() && pod.deletion.is_none() && !pod.spec.host_network;
            if !live || !objects::is_allocated(&pod) {
                continue;
            }
            if !self.central.ports.contains(&name) {
                self.totals.add("pods_stripped");
                let request = objects::strip_patch(self.names.full(name));
                self.control_call(request, ControlStep::Ignored, context);
                self.queue().work.add(name);
            } else if pod.node_name.is_some() && !objects::is_routed(&pod) {
                self.queue().work.add(name);
            }
        }
        self.start_workers(context);
    }
}

fn delete_ip(pod: &(std::rc::Rc<str>, std::rc::Rc<str>)) -> Request {
    Request::Delete {
        kind: objects::IPS,
        name: objects::ip_name(pod),
        uid: None,
        resource_version: None,
    }
}

fn was_answered(response: &Response) -> bool {
    use crate::request::ApiError;
    !matches!(
        response,
        Err(ApiError::Unavailable { .. } | ApiError::TooManyRequests { .. })
    )
}
