//! What agent and controller have in common as processes: the log, the listener for metrics and
//! health, Kubernetes Events, and an apiserver that is asked within limits.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tracing::Dispatch;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::apiserver::{Deadlines, KubeApi};
use super::bucket::Rate;
use super::clock::boot_time;
use super::events::{EventSink, Regarding, Reporter};
use super::health::{agent_complaints, agent_notes, controller_complaints};
use super::http::{HttpListener, Pages};
use super::journal_file::JournalFile;
use super::line::one_line;
use super::metered::MeteredApi;
use super::metrics::Metrics;
use super::namespaces::REMOVED;
use super::node::{HostObserver, HostPaths};
use super::spool::SpoolDirectory;

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts the log, to stderr, filtered by `RUST_LOG`.
pub fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    log_to(format, filter, std::io::stderr).init();
}

/// The log to any writer. An event is one line, whatever others wrote into its fields.
pub fn log_to<W>(format: LogFormat, filter: EnvFilter, writer: W) -> Dispatch
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(false);
    match format {
        LogFormat::Text => {
            let field = |to: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
                let text = format!("{value:?}");
                match field.name() {
                    "message" => write!(to, "{}", one_line(&text)),
                    name => write!(to, "{name}={}", one_line(&text)),
                }
            };
            Dispatch::new(log.fmt_fields(debug_fn(field).delimited(" ")).finish())
        }
        // JSON has its own way to write such characters.
        LogFormat::Json => Dispatch::new(log.json().flatten_event(true).finish()),
    }
}

/// How the apiserver is asked, and where the process is asked how it is.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long requests may take.
    pub deadlines: Deadlines,
    /// How many are sent.
    pub rate: Rate,
}

/// What a role needs to run and to be watched while it does.
pub struct Watched {
    /// The apiserver.
    pub api: MeteredApi<KubeApi>,
    /// Log, metrics and Events.
    pub observer: HostObserver,
    /// What is measured.
    pub metrics: Arc<Metrics>,
}

impl Watched {
    /// Connects to the cluster. Within a tokio runtime.
    ///
    /// Errors: neither a service account nor a kubeconfig can be used.
    pub async fn connect(
        metrics: Metrics,
        limits: Limits,
        reporter: Reporter,
        own: Regarding,
    ) -> anyhow::Result<Self> {
        let metrics = Arc::new(metrics);
        let kube = KubeApi::connect(limits.deadlines)
            .await
            .context("no cluster: neither a service account nor a kubeconfig can be used")?;
        let events = EventSink::new(kube.clone(), reporter, metrics.clone());
        Ok(Self {
            api: MeteredApi::new(kube, limits.rate, limits.deadlines.object, metrics.clone()),
            observer: HostObserver::new(metrics.clone(), events, own),
            metrics,
        })
    }
}

/// The pages of an agent.
pub struct AgentPages {
    metrics: Arc<Metrics>,
    journal: JournalFile,
    spool: SpoolDirectory,
    /// Directories of the host that this process was given.
    directories: Vec<PathBuf>,
    waits: AtomicBool,
}

impl AgentPages {
    /// The pages of the agent with those things.
    pub fn new(metrics: Arc<Metrics>, paths: &HostPaths) -> Self {
        Self {
            metrics,
            journal: JournalFile::new(&paths.journal),
            spool: SpoolDirectory::new(&paths.spool),
            directories: [&paths.socket, &paths.journal]
                .into_iter()
                .filter_map(|path| path.parent().map(Path::to_owned))
                .chain(paths.namespaces.iter().cloned())
                .collect(),
            waits: AtomicBool::new(false),
        }
    }

    /// Looks at these directories, too, for mounts of what the host removed.
    #[must_use]
    pub fn over(mut self, directories: impl IntoIterator<Item = PathBuf>) -> Self {
        self.directories.extend(directories);
        self
    }

    /// Whether another agent of this host has the journal.
    pub fn set_waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }
}

impl Pages for AgentPages {
    fn metrics(&self) -> String {
        self.metrics.spool(self.spool.entry_count());
        self.metrics.render(boot_time())
    }

    fn complaints(&self) -> Vec<String> {
        if self.waits.load(Ordering::Relaxed) {
            return vec!["another agent of this host has the journal".to_owned()];
        }
        let journal = self.journal.try_writing().map_err(|error| error.message);
        let state = self.metrics.agent().clone();
        agent_complaints(&state, journal, boot_time())
    }

    fn notes(&self) -> Vec<String> {
        agent_notes(&self.metrics.agent().clone())
    }

    /// A mount keeps the directory that it began with. Its liveness is what has a kubelet make the
    /// container anew, and with it the mounts.
    fn past_mending(&self) -> Vec<String> {
        let dead = self
            .directories
            .iter()
            .filter(|directory| std::fs::metadata(directory).is_ok_and(|found| found.nlink() == 0));
        dead.map(|directory| format!("{}: {REMOVED}", directory.display()))
            .collect()
    }
}

/// The pages of a controller.
pub struct ControllerPages {
    /// What is measured.
    pub metrics: Arc<Metrics>,
}

impl Pages for ControllerPages {
    fn metrics(&self) -> String {
        self.metrics.render(boot_time())
    }

    fn complaints(&self) -> Vec<String> {
        let state = self.metrics.controller().clone();
        controller_complaints(&state, boot_time())
    }
}

/// Listens for metrics and health; not at all without an address. Within a tokio runtime.
///
/// Errors: the address is taken or not this host's.
pub async fn listen(
    address: Option<SocketAddr>,
    pages: Arc<dyn Pages>,
) -> anyhow::Result<Option<HttpListener>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = HttpListener::bind(address, pages)
        .await
        .with_context(|| format!("--metrics-address={address}"))?;
    tracing::info!(address = %listener.address(), "metrics and health");
    Ok(Some(listener))
}

/// Within this a process that was told to stop answers those that it serves.
pub const DRAIN: Duration = Duration::from_secs(5);
