//! S. Claim: the same ADD (one sandbox) again gets the same answer. Watches: answers of ADDs.
//! Suspended: never; a DEL in between ends the memory of the sandbox.

use std::collections::BTreeMap;
use std::net::IpAddr;

use drydock_models::ids::ContainerId;
use drydock_models::observation::Observation;

use super::{Breach, Fact, Invariant};

/// Answers by sandbox.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    by_container: BTreeMap<ContainerId, Vec<IpAddr>>,
}

impl Answers {
    /// Checks an answer against the one before.
    pub fn check(&mut self, fact: &Fact<'_>) -> Option<Breach> {
        match fact {
            Fact::World(Observation::IpamAddEnded {
                container,
                pod,
                result: Ok(now),
                ..
            }) => {
                let before = self
                    .by_container
                    .entry(*container)
                    .or_insert_with(|| now.clone());
                if before == now {
                    return None;
                }
                let text = format!(
                    "sandbox {container} of Pod {pod} was answered {before:?} and then {now:?}"
                );
                Some((Invariant::S, pod.to_string(), text))
            }
            Fact::World(Observation::IpamDelEnded { container, .. }) => {
                self.by_container.remove(container);
                None
            }
            _ => None,
        }
    }
}
