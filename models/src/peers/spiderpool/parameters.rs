//! The constants of Spiderpool as typed values; what they are stands in
//! `parameters/peers/spiderpool.toml`.

use std::time::Duration;

use crate::parameters::{Millicores, Rate};

crate::parameter_group! {
    /// Spiderpool.
    SpiderpoolParameters = "spiderpool" {
        /// One pool per Deployment and family, instead of one per family.
        pool_per_deployment: bool,
        /// The coordinator is chained behind macvlan.
        coordinator: bool,
        /// CPU of one execution of the plugin.
        plugin_cpu: Duration,
        /// CPU of the agent for one request on its socket.
        request_cpu: Duration,
        /// CPU of an attempt for each address of the pool.
        cpu_per_address: Duration,
        /// CPU of an attempt for each byte of records.
        cpu_per_byte: Duration,
        /// CPU of a watch event for each byte.
        event_cpu_per_byte: Duration,
        /// Size of a Pod in a watch event.
        pod_bytes: u64,
        /// Size of an endpoint in a watch event.
        endpoint_bytes: u64,
        /// Size of a pool without records.
        pool_bytes: u64,
        /// Size of an IPv4 record.
        record_bytes_v4: u64,
        /// Size of an IPv6 record.
        record_bytes_v6: u64,
        /// Rate of each of the agent's buckets.
        agent_qps: Rate,
        /// Burst of each of the agent's buckets.
        agent_burst: u64,
        /// CPU limit of the agent.
        agent_cpu_limit: Millicores,
        /// Rate of each of the controller's buckets.
        controller_qps: Rate,
        /// Burst of each of the controller's buckets.
        controller_burst: u64,
        /// CPU limit of the controller.
        controller_cpu_limit: Millicores,
        /// Period over which a CPU limit is accounted.
        cfs_period: Duration,
        /// Longest queue of the limiter.
        queue_max: u64,
        /// Attempts on a pool, the first included.
        retry_steps: u64,
        /// Wait after the first conflict.
        retry_base: Duration,
        /// Largest addition to a wait, in percent of it.
        retry_jitter_percent: u64,
        /// Allocated addresses above which a pool counts as used out.
        pool_max_allocated: u64,
        /// How long the plugin waits for an allocation.
        add_timeout: Duration,
        /// How long the plugin waits for a release.
        del_timeout: Duration,
        /// What a release's deadline is made from.
        del_default: Duration,
        /// From a started kubelet to a serving agent.
        agent_restart: Duration,
        /// Between two sweeps over traced Pods.
        trace_period: Duration,
        /// Workers that release for traced Pods.
        trace_workers: u64,
        /// How often a failed release of a traced Pod is queued again.
        trace_retries: u64,
        /// Added to the grace period of a traced Pod.
        trace_delay: Duration,
        /// Between two scans of all pools.
        scan_period: Duration,
        /// Duration of the controller's lease.
        lease: Duration,
        /// How long its holder tries to renew it.
        lease_renew: Duration,
        /// Between two tries on the lease.
        lease_retry: Duration,
        /// Rate of the garbage collector of kube-controller-manager.
        collector_qps: Rate,
        /// Its burst.
        collector_burst: u64,
    }
}
