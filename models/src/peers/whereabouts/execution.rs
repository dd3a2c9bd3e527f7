//! What all parts of one execution of the plugin share: for whom it is, its two clients, and what
//! it waits for. It has no state outside the API.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::cni::{IpamCall, IpamStage};
use crate::ids::ClientId;
use crate::process::Port;
use crate::request::{Request, Response};

use super::{Env, Range};

/// One execution.
pub(super) struct Execution {
    pub(super) env: Rc<Env>,
    pub(super) call: Rc<IpamCall>,
    /// `namespace/name` of its Pod: what the Lease and the allocations know it by.
    pub(super) identity: Rc<str>,
    /// The ranges of the configuration, as its node has them.
    pub(super) ranges: Vec<Range>,
    /// Client of coordination.k8s.io.
    pub(super) lease_client: ClientId,
    /// Client of whereabouts.cni.cncf.io.
    pub(super) client: ClientId,
    stage: Cell<Option<IpamStage>>,
}

impl Execution {
    /// Nothing was done yet. Clients: of the Lease, and of the pools.
    pub(super) fn new(
        env: &Rc<Env>,
        call: IpamCall,
        ranges: Vec<Range>,
        [lease_client, client]: [ClientId; 2],
    ) -> Execution {
        assert!(!ranges.is_empty(), "a configuration has a range");
        assert!(lease_client != client, "an API group has its own client");
        Execution {
            env: env.clone(),
            identity: format!("{}/{}", call.pod_namespace, call.pod_name).into(),
            call: Rc::new(call),
            ranges,
            lease_client,
            client,
            stage: Cell::default(),
        }
    }

    /// Reports what it waits for, if that is new.
    pub(super) fn stage(&self, port: &Port, stage: IpamStage) {
        if self.stage.replace(Some(stage)) != Some(stage) {
            port.stage(stage);
        }
    }

    /// A request on the pools and what belongs to them.
    pub(super) async fn ask(&self, port: &Port, request: Request) -> Response {
        let sent = port.send(self.client, request).await;
        if sent.departs() > port.now() {
            self.stage(port, IpamStage::Limiter);
            // Nothing is answered before it departs.
            port.sleep_until(sent.departs()).await;
        }
        self.stage(port, IpamStage::Api);
        sent.answer().await
    }

    /// CPU of the process.
    pub(super) async fn compute(&self, port: &Port, demand: Duration) {
        self.stage(port, IpamStage::Cpu);
        port.turn(demand).await;
    }
}
