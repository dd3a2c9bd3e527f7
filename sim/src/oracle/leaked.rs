//! Leaked addresses: what an allocator's own records hold ([`Ipam::allocated`]) and no living thing
//! may claim. One definition for all allocators. It counts; whether a leak is a breach is said
//! elsewhere.
//!
//! A record has a claim, and is not a leak, while one of these is true:
//! - Its address is on an interface of a live namespace, whoever's.
//! - A plugin of the allocator runs, ADD or DEL, for its sandbox or its Pod; one that outlived its
//!   parent counts as long as it runs.
//! - By sandbox ([`AllocatedTo::Sandbox`]): the sandbox's namespace exists and has no interface
//!   yet, or none any longer, so its ADD or its DEL is still to come or to be repeated. Of an
//!   interface that is up, only its own addresses are claimed.
//! - By Pod ([`AllocatedTo::Pod`]): the Pod exists, is not terminal and is bound, or a namespace of
//!   it exists, and no interface of it is up: its next ADD is answered with this address. Of
//!   several records of one Pod in one family, that holds for the first.
//! - By Pod to its end ([`AllocatedTo::PodToItsEnd`]): the Pod exists, or a namespace of it does.
//!   Those that no interface has are counted apart ([`kept`]).
//! - By name ([`AllocatedTo::PodName`]): the same of any Pod of the name, bound or not, since its
//!   address is chosen before it is bound.
//! - A workload object keeps it ([`AllocatedTo::Workload`]).
//!
//! So a Pod that is gone has no claim, nor has one whose sandbox took another address, nor a
//! machine that is off. Affinities, podCIDRs and a node's own addresses are not records of this
//! kind.
//!
//! [`Ipam::allocated`]: drydock_models::ipam::Ipam::allocated

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use drydock_models::ids::{ContainerId, PodUid};
use drydock_models::ipam::{Allocated, AllocatedTo};

use super::Truth;

/// Namespace and name of each Pod, gone ones too.
pub type Names = BTreeMap<PodUid, (Rc<str>, Rc<str>)>;

/// Who may claim an address.
struct Claims<'a> {
    truth: &'a Truth,
    /// Sandboxes, Pods and names whose next ADD or DEL may find the record.
    sandboxes: BTreeSet<ContainerId>,
    pods: BTreeSet<PodUid>,
    names: BTreeSet<&'a (Rc<str>, Rc<str>)>,
    /// Those of whom a plugin runs.
    sandboxes_at_work: BTreeSet<ContainerId>,
    pods_at_work: BTreeSet<PodUid>,
    names_at_work: BTreeSet<&'a (Rc<str>, Rc<str>)>,
    /// Pods that have their one claim to a record already, by family.
    served: BTreeSet<(PodUid, bool)>,
    /// Pods that exist, or of whom a namespace does.
    there: BTreeSet<PodUid>,
}

impl<'a> Claims<'a> {
    fn new(truth: &'a Truth, names: &'a Names) -> Self {
        let up: BTreeSet<ContainerId> = truth.interfaces.values().map(|i| i.container).collect();
        let pods_up: BTreeSet<PodUid> = truth.interfaces.values().map(|i| i.pod).collect();
        let namespaces = || truth.namespaces.values();
        let sandboxes = namespaces().map(|namespace| namespace.container);
        let existing = truth.pods.iter().filter(|(_, pod)| pod.ended.is_none());
        let with_namespace = || namespaces().map(|namespace| namespace.pod);
        let waits = |pod: &PodUid| !pods_up.contains(pod);
        let bound = existing.clone().filter(|(_, facts)| facts.node.is_some());
        let named = existing.map(|(pod, _)| *pod).chain(with_namespace());
        let at_work = || truth.executing.values();
        Self {
            truth,
            sandboxes: sandboxes.filter(|sandbox| !up.contains(sandbox)).collect(),
            pods: (bound.map(|(pod, _)| *pod).chain(with_namespace()))
                .filter(waits)
                .collect(),
            names: named
                .clone()
                .filter(waits)
                .filter_map(|p| names.get(&p))
                .collect(),
            sandboxes_at_work: at_work().map(|call| call.container).collect(),
            pods_at_work: at_work().map(|call| call.pod).collect(),
            names_at_work: at_work().filter_map(|c| names.get(&c.pod)).collect(),
            served: BTreeSet::new(),
            there: named.collect(),
        }
    }

    fn of(&mut self, record: &Allocated) -> bool {
        if self.truth.by_address.contains_key(&record.address) {
            return true;
        }
        match &record.holder {
            AllocatedTo::Sandbox(sandbox) => {
                self.sandboxes.contains(sandbox) || self.sandboxes_at_work.contains(sandbox)
            }
            AllocatedTo::Pod(pod) => {
                let family = record.address.is_ipv4();
                let waits = self.pods.contains(pod) && self.served.insert((*pod, family));
                waits || self.pods_at_work.contains(pod)
            }
            AllocatedTo::PodToItsEnd(pod) => self.there.contains(pod),
            AllocatedTo::PodName(namespace, name) => {
                let name = (namespace.clone(), name.clone());
                self.names.contains(&name) || self.names_at_work.contains(&name)
            }
            AllocatedTo::Workload => true,
            AllocatedTo::Former => false,
        }
    }
}

/// The records that nobody may claim, in their order.
pub fn leaked(truth: &Truth, names: &Names, records: &[Allocated]) -> Vec<Allocated> {
    let mut claims = Claims::new(truth, names);
    let unclaimed = |record: &&Allocated| !claims.of(record);
    records.iter().filter(unclaimed).cloned().collect()
}

/// How many addresses no interface has, and a record keeps to the end of its Pod.
pub fn kept(truth: &Truth, names: &Names, records: &[Allocated]) -> usize {
    let mut claims = Claims::new(truth, names);
    let is_kept = |record: &&Allocated| {
        matches!(record.holder, AllocatedTo::PodToItsEnd(_))
            && !truth.by_address.contains_key(&record.address)
            && claims.of(record)
    };
    records.iter().filter(is_kept).count()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use drydock_engine::time::SimInstant;
    use drydock_models::ids::{NetnsId, NodeIndex};
    use drydock_models::observation::Observation;

    use super::*;
    use crate::oracle::Fact;

    const NODE: NodeIndex = NodeIndex(0);
    const POD: PodUid = PodUid(1);

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn truth(facts: &[Observation]) -> Truth {
        let mut truth = Truth::default();
        for fact in facts {
            truth.enter(SimInstant::ZERO, &Fact::World(fact));
        }
        truth
    }

    /// How many of the addresses 1, 2, … are leaked, held as given.
    fn count(facts: &[Observation], holders: &[AllocatedTo]) -> usize {
        let names = Names::from([(POD, ("default".into(), "web-1".into()))]);
        let records = holders.iter().zip(1..).map(|(holder, last)| Allocated {
            address: ip(last),
            holder: holder.clone(),
        });
        let records: Vec<Allocated> = records.collect();
        leaked(&truth(facts), &names, &records).len()
    }

    fn bound() -> Vec<Observation> {
        let node = Some(NODE);
        let created = Observation::PodCreated { pod: POD };
        vec![created, Observation::PodBound { pod: POD, node }]
    }

    fn sandbox(container: u32) -> Observation {
        Observation::NetnsCreated {
            node: NODE,
            netns: NetnsId(container),
            container: ContainerId(container),
            pod: POD,
        }
    }

    fn up(container: u32, last: u8) -> Observation {
        Observation::AddressUp {
            node: NODE,
            netns: NetnsId(container),
            container: ContainerId(container),
            pod: POD,
            addresses: vec![ip(last)],
        }
    }

    #[test]
    fn a_sandbox_claims_until_its_namespace_is_gone() {
        let held = [AllocatedTo::Sandbox(ContainerId(7))];
        let mut facts = bound();
        assert_eq!(count(&facts, &held), 1, "the Pod alone claims nothing");
        facts.push(sandbox(7));
        assert_eq!(count(&facts, &held), 0, "its ADD is under way");
        let netns = NetnsId(7);
        facts.push(Observation::NetnsGone { node: NODE, netns });
        assert_eq!(count(&facts, &held), 1);
    }

    #[test]
    fn beside_the_address_of_its_interface_a_sandbox_claims_nothing() {
        let held = [7, 7].map(|container| AllocatedTo::Sandbox(ContainerId(container)));
        let mut facts = bound();
        facts.extend([sandbox(7), up(7, 1)]);
        assert_eq!(count(&facts, &held), 1);
    }

    #[test]
    fn a_bound_pod_claims_one_address_of_a_family_and_none_beside_its_interface() {
        let held = [AllocatedTo::Pod(POD), AllocatedTo::Pod(POD)];
        let mut facts = bound();
        assert_eq!(count(&facts[..1], &held), 2, "not bound yet");
        assert_eq!(count(&facts, &held), 1);
        facts.extend([sandbox(7), up(7, 2)]);
        assert_eq!(count(&facts, &held), 1);
        facts.extend([
            Observation::MachineDown { node: NODE },
            Observation::PodGone { pod: POD },
        ]);
        assert_eq!(count(&facts, &held), 2);
    }

    #[test]
    fn what_is_kept_to_the_end_of_a_pod_is_counted_apart_until_then() {
        let held = Allocated {
            address: ip(1),
            holder: AllocatedTo::PodToItsEnd(POD),
        };
        let names = Names::new();
        let mut facts = bound();
        facts.extend([sandbox(7), up(7, 2)]);
        let counts = |facts: &[Observation]| {
            let (truth, records) = (truth(facts), [held.clone()]);
            let leaked = leaked(&truth, &names, &records).len();
            (leaked, kept(&truth, &names, &records))
        };
        assert_eq!(counts(&facts), (0, 1));
        facts.extend([
            Observation::MachineDown { node: NODE },
            Observation::PodGone { pod: POD },
        ]);
        assert_eq!(counts(&facts), (1, 0));
    }

    #[test]
    fn a_name_claims_from_the_creation_of_its_pod_to_its_end() {
        let held = [AllocatedTo::PodName("default".into(), "web-1".into())];
        let mut facts = bound();
        assert_eq!(count(&[], &held), 1, "no such Pod");
        assert_eq!(count(&facts[..1], &held), 0, "not bound yet");
        facts.push(Observation::PodGone { pod: POD });
        assert_eq!(count(&facts, &held), 1);
    }

    #[test]
    fn what_a_workload_keeps_is_no_leak_and_what_was_there_before_is_one() {
        assert_eq!(count(&[], &[AllocatedTo::Workload]), 0);
        assert_eq!(count(&[], &[AllocatedTo::Former]), 1);
    }
}
