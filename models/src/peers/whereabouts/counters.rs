//! What happened, counted where the mechanism does it: nothing here is a rate.

/// Declares [`Counters`]: one line a counter.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Totals of a run.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }
        impl Counters {
            /// All totals by name.
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counters! {
    /// Times that a process won the Lease, by ADD.
    leases_won_by_adds,
    /// Times that a process won the Lease, by DEL.
    leases_won_by_dels,
    /// Takeovers of a Lease that nobody had released: everybody had waited for its expiry.
    leases_expired,
    /// Takeovers from a process of the same Pod, without waiting.
    leases_reentered,
    /// Writes for a free Lease that lost the race: 409.
    lease_races_lost,
    /// Leases left held, for whatever reason: the sum of the next five.
    leases_stalled,
    /// The cached object was empty: a renewal was canceled in its GET.
    releases_of_an_empty_lease,
    /// The cached object was outdated: a renewal committed while it was canceled.
    releases_refused,
    /// The release failed otherwise.
    releases_failed,
    /// The holder was killed.
    holders_killed,
    /// The time limit came while the write for the Lease was at etcd.
    zombie_holders,
    /// Leaders that did not renew in time while their work went on.
    leaders_deposed,
    /// ADDs that ended with "time limit exceeded while waiting to become leader".
    adds_timed_out,
    /// ADDs that found no free address.
    adds_exhausted,
    /// ADDs that failed after they had written the pool.
    adds_failed_after_patch,
    /// Other ADDs that failed.
    adds_failed,
    /// DELs that reported success and had done nothing because the Lease did not come.
    dels_timed_out,
    /// DELs of containers without an allocation.
    dels_without_allocation,
    /// DELs that reported success after an error of the API or the 10 s of their work.
    dels_failed,
    /// DELs that reported success with an address still allocated: lost to everybody but the
    /// reconciler, unless another DEL follows.
    dels_swallowed,
    /// PATCHes of a pool refused because it had changed: 422.
    pool_conflicts,
    /// PATCHes of a pool that failed otherwise, which the ADD forgot.
    patch_errors_swallowed,
    /// Addresses skipped because a reservation existed.
    reservations_met,
    /// Pods whose deletion a control loop ignored: their default network.
    loop_pods_skipped,
    /// Control loops that blocked forever at a stale allocation.
    loops_blocked,
    /// Runs of the reconciler that finished.
    reconciler_runs,
    /// Runs that their time limit or an error ended.
    reconciler_runs_cut,
    /// Allocations that a reconciler removed.
    reconciler_freed,
}
