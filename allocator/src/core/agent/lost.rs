//! The journal is lost although the machine did not reboot: the own records say who holds what, but
//! not which container. All count as bound until the runtime says otherwise.

use std::collections::{BTreeMap, BTreeSet};

use super::{Agent, Hold, Place, Timer};
use crate::core::exchange::{Attachment, DelRequest, Sandbox};
use crate::core::journal::{Binding, Entry};
use crate::core::objects::Uid;

/// What is known in lost mode.
#[derive(Default)]
pub(super) struct Lost {
    /// There was no journal of this boot, or one that said so.
    suspected: bool,
    active: bool,
    /// Pods by container, as the runtime listed them.
    pods: BTreeMap<String, Uid>,
    /// Pods with a sandbox in the last list; `None` before it.
    last: Option<BTreeSet<Uid>>,
    /// Pods with a sandbox in the one before, too.
    before: Option<BTreeSet<Uid>>,
}

impl Lost {
    /// Whether own records without a holding count as bound.
    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    /// Whether the journal must say so.
    pub(super) fn was_entered(&self) -> bool {
        self.active || self.before.is_some()
    }

    /// Whether the runtime, in two lists in a row, had no sandbox of the Pod.
    pub(super) fn is_unbound(&self, pod: &Uid) -> bool {
        [&self.last, &self.before]
            .into_iter()
            .all(|list| list.as_ref().is_some_and(|list| !list.contains(pod)))
    }

    pub(super) fn suspect(&mut self) {
        self.suspected = true;
    }

    pub(super) fn is_suspected(&self) -> bool {
        self.suspected
    }

    /// Whether this container is the only sandbox of the Pod.
    pub(super) fn is_only_sandbox(&self, container: &str, pod: &Uid) -> bool {
        let mut of_pod = self.pods.iter().filter(|(_, other)| *other == pod);
        of_pod.next().is_some_and(|(first, _)| first == container) && of_pod.next().is_none()
    }
}

impl Agent {
    pub(super) fn enter_lost_mode(&mut self) {
        self.lost.active = true;
        self.journal(&Entry::Lost);
        self.event(
            "JournalLost",
            "all records of this boot count as bound".to_owned(),
        );
        self.list_sandboxes();
    }

    /// Whether the runtime must be asked again.
    fn awaits_sandboxes(&self) -> bool {
        self.lost.active
            || self
                .holdings
                .values()
                .any(|holding| holding.state == Hold::Lost)
    }

    /// The runtime's list, or its failure. A Pod that has no sandbox in two lists in a row, some
    /// time apart, has no namespace: its record is a reservation.
    pub(super) fn lost_listed(&mut self, list: Option<&[Sandbox]>) {
        if !self.lost.suspected || !self.awaits_sandboxes() {
            return;
        }
        let at = self.now + self.config.policy.sweep;
        self.arm(Timer::Sandboxes, at);
        let Some(list) = list else { return };
        self.lost.pods = list
            .iter()
            .map(|sandbox| (sandbox.container.clone(), sandbox.pod_uid.clone()))
            .collect();
        let with = list.iter().map(|sandbox| sandbox.pod_uid.clone()).collect();
        self.lost.before = self.lost.last.replace(with);
        if self.lost.before.is_none() || !self.is_settled() {
            return;
        }
        let unbound: Vec<Place> = self
            .holdings
            .iter()
            .filter(|(_, h)| h.state == Hold::Lost && self.lost.is_unbound(&h.pod))
            .map(|(place, _)| *place)
            .collect();
        for place in unbound {
            if let Some(holding) = self.holdings.get_mut(&place) {
                holding.state = Hold::Unbound;
                let pod = holding.pod.clone();
                self.touched_pods.insert(pod);
            }
        }
        self.lost.active = false;
    }

    /// A DEL of a container that the lost journal knew: the runtime's list says whose it was.
    pub(super) fn adopt_lost_del(&mut self, request: &DelRequest) {
        let Some(pod) = self.lost.pods.get(&request.attachment.container).cloned() else {
            return;
        };
        if !self
            .lost
            .is_only_sandbox(&request.attachment.container, &pod)
        {
            return;
        }
        let Some(place) = self.lost_place(&pod) else {
            return;
        };
        self.attach_lost(place, &request.attachment, &request.netns);
    }

    /// The place of a Pod whose attachment is not known.
    pub(super) fn lost_place(&self, pod: &Uid) -> Option<Place> {
        let places = &self.pods.get(pod)?.places;
        places.iter().copied().find(|place| {
            self.holdings
                .get(place)
                .is_some_and(|h| h.state == Hold::Lost)
        })
    }

    fn attach_lost(&mut self, place: Place, attachment: &Attachment, netns: &str) {
        let now = self.now;
        let Some(pool) = self.pools.get(&place.block.pool) else {
            return;
        };
        let Some(geometry) = &pool.pool else { return };
        let ordinal = place.block.index * u64::from(geometry.block_size) + u64::from(place.ordinal);
        let Some(answer) = geometry.allocation(ordinal) else {
            return;
        };
        let Some(holding) = self.holdings.get_mut(&place) else {
            return;
        };
        holding.state = Hold::Attached(attachment.clone());
        let binding = Binding {
            attachment: attachment.clone(),
            netns: netns.to_owned(),
            mount: None,
            pod_uid: holding.pod.clone(),
            pod_name: holding.pod_name.clone(),
            pool: pool.name.clone(),
            index: place.block.index,
            ordinal: place.ordinal,
            answer,
            at: now,
        };
        let attached = super::Attached {
            binding: binding.clone(),
            place,
            releasing: None,
        };
        self.attachments.insert(attachment.clone(), attached);
        self.journal(&Entry::Bound(Box::new(binding)));
    }
}
