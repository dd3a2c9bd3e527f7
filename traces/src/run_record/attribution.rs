//! Where the time of a Pod's start went, second by second. Data only: who measures is the
//! simulator.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::scalar::{Seconds, nullable};
use super::traffic::ApiRequests;

/// What the start of a Pod waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Its object: the user's requests and the controllers' limiters before it.
    Creation,
    /// Its binding.
    Scheduling,
    /// The kubelet's watch.
    KubeletWatch,
    /// The kubelet's limiter, for its token.
    KubeletBucket,
    /// A request of the kubelet for its token, at the API.
    KubeletApi,
    /// CPU of the kubelet's sync.
    Kubelet,
    /// The volume loops, their polls and their back-off.
    Volumes,
    /// The serial image puller.
    ImagePull,
    /// A core: the time of any step on the node beyond the CPU that it needs.
    CpuWait,
    /// CPU of containerd, shims and runc.
    Sandbox,
    /// Commits of containerd's database.
    Disk,
    /// The network namespace, under the kernel's lock.
    NetworkLock,
    /// CPU of multus.
    Multus,
    /// Requests of multus.
    MultusApi,
    /// CPU of macvlan and loopback, or of the exec of a network plugin.
    Macvlan,
    /// Duplicate address detection of IPv6.
    DuplicateDetection,
    /// IPAM: a step that it did not name.
    Ipam,
    /// IPAM: CPU of its own processes, waiting for a core included.
    IpamCpu,
    /// IPAM: requests at the API.
    IpamApi,
    /// IPAM: the limiter of its client.
    IpamLimiter,
    /// IPAM: a queue or limiter of an agent or controller.
    IpamQueue,
    /// IPAM: a mutex, or a lock on the machine.
    IpamLock,
    /// IPAM: a lease that another process holds.
    IpamLease,
    /// IPAM: a pause after a conflict or between polls.
    IpamBackoff,
    /// IPAM: somebody else must write first.
    IpamController,
    /// IPAM: interfaces, routes, filters, probes.
    IpamDataPlane,
    /// Teardown of a sandbox that failed.
    Cleanup,
    /// The kubelet's pause after a failed sync.
    RetryDelay,
    /// A relist: the kubelet has not noticed yet that the container runs.
    Relist,
    /// The queue of the status goroutine.
    StatusQueue,
    /// The kubelet's limiter, for its status.
    StatusBucket,
    /// CPU of the status update.
    StatusCpu,
    /// GET and PATCH of its status, at the API.
    StatusApi,
}

impl Stage {
    /// Every stage, in the order in which a start passes them.
    pub const ALL: [Self; 33] = [
        Self::Creation,
        Self::Scheduling,
        Self::KubeletWatch,
        Self::KubeletBucket,
        Self::KubeletApi,
        Self::Kubelet,
        Self::Volumes,
        Self::ImagePull,
        Self::CpuWait,
        Self::Sandbox,
        Self::Disk,
        Self::NetworkLock,
        Self::Multus,
        Self::MultusApi,
        Self::Macvlan,
        Self::DuplicateDetection,
        Self::Ipam,
        Self::IpamCpu,
        Self::IpamApi,
        Self::IpamLimiter,
        Self::IpamQueue,
        Self::IpamLock,
        Self::IpamLease,
        Self::IpamBackoff,
        Self::IpamController,
        Self::IpamDataPlane,
        Self::Cleanup,
        Self::RetryDelay,
        Self::Relist,
        Self::StatusQueue,
        Self::StatusBucket,
        Self::StatusCpu,
        Self::StatusApi,
    ];

    /// The stage in words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Creation => "creation",
            Self::Scheduling => "scheduling",
            Self::KubeletWatch => "kubelet: watch",
            Self::KubeletBucket => "kubelet: bucket",
            Self::KubeletApi => "kubelet: token, API",
            Self::Kubelet => "kubelet: CPU",
            Self::Volumes => "volumes",
            Self::ImagePull => "image pull",
            Self::CpuWait => "wait for a core",
            Self::Sandbox => "sandbox and container: CPU",
            Self::Disk => "containerd: disk",
            Self::NetworkLock => "network namespace",
            Self::Multus => "multus: CPU",
            Self::MultusApi => "multus: API",
            Self::Macvlan => "network plugin: CPU",
            Self::DuplicateDetection => "IPv6 duplicate detection",
            Self::Ipam => "IPAM: unnamed",
            Self::IpamCpu => "IPAM: CPU",
            Self::IpamApi => "IPAM: API",
            Self::IpamLimiter => "IPAM: client limiter",
            Self::IpamQueue => "IPAM: agent's queue",
            Self::IpamLock => "IPAM: lock",
            Self::IpamLease => "IPAM: lease",
            Self::IpamBackoff => "IPAM: conflict or poll pause",
            Self::IpamController => "IPAM: controller",
            Self::IpamDataPlane => "IPAM: data plane",
            Self::Cleanup => "cleanup after a failure",
            Self::RetryDelay => "kubelet: retry delay",
            Self::Relist => "kubelet: relist",
            Self::StatusQueue => "status: queue",
            Self::StatusBucket => "status: bucket",
            Self::StatusCpu => "status: CPU",
            Self::StatusApi => "status: API",
        }
    }
}

/// A stretch of time with one cause. Units: simulated ns since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// What was waited for.
    pub stage: Stage,
    /// From here.
    pub start_ns: u64,
    /// To here.
    pub end_ns: u64,
}

/// Which Pod a path is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// Half of the Pods that ran were Running no later.
    Median,
    /// The last one that was seen Running.
    Last,
    /// The one that was asked for by name.
    Asked,
}

/// The start of one Pod, from the start of the workload until it was Running, or until the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodPath {
    /// Which one.
    pub which: Which,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Shape: without gap or overlap, from 0, no empty one, neighbors differ in their stage.
    pub segments: Vec<Segment>,
}

impl PodPath {
    /// Sums by stage. Units: simulated ns.
    pub fn totals_ns(&self) -> BTreeMap<Stage, u64> {
        let mut totals = BTreeMap::new();
        for segment in &self.segments {
            *totals.entry(segment.stage).or_default() += segment.end_ns - segment.start_ns;
        }
        totals
    }
}

/// Where the time went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribution {
    /// Pods in the sums: those that were seen Running.
    pub pod_count: u64,
    /// Sums over these Pods by stage. Shape: no zero. Units: simulated ns.
    pub total_ns: BTreeMap<Stage, u64>,
    /// The starts of some Pods. Shape: median, last, then the one that was asked for.
    pub paths: Vec<PodPath>,
}

/// Deletion of all Pods once they ran, and what came after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recreation {
    /// The first deletion was sent. Units: simulated ns since the start.
    pub started_ns: u64,
    /// Time from there until all replacements ran; null if they never did.
    #[serde(deserialize_with = "nullable")]
    pub all_running_s: Option<Seconds>,
    /// Instants at which a replacement was first seen Running. Shape: ascending. Units: simulated
    /// ns since the first deletion.
    pub running_curve_ns: Vec<u64>,
    /// What the apiserver was asked from the first deletion on.
    pub api: ApiRequests,
}
