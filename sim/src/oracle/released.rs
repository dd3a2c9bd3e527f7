//! R. Claim: from the end of a namespace, with its agent able to act, its addresses are free (or
//! another's) within the published bound; the same for a reservation whose Pod ended without a
//! namespace. Watches: ends of namespaces and Pods, records, hindrances. Suspended: while the
//! agent of the machine is down or cut off or lacks what it relies on, and while the Pod is still
//! wanted there (its next sandbox gets the same address). A machine that is off for good owes all
//! that it had, within the bound of a burial, from the operator's word on. Where an end cannot be
//! told from a path, the runtime's word tells it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use drydock_engine::time::SimInstant;
use drydock_models::observation::Observation;

use super::{Bounds, Breach, Fact, Holder, Invariant, Truth};

/// A release that is owed.
#[derive(Clone, Copy, Debug)]
struct Debt {
    holder: Holder,
    since: SimInstant,
    /// The record is of an earlier boot of its machine: it waits for a quarantine by design.
    former: bool,
}

/// Addresses on their way to be free: since when the promise runs.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    since: BTreeMap<IpAddr, Debt>,
    longest: Duration,
}

impl Pending {
    /// Enters a fact; finds the first address whose time is over.
    pub fn check(
        &mut self,
        truth: &Truth,
        at: SimInstant,
        bounds: &Bounds,
        fact: &Fact<'_>,
    ) -> Option<Breach> {
        match fact {
            Fact::World(Observation::PodGone { pod } | Observation::PodTerminal { pod }) => {
                self.start(truth, at, |holder| holder.pod == *pod);
            }
            Fact::World(Observation::NetnsGone { node, .. }) => {
                self.start(truth, at, |holder| holder.node == Some(*node));
            }
            Fact::World(Observation::MachineUp { node, .. }) => {
                for (address, debt) in &mut self.since {
                    debt.former |= truth.is_of_former_boot(*address, &debt.holder);
                }
                self.start(truth, at, |holder| holder.node == Some(*node));
            }
            Fact::Unhindered(node) | Fact::Buried(node) => {
                self.start(truth, at, |h| h.node == Some(*node));
            }
            Fact::Hindered(node) => self.since.retain(|_, debt| debt.holder.node != Some(*node)),
            Fact::Record {
                addresses, after, ..
            } => {
                for address in addresses {
                    if let Some(debt) = self.since.get(address)
                        && after.is_none_or(|after| after.pod != debt.holder.pod)
                    {
                        if !debt.former {
                            self.longest = self.longest.max(at.saturating_since(debt.since));
                        }
                        self.since.remove(address);
                    }
                }
            }
            Fact::World(_)
            | Fact::Executed(_)
            | Fact::Exited(_)
            | Fact::Healed
            | Fact::Bound { .. }
            | Fact::NeverAsks { .. }
            | Fact::Replaced { .. } => {}
        }
        if matches!(fact, Fact::World(Observation::PodRunning { .. })) {
            return None;
        }
        self.overdue(truth, at, bounds)
    }

    /// Starts the clock for the recorded addresses that nobody needs anymore.
    fn start(&mut self, truth: &Truth, at: SimInstant, of: impl Fn(&Holder) -> bool) {
        for (address, holder) in truth.records.iter().filter(|(_, holder)| of(holder)) {
            if is_owed(truth, *address, holder) {
                let is_buried = holder.node.is_some_and(|node| truth.buried.contains(&node));
                let former = is_buried || truth.is_of_former_boot(*address, holder);
                let debt = Debt {
                    holder: *holder,
                    since: at,
                    former,
                };
                self.since.entry(*address).or_insert(debt);
            }
        }
    }

    /// The first address that is overdue now.
    pub fn overdue(&self, truth: &Truth, at: SimInstant, bounds: &Bounds) -> Option<Breach> {
        self.since.iter().find_map(|(address, debt)| {
            let bound = if debt.former {
                bounds.release_former_boot
            } else {
                bounds.release
            };
            let owed_for = at.saturating_since(debt.since);
            if owed_for <= bound || !is_owed(truth, *address, &debt.holder) {
                return None;
            }
            let text = format!(
                "{address} is still recorded for Pod {} {} s after nobody needed it",
                debt.holder.pod,
                owed_for.as_secs()
            );
            Some((Invariant::R, address.to_string(), text))
        })
    }

    /// Whether nobody is owed a release anymore.
    pub fn is_empty(&self, truth: &Truth) -> bool {
        !self
            .since
            .iter()
            .any(|(address, debt)| is_owed(truth, *address, &debt.holder))
    }

    /// Longest time that a release took.
    pub fn longest(&self) -> Duration {
        self.longest
    }
}

/// The Pod is over, or lost its machine for good or by a restart, no interface has the address, and
/// who is to free it can act. After a restart the Pod's next sandbox has another address.
fn is_owed(truth: &Truth, address: IpAddr, holder: &Holder) -> bool {
    let Some(node) = holder.node else {
        return false;
    };
    let is_over = truth.buried.contains(&node)
        || truth.is_of_former_boot(address, holder)
        || truth.ended(holder.pod).is_some();
    let is_able = !truth.hindered.contains_key(&node);
    is_over && !truth.by_address.contains_key(&address) && is_able
}

#[cfg(test)]
mod tests {
    use drydock_models::ids::{ContainerId, NetnsId, NodeIndex, PodUid};

    use super::*;

    const NODE: NodeIndex = NodeIndex(0);
    const POD: PodUid = PodUid(1);
    const BOUNDS: Bounds = Bounds {
        release: Duration::from_secs(90),
        release_former_boot: Duration::from_mins(15),
        unbound: Duration::from_mins(1),
        unasked: Duration::from_secs(690),
        converge: Duration::from_mins(20),
    };

    /// Whether an address is overdue 100 s after its sandbox ended without a DEL.
    fn is_overdue(between: &[Fact<'_>], after: &[Fact<'_>]) -> bool {
        let address: IpAddr = [10, 0, 0, 1].into();
        let node = Some(NODE);
        let (netns, container) = (NetnsId(7), ContainerId(7));
        let holder = Holder { pod: POD, node };
        let world = [
            Observation::PodCreated { pod: POD },
            Observation::PodBound { pod: POD, node },
            Observation::IpamAddEnded {
                node: NODE,
                container,
                pod: POD,
                result: Ok(vec![address]),
            },
        ];
        let ends = [
            Observation::PodGone { pod: POD },
            Observation::NetnsGone { node: NODE, netns },
        ];
        let recorded = Fact::Record {
            addresses: vec![address],
            before: None,
            after: Some(holder),
        };
        let facts = world.iter().map(Fact::World);
        let facts = std::iter::once(recorded).chain(facts);
        let facts = facts.chain(between.iter().cloned());
        let facts = facts.chain(ends.iter().map(Fact::World));
        let (mut truth, mut pending) = (Truth::default(), Pending::default());
        for fact in facts.chain(after.iter().cloned()) {
            truth.enter(SimInstant::ZERO, &fact);
            pending.check(&truth, SimInstant::ZERO, &BOUNDS, &fact);
        }
        let later = SimInstant::ZERO + Duration::from_secs(100);
        pending.overdue(&truth, later, &BOUNDS).is_some()
    }

    #[test]
    fn an_address_is_owed_from_the_end_of_its_namespace_while_its_agent_can_act() {
        assert!(is_overdue(&[], &[]));
        assert!(!is_overdue(&[Fact::Hindered(NODE)], &[]));
        assert!(is_overdue(&[Fact::Hindered(NodeIndex(1))], &[]));
        let returned = [Fact::Unhindered(NODE)];
        assert!(is_overdue(&[Fact::Hindered(NODE)], &returned));
    }

    /// Checks that the only address, whose Pod lives on under another, is owed from the end of
    /// these facts within the bound of a burial.
    fn is_owed_as_a_burial(facts: &[Fact<'_>]) {
        let (mut truth, mut pending) = (Truth::default(), Pending::default());
        for (second, fact) in (0..).zip(facts) {
            let at = SimInstant::ZERO + Duration::from_secs(second);
            truth.enter(at, fact);
            pending.check(&truth, at, &BOUNDS, fact);
        }
        let end = SimInstant::ZERO + Duration::from_secs(facts.len() as u64 - 1);
        let overdue_after = |after: Duration| {
            let at = end + after;
            pending.overdue(&truth, at, &BOUNDS).is_some()
        };
        assert!(!pending.is_empty(&truth));
        assert!(!overdue_after(BOUNDS.release_former_boot));
        let later = BOUNDS.release_former_boot + Duration::from_secs(1);
        assert!(overdue_after(later));
    }

    fn record() -> Fact<'static> {
        let node = Some(NODE);
        Fact::Record {
            addresses: vec![[10, 0, 0, 1].into()],
            before: None,
            after: Some(Holder { pod: POD, node }),
        }
    }

    /// A replaced machine's Pods live on elsewhere, under other addresses.
    #[test]
    fn a_buried_machine_owes_every_address_within_the_bound_of_a_burial() {
        let created = Observation::PodCreated { pod: POD };
        is_owed_as_a_burial(&[
            record(),
            Fact::World(&created),
            Fact::Hindered(NODE),
            Fact::Buried(NODE),
        ]);
    }

    /// The Pods of a machine that booted again live on there, under other addresses.
    #[test]
    fn a_boot_owes_what_was_recorded_before_it_within_the_bound_of_a_burial() {
        let created = Observation::PodCreated { pod: POD };
        let down = Observation::MachineDown { node: NODE };
        let up = Observation::MachineUp { node: NODE };
        let before = [record(), Fact::World(&created)];
        let boot = [Fact::World(&down), Fact::World(&up)];
        is_owed_as_a_burial(&[before.clone(), boot.clone()].concat());
        let hindered = [Fact::Hindered(NODE)];
        let able = [Fact::Unhindered(NODE)];
        is_owed_as_a_burial(&[&before[..], &hindered, &boot, &able].concat());
    }
}
