//! The operator's word that an interface is gone (`kubectl berth release`): it stands in for what a
//! look at the path cannot show, and for nothing else. A path that is there, or a sandbox that the
//! runtime lists, is stronger than the word.

use std::collections::BTreeSet;

use super::{Agent, Hold};
use crate::core::objects::{ANNOTATION_RELEASE, BerthNode, Uid};

/// Orders in one annotation that are obeyed; more come with the next.
const ORDERS_MAX: usize = 256;

impl Agent {
    /// Has the attachments looked at that the own object's annotation names, and takes it away.
    pub(super) fn obey_orders(&mut self, object: &BerthNode) {
        let Some(text) = object.metadata.annotations.get(ANNOTATION_RELEASE) else {
            return;
        };
        let pods: BTreeSet<Uid> = text
            .split(',')
            .map(str::trim)
            .filter(|uid| !uid.is_empty())
            .take(ORDERS_MAX)
            .map(Uid::new)
            .collect();
        let attachments: Vec<_> = self
            .attachments
            .iter()
            .filter(|(_, attached)| pods.contains(&attached.binding.pod_uid))
            .map(|(attachment, _)| attachment.clone())
            .collect();
        let known = attachments.len();
        let lost = self
            .holdings
            .values()
            .any(|holding| holding.state == Hold::Lost && pods.contains(&holding.pod));
        self.sweep.order(attachments);
        self.sweep_timer();
        if lost {
            self.ask_runtime();
        }
        self.event(
            "ReleaseOrdered",
            format!(
                "{} Pods named, {known} of their interfaces looked at",
                pods.len()
            ),
        );
        let mut next = object.clone();
        next.metadata.annotations.remove(ANNOTATION_RELEASE);
        self.write_epoch(next);
    }
}
