//! Integration tests of the testbed: whole runs through the library, and the command line.
#![cfg(madsim)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod regressions;
mod tidy;
