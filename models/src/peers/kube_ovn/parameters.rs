//! The constants of Kube-OVN as a typed view of `parameters/peers/kube_ovn.toml`. No default stands
//! here.

use std::time::Duration;

use crate::parameter_group;
use crate::parameters::{Rate, Span};

parameter_group! {
    /// Kube-OVN.
    KubeOvnParameters = "kube_ovn" {
        /// Workers of each queue.
        workers: u64,
        /// Buckets of the hashed lock on Pod names.
        lock_buckets: u64,
        /// Rate of the controller's and of each daemon's client.
        qps: Rate,
        /// Its burst.
        burst: u64,
        /// Timeout of the controller's requests.
        client_timeout: Duration,
        /// First wait of an item that failed.
        retry_base: Duration,
        /// Longest wait of an item that failed.
        retry_max: Duration,
        /// Rate of all retries of a queue together.
        retry_qps: Rate,
        /// Its burst.
        retry_burst: u64,
        /// CPU of one item of the Pod queues, beside the scan.
        item_cpu: Duration,
        /// CPU per logical switch port of the scan in each item.
        scan_cpu: Duration,
        /// CPU of one request in the process that makes it.
        request_cpu: Duration,
        /// CPU per IP of one update of the subnet's status.
        status_scan_cpu: Duration,
        /// Period of the collection of ports without a Pod.
        gc_period: Duration,
        /// Period of the inspection of all Pods.
        inspect_period: Duration,
        /// Until the lease of a dead leader may be taken.
        lease: Duration,
        /// Until a candidate looks then.
        lease_retry: Span,
        /// CPU of one NB or SB transaction.
        nb_cpu: Duration,
        /// Until clients follow a database leader that died.
        nb_failover: Duration,
        /// CPU of one northd loop.
        northd_base: Duration,
        /// CPU per port of one northd loop.
        northd_port_cpu: Duration,
        /// CPU of one ovn-controller loop.
        ovn_controller_base: Duration,
        /// CPU per new port of the cluster, on each node.
        ovn_controller_port_cpu: Duration,
        /// CPU of one ovs-vswitchd loop that a write waits for.
        vswitchd_cpu: Duration,
        /// CPU of the local database per command.
        ovsdb_cpu: Duration,
        /// CPU of one ovs-vsctl process.
        vsctl_cpu: Duration,
        /// ovs-vsctl processes at a time on a node.
        vsctl_slots: u64,
        /// Longest wait for a slot; then the command fails.
        vsctl_slot_wait: Duration,
        /// Between two looks for a slot.
        vsctl_slot_poll: Duration,
        /// CPU of the daemon per CNI request.
        daemon_cpu: Duration,
        /// Between two looks at the Pod's annotations, and between two reads of the IP.
        poll: Duration,
        /// Looks before the ADD fails; reads of the IP before it goes on without.
        poll_count: u64,
        /// Making or deleting the pair of interfaces.
        link: Span,
        /// Setting up the interface in the Pod's namespace.
        netns_setup: Span,
        /// Between two probes of the gateway.
        ping_interval: Duration,
        /// Probes before the ADD goes on without an answer.
        ping_count: u64,
        /// The ADD fails when no probe was answered.
        ping_error: bool,
        /// CPU of a daemon per update of the subnet.
        reconcile_cpu: Duration,
        /// Period of a daemon's gateway work.
        background_period: Duration,
        /// CPU of a daemon's gateway work.
        background_cpu: Duration,
        /// The addresses are capped by an IPPool, not by the subnet.
        ippool: bool,
        /// Pods of an earlier run that are still to be released.
        previous_pods: u64,
        /// The subnet is a VLAN, not the default overlay.
        underlay: bool,
        /// Conflict detection of an address on a VLAN.
        arp_detect: Span,
    }
}
