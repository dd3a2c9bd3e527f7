//! kube-ovn-controller: its installation, who leads, and which processes a leader has. What they do
//! is in [`super::events`], [`super::items`], [`super::status`] and [`super::release`].
//!
//! A leader's machine that dies takes all of them with it; its lease runs out, then another
//! candidate looks. Source: cmd/controller/controller.go, pkg/controller/controller.go:307-418.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use drydock_engine::stream::Streams;

use crate::context::Context;
use crate::ids::NodeIndex;
use crate::objects::{Phase, Pod, PodSpec, PodStatus};
use crate::process::{NewProcess, Port};
use crate::request::{Answer, ClientClass, ClientSpec, Custom, CustomKind, Request};

use super::central::Central;
use super::env::Env;
use super::leader::{Estate, Leader};
use super::objects;
use super::subnet::Subnet;

/// Who leads; the candidates stand by on the masters.
pub(super) struct Control {
    pub(super) estate: Rc<Estate>,
    /// Where the leader is, or was.
    node: Cell<NodeIndex>,
    /// Leaders that died.
    terms: Cell<u32>,
    leader: RefCell<Option<Rc<Leader>>>,
}

impl Control {
    /// The objects of the installation, and a first leader that is drawn.
    pub(super) fn install(
        env: &Rc<Env>,
        central: &Rc<Central>,
        subnet: &Rc<RefCell<Subnet>>,
        context: &mut Context<'_>,
    ) -> Self {
        let vpc = install(objects::VPCS, objects::VPC, context);
        install(objects::SUBNETS, objects::SUBNET, context);
        install(objects::IP_POOLS, objects::SUBNET, context);
        let mut draws = context.core.streams.stream("kube-ovn", 0, "leader");
        let node = *draws.pick(&env.masters());
        let control = Self {
            estate: Rc::new(Estate {
                env: env.clone(),
                central: central.clone(),
                subnet: subnet.clone(),
                vpc,
                previous: RefCell::default(),
            }),
            node: Cell::new(node),
            terms: Cell::default(),
            leader: RefCell::default(),
        };
        control.leave_previous(context);
        control
    }

    /// What an earlier run has left when the new one begins: Pods that are gone, with addresses,
    /// ports and `IP` objects that are still to be released.
    fn leave_previous(&self, context: &mut Context<'_>) {
        let estate = &self.estate;
        for count in 0..estate.env.parameters.previous_pods {
            let pod = previous_pod(count);
            let name = estate.env.names().number(&pod.namespace, &pod.name);
            if estate.subnet.borrow_mut().allocate(name).is_none() {
                return;
            }
            let addresses = estate.subnet.borrow().addresses(name);
            let ip = Request::Create(Rc::new(objects::ip(&pod, &addresses)));
            let installed = context.api.install(&ip, &mut context.core);
            assert!(installed.is_ok(), "names of an earlier run are distinct");
            estate.central.has(name);
            estate.previous.borrow_mut().push(Rc::new(pod));
        }
    }

    /// The leader, if there is one.
    pub(super) fn leader(&self) -> Option<Rc<Leader>> {
        self.leader.borrow().clone()
    }

    /// The process of the candidate that leads now.
    pub(super) fn lead(self: &Rc<Self>) -> NewProcess {
        let control = self.clone();
        let parameters = &self.estate.env.parameters;
        NewProcess {
            node: self.node.get(),
            call: None,
            client: Some(ClientSpec {
                node: self.node.get(),
                class: ClientClass::IpamController,
                limiter: Some((parameters.qps.milli_per_s, parameters.burst)),
                timeout: Some(parameters.client_timeout),
                fresh_connection: true,
            }),
            script: Box::new(move |port| Box::pin(control.run(port))),
        }
    }

    /// A leader, forever.
    async fn run(self: Rc<Self>, port: Port) {
        let inherits = self.terms.get() > 0;
        let leader = Leader::new(self.estate.clone(), self.node.get(), inherits, &port);
        let leader = Rc::new(leader);
        let before = self.leader.replace(Some(leader.clone()));
        assert!(before.is_none(), "one leads at a time");
        drop(self);
        leader.spawn(&port, Leader::collector);
        leader.spawn(&port, Leader::inspector);
        leader.status.start(leader.node, &port);
        for _ in 0..leader.env().parameters.workers {
            leader.spawn(&port, Leader::sync_worker);
        }
        for _ in 0..leader.env().parameters.workers {
            leader.spawn(&port, Leader::deletion_worker);
        }
        leader.watch_ips(port).await;
    }

    /// A machine died. If it was the leader's: the process of the candidate that follows.
    pub(super) fn lost(
        self: &Rc<Self>,
        node: NodeIndex,
        context: &mut Context<'_>,
    ) -> Option<NewProcess> {
        if node != self.node.get() {
            return None;
        }
        self.leader.take();
        self.terms.set(self.terms.get() + 1);
        let entity = u64::from(self.terms.get());
        let mut draws = context.core.streams.stream("kube-ovn", entity, "takeover");
        let parameters = &self.estate.env.parameters;
        let look = draws.duration(parameters.lease_retry.min..=parameters.lease_retry.max);
        let wait = parameters.lease + look;
        let control = self.clone();
        Some(NewProcess {
            node,
            call: None,
            client: None,
            script: Box::new(move |port| Box::pin(control.take_over(port, wait))),
        })
    }

    async fn take_over(self: Rc<Self>, port: Port, wait: std::time::Duration) {
        port.sleep(wait).await;
        assert!(
            self.leader().is_none(),
            "a lease that has run out is nobody's"
        );
        let env = &self.estate.env;
        let up = loop {
            match env.living_master() {
                Some(up) => break up,
                None => port.sleep(env.parameters.lease_retry.max).await,
            }
        };
        self.node.set(up);
        env.count("controller_takeovers");
        port.spawn(self.lead());
    }
}

fn install(kind: CustomKind, name: &str, context: &mut Context<'_>) -> Rc<Custom> {
    let object = objects::object(kind, name.into(), "{}".to_owned());
    let request = Request::Create(Rc::new(object));
    match context.api.install(&request, &mut context.core) {
        Ok(Answer::Custom(object)) => object,
        other => unreachable!("an empty store takes any object: {other:?}"),
    }
}

/// A Pod of an earlier run.
fn previous_pod(count: u64) -> Pod {
    let name = format!("previous-{count}");
    Pod {
        namespace: "default".into(),
        entity: Streams::entity(&name),
        name: name.into(),
        // No Pod of the new run has it.
        uid: crate::ids::PodUid(u32::MAX),
        resource_version: 0,
        labels: Rc::new([]),
        annotations: Rc::new([]),
        network_status: false,
        owner: None,
        deletion: None,
        spec: Rc::new(PodSpec {
            host_network: false,
            node_name: None,
            node_selector: Vec::new(),
            grace: std::time::Duration::ZERO,
            pull_always: false,
            run: None,
        }),
        node_name: None,
        status: PodStatus {
            phase: Phase::Running,
            ready: false,
            seen_by_kubelet: false,
            pod_ips: Vec::new(),
        },
    }
}
