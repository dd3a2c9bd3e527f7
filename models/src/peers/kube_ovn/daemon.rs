//! kube-ovn-cni on a node: its copy of the node's Pods, and the work that it does beside CNI
//! requests ([`super::server`]), in the same one-core limit: gateway rules every few seconds, and a
//! whole reconciliation of routes for each update of the subnet (they never merge).
//! Source: cmd/daemon/cniserver.go:65-79, pkg/daemon/controller.go:425-439,590-618,
//! controller_linux.go:124-255.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::stream::Stream;

use crate::cni::{IpamCall, IpamStage};
use crate::ids::{ClientId, IpamCallId, NodeIndex};
use crate::objects::Pod;
use crate::process::{NewProcess, Port, Reader};
use crate::request::{Answer, Change, ClientClass, ClientSpec, Consistency, Request, WatchTarget};

use super::env::Env;
use super::group::{Group, OneCore};
use super::informer::Pods;
use super::objects;
use super::switch::Switch;

/// A machine, as Kube-OVN's processes on it see it.
pub(super) struct Host {
    pub(super) env: Rc<Env>,
    pub(super) node: NodeIndex,
    pub(super) name: Rc<str>,
    pub(super) draws: RefCell<Stream>,
    /// Its switch since the last boot.
    switch: RefCell<Rc<Switch>>,
    /// Its daemon while one runs.
    daemon: RefCell<Option<Rc<Daemon>>>,
}

/// An ADD between two looks at the annotations.
pub(super) struct Poller {
    pub(super) call: Rc<IpamCall>,
    pub(super) name: u32,
    /// The annotations have arrived, and the next look will see them.
    pub(super) seen: bool,
}

/// A daemon, from its start to its end.
pub(super) struct Daemon {
    pub(super) client: ClientId,
    /// Of the daemon with the processes that it forks.
    pub(super) core: OneCore,
    /// All processes of the daemon.
    pub(super) group: Group,
    pub(super) pods: RefCell<Pods>,
    pub(super) pollers: RefCell<BTreeMap<IpamCallId, Poller>>,
    /// `ovs-vsctl` processes that run.
    pub(super) slots: Cell<u64>,
}

impl Daemon {
    /// The Pod of a name, as far as the daemon has heard of it.
    pub(super) fn pod(&self, name: u32) -> Option<Rc<Pod>> {
        self.pods.borrow().view.get(&name).cloned()
    }

    /// ADDs whose annotations have arrived wait for nothing but their next look.
    fn note_annotated(&self, port: &Port) {
        for poller in self.pollers.borrow_mut().values_mut() {
            let pod = self.pod(poller.name);
            if !poller.seen && pod.is_some_and(|pod| objects::is_routed(&pod)) {
                poller.seen = true;
                port.stage_of(&poller.call, IpamStage::Backoff);
            }
        }
    }
}

impl Host {
    /// A machine that nothing runs on yet.
    pub(super) fn new(env: &Rc<Env>, switch: Rc<Switch>, name: Rc<str>, draws: Stream) -> Self {
        Self {
            env: env.clone(),
            node: switch.node,
            name,
            draws: RefCell::new(draws),
            switch: RefCell::new(switch),
            daemon: RefCell::default(),
        }
    }

    /// The machine came up with a new switch.
    pub(super) fn boot(&self, switch: Rc<Switch>) {
        assert!(self.daemon().is_none(), "no daemon lives through a boot");
        assert_eq!(switch.node, self.node, "a switch is of its machine");
        self.switch.replace(switch);
    }

    pub(super) fn switch(&self) -> Rc<Switch> {
        self.switch.borrow().clone()
    }

    pub(super) fn daemon(&self) -> Option<Rc<Daemon>> {
        self.daemon.borrow().clone()
    }

    /// The daemon is dead: who ends it kills its processes too.
    pub(super) fn stop(&self) -> Option<Rc<Daemon>> {
        self.daemon.take()
    }

    fn process<F: Future<Output = ()> + 'static>(
        self: &Rc<Self>,
        client: Option<ClientSpec>,
        script: impl FnOnce(Rc<Self>, Port) -> F + 'static,
    ) -> NewProcess {
        let host = self.clone();
        NewProcess {
            node: self.node,
            call: None,
            client,
            script: Box::new(move |port| Box::pin(script(host, port))),
        }
    }

    /// The process of a daemon.
    pub(super) fn start(self: &Rc<Self>) -> NewProcess {
        let parameters = &self.env.parameters;
        let client = ClientSpec {
            node: self.node,
            class: ClientClass::IpamNode,
            limiter: Some((parameters.qps.milli_per_s, parameters.burst)),
            timeout: None,
            fresh_connection: true,
        };
        self.process(Some(client), Self::run)
    }

    /// The process that starts a killed daemon again, unless it runs by then.
    pub(super) fn restart(self: &Rc<Self>, after: Duration) -> NewProcess {
        self.process(None, async move |host: Rc<Self>, port: Port| {
            port.sleep_until(port.now() + after).await;
            if host.daemon().is_none() && host.env.is_up(host.node) {
                port.spawn(host.start());
            }
        })
    }

    /// The daemon, forever.
    async fn run(self: Rc<Self>, port: Port) {
        let daemon = Rc::new(Daemon {
            client: port.client(),
            core: OneCore::new(),
            group: Group::default(),
            pods: RefCell::default(),
            pollers: RefCell::default(),
            slots: Cell::default(),
        });
        let _member = daemon.group.join(&port, None);
        let before = self.daemon.replace(Some(daemon.clone()));
        assert!(before.is_none(), "one daemon on a machine");
        daemon.spawn(&self, &port, Daemon::watch_pods);
        daemon.spawn(&self, &port, Daemon::watch_subnets);
        daemon.spawn(&self, &port, Daemon::guard_gateway);
        loop {
            port.park().await;
        }
    }
}

impl Daemon {
    /// Starts another process of the daemon.
    fn spawn<F: Future<Output = ()> + 'static>(
        self: &Rc<Self>,
        host: &Rc<Host>,
        port: &Port,
        script: impl FnOnce(Rc<Self>, Rc<Host>, Port) -> F + 'static,
    ) {
        let daemon = self.clone();
        port.spawn(host.process(None, async move |host: Rc<Host>, port: Port| {
            let _member = daemon.group.join(&port, None);
            script(daemon.clone(), host, port).await;
        }));
    }

    /// CPU that nothing waits for.
    fn spend(self: &Rc<Self>, host: &Rc<Host>, port: &Port, demand: Duration) {
        self.spawn(host, port, async move |daemon: Rc<Self>, _, port: Port| {
            daemon.core.run(&port, demand).await;
        });
    }

    /// The informer of the node's Pods, forever.
    async fn watch_pods(self: Rc<Self>, host: Rc<Host>, port: Port) {
        let node_name = Some(host.name.clone());
        let again = host.env.list_again;
        loop {
            let list = Request::ListPods {
                node_name: node_name.clone(),
                consistency: Consistency::Cache,
            };
            let Ok(Answer::Pods(pods, revision)) = port.call_as(self.client, list).await else {
                port.sleep(again).await;
                continue;
            };
            let target = WatchTarget::Pods {
                node_name: node_name.clone(),
            };
            port.watch(self.client, target, revision, Reader::Itself)
                .await;
            (self.pods.borrow_mut()).listed(pods, &mut host.env.names());
            self.note_annotated(&port);
            while let Some(change) = port.change().await {
                (self.pods.borrow_mut()).changed(change, &mut host.env.names());
                self.note_annotated(&port);
            }
            port.sleep(again).await;
        }
    }

    /// The informer of subnets, forever: an update is worked off by itself.
    async fn watch_subnets(self: Rc<Self>, host: Rc<Host>, port: Port) {
        loop {
            let target = WatchTarget::Customs {
                kind: objects::SUBNETS,
                selectors: Vec::new(),
                name: None,
            };
            port.watch(self.client, target, 0, Reader::Itself).await;
            while let Some(change) = port.change().await {
                if let Change::Custom(_) = change {
                    self.spend(&host, &port, host.env.parameters.reconcile_cpu);
                }
            }
            port.sleep(host.env.list_again).await;
        }
    }

    /// Gateway rules, forever. Daemons of the cluster started at other times: their rounds are not
    /// in step.
    async fn guard_gateway(self: Rc<Self>, host: Rc<Host>, port: Port) {
        let parameters = &host.env.parameters;
        let period = parameters.background_period;
        let phase = host.draws.borrow_mut().duration(Duration::ZERO..=period);
        port.sleep(phase).await;
        loop {
            self.spend(&host, &port, parameters.background_cpu);
            port.sleep(period).await;
        }
    }
}
