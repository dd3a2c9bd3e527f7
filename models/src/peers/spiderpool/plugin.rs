//! The processes that the node executes: the IPAM plugin and the coordinator. Neither talks to the
//! API; both ask the agent of their machine over its Unix socket, and give up at a deadline.
//! Source: spiderpool v0.8.0 `cmd/spiderpool/cmd/command_{add,delete}.go`,
//! `cmd/coordinator/cmd/command_add.go`, `pkg/openapi/unix_socket.go`.

use crate::cni::{Assigned, CniError, IpamAnswer, IpamCall, IpamStage, Verb};
use crate::context::Context;
use crate::event::CpuToken;
use crate::ids::IpamCallId;

use super::endpoint::{Endpoint, endpoint_name};
use super::job::{Goal, Job, JobId, Origin, Outcome, Phase};
use super::{Spiderpool, Wait};

/// CNI code of a plugin's own failure.
const PLUGIN_ERROR: u32 = 999;

/// One process.
#[derive(Debug)]
pub(super) struct Execution {
    pub(super) call: IpamCall,
    /// It is the coordinator.
    coordinator: bool,
    /// It is connected to the agent, in this life of it.
    connected: Option<u32>,
    job: Option<JobId>,
}

impl Spiderpool {
    /// A plugin is executed.
    pub(super) fn exec(&mut self, call: IpamCall, coordinator: bool, context: &mut Context<'_>) {
        let (id, node) = (call.id, call.node);
        let demand = if coordinator {
            context.core.parameters.node_side.node.exec_cpu
        } else {
            context.ipam_stage(&call, IpamStage::Cpu);
            self.parameters.plugin_cpu
        };
        let execution = Execution {
            call,
            coordinator,
            connected: None,
            job: None,
        };
        self.executions.insert(id, execution);
        let token = self.wait(Wait::Exec { call: id });
        context.cpu(node, demand, CpuToken::Ipam(token));
    }

    /// It started: the health check, then the request, each on a connection of its own; the
    /// coordinator makes one request.
    pub(super) fn executed(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        let Some(execution) = self.executions.get_mut(&id) else {
            return;
        };
        let Some(process) = self.agents.get(&execution.call.node).copied() else {
            return;
        };
        let agent = &self.processes[process];
        if !agent.serving {
            let text = "dial unix /var/run/spidernet/spiderpool.sock: connection refused";
            return self.refuse(id, text, context);
        }
        let life = agent.life;
        execution.connected = Some(life);
        let requests = if execution.coordinator { 1 } else { 2 };
        let demand = self.parameters.request_cpu * requests;
        self.compute(process, demand, Wait::Asked { call: id, life }, context);
    }

    /// The agent has read the request.
    pub(super) fn asked(&mut self, id: IpamCallId, life: u32, context: &mut Context<'_>) {
        let Some(execution) = self.executions.get(&id) else {
            return;
        };
        let process = self.agents[&execution.call.node];
        if self.processes[process].life != life {
            return;
        }
        if execution.coordinator {
            return self.coordinate(id, process, context);
        }
        let call = &execution.call;
        let parameters = &self.parameters;
        let (goal, limit) = match call.verb {
            Verb::Add => (Goal::Allocate, parameters.add_timeout),
            Verb::Del => (Goal::Release, parameters.del_timeout),
        };
        let job = Job {
            process,
            origin: Origin::Plugin(id),
            goal,
            namespace: call.pod_namespace.clone(),
            pod_name: call.pod_name.clone(),
            pod: call.pod,
            entity: u64::from(call.pod.0),
            fixed: false,
            phase: Phase::Parked,
            cancelled: false,
            tickets: Vec::new(),
            parts: Vec::new(),
            endpoint: None,
        };
        self.pause(process, limit, Wait::PluginDeadline { call: id }, context);
        let job = self.begin(job, context);
        if let Some(execution) = self.executions.get_mut(&id) {
            execution.job = Some(job);
        }
    }

    /// The coordinator's answer comes from the agent's caches, and then it has links to change:
    /// that CPU is part of its price. Detection of the gateway and of conflicts is off.
    fn coordinate(&mut self, id: IpamCallId, process: usize, context: &mut Context<'_>) {
        let call = &self.executions[&id].call;
        let agent = &self.processes[process];
        let name = endpoint_name(&call.pod_namespace, &call.pod_name);
        let endpoint = agent.endpoints.get(&name).map(|e| Endpoint::decode(e));
        let known = endpoint.is_some_and(|endpoint| endpoint.pod == call.pod);
        if call.verb == Verb::Add && !known {
            self.totals.coordinator_too_early += 1;
            return self.refuse(id, "no spiderendpoint records found", context);
        }
        let addresses = Vec::new();
        self.exit(id, Ok(Assigned { addresses }), context);
    }

    /// The agent answered.
    pub(super) fn answered(&mut self, id: IpamCallId, outcome: Outcome, context: &mut Context<'_>) {
        let Some(execution) = self.executions.get(&id) else {
            return;
        };
        match (outcome, execution.call.verb) {
            (Ok(positions), _) => {
                let address =
                    |(pool, position)| self.catalog.spec(pool).addresses[position as usize];
                let addresses = positions.into_iter().map(address).collect();
                self.exit(id, Ok(Assigned { addresses }), context);
            }
            (Err(text), Verb::Add) => {
                let text = format!("spiderpool IP allocation error: [POST /ipam/ip][500] {text}");
                self.refuse(id, &text, context);
            }
            (Err(_), Verb::Del) => self.swallow(id, context),
        }
    }

    /// A release that failed is the garbage collector's task.
    fn swallow(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        self.totals.dels_swallowed += 1;
        let addresses = Vec::new();
        self.exit(id, Ok(Assigned { addresses }), context);
    }

    /// The plugin waited long enough.
    pub(super) fn plugin_deadline(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        let Some(execution) = self.executions.get(&id) else {
            return;
        };
        let (verb, job) = (execution.call.verb, execution.job);
        self.totals.deadlines += 1;
        match verb {
            Verb::Add => self.refuse(id, "context deadline exceeded", context),
            Verb::Del => self.swallow(id, context),
        }
        if let Some(job) = job {
            self.cancel(job, context);
        }
    }

    fn refuse(&mut self, id: IpamCallId, text: &str, context: &mut Context<'_>) {
        let error = CniError {
            code: PLUGIN_ERROR,
            message: text.to_owned(),
        };
        self.exit(id, Err(error), context);
    }

    fn exit(&mut self, id: IpamCallId, answer: IpamAnswer, context: &mut Context<'_>) {
        let execution = self.executions.remove(&id).expect("a process exits once");
        context.ipam_exit(execution.call.node, id, answer);
    }

    /// A process was killed: its connection closes.
    pub(super) fn execution_killed(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        let job = self.executions.remove(&id).and_then(|e| e.job);
        if let Some(job) = job {
            self.cancel(job, context);
        }
    }

    /// The agent of a machine died: those connected to it are told so by the kernel.
    pub(super) fn disconnect(&mut self, process: usize, context: &mut Context<'_>) {
        let (node, life) = (self.processes[process].node, self.processes[process].life);
        let connected: Vec<(IpamCallId, Verb, bool)> = self
            .executions
            .values()
            .filter(|e| e.call.node == node && e.connected == Some(life))
            .map(|e| (e.call.id, e.call.verb, e.job.is_some()))
            .collect();
        for (id, verb, requested) in connected {
            match verb {
                Verb::Del if requested => self.swallow(id, context),
                _ => self.refuse(id, "EOF", context),
            }
        }
    }

    /// A machine lost power: its processes are gone without a word.
    pub(super) fn executions_lost(&mut self, node: crate::ids::NodeIndex) {
        self.executions.retain(|_, e| e.call.node != node);
    }
}
