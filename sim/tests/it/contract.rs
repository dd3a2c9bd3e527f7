//! The contract of Berth's `ApiServer` port, kept by the simulated apiserver behind the adapter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use berth::core::objects::{ObjectKey, Pod};
use berth::testing::contract::{self, Bench};
use drydock::adapters::berth::ports::{Act, SimPorts};
use drydock::adapters::berth::{BerthIpam, Guest, setup};
use drydock_engine::drive::{Limits, StopReason, World, drive};
use drydock_engine::{EventLog, Progress, Queue, SimInstant, TieBreak};
use drydock_models::cluster::{Cluster, ClusterSpec};
use drydock_models::event::Event;

use crate::program::scenario;

struct Simulated {
    ports: SimPorts,
}

impl Simulated {
    async fn act(&self, act: Act) {
        self.ports.act(act).await.unwrap();
    }
}

impl Bench for Simulated {
    type Api = SimPorts;
    const VALIDATES: bool = false;
    const TELLS_ADDED: bool = false;
    const SENDS_BOOKMARKS: bool = true;

    fn api(&self) -> &SimPorts {
        &self.ports
    }

    fn begin(&mut self, claim: &'static str) {
        println!("- {claim}");
    }

    async fn create_pod(&mut self, pod: Pod) {
        self.act(Act::CreatePod(Box::new(pod))).await;
    }

    async fn bind_pod(&mut self, pod: &ObjectKey, node: &str) {
        self.act(Act::BindPod(pod.clone(), node.to_owned())).await;
    }

    async fn delete_pod(&mut self, pod: &ObjectKey) {
        self.act(Act::DeletePod(pod.clone())).await;
    }

    async fn remove_pod(&mut self, pod: &ObjectKey) {
        self.act(Act::RemovePod(pod.clone())).await;
    }

    async fn compact(&mut self) {
        self.act(Act::Compact).await;
    }
}

/// A control plane that runs until the suite is through.
struct ControlPlane {
    cluster: Cluster,
    done: Arc<AtomicBool>,
}

impl World for ControlPlane {
    type Event = Event;

    fn handle(
        &mut self,
        at: SimInstant,
        event: Event,
        queue: &mut Queue<Event>,
        log: &mut EventLog,
    ) {
        self.cluster.handle(at, event, queue, log);
    }

    fn after_tasks(&mut self, queue: &mut Queue<Event>, log: &mut EventLog) {
        self.cluster.after_tasks(queue, log);
    }

    fn finished(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }
}

#[test]
fn the_simulated_apiserver_keeps_the_contract() {
    let scenario = scenario(&["--allocator", "berth", "--seed", "1"]);
    let reason = drydock_engine::run(1, async move |runtime| {
        let tasks = runtime.tasks(TieBreak::Fifo);
        let done = Arc::new(AtomicBool::new(false));
        let finished = done.clone();
        let guest: Guest = Box::new(move |ports| {
            Box::pin(async move {
                contract::all(&mut Simulated { ports }).await;
                finished.store(true, Ordering::Relaxed);
            })
        });
        let ipam = BerthIpam::with_guest(setup(&scenario).unwrap(), tasks.clone(), guest);
        let spec = ClusterSpec {
            node_names: ClusterSpec::node_names(3, 1),
            masters: 1,
            parameters: scenario.parameters.world.clone(),
            workload: scenario.workload.clone(),
            seed: 1,
            tie_break: TieBreak::Fifo,
            kubelets: false,
            ends_by_itself: false,
        };
        let (mut cluster, mut queue) = Cluster::new(spec, Box::new(ipam));
        let mut log = EventLog::new();
        cluster.start(&mut queue, &mut log);
        let limits = Limits {
            until: SimInstant::ZERO + std::time::Duration::from_hours(1),
            events: 1_000_000,
            polls: 100_000,
            interrupt: Arc::default(),
            progress: Arc::new(Progress::default()),
        };
        let mut world = ControlPlane { cluster, done };
        drive(&mut world, &mut queue, &mut log, &tasks, &limits).await
    });
    assert_eq!(reason, StopReason::Finished);
}
