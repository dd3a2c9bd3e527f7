//! Every constant of the world: typed structs filled from TOML, where each value carries unit,
//! source, kind and plausible range. Names are `group.key`; `--set group.key=value` overrides.
//!
//! [`Table`] holds the entries; the catalog says which files are built in; [`Parameters`] are the
//! groups that the cluster shares. They do not include the constants of an IPAM: each peer reads
//! its own from the table when it is created, and cannot name another's.
//!
//! A file holds tables like
//! ```toml
//! [kubelet.qps]
//! value = 5
//! unit = "1/s"
//! kind = "cited"            # cited | measured | inferred | fitted
//! source = "kubernetes v1.26 pkg/kubelet/apis/config/v1beta1/defaults.go:202"
//! range = [5, 50]
//! ```
//! Values are integers, decimals, booleans, or a pair for a span. They are read exactly, as
//! decimals, never through binary floating point.

mod apiserver;
mod catalog;
mod cluster;
mod control_plane;
mod node;
mod table;
mod value;

pub use self::apiserver::{ApiParameters, CostParameters, EtcdParameters, NetParameters};
pub use self::catalog::RIVALS;
pub use self::cluster::{ClusterParameters, MASTERS_MAX};
pub use self::control_plane::{ClientParameters, DriverParameters, KcmParameters, SchedParameters};
pub use self::node::{
    CheckParameters, CniParameters, ContainerdParameters, KubeletParameters, MacvlanParameters,
    MultusParameters, NodeParameters, NodeSideParameters,
};
pub use self::table::{Entry, Kind, ParameterError, Table, text_of};
pub use self::value::{Factor, Millicores, ParameterValue, Price, Prices, Rate, Span};

/// Declares [`Parameters`]: all groups, one per line.
macro_rules! parameters {
    ($($(#[$doc:meta])* $field:ident: $ty:ty,)*) => {
        /// All constants of the world except those of the IPAMs.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Parameters { $($(#[$doc])* pub $field: $ty,)* }
        impl Parameters {
            fn read_groups(table: &Table) -> Result<Parameters, ParameterError> {
                Ok(Parameters { $($field: <$ty>::read(table)?,)* })
            }
        }
    };
}

parameters! {
    /// `api.*`
    api: ApiParameters,
    /// `client.*`
    client: ClientParameters,
    /// `cluster.*`
    cluster: ClusterParameters,
    /// `cost.*`
    cost: CostParameters,
    /// `driver.*`
    driver: DriverParameters,
    /// `etcd.*`
    etcd: EtcdParameters,
    /// `kcm.*`
    kcm: KcmParameters,
    /// `net.*`
    net: NetParameters,
    /// The groups of a node: `kubelet.*`, `containerd.*` and so on.
    node_side: NodeSideParameters,
    /// `sched.*`
    sched: SchedParameters,
}

impl Parameters {
    /// Reads every group and checks the relations between values.
    /// Errors: a missing or unreadable entry, values that contradict each other.
    pub fn read(table: &Table) -> Result<Parameters, ParameterError> {
        let all = Parameters::read_groups(table)?;
        all.check()?;
        Ok(all)
    }

    /// The constants of a built-in profile.
    /// Errors: no such profile.
    pub fn profile(name: &str) -> Result<Parameters, ParameterError> {
        Parameters::read(&Table::profile(name)?)
    }

    /// Cores of a machine, with an apiserver or without.
    pub(crate) fn cores_of(&self, control_plane: bool) -> Millicores {
        let Millicores(cores) = self.node_side.node.cores;
        let Millicores(extra) = self.cluster.master_extra_cores;
        Millicores(cores + if control_plane { extra } else { 0 })
    }

    /// How long one sync of a Raft log on a master takes, etcd's or another's.
    pub(crate) fn log_sync(&self) -> Span {
        let disk = self.node_side.node.fdatasync;
        if self.etcd.on_node_disk {
            Span {
                min: disk,
                max: disk,
            }
        } else {
            self.etcd.fsync
        }
    }

    fn check(&self) -> Result<(), ParameterError> {
        let refuse = |key: &str, given: String, expected: &str| {
            Err(ParameterError::Value {
                key: key.to_owned(),
                given,
                expected: expected.to_owned(),
            })
        };
        let node = &self.node_side.node;
        for (key, base) in [
            ("node.base_control_plane", node.base_control_plane),
            ("node.base_worker", node.base_worker),
        ] {
            if base.0 >= node.cores.0 {
                return refuse(key, format!("{} millicores", base.0), "below node.cores");
            }
        }
        let masters = self.cluster.masters;
        if !(1..=MASTERS_MAX).contains(&masters) {
            let allowed = format!("1 to {MASTERS_MAX}");
            return refuse("cluster.masters", masters.to_string(), &allowed);
        }
        let kubelet = &self.node_side.kubelet;
        if kubelet.system_pods >= kubelet.max_pods {
            let given = kubelet.system_pods.to_string();
            return refuse("kubelet.system_pods", given, "below kubelet.max_pods");
        }
        if self.sched.backoff_initial > self.sched.backoff_max {
            let given = format!("{:?}", self.sched.backoff_initial);
            return refuse("sched.backoff_initial", given, "at most sched.backoff_max");
        }
        if self.kcm.retry_base > self.kcm.retry_max {
            let given = format!("{:?}", self.kcm.retry_base);
            return refuse("kcm.retry_base", given, "at most kcm.retry_max");
        }
        if self.api.history_min > self.api.history_max {
            let given = self.api.history_min.to_string();
            return refuse("api.history_min", given, "at most api.history_max");
        }
        for (key, count) in [
            ("kcm.workers", self.kcm.workers),
            ("kcm.burst", self.kcm.burst),
            ("kcm.slow_start_initial", self.kcm.slow_start_initial),
            ("sched.burst", self.sched.burst),
            ("api.list_seat_objects", self.api.list_seat_objects),
            ("sched.node_memory", self.sched.node_memory),
        ] {
            if count == 0 {
                return refuse(key, "0".to_owned(), "above 0");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
