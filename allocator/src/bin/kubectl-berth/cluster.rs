//! The cluster of a kubeconfig: read whole, written guarded.

use core::time::Duration;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use berth::adapters::apiserver::{Deadlines, KubeApi};
use berth::adapters::entropy::KernelEntropy;
use berth::core::api::{ApiError, Consistency, ListQuery, Part, Selection};
use berth::core::objects::{Kind, Object, ObjectKey};
use berth::ports::{ApiServer as _, Entropy as _};
use berth::survey::Snapshot;
use clap::Args;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// Objects in one page of a list.
const PAGE: u32 = 500;

#[derive(Args)]
pub(crate) struct ClusterArgs {
    /// Kubeconfig file [default: $KUBECONFIG, then ~/.kube/config]
    #[arg(long, value_name = "FILE", global = true)]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, global = true)]
    context: Option<String>,
    /// The longest wait for one answer, in seconds
    #[arg(long, value_name = "S", default_value_t = 10, global = true,
          value_parser = clap::value_parser!(u64).range(1..=300))]
    request_timeout: u64,
}

pub(crate) struct Cluster {
    api: KubeApi,
}

impl Cluster {
    pub(crate) async fn connect(args: &ClusterArgs) -> anyhow::Result<Self> {
        let options = KubeConfigOptions {
            context: args.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = match &args.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path)
                    .with_context(|| format!("--kubeconfig={}", path.display()))?;
                Config::from_custom_kubeconfig(file, &options).await?
            }
            None if args.context.is_some() => Config::from_kubeconfig(&options).await?,
            None => Config::infer().await?,
        };
        let within = Duration::from_secs(args.request_timeout);
        let deadlines = Deadlines {
            object: within,
            list: within.max(Deadlines::STANDARD.list),
        };
        Ok(Self {
            api: KubeApi::with_config(config, deadlines)?,
        })
    }

    /// Everything that Berth has, and the Nodes and Pods beside it.
    pub(crate) async fn survey(&self) -> anyhow::Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        // Pods last: a Pod made meanwhile cannot look gone.
        for kind in [
            Kind::AddressPool,
            Kind::BerthNode,
            Kind::AddressReservation,
            Kind::AddressBlock,
            Kind::Node,
            Kind::Pod,
        ] {
            self.list(kind, &mut snapshot)
                .await
                .with_context(|| format!("cannot list {kind:?}s"))?;
        }
        // Not everybody who may look at pools may look at approvals; nothing else needs them.
        if let Err(error) = self.list(Kind::DomainApproval, &mut snapshot).await {
            eprintln!("kubectl berth: DomainApprovals are left out: {error:#}");
        }
        if !snapshot.set_aside.is_empty() {
            eprintln!(
                "kubectl berth: {} objects cannot be read and are left out: see kubectl berth check",
                snapshot.set_aside.len()
            );
        }
        Ok(snapshot)
    }

    /// Adds a Namespace, if it may be read: rules that look at its labels are explained as not
    /// known otherwise, and all others as they are.
    pub(crate) async fn add_namespace(&self, name: &str, snapshot: &mut Snapshot) {
        let key = ObjectKey::cluster(Kind::Namespace, name);
        match self.api.get(&key, Consistency::Quorum).await {
            Ok(namespace) => snapshot.add(vec![namespace]),
            Err(error) => eprintln!("Namespace {name} cannot be read: {}", said(error)),
        }
    }

    async fn list(&self, kind: Kind, snapshot: &mut Snapshot) -> anyhow::Result<()> {
        let mut query = ListQuery {
            selection: Selection {
                kind,
                labels: Vec::new(),
                node_name: None,
            },
            consistency: Consistency::Quorum,
            limit: PAGE,
            continue_token: String::new(),
        };
        loop {
            let page = self.api.list(&query).await.map_err(said)?;
            snapshot.add(page.items);
            if page.continue_token.is_empty() {
                return Ok(());
            }
            query.continue_token = page.continue_token;
        }
    }

    /// Writes an object over the version that was read.
    pub(crate) async fn write(&self, object: Object) -> anyhow::Result<()> {
        let key = object.key();
        match self.api.replace(object, Part::Main).await {
            Ok(_) => Ok(()),
            Err(ApiError::Conflict) => bail!("{key} changed meanwhile: look again"),
            Err(error) => Err(said(error)).with_context(|| format!("cannot write {key}")),
        }
    }
}

/// A mark that no other write carries.
pub(crate) fn writer() -> String {
    format!("kubectl-{:016x}", KernelEntropy.draw())
}

fn said(error: ApiError) -> anyhow::Error {
    match error {
        ApiError::NotFound => {
            anyhow::anyhow!("the cluster does not know it: are the CRDs installed?")
        }
        ApiError::Invalid { message } => anyhow::anyhow!(message),
        error => anyhow::anyhow!("{error}"),
    }
}
