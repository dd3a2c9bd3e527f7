//! All ports of an agent, and of a controller, over the real host and cluster.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::clock::HostClock;
use super::cri::CriSandboxes;
use super::entropy::KernelEntropy;
use super::events::{EventSink, Regarding, Report};
use super::install::Item;
use super::journal_file::JournalFile;
use super::listener::{SocketInbox, Tally};
use super::metrics::Metrics;
use super::namespaces::NamespaceDirectories;
use super::spool::{SpoolDirectory, WatchedSpool};
use crate::core::agent::{AgentState, Finding, HostPart};
use crate::core::controller::ControllerState;
use crate::core::report::{LocalError, Metric, Subject};
use crate::ports::{AgentPorts, ApiServer, ControllerPorts, Observer, Sandboxes};

/// Reports go to the log and, where there are such, to metrics and Kubernetes Events.
#[derive(Clone, Default)]
pub struct HostObserver {
    outlets: Option<Outlets>,
}

#[derive(Clone)]
struct Outlets {
    metrics: Arc<Metrics>,
    events: EventSink,
    /// What reports are about that are about no Pod.
    own: Regarding,
}

impl HostObserver {
    /// Reports that are about no Pod are about `own`.
    pub fn new(metrics: Arc<Metrics>, events: EventSink, own: Regarding) -> Self {
        Self {
            outlets: Some(Outlets {
                metrics,
                events,
                own,
            }),
        }
    }

    fn report(&self, about: Option<Regarding>, reason: &'static str, message: String) {
        if let Some(outlets) = &self.outlets {
            outlets.events.report(Report {
                regarding: about.unwrap_or_else(|| outlets.own.clone()),
                reason,
                message,
            });
        }
    }
}

impl Observer for HostObserver {
    fn metric(&self, metric: Metric) {
        tracing::debug!(
            name = metric.name,
            label = metric.label,
            increment = metric.increment,
            "counter"
        );
        if let Some(outlets) = &self.outlets {
            outlets.metrics.count(&metric);
        }
    }

    fn event(&self, reason: &'static str, message: String) {
        tracing::warn!(reason, "{message}");
        self.report(None, reason, message);
    }

    fn event_about(&self, subject: Subject, reason: &'static str, message: String) {
        let Subject::Pod(pod) = subject else {
            self.event(reason, message);
            return;
        };
        tracing::warn!(
            reason,
            pod = format_args!("{}/{}", pod.namespace, pod.name),
            "{message}"
        );
        let regarding = Regarding {
            api_version: "v1",
            kind: "Pod",
            namespace: pod.namespace,
            name: pod.name,
            uid: pod.uid.map_or_else(String::new, |uid| uid.to_string()),
        };
        self.report(Some(regarding), reason, message);
    }

    fn agent_state(&self, state: impl FnOnce() -> AgentState) {
        if let Some(outlets) = &self.outlets {
            *outlets.metrics.agent() = state();
        }
    }

    fn controller_state(&self, state: impl FnOnce() -> ControllerState) {
        if let Some(outlets) = &self.outlets {
            *outlets.metrics.controller() = state();
        }
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

impl HostPaths {
    /// Where the journal's seal is: beside the socket, which does not survive the boot either.
    pub fn seal(&self) -> PathBuf {
        self.socket.with_file_name("journal.seal")
    }
}

/// How often the parts of the host are checked: as often as vanished Pods.
const LOOK_PAUSE: Duration = Duration::from_secs(10);

/// The ports of an agent.
pub struct HostPorts<A, S = CriSandboxes> {
    api: A,
    journal: JournalFile,
    spool: WatchedSpool,
    namespaces: NamespaceDirectories,
    sandboxes: S,
    inbox: SocketInbox,
    observer: HostObserver,
    /// What is to stay installed.
    installed: Vec<Item>,
    look_pause: Duration,
    /// Whether the parts were checked once.
    has_looked: AtomicBool,
}

impl<A: ApiServer, S: Sandboxes> HostPorts<A, S> {
    /// Opens what can be opened at once, without metrics. Within a tokio runtime.
    ///
    /// Errors: another agent listens, or something of the host is not as it must be.
    pub fn open(paths: &HostPaths, api: A, sandboxes: S) -> anyhow::Result<Self> {
        let journal = JournalFile::new(&paths.journal).sealed_at(paths.seal());
        let tally: Tally = Arc::new(|_, _, _| {});
        Self::with_journal(
            paths,
            journal,
            (api, sandboxes),
            HostObserver::default(),
            tally,
        )
    }

    /// Waits until no other agent has the journal, then opens the rest: of two agents of one host
    /// only the one with the lock listens, writes, or asks anything. `waits` is called once if
    /// another has it. Within a tokio runtime.
    pub async fn take_over(
        paths: &HostPaths,
        (api, sandboxes): (A, S),
        observer: HostObserver,
        waits: impl FnOnce() + Send,
    ) -> anyhow::Result<Self> {
        let journal = JournalFile::new(&paths.journal).sealed_at(paths.seal());
        journal.lock(waits).await?;
        let metrics = observer.outlets.as_ref().map(|o| o.metrics.clone());
        let tally: Tally = Arc::new(move |verb, code, took| {
            if let Some(metrics) = &metrics {
                metrics.answered(verb, code, took);
            }
        });
        Self::with_journal(paths, journal, (api, sandboxes), observer, tally)
    }

    fn with_journal(
        paths: &HostPaths,
        journal: JournalFile,
        (api, sandboxes): (A, S),
        observer: HostObserver,
        tally: Tally,
    ) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let within = |path: &Path| path.display().to_string();
        Ok(Self {
            api,
            journal,
            spool: WatchedSpool::new(SpoolDirectory::new(&paths.spool))
                .with_context(|| within(&paths.spool))?,
            namespaces: NamespaceDirectories::new(&paths.namespaces)
                .context("inotify on the namespaces")?,
            sandboxes,
            inbox: SocketInbox::listen_and_tell(&paths.socket, paths.allowed_uid, tally)
                .with_context(|| within(&paths.socket))?,
            observer,
            installed: Vec::new(),
            look_pause: LOOK_PAUSE,
            has_looked: AtomicBool::new(false),
        })
    }

    /// Keeps these items installed, and sets how often all parts are checked.
    #[must_use]
    pub fn keeping(mut self, installed: Vec<Item>, look_pause: Duration) -> Self {
        self.installed = installed;
        self.look_pause = look_pause;
        self
    }

    /// What stands how, of all that is neither the cluster's nor the runtime's.
    fn look(&self) -> Vec<Finding> {
        let words = |found: Result<(), LocalError>| found.map_err(|error| error.message);
        let mut findings = vec![
            (HostPart::Namespaces, words(self.namespaces.check())),
            (HostPart::Spool, words(self.spool.check())),
            (HostPart::Journal, words(self.journal.check())),
            (HostPart::Socket, words(self.inbox.check())),
        ];
        if !self.installed.is_empty() {
            let wrong: Vec<String> = self
                .installed
                .iter()
                .filter_map(|item| item.keep().err())
                .collect();
            let found = if wrong.is_empty() {
                Ok(())
            } else {
                Err(wrong.join("; "))
            };
            findings.push((HostPart::Plugin, found));
        }
        findings
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
    type Observer = HostObserver;

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
    fn observer(&self) -> &HostObserver {
        &self.observer
    }

    async fn parts(&self) -> Vec<Finding> {
        if self.has_looked.swap(true, Ordering::Relaxed) {
            tokio::time::sleep(self.look_pause).await;
        }
        self.look()
    }
}

/// The ports of a controller.
pub struct ClusterPorts<A> {
    /// The apiserver.
    pub api: A,
    /// Metrics and Events.
    pub observer: HostObserver,
}

impl<A: ApiServer> ControllerPorts for ClusterPorts<A> {
    type Api = A;
    type Clock = HostClock;
    type Entropy = KernelEntropy;
    type Observer = HostObserver;

    fn api(&self) -> &A {
        &self.api
    }
    fn clock(&self) -> &HostClock {
        &HostClock
    }
    fn entropy(&self) -> &KernelEntropy {
        &KernelEntropy
    }
    fn observer(&self) -> &HostObserver {
        &self.observer
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tokio::sync::mpsc;

    use super::super::events::{EventApi, Reporter};
    use super::*;
    use crate::core::api::ApiError;
    use crate::core::exchange::PodReference;

    struct Posted(mpsc::UnboundedSender<Value>);

    impl EventApi for Posted {
        async fn post(&self, _namespace: &str, event: Value) -> Result<(), ApiError> {
            self.0.send(event).unwrap();
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_report_is_about_its_pod_or_else_about_what_the_program_stands_for() {
        for kind in ["Node", "Lease"] {
            let (sender, mut posted) = mpsc::unbounded_channel();
            let metrics = Arc::new(Metrics::for_agent());
            let reporter = Reporter {
                controller: "c",
                instance: "i".into(),
            };
            let own = Regarding {
                api_version: "v1",
                kind,
                namespace: String::new(),
                name: "own".into(),
                uid: String::new(),
            };
            let events = EventSink::new(Posted(sender), reporter, metrics.clone());
            let observer = HostObserver::new(metrics, events, own);
            let pod = PodReference {
                namespace: "ns".into(),
                name: "p".into(),
                uid: None,
            };
            observer.event("PartLost", "x".into());
            observer.event_about(Subject::Node, "PartBack", "x".into());
            observer.event_about(Subject::Pod(pod), "AddressTaken", "x".into());
            for (reason, about) in [
                ("PartLost", kind),
                ("PartBack", kind),
                ("AddressTaken", "Pod"),
            ] {
                let event = posted.recv().await.unwrap();
                let said = (&event["reason"], &event["regarding"]["kind"]);
                assert_eq!(said, (&Value::from(reason), &Value::from(about)));
            }
        }
    }
}
