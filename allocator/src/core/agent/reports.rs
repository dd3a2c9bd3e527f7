//! What an agent tells people: counters, and Events on its node or on a Pod. Nothing is decided by
//! it.

use super::Agent;
use super::boundary::Output;
use crate::core::exchange::PodReference;
use crate::core::objects::Uid;
use crate::core::report::{Metric, Subject};

/// The counters that an agent moves, with what they count.
pub const COUNTERS: [(&str, &str); 14] = [
    ("berth_add_failed_total", "ADDs answered with a failure"),
    (
        "berth_add_refused_total",
        "ADDs refused at once: too late or too many",
    ),
    (
        "berth_displaced_total",
        "Attachments whose address another machine holds",
    ),
    ("berth_fences_total", "Writes that made an earlier one dead"),
    (
        "berth_journal_failures_total",
        "Entries that the journal did not take",
    ),
    (
        "berth_journal_damaged_total",
        "Journals with damage in them",
    ),
    (
        "berth_pods_removed_total",
        "Displaced Pods that the agent deleted",
    ),
    (
        "berth_pool_exhausted_total",
        "Searches that found no free address",
    ),
    (
        "berth_pool_fallbacks_total",
        "Claims that went on to the next admissible pool",
    ),
    (
        "berth_reservations_excluded_total",
        "Reserved ordinals given back because a rule excludes their Pod now",
    ),
    (
        "berth_reservations_unasked_total",
        "Reservations given back because no ADD asked for them",
    ),
    (
        "berth_takeovers_total",
        "Reservations that a waiting ADD took over",
    ),
    (
        "berth_unknown_outcomes_total",
        "Block writes without an answer",
    ),
    (
        "berth_young_addresses_total",
        "Times that a cool-down was waived",
    ),
];

impl Agent {
    pub(super) fn count(&mut self, name: &'static str) {
        debug_assert!(
            COUNTERS.iter().any(|(known, _)| *known == name),
            "{name} is described"
        );
        self.out.push(Output::Metric(Metric {
            name,
            label: String::new(),
            increment: 1,
        }));
    }

    pub(super) fn event(&mut self, reason: &'static str, message: String) {
        self.out.push(Output::Event {
            subject: Subject::Node,
            reason,
            message,
        });
    }

    /// An Event on a Pod of this node.
    pub(super) fn pod_event(&mut self, uid: &Uid, reason: &'static str, message: String) {
        let name = self.pods.get(uid).and_then(|pod| pod.name.split_once('/'));
        let subject = match name {
            Some((namespace, name)) => Subject::Pod(PodReference {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                uid: Some(uid.clone()),
            }),
            None => Subject::Node,
        };
        self.out.push(Output::Event {
            subject,
            reason,
            message,
        });
    }
}
