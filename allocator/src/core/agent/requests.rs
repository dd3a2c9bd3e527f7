//! Requests from plugins: ADD and the small verbs. DEL and GC are in `releases`.

use super::Agent;
use super::errands::{ProbePurpose, Purpose};
use super::known;
use super::memory::{ClaimAt, ClaimId, Hold, Place, PoolId};
use super::releases::Attached;
use super::rights::{Asker, Door, Missing, PodFacts};
use super::startup::Phase;
use super::timers::Timer;
use crate::core::api::{ApiError, ApiReply, ApiRequest, Consistency};
use crate::core::exchange::{
    AddRequest, Allocation, Attachment, CheckRequest, Failure, PathState, PluginRequest, Probe,
    RequestId, Response, Verb,
};
use crate::core::journal::{Binding, Entry};
use crate::core::objects::{Kind, Object, ObjectKey, Uid};
use crate::core::time::BootTime;

/// An unanswered ADD.
pub(super) struct PendingAdd {
    request: AddRequest,
    deadline: BootTime,
    /// The last look at the namespace's path, and when.
    probe: Option<(Probe, BootTime)>,
    probing: bool,
    pub(super) pod_uid: Option<Uid>,
    /// Another sandbox of the Pod exists; before this time the ADD takes no second address.
    second_until: Option<BootTime>,
    /// When to read the Pod, if the watch has not shown it.
    read_at: Option<BootTime>,
    /// What it lacks, reported when its deadline passes.
    lacks: &'static str,
}

/// What to do next about an ADD.
enum AddStep {
    Wait,
    Answer(Place),
    /// A second address for the Pod, because another sandbox keeps the first.
    AwaitOther,
    /// Something must be known first.
    Read(Missing),
    /// No pool admits it.
    Refuse(String),
    Claim,
    /// A claim that was made before the ADD is on its way.
    AwaitClaim(ClaimId),
}

impl PendingAdd {
    pub(super) fn attachment(&self) -> &Attachment {
        &self.request.attachment
    }

    pub(super) fn is_of(&self, container: &str) -> bool {
        self.request.attachment.container == container
    }
}

impl Agent {
    pub(super) fn request(&mut self, request: PluginRequest, probe: Option<Probe>) {
        match self.phase {
            Phase::Refused => {
                let failure = Failure::new(Failure::TRY_AGAIN, "the journal is of a newer version");
                self.reply(request.id, Response::Failed(failure));
            }
            Phase::Opening if !self.journal_ok => {
                let failure = Failure::new(Failure::IO, "the journal cannot be opened");
                self.reply(request.id, Response::Failed(failure));
            }
            Phase::Opening => self.early.push((request, probe)),
            Phase::Loading if !matches!(request.verb, Verb::Add(_) | Verb::Status) => {
                self.early.push((request, probe));
            }
            _ => self.serve(request, probe),
        }
    }

    pub(super) fn serve(&mut self, request: PluginRequest, probe: Option<Probe>) {
        let id = request.id;
        match request.verb {
            Verb::Add(add) => self.add(id, request.deadline, add, probe),
            Verb::Del(del) => {
                self.del(&del, probe);
                self.reply(id, Response::Done);
            }
            Verb::Check(check) => {
                let response = self.check(&check);
                self.reply(id, response);
            }
            Verb::Gc(gc) => self.gc(id, gc),
            Verb::Status => {
                let ready = self.phase == Phase::Serving && self.journal_ok;
                let response = if ready {
                    Response::Done
                } else {
                    let text = "the agent is not ready";
                    Response::Failed(Failure::new(Failure::NOT_AVAILABLE, text))
                };
                self.reply(id, response);
            }
        }
    }

    fn add(&mut self, id: RequestId, deadline: BootTime, add: AddRequest, probe: Option<Probe>) {
        let place = (add.attachment.clone(), add.netns.clone());
        let refusal = if self.tombstones.contains(&place) {
            Some((Failure::TRY_AGAIN, "the DEL of this container came first"))
        } else if self.adds.len() >= self.config.policy.waiting_adds_max {
            Some((Failure::TRY_AGAIN, "too many requests wait"))
        } else {
            None
        };
        if let Some((code, text)) = refusal {
            self.count("berth_add_refused_total");
            self.reply(id, Response::Failed(Failure::new(code, text)));
            return;
        }
        let pod_uid = add.pod.uid.clone();
        let name = format!("{}/{}", add.pod.namespace, add.pod.name);
        let pending = PendingAdd {
            request: add,
            deadline,
            probe: probe.map(|probe| (probe, self.now)),
            probing: false,
            pod_uid: pod_uid.clone(),
            second_until: None,
            read_at: None,
            lacks: "",
        };
        self.adds.insert(id, pending);
        self.arm_add(id);
        match pod_uid {
            Some(uid) => {
                self.pod_entry(&uid, &name).adds.push(id);
                self.touched_pods.insert(uid);
            }
            None => self.read_pod_of_add(id),
        }
    }

    fn arm_add(&mut self, id: RequestId) {
        let add = self.adds.get(&id).expect(known::ADD);
        let margin = self.config.policy.reply_margin;
        let last = BootTime::new(add.deadline.since_boot().saturating_sub(margin));
        let at = match add.second_until {
            Some(until) if until > self.now => until.min(last),
            _ => last,
        };
        self.arm(Timer::Add(id), at);
    }

    pub(super) fn add_timer(&mut self, id: RequestId) {
        let add = self.adds.get(&id).expect(known::ADD);
        let late = self.now + self.config.policy.reply_margin >= add.deadline;
        let lacks = add.lacks;
        match add.pod_uid.clone() {
            _ if late => {
                let text = format!("no address within the deadline{lacks}");
                self.fail_add(id, Failure::TRY_AGAIN, &text);
            }
            Some(uid) => {
                self.touched_pods.insert(uid);
                self.arm_add(id);
            }
            None => self.arm_add(id),
        }
    }

    /// The arguments have no UID and the watch may show an earlier Pod of the same name, so read
    /// it.
    fn read_pod_of_add(&mut self, id: RequestId) {
        let add = self.adds.get(&id).expect(known::ADD);
        let pod = &add.request.pod;
        let key = ObjectKey {
            kind: Kind::Pod,
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
        };
        self.call(
            Purpose::PodOfAdd(id),
            ApiRequest::Get(key, Consistency::Quorum),
        );
    }

    pub(super) fn pod_of_add_read(&mut self, id: RequestId, result: Result<ApiReply, ApiError>) {
        let Some(add) = self.adds.get_mut(&id) else {
            return;
        };
        match result {
            Ok(ApiReply::Object(Object::Pod(pod))) => {
                let is_it = |uid: &Uid| *uid == pod.metadata.uid || pod.is_mirror_of(uid);
                if add.pod_uid.as_ref().is_some_and(|uid| !is_it(uid)) {
                    let text = "another Pod has its name: the Pod is gone from the API";
                    self.fail_add(id, Failure::TRY_AGAIN, text);
                    return;
                }
                let uid = add.pod_uid.get_or_insert(pod.metadata.uid.clone()).clone();
                let name = format!("{}/{}", pod.metadata.namespace, pod.metadata.name);
                let state = self.pod_entry(&uid, &name);
                if !state.adds.contains(&id) {
                    state.adds.push(id);
                }
                state.read = Some(PodFacts::read(&pod));
                self.touched_pods.insert(uid);
            }
            Err(ApiError::NotFound) => {
                self.fail_add(id, Failure::TRY_AGAIN, "the Pod is gone from the API");
            }
            _ => self.fail_add(id, Failure::TRY_AGAIN, "the Pod could not be read"),
        }
    }

    pub(super) fn fail_add(&mut self, id: RequestId, code: u32, text: &str) {
        if let Some(uid) = self.adds.get(&id).and_then(|add| add.pod_uid.clone()) {
            let reason = match code {
                Failure::NOT_ADMITTED => "PoolRefused",
                _ => "AddressFailed",
            };
            self.pod_event(&uid, reason, text.to_owned());
        }
        self.refuse_add(id, code, text);
    }

    fn refuse_add(&mut self, id: RequestId, code: u32, text: &str) {
        self.count("berth_add_failed_total");
        self.reply(id, Response::Failed(Failure::new(code, text)));
        self.forget_add(id);
    }

    fn forget_add(&mut self, id: RequestId) {
        self.disarm(&Timer::Add(id));
        let Some(add) = self.adds.remove(&id) else {
            return;
        };
        let Some(uid) = add.pod_uid else { return };
        if let Some(pod) = self.pods.get_mut(&uid) {
            pod.adds.retain(|other| *other != id);
        }
        for claim in self.claims.values_mut() {
            if claim.request == Some(id) {
                claim.request = None;
            }
        }
        self.touched_pods.insert(uid);
    }

    /// The plugin is gone. What was claimed for it is its Pod's reservation.
    pub(super) fn request_closed(&mut self, id: RequestId) {
        self.early
            .retain(|(request, _)| request.id != id || matches!(request.verb, Verb::Del(_)));
        self.forget_add(id);
    }

    /// A DEL ends the waiting ADDs of its attachment.
    pub(super) fn cancel_adds_of(&mut self, attachment: &Attachment) {
        let waiting: Vec<_> = self
            .adds
            .iter()
            .filter(|(_, add)| add.request.attachment == *attachment)
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.refuse_add(id, Failure::TRY_AGAIN, "a DEL overtook this ADD");
        }
    }

    /// Takes an ADD as far as it can go now.
    pub(super) fn advance_add(&mut self, id: RequestId) {
        if self.phase != Phase::Serving {
            return;
        }
        let add = self.adds.get(&id).expect(known::ADD);
        let uid = add.pod_uid.clone();
        let uid = uid.expect("an ADD is a Pod's once its Pod is known");
        if let Some((probe, _)) = add.probe
            && matches!(probe.state, PathState::Gone { .. })
        {
            let text = "the network namespace is gone";
            self.fail_add(id, Failure::INVALID_ENVIRONMENT, text);
            return;
        }
        match self.next_step(id, &uid) {
            AddStep::Wait => {}
            AddStep::Answer(place) => self.answer(id, place),
            AddStep::AwaitOther => self.await_other_sandbox(id),
            AddStep::Read(missing) => self.read_missing(id, missing),
            AddStep::Refuse(text) => self.fail_add(id, Failure::NOT_ADMITTED, &text),
            AddStep::Claim => self.claim_for_add(id, &uid),
            AddStep::AwaitClaim(claim) => self.await_claim(id, claim),
        }
    }

    fn next_step(&self, id: RequestId, uid: &Uid) -> AddStep {
        let (add, pod) = (self.known_add(id), self.known_pod(uid));
        let request = &add.request;
        if let Some(attached) = self.attachments.get(&request.attachment)
            && attached.binding.pod_uid == *uid
            && pod.places.contains(&attached.place)
        {
            // A repeated ADD, or the same container after its DEL.
            return self.answer_or_wait(attached.place);
        }
        let asker = self.asker(request);
        let door = self.door(uid, &asker);
        let mut wait = false;
        let mut other_sandbox = false;
        for place in &pod.places {
            let holding = self.holdings.get(place).expect("a Pod's place is held");
            match &holding.state {
                Hold::Unbound if self.suits(*place, request, (&asker, &door)) => {
                    if self.is_answerable(*place) {
                        return AddStep::Answer(*place);
                    }
                    wait = true;
                }
                Hold::Unbound => {}
                Hold::Attached(other) if other.container != request.attachment.container => {
                    let moves = self.is_releasing(other)
                        && other.interface == request.attachment.interface
                        && self.suits(*place, request, (&asker, &door));
                    if moves {
                        return self.answer_or_wait(*place);
                    }
                    other_sandbox |= !self.is_releasing(other)
                        && other.interface == request.attachment.interface;
                }
                Hold::Attached(_) => {}
                Hold::Lost => {
                    let container = &request.attachment.container;
                    // It is bound, though perhaps to another attachment, so no rule is asked.
                    if self.lost.is_only_sandbox(container, uid) && self.fits(*place, request) {
                        return self.answer_or_wait(*place);
                    }
                    other_sandbox = true;
                }
            }
        }
        match door {
            Door::Unknown(missing) => return AddStep::Read(missing),
            Door::Shut(text) => return AddStep::Refuse(text),
            Door::Open { .. } => {}
        }
        if wait {
            AddStep::Wait
        } else if other_sandbox && add.second_until.is_none_or(|until| self.now < until) {
            AddStep::AwaitOther
        } else {
            let mut claims = pod.claims.iter().copied();
            match claims.find(|claim| self.claim_suits(*claim, request, (&asker, &door))) {
                Some(claim) => AddStep::AwaitClaim(claim),
                None => AddStep::Claim,
            }
        }
    }

    /// An ADD waits for a claim that the watch made. From now on the claim is the ADD's: it goes
    /// before claims that nobody waits for, and may take over what those hold.
    fn await_claim(&mut self, id: RequestId, claim: ClaimId) {
        let waited_for = self.claims.get_mut(&claim).expect(known::CLAIM);
        if waited_for.request.is_some() {
            return;
        }
        waited_for.request = Some(id);
        if waited_for.at != ClaimAt::Queue {
            return;
        }
        let first = waited_for.pools[0];
        if let Some(pool) = self.pools.get_mut(&first) {
            pool.queue.retain(|other| *other != claim);
            pool.queue.push_front(claim);
        }
        self.touched_pools.insert(first);
    }

    fn answer_or_wait(&self, place: Place) -> AddStep {
        if self.is_answerable(place) {
            AddStep::Answer(place)
        } else {
            AddStep::Wait
        }
    }

    fn claim_suits(
        &self,
        id: ClaimId,
        request: &AddRequest,
        (asker, door): (&Asker, &Door),
    ) -> bool {
        let Door::Open { pools, kept } = door else {
            return false;
        };
        self.claims.get(&id).is_some_and(|claim| {
            let is_open = pools.contains(&claim.pools[0])
                || kept
                    .as_ref()
                    .is_some_and(|(_, kept)| claim.wanted.as_ref() == Some(kept));
            request.ips.is_empty()
                && is_open
                && claim.asker.other_network() == asker.other_network()
                || claim.request.is_some_and(|other| {
                    self.adds
                        .get(&other)
                        .is_some_and(|add| add.request == *request)
                })
        })
    }

    /// Whether an ordinal may be answered: the door is open for it, it was claimed for the same
    /// network, and it is the requested one, if one is requested. An ordinal that an earlier
    /// process claimed for an unknown network serves a network other than the default one only if
    /// that network would claim from the same pool: what an annotation chose for one network
    /// redirects no other.
    fn suits(&self, place: Place, request: &AddRequest, (asker, door): (&Asker, &Door)) -> bool {
        let is_of_network = match (self.claimed_for.get(&place), door) {
            (Some(network), _) => network.as_deref() == asker.other_network(),
            (None, Door::Open { pools, .. }) => {
                asker.other_network().is_none() || pools.first() == Some(&place.block.pool)
            }
            (None, _) => false,
        };
        is_of_network && door.lets_place(place) && self.fits(place, request)
    }

    /// Whether an ordinal is in a pool that the configuration names, and is the requested one.
    fn fits(&self, place: Place, request: &AddRequest) -> bool {
        let pool = self.pools.get(&place.block.pool).expect(known::POOL);
        if !request.pools.is_empty() && !request.pools.contains(&pool.name) {
            return false;
        }
        let Some(geometry) = &pool.pool else {
            return false;
        };
        let size = u64::from(geometry.block_size);
        let ordinal = place.block.index * size + u64::from(place.ordinal);
        request
            .ips
            .iter()
            .all(|ip| geometry.ordinal_of(*ip) == Some(ordinal))
    }

    /// The first sandbox keeps its address until its DEL or its namespace's end; this one waits
    /// briefly for that, then takes another address.
    fn await_other_sandbox(&mut self, id: RequestId) {
        let until = self.now + self.config.policy.second_sandbox_wait;
        let add = self.adds.get_mut(&id).expect(known::ADD);
        if add.second_until.is_some() {
            return;
        }
        add.second_until = Some(until);
        // It may have ended by itself: then this sandbox gets its address.
        self.arm(Timer::Sweep, self.now);
        let add = self.adds.get_mut(&id).expect(known::ADD);
        let text =
            "another sandbox of this Pod keeps its address; this one waits, then gets another";
        if let Some(uid) = add.pod_uid.clone() {
            self.pod_event(&uid, "SecondSandbox", text.to_owned());
        }
        self.arm_add(id);
    }

    /// The Pod is read after the watch has had time to show it, its Namespace at once. Either way
    /// the Pod is touched when the answer arrives.
    fn read_missing(&mut self, id: RequestId, missing: Missing) {
        let (now, unseen) = (self.now, self.config.policy.pod_unseen);
        let add = self.adds.get_mut(&id).expect(known::ADD);
        let namespace = add.request.pod.namespace.clone();
        match missing {
            Missing::Namespace => {
                add.lacks = ": the labels of the Namespace could not be read";
                self.need_namespace(&namespace);
            }
            Missing::Pod => {
                add.lacks = ": the Pod could not be read";
                match add.read_at {
                    None => {
                        add.read_at = Some(now + unseen);
                        self.arm(Timer::Add(id), now + unseen);
                    }
                    Some(at) if at <= now => {
                        // Once: the answer settles it.
                        add.read_at = Some(BootTime::NEVER);
                        self.read_pod_of_add(id);
                    }
                    Some(_) => {}
                }
            }
        }
    }

    fn claim_for_add(&mut self, id: RequestId, uid: &Uid) {
        let add = self.adds.get_mut(&id).expect(known::ADD);
        add.lacks = "";
        let request = add.request.clone();
        let state = self.pods.get(uid);
        if state.is_some_and(|state| state.claim_not_before > self.now) {
            return;
        }
        let asker = self.asker(&request);
        let door = self.door(uid, &asker);
        let Door::Open { pools, kept } = &door else {
            unreachable!("nothing is claimed at a shut door");
        };
        let mut usable: Vec<PoolId> = pools
            .iter()
            .copied()
            .filter(|id| self.takes_new_claims(*id))
            .collect();
        let name = format!("{}/{}", request.pod.namespace, request.pod.name);
        let unread = usable
            .iter()
            .find_map(|pool| self.kept_for_unreadable(&name, *pool));
        if let Some(unread) = unread.map(ToOwned::to_owned) {
            usable.retain(|pool| self.kept_for_unreadable(&name, *pool).is_none());
            if usable.is_empty() {
                let text = format!("AddressReservation {unread} for this Pod cannot be read");
                self.fail_add(id, Failure::TRY_AGAIN, &text);
                return;
            }
        }
        let is_kept_usable = kept
            .as_ref()
            .is_none_or(|(id, _)| self.takes_new_claims(*id));
        let kept = kept.clone();
        if !is_kept_usable || (usable.is_empty() && kept.is_none()) {
            let text = "no pool that is for this Pod takes new claims: none is approved as it is";
            self.fail_add(id, Failure::TRY_AGAIN, text);
            return;
        }
        if !request.ips.is_empty() {
            match self.wanted_by(uid, &request, &door, &usable) {
                Ok(wanted) => {
                    let pools = vec![wanted.block.pool];
                    self.new_claim((uid, asker), pools, Some(wanted), Some(id));
                }
                Err((code, text)) => self.fail_add(id, code, &text),
            }
        } else if let Some((pool, wanted)) = kept {
            self.new_claim((uid, asker), vec![pool], Some(wanted), Some(id));
        } else {
            self.new_claim((uid, asker), usable, None, Some(id));
        }
    }

    /// Answers an ADD with a place that may be answered, if the epoch covers it and the namespace
    /// still exists.
    fn answer(&mut self, id: RequestId, place: Place) {
        if !self.epoch_is_valid() {
            self.epoch_needed();
            return;
        }
        if !self.is_looked_at(id) {
            return;
        }
        // A block may record a hold beyond the pool's capacity, which has no address.
        let Some(answer) = self.allocation_of(place) else {
            return;
        };
        assert!(
            self.is_answerable(place),
            "nothing is answered that the block does not state"
        );
        let attachment = self.known_add(id).request.attachment.clone();
        let holding = self.holdings.get_mut(&place);
        let holding = holding.expect("what is answered is held");
        let before = std::mem::replace(&mut holding.state, Hold::Attached(attachment.clone()));
        if let Hold::Attached(before) = before
            && before != attachment
        {
            self.end_attachment(&before);
        }
        self.attach(id, place, answer);
        let attached = self.attachments.get(&attachment);
        let attached = attached.expect("it was entered, now or before");
        assert_eq!(
            attached.place, place,
            "what is answered is where it is held"
        );
        let answer = attached.binding.answer.clone();
        self.reply(id, Response::Added(answer));
        self.forget_add(id);
    }

    /// Whether the namespace's path was looked at in this very instant; if not, has it looked at.
    fn is_looked_at(&mut self, id: RequestId) -> bool {
        let now = self.now;
        let add = self.adds.get_mut(&id).expect(known::ADD);
        if add.request.netns.is_empty() || add.probe.is_some_and(|(_, at)| at >= now) {
            return true;
        }
        if !std::mem::replace(&mut add.probing, true) {
            let path = add.request.netns.clone();
            self.probe(ProbePurpose::BeforeReply(id), &path);
        }
        false
    }

    /// Records in memory and in the journal that the place is the attachment's, unless both say so
    /// already.
    fn attach(&mut self, id: RequestId, place: Place, answer: Allocation) {
        let add = self.known_add(id);
        let request = &add.request;
        let mount = match add.probe {
            Some((probe, _)) => match probe.state {
                PathState::Present { mount } => Some(mount),
                PathState::Gone { .. } | PathState::Unknown => None,
            },
            None => None,
        };
        let known = self.attachments.get(&request.attachment);
        let again = known.is_some_and(|attached| {
            attached.place == place
                && attached.releasing.is_none()
                && attached.binding.netns == request.netns
        });
        // While the journal accepts nothing, what memory holds may never have been written.
        if again && self.journal_ok {
            return;
        }
        let answered_here = known.is_none_or(|known| known.answered_here);
        let holding = self.holdings.get(&place);
        let holding = holding.expect("what is answered is held");
        let attachment = request.attachment.clone();
        let binding = Binding {
            attachment: attachment.clone(),
            netns: request.netns.clone(),
            mount,
            pod_uid: holding.pod.clone(),
            pod_name: holding.pod_name.clone(),
            pool: answer.pool.clone(),
            index: place.block.index,
            ordinal: place.ordinal,
            answer,
            at: self.now,
        };
        self.disarm(&Timer::Release(attachment.clone()));
        let attached = Attached {
            answered_here,
            binding: binding.clone(),
            place,
            releasing: None,
        };
        self.attachments.insert(attachment, attached);
        self.journal(&Entry::Bound(Box::new(binding)));
    }

    pub(super) fn allocation_of(&self, place: Place) -> Option<Allocation> {
        let pool = self.pools.get(&place.block.pool)?.pool.as_ref()?;
        let size = u64::from(pool.block_size);
        pool.allocation(place.block.index * size + u64::from(place.ordinal))
    }

    pub(super) fn probed_before_reply(&mut self, id: RequestId, result: Probe) {
        let now = self.now;
        let Some(add) = self.adds.get_mut(&id) else {
            return;
        };
        add.probe = Some((result, now));
        add.probing = false;
        if let Some(uid) = add.pod_uid.clone() {
            self.touched_pods.insert(uid);
        }
    }

    /// Compares request, journal and record.
    fn check(&self, request: &CheckRequest) -> Response {
        let failed = |text| Response::Failed(Failure::new(Failure::CHECK_FAILED, text));
        let Some(attached) = self.attachments.get(&request.attachment) else {
            return failed("this attachment has no answered ADD");
        };
        if attached.releasing.is_some() {
            return failed("a DEL of this attachment was seen");
        }
        let answered = |ip| {
            attached
                .binding
                .answer
                .addresses
                .iter()
                .any(|a| a.address.addr() == ip)
        };
        if !request.addresses.iter().copied().all(answered) {
            return failed("the addresses differ from those answered");
        }
        let trusted = self
            .blocks
            .get(&attached.place.block)
            .is_some_and(|block| block.trusted);
        if trusted && !self.is_answerable(attached.place) {
            return failed("the block does not say so");
        }
        Response::Done
    }
}
