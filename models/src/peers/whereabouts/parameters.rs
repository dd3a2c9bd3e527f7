//! Constants of Whereabouts. Their values are in `parameters/peers/whereabouts.toml`.

use std::time::Duration;

use crate::client_go::leader_election::ElectionConfig;
use crate::parameters::Rate;

crate::parameter_group! {
    /// Whereabouts.
    WhereaboutsParameters = "whereabouts" {
        /// CPU of one execution.
        cpu_verb: Duration,
        /// CPU per entry of a pool that is read.
        cpu_read_entry: Duration,
        /// CPU per entry of a pool that is patched.
        cpu_patch_entry: Duration,
        /// Time limit of an ADD.
        add_limit: Duration,
        /// Time limit of a DEL.
        del_limit: Duration,
        /// Time limit of the work under the lease.
        request_limit: Duration,
        /// Tries per range.
        datastore_tries: u64,
        /// Rate of a client, per API group.
        qps: Rate,
        /// Burst of a client.
        burst: u64,
        /// LeaseDuration.
        lease_duration: Duration,
        /// RenewDeadline.
        renew_deadline: Duration,
        /// RetryPeriod.
        retry_period: Duration,
        /// All processes draw the same jitter.
        unseeded_jitter: bool,
        /// client-go: a failed GET leaves the cached Lease alone.
        failed_get_keeps_lease: bool,
        /// client-go: the release reads the Lease again.
        release_reads_first: bool,
        /// Addresses are unique over all ranges.
        overlap_check: bool,
        /// The same Pod gets its address back.
        idempotent_add: bool,
        /// Addresses of a node's slice; 0 = no slices.
        slice_addresses: u64,
        /// The network is the Pods' default network.
        default_network: bool,
        /// Addresses allocated to Pods of the past.
        stranded_addresses: u64,
        /// First run of the reconcilers.
        reconcile_first: Duration,
        /// From one run to the next.
        reconcile_period: Duration,
        /// Time limit of a run.
        reconcile_limit: Duration,
    }
}

impl WhereaboutsParameters {
    /// How its processes elect a leader.
    pub(super) fn election(&self) -> ElectionConfig {
        ElectionConfig {
            lease_duration: self.lease_duration,
            renew_deadline: self.renew_deadline,
            retry_period: self.retry_period,
            failed_get_keeps_lease: self.failed_get_keeps_lease,
            release_reads_first: self.release_reads_first,
        }
    }
}
