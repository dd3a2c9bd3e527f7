//! The groups of controller-manager, scheduler, their clients and the user: typed views of
//! `parameters/{controllers,api}.toml`.

use std::time::Duration;

use super::value::{Rate, Span};

crate::parameter_group! {
    /// kube-controller-manager.
    KcmParameters = "kcm" {
        /// Rate of each controller's client.
        qps: Rate,
        /// Its burst.
        burst: u64,
        /// Workers of each controller.
        workers: u64,
        /// Pods of the first batch.
        slow_start_initial: u64,
        /// Pods of one sync.
        burst_replicas: u64,
        /// First wait of a key that failed.
        retry_base: Duration,
        /// Longest wait of a key that failed.
        retry_max: Duration,
        /// CPU of the process per Pod created.
        cpu_per_pod: Duration,
        /// Time after which a silent leader is replaced.
        lease: Duration,
        /// How often a candidate looks.
        lease_retry: Span,
        /// Silence after which a node is not ready.
        node_grace: Duration,
        /// How long Pods stay on a node that is not ready.
        node_toleration: Duration,
    }
}

crate::parameter_group! {
    /// kube-scheduler.
    SchedParameters = "sched" {
        /// Rate of each of its two clients.
        qps: Rate,
        /// Burst of each of its two clients.
        burst: u64,
        /// One cycle.
        cycle: Duration,
        /// CPU of the process per Pod.
        cpu_per_pod: Duration,
        /// First back-off.
        backoff_initial: Duration,
        /// Longest back-off.
        backoff_max: Duration,
        /// maxSkew of the default constraint.
        max_skew: u64,
        /// Memory of a node in MiB.
        node_memory: u64,
    }
}

crate::parameter_group! {
    /// Constants of every client.
    ClientParameters = "client" {
        /// Silence after which a connection counts as dead.
        h2_dead: Duration,
        /// Retries of one call.
        max_retries: u64,
        /// First wait of a reflector before it watches again.
        reflector_backoff: Span,
    }
}

crate::parameter_group! {
    /// The user.
    DriverParameters = "driver" {
        /// Between the answer to one POST and the next POST.
        create_gap: Duration,
        /// Nothing is created earlier: the cluster and the IPAM have been up for a while.
        warm_up: Duration,
        /// Bare Pods are in the store from the start.
        preload_pods: bool,
    }
}
