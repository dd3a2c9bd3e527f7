//! The agent of one node: a state machine from inputs to outputs. It decides; it waits for nothing,
//! reads no clock and touches nothing.
//!
//! What it knows, and where:
//! - per block ([`blocks`]): the last version seen, whether a write is in flight, the claims that
//!   wait for it, and whether the block may be trusted ([`fencing`]);
//! - per ordinal that it holds: a [`Holding`], whose absence from memory is what frees a record
//!   (the difference between holdings and records is written, never a list of operations);
//! - per Pod UID ([`pods`]): whether it is wanted here, and its ordinals;
//! - per attachment ([`releases`]): the answered ADD, from the journal.

mod blocks;
mod claims;
mod displaced;
mod epochs;
mod fencing;
mod holdings;
mod lost;
mod namespaces;
mod orders;
mod parts;
mod plan;
mod pods;
mod policy;
mod pool_check;
mod releases;
mod requests;
mod rights;
mod search;
mod set_aside;
mod startup;
mod state;
mod tombstones;
mod unasked;

use std::collections::{BTreeMap, BTreeSet};

pub use parts::{Finding, HostPart, PartState};
pub use policy::Policy;
pub use state::AgentState;

use super::exchange::{PluginRequest, PodReference, Probe, RequestId, Response, Sandbox};
use super::hash::mix;
use super::journal::{self, Entry};
use super::objects::{AddressPoolSpec, BerthNode, ObjectKey, Uid};
use super::pool::Pool;
use super::set_aside::SetAside;
use super::time::{BootTime, WallTime};
use crate::core::api::{ApiError, ApiReply, ApiRequest, CallId, WatchEvent, WatchId, WatchQuery};
use crate::core::exchange::{ProbeId, SpoolEntry, SpoolId};
use crate::core::report::{LocalError, Metric, Subject};

use blocks::BlockState;
use claims::{Claim, ClaimId};
use epochs::EpochView;
use pods::PodState;
use releases::{Attached, Ended};
use requests::PendingAdd;
use search::Search;
use startup::Phase;

/// Who the agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// Name of the Node object.
    pub node_name: String,
    /// The machine's name: unique among machines, the same from boot to boot (see
    /// [`super::naming`]).
    pub machine_id: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Network name of the node's default network: for it the pool of a Pod is known before ADD.
    /// Empty: nothing is claimed before an ADD.
    pub default_network: String,
    /// Whether a Pod is deleted whose address another has after this machine was buried alive. Off,
    /// it is only reported, and two Pods have one address until somebody acts.
    pub removes_displaced_pods: bool,
    /// Durations and bounds.
    pub policy: Policy,
    /// The rule to break.
    #[cfg(feature = "mutants")]
    pub mutant: Option<super::Mutant>,
}

impl AgentConfig {
    /// A configuration with the standard policy.
    pub fn new(node_name: &str, machine_id: &str, boot_id: &str) -> Self {
        Self {
            node_name: node_name.to_owned(),
            machine_id: machine_id.to_owned(),
            boot_id: boot_id.to_owned(),
            default_network: String::new(),
            removes_displaced_pods: true,
            policy: Policy::STANDARD,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }
}

/// What happens to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The process started. First, and once.
    Start,
    /// The journal is locked; its bytes.
    JournalOpened(Result<Vec<u8>, LocalError>),
    /// Appending failed, and with it the answers to these ADDs, which were told so.
    AppendFailed {
        /// Their requests.
        refused: Vec<RequestId>,
    },
    /// A plugin asks. For ADD and DEL with a namespace path: what a look at the path showed.
    Request {
        /// What it asks.
        request: Box<PluginRequest>,
        /// The look.
        probe: Option<Probe>,
    },
    /// The plugin is gone.
    Closed(RequestId),
    /// The apiserver answered.
    Api {
        /// Which request.
        call: CallId,
        /// How.
        result: Result<ApiReply, ApiError>,
    },
    /// A watch delivered, or could not be opened (`Closed`, `Expired`).
    Watch {
        /// Which watch.
        watch: WatchId,
        /// What, in order. Events that are ready together should come together: the Pods of a burst
        /// then share their writes.
        events: Vec<WatchEvent>,
    },
    /// The time last asked for by [`Output::Wake`] is there.
    Wake,
    /// A look at a path.
    Probed {
        /// Which.
        probe: ProbeId,
        /// What it showed.
        result: Probe,
    },
    /// Some path may have vanished.
    NamespacesChanged,
    /// The spool may have a new entry.
    SpoolChanged,
    /// The spool's entries.
    Spool(Result<Vec<SpoolEntry>, LocalError>),
    /// The runtime's sandboxes.
    Sandboxes(Result<Vec<Sandbox>, LocalError>),
    /// What a look at parts of the host found.
    Parts(Vec<Finding>),
}

/// What an agent wants done. To be begun in this order; an append (or compaction) must have ended
/// before the outputs after it begin, and where it failed, [`Response::Added`] among them is
/// replaced by a failure and a write is answered as not applied, without being sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Lock the journal and read it.
    OpenJournal,
    /// Append to the journal.
    Append(Vec<u8>),
    /// Replace the journal's content.
    Compact(Vec<u8>),
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
    /// Look at a path.
    Probe {
        /// To recognize the answer by.
        probe: ProbeId,
        /// The path.
        path: String,
    },
    /// List the spool.
    ListSpool,
    /// Remove an entry of the spool.
    RemoveSpool(SpoolId),
    /// Set an unreadable entry aside.
    SetSpoolAside(SpoolId),
    /// List the runtime's sandboxes.
    ListSandboxes,
    /// Answer a plugin.
    Reply {
        /// Which request.
        request: RequestId,
        /// What.
        response: Response,
    },
    /// Count.
    Metric(Metric),
    /// Tell the operator.
    Event {
        /// About what.
        subject: Subject,
        /// Reason.
        reason: &'static str,
        /// Message.
        message: String,
    },
    /// Keep the journal as it is for people to look at, before it is replaced.
    SetJournalAside,
}

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

/// Names a pool object (name and UID) within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PoolId(u32);

/// Names a block within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct BlockKey {
    pool: PoolId,
    index: u64,
}

/// Names an ordinal within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    block: BlockKey,
    ordinal: u16,
}

/// What memory says of an ordinal that this agent holds or wants to hold. It may be answered only
/// when the block is trusted and its last version agrees: see [`Agent::is_answerable`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holding {
    pod: Uid,
    pod_name: String,
    state: Hold,
    /// The reservation that the ordinal returns to, or empty.
    reservation: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hold {
    /// Follows its Pod.
    Unbound,
    /// Follows the namespace of this attachment, which may be releasing.
    Attached(super::exchange::Attachment),
    /// The journal that knew the attachment is lost.
    Lost,
}

/// A pool as this agent sees it.
struct PoolState {
    name: String,
    /// Its geometry, as last approved.
    pool: Option<Pool>,
    /// Its spec as last seen, approved or not: whom it admits is no matter of approval.
    rules: AddressPoolSpec,
    /// No new claims: not approved as it is now, or being deleted.
    paused: bool,
    /// Claims that no block was found for.
    queue: std::collections::VecDeque<ClaimId>,
    /// Blocks in memory that may have room, in order of preference.
    open: BTreeSet<(u64, u64)>,
    /// How many of this node's own blocks were tried, and among how many nodes they were dealt.
    cursor: u64,
    search: Search,
    /// When a write or read of one of its blocks was last answered.
    answered_at: BootTime,
    /// Nothing was to be had but ordinals that rest: until then they count as rested.
    rest_waived_until: BootTime,
    /// Freed ordinals are left to others in turn while the pool is exhausted.
    leave_next_freed: bool,
    /// A read that confirms the pool after blocks were created.
    check: PoolCheck,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PoolCheck {
    Idle,
    InFlight { again: bool },
}

/// What a request to the apiserver was for.
#[derive(Clone, Debug)]
enum Purpose {
    Startup(startup::Step),
    Epoch {
        sent: BootTime,
        planned: Option<Box<BerthNode>>,
    },
    BlockRead(BlockKey),
    BlockWrite(BlockKey),
    PoolCheck(PoolId),
    Search(PoolId),
    PodOfAdd(RequestId),
    Namespace(String),
    NodeLabels,
    Relist(startup::Watched),
    RemovePod(Uid),
    Survey,
}

/// What a look at a path was for.
#[derive(Clone, Debug)]
enum ProbePurpose {
    BeforeReply(RequestId),
    Release(super::exchange::Attachment),
    Sweep(super::exchange::Attachment),
    Order(super::exchange::Attachment),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Startup(startup::Step),
    SettleGrace,
    Epoch,
    Block(BlockKey),
    Search(PoolId),
    PoolCheck(PoolId),
    Add(RequestId),
    Release(super::exchange::Attachment),
    Reopen(startup::Watched),
    Sweep,
    Reassert,
    Sandboxes,
    Pod(Uid),
    RemovePod(Uid),
    Namespace(String),
    Unasked(Uid),
    /// To open or write the journal again after a failure.
    Journal,
    Survey,
}

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
    loading: BTreeSet<startup::Step>,
    early: Vec<(PluginRequest, Option<Probe>)>,
    early_spool: Vec<SpoolEntry>,
    /// Blocks that earlier processes wrote.
    inherited: BTreeSet<(String, u64)>,
    replayed: Vec<journal::Entry>,
    /// Bindings in pools that are not known (any more): kept in the journal, for when they are.
    poolless: BTreeMap<super::exchange::Attachment, (journal::Binding, Option<BootTime>)>,
    node_labels: BTreeMap<String, String>,
    node_uid: Uid,
    epoch: EpochView,
    pools: BTreeMap<PoolId, PoolState>,
    pool_ids: BTreeMap<String, PoolId>,
    reservations: set_aside::Reservations,
    /// What is there and cannot be read.
    set_aside: BTreeMap<ObjectKey, SetAside>,
    /// What reservations among them keep.
    kept: set_aside::Kept,
    /// Why a step of the start has to be taken again.
    startup_errors: BTreeMap<startup::Step, String>,
    blocks: BTreeMap<BlockKey, BlockState>,
    holdings: BTreeMap<Place, Holding>,
    /// For which network each holding of this process was claimed; none: the default one.
    claimed_for: BTreeMap<Place, Option<String>>,
    namespaces: BTreeMap<String, namespaces::NamespaceView>,
    pods: BTreeMap<Uid, PodState>,
    claims: BTreeMap<ClaimId, Claim>,
    adds: BTreeMap<RequestId, PendingAdd>,
    attachments: BTreeMap<super::exchange::Attachment, Attached>,
    ended: Ended,
    tombstones: tombstones::Tombstones,
    lost: lost::Lost,
    sweep: releases::Sweep,
    orders: orders::Orders,
    parts: parts::Parts,
    journal_ok: bool,
    journal_frames: usize,
    /// Blocks whose first entry is on its way to the journal.
    entering: Vec<BlockKey>,
    calls: BTreeMap<CallId, Purpose>,
    watches: BTreeMap<WatchId, startup::Watched>,
    watched: BTreeMap<startup::Watched, startup::Subscription>,
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
            ended: Ended::new(config.policy.ended_count_max),
            tombstones: tombstones::Tombstones::new(config.policy.tombstone_count_max),
            lost: lost::Lost::default(),
            sweep: releases::Sweep::default(),
            orders: orders::Orders::default(),
            parts: parts::Parts::default(),
            journal_ok: true,
            journal_frames: 0,
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

    /// What the wall clock says. For the times in conditions, which people read; never told, they
    /// stay without.
    pub fn wall_is(&mut self, wall: WallTime) {
        self.wall = wall;
    }

    /// Takes one input in and says what to do. Total: any input at any time is allowed; answers to
    /// questions that were never asked are ignored. Time that goes back is read as standing still.
    pub fn handle(&mut self, now: BootTime, entropy: u64, input: Input) -> Vec<Output> {
        self.now = self.now.max(now);
        self.entropy = entropy;
        self.drawn = 0;
        if !matches!(input, Input::AppendFailed { .. }) {
            // The last entries were taken: a failure comes before all else.
            self.entering.clear();
        }
        self.dispatch(input);
        self.settle();
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
                            WatchEvent::Closed
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
        // Each may make work for the ones before it: a claim that its block sends back goes to the
        // pool's queue, a taken-over Pod claims again. Eight rounds are ample; what is left, if
        // ever, is done with the next input.
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

    fn api_answered(&mut self, call: CallId, result: Result<ApiReply, ApiError>) {
        #[cfg(feature = "mutants")]
        let result = match result {
            Ok(reply)
                if self.is_mutant(super::Mutant::AllOrNothingDecode) && reply.shows_set_aside() =>
            {
                Err(super::set_aside::whole_answer_unreadable())
            }
            result => result,
        };
        let Some(purpose) = self.calls.remove(&call) else {
            return;
        };
        match purpose {
            Purpose::Startup(step) => self.startup_answered(step, result),
            Purpose::Epoch { sent, planned } => self.epoch_answered(sent, planned, result),
            Purpose::BlockRead(block) => self.block_read(block, result),
            Purpose::BlockWrite(block) => self.block_written(block, result),
            Purpose::PoolCheck(pool) => self.pool_checked(pool, &result),
            Purpose::Search(pool) => self.search_answered(pool, result),
            Purpose::PodOfAdd(request) => self.pod_of_add_read(request, result),
            Purpose::Namespace(name) => self.namespace_read(&name, result),
            Purpose::NodeLabels => self.node_read(result),
            Purpose::Relist(watched) => self.relisted(watched, result),
            Purpose::RemovePod(uid) => self.pod_removed(&uid, result),
            Purpose::Survey => self.surveyed(result),
        }
    }

    fn fire_timers(&mut self) {
        self.wake = BootTime::NEVER;
        while let Some((at, _)) = self.timers.first() {
            if *at > self.now {
                break;
            }
            let Some((_, timer)) = self.timers.pop_first() else {
                break;
            };
            self.armed.remove(&timer);
            match timer {
                Timer::Startup(step) => self.startup_step(step),
                Timer::SettleGrace => self.begin_serving(),
                Timer::Epoch => self.epoch_timer(),
                Timer::Block(block) => {
                    self.leave_hung_write(block);
                    self.touched_blocks.insert(block);
                    self.touched_pools.insert(block.pool);
                }
                Timer::Search(pool) => self.search_timer(pool),
                Timer::PoolCheck(pool) => self.check_pool(pool),
                Timer::Add(request) => self.add_timer(request),
                Timer::Release(attachment) => self.release_timer(&attachment),
                Timer::Reopen(watched) => self.reopen(watched),
                Timer::Sweep => self.sweep_timer(),
                Timer::Reassert => self.reassert_all(),
                Timer::Sandboxes => self.list_sandboxes(),
                Timer::RemovePod(uid) => self.remove_pod(&uid),
                Timer::Journal => self.journal_timer(),
                Timer::Survey => self.survey(String::new()),
                Timer::Pod(uid) | Timer::Unasked(uid) => {
                    self.touched_pods.insert(uid);
                }
                Timer::Namespace(name) => self.touch_namespace(&name),
            }
        }
    }

    /// Arms the timer for `at`, unless it is armed for an earlier time.
    fn arm(&mut self, timer: Timer, at: BootTime) {
        if self.armed.get(&timer).is_some_and(|armed| *armed <= at) {
            return;
        }
        self.disarm(&timer);
        self.armed.insert(timer.clone(), at);
        self.timers.insert((at, timer));
    }

    fn disarm(&mut self, timer: &Timer) {
        if let Some(at) = self.armed.remove(timer) {
            self.timers.remove(&(at, timer.clone()));
        }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.entropy, self.drawn)
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn call(&mut self, purpose: Purpose, request: ApiRequest) {
        let call = CallId(self.next_id());
        self.calls.insert(call, purpose);
        self.out.push(Output::Call { call, request });
    }

    fn probe(&mut self, purpose: ProbePurpose, path: &str) {
        let probe = ProbeId(self.next_id());
        self.probes.insert(probe, purpose);
        self.out.push(Output::Probe {
            probe,
            path: path.to_owned(),
        });
    }

    /// Writes an entry down. Memory must already say what it says: a journal that failed, or has
    /// grown long, is written anew from memory.
    fn journal(&mut self, entry: &Entry) {
        let number = self.journal_frames;
        let live = self.attachments.len() + self.blocks.len();
        if self.journal_ok && number < 1024 + 4 * live {
            self.journal_frames += 1;
            self.out
                .push(Output::Append(journal::encode(number, entry)));
        } else {
            self.journal_ok = true;
            self.compact_journal();
        }
    }

    fn reply(&mut self, request: RequestId, response: Response) {
        self.out.push(Output::Reply { request, response });
    }

    fn count(&mut self, name: &'static str) {
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

    fn event(&mut self, reason: &'static str, message: String) {
        self.out.push(Output::Event {
            subject: Subject::Node,
            reason,
            message,
        });
    }

    /// An Event on a Pod of this node.
    fn pod_event(&mut self, uid: &Uid, reason: &'static str, message: String) {
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

    /// Whether the rule is to be broken.
    #[cfg(feature = "mutants")]
    fn is_mutant(&self, mutant: super::Mutant) -> bool {
        self.config.mutant == Some(mutant)
    }
}
