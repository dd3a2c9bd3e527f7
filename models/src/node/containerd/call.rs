//! A CRI call inside containerd: what its client asked for, what of it is known outside, and the
//! waits that all calls have. Each is a script; what it waits for is a step of the real one.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::cni::Verb;
use crate::context::Context;
use crate::event::NodeToken;
use crate::ids::{ContainerId, NetnsId};
use crate::node::cri::{CriError, CriResult, CriVerb};
use crate::node::plugins::{CniResult, Execution};
use crate::objects::Pod;
use crate::observation::{Observation, PodStage};
use crate::process::{PipeReader, Port, ProcessId};

use super::Containerd;

/// A CRI call in flight, as all of containerd sees it.
pub(super) struct Call {
    pub(super) verb: CriVerb,
    /// Its sandbox.
    pub(super) container: ContainerId,
    pub(super) pod: Rc<Pod>,
    pub(super) attempt: u32,
    /// When the client gives up.
    pub(super) deadline: SimInstant,
    /// Who gets the result; nobody once the client gave up.
    pub(super) caller: Cell<Option<NodeToken>>,
    /// The client's context is done: the next step fails.
    pub(super) canceled: Cell<bool>,
    /// The plugin that dies with the client's context.
    pub(super) plugin: Cell<Option<ProcessId>>,
    /// RunPodSandbox: the namespace that it made.
    pub(super) netns: Cell<Option<NetnsId>>,
    /// RunPodSandbox: the namespace's path is on disk.
    pub(super) recorded: Cell<bool>,
    /// What carries it out.
    pub(super) script: Cell<Option<ProcessId>>,
}

impl Call {
    /// It is a step in the start of a Pod.
    fn starts(&self) -> bool {
        matches!(
            self.verb,
            CriVerb::Run { .. } | CriVerb::Create(_) | CriVerb::Start(_)
        )
    }
}

/// A CRI call at work.
pub(super) struct Work {
    pub(super) containerd: Rc<Containerd>,
    pub(super) call: Rc<Call>,
    pub(super) port: Port,
}

impl Work {
    /// Does what was asked for.
    pub(super) async fn run(&self) -> CriResult {
        match self.call.verb {
            CriVerb::Run { .. } => self.run_pod_sandbox().await,
            CriVerb::Create(_) => self.create_container().await,
            CriVerb::Start(_) => self.start_container().await,
            CriVerb::StopContainer { grace, .. } => self.stop_container(grace).await,
            CriVerb::Stop(_) => self.stop_pod_sandbox().await,
            CriVerb::Remove(_) => self.remove_pod_sandbox().await,
        }
    }

    /// Goes on, unless the client's context is done.
    pub(super) fn go_on(&self) -> Result<(), CriError> {
        if self.call.canceled.get() {
            return Err(CriError("context canceled"));
        }
        Ok(())
    }

    /// Changes containerd's state and the world, at once.
    pub(super) async fn with<T: 'static>(
        &self,
        act: impl FnOnce(&Containerd, &Call, &mut Context<'_>) -> T + 'static,
    ) -> T {
        let (containerd, call) = (self.containerd.clone(), self.call.clone());
        let act = move |context: &mut Context<'_>| act(&containerd, &call, context);
        self.port.with(act).await
    }

    /// Uses CPU for a Pod's start.
    pub(super) async fn work(&self, demand: Duration) {
        let work_ns = demand.as_nanos() as u64;
        self.stage(PodStage::Sandbox { work_ns });
        self.port.cpu(demand).await;
    }

    /// Commits to the store on disk, for a Pod's start.
    pub(super) async fn record(&self, commits: u64) {
        self.stage(PodStage::Disk);
        self.commit(commits).await;
    }

    /// Commits to the store on disk. Commits of one step go as one job: their writer is one, so
    /// only their interleaving with others is lost.
    pub(super) async fn commit(&self, commits: u64) {
        let parameters = &self.containerd.parameters;
        let syncs = commits * parameters.containerd.fdatasync_per_commit;
        let syncs = u32::try_from(syncs).unwrap_or(u32::MAX);
        self.port.disk(parameters.node.fdatasync * syncs).await;
    }

    /// The start of a Pod waits for a step of this call, unless its client gave up.
    pub(super) fn stage(&self, stage: PodStage) {
        let pod = self.call.pod.uid;
        let waited_for = self.call.caller.get().is_some() && self.call.starts();
        if waited_for && self.containerd.desk.is_starting(pod) {
            self.port.observe(Observation::PodStage { pod, stage });
        }
    }

    /// Executes the network's plugin, with the client's deadline: it is killed when the client
    /// gives up.
    pub(super) async fn network(&self, verb: Verb, netns: Option<NetnsId>) -> CniResult {
        let (plugin, exit) = self.execute(verb, netns, self.call.deadline);
        let before = self.call.plugin.replace(Some(plugin));
        assert!(before.is_none(), "a call waits for one plugin at a time");
        let result = exit.read().await;
        self.call.plugin.set(None);
        result
    }

    /// Executes the network's plugin.
    pub(super) fn execute(
        &self,
        verb: Verb,
        netns: Option<NetnsId>,
        deadline: SimInstant,
    ) -> (ProcessId, PipeReader<CniResult>) {
        let execution = Execution {
            verb,
            container: self.call.container,
            netns,
            pod: self.call.pod.clone(),
            deadline,
        };
        let (result, exit) = self.port.pipe();
        let plugin = self.containerd.plugins.execute(execution, exit);
        (self.port.spawn(plugin), result)
    }
}
