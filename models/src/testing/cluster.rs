//! A whole cluster as tests drive it: started, with its queue and its log, and all that was
//! observed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::drive::World;
use drydock_engine::log::EventLog;
use drydock_engine::queue::Queue;
use drydock_engine::stream::Streams;
use drydock_engine::time::SimInstant;

use crate::cluster::{Action, Cluster, ClusterSpec, Injected, is_api_event};
use crate::context::Context;
use crate::event::Event;
use crate::ids::PodUid;
use crate::ipam::Ipam;
use crate::observation::Observation;

/// A cluster in a test.
pub(crate) struct TestCluster {
    /// The cluster.
    pub cluster: Cluster,
    /// Its queue.
    pub queue: Queue<Event>,
    /// Its log.
    pub log: EventLog,
    /// Observations with their times.
    pub observed: Rc<RefCell<Vec<(SimInstant, Observation)>>>,
    /// Events of the API path handled so far.
    pub api_events: u64,
}

impl TestCluster {
    /// Starts a cluster.
    pub(crate) fn new(spec: ClusterSpec, ipam: impl Ipam + 'static) -> TestCluster {
        let streams = Streams::new(spec.seed);
        Self::with_streams(spec, ipam, streams)
    }

    /// Starts a cluster with streams of the test's.
    pub(crate) fn with_streams(
        spec: ClusterSpec,
        ipam: impl Ipam + 'static,
        streams: Streams,
    ) -> TestCluster {
        let (mut cluster, mut queue) = Cluster::with_streams(spec, Box::new(ipam), streams);
        let observed = Rc::new(RefCell::new(Vec::new()));
        let sink = observed.clone();
        cluster.observe(Box::new(move |at, observation| {
            sink.borrow_mut().push((at, observation.clone()));
        }));
        let mut log = EventLog::new();
        cluster.start(&mut queue, &mut log);
        TestCluster {
            cluster,
            queue,
            log,
            observed,
            api_events: 0,
        }
    }

    /// Takes one event; false when none is due by then.
    pub(crate) fn step(&mut self, until: SimInstant) -> bool {
        if self.queue.peek_at().is_none_or(|at| at > until) {
            return false;
        }
        let (at, event) = self.queue.pop().expect("it was just seen");
        self.api_events += u64::from(is_api_event(&event));
        self.log.append(at, &event);
        self.cluster
            .handle(at, event, &mut self.queue, &mut self.log);
        true
    }

    /// Takes every event up to an instant since the start.
    pub(crate) fn run_to(&mut self, seconds: u64) {
        let until = SimInstant::ZERO + Duration::from_secs(seconds);
        while self.step(until) {}
    }

    /// Takes every event of this many seconds from the last one on.
    pub(crate) fn run_for(&mut self, seconds: u64) {
        self.run_to(self.queue.now().whole_seconds() + seconds);
    }

    /// Takes events until the run has ended, up to an instant since the start.
    pub(crate) fn run_to_end(&mut self, seconds: u64) {
        let until = SimInstant::ZERO + Duration::from_secs(seconds);
        while !self.cluster.finished() && self.step(until) {}
    }

    /// Runs this long, whether the run has ended or not.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.queue.now() + time;
        // An event of no consequence moves the time to its end.
        self.queue.at(until, Event::Driver { token: u64::MAX });
        while self.step(until) {}
    }

    /// Does something to the cluster.
    pub(crate) fn inject(&mut self, action: &Action) -> Injected {
        self.cluster.inject(action, &mut self.queue, &mut self.log)
    }

    /// Does something to the IPAM, or in its name.
    pub(crate) fn with_ipam<R>(
        &mut self,
        act: impl FnOnce(&mut dyn Ipam, &mut Context<'_>) -> R,
    ) -> R {
        self.cluster.with_ipam(&mut self.queue, &mut self.log, act)
    }

    /// Pods there are.
    pub(crate) fn pods(&self) -> Vec<PodUid> {
        self.cluster.api().pods().map(|pod| pod.uid).collect()
    }

    /// Totals of the IPAM.
    pub(crate) fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.cluster.ipam_counters().into_iter().collect()
    }

    /// Times of the observations that a condition picks.
    pub(crate) fn times(&self, wanted: impl Fn(&Observation) -> bool) -> Vec<SimInstant> {
        let observed = self.observed.borrow();
        let chosen = observed.iter().filter(|(_, o)| wanted(o));
        chosen.map(|(at, _)| *at).collect()
    }
}
