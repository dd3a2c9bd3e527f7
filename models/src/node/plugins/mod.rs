//! The CNI plugins of one machine, as programs: each execution is a process, a script that reads
//! from top to bottom ([`multus`], [`macvlan`]) and writes its result into its parent's pipe. What
//! a process registers here is released when it ends, however it ends. It knows neither runtime nor
//! kubelet.
//!
//! SIGKILL reaches only the process that containerd executed. Its children live on as orphans and
//! write into a broken pipe.
//! Source: containernetworking/cni v1.1.2 `pkg/invoke/raw_exec.go:34-45` (`exec.CommandContext`, no
//! process group).

mod macvlan;
mod multus;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use drydock_engine::time::SimInstant;

use crate::cni::{CniError, IpamAnswer, IpamCall, Verb};
use crate::context::Context;
use crate::event::Event;
use crate::ids::{ContainerId, IpamCallId, NetnsId};
use crate::objects::Pod;
use crate::observation::{Observation, PodStage};
use crate::parameters::NodeSideParameters;
use crate::process::{NewProcess, PipeWriter, Port, ProcessId, Processes};

use self::macvlan::Macvlan;
use self::multus::Multus;
use super::desk::Desk;

/// CNI code of a plugin's own failure.
const PLUGIN_ERROR: u32 = 999;

/// Result of a plugin that makes an interface.
pub(crate) type CniResult = Result<Vec<IpAddr>, CniError>;

/// What the environment tells a plugin process.
#[derive(Clone, Debug)]
pub(crate) struct Execution {
    pub(crate) verb: Verb,
    pub(crate) container: ContainerId,
    pub(crate) netns: Option<NetnsId>,
    pub(crate) pod: Rc<Pod>,
    pub(crate) deadline: SimInstant,
}

/// How the cluster's network is set up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Network {
    /// The runtime executes the IPAM itself.
    pub(crate) ipam_is_network_plugin: bool,
    /// A further plugin of the IPAM follows macvlan.
    pub(crate) ipam_is_chained: bool,
}

/// Which plugin a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Multus,
    Macvlan,
}

/// Which plugin of the IPAM is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IpamProgram {
    /// The IPAM itself.
    Own,
    /// What it chains behind macvlan.
    Chained,
}

/// What the plugin processes of one machine share.
pub(crate) struct Plugins {
    desk: Desk,
    parameters: Rc<NodeSideParameters>,
    network: Network,
    /// Running processes, and who is told when they end.
    running: RefCell<BTreeMap<ProcessId, Running>>,
    /// Executions of the IPAM's plugins, and who is told when they end.
    executed: RefCell<BTreeMap<IpamCallId, Executed>>,
    /// Attachments in multus' cache: files in /var/lib/cni/multus, which outlive the machine's
    /// power.
    cached: RefCell<BTreeSet<ContainerId>>,
    /// How many link deletions still succeed, and how many then fail.
    link_failures: Cell<(u32, u32)>,
}

/// A process that runs.
struct Running {
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests kill multus alone"))]
    program: Program,
    port: Port,
    parent: PipeWriter<CniResult>,
}

/// An execution of an IPAM plugin.
struct Executed {
    program: IpamProgram,
    parent: ProcessId,
    exit: PipeWriter<IpamAnswer>,
}

impl Plugins {
    /// No process yet.
    pub(crate) fn new(desk: &Desk, parameters: &Rc<NodeSideParameters>, network: Network) -> Self {
        Self {
            desk: desk.clone(),
            parameters: parameters.clone(),
            network,
            running: RefCell::default(),
            executed: RefCell::default(),
            cached: RefCell::default(),
            link_failures: Cell::new((0, 0)),
        }
    }

    /// The network's plugin, to be executed by the runtime.
    pub(crate) fn execute(
        self: &Rc<Self>,
        execution: Execution,
        parent: PipeWriter<CniResult>,
    ) -> NewProcess {
        if self.parameters.multus.enabled && !self.network.ipam_is_network_plugin {
            Multus::execute(self, execution, parent)
        } else {
            Macvlan::execute(self, execution, parent)
        }
    }

    /// SIGKILL: a process ends where it is, and its parent sees it fail.
    pub(crate) fn kill(&self, process: ProcessId, context: &mut Context<'_>) {
        let Some(running) = self.running.borrow_mut().remove(&process) else {
            return;
        };
        // If the IPAM is the network plugin, this is its own process; otherwise the IPAM is now an
        // orphan.
        if self.network.ipam_is_network_plugin {
            for (call, executed) in self.executed.borrow().iter() {
                if executed.parent == process {
                    self.kill_execution(*call, context);
                }
            }
        }
        running.port.kill(process);
        running.parent.write(Err(killed()));
    }

    fn kill_execution(&self, call: IpamCallId, context: &mut Context<'_>) {
        let node = self.desk.index;
        context.core.queue.soon(Event::IpamKill { node, call });
    }

    /// An IPAM plugin exited. If its parent was killed, its answer reaches nobody.
    pub(crate) fn exited(&self, call: IpamCallId, answer: IpamAnswer) {
        let executed = self.executed.borrow_mut().remove(&call);
        if let Some(executed) = executed {
            executed.exit.write(answer);
        }
    }

    /// Every IPAM plugin that runs is killed: its parent sees it fail.
    pub(crate) fn kill_ipam(&self, processes: &mut Processes, context: &mut Context<'_>) {
        let executed = self.executed.borrow();
        let own = executed
            .iter()
            .filter(|(_, e)| e.program == IpamProgram::Own);
        let calls: Vec<IpamCallId> = own.map(|(call, _)| *call).collect();
        drop(executed);
        for call in calls {
            self.kill_execution(call, context);
            self.exited(call, Err(killed()));
            processes.settle(context);
        }
    }

    /// Every multus that runs is killed: its delegate is an orphan.
    #[cfg(test)]
    pub(crate) fn kill_multus(&self, processes: &mut Processes, context: &mut Context<'_>) {
        let running = self.running.borrow();
        let multus = running.iter().filter(|(_, r)| r.program == Program::Multus);
        let dead: Vec<ProcessId> = multus.map(|(process, _)| *process).collect();
        drop(running);
        for process in dead {
            self.kill(process, context);
            processes.settle(context);
        }
    }

    /// Link deletions fail from the `nth` DEL from now (1 = the next), `count` times.
    pub(crate) fn fail_link_deletions(&self, nth: u32, count: u32) {
        self.link_failures.set((nth, count));
    }
}

/// One execution of a plugin, from its start to its exit.
struct Plugin {
    plugins: Rc<Plugins>,
    port: Port,
    execution: Execution,
    parent: PipeWriter<CniResult>,
}

impl Plugin {
    /// A process starts.
    fn start(
        plugins: Rc<Plugins>,
        port: Port,
        program: Program,
        execution: Execution,
        parent: PipeWriter<CniResult>,
    ) -> Self {
        let running = Running {
            program,
            port: port.clone(),
            parent: parent.clone(),
        };
        let before = plugins.running.borrow_mut().insert(port.id, running);
        assert!(before.is_none(), "a process starts once");
        Self {
            plugins,
            port,
            execution,
            parent,
        }
    }

    fn is_add(&self) -> bool {
        self.execution.verb == Verb::Add
    }

    /// From now on the start of a Pod waits for something else.
    fn stage(&self, stage: PodStage) {
        let pod = self.execution.pod.uid;
        if self.is_add() && self.plugins.desk.is_starting(pod) {
            self.port.observe(Observation::PodStage { pod, stage });
        }
    }

    /// Executes an IPAM plugin and waits for its exit.
    async fn execute(&self, program: IpamProgram, verb: Verb) -> IpamAnswer {
        let (plugins, execution) = (&self.plugins, &self.execution);
        let (node, id) = (plugins.desk.index, plugins.desk.next_ipam_call());
        let (container, pod) = (execution.container, execution.pod.uid);
        let call = IpamCall {
            id,
            node,
            verb,
            container,
            netns: execution.netns,
            pod_namespace: execution.pod.namespace.clone(),
            pod_name: execution.pod.name.clone(),
            pod,
            deadline: execution.deadline,
        };
        let (answer, exit) = self.port.pipe();
        let executed = Executed {
            program,
            parent: self.port.id,
            exit,
        };
        let before = plugins.executed.borrow_mut().insert(id, executed);
        assert!(before.is_none(), "an execution has one parent");
        let _waiting = Waiting { plugins, call: id };
        if program == IpamProgram::Own && verb == Verb::Add {
            self.port.observe(Observation::IpamAddStarted {
                node,
                container,
                pod,
            });
        }
        self.port.soon(match program {
            IpamProgram::Own => Event::IpamExec(call),
            IpamProgram::Chained => Event::IpamChained(call),
        });
        answer.read().await
    }

    fn exit(self, result: CniResult) {
        self.parent.write(result);
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.plugins.running.borrow_mut().remove(&self.port.id);
    }
}

/// Somebody waits for the exit of an IPAM plugin.
struct Waiting<'a> {
    plugins: &'a Plugins,
    call: IpamCallId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.plugins.executed.borrow_mut().remove(&self.call);
    }
}

/// A plugin's own failure.
fn failure(message: &str) -> CniError {
    CniError {
        code: PLUGIN_ERROR,
        message: message.to_owned(),
    }
}

/// What the parent of a killed process sees.
fn killed() -> CniError {
    failure("signal: killed")
}
