//! Executions of the plugin `berth`: process start, socket, deadline, spool, exit. What the plugin
//! decides is `berth::core::plugin`'s; here is what the operating system does for it.

use berth::core::exchange::{
    AddRequest, Allocation, Attachment, DelRequest, Failure, InboxEvent, PluginRequest,
    PodReference, RequestId, Response, SpoolEntry, SpoolId, Verb as Asked,
};
use berth::core::objects::Uid;
use berth::core::plugin::{PluginCall, PluginInput, PluginOutput, PluginVerb};
use berth::core::time::BootTime;
use drydock_engine::SimInstant;
use drydock_models::cni::{Assigned, CniError, IpamCall, IpamStage, Verb};
use drydock_models::context::Context;
use drydock_models::event::CpuToken;
use drydock_models::ids::IpamCallId;
use drydock_models::observation::Observation;

use super::ports::lock;
use super::{BerthIpam, Token};

/// One execution of the plugin.
pub(super) struct Execution {
    /// What the runtime asked.
    pub call: IpamCall,
    /// The plugin's own logic.
    plugin: PluginCall,
    /// The agent's process and life that read the request, and when.
    accepted: Option<(usize, u32, SimInstant)>,
}

impl BerthIpam {
    /// The runtime executes the plugin.
    pub(super) fn execute(&mut self, call: IpamCall, context: &mut Context<'_>) {
        let booted = self.booted(call.node);
        let verb = match call.verb {
            Verb::Add => PluginVerb::Add,
            Verb::Del => PluginVerb::Del,
        };
        let plugin = PluginCall::new(verb, boot_time(context.now(), booted));
        let (node, id) = (call.node, call.id);
        context.ipam_stage(&call, IpamStage::Cpu);
        self.executions.insert(
            id,
            Execution {
                call,
                plugin,
                accepted: None,
            },
        );
        let token = CpuToken::Ipam(Token::Exec(id).pack());
        context.cpu(node, self.setup.costs.plugin_exec, token);
        let deadline = context.now() + verb.budget();
        context.ipam_timer(node, deadline, Token::Deadline(id).pack());
    }

    /// The plugin was killed by its parent; the agent sees its socket close.
    pub(super) fn plugin_killed(&mut self, id: IpamCallId) {
        let Some(execution) = self.executions.remove(&id) else {
            return;
        };
        if let Some((process, life, _)) = execution.accepted {
            self.close_request(process, life, id);
        }
    }

    fn close_request(&mut self, process: usize, life: u32, id: IpamCallId) {
        let process = &self.processes[process];
        if process.life == life
            && let Some(posts) = &process.posts
        {
            let _ = posts.inbox.send(InboxEvent::Closed(request_id(id)));
        }
    }

    /// The plugin starts, or its pause is over.
    pub(super) fn plugin_go(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        self.step(id, PluginInput::Go, context);
    }

    /// The plugin's deadline: a plugin that has answered is not there anymore.
    pub(super) fn plugin_deadline(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        if let Some(execution) = self.executions.get_mut(&id) {
            if let Some((process, life, _)) = execution.accepted.take() {
                self.close_request(process, life, id);
            }
            self.step(id, PluginInput::TimedOut, context);
        }
    }

    /// The agent has read the request, if it still lives.
    pub(super) fn request_arrives(&mut self, id: IpamCallId, context: &mut Context<'_>) {
        let Some(execution) = self.executions.get_mut(&id) else {
            return;
        };
        let agent = self
            .processes
            .iter()
            .position(|process| process.role == super::Role::Agent(execution.call.node));
        let alive = agent.and_then(|agent| {
            let process = &self.processes[agent];
            process.posts.as_ref().map(|posts| (agent, process, posts))
        });
        let Some((agent, process, posts)) = alive else {
            self.step(id, PluginInput::Refused, context);
            return;
        };
        execution.accepted = Some((agent, process.life, context.now()));
        let request = PluginRequest {
            id: request_id(id),
            deadline: execution.plugin.deadline(),
            verb: asked(&execution.call),
        };
        let _ = posts.inbox.send(InboxEvent::Request(Box::new(request)));
        context.ipam_stage(&execution.call, IpamStage::Queue);
    }

    /// The agent died: the requests it had read are lost.
    pub(super) fn lose_requests(&mut self, process: usize, context: &mut Context<'_>) {
        let lost: Vec<IpamCallId> = self
            .executions
            .iter()
            .filter(|(_, execution)| execution.accepted.is_some_and(|(of, _, _)| of == process))
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            if let Some(execution) = self.executions.get_mut(&id) {
                execution.accepted = None;
            }
            self.step(id, PluginInput::Refused, context);
        }
    }

    /// The agent answers.
    pub(super) fn reply(&mut self, id: RequestId, response: Response, context: &mut Context<'_>) {
        if let Some(process) = self.probes.remove(&id.0) {
            self.status(process, response == Response::Done, context);
            return;
        }
        let id = IpamCallId(id.0 as u32);
        let Some(execution) = self.executions.get(&id) else {
            return;
        };
        let Some((_, _, accepted)) = execution.accepted else {
            return;
        };
        if execution.call.verb == Verb::Add && matches!(response, Response::Added(_)) {
            let at_once = accepted == context.now();
            let what = if at_once {
                "add-answered-at-once"
            } else {
                "add-answered-later"
            };
            let node = execution.call.node;
            context.core.observe(Observation::Ipam {
                node,
                what,
                value: 1,
            });
        }
        self.step(id, PluginInput::Answered(response), context);
    }

    /// Lets the plugin decide, and does what it says.
    fn step(&mut self, id: IpamCallId, input: PluginInput, context: &mut Context<'_>) {
        let Some(execution) = self.executions.get(&id) else {
            return;
        };
        let (node, plugin) = (execution.call.node, execution.plugin);
        let now = boot_time(context.now(), self.booted(node));
        match plugin.handle(now, input) {
            PluginOutput::Connect => {
                context.ipam_stage(&execution.call, IpamStage::Cpu);
                let token = CpuToken::Ipam(Token::Serve(id).pack());
                context.cpu(node, self.setup.costs.agent_request, token);
            }
            PluginOutput::Pause(pause) => {
                context.ipam_stage(&execution.call, IpamStage::Backoff);
                let at = context.now() + pause;
                context.ipam_timer(node, at, Token::Pause(id).pack());
            }
            PluginOutput::Spool => {
                self.spool(id);
                self.step(id, PluginInput::Spooled, context);
            }
            PluginOutput::Exit(result) => {
                self.executions.remove(&id);
                context.ipam_exit(node, id, answer(result));
            }
        }
    }

    /// Leaves a DEL in the spool of the machine.
    fn spool(&mut self, id: IpamCallId) {
        let call = &self.executions[&id].call;
        let Some(agent) = self.agent_of(call.node) else {
            return;
        };
        let Asked::Del(request) = asked(call) else {
            return;
        };
        let process = &self.processes[agent];
        let name = format!(
            "{}-{}",
            request.attachment.container, request.attachment.interface
        );
        let mut disk = lock(&process.disk);
        disk.spool.retain(|entry| entry.id.0 != name);
        disk.spool.push(SpoolEntry {
            id: SpoolId(name),
            request: Some(request),
        });
        disk.spool.sort_by(|one, other| one.id.cmp(&other.id));
        drop(disk);
        self.tell_of_spool(agent);
    }
}

/// Plugins' requests are numbered by their executions.
fn request_id(id: IpamCallId) -> RequestId {
    RequestId(u64::from(id.0))
}

/// A time of the world on a machine's clock.
fn boot_time(now: SimInstant, booted: SimInstant) -> BootTime {
    BootTime::new(now.saturating_since(booted))
}

fn asked(call: &IpamCall) -> Asked {
    let attachment = Attachment {
        container: call.container.text(),
        interface: "eth0".to_owned(),
    };
    let netns = call
        .netns
        .map(drydock_models::ids::NetnsId::path)
        .unwrap_or_default();
    match call.verb {
        Verb::Add => Asked::Add(AddRequest {
            attachment,
            netns,
            pod: PodReference {
                namespace: call.pod_namespace.to_string(),
                name: call.pod_name.to_string(),
                uid: Some(Uid::new(&call.pod.text())),
            },
            network: super::setup::NETWORK.to_owned(),
            pools: Vec::new(),
            ips: Vec::new(),
        }),
        Verb::Del => Asked::Del(DelRequest { attachment, netns }),
    }
}

fn answer(result: Result<Option<Allocation>, Failure>) -> Result<Assigned, CniError> {
    match result {
        Ok(allocation) => Ok(Assigned {
            addresses: allocation
                .map(|allocation| {
                    allocation
                        .addresses
                        .iter()
                        .map(|address| address.address.addr())
                        .collect()
                })
                .unwrap_or_default(),
        }),
        Err(failure) => Err(CniError {
            code: failure.code,
            message: failure.message,
        }),
    }
}
