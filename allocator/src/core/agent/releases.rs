//! Attachments: answered ADDs, and how they end. DEL is not the end of a namespace; an address is
//! free when its namespace is gone, or so long after the last DEL that nobody can still use it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Agent, BlockKey, Hold, Output, Phase, Place, ProbePurpose, Timer};
use crate::core::exchange::{
    Attachment, DelRequest, Failure, GcRequest, PathState, Probe, RequestId, Response, Sandbox,
};
use crate::core::journal::{Binding, Entry};
use crate::core::time::BootTime;
use crate::ports::{LocalError, SpoolEntry};

/// An answered ADD.
pub(super) struct Attached {
    pub(super) binding: Binding,
    pub(super) place: Place,
    pub(super) releasing: Option<Releasing>,
}

/// A DEL was seen.
pub(super) struct Releasing {
    last_del: BootTime,
    probe_count: u32,
    /// The last look showed the namespace's path, so the interface may be up.
    is_present: bool,
}

/// Attachments that ended, so that a repeated DEL does not look like an early one. Bounded: the
/// oldest is forgotten, and a DEL of it then leaves a tombstone, which refuses only an ADD of the
/// same container in the same namespace path.
pub(super) struct Ended {
    order: VecDeque<Attachment>,
    set: BTreeSet<Attachment>,
    count_max: usize,
}

impl Ended {
    pub(super) fn new(count_max: usize) -> Self {
        Self {
            order: VecDeque::new(),
            set: BTreeSet::new(),
            count_max,
        }
    }

    pub(super) fn insert(&mut self, attachment: Attachment) {
        if self.set.insert(attachment.clone()) {
            self.order.push_back(attachment);
        }
        while self.order.len() > self.count_max {
            if let Some(oldest) = self.order.pop_front() {
                self.set.remove(&oldest);
            }
        }
    }

    fn contains(&self, attachment: &Attachment) -> bool {
        self.set.contains(attachment)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Attachment> {
        self.order.iter()
    }
}

/// A look at the paths of all attachments, to find ends that no DEL told of.
#[derive(Default)]
pub(super) struct Sweep {
    pending: BTreeSet<Attachment>,
    gone: BTreeSet<Attachment>,
    present_count: usize,
    /// Attachments that the runtime's GC call did not list.
    unlisted: BTreeSet<Attachment>,
    /// Ended but for the runtime's word.
    suspects: BTreeSet<Attachment>,
    /// DEL was long ago, the path is still there: ended unless the runtime has the sandbox.
    overdue: BTreeSet<Attachment>,
}

impl Agent {
    pub(super) fn is_releasing(&self, attachment: &Attachment) -> bool {
        self.attachments
            .get(attachment)
            .is_some_and(|attached| attached.releasing.is_some())
    }

    /// DEL. Never fails on missing state, and waits for nothing.
    pub(super) fn del(&mut self, request: &DelRequest, probe: Option<Probe>) {
        let attachment = &request.attachment;
        self.cancel_adds_of(attachment);
        if !self.attachments.contains_key(attachment) {
            self.adopt_lost_del(request);
        }
        let now = self.now;
        let Some(attached) = self.attachments.get_mut(attachment) else {
            let early = !request.netns.is_empty() && !self.ended.contains(attachment);
            if early && self.tombstones.insert(attachment, &request.netns) {
                self.journal(&Entry::Tombstone {
                    attachment: attachment.clone(),
                    netns: request.netns.clone(),
                });
            }
            return;
        };
        match &mut attached.releasing {
            Some(releasing) if request.netns.is_empty() => {
                releasing.probe_count = 0;
            }
            Some(releasing) => releasing.last_del = now,
            releasing => {
                *releasing = Some(Releasing {
                    last_del: now,
                    probe_count: 0,
                    is_present: false,
                });
            }
        }
        if let Some(releasing) = &mut attached.releasing
            && let Some(probe) = probe
        {
            releasing.is_present = matches!(probe.state, PathState::Present { .. });
        }
        let place = attached.place;
        self.journal(&Entry::Releasing {
            attachment: attachment.clone(),
            at: now,
        });
        self.touched_blocks.insert(place.block);
        #[cfg(feature = "mutants")]
        if self.is_mutant(crate::core::Mutant::FreeAtDel) {
            self.end_attachment(attachment);
            return;
        }
        if let Some(probe) = probe
            && self.shows_end(attachment, probe)
        {
            self.end_attachment(attachment);
            return;
        }
        self.touch_pod_of(attachment);
        self.await_end(attachment);
    }

    fn touch_pod_of(&mut self, attachment: &Attachment) {
        if let Some(attached) = self.attachments.get(attachment) {
            self.touched_pods.insert(attached.binding.pod_uid.clone());
        }
    }

    /// When a releasing attachment's address is free unless its path is there and the runtime has its
    /// sandbox.
    fn released_by(&self, attached: &Attached) -> Option<BootTime> {
        let releasing = attached.releasing.as_ref()?;
        let policy = &self.config.policy;
        let young = releasing.last_del.since(attached.binding.at) < policy.young_add;
        let extra = if young {
            policy.release_extra
        } else {
            core::time::Duration::ZERO
        };
        Some(releasing.last_del + policy.release_after_del + extra)
    }

    fn await_end(&mut self, attachment: &Attachment) {
        let entropy = self.draw();
        let Some(attached) = self.attachments.get(attachment) else {
            return;
        };
        let Some(by) = self.released_by(attached) else {
            return;
        };
        let count = attached
            .releasing
            .as_ref()
            .map_or(0, |releasing| releasing.probe_count);
        let pause = self.config.policy.release_probe.pause(count, entropy);
        let next = self.now + pause;
        let at = if by <= self.now { next } else { by.min(next) };
        self.arm(Timer::Release(attachment.clone()), at);
    }

    pub(super) fn release_timer(&mut self, attachment: &Attachment) {
        let Some(attached) = self.attachments.get(attachment) else {
            return;
        };
        let Some(by) = self.released_by(attached) else {
            return;
        };
        let is_present = attached
            .releasing
            .as_ref()
            .is_some_and(|releasing| releasing.is_present);
        if by <= self.now {
            if !is_present {
                self.end_attachment(attachment);
                return;
            }
            // The plugin that called us deletes the link after our answer, and may have failed to,
            // or be stuck before its next try for as long as the apiserver is away: the address is
            // in use until the runtime, too, is done with the sandbox.
            self.sweep.overdue.insert(attachment.clone());
            self.list_sandboxes();
        }
        if let Some(attached) = self.attachments.get_mut(attachment)
            && let Some(releasing) = &mut attached.releasing
        {
            releasing.probe_count += 1;
            let path = attached.binding.netns.clone();
            self.probe(ProbePurpose::Release(attachment.clone()), &path);
        }
        self.await_end(attachment);
    }

    /// A path vanished somewhere: look at all that are being released.
    pub(super) fn probe_releasing(&mut self) {
        let releasing: Vec<_> = self
            .attachments
            .iter()
            .filter(|(_, attached)| attached.releasing.is_some())
            .map(|(attachment, attached)| (attachment.clone(), attached.binding.netns.clone()))
            .collect();
        for (attachment, path) in releasing {
            self.probe(ProbePurpose::Release(attachment), &path);
        }
    }

    /// Whether the look shows that the namespace ended: through the mount that showed it present
    /// at ADD, with the canary in sight.
    pub(super) fn shows_end(&self, attachment: &Attachment, probe: Probe) -> bool {
        let PathState::Gone { mount } = probe.state else {
            return false;
        };
        probe.canary
            && self
                .attachments
                .get(attachment)
                .is_some_and(|attached| attached.binding.mount == Some(mount))
    }

    pub(super) fn release_probed(&mut self, attachment: &Attachment, probe: Probe) {
        if self.is_releasing(attachment) && self.shows_end(attachment, probe) {
            self.end_attachment(attachment);
        } else if let Some(attached) = self.attachments.get_mut(attachment)
            && let Some(releasing) = &mut attached.releasing
        {
            releasing.is_present = matches!(probe.state, PathState::Present { .. });
        }
    }

    /// The namespace is gone, or taken to be: the ordinal follows its Pod again.
    pub(super) fn end_attachment(&mut self, attachment: &Attachment) {
        let Some(attached) = self.attachments.remove(attachment) else {
            return;
        };
        self.ended.insert(attachment.clone());
        self.journal(&Entry::Ended {
            attachment: attachment.clone(),
        });
        self.disarm(&Timer::Release(attachment.clone()));
        if let Some(holding) = self.holdings.get_mut(&attached.place)
            && holding.state == Hold::Attached(attachment.clone())
        {
            holding.state = Hold::Unbound;
        }
        self.touched_pods.insert(attached.binding.pod_uid);
    }

    /// The journal's attachments become holdings.
    pub(super) fn restore_attachment(&mut self, binding: Binding, last_del: Option<BootTime>) {
        let Some(&pool) = self.pool_ids.get(&binding.pool) else {
            return;
        };
        let place = Place {
            block: BlockKey {
                pool,
                index: binding.index,
            },
            ordinal: binding.ordinal,
        };
        let attachment = binding.attachment.clone();
        self.put_holding(
            place,
            super::Holding {
                pod: binding.pod_uid.clone(),
                pod_name: binding.pod_name.clone(),
                state: Hold::Attached(attachment.clone()),
                reservation: String::new(),
            },
        );
        let releasing = last_del.map(|last_del| Releasing {
            last_del,
            probe_count: 0,
            // Unknown to this process: taken to be there until a look says otherwise.
            is_present: true,
        });
        self.attachments.insert(
            attachment.clone(),
            Attached {
                binding,
                place,
                releasing,
            },
        );
        if last_del.is_some() {
            self.await_end(&attachment);
        }
        self.arm(Timer::Sweep, self.now + self.config.policy.sweep);
    }

    /// The last DEL of each releasing attachment, for the journal.
    pub(super) fn last_del(attached: &Attached) -> Option<BootTime> {
        attached
            .releasing
            .as_ref()
            .map(|releasing| releasing.last_del)
    }

    fn is_sweep_candidate(&self, attachment: &Attachment, attached: &Attached) -> bool {
        attached.releasing.is_none()
            && (self.sweep.unlisted.contains(attachment)
                || self
                    .pods
                    .get(&attached.binding.pod_uid)
                    .is_none_or(|pod| pod.seen.is_none()))
    }

    /// Looks for ends that no DEL told of, if some Pod with an attachment is gone.
    pub(super) fn sweep_timer(&mut self) {
        if !self.sweep.pending.is_empty() {
            return;
        }
        let wanted = self
            .attachments
            .iter()
            .any(|(attachment, attached)| self.is_sweep_candidate(attachment, attached));
        if !wanted {
            return;
        }
        let all: BTreeMap<_, _> = self
            .attachments
            .iter()
            .filter(|(_, attached)| attached.releasing.is_none())
            .map(|(attachment, attached)| (attachment.clone(), attached.binding.netns.clone()))
            .collect();
        self.sweep.pending = all.keys().cloned().collect();
        self.sweep.gone.clear();
        self.sweep.present_count = 0;
        for (attachment, path) in all {
            self.probe(ProbePurpose::Sweep(attachment), &path);
        }
        let at = self.now + self.config.policy.sweep;
        self.arm(Timer::Sweep, at);
    }

    pub(super) fn sweep_probed(&mut self, attachment: &Attachment, probe: Probe) {
        if !self.sweep.pending.remove(attachment) {
            return;
        }
        if matches!(probe.state, PathState::Present { .. }) {
            self.sweep.present_count += 1;
        } else if self.shows_end(attachment, probe) {
            self.sweep.gone.insert(attachment.clone());
        }
        if !self.sweep.pending.is_empty() {
            return;
        }
        let mut gone = std::mem::take(&mut self.sweep.gone);
        // All paths vanishing together is a mount that went away, not so many ends.
        if gone.len() >= 2 && self.sweep.present_count == 0 {
            gone.clear();
            self.event(
                "PathsVanished",
                "all namespace paths at once: they are held".to_owned(),
            );
        }
        let suspects: BTreeSet<_> = gone
            .into_iter()
            .filter(|attachment| {
                self.attachments
                    .get(attachment)
                    .is_some_and(|attached| self.is_sweep_candidate(attachment, attached))
            })
            .collect();
        if !suspects.is_empty() {
            self.sweep.suspects = suspects;
            self.list_sandboxes();
        }
    }

    pub(super) fn sandboxes_listed(&mut self, list: Result<Vec<Sandbox>, LocalError>) {
        let Ok(list) = list else {
            self.lost_listed(None);
            return;
        };
        for attachment in std::mem::take(&mut self.sweep.suspects) {
            let lives = self.attachments.get(&attachment).is_some_and(|attached| {
                list.iter().any(|sandbox| {
                    sandbox.pod_uid == attached.binding.pod_uid
                        || sandbox.container == attachment.container
                })
            });
            if !lives && !self.is_releasing(&attachment) {
                self.sweep.unlisted.remove(&attachment);
                self.end_attachment(&attachment);
            }
        }
        for attachment in std::mem::take(&mut self.sweep.overdue) {
            let has_sandbox = list
                .iter()
                .any(|sandbox| sandbox.container == attachment.container);
            let is_due = self
                .attachments
                .get(&attachment)
                .and_then(|attached| self.released_by(attached))
                .is_some_and(|by| by <= self.now);
            if is_due && !has_sandbox {
                self.end_attachment(&attachment);
            }
        }
        self.lost_listed(Some(&list));
    }

    /// GC only has the paths looked at now.
    pub(super) fn gc(&mut self, id: RequestId, request: GcRequest) {
        let Some(valid) = request.valid else {
            let failure = Failure::new(
                Failure::INVALID_CONFIGURATION,
                "GC without cni.dev/valid-attachments would collect everything",
            );
            self.reply(id, Response::Failed(failure));
            return;
        };
        let unlisted: BTreeSet<_> = self
            .attachments
            .keys()
            .filter(|attachment| !valid.contains(attachment))
            .cloned()
            .collect();
        self.sweep.unlisted = unlisted;
        self.probe_releasing();
        self.sweep_timer();
        self.reply(id, Response::Done);
    }

    pub(super) fn list_spool(&mut self) {
        if self.phase != Phase::Opening {
            self.out.push(Output::ListSpool);
        }
    }

    /// Applies the DELs that met no agent; while loading, keeps them until the journal's attachments
    /// stand.
    pub(super) fn spool_listed(&mut self, entries: Result<Vec<SpoolEntry>, LocalError>) {
        match entries {
            Ok(entries) if self.phase == Phase::Loading => {
                self.early_spool = entries;
                self.startup_done(super::startup::Step::Spool);
            }
            Ok(entries) if self.is_loaded() => self.apply_spool(entries),
            Ok(_) => {}
            Err(_) => self.startup_retry(super::startup::Step::Spool),
        }
    }

    pub(super) fn apply_spool(&mut self, entries: Vec<SpoolEntry>) {
        for entry in entries {
            match entry.request {
                Some(request) => {
                    self.del(&request, None);
                    self.out.push(Output::RemoveSpool(entry.id));
                }
                None => self.out.push(Output::SetSpoolAside(entry.id)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::agent::Policy;

    #[test]
    fn at_the_bound_the_oldest_end_is_forgotten() {
        let count_max = Policy::STANDARD.ended_count_max;
        let mut ended = Ended::new(count_max);
        let of = |index: usize| Attachment {
            container: format!("c{index}"),
            interface: "eth0".into(),
        };
        for index in 0..=count_max {
            ended.insert(of(index));
            ended.insert(of(index));
        }
        assert_eq!(ended.iter().count(), count_max);
        assert!(!ended.contains(&of(0)));
        assert!((1..=count_max).all(|index| ended.contains(&of(index))));
    }
}
