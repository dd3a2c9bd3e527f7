//! The macvlan plugin: ADD makes the link, executes the IPAM, configures the address; DEL executes
//! the IPAM, then deletes the link. No duplicate address detection for IPv4.
//!
//! An IPAM that is the network plugin itself ([`crate::ipam::Ipam::is_network_plugin`]) passes
//! through here as well, because the link and its address are the world's truth; but it pays no
//! macvlan, detects nothing that it does not say itself, and dies with its process.
//! Source: containernetworking/plugins `plugins/main/macvlan/macvlan.go:202-429`,
//! `pkg/ipam/ipam_linux.go:36,116-121`.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::cni::{CniError, IpamAnswer, Verb};
use crate::ids::NetnsId;
use crate::machine::LinkError;
use crate::observation::{Observation, PodStage};
use crate::process::{NewProcess, PipeWriter};

use super::{CniResult, Execution, IpamProgram, Plugin, Plugins, Program, failure};

/// A macvlan process.
pub(super) struct Macvlan(Plugin);

impl Macvlan {
    /// Executes the plugin.
    pub(super) fn execute(
        plugins: &Rc<Plugins>,
        execution: Execution,
        parent: PipeWriter<CniResult>,
    ) -> NewProcess {
        let plugins = plugins.clone();
        NewProcess {
            node: plugins.desk.index,
            call: None,
            client: None,
            script: Box::new(|port| {
                let plugin = Plugin::start(plugins, port, Program::Macvlan, execution, parent);
                Box::pin(Self(plugin).run())
            }),
        }
    }

    async fn run(self) {
        let demand = self.demand();
        let work_ns = demand.as_nanos() as u64;
        self.0.stage(PodStage::Macvlan { work_ns });
        self.0.port.cpu(demand).await;
        let result = match self.0.execution.verb {
            Verb::Add => self.add().await,
            Verb::Del => self.del().await.map(|()| Vec::new()),
        };
        self.0.exit(result);
    }

    /// CPU of an execution. loopback runs beside it, in containerd's own goroutine.
    fn demand(&self) -> Duration {
        let plugins = &self.0.plugins;
        let parameters = &plugins.parameters;
        let own = match self.0.execution.verb {
            _ if plugins.network.ipam_is_network_plugin => Duration::ZERO,
            Verb::Add => parameters.macvlan.cpu_add,
            Verb::Del => parameters.macvlan.cpu_del,
        };
        parameters.cni.cpu_loopback + own
    }

    async fn add(&self) -> CniResult {
        let netns = self.make_link().await?;
        let addresses = match self.ipam(Verb::Add).await {
            Ok(assigned) => assigned.addresses,
            Err(error) => {
                self.0.port.link_down(netns);
                return Err(error);
            }
        };
        let Some(addresses) = self.configure(netns, addresses).await else {
            // A DEL took the link away, or the namespace: the plugin gives the address back.
            let _ = self.ipam(Verb::Del).await;
            return Err(failure("cannot configure the interface"));
        };
        self.detect_duplicates(&addresses).await;
        Ok(addresses)
    }

    async fn del(&self) -> Result<(), CniError> {
        self.ipam(Verb::Del).await?;
        // Only then the link goes.
        let Some(netns) = self.linked().await else {
            return Ok(());
        };
        if deletion_fails(&self.0.plugins.link_failures) {
            let message = "failed to delete link: device or resource busy";
            return Err(failure(message));
        }
        self.0.port.link_down(netns);
        Ok(())
    }

    /// Makes the link in the sandbox's namespace.
    async fn make_link(&self) -> Result<NetnsId, CniError> {
        let node = self.0.plugins.desk.index;
        let netns = (self.0.execution.netns).ok_or_else(|| failure("failed to open netns"))?;
        let made = self
            .0
            .port
            .with(move |context| context.core.change(node).add_link(netns));
        let message = match made.await {
            Ok(()) => return Ok(netns),
            Err(LinkError::NoNamespace) => "failed to open netns",
            Err(LinkError::Exists) => "failed to rename macvlan: file exists",
        };
        Err(failure(message))
    }

    /// Executes the IPAM.
    async fn ipam(&self, verb: Verb) -> IpamAnswer {
        let answer = self.0.execute(IpamProgram::Own, verb).await;
        let (node, execution) = (self.0.plugins.desk.index, &self.0.execution);
        let (container, pod) = (execution.container, execution.pod.uid);
        self.0.port.observe(match verb {
            Verb::Add => Observation::IpamAddEnded {
                node,
                container,
                pod,
                result: match &answer {
                    Ok(assigned) => Ok(assigned.addresses.clone()),
                    Err(error) => Err((error.code, error.message.clone())),
                },
            },
            Verb::Del => Observation::IpamDelEnded {
                node,
                container,
                pod,
                with_netns: execution.netns.is_some(),
                ok: answer.is_ok(),
            },
        });
        answer
    }

    /// Puts addresses onto the link, if it is still there.
    async fn configure(&self, netns: NetnsId, addresses: Vec<IpAddr>) -> Option<Vec<IpAddr>> {
        let (node, container) = (self.0.plugins.desk.index, self.0.execution.container);
        let up = self.0.port.with(move |context| {
            let mut change = context.core.change(node);
            let up = change.address_up(netns, container, &addresses);
            up.then_some(addresses)
        });
        up.await
    }

    /// IPv6 with a gateway: waits until the address is no longer tentative.
    async fn detect_duplicates(&self, addresses: &[IpAddr]) {
        let plugins = &self.0.plugins;
        let parameters = &plugins.parameters.macvlan;
        let detects = parameters.ipv6_dad && !plugins.network.ipam_is_network_plugin;
        if !detects || !addresses.iter().any(IpAddr::is_ipv6) {
            return;
        }
        let pod = &self.0.execution.pod;
        let delay = plugins.desk.draw(pod, parameters.dad_wait);
        if !self.0.parent.is_broken() {
            self.0.stage(PodStage::DuplicateDetection);
        }
        self.0.port.sleep(delay).await;
    }

    /// The namespace, if it still has its link.
    async fn linked(&self) -> Option<NetnsId> {
        let (node, netns) = (self.0.plugins.desk.index, self.0.execution.netns?);
        let linked = self.0.port.with(move |context| {
            let namespaces = &context.core.machine(node).namespaces;
            namespaces.get(&netns).is_some_and(|of| of.link)
        });
        linked.await.then_some(netns)
    }
}

/// The fault hook: counts deletions down to the first that fails.
fn deletion_fails(failures: &Cell<(u32, u32)>) -> bool {
    let (nth, count) = failures.get();
    if count == 0 {
        return false;
    }
    let fails = nth <= 1;
    failures.set(if fails {
        (nth, count - 1)
    } else {
        (nth - 1, count)
    });
    fails
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::deletion_fails;

    #[test]
    fn link_deletion_fails_from_the_nth_for_as_often_as_asked() {
        let hook = Cell::new((3, 2));
        let failed: Vec<bool> = (0..6).map(|_| deletion_fails(&hook)).collect();
        assert_eq!(failed, [false, false, true, true, false, false]);
    }
}
