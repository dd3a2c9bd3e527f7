//! What happened in all of Spiderpool, in numbers. Who counts what stands where it happens.

macro_rules! totals {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often this happened.
        #[derive(Clone, Copy, Debug, Default)]
        pub(super) struct Totals { $($(#[$doc])* pub(super) $name: u64,)* }
        impl Totals {
            /// Every total by its name.
            pub(super) fn list(self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

totals! {
    /// PUTs of a pool that met another version.
    conflicts,
    /// Pools given up after five conflicts.
    exhausted,
    /// Pools given up because they were full.
    used_out,
    /// Allocations that failed with one family done.
    partial,
    /// ADDs answered from the endpoint.
    idempotent,
    /// Addresses taken for a Pod that has one in the pool already.
    second_addresses,
    /// ADDs refused because the endpoint is another Pod's.
    endpoint_of_another,
    /// Endpoints that could not be written.
    endpoint_refused,
    /// ADDs for a Pod that the agent does not know yet.
    pod_unknown,
    /// ADDs refused by a full queue.
    queue_full,
    /// Requests that got their turn after their client had gone.
    granted_dead,
    /// Calls of jobs that a token bucket held back.
    limited,
    /// CPU demands that the CPU limit held back.
    throttled,
    /// Plugins that gave up waiting.
    deadlines,
    /// DELs that failed and reported success.
    dels_swallowed,
    /// Coordinators that found no endpoint yet.
    coordinator_too_early,
    /// Pods that the tracer released for.
    traced,
    /// Of these, with another Pod's endpoint.
    traced_another,
    /// Records that the scan released.
    scanned_away,
}
