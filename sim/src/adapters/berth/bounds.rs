//! The bounds that Berth publishes for what it promises: what a run holds it to.

use std::time::Duration;

use crate::oracle::Bounds;

/// The release bound: 20 s after the last DEL (30 s for a young ADD), a look at the path every 5 s,
/// 3 s of linger, and two API deadlines of 10 s. The bound of what nobody asked for: ten minutes,
/// and the release. The bound of convergence: the quarantine of a burial (10 min) and half of it
/// again for everything that waits behind.
pub const PROMISED: Bounds = Bounds {
    release: Duration::from_secs(90),
    release_former_boot: Duration::from_mins(15),
    unbound: Duration::from_mins(1),
    unasked: Duration::from_secs(690),
    converge: Duration::from_mins(20),
};

const _: () = assert!(
    PROMISED.release.as_secs() < PROMISED.release_former_boot.as_secs(),
    "a burial waits longer than a release"
);
const _: () = assert!(
    PROMISED.unasked.as_secs() == 600 + PROMISED.release.as_secs(),
    "what nobody asked for is released after its ten minutes"
);
