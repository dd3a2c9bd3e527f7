//! All ports of an agent, and of a controller, over the real host and cluster.

use std::path::{Path, PathBuf};

use super::apiserver::KubeApi;
use super::clock::HostClock;
use super::cri::CriSandboxes;
use super::entropy::KernelEntropy;
use super::journal_file::JournalFile;
use super::listener::SocketInbox;
use super::namespaces::NamespaceDirectories;
use super::spool::{SpoolDirectory, WatchedSpool};
use crate::ports::{AgentPorts, ApiServer, ControllerPorts, Metric, Observer, Sandboxes};

/// Reports go to the log: events as warnings, counters at debug level.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogObserver;

impl Observer for LogObserver {
    fn metric(&self, metric: Metric) {
        tracing::debug!(
            name = metric.name,
            label = metric.label,
            increment = metric.increment,
            "counter"
        );
    }

    fn event(&self, reason: &'static str, message: String) {
        tracing::warn!(reason, "{message}");
    }
}

/// Where an agent's things are on its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPaths {
    /// The socket.
    pub socket: PathBuf,
    /// The journal.
    pub journal: PathBuf,
    /// The spool.
    pub spool: PathBuf,
    /// Where the runtime keeps network namespaces.
    pub namespaces: Vec<PathBuf>,
    /// Who may ask: 0 in production.
    pub allowed_uid: u32,
}

/// The ports of an agent.
pub struct HostPorts<A, S = CriSandboxes> {
    api: A,
    journal: JournalFile,
    spool: WatchedSpool,
    namespaces: NamespaceDirectories,
    sandboxes: S,
    inbox: SocketInbox,
}

impl<A: ApiServer, S: Sandboxes> HostPorts<A, S> {
    /// Opens what can be opened at once. Within a tokio runtime.
    pub fn open(paths: &HostPaths, api: A, sandboxes: S) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let within = |path: &Path| path.display().to_string();
        Ok(Self {
            api,
            journal: JournalFile::new(&paths.journal),
            spool: WatchedSpool::new(SpoolDirectory::new(&paths.spool))
                .with_context(|| within(&paths.spool))?,
            namespaces: NamespaceDirectories::new(&paths.namespaces)
                .context("inotify on the namespaces")?,
            sandboxes,
            inbox: SocketInbox::listen(&paths.socket, paths.allowed_uid)
                .with_context(|| within(&paths.socket))?,
        })
    }

    /// The socket.
    pub fn socket(&self) -> &SocketInbox {
        &self.inbox
    }
}

impl<A: ApiServer, S: Sandboxes> AgentPorts for HostPorts<A, S> {
    type Api = A;
    type Clock = HostClock;
    type Entropy = KernelEntropy;
    type Journal = JournalFile;
    type Spool = WatchedSpool;
    type Namespaces = NamespaceDirectories;
    type Sandboxes = S;
    type Inbox = SocketInbox;
    type Observer = LogObserver;

    fn api(&self) -> &A {
        &self.api
    }
    fn clock(&self) -> &HostClock {
        &HostClock
    }
    fn entropy(&self) -> &KernelEntropy {
        &KernelEntropy
    }
    fn journal(&self) -> &JournalFile {
        &self.journal
    }
    fn spool(&self) -> &WatchedSpool {
        &self.spool
    }
    fn namespaces(&self) -> &NamespaceDirectories {
        &self.namespaces
    }
    fn sandboxes(&self) -> &S {
        &self.sandboxes
    }
    fn inbox(&self) -> &SocketInbox {
        &self.inbox
    }
    fn observer(&self) -> &LogObserver {
        &LogObserver
    }
}

/// The ports of a controller.
pub struct ClusterPorts {
    /// The apiserver.
    pub api: KubeApi,
}

impl ControllerPorts for ClusterPorts {
    type Api = KubeApi;
    type Clock = HostClock;
    type Entropy = KernelEntropy;
    type Observer = LogObserver;

    fn api(&self) -> &KubeApi {
        &self.api
    }
    fn clock(&self) -> &HostClock {
        &HostClock
    }
    fn entropy(&self) -> &KernelEntropy {
        &KernelEntropy
    }
    fn observer(&self) -> &LogObserver {
        &LogObserver
    }
}
