//! What the journal does not say. A file alone cannot show that its end is missing or that an older
//! copy took its place; its seal can ([`Seal`](crate::core::journal::Seal)). What a journal *says*
//! is trusted. That it does not mention something proves something only while it is sealed.
//!
//! Three grades:
//! - *proven*: the journal holds what its seal says, or the machine is new. A record of this epoch
//!   that no entry explains is a reservation. The runtime is not asked.
//! - *in doubt*: the journal of this boot has no seal, or one that does not match. Reservations are
//!   used as usual. One that no entry explains, or that an earlier process bound, is given up only
//!   when the runtime, in two lists some time apart, has no sandbox of its Pod except those that
//!   entries explain; while the Pod lives, not before the longest ADD of an earlier process is
//!   over, because the runtime lists a sandbox only when its network is complete. If the runtime
//!   cannot be asked, an undamaged journal is trusted after [`super::Policy::runtime_patience`].
//! - *lost*: the journal of this boot is missing, damaged or older than the records, or says that
//!   an earlier one was. Records say which Pod holds what, but not which container: all count as
//!   bound until the runtime says otherwise, however long that takes.
//!
//! In both grades, the agent searches the API for blocks with its own records before service
//! begins, because the names of some may be lost, too. Both end, and the journal gets a seal, when
//! everything is explained; until then every start is in doubt, or has lost its journal.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::Agent;
use super::boundary::Output;
use super::errands::Purpose;
use super::known;
use super::memory::{BlockKey, Hold, Holding, Place};
use super::releases::Attached;
use super::rights::FIRST_INTERFACE;
use super::timers::Timer;
use crate::core::api::{ApiError, ApiReply, ApiRequest, Consistency, ListQuery, Selection};
use crate::core::exchange::{Attachment, DelRequest, Sandbox};
use crate::core::holder::{Holder, Record, decode_records};
use crate::core::journal::{Binding, Damage, Entry, State};
use crate::core::objects::{AddressBlock, Kind, Object, Uid};
use crate::core::time::BootTime;

/// Containers by Pod.
type Unexplained = BTreeMap<Uid, BTreeSet<String>>;

/// What is known about the journal's gaps.
#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a separate fact of the protocol"
)]
pub(super) struct Lost {
    /// There was no journal of this boot.
    is_missing: bool,
    /// The journal of this boot is damaged, or says that it does not know all.
    proof: Option<String>,
    /// The journal ended within an entry.
    is_torn: bool,
    /// The journal holds what its seal says.
    is_sealed: bool,
    /// The journal is complete: what it does not mention did not happen.
    is_proven: bool,
    /// Own records without a holding count as bound.
    active: bool,
    /// The journal says that it does not know all.
    marked: bool,
    /// When this process took up what earlier ones left.
    started: Option<BootTime>,
    /// How often all blocks were searched for own records.
    survey_count: u32,
    is_surveying: bool,
    /// Places that others than the known holder may use: reservations that no entry explains, and
    /// what an earlier process bound.
    doubtful: BTreeSet<Place>,
    /// Places that only entries of a journal in doubt bind: their sandboxes may have ended since,
    /// and then the address is anybody's.
    hearsay: BTreeSet<Place>,
    /// Containers whose use of a place ended before everything was explained. The runtime lists a
    /// sandbox until it is removed, long after its end.
    ended: BTreeSet<(Place, String)>,
    /// Places that this process held before their block was fenced: it knows why it no longer does.
    explained: BTreeSet<Place>,
    /// Pods by container, as the runtime listed them.
    pods: BTreeMap<String, Uid>,
    /// Containers in the first list.
    first: Option<BTreeSet<String>>,
    /// When the last list came, and its containers that may have more than is known, by Pod; `None`
    /// before the first.
    last: Option<(BootTime, Unexplained)>,
    /// The same containers of the list before that.
    before: Option<Unexplained>,
    /// When the runtime stopped answering.
    silent_since: Option<BootTime>,
}

impl Lost {
    /// Whether own records without a holding count as bound.
    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    /// Whether the journal must say so.
    pub(super) fn is_marked(&self) -> bool {
        self.marked
    }

    /// Whether the journal is complete: what it does not mention did not happen.
    pub(super) fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// Whether each sandbox of the Pod, in two lists in a row, is known to be harmless. These lists
    /// leave out sandboxes that cannot have more than is known.
    fn has_only(&self, pod: &Uid, is_known: impl Fn(&str) -> bool) -> bool {
        let is_none = |list: &Unexplained| {
            let mut found = list.get(pod).into_iter().flatten();
            found.all(|container| is_known(container))
        };
        let last = self.last.as_ref().map(|(_, list)| list);
        [last, self.before.as_ref()]
            .into_iter()
            .all(|list| list.is_some_and(&is_none))
    }

    /// Whether the runtime, in two lists in a row, had no sandbox of the Pod.
    pub(super) fn is_unbound(&self, pod: &Uid) -> bool {
        self.has_only(pod, |_| false)
    }

    /// Whether the runtime, asked for the second time or later, does not list the container.
    fn is_gone(&self, container: &str) -> bool {
        self.before.is_some() && !self.pods.contains_key(container)
    }

    /// Whether only the known holder uses a place: every sandbox of the Pod is the container that
    /// has the place, or one whose use of it is known to have ended.
    fn explains(&self, place: Place, holding: &Holding) -> bool {
        let user = match &holding.state {
            Hold::Attached(attachment) => Some(attachment.container.as_str()),
            Hold::Unbound | Hold::Lost => None,
        };
        self.has_only(&holding.pod, |container| {
            Some(container) == user || self.ended.contains(&(place, container.to_owned()))
        })
    }

    /// A container's use of a place ended.
    pub(super) fn note_end(&mut self, place: Place, container: &str) {
        if !self.is_proven {
            self.ended.insert((place, container.to_owned()));
        }
    }

    /// Whether only the runtime can say that the reservation may go to another.
    pub(super) fn doubts(&self, place: Place) -> bool {
        self.doubtful.contains(&place)
    }

    /// This process ends the hold, for reasons of its own.
    pub(super) fn explain(&mut self, place: Place) {
        self.explained.insert(place);
    }

    /// The hold was never written.
    pub(super) fn withdraw(&mut self, place: Place) {
        self.explained.remove(&place);
    }

    /// How the journal was found.
    pub(super) fn found(&mut self, this_boot: bool, said_so: bool, state: &State, sealed: bool) {
        self.is_missing = !this_boot;
        self.is_sealed = sealed;
        self.is_torn = *state == State::Torn;
        self.proof = match state {
            State::Damaged(damage) if this_boot => Some(format!("it is damaged: {damage}")),
            _ if this_boot && said_so => Some("an earlier one of this boot was".to_owned()),
            _ => None,
        };
    }

    /// Whether this container is the only sandbox of the Pod.
    pub(super) fn is_only_sandbox(&self, container: &str, pod: &Uid) -> bool {
        let mut of_pod = self.pods.iter().filter(|(_, other)| *other == pod);
        of_pod.next().is_some_and(|(first, _)| first == container) && of_pod.next().is_none()
    }

    /// Whether blocks with own records were searched for, if that is needed.
    pub(super) fn is_surveyed(&self) -> bool {
        self.is_proven || self.survey_count > 0
    }
}

impl Agent {
    /// Says that the journal is damaged, whatever follows from that.
    pub(super) fn journal_damaged(&mut self, damage: Damage) {
        self.count("berth_journal_damaged_total");
        self.event("JournalDamaged", format!("{damage}; it is kept aside"));
        self.out.push(Output::SetJournalAside);
    }

    /// Whether the journal of this boot is lost; `known_before`: this machine was at work in this
    /// boot before this process.
    pub(super) fn decide_lost(&mut self, known_before: bool) {
        self.lost.started = Some(self.now);
        let missing = (known_before && self.lost.is_missing).then(|| "there is none".to_owned());
        if let Some(why) = self.lost.proof.take().or(missing) {
            self.lost_for(&why);
        } else if self.lost.is_sealed || self.lost.is_missing {
            self.lost.is_proven = true;
        } else {
            let text = "its seal does not show that it is whole: what it does not say waits for the \
                        runtime's word";
            self.event("JournalInDoubt", text.to_owned());
            self.ask_around();
        }
    }

    fn lost_for(&mut self, why: &str) {
        self.lost.active = true;
        self.lost.marked = true;
        let text = "all records of this boot that no entry explains count as bound";
        self.event("JournalLost", format!("{why}; {text}"));
        self.ask_around();
    }

    /// Asks the runtime and the API for what the journal does not say.
    fn ask_around(&mut self) {
        self.lost.is_proven = false;
        self.lost.survey_count = 0;
        self.list_sandboxes();
        if !self.lost.is_surveying {
            self.survey(String::new());
        }
    }

    /// An entry bound the place to one Pod, but its record names another Pod of this machine. So
    /// the entry is older than the record, and presumably the journal is too. Nobody else gets the
    /// place until neither Pod has a sandbox. If the place was only claimed, by a write without an
    /// answer, then that write was not carried out.
    pub(super) fn entry_is_old(&mut self, place: Place, holder: &Holder) {
        let is_claim = |holding: &Holding| holding.state == Hold::Unbound;
        if self.holdings.get(&place).is_some_and(is_claim) {
            self.holding_vanished(place);
            self.lost.withdraw(place);
            if let Some(own) = self.epoch.id().cloned() {
                self.adopt(place, holder.clone(), &own);
            }
            return;
        }
        self.remove_holding(place);
        self.put_holding(
            place,
            Holding {
                pod: holder.pod_uid.clone(),
                pod_name: holder.pod_name.clone(),
                state: Hold::Lost,
                reservation: holder.reservation.clone(),
            },
        );
        if !self.lost.marked {
            self.lost_for("it is older than the records");
            self.journal(&Entry::Lost);
        }
    }

    /// Whether a record of the own epoch that no holding explains is in doubt.
    pub(super) fn is_in_doubt(&self, place: Place, pod: &Uid) -> bool {
        #[cfg(feature = "mutants")]
        if self.believes_silence() {
            return false;
        }
        self.blocks
            .get(&place.block)
            .is_some_and(|block| block.unfenced)
            && !self.lost.is_proven
            && !self.lost.explained.contains(&place)
            && (!self.lost.is_unbound(pod) || self.is_young_for(pod))
    }

    /// The Pod lives, and an ADD that an earlier process answered may still be under way: until
    /// then the runtime lists no sandbox of it. The kubelet makes one at a time, so one that began
    /// in this process' time shows that none is.
    fn is_young_for(&self, pod: &Uid) -> bool {
        let lives = self.pods.get(pod).is_some_and(|pod| pod.seen.is_some());
        let started = self.lost.started.unwrap_or(self.now);
        let is_young = self.now.since(started) < self.config.policy.longest_add;
        let began_here = |(attachment, attached): (&Attachment, &Attached)| {
            let is_first = attachment.interface == FIRST_INTERFACE;
            is_first && attached.answered_here && attached.binding.pod_uid == *pod
        };
        lives && is_young && !self.attachments.iter().any(began_here)
    }

    /// Who holds the place may be a sandbox that nobody knows yet; see [`Agent::is_young_for`].
    fn may_be_coming(&self, holding: &Holding) -> bool {
        !matches!(holding.state, Hold::Attached(_)) && self.is_young_for(&holding.pod)
    }

    /// Whether this run treats an incomplete journal as complete.
    #[cfg(feature = "mutants")]
    pub(super) fn believes_silence(&self) -> bool {
        use crate::core::Mutant;
        self.is_mutant(Mutant::HeaderBeforeLost) || self.is_mutant(Mutant::DamageBelieved)
    }

    /// The reservation may be one that a lost entry bound.
    pub(super) fn doubt(&mut self, place: Place) {
        assert!(!self.lost.is_proven, "what is proven is not doubted");
        self.lost.doubtful.insert(place);
        self.list_sandboxes();
    }

    /// An entry of a journal in doubt holds the place.
    pub(super) fn take_as_hearsay(&mut self, place: Place) {
        self.lost.hearsay.insert(place);
        self.note_hearsay(place.block);
    }

    /// The place is held for another reason than hearsay, or no more: it is written as it is.
    pub(super) fn believe(&mut self, place: Place) {
        if self.lost.hearsay.remove(&place) {
            self.note_hearsay(place.block);
            self.touched_blocks.insert(place.block);
            self.touched_pools.insert(place.block.pool);
        }
    }

    pub(super) fn note_hearsay(&mut self, key: BlockKey) {
        if let Some(block) = self.blocks.get_mut(&key) {
            let of_block = self.lost.hearsay.iter().filter(|place| place.block == key);
            block.hearsay = of_block.map(|place| place.ordinal).collect();
        }
    }

    /// What the runtime lists, and no look could tell of, is no hearsay. Nor is what is not a
    /// sandbox's any more and nobody doubts: see [`Agent::settle_hearsay`]. A sandbox that it does
    /// not list ends, or a look shows it.
    fn believe_list(&mut self, list: &[Sandbox]) {
        let is_believed = |place: &Place| match self.holdings.get(place).map(|h| &h.state) {
            Some(Hold::Attached(attachment)) => {
                let is_listed = |s: &Sandbox| s.container == attachment.container;
                self.sweep.is_blind(attachment) && list.iter().any(is_listed)
            }
            Some(Hold::Unbound | Hold::Lost) => !self.lost.doubtful.contains(place),
            None => true,
        };
        let places = self.lost.hearsay.iter().copied();
        let believed: Vec<Place> = places.filter(is_believed).collect();
        for place in believed {
            self.settle_hearsay(place);
        }
    }

    /// What no sandbox has any more is worth as much as its record: without one, the ordinal was
    /// given back, perhaps long ago, and is anybody's.
    fn settle_hearsay(&mut self, place: Place) {
        let holding = self.holdings.get(&place);
        let Some(ended) = holding.filter(|h| !matches!(h.state, Hold::Attached(_))) else {
            return self.believe(place);
        };
        let Some(block) = self.blocks.get(&place.block).filter(|block| block.trusted) else {
            return;
        };
        let record = block.base.get(place.ordinal).and_then(Record::holder);
        let stands = record.is_some_and(|holder| holder.pod_uid == ended.pod);
        if stands {
            self.believe(place);
        } else {
            self.let_go(place);
        }
    }

    /// Ends an unbound hold, unless it is in doubt: then the runtime decides.
    pub(super) fn give_up(&mut self, place: Place) {
        let holding = self.holdings.get_mut(&place);
        let holding = holding.expect("what is given up is held");
        assert_eq!(
            holding.state,
            Hold::Unbound,
            "what is bound is not given up"
        );
        if self.lost.doubtful.contains(&place) {
            holding.state = Hold::Lost;
            self.touched_blocks.insert(place.block);
            self.list_sandboxes();
        } else {
            self.let_go(place);
        }
    }

    fn has_lost(&self) -> bool {
        self.holdings
            .values()
            .any(|holding| holding.state == Hold::Lost)
    }

    /// The runtime's list, or its failure. A Pod that has no sandbox in two lists in a row, some
    /// time apart, has no namespace: its record is a reservation.
    pub(super) fn lost_listed(&mut self, list: Option<&[Sandbox]>) {
        if self.lost.is_proven {
            return;
        }
        let Some(list) = list else {
            self.arm(Timer::Sandboxes, self.now + self.config.policy.sweep);
            self.runtime_is_silent();
            return;
        };
        self.note_list(list);
        self.adopt_early_dels();
        // Addresses wait for the second list, and ADDs may wait for those addresses: ask for it as
        // soon as it counts.
        let rest = match self.lost.before {
            None => self.lists_apart(),
            Some(_) => self.config.policy.sweep,
        };
        self.arm(Timer::Sandboxes, self.now + rest);
        if self.lost.before.is_none() || !self.is_settled() {
            return;
        }
        self.end_doubts(Lost::explains);
        self.believe_list(list);
        self.unbind_lost(Lost::explains);
        let misnamed = self
            .holdings
            .iter()
            .filter(|(p, h)| self.is_misnamed(**p, h));
        let blocks: BTreeSet<_> = misnamed.map(|(place, _)| place.block).collect();
        self.touched_blocks.extend(blocks);
        self.prove_journal();
    }

    /// Whether the record of what is lost names a container that ended. Another sandbox of the Pod
    /// may have the place, so it stays held, and the record must not say by whom.
    pub(super) fn is_misnamed(&self, place: Place, holding: &Holding) -> bool {
        if holding.state != Hold::Lost {
            return false;
        }
        let record = self
            .blocks
            .get(&place.block)
            .and_then(|block| block.base.get(place.ordinal));
        record.and_then(Record::holder).is_some_and(|holder| {
            !holder.container.is_empty() && self.lost.is_gone(&holder.container)
        })
    }

    /// How far apart two lists must be to count as two. A sandbox is listed only when its network
    /// is complete, so one that got its address from an earlier process may be missing from two
    /// lists in quick succession.
    fn lists_apart(&self) -> Duration {
        self.config.policy.sweep / 2
    }

    fn note_list(&mut self, list: &[Sandbox]) {
        let apart = self.lists_apart();
        self.lost.silent_since = None;
        self.lost.pods = list
            .iter()
            .map(|sandbox| (sandbox.container.clone(), sandbox.pod_uid.clone()))
            .collect();
        let containers = || list.iter().map(|s| s.container.clone()).collect();
        let first = self.lost.first.get_or_insert_with(containers);
        // A sandbox that came later has its addresses from this process, which knows them.
        let is_known = |container: &String| {
            let begin = Attachment {
                container: container.clone(),
                interface: String::new(),
            };
            let next = self.attachments.range(begin..).next();
            let is_attached =
                next.is_some_and(|(attachment, _)| attachment.container == *container);
            is_attached || self.adds.values().any(|add| add.is_of(container))
        };
        // The same holds for one that asked this process for its first interface: the others came
        // later.
        let began_here = |container: &String| {
            let first_interface = Attachment {
                container: container.clone(),
                interface: FIRST_INTERFACE.to_owned(),
            };
            self.attachments
                .get(&first_interface)
                .is_some_and(|attached| attached.answered_here)
        };
        let is_explained = |container: &String| {
            is_known(container) && (!first.contains(container) || began_here(container))
        };
        // Others ask for lists too: two at the same time count as one.
        let is_same = matches!(&self.lost.last, Some((at, _)) if self.now.since(*at) < apart);
        let unexplained = list.iter().filter(|s| !is_explained(&s.container));
        let unexplained: Vec<_> = unexplained.cloned().collect();
        if !is_same {
            let last = (self.now, Unexplained::new());
            let before = self.lost.last.replace(last);
            self.lost.before = before.map(|(_, list)| list);
        }
        let (_, last) = self.lost.last.as_mut().expect("a list was just begun");
        for sandbox in unexplained {
            let of_pod = last.entry(sandbox.pod_uid).or_default();
            of_pod.insert(sandbox.container);
        }
        // What is in no list anymore needs no explanation.
        let last = self.lost.last.iter().map(|(_, list)| list);
        let lists = last.chain(&self.lost.before);
        let listed: BTreeSet<_> = lists.flat_map(BTreeMap::values).flatten().collect();
        self.lost
            .ended
            .retain(|(_, container)| listed.contains(container));
    }

    /// Ends doubts about what is explained, unless a sandbox that nobody knows may have it.
    fn end_doubts(&mut self, is_explained: impl Fn(&Lost, Place, &Holding) -> bool) {
        let doubtful = std::mem::take(&mut self.lost.doubtful);
        let is_still = |place: &Place| {
            self.holdings.get(place).is_some_and(|holding| {
                !is_explained(&self.lost, *place, holding) || self.may_be_coming(holding)
            })
        };
        self.lost.doubtful = doubtful.into_iter().filter(is_still).collect();
    }

    fn unbind_lost(&mut self, is_unbound: impl Fn(&Lost, Place, &Holding) -> bool) {
        let unbound: Vec<Place> = self
            .holdings
            .iter()
            .filter(|(place, h)| h.state == Hold::Lost && is_unbound(&self.lost, **place, h))
            .filter(|(_, h)| !self.may_be_coming(h))
            .map(|(place, _)| *place)
            // See `entry_is_old`.
            .filter(|place| self.attachments.values().all(|a| a.place != *place))
            .collect();
        for place in unbound {
            if let Some(holding) = self.holdings.get_mut(&place) {
                holding.state = Hold::Unbound;
                let pod = holding.pod.clone();
                self.touched_pods.insert(pod);
            }
        }
    }

    /// What is lost stays held. What is only in doubt does not wait forever for a runtime that may
    /// never come back.
    fn runtime_is_silent(&mut self) {
        let since = *self.lost.silent_since.get_or_insert(self.now);
        let is_patient = self.now.since(since) < self.config.policy.runtime_patience;
        if self.lost.marked || self.lost.is_torn || is_patient || !self.is_settled() {
            return;
        }
        self.end_doubts(|_, _, _| true);
        for place in &self.lost.hearsay - &self.lost.doubtful {
            self.settle_hearsay(place);
        }
        self.unbind_lost(|_, _, _| true);
        self.prove_journal();
    }

    /// Everything is explained when the runtime was listed, the blocks were searched before and
    /// after, every block of earlier processes is fenced, none of these blocks and their pools is
    /// unreadable, and nothing waits for the runtime's answer. From then on the journal is sealed.
    fn prove_journal(&mut self) {
        if self.lost.survey_count < 2 {
            // A write of an earlier process may have landed after the first search.
            if !self.lost.is_surveying && self.lost.survey_count == 1 {
                self.survey(String::new());
            }
            return;
        }
        let is_fenced = self.blocks.values().all(|block| block.trusted);
        // The blocks and bindings of an unreadable pool are unknown.
        let is_known = self.inherited.is_empty() && self.poolless.is_empty();
        if !is_fenced || !is_known {
            return;
        }
        if std::mem::replace(&mut self.lost.active, false) {
            // Surplus that was unbound meanwhile must go now: see `release_surplus`.
            self.touched_pods.extend(self.pods.keys().cloned());
        }
        if !self.has_lost() && self.lost.doubtful.is_empty() {
            self.lost.marked = false;
            self.lost.is_proven = true;
            self.lost.ended.clear();
            self.compact_journal();
            let text = "every record of this boot is explained";
            self.event("JournalRestored", text.to_owned());
        }
    }

    /// Searches the blocks of all pools for records of this machine: the names of some blocks may
    /// be lost with the journal.
    pub(super) fn survey(&mut self, continue_token: String) {
        self.lost.is_surveying = true;
        let query = ListQuery {
            selection: Selection {
                kind: Kind::AddressBlock,
                labels: Vec::new(),
                node_name: None,
            },
            consistency: Consistency::Quorum,
            limit: self.config.policy.list_page,
            continue_token,
        };
        self.call(Purpose::Survey, ApiRequest::List(query));
    }

    pub(super) fn surveyed(&mut self, result: Result<ApiReply, ApiError>) {
        let Ok(ApiReply::Page(page)) = result else {
            let entropy = self.draw();
            let at = self.now + self.config.policy.api_retry.pause(2, entropy);
            self.arm(Timer::Survey, at);
            return;
        };
        for item in &page.items {
            let place = match item {
                Object::AddressBlock(block) if self.has_own_record(block) => {
                    Some((block.spec.pool.as_str(), block.spec.index))
                }
                // It may have own records.
                Object::SetAside(block) => block.block_place(),
                _ => None,
            };
            let key = place.map(|(pool, index)| (pool.to_owned(), index));
            if let Some(key) = key.filter(|key| !self.is_journaled(key)) {
                self.inherited.insert(key);
            }
        }
        self.distrust_inherited();
        if page.continue_token.is_empty() {
            self.lost.survey_count += 1;
            self.lost.is_surveying = false;
        } else {
            self.survey(page.continue_token);
        }
    }

    fn has_own_record(&self, block: &AddressBlock) -> bool {
        let Some(own) = self.epoch.id() else {
            return false;
        };
        let records = decode_records(&block.spec.records);
        records.flatten().any(|(_, record)| {
            record
                .holder()
                .is_some_and(|holder| holder.epoch.machine() == own.machine())
        })
    }

    fn is_journaled(&self, (pool, index): &(String, u64)) -> bool {
        self.pool_ids.get(pool).is_some_and(|id| {
            let key = BlockKey {
                pool: *id,
                index: *index,
            };
            self.blocks.get(&key).is_some_and(|block| block.journaled)
        })
    }

    /// A DEL of a container that the lost journal knew: the runtime's list says whose it was.
    pub(super) fn adopt_lost_del(&mut self, request: &DelRequest) {
        if self.ended.contains(&request.attachment) {
            return;
        }
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

    /// DELs that came before a list told whose container it was.
    fn adopt_early_dels(&mut self) {
        let is_unheeded = |attachment: &Attachment| {
            self.lost.pods.contains_key(&attachment.container)
                && !self.attachments.contains_key(attachment)
                && !self.poolless.contains_key(attachment)
                && !self
                    .adds
                    .values()
                    .any(|add| add.is_of(&attachment.container))
        };
        let early: Vec<_> = self
            .tombstones
            .iter()
            .filter(|(attachment, _)| is_unheeded(attachment))
            .cloned()
            .collect();
        for (attachment, netns) in early {
            self.del(&DelRequest { attachment, netns }, None);
        }
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
        // An earlier process answered its ADD, when is not known.
        let at = self.lost.started.unwrap_or(self.now);
        let pool = self.pools.get(&place.block.pool).expect(known::POOL);
        let Some(geometry) = &pool.pool else { return };
        let ordinal = place.block.index * u64::from(geometry.block_size) + u64::from(place.ordinal);
        let Some(answer) = geometry.allocation(ordinal) else {
            return;
        };
        let holding = self.holdings.get_mut(&place).expect("it was just found");
        assert_eq!(
            holding.state,
            Hold::Lost,
            "only what is lost is found again"
        );
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
            at,
        };
        let attached = Attached {
            binding: binding.clone(),
            place,
            releasing: None,
            answered_here: false,
        };
        self.attachments.insert(attachment.clone(), attached);
        self.journal(&Entry::Bound(Box::new(binding)));
    }
}
