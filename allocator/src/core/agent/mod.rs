//! The agent of one node: a state machine from inputs to outputs. It decides; it waits for nothing,
//! reads no clock and does no I/O.
//!
//! Its state is one struct, because most rules look at several parts of it. Each rule is a method
//! in the module of its subject:
//!
//! | module | what it decides |
//! |---|---|
//! | [`boundary`], [`policy`] | nothing: inputs, outputs, who the agent is, durations and bounds |
//! | [`memory`], [`block_state`], [`bounded`] | nothing: the names and facts that the rest speaks of |
//! | [`errands`], [`timers`], [`reports`] | what is asked, when, and what people are told |
//! | [`startup`], [`journaling`], [`lost`] | from process start to service; what a lost journal means |
//! | [`epochs`], [`fencing`], [`displaced`] | which incarnation this is, and what it may trust |
//! | [`watches`], [`pools`], [`namespaces`], [`set_aside`] | what the API shows, and what cannot be read |
//! | [`pods`], [`rights`], [`unasked`] | who is to have an address, from which pools, for how long |
//! | [`claims`], [`search`] | which block to claim an ordinal from |
//! | [`plan`], [`blocks`], [`holdings`] | what is held, and the one write that makes a block say so |
//! | [`requests`], [`releases`], [`orders`] | what plugins ask, and how attachments end |
//! | [`parts`], [`host`] | what is lost on the host, and what waits for it |
//!
//! [`invariants`] has what must hold between any two inputs.
//!
//! The absence of a [`Holding`](memory::Holding) from memory is what frees a record: the difference
//! between holdings and records is written, never a list of operations.

mod block_state;
mod blocks;
mod boundary;
mod bounded;
mod claims;
mod displaced;
mod epochs;
mod errands;
mod fencing;
mod holdings;
mod host;
mod invariants;
mod journaling;
mod known;
mod lost;
mod memory;
mod namespaces;
mod orders;
mod parts;
mod plan;
mod pods;
mod policy;
mod pools;
mod releases;
mod reports;
mod requests;
mod rights;
mod search;
mod set_aside;
mod startup;
mod state;
mod timers;
mod unasked;
mod watches;

use std::collections::{BTreeMap, BTreeSet};

pub use boundary::{AgentConfig, Input, Output};
pub use host::{Finding, HostPart, PartState};
pub use policy::Policy;
pub use reports::COUNTERS;
pub use state::AgentState;

use super::api::{CallId, WatchId};
use super::exchange::{Attachment, PluginRequest, Probe, ProbeId, RequestId, Response, SpoolEntry};
use super::hash::mix;
use super::journal;
use super::objects::{ObjectKey, SetAside, Uid};
use super::time::{BootTime, WallTime};

use block_state::BlockState;
use bounded::BoundedSet;
use claims::Claim;
use epochs::EpochView;
use errands::{ProbePurpose, Purpose, StartStep, Watched};
use memory::{BlockKey, ClaimId, Holding, Place, PoolId};
use pods::PodState;
use pools::PoolState;
use releases::Attached;
use requests::PendingAdd;
use startup::Phase;
use timers::Timer;
use watches::Subscription;

/// The agent.
pub struct Agent {
    config: AgentConfig,
    now: BootTime,
    wall: WallTime,
    entropy: u64,
    drawn: u64,
    last_id: u64,
    out: Vec<Output>,
    phase: Phase,
    /// When service begins even if some blocks could not be read.
    settle_by: BootTime,
    loading: BTreeSet<StartStep>,
    early: Vec<(PluginRequest, Option<Probe>)>,
    early_spool: Vec<SpoolEntry>,
    /// Blocks that earlier processes wrote.
    inherited: BTreeSet<(String, u64)>,
    replayed: Vec<journal::Entry>,
    /// Bindings in pools that are unknown, or no longer known: the journal keeps them.
    poolless: BTreeMap<Attachment, (journal::Binding, Option<BootTime>)>,
    node_labels: BTreeMap<String, String>,
    node_uid: Uid,
    epoch: EpochView,
    pools: BTreeMap<PoolId, PoolState>,
    pool_ids: BTreeMap<String, PoolId>,
    reservations: set_aside::Reservations,
    /// Objects that exist but cannot be read.
    set_aside: BTreeMap<ObjectKey, SetAside>,
    /// What the reservations among them still protect.
    kept: set_aside::Kept,
    /// Why a step of the start must be retried.
    startup_errors: BTreeMap<StartStep, String>,
    blocks: BTreeMap<BlockKey, BlockState>,
    holdings: BTreeMap<Place, Holding>,
    /// The network that each holding of this process was claimed for; none: the default one.
    claimed_for: BTreeMap<Place, Option<String>>,
    namespaces: BTreeMap<String, namespaces::NamespaceView>,
    pods: BTreeMap<Uid, PodState>,
    claims: BTreeMap<ClaimId, Claim>,
    adds: BTreeMap<RequestId, PendingAdd>,
    attachments: BTreeMap<Attachment, Attached>,
    /// Attachments that ended, so that a repeated DEL does not look like an early one. One that was
    /// forgotten leaves a tombstone at its next DEL, which refuses only an ADD of the same
    /// container in the same namespace path.
    ended: BoundedSet<Attachment>,
    /// DELs that met no answered ADD, each with the namespace's path: an ADD of the same that comes
    /// after its DEL is late, for its caller is gone. Where one was forgotten, only the look at the
    /// path refuses such an ADD.
    tombstones: BoundedSet<(Attachment, String)>,
    lost: lost::Lost,
    sweep: releases::Sweep,
    orders: orders::Orders,
    parts: parts::Parts,
    journal_ok: bool,
    journal_frames: usize,
    /// The journal's seal once everything asked for is written.
    seal: journal::Seal,
    /// Blocks whose first entry is on its way to the journal.
    entering: Vec<BlockKey>,
    calls: BTreeMap<CallId, Purpose>,
    watches: BTreeMap<WatchId, Watched>,
    watched: BTreeMap<Watched, Subscription>,
    probes: BTreeMap<ProbeId, ProbePurpose>,
    timers: BTreeSet<(BootTime, Timer)>,
    armed: BTreeMap<Timer, BootTime>,
    wake: BootTime,
    /// Work to do before `handle` returns.
    touched_blocks: BTreeSet<BlockKey>,
    touched_pools: BTreeSet<PoolId>,
    touched_pods: BTreeSet<Uid>,
}

impl Agent {
    /// An agent that knows nothing yet.
    pub fn new(config: AgentConfig) -> Self {
        Self {
            now: BootTime::ZERO,
            wall: WallTime::default(),
            entropy: 0,
            drawn: 0,
            last_id: 0,
            out: Vec::new(),
            phase: Phase::Opening,
            settle_by: BootTime::NEVER,
            loading: BTreeSet::new(),
            early: Vec::new(),
            early_spool: Vec::new(),
            inherited: BTreeSet::new(),
            replayed: Vec::new(),
            poolless: BTreeMap::new(),
            node_labels: BTreeMap::new(),
            node_uid: Uid::default(),
            epoch: EpochView::new(),
            pools: BTreeMap::new(),
            pool_ids: BTreeMap::new(),
            reservations: set_aside::Reservations::default(),
            set_aside: BTreeMap::new(),
            kept: set_aside::Kept::default(),
            startup_errors: BTreeMap::new(),
            blocks: BTreeMap::new(),
            holdings: BTreeMap::new(),
            claimed_for: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            pods: BTreeMap::new(),
            claims: BTreeMap::new(),
            adds: BTreeMap::new(),
            attachments: BTreeMap::new(),
            ended: BoundedSet::new(config.policy.ended_count_max),
            tombstones: BoundedSet::new(config.policy.tombstone_count_max),
            lost: lost::Lost::default(),
            sweep: releases::Sweep::default(),
            orders: orders::Orders::default(),
            parts: parts::Parts::default(),
            journal_ok: true,
            journal_frames: 0,
            seal: journal::Seal::default(),
            entering: Vec::new(),
            calls: BTreeMap::new(),
            watches: BTreeMap::new(),
            watched: BTreeMap::new(),
            probes: BTreeMap::new(),
            timers: BTreeSet::new(),
            armed: BTreeMap::new(),
            wake: BootTime::NEVER,
            touched_blocks: BTreeSet::new(),
            touched_pools: BTreeSet::new(),
            touched_pods: BTreeSet::new(),
            config,
        }
    }

    /// Sets the wall clock. Only the times in conditions use it, for people; without it they have
    /// none.
    pub fn wall_is(&mut self, wall: WallTime) {
        self.wall = wall;
    }

    /// Takes one input and says what to do. Total: any input is allowed at any time; answers to
    /// questions that were never asked are ignored. Time that goes back counts as standing still.
    pub fn handle(&mut self, now: BootTime, entropy: u64, input: Input) -> Vec<Output> {
        self.now = self.now.max(now);
        self.entropy = entropy;
        self.drawn = 0;
        if !matches!(input, Input::AppendFailed { .. }) {
            // The last entries were accepted: a failure would have come first.
            self.entering.clear();
        }
        self.dispatch(input);
        self.settle();
        self.assert_settled();
        let next = self.timers.first().map_or(BootTime::NEVER, |(at, _)| *at);
        if next != self.wake {
            self.wake = next;
            if next != BootTime::NEVER {
                self.out.push(Output::Wake(next));
            }
        }
        std::mem::take(&mut self.out)
    }

    fn dispatch(&mut self, input: Input) {
        match input {
            Input::Start => self.out.push(Output::OpenJournal),
            Input::JournalOpened(result) => self.journal_opened(result),
            Input::AppendFailed { refused } => self.append_failed(&refused),
            Input::Request { request, probe } => self.request(*request, probe),
            Input::Closed(request) => self.request_closed(request),
            Input::Api { call, result } => self.api_answered(call, result),
            Input::Watch { watch, events } => {
                for event in events {
                    #[cfg(feature = "mutants")]
                    let event = match event {
                        event
                            if self.is_mutant(super::Mutant::AllOrNothingDecode)
                                && event.shows_set_aside() =>
                        {
                            super::api::WatchEvent::Closed
                        }
                        event => event,
                    };
                    self.watch_delivered(watch, event);
                }
            }
            Input::Wake => self.fire_timers(),
            Input::Probed { probe, result } => self.probed(probe, result),
            Input::NamespacesChanged => self.probe_releasing(),
            Input::SpoolChanged => self.list_spool(),
            Input::Spool(entries) => self.spool_listed(entries),
            Input::Sandboxes(list) => self.runtime_answered(list),
            Input::Parts(findings) => self.parts_looked_at(findings),
        }
    }

    /// Does what the input made necessary: Pods first (they claim and are answered), then claims to
    /// blocks, then blocks to the apiserver.
    fn settle(&mut self) {
        self.refresh_kept();
        if self.phase != Phase::Serving {
            if self.phase == Phase::Settling {
                self.flush_touched();
                self.serve_when_settled();
            }
            return;
        }
        // Each may make work for those before it: a claim that its block sends back goes to the
        // pool's queue, and a Pod whose ordinal was taken over claims again. Eight rounds are
        // ample; anything left is done with the next input.
        for _ in 0..8 {
            while let Some(pod) = self.touched_pods.pop_first() {
                self.settle_pod(&pod);
            }
            while let Some(pool) = self.touched_pools.pop_first() {
                self.place_claims(pool);
            }
            self.flush_touched();
            if self.touched_pools.is_empty() && self.touched_pods.is_empty() {
                break;
            }
        }
    }

    fn flush_touched(&mut self) {
        while let Some(block) = self.touched_blocks.pop_first() {
            self.flush(block);
        }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.entropy, self.drawn)
    }

    fn reply(&mut self, request: RequestId, response: Response) {
        self.out.push(Output::Reply { request, response });
    }

    /// Whether this run breaks the rule on purpose.
    #[cfg(feature = "mutants")]
    fn is_mutant(&self, mutant: super::Mutant) -> bool {
        self.config.mutant == Some(mutant)
    }
}
