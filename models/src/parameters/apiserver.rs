//! The groups of the apiservers, etcd, the network and the prices of requests: typed views of
//! `parameters/{api,cost}.toml`.

use std::time::Duration;

use super::value::{Factor, Prices, Span};

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

crate::parameter_group! {
    /// Prices of requests.
    CostParameters = "cost" {
        /// GET of a Pod.
        get_pod: Prices,
        /// GET of an object without records.
        get_flat: Prices,
        /// GET of a small object that a CNI plugin reads.
        get_small: Prices,
        /// A new TLS connection.
        tls: Prices,
        /// PUT of an object without records.
        put_flat: Prices,
        /// POST of a small object.
        post_flat: Prices,
        /// DELETE.
        delete: Prices,
        /// POST of a Pod.
        post_pod: Prices,
        /// POST of a binding.
        bind_pod: Prices,
        /// PATCH of a Pod's status.
        patch_pod_status: Prices,
        /// PUT of a Pod's status with the network-status annotation.
        put_network_status: Prices,
        /// PATCH of a Pod's annotations.
        patch_pod_annotations: Prices,
        /// TokenRequest.
        create_token: Prices,
        /// A write of a controller on its own object.
        write_workload: Prices,
        /// Each further object of a list.
        list_item: Prices,
        /// GET of a map tracked per key.
        get_granular_map: Prices,
        /// Write of a map tracked per key.
        write_granular_map: Prices,
        /// GET of one string.
        get_one_string: Prices,
        /// Write of one string.
        write_one_string: Prices,
        /// GET of an atomic list or map.
        get_atomic: Prices,
        /// Write of an atomic list.
        write_atomic_list: Prices,
        /// Write of an atomic map.
        write_atomic_map: Prices,
        /// Write of a list of objects that each hold a map.
        write_list_of_maps: Prices,
        /// Disk time inside the latency of a write.
        bench_fsync: Duration,
        /// Piece in which background CPU is spent.
        background_lump: Duration,
        /// What every price of CPU is multiplied by.
        cpu_factor: Factor,
    }
}
