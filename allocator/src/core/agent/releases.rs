//! Attachments: answered ADDs, and how they end. Neither DEL nor the absence of the Pod is the end
//! of a namespace.
//!
//! A look at the namespace's path shows it *there*, *gone* (through the mount that showed it there,
//! with the canary in sight), or is *untold*: an error, another directory, no canary, another
//! mount, never seen there before. Several paths that vanish together are untold, too. The outcome:
//!
//! | DEL seen | Pod in the API | look | runtime has the sandbox | does not have it | cannot be asked |
//! |---|---|---|---|---|---|
//! | yes | either | gone | free at once | free at once | free at once |
//! | yes | either | there | held | free ¹ | held |
//! | yes | either | untold | held | free ¹ | held, said ² |
//! | no | gone | gone | held | free | free ³ |
//! | no | gone | there | held | held | held |
//! | no | gone | untold | held | free ⁴ | held ² |
//! | no | there | any | held | held ⁵ | held |
//!
//! ¹ `release_after_del` after the last DEL (more for a young ADD), by the container's ID; ² the
//! operator's order frees; ³ once every look showed it gone for `runtime_patience`; ⁴ not in two
//! lists `sweep` apart; ⁵ as if the Pod were gone, by the container's ID alone, for those that a GC
//! did not list, that an unreadable DEL may have been about, or that this process inherited.
//! Without a DEL the runtime also "has the sandbox" if it has another one of the Pod. While an end
//! is in doubt it frees nothing: see [`lost`](super::lost).

use std::collections::{BTreeMap, BTreeSet};

use super::Agent;
use super::boundary::Output;
use super::errands::{ProbePurpose, StartStep};
use super::memory::{BlockKey, Hold, Holding, Place};
use super::startup::Phase;
use super::timers::Timer;
use crate::core::exchange::{
    Attachment, DelRequest, Failure, GcRequest, PathState, Probe, RequestId, Response, Sandbox,
    SpoolEntry,
};
use crate::core::journal::{Binding, Entry};
use crate::core::report::LocalError;
use crate::core::time::BootTime;

const ATTACHED: &str = "only an attachment's end ends the wait for it";
const RELEASING: &str = "an end is awaited after a DEL";

/// An answered ADD.
pub(super) struct Attached {
    pub(super) binding: Binding,
    pub(super) place: Place,
    pub(super) releasing: Option<Releasing>,
    /// This process answered its first ADD; otherwise a journal says so, or it is a guess.
    pub(super) answered_here: bool,
}

/// A DEL was seen.
pub(super) struct Releasing {
    last_del: BootTime,
    probe_count: u32,
    /// The last look showed the namespace's path, which overrules any other evidence.
    is_present: bool,
}

/// A look at the paths of all attachments, to find ends without a DEL.
#[derive(Default)]
pub(super) struct Sweep {
    pending: BTreeSet<Attachment>,
    gone: BTreeSet<Attachment>,
    present_count: usize,
    /// Candidates whose path the last look did not show gone or there.
    untold: BTreeSet<Attachment>,
    /// Attachments that the runtime's GC call did not list.
    unlisted: BTreeSet<Attachment>,
    /// Attachments whose end may have been missed, until they are seen.
    unsure: BTreeSet<Attachment>,
    /// Attachments of whose path the last look told nothing.
    blind: BTreeSet<Attachment>,
    /// When every look began to show the path gone.
    gone_since: BTreeMap<Attachment, BootTime>,
    /// Untold ones that the runtime does not list, and when that began.
    absent_since: BTreeMap<Attachment, BootTime>,
    /// Whether it was reported that the runtime cannot be asked.
    is_silence_said: bool,
    /// Ended, unless the runtime says otherwise.
    suspects: BTreeSet<Attachment>,
    /// DEL was long ago, and no look shows the end: ended unless the runtime has the sandbox.
    overdue: BTreeSet<Attachment>,
}

impl Sweep {
    /// How many looks are still pending.
    pub(super) fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// Whether the last look told nothing of an attachment's path.
    pub(super) fn is_blind(&self, attachment: &Attachment) -> bool {
        self.blind.contains(attachment)
    }

    /// How many wait for the runtime's answer, long after their DEL.
    pub(super) fn overdue_count(&self) -> usize {
        self.overdue.len()
    }

    fn forget(&mut self, attachment: &Attachment) {
        for set in [
            &mut self.unlisted,
            &mut self.unsure,
            &mut self.blind,
            &mut self.untold,
            &mut self.suspects,
            &mut self.overdue,
        ] {
            set.remove(attachment);
        }
        self.gone_since.remove(attachment);
        self.absent_since.remove(attachment);
    }
}

impl Agent {
    pub(super) fn is_releasing(&self, attachment: &Attachment) -> bool {
        self.attachments
            .get(attachment)
            .is_some_and(|attached| attached.releasing.is_some())
    }

    /// A look shows the attachment.
    fn seen(&mut self, attachment: &Attachment) {
        self.sweep.unsure.remove(attachment);
        if let Some(attached) = self.attachments.get(attachment) {
            self.believe(attached.place);
        }
    }

    /// DEL. Never fails on missing state, and waits for nothing.
    pub(super) fn del(&mut self, request: &DelRequest, probe: Option<Probe>) {
        let attachment = &request.attachment;
        self.cancel_adds_of(attachment);
        if !self.attachments.contains_key(attachment) {
            self.adopt_lost_del(request);
        }
        let now = self.now;
        if let Some((_, last_del)) = self.poolless.get_mut(attachment) {
            *last_del = Some(now);
            let attachment = attachment.clone();
            self.journal(&Entry::Releasing {
                attachment,
                at: now,
            });
            return;
        }
        let Some(attached) = self.attachments.get_mut(attachment) else {
            // With a path, its ADD may still come; without a journal, it may be somebody's.
            let is_somebodys = !request.netns.is_empty() || !self.lost.is_proven();
            let early = is_somebodys && !self.ended.contains(attachment);
            let tombstone = (attachment.clone(), request.netns.clone());
            if early && self.tombstones.insert(tombstone) {
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

    /// When to start asking the runtime about a releasing attachment whose end no look shows.
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
        let attached = self.attachments.get(attachment).expect(ATTACHED);
        let by = self.released_by(attached).expect(RELEASING);
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
        let attached = self.attachments.get(attachment).expect(ATTACHED);
        let by = self.released_by(attached).expect(RELEASING);
        #[cfg(feature = "mutants")]
        if by <= self.now
            && self.is_mutant(crate::core::Mutant::UnknownTakenForGone)
            && attached.releasing.as_ref().is_some_and(|r| !r.is_present)
        {
            self.end_attachment(attachment);
            return;
        }
        if by <= self.now {
            // The plugin that called us deletes the link after our answer. It may have failed, or
            // may be stuck before its next try for as long as the apiserver is away. So the address
            // is in use until the runtime, too, is done with the sandbox.
            self.sweep.overdue.insert(attachment.clone());
            self.list_sandboxes();
        }
        let attached = self.attachments.get_mut(attachment).expect(ATTACHED);
        attached.releasing.as_mut().expect(RELEASING).probe_count += 1;
        let path = attached.binding.netns.clone();
        self.probe(ProbePurpose::Release(attachment.clone()), &path);
        self.await_end(attachment);
    }

    /// A path vanished somewhere: look at every attachment that is being released.
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
            return;
        }
        self.note_blind(attachment, probe);
        self.note_present(attachment, probe);
        if let Some(attached) = self.attachments.get_mut(attachment)
            && let Some(releasing) = &mut attached.releasing
        {
            releasing.is_present = matches!(probe.state, PathState::Present { .. });
        }
    }

    fn note_blind(&mut self, attachment: &Attachment, probe: Probe) {
        let is_blind = probe.state == PathState::Unknown;
        if is_blind && self.attachments.contains_key(attachment) {
            self.sweep.blind.insert(attachment.clone());
        } else {
            self.sweep.blind.remove(attachment);
        }
    }

    /// A path seen through this mount lets a later look through it show the end, whatever ADD saw.
    fn note_present(&mut self, attachment: &Attachment, probe: Probe) {
        if let PathState::Present { mount } = probe.state
            && let Some(attached) = self.attachments.get_mut(attachment)
        {
            attached.binding.mount = Some(mount);
            self.seen(attachment);
        }
    }

    /// The namespace is gone, or taken to be: the ordinal is its Pod's reservation again.
    pub(super) fn end_attachment(&mut self, attachment: &Attachment) {
        let Some(attached) = self.attachments.remove(attachment) else {
            return;
        };
        self.ended.insert(attachment.clone());
        self.lost.note_end(attached.place, &attachment.container);
        self.sweep.forget(attachment);
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
            let attachment = binding.attachment.clone();
            self.poolless.insert(attachment, (binding, last_del));
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
        if !self.lost.is_proven() {
            // The entries of its end may be lost, and with them those of the Pod's next sandbox,
            // which has the same address.
            self.doubt(place);
            self.take_as_hearsay(place);
        }
        self.put_holding(
            place,
            Holding {
                pod: binding.pod_uid.clone(),
                pod_name: binding.pod_name.clone(),
                state: Hold::Attached(attachment.clone()),
                reservation: String::new(),
            },
        );
        let releasing = last_del.map(|last_del| Releasing {
            last_del,
            probe_count: 0,
            // This process does not know: the path counts as there until a look says otherwise.
            is_present: true,
        });
        self.attachments.insert(
            attachment.clone(),
            Attached {
                binding,
                place,
                releasing,
                answered_here: false,
            },
        );
        if last_del.is_some() {
            self.await_end(&attachment);
        } else {
            self.sweep.unsure.insert(attachment);
        }
        self.arm(Timer::Sweep, self.now + self.config.policy.sweep);
    }

    /// Bindings whose pool is now known become holdings.
    pub(super) fn restore_poolless(&mut self) {
        let bindings = std::mem::take(&mut self.poolless);
        for (binding, last_del) in bindings.into_values() {
            self.restore_attachment(binding, last_del);
        }
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
                || self.sweep.unsure.contains(attachment)
                || self.has_no_pod(attached)
                || self.has_rival(attachment, attached))
    }

    /// Whether another sandbox of the Pod has, or wants, an address on the same interface: a
    /// sandbox that ended by itself is followed by the next, perhaps without a DEL.
    fn has_rival(&self, attachment: &Attachment, attached: &Attached) -> bool {
        let Some(pod) = self.pods.get(&attached.binding.pod_uid) else {
            return false;
        };
        let is_rival = |other: &Attachment| {
            other.interface == attachment.interface && other.container != attachment.container
        };
        let has = |place: &Place| match self.holdings.get(place).map(|holding| &holding.state) {
            Some(Hold::Attached(other)) => is_rival(other),
            _ => false,
        };
        let mut adds = pod.adds.iter().filter_map(|id| self.adds.get(id));
        pod.places.iter().any(has) || adds.any(|add| is_rival(add.attachment()))
    }

    fn has_no_pod(&self, attached: &Attached) -> bool {
        let pod = self.pods.get(&attached.binding.pod_uid);
        pod.is_none_or(|pod| pod.seen.is_none())
    }

    /// Looks for ends without a DEL, if some attachment may have ended.
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
        self.sweep.untold.clear();
        self.sweep.present_count = 0;
        for (attachment, path) in all {
            self.probe(ProbePurpose::Sweep(attachment), &path);
        }
        let at = self.now + self.config.policy.sweep;
        self.arm(Timer::Sweep, at);
    }

    pub(super) fn sweep_probed(&mut self, attachment: &Attachment, probe: Probe) {
        assert!(
            self.sweep.pending.remove(attachment),
            "each look of a sweep is awaited"
        );
        self.note_blind(attachment, probe);
        if matches!(probe.state, PathState::Present { .. }) {
            self.sweep.present_count += 1;
            self.sweep.gone_since.remove(attachment);
            self.sweep.absent_since.remove(attachment);
            self.note_present(attachment, probe);
        } else if self.shows_end(attachment, probe) {
            let now = self.now;
            let since = &mut self.sweep.gone_since;
            since.entry(attachment.clone()).or_insert(now);
            self.sweep.gone.insert(attachment.clone());
        } else {
            self.sweep.gone_since.remove(attachment);
            self.sweep.untold.insert(attachment.clone());
        }
        if self.sweep.pending.is_empty() {
            self.sweep_looked();
        }
    }

    /// All paths were looked at: the runtime is asked about those that may have ended.
    fn sweep_looked(&mut self) {
        let is_candidate = |agent: &Self, attachment: &Attachment| {
            let attached = agent.attachments.get(attachment);
            attached.is_some_and(|attached| agent.is_sweep_candidate(attachment, attached))
        };
        let mut gone = std::mem::take(&mut self.sweep.gone);
        let mut untold = std::mem::take(&mut self.sweep.untold);
        // If all paths vanish together, a mount may have gone away rather than so many namespaces.
        if gone.len() >= 2 && self.sweep.present_count == 0 {
            self.event(
                "PathsVanished",
                "all namespace paths at once: they are held until the runtime says so, too"
                    .to_owned(),
            );
            self.sweep.gone_since.clear();
            untold.append(&mut gone);
        }
        gone.retain(|attachment| is_candidate(self, attachment));
        untold.retain(|attachment| is_candidate(self, attachment));
        let sweep = &mut self.sweep;
        sweep.absent_since.retain(|a, _| untold.contains(a));
        sweep.suspects = gone;
        sweep.untold = untold;
        if !self.sweep.suspects.is_empty() || !self.sweep.untold.is_empty() {
            self.list_sandboxes();
        }
    }

    pub(super) fn sandboxes_listed(&mut self, list: Result<Vec<Sandbox>, LocalError>) {
        let Ok(list) = list else {
            self.decide_without_runtime();
            self.lost_listed(None);
            return;
        };
        self.sweep.is_silence_said = false;
        for attachment in std::mem::take(&mut self.sweep.suspects) {
            if self.has_sandbox(&attachment, &list) {
                self.sandbox_lives(&attachment);
            } else {
                self.end_without_del(&attachment);
            }
        }
        for attachment in std::mem::take(&mut self.sweep.untold) {
            if self.has_sandbox(&attachment, &list) {
                self.sandbox_lives(&attachment);
                continue;
            }
            let now = self.now;
            let since = &mut self.sweep.absent_since;
            let since = *since.entry(attachment.clone()).or_insert(now);
            // A single list may predate the sandbox.
            let is_sure = now.since(since) >= self.config.policy.sweep / 2;
            if is_sure {
                self.end_without_del(&attachment);
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
            if is_due && has_sandbox {
                self.sandbox_lives(&attachment);
            } else if is_due {
                self.end_attachment(&attachment);
            }
        }
        self.lost_listed(Some(&list));
    }

    /// Whether the runtime has the sandbox of an attachment without DEL. While its Pod exists, the
    /// Pod's other sandboxes say nothing about this one.
    fn has_sandbox(&self, attachment: &Attachment, list: &[Sandbox]) -> bool {
        let Some(attached) = self.attachments.get(attachment) else {
            return false;
        };
        let has_no_pod = self.has_no_pod(attached);
        list.iter().any(|sandbox| {
            sandbox.container == attachment.container
                || has_no_pod && sandbox.pod_uid == attached.binding.pod_uid
        })
    }

    fn end_without_del(&mut self, attachment: &Attachment) {
        let Some(attached) = self.attachments.get(attachment) else {
            return;
        };
        if attached.releasing.is_some() {
            return;
        }
        self.end_attachment(attachment);
    }

    /// The runtime lists it. It lists a sandbox until that is removed, long after its end: so what
    /// is listed frees nothing, but makes hearsay believed only where no look could tell.
    fn sandbox_lives(&mut self, attachment: &Attachment) {
        self.sweep.unsure.remove(attachment);
        self.sweep.absent_since.remove(attachment);
        if self.sweep.is_blind(attachment) {
            self.seen(attachment);
        }
    }

    /// The runtime cannot be asked: two other witnesses suffice.
    fn decide_without_runtime(&mut self) {
        let patience = self.config.policy.runtime_patience;
        let is_decided = |agent: &Self, attachment: &Attachment| {
            let Some(attached) = agent.attachments.get(attachment) else {
                return false;
            };
            let since = agent.sweep.gone_since.get(attachment);
            let is_gone = since.is_some_and(|since| agent.now.since(*since) >= patience);
            is_gone && attached.releasing.is_none() && agent.has_no_pod(attached)
        };
        let sweep = &self.sweep;
        let waiting = sweep.suspects.iter().chain(&sweep.untold);
        let waiting = waiting.chain(&sweep.overdue).cloned();
        let decided: Vec<_> = waiting.filter(|a| is_decided(self, a)).collect();
        for attachment in decided {
            self.end_attachment(&attachment);
        }
        let held = self.sweep.overdue.len() + self.sweep.untold.len() + self.sweep.suspects.len();
        if held > 0 && !std::mem::replace(&mut self.sweep.is_silence_said, true) {
            let text = format!("the runtime cannot be asked: {held} addresses wait for its word");
            self.event("ReleaseHeld", text);
        }
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

    /// Applies the DELs that met no agent; while loading, keeps them until the journal's
    /// attachments stand.
    pub(super) fn spool_listed(&mut self, entries: Result<Vec<SpoolEntry>, LocalError>) {
        match entries {
            Ok(entries) if self.phase == Phase::Loading => {
                self.early_spool = entries;
                self.startup_done(StartStep::Spool);
            }
            Ok(entries) if self.is_loaded() => self.apply_spool(entries),
            Ok(_) => {}
            Err(_) => self.startup_retry(StartStep::Spool),
        }
    }

    pub(super) fn apply_spool(&mut self, entries: Vec<SpoolEntry>) {
        for entry in entries {
            if let Some(request) = entry.request {
                self.del(&request, None);
                self.out.push(Output::RemoveSpool(entry.id));
            } else {
                // It may have been about any of them.
                self.event("DelUnreadable", format!("spool entry {}", entry.id.0));
                self.sweep.unsure.extend(self.attachments.keys().cloned());
                self.arm(Timer::Sweep, self.now);
                self.out.push(Output::SetSpoolAside(entry.id));
            }
        }
    }
}
