//! What the outside can do to the cluster: the handles of a fault plan. Each acts at the present
//! instant. The time is not decided here: whoever carries out a plan has its own events for that.

use std::rc::Rc;
use std::time::Duration;

use drydock_engine::log::EventLog;
use drydock_engine::queue::Queue;

use crate::apiserver::{ApiServers, CallFault, FaultId};
use crate::context::Context;
use crate::core::Core;
use crate::event::{ControlEvent, Event, Role};
use crate::ids::{NodeIndex, PodUid};
use crate::node::Nodes;

use super::{Cluster, election_time, machine};

/// One thing that can be done to the cluster.
///
/// Modeled, and no plan asks for it yet: [`StartApiserver`](Self::StartApiserver),
/// [`FreezeCache`](Self::FreezeCache), [`SlowDisk`](Self::SlowDisk),
/// [`DeleteNamed`](Self::DeleteNamed), [`Boot`](Self::Boot) and
/// [`RestartContainerd`](Self::RestartContainerd); of what can befall an armed call
/// ([`CallEffect`](crate::apiserver::CallEffect)), all but a lost response and a held write. A
/// multus that is killed is modeled, too, and not even an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A machine is cut off all apiservers; packets vanish.
    Cut(NodeIndex),
    /// The cut ends.
    Heal(NodeIndex),
    /// An apiserver ends, and serves again after a while (`None` = until it is started).
    StopApiserver {
        /// Which apiserver.
        server: usize,
        /// For how long.
        down: Option<Duration>,
    },
    /// An apiserver that was stopped is started.
    StartApiserver {
        /// Which apiserver.
        server: usize,
    },
    /// An apiserver's watch cache gets no news for a while.
    FreezeCache {
        /// Which apiserver.
        server: usize,
        /// For how long.
        time: Duration,
    },
    /// Each sync of etcd's log takes longer for a while.
    SlowDisk {
        /// How much longer.
        by: Duration,
        /// For how long.
        time: Duration,
    },
    /// A fault waits for a coming API call.
    Arm(CallFault),
    /// A user deletes a Pod; grace zero is a forced deletion.
    DeletePod {
        /// Pod.
        pod: PodUid,
        /// `gracePeriodSeconds`; `None` = the Pod's own.
        grace: Option<Duration>,
    },
    /// A user deletes the Pod of a name, if it exists then.
    DeleteNamed {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// `gracePeriodSeconds`; `None` = the Pod's own.
        grace: Option<Duration>,
    },
    /// A machine loses power.
    PowerOff {
        /// Machine.
        node: NodeIndex,
        /// It boots again after this time, if given.
        return_after: Option<Duration>,
    },
    /// A machine without power boots.
    Boot(NodeIndex),
    /// A new machine joins under the name of an existing node; the old machine is left as it is.
    ReplaceMachine {
        /// Node name.
        node_name: String,
    },
    /// The kubelet of a machine restarts.
    RestartKubelet(NodeIndex),
    /// containerd of a machine restarts.
    RestartContainerd(NodeIndex),
    /// containerd of a machine is away for a while.
    StopContainerd {
        /// Machine.
        node: NodeIndex,
        /// For how long.
        down: Duration,
    },
    /// A sandbox of a machine ends without a CNI DEL.
    LoseSandbox {
        /// Machine.
        node: NodeIndex,
        /// Which of the ready ones, modulo their number.
        pick: u64,
    },
    /// The next teardown of a sandbox on a machine asks no plugin.
    SkipDel(NodeIndex),
    /// Every plugin of the allocator that runs on a machine is killed; its parent sees it fail.
    KillPlugins(NodeIndex),
    /// Link deletions of macvlan fail.
    FailLinkDeletions {
        /// Machine.
        node: NodeIndex,
        /// From which DEL on (1 = the next).
        nth: u32,
        /// How many.
        count: u32,
    },
}

/// What an action reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    /// It was done.
    Done,
    /// A fault waits; it fires when its call comes.
    Armed(FaultId),
    /// A machine joined.
    Joined(NodeIndex),
    /// There was nothing to do it to.
    Nothing,
}

impl Injected {
    fn of(was_done: bool) -> Self {
        if was_done { Self::Done } else { Self::Nothing }
    }
}

impl Cluster {
    /// Does something to the cluster now.
    pub fn inject(
        &mut self,
        action: &Action,
        queue: &mut Queue<Event>,
        log: &mut EventLog,
    ) -> Injected {
        let injected = self.act(action, queue);
        self.settle(queue, log);
        injected
    }

    /// Takes back a fault that still waits for its call. `false`: it has fired already.
    pub fn disarm(&mut self, fault: FaultId) -> bool {
        self.kernel.api.disarm(fault)
    }

    fn act(&mut self, action: &Action, queue: &mut Queue<Event>) -> Injected {
        match action {
            Action::Cut(node) => self.cut(*node, true, queue),
            Action::Heal(node) => self.cut(*node, false, queue),
            Action::StopApiserver { server, down } => self.with_api(queue, |api, core| {
                api.stop_server(*server, *down, core);
            }),
            Action::StartApiserver { server } => self.with_api(queue, |api, core| {
                api.start_server(*server, core);
            }),
            Action::FreezeCache { server, time } => self.with_api(queue, |api, core| {
                api.freeze_cache(*server, *time, core);
            }),
            Action::SlowDisk { by, time } => self.with_api(queue, |api, core| {
                api.slow_disk(*by, *time, core);
            }),
            Action::Arm(fault) => return Injected::Armed(self.kernel.api.arm(*fault)),
            Action::DeletePod { pod, grace } => self.with(queue, |parts, context| {
                parts.driver.delete_pod(*pod, *grace, context);
            }),
            Action::DeleteNamed {
                namespace,
                name,
                grace,
            } => {
                let found = self
                    .kernel
                    .api
                    .pods()
                    .find(|pod| *pod.namespace == **namespace && *pod.name == **name)
                    .map(|pod| pod.uid);
                let Some(pod) = found else {
                    return Injected::Nothing;
                };
                return self.act(&Action::DeletePod { pod, grace: *grace }, queue);
            }
            Action::PowerOff { node, return_after } => self.with_nodes(queue, |nodes, context| {
                nodes.power_off(*node, *return_after, context);
            }),
            Action::Boot(node) => self.with_nodes(queue, |nodes, context| {
                nodes.boot(*node, context);
            }),
            Action::ReplaceMachine { node_name } => return self.replace_machine(node_name, queue),
            Action::RestartKubelet(node) => self.with_nodes(queue, |nodes, context| {
                nodes.restart_kubelet(*node, context);
            }),
            Action::RestartContainerd(node) => self.with_nodes(queue, |nodes, context| {
                nodes.restart_containerd(*node, context);
            }),
            Action::StopContainerd { node, down } => {
                return Injected::of(self.with_nodes(queue, |nodes, context| {
                    nodes.stop_containerd(*node, *down, context)
                }));
            }
            Action::LoseSandbox { node, pick } => {
                return Injected::of(self.with_nodes(queue, |nodes, context| {
                    nodes.lose_sandbox(*node, *pick, context)
                }));
            }
            Action::SkipDel(node) => self.nodes.skip_del(*node),
            Action::KillPlugins(node) => self.with_nodes(queue, |nodes, context| {
                nodes.kill_ipam(*node, context);
            }),
            Action::FailLinkDeletions { node, nth, count } => {
                self.nodes.fail_link_deletions(*node, *nth, *count);
            }
        }
        Injected::Done
    }

    fn with_api(
        &mut self,
        queue: &mut Queue<Event>,
        act: impl FnOnce(&mut ApiServers, &mut Core<'_>),
    ) {
        self.with(queue, |_, context| act(context.api, &mut context.core));
    }

    fn with_nodes<R>(
        &mut self,
        queue: &mut Queue<Event>,
        act: impl FnOnce(&mut Nodes, &mut Context<'_>) -> R,
    ) -> R {
        self.with(queue, |parts, context| act(parts.nodes, context))
    }

    fn cut(&mut self, node: NodeIndex, cut: bool, queue: &mut Queue<Event>) {
        if self.kernel.api.cut_off(node) == cut {
            return;
        }
        self.with_api(queue, |api, core| {
            if cut {
                api.cut(node, core);
            } else {
                api.heal(node, core);
            }
        });
        self.silence(node, cut, queue);
        if cut {
            self.leaders_lost(node, queue);
        } else {
            // The lease was renewed in time: the election that was due is off.
            for role in self.led_from(node) {
                *self.losses.entry(role).or_insert(0) += 1;
            }
        }
    }

    fn silence(&mut self, node: NodeIndex, silent: bool, queue: &mut Queue<Event>) {
        let name = self.kernel.machines[node.index()].node_name.clone();
        let silent =
            silent || !self.kernel.machines[node.index()].up || self.kernel.api.cut_off(node);
        self.with(queue, |parts, context| {
            parts.controllers.node_silence(node, &name, silent, context);
            let ready = parts.controllers.node_ready(node);
            parts.scheduler.node_ready(node, ready, context);
        });
    }

    /// What a dead machine means for the control plane.
    pub(super) fn machine_down(&mut self, node: NodeIndex, queue: &mut Queue<Event>) {
        if let Some(server) = self.server_on(node) {
            self.with_api(queue, |api, core| {
                api.stop_server(server, None, core);
                api.set_member(server, false, core);
            });
        }
        self.silence(node, true, queue);
        self.leaders_lost(node, queue);
        let dead = self.led_from(node);
        self.with(queue, |parts, context| {
            for role in dead {
                match role {
                    Role::Controllers => parts.controllers.stop(context),
                    Role::Scheduler => parts.scheduler.stop(context),
                }
            }
        });
    }

    /// What a machine that is back means for the control plane.
    pub(super) fn machine_up(&mut self, node: NodeIndex, queue: &mut Queue<Event>) {
        if let Some(server) = self.server_on(node) {
            self.with_api(queue, |api, core| {
                api.set_member(server, true, core);
                api.start_server(server, core);
            });
        }
        self.silence(node, false, queue);
    }

    fn server_on(&self, node: NodeIndex) -> Option<usize> {
        (0..self.kernel.api.server_count())
            .find(|server| self.kernel.api.server_node(*server) == node)
    }

    fn led_from(&self, node: NodeIndex) -> Vec<Role> {
        let led = [
            (Role::Controllers, self.controllers.node()),
            (Role::Scheduler, self.scheduler.node()),
        ];
        led.into_iter()
            .filter(|(_, leader)| *leader == Some(node))
            .map(|(role, _)| role)
            .collect()
    }

    /// The processes that led from this machine lose their leases when those run out.
    fn leaders_lost(&mut self, node: NodeIndex, queue: &mut Queue<Event>) {
        for role in self.led_from(node) {
            let loss = self.losses.entry(role).or_insert(0);
            *loss += 1;
            let loss = *loss;
            let time = election_time(role, loss, &self.kernel.parameters, &self.kernel.streams);
            queue.after(time, Event::Control(ControlEvent::Elect { role, loss }));
        }
    }

    /// A lease has run out: another master takes over, or the old one starts over.
    pub(super) fn elect(&mut self, role: Role, loss: u32, queue: &mut Queue<Event>) {
        if self.losses.get(&role) != Some(&loss) {
            return;
        }
        let fit = |cluster: &Cluster, node: NodeIndex| {
            cluster.kernel.machines[node.index()].up && !cluster.kernel.api.cut_off(node)
        };
        let leader = match role {
            Role::Controllers => self.controllers.node(),
            Role::Scheduler => self.scheduler.node(),
        };
        let candidates: Vec<NodeIndex> = (0..self.kernel.api.server_count())
            .map(|server| self.kernel.api.server_node(server))
            .filter(|node| fit(self, *node))
            .collect();
        let Some(next) = candidates
            .iter()
            .find(|node| Some(**node) != leader)
            .or_else(|| candidates.first())
            .copied()
        else {
            let retry = self.kernel.parameters.kcm.lease_retry.max;
            let retry = retry.max(Duration::from_millis(1));
            queue.after(retry, Event::Control(ControlEvent::Elect { role, loss }));
            return;
        };
        self.with(queue, |parts, context| match role {
            Role::Controllers => {
                parts.controllers.stop(context);
                parts.controllers.start(next, context);
            }
            Role::Scheduler => {
                parts.scheduler.stop(context);
                parts.scheduler.start(next, context);
            }
        });
    }

    fn replace_machine(&mut self, node_name: &str, queue: &mut Queue<Event>) -> Injected {
        let Some(old) = self.kernel.api.node(node_name) else {
            return Injected::Nothing;
        };
        let name: Rc<str> = self.kernel.machines[old.index()].node_name.clone();
        let node = NodeIndex(self.kernel.machines.len() as u32);
        self.kernel
            .machines
            .push(machine(&name, node, false, &self.kernel.parameters));
        self.kernel.api.set_node(name.clone(), node);
        self.scheduler.set_node(&name, node, false);
        self.with(queue, |parts, context| {
            if parts.kubelets {
                parts.nodes.join(node, context);
            }
        });
        Injected::Joined(node)
    }
}
