//! A scenario: everything that decides a run, checked, as data. Made from what somebody asks for or
//! from a fault plan; a run reads it and keyed streams, nothing else.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use drydock_models::cluster::ClusterSpec;
use drydock_models::parameters::ParameterError;
use drydock_traces::corpus;
use drydock_traces::manifest::{self, ManifestErrors, SourceFile};
use drydock_traces::plan::{Plan, PlanError};
use drydock_traces::seed::Seed;
use drydock_traces::workload::{AddressPool, Stack, Workload};

use crate::parameters::RunParameters;
use crate::subject::{Addresses, Allocator, Subject};

/// Nodes, where nobody says how many.
pub const NODES: u32 = 10;
/// The parameter set, where nobody names one.
pub const PARAMETERS: &str = "measured";
/// Where a run ends at the latest, where nobody says. Units: simulated s.
pub const UNTIL_S: u64 = 3600;

/// What a run is asked to be: names and files, not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Manifests; without any the stored workload.
    pub files: Vec<PathBuf>,
    /// Who decides addresses.
    pub allocator: Allocator,
    /// A stored workload instead of files; none is the benchmark.
    pub workload: Option<String>,
    /// Addresses, unless a file states them; none is as many as Pods.
    pub addresses: Option<Addresses>,
    /// Address families, unless a file states them; none is both.
    pub stack: Option<Stack>,
    /// The seed.
    pub seed: Seed,
    /// Nodes, masters included.
    pub nodes: u32,
    /// Parameter sets, separated by commas: built-in names or files.
    pub parameters: String,
    /// Overrides, `key=value`.
    pub set: Vec<String>,
    /// The run ends here at the latest. Units: simulated s.
    pub until_s: u64,
}

impl Spec {
    /// The published benchmark with this allocator, all else as it is without a word.
    pub fn benchmark(allocator: Allocator, seed: Seed) -> Spec {
        Spec {
            files: Vec::new(),
            allocator,
            workload: None,
            addresses: None,
            stack: None,
            seed,
            nodes: NODES,
            parameters: PARAMETERS.to_owned(),
            set: Vec::new(),
            until_s: UNTIL_S,
        }
    }
}

/// What decides a run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Who decides addresses.
    pub allocator: Allocator,
    /// A known mistake built into Berth, by name.
    pub mutant: Option<String>,
    /// What is created.
    pub workload: Workload,
    /// Pools, given or made.
    pub pools: Vec<AddressPool>,
    /// What was asked for: `equal`, `ample`, a number, or `given`.
    pub addresses: String,
    /// Address families.
    pub stack: Stack,
    /// The seed of every draw.
    pub seed: Seed,
    /// Nodes, masters included.
    pub nodes: u32,
    /// Constants.
    pub parameters: RunParameters,
    /// Overrides, as given.
    pub set: Vec<String>,
    /// The run ends here at the latest.
    pub until: Duration,
    /// Faults, and churn.
    pub plan: Option<Plan>,
    /// Once all Pods run, all of them are deleted, and the run goes on until the others run.
    pub recreate: bool,
}

/// Why a scenario cannot be run: usage or configuration. Exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// A file cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// A manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestErrors),
    /// A parameter is wrong.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// A plan is wrong.
    #[error("{file}: {error}")]
    Plan {
        /// The file.
        file: String,
        /// What is wrong with it.
        error: PlanError,
    },
    /// Two options exclude each other.
    #[error(
        "{pool} ({place}) states its addresses: --addresses and --stack are for runs without an \
         AddressPool in a file"
    )]
    PoolAndAddresses {
        /// Pool in the file.
        pool: String,
        /// Where it stands.
        place: String,
    },
    /// Pools of different families.
    #[error("AddressPool {pool} ({place}) is {has}, the pools before it are {wants}")]
    MixedStacks {
        /// Pool in the file.
        pool: String,
        /// Where it stands.
        place: String,
        /// Its families.
        has: Stack,
        /// The others'.
        wants: Stack,
    },
    /// There is nothing to run.
    #[error(
        "{files}: nothing that makes Pods; simulated kinds are Deployment, ReplicaSet, \
         StatefulSet, Job and Pod"
    )]
    NoPods {
        /// The files.
        files: String,
    },
    /// No such stored workload.
    #[error("unknown workload `{name}`: stored ones are benchmark, burst and real-node")]
    Workload {
        /// What was given.
        name: String,
    },
    /// No Pod has the name whose start is to be explained.
    #[error("--explain {name}: no Pod of this run has that name; allowed: median, last, or a name")]
    Explain {
        /// What was given.
        name: String,
    },
    /// No such mutant.
    #[error("unknown mutant `{name}`: known ones are {known}")]
    Mutant {
        /// What was given.
        name: String,
        /// Those that exist.
        known: String,
    },
    /// No Pod can run anywhere.
    #[error(
        "--nodes {nodes}: cluster.masters is {masters} and cluster.masters_take_pods is false, so \
         no node takes Pods; allowed: --nodes {least} or more"
    )]
    NoWorker {
        /// What was given.
        nodes: u32,
        /// Which of them carry the control plane.
        masters: u32,
        /// How many leave one that takes Pods.
        least: u64,
    },
    /// The allocator refuses a pool.
    #[error("AddressPool {pool}: {reason}")]
    Pool {
        /// Which.
        pool: String,
        /// Its words.
        reason: String,
    },
}

impl Scenario {
    /// The scenario that is asked for.
    /// Errors: usage or configuration, named with what is allowed.
    pub fn from_spec(spec: &Spec) -> Result<Scenario, ScenarioError> {
        let parameters = RunParameters::load(&spec.parameters, &spec.set)?;
        Self::with_parameters(spec, parameters)
    }

    fn with_parameters(spec: &Spec, parameters: RunParameters) -> Result<Scenario, ScenarioError> {
        let workload = Self::workload(spec)?;
        if workload.objects.is_empty() {
            return Err(ScenarioError::NoPods {
                files: workload.sources.join(", "),
            });
        }
        let (pools, addresses, stack) = if let Some(stack) = given_pools(spec, &workload)? {
            (workload.pools.clone(), "given".to_owned(), stack)
        } else {
            let addresses = spec.addresses.unwrap_or(Addresses::Equal);
            let stack = spec.stack.unwrap_or(Stack::Dual);
            let pods = workload.pod_count().clamp(1, 1_000_000) as u32;
            let count = match addresses {
                Addresses::Equal => pods,
                Addresses::Ample => pods.saturating_mul(2),
                Addresses::Count(count) => count,
            };
            (vec![made_pool(stack, count)?], addresses.to_string(), stack)
        };
        let scenario = Scenario {
            allocator: spec.allocator,
            mutant: None,
            workload,
            pools,
            addresses,
            stack,
            seed: spec.seed,
            nodes: spec.nodes,
            parameters,
            set: spec.set.clone(),
            until: Duration::from_secs(spec.until_s),
            plan: None,
            recreate: false,
        };
        let cluster = &scenario.parameters.world.cluster;
        if !cluster.masters_take_pods && scenario.masters() == scenario.nodes {
            return Err(ScenarioError::NoWorker {
                nodes: scenario.nodes,
                masters: scenario.masters(),
                least: cluster.masters + 1,
            });
        }
        Ok(scenario)
    }

    /// A run of the published benchmark.
    /// Errors: a pool that cannot be made.
    pub fn of_benchmark(
        allocator: Allocator,
        addresses: Addresses,
        stack: Stack,
        seed: Seed,
        parameters: RunParameters,
    ) -> Result<Scenario, ScenarioError> {
        let spec = Spec {
            addresses: Some(addresses),
            stack: Some(stack),
            ..Spec::benchmark(allocator, seed)
        };
        Self::with_parameters(&spec, parameters)
    }

    /// The scenario of a fault plan.
    /// Errors: an unknown parameter.
    pub fn from_plan(plan: &Plan, subject: &Subject) -> Result<Scenario, ScenarioError> {
        let set: Vec<String> = plan
            .set
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let parameters = RunParameters::load(PARAMETERS, &set)?;
        let text = storm_manifest(plan);
        let workload = manifest::read(&[SourceFile {
            name: "storm",
            text: &text,
        }])?;
        Ok(Scenario {
            allocator: subject.allocator,
            mutant: subject.mutant.clone(),
            workload,
            pools: vec![made_pool(plan.world.stack, plan.world.addresses)?],
            addresses: plan.world.addresses.to_string(),
            stack: plan.world.stack,
            seed: plan.seed,
            nodes: plan.world.nodes,
            parameters,
            set,
            until: Duration::from_hours(2),
            plan: Some(plan.clone()),
            recreate: false,
        })
    }

    /// Ordinals that Pods can have, over all pools.
    pub fn address_count(&self) -> u64 {
        self.pools
            .iter()
            .map(|pool| pool.usable_ordinal_count(u64::from(u32::MAX)))
            .sum()
    }

    /// Nodes that also carry the control plane.
    pub fn masters(&self) -> u32 {
        ClusterSpec::masters(self.nodes as usize, &self.parameters.world) as u32
    }

    fn workload(spec: &Spec) -> Result<Workload, ScenarioError> {
        if spec.files.is_empty() {
            let stored = match spec.workload.as_deref().unwrap_or("benchmark") {
                "benchmark" => corpus::BENCHMARK,
                "burst" => corpus::BURST,
                "real-node" => corpus::REAL_NODE,
                name => {
                    return Err(ScenarioError::Workload {
                        name: name.to_owned(),
                    });
                }
            };
            return Ok(stored.workload()?);
        }
        let mut texts = Vec::new();
        for path in &spec.files {
            let text = std::fs::read_to_string(path).map_err(|error| ScenarioError::File {
                path: path.clone(),
                error,
            })?;
            texts.push((path.display().to_string(), text));
        }
        let sources: Vec<SourceFile<'_>> = texts
            .iter()
            .map(|(name, text)| SourceFile { name, text })
            .collect();
        Ok(manifest::read(&sources)?)
    }
}

/// The families of the pools that the files state; none if they state no pool.
/// Errors: pools of different families, or addresses asked for beside them.
fn given_pools(spec: &Spec, workload: &Workload) -> Result<Option<Stack>, ScenarioError> {
    let Some(first) = workload.pools.first() else {
        return Ok(None);
    };
    if spec.addresses.is_some() || spec.stack.is_some() {
        return Err(ScenarioError::PoolAndAddresses {
            pool: first.name.clone(),
            place: first.document.to_string(),
        });
    }
    let wants = first.stack().unwrap_or(Stack::Ipv4);
    for pool in &workload.pools {
        let has = pool.stack().unwrap_or(wants);
        if has != wants {
            return Err(ScenarioError::MixedStacks {
                pool: pool.name.clone(),
                place: pool.document.to_string(),
                has,
                wants,
            });
        }
    }
    Ok(Some(wants))
}

/// First address of pools made for a run: `10.64.0.0`.
const FIRST_V4: u32 = 0x0a40_0000;
/// First address of pools made for a run: `fd00:64::`.
const FIRST_V6: u128 = 0xfd00_0064_0000_0000_0000_0000_0000_0000;

/// A pool of `count` ordinals, one range a family, in documentation-like private space.
fn made_pool(stack: Stack, count: u32) -> Result<AddressPool, ScenarioError> {
    assert!(
        count > 0,
        "a command line and a plan both ask for an address or more"
    );
    let last = count - 1;
    let v4 = format!(
        "  - ranges: [\"10.64.0.0-{}\"]\n",
        Ipv4Addr::from(FIRST_V4 + last)
    );
    let v6 = format!(
        "  - ranges: [\"fd00:64::-{}\"]\n",
        Ipv6Addr::from(FIRST_V6 + u128::from(last))
    );
    let families = match stack {
        Stack::Ipv4 => v4,
        Stack::Ipv6 => v6,
        Stack::Dual => format!("{v4}{v6}"),
    };
    let text = format!(
        "apiVersion: berth.dev/v1alpha1\nkind: AddressPool\nmetadata:\n  name: pool\nspec:\n  families:\n{families}"
    );
    let mut made = manifest::read(&[SourceFile {
        name: "made for this run",
        text: &text,
    }])?;
    Ok(made.pools.remove(0))
}

/// The workload of a storm: Deployments of at most ten Pods.
fn storm_manifest(plan: &Plan) -> String {
    let mut text = String::new();
    let (mut left, mut index) = (plan.world.pods, 0);
    while left > 0 {
        let replicas = left.min(10);
        left -= replicas;
        let _ = write!(
            text,
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: storm-{index}}}\n\
             spec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: storm-{index}}}}}\n  \
             template:\n    metadata: {{labels: {{app: storm-{index}}}}}\n    spec:\n      \
             terminationGracePeriodSeconds: 5\n      containers: [{{name: c, image: \
             pause:3.9}}]\n"
        );
        index += 1;
    }
    text
}
