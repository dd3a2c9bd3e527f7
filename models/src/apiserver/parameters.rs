//! Constants of the apiservers, etcd and the network. Values stand in `parameters/api.toml`.

use std::time::Duration;

use crate::parameters::Span;

crate::parameter_group! {
    /// kube-apiserver.
    ApiParameters = "api" {
        /// Every call takes `fixed_call`, a write `fixed_write` more, and costs nothing else.
        fixed_latency: bool,
        /// Duration of a call, there and back, with `fixed_latency`.
        fixed_call: Span,
        /// What a request waits in its apiserver beside its CPU and its disk, with its seats.
        latency: Duration,
        /// What a write takes more, before its commit, with `fixed_latency`.
        fixed_write: Duration,
        /// From commit to an apiserver's watch cache.
        cache_delay: Span,
        /// From there to a client.
        watch_delay: Span,
        /// Time between bookmarks.
        bookmark_period: Duration,
        /// Revisions younger than this can be watched from.
        history_age: Duration,
        /// So many revisions can be watched from, however old.
        history_min: u64,
        /// No more than this.
        history_max: u64,
        /// Seats of kubelets.
        system_seats: u64,
        /// Seats of Leases.
        leader_election_seats: u64,
        /// Requests for Leases that may wait.
        leader_election_queue: u64,
        /// Seats of controllers, scheduler and agents.
        workload_high_seats: u64,
        /// Requests that may wait in one level.
        queue_length: u64,
        /// How long they may wait.
        queue_wait: Duration,
        /// Retry-After of a 429.
        retry_after: Duration,
        /// Objects per seat of a LIST.
        list_seat_objects: u64,
        /// Longest handling of a write.
        handler_timeout: Duration,
        /// Longest request.
        request_timeout: Duration,
        /// From exec to serving.
        start_time: Span,
    }
}

crate::parameter_group! {
    /// etcd.
    EtcdParameters = "etcd" {
        /// One sync of a member's log.
        fsync: Span,
        /// Whether a member's log lies on the disk of its machine, so that a sync takes
        /// `node.fdatasync` and not `fsync`.
        on_node_disk: bool,
        /// Between two members, there and back.
        peer_round_trip: Duration,
        /// CPU of one write on each other member.
        replica_cpu: Duration,
        /// Longest wait of a request for the quorum.
        request_timeout: Duration,
        /// Largest request.
        max_request: u64,
    }
}

crate::parameter_group! {
    /// The network between machines.
    NetParameters = "net" {
        /// One way.
        one_way: Duration,
    }
}
