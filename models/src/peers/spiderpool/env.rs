//! What every script of Spiderpool shares: constants, the pools as the administrator made them, the
//! draws of each Pod, and the totals. Nothing in here is known to one process alone; that dies with
//! the process ([`super::process`]).

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drydock_engine::stream::{Stream, Streams};

use crate::ids::PodUid;
use crate::parameters::{ClientParameters, NodeParameters, ParameterError, Span, Table};

use super::parameters::SpiderpoolParameters;
use super::pools::{Catalog, PoolId};
use super::retry::wait_after;
use super::totals::Totals;

/// The Pod that a request is for, and the entity of its draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) pod: PodUid,
    pub(super) entity: u64,
}

impl Subject {
    /// A Pod of which only its UID is known.
    pub(super) fn of(pod: PodUid) -> Self {
        let entity = u64::from(pod.0);
        Self { pod, entity }
    }
}

/// A Pod in a family: IPv6 or not.
type PodInFamily = (PodUid, bool);

/// What is shared.
pub(super) struct Env {
    pub(super) parameters: SpiderpoolParameters,
    /// CPU of an execution, as the node has it.
    pub(super) exec_cpu: Duration,
    /// First wait of an informer before it watches again.
    pub(super) reflector_backoff: Span,
    pub(super) catalog: Catalog,
    /// Of the run; there from the start of the world on.
    streams: OnceCell<Streams>,
    /// Which address a Pod gets, and how long it waits after a conflict.
    choices: RefCell<BTreeMap<PodInFamily, Stream>>,
    backoffs: RefCell<BTreeMap<PodInFamily, Stream>>,
    /// Pools whose first status was written.
    counted: RefCell<BTreeSet<PoolId>>,
    totals: Cell<Totals>,
}

impl Env {
    /// Nothing has happened yet.
    /// Errors: a constant that is missing or unreadable.
    pub(super) fn new(
        parameters: SpiderpoolParameters,
        catalog: Catalog,
        table: &Table,
    ) -> Result<Self, ParameterError> {
        Ok(Self {
            parameters,
            exec_cpu: NodeParameters::read(table)?.exec_cpu,
            reflector_backoff: ClientParameters::read(table)?.reflector_backoff,
            catalog,
            streams: OnceCell::new(),
            choices: RefCell::default(),
            backoffs: RefCell::default(),
            counted: RefCell::default(),
            totals: Cell::default(),
        })
    }

    /// The world starts: draws come from its streams.
    pub(super) fn start(&self, streams: &Streams) {
        let first = self.streams.set(streams.clone()).is_ok();
        assert!(first, "a world starts once");
    }

    fn streams(&self) -> &Streams {
        self.streams.get().expect("scripts run in a world")
    }

    pub(super) fn count(&self, add: impl FnOnce(&mut Totals)) {
        let mut totals = self.totals.get();
        add(&mut totals);
        self.totals.set(totals);
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals.get()
    }

    /// Which of this many free addresses the Pod gets, counted from zero.
    pub(super) fn choice(&self, subject: Subject, ipv6: bool, free: u64) -> u32 {
        assert!(free > 0, "who draws has something to draw from");
        let mut choices = self.choices.borrow_mut();
        let draws = choices.entry((subject.pod, ipv6)).or_insert_with(|| {
            let purpose = if ipv6 { "choice v6" } else { "choice v4" };
            self.streams().stream("spiderpool", subject.entity, purpose)
        });
        let drawn = draws.below(free);
        debug_assert!(drawn < free, "a draw is one of the free addresses");
        drawn as u32
    }

    /// How long a Pod's request waits after the conflict of its n-th attempt.
    pub(super) fn backoff(&self, subject: Subject, ipv6: bool, attempt: u64) -> Duration {
        let mut backoffs = self.backoffs.borrow_mut();
        let draws = backoffs.entry((subject.pod, ipv6)).or_insert_with(|| {
            let purpose = if ipv6 { "backoff v6" } else { "backoff v4" };
            self.streams().stream("spiderpool", subject.entity, purpose)
        });
        wait_after(attempt, &self.parameters, draws)
    }

    /// How long an informer waits: the first draw of a stream of its own, each time.
    pub(super) fn reflector_wait(&self, entity: u64) -> Duration {
        let span = self.reflector_backoff;
        let mut draws = self.streams().stream("spiderpool", entity, "reflector");
        draws.duration(span.min..=span.max)
    }

    /// A Pod is gone, and draws no more.
    pub(super) fn forget(&self, pod: PodUid) {
        for ipv6 in [false, true] {
            self.choices.borrow_mut().remove(&(pod, ipv6));
            self.backoffs.borrow_mut().remove(&(pod, ipv6));
        }
    }

    /// The first status of a pool stands.
    pub(super) fn counted(&self, pool: PoolId) {
        self.counted.borrow_mut().insert(pool);
    }

    pub(super) fn all_counted(&self) -> bool {
        let counted = self.counted.borrow();
        self.catalog.ids().all(|pool| counted.contains(&pool))
    }
}
