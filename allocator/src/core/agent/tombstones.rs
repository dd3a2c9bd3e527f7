//! DELs that met no answered ADD. An ADD of the same container, interface and namespace that comes
//! after its DEL is late: its caller is gone. At the bound the oldest is forgotten; then only the
//! look at the namespace's path refuses such an ADD.

use std::collections::{BTreeSet, VecDeque};

use crate::core::exchange::Attachment;

pub(super) struct Tombstones {
    order: VecDeque<(Attachment, String)>,
    set: BTreeSet<(Attachment, String)>,
    count_max: usize,
}

impl Tombstones {
    pub(super) fn new(count_max: usize) -> Self {
        Self {
            order: VecDeque::new(),
            set: BTreeSet::new(),
            count_max,
        }
    }

    /// Whether it is new.
    pub(super) fn insert(&mut self, attachment: &Attachment, netns: &str) -> bool {
        let entry = (attachment.clone(), netns.to_owned());
        if !self.set.insert(entry.clone()) {
            return false;
        }
        self.order.push_back(entry);
        while self.order.len() > self.count_max {
            if let Some(oldest) = self.order.pop_front() {
                self.set.remove(&oldest);
            }
        }
        true
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn contains(&self, attachment: &Attachment, netns: &str) -> bool {
        self.set.contains(&(attachment.clone(), netns.to_owned()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Attachment, String)> {
        self.order.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::agent::Policy;

    #[test]
    fn at_the_bound_the_oldest_tombstone_is_forgotten() {
        let count_max = Policy::STANDARD.tombstone_count_max;
        let mut tombstones = Tombstones::new(count_max);
        let of = |index: usize| Attachment {
            container: format!("c{index}"),
            interface: "eth0".into(),
        };
        for index in 0..=count_max {
            assert!(tombstones.insert(&of(index), "/run/netns/x"));
            assert!(!tombstones.insert(&of(index), "/run/netns/x"), "once");
        }
        assert_eq!(tombstones.len(), count_max);
        assert!(!tombstones.contains(&of(0), "/run/netns/x"));
        assert!((1..=count_max).all(|i| tombstones.contains(&of(i), "/run/netns/x")));
        assert!(
            !tombstones.contains(&of(1), "/run/netns/y"),
            "another namespace"
        );
    }
}
