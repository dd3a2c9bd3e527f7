//! The boundary between a kubelet and its runtime, as CRI draws it: what the kubelet asks to be
//! done, what it hears when that ends, and what it may look at meanwhile. No behavior.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::event::NodeToken;
use crate::ids::{ContainerId, PodUid};
use crate::objects::Pod;

/// Why a CRI call failed, short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CriError(pub(crate) &'static str);

/// Result of a CRI call; the sandbox that it concerned.
pub(crate) type CriResult = Result<ContainerId, CriError>;

/// A CRI call as its client makes it.
#[derive(Clone, Debug)]
pub(crate) struct CriRequest {
    /// What to do.
    pub(crate) verb: CriVerb,
    /// How long the client waits.
    pub(crate) timeout: Duration,
    /// Who gets the result.
    pub(crate) caller: NodeToken,
}

/// What a CRI call is to do.
#[derive(Clone, Debug)]
pub(crate) enum CriVerb {
    /// RunPodSandbox.
    Run {
        /// Pod.
        pod: Rc<Pod>,
        /// Which of its sandboxes.
        attempt: u32,
    },
    /// CreateContainer.
    Create(ContainerId),
    /// StartContainer.
    Start(ContainerId),
    /// StopContainer.
    StopContainer {
        /// Sandbox of the container.
        container: ContainerId,
        /// Its grace period.
        grace: Duration,
    },
    /// StopPodSandbox.
    Stop(ContainerId),
    /// RemovePodSandbox.
    Remove(ContainerId),
}

/// State of the Pod's container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContainerState {
    /// Not created.
    None,
    /// Created.
    Created,
    /// Running.
    Running,
    /// Ended; whether by itself and with success.
    Exited {
        /// It ended by itself.
        completed: bool,
    },
}

/// PodSandboxStatus, and ContainerStatus of the one container in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SandboxStatus<'a> {
    /// Pod.
    pub(crate) pod: &'a Pod,
    /// Which of its sandboxes.
    pub(crate) attempt: u32,
    /// Its task runs: CRI prints NOTREADY for any other state.
    pub(crate) ready: bool,
    /// Its addresses, while it is ready.
    pub(crate) addresses: &'a [IpAddr],
    /// Its container.
    pub(crate) workload: ContainerState,
}

/// What a kubelet may look at in its runtime. A look costs nothing by itself: the kubelet's model
/// pays for it where the kubelet does, in its relists and syncs.
pub(crate) trait RuntimeService {
    /// The runtime answers.
    fn answers(&self) -> bool;

    /// Pods with a sandbox that is listed, in order.
    fn pods(&self) -> Vec<PodUid>;

    /// Listed sandboxes of a Pod, oldest first.
    fn list(&self, pod: PodUid) -> &[ContainerId];

    /// Status of a listed sandbox.
    fn status(&self, container: ContainerId) -> SandboxStatus<'_>;

    /// The newest ready sandbox of a Pod.
    fn ready(&self, pod: PodUid) -> Option<(ContainerId, SandboxStatus<'_>)> {
        let newest_first = self.list(pod).iter().rev();
        newest_first
            .map(|id| (*id, self.status(*id)))
            .find(|(_, status)| status.ready)
    }
}
