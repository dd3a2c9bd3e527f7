//! The status of the subnet, and of the `IPPool` that may cap it: one update of each under way,
//! triggers meanwhile collapse into one more; computed from the cached `IP` objects, written only
//! when it differs.
//!
//! The merge patch of the status, which carries no resourceVersion, is stored and paid for as a
//! merge patch of the object.
//! Source: pkg/controller/subnet.go:861-890,2044-2133, ippool.go:226-252, ip.go:12-37.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::ids::{ClientId, NodeIndex};
use crate::process::{NewProcess, Port, ProcessId};
use crate::request::{Custom, CustomKind, Request};

use super::env::Env;
use super::group::OneCore;
use super::objects;
use super::subnet::Subnet;

/// `IP` objects by name, and the addresses that there are.
type Sources = (
    Rc<RefCell<BTreeMap<Rc<str>, Rc<Custom>>>>,
    Rc<RefCell<Subnet>>,
);

/// A process that works whenever it is told to.
#[derive(Default)]
struct Bell {
    dirty: Cell<bool>,
    process: Cell<Option<ProcessId>>,
}

impl Bell {
    fn ring(&self, port: &Port) {
        self.dirty.set(true);
        if let Some(process) = self.process.get() {
            port.wake(process);
        }
    }

    /// Waits until it rang.
    async fn rang(&self, port: &Port) {
        self.process.set(Some(port.id));
        while !self.dirty.take() {
            port.park().await;
        }
        assert!(!self.dirty.get(), "from here on it rings for another round");
    }
}

/// The writers of status.
pub(super) struct Status {
    env: Rc<Env>,
    core: OneCore,
    client: ClientId,
    sources: Sources,
    subnet: Bell,
    pool: Bell,
}

impl Status {
    pub(super) fn new(env: &Rc<Env>, core: OneCore, client: ClientId, sources: Sources) -> Self {
        Self {
            env: env.clone(),
            core,
            client,
            sources,
            subnet: Bell::default(),
            pool: Bell::default(),
        }
    }

    /// An `IP` object came or went.
    pub(super) fn changed(&self, port: &Port) {
        self.subnet.ring(port);
    }

    /// Starts both writers on the leader's machine.
    pub(super) fn start(self: &Rc<Self>, node: NodeIndex, port: &Port) {
        self.spawn(node, port, move |status, port| {
            status.subnet_writer(node, port)
        });
        self.spawn(node, port, Self::pool_writer);
    }

    fn spawn<F: Future<Output = ()> + 'static>(
        self: &Rc<Self>,
        node: NodeIndex,
        port: &Port,
        script: impl FnOnce(Rc<Self>, Port) -> F + 'static,
    ) {
        let status = self.clone();
        port.spawn(NewProcess {
            node,
            call: None,
            client: None,
            script: Box::new(move |port| Box::pin(script(status, port))),
        });
    }

    fn body(&self) -> String {
        let (using, all) = (
            self.sources.0.borrow().len(),
            self.sources.1.borrow().size(),
        );
        let available = all.saturating_sub(using as u64);
        format!("{{\"using\":{using},\"available\":{available}}}")
    }

    /// Writes the status of the subnet, forever.
    async fn subnet_writer(self: Rc<Self>, node: NodeIndex, port: Port) {
        let parameters = &self.env.parameters;
        let mut written = None;
        loop {
            self.subnet.rang(&port).await;
            let ips = u32::try_from(self.sources.0.borrow().len()).unwrap_or(u32::MAX);
            let demand = parameters.request_cpu + parameters.status_scan_cpu * ips;
            self.core.run(&port, demand).await;
            let body = self.body();
            if written.as_ref() == Some(&body) {
                continue;
            }
            self.env.count("subnet_status_writes");
            let request = write(objects::SUBNETS, body.clone());
            written = Some(body);
            if port.call_as(self.client, request).await.is_err() {
                written = None;
                // What rang meanwhile waits with it.
                self.subnet.dirty.set(false);
                self.spawn(node, &port, Self::again);
            } else if parameters.ippool {
                self.pool.ring(&port);
                port.give_way().await;
            }
        }
    }

    async fn again(self: Rc<Self>, port: Port) {
        port.sleep(self.env.parameters.retry_base).await;
        self.changed(&port);
    }

    /// Workers of their own write the status of each `IPPool` of the subnet, forever.
    async fn pool_writer(self: Rc<Self>, port: Port) {
        loop {
            self.pool.rang(&port).await;
            self.env.count("ippool_status_writes");
            let request = write(objects::IP_POOLS, self.body());
            // It is not tried again before the next change.
            let _ = port.call_as(self.client, request).await;
        }
    }
}

fn write(kind: CustomKind, body: String) -> Request {
    Request::MergePatch {
        object: Rc::new(objects::object(kind, objects::SUBNET.into(), body)),
    }
}
