//! Everybody who listens to a world: what is measured, what is judged, how far it is, and what the
//! world itself has to look at after each event. They change nothing.

use std::sync::Arc;

use drydock_engine::{Progress, SimInstant};
use drydock_models::cni::Verb;
use drydock_models::ids::{NodeIndex, PodUid};
use drydock_models::observation::Observation;
use drydock_models::request::ClientClass;

use crate::adapters::adapter::Reader;
use crate::oracle::{Fact, Ledger};
use crate::recorder::Recorder;

/// Gauge of Pods that run.
pub const GAUGE_RUNNING: usize = 0;
/// Gauge of Pods wanted.
pub const GAUGE_WANTED: usize = 1;

/// What a user creates, as resources of the API.
const WORKLOAD: [&str; 5] = ["deployments", "replicasets", "statefulsets", "jobs", "pods"];

/// Everybody who listens to the world.
pub struct Listeners {
    /// What is measured.
    pub recorder: Recorder,
    /// What is judged.
    pub ledger: Ledger,
    /// Who reads the allocator's records.
    reader: Option<Box<dyn Reader>>,
    progress: Arc<Progress>,
    /// Pods whose names are to be remembered: when they are gone, nobody else knows them.
    pub created: Vec<PodUid>,
    /// ADDs that began since the world last looked.
    pub adds_begun: Vec<(NodeIndex, PodUid)>,
    /// Plugins of the allocator that ended since the world last looked.
    pub plugins_ended: Vec<(NodeIndex, Verb)>,
    /// When the user last began something, until the first object of the workload was stored.
    pub user_acts: SimInstant,
    /// When the user began to create the workload.
    pub workload_started: Option<SimInstant>,
    /// Events in the log so far.
    pub log_ordinal: u64,
    /// The event of the first breach.
    pub first_violation_event: Option<u64>,
}

impl Listeners {
    /// Nothing heard yet.
    pub fn new(
        ledger: Ledger,
        reader: Option<Box<dyn Reader>>,
        progress: Arc<Progress>,
    ) -> Listeners {
        Listeners {
            recorder: Recorder::default(),
            ledger,
            reader,
            progress,
            created: Vec::new(),
            adds_begun: Vec::new(),
            plugins_ended: Vec::new(),
            user_acts: SimInstant::ZERO,
            workload_started: None,
            log_ordinal: 0,
            first_violation_event: None,
        }
    }

    /// Hears a fact of the world.
    pub fn hear(&mut self, at: SimInstant, observation: &Observation) {
        self.recorder.observe(at, observation);
        self.enter(at, &Fact::World(observation));
        if let Some(reader) = &mut self.reader {
            for fact in reader.facts(observation) {
                self.enter(at, &fact);
            }
        }
        match observation {
            Observation::PodCreated { pod } => self.created.push(*pod),
            Observation::AddStarted { node, pod, .. } => self.adds_begun.push((*node, *pod)),
            Observation::IpamAddEnded { node, .. } => self.plugins_ended.push((*node, Verb::Add)),
            Observation::IpamDelEnded { node, .. } => self.plugins_ended.push((*node, Verb::Del)),
            Observation::ApiCall {
                class: ClientClass::User,
                what,
                ..
            } if self.workload_started.is_none() && WORKLOAD.contains(&what.resource) => {
                self.workload_started = Some(self.user_acts);
            }
            Observation::PodRunning { .. } => {
                let running = self.recorder.running_curve_ns.len() as u64;
                self.progress.set_gauge(GAUGE_RUNNING, running);
            }
            _ => {}
        }
    }

    /// Enters a fact into the ledger.
    pub fn enter(&mut self, at: SimInstant, fact: &Fact<'_>) {
        if !self.ledger.enter(at, fact) {
            self.first_violation_event.get_or_insert(self.log_ordinal);
        }
    }
}
