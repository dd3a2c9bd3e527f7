//! Pass A and pass B of a Pod: allocate in memory, then publish one write after another, each a
//! remote call that the item waits for with its lock held.
//!
//! A: `IP` object (POST; PUT when it differs; nothing when equal), port in NB (unless NB has it),
//! PATCH of the Pod. B, once the Pod is bound: port group in NB, an unconditional PUT of the VPC
//! that changes nothing, PATCH of the Pod; the first two on an overlay only. B follows A at once if
//! the PATCH returns a bound Pod.
//! Source: pkg/controller/pod.go:483-910, node.go:633-732, vpc.go:700-729.

use std::rc::Rc;

use crate::objects::Pod;
use crate::process::{CallError, Port};
use crate::request::{Answer, ApiError, Part, Request};

use super::databases::NbOp;
use super::leader::{Leader, TryAgain};
use super::objects;

impl Leader {
    /// Makes a Pod right; what is needed is decided by the Pod as the informer had it.
    /// Errors: something failed.
    pub(super) async fn sync(
        &self,
        port: &Port,
        name: u32,
        seen: Option<Rc<Pod>>,
    ) -> Result<(), TryAgain> {
        let Some(mut pod) = seen else {
            return Ok(());
        };
        if !objects::is_allocated(&pod) {
            match self.allocate(port, name, &pod).await? {
                Some(patched) => pod = patched,
                None => return Ok(()),
            }
        }
        self.route(port, name, &pod).await
    }

    /// Pass A: the Pod as the patch left it, or `None` if it went meanwhile.
    async fn allocate(
        &self,
        port: &Port,
        name: u32,
        pod: &Rc<Pod>,
    ) -> Result<Option<Rc<Pod>>, TryAgain> {
        self.env().count("allocation_passes");
        let allocated = self.estate.subnet.borrow_mut().allocate(name);
        if allocated.is_none() {
            self.env().count("no_available_address");
            port.post(self.client, Request::CreateEvent);
            return Err(TryAgain);
        }
        let addresses = self.estate.subnet.borrow().addresses(name);
        assert!(
            !addresses.is_empty(),
            "a name that was allocated holds addresses"
        );
        if let Some(write) = self.ip_write(pod, &addresses) {
            match self.ask(port, write).await {
                Ok(_) => {}
                Err(CallError::Api(ApiError::AlreadyExists)) => {
                    self.env().count("ip_already_exists");
                    return Err(TryAgain);
                }
                Err(_) => return Err(TryAgain),
            }
        }
        if !self.central().has_port(name) {
            self.transact(port, NbOp::AddPort(name)).await?;
        }
        // The collection may have released it meanwhile.
        let addresses = self.estate.subnet.borrow().addresses(name);
        let underlay = self.env().parameters.underlay;
        let patch = objects::allocate_patch(self.env().full(name), &addresses, underlay);
        match self.ask(port, patch).await {
            Ok(Answer::Pod(patched)) => Ok(Some(patched)),
            Err(error) if error.is_not_found() => {
                // The Pod went meanwhile: what it holds is recycled.
                self.delete_pod(pod.clone());
                Ok(None)
            }
            _ => Err(TryAgain),
        }
    }

    /// The write that makes the `IP` object what it should be, unless it is.
    fn ip_write(&self, pod: &Pod, addresses: &[std::net::IpAddr]) -> Option<Request> {
        let wanted = objects::ip(pod, addresses);
        match self.ips.borrow().get(&wanted.name) {
            Some(stored) if objects::same_ip(stored, &wanted) => None,
            Some(stored) => {
                let mut object = wanted;
                object.uid = stored.uid;
                object.resource_version = stored.resource_version;
                Some(Request::Replace {
                    object: Rc::new(object),
                    part: Part::Main,
                })
            }
            None => Some(Request::Create(Rc::new(wanted))),
        }
    }

    /// Pass B, if the Pod is bound and not routed.
    async fn route(&self, port: &Port, name: u32, pod: &Rc<Pod>) -> Result<(), TryAgain> {
        if pod.node_name.is_none() || objects::is_routed(pod) {
            return Ok(());
        }
        self.env().count("route_passes");
        if !self.env().parameters.underlay {
            self.transact(port, NbOp::JoinGroup(name)).await?;
            let write = self.vpc_write();
            self.ask(port, write).await.map_err(|_| TryAgain)?;
        }
        let patch = objects::route_patch(self.env().full(name));
        match self.ask(port, patch).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => {
                self.delete_pod(pod.clone());
                Ok(())
            }
            Err(_) => Err(TryAgain),
        }
    }
}
