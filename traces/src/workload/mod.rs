//! What a set of Kubernetes manifests asks for: plain data, already checked. `manifest` reads the
//! YAML; the simulated controllers create the Pods.

mod pool;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::pool::{AddressPool, AddressRange, FamilyPool, PoolError, Route};

/// Labels, annotations or selectors.
pub type StringMap = BTreeMap<String, String>;

/// The address families of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stack {
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// One address of each family per Pod.
    Dual,
}

impl Stack {
    /// The name in files and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Dual => "dual",
        }
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Stack {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Ipv4, Self::Ipv6, Self::Dual]
            .into_iter()
            .find(|stack| stack.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not a stack: allowed are ipv4, ipv6 and dual"))
    }
}

/// Everything that some manifests ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Files, or the name of a stored workload. Shape: in the order given.
    pub sources: Vec<String>,
    /// What creates Pods. Shape: in the order of the documents.
    pub objects: Vec<WorkloadObject>,
    /// Pools of addresses. Shape: in the order of the documents.
    pub pools: Vec<AddressPool>,
    /// What is in the manifests and will not take part. Shape: in the order of the documents.
    pub not_simulated: Vec<NotSimulated>,
}

impl Workload {
    /// Pods that run when everything runs.
    pub fn pod_count(&self) -> u64 {
        self.objects
            .iter()
            .map(|object| u64::from(object.pod_count()))
            .sum()
    }

    /// Documents that take part, by kind.
    pub fn documents(&self) -> BTreeMap<String, u64> {
        let mut documents = BTreeMap::new();
        for object in &self.objects {
            *documents
                .entry(object.controller.kind().to_owned())
                .or_insert(0) += 1;
        }
        if !self.pools.is_empty() {
            documents.insert("AddressPool".to_owned(), self.pools.len() as u64);
        }
        documents
    }

    /// [`Workload::not_simulated`] with equal kinds, fields and reasons counted together. Shape:
    /// in the order of the first document.
    pub fn not_simulated_groups(&self) -> Vec<NotSimulatedGroup> {
        let mut groups: Vec<NotSimulatedGroup> = Vec::new();
        for entry in &self.not_simulated {
            let same = |group: &&mut NotSimulatedGroup| {
                group.kind == entry.kind
                    && group.field == entry.field
                    && group.reason == entry.reason
            };
            if let Some(group) = groups.iter_mut().find(same) {
                group.document_count += 1;
            } else {
                groups.push(NotSimulatedGroup {
                    kind: entry.kind.clone(),
                    field: entry.field.clone(),
                    reason: entry.reason.clone(),
                    document_count: 1,
                    first: entry.document.to_string(),
                });
            }
        }
        groups
    }
}

/// Where a document stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentRef {
    /// The file.
    pub file: String,
    /// 1-based, as people count; the items of a `List` share its number.
    pub document: u32,
    /// 1-based line of its first key.
    pub line: u32,
}

impl fmt::Display for DocumentRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}:{} (document {})",
            self.file, self.line, self.document
        )
    }
}

/// Manifest content that is not simulated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotSimulated {
    /// The document.
    pub document: DocumentRef,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Key path of the field; empty when the whole document is left out.
    pub field: String,
    /// What that means for the run.
    pub reason: String,
}

impl fmt::Display for NotSimulated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            document,
            kind,
            name,
            field,
            reason,
        } = self;
        let space = if field.is_empty() { "" } else { " " };
        write!(
            formatter,
            "{document}: {kind} `{name}`{space}{field}: {reason}"
        )
    }
}

/// Entries of [`Workload::not_simulated`] that say the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotSimulatedGroup {
    /// The kind of the documents.
    pub kind: String,
    /// Key path of the field; empty when whole documents are left out.
    pub field: String,
    /// What that means for the run.
    pub reason: String,
    /// Documents that hold it.
    pub document_count: u64,
    /// The first of them.
    pub first: String,
}

/// One document that creates Pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadObject {
    /// Where it is.
    pub document: DocumentRef,
    /// Namespace; `default` where the manifest has none.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels of the object itself.
    pub labels: StringMap,
    /// Annotations of the object itself.
    pub annotations: StringMap,
    /// Who makes its Pods, and how many.
    pub controller: Controller,
    /// What each Pod looks like.
    pub template: PodTemplate,
}

impl WorkloadObject {
    /// Pods that run when the object is satisfied.
    pub fn pod_count(&self) -> u32 {
        match self.controller {
            Controller::Deployment { replicas }
            | Controller::ReplicaSet { replicas }
            | Controller::StatefulSet { replicas, .. } => replicas,
            Controller::Job {
                parallelism,
                completions,
                ..
            } => parallelism.min(completions.unwrap_or(parallelism)),
            Controller::Pod => 1,
        }
    }
}

/// Who makes the Pods of a document, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Controller {
    /// A Deployment: one ReplicaSet.
    Deployment {
        /// Pods.
        replicas: u32,
    },
    /// A ReplicaSet.
    ReplicaSet {
        /// Pods.
        replicas: u32,
    },
    /// A StatefulSet: Pods with stable names `<name>-<ordinal>`.
    StatefulSet {
        /// Pods.
        replicas: u32,
        /// Whether a Pod waits for the one before it.
        pod_management: PodManagement,
    },
    /// A Job.
    Job {
        /// Pods at a time.
        parallelism: u32,
        /// Pods that have to succeed; none means that any success ends it.
        completions: Option<u32>,
        /// How long each Pod runs (annotation `drydock.dev/run-seconds`); none means forever.
        run_seconds: Option<u32>,
    },
    /// A Pod without a controller.
    Pod,
}

impl Controller {
    /// The kind as Kubernetes names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Deployment { .. } => "Deployment",
            Self::ReplicaSet { .. } => "ReplicaSet",
            Self::StatefulSet { .. } => "StatefulSet",
            Self::Job { .. } => "Job",
            Self::Pod => "Pod",
        }
    }
}

/// How a StatefulSet starts its Pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodManagement {
    /// One after another.
    OrderedReady,
    /// All at once.
    Parallel,
}

/// What the simulation keeps of a Pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodTemplate {
    /// Labels of the Pod.
    pub labels: StringMap,
    /// Annotations of the Pod, for example `k8s.v1.cni.cncf.io/networks`.
    pub annotations: StringMap,
    /// The node that it is bound to without a scheduler.
    pub node_name: Option<String>,
    /// Labels that its node must have.
    pub node_selector: StringMap,
    /// It uses the network of its node: no CNI ADD and no address.
    pub host_network: bool,
    /// Grace period of a deletion.
    pub termination_grace_period_seconds: u32,
    /// Its containers. Shape: at least one, in order.
    pub containers: Vec<Container>,
}

/// What the simulation keeps of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Name.
    pub name: String,
    /// Image.
    pub image: String,
    /// When the image is pulled; the apiserver's default if the manifest does not say.
    pub image_pull_policy: ImagePullPolicy,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImagePullPolicy {
    /// On every start.
    Always,
    /// Where it is absent. The simulation has every image on every node.
    IfNotPresent,
    /// Not at all.
    Never,
}
