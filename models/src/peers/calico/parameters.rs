//! `calico.*`: a typed view of `parameters/peers/calico.toml`.

use std::time::Duration;

use crate::parameters::Rate;

crate::parameter_group! {
    /// Calico v3.26.3.
    CalicoParameters = "calico" {
        /// Prefix length of an IPv4 block.
        block_size_v4: u64,
        /// Prefix length of an IPv6 block.
        block_size_v6: u64,
        /// A node takes addresses from its own blocks only.
        strict_affinity: bool,
        /// Blocks that a node may own.
        max_blocks: u64,
        /// Each node holds an IPv4 tunnel address.
        tunnel_addresses: bool,
        /// Tries of a compare-and-swap.
        datastore_retries: u64,
        /// Deadline of the IPAM's context.
        context_timeout: Duration,
        /// The deadline runs while the plugin waits for the lock.
        clock_before_lock: bool,
        /// The lock is handed over in the order of arrival.
        lock_fifo: bool,
        /// Rate of a process's client.
        qps: Rate,
        /// Burst of a process's client.
        burst: u64,
        /// CPU of one call in the plugin.
        cpu_call: Duration,
        /// CPU of the interface.
        cpu_netlink: Duration,
        /// CPU of portmap and bandwidth.
        cpu_chained: Duration,
        /// Wait for an IPv6 link-local address.
        link_local_wait: Duration,
        /// Writes of a Pod's annotations at DEL.
        pod_write_tries: u64,
        /// CPU of Felix for any update.
        felix_cpu_update: Duration,
        /// CPU of Felix for an endpoint of its node.
        felix_cpu_endpoint: Duration,
        /// How long an allocation must look leaked.
        leak_grace: Duration,
        /// CPU of looking at one allocation.
        cpu_check: Duration,
    }
}
