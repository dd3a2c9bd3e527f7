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
