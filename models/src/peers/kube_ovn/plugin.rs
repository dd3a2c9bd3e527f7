//! CNI ADD and DEL: the `kube-ovn` and `portmap` binaries, and what the daemon does for them.
//!
//! ADD: 20 looks at the Pod's annotations, one second apart (`allocated`, then `routed`); the `IP`
//! object is read, and written when its node differs; the interface is wired by 12 `ovs-vsctl`
//! processes, two of which wait for ovs-vswitchd; the gateway is pinged once a second, up to 200
//! times, and no answer is as good as one (`ping_error` for the later behavior). DEL: five
//! `ovs-vsctl`, if the Pod is still known and annotated. A plugin that is killed leaves the daemon
//! at work. Every error becomes "try again later" (cmd/cni/cni.go:64-66). Source:
//! pkg/daemon/handler.go:96-449, ovs_linux.go:64-386, pkg/ovs/ovs-vsctl{,_linux}.go,
//! pkg/daemon/ovs.go:15-49.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use super::daemon::DaemonStep;
use super::wiring::{ADD, DEL, Op};
use super::{KubeOvn, Signal, Wait, objects};
use crate::cni::{Assigned, CniError, IpamCall, IpamStage, Verb};
use crate::context::Context;
use crate::ids::{IpamCallId, NodeIndex};
use crate::request::{Answer, Consistency, Request, Response};

/// CNI error code "try again later".
pub(super) const TRY_AGAIN: u32 = 11;

/// What a CNI request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CniStep {
    /// The binaries before the daemon.
    Exec,
    /// The daemon took it.
    Accept,
    /// The next look at the annotations.
    Poll,
    /// GET of the `IP` object.
    ReadIp,
    /// The next GET.
    ReadIpPause,
    /// PUT of the `IP` object.
    WriteIp,
    /// A slot for `ovs-vsctl`.
    Slot,
    /// Its process.
    Vsctl,
    /// The local database.
    Database,
    /// ovs-vswitchd.
    Vswitchd,
    /// Interfaces.
    Kernel,
    /// Conflict detection.
    Detect,
    /// The next probe of the gateway.
    Probe,
    /// The `portmap` binary.
    Portmap,
}

/// A CNI request, from the exec of its binary to its answer.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts; no state machine hides in them"
)]
pub(super) struct CniRequest {
    pub(super) call: IpamCall,
    /// The plugin process lives.
    pub(super) alive: bool,
    pub(super) name: u32,
    pub(super) step: CniStep,
    /// The annotations have arrived, and the next look will see them.
    pub(super) seen: bool,
    /// The last look found an address.
    allocated: bool,
    /// All looks were had and none found the route: it will fail.
    late: bool,
    /// What the annotations gave it.
    addresses: Vec<IpAddr>,
    pub(super) tries: u64,
    pub(super) op: usize,
    pub(super) since: SimInstant,
}

impl CniRequest {
    /// It is a process of its own at the moment, not work of the daemon.
    pub(super) fn is_plugin(&self) -> bool {
        matches!(self.step, CniStep::Exec | CniStep::Portmap)
    }

    pub(super) fn ops(&self) -> &'static [Op] {
        match self.call.verb {
            Verb::Add => &ADD,
            Verb::Del => &DEL,
        }
    }
}

impl KubeOvn {
    /// The runtime executed the plugins.
    pub(super) fn plugin_exec(&mut self, call: IpamCall, context: &mut Context<'_>) {
        let (node, id) = (call.node, call.id);
        let exec = context.core.parameters.node_side.node.exec_cpu;
        // DEL runs the chain backwards: portmap first.
        let demand = match call.verb {
            Verb::Add => exec,
            Verb::Del => exec * 2,
        };
        context.ipam_stage(&call, IpamStage::Cpu);
        let name = self.names.number(&call.pod_namespace, &call.pod_name);
        let request = CniRequest {
            call,
            alive: true,
            name,
            step: CniStep::Exec,
            seen: false,
            allocated: false,
            late: false,
            addresses: Vec::new(),
            tries: 0,
            op: 0,
            since: context.now(),
        };
        self.daemon(node).requests.insert(id, request);
        self.plugin_cpu(node, id, demand, context);
    }

    /// CPU of a binary, which outlives a restart of the daemon.
    fn plugin_cpu(
        &mut self,
        node: NodeIndex,
        id: IpamCallId,
        demand: Duration,
        context: &mut Context<'_>,
    ) {
        self.cpu(node, demand, Wait::Plugin { node, call: id }, context);
    }

    /// A binary has used its CPU.
    pub(super) fn plugin_step(
        &mut self,
        node: NodeIndex,
        id: IpamCallId,
        context: &mut Context<'_>,
    ) {
        let up = self.daemon(node).up;
        let Some(request) = self.daemon(node).requests.get(&id) else {
            return;
        };
        if request.step == CniStep::Portmap {
            return self.plugin_answers(node, id, context);
        }
        if !up {
            return self.request_fails(node, id, "the daemon does not listen", context);
        }
        let demand = self.parameters.daemon_cpu;
        self.enter(node, id, CniStep::Accept);
        self.daemon_cpu(node, demand, DaemonStep::Request(id), context);
    }

    /// The plugin was killed: the daemon goes on with what it has.
    pub(super) fn plugin_killed(&mut self, node: NodeIndex, id: IpamCallId) {
        let requests = &mut self.daemon(node).requests;
        if let Some(request) = requests.get_mut(&id) {
            request.alive = false;
            if request.is_plugin() {
                requests.remove(&id);
            }
        }
    }

    pub(super) fn request(&mut self, node: NodeIndex, id: IpamCallId) -> &mut CniRequest {
        self.daemon(node)
            .requests
            .get_mut(&id)
            .expect("a request under way is in the table")
    }

    pub(super) fn enter(&mut self, node: NodeIndex, id: IpamCallId, step: CniStep) {
        self.request(node, id).step = step;
    }

    pub(super) fn stage(
        &mut self,
        node: NodeIndex,
        id: IpamCallId,
        stage: IpamStage,
        context: &mut Context<'_>,
    ) {
        let call = &self.request(node, id).call;
        context.ipam_stage(call, stage);
    }

    pub(super) fn pause(
        &mut self,
        node: NodeIndex,
        id: IpamCallId,
        step: CniStep,
        delay: Duration,
        context: &mut Context<'_>,
    ) {
        self.enter(node, id, step);
        let wait = self.daemon_wait(node, DaemonStep::Request(id));
        self.after(node, delay, wait, context);
    }

    pub(super) fn request_step(
        &mut self,
        node: NodeIndex,
        id: IpamCallId,
        signal: Signal,
        context: &mut Context<'_>,
    ) {
        let Some(request) = self.daemon(node).requests.get(&id) else {
            return;
        };
        match (request.step, signal) {
            (CniStep::Accept, _) => self.accepted(node, id, context),
            (CniStep::Poll, _) => self.look(node, id, context),
            (CniStep::ReadIp, Signal::Api(response)) => self.ip_read(node, id, response, context),
            (CniStep::ReadIpPause, _) => self.read_ip(node, id, context),
            // A write that failed is not noticed.
            (CniStep::WriteIp, _) => self.ip_settled(node, id, context),
            (CniStep::Slot, _) => self.take_slot(node, id, context),
            (CniStep::Vsctl, _) => self.vsctl_ran(node, id, context),
            (CniStep::Database, _) => self.database_answered(node, id, context),
            (CniStep::Vswitchd, _) => self.vsctl_ends(node, id, context),
            (CniStep::Kernel, _) => self.op_done(node, id, context),
            (CniStep::Detect, _) => self.probe_first(node, id, context),
            (CniStep::Probe, _) => self.probe(node, id, context),
            (step, _) => unreachable!("the daemon does not wait in {step:?}"),
        }
    }

    fn accepted(&mut self, node: NodeIndex, id: IpamCallId, context: &mut Context<'_>) {
        let request = self.request(node, id);
        let (name, verb) = (request.name, request.call.verb);
        if verb == Verb::Add {
            self.totals.add("adds_accepted");
            self.stage(node, id, IpamStage::Controller, context);
            return self.look(node, id, context);
        }
        let pod = self.daemon(node).pods.view.get(&name);
        if pod.is_some_and(|pod| objects::is_annotated(pod)) {
            self.totals.add("dels_wired");
            self.run_op(node, id, context);
        } else {
            self.totals.add("dels_empty");
            self.plugin_answers(node, id, context);
        }
    }

    /// One look at the annotations, unless all were had.
    fn look(&mut self, node: NodeIndex, id: IpamCallId, context: &mut Context<'_>) {
        let parameters = Rc::clone(&self.parameters);
        let request = self.request(node, id);
        let (name, tries) = (request.name, request.tries);
        request.tries += 1;
        request.seen = false;
        if tries >= parameters.poll_count {
            // What counts is what the last look saw.
            request.late = true;
            if request.allocated {
                self.totals.add("route_not_ready");
                return self.read_ip_first(node, id, context);
            }
            self.totals.add("no_address_in_time");
            return self.request_fails(node, id, "no address allocated", context);
        }
        let pod = self.daemon(node).pods.view.get(&name);
        let known = pod.is_some();
        let allocated = pod.is_some_and(|pod| objects::is_allocated(pod));
        let routed = pod.is_some_and(|pod| objects::is_routed(pod));
        self.request(node, id).allocated = allocated;
        if !known {
            self.totals.add("pod_not_seen");
            return self.request_fails(node, id, "get pod failed", context);
        }
        if allocated && routed {
            return self.read_ip_first(node, id, context);
        }
        self.stage(node, id, IpamStage::Controller, context);
        self.pause(node, id, CniStep::Poll, parameters.poll, context);
    }

    fn read_ip_first(&mut self, node: NodeIndex, id: IpamCallId, context: &mut Context<'_>) {
        self.request(node, id).tries = 0;
        self.read_ip(node, id, context);
    }

    fn read_ip(&mut self, node: NodeIndex, id: IpamCallId, context: &mut Context<'_>) {
        let name = self.request(node, id).name;
        let request = Request::Get {
            kind: objects::IPS,
            name: objects::ip_name(&self.names.full(name)),
            consistency: Consistency::Quorum,
        };
        self.ask(node, id, CniStep::ReadIp, request, context);
    }

    fn ask(
        &mut self,
        node: NodeIndex,
        id: IpamCallId,
        step: CniStep,
        request: Request,
        context: &mut Context<'_>,
    ) {
        self.stage(node, id, IpamStage::Api, context);
        self.enter(node, id, step);
        self.daemon_call(node, request, DaemonStep::Request(id), context);
    }

    fn ip_read(
        &mut self,
        node: NodeIndex,
        id: IpamCallId,
        response: Response,
        context: &mut Context<'_>,
    ) {
        let parameters = Rc::clone(&self.parameters);
        let Ok(Answer::Custom(ip)) = response else {
            let request = self.request(node, id);
            request.tries += 1;
            if request.tries >= parameters.poll_count {
                return self.ip_settled(node, id, context);
            }
            self.stage(node, id, IpamStage::Backoff, context);
            return self.pause(node, id, CniStep::ReadIpPause, parameters.poll, context);
        };
        let node_name = Rc::clone(&context.core.machine(node).node_name);
        if objects::node_of(&ip) == &*node_name {
            return self.ip_settled(node, id, context);
        }
        self.totals.add("ip_moved_by_daemon");
        let object = Rc::new(objects::moved(&ip, &node_name));
        let request = Request::Replace {
            object,
            part: crate::request::Part::Main,
        };
        self.ask(node, id, CniStep::WriteIp, request, context);
    }

    /// The `IP` object is as it should be, or nobody knows.
    fn ip_settled(&mut self, node: NodeIndex, id: IpamCallId, context: &mut Context<'_>) {
        let request = self.request(node, id);
        let (name, late) = (request.name, request.late);
        let pod = self.daemon(node).pods.view.get(&name);
        let Some(addresses) = pod.filter(|_| !late).map(|pod| objects::addresses(pod)) else {
            return self.request_fails(node, id, "route is not ready", context);
        };
        self.request(node, id).addresses = addresses;
        self.stage(node, id, IpamStage::DataPlane, context);
        self.run_op(node, id, context);
    }

    /// The daemon is done; of an ADD `portmap` is left.
    pub(super) fn wired(&mut self, node: NodeIndex, id: IpamCallId, context: &mut Context<'_>) {
        let request = self.request(node, id);
        if !request.alive {
            self.totals.add("adds_for_nobody");
            self.daemon(node).requests.remove(&id);
        } else if request.call.verb == Verb::Del {
            self.plugin_answers(node, id, context);
        } else {
            let demand = context.core.parameters.node_side.node.exec_cpu;
            self.stage(node, id, IpamStage::Cpu, context);
            self.enter(node, id, CniStep::Portmap);
            self.plugin_cpu(node, id, demand, context);
        }
    }

    fn plugin_answers(&mut self, node: NodeIndex, id: IpamCallId, context: &mut Context<'_>) {
        let Some(request) = self.daemon(node).requests.remove(&id) else {
            return;
        };
        let addresses = request.addresses;
        if request.alive {
            context.ipam_exit(node, id, Ok(Assigned { addresses }));
        }
    }

    pub(super) fn request_fails(
        &mut self,
        node: NodeIndex,
        id: IpamCallId,
        message: &str,
        context: &mut Context<'_>,
    ) {
        let request = self.daemon(node).requests.remove(&id);
        if request.is_some_and(|request| request.alive) {
            let error = CniError {
                code: TRY_AGAIN,
                message: message.to_owned(),
            };
            context.ipam_exit(node, id, Err(error));
        }
    }
}
