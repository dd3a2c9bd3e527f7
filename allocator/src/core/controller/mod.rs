//! The controller: approves pools, puts masks and reservations into blocks, buries machines. One
//! leader by Lease; but nothing rests on there being one: every write is guarded, and the only
//! records it frees are those of dead epochs, which never live again.
//!
//! It does one thing at a time: after each answer it compares what it knows with what should be and
//! takes the first step that is missing.

mod approval;
mod burial;
mod lease;
mod masks;
mod status;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::call::{ApiReply, ApiRequest, CallId, WatchId};
use super::objects::{
    AddressBlock, AddressPool, AddressReservation, BerthNode, DomainApproval, Kind, Node, Object,
    ObjectKey,
};
use super::retry::Backoff;
use super::time::{BootTime, WallTime};
use crate::ports::{
    ApiError, Consistency, ListQuery, Metric, Part, Preconditions, Selection, WatchEvent,
    WatchQuery,
};

use burial::Burials;
use lease::Leadership;

/// Who the controller is and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// Unique per process.
    pub identity: String,
    /// Where the Lease is.
    pub lease_namespace: String,
    /// Its name.
    pub lease_name: String,
    /// A lease that did not change for so long is free.
    pub lease_duration: Duration,
    /// The leader renews so often.
    pub lease_renewal: Duration,
    /// Between dying and dead. Longer than an agent's validity, its longest ADD and drift together.
    pub quarantine: Duration,
    /// Whether a Node object that is gone starts a burial.
    pub bury_when_node_is_gone: bool,
    /// The pools' status says how full they were at most so long ago.
    pub report_interval: Duration,
    /// Pauses after failures.
    pub retry: Backoff,
    /// Units: items.
    pub list_page: u32,
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
        part: Part,
    },
    Delete(ObjectKey),
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
    survey: Option<BTreeMap<String, AddressBlock>>,
    surveying: BTreeMap<String, AddressBlock>,
    /// A step is in flight.
    busy: bool,
    not_before: BootTime,
    failure_count: u32,
    burials: Burials,
    /// Reservations whose record was put or seen.
    placed: BTreeMap<String, String>,
    /// When the pools are to be counted again.
    report_due: BootTime,
}

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
            surveying: BTreeMap::new(),
            busy: false,
            not_before: BootTime::ZERO,
            failure_count: 0,
            burials: Burials::default(),
            placed: BTreeMap::new(),
            report_due: BootTime::ZERO,
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
        let wake = self.next_wake();
        self.out.push(Output::Wake(wake));
        std::mem::take(&mut self.out)
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
        let soon = self.now + self.config.retry.pause(1, self.entropy);
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
                self.reopen_at.insert(kind, (soon, false));
            }
            WatchEvent::Expired => {
                self.watches.remove(&watch);
                self.reopen_at.insert(kind, (self.now, true));
            }
        }
    }

    /// Takes an object in, unless a newer version is known.
    fn remember(&mut self, object: Object) {
        macro_rules! keep {
            ($map:ident, $object:ident) => {{
                let known = self.$map.get(&$object.metadata.name);
                let older = known.is_some_and(|known| {
                    super::version_went_back(
                        &known.metadata.resource_version,
                        &$object.metadata.resource_version,
                    )
                });
                if !older {
                    self.$map.insert($object.metadata.name.clone(), *$object);
                }
            }};
        }
        match object {
            Object::AddressPool(object) => keep!(pools, object),
            Object::AddressReservation(object) => keep!(reservations, object),
            Object::BerthNode(object) => keep!(machines, object),
            Object::DomainApproval(object) => keep!(domains, object),
            Object::Node(object) => keep!(nodes, object),
            Object::AddressBlock(object) => {
                if let Some(survey) = &mut self.survey {
                    survey.insert(object.metadata.name.clone(), *object);
                }
            }
            Object::Lease(_) | Object::Pod(_) | Object::Namespace(_) | Object::SetAside(_) => {}
        }
    }

    fn forget(&mut self, key: &ObjectKey) {
        let name = &key.name;
        match key.kind {
            Kind::AddressPool => drop(self.pools.remove(name)),
            Kind::AddressReservation => drop(self.reservations.remove(name)),
            Kind::BerthNode => drop(self.machines.remove(name)),
            Kind::DomainApproval => drop(self.domains.remove(name)),
            Kind::Node => drop(self.nodes.remove(name)),
            Kind::AddressBlock => {
                if let Some(survey) = &mut self.survey {
                    survey.remove(name);
                }
            }
            Kind::Lease | Kind::Pod | Kind::Namespace => {}
        }
    }

    fn clear(&mut self, kind: Kind) {
        match kind {
            Kind::AddressPool => self.pools.clear(),
            Kind::AddressReservation => self.reservations.clear(),
            Kind::BerthNode => self.machines.clear(),
            Kind::DomainApproval => self.domains.clear(),
            Kind::Node => self.nodes.clear(),
            Kind::AddressBlock | Kind::Lease | Kind::Pod | Kind::Namespace => {}
        }
    }

    fn answered(&mut self, call: CallId, result: Result<ApiReply, ApiError>) {
        let Some(purpose) = self.calls.remove(&call) else {
            return;
        };
        match purpose {
            Purpose::Lease { planned } => self.lease_answered(planned, result),
            Purpose::List(kind) => {
                if let Ok(ApiReply::Page(page)) = result {
                    self.clear(kind);
                    self.versions.insert(kind, page.resource_version);
                    for item in page.items {
                        self.remember(item);
                    }
                    self.listed.insert(kind);
                    self.open_watch(kind);
                } else {
                    let at = self.now + self.config.retry.pause(2, self.entropy);
                    self.reopen_at.insert(kind, (at, true));
                }
            }
            Purpose::Survey => self.survey_answered(result),
            Purpose::Write { mut planned, part } => {
                self.busy = false;
                match result {
                    Ok(ApiReply::Written(metadata)) => {
                        self.failure_count = 0;
                        *planned.metadata_mut() = metadata;
                        self.written(*planned, part);
                    }
                    Ok(_) => {}
                    Err(error) => self.failed(planned.key(), &error),
                }
            }
            Purpose::Delete(key) => {
                self.busy = false;
                match result {
                    Ok(_) | Err(ApiError::NotFound) => self.forget(&key),
                    Err(error) => self.failed(key, &error),
                }
            }
            Purpose::Refresh(key) => {
                self.busy = false;
                match result {
                    Ok(ApiReply::Object(object)) => self.remember(object),
                    Err(ApiError::NotFound) => self.forget(&key),
                    Ok(_) => {}
                    Err(error) => self.pause(&error),
                }
            }
        }
    }

    /// A step failed: read what it was about, after a pause.
    fn failed(&mut self, key: ObjectKey, error: &ApiError) {
        self.pause(error);
        self.survey = None;
        if matches!(
            error,
            ApiError::Invalid { .. } | ApiError::TooManyRequests { .. }
        ) {
            return;
        }
        if key.kind != Kind::AddressBlock {
            self.busy = true;
            let request = ApiRequest::Get(key.clone(), Consistency::Quorum);
            self.call(Purpose::Refresh(key), request);
        }
    }

    fn pause(&mut self, error: &ApiError) {
        let pause = match error {
            ApiError::TooManyRequests {
                retry_after: Some(pause),
            } => *pause,
            _ => self.config.retry.pause(self.failure_count, self.entropy),
        };
        self.failure_count = self.failure_count.saturating_add(1);
        self.not_before = self.now + pause;
    }

    fn written(&mut self, object: Object, part: Part) {
        // A status write does not change what the rest of the object says, and the other way round,
        // so the planned object is what is stored, but for fields that nobody here writes.
        let _ = part;
        self.remember(object);
    }

    /// Writes an object, guarded by the version in its metadata; one without is created.
    fn write(&mut self, object: impl Into<Object>, part: Part) {
        let object = object.into();
        self.busy = true;
        let planned = Box::new(object.clone());
        let request = if object.metadata().resource_version.is_empty() {
            ApiRequest::Create(object)
        } else {
            ApiRequest::Replace(object, part)
        };
        self.call(Purpose::Write { planned, part }, request);
    }

    fn delete(&mut self, key: ObjectKey, preconditions: Preconditions) {
        self.busy = true;
        self.call(
            Purpose::Delete(key.clone()),
            ApiRequest::Delete(key, preconditions),
        );
    }

    fn take_survey(&mut self) {
        self.surveying.clear();
        self.survey_page(String::new());
    }

    fn survey_page(&mut self, continue_token: String) {
        self.busy = true;
        let query = ListQuery {
            selection: Self::selection(Kind::AddressBlock),
            consistency: Consistency::Quorum,
            limit: self.config.list_page,
            continue_token,
        };
        self.call(Purpose::Survey, ApiRequest::List(query));
    }

    fn survey_answered(&mut self, result: Result<ApiReply, ApiError>) {
        self.busy = false;
        match result {
            Ok(ApiReply::Page(page)) => {
                for item in page.items {
                    if let Object::AddressBlock(block) = item {
                        self.surveying.insert(block.metadata.name.clone(), *block);
                    }
                }
                if page.continue_token.is_empty() {
                    self.survey = Some(std::mem::take(&mut self.surveying));
                } else {
                    self.survey_page(page.continue_token);
                }
            }
            Ok(_) => {}
            Err(error) => self.pause(&error),
        }
    }

    /// Takes the first step that is missing.
    fn step(&mut self) {
        let ready = self.lease.leads(self.now) && CACHED.iter().all(|k| self.listed.contains(k));
        if !ready || self.busy || self.not_before > self.now {
            return;
        }
        let done = !(self.approve() || self.mask() || self.bury() || self.report());
        if done {
            // Blocks change without this cache noticing: the next need takes a new survey.
            self.survey = None;
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
