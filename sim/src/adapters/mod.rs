//! Where allocators meet the simulated cluster: the only place that sees both. One file per
//! allocator, and one table of all.

pub mod adapter;
pub mod berth;
mod calico;
mod cilium;
mod instant;
mod kube_ovn;
mod pools;
mod spiderpool;
mod whereabouts;

pub use self::berth::FENCED;
pub use self::berth::adapter::{BERTH, mutants};
pub use self::berth::objects::never_asks;
pub use self::instant::INSTANT;

use self::adapter::Adapter;
use crate::subject::{Allocator, Subject};

/// Every allocator, in the order of lists and reports.
static ALLOCATORS: [&dyn Adapter; 7] = [
    &berth::adapter::BerthAdapter,
    &calico::CalicoAdapter,
    &cilium::CiliumAdapter,
    &instant::InstantAdapter,
    &spiderpool::SpiderpoolAdapter,
    &whereabouts::WhereaboutsAdapter,
    &kube_ovn::KubeOvnAdapter,
];

/// Every allocator, in the order of lists and reports.
pub fn all() -> impl Iterator<Item = &'static dyn Adapter> {
    ALLOCATORS.into_iter()
}

/// The names of all.
pub fn allocators() -> impl Iterator<Item = Allocator> {
    all().map(Adapter::allocator)
}

/// What an allocator is.
pub fn of(allocator: Allocator) -> &'static dyn Adapter {
    all()
        .find(|adapter| adapter.allocator() == allocator)
        .expect("a name is made by an adapter of the table")
}

/// The allocator of a name.
pub fn named(name: &str) -> Option<Allocator> {
    allocators().find(|allocator| allocator.name() == name)
}

/// The subject that a plan names: an allocator, or `berth+MUTANT`.
pub fn subject(name: &str) -> Option<Subject> {
    let (allocator, mutant) = match name.split_once('+') {
        Some((allocator, mutant)) => (allocator, Some(mutant.to_owned())),
        None => (name, None),
    };
    let allocator = named(allocator)?;
    Some(Subject { allocator, mutant })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_allocator_has_a_name_of_its_own_and_is_found_by_it() {
        let names: BTreeSet<&str> = allocators().map(Allocator::name).collect();
        assert_eq!(names.len(), ALLOCATORS.len());
        for allocator in allocators() {
            assert_eq!(named(allocator.name()), Some(allocator));
            assert_eq!(of(allocator).allocator(), allocator);
        }
        assert_eq!(named("nobody"), None);
    }
}
