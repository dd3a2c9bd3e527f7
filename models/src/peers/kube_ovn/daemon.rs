//! kube-ovn-cni on a node: its copy of the node's Pods, and the work that it does beside CNI
//! requests, in the same one-core limit: gateway rules every few seconds, and a whole
//! reconciliation of routes for each update of the subnet (they never merge).
//! Source: cmd/daemon/cniserver.go:65-79, pkg/daemon/controller.go:425-439,590-618,
//! controller_linux.go:124-255.

use std::collections::BTreeMap;
use std::rc::Rc;

use drydock_engine::stream::Stream;

use super::informer::Pods;
use super::plugin::{CniRequest, CniStep};
use super::switch::Switch;
use super::{CoreId, KubeOvn, Signal, Wait, Watched, objects};
use crate::cni::{CniError, IpamStage};
use crate::context::Context;
use crate::ids::{ClientId, IpamCallId, NodeIndex, WatchId};
use crate::request::{Answer, Change, ClientClass, Consistency, Request, Response, WatchTarget};

/// What a daemon waits for.
#[derive(Clone, Debug)]
pub(super) enum DaemonStep {
    /// The list of its node's Pods.
    Listed,
    /// Before that list is asked for (again).
    List,
    /// Before the subnets are watched again.
    WatchSubnets,
    /// The next round of gateway work.
    Background,
    /// Work that nothing follows from.
    Worked,
    /// Something of a CNI request.
    Request(IpamCallId),
}

/// A daemon, and the switch of its node.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) epoch: u32,
    pub(super) up: bool,
    pub(super) client: Option<ClientId>,
    pub(super) pods: Pods,
    subnets: Option<WatchId>,
    pub(super) requests: BTreeMap<IpamCallId, CniRequest>,
    /// `ovs-vsctl` processes that run.
    pub(super) slots: u64,
    pub(super) switch: Switch,
    pub(super) draws: Stream,
}

impl KubeOvn {
    pub(super) fn daemon(&mut self, node: NodeIndex) -> &mut Daemon {
        self.daemons
            .get_mut(&node)
            .expect("a machine that came up has its daemon")
    }

    /// A machine is there: its switch and its daemon start.
    pub(super) fn machine_up(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let streams = context.core.streams;
        let bound = self.central.bound.clone();
        let daemon = self.daemons.entry(node).or_insert_with(|| Daemon {
            epoch: 0,
            up: false,
            client: None,
            pods: Pods::default(),
            subnets: None,
            requests: BTreeMap::new(),
            slots: 0,
            switch: Switch::default(),
            draws: streams.stream("kube-ovn", u64::from(node.0), "daemon"),
        });
        daemon.switch.reset(bound);
        self.daemon_start(node, context);
    }

    /// The daemon process starts.
    pub(super) fn daemon_start(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        if self.daemon(node).up || !context.core.machine(node).up {
            return;
        }
        let client = self.client(node, ClientClass::IpamNode, context);
        let daemon = self.daemon(node);
        daemon.up = true;
        daemon.epoch += 1;
        daemon.client = Some(client);
        self.daemon_list(node, context);
        self.daemon_watch_subnets(node, context);
        // Daemons of the cluster started at other times: their rounds are not in step.
        let period = self.parameters.background_period;
        let phase = self
            .daemon(node)
            .draws
            .duration(std::time::Duration::ZERO..=period);
        let wait = self.daemon_wait(node, DaemonStep::Background);
        self.after(node, phase, wait, context);
    }

    pub(super) fn daemon_wait(&mut self, node: NodeIndex, step: DaemonStep) -> Wait {
        let epoch = self.daemon(node).epoch;
        Wait::Daemon { node, epoch, step }
    }

    fn daemon_list(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let node_name = Rc::clone(&context.core.machine(node).node_name);
        let request = Request::ListPods {
            node_name: Some(node_name),
            consistency: Consistency::Cache,
        };
        self.daemon_call(node, request, DaemonStep::Listed, context);
    }

    pub(super) fn daemon_call(
        &mut self,
        node: NodeIndex,
        request: Request,
        step: DaemonStep,
        context: &mut Context<'_>,
    ) {
        let wait = self.daemon_wait(node, step);
        let client = self.daemon(node).client.expect("a daemon has its client");
        self.api(client, request, wait, context);
    }

    fn daemon_watch_subnets(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let target = WatchTarget::Customs {
            kind: objects::SUBNETS,
            selectors: Vec::new(),
            name: None,
        };
        let client = self.daemon(node).client.expect("a daemon has its client");
        let watch = Watched::DaemonSubnets(node).open(client, target, 0, context);
        self.daemon(node).subnets = Some(watch);
    }

    pub(super) fn daemon_step(
        &mut self,
        node: NodeIndex,
        step: DaemonStep,
        signal: Signal,
        context: &mut Context<'_>,
    ) {
        match (step, signal) {
            (DaemonStep::Listed, Signal::Api(response)) => {
                self.daemon_listed(node, response, context);
            }
            (DaemonStep::List, _) => self.daemon_list(node, context),
            (DaemonStep::WatchSubnets, _) => self.daemon_watch_subnets(node, context),
            (DaemonStep::Background, _) => self.daemon_background(node, context),
            (DaemonStep::Request(call), signal) => {
                self.request_step(node, call, signal, context);
            }
            (DaemonStep::Listed | DaemonStep::Worked, _) => {}
        }
    }

    fn daemon_listed(&mut self, node: NodeIndex, response: Response, context: &mut Context<'_>) {
        let Ok(Answer::Pods(pods, revision)) = response else {
            let delay = context.core.parameters.client.reflector_backoff.min;
            let wait = self.daemon_wait(node, DaemonStep::List);
            return self.after(node, delay, wait, context);
        };
        let node_name = Some(Rc::clone(&context.core.machine(node).node_name));
        let target = WatchTarget::Pods { node_name };
        let client = self.daemon(node).client.expect("a daemon has its client");
        let watch = Watched::DaemonPods(node).open(client, target, revision, context);
        let mut names = std::mem::take(&mut self.names);
        let daemon = self.daemon(node);
        daemon.pods.watch = Some(watch);
        daemon.pods.listed(pods, &mut names);
        self.names = names;
        self.note_annotated(node, context);
    }

    pub(super) fn daemon_pod(
        &mut self,
        node: NodeIndex,
        watch: WatchId,
        change: Change,
        context: &mut Context<'_>,
    ) {
        if self.daemon(node).pods.watch != Some(watch) {
            return;
        }
        if let Change::Closed(_) = change {
            self.daemon(node).pods.watch = None;
            let delay = context.core.parameters.client.reflector_backoff.min;
            let wait = self.daemon_wait(node, DaemonStep::List);
            return self.after(node, delay, wait, context);
        }
        let mut names = std::mem::take(&mut self.names);
        self.daemon(node).pods.changed(change, &mut names);
        self.names = names;
        self.note_annotated(node, context);
    }

    /// ADDs whose annotations have arrived wait for nothing but their next look.
    fn note_annotated(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let daemon = self.daemon(node);
        for request in daemon.requests.values_mut() {
            let pod = daemon.pods.view.get(&request.name);
            if request.step == CniStep::Poll
                && !request.seen
                && pod.is_some_and(|pod| objects::is_routed(pod))
            {
                request.seen = true;
                context.ipam_stage(&request.call, IpamStage::Backoff);
            }
        }
    }

    pub(super) fn daemon_subnet(
        &mut self,
        node: NodeIndex,
        watch: WatchId,
        change: &Change,
        context: &mut Context<'_>,
    ) {
        if self.daemon(node).subnets != Some(watch) {
            return;
        }
        match change {
            Change::Custom(_) => {
                let demand = self.parameters.reconcile_cpu;
                self.daemon_cpu(node, demand, DaemonStep::Worked, context);
            }
            Change::Closed(_) => {
                self.daemon(node).subnets = None;
                let delay = context.core.parameters.client.reflector_backoff.min;
                let wait = self.daemon_wait(node, DaemonStep::WatchSubnets);
                self.after(node, delay, wait, context);
            }
            _ => {}
        }
    }

    /// CPU of the daemon or of a process that it forked.
    pub(super) fn daemon_cpu(
        &mut self,
        node: NodeIndex,
        demand: std::time::Duration,
        step: DaemonStep,
        context: &mut Context<'_>,
    ) {
        let wait = self.daemon_wait(node, step);
        self.capped(CoreId::Daemon(node), node, demand, wait, context);
    }

    fn daemon_background(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let parameters = Rc::clone(&self.parameters);
        let wait = self.daemon_wait(node, DaemonStep::Background);
        self.after(node, parameters.background_period, wait, context);
        self.daemon_cpu(node, parameters.background_cpu, DaemonStep::Worked, context);
    }

    /// The daemon died: plugins that waited for it see their connection break.
    pub(super) fn daemon_stop(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let daemon = self.daemon(node);
        if !daemon.up {
            return;
        }
        let requests = std::mem::take(&mut daemon.requests);
        self.daemon_forget(node, context);
        let daemon = self.daemon(node);
        for (call, request) in requests {
            if request.is_plugin() {
                daemon.requests.insert(call, request);
            } else if request.alive {
                let error = CniError {
                    code: super::plugin::TRY_AGAIN,
                    message: "connection to the daemon broke".to_owned(),
                };
                context.ipam_exit(node, call, Err(error));
            }
        }
    }

    fn daemon_forget(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        self.drop_jobs(CoreId::Daemon(node));
        let daemon = self.daemon(node);
        daemon.up = false;
        daemon.epoch += 1;
        daemon.pods.forget();
        daemon.subnets = None;
        daemon.slots = 0;
        if let Some(client) = daemon.client.take() {
            context.drop_client(client);
        }
    }

    /// The machine died, with everything on it.
    pub(super) fn machine_down(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        self.daemon(node).requests.clear();
        self.daemon_forget(node, context);
        self.drop_jobs(CoreId::Switch(node));
        self.daemon(node).switch.epoch += 1;
    }
}
