//! The group of the cluster's shape: a typed view of `parameters/cluster.toml`. How many nodes
//! there are is the scenario's.

use super::value::Millicores;

/// Apiservers of a cluster at most.
pub const MASTERS_MAX: u64 = 3;

crate::parameter_group! {
    /// The shape of a cluster.
    ClusterParameters = "cluster" {
        /// Nodes that carry the control plane, where there are so many.
        masters: u64,
        /// They take Pods like others, as without the taint that kubeadm gives them.
        masters_take_pods: bool,
        /// Cores of such a node beyond those of the others.
        master_extra_cores: Millicores,
    }
}
