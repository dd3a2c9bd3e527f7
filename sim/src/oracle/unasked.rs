//! H, too. Claim: what is reserved for a Pod that never asks is given back within the published
//! bound: soon after its status shows that another CNI set up its network, else after the longest
//! wait for an ADD. Watches: records, Pods that run. Suspended: while the agent of the machine
//! cannot act; the bound counts from its return. Not judged: what an agent without its journal has
//! to take for answered, which it holds to the end of the Pod.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use drydock_engine::time::SimInstant;
use drydock_models::ids::PodUid;
use drydock_models::observation::Observation;

use super::{Bounds, Breach, Fact, Invariant, Truth};

/// Pods that never ask, with when the API showed that they run without having asked.
#[derive(Clone, Debug, Default)]
pub struct NeverAsk {
    pods: BTreeMap<PodUid, Shown>,
    /// Addresses whose record says that they were answered.
    bound: BTreeSet<IpAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Shown {
    /// Another CNI sets up its network, and its status will say so.
    by_another: bool,
    at: Option<SimInstant>,
}

impl NeverAsk {
    /// Enters a fact; finds the first record that stands too long.
    pub fn check(
        &mut self,
        truth: &Truth,
        at: SimInstant,
        bounds: &Bounds,
        fact: &Fact<'_>,
    ) -> Option<Breach> {
        match fact {
            Fact::NeverAsks { pod, by_another } => {
                let shown = Shown {
                    by_another: *by_another,
                    at: None,
                };
                self.pods.insert(*pod, shown);
            }
            Fact::World(Observation::PodRunning { pod }) => {
                if let Some(shown) = self.pods.get_mut(pod) {
                    shown.at.get_or_insert(at);
                }
            }
            Fact::Record { addresses, .. } => {
                for address in addresses {
                    self.bound.remove(address);
                }
            }
            Fact::Bound { addresses } => self.bound.extend(addresses),
            _ => {}
        }
        if self.pods.is_empty() {
            return None;
        }
        truth.records.iter().find_map(|(address, holder)| {
            let shown = self.pods.get(&holder.pod)?;
            let node = holder.node?;
            if self.bound.contains(address) {
                return None;
            }
            // What a buried machine had is R's affair.
            if truth.buried.contains(&node) {
                return None;
            }
            if truth.hindered.contains_key(&node) || truth.ended(holder.pod).is_some() {
                return None;
            }
            let recorded = truth.recorded_at.get(address)?;
            let able = truth.unhindered_at.get(&node).unwrap_or(recorded);
            let (since, bound) = match shown.at {
                Some(shown_at) if shown.by_another => (shown_at, bounds.release),
                _ => (*recorded, bounds.unasked),
            };
            let stands = at.saturating_since(since.max(*recorded).max(*able));
            let late = stands > bound;
            let text = || {
                format!(
                    "{address} is still recorded for Pod {} {} s after it was plain that the Pod \
                     will not ask for it",
                    holder.pod,
                    stands.as_secs()
                )
            };
            late.then(|| (Invariant::H, address.to_string(), text()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use drydock_models::ids::NodeIndex;

    use super::*;
    use crate::oracle::Holder;

    const NODE: NodeIndex = NodeIndex(0);
    const POD: PodUid = PodUid(1);
    const BOUNDS: Bounds = Bounds {
        release: Duration::from_secs(90),
        release_former_boot: Duration::from_mins(15),
        unbound: Duration::from_mins(1),
        unasked: Duration::from_secs(700),
        converge: Duration::from_mins(20),
    };

    /// Whether the record of a Pod that never asks stands too long after so many seconds.
    fn is_late(by_another: bool, seconds: u64, between: &[Fact<'_>]) -> bool {
        let address: IpAddr = [10, 0, 0, 1].into();
        let world = [
            Observation::PodCreated { pod: POD },
            Observation::PodRunning { pod: POD },
        ];
        let told = Fact::NeverAsks {
            pod: POD,
            by_another,
        };
        let recorded = Fact::Record {
            addresses: vec![address],
            before: None,
            after: Some(Holder {
                pod: POD,
                node: Some(NODE),
            }),
        };
        let facts = [
            Fact::World(&world[0]),
            told,
            recorded,
            Fact::World(&world[1]),
        ];
        let (mut truth, mut never) = (Truth::default(), NeverAsk::default());
        let mut enter = |at: SimInstant, fact: &Fact<'_>| {
            truth.enter(at, fact);
            never.check(&truth, at, &BOUNDS, fact).is_some()
        };
        for fact in &facts {
            assert!(!enter(SimInstant::ZERO, fact));
        }
        let middle = SimInstant::ZERO + Duration::from_mins(1);
        for fact in between {
            assert!(!enter(middle, fact));
        }
        enter(
            SimInstant::ZERO + Duration::from_secs(seconds),
            &Fact::Healed,
        )
    }

    #[test]
    fn a_foreign_address_ends_the_wait_and_without_one_it_is_long() {
        assert!(!is_late(true, 80, &[]));
        assert!(is_late(true, 100, &[]));
        let bound = Fact::Bound {
            addresses: vec![[10, 0, 0, 1].into()],
        };
        assert!(!is_late(true, 100, &[bound]));
        assert!(!is_late(false, 690, &[]));
        assert!(is_late(false, 710, &[]));
    }

    #[test]
    fn the_bound_counts_from_the_return_of_the_agent_and_to_the_end_of_the_pod() {
        let was_away = [Fact::Hindered(NODE), Fact::Unhindered(NODE)];
        assert!(!is_late(true, 140, &was_away));
        assert!(is_late(true, 160, &was_away));
        assert!(!is_late(true, 160, &[Fact::Hindered(NODE)]));
        let gone = Observation::PodGone { pod: POD };
        assert!(!is_late(true, 160, &[Fact::World(&gone)]));
    }
}
