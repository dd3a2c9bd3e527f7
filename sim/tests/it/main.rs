//! Integration tests of the testbed: whole runs through the library, and the command line.
#![cfg(madsim)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]
#![allow(
    clippy::disallowed_macros,
    reason = "tests tell figures; cargo shows them when asked"
)]

mod berth;
mod certificates;
mod command_line;
mod compare;
mod contract;
mod determinism;
mod event_model;
mod kube_ovn;
mod leaks;
mod network_plugins;
mod other_hands;
mod own_things;
mod peers_in_storms;
mod program;
mod real_node;
mod recreation;
mod regressions;
mod spiderpool;
mod storms;
mod tidy;
mod whereabouts;
