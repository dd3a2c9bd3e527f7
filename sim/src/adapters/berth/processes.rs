//! Berth's processes: which there are, how they start, die and start again, and what of a machine
//! they can look at.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth::core::exchange::{InboxEvent, PluginRequest, Probe, RequestId, Sandbox, Verb};
use berth::core::objects::Uid;
use berth::core::time::BootTime;
use drydock_engine::{Completer, HostTasks, SimInstant};
use drydock_models::context::Context;
use drydock_models::ids::{ClientId, NetnsId, NodeIndex};
use drydock_models::ipam::Trouble;
use drydock_models::request::{ClientClass, ClientSpec};
use drydock_traces::plan::Edge;

use super::disk::{ArmedCall, Disk};
use super::objects::never_comes;
use super::ports::{Posts, SimPorts, lock};
use super::troubles::Listed;
use super::{BerthIpam, Token};

/// Pause between two questions whether a starting agent serves.
const STATUS_PERIOD: Duration = Duration::from_millis(100);
/// Request numbers of the adapter's own questions start here; plugins' are below.
const PROBE_BASE: u64 = 1 << 40;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The controller, on a machine.
    Controller(NodeIndex),
    /// The node agent of a machine.
    Agent(NodeIndex),
    /// Somebody else who uses Berth's ports, on a machine.
    Guest(NodeIndex),
}

impl Role {
    /// Where it runs.
    pub(super) fn node(self) -> NodeIndex {
        match self {
            Role::Controller(node) | Role::Agent(node) | Role::Guest(node) => node,
        }
    }
}

/// One process over all its lives.
pub(super) struct Process {
    /// What it is.
    pub role: Role,
    /// Its current life; what an earlier one asked for is void.
    pub life: u32,
    /// Its tasks; none before the first start.
    pub host: Option<HostTasks>,
    /// The world's ends of its mailboxes; none while it is dead.
    pub posts: Option<Posts>,
    /// Files of its machine, and the count of its port calls.
    pub disk: Arc<Mutex<Disk>>,
    /// Its API client while it lives.
    pub client: Option<ClientId>,
    /// When its machine booted.
    pub booted: SimInstant,
    /// It said once that it serves.
    pub served: bool,
    /// How long it stays dead after a trigger of the plan, by position in the plan.
    pub restart_after: Vec<(u32, Duration)>,
}

impl BerthIpam {
    /// Adds a process and starts it now.
    pub(super) fn add_process(&mut self, role: Role, context: &mut Context<'_>) {
        self.processes.push(Process {
            role,
            life: 0,
            host: None,
            posts: None,
            disk: Arc::default(),
            client: None,
            booted: context.now(),
            served: false,
            restart_after: Vec::new(),
        });
        self.start_process(self.processes.len() - 1, context);
    }

    /// Starts a process, unless it runs already or its machine is off.
    pub(super) fn start_process(&mut self, index: usize, context: &mut Context<'_>) {
        let role = self.processes[index].role;
        let machine = &context.core.machines[role.node().index()];
        if self.processes[index].posts.is_some() || !machine.up {
            return;
        }
        let (node_name, machine_id) = (
            machine.node_name.to_string(),
            machine.machine_id.to_string(),
        );
        let boot_id = format!("{machine_id}-boot-{}", machine.boot);
        let booted = self.booted(role.node());
        let class = match role {
            Role::Controller(_) => ClientClass::IpamController,
            Role::Agent(_) => ClientClass::IpamNode,
            Role::Guest(_) => ClientClass::User,
        };
        let client = context.client(ClientSpec {
            node: role.node(),
            class,
            limiter: None,
            timeout: Some(self.setup.costs.api_timeout),
            fresh_connection: false,
        });
        let process = &mut self.processes[index];
        process.life += 1;
        if booted != process.booted {
            lock(&process.disk).seal = None;
        }
        process.booted = booted;
        process.client = Some(client);
        let purpose = match role {
            Role::Controller(_) => "berth-controller",
            Role::Agent(_) => "berth-agent",
            Role::Guest(_) => "guest",
        };
        let entity = u64::from(role.node().0) << 32 | u64::from(process.life);
        let entropy = context.core.streams.stream("ipam", entity, purpose);
        let (ports, posts) = SimPorts::new(
            self.shared.clone(),
            process.disk.clone(),
            index,
            process.life,
            booted.as_nanos(),
            entropy,
        );
        process.posts = Some(posts);
        let host = match &process.host {
            None => self.tasks.add_host(&format!("{purpose}-{}", role.node())),
            Some(dead) => dead.restart(),
        };
        process.host = Some(host.clone());
        match role {
            Role::Controller(_) => {
                let controller = super::setup::controller(&machine_id);
                host.spawn(async move { berth::shell::run_controller(controller, &ports).await });
            }
            Role::Agent(_) => {
                let agent =
                    super::setup::agent(&node_name, &machine_id, &boot_id, self.setup.mutant);
                host.spawn(async move { berth::shell::run_agent(agent, &ports).await });
                self.probe_status(index, context);
            }
            Role::Guest(_) => {
                let guest = self.guest.take().expect("a guest comes once");
                host.spawn(guest(ports));
            }
        }
    }

    /// Kills a process: its tasks are dropped, its connections broken, its plugins' requests lost.
    pub(super) fn kill_process(&mut self, index: usize, context: &mut Context<'_>) {
        let process = &mut self.processes[index];
        if process.posts.take().is_none() {
            return;
        }
        if let Some(host) = &process.host {
            host.kill();
        }
        // Calls that the dead life posted and nobody took yet are void.
        process.life += 1;
        if let Some(client) = process.client.take() {
            context.drop_client(client);
        }
        self.probes.retain(|_, of| *of != index);
        self.sleeps.retain(|_, (of, _, _)| *of != index);
        self.waiting.retain(|_, waiting| waiting.process != index);
        self.close_watches(index, context);
        self.lose_requests(index, context);
    }

    /// The plan's trigger at a port call killed the process.
    pub(super) fn killed_by_plan(&mut self, index: usize, fault: u32, context: &mut Context<'_>) {
        self.kill_process(index, context);
        let process = &self.processes[index];
        let after = process
            .restart_after
            .iter()
            .find(|(of, _)| *of == fault)
            .map(|(_, after)| *after)
            .expect("a killing trigger is armed with its restart");
        let at = context.now() + after;
        context.ipam_timer(process.role.node(), at, Token::Start(index).pack());
    }

    /// Arms a trigger at a port call of a process.
    pub(super) fn arm_port_call(
        &mut self,
        index: usize,
        call: u64,
        before: bool,
        fault: u32,
        kill: Option<Duration>,
    ) {
        let process = &mut self.processes[index];
        process
            .restart_after
            .extend(kill.map(|after| (fault, after)));
        let edge = if before { Edge::Before } else { Edge::After };
        let armed = ArmedCall {
            call,
            edge,
            fault,
            kills: kill.is_some(),
        };
        lock(&process.disk).armed.push(armed);
    }

    /// The plan is over: what is armed at a port call never fires.
    pub(super) fn disarm_port_calls(&mut self) {
        for process in &self.processes {
            lock(&process.disk).armed.clear();
        }
    }

    /// Something around the agent of a machine is out of order.
    pub(super) fn trouble(&mut self, node: NodeIndex, trouble: Trouble, fault: u32, draw: u64) {
        let Some(agent) = self.agent_of(node) else {
            return;
        };
        let process = &mut self.processes[agent];
        if let Trouble::JournalTorn { restart_after } = trouble {
            process.restart_after.push((fault, restart_after));
        }
        lock(&process.disk).trouble(fault, trouble, draw);
        if trouble == Trouble::SpoolGarbage {
            self.tell_of_spool(agent);
        }
    }

    /// A trouble is over.
    pub(super) fn relief(&mut self, node: NodeIndex, fault: u32) {
        let Some(agent) = self.agent_of(node) else {
            return;
        };
        let ended = lock(&self.processes[agent].disk).troubles.end(fault);
        if ended == Some(Trouble::SpoolLate) {
            self.tell_of_spool(agent);
        }
    }

    /// A notice that the spool changed, if notices come.
    pub(super) fn tell_of_spool(&self, agent: usize) {
        let process = &self.processes[agent];
        if lock(&process.disk).troubles.spool_is_watched()
            && let Some(posts) = &process.posts
        {
            let _ = posts.spool_changes.send(());
        }
    }

    /// Asks an agent whether it serves.
    pub(super) fn probe_status(&mut self, index: usize, context: &mut Context<'_>) {
        let process = &self.processes[index];
        let Some(posts) = &process.posts else { return };
        let id = PROBE_BASE + u64::from(process.life) * 1_000_000 + self.next_slot as u64;
        self.next_slot += 1;
        let request = PluginRequest {
            id: RequestId(id),
            deadline: BootTime::NEVER,
            verb: Verb::Status,
        };
        let _ = posts.inbox.send(InboxEvent::Request(Box::new(request)));
        self.probes.insert(id, index);
        let _ = context;
    }

    /// An agent answered whether it serves.
    pub(super) fn status(&mut self, index: usize, serves: bool, context: &mut Context<'_>) {
        let process = &mut self.processes[index];
        if serves {
            if !process.served {
                process.served = true;
                self.agents_ready += 1;
            }
        } else {
            let at = context.now() + STATUS_PERIOD;
            context.ipam_timer(process.role.node(), at, Token::Probe(index).pack());
        }
    }

    /// A process sleeps.
    pub(super) fn sleep(
        &mut self,
        index: usize,
        at: BootTime,
        completer: Completer<()>,
        context: &mut Context<'_>,
    ) {
        // A shell that replaced its timer has dropped the old sleep: forget it.
        self.sleeps
            .retain(|_, (of, _, sleep)| *of != index || !sleep.is_abandoned());
        let slot = self.slot();
        let process = &self.processes[index];
        let since_boot = at.since_boot();
        self.sleeps.insert(slot, (index, process.life, completer));
        if at != BootTime::NEVER {
            let at = (process.booted + since_boot).max(context.now());
            context.ipam_timer(process.role.node(), at, Token::Sleep(slot).pack());
        }
    }
}

/// A look at a namespace's path on a machine.
pub(super) fn probe(path: &str, node: NodeIndex, disk: &mut Disk, context: &Context<'_>) -> Probe {
    let machine = &context.core.machines[node.index()];
    let present = NetnsId::from_path(path).is_some_and(|id| machine.namespaces.contains_key(&id));
    disk.troubles.look(present, u64::from(machine.boot))
}

/// What the runtime of a machine lists.
pub(super) fn sandboxes(node: NodeIndex, disk: &mut Disk, context: &Context<'_>) -> Listed {
    let machine = &context.core.machines[node.index()];
    // The world runs Pods that get no sandbox as Pods of the host's network.
    let has_none = |pod| context.api.pod(pod).is_some_and(|pod| never_comes(pod));
    let listed = machine
        .sandboxes
        .iter()
        .filter(|(_, sandbox)| !has_none(sandbox.pod))
        .map(|(container, sandbox)| Sandbox {
            container: container.text(),
            pod_uid: Uid::new(&sandbox.pod.text()),
        });
    disk.troubles.ask(machine.runtime_up, listed.collect())
}
