//! The vocabulary of Drydock: workloads, plans and run records as plain, versioned data. Nothing
//! here runs, waits or decides; the same input gives the same bytes.
//!
//! - [`workload`]: what a set of Kubernetes manifests asks for; [`manifest`] reads it from YAML.
//! - [`plan`]: a small world and the faults that happen in it, as TOML that replays.
//! - [`run_record`]: everything that one run reports, as JSON with a committed schema.
//! - [`seed`]: the number that determines a run's draws.
//! - [`corpus`]: the benchmark, the burst and the measured curve, embedded; the certificates of
//!   stored runs and their changelog.

pub mod corpus;
pub mod manifest;
pub mod plan;
pub mod run_record;
pub mod seed;
pub mod workload;
