//! Berth in the simulated cluster: its own core and shell, as tasks on the machines they would run
//! on, with every port answered by the world. It only passes things on; every decision is Berth's.

pub mod adapter;
mod administrator;
pub mod bounds;
mod disk;
mod journal;
pub mod objects;
mod plugins;
pub mod ports;
mod processes;
pub mod records;
mod requests;
mod setup;
mod troubles;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use berth::core::objects::AddressPool;
use drydock_engine::{SimInstant, Tasks};
use drydock_models::apiserver::ApiServers;
use drydock_models::cni::{IpamCall, NodeChange};
use drydock_models::context::Context;
use drydock_models::ids::{ClientId, IpamCallId, NodeIndex, WatchId};
use drydock_models::ipam::{Allocated, Ipam, IpamFault};
use drydock_models::observation::Observation;
use drydock_models::request::{Change, ClientClass, ClientSpec, ReplyTo, Request, Response};

use self::administrator::Administrator;
pub use self::administrator::FENCED;
use self::plugins::Execution;
use self::ports::{Call, Shared, SimPorts, lock};
use self::processes::{Process, Role};
use self::requests::{OpenWatch, Waiting};
use crate::parameters::Costs;
use crate::scenario::{Scenario, ScenarioError};

/// How Berth is set up in a run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Pools that the administrator created.
    pub pools: Vec<AddressPool>,
    /// What Berth's processes cost.
    pub costs: Costs,
    /// One known bug, built in.
    pub mutant: Option<berth::core::Mutant>,
}

/// Berth as a scenario asks for it.
/// Errors: a pool with a key that Berth does not know, an unknown mutant.
pub fn setup(scenario: &Scenario) -> Result<Setup, ScenarioError> {
    let pools = scenario
        .pools
        .iter()
        .enumerate()
        .map(|(index, pool)| {
            setup::pool(pool, index == 0).map_err(|error| ScenarioError::Pool {
                pool: pool.name.clone(),
                reason: error.to_string(),
            })
        })
        .collect::<Result<_, _>>()?;
    let mutant = scenario
        .mutant
        .as_ref()
        .map(|name| {
            name.parse().map_err(|_| ScenarioError::Mutant {
                name: name.clone(),
                known: adapter::mutants().join(", "),
            })
        })
        .transpose()?;
    Ok(Setup {
        pools,
        costs: scenario.parameters.costs.clone(),
        mutant,
    })
}

/// How long an administrator waits after a failed command.
const BURY_AGAIN: Duration = Duration::from_secs(1);

/// What a token of this adapter means, packed into the 64 bits that the world carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// The plugin's process started (CPU served).
    Exec(IpamCallId),
    /// The agent has read the plugin's request (CPU served).
    Serve(IpamCallId),
    /// The plugin's deadline.
    Deadline(IpamCallId),
    /// The plugin's pause is over.
    Pause(IpamCallId),
    /// A process starts (again).
    Start(usize),
    /// A sleep of a process ends.
    Sleep(u32),
    /// An API call of a process ended.
    Api(u32),
    /// A watch delivered.
    Watch(u32),
    /// The administrator's own calls.
    Install,
    /// Time to ask a process whether it is serving.
    Probe(usize),
    /// The administrator's statement that a machine is off: the answer, and the time to repeat it.
    Bury(NodeIndex),
}

impl Token {
    fn pack(self) -> u64 {
        let (kind, value) = match self {
            Token::Exec(call) => (0, call.0),
            Token::Serve(call) => (1, call.0),
            Token::Deadline(call) => (2, call.0),
            Token::Pause(call) => (3, call.0),
            Token::Start(process) => (4, process as u32),
            Token::Sleep(slot) => (5, slot),
            Token::Api(slot) => (6, slot),
            Token::Watch(slot) => (7, slot),
            Token::Install => (8, 0),
            Token::Probe(process) => (9, process as u32),
            Token::Bury(node) => (10, node.0),
        };
        kind << 32 | u64::from(value)
    }

    fn unpack(token: u64) -> Token {
        let value = token as u32;
        match token >> 32 {
            0 => Token::Exec(IpamCallId(value)),
            1 => Token::Serve(IpamCallId(value)),
            2 => Token::Deadline(IpamCallId(value)),
            3 => Token::Pause(IpamCallId(value)),
            4 => Token::Start(value as usize),
            5 => Token::Sleep(value),
            6 => Token::Api(value),
            7 => Token::Watch(value),
            8 => Token::Install,
            9 => Token::Probe(value as usize),
            10 => Token::Bury(NodeIndex(value)),
            kind => unreachable!("no token of kind {kind} was ever packed"),
        }
    }
}

/// Code that uses Berth's ports in place of Berth.
pub type Guest = Box<dyn FnOnce(SimPorts) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Berth as the cluster sees it.
pub struct BerthIpam {
    setup: Setup,
    tasks: Tasks,
    shared: Arc<Shared>,
    /// The controller first, then the agents in order of their machines.
    processes: Vec<Process>,
    executions: BTreeMap<IpamCallId, Execution>,
    waiting: BTreeMap<u32, Waiting>,
    sleeps: BTreeMap<u32, (usize, u32, drydock_engine::Completer<()>)>,
    watches: BTreeMap<u32, OpenWatch>,
    next_slot: u32,
    admin: Option<ClientId>,
    /// When machines booted; absent = at the start of the run.
    booted: BTreeMap<NodeIndex, SimInstant>,
    triggered: Vec<u32>,
    agents_ready: usize,
    agents_wanted: usize,
    /// Requests of the adapter itself to an agent (STATUS), which no plugin waits for.
    probes: BTreeMap<u64, usize>,
    guest: Option<Guest>,
    administrator: Administrator,
}

impl std::fmt::Debug for BerthIpam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BerthIpam")
            .field("processes", &self.processes.len())
            .finish_non_exhaustive()
    }
}

impl BerthIpam {
    /// Berth, not yet started.
    pub fn new(setup: Setup, tasks: Tasks) -> BerthIpam {
        BerthIpam {
            setup,
            tasks,
            shared: Arc::default(),
            processes: Vec::new(),
            executions: BTreeMap::new(),
            waiting: BTreeMap::new(),
            sleeps: BTreeMap::new(),
            watches: BTreeMap::new(),
            next_slot: 0,
            admin: None,
            booted: BTreeMap::new(),
            triggered: Vec::new(),
            agents_ready: 0,
            agents_wanted: 0,
            probes: BTreeMap::new(),
            guest: None,
            administrator: Administrator::default(),
        }
    }

    /// The ports alone, with a guest on the first machine in place of Berth's programs.
    pub fn with_guest(setup: Setup, tasks: Tasks, guest: Guest) -> BerthIpam {
        BerthIpam {
            guest: Some(guest),
            ..Self::new(setup, tasks)
        }
    }

    /// Every call from the world passes here first, because tasks read this time.
    fn enter(&mut self, context: &Context<'_>) {
        self.shared
            .now_ns
            .store(context.now().as_nanos(), Ordering::Relaxed);
    }

    fn slot(&mut self) -> u32 {
        self.next_slot += 1;
        self.next_slot
    }

    /// When a machine booted.
    fn booted(&self, node: NodeIndex) -> SimInstant {
        self.booted.get(&node).copied().unwrap_or(SimInstant::ZERO)
    }

    /// The process of a machine's agent.
    fn agent_of(&self, node: NodeIndex) -> Option<usize> {
        self.processes
            .iter()
            .position(|process| process.role == Role::Agent(node))
    }
}

impl Ipam for BerthIpam {
    fn name(&self) -> &'static str {
        "berth"
    }

    fn start(&mut self, context: &mut Context<'_>) {
        self.enter(context);
        let admin = context.client(ClientSpec {
            node: NodeIndex(0),
            class: ClientClass::User,
            limiter: None,
            timeout: None,
            fresh_connection: false,
        });
        self.admin = Some(admin);
        if self.guest.is_some() {
            // Never reached, so no workload begins.
            self.agents_wanted = 1;
            return self.add_process(Role::Guest(NodeIndex(0)), context);
        }
        for pool in self.setup.pools.clone() {
            let object = objects::to_custom(pool.into());
            let reply = ReplyTo::Ipam {
                token: Token::Install.pack(),
            };
            context.call(admin, Request::Create(object.into()), reply);
        }
        let names: std::collections::BTreeSet<_> = context
            .core
            .machines
            .iter()
            .map(|machine| machine.node_name.clone())
            .collect();
        for name in names {
            let node = objects::to_custom(setup::node(&name).into());
            let reply = ReplyTo::Ipam {
                token: Token::Install.pack(),
            };
            context.call(admin, Request::Create(node.into()), reply);
        }
        // A replica of the controller on each master: they elect their leader themselves.
        for node in 0..context.core.machines.len() as u32 {
            if context.core.machines[node as usize].control_plane {
                self.add_process(Role::Controller(NodeIndex(node)), context);
            }
        }
        for node in 0..context.core.machines.len() as u32 {
            self.add_process(Role::Agent(NodeIndex(node)), context);
        }
        self.agents_wanted = context.core.machines.len();
    }

    fn ready(&self) -> bool {
        self.agents_ready >= self.agents_wanted
    }

    fn allocated(&self, api: &ApiServers) -> Vec<Allocated> {
        records::allocated(&self.setup.pools, api)
    }

    fn call(&mut self, call: IpamCall, context: &mut Context<'_>) {
        self.enter(context);
        self.execute(call, context);
    }

    fn killed(&mut self, _node: NodeIndex, call: IpamCallId, context: &mut Context<'_>) {
        self.enter(context);
        self.plugin_killed(call);
    }

    fn response(&mut self, token: u64, response: Response, context: &mut Context<'_>) {
        self.enter(context);
        match Token::unpack(token) {
            Token::Api(slot) => self.answered(slot, response),
            // An administrator whose command failed repeats it.
            Token::Bury(node) if response.is_err() => {
                let again = context.now() + BURY_AGAIN;
                context.ipam_timer(node, again, token);
            }
            _ => {}
        }
    }

    fn watch(&mut self, token: u64, watch: WatchId, change: Change, context: &mut Context<'_>) {
        self.enter(context);
        if let Token::Watch(slot) = Token::unpack(token) {
            self.delivered(slot, watch, &change, context);
        }
    }

    fn timer(&mut self, _node: NodeIndex, token: u64, context: &mut Context<'_>) {
        self.enter(context);
        match Token::unpack(token) {
            Token::Sleep(slot) => {
                if let Some((_, _, completer)) = self.sleeps.remove(&slot) {
                    // A process killed in the meantime does not wake up.
                    let _ = completer.complete(());
                }
            }
            Token::Start(process) => self.start_process(process, context),
            Token::Probe(process) => self.probe_status(process, context),
            Token::Deadline(call) => self.plugin_deadline(call, context),
            Token::Pause(call) => self.plugin_go(call, context),
            Token::Bury(node) => self.bury(node, context),
            other => unreachable!("no timer of {other:?} is ever set"),
        }
    }

    fn cpu_done(&mut self, _node: NodeIndex, token: u64, context: &mut Context<'_>) {
        self.enter(context);
        match Token::unpack(token) {
            Token::Exec(call) => self.plugin_go(call, context),
            Token::Serve(call) => self.request_arrives(call, context),
            other => unreachable!("no CPU is ever asked for {other:?}"),
        }
    }

    fn node_changed(&mut self, node: NodeIndex, change: NodeChange, context: &mut Context<'_>) {
        self.enter(context);
        match change {
            NodeChange::NetnsPresent(_) => {}
            NodeChange::NetnsGone(_) => {
                if let Some(agent) = self.agent_of(node)
                    && let Some(posts) = &self.processes[agent].posts
                {
                    let _ = posts.netns_changes.send(());
                }
            }
            NodeChange::Down => {
                self.executions
                    .retain(|_, execution| execution.call.node != node);
                for process in 0..self.processes.len() {
                    if self.processes[process].role.node() == node {
                        self.kill_process(process, context);
                    }
                }
            }
            NodeChange::Up => {
                self.booted.insert(node, context.now());
                for process in 0..self.processes.len() {
                    if self.processes[process].role.node() == node {
                        self.start_process(process, context);
                    }
                }
            }
            NodeChange::Joined => {
                self.booted.insert(node, context.now());
                self.add_process(Role::Agent(node), context);
            }
        }
    }

    fn inject(&mut self, fault: IpamFault, context: &mut Context<'_>) {
        self.enter(context);
        match fault {
            IpamFault::KillAgent {
                node,
                restart_after,
            } => {
                if let Some(agent) = self.agent_of(node) {
                    self.kill_process(agent, context);
                    let at = context.now() + restart_after;
                    context.ipam_timer(node, at, Token::Start(agent).pack());
                }
            }
            IpamFault::ArmPortCall {
                node,
                call,
                before,
                fault,
                kill,
            } => {
                if let Some(agent) = self.agent_of(node) {
                    self.arm_port_call(agent, call, before, fault, kill);
                }
            }
            IpamFault::DisarmPortCalls => self.disarm_port_calls(),
            IpamFault::Bury { node } => self.bury(node, context),
            IpamFault::Trouble {
                node,
                trouble,
                fault,
                draw,
            } => {
                if troubles::is_of_objects(trouble) {
                    let administrator = &mut self.administrator;
                    administrator.begin(trouble, node, fault, draw, context);
                    self.cut_watches(context);
                } else {
                    self.trouble(node, trouble, fault, draw);
                }
            }
            IpamFault::Relief { node, fault } => {
                self.administrator.end(fault, context);
                self.relief(node, fault);
            }
        }
    }

    fn triggered(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.triggered)
    }

    fn is_down(&self, node: NodeIndex) -> bool {
        self.agent_of(node)
            .is_some_and(|agent| self.processes[agent].posts.is_none())
    }

    fn after_tasks(&mut self, context: &mut Context<'_>) {
        self.enter(context);
        let posted = std::mem::take(&mut *lock(&self.shared.outbox));
        for posted in posted {
            let node = self.processes[posted.process].role.node();
            if self.processes[posted.process].life != posted.life {
                continue;
            }
            match posted.call {
                Call::Noted(what, value) => {
                    context
                        .core
                        .observe(Observation::Ipam { node, what, value });
                }
                Call::Triggered { fault, dies } => {
                    self.triggered.push(fault);
                    if dies {
                        self.killed_by_plan(posted.process, fault, context);
                    }
                }
                Call::SleepUntil(at, completer) => {
                    self.sleep(posted.process, at, completer, context);
                }
                Call::Probe(path, completer) => {
                    let disk = &self.processes[posted.process].disk;
                    let look = processes::probe(&path, node, &mut lock(disk), context);
                    let _ = completer.complete(look);
                }
                Call::Sandboxes(completer) => {
                    let disk = &self.processes[posted.process].disk;
                    let list = processes::sandboxes(node, &mut lock(disk), context);
                    let _ = completer.complete(list);
                }
                Call::Reply(id, response) => self.reply(id, response, context),
                call => self.request(posted.process, call, context),
            }
        }
    }
}
