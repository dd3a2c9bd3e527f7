//! The ledger: an omniscient book of who holds which address, kept from the world's truth, and
//! the invariants over it, one file each. It only watches: no oracle delays, repairs, draws, or
//! looks inside the allocator.
//!
//! | | claim | file |
//! |---|---|---|
//! | U | no two live interfaces of different Pods have one address | [`unique`] |
//! | B | no address is outside its pool, excluded, a gateway, or of a pool that excludes its Pod | [`in_pool`] |
//! | A | an interface has the addresses that its sandbox's ADD was answered with | [`answered`] |
//! | R | from the end of its namespace, an address is free within a bound | [`released`] |
//! | I | DEL is idempotent, succeeds, and frees only its own | [`idempotent`] |
//! | K | what ADD answered stays recorded while the interface lives | [`recorded`] |
//! | L | with room and no fault, every Pod gets its address within a bound | [`live`] |
//! | S | a repeated ADD gets the same answer | [`same_answer`] |
//! | H | an unbound holder's Pod is bound to that node | [`no_hoarding`] |
//! | H | what a Pod that never asks has reserved is given back | [`unasked`] |
//! | - | leaked addresses are counted, not judged | [`leaked`] |

pub mod answered;
pub mod idempotent;
pub mod in_pool;
pub mod leaked;
pub mod live;
pub mod no_hoarding;
pub mod recorded;
pub mod released;
pub mod same_answer;
pub mod truth;
pub mod unasked;
pub mod unique;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use drydock_engine::time::SimInstant;
use drydock_models::cni::IpamCall;
use drydock_models::ids::{IpamCallId, NodeIndex, PodUid};
use drydock_models::observation::Observation;

pub use drydock_traces::run_record::Invariant;
pub use truth::Truth;

/// One breach. The first one of a run is the one that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which claim.
    pub invariant: Invariant,
    /// When the violating event happened.
    pub at: SimInstant,
    /// What it is about: an address, a Pod.
    pub subject: String,
    /// The breach in a user's words.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.at.as_nanos();
        write!(
            f,
            "{:?} at {}.{:09} s: {}",
            self.invariant,
            ns / 1_000_000_000,
            ns % 1_000_000_000,
            self.text
        )
    }
}

/// Holder of an ordinal as the allocator recorded it in the apiserver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Pod.
    pub pod: PodUid,
    /// Machine whose incarnation holds it; `None` if the record names an unknown one.
    pub node: Option<NodeIndex>,
}

/// What the ledger hears, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact<'a> {
    /// A fact of the world.
    World(&'a Observation),
    /// A committed write changed the holder of an ordinal.
    Record {
        /// The ordinal's addresses.
        addresses: Vec<IpAddr>,
        /// Holder before the write.
        before: Option<Holder>,
        /// Holder after it.
        after: Option<Holder>,
    },
    /// From now on the holder of an ordinal is recorded as answered.
    Bound {
        /// The ordinal's addresses.
        addresses: Vec<IpAddr>,
    },
    /// A plugin of the allocator was executed.
    Executed(&'a IpamCall),
    /// It ended, or was killed.
    Exited(IpamCallId),
    /// The agent of a machine cannot act: it is down, or cut off, or faults are on.
    Hindered(NodeIndex),
    /// It can act again.
    Unhindered(NodeIndex),
    /// A machine is off for good, and the operator has said so: the controller acts for its agent.
    Buried(NodeIndex),
    /// A machine joined under the node name of another one.
    Replaced {
        /// The machine that had the name.
        old: NodeIndex,
        /// The machine that has it now.
        new: NodeIndex,
    },
    /// All faults are over: liveness bounds count from here.
    Healed,
    /// A Pod was created that never asks this allocator.
    NeverAsks {
        /// The Pod.
        pod: PodUid,
        /// Another CNI sets up its network, and its status says so once it runs; otherwise it gets
        /// no sandbox.
        by_another: bool,
    },
}

/// Published bounds of the promises that take time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// R: from the end of the namespace to the free record, with the agent able to act.
    pub release: Duration,
    /// R for what a machine's earlier boot held: it is freed through a burial.
    pub release_former_boot: Duration,
    /// H: how long after its Pod is gone an unbound holder may still stand.
    pub unbound: Duration,
    /// H: how long an ordinal may be reserved for a Pod whose ADD does not come.
    pub unasked: Duration,
    /// L: from the end of all faults to the last Pod Running.
    pub converge: Duration,
}

/// Addresses that may be handed out.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Allowed {
    /// Usable addresses, sorted.
    pub usable: std::collections::BTreeSet<IpAddr>,
    /// First octets of pools that admit no Pod of the run: a Pod with such an address got past a
    /// rule.
    pub fenced: Option<[u8; 2]>,
}

/// Which claims an allocator is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// All: it promises them.
    All,
    /// Only what the world's truth alone can show and what does harm under any allocator: U, B and
    /// A.
    Truth,
}

/// The ledger.
#[derive(Debug)]
pub struct Ledger {
    truth: Truth,
    allowed: Allowed,
    bounds: Bounds,
    judged: Judged,
    last_answers: answered::LastAnswers,
    answers: same_answer::Answers,
    pending: released::Pending,
    never_ask: unasked::NeverAsk,
    violations: Vec<Violation>,
    /// Time of the last fact.
    heard_until: SimInstant,
}

impl Ledger {
    /// An empty book over the addresses that the pools allow.
    pub fn new(allowed: Allowed, bounds: Bounds, judged: Judged) -> Ledger {
        Ledger {
            truth: Truth::default(),
            allowed,
            bounds,
            judged,
            last_answers: answered::LastAnswers::default(),
            answers: same_answer::Answers::default(),
            pending: released::Pending::default(),
            never_ask: unasked::NeverAsk::default(),
            violations: Vec::new(),
            heard_until: SimInstant::ZERO,
        }
    }

    /// Enters a fact and checks every claim that it can break. Returns whether the ledger is still
    /// clean.
    pub fn enter(&mut self, at: SimInstant, fact: &Fact<'_>) -> bool {
        assert!(at >= self.heard_until, "facts come in the order of time");
        self.heard_until = at;
        self.truth.enter(at, fact);
        let truth = &self.truth;
        let mut found = unique::check(truth, fact)
            .or_else(|| in_pool::check(&self.allowed, fact))
            .or_else(|| self.last_answers.check(fact));
        if self.judged == Judged::All {
            found = found.or_else(|| self.promises(at, fact));
        }
        if let Some((invariant, subject, text)) = found {
            self.violations.push(Violation {
                invariant,
                at,
                subject,
                text,
            });
        }
        self.violations.is_empty()
    }

    /// Checks the claims that are promises of the allocator.
    fn promises(&mut self, at: SimInstant, fact: &Fact<'_>) -> Option<Breach> {
        let truth = &self.truth;
        recorded::check(truth, fact)
            .or_else(|| idempotent::check(fact))
            .or_else(|| self.answers.check(fact))
            .or_else(|| no_hoarding::check(truth, at, self.bounds.unbound, fact))
            .or_else(|| self.pending.check(truth, at, &self.bounds, fact))
            .or_else(|| self.never_ask.check(truth, at, &self.bounds, fact))
    }

    /// Checks what must hold when a run ends by itself: nothing leaked, nobody waits for a free
    /// address.
    pub fn close(&mut self, at: SimInstant, waiting: &[PodUid], free: usize) {
        if self.judged == Judged::Truth {
            return;
        }
        if let Some(leak) = self.pending.overdue(&self.truth, at, &self.bounds) {
            self.push(at, leak);
        }
        if let Some(stuck) = live::check(&self.truth, at, self.bounds.converge, waiting, free) {
            self.push(at, stuck);
        }
    }

    fn push(&mut self, at: SimInstant, (invariant, subject, text): Breach) {
        self.violations.push(Violation {
            invariant,
            at,
            subject,
            text,
        });
    }

    /// Whether no address is on its way to be free.
    pub fn nothing_owed(&self) -> bool {
        self.pending.is_empty(&self.truth)
    }

    /// Addresses that neither a live interface nor a record has.
    pub fn free_addresses(&self) -> usize {
        let taken = |address: &&IpAddr| {
            self.truth.by_address.contains_key(*address)
                || self.truth.records.contains_key(*address)
        };
        self.allowed
            .usable
            .iter()
            .filter(|address| !taken(address))
            .count()
    }

    /// What was found; empty = clean.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// The book itself.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// Longest time from the end of a namespace to the free record, with the agent able to act.
    pub fn longest_release(&self) -> Duration {
        self.pending.longest()
    }
}

/// A breach without its time: claim, subject, text.
pub type Breach = (Invariant, String, String);
