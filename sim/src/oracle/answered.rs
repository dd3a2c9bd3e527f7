//! A. Claim: an interface has exactly the addresses that its sandbox's ADD was answered with last.
//! Watches: answers of ADDs, interfaces that come up. Never suspended.

use std::collections::BTreeMap;
use std::net::IpAddr;

use drydock_models::ids::ContainerId;
use drydock_models::observation::Observation;

use super::{Breach, Fact, Invariant};

/// The last answer of each sandbox.
#[derive(Clone, Debug, Default)]
pub struct LastAnswers {
    by_container: BTreeMap<ContainerId, Vec<IpAddr>>,
}

impl LastAnswers {
    /// Checks an interface against the answer.
    pub fn check(&mut self, fact: &Fact<'_>) -> Option<Breach> {
        match fact {
            Fact::World(Observation::IpamAddEnded {
                container,
                result: Ok(addresses),
                ..
            }) => {
                self.by_container.insert(*container, addresses.clone());
                None
            }
            Fact::World(Observation::AddressUp {
                container,
                pod,
                addresses,
                ..
            }) => {
                let answered = self.by_container.get(container);
                if answered == Some(addresses) {
                    return None;
                }
                let answered = answered.map(Vec::as_slice).unwrap_or_default();
                let text = format!(
                    "sandbox {container} of Pod {pod} was answered {answered:?}, and its \
                     interface came up with {addresses:?}"
                );
                Some((Invariant::A, pod.to_string(), text))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use drydock_models::ids::{NetnsId, NodeIndex, PodUid};

    use super::*;

    const NODE: NodeIndex = NodeIndex(0);
    const POD: PodUid = PodUid(1);
    const CONTAINER: ContainerId = ContainerId(7);

    fn up(last: u8) -> Observation {
        Observation::AddressUp {
            node: NODE,
            netns: NetnsId(7),
            container: CONTAINER,
            pod: POD,
            addresses: vec![[10, 0, 0, last].into()],
        }
    }

    #[test]
    fn an_interface_with_another_address_than_was_answered_is_a_breach() {
        let mut answers = LastAnswers::default();
        let unasked = answers.check(&Fact::World(&up(1)));
        assert_eq!(unasked.map(|breach| breach.0), Some(Invariant::A));
        let answer = Observation::IpamAddEnded {
            node: NODE,
            container: CONTAINER,
            pod: POD,
            result: Ok(vec![[10, 0, 0, 1].into()]),
        };
        assert_eq!(answers.check(&Fact::World(&answer)), None);
        assert_eq!(answers.check(&Fact::World(&up(1))), None);
        let other = answers.check(&Fact::World(&up(2)));
        assert_eq!(other.map(|breach| breach.0), Some(Invariant::A));
    }
}
