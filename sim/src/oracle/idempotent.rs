//! I. Claim: a DEL succeeds, however often and whatever it finds; that it frees only its own is
//! seen by U and K, since another's address is live or recorded. Watches: the end of a DEL.
//! Never suspended: a DEL needs neither agent nor apiserver.

use drydock_models::observation::Observation;

use super::{Breach, Fact, Invariant};

/// Checks that a DEL did not fail.
pub fn check(fact: &Fact<'_>) -> Option<Breach> {
    let Fact::World(Observation::IpamDelEnded {
        pod,
        container,
        ok: false,
        ..
    }) = fact
    else {
        return None;
    };
    let text = format!("DEL of sandbox {container} of Pod {pod} failed");
    Some((Invariant::I, pod.to_string(), text))
}
