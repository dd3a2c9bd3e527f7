//! The plugin processes of one machine, and how containerd executes, kills and loses them: SIGKILL
//! reaches the process that it started and no other, so what that process had started lives on as
//! an orphan. It knows neither runtime nor kubelet: a process that ends is left on the desk.
//! Source: containernetworking/cni v1.1.2 `pkg/invoke/raw_exec.go:34-45` (`exec.CommandContext`,
//! no process group).

mod delegate;
mod macvlan;
mod multus;

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::cni::Verb;
use crate::context::Context;
use crate::event::Event;
use crate::ids::{ContainerId, IpamCallId};
use crate::objects::Pod;
use crate::observation::Observation;

use self::macvlan::Macvlan;
use self::multus::Multus;
use super::desk::{CniResult, Desk, Execution, Next, killed, node_side};

/// Who waits for a macvlan process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parent {
    /// containerd itself, for a CRI call.
    Runtime(u32),
    /// A multus process.
    Multus(u32),
    /// Nobody any more.
    Orphaned,
}

/// How the network of a cluster is made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Network {
    /// The runtime executes the IPAM itself.
    pub(crate) ipam_is_network_plugin: bool,
    /// A further plugin of the IPAM follows macvlan.
    pub(crate) ipam_is_chained: bool,
}

/// The plugin processes of one machine.
#[derive(Debug)]
pub(crate) struct Plugins {
    network: Network,
    multus: BTreeMap<u32, Multus>,
    macvlan: BTreeMap<u32, Macvlan>,
    /// Which process waits for which execution of the IPAM.
    ipam: BTreeMap<IpamCallId, u32>,
    /// Which multus process waits for which execution of the chained plugin.
    chained: BTreeMap<IpamCallId, u32>,
    /// Delegates of each attachment as multus keeps them in /var/lib/cni/multus.
    multus_cache: BTreeMap<ContainerId, Rc<Pod>>,
    /// Deletions of links left until they fail, and how many then fail.
    link_failures: (u32, u32),
}

impl Plugins {
    /// No process yet.
    pub(crate) fn new(network: Network) -> Self {
        Self {
            network,
            multus: BTreeMap::new(),
            macvlan: BTreeMap::new(),
            ipam: BTreeMap::new(),
            chained: BTreeMap::new(),
            multus_cache: BTreeMap::new(),
            link_failures: (0, 0),
        }
    }

    /// containerd executes the network's plugin for a CRI call.
    pub(crate) fn execute(
        &mut self,
        process: u32,
        call: u32,
        execution: Execution,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let parameters = node_side(context);
        if parameters.multus.enabled && !self.network.ipam_is_network_plugin {
            self.multus_exec(process, call, execution, desk, context);
        } else {
            self.macvlan_exec(process, Parent::Runtime(call), execution, desk, context);
        }
    }

    /// The process that containerd started exited.
    fn cni_exited(
        &mut self,
        call: u32,
        execution: &Execution,
        result: CniResult,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        self.observe_add_ended(execution, result.is_ok(), desk, context);
        desk.follow(Next::Network { call, result });
    }

    /// SIGKILL to the process that containerd started. The caller ends its call.
    pub(crate) fn kill(&mut self, process: u32, desk: &mut Desk, context: &mut Context<'_>) {
        if let Some(multus) = self.multus.remove(&process) {
            context.drop_client(multus.client);
            if let Some(delegate) = multus
                .delegate
                .and_then(|delegate| self.macvlan.get_mut(&delegate))
            {
                delegate.parent = Parent::Orphaned;
            }
            self.observe_add_ended(&multus.execution, false, desk, context);
        } else if let Some(macvlan) = self.macvlan.remove(&process) {
            // The IPAM that it waits for answers nobody; as the network plugin it is that process.
            if let Some(call) = macvlan.ipam {
                self.ipam.remove(&call);
                if macvlan.own {
                    let node = desk.index;
                    context.core.queue.soon(Event::IpamKill { node, call });
                }
            }
            self.observe_add_ended(&macvlan.execution, false, desk, context);
        }
    }

    /// containerd died: what it had started runs on, and answers nobody.
    pub(crate) fn orphan(&mut self, process: u32) {
        if let Some(multus) = self.multus.get_mut(&process) {
            multus.call = None;
        } else if let Some(macvlan) = self.macvlan.get_mut(&process) {
            macvlan.parent = Parent::Orphaned;
        }
    }

    /// Every IPAM plugin that runs.
    pub(crate) fn running_ipam(&self) -> Vec<IpamCallId> {
        self.ipam.keys().copied().collect()
    }

    /// An execution of the IPAM is killed: its parent sees it fail.
    pub(crate) fn kill_ipam(
        &mut self,
        call: IpamCallId,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        let node = desk.index;
        context.core.queue.soon(Event::IpamKill { node, call });
        self.ipam_exited(call, Err(killed()), desk, context);
    }

    /// Every multus that runs, and the CRI call that waits for it.
    #[cfg(test)]
    pub(crate) fn running_multus(&self) -> Vec<(u32, Option<u32>)> {
        let processes = self.multus.iter();
        processes
            .map(|(process, multus)| (*process, multus.call))
            .collect()
    }

    /// Link deletions fail from the `nth` DEL from now (1 = the next), `count` times.
    pub(crate) fn fail_link_deletions(&mut self, nth: u32, count: u32) {
        self.link_failures = (nth, count);
    }

    /// The machine lost power: every process is dead; multus' cache is on disk.
    pub(crate) fn lose_power(&mut self, context: &mut Context<'_>) {
        for (_, process) in std::mem::take(&mut self.multus) {
            context.drop_client(process.client);
        }
        self.macvlan.clear();
        self.ipam.clear();
        self.chained.clear();
    }

    #[expect(clippy::unused_self, reason = "said of a process of this machine")]
    fn observe_add_ended(
        &self,
        execution: &Execution,
        ok: bool,
        desk: &mut Desk,
        context: &mut Context<'_>,
    ) {
        if execution.verb == Verb::Add {
            let (node, container, pod) = (desk.index, execution.container, execution.pod.uid);
            context.core.observe(Observation::AddEnded {
                node,
                container,
                pod,
                ok,
            });
        }
    }
}
