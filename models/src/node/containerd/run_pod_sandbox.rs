//! RunPodSandbox, from where its name is reserved: record, namespace, CNI ADD, record, task, list.
//! After a failure with a namespace: CNI DEL within a budget of its own; if that fails, the sandbox
//! stays listed as not ready and its name stays reserved.
//! Source: containerd v1.7.2 `pkg/cri/server/sandbox_run.go:63-507`.

use std::net::IpAddr;

use crate::cni::Verb;
use crate::ids::NetnsId;
use crate::node::cri::{CriError, CriResult};
use crate::observation::{Observation, PodStage};

use super::call::Work;
use super::store::{Sandbox, SandboxState};
use super::swallow_not_found;

impl Work {
    /// RunPodSandbox.
    pub(super) async fn run_pod_sandbox(&self) -> CriResult {
        match self.make_sandbox().await {
            Ok(addresses) => {
                assert!(
                    !self.call.canceled.get(),
                    "a canceled call makes no ready sandbox"
                );
                self.list(SandboxState::Ready, addresses).await;
                Ok(self.call.container)
            }
            Err(failure) => {
                self.clean_up().await;
                Err(failure)
            }
        }
    }

    /// Everything up to the list; its addresses.
    async fn make_sandbox(&self) -> Result<Vec<IpAddr>, CriError> {
        let parameters = &self.containerd.parameters;
        self.work(parameters.containerd.cpu_prepare).await;
        self.go_on()?;
        self.record(parameters.containerd.sandbox_commits).await;
        self.go_on()?;
        let addresses = if self.call.pod.spec.host_network {
            Vec::new()
        } else {
            self.make_network().await?
        };
        let task = parameters.containerd.cpu_task + parameters.node.cpu_per_pod;
        self.work(task).await;
        self.go_on()?;
        Ok(addresses)
    }

    /// A namespace, and what the ADD makes in it.
    async fn make_network(&self) -> Result<Vec<IpAddr>, CriError> {
        let parameters = &self.containerd.parameters.containerd;
        self.stage(PodStage::NetworkLock);
        self.port.network_lock(parameters.netns).await;
        self.go_on()?;
        let netns = self.make_netns().await;
        self.record(parameters.update_commits).await;
        self.call.recorded.set(true);
        self.go_on()?;
        let addresses = self.add(netns).await?;
        self.record(parameters.update_commits).await;
        self.go_on()?;
        Ok(addresses)
    }

    async fn make_netns(&self) -> NetnsId {
        self.with(|containerd, call, context| {
            let netns = containerd.desk.next_netns();
            let mut change = context.core.change(containerd.desk.index);
            change.add_netns(netns, call.container, call.pod.uid);
            call.netns.set(Some(netns));
            netns
        })
        .await
    }

    /// CNI ADD.
    async fn add(&self, netns: NetnsId) -> Result<Vec<IpAddr>, CriError> {
        let node = self.containerd.desk.index;
        let (container, pod) = (self.call.container, self.call.pod.uid);
        self.port.observe(Observation::AddStarted {
            node,
            container,
            pod,
        });
        let result = self.network(Verb::Add, Some(netns)).await;
        self.port.observe(Observation::AddEnded {
            node,
            container,
            pod,
            ok: result.is_ok(),
        });
        result.map_err(|error| match error.code {
            11 => CriError("no address"),
            _ => CriError("network failed"),
        })
    }

    /// A step failed: with a namespace, its network is torn down first.
    async fn clean_up(&self) {
        self.stage(PodStage::Cleanup);
        if let Some(netns) = self.call.netns.get() {
            if !self.delete_network(netns).await {
                return self.list(SandboxState::NotReady, Vec::new()).await;
            }
            self.with(move |containerd, call, context| {
                call.netns.set(None);
                let mut change = context.core.change(containerd.desk.index);
                change.remove_netns(netns);
            })
            .await;
        }
        let commits = self.containerd.parameters.containerd.remove_commits;
        self.commit(commits).await;
        self.containerd.release_name(&self.call);
    }

    /// CNI DEL within containerd's own budget, whatever became of the client; whether it succeeded.
    async fn delete_network(&self, netns: NetnsId) -> bool {
        let budget = self.containerd.parameters.containerd.cleanup_timeout;
        let limit = self.port.now() + budget;
        let (plugin, exit) = self.execute(Verb::Del, Some(netns), limit);
        let Some(result) = self.port.within(limit, exit.read()).await else {
            self.with(move |containerd, _, context| containerd.plugins.kill(plugin, context))
                .await;
            return false;
        };
        swallow_not_found(result.map(|_| ()), false).is_ok()
    }

    /// Lists the sandbox.
    async fn list(&self, state: SandboxState, addresses: Vec<IpAddr>) {
        self.with(move |containerd, call, context| {
            let sandbox = Sandbox::new(call, state, addresses);
            containerd.list_sandbox(call.container, sandbox, context);
        })
        .await;
    }
}
