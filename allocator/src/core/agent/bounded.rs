//! A set that forgets its oldest member at a bound: what an agent remembers only so that a late
//! word is not taken for an early one.

use std::collections::{BTreeSet, VecDeque};

/// Shape: in the order of insertion. Units: members.
pub(super) struct BoundedSet<T> {
    order: VecDeque<T>,
    set: BTreeSet<T>,
    count_max: usize,
}

impl<T: Clone + Ord> BoundedSet<T> {
    pub(super) fn new(count_max: usize) -> Self {
        Self {
            order: VecDeque::new(),
            set: BTreeSet::new(),
            count_max,
        }
    }

    /// Whether it is new.
    pub(super) fn insert(&mut self, member: T) -> bool {
        if !self.set.insert(member.clone()) {
            return false;
        }
        self.order.push_back(member);
        if self.order.len() > self.count_max {
            let oldest = self.order.pop_front().expect("it has just got a member");
            assert!(self.set.remove(&oldest), "what is in order is in the set");
        }
        assert_eq!(self.order.len(), self.set.len(), "order and set agree");
        assert!(self.set.len() <= self.count_max, "the bound holds");
        true
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn contains(&self, member: &T) -> bool {
        self.set.contains(member)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.order.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::agent::Policy;

    fn check(count_max: usize) {
        let mut set = BoundedSet::new(count_max);
        for member in 0..=count_max {
            assert!(set.insert(member));
            assert!(!set.insert(member), "once");
        }
        assert_eq!(set.len(), count_max);
        assert!(!set.contains(&0));
        assert!((1..=count_max).all(|member| set.contains(&member)));
        assert!(set.iter().copied().eq(1..=count_max), "in order");
    }

    #[test]
    fn at_the_bound_the_oldest_tombstone_is_forgotten() {
        check(Policy::STANDARD.tombstone_count_max);
    }

    #[test]
    fn at_the_bound_the_oldest_end_is_forgotten() {
        check(Policy::STANDARD.ended_count_max);
    }
}
