//! The operator's statement that an interface is gone (`kubectl berth release`). Two witnesses tell
//! of an end: a look at the namespace's path, and the runtime's list. The statement replaces one of
//! them that says nothing, never for both, and against none: a path that is there, or a sandbox
//! that the runtime lists, is stronger. A refusal says what would work.

use std::collections::{BTreeMap, BTreeSet};

use super::Agent;
use super::errands::ProbePurpose;
use super::memory::Hold;
use crate::core::exchange::{Attachment, PathState, Probe, Sandbox};
use crate::core::objects::{ANNOTATION_RELEASE, BerthNode, Uid};
use crate::core::report::LocalError;

/// Orders in one annotation that are obeyed; more come with the next.
const ORDERS_MAX: usize = 256;

/// Orders that wait for a witness.
#[derive(Default)]
pub(super) struct Orders {
    /// Whether the look at the path showed the end; `None` before it.
    attachments: BTreeMap<Attachment, Option<bool>>,
    /// Pods whose attachments a lost journal knew.
    lost: BTreeSet<Uid>,
}

impl Agent {
    /// Looks at the attachments that the own object's annotation names, and removes the annotation.
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
            .map(|(attachment, attached)| (attachment.clone(), attached.binding.netns.clone()))
            .collect();
        self.event(
            "ReleaseOrdered",
            format!(
                "{} Pods named, {} of their interfaces looked at",
                pods.len(),
                attachments.len()
            ),
        );
        for (attachment, path) in attachments {
            self.orders.attachments.insert(attachment.clone(), None);
            self.probe(ProbePurpose::Order(attachment), &path);
        }
        let lost = self
            .holdings
            .values()
            .filter(|holding| holding.state == Hold::Lost && pods.contains(&holding.pod))
            .map(|holding| holding.pod.clone());
        let lost: Vec<_> = lost.collect();
        if !lost.is_empty() {
            self.orders.lost.extend(lost);
            self.list_sandboxes();
        }
        let mut next = object.clone();
        next.metadata.annotations.remove(ANNOTATION_RELEASE);
        self.write_epoch(next);
    }

    /// The first witness: the path.
    pub(super) fn order_probed(&mut self, attachment: &Attachment, probe: Probe) {
        let shows_end = self.shows_end(attachment, probe);
        let Some(order) = self.orders.attachments.get_mut(attachment) else {
            return;
        };
        if matches!(probe.state, PathState::Present { .. }) {
            self.orders.attachments.remove(attachment);
            let why = "its namespace is there: end its sandbox, and the address follows";
            self.refuse_order(&attachment.to_string(), why);
        } else {
            *order = Some(shows_end);
            self.list_sandboxes();
        }
    }

    /// The second witness: the runtime, which may not be there to be asked.
    pub(super) fn carry_orders_out(&mut self, list: &Result<Vec<Sandbox>, LocalError>) {
        let looked_at: Vec<_> = self
            .orders
            .attachments
            .iter()
            .filter_map(|(attachment, shows_end)| Some((attachment.clone(), (*shows_end)?)))
            .collect();
        for (attachment, shows_end) in looked_at {
            self.orders.attachments.remove(&attachment);
            let Some(attached) = self.attachments.get(&attachment) else {
                continue;
            };
            // After a DEL only the container's own sandbox counts: the Pod may have a next one.
            let pod = attached
                .releasing
                .is_none()
                .then_some(&attached.binding.pod_uid);
            let refusal = match list {
                Ok(list) => list
                    .iter()
                    .any(|s| s.container == attachment.container || Some(&s.pod_uid) == pod)
                    .then_some("the runtime has its sandbox: remove that (crictl rmp)".to_owned()),
                Err(_) if shows_end => None,
                Err(error) => Some(format!(
                    "neither its path nor the runtime can tell: see that the agent reaches the \
                     runtime ({error}), then order again"
                )),
            };
            match refusal {
                Some(why) => self.refuse_order(&attachment.to_string(), &why),
                None => self.end_attachment(&attachment),
            }
        }
        for pod in std::mem::take(&mut self.orders.lost) {
            self.carry_lost_order_out(&pod, list);
        }
    }

    /// The journal that knew the path is lost: the runtime is the only witness.
    fn carry_lost_order_out(&mut self, pod: &Uid, list: &Result<Vec<Sandbox>, LocalError>) {
        let refusal = match list {
            Ok(list) if list.iter().any(|sandbox| sandbox.pod_uid == *pod) => {
                "the runtime has a sandbox of it: remove that (crictl rmp)".to_owned()
            }
            Ok(_) => {
                let places: Vec<_> = self
                    .holdings
                    .iter()
                    .filter(|(_, h)| h.state == Hold::Lost && h.pod == *pod)
                    .map(|(place, _)| *place)
                    .collect();
                for place in places {
                    if let Some(holding) = self.holdings.get_mut(&place) {
                        holding.state = Hold::Unbound;
                    }
                }
                self.touched_pods.insert(pod.clone());
                return;
            }
            Err(error) => format!(
                "the journal that knew its path is lost, and the runtime cannot be asked: see that \
                 the agent reaches it ({error}), then order again"
            ),
        };
        self.refuse_order(&format!("Pod {pod}"), &refusal);
    }

    fn refuse_order(&mut self, what: &str, why: &str) {
        self.event("ReleaseRefused", format!("{what}: {why}"));
    }
}
