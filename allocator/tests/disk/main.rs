//! The real plugin binary with the store `disk` on this host: killed at every system call, on full
//! and read-only file systems, a hundred at once, beside host-local, and called by the main plugins
//! that a distribution ships. Parts that need root or other programs say so where they are skipped;
//! with `REQUIRE_CNI=1` a skip is a failure.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod agent;
mod callers;
mod configuration;
mod failures;
mod host_local;
mod namespaces;
mod rig;
