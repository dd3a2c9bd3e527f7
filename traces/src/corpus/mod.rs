//! The workloads and curves that ship with Drydock, embedded so that a binary needs no files. The
//! manifests are written by [`generate`]; a test compares the stored files with it. Certificates
//! are read from the folder at run time, because they change.

pub mod certificates;
pub mod changelog;
mod curve;
pub mod generate;

pub use self::curve::{CurveError, CurvePoint, MeasuredCurve};
use crate::manifest::{ManifestErrors, SourceFile, read};
use crate::workload::{Stack, Workload};

/// A stored file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Path below `traces/corpus/`.
    pub path: &'static str,
    /// Content.
    pub text: &'static str,
}

macro_rules! stored {
    ($path:literal) => {
        StoredFile {
            path: $path,
            text: include_str!(concat!("../../corpus/", $path)),
        }
    };
}

/// 100 Deployments of 10 replicas: the published benchmark.
pub const BENCHMARK: StoredFile = stored!("benchmark/deployments.yaml");
/// 1000 bare Pods with `nodeName` set: the burst.
pub const BURST: StoredFile = stored!("burst/pods.yaml");
/// 10 Deployments of 10 replicas: the measured node.
pub const REAL_NODE: StoredFile = stored!("real-node/deployments.yaml");
/// Pools for the benchmark, as many ordinals as Pods, by stack.
pub const POOLS: [(Stack, StoredFile); 3] = [
    (Stack::Ipv4, stored!("pools/ipv4.yaml")),
    (Stack::Ipv6, stored!("pools/ipv6.yaml")),
    (Stack::Dual, stored!("pools/dual.yaml")),
];
const REAL_NODE_CURVE: &str = include_str!("../../corpus/curves/real-node.toml");

/// Every stored manifest.
pub fn manifests() -> Vec<StoredFile> {
    [BENCHMARK, BURST, REAL_NODE]
        .into_iter()
        .chain(POOLS.map(|(_, file)| file))
        .collect()
}

/// The stored pool of a stack.
pub fn pool(stack: Stack) -> StoredFile {
    let (_, file) = POOLS
        .into_iter()
        .find(|(of, _)| *of == stack)
        .expect("every stack has a stored pool");
    file
}

impl StoredFile {
    /// The file as a workload.
    ///
    /// Errors: as for any manifest; a test shows that stored files have none.
    pub fn workload(&self) -> Result<Workload, ManifestErrors> {
        read(&[SourceFile {
            name: self.path,
            text: self.text,
        }])
    }
}

/// The Running curve that was measured on a real node.
///
/// Errors: as for any curve; a test shows that the stored one has none.
pub fn real_node_curve() -> Result<MeasuredCurve, CurveError> {
    MeasuredCurve::from_toml(REAL_NODE_CURVE)
}

#[cfg(test)]
mod tests;
