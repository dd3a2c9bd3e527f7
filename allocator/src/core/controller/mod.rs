//! The controller: approves pools, puts masks and reservations into blocks, buries machines. A
//! Lease elects one leader, but safety does not depend on there being only one: every write is
//! guarded, and the only records it frees are those of dead epochs, which never live again.
//!
//! It does one thing at a time: after each answer it compares what it knows with what should be and
//! takes the first step that is missing.

mod approval;
mod burial;
mod delays;
mod lease;
mod masks;
mod status;
mod survey;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::objects::{
    AddressPool, AddressReservation, BerthNode, DomainApproval, Kind, Node, Object, ObjectKey,
};
use super::retry::Backoff;
use super::time::{BootTime, WallTime};
use crate::core::api::{
    ApiError, ApiReply, ApiRequest, CallId, Consistency, ListQuery, Part, Preconditions, Selection,
    WatchEvent, WatchId, WatchQuery,
};
use crate::core::report::Metric;

use burial::Burials;
use delays::{Delays, Unread};
use lease::Leadership;
use survey::Survey;

/// Who the controller is and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// Unique per process.
    pub identity: String,
    /// Where the Lease is.
    pub lease_namespace: String,
    /// Its name.
    pub lease_name: String,
    /// A lease that has not changed for this long is free.
    pub lease_duration: Duration,
    /// How often the leader renews.
    pub lease_renewal: Duration,
    /// Between dying and dead. Longer than an agent's validity, its longest ADD and drift together.
    pub quarantine: Duration,
    /// Whether a Node object that is gone starts a burial.
    pub bury_when_node_is_gone: bool,
    /// How old the counts in the pools' status may be.
    pub report_interval: Duration,
    /// Pauses after failures.
    pub retry: Backoff,
    /// Units: items.
    pub list_page: u32,
    /// The rule to break.
    #[cfg(feature = "mutants")]
    pub mutant: Option<super::Mutant>,
}

impl ControllerConfig {
    /// The released values.
    pub fn new(identity: &str) -> Self {
        Self {
            identity: identity.to_owned(),
            lease_namespace: "berth-system".to_owned(),
            lease_name: "berth-controller".to_owned(),
            lease_duration: Duration::from_secs(15),
            lease_renewal: Duration::from_secs(5),
            quarantine: Duration::from_secs(660),
            bury_when_node_is_gone: false,
            report_interval: Duration::from_mins(1),
            retry: Backoff {
                first: Duration::from_millis(200),
                longest: Duration::from_secs(30),
            },
            list_page: 500,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }
}

/// What happens to a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The process started. First, and once.
    Start,
    /// The time last asked for is there.
    Wake,
    /// The apiserver answered.
    Api {
        /// Which request.
        call: CallId,
        /// How.
        result: Result<ApiReply, ApiError>,
    },
    /// A watch delivered, or could not be opened.
    Watch {
        /// Which.
        watch: WatchId,
        /// What.
        events: Vec<WatchEvent>,
    },
}

/// What a controller wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Ask the apiserver.
    Call {
        /// To recognize the answer by.
        call: CallId,
        /// What.
        request: ApiRequest,
    },
    /// Open a watch.
    Watch {
        /// To recognize its events by.
        watch: WatchId,
        /// What.
        query: WatchQuery,
    },
    /// Close a watch.
    Unwatch(WatchId),
    /// Send [`Input::Wake`] at this time; replaces the time asked for before.
    Wake(BootTime),
    /// Count.
    Metric(Metric),
    /// Tell the operator.
    Event {
        /// Reason.
        reason: &'static str,
        /// Message.
        message: String,
    },
}

/// How full a pool is, as of the last count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolCount {
    /// The pool.
    pub name: String,
    /// Units: ordinals.
    pub capacity: u64,
    /// Units: ordinals held by Pods.
    pub held: u64,
    /// Units: ordinals that a claim could take.
    pub free: u64,
}

/// What a controller sees, for metrics and health. Nothing is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControllerState {
    /// Whether this process leads.
    pub leads: bool,
    /// When the apiserver last answered about the Lease; zero: never.
    pub lease_answered_at: BootTime,
    /// Every kind that is cached was listed.
    pub is_listed: bool,
    /// The pools, ascending by name.
    pub pools: Vec<PoolCount>,
    /// Units: machines.
    pub machines_live: u64,
    /// Units: machines.
    pub machines_dying: u64,
    /// Units: machines.
    pub machines_dead: u64,
    /// Units: machines whose burial waits for the hourly limit.
    pub burials_held: u64,
    /// Units: objects that are there and cannot be read.
    pub set_aside: BTreeMap<Kind, u64>,
    /// Units: objects whose last write the apiserver refused.
    pub writes_refused: u64,
    /// When a step last succeeded, or there was none to take.
    pub progress_at: BootTime,
    /// What keeps it from its work, for people.
    pub waits_for: Vec<String>,
}

const CACHED: [Kind; 5] = [
    Kind::AddressPool,
    Kind::AddressReservation,
    Kind::BerthNode,
    Kind::DomainApproval,
    Kind::Node,
];

/// What a request was for.
enum Purpose {
    Lease {
        planned: Option<Box<super::objects::Lease>>,
    },
    List(Kind),
    Survey,
    Write {
        planned: Box<Object>,
        /// For whose sake: what waits when it is refused.
        subject: ObjectKey,
    },
    Delete {
        key: ObjectKey,
        subject: ObjectKey,
    },
    Refresh(ObjectKey),
}

/// The controller.
pub struct Controller {
    config: ControllerConfig,
    now: BootTime,
    wall: WallTime,
    entropy: u64,
    last_id: u64,
    out: Vec<Output>,
    lease: Leadership,
    calls: BTreeMap<CallId, Purpose>,
    watches: BTreeMap<WatchId, Kind>,
    versions: BTreeMap<Kind, String>,
    listed: BTreeSet<Kind>,
    reopen_at: BTreeMap<Kind, (BootTime, bool)>,
    pools: BTreeMap<String, AddressPool>,
    reservations: BTreeMap<String, AddressReservation>,
    machines: BTreeMap<String, BerthNode>,
    domains: BTreeMap<String, DomainApproval>,
    nodes: BTreeMap<String, Node>,
    /// All blocks as of one quorum list, while some step needs them.
    survey: Option<Survey>,
    surveying: Survey,
    /// A step is in flight.
    busy: bool,
    not_before: BootTime,
    failure_count: u32,
    burials: Burials,
    /// Reservations whose record was put or seen.
    placed: BTreeMap<String, String>,
    /// When to count the pools again.
    report_due: BootTime,
    delays: Delays,
    unread: Unread,
    /// Watches of the kind that ended in a row without an event.
    ended_in_vain: BTreeMap<Kind, u32>,
    /// Why the kind is not listed.
    list_errors: BTreeMap<Kind, String>,
    progress_at: BootTime,
    last_error: String,
}

/// After so many ends in a row without an event, a watch is opened from a new list: whatever ends
/// it lies behind that version.
const CLOSED_IN_VAIN_MAX: u32 = 8;

impl Controller {
    /// A controller that knows nothing yet.
    pub fn new(config: ControllerConfig) -> Self {
        Self {
            config,
            now: BootTime::ZERO,
            wall: WallTime::default(),
            entropy: 0,
            last_id: 0,
            out: Vec::new(),
            lease: Leadership::default(),
            calls: BTreeMap::new(),
            watches: BTreeMap::new(),
            versions: BTreeMap::new(),
            listed: BTreeSet::new(),
            reopen_at: BTreeMap::new(),
            pools: BTreeMap::new(),
            reservations: BTreeMap::new(),
            machines: BTreeMap::new(),
            domains: BTreeMap::new(),
            nodes: BTreeMap::new(),
            survey: None,
            surveying: Survey::default(),
            busy: false,
            not_before: BootTime::ZERO,
            failure_count: 0,
            burials: Burials::default(),
            placed: BTreeMap::new(),
            report_due: BootTime::ZERO,
            delays: Delays::default(),
            unread: Unread::default(),
            ended_in_vain: BTreeMap::new(),
            list_errors: BTreeMap::new(),
            progress_at: BootTime::ZERO,
            last_error: String::new(),
        }
    }

    /// Takes one input in and says what to do. Total.
    pub fn handle(
        &mut self,
        now: BootTime,
        wall: WallTime,
        entropy: u64,
        input: Input,
    ) -> Vec<Output> {
        self.now = self.now.max(now);
        self.wall = wall;
        self.entropy = entropy;
        match input {
            Input::Start => {
                for kind in CACHED {
                    self.list(kind);
                }
            }
            Input::Wake => {}
            Input::Api { call, result } => self.answered(call, result),
            Input::Watch { watch, events } => {
                for event in events {
                    self.watched(watch, event);
                }
            }
        }
        self.reopen_due();
        self.lease_due();
        self.step();
        self.assert_one_step();
        let wake = self.next_wake();
        assert!(wake > self.now, "it wakes again, and not at once");
        self.out.push(Output::Wake(wake));
        std::mem::take(&mut self.out)
    }

    /// Whatever the world sends, one step is under way at most, and it is known whether one is.
    fn assert_one_step(&self) {
        let purposes = || self.calls.values();
        let leases = purposes().filter(|p| matches!(p, Purpose::Lease { .. }));
        let lease_count = leases.count();
        assert_eq!(
            lease_count,
            usize::from(self.lease.is_in_flight()),
            "one request about the Lease at a time"
        );
        let lists = purposes().filter(|p| matches!(p, Purpose::List(_)));
        assert_eq!(
            self.calls.len() - lease_count - lists.count(),
            usize::from(self.busy),
            "one step at a time"
        );
    }

    /// A step goes out.
    fn begin_step(&mut self, purpose: Purpose, request: ApiRequest) {
        assert!(!self.busy, "one step at a time");
        self.busy = true;
        self.call(purpose, request);
    }

    /// Its answer came.
    fn end_step(&mut self) {
        assert!(self.busy, "what was answered was asked");
        self.busy = false;
    }

    fn call(&mut self, purpose: Purpose, request: ApiRequest) {
        self.last_id += 1;
        let call = CallId(self.last_id);
        self.calls.insert(call, purpose);
        self.out.push(Output::Call { call, request });
    }

    fn event(&mut self, reason: &'static str, message: String) {
        self.out.push(Output::Event { reason, message });
    }

    fn selection(kind: Kind) -> Selection {
        Selection {
            kind,
            labels: Vec::new(),
            node_name: None,
        }
    }

    fn list(&mut self, kind: Kind) {
        let query = ListQuery {
            selection: Self::selection(kind),
            consistency: Consistency::Quorum,
            limit: 0,
            continue_token: String::new(),
        };
        self.call(Purpose::List(kind), ApiRequest::List(query));
    }

    fn open_watch(&mut self, kind: Kind) {
        assert!(
            self.watches.values().all(|watched| *watched != kind),
            "a kind is watched once"
        );
        self.last_id += 1;
        let watch = WatchId(self.last_id);
        self.watches.insert(watch, kind);
        let resource_version = self.versions.get(&kind).cloned().unwrap_or_default();
        let query = WatchQuery {
            selection: Self::selection(kind),
            resource_version,
        };
        self.out.push(Output::Watch { watch, query });
    }

    fn reopen_due(&mut self) {
        let due: Vec<_> = self
            .reopen_at
            .iter()
            .filter(|(_, (at, _))| *at <= self.now)
            .map(|(kind, (_, relist))| (*kind, *relist))
            .collect();
        for (kind, relist) in due {
            self.reopen_at.remove(&kind);
            if relist {
                self.list(kind);
            } else {
                self.open_watch(kind);
            }
        }
    }

    fn next_wake(&self) -> BootTime {
        let reopen = self.reopen_at.values().map(|(at, _)| *at);
        let paused = (!self.busy && self.not_before > self.now).then_some(self.not_before);
        reopen
            .chain([self.lease.next_due()])
            .chain(paused)
            .chain(self.delays.next_due(self.now))
            .chain(self.burials.next_due(self.config.quarantine))
            .chain(self.lease.leads(self.now).then_some(self.report_due))
            .filter(|at| *at > self.now)
            .min()
            .unwrap_or(self.now + self.config.lease_renewal)
    }

    fn watched(&mut self, watch: WatchId, event: WatchEvent) {
        let Some(&kind) = self.watches.get(&watch) else {
            return;
        };
        #[cfg(feature = "mutants")]
        let event = match event {
            event if self.fails_whole() && event.shows_set_aside() => WatchEvent::Closed,
            event => event,
        };
        if !matches!(event, WatchEvent::Closed | WatchEvent::Expired) {
            self.ended_in_vain.remove(&kind);
        }
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.versions
                    .insert(kind, object.metadata().resource_version.clone());
                self.remember(object);
            }
            WatchEvent::Deleted(object) => {
                self.versions
                    .insert(kind, object.metadata().resource_version.clone());
                self.forget(&object.key());
            }
            WatchEvent::Bookmark(version) => {
                self.versions.insert(kind, version);
            }
            WatchEvent::Closed => {
                self.watches.remove(&watch);
                let count = self.ended_in_vain.entry(kind).or_insert(0);
                *count += 1;
                let relist = *count > CLOSED_IN_VAIN_MAX;
                if relist {
                    *count = 0;
                }
                let pause = self.config.retry.pause(1, self.entropy);
                self.reopen_at.insert(kind, (self.now + pause, relist));
            }
            WatchEvent::Expired => {
                self.watches.remove(&watch);
                // History ends, and a list at once goes on from there. If the next watch expires
                // as well without an event, watches are refused, and the next list waits.
                let count = self.ended_in_vain.entry(kind).or_insert(0);
                let pause = match *count {
                    0 => Duration::ZERO,
                    again => self.config.retry.pause(again - 1, self.entropy),
                };
                *count = count.saturating_add(1);
                self.reopen_at.insert(kind, (self.now + pause, true));
            }
        }
    }

    /// Takes an object in, unless a newer version is known.
    fn remember(&mut self, object: Object) {
        macro_rules! keep {
            ($kind:ident, $map:ident, $object:ident) => {{
                let known = self.$map.get(&$object.metadata.name);
                let older = known.is_some_and(|known| {
                    super::version_went_back(
                        &known.metadata.resource_version,
                        &$object.metadata.resource_version,
                    )
                });
                if !older {
                    let object = Object::$kind($object);
                    self.note_read(&object);
                    let Object::$kind(object) = object else {
                        return;
                    };
                    self.$map.insert(object.metadata.name.clone(), *object);
                }
            }};
        }
        match object {
            Object::AddressPool(object) => keep!(AddressPool, pools, object),
            Object::AddressReservation(object) => keep!(AddressReservation, reservations, object),
            Object::BerthNode(object) => keep!(BerthNode, machines, object),
            Object::DomainApproval(object) => keep!(DomainApproval, domains, object),
            Object::Node(object) => keep!(Node, nodes, object),
            Object::AddressBlock(object) => {
                if let Some(survey) = &mut self.survey {
                    survey.unread.remove(&object.metadata.name);
                    survey.blocks.insert(object.metadata.name.clone(), *object);
                }
            }
            Object::SetAside(object) => self.set_aside(*object),
            Object::Lease(_) | Object::Pod(_) | Object::Namespace(_) => {}
        }
    }

    fn forget(&mut self, key: &ObjectKey) {
        self.note_gone(key);
        let name = &key.name;
        match key.kind {
            Kind::AddressPool => drop(self.pools.remove(name)),
            Kind::AddressReservation => drop(self.reservations.remove(name)),
            Kind::BerthNode => drop(self.machines.remove(name)),
            Kind::DomainApproval => drop(self.domains.remove(name)),
            Kind::Node => drop(self.nodes.remove(name)),
            Kind::AddressBlock => {
                if let Some(survey) = &mut self.survey {
                    survey.blocks.remove(name);
                    survey.unread.remove(name);
                }
            }
            Kind::Lease | Kind::Pod | Kind::Namespace => {}
        }
    }

    /// Forgets what a list does not show. Of what it shows unreadable, the last readable version
    /// stays.
    fn forget_others(&mut self, kind: Kind, items: &[Object]) {
        let listed: BTreeSet<&str> = items.iter().map(|i| i.metadata().name.as_str()).collect();
        let known: Vec<String> = match kind {
            Kind::AddressPool => self.pools.keys().cloned().collect(),
            Kind::AddressReservation => self.reservations.keys().cloned().collect(),
            Kind::BerthNode => self.machines.keys().cloned().collect(),
            Kind::DomainApproval => self.domains.keys().cloned().collect(),
            Kind::Node => self.nodes.keys().cloned().collect(),
            Kind::AddressBlock | Kind::Lease | Kind::Pod | Kind::Namespace => Vec::new(),
        };
        let unread = self.unread.objects.keys().filter(|key| key.kind == kind);
        let unread: Vec<String> = unread.map(|key| key.name.clone()).collect();
        for name in known.into_iter().chain(unread) {
            if !listed.contains(name.as_str()) {
                self.forget(&ObjectKey::cluster(kind, name));
            }
        }
    }

    /// A list is the state of its version, whatever was known before (a backup was restored).
    fn take_list(&mut self, kind: Kind, items: Vec<Object>) {
        self.forget_others(kind, &items);
        for item in items {
            let key = item.key();
            let is_older = self.known_version(&key).is_some_and(|known| {
                super::version_went_back(known, &item.metadata().resource_version)
            });
            if item.set_aside().is_none() || is_older {
                match kind {
                    Kind::AddressPool => drop(self.pools.remove(&item.metadata().name)),
                    Kind::AddressReservation => {
                        self.reservations.remove(&item.metadata().name);
                    }
                    Kind::BerthNode => drop(self.machines.remove(&item.metadata().name)),
                    Kind::DomainApproval => drop(self.domains.remove(&item.metadata().name)),
                    Kind::Node => drop(self.nodes.remove(&item.metadata().name)),
                    Kind::AddressBlock | Kind::Lease | Kind::Pod | Kind::Namespace => {}
                }
            }
            self.remember(item);
        }
    }

    fn answered(&mut self, call: CallId, result: Result<ApiReply, ApiError>) {
        let Some(purpose) = self.calls.remove(&call) else {
            return;
        };
        #[cfg(feature = "mutants")]
        let result = match result {
            Ok(reply) if self.fails_whole() && reply.shows_set_aside() => {
                Err(super::set_aside::whole_answer_unreadable())
            }
            result => result,
        };
        if !matches!(purpose, Purpose::Lease { .. } | Purpose::List(_)) {
            self.end_step();
        }
        match purpose {
            Purpose::Lease { planned } => self.lease_answered(planned, result),
            Purpose::List(kind) => self.kind_listed(kind, result),
            Purpose::Survey => self.survey_answered(result),
            Purpose::Write {
                mut planned,
                subject,
            } => {
                match result {
                    Ok(ApiReply::Written(metadata)) => {
                        self.succeeded();
                        *planned.metadata_mut() = metadata;
                        // A status write does not change what the rest of the object says, and
                        // the other way round, so the planned object is what is stored, but for
                        // fields that nobody here writes.
                        self.remember(*planned);
                        self.note_written(&subject);
                    }
                    Ok(_) => {}
                    Err(error) => self.failed(planned.key(), &subject, &error),
                }
            }
            Purpose::Delete { key, subject } => match result {
                Ok(_) | Err(ApiError::NotFound) => {
                    self.succeeded();
                    self.forget(&key);
                }
                Err(error) => self.failed(key, &subject, &error),
            },
            Purpose::Refresh(key) => match result {
                Ok(ApiReply::Object(object)) => {
                    self.answers_again();
                    self.remember(object);
                }
                Err(ApiError::NotFound) => {
                    self.answers_again();
                    self.forget(&key);
                }
                Ok(_) => {}
                Err(error) => self.pause(&error),
            },
        }
    }

    fn kind_listed(&mut self, kind: Kind, result: Result<ApiReply, ApiError>) {
        match result {
            Ok(ApiReply::Page(page)) => {
                self.versions.insert(kind, page.resource_version);
                self.take_list(kind, page.items);
                self.listed.insert(kind);
                self.list_errors.remove(&kind);
                self.open_watch(kind);
            }
            other => {
                let why = other.map_or_else(|error| error.to_string(), |_| "no page".into());
                self.list_errors.insert(kind, why);
                let at = self.now + self.config.retry.pause(2, self.entropy);
                self.reopen_at.insert(kind, (at, true));
            }
        }
    }

    /// A step succeeded.
    fn succeeded(&mut self) {
        self.failure_count = 0;
        self.progress_at = self.now;
        self.last_error.clear();
    }

    /// The apiserver answers reads: what failed before was a failure of that write.
    fn answers_again(&mut self) {
        self.failure_count = 0;
        self.not_before = self.now;
    }

    /// A step failed: its subject waits, and what it was about is read. Only an apiserver that
    /// cannot be reached, or wants less, delays the rest.
    fn failed(&mut self, key: ObjectKey, subject: &ObjectKey, error: &ApiError) {
        self.delay(subject, error);
        self.last_error = format!("{subject}: {error}");
        self.survey = None;
        match error {
            ApiError::Invalid { .. } => return,
            ApiError::TooManyRequests { .. } => {
                self.pause(error);
                return;
            }
            ApiError::Unavailable(_) => self.pause(error),
            _ => {}
        }
        if key.kind != Kind::AddressBlock {
            let request = ApiRequest::Get(key.clone(), Consistency::Quorum);
            self.begin_step(Purpose::Refresh(key), request);
        }
    }

    fn pause(&mut self, error: &ApiError) {
        self.last_error = error.to_string();
        let pause = match error {
            ApiError::TooManyRequests {
                retry_after: Some(pause),
            } => *pause,
            _ => self.config.retry.pause(self.failure_count, self.entropy),
        };
        self.failure_count = self.failure_count.saturating_add(1);
        self.not_before = self.now + pause;
    }

    /// Writes an object, guarded by the version in its metadata; one without is created.
    fn write(&mut self, object: impl Into<Object>, part: Part) {
        let object = object.into();
        let subject = object.key();
        self.write_for(subject, object, part);
    }

    /// The same for the sake of another object, which waits when it is refused.
    fn write_for(&mut self, subject: ObjectKey, object: impl Into<Object>, part: Part) {
        assert!(self.lease.leads(self.now), "only the leader writes");
        let object = object.into();
        let planned = Box::new(object.clone());
        let request = if object.metadata().resource_version.is_empty() {
            ApiRequest::Create(object)
        } else {
            ApiRequest::Replace(object, part)
        };
        let purpose = Purpose::Write { planned, subject };
        self.begin_step(purpose, request);
    }

    fn delete_for(&mut self, subject: ObjectKey, key: ObjectKey, preconditions: Preconditions) {
        assert!(self.lease.leads(self.now), "only the leader deletes");
        let purpose = Purpose::Delete {
            key: key.clone(),
            subject,
        };
        self.begin_step(purpose, ApiRequest::Delete(key, preconditions));
    }

    /// Whether one unreadable object fails the whole answer.
    #[cfg(feature = "mutants")]
    fn fails_whole(&self) -> bool {
        self.config.mutant == Some(super::Mutant::AllOrNothingDecode)
    }

    /// Takes the first step that is missing.
    fn step(&mut self) {
        let ready = self.lease.leads(self.now) && CACHED.iter().all(|k| self.listed.contains(k));
        if !ready {
            // Another process leads, or the reason is reported elsewhere.
            self.progress_at = self.now;
            return;
        }
        if self.busy || self.not_before > self.now {
            return;
        }
        self.tell_unread();
        let done = !(self.approve() || self.mask() || self.bury() || self.report());
        if done {
            // Blocks change without this cache noticing: the next need takes a new survey.
            self.survey = None;
            self.progress_at = self.now;
            self.sweep_delays();
        }
    }

    /// Text that differs from write to write.
    fn writer(&mut self) -> String {
        self.last_id += 1;
        format!(
            "{}/{:x}-{:016x}",
            self.config.identity, self.last_id, self.entropy
        )
    }
}
