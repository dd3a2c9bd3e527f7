//! Pass A and pass B of a Pod: allocate in memory, then publish step by step, each step a remote
//! call that the item waits for with its lock held.
//!
//! A: `IP` object (POST; PUT when it differs; nothing when equal), port in NB (unless NB has it),
//! PATCH of the Pod. B, once the Pod is bound: port group in NB, an unconditional PUT of the VPC
//! that changes nothing, PATCH of the Pod; the two in the middle on an overlay only. B follows A at
//! once if the PATCH returns a bound Pod. Source: pkg/controller/pod.go:483-910, node.go:633-732,
//! vpc.go:700-729.

use std::rc::Rc;

use super::central::NbOp;
use super::items::{ItemStep, Outgoing};
use super::{KubeOvn, Signal, objects};
use crate::context::Context;
use crate::request::{Answer, ApiError, ReplyTo, Request};

impl KubeOvn {
    /// The scan is done; what is needed is decided by the Pod as the informer has it.
    pub(super) fn sync_begin(&mut self, id: u32, context: &mut Context<'_>) {
        let name = self.item(id).name;
        let Some(pod) = self.item(id).pod.clone() else {
            return self.item_done(id, true, context);
        };
        if objects::is_allocated(&pod) {
            return self.route(id, context);
        }
        self.totals.add("allocation_passes");
        if self.controller.subnet.allocate(name).is_none() {
            self.totals.add("no_available_address");
            let client = self.controller.client.expect("a leader has its client");
            context.call(client, Request::CreateEvent, ReplyTo::Nobody);
            return self.item_done(id, false, context);
        }
        self.write_ip(id, context);
    }

    /// A3.
    fn write_ip(&mut self, id: u32, context: &mut Context<'_>) {
        let item = self.item(id);
        let (name, pod) = (item.name, item.pod.clone());
        let pod = pod.expect("a pass has its Pod");
        let addresses = self.controller.subnet.addresses(name);
        let wanted = objects::ip(&pod, &addresses);
        let request = match self.controller.ips.get(&wanted.name) {
            Some(stored) if objects::same_ip(stored, &wanted) => {
                return self.add_port(id, context);
            }
            Some(stored) => {
                let mut object = wanted;
                object.uid = stored.uid;
                object.resource_version = stored.resource_version;
                Request::Replace {
                    object: Rc::new(object),
                    part: crate::request::Part::Main,
                }
            }
            None => Request::Create(Rc::new(wanted)),
        };
        self.item_asks(id, ItemStep::WriteIp, Outgoing::Api(request), context);
    }

    /// A4, unless NB has the port.
    fn add_port(&mut self, id: u32, context: &mut Context<'_>) {
        let name = self.item(id).name;
        if self.central.ports.contains(&name) {
            return self.publish(id, context);
        }
        let op = Outgoing::Nb(NbOp::AddPort(name));
        self.item_asks(id, ItemStep::AddPort, op, context);
    }

    /// A5.
    fn publish(&mut self, id: u32, context: &mut Context<'_>) {
        let name = self.item(id).name;
        let addresses = self.controller.subnet.addresses(name);
        let underlay = self.parameters.underlay;
        let request = objects::allocate_patch(self.names.full(name), &addresses, underlay);
        self.item_asks(id, ItemStep::Allocated, Outgoing::Api(request), context);
    }

    /// B, if the Pod is bound and not routed.
    fn route(&mut self, id: u32, context: &mut Context<'_>) {
        let pod = self.item(id).pod.clone().expect("a pass has its Pod");
        if pod.node_name.is_none() || objects::is_routed(&pod) {
            return self.item_done(id, true, context);
        }
        self.totals.add("route_passes");
        if self.parameters.underlay {
            return self.mark_routed(id, context);
        }
        let op = Outgoing::Nb(NbOp::JoinGroup(self.item(id).name));
        self.item_asks(id, ItemStep::JoinGroup, op, context);
    }

    fn mark_routed(&mut self, id: u32, context: &mut Context<'_>) {
        let name = self.item(id).name;
        let request = objects::route_patch(self.names.full(name));
        self.item_asks(id, ItemStep::Routed, Outgoing::Api(request), context);
    }

    /// The VPC as the controller knows it, written back unchanged.
    pub(super) fn vpc_write(&self) -> Request {
        let object = self.controller.vpc.clone().expect("it was installed");
        Request::Replace {
            object,
            part: crate::request::Part::Main,
        }
    }

    /// A remote call of a pass ended.
    pub(super) fn sync_answered(&mut self, id: u32, signal: Signal, context: &mut Context<'_>) {
        let step = self.item(id).step;
        match (step, signal) {
            (ItemStep::WriteIp, Signal::Api(Ok(_))) => self.add_port(id, context),
            (ItemStep::AddPort, Signal::Nb(true)) => self.publish(id, context),
            (ItemStep::Allocated, Signal::Api(Ok(Answer::Pod(pod)))) => {
                self.item(id).pod = Some(pod);
                self.route(id, context);
            }
            (ItemStep::JoinGroup, Signal::Nb(true)) => {
                let request = Outgoing::Api(self.vpc_write());
                self.item_asks(id, ItemStep::WriteVpc, request, context);
            }
            (ItemStep::WriteVpc, Signal::Api(Ok(_))) => self.mark_routed(id, context),
            (ItemStep::Routed, Signal::Api(Ok(_))) => self.item_done(id, true, context),
            (ItemStep::Allocated | ItemStep::Routed, Signal::Api(Err(ApiError::NotFound))) => {
                // The Pod went meanwhile: what it holds is recycled.
                let pod = self.item(id).pod.clone().expect("a pass has its Pod");
                self.delete_pod(pod);
                self.item_done(id, true, context);
            }
            (ItemStep::WriteIp, Signal::Api(Err(ApiError::AlreadyExists))) => {
                self.totals.add("ip_already_exists");
                self.item_done(id, false, context);
            }
            _ => self.item_done(id, false, context),
        }
    }
}
