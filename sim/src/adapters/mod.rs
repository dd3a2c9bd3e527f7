//! Where the allocator under test meets the simulated cluster: the only place that sees both.

pub mod berth;
