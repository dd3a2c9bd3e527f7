//! How containerd executes, kills and loses CNI plugins: SIGKILL reaches the process that it
//! started and no other, so what that process had started lives on as an orphan.
//! Source: containernetworking/cni v1.1.2 `pkg/invoke/raw_exec.go:34-45` (`exec.CommandContext`,
//! no process group).

use std::net::IpAddr;
use std::rc::Rc;

use drydock_engine::time::SimInstant;

use crate::cni::{CniError, Verb};
use crate::context::Context;
use crate::event::Event;
use crate::ids::{ContainerId, NetnsId};
use crate::node::Node;
use crate::objects::Pod;
use crate::observation::Observation;

/// Result of a plugin that makes an interface.
pub(crate) type CniResult = Result<Vec<IpAddr>, CniError>;

/// Who waits for a macvlan process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parent {
    /// containerd itself, for a CRI call.
    Runtime(u32),
    /// A multus process.
    Multus(u32),
    /// Nobody any more.
    Orphaned,
}

/// What a plugin process is told by its environment.
#[derive(Clone, Debug)]
pub(crate) struct Execution {
    pub(crate) verb: Verb,
    pub(crate) container: ContainerId,
    pub(crate) netns: Option<NetnsId>,
    pub(crate) pod: Rc<Pod>,
    pub(crate) deadline: SimInstant,
}

impl Node {
    /// containerd executes the network's plugin for a CRI call.
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the environment of one execution"
    )]
    pub(crate) fn cni_exec(
        &mut self,
        call: u32,
        verb: Verb,
        container: ContainerId,
        netns: Option<NetnsId>,
        pod: Rc<Pod>,
        deadline: SimInstant,
        context: &mut Context<'_>,
    ) {
        let node = self.index;
        if verb == Verb::Add {
            context.core.observe(Observation::AddStarted {
                node,
                container,
                pod: pod.uid,
            });
        }
        let execution = Execution {
            verb,
            container,
            netns,
            pod,
            deadline,
        };
        let process = self.ticket();
        self.runtime
            .calls
            .get_mut(&call)
            .expect("its call is in flight")
            .process = Some(process);
        let parameters = self.node_side(context);
        if parameters.multus.enabled && !self.ipam_is_network_plugin {
            self.multus_exec(process, call, execution, context);
        } else {
            self.macvlan_exec(process, Parent::Runtime(call), execution, context);
        }
    }

    /// The process that containerd started exited.
    pub(crate) fn cni_exited(
        &mut self,
        call: u32,
        execution: &Execution,
        result: CniResult,
        context: &mut Context<'_>,
    ) {
        self.observe_add_ended(execution, result.is_ok(), context);
        self.cri_network_done(call, result, context);
    }

    /// SIGKILL to the process that containerd started. The caller ends its call.
    pub(crate) fn cni_kill(&mut self, process: u32, context: &mut Context<'_>) {
        if let Some(multus) = self.multus.remove(&process) {
            context.drop_client(multus.client);
            if let Some(delegate) = multus
                .delegate
                .and_then(|delegate| self.macvlan.get_mut(&delegate))
            {
                delegate.parent = Parent::Orphaned;
            }
            self.observe_add_ended(&multus.execution, false, context);
        } else if let Some(macvlan) = self.macvlan.remove(&process) {
            // The IPAM that it waits for answers nobody; as the network plugin it is that process.
            if let Some(call) = macvlan.ipam {
                self.ipam.remove(&call);
                if macvlan.own {
                    let node = self.index;
                    context.core.queue.soon(Event::IpamKill { node, call });
                }
            }
            self.observe_add_ended(&macvlan.execution, false, context);
        }
    }

    /// containerd died: what it had started runs on, and answers nobody.
    pub(crate) fn cni_orphan(&mut self, process: u32) {
        if let Some(multus) = self.multus.get_mut(&process) {
            multus.call = None;
        } else if let Some(macvlan) = self.macvlan.get_mut(&process) {
            macvlan.parent = Parent::Orphaned;
        }
    }

    fn observe_add_ended(&self, execution: &Execution, ok: bool, context: &mut Context<'_>) {
        if execution.verb == Verb::Add {
            let (node, container, pod) = (self.index, execution.container, execution.pod.uid);
            context.core.observe(Observation::AddEnded {
                node,
                container,
                pod,
                ok,
            });
        }
    }
}
