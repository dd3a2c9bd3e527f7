//! What takes addresses back: the deletion of a Pod, the collection of ports whose Pod is gone,
//! and the inspector that repairs Pods. CNI DEL takes nothing back.
//!
//! Modeled: a Pod of a StatefulSet keeps its address (every ordinal counts as in range). A port
//! without an allocated live Pod goes in the second collection that sees it; an address without a
//! port is never collected.
//! Source: pkg/controller/pod.go:925-1052,1206-1233, gc.go:25-47,280-390, inspection.go:17-76.

use std::rc::Rc;

use crate::objects::Pod;
use crate::process::{CallError, Port};
use crate::request::{ApiError, Consistency, Request};

use super::databases::NbOp;
use super::leader::{Leader, TryAgain};
use super::objects;

impl Leader {
    /// Releases a Pod, unless the name has another one by now.
    /// Errors: something failed.
    pub(super) async fn release(
        &self,
        port: &Port,
        name: u32,
        pod: &Rc<Pod>,
        seen: Option<Rc<Pod>>,
    ) -> Result<(), TryAgain> {
        if seen.is_some_and(|seen| seen.uid != pod.uid) {
            return Ok(());
        }
        let keeps = objects::is_stateful(pod);
        if keeps {
            // The object is not simulated; that a controller owns the Pod says that it exists.
            let answer = self.ask(port, read_owner(pod)).await;
            if let Err(CallError::Api(
                ApiError::Unavailable { .. } | ApiError::TooManyRequests { .. },
            )) = answer
            {
                return Err(TryAgain);
            }
        }
        if self.central().has_port(name) {
            self.release_routes(port, name).await?;
            self.transact(port, NbOp::DeletePort(name)).await?;
        }
        if !keeps {
            if self.estate.subnet.borrow_mut().release(name) {
                self.env().count("releases");
            }
            // A failure is logged, no more.
            let _ = self.ask(port, delete_ip(&self.env().full(name))).await;
        }
        Ok(())
    }

    /// One VPC write per address.
    async fn release_routes(&self, port: &Port, name: u32) -> Result<(), TryAgain> {
        let routes = if self.env().parameters.underlay {
            0
        } else {
            self.estate.subnet.borrow().addresses(name).len()
        };
        for _ in 0..routes {
            let write = self.vpc_write();
            self.ask(port, write).await.map_err(|_| TryAgain)?;
        }
        Ok(())
    }

    /// The collection of ports, forever.
    pub(super) async fn collector(self: Rc<Self>, port: Port) {
        let parameters = &self.env().parameters;
        loop {
            port.sleep(parameters.gc_period).await;
            let ports = self.central().port_count();
            self.spend(&port, parameters.scan_cpu * ports);
            self.collect_ports(&port);
        }
    }

    /// Marks ports without a Pod, and removes those marked before.
    pub(super) fn collect_ports(self: &Rc<Self>, port: &Port) {
        let lives = |name: &u32| {
            let pods = self.pods.borrow();
            let pod = pods.view.get(name);
            pod.is_some_and(|pod| !pod.is_terminal() && objects::is_allocated(pod))
        };
        let before = self.suspects.take();
        for name in self.central().ports() {
            if lives(&name) {
                continue;
            }
            if !before.contains(&name) {
                self.suspects.borrow_mut().insert(name);
                continue;
            }
            self.env().count("ports_collected");
            self.spawn(port, async move |leader: Rc<Self>, port: Port| {
                // Nobody looks at the outcome: a port that stays is seen again.
                let _ = leader
                    .central()
                    .transact(&port, NbOp::DeletePort(name))
                    .await;
            });
            self.estate.subnet.borrow_mut().release(name);
            port.post(self.client, delete_ip(&self.env().full(name)));
        }
    }

    /// The inspection of all Pods, forever.
    pub(super) async fn inspector(self: Rc<Self>, port: Port) {
        let parameters = &self.env().parameters;
        loop {
            port.sleep(parameters.inspect_period).await;
            let pods = self.pods.borrow().view.clone();
            let count = u32::try_from(pods.len()).unwrap_or(u32::MAX);
            self.spend(&port, parameters.scan_cpu * count);
            for (name, pod) in pods {
                let live = !pod.is_terminal() && pod.deletion.is_none() && !pod.spec.host_network;
                if !live || !objects::is_allocated(&pod) {
                    continue;
                }
                if !self.central().has_port(name) {
                    self.env().count("pods_stripped");
                    let strip = objects::strip_patch(self.env().full(name));
                    port.post(self.client, strip);
                    self.queue.borrow_mut().work.add(name);
                } else if pod.node_name.is_some() && !objects::is_routed(&pod) {
                    self.queue.borrow_mut().work.add(name);
                }
            }
            self.wake_workers(&port);
        }
    }
}

fn read_owner(pod: &Pod) -> Request {
    let owner = pod.owner.as_ref().map_or("", |owner| &owner.name);
    Request::Get {
        kind: objects::STATEFUL_SETS,
        name: format!("{}/{owner}", pod.namespace).into(),
        consistency: Consistency::Quorum,
    }
}

fn delete_ip(pod: &(Rc<str>, Rc<str>)) -> Request {
    Request::Delete {
        kind: objects::IPS,
        name: objects::ip_name(pod),
        uid: None,
        resource_version: None,
    }
}
