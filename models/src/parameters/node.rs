//! The parameter groups of a node: typed views of `parameters/{node,kubelet,…}.toml`. No default
//! stands here.

use std::time::Duration;

use super::table::{ParameterError, Table};
use super::value::{Millicores, Rate, Span};
use crate::parameter_group;

parameter_group! {
    /// A machine.
    NodeParameters = "node" {
        /// Cores of a machine.
        cores: Millicores,
        /// Cores lost on a machine without an apiserver.
        base_worker: Millicores,
        /// Cores lost on a machine with an apiserver.
        base_control_plane: Millicores,
        /// One lump of CPU per Pod start.
        cpu_per_pod: Duration,
        /// One execution of a plugin binary without a measured price of its own.
        exec_cpu: Duration,
        /// One fdatasync.
        fdatasync: Duration,
        /// From power to a started kubelet.
        boot: Duration,
    }
}

parameter_group! {
    /// kubelet.
    KubeletParameters = "kubelet" {
        /// Rate of the main client.
        qps: Rate,
        /// Burst of the main client.
        burst: u64,
        /// Rate of the event client.
        event_qps: Rate,
        /// Burst of the event client.
        event_burst: u64,
        /// Pods admitted on a node.
        max_pods: u64,
        /// Pods of the system among them.
        system_pods: u64,
        /// Next sync after a good one.
        resync: Span,
        /// Next sync after a failed one.
        backoff: Span,
        /// How often due syncs are picked up.
        sync_tick: Duration,
        /// Ticker of the status goroutine.
        status_period: Duration,
        /// When it ticks first after the kubelet's start; kubelets started long before the
        /// workload.
        status_phase: Span,
        /// Capacity of its channel.
        status_channel: u64,
        /// Pause between relists.
        pleg_period: Duration,
        /// Part of a relist that is not CPU.
        pleg_wait: Duration,
        /// CPU of a relist.
        pleg_cpu: Duration,
        /// Part of a changed Pod's inspection that is not CPU.
        pleg_pod_wait: Duration,
        /// CPU of a changed Pod's inspection.
        pleg_pod_cpu: Duration,
        /// CPU of a Pod's first sync.
        cpu_first_sync: Duration,
        /// CPU between the mount of a Pod's volumes and its sandbox.
        cpu_mount: Duration,
        /// CPU of each later sync.
        cpu_later_sync: Duration,
        /// CPU of one status update.
        cpu_status: Duration,
        /// Until the volume loops have picked up a Pod.
        volume_start: Span,
        /// How often a sync looks whether its volumes are there.
        volume_poll: Duration,
        /// How long it looks.
        volume_timeout: Duration,
        /// First back-off of a failed mount.
        volume_retry_min: Duration,
        /// Largest back-off of a failed mount.
        volume_retry_max: Duration,
        /// Until volumes and cgroup of a stopped Pod are gone.
        unmount: Span,
        /// How long a mount waits for a ConfigMap.
        configmap_wait: Duration,
        /// Deadline of RunPodSandbox.
        run_timeout: Duration,
        /// Deadline of StopPodSandbox and RemovePodSandbox.
        stop_timeout: Duration,
        /// Period of container garbage collection.
        gc_period: Duration,
        /// Period of the looks for Pods that run and are unknown.
        housekeeping: Duration,
        /// The workload ends at once on SIGTERM.
        stops_on_sigterm: bool,
        /// One image pull.
        image_pull: Duration,
        /// Every Pod's image is asked for at the registry.
        pull_always: bool,
        /// Pause before a closed watch or a failed list is tried again.
        list_retry: Span,
        /// Downtime of a kubelet that restarts.
        restart: Span,
    }
}

parameter_group! {
    /// containerd, shims and runc.
    ContainerdParameters = "containerd" {
        /// CPU before the network.
        cpu_prepare: Duration,
        /// CPU of the sandbox's task.
        cpu_task: Duration,
        /// CPU of CreateContainer.
        cpu_create: Duration,
        /// CPU of StartContainer.
        cpu_start: Duration,
        /// CPU of stopping a container.
        cpu_stop_container: Duration,
        /// CPU of stopping a sandbox's task.
        cpu_stop_sandbox: Duration,
        /// CPU of RemovePodSandbox.
        cpu_remove: Duration,
        /// bbolt commits before the network.
        sandbox_commits: u64,
        /// bbolt commits of one record update.
        update_commits: u64,
        /// bbolt commits of CreateContainer.
        container_commits: u64,
        /// bbolt commits of a removal.
        remove_commits: u64,
        /// fdatasync calls per commit.
        fdatasync_per_commit: u64,
        /// Making a network namespace, one at a time.
        netns: Duration,
        /// Budget of the DEL after a failed ADD.
        cleanup_timeout: Duration,
        /// Downtime of a containerd that restarts.
        restart: Span,
    }
}

parameter_group! {
    /// Executions by containerd.
    CniParameters = "cni" {
        /// CPU of the loopback plugin.
        cpu_loopback: Duration,
    }
}

parameter_group! {
    /// macvlan.
    MacvlanParameters = "macvlan" {
        /// CPU of an ADD without the IPAM.
        cpu_add: Duration,
        /// CPU of a DEL without the IPAM.
        cpu_del: Duration,
        /// The result has an IPv6 gateway, so ADD waits for duplicate address detection.
        ipv6_dad: bool,
        /// How long that takes.
        dad_wait: Span,
    }
}

parameter_group! {
    /// multus.
    MultusParameters = "multus" {
        /// containerd calls multus; else macvlan itself.
        enabled: bool,
        /// CPU of an ADD without the delegate.
        cpu_add: Duration,
        /// CPU of a DEL without the delegate.
        cpu_del: Duration,
        /// Rate of its client.
        qps: Rate,
        /// Burst of its client.
        burst: u64,
        /// Timeout of its requests.
        client_timeout: Duration,
        /// Pause between reads of a Pod while the apiserver is unavailable.
        pod_poll: Duration,
        /// How long it reads.
        pod_poll_limit: Duration,
        /// Pause after a conflict.
        conflict_wait: Span,
        /// Writes of the status before it gives up.
        conflict_tries: u64,
    }
}

parameter_group! {
    /// Inputs of the event model.
    CheckParameters = "check" {
        /// Wait per ADD, in parallel.
        ipam_wait: Duration,
        /// Stage per ADD, one at a time in the cluster.
        ipam_serial: Duration,
    }
}

/// All groups of the node side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSideParameters {
    /// A machine.
    pub node: NodeParameters,
    /// kubelet.
    pub kubelet: KubeletParameters,
    /// containerd.
    pub containerd: ContainerdParameters,
    /// Executions by containerd.
    pub cni: CniParameters,
    /// macvlan.
    pub macvlan: MacvlanParameters,
    /// multus.
    pub multus: MultusParameters,
    /// Inputs of the event model.
    pub check: CheckParameters,
}

impl NodeSideParameters {
    /// Reads all groups.
    /// Errors: a missing entry, a wrong unit, an unreadable value.
    pub fn read(table: &Table) -> Result<Self, ParameterError> {
        Ok(Self {
            node: NodeParameters::read(table)?,
            kubelet: KubeletParameters::read(table)?,
            containerd: ContainerdParameters::read(table)?,
            cni: CniParameters::read(table)?,
            macvlan: MacvlanParameters::read(table)?,
            multus: MultusParameters::read(table)?,
            check: CheckParameters::read(table)?,
        })
    }
}
