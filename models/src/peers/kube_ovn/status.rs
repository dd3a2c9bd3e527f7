//! The status of the subnet, and of the `IPPool` that may cap it: one update of each under way,
//! triggers meanwhile collapse into one more; computed from the cached `IP` objects, written only
//! when it differs.
//!
//! The merge patch of the status, which carries no resourceVersion, is stored and paid for as a
//! merge patch of the object.
//! Source: pkg/controller/subnet.go:861-890,2044-2133, ippool.go:226-252, ip.go:12-37.

use std::rc::Rc;

use super::controller::ControlStep;
use super::{KubeOvn, objects};
use crate::context::Context;
use crate::request::{CustomKind, Request, Response};

/// Where the updates are.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts; no state machine hides in them"
)]
pub(super) struct Status {
    dirty: bool,
    busy: bool,
    written: Option<String>,
    pool_dirty: bool,
    pool_busy: bool,
}

impl KubeOvn {
    /// An `IP` object came or went.
    pub(super) fn status_changed(&mut self, context: &mut Context<'_>) {
        self.controller.status.dirty = true;
        if self.controller.status.busy {
            return;
        }
        self.controller.status.dirty = false;
        self.controller.status.busy = true;
        let parameters = &self.parameters;
        let ips = u32::try_from(self.controller.ips.len()).unwrap_or(u32::MAX);
        let demand = parameters.request_cpu + parameters.status_scan_cpu * ips;
        self.control_cpu(demand, ControlStep::StatusComputed, context);
    }

    pub(super) fn status_computed(&mut self, context: &mut Context<'_>) {
        let body = self.status_body();
        if self.controller.status.written.as_ref() == Some(&body) {
            return self.status_ended(context);
        }
        self.totals.add("subnet_status_writes");
        let request = write(objects::SUBNETS, body.clone());
        self.controller.status.written = Some(body);
        self.control_call(request, ControlStep::StatusWritten, context);
    }

    fn status_body(&self) -> String {
        let (using, all) = (self.controller.ips.len(), self.controller.subnet.size());
        let available = all.saturating_sub(using as u64);
        format!("{{\"using\":{using},\"available\":{available}}}")
    }

    pub(super) fn status_written(
        &mut self,
        response: Option<&Response>,
        context: &mut Context<'_>,
    ) {
        if !matches!(response, Some(Ok(_))) {
            self.controller.status.written = None;
            self.controller.status.busy = false;
            let delay = self.parameters.retry_base;
            return self.control_timer(delay, ControlStep::StatusRetry, context);
        }
        if self.parameters.ippool {
            self.pool_changed(context);
        }
        self.status_ended(context);
    }

    fn status_ended(&mut self, context: &mut Context<'_>) {
        self.controller.status.busy = false;
        if self.controller.status.dirty {
            self.status_changed(context);
        }
    }

    /// Workers of their own write the status of each `IPPool` of the subnet.
    fn pool_changed(&mut self, context: &mut Context<'_>) {
        let status = &mut self.controller.status;
        if status.pool_busy {
            status.pool_dirty = true;
            return;
        }
        (status.pool_busy, status.pool_dirty) = (true, false);
        self.totals.add("ippool_status_writes");
        let request = write(objects::IP_POOLS, self.status_body());
        self.control_call(request, ControlStep::PoolWritten, context);
    }

    pub(super) fn pool_written(&mut self, context: &mut Context<'_>) {
        self.controller.status.pool_busy = false;
        if self.controller.status.pool_dirty {
            self.pool_changed(context);
        }
    }
}

fn write(kind: CustomKind, body: String) -> Request {
    Request::MergePatch {
        object: Rc::new(objects::object(kind, objects::SUBNET.into(), body)),
    }
}
