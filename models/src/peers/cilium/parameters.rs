//! `cilium.*`: a typed view of `parameters/peers/cilium.toml`.

use std::time::Duration;

use crate::parameters::Rate;

crate::parameter_group! {
    /// Cilium v1.14.3.
    CiliumParameters = "cilium" {
        /// Processing time that endpoint-create is laid out for.
        create_estimate: Duration,
        /// Rate of endpoint-create.
        create_rate: Rate,
        /// Burst of endpoint-create.
        create_burst: u64,
        /// Requests of endpoint-create at a time.
        create_parallel: u64,
        /// No fewer than this at a time.
        create_parallel_min: u64,
        /// Requests that pass by at the start.
        create_skip: u64,
        /// Longest wait before a request is turned away.
        create_wait: Duration,
        /// Limits follow the measured processing time.
        auto_adjust: bool,
        /// Processing time that endpoint-delete is laid out for.
        delete_estimate: Duration,
        /// Requests of endpoint-delete at a time.
        delete_parallel: u64,
        /// Requests that the mean is taken over.
        mean_over: u64,
        /// Share of an adjustment that reaches parallelism and burst, in percent.
        delayed_percent: u64,
        /// Largest adjustment.
        factor_max: u64,
        /// The plugin's patience with a request.
        client_timeout: Duration,
        /// The plugin's patience with the socket.
        connect_timeout: Duration,
        /// Rate of the agent's API client.
        qps: Rate,
        /// Burst of the agent's API client.
        burst: u64,
        /// An address without endpoint is freed after this.
        ip_expiration: Duration,
        /// Tries to allocate an identity.
        identity_tries: u64,
        /// First pause between them.
        identity_pause: Duration,
        /// Interval of the CiliumEndpoint controller.
        endpoint_sync: Duration,
        /// Changes of a CiliumEndpoint after its creation.
        endpoint_patches: u64,
        /// Prefix length of an IPv4 podCIDR.
        mask_v4: u64,
        /// Prefix length of an IPv6 podCIDR.
        mask_v6: u64,
        /// Smaller podCIDRs where otherwise a node would have none.
        mask_fits_nodes: bool,
        /// Addresses of a podCIDR that the node takes.
        node_addresses: u64,
        /// CPU of a request to the agent.
        cpu_request: Duration,
        /// CPU of the interface.
        cpu_netlink: Duration,
        /// CPU of policy and headers.
        cpu_regenerate: Duration,
        /// CPU of loading the programs.
        cpu_load: Duration,
        /// One load at a time.
        load_serial: bool,
        /// CPU of compiling a template.
        cpu_compile: Duration,
        /// CPU of removing an endpoint.
        cpu_unload: Duration,
        /// CPU for a new identity.
        cpu_identity: Duration,
        /// Start of an agent after a boot.
        agent_start: Duration,
    }
}
